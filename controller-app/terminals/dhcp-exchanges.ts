/**
 * One terminal's exchanges with DHCP servers: does this reply grant what the terminal asked for? A reply counts only when it answers a
 * request that the terminal itself was seen to send, and the first that grants it ends the exchange (RFC 2131, 3.1). Pure but for what it remembers.
 */
import type { DhcpMessage } from '../packet/index.js';

/** What a message means for the terminal's addresses. */
export type DhcpEvent =
  /** Nothing: an offer, a reply without an address. */
  | { readonly kind: 'none' }
  | { readonly kind: 'granted'; readonly address: string; readonly leaseSeconds: number }
  /** The terminal gives it back, says that somebody else uses it, or is told that it must not have it. */
  | { readonly kind: 'withdrawn'; readonly address: string }
  /** It claims to grant an address, and does not: `why` in words. */
  | { readonly kind: 'unasked'; readonly why: string };

/** A client may ask several servers; more at once are nobody's habit. */
const MAX_OPEN = 8;
/** Clients repeat a request for up to 60 s (RFC 2131, 4.1). */
const OPEN_MS = 120_000;
const NO_ADDRESS = '0.0.0.0';
const NONE: DhcpEvent = { kind: 'none' };

interface Open {
  readonly at: number;
  /** The address asked for; undefined when the server may choose (rapid commit). */
  readonly wanted: string | undefined;
  /** The server chosen; undefined when any may answer. */
  readonly server: string | undefined;
}

export class DhcpExchanges {
  /** By transaction id, the oldest first. */
  readonly #open = new Map<number, Open>();

  constructor(readonly mac: string) {}

  /** `now` in monotonic ms. */
  event(message: DhcpMessage, now: number): DhcpEvent {
    if (message.clientMac !== this.mac) return { kind: 'unasked', why: `it is for ${message.clientMac}` };
    return message.from === 'client' ? this.#asked(message, now) : this.#answered(message, now);
  }

  #asked(message: DhcpMessage, now: number): DhcpEvent {
    const { kind, xid, requested, server, clientAddress, source } = message;
    switch (kind) {
      case 'discover':
        if (message.rapidCommit) this.#begin(xid, { at: now, wanted: undefined, server: undefined });
        return NONE;
      case 'request': {
        const wanted = requested ?? clientAddress;
        if (wanted !== NO_ADDRESS) this.#begin(xid, { at: now, wanted, server });
        return NONE;
      }
      case 'release':
        return source === clientAddress ? withdrawn(clientAddress) : NONE;
      case 'decline':
        return requested === undefined ? NONE : withdrawn(requested);
      default:
        return NONE;
    }
  }

  #answered(message: DhcpMessage, now: number): DhcpEvent {
    const { kind, xid, yourAddress, server, leaseSeconds } = message;
    const open = this.#open.get(xid);
    const asked = open && now - open.at < OPEN_MS ? open : undefined;
    if (kind === 'nak') {
      const chosen = asked?.server === undefined || asked.server === server;
      return asked?.wanted !== undefined && chosen ? withdrawn(asked.wanted) : NONE;
    }
    // Without an address it answers an INFORM.
    if (kind !== 'ack' || yourAddress === NO_ADDRESS) return NONE;
    const why = !asked
      ? 'the terminal was not seen to ask for it'
      : asked.wanted !== undefined && asked.wanted !== yourAddress
        ? `the terminal asked for ${asked.wanted}`
        : asked.server !== undefined && asked.server !== server
          ? `the terminal asked ${asked.server}`
          : leaseSeconds === undefined || leaseSeconds === 0
            ? 'it names no lease time'
            : undefined;
    if (why !== undefined || leaseSeconds === undefined) return { kind: 'unasked', why: why ?? '' };
    this.#open.delete(xid);
    return { kind: 'granted', address: yourAddress, leaseSeconds };
  }

  #begin(xid: number, open: Open): void {
    this.#open.delete(xid);
    this.#open.set(xid, open);
    const [oldest] = this.#open.keys();
    if (this.#open.size > MAX_OPEN && oldest !== undefined) this.#open.delete(oldest);
  }
}

function withdrawn(address: string): DhcpEvent {
  return { kind: 'withdrawn', address };
}
