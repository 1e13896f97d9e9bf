/**
 * The coded connection table of a state on the channel.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  ConnectionsError,
  decodeConnections,
  encodeConnections,
} from '../../../shared/channel/connections-codec.js';
import { type Connection, connectionSchema } from '../../../shared/firewall/connection.js';
import { anyConnection, realisticTable } from '../../fixtures/connection-tables.js';
import { alice } from '../../fixtures/reference-environment.js';
import { type FuzzTarget, refusedOr } from '../target.js';

const target: FuzzTarget = {
  seeds: (seed) =>
    [
      ...fc.sample(fc.array(anyConnection(alice), { maxLength: 20 }), { numRuns: 30, seed }),
      realisticTable(alice, 100, 10),
    ].map((connections) => encodeConnections(connections, alice)),
  run: (input) =>
    refusedOr(() => {
      const connections = decodeConnections(input, alice);
      for (const connection of connections) assert.deepEqual(connectionSchema.parse(connection), connection);
      assert.deepEqual(
        sorted(decodeConnections(encodeConnections(connections, alice), alice)),
        sorted(connections),
        'another coding of the table has another meaning',
      );
      return `a table of ${Math.min(connections.length, 3)}: ${[...new Set(connections.map(({ protocol }) => protocol))]}`;
    }, ConnectionsError),
};
export default target;

function sorted(connections: readonly Connection[]): string[] {
  return connections.map((one) => JSON.stringify(one)).sort();
}
