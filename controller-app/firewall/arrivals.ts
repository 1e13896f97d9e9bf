/**
 * Notices where terminals are: by the first frame on a port, by a port that goes down, and, of a terminal with two links, by which of them it sends.
 * Then it has the guard and steering brought in line, lets the frames go on that waited for that, and tells.
 */
import type { Dpid } from '../../shared/domain/domain.js';
import type { Terminal } from '../../shared/firewall/terminal.js';
import type { Clock } from '../../shared/runtime/clock.js';
import type { Log } from '../../shared/runtime/log.js';
import { QuietLog } from '../../shared/runtime/quiet-log.js';
import { OFPP } from '../openflow/index.js';
import { formatMac } from '../packet/address.js';
import type { Steering } from '../steering/steering.js';
import type { Attachment } from '../steering/view.js';
import type { Switch } from '../switch/index.js';
import type { AddressLearning } from '../terminals/address-learning.js';
import type { Registry } from '../terminals/registry.js';
import type { Guards } from './guards.js';
import { LinkChanges } from './link-changes.js';
import { isOwnFrame } from './own-frame.js';

/** First frames of a terminal on a port that wait for its rules: what a busy controller can need; more are dropped, as they would be without us. */
const WAITING = { frames: 1_024, bytes: 2 ** 20 } as const;

export interface AttachmentEvents {
  /**
   * The terminal is attached here, primarily, and its traffic is steered from here. `awayMs`: since its last attachment ended, if it had none
   * meanwhile; `haulMs`: from what told of it until the switches had confirmed.
   */
  attached(terminal: Terminal, at: Attachment, times: { awayMs: number | undefined; haulMs: number }): void;
  /** The terminal is attached nowhere. */
  detached(terminal: Terminal): void;
}

export interface ArrivalsOptions {
  readonly registry: Registry;
  readonly guards: Guards;
  readonly steering: Steering;
  readonly addresses: AddressLearning;
  readonly events: AttachmentEvents;
  switch(dpid: Dpid): Switch | undefined;
  readonly clock: Clock;
  readonly log: Log;
}

export class Arrivals {
  readonly #options: ArrivalsOptions;
  readonly #leftAt = new Map<string, number>();
  /** Frames that wait for the rules of their port, by terminal and port; no entry once they are in place. */
  readonly #waiting = new Map<string, { readonly frames: Uint8Array[]; bytes: number }>();
  readonly #changes: LinkChanges;
  readonly #quiet: QuietLog;

  constructor(options: ArrivalsOptions) {
    this.#options = options;
    const { clock, log } = options;
    this.#quiet = new QuietLog(log, clock);
    this.#changes = new LinkChanges(clock, (name) => void this.#steer(name).catch(() => {}));
  }

  close(): void {
    this.#changes.close();
    this.#quiet.close();
  }

  /** A frame with a terminal's MAC came in at a host port where that terminal has no rules. */
  seen(at: Attachment, data: Uint8Array): void {
    const { registry, addresses } = this.#options;
    const own = ({ name }: Terminal): boolean => isOwnFrame(addresses.book.present(name), data);
    const sighting = registry.seen(formatMac(data, 6), at, own);
    if (sighting.kind === 'contested') this.#contested(sighting.terminal, at);
    else if (sighting.kind === 'known') this.#goOn(sighting.terminal.name, at, data);
    else if (sighting.kind === 'attached') void this.#attach(sighting.terminal, at, data, sighting.joins);
  }

