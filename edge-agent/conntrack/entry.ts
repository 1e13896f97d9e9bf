/**
 * Connection -> the arguments that make `conntrack` insert, update or delete it. Pure.
 *
 * A file for `conntrack -R` has one command a line, in the words of the command line:
 * `-A` adds what is not there and leaves what is; `-D` deletes, and minds nothing that is not there.
 */
import type { Connection, TcpState } from '../../shared/firewall/connection.js';
import { familyOf } from '../../shared/firewall/terminal.js';
import { CONNECTION_MARKS } from '../iptables/names.js';
import { plainWord } from '../iptables/plain.js';

/**
 * Linux has more states than a connection here. CLOSE_WAIT stands for all of closing, because it takes data and FINs of either side in any
 * order; TIME_WAIT for closed: the last retransmissions pass, and a SYN opens anew.
 */
const TCP_STATES: Readonly<Record<TcpState, string>> = {
  opening: 'SYN_SENT',
  answered: 'SYN_RECV',
  established: 'ESTABLISHED',
  closing: 'CLOSE_WAIT',
  closed: 'TIME_WAIT',
};

/** Arguments of a command that adds the connection unless it is there, idle for at most `timeoutSeconds`. */
export function additionOf(connection: Connection, timeoutSeconds: number): readonly string[] {
  return [
    '-A',
    ...tupleOf(connection),
    ...stateOf(connection),
    '-m',
    markOf(connection),
    '-t',
    plainWord(timeoutSeconds),
  ];
}

/** Arguments of a command that gives an entry that is there this connection's state. */
export function updateOf(connection: Connection, timeoutSeconds: number): readonly string[] {
  return [
    '-U',
    ...tupleOf(connection),
    ...stateOf(connection),
    '-m',
    markOf(connection),
    '-t',
    plainWord(timeoutSeconds),
  ];
}

/** Arguments of a command that deletes the connection. */
export function deletionOf(connection: Connection): readonly string[] {
  return ['-D', ...tupleOf(connection)];
}

/** Arguments of commands that delete every connection of this address, whoever opened it. */
export function deletionsOf(address: string): readonly (readonly string[])[] {
  return ['-s', '-d'].map((end) => ['-D', end, plainWord(address)]);
}

/** Commands as one file for `conntrack -R -`. */
export function batchOf(commands: readonly (readonly string[])[]): string {
  return commands.map((command) => `${command.join(' ')}\n`).join('');
}

/** The original tuple: from whoever opened the connection to the other. */
function tupleOf(connection: Connection): readonly string[] {
  const fromTerminal = connection.opener === 'terminal';
  const source = fromTerminal ? connection.local.address : connection.remote.address;
  const destination = fromTerminal ? connection.remote.address : connection.local.address;
  const ends = ['-s', plainWord(source), '-d', plainWord(destination)];
  if (connection.protocol === 'icmp') {
    // The options of an echo request, which is what every echo begins with.
    return familyOf(source) === 'ipv4'
      ? ['-p', 'icmp', ...ends, '--icmp-type', '8', '--icmp-code', '0', '--icmp-id', plainWord(connection.id)]
      : [
          '-p',
          'icmpv6',
          ...ends,
          '--icmpv6-type',
          '128',
          '--icmpv6-code',
          '0',
          '--icmpv6-id',
          plainWord(connection.id),
        ];
  }
  const [sport, dport] = fromTerminal
    ? [connection.local.port, connection.remote.port]
    : [connection.remote.port, connection.local.port];
  return [
    '-p',
    plainWord(connection.protocol),
    ...ends,
    '--sport',
    plainWord(sport),
    '--dport',
    plainWord(dport),
  ];
}

/** To the kernel a loaded entry is open whatever its state says: a SYN begins another connection where the mark says that this one is over. */
function markOf(connection: Connection): string {
  const { admitted, over } = CONNECTION_MARKS;
  const isOver = connection.protocol === 'tcp' && connection.state === 'closed';
  return `${isOver ? admitted | over : admitted}`;
}

function stateOf(connection: Connection): readonly string[] {
  if (connection.protocol !== 'tcp')
    return connection.replied ? ['-u', repliedStatus(connection.protocol)] : [];
  const state = ['--state', TCP_STATES[connection.state]];
  switch (connection.state) {
    case 'opening':
      return state;
    case 'answered':
      return [...state, '-u', 'SEEN_REPLY'];
    case 'established':
    case 'closing':
    case 'closed':
      return [...state, '-u', 'SEEN_REPLY,ASSURED'];
  }
}

/** An assured entry is not dropped when the table is full. Linux never assures an echo. */
function repliedStatus(protocol: 'udp' | 'icmp'): string {
  return protocol === 'udp' ? 'SEEN_REPLY,ASSURED' : 'SEEN_REPLY';
}
