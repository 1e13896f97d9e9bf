/**
 * Makes a value of another, as JSON, YAML and MessagePack have them: parts replaced, left out, repeated, moved, renamed. So schemas are met behind the
 * syntax that most changed bytes would not get past.
 */
import type { Random } from './random.js';

const STRANGE: readonly unknown[] = [
  ...[null, true, false, 0, 1, -1, 1.5, 8, 128, 65_535, 65_536, 70_000, 2 ** 31, 2 ** 32, 2 ** 53, 1e300],
  ...[
    '',
    ' ',
    '0',
    '-',
    '--',
    '-j ACCEPT',
    '-A FORWARD',
    'a b',
    'a\nb',
    'a\0b',
    '"',
    "'",
    '`id`',
    '$(id)',
    '; id',
    '\u202e',
    '\ud800',
  ],
  ...[
    'tcp',
    'udp',
    'icmp',
    'ipv4',
    'ipv6',
    'inbound',
    'outbound',
    'accept',
    'drop',
    'reject',
    'terminal',
    'remote',
    'default inbound',
  ],
  ...[
    '10.0.0.1',
    '10.0.0.01',
    '10.0.0.0/33',
    '10.0.0.0/8/8',
    'fd00::1',
    'fd00::1%eth0',
    '::ffff:10.0.0.1',
    'FD00::1',
    '0x0a000001',
  ],
  ...[
    '02:00:00:00:00:01',
    'ff:ff:ff:ff:ff:ff',
    '80',
    '80-',
    '90-80',
    '1-65536',
    'alice',
    'bob',
    'x'.repeat(70),
    'x'.repeat(5_000),
  ],
  ...[[], {}, [[]], [null], [1, 2], [[80, 443]], JSON.parse('{"__proto__":{"a":1}}'), { type: 'hello' }],
];
const MOST_REPEATS = 3_000;
const MOST_DEPTH = 200;

type Parent = { [key: string]: unknown } | unknown[];

interface Place {
  readonly parent: Parent;
  readonly key: string;
}

/** Another value; the given one is not changed. */
export function mutatedValue(value: unknown, random: Random): unknown {
  const root = { value: structuredClone(value) };
  do change(root, random);
  while (!random.oneIn(3));
  return root.value;
}

function change(root: { value: unknown }, random: Random): void {
  const places = placesIn(root);
  const at = places[random.below(places.length)];
  const other = places[random.below(places.length)];
  if (at && other) random.pick(CHANGES)(at, random, other);
}

type Change = (at: Place, random: Random, other: Place) => void;

const CHANGES: readonly [Change, ...Change[]] = [
  replace,
  replace,
  remove,
  nest,
  repeat,
  (at, _random, other) => put(at, structuredClone(get(other))),
  (at, random, other) => rename(at, random.oneIn(2) ? other.key : `${at.key}s`),
  (at, random) => {
    const value = get(at);
    if (typeof value === 'number') put(at, value + random.below(5) - 2);
    else if (typeof value === 'string') put(at, `${value}${JSON.stringify(strange(random))}`);
    else replace(at, random);
  },
];

function strange(random: Random): unknown {
  return structuredClone(STRANGE[random.below(STRANGE.length)]);
}

function replace(at: Place, random: Random): void {
  put(at, strange(random));
}

/** Every place in a value; the root is the only one whose parent is not in it. */
function placesIn(root: { value: unknown }): readonly Place[] {
  const places: Place[] = [];
  const open: Parent[] = [root];
  for (let parent = open.pop(); parent; parent = open.pop()) {
    for (const [key, inner] of Object.entries(parent)) {
      places.push({ parent, key });
      if (isParent(inner)) open.push(inner);
    }
  }
  return places;
}

function isParent(value: unknown): value is Parent {
  return typeof value === 'object' && value !== null && !ArrayBuffer.isView(value);
}

function get({ parent, key }: Place): unknown {
  return Array.isArray(parent) ? parent[Number(key)] : parent[key];
}

function put({ parent, key }: Place, value: unknown): void {
  if (Array.isArray(parent)) parent[Number(key)] = value;
  else Object.defineProperty(parent, key, { value, enumerable: true, configurable: true, writable: true });
}

function remove({ parent, key }: Place): void {
  if (Array.isArray(parent)) parent.splice(Number(key), 1);
  else if (key !== 'value' || Object.keys(parent).length > 1) delete parent[key];
}

function rename(at: Place, name: string): void {
  if (Array.isArray(at.parent) || Object.hasOwn(at.parent, 'value')) return;
  const value = get(at);
  remove(at);
  put({ parent: at.parent, key: name }, value);
}

function repeat(at: Place, random: Random): void {
  if (!Array.isArray(at.parent)) return;
  const times = random.oneIn(50) ? random.below(MOST_REPEATS) : 1 + random.small(40);
  const value = get(at);
  for (let i = 0; i < times; i++) at.parent.push(structuredClone(value));
}

function nest(at: Place, random: Random): void {
  let result = get(at);
  const depth = random.oneIn(10) ? random.below(MOST_DEPTH) : 1;
  for (let i = 0; i < depth; i++) result = random.oneIn(2) ? [result] : { a: result };
  put(at, result);
}
