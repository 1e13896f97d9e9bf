/**
 * What the controller makes of frames that an agent (or a stranger) sends.
 */
import { agentCodec, controllerCodec } from '../../../shared/channel/codec.js';
import { agentMessages } from '../channel-messages.js';
import { codecTarget } from '../codec-target.js';

export default codecTarget({ here: controllerCodec, there: agentCodec, messages: agentMessages });
