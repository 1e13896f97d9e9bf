/**
 * The conformance suite: one list of behaviours that every kind of domain has, seen through the Domain interface only. A new kind of domain is a folder
 * that passes it. What only packets can show needs the environment's `wire`; without it those cases are skipped, and say so.
 */
import type { Test } from 'tap';
import type { Connection } from '../firewall/connection.js';
import type { Policy } from '../firewall/policy.js';
import type { Terminal } from '../firewall/terminal.js';
import { changeCases } from './conformance-changes.js';
import { lifeCases } from './conformance-life.js';
import { stateCases } from './conformance-state.js';
import { Bench, type ConformanceCase } from './conformance-tools.js';
import { wireCases } from './conformance-wire.js';
import type { Domain, InstanceId } from './domain.js';

/** Drives real connections through instances: each promise settles when what the packets did is seen. */
export interface ConformanceWire {
  /** A connection that the terminal opens and its policy accepts, from this address or from one of its own; another one with each call. */
  allowed(local?: string): Connection;
  /** One that the policy drops. */
  forbidden(): Connection;
  /** Sends what opens the connection, through this instance. True when it came out at the other side. */
  admit(id: InstanceId, connection: Connection): Promise<boolean>;
  /** Sends a packet from the middle of the connection through this instance. True when it came out at the other side. */
  carries(id: InstanceId, connection: Connection): Promise<boolean>;
}

/** What one run of the suite works on. */
export interface ConformanceEnvironment {
  readonly domain: Domain;
  /** Two terminals that the domain may run firewalls for: with addresses of both families, none in common. */
  readonly terminal: Terminal;
  readonly otherTerminal: Terminal;
  readonly policy: Policy;
  readonly wire?: ConformanceWire;
  close(): Promise<void>;
}

export interface ConformanceOptions {
  readonly name: string;
  readonly create: () => Promise<ConformanceEnvironment>;
  /** For what the suite waits for, in ms. Default 10,000. */
  readonly deadlineMs?: number;
}

/** Adds the suite to a tap test, as one subtest with a subtest for each behaviour. */
export async function domainConformance(t: Test, options: ConformanceOptions): Promise<void> {
  const { name, create, deadlineMs = DEADLINE_MS } = options;
  await t.test(`${name} is a domain`, async (suite) => {
    const environment = await create();
    suite.teardown(() => environment.close());
    const bench = new Bench(environment, deadlineMs);
    for (const { behaviour, run } of [...lifeCases, ...changeCases, ...stateCases])
      await suite.test(behaviour, () => bench.run(run));
    for (const { behaviour, run } of wireCases) {
      const { wire } = environment;
      if (wire) await suite.test(behaviour, () => bench.run((b) => run(b, wire)));
      else await suite.test(behaviour, { skip: NO_WIRE }, async () => {});
    }
  });
}

/** Runs the suite without a test framework. Returns the behaviours that the domain does not have. */
export async function failedBehaviours(options: ConformanceOptions): Promise<readonly string[]> {
  const environment = await options.create();
  const bench = new Bench(environment, options.deadlineMs ?? DEADLINE_MS);
  const failed: string[] = [];
  const check = async (behaviour: string, run: ConformanceCase['run']): Promise<void> => {
    await bench.run(run).catch(() => failed.push(behaviour));
  };
  try {
    for (const { behaviour, run } of [...lifeCases, ...changeCases, ...stateCases])
      await check(behaviour, run);
    const { wire } = environment;
    if (wire) for (const { behaviour, run } of wireCases) await check(behaviour, (b) => run(b, wire));
  } finally {
    await environment.close();
  }
  return failed;
}

const DEADLINE_MS = 10_000;
const NO_WIRE = 'only packets can show it, and this environment sends none';
