/**
 * A trial: forbidden frames are sent, and looked for at the far ends. It waits for a frame that must arrive, not for a time: an exchange
 * that the policy admits, sent last, twice there and back. What was sent before it has arrived by then, or does not.
 */
import { waitFor } from '../../lab/wait.js';
import type { Capture } from './capture.js';
import type { ForbiddenCase, ForbiddenOptions, Role } from './forbidden.js';
import { udp } from './frames.js';
import type { Injector } from './inject.js';

const SENTINEL_MS = 10_000;
const RESEND_MS = 200;
const SENTINEL_ROUNDS = 2;

export interface Rig {
  readonly injectors: Readonly<Record<Role, Injector>>;
  /** Where frames are looked for. */
  readonly captures: Readonly<Record<'terminal' | 'server', Capture>>;
}

export interface Trial {
  readonly tried: readonly ForbiddenCase[];
  /** The cases whose frame was seen at the far end until now. */
  arrived(): readonly ForbiddenCase[];
  missing(): readonly ForbiddenCase[];
}

/** Sends the cases in order. Nothing is waited for. What could not leave because the link was away has not been tried. */
export async function sendCases(rig: Rig, cases: readonly ForbiddenCase[]): Promise<Trial> {
  const tried: ForbiddenCase[] = [];
  let at = 0;
  while (at < cases.length) {
    const from = cases[at]?.from ?? 'terminal';
    const next = cases.findIndex((one, index) => index > at && one.from !== from);
    const until = next < 0 ? cases.length : next;
    const batch = cases.slice(at, until);
    const { lost } = await rig.injectors[from].send(batch.map(({ frame }) => frame));
    tried.push(...batch.filter((_, place) => !lost.includes(place)));
    at = until;
  }
  const split = (wanted: boolean): readonly ForbiddenCase[] =>
    tried.filter(({ seenAt, frame }) => rig.captures[seenAt].saw(frame) === wanted);
  return { tried, arrived: () => split(true), missing: () => split(false) };
}

/**
 * Sends the cases and waits until a permitted UDP exchange, sent after them, has gone there and back in both families.
 * `permittedPort` is a UDP port that the policy opens outbound. Fails with `timeout` when that does not arrive.
 */
export async function tryForbidden(
  rig: Rig,
  cases: readonly ForbiddenCase[],
  options: ForbiddenOptions,
  permittedPort: number,
): Promise<Trial> {
  const trial = await sendCases(rig, cases);
  await settle(rig, options, permittedPort);
  return trial;
}

/** Waits until frames sent from now on arrive, and with them all that were sent before and are to arrive. */
export async function settle(rig: Rig, options: ForbiddenOptions, permittedPort: number): Promise<void> {
  const { terminal, server, round } = options;
  for (let number = 0; number < SENTINEL_ROUNDS; number++) {
    for (const family of ['ipv4', 'ipv6'] as const) {
      const payload = Buffer.from(`paguro sentinel ${round}/${number} ${Math.random()}`);
      const [port, ip] = [9_000 + round, { source: terminal[family], destination: server[family] }];
      const there = udp({ from: terminal.mac, to: server.mac }, ip, {
        ...{ sourcePort: port, destinationPort: permittedPort, payload },
      });
      const back = udp(
        { from: server.mac, to: terminal.mac },
        { source: server[family], destination: terminal[family] },
        { sourcePort: permittedPort, destinationPort: port, payload },
      );
      await arrives(rig.injectors.terminal, rig.captures.server, there, `${family} to the server`);
      await arrives(rig.injectors.server, rig.captures.terminal, back, `${family} to the terminal`);
    }
  }
  await Promise.all(Object.values(rig.captures).map((capture) => capture.flush()));
}

/** Sends a frame, again every 200 ms, until it is seen. */
async function arrives(injector: Injector, capture: Capture, frame: Buffer, what: string): Promise<void> {
  let sentAt = Number.NEGATIVE_INFINITY;
  await waitFor(
    `a permitted frame over ${what} arrives`,
    async () => {
      if (capture.saw(frame)) return true;
      if (performance.now() - sentAt > RESEND_MS) {
        sentAt = performance.now();
        await injector.send([frame]);
      }
      return false;
    },
    { timeoutMs: SENTINEL_MS, intervalMs: 5 },
  );
}
