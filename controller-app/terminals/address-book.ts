/**
 * Which addresses each terminal has: those of its configuration, and those that it has learnt within the prefixes that its configuration
 * allows. An address is one terminal's at most. Pure but for what it remembers; times are monotonic ms.
 *
 * How an address is come by:
 *   fixed  the configuration says so; it never goes
 *   dhcp   a server gave it for a time; it goes when that is over, given back or denied
 *   slaac  the terminal probed for it, and nobody had it (RFC 4862, 5.4); it goes when it has not been used for two days
 *   kept   a firewall that outlived an earlier controller has it; how it was come by is forgotten. It goes like one of slaac
 *
 * When a terminal has as many as a state can hold, the one that was not used for longest goes (of leases, the one that ends first): what a
 * terminal has announced last is what it uses, and the rest is mostly left over from networks and days that are past. A
 * terminal that announces more than it can have takes its own addresses away, nobody else's.
 */
import { inPrefix } from '../../shared/firewall/addresses.js';
import { type Family, familyOf, MAX_ADDRESSES, type Terminal } from '../../shared/firewall/terminal.js';

/** Prefixes, `address/length`, within which a terminal may learn addresses. None: it has those of its configuration. */
export type LearnRules = Readonly<Record<Family, readonly string[]>>;

export type Origin = 'fixed' | 'dhcp' | 'slaac' | 'kept';

export interface Held {
  readonly address: string;
  readonly origin: Origin;
  /** Monotonic ms; there when a lease ends. */
  readonly until?: number;
}

/** Why an address is not learnt. */
export type Refusal = 'outside' | 'taken' | 'full' | 'too-many';

/** RFC 8981, 3.8: a temporary address is valid for two days. */
export const UNUSED_MS = 2 * 24 * 3_600_000;
/** Probes of one terminal at a time: two prefixes with a stable and a temporary address each, twice. */
export const MAX_TENTATIVE = 8;
/** Announcements that a terminal may make at once, and how often it may make one more. */
const BURST = 16;
const REFILL_MS = 10_000;
/** A slot is a number that an address keeps as long as the terminal has it. */
const SLOTS = 32;

interface Learnt {
  readonly address: string;
  readonly origin: Exclude<Origin, 'fixed'>;
  readonly slot: number;
  until: number | undefined;
  usedAt: number;
}

interface Entry {
  readonly fixed: Terminal;
  readonly rules: LearnRules;
  readonly learnt: Map<string, Learnt>;
  readonly tentative: Set<string>;
  present: Terminal;
  tokens: number;
  refilledAt: number;
}

export class AddressBook {
  readonly #entries: ReadonlyMap<string, Entry>;
  /** Address → the terminal that has it or probes for it. */
  readonly #owners = new Map<string, string>();
  readonly #changed = new Set<string>();

