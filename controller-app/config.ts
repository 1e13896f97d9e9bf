/**
 * The controller's configuration: a YAML file and the policies it names.
 */
import { isIP } from 'node:net';
import { dirname, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { z } from 'zod';
import { type Dpid, dpid } from '../shared/domain/domain.js';
import type { Policy } from '../shared/firewall/policy.js';
import { MAX_POLICY_BYTES, parsePolicy } from '../shared/firewall/policy-file.js';
import { type Terminal, terminalSchema } from '../shared/firewall/terminal.js';
import { idleTimesSchema } from '../shared/firewall/timeouts.js';
import { type Path, type Problem, type YamlDocument, YamlError } from '../shared/firewall/yaml-text.js';
import { isLoopback } from '../shared/runtime/loopback.js';
import { ConfigFileError, loadYaml, readTextFile } from '../shared/runtime/yaml-config.js';

/** Instance numbers go up to 2046, and a terminal needs two while it moves. */
export const MAX_TERMINALS = 1000;

/** Where a server listens. `host` is an IP address. */
export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

const listenAddress = z.string().transform((text, context): ListenAddress => {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2] ?? '';
  const port = Number(match?.[3]);
  if (!match || isIP(host) !== (match[1] === undefined ? 4 : 6) || port > 65535) {
    context.addIssue({
      code: 'custom',
      message: 'write an address and a port such as 127.0.0.1:6653 or [::1]:6653',
    });
    return z.NEVER;
  }
  return { host, port };
});

const loopbackAddress = (why: string) =>
  listenAddress.refine(({ host }) => isLoopback(host), { message: `write a loopback address: ${why}` });

const name = z.string().regex(/^[A-Za-z][A-Za-z0-9_-]{0,31}$/, {
  message: 'a name is a letter, then at most 31 letters, digits, dashes or underscores',
});

const dpidSchema = z
  .union([
    z.int().min(1),
    z.string().regex(/^(?:[0-9a-fA-F]{16}|(?:[0-9a-fA-F]{2}:){7}[0-9a-fA-F]{2})$/, {
      message:
        'write a datapath id as a number such as 1, or as 16 hexadecimal digits such as 0000000000000001',
    }),
  ])
  .transform((value): Dpid => dpid(value));

const portRef = z
  .string()
  .regex(/^[A-Za-z][A-Za-z0-9_-]{0,31}:[^:\s]{1,63}$/, {
    message: 'write a switch and its port such as s1:s1-eth1',
  })
  .transform((text): PortRef => {
    const [sw = '', port = ''] = text.split(':');
    return { switch: sw, port };
  });

/** A port of a switch, both by name. */
export interface PortRef {
  readonly switch: string;
  readonly port: string;
}

const domainSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    name,
    kind: z.literal('openflow-ct'),
    switch: name,
    serves: z.array(name).min(1).optional(),
  }),
  z.strictObject({ name, kind: z.literal('remote'), serves: z.array(name).min(1) }),
]);

const milliseconds = (fallback: number, least: number, most: number) =>
  z.int().min(least).max(most).default(fallback);

const timingsSchema = z.strictObject({
  /** How long an old instance goes on forwarding what it knows. Far longer than a switch needs to put new rules in effect. */
  drainMs: milliseconds(500, 50, 60_000),
  /** How long an instance admits new connections without hearing from the coordinator. */
  leaseMs: milliseconds(10_000, 1_000, 600_000),
  /** How long a domain may take to build an instance. A container's first start takes seconds. */
  prepareMs: milliseconds(60_000, 100, 600_000),
  /** How long any other call of a domain or request to a switch may take. */
  callMs: milliseconds(10_000, 100, 60_000),
  /** Idle times of connections, in seconds. */
  idle: idleTimesSchema.prefault({}),
});

const terminalEntry = terminalSchema.extend({
  ipv4: terminalSchema.shape.ipv4.prefault([]),
  ipv6: terminalSchema.shape.ipv6.prefault([]),
  /** The path of its policy, relative to the file. */
  policy: z.string().min(1).max(1000),
});

const fileSchema = z.strictObject({
  openflow: listenAddress.prefault('127.0.0.1:6653'),
  channel: loopbackAddress('without TLS the channel takes no other').prefault('127.0.0.1:7653'),
  http: loopbackAddress('the API has no log-in, so that no other machine may reach it').prefault(
    '127.0.0.1:7680',
  ),
  /** Path of a Unix socket for the API, too; relative to the file. */
  socket: z.string().min(1).max(100).optional(),
  switches: z
    .array(
      z.strictObject({
        name,
        dpid: dpidSchema,
        /**
         * terminals: ports that are no links are closed to everything until a terminal is seen there. any: hosts that are no terminals
         * may be there, too; then whoever has a port can pretend to be such a host.
         */
        access: z.enum(['any', 'terminals']).default('any'),
      }),
    )
    .min(1)
    .max(256),
  links: z
    .array(z.tuple([portRef, portRef]))
    .max(1024)
    .default([]),
  terminals: z.array(terminalEntry).max(MAX_TERMINALS).default([]),
  domains: z.array(domainSchema).min(1).max(256),
  plugins: z
    .array(
      z.strictObject({
        module: z.string().min(1).max(1000),
        options: z.record(z.string(), z.unknown()).default({}),
      }),
    )
    .max(32)
    .default([]),
  timings: timingsSchema.prefault({}),
});

