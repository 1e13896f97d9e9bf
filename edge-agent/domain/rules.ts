/**
 * The rules that a compartment has: rendered of terminal, policy and lease, and changed as a whole.
 */
import type { Policy } from '../../shared/firewall/policy.js';
import type { RuleCounter } from '../../shared/firewall/state.js';
import type { Terminal } from '../../shared/firewall/terminal.js';
import type { Log } from '../../shared/runtime/log.js';
import { applyRuleset, applyStop, readCounters } from '../iptables/apply.js';
import { setGate } from '../iptables/gate.js';
import type { Compartment } from '../runtime/runtime.js';

/** What the rules say, and what changes of it alone. */
export interface RuleContents {
  readonly terminal: Terminal;
  readonly policy: Policy;
  /** What the rules in the compartment say of the gate. */
  readonly gateSeconds: number;
}

export class InstalledRules {
  #contents: RuleContents;
  /** Monotonic ms: from then on the gate counts as closed, whether anybody has come to close it or not. */
  #openUntil = 0;

  constructor(
    private readonly compartment: Compartment,
    contents: RuleContents,
    private readonly log: Log,
  ) {
    this.#contents = contents;
  }

  get contents(): RuleContents {
    return this.#contents;
  }

  /** The first rules. The gate is closed. */
  install(counters: readonly RuleCounter[]): Promise<void> {
    return applyRuleset(this.compartment, { ...this.#contents, counters });
  }

  /**
   * Other rules; they begin with these counters, or those of them that stay go on. When it fails the rules are as before, and so is what this
   * says of them.
   */
  async change(change: Partial<RuleContents>, counters?: readonly RuleCounter[]): Promise<void> {
    const before = this.#contents;
    const counted = await this.counters();
    this.#contents = { ...before, ...change };
    try {
      await this.install(counters ?? counted);
    } catch (error) {
      this.#contents = before;
      // One family may have taken the new rules already.
      await this.install(counted).catch((cause: unknown) =>
        this.log.error({ err: cause }, 'the old rules could not be put back'),
      );
      throw error;
    }
  }

  /** The same rules, which have counted this much. */
  async recount(counters: readonly RuleCounter[]): Promise<void> {
    if (!isSameJson(await this.counters(), counters)) await this.install(counters);
  }

  /** Admits new connections from now on; without the agent, which closes the gate after `forMs`, for the seconds that the rules say. Starts no process. */
  async openGate(forMs: number): Promise<void> {
    this.#openUntil = performance.now() + forMs;
    setGate(this.compartment, this.#contents.terminal, true);
  }

  /** Admits no new connections any more. Starts no process. */
  async closeGate(): Promise<void> {
    this.#openUntil = 0;
    setGate(this.compartment, this.#contents.terminal, false);
  }

  get #isOpen(): boolean {
    return performance.now() < this.#openUntil;
  }

  /**
   * Rules for other addresses. Those that go are not admitted for from the beginning on; `between` ends what they had. Those that come are admitted for
   * at last, if the gate is open: by the kernel for a whole lease from now on, but the agent closes it when the lease is over.
   */
  async setTerminal(terminal: Terminal, between: () => Promise<void>): Promise<void> {
    const before = this.#contents.terminal;
    const gone = without(before, terminal);
    setGate(this.compartment, gone, false);
    try {
      await this.change({ terminal });
    } catch (error) {
      if (this.#isOpen) setGate(this.compartment, gone, true);
      throw error;
    }
    await between();
    if (this.#isOpen) setGate(this.compartment, without(terminal, before), true);
  }

  counters(): Promise<readonly RuleCounter[]> {
    return readCounters(this.compartment, this.#contents.policy);
  }

  /** From now on nothing passes. */
  stop(): Promise<void> {
    return applyStop(this.compartment);
  }
}

/** The addresses that one has and the other has not. */
function without(terminal: Terminal, other: Terminal): Terminal {
  return {
    ...terminal,
    ipv4: terminal.ipv4.filter((address) => !other.ipv4.includes(address)),
    ipv6: terminal.ipv6.filter((address) => !other.ipv6.includes(address)),
  };
}

function isSameJson(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
