/**
 * What learning addresses needs of the rest of the controller, and what its two ways, DHCP and probes, need of it.
 */
import type { Terminal } from '../../shared/firewall/terminal.js';
import type { Clock } from '../../shared/runtime/clock.js';
import type { AddressBook, Held, Refusal } from './address-book.js';

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

/** One terminal, for a way of learning its addresses. */
export interface LearnerParts {
  readonly name: string;
  readonly mac: string;
  readonly book: AddressBook;
  readonly outlet: AddressOutlet;
  readonly clock: Clock;
  /** Brings everything in line with the book. Fails when a switch or a firewall does not take it. */
  readonly settle: () => Promise<void>;
  /** The book has changed in what it remembers of this terminal, and in nothing that must be put in force. */
  readonly save: () => void;
  /** `why` in words. */
  readonly refused: (address: string, why: string) => void;
  readonly complain: (error: unknown) => void;
}

/** Why the book refuses an address. */
export const REFUSALS: Readonly<Record<Refusal, string>> = {
  outside: 'it is in no prefix under learn in the configuration',
  taken: 'another terminal has it',
  full: 'the terminal has as many addresses in its configuration as it can have',
  'too-many': 'the terminal announces too many addresses',
};
