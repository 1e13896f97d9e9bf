/**
 * What the fault matrix is made of: its table, the link that is cut and stalls, and how a system at rest is told from one that is not.
 */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import t from 'tap';
import type { StandbyStatus, Status } from '../../shared/api/schema.js';
import { CELLS, FAULTS, REPRESENTATIVES, STEPS } from '../harness/faults/cells.js';
import { FaultyLink } from '../harness/faults/faulty-link.js';
import type { CellResult } from '../harness/faults/run-cell.js';
import { unrest } from '../harness/faults/settled.js';
import { markdown, oneLine } from '../harness/faults/table.js';

t.test('the table has every step with every fault, each cell once and by name', async (t) => {
  t.equal(new Set(CELLS.map(({ name }) => name)).size, CELLS.length);
  for (const step of ['idle', ...STEPS] as const) {
    const faults = new Set(CELLS.filter((cell) => cell.step === step).map(({ fault }) => fault));
    t.same([...faults].sort(), [...FAULTS].sort(), `before ${step}`);
  }
  t.ok(CELLS.some(({ name }) => name === 'steer × old agent killed'));
  t.notOk(
    CELLS.some(({ name }) => name === 'export × new container killed'),
    'there is none to kill yet',
  );
  t.ok(
    CELLS.every(({ expected, reason }) => (expected === 'lives') === (reason === undefined)),
    'what does not live on says why',
  );
});

t.test('each family of faults has its representative', async (t) => {
  t.same(REPRESENTATIVES.map(({ fault }) => fault).sort(), [...FAULTS].sort());
});

t.test('the matrix is printed with an empty place where there is no cell', async (t) => {
  const [one, other] = CELLS;
  if (!one || !other) throw new Error('the table is empty');
  const result = (cell: typeof one, outcome: CellResult['outcome']): CellResult => ({
    ...{ cell, outcome, faults: outcome === 'FAULT' ? ['something'] : [], connections: 8, forbidden: 9 },
    settledMs: outcome === 'FAULT' ? undefined : 12,
  });
  const text = markdown([result(one, 'lives'), result(other, 'FAULT')]).split('\n');
  t.equal(text.length, 4);
  t.equal(text[2], `| ${one.fault} | lives |  |  |  |  |  |  |  |  |`);
  const double = CELLS.find(({ also }) => also !== undefined);
  const alone = CELLS.find(({ standbys }) => !standbys);
  if (!double || !alone) throw new Error('there are none with two faults, or without standbys');
  t.match(
    markdown([result(double, 'lives')]),
    /^\| together.*\n.*\n\| controller killed \+ active agent killed \| idle \| lives \|$/,
  );
  t.match(
    markdown([result(one, 'lives'), result(alone, 'lives')]),
    /\n\n\| together.*\n.*\n.*, no standbys \|/,
  );
  t.match(oneLine(result(other, 'FAULT')), /^FAULT.*never at rest again\n {2}something$/);
});

/** Answers every byte with itself. */
async function echo(): Promise<{ server: Server; port: number; sockets: Set<Socket> }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.pipe(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (typeof address !== 'object' || address === null) throw new Error('no address');
  return { server, port: address.port, sockets };
}

async function dial(port: number): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port });
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

/** In order or by a reset. */
function ended(socket: Socket): Promise<void> {
  return new Promise((resolve) => socket.once('close', () => resolve()));
}

