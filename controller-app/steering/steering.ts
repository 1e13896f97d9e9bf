/**
 * Steering, alive: keeps the view of terminals, instances and ports, and states the rules that follow from it on every switch.
 * A change settles when all the switches it concerns have confirmed it.
 */
import type { Dpid, Ends, InstanceId } from '../../shared/domain/domain.js';
import type { Terminal } from '../../shared/firewall/terminal.js';
import type { Clock } from '../../shared/runtime/clock.js';
import type { Log } from '../../shared/runtime/log.js';
import type { InstanceNumbers } from '../core/instance-numbers.js';
import type { Rule } from '../core/plugin.js';
import { SteeringError } from './errors.js';
import { type FrameTaker, Holding } from './holding.js';
import { SwitchPorts } from './ports.js';
import { pathGroup, steeringRules } from './rules.js';
import { StagedLeads, type StagedRules } from './staged-lead.js';
import { StatedGroups } from './stated.js';
import type { Topology } from './topology.js';
import {
  type Attachment,
  type Listening,
  type Path,
  type SteeringView,
  type TerminalView,
  unseen,
} from './view.js';
import type { SteeringTables } from './words.js';

/** What steering needs of the core. */
export interface SteeringHost {
  setGroups(dpid: Dpid, groups: ReadonlyMap<string, readonly Rule[]>): Promise<void>;
  /** Sends them without effect. Never fails. */
  stageGroups(dpid: Dpid, groups: ReadonlyMap<string, readonly Rule[]>): Promise<StagedRules>;
  /** The switch, if it is connected. */
  switch(dpid: Dpid): FrameTaker | undefined;
}

export interface SteeringOptions {
  readonly topology: Topology;
  readonly terminals: readonly Pick<Terminal, 'name' | 'mac'>[];
  readonly host: SteeringHost;
  readonly tables: SteeringTables;
  readonly numbers: InstanceNumbers;
  readonly clock: Clock;
  readonly log: Log;
}

/** What came of a change that does not wait for switches that are away. */
export interface TakenOver {
  /** Switches that have not confirmed: until they are back they may lead to the instance before. */
  readonly unconfirmed: readonly Dpid[];
}

export class Steering {
  readonly #options: SteeringOptions;
  readonly #views = new Map<string, TerminalView>();
  readonly #ports: SwitchPorts;
  readonly #stated = new Map<Dpid, StatedGroups>();
  readonly #staged = new StagedLeads();
  readonly #holding: Holding;

  constructor(options: SteeringOptions) {
    this.#options = options;
    const { terminals, topology, host, tables, clock, log } = options;
    for (const [index, terminal] of terminals.entries())
      this.#views.set(terminal.name, unseen(terminal, index));
    for (const dpid of topology.switches) this.#stated.set(dpid, new StatedGroups());
    this.#ports = new SwitchPorts(clock);
    this.#holding = new Holding({ enter: tables.enter, switch: (dpid) => host.switch(dpid), clock, log });
  }

  close(): void {
    this.#staged.close();
    this.#holding.close();
  }

  /** The ports of a switch whose link is up, as they are now. All rules are stated again: it may have come back. */
  async setPorts(dpid: Dpid, ports: ReadonlyMap<string, number>): Promise<void> {
    this.#staged.changed();
    this.#ports.set(dpid, ports);
    const groups = this.#groups(dpid, [...this.#views.values()]);
    await this.#stated.get(dpid)?.replace(groups, (all) => this.#options.host.setGroups(dpid, all));
  }

