/**
 * The meters that bound how many rejected packets a switch copies to the controller. Copies that carry the state of connections go through none:
 * they share a short queue with these, and a flood of rejected packets must not fill it. Pure.
 *
 * A few meters for all instances of a switch: a flood of one terminal's takes the answers of those few only that share its meter.
 */
import type { MessageOf } from '../openflow/index.js';

type MeterMod = MessageOf<'meter_mod'>;

/** "PG", as in the cookies: meters of other controllers stay. */
const FIRST = 0x5047_0000;
const METERS = 16;
/** Copies a second, and how many at once: all meters together stay below the 100 that Open vSwitch queues for a controller. */
const RATE = 100;
const BURST = 5;

/** Packets a second, with a burst (OpenFlow 1.3.5, 7.3.4.4: OFPMF_PKTPS, OFPMF_BURST). */
const FLAGS = 0b0110;

/** The meter of an instance's rejected packets. */
export function meterOf(instance: number): number {
  return FIRST + (instance % METERS);
}

/** All of them. A switch refuses to add what it has; then they are to be modified. */
export function meterMods(command: 'add' | 'modify'): MeterMod[] {
  return Array.from({ length: METERS }, (_, index) => ({
    type: 'meter_mod',
    command,
    flags: FLAGS,
    meter: FIRST + index,
    bands: [{ type: 'drop', rate: RATE, burst: BURST }],
  }));
}
