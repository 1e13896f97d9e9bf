/**
 * Messages to frames and back. A frame is one plain MessagePack value; nothing of it is used before the schema has passed it.
 * Outgoing messages pass the same schema, so that what is wrong with them is an error of the call here, and never ends the link there.
 */
import { Packr, Unpackr } from 'msgpackr';
import type { z } from 'zod';
import type { FirewallState } from '../firewall/state.js';
import { messageOf } from '../runtime/message-of.js';
import { ConnectionsError, decodeConnections, encodeConnections } from './connections-codec.js';
import { ChannelError } from './errors.js';
import { PROTOCOL_VERSION } from './limits.js';
import {
  type AgentMessage,
  type AgentWire,
  agentWireSchema,
  type ControllerMessage,
  type ControllerWire,
  controllerWireSchema,
  versionSchema,
} from './messages.js';
import { problemOfMessagePack } from './plain-messagepack.js';

/** `skipValues` (missing from the package's types) leaves optional fields out that are there but undefined: they would become an extension type. */
const packing = { useRecords: false, variableMapSize: true, skipValues: [undefined] };
const packr = new Packr(packing);
/** A 64-bit integer beyond what a number holds exactly is refused by the schemas. */
const unpackr = new Unpackr({ useRecords: false, int64AsType: 'number' });

const MAX_ISSUE_TEXT = 500;

/** How one side encodes what it says and decodes what it hears. Both throw a ChannelError `bad-message`; of a hello of another version, `version`; of a message to send that is too large, `too-large`. */
export interface Codec<Out, In> {
  encode(message: Out): Uint8Array;
  decode(frame: Uint8Array): In;
}

export const agentCodec: Codec<AgentMessage, ControllerMessage> = {
  encode: (message) => pack(agentWireSchema, agentToWire(message)),
  decode: (frame) => controllerFromWire(checked(controllerWireSchema, unpack(frame))),
};

export const controllerCodec: Codec<ControllerMessage, AgentMessage> = {
  encode: (message) => pack(controllerWireSchema, controllerToWire(message)),
  decode(frame) {
    const value = unpack(frame);
    const version = versionSchema.safeParse(value);
    if (version.success && version.data.protocol !== PROTOCOL_VERSION)
      throw new ChannelError(
        'version',
        `the agent speaks version ${version.data.protocol} of the channel, the controller version ${PROTOCOL_VERSION}: install the same release on both`,
      );
    return agentFromWire(checked(agentWireSchema, value));
  },
};

function unpack(frame: Uint8Array): unknown {
  const problem = problemOfMessagePack(frame);
  if (problem) throw new ChannelError('bad-message', `the message is not plain MessagePack: ${problem}`);
  try {
    return unpackr.unpack(frame);
  } catch (cause) {
    throw new ChannelError('bad-message', `the message is not MessagePack: ${messageOf(cause)}`, { cause });
  }
}

function pack(schema: z.ZodType, wire: unknown): Uint8Array {
  const frame = packr.pack(checked(schema, wire));
  const problem = problemOfMessagePack(frame);
  if (problem)
    throw new ChannelError('too-large', `the message is more than the channel carries: ${problem}`);
  return frame;
}

function checked<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = parsed(schema, value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const where = issue?.path.join('.');
  const what = `${where ? `${where}: ` : ''}${issue?.message ?? 'invalid'}`.slice(0, MAX_ISSUE_TEXT);
  throw new ChannelError('bad-message', `the message is not valid: ${what}`, { cause: result.error });
}

/** Bytes where a list belongs make zod throw: it freezes lists that are `readonly()`, and they cannot be frozen. */
function parsed<T>(schema: z.ZodType<T>, value: unknown): z.ZodSafeParseResult<T> {
  try {
    return schema.safeParse(value);
  } catch (cause) {
    throw new ChannelError('bad-message', `the message is not valid: ${messageOf(cause)}`, { cause });
  }
}

type WireState = Extract<AgentWire, { type: 'state' }>['state'];

function stateToWire(state: FirewallState): WireState {
  try {
    return { ...state, connections: encodeConnections(state.connections, state.terminal) };
  } catch (cause) {
    throw new ChannelError('bad-message', `the message is not valid: ${messageOf(cause)}`, { cause });
  }
}

function stateFromWire(wire: WireState): FirewallState {
  try {
    return { ...wire, connections: decodeConnections(wire.connections, wire.terminal) };
  } catch (cause) {
    if (!(cause instanceof ConnectionsError)) throw cause;
    throw new ChannelError('bad-message', cause.message, { cause });
  }
}

function agentToWire(message: AgentMessage): AgentWire {
  return message.type === 'state' ? { ...message, state: stateToWire(message.state) } : message;
}

function agentFromWire(wire: AgentWire): AgentMessage {
  return wire.type === 'state' ? { ...wire, state: stateFromWire(wire.state) } : wire;
}

function controllerToWire(message: ControllerMessage): ControllerWire {
  return message.type === 'prepare' || message.type === 'sync'
    ? { ...message, snapshot: stateToWire(message.snapshot) }
    : message;
}

function controllerFromWire(wire: ControllerWire): ControllerMessage {
  return wire.type === 'prepare' || wire.type === 'sync'
    ? { ...wire, snapshot: stateFromWire(wire.snapshot) }
    : wire;
}
