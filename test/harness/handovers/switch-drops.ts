/**
 * What Open vSwitch itself says that it lost. With its userspace datapath a port is a packet socket of 208 KiB, and one thread reads them all: on a busy machine
 * it does not always run in time, and the kernel drops what no longer fits. What is read and then dropped is counted by reason. None of this is taken off
 * from what was lost; it tells where.
 */
import { run } from '../../../shared/runtime/command.js';

export interface Drops {
  /** Frames that the kernel dropped before Open vSwitch read them. */
  readonly unread: number;
  /** Frames that Open vSwitch dropped, by the names of its own counters: also those that a rule drops on purpose. */
  readonly byReason: Readonly<Record<string, number>>;
}

export class SwitchDrops {
  readonly #unread = new Map<string, number>();
  #reasons: ReadonlyMap<string, number> = new Map();
  #before: { readonly unread: number; readonly reasons: ReadonlyMap<string, number> } | undefined;

  /** Looks; what was dropped before the first look is not counted. Ports come and go: to be asked often. */
  async look(): Promise<void> {
    const [sockets, coverage] = await Promise.all([
      // Packet sockets of the lab's own namespace: Open vSwitch's.
      run('ss', ['-0', '-n', '-m', '-e', '-O', '-H']),
      run('ovs-appctl', ['coverage/show']),
    ]);
    for (const [socket, dropped] of readUnread(sockets.stdout)) this.#unread.set(socket, dropped);
    this.#reasons = readReasons(coverage.stdout);
    this.#before ??= { unread: this.#unreadSum, reasons: this.#reasons };
  }

  /** Since the first look. */
  get drops(): Drops {
    const { unread, reasons } = this.#before ?? { unread: 0, reasons: new Map<string, number>() };
    const more = [...this.#reasons].map(([name, count]): [string, number] => [
      name,
      count - (reasons.get(name) ?? 0),
    ]);
    return {
      unread: this.#unreadSum - unread,
      byReason: Object.fromEntries(more.filter(([, count]) => count > 0)),
    };
  }

  get #unreadSum(): number {
    return [...this.#unread.values()].reduce((sum, count) => sum + count, 0);
  }
}

/** Of the text of `ss -0nmeOH`: how much each socket, by its inode, has dropped. */
export function readUnread(text: string): ReadonlyMap<string, number> {
  const found = text.split('\n').flatMap((line): [string, number][] => {
    const socket = /\bino:(\d+)/.exec(line)?.[1];
    const dropped = /skmem:\([^)]*\bd(\d+)\)/.exec(line)?.[1];
    return socket === undefined || dropped === undefined ? [] : [[socket, Number(dropped)]];
  });
  return new Map(found);
}

/** Of the text of `ovs-appctl coverage/show`: the counters that count drops. Those that are 0 are not in it. */
export function readReasons(text: string): ReadonlyMap<string, number> {
  const found = text.split('\n').flatMap((line): [string, number][] => {
    const [, name, total] = /^(\w*drop\w*) .*total: (\d+)$/.exec(line.trim()) ?? [];
    return name === undefined || total === undefined ? [] : [[name, Number(total)]];
  });
  return new Map(found);
}
