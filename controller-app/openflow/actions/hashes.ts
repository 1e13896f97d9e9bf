/**
 * Nicira's actions that choose among several ports by a hash of the packet: multipath, bundle, bundle_load.
 */
import { NICIRA } from '../error-codes.js';
import { type FieldBits, rangeOfField } from '../match/field-bits.js';
import { port16 } from '../port-number.js';
import {
  type Codec,
  names,
  pad,
  type Reader,
  struct,
  u16,
  u32,
  type Variants,
  type Writer,
} from '../wire/index.js';
import { layout, numberOf, tail } from './parts.js';

const nx = (subtype: number): number => numberOf(NICIRA, subtype);

/** What is hashed. */
const fields = names(u16, {
  eth_src: 0,
  symmetric_l4: 1,
  symmetric_l3l4: 2,
  'symmetric_l3l4+udp': 3,
  nw_src: 4,
  nw_dst: 5,
  symmetric_l3: 6,
});

/** How many there are; less one on the wire. */
const links: Codec<number> = {
  read: (r) => r.u16() + 1,
  write: (w, value) => w.u16(value - 1),
};

const multipath = struct({
  fields,
  basis: u16,
  _: pad(2),
  algorithm: names(u16, { modulo_n: 0, hash_threshold: 1, hrw: 2, iter_hash: 3 }),
  links,
  argument: u32,
  _2: pad(2),
  /** Gets the number of the link that was chosen. */
  destination: rangeOfField,
});

const choice = struct({
  algorithm: names(u16, { active_backup: 0, hrw: 1 }),
  fields,
  basis: u16,
});

interface Bundle extends ReturnType<typeof choice.read> {
  /** Ports to choose from. */
  readonly members: readonly number[];
}

interface BundleLoad extends Bundle {
  /** Gets the port that was chosen. */
  readonly destination: FieldBits;
}

/** NXM_OF_IN_PORT: members are ports, and nothing else can be one. */
const PORTS = 0x00000002;

function readCount(r: Reader): number {
  const at = r.pos;
  if (r.u32() !== PORTS) r.fail('OFPBAC_BAD_ARGUMENT', 'members that are no ports', at);
  return r.u16();
}

function readMembers(r: Reader, count: number): number[] {
  r.skip(4);
  r.need(2 * count);
  const members = Array.from({ length: count }, () => port16.read(r));
  tail.read(r);
  return members;
}

function writeBundle(w: Writer, value: Bundle, destination: (w: Writer) => void): void {
  choice.write(w, value);
  w.u32(PORTS);
  w.u16(value.members.length);
  destination(w);
  w.zeros(4);
  for (const member of value.members) port16.write(w, member);
}

const bundle = layout<Bundle>(
  (r) => {
    const how = choice.read(r);
    const count = readCount(r);
    const at = r.pos;
    if (r.u16() !== 0 || r.u32() !== 0)
      r.fail('OFPBAC_BAD_ARGUMENT', 'a bundle with a destination: that is bundle_load', at);
    return { ...how, members: readMembers(r, count) };
  },
  (w, value) => writeBundle(w, value, () => w.zeros(6)),
);

const bundleLoad = layout<BundleLoad>(
  (r) => {
    const how = choice.read(r);
    const count = readCount(r);
    const destination = rangeOfField.read(r);
    return { ...how, members: readMembers(r, count), destination };
  },
  (w, value) => writeBundle(w, value, () => rangeOfField.write(w, value.destination)),
);

export const HASHES = {
  multipath: [nx(10), multipath],
  bundle: [nx(12), bundle],
  bundle_load: [nx(13), bundleLoad],
} as const satisfies Variants;
