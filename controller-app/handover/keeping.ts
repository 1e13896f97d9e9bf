/**
 * What of a terminal's firewall outlives the controller: its highest epoch, where it is active, and the mirror. How it is kept is the keeper's affair.
 */
import type { Ends } from '../../shared/domain/domain.js';
import type { Delta, Epoch, FirewallState } from '../../shared/firewall/state.js';
import type { Mirror } from './mirror.js';

export interface KeptActive {
  readonly domain: string;
  readonly epoch: Epoch;
  readonly ends: Ends;
}

export interface KeptFirewall {
  /** 0: none was given yet. */
  readonly lastEpoch: number;
  readonly active: KeptActive | undefined;
  /** The mirror. */
  readonly state: FirewallState | undefined;
}

export interface FirewallKeeper {
  /** What an earlier controller left. */
  read(): KeptFirewall;
  /** Settles when it is kept; fails when it can't be, and then the epoch must not be used. */
  setEpoch(lastEpoch: number): Promise<void>;
  /** What follows is kept in its order, a moment later; `flushed` waits for it. */
  setActive(active: KeptActive | undefined): void;
  setState(state: FirewallState | undefined): void;
  /** Fails with `changes-lost` when they do not follow what is kept. */
  changes(deltas: readonly Delta[]): void;
  flushed(): Promise<void>;
}

/** Nothing outlives the controller. */
export const KEEP_NOTHING: FirewallKeeper = {
  read: () => ({ lastEpoch: 0, active: undefined, state: undefined }),
  setEpoch: async () => {},
  setActive: () => {},
  setState: () => {},
  changes: () => {},
  flushed: async () => {},
};

/**
 * Keeps the mirror as it changes, until `signal` aborts; then it settles when all changes until then have been told. `epoch`: of the instance that it
 * mirrors. Never fails.
 */
export async function keepMirror(
  mirror: Mirror,
  keeper: FirewallKeeper,
  epoch: () => Epoch,
  signal: AbortSignal,
): Promise<void> {
  const keepWhole = (): number => {
    const state = mirror.snapshot(epoch());
    keeper.setState(state);
    return state.sequence;
  };
  let last = keepWhole();
  const tell = (deltas: readonly Delta[]): void => {
    keeper.changes(deltas);
    last = deltas.at(-1)?.sequence ?? last;
  };
  do {
    try {
      for await (const deltas of mirror.log.follow(last, signal)) tell(deltas);
      for (let rest = mirror.log.after(last); rest.length > 0; rest = mirror.log.after(last)) tell(rest);
    } catch {
      // It has fallen behind: the whole state once more.
      last = keepWhole();
    }
  } while (!signal.aborted);
}
