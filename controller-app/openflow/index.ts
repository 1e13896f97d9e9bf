/**
 * OpenFlow 1.3, with the Nicira and ONF extensions that Open vSwitch speaks: bytes to values and back. Pure.
 *
 *   wire         the language in which layouts are written
 *   oxm          match fields          action, instruction, flow, port, multipart, experimenter    parts of messages
 *   message      all messages, encode and decode            framer    stream to messages
 */
export {
  type Action,
  actions as actionsCodec,
  type CloneAction,
  type CtAction,
  type FieldBits,
  OFPCML_NO_BUFFER,
  type SetFieldAction,
  type UnknownAction,
} from './action.js';
export * from './constants.js';
export {
  type ErrorCode,
  type ErrorName,
  errorName,
  NICIRA,
  OFPET_EXPERIMENTER,
  OFPET_HELLO_FAILED,
  OFPHFC_INCOMPATIBLE,
  ONF,
} from './error-codes.js';
export { OpenFlowDecodeError, OpenFlowEncodeError } from './errors.js';
export {
  type BundledMessage,
  type ConnectionTuple,
  type CtFlush,
  OFPBF,
} from './experimenter.js';
export type { Bucket, Flow, FlowMod, FlowStats, GroupMod } from './flow.js';
export { Framer } from './framer.js';
export {
  type Instruction,
  instructions as instructionsCodec,
  type UnknownInstruction,
} from './instruction.js';
export {
  decode,
  type ErrorMessage,
  encode,
  type FeaturesReply,
  type FlowRemovedMessage,
  HEADER_LENGTH,
  type Header,
  type Message,
  type MessageBody,
  type MessageOf,
  type MessageType,
  type PacketInMessage,
  type PacketOutMessage,
  type PortStatusMessage,
  type UnknownMessage,
} from './message.js';
export type { MultipartReply, MultipartRequest, PortStats, TableStats } from './multipart.js';
export {
  type FieldName,
  type Masked,
  type Match,
  matchCodec,
  matchKey,
  oxms as oxmsCodec,
  type UnknownField,
} from './oxm.js';
export type { Port } from './port.js';
export { type Codec, type Infer, Reader, Writer } from './wire/index.js';
