/**
 * A connection table in columns: sorted, delta-coded, a few bytes a connection. Pure.
 *
 *   version (1)
 *   count of connections
 *   local addresses that are not the terminal's own: how many IPv4, IPv6; then each in full
 *   remote addresses, each once, ascending: IPv4 as differences; IPv6 as what differs from the one before
 *   service ports (of the end that was called), each once, ascending, as differences
 *   runs: how many; then kind, local address, length and longest time left of each
 *   columns: remote address | service port | calling port or echo id | time left
 *
 * A *kind* is protocol, opener and state in one number. A *run* is what has the same kind and local address. Within a run connections are sorted by
 * remote address, service port, calling port, so that most differences are one byte. Numbers are LEB128 where nothing else is said.
 * What is decoded is in this order, and valid by construction: it need not pass through `connectionSchema` again.
 */
import type { Connection, Opener } from '../firewall/connection.js';
import { MAX_CONNECTIONS } from '../firewall/state.js';
import type { Terminal } from '../firewall/terminal.js';
import { LocalAddresses, RemoteAddresses } from './address-tables.js';
import { ByteReader, BytesError, ByteWriter } from './bytes.js';
import { KINDS, type Kind, kindOf } from './connection-kinds.js';

const VERSION = 1;
/** As `timeLeftSeconds` of `connectionSchema`. */
const MAX_TIME_LEFT_SECONDS = 432_000;
/** More than a terminal ever has; and this many times the kinds times the remote addresses times the ports is less than 2^53. */
const MAX_LOCALS = 4096;
/** Each connection has at least one byte in the columns of address, caller and time. */
const LEAST_BYTES = 3;

export class ConnectionsError extends Error {
  override readonly name = 'ConnectionsError';
  readonly code = 'bad-connections';
}

/** Encodes a table. A connection that `connectionSchema` would refuse throws a ConnectionsError. The order is not kept. */
export function encodeConnections(
  connections: readonly Connection[],
  terminal: Terminal,
): Uint8Array<ArrayBuffer> {
  return guarded('the connections cannot be encoded', () => encode(connections, terminal));
}

/** Decodes a table of the same terminal. Whatever the bytes are, it returns valid connections or throws a ConnectionsError. */
export function decodeConnections(bytes: Uint8Array, terminal: Terminal): Connection[] {
  return guarded('the connection table is malformed', () => decode(bytes, terminal));
}

function guarded<T>(what: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    if (!(cause instanceof BytesError)) throw cause;
    throw new ConnectionsError(`${what}: ${cause.message}`, { cause });
  }
}

interface Run {
  readonly kind: Kind;
  readonly localIndex: number;
  readonly from: number;
  readonly to: number;
}

