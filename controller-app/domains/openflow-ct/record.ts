/**
 * What a controller must not lose of an instance whose rules are in a switch: with it the next controller goes on with the instance as it is, and
 * touches no rule that is good. The domain says what has changed as it changes; where that is kept is the keeper's affair.
 *
 * Not kept: what the switch itself tells once more when the next controller asks (every live connection that sends, by the generation of its mark),
 * and how long ago anything was: a connection of a record begins its idle time anew.
 */
import { z } from 'zod';
import type { InstanceId } from '../../../shared/domain/domain.js';
import { connectionSchema } from '../../../shared/firewall/connection.js';
import { policySchema } from '../../../shared/firewall/policy.js';
import {
  epochSchema,
  MAX_CONNECTIONS,
  MAX_EARLIER_POLICIES,
  ruleCounterSchema,
  sequenceSchema,
} from '../../../shared/firewall/state.js';
import { terminalSchema } from '../../../shared/firewall/terminal.js';
import { MAX_INSTANCE_NUMBER } from '../../core/instance-numbers.js';
import { GENERATIONS } from '../../pipeline/index.js';

/**
 * tracked    the switch tracks it, and it has no adoption rules
 * waiting    imported: the switch does not track it yet, and has adoption rules for it
 * adopting   the switch tracks it and has seen one of its ends; the adoption rules are still there
 * settling   the switch tracks it well; its adoption rules go in a moment
 * silent     tracked here; the switch forgets it before its time is over, and has adoption rules for it
 */
export const trackingSchema = z.enum(['tracked', 'waiting', 'adopting', 'settling', 'silent']);
export type Tracking = z.infer<typeof trackingSchema>;

export const keptConnectionSchema = z.strictObject({
  connection: connectionSchema,
  tracking: trackingSchema,
  /** TCP: who has sent a FIN. */
  finished: z
    .array(z.enum(['terminal', 'remote']))
    .max(2)
    .readonly(),
});
export type KeptConnection = z.infer<typeof keptConnectionSchema>;

/** As those of an instance: what each rule has counted. */
const counters = z.array(ruleCounterSchema).readonly();

/** All of an instance but its connections: a few fields that change seldom. */
export const instanceHeadSchema = z.strictObject({
  /** The name of the domain that has it. */
  domain: z.string().min(1).max(32),
  terminal: terminalSchema,
  epoch: epochSchema,
  /** Register value, conntrack zone and tags: see core/instance-numbers.ts. */
  number: z.int().min(1).max(MAX_INSTANCE_NUMBER),
  /** `drained`: its rules are out of the switch already, and it only waits to be retired. */
  role: z.enum(['standby', 'active', 'draining', 'drained']),
  /** False once the lease has run out. */
  admits: z.boolean(),
  /** As last given; 0 before the first. They run anew when an instance is resumed. */
  leaseMs: z.int().min(0).max(Number.MAX_SAFE_INTEGER),
  drainMs: z.int().min(0).max(Number.MAX_SAFE_INTEGER),
  generation: z
    .int()
    .min(0)
    .max(GENERATIONS - 1),
  /** Of its own changes: the last that is in the record. */
  sequence: sequenceSchema,
  /** Of the changes of the instance that it follows: the last that was taken over. */
  imported: sequenceSchema,
  policy: policySchema,
  /** The last replaced first. */
  earlier: z.array(policySchema).max(MAX_EARLIER_POLICIES).readonly(),
  /** What the rules of the policy had counted before the switch's rules count on, and what those showed at that time. */
  counted: counters,
  offset: counters,
});
export type InstanceHead = z.infer<typeof instanceHeadSchema>;

/** A whole instance. Keys of connections (`connectionKey`) are unique. */
export const instanceRecordSchema = instanceHeadSchema.extend({
  connections: z.array(keptConnectionSchema).max(MAX_CONNECTIONS).readonly(),
});
export type InstanceRecord = z.infer<typeof instanceRecordSchema>;

/** What has changed; what it does not name stays. A change never has another domain, epoch or number. */
export type InstancePart = Partial<Omit<InstanceHead, 'domain' | 'epoch' | 'number'>> & {
  /** New ones, and those that are other than they were, each whole. */
  readonly connections?: readonly KeptConnection[];
  /** `connectionKey`s of those that are no more. */
  readonly ended?: readonly string[];
};

/**
 * Keeps records. Of one (terminal, epoch) there is one instance in all domains, so the id is the key. Calls for one instance take effect in their order;
 * each promise settles when what it says would survive the controller's sudden end, and fails when it can't be kept. The domain waits for `put`, `remove`
 * and every change of the head before it answers whoever asked for that; it does not wait for changes of connections alone, which may be
 * thousands a second: those may be kept together, a few ms later.
 */
export interface InstanceKeeper {
  /** In place of what was kept of this instance. */
  put(id: InstanceId, record: InstanceRecord): Promise<void>;
  change(id: InstanceId, part: InstancePart): Promise<void>;
  /** May be repeated. */
  remove(id: InstanceId): Promise<void>;
}
