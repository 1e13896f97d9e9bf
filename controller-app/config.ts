/**
 * The controller's configuration: a YAML file and the policies it names.
 */
import { dirname, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { z } from 'zod';
import type { Dpid } from '../shared/domain/domain.js';
import type { Policy } from '../shared/firewall/policy.js';
import type { Family, Terminal } from '../shared/firewall/terminal.js';
import { type Problem, type YamlDocument, YamlError } from '../shared/firewall/yaml-text.js';
import { ConfigFileError } from '../shared/runtime/text-file.js';
import { loadPolicy, loadYaml } from '../shared/runtime/yaml-config.js';
import { type TlsFiles, tlsFilesIn } from '../shared/tls/index.js';
import { crossChecks } from './config-checks.js';
import {
  type ConfigFile,
  fileSchema,
  type ListenAddress,
  type PortRef,
  type timingsSchema,
} from './config-file.js';

/** `terminal` is as `shared/firewall` has it; `policyFile` is absolute. */
export interface ConfiguredTerminal {
  /** With the addresses that it always has. */
  readonly terminal: Terminal;
  /** Prefixes, `address/length`, within which it may learn others. */
  readonly learn: Readonly<Record<Family, readonly string[]>>;
  /** Names of domains. */
  readonly standbys: readonly string[];
  readonly attachments: number;
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
  /** Of channel and OpenFlow; absolute paths. */
  readonly tls?: TlsFiles;
  /** The folder of the store, absolute; undefined: nothing outlives the controller. */
  readonly store: string | undefined;
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
  const { socket, http, tls, store, domains, plugins, ...rest } = data;
  return {
    ...rest,
    file,
    ...(tls && { tls: tlsFilesIn(folder, tls) }),
    http: socket === undefined ? http : { ...http, socket: resolve(folder, socket) },
    store: store === false ? undefined : resolve(folder, store),
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
  for (const [
    index,
    { policy: policyPath, learn, standbys, attachments, ...terminal },
  ] of data.terminals.entries()) {
    const policyFile = resolve(dirname(path), policyPath);
    let policy = policies.get(policyFile);
    try {
      policy ??= await loadPolicy(policyFile);
    } catch (cause) {
      if (!(cause instanceof ConfigFileError)) throw cause;
      const line = lineOf(['terminals', index, 'policy']);
      const where = `terminals[${index}].policy`;
      const problem = { ...(line === undefined ? {} : { line }), where, message: cause.message };
      throw new YamlError('invalid', path, [problem], { cause });
    }
    policies.set(policyFile, policy);
    loaded.push({ terminal, learn, standbys, attachments, policyFile, policy });
  }
  return loaded;
}
