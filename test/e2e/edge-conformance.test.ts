/**
 * The edge domain passes the conformance suite with real containers: in process, and behind the channel.
 */
import '../lab/enter.js';
import t from 'tap';
import type { ConformanceEnvironment } from '../../shared/domain/conformance.js';
import { domainConformance } from '../../shared/domain/conformance.js';
import type { Domain, Ends, InstanceId } from '../../shared/domain/domain.js';
import type { Connection } from '../../shared/firewall/connection.js';
import { arrivals, type EdgeLab, SERVER, startEdgeLab, TERMINAL } from '../fixtures/edge-lab.js';
import { alice, bob, connectedPair, examplePolicy } from '../fixtures/reference-environment.js';

// Some eighty containers are started, one after another: on a busy machine each takes seconds.
t.setTimeout(500_000);

const SYN = 0x02;
const ACK = 0x10;
const lab = await startEdgeLab();
t.teardown(async () => {
  await lab.close();
});

await domainConformance(t, {
  name: 'the edge domain',
  create: async () => environment(lab, lab.domain, async () => {}),
});
await domainConformance(t, {
  name: 'the edge domain behind the channel',
  create: async () => {
    const domain = await lab.startDomain('edge-2');
    const pair = await connectedPair(domain);
    return environment(lab, pair.remote, async () => {
      await pair.close();
      await domain.close();
    });
  },
});

function environment(lab: EdgeLab, domain: Domain, close: () => Promise<void>): ConformanceEnvironment {
  const ends = new Map<string, Ends>();
  let port = 30_000;
  const connection = (remotePort: number, address: string = TERMINAL.ipv4): Connection => ({
    protocol: 'tcp',
    opener: 'terminal',
    local: { address, port: port++ },
    remote: { address: '198.51.100.20', port: remotePort },
    state: 'opening',
    timeLeftSeconds: 60,
  });
  const terminal = { host: lab.terminal, mac: TERMINAL.mac };
  const server = { host: lab.server, mac: SERVER.mac };
  const sends = async (id: InstanceId, one: Connection, flags: number): Promise<boolean> => {
    const through = ends.get(key(id));
    if (one.protocol !== 'tcp' || !through) throw new Error('the wire knows TCP through prepared instances');
    await lab.through(through);
    const { local, remote } = one;
    const [arrived = false] =
      flags === (SYN | ACK)
        ? await arrivals(server, terminal, [
            {
              protocol: 'tcp',
              src: remote.address,
              dst: local.address,
              sport: remote.port,
              dport: local.port,
              flags,
            },
          ])
        : await arrivals(terminal, server, [
            {
              protocol: 'tcp',
              src: local.address,
              dst: remote.address,
              sport: local.port,
              dport: remote.port,
              flags,
            },
          ]);
    return arrived;
  };
  // A connection that is admitted is opened to its end: a packet from its middle is none before that.
  const admit = async (id: InstanceId, one: Connection): Promise<boolean> =>
    (await sends(id, one, SYN)) && (await sends(id, one, SYN | ACK)) && (await sends(id, one, ACK));
  return {
    domain: remembering(domain, (id, one) => ends.set(key(id), one)),
    terminal: alice,
    otherTerminal: bob,
    policy: examplePolicy,
    wire: {
      allowed: (local) => connection(443, local),
      forbidden: () => connection(25),
      admit,
      carries: (id, one) => sends(id, one, ACK),
    },
    close,
  };
}

function key({ terminal, epoch }: InstanceId): string {
  return `${terminal} ${epoch}`;
}

/** The same domain; what `prepare` returns is noted. */
function remembering(domain: Domain, note: (id: InstanceId, ends: Ends) => void): Domain {
  return {
    name: domain.name,
    capabilities: () => domain.capabilities(),
    prepare: async (snapshot, epoch) => {
      const ends = await domain.prepare(snapshot, epoch);
      note({ terminal: snapshot.terminal.name, epoch }, ends);
      return ends;
    },
    apply: (id, deltas) => domain.apply(id, deltas),
    sync: (id, snapshot) => domain.sync(id, snapshot),
    digest: (id) => domain.digest(id),
    setTerminal: (id, terminal) => domain.setTerminal(id, terminal),
    setPolicy: (id, policy) => domain.setPolicy(id, policy),
    activate: (id, leaseMs) => domain.activate(id, leaseMs),
    drain: (id, drainMs) => domain.drain(id, drainMs),
    retire: (id) => domain.retire(id),
    export: (id) => domain.export(id),
    changes: (id, from, signal) => domain.changes(id, from, signal),
    health: () => domain.health(),
  };
}
