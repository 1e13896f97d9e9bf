/**
 * One life of a child that runs a target, from its start until it is stopped, hangs, dies or grows too large.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { setPriority } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { Finding } from './findings.js';
import { FuzzError, type NamedTarget } from './load.js';
import { type Report, reportSchema } from './report.js';
import { Slot } from './slot.js';
import { usageOf } from './watch.js';

const CHILD = fileURLToPath(new URL('./child.js', import.meta.url));
const LOOK_MS = 250;
const MAX_HEAP_MB = 512;
const MAX_STDERR_CHARACTERS = 4_000;
/** A child that waits for something computes nothing: then the clock on the wall counts, so many times as long. */
const WALL_FACTOR = 12;
const START_MS = 60_000;
/** Whoever works at the machine goes first. */
const NICE = 10;

export interface LifeOptions {
  readonly target: NamedTarget;
  /** Where its input is kept while it works on it. */
  readonly slot: string;
  readonly mode:
    | { readonly kind: 'seed'; readonly seed: number }
    | { readonly kind: 'replay'; readonly file: string };
  /** Computing for longer than this on one input is a hang, in ms. */
  readonly hangMs: number;
  readonly maxResidentBytes: number;
  readonly signal: AbortSignal;
  onReport(report: Report): void;
}

/** `stopped`: by the signal, or a replay at its end. */
export type LifeEnd = { readonly kind: 'stopped' } | { readonly kind: 'finding'; readonly finding: Finding };

/** Fails with `did-not-start`. */
export async function live(options: LifeOptions): Promise<LifeEnd> {
  if (options.signal.aborted) return { kind: 'stopped' };
  const slot = new Slot(options.slot, 'w+');
  try {
    return await new Life(options, slot).run();
  } finally {
    slot.close();
  }
}

class Life {
  readonly #child: ChildProcess;
  #stderr = '';
  #end: LifeEnd | undefined;
  #mark = { number: 0, cpuMs: 0, at: performance.now() };

  constructor(
    private readonly options: LifeOptions,
    private readonly slot: Slot,
  ) {
    const { target, mode } = options;
    const argument = mode.kind === 'seed' ? String(mode.seed) : mode.file;
    this.#child = fork(CHILD, [target.module, options.slot, mode.kind, argument], {
      execArgv: [`--max-old-space-size=${MAX_HEAP_MB}`],
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
  }

  async run(): Promise<LifeEnd> {
    const { options } = this;
    const child = this.#child;
    if (child.pid !== undefined) setPriority(child.pid, NICE);
    const stop = (): void => this.#stop({ kind: 'stopped' });
    options.signal.addEventListener('abort', stop, { once: true });
    const looking = setInterval(() => this.#look(), LOOK_MS);
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-MAX_STDERR_CHARACTERS);
    });
    child.on('message', (message: unknown) => options.onReport(reportSchema.parse(message)));
    try {
      const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
        child.once('error', reject);
        child.once('close', (...how) => resolve(how));
      });
      return this.#end ?? this.#died(code, signal);
    } finally {
      clearInterval(looking);
      options.signal.removeEventListener('abort', stop);
    }
  }

  #stop(end: LifeEnd): void {
    this.#end ??= end;
    this.#child.kill('SIGKILL');
  }

  #look(): void {
    const { pid } = this.#child;
    const usage = pid === undefined ? undefined : usageOf(pid);
    if (!usage) return;
    const { hangMs, maxResidentBytes } = this.options;
    const now = performance.now();
    const { number } = this.slot;
    if (usage.residentBytes > maxResidentBytes) {
      const text = `${usage.residentBytes} bytes are resident`;
      this.#found('memory', `more than ${maxResidentBytes} bytes`, text);
      return;
    }
    if (number !== this.#mark.number) {
      this.#mark = { number, cpuMs: usage.cpuMs, at: now };
    } else if (number === 0) {
      if (now - this.#mark.at > START_MS) this.#child.kill('SIGKILL');
    } else {
      const computed = usage.cpuMs - this.#mark.cpuMs;
      const passed = now - this.#mark.at;
      if (computed > hangMs || passed > WALL_FACTOR * hangMs)
        this.#found(
          'hang',
          `no end after ${hangMs} ms`,
          `${computed.toFixed(0)} ms of computing, ${passed.toFixed(0)} ms passed`,
        );
    }
  }

  #found(kind: Finding['kind'], signature: string, text: string): void {
    const { target } = this.options;
    this.#stop({
      kind: 'finding',
      finding: { target: target.name, kind, input: this.slot.take(), signature, text },
    });
  }

  /** It ended without being told to. */
  #died(code: number | null, signal: NodeJS.Signals | null): LifeEnd {
    if (code === 0 && this.options.mode.kind === 'replay') return { kind: 'stopped' };
    const { target } = this.options;
    const how = signal ?? `exit code ${code}`;
    if (this.slot.number === 0)
      throw new FuzzError(
        'did-not-start',
        `target ${target.name} did not start (${how}): ${this.#stderr.trim()}`,
      );
    const memory = this.#stderr.includes('heap out of memory');
    return {
      kind: 'finding',
      finding: {
        target: target.name,
        kind: memory ? 'memory' : 'crash',
        input: this.slot.take(),
        signature: memory ? `more than ${MAX_HEAP_MB} MB of heap` : `the process ended: ${how}`,
        text: this.#stderr,
      },
    };
  }
}
