/**
 * A handover that waits before one of its steps, so that a fault can come exactly there.
 */
import { z } from 'zod';
import { parseApiAddress } from '../../../shared/api/address.js';
import { open, readBody } from '../../../shared/api/transport.js';
import { waitFor } from '../../lab/index.js';
import type { Paguro } from '../paguro.js';
import type { Place } from '../places.js';
import type { Step } from './cells.js';

const TERMINAL = 'alice';
const PAUSE_MS = 30_000;
const ANSWER_MS = 10_000;

const pausedSchema = z.looseObject({ kind: z.literal('paused'), handover: z.string(), step: z.string() });
const startedSchema = z.object({ id: z.string() });

/** Settles when the handover stands before the step. */
export async function orderPaused(paguro: Paguro, to: Place, step: Step): Promise<void> {
  const { id } = startedSchema.parse(await post(paguro, 'handover', { to, wait: false, pauseBefore: step }));
  await waitFor(
    `the handover waits before ${step}`,
    () =>
      paguro.events.some((event) => {
        const paused = pausedSchema.safeParse(event).data;
        return paused?.handover === id && paused.step === step;
      }),
    { timeoutMs: PAUSE_MS },
  );
}

export async function goOn(paguro: Paguro): Promise<void> {
  await post(paguro, 'continue', {});
}

async function post(paguro: Paguro, what: string, body: unknown): Promise<unknown> {
  const address = parseApiAddress(paguro.api.address);
  const path = `/v1/terminals/${TERMINAL}/${what}`;
  const response = await open(address, { method: 'POST', path, body, timeoutMs: ANSWER_MS });
  const text = await readBody(address, response);
  if ((response.statusCode ?? 500) >= 300) throw new Error(`${what} of ${TERMINAL}: ${text}`);
  return text === '' ? undefined : JSON.parse(text);
}
