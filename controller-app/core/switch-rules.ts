/**
 * Keeps the rules of one switch as the plugins state them. Three states:
 *
 *   away      not connected: changes are remembered
 *   unknown   connected, but what it has is not known: it is asked, and gets the difference in one bundle. The first time, rules that an earlier
 *             controller left and nobody states are offered to their plugins before they go
 *   known     changes are computed against what it has, without asking; those that come while a bundle is under way go in one bundle after it
 *
 * A bundle that the switch refuses changes nothing, there or here. After a bundle of which nobody knows what became of it (no answer) the state is
 * unknown. When a switch can't be brought to what it should have it is hung up: it keeps what it had, and everything begins
 * anew when it comes back.
 */
import type { Flow, FlowMod, FlowRemovedMessage, FlowStats } from '../openflow/index.js';
import { BundleError } from '../switch/index.js';
import { ActualRules, Comparison, modsOf, type Needed } from './actual-rules.js';
import { ChangeQueue, type Groups, identified, type ReadyChange, ready } from './changes.js';
import { OUR_COOKIES } from './cookies.js';
import { CoreError } from './errors.js';
import { flowKey, type Identified } from './flow-identity.js';
import { counted, type Reconciled } from './reconciled.js';
import { endsByItself, type Plan, RuleSet, type Stated } from './rule-set.js';
import { AtSwitch, type StagedChange, type StagingTarget } from './staged-change.js';
import { type FlowSweep, usefulSweeps } from './sweep.js';

/** The most that all plugins together may state for one switch, and that a switch may have of ours. */
const MAX_RULES_PER_SWITCH = 200_000;
/** For each answer within a bundle: a switch may take its time to commit many rules. */
const BUNDLE_TIMEOUT_MS = 20_000;

/** What is needed of a live switch. */
export interface RuleTarget extends StagingTarget {
  readonly closed: boolean;
  eachFlows(
    filter: { readonly cookie: bigint; readonly cookieMask: bigint },
    onFlows: (flows: readonly FlowStats[]) => void,
  ): Promise<void>;
  bundle(mods: readonly FlowMod[], options: { readonly timeoutMs: number }): Promise<void>;
  close(reason?: Error): void;
}

/** What an earlier controller left of ours and nobody states: who knows such rules to be good states them at once. */
type Offer = (flows: readonly Flow[]) => void;

interface Arrival {
  readonly offer: Offer;
  readonly resolve: (result: Reconciled) => void;
  readonly reject: (error: unknown) => void;
}

type State =
  | { readonly name: 'away' }
  | {
      readonly name: 'unknown';
      readonly target: RuleTarget;
      /** So many changes were stated before it connected: they are part of what it gets. */
      readonly before: number;
      readonly arrival?: Arrival;
    }
  | { readonly name: 'known'; readonly target: RuleTarget };

export class SwitchRules {
  readonly #rules = new RuleSet();
  #state: State = { name: 'away' };
  /** Holds in the state `known` only. */
  #actual = new ActualRules();
  /** Rules which end by themselves and were in the switch: should they be missing, they have ended. */
  readonly #begun = new Set<string>();
  readonly #queue = new ChangeQueue();
  #working = false;
  /** Has the switch been brought to what is stated before? */
  #met = false;
  readonly #maxRules: number;

  constructor(maxRules = MAX_RULES_PER_SWITCH) {
    this.#maxRules = maxRules;
  }

  /** How many rules are stated. */
  get size(): number {
    return this.#rules.size;
  }

  /** Changes of this owner that wait. */
  waiting(owner: string): number {
    return this.#queue.waiting(owner);
  }

  /**
   * States groups of rules, in place of what they had. Settles when the switch has confirmed, or when it is away and they are
   * remembered. Fails when they can't be, and then nothing has changed.
   */
  change(owner: string, groups: Groups<Flow>, sweeps: readonly FlowSweep[] = []): Promise<void> {
    const changed = this.#queue.add(owner, { groups, sweeps });
    void this.#work();
    return changed;
  }

