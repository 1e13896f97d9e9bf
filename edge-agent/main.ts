#!/usr/bin/env node
/**
 * paguro-agent: runs personal firewalls beside an Open vSwitch bridge, for the controller that it dials.
 */
import { dirname, resolve } from 'node:path';
import { Command } from 'commander';
import { serveDomain } from '../shared/channel/index.js';
import { Lifetime, untilStopped } from '../shared/runtime/lifetime.js';
import { createLog } from '../shared/runtime/log.js';
import { messageOf } from '../shared/runtime/message-of.js';
import { loadYaml } from '../shared/runtime/yaml-config.js';
import { loadIdentity, tlsFilesIn } from '../shared/tls/index.js';
import { type AgentConfig, agentConfigSchema } from './config.js';
import { EdgeDomain } from './domain/edge-domain.js';
import { lockName } from './name-lock.js';
import { DockerRuntime } from './runtime/docker/docker-runtime.js';
import { VethWiring } from './wiring/veth/veth-wiring.js';

/** `folder` is what paths in the configuration are relative to. */
async function start(config: AgentConfig, folder: string): Promise<number> {
  const log = createLog(`paguro-agent ${config.name}`);
  const { tls, name } = config;
  const identity = tls && (() => loadIdentity(tlsFilesIn(folder, tls), { kind: 'agent', domain: name }));
  // A certificate that is of no use is told at once. Later the link is what it is missing for.
  await identity?.();
  const lifetime = new Lifetime();
  // Before anything of this name is looked at, let alone removed.
  lifetime.own('the lock of the name', await lockName(config.name));
  try {
    const domain = lifetime.own(
      'the edge domain',
      await EdgeDomain.start({
        name: config.name,
        runtime: new DockerRuntime({
          agent: config.name,
          socketPath: config.docker.socket,
          cacheDirectory: config.docker.cache,
          image: config.docker.image,
          log,
        }),
        wiring: new VethWiring({
          agent: config.name,
          bridge: config.bridge,
          database: config.ovsDatabase,
          log,
        }),
        log,
        maxLeaseMs: config.lease.maxMs,
        maxDrainMs: config.drain.maxMs,
        spares: config.spares,
        maxInstances: config.maxInstances,
      }),
    );
    lifetime.own('the channel', serveDomain({ url: config.controller, identity, domain, log }));
  } catch (error) {
    await lifetime.close();
    throw error;
  }
  log.info({ bridge: config.bridge, controller: config.controller }, 'started');
  return untilStopped(lifetime, log);
}

const program = new Command('paguro-agent')
  .description('Runs personal firewalls as iptables in containers beside an Open vSwitch bridge.')
  .requiredOption('--config <file>', 'the configuration file (YAML)')
  .action(async ({ config }: { config: string }) => {
    process.exitCode = await start(
      (await loadYaml(config, agentConfigSchema)).data,
      dirname(resolve(config)),
    );
  });

program.parseAsync().catch((error: unknown) => {
  process.stderr.write(`${messageOf(error)}\n`);
  process.exitCode = 1;
});
