/**
 * Random policies and 2,000 random packets through a firewall in a real Open vSwitch, compared with the reference verdict.
 */
import '../lab/enter.js';
import t from 'tap';
import { testAgainstReference } from '../fixtures/differential/differential.js';
import { alice, SERVER, startSdnLab, TERMINAL } from '../fixtures/sdn-lab.js';

t.setTimeout(200_000);

await testAgainstReference('a firewall in a switch decides as the reference does', async () => {
  const lab = await startSdnLab();
  return {
    kind: 'openflow-ct',
    domain: lab.domain,
    terminal: alice,
    places: { terminal: TERMINAL, network: SERVER },
    lead: (ends) => lab.steering.lead(ends.kind === 'pipeline' ? ends.instance : undefined),
    inEffect: () => lab.steering.inEffect(),
    close: () => lab.close(),
  };
});
