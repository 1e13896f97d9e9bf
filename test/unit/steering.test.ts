/**
 * Steering on paper: wherever the terminal is and wherever its firewall is, every frame between terminal and network goes through it,
 * exactly once and in the right direction.
 */
import t from 'tap';
import { InstanceNumbers } from '../../controller-app/core/instance-numbers.js';
import type { Rule } from '../../controller-app/core/plugin.js';
import { FLOOD } from '../../controller-app/forwarding/flood.js';
import { unpackLearning } from '../../controller-app/pipeline/index.js';
import { HeldFrames } from '../../controller-app/steering/held-frames.js';
import { unpackNotice } from '../../controller-app/steering/notices.js';
import { steeringRules } from '../../controller-app/steering/rules.js';
import { Steering } from '../../controller-app/steering/steering.js';
import { Topology } from '../../controller-app/steering/topology.js';
import {
  type Path,
  type SteeringView,
  type TerminalView,
  unseen,
} from '../../controller-app/steering/view.js';
import { type Dpid, dpid, type InstanceId } from '../../shared/domain/domain.js';
import { epoch } from '../../shared/firewall/state.js';
import { ManualClock } from '../../shared/runtime/clock.js';
import { silentLog } from '../../shared/runtime/log.js';
import { Fabric, type Place } from '../fixtures/fabric.js';

const s1 = dpid(1);
const s2 = dpid(2);
const s3 = dpid(3);
const tables = {
  classify: 0,
  learn: 1,
  guard: 2,
  enter: 3,
  firewall: 4,
  'firewall-ct': 5,
  deliver: 6,
  lead: 7,
  forward: 8,
  egress: 9,
};
const numbers = { ...tables, ingress: tables.learn, network: tables.forward };
const links: ConstructorParameters<typeof Topology>[1] = [
  [
    { dpid: s1, port: 't1' },
    { dpid: s3, port: 't1' },
  ],
  [
    { dpid: s2, port: 't1' },
    { dpid: s3, port: 't2' },
  ],
];
const open = new Topology([s1, s2, s3], links);
const ports = new Map<Dpid, ReadonlyMap<string, number>>([
  [
    s1,
    new Map([
      ['t1', 1],
      ['a', 5],
      ['b', 6],
    ]),
  ],
  [
    s2,
    new Map([
      ['t1', 1],
      ['a', 5],
      ['pgt1', 7],
      ['pgn1', 8],
    ]),
  ],
  [
    s3,
    new Map([
      ['t1', 1],
      ['t2', 2],
      ['h2', 3],
      ['h3', 4],
      ['a', 5],
    ]),
  ],
]);
const trunks: readonly (readonly [Place, Place])[] = [
  [
    { dpid: s1, port: 1 },
    { dpid: s3, port: 1 },
  ],
  [
    { dpid: s2, port: 1 },
    { dpid: s3, port: 2 },
  ],
];
const terminal = { name: 'alice', mac: '02:00:00:00:00:01', ipv4: ['10.0.0.1'], ipv6: [] };
const server = '02:00:00:00:00:02';
const broadcast = 'ff:ff:ff:ff:ff:ff';

const inSwitch: Path = { number: 1, ends: { kind: 'pipeline', dpid: s1, instance: 1 } };
const inContainer: Path = {
  number: 2,
  ends: { kind: 'ports', dpid: s2, terminalSide: 'pgt1', networkSide: 'pgn1' },
};

/** A learning switch that has learned where the server is, and nobody else. */
function forwarding(at: Dpid): Rule[] {
  const towards = { [s1]: 1, [s2]: 1, [s3]: 3 }[at] ?? 0;
  const choose = (priority: number, match: Rule['match'], port: number): Rule => ({
    table: 'forward',
    priority,
    match,
    instructions: [
      { type: 'apply_actions', actions: [{ type: 'set_field', field: { reg2: port } }] },
      { type: 'goto_table', table: tables.egress },
    ],
  });
  return [
    { table: 'learn', priority: 0, match: {}, instructions: [{ type: 'goto_table', table: tables.lead }] },
    choose(10, { eth_dst: server }, towards),
    choose(0, {}, FLOOD),
  ];
}

function fabric(view: Partial<TerminalView>, topology = open): Fabric {
  return mixedFabric(() => view, topology);
}

/** Where each switch has rules of a view of its own, as while a change is under way. */
function mixedFabric(viewOf: (at: Dpid) => Partial<TerminalView>, topology = open): Fabric {
  const whole = (at: Dpid): SteeringView => ({
    topology,
    ports,
    terminals: [{ ...unseen(terminal, 0), ...viewOf(at) }],
  });
  const rules = new Map(
    [s1, s2, s3].map((at) => [
      at,
      [...steeringRules(whole(at), at, numbers).values()].flat().concat(forwarding(at)),
    ]),
  );
  return new Fabric({
    tables,
    rules: (at) => rules.get(at) ?? [],
    peer: (place) => {
      for (const [a, b] of trunks) {
        if (a.dpid === place.dpid && a.port === place.port) return b;
        if (b.dpid === place.dpid && b.port === place.port) return a;
      }
      return undefined;
    },
    through: ({ dpid: at, port }) =>
      at === s2 && port === 7
        ? { dpid: s2, port: 8 }
        : at === s2 && port === 8
          ? { dpid: s2, port: 7 }
          : undefined,
  });
}

