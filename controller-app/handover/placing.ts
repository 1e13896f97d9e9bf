/**
 * Places a terminal's first firewall, or another one when it was lost: with what the lost one held, with what outlived an earlier controller, or with nothing.
 */
import type { Domain, Ends } from '../../shared/domain/domain.js';
import type { FirewallState } from '../../shared/firewall/state.js';
import { isSameTerminal } from '../../shared/firewall/terminal.js';
import { tellAddresses, withTerminal } from './addresses.js';
import type { FirewallRecord } from './firewall-record.js';
import type { Instances } from './instances.js';
import type { Leases } from './leases.js';
import type { CoordinatorOptions } from './options.js';
import type { Placed } from './placed.js';
import type { Strays } from './strays.js';

export interface PlacingParts {
  readonly options: CoordinatorOptions;
  readonly instances: Instances;
  readonly strays: Strays;
  readonly leases: Leases;
}

/** Fails with a DomainError; then there is none still, and nothing passes. */
export async function place(
  record: FirewallRecord,
  domain: Domain,
  { options, instances, strays, leases }: PlacingParts,
): Promise<void> {
  const found = await strays.of(record);
  const id = { terminal: record.terminal.name, epoch: await record.nextEpoch() };
  const placed: Placed = { domain, id };
  const state =
    lastKnown(record, placed) ?? (await strays.inherited(record, found)) ?? record.nothingYet(id.epoch);
  let sequence: number;
  let ends: Ends;
  try {
    ends = await domain.prepare(state, id.epoch);
    await options.steering.addPath(id, ends);
    ({ sequence } = await domain.digest(id));
    await domain.activate(id, options.timings.leaseMs);
    await options.steering.setActive(id);
  } catch (error) {
    await instances.removeSurely(placed);
    throw error;
  }
  const mirror = record.mirrorOf(state, () => options.clock.monotonic());
  record.activate(placed, ends);
  record.carried = [];
  leases.begin(record);
  record.source = instances.follow(record, placed, sequence, mirror);
  record.told = state.terminal;
  if (!isSameTerminal(state.terminal, record.terminal)) await tellAddresses(record);
  const connections = state.connections.length;
  options.log.info({ ...id, domain: domain.name, connections }, 'firewall placed');
  for (const stray of found) instances.removeInBackground(stray);
}

/** What a lost one held. */
function lastKnown(record: FirewallRecord, { id }: Placed): FirewallState | undefined {
  const { mirror, terminal } = record;
  if (!mirror) return undefined;
  mirror.absorb({ kind: 'terminal', terminal });
  return withTerminal(mirror.snapshot(id.epoch), terminal);
}
