# DatacakeNet: the network between the nodes of a test, as something that can be
# cut, delayed and spoilt.  Needs no privilege and no tool of the system: one
# process through which all bytes between the nodes go.
#
#   my $c = DatacakeCluster->new(nodes => 3, net => 1);
#   $c->net->partition([1, 2], [3]);
#   $c->net->heal;
#
#                      relay port of node 2
#   node 1  --TCP-->  +-------------------+  --TCP-->  node 2
#                     |   DatacakeNet     |
#   node 1  --UDP-->  +-------------------+  --UDP-->  node 2
#                      (leaves from the relay port of node 1, so that the answer
#                       comes back to it)
#
# A node tells the others its relay port, for both protocols.  Who sends is seen
# by the port that a datagram comes from, and by the application_name in the
# first packet of a connection; connections of others (verify, people) pass
# whatever the rules say.
#
# A rule is for what one node sends to another:
#
#   cut     "hold": nothing arrives.  Datagrams are gone; bytes of a connection
#           wait until the cut ends, as if their packets were sent again and
#           again; the end of a connection is not heard of either.  So it is
#           both a partition and a half-open connection
#           "reset": connections end at once, new ones are refused
#   cut_tcp the same for connections only: datagrams pass
#   delay_ms, jitter_ms    later by that, and by a random part of that
#   loss, duplicate        datagrams: probability
#   corrupt                probability for a datagram that a bit flips
#   corrupt_tcp            probability for a piece of a connection that one does
#   corrupt_sealed         the same, not in lengths and other fields that are
#                          mostly zeros
package DatacakeNet;

use strict;
use warnings;

use Carp qw(croak);
use Errno qw(EAGAIN EINPROGRESS EINTR EWOULDBLOCK);
use Fcntl qw(F_GETFL F_SETFL O_NONBLOCK);
use IO::Handle;
use IPC::Open2;
use Socket qw(:DEFAULT IPPROTO_TCP SOL_SOCKET SO_ERROR SO_LINGER SO_REUSEADDR TCP_NODELAY);
use Time::HiRes qw(time);

# ---- for tests --------------------------------------------------------------

# new: the relay process; it ends with the test.
sub new
{
	my ($class, $log) = @_;
	my $self = bless { nodes => [] }, $class;
	local $SIG{PIPE} = 'IGNORE';
	$self->{pid} = open2($self->{out}, $self->{in}, $^X, '-MDatacakeNet', '-e', 'DatacakeNet::serve(@ARGV)', $log);
	return $self;
}

# add_node($i, $port, $tcp, $udp): its relay port, and where it really listens.
sub add_node
{
	my ($self, $i, $port, $tcp, $udp) = @_;
	push @{ $self->{nodes} }, $i;
	$self->_tell("node $i $port $tcp $udp");
	return;
}

# rule($from, $to, name => value...): changes what is given, leaves the rest.
sub rule
{
	my ($self, $from, $to, %values) = @_;
	$self->_tell("rule $from $to " . join ' ', map { "$_=$values{$_}" } sort keys %values);
	return;
}

# all_rules(name => value...): the same for everything that any node sends.
sub all_rules
{
	my ($self, %values) = @_;
	foreach my $from (@{ $self->{nodes} })
	{
		$self->rule($from, $_, %values) foreach grep { $_ != $from } @{ $self->{nodes} };
	}
	return;
}

