/**
 * The store and what happens to its process and its disk: SIGKILL at any moment, a second controller, a disk without room. With real processes, a real lock
 * and a real file system.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isDeepStrictEqual } from 'node:util';
import t, { type Test } from 'tap';
import { readStore } from '../../controller-app/store/archive.js';
import { Contents } from '../../controller-app/store/contents.js';
import { StoreError } from '../../controller-app/store/store.js';
import { inOrder, StoryState } from '../fixtures/store-story.js';

t.setTimeout(600_000);

const CHILD = fileURLToPath(new URL('../fixtures/store-child.js', import.meta.url));
const FULL_DISK = fileURLToPath(new URL('../fixtures/store-full-disk.js', import.meta.url));
/** In all, in so many stores side by side. */
const KILLS = 200;
const STORES = 4;
/** The child has this long after it has opened the store, in ms: some are killed while they begin, some later. */
const LONGEST_LIFE_MS = 60;

async function folder(t: Test): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'paguro-'));
  t.teardown(() => rm(path, { recursive: true }));
  return join(path, 'store');
}

interface Acknowledged {
  readonly epoch: number;
  readonly sequence: number;
}

/** One life of the child. Returns what it said was acknowledged last. */
async function life(folder: string, manner: 'safe' | 'hasty', lifeMs: number): Promise<Acknowledged> {
  const child = spawn(process.execPath, [CHILD, folder, manner], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.setEncoding('utf8');
  const closed = once(child, 'close');
  // A third is killed at any moment of its start.
  if (lifeMs % 3 === 0) setTimeout(() => child.kill('SIGKILL'), lifeMs * 5);
  child.stdout.on('data', (chunk: string) => {
    if (text === '') setTimeout(() => child.kill('SIGKILL'), lifeMs);
    text += chunk;
  });
  const [code, signal] = await closed;
  if (signal !== 'SIGKILL') throw new Error(`the child ended by itself: ${code} ${signal}`);
  // The last line may have been cut.
  const lines = text.slice(0, text.lastIndexOf('\n') + 1);
  const last = (word: string): number =>
    Number([...lines.matchAll(new RegExp(`^${word} (\\d+)$`, 'gm'))].at(-1)?.[1] ?? 0);
  return { epoch: last('epoch'), sequence: last('sequence') };
}

/** Nothing yet when it was killed before it had a store. */
async function keptIn(folder: string) {
  const { contents } = await readStore(folder).catch((error: unknown) => {
    if (error instanceof StoreError && error.code === 'unwritable') return { contents: new Contents() };
    throw error;
  });
  return contents.terminal('alice');
}

t.test(`nothing that was acknowledged is lost by ${KILLS} SIGKILLs, and nothing is half there`, async (t) => {
  const lives = Array.from({ length: STORES }, async (_, number) => {
    const path = await folder(t);
    const truth = new StoryState();
    const acknowledged = { epoch: 0, sequence: 0 };
    const problems: string[] = [];
    for (let kill = 0; kill < KILLS / STORES; kill++) {
      const said = await life(path, 'safe', (kill * 7 + number * 3) % LONGEST_LIFE_MS);
      acknowledged.epoch = Math.max(acknowledged.epoch, said.epoch);
      acknowledged.sequence = Math.max(acknowledged.sequence, said.sequence);
      const { lastEpoch, state } = await keptIn(path);
      if (lastEpoch < acknowledged.epoch || lastEpoch > acknowledged.epoch + 1)
        problems.push(`epoch ${lastEpoch} after ${acknowledged.epoch} had been acknowledged`);
      const sequence = state?.sequence ?? 0;
      if (sequence < acknowledged.sequence)
        problems.push(`${sequence} changes after ${acknowledged.sequence} had been acknowledged`);
      if (state && !isDeepStrictEqual(inOrder(state), inOrder(truth.after(sequence))))
        problems.push(`the state with ${sequence} changes is not what it should be`);
      // What is there was not always acknowledged in time, but from now on it must not go.
      acknowledged.epoch = lastEpoch;
      acknowledged.sequence = sequence;
    }
    return { problems, acknowledged };
  });
  for (const { problems, acknowledged } of await Promise.all(lives)) {
    t.same(problems, []);
    t.ok(acknowledged.epoch > 0 && acknowledged.sequence > 0, 'something was acknowledged at all');
  }
});

t.test('control: one that says so before it is safe is caught', async (t) => {
  const path = await folder(t);
  let lost = false;
  for (let kill = 0; kill < KILLS && !lost; kill++) {
    const said = await life(path, 'hasty', 10 + (kill % LONGEST_LIFE_MS));
    const { lastEpoch, state } = await keptIn(path);
    lost = lastEpoch < said.epoch || (state?.sequence ?? 0) < said.sequence;
  }
  t.ok(lost);
});

t.test('without room orders are refused and facts remembered, until there is room again', async (t) => {
  const path = await folder(t);
  await mkdir(path);
  // A file system of its own, so small that it is soon full; it goes with the process that it was mounted for.
  const child = spawn(
    'unshare',
    [
      ...['--mount', '--kill-child', 'sh', '-c'],
      'mount -t tmpfs -o size=256k none "$1" && exec "$2" "$3" "$1/store"',
      ...['sh', path, process.execPath, FULL_DISK],
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  t.same(await once(child, 'close'), [0, null]);
  t.match(JSON.parse(text), {
    before: { lastEpoch: 1 },
    refused: { code: 'full', message: /make room on its disk/ },
    policyRefused: { code: 'full' },
    meanwhile: { problem: /make room/, lastEpoch: 1 },
    after: { lastEpoch: 3 },
    reopened: { lastEpoch: 3, active: { domain: 'edge-1', epoch: 9 }, sameState: true, policy: null },
  });
});
