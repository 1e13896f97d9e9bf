/**
 * Packets: a small parser of a frame's headers, and the few frames that the controller makes itself.
 */
export { type IpHeader, type Packet, parsePacket, type Transport } from './parse.js';
export { rejectionFrame } from './rejection.js';
