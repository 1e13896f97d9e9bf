/**
 * Learns terminals' addresses from what the switches send: decides by the book, has the rules and the firewalls brought in line, and only then
 * lets the frame go on that announced the change. So an address works from its first packet on, and no sooner than it is the terminal's.
 *
 * How: by DHCP (dhcp-learning.ts) and by probes (probe-learning.ts).
 */
import type { Terminal } from '../../shared/firewall/terminal.js';
import type { Clock, Timer } from '../../shared/runtime/clock.js';
import type { Log } from '../../shared/runtime/log.js';
import { messageOf } from '../../shared/runtime/message-of.js';
import { parseDhcp, parseNeighbor } from '../packet/index.js';
import type { Reason } from '../pipeline/index.js';
import { AddressBook, type LearnRules } from './address-book.js';
import type { AddressMemory, AddressOutlet, LearnerParts } from './address-outlet.js';
import { DhcpLearning } from './dhcp-learning.js';
import { InForce } from './in-force.js';
import { ProbeLearning } from './probe-learning.js';

/** How often it is asked which addresses are in use. */
const USE_MS = 60_000;
/** Refusals are told of once in this many ms for each terminal. */
const LOG_INTERVAL_MS = 10_000;
/** Timers of Node end at once when they are set for longer than this (2^31 - 1 ms). */
const MAX_TIMER_MS = 2 ** 31 - 1;

export interface AddressLearningOptions {
  readonly terminals: readonly { readonly terminal: Terminal; readonly learn: LearnRules }[];
  readonly outlet: AddressOutlet;
  readonly memory?: AddressMemory;
  readonly clock: Clock;
  readonly log: Log;
}

interface Learner {
  readonly name: string;
  readonly dhcp: DhcpLearning;
  readonly probes: ProbeLearning;
  uses: ReadonlyMap<number, number>;
}

export class AddressLearning {
  readonly book: AddressBook;
  readonly #options: AddressLearningOptions;
  readonly #learners: readonly (Learner | undefined)[];
  readonly #byName: ReadonlyMap<string, Learner>;
  readonly #force: InForce;
  #useTimer: Timer | undefined;
  #endTimer: Timer | undefined;
  #closed = false;

