/**
 * What conntrack prints, and what it never would: whatever the text is, it makes valid connections of the terminal or none; and a stream of events says the same
 * wherever it is cut.
 */
import fc from 'fast-check';
import t from 'tap';
import { LineCutter, MAX_LINE_CHARACTERS } from '../../edge-agent/conntrack/lines.js';
import { ownAddresses, parseDump, parseEvent } from '../../edge-agent/conntrack/parse.js';
import { type Connection, connectionSchema } from '../../shared/firewall/connection.js';
import { MAX_IDLE_SECONDS } from '../../shared/firewall/timeouts.js';
import { anyConnection, realisticTable } from '../fixtures/connection-tables.js';
import { dumpLine, eventLine } from '../fixtures/conntrack-lines.js';
import { alice } from '../fixtures/reference-environment.js';

const own = ownAddresses(alice);
const connection: Connection = {
  protocol: 'tcp',
  opener: 'terminal',
  local: { address: '10.0.0.1', port: 40_000 },
  remote: { address: '192.0.2.7', port: 443 },
  state: 'established',
  timeLeftSeconds: 300,
};
const line = dumpLine(connection);
const mine = anyConnection(alice).filter(({ local }) => own.has(local.address));
/** Between two of its own addresses whoever sends first has opened: the line cannot say otherwise. */
const unmistakable = mine.filter(({ remote }) => !own.has(remote.address));

t.test('a connection comes out of its line as it went in', async (t) => {
  t.same(parseDump(`${line}\n`, own), [connection]);
  fc.assert(
    fc.property(fc.array(unmistakable, { maxLength: 10 }), (connections) => {
      const text = connections.map((one) => `${dumpLine(one)}\n`).join('');
      // An entry that was not answered says so of TCP only by its state.
      return JSON.stringify(sorted(parseDump(text, own))) === JSON.stringify(sorted(connections));
    }),
  );
});

function sorted(connections: readonly Connection[]): string[] {
  return connections
    .map((one) => JSON.stringify(one, Object.keys(one).concat('address', 'port').sort()))
    .sort();
}

t.test('an entry with a number or an address that is none is no connection', async (t) => {
  const wrong: Readonly<Record<string, string>> = {
    'a port of 70000': line.replaceAll('=443', '=70000'),
    'a port below zero': line.replaceAll('=443', '=-1'),
    'no port': line.replaceAll('=443', '='),
    'a port in another base': line.replaceAll('=443', '=0x1bb'),
    'a port with an exponent': line.replaceAll('=443', '=4e2'),
    'a port of many digits': line.replaceAll('=443', `=${'0'.repeat(300)}443`),
    'a missing port': line.replaceAll(/ dport=\d+/g, ''),
    'an address of five parts': line.replaceAll('192.0.2.7', '192.0.2.7.1'),
    'an address with zeros in front': line.replaceAll('192.0.2.7', '192.0.2.07'),
    'an address with an option behind it': line.replaceAll('192.0.2.7', '192.0.2.7;-F'),
    'an address of another family': line.replaceAll('192.0.2.7', '2001:db8::7'),
    'an address with a zone': line.replaceAll('10.0.0.1', 'fd00::1').replaceAll('192.0.2.7', 'fe80::1%eth0'),
    'no address': line.replaceAll('192.0.2.7', ''),
    'an address that is not the terminal’s': line.replaceAll('10.0.0.1', '10.0.0.11'),
    'another protocol': line.replace('tcp      6', 'sctp     132'),
    'no protocol': line.replace('tcp      6', ''),
    nothing: '',
    'a line that is too long': `${line}${' x'.repeat(MAX_LINE_CHARACTERS)}`,
  };
  for (const [what, text] of Object.entries(wrong)) {
    t.same(parseDump(`${text}\n${line}\n`, own), [connection], `${what}, and the next line is read`);
    t.equal(parseEvent(` [UPDATE] ${text}`, own), undefined, what);
  }
  const echo = dumpLine({
    protocol: 'icmp',
    opener: 'remote',
    local: { address: 'fd00::1' },
    remote: { address: '2001:db8::7' },
    id: 7,
    replied: true,
    timeLeftSeconds: 30,
  });
  t.equal(parseDump(echo, own).length, 1, 'control');
  for (const text of [
    echo.replaceAll('id=7', 'id=65536'),
    echo.replace('type=128', 'type=8'),
    echo.replace('type=128', 'type=133'),
  ])
    t.same(parseDump(text, own), []);
  const later = line.replace('300', '9'.repeat(400));
  t.match(parseDump(later, own), [{ timeLeftSeconds: MAX_IDLE_SECONDS }], 'a time beyond all bounds is cut');
  t.match(
    parseDump(line.replaceAll('10.0.0.1', 'fd00::1').replaceAll('192.0.2.7', '::ffff:192.0.2.7'), own),
    [{ remote: { address: '::ffff:c000:207' } }],
    'addresses have the one form that the rest of the system uses',
  );
});

