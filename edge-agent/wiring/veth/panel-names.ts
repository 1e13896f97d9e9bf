/**
 * What the sides of jacks and cords in the panel are called. Pure.
 */
import { END_PORT_PREFIX } from '../../../shared/domain/ends.js';

/** A jack's side in the panel. */
export const innerSide = (outer: string): string => `${outer}i`;

/** The panel's side of the cord that is plugged into this jack. */
export const cordOf = (outer: string): string => `${outer}c`;

/** Matches the names of cords in a panel, and no others. */
export const CORD_PATTERN = `${END_PORT_PREFIX}[0-9a-f]{4}[tn]\\d+c`;
