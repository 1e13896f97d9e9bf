/**
 * A real switch whose controller is gone and begins anew: rules stay, traffic goes on, good rules are not touched, and what was opened meanwhile is
 * known again. So are connections whose copies were lost.
 */
import '../lab/enter.js';
import t, { type Test } from 'tap';
import type { InstanceId } from '../../shared/domain/domain.js';
import { policySchema } from '../../shared/firewall/policy.js';
import type { Family } from '../../shared/firewall/terminal.js';
import { KeptInstances } from '../fixtures/kept-instances.js';
import { FAMILIES, fresh, SdnBench } from '../fixtures/sdn-bench.js';
import { type Host, type SdnLab, SERVER, startSdnLab, TERMINAL } from '../fixtures/sdn-lab.js';
import { SwitchRelay } from '../fixtures/switch-relay.js';
import { waitFor } from '../lab/index.js';

const GENERATION_MS = 1_000;
const PORT = 7000;
/**
 * Datagrams a second, in each family; each comes back. The switch's port holds about 270 frames while the switch has no turn on a busy machine, and
 * what is lost there is not what is tested.
 */
const RATE = 250;

const policy = policySchema.parse({
  name: 'outbound',
  defaults: { outbound: 'accept', inbound: 'drop' },
  rules: [{ name: 'ssh', direction: 'inbound', action: 'accept', protocol: 'tcp', localPorts: 22 }],
});

t.setTimeout(180_000);
const kept = new KeptInstances();
let relay: SwitchRelay | undefined;
const lab = await startSdnLab(
  { generationMs: GENERATION_MS, settleMs: 200, tickMs: 50 },
  {
    keeper: kept,
    relay: async (port) => {
      relay = await SwitchRelay.start({ host: '127.0.0.1', port });
      return relay.port;
    },
  },
);
t.teardown(async () => {
  await lab.close();
  relay?.close();
});
const bench = new SdnBench(lab, policy);
const { terminal, server } = lab;
for (const family of FAMILIES) await server.ask('serve', { address: SERVER[family], port: PORT });

/** A real connection of the terminal's kernel; the name of its socket. */
async function connect(
  t: Test,
  name: string,
  family: 'ipv4' | 'ipv6',
  protocol: 'tcp' | 'udp',
): Promise<number> {
  const ends = { from: TERMINAL[family], to: SERVER[family], port: PORT };
  const { port, error } = await terminal.ask('connect', { name, protocol, ...ends });
  t.equal(error, undefined, `${name} opens`);
  return port ?? 0;
}

const talks = async (host: Host, name: string): Promise<string | undefined> =>
  (await host.ask('talk', { name, text: 'still here' })).error;

/** Rules without what carries the generation: its value stands in marks and in what is matched of them. */
const withoutGeneration = (rule: string): string =>
  rule
    .replace(/ct_mark=0x[0-9a-f]+(\/0x[0-9a-f]+)?/g, 'ct_mark')
    .replace(/set_field:0x[0-9a-f]+(\/0x[0-9a-f]+)?->ct_mark/g, 'mark');

async function knownPorts(
  { domain }: SdnLab,
  id: InstanceId,
  ...families: readonly Family[]
): Promise<Set<number>> {
  const { connections } = await domain.export(id);
  const local = new Set<string>(
    (families.length > 0 ? families : FAMILIES).map((family) => TERMINAL[family]),
  );
  return new Set(
    connections.flatMap((one) =>
      one.protocol !== 'icmp' && local.has(one.local.address) ? [one.local.port] : [],
    ),
  );
}