const attachedTo = (at: Dpid) => ({ dpid: at, port: 5, portName: 'a' });
const atServer: Place = { dpid: s3, port: 3 };
const places = (here: Fabric): string[] =>
  here.arrived.map(({ at }) => `${at.dpid.slice(-1)}:${at.port}`).sort();

for (const at of [s1, s2, s3]) {
  for (const [name, path, through] of [
    ['the switch s1', inSwitch, ['1:1', '1:2']],
    ['the container at s2', inContainer, ['port 7', 'port 8']],
  ] as const) {
    t.test(`terminal at s${at.slice(-1)}, firewall in ${name}`, async (t) => {
      const view = { attachments: [attachedTo(at)], paths: [path], led: path.number };
      const terminalPort = { dpid: at, port: 5 };
      const out = fabric(view).send(terminalPort, { src: terminal.mac, dst: server });
      t.same(places(out), ['3:3'], 'out: only the server gets it');
      t.same(out.visited, [through[0]], 'out: through the firewall once, from the terminal side');
      t.equal(out.arrived[0]?.frame.vlan, undefined, 'no tag leaves the trunks');

      const back = fabric(view).send(atServer, { src: server, dst: terminal.mac });
      t.same(places(back), [`${at.slice(-1)}:5`], 'in: only the terminal gets it');
      t.same(back.visited, [through[1]], 'in: through the firewall once, from the network side');
      t.equal(back.arrived[0]?.frame.vlan, undefined);

      const asked = fabric(view).send(terminalPort, { src: terminal.mac, dst: broadcast });
      t.same(asked.visited, [through[0]], 'a broadcast is filtered once, and never comes back to its sender');
      t.ok(places(asked).includes('3:3') && places(asked).includes('3:4'), 'it reaches hosts elsewhere');
      t.notOk(places(asked).includes(`${at.slice(-1)}:5`));

      const called = fabric(view).send(atServer, { src: server, dst: broadcast });
      t.same(
        called.visited,
        [through[1]],
        'a broadcast of a host reaches the terminal through its firewall only',
      );
      t.equal(places(called).filter((place) => place === `${at.slice(-1)}:5`).length, 1);
      t.ok(places(called).includes('3:4'));
    });
  }
}

t.test(
  'while it moves: what the old instance lets through reaches the network, what is new goes to the new one',
  async (t) => {
    const view = { attachments: [attachedTo(s2)], paths: [inSwitch, inContainer], led: 2 };
    const fresh = fabric(view).send({ dpid: s2, port: 5 }, { src: terminal.mac, dst: server });
    t.same(fresh.visited, ['port 7']);
    // A frame that was on its way to the old instance when steering changed: still tagged for it.
    const late = fabric(view).send({ dpid: s1, port: 1 }, { src: terminal.mac, dst: server, vlan: 2 });
    t.same(late.visited, ['1:1']);
    t.same(places(late), ['3:3']);
    const lateBack = fabric(view).send({ dpid: s1, port: 1 }, { src: server, dst: terminal.mac, vlan: 3 });
    t.same(lateBack.visited, ['1:2']);
    t.same(places(lateBack), ['2:5'], 'the old instance finds the terminal where it is now');
  },
);

t.test('nothing reaches or leaves a terminal without an active instance', async (t) => {
  const view = { attachments: [attachedTo(s1)], paths: [inSwitch], led: undefined };
  t.same(fabric(view).send({ dpid: s1, port: 5 }, { src: terminal.mac, dst: server }).arrived, []);
  t.same(fabric(view).send(atServer, { src: server, dst: terminal.mac }).arrived, []);
  const called = fabric(view).send(atServer, { src: server, dst: broadcast });
  t.notOk(places(called).includes('1:5'));
});

t.test('frames that pretend', async (t) => {
  const view = { attachments: [attachedTo(s1)], paths: [inSwitch], led: 1 };
  t.same(
    fabric(view).send({ dpid: s3, port: 4 }, { src: server, dst: terminal.mac, vlan: 2 }).arrived,
    [],
    'a tag from a host port is no way round the firewall',
  );
  t.same(
    fabric(view).send({ dpid: s1, port: 5 }, { src: terminal.mac, dst: server, vlan: 3 }).arrived,
    [],
    'nor from the terminal',
  );
  const elsewhere = fabric(view).send({ dpid: s3, port: 4 }, { src: terminal.mac, dst: server });
  t.same(
    places(elsewhere),
    [`3:${0xfffffffd}`],
    'the terminal’s MAC on another port goes to the controller only',
  );
  t.same(
    fabric(view).send({ dpid: s3, port: 1 }, { src: terminal.mac, dst: server }).arrived,
    [],
    'untagged on a trunk, a terminal’s frame has not been filtered',
  );
  const unknown = fabric(view).send(atServer, { src: server, dst: '02:00:00:00:00:99' });
  t.notOk(places(unknown).includes('1:5'), 'a frame for an unknown host is not flooded to a terminal');
  t.notOk(
    fabric({ paths: [] }).send(atServer, { src: server, dst: broadcast }).visited.length,
    'nor into an instance that is not active',
  );
});