t.test('a faulty link', async (t) => {
  const target = await echo();
  const link = await FaultyLink.start(target.port);
  t.teardown(async () => {
    await link.close();
    for (const socket of target.sockets) socket.destroy();
    target.server.close();
  });

  await t.test('passes bytes both ways', async (t) => {
    const socket = await dial(link.port);
    socket.write('hello');
    t.equal(String((await once(socket, 'data'))[0]), 'hello');
    t.equal(link.connections, 1);
    socket.destroy();
  });

  await t.test('stalled, holds back what comes, also the end, and tells nobody', async (t) => {
    const socket = await dial(link.port);
    socket.write('a');
    await once(socket, 'data');
    const served = [...target.sockets].at(-1);
    if (!served) throw new Error('nobody was served');
    link.stall();
    let [heard, closed] = ['', false];
    socket.on('data', (chunk) => {
      heard += String(chunk);
    });
    served.once('close', () => {
      closed = true;
    });
    socket.write('b');
    const late = await dial(link.port);
    late.write('c');
    // Bytes of another connection go there and back: what was to pass meanwhile would have.
    const other = await dial(target.port);
    other.write('x');
    await once(other, 'data');
    other.destroy();
    t.equal(heard, '');
    t.equal(closed, false);
    const [came, cameLate] = [once(socket, 'data'), once(late, 'data')];
    link.resume();
    await came;
    t.equal(heard, 'b');
    t.equal(String((await cameLate)[0]), 'c', 'who dialled meanwhile is served');
    const gone = ended(served);
    socket.destroy();
    late.destroy();
    await gone;
  });

  await t.test('cut, ends connections at both ends, and new ones at once, until it is resumed', async (t) => {
    const socket = await dial(link.port);
    socket.write('a');
    await once(socket, 'data');
    const served = [...target.sockets].at(-1);
    if (!served) throw new Error('nobody was served');
    const [here, there] = [ended(socket), ended(served)];
    link.cut();
    await Promise.all([here, there]);
    const refused = connect({ host: '127.0.0.1', port: link.port });
    refused.on('error', () => {});
    await ended(refused);
    link.resume();
    const again = await dial(link.port);
    again.write('back');
    t.equal(String((await once(again, 'data'))[0]), 'back');
    again.destroy();
  });
});

t.test('a system at rest', async (t) => {
  const standby = (domain: string, state: StandbyStatus['state']): StandbyStatus => ({
    ...{ domain, epoch: 2, state, behind: 0 },
  });
  const status = (change: {
    readonly handover?: string;
    readonly connected?: boolean;
    readonly ok?: boolean;
    readonly instances?: readonly {
      domain: string;
      epoch: number;
      role: 'active' | 'standby' | 'draining';
    }[];
    readonly standbys?: readonly StandbyStatus[];
  }): Status => {
    const {
      instances = [
        { domain: 'sdn-1', epoch: 1, role: 'active' },
        { domain: 'edge-1', epoch: 2, role: 'standby' },
      ],
    } = change;
    const terminal = {
      ...{ name: 'alice', mac: '02:00:00:00:00:01', addresses: [], policy: 'phone', attachment: null },
      ...{ active: { domain: 'sdn-1', epoch: 1 }, placement: 'stay' as const, instances },
      ...{ handover: change.handover ?? null, standbys: change.standbys ?? [standby('edge-1', 'ready')] },
    };
    return {
      ...{ version: '1', startedAt: 0, terminals: [terminal] },
      switches: [{ name: 's1', dpid: '0000000000000001', connected: change.connected ?? true }],
      domains: ['sdn-1', 'edge-1', 'edge-2'].map((name) => ({
        ...{ name, kind: 'remote', serves: [], ok: change.ok ?? true, problem: 'ill' },
        instances: instances
          .filter(({ domain }) => domain === name)
          .map(({ epoch, role }) => ({ terminal: 'alice', epoch, role })),
      })),
    };
  };
  const of = (change: Parameters<typeof status>[0]) => unrest(status(change), 'alice', ['edge-1']);
  t.equal(of({}), undefined);
  t.match(of({ handover: 'x' }), /handover/);
  t.match(of({ connected: false }), /s1/);
  t.match(of({ ok: false }), /ill/);
  t.match(of({ standbys: [] }), /no standby ready in edge-1/);
  t.match(of({ standbys: [standby('edge-1', 'building')] }), /no standby ready in edge-1/);
  t.match(of({ standbys: [{ ...standby('edge-1', 'ready'), behind: 3 }] }), /edge-1 is 3 changes behind/);
  const active = { domain: 'sdn-1', epoch: 1, role: 'active' } as const;
  const second = of({ instances: [active, { domain: 'edge-1', epoch: 2, role: 'active' }] });
  t.match(second, /active 2 in edge-1/);
  t.match(
    of({ instances: [active, { domain: 'edge-2', epoch: 3, role: 'standby' }] }),
    /standby 3 in edge-2/,
  );
  t.match(of({ instances: [{ domain: 'edge-1', epoch: 2, role: 'standby' }] }), /sdn-1 has lost it/);
  t.match(of({ instances: [{ ...active, role: 'draining' }] }), /draining 1 in sdn-1/);
  t.match(unrest(status({}), 'bob', []), /no terminal bob/);
});
