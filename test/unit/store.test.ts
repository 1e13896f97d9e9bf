/**
 * The store: what is kept is what was said, files that are cut short or altered, backups, and what the parts of the controller make of it.
 */
import {
  chown,
  copyFile,
  lstat,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pack } from 'msgpackr';
import t, { type Test } from 'tap';
import type { InstanceRecord } from '../../controller-app/domains/openflow-ct/record.js';
import { keepMirror } from '../../controller-app/handover/keeping.js';
import { Mirror } from '../../controller-app/handover/mirror.js';
import { addressMemory } from '../../controller-app/store/address-memory.js';
import { backUp, readBackup, restore } from '../../controller-app/store/archive.js';
import { decodeEntries } from '../../controller-app/store/entry-codec.js';
import { FileParser } from '../../controller-app/store/file-parser.js';
import { firewallMemory } from '../../controller-app/store/firewall-memory.js';
import { loadFolder } from '../../controller-app/store/folder.js';
import { encodeFrame, takeFrame } from '../../controller-app/store/frames.js';
import { openStore } from '../../controller-app/store/journal-store.js';
import { MemoryStore } from '../../controller-app/store/memory-store.js';
import { PolicyMemory, policyDigest } from '../../controller-app/store/policy-memory.js';
import { type ControllerStore, type StoredTerminal, StoreError } from '../../controller-app/store/store.js';
import { AddressBook } from '../../controller-app/terminals/address-book.js';
import { dpid } from '../../shared/domain/domain.js';
import { connectionKey } from '../../shared/firewall/connection.js';
import { ConnectionsDigest } from '../../shared/firewall/digest.js';
import { epoch } from '../../shared/firewall/state.js';
import { ManualClock } from '../../shared/runtime/clock.js';
import { silentLog } from '../../shared/runtime/log.js';
import { alice, bob, examplePolicy } from '../fixtures/reference-environment.js';
import { BEGINNING, inOrder, StoryState, story, storyConnection } from '../fixtures/store-story.js';
import { waitFor } from '../lab/wait.js';

t.setTimeout(300_000);

async function folder(t: Test): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'paguro-'));
  t.teardown(() => rm(path, { recursive: true }));
  return join(path, 'store');
}

const open = (folder: string, limits = {}): Promise<ControllerStore> =>
  openStore({ folder, log: silentLog, limits });

const RECORD: InstanceRecord = {
  domain: 'sdn-1',
  terminal: alice,
  epoch: epoch(7),
  number: 3,
  role: 'active',
  admits: true,
  leaseMs: 10_000,
  drainMs: 0,
  generation: 1,
  sequence: 12,
  imported: 0,
  policy: examplePolicy,
  earlier: [],
  counted: [],
  offset: [],
  connections: [
    { connection: storyConnection(1), tracking: 'tracked', finished: [] },
    { connection: storyConnection(2), tracking: 'waiting', finished: ['remote'] },
    { connection: storyConnection(3), tracking: 'adopting', finished: ['terminal', 'remote'] },
  ],
};

/** Says a little of everything. */
async function fill(store: ControllerStore): Promise<void> {
  const keeper = store.terminal('alice');
  await keeper.setEpoch(8);
  await keeper.setPlacement('stay');
  await keeper.setPolicy({ policy: examplePolicy, fileDigest: policyDigest(examplePolicy) });
  keeper.setActive({
    domain: 'sdn-1',
    epoch: epoch(7),
    number: 3,
    ends: { kind: 'pipeline', dpid: dpid(1), instance: 3 },
  });
  keeper.setAddresses([
    { address: '10.0.0.7', origin: 'dhcp', until: 1_900_000_000_000 },
    { address: 'fd00::7', origin: 'slaac' },
  ]);
  keeper.setAttachments([{ dpid: dpid(1), port: 2, portName: 's1-eth2' }]);
  keeper.setState(BEGINNING);
  keeper.changes(story(0, 60));
  keeper.changes(story(60, 250));
  await store.instances.put({ terminal: 'alice', epoch: epoch(7) }, RECORD);
  await store.flushed();
}

