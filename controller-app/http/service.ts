/**
 * What the HTTP API asks of the controller. Every method may throw an `ApiError`; a `DomainError` is told to the client, too.
 */
import type {
  ApiEvent,
  HandoverReport,
  HandoverWish,
  PlacementMode,
  Status,
  TerminalStatus,
} from '../../shared/api/schema.js';
import type { Policy } from '../../shared/firewall/policy.js';
import type { FirewallState } from '../../shared/firewall/state.js';

/** A handover that has begun. `report` settles when it has ended, with whatever outcome; it does not reject. */
export interface StartedHandover {
  readonly id: string;
  readonly report: Promise<HandoverReport>;
}

export interface ControllerService {
  status(): Promise<Status>;
  terminals(): Promise<readonly TerminalStatus[]>;
  /** The state of the active instance. `unknown-terminal`, `no-instance`. */
  state(terminal: string): Promise<FirewallState>;
  /** Puts the policy in force in the active instance. `unknown-terminal`, `no-instance`, `busy`. */
  setPolicy(terminal: string, policy: Policy): Promise<void>;
  /** `follow` looks at once whether the firewall is where it should be. `unknown-terminal`. */
  setPlacement(terminal: string, placement: PlacementMode): Promise<void>;
  /** Begins a handover. `unknown-terminal`, `unknown-domain`, `no-instance`, `busy`, `already-there`. */
  handover(terminal: string, request: HandoverWish): StartedHandover | Promise<StartedHandover>;
  /** A handover that waits before a step goes on; whether one was waiting. `unknown-terminal`. */
  continue(terminal: string): boolean;
  /** The handovers that have ended, the oldest first, at most `MAX_HANDOVERS`. */
  handovers(): readonly HandoverReport[];
  /** What happens from now on, until `signal` aborts. Must not buffer without a bound for a reader that is slow. */
  events(signal: AbortSignal): AsyncIterable<ApiEvent>;
}
