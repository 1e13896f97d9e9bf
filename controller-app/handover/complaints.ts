/**
 * Says what goes wrong with instances. While a domain is away every renewal, comparison and try fails, several times a second: the same problem of a terminal in
 * a domain is said once, and then, while it lasts, once in a while with how often it was left out.
 */
import type { Domain } from '../../shared/domain/domain.js';
import type { Clock } from '../../shared/runtime/clock.js';
import type { Log } from '../../shared/runtime/log.js';
import { messageOf } from '../../shared/runtime/message-of.js';
import { QuietLog } from '../../shared/runtime/quiet-log.js';
import type { Complain } from './placed.js';

/** Between two lines of one kind. */
const PAUSE_MS = 60_000;
/** Each is a terminal in a domain with one kind of error: an outage of many terminals must not hide what is wrong elsewhere. */
const MAX_KINDS = 1_024;

export class Complaints {
  readonly #quiet: QuietLog;

  constructor(log: Log, clock: Clock) {
    this.#quiet = new QuietLog(log, clock, PAUSE_MS, MAX_KINDS);
  }

  /** A call of a domain failed. */
  readonly call: Complain = ({ domain, id }, error) => {
    const problem = { domain: domain.name, ...id, error: messageOf(error) };
    this.#quiet.say(
      `call ${kindOf(domain, id.terminal, error)}`,
      'warn',
      problem,
      'a call of a domain failed',
    );
  };

  /** A standby is not there, and will be tried again. */
  standby(domain: Domain, terminal: string, error: unknown): void {
    const problem = { domain: domain.name, terminal, error: messageOf(error) };
    const kind = `standby ${kindOf(domain, terminal, error)}`;
    this.#quiet.say(kind, 'warn', problem, 'no standby there at present');
  }

  /** Says what was left out. May be called twice. */
  close(): void {
    this.#quiet.close();
  }
}

/** By the error's code: messages hold numbers that differ each time. */
function kindOf(domain: Domain, terminal: string, error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  return `${domain.name} ${terminal} ${code}`;
}
