/**
 * Where the API is: `http://127.0.0.1:7680`, or `unix:/path/of/a/socket`.
 */
import { ApiError } from './errors.js';

export type ApiAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

export const DEFAULT_API = 'http://127.0.0.1:7680';

/** Fails with an `ApiError` that says what to write. */
export function parseApiAddress(text: string): ApiAddress {
  if (text.startsWith('unix:') && text.length > 'unix:'.length) {
    return { kind: 'unix', path: text.slice('unix:'.length) };
  }
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol !== 'http:' || url.pathname !== '/' || url.username !== '' || url.search !== '') {
    throw new ApiError(
      'invalid',
      `${text} is no address of the API: write one such as ${DEFAULT_API} or unix:/run/paguro.sock`,
    );
  }
  return { kind: 'tcp', host: url.hostname.replace(/^\[|\]$/g, ''), port: Number(url.port || 80) };
}

export function formatApiAddress(address: ApiAddress): string {
  if (address.kind === 'unix') return `unix:${address.path}`;
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  return `http://${host}:${address.port}`;
}
