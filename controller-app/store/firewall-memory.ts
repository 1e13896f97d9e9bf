/**
 * A terminal's firewall in the store: what the coordinator keeps of it, with the instance number by which steering leads to it.
 */
import type { InstanceId } from '../../shared/domain/domain.js';
import type { FirewallKeeper } from '../handover/keeping.js';
import type { ControllerStore } from './store.js';

/** `numberOf`: the number that an instance has, if it has one. */
export function firewallMemory(
  store: ControllerStore,
  terminal: string,
  numberOf: (id: InstanceId) => number | undefined,
): FirewallKeeper {
  const keeper = store.terminal(terminal);
  return {
    read: () => keeper.read(),
    setEpoch: (lastEpoch) => keeper.setEpoch(lastEpoch),
    setActive: (active) => {
      const number = active && numberOf({ terminal, epoch: active.epoch });
      keeper.setActive(active === undefined || number === undefined ? undefined : { ...active, number });
    },
    setState: (state) => keeper.setState(state),
    changes: (deltas) => keeper.changes(deltas),
    flushed: () => store.flushed(),
  };
}
