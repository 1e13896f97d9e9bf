/**
 * Loads a user's plugins, as the configuration names them.
 */
import { messageOf } from '../shared/runtime/message-of.js';
import type { ConfiguredPlugin } from './config.js';
import { type Plugin, STAGES } from './core/plugin.js';

export class PluginError extends Error {
  override readonly name = 'PluginError';
  readonly code = 'bad-plugin';
}

/** Imports each module and makes its plugin. Fails with a PluginError that says what the module must have. */
export function loadPlugins(configured: readonly ConfiguredPlugin[]): Promise<Plugin[]> {
  return Promise.all(configured.map(loadPlugin));
}

async function loadPlugin({ module, options }: ConfiguredPlugin): Promise<Plugin> {
  let made: unknown;
  try {
    const loaded: { default?: unknown } = await import(module);
    made = typeof loaded.default === 'function' ? await loaded.default(options) : loaded.default;
  } catch (cause) {
    const why = messageOf(cause);
    throw new PluginError(`the plugin ${module} could not be loaded: ${why}`, { cause });
  }
  if (!isPlugin(made)) {
    throw new PluginError(
      `${module} is no plugin: its default export must be an object, or a function of the options that returns one, with name, tables ([{name, stage}], stage one of ${STAGES.join(', ')}) and start(host)`,
    );
  }
  return made;
}

function isPlugin(value: unknown): value is Plugin {
  if (typeof value !== 'object' || value === null) return false;
  const { name, tables, start } = value as Partial<Record<'name' | 'tables' | 'start', unknown>>;
  return (
    typeof name === 'string' &&
    typeof start === 'function' &&
    Array.isArray(tables) &&
    tables.every((table) => typeof table?.name === 'string' && STAGES.includes(table.stage))
  );
}
