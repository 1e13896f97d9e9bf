/**
 * What the cases of the conformance suite work with: instances that are cleaned up, states to import, ways to wait and to compare.
 */
import assert from 'node:assert/strict';
import { type Connection, connectionKey, type TcpConnection } from '../firewall/connection.js';
import type { Policy } from '../firewall/policy.js';
import { type Delta, epoch as epochOf, type FirewallState, type Snapshot } from '../firewall/state.js';
import type { Terminal } from '../firewall/terminal.js';
import { realClock, sleep } from '../runtime/clock.js';
import type { ConformanceEnvironment } from './conformance.js';
import {
  type Domain,
  DomainError,
  type DomainErrorCode,
  type Ends,
  type InstanceId,
  type Role,
} from './domain.js';

const POLL_MS = 10;
/** Epochs of one run rise, as those of a real system do. */
const FIRST_EPOCH = 10;
/** The number of the last change in the snapshots that the suite imports: not zero, as in a real handover. */
export const SNAPSHOT_SEQUENCE = 41;
export const LEASE_MS = 60_000;
export const DRAIN_MS = 60_000;

/** One behaviour. */
export interface ConformanceCase {
  readonly behaviour: string;
  readonly run: (bench: Bench) => Promise<void>;
}

export class Bench {
  readonly environment: ConformanceEnvironment;
  readonly deadlineMs: number;
  #epoch = FIRST_EPOCH;
  #made: InstanceId[] = [];
  #followers: Follower[] = [];

  constructor(environment: ConformanceEnvironment, deadlineMs: number) {
    this.environment = environment;
    this.deadlineMs = deadlineMs;
  }

  get domain(): Domain {
    return this.environment.domain;
  }

