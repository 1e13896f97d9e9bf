/**
 * Actions and instructions in one form for all that mean the same. Open vSwitch does not say a rule in the words in which it was told: bits that
 * were set by one set_field with a mask come back as a reg_load for each run of them, Nicira's newer forms as the older where those will do.
 */
import { OFPP } from '../constants.js';
import { type Bits, bitsOf, spell } from '../match/canonical.js';
import { fieldNamed, type Match, type NamedField } from '../match/fields.js';
import { isMasked } from '../match/oxm.js';
import { type Codec, Writer } from '../wire/index.js';
import { type Action, actions } from './action.js';
import { type Instruction, instructions } from './instruction.js';
import { OFPCML_NO_BUFFER } from './standard.js';

/** Of a resubmit: the table where it is. */
const SAME_TABLE = 0xff;

/** Bits that an action sets in one field. */
interface Setting {
  readonly field: NamedField;
  readonly bits: Bits;
}

/** Undefined for what sets no field, or one whose width is not known. */
function settingOf(action: Action): Setting | undefined {
  switch (action.type) {
    case 'set_field':
    case 'reg_load2':
      return settingOfField(action.field);
    case 'reg_load': {
      const { field: name, start, bits } = action.destination;
      const field = typeof name === 'string' ? fieldNamed(name) : undefined;
      if (!field || field.kind.varies) return undefined;
      const shift = BigInt(start);
      const mask = ((1n << BigInt(bits)) - 1n) << shift;
      if (start + bits > field.kind.bits) return undefined;
      return setting(field, { value: action.value << shift, mask });
    }
    case 'set_tunnel':
      return settingOfField({ tunnel_id: BigInt(action.tunnelId) });
    case 'set_tunnel64':
      return settingOfField({ tunnel_id: action.tunnelId });
    case 'nx_set_mpls_label':
      return settingOfField({ mpls_label: action.label });
    case 'nx_set_mpls_tc':
      return settingOfField({ mpls_tc: action.tc });
    default:
      return undefined;
  }
}

function settingOfField(match: Match): Setting | undefined {
  const [[name = '', given] = []] = Object.entries(match);
  const field = fieldNamed(name);
  const bits = field && bitsOf(field, given);
  return bits && setting(field, bits);
}

/** A field by its first number, if its other ones have the same bits. */
function setting(field: NamedField, bits: Bits): Setting {
  const first = fieldNamed(field.canonical) ?? field;
  return { field: first.kind.bits === field.kind.bits ? first : field, bits };
}

function actionOf({ field, bits }: Setting): Action {
  const spelling = spell(field, bits);
  return { type: isMasked(spelling) ? 'reg_load2' : 'set_field', field: { [field.name]: spelling } };
}

/** What is set later wins. */
function both(a: Bits, b: Bits): Bits {
  return { value: (a.value & ~b.mask) | b.value, mask: a.mask | b.mask };
}

type Controller2 = Extract<Action, { readonly type: 'controller2' }>;

/** Of a controller2. */
const NO_METER = 0;

/** Properties in one order and none at its default; the older action if that says all. */
function toController(action: Controller2): Action {
  const { type, maxLen = OFPCML_NO_BUFFER, controllerId = 0, reason = 'action', ...more } = action;
  const { userdata, pause, meterId = NO_METER, ...unknown } = more;
  if (!userdata?.length && !pause && meterId === NO_METER && Object.keys(unknown).length === 0)
    return { type: 'controller', maxLen, controllerId, reason };
  return {
    type,
    ...(maxLen === OFPCML_NO_BUFFER ? {} : { maxLen }),
    ...(controllerId === 0 ? {} : { controllerId }),
    ...(reason === 'action' ? {} : { reason }),
    ...(userdata?.length ? { userdata } : {}),
    ...(pause ? { pause } : {}),
    ...(meterId === NO_METER ? {} : { meterId }),
    ...unknown,
  };
}

/** Open vSwitch names operands by Nicira's numbers where they have one. */
function operandName(name: string): string {
  const field = fieldNamed(name);
  const older = field?.twins.find((twin) => twin.endsWith('_nxm'));
  return older && fieldNamed(older)?.kind.bits === field?.kind.bits ? older : name;
}

/** The same action with its operands by those names, wherever they are in it. */
function withOperands<T>(part: T): T {
  if (typeof part !== 'object' || part === null || part instanceof Uint8Array) return part;
  if (Array.isArray(part)) return part.map(withOperands) as T;
  const entries = Object.entries(part).map(([key, value]) => [
    key,
    key === 'field' && typeof value === 'string' ? operandName(value) : withOperands(value),
  ]);
  return Object.fromEntries(entries) as T;
}

