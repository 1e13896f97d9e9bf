/**
 * Which addresses only programs of this machine reach.
 */
import { isIP } from 'node:net';

/** `host` is an IP address, without brackets; a name is never taken for one. */
export function isLoopback(host: string): boolean {
  return host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}
