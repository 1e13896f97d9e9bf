/**
 * The controller: puts its parts together and owns them. Nothing here decides anything.
 */
import type { ApiEvent } from '../shared/api/schema.js';
import { ChannelServer } from '../shared/channel/index.js';
import type { Domain, Dpid } from '../shared/domain/domain.js';
import { realClock } from '../shared/runtime/clock.js';
import { Lifetime } from '../shared/runtime/lifetime.js';
import type { Log } from '../shared/runtime/log.js';
import { projectVersion } from '../shared/runtime/project-root.js';
import { QuietLog } from '../shared/runtime/quiet-log.js';
import { loadIdentity } from '../shared/tls/index.js';
import type { ControllerConfig } from './config.js';
import { Core } from './core/host.js';
import { InstanceNumbers } from './core/instance-numbers.js';
import { firewallHost, OpenFlowCtDomain } from './domains/openflow-ct/index.js';
import { RemoteDomain } from './domains/remote/index.js';
import { EventBus } from './event-bus.js';
import { FirewallPlugin } from './firewall/plugin.js';
import { LearningSwitch } from './forwarding/learning-switch.js';
import { Coordinator } from './handover/coordinator.js';
import { startHttp } from './http/server.js';
import { Placement } from './placement.js';
import { loadPlugins } from './plugins.js';
import { renewOnHangup } from './renewal.js';
import { resume } from './resume.js';
import { Service } from './service.js';
import { Topology } from './steering/topology.js';
import { addressMemory } from './store/address-memory.js';
import { firewallMemory } from './store/firewall-memory.js';
import { openStore } from './store/journal-store.js';
import { MemoryStore } from './store/memory-store.js';
import { PolicyMemory } from './store/policy-memory.js';
import { logRefusal, OpenFlowListener } from './switch/index.js';
import { TransferCounts } from './transfers.js';

export interface Controller {
  /** Ends connections and servers; the switches keep their rules. May be called twice. */
  close(): Promise<void>;
}

/** After the controller's start: an agent that has long been without one tries every 5 s. */
const AGENT_GRACE_MS = 10_000;

/** Starts a controller. Fails when an address is taken or a plugin cannot be loaded; then nothing is left running. */
export async function startController(config: ControllerConfig, log: Log): Promise<Controller> {
  const lifetime = new Lifetime();
  try {
    await start(config, log, lifetime);
  } catch (error) {
    await lifetime.close();
    throw error;
  }
  return lifetime;
}