t.test('where only terminals may be, a port that is none’s is closed', async (t) => {
  const closed = new Topology([s1, s2, s3], links, new Set([s1]));
  const stranger = { src: '02:00:00:00:00:77', dst: server };
  const at = { dpid: s1, port: 6 };
  t.same(places(fabric({}).send(at, stranger)), ['3:3'], 'elsewhere such a host is let in');
  t.same(fabric({}, closed).send(at, stranger).arrived, []);
  t.same(
    places(fabric({}, closed).send(at, { src: terminal.mac, dst: server })),
    [`1:${0xfffffffd}`],
    'a terminal’s first frame is told of',
  );
  const called = fabric({}, closed).send(atServer, { src: server, dst: broadcast });
  t.notOk(places(called).includes('1:6'), 'nor is anything flooded there');
});

t.test('the controller hears what addresses depend on where the terminal is, and nowhere else', async (t) => {
  const claimed = 'fd00::5';
  const heard = (at: Dpid, path: Path, listening: boolean): string[] => {
    const view: TerminalView = {
      ...{
        ...unseen(terminal, 0),
        attachments: [attachedTo(at)],
        paths: [inSwitch, inContainer],
        led: path.number,
      },
      ...(listening ? { listening: { index: 7, dhcp: true, claims: [claimed] } } : {}),
    };
    const whole: SteeringView = { topology: open, ports, terminals: [view] };
    return [s1, s2, s3].flatMap((here) =>
      [...steeringRules(whole, here, numbers).values()].flat().flatMap((rule) => {
        // In other tables a cookie has other meanings.
        const cookie = rule.table === 'deliver' ? (rule.cookie ?? 0) : 0;
        const { reason, terminal: index } = unpackLearning(cookie) ?? {};
        if (reason === undefined) return [];
        t.equal(index, 7);
        t.match(rule.match, { reg0: 2, reg4: 0 }, 'towards the terminal only');
        const outputs = rule.instructions.flatMap((instruction) =>
          instruction.type === 'apply_actions'
            ? instruction.actions.map((action) => (action.type === 'output' ? action.port : -1))
            : [-1],
        );
        const copied = outputs.includes(5) ? 'copied' : 'held';
        t.ok(outputs.includes(0xffff_fffd));
        return [`s${here.slice(-1)} instance ${rule.match.reg1}: ${reason}, ${copied}`];
      }),
    );
  };
  for (const at of [s1, s2, s3]) {
    for (const path of [inSwitch, inContainer]) {
      const each = (number: number): string[] =>
        ['dhcp-server, held', 'claim, copied', 'claim, copied'].map(
          (what) => `s${at.slice(-1)} instance ${number}: ${what}`,
        );
      t.same(heard(at, path, true), [...each(1), ...each(2)], 'from every instance that may still deliver');
      t.same(heard(at, path, false), [], 'control: where nothing may be learnt');
    }
  }
});

const both = (first: Dpid, second: Dpid) => [attachedTo(first), attachedTo(second)];
const instances: readonly (readonly [string, Path, readonly string[]])[] = [
  ['the switch s1', inSwitch, ['1:1', '1:2']],
  ['the container at s2', inContainer, ['port 7', 'port 8']],
];

for (const [first, second] of [s1, s2, s3].flatMap((a) =>
  [s1, s2, s3].filter((b) => b !== a).map((b) => [a, b] as const),
)) {
  for (const [name, path, through] of instances) {
    const which = `terminal at s${first.slice(-1)} and s${second.slice(-1)}, firewall in ${name}`;
    t.test(which, async (t) => {
      const view = { attachments: both(first, second), paths: [path], led: path.number };
      for (const at of [first, second]) {
        const out = fabric(view).send({ dpid: at, port: 5 }, { src: terminal.mac, dst: server });
        const told = at === second ? [`${at.slice(-1)}:${0xfffffffd}`] : [];
        t.same(
          places(out),
          [...told, '3:3'].sort(),
          'out: the server gets it, once, and the controller hears of the other link',
        );
        t.same(out.visited, [through[0]], 'through the firewall once, from the terminal side');
        const asked = fabric(view).send({ dpid: at, port: 5 }, { src: terminal.mac, dst: broadcast });
        t.same(asked.visited, [through[0]], 'a broadcast is filtered once');
        t.notOk(
          [first, second].some((link) => places(asked).includes(`${link.slice(-1)}:5`)),
          'and reaches neither of its links',
        );
      }
      const back = fabric(view).send(atServer, { src: server, dst: terminal.mac });
      t.same(places(back), [`${first.slice(-1)}:5`], 'in: by the primary link only');
      t.same(back.visited, [through[1]]);
      const called = fabric(view).send(atServer, { src: server, dst: broadcast });
      t.same(called.visited, [through[1]], 'a broadcast of a host goes through the firewall once');
      t.notOk(places(called).includes(`${second.slice(-1)}:5`));
      const unwatched = fabric({ ...view, watched: false });
      t.same(
        places(unwatched.send({ dpid: second, port: 5 }, { src: terminal.mac, dst: server })),
        ['3:3'],
        'damped, it goes on sending by both, and nobody is told',
      );
    });
  }
}

