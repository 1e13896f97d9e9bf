/**
 * The registry: which terminals there are and where each is attached. An attachment begins with the first frame from the terminal's MAC
 * on a host port, and ends with that port. A terminal that may have two begins the second in the same way while the first is up; the one
 * that it sent by last is its primary attachment. Pure: it decides, others act.
 */
import type { Dpid } from '../../shared/domain/domain.js';
import type { Terminal } from '../../shared/firewall/terminal.js';
import type { Attachment } from '../steering/view.js';

export type Sighting =
  /** The terminal is attached here now, and primarily so; `joins`: beside where it was attached before. */
  | {
      readonly kind: 'attached';
      readonly terminal: Terminal;
      readonly attachment: Attachment;
      readonly joins: boolean;
    }
  /** It is attached here already. */
  | { readonly kind: 'known'; readonly terminal: Terminal }
  /** It is attached elsewhere, and that port is still up: somebody else may be using its address. */
  | { readonly kind: 'contested'; readonly terminal: Terminal; readonly attachment: Attachment }
  | { readonly kind: 'stranger' };

/** A terminal that has lost a port. */
export interface Departure {
  readonly terminal: Terminal;
  /** It was the primary attachment. */
  readonly primary: boolean;
  /** Where it is attached still. */
  readonly left: readonly Attachment[];
}

export interface RegistryOptions {
  /** How many attachments a terminal may have at once. Default: one. */
  limit?(terminal: string): number;
  /** A terminal is attached elsewhere than before, or nowhere. */
  onChange?(terminal: string, attachments: readonly Attachment[]): void;
}

const isAt = (a: Attachment, dpid: Dpid, port: number): boolean => a.dpid === dpid && a.port === port;

export class Registry {
  readonly #byMac: ReadonlyMap<string, Terminal>;
  readonly #attachments = new Map<string, readonly Attachment[]>();
  readonly #limit: (terminal: string) => number;
  readonly #onChange: NonNullable<RegistryOptions['onChange']>;

  constructor(
    readonly terminals: readonly Terminal[],
    { limit = () => 1, onChange = () => {} }: RegistryOptions = {},
  ) {
    this.#byMac = new Map(terminals.map((terminal) => [terminal.mac, terminal]));
    this.#limit = limit;
    this.#onChange = onChange;
  }

  /** The primary one. */
  attachment(terminal: string): Attachment | undefined {
    return this.attachments(terminal)[0];
  }

  /** The first is the primary one. */
  attachments(terminal: string): readonly Attachment[] {
    return this.#attachments.get(terminal) ?? [];
  }

  /** Where an earlier controller had seen the terminal: it may have gone from there. */
  restore(terminal: string, attachments: readonly Attachment[]): void {
    this.#attachments.set(terminal, attachments.slice(0, this.#limit(terminal)));
  }

  /** A frame from this MAC came in at a host port. `own`: from an address of the terminal's own, too, which its second attachment must show. */
  seen(mac: string, at: Attachment, own: (terminal: Terminal) => boolean = () => false): Sighting {
    const terminal = this.#byMac.get(mac);
    if (!terminal) return { kind: 'stranger' };
    const present = this.attachments(terminal.name);
    const [primary] = present;
    if (present.some(({ dpid, port }) => isAt(at, dpid, port))) return { kind: 'known', terminal };
    if (primary && (present.length >= this.#limit(terminal.name) || !own(terminal)))
      return { kind: 'contested', terminal, attachment: primary };
    this.#set(terminal.name, [at, ...present]);
    return { kind: 'attached', terminal, attachment: at, joins: primary !== undefined };
  }

  /** The terminal sends by this port. Returns its attachment there when it becomes the primary one by that. */
  sendsBy(terminal: string, dpid: Dpid, port: number): Attachment | undefined {
    const present = this.attachments(terminal);
    const at = present.find((one) => isAt(one, dpid, port));
    if (!at || at === present[0]) return undefined;
    this.#set(terminal, [at, ...present.filter((one) => one !== at)]);
    return at;
  }

  /** A port went away or lost its link: the terminals that were attached there. */
  portGone(dpid: Dpid, port: number): readonly Departure[] {
    return this.terminals.flatMap((terminal): Departure[] => {
      const present = this.attachments(terminal.name);
      const left = present.filter((one) => !isAt(one, dpid, port));
      if (left.length === present.length) return [];
      this.#set(terminal.name, left);
      return [{ terminal, primary: left[0] !== present[0], left }];
    });
  }

  #set(terminal: string, attachments: readonly Attachment[]): void {
    if (attachments.length > 0) this.#attachments.set(terminal, attachments);
    else this.#attachments.delete(terminal);
    this.#onChange(terminal, attachments);
  }
}
