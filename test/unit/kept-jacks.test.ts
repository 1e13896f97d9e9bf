/**
 * Jacks that are kept for instances to come.
 */
import t from 'tap';
import { type Keepable, KeptJacks } from '../../edge-agent/wiring/veth/kept-jacks.js';

const LIMITS = { most: 2, restMs: 100 };

class Pair implements Keepable {
  isGood = true;
  removed = 0;
  async isOfUse(): Promise<boolean> {
    return this.isGood;
  }
  async remove(): Promise<void> {
    this.removed++;
  }
}

t.test('each rests before it serves again, the oldest first', async (t) => {
  let now = 1000;
  const kept = new KeptJacks<Pair>(() => now, LIMITS);
  const [first, second] = [new Pair(), new Pair()];
  t.equal(await kept.take(), undefined, 'there is none');
  t.ok(kept.keep(first));
  now += 50;
  t.ok(kept.keep(second));
  t.equal(await kept.take(), undefined, 'not rested yet');
  now += 50;
  t.equal(await kept.take(), first);
  t.equal(await kept.take(), undefined);
  now += 50;
  t.equal(await kept.take(), second);
  t.equal(kept.size, 0);
  t.equal(first.removed + second.removed, 0);
});

t.test('no more than so many are kept', async (t) => {
  const kept = new KeptJacks<Pair>(() => 0, LIMITS);
  t.same([kept.keep(new Pair()), kept.keep(new Pair()), kept.keep(new Pair())], [true, true, false]);
});

t.test('those that are of no use are removed, and the next one serves', async (t) => {
  let now = 0;
  const kept = new KeptJacks<Pair>(() => now, LIMITS);
  const [bad, good] = [new Pair(), new Pair()];
  kept.keep(bad);
  kept.keep(good);
  bad.isGood = false;
  now += LIMITS.restMs;
  t.equal(await kept.take(), good);
  t.equal(bad.removed, 1);
});

t.test('closed, it removes all and keeps none', async (t) => {
  const kept = new KeptJacks<Pair>(() => 0, LIMITS);
  const pair = new Pair();
  kept.keep(pair);
  await kept.close();
  await kept.close();
  t.equal(pair.removed, 1);
  t.notOk(kept.keep(new Pair()));
  t.equal(await kept.take(), undefined);
});
