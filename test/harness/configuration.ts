/**
 * The examples' configuration files, changed for a lab. Pure, on text: what the examples say is what is tried.
 */

/** An edge agent of the lab. */
export interface AgentSpec {
  /** That of its domain in the controller's configuration. */
  readonly name: string;
  /** The bridge that it runs beside. */
  readonly bridge: string;
  /** The port that it dials, where something stands between it and the controller. Default: the controller's own. */
  readonly dials?: number;
}

/** Where agents dial, in the example. */
const CHANNEL_PORT = /^(controller: \w+:\/\/[^/]*:)\d+/m;

/** The agent's example, with another name, bridge and port. */
export function asAgent(example: string, { name, bridge, dials }: AgentSpec): string {
  const named = example.replace(/^name: .*$/m, `name: ${name}`).replace(/^bridge: .*$/m, `bridge: ${bridge}`);
  return dials === undefined ? named : named.replace(CHANNEL_PORT, `$1${dials}`);
}

/** The agent's configuration, for a controller with TLS; `tls` is the section. */
export function overTls(agentYaml: string, tls: string): string {
  return `${agentYaml.replace('ws://', 'wss://')}\n${tls}`;
}

/** What alice has beside the example's lines. */
export interface OfAlice {
  /** Domains that keep a standby of her firewall. Default: none. */
  readonly standbys?: readonly string[];
  /** On how many ports she may be at once. Default: 1. */
  readonly attachments?: 1 | 2;
}

/** More lines of the example's terminal. */
export function ofAlice(controllerYaml: string, { standbys = [], attachments = 1 }: OfAlice): string {
  const lines = `$&\n$1standbys: [${standbys.join(', ')}]\n$1attachments: ${attachments}`;
  return controllerYaml.replace(/^( *)policy: .*$/m, lines);
}

/** Alice may learn addresses. The example has the line, commented out. */
export function mayLearn(controllerYaml: string): string {
  return controllerYaml.replace('    # learn:', '    learn:');
}

/** Without the timings, for others to be appended. */
export function withoutTimings(controllerYaml: string): string {
  return controllerYaml.replace(/^timings:(\n.*)*/m, '');
}
