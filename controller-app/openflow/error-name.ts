/**
 * Error types and codes by name (spec 1.3.5, 7.4.4; ONF extension 230 for bundles; Open vSwitch's own), as Open vSwitch prints them.
 */

export const OFPET_HELLO_FAILED = 0;
export const OFPHFC_INCOMPATIBLE = 0;
export const OFPET_EXPERIMENTER = 0xffff;
const ONF = 0x4f4e4600;
const NICIRA = 0x2320;

/** `-` is a code that has no name. */
const list = (prefix: string, codes: string): readonly string[] =>
  codes.split(' ').map((code) => (code === '-' ? '' : prefix + code));

const NAMES: readonly (readonly [type: string, codes: readonly string[]])[] = [
  ['OFPET_HELLO_FAILED', list('OFPHFC_', 'INCOMPATIBLE EPERM')],
  [
    'OFPET_BAD_REQUEST',
    list(
      'OFPBRC_',
      'BAD_VERSION BAD_TYPE BAD_MULTIPART BAD_EXPERIMENTER BAD_EXP_TYPE EPERM BAD_LEN BUFFER_EMPTY BUFFER_UNKNOWN BAD_TABLE_ID IS_SLAVE BAD_PORT BAD_PACKET MULTIPART_BUFFER_OVERFLOW',
    ),
  ],
  [
    'OFPET_BAD_ACTION',
    list(
      'OFPBAC_',
      'BAD_TYPE BAD_LEN BAD_EXPERIMENTER BAD_EXP_TYPE BAD_OUT_PORT BAD_ARGUMENT EPERM TOO_MANY BAD_QUEUE BAD_OUT_GROUP MATCH_INCONSISTENT UNSUPPORTED_ORDER BAD_TAG BAD_SET_TYPE BAD_SET_LEN BAD_SET_ARGUMENT',
    ),
  ],
  [
    'OFPET_BAD_INSTRUCTION',
    list(
      'OFPBIC_',
      'UNKNOWN_INST UNSUP_INST BAD_TABLE_ID UNSUP_METADATA UNSUP_METADATA_MASK BAD_EXPERIMENTER BAD_EXP_TYPE BAD_LEN EPERM',
    ),
  ],
  [
    'OFPET_BAD_MATCH',
    list(
      'OFPBMC_',
      'BAD_TYPE BAD_LEN BAD_TAG BAD_DL_ADDR_MASK BAD_NW_ADDR_MASK BAD_WILDCARDS BAD_FIELD BAD_VALUE BAD_MASK BAD_PREREQ DUP_FIELD EPERM',
    ),
  ],
  [
    'OFPET_FLOW_MOD_FAILED',
    list('OFPFMFC_', 'UNKNOWN TABLE_FULL BAD_TABLE_ID OVERLAP EPERM BAD_TIMEOUT BAD_COMMAND BAD_FLAGS'),
  ],
  [
    'OFPET_GROUP_MOD_FAILED',
    list(
      'OFPGMFC_',
      'GROUP_EXISTS INVALID_GROUP WEIGHT_UNSUPPORTED OUT_OF_GROUPS OUT_OF_BUCKETS CHAINING_UNSUPPORTED WATCH_UNSUPPORTED LOOP UNKNOWN_GROUP CHAINED_GROUP BAD_TYPE BAD_COMMAND BAD_BUCKET BAD_WATCH EPERM',
    ),
  ],
  ['OFPET_PORT_MOD_FAILED', list('OFPPMFC_', 'BAD_PORT BAD_HW_ADDR BAD_CONFIG BAD_ADVERTISE EPERM')],
  ['OFPET_TABLE_MOD_FAILED', list('OFPTMFC_', 'BAD_TABLE BAD_CONFIG EPERM')],
  ['OFPET_QUEUE_OP_FAILED', list('OFPQOFC_', 'BAD_PORT BAD_QUEUE EPERM')],
  ['OFPET_SWITCH_CONFIG_FAILED', list('OFPSCFC_', 'BAD_FLAGS BAD_LEN EPERM')],
  ['OFPET_ROLE_REQUEST_FAILED', list('OFPRRFC_', 'STALE UNSUP BAD_ROLE')],
  [
    'OFPET_METER_MOD_FAILED',
    list(
      'OFPMMFC_',
      'UNKNOWN METER_EXISTS INVALID_METER UNKNOWN_METER BAD_COMMAND BAD_FLAGS BAD_RATE BAD_BURST BAD_BAND BAD_BAND_VALUE OUT_OF_METERS OUT_OF_BANDS',
    ),
  ],
  [
    'OFPET_TABLE_FEATURES_FAILED',
    list('OFPTFFC_', 'BAD_TABLE BAD_METADATA BAD_TYPE BAD_LEN BAD_ARGUMENT EPERM'),
  ],
];

/** ONF extension 230 numbers its bundle errors from here. */
const BUNDLE_ERRORS = 2300;
const BUNDLE = list(
  'OFPBFC_',
  'UNKNOWN EPERM BAD_ID BUNDLE_EXIST BUNDLE_CLOSED OUT_OF_BUNDLES BAD_TYPE BAD_FLAGS MSG_BAD_LEN MSG_BAD_XID MSG_UNSUP MSG_CONFLICT MSG_TOO_MANY MSG_FAILED TIMEOUT BUNDLE_IN_PROGRESS',
);
const ONF_DUP_INST = 2600;
/** Open vSwitch's, from 2 on. */
const NX = list(
  'NX',
  '- - BRC_NXM_INVALID BRC_NXM_BAD_TYPE BRC_MUST_BE_ZERO BRC_BAD_REASON MOFC_MONITOR_EXISTS MOFC_BAD_FLAGS - BRC_FM_BAD_EVENT BRC_UNENCODABLE_ERROR BAC_MUST_BE_ZERO FMFC_HARDWARE FMFC_BAD_TABLE_ID - BAC_BAD_CONJUNCTION',
);
const NX_LATER: Readonly<Record<number, string>> = {
  39: 'NXBAC_BAD_HEADER_TYPE',
  42: 'NXBAC_CT_DATAPATH_SUPPORT',
  43: 'NXBMC_CT_DATAPATH_SUPPORT',
};

export interface ErrorName {
  /** `OFPET_BAD_MATCH`, … */
  readonly type: string;
  /** `OFPBMC_BAD_PREREQ`, …; the number where it has no name. */
  readonly code: string;
}

/** For experimenters' errors `code` is their exp_type. */
export function errorName(errorType: number, code: number, experimenter?: number): ErrorName {
  if (errorType === OFPET_EXPERIMENTER) {
    const known =
      experimenter === ONF
        ? code === ONF_DUP_INST
          ? 'OFPBIC_DUP_INST'
          : BUNDLE[code - BUNDLE_ERRORS]
        : experimenter === NICIRA
          ? NX[code] || NX_LATER[code]
          : undefined;
    const who = `0x${(experimenter ?? 0).toString(16)}`;
    return { type: 'OFPET_EXPERIMENTER', code: known || `${who}:${code}` };
  }
  const [type, codes] = NAMES[errorType] ?? [`error type ${errorType}`, []];
  return { type, code: codes[code] || `code ${code}` };
}
