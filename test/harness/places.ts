/**
 * A network with a firewall's domain of either kind on both sides, for handovers in every direction. Pure.
 *
 *   h1 ── s1 (sdn-1) ──╮            ╭── s4 (sdn-2)
 *                      s3 ── h2, h3
 *         s2 (edge-1) ─╯            ╰── s5 (edge-2)
 */
import type { NetworkSpec } from '../lab/index.js';
import type { AgentSpec } from './configuration.js';
import type { PaguroOptions } from './paguro.js';

export const PLACES = ['sdn-1', 'edge-1', 'sdn-2', 'edge-2'] as const;
export type Place = (typeof PLACES)[number];

/** The switch that a domain serves. */
export const SWITCH_OF: Readonly<Record<Place, string>> = {
  'sdn-1': 's1',
  'edge-1': 's2',
  'sdn-2': 's4',
  'edge-2': 's5',
};

const CORE = 's3';
const SWITCHES = ['s1', 's2', CORE, 's4', 's5'] as const;
const LEAVES = SWITCHES.filter((name) => name !== CORE);

const NETWORK: NetworkSpec = {
  switches: SWITCHES.map((name, index) => ({ name, dpid: index + 1 })),
  links: LEAVES.map((leaf) => [leaf, CORE] as const),
};

const AGENTS: readonly AgentSpec[] = [
  { name: 'edge-1', bridge: SWITCH_OF['edge-1'] },
  { name: 'edge-2', bridge: SWITCH_OF['edge-2'] },
];

export interface PlacesOptions {
  /** The domains that hold a standby of alice's firewall. Default: none. */
  readonly standbys?: readonly Place[];
  /** Lines of the configuration's `timings`. Default: none. */
  readonly timings?: Readonly<Record<string, number>>;
}

/** What `Paguro.start` takes for this network. */
export function places({ standbys = [], timings = {} }: PlacesOptions = {}): PaguroOptions & {
  readonly agents: readonly AgentSpec[];
} {
  return { network: NETWORK, agents: AGENTS, controller: controllerYaml(standbys, timings) };
}

function controllerYaml(standbys: readonly Place[], timings: Readonly<Record<string, number>>): string {
  const lines = [
    'switches:',
    ...SWITCHES.map((name, index) => {
      const access = name === CORE ? '' : ', access: terminals';
      return `  - { name: ${name}, dpid: ${index + 1}${access} }`;
    }),
    'links:',
    ...LEAVES.map((leaf, index) => `  - ["${leaf}:${leaf}-eth1", "${CORE}:${CORE}-eth${index + 1}"]`),
    'terminals:',
    '  - name: alice',
    '    mac: 02:00:00:00:00:01',
    '    ipv4: [10.0.0.1]',
    '    ipv6: ["fd00::1"]',
    '    policy: policy-phone.yaml',
    `    standbys: [${standbys.join(', ')}]`,
    'domains:',
    ...PLACES.map((place) =>
      place.startsWith('sdn')
        ? `  - { name: ${place}, kind: openflow-ct, switch: ${SWITCH_OF[place]} }`
        : `  - { name: ${place}, kind: remote, serves: [${SWITCH_OF[place]}] }`,
    ),
    ...(Object.keys(timings).length > 0 ? ['timings:'] : []),
    ...Object.entries(timings).map(([name, value]) => `  ${name}: ${value}`),
  ];
  return `${lines.join('\n')}\n`;
}