function encode(connections: readonly Connection[], terminal: Terminal): Uint8Array<ArrayBuffer> {
  const count = connections.length;
  if (count > MAX_CONNECTIONS) throw new BytesError(`${count} are more than ${MAX_CONNECTIONS}`);
  const locals = new LocalAddresses(terminal);
  const remotes = new RemoteAddresses();
  const group = new Uint32Array(count);
  const remote = new Uint32Array(count);
  const service = new Uint16Array(count);
  const caller = new Uint16Array(count);
  const time = new Uint32Array(count);
  const services = new Set<number>();
  for (const [i, connection] of connections.entries()) {
    const local = locals.add(connection.local.address);
    remote[i] = remotes.add(connection.remote.address);
    if (locals.isIpv6(local) !== connection.remote.address.includes(':'))
      throw new BytesError('both ends of a connection are of one family');
    group[i] = local * KINDS.length + kindOf(connection);
    time[i] = within(connection.timeLeftSeconds, MAX_TIME_LEFT_SECONDS, 'seconds left');
    if (connection.protocol === 'icmp') {
      caller[i] = within(connection.id, 0xffff, 'echo identifier');
      continue;
    }
    const byTerminal = connection.opener === 'terminal';
    const called = byTerminal ? connection.remote.port : connection.local.port;
    service[i] = within(called, 0xffff, 'port');
    services.add(called);
    caller[i] = within(byTerminal ? connection.local.port : connection.remote.port, 0xffff, 'port');
  }
  if (locals.length > MAX_LOCALS) throw new BytesError(`more than ${MAX_LOCALS} local addresses`);
  const rank = remotes.ranks();
  const sortedServices = [...services].sort((a, b) => a - b);
  const serviceIndex = new Map(sortedServices.map((port, index) => [port, index]));
  // All but the calling port in one number below 2^53 (see MAX_LOCALS): what takes the time here is comparing.
  const key = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    remote[i] = at(rank, at(remote, i));
    key[i] = (at(group, i) * rank.length + at(remote, i)) * 0x10000 + at(service, i);
  }
  const order = new Uint32Array(count)
    .map((_, i) => i)
    .sort((a, b) => (key[a] ?? 0) - (key[b] ?? 0) || (caller[a] ?? 0) - (caller[b] ?? 0));
  const runs = runsOf(order, group);

  const writer = new ByteWriter(64 + count * 12);
  writer.u8(VERSION);
  writer.varint(count);
  locals.write(writer);
  remotes.write(writer);
  writeAscending(writer, sortedServices);
  writer.varint(runs.length);
  const longest = runs.map((run) => {
    let most = 0;
    for (let i = run.from; i < run.to; i++) most = Math.max(most, at(time, at(order, i)));
    return most;
  });
  for (const [index, run] of runs.entries()) {
    writer.u8(run.kind.number);
    writer.varint(run.localIndex);
    writer.varint(run.to - run.from);
    writer.varint(longest[index] ?? 0);
  }
  for (const run of runs) {
    let previous = 0;
    for (let i = run.from; i < run.to; i++) {
      const value = at(remote, at(order, i));
      writer.varint(value - previous);
      previous = value;
    }
  }
  for (const run of runs) {
    if (run.kind.protocol === 'icmp') continue;
    for (let i = run.from; i < run.to; i++) writer.varint(serviceIndex.get(at(service, at(order, i))) ?? 0);
  }
  for (const run of runs) {
    for (let i = run.from; i < run.to; i++) {
      const here = at(order, i);
      const before = i > run.from ? at(order, i - 1) : undefined;
      if (before !== undefined && remote[before] === remote[here] && service[before] === service[here])
        writer.varint(at(caller, here) - at(caller, before));
      else writer.u16(at(caller, here));
    }
  }
  for (const [index, run] of runs.entries()) {
    for (let i = run.from; i < run.to; i++) writer.varint((longest[index] ?? 0) - at(time, at(order, i)));
  }
  return writer.finish();
}