async function start(config: ControllerConfig, log: Log, lifetime: Lifetime): Promise<void> {
  const clock = realClock;
  // First of all: with wrong files nothing begins.
  const identity = config.tls && (await loadIdentity(config.tls, { kind: 'controller' }));
  // Closed last: what happens while the rest closes is kept, too.
  const store = lifetime.own(
    'store',
    config.store === undefined ? new MemoryStore() : await openStore({ folder: config.store, log }),
  );
  const names = new Set(config.terminals.map(({ terminal }) => terminal.name));
  for (const name of store.terminals()) {
    if (names.has(name)) continue;
    log.info({ terminal: name }, 'no longer in the configuration: what was kept of it is forgotten');
    store.forget(name);
  }
  const policies = new PolicyMemory(store, config.terminals);
  const dpids = new Map(config.switches.map(({ name, dpid }) => [name, dpid]));
  const dpidOf = (name: string): Dpid => {
    const found = dpids.get(name);
    if (found === undefined) throw new Error(`no switch ${name} in the configuration`);
    return found;
  };
  const nameOf = (dpid: Dpid): string => config.switches.find((sw) => sw.dpid === dpid)?.name ?? dpid;
  const topology = new Topology(
    config.switches.map(({ dpid }) => dpid),
    config.links.map(([a, b]) => [
      { dpid: dpidOf(a.switch), port: a.port },
      { dpid: dpidOf(b.switch), port: b.port },
    ]),
    new Set(config.switches.flatMap(({ dpid, access }) => (access === 'terminals' ? [dpid] : []))),
  );
  const numbers = new InstanceNumbers();
  const transfers = new TransferCounts();
  const events = new EventBus();
  const publish = (event: ApiEvent): void => {
    service.note(event);
    events.publish(event);
  };

  const firewall: FirewallPlugin = new FirewallPlugin({
    topology,
    terminals: config.terminals,
    numbers,
    memory: addressMemory(store, clock),
    attachments: {
      load: (name) => store.terminal(name).read().attachments,
      save: (name, attachments) => store.terminal(name).setAttachments(attachments),
    },
    clock,
    log,
    events: {
      addressed: (terminal) => coordinator.setTerminal(terminal),
      attached: (terminal, at, { awayMs, haulMs }) => {
        const attachment = { switch: nameOf(at.dpid), port: at.portName };
        log.info({ terminal: terminal.name, ...attachment }, 'attached');
        publish({ kind: 'attachment', terminal: terminal.name, attachment, at: clock.now() });
        const detect = awayMs === undefined ? [] : [{ name: 'detect' as const, ms: awayMs }];
        placement.attached(terminal.name, [...detect, { name: 'haul', ms: haulMs }]);
      },
      detached: (terminal) => {
        log.info({ terminal: terminal.name }, 'detached');
        publish({ kind: 'attachment', terminal: terminal.name, attachment: null, at: clock.now() });
      },
    },
  });
  const plugins = [firewall, ...(await loadPlugins(config.plugins)), new LearningSwitch()];
  const core = lifetime.own('core', new Core(plugins, log));
  await core.start();

  const channel = new ChannelServer({
    log,
    identity,
    limits: { prepareMs: config.timings.prepareMs, requestMs: config.timings.callMs },
  });
  const domains = new Map<string, Domain>();
  const switchDomains = new Map<string, OpenFlowCtDomain>();
  const remotes: RemoteDomain[] = [];
  for (const domain of config.domains) {
    if (domain.kind === 'openflow-ct') {
      const sdn = new OpenFlowCtDomain({
        name: domain.name,
        dpid: dpidOf(domain.switch),
        serves: domain.serves.map(dpidOf),
        host: firewallHost(firewall.host),
        numbers,
        timings: { idleTimes: config.timings.idle },
        keeper: store.instances,
        clock,
        log,
      });
      firewall.addReader(sdn);
      switchDomains.set(domain.name, sdn);
      domains.set(domain.name, lifetime.own(domain.name, sdn));
    } else {
      const remote = new RemoteDomain({
        name: domain.name,
        server: channel,
        terminal: (name) => config.terminals.find(({ terminal }) => terminal.name === name)?.terminal,
        onTransfer: (transfer) => transfers.add(transfer),
        onConnection: (connected) => {
          if (!connected) {
            coordinator.domainAway(domain.name);
            return;
          }
          coordinator.domainBack(domain.name);
          placement.reconsider();
        },
      });
      domains.set(domain.name, lifetime.own(domain.name, remote));
      remotes.push(remote);
    }
  }

  // Closed before the domains behind it: an agent is then told that the controller ends, not that it has no such domain.
  lifetime.own('channel', channel);

  const coordinator = lifetime.own(
    'coordinator',
    new Coordinator({
      domains,
      steering: firewall.steering,
      firewalls: policies.inForce(config.terminals, log).map((configured) => ({
        ...configured,
        terminal: firewall.addresses.book.present(configured.terminal.name),
        keeper: firewallMemory(store, configured.terminal.name, (id) => numbers.known(id)),
      })),
      timings: config.timings,
      firstEpoch: Math.floor(clock.now() / 1000),
      transfers,
      log,
      clock,
      onEvent: publish,
      onLost: (terminal) => placement.attached(terminal, []),
      reclaim: (found) => firewall.addresses.keep(found),
    }),
  );
  const placement = lifetime.own(
    'placement',
    new Placement({
      coordinator,
      servedBy: new Map(
        config.domains.flatMap(({ name, serves }) => serves.map((sw): [Dpid, string] => [dpidOf(sw), name])),
      ),
      attachment: (terminal) => firewall.registry.attachment(terminal),
      staying: store.terminals().filter((name) => store.terminal(name).read().placement === 'stay'),
      keep: (terminal, mode) => store.terminal(terminal).setPlacement(mode),
      retryMs: config.timings.retryMs,
      clock,
      log,
    }),
  );
  const service = new Service({
    version: projectVersion(),
    config,
    domains,
    coordinator,
    placement,
    policies,
    events,
    isConnected: (dpid) => core.switch(dpid) !== undefined,
    attachment: (terminal) => firewall.registry.attachment(terminal),
    addresses: (terminal) =>
      firewall.addresses.book.held(terminal).map(({ until, ...held }) => ({
        ...held,
        ...(until === undefined ? {} : { until: clock.now() + until - clock.monotonic() }),
      })),
  });

  await resume({ store, switchDomains, steering: firewall.steering, coordinator, log });
  await channel.listen(config.channel);
  // An agent that does not come although it has firewalls from before is as good as lost.
  lifetime.own(
    'grace',
    clock.after(AGENT_GRACE_MS, () => {
      for (const { name, connected } of remotes) if (!connected) coordinator.domainAway(name);
    }),
  );
  lifetime.own('http', await startHttp(service, config.http, log));
  const listener = lifetime.own(
    'openflow',
    new OpenFlowListener({
      ...config.openflow,
      identity,
      requestTimeoutMs: config.timings.callMs,
      accepts: (dpid) => topology.switches.includes(dpid),
    }),
  );
  const quiet = lifetime.own('quiet log', new QuietLog(log, clock));
  listener.on('refused', (error, peer) => logRefusal(quiet, error, peer));
  listener.on('switch', (sw) => {
    // The core has said why, and hung up, when that fails.
    core.adopt(sw).then(
      () => placement.reconsider(),
      () => {},
    );
  });
  if (config.tls) lifetime.own('renewal', renewOnHangup(config.tls, [channel, listener], log));
  await listener.listen();
  log.info(
    { openflow: config.openflow, channel: config.channel, http: config.http, tls: config.tls !== undefined },
    'controller ready',
  );
}
