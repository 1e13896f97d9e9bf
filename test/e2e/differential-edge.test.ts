/**
 * Random policies and 2,000 random packets through a firewall in a real container, compared with the reference verdict.
 */
import '../lab/enter.js';
import t from 'tap';
import { testAgainstReference } from '../fixtures/differential/differential.js';
import { alice, SERVER, startEdgeLab, TERMINAL } from '../fixtures/edge-lab.js';

t.setTimeout(200_000);

await testAgainstReference('a firewall in a container decides as the reference does', async () => {
  const lab = await startEdgeLab();
  return {
    kind: 'iptables',
    domain: lab.domain,
    terminal: alice,
    places: { terminal: TERMINAL, network: SERVER },
    lead: (ends) => lab.through(ends),
    inEffect: async () => {},
    close: () => lab.close(),
  };
});