function whole(store: ControllerStore) {
  const { state, ...kept } = store.terminal('alice').read();
  const instances = store.instanceRecords().map(({ connections, ...head }) => ({
    ...head,
    connections: connections.toSorted((a, b) => a.connection.timeLeftSeconds - b.connection.timeLeftSeconds),
  }));
  return { ...kept, state: state && inOrder(state), instances };
}

const EXPECTED: Omit<StoredTerminal, 'state'> = {
  lastEpoch: 8,
  placement: 'stay',
  policy: { policy: examplePolicy, fileDigest: policyDigest(examplePolicy) },
  active: {
    domain: 'sdn-1',
    epoch: epoch(7),
    number: 3,
    ends: { kind: 'pipeline', dpid: dpid(1), instance: 3 },
  },
  addresses: [
    { address: '10.0.0.7', origin: 'dhcp', until: 1_900_000_000_000 },
    { address: 'fd00::7', origin: 'slaac' },
  ],
  attachments: [{ dpid: dpid(1), port: 2, portName: 's1-eth2' }],
};

t.test('what was said is there after it was opened again', async (t) => {
  const path = await folder(t);
  const store = await open(path);
  t.same(store.terminals(), []);
  t.same(store.terminal('alice').read(), {
    ...{ lastEpoch: 0, placement: 'follow', policy: undefined, active: undefined },
    ...{ addresses: [], attachments: [], state: undefined },
  });
  await fill(store);
  const expected = { ...EXPECTED, state: inOrder(new StoryState().after(250)), instances: [RECORD] };
  t.same(whole(store), expected);
  await store.close();
  await store.close();
  t.match(await store.flushed().catch((error: unknown) => error), { code: 'closed' });
  const again = await open(path);
  t.same(whole(again), expected);
  t.same(again.terminals(), ['alice']);

  again.terminal('alice').setActive(undefined);
  again.terminal('alice').changes(story(200, 260));
  await again.instances.change(
    { terminal: 'alice', epoch: epoch(7) },
    {
      role: 'draining',
      connections: [{ connection: storyConnection(2), tracking: 'tracked', finished: [] }],
    },
  );
  await again.flushed();
  await again.close();
  const third = await open(path);
  t.equal(third.terminal('alice').read().active, undefined);
  t.same(inOrder(third.terminal('alice').read().state ?? BEGINNING), inOrder(new StoryState().after(260)));
  t.match(third.instanceRecords()[0], { role: 'draining', number: 3, connections: { length: 3 } });
  t.same(
    third
      .instanceRecords()[0]
      ?.connections.map(({ tracking }) => tracking)
      .sort(),
    ['adopting', 'tracked', 'tracked'],
  );
  await third.instances.remove({ terminal: 'alice', epoch: epoch(7) });
  await third.instances.change({ terminal: 'alice', epoch: epoch(7) }, { role: 'active' });
  third.forget('alice');
  await third.close();
  const last = await open(path);
  t.same([last.terminals(), last.instanceRecords()], [[], []]);
  await last.close();
});

t.test('a store in memory holds the same', async (t) => {
  const store = new MemoryStore();
  await fill(store);
  t.same(whole(store), { ...EXPECTED, state: inOrder(new StoryState().after(250)), instances: [RECORD] });
});

t.test('changes must follow on one another; what is there already is passed over', async (t) => {
  const store = new MemoryStore();
  const keeper = store.terminal('alice');
  t.throws(() => keeper.changes(story(0, 1)), { code: 'changes-lost' });
  keeper.setState(BEGINNING);
  keeper.changes(story(0, 20));
  keeper.changes(story(10, 20));
  t.equal(keeper.read().state?.sequence, 20);
  t.throws(() => keeper.changes(story(22, 24)), { code: 'changes-lost' });
  t.equal(keeper.read().state?.sequence, 20);
});

t.test('what could not be read again is refused, and the rest is kept', async (t) => {
  const path = await folder(t);
  const store = await open(path);
  const keeper = store.terminal('alice');
  keeper.setActive({
    domain: '',
    epoch: epoch(1),
    number: 3,
    ends: { kind: 'pipeline', dpid: dpid(1), instance: 3 },
  });
  t.match(await store.flushed().catch((error: unknown) => error), {
    code: 'unwritable',
    message: /active of alice/,
  });
  await keeper.setEpoch(5);
  await store.close();
  const again = await open(path);
  t.match(again.terminal('alice').read(), { lastEpoch: 5, active: undefined });
  await again.close();
});

