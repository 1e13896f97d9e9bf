/**
 * The harness, for scenarios of one's own: importing it puts the program into a lab (README.md shows one).
 */
import '../lab/enter.js';

export { waitFor } from '../lab/index.js';
export { fatesFromNow } from './fates-from-now.js';
export * from './hosts/index.js';
export { Paguro, type PaguroOptions } from './paguro.js';
export { count, type ForbiddenCount, WireRig } from './rig.js';
