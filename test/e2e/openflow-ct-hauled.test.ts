/**
 * A firewall in a switch where its terminal is not: packets of the largest size and the answers to rejected ones take the tagged way
 * through the trunks, in both directions.
 */
import '../lab/enter.js';
import t, { type Test } from 'tap';
import { startCapture } from '../harness/hosts/index.js';
import { Paguro } from '../harness/paguro.js';
import { waitFor } from '../lab/index.js';

const POLICY = `
name: hauled
defaults: { outbound: accept, inbound: reject }
rules:
  - { name: no 81, direction: outbound, action: reject, protocol: tcp, remotePorts: 81 }
  - { name: no 7001, direction: outbound, action: reject, protocol: udp, remotePorts: 7001 }
  - { name: ping, direction: inbound, action: accept, protocol: icmp }
`;
const FAMILIES = ['ipv4', 'ipv6'] as const;
/** Of an echo that makes a packet of 1,500 bytes. */
const LARGEST = { ipv4: 1500 - 20 - 8, ipv6: 1500 - 40 - 8 } as const;
const HEADERS = { ipv4: 28, ipv6: 48 } as const;

/** What a socket says that opens this: "" when it is answered, otherwise the error. */
const ATTEMPT = `
import socket, sys
kind, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
sock.settimeout(2)
try:
    sock.connect((address, port))
    sock.send(b"hello")
    sock.recv(1)
except OSError as error:
    print(error)
`;

t.setTimeout(120_000);
const paguro = await Paguro.start({ policy: POLICY, docker: false, agents: [] });
t.teardown(() => paguro.close());
const [alice, server] = [paguro.host('h1'), paguro.host('h2')];

async function attempt(
  from: typeof alice,
  to: typeof alice,
  kind: 'tcp' | 'udp',
  family: 'ipv4' | 'ipv6',
  port: number,
) {
  const { stdout } = await from.exec('python3', ['-c', ATTEMPT, kind, to[family], `${port}`]);
  return stdout.trim();
}

async function check(t: Test, where: string): Promise<void> {
  for (const family of FAMILIES) {
    for (const [from, to] of [
      [alice, server],
      [server, alice],
    ] as const) {
      const label = `${where}, ${family}, from ${from.name}`;
      const capture = await startCapture(to, { filter: [family === 'ipv4' ? 'icmp' : 'icmp6'] });
      const args = ['-c', '3', '-i', '0.2', '-w', '5', '-M', 'do', '-s', `${LARGEST[family]}`, to[family]];
      const { stdout } = await from.exec('ping', args);
      t.match(
        stdout,
        / 3 received/,
        `${label}: packets of 1,500 bytes that may not be cut, and their replies`,
      );
      await capture.close();
      const sizes = new Set(
        capture
          .frames()
          .map(({ data }) => data.length)
          .filter((size) => size > 1000),
      );
      t.same([...sizes], [14 + HEADERS[family] + LARGEST[family]], 'they are whole on the wire');
      const [tcp, udp] = from === alice ? [81, 7001] : [82, 7002];
      const quiet = await startCapture(to, { filter: ['port', `${tcp}`, 'or', 'port', `${udp}`] });
      t.match(await attempt(from, to, 'tcp', family, tcp), /refused/, `${label}: a connection is refused`);
      t.match(await attempt(from, to, 'udp', family, udp), /refused/, `${label}: a datagram, too`);
      await quiet.close();
      t.equal(quiet.frames().length, 0, 'and not by the host that they were for: it has seen nothing');
    }
    // Control: what the policy accepts is seen there.
    const seen = await startCapture(server, { filter: ['port', '83'] });
    t.match(await attempt(alice, server, 'tcp', family, 83), /refused/);
    await seen.close();
    t.ok(seen.frames().length > 0, `control: ${where}, ${family}`);
  }
}

await t.test('where the terminal is', async (t) => {
  await paguro.attach('alice', 'h1', 'sdn-1');
  await check(t, 'at home');
});

await t.test('hauled', async (t) => {
  await paguro.api.setPlacement('alice', 'stay');
  const { attachment: home } = await paguro.terminal('alice');
  await paguro.move('h1', 's2');
  const frames = alice.exec('ping', ['-c', '20', '-i', '0.1', '-w', '3', server.ipv4]).catch(() => undefined);
  await waitFor('attached elsewhere', async () => {
    const { attachment } = await paguro.terminal('alice');
    return attachment !== null && attachment.switch !== home?.switch;
  });
  await frames;
  t.match(await paguro.terminal('alice'), { active: { domain: 'sdn-1' } }, 'the firewall is where it was');
  await check(t, 'hauled');
});
