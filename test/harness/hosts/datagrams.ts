/**
 * Numbered datagrams between two hosts, both ways in each family, and what became of them. The sending and receiving is done by datagrams.py,
 * one in each host; `flow-judge.ts` joins their records.
 */
import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import type { Family } from '../../../shared/firewall/terminal.js';
import { sourceFile } from '../../lab/project.js';
import { waitFor } from '../../lab/wait.js';
import { type Arrival, FlowJudge, type Gap, type Tally } from './flow-judge.js';
import type { Host } from './host.js';
import type { JsonLines } from './json-lines.js';

const PYTHON = '/usr/bin/python3';
const TOKEN_BYTES = 8;
const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];
/** As long as the program can. */
const SECONDS = 14_400;
const FIRST_MS = 10_000;
/** What has not come this long after the last was sent is lost. */
const SETTLE_MS = 2_000;

/** Base64 of little-endian values of so many bytes each. */
function values(bytes: number, read: (buffer: Buffer, at: number) => number) {
  return z.base64().transform((text, context): readonly number[] => {
    const buffer = Buffer.from(text, 'base64');
    if (buffer.length % bytes !== 0) {
      context.addIssue({ code: 'custom', message: `not a multiple of ${bytes} bytes` });
      return z.NEVER;
    }
    return Array.from({ length: buffer.length / bytes }, (_, place) => read(buffer, place * bytes));
  });
}

const timesSchema = values(8, (buffer, at) => buffer.readDoubleLE(at));
const numbersSchema = values(4, (buffer, at) => buffer.readUInt32LE(at));
const sentSchema = z.object({ flows: z.array(z.object({ at: timesSchema })) });
const receivedSchema = z.object({
  flows: z.array(
    z.object({
      at: timesSchema,
      numbers: numbersSchema,
      foreign: z.number(),
      overflows: z.number(),
      refused: z.number(),
    }),
  ),
});
type Received = z.infer<typeof receivedSchema>['flows'][number];

const doneSchema = z.looseObject({});

export interface DatagramOptions {
  /** The host that sends first: the policy of a terminal has its connections opened by it. */
  readonly first: Host;
  readonly second: Host;
  /** The first's and the second's. */
  readonly ports: readonly [number, number];
  /** Of each family, in each direction. */
  readonly perSecond: number;
  /** What starts the programs that send and receive, with its arguments: `chrt`. Default: nothing, they are started as they are. */
  readonly starter?: readonly string[];
}

export interface FlowReport extends Tally {
  readonly from: string;
  readonly to: string;
  readonly family: Family;
  /** When those were sent that have not arrived. Monotonic ms. */
  readonly missingSince: readonly number[];
}

export interface DatagramReport {
  readonly flows: readonly FlowReport[];
  /** Datagrams without this measurement's token. */
  readonly foreign: number;
  /** What the measuring programs themselves did not read in time: of these nothing can be said. */
  readonly overflows: number;
  /** What the kernel did not send, as while a link is away. It counts as sent. */
  readonly refused: number;
}

/** A gap, and where. */
export interface FlowGap extends Gap {
  readonly flow: Pick<FlowReport, 'from' | 'to' | 'family'>;
}

interface End {
  readonly host: Host;
  readonly port: number;
  readonly program: JsonLines;
  /** Of what this end sends, by family. */
  readonly judges: readonly FlowJudge[];
  /** The latest that this end said, by family. */
  said: readonly Pick<Received, 'foreign' | 'overflows' | 'refused'>[];
}

export class Datagrams {
  readonly #ends: readonly [End, End];

  private constructor(first: End, second: End) {
    this.#ends = [first, second];
  }

  /** Settles when datagrams arrive in all directions. */
  static async start({ first, second, ports, perSecond, starter = [] }: DatagramOptions): Promise<Datagrams> {
    const token = randomBytes(TOKEN_BYTES).toString('hex');
    const datagrams = new Datagrams(startEnd(first, ports[0], starter), startEnd(second, ports[1], starter));
    const [one, other] = datagrams.#ends;
    const open = (end: End, peer: End): Promise<unknown> => {
      const flows = FAMILIES.map((family) => ({
        local: [end.host[family], end.port],
        remote: [peer.host[family], peer.port],
      }));
      return end.program.request({ do: 'open', token, perSecond, seconds: SECONDS, flows }, doneSchema);
    };
    try {
      await Promise.all([open(one, other), open(other, one)]);
      for (const end of datagrams.#ends) {
        await end.program.request({ do: 'start' }, doneSchema);
        await waitFor(
          `datagrams from ${end.host.name} arrive in both families`,
          async () => {
            await datagrams.collect();
            return end.judges.every(({ tally }) => tally.received > 0);
          },
          { timeoutMs: FIRST_MS, intervalMs: 20 },
        );
      }
      return datagrams;
    } catch (error) {
      await datagrams.close();
      throw error;
    }
  }

