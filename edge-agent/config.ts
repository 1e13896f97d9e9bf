/**
 * The agent's configuration file: YAML, validated.
 */
import { z } from 'zod';
import { terminalNameSchema } from '../shared/firewall/terminal.js';
import { tlsSchema } from '../shared/tls/index.js';
import { defaultCacheDirectory } from './runtime/docker/image-cache.js';

const milliseconds = z.int().min(1).max(86_400_000);

export const agentConfigSchema = z.strictObject({
  /** The domain's name, as in the controller's configuration. */
  name: terminalNameSchema,
  /** The Open vSwitch bridge whose attachments this agent serves. */
  bridge: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$/, {
    message: 'name a bridge of Open vSwitch, such as s2 (see "ovs-vsctl list-br")',
  }),
  /** Where the controller listens for agents. */
  controller: z
    .url({ protocol: /^wss?$/, message: 'write a URL such as ws://127.0.0.1:7653' })
    .default('ws://127.0.0.1:7653'),
  /** With it the controller is dialled over TLS (`wss:`), and must show a controller's certificate of the CA. Paths are relative to the file. */
  tls: tlsSchema.optional(),
  docker: z
    .strictObject({
      socket: z
        .string()
        .startsWith('/', { message: 'write the path of a Unix socket' })
        .default('/var/run/docker.sock'),
      /** A tag of Docker's instead of the image that set-up built. */
      image: z.string().min(1).max(255).optional(),
      /** Where set-up put the image's archive. */
      cache: z.string().min(1).default(defaultCacheDirectory),
    })
    .prefault({}),
  /** Where ovs-vsctl finds the database, when it is not the default place. */
  ovsDatabase: z.string().min(1).optional(),
  /** Containers that are kept ready, so that a standby is there in a tenth of the time. */
  spares: z.int().min(0).max(16).default(1),
  /** Firewalls at the same time, spares included. */
  maxInstances: z.int().min(1).max(1000).default(128),
  lease: z.strictObject({ maxMs: milliseconds.default(60_000) }).prefault({}),
  drain: z.strictObject({ maxMs: milliseconds.default(600_000) }).prefault({}),
});

export type AgentConfig = z.infer<typeof agentConfigSchema>;
