/**
 * The priorities of the tables `firewall` and `firewall-ct`, in one place: what is above decides before what is below.
 * The policy needs a band of its own, because its rules are up to 2,000 and the first that matches decides.
 */
export const FIREWALL = {
  /** Redirects are +rel to conntrack: they must be gone before it. */
  redirect: 400,
  /** The terminal's own address as a source on the network's side: above all that passes. */
  spoofed: 390,
  /** Neighbour discovery, DHCP, ARP: no connections, needed to have any. */
  link: 300,
  /** A first fragment that does not show what it opens. */
  hidden: 200,
  /** TCP, UDP and ICMP go to conntrack. */
  tracked: 100,
} as const;

export const FIREWALL_CT = {
  adoptionReset: 30_020,
  adoptionInvalid: 30_010,
  adoption: 30_000,
  invalid: 29_000,
  /** Copies of SYN, FIN and RST of known connections. */
  state: 28_000,
  /** First packet back, end of a handshake. */
  reply: 27_000,
  /** More of a one-way exchange that is already announced. */
  oneWay: 26_000,
  oneWayAnnounce: 25_900,
  known: 25_000,
  announce: 24_900,
  related: 24_000,
  /** Above the policy: a rule without ports would match them, and must not decide on them. */
  laterFragment: 21_000,
  /** The first rule of the policy; each further one is one lower, the defaults are last: 20,000 to 18,000. */
  policy: 20_000,
  /** A draining instance hands on what it does not know. */
  handOn: 5_000,
} as const;

/** The table `admit` has one rule for each side and family. */
export const ADMIT = 10;
