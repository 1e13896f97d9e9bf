/**
 * Instructions (spec 1.3.5, 7.2.4):   type u16 | length u16 (counts all) | body
 */
import { actions } from './action.js';
import { OpenFlowEncodeError } from './errors.js';
import {
  type Codec,
  list,
  type OneOf,
  pad,
  struct,
  u8,
  u32,
  u64,
  type Variants,
  variantTable,
} from './wire/index.js';

const VARIANTS = {
  goto_table: [1, struct({ table: u8, _: pad(3) })],
  write_metadata: [2, struct({ _: pad(4), metadata: u64, mask: u64 })],
  write_actions: [3, struct({ _: pad(4), actions })],
  apply_actions: [4, struct({ _: pad(4), actions })],
  clear_actions: [5, struct({ _: pad(4) })],
  meter: [6, struct({ meter: u32 })],
} as const satisfies Variants;

const table = variantTable(VARIANTS);

export interface UnknownInstruction {
  readonly type: 'unknown';
  readonly instructionType: number;
  readonly body: Uint8Array;
}

export type Instruction = OneOf<typeof VARIANTS> | UnknownInstruction;

const instruction: Codec<Instruction> = {
  read: (r) => {
    const type = r.u16();
    const length = r.u16();
    if (length < 4) r.fail('OFPBIC_BAD_LEN', `an instruction of ${length} bytes`);
    return r.within(
      length - 4,
      () => {
        const layout = table.byId(type);
        if (!layout) return { type: 'unknown', instructionType: type, body: r.take(r.left) };
        const value: Record<string, unknown> = { type: layout.name };
        layout.body.readInto(r, value);
        return value as unknown as Instruction;
      },
      'OFPBIC_BAD_LEN',
    );
  },
  write: (w, value) => {
    const start = w.length;
    const layout = value.type === 'unknown' ? undefined : table.byName(value.type);
    if (value.type === 'unknown') w.u16(value.instructionType);
    else if (layout) w.u16(layout.id);
    else throw new OpenFlowEncodeError('bad-value', `no instruction is called ${String(value.type)}`);
    const at = w.lengthLater();
    if (value.type === 'unknown') w.put(value.body);
    else layout?.body.write(w, value);
    w.setLength(at, w.length - start);
  },
};

export const instructions: Codec<readonly Instruction[]> = list(instruction);
