/**
 * A policy -> the rules of its two chains. Pure.
 */
import {
  type Action,
  DEFAULT_NAMES,
  type Policy,
  type PortRange,
  type Rule,
} from '../../shared/firewall/policy.js';
import type { RuleCounter } from '../../shared/firewall/state.js';
import { type Family, familyOf } from '../../shared/firewall/terminal.js';
import { CHAINS, POLICY_CHAINS } from './names.js';
import { plainName, plainWord } from './plain.js';

/** xt_multiport holds this many ports; a range counts as two (XT_MULTI_PORTS in linux/netfilter/xt_multiport.h). */
const MULTIPORT_SLOTS = 15;

const TARGETS: Readonly<Record<Action, string>> = {
  accept: `-g ${CHAINS.accept}`,
  drop: '-j DROP',
  reject: `-g ${CHAINS.reject}`,
};

/** Every rule and the defaults, each with the counter that it begins with. */
export function policyRules(
  { policy, counters }: { readonly policy: Policy; readonly counters: readonly RuleCounter[] },
  family: Family,
): readonly string[] {
  const counted = new Map(counters.map((counter) => [counter.rule, counter]));
  const lines = policy.rules.flatMap((each) => {
    if (!holdsFor(each, family)) return [];
    const chain = POLICY_CHAINS[each.direction];
    // What was counted begins in one place: the first line of the rule, in IPv4 when the rule is there at all.
    const counter = family === 'ipv4' || !holdsFor(each, 'ipv4') ? counted.get(each.name) : undefined;
    return matchesOf(each, family).map((matches, index) =>
      countedRule(chain, matches, each.name, each.action, index === 0 ? counter : undefined),
    );
  });
  const defaults = (['outbound', 'inbound'] as const).map((direction) => {
    const name = DEFAULT_NAMES[direction];
    const counter = family === 'ipv4' ? counted.get(name) : undefined;
    return countedRule(POLICY_CHAINS[direction], '', name, policy.defaults[direction], counter);
  });
  return [...lines, ...defaults];
}

function countedRule(
  chain: string,
  matches: string,
  name: string,
  action: Action,
  counter: RuleCounter | undefined,
): string {
  const counted = `[${plainWord(counter?.packets ?? 0)}:${plainWord(counter?.bytes ?? 0)}]`;
  return `${counted} -A ${chain} ${matches}${matches ? ' ' : ''}-m comment --comment "${plainName(name)}" ${TARGETS[action]}`;
}

function holdsFor(each: Rule, family: Family): boolean {
  if (each.family !== undefined && each.family !== family) return false;
  if (each.remote !== undefined && familyOf(each.remote) !== family) return false;
  // To xt_icmp 255 means any type. There is no ICMP message of that type that opens anything.
  return !(family === 'ipv4' && each.icmpType === 255);
}

/** The matches of a rule's lines: usually one line, more when its ports do not fit into one multiport match. */
function matchesOf(each: Rule, family: Family): readonly string[] {
  const outbound = each.direction === 'outbound';
  const base: string[] = [];
  if (each.remote !== undefined) base.push(`${outbound ? '-d' : '-s'} ${plainWord(each.remote)}`);
  if (each.protocol !== undefined) base.push(`-p ${plainWord(protocolName(each.protocol, family))}`);
  if (each.icmpType !== undefined) {
    base.push(`${family === 'ipv4' ? '--icmp-type' : '--icmpv6-type'} ${plainWord(each.icmpType)}`);
  }
  const [remoteOption, localOption] = outbound ? ['--dports', '--sports'] : ['--sports', '--dports'];
  return portMatches(remoteOption, each.remotePorts).flatMap((remote) =>
    portMatches(localOption, each.localPorts).map((local) => [...base, ...remote, ...local].join(' ')),
  );
}

function protocolName(protocol: 'tcp' | 'udp' | 'icmp', family: Family): string {
  return protocol === 'icmp' && family === 'ipv6' ? 'icmpv6' : protocol;
}

function portMatches(
  option: string,
  ranges: readonly PortRange[] | undefined,
): readonly (readonly string[])[] {
  if (!ranges) return [[]];
  const groups: string[][] = [];
  let slots = MULTIPORT_SLOTS;
  for (const [first, last] of ranges) {
    const needed = first === last ? 1 : 2;
    let group = groups.at(-1);
    if (!group || slots + needed > MULTIPORT_SLOTS) {
      group = [];
      groups.push(group);
      slots = 0;
    }
    group.push(first === last ? plainWord(first) : `${plainWord(first)}:${plainWord(last)}`);
    slots += needed;
  }
  return groups.map((group) => [`-m multiport ${option} ${group.join(',')}`]);
}
