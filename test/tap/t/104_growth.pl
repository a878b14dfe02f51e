# Nothing grows with the number of commits: neither connections nor files nor the
# memory of any process, nor what is in use of the shared memory.
#
# COMMITS: how many, at quorum, through two of three nodes (6000; make soak:
# 100,000).
use strict;
use warnings;

use DatacakeCluster;
use File::Find;
use Test::More;
use Time::HiRes qw(time);

my $commits = $ENV{COMMITS} // 6000;
my $clients = 3; # of each node

# In the second half of the run; of 100,000 commits that is 20 bytes for each.
use constant GROWTH_BYTES_MAX => 1024 * 1024;

my $c = DatacakeCluster->new(nodes => 3, conf => { 'datacake.consistency_timeout' => '60s', 'autovacuum_naptime' => '5s' });
$c->sql(1, 'CREATE TABLE t (id int PRIMARY KEY, v text)');
$c->replicate('t');
$c->sql(1, q{INSERT INTO t SELECT g, 'first' FROM generate_series(1, 1000) g});
$c->verify_ok('the rows to begin with');

# What a process has of its own, and how many files it has open.
sub process
{
	my ($pid) = @_;
	open my $status, '<', "/proc/$pid/status" or return;
	my ($kilobytes) = map { /^RssAnon:\s+(\d+)/ ? $1 : () } <$status>;
	opendir my $files, "/proc/$pid/fd" or return;
	return { memory => 1024 * $kilobytes, files => scalar(grep { !/^\./ } readdir $files) };
}

# Sorts of processes that stay: workers, sessions of peers, the clients.
sub sample
{
	my ($i) = @_;
	my %sample = (captured => $c->sql($i, q{SELECT sum(captured) FROM datacake.keyspaces}));
	foreach my $line (split /\n/, $c->sql($i, q{SELECT pid, 'worker ' || name FROM datacake.workers WHERE pid > 0 UNION ALL
		SELECT pid, application_name || ' ' || pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()}))
	{
		my ($pid, $name) = split /\|/, $line;
		my $process = process($pid) // next;
		$sample{processes}{$name} = $process;
	}
	@sample{qw(connections entries shared queued)} = split /\|/, $c->sql($i, q{
		SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND application_name LIKE 'datacake%'),
		       (SELECT sum(entries) FROM datacake.keyspaces),
		       (SELECT sum(allocated_size) FROM pg_shmem_allocations WHERE name LIKE 'datacake%'),
		       (SELECT coalesce(sum(queued), 0) FROM datacake.peers)});
	find({ no_chdir => 1, wanted => sub { $sample{files}++ unless m{/(pg_wal|pg_xact|pg_subtrans|pg_commit_ts)/}; } }, $c->node($i)->data_dir);
	return \%sample;
}

# growth($before, $after): what grew, one line each.
sub growth
{
	my ($before, $after) = @_;
	my @grown;
	foreach my $name (sort keys %{ $after->{processes} })
	{
		my ($was, $is) = map { $_->{processes}{$name} } $before, $after;
		next unless $was;
		push @grown, "$name: memory from $was->{memory} to $is->{memory}" if $is->{memory} > $was->{memory} + GROWTH_BYTES_MAX;
		push @grown, "$name: open files from $was->{files} to $is->{files}" if $is->{files} > $was->{files} + 10;
	}
	my %room = (connections => 3, entries => 2000, shared => 0, queued => 10_000, files => 50);
	foreach my $what (sort keys %room)
	{
		push @grown, "$what: from $before->{$what} to $after->{$what}" if $after->{$what} > $before->{$what} + $room{$what};
	}
	return @grown;
}

sub show
{
	my ($i, $sample) = @_;
	my $p = $sample->{processes};
	diag "node $i after $sample->{captured} commits: ",
	  join(', ', map { "$_ $sample->{$_}" } qw(connections entries shared queued files)), '; memory in kB: ',
	  join(', ', map { "$_ " . $p->{$_}{memory} / 1024 } grep { !/ \d+$/ } sort keys %$p), '; sessions ',
	  join(', ', map { $p->{$_}{memory} / 1024 } grep { / \d+$/ } sort keys %$p);
	return;
}

