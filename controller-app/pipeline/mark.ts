/**
 * What the connection mark in the switch says. It outlives copies that got lost: every announcement carries it.
 */
import type { Connection, Opener } from '../../shared/firewall/connection.js';

export const MARK = {
  /** udp, icmp: the first reply was announced. tcp: the end of the handshake was, or the first packet back of an adopted one. */
  replied: 0x01,
  /** The connection was admitted and announced; before a reply this lets the rest of a one-way exchange pass. */
  announced: 0x02,
  /** The network's end opened it. After adoption the switch itself may take the ends the wrong way round. */
  openedByRemote: 0x04,
  adopted: 0x08,
  generation: 0xf0,
  all: 0xff,
} as const;

/** Generations are counted modulo this. */
export const GENERATIONS = 16;

export function generationBits(generation: number): number {
  return (generation % GENERATIONS) << 4;
}

export function openerBits(opener: Opener): number {
  return opener === 'remote' ? MARK.openedByRemote : 0;
}

export function openerOf(mark: number): Opener {
  return mark & MARK.openedByRemote ? 'remote' : 'terminal';
}

/** The mark of a connection that this instance admits itself. */
export function openedMark(opener: Opener, generation: number): number {
  return MARK.announced | openerBits(opener) | generationBits(generation);
}

/**
 * The mark of an imported connection: its true opener, and what need not be announced again. It begins in generation 0, whichever the instance has come
 * to: so its adoption rules stay as they are in every generation, and at worst it announces itself once more.
 */
export function adoptedMark(connection: Connection): number {
  const replied = connection.protocol !== 'tcp' && connection.replied ? MARK.replied : 0;
  return openedMark(connection.opener, 0) | MARK.adopted | replied;
}
