/**
 * Turns what the parts of the controller say into entries. Where these go is the business of the store.
 */
import { type Connection, connectionKey } from '../../shared/firewall/connection.js';
import { isSamePolicy } from '../../shared/firewall/policy-history.js';
import { StateError } from '../../shared/firewall/reduce.js';
import { type Delta, type FirewallState, MAX_EARLIER_POLICIES } from '../../shared/firewall/state.js';
import { type Contents, inPieces } from './contents.js';
import { type Entry, type Keep, MAX_CHANGES } from './entry.js';
import type {
  StoredActive,
  StoredAddress,
  StoredAttachment,
  StoredPolicy,
  StoredTerminal,
  TerminalKeeper,
} from './store.js';

export class Keeper implements TerminalKeeper {
  /** What the mirror will be when all that was said is written; undefined: there is none. */
  #mirror: Pick<FirewallState, 'sequence' | 'policy' | 'earlier'> | undefined;

  constructor(
    readonly terminal: string,
    readonly contents: Contents,
    readonly keep: Keep,
  ) {
    this.#mirror = contents.mirrorHead(terminal);
  }

  read(): StoredTerminal {
    return this.contents.terminal(this.terminal);
  }

  setPolicy(policy: StoredPolicy | undefined): Promise<void> {
    return this.keep([{ kind: 'policy', terminal: this.terminal, policy: policy ?? null }], 'order');
  }

  setPlacement(placement: StoredTerminal['placement']): Promise<void> {
    return this.keep([{ kind: 'placement', terminal: this.terminal, placement }], 'order');
  }

  setEpoch(lastEpoch: number): Promise<void> {
    return this.keep([{ kind: 'epoch', terminal: this.terminal, lastEpoch }], 'order');
  }

  setActive(instance: StoredActive | undefined): void {
    this.#fact({ kind: 'active', terminal: this.terminal, instance: instance ?? null });
  }

  setAddresses(addresses: readonly StoredAddress[]): void {
    this.#fact({ kind: 'addresses', terminal: this.terminal, addresses });
  }

  setAttachments(attachments: readonly StoredAttachment[]): void {
    this.#fact({ kind: 'attachments', terminal: this.terminal, attachments });
  }

  setState(state: FirewallState | undefined): void {
    const { terminal } = this;
    this.#mirror = state;
    if (!state) {
      this.#fact({ kind: 'mirror', terminal, head: null });
      return;
    }
    const { connections, ...head } = state;
    const { sequence } = state;
    const put = new Map(connections.map((connection) => [connectionKey(connection), connection]));
    const pieces = [...inPieces(put)].map((piece): Entry => {
      return { kind: 'connections', terminal, sequence, put: piece, ended: new Set() };
    });
    this.#fact({ kind: 'mirror', terminal, head }, ...pieces);
  }

  changes(deltas: readonly Delta[]): void {
    const mirror = this.#mirror;
    if (!mirror)
      throw new StateError('changes-lost', `nothing is kept of ${this.terminal}: give its state first`);
    const fresh = deltas.filter(({ sequence }) => sequence > mirror.sequence);
    const entries: Entry[] = [];
    const { terminal } = this;
    let { sequence, policy, earlier } = mirror;
    let put = new Map<string, Connection>();
    let ended = new Set<string>();
    const endRun = (): void => {
      if (put.size + ended.size === 0) return;
      entries.push({ kind: 'connections', terminal, sequence, put, ended });
      put = new Map();
      ended = new Set();
    };
    for (const delta of fresh) {
      if (delta.sequence !== sequence + 1)
        throw new StateError(
          'changes-lost',
          `changes ${sequence + 1} to ${delta.sequence - 1} of ${terminal} are missing: give its whole state`,
        );
      const { change } = delta;
      if (change.kind === 'policy' || change.kind === 'terminal' || put.size + ended.size >= MAX_CHANGES)
        endRun();
      sequence = delta.sequence;
      switch (change.kind) {
        case 'connection': {
          const key = connectionKey(change.connection);
          ended.delete(key);
          put.set(key, change.connection);
          break;
        }
        case 'ended':
          put.delete(change.key);
          ended.add(change.key);
          break;
        case 'policy':
          if (!isSamePolicy(policy, change.policy))
            earlier = [policy, ...earlier].slice(0, MAX_EARLIER_POLICIES);
          policy = change.policy;
          entries.push({ kind: 'mirror-policy', terminal, sequence, policy, earlier });
          break;
        case 'terminal':
          entries.push({ kind: 'mirror-terminal', terminal, sequence, present: change.terminal });
          break;
      }
    }
    endRun();
    if (entries.length === 0) return;
    this.#mirror = { sequence, policy, earlier };
    this.#fact(...entries);
  }

  /** All of it is forgotten. */
  forgotten(): void {
    this.#mirror = undefined;
  }

  #fact(...entries: readonly Entry[]): void {
    void this.keep(entries, 'fact');
  }
}
