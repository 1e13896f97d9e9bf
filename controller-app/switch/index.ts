/**
 * Live switches: the listener they connect to, and one object for each.
 */
export {
  BundleError,
  type BundleFailure,
  OpenFlowError,
  SwitchError,
  type SwitchErrorCode,
} from './errors.js';
export { type ListenerEvents, type ListenerOptions, OpenFlowListener } from './listener.js';
export type { SwitchOptions } from './options.js';
export { logRefusal } from './refusal-log.js';
export { StagedBundle } from './staged-bundle.js';
export {
  type FlowFilter,
  type Port,
  type PortChange,
  type RequestOptions,
  Switch,
  type SwitchEvents,
} from './switch.js';
export { afterOthers } from './turns.js';
