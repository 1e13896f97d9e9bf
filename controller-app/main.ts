#!/usr/bin/env node
/**
 * The program `paguro`: the command line, and with `paguro controller` the controller.
 */
import { runCli } from './cli/program.js';

const interruption = new AbortController();
// A second Ctrl-C ends the program at once. `controller` handles signals itself, and looks not at this.
process.once('SIGINT', () => interruption.abort());
// `paguro state alice | head` closes the pipe: that is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

process.exitCode = await runCli(process.argv.slice(2), {
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(text),
  env: process.env,
  interrupted: interruption.signal,
});
