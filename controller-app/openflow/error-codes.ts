/**
 * Error types and codes by the specification's names (1.3.5, 7.4.4; the ONF's extensions; Open vSwitch's own). The name of a
 * code says its type, too: no two types share one.
 */

export const OFPET_HELLO_FAILED = 0;
export const OFPHFC_INCOMPATIBLE = 0;
export const OFPET_EXPERIMENTER = 0xffff;
/** The experimenter id of the Open Networking Foundation. */
export const ONF = 0x4f4e4600;
/** Nicira's, under which Open vSwitch extends OpenFlow. */
export const NICIRA = 0x00002320;

/** The place in a list is the number. */
const TYPES = [
  ['OFPET_HELLO_FAILED', 'OFPHFC_', ['INCOMPATIBLE', 'EPERM']],
  [
    'OFPET_BAD_REQUEST',
    'OFPBRC_',
    [
      'BAD_VERSION',
      'BAD_TYPE',
      'BAD_MULTIPART',
      'BAD_EXPERIMENTER',
      'BAD_EXP_TYPE',
      'EPERM',
      'BAD_LEN',
      'BUFFER_EMPTY',
      'BUFFER_UNKNOWN',
      'BAD_TABLE_ID',
      'IS_SLAVE',
      'BAD_PORT',
      'BAD_PACKET',
      'MULTIPART_BUFFER_OVERFLOW',
    ],
  ],
  [
    'OFPET_BAD_ACTION',
    'OFPBAC_',
    [
      'BAD_TYPE',
      'BAD_LEN',
      'BAD_EXPERIMENTER',
      'BAD_EXP_TYPE',
      'BAD_OUT_PORT',
      'BAD_ARGUMENT',
      'EPERM',
      'TOO_MANY',
      'BAD_QUEUE',
      'BAD_OUT_GROUP',
      'MATCH_INCONSISTENT',
      'UNSUPPORTED_ORDER',
      'BAD_TAG',
      'BAD_SET_TYPE',
      'BAD_SET_LEN',
      'BAD_SET_ARGUMENT',
    ],
  ],
  [
    'OFPET_BAD_INSTRUCTION',
    'OFPBIC_',
    [
      'UNKNOWN_INST',
      'UNSUP_INST',
      'BAD_TABLE_ID',
      'UNSUP_METADATA',
      'UNSUP_METADATA_MASK',
      'BAD_EXPERIMENTER',
      'BAD_EXP_TYPE',
      'BAD_LEN',
      'EPERM',
    ],
  ],
  [
    'OFPET_BAD_MATCH',
    'OFPBMC_',
    [
      'BAD_TYPE',
      'BAD_LEN',
      'BAD_TAG',
      'BAD_DL_ADDR_MASK',
      'BAD_NW_ADDR_MASK',
      'BAD_WILDCARDS',
      'BAD_FIELD',
      'BAD_VALUE',
      'BAD_MASK',
      'BAD_PREREQ',
      'DUP_FIELD',
      'EPERM',
    ],
  ],
  [
    'OFPET_FLOW_MOD_FAILED',
    'OFPFMFC_',
    ['UNKNOWN', 'TABLE_FULL', 'BAD_TABLE_ID', 'OVERLAP', 'EPERM', 'BAD_TIMEOUT', 'BAD_COMMAND', 'BAD_FLAGS'],
  ],
  [
    'OFPET_GROUP_MOD_FAILED',
    'OFPGMFC_',
    [
      'GROUP_EXISTS',
      'INVALID_GROUP',
      'WEIGHT_UNSUPPORTED',
      'OUT_OF_GROUPS',
      'OUT_OF_BUCKETS',
      'CHAINING_UNSUPPORTED',
      'WATCH_UNSUPPORTED',
      'LOOP',
      'UNKNOWN_GROUP',
      'CHAINED_GROUP',
      'BAD_TYPE',
      'BAD_COMMAND',
      'BAD_BUCKET',
      'BAD_WATCH',
      'EPERM',
    ],
  ],
  ['OFPET_PORT_MOD_FAILED', 'OFPPMFC_', ['BAD_PORT', 'BAD_HW_ADDR', 'BAD_CONFIG', 'BAD_ADVERTISE', 'EPERM']],
  ['OFPET_TABLE_MOD_FAILED', 'OFPTMFC_', ['BAD_TABLE', 'BAD_CONFIG', 'EPERM']],
  ['OFPET_QUEUE_OP_FAILED', 'OFPQOFC_', ['BAD_PORT', 'BAD_QUEUE', 'EPERM']],
  ['OFPET_SWITCH_CONFIG_FAILED', 'OFPSCFC_', ['BAD_FLAGS', 'BAD_LEN', 'EPERM']],
  ['OFPET_ROLE_REQUEST_FAILED', 'OFPRRFC_', ['STALE', 'UNSUP', 'BAD_ROLE']],
  [
    'OFPET_METER_MOD_FAILED',
    'OFPMMFC_',
    [
      'UNKNOWN',
      'METER_EXISTS',
      'INVALID_METER',
      'UNKNOWN_METER',
      'BAD_COMMAND',
      'BAD_FLAGS',
      'BAD_RATE',
      'BAD_BURST',
      'BAD_BAND',
      'BAD_BAND_VALUE',
      'OUT_OF_METERS',
      'OUT_OF_BANDS',
    ],
  ],
  [
    'OFPET_TABLE_FEATURES_FAILED',
    'OFPTFFC_',
    ['BAD_TABLE', 'BAD_METADATA', 'BAD_TYPE', 'BAD_LEN', 'BAD_ARGUMENT', 'EPERM'],
  ],
] as const;

