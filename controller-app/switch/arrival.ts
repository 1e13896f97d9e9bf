/**
 * The way of one connection:
 *
 *   hello → introduction → ready        (and from each of them to closed)
 */
import type { Socket } from 'node:net';
import { type FeaturesReply, helloElements, type MessageBody, VERSION } from '../openflow/index.js';
import { type Received, refusalOf } from './codec.js';
import { Connection } from './connection.js';
import { SwitchError } from './errors.js';
import { faultOfFirst, introduce } from './handshake.js';
import type { Bounds } from './options.js';
import { Switch } from './switch.js';
import type { Turns } from './turns.js';

/** Who is told of it. */
export interface Reception {
  /** May this connection be the switch that it says it is? Fails if not. */
  admit(connection: Connection, features: FeaturesReply): Promise<void>;
  /** Its handshake is complete. Messages that came meanwhile follow when this returns. */
  ready(connection: Connection, sw: Switch): void;
  /** It has ended; `sw` is there if it had been ready. */
  gone(connection: Connection, sw: Switch | undefined, reason: Error | undefined): void;
}

type State =
  | { readonly name: 'hello' }
  | { readonly name: 'introduction'; readonly early: Early }
  | { readonly name: 'ready'; readonly sw: Switch }
  | { readonly name: 'closed' };

/** What came before its switch was ready. */
class Early {
  readonly messages: MessageBody[] = [];
  private bytes = 0;

  constructor(private readonly maxBytes: number) {}

  /** False when there is no room. */
  keep({ message, frame }: Received): boolean {
    if (this.bytes + frame.length > this.maxBytes) return false;
    this.bytes += frame.length;
    this.messages.push(message);
    return true;
  }
}

/** Says hello on a new socket, and goes on from there. */
export function receive(socket: Socket, bounds: Bounds, turns: Turns, reception: Reception): Connection {
  let state: State = { name: 'hello' };
  const connection = new Connection(socket, bounds, turns, {
    onMessage: (received) => {
      if (state.name === 'hello') greet(received);
      else if (received.message.type === 'hello') connection.close(helloAgain(received));
      else if (state.name === 'introduction') keep(received, state.early);
      else if (state.name === 'ready') state.sw.receive(received.message);
    },
    onClose: (reason) => {
      const sw = state.name === 'ready' ? state.sw : undefined;
      state = { name: 'closed' };
      deadline.close();
      reception.gone(connection, sw, reason);
    },
  });
  const { handshakeTimeoutMs, clock } = bounds;
  const deadline = clock.after(handshakeTimeoutMs, () =>
    connection.close(
      new SwitchError(
        'timeout',
        `${connection.peer} did not complete its handshake within ${handshakeTimeoutMs} ms`,
      ),
    ),
  );
  connection.send({ type: 'hello', elements: helloElements(VERSION) });
  return connection;

  function greet(received: Received): void {
    const fault = faultOfFirst(received);
    if (fault) {
      connection.close(fault);
      return;
    }
    state = { name: 'introduction', early: new Early(bounds.maxStrangerBytes) };
    introduce(connection, (features) => reception.admit(connection, features)).then(
      (handshake) => {
        if (state.name !== 'introduction') return;
        const { early } = state;
        deadline.close();
        const sw = new Switch(connection, bounds, handshake);
        state = { name: 'ready', sw };
        reception.ready(connection, sw);
        for (const message of early.messages) if (!sw.closed) sw.receive(message);
      },
      (error: Error) => connection.close(error),
    );
  }

  /** Packets beyond the bound are lost, as they are when the controller is away; nothing else may be. */
  function keep(received: Received, early: Early): void {
    if (early.keep(received) || received.message.type === 'packet_in') return;
    connection.close(new SwitchError('protocol', 'too many messages before the handshake was complete'));
  }
}

function helloAgain({ frame }: Received): SwitchError {
  return new SwitchError('protocol', 'the switch said hello twice', {
    answer: refusalOf(frame, 'OFPBRC_BAD_TYPE'),
  });
}
