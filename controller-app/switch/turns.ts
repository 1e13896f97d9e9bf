/**
 * How the one thread is shared out: who reads from a Turns object handles so much and then waits until everybody else's sockets and
 * timers were looked at. A switch that floods has turns of its own and so delays nobody for longer than one of them; all
 * connections that are no switches yet share one, so that together they get what one switch gets.
 */

/** What is handled in one turn: messages, or their bytes if those are more. Each of both is a few ms of work at most. */
const TURN_MESSAGES = 256;
const TURN_BYTES = 64 * 1024;

export class Turns {
  private messages = 0;
  private bytes = 0;
  private scheduled = false;
  private readonly waiting: (() => void)[] = [];

  /** True while this turn has room. */
  get open(): boolean {
    return this.messages < TURN_MESSAGES && this.bytes < TURN_BYTES;
  }

  spend(bytes: number): void {
    this.messages++;
    this.bytes += bytes;
    this.schedule();
  }

  /** Calls back, once, in a turn with room. One that waits has its place behind the others. */
  wait(goOn: () => void): void {
    this.waiting.push(goOn);
    this.schedule();
  }

  private schedule(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    setImmediate(() => this.next());
  }

  private next(): void {
    this.scheduled = false;
    this.messages = 0;
    this.bytes = 0;
    for (let goOn = this.waiting.shift(); goOn; goOn = this.waiting.shift()) {
      goOn();
      if (!this.open) break;
    }
    if (this.waiting.length > 0) this.schedule();
  }
}

/** Lets everybody else have a turn. */
export function afterOthers(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
