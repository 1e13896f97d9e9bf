/**
 * The few words of OpenFlow that steering's rules share, and the priorities of its tables in one place. Pure.
 */
import { FLOOD } from '../forwarding/flood.js';
import { type Action, type Match, OFPVID_PRESENT } from '../openflow/index.js';

export interface SteeringTables {
  readonly guard: number;
  readonly enter: number;
  readonly firewall: number;
  readonly deliver: number;
  readonly lead: number;
  /** Where frames of hosts go first. */
  readonly ingress: number;
  /** Where frames on the network side go after `lead`. */
  readonly network: number;
  readonly egress: number;
}

export const PRIORITY = {
  reserved: 1000,
  tagged: 40,
  attachment: 30,
  attachmentOther: 29,
  terminalOnTrunk: 22,
  terminalElsewhere: 20,
  port: 10,
  rest: 0,
  floodOfInstance: 30,
  flood: 20,
  floodGroup: 21,
  otherLink: 30,
  ownFrame: 20,
  trunkOfInstance: 12,
  handedOn: 30,
} as const;

/** Register 2 while a flooded frame visits the ports and instances of this switch. */
export const FLOOD_HERE = FLOOD + 1;

/** OFPVID_NONE (OpenFlow 1.3.5, table 13). */
export const UNTAGGED = 0;
export const GROUP_BIT = { value: '01:00:00:00:00:00', mask: '01:00:00:00:00:00' } as const;

export const set = (field: Match): Action => ({ type: 'set_field', field });
export const output = (port: number): Action => ({ type: 'output', port });
/** Lets a frame leave through the port it came in by: a firewall in between makes it another frame. */
export const FORGET_IN_PORT: Action = set({ in_port_nxm: 0 });
export const push = (vid: number): Action[] => [
  { type: 'push_vlan', ethertype: 0x8100 },
  set({ vlan_vid: vid | OFPVID_PRESENT }),
];
