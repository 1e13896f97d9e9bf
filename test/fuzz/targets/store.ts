/**
 * A file of the store: whatever stands in it is refused in words, or means what it would mean if it were written again. The frames of inputs are given the checks
 * that they should have, so that what is in them is read.
 */
import assert from 'node:assert/strict';
import { Contents } from '../../../controller-app/store/contents.js';
import type { Entry } from '../../../controller-app/store/entry.js';
import { decodeEntries, encodeEntry, joinEntries } from '../../../controller-app/store/entry-codec.js';
import { FileParser } from '../../../controller-app/store/file-parser.js';
import { encodeFrame } from '../../../controller-app/store/frames.js';
import { Keeper } from '../../../controller-app/store/keeper.js';
import { StoreError } from '../../../controller-app/store/store.js';
import { dpid } from '../../../shared/domain/domain.js';
import { epoch } from '../../../shared/firewall/state.js';
import { alice, examplePolicy } from '../../fixtures/reference-environment.js';
import { BEGINNING, story } from '../../fixtures/store-story.js';
import { type FuzzTarget, refusedOr } from '../target.js';

const HEADER = Buffer.from(
  JSON.stringify({
    format: 'paguro-store',
    version: 1,
    kind: 'journal',
    number: 1,
    start: { kind: 'nothing' },
  }),
);

/** Payloads, each as the second frame of a journal. */
function seeds(): Uint8Array[] {
  const entries: Entry[] = [];
  const keeper = new Keeper('alice', new Contents(), async (more) => void entries.push(...more));
  keeper.setState(BEGINNING);
  keeper.changes(story(0, 120));
  keeper.setActive({
    domain: 'edge-1',
    epoch: epoch(3),
    number: 3,
    ends: { kind: 'pipeline', dpid: dpid(1), instance: 3 },
  });
  keeper.setAddresses([
    { address: 'fd00::7', origin: 'slaac' },
    { address: '10.0.0.9', origin: 'dhcp', until: 9 },
  ]);
  void keeper.setPolicy({ policy: examplePolicy, fileDigest: '0'.repeat(64) });
  void keeper.setEpoch(8);
  return [
    ...entries.map((entry) => joinEntries([encodeEntry(entry)])),
    joinEntries(entries.map(encodeEntry)),
    joinEntries([encodeEntry({ kind: 'forget', terminal: alice.name })]),
  ];
}

const target: FuzzTarget = {
  seeds,
  run: (input) =>
    refusedOr(() => {
      const contents = new Contents();
      const kinds = new Set<string>();
      const parser = new FileParser(() => (entries) => {
        for (const entry of entries) {
          kinds.add(entry.kind);
          contents.apply(entry);
          assert.deepEqual(
            decodeEntries(joinEntries([encodeEntry(entry)])),
            [entry],
            'it is not read as it was written',
          );
        }
      });
      parser.push(Buffer.concat([encodeFrame(0, HEADER), encodeFrame(1, input)]), true);
      const again = new Contents();
      for (const entry of contents.entries()) again.apply(entry);
      assert.deepEqual(all(again), all(contents), 'a snapshot of it means something else');
      return `read: ${[...kinds].sort().join(' ')}`;
    }, StoreError),
};
export default target;

function all(contents: Contents): unknown {
  return [contents.terminals().map((name) => ({ ...contents.terminal(name) })), contents.instances()];
}