type ConfigFile = z.infer<typeof fileSchema>;

/** `terminal` is as `shared/firewall` has it; `policyFile` is absolute. */
export interface ConfiguredTerminal {
  readonly terminal: Terminal;
  readonly policyFile: string;
  readonly policy: Policy;
}

export type ConfiguredDomain =
  | {
      readonly name: string;
      readonly kind: 'openflow-ct';
      /** The switch whose tables hold the firewalls, by name. */
      readonly switch: string;
      /** The switches whose attachments it serves, by name; without it in the file, its own. */
      readonly serves: readonly string[];
    }
  | { readonly name: string; readonly kind: 'remote'; readonly serves: readonly string[] };

export interface ConfiguredPlugin {
  /** What `import()` takes: a file URL, or the name of a package. */
  readonly module: string;
  readonly options: Readonly<Record<string, unknown>>;
}

/** Checked and complete: names are unique, and every name that is used exists. */
export interface ControllerConfig {
  /** The file it came from, absolute. */
  readonly file: string;
  readonly openflow: ListenAddress;
  readonly channel: ListenAddress;
  readonly http: ListenAddress & { readonly socket?: string };
  readonly switches: readonly {
    readonly name: string;
    readonly dpid: Dpid;
    readonly access: 'any' | 'terminals';
  }[];
  /** Links between switches, which are trunks. */
  readonly links: readonly (readonly [PortRef, PortRef])[];
  readonly terminals: readonly ConfiguredTerminal[];
  readonly domains: readonly ConfiguredDomain[];
  readonly plugins: readonly ConfiguredPlugin[];
  readonly timings: z.infer<typeof timingsSchema>;
}

/**
 * Reads the configuration and the policies that it names; paths in it are relative to the file.
 * Fails with a `ConfigFileError` or a `YamlError` that says what to write.
 */
export async function loadConfig(path: string): Promise<ControllerConfig> {
  const file = resolve(path);
  const document = await loadYaml(path, fileSchema);
  const { data, lineOf } = document;
  const problems = crossChecks(data).map(({ path: at, message }): Problem => {
    const line = lineOf(at);
    return { ...(line === undefined ? {} : { line }), where: '', message };
  });
  if (problems.length > 0) {
    throw new YamlError(
      'invalid',
      path,
      problems.toSorted((a, b) => (a.line ?? 0) - (b.line ?? 0)),
    );
  }
  const folder = dirname(file);
  const { socket, http, domains, plugins, ...rest } = data;
  return {
    ...rest,
    file,
    http: socket === undefined ? http : { ...http, socket: resolve(folder, socket) },
    terminals: await loadTerminals(document, path),
    domains: domains.map((domain) =>
      domain.kind === 'remote' ? domain : { ...domain, serves: domain.serves ?? [domain.switch] },
    ),
    plugins: plugins.map(({ module, options }) => ({
      module: /^\.{0,2}\//.test(module) ? pathToFileURL(resolve(folder, module)).href : module,
      options,
    })),
  };
}

async function loadTerminals(
  { data, lineOf }: YamlDocument<ConfigFile>,
  path: string,
): Promise<ConfiguredTerminal[]> {
  const policies = new Map<string, Policy>();
  const loaded: ConfiguredTerminal[] = [];
  for (const [index, { policy: policyPath, ...terminal }] of data.terminals.entries()) {
    const policyFile = resolve(dirname(path), policyPath);
    let policy = policies.get(policyFile);
    try {
      policy ??= parsePolicy(await readTextFile(policyFile, MAX_POLICY_BYTES), policyFile);
    } catch (cause) {
      if (!(cause instanceof ConfigFileError)) throw cause;
      const line = lineOf(['terminals', index, 'policy']);
      const where = `terminals[${index}].policy`;
      const problem = { ...(line === undefined ? {} : { line }), where, message: cause.message };
      throw new YamlError('invalid', path, [problem], { cause });
    }
    policies.set(policyFile, policy);
    loaded.push({ terminal, policyFile, policy });
  }
  return loaded;
}

interface CrossProblem {
  readonly path: Path;
  readonly message: string;
}

/** What no single field shows: names used twice, names that do not exist, two domains for one switch. */
function crossChecks(config: ConfigFile): CrossProblem[] {
  const switches = [...new Set(config.switches.map((sw) => sw.name))];
  const known = (wanted: string, path: Path): CrossProblem[] =>
    switches.includes(wanted)
      ? []
      : [{ path, message: `there is no switch ${wanted} under switches; there are ${switches.join(', ')}` }];

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
    terminal.ipv4.length + terminal.ipv6.length > 0
      ? []
      : [
          {
            path: ['terminals', index],
            message: `terminal ${terminal.name} has no address: write at least one under ipv4 or ipv6`,
          },
        ],
  );
  return [
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
