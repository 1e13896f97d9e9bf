/**
 * Learns terminals' addresses from what the switches send: decides by the book, has the rules and the firewalls brought in line, and only then
 * lets the frame go on that announced the change. So an address works from its first packet on, and no sooner than it is the terminal's.
 *
 *   DHCP   the server's reply waits until the address that it gives is in force. One that grants what must not be had is not delivered: the client
 *          goes on asking instead of believing in an address that nothing would let pass
 *   probe  it goes on once others' answers will be heard. After PROBE_MS without one the address is the terminal's; what it sends from it
 *          meanwhile waits
 */
import type { Terminal } from '../../shared/firewall/terminal.js';
import type { Clock, Timer } from '../../shared/runtime/clock.js';
import type { Log } from '../../shared/runtime/log.js';
import { messageOf } from '../../shared/runtime/message-of.js';
import {
  type DhcpMessage,
  type NeighborMessage,
  parseDhcp,
  parseNeighbor,
  parsePacket,
} from '../packet/index.js';
import type { Reason } from '../pipeline/index.js';
import { AddressBook, type Held, type LearnRules, type Refusal } from './address-book.js';
import { DhcpExchanges } from './dhcp-exchanges.js';
import { InForce } from './in-force.js';

/**
 * How long others have to say that a probed address is theirs. Hosts answer at once; half of what a host itself waits (RetransTimer, 1 s:
 * RFC 4862, 5.4 and RFC 4861, 10), so that the address is in force before it is first used.
 */
export const PROBE_MS = 500;
/** How often it is asked which addresses are in use. */
const USE_MS = 60_000;
/** Frames from addresses that are being probed, of one terminal; more are dropped. */
const MAX_EARLY_FRAMES = 64;
/** Refusals are told of once in this many ms for each terminal. */
const LOG_INTERVAL_MS = 10_000;

const WORDS: Readonly<Record<Refusal, string>> = {
  outside: 'it is in no prefix under learn in the configuration',
  taken: 'another terminal has it',
  full: 'the terminal has as many addresses in its configuration as it can have',
  'too-many': 'the terminal announces too many addresses',
};

/** What learning asks of the rest. */
export interface AddressOutlet {
  /** Brings the guard of the terminal's port, and what is heard on the way to it, in line with the book. Settles when the switch has confirmed. */
  guard(name: string): Promise<void>;
  /** Tells the terminal's firewalls its addresses. Settles when they know. */
  firewall(terminal: Terminal): Promise<void>;
  /** Into the pipeline, at the terminal's port, as if it had just come from there. False: it could not be sent. */
  fromTerminal(name: string, frame: Buffer): boolean;
  /** Out of the terminal's port. */
  toTerminal(name: string, frame: Buffer): void;
  /** How often each of the terminal's learnt addresses was used, by its slot, since its guard was put up. */
  uses(name: string): Promise<ReadonlyMap<number, number>>;
  /** The terminal has other addresses. */
  changed(terminal: Terminal): void;
}

/** Where learnt addresses outlive the controller. Times are monotonic ms of this one. */
export interface AddressMemory {
  load(name: string): readonly Held[];
  save(name: string, held: readonly Held[]): void;
}

export interface AddressLearningOptions {
  readonly terminals: readonly { readonly terminal: Terminal; readonly learn: LearnRules }[];
  readonly outlet: AddressOutlet;
  readonly memory?: AddressMemory;
  readonly clock: Clock;
  readonly log: Log;
}

