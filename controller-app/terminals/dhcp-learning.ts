/**
 * Learns one terminal's addresses from what it says with DHCP servers. The reply waits until the address that it gives is in force. One that grants what
 * must not be had is not delivered: the client goes on asking instead of believing in an address that nothing would let pass.
 */
import type { DhcpMessage } from '../packet/index.js';
import { type LearnerParts, REFUSALS } from './address-outlet.js';
import { DhcpExchanges } from './dhcp-exchanges.js';

export class DhcpLearning {
  readonly #exchanges: DhcpExchanges;

  constructor(readonly parts: LearnerParts) {
    this.#exchanges = new DhcpExchanges(parts.mac);
  }

  /** A message of a client or a server, and the frame that it came in. */
  message(message: DhcpMessage, frame: Buffer): void {
    const { name, mac, outlet, settle } = this.parts;
    // Another client's, flooded.
    if (message.clientMac !== mac || !this.#isBooked(message)) return;
    // If it is not in force everywhere the client asks again.
    settle()
      .then(() => {
        if (message.from === 'server') outlet.toTerminal(name, frame);
      })
      .catch(() => {});
  }

  /** Enters in the book what the message means. False: the message goes no further. */
  #isBooked(message: DhcpMessage): boolean {
    const { name, book, clock, refused, save } = this.parts;
    const now = clock.monotonic();
    const event = this.#exchanges.event(message, now);
    if (event.kind === 'unasked') {
      if (message.kind === 'ack') refused(message.yourAddress, event.why);
      return false;
    }
    if (event.kind === 'withdrawn') book.withdraw(name, event.address);
    if (event.kind !== 'granted') return true;
    const until = Number.isFinite(event.leaseSeconds) ? now + event.leaseSeconds * 1000 : undefined;
    const refusal = book.grant(name, event.address, until, now);
    if (refusal) {
      refused(event.address, REFUSALS[refusal]);
      return false;
    }
    // A renewed lease changes nothing but its end.
    save();
    return true;
  }
}
