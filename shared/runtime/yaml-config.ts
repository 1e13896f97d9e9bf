/**
 * Reads configuration files and policies: YAML, checked, with errors that name the file, the line and what to write.
 */
import type { z } from 'zod';
import type { Policy } from '../firewall/policy.js';
import { MAX_COUNTED_BYTES, parsePolicy } from '../firewall/policy-file.js';
import { MAX_YAML_BYTES, parseYaml, type YamlDocument, type YamlOptions } from '../firewall/yaml-text.js';
import { readTextFile } from './text-file.js';

/** Reads and checks a YAML file. Fails with a `ConfigFileError` or a `YamlError`. */
export async function loadYaml<S extends z.ZodType>(
  file: string,
  schema: S,
  options: Omit<YamlOptions, 'source'> = {},
): Promise<YamlDocument<z.output<S>>> {
  const text = await readTextFile(file, options.maxBytes ?? MAX_YAML_BYTES);
  return parseYaml(text, schema, { ...options, source: file });
}

/** Reads and checks a policy. Fails with a `ConfigFileError` or a `YamlError`. */
export async function loadPolicy(file: string): Promise<Policy> {
  return parsePolicy(await readTextFile(file, MAX_COUNTED_BYTES), file);
}