/** Every way in which some switches have a change already and the others have not. */
const halfways = [...Array(8).keys()].map(
  (mask) => new Set([s1, s2, s3].filter((_, bit) => mask & (1 << bit))),
);
const links12: readonly Dpid[] = [s1, s2];

for (const [first, second] of [
  [s1, s2],
  [s2, s1],
] as const) {
  for (const [name, path] of instances) {
    t.test(
      `while switches learn one after another that it sends by s${second.slice(-1)}, firewall in ${name}, nothing is lost`,
      async (t) => {
        const before = { attachments: both(first, second), paths: [path], led: path.number };
        const after = { ...before, attachments: both(second, first) };
        for (const changed of halfways) {
          const which = `changed: ${[...changed].map((at) => at.slice(-1)).join(' ') || 'none'}`;
          const mixed = () => mixedFabric((at) => (changed.has(at) ? after : before));
          const back = mixed().send(atServer, { src: server, dst: terminal.mac });
          t.ok(
            ['1:5', '2:5'].includes(places(back).join()),
            `${which}: in, to one of its links: ${places(back)}`,
          );
          for (const at of links12) {
            const out = mixed().send({ dpid: at, port: 5 }, { src: terminal.mac, dst: server });
            t.equal(places(out).filter((place) => place === '3:3').length, 1, `${which}: out, once`);
          }
        }
      },
    );
  }
}

t.test('while switches learn one after another of its second link, nothing is lost', async (t) => {
  let lostAtOnce = 0;
  for (const [name, path] of instances) {
    for (const [first, second] of [
      [s1, s2],
      [s2, s1],
    ] as const) {
      const before = { attachments: [attachedTo(first)], paths: [path], led: path.number };
      const lost = (attachments: TerminalView['attachments']): number =>
        halfways.filter((changed) => {
          const mixed = mixedFabric((at) => (changed.has(at) ? { ...before, attachments } : before));
          return mixed.send(atServer, { src: server, dst: terminal.mac }).arrived.length !== 1;
        }).length;
      t.equal(lost(both(first, second)), 0, `${name}: reachable there first`);
      lostAtOnce += lost(both(second, first));
    }
  }
  t.ok(lostAtOnce > 0, 'control: reached there at once');
});

for (const at of links12) {
  for (const [from, to] of [
    [inSwitch, inContainer],
    [inContainer, inSwitch],
  ] as const) {
    t.test(
      `while switches learn one after another that ${to.number} is active, terminal at s${at.slice(-1)}, nothing is lost`,
      async (t) => {
        const before = { attachments: [attachedTo(at)], paths: [from, to], led: from.number };
        const after = { ...before, led: to.number };
        for (const changed of halfways) {
          const which = `changed: ${[...changed].map((one) => one.slice(-1)).join(' ') || 'none'}`;
          const mixed = () => mixedFabric((one) => (changed.has(one) ? after : before));
          const back = mixed().send(atServer, { src: server, dst: terminal.mac });
          t.same(places(back), [`${at.slice(-1)}:5`], `${which}: in, once`);
          const out = mixed().send({ dpid: at, port: 5 }, { src: terminal.mac, dst: server });
          t.same(places(out), ['3:3'], `${which}: out, once`);
        }
      },
    );
  }
}

t.test('what was on its way to the link that was primary is delivered there', async (t) => {
  const view = { attachments: both(s1, s2), paths: [inSwitch], led: 1 };
  // It left s1 for s2 when the terminal was reached there, and arrives after the change.
  const late = fabric(view).send({ dpid: s2, port: 1 }, { src: server, dst: terminal.mac, vlan: 2 });
  t.same(places(late), ['2:5']);
  const gone = fabric({ ...view, attachments: [attachedTo(s1)] });
  t.same(
    gone.send({ dpid: s2, port: 1 }, { src: server, dst: terminal.mac, vlan: 2 }).arrived,
    [],
    'control: without that link it is lost',
  );
});

