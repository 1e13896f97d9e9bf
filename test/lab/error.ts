/**
 * What can go wrong with a lab. Every message says what to do.
 */
export type LabErrorCode =
  | 'not-root'
  | 'not-in-lab'
  | 'missing-program'
  | 'did-not-start'
  | 'stopped'
  | 'refused'
  | 'timeout';

export class LabError extends Error {
  override readonly name = 'LabError';
  constructor(
    readonly code: LabErrorCode,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}
