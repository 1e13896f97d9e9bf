/**
 * A lab by hand.
 *
 *   node dist/scripts/lab.js [--ovs] [--docker] [PROGRAM ARGUMENT…]   a program (a shell, unless named) in a new lab
 *   node dist/scripts/lab.js --list                                 the labs that run now, and where their controllers listen
 *
 * In a shell of `--ovs`, `mn --custom scripts/topology.py --topo paguro --switch paguro --controller remote` starts the demo's network.
 */
import { spawn } from 'node:child_process';
import { parseArgs } from 'node:util';
import { messageOf } from '../shared/runtime/message-of.js';
import {
  insideLab,
  LabError,
  liveLabs,
  prepareLab,
  startDocker,
  startOpenVSwitch,
} from '../test/lab/index.js';
import { exitCode, reExecuteInLab } from '../test/lab/launch.js';

const USAGE = `A lab by hand: private namespaces with, if wanted, their own Open vSwitch and Docker; gone when the program ends.

  node dist/scripts/lab.js [--ovs] [--docker] [PROGRAM ARGUMENT…]   a program (a shell, unless named) in a new lab
  node dist/scripts/lab.js --list                                 the labs that run now`;

function list(): number {
  for (const { id, folder, apiSocket } of liveLabs())
    console.log(`${id}  folder ${folder}  API ${apiSocket}`);
  return 0;
}

async function runHere(ovs: boolean, docker: boolean, program: readonly string[]): Promise<number> {
  const { folder } = prepareLab();
  await Promise.all([ovs && startOpenVSwitch(), docker && startDocker()]);
  const [file = process.env.SHELL ?? '/bin/bash', ...args] = program;
  console.error(`lab: ${folder}`);
  const child = spawn(file, args, { stdio: 'inherit' });
  // A shell has its own mind about Ctrl-C; what it runs gets it from the terminal.
  process.on('SIGINT', () => {});
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  return new Promise((resolve, reject) => {
    child.once('error', (error) => {
      reject(new LabError('missing-program', `${file} could not be started in the lab: ${error.message}`));
    });
    child.once('exit', (code, signal) => resolve(exitCode(code, signal)));
  });
}

try {
  const args = process.argv.slice(2);
  const first = args.findIndex((arg) => !arg.startsWith('-'));
  const { values } = parseArgs({
    args: first < 0 ? args : args.slice(0, first),
    options: {
      ovs: { type: 'boolean' },
      docker: { type: 'boolean' },
      list: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help) {
    console.log(USAGE);
  } else if (values.list) {
    process.exitCode = list();
  } else {
    if (!insideLab()) reExecuteInLab();
    // What was started for the program goes with the lab.
    process.exit(
      await runHere(values.ovs ?? false, values.docker ?? false, first < 0 ? [] : args.slice(first)),
    );
  }
} catch (error) {
  console.error(`lab: ${messageOf(error)}`);
  if (error instanceof TypeError) console.error(USAGE);
  process.exit(1);
}