t.test('it does not grow with the number of changes, and is right while it is written anew', async (t) => {
  const rounds = 400;
  const write = async (path: string, journalBytes: number): Promise<number> => {
    const store = await open(path, { journalBytes, gatherMs: 1 });
    const keeper = store.terminal('alice');
    keeper.setState(BEGINNING);
    for (let round = 0; round < rounds; round++) {
      keeper.changes(story(round * 50, (round + 1) * 50));
      await store.flushed();
    }
    // The last that was begun may still be under way.
    const small = (): boolean => store.health().bytes < 4 * 8_192;
    if (journalBytes === 8_192) await waitFor('the store is small again', small);
    const { bytes } = store.health();
    await store.close();
    return bytes;
  };
  const path = await folder(t);
  const bytes = await write(path, 8_192);
  const control = await write(await folder(t), 2 ** 30);
  t.ok(control > 4 * bytes, `${bytes} bytes; without writing anew ${control}`);
  t.ok(
    (await readdir(path)).some((name) => /^snapshot-/.test(name)),
    'it was written anew',
  );
  const again = await open(path);
  t.same(
    inOrder(again.terminal('alice').read().state ?? BEGINNING),
    inOrder(new StoryState().after(rounds * 50)),
  );
  await again.close();
});

/** The only journal of a filled store, and what else there is. */
async function filledJournal(
  t: Test,
): Promise<{ readonly path: string; readonly file: string; readonly ends: readonly number[] }> {
  const path = await folder(t);
  const store = await open(path);
  const keeper = store.terminal('alice');
  const file = join(path, 'journal-00000001');
  const ends: number[] = [(await stat(file)).size];
  for (let value = 1; value <= 6; value++) {
    await keeper.setEpoch(value);
    ends.push((await stat(file)).size);
  }
  await store.close();
  return { path, file, ends };
}

t.test('a journal that ends anywhere is read as far as it is whole, and goes on from there', async (t) => {
  const { path, file, ends } = await filledJournal(t);
  const bytes = await readFile(file);
  for (let length = 0; length <= bytes.length; length++) {
    await writeFile(file, bytes.subarray(0, length));
    const wholeFrames = ends.filter((end) => end <= length).length;
    const { contents } = await loadFolder(path);
    const found = contents.terminal('alice').lastEpoch;
    if (found !== Math.max(0, wholeFrames - 1)) t.fail(`epoch ${found} of the first ${length} bytes`);
    // Each takes a process for the lock.
    if (length % 29 > 0) continue;
    const store = await open(path);
    await store.terminal('alice').setEpoch(100);
    await store.close();
    const again = await open(path);
    if (again.terminal('alice').read().lastEpoch !== 100) t.fail(`not gone on after ${length} bytes`);
    await again.close();
  }
  t.pass(`${bytes.length} lengths`);
  // Left by a loss of power: the size was written, the data were not.
  await writeFile(file, Buffer.concat([bytes, Buffer.alloc(5_000)]));
  const store = await open(path);
  t.equal(store.terminal('alice').read().lastEpoch, 6);
  await store.close();
});

function flipped(bytes: Uint8Array, bit: number): Buffer {
  const altered = Buffer.from(bytes);
  altered[bit >> 3] = (altered[bit >> 3] ?? 0) ^ (1 << (bit & 7));
  return altered;
}

t.test('a journal with any bit altered is refused, with what to do', async (t) => {
  const { path, file } = await filledJournal(t);
  const bytes = await readFile(file);
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const parser = new FileParser(() => () => {});
    try {
      parser.push(flipped(bytes, bit), true);
      t.fail(`bit ${bit} does not matter`);
    } catch (error) {
      if (!(error instanceof StoreError) || error.code !== 'damaged') throw error;
    }
  }
  t.pass(`${bytes.length * 8} bits`);
  for (const bit of [0, 1_000, bytes.length * 8 - 1]) {
    await writeFile(file, flipped(bytes, bit));
    t.match(await open(path).catch((error: unknown) => error), {
      code: 'damaged',
      message: /journal-00000001 cannot be used: .*"paguro store restore"/,
    });
  }
  await writeFile(file, bytes);
  await (await open(path)).close();
});

