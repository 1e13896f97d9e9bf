/**
 * Without TLS the channel runs on loopback only: whoever could read or write it elsewhere would own the firewalls.
 * A configured certificate is what lets other addresses through.
 */
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { isLoopback } from '../runtime/loopback.js';
import { messageOf } from '../runtime/message-of.js';
import { ChannelError } from './errors.js';

export function tlsNeeded(what: string): ChannelError {
  return new ChannelError(
    'tls-needed',
    `${what} is not a loopback address: there the channel needs TLS, and TLS is not configured. Use 127.0.0.1 or ::1`,
  );
}

/**
 * The address to use for a host: itself, or what its name resolves to, when all of that is loopback.
 * Fails with a ChannelError `tls-needed`, or `closed` when the name cannot be resolved.
 */
export async function loopbackAddressOf(host: string): Promise<string> {
  if (isIP(host) !== 0) {
    if (!isLoopback(host)) throw tlsNeeded(host);
    return host;
  }
  const found = await lookup(host, { all: true }).catch((cause: unknown) => {
    throw new ChannelError('closed', `${host} cannot be resolved: ${messageOf(cause)}`, { cause });
  });
  const foreign = found.find(({ address }) => !isLoopback(address));
  if (foreign) throw tlsNeeded(`${host} (${foreign.address})`);
  const [first] = found;
  if (!first) throw new ChannelError('closed', `${host} has no address`);
  return first.address;
}

/** The parts of a channel's URL. Throws a ChannelError at once for one that can never be dialled. `tls`: there is a certificate to show. */
export function parseChannelUrl(text: string, tls: boolean): { readonly url: URL; readonly host: string } {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || (url.protocol !== 'ws:' && url.protocol !== 'wss:') || url.hostname === '')
    throw new ChannelError(
      'refused',
      `not a channel URL: ${text}. Write one such as ws://127.0.0.1:7653, or wss://192.0.2.1:7653 with TLS`,
    );
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  if (url.protocol === 'wss:') {
    if (!tls)
      throw new ChannelError(
        'tls-needed',
        `${text} needs TLS, and TLS is not configured: write tls, with ca, certificate and key, or use ws:// on loopback`,
      );
    return { url, host };
  }
  if (tls)
    throw new ChannelError(
      'refused',
      `${text} is without TLS, and TLS is configured: write wss:// instead of ws://`,
    );
  if (isIP(host) !== 0 && !isLoopback(host)) throw tlsNeeded(host);
  return { url, host };
}
