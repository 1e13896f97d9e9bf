/**
 * Addresses in a buffer as canonical text: made for each copied packet, so without detours.
 */

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

export function formatMac(data: Uint8Array, offset: number): string {
  let text = HEX[data[offset] ?? 0] ?? '';
  for (let index = 1; index < 6; index++) text += `:${HEX[data[offset + index] ?? 0]}`;
  return text;
}

export function formatIpv4(data: Buffer, offset: number): string {
  return `${data[offset]}.${data[offset + 1]}.${data[offset + 2]}.${data[offset + 3]}`;
}

/** RFC 5952: lower case, no leading zeros, the longest run of two or more zero groups (the first of equals) as `::`. */
export function formatIpv6(data: Buffer, offset: number): string {
  const groups: number[] = [];
  for (let index = 0; index < 8; index++) groups.push(data.readUInt16BE(offset + index * 2));
  let best = { start: -1, length: 1 };
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (groups[start + length] === 0) length++;
    if (length > best.length) best = { start, length };
  }
  const hex = (from: number, to: number): string =>
    groups
      .slice(from, to)
      .map((group) => group.toString(16))
      .join(':');
  return best.start < 0 ? hex(0, 8) : `${hex(0, best.start)}::${hex(best.start + best.length, 8)}`;
}
