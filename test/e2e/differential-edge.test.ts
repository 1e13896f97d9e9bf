/**
 * Random policies and 2,000 random packets through a firewall in a real container, compared with the reference verdict.
 */
import '../lab/enter.js';
import t from 'tap';
import type { InstanceId } from '../../shared/domain/domain.js';
import { epoch } from '../../shared/firewall/state.js';
import { compareWithReference, type RealFirewall } from '../fixtures/differential/compare.js';
import { silence } from '../fixtures/differential/silence.js';
import { tryCases } from '../fixtures/differential/try-cases.js';
import { Wire } from '../fixtures/differential/wire.js';
import { alice, SERVER, startEdgeLab, TERMINAL } from '../fixtures/edge-lab.js';

t.setTimeout(200_000);
const LEASE_MS = 60_000;
const SEED = Number(process.env.PAGURO_SEED ?? 20_170_703);

t.test('a firewall in a container decides as the reference does', async (t) => {
  const lab = await startEdgeLab();
  t.teardown(() => lab.close());
  await silence('h1');
  await silence('h2');
  const wire = new Wire('h1', 'h2');
  t.teardown(() => wire.close());
  let placed: InstanceId | undefined;
  let lastEpoch = 0;
  const firewall: RealFirewall = {
    wire,
    stations: { terminal: TERMINAL, network: SERVER },
    own: { ipv4: TERMINAL.ipv4, ipv6: TERMINAL.ipv6 },
    place: async (policy) => {
      const id = { terminal: alice.name, epoch: epoch(++lastEpoch) };
      const state = {
        terminal: alice,
        epoch: epoch(1),
        sequence: 0,
        policy,
        earlier: [],
        connections: [],
        counters: [],
      };
      const ends = await lab.domain.prepare(state, id.epoch);
      await lab.domain.activate(id, LEASE_MS);
      await lab.through(ends);
      if (placed) await lab.domain.retire(placed).catch(() => {});
      placed = id;
    },
    setPolicy: async (policy) => {
      if (placed) await lab.domain.setPolicy(placed, policy);
    },
  };
  await t.test('policies and packets by chance', (t) => compareWithReference(t, firewall, SEED));
  await t.test('packets at the borders of what a connection is', async (t) => {
    await firewall.place({
      name: 'outbound only',
      defaults: { outbound: 'accept', inbound: 'drop' },
      rules: [],
    });
    await tryCases(t, wire, { terminal: TERMINAL, network: SERVER }, 'iptables');
  });
});
