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

/** What the controller must hear on the way to the terminal, so that it learns the terminal's addresses. */
export interface Listening {
  /** Of the terminal in the configuration: what comes from it is told apart by it. */
  readonly index: number;
  /** DHCP replies wait in the controller. */
  readonly dhcp: boolean;
  /** IPv6 addresses that are being probed: what others say about them is copied. */
  readonly claims: readonly string[];
}

export interface TerminalView {
  /** Its name and MAC: steering does not depend on addresses. */
  readonly terminal: Pick<Terminal, 'name' | 'mac'>;
  /** In the configuration. */
  readonly index: number;
  /** Nothing: it has the addresses of its configuration only. */
  readonly listening?: Listening;
  /**
   * The ports where it is, of which the first is its *primary* attachment: what is for the terminal leaves there. What comes from it is
   * led into its instance from every one.
   */
  readonly attachments: readonly Attachment[];
  /** Does the controller hear of it when the terminal sends by another than its primary attachment? */
  readonly watched: boolean;
  /** All instances with a way to them: the active one, one being prepared, one that drains. */
  readonly paths: readonly Path[];
  /** Where the terminal's traffic is led: through the instance of this number, into the controller, which holds it, or nowhere. */
  readonly led: number | 'held' | undefined;
}

/** One of which nothing is known yet. */
export function unseen(terminal: Pick<Terminal, 'name' | 'mac'>, index: number): TerminalView {
  return { terminal, index, attachments: [], watched: true, paths: [], led: undefined };
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

/** Register 1 of frames that are held: above all numbers of instances. */
export const heldNumber = ({ index }: TerminalView): number => 0x1_0000 + index;

/** Register 1 of what is led into an instance now. */
export function ledNumber(view: TerminalView): number | undefined {
  return view.led === 'held' ? heldNumber(view) : view.led;
}
