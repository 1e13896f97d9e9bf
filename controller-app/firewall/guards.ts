/**
 * Keeps the guards of the terminals' ports, and what is heard on the way to them, in line with where the terminals are and which addresses they have.
 */
import type { Dpid } from '../../shared/domain/domain.js';
import type { PluginHost, Rule } from '../core/plugin.js';
import { guardRules } from '../pipeline/index.js';
import type { Steering } from '../steering/steering.js';
import type { Attachment, Listening } from '../steering/view.js';
import type { LearnRules } from '../terminals/address-book.js';
import type { AddressLearning } from '../terminals/address-learning.js';

export interface GuardsOptions {
  readonly host: PluginHost;
  readonly steering: Steering;
  readonly addresses: AddressLearning;
  /** In the order of the configuration. */
  readonly terminals: readonly { readonly name: string; readonly learn: LearnRules }[];
  attachments(terminal: string): readonly Attachment[];
}

export class Guards {
  /** The switches that have a guard of a terminal, by its name. */
  readonly #on = new Map<string, ReadonlySet<Dpid>>();

  constructor(readonly options: GuardsOptions) {}

  /** States what holds for this terminal now, on every switch that it concerns. Settles when they have confirmed. */
  async bring(name: string): Promise<void> {
    const { host, steering, addresses } = this.options;
    const attachments = this.options.attachments(name);
    const here = new Set(attachments.map(({ dpid }) => dpid));
    const concerned = new Set([...here, ...(this.#on.get(name) ?? [])]);
    this.#on.set(name, here);
    const listening = this.listening(name);
    await Promise.all([
      ...[...concerned].map((dpid) => host.setRules(dpid, `guard ${name}`, this.#rules(name, dpid))),
      attachments.length > 0 && addresses.learns(name) && steering.setListening(name, listening),
    ]);
  }

  listening(name: string): Listening {
    const { terminals, addresses } = this.options;
    const index = terminals.findIndex((terminal) => terminal.name === name);
    return { index, dhcp: this.#learn(name).ipv4.length > 0, claims: addresses.book.tentative(name) };
  }

  #rules(name: string, dpid: Dpid): Rule[] {
    const { host, addresses, attachments } = this.options;
    const { book } = addresses;
    const { index, dhcp } = this.listening(name);
    const learning = {
      ...{ index, dhcp, prefixes: this.#learn(name).ipv6 },
      ...{ tentative: book.tentative(name), slots: book.slots(name) },
    };
    return attachments(name)
      .filter((at) => at.dpid === dpid)
      .flatMap(({ port }) => guardRules(book.present(name), port, host.table('enter'), learning));
  }

  #learn(name: string): LearnRules {
    return this.options.terminals.find((terminal) => terminal.name === name)?.learn ?? { ipv4: [], ipv6: [] };
  }
}