  constructor(options: AddressLearningOptions) {
    this.#options = options;
    this.book = new AddressBook(options.terminals);
    const { outlet } = options;
    this.#force = new InForce(async (name) => {
      try {
        await Promise.all([outlet.guard(name), outlet.firewall(this.book.present(name))]);
      } catch (error) {
        this.#complain(name, error);
        throw error;
      }
    });
    this.#learners = options.terminals.map(({ terminal, learn }) =>
      learn.ipv4.length + learn.ipv6.length > 0 ? this.#learner(terminal) : undefined,
    );
    this.#byName = new Map(this.#learners.flatMap((learner) => (learner ? [[learner.name, learner]] : [])));
    if (options.memory) this.#recall(options.memory);
    if (this.#byName.size > 0) this.#scheduleUse();
  }

  /** May this terminal learn addresses at all? */
  learns(name: string): boolean {
    return this.#byName.has(name);
  }

  /** A frame that a rule of this reason sent, of the terminal with this index in the configuration. */
  packetIn(reason: Reason, index: number, data: Uint8Array): void {
    const learner = this.#learners[index];
    if (!learner || this.#closed) return;
    const frame = Buffer.from(data.buffer, data.byteOffset, data.length);
    if (reason === 'dhcp-client' || reason === 'dhcp-server') {
      const message = parseDhcp(frame);
      if (message && reason === `dhcp-${message.from}`) learner.dhcp.message(message, frame);
    } else if (reason === 'probe' || reason === 'claim') {
      const message = parseNeighbor(frame);
      if (!message) return;
      if (reason === 'probe') learner.probes.probe(message, frame);
      else learner.probes.claim(message);
    } else if (reason === 'early') learner.probes.early(frame);
  }

  /** The terminal's port is gone, or its switch: nobody has heard what it was asking, or would hear the answer. */
  interrupted(name: string): void {
    const learner = this.#byName.get(name);
    if (!learner) return;
    learner.probes.interrupted();
    learner.uses = new Map();
  }

  /** Addresses that a firewall of the terminal has from before: those that it may still have are its own again. Returns what it has now. */
  keep(found: Terminal): Terminal {
    const { clock } = this.#options;
    const fixed = this.book.present(found.name);
    if (fixed.mac === found.mac) {
      this.book.keep(found.name, [...found.ipv4, ...found.ipv6], clock.monotonic());
      void this.#settle().catch(() => {});
    }
    return this.book.present(found.name);
  }

  /** Twice is once. */
  close(): void {
    this.#closed = true;
    this.#useTimer?.close();
    this.#endTimer?.close();
    for (const { probes } of this.#byName.values()) probes.close();
  }

  #learner({ name, mac }: Terminal): Learner {
    const { outlet, clock } = this.#options;
    let toldAt = Number.NEGATIVE_INFINITY;
    const parts: LearnerParts = {
      ...{ name, mac, book: this.book, outlet, clock },
      settle: () => this.#settle(),
      save: () => this.#save(name),
      refused: (address, why) => {
        const now = clock.monotonic();
        if (now - toldAt < LOG_INTERVAL_MS) return;
        toldAt = now;
        this.#options.log.warn({ terminal: name, address, why }, 'address not learnt');
      },
      complain: (error) => this.#complain(name, error),
    };
    return { name, dhcp: new DhcpLearning(parts), probes: new ProbeLearning(parts), uses: new Map() };
  }

  /** Brings everything in line with the book. Fails when a switch or a firewall does not take it. */
  async #settle(): Promise<void> {
    const { outlet } = this.#options;
    for (const name of this.book.takeChanged()) {
      this.#force.due(name);
      this.#save(name);
      outlet.changed(this.book.present(name));
    }
    this.#scheduleEnd();
    await this.#force.all();
  }

  #scheduleEnd(): void {
    const { clock } = this.#options;
    this.#endTimer?.close();
    const end = this.book.nextEnd();
    if (!this.#closed && Number.isFinite(end)) {
      this.#endTimer = clock.after(Math.min(end - clock.monotonic(), MAX_TIMER_MS), () => this.#expire());
    }
  }

  /** Nobody needs to be told: there is no port and no firewall yet. */
  #recall(memory: AddressMemory): void {
    for (const name of this.#byName.keys())
      this.book.restore(name, memory.load(name), this.#options.clock.monotonic());
    this.book.takeChanged();
    this.#scheduleEnd();
  }

  #save(name: string): void {
    const learnt = this.book.held(name).filter(({ origin }) => origin !== 'fixed');
    this.#options.memory?.save(name, learnt);
  }

  #expire(): void {
    this.book.expire(this.#options.clock.monotonic());
    this.#settle().catch(() => {});
  }

  #scheduleUse(): void {
    const { clock, outlet } = this.#options;
    if (this.#closed) return;
    this.#useTimer = clock.after(USE_MS, () => {
      const asked = [...this.#byName.values()]
        .filter(({ name }) => this.book.slots(name).size > 0)
        .map(async (learner) => {
          const uses = await outlet.uses(learner.name);
          for (const [slot, count] of uses)
            if (count > 0 && count !== learner.uses.get(slot))
              this.book.used(learner.name, slot, clock.monotonic());
          learner.uses = uses;
        });
      void Promise.allSettled(asked).then(() => {
        this.#expire();
        this.#scheduleUse();
      });
    });
  }

  #complain(name: string, error: unknown): void {
    const { log } = this.#options;
    log.warn({ terminal: name, error: messageOf(error) }, 'the addresses are not in force everywhere');
  }
}
