/**
 * Policies that were set while the controller ran, and which policy a terminal has after a restart: what somebody said last. That is what was set while
 * running, unless the terminal's file says something else by now than it did then.
 */
import { createHash } from 'node:crypto';
import type { Policy } from '../../shared/firewall/policy.js';
import type { Log } from '../../shared/runtime/log.js';
import type { ControllerStore } from './store.js';

/** 64 hexadecimal digits, by which a policy is known again. */
export function policyDigest(policy: Policy): string {
  return createHash('sha256').update(JSON.stringify(policy)).digest('hex');
}

/** A terminal and the policy that its file has. */
interface Configured {
  readonly terminal: { readonly name: string };
  readonly policy: Policy;
}

export class PolicyMemory {
  readonly #files: ReadonlyMap<string, string>;

  constructor(
    readonly store: ControllerStore,
    terminals: readonly Configured[],
  ) {
    this.#files = new Map(terminals.map(({ terminal, policy }) => [terminal.name, policyDigest(policy)]));
  }

  /** The terminals, each with the policy that is in force after a start. What was set before and holds no more is forgotten. */
  inForce<T extends Configured>(terminals: readonly T[], log: Log): T[] {
    return terminals.map((configured) => {
      const { name } = configured.terminal;
      const keeper = this.store.terminal(name);
      const kept = keeper.read().policy;
      if (!kept) return configured;
      if (kept.fileDigest !== this.#files.get(name)) {
        log.warn(
          { terminal: name, policy: configured.policy.name, instead: kept.policy.name },
          'the policy file has changed since a policy was set while running: the file holds',
        );
        keeper.setPolicy(undefined).catch(() => {});
        return configured;
      }
      log.info({ terminal: name, policy: kept.policy.name }, 'the policy that was set while running holds');
      return { ...configured, policy: kept.policy };
    });
  }

  /** Keeps a policy, then puts it in force; when that fails, what was kept before is kept again. */
  async set(terminal: string, policy: Policy, putInForce: () => Promise<void>): Promise<void> {
    const keeper = this.store.terminal(terminal);
    const before = keeper.read().policy;
    const fileDigest = this.#files.get(terminal) ?? policyDigest(policy);
    await keeper.setPolicy({ policy, fileDigest });
    try {
      await putInForce();
    } catch (error) {
      await keeper.setPolicy(before);
      throw error;
    }
  }
}
