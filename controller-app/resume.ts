/**
 * Takes up what an earlier controller left in the store: before switches and agents connect, so that nothing that is good is touched when they do.
 */
import type { Log } from '../shared/runtime/log.js';
import { messageOf } from '../shared/runtime/message-of.js';
import type { OpenFlowCtDomain } from './domains/openflow-ct/index.js';
import type { Coordinator } from './handover/coordinator.js';
import type { Steering } from './steering/steering.js';
import type { ControllerStore } from './store/store.js';

export interface ResumeParts {
  readonly store: ControllerStore;
  /** Domains in switches, by name. */
  readonly switchDomains: ReadonlyMap<string, OpenFlowCtDomain>;
  readonly steering: Steering;
  readonly coordinator: Coordinator;
  readonly log: Log;
}

/**
 * The active instances go on as they are. What was a standby, or drained, is not taken up: its rules go when its switch connects, and a standby is built
 * anew. An instance that can't be taken up is placed anew, with what the store has of its connections.
 */
export async function resume({
  store,
  switchDomains,
  steering,
  coordinator,
  log,
}: ResumeParts): Promise<void> {
  for (const record of store.instanceRecords()) {
    const id = { terminal: record.terminal.name, epoch: record.epoch };
    const { active } = store.terminal(id.terminal).read();
    const isActive = active?.domain === record.domain && active.epoch === record.epoch;
    try {
      const domain = switchDomains.get(record.domain);
      if (isActive && domain) await domain.resume({ ...record, role: 'active' });
      else await store.instances.remove(id);
    } catch (error) {
      log.error({ ...id, domain: record.domain, error: messageOf(error) }, 'not taken up: it is placed anew');
      store.terminal(id.terminal).setActive(undefined);
      await store.instances.remove(id).catch(() => {});
    }
  }
  coordinator.restore((id, ends) => {
    const { active } = store.terminal(id.terminal).read();
    if (active) steering.restore(id, active.number, ends);
  });
}
