/**
 * What must hold between the values of the controller's configuration file. Pure.
 */
import type { Path } from '../shared/firewall/yaml-text.js';
import { isLoopback } from '../shared/runtime/loopback.js';
import type { ConfigFile } from './config-file.js';

export interface CrossProblem {
  readonly path: Path;
  readonly message: string;
}

/** What no single field shows: names used twice, names that do not exist, two domains for one switch. */
export function crossChecks(config: ConfigFile): CrossProblem[] {
  const switches = [...new Set(config.switches.map((sw) => sw.name))];
  const known = (wanted: string, path: Path): CrossProblem[] =>
    switches.includes(wanted)
      ? []
      : [{ path, message: `there is no switch ${wanted} under switches; there are ${switches.join(', ')}` }];

  const domainNames = config.domains.map((domain) => domain.name);
  const standbys = config.terminals.flatMap((terminal, index): CrossProblem[] =>
    terminal.standbys.flatMap((wanted, at) => {
      const path = ['terminals', index, 'standbys', at];
      if (terminal.standbys.indexOf(wanted) < at)
        return [{ path, message: `${wanted} stands there twice: a domain holds one standby of a terminal` }];
      if (domainNames.includes(wanted)) return [];
      return [
        { path, message: `there is no domain ${wanted} under domains; there are ${domainNames.join(', ')}` },
      ];
    }),
  );
  const links = config.links.flatMap(([a, b], index): CrossProblem[] => {
    const path = ['links', index];
    if (a.switch === b.switch) {
      return [
        {
          path,
          message: `this link leads from ${a.switch} to itself: name one port of each of two switches`,
        },
      ];
    }
    return [...known(a.switch, path), ...known(b.switch, path)];
  });
  const domains = config.domains.flatMap((domain, index): CrossProblem[] => [
    ...(domain.kind === 'openflow-ct' ? known(domain.switch, ['domains', index, 'switch']) : []),
    ...(domain.serves ?? []).flatMap((sw, at) => known(sw, ['domains', index, 'serves', at])),
  ]);
  const served = config.domains.flatMap((domain, index) =>
    (domain.serves ?? (domain.kind === 'openflow-ct' ? [domain.switch] : [])).map((value) => ({
      value,
      path: ['domains', index],
    })),
  );
  const portsOfLinks = config.links.flatMap((link, index) =>
    link.map((end) => ({ value: `${end.switch}:${end.port}`, path: ['links', index] })),
  );
  const addresses = config.terminals.flatMap((terminal, index) => [
    ...terminal.ipv4.map((value, at) => ({ value, path: ['terminals', index, 'ipv4', at] })),
    ...terminal.ipv6.map((value, at) => ({ value, path: ['terminals', index, 'ipv6', at] })),
  ]);
  const bare = config.terminals.flatMap((terminal, index): CrossProblem[] =>
    [terminal, terminal.learn].some(({ ipv4, ipv6 }) => ipv4.length + ipv6.length > 0)
      ? []
      : [
          {
            path: ['terminals', index],
            message: `terminal ${terminal.name} has no address: write at least one under ipv4 or ipv6, or under learn where it may get them`,
          },
        ],
  );
  const open =
    config.tls === undefined && !isLoopback(config.channel.host)
      ? [
          {
            path: ['channel'],
            message: `${config.channel.host} is no loopback address, and without TLS the channel takes no other: write one, or configure tls`,
          },
        ]
      : [];
  return [
    ...open,
    ...twice(
      'two switches are named',
      entries('switches', config.switches, 'name'),
      'give one of them another name',
    ),
    ...twice(
      'two switches have the datapath id',
      entries('switches', config.switches, 'dpid'),
      'see "ovs-vsctl get bridge NAME datapath_id"',
    ),
    ...links,
    ...twice('two links use the port', portsOfLinks, 'a port has one link'),
    ...twice(
      'two terminals are named',
      entries('terminals', config.terminals, 'name'),
      'give one of them another name',
    ),
    ...twice(
      'two terminals have the MAC address',
      entries('terminals', config.terminals, 'mac'),
      'a terminal is known by it',
    ),
    ...twice('two terminals have the address', addresses, 'an address belongs to one terminal'),
    ...bare,
    ...twice(
      'two domains are named',
      entries('domains', config.domains, 'name'),
      'give one of them another name',
    ),
    ...domains,
    ...standbys,
    ...twice(
      'two domains serve the switch',
      served,
      'leave it in the serves of the one that shall have the firewalls there',
    ),
  ];
}

interface Entry {
  readonly value: string;
  readonly path: Path;
}

function entries<K extends string>(
  list: string,
  items: readonly Readonly<Record<K, string>>[],
  key: K,
): Entry[] {
  return items.map((item, index) => ({ value: item[key], path: [list, index, key] }));
}

/** A problem for each value that was there before. */
function twice(what: string, values: readonly Entry[], todo: string): CrossProblem[] {
  const seen = new Set<string>();
  return values.flatMap(({ value, path }) => {
    if (seen.has(value)) return [{ path, message: `${what} ${value}: ${todo}` }];
    seen.add(value);
    return [];
  });
}
