/**
 * Learnt addresses in the store. When a lease ends is kept as a date: monotonic time begins anew with each process.
 */
import type { Clock } from '../../shared/runtime/clock.js';
import type { AddressMemory } from '../terminals/address-outlet.js';
import type { ControllerStore, StoredAddress } from './store.js';

export function addressMemory(store: ControllerStore, clock: Clock): AddressMemory {
  // Between the two clocks as they are now: the machine's date may be set while this runs.
  const ahead = (): number => clock.now() - clock.monotonic();
  return {
    load: (name) =>
      store
        .terminal(name)
        .read()
        .addresses.map(({ until, ...held }) => ({
          ...held,
          ...(until === undefined ? {} : { until: until - ahead() }),
        })),
    save: (name, held) =>
      store
        .terminal(name)
        .setAddresses(
          held.flatMap(({ address, origin, until }): StoredAddress[] =>
            origin === 'fixed'
              ? []
              : [{ address, origin, ...(until === undefined ? {} : { until: until + ahead() }) }],
          ),
        ),
  };
}
