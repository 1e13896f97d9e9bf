/**
 * What the domain needs of the controller core, and nothing more of it.
 */
import type { Dpid } from '../../../shared/domain/domain.js';
import type { PluginHost } from '../../core/plugin.js';
import type { MessageBody } from '../../openflow/index.js';
import type { Rule } from '../../pipeline/index.js';

export interface Count {
  readonly packets: number;
  readonly bytes: number;
}

export interface FirewallHost {
  /** The number of a table, by name. */
  table(name: string): number;
  /** Is the switch connected, with its pipeline in place? */
  connected(dpid: Dpid): boolean;
  /** As the core's `setGroups`: one bundle; settles when the switch has confirmed. */
  setGroups(dpid: Dpid, groups: ReadonlyMap<string, readonly Rule[]>): Promise<void>;
  /** Packets and bytes of the rules of a table whose cookies under `mask` are `value`, by their cookies. */
  counters(
    dpid: Dpid,
    table: string,
    of: { readonly value: number; readonly mask: number },
  ): Promise<ReadonlyMap<number, Count>>;
  /** Forgets all connections of a conntrack zone; settles when the switch has done it. */
  flushZone(dpid: Dpid, zone: number): Promise<void>;
}

/** The core's host of the plugin that owns the firewall's tables, seen through this interface. */
export function firewallHost(host: PluginHost): FirewallHost {
  return {
    table: (name) => host.table(name),
    connected: (dpid) => host.switch(dpid) !== undefined,
    setGroups: (dpid, groups) => host.setGroups(dpid, groups),
    counters: (dpid, table, of) => host.counters(dpid, table, of),
    flushZone: async (dpid, zone) => {
      const sw = host.switch(dpid);
      if (!sw) throw new Error(`switch ${dpid} is not connected`);
      const flush: MessageBody = { type: 'ct_flush_zone', zone };
      sw.send(flush);
      // It has no reply of its own.
      await sw.barrier();
    },
  };
}
