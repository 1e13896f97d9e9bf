/**
 * Nicira's messages about a controller's connection (Open vSwitch, nicira-ext.h): its role, its number, what it wants to hear.
 */
import { oneOf, pad, struct, tlvObject, u16, u32 } from '../wire/index.js';
import { HEADER } from './header.js';

/** NXT_ROLE_REQUEST and NXT_ROLE_REPLY: from before OpenFlow had roles, without generations. */
export const nxRole = struct({ role: oneOf(u32, { other: 0, master: 1, slave: 2 }, 'OFPRRFC_BAD_ROLE') });

/** NXT_SET_CONTROLLER_ID: by which the controller action names it. */
export const setControllerId = struct({ _: pad(6), controllerId: u16 });

/** NXT_SET_ASYNC_CONFIG2: OpenFlow 1.4's properties of OFPT_SET_ASYNC, bits of reasons (1 << reason). */
export const nxSetAsync2 = tlvObject(
  {
    packetInSlave: [0, u32],
    packetIn: [1, u32],
    portStatusSlave: [2, u32],
    portStatus: [3, u32],
    flowRemovedSlave: [4, u32],
    flowRemoved: [5, u32],
    roleStatusSlave: [6, u32],
    roleStatus: [7, u32],
    tableStatusSlave: [8, u32],
    tableStatus: [9, u32],
    requestForwardSlave: [10, u32],
    requestForward: [11, u32],
  },
  { code: 'OFPTFFC_BAD_LEN' },
  HEADER,
);
