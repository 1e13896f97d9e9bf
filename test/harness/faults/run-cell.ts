/**
 * One cell of the fault matrix: a handover comes to a step, something breaks exactly there, and what becomes of it is looked at on the wire.
 */
import { realClock, sleep } from '../../../shared/runtime/clock.js';
import { messageOf } from '../../../shared/runtime/message-of.js';
import { casualties, type Judged, LIFE_PORTS, Life } from '../life.js';
import { type Place, SWITCH_OF } from '../places.js';
import { count, WireRig } from '../rig.js';
import { admissions } from './admission-probe.js';
import type { Breakage, Cell, Outcome } from './cells.js';
import type { FaultLab, Heal } from './fault-lab.js';
import { orderPaused } from './order.js';
import { atRest } from './settled.js';

export const TERMINAL = 'alice';
/** In every other domain of them than the active one there is a standby. Handovers go between the others, which are cold therefore. */
export const STANDBYS: readonly Place[] = ['sdn-2', 'edge-2'];
/** Short, so that leases run out and standbys take over while the fault lasts. */
export const TIMINGS = {
  drainMs: 300,
  leaseMs: 1_500,
  prepareMs: 10_000,
  callMs: 2_000,
  retryMs: 1_000,
  takeoverMs: 1_000,
  digestMs: 500,
} as const;
/** Longer than a lease, and than it takes to notice a death. */
const FAULT_MS = 3_500;
/** Longer than a domain that was lost again and again is left alone. */
const SETTLE_MS = 120_000;

export interface CellResult {
  readonly cell: Cell;
  readonly outcome: Outcome | 'FAULT';
  /** What was not as it must be. */
  readonly faults: readonly string[];
  readonly connections: number;
  readonly forbidden: number;
  /** From the end of the fault until all was as before; undefined when it never was. */
  readonly settledMs: number | undefined;
}

/** From where to where the firewall moves. */
function route({ step, side, also }: Cell): { from: Place; to: Place } {
  const sides = [side, also?.side];
  if (sides.includes('old') && sides.includes('new')) return { from: 'edge-1', to: 'edge-2' };
  return step === 'idle' || sides.includes('old')
    ? { from: 'edge-1', to: 'sdn-1' }
    : { from: 'sdn-1', to: 'edge-1' };
}

/** Where it breaks. */
function placeOf(cell: Cell, { side }: Breakage): Place {
  const { from, to } = route(cell);
  if (side === 'standby') return 'edge-2';
  if (side === 'new') return to;
  if (side === undefined) return from === 'sdn-1' ? from : to;
  return from;
}

const breakages = (cell: Cell): readonly Breakage[] => (cell.also === undefined ? [cell] : [cell, cell.also]);

const standbysOf = ({ standbys }: Cell): readonly Place[] => (standbys ? STANDBYS : []);

/** Brings the system to rest with the firewall active in the domain. */
export async function bringTo(
  lab: FaultLab,
  domain: Place,
  standbys: readonly Place[] = STANDBYS,
): Promise<void> {
  const { paguro } = lab;
  await paguro.api.setPlacement(TERMINAL, 'stay');
  const status = await atRest(paguro, TERMINAL, standbys, SETTLE_MS);
  if (status.active?.domain === domain) return;
  const report = await paguro.handover(TERMINAL, domain);
  if (report.outcome !== 'done') throw new Error(`the move to ${domain}: ${report.error}`);
  await atRest(paguro, TERMINAL, standbys, SETTLE_MS);
}

/** Never fails: what goes wrong is the result. `onFault` is called, once, as soon as something does, and waited for. */
export async function runCell(
  lab: FaultLab,
  cell: Cell,
  onFault: () => Promise<void> = async () => {},
): Promise<CellResult> {
  const run = new CellRun(lab, cell, onFault);
  let outcome: CellResult['outcome'] = 'FAULT';
  try {
    outcome = await run.run();
  } catch (error) {
    await run.wrong(messageOf(error));
  } finally {
    await run.close().catch((error: unknown) => run.faults.push(messageOf(error)));
  }
  const { faults, connections, forbidden, settledMs } = run;
  return { cell, outcome: faults.length > 0 ? 'FAULT' : outcome, faults, connections, forbidden, settledMs };
}

class CellRun {
  readonly faults: string[] = [];
  connections = 0;
  forbidden = 0;
  settledMs: number | undefined;
  #life: Life | undefined;
  #wire: WireRig | undefined;
  readonly #heals: Heal[] = [];

