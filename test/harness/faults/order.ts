/**
 * A handover that waits before one of its steps, so that a fault can come exactly there.
 */
import type { HandoverStep } from '../../../shared/api/schema.js';
import { waitFor } from '../../lab/index.js';
import type { Paguro } from '../paguro.js';
import type { Place } from '../places.js';

const PAUSE_MS = 30_000;

/** Begins a handover, and settles when it stands before the step. */
export async function orderPaused(
  paguro: Paguro,
  terminal: string,
  to: Place,
  pauseBefore: HandoverStep,
): Promise<void> {
  const { id } = await paguro.api.startHandover(terminal, { to, pauseBefore });
  await waitFor(
    `the handover waits before ${pauseBefore}`,
    () => paguro.events.some((event) => event.kind === 'paused' && event.handover === id),
    { timeoutMs: PAUSE_MS },
  );
}
