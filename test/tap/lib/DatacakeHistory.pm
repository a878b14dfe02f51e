# DatacakeHistory: clients that write and read a few keys at consistency levels,
# and a checker of what they were told.
#
#   my $history = DatacakeHistory->new($c, 's');       # a keyspace text -> text
#   $history->start(4, put => 'quorum', get => 'quorum');
#   ... kill, stop, start ...
#   $history->stop;
#   is_deeply([ $history->complaints ], []);
#
# A client is a process.  For each operation it takes a node and a key by chance,
# and notes when it asked, when it had the answer, and what that was; a clock that
# only goes forward, the same one for all clients, tells which was before which.
#
#   begin ---- operation ---- end           before: end of one < begin of other
#
# Writes of a key are in the order of their stamps.  A read that begins after a
# write was acknowledged must return that write or a newer one; and what it
# returns must have been written, under that stamp, by a write that did not fail
# and began before the read ended.  An answer that did not come (or came with a
# warning that the level was not reached) acknowledges nothing.
package DatacakeHistory;

use strict;
use warnings;

use DatacakeLoad;
use IO::Handle;
use IPC::Open2;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC usleep);

use constant KEYS => 5;

# ---- running clients --------------------------------------------------------

sub new
{
	my ($class, $cluster, $schema) = @_;
	return bless { cluster => $cluster, schema => $schema, running => [], journals => [], operations => [], clients => 0 }, $class;
}

