/**
 * The machine's monotonic clock (CLOCK_MONOTONIC), in ms: the same in every process and namespace, so that times of the traffic, of
 * captures and of moves can be compared. `performance.now()` counts from each process's own start.
 */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
