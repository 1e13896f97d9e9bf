/**
 * Could this connection have been admitted? What a state says of itself is not believed: each of its connections must be the terminal's, and one
 * that the policy, or an earlier one that the state names, allowed to be opened. Pure, and quick enough for 100,000 connections:
 * a policy is sorted once by what its rules hold for.
 */
import { addressBits } from './addresses.js';
import { type Connection, connectionKey, type Protocol } from './connection.js';
import { ICMP_TYPES } from './packet.js';
import { type Action, type Direction, type Policy, type PortRange, prefixOf, type Rule } from './policy.js';
import type { Change, FirewallState } from './state.js';
import { type Family, familyOf, type Terminal } from './terminal.js';

/** One rule, as far as it depends on more than direction, family and protocol. */
interface Condition {
  readonly action: Action;
  readonly network: { readonly bits: bigint; readonly host: bigint } | undefined;
  readonly remotePorts: readonly PortRange[] | undefined;
  readonly localPorts: readonly PortRange[] | undefined;
}

/** A policy, ready to judge many connections. */
export interface Judge {
  readonly policy: Policy;
  /** By direction, family and protocol: the rules that can hold, in order, up to the first that always does. */
  readonly conditions: ReadonlyMap<string, readonly Condition[]>;
}

const DIRECTIONS: readonly Direction[] = ['outbound', 'inbound'];
const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];
const PROTOCOLS: readonly Protocol[] = ['tcp', 'udp', 'icmp'];

const kind = (direction: Direction, family: Family, protocol: Protocol): string =>
  `${direction} ${family} ${protocol}`;

/** Policies do not change: each is sorted once. */
const judges = new WeakMap<Policy, Judge>();

/** Time: rules × 12, the first time. */
export function judgeOf(policy: Policy): Judge {
  const known = judges.get(policy);
  if (known) return known;
  const conditions = new Map<string, readonly Condition[]>();
  for (const direction of DIRECTIONS) {
    for (const family of FAMILIES) {
      for (const protocol of PROTOCOLS) {
        const rules = policy.rules.filter((rule) => holdsFor(rule, direction, family, protocol));
        conditions.set(kind(direction, family, protocol), rules.map(conditionOf));
      }
    }
  }
  const judge = { policy, conditions };
  judges.set(policy, judge);
  return judge;
}

function holdsFor(rule: Rule, direction: Direction, family: Family, protocol: Protocol): boolean {
  return (
    rule.direction === direction &&
    (rule.family ?? family) === family &&
    (rule.remote === undefined || familyOf(rule.remote) === family) &&
    (rule.protocol ?? protocol) === protocol &&
    (rule.icmpType === undefined || rule.icmpType === ICMP_TYPES[family].echoRequest)
  );
}

function conditionOf({ action, remote, remotePorts, localPorts }: Rule): Condition {
  const ports = { remotePorts, localPorts };
  if (remote === undefined) return { action, network: undefined, ...ports };
  const { family, address, length } = prefixOf(remote);
  const host = BigInt((family === 'ipv4' ? 32 : 128) - length);
  return { action, network: { bits: addressBits(address) >> host, host }, ...ports };
}

/** Does the policy accept the packet that opened this connection? The same as the reference verdict says of that packet. */
export function isAllowed({ policy, conditions }: Judge, connection: Connection): boolean {
  const { protocol, opener, local, remote } = connection;
  const direction = opener === 'terminal' ? 'outbound' : 'inbound';
  const [near, far] = [portOf(local), portOf(remote)];
  // No firewall admits anything from or to port 0.
  if (protocol !== 'icmp' && (near === 0 || far === 0)) return false;
  const candidates = conditions.get(kind(direction, familyOf(remote.address), protocol)) ?? [];
  if (candidates.length === 0) return policy.defaults[direction] === 'accept';
  const bits = addressBits(remote.address);
  const first = candidates.find(
    ({ network, localPorts, remotePorts }) =>
      (network === undefined || bits >> network.host === network.bits) &&
      (protocol === 'icmp' || (inRanges(near, localPorts) && inRanges(far, remotePorts))),
  );
  return (first?.action ?? policy.defaults[direction]) === 'accept';
}

const portOf = (end: { readonly address: string; readonly port?: number }): number => end.port ?? 0;

function inRanges(port: number, ranges: readonly PortRange[] | undefined): boolean {
  return ranges === undefined || ranges.some(([from, to]) => from <= port && port <= to);
}

/** Judges connections that somebody else says are a terminal's: what is wrong with one, in words, or undefined. */
export function connectionCheck(
  terminal: Terminal,
  policies: readonly Policy[],
): (connection: Connection) => string | undefined {
  const own = new Set([...terminal.ipv4, ...terminal.ipv6]);
  const bench = policies.map(judgeOf);
  return (connection) => {
    if (!own.has(connection.local.address))
      return `${connectionKey(connection)}: ${connection.local.address} is no address of ${terminal.name}`;
    if (!bench.some((judge) => isAllowed(judge, connection)))
      return `${connectionKey(connection)}, opened by the ${connection.opener}: no policy of ${terminal.name} ever allowed it`;
    return undefined;
  };
}

/**
 * What is wrong with a valid `FirewallState` as a whole, in words: a connection that is not the terminal's, that none of its policies allowed, or
 * that is there twice. Undefined when it may be taken over. Time: connections × rules at worst.
 */
export function problemOfState(state: FirewallState): string | undefined {
  const check = connectionCheck(state.terminal, [state.policy, ...state.earlier]);
  const seen = new Set<string>();
  for (const connection of state.connections) {
    const problem = check(connection);
    if (problem !== undefined) return problem;
    const key = connectionKey(connection);
    if (seen.has(key)) return `${key} is there twice`;
    seen.add(key);
  }
  return undefined;
}

/**
 * What is wrong with these changes, in order, to a firewall of this terminal with these policies (the present one and earlier ones): the whole
 * batch is to be refused then. Undefined when they may be applied.
 */
export function problemOfChanges(
  terminal: Terminal,
  policies: readonly Policy[],
  changes: readonly Change[],
): string | undefined {
  let known = { terminal, policies };
  let check: ReturnType<typeof connectionCheck> | undefined;
  for (const change of changes) {
    switch (change.kind) {
      case 'connection': {
        check ??= connectionCheck(known.terminal, known.policies);
        const problem = check(change.connection);
        if (problem !== undefined) return problem;
        break;
      }
      case 'policy':
        known = { ...known, policies: [change.policy, ...known.policies] };
        check = undefined;
        break;
      case 'terminal': {
        const { name, mac } = change.terminal;
        if (name !== terminal.name || mac !== terminal.mac)
          return `the changes make ${terminal.name} (${terminal.mac}) into ${name} (${mac}): that is another terminal`;
        known = { ...known, terminal: change.terminal };
        check = undefined;
        break;
      }
      case 'ended':
        break;
    }
  }
  return undefined;
}
