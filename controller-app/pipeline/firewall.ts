/**
 * One instance of the firewall as flow rules of the tables `firewall` (see link.ts), `firewall-ct` and `admit`. Pure.
 *
 * `firewall` lets pass what a terminal needs to have connections at all (ARP, neighbour discovery, DHCP), and sends the TCP, UDP and
 * ICMP of the terminal's own addresses through the instance's conntrack zone to `firewall-ct`. There the packets of known connections
 * pass; the policy decides on opening packets (see opening.ts) and sends those that it accepts to `admit`, which commits their connections;
 * the rest drops. Whatever changes a connection's state is also copied to the controller, and no packet waits for it.
 * All rules match the instance number (reg1), and the zone has the same number.
 */
import type { Connection } from '../../shared/firewall/connection.js';
import type { Policy } from '../../shared/firewall/policy.js';
import type { Terminal } from '../../shared/firewall/terminal.js';
import type { Rule } from '../core/rule.js';
import { type Action, type Match, TCP_FLAGS } from '../openflow/index.js';
import { type Kind, packCookie } from './cookie.js';
import { linkRules } from './link.js';
import { generationBits, MARK, openedMark } from './mark.js';
import { ADMIT, FIREWALL_CT } from './priority.js';
import { isTcp, KNOWN, TRANSPORTS } from './transports.js';
import { apply, COPY, commit, ctState, ETH_TYPE, goto, SIDE, WHOLE } from './words.js';

export interface FirewallInstance {
  /** The instance number: register value and conntrack zone. */
  readonly number: number;
  /** Whose it is: connections are from and to its own addresses only, and nobody else sends from them. */
  readonly terminal: Terminal;
  readonly policy: Policy;
  /** 0 to 15. */
  readonly generation: number;
  /** A standby has all rules of an active instance: nothing leads to it, and activation changes no rule. */
  readonly role: 'standby' | 'active' | 'draining';
  /** False when the lease has run out: known connections pass, nothing new is admitted. */
  readonly admits: boolean;
  /** Imported connections that the switch does not track yet. */
  readonly adoption: readonly Connection[];
  readonly tables: { readonly firewallCt: number; readonly admit: number; readonly deliver: number };
}

/** All rules of an instance but those of its policy and of adoption. */
export function firewallRules(instance: FirewallInstance): Rule[] {
  return [
    ...linkRules(instance),
    ...knownRules(instance),
    ...(instance.role === 'draining' ? handOnRules(instance) : instance.admits ? admitRules(instance) : []),
  ];
}

interface CtRule {
  readonly priority: number;
  readonly match: Match;
  readonly kind?: Kind;
  readonly actions?: readonly Action[];
  /** False: the packet ends here. */
  readonly passes?: boolean;
}

/** A rule of the table `firewall-ct`; what has a kind to tell is copied to the controller. */
function ctRule({ number, tables }: FirewallInstance, rule: CtRule): Rule {
  const { kind = 'none', actions = [], passes = true } = rule;
  return {
    table: 'firewall-ct',
    priority: rule.priority,
    match: { reg1: number, ...rule.match },
    instructions: passes ? [...(actions.length > 0 ? [apply(...actions)] : []), goto(tables.deliver)] : [],
    cookie: packCookie({ kind, instance: number, policyRule: 0 }),
  };
}

