/**
 * What is said before a connection is a switch: hello, features, configuration, ports (spec 1.3.5, 6.3.3).
 */

import type { Port as WirePort } from '../openflow/index.js';
import {
  type FeaturesReply,
  helloOffers,
  type MessageBody,
  OFPC_FRAG,
  OFPET_HELLO_FAILED,
  OFPHFC_INCOMPATIBLE,
  VERSION,
} from '../openflow/index.js';
import type { Connection } from './connection.js';
import { type OpenFlowError, SwitchError } from './errors.js';
import { multipart, only } from './replies.js';

/** Bytes of a frame that comes to the controller for want of a rule. */
const MISS_SEND_LEN = 128;

export interface Handshake {
  readonly features: FeaturesReply;
  readonly ports: readonly WirePort[];
}

/** True when a peer's hello allows version 1.3 (7.5.1): by its bitmap, or by being able to speak at least that. */
export function speaksOurVersion(hello: Extract<MessageBody, { type: 'hello' }>, version: number): boolean {
  return helloOffers(hello.elements, version, VERSION);
}

/** Says why, as 7.4.4.1 wants it, and closes. */
export function refuseVersion(connection: Connection, version: number): void {
  const message = `the switch speaks OpenFlow wire version ${version}, not ${VERSION}: set protocols=OpenFlow13 on its bridge`;
  connection.closeAfter(
    {
      type: 'error',
      errorType: OFPET_HELLO_FAILED,
      code: OFPHFC_INCOMPATIBLE,
      data: Buffer.from('only OpenFlow 1.3 is spoken here'),
    },
    new SwitchError('version', message),
  );
}

/** After both hellos. Fails with what the switch did wrong. */
export async function introduce(connection: Connection, maxMultipartBytes: number): Promise<Handshake> {
  const features = await connection.request({ type: 'features_request' }, only('features_reply'));
  if (features.auxiliaryId !== 0)
    throw new SwitchError('protocol', 'auxiliary connections are not used: this one was refused');
  await configure(connection);
  const parts = await connection.request(
    { type: 'multipart_request', body: { type: 'port_desc' } },
    multipart('port_desc', maxMultipartBytes),
  );
  return { features, ports: parts.flatMap((part) => part.ports) };
}

/** Fragments keep their ports where they have them (Nicira's nx-match); a switch without that is left as it is. */
async function configure(connection: Connection): Promise<void> {
  const refused = new Promise<OpenFlowError | undefined>((resolve, reject) => {
    const xid = connection.requests.nextXid();
    const unwatch = connection.requests.watch(xid, 'set_config', resolve);
    connection.send({ type: 'set_config', flags: OFPC_FRAG.NX_MATCH, missSendLen: MISS_SEND_LEN }, xid);
    connection
      .request({ type: 'barrier_request' }, only('barrier_reply'))
      .then(() => resolve(undefined), reject)
      .finally(unwatch);
  });
  if (await refused)
    connection.send({ type: 'set_config', flags: OFPC_FRAG.NORMAL, missSendLen: MISS_SEND_LEN });
}
