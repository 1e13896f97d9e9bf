/**
 * All experimenter messages that have a name here (spec 1.3.5, 7.5.4): the ONF's extensions of 1.3 and Nicira's, as Open vSwitch
 * speaks them.
 */
import { NICIRA, ONF } from '../error-codes.js';
import { asyncConfig, roleChange } from '../messages/switch.js';
import { type OneOf, struct, type Variants } from '../wire/index.js';
import { bundleControl } from './bundle.js';
import { ctFlush, ctFlushZone } from './conntrack.js';
import { nxRole, nxSetAsync2, setControllerId } from './controller.js';
import { flowModTableId, nxFlowMod, nxFlowRemoved } from './flows.js';
import { monitorCancel } from './monitor.js';
import { extension } from './numbers.js';
import { nxPacketIn, packetIn2, setPacketInFormat } from './packets.js';
import { tlvTableMod, tlvTableReply } from './tunnels.js';

const onf = (type: number): number => extension(ONF, type);
const nx = (type: number): number => extension(NICIRA, type);

const empty = struct({});

export const EXTENSIONS = {
  bundle_control: [onf(2300), bundleControl],
  role_status: [onf(1911), struct(roleChange)],
  flow_monitor_cancel: [onf(1870), monitorCancel],
  flow_monitor_paused: [onf(1871), empty],
  flow_monitor_resumed: [onf(1872), empty],
  nx_role_request: [nx(10), nxRole],
  nx_role_reply: [nx(11), nxRole],
  nx_flow_mod: [nx(13), nxFlowMod],
  nx_flow_removed: [nx(14), nxFlowRemoved],
  flow_mod_table_id: [nx(15), flowModTableId],
  set_packet_in_format: [nx(16), setPacketInFormat],
  nx_packet_in: [nx(17), nxPacketIn],
  flow_age: [nx(18), empty],
  nx_set_async: [nx(19), asyncConfig],
  set_controller_id: [nx(20), setControllerId],
  tlv_table_mod: [nx(24), tlvTableMod],
  tlv_table_request: [nx(25), empty],
  tlv_table_reply: [nx(26), tlvTableReply],
  nx_set_async2: [nx(27), nxSetAsync2],
  resume: [nx(28), packetIn2],
  ct_flush_zone: [nx(29), ctFlushZone],
  packet_in2: [nx(30), packetIn2],
  ct_flush: [nx(32), ctFlush],
} as const satisfies Variants;

export const BUNDLE_ADD = onf(2301);
export const REQUEST_FORWARD = onf(2350);

export type ExtensionMessage = OneOf<typeof EXTENSIONS>;
