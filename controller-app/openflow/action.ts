/**
 * Actions (spec 1.3.5, 7.2.5) and Nicira's extensions of them (Open vSwitch, ofp-actions.c).
 *
 *   type u16 | length u16 (a multiple of 8, counts all) | body
 *   Nicira:   0xffff | length | experimenter 0x2320 u32 | subtype u16 | body
 */
import { NICIRA } from './error-codes.js';
import { OpenFlowEncodeError } from './errors.js';
import {
  type FieldName,
  fieldHeader,
  fieldOfBits,
  fieldOfHeader,
  type Match,
  oxms,
  readField,
} from './oxm.js';
import {
  type Codec,
  type Infer,
  list,
  type OneOf,
  optional,
  pad,
  type Reader,
  type Simplify,
  type Struct,
  struct,
  u8,
  u16,
  u32,
  u64,
  type Variants,
  variantTable,
} from './wire/index.js';

const OFPAT_EXPERIMENTER = 0xffff;
/** Nicira's subtypes are kept in one table with the standard types, above them. */
const SUBTYPE = 0x10000;
const nx = (subtype: number): number => SUBTYPE + subtype;

/** Whole packets to the controller, no buffer (7.2.5, OFPCML_NO_BUFFER). */
export const OFPCML_NO_BUFFER = 0xffff;
const OFPP_CONTROLLER = 0xfffffffd;
const OFPP_IN_PORT_16 = 0xfff8;
const NO_TABLE = 0xff;

/** A port in 16 bits as OpenFlow 1.0 had it: the reserved ports keep their lower half. */
const port16: Codec<number> = {
  read: (r) => {
    const port = r.u16();
    return port >= 0xff00 ? 0xffff0000 + port : port;
  },
  write: (w, port) => {
    if (port >= 0xff00 && port < 0xffffff00)
      throw new OpenFlowEncodeError('bad-value', `port ${port} does not fit the 16 bits of resubmit`);
    w.u16(port & 0xffff);
  },
};

/** One OXM, with a mask or without. */
const oneField: Codec<Match> = {
  read: (r) => {
    const match: Record<string, unknown> = {};
    readField(r, match);
    skipPadding(r);
    return match as Match;
  },
  write: (w, match) => {
    if (Object.keys(match).length !== 1)
      throw new OpenFlowEncodeError('bad-value', 'set_field sets exactly one field');
    oxms.write(w, match);
  },
};

function skipPadding(r: Reader): void {
  if (r.left > 7) r.fail('OFPBAC_BAD_SET_LEN', `${r.left} bytes after the end`);
  r.skip(r.left);
}

/** OFPAT_SET_FIELD and NXAST_REG_LOAD2 alike. */
const setField = struct({ field: oneField });

/** What is in a bit range of a field, for operands such as ct's zone. */
export interface FieldBits {
  readonly field: FieldName;
  readonly start: number;
  readonly bits: number;
}

/** NXAST_CT's zone_src and zone_ofs_nbits/zone_imm: a number, or where to find it. */
const zone: Codec<number | FieldBits | undefined> = {
  read: (r: Reader) => {
    const source = r.u32();
    const value = r.u16();
    if (source === 0) return value === 0 ? undefined : value;
    const field = fieldOfHeader(source);
    if (field === undefined)
      r.fail('OFPBAC_BAD_ARGUMENT', `ct's zone from an unknown field 0x${source.toString(16)}`);
    return { field, start: value >>> 6, bits: (value & 0x3f) + 1 };
  },
  write: (w, value) => {
    if (typeof value === 'object') {
      w.u32(fieldHeader(value.field));
      w.u16((value.start << 6) | (value.bits - 1));
    } else {
      w.u32(0);
      w.u16(value ?? 0);
    }
  },
};

const NX_CT_F_COMMIT = 1;
const NX_CT_F_FORCE = 2;

