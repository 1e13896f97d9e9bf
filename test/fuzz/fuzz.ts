/**
 * Runs targets side by side, each in a process of its own, until told to stop; keeps what they find. What is said meanwhile goes to `say`.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Finding, Findings } from './findings.js';
import { type LifeEnd, type LifeOptions, live } from './life.js';
import type { NamedTarget } from './load.js';

export interface FuzzOptions {
  readonly targets: readonly NamedTarget[];
  readonly seed: number;
  /** Where findings are kept. */
  readonly folder: string;
  readonly signal: AbortSignal;
  say(line: string): void;
  /** A finding with a cause that is new. */
  onFinding?(target: string): void;
  /** Default 5,000: computing for longer than this on one input is a hang. */
  readonly hangMs?: number;
  /** Default 1 GB. */
  readonly maxResidentBytes?: number;
  /** Default 10,000: between two lines that say how far it is. */
  readonly sayEveryMs?: number;
}

export interface TargetSummary {
  readonly name: string;
  readonly inputs: number;
  /** Kinds of outcome that were seen. */
  readonly kinds: number;
  /** Different causes of failure. */
  readonly findings: number;
}

export interface FuzzSummary {
  readonly targets: readonly TargetSummary[];
  readonly inputs: number;
  readonly findings: number;
  readonly seconds: number;
}

const DEFAULT_HANG_MS = 5_000;
const DEFAULT_RESIDENT_BYTES = 2 ** 30;
const DEFAULT_SAY_MS = 10_000;

/** Ends when `signal` aborts, or when every target has failed so often that it is not worth going on. Fails with a FuzzError. */
export async function fuzz(options: FuzzOptions): Promise<FuzzSummary> {
  const { targets, seed, folder, signal } = options;
  const started = performance.now();
  const findings = new Findings(folder, `seed ${seed}`);
  const slots = await mkdtemp(join(tmpdir(), 'paguro-fuzz-'));
  const runs = targets.map((target) => new TargetRun(target, options, findings, join(slots, target.name)));
  const summary = (): FuzzSummary => {
    const all = runs.map((run) => run.summary);
    return {
      targets: all,
      inputs: all.reduce((sum, { inputs }) => sum + inputs, 0),
      findings: all.reduce((sum, each) => sum + each.findings, 0),
      seconds: (performance.now() - started) / 1000,
    };
  };
  const telling = setInterval(
    () => options.say(progressLine(summary())),
    options.sayEveryMs ?? DEFAULT_SAY_MS,
  );
  const failed = new AbortController();
  const until = AbortSignal.any([signal, failed.signal]);
  try {
    await Promise.all(
      runs.map((run) =>
        run.run(until).catch((error: unknown) => {
          failed.abort();
          throw error;
        }),
      ),
    );
    return summary();
  } finally {
    clearInterval(telling);
    await rm(slots, { recursive: true, force: true });
  }
}

class TargetRun {
  #inputsBefore = 0;
  #inputs = 0;
  #kinds = 0;

  constructor(
    private readonly target: NamedTarget,
    private readonly options: FuzzOptions,
    private readonly findings: Findings,
    private readonly slot: string,
  ) {}

  get summary(): TargetSummary {
    const { name } = this.target;
    const inputs = this.#inputsBefore + this.#inputs;
    return { name, inputs, kinds: this.#kinds, findings: this.findings.causes(name) };
  }

  /** One life of a child after another: it begins anew, with other inputs, after each that ended it. */
  async run(signal: AbortSignal): Promise<void> {
    const { target, options, findings } = this;
    for (let life = 0; !signal.aborted && !findings.isFull(target.name); life++) {
      const end = await this.#live({ kind: 'seed', seed: (options.seed + life) >>> 0 }, signal, (report) => {
        if (report.kind === 'progress') {
          this.#inputs = report.inputs;
          this.#kinds = Math.max(this.#kinds, report.kinds);
        } else if (report.kind === 'failure') {
          const { signature, text } = report;
          const input = Uint8Array.from(Buffer.from(report.input, 'base64'));
          this.#keep({ target: target.name, kind: 'error', input, signature, text });
        }
      });
      this.#inputsBefore += this.#inputs;
      this.#inputs = 0;
      if (end.kind === 'finding') await this.#confirm(end.finding);
    }
  }

  #live(mode: LifeOptions['mode'], signal: AbortSignal, onReport: LifeOptions['onReport']): Promise<LifeEnd> {
    const { hangMs = DEFAULT_HANG_MS, maxResidentBytes = DEFAULT_RESIDENT_BYTES } = this.options;
    return live({ target: this.target, slot: this.slot, mode, hangMs, maxResidentBytes, signal, onReport });
  }

  /** What a process suffers may come of all that it did before: the input is tried alone. */
  async #confirm(finding: Finding): Promise<void> {
    const file = `${this.slot}-input`;
    await writeFile(file, finding.input);
    const again = await this.#live({ kind: 'replay', file }, new AbortController().signal, () => {});
    if (again.kind === 'finding') this.#keep(finding);
    else {
      const { target, kind, signature } = finding;
      this.options.say(
        `${target}: ${kind}: ${signature}; not again with this input alone, so it is not kept`,
      );
    }
  }

  #keep(finding: Finding): void {
    const kept = this.findings.keep(finding);
    if (!kept?.isNew) return;
    this.options.say(`${finding.target}: ${finding.kind}: ${finding.signature}\n  kept: ${kept.file}`);
    this.options.onFinding?.(finding.target);
  }
}

const number = (value: number): string => value.toLocaleString('en-US', { maximumFractionDigits: 0 });

function progressLine({ targets, findings, seconds }: FuzzSummary): string {
  const each = targets.map(({ name, inputs }) => `${name} ${number(inputs)}`).join(', ');
  return `${number(seconds).padStart(6)} s  ${each}; findings: ${findings}`;
}

/** The summary as a table. */
export function summaryText({ targets, inputs, findings, seconds }: FuzzSummary): string {
  const rows = [
    ['target', 'inputs', 'a second', 'outcomes', 'findings'],
    ...targets.map((each) => [
      each.name,
      number(each.inputs),
      number(each.inputs / Math.max(seconds, 1e-3)),
      number(each.kinds),
      number(each.findings),
    ]),
    ['all', number(inputs), number(inputs / Math.max(seconds, 1e-3)), '', number(findings)],
  ];
  const widths = [0, 1, 2, 3, 4].map((column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) =>
          column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
        )
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
