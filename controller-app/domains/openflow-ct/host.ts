/**
 * What the domain needs of the controller core, and nothing more of it.
 */
import type { Dpid } from '../../../shared/domain/domain.js';
import type { Connection } from '../../../shared/firewall/connection.js';
import type { PluginHost } from '../../core/plugin.js';
import { type Action, type MessageBody, OFPP } from '../../openflow/index.js';
import { flushOf } from '../../pipeline/index.js';

export interface Count {
  readonly packets: number;
  readonly bytes: number;
}

export interface FirewallHost extends Pick<PluginHost, 'table' | 'setGroups' | 'counters'> {
  /** Is the switch connected, with its pipeline in place? */
  connected(dpid: Dpid): boolean;
  /** Forgets all connections of a conntrack zone; settles when the switch has done it. */
  flushZone(dpid: Dpid, zone: number): Promise<void>;
  /** Forgets these connections of a zone, as far as the switch knows them (see pipeline/flush.ts); settles when it has done it. */
  flushConnections(dpid: Dpid, zone: number, connections: readonly Connection[]): Promise<void>;
  /** Gives the switch a frame that comes from no port. A switch that is not connected sends nothing. */
  packetOut(dpid: Dpid, actions: readonly Action[], frame: Buffer): void;
}

/** Where an instance is: its number in a switch. */
export interface Place {
  readonly dpid: Dpid;
  readonly number: number;
  readonly host: FirewallHost;
}

/** The core's host of the plugin that owns the firewall's tables, seen through this interface. */
export function firewallHost(host: PluginHost): FirewallHost {
  return {
    table: (name) => host.table(name),
    connected: (dpid) => host.switch(dpid) !== undefined,
    setGroups: (dpid, groups, sweeps) => host.setGroups(dpid, groups, sweeps),
    counters: (dpid, table, of) => host.counters(dpid, table, of),
    flushZone: async (dpid, zone) => {
      const sw = host.switch(dpid);
      if (!sw) throw new Error(`switch ${dpid} is not connected`);
      const flush: MessageBody = { type: 'ct_flush_zone', zone };
      sw.send(flush);
      // It has no reply of its own.
      await sw.barrier();
    },
    flushConnections: async (dpid, zone, connections) => {
      const sw = host.switch(dpid);
      if (!sw) throw new Error(`switch ${dpid} is not connected`);
      for (const connection of connections) {
        const flush = flushOf(zone, connection);
        if (flush) sw.send(flush);
      }
      await sw.barrier();
    },
    packetOut: (dpid, actions, data) =>
      host.switch(dpid)?.packetOut({ inPort: OFPP.CONTROLLER, actions, data }),
  };
}
