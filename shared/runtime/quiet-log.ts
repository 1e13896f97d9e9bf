/**
 * Log lines that somebody else can cause as often as they like: each kind is written once (or a few times), and then, while it goes on, once in a while
 * with how many were left out.
 */
import type { Clock, Timer } from './clock.js';
import type { Log } from './log.js';

/** Between two lines of one kind. */
const PAUSE_MS = 60_000;
/** Kinds that are told apart; what is more counts as one kind. */
const MAX_KINDS = 64;
const OTHERS = 'others';

interface Kind {
  readonly timer: Timer;
  /** How many were written since the timer was set. */
  written: number;
  /** How many were left out, and how to write the last of them. */
  leftOut: number;
  write: (leftOut: number) => void;
}

export type Level = 'info' | 'warn' | 'error';

export class QuietLog {
  readonly #kinds = new Map<string, Kind>();
  #closed = false;

  constructor(
    private readonly log: Log,
    private readonly clock: Clock,
    private readonly pauseMs: number = PAUSE_MS,
    private readonly maxKinds: number = MAX_KINDS,
  ) {}

  /** Writes the line, or counts it when `most` of its kind were written a short while ago. Peers should not be able to choose the kind. */
  say(kind: string, level: Level, fields: Readonly<Record<string, unknown>>, text: string, most = 1): void {
    if (this.#closed) return;
    const name = this.#kinds.has(kind) || this.#kinds.size < this.maxKinds ? kind : OTHERS;
    const known = this.#kinds.get(name) ?? this.#begin(name);
    if (known.written < most) {
      known.written++;
      this.log[level](fields, text);
    } else {
      known.leftOut++;
      known.write = (leftOut) => this.log[level]({ ...fields, leftOut }, text);
    }
  }

  /** Writes what was left out. May be called twice. */
  close(): void {
    this.#closed = true;
    for (const { timer, leftOut, write } of this.#kinds.values()) {
      timer.close();
      if (leftOut > 0) write(leftOut);
    }
    this.#kinds.clear();
  }

  #begin(name: string): Kind {
    const timer = this.clock.after(this.pauseMs, () => {
      this.#kinds.delete(name);
      if (kind.leftOut === 0) return;
      kind.write(kind.leftOut);
      this.#begin(name).written = 1;
    });
    const kind: Kind = { timer, written: 0, leftOut: 0, write: () => {} };
    this.#kinds.set(name, kind);
    return kind;
  }
}
