/**
 * Puts the program that imports it into a lab. It must be the first import of an end-to-end test or of a program:
 *
 *   import '../lab/enter.js';
 *   import t from 'tap';
 *
 * Outside a lab the program is executed once more inside one and this process ends with its exit code, before any later import is
 * evaluated (so that tap, for one, speaks once). Standard input, output and error are the same. Inside, the lab is ready when the
 * import returns.
 */
import { LabError } from './error.js';
import { reExecuteInLab } from './launch.js';
import { insideLab, prepareLab } from './prepare.js';

try {
  if (!insideLab()) reExecuteInLab();
  prepareLab();
} catch (error) {
  if (!(error instanceof LabError)) throw error;
  // It says what to do, and where it was thrown tells nobody anything.
  console.error(error.message);
  process.exit(1);
}
