/**
 * Who may send what (spec 1.3.5, 6.1): a switch replies, tells of itself, and says hello, echo and error. The rest are a controller's.
 */
import type { ErrorCode, MessageBody, MessageType } from '../openflow/index.js';

const CONTROLLERS: ReadonlySet<MessageType> = new Set<MessageType>([
  'features_request',
  'get_config_request',
  'set_config',
  'packet_out',
  'flow_mod',
  'group_mod',
  'port_mod',
  'table_mod',
  'meter_mod',
  'multipart_request',
  'barrier_request',
  'queue_get_config_request',
  'role_request',
  'get_async_request',
  'set_async',
  'bundle_add',
  'flow_monitor_cancel',
  'nx_role_request',
  'nx_flow_mod',
  'flow_mod_table_id',
  'set_packet_in_format',
  'flow_age',
  'nx_set_async',
  'nx_set_async2',
  'set_controller_id',
  'tlv_table_mod',
  'tlv_table_request',
  'resume',
  'ct_flush',
  'ct_flush_zone',
]);

export function isReply(message: MessageBody): boolean {
  if (message.type === 'bundle_control')
    return typeof message.control !== 'string' || message.control.endsWith('_reply');
  return message.type.endsWith('_reply');
}

/** True of what no switch may send: a controller's messages, and those that no version 1.3 has. */
export function isForSwitchesOnly(message: MessageBody): boolean {
  return message.type === 'unknown' || message.type === 'bundle_control' || CONTROLLERS.has(message.type);
}

const OFPT_EXPERIMENTER = 4;

/** What is wrong with such a message. */
export function refusedType(frame: Uint8Array): ErrorCode {
  return frame[1] === OFPT_EXPERIMENTER ? 'OFPBRC_BAD_EXP_TYPE' : 'OFPBRC_BAD_TYPE';
}