/** Actions of another time or form that are the same as one of today. */
function modern(action: Action): Action {
  switch (action.type) {
    case 'output': {
      const { port, maxLen } = action;
      const kept = port === OFPP.CONTROLLER && maxLen !== undefined && maxLen !== OFPCML_NO_BUFFER;
      return kept ? { type: 'output', port, maxLen } : { type: 'output', port };
    }
    case 'resubmit_port':
      return { type: 'resubmit', port: action.port, table: SAME_TABLE };
    case 'output_reg':
      return typeof action.source.field === 'string' ? { ...action, type: 'output_reg2' } : action;
    case 'controller2':
      return toController(action);
    case 'sample':
      return { ...action, type: 'sample3', samplingPort: OFPP.ANY, direction: 'both' };
    case 'sample2':
      return { ...action, type: 'sample3', direction: 'both' };
    case 'learn2':
      return action.limit || action.result ? action : { ...action, type: 'learn' };
    case 'ct':
      return { ...action, ...(action.exec ? { exec: canonicalActions(action.exec) } : {}) };
    case 'clone':
      return { type: 'clone', actions: canonicalActions(action.actions) };
    case 'nx_dec_nw_ttl':
      return { type: 'dec_nw_ttl' };
    case 'nx_dec_mpls_ttl':
      return { type: 'dec_mpls_ttl' };
    case 'nx_set_mpls_ttl':
      return { type: 'set_mpls_ttl', ttl: action.ttl };
    case 'nx_push_mpls':
      return { type: 'push_mpls', ethertype: action.ethertype };
    case 'nx_pop_mpls':
      return { type: 'pop_mpls', ethertype: action.ethertype };
    case 'nx_set_queue':
      return { type: 'set_queue', queue: action.queue };
    case 'nx_group':
      return { type: 'group', group: action.group };
    default:
      return action;
  }
}

/** Bits of one field that are set one after the other become one action. */
export function canonicalActions(list: readonly Action[]): Action[] {
  const out: Action[] = [];
  let open: Setting | undefined;
  const flush = (): void => {
    if (open && open.bits.mask !== 0n) out.push(actionOf(open));
    open = undefined;
  };
  for (const action of list) {
    const next = settingOf(action);
    if (open && (next?.field !== open.field || !next)) flush();
    if (!next) out.push(modern(withOperands(action)));
    else open = open ? { field: open.field, bits: both(open.bits, next.bits) } : next;
  }
  flush();
  return out;
}

/** The order in which a switch acts on them (5.9), whatever the order on the wire. */
const ORDER: readonly Instruction['type'][] = [
  'meter',
  'apply_actions',
  'clear_actions',
  'write_actions',
  'write_metadata',
  'goto_table',
];

/** Nicira's action for metadata is the instruction, which a list of actions may end with. */
function withMetadata(list: readonly Instruction[]): readonly Instruction[] {
  const applied = list.find((one) => one.type === 'apply_actions');
  const last = applied?.actions.at(-1);
  if (last?.type !== 'nx_write_metadata' || list.some(({ type }) => type === 'write_metadata')) return list;
  const { metadata, mask } = last;
  return [
    ...list.filter((one) => one !== applied),
    { type: 'apply_actions', actions: applied?.actions.slice(0, -1) ?? [] },
    { type: 'write_metadata', metadata, mask },
  ];
}

/** The same instructions in one form: no empty lists of actions, in the order in which a switch acts on them. */
export function canonicalInstructions(list: readonly Instruction[]): Instruction[] {
  return withMetadata(list)
    .map((one): Instruction => {
      if (one.type === 'write_metadata') return { ...one, metadata: one.metadata & one.mask };
      return one.type === 'apply_actions' || one.type === 'write_actions'
        ? { type: one.type, actions: canonicalActions(one.actions) }
        : one;
    })
    .filter((one) => !('actions' in one) || one.actions.length > 0)
    .sort((a, b) => ORDER.indexOf(a.type) - ORDER.indexOf(b.type));
}

const w = new Writer();
const latin1 = new TextDecoder('latin1');

/** What no written byte becomes: it keeps apart what is inside of an action from what comes after it. */
const [OPEN, CLOSE] = ['\u{f000}', '\u{f001}'] as const;

function written<T>(codec: Codec<readonly T[]>, one: T): string {
  w.reset();
  codec.write(w, [one]);
  return latin1.decode(w.bytes.subarray(0, w.length));
}

/** Action by action: in this form a list may be longer than a message. */
function keyOfActions(list: readonly Action[]): string {
  const keys = list.map((action) => {
    if (action.type === 'clone') return `clone${OPEN}${keyOfActions(action.actions)}${CLOSE}`;
    if (action.type !== 'ct') return written(actions, action);
    const { exec = [], ...plain } = action;
    return `${written(actions, plain)}${OPEN}${keyOfActions(exec)}${CLOSE}`;
  });
  return keys.join('');
}

/**
 * Equal for instructions that do the same, as `matchKey` is for matches. For comparing, not for people. Throws an OpenFlowEncodeError
 * for what could not be sent.
 */
export function instructionsKey(list: readonly Instruction[]): string {
  w.reset();
  instructions.write(w, list);
  const keys = canonicalInstructions(list).map((one) =>
    'actions' in one ? `${one.type}${OPEN}${keyOfActions(one.actions)}${CLOSE}` : written(instructions, one),
  );
  return keys.join('');
}
