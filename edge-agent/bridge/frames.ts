/**
 * What a bridge inside a compartment lets pass at all, as text for `nft -f`.
 *
 * iptables sees plain IPv4 and IPv6 only; a bridge passes everything else: VLANs, MPLS, PPPoE, LLC. `ether type` reads the frame
 * itself, where `meta protocol` would name what is behind a tag. Source routes fall here, too: iptables has no match for IPv4's, and
 * for IPv6's one that a kernel may lack (RFC 5095 deprecates type 0; RFC 7126 has the IPv4 options dropped).
 *
 * Pieces that are smaller than any network makes them fall before they are put together, as they do in Open vSwitch (its ipf-set-min-frag: 1200 bytes with
 * the header for IPv4, 1280 for IPv6, but the last piece); and so does UDP without a checksum in IPv6 (RFC 8200, 8.1), which conntrack lets pass.
 */
export const FRAMES = `table bridge paguro {
  chain pieces {
    type filter hook prerouting priority -300; policy accept;
    ip frag-off & 0x2000 != 0 ip length < 1200 drop
    frag more-fragments 1 ip6 length < 1240 drop
  }
  chain forward {
    type filter hook forward priority -300; policy drop;
    ip option lsrr exists drop
    ip option ssrr exists drop
    rt type 0 drop
    ether type ip6 udp checksum 0 drop
    ether type { ip, ip6, arp } accept
  }
}
`;
