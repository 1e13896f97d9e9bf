/**
 * What an instance may do at present, and for how long it was told so. Pure.
 */
import type { Role } from '../../../shared/domain/domain.js';
import { GENERATIONS } from '../../pipeline/index.js';
import type { InstanceHead } from './record.js';

type KeptStanding = Pick<InstanceHead, 'role' | 'admits' | 'generation' | 'leaseMs' | 'drainMs'>;

export class Standing {
  role: Role = 'standby';
  /** False once the lease has run out. */
  admits = true;
  /** True when a drain is over: nothing passes any more. */
  drained = false;
  /** Of the marks of connections, from 0. */
  generation = 0;
  /** As last given; 0 before. */
  leaseMs = 0;
  drainMs = 0;

  resume({ role, admits, generation, leaseMs, drainMs }: KeptStanding): void {
    this.role = role === 'drained' ? 'draining' : role;
    this.drained = role === 'drained';
    this.admits = admits;
    this.generation = generation;
    this.leaseMs = leaseMs;
    this.drainMs = drainMs;
  }

  get kept(): KeptStanding {
    const { admits, generation, leaseMs, drainMs } = this;
    const role = this.drained ? 'drained' : this.role === 'retired' ? 'draining' : this.role;
    return { role, admits, generation, leaseMs, drainMs };
  }

  /** Are the rules of the policy in the switch? A standby has them, too. */
  get hasPolicy(): boolean {
    return this.admits && (this.role === 'active' || this.role === 'standby');
  }

  get nextGeneration(): number {
    return (this.generation + 1) % GENERATIONS;
  }

  /** As the rules have it. */
  get ofRules(): 'standby' | 'active' | 'draining' {
    return this.role === 'draining' || this.role === 'active' ? this.role : 'standby';
  }
}
