/**
 * What a bridge inside a compartment lets pass at all, as text for `nft -f`.
 *
 * iptables sees plain IPv4 and IPv6 only; a bridge passes everything else: VLANs, MPLS, PPPoE, LLC. `ether type` reads the frame
 * itself, where `meta protocol` would name what is behind a tag. Source routes fall here, too: iptables has no match for IPv4's, and
 * for IPv6's one that a kernel may lack (RFC 5095 deprecates type 0; RFC 7126 has the IPv4 options dropped).
 */
export const FRAMES = `table bridge paguro {
  chain forward {
    type filter hook forward priority -300; policy drop;
    ip option lsrr exists drop
    ip option ssrr exists drop
    rt type 0 drop
    ether type { ip, ip6, arp } accept
  }
}
`;
