/**
 * Labs from outside: several side by side, exit codes and signals passed on, and nothing left behind, whichever of the processes that
 * hold a lab is ended and how. This file does not run in a lab: it starts them.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { createInterface, type Interface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { z } from 'zod';
import { insideLab, liveLabs, runInLab, sweepDeadLabs, waitFor } from '../lab/index.js';

t.setTimeout(180_000);
const EVERYTHING = fileURLToPath(new URL('../lab/everything.js', import.meta.url));
const UP_MS = 30_000;

const upSchema = z.object({
  id: z.string(),
  folder: z.string(),
  apiSocket: z.string(),
  cgroup: z.string(),
  pidNamespace: z.string(),
});

interface Running {
  readonly launcher: ChildProcess;
  readonly lab: z.infer<typeof upSchema>;
  readonly lines: AsyncIterator<string>;
  readonly output: Interface;
  readonly ended: Promise<number | NodeJS.Signals>;
}

/** Starts a lab with Open vSwitch, Docker and Mininet, and waits until it is up. */
async function start(): Promise<Running> {
  const launcher = spawn(process.execPath, [EVERYTHING], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise<number | NodeJS.Signals>((resolve) => {
    launcher.once('exit', (code, signal) => resolve(signal ?? code ?? 0));
  });
  const output = createInterface({ input: launcher.stdout });
  const lines = output[Symbol.asyncIterator]();
  const first = await next(lines);
  return { launcher, lab: upSchema.parse(first), lines, output, ended };
}

async function next(lines: AsyncIterator<string>): Promise<unknown> {
  const timer = new Promise<never>((_, reject) => {
    setTimeout(() => reject(new Error(`the lab said nothing for ${UP_MS} ms`)), UP_MS).unref();
  });
  const { value, done } = await Promise.race([lines.next(), timer]);
  if (done) throw new Error('the lab ended before it was up');
  return JSON.parse(value);
}

/** Process ids, here, of all processes in a pid namespace. */
function processesIn(pidNamespace: string): readonly number[] {
  return namespaceOfEach('pid')
    .filter(([, name]) => name === pidNamespace)
    .map(([pid]) => pid);
}

function namespaceOfEach(kind: 'pid' | 'net' | 'mnt'): readonly (readonly [number, string])[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        return [[Number(name), readlinkSync(`/proc/${name}/ns/${kind}`)] as const];
      } catch {
        return [];
      }
    });
}

interface Namespaces {
  readonly names: ReadonlySet<string>;
  release(): void;
}

/**
 * Process, network and mount namespaces of these processes: those of the lab, of its hosts and its containers. They are held open until they are
 * released: the kernel gives the number of one that is gone to the next that anybody makes.
 */
function holdNamespacesOf(pids: readonly number[]): Namespaces {
  const held = new Map<string, number>();
  for (const kind of ['pid', 'net', 'mnt'] as const) {
    for (const [pid, name] of namespaceOfEach(kind)) {
      if (!pids.includes(pid) || held.has(name)) continue;
      const descriptor = openSync(`/proc/${pid}/ns/${kind}`, 'r');
      if (readlinkSync(`/proc/self/fd/${descriptor}`) === name) held.set(name, descriptor);
      else closeSync(descriptor);
    }
  }
  return {
    names: new Set(held.keys()),
    release: () => {
      for (const descriptor of held.values()) closeSync(descriptor);
      held.clear();
    },
  };
}

function machine(): { mounts: string; interfaces: readonly string[] } {
  const mounts = readFileSync('/proc/self/mounts', 'utf8');
  return { mounts, interfaces: Object.keys(networkInterfaces()).sort() };
}

function cgroupsNamed(name: string): readonly string[] {
  const root = '/sys/fs/cgroup';
  return [root, ...readdirSync(root).map((entry) => `${root}/${entry}`)]
    .map((parent) => `${parent}/${name}`)
    .filter((path) => existsSync(path));
}

/** The processes, here, that are in any of these namespaces. */
function usersOf({ names }: Namespaces): readonly number[] {
  return (['pid', 'net', 'mnt'] as const)
    .flatMap(namespaceOfEach)
    .filter(([, name]) => names.has(name))
    .map(([pid]) => pid);
}

/** Waits until nothing of a lab is left. Then its namespaces are released. */
async function allGone({ lab }: Running, namespaces: Namespaces): Promise<void> {
  await waitFor(
    'processes, folder and cgroups of the lab are gone',
    () =>
      usersOf(namespaces).length === 0 && !existsSync(lab.folder) && cgroupsNamed(lab.cgroup).length === 0,
    { timeoutMs: 20_000 },
  );
  namespaces.release();
}

