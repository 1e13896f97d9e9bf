/**
 * Packets: a small parser of a frame's headers, the messages by which addresses are come by, and the few frames that the controller makes itself.
 */
export { type DhcpKind, type DhcpMessage, parseDhcp } from './dhcp.js';
export { type NeighborMessage, parseNeighbor } from './nd.js';
export { type IpHeader, type Packet, parsePacket, type Transport } from './parse.js';
export { rejectionFrame } from './rejection.js';
