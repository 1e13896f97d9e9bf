/**
 * Who may ask: programs of this machine, but not the pages in its browsers.
 *
 * A page can make its browser send requests to 127.0.0.1. If it does so under a name of its own that it lets point here (DNS rebinding), the Host
 * header gives it away; if it asks 127.0.0.1 itself, the Origin header does. Both are set by the browser, not by the page.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { ApiError } from '../../shared/api/errors.js';
import { isLoopback } from '../../shared/runtime/loopback.js';

/** Fails with `forbidden` unless the request was meant for this server. */
export function checkHeaders(headers: Pick<IncomingHttpHeaders, 'host' | 'origin'>): void {
  const host = hostnameOf(`http://${headers.host ?? ''}`);
  if (host === undefined || !(host === 'localhost' || isLoopback(host))) {
    throw new ApiError(
      'forbidden',
      'the API answers to loopback addresses and localhost only: ask http://127.0.0.1',
    );
  }
  if (headers.origin !== undefined && headers.origin !== `http://${headers.host}`) {
    throw new ApiError('forbidden', 'the API does not answer to pages of other servers');
  }
}

function hostnameOf(url: string): string | undefined {
  return URL.canParse(url) ? new URL(url).hostname.replace(/^\[|\]$/g, '') : undefined;
}
