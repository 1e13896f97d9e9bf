/**
 * What a store holds, in memory: the sum of its entries. Pure but for what it remembers.
 */
import type { Connection } from '../../shared/firewall/connection.js';
import { countersFor } from '../../shared/firewall/reduce.js';
import { MAX_CONNECTIONS } from '../../shared/firewall/state.js';
import type { InstanceHead, InstanceRecord, KeptConnection } from '../domains/openflow-ct/record.js';
import type { Entry, InstanceRef, MirrorHead } from './entry.js';
import type { StoredTerminal } from './store.js';

/** As many as `MAX_TERMINALS` of a configuration, and as many again that it no longer has. */
const MAX_TERMINALS = 2_000;
/** Each has a number of its own. */
const MAX_INSTANCES = 4_096;
/** Connections in one entry of a snapshot: encoding them takes about a millisecond. */
const CONNECTIONS_AT_ONCE = 1_000;

interface TerminalContents {
  kept: Omit<StoredTerminal, 'state'>;
  mirror: { head: MirrorHead; readonly connections: Map<string, Connection> } | undefined;
}

interface InstanceContents {
  head: InstanceHead;
  readonly connections: Map<string, KeptConnection>;
}

const NOTHING: Omit<StoredTerminal, 'state'> = {
  lastEpoch: 0,
  placement: 'follow',
  policy: undefined,
  active: undefined,
  addresses: [],
  attachments: [],
};

export class Contents {
  readonly #terminals = new Map<string, TerminalContents>();
  readonly #instances = new Map<string, InstanceContents>();