  constructor(
    readonly lab: FaultLab,
    readonly cell: Cell,
    readonly onFault: () => Promise<void>,
  ) {}

  async run(): Promise<Outcome> {
    const { lab, cell } = this;
    const { paguro } = lab;
    const { from, to } = route(cell);
    await lab.keepStandbys(standbysOf(cell));
    await bringTo(lab, from, standbysOf(cell));
    const life = await Life.start(paguro);
    this.#life = life;
    const wire = await WireRig.start(paguro, LIFE_PORTS);
    this.#wire = wire;
    await life.open(from);
    this.connections = life.size;
    await this.#expect('before the fault', casualties(await life.judge()));
    if (from.startsWith('edge')) await this.#expectAdmission(from, true);
    if (cell.step !== 'idle') await orderPaused(paguro, TERMINAL, to, cell.step);
    for (const one of breakages(cell)) this.#heals.push(await lab.break(one.fault, placeOf(cell, one)));
    const controllerAway = cell.fault.startsWith('controller');
    const isWhole = breakages(cell).every(({ fault }) => fault !== 'container killed');
    if (cell.step !== 'idle' && !controllerAway) await paguro.api.continue(TERMINAL);
    // Nothing forbidden may pass in all this time.
    const during = await wire.during(sleep(realClock, FAULT_MS));
    if (controllerAway && isWhole)
      await this.#expect('while the controller is away', casualties(await life.judge()));
    if (isCutOff(cell)) await this.#expectAdmission('edge-1', false);
    await this.#mend();
    const judged = await this.#afterwards(life);
    const last = await wire.round();
    const { tried, passed } = count([...during, last]);
    this.forbidden = tried;
    await this.#expect('unfiltered', passed);
    await this.#expect('doubled', await life.doubled());
    return this.#outcome(judged);
  }

  async close(): Promise<void> {
    await this.#healAll();
    await Promise.all([this.#life?.close(), this.#wire?.close()]);
  }

  /** The fault ends, and what it kept from coming to its end does. */
  async #mend(): Promise<void> {
    const began = performance.now();
    const { cell, lab } = this;
    const { paguro } = lab;
    await this.#healAll();
    if (cell.fault === 'controller stopped') await paguro.api.continue(TERMINAL);
    await paguro.api.setPlacement(TERMINAL, 'stay');
    await atRest(paguro, TERMINAL, standbysOf(cell), SETTLE_MS);
    this.settledMs = performance.now() - began;
  }

  /** In the order in which they came: what is started looks for the controller. */
  async #healAll(): Promise<void> {
    for (const heal of this.#heals.splice(0)) await heal();
  }

  /** What became of the connections; and new ones are admitted. */
  async #afterwards(life: Life): Promise<readonly Judged[]> {
    const judged = await life.judge();
    await life.open('afterwards');
    const fresh = (await life.judge()).filter(({ name }) => name.startsWith('afterwards'));
    await this.#expect('opened afterwards', casualties(fresh));
    return judged;
  }

  async #outcome(judged: readonly Judged[]): Promise<Outcome> {
    const lost = casualties(judged);
    if (lost.length === 0) return 'lives';
    // Exchanges and pings that the policy lets the terminal begin have begun anew.
    const tcp = judged.filter(({ name }) => name.includes('tcp'));
    if (tcp.every(({ fate }) => fate !== 'survived')) return 'fails closed';
    await this.#expect('connections', lost);
    return 'fails closed';
  }

  async #expectAdmission(edge: Place, wanted: boolean): Promise<void> {
    const found = await admissions(this.lab.paguro, SWITCH_OF[edge]);
    if (found.includes(true) === wanted) return;
    await this.wrong(
      wanted ? `the active firewall in ${edge} admits nothing` : `cut off, ${edge} still admits`,
    );
  }

  /** Something was not as it must be. */
  async wrong(what: string): Promise<void> {
    this.faults.push(what);
    if (this.faults.length === 1) await this.onFault();
  }

  async #expect(what: string, wrong: readonly string[]): Promise<void> {
    if (wrong.length > 0) await this.wrong(`${what}: ${[...new Set(wrong)].join(', ')}`);
  }
}

/** Nobody can have renewed the lease of a firewall in edge-1 for the whole time of the fault. */
function isCutOff(cell: Cell): boolean {
  const alone = breakages(cell).filter((one) => placeOf(cell, one) === 'edge-1' || one.side === undefined);
  if (alone.some(({ fault }) => fault === 'container killed')) return false;
  return alone.some(({ fault }) => fault !== "switch's connection cut");
}