  constructor(terminals: readonly { readonly terminal: Terminal; readonly learn: LearnRules }[]) {
    this.#entries = new Map(
      terminals.map(({ terminal, learn }) => [
        terminal.name,
        {
          ...{ fixed: terminal, rules: learn, learnt: new Map(), tentative: new Set() },
          ...{ present: terminal, tokens: BURST, refilledAt: 0 },
        },
      ]),
    );
    for (const { terminal } of terminals)
      for (const address of [...terminal.ipv4, ...terminal.ipv6]) this.#owners.set(address, terminal.name);
  }

  /** The terminal with its present addresses. */
  present(name: string): Terminal {
    return this.#entry(name).present;
  }

  held(name: string): readonly Held[] {
    const { fixed, learnt } = this.#entry(name);
    const own = [...fixed.ipv4, ...fixed.ipv6].map((address): Held => ({ address, origin: 'fixed' }));
    const others = [...learnt.values()].map(
      ({ address, origin, until }): Held => ({ address, origin, ...(until === undefined ? {} : { until }) }),
    );
    return [...own, ...others];
  }

  /** Terminals that have other addresses than when this was last asked. */
  takeChanged(): readonly string[] {
    const changed = [...this.#changed];
    this.#changed.clear();
    return changed;
  }

  /** Addresses that the terminal probes for. */
  tentative(name: string): readonly string[] {
    return [...this.#entry(name).tentative];
  }

  /** The slots of its learnt addresses. */
  slots(name: string): ReadonlyMap<string, number> {
    return new Map([...this.#entry(name).learnt.values()].map(({ address, slot }) => [address, slot]));
  }

  /** A server has given the terminal this address until then, or for ever. Returns why it does not have it, if so. */
  grant(name: string, address: string, until: number | undefined, now: number): Refusal | undefined {
    const entry = this.#entry(name);
    const owner = this.#owners.get(address);
    if (owner === name) {
      const known = entry.learnt.get(address);
      if (known) entry.learnt.set(address, { ...known, origin: 'dhcp', until, usedAt: now });
      return undefined;
    }
    const refusal = this.#refusal(name, address, { takesKept: true });
    if (refusal) return refusal;
    if (owner !== undefined) this.withdraw(owner, address);
    return this.#add(entry, address, { origin: 'dhcp', until, usedAt: now });
  }

  /** The terminal asks whether anybody has this address. Undefined: it may go on asking. */
  probe(name: string, address: string, now: number): Refusal | undefined {
    const entry = this.#entry(name);
    if (this.#owners.get(address) === name) return undefined;
    const refusal = this.#refusal(name, address, { takesKept: false });
    if (refusal) return refusal;
    if (!this.#spend(entry, now)) return 'too-many';
    entry.tentative.add(address);
    this.#owners.set(address, name);
    return undefined;
  }

  /** Somebody else has the address, or the terminal has gone. False: it was not being probed. */
  abandon(name: string, address: string): boolean {
    if (!this.#entry(name).tentative.delete(address)) return false;
    this.#owners.delete(address);
    return true;
  }

  /** Nobody has answered the probe: the address is the terminal's. Returns why not, if so. */
  confirm(name: string, address: string, now: number): Refusal | undefined {
    if (!this.abandon(name, address)) return 'taken';
    return this.#add(this.#entry(name), address, { origin: 'slaac', until: undefined, usedAt: now });
  }

  /** The terminal does not have this address any more; fixed ones stay. False: it was not learnt. */
  withdraw(name: string, address: string): boolean {
    const entry = this.#entry(name);
    if (!entry.learnt.delete(address)) return false;
    this.#owners.delete(address);
    this.#restate(entry);
    return true;
  }

  /** Takes over those of these addresses that the terminal may have learnt and nobody else has. */
  keep(name: string, addresses: readonly string[], now: number): void {
    const entry = this.#entry(name);
    for (const address of addresses) {
      if (this.#owners.has(address) || this.#refusal(name, address, { takesKept: false })) continue;
      this.#add(entry, address, { origin: 'kept', until: undefined, usedAt: now });
    }
  }

  /** Has again what it had when an earlier controller last knew, as far as it may still have it. */
  restore(name: string, held: readonly Held[], now: number): void {
    const entry = this.#entry(name);
    for (const { address, origin, until } of held) {
      if (origin === 'fixed' || (until !== undefined && until <= now)) continue;
      if (this.#owners.has(address) || this.#refusal(name, address, { takesKept: false })) continue;
      this.#add(entry, address, { origin, until, usedAt: now });
    }
  }

  used(name: string, slot: number, now: number): void {
    for (const learnt of this.#entry(name).learnt.values()) if (learnt.slot === slot) learnt.usedAt = now;
  }

  /** Leases that are over and addresses that nobody uses go. */
  expire(now: number): void {
    for (const [name, { learnt }] of this.#entries) {
      const over = [...learnt.values()].filter((one) => endOf(one) <= now);
      for (const { address } of over) this.withdraw(name, address);
    }
  }

  /** When `expire` will have something to do: Infinity when never. */
  nextEnd(): number {
    const ends = [...this.#entries.values()].flatMap(({ learnt }) => [...learnt.values()].map(endOf));
    return ends.reduce((soonest, end) => Math.min(soonest, end), Number.POSITIVE_INFINITY);
  }

  #refusal(name: string, address: string, { takesKept }: { takesKept: boolean }): Refusal | undefined {
    const { rules } = this.#entry(name);
    if (!isHostAddress(address) || !rules[familyOf(address)].some((prefix) => inPrefix(address, prefix)))
      return 'outside';
    const owner = this.#owners.get(address);
    if (owner === undefined || owner === name) return undefined;
    return takesKept && this.#entry(owner).learnt.get(address)?.origin === 'kept' ? undefined : 'taken';
  }

  #add(entry: Entry, address: string, what: Omit<Learnt, 'address' | 'slot'>): Refusal | undefined {
    const family = familyOf(address);
    const others = [...entry.learnt.values()].filter((one) => familyOf(one.address) === family);
    if (entry.fixed[family].length + others.length >= MAX_ADDRESSES[family]) {
      const [first, ...rest] = others;
      if (!first) return 'full';
      const last = rest.reduce((least, one) => (endOf(one) < endOf(least) ? one : least), first);
      this.withdraw(entry.fixed.name, last.address);
    }
    const taken = new Set([...entry.learnt.values()].map(({ slot }) => slot));
    const slot = Array.from({ length: SLOTS }, (_, number) => number).find((number) => !taken.has(number));
    if (slot === undefined) return 'full';
    entry.learnt.set(address, { address, slot, ...what });
    this.#owners.set(address, entry.fixed.name);
    this.#restate(entry);
    return undefined;
  }

  #restate(entry: Entry): void {
    const { fixed, learnt } = entry;
    const of = (family: Family): string[] => [
      ...fixed[family],
      ...[...learnt.keys()].filter((address) => familyOf(address) === family),
    ];
    entry.present = { ...fixed, ipv4: of('ipv4'), ipv6: of('ipv6') };
    this.#changed.add(fixed.name);
  }

  #spend(entry: Entry, now: number): boolean {
    const earned = Math.floor((now - entry.refilledAt) / REFILL_MS);
    if (earned > 0) {
      entry.tokens = Math.min(BURST, entry.tokens + earned);
      entry.refilledAt += earned * REFILL_MS;
    }
    if (entry.tokens === 0 || entry.tentative.size >= MAX_TENTATIVE) return false;
    entry.tokens -= 1;
    return true;
  }

  #entry(name: string): Entry {
    const entry = this.#entries.get(name);
    if (!entry) throw new Error(`there is no terminal ${name}`);
    return entry;
  }
}

function endOf({ origin, until, usedAt }: Learnt): number {
  return origin === 'dhcp' ? (until ?? Number.POSITIVE_INFINITY) : usedAt + UNUSED_MS;
}

/** Could it be one host's on a link? Not unspecified, loopback, link-local or a group's. */
function isHostAddress(address: string): boolean {
  const never =
    familyOf(address) === 'ipv4'
      ? ['0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '224.0.0.0/3']
      : ['::/128', '::1/128', 'fe80::/10', 'ff00::/8'];
  return !never.some((prefix) => inPrefix(address, prefix));
}
