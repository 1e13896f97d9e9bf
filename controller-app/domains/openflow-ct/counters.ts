/**
 * How many opening packets each rule of a policy decided: what was imported, and what this switch counted since.
 */
import { DEFAULT_NAMES, type Policy } from '../../../shared/firewall/policy.js';
import { countersFor } from '../../../shared/firewall/reduce.js';
import type { RuleCounter } from '../../../shared/firewall/state.js';
import {
  DEFAULT_INBOUND,
  DEFAULT_OUTBOUND,
  type Kind,
  policyCookies,
  unpackCookie,
} from '../../pipeline/index.js';
import type { Count, Place } from './host.js';

const COUNTED: ReadonlySet<string> = new Set<Kind>(['opening', 'refused', 'rejected']);

/** The counts of one instance's policy rules, by rule name, out of those of a whole table. */
export function policyCounts(
  policy: Policy,
  instance: number,
  table: ReadonlyMap<number, Count>,
): Map<string, Count> {
  const counts = new Map<string, Count>();
  for (const [bits, count] of table) {
    const cookie = unpackCookie(bits);
    if (cookie?.instance !== instance || !COUNTED.has(cookie.kind)) continue;
    const name = ruleName(policy, cookie.policyRule);
    if (name !== undefined) counts.set(name, plus(counts.get(name), count));
  }
  return counts;
}

function ruleName(policy: Policy, index: number): string | undefined {
  if (index === DEFAULT_OUTBOUND) return DEFAULT_NAMES.outbound;
  if (index === DEFAULT_INBOUND) return DEFAULT_NAMES.inbound;
  return policy.rules[index]?.name;
}

export class PolicyCounters {
  #base: readonly RuleCounter[];
  /** What the switch's rules showed when they began to count for this policy. */
  #offset: ReadonlyMap<string, Count> = new Map();
  #latest: ReadonlyMap<string, Count> = new Map();

  constructor(policy: Policy, imported: readonly RuleCounter[]) {
    this.#base = countersFor(policy, imported);
  }

  /** What an earlier controller kept: its rules have counted on. */
  resume(offset: readonly RuleCounter[]): void {
    this.#offset = new Map(offset.map(({ rule, packets, bytes }) => [rule, { packets, bytes }]));
    this.#latest = this.#offset;
  }

  /** What is needed to go on with what the switch's rules count. */
  get kept(): { readonly counted: readonly RuleCounter[]; readonly offset: readonly RuleCounter[] } {
    return {
      counted: this.#base,
      offset: [...this.#offset].map(([rule, { packets, bytes }]) => ({ rule, packets, bytes })),
    };
  }

  /** What the switch shows now. */
  read(counts: ReadonlyMap<string, Count>): void {
    this.#latest = counts;
  }

  /** The rules are about to go or to be others: what they counted becomes history. */
  fold(policy: Policy): void {
    this.#base = countersFor(policy, this.total());
    this.#latest = new Map();
    this.#offset = new Map();
  }

  /** After `fold`: rules that stayed in the switch have kept what they counted. */
  begin(counts: ReadonlyMap<string, Count>): void {
    this.#offset = counts;
    this.#latest = counts;
  }

  total(): RuleCounter[] {
    return this.#base.map(({ rule, packets, bytes }) => {
      const now = this.#latest.get(rule);
      const before = this.#offset.get(rule);
      // A switch that was started again counts from zero.
      const since = (current = 0, offset = 0): number => (current >= offset ? current - offset : current);
      return {
        rule,
        packets: packets + since(now?.packets, before?.packets),
        bytes: bytes + since(now?.bytes, before?.bytes),
      };
    });
  }
}

/** The policy in force in a switch, with its counts read from there. */
export class CountedPolicy {
  readonly #place: Place;
  readonly #counters: PolicyCounters;
  #policy: Policy;

  constructor(place: Place, policy: Policy, imported: readonly RuleCounter[]) {
    this.#place = place;
    this.#policy = policy;
    this.#counters = new PolicyCounters(policy, imported);
  }

  resume(offset: readonly RuleCounter[]): void {
    this.#counters.resume(offset);
  }

  get kept(): PolicyCounters['kept'] {
    return this.#counters.kept;
  }

  /** Takes what the switch shows now. Counters are worth no failure: without the switch they are what they were. */
  async read(): Promise<void> {
    if (this.#place.host.connected(this.#place.dpid)) this.#counters.read(await this.#inSwitch());
  }

  /** The rules have gone: what they counted is history. */
  fold(): void {
    this.#counters.fold(this.#policy);
  }

  /** Another policy, whose rules are in the switch now unless `inForce` is false. */
  async replace(policy: Policy, inForce: boolean): Promise<void> {
    this.#policy = policy;
    this.#counters.fold(policy);
    if (inForce) this.#counters.begin(await this.#inSwitch());
  }

  total(): RuleCounter[] {
    return this.#counters.total();
  }

  async #inSwitch(): Promise<Map<string, Count>> {
    const { host, dpid, number } = this.#place;
    if (!host.connected(dpid)) return new Map();
    const table = await host.counters(dpid, 'firewall-ct', policyCookies(number));
    return policyCounts(this.#policy, number, table);
  }
}

function plus(a: Count | undefined, b: Count): Count {
  return { packets: (a?.packets ?? 0) + b.packets, bytes: (a?.bytes ?? 0) + b.bytes };
}
