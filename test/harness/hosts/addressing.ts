/**
 * Real programs that give addresses and take them: dnsmasq as a DHCP server that advertises routes as well, BusyBox's DHCP client, and the
 * kernel's own address autoconfiguration.
 */
import type { ChildProcess } from 'node:child_process';
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { waitFor } from '../../lab/wait.js';
import type { Host } from './host.js';

const START_MS = 10_000;
const STOP_MS = 5_000;

/** A program in a host that runs until it is closed. */
export interface Running {
  /** Sends a signal. */
  signal(name: NodeJS.Signals): void;
  /** May be called twice. */
  close(): Promise<void>;
}

function running(child: ChildProcess): Running & { readonly said: () => string } {
  let text = '';
  let ended = false;
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding('utf8').on('data', (piece: string) => {
      text = (text + piece).slice(-64_000);
    });
  child.once('close', () => {
    ended = true;
  });
  return {
    said: () => text,
    signal: (name) => void child.kill(name),
    close: async () => {
      child.kill('SIGTERM');
      await waitFor('a program ends', () => ended, { timeoutMs: STOP_MS }).catch(() => child.kill('SIGKILL'));
    },
  };
}

export interface ServerOptions {
  /** The first and the last IPv4 address to give. */
  readonly ipv4: readonly [string, string];
  readonly leaseSeconds: number;
  /** The IPv6 network to advertise: hosts make addresses in it themselves. */
  readonly ipv6: string;
}

/** DHCP for IPv4 and router advertisements for IPv6, from a host of the network. `folder` takes its leases. */
export async function startAddressServer(
  host: Host,
  folder: string,
  { ipv4: [first, last], leaseSeconds, ipv6 }: ServerOptions,
): Promise<Running> {
  const args = [
    ...['--keep-in-foreground', '--conf-file=/dev/null', '--user=root', '--pid-file', '--log-facility=-'],
    // No DNS, and no question on the wire whether an address is in use.
    ...['--port=0', '--no-ping', '--dhcp-authoritative', '--log-dhcp'],
    ...[`--interface=${host.interface}`, '--bind-interfaces', `--dhcp-leasefile=${join(folder, 'leases')}`],
    ...[
      `--dhcp-range=${first},${last},${leaseSeconds}`,
      '--enable-ra',
      `--dhcp-range=${ipv6},ra-only,64,3600`,
    ],
  ];
  const server = running(host.spawn('dnsmasq', args, { stdio: ['ignore', 'pipe', 'pipe'] }));
  await waitFor('dnsmasq serves', () => server.said().includes('started'), { timeoutMs: START_MS });
  return server;
}

export interface Client extends Running {
  /** What has happened so far: `bound 10.0.0.100`, `renew 10.0.0.100`, `deconfig `. */
  events(): Promise<readonly string[]>;
  /** The address of the first lease, and whether the very first packet from it was answered. */
  bound(): Promise<{ readonly address: string; readonly answered: boolean }>;
}

/** In the moment in which the client has an address it sends one packet from it, once. */
const SCRIPT = `#!/bin/sh
echo "$1 $ip" >> "$PAGURO_EVENTS"
if [ "$1" = bound ]; then
  ip addr replace "$ip/24" dev "$interface"
  ping -q -c 1 -W 2 -I "$ip" "$PAGURO_PEER" > /dev/null && result=answered || result=unanswered
  echo "$result $ip" >> "$PAGURO_EVENTS"
fi
`;

export interface ClientOptions {
  /** Whom the first packet from a new address asks for an answer: an IPv4 address. */
  readonly peer: string;
  /** Hexadecimal: asks in another name than its MAC. */
  readonly id?: string;
}

/** BusyBox's DHCP client in a host. SIGUSR1 renews its lease, SIGUSR2 gives it back. */
export async function startDhcpClient(
  host: Host,
  folder: string,
  { peer, id }: ClientOptions,
): Promise<Client> {
  const [script, events] = [join(folder, 'dhcp-script'), join(folder, `dhcp-events-${id ?? 'mac'}`)];
  await writeFile(script, SCRIPT);
  await chmod(script, 0o755);
  await writeFile(events, '');
  const args = ['udhcpc', '-f', '-i', host.interface, '-s', script, '-t', '20', '-T', '1', '-A', '1'];
  const child = host.spawn('busybox', [...args, ...(id === undefined ? [] : ['-C', '-x', `0x3d:${id}`])], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, PAGURO_EVENTS: events, PAGURO_PEER: peer },
  });
  const client = running(child);
  const read = async (): Promise<string[]> => (await readFile(events, 'utf8')).split('\n').filter(Boolean);
  return {
    signal: client.signal,
    close: client.close,
    events: read,
    bound: () =>
      waitFor(
        'a DHCP lease',
        async () => {
          const [, result, address = ''] =
            /^(answered|unanswered) (.*)$/m.exec((await read()).join('\n')) ?? [];
          return result !== undefined && { address, answered: result === 'answered' };
        },
        { timeoutMs: 20_000, intervalMs: 20 },
      ),
  };
}

/** The host's kernel takes no notice of routers that advertise, until `autoconfigure`. */
export async function ignoreRouters(host: Host): Promise<void> {
  await host.exec('sysctl', ['-qw', `net.ipv6.conf.${host.interface}.accept_ra=0`]);
}

/** From now on the host's kernel probes for IPv6 addresses before it uses them, and makes stable and temporary ones when a router advertises. */
export async function autoconfigure(host: Host): Promise<void> {
  const settings = {
    accept_dad: 1,
    dad_transmits: 1,
    accept_ra: 1,
    autoconf: 1,
    use_tempaddr: 2,
    router_solicitations: 3,
  };
  await host.exec('sysctl', [
    '-qw',
    ...Object.entries(settings).map(([name, value]) => `net.ipv6.conf.${host.interface}.${name}=${value}`),
  ]);
}

const addressSchema = z.array(
  z.object({
    addr_info: z.array(
      z.object({
        local: z.string().optional(),
        scope: z.string().optional(),
        dynamic: z.boolean().optional(),
        temporary: z.boolean().optional(),
        tentative: z.boolean().optional(),
        dadfailed: z.boolean().optional(),
      }),
    ),
  }),
);

export interface KernelAddress {
  readonly address: string;
  readonly temporary: boolean;
  readonly tentative: boolean;
  /** Duplicate address detection found somebody else. */
  readonly failed: boolean;
}

/** The host's global IPv6 addresses, as its kernel has them. */
export async function kernelAddresses(host: Host): Promise<readonly KernelAddress[]> {
  const { stdout } = await host.exec('ip', ['-6', '-json', 'address', 'show', 'dev', host.interface]);
  return addressSchema
    .parse(JSON.parse(stdout))
    .flatMap(({ addr_info }) =>
      addr_info.flatMap(({ local, scope, temporary = false, tentative = false, dadfailed = false }) =>
        local === undefined || scope !== 'global'
          ? []
          : [{ address: local, temporary, tentative, failed: dadfailed }],
      ),
    );
}