t.test('an entry of a kind that nobody knows is refused, and so is one with more than its kind has', (t) => {
  const known = { kind: 'epoch', terminal: 'alice', lastEpoch: 8 };
  t.same(decodeEntries(pack([known])), [known], 'the control: a known one is read');
  for (const entry of [
    { ...known, kind: 'standbys' },
    { ...known, standbys: [] },
  ])
    t.throws(() => decodeEntries(pack([known, entry])), {
      code: 'damaged',
      message: /an entry is not valid: 1/,
    });
  t.end();
});

t.test('snapshots must be whole, and files must be what their names say', async (t) => {
  const path = await folder(t);
  const store = await open(path, { journalBytes: 100 });
  await fill(store);
  for (let value = 10; !(await readdir(path)).some((name) => name.startsWith('snapshot-')); value++)
    await store.terminal('alice').setEpoch(value);
  await store.close();
  const names = await readdir(path);
  const snapshot = join(path, names.find((name) => name.startsWith('snapshot-')) ?? '');
  const journal = snapshot.replace('snapshot-', 'journal-');
  const refusal = () =>
    open(path).then(
      async (opened) => {
        await opened.close();
        return 'opened';
      },
      (error: unknown) => (error instanceof StoreError ? error.code : error),
    );
  const bytes = await readFile(snapshot);
  for (const length of [0, 10, bytes.length >> 1, bytes.length - 1]) {
    await truncate(snapshot, length);
    t.equal(await refusal(), 'damaged', `${length} bytes of a snapshot`);
    await writeFile(snapshot, bytes);
  }
  await writeFile(snapshot, Buffer.concat([bytes, bytes]));
  t.equal(await refusal(), 'damaged', 'more than a snapshot');
  await writeFile(snapshot, bytes);
  const other = snapshot.replace(/\d+$/, '99999999');
  await copyFile(snapshot, other);
  t.equal(await refusal(), 'damaged', 'a file with another name');
  await rm(other);
  await copyFile(journal, `${journal}.kept`);
  await rm(journal);
  t.equal(await refusal(), 'damaged', 'no journal');
  await copyFile(`${journal}.kept`, journal);
  t.equal(await refusal(), 'opened');

  const version = Buffer.from(
    JSON.stringify({ format: 'paguro-store', version: 2, kind: 'journal', number: 1 }),
  );
  const newer = await folder(t);
  await (await open(newer)).close();
  await writeFile(join(newer, 'journal-00000001'), encodeFrame(0, version));
  t.match(await open(newer).catch((error: unknown) => error), {
    code: 'version',
    message: /version 2 .*reads version 1/,
  });
});

t.test('frames are taken apart byte by byte as at once', async (t) => {
  const payloads = [Buffer.alloc(0), Buffer.from('a'), Buffer.alloc(3_000, 7)];
  const bytes = Buffer.concat(payloads.map((payload, number) => encodeFrame(number, payload)));
  let rest = Buffer.alloc(0);
  const taken: Uint8Array[] = [];
  for (const byte of bytes) {
    rest = Buffer.concat([rest, Buffer.from([byte])]);
    const frame = takeFrame(rest, 0, taken.length, false);
    if (frame.kind !== 'frame') {
      if (frame.kind !== 'more') t.fail(frame.kind);
      continue;
    }
    taken.push(Buffer.from(frame.payload));
    rest = rest.subarray(frame.next);
  }
  t.same(
    taken.map((each) => Buffer.from(each)),
    payloads,
  );
  t.equal(rest.length, 0);
});

