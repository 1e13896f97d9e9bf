/**
 * What is said before a connection is a switch: hello, features, configuration, ports (spec 1.3.5, 6.3.3).
 */

import type { Port as WirePort } from '../openflow/index.js';
import {
  type FeaturesReply,
  helloOffers,
  OFPC_FRAG,
  OFPHFC_INCOMPATIBLE,
  VERSION,
} from '../openflow/index.js';
import { helloFailed, type Received, refusalOf } from './codec.js';
import type { Connection } from './connection.js';
import { type OpenFlowError, SwitchError } from './errors.js';
import { allParts, only } from './replies.js';

/** Bytes of a frame that comes to the controller for want of a rule. */
const MISS_SEND_LEN = 128;
/** Port descriptions of 64 bytes each. No switch has as many ports. */
const MAX_PORTS_BYTES = 2 ** 20;

export interface Handshake {
  readonly features: FeaturesReply;
  readonly ports: readonly WirePort[];
}

/** Why a connection can't go on after its first message, if it can't: that must be a hello that allows 1.3 (7.5.1). */
export function faultOfFirst({ message, version, xid, frame }: Received): SwitchError | undefined {
  if (message.type !== 'hello')
    return new SwitchError('protocol', `${message.type} came before hello`, {
      answer: refusalOf(frame, 'OFPBRC_BAD_TYPE'),
    });
  if (helloOffers(message.elements, version, VERSION)) return undefined;
  return new SwitchError(
    'version',
    `the switch speaks OpenFlow wire version ${version}, not ${VERSION}: set protocols=OpenFlow13 on its bridge`,
    { answer: helloFailed(OFPHFC_INCOMPATIBLE, 'only OpenFlow 1.3 is spoken here', xid) },
  );
}

/** After both hellos. `admit` settles when it may go on. Fails with what the switch did wrong. */
export async function introduce(
  connection: Connection,
  admit: (features: FeaturesReply) => Promise<void>,
): Promise<Handshake> {
  const features = await connection.request({ type: 'features_request' }, only('features_reply'));
  await admit(features);
  await configure(connection);
  const parts = await connection.request(
    { type: 'multipart_request', body: { type: 'port_desc' } },
    allParts('port_desc', MAX_PORTS_BYTES),
  );
  return { features, ports: parts.flatMap((part) => part.ports) };
}

/** Fragments keep their ports where they have them (Nicira's nx-match); a switch without that is left as it is. */
async function configure(connection: Connection): Promise<void> {
  let refused: OpenFlowError | undefined;
  const watch = connection.requests.watch(
    1,
    () => 'set_config',
    (error) => {
      refused = error;
    },
  );
  try {
    connection.send(
      { type: 'set_config', flags: OFPC_FRAG.NX_MATCH, missSendLen: MISS_SEND_LEN },
      watch.first,
    );
    await connection.request({ type: 'barrier_request' }, only('barrier_reply'));
  } finally {
    watch.end();
  }
  if (refused) connection.send({ type: 'set_config', flags: OFPC_FRAG.NORMAL, missSendLen: MISS_SEND_LEN });
}
