/**
 * Nicira's multipart kinds (Open vSwitch, nicira-ext.h): what IPFIX has sent.
 */
import { list, pad, struct, u32, u64 } from '../wire/index.js';

/** struct nx_ipfix_stats_reply. */
const ipfixFields = {
  totalFlows: u64,
  currentFlows: u64,
  packets: u64,
  ipv4Packets: u64,
  ipv6Packets: u64,
  errorPackets: u64,
  ipv4ErrorPackets: u64,
  ipv6ErrorPackets: u64,
  txPackets: u64,
  txErrors: u64,
  collectorSet: u32,
  _: pad(4),
} as const;

export const ipfixBridge = struct(ipfixFields);
export const ipfixFlows = struct({ collectors: list(struct(ipfixFields)) });
