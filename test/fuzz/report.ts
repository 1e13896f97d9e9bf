/**
 * What a child tells its parent.
 */
import { z } from 'zod';

const count = z.int().min(0);

export const reportSchema = z.discriminatedUnion('kind', [
  /** So far, in this child. */
  z.strictObject({ kind: z.literal('progress'), inputs: count, kinds: count }),
  /** `input` in base64. */
  z.strictObject({
    kind: z.literal('failure'),
    input: z.base64(),
    signature: z.string(),
    text: z.string(),
  }),
  /** Only of a replay: the outcome of its one input. */
  z.strictObject({ kind: z.literal('outcome'), outcome: z.string() }),
]);
export type Report = z.infer<typeof reportSchema>;
