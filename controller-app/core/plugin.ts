/**
 * What a plugin is to the controller core. A plugin owns named tables and one class of cookies; it states the rules it wants
 * on a switch, and the core brings the switch there. A frame goes on from one plugin to the next by goto.
 *
 * Tables are numbered in the order of their stages, and within a stage in the order of the configuration:
 *   classify  where did this frame come from           (steering)
 *   ingress   frames of hosts that are no terminals    (the learning switch looks at sources)
 *   firewall  frames between a terminal and its firewall
 *   network   frames on the network side: of hosts, or filtered      (a user's plugin, unless it says otherwise)
 *   forward   where frames go                          (the learning switch looks at destinations)
 *   egress    how they leave                           (steering: tags on trunks)
 */
import type { Dpid } from '../../shared/domain/domain.js';
import type { Log } from '../../shared/runtime/log.js';
import type { FlowRemovedMessage, PacketInMessage } from '../openflow/index.js';
import type { Port, Switch } from '../switch/index.js';
import type { Rule } from './rule.js';
import type { StagedChange } from './staged-change.js';

export type { Rule };

export const STAGES = ['classify', 'ingress', 'firewall', 'network', 'forward', 'egress'] as const;
export type Stage = (typeof STAGES)[number];

/** The rules of one table whose own cookie bits under `mask` are `value`. */
export interface Sweep {
  readonly table: string;
  readonly value: number;
  readonly mask: number;
}

/** What a plugin may ask of the core. Everything in it concerns this plugin's own tables and cookies only. */
export interface PluginHost {
  readonly log: Log;
  /** The number of a table of any plugin, by name. */
  table(name: string): number;
  /** The first table of a stage that is not before `stage` and has tables: where to send frames on to. */
  entry(stage: Stage): number;
  /** The table after this one, in the whole pipeline. */
  after(table: string): number;
  /** Connected switches whose pipeline is in place. */
  switches(): readonly Switch[];
  switch(dpid: Dpid): Switch | undefined;
  /**
   * States the rules of one group (a name of the plugin's own) on a switch, replacing what the group had. The difference goes out as one
   * atomic bundle; the promise settles when the switch has confirmed it. For a switch that is not connected the rules
   * are remembered and go out when it comes. Fails with the switch's error; then the switch has none of the change. Changes that come while another is
   * under way go together; when too many wait, more fail with CoreError `busy`.
   */
  setRules(dpid: Dpid, group: string, rules: readonly Rule[]): Promise<void>;
  /**
   * Like `setRules` for several groups of one switch, in one bundle. An empty list removes a group. `sweeps` say how very many rules that leave with this
   * change are told from those that stay; it means nothing else.
   */
  setGroups(
    dpid: Dpid,
    groups: ReadonlyMap<string, readonly Rule[]>,
    sweeps?: readonly Sweep[],
  ): Promise<void>;
  /**
   * Sends a switch what `setGroups` of these groups would, but without effect: the change that is returned, when stated, takes one message if nothing has
   * come between that makes a difference, and goes like any other if something has. Never fails; what is wrong is told when it is stated.
   */
  stageGroups(dpid: Dpid, groups: ReadonlyMap<string, readonly Rule[]>): Promise<StagedChange>;
  /**
   * Packets and bytes of this plugin's rules in a table, by the plugin's own cookie bits. `of`: only rules whose own
   * cookie bits under `mask` are `value`; the switch then sends no others.
   */
  counters(
    dpid: Dpid,
    table: string,
    of?: { readonly value: number; readonly mask: number },
  ): Promise<ReadonlyMap<number, { readonly packets: number; readonly bytes: number }>>;
}

export interface PacketIn {
  readonly switch: Switch;
  readonly table: string;
  /** The plugin's own 32 bits of the cookie of the rule that sent it. */
  readonly cookie: number;
  readonly message: PacketInMessage;
}

export interface Plugin {
  readonly name: string;
  /** In the order in which frames meet them. */
  readonly tables: readonly { readonly name: string; readonly stage: Stage }[];
  /** Once, before any switch. */
  start(host: PluginHost): void | Promise<void>;
  /** A switch is connected and known to the core. State the rules it must have; they go out with those of the other plugins, in one bundle. */
  switchUp?(sw: Switch): void;
  /**
   * After `switchUp`, the first time that a switch comes: rules of this plugin which an earlier controller left in it and which nobody states. Those that
   * are stated before this returns stay as they are, and their counters go on; the others are removed. What a plugin knows by itself it has stated before.
   */
  found?(sw: Switch, rules: readonly Rule[]): void;
  /** A switch of which `switchUp` was told is gone, whether its pipeline had been in place or not. */
  switchDown?(dpid: Dpid): void;
  /** A packet that a rule of this plugin sent to the controller. None come while very many changes of the plugin wait for that switch. */
  packetIn?(event: PacketIn): void;
  portChange?(sw: Switch, port: Port, reason: 'added' | 'modified' | 'deleted'): void;
  flowRemoved?(sw: Switch, message: FlowRemovedMessage): void;
  close?(): void | Promise<void>;
}
