/**
 * The rules of one instance in its switch: what changes is stated, what stays is not touched. A policy may come to very many rules and an import to
 * very many connections, while the roles and generations of an instance change a few rules only.
 */
import type { InstanceId } from '../../../shared/domain/domain.js';
import type { Rule } from '../../core/rule.js';
import {
  adoptionRules,
  type FirewallInstance,
  firewallRules,
  INSTANCE_TABLES,
  instanceCookies,
  policyInForce,
  policyRules,
} from '../../pipeline/index.js';
import type { AdoptionSet } from './adoption-set.js';
import type { Place } from './host.js';

/** What the rules say, but for what the place of the instance and its adoption rules give. */
export type RuleModel = Omit<FirewallInstance, 'number' | 'adoption' | 'tables'>;

export class RulesInSwitch {
  readonly #place: Place & { readonly id: InstanceId };
  readonly #adoption: AdoptionSet;
  /** The groups of adoption rules that the core has, or is about to. */
  readonly #adoptionGroups = new Set<string>();
  #stated: RuleModel | undefined;

  constructor(place: Place & { readonly id: InstanceId }, adoption: AdoptionSet) {
    this.#place = place;
    this.#adoption = adoption;
  }

  /** Brings the switch to this model, in one bundle. Fails with the switch's error, and then nothing has changed. */
  async state(model: RuleModel): Promise<void> {
    const groups = new Map<string, readonly Rule[]>();
    const before = this.#stated;
    if (!before || !sameFirewall(before, model))
      groups.set(this.#group('rules'), firewallRules(this.#whole(model)));
    if (!before || policyInForce(before) !== policyInForce(model))
      groups.set(this.#group('policy'), policyRules(this.#whole(model)));
    await this.#set(groups, model);
    this.#stated = model;
  }

  /**
   * Only the adoption rules that are to be others. What another call states meanwhile goes in the bundle after it. Time: the connections that
   * have changed.
   */
  async adopt(model: RuleModel): Promise<void> {
    await this.#set(new Map(), model);
  }

  /** Takes all of them out. May be repeated. */
  async remove(): Promise<void> {
    const names = [this.#group('rules'), this.#group('policy'), ...this.#adoptionGroups];
    const { dpid, host, number } = this.#place;
    const sweeps = INSTANCE_TABLES.map((table) => ({ table, ...instanceCookies(number) }));
    await host.setGroups(dpid, new Map(names.map((name) => [name, []])), sweeps);
    this.#adoptionGroups.clear();
    this.#stated = undefined;
  }

  async #set(groups: Map<string, readonly Rule[]>, model: RuleModel): Promise<void> {
    const stale = this.#adoption.takeStale();
    for (const key of stale) {
      const adoption = this.#adoption.needing(key);
      const group = this.#group(`adoption ${key}`);
      groups.set(group, adoption.length > 0 ? adoptionRules(this.#whole(model, adoption)) : []);
      if (adoption.length > 0) this.#adoptionGroups.add(group);
      else this.#adoptionGroups.delete(group);
    }
    if (groups.size === 0) return;
    try {
      await this.#place.host.setGroups(this.#place.dpid, groups);
    } catch (error) {
      this.#adoption.giveBack(stale);
      // Those that were to go may still be there.
      for (const key of stale) this.#adoptionGroups.add(this.#group(`adoption ${key}`));
      throw error;
    }
  }

  #whole(model: RuleModel, adoption: FirewallInstance['adoption'] = []): FirewallInstance {
    const { host, number } = this.#place;
    const tables = {
      firewallCt: host.table('firewall-ct'),
      admit: host.table('admit'),
      deliver: host.table('deliver'),
    };
    return { ...model, number, adoption, tables };
  }

  #group(part: string): string {
    const { terminal, epoch } = this.#place.id;
    return `${terminal} ${epoch} ${part}`;
  }
}

/** Do they come to the same `firewallRules`? */
function sameFirewall(a: RuleModel, b: RuleModel): boolean {
  return (
    a.terminal === b.terminal &&
    a.generation === b.generation &&
    policyInForce(a) === policyInForce(b) &&
    a.admits === b.admits &&
    (a.role === 'draining') === (b.role === 'draining')
  );
}
