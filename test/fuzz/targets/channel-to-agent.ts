/**
 * What an agent makes of frames that a controller (or whoever listens there) sends.
 */
import { agentCodec, controllerCodec } from '../../../shared/channel/codec.js';
import { controllerMessages } from '../channel-messages.js';
import { codecTarget } from '../codec-target.js';

export default codecTarget({ here: agentCodec, there: controllerCodec, messages: controllerMessages });
