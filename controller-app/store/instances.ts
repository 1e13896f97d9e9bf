/**
 * Keeps the records of instances in switches. A record that cannot be kept is not there. Changes and removals are facts: when one cannot be written its
 * promise fails, but it is remembered and written later; whoever does not carry out what it told must tell so.
 */

import type { InstanceId } from '../../shared/domain/domain.js';
import { connectionKey } from '../../shared/firewall/connection.js';
import type {
  InstanceHead,
  InstanceKeeper,
  InstancePart,
  InstanceRecord,
  KeptConnection,
} from '../domains/openflow-ct/record.js';
import { type Contents, inPieces } from './contents.js';
import type { Entry, Keep } from './entry.js';

export class Instances implements InstanceKeeper {
  /** The heads as they will be when all that was said is written. */
  readonly #heads = new Map<string, InstanceHead>();

  constructor(
    contents: Contents,
    readonly keep: Keep,
  ) {
    for (const { connections: _, ...head } of contents.instances())
      this.#heads.set(keyOf({ terminal: head.terminal.name, epoch: head.epoch }), head);
  }

  async put(id: InstanceId, { connections, ...head }: InstanceRecord): Promise<void> {
    this.#heads.set(keyOf(id), head);
    const { terminal, epoch } = id;
    const pieces = [...inPieces(byKey(connections))].map((put): Entry => {
      return { kind: 'instance-connections', terminal, epoch, put, ended: new Set() };
    });
    try {
      await this.keep([{ kind: 'instance', terminal, head }, ...pieces], 'order');
    } catch (error) {
      this.#heads.delete(keyOf(id));
      throw error;
    }
  }

  change(id: InstanceId, { connections = [], ended = [], ...part }: InstancePart): Promise<void> {
    const { terminal, epoch } = id;
    const before = this.#heads.get(keyOf(id));
    // It is removed already: what is still told of it means nothing.
    if (!before) return Promise.resolve();
    const entries: Entry[] = [];
    const changesHead = Object.keys(part).length > 0;
    if (changesHead) {
      const head = { ...before, ...part };
      this.#heads.set(keyOf(id), head);
      entries.push({ kind: 'instance-head', terminal, head });
    }
    const put = byKey(connections);
    const gone = new Map(ended.flatMap((key) => (put.has(key) ? [] : [[key, true]])));
    for (const piece of inPieces(gone)) {
      entries.push({
        ...{ kind: 'instance-connections', terminal, epoch },
        ...{ put: new Map(), ended: new Set(piece.keys()) },
      });
    }
    for (const piece of inPieces(put))
      entries.push({ kind: 'instance-connections', terminal, epoch, put: piece, ended: new Set() });
    if (entries.length === 0) return Promise.resolve();
    return this.keep(entries, changesHead ? 'awaited fact' : 'fact');
  }

  remove(id: InstanceId): Promise<void> {
    if (!this.#heads.delete(keyOf(id))) return Promise.resolve();
    return this.keep([{ kind: 'instance-gone', terminal: id.terminal, epoch: id.epoch }], 'awaited fact');
  }
}

function keyOf({ terminal, epoch }: InstanceId): string {
  return `${terminal} ${epoch}`;
}

function byKey(connections: readonly KeptConnection[]): Map<string, KeptConnection> {
  return new Map(connections.map((kept) => [connectionKey(kept.connection), kept]));
}