# cut($from, $to): one way; $how is "hold" unless given.
sub cut { my ($self, $from, $to, $how) = @_; return $self->rule($from, $to, cut => $how // 'hold'); }

# partition([nodes], [nodes], $how): both ways between the two sides.
sub partition
{
	my ($self, $these, $those, $how) = @_;
	foreach my $one (@$these)
	{
		foreach my $other (@$those) { $self->cut($one, $other, $how); $self->cut($other, $one, $how); }
	}
	return;
}

# isolate($i, $how): a node from all others.
sub isolate
{
	my ($self, $i, $how) = @_;
	return $self->partition([$i], [ grep { $_ != $i } @{ $self->{nodes} } ], $how);
}

# heal: all rules are forgotten.
sub heal { my ($self) = @_; return $self->_tell('heal'); }

# sever($one, $other): their connections end, once.
sub sever { my ($self, $one, $other) = @_; return $self->_tell("sever $one $other"); }

# counts: name => number of what happened so far: datagrams, bytes, connections,
# and of these what was lost, corrupted, refused ...
sub counts
{
	my ($self) = @_;
	return map { split /=/ } split ' ', $self->_tell('counts');
}

sub _tell
{
	my ($self, $line) = @_;
	local $SIG{PIPE} = 'IGNORE';
	print { $self->{in} } "$line\n";
	$self->{in}->flush;
	my $answer = readline $self->{out};
	croak "the relay does not take \"$line\": " . ($answer // 'it has ended') unless defined $answer && $answer =~ /^ok ?(.*)/;
	return $1;
}

# ---- the relay --------------------------------------------------------------

# What follows runs in a process of its own, until its standard input ends.
use constant {
	PIECE      => 65536,
	QUEUED_MAX => 262144, # bytes that wait in one direction of a connection
};

my %nodes;       # number => { tcp, udp, listener, socket }
my %node_of_udp; # port => number
my %rules;       # from => to => { ... }
my @connections;
my @datagrams; # { at, via, to, bytes }, those that are late
my %counts;

sub serve
{
	my ($log) = @_;
	open STDERR, '>>', $log or die "$log: $!";
	STDOUT->autoflush(1);
	$SIG{PIPE} = 'IGNORE';
	my $commands = '';
	while (1)
	{
		my ($readable, $writable, $timeout) = wanted();
		vec($readable, 0, 1) = 1;
		my $found = select $readable, $writable, undef, $timeout;
		next if $found < 0;
		if (vec($readable, 0, 1))
		{
			sysread STDIN, $commands, PIECE, length $commands or last;
			print command($1), "\n" while $commands =~ s/^(.*)\n//;
		}
		foreach my $i (keys %nodes)
		{
			take_datagrams($i) if vec($readable, fileno $nodes{$i}{socket}, 1);
			take_connection($i) if vec($readable, fileno $nodes{$i}{listener}, 1);
		}
		send_late_datagrams();
		turn($_, $readable, $writable) foreach @connections;
		@connections = grep { !$_->{over} } @connections;
	}
	return;
}

sub rule_of
{
	my ($from, $to) = @_;
	return {} unless defined $from && defined $to;
	return $rules{$from}{$to} // {};
}

sub cut_of { my ($from, $to) = @_; my $rule = rule_of($from, $to); return $rule->{cut} || $rule->{cut_tcp} || ''; }
sub dice { my ($probability) = @_; return $probability && rand() < $probability; }

# seconds until what is sent now arrives
sub delay
{
	my ($rule) = @_;
	return (($rule->{delay_ms} // 0) + rand($rule->{jitter_ms} // 0)) / 1000;
}

sub corrupt
{
	my ($bytes, $at) = @_;
	$at //= int rand length $bytes;
	substr($bytes, $at, 1) = chr(ord(substr $bytes, $at, 1) ^ (1 << int rand 8));
	return $bytes;
}

sub command
{
	my ($line) = @_;
	my ($verb, @words) = split ' ', $line;
	if ($verb eq 'node') { open_node(@words); }
	elsif ($verb eq 'rule')
	{
		my ($from, $to, @values) = @words;
		foreach my $value (@values)
		{
			my ($name, $number) = split /=/, $value, 2;
			$rules{$from}{$to}{$name} = $number;
		}
		sever_pair($from, $to) if cut_of($from, $to) eq 'reset';
	}
	elsif ($verb eq 'heal') { %rules = (); }
	elsif ($verb eq 'sever') { sever_pair(@words); }
	elsif ($verb eq 'counts') { return join ' ', 'ok', map { "$_=$counts{$_}" } sort keys %counts; }
	else { return "no command \"$verb\""; }
	return 'ok';
}

sub open_node
{
	my ($i, $port, $tcp, $udp) = @_;
	my %node = (tcp => $tcp, udp => $udp);
	socket($node{listener}, PF_INET, SOCK_STREAM, 0) or die "socket: $!";
	setsockopt($node{listener}, SOL_SOCKET, SO_REUSEADDR, 1);
	bind($node{listener}, sockaddr_in($port, INADDR_LOOPBACK)) or die "bind: $!";
	listen($node{listener}, 100) or die "listen: $!";
	socket($node{socket}, PF_INET, SOCK_DGRAM, 0) or die "socket: $!";
	bind($node{socket}, sockaddr_in($port, INADDR_LOOPBACK)) or die "bind: $!";
	nonblocking($_) foreach @node{qw(listener socket)};
	$nodes{$i} = \%node;
	$node_of_udp{$udp} = $i;
	return;
}

sub nonblocking
{
	my ($handle) = @_;
	fcntl $handle, F_SETFL, fcntl($handle, F_GETFL, 0) | O_NONBLOCK or die "fcntl: $!";
	return $handle;
}

# ---- datagrams --------------------------------------------------------------

sub take_datagrams
{
	my ($to) = @_;
	while (defined(my $sender = recv $nodes{$to}{socket}, my $bytes, 65536, 0))
	{
		my $from = $node_of_udp{ (sockaddr_in($sender))[0] } // next;
		my $rule = rule_of($from, $to);
		next if $from == $to;
		$counts{datagrams}++;
		if ($rule->{cut} || dice($rule->{loss}))
		{
			$counts{datagrams_lost}++;
			next;
		}
		if (length $bytes && dice($rule->{corrupt}))
		{
			$bytes = corrupt($bytes);
			$counts{datagrams_corrupted}++;
		}
		foreach (0 .. dice($rule->{duplicate}) ? 1 : 0)
		{
			push @datagrams, { at => time + delay($rule), via => $from, to => $to, bytes => $bytes };
		}
	}
	return;
}

sub send_late_datagrams
{
	my $now = time;
	foreach my $datagram (grep { $_->{at} <= $now } @datagrams)
	{
		send $nodes{ $datagram->{via} }{socket}, $datagram->{bytes}, 0,
		  sockaddr_in($nodes{ $datagram->{to} }{udp}, INADDR_LOOPBACK);
	}
	@datagrams = grep { $_->{at} > $now } @datagrams;
	return;
}

# ---- connections ------------------------------------------------------------

# A connection has two flows: { from, to, source, sink, queue, queued, ended }.
# Until the first packet is complete (greeting) only the caller's side is read,
# and who it is is not known.
sub take_connection
{
	my ($to) = @_;
	accept(my $caller, $nodes{$to}{listener}) or return;
	nonblocking($caller);
	setsockopt($caller, IPPROTO_TCP, TCP_NODELAY, 1);
	push @connections, { to => $to, caller => $caller, greeting => '', flows => [] };
	$counts{connections}++;
	return;
}

# Which sockets to look at, and how long.
sub wanted
{
	my ($readable, $writable) = ('', '');
	my $now  = time;
	my $next = 60 + $now;
	foreach my $node (values %nodes)
	{
		vec($readable, fileno $node->{$_}, 1) = 1 foreach qw(listener socket);
	}
	foreach my $datagram (@datagrams) { $next = $datagram->{at} if $datagram->{at} < $next; }
	foreach my $connection (@connections)
	{
		if (!@{ $connection->{flows} })
		{
			vec($readable, fileno $connection->{caller}, 1) = 1 if defined $connection->{greeting};
			next;
		}
		foreach my $flow (@{ $connection->{flows} })
		{
			vec($readable, fileno $flow->{source}, 1) = 1 if may_read($flow);
			my $first = $flow->{queue}[0] // next;
			if ($first->{at} <= $now) { vec($writable, fileno $flow->{sink}, 1) = 1 unless held($flow); }
			elsif ($first->{at} < $next) { $next = $first->{at}; }
		}
	}
	return ($readable, $writable, $next - $now);
}

sub held { my ($flow) = @_; return cut_of($flow->{from}, $flow->{to}) eq 'hold'; }

sub may_read
{
	my ($flow) = @_;
	return !$flow->{ended} && $flow->{queued} < QUEUED_MAX && !held($flow);
}

sub turn
{
	my ($connection, $readable, $writable) = @_;
	return if $connection->{over};
	if (!@{ $connection->{flows} })
	{
		read_greeting($connection) if defined $connection->{greeting} && vec($readable, fileno $connection->{caller}, 1);
		connect_onward($connection) if !$connection->{over} && !defined $connection->{greeting};
		return;
	}
	foreach my $flow (@{ $connection->{flows} })
	{
		read_flow($connection, $flow) if vec($readable, fileno $flow->{source}, 1) && may_read($flow);
		return if $connection->{over};
		write_flow($connection, $flow) if @{ $flow->{queue} } && vec($writable, fileno $flow->{sink}, 1) && !held($flow);
		return if $connection->{over};
	}
	end_connection($connection, 0) unless grep { !$_->{closed} } @{ $connection->{flows} };
	return;
}

# The first packet: its length, a number, and names and values.  A request for
# encryption comes before it and is declined here.
sub read_greeting
{
	my ($connection) = @_;
	my $read = sysread $connection->{caller}, $connection->{greeting}, PIECE, length $connection->{greeting};
	return if !defined $read && again();
	return end_connection($connection, 1) unless $read;
	my ($length, $code) = unpack 'NN', $connection->{greeting};
	return if !defined $code || length $connection->{greeting} < $length;
	if ($code == 80877103 || $code == 80877104)
	{
		$connection->{greeting} = substr $connection->{greeting}, 8;
		syswrite $connection->{caller}, 'N';
		return;
	}
	$connection->{from} = $1 if $connection->{greeting} =~ /\0application_name\0datacake (?:\w+ of )?node ([0-9]+)\0/;
	$connection->{first} = $connection->{greeting};
	$connection->{greeting} = undef;
	return;
}

# Called until no rule holds it: a connection needs both directions.
sub connect_onward
{
	my ($connection) = @_;
	my ($from, $to) = @$connection{qw(from to)};
	my @cuts = (cut_of($from, $to), cut_of($to, $from));
	if (grep { $_ eq 'reset' } @cuts)
	{
		$counts{connections_refused}++;
		return end_connection($connection, 1);
	}
	return if grep { $_ eq 'hold' } @cuts;
	socket($connection->{server}, PF_INET, SOCK_STREAM, 0) or die "socket: $!";
	nonblocking($connection->{server});
	setsockopt($connection->{server}, IPPROTO_TCP, TCP_NODELAY, 1);
	connect($connection->{server}, sockaddr_in($nodes{$to}{tcp}, INADDR_LOOPBACK))
	  or $! == EINPROGRESS or $! == EAGAIN or return end_connection($connection, 1);
	my ($caller, $server) = @$connection{qw(caller server)};
	my $first = delete $connection->{first};
	$connection->{flows} = [
		{ from => $from, to => $to, source => $caller, sink => $server, queue => [ { at => 0, bytes => $first } ], queued => length $first },
		{ from => $to, to => $from, source => $server, sink => $caller, queue => [], queued => 0 },
	];
	return;
}

sub again { return $! == EAGAIN || $! == EWOULDBLOCK || $! == EINTR; }

sub read_flow
{
	my ($connection, $flow) = @_;
	my $rule = rule_of($flow->{from}, $flow->{to});
	my $read = sysread $flow->{source}, my $bytes, PIECE;
	return if !defined $read && again();
	return end_connection($connection, 1) unless defined $read;
	if ($read == 0) { $flow->{ended} = 1; }
	$counts{bytes} += $read;
	if ($read > 0 && dice($rule->{corrupt_tcp}))
	{
		$bytes = corrupt($bytes);
		$counts{pieces_corrupted}++;
	}
	elsif ($read > 0 && dice($rule->{corrupt_sealed}))
	{
		# a random place without zeros around it
		my $from = int rand $read;
		if (substr($bytes, $from) =~ /[^\0]{16}/)
		{
			$bytes = corrupt($bytes, $from + $-[0] + 8);
			$counts{pieces_corrupted}++;
		}
	}
	# an empty piece is the end
	push @{ $flow->{queue} }, { at => time + delay($rule), bytes => $bytes };
	$flow->{queued} += $read;

	# jitter must not change the order
	my $before = $flow->{queue}[-2];
	$flow->{queue}[-1]{at} = $before->{at} if $before && $before->{at} > $flow->{queue}[-1]{at};
	return;
}

sub write_flow
{
	my ($connection, $flow) = @_;
	my $now = time;
	while (@{ $flow->{queue} } && $flow->{queue}[0]{at} <= $now)
	{
		my $piece = $flow->{queue}[0];
		if ($piece->{bytes} eq '')
		{
			shutdown $flow->{sink}, 1;
			$flow->{closed} = 1;
			shift @{ $flow->{queue} };
			next;
		}
		my $written = syswrite $flow->{sink}, $piece->{bytes};
		return if !defined $written && again();
		return end_connection($connection, 1) unless defined $written;
		$flow->{queued} -= $written;
		substr($piece->{bytes}, 0, $written) = '';
		return if length $piece->{bytes};
		shift @{ $flow->{queue} };
	}
	return;
}

sub end_connection
{
	my ($connection, $reset) = @_;
	foreach my $socket (grep { defined } @$connection{qw(caller server)})
	{
		setsockopt($socket, SOL_SOCKET, SO_LINGER, pack 'II', 1, 0) if $reset;
		close $socket;
	}
	$connection->{over} = 1;
	return;
}

sub sever_pair
{
	my ($one, $other) = @_;
	foreach my $connection (@connections)
	{
		next if $connection->{over} || !defined $connection->{from};
		next if join(' ', sort @$connection{qw(from to)}) ne join(' ', sort $one, $other);
		$counts{connections_severed}++;
		end_connection($connection, 1);
	}
	@connections = grep { !$_->{over} } @connections;
	return;
}

1;
