/**
 * What `conntrack -L` prints.
 */
import assert from 'node:assert/strict';
import { ownAddresses, parseDump } from '../../../edge-agent/conntrack/parse.js';
import { connectionSchema } from '../../../shared/firewall/connection.js';
import { realisticTable } from '../../fixtures/connection-tables.js';
import { dumpLine } from '../../fixtures/conntrack-lines.js';
import { alice } from '../../fixtures/reference-environment.js';
import { conntrackLines } from '../conntrack-words.js';
import { bytesOf, type FuzzTarget, textOf } from '../target.js';

const own = ownAddresses(alice);

const target: FuzzTarget = {
  seeds: (seed) =>
    realisticTable(alice, 40, 10 + (seed % 10)).map((connection) => bytesOf(`${dumpLine(connection)}\n`)),
  words: conntrackLines,
  run: (input) => {
    const connections = parseDump(textOf(input), own);
    for (const connection of connections) {
      assert.deepEqual(connectionSchema.parse(connection), connection);
      assert.ok(own.has(connection.local.address));
    }
    return (
      connections
        .map(({ protocol, opener }) => `${protocol} ${opener}`)
        .sort()
        .slice(0, 3)
        .join(', ') || 'nothing'
    );
  },
};
export default target;
