/**
 * Connections that are in their TLS handshake: strangers of whom nothing is known yet. Each ends by itself when it takes too long or hangs up.
 */
import type { Socket } from 'node:net';
import type { Timer } from '../../shared/runtime/clock.js';
import { SwitchError } from './errors.js';
import type { Bounds } from './options.js';

/** One of them. */
export interface Handshaking {
  readonly address: string;
  readonly peer: string;
  /** May be called again: the first reason counts. */
  close(reason: SwitchError): void;
}

export class TlsHandshakes {
  private readonly timers = new Map<Socket, Timer>();

  /** `failed` is told once of each that does not come through, when it has been hung up on. */
  constructor(
    private readonly bounds: Bounds,
    private readonly failed: (who: Handshaking, reason: SwitchError) => void,
  ) {}

  begin(socket: Socket): Handshaking {
    const address = socket.remoteAddress ?? '?';
    const peer = `${address}:${socket.remotePort ?? '?'}`;
    const who: Handshaking = {
      address,
      peer,
      close: (reason) => {
        if (!this.end(socket)) return;
        socket.destroy();
        this.failed(who, reason);
      },
    };
    const { handshakeTimeoutMs, clock } = this.bounds;
    const late = `${peer} did not complete its TLS handshake within ${handshakeTimeoutMs} ms`;
    this.timers.set(
      socket,
      clock.after(handshakeTimeoutMs, () => who.close(new SwitchError('timeout', late))),
    );
    socket.once('close', () => who.close(new SwitchError('closed', `${peer} hung up in its TLS handshake`)));
    return who;
  }

  /** It has come through, or will not. False when it had ended before. */
  end(socket: Socket): boolean {
    this.timers.get(socket)?.close();
    return this.timers.delete(socket);
  }
}
