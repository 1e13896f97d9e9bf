/**
 * Failures of all kinds as the API tells them: a status, a code and a sentence that says what to do.
 */
import type { z } from 'zod';
import { ApiError, HTTP_STATUS } from '../../shared/api/errors.js';
import { type ErrorCode, MAX_REQUEST_BYTES } from '../../shared/api/schema.js';
import { DomainError, type DomainErrorCode } from '../../shared/domain/domain.js';
import { TOO_MANY_RULES } from '../../shared/firewall/policy.js';
import { explainIssues } from '../../shared/firewall/yaml-issues.js';
import { describePath, MAX_PROBLEMS } from '../../shared/firewall/yaml-text.js';
import { StoreError } from '../store/store.js';

const FROM_DOMAIN: Readonly<Record<DomainErrorCode, ErrorCode>> = {
  'stale-epoch': 'busy',
  'no-instance': 'no-instance',
  'changes-lost': 'unavailable',
  unreachable: 'unavailable',
  'not-ready': 'unavailable',
  refused: 'unavailable',
  invalid: 'invalid',
};

/** What the client is told. Failures that nobody expected say only where to look: their text is for the log. */
export function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof DomainError)
    return new ApiError(FROM_DOMAIN[error.code], error.message, { cause: error });
  if (error instanceof StoreError) return new ApiError('unavailable', error.message, { cause: error });
  const status = statusOf(error);
  if (status === 413) {
    const what = `the body is larger than ${MAX_REQUEST_BYTES} bytes, more than any request needs`;
    return new ApiError('too-large', `${what}: ${TOO_MANY_RULES}`, { cause: error });
  }
  if (status === 415) {
    return new ApiError('invalid', 'send the body as JSON, with content-type: application/json', {
      cause: error,
    });
  }
  if (status !== undefined && status >= 400 && status < 500 && error instanceof Error) {
    return new ApiError('invalid', error.message, { cause: error });
  }
  return new ApiError('internal', 'the controller failed at this request: its log says how', {
    cause: error,
  });
}

export function httpStatusOf(error: ApiError): number {
  return HTTP_STATUS[error.code];
}

/** The value in the form that a schema gives it. Fails with `invalid`, which says where and what to write. */
export function checked<S extends z.ZodType>(schema: S, value: unknown): z.output<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const problems = explainIssues(result.error.issues, schema, value, MAX_PROBLEMS);
  const sentences = problems.map(({ path, message }) => {
    const where = describePath(path);
    return where === '' ? `the body: ${message}` : `${where}: ${message}`;
  });
  throw new ApiError('invalid', sentences.join('\n'));
}

function statusOf(error: unknown): number | undefined {
  if (typeof error !== 'object' || error === null || !('statusCode' in error)) return undefined;
  return typeof error.statusCode === 'number' ? error.statusCode : undefined;
}
