/**
 * What a rule does with a packet.
 */
export {
  ACTION_TYPES,
  type Action,
  actions,
  type CloneAction,
  type ExperimenterAction,
  type SetFieldAction,
  type UnknownAction,
} from './action.js';
export { canonicalActions, canonicalInstructions, instructionsKey } from './canonical.js';
export type { CtAction } from './ct.js';
export type { EncapProperty } from './encap.js';
export {
  INSTRUCTION_TYPES,
  type Instruction,
  instructions,
  type UnknownInstruction,
} from './instruction.js';
export type { LearnSpec } from './learn.js';
export { OFPCML_NO_BUFFER } from './standard.js';
