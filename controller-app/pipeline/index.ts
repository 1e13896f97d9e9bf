/**
 * The pipeline: firewall state to flow rules. Pure; it never talks to a switch.
 */
export { adoptionKey, adoptionRules } from './adoption.js';
export {
  DEFAULT_INBOUND,
  DEFAULT_OUTBOUND,
  INSTANCE_TABLES,
  instanceCookies,
  type Kind,
  packCookie,
  policyCookies,
  type RuleCookie,
  unpackCookie,
} from './cookie.js';
export { type FirewallInstance, firewallRules } from './firewall.js';
export { flushOf } from './flush.js';
export { type GuardLearning, guardRules } from './guard.js';
export { packLearning, type Reason, TO_CONTROLLER, unpackLearning, useCookies } from './learning.js';
export { lookingAgain } from './looking-again.js';
export { GENERATIONS, MARK, openerOf } from './mark.js';
export { meterMods, meterOf } from './meters.js';
export { MAX_POLICY_RULES, PolicyTooLargeError, policyInForce, policyRules } from './opening.js';
export { renderPolicy } from './policy-rules.js';
export { answerActions, apply, ETH_TYPE, goto, ICMPV6, IP_PROTO, SIDE, WHOLE } from './words.js';