t.test('a lab ends with its launcher, whatever ends that, and leaves nothing', async (t) => {
  t.notOk(insideLab());
  const before = machine();
  for (const signal of ['SIGKILL', 'SIGINT', 'SIGTERM'] as const) {
    const running = await start();
    const pids = processesIn(running.lab.pidNamespace);
    t.ok(
      pids.length >= 10,
      `${pids.length} processes: tini, Node, Open vSwitch, Docker, Mininet and its nodes`,
    );
    const namespaces = holdNamespacesOf(pids);
    t.ok(namespaces.names.size >= 6, `${namespaces.names.size} namespaces: the lab's own and the hosts'`);
    t.ok(liveLabs().some(({ id }) => id === running.lab.id));
    t.ok(existsSync(running.lab.folder));
    running.launcher.kill(signal);
    await running.ended;
    await allGone(running, namespaces);
    t.notOk(
      liveLabs().some(({ id }) => id === running.lab.id),
      `nothing is left after ${signal}`,
    );
  }
  t.same(machine(), before, 'mounts and interfaces of the machine are as they were');
});

t.test(
  'two labs run side by side; when a keeper is killed its lab dies and the next start sweeps its folder',
  async (t) => {
    const [one, other] = await Promise.all([start(), start()]);
    t.not(one.lab.id, other.lab.id);
    const found = liveLabs().map(({ id }) => id);
    t.ok(found.includes(one.lab.id) && found.includes(other.lab.id));
    const namespaces = holdNamespacesOf(processesIn(one.lab.pidNamespace));
    const { keeper } = z
      .object({ keeper: z.number() })
      .parse(JSON.parse(readFileSync(`${one.lab.folder}/lab.json`, 'utf8')));
    process.kill(keeper, 'SIGKILL');
    await one.ended;
    await waitFor('the lab is dead', () => usersOf(namespaces).length === 0);
    // Nobody is left to remove the folder but the next start of a lab, which may be anybody's: only a sweep can make it go.
    other.launcher.stdin?.write('still there?\n');
    t.same(await next(other.lines), { reached: true }, 'the other works on');
    sweepDeadLabs();
    await allGone(one, namespaces);
    t.ok(existsSync(other.lab.folder), 'the folder of a living lab is not swept');
    const rest = holdNamespacesOf(processesIn(other.lab.pidNamespace));
    other.launcher.kill('SIGTERM');
    await other.ended;
    await allGone(other, rest);
  },
);

t.test('runInLab passes on arguments, the exit code, and what ended the program', async (t) => {
  const node = process.execPath;
  const inLab = 'process.exit(Number(process.argv[1]) + (process.env.PAGURO_LAB ? 0 : 100))';
  t.equal(await runInLab([node, '-e', inLab, '7']), 7);
  t.equal(await runInLab([node, '-e', 'process.kill(process.pid, "SIGKILL")']), 137);
  t.equal(await runInLab(['no-such-program'], { stdio: 'ignore' }), 127);
  const env = { PAGURO_TEST: 'x' };
  t.equal(await runInLab([node, '-e', 'process.exit(process.env.PAGURO_TEST === "x" ? 3 : 4)'], { env }), 3);
});

t.test('the logs of a lab are kept where PAGURO_KEEP says, when its program failed', async (t) => {
  const folder = t.testdir({ kept: {} });
  const kept = `${folder}/kept`;
  const program = `
    const { PAGURO_LAB } = process.env;
    require('node:fs').writeFileSync(PAGURO_LAB + '/program.log', 'why');
    process.exit(Number(process.argv[1]));`;
  const env = { PAGURO_KEEP: kept };
  t.equal(await runInLab([process.execPath, '-e', program, '0'], { env }), 0);
  t.same(readdirSync(kept), [], 'what went well is nothing to look into');
  t.equal(await runInLab([process.execPath, '-e', program, '3'], { env }), 3);
  const [lab = ''] = readdirSync(kept);
  t.same(readdirSync(`${kept}/${lab}`), ['program.log'], 'logs alone: no keys, no sockets');
  t.equal(readFileSync(`${kept}/${lab}/program.log`, 'utf8'), 'why');
});

t.test('who is not root is told so in one sentence', async (t) => {
  // May read all files: the project's folder may be root's alone.
  const reading = ['--inh-caps=+dac_read_search', '--ambient-caps=+dac_read_search'];
  const nobody = ['--reuid=65534', '--regid=65534', '--clear-groups', ...reading];
  // tap would have each Node leave a file where nobody may write.
  const program = ['env', '--unset=NODE_OPTIONS', process.execPath, EVERYTHING];
  const child = spawn('setpriv', [...nobody, ...program], { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text) => {
      said += text;
    });
  const code = await new Promise((resolve) => child.once('close', resolve));
  t.equal(code, 1);
  t.equal(said, 'a lab makes namespaces of its own: run this as root (sudo)\n');
});
