/**
 * Learns one terminal's IPv6 addresses from its probes (RFC 4862, 5.4). A probe goes on once others' answers will be heard. After PROBE_MS without one the
 * address is the terminal's; what it sends from it meanwhile waits.
 */
import type { Timer } from '../../shared/runtime/clock.js';
import { type NeighborMessage, parsePacket } from '../packet/index.js';
import { type LearnerParts, REFUSALS } from './address-outlet.js';

/**
 * How long others have to say that a probed address is theirs. Hosts answer at once; half of what a host itself waits (RetransTimer, 1 s:
 * RFC 4862, 5.4 and RFC 4861, 10), so that the address is in force before it is first used.
 */
export const PROBE_MS = 500;
/** Frames from addresses that are being probed; more are dropped. */
const MAX_EARLY_FRAMES = 64;

export class ProbeLearning {
  /** By address: without a timer while the probe itself waits. */
  readonly #probes = new Map<string, { timer?: Timer }>();
  /** Addresses that nobody else has, while they are put in force. */
  readonly #settling = new Set<string>();
  /** Frames from addresses that are being probed or put in force. */
  #early: { readonly source: string; readonly frame: Buffer }[] = [];

  constructor(readonly parts: LearnerParts) {}

  /** The terminal asks whether anybody has an address. */
  probe({ kind, ethSrc, source, target }: NeighborMessage, frame: Buffer): void {
    const { name, mac, book, clock, outlet, complain, refused } = this.parts;
    if (kind !== 'solicitation' || source !== '::' || ethSrc !== mac) return;
    const refusal = book.probe(name, target, clock.monotonic());
    if (refusal) {
      refused(target, REFUSALS[refusal]);
      return;
    }
    if (!book.tentative(name).includes(target)) {
      // Its own by now.
      outlet.fromTerminal(name, frame);
      return;
    }
    const known = this.#probes.get(target);
    const attempt = known ?? {};
    this.#probes.set(target, attempt);
    outlet
      .guard(name)
      .then(() => {
        // Meanwhile somebody else may have been heard to have it, or the terminal may have gone.
        if (this.#probes.get(target) !== attempt) return;
        if (!outlet.fromTerminal(name, frame)) this.#abandon(target);
        else if (!known) attempt.timer = clock.after(PROBE_MS, () => this.#confirm(target));
      })
      .catch((error: unknown) => {
        complain(error);
        this.#abandon(target);
      });
  }

  /** Somebody speaks of an address as his own. */
  claim({ kind, ethSrc, source, target }: NeighborMessage): void {
    const { name, mac, book, refused } = this.parts;
    if (ethSrc === mac || !book.tentative(name).includes(target)) return;
    // Of solicitations only a probe says that somebody else wants it as well (RFC 4862, 5.4.3).
    if (kind === 'solicitation' && source !== '::') return;
    this.#abandon(target);
    refused(target, `${ethSrc} has it`);
  }

  /** From an address that is being probed, or was when the switch sent it. */
  early(frame: Buffer): void {
    const { name, book, outlet } = this.parts;
    const source = parsePacket(frame)?.ip?.src;
    if (source === undefined) return;
    if (this.#settling.has(source) || book.tentative(name).includes(source)) {
      if (this.#early.length < MAX_EARLY_FRAMES) this.#early.push({ source, frame });
    } else if (book.present(name).ipv6.includes(source)) outlet.fromTerminal(name, frame);
  }

  /** Nobody has heard what was being asked, or would hear the answer. */
  interrupted(): void {
    for (const address of [...this.#probes.keys()]) this.#abandon(address);
  }

  /** Twice is once. */
  close(): void {
    for (const { timer } of this.#probes.values()) timer?.close();
  }

  #confirm(address: string): void {
    const { name, book, clock, outlet, refused, settle } = this.parts;
    this.#probes.delete(address);
    const refusal = book.confirm(name, address, clock.monotonic());
    if (refusal) {
      this.#drop(address);
      refused(address, REFUSALS[refusal]);
      return;
    }
    this.#settling.add(address);
    settle()
      .then(() => {
        for (const { source, frame } of this.#early) if (source === address) outlet.fromTerminal(name, frame);
      })
      .catch(() => {})
      .finally(() => {
        this.#settling.delete(address);
        this.#drop(address);
      });
  }

  #abandon(address: string): void {
    const { name, book, outlet, complain } = this.parts;
    this.#probes.get(address)?.timer?.close();
    this.#probes.delete(address);
    this.#drop(address);
    if (book.abandon(name, address)) outlet.guard(name).catch(complain);
  }

  #drop(address: string): void {
    this.#early = this.#early.filter(({ source }) => source !== address);
  }
}
