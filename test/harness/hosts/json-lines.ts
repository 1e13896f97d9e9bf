/**
 * A helper program that speaks one JSON object a line: requests {"id", "do", …} on its standard input, answers {"id", "ok", …} on its
 * standard output. It ends when its standard input is closed.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { z } from 'zod';

/** A line longer than this is a fault of the helper. */
const MAX_LINE_BYTES = 32 * 2 ** 20;
const MAX_STDERR_BYTES = 16 * 1024;
const ANSWER_MS = 60_000;
/** After its input was closed. Then SIGKILL. */
const CLOSE_MS = 5_000;

export class HelperError extends Error {
  override readonly name = 'HelperError';
  constructor(
    readonly code: 'helper-ended' | 'helper-refused' | 'helper-silent' | 'helper-garbled',
    message: string,
  ) {
    super(message);
  }
}

const answerSchema = z.looseObject({
  id: z.number().optional(),
  ok: z.boolean().optional(),
  error: z.string().optional(),
});

interface Pending {
  readonly resolve: (answer: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

export interface Request {
  readonly do: string;
  readonly [parameter: string]: unknown;
}

export class JsonLines {
  readonly #child: ChildProcess;
  readonly #name: string;
  readonly #pending = new Map<number, Pending>();
  readonly #ended: Promise<void>;
  #nextId = 1;
  #lines = '';
  #stderr = '';
  #running = true;

  /** `name` is what errors call the program. */
  constructor(name: string, file: string, args: readonly string[]) {
    this.#name = name;
    const child = spawn(file, args, { stdio: 'pipe' });
    this.#child = child;
    child.stdout.setEncoding('utf8').on('data', (text: string) => this.#receive(text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-MAX_STDERR_BYTES);
    });
    // What it says before it ends counts, not that it no longer reads.
    child.stdin.on('error', () => {});
    this.#ended = new Promise((resolve) => {
      const end = (why: string): void => {
        this.#running = false;
        this.#fail(new HelperError('helper-ended', `${name} ended: ${why}. ${this.#stderr.trim()}`));
        resolve();
      };
      child.once('error', (error) => end(error.message));
      child.once('close', (code, signal) => end(signal ?? `exit code ${code}`));
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get running(): boolean {
    return this.#running;
  }

  /** Asks and waits for the answer, checked against a schema. */
  async request<T>(request: Request, schema: z.ZodType<T>, timeoutMs = ANSWER_MS): Promise<T> {
    const id = this.#nextId++;
    const answer = await this.#exchange(id, { id, ...request }, timeoutMs);
    const { ok, error } = answerSchema.parse(answer);
    if (ok !== true) throw new HelperError('helper-refused', `${this.#name}: ${error ?? 'no reason given'}`);
    return this.#check(answer, schema);
  }

  /** Sends the first line, which has no number, and waits for the first answer. */
  async greet<T>(greeting: object, schema: z.ZodType<T>, timeoutMs = ANSWER_MS): Promise<T> {
    return this.#check(await this.#exchange(0, greeting, timeoutMs), schema);
  }

  /** Closes its input and waits until it has ended. May be called twice. */
  async close(): Promise<void> {
    if (!this.#running) return;
    this.#child.stdin?.end();
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), CLOSE_MS);
    await this.#ended;
    clearTimeout(timer);
  }

  #exchange(id: number, message: object, timeoutMs: number): Promise<unknown> {
    if (!this.#running) {
      return Promise.reject(
        new HelperError('helper-ended', `${this.#name} has ended. ${this.#stderr.trim()}`),
      );
    }
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(id);
        reject(new HelperError('helper-silent', `${this.#name} did not answer within ${timeoutMs} ms`));
      }, timeoutMs);
      this.#pending.set(id, { resolve, reject, timer });
      this.#child.stdin?.write(`${JSON.stringify(message)}\n`);
    });
  }

  #check<T>(answer: unknown, schema: z.ZodType<T>): T {
    const checked = schema.safeParse(answer);
    if (checked.success) return checked.data;
    throw new HelperError('helper-garbled', `${this.#name} answered: ${z.prettifyError(checked.error)}`);
  }

  #receive(text: string): void {
    this.#lines += text;
    if (this.#lines.length > MAX_LINE_BYTES) {
      this.#fail(
        new HelperError('helper-garbled', `${this.#name} wrote a line of more than ${MAX_LINE_BYTES} bytes`),
      );
      this.#child.kill('SIGKILL');
      return;
    }
    const lines = this.#lines.split('\n');
    this.#lines = lines.pop() ?? '';
    for (const line of lines) this.#settle(line);
  }

  #settle(line: string): void {
    let answer: unknown;
    try {
      answer = JSON.parse(line);
    } catch {
      this.#fail(new HelperError('helper-garbled', `${this.#name} wrote: ${line.slice(0, 200)}`));
      return;
    }
    const id = answerSchema.safeParse(answer).data?.id ?? 0;
    const pending = this.#pending.get(id);
    if (!pending) return;
    this.#pending.delete(id);
    clearTimeout(pending.timer);
    pending.resolve(answer);
  }

  #fail(error: HelperError): void {
    for (const { reject, timer } of this.#pending.values()) {
      clearTimeout(timer);
      reject(error);
    }
    this.#pending.clear();
  }
}
