/**
 * Instructions (spec 1.3.5, 7.2.4):   type u16 | length u16 (a multiple of 8, counts all) | body
 */
import { OpenFlowEncodeError } from '../errors.js';
import {
  type Codec,
  inField,
  type OneOf,
  pad,
  type Reader,
  rest,
  struct,
  u8,
  u32,
  u64,
  type Variants,
  variantTable,
} from '../wire/index.js';
import { actions } from './action.js';

const VARIANTS = {
  goto_table: [1, struct({ table: u8, _: pad(3) })],
  write_metadata: [2, struct({ _: pad(4), metadata: u64, mask: u64 })],
  write_actions: [3, struct({ _: pad(4), actions })],
  apply_actions: [4, struct({ _: pad(4), actions })],
  clear_actions: [5, struct({ _: pad(4) })],
  meter: [6, struct({ meter: u32 })],
  /** `data` is a multiple of 8 bytes. */
  experimenter: [0xffff, struct({ experimenter: u32, data: rest })],
} as const satisfies Variants;

const table = variantTable(VARIANTS);

/** An instruction that this codec has no name for: kept as it came. */
export interface UnknownInstruction {
  readonly type: 'unknown';
  readonly instructionType: number;
  /** Its length and 4 make a multiple of 8. */
  readonly body: Uint8Array;
}

export type Instruction = OneOf<typeof VARIANTS> | UnknownInstruction;

/** Names of all instructions. */
export const INSTRUCTION_TYPES: readonly string[] = [...Object.keys(VARIANTS), 'unknown'];

const instruction: Codec<Instruction> = {
  read: (r) => {
    const start = r.pos;
    const type = r.u16();
    const length = r.u16();
    if (length < 8 || length % 8 !== 0) r.fail('OFPBIC_BAD_LEN', `an instruction of ${length} bytes`, start);
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
    const layout = table.byName(value.type);
    if (!layout && value.type !== 'unknown')
      throw new OpenFlowEncodeError('bad-value', `no instruction is called ${String(value.type)}`);
    w.u16(layout?.id ?? (value as UnknownInstruction).instructionType);
    const at = w.lengthLater();
    try {
      if (layout) layout.body.write(w, value);
      else w.put((value as UnknownInstruction).body);
      if ((w.length - start) % 8 !== 0)
        throw new OpenFlowEncodeError('bad-value', `${w.length - start} bytes, which is no multiple of 8`);
    } catch (cause) {
      throw inField(value.type, cause);
    }
    w.setLength(at, w.length - start);
  },
};

/** Of one type there is at most one (5.9): more is OFPBIC_DUP_INST. Experimenters' may come in numbers. */
export const instructions: Codec<readonly Instruction[]> = {
  read: (r) => r.within(r.left, readAll, 'OFPBIC_BAD_LEN'),
  write: (w, all) => {
    const seen = new Set<string>();
    for (const one of all) {
      if (isRepeated(seen, one)) throw new OpenFlowEncodeError('bad-value', `${one.type} twice`);
      instruction.write(w, one);
    }
  },
};

function readAll(r: Reader): Instruction[] {
  const all: Instruction[] = [];
  const seen = new Set<string>();
  while (r.left > 0) {
    const at = r.pos;
    const one = instruction.read(r);
    if (isRepeated(seen, one)) r.fail('OFPBIC_DUP_INST', `${one.type} twice`, at);
    all.push(one);
  }
  return all;
}

function isRepeated(seen: Set<string>, { type }: Instruction): boolean {
  if (type === 'unknown' || type === 'experimenter') return false;
  if (seen.has(type)) return true;
  seen.add(type);
  return false;
}
