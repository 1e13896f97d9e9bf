/**
 * The program that `runInLab` starts in the lab: makes the lab ready, then runs the program it is given and ends with it.
 */
import { spawn } from 'node:child_process';
import { exitCode } from './launch.js';
import { prepareLab } from './prepare.js';

prepareLab();
const [file = '', ...args] = process.argv.slice(2);
const child = spawn(file, args, { stdio: 'inherit' });
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    // Ctrl-C on a terminal has reached the program already: it is in the same process group.
    if (signal !== 'SIGINT' || !process.stdin.isTTY) child.kill(signal);
  });
}
child.once('error', (error) => {
  console.error(`${file} could not be started in the lab: ${error.message}`);
  process.exit(127);
});
child.once('exit', (code, signal) => process.exit(exitCode(code, signal)));
