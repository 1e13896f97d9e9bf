/**
 * A thread that looks at the clock without a pause, and tells the longest time between two looks of each window. See machine-noise.ts.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { z } from 'zod';

const { windows, windowMs } = z.object({ windows: z.number(), windowMs: z.number() }).parse(workerData);
const gaps = new Array<number>(windows).fill(0);
const begun = performance.now();
let last = begun;
for (let window = 0; window < windows; window++) {
  const end = begun + (window + 1) * windowMs;
  let worst = 0;
  while (last < end) {
    const now = performance.now();
    if (now - last > worst) worst = now - last;
    last = now;
  }
  gaps[window] = worst;
}
parentPort?.postMessage(gaps);
