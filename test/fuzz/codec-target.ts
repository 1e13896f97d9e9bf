/**
 * One side of the channel as a target: whatever comes is refused with a ChannelError, or is a message that can be said again.
 */
import assert from 'node:assert/strict';
import { Packr } from 'msgpackr';
import type { Codec } from '../../shared/channel/codec.js';
import { ChannelError } from '../../shared/channel/errors.js';
import { mutatedValue } from './mutate-value.js';
import { type FuzzTarget, refusedOr } from './target.js';

const packr = new Packr({ useRecords: false, variableMapSize: true });

export interface Sides<Out, In extends { readonly type: string }> {
  /** Who reads. */
  readonly here: Codec<Out, In>;
  /** Who says what is read. */
  readonly there: Codec<In, Out>;
  readonly messages: (seed: number) => readonly In[];
}

export function codecTarget<Out, In extends { readonly type: string }>({
  here,
  there,
  messages,
}: Sides<Out, In>): FuzzTarget {
  return {
    seeds: (seed) => messages(seed).map((message) => there.encode(message)),
    words: ['type', 'id', 'instance', 'terminal', 'epoch', 'policy', 'rules', '__proto__', 'constructor'],
    change: (input, random) => {
      try {
        return packr.pack(mutatedValue(packr.unpack(input), random));
      } catch {
        return undefined;
      }
    },
    run: (input) =>
      refusedOr(() => {
        const message = here.decode(input);
        assert.deepEqual(
          inOrder(here.decode(there.encode(message))),
          inOrder(message),
          'said again it is another message',
        );
        return `a ${message.type}`;
      }, ChannelError),
  };
}

/** The connections of a state are a set: their order is the codec's. */
function inOrder(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(inOrder);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]: [string, unknown]) => [
      key,
      key === 'connections' && Array.isArray(inner)
        ? inner.map((one) => JSON.stringify(one)).sort()
        : inOrder(inner),
    ]),
  );
}
