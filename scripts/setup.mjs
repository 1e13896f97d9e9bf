/**
 * Set-up: everything that a lab, the programs and the tests need, installed only where it is missing. Each step first looks and, when
 * there is nothing to do, costs milliseconds. Nothing is written to standard output.
 */
import { spawn } from 'node:child_process';
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { homedir, constants as osConstants } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const CACHE = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'paguro');
const DIST = join(ROOT, 'dist');
const STAMP = join(DIST, '.built.json');
const SOURCE_FOLDERS = ['shared', 'controller-app', 'edge-agent', 'test', 'scripts'];
const MIN_NODE = 20;
const LOG_LINES = 30;
/** As a shell says of a program that Ctrl-C ended. */
export const INTERRUPTED = 130;

/** What a lab is made of, as Debian 12 names it. */
const PACKAGES = [
  ...['openvswitch-switch', 'mininet', 'docker.io', 'containerd', 'runc', 'tini'],
  ...['iptables', 'conntrack', 'nftables', 'ebtables', 'iproute2', 'iputils-ping', 'ethtool'],
  ...['tcpdump', 'tcpreplay', 'debootstrap', 'python3', 'procps', 'util-linux', 'openssl'],
  // A DHCP server that advertises routes as well, and a DHCP client. Neither package starts a service.
  ...['dnsmasq-base', 'busybox'],
  // Knows what a unit file allows. It need not run.
  'systemd',
];

/** Something the person at the keyboard can put right; `message` says how. */
export class SetupError extends Error {
  constructor(message, exitCode = 1) {
    super(message);
    this.name = 'SetupError';
    this.exitCode = exitCode;
  }
}

function say(text) {
  process.stderr.write(`setup: ${text}\n`);
}

/** `lab`: what end-to-end tests and the demo need beside Node. `image`: the firewall's container image. */
export async function setUp({ lab, image }) {
  checkMachine(lab);
  if (lab) await installPackages();
  await installModules();
  await build();
  if (image) await buildImage();
}

function checkMachine(lab) {
  const major = Number(process.versions.node.split('.')[0]);
  if (major < MIN_NODE) {
    throw new SetupError(
      `Node.js ${MIN_NODE} or newer is needed, this is ${process.version}: install a newer one`,
    );
  }
  checkWritable();
  if (!lab) return;
  if (process.platform !== 'linux') {
    throw new SetupError(
      `a lab is made of Linux namespaces, this is ${process.platform}: use a Debian 12 machine`,
    );
  }
  if (process.getuid() !== 0) {
    throw new SetupError('a lab makes network namespaces of its own and needs root: run this with sudo');
  }
}

/** Modules, compiled programs and tap's results are put into the project's folder. */
function checkWritable() {
  try {
    accessSync(ROOT, constants.W_OK);
  } catch {
    throw new SetupError(
      `${ROOT} is not yours to write to: clone the project anew as this user, or use sudo`,
    );
  }
}

async function installPackages() {
  const missing = await missingPackages();
  if (missing.length === 0) return;
  say(`installing Debian packages: ${missing.join(' ')}`);
  const options = { env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } };
  await logged('apt-get', ['update'], 'apt.log', options);
  await logged('apt-get', ['install', '-y', '--no-install-recommends', ...missing], 'apt.log', options);
  const still = await missingPackages();
  if (still.length > 0)
    throw new SetupError(`still not installed: ${still.join(' ')}. See ${join(CACHE, 'apt.log')}`);
}

async function missingPackages() {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query's own format
  const { text } = await output('dpkg-query', ['-W', '-f', '${Package} ${db:Status-Abbrev}\\n', ...PACKAGES]);
  const installed = new Set(
    text
      .split('\n')
      .filter((line) => / .i/.test(line))
      .map((line) => line.split(' ')[0]),
  );
  return PACKAGES.filter((name) => !installed.has(name));
}

async function installModules() {
  const lock = join(ROOT, 'package-lock.json');
  const installed = join(ROOT, 'node_modules', '.package-lock.json');
  if (existsSync(installed) && statSync(installed).mtimeMs >= statSync(lock).mtimeMs) return;
  say('installing Node modules: npm ci');
  await logged('npm', ['ci'], 'npm.log');
  // npm keeps an older time when nothing in it changed: the next run would install again.
  const text = readFileSync(installed);
  writeFileSync(installed, text);
}

