/**
 * The actions of OpenFlow 1.3.5 (7.2.5), and the ONF's copy_field (extension 320).
 */
import { OFPP } from '../constants.js';
import { ONF } from '../error-codes.js';
import { checkBits, checkedBits, type FieldBits, fieldHeader } from '../match/field-bits.js';
import type { Match } from '../match/fields.js';
import { isMasked, oneField } from '../match/oxm.js';
import { pad, struct, u8, u16, u32, type Variants } from '../wire/index.js';
import { layout, numberOf, tail } from './parts.js';

/** Whole packets to the controller, no buffer (7.2.5, OFPCML_NO_BUFFER). */
export const OFPCML_NO_BUFFER = 0xffff;

const usualMaxLen = (port: number): number => (port === OFPP.CONTROLLER ? OFPCML_NO_BUFFER : 0);

/** Only what goes to the controller is cut to maxLen bytes; absent for whole packets. To other ports it means nothing. */
const output = layout<{ readonly port: number; readonly maxLen?: number }>(
  (r) => {
    const port = r.u32();
    const maxLen = r.u16();
    r.skip(6);
    return maxLen === usualMaxLen(port) ? { port } : { port, maxLen };
  },
  (w, { port, maxLen }) => {
    w.u32(port);
    w.u16(maxLen ?? usualMaxLen(port));
    w.zeros(6);
  },
);

const copyField = layout<{ readonly source: FieldBits; readonly destination: FieldBits }>(
  (r) => {
    r.skip(2);
    const bits = r.u16();
    const from = r.u16();
    const to = r.u16();
    r.skip(2);
    const source = checkedBits(r, fieldHeader.read(r), from, bits);
    const destination = checkedBits(r, fieldHeader.read(r), to, bits);
    tail.read(r);
    return { source, destination };
  },
  (w, { source, destination }) => {
    checkBits(source);
    checkBits({ ...destination, bits: source.bits });
    w.zeros(2);
    w.u16(source.bits);
    w.u16(source.start);
    w.u16(destination.start);
    w.zeros(2);
    fieldHeader.write(w, source.field);
    fieldHeader.write(w, destination.field);
  },
);

const bare = struct({ _: pad(4) });
const ttl = struct({ ttl: u8, _: pad(3) });
const tag = struct({ ethertype: u16, _: pad(2) });

export const STANDARD = {
  output: [0, output],
  copy_ttl_out: [11, bare],
  copy_ttl_in: [12, bare],
  set_mpls_ttl: [15, ttl],
  dec_mpls_ttl: [16, bare],
  push_vlan: [17, tag],
  pop_vlan: [18, bare],
  push_mpls: [19, tag],
  /** `ethertype` is that of the packet afterwards. */
  pop_mpls: [20, tag],
  set_queue: [21, struct({ queue: u32 })],
  group: [22, struct({ group: u32 })],
  set_nw_ttl: [23, ttl],
  dec_nw_ttl: [24, bare],
  push_pbb: [26, tag],
  pop_pbb: [27, bare],
  copy_field: [numberOf(ONF, 3200), copyField],
} as const satisfies Variants;

/** Nicira's reg_load2: a field's value, or that of some of its bits. */
export const anyField = layout<{ readonly field: Match }>(
  (r) => {
    const read = (): Match => {
      const field = oneField.read(r);
      tail.read(r);
      return field;
    };
    return { field: r.within(r.left, read, 'OFPBAC_BAD_SET_LEN') };
  },
  (w, { field }) => oneField.write(w, field),
);

/** Whether some bits of a field are meant, or all with a mask that says so. */
export function hasMask({ unknown, ...named }: Match): boolean {
  return Object.values(named).some(isMasked) || unknown?.[0]?.masked === true;
}

/** OFPAT_SET_FIELD: without a mask in OpenFlow 1.3. */
export const wholeField = layout<{ readonly field: Match }>((r) => {
  const at = r.pos;
  const value = anyField.read(r);
  if (hasMask(value.field)) r.fail('OFPBAC_BAD_SET_MASK', 'a set_field with a mask', at);
  return value;
}, anyField.write);

export const SET_FIELD = 25;