t.test(
  'through the end of a controller and the start of the next, nothing is lost and nothing good is touched',
  async (t) => {
    const waiting = FAMILIES.map((family) => fresh('tcp', family));
    const placed = await bench.place(waiting);
    const early: number[] = [];
    const progress: string[] = [];
    for (const family of FAMILIES)
      for (const protocol of ['tcp', 'udp'] as const) {
        early.push(await connect(t, `early ${protocol} ${family}`, family, protocol));
        t.equal(await talks(terminal, `early ${protocol} ${family}`), '');
      }
    for (const family of FAMILIES)
      await terminal.ask('stream', {
        name: family,
        from: TERMINAL[family],
        to: SERVER[family],
        port: PORT,
        rate: RATE,
      });
    await waitFor('the first generation is over', async () =>
      (await lab.dump('firewall-ct')).some((line) => line.includes('0x20/0xf0')),
    );
    const mark = async (what: string): Promise<void> => {
      const { sent } = await terminal.ask('progress', { name: 'ipv6' });
      progress.push(`${what} at ${sent}`);
    };
    kept.stopped = true;
    await mark('killed');
    await lab.kill();
    const { records } = kept;
    t.equal(records.length, 1);
    const before = await lab.rules();
    const late: number[] = [];
    for (const family of FAMILIES)
      for (const protocol of ['tcp', 'udp'] as const) {
        late.push(await connect(t, `late ${protocol} ${family}`, family, protocol));
        t.equal(await talks(terminal, `late ${protocol} ${family}`), '');
      }
    kept.stopped = false;
    relay?.forget();
    await mark('revived');
    await lab.revive(records);
    await mark('ready');
    const after = await lab.rules();

    const [had, has] = [before, after].map((rules) => new Map(rules.map((each) => [each.rule, each])));
    if (!had || !has) throw new Error('two dumps');
    const gone = [...had.keys()].filter((rule) => !has.has(rule));
    const come = [...has.keys()].filter((rule) => !had.has(rule));
    t.same(
      come.map(withoutGeneration).sort(),
      gone.map(withoutGeneration).sort(),
      'only the generation is another',
    );
    t.ok(come.length > 0 && come.length < 30, `${come.length} of ${after.length} rules`);
    for (const [rule, { packets, seconds }] of has) {
      const was = had.get(rule);
      if (was && (packets < was.packets || seconds < was.seconds)) t.fail(`counted anew: ${rule}`);
    }
    t.ok(
      [...has].some(([rule, { packets }]) => packets > (had.get(rule)?.packets ?? 0) && had.has(rule)),
      'control: counters go on',
    );
    const flushes = relay?.all(({ type }) => (type.startsWith('ct_flush') ? type : undefined));
    t.same(flushes, [], 'nothing is flushed');

    for (const family of FAMILIES)
      for (const when of ['early', 'late'])
        for (const protocol of ['tcp', 'udp'])
          t.equal(
            await talks(terminal, `${when} ${protocol} ${family}`),
            '',
            `${when} ${protocol}, ${family}, lives on`,
          );
    await waitFor('what was opened meanwhile is known', async () => {
      const ports = await knownPorts(lab, placed.id);
      return [...early, ...late].every((port) => ports.has(port));
    });
    const { connections } = await lab.domain.export(placed.id);
    for (const one of connections) t.equal(one.opener, 'terminal', 'and who opened it');
    for (const one of waiting) {
      t.ok(await bench.arrives(bench.packetOf(one, 'remote')), 'what waited to be adopted is adopted now');
      t.match(
        await bench.known(
          placed.id,
          `tcp ${one.local.address} ${'port' in one.local ? one.local.port : ''} ${one.remote.address} 443`,
        ),
        {
          state: 'established',
        },
      );
    }
    for (const family of FAMILIES) {
      const { sent = 0, received, missing } = await terminal.ask('halt', { name: family });
      t.ok(sent > RATE, `${sent} datagrams, ${family}`);
      t.same({ received, missing }, { received: sent, missing: [] }, `each came back once; ${progress}`);
    }
    await bench.retired(placed);
    t.same(kept.records, []);
  },
);

t.test(
  'control: without what was kept, the rules of the instance go and its traffic with them',
  async (t) => {
    const placed = await bench.place();
    await connect(t, 'lost', 'ipv4', 'tcp');
    t.equal(await talks(terminal, 'lost'), '');
    await lab.kill();
    await lab.revive([]);
    t.not(await talks(terminal, 'lost'), '');
    t.notOk(
      (await lab.rules()).some(
        ({ rule }) => rule.includes(`reg1=0x${numberOf(placed).toString(16)}`) && rule.includes('ct_state'),
      ),
    );
  },
);

t.test(
  'connections whose copies were lost are known with the next generation, and none of them notices',
  async (t) => {
    const placed = await bench.place();
    const [first, count] = [10_000, 400];
    const all = Array.from({ length: count }, (_, index) => first + index);
    for (const family of FAMILIES) {
      const frame = {
        ...{ smac: TERMINAL.mac, dmac: SERVER.mac, src: TERMINAL[family], dst: SERVER[family] },
        ...{ protocol: 'udp', dport: 9, payload: '' },
      };
      const tracked = async (): Promise<number> =>
        (await lab.tracked(placed.ends)).filter((line) => line.includes(`src=${TERMINAL[family]}`)).length;
      if (relay) Object.assign(relay, { losesPackets: true, lost: 0 });
      await waitFor('the switch tracks all of them', async () => {
        await terminal.ask('flood', { frame, first, count });
        return (await tracked()) === count;
      });
      t.same(await knownPorts(lab, placed.id, family), new Set(), `control: nobody knows of them, ${family}`);
      t.ok((relay?.lost ?? 0) >= count, `${relay?.lost} copies were lost`);
      if (relay) relay.losesPackets = false;
      await waitFor('all have announced themselves', async () => {
        await terminal.ask('flood', { frame, first, count });
        const ports = await knownPorts(lab, placed.id, family);
        return all.every((port) => ports.has(port));
      });
    }
    await bench.retired(placed);
  },
);

function numberOf({ ends }: { readonly ends: Awaited<ReturnType<SdnBench['place']>>['ends'] }): number {
  if (ends.kind !== 'pipeline') throw new Error('an SDN domain is in the pipeline');
  return ends.instance;
}