/** NXAST_CT without its nested actions: struct nx_action_conntrack. */
const ctParameters = struct({
  flags: u16,
  zone,
  /** Go on in this table with ct_state known; without it the packet here goes on without. */
  table: optional(u8, NO_TABLE),
  _: pad(3),
  /** Application-level gateway: 21 for FTP, 69 for TFTP. */
  alg: optional(u16, 0),
});

/** ct() is written out because it holds actions, and inference can't go in circles. */
export interface CtAction extends Simplify<Omit<Infer<typeof ctParameters>, 'flags'>> {
  readonly type: 'ct';
  readonly commit?: boolean;
  readonly force?: boolean;
  /** Done to the connection when it is committed: set_field of ct_mark or ct_label. */
  readonly exec?: readonly Action[];
}

const ct: Struct<Omit<CtAction, 'type'>> = {
  readInto: (r, target) => {
    const { flags, ...parameters } = ctParameters.read(r);
    if (flags & NX_CT_F_COMMIT) target.commit = true;
    if (flags & NX_CT_F_FORCE) target.force = true;
    Object.assign(target, parameters);
    if (r.left > 0) target.exec = r.nested(r.left, actions.read);
  },
  read: (r) => {
    const value = {};
    ct.readInto(r, value);
    return value;
  },
  write: (w, { commit, force, exec, ...parameters }) => {
    const flags = (commit ? NX_CT_F_COMMIT : 0) | (force ? NX_CT_F_FORCE : 0);
    ctParameters.write(w, { flags, ...parameters });
    if (exec) actions.write(w, exec);
  },
};

/** Only what goes to the controller is cut to maxLen bytes (7.2.5); to other ports it means nothing and is 0. */
const output: Struct<{ readonly port: number; readonly maxLen?: number }> = {
  readInto: (r, target) => {
    const port = r.u32();
    const maxLen = r.u16();
    r.skip(6);
    target.port = port;
    if (port === OFPP_CONTROLLER && maxLen !== OFPCML_NO_BUFFER) target.maxLen = maxLen;
  },
  read: (r) => {
    const value = { port: 0 };
    output.readInto(r, value);
    return value;
  },
  write: (w, { port, maxLen }) => {
    w.u32(port);
    w.u16(port === OFPP_CONTROLLER ? (maxLen ?? OFPCML_NO_BUFFER) : 0);
    w.zeros(6);
  },
};

/** Names, numbers, layouts. The first name of a number is the one that is read. */
const VARIANTS = {
  output: [0, output],
  push_vlan: [17, struct({ ethertype: u16, _: pad(2) })],
  pop_vlan: [18, struct({ _: pad(4) })],
  set_queue: [21, struct({ queue: u32 })],
  group: [22, struct({ group: u32 })],
  set_nw_ttl: [23, struct({ ttl: u8, _: pad(3) })],
  dec_nw_ttl: [24, struct({ _: pad(4) })],
  /** NXAST_RESUBMIT_TABLE: without `port` with the port that the packet came in at. */
  resubmit: [nx(14), struct({ port: optional(port16, 0xffff0000 + OFPP_IN_PORT_16), table: u8, _: pad(3) })],
  ct_clear: [nx(43), struct({ _: pad(6) })],
} as const satisfies Variants;

const SET_FIELD = 25;
const NXAST_REG_LOAD = nx(7);
const NXAST_REG_LOAD2 = nx(33);
const NXAST_CT = nx(35);
const NXAST_CLONE = nx(42);

/** NXAST_CLONE: actions on a copy of the packet, after which the packet goes on as it was. */
export interface CloneAction {
  readonly type: 'clone';
  readonly actions: readonly Action[];
}

const clone: Struct<Omit<CloneAction, 'type'>> = {
  readInto: (r, target) => {
    r.skip(6);
    target.actions = r.nested(r.left, actions.read);
  },
  read: (r) => {
    const value = { actions: [] };
    clone.readInto(r, value);
    return value;
  },
  write: (w, value) => {
    w.zeros(6);
    actions.write(w, value.actions);
  },
};

