/**
 * Programs of the machine's own that work in a compartment's network and hold nothing else: no user's files, no other right, no other namespace.
 */
import { spawn } from 'node:child_process';
import { DomainError } from '../../shared/domain/domain.js';
import { MORE_DESCRIPTORS } from '../../shared/runtime/command.js';
import type { LongRunning } from './runtime.js';

const NOBODY = '65534';
const ONLY_NET_ADMIN = '-all,+net_admin';
/**
 * What setpriv(1) is told, to run another program as nobody with these capabilities. Where no privilege can be gained the bounding set is of no use, and emptying
 * it would take one more right.
 */
export const asNobody = (capabilities: string): readonly string[] => [
  ...['--no-new-privs', '--clear-groups', '--reuid', NOBODY, '--regid', NOBODY],
  ...['--inh-caps', capabilities, '--ambient-caps', capabilities, '--'],
];

/** It dies with the agent, however that ends: a process left in the namespace would keep it from going. */
const AS_NOBODY = ['setpriv', '--pdeathsig', 'KILL', ...asNobody(ONLY_NET_ADMIN)];

/**
 * Starts a program in the network namespace of process `pid`, as nobody, with the right to administer that network (setpriv(1), capabilities(7)).
 * Fails with `refused` when the machine is short of something.
 */
export function startAsNobody(pid: number, file: string, args: readonly string[]): LongRunning {
  const child = spawn('nsenter', ['--target', `${pid}`, '--net', '--', ...AS_NOBODY, file, ...args], {
    stdio: 'pipe',
  });
  if (child.stdout !== undefined) return child;
  // Node gives a program no pipes when it has no descriptors for them, and tells of it later.
  child.on('error', () => {});
  throw new DomainError('refused', `${file} could not be started${MORE_DESCRIPTORS}`);
}
