/**
 * OpenFlow 1.3, with the Nicira and ONF extensions that Open vSwitch speaks: bytes to values and back. Pure.
 *
 *   wire/           the language in which layouts are written
 *   match/          match fields          actions/    actions and instructions
 *   messages/, multipart/, extensions/    the specification's messages, and those of Nicira and the ONF
 *   message         all of them: encode and decode            framer    stream to messages
 */
export {
  ACTION_TYPES,
  type Action,
  actions as actionsCodec,
  type CloneAction,
  type CtAction,
  canonicalActions,
  canonicalInstructions,
  type EncapProperty,
  type ExperimenterAction,
  INSTRUCTION_TYPES,
  type Instruction,
  instructions as instructionsCodec,
  instructionsKey,
  type LearnSpec,
  OFPCML_NO_BUFFER,
  type SetFieldAction,
  type UnknownAction,
  type UnknownInstruction,
} from './actions/index.js';
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
export { type BundledMessage, OFPBF } from './extensions/bundle.js';
export { type ConnectionTuple, type CtFlush, refuseFatal } from './extensions/conntrack.js';
export type { FlowUpdate } from './extensions/monitor.js';
export type { UnknownExtension } from './extensions/numbers.js';
export { Framer } from './framer.js';
export {
  canonicalMatch,
  FIELD_NAMES,
  type FieldBits,
  type FieldName,
  fieldNamed,
  type Masked,
  type Match,
  matchCodec,
  matchKey,
  type Operand,
  oxms as oxmsCodec,
  type UnknownField,
  type UnknownHeader,
} from './match/index.js';
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
export { errorAnswer } from './messages/error.js';
export type { Flow, FlowMod, FlowStats } from './messages/flow.js';
export type { Bucket, GroupMod } from './messages/group.js';
export { type HelloElement, helloElements, helloOffers } from './messages/hello.js';
export type { MeterBand } from './messages/meter.js';
export type { Port } from './messages/port.js';
export type { Queue } from './messages/queue.js';
export type { FieldId } from './multipart/field-id.js';
export type { MultipartReply, MultipartRequest, UnknownPart } from './multipart/multipart.js';
export type {
  GroupDescription,
  GroupStats,
  MeterConfig,
  MeterStats,
  PortStats,
  QueueStats,
  TableStats,
} from './multipart/statistics.js';
export type { TableFeatures } from './multipart/table-features.js';
export { type Codec, type Infer, Reader, type UnknownTlv, Writer } from './wire/index.js';
