/**
 * An instance and the domain that runs it; and what the errors of its calls say of it.
 */
import { type Domain, DomainError, type InstanceId } from '../../shared/domain/domain.js';

export interface Placed {
  readonly domain: Domain;
  readonly id: InstanceId;
}

/** Says that a call of a domain failed. */
export type Complain = (placed: Placed, error: unknown) => void;

/** The domain does not have the instance, or has fenced it off for good by a newer one. */
export function isGone(error: unknown): boolean {
  return error instanceof DomainError && (error.code === 'no-instance' || error.code === 'stale-epoch');
}

/** A switch could not confirm where it leads to. */
export function isUnconfirmed(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'not-connected';
}

/** Nobody was reached who could say. */
export function isAway(error: unknown): boolean {
  return error instanceof DomainError && (error.code === 'unreachable' || error.code === 'not-ready');
}