  /**
   * Sends a switch that is there what these groups, stated next, need of it, without effect: stated, they take one message. It may be that nothing
   * is sent; what is wrong with the groups is told when they are stated. Discarded by itself after a few seconds.
   */
  async stage(owner: string, groups: Groups<Flow>): Promise<StagedChange> {
    const atSwitch = await this.#sendAhead(groups);
    return {
      state: () => {
        const changed = this.#queue.add(owner, { groups, sweeps: [], atSwitch });
        void this.#work();
        const end = (): void => atSwitch?.discard();
        changed.then(end, end);
        return changed;
      },
      discard: () => atSwitch?.discard(),
    };
  }

  /**
   * The switch is there. Settles when it has what is stated by now. `offer` is called once in the life of these rules, when there are some in the switch that
   * nobody states: those that are stated before it returns stay as they are.
   */
  connect(target: RuleTarget, offer: Offer = () => {}): Promise<Reconciled> {
    return new Promise((resolve, reject) => {
      this.#interrupt(new Error('the switch has connected again'));
      const before = this.#queue.length;
      this.#state = { name: 'unknown', target, before, arrival: { offer, resolve, reject } };
      void this.#work();
    });
  }

  /** The switch is gone. */
  disconnect(target: RuleTarget, reason: Error): void {
    if (this.#state.name === 'away' || this.#state.target !== target) return;
    this.#interrupt(reason);
    this.#state = { name: 'away' };
  }

  /**
   * The switch tells that a flow of ours is gone. When its time was over, it is stated no more. When somebody removed it, it comes back
   * with the next connection, as do all those of which nothing is told.
   */
  removed({ reason, tableId, priority, match, cookie }: FlowRemovedMessage): void {
    if (reason !== 'idle_timeout' && reason !== 'hard_timeout') return;
    const key = flowKey({ table: tableId, priority, match });
    this.#actual.delete(key);
    const stated = this.#rules.get(key);
    if (stated && stated.flow.cookie === cookie) this.#forget(stated);
  }

  #interrupt(reason: Error): void {
    if (this.#state.name === 'unknown') this.#state.arrival?.reject(reason);
  }

  #forget(stated: Stated): void {
    if (!endsByItself(stated.flow)) return;
    this.#rules.forget(stated);
    this.#begun.delete(stated.key);
  }

  async #work(): Promise<void> {
    if (this.#working) return;
    this.#working = true;
    // What is stated in one go is one bundle.
    await Promise.resolve();
    while (this.#state.name === 'unknown' || this.#queue.length > 0) {
      if (this.#state.name === 'unknown') {
        await this.#reconcile(this.#state);
        continue;
      }
      const changes = await ready(this.#queue.takeNext());
      // Meanwhile the switch may have come or gone: then they were stated while it was away.
      if (this.#state.name === 'known') await this.#send(this.#state, changes);
      else this.#remember(changes);
    }
    this.#working = false;
  }

  #remember(changes: readonly ReadyChange[]): void {
    for (const change of changes) {
      try {
        const plan = this.#plan([change]);
        plan.commit();
        // Stated again, it begins again.
        for (const { key } of [...plan.leaving, ...plan.stating]) this.#begun.delete(key);
        change.settle();
      } catch (error) {
        change.settle(error);
      }
    }
  }

  /** What several changes mean together: of one group the last counts. */
  #plan(changes: readonly Pick<ReadyChange, 'rules'>[]): Plan {
    const groups = new Map<string, readonly Identified[]>();
    for (const { rules } of changes) for (const [group, its] of rules) groups.set(group, its);
    const plan = this.#rules.plan(groups);
    if (plan.size > this.#maxRules)
      throw new CoreError(
        'too-many-rules',
        `more than ${this.#maxRules} rules for one switch: use fewer policy rules or terminals`,
      );
    return plan;
  }

  async #send(state: State & { readonly name: 'known' }, changes: readonly ReadyChange[]): Promise<void> {
    let sent = false;
    try {
      const plan = this.#plan(changes);
      const sweeps = changes.flatMap((change) => change.sweeps);
      const needed = this.#actual.changesFor(plan, usefulSweeps(sweeps, plan, this.#rules.values()));
      sent = needed.mods.length > 0;
      if (sent) await this.#bring(state.target, needed, changes[0]?.atSwitch);
      needed.done();
      plan.commit();
      for (const { key } of plan.leaving) this.#begun.delete(key);
      this.#begin(plan.stating);
      for (const { settle } of changes) settle();
    } catch (error) {
      const nothingDone = !sent || error instanceof BundleError;
      if (nothingDone && changes.length > 1) {
        this.#queue.eachAlone(changes);
        return;
      }
      if (!nothingDone && this.#state === state)
        this.#state = { name: 'unknown', target: state.target, before: 0 };
      for (const { settle } of changes) settle(error);
    }
  }

  async #bring(target: RuleTarget, needed: Needed, atSwitch: AtSwitch | undefined): Promise<void> {
    if (await atSwitch?.commit(target, needed, BUNDLE_TIMEOUT_MS)) return;
    atSwitch?.discard();
    await target.bundle(needed.mods, { timeoutMs: BUNDLE_TIMEOUT_MS });
  }

