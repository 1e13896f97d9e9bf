/**
 * The frames that no firewall may let pass, as named cases. Pure. Each is unlike every other of every round, byte for byte: switches
 * do not change what they forward, so the very bytes are looked for at the far end.
 */
import { type Family, familyOf, linkLocalOf } from '../../../shared/firewall/terminal.js';
import {
  arp,
  ETHERTYPE,
  type Ethernet,
  ethernet,
  experimentalOption,
  type Ip,
  neighbourAdvertisement,
  redirect,
  routerAdvertisement,
  TCP_FLAGS,
  tagged,
  tcp,
  udp,
} from './frames.js';
import type { Addresses } from './host.js';

/** Who sends, and where the frame would come out. */
export type Role = 'terminal' | 'server' | 'stranger';

export interface ForbiddenCase {
  readonly name: string;
  /** `link`: no IP at all. */
  readonly family: Family | 'link';
  readonly from: Role;
  readonly seenAt: 'terminal' | 'server';
  readonly frame: Buffer;
}

export interface ForbiddenOptions {
  readonly terminal: Addresses;
  readonly server: Addresses;
  readonly stranger: Addresses;
  /** A port that the policy opens outbound, TCP: what is wrong with the frame is then something else. */
  readonly openPort: number;
  /** Ports that the policy closes outbound. */
  readonly closedTcpPort: number;
  readonly closedUdpPort: number;
  /** Addresses of the network that nobody has given to anybody; without them frames from such addresses are not among the cases. */
  readonly neverGiven?: Readonly<Record<Family, string>>;
  /** VLAN ids to try, such as those that steering uses on trunks. Default 5. */
  readonly vlans?: readonly number[];
  /** 0…250: makes the frames of one round unlike those of another. */
  readonly round: number;
}

const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];
const CASES_A_ROUND = 200;
const FIRST_PORT = 10_000;
/** A port of the terminal that no policy opens to anybody. */
const CLOSED_INBOUND_PORT = 8_022;
const ALL_NODES = { ip: 'ff02::1', mac: '33:33:00:00:00:01' };
const { fin, syn, rst, psh, ack } = TCP_FLAGS;
/** A connection nobody opened, whichever of its packets comes first. */
const MID_STREAM = [
  { name: 'SYN-ACK', flags: syn | ack },
  { name: 'ACK', flags: ack },
  { name: 'data', flags: psh | ack },
  { name: 'FIN', flags: fin | ack },
  { name: 'RST', flags: rst },
  { name: 'RST-ACK', flags: rst | ack },
] as const;

/** All cases of a round, to be sent in this order. */
export function forbiddenFrames(options: ForbiddenOptions): readonly ForbiddenCase[] {
  const cases: ForbiddenCase[] = [];
  const add = (make: (mark: Mark) => ForbiddenCase): void => {
    cases.push(make(markOf(options.round, cases.length)));
  };
  for (const family of FAMILIES) {
    fromTerminal(options, family, add);
    toTerminal(options, family, add);
    if (options.neverGiven) fromNeverGiven(options, options.neverGiven[family], add);
  }
  onTheLink(options, add);
  return cases;
}

interface Mark {
  readonly port: number;
  readonly sequence: number;
  readonly payload: Buffer;
}

type Add = (make: (mark: Mark) => ForbiddenCase) => void;

function markOf(round: number, index: number): Mark {
  const number = round * CASES_A_ROUND + index;
  return {
    port: FIRST_PORT + number,
    sequence: 0x5000_0000 + number * 16,
    payload: Buffer.from(`paguro forbidden ${round}/${index}`),
  };
}

