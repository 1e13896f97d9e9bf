/**
 * The command line: `paguro controller` runs the controller, every other command asks one that runs.
 */
import { Argument, Command, InvalidArgumentError, Option } from 'commander';
import { DEFAULT_API, parseApiAddress } from '../../shared/api/address.js';
import { ApiClient } from '../../shared/api/client.js';
import { type PlacementMode, placementSchema } from '../../shared/api/schema.js';
import { shadowedRules } from '../../shared/firewall/shadow.js';
import { Lifetime, untilStopped } from '../../shared/runtime/lifetime.js';
import { createLog } from '../../shared/runtime/log.js';
import { messageOf } from '../../shared/runtime/message-of.js';
import { loadPolicy } from '../../shared/runtime/yaml-config.js';
import { loadConfig } from '../config.js';
import { EXIT, explainFailure, Failed, withKnownNames } from './failure.js';
import { addPkiCommands } from './pki.js';
import { renderEvent, renderPolicy, renderReport, renderState, renderStatus } from './render.js';
import { addStoreCommands } from './store-commands.js';

/** What the command line touches of the process, so that a test can hand in its own. */
export interface Terminal {
  out(text: string): void;
  err(text: string): void;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Aborts at Ctrl-C. Not for `controller`, which handles signals itself. */
  readonly interrupted: AbortSignal;
}

/** Runs one command; `args` without the program's name. Settles with the exit code and does not reject. */
export async function runCli(args: readonly string[], terminal: Terminal): Promise<number> {
  let exitCode: number = EXIT.ok;
  const program = createProgram(terminal, (code) => {
    exitCode = code;
  });
  try {
    await program.parseAsync([...args], { from: 'user' });
    return exitCode;
  } catch (error) {
    const failure = explainFailure(error);
    if (failure.text !== '') terminal.err(`${failure.text}\n`);
    return failure.exitCode;
  }
}

function createProgram(terminal: Terminal, exit: (code: number) => void): Command {
  const { interrupted: signal } = terminal;
  const print = (text: string): void => terminal.out(`${text}\n`);
  const json = (value: unknown): void => print(JSON.stringify(value, null, 2));

  const program = new Command('paguro')
    .description("A user's personal firewall that moves, live, between networks")
    .addOption(
      new Option('--api <address>', 'where the controller answers: a URL, or unix:PATH')
        .default(terminal.env.PAGURO_API || DEFAULT_API, `PAGURO_API, or ${DEFAULT_API}`)
        .argParser(apiAddress),
    )
    .exitOverride()
    .configureOutput({ writeOut: terminal.out, writeErr: terminal.err })
    .showHelpAfterError('(see "paguro --help")');
  const client = (): ApiClient => new ApiClient(program.opts<{ api: string }>().api);

  program
    .command('controller')
    .description('run the controller until Ctrl-C')
    .requiredOption('--config <file>', 'its YAML file')
    .action(async ({ config: file }: { config: string }) => exit(await runController(file)));

  program
    .command('status')
    .description('switches, domains and terminals')
    .option('--json', 'as JSON')
    .action(async (options: { json?: true }) => {
      const status = await client().status(signal);
      if (options.json) json(status);
      else print(renderStatus(status));
    });

  program
    .command('state')
    .description("a terminal's firewall: its addresses, policy, counters and live connections")
    .argument('<terminal>')
    .option('--json', 'as JSON, as it is exported and imported')
    .action(async (name: string, options: { json?: true }) => {
      const api = client();
      const state = await withKnownNames(api, () => api.state(name, signal));
      if (options.json) return json(state);
      const found = (await api.terminals(signal)).find((one) => one.name === name);
      print(renderState(state, found?.addresses ?? []));
    });

  program
    .command('handover')
    .description("move a terminal's firewall to another domain, live")
    .argument('<terminal>')
    .requiredOption('--to <domain>', 'the domain that shall have it')
    .option('--omit-connections', 'experiment: import the policy without the connections, which then die')
    .option('--json', 'the report as JSON')
    .action(async (name: string, options: { to: string; omitConnections?: true; json?: true }) => {
      const api = client();
      const request = { to: options.to, omitConnections: options.omitConnections ?? false };
      const report = await withKnownNames(api, () => api.handover(name, request, signal)).catch(
        (error: unknown) => {
          if (signal.aborted) terminal.err('the handover goes on in the controller: see "paguro status"\n');
          throw error;
        },
      );
      if (options.json) json(report);
      else print(renderReport(report));
      if (report.outcome !== 'done') exit(EXIT.failed);
    });

  program
    .command('placement')
    .description('does a firewall follow its terminal by itself, or stay until "paguro handover"?')
    .argument('<terminal>')
    .addArgument(new Argument('<placement>').choices(placementSchema.options))
    .action(async (name: string, placement: PlacementMode) => {
      const api = client();
      await withKnownNames(api, () => api.setPlacement(name, placement, signal));
      print(
        placement === 'follow' ? `${name}'s firewall follows it` : `${name}'s firewall stays where it is`,
      );
    });

  program
    .command('watch')
    .description('what happens, as it happens, until Ctrl-C')
    .option('--json', 'one JSON object a line')
    .action(async (options: { json?: true }) => {
      for await (const event of await client().events(signal)) {
        print(options.json ? JSON.stringify(event) : renderEvent(event, Date.now()));
      }
    });

  const policy = program.command('policy').description('check policies, and put them in force');
  policy
    .command('check')
    .description('is this policy right, and what does it say?')
    .argument('<file>')
    .action(async (file: string) => {
      const checked = await loadPolicy(file);
      print(`${file} is right: policy ${checked.name}, ${checked.rules.length} rules\n`);
      print(renderPolicy(checked));
      for (const { rule, by } of shadowedRules(checked)) {
        print(`\nrule "${rule}" never decides: "${by}" before it matches all that it matches`);
      }
    });
  policy
    .command('set')
    .description("put a policy in force in a terminal's firewall, wherever it is")
    .argument('<terminal>')
    .argument('<file>')
    .action(async (name: string, file: string) => {
      const api = client();
      const checked = await loadPolicy(file);
      await withKnownNames(api, () => api.setPolicy(name, checked, signal));
      print(`${name} has policy ${checked.name} now`);
    });
  addPkiCommands(program, print);
  addStoreCommands(program, { print, json });
  return program;
}

/** Runs the controller to its end. Its parts are loaded here, so that the other commands start fast. */
async function runController(file: string): Promise<number> {
  const config = await loadConfig(file);
  const log = createLog('paguro');
  const lifetime = new Lifetime();
  const stopped = untilStopped(lifetime, log);
  try {
    const { startController } = await import('../controller.js');
    lifetime.own('controller', await startController(config, log));
  } catch (error) {
    await lifetime.close();
    await stopped;
    const message = messageOf(error);
    throw new Failed(`the controller did not start: ${message}`, { cause: error });
  }
  return await stopped;
}

function apiAddress(text: string): string {
  try {
    parseApiAddress(text);
    return text;
  } catch (error) {
    throw new InvalidArgumentError(messageOf(error));
  }
}
