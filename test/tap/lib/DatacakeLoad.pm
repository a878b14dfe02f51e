# DatacakeLoad: clients that write at random while a test does harm to the nodes
# and their network, and a checker that afterwards knows what must be there.
#
#   my $load = DatacakeLoad->new($c, clients => 2);
#   $load->start;
#   ... kill, cut, stop, start ...
#   $load->stop;
#   $load->check_ok('nothing is lost, nothing comes back');
#
# Each client is a process with a psql of its own, bound to one node; when the
# node goes away it connects again until it is told to stop.  It writes a
# journal outside of the database: for each transaction what it wrote, under
# which stamps, and whether COMMIT was
#
#   acked     acknowledged: what it wrote must never be lost;
#   failed    refused, rolled back, or lost before COMMIT was sent: nothing of
#             it may ever be seen;
#   unknown   lost between sending COMMIT and its answer: either of both.
#
# Every value names the one statement that wrote it, so the checker knows the
# writer of each row that is left.  Tables:
#
#   load   keys 1 to `keys` are written by all clients on all nodes: inserted,
#          updated, deleted, moved, inserted again; greater keys belong to one
#          client, which inserts and at times deletes them
#   pair   rows 2n and 2n + 1 are always written together, by one client alone:
#          in the end both bear the same value, or neither is there.  (Pairs
#          with several writers may end mixed: the winner is found row by row,
#          and a catch-up is no transaction.)
#   marker written by time_to_convergence()
package DatacakeLoad;

use strict;
use warnings;

use Carp qw(croak);
use IO::Handle;
use IO::Select;
use IPC::Open2;
use Test::More;
use Time::HiRes qw(time usleep);

use constant {
	HLC_MAX         => 9223372036854775807,
	HLC_EPOCH       => 946684800, # 2000-01-01
	HLC_NODE_BITS   => 10,
	CLOCK_SLACK     => 1,         # s by which a node's clock may be ahead of ours
	GIVE_UP_SECONDS => 10,        # a statement's answer, once the load is to stop
	PAIRS           => 20,        # of one client
	OWN_KEYS        => 1_000_000, # client n: keys from n * OWN_KEYS on
	OWN_PAIRS       => 1_000,
};

# ---- running clients --------------------------------------------------------

# new($cluster, ...): makes the tables; no client runs yet.
#   clients   per node                                             (2)
#   keys      number of keys that all clients share                (300)
#   pause_ms  longest pause of a client between two transactions   (15)
sub new
{
	my ($class, $cluster, %args) = @_;
	my $self = bless {
		cluster  => $cluster,
		clients  => $args{clients} // 2,
		keys     => $args{keys} // 300,
		pause_ms => $args{pause_ms} // 15,
		running  => [],
		writes   => {},
		counts   => {},
		journals => {},
	}, $class;
	my ($first) = $cluster->running;
	$cluster->sql($first, q{CREATE TABLE load (id int PRIMARY KEY, v text NOT NULL);
		CREATE TABLE pair (id int PRIMARY KEY, v text NOT NULL);
		CREATE TABLE marker (id int PRIMARY KEY, n int NOT NULL)});
	$cluster->replicate($_, $first) foreach qw(load pair marker);
	$cluster->sql($first, "INSERT INTO load SELECT g, 'first ' || g FROM generate_series(1, $self->{keys}, 2) g");
	foreach my $line (split /\n/, $cluster->sql($first, 'SELECT id, v, _stamp::bigint FROM load'))
	{
		my ($id, $tag, $stamp) = split /\|/, $line;
		$self->_note("load $id", 'put', $tag, $stamp, $stamp, 'acked');
	}
	return $self;
}