  terminals(): readonly string[] {
    return [...this.#terminals.keys()];
  }

  terminal(name: string): StoredTerminal {
    const { kept, mirror } = this.#terminals.get(name) ?? { kept: NOTHING, mirror: undefined };
    return {
      ...kept,
      // Made only when it is asked for: it may be large.
      get state() {
        return mirror && { ...mirror.head, connections: [...mirror.connections.values()] };
      },
    };
  }

  /** The mirror without its connections. */
  mirrorHead(terminal: string): MirrorHead | undefined {
    return this.#terminals.get(terminal)?.mirror?.head;
  }

  instances(): readonly InstanceRecord[] {
    return [...this.#instances.values()].map(({ head, connections }) => ({
      ...head,
      connections: [...connections.values()],
    }));
  }

  apply(entry: Entry): void {
    switch (entry.kind) {
      case 'forget':
        this.#terminals.delete(entry.terminal);
        break;
      case 'instance':
        this.#instances.set(keyOf({ terminal: entry.terminal, epoch: entry.head.epoch }), {
          head: entry.head,
          connections: new Map(),
        });
        break;
      case 'instance-head': {
        const instance = this.#instances.get(keyOf({ terminal: entry.terminal, epoch: entry.head.epoch }));
        if (instance) instance.head = entry.head;
        break;
      }
      case 'instance-connections': {
        const instance = this.#instances.get(keyOf(entry));
        if (instance) change(instance.connections, entry);
        break;
      }
      case 'instance-gone':
        this.#instances.delete(keyOf(entry));
        break;
      default:
        this.#applyToTerminal(this.#terminalOf(entry.terminal), entry);
    }
  }

  /** What is more than a store ever holds, in words. */
  excess(): string | undefined {
    if (this.#terminals.size > MAX_TERMINALS) return `more than ${MAX_TERMINALS} terminals`;
    if (this.#instances.size > MAX_INSTANCES) return `more than ${MAX_INSTANCES} instances`;
    return undefined;
  }

  /**
   * Entries that make the same contents. They are made as they are asked for, a few milliseconds' work each; what is applied meanwhile may
   * or may not be in them, so that the entries applied since the first was asked for must be applied after them.
   */
  *entries(): Generator<Entry> {
    for (const [terminal, contents] of this.#terminals) {
      const { lastEpoch, placement, policy, active, addresses, attachments } = contents.kept;
      yield { kind: 'epoch', terminal, lastEpoch };
      yield { kind: 'placement', terminal, placement };
      if (policy) yield { kind: 'policy', terminal, policy };
      if (active) yield { kind: 'active', terminal, instance: active };
      if (addresses.length > 0) yield { kind: 'addresses', terminal, addresses };
      if (attachments.length > 0) yield { kind: 'attachments', terminal, attachments };
      const { mirror } = contents;
      if (!mirror) continue;
      yield { kind: 'mirror', terminal, head: mirror.head };
      for (const put of inPieces(mirror.connections))
        yield {
          kind: 'connections',
          terminal,
          sequence: mirror.head.sequence,
          put,
          ended: new Set(),
        };
    }
    for (const { head, connections } of this.#instances.values()) {
      const terminal = head.terminal.name;
      yield { kind: 'instance', terminal, head };
      for (const put of inPieces(connections))
        yield { kind: 'instance-connections', terminal, epoch: head.epoch, put, ended: new Set() };
    }
  }

  #terminalOf(name: string): TerminalContents {
    const known = this.#terminals.get(name);
    if (known) return known;
    const fresh: TerminalContents = { kept: NOTHING, mirror: undefined };
    this.#terminals.set(name, fresh);
    return fresh;
  }

  #applyToTerminal(contents: TerminalContents, entry: TerminalEntry): void {
    const { kept, mirror } = contents;
    switch (entry.kind) {
      case 'epoch':
        contents.kept = { ...kept, lastEpoch: entry.lastEpoch };
        break;
      case 'placement':
        contents.kept = { ...kept, placement: entry.placement };
        break;
      case 'policy':
        contents.kept = { ...kept, policy: entry.policy ?? undefined };
        break;
      case 'active':
        contents.kept = { ...kept, active: entry.instance ?? undefined };
        break;
      case 'addresses':
        contents.kept = { ...kept, addresses: entry.addresses };
        break;
      case 'attachments':
        contents.kept = { ...kept, attachments: entry.attachments };
        break;
      case 'mirror':
        contents.mirror = entry.head ? { head: entry.head, connections: new Map() } : undefined;
        break;
      case 'connections':
        if (!mirror) break;
        change(mirror.connections, entry);
        mirror.head = { ...mirror.head, sequence: entry.sequence };
        break;
      case 'mirror-policy': {
        if (!mirror) break;
        const { sequence, policy, earlier } = entry;
        const counters = countersFor(policy, mirror.head.counters);
        mirror.head = { ...mirror.head, sequence, policy, earlier, counters };
        break;
      }
      case 'mirror-terminal': {
        if (!mirror) break;
        const { sequence, present } = entry;
        mirror.head = { ...mirror.head, sequence, terminal: present };
        const own = new Set([...present.ipv4, ...present.ipv6]);
        for (const [key, { local }] of mirror.connections)
          if (!own.has(local.address)) mirror.connections.delete(key);
        break;
      }
    }
  }
}

type TerminalEntry = Exclude<
  Entry,
  { kind: 'forget' | 'instance' | 'instance-head' | 'instance-connections' | 'instance-gone' }
>;

function keyOf({ terminal, epoch }: InstanceRef): string {
  return `${terminal} ${epoch}`;
}

/** No firewall has more than MAX_CONNECTIONS: what would be more is left out. */
function change<C>(
  connections: Map<string, C>,
  { put, ended }: { readonly put: ReadonlyMap<string, C>; readonly ended: ReadonlySet<string> },
): void {
  for (const key of ended) connections.delete(key);
  for (const [key, connection] of put)
    if (connections.size < MAX_CONNECTIONS || connections.has(key)) connections.set(key, connection);
}

/** A few at a time, so that nothing takes long. What is added meanwhile may come, too; what is removed meanwhile does not. */
export function* inPieces<C>(connections: ReadonlyMap<string, C>): Generator<Map<string, C>> {
  let piece = new Map<string, C>();
  for (const [key, connection] of connections) {
    piece.set(key, connection);
    if (piece.size < CONNECTIONS_AT_ONCE) continue;
    yield piece;
    piece = new Map();
  }
  if (piece.size > 0) yield piece;
}
