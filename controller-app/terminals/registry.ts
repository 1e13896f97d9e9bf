/**
 * The registry: which terminals there are and where each is attached. An attachment begins with the first frame from the terminal's MAC
 * on a host port, and ends with that port. Pure: it decides, others act.
 */
import type { Dpid } from '../../shared/domain/domain.js';
import type { Terminal } from '../../shared/firewall/terminal.js';
import type { Attachment } from '../steering/view.js';

export type Sighting =
  /** The terminal is attached here now. */
  | { readonly kind: 'attached'; readonly terminal: Terminal; readonly attachment: Attachment }
  /** It is attached here already. */
  | { readonly kind: 'known'; readonly terminal: Terminal }
  /** It is attached elsewhere, and that port is still up: somebody else may be using its address. */
  | { readonly kind: 'contested'; readonly terminal: Terminal; readonly attachment: Attachment }
  | { readonly kind: 'stranger' };

export class Registry {
  readonly #byMac: ReadonlyMap<string, Terminal>;
  readonly #attachments = new Map<string, Attachment>();

  constructor(readonly terminals: readonly Terminal[]) {
    this.#byMac = new Map(terminals.map((terminal) => [terminal.mac, terminal]));
  }

  attachment(terminal: string): Attachment | undefined {
    return this.#attachments.get(terminal);
  }

  /** A frame from this MAC came in at a host port. */
  seen(mac: string, at: Attachment): Sighting {
    const terminal = this.#byMac.get(mac);
    if (!terminal) return { kind: 'stranger' };
    const present = this.#attachments.get(terminal.name);
    if (present?.dpid === at.dpid && present.port === at.port) return { kind: 'known', terminal };
    if (present) return { kind: 'contested', terminal, attachment: present };
    this.#attachments.set(terminal.name, at);
    return { kind: 'attached', terminal, attachment: at };
  }

  /** A port went away or lost its link: the terminals that were attached there, now nowhere. */
  portGone(dpid: Dpid, port: number): readonly Terminal[] {
    return this.terminals.filter(({ name }) => {
      const at = this.#attachments.get(name);
      return at?.dpid === dpid && at.port === port && this.#attachments.delete(name);
    });
  }
}