/**
 * Errors of type OFPET_EXPERIMENTER, whose code is an experimenter's own. The ONF numbers what it takes over from later versions by
 * extension: 187 flow monitors, 230 bundles, 236 tables and flows, 237 asynchronous messages, 260 instructions, 264 multipart.
 */
const EXTENSIONS = {
  OFPBFC_UNKNOWN: [ONF, 2300],
  OFPBFC_EPERM: [ONF, 2301],
  OFPBFC_BAD_ID: [ONF, 2302],
  OFPBFC_BUNDLE_EXIST: [ONF, 2303],
  OFPBFC_BUNDLE_CLOSED: [ONF, 2304],
  OFPBFC_OUT_OF_BUNDLES: [ONF, 2305],
  OFPBFC_BAD_TYPE: [ONF, 2306],
  OFPBFC_BAD_FLAGS: [ONF, 2307],
  OFPBFC_MSG_BAD_LEN: [ONF, 2308],
  OFPBFC_MSG_BAD_XID: [ONF, 2309],
  OFPBFC_MSG_UNSUP: [ONF, 2310],
  OFPBFC_MSG_CONFLICT: [ONF, 2311],
  OFPBFC_MSG_TOO_MANY: [ONF, 2312],
  OFPBFC_MSG_FAILED: [ONF, 2313],
  OFPBFC_TIMEOUT: [ONF, 2314],
  OFPBFC_BUNDLE_IN_PROGRESS: [ONF, 2315],
  OFPFMFC_BAD_PRIORITY: [ONF, 2360],
  OFPACFC_INVALID: [ONF, 2370],
  OFPACFC_UNSUPPORTED: [ONF, 2371],
  OFPACFC_EPERM: [ONF, 2372],
  OFPBIC_DUP_INST: [ONF, 2600],
  OFPBRC_MULTIPART_REQUEST_TIMEOUT: [ONF, 2640],
  OFPBRC_MULTIPART_REPLY_TIMEOUT: [ONF, 2641],
  OFPBAC_BAD_SET_MASK: [ONF, 4250],
  OFPBPC_TOO_MANY: [ONF, 4443],
  OFPBPC_DUP_TYPE: [ONF, 4444],
  OFPBPC_BAD_EXPERIMENTER: [ONF, 4445],
  OFPBPC_BAD_EXP_TYPE: [ONF, 4446],
  OFPBPC_BAD_EXP_VALUE: [ONF, 4447],
  OFPBPC_EPERM: [ONF, 4448],
  NXBRC_NXM_INVALID: [NICIRA, 2],
  NXBRC_NXM_BAD_TYPE: [NICIRA, 3],
  NXBRC_MUST_BE_ZERO: [NICIRA, 4],
  NXBRC_BAD_REASON: [NICIRA, 5],
  OFPMOFC_MONITOR_EXISTS: [NICIRA, 6],
  OFPMOFC_BAD_FLAGS: [NICIRA, 7],
  OFPMOFC_UNKNOWN_MONITOR: [NICIRA, 8],
  NXBRC_FM_BAD_EVENT: [NICIRA, 9],
  NXBRC_UNENCODABLE_ERROR: [NICIRA, 10],
  NXBAC_MUST_BE_ZERO: [NICIRA, 11],
  NXFMFC_HARDWARE: [NICIRA, 12],
  NXFMFC_BAD_TABLE_ID: [NICIRA, 13],
  NXBAC_BAD_CONJUNCTION: [NICIRA, 15],
  NXTTMFC_BAD_COMMAND: [NICIRA, 16],
  NXTTMFC_BAD_OPT_LEN: [NICIRA, 17],
  NXTTMFC_BAD_FIELD_IDX: [NICIRA, 18],
  NXTTMFC_TABLE_FULL: [NICIRA, 19],
  NXTTMFC_ALREADY_MAPPED: [NICIRA, 20],
  NXTTMFC_DUP_ENTRY: [NICIRA, 21],
  NXR_NOT_SUPPORTED: [NICIRA, 34],
  NXR_STALE: [NICIRA, 35],
  NXST_NOT_CONFIGURED: [NICIRA, 36],
  NXFMFC_INVALID_TLV_FIELD: [NICIRA, 37],
  NXTTMFC_INVALID_TLV_DEL: [NICIRA, 38],
  NXBAC_BAD_HEADER_TYPE: [NICIRA, 39],
  NXBAC_UNKNOWN_ED_PROP: [NICIRA, 40],
  NXBAC_BAD_ED_PROP: [NICIRA, 41],
  NXBAC_CT_DATAPATH_SUPPORT: [NICIRA, 42],
  NXBMC_CT_DATAPATH_SUPPORT: [NICIRA, 43],
  NXTFFC_DUP_TABLE: [NICIRA, 44],
} as const;

