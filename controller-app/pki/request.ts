/**
 * What a certificate is asked for, checked: kind, names, addresses. Pure.
 */
import { isIP } from 'node:net';
import { domainNameSchema } from '../../shared/channel/messages.js';
import { type Dpid, dpid } from '../../shared/domain/domain.js';
import type { Holder, Kind } from '../../shared/tls/index.js';
import { PkiError } from './errors.js';

export interface CertificateRequest {
  readonly holder: Holder;
  /** DNS names and IP addresses that a controller is reached by; for others none. */
  readonly addresses: readonly string[];
  /** Of its files, without an ending. */
  readonly fileName: string;
}

/** A controller that only programs of this machine reach. */
const LOOPBACK = ['127.0.0.1', '::1', 'localhost'];
const DNS_NAME =
  /^(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*$/i;
const DPID = /^(?:[0-9]{1,15}|[0-9a-f]{16})$/i;
const MAX_NAMES = 256;

/**
 * `names` are addresses of a controller (without any: of loopback), names of domains for an agent, datapath ids for a switch: numbers, or 16
 * hexadecimal digits. Throws a PkiError `bad-name`.
 */
export function requestOf(kind: Kind, names: readonly string[]): CertificateRequest {
  if (names.length > MAX_NAMES) throw bad(`a certificate has at most ${MAX_NAMES} names`);
  switch (kind) {
    case 'controller': {
      for (const name of names) checkAddress(name);
      const addresses = names.length > 0 ? names : LOOPBACK;
      return { holder: { kind }, addresses, fileName: kind };
    }
    case 'agent': {
      const [first] = names;
      if (first === undefined) throw bad('name the domain that the agent may act for, such as edge-1');
      for (const name of names) {
        const checked = domainNameSchema.safeParse(name);
        if (!checked.success) throw bad(`${name}: ${checked.error.issues[0]?.message}`);
      }
      return { holder: { kind, domains: names }, addresses: [], fileName: `agent-${first}` };
    }
    case 'switch': {
      const dpids = names.map(dpidNamed);
      if (names[0] === undefined)
        throw bad(
          'write the datapath ids that the switch may claim, such as 1 (see "ovs-vsctl get bridge NAME datapath_id")',
        );
      return { holder: { kind, dpids }, addresses: [], fileName: `switch-${names[0].toLowerCase()}` };
    }
  }
}

function checkAddress(text: string): void {
  // All digits and dots and yet no address: a slip of the keyboard.
  if (isIP(text) === 0 && (!DNS_NAME.test(text) || /^[0-9.]+$/.test(text)))
    throw bad(
      `${text} is neither an IP address nor a DNS name: write those that the controller is reached by`,
    );
}

function dpidNamed(text: string): Dpid {
  const id = DPID.test(text) ? dpid(text.length === 16 ? text.toLowerCase() : Number(text)) : undefined;
  if (id === undefined || /^0+$/.test(id))
    throw bad(`${text} is no datapath id: write a number such as 1, or 16 hexadecimal digits`);
  return id;
}

function bad(message: string): PkiError {
  return new PkiError('bad-name', message);
}
