/**
 * The channel between controller and agents: `ChannelServer` at the controller, `serveDomain` at the agent.
 */
export { ChannelError, type ChannelErrorCode } from './errors.js';
export { DEFAULT_LIMITS, type Limits, PROTOCOL_VERSION } from './limits.js';
export { type ServeDomainOptions, type ServedDomain, serveDomain } from './serve-domain.js';
export { type AgentHandler, ChannelServer, type ChannelServerOptions } from './server.js';
export { AgentSession, type Answer, type Batch, type RequestBody } from './session.js';
