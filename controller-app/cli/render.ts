/**
 * What the controller answers, as text for people. Pure.
 */
import type {
  AddressStatus,
  ApiEvent,
  HandoverReport,
  Status,
  TerminalStatus,
} from '../../shared/api/schema.js';
import type { Connection } from '../../shared/firewall/connection.js';
import type { Policy, PortRange, Rule } from '../../shared/firewall/policy.js';
import type { FirewallState } from '../../shared/firewall/state.js';
import { duration, number, printable, table } from './table.js';

/** How many connections `paguro state` shows; `--json` has all. */
export const MAX_SHOWN_CONNECTIONS = 50;

export function renderStatus(status: Status): string {
  const switches = table(
    ['SWITCH', 'DATAPATH ID', 'CONNECTED'],
    status.switches.map((sw) => [sw.name, sw.dpid, sw.connected ? 'yes' : 'no']),
  );
  const domains = table(
    ['DOMAIN', 'KIND', 'SERVES', 'INSTANCES', 'HEALTH'],
    status.domains.map((domain) => [
      domain.name,
      domain.kind,
      domain.serves.join(', '),
      String(domain.instances.length),
      domain.ok ? 'ok' : (domain.problem ?? 'not ok'),
    ]),
  );
  const terminals = table(
    ['TERMINAL', 'ATTACHED AT', 'ACTIVE IN', 'EPOCH', 'POLICY', 'PLACEMENT', 'OTHER INSTANCES'],
    status.terminals.map(({ name, attachment, active, policy, placement, instances, handover }) => {
      const others = instances.filter(({ role }) => role !== 'active');
      const shown = others.map(({ domain, epoch, role }) => `${role} in ${domain} (epoch ${epoch})`);
      return [
        name,
        attachment === null ? 'nowhere' : `${attachment.switch} ${attachment.port}`,
        active === null ? 'nowhere' : active.domain,
        active === null ? '-' : String(active.epoch),
        policy,
        placement,
        [...shown, ...(handover === null ? [] : ['handover under way'])].join(', ') || '-',
      ];
    }),
    { right: [3] },
  );
  const standbys = standbyTable(status.terminals);
  const addresses = addressTable(status.terminals);
  return [
    `Paguro ${status.version}, running since ${utc(status.startedAt)}`,
    switches,
    domains,
    terminals,
    ...(standbys === undefined ? [] : [standbys]),
    addresses,
  ].join('\n\n');
}

/** Nothing when no terminal is to have any. */
function standbyTable(terminals: readonly TerminalStatus[]): string | undefined {
  const rows = terminals.flatMap(({ name, standbys }) =>
    standbys.map(({ domain, epoch, state, problem, behind, lagMs }) => [
      name,
      domain,
      epoch === null ? '-' : String(epoch),
      problem === undefined ? state : `${state}: ${problem}`,
      number(behind),
      lagMs === undefined ? '-' : duration(lagMs.p50),
      lagMs === undefined ? '-' : duration(lagMs.p99),
    ]),
  );
  if (rows.length === 0) return undefined;
  const head = ['TERMINAL', 'STANDBY IN', 'EPOCH', 'STATE', 'CHANGES BEHIND', 'LAG p50', 'p99'];
  return table(head, rows, { right: [2, 4, 5, 6] });
}

function addressTable(terminals: readonly TerminalStatus[]): string {
  const rows = terminals.flatMap(({ name, addresses }) =>
    addresses.map((one, index) => [index === 0 ? name : '', one.address, comeBy(one)]),
  );
  return table(['TERMINAL', 'ADDRESS', 'BY'], rows);
}

/** How the terminal came by an address. */
function comeBy({ origin, until }: AddressStatus): string {
  switch (origin) {
    case 'fixed':
      return 'configuration';
    case 'dhcp':
      return until === undefined ? 'DHCP, without end' : `DHCP, until ${utc(until)}`;
    case 'slaac':
      return 'SLAAC';
    case 'kept':
      return 'kept from before the controller started';
  }
}

function utc(at: number): string {
  return `${new Date(at).toISOString().slice(0, 19).replace('T', ' ')} UTC`;
}

export function renderReport(report: HandoverReport): string {
  const heading = {
    done: `${report.terminal}'s firewall moved from ${report.from} to ${report.to}`,
    undone: `${report.terminal}'s firewall stayed in ${report.from}: the handover to ${report.to} was undone`,
    failed: `${report.terminal}'s handover from ${report.from} to ${report.to} failed`,
  }[report.outcome];
  const phases = table(
    ['PHASE', 'TIME'],
    [...report.phases.map(({ name, ms }) => [name, duration(ms)]), ['total', duration(report.totalMs)]],
    { right: [1], indent: 2 },
  );
  const carried = `  ${number(report.connections)} connections, ${number(report.stateBytes)} bytes of state, ${number(report.deltaBytes)} bytes of changes; epoch ${report.fromEpoch} to ${report.toEpoch}`;
  const error = report.error === undefined ? [] : [`  ${printable(report.error)}`];
  return [heading, ...error, phases, carried].join('\n');
}