t.test(
  'a backup made under load is one of the states that there were, and is put back as it was',
  async (t) => {
    const path = await folder(t);
    const store = await open(path, { journalBytes: 4_096, gatherMs: 1 });
    const keeper = store.terminal('alice');
    keeper.setState(BEGINNING);
    await store.flushed();
    let sequence = 0;
    let writing = true;
    const load = (async () => {
      while (writing) {
        keeper.changes(story(sequence, sequence + 40));
        sequence += 40;
        await store.flushed();
      }
    })();
    const truth = new StoryState();
    for (let number = 0; number < 12; number++) {
      const least = sequence - 40;
      const file = `${path}-backup-${number}`;
      await backUp(path, file);
      const state = (await readBackup(file)).terminal('alice').state;
      if (!state) throw new Error('nothing in the backup');
      t.ok(state.sequence >= least, 'what was acknowledged before it was begun is in it');
      t.same(inOrder(state), inOrder(truth.after(state.sequence)));
    }
    t.match(await restore(path, `${path}-backup-3`, new Date()).catch((error: unknown) => error), {
      code: 'in-use',
      message: new RegExp(`process ${process.pid}`),
    });
    writing = false;
    await load;
    await store.close();

    const before = await restore(path, `${path}-backup-3`, new Date());
    const expected = (await readBackup(`${path}-backup-3`)).terminal('alice').state;
    const again = await open(path);
    t.same(inOrder(again.terminal('alice').read().state ?? BEGINNING), inOrder(expected ?? BEGINNING));
    await again.terminal('alice').setEpoch(9);
    await again.close();

    t.type(before, 'string');
    await restore(path, before ?? '', new Date());
    const back = await open(path);
    t.equal(back.terminal('alice').read().state?.sequence, sequence, 'and back');
    await back.close();

    const damaged = await readFile(`${path}-backup-5`);
    await writeFile(`${path}-backup-5`, damaged.subarray(0, damaged.length - 1));
    t.match(await restore(path, `${path}-backup-5`, new Date()).catch((error: unknown) => error), {
      code: 'damaged',
    });
    const untouched = await open(path);
    t.equal(untouched.terminal('alice').read().state?.sequence, sequence, 'a damaged backup changes nothing');
    await untouched.close();
  },
);

t.test('a damaged store can be replaced, and its files are kept', async (t) => {
  const { path, file } = await filledJournal(t);
  const backup = `${path}-backup`;
  await backUp(path, backup);
  const bytes = await readFile(file);
  bytes[40] = (bytes[40] ?? 0) ^ 1;
  await writeFile(file, bytes);
  t.match(await open(path).catch((error: unknown) => error), { code: 'damaged' });
  const before = await restore(path, backup, new Date());
  t.same(await readdir(before ?? ''), ['journal-00000001']);
  const again = await open(path);
  t.equal(again.terminal('alice').read().lastEpoch, 6);
  await again.close();
});

t.test('what is put back twice in a second puts both aside', async (t) => {
  const { path } = await filledJournal(t);
  const backup = `${path}-backup`;
  await backUp(path, backup);
  const store = await open(path);
  await store.terminal('alice').setEpoch(99);
  await store.close();
  const now = new Date();
  const [first, second] = [await restore(path, backup, now), await restore(path, backup, now)];
  const epochs = [first, second].map(
    async (file) => (await readBackup(file ?? '')).terminal('alice').lastEpoch,
  );
  t.same(await Promise.all(epochs), [99, 6]);
});

t.test('what is put back belongs to the user whom the store belongs to', async (t) => {
  const { path } = await filledJournal(t);
  const backup = `${path}-backup`;
  await backUp(path, backup);
  const nobody = process.getuid?.() === 0 ? 65_534 : (process.getuid?.() ?? 0);
  await chown(path, nobody, nobody);
  // A user's own link to somebody else's file.
  await symlink(backup, join(path, 'snapshot-99999999'));
  const before = await restore(path, backup, new Date());
  const owned = [path, before ?? '', ...(await readdir(path)).map((name) => join(path, name))];
  t.ok(owned.length >= 5);
  for (const each of owned) t.equal((await lstat(each)).uid, nobody, each);
  t.equal((await stat(backup)).uid, process.getuid?.(), 'control: and nothing else does');
});

t.test('one controller at a time', async (t) => {
  const path = await folder(t);
  const store = await open(path);
  t.match(await open(path).catch((error: unknown) => error), {
    code: 'in-use',
    message: new RegExp(`in use by process ${process.pid}: stop that first`),
  });
  await store.close();
  await (await open(path)).close();
});

t.test('a folder that cannot be one says what it must be', async (t) => {
  const path = await folder(t);
  await writeFile(path, '');
  t.match(await open(path).catch((error: unknown) => error), {
    code: 'unwritable',
    message: /must be a folder/,
  });
});