# A client writes keys of its own: update, delete, insert; each is a commit.
sub script
{
	my ($client, $n) = @_;
	my $name = "$c->{dir}/commits$client.sql";
	open my $file, '>', $name or die "$name: $!";
	foreach (1 .. $n / 3)
	{
		my $id = $client * 100 + 1 + int rand 100;
		print $file "UPDATE t SET v = 'update $_' WHERE id = $id;\n", "DELETE FROM t WHERE id = $id;\n", "INSERT INTO t VALUES ($id, 'insert');\n";
	}
	close $file;
	return $name;
}

subtest "$commits commits at quorum" => sub {
	my @sessions = map { $c->session($_, timeout => 3600) } (1, 2) x $clients;
	$_->query_safe(q{SET datacake.consistency = 'quorum'}) foreach @sessions;
	my $half = sub {
		my $begin = time;
		$sessions[$_]->query_until(qr/^sent$/m, "\\echo sent\n\\i " . script($_, $commits / 2 / @sessions) . "\n") foreach 0 .. $#sessions;
		is(join('', map { $_->query('SELECT 1'); $_->{stderr} } @sessions), '', 'the clients saw no complaint');
		diag sprintf '%d commits at quorum in %.0f s', $commits / 2, time - $begin;
		$c->await($_, 'SELECT coalesce(sum(queued), 0) < 10000 FROM datacake.peers', 't', "node $_ has sent it") foreach 1 .. 3;
		my %sample = map { $_ => sample($_) } 1 .. 3;
		show($_, $sample{$_}) foreach 1 .. 3;
		return \%sample;
	};
	my ($before, $after) = ($half->(), $half->());
	foreach my $i (1 .. 3)
	{
		my @both = grep { $before->{$i}{processes}{$_} } keys %{ $after->{$i}{processes} };
		cmp_ok(scalar(@both), '>=', $i < 3 ? 8 + $clients : 8, "node $i: workers, peers and clients are the same processes");
		is(join("\n", growth($before->{$i}, $after->{$i})), '', "node $i: nothing has grown");
	}
	$_->quit foreach @sessions;
	$c->verify_ok('all nodes are alike');
};

# Nor does the peers' work, commit by commit, when nobody waits for it.
subtest 'commits that nobody waits for share flushes at the peers' => sub {
	my $flushes = 'SELECT wal_write FROM pg_stat_wal';
	$c->restart(3); # its processes have told what they counted
	$c->wait_for_nodes;
	my $before = $c->sql(3, $flushes);
	my $session = $c->session(1);
	my $begin   = time;
	foreach my $level ('none', 'all')
	{
		$session->query_safe("SET datacake.consistency = '$level'; DO \$\$ BEGIN FOR i IN 1 .. 600 LOOP UPDATE t SET v = '$level ' || i WHERE id = 1; COMMIT; END LOOP; END \$\$");
		$c->await(3, 'SELECT v FROM t WHERE id = 1', "$level 600", "600 commits at $level arrive");
	}
	$session->quit;
	# what a process counts it tells later, but in order
	$c->await(3, "SELECT wal_write >= $before + 600 FROM pg_stat_wal", 't', 'at all each commit waits for a flush of its own');
	my $flushed = $c->sql(3, $flushes) - $before;
	diag "flushes of node 3 for 600 commits at none and 600 at all: $flushed";
	# bounds of clocks and watermarks are flushed as well, by time
	cmp_ok($flushed, '<', 1100 + 30 * (time - $begin), 'at none many share one');
};

subtest 'what grows is seen' => sub {
	my $session = $c->session(1);
	$session->query_safe('SELECT 1');
	my $before = sample(1);
	$session->query_safe(q{SELECT length(set_config('grows.x', repeat('x', 3000000), false))});
	my @others = map { $c->session(1) } 1 .. 4;
	$_->query_safe(q{SET application_name = 'datacake as if'}) foreach @others;
	open my $file, '>', $c->node(1)->data_dir . "/base/$_" or die $! foreach 'x1' .. 'x60';
	$c->sql(1, q{INSERT INTO t SELECT g, '' FROM generate_series(100001, 103000) g});
	my $grown = join "\n", growth($before, sample(1));
	like($grown, qr/: memory from \d+ to \d+$/m, 'memory');
	like($grown, qr/^connections: from/m, 'connections');
	like($grown, qr/^entries: from/m, 'entries');
	like($grown, qr/^files: from/m, 'files');
	$_->quit foreach $session, @others;
};

done_testing();
