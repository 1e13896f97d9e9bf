/**
 * Reads a pcap stream (the classic format, Ethernet, little-endian, microseconds or nanoseconds) as it comes, in pieces of any size.
 * Source: draft-ietf-opsawg-pcap.
 */
const FILE_HEADER_BYTES = 24;
const RECORD_HEADER_BYTES = 16;
const MAGIC_MICROSECONDS = 0xa1b2c3d4;
const MAGIC_NANOSECONDS = 0xa1b23c4d;
const LINKTYPE_ETHERNET = 1;
/** tcpdump's own limit. A longer record means that the stream is not understood. */
const MAX_FRAME_BYTES = 262_144;

export class PcapError extends Error {
  override readonly name = 'PcapError';
  readonly code = 'not-pcap';
}

export interface CapturedFrame {
  /** The kernel's time of capture, real time in ms since 1970. */
  readonly capturedAt: number;
  readonly data: Buffer;
}

export class PcapReader {
  #rest: Buffer = Buffer.alloc(0);
  #fraction: number | undefined;

  /** The frames that are complete with this piece. Fails with PcapError when it is no such stream. */
  push(piece: Buffer): CapturedFrame[] {
    let rest = this.#rest.length === 0 ? piece : Buffer.concat([this.#rest, piece]);
    const frames: CapturedFrame[] = [];
    if (this.#fraction === undefined) {
      if (rest.length < FILE_HEADER_BYTES) {
        this.#rest = rest;
        return frames;
      }
      this.#fraction = readHeader(rest);
      rest = rest.subarray(FILE_HEADER_BYTES);
    }
    while (rest.length >= RECORD_HEADER_BYTES) {
      const length = rest.readUInt32LE(8);
      if (length > MAX_FRAME_BYTES) throw new PcapError(`a pcap record of ${length} bytes`);
      if (rest.length < RECORD_HEADER_BYTES + length) break;
      const capturedAt = rest.readUInt32LE(0) * 1000 + rest.readUInt32LE(4) / this.#fraction;
      const data = Buffer.from(rest.subarray(RECORD_HEADER_BYTES, RECORD_HEADER_BYTES + length));
      frames.push({ capturedAt, data });
      rest = rest.subarray(RECORD_HEADER_BYTES + length);
    }
    this.#rest = rest;
    return frames;
  }
}

/** How many of the fractions that the records hold are a millisecond. */
function readHeader(header: Buffer): number {
  const magic = header.readUInt32LE(0);
  if (magic !== MAGIC_MICROSECONDS && magic !== MAGIC_NANOSECONDS) {
    throw new PcapError(`no pcap stream: it begins with ${header.subarray(0, 4).toString('hex')}`);
  }
  const linkType = header.readUInt32LE(20);
  if (linkType !== LINKTYPE_ETHERNET)
    throw new PcapError(`link type ${linkType} where Ethernet (1) was expected`);
  return magic === MAGIC_MICROSECONDS ? 1_000 : 1_000_000;
}
