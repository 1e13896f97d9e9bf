/**
 * Who may send what (spec 1.3.5, 6.1): a switch replies, tells of itself, and says hello, echo and error. The rest are a controller's.
 */
import type { MessageBody } from '../openflow/index.js';

/** Names as the specification has them, also of messages that are never sent from here. */
const CONTROLLERS: ReadonlySet<string> = new Set([
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
