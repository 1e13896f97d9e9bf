/**
 * What the HTTP API asks, answered from the parts of a running controller.
 */
import { ApiError } from '../shared/api/errors.js';
import {
  type AddressStatus,
  type ApiEvent,
  type DomainStatus,
  type HandoverReport,
  type HandoverWish,
  MAX_HANDOVERS,
  type PlacementMode,
  type Status,
  type TerminalStatus,
} from '../shared/api/schema.js';
import type { Domain, Dpid, Health } from '../shared/domain/domain.js';
import type { Policy } from '../shared/firewall/policy.js';
import type { FirewallState } from '../shared/firewall/state.js';
import type { Terminal } from '../shared/firewall/terminal.js';
import { messageOf } from '../shared/runtime/message-of.js';
import type { ControllerConfig } from './config.js';
import type { EventBus } from './event-bus.js';
import type { Coordinator } from './handover/coordinator.js';
import { HandoverError } from './handover/options.js';
import type { ControllerService, StartedHandover } from './http/service.js';
import type { Placement } from './placement.js';
import type { Attachment } from './steering/view.js';
import type { PolicyMemory } from './store/policy-memory.js';

export interface ServiceParts {
  readonly version: string;
  readonly config: ControllerConfig;
  readonly domains: ReadonlyMap<string, Domain>;
  readonly coordinator: Coordinator;
  readonly placement: Placement;
  readonly policies: PolicyMemory;
  readonly events: EventBus;
  isConnected(dpid: Dpid): boolean;
  attachment(terminal: string): Attachment | undefined;
  /** The terminal's present addresses. */
  addresses(terminal: string): readonly AddressStatus[];
}

export class Service implements ControllerService {
  readonly #startedAt = Date.now();
  readonly #handovers: HandoverReport[] = [];

  constructor(readonly parts: ServiceParts) {}

  /** To be told of every event before it is published: the finished handovers are remembered. */
  note(event: ApiEvent): void {
    if (event.kind !== 'handover') return;
    this.#handovers.push(event.report);
    if (this.#handovers.length > MAX_HANDOVERS) this.#handovers.shift();
  }

  async status(): Promise<Status> {
    const { config, version, isConnected } = this.parts;
    const healths = await this.#healths();
    return {
      version,
      startedAt: this.#startedAt,
      switches: config.switches.map(({ name, dpid }) => ({ name, dpid, connected: isConnected(dpid) })),
      domains: config.domains.map(({ name, kind, serves }): DomainStatus => {
        const health = healths.get(name);
        const problem = health?.problem;
        return {
          name,
          kind,
          serves,
          ok: health?.ok ?? false,
          ...(problem === undefined ? {} : { problem }),
          instances: health?.instances ?? [],
        };
      }),
      terminals: config.terminals.map(({ terminal }) => this.#terminal(terminal, healths)),
    };
  }

  async terminals(): Promise<readonly TerminalStatus[]> {
    const healths = await this.#healths();
    return this.parts.config.terminals.map(({ terminal }) => this.#terminal(terminal, healths));
  }

  state(terminal: string): Promise<FirewallState> {
    return inApiWords(() => this.parts.coordinator.state(terminal));
  }

  /** Kept before it is in force: what was acknowledged is not lost, and what cannot be kept is refused. */
  async setPolicy(terminal: string, policy: Policy): Promise<void> {
    const { coordinator, policies } = this.parts;
    inApiWords(() => coordinator.record(terminal));
    await policies.set(terminal, policy, () => inApiWords(() => coordinator.setPolicy(terminal, policy)));
  }

  async setPlacement(terminal: string, placement: PlacementMode): Promise<void> {
    // Fails for a terminal that there is not.
    inApiWords(() => this.parts.coordinator.record(terminal));
    await this.parts.placement.set(terminal, placement);
  }

  handover(terminal: string, wish: HandoverWish): StartedHandover {
    const started = inApiWords(() => this.parts.coordinator.handover(terminal, { ...wish, cause: 'demand' }));
    this.parts.placement.demanded(terminal);
    return started;
  }

  continue(terminal: string): boolean {
    return inApiWords(() => this.parts.coordinator.continue(terminal));
  }

  handovers(): readonly HandoverReport[] {
    return this.#handovers;
  }

  events(signal: AbortSignal): AsyncIterable<ApiEvent> {
    return this.parts.events.listen(signal);
  }

  async #healths(): Promise<Map<string, Health>> {
    const asked = [...this.parts.domains].map(async ([name, domain]): Promise<[string, Health]> => {
      try {
        return [name, await domain.health()];
      } catch (error) {
        const problem = messageOf(error);
        return [name, { ok: false, problem, instances: [] }];
      }
    });
    return new Map(await Promise.all(asked));
  }

  #terminal(terminal: Terminal, healths: ReadonlyMap<string, Health>): TerminalStatus {
    const { coordinator, config, attachment } = this.parts;
    const record = coordinator.record(terminal.name);
    const at = attachment(terminal.name);
    const instances = [...healths].flatMap(([domain, health]) =>
      health.instances
        .filter((instance) => instance.terminal === terminal.name && instance.role !== 'retired')
        .map(({ epoch, role }) => ({ domain, epoch, role })),
    );
    const addresses = this.parts.addresses(terminal.name);
    return {
      name: terminal.name,
      mac: terminal.mac,
      addresses,
      policy: record.policy.name,
      attachment: at
        ? { switch: config.switches.find(({ dpid }) => dpid === at.dpid)?.name ?? at.dpid, port: at.portName }
        : null,
      active: record.active ? { domain: record.active.domain.name, epoch: record.active.id.epoch } : null,
      standbys: coordinator.standbys(terminal.name),
      instances,
      placement: this.parts.placement.get(terminal.name),
      handover: record.handover ?? null,
    };
  }
}

/** The coordinator's errors as those of the API: the words are the same. */
function inApiWords<T>(task: () => T): T {
  try {
    return task();
  } catch (error) {
    if (error instanceof HandoverError) throw new ApiError(error.code, error.message, { cause: error });
    throw error;
  }
}
