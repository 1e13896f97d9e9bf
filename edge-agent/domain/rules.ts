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
  #isOpen = false;

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

  /** Other rules; the counters of those that stay go on. When it fails the rules are as before, and so is what this says of them. */
  async change(change: Partial<RuleContents>): Promise<void> {
    const before = this.#contents;
    const counters = await this.counters();
    this.#contents = { ...before, ...change };
    try {
      await this.install(counters);
    } catch (error) {
      this.#contents = before;
      // One family may have taken the new rules already.
      await this.install(counters).catch((cause: unknown) =>
        this.log.error({ err: cause }, 'the old rules could not be put back'),
      );
      throw error;
    }
  }

  /** Admits new connections from now on, for the seconds that the rules say, or no more. Starts no process. */
  async openGate(isOpen: boolean): Promise<void> {
    await setGate(this.compartment, this.#contents.terminal, isOpen);
    this.#isOpen = isOpen;
  }

  /**
   * Rules for other addresses. Those that go are not admitted for from the beginning on; `between` ends what they had. Those that come are admitted for
   * at last, if the gate is open: by the kernel for a whole lease from now on, but the agent closes it when the lease is over.
   */
  async setTerminal(terminal: Terminal, between: () => Promise<void>): Promise<void> {
    const before = this.#contents.terminal;
    const gone = without(before, terminal);
    await setGate(this.compartment, gone, false);
    try {
      await this.change({ terminal });
    } catch (error) {
      if (this.#isOpen) await setGate(this.compartment, gone, true);
      throw error;
    }
    await between();
    if (this.#isOpen) await setGate(this.compartment, without(terminal, before), true);
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
