/**
 * What the controller hears on the way to a terminal, so that it learns the terminal's addresses. Pure.
 */
import type { Rule } from '../core/plugin.js';
import type { Action, Match } from '../openflow/index.js';
import {
  apply,
  ETH_TYPE,
  ICMPV6,
  IP_PROTO,
  packLearning,
  type Reason,
  TO_CONTROLLER,
  WHOLE,
} from '../pipeline/index.js';
import type { Listening } from './view.js';

/** Above the rules that deliver, which are 10. */
const PRIORITY = 20;
const DHCP = { server: 67, client: 68 } as const;

/**
 * Every frame to a terminal leaves by `deliver` on its own switch, whatever kind of instance it comes from and wherever that is: here the
 * controller hears what its addresses depend on. `from`: what leaves an instance for the terminal; `port`: the terminal's.
 */
export function heardRules({ index, dhcp, claims }: Listening, from: Match, port: number): Rule[] {
  const heard = (match: Match, reason: Reason, ...then: Action[]): Rule => ({
    table: 'deliver',
    priority: PRIORITY,
    match: { ...from, ...match },
    instructions: [apply(TO_CONTROLLER, ...then)],
    cookie: packLearning({ reason, terminal: index, slot: 0 }),
  });
  const nd = (icmpv6_type: number, target: string): Match => ({
    ...{ eth_type: ETH_TYPE.ipv6, ip_proto: IP_PROTO.icmpv6, icmpv6_type, icmpv6_code: 0, nw_frag: WHOLE },
    ipv6_nd_target: target,
  });
  return [
    // First fragments, too: what comes in pieces cannot be read, and is not delivered.
    ...(dhcp
      ? [
          heard(
            { eth_type: ETH_TYPE.ipv4, ip_proto: IP_PROTO.udp, udp_src: DHCP.server, udp_dst: DHCP.client },
            'dhcp-server',
          ),
        ]
      : []),
    ...claims.flatMap((claimed) =>
      [ICMPV6.neighborAdvertisement, ICMPV6.neighborSolicitation].map((type) =>
        heard(nd(type, claimed), 'claim', { type: 'output', port }),
      ),
    ),
  ];
}