t.test(
  'while it is held, what would enter an instance goes to the controller, and nowhere else',
  async (t) => {
    const controller = (at: Dpid): string => `${at.slice(-1)}:${0xfffffffd}`;
    for (const at of [s1, s2, s3]) {
      const view = { attachments: [attachedTo(at)], paths: [inSwitch, inContainer], led: 'held' } as const;
      t.same(places(fabric(view).send({ dpid: at, port: 5 }, { src: terminal.mac, dst: server })), [
        controller(at),
      ]);
      t.same(places(fabric(view).send(atServer, { src: server, dst: terminal.mac })), [controller(s3)]);
      const called = fabric(view).send(atServer, { src: server, dst: broadcast });
      t.same(called.visited, [], 'no instance sees a broadcast');
      t.equal(places(called).filter((place) => place.endsWith(`${0xfffffffd}`)).length, 1, 'it is held once');
      t.ok(places(called).includes('3:4'), 'and reaches the other hosts');
    }
    const rules = [
      ...steeringRules(
        { topology: open, ports, terminals: [{ ...unseen(terminal, 9), led: 'held' }] },
        s1,
        numbers,
      ).values(),
    ].flat();
    const held = rules.filter(
      ({ table, cookie = 0 }) => table === 'enter' && unpackNotice(cookie)?.kind === 'held',
    );
    t.same(
      held.map(({ cookie = 0, match }) => [
        unpackNotice(cookie)?.terminal,
        unpackNotice(cookie)?.side,
        match.reg0,
      ]),
      [
        [9, 1, 1],
        [9, 2, 2],
      ],
      'it is told whose it is, and from which side it comes',
    );
  },
);

t.test('a topology with a loop is led along a tree', async (t) => {
  const loop = new Topology(
    [s1, s2, s3],
    [
      [
        { dpid: s1, port: 'x' },
        { dpid: s2, port: 'x' },
      ],
      [
        { dpid: s2, port: 'y' },
        { dpid: s3, port: 'y' },
      ],
      [
        { dpid: s3, port: 'z' },
        { dpid: s1, port: 'z' },
      ],
    ],
  );
  t.same([...loop.usedTrunkPorts(s2)], ['x'], 'the link between s2 and s3 closes the loop');
  t.same([...loop.trunkPorts(s2)], ['x', 'y'], 'and is a trunk all the same: no host is believed there');
  t.equal(loop.towards(s2, s3), 'x');
  t.equal(loop.towards(s1, s1), undefined);
});

/** Steering over switches that confirm, are away, or fail; what each was told to have, by group. */
function live(others: readonly { readonly name: string; readonly mac: string }[] = []) {
  const has = new Map<Dpid, Map<string, readonly Rule[]>>([s1, s2, s3].map((at) => [at, new Map()]));
  const away = new Set<Dpid>();
  const failing = new Set<Dpid>();
  /** What was sent ahead of time, as long as it is neither stated nor discarded, by switch. */
  const ahead = new Map<Dpid, number>();
  /** Where what was sent ahead of time was stated. */
  const used: Dpid[] = [];
  const stated: { readonly at: Dpid; readonly groups: readonly string[]; readonly rules: number }[] = [];
  const frames: { readonly at: Dpid; readonly number: number | undefined; readonly data: string }[] = [];
  const clock = new ManualClock();
  const ids = new InstanceNumbers();
  const setGroups = async (at: Dpid, groups: ReadonlyMap<string, readonly Rule[]>): Promise<void> => {
    stated.push({
      ...{ at, groups: [...groups.keys()] },
      rules: [...groups.values()].reduce((sum, rules) => sum + rules.length, 0),
    });
    if (failing.delete(at)) {
      away.add(at);
      throw new Error('the switch is not connected any more');
    }
    for (const [group, rules] of groups) has.get(at)?.set(group, rules);
  };
  const steering = new Steering({
    topology: open,
    terminals: [terminal, ...others],
    host: {
      setGroups,
      stageGroups: async (at, groups) => {
        ahead.set(at, (ahead.get(at) ?? 0) + 1);
        let waits = true;
        const end = (): void => {
          if (waits) ahead.set(at, (ahead.get(at) ?? 0) - 1);
          waits = false;
        };
        return {
          state: () => {
            used.push(at);
            end();
            return setGroups(at, groups);
          },
          discard: end,
        };
      },
      switch: (at) =>
        away.has(at)
          ? undefined
          : {
              packetOut: ({ actions, data }) => {
                const [, reg1] = actions;
                const number = reg1?.type === 'set_field' ? reg1.field.reg1 : undefined;
                frames.push({ at, number: Number(number), data: Buffer.from(data).toString() });
                return true;
              },
            },
    },
    ...{ tables: numbers, numbers: ids, clock, log: silentLog },
  });
  const id = (number: number): InstanceId => ({ terminal: 'alice', epoch: epoch(number) });
  /** Which instance a switch leads frames for the terminal to. */
  const leads = (at: Dpid): number | undefined => {
    const [rule] = [...(has.get(at)?.values() ?? [])]
      .flat()
      .filter((one) => one.table === 'lead' && one.match.eth_dst);
    const actions = rule?.instructions.flatMap((one) => (one.type === 'apply_actions' ? one.actions : []));
    const number = actions?.flatMap((one) => (one.type === 'set_field' ? [one.field.reg1] : [])).find(Number);
    return number === undefined ? undefined : Number(number);
  };
  const start = async (): Promise<void> => {
    for (const at of [s1, s2, s3]) await steering.setPorts(at, ports.get(at) ?? new Map());
    await steering.setAttachments('alice', [attachedTo(s1)]);
    await steering.addPath(id(1), { kind: 'pipeline', dpid: s1, instance: ids.of(id(1), 'steering') });
    await steering.addPath(id(2), { kind: 'pipeline', dpid: s2, instance: ids.of(id(2), 'steering') });
    await steering.setActive(id(1));
  };
  /** How many switches have something that was sent ahead of time. */
  const waits = (): number => [...ahead.values()].reduce((sum, count) => sum + count, 0);
  return { steering, away, failing, stated, used, waits, frames, clock, ids, id, leads, start, has };
}

