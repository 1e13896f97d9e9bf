/**
 * Connections that are no switches yet: only so many at once. When there are more, the longest-waiting one leaves of the neighbourhood
 * that has most: whoever opens connections without end displaces its own, and a switch, which is through in milliseconds, still gets in.
 */
export class Lobby<T extends { readonly address: string }> {
  private readonly byNeighbourhood = new Map<string, Set<T>>();
  private count = 0;

  constructor(private readonly capacity: number) {}

  get size(): number {
    return this.count;
  }

  /** Returns who has to leave for the newcomer, if anybody: `leave` is still to be called for it. */
  enter(newcomer: T): T | undefined {
    const place = neighbourhood(newcomer.address);
    const neighbours = this.byNeighbourhood.get(place);
    if (neighbours) neighbours.add(newcomer);
    else this.byNeighbourhood.set(place, new Set([newcomer]));
    this.count++;
    return this.count > this.capacity ? this.oldestOfMost() : undefined;
  }

  /** May be called twice. */
  leave(visitor: T): void {
    const place = neighbourhood(visitor.address);
    const neighbours = this.byNeighbourhood.get(place);
    if (!neighbours?.delete(visitor)) return;
    this.count--;
    if (neighbours.size === 0) this.byNeighbourhood.delete(place);
  }

  private oldestOfMost(): T | undefined {
    let most: Set<T> | undefined;
    for (const neighbours of this.byNeighbourhood.values())
      if (neighbours.size > (most?.size ?? 0)) most = neighbours;
    return most?.values().next().value;
  }
}

/** An IPv4 address; of IPv6 the first 64 bits, of which one host has all the rest. */
export function neighbourhood(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  const [bare = ''] = address.split('%');
  if (!bare.includes(':')) return bare;
  const [head = '', tail] = bare.split('::');
  const before = head === '' ? [] : head.split(':');
  const after = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = tail === undefined ? 0 : 8 - before.length - after.length;
  const words = [...before, ...Array<string>(Math.max(0, zeros)).fill('0'), ...after];
  return `${words.slice(0, 4).join(':')}::/64`;
}
