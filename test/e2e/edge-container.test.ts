/**
 * The container of an edge instance seen from outside: what it may do, what it may use, how big its image is.
 */
import '../lab/enter.js';
import { readFile, stat, writeFile } from 'node:fs/promises';
import t from 'tap';
import { cachedImage, defaultCacheDirectory } from '../../edge-agent/runtime/docker/image-cache.js';
import { policySchema } from '../../shared/firewall/policy.js';
import { EdgeBench } from '../fixtures/edge-bench.js';

t.setTimeout(90_000);

const MAX_IMAGE_BYTES = 30e6;
const MEMORY_BYTES = 32 * 2 ** 20;
const PROCESSES = 16;
const NOBODY = 65_534;

const policy = policySchema.parse({
  name: 'test',
  defaults: { outbound: 'accept', inbound: 'drop' },
  rules: [],
});
const bench = await EdgeBench.start(t, policy);
const { id } = await bench.standby();
const pid = await bench.containerPid();
const status = new Map(
  (await readFile(`/proc/${pid}/status`, 'utf8'))
    .split('\n')
    .map((line): [string, string] => [line.split(':')[0] ?? '', line.split(':')[1]?.trim() ?? '']),
);

await t.test('no capability, and no way to one', async (t) => {
  for (const set of ['CapEff', 'CapPrm', 'CapBnd', 'CapInh', 'CapAmb'])
    t.equal(BigInt(`0x${status.get(set)}`), 0n, `${set}: none`);
  for (const ids of ['Uid', 'Gid'])
    t.same(status.get(ids)?.split(/\s+/).map(Number), [NOBODY, NOBODY, NOBODY, NOBODY], `${ids}: nobody’s`);
  t.equal(status.get('NoNewPrivs'), '1');
  t.equal(status.get('Seccomp'), '2', 'system calls are filtered');
  const own = await readFile('/proc/self/status', 'utf8');
  t.notMatch(own, /NoNewPrivs:\s+1/, 'control: this process is not so');
  t.match(own, /CapEff:\s+0*[1-9a-f]/, 'control: and has capabilities');
});

await t.test('its file system is read-only, but for one small folder', async (t) => {
  const mounts = (await readFile(`/proc/${pid}/mountinfo`, 'utf8'))
    .trim()
    .split('\n')
    .map((line) => {
      const fields = line.split(' ');
      return { at: fields[4] ?? '', options: (fields[5] ?? '').split(',') };
    });
  const root = mounts.find(({ at }) => at === '/');
  t.ok(root?.options.includes('ro'), 'the root is');
  const run = mounts.find(({ at }) => at === '/run');
  for (const option of ['rw', 'nosuid', 'nodev', 'noexec'])
    t.ok(run?.options.includes(option), `/run: ${option}`);
  const writable = mounts.filter(({ options }) => options.includes('rw')).map(({ at }) => at);
  // Where Docker mounts cgroups of version 1 there is an empty folder of its own; in /proc it covers files with /dev/null.
  const known = /^\/(run$|sys\/fs\/cgroup$|(proc|dev)(\/|$))/;
  t.same(
    writable.filter((at) => !known.test(at)),
    [],
    'nothing else is writable but devices and what has no files',
  );
  for (const path of ['/root-file', '/usr/sbin/iptables', '/etc/x', '/tmp/x'])
    await t.rejects(
      writeFile(`/proc/${pid}/root${path}`, 'x'),
      { code: 'EROFS' },
      `${path} cannot be written`,
    );
  for (const program of ['/bin/sh', '/usr/bin/dpkg'])
    await t.rejects(bench.inContainer(program), { code: 'failed' }, `there is no ${program}`);
  await writeFile(`/proc/${pid}/root/run/x`, 'x');
  t.pass('control: /run can');
});

await t.test('memory and processes are limited', async (t) => {
  const limits = await cgroupLimits(pid);
  t.equal(limits.memory, MEMORY_BYTES);
  t.equal(limits.processes, PROCESSES);
});

await t.test('it has no network but its ends', async (t) => {
  const { stdout } = await bench.inContainer('/usr/sbin/ip', ['-json', 'link']);
  const names = [...stdout.matchAll(/"ifname":"([^"]+)"/g)].map(([, name]) => name);
  t.same(
    names.filter((name) => !['lo', 'ter', 'net', 'br0'].includes(name ?? '')),
    [],
  );
  const { stdout: addresses } = await bench.inContainer('/usr/sbin/ip', ['-brief', 'address', 'show', 'up']);
  t.notMatch(addresses, /(ter|net|br0)\S* .*[0-9a-f]+[.:][0-9a-f]/, 'and no address of its own');
});

await t.test('its image is small', async (t) => {
  const image = await cachedImage(defaultCacheDirectory());
  if (!image) throw new Error('no image in the cache');
  const { size: archive } = await stat(image.file);
  const { Size: unpacked } = await bench.docker.getImage(image.tag).inspect();
  t.comment(`archive ${archive} bytes, in Docker ${unpacked} bytes`);
  t.ok(archive < MAX_IMAGE_BYTES && unpacked < MAX_IMAGE_BYTES, `under ${MAX_IMAGE_BYTES} bytes`);
  t.ok(unpacked > MAX_IMAGE_BYTES / 100, 'control: it is an image');
});

await bench.domain.retire(id);

/** The limits that hold for a process, from version 1 or 2 of cgroups. */
async function cgroupLimits(of: number): Promise<{ memory: number; processes: number }> {
  const lines = (await readFile(`/proc/${of}/cgroup`, 'utf8')).trim().split('\n');
  const read = async (controller: string, one: string, two: string): Promise<number> => {
    const line = lines.find((each) => each.split(':')[1]?.split(',').includes(controller));
    const unified = lines.find((each) => each.startsWith('0::'));
    const path = line
      ? `/sys/fs/cgroup/${controller}${line.split(':')[2]}/${one}`
      : `/sys/fs/cgroup${unified?.split(':')[2]}/${two}`;
    return Number((await readFile(path, 'utf8')).trim());
  };
  return {
    memory: await read('memory', 'memory.limit_in_bytes', 'memory.max'),
    processes: await read('pids', 'pids.max', 'pids.max'),
  };
}
