/**
 * All that a lab can hold, in one program: Open vSwitch, Docker, Mininet. It says when it is up, answers each line on its standard input
 * with whether h1 reaches h2, and stays until it is ended. For the tests of what labs leave behind.
 */
import './enter.js';
import { readlinkSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { currentLab, startDocker, startMininet, startOpenVSwitch } from './index.js';

const [, net] = await Promise.all([startDocker(), startOpenVSwitch().then(() => startMininet())]);
await net.bypass(true);
console.log(JSON.stringify({ ...currentLab(), pidNamespace: readlinkSync('/proc/self/ns/pid') }));
for await (const _line of createInterface({ input: process.stdin })) {
  const { stdout } = await net.host('h1').exec('ping', ['-c', '1', '-W', '5', net.host('h2').ipv4]);
  console.log(JSON.stringify({ reached: stdout.includes(' 0% packet loss') }));
}
await new Promise(() => setInterval(() => {}, 60_000));
