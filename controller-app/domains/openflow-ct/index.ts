/**
 * The SDN domain: a terminal's firewall as flow rules with ct() in one switch.
 */
export {
  type InstanceNumberSource,
  OpenFlowCtDomain,
  type OpenFlowCtDomainOptions,
} from './domain.js';
export { type FirewallHost, firewallHost } from './host.js';
export {
  type InstanceHead,
  type InstanceKeeper,
  type InstancePart,
  type InstanceRecord,
  instanceHeadSchema,
  instanceRecordSchema,
  type KeptConnection,
  keptConnectionSchema,
} from './record.js';
export { DEFAULT_TIMINGS, OPEN_VSWITCH_TIMES, type SwitchTimes, type Timings } from './timings.js';
