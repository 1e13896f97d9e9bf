/**
 * Hosts of the network and what they can do: programs in their namespace, traffic, pings, injection and capture of frames.
 */
export {
  autoconfigure,
  type Client,
  type ClientOptions,
  ignoreRouters,
  type KernelAddress,
  kernelAddresses,
  type Running,
  type ServerOptions,
  startAddressServer,
  startDhcpClient,
} from './addressing.js';
export { Capture, type CapturedFrame, type CaptureOptions, startCapture } from './capture.js';
export { monotonicMs } from './clock.js';
export {
  type DatagramOptions,
  type DatagramReport,
  Datagrams,
  type FlowGap,
  type FlowReport,
} from './datagrams.js';
export { type Arrival, FlowJudge, type Gap, judge, longestGap, type Tally } from './flow-judge.js';
export {
  type ForbiddenCase,
  type ForbiddenOptions,
  forbiddenFrames,
  type Role,
} from './forbidden.js';
export * as frames from './frames.js';
export { type Addresses, Host } from './host.js';
export { Injector, startInjector } from './inject.js';
export { HelperError } from './json-lines.js';
export { type Ping, type PingReport, startPing } from './ping.js';
export { countRetransmissions, retransmissions } from './retransmissions.js';
export { type Fate, fates } from './survival.js';
export { type Rate, startTraffic, type TcpTarget, Traffic, type UdpTarget } from './traffic.js';
export type {
  ExchangeReport,
  ProbeReport,
  TcpMode,
  TcpReport,
  TrafficReport,
} from './traffic-protocol.js';
export { type Rig, sendCases, settle, type Trial, tryForbidden } from './trial.js';
