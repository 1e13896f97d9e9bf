/**
 * What a machine does by itself: for how long a program that asks for nothing but a processor does not have it. A measurement on that machine holds some of it: as much as
 * meets a packet, and is not kept off by priorities.
 */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { z } from 'zod';

const gapsSchema = z.array(z.number());

/**
 * One thread a processor looks at the clock, without a pause: of each window the longest time between two looks, in ms, on whichever processor. Nothing else should
 * run.
 */
export async function machineNoise(windows: number, windowMs: number): Promise<readonly number[]> {
  const threads = await Promise.all(
    Array.from({ length: availableParallelism() }, () => spin({ windows, windowMs })),
  );
  return Array.from({ length: windows }, (_, window) =>
    Math.max(...threads.map((gaps) => gaps[window] ?? 0)),
  );
}

function spin(workerData: { readonly windows: number; readonly windowMs: number }): Promise<number[]> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./spin.js', import.meta.url), { workerData });
    worker.once('message', (said: unknown) => resolve(gapsSchema.parse(said)));
    worker.once('error', reject);
  });
}
