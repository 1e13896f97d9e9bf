/**
 * One live switch and the listener that switches connect to.
 */
import type { EventEmitter } from 'node:events';
import type { Dpid } from '../../shared/domain/domain.js';
import type {
  Flow,
  FlowMod,
  FlowRemovedMessage,
  FlowStats,
  GroupMod,
  Match,
  Message,
  PacketInMessage,
  PacketOutMessage,
  Port as WirePort,
} from '../openflow/index.js';

export interface Port extends WirePort {
  readonly linkDown: boolean;
}
export type PortChange = 'added' | 'modified' | 'deleted';
export interface SwitchEvents {
  packetIn: [message: PacketInMessage];
  portStatus: [port: Port, change: PortChange];
  flowRemoved: [message: FlowRemovedMessage];
  /** An error that answers no request that still waits. */
  error: [error: Error];
  close: [reason: Error | undefined];
}
export interface FlowFilter {
  readonly table?: number;
  readonly cookie?: bigint;
  readonly cookieMask?: bigint;
  readonly match?: Match;
  readonly outPort?: number;
  readonly outGroup?: number;
}
export declare class Switch extends (null as unknown as typeof EventEmitter<SwitchEvents>) {
  readonly dpid: Dpid;
  readonly ports: ReadonlyMap<number, Port>;
  portNamed(name: string): Port | undefined;
  readonly closed: boolean;
  send(message: Message): void;
  request(message: Message, options?: { timeoutMs?: number }): Promise<Message>;
  barrier(options?: { timeoutMs?: number }): Promise<void>;
  bundle(mods: readonly (FlowMod | GroupMod)[], options?: { timeoutMs?: number }): Promise<void>;
  flowStats(filter?: FlowFilter, options?: { timeoutMs?: number }): Promise<FlowStats[]>;
  packetOut(message: Omit<PacketOutMessage, 'type'>): void;
  close(reason?: Error): void;
}
export interface ListenerEvents {
  switch: [sw: Switch];
  error: [error: Error];
}
export interface ListenerOptions {
  /** Default 127.0.0.1. */
  readonly host?: string;
  readonly port?: number;
}
export declare class OpenFlowListener extends (null as unknown as typeof EventEmitter<ListenerEvents>) {
  constructor(options?: ListenerOptions);
  listen(): Promise<{ host: string; port: number }>;
  close(): Promise<void>;
}
export type { Flow };
