/**
 * Nicira's ct and nat: connection tracking, and translation of addresses in it.
 */

import { ipv4, ipv6 } from '../addresses.js';
import { NICIRA } from '../error-codes.js';
import { OpenFlowEncodeError } from '../errors.js';
import { bitRange, checkBits, checkedBits, type FieldBits, shortHeader } from '../match/field-bits.js';
import {
  type Codec,
  type Infer,
  optional,
  pad,
  type Simplify,
  type Struct,
  struct,
  u8,
  u16,
  type Variants,
} from '../wire/index.js';
import type { Action } from './action.js';
import { bits, layout, numberOf, tail } from './parts.js';

const NO_TABLE = 0xff;

/** NXAST_CT's zone_src and zone_ofs_nbits/zone_imm: a number, or where to find it. */
const zone: Codec<number | FieldBits | undefined> = {
  read: (r) => {
    const source = shortHeader.read(r);
    if (typeof source === 'object' && source.oxm === 0) {
      const value = r.u16();
      return value === 0 ? undefined : value;
    }
    const { start, bits } = bitRange.read(r);
    return checkedBits(r, source, start, bits);
  },
  write: (w, value) => {
    if (typeof value === 'object') {
      checkBits(value, 64);
      shortHeader.write(w, value.field);
      bitRange.write(w, value);
    } else {
      w.zeros(4);
      w.u16(value ?? 0);
    }
  },
};

const CT_FLAGS = bits({ commit: 1, force: 2 });

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
  /** The connection begins anew, in the direction of this packet. */
  readonly force?: boolean;
  /** Done to the connection when it is committed: ct_mark or ct_label set, and nat. */
  readonly exec?: readonly Action[];
}

/** The table of actions is not there yet when this is made. */
export const ctLayout = (actions: () => Codec<readonly Action[]>): Struct<Omit<CtAction, 'type'>> =>
  layout(
    (r) => {
      const at = r.pos;
      const { flags, ...parameters } = ctParameters.read(r);
      const named = CT_FLAGS.read(r, flags, at);
      const exec = r.left > 0 ? { exec: r.nested(r.left, actions().read) } : {};
      return { ...named, ...parameters, ...exec };
    },
    (w, value) => {
      ctParameters.write(w, { ...value, flags: CT_FLAGS.number(value) });
      if (value.exec?.length) {
        const { exec } = value;
        w.nested(() => actions().write(w, exec));
      }
    },
  );

export const NXAST_CT = numberOf(NICIRA, 35);

const NAT_FLAGS = bits({
  source: 1,
  destination: 2,
  /** The same mapping after the system starts again. */
  persistent: 4,
  /** Ports by a hash of the tuple, or at random. */
  hash: 8,
  random: 16,
});

interface NatRange {
  readonly ipv4Min?: string;
  readonly ipv4Max?: string;
  readonly ipv6Min?: string;
  readonly ipv6Max?: string;
  readonly portMin?: number;
  readonly portMax?: number;
}

/** In the order of their bits, which is that of the values. */
const RANGE = [
  ['ipv4Min', ipv4],
  ['ipv4Max', ipv4],
  ['ipv6Min', ipv6],
  ['ipv6Max', ipv6],
  ['portMin', u16],
  ['portMax', u16],
] as const;

/** Within ct: without source and destination, packets of a connection that has a translation get it. */
interface Nat extends NatRange {
  readonly source?: boolean;
  readonly destination?: boolean;
  readonly persistent?: boolean;
  readonly hash?: boolean;
  readonly random?: boolean;
}

/** Why Open vSwitch would not take it. */
function natFault(nat: Nat): string | undefined {
  const v4 = nat.ipv4Min !== undefined;
  const v6 = nat.ipv6Min !== undefined;
  if (nat.source && nat.destination) return 'source and destination at once';
  if (nat.hash && nat.random) return 'ports by hash and at random';
  if (v4 && v6) return 'IPv4 and IPv6 addresses';
  if ((nat.ipv4Max !== undefined && !v4) || (nat.ipv6Max !== undefined && !v6)) return 'a last address alone';
  if (nat.portMax !== undefined && nat.portMin === undefined) return 'a last port alone';
  return undefined;
}

const nat = layout<Nat>(
  (r) => {
    r.skip(2);
    const at = r.pos;
    const flags = NAT_FLAGS.read(r, r.u16(), at);
    const present = r.u16();
    if (present >>> RANGE.length !== 0)
      r.fail('OFPBAC_BAD_ARGUMENT', `a range of kind 0x${present.toString(16)}`, at + 2);
    const range: Record<string, unknown> = {};
    for (const [i, [name, codec]] of RANGE.entries()) if ((present >>> i) & 1) range[name] = codec.read(r);
    const value: Nat = { ...flags, ...range };
    const fault = natFault(value);
    if (fault) r.fail('OFPBAC_BAD_ARGUMENT', `nat with ${fault}`, at);
    tail.read(r);
    return value;
  },
  (w, value) => {
    const fault = natFault(value);
    if (fault) throw new OpenFlowEncodeError('bad-value', `nat with ${fault}`);
    w.zeros(2);
    w.u16(NAT_FLAGS.number(value));
    w.u16(RANGE.reduce((bitmap, [name], i) => (value[name] === undefined ? bitmap : bitmap | (1 << i)), 0));
    for (const [name, codec] of RANGE)
      if (value[name] !== undefined) (codec as Codec<unknown>).write(w, value[name]);
  },
);

export const NAT = { nat: [numberOf(NICIRA, 36), nat] } as const satisfies Variants;
