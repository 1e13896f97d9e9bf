/**
 * Does a firewall at the edge admit a new connection? Asked of its container itself, whatever steering does: an opening that the policy
 * permits goes into its terminal's end, and is looked for at its network's end. So a firewall that steering leads nothing to, and that nobody
 * can talk to, is seen to be fenced, or not.
 */
import { z } from 'zod';
import { END_PORT_PREFIX } from '../../../shared/domain/ends.js';
import { run } from '../../../shared/runtime/command.js';
import { frames, Host, startCapture, startInjector } from '../hosts/index.js';
import type { Paguro } from '../paguro.js';

/** The policy opens it outbound; nothing listens there. */
const PORT = 5_998;
const FIRST_SOURCE_PORT = 40_000;
const SOURCE_PORTS = 20_000;
let asked = 0;

/** As `ip -json link` tells; of links that are not asked for it tells nothing. */
const linksSchema = z.array(z.object({ ifname: z.string().optional() }));

interface Ends {
  readonly terminalSide: string;
  readonly networkSide: string;
}

/** For each instance whose ends are ports of the bridge and up: whether it admits. */
export async function admissions(paguro: Pick<Paguro, 'host'>, bridge: string): Promise<readonly boolean[]> {
  const found: boolean[] = [];
  for (const ends of await endsOn(bridge)) found.push(await admits(paguro, ends));
  return found;
}

async function endsOn(bridge: string): Promise<readonly Ends[]> {
  const { stdout } = await run('ovs-vsctl', ['list-ports', bridge]);
  const up = new Set(
    linksSchema
      .parse(JSON.parse((await run('ip', ['-json', 'link', 'show', 'up'])).stdout))
      .map(({ ifname }) => ifname),
  );
  const pattern = new RegExp(`^${END_PORT_PREFIX}[0-9a-f]{4}t\\d+$`);
  return (
    stdout
      .split('\n')
      .filter((name) => pattern.test(name))
      .map((name) => ({ terminalSide: name, networkSide: name.replace(/t(\d+)$/, 'n$1') }))
      // Ports that wait for the next instance are down, and nothing is behind them.
      .filter(({ terminalSide, networkSide }) => up.has(terminalSide) && up.has(networkSide))
  );
}

async function admits(paguro: Pick<Paguro, 'host'>, ends: Ends): Promise<boolean> {
  const [terminal, server] = [paguro.host('h1'), paguro.host('h2')];
  // What the container lets out comes in at the outer side of its network's end.
  // Without a filter: tcpdump counts what came before its filter was in force, and never shows it.
  const capture = await startCapture(interfaceHere(ends.networkSide));
  // Not before: whatever fails by then leaves no helper behind that would keep the program waiting.
  const injector = startInjector(interfaceHere(ends.terminalSide));
  try {
    const openings = (['ipv4', 'ipv6'] as const).map((family) => {
      asked += 1;
      return frames.tcp(
        { from: terminal.mac, to: server.mac },
        { source: terminal[family], destination: server[family] },
        {
          sourcePort: FIRST_SOURCE_PORT + (asked % SOURCE_PORTS),
          destinationPort: PORT,
          flags: frames.TCP_FLAGS.syn,
          sequence: 0x6000_0000 + asked,
        },
      );
    });
    await injector.send(openings);
    // A container forwards in the sender's own context: what it lets pass has passed when the kernel has taken the frame.
    await capture.flush();
    return openings.some((frame) => capture.saw(frame));
  } finally {
    await Promise.all([injector.close(), capture.close()]);
  }
}

/** An interface of the lab itself, as the tools for hosts take it. */
function interfaceHere(name: string): Host {
  return new Host('the lab', {
    ...{ pid: process.pid, interface: name, switch: '', port: '' },
    ...{ mac: '', ipv4: '', ipv6: '' },
  });
}
