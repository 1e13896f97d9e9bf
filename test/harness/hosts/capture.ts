/**
 * Capture: what is on the wire at a host's interface, in both directions, through tcpdump.
 */
import type { ChildProcess } from 'node:child_process';
import { waitFor } from '../../lab/wait.js';
import { monotonicMs } from './clock.js';
import type { Host } from './host.js';
import { HelperError } from './json-lines.js';
import { PcapReader } from './pcap.js';

export interface CapturedFrame {
  /** When the kernel saw it, monotonic ms. */
  readonly at: number;
  readonly data: Buffer;
}

export interface CaptureOptions {
  /** A pcap filter, such as `not port 5001`: one argument a word. Default: everything. */
  readonly filter?: readonly string[];
  /** Frames for which this says no are counted, not kept. Default: all are kept. */
  readonly keep?: (frame: Buffer) => boolean;
  /** More than this many kept frames fails the capture. Default 200,000. */
  readonly maxFrames?: number;
}

const MAX_STDERR_BYTES = 64 * 1024;
const START_MS = 10_000;
const FLUSH_MS = 5_000;
const LOOKS = 3;
const READ_BUFFER_KIB = '16384';
/** Whole frames of an ordinary link. Without a bound each takes 256 KiB of the buffer, which then holds 64. */
const SNAPSHOT_BYTES = '2048';

export class Capture {
  readonly host: Host;
  readonly #child: ChildProcess;
  readonly #reader = new PcapReader();
  readonly #frames: CapturedFrame[] = [];
  /** The bytes of the kept frames, a character each. */
  readonly #known = new Set<string>();
  readonly #keep: (frame: Buffer) => boolean;
  readonly #maxFrames: number;
  readonly #ended: Promise<void>;
  /** tcpdump tells real time. */
  readonly #clockOffset = performance.timeOrigin + performance.now() - monotonicMs();
  #stderr = '';
  /** Frames that the kernel counts and tcpdump never shows: those that came before its filter was in force. */
  #unfiltered = 0;
  #seen = 0;
  #running = true;
  #problem: Error | undefined;

  constructor(host: Host, child: ChildProcess, { keep = () => true, maxFrames = 200_000 }: CaptureOptions) {
    this.host = host;
    this.#child = child;
    this.#keep = keep;
    this.#maxFrames = maxFrames;
    child.stdout?.on('data', (piece: Buffer) => this.#take(piece));
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-MAX_STDERR_BYTES);
    });
    this.#ended = new Promise((resolve) => {
      const end = (): void => {
        this.#running = false;
        resolve();
      };
      child.once('error', (error) => {
        this.#problem ??= error;
        end();
      });
      child.once('close', end);
    });
  }

  /** Settles when every frame from now on is seen. */
  async ready(): Promise<void> {
    await waitFor(
      `tcpdump listens in ${this.host.name}`,
      () => {
        this.#check();
        if (!this.#running) {
          throw new HelperError('helper-ended', `tcpdump in ${this.host.name}: ${this.#stderr.trim()}`);
        }
        return this.#stderr.includes('listening on');
      },
      { timeoutMs: START_MS, intervalMs: 3 },
    );
    // What is under way at this moment looks the same: the least of several differences is the one that stays.
    const differences: number[] = [];
    for (let look = 0; look < LOOKS; look++) {
      const { received, captured } = await this.#statistics();
      differences.push(received - captured);
    }
    this.#unfiltered = Math.max(0, Math.min(...differences));
  }

  /** The frames kept so far. Fails when there were too many, or the kernel dropped some. */
  frames(): readonly CapturedFrame[] {
    this.#check();
    return this.#frames;
  }

  /** Was a frame with exactly these bytes seen? */
  saw(frame: Buffer): boolean {
    this.#check();
    return this.#known.has(frame.toString('latin1'));
  }

  /** Settles when every frame that the kernel has seen until now is among `frames()`. */
  async flush(): Promise<void> {
    if (!this.#running) return;
    const target = (await this.#statistics()).received - this.#unfiltered;
    // "Received" is counted by the kernel, "captured" by tcpdump when it has written the frame, `#seen` here.
    await waitFor(
      `tcpdump in ${this.host.name} has written ${target} frames`,
      async () => this.#seen >= target || (await this.#statistics()).captured >= target,
      { timeoutMs: FLUSH_MS },
    );
    const { captured } = await this.#statistics();
    await waitFor(`${captured} frames of ${this.host.name} were read`, () => this.#seen >= captured, {
      timeoutMs: FLUSH_MS,
      intervalMs: 2,
    });
    this.#check();
  }

  /** Ends it, with everything until now in `frames()`. May be called twice. */
  async close(): Promise<void> {
    if (this.#running) {
      await this.flush();
      // Nothing is left to say: asked politely it would take two seconds.
      this.#child.kill('SIGKILL');
    }
    await this.#ended;
    this.#check();
  }

  #take(piece: Buffer): void {
    try {
      for (const frame of this.#reader.push(piece)) {
        this.#seen++;
        if (!this.#keep(frame.data)) continue;
        const at = frame.capturedAt - this.#clockOffset;
        if (this.#frames.length < this.#maxFrames) {
          this.#frames.push({ at, data: frame.data });
          this.#known.add(frame.data.toString('latin1'));
        } else
          this.#problem ??= new Error(
            `more than ${this.#maxFrames} frames at ${this.host.name}: filter more`,
          );
      }
    } catch (error) {
      this.#problem ??= error instanceof Error ? error : new Error(String(error));
      this.#child.kill('SIGKILL');
    }
  }

  /** tcpdump tells its counters on SIGUSR1 (SIGINFO where there is one). */
  async #statistics(): Promise<{ captured: number; received: number }> {
    this.#stderr = '';
    this.#child.kill('SIGUSR1');
    const pattern =
      /(\d+) packets? captured[,\n]\s*(\d+) packets? received by filter[,\n]\s*(\d+) packets? dropped by kernel/;
    const [, captured, received, dropped] = await waitFor(
      `tcpdump in ${this.host.name} tells its counters`,
      () => pattern.exec(this.#stderr) ?? undefined,
      { timeoutMs: FLUSH_MS, intervalMs: 2 },
    );
    if (Number(dropped) > 0) {
      this.#problem ??= new Error(`the kernel dropped ${dropped} frames of the capture at ${this.host.name}`);
    }
    return { captured: Number(captured), received: Number(received) };
  }

  #check(): void {
    if (this.#problem) throw this.#problem;
  }
}

/** Starts tcpdump at a host's interface; when the call returns, every later frame is seen. */
export async function startCapture(host: Host, options: CaptureOptions = {}): Promise<Capture> {
  const args = [
    ...[
      '-i',
      host.interface,
      '-n',
      '-s',
      SNAPSHOT_BYTES,
      '-B',
      READ_BUFFER_KIB,
      '--immediate-mode',
      '-U',
      '-w',
      '-',
    ],
    // It would drop to a user of its own, which may not be there.
    ...['-Z', 'root', ...(options.filter ?? [])],
  ];
  const child = host.spawn('tcpdump', args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const capture = new Capture(host, child, options);
  try {
    await capture.ready();
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  }
  return capture;
}
