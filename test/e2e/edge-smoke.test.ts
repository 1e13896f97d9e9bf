import '../lab/enter.js';
import type { Connection } from '../../shared/firewall/connection.js';
import { policySchema } from '../../shared/firewall/policy.js';
import { epoch } from '../../shared/firewall/state.js';
import { alice, SERVER, startEdgeLab, TERMINAL } from '../fixtures/edge-lab.js';

const policy = policySchema.parse({
  name: 'p',
  defaults: { outbound: 'accept', inbound: 'drop' },
  rules: [{ name: 'no 81', direction: 'outbound', action: 'drop', protocol: 'tcp', remotePorts: 81 }],
});
const lab = await startEdgeLab();
const { terminal, server, domain } = lab;
try {
  await lab.direct();
  for (const address of [SERVER.ipv4, SERVER.ipv6]) await server.ask('serve', { address, port: 80 });
  const connections: Connection[] = [];
  for (const v of ['ipv4', 'ipv6'] as const)
    for (let i = 0; i < 30; i++) {
      const a = await terminal.ask('connect', {
        name: `${v}-${i}`,
        protocol: 'tcp',
        from: TERMINAL[v],
        to: SERVER[v],
        port: 80,
      });
      connections.push({
        protocol: 'tcp',
        opener: 'terminal',
        local: { address: TERMINAL[v], port: a.port ?? 0 },
        remote: { address: SERVER[v], port: 80 },
        state: 'established',
        timeLeftSeconds: 432000,
      });
    }
  for (let e = 1; e < 4; e++) {
    const t0 = performance.now();
    const left = connections.shift();
    const ends = await domain.prepare(
      { terminal: alice, epoch: epoch(1), sequence: 0, policy, connections, counters: [] },
      epoch(e),
    );
    console.log('prepare', Math.round(performance.now() - t0), ends);
    await domain.activate({ terminal: 'alice', epoch: epoch(e) }, 10000);
    await lab.through(ends);
    console.log(
      await terminal.ask('talk', { name: 'ipv4-20', text: 'hello' }),
      await terminal.ask('talk', { name: 'ipv6-20', text: 'hello' }),
      'left out:',
      await terminal.ask('talk', { name: `ipv4-${e - 1}`, text: 'hello' }),
    );
    console.log(
      'new',
      await terminal.ask('connect', {
        name: `new${e}`,
        protocol: 'tcp',
        from: TERMINAL.ipv4,
        to: SERVER.ipv4,
        port: 80,
      }),
      await terminal.ask('talk', { name: `new${e}`, text: 'hello' }),
    );
    const t1 = performance.now();
    const state = await domain.export({ terminal: 'alice', epoch: epoch(e) });
    console.log(
      'export',
      Math.round(performance.now() - t1),
      state.connections.length,
      state.connections[0],
      state.counters,
      state.sequence,
    );
    const t2 = performance.now();
    await domain.retire({ terminal: 'alice', epoch: epoch(e) });
    console.log('retire', Math.round(performance.now() - t2));
  }
} finally {
  await lab.close();
}
process.exit(0);
