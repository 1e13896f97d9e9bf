/**
 * The bridge inside a compartment: what stands between the two ends of an instance.
 *
 * A bridge that learns where MACs are sends a terminal's frames the wrong way after one stray frame, so it learns nothing:
 * the terminal's MAC is at the terminal's side, everything else at the network's.
 */
import { DomainError } from '../../shared/domain/domain.js';
import type { Terminal } from '../../shared/firewall/terminal.js';
import { CommandError } from '../../shared/runtime/command.js';
import { plainWord } from '../iptables/plain.js';
import type { Compartment } from '../runtime/runtime.js';
import { INNER, MTU } from '../wiring/inner.js';
import { renderAnswers } from './answers.js';
import { FRAMES } from './frames.js';

const IP = '/usr/sbin/ip';
const BRIDGE = '/usr/sbin/bridge';
const NFT = '/usr/sbin/nft';
const ETHTOOL = '/usr/sbin/ethtool';

/** What the kernel cannot do here, in words that say what to do; nothing that keeps a firewall from filtering. */
export interface BridgeLimits {
  readonly rejects: string | undefined;
}

/** Makes the bridge and what is the same for every terminal. Nothing is joined to it yet. Fails with `refused`. */
export async function makeBridge(compartment: Compartment): Promise<BridgeLimits> {
  const [frames, link] = await Promise.allSettled([
    nft(compartment, FRAMES),
    run(compartment, IP, ['-batch', '-'], bridgeLink()).then(() => withoutOffload(compartment)),
  ]);
  if (frames.status === 'rejected') throw frames.reason;
  if (link.status === 'rejected') throw link.reason;
  return { rejects: link.value };
}

/** Makes both ends, which must be there, ports of the bridge. It is down, and its ports take nothing. Fails with `refused`. */
export function joinEnds(compartment: Compartment): Promise<void> {
  return run(compartment, IP, ['-batch', '-'], portLinks());
}

/** What the bridge must know of the terminal. Fails with `refused`. */
export async function settleTerminal(compartment: Compartment, terminal: Terminal): Promise<BridgeLimits> {
  const at = ['dev', INNER.terminalSide, 'master', 'static'];
  const [rejects] = await Promise.all([
    unlessUnable(() => nft(compartment, renderAnswers(terminal))),
    run(compartment, BRIDGE, ['fdb', 'add', plainWord(terminal.mac), ...at]),
  ]);
  return { rejects };
}

/** From now on packets meet the compartment's rules, which therefore must be in place before. Fails with `refused`. */
export function openBridge(compartment: Compartment): Promise<void> {
  return run(compartment, IP, ['link', 'set', INNER.bridge, 'up']);
}

/** The kernel leaves the checksum of an IPv4 reset to the device, which leaves it to a switch that knows nothing of it. */
function withoutOffload(compartment: Compartment): Promise<string | undefined> {
  return unlessUnable(() => run(compartment, ETHTOOL, ['-K', INNER.bridge, 'tx', 'off']));
}

async function unlessUnable(act: () => Promise<void>): Promise<string | undefined> {
  try {
    await act();
    return undefined;
  } catch (error) {
    if (!(error instanceof DomainError)) throw error;
    return `rejected packets are dropped without an answer, because this kernel cannot answer them (it needs CONFIG_NFT_REJECT_NETDEV): ${error.message}`;
  }
}

function bridgeLink(): string {
  const { bridge, bridgeMac } = INNER;
  return [
    `link add ${bridge} address ${bridgeMac} mtu ${MTU} type bridge stp_state 0 mcast_snooping 0`,
    // In a command of its own: in one with "up" it comes too late.
    `link set ${bridge} addrgenmode none`,
  ].join('\n');
}

function portLinks(): string {
  const { bridge, terminalSide, networkSide } = INNER;
  return [
    ...[terminalSide, networkSide].map((name) => `link set ${name} addrgenmode none`),
    `link set ${terminalSide} master ${bridge}`,
    `link set ${networkSide} master ${bridge}`,
    `link set ${terminalSide} type bridge_slave learning off flood off`,
    `link set ${networkSide} type bridge_slave learning off flood on`,
    ...[terminalSide, networkSide].map((name) => `link set ${name} up`),
  ].join('\n');
}

function nft(compartment: Compartment, text: string): Promise<void> {
  return run(compartment, NFT, ['-f', '-'], text);
}

async function run(
  compartment: Compartment,
  file: string,
  args: readonly string[],
  input?: string,
): Promise<void> {
  try {
    await compartment.run(file, args, input === undefined ? {} : { input });
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    throw new DomainError('refused', `the firewall's bridge could not be made: ${error.message}`, {
      cause: error,
    });
  }
}
