/**
 * A terminal's firewall state as the controller knows it: what its active instance has said, change by change. Standbys are fed from here, so a slow one
 * is no burden to the active instance; and when that is gone, its connections are not. Its log has numbers of its own, which go on through
 * every move. No I/O.
 */
import { ChangeLog } from '../../shared/domain/change-log.js';
import { problemOfChanges } from '../../shared/firewall/admission.js';
import { type Connection, connectionKey, TCP_PROGRESS } from '../../shared/firewall/connection.js';
import { differences } from '../../shared/firewall/differences.js';
import { ConnectionsDigest, isSameConnection } from '../../shared/firewall/digest.js';
import { isSamePolicy, PolicyHistory } from '../../shared/firewall/policy-history.js';
import { countersFor } from '../../shared/firewall/reduce.js';
import {
  type Change,
  type Delta,
  type Epoch,
  type FirewallState,
  MAX_CONNECTIONS,
  type RuleCounter,
} from '../../shared/firewall/state.js';
import { isSameTerminal, type Terminal } from '../../shared/firewall/terminal.js';

/** For so many of the last changes it is known when they came, and the digest after them. */
const REMEMBERED = 8_192;

interface Mark {
  readonly sequence: number;
  /** Monotonic ms: when the change was, as far as that is known. */
  readonly at: number;
  readonly digest: string;
}

export class Mirror {
  readonly log: ChangeLog;
  readonly #connections = new Map<string, Connection>();
  readonly #digest = new ConnectionsDigest();
  readonly #history: PolicyHistory;
  /** A ring: the mark of change s is at s modulo its size. */
  readonly #marks: Mark[] = [];
  readonly #now: () => number;
  #terminal: Terminal;
  #counters: readonly RuleCounter[];

  /** `now`: monotonic ms. */
  constructor(state: FirewallState, now: () => number) {
    this.#now = now;
    this.log = new ChangeLog(state.sequence);
    this.#terminal = state.terminal;
    this.#counters = state.counters;
    this.#history = new PolicyHistory(state.policy, state.earlier, now());
    for (const connection of state.connections) this.#put(connection);
    this.#mark(this.sequence, now());
  }

  /** The number of its last change. */
  get sequence(): number {
    return this.log.sequence;
  }

  get terminal(): Terminal {
    return this.#terminal;
  }

  get connections(): number {
    return this.#connections.size;
  }

  /** Of the connections that it holds now. */
  get digest(): string {
    return this.#digest.value;
  }

  /** When change `sequence` was and what the digest was after it, if that is still known. */
  mark(sequence: number): Mark | undefined {
    const mark = this.#marks[sequence % REMEMBERED];
    return mark?.sequence === sequence ? mark : undefined;
  }

  /** What is wrong with these changes, if they can't be of this firewall. */
  problemOf(changes: readonly Change[]): string | undefined {
    return problemOfChanges(this.#terminal, [this.#history.policy, ...this.#history.earlier], changes);
  }

  /**
   * What an instance tells. A connection does not go back by it: what is told once more, or late, is passed over, unless the connection was
   * about to end. `ageMs`: how long ago it was.
   */
  absorb(change: Change, ageMs = 0): void {
    const at = this.#now() - ageMs;
    switch (change.kind) {
      case 'connection':
        this.#absorbConnection(change.connection, at);
        break;
      case 'ended':
        if (this.#drop(change.key)) this.#append(change, at);
        break;
      case 'policy':
        this.#setPolicy(change.policy, at);
        break;
      case 'terminal':
        this.#setTerminal(change.terminal, at);
        break;
    }
  }

  /** Takes a whole state of the active instance as the truth; what differs goes to whoever follows. Returns how many differences there were. */
  replace(state: FirewallState): number {
    const changes = differences(this.#state(state.epoch), state);
    for (const policy of state.earlier.toReversed()) this.#history.replace(policy, this.#now());
    for (const change of changes) {
      if (change.kind === 'connection') {
        this.#drop(connectionKey(change.connection));
        this.#put(change.connection);
        this.#append(change, this.#now());
      } else this.absorb(change);
    }
    this.#counters = state.counters;
    return changes.length;
  }

  /**
   * The whole state, as of change `sequence`. A connection has the time left that it had when it was last told of: never less than it really has.
   */
  snapshot(epoch: Epoch): FirewallState {
    return this.#state(epoch);
  }

  #state(epoch: Epoch): FirewallState {
    const { policy } = this.#history;
    return {
      terminal: this.#terminal,
      epoch,
      sequence: this.sequence,
      policy,
      ...this.#history.forExport([...this.#connections.values()], this.#now()),
      counters: countersFor(policy, this.#counters),
    };
  }

  #absorbConnection(connection: Connection, at: number): void {
    const key = connectionKey(connection);
    const before = this.#connections.get(key);
    if (before && isSameConnection(before, connection)) {
      this.#connections.set(key, connection);
      return;
    }
    if (before ? !isNews(before, connection) : this.#connections.size >= MAX_CONNECTIONS) return;
    this.#drop(key);
    this.#put(connection);
    this.#append({ kind: 'connection', connection }, at);
  }

  #setPolicy(policy: FirewallState['policy'], at: number): void {
    if (isSamePolicy(policy, this.#history.policy)) return;
    this.#history.replace(policy, this.#now());
    this.#append({ kind: 'policy', policy }, at);
  }

  /** Connections of addresses that the terminal does not have any more are over, here as everywhere. */
  #setTerminal(terminal: Terminal, at: number): void {
    if (isSameTerminal(terminal, this.#terminal)) return;
    this.#terminal = terminal;
    const own = new Set([...terminal.ipv4, ...terminal.ipv6]);
    for (const [key, { local }] of this.#connections) if (!own.has(local.address)) this.#drop(key);
    this.#append({ kind: 'terminal', terminal }, at);
  }

  #put(connection: Connection): void {
    this.#connections.set(connectionKey(connection), connection);
    this.#digest.add(connection);
  }

  #drop(key: string): boolean {
    const before = this.#connections.get(key);
    if (!before) return false;
    this.#connections.delete(key);
    this.#digest.remove(before);
    return true;
  }

  /** The mark first: who is woken by the change may look for it. */
  #append(change: Delta['change'], at: number): void {
    this.#mark(this.sequence + 1, at);
    this.log.append([change]);
  }

  #mark(sequence: number, at: number): void {
    this.#marks[sequence % REMEMBERED] = { sequence, at, digest: this.#digest.value };
  }
}

/** Is the later one a step on from the first, or another connection between the same ends? */
function isNews(before: Connection, after: Connection): boolean {
  if (before.opener !== after.opener) return true;
  if (before.protocol === 'tcp' && after.protocol === 'tcp')
    return (
      TCP_PROGRESS[before.state] >= TCP_PROGRESS.closing ||
      TCP_PROGRESS[after.state] > TCP_PROGRESS[before.state]
    );
  return before.protocol !== 'tcp' && after.protocol !== 'tcp' && after.replied;
}