t.test('what leads to another instance looks at a bit that what led before did not look at', async (t) => {
  const paths = [inSwitch, inContainer];
  const looks = (led: TerminalView['led'], at: Dpid): unknown[] => {
    const view = { ...unseen(terminal, 0), attachments: [attachedTo(s1)], paths, led };
    const rules = [...steeringRules({ topology: open, ports, terminals: [view] }, at, numbers).values()];
    return rules
      .flat()
      .filter(({ table, match }) =>
        table === 'classify' ? match.in_port === 5 : table === 'lead' && match.eth_dst === terminal.mac,
      )
      .flatMap(({ match }) => (match.pkt_mark === undefined ? [] : [match.pkt_mark]));
  };
  for (const [at, count] of [
    [s1, 2],
    [s3, 1],
  ] as const) {
    const all = ([1, 2, 'held'] as const).map((led) => looks(led, at));
    for (const each of all) {
      t.equal(each.length, count, 'where it enters, and what is for it');
      t.equal(new Set(each.map((look) => JSON.stringify(look))).size, 1);
    }
    t.equal(new Set(all.map((each) => JSON.stringify(each))).size, 3);
  }
});

t.test('the switch to another instance states only what it changes, and only once', async (t) => {
  const { steering, stated, id, leads, start } = live();
  await start();
  stated.length = 0;
  await steering.setActive(id(2));
  t.same(
    stated.map(({ at, groups }) => [at, groups.toSorted()]),
    [
      [s1, ['flood', 'terminal alice']],
      [s2, ['flood', 'terminal alice']],
      [s3, ['terminal alice']],
    ],
    'the rules of paths, ports and trunks stay',
  );
  t.same([s1, s2, s3].map(leads), [2, 2, 2]);
  stated.length = 0;
  await steering.setActive(id(2));
  t.same(stated, [], 'again: nothing');
  await steering.setPorts(s2, ports.get(s2) ?? new Map());
  t.ok(stated[0]?.groups.includes('path alice 2'), 'a switch that comes is told everything');
});

t.test('what was staged leads nowhere until the switch, and then as if it had not been', async (t) => {
  const [one, plain] = [live(), live()];
  for (const { start } of [one, plain]) await start();
  one.stated.length = 0;
  await one.steering.stage(one.id(2));
  t.same([s1, s2, s3].map(one.leads), [1, 1, 1]);
  t.same([one.stated, one.waits()], [[], 3]);
  await one.steering.setActive(one.id(2));
  await plain.steering.setActive(plain.id(2));
  t.same([one.used.toSorted(), one.waits()], [[s1, s2, s3], 0]);
  t.same(plain.used, [], 'control: the other way');
  t.same(one.has, plain.has, 'every rule of every switch');
  one.stated.length = 0;
  await one.steering.setActive(one.id(2));
  t.same(one.stated, [], 'it is stated');
  await one.steering.stage(one.id(1));
  await one.steering.takeOver(one.id(1));
  t.equal(one.used.length, 6, 'for a takeover, too');
  t.same([s1, s2, s3].map(one.leads), [1, 1, 1]);
});

