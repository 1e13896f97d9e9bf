/**
 * What an agent may say of an instance, judged by what the controller has told it before: another terminal's state, a policy that nobody put in force, addresses
 * that nobody gave, numbers that go backwards are refused whole. Whether the connections of a state fit its terminal and its policies is judged by
 * whoever takes it over (shared/firewall/admission.ts). No I/O.
 */
import { createHash } from 'node:crypto';
import {
  DomainError,
  type Dpid,
  type Ends,
  type Health,
  type InstanceId,
} from '../../../shared/domain/domain.js';
import { connectionKey } from '../../../shared/firewall/connection.js';
import { directionSchema, type Policy, policySchema, ruleSchema } from '../../../shared/firewall/policy.js';
import type { Delta, FirewallState, Snapshot } from '../../../shared/firewall/state.js';
import type { Terminal } from '../../../shared/firewall/terminal.js';

/** Instances that are remembered: more than a controller's terminals have. The oldest is forgotten first. */
const MAX_INSTANCES = 4096;
/** Policies of one instance that are remembered: more than a state can name. */
const MAX_POLICIES = 64;
/** Epochs begin with the seconds since 1970 and rise with each move: one this far ahead of the time was never given (about eight years). */
const MAX_EPOCH_LEAD = 2 ** 28;

/** What an instance has been told, and what it has said of itself. */
interface Told {
  /** False when an earlier controller has built it: what that one told it is not known. */
  prepared: boolean;
  mac: string | undefined;
  readonly addresses: Set<string>;
  readonly policies: Set<string>;
  /** The highest number of a change that it has spoken of. */
  sequence: number;
}

export interface TrustOptions {
  /** The domain, for messages. */
  readonly name: string;
  /** The terminal as the controller's configuration has it. */
  readonly terminal?: ((name: string) => Terminal | undefined) | undefined;
}

export class Trust {
  readonly #options: TrustOptions;
  readonly #told = new Map<string, Told>();

  constructor(options: TrustOptions) {
    this.#options = options;
  }

  /** The instance begins with this, also when it has been there before. */
  prepared(id: InstanceId, { terminal, policy, earlier }: Snapshot): void {
    this.#told.delete(keyOf(id));
    this.#of(id).prepared = true;
    this.setTerminal(id, terminal);
    for (const each of [policy, ...earlier]) this.setPolicy(id, each);
  }

  setTerminal(id: InstanceId, { mac, ipv4, ipv6 }: Terminal): void {
    const told = this.#of(id);
    told.mac = mac;
    // Never fewer: what it says of addresses that were its own may still be under way.
    for (const address of [...ipv4, ...ipv6]) told.addresses.add(address);
  }

  setPolicy(id: InstanceId, policy: Policy): void {
    const { policies } = this.#of(id);
    policies.add(digestOf(policy));
    const [oldest] = policies;
    if (policies.size > MAX_POLICIES && oldest !== undefined) policies.delete(oldest);
  }

  /** A standby has been told a whole state once more. */
  synced(id: InstanceId, { terminal, policy, earlier }: Snapshot): void {
    this.setTerminal(id, terminal);
    for (const each of [policy, ...earlier]) this.setPolicy(id, each);
  }

  applied(id: InstanceId, deltas: readonly Delta[]): void {
    for (const { change } of deltas) {
      if (change.kind === 'policy') this.setPolicy(id, change.policy);
      if (change.kind === 'terminal') this.setTerminal(id, change.terminal);
    }
  }

  retired(id: InstanceId): void {
    this.#told.delete(keyOf(id));
  }

  /** The highest number of a change that the instance has spoken of. */
  seen(id: InstanceId): number {
    return this.#of(id).sequence;
  }

  /**
   * The state that an agent exports, when it may be believed to be this instance's. `since`: what it had spoken of when it was asked; changes go
   * on while it answers. Fails with `invalid`.
   */
  exported(id: InstanceId, state: FirewallState, since = this.seen(id)): FirewallState {
    const told = this.#of(id);
    const { terminal, epoch, sequence, policy, earlier, connections } = state;
    if (terminal.name !== id.terminal) this.#refuse(id, `it is the state of ${terminal.name}`);
    if (epoch !== id.epoch) this.#refuse(id, `it is the state of epoch ${epoch}`);
    if (sequence < since)
      this.#refuse(id, `it is as of change ${sequence}, and change ${since} has been seen already`);
    this.#checkTerminal(id, told, terminal);
    for (const each of [policy, ...earlier]) this.#checkPolicy(id, told, each);
    const own = new Set([...terminal.ipv4, ...terminal.ipv6]);
    const foreign = connections.find(({ local }) => !own.has(local.address));
    if (foreign) this.#refuse(id, `${connectionKey(foreign)} is no connection of ${terminal.name}`);
    told.sequence = Math.max(told.sequence, sequence);
    return state;
  }