const table = variantTable({ ...VARIANTS, ct: [NXAST_CT, ct], clone: [NXAST_CLONE, clone] });

export interface SetFieldAction {
  readonly type: 'set_field';
  /** One field; a masked value sets the bits of the mask only (Nicira). */
  readonly field: Match;
}

/** An action that this codec has no name for: kept as it came. For experimenters the body begins with the experimenter id. */
export interface UnknownAction {
  readonly type: 'unknown';
  readonly actionType: number;
  /** Its length and 4 make a multiple of 8. */
  readonly body: Uint8Array;
}

export type Action = OneOf<typeof VARIANTS> | SetFieldAction | CtAction | CloneAction | UnknownAction;

const regLoad = struct({ range: u16, destination: u32, value: u64 });

/**
 * Open vSwitch tells of a set_field with a mask as NXAST_REG_LOAD: (first bit << 6 | bits - 1), field, value. A mask with holes
 * comes as several of them: to compare what was sent with what a switch has, use masks without holes.
 */
function readRegLoad(r: Reader): Match | undefined {
  const { range, destination, value } = regLoad.read(r);
  return fieldOfBits(destination, range >>> 6, (range & 0x3f) + 1, value);
}

/** In OpenFlow 1.3 a set_field has no mask (7.2.5): Nicira's reg_load2 is the same action with one. */
function hasMask(field: Match): boolean {
  return Object.values(field).some((value) => typeof value === 'object' && 'mask' in value);
}

export const action: Codec<Action> = {
  read: (r) => {
    const type = r.u16();
    const length = r.u16();
    if (length < 8 || length % 8 !== 0) r.fail('OFPBAC_BAD_LEN', `an action of ${length} bytes`);
    return r.within(length - 4, () => readBody(r, type), 'OFPBAC_BAD_LEN');
  },
  write: (w, value) => {
    const start = w.length;
    if (value.type === 'unknown') {
      w.u16(value.actionType);
      const at = w.lengthLater();
      w.put(value.body);
      if (value.body.length % 8 !== 4)
        throw new OpenFlowEncodeError('bad-value', `an unknown action's body of ${value.body.length} bytes`);
      w.setLength(at, w.length - start);
      return;
    }
    const { id, body } = layoutOf(value);
    w.u16(id >= SUBTYPE ? OFPAT_EXPERIMENTER : id);
    const at = w.lengthLater();
    if (id >= SUBTYPE) {
      w.u32(NICIRA);
      w.u16(id - SUBTYPE);
    }
    body.write(w, value);
    w.align8(start);
    w.setLength(at, w.length - start);
  },
};

function layoutOf(value: Exclude<Action, UnknownAction>): { id: number; body: Struct<object> } {
  if (value.type === 'set_field')
    return hasMask(value.field) ? { id: NXAST_REG_LOAD2, body: setField } : { id: SET_FIELD, body: setField };
  const layout = table.byName(value.type);
  if (!layout) throw new OpenFlowEncodeError('bad-value', `no action is called ${String(value.type)}`);
  return layout;
}

function readBody(r: Reader, type: number): Action {
  if (type === SET_FIELD) return { type: 'set_field', field: oneField.read(r) };
  const start = r.pos;
  let id = type;
  if (type === OFPAT_EXPERIMENTER && r.left >= 6) {
    const experimenter = r.u32();
    const subtype = r.u16();
    id = experimenter === NICIRA ? nx(subtype) : -1;
  }
  if (id === NXAST_REG_LOAD2) return { type: 'set_field', ...setField.read(r) };
  const loaded = id === NXAST_REG_LOAD ? readRegLoad(r) : undefined;
  if (loaded) return { type: 'set_field', field: loaded };
  const layout = table.byId(id);
  if (!layout) {
    r.pos = start;
    return { type: 'unknown', actionType: type, body: r.take(r.left) };
  }
  const value: Record<string, unknown> = { type: layout.name };
  layout.body.readInto(r, value);
  return value as unknown as Action;
}

export const actions: Codec<readonly Action[]> = list(action);