/** Packets of connections that the zone knows. */
function knownRules(instance: FirewallInstance): Rule[] {
  const { number: zone } = instance;
  const gen = generationBits(instance.generation);
  const mark = (value: number, mask: number) => ({ value, mask });
  const tcp = KNOWN.filter(isTcp);
  const segments = TRANSPORTS.filter(isTcp);
  const datagrams = KNOWN.filter((match) => !isTcp(match));
  const rules: CtRule[] = [
    ...(instance.role === 'draining'
      ? []
      : [{ priority: FIREWALL_CT.invalid, match: { ct_state: ctState('+inv') }, passes: false }]),
    ...segments.flatMap((match) =>
      [TCP_FLAGS.syn, TCP_FLAGS.fin, TCP_FLAGS.rst].map((flag, index) => ({
        // Each flag its own priority: of rules that overlap at one, a switch may take any.
        priority: FIREWALL_CT.state + index,
        match: { ...match, ct_state: ctState('+est'), tcp_flags: { value: flag, mask: flag } },
        kind: 'state' as const,
        actions: [COPY],
      })),
    ),
    // A fragment meets these rules like a whole packet: each piece goes to conntrack, which keeps them until it has them all.
    ...datagrams.map((match) => ({
      priority: FIREWALL_CT.reply,
      match: { ...match, ct_state: ctState('+est', '+rpl'), ct_mark: mark(0, MARK.replied) },
      kind: 'reply' as const,
      actions: [COPY, commit(zone, MARK.replied, MARK.replied)],
    })),
    ...tcp.map((match) => ({
      priority: FIREWALL_CT.reply,
      match: {
        ...match,
        ct_state: ctState('+est', '+rpl'),
        ct_mark: mark(MARK.adopted, MARK.adopted | MARK.replied),
      },
      kind: 'reply' as const,
      actions: [COPY, commit(zone, MARK.replied, MARK.replied)],
    })),
    ...segments.map((match) => ({
      priority: FIREWALL_CT.reply,
      match: {
        ...match,
        ct_state: ctState('+est', '-rpl'),
        ct_mark: mark(0, MARK.adopted | MARK.replied),
        tcp_flags: { value: TCP_FLAGS.ack, mask: TCP_FLAGS.ack },
        nw_frag: WHOLE,
      },
      kind: 'handshake' as const,
      actions: [COPY, commit(zone, MARK.replied, MARK.replied)],
    })),
    {
      priority: FIREWALL_CT.oneWay,
      match: {
        ct_state: ctState('+new', '-inv'),
        ct_mark: mark(MARK.announced | gen, MARK.announced | MARK.generation),
      },
    },
    ...KNOWN.flatMap((match): CtRule[] => [
      {
        priority: FIREWALL_CT.oneWayAnnounce,
        match: {
          ...match,
          ct_state: ctState('+new', '-inv'),
          ct_mark: mark(MARK.announced, MARK.announced),
        },
        kind: 'announce',
        actions: [COPY, commit(zone, gen, MARK.generation)],
      },
      {
        priority: FIREWALL_CT.announce,
        match: { ...match, ct_state: ctState('+est') },
        kind: 'announce',
        actions: [COPY, commit(zone, gen, MARK.generation)],
      },
    ]),
    {
      priority: FIREWALL_CT.known,
      match: { ct_state: ctState('+est'), ct_mark: mark(gen, MARK.generation) },
    },
    // An ICMP error never needs fragments; in fragments a redirect could hide from its rule above.
    ...[ETH_TYPE.ipv4, ETH_TYPE.ipv6].map((eth_type) => ({
      priority: FIREWALL_CT.related,
      match: { eth_type, ct_state: ctState('+rel'), nw_frag: WHOLE },
    })),
  ];
  return rules.map((rule) => ctRule(instance, rule));
}

/** Packets that open a connection which the policy accepts, by their side: what sent them here has decided. */
function admitRules({ number, generation, tables }: FirewallInstance): Rule[] {
  return (['terminal', 'remote'] as const).flatMap((opener) =>
    [ETH_TYPE.ipv4, ETH_TYPE.ipv6].map(
      (eth_type): Rule => ({
        table: 'admit',
        priority: ADMIT,
        match: { reg1: number, reg0: opener === 'terminal' ? SIDE.terminal : SIDE.network, eth_type },
        instructions: [apply(commit(number, openedMark(opener, generation), MARK.all)), goto(tables.deliver)],
        cookie: packCookie({ kind: 'none', instance: number, policyRule: 0 }),
      }),
    ),
  );
}

/** What a draining instance does not know goes on to the instance that is active now, marked by reg4. */
function handOnRules(instance: FirewallInstance): Rule[] {
  const actions: Action[] = [{ type: 'set_field', field: { reg4: 1 } }];
  return [
    ctRule(instance, { priority: FIREWALL_CT.invalid, match: { ct_state: ctState('+inv') }, actions }),
    ctRule(instance, { priority: FIREWALL_CT.handOn, match: { ct_state: ctState('+new', '-inv') }, actions }),
  ];
}
