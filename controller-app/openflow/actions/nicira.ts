/**
 * Nicira's actions of plain layout (nicira-ext.h and ofp-actions.c of Open vSwitch 3.1). Those with names in nx_ are of the time of OpenFlow 1.0
 * and have others in their place since; Open vSwitch takes only nx_write_metadata on 1.3.
 */
import { OFPP } from '../constants.js';
import { NICIRA } from '../error-codes.js';
import { OpenFlowEncodeError } from '../errors.js';
import { port16 } from '../port-number.js';
import {
  type Codec,
  names,
  optional,
  pad,
  rest,
  type Struct,
  struct,
  tlvObject,
  u8,
  u16,
  u32,
  u64,
  type Variants,
} from '../wire/index.js';
import { layout, numberOf, tail } from './parts.js';

const nx = (subtype: number): number => numberOf(NICIRA, subtype);
const bare = struct({ _: pad(6) });

/** Without `port` with the port that the packet came in at; table 255 is the one where it is. */
const resubmit = struct({ port: optional(port16, OFPP.IN_PORT), table: u8, _: pad(3) });

/** Bytes without meaning; 6, or 6 and a multiple of 8. */
const noteData: Codec<Uint8Array> = {
  read: rest.read,
  write: (w, data) => {
    if (data.length % 8 !== 6)
      throw new OpenFlowEncodeError('bad-value', `a note of ${data.length} bytes: make it 6, 14, 22, …`);
    w.put(data);
  },
};

/** Why a packet comes to the controller. OpenFlow 1.3 knows the first three. */
const reason = names(u8, {
  no_match: 0,
  action: 1,
  invalid_ttl: 2,
  action_set: 3,
  group: 4,
  packet_out: 5,
});

/** A property of 16 bits fills 8 bytes and says so. */
const padded16: Codec<number> = {
  read: (r) => {
    const value = r.u16();
    r.skip(2);
    return value;
  },
  write: (w, value) => {
    w.u16(value);
    w.zeros(2);
  },
};

const present: Codec<true> = { read: () => true, write: () => undefined };

const controller2Properties = tlvObject(
  {
    maxLen: [0, padded16],
    controllerId: [1, padded16],
    reason: [2, reason],
    /** Comes back in the packet-in. */
    userdata: [3, rest],
    /** The packet goes on when the controller says so, by NXT_RESUME. */
    pause: [4, present],
    meterId: [5, u32],
  },
  { code: 'OFPBAC_BAD_LEN' },
  ['type'],
);

const controller2: Struct<Omit<ReturnType<typeof controller2Properties.read>, 'type'>> = {
  readInto: (r, target) => {
    r.skip(6);
    controller2Properties.readInto(r, target);
  },
  read: (r) => {
    r.skip(6);
    return controller2Properties.read(r);
  },
  write: (w, value) => {
    w.zeros(6);
    controller2Properties.write(w, value);
  },
};

/** Numbers after their count, and zeros up to a multiple of 8. */
const decTtlCntIds = layout<{ readonly controllerIds: readonly number[] }>(
  (r) => {
    const count = r.u16();
    r.skip(4);
    r.need(2 * count);
    const controllerIds = Array.from({ length: count }, () => r.u16());
    tail.read(r);
    return { controllerIds };
  },
  (w, { controllerIds }) => {
    w.u16(controllerIds.length);
    w.zeros(4);
    for (const id of controllerIds) w.u16(id);
  },
);

/** IPFIX: `probability` of 65,535 packets are told of. */
const sample = { probability: u16, collectorSet: u32, observationDomain: u32, observationPoint: u32 };

export const PLAIN = {
  /** NXAST_RESUBMIT: in the table where it is, as if it had come from another port. */
  resubmit_port: [nx(1), struct({ port: port16, _: pad(4) })],
  set_tunnel: [nx(2), struct({ _: pad(2), tunnelId: u32 })],
  nx_set_queue: [nx(4), struct({ _: pad(2), queue: u32 })],
  /** Back to the queue that the packet came with. */
  pop_queue: [nx(5), bare],
  note: [nx(8), struct({ data: noteData })],
  set_tunnel64: [nx(9), struct({ _: pad(6), tunnelId: u64 })],
  /** NXAST_RESUBMIT_TABLE. */
  resubmit: [nx(14), resubmit],
  exit: [nx(17), bare],
  nx_dec_nw_ttl: [nx(18), bare],
  /** Time-outs of the rule once a FIN or RST was seen, in seconds. */
  fin_timeout: [nx(19), struct({ idleTimeout: optional(u16, 0), hardTimeout: optional(u16, 0), _: pad(2) })],
  controller: [nx(20), struct({ maxLen: u16, controllerId: u16, reason, _: pad(1) })],
  /** Packets with nothing left to count down go to these controllers. */
  dec_ttl_cnt_ids: [nx(21), decTtlCntIds],
  /** The instruction of the same name, for OpenFlow 1.0. */
  nx_write_metadata: [nx(22), struct({ _: pad(6), metadata: u64, mask: u64 })],
  nx_push_mpls: [nx(23), struct({ ethertype: u16, _: pad(4) })],
  nx_pop_mpls: [nx(24), struct({ ethertype: u16, _: pad(4) })],
  nx_set_mpls_ttl: [nx(25), struct({ ttl: u8, _: pad(5) })],
  nx_dec_mpls_ttl: [nx(26), bare],
  sample: [nx(29), struct(sample)],
  nx_set_mpls_label: [nx(30), struct({ _: pad(2), label: u32 })],
  nx_set_mpls_tc: [nx(31), struct({ tc: u8, _: pad(5) })],
  /** This rule is one of `clauses` dimensions of the conjunctive flow `id`; the first is clause 0. */
  conjunction: [nx(34), struct({ clause: u8, clauses: u8, id: u32 })],
  /** The order of its properties on the wire is that in the object. */
  controller2: [nx(37), controller2],
  sample2: [nx(38), struct({ ...sample, samplingPort: port16, _: pad(6) })],
  output_trunc: [nx(39), struct({ port: port16, maxLen: u32 })],
  nx_group: [nx(40), struct({ _: pad(2), group: u32 })],
  sample3: [
    nx(41),
    struct({
      ...sample,
      samplingPort: port16,
      direction: names(u8, { both: 0, ingress: 1, egress: 2 }),
      _: pad(5),
    }),
  ],
  ct_clear: [nx(43), bare],
  /** NXAST_RESUBMIT_TABLE_CT: with the original direction's tuple of the connection in place of the packet's. */
  resubmit_ct: [nx(44), resubmit],
  /** `packetType` 0xfffe: whatever comes next. */
  decap: [nx(47), struct({ _: pad(2), packetType: u32 })],
  dec_nsh_ttl: [nx(48), bare],
} as const satisfies Variants;