t.test('a policy set while running holds after a restart, unless its file has changed', async (t) => {
  const path = await folder(t);
  const other = { ...examplePolicy, name: 'other' };
  const third = { ...examplePolicy, name: 'third' };
  const terminals = [
    { terminal: alice, policy: examplePolicy },
    { terminal: bob, policy: examplePolicy },
  ];
  const store = await open(path);
  const policies = new PolicyMemory(store, terminals);
  const inForce = (memory: PolicyMemory, configured = terminals) =>
    memory.inForce(configured, silentLog).map(({ policy }) => policy.name);
  t.same(inForce(policies), ['example', 'example']);
  let seen: string | undefined;
  await policies.set('alice', other, async () => {
    seen = store.terminal('alice').read().policy?.policy.name;
  });
  t.equal(seen, 'other', 'it is kept before it is in force');
  await t.rejects(
    policies.set('alice', third, () => Promise.reject(new Error('no answer'))),
    /no answer/,
  );
  await store.close();
  const again = await open(path);
  t.same(inForce(new PolicyMemory(again, terminals)), ['other', 'example']);
  const changed = terminals.map((each) => ({ ...each, policy: third }));
  t.same(inForce(new PolicyMemory(again, changed), changed), ['third', 'third']);
  await again.flushed();
  t.same(
    inForce(new PolicyMemory(again, terminals)),
    ['example', 'example'],
    'what did not hold is forgotten',
  );
  await again.close();
});

t.test('learnt addresses are there again, leases for the time that is left', async (t) => {
  const store = new MemoryStore();
  const before = new ManualClock(1_000_000);
  const learn = { ipv4: ['10.0.0.0/24'], ipv6: ['fd00::/64'] };
  addressMemory(store, before).save('alice', [
    { address: '10.0.0.1', origin: 'fixed' },
    { address: '10.0.0.7', origin: 'dhcp', until: 60_000 },
    { address: '10.0.0.8', origin: 'dhcp', until: 5_000 },
    { address: 'fd00::7', origin: 'slaac' },
    { address: '192.0.2.1', origin: 'slaac' },
  ]);
  // A later process: its monotonic time begins anew, its date goes on.
  const after = new ManualClock(1_010_000);
  const book = new AddressBook([{ terminal: alice, learn }]);
  book.restore('alice', addressMemory(store, after).load('alice'), after.monotonic());
  t.same(
    book.held('alice').filter(({ origin }) => origin !== 'fixed'),
    [
      { address: '10.0.0.7', origin: 'dhcp', until: 50_000 },
      { address: 'fd00::7', origin: 'slaac' },
    ],
    'neither what is over nor what may not be learnt any more',
  );
  t.ok(book.present('alice').ipv4.includes('10.0.0.7'));
});

t.test('a mirror is kept with all its changes, until it is closed', async (t) => {
  const store = new MemoryStore();
  const keeper = store.terminal('alice');
  const mirror = new Mirror(BEGINNING, () => 0);
  mirror.absorb({ kind: 'connection', connection: storyConnection(1) });
  const ending = new AbortController();
  const kept = keepMirror(
    mirror,
    firewallMemory(store, 'alice', () => 1),
    () => epoch(3),
    ending.signal,
  );
  const digest = (): string => new ConnectionsDigest(keeper.read().state?.connections).value;
  t.equal(keeper.read().state?.connections.length, 1);
  for (const { change } of story(0, 500)) mirror.absorb(change);
  await waitFor('the changes are kept', () => keeper.read().state?.sequence === mirror.sequence);
  t.equal(digest(), mirror.digest);
  // More in one turn than the log remembers: what it says can only be kept anew, as a whole.
  for (let round = 0; round < 35_000; round++) {
    mirror.absorb({ kind: 'connection', connection: storyConnection(7) });
    mirror.absorb({ kind: 'ended', key: connectionKey(storyConnection(7)) });
  }
  ending.abort();
  await kept;
  t.equal(keeper.read().state?.sequence, mirror.sequence);
  t.same(inOrder(keeper.read().state ?? BEGINNING), inOrder(mirror.snapshot(epoch(3))));
  mirror.absorb({ kind: 'connection', connection: storyConnection(8) });
  t.not(digest(), mirror.digest, 'not after it was closed');
});
