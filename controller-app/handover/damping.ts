/**
 * Damping of domains that come and go, as RFC 2439 damps routes: each loss is a penalty that fades; above the cutoff a domain is left alone until
 * it has faded to the reuse threshold. Pure but for what it remembers.
 */

/** Figure of merit, RFC 2439, section 4.2, with a half-life for firewalls rather than routes. */
const PENALTY = 1_000;
const CUTOFF = 2_000;
const REUSE = 750;
const CEILING = 8_000;
const HALF_LIFE_MS = 30_000;

interface Merit {
  readonly penalty: number;
  /** Monotonic ms. */
  readonly at: number;
  readonly suppressed: boolean;
}

export class Damping {
  readonly #merits = new Map<string, Merit>();

  /** `now`: monotonic ms. */
  constructor(readonly now: () => number) {}

  /** The domain has been lost once more. */
  lost(domain: string): void {
    const at = this.now();
    const penalty = Math.min(CEILING, this.#faded(domain) + PENALTY);
    const suppressed = penalty > CUTOFF || (this.#merits.get(domain)?.suppressed ?? false);
    this.#merits.set(domain, { penalty, at, suppressed });
  }

  /** For how many ms from now the domain is to be left alone; 0: it may be used. */
  heldFor(domain: string): number {
    const merit = this.#merits.get(domain);
    if (!merit?.suppressed) return 0;
    const penalty = this.#faded(domain);
    if (penalty > REUSE) return HALF_LIFE_MS * Math.log2(penalty / REUSE);
    this.#merits.set(domain, { penalty, at: this.now(), suppressed: false });
    return 0;
  }

  #faded(domain: string): number {
    const merit = this.#merits.get(domain);
    return merit ? merit.penalty * 2 ** (-(this.now() - merit.at) / HALF_LIFE_MS) : 0;
  }
}