# start(@nodes): clients of these nodes, by default of all that run.
sub start
{
	my ($self, @nodes) = @_;
	my $c = $self->{cluster};
	@nodes = $c->running unless @nodes;
	foreach my $node (@nodes)
	{
		foreach my $n (1 .. $self->{clients})
		{
			my $client  = $node * 10 + $n;
			my $journal = "$c->{dir}/load$client";
			my ($out, $in);
			my $pid = open2($out, $in, $^X, '-MDatacakeLoad', '-e', 'DatacakeLoad::client(@ARGV)',
				$c->node($node)->connstr($c->{database}), $journal, $client, $self->{keys}, $self->{pause_ms}, int rand 2**31);
			push @{ $self->{running} }, { node => $node, pid => $pid, in => $in, out => $out, journal => $journal };
			$self->{journals}{$journal} //= 0;
		}
	}
	return;
}

# stop(@nodes): the clients of these nodes, by default all, end after the
# transaction they are in; reads all journals.
sub stop
{
	my ($self, @nodes) = @_;
	my %these  = map { $_ => 1 } @nodes;
	my @ending = grep { !@nodes || $these{ $_->{node} } } @{ $self->{running} };
	my @failed;
	close $_->{in} foreach @ending;
	foreach my $client (@ending)
	{
		waitpid $client->{pid}, 0;
		push @failed, "$client->{journal}: status $?" if $?;
	}
	$self->{running} = [ grep { @nodes && !$these{ $_->{node} } } @{ $self->{running} } ];
	croak "clients failed: @failed" if @failed;
	$self->_read_journal($_) foreach sort keys %{ $self->{journals} };
	return;
}

# acknowledged: transactions that all clients had acknowledged so far.
sub acknowledged
{
	my ($self) = @_;
	my $count = 0;
	foreach my $journal (keys %{ $self->{journals} })
	{
		open my $file, '<', $journal or next;
		while (<$file>) { $count++ if /^acked\t/; }
	}
	return $count;
}

# await_progress($n): until $n more transactions are acknowledged.
sub await_progress
{
	my ($self, $n) = @_;
	my $want = $self->acknowledged + $n;
	$self->{cluster}->_poll(sub { return $self->acknowledged >= $want; }) or croak "the load does not go on";
	return;
}

