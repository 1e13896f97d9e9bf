/**
 * A policy as flow rules on opening packets: for each rule of the policy, in each family and protocol that it holds for. Pure.
 * Only opening packets are matched: a TCP segment that opens nothing, any ICMP but an echo request and every other
 * protocol fall through to the end of the table, where everything drops.
 */
import type { Protocol } from '../../shared/firewall/connection.js';
import type { Action, Direction, Policy, Rule as PolicyRule } from '../../shared/firewall/policy.js';
import { prefixOf } from '../../shared/firewall/policy.js';
import { canonicalIpv6, type Family } from '../../shared/firewall/terminal.js';
import type { Match } from '../openflow/index.js';
import { DEFAULT_INBOUND, DEFAULT_OUTBOUND } from './cookie.js';
import { portMatches } from './port-masks.js';
import { ECHO, ETH_TYPE, IP_PROTO, OPENING_SYN, SIDE } from './words.js';

/** What one rule of the policy, or one default, comes to. */
export interface RenderedRule {
  readonly direction: Direction;
  readonly action: Action;
  /** The index in the policy, or the number of a default. */
  readonly policyRule: number;
  /** 0 is decided first. */
  readonly order: number;
  readonly matches: readonly Match[];
}

const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];
const PROTOCOLS: readonly Protocol[] = ['tcp', 'udp', 'icmp'];

/** In the order in which they decide; a rule that no opening packet can meet has no matches. */
export function renderPolicy(policy: Policy): RenderedRule[] {
  const rules = policy.rules.map((rule, index) => ({
    direction: rule.direction,
    action: rule.action,
    policyRule: index,
    order: index,
    matches: ruleMatches(rule),
  }));
  const fallback = (direction: Direction, policyRule: number): RenderedRule => ({
    direction,
    action: policy.defaults[direction],
    policyRule,
    order: policy.rules.length,
    matches: ruleMatches({ direction }),
  });
  return [...rules, fallback('outbound', DEFAULT_OUTBOUND), fallback('inbound', DEFAULT_INBOUND)];
}

/** How many flow rules a policy comes to at most, without making them: ranges of ports multiply. */
export function policySize(policy: Policy): number {
  const sizes = policy.rules.map((rule) => {
    const ports = portMatches(rule.localPorts).length * portMatches(rule.remotePorts).length;
    return familiesOf(rule).length * protocolsOf(rule).length * ports;
  });
  const fallbacks = 2 * FAMILIES.length * PROTOCOLS.length;
  return sizes.reduce((sum, size) => sum + size, fallbacks);
}

function familiesOf(rule: Conditions): Family[] {
  const remote = rule.remote === undefined ? undefined : prefixOf(rule.remote).family;
  return FAMILIES.filter((family) => (rule.family ?? family) === family && (remote ?? family) === family);
}

function protocolsOf(rule: Conditions): Protocol[] {
  return PROTOCOLS.filter((protocol) => (rule.protocol ?? protocol) === protocol);
}

type Conditions = Omit<PolicyRule, 'name' | 'action'>;

function ruleMatches(rule: Conditions): Match[] {
  const remote = rule.remote === undefined ? undefined : prefixOf(rule.remote);
  const families = familiesOf(rule);
  const protocols = protocolsOf(rule);
  const outbound = rule.direction === 'outbound';
  return families.flatMap((family) => {
    const base: Match = {
      reg0: outbound ? SIDE.terminal : SIDE.network,
      eth_type: ETH_TYPE[family],
      ...(remote ? remoteMatch(family, remote.address, remote.length, outbound) : {}),
    };
    return protocols.flatMap((protocol): Match[] => {
      if (protocol === 'icmp') {
        const { request } = ECHO[family];
        if (rule.icmpType !== undefined && rule.icmpType !== request) return [];
        return [
          family === 'ipv4'
            ? { ...base, ip_proto: IP_PROTO.icmp, icmpv4_type: request, icmpv4_code: 0 }
            : { ...base, ip_proto: IP_PROTO.icmpv6, icmpv6_type: request, icmpv6_code: 0 },
        ];
      }
      const opening: Match =
        protocol === 'tcp'
          ? { ...base, ip_proto: IP_PROTO.tcp, tcp_flags: OPENING_SYN }
          : { ...base, ip_proto: IP_PROTO.udp };
      return portMatches(rule.localPorts).flatMap((local) =>
        portMatches(rule.remotePorts).map((far) => ({
          ...opening,
          ...portMatch(protocol, outbound ? 'src' : 'dst', local),
          ...portMatch(protocol, outbound ? 'dst' : 'src', far),
        })),
      );
    });
  });
}

function portMatch(
  protocol: 'tcp' | 'udp',
  end: 'src' | 'dst',
  { value, mask }: { value: number; mask: number },
): Match {
  if (mask === 0) return {};
  const port = mask === 0xffff ? value : { value, mask };
  return { [`${protocol}_${end}`]: port };
}

function remoteMatch(family: Family, address: string, length: number, outbound: boolean): Match {
  if (length === 0) return {};
  const prefix = prefixMatch(family, address, length);
  if (family === 'ipv4') return outbound ? { ipv4_dst: prefix } : { ipv4_src: prefix };
  return outbound ? { ipv6_dst: prefix } : { ipv6_src: prefix };
}

const GROUPS = {
  ipv4: { count: 4, bits: 8 },
  ipv6: { count: 8, bits: 16 },
} as const;

/** A prefix as a value and a mask. The value has no bits beside the mask: switches refuse such a match (spec 1.3.5, 7.2.3.3). */
export function prefixMatch(
  family: Family,
  address: string,
  length: number,
): { value: string; mask: string } {
  const { count, bits } = GROUPS[family];
  const masks = Array.from({ length: count }, (_, index) => {
    const ones = Math.min(Math.max(length - index * bits, 0), bits);
    return 2 ** bits - 2 ** (bits - ones);
  });
  const values = addressGroups(family, address).map((group, index) => group & (masks[index] ?? 0));
  if (family === 'ipv4') return { value: values.join('.'), mask: masks.join('.') };
  const text = (groups: readonly number[]): string =>
    canonicalIpv6(groups.map((group) => group.toString(16)).join(':'));
  return { value: text(values), mask: text(masks) };
}

function addressGroups(family: Family, address: string): number[] {
  if (family === 'ipv4') return address.split('.').map(Number);
  const [head = '', tail = ''] = canonicalIpv6(address).split('::');
  const parse = (text: string): number[] =>
    text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16));
  const [front, back] = [parse(head), parse(tail)];
  return [...front, ...new Array<number>(GROUPS.ipv6.count - front.length - back.length).fill(0), ...back];
}
