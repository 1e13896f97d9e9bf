/**
 * What the kernel dropped before Open vSwitch read it: with its userspace datapath a port is a packet socket of 208 KiB, and one thread reads them all. On a
 * busy machine that thread does not always run in time. Such losses are no handover's, and are told apart by this count; they are not taken off.
 */
import { run } from '../../../shared/runtime/command.js';

export class InputQueues {
  readonly #dropped = new Map<string, number>();
  #before = 0;

  /** Looks; what was dropped before the first look is not counted. Ports come and go: to be asked often. */
  async look(): Promise<void> {
    const first = this.#dropped.size === 0;
    // Packet sockets of the lab's own namespace: Open vSwitch's.
    const { stdout } = await run('ss', ['-0', '-n', '-m', '-e', '-O', '-H']);
    for (const [socket, dropped] of readDrops(stdout)) this.#dropped.set(socket, dropped);
    if (first) this.#before = this.#sum;
  }

  /** Frames, since the first look. */
  get dropped(): number {
    return this.#sum - this.#before;
  }

  get #sum(): number {
    return [...this.#dropped.values()].reduce((sum, count) => sum + count, 0);
  }
}

/** Of the text of `ss -0nmeOH`: how much each socket, by its inode, has dropped. */
export function readDrops(text: string): ReadonlyMap<string, number> {
  const found = text.split('\n').flatMap((line): [string, number][] => {
    const socket = /\bino:(\d+)/.exec(line)?.[1];
    const dropped = /skmem:\([^)]*\bd(\d+)\)/.exec(line)?.[1];
    return socket === undefined || dropped === undefined ? [] : [[socket, Number(dropped)]];
  });
  return new Map(found);
}
