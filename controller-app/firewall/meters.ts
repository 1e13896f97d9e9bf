/**
 * Brings the meters of what goes to the controller into a switch that has just connected.
 */
import { meterMods } from '../pipeline/index.js';
import { noticeMeters } from '../steering/notices.js';
import { OpenFlowError, type Switch } from '../switch/index.js';

/** The meters are on their way before this returns, so rules that use them may follow at once. Settles when the switch has them. */
export async function setMeters(sw: Switch): Promise<void> {
  try {
    await sw.confirm(meters('add'));
  } catch (error) {
    if (!(error instanceof OpenFlowError)) throw error;
    // It has them from before, perhaps with other rates.
    await sw.confirm(meters('modify'));
  }
}

function meters(command: 'add' | 'modify') {
  return [...meterMods(command), ...noticeMeters(command)];
}
