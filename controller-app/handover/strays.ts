/**
 * Strays: instances in a domain that nobody counts with. An earlier controller left them there, or they were given up while their domain was silent.
 *
 * A terminal's first instance begins with what the latest of them holds. The others go when their domain can be reached again, and in any case before
 * something new is built there: a domain refuses calls of older epochs afterwards.
 */
import type { Domain } from '../../shared/domain/domain.js';
import type { Epoch, FirewallState } from '../../shared/firewall/state.js';
import { messageOf } from '../../shared/runtime/message-of.js';
import { withTerminal } from './addresses.js';
import type { FirewallRecord } from './firewall-record.js';
import type { Instances } from './instances.js';
import type { CoordinatorOptions } from './options.js';
import type { Placed } from './placed.js';

export interface StraysParts {
  readonly options: CoordinatorOptions;
  readonly instances: Instances;
  readonly records: ReadonlyMap<string, FirewallRecord>;
}

export class Strays {
  /** Of whom nothing is left in a domain, by its name, since it was last reached anew. */
  readonly #cleared = new Map<string, Set<FirewallRecord>>();

  constructor(readonly parts: StraysParts) {}

  /** Of a terminal without an active instance, in all domains that answer. */
  async of(record: FirewallRecord): Promise<readonly Placed[]> {
    const found: Placed[] = [];
    for (const domain of this.parts.options.domains.values())
      found.push(...(await straysOf(record, domain).catch(() => [])));
    return found;
  }

  /**
   * The state of the latest, with the policy that holds now: its connections go on, and the addresses that the terminal had learnt are its own as far
   * as they are still allowed. Undefined when there is none that says what it holds.
   */
  async inherited(record: FirewallRecord, strays: readonly Placed[]): Promise<FirewallState | undefined> {
    const latest = strays.toSorted((a, b) => b.id.epoch - a.id.epoch)[0];
    if (!latest) return undefined;
    try {
      const found = await latest.domain.export(latest.id);
      record.terminal = this.parts.options.reclaim(found.terminal);
      return { ...withTerminal(found, record.terminal), policy: record.policy };
    } catch (error) {
      this.parts.instances.complain(latest, error);
      return undefined;
    }
  }

  /** Before a standby is built there. Fails as the domain does. */
  async clear(record: FirewallRecord, domain: Domain): Promise<void> {
    const cleared = this.#cleared.get(domain.name) ?? new Set<FirewallRecord>();
    this.#cleared.set(domain.name, cleared);
    if (cleared.has(record)) return;
    for (const stray of await straysOf(record, domain)) await this.parts.instances.remove(stray);
    cleared.add(record);
  }

  /** The domain can be reached again. Where something is being built, or not even one instance is active, `clear` and whoever places it do it. */
  back(domain: Domain): void {
    const { instances, options } = this.parts;
    this.#cleared.delete(domain.name);
    instances.inBackground(
      this.#sweep(domain).catch((error: unknown) => {
        options.log.warn({ domain: domain.name, error: messageOf(error) }, 'not looked through');
      }),
    );
  }

  async #sweep(domain: Domain): Promise<void> {
    const { instances, records } = this.parts;
    for (const { terminal, epoch } of (await domain.health()).instances) {
      const record = records.get(terminal);
      if (record && (!isSettled(record, domain) || isCountedWith(record, domain, epoch))) continue;
      instances.removeInBackground({ domain, id: { terminal, epoch } });
    }
  }
}

async function straysOf(record: FirewallRecord, domain: Domain): Promise<readonly Placed[]> {
  const { instances } = await domain.health();
  const own = instances.filter(({ terminal }) => terminal === record.terminal.name);
  for (const { epoch } of own) record.noteEpoch(epoch);
  return own
    .filter(({ epoch }) => !isCountedWith(record, domain, epoch))
    .map(({ terminal, epoch }) => ({ domain, id: { terminal, epoch } }));
}

function isCountedWith({ active, standbys }: FirewallRecord, domain: Domain, epoch: Epoch): boolean {
  const isActive = active?.domain === domain && active.id.epoch === epoch;
  return isActive || standbys.get(domain.name)?.known?.id.epoch === epoch;
}

/** Is it known which instances there are to be, and is none of them being built there? */
function isSettled({ active, handover, standbys }: FirewallRecord, domain: Domain): boolean {
  const standby = standbys.get(domain.name);
  return active !== undefined && handover === undefined && (!standby || standby.known !== undefined);
}
