/**
 * One input given to one target: what became of it, or how it failed.
 */
import { type FuzzTarget, kindOf } from './target.js';

export type Attempt =
  | { readonly kind: 'outcome'; readonly outcome: string }
  | {
      readonly kind: 'failure';
      /** The same for failures of one cause, as far as one can tell. */
      readonly signature: string;
      /** The error with its stack. */
      readonly text: string;
    };

const MAX_TEXT = 8_000;

export function attempt(target: FuzzTarget, input: Uint8Array): Attempt {
  try {
    return { kind: 'outcome', outcome: target.run(input) };
  } catch (error) {
    const text = (error instanceof Error ? (error.stack ?? String(error)) : `thrown: ${String(error)}`).slice(
      0,
      MAX_TEXT,
    );
    return { kind: 'failure', signature: signatureOf(error, text), text };
  }
}

/** The error, and the first place of ours in its stack. */
function signatureOf(error: unknown, stack: string): string {
  const what = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  const frames = stack.split('\n').filter((line) => /^\s+at /.test(line));
  const ours =
    frames.find((line) => line.includes('/dist/') && !line.includes('node_modules')) ?? frames[0] ?? '';
  const place = /([^/\\(]+:\d+):\d+\)?$/.exec(ours)?.[1] ?? '';
  return `${kindOf(what.split('\n')[0] ?? '')} ${place}`.trim();
}

const MOST_ATTEMPTS = 2_000;
const MOST_MS = 3_000;

/** A smaller input that fails in the same way: parts are left out as long as it does. */
export function minimized(
  target: FuzzTarget,
  input: Uint8Array,
  signature: string,
  before: (input: Uint8Array) => void,
): Uint8Array {
  const deadline = performance.now() + MOST_MS;
  let best = input;
  let attempts = 0;
  for (let size = Math.ceil(best.length / 2); size >= 1; size = Math.floor(size / 2)) {
    for (let at = 0; at < best.length; ) {
      if (++attempts > MOST_ATTEMPTS || performance.now() > deadline) return best;
      const smaller = Buffer.concat([best.subarray(0, at), best.subarray(at + size)]);
      before(smaller);
      const result = attempt(target, smaller);
      if (result.kind === 'failure' && result.signature === signature) best = Uint8Array.from(smaller);
      else at += size;
    }
  }
  return best;
}