interface Learner {
  readonly name: string;
  readonly mac: string;
  readonly exchanges: DhcpExchanges;
  /** Addresses that nobody else has, while they are put in force. */
  readonly settling: Set<string>;
  /** Frames from addresses that are being probed or put in force. */
  early: { readonly source: string; readonly frame: Buffer }[];
  /** By address: without a timer while the probe itself waits. */
  readonly probes: Map<string, { timer?: Timer }>;
  uses: ReadonlyMap<number, number>;
  toldAt: number;
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
      learn.ipv4.length + learn.ipv6.length > 0 ? newLearner(terminal) : undefined,
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
      if (message && reason === `dhcp-${message.from}`) this.#dhcp(learner, message, frame);
    } else if (reason === 'probe' || reason === 'claim') {
      const message = parseNeighbor(frame);
      if (!message) return;
      if (reason === 'probe') this.#probe(learner, message, frame);
      else this.#claim(learner, message);
    } else if (reason === 'early') this.#early(learner, frame);
  }

  /** The terminal's port is gone, or its switch: nobody has heard what it was asking, or would hear the answer. */
  interrupted(name: string): void {
    const learner = this.#byName.get(name);
    if (!learner) return;
    for (const address of [...learner.probes.keys()]) this.#abandon(learner, address);
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
    for (const { probes } of this.#byName.values()) for (const { timer } of probes.values()) timer?.close();
  }

  #dhcp(learner: Learner, message: DhcpMessage, frame: Buffer): void {
    const { clock, outlet } = this.#options;
    const { name } = learner;
    // Another client's, flooded.
    if (message.clientMac !== learner.mac) return;
    const now = clock.monotonic();
    const event = learner.exchanges.event(message, now);
    if (event.kind === 'granted') {
      const until = Number.isFinite(event.leaseSeconds) ? now + event.leaseSeconds * 1000 : undefined;
      const refusal = this.book.grant(name, event.address, until, now);
      if (refusal) {
        this.#refused(learner, event.address, WORDS[refusal]);
        return;
      }
      // A renewed lease changes nothing but its end.
      this.#save(name);
    } else if (event.kind === 'withdrawn') {
      this.book.withdraw(name, event.address);
    } else if (event.kind === 'unasked') {
      if (message.kind === 'ack') this.#refused(learner, message.yourAddress, event.why);
      return;
    }
    const settled = this.#settle();
    // If it is not in force everywhere the client asks again.
    settled
      .then(() => {
        if (message.from === 'server') outlet.toTerminal(name, frame);
      })
      .catch(() => {});
  }

  #probe(learner: Learner, { kind, ethSrc, source, target }: NeighborMessage, frame: Buffer): void {
    const { clock, outlet } = this.#options;
    const { name } = learner;
    if (kind !== 'solicitation' || source !== '::' || ethSrc !== learner.mac) return;
    const refusal = this.book.probe(name, target, clock.monotonic());
    if (refusal) {
      this.#refused(learner, target, WORDS[refusal]);
      return;
    }
    if (!this.book.tentative(name).includes(target)) {
      // Its own by now.
      outlet.fromTerminal(name, frame);
      return;
    }
    const known = learner.probes.get(target);
    const attempt = known ?? {};
    learner.probes.set(target, attempt);
    outlet
      .guard(name)
      .then(() => {
        // Meanwhile somebody else may have been heard to have it, or the terminal may have gone.
        if (learner.probes.get(target) !== attempt) return;
        if (!outlet.fromTerminal(name, frame)) this.#abandon(learner, target);
        else if (!known) attempt.timer = clock.after(PROBE_MS, () => this.#confirm(learner, target));
      })
      .catch((error: unknown) => {
        this.#complain(name, error);
        this.#abandon(learner, target);
      });
  }

  #confirm(learner: Learner, address: string): void {
    const { clock, outlet } = this.#options;
    const { name } = learner;
    learner.probes.delete(address);
    const refusal = this.book.confirm(name, address, clock.monotonic());
    if (refusal) {
      this.#drop(learner, address);
      this.#refused(learner, address, WORDS[refusal]);
      return;
    }
    learner.settling.add(address);
    this.#settle()
      .then(() => {
        for (const { source, frame } of learner.early)
          if (source === address) outlet.fromTerminal(name, frame);
      })
      .catch(() => {})
      .finally(() => {
        learner.settling.delete(address);
        this.#drop(learner, address);
      });
  }

  #claim(learner: Learner, { kind, ethSrc, source, target }: NeighborMessage): void {
    if (ethSrc === learner.mac || !this.book.tentative(learner.name).includes(target)) return;
    // Of solicitations only a probe says that somebody else wants it as well (RFC 4862, 5.4.3).
    if (kind === 'solicitation' && source !== '::') return;
    this.#abandon(learner, target);
    this.#refused(learner, target, `${ethSrc} has it`);
  }

  #abandon(learner: Learner, address: string): void {
    learner.probes.get(address)?.timer?.close();
    learner.probes.delete(address);
    this.#drop(learner, address);
    if (!this.book.abandon(learner.name, address)) return;
    this.#options.outlet.guard(learner.name).catch((error: unknown) => this.#complain(learner.name, error));
  }

  /** From an address that is being probed, or was when the switch sent it. */
  #early(learner: Learner, frame: Buffer): void {
    const { outlet } = this.#options;
    const { name } = learner;
    const source = parsePacket(frame)?.ip?.src;
    if (source === undefined) return;
    if (learner.settling.has(source) || this.book.tentative(name).includes(source)) {
      if (learner.early.length < MAX_EARLY_FRAMES) learner.early.push({ source, frame });
    } else if (this.book.present(name).ipv6.includes(source)) outlet.fromTerminal(name, frame);
  }

  #drop(learner: Learner, address: string): void {
    learner.early = learner.early.filter(({ source }) => source !== address);
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

  #refused(learner: Learner, address: string, why: string): void {
    const { clock, log } = this.#options;
    const now = clock.monotonic();
    if (now - learner.toldAt < LOG_INTERVAL_MS) return;
    learner.toldAt = now;
    log.warn({ terminal: learner.name, address, why }, 'address not learnt');
  }

  #complain(name: string, error: unknown): void {
    const { log } = this.#options;
    log.warn({ terminal: name, error: messageOf(error) }, 'the addresses are not in force everywhere');
  }
}

/** Timers of Node end at once when they are set for longer than this (2^31 - 1 ms). */
const MAX_TIMER_MS = 2 ** 31 - 1;

function newLearner({ name, mac }: Terminal): Learner {
  return {
    ...{ name, mac, exchanges: new DhcpExchanges(mac), probes: new Map(), settling: new Set() },
    ...{ early: [], uses: new Map() },
    toldAt: Number.NEGATIVE_INFINITY,
  };
}
