/**
 * Words of what conntrack prints.
 */
export const conntrackLines: readonly string[] = [
  ...['[NEW] ', '[UPDATE] ', '[DESTROY] ', '[UNREPLIED] ', '[ASSURED] ', '[USERSPACE] ', '[OFFLOAD] '],
  ...[
    'ipv4     2 ',
    'ipv6     10 ',
    'tcp      6 ',
    'udp      17 ',
    'icmp     1 ',
    'icmpv6   58 ',
    'sctp     132 ',
  ],
  ...[
    'SYN_SENT ',
    'SYN_RECV ',
    'ESTABLISHED ',
    'FIN_WAIT ',
    'CLOSE ',
    'src=',
    'dst=',
    'sport=',
    'dport=',
    'type=8 ',
  ],
  ...[
    'type=128 ',
    'code=0 ',
    'id=',
    'mark=1 ',
    'zone=1 ',
    'use=1',
    '10.0.0.1',
    'fd00::1',
    '::ffff:10.0.0.1',
    'fe80::1%eth0',
  ],
  ...['432000 ', '65536', '-1', '=', ' ', '\n', '\r', '\t'],
];
