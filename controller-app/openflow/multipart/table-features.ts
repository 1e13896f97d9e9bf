/**
 * What the tables of a switch can do (spec 1.3.5, 7.3.5.5): fields, instructions and actions by their headers alone.
 */
import { OpenFlowEncodeError } from '../errors.js';
import {
  type Codec,
  type Infer,
  lengthFirst,
  list,
  pad,
  rest,
  struct,
  text,
  tlvs,
  u8,
  u32,
  u64,
} from '../wire/index.js';
import { fieldId } from './field-id.js';

const EXPERIMENTER = 0xffff;

/** An instruction or action without its body. Only an experimenter's says more than its number. */
export type TypeId<N extends string> =
  | N
  | number
  /** What follows its experimenter id. */
  | { readonly experimenter: number; readonly data: Uint8Array }
  | { readonly type: number; readonly data: Uint8Array };

/** type u16 | length u16 | data */
function typeId<const T extends Readonly<Record<string, number>>>(table: T): Codec<TypeId<keyof T & string>> {
  const byNumber = new Map<number, keyof T & string>();
  for (const [name, number] of Object.entries(table)) byNumber.set(number, name);
  const byName = new Map<string, number>(Object.entries(table));
  return {
    read: (r) => {
      const type = r.u16();
      const length = r.u16();
      if (length < 4) r.failLength(`an id of ${length} bytes`);
      return r.within(length - 4, () => {
        if (length === 4) return byNumber.get(type) ?? type;
        if (type === EXPERIMENTER && length >= 8) return { experimenter: r.u32(), data: r.take(r.left) };
        return { type, data: r.take(r.left) };
      });
    },
    write: (w, value) => {
      const start = w.length;
      if (typeof value === 'object') {
        w.u16('type' in value ? value.type : EXPERIMENTER);
        const at = w.lengthLater();
        if ('experimenter' in value) w.u32(value.experimenter);
        w.put(value.data);
        w.setLength(at, w.length - start);
        return;
      }
      const type = typeof value === 'number' ? value : byName.get(value);
      if (type === undefined) throw new OpenFlowEncodeError('bad-value', `nothing here is called ${value}`);
      w.u16(type);
      w.u16(4);
    },
  };
}

const instructions = struct({
  instructions: list(
    typeId({
      goto_table: 1,
      write_metadata: 2,
      write_actions: 3,
      apply_actions: 4,
      clear_actions: 5,
      meter: 6,
    }),
  ),
});

const actions = struct({
  actions: list(
    typeId({
      output: 0,
      copy_ttl_out: 11,
      copy_ttl_in: 12,
      set_mpls_ttl: 15,
      dec_mpls_ttl: 16,
      push_vlan: 17,
      pop_vlan: 18,
      push_mpls: 19,
      pop_mpls: 20,
      set_queue: 21,
      group: 22,
      set_nw_ttl: 23,
      dec_nw_ttl: 24,
      set_field: 25,
      push_pbb: 26,
      pop_pbb: 27,
    }),
  ),
});

const tables = struct({ tables: list(u8) });
const fields = struct({ fields: list(fieldId) });
const experimenter = struct({ experimenter: u32, experimenterType: u32, data: rest });

/** Those with `_miss` are for the table-miss entry, where that differs. */
const properties = tlvs(
  {
    instructions: [0, instructions],
    instructions_miss: [1, instructions],
    next_tables: [2, tables],
    next_tables_miss: [3, tables],
    write_actions: [4, actions],
    write_actions_miss: [5, actions],
    apply_actions: [6, actions],
    apply_actions_miss: [7, actions],
    match: [8, fields],
    wildcards: [10, fields],
    write_setfield: [12, fields],
    write_setfield_miss: [13, fields],
    apply_setfield: [14, fields],
    apply_setfield_miss: [15, fields],
    experimenter: [0xfffe, experimenter],
    experimenter_miss: [0xffff, experimenter],
  },
  { code: 'OFPTFFC_BAD_LEN' },
);

/** struct ofp_table_features. */
export const tableFeatures = lengthFirst(
  struct({
    table: u8,
    _: pad(5),
    name: text(32),
    /** Bits of metadata that can be matched, and written. */
    metadataMatch: u64,
    metadataWrite: u64,
    /** Deprecated: 0. */
    config: u32,
    maxEntries: u32,
    properties,
  }),
  'OFPTFFC_BAD_LEN',
);

export type TableFeatures = Infer<typeof tableFeatures>;
