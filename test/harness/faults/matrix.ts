/**
 * Runs cells of the fault matrix one after another in one lab. A cell that leaves the system in disorder has it started anew: the next
 * one is not to suffer from it.
 */
import { join } from 'node:path';
import { messageOf } from '../../../shared/runtime/message-of.js';
import type { Cell } from './cells.js';
import { collect } from './evidence.js';
import { FaultLab } from './fault-lab.js';
import { bringTo, type CellResult, runCell, STANDBYS, TERMINAL, TIMINGS } from './run-cell.js';

export class Matrix {
  private constructor(
    readonly lab: FaultLab,
    readonly evidence: string | undefined,
  ) {}

  /** Attaches alice to s1. `evidence`: a folder for what a cell that goes wrong leaves behind. */
  static async start(evidence?: string): Promise<Matrix> {
    const lab = await FaultLab.start({ standbys: STANDBYS, timings: TIMINGS });
    await lab.paguro.attach(TERMINAL, 'h1', 'sdn-1');
    return new Matrix(lab, evidence);
  }

  async run(cell: Cell): Promise<CellResult> {
    const result = await runCell(this.lab, cell, () => this.#keepEvidence(cell));
    if (result.outcome !== 'FAULT') return result;
    const disorder = await this.#restore().then(
      () => undefined,
      (error: unknown) => messageOf(error),
    );
    if (disorder === undefined) return result;
    const anew = await this.#startAnew().then(
      () => 'started anew',
      (error: unknown) => `not to be started anew (${messageOf(error)})`,
    );
    return { ...result, faults: [...result.faults, `${anew}: ${disorder}`] };
  }

  close(): Promise<void> {
    return this.lab.close();
  }

  async #keepEvidence({ name }: Cell): Promise<void> {
    if (this.evidence !== undefined)
      await collect(this.lab, join(this.evidence, name.replaceAll(/[^a-z-]+/g, '-')));
  }

  async #startAnew(): Promise<void> {
    const { paguro } = this.lab;
    await Promise.all([paguro.killController(), ...paguro.agents.map(({ name }) => paguro.killAgent(name))]);
    await paguro.startController();
    await Promise.all(paguro.agents.map(({ name }) => paguro.startAgent(name)));
    await this.#restore();
  }

  async #restore(): Promise<void> {
    await this.lab.keepStandbys(STANDBYS);
    await bringTo(this.lab, 'sdn-1');
  }
}