  /** Fetches what has been recorded meanwhile, and returns the gaps in it. To be asked at least once a minute: the programs keep it until then. */
  async collect(): Promise<readonly FlowGap[]> {
    const [one, other] = this.#ends;
    // Nobody has received what is not recorded as sent, if the senders are asked last.
    const received = await Promise.all(this.#ends.map((end) => takeReceived(end)));
    const sent = await Promise.all(this.#ends.map((end) => takeSent(end)));
    return [
      ...joined(one, other, sent[0] ?? [], received[1] ?? []),
      ...joined(other, one, sent[1] ?? [], received[0] ?? []),
    ];
  }

  /** Sends no more, and waits until all have arrived, for 2 s at most. Returns the last gaps. */
  async stop(): Promise<readonly FlowGap[]> {
    await Promise.all(this.#ends.map(({ program }) => program.request({ do: 'stop' }, doneSchema)));
    const gaps: FlowGap[] = [];
    await waitFor(
      'all datagrams arrive',
      async () => {
        gaps.push(...(await this.collect()));
        return this.report().flows.every(({ lost }) => lost === 0);
      },
      { timeoutMs: SETTLE_MS, intervalMs: 50 },
    ).catch(() => {});
    const ends = this.#ends.flatMap((end, place) =>
      end.judges.flatMap((judge, family) => named(judge.end(), end, this.#ends[1 - place], family)),
    );
    return [...gaps, ...ends];
  }

  /** As of the last `collect`: what was under way then counts as lost. */
  report(): DatagramReport {
    const sum = (key: 'foreign' | 'overflows' | 'refused'): number =>
      this.#ends.flatMap(({ said }) => said).reduce((total, one) => total + one[key], 0);
    return {
      flows: this.#ends.flatMap((end, place) =>
        end.judges.map((judge, family) => ({
          ...nameOf(end, this.#ends[1 - place], family),
          ...judge.tally,
          missingSince: judge.missingSince,
        })),
      ),
      ...{ foreign: sum('foreign'), overflows: sum('overflows'), refused: sum('refused') },
    };
  }

  /** May be called twice. */
  async close(): Promise<void> {
    await Promise.all(this.#ends.map(({ program }) => program.close()));
  }
}

function startEnd(host: Host, port: number, starter: readonly string[]): End {
  const script = sourceFile('test', 'harness', 'hosts', 'datagrams.py');
  const [file, ...args] = [...starter, PYTHON, script] as const;
  const program = host.helper('datagrams.py', file ?? PYTHON, args);
  return { host, port, program, judges: FAMILIES.map(() => new FlowJudge()), said: [] };
}

async function takeReceived(end: End): Promise<readonly (readonly Arrival[])[]> {
  const { flows } = await end.program.request({ do: 'take', what: 'received' }, receivedSchema);
  end.said = flows;
  return flows.map(({ at, numbers }) =>
    numbers.map((number, place) => ({ number, at: at[place] ?? Number.NaN })),
  );
}

async function takeSent(end: End): Promise<readonly (readonly number[])[]> {
  const { flows } = await end.program.request({ do: 'take', what: 'sent' }, sentSchema);
  return flows.map(({ at }) => at);
}

/** The next portion of both families, in one direction. */
function joined(
  from: End,
  to: End,
  sent: readonly (readonly number[])[],
  received: readonly (readonly Arrival[])[],
): readonly FlowGap[] {
  return from.judges.flatMap((judge, family) =>
    named(judge.add(sent[family] ?? [], received[family] ?? []), from, to, family),
  );
}

function named(gaps: readonly Gap[], from: End, to: End | undefined, family: number): readonly FlowGap[] {
  const flow = nameOf(from, to, family);
  return gaps.map((gap) => ({ ...gap, flow }));
}

function nameOf(from: End, to: End | undefined, family: number): FlowGap['flow'] {
  return { from: from.host.name, to: to?.host.name ?? '', family: FAMILIES[family] ?? 'ipv4' };
}