  /** A terminal with two links has sent a frame by this port. */
  sendsBy({ name }: Terminal, dpid: Dpid, port: number): void {
    const { registry } = this.#options;
    const present = registry.attachments(name);
    if (!present.slice(1).some((at) => at.dpid === dpid && at.port === port)) return;
    if (!this.#changes.take(name)) return;
    const at = registry.sendsBy(name, dpid, port);
    const terminal = registry.terminals.find((one) => one.name === name);
    if (at && terminal) void this.#makePrimary(terminal, at);
    if (this.#changes.allowed(name)) return;
    const words =
      'a terminal changes its sending link very often: for a while it gets what is for it by the last one';
    this.#quiet.say(`links ${name}`, 'warn', { terminal: name }, words);
  }

  portGone(dpid: Dpid, port: number): void {
    const { registry, addresses, clock, events } = this.#options;
    for (const { terminal, primary, left } of registry.portGone(dpid, port)) {
      const { name } = terminal;
      this.#waiting.delete(place(name, { dpid, port }));
      const [next] = left;
      if (next && primary) {
        void this.#makePrimary(terminal, next);
        continue;
      }
      this.#bring(name).catch((error: unknown) =>
        this.#options.log.warn({ terminal: name, error }, 'rules not removed'),
      );
      if (next) continue;
      this.#leftAt.set(name, clock.monotonic());
      addresses.interrupted(name);
      events.detached(terminal);
    }
  }

  async #attach(terminal: Terminal, at: Attachment, first: Uint8Array, joins: boolean): Promise<void> {
    const { clock, events, registry, log } = this.#options;
    const { name } = terminal;
    const start = clock.monotonic();
    const left = joins ? undefined : this.#leftAt.get(name);
    const key = place(name, at);
    this.#waiting.set(key, { frames: [first], bytes: first.length });
    try {
      if (joins) await this.#makeReachable(name, at);
      await this.#bring(name);
    } catch (error) {
      log.error({ terminal: name, error }, 'the terminal is not steered: its port stays closed');
      registry.portGone(at.dpid, at.port);
      this.#waiting.delete(key);
      this.#bring(name).catch(() => {});
      return;
    }
    const waited = this.#waiting.get(key);
    // The port has gone meanwhile.
    if (!waited || !registry.attachments(name).includes(at)) return;
    this.#waiting.delete(key);
    for (const frame of waited.frames) this.#inject(at, frame);
    if (registry.attachment(name) !== at) return;
    const haulMs = clock.monotonic() - start;
    events.attached(terminal, at, { awayMs: left === undefined ? undefined : start - left, haulMs });
  }

  /**
   * The way to its second link must be there before what is for the terminal is led along it: switches do not change all at once. The guard comes with it:
   * from then on frames of that port meet it.
   */
  async #makeReachable(name: string, at: Attachment): Promise<void> {
    const { guards, steering, registry } = this.#options;
    const others = registry.attachments(name).filter((one) => one !== at);
    await Promise.all([guards.bring(name), steering.setAttachments(name, [...others, at], false)]);
  }

  /** The registry has said so already. */
  async #makePrimary(terminal: Terminal, at: Attachment): Promise<void> {
    const { clock, events, registry, log } = this.#options;
    const { name } = terminal;
    const start = clock.monotonic();
    try {
      await this.#bring(name);
    } catch (error) {
      log.error({ terminal: name, error }, 'what is for the terminal still goes to its other link');
      return;
    }
    if (registry.attachment(name) !== at) return;
    events.attached(terminal, at, { awayMs: undefined, haulMs: clock.monotonic() - start });
  }

  async #bring(name: string): Promise<void> {
    await Promise.all([this.#options.guards.bring(name), this.#steer(name)]);
  }

  #steer(name: string): Promise<void> {
    const { steering, registry } = this.#options;
    return steering.setAttachments(name, registry.attachments(name), this.#changes.allowed(name));
  }

  /** Back into the pipeline where the frame came from: it meets the guard like any other. */
  #goOn(name: string, at: Attachment, data: Uint8Array): void {
    const waiting = this.#waiting.get(place(name, at));
    if (!waiting) {
      this.#inject(at, data);
      return;
    }
    if (waiting.frames.length >= WAITING.frames || waiting.bytes + data.length > WAITING.bytes) return;
    // What comes off the wire is a part of a larger buffer, which should not wait with it.
    waiting.frames.push(Uint8Array.from(data));
    waiting.bytes += data.length;
  }

  #inject({ dpid, port }: Attachment, data: Uint8Array): void {
    this.#options
      .switch(dpid)
      ?.packetOut({ inPort: port, actions: [{ type: 'output', port: OFPP.TABLE }], data: Buffer.from(data) });
  }

  #contested(terminal: Terminal, at: Attachment): void {
    const where = { terminal: terminal.name, dpid: at.dpid, port: at.portName };
    const words = 'somebody uses the address of a terminal that is attached elsewhere: dropped';
    this.#quiet.say(`contested ${terminal.name}`, 'warn', where, words);
  }
}

function place(terminal: string, { dpid, port }: Pick<Attachment, 'dpid' | 'port'>): string {
  return `${terminal} ${dpid} ${port}`;
}
