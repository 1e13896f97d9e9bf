/**
 * Steering, alive: keeps the view of terminals, instances and ports, and states the rules that follow from it on every switch.
 * A change settles when all the switches it concerns have confirmed it.
 */
import type { Dpid, Ends, InstanceId } from '../../shared/domain/domain.js';
import type { Terminal } from '../../shared/firewall/terminal.js';
import type { InstanceNumbers } from '../core/instance-numbers.js';
import type { Rule } from '../core/plugin.js';
import { type SteeringTables, steeringRules } from './rules.js';
import type { Topology } from './topology.js';
import type { Attachment, Listening, Path, SteeringView, TerminalView } from './view.js';

/** What steering needs of the core. */
export interface SteeringHost {
  setGroups(dpid: Dpid, groups: ReadonlyMap<string, readonly Rule[]>): Promise<void>;
  /** The switch, if it is connected. */
  switch(dpid: Dpid): unknown;
}

/** `message` says what to do. */
export class SteeringError extends Error {
  override readonly name = 'SteeringError';
  constructor(
    readonly code: 'no-port' | 'no-path' | 'not-connected',
    message: string,
  ) {
    super(message);
  }
}

/** How long an end's port may take to be announced by its switch after the domain said that it is there. */
const PORT_WAIT_MS = 5_000;

export class Steering {
  readonly #views = new Map<string, TerminalView>();
  readonly #ports = new Map<Dpid, ReadonlyMap<string, number>>();
  readonly #portWaiters = new Set<() => void>();

  constructor(
    readonly topology: Topology,
    terminals: readonly Pick<Terminal, 'name' | 'mac'>[],
    readonly host: SteeringHost,
    readonly tables: SteeringTables,
    readonly numbers: InstanceNumbers,
  ) {
    for (const terminal of terminals) {
      this.#views.set(terminal.name, { terminal, attachment: undefined, paths: [], active: undefined });
    }
  }

  /** The ports of a switch whose link is up, as they are now. */
  async setPorts(dpid: Dpid, ports: ReadonlyMap<string, number>): Promise<void> {
    this.#ports.set(dpid, ports);
    for (const wake of [...this.#portWaiters]) wake();
    await this.#state([dpid]);
  }

  setAttachment(terminal: string, attachment: Attachment | undefined): Promise<void> {
    return this.#change(terminal, (view) => ({ ...view, attachment }));
  }

  setListening(terminal: string, listening: Listening): Promise<void> {
    return this.#change(terminal, (view) => ({ ...view, listening }));
  }

  /** Makes an instance reachable; nothing is led to it yet. Fails when its ends are not on the switch. */
  async addPath(id: InstanceId, ends: Ends): Promise<void> {
    if (ends.kind === 'ports') {
      await this.#portKnown(ends.dpid, ends.terminalSide);
      await this.#portKnown(ends.dpid, ends.networkSide);
    }
    const path: Path = { number: this.numbers.of(id, 'steering'), ends };
    await this.#change(id.terminal, (view) => ({
      ...view,
      paths: [...view.paths.filter(({ number }) => number !== path.number), path],
    }));
  }

  /** From now on the terminal's traffic is led through this instance: the switch. */
  async setActive(id: InstanceId): Promise<void> {
    const number = this.numbers.known(id);
    this.#mustConfirm(id.terminal);
    await this.#change(id.terminal, (view) => {
      if (number === undefined || !view.paths.some((path) => path.number === number)) {
        throw new SteeringError(
          'no-path',
          `no path leads to the instance of ${id.terminal} in epoch ${id.epoch}`,
        );
      }
      return { ...view, active: number };
    });
  }

  /** Nothing leads to any instance of the terminal until `setActive`. */
  hold(terminal: string): Promise<void> {
    return this.#change(terminal, (view) => ({ ...view, active: undefined }));
  }

  /** Nothing leads to the instance any more, and its number is free for another once its domain has no use for it either. */
  async removePath(id: InstanceId): Promise<void> {
    const number = this.numbers.known(id);
    if (number === undefined) return;
    await this.#change(id.terminal, (view) => ({
      ...view,
      paths: view.paths.filter((path) => path.number !== number),
      active: view.active === number ? undefined : view.active,
    }));
    this.numbers.release(id, 'steering');
  }

  async #change(terminal: string, update: (view: TerminalView) => TerminalView): Promise<void> {
    const view = this.#views.get(terminal);
    if (!view) throw new SteeringError('no-path', `there is no terminal ${terminal}`);
    const updated = update(view);
    this.#views.set(terminal, updated);
    await this.#state(this.topology.switches, [updated]);
  }

  async #state(dpids: readonly Dpid[], changed?: readonly TerminalView[]): Promise<void> {
    const view: SteeringView = {
      topology: this.topology,
      terminals: [...this.#views.values()],
      ports: this.#ports,
    };
    await Promise.all(
      dpids.map((dpid) => this.host.setGroups(dpid, steeringRules(view, dpid, this.tables, changed))),
    );
  }

  /**
   * The switches where the terminal and its instances are must confirm what is led where. Another one that is away goes on leading to the
   * old instance, which passes what it knows until its path is removed, and then nothing.
   */
  #mustConfirm(terminal: string): void {
    const view = this.#views.get(terminal);
    const concerned = [view?.attachment?.dpid, ...(view?.paths.map(({ ends }) => ends.dpid) ?? [])];
    for (const dpid of concerned) {
      if (dpid === undefined || this.host.switch(dpid) !== undefined) continue;
      throw new SteeringError(
        'not-connected',
        `switch ${dpid} is not connected and could not confirm where ${terminal}'s traffic goes: bring it back, then try again`,
      );
    }
  }

  #portKnown(dpid: Dpid, name: string): Promise<void> {
    const known = (): boolean => this.#ports.get(dpid)?.has(name) ?? false;
    if (known()) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#portWaiters.delete(check);
      };
      const check = (): void => {
        if (!known()) return;
        done();
        resolve();
      };
      const timer = setTimeout(() => {
        done();
        const problem = `switch ${dpid} has no port ${name} with its link up: is the agent's bridge that switch, and is it connected?`;
        reject(new SteeringError('no-port', problem));
      }, PORT_WAIT_MS);
      this.#portWaiters.add(check);
    });
  }
}
