/**
 * What steering knows: where the terminals are, where their instances are, and what ports the switches have.
 */
import type { Dpid, Ends } from '../../shared/domain/domain.js';
import type { Terminal } from '../../shared/firewall/terminal.js';
import type { Topology } from './topology.js';

export interface Attachment {
  readonly dpid: Dpid;
  /** The number and the name of the switch port. */
  readonly port: number;
  readonly portName: string;
}

/** An instance that frames can be led to. */
export interface Path {
  readonly number: number;
  readonly ends: Ends;
}

export interface TerminalView {
  readonly terminal: Terminal;
  readonly attachment: Attachment | undefined;
  /** All instances with a way to them: the active one, one being prepared, one that drains. */
  readonly paths: readonly Path[];
  /** The number of the instance that the terminal's traffic is led through. */
  readonly active: number | undefined;
}

export interface SteeringView {
  readonly topology: Topology;
  readonly terminals: readonly TerminalView[];
  /** Names and numbers of the ports that each switch has and whose link is up. */
  readonly ports: ReadonlyMap<Dpid, ReadonlyMap<string, number>>;
}

/** Tags on trunks (IEEE 802.1Q): between the attachment and the instance, and between the instance and the network. */
export const terminalSideTag = (instance: number): number => 2 * instance;
export const networkSideTag = (instance: number): number => 2 * instance + 1;
