/**
 * A small packet parser: the headers of a frame, or of the beginning of one.
 */
export { type IpHeader, type Packet, parsePacket, type Transport } from './parse.js';