# start($n, put => level, get => level, nodes => [..], pause_ms => 5): so many
# clients more; without put they only read.
sub start
{
	my ($self, $n, %how) = @_;
	my $c = $self->{cluster};
	my @servers = map { $_, $c->node($_)->connstr($c->{database}) } @{ $how{nodes} // [ $c->numbers ] };
	foreach (1 .. $n)
	{
		my $client  = ++$self->{clients};
		my $journal = "$c->{dir}/history$client";
		my ($out, $in);
		my $pid = open2($out, $in, $^X, '-MDatacakeHistory', '-e', 'DatacakeHistory::client(@ARGV)',
			$journal, $client, $self->{schema}, $how{put} // '', $how{get}, $how{pause_ms} // 5, int rand 2**31, @servers);
		push @{ $self->{running} }, { pid => $pid, in => $in, out => $out, journal => $journal };
		push @{ $self->{journals} }, $journal;
	}
	return;
}

# look: reads what the clients noted so far.
sub look
{
	my ($self) = @_;
	$self->{operations} = [];
	foreach my $journal (@{ $self->{journals} })
	{
		open my $file, '<', $journal or next;
		while (my $line = <$file>)
		{
			last unless chomp $line; # its client is still writing it
			my %op;
			@op{qw(kind outcome level node key begin end value stamp)} = split / /, $line;
			push @{ $self->{operations} }, \%op;
		}
	}
	return $self;
}

# stop: the clients end after the operation they are in; looks once more.
sub stop
{
	my ($self) = @_;
	close $_->{in} foreach @{ $self->{running} };
	foreach my $client (@{ $self->{running} })
	{
		waitpid $client->{pid}, 0;
		die "a client failed: status $?, " . _last_words($client) if $?;
	}
	$self->{running} = [];
	return $self->look;
}

sub _last_words
{
	my ($client) = @_;
	open my $file, '<', "$client->{journal}.err" or return "silently: $!";
	return join '', <$file>;
}

# ---- checking ---------------------------------------------------------------

# count(name => value...): of how many operations that is true; after => time
# counts those that began later, nodes => [...] those through one of these.
sub count
{
	my ($self, %is) = @_;
	my $after = delete $is{after} // 0;
	my $nodes = delete $is{nodes};
	my @found = grep { $_->{begin} > $after } @{ $self->{operations} };
	@found = grep { my $op = $_; grep { $op->{node} == $_ } @$nodes } @found if $nodes;
	@found = grep { my $op = $_; !grep { $op->{$_} ne $is{$_} } keys %is } @found;
	return scalar @found;
}

sub summary
{
	my ($self) = @_;
	my %count;
	$count{"$_->{kind} $_->{outcome} at $_->{level}"}++ foreach @{ $self->{operations} };
	return join ', ', map { "$count{$_} $_" } sort keys %count;
}

# complaints($put, $get): what is wrong with reads of that level, given the writes
# that were acknowledged at that level, by default "quorum" both; one line each.
sub complaints
{
	my ($self, $put, $get) = @_;
	my @complaints;
	foreach my $key (map { "k$_" } 1 .. KEYS)
	{
		my @of_key = grep { $_->{key} eq $key } @{ $self->{operations} };
		my @writes = grep { $_->{kind} ne 'get' } @of_key;
		my @sure   = grep { $_->{outcome} eq 'acked' && $_->{level} eq ($put // 'quorum') } @writes;
		foreach my $read (grep { $_->{kind} eq 'get' && $_->{outcome} eq 'acked' && $_->{level} eq ($get // 'quorum') } @of_key)
		{
			my $complaint = _judge($read, \@writes, \@sure) // next;
			push @complaints, "node $read->{node} reads $key from $read->{begin} to $read->{end}: $complaint";
		}
	}
	return @complaints;
}

sub _judge
{
	my ($read, $writes, $sure) = @_;
	my ($newest) = sort { $b->{stamp} <=> $a->{stamp} } grep { $_->{end} < $read->{begin} } @$sure;
	my $expected = $newest ? "\"$newest->{value}\" of $newest->{stamp} was acknowledged to node $newest->{node} at $newest->{end}" : '';
	if ($read->{value} ne '-')
	{
		return "stale: got \"$read->{value}\" of $read->{stamp}, but $expected" if $newest && $read->{stamp} < $newest->{stamp};
		my ($writer) = grep { $_->{value} eq $read->{value} } @$writes;
		return "made up: nobody wrote \"$read->{value}\"" if !$writer;
		return "made up: \"$read->{value}\", whose write through node $writer->{node} at $writer->{level} $writer->{outcome} from $writer->{begin} to $writer->{end}"
		  if $writer->{outcome} eq 'failed' || $writer->{begin} > $read->{end};
		return "made up: \"$read->{value}\" of $read->{stamp} was written at $writer->{stamp}" if $writer->{stamp} && $writer->{stamp} != $read->{stamp};
		return undef;
	}
	return undef if !$newest || $newest->{kind} eq 'del';
	return undef if grep { $_->{kind} eq 'del' && $_->{outcome} ne 'failed' && $_->{begin} < $read->{end}
		  && (!$_->{stamp} || $_->{stamp} > $newest->{stamp}) } @$writes;
	return "stale: got nothing, but $expected";
}

# ---- a client ---------------------------------------------------------------

sub now { return sprintf '%.6f', clock_gettime(CLOCK_MONOTONIC); }

# What follows runs in a process of its own, until its standard input ends.
sub client
{
	my ($journal, $client, $schema, $put, $get, $pause_ms, $seed, %servers) = @_;
	srand $seed;
	$SIG{PIPE} = 'IGNORE';
	open my $out, '>', $journal or die "$journal: $!";
	open STDERR, '>', "$journal.err" or die "$journal.err: $!";
	$out->autoflush(1);
	my @nodes = sort keys %servers;
	my (%psql, $sequence);
	until (DatacakeLoad::stopping(rand($pause_ms) / 1000))
	{
		my $node = $nodes[ rand @nodes ];
		$psql{$node} //= _connect($servers{$node}) // next;
		my $op = _choose($client . '.' . ++$sequence, $put, $get);
		$op->{begin} = now();
		my $whole = _run($psql{$node}, $schema, $op);
		print $out join(' ', @$op{qw(kind outcome level)}, $node, @$op{qw(key begin)}, now(), @$op{qw(value stamp)}), "\n";
		_disconnect(delete $psql{$node}) unless $whole;
	}
	_disconnect($_) foreach values %psql;
	return;
}

sub _connect
{
	my ($connstr) = @_;
	my $psql = DatacakeLoad::connect_psql($connstr);
	my ($lines, $whole) = DatacakeLoad::ask($psql, 'SELECT 1');
	return $psql if $whole;
	_disconnect($psql);
	return undef;
}

sub _disconnect
{
	my ($psql) = @_;
	close $psql->{in};
	kill 'KILL', $psql->{pid};
	waitpid $psql->{pid}, 0;
	return;
}

sub _choose
{
	my ($tag, $put, $get) = @_;
	my $dice = $put eq '' ? 1 : rand;
	my $kind = $dice < 0.4 ? 'put' : $dice < 0.5 ? 'del' : 'get';
	return {
		kind    => $kind,
		level   => $kind eq 'get' ? $get : $put,
		key     => 'k' . (1 + int rand KEYS),
		value   => $kind eq 'put' ? $tag : '-',
		stamp   => 0,
		outcome => 'unknown',
	};
}

# False when the connection is lost.
sub _run
{
	my ($psql, $schema, $op) = @_;
	my ($key, $level) = @$op{qw(key level)};
	my %statement = (
		put => "SELECT 'did', $schema.put('$key', '$op->{value}', '$level')",
		del => "SELECT 'did', $schema.del('$key', '$level')",
		get => "SELECT 'did', coalesce(max(value), '-'), coalesce(max(_stamp::bigint), 0) FROM datacake.read_newest(NULL::$schema.entries, '{$key}'::text[], '$level')");
	my $last = $op->{kind} eq 'get' ? '' : q{; SELECT 'last', stamp::bigint, acked >= required FROM datacake.last_commit()};
	my ($lines, $whole) = DatacakeLoad::ask($psql, $statement{ $op->{kind} } . $last);
	my ($did) = DatacakeLoad::values_of($lines, 'did');
	if ($op->{kind} eq 'get')
	{
		($op->{outcome}, @$op{qw(value stamp)}) = ('acked', split /\|/, $did) if defined $did;
		return $whole;
	}
	my ($told) = DatacakeLoad::values_of($lines, 'last');
	$op->{outcome} = 'failed' if !defined $did && $whole;
	return $whole unless defined $did;
	if ($op->{kind} eq 'del' && $did eq 'f')
	{
		$op->{outcome} = 'failed'; # there was nothing to delete here
		return $whole;
	}
	return $whole unless defined $told;
	my ($stamp, $reached) = split /\|/, $told;
	$op->{stamp}   = $stamp;
	$op->{outcome} = 'acked' if $reached eq 't';
	return $whole;
}

1;
