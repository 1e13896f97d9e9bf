/**
 * The conformance suite itself: the reference domain passes it, in process and behind the channel; domains with a fault do not.
 */
import t from 'tap';
import { domainConformance, failedBehaviours } from '../../shared/domain/conformance.js';
import { brokenDomains } from '../fixtures/broken-domains.js';
import { inProcess, throughChannel } from '../fixtures/reference-environment.js';

/** A broken domain may let the suite wait for what never comes. */
const CONTROL_DEADLINE_MS = 300;

t.setTimeout(120_000);

await domainConformance(t, { name: 'the reference domain', create: () => inProcess() });
await domainConformance(t, {
  name: 'the reference domain behind the channel',
  create: () => throughChannel(),
});

await t.test('the suite needs no wire', async (t) => {
  const create = async () => {
    const { wire: _, ...rest } = await inProcess();
    return rest;
  };
  t.same(await failedBehaviours({ name: 'reference', create }), []);
});

await t.test('control: the suite fails for a domain that', async (t) => {
  for (const { fault, create, breaks } of brokenDomains) {
    const failed = await failedBehaviours({
      name: fault,
      create: () => inProcess(create()),
      deadlineMs: CONTROL_DEADLINE_MS,
    });
    t.ok(failed.includes(breaks), fault, { found: { failed, breaks } });
  }
});
