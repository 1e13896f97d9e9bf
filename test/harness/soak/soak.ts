/**
 * The soak: handovers, faults, connections and policy changes by chance, for as long as one likes, one after another. After each the system
 * must come to rest by itself, with every connection alive, and nothing forbidden may ever have passed. Each firewall has copies in two
 * standbys and in the controller, and one thing breaks at a time: so no fault destroys the only copy, and every connection must live.
 */
import { join } from 'node:path';
import type { Policy, Rule } from '../../../shared/firewall/policy.js';
import { realClock, sleep } from '../../../shared/runtime/clock.js';
import { messageOf } from '../../../shared/runtime/message-of.js';
import { Random } from '../../fuzz/random.js';
import { waitFor } from '../../lab/index.js';
import { collect } from '../faults/evidence.js';
import { FaultLab } from '../faults/fault-lab.js';
import { STANDBYS, TERMINAL, TIMINGS } from '../faults/run-cell.js';
import { atRest } from '../faults/settled.js';
import { casualties, LIFE_PORTS, Life } from '../life.js';
import { PLACES, type Place, SWITCH_OF } from '../places.js';
import { count, WireRig } from '../rig.js';
import { type Action, type Break, describe, nextAction } from './plan.js';
import { type Sample, sampleOf } from './usage.js';

/** Longer than a domain that was lost again and again is left alone. */
const REST_MS = 120_000;
/** Between two rounds of forbidden frames. */
const ROUND_MS = 200;
/** Programs may be killed in this part of the time; what they hold is watched afterwards. */
const KILLING_PART = 0.25;
/** Then the traffic begins anew. */
const MAX_CONNECTIONS = 64;
/** A rig has frames for 240 rounds. */
const STEPS_OF_A_RIG = 8;
const RULE_PORT = 7_000;

export interface SoakOptions {
  readonly minutes: number;
  readonly seed: number;
  readonly onStep: (text: string) => void;
  /** A folder for what a step that goes wrong leaves behind. */
  readonly evidence?: string | undefined;
}

export interface SoakResult {
  readonly steps: number;
  readonly byKind: Readonly<Record<string, number>>;
  /** Connections judged, each after every step that it lived through. */
  readonly judged: number;
  readonly forbidden: number;
  readonly faults: readonly string[];
  /** By the program's name: what it held after each step since the last one was killed. */
  readonly usage: ReadonlyMap<string, readonly Sample[]>;
}

/** Runs in a lab. Ends early when the system does not come to rest. */
export async function soak(options: SoakOptions): Promise<SoakResult> {
  const lab = await FaultLab.start({ standbys: STANDBYS, timings: TIMINGS });
  const run = new Soak(lab, options);
  try {
    await lab.paguro.attach(TERMINAL, 'h1', 'sdn-1');
    return await run.run();
  } finally {
    await run.close();
    await lab.close();
  }
}

class Soak {
  readonly #random: Random;
  readonly #faults: string[] = [];
  readonly #usage = new Map<string, Sample[]>();
  readonly #byKind: Record<string, number> = {};
  #policy: Policy | undefined;
  #life: Life | undefined;
  #wire: WireRig | undefined;
  #steps = 0;
  #judged = 0;
  #forbidden = 0;

  constructor(
    readonly lab: FaultLab,
    readonly options: SoakOptions,
  ) {
    this.#random = new Random(options.seed);
  }

