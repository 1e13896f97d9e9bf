/**
 * What looks at the wire in a scenario: injectors on all hosts, captures at the terminal and at the server, and rounds of forbidden
 * frames. Every round's frames are unlike those of every other, so that what arrives can be told apart.
 */
import { realClock, sleep } from '../../shared/runtime/clock.js';
import {
  type ForbiddenCase,
  type ForbiddenOptions,
  forbiddenFrames,
  type Rig,
  sendCases,
  settle,
  startCapture,
  startInjector,
  type Trial,
  tryForbidden,
} from './hosts/index.js';
import type { Paguro } from './paguro.js';

/** TCP port that the policy opens outbound: what is wrong with a forbidden frame is something else. Nothing listens there. */
const OPEN_PORT = 5990;
/** UDP port of the frames that must arrive; nothing listens there. */
const SENTINEL_PORT = 5999;
/** What the example policy of a phone closes outbound. */
const CLOSED_TCP_PORT = 25;
const CLOSED_UDP_PORT = 161;
const MAX_ROUNDS = 240;

export interface ForbiddenCount {
  readonly tried: number;
  /** Names of the cases that were seen at the far end. */
  readonly passed: readonly string[];
}

/** What a round has beside the usual cases. */
export type RigOptions = Pick<ForbiddenOptions, 'neverGiven'>;

export class WireRig {
  #round = 0;

  private constructor(
    readonly paguro: Pick<Paguro, 'host'>,
    readonly rig: Rig,
    readonly options: RigOptions,
  ) {}

  /** `ports` are those of the ordinary traffic, which the captures leave out. */
  static async start(
    paguro: Pick<Paguro, 'host'>,
    ports: readonly number[],
    options: RigOptions = {},
  ): Promise<WireRig> {
    const [terminal, server, stranger] = ['h1', 'h2', 'h3'].map((name) => paguro.host(name));
    if (!terminal || !server || !stranger) throw new Error('the network has no h1, h2 and h3');
    const filter = ports.flatMap((port, index) => [
      ...(index > 0 ? ['and'] : []),
      'not',
      'port',
      String(port),
    ]);
    const rig: Rig = {
      injectors: {
        terminal: startInjector(terminal),
        server: startInjector(server),
        stranger: startInjector(stranger),
      },
      captures: {
        terminal: await startCapture(terminal, { filter }),
        server: await startCapture(server, { filter }),
      },
    };
    return new WireRig(paguro, rig, options);
  }

  #next() {
    if (this.#round >= MAX_ROUNDS) throw new Error(`more than ${MAX_ROUNDS} rounds of forbidden frames`);
    this.#round += 1;
    return {
      terminal: this.paguro.host('h1'),
      server: this.paguro.host('h2'),
      stranger: this.paguro.host('h3'),
      openPort: OPEN_PORT,
      closedTcpPort: CLOSED_TCP_PORT,
      closedUdpPort: CLOSED_UDP_PORT,
      // Tags that a first instance has on trunks, and one that none has.
      vlans: [2, 3, 5],
      ...this.options,
      round: this.#round,
    };
  }

  /** Waits until permitted frames pass both ways: after a move, switches that learn need a moment to find the terminal again. */
  settle(): Promise<void> {
    return settle(this.rig, this.#next(), SENTINEL_PORT);
  }

  /** Sends one round and waits until what was to arrive has arrived. */
  round(): Promise<Trial> {
    const options = this.#next();
    return tryForbidden(this.rig, forbiddenFrames(options), options, SENTINEL_PORT);
  }

  /** Sends rounds, `pauseMs` apart, without waiting until `work` is done; the last is sent after it began to end. */
  async during(work: Promise<unknown>, pauseMs = 20): Promise<readonly Trial[]> {
    const trials: Trial[] = [];
    let done = false;
    const finished = work.finally(() => {
      done = true;
    });
    // Its failure is told below, when the last round is sent.
    finished.catch(() => {});
    while (!done && this.#round < MAX_ROUNDS) {
      trials.push(await sendCases(this.rig, forbiddenFrames(this.#next())));
      await sleep(realClock, pauseMs);
    }
    await finished;
    return trials;
  }

  async close(): Promise<void> {
    await Promise.all([
      ...Object.values(this.rig.injectors).map((injector) => injector.close()),
      ...Object.values(this.rig.captures).map((capture) => capture.close()),
    ]);
  }
}

/** To be asked when what was sent has had its time to arrive: after a later round. */
export function count(trials: readonly Trial[]): ForbiddenCount {
  const label = ({ family, name }: ForbiddenCase): string => `${family}: ${name}`;
  return {
    tried: trials.reduce((sum, trial) => sum + trial.tried.length, 0),
    passed: trials.flatMap((trial) => trial.arrived().map(label)),
  };
}
