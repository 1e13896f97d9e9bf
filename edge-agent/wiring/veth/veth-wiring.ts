/**
 * Ends that are veth pairs, wired as in a patch panel: the switch's ports are jacks (jacks.ts), each instance has cords (cords.ts), and in the panel (panel.ts)
 * the agent plugs the ones into the others.
 */
import { createHash } from 'node:crypto';
import type { Dpid } from '../../../shared/domain/domain.js';
import { END_PORT_PREFIX } from '../../../shared/domain/ends.js';
import type { Log } from '../../../shared/runtime/log.js';
import { Unfinished } from '../../unfinished.js';
import type { Wires, Wiring } from '../wiring.js';
import { explain } from './explain.js';
import { Jacks } from './jacks.js';
import { KEPT_LIMITS, KeptJacks } from './kept-jacks.js';
import { LinkWatch } from './link-watch.js';
import { removeLinks, vethLinks } from './links.js';
import { Panel } from './panel.js';
import { SwitchPorts, type SwitchPortsOptions } from './switch-ports.js';
import { VethWires } from './veth-wires.js';

export interface VethWiringOptions extends SwitchPortsOptions {
  readonly log: Log;
  /** How long ends that an instance had rest before another may have them, in ms. Default 10,000. */
  readonly restMs?: number;
}

export class VethWiring implements Wiring {
  readonly #prefix: string;
  readonly #ports: SwitchPorts;
  readonly #unfinished: Unfinished;
  readonly #watch: LinkWatch;
  readonly #kept: KeptJacks<Jacks>;
  #panel: Promise<Panel> | undefined;
  #dpid: Dpid | undefined;
  #next = 1;

  constructor(private readonly options: VethWiringOptions) {
    this.#ports = new SwitchPorts(options);
    this.#unfinished = new Unfinished(options.log);
    this.#watch = new LinkWatch(options.log);
    this.#prefix = namePrefix(options.agent);
    const { restMs = KEPT_LIMITS.restMs } = options;
    this.#kept = new KeptJacks(() => performance.now(), { ...KEPT_LIMITS, restMs });
  }

  get #alias(): string {
    return `paguro-agent/${this.options.agent}`;
  }

  async check(): Promise<Dpid> {
    this.#dpid = await this.#ports.dpid();
    return this.#dpid;
  }

  async create(): Promise<Wires> {
    const kept = await this.#kept.take();
    const jacks = kept ?? (await this.#new());
    const wires = new VethWires(jacks, (back) => this.#kept.keep(back));
    try {
      if (!kept) await jacks.make();
      await wires.watch();
      return wires;
    } catch (error) {
      await jacks.remove();
      throw explain(error);
    }
  }

  async #new(): Promise<Jacks> {
    const dpid = this.#dpid ?? (await this.check());
    this.#panel ??= Panel.open(this.options.log).catch((error: unknown) => {
      this.#panel = undefined;
      throw error;
    });
    const panel = await this.#panel;
    const number = this.#next++;
    return new Jacks(
      {
        dpid,
        names: [`${this.#prefix}t${number}`, `${this.#prefix}n${number}`],
        alias: this.#alias,
        panel,
        ports: this.#ports,
        watch: this.#watch,
      },
      (act) => this.#unfinished.undo('the ends of an instance', act),
    );
  }

  async removeLeftovers(): Promise<void> {
    const ports = await this.#ports.all();
    await this.#ports.remove(ports);
    const links = (await vethLinks()).filter(({ ifname, ifalias }) => this.#isOurs(ifname, ifalias));
    await removeLinks(links.map(({ ifname }) => ifname));
    if (ports.length + links.length > 0) {
      this.options.log.info({ ports: ports.length, links: links.length }, 'removed ends of an earlier run');
    }
  }

  async close(): Promise<void> {
    await this.#kept.close();
    await this.#unfinished.finish();
    const panel = await this.#panel;
    this.#panel = undefined;
    await panel?.close();
  }

  /** Another agent's name may have the same digits; one that was killed may not have come to the alias. */
  #isOurs(name: string, alias: string = this.#alias): boolean {
    return (
      name.startsWith(this.#prefix) &&
      /^[tn]\d+$/.test(name.slice(this.#prefix.length)) &&
      alias === this.#alias
    );
  }
}

/** `pg`, four hexadecimal digits of the agent's name: two agents on one machine don't take each other's ports. At most 15 characters with side and number. */
function namePrefix(agent: string): string {
  return `${END_PORT_PREFIX}${createHash('sha256').update(agent).digest('hex').slice(0, 4)}`;
}