  /**
   * The ports where the terminal is; the first is the one where it gets what is for it. `watched`: the controller hears of it when the terminal
   * sends by another.
   */
  async setAttachments(terminal: string, attachments: readonly Attachment[], watched = true): Promise<void> {
    const before = this.#view(terminal).attachments;
    const joined = attachments.filter((at) => before.length > 0 && !before.includes(at));
    // A new link beside another is first the second everywhere: it is led to when every switch on the way knows it.
    const second = [...before, ...joined];
    if (joined.length > 0)
      await this.#change(terminal, (view) => ({ ...view, attachments: second, watched }));
    await this.#change(terminal, (view) =>
      joined.length > 0 && view.attachments !== second ? view : { ...view, attachments, watched },
    );
  }

  setListening(terminal: string, listening: Listening): Promise<void> {
    return this.#change(terminal, (view) => ({ ...view, listening }));
  }

  /** Makes an instance reachable; nothing is led to it yet. Fails when its ends are not on the switch. */
  async addPath(id: InstanceId, ends: Ends): Promise<void> {
    if (ends.kind === 'ports') {
      await this.#ports.known(ends.dpid, ends.terminalSide);
      await this.#ports.known(ends.dpid, ends.networkSide);
    }
    const path: Path = { number: this.#options.numbers.of(id, 'steering'), ends };
    await this.#change(id.terminal, (view) => ({
      ...view,
      paths: [...view.paths.filter(({ number }) => number !== path.number), path],
    }));
  }

  /**
   * Leads a terminal's traffic as an earlier controller did: for before the switches connect. Nothing is waited for: what a switch has of it already
   * stays as it is, and what it has not it gets when it comes.
   */
  restore(id: InstanceId, number: number, ends: Ends): void {
    this.#options.numbers.restore(id, number, 'steering');
    this.#see({ ...this.#view(id.terminal), paths: [{ number, ends }], led: number });
  }

  /**
   * Sends the switches what will lead the terminal's traffic through this instance, without any effect: `setActive` or `takeOver` of it is one message then. Of no use
   * any more when something of the terminal changes, or other things do and with them those rules, or some seconds pass; then they do as without it. Never fails.
   */
  async stage(id: InstanceId): Promise<void> {
    const { terminal } = id;
    const { host, numbers } = this.#options;
    const number = numbers.known(id);
    const view = this.#views.get(terminal);
    if (number === undefined || !view?.paths.some((path) => path.number === number)) return;
    const lead = this.#staged.begin(terminal, number);
    const groups = this.#groupsFor({ ...view, led: number });
    await Promise.all(
      [...this.#stated].map(([dpid, stated]) =>
        lead.send(dpid, stated, groups(dpid), (differing) => host.stageGroups(dpid, differing)),
      ),
    );
  }

  /**
   * From now on the terminal's traffic is led through this instance, which must admit: the switch. What was held goes through it, too. Fails
   * with `not-connected` when a switch could not confirm it, where the terminal or one of its instances is; nothing has changed then.
   */
  async setActive(id: InstanceId): Promise<void> {
    const [away] = this.#away(id.terminal);
    if (away !== undefined) {
      throw new SteeringError(
        'not-connected',
        `switch ${away} is not connected and could not confirm where ${id.terminal}'s traffic goes: bring it back, then try again`,
      );
    }
    await this.#lead(id, CONFIRMED);
  }

  /**
   * Like `setActive`, but does not wait for switches that are away: for when the instance before has died, or its domain is out of reach.
   * Settles when the others have confirmed. Those that are named have not: should they still forward, they may go on leading to the instance
   * before, so whoever relies on that one admitting nothing must wait until its lease has run out. Once they are back they are brought in line before
   * anything else, in the one bundle with which they get all their rules. Fails when a switch that is there refuses.
   */
  async takeOver(id: InstanceId): Promise<TakenOver> {
    const { topology, host } = this.#options;
    const unconfirmed = new Set(topology.switches.filter((dpid) => host.switch(dpid) === undefined));
    await this.#lead(id, (dpid, stating) => this.#unlessAway(dpid, stating, () => unconfirmed.add(dpid)));
    return { unconfirmed: [...unconfirmed] };
  }

  /**
   * Nothing leads to any instance of the terminal until `setActive` or `takeOver`: what would enter one waits in the controller, within bounds,
   * and goes through the instance that is active then (see holding.ts). Does not wait for switches that are away.
   */
  async hold(terminal: string): Promise<void> {
    this.#holding.begin(terminal);
    await this.#change(
      terminal,
      (view) => ({ ...view, led: 'held' }),
      (dpid, stating) => this.#unlessAway(dpid, stating),
    );
  }

  /** A frame of the terminal with this index in the configuration, that a rule sent to be held. */
  heldFrame(dpid: Dpid, index: number, side: number, data: Uint8Array): void {
    for (const view of this.#views.values()) {
      if (view.index !== index) continue;
      const led = typeof view.led === 'number' ? view.led : undefined;
      this.#holding.frame(view.terminal.name, { dpid, side, data }, led);
    }
  }

  /** How many frames of the terminal wait. */
  holds(terminal: string): number {
    return this.#holding.size(terminal);
  }

  /** Nothing leads to the instance any more, and its number is free for another once its domain has no use for it either. */
  async removePath(id: InstanceId): Promise<void> {
    const { numbers } = this.#options;
    const number = numbers.known(id);
    if (number === undefined) return;
    await this.#change(id.terminal, (view) => ({
      ...view,
      paths: view.paths.filter((path) => path.number !== number),
      led: view.led === number ? undefined : view.led,
    }));
    numbers.release(id, 'steering');
  }

  async #lead(id: InstanceId, settle: Settle): Promise<void> {
    const { terminal } = id;
    const number = this.#options.numbers.known(id);
    if (number === undefined || !this.#view(terminal).paths.some((path) => path.number === number)) {
      throw new SteeringError('no-path', `no path leads to the instance of ${terminal} in epoch ${id.epoch}`);
    }
    await this.#holding.release(terminal, number);
    const { switches } = this.#options.topology;
    const led = { ...this.#view(terminal), led: number };
    const staged = this.#staged.take(terminal, number, switches, this.#groupsFor(led));
    if (staged) {
      this.#see(led);
      await Promise.all(switches.map((dpid) => settle(dpid, staged.state(dpid))));
    } else await this.#change(terminal, (view) => ({ ...view, led: number }), settle);
    this.#holding.end(terminal);
  }

  /** A terminal is seen otherwise, and what was staged follows from what was. */
  #see(view: TerminalView): void {
    this.#staged.changed(view.terminal.name);
    this.#views.set(view.terminal.name, view);
  }

  async #change(
    terminal: string,
    update: (view: TerminalView) => TerminalView,
    settle: Settle = CONFIRMED,
  ): Promise<void> {
    const before = this.#view(terminal);
    const updated = update(before);
    this.#see(updated);
    const gone = before.paths.filter(({ number }) => !updated.paths.some((path) => path.number === number));
    const { topology, host } = this.#options;
    const state = async (dpid: Dpid): Promise<void> => {
      const groups = this.#groups(dpid, [updated]);
      for (const path of gone) groups.set(pathGroup(terminal, path), []);
      await this.#stated.get(dpid)?.change(groups, (differing) => host.setGroups(dpid, differing));
    };
    await Promise.all(topology.switches.map((dpid) => settle(dpid, state(dpid))));
  }

  #view(terminal: string): TerminalView {
    const view = this.#views.get(terminal);
    if (!view) throw new SteeringError('no-path', `there is no terminal ${terminal}`);
    return view;
  }

  /** What a switch would be told if the terminal were seen so. */
  #groupsFor(view: TerminalView): (dpid: Dpid) => Map<string, Rule[]> {
    const views = new Map(this.#views).set(view.terminal.name, view);
    return (dpid) => this.#groups(dpid, [view], views);
  }

  #groups(
    dpid: Dpid,
    changed: readonly TerminalView[],
    views: ReadonlyMap<string, TerminalView> = this.#views,
  ): Map<string, Rule[]> {
    const { topology, tables } = this.#options;
    const view: SteeringView = { topology, terminals: [...views.values()], ports: this.#ports.all };
    return steeringRules(view, dpid, tables, changed);
  }

  /**
   * The switches where the terminal and its instances are must confirm what is led where. Another one that is away goes on leading to the
   * old instance, which passes what it knows until its path is removed, and then nothing.
   */
  #away(terminal: string): readonly Dpid[] {
    const { attachments, paths } = this.#view(terminal);
    const concerned = [...attachments.map(({ dpid }) => dpid), ...paths.map(({ ends }) => ends.dpid)];
    return concerned.filter((dpid) => this.#options.host.switch(dpid) === undefined);
  }

  /** A switch that has gone meanwhile has not failed: it is brought in line when it is back. */
  #unlessAway(dpid: Dpid, stating: Promise<void>, onAway: () => void = () => {}): Promise<void> {
    return stating.catch((error: unknown) => {
      if (this.#options.host.switch(dpid) !== undefined) throw error;
      onAway();
    });
  }
}

/** What is to be waited for of one switch. */
type Settle = (dpid: Dpid, stating: Promise<void>) => Promise<void>;
const CONFIRMED: Settle = (_, stating) => stating;