function fromTerminal(options: ForbiddenOptions, family: Family, add: Add): void {
  const { terminal, server, stranger, openPort, closedTcpPort, closedUdpPort } = options;
  const link: Ethernet = { from: terminal.mac, to: server.mac };
  const ip: Ip = { source: terminal[family], destination: server[family] };
  const common = { family, from: 'terminal', seenAt: 'server' } as const;
  const opening = ({ port, sequence }: Mark, destinationPort: number) => ({
    ...{ sourcePort: port, destinationPort, flags: syn, sequence },
  });
  for (const { name, flags } of MID_STREAM) {
    add((mark) => ({
      name: `${name} of a connection nobody opened, from the terminal`,
      ...common,
      frame: tcp(link, ip, midStream(mark, flags, mark.port, openPort)),
    }));
  }
  add((mark) => ({
    name: `SYN to TCP port ${closedTcpPort}, which the policy closes`,
    ...common,
    frame: tcp(link, ip, opening(mark, closedTcpPort)),
  }));
  add(({ port, payload }) => ({
    name: `datagram to UDP port ${closedUdpPort}, which the policy closes`,
    ...common,
    frame: udp(link, ip, { sourcePort: port, destinationPort: closedUdpPort, payload }),
  }));
  add((mark) => ({
    name: "SYN from the terminal with somebody else's address",
    ...common,
    frame: tcp(link, { ...ip, source: stranger[family] }, opening(mark, openPort)),
  }));
  add((mark) => ({
    name: "SYN from the terminal with somebody else's MAC",
    ...common,
    frame: tcp({ ...link, from: stranger.mac }, ip, opening(mark, openPort)),
  }));
  if (family === 'ipv4') {
    const claim = arp(link, {
      ...{ operation: 'reply', senderMac: terminal.mac, senderIp: stranger.ipv4 },
      ...{ targetMac: server.mac, targetIp: server.ipv4 },
    });
    add((mark) => ({
      name: "ARP reply from the terminal with somebody else's address",
      ...common,
      frame: padded(claim, mark),
    }));
  } else {
    // Their mark is an option: a Linux bridge with iptables cuts off what follows an IP packet, and the frame would go unseen.
    add(({ payload }) => ({
      name: "neighbour advertisement from the terminal of somebody else's address",
      ...common,
      frame: neighbourAdvertisement(link, ip, stranger.ipv6, terminal.mac, experimentalOption(payload)),
    }));
    const toAll = { source: linkLocalOf(terminal.mac), destination: ALL_NODES.ip };
    const all: Ethernet = { from: terminal.mac, to: ALL_NODES.mac };
    add(({ payload }) => ({
      name: 'router advertisement from the terminal',
      ...common,
      frame: routerAdvertisement(all, toAll, terminal.mac, experimentalOption(payload)),
    }));
  }
}

/** From the terminal, with an address that would be right if somebody had given it. */
function fromNeverGiven({ terminal, server, openPort }: ForbiddenOptions, address: string, add: Add): void {
  const family = familyOf(address);
  const link: Ethernet = { from: terminal.mac, to: server.mac };
  const ip: Ip = { source: address, destination: server[family] };
  const common = { family, from: 'terminal', seenAt: 'server' } as const;
  add(({ port, sequence }) => ({
    name: 'SYN from an address that nobody gave the terminal',
    ...common,
    frame: tcp(link, ip, { sourcePort: port, destinationPort: openPort, flags: syn, sequence }),
  }));
  add(({ port, payload }) => ({
    name: 'datagram from an address that nobody gave the terminal',
    ...common,
    frame: udp(link, ip, { sourcePort: port, destinationPort: openPort, payload }),
  }));
  if (family === 'ipv4') {
    const claim = arp(link, {
      ...{ operation: 'request', senderMac: terminal.mac, senderIp: address },
      ...{ targetMac: '00:00:00:00:00:00', targetIp: server.ipv4 },
    });
    add((mark) => ({
      name: 'ARP request from an address that nobody gave the terminal',
      ...common,
      frame: padded(claim, mark),
    }));
    add(({ payload }) => ({
      name: 'DHCP message from an address that nobody gave the terminal',
      ...common,
      frame: udp(link, ip, { sourcePort: 68, destinationPort: 67, payload }),
    }));
  } else {
    add(({ payload }) => ({
      name: 'neighbour advertisement of an address that nobody gave the terminal',
      ...common,
      frame: neighbourAdvertisement(link, ip, address, terminal.mac, experimentalOption(payload)),
    }));
  }
}

