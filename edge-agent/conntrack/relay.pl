# Copies messages between the agent and the kernel's connection table (nfnetlink). Node has no netlink sockets; perl-base is on every Debian.
#
# Usage: perl -e PROGRAM BYTES, in the network namespace that the table belongs to. BYTES: room for events that the agent has not read yet.
# It looks at nothing but lengths. Frames, numbers in network order:
#   input    u32 length, then so many bytes: one datagram for the kernel
#   output   u32 length, u8 kind, then so many bytes:
#            h  it listens; u32 the port of the requests: events that they cause carry it
#            e  a datagram of the event groups         r  a datagram in reply to requests
#            o  events were lost (ENOBUFS)             l  replies were lost
#            f  a datagram could not be sent: u32 errno, and its first message's sequence as it stood there
# Events go before replies: what a request causes is told before the request is answered.
# It holds one input frame and one output buffer. It ends with its input, and with an error on anything else.
use strict;
use warnings;

use constant {
    AF_NETLINK => 16, SOCK_RAW_CLOEXEC => 3 | 02000000, NETLINK_NETFILTER => 12,
    GROUPS => 7,    # NFNLGRP_CONNTRACK_NEW, _UPDATE and _DESTROY
    SOL_SOCKET => 1, SO_RCVBUFFORCE => 33, SOL_NETLINK => 270, NETLINK_CAP_ACK => 10,
    MSG_DONTWAIT => 0x40, EINTR => 4, EAGAIN => 11, ENOBUFS => 105,
    REPLY_BYTES => 8 << 20, DATAGRAM_BYTES => 65536, MOST_INPUT => 131072, MOST_OUTPUT => 65536, EVENTS_A_TURN => 64,
};

sub netlink {
    my ($groups, $bytes) = @_;
    socket(my $socket, AF_NETLINK, SOCK_RAW_CLOEXEC, NETLINK_NETFILTER) or die "no netlink socket: $!\n";
    setsockopt($socket, SOL_SOCKET, SO_RCVBUFFORCE, $bytes) or die "no room for $bytes bytes of messages: $!\n";
    bind($socket, pack('SSLL', AF_NETLINK, 0, 0, $groups)) or die "the kernel does not report connections: $!\n";
    return $socket;
}

my $events = netlink(GROUPS, $ARGV[0] + 0);
my $requests = netlink(0, REPLY_BYTES);
setsockopt($requests, SOL_NETLINK, NETLINK_CAP_ACK, 1) or die "no short answers: $!\n";
my $kernel = pack('SSLL', AF_NETLINK, 0, 0, 0);
my (undef, undef, $port) = unpack('SSLL', getsockname($requests));

my ($input, $output) = ('', '');
sub put { $output .= pack('NA', length $_[1], $_[0]) . $_[1] }

sub flush {
    while (length $output) {
        my $written = syswrite(STDOUT, $output);
        if (defined $written) { substr($output, 0, $written, '') }
        elsif ($! != EINTR) { exit 1 }
    }
}

# One datagram as a frame of this kind; true unless there is none.
sub take {
    my ($socket, $kind, $lost) = @_;
    my $from = recv($socket, my $datagram, DATAGRAM_BYTES, MSG_DONTWAIT);
    if (!defined $from) {
        return 0 if $! == EAGAIN;
        return 1 if $! == EINTR;
        die "a netlink socket broke: $!\n" if $! != ENOBUFS;
        put($lost, '');
    }
    elsif (substr($from, 4, 4) eq substr($kernel, 4, 4)) { put($kind, $datagram) }
    return 1;
}

# One request frame; true unless there is no whole one.
sub ask {
    return 0 if length $input < 4;
    my $length = unpack('N', $input);
    die "a request of $length bytes\n" if $length < 16 || $length > MOST_INPUT;
    return 0 if length $input < 4 + $length;
    my $datagram = substr($input, 4, $length);
    substr($input, 0, 4 + $length, '');
    until (defined send($requests, $datagram, 0, $kernel)) {
        next if $! == EINTR;
        put('f', pack('N', $! + 0) . substr($datagram, 8, 4));
        last;
    }
    return 1;
}

put('h', pack('N', $port));
my $busy = 0;
while (1) {
    flush() if !$busy || length $output >= MOST_OUTPUT;
    my $ready = '';
    vec($ready, fileno($_), 1) = 1 for \*STDIN, $events, $requests;
    my $count = select($ready, undef, undef, $busy ? 0 : undef);
    next if $count < 0;
    $busy = $count > 0;
    my $left = EVENTS_A_TURN;
    if ($count && vec($ready, fileno($events), 1)) { while ($left && take($events, 'e', 'o')) { $left-- } }
    next if !$left;
    take($requests, 'r', 'l') if $count && vec($ready, fileno($requests), 1);
    if ($count && vec($ready, fileno(STDIN), 1) && length $input < MOST_INPUT) {
        my $read = sysread(STDIN, $input, MOST_INPUT, length $input);
        exit 0 if defined $read && $read == 0;
        die "no input: $!\n" if !defined $read && $! != EINTR;
    }
    $busy = 1 if ask();
}
