/**
 * What a program holds, by time: resident memory and file descriptors; and whether it grows.
 */
import { readdir, readFile } from 'node:fs/promises';

export interface Sample {
  readonly residentBytes: number;
  readonly descriptors: number;
}

/** Reads /proc. Undefined for a process that is gone. */
export async function sampleOf(pid: number): Promise<Sample | undefined> {
  try {
    const [status, descriptors] = await Promise.all([
      readFile(`/proc/${pid}/status`, 'utf8'),
      readdir(`/proc/${pid}/fd`),
    ]);
    const kilobytes = /^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1];
    if (kilobytes === undefined) return undefined;
    return { residentBytes: Number(kilobytes) * 1_024, descriptors: descriptors.length };
  } catch {
    return undefined;
  }
}

/** Medians of the first and the last third. */
export interface Trend {
  readonly samples: number;
  readonly first: Sample;
  readonly last: Sample;
}

/** Undefined for fewer samples than it takes to speak of thirds. */
export function trendOf(samples: readonly Sample[]): Trend | undefined {
  if (samples.length < MIN_SAMPLES) return undefined;
  const third = Math.floor(samples.length / 3);
  return {
    samples: samples.length,
    first: medians(samples.slice(0, third)),
    last: medians(samples.slice(-third)),
  };
}

export const MIN_SAMPLES = 9;
/** A collector of garbage lets memory go up and down: what grows by more than this is held. */
const MORE_BYTES = 24 * 2 ** 20;
const MORE_RESIDENT = 0.2;
/** Connections to Docker and to clients of the API come and go. */
const MORE_DESCRIPTORS = 8;

/** What grew beyond the bounds; empty when nothing did. */
export function growth({ first, last }: Trend): readonly string[] {
  const mostBytes = first.residentBytes * (1 + MORE_RESIDENT) + MORE_BYTES;
  const mostDescriptors = first.descriptors + MORE_DESCRIPTORS;
  return [
    ...(last.residentBytes > mostBytes
      ? [`memory grew from ${mib(first.residentBytes)} to ${mib(last.residentBytes)} MiB`]
      : []),
    ...(last.descriptors > mostDescriptors
      ? [`file descriptors grew from ${first.descriptors} to ${last.descriptors}`]
      : []),
  ];
}

export function mib(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(1);
}

function medians(samples: readonly Sample[]): Sample {
  const median = (values: readonly number[]): number =>
    values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
  return {
    residentBytes: median(samples.map(({ residentBytes }) => residentBytes)),
    descriptors: median(samples.map(({ descriptors }) => descriptors)),
  };
}