t.test('a stream of events says the same wherever it is cut', async (t) => {
  const table = realisticTable(alice, 8, 3);
  const events = (['NEW', 'UPDATE', 'DESTROY'] as const).flatMap((event) =>
    table.map((one) => eventLine(event, one)),
  );
  const text = `${events.join('\n')}\n`;
  const read = (pieces: readonly string[]) => {
    const cutter = new LineCutter();
    return pieces.flatMap((piece) =>
      (cutter.push(piece) ?? []).flatMap((each) => parseEvent(each, own) ?? []),
    );
  };
  const whole = read([text]);
  t.equal(whole.length, events.length, 'control: every line is an event');
  t.same(read(text.split('')), whole, 'a character at a time');
  const wanted = JSON.stringify(whole);
  for (let at = 0; at <= text.length; at++) {
    if (JSON.stringify(read([text.slice(0, at), text.slice(at)])) !== wanted) t.fail(`cut at ${at}`);
  }
  t.equal(read([text.slice(0, -1)]).length, events.length - 1, 'a line that has not ended is not read');
});

t.test('a line without an end is not collected', async (t) => {
  const cutter = new LineCutter();
  let pushed = 0;
  while (cutter.push('x'.repeat(100)) !== undefined) pushed += 100;
  t.equal(pushed, MAX_LINE_CHARACTERS - (MAX_LINE_CHARACTERS % 100));
  t.same(
    new LineCutter().push(`${'x'.repeat(MAX_LINE_CHARACTERS)}\na\n`),
    ['x'.repeat(MAX_LINE_CHARACTERS), 'a'],
    'control: as long as may be',
  );
  t.equal(new LineCutter().push(`a\n${'x'.repeat(MAX_LINE_CHARACTERS + 1)}\nb\n`), undefined);
});

t.test('whatever the text is, it makes valid connections of the terminal or none', async () => {
  const word = fc.oneof(
    fc.constantFrom(
      'tcp',
      'udp',
      'icmp',
      'ipv4',
      '2',
      '6',
      'ESTABLISHED',
      '[UNREPLIED]',
      'src=10.0.0.1',
      'dst=192.0.2.7',
    ),
    fc.constantFrom(
      'sport=1',
      'dport=65535',
      'sport=65536',
      'dst=fd00::1',
      'src=',
      'id=1',
      'type=8',
      'type=128',
      '=',
      '==',
    ),
    fc.string({ maxLength: 12 }),
    fc.nat().map(String),
  );
  const words = fc.array(word, { maxLength: 20 }).map((all) => all.join(' '));
  const changed = fc
    .tuple(mine, fc.nat(), fc.string({ unit: 'binary', maxLength: 3 }))
    .map(([one, at, by]) => {
      const text = dumpLine(one);
      return text.slice(0, at % text.length) + by + text.slice((at % text.length) + by.length);
    });
  const text = fc.array(fc.oneof(words, changed, fc.string({ unit: 'binary' })), { maxLength: 5 });
  fc.assert(
    fc.property(text, (lines) => {
      const connections = [
        ...parseDump(lines.join('\n'), own),
        ...lines.flatMap((each) => parseEvent(`[NEW] ${each}`, own)?.connection ?? []),
      ];
      return connections.every(
        (one) =>
          JSON.stringify(connectionSchema.parse(one)) === JSON.stringify(one) && own.has(one.local.address),
      );
    }),
    { numRuns: 1_000 },
  );
});