  /** What a change of these groups would need if it came now. */
  async #sendAhead(groups: Groups<Flow>): Promise<AtSwitch | undefined> {
    try {
      const rules = await identified(groups);
      if (this.#state.name !== 'known') return undefined;
      const needed = this.#actual.changesFor(this.#plan([{ rules }]), []);
      return await AtSwitch.send(this.#state.target, rules, needed);
    } catch {
      // It is told to whoever states them.
      return undefined;
    }
  }

  /** The switch has these now. */
  #begin(rules: Iterable<Stated>): void {
    for (const { key, flow } of rules) if (endsByItself(flow)) this.#begun.add(key);
  }

  /** What is stated in answer counts with this comparison already. */
  async #offer(comparison: Comparison, offer: Offer | undefined): Promise<void> {
    const found = this.#met || !offer ? [] : comparison.strangers();
    if (found.length === 0) return;
    const before = this.#queue.length;
    offer?.(found);
    this.#remember(await ready(this.#queue.takeFrom(before)));
  }

  async #reconcile(state: State & { readonly name: 'unknown' }): Promise<void> {
    const { target, before, arrival } = state;
    this.#queue.together();
    this.#remember(await ready(this.#queue.takeFirst(before)));
    if (this.#state !== state) return;
    const comparison = new Comparison(this.#rules);
    this.#actual = comparison.actual;
    try {
      await target.eachFlows(OUR_COOKIES, (flows) => {
        for (const flow of flows) comparison.see(flow);
        if (comparison.seen > this.#maxRules) throw tooManyThere(this.#maxRules);
      });
      await this.#offer(comparison, arrival?.offer);
      if (this.#state !== state) return;
      for (const stated of comparison.missing()) if (this.#begun.has(stated.key)) this.#forget(stated);
      const difference = comparison.difference();
      const mods = modsOf(difference);
      if (mods.length > 0) await target.bundle(mods, { timeoutMs: BUNDLE_TIMEOUT_MS });
      if (this.#state !== state) return;
      comparison.done(difference);
      this.#begin(this.#rules.values());
      this.#met = true;
      this.#state = { name: 'known', target };
      arrival?.resolve(counted(difference, this.#rules.size));
    } catch (error) {
      if (this.#state !== state) return;
      this.#state = { name: 'away' };
      arrival?.reject(error);
      target.close(error instanceof Error ? error : new Error(String(error)));
    }
  }
}

function tooManyThere(most: number): CoreError {
  const { cookie, cookieMask } = OUR_COOKIES;
  const filter = `cookie=0x${cookie.toString(16)}/0x${cookieMask.toString(16)}`;
  return new CoreError(
    'too-many-rules',
    `the switch has more than ${most} rules under our cookies: remove them with "ovs-ofctl del-flows BRIDGE ${filter}"`,
  );
}