/** Compiles when any source differs from what was compiled, and removes what has no source any more. */
async function build() {
  const sources = sourcesNow();
  const fingerprint = JSON.stringify(sources);
  if (existsSync(STAMP) && readFileSync(STAMP, 'utf8') === fingerprint) return;
  say('compiling the sources: tsc');
  rmSync(STAMP, { force: true });
  const tsc = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
  await logged(process.execPath, [tsc, '-p', join(ROOT, 'tsconfig.json')], 'build.log', { cwd: ROOT });
  removeStaleOutputs(new Set(Object.keys(sources)));
  writeFileSync(STAMP, fingerprint);
}

/** Path → size and time of all that the compiler reads. */
function sourcesNow() {
  const found = {};
  const add = (path) => {
    const { size, mtimeMs } = statSync(join(ROOT, path));
    found[path] = `${size} ${mtimeMs}`;
  };
  for (const folder of SOURCE_FOLDERS) {
    if (!existsSync(join(ROOT, folder))) continue;
    for (const entry of readdirSync(join(ROOT, folder), { recursive: true })) {
      if (entry.endsWith('.ts')) add(join(folder, entry));
    }
  }
  for (const file of ['tsconfig.json', 'package-lock.json']) add(file);
  return found;
}

function removeStaleOutputs(sources) {
  for (const entry of readdirSync(DIST, { recursive: true })) {
    const source = entry.replace(/\.js(\.map)?$/, '.ts');
    if (source !== entry && !sources.has(source)) rmSync(join(DIST, entry));
  }
}

async function buildImage() {
  const program = join(DIST, 'scripts', 'image.js');
  if (!existsSync(program)) return;
  const code = await runProgram(process.execPath, [program], { stdio: ['ignore', 'ignore', 2] });
  checkInterrupted();
  if (code !== 0) throw new SetupError("the firewall's image could not be built: see above", code);
}

/** Logs of set-up and the firewall's image are kept there. */
function makeCache() {
  try {
    mkdirSync(CACHE, { recursive: true });
    accessSync(CACHE, constants.W_OK);
  } catch (error) {
    throw new SetupError(
      `${CACHE} cannot be written to (${error.code}): set XDG_CACHE_HOME to a folder of this user`,
    );
  }
}

/** Runs a program to its end, its output in a log of the cache. Fails with the end of the log. */
async function logged(file, args, logName, options = {}) {
  makeCache();
  const path = join(CACHE, logName);
  const log = openSync(path, 'w');
  const code = await runProgram(file, args, { cwd: ROOT, ...options, stdio: ['ignore', log, log] });
  checkInterrupted();
  if (code === 0) return;
  const tail = readFileSync(path, 'utf8').trimEnd().split('\n').slice(-LOG_LINES).join('\n');
  throw new SetupError(`${file} ${args.join(' ')} failed (exit code ${code}). The end of ${path}:\n${tail}`);
}

/** Standard output of a program, whatever its exit code. */
function output(file, args) {
  return new Promise((resolve, reject) => {
    let text = '';
    const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'ignore'] });
    child.stdout.setEncoding('utf8').on('data', (chunk) => {
      text += chunk;
    });
    child.once('error', (error) => reject(missing(file, error)));
    child.once('close', () => resolve({ text }));
  });
}

function missing(file, error) {
  if (error.code !== 'ENOENT') return error;
  const debian = file === 'dpkg-query' || file === 'apt-get';
  return new SetupError(
    debian
      ? `${file} is missing: this is no Debian. Install by hand what a lab needs: ${PACKAGES.join(' ')}`
      : `${file} is not installed`,
  );
}

let asked = false;

/** What was interrupted did not fail: there is nothing to put right. */
function checkInterrupted() {
  if (asked) throw new SetupError('set-up was interrupted: the next run goes on where it ended', INTERRUPTED);
}

/** Was this process asked to end (Ctrl-C, SIGTERM) while a program ran? Then nothing more should be started. */
export function interrupted() {
  return asked;
}

/**
 * Runs a program to its end and returns its exit code (128 + signal when one ended it). Signals to this process are passed on;
 * Ctrl-C on a terminal has reached the program already.
 */
export function runProgram(file, args, options = {}) {
  const { onStart, ...rest } = options;
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { stdio: 'inherit', ...rest });
    const listeners = ['SIGINT', 'SIGTERM', 'SIGHUP'].map((signal) => {
      const listener = () => {
        asked = true;
        if (signal !== 'SIGINT' || !process.stdin.isTTY) child.kill(signal);
      };
      process.on(signal, listener);
      return { signal, listener };
    });
    const settle = () => {
      for (const { signal, listener } of listeners) process.removeListener(signal, listener);
    };
    child.once('error', (error) => {
      settle();
      reject(missing(file, error));
    });
    child.once('close', (code, signal) => {
      settle();
      resolve(code ?? 128 + osConstants.signals[signal]);
    });
    onStart?.(child);
  });
}
