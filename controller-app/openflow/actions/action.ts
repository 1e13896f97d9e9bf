/**
 * Actions (spec 1.3.5, 7.2.5) and Nicira's and the ONF's extensions of them.
 *
 *   type u16 | length u16 (a multiple of 8, counts all) | body
 *   Nicira, ONF:   0xffff | length | experimenter u32 | subtype u16 | body
 */
import { NICIRA, ONF } from '../error-codes.js';
import { OpenFlowEncodeError } from '../errors.js';
import type { Match } from '../match/fields.js';
import {
  type Codec,
  inField,
  list,
  type OneOf,
  type Reader,
  type Struct,
  type Variants,
  variantTable,
} from '../wire/index.js';
import { type CtAction, ctLayout, NAT, NXAST_CT } from './ct.js';
import { ENCAP } from './encap.js';
import { HASHES } from './hashes.js';
import { LEARN } from './learn.js';
import { PLAIN } from './nicira.js';
import { layout, numberOf } from './parts.js';
import { REGISTERS } from './registers.js';
import { hasMask, SET_FIELD, STANDARD, wholeField } from './standard.js';

const OFPAT_EXPERIMENTER = 0xffff;
/** What follows the header of an experimenter's action that is known here. */
const EXPERIMENTERS: readonly number[] = [NICIRA, ONF];

/** NXAST_CLONE: actions on a copy of the packet, after which the packet goes on as it was. */
export interface CloneAction {
  readonly type: 'clone';
  readonly actions: readonly Action[];
}

const clone: Struct<Omit<CloneAction, 'type'>> = layout(
  (r) => {
    r.skip(6);
    return { actions: r.nested(r.left, actions.read) };
  },
  (w, value) => {
    w.zeros(6);
    w.nested(() => actions.write(w, value.actions));
  },
);

/** Names, numbers, layouts. */
const PLAIN_VARIANTS = {
  ...STANDARD,
  ...REGISTERS,
  ...PLAIN,
  ...HASHES,
  ...LEARN,
  ...ENCAP,
  ...NAT,
} as const satisfies Variants;

const VARIANTS: Variants = {
  ...PLAIN_VARIANTS,
  set_field: [SET_FIELD, wholeField],
  ct: [NXAST_CT, ctLayout(() => actions)],
  clone: [numberOf(NICIRA, 42), clone],
};
const table = variantTable(VARIANTS);

/** OFPAT_SET_FIELD. */
export interface SetFieldAction {
  readonly type: 'set_field';
  /** One field. In OpenFlow 1.3 it has no mask (7.2.5): with one, what is written is Nicira's reg_load2, which is the same action. */
  readonly field: Match;
}

/** An experimenter's action that this codec has no name for. */
export interface ExperimenterAction {
  readonly type: 'experimenter';
  readonly experimenter: number;
  /** A multiple of 8 bytes. */
  readonly data: Uint8Array;
}

/** An action that this codec has no name for: kept as it came. */
export interface UnknownAction {
  readonly type: 'unknown';
  readonly actionType: number;
  /** Its length and 4 make a multiple of 8. */
  readonly body: Uint8Array;
}

export type Action =
  | OneOf<typeof PLAIN_VARIANTS>
  | SetFieldAction
  | CtAction
  | CloneAction
  | ExperimenterAction
  | UnknownAction;

/** Names of all actions. */
export const ACTION_TYPES: readonly string[] = [...Object.keys(VARIANTS), 'experimenter', 'unknown'];

function readBody(r: Reader, type: number): Action {
  if (type !== OFPAT_EXPERIMENTER) {
    const layout = table.byId(type);
    return layout ? readAs(r, layout) : { type: 'unknown', actionType: type, body: r.take(r.left) };
  }
  const experimenter = r.u32();
  if (EXPERIMENTERS.includes(experimenter) && r.left >= 2) {
    const at = r.pos;
    const layout = table.byId(numberOf(experimenter, r.u16()));
    if (layout) return readAs(r, layout);
    r.pos = at;
  }
  return { type: 'experimenter', experimenter, data: r.take(r.left) };
}

function readAs(r: Reader, { name, body }: { readonly name: string; readonly body: Struct<object> }): Action {
  const value: Record<string, unknown> = { type: name };
  body.readInto(r, value);
  return value as unknown as Action;
}

const action: Codec<Action> = {
  read: (r) => {
    const start = r.pos;
    const type = r.u16();
    const length = r.u16();
    if (length < 8 || length % 8 !== 0) r.fail('OFPBAC_BAD_LEN', `an action of ${length} bytes`, start);
    return r.within(length - 4, () => readBody(r, type), 'OFPBAC_BAD_LEN');
  },
  write: (w, value) => {
    const start = w.length;
    const name = nameOnWire(value);
    const layout = table.byName(name);
    const experimenter =
      name === 'experimenter'
        ? (value as ExperimenterAction).experimenter
        : Math.floor((layout?.id ?? 0) / 0x10000);
    const own = name !== 'experimenter' && experimenter === 0;
    w.u16(own ? (layout?.id ?? (value as UnknownAction).actionType) : OFPAT_EXPERIMENTER);
    const at = w.lengthLater();
    if (!own) w.u32(experimenter);
    try {
      if (layout) {
        if (!own) w.u16(layout.id % 0x10000);
        layout.body.write(w, value);
        w.align8(start);
      } else {
        w.put(name === 'unknown' ? (value as UnknownAction).body : (value as ExperimenterAction).data);
        if ((w.length - start) % 8 !== 0)
          throw new OpenFlowEncodeError('bad-value', `${w.length - start} bytes, which is no multiple of 8`);
      }
    } catch (cause) {
      throw inField(name, cause);
    }
    w.setLength(at, w.length - start);
  },
};

function nameOnWire(value: Action): string {
  const { type } = value;
  if (type === 'set_field' && hasMask(value.field ?? {})) return 'reg_load2';
  if (type !== 'unknown' && type !== 'experimenter' && !table.byName(type))
    throw new OpenFlowEncodeError('bad-value', `no action is called ${String(type)}`);
  return type;
}

export const actions: Codec<readonly Action[]> = list(action);