# time_to_convergence($seconds): every running node writes once; seconds until
# all have all of that, and so all that was written before; undef if that takes
# longer than $seconds.  The load may go on.
sub time_to_convergence
{
	my ($self, $seconds) = @_;
	my $c     = $self->{cluster};
	my @nodes = $c->running;
	my $begin = time;
	my %stamps = map {
		$_ => $c->sql($_, "INSERT INTO marker VALUES ($_, 0) ON CONFLICT (id) DO UPDATE SET n = marker.n + 1;
			SELECT datacake.last_commit_stamp()")
	} @nodes;
	foreach my $from (@nodes)
	{
		foreach my $to (grep { $_ != $from } @nodes)
		{
			until (($c->try_sql($to, "SELECT datacake.await_stamp('$stamps{$from}', '5 s')"))[1] eq 't')
			{
				diag "node $to waits for node $from: ", ($c->try_sql($from, "SELECT * FROM datacake.peers WHERE node_id = $to"))[1];
				return undef if time > $begin + $seconds;
				usleep(50_000);
			}
		}
	}
	return time - $begin;
}

# spread(@seconds): least, middle and greatest of them
sub spread
{
	my @sorted = sort { $a <=> $b } @_ or return 'none';
	return sprintf 'min %.2f, median %.2f, max %.2f s (%d)', $sorted[0], $sorted[ $#sorted / 2 ], $sorted[-1], scalar @sorted;
}

# ---- checking ---------------------------------------------------------------

# check_ok($name): one test: the running nodes hold the same rows, and those are
# what the journals say.  To be called when the load has stopped.
sub check_ok
{
	my ($self, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1; # report the caller's line
	my $c = $self->{cluster};
	my ($first) = $c->running;
	subtest $name => sub {
		my $begin = time;
		$c->verify_ok('the nodes hold the same rows');
		diag sprintf '%s: equal %.2f s after the load', $name, time - $begin;
		my @complaints = $self->complaints($self->rows($first));
		is(scalar @complaints, 0, 'and these are what was acknowledged');
		diag join "\n", @complaints[ 0 .. ($#complaints < 20 ? $#complaints : 20) ] if @complaints;
		diag "$name: " . $self->summary;
	};
	return;
}

# summary: what the clients did, in one line.
sub summary
{
	my ($self) = @_;
	my %count = (acked => 0, unknown => 0, failed => 0, %{ $self->{counts} });
	my ($puts, $deletes) = (0, 0);
	foreach my $write (map { @$_ } values %{ $self->{writes} })
	{
		next if $write->{outcome} ne 'acked';
		$write->{kind} eq 'put' ? $puts++ : $deletes++;
	}
	return "$count{acked} transactions acknowledged ($puts rows written, $deletes deleted), $count{unknown} unknown, $count{failed} failed";
}

# rows($i): what node $i holds, key => { tag, stamp }.  With a query, it is run
# first, in the same transaction, which is rolled back.
sub rows
{
	my ($self, $i, $query) = @_;
	my $answer = $self->{cluster}->sql($i, 'BEGIN; ' . ($query // 'SELECT') . q{;
		SELECT 'row', 'load ' || id, v, _stamp::bigint FROM load UNION ALL SELECT 'row', 'pair ' || id, v, _stamp::bigint FROM pair;
		ROLLBACK});
	my %rows;
	foreach my $line (split /\n/, $answer)
	{
		my ($mark, $key, $tag, $stamp) = split /\|/, $line;
		$rows{$key} = { tag => $tag, stamp => $stamp } if ($mark // '') eq 'row';
	}
	return \%rows;
}

# complaints($rows): what is wrong with them, one line each; none if all is well.
sub complaints
{
	my ($self, $rows) = @_;
	my %keys = map { $_ => 1 } keys %$rows, keys %{ $self->{writes} };
	my @complaints;
	foreach my $key (sort keys %keys)
	{
		my $writes = $self->{writes}{$key} // [];
		my $complaint = $rows->{$key} ? _judge_row($rows->{$key}, $writes) : _judge_absence($writes);
		push @complaints, "$key: $complaint" if defined $complaint;
	}
	return (@complaints, _judge_pairs($rows));
}

# A row must have a writer, and no acknowledged write may be newer.
sub _judge_row
{
	my ($row, $writes) = @_;
	my ($writer) = grep { $_->{kind} eq 'put' && $_->{tag} eq $row->{tag} } @$writes;
	return "made up: no client wrote \"$row->{tag}\"" if !$writer;
	return "made up: the transaction that wrote \"$row->{tag}\" failed" if $writer->{outcome} eq 'failed';
	return "made up: \"$row->{tag}\" bears stamp $row->{stamp}, not one of $writer->{lo} to $writer->{hi}"
	  if $row->{stamp} < $writer->{lo} || $row->{stamp} > $writer->{hi};

	my ($newest) = sort { $b->{lo} <=> $a->{lo} } grep { $_->{outcome} eq 'acked' } @$writes;
	return undef if !$newest || $newest->{lo} <= $row->{stamp};
	return $newest->{kind} eq 'put'
	  ? "lost: has \"$row->{tag}\" of $row->{stamp}, acknowledged was \"$newest->{tag}\" of $newest->{lo}"
	  : "resurrected: has \"$row->{tag}\" of $row->{stamp}, acknowledged was a delete of $newest->{lo}";
}

# A key without row needs a delete that may be newer than all acknowledged puts.
sub _judge_absence
{
	my ($writes) = @_;
	my ($newest) = sort { $b->{lo} <=> $a->{lo} } grep { $_->{outcome} eq 'acked' && $_->{kind} eq 'put' } @$writes;
	return undef if !$newest || grep { $_->{kind} eq 'delete' && $_->{outcome} ne 'failed' && $_->{hi} > $newest->{lo} } @$writes;
	return "lost: has no row, acknowledged was \"$newest->{tag}\" of $newest->{lo}";
}

sub _judge_pairs
{
	my ($rows) = @_;
	my %pairs;
	foreach my $key (grep { /^pair / } keys %$rows)
	{
		my ($id) = $key =~ /([0-9]+)/;
		$pairs{ $id - $id % 2 }{ $id % 2 } = $rows->{$key}{tag};
	}
	return map {
		my ($one, $two) = ($pairs{$_}{0} // '(none)', $pairs{$_}{1} // '(none)');
		$one eq $two ? () : "torn: rows $_ and " . ($_ + 1) . " of a pair have \"$one\" and \"$two\"";
	} sort { $a <=> $b } keys %pairs;
}

sub _note
{
	my ($self, $key, $kind, $tag, $lo, $hi, $outcome) = @_;
	push @{ $self->{writes}{$key} }, { kind => $kind, tag => $tag, lo => $lo, hi => $hi, outcome => $outcome };
	return;
}

# A journal's line: outcome, then "key|kind|tag|lo|hi" for each write, with tabs.
sub _read_journal
{
	my ($self, $journal) = @_;
	open my $file, '<', $journal or return;
	seek $file, $self->{journals}{$journal}, 0;
	while (my $line = <$file>)
	{
		last unless chomp $line; # its client is still writing it
		$self->{journals}{$journal} = tell $file;
		my ($outcome, @writes) = split /\t/, $line;
		$self->{counts}{$outcome}++;
		$self->_note(split(/\|/, $_), $outcome) foreach @writes;
	}
	return;
}

# ---- a client ---------------------------------------------------------------

# What follows runs in a process of its own.  It ends when its standard input
# does, that is, when the test says so or is no more.
my $stop_at;

# stopping($seconds): waits so long for the word to stop.
sub stopping
{
	my ($seconds) = @_;
	return 1 if defined $stop_at;
	return 0 unless IO::Select->new(\*STDIN)->can_read($seconds);
	$stop_at = time;
	return 1;
}

sub client
{
	my ($connstr, $journal, $client, $keys, $pause_ms, $seed) = @_;
	srand $seed;
	$SIG{PIPE} = 'IGNORE';
	open my $out, '>>', $journal or die "$journal: $!";
	open STDERR, '>>', "$journal.err" or die "$journal.err: $!";
	$out->autoflush(1);
	my %state = (client => $client, keys => $keys, out => $out, floor => 0, sequence => 0, own => []);
	until (stopping(0.05))
	{
		my $psql = connect_psql($connstr);
		my ($lines, $whole) = ask($psql, 'SELECT 1');
		while ($whole && !stopping(rand($pause_ms) / 1000))
		{
			$whole = rand() < 0.4 ? run_statement(\%state, $psql) : run_transaction(\%state, $psql);
		}
		close $psql->{in};
		kill 'KILL', $psql->{pid} unless $whole; # it may hang on a node that does not answer
		waitpid $psql->{pid}, 0;
	}
	return;
}

sub connect_psql
{
	my ($connstr) = @_;
	my %psql = (buffer => '', sent => 0);
	$psql{pid} = open2($psql{out}, $psql{in}, 'psql', '-XAt', '-d', $connstr);
	$psql{in}->autoflush(1);
	return \%psql;
}

# ask($psql, $sql): the lines it printed, and whether all of it was carried out
# (with or without errors) before the connection was lost.
sub ask
{
	my ($psql, $sql) = @_;
	my $end = '=end ' . ++$psql->{sent};
	my $select = IO::Select->new($psql->{out});
	print { $psql->{in} } "$sql;\n\\echo $end\n";
	while (1)
	{
		my $at = index "\n$psql->{buffer}", "\n$end\n";
		if ($at >= 0)
		{
			my $answer = substr $psql->{buffer}, 0, $at + length($end) + 1, '';
			return ([ split /\n/, substr $answer, 0, $at ], 1);
		}
		last if stopping(0) && time > $stop_at + GIVE_UP_SECONDS;
		next unless $select->can_read(0.5);
		last unless sysread $psql->{out}, $psql->{buffer}, 65536, length $psql->{buffer};
	}
	return ([ split /\n/, $psql->{buffer} ], 0);
}

# The stamp a node could have drawn just now, at most.
sub hlc_now { return (int((time - HLC_EPOCH + CLOCK_SLACK) * 1_000_000) << HLC_NODE_BITS) | 1023; }

sub max { my ($x, $y) = @_; return $x > $y ? $x : $y; }

# journal($state, $outcome, $writes): $writes is key => { kind, tag, lo, hi }
sub journal
{
	my ($state, $outcome, $writes) = @_;
	return unless %$writes;
	print { $state->{out} } join("\t", $outcome,
		map { my $w = $writes->{$_}; join '|', $_, $w->{kind}, $w->{tag}, $w->{lo}, $w->{hi} } sort keys %$writes), "\n";
	foreach my $write (values %$writes)
	{
		$state->{floor} = max($state->{floor}, $write->{lo}) if $outcome eq 'acked';
	}
	return;
}

# ---- what it writes ---------------------------------------------------------

# A statement that writes returns 'put', key, value or 'delete', key for each row
# written, or 'move' with both keys.
sub tag { my ($state) = @_; return "$state->{client}." . $$ . '.' . ++$state->{sequence}; }

# Half of the shared writes go to a tenth of the keys.
sub shared_key
{
	my ($state) = @_;
	return 1 + int rand(rand() < 0.5 ? $state->{keys} / 10 : $state->{keys});
}

sub put    { my ($table) = @_; return "RETURNING 'put', '$table ' || id, v"; }
sub delete_row { my ($table, $where) = @_; return "DELETE FROM $table WHERE $where RETURNING 'delete', '$table ' || id, ''"; }

# one_write($state): (statement, key, kind, tag) of one row of the shared keys,
# or of the client's own.
sub one_write
{
	my ($state) = @_;
	my ($k, $tag, $dice) = (shared_key($state), tag($state), rand);
	my $returning = put('load');
	return ("UPDATE load SET v = '$tag' WHERE id = $k $returning", $k, 'put', $tag) if $dice < 0.35;
	return ("INSERT INTO load VALUES ($k, '$tag') ON CONFLICT (id) DO UPDATE SET v = excluded.v $returning", $k, 'put', $tag) if $dice < 0.50;
	return ("INSERT INTO load VALUES ($k, '$tag') ON CONFLICT DO NOTHING $returning", $k, 'put', $tag) if $dice < 0.60;
	return (delete_row('load', "id = $k"), $k, 'delete', '') if $dice < 0.80;

	my $own = $state->{own};
	if ($dice < 0.92 || !@$own)
	{
		$k = OWN_KEYS * $state->{client} + ($$ % 1000) * 1000 + $state->{sequence} % 1000;
		push @$own, $k;
		return ("INSERT INTO load VALUES ($k, '$tag') ON CONFLICT (id) DO UPDATE SET v = excluded.v $returning", $k, 'put', $tag);
	}
	$k = $own->[ rand @$own ];
	return (delete_row('load', "id = $k"), $k, 'delete', '');
}

sub pair_write
{
	my ($state) = @_;
	my $one = OWN_PAIRS * $state->{client} + 2 * int rand PAIRS;
	my $two = $one + 1;
	my $tag = tag($state);
	return delete_row('pair', "id IN ($one, $two)") if rand() < 0.25;
	return "INSERT INTO pair VALUES ($one, '$tag'), ($two, '$tag') ON CONFLICT (id) DO UPDATE SET v = excluded.v " . put('pair');
}

# One to five statements; some rolled back to a savepoint, whose values nobody
# must ever see.
sub statements
{
	my ($state) = @_;
	my @statements;
	foreach (1 .. 1 + int rand 5)
	{
		my ($k, $tag, $dice) = (shared_key($state), tag($state), rand);
		if ($dice < 0.5) { push @statements, (one_write($state))[0]; }
		elsif ($dice < 0.7) { push @statements, pair_write($state); }
		elsif ($dice < 0.8)
		{
			push @statements, "UPDATE load SET v = '$tag' WHERE id BETWEEN $k AND $k + 4 " . put('load');
		}
		elsif ($dice < 0.9)
		{
			my $to = shared_key($state);
			push @statements, "UPDATE load SET id = $to, v = '$tag' WHERE id = $k AND NOT EXISTS (SELECT FROM load WHERE id = $to)"
			  . " RETURNING 'move', 'load $k', 'load ' || id, v";
		}
		else
		{
			push @statements, 'SAVEPOINT s', "UPDATE load SET v = '$tag' WHERE id = $k",
			  "INSERT INTO load VALUES ($k, '$tag') ON CONFLICT DO NOTHING", 'ROLLBACK TO s';
		}
	}
	return @statements;
}

# effects($lines, $lo, $hi): what the statements wrote; of several writes of one
# key the last counts.
sub effects
{
	my ($lines, $lo, $hi) = @_;
	my %writes;
	foreach my $line (@$lines)
	{
		my ($kind, $key, @rest) = split /\|/, $line;
		if ($kind eq 'put') { $writes{$key} = { kind => 'put', tag => $rest[0], lo => $lo, hi => $hi }; }
		elsif ($kind eq 'delete') { $writes{$key} = { kind => 'delete', tag => '', lo => $lo, hi => $hi }; }
		elsif ($kind eq 'move')
		{
			$writes{$key} = { kind => 'delete', tag => '', lo => $lo, hi => $hi };
			$writes{ $rest[0] } = { kind => 'put', tag => $rest[1], lo => $lo, hi => $hi };
		}
		elsif ($kind eq 'stamp' && $writes{$key})
		{
			@{ $writes{$key} }{qw(lo hi)} = ($rest[0], $rest[0]);
		}
	}
	return \%writes;
}

# values_of($lines, $mark): second fields of the lines that begin with it
sub values_of { my ($lines, $mark) = @_; return map { /^\Q$mark\E\|(.+)/ ? $1 : () } @$lines; }

# run_statement: one statement that is a transaction by itself; it is sent, and
# what comes back tells.  False when the connection is lost.
sub run_statement
{
	my ($state, $psql) = @_;
	my ($statement, $key, $kind, $tag) = one_write($state);
	my ($lines, $whole) = ask($psql, "$statement;\nSELECT 'last', datacake.last_commit_stamp()::bigint");
	my ($last) = values_of($lines, 'last');
	my $writes = effects($lines, $last // $state->{floor}, $last // hlc_now());
	if (%$writes) { journal($state, 'acked', $writes); }
	elsif (!$whole && !defined $last)
	{
		journal($state, 'unknown', { "load $key" => { kind => $kind, tag => $tag, lo => $state->{floor}, hi => hlc_now() } });
	}
	return $whole;
}

# run_transaction: its stamps are read before COMMIT is sent, so that they are
# known also if the answer to that does not come.
sub run_transaction
{
	my ($state, $psql) = @_;
	my ($lines, $whole) = ask($psql, join ";\n",
		'BEGIN', q{SELECT 'clock', datacake.clock()::bigint}, statements($state), q{SELECT 'clock', datacake.clock()::bigint});
	my ($lo, $hi) = values_of($lines, 'clock');
	my $writes = effects($lines, $lo // $state->{floor}, $hi // HLC_MAX);
	my @puts = grep { $writes->{$_}{kind} eq 'put' } keys %$writes;
	if ($whole && @puts)
	{
		my %ids = (load => [-1], pair => [-1]);
		foreach my $key (@puts) { my ($table, $id) = split / /, $key; push @{ $ids{$table} }, $id; }
		(my $stamps, $whole) = ask($psql, join ' UNION ALL ',
			map { "SELECT 'stamp', '$_ ' || id, _stamp::bigint FROM $_ WHERE id IN (" . join(', ', @{ $ids{$_} }) . ')' } sort keys %ids);
		$writes = effects([ @$lines, @$stamps ], $lo // $state->{floor}, $hi // HLC_MAX);
	}
	my $rollback = rand() < 0.1;
	if (!$whole || $rollback)
	{
		journal($state, 'failed', $writes);
		return 0 unless $whole;
		return (ask($psql, 'ROLLBACK'))[1];
	}
	stopping(0.02 * rand) if rand() < 0.2;
	($lines, $whole) = ask($psql, 'COMMIT');
	journal($state, (grep { $_ eq 'COMMIT' } @$lines) ? 'acked' : $whole ? 'failed' : 'unknown', $writes);
	return $whole;
}

1;
