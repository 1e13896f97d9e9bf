/**
 * A domain behind the channel.
 */
export { RemoteDomain, type RemoteDomainOptions, type Transfer } from './remote-domain.js';
