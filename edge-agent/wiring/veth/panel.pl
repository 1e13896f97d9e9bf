# Holds the network namespace that it runs in: the panel. When the agent is dead, which the kernel tells by a signal, firewalls live on until their leases end and
# longer, so it stays as long as a cord is plugged in; it ends when the last has gone with its container.
#
# Usage: perl -e PROGRAM PATTERN. PATTERN: of the names of cords' sides in the panel. It says a line when it holds.
use strict;
use warnings;

my $pattern = qr/^\s*$ARGV[0]:/;
my $agent = getppid;
my $alone = 0;
$SIG{TERM} = sub { $alone = 1 };

sub plugged {
    open(my $links, '<', '/proc/self/net/dev') or die "no links to be seen: $!\n";
    return scalar grep { $_ =~ $pattern } <$links>;
}

$| = 1;
print "here\n";
# A signal wakes it; that it was missed shows at its next look.
sleep 10 until $alone || getppid != $agent;
select(undef, undef, undef, 0.1) while plugged();
