/**
 * Numbers that users of the codec name themselves: ports, groups, flags, bits. Numbers of message and action types are in their layouts.
 */

/** OFP_VERSION of OpenFlow 1.3. */
export const VERSION = 4;

/** Reserved ports (spec 1.3.5, 7.2.1). */
export const OFPP = {
  MAX: 0xffffff00,
  /** Back out of the port that the packet came in at: must be said, an output to the same number does nothing. */
  IN_PORT: 0xfffffff8,
  TABLE: 0xfffffff9,
  NORMAL: 0xfffffffa,
  FLOOD: 0xfffffffb,
  ALL: 0xfffffffc,
  CONTROLLER: 0xfffffffd,
  LOCAL: 0xfffffffe,
  ANY: 0xffffffff,
} as const;

/** Reserved groups (7.3.4.2). */
export const OFPG = { MAX: 0xffffff00, ALL: 0xfffffffc, ANY: 0xffffffff } as const;
/** Reserved meters (7.3.4.4): for packets to the controller, for all others that go slowly; all, in requests and deletions. */
export const OFPM = {
  MAX: 0xffff0000,
  SLOWPATH: 0xfffffffd,
  CONTROLLER: 0xfffffffe,
  ALL: 0xffffffff,
} as const;
/** All queues, in requests (7.3.5.8). */
export const OFPQ_ALL = 0xffffffff;
/** Flags of a meter (7.3.4.4): its unit is one of the first two. */
export const OFPMF = { KBPS: 1, PKTPS: 2, BURST: 4, STATS: 8 } as const;
/** All tables, in deletions and statistics requests (7.3.4.1). */
export const OFPTT_ALL = 0xff;
export const OFP_NO_BUFFER = 0xffffffff;
/** The bit of vlan_vid which says that there is a tag (7.2.3.8). */
export const OFPVID_PRESENT = 0x1000;

/** Flags of a flow (7.3.4.1). */
export const OFPFF = {
  SEND_FLOW_REM: 1,
  CHECK_OVERLAP: 2,
  RESET_COUNTS: 4,
  NO_PKT_COUNTS: 8,
  NO_BYT_COUNTS: 16,
} as const;

/** Flags of a switch's configuration (7.3.2). Bits 0 and 1 say what happens to fragments; 3 is Nicira's: ports of later fragments don't match, and nothing else is lost. */
export const OFPC_FRAG = { NORMAL: 0, DROP: 1, REASM: 2, NX_MATCH: 3 } as const;

/** Bits of a port's configuration and state (7.2.1). */
export const OFPPC = { PORT_DOWN: 1, NO_RECV: 4, NO_FWD: 32, NO_PACKET_IN: 64 } as const;
export const OFPPS = { LINK_DOWN: 1, BLOCKED: 2, LIVE: 4 } as const;

/** Bits of ct_state (Open vSwitch, packets.h). */
export const CT_STATE = { new: 1, est: 2, rel: 4, rpl: 8, inv: 16, trk: 32, snat: 64, dnat: 128 } as const;
export const TCP_FLAGS = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16, urg: 32 } as const;
/** Bits of nw_frag: a fragment; not the first one. */
export const NW_FRAG = { any: 1, later: 2 } as const;

/** Bits of ipv6_exthdr (7.2.3.8): which extension headers there are. */
export const OFPIEH = {
  NONEXT: 1,
  ESP: 2,
  AUTH: 4,
  DEST: 8,
  FRAG: 16,
  ROUTER: 32,
  HOP: 64,
  /** Some header more than once, or not in the preferred order. */
  UNREP: 128,
  UNSEQ: 256,
} as const;