function decode(bytes: Uint8Array, terminal: Terminal): Connection[] {
  const reader = new ByteReader(bytes);
  if (reader.u8() !== VERSION) throw new BytesError('unknown version');
  const count = within(reader.varint(), MAX_CONNECTIONS, 'number of connections');
  if (count * LEAST_BYTES > reader.remaining) throw new BytesError('the bytes end too early');
  const locals = LocalAddresses.read(reader, terminal, count);
  const remotes = RemoteAddresses.read(reader, count);
  const services = readAscending(reader, count, 0xffff);
  const runCount = within(reader.varint(), count, 'number of runs');
  const runs: (Run & { readonly longest: number })[] = [];
  let end = 0;
  for (let i = 0; i < runCount; i++) {
    const kind = KINDS[reader.u8()];
    if (!kind) throw new BytesError('unknown kind of connection');
    const localIndex = within(reader.varint(), locals.length - 1, 'local address');
    const from = end;
    end = within(from + reader.varint(), count, 'length of a run');
    if (end === from) throw new BytesError('a run is empty');
    const longest = within(reader.varint(), MAX_TIME_LEFT_SECONDS, 'seconds left');
    runs.push({ kind, localIndex, from, to: end, longest });
  }
  if (end !== count) throw new BytesError('the runs do not add up');

  const remote = new Uint32Array(count);
  for (const run of runs) {
    const ipv6 = locals.isIpv6(run.localIndex);
    let previous = 0;
    for (let i = run.from; i < run.to; i++) {
      previous = within(previous + reader.varint(), remotes.length - 1, 'remote address');
      if (remotes.isIpv6(previous) !== ipv6) throw new BytesError('the ends are of two families');
      remote[i] = previous;
    }
  }
  const service = new Uint16Array(count);
  for (const run of runs) {
    if (run.kind.protocol === 'icmp') continue;
    for (let i = run.from; i < run.to; i++)
      service[i] = at(services, within(reader.varint(), services.length - 1, 'service port'));
  }
  const caller = new Uint16Array(count);
  for (const run of runs) {
    for (let i = run.from; i < run.to; i++) {
      const same = i > run.from && remote[i - 1] === remote[i] && service[i - 1] === service[i];
      caller[i] = same ? within(at(caller, i - 1) + reader.varint(), 0xffff, 'port') : reader.u16();
    }
  }
  const connections: Connection[] = [];
  for (const run of runs) {
    const local = locals.text(run.localIndex);
    for (let i = run.from; i < run.to; i++) {
      const timeLeftSeconds = run.longest - within(reader.varint(), run.longest, 'seconds left');
      connections.push(
        build(run.kind, local, remotes.text(at(remote, i)), at(service, i), at(caller, i), timeLeftSeconds),
      );
    }
  }
  if (reader.remaining > 0) throw new BytesError('there are bytes after the end');
  return connections;
}

function build(
  kind: Kind,
  localAddress: string,
  remoteAddress: string,
  service: number,
  caller: number,
  timeLeftSeconds: number,
): Connection {
  const opener: Opener = kind.opener;
  if (kind.protocol === 'icmp') {
    const { protocol, replied } = kind;
    return {
      protocol,
      opener,
      local: { address: localAddress },
      remote: { address: remoteAddress },
      id: caller,
      replied,
      timeLeftSeconds,
    };
  }
  const byTerminal = opener === 'terminal';
  const local = { address: localAddress, port: byTerminal ? caller : service };
  const remote = { address: remoteAddress, port: byTerminal ? service : caller };
  return kind.protocol === 'tcp'
    ? { protocol: 'tcp', opener, local, remote, state: kind.state, timeLeftSeconds }
    : { protocol: 'udp', opener, local, remote, replied: kind.replied, timeLeftSeconds };
}

function runsOf(order: Uint32Array, group: Uint32Array): Run[] {
  const runs: Run[] = [];
  for (let from = 0; from < order.length; ) {
    const value = at(group, at(order, from));
    let to = from + 1;
    while (to < order.length && at(group, at(order, to)) === value) to++;
    const kind = KINDS[value % KINDS.length];
    if (!kind) throw new BytesError('unknown kind of connection');
    runs.push({ kind, localIndex: Math.floor(value / KINDS.length), from, to });
    from = to;
  }
  return runs;
}

function writeAscending(writer: ByteWriter, values: readonly number[]): void {
  writer.varint(values.length);
  let previous = 0;
  for (const value of values) {
    writer.varint(value - previous);
    previous = value;
  }
}

function readAscending(reader: ByteReader, maxCount: number, maxValue: number): number[] {
  const count = within(reader.varint(), maxCount, 'number of values');
  const values: number[] = [];
  let previous = 0;
  for (let i = 0; i < count; i++) {
    previous = within(previous + reader.varint(), maxValue, 'value');
    values.push(previous);
  }
  return values;
}

function within(value: number, most: number, what: string): number {
  if (!Number.isInteger(value) || value < 0 || value > most)
    throw new BytesError(`${what} out of range: ${value}`);
  return value;
}

function at(values: { readonly [index: number]: number | undefined }, index: number): number {
  const value = values[index];
  if (value === undefined) throw new BytesError('index out of range');
  return value;
}