  /** Changes that follow number `last`, when they may be this instance's: all of them or none. Fails with `invalid` or `changes-lost`. */
  changed(id: InstanceId, deltas: readonly Delta[], last: number): readonly Delta[] {
    const told = this.#of(id);
    let expected = last + 1;
    for (const { sequence, change } of deltas) {
      if (sequence < expected) this.#refuse(id, `change ${sequence} came after change ${expected - 1}`);
      if (sequence > expected)
        throw new DomainError(
          'changes-lost',
          `change ${expected} is missing: ${sequence} came. Take a new snapshot`,
        );
      expected++;
      if (change.kind === 'policy') this.#checkPolicy(id, told, change.policy);
      if (change.kind === 'terminal') this.#checkTerminal(id, told, change.terminal);
      if (change.kind === 'connection' && told.prepared) {
        const { address } = change.connection.local;
        if (!told.addresses.has(address))
          this.#refuse(id, `${connectionKey(change.connection)} is no connection of ${id.terminal}`);
      }
    }
    told.sequence = Math.max(told.sequence, expected - 1);
    return deltas;
  }

  /** Where an agent says its instance is reached. Fails with `invalid`. */
  ended(id: InstanceId, ends: Ends, serves: readonly Dpid[]): Ends {
    if (ends.kind !== 'ports') this.#refuse(id, 'the tables of a switch are no place of an agent');
    if (!serves.includes(ends.dpid))
      this.#refuse(id, `its ends are at switch ${ends.dpid}, which it does not serve`);
    if (ends.terminalSide === ends.networkSide)
      this.#refuse(id, `both its ends are port ${ends.networkSide}`);
    return ends;
  }

  /** `now`: ms since 1970. Fails with `invalid`. */
  reported(health: Health, now: number): Health {
    const latest = Math.floor(now / 1000) + MAX_EPOCH_LEAD;
    const ahead = health.instances.find(({ epoch }) => epoch > latest);
    if (ahead) this.#refuse(ahead, 'no controller has ever given such an epoch');
    return health;
  }

  #checkTerminal(id: InstanceId, told: Told, terminal: Terminal): void {
    const mac = told.mac ?? this.#options.terminal?.(id.terminal)?.mac;
    if (terminal.name !== id.terminal || (mac !== undefined && terminal.mac !== mac))
      this.#refuse(id, `it speaks of ${terminal.name} with MAC address ${terminal.mac}: another terminal`);
    if (!told.prepared) return;
    const strange = [...terminal.ipv4, ...terminal.ipv6].find((address) => !told.addresses.has(address));
    if (strange !== undefined) this.#refuse(id, `${strange} is no address that ${id.terminal} was given`);
  }

  #checkPolicy(id: InstanceId, told: Told, policy: Policy): void {
    if (told.prepared && !told.policies.has(digestOf(policy)))
      this.#refuse(id, `it has a policy "${policy.name}" that it was never given`);
  }

  #refuse({ terminal, epoch }: InstanceId, problem: string): never {
    throw new DomainError(
      'invalid',
      `what the agent of ${this.#options.name} says of ${terminal} in epoch ${epoch} is refused: ${problem}. Look at the agent, and start it again`,
    );
  }

  #of(id: InstanceId): Told {
    const key = keyOf(id);
    const known = this.#told.get(key);
    if (known) return known;
    const told: Told = {
      prepared: false,
      mac: undefined,
      addresses: new Set(),
      policies: new Set(),
      sequence: 0,
    };
    this.#told.set(key, told);
    const [oldest] = this.#told.keys();
    if (this.#told.size > MAX_INSTANCES && oldest !== undefined) this.#told.delete(oldest);
    return told;
  }
}

function keyOf({ terminal, epoch }: InstanceId): string {
  return `${terminal} ${epoch}`;
}

/** Every key that a policy can have: given to JSON.stringify they make one order of whatever order an object has. */
const POLICY_KEYS = [
  ...Object.keys(policySchema.shape),
  ...directionSchema.options,
  ...Object.keys(ruleSchema.shape),
];

/** The same for policies that say the same, word for word. */
function digestOf(policy: Policy): string {
  return createHash('sha256').update(JSON.stringify(policy, POLICY_KEYS)).digest('base64');
}
