/**
 * What the programs that run in a lab have in common: how one looks into it, and how they end.
 */
import { currentLab } from '../test/lab/index.js';

/** For the person at the keyboard. */
export function howToLookIn(): string {
  return `Look into it from another terminal:\n  npx paguro --api unix:${currentLab().apiSocket} status\n`;
}

/** Ends the lab, and with it everything in it. */
export function end(code: number): never {
  process.exit(code);
}

/** Ctrl-C and SIGTERM end it at once; `say` is told. */
export function endWhenAsked(say: (text: string) => void): void {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      say(`\n${signal}: the lab ends, and with it everything that was started`);
      end(signal === 'SIGINT' ? 130 : 143);
    });
  }
}