for (const [what, happen] of [
  ['the terminal moves', ({ steering }) => steering.setAttachments('alice', [attachedTo(s2)])],
  [
    'the controller listens otherwise',
    ({ steering }) => steering.setListening('alice', { index: 0, dhcp: true, claims: [] }),
  ],
  [
    'another instance comes',
    ({ steering, id, ids }) =>
      steering.addPath(id(3), { kind: 'pipeline', dpid: s3, instance: ids.of(id(3), 'steering') }),
  ],
  ['the old instance goes', ({ steering, id }) => steering.removePath(id(1))],
  ['the traffic is held', ({ steering }) => steering.hold('alice')],
  ['the old instance is led to again', ({ steering, id }) => steering.setActive(id(1))],
  [
    'a change fails',
    async ({ steering, failing, away }) => {
      failing.add(s3);
      await steering.setAttachments('alice', [attachedTo(s2)]).catch(() => {});
      away.delete(s3);
    },
  ],
] as const satisfies readonly (readonly [string, (all: ReturnType<typeof live>) => Promise<unknown>])[])
  t.test(`${what}: what was staged is discarded, and the switch is as without it`, async (t) => {
    const [one, plain] = [live(), live()];
    for (const { start } of [one, plain]) await start();
    await one.steering.stage(one.id(2));
    for (const all of [one, plain]) await happen(all);
    t.equal(one.waits(), 0);
    for (const { steering, id } of [one, plain]) await steering.setActive(id(2));
    t.same(one.used, []);
    t.same([s1, s2, s3].map(one.leads), [2, 2, 2]);
    t.same(one.has, plain.has);
    for (const { steering } of [one, plain]) steering.close();
  });

const bob = { name: 'bob', mac: '02:00:00:00:00:0b' };
const bobs = (number: number): InstanceId => ({ terminal: 'bob', epoch: epoch(number) });
const bobsPath = ({ steering, ids }: ReturnType<typeof live>, number: number, at: Dpid): Promise<void> =>
  steering.addPath(bobs(number), {
    kind: 'pipeline',
    dpid: at,
    instance: ids.of(bobs(number), 'steering'),
  });
const withPort = (at: Dpid): ReadonlyMap<string, number> => new Map([...(ports.get(at) ?? []), ['new', 40]]);

for (const [what, used, happen] of [
  ['another terminal gets an instance in the same switch', true, (all) => bobsPath(all, 1, s2)],
  [
    'an instance of another terminal goes',
    true,
    async (all) => {
      await bobsPath(all, 1, s2);
      await all.steering.removePath(bobs(1));
    },
  ],
  [
    'the controller listens to another terminal',
    true,
    ({ steering }) => steering.setListening('bob', { index: 1, dhcp: true, claims: ['fd00::9'] }),
  ],
  [
    'another terminal attaches where nothing floods to what was staged',
    true,
    ({ steering }) => steering.setAttachments('bob', [attachedTo(s3)]),
  ],
  [
    'another terminal is led in a third switch',
    true,
    async (all) => {
      await bobsPath(all, 1, s3);
      await all.steering.setActive(bobs(1));
    },
  ],
  ['a host comes in a third switch', true, ({ steering }) => steering.setPorts(s3, withPort(s3))],
  [
    'another terminal is led into the same switch: what is flooded there reaches both',
    false,
    async (all) => {
      await bobsPath(all, 1, s2);
      await all.steering.setActive(bobs(1));
    },
  ],
  [
    'another terminal attaches where a host was: what is flooded there goes elsewhere',
    false,
    ({ steering }) => steering.setAttachments('bob', [attachedTo(s2)]),
  ],
  ['a host comes in the same switch', false, ({ steering }) => steering.setPorts(s2, withPort(s2))],
  ['a port goes', false, ({ steering }) => steering.setPorts(s1, new Map([['t1', 1]]))],
  [
    'a change of another terminal fails',
    false,
    async ({ steering, failing, away }) => {
      failing.add(s3);
      await steering.setAttachments('bob', [attachedTo(s3)]).catch(() => {});
      away.delete(s3);
    },
  ],
] as const satisfies readonly (readonly [
  string,
  boolean,
  (all: ReturnType<typeof live>) => Promise<unknown>,
])[])
  t.test(`${what}: what was staged is ${used ? 'still used' : 'not used'}`, async (t) => {
    const [one, plain] = [live([bob]), live([bob])];
    for (const { start } of [one, plain]) await start();
    await one.steering.stage(one.id(2));
    for (const all of [one, plain]) await happen(all);
    t.equal(one.waits(), 3, 'it waits');
    for (const { steering, id } of [one, plain]) await steering.setActive(id(2));
    t.same([one.used.toSorted(), one.waits()], [used ? [s1, s2, s3] : [], 0]);
    t.same(plain.used, []);
    t.same(one.has, plain.has, 'every rule of every switch is as without it');
    for (const { steering } of [one, plain]) steering.close();
  });

t.test('of two terminals each has what was staged of it, also when both are led elsewhere', async (t) => {
  const one = live([bob]);
  const { steering, id, used, waits } = one;
  await one.start();
  await bobsPath(one, 1, s3);
  await steering.stage(id(2));
  await steering.stage(bobs(1));
  const both = waits();
  t.ok(both > 3);
  await steering.setActive(id(2));
  t.same([used.length, waits()], [3, both - 3]);
  await steering.setActive(bobs(1));
  t.same([used.length, waits()], [both, 0]);
  await steering.stage(id(1));
  steering.close();
  t.equal(waits(), 0);
});

