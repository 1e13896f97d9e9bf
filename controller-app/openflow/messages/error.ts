/**
 * Errors (spec 1.3.5, 7.4.4), and how what could not be decoded is answered with one.
 */
import { OFPET_EXPERIMENTER } from '../error-codes.js';
import { type OpenFlowDecodeError, OpenFlowEncodeError } from '../errors.js';
import type { Struct } from '../wire/index.js';

export interface ErrorBody {
  readonly errorType: number;
  /** For an experimenter's error its exp_type. */
  readonly code: number;
  /** Whose error it is: there exactly when errorType is OFPET_EXPERIMENTER. */
  readonly experimenter?: number;
  /** The first 64 bytes or more of what was refused; for HELLO_FAILED a text. */
  readonly data: Uint8Array;
}

export const error: Struct<ErrorBody> = {
  readInto: (r, target) => {
    target.errorType = r.u16();
    target.code = r.u16();
    if (target.errorType === OFPET_EXPERIMENTER) target.experimenter = r.u32();
    target.data = r.take(r.left);
  },
  read: (r) => {
    const value = { errorType: 0, code: 0, data: new Uint8Array(0) };
    error.readInto(r, value);
    return value;
  },
  write: (w, { errorType, code, experimenter, data }) => {
    w.u16(errorType);
    w.u16(code);
    if ((errorType === OFPET_EXPERIMENTER) !== (experimenter !== undefined))
      throw new OpenFlowEncodeError('bad-value', 'an experimenter goes with type 0xffff, and with no other');
    if (experimenter !== undefined) w.u32(experimenter);
    w.put(data);
  },
};

/** What to tell the sender of something that could not be decoded. */
export function errorAnswer({ errorType, errorCode, experimenter, data, xid }: OpenFlowDecodeError): {
  readonly type: 'error';
  readonly xid: number;
} & ErrorBody {
  return {
    type: 'error',
    xid,
    errorType,
    code: errorCode,
    ...(experimenter === undefined ? {} : { experimenter }),
    data,
  };
}
