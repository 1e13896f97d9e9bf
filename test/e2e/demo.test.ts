/**
 * The demo, as a user runs it with --json: what must be true of the main job.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import type { MainJobResult } from '../harness/main-job/result.js';

t.setTimeout(240_000);

// It enters a lab of its own.
const demo = fileURLToPath(new URL('../../scripts/demo.js', import.meta.url));
const { stdout, stderr, status } = spawnSync(process.execPath, [demo, '--json'], {
  encoding: 'utf8',
  maxBuffer: 2 ** 24,
});
t.comment(stderr);
t.equal(status, 0, 'the demo finds everything as it should be');
t.equal(stdout.trimEnd().split('\n').length, 1, 'standard output is the result alone');
const result: MainJobResult = JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '');

t.test('every connection lives on, there and back, in both families', async (t) => {
  const { connections } = result;
  t.equal(connections.byKind['tcp, both talk'].opened, 38);
  t.equal(connections.byKind['tcp, only the server talks'].opened, 38);
  t.equal(connections.byKind.udp.opened, 10);
  t.equal(connections.byKind.ping.opened, 2);
  for (const [kind, { opened, survived, reset }] of Object.entries({
    ...connections.byKind,
    ...connections.byFamily,
  })) {
    t.equal(survived, opened, `${kind}: ${survived} of ${opened} survived`);
    t.equal(reset, 0, `${kind}: none was reset`);
  }
  t.ok(
    connections.byFamily.ipv4.opened >= 42 && connections.byFamily.ipv6.opened >= 42,
    'half of each family',
  );
});

t.test('no forbidden packet passes, and each does when the firewall is taken away', async (t) => {
  const { forbidden } = result;
  t.same(forbidden.withoutFirewall.missing, [], 'without the firewall every one arrives');
  t.ok(forbidden.withoutFirewall.tried >= 130, 'the whole list, at both places of the terminal');
  t.equal(forbidden.passed, 0);
  t.same(forbidden.passedNames, [], 'with it none does');
  for (const [stage, { tried }] of Object.entries(forbidden.byStage))
    t.ok(tried >= 60, `${stage}: ${tried} tried`);
  t.equal(Object.keys(forbidden.byStage).length, 5, 'before, during and after, in both domains');
});

t.test('the control: without the state every connection dies, both ways', async (t) => {
  const { control } = result;
  t.equal(control.opened, 100);
  t.equal(control.aliveBefore, 100, 'all lived while they were hauled to the old instance');
  t.equal(control.survived, 0);
  t.same(
    control.byMove.map(({ from, to, survived }) => [from, to, survived]),
    [
      ['sdn-1', 'edge-1', 0],
      ['edge-1', 'sdn-1', 0],
    ],
  );
});

t.test('each handover says what it did', async (t) => {
  t.same(
    result.handovers.map(({ from, to }) => [from, to]),
    [
      ['sdn-1', 'edge-1'],
      ['edge-1', 'sdn-1'],
    ],
  );
  for (const { phases, stateBytes, connections, gapMs, linkDownMs } of result.handovers) {
    t.same(
      phases.map(({ name }) => name),
      ['detect', 'haul', 'prepare', 'switch', 'drain', 'retire'],
    );
    t.ok(connections >= 50, `${connections} connections in ${stateBytes} bytes`);
    t.ok(stateBytes > 0 && gapMs > 0 && linkDownMs > 0);
  }
  const { gapMs, linkDownMs } = result.ordinaryMove;
  t.ok(gapMs > 0 && linkDownMs > 0, 'and what the same move costs without a firewall', { gapMs, linkDownMs });
});
