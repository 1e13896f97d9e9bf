/**
 * SIGHUP reads the certificates again, so that a new one is in force without a restart: for whoever connects from then on.
 */
import type { Closable } from '../shared/runtime/lifetime.js';
import type { Log } from '../shared/runtime/log.js';
import { messageOf } from '../shared/runtime/message-of.js';
import { type Identity, loadIdentity, type TlsFiles } from '../shared/tls/index.js';

/** What shows a certificate. */
export interface Renewable {
  renew(identity: Identity): void;
}

/** Until it is closed. What is wrong with new files is logged, and the certificate from before stays in force. */
export function renewOnHangup(files: TlsFiles, shownBy: readonly Renewable[], log: Log): Closable {
  const renew = (): void => {
    loadIdentity(files, { kind: 'controller' }).then(
      (identity) => {
        for (const place of shownBy) place.renew(identity);
        log.info('certificate and CA were read again: they hold for new connections');
      },
      (error: unknown) => log.error({ error: messageOf(error) }, 'certificate and CA stay as they were'),
    );
  };
  process.on('SIGHUP', renew);
  return { close: () => void process.off('SIGHUP', renew) };
}