t.test('what was staged and is undone leaves nothing; another may be staged after it', async (t) => {
  const { steering, waits, used, id, leads, start } = live();
  await start();
  await steering.stage(id(7));
  t.equal(waits(), 0, 'no path leads there');
  await steering.stage(id(2));
  await steering.stage(id(2));
  t.equal(waits(), 3, 'in place of the first');
  await steering.removePath(id(2));
  t.same([waits(), used], [0, []]);
  t.same([s1, s2, s3].map(leads), [1, 1, 1]);
  const staging = steering.stage(id(1));
  steering.close();
  await staging;
  t.equal(waits(), 0, 'nor does what arrives at a switch too late');
});

t.test('staged while traffic is held, it goes through the next instance in order', async (t) => {
  const { steering, frames, used, id, start } = live();
  await start();
  await steering.hold('alice');
  await steering.stage(id(2));
  for (const text of ['a', 'b']) steering.heldFrame(s3, 0, 2, Buffer.from(text));
  await steering.setActive(id(2));
  t.equal(used.length, 3);
  t.same(
    frames.map(({ number, data }) => [number, data]),
    [
      [2, 'a'],
      [2, 'b'],
    ],
  );
  steering.close();
});

t.test(
  'taking over names the switches that have not confirmed; when they are back they lead to the new instance',
  async (t) => {
    const { steering, away, failing, id, leads, start } = live();
    await start();
    away.add(s1);
    await t.rejects(steering.setActive(id(2)), { code: 'not-connected' });
    t.equal(leads(s2), 1, 'nothing has changed');
    failing.add(s3);
    t.same((await steering.takeOver(id(2))).unconfirmed.toSorted(), [s1, s3], 'away, or gone meanwhile');
    t.same([leads(s2), leads(s3)], [2, 1]);
    away.delete(s3);
    await steering.setPorts(s3, ports.get(s3) ?? new Map());
    t.equal(leads(s3), 2, 'with the first that it is told');
    away.delete(s1);
    t.same((await steering.takeOver(id(2))).unconfirmed, []);
    await steering.setActive(id(2));
    failing.add(s2);
    away.delete(s2);
    const refused = live();
    await refused.start();
    await t.rejects(refused.steering.takeOver(refused.id(7)), { code: 'no-path' });
  },
);

t.test('a change that failed is stated again with the next', async (t) => {
  const { steering, away, failing, id, leads, start } = live();
  await start();
  failing.add(s3);
  await t.rejects(steering.setActive(id(2)));
  away.delete(s3);
  t.equal(leads(s3), 1);
  await steering.setActive(id(2));
  t.equal(leads(s3), 2, 'though the view had it so already');
});

t.test('what was stated of an instance goes with its path, and leaves nothing behind', async (t) => {
  const { steering, has, id, start } = live();
  await start();
  await steering.removePath(id(2));
  for (const at of [s1, s2, s3]) {
    t.same(has.get(at)?.get('path alice 2'), [], 'its group is empty');
    t.notOk(
      [...(has.get(at)?.values() ?? [])].flat().some(({ match }) => match.reg1 === 2),
      'and nothing else speaks of it',
    );
  }
});

t.test(
  'what is held goes through the next instance in order, before and after the switches lead there',
  async (t) => {
    const { steering, frames, id, start } = live();
    await start();
    const frame = (text: string, from = s3): void => steering.heldFrame(from, 0, 2, Buffer.from(text));
    await steering.hold('alice');
    for (const text of ['a', 'b', 'c']) frame(text);
    t.same([frames, steering.holds('alice')], [[], 3]);
    const switched = steering.setActive(id(2));
    // On its way to the controller when the switches were told.
    frame('d');
    await switched;
    frame('e');
    t.same(
      frames.map(({ at, number, data }) => [at, number, data]),
      ['a', 'b', 'c', 'd', 'e'].map((text) => [s3, 2, text]),
    );
    await steering.hold('alice');
    frame('of nobody’s', s1);
    steering.heldFrame(s1, 7, 2, Buffer.from('of no terminal'));
    t.equal(steering.holds('alice'), 1);
    steering.close();
  },
);

t.test('held frames are bounded in number, bytes and time; those that came first stay', async (t) => {
  const held = new HeldFrames({ frames: 3, bytes: 10, ms: 100 });
  const push = (text: string, at: number): void =>
    held.push({ dpid: s1, side: 1, data: Buffer.from(text) }, at);
  const release = (at: number, most = 99): string[] => {
    const out: string[] = [];
    held.release(({ data }) => out.length < most && out.push(Buffer.from(data).toString()) > 0, at);
    return out;
  };
  for (const text of ['1', '2', '3', '4']) push(text, 0);
  t.same([held.size, held.dropped], [3, 1], 'number');
  t.same(release(0, 2), ['1', '2']);
  t.same(release(0), ['3'], 'what was not taken is next');
  push('123456', 0);
  push('12345', 0);
  push('1234', 0);
  t.same(release(0), ['123456', '1234'], 'bytes');
  push('old', 0);
  push('new', 60);
  t.same(release(101), ['new'], 'time');
  t.same([held.size, held.dropped], [0, 3]);
});
