/**
 * Nicira's messages about options of tunnels (Open vSwitch, nicira-ext.h): which option of Geneve is which field tun_metadata0 to 63.
 */
import { list, oneOf, pad, struct, u8, u16, u32 } from '../wire/index.js';

/** struct nx_tlv_map. */
const mapping = struct({
  optionClass: u16,
  optionType: u8,
  /** Bytes: a multiple of 4. */
  optionLength: u8,
  /** n of tun_metadata<n>. */
  index: u16,
  _: pad(2),
});

/** NXT_TLV_TABLE_MOD. */
export const tlvTableMod = struct({
  command: oneOf(u16, { add: 0, delete: 1, clear: 2 }, 'NXTTMFC_BAD_COMMAND'),
  _: pad(6),
  mappings: list(mapping),
});

/** NXT_TLV_TABLE_REPLY. */
export const tlvTableReply = struct({
  /** Bytes of all options together. */
  maxOptionSpace: u32,
  maxFields: u16,
  _: pad(10),
  mappings: list(mapping),
});
