/**
 * Who holds a certificate, as the certificate itself says. A certificate is of one kind; its names are URIs in its subjectAltName (RFC 5280, 4.2.1.6),
 * and its extended key usage (4.2.1.12) is the one of its kind:
 *
 *   controller   paguro:controller                   serverAuth, and DNS names and IP addresses that it is reached by
 *   agent        paguro:agent:edge-1                 clientAuth, once for each domain that it may act for
 *   switch       paguro:switch:0000000000000001      clientAuth, once for each datapath id: one ovs-vswitchd has one certificate for all its bridges
 *
 * Open vSwitch checks no names: that only a controller has serverAuth is what keeps an agent, or another switch, from being a switch's controller.
 */
import type { X509Certificate } from 'node:crypto';
import { type Dpid, dpid } from '../domain/domain.js';
import { TlsError } from './errors.js';

export type Holder =
  | { readonly kind: 'controller' }
  | { readonly kind: 'agent'; readonly domains: readonly string[] }
  | { readonly kind: 'switch'; readonly dpids: readonly Dpid[] };

export type Kind = Holder['kind'];

/** Extended key usages by their object identifiers. */
const USAGE: Readonly<Record<Kind, string>> = {
  controller: '1.3.6.1.5.5.7.3.1',
  agent: '1.3.6.1.5.5.7.3.2',
  switch: '1.3.6.1.5.5.7.3.2',
};

const OURS = 'URI:paguro:';
const NAME = /^URI:paguro:(?:(controller)|agent:([a-z][a-z0-9-]{0,31})|switch:([0-9a-f]{16}))$/;
const MAX_LISTED = 8;
/** More names than one vswitchd has bridges. */
const MAX_NAMES = 1024;

/** The URIs of a holder's names. */
export function urisOf(holder: Holder): readonly string[] {
  switch (holder.kind) {
    case 'controller':
      return ['paguro:controller'];
    case 'agent':
      return holder.domains.map((name) => `paguro:agent:${name}`);
    case 'switch':
      return holder.dpids.map((id) => `paguro:switch:${id}`);
  }
}

/** As a person reads it: `an agent's (edge-1)`. */
export function describeHolder(holder: Holder): string {
  if (holder.kind === 'controller') return "a controller's";
  return holder.kind === 'agent'
    ? `an agent's (${listed(holder.domains)})`
    : `a switch's (${listed(holder.dpids)})`;
}

/** Names for a message: the first few. */
export function listed(names: readonly string[]): string {
  const more = names.length - MAX_LISTED;
  return `${names.slice(0, MAX_LISTED).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}

/** Throws a TlsError `wrong-kind` for a certificate that is not exactly one of the three. */
export function holderOf(certificate: Pick<X509Certificate, 'subjectAltName' | 'keyUsage' | 'ca'>): Holder {
  const holder = holderNamed(certificate.subjectAltName ?? '');
  if (certificate.ca) throw wrong("it is a CA's own: its key signs, and nothing else");
  // Node calls it keyUsage; it is undefined where the extension is missing.
  const usages: readonly string[] = certificate.keyUsage ?? [];
  if (usages.length !== 1 || usages[0] !== USAGE[holder.kind])
    throw wrong(`its extended key usage is not that of ${describeHolder(holder)}`);
  return holder;
}

/** `text` is as Node writes a subjectAltName: `URI:paguro:agent:edge-1, DNS:localhost`. */
export function holderNamed(text: string): Holder {
  // What has other than plain characters in it stands in quotes, and may then hold what looks like another name.
  if (text.includes('"')) throw wrong('its names have characters that no name has');
  const ours = text.split(', ').filter((name) => name.startsWith(OURS));
  if (ours.length === 0) throw wrong('it names neither a controller nor an agent nor a switch');
  if (ours.length > MAX_NAMES) throw wrong(`it has more than ${MAX_NAMES} names`);
  const controller: string[] = [];
  const domains: string[] = [];
  const dpids: Dpid[] = [];
  for (const name of ours) {
    const found = NAME.exec(name);
    if (!found) throw wrong(`its name ${name.slice(4, 100)} is none that is known`);
    const [, self, domain, id] = found;
    if (self !== undefined) controller.push(self);
    if (domain !== undefined) domains.push(domain);
    if (id !== undefined) dpids.push(dpid(id));
  }
  if ([controller, domains, dpids].filter(({ length }) => length > 0).length !== 1)
    throw wrong('it is of several kinds at once');
  if (controller.length > 0) return { kind: 'controller' };
  return domains.length > 0 ? { kind: 'agent', domains } : { kind: 'switch', dpids };
}

function wrong(why: string): TlsError {
  return new TlsError('wrong-kind', `this certificate is of no use here: ${why}`);
}