type Standard = (typeof TYPES)[number];
type CodeOf<T> = T extends readonly [string, infer P extends string, readonly (infer C extends string)[]]
  ? `${P}${C}`
  : never;

/** `OFPBMC_BAD_PREREQ`, … */
export type ErrorCode = CodeOf<Standard> | keyof typeof EXTENSIONS;

/** What stands in an error message. */
export interface ErrorNumbers {
  readonly errorType: number;
  /** For experimenters' errors their exp_type. */
  readonly errorCode: number;
  readonly experimenter?: number;
}

const numbers = new Map<string, ErrorNumbers>();
/** By experimenter (0 for the specification's own), type and code. */
const names = new Map<string, string>();
const key = (experimenter: number, type: number, code: number): string => `${experimenter} ${type} ${code}`;

for (const [errorType, [, prefix, codes]] of TYPES.entries())
  for (const [errorCode, code] of codes.entries()) {
    numbers.set(prefix + code, { errorType, errorCode });
    names.set(key(0, errorType, errorCode), prefix + code);
  }
for (const [name, [experimenter, errorCode]] of Object.entries(EXTENSIONS)) {
  numbers.set(name, { errorType: OFPET_EXPERIMENTER, errorCode, experimenter });
  names.set(key(experimenter, OFPET_EXPERIMENTER, errorCode), name);
}

export function errorNumbers(code: ErrorCode): ErrorNumbers {
  const found = numbers.get(code);
  if (!found) throw new Error(`no OpenFlow error is called ${code}`);
  return found;
}

export interface ErrorName {
  /** `OFPET_BAD_MATCH`, … */
  readonly type: string;
  /** `OFPBMC_BAD_PREREQ`, …; the number where it has no name. */
  readonly code: string;
}

/** For experimenters' errors `code` is their exp_type. */
export function errorName(errorType: number, code: number, experimenter?: number): ErrorName {
  if (errorType === OFPET_EXPERIMENTER) {
    const who = experimenter ?? 0;
    const named = names.get(key(who, errorType, code));
    return { type: 'OFPET_EXPERIMENTER', code: named ?? `0x${who.toString(16)}:${code}` };
  }
  const type = TYPES[errorType]?.[0] ?? `error type ${errorType}`;
  return { type, code: names.get(key(0, errorType, code)) ?? `code ${code}` };
}