  /** Runs one case and clears up after it, whatever became of it. */
  async run(work: (bench: Bench) => Promise<void>): Promise<void> {
    try {
      await work(this);
    } finally {
      const followers = this.#followers.splice(0);
      for (const follower of followers) follower.abort();
      for (const id of this.#made.splice(0)) await this.domain.retire(id).catch(() => {});
    }
  }

  /** The name of an instance that is newer than all before. */
  newId(terminal: Terminal = this.environment.terminal): InstanceId {
    const id = { terminal: terminal.name, epoch: epochOf(this.#epoch++) };
    this.#made.push(id);
    return id;
  }

  /** A snapshot of the instance before this one. */
  snapshot(id: InstanceId, change: Partial<Snapshot> = {}): Snapshot {
    const { terminal, otherTerminal, policy } = this.environment;
    return {
      terminal: id.terminal === otherTerminal.name ? otherTerminal : terminal,
      epoch: epochOf(id.epoch - 1),
      sequence: SNAPSHOT_SEQUENCE,
      policy,
      earlier: [],
      connections: [],
      counters: [],
      ...change,
    };
  }

  /** A standby instance with this state. */
  async prepared(
    change: Partial<Snapshot> = {},
    terminal?: Terminal,
  ): Promise<{ id: InstanceId; ends: Ends }> {
    const id = this.newId(terminal);
    return { id, ends: await this.domain.prepare(this.snapshot(id, change), id.epoch) };
  }

  async activated(change: Partial<Snapshot> = {}): Promise<InstanceId> {
    const { id } = await this.prepared(change);
    await this.domain.activate(id, LEASE_MS);
    return id;
  }

  /** The role of an instance, or undefined when it is not there; retired ones may or may not be listed. */
  async role(id: InstanceId): Promise<Role | undefined> {
    const { instances } = await this.domain.health();
    const found = instances.filter(({ terminal, epoch }) => terminal === id.terminal && epoch === id.epoch);
    assert.ok(found.length <= 1, `${id.terminal} epoch ${id.epoch} is listed ${found.length} times`);
    const role = found[0]?.role;
    return role === 'retired' ? undefined : role;
  }

  /** Reads the changes of an instance into a list until the case ends. */
  follow(id: InstanceId, fromSequence: number): Follower {
    const follower = new Follower(this.domain, id, fromSequence);
    this.#followers.push(follower);
    return follower;
  }

  async until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
    const end = Date.now() + this.deadlineMs;
    while (!(await condition())) {
      if (Date.now() > end) assert.fail(`not within ${this.deadlineMs} ms: ${what}`);
      await sleep(realClock, POLL_MS);
    }
  }
}

/** One reader of `changes`. */
export class Follower {
  readonly deltas: Delta[] = [];
  readonly #abort = new AbortController();
  #end: { readonly error?: unknown } | undefined;

  constructor(domain: Domain, id: InstanceId, fromSequence: number) {
    void this.#read(domain.changes(id, fromSequence, this.#abort.signal));
  }

  async #read(changes: AsyncIterable<readonly Delta[]>): Promise<void> {
    try {
      for await (const batch of changes) this.deltas.push(...batch);
      this.#end = {};
    } catch (error) {
      this.#end = { error };
    }
  }

  /** Undefined while it reads. */
  outcome(): { readonly error?: unknown } | undefined {
    return this.#end;
  }

  abort(): void {
    this.#abort.abort();
  }
}

/** Connections that any firewall can take over: TCP, UDP and echo, opened at either end, in every family that the terminal has. */
export function sampleConnections(terminal: Terminal): Connection[] {
  const samples: Connection[] = [];
  const pairs = [
    [terminal.ipv4[0], '198.51.100.7'],
    [terminal.ipv6[0], '2001:db8::7'],
  ] as const;
  for (const [local, remote] of pairs) {
    if (local === undefined) continue;
    const ends = (localPort: number, remotePort: number) => ({
      local: { address: local, port: localPort },
      remote: { address: remote, port: remotePort },
    });
    samples.push(
      {
        protocol: 'tcp',
        opener: 'terminal',
        ...ends(40_001, 443),
        state: 'established',
        timeLeftSeconds: 3600,
      },
      { protocol: 'tcp', opener: 'remote', ...ends(22, 50_022), state: 'established', timeLeftSeconds: 3600 },
      { protocol: 'udp', opener: 'terminal', ...ends(40_002, 53), replied: true, timeLeftSeconds: 120 },
      {
        protocol: 'icmp',
        opener: 'terminal',
        local: { address: local },
        remote: { address: remote },
        id: 77,
        replied: true,
        timeLeftSeconds: 30,
      },
    );
  }
  return samples;
}

/** One more TCP connection, told apart by its port. */
export function tcpConnection(
  terminal: Terminal,
  localPort: number,
  state: 'opening' | 'established',
): TcpConnection {
  const local = terminal.ipv4[0];
  assert.ok(local !== undefined, 'the suite needs a terminal with an IPv4 address');
  return {
    protocol: 'tcp',
    opener: 'terminal',
    local: { address: local, port: localPort },
    remote: { address: '198.51.100.9', port: 443 },
    state,
    timeLeftSeconds: 3600,
  };
}

/** `changes` numbered after `last`, as deltas. */
export function numbered(last: number, changes: readonly Delta['change'][]): Delta[] {
  return changes.map((change, index) => ({ sequence: last + 1 + index, change }));
}

export function hasConnection(state: FirewallState, connection: Connection): boolean {
  return state.connections.some((one) => connectionKey(one) === connectionKey(connection));
}

/** The same connections, in any order and with any time left. */
export function assertSameConnections(actual: readonly Connection[], expected: readonly Connection[]): void {
  const comparable = (connections: readonly Connection[]): unknown[] =>
    connections
      .map((connection) => ({ key: connectionKey(connection), ...connection, timeLeftSeconds: 0 }))
      .sort((a, b) => (a.key < b.key ? -1 : 1));
  assert.deepEqual(comparable(actual), comparable(expected));
}

/** The call fails with a DomainError of one of these codes, and with words. */
export async function assertFails(
  what: string,
  call: () => Promise<unknown>,
  ...codes: readonly DomainErrorCode[]
): Promise<void> {
  let error: unknown;
  try {
    await call();
  } catch (thrown) {
    error = thrown;
  }
  assert.ok(error !== undefined, `${what} should fail with ${codes.join(' or ')}, and did not fail`);
  assert.ok(error instanceof DomainError, `${what} should fail with a DomainError, not ${String(error)}`);
  assert.ok(
    codes.includes(error.code),
    `${what} should fail with ${codes.join(' or ')}, not ${error.code}: ${error.message}`,
  );
  assert.ok(error.message.length > 0, `${what} fails without a word`);
}

/** Reads the first batch of changes, so that a failure of `changes` shows. */
export async function firstChanges(domain: Domain, id: InstanceId, fromSequence: number): Promise<void> {
  for await (const _ of domain.changes(id, fromSequence, new AbortController().signal)) return;
}

/** Another policy than this one, and as easy to run. */
export function changedPolicy(policy: Policy): Policy {
  return { ...policy, name: `${policy.name.slice(0, 50)} changed`, rules: policy.rules.slice(1) };
}

/** Without fields that are there but undefined: an optional field may be either. */
export function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value ?? null));
}