  async run(): Promise<SoakResult> {
    const { minutes, onStep } = this.options;
    const began = performance.now();
    const passed = (): number => (performance.now() - began) / 60_000 / minutes;
    let active = await this.#rest();
    while (passed() < 1) {
      const kills = passed() < KILLING_PART;
      const action = nextAction(this.#random, active, kills);
      const text = `${this.#steps}: ${describe(action)}`;
      const before = this.#faults.length;
      try {
        active = await this.#step(action, text);
      } catch (error) {
        this.#faults.push(`${text}: ${messageOf(error)}`);
        onStep(`${text}\n  ${messageOf(error)}`);
        await this.#keepEvidence();
        break;
      }
      if (this.#faults.length > before) await this.#keepEvidence();
      if (kills) this.#usage.clear();
      else await this.#sample();
      onStep(`${text}; then in ${active}`);
    }
    return this.#result();
  }

  async #keepEvidence(): Promise<void> {
    const { evidence } = this.options;
    if (evidence !== undefined) await collect(this.lab, join(evidence, `after-step-${this.#steps}`));
  }

  async close(): Promise<void> {
    await Promise.all([this.#life?.close(), this.#wire?.close()]);
  }

  #result(): SoakResult {
    return {
      ...{ steps: this.#steps, byKind: this.#byKind, judged: this.#judged, forbidden: this.#forbidden },
      ...{ faults: this.#faults, usage: this.#usage },
    };
  }

  /** Does it, waits for rest, and judges. Returns where the firewall is then. */
  async #step(action: Action, text: string): Promise<Place> {
    const { life, wire } = await this.#instruments();
    const during = await wire.during(this.#do(action, life), ROUND_MS);
    const active = await this.#rest();
    const judged = await life.judge();
    const last = await wire.round();
    const { tried, passed } = count([...during, last]);
    this.#judged += judged.length;
    this.#forbidden += tried;
    this.#expect(text, 'unfiltered', passed);
    this.#expect(text, 'connections', casualties(judged));
    this.#expect(text, 'doubled', await life.doubled());
    const { policy } = await this.lab.paguro.api.state(TERMINAL);
    if (this.#policy && policy.name !== this.#policy.name)
      this.#faults.push(`${text}: the policy in force is ${policy.name}`);
    this.#steps += 1;
    this.#byKind[action.kind] = (this.#byKind[action.kind] ?? 0) + 1;
    return active;
  }

  async #do(action: Action, life: Life): Promise<void> {
    const { paguro } = this.lab;
    switch (action.kind) {
      case 'handover':
        await this.#handover(action.to, action.broken);
        return;
      case 'fault':
        await this.#break(action.broken);
        return;
      case 'move':
        await this.#move(action.to);
        return;
      case 'open':
        await life.open(`step ${this.#steps}`);
        return;
      case 'close':
        await life.end();
        return;
      case 'policy':
        this.#policy = withRule(this.#policy ?? (await paguro.api.state(TERMINAL)).policy, action.number);
        await paguro.api.setPolicy(TERMINAL, this.#policy);
    }
  }

  /** Its outcome is free: with a fault it may be undone, and the controller may not be there to tell. */
  async #handover(to: Place, broken: Break | undefined): Promise<void> {
    const moving = this.lab.paguro.handover(TERMINAL, to);
    if (broken === undefined) {
      const report = await moving;
      if (report.outcome !== 'done') throw new Error(`${report.outcome}: ${report.error}`);
      return;
    }
    await Promise.all([moving.catch(() => {}), this.#break(broken)]);
  }

  async #break({ fault, where, afterMs, forMs }: Break): Promise<void> {
    await sleep(realClock, afterMs);
    if (fault === 'container killed' && !(await this.lab.hasContainer(where))) return;
    const heal = await this.lab.break(fault, where);
    await sleep(realClock, forMs);
    await heal();
    if (fault === 'controller killed') await this.lab.paguro.api.setPlacement(TERMINAL, 'stay');
  }

  async #move(to: Place): Promise<void> {
    const { paguro } = this.lab;
    if (paguro.host('h1').attachment.switch === SWITCH_OF[to]) return;
    await paguro.api.setPlacement(TERMINAL, 'follow');
    await paguro.move('h1', SWITCH_OF[to]);
    await waitFor(
      `the firewall has followed to ${to}`,
      async () => (await paguro.terminal(TERMINAL)).active?.domain === to,
      { timeoutMs: REST_MS, intervalMs: 50 },
    );
    await paguro.api.setPlacement(TERMINAL, 'stay');
  }

  /** Traffic and what looks at the wire, made anew now and then: both remember all that they saw. */
  async #instruments(): Promise<{ life: Life; wire: WireRig }> {
    const { paguro } = this.lab;
    if (this.#life && this.#life.size > MAX_CONNECTIONS) {
      await this.#life.close();
      this.#life = undefined;
    }
    if (this.#wire && this.#steps % STEPS_OF_A_RIG === 0) {
      await this.#wire.close();
      this.#wire = undefined;
    }
    if (!this.#life) {
      this.#life = await Life.start(paguro);
      await this.#life.open(`step ${this.#steps}`);
    }
    this.#wire ??= await WireRig.start(paguro, LIFE_PORTS);
    return { life: this.#life, wire: this.#wire };
  }

  async #rest(): Promise<Place> {
    const { active } = await atRest(this.lab.paguro, TERMINAL, STANDBYS, REST_MS);
    const found = PLACES.find((place) => place === active?.domain);
    if (!found) throw new Error(`active in ${active?.domain}, which is no place`);
    return found;
  }

  async #sample(): Promise<void> {
    const { controller, agents } = this.lab.paguro.pids();
    const programs = [...(controller === undefined ? [] : [['controller', controller] as const]), ...agents];
    for (const [name, pid] of programs) {
      const sample = await sampleOf(pid);
      if (sample) this.#usage.set(name, [...(this.#usage.get(name) ?? []), sample]);
    }
  }

  #expect(step: string, what: string, wrong: readonly string[]): void {
    if (wrong.length > 0) this.#faults.push(`${step}: ${what}: ${[...new Set(wrong)].join(', ')}`);
  }
}

/** The policy with one more rule, in place of an earlier one of the kind; it closes what nobody uses. */
function withRule(policy: Policy, number: number): Policy {
  const port = RULE_PORT + number;
  const rule: Rule = {
    name: 'of the soak',
    direction: 'outbound',
    action: 'drop',
    protocol: 'tcp',
    remotePorts: [[port, port]],
  };
  const rules = policy.rules.filter(({ name }) => name !== rule.name);
  return { ...policy, name: `phone ${number}`, rules: [...rules, rule] };
}