function toTerminal(options: ForbiddenOptions, family: Family, add: Add): void {
  const { terminal, openPort } = options;
  const senders = [
    { from: 'server', host: options.server },
    { from: 'stranger', host: options.stranger },
  ] as const;
  for (const { from, host } of senders) {
    const link: Ethernet = { from: host.mac, to: terminal.mac };
    const ip: Ip = { source: host[family], destination: terminal[family] };
    const common = { family, from, seenAt: 'terminal' } as const;
    add(({ port, sequence }) => ({
      name: `unsolicited SYN from the ${from}`,
      ...common,
      frame: tcp(link, ip, { sourcePort: port, destinationPort: CLOSED_INBOUND_PORT, flags: syn, sequence }),
    }));
    add(({ port, payload }) => ({
      name: `unsolicited datagram from the ${from}`,
      ...common,
      frame: udp(link, ip, { sourcePort: openPort, destinationPort: port, payload }),
    }));
    for (const { name, flags } of MID_STREAM) {
      add((mark) => ({
        name: `${name} of a connection nobody opened, from the ${from}`,
        ...common,
        frame: tcp(link, ip, midStream(mark, flags, openPort, mark.port)),
      }));
    }
  }
  add((mark) => ({
    name: 'ICMP redirect from the stranger',
    family,
    from: 'stranger',
    seenAt: 'terminal',
    frame: redirection(options, family, mark),
  }));
}

/** "What you send to the server, send to me": about a connection that looks alive. */
function redirection(
  { terminal, server, stranger, openPort }: ForbiddenOptions,
  family: Family,
  mark: Mark,
): Buffer {
  const link: Ethernet = { from: stranger.mac, to: terminal.mac };
  const alive = tcp(
    { from: terminal.mac, to: server.mac },
    { source: terminal[family], destination: server[family] },
    midStream(mark, ack, mark.port, openPort),
  );
  const about = alive.subarray(14, 14 + (family === 'ipv4' ? 20 + 8 : 40 + 20));
  const gateway = family === 'ipv4' ? stranger.ipv4 : linkLocalOf(stranger.mac);
  return redirect(link, { source: gateway, destination: terminal[family] }, gateway, server[family], about);
}

function onTheLink(options: ForbiddenOptions, add: Add): void {
  const { terminal, server, stranger, openPort, vlans = [5] } = options;
  const ways = [
    { from: 'terminal', source: terminal, seenAt: 'server', to: server },
    { from: 'stranger', source: stranger, seenAt: 'terminal', to: terminal },
  ] as const;
  for (const { from, source, seenAt, to } of ways) {
    const link: Ethernet = { from: source.mac, to: to.mac };
    const common = { family: 'link', from, seenAt } as const;
    for (const vlan of vlans) {
      add(({ port, sequence }) => ({
        name: `frame with VLAN tag ${vlan} from the ${from}`,
        ...common,
        frame: tagged(
          tcp(
            link,
            { source: source.ipv4, destination: to.ipv4 },
            { sourcePort: port, destinationPort: openPort, flags: syn, sequence },
          ),
          vlan,
        ),
      }));
    }
    add(({ payload }) => ({
      name: `unknown ethertype 0x88b5 from the ${from}`,
      ...common,
      frame: ethernet(link, ETHERTYPE.experimental, payload),
    }));
  }
}

/** Ethernet frames may be longer than the packet in them: the mark of an ARP packet, which has no room for one. */
function padded(frame: Buffer, { payload }: Mark): Buffer {
  return Buffer.concat([frame, payload]);
}

function midStream(mark: Mark, flags: number, sourcePort: number, destinationPort: number) {
  const { sequence, payload } = mark;
  const acknowledges = (flags & ack) !== 0;
  return {
    ...{ sourcePort, destinationPort, flags, sequence },
    ...(acknowledges ? { acknowledgement: sequence ^ 0x0f0f_0f0f } : {}),
    ...((flags & psh) !== 0 ? { payload } : {}),
  };
}
