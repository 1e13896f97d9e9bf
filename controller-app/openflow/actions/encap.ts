/**
 * Nicira's encap: puts a header before the packet, which becomes one of another type.
 */
import { NICIRA } from '../error-codes.js';
import { OpenFlowEncodeError } from '../errors.js';
import { type Codec, type Reader, struct, u16, u32, type Variants, type Writer } from '../wire/index.js';
import { numberOf } from './parts.js';

/** Class of properties that are about the network service header (RFC 8300). */
const NSH = 0x0004;
const NSH_MD_TYPE = 1;
const NSH_TLV = 2;
const HEADER_LENGTH = 4;
const MD_TYPE_LENGTH = 5;
const TLV_HEADER_LENGTH = 8;

/** What is known of the new header beforehand. */
export type EncapProperty =
  /** 1: a context of fixed size; 2: TLVs. */
  | { readonly type: 'nsh_md_type'; readonly mdType: number }
  | {
      readonly type: 'nsh_tlv';
      readonly tlvClass: number;
      readonly tlvType: number;
      readonly data: Uint8Array;
    }
  | {
      readonly type: 'unknown';
      readonly propertyClass: number;
      readonly property: number;
      readonly body: Uint8Array;
    };

const roundUp = (length: number): number => length + (-length & 7);

/** Class u16 | type u8 | length u8 (of all but the zeros after it) | body, zeros up to a multiple of 8 bytes. */
const property: Codec<EncapProperty> = {
  read: (r) => {
    const start = r.pos;
    const propertyClass = r.u16();
    const type = r.u8();
    const length = r.u8();
    if (length < HEADER_LENGTH) r.failLength(`a property of ${length} bytes`, start);
    const value = r.within(length - HEADER_LENGTH, () => readBody(r, propertyClass, type));
    r.skip(-length & 7);
    return value;
  },
  write: (w, value) => {
    const start = w.length;
    switch (value.type) {
      case 'nsh_md_type':
        writeHeader(w, NSH, NSH_MD_TYPE, MD_TYPE_LENGTH);
        w.u8(value.mdType);
        break;
      case 'nsh_tlv':
        // The zeros after the data count here.
        writeHeader(w, NSH, NSH_TLV, TLV_HEADER_LENGTH + roundUp(value.data.length));
        w.u16(value.tlvClass);
        w.u8(value.tlvType);
        w.u8(value.data.length);
        w.put(value.data);
        break;
      case 'unknown':
        writeHeader(w, value.propertyClass, value.property, HEADER_LENGTH + value.body.length);
        w.put(value.body);
        break;
      default:
        throw new OpenFlowEncodeError(
          'bad-value',
          `no property of encap is called ${String((value as { type: unknown }).type)}`,
        );
    }
    w.align8(start);
  },
};

function readBody(r: Reader, propertyClass: number, type: number): EncapProperty {
  if (propertyClass !== NSH || (type !== NSH_MD_TYPE && type !== NSH_TLV))
    return { type: 'unknown', propertyClass, property: type, body: r.take(r.left) };
  if (type === NSH_MD_TYPE) return { type: 'nsh_md_type', mdType: r.u8() };
  const tlvClass = r.u16();
  const tlvType = r.u8();
  const data = r.take(r.u8());
  if (r.left > 7 || r.left !== (-data.length & 7))
    r.failLength(`${r.left} bytes after ${data.length} of an NSH TLV`);
  r.skip(r.left);
  return { type: 'nsh_tlv', tlvClass, tlvType, data };
}

function writeHeader(w: Writer, propertyClass: number, type: number, length: number): void {
  w.u16(propertyClass);
  w.u8(type);
  w.u8(length);
}

const properties: Codec<readonly EncapProperty[]> = {
  read: (r) => {
    const all: EncapProperty[] = [];
    while (r.left > 0) all.push(property.read(r));
    return all;
  },
  write: (w, all) => {
    for (const one of all) property.write(w, one);
  },
};

export const ENCAP = {
  /** `packetType` is what the packet becomes, `headerSize` how long the header is if that isn't known by the type (0: it is). */
  encap: [numberOf(NICIRA, 46), struct({ headerSize: u16, packetType: u32, properties })],
} as const satisfies Variants;
