/**
 * What a soak is made of: choices that come again with the same seed, and when a program is said to grow.
 */
import t from 'tap';
import { Random } from '../fuzz/random.js';
import { PLACES } from '../harness/places.js';
import { type Action, describe, nextAction } from '../harness/soak/plan.js';
import { growth, MIN_SAMPLES, type Sample, sampleOf, trendOf } from '../harness/soak/usage.js';

function actions(seed: number, kills: boolean, howMany = 2_000): readonly Action[] {
  const random = new Random(seed);
  return Array.from({ length: howMany }, (_, index) =>
    nextAction(random, PLACES[index % PLACES.length] ?? 'sdn-1', kills),
  );
}

t.test('the same seed chooses the same, another one something else', async (t) => {
  t.same(actions(1, true), actions(1, true));
  t.notSame(actions(1, true), actions(2, true));
});

t.test('everything is chosen some time; programs are killed only when they may be', async (t) => {
  const kinds = new Set(actions(1, false).map(({ kind }) => kind));
  t.same([...kinds].sort(), ['close', 'fault', 'handover', 'move', 'open', 'policy']);
  const texts = (kills: boolean) => actions(1, kills).map(describe).join('\n');
  t.match(texts(true), /agent killed/);
  t.match(texts(true), /controller killed/);
  t.notMatch(texts(false), / killed(?<!container killed)/);
  t.match(texts(false), /container killed/);
});

t.test('a handover never goes to where the firewall is', async (t) => {
  actions(3, true).forEach((action, index) => {
    if (action.kind === 'handover' && action.to === PLACES[index % PLACES.length]) t.fail(describe(action));
  });
});

t.test('a program that holds more and more is found; one that goes up and down is not', async (t) => {
  const MIB = 2 ** 20;
  const samples = (memory: (index: number) => number, files: (index: number) => number): Sample[] =>
    Array.from({ length: 30 }, (_, index) => ({
      ...{ residentBytes: memory(index) * MIB, descriptors: files(index) },
    }));
  const grown = (of: readonly Sample[]): readonly string[] => {
    const trend = trendOf(of);
    if (!trend) throw new Error('too few');
    return growth(trend);
  };
  t.same(
    grown(
      samples(
        (index) => 90 + (index % 7) * 5,
        (index) => 20 + (index % 3),
      ),
    ),
    [],
  );
  t.match(
    grown(
      samples(
        (index) => 80 + 4 * index,
        () => 20,
      ),
    ),
    [/memory grew/],
  );
  t.match(
    grown(
      samples(
        () => 80,
        (index) => 20 + index,
      ),
    ),
    [/file descriptors grew/],
  );
  t.equal(
    trendOf(
      samples(
        () => 1,
        () => 1,
      ).slice(0, MIN_SAMPLES - 1),
    ),
    undefined,
  );
});

t.test('a living process has memory and descriptors, one that is gone has not', async (t) => {
  const own = await sampleOf(process.pid);
  t.ok(own && own.residentBytes > 2 ** 20 && own.descriptors > 2);
  t.equal(await sampleOf(2 ** 30), undefined);
});