/** `addresses`: how the terminal came by those that it has now. */
export function renderState(state: FirewallState, addresses: readonly AddressStatus[]): string {
  const { terminal, policy, connections } = state;
  const head = `${terminal.name}: epoch ${state.epoch}, change ${number(state.sequence)}, ${number(connections.length)} connections`;
  const counters = new Map(state.counters.map((counter) => [counter.rule, counter]));
  const shown = connections.slice(0, MAX_SHOWN_CONNECTIONS).map(connectionRow);
  const more = connections.length - shown.length;
  const own = [...terminal.ipv4, ...terminal.ipv6].map((address) => {
    const known = addresses.find((one) => one.address === address);
    return [address, known === undefined ? 'not any more' : comeBy(known)];
  });
  return [
    head,
    table(['ADDRESS', 'BY'], own),
    renderPolicy(policy, (rule) => {
      const counter = counters.get(rule);
      return counter === undefined ? '-' : number(counter.packets);
    }),
    table(['PROTOCOL', 'TERMINAL', '', 'REMOTE', 'STATE', 'IDLE LEFT'], shown, { right: [5] }),
    ...(more > 0 ? [`and ${number(more)} more: see --json`] : []),
  ].join('\n\n');
}

function connectionRow(connection: Connection): string[] {
  const end = (address: string, port: number): string =>
    address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
  const opened = connection.opener === 'terminal' ? '->' : '<-';
  const left = `${number(connection.timeLeftSeconds)} s`;
  if (connection.protocol === 'icmp') {
    const state = `${connection.replied ? 'replied' : 'not replied'}, id ${connection.id}`;
    return ['icmp', connection.local.address, opened, connection.remote.address, state, left];
  }
  const { local, remote } = connection;
  const state =
    connection.protocol === 'tcp' ? connection.state : connection.replied ? 'replied' : 'not replied';
  return [
    connection.protocol,
    end(local.address, local.port),
    opened,
    end(remote.address, remote.port),
    state,
    left,
  ];
}

/** The rules in their order, the defaults last. `count` gives what the last column shows. */
export function renderPolicy(policy: Policy, count?: (rule: string) => string): string {
  const counted = (rule: string): string[] => (count === undefined ? [] : [count(rule)]);
  const rows = policy.rules.map((rule, index) => [
    String(index + 1),
    rule.name,
    rule.direction,
    rule.action,
    whatOf(rule),
    ...counted(rule.name),
  ]);
  const defaults = (['outbound', 'inbound'] as const).map((direction) => [
    '',
    `default ${direction}`,
    direction,
    policy.defaults[direction],
    'all else',
    ...counted(`default ${direction}`),
  ]);
  const heading = ['', 'RULE', 'DIRECTION', 'ACTION', 'MATCHES', ...(count === undefined ? [] : ['PACKETS'])];
  return table(heading, [...rows, ...defaults], { right: [0, 5] });
}

function whatOf(rule: Rule): string {
  const ports = (what: string, ranges: readonly PortRange[] | undefined): string[] =>
    ranges === undefined ? [] : [`${what} ${ranges.map(portText).join(', ')}`];
  const parts = [
    ...(rule.protocol === undefined ? [] : [rule.protocol]),
    ...(rule.family === undefined ? [] : [rule.family]),
    ...(rule.remote === undefined ? [] : [`${rule.direction === 'inbound' ? 'from' : 'to'} ${rule.remote}`]),
    ...ports('remote port', rule.remotePorts),
    ...ports('local port', rule.localPorts),
    ...(rule.icmpType === undefined ? [] : [`type ${rule.icmpType}`]),
  ];
  return parts.join(' ') || 'everything';
}

function portText([first, last]: PortRange): string {
  return first === last ? String(first) : `${first}-${last}`;
}

/** One line. */
export function renderEvent(event: ApiEvent, now: number): string {
  const clock = (at: number): string => new Date(at).toISOString().slice(11, 23);
  switch (event.kind) {
    case 'attachment': {
      const where =
        event.attachment === null
          ? 'is attached nowhere'
          : `attached at ${event.attachment.switch} ${event.attachment.port}`;
      return printable(`${clock(event.at)}  ${event.terminal}  ${where}`);
    }
    case 'paused':
      return printable(`${event.terminal}  waits before ${event.step}`);
    case 'phase': {
      const bytes = event.bytes === 0 ? '' : `  ${number(event.bytes)} bytes`;
      return printable(
        `${clock(event.startedAt)}  ${event.terminal}  ${event.from} -> ${event.to}  ${event.phase.padEnd(7)}  ${duration(event.ms).padStart(8)}${bytes}`,
      );
    }
    case 'handover': {
      const { terminal, from, to, outcome, totalMs, error } = event.report;
      const why = error === undefined ? '' : `: ${error}`;
      return printable(
        `${clock(now)}  ${terminal}  ${from} -> ${to}  ${outcome} in ${duration(totalMs)}${why}`,
      );
    }
  }
}
