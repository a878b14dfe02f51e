# Crashes of nodes and of workers: what was acknowledged is there, on all nodes,
# and nothing deleted comes back.
use strict;
use warnings;

use DatacakeCluster;
use Test::More;

# WAL that nobody asks to be flushed stays in memory for long
my $c = DatacakeCluster->new(nodes => 3,
	conf => { wal_writer_delay => '10s', wal_writer_flush_after => 0, max_prepared_transactions => 1 });

$c->sql(1, q{CREATE TABLE t (id int PRIMARY KEY, v text)});
$c->replicate('t');
my $next = 1;

# statements($n): $n inserts of new keys that say which, every tenth with an
# update of a row that all writers use.
sub statements
{
	my ($n) = @_;
	my @statements;
	foreach my $id ($next .. $next + $n - 1)
	{
		push @statements, "INSERT INTO t VALUES ($id, 'x') RETURNING id";
		push @statements, "UPDATE t SET v = '$id' WHERE id = -" . ($id % 5) if $id % 10 == 0;
	}
	$next += $n;
	return @statements;
}

# all_there($name, @writers): every key acknowledged to the writers is on all
# running nodes, and these are equal.
sub all_there
{
	my ($name, @writers) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @ids = map { $_->{acknowledged}->() } @writers;
	$c->verify_ok("$name: the nodes are equal");
	is($c->sql(1, 'SELECT count(*) FROM t WHERE id IN (' . join(',', @ids) . ')'), scalar @ids, "$name: nothing acknowledged is lost");
	return;
}

$c->sql(1, 'INSERT INTO t SELECT -g FROM generate_series(0, 200) g');

subtest 'a node is killed under load' => sub {
	my @writers = map { $c->start_writer($_, statements(2000)) } 1 .. 3;
	$c->wait_writer($_, 200) foreach @writers;
	$c->kill9(2);
	ok(!$c->finish_writer($writers[1]), 'its writer notices');
	cmp_ok($writers[1]->{acknowledged}->(), '<', 2000, 'in the middle of its work');
	ok($c->finish_writer($writers[$_]), 'the writer of node ' . ($_ + 1) . ' does not') foreach 0, 2;
	$c->restart(2);
	$c->wait_for_nodes;
	all_there('after its restart', @writers);
};

subtest 'writes that had reached nobody yet' => sub {
	$c->pause(3);
	my $writer = $c->start_writer(3, statements(200));
	ok($c->finish_writer($writer), '200 writes on a node that is alone');
	is($c->sql(1, 'SELECT count(*) FROM t WHERE id IN (' . join(',', $writer->{acknowledged}->()) . ')'), 0, 'the others have none of them');
	$c->kill9(3);
	$c->restart(3);
	$c->wait_for_nodes;
	all_there('after a crash', $writer);
};

subtest 'deletes, and an immediate shutdown' => sub {
	$c->sql(2, 'DELETE FROM t WHERE id BETWEEN -200 AND -101');
	$c->verify_ok('deletes are everywhere');
	my $before = $c->sql(2, 'SELECT live, dead FROM datacake.keyspaces');
	$c->stop(2, 'immediate');
	$c->sql(1, 'DELETE FROM t WHERE id BETWEEN -100 AND -51');
	$c->restart(2);
	$c->wait_for_nodes;
	$c->verify_ok('after the restart the nodes are equal');
	$c->await_equal('SELECT live, dead FROM datacake.keyspaces', 'and so are their counts of live and dead keys');
	isnt($c->sql(2, 'SELECT live, dead FROM datacake.keyspaces'), $before, 'with the deletes of meanwhile');

	# a late copy of an old row must meet the tombstone that was rebuilt
	$c->stop($_, 'immediate') foreach 1 .. 3;
	$c->start_node($_) foreach 1 .. 3;
	$c->wait_for_nodes;
	$c->sql($_, "UPDATE t SET v = 'node $_' WHERE id = -$_") foreach 1 .. 3;
	$c->verify_ok('all three at once');
	$c->await_all('SELECT count(*) FROM t WHERE id < -50', 0, 'nothing deleted comes back');
	$c->await_all('SELECT string_agg(v, \',\' ORDER BY id DESC) FROM t WHERE id BETWEEN -3 AND -1', 'node 1,node 2,node 3', 'new writes win over old rows');
};

subtest 'all nodes are killed at once under load' => sub {
	my @writers = map { $c->start_writer($_, statements(2000)) } 1 .. 3;
	$c->wait_writer($_, 100) foreach @writers;
	$c->kill9($_) foreach 1 .. 3;
	$c->finish_writer($_) foreach @writers;
	$c->start_node($_) foreach 1 .. 3;
	$c->wait_for_nodes;
	all_there('after their restart', @writers);
};

subtest 'a node with synchronous_commit off is killed' => sub {
	foreach my $round (1 .. 3)
	{
		my @writers = ($c->start_writer(1, 'SET synchronous_commit = off', statements(3000)), $c->start_writer(2, statements(3000)));
		$c->wait_writer($_, 300) foreach @writers;
		$c->kill9(1);
		$c->finish_writer($_) foreach @writers;
		$c->restart(1);
		$c->wait_for_nodes;
		all_there("round $round", $writers[1]);
		my @ids = $writers[0]{acknowledged}->();
		note 'of ' . @ids . ' commits not flushed by themselves ' . $c->sql(1, 'SELECT count(*) FROM t WHERE id IN (' . join(',', @ids) . ')') . ' are left';
	}
};

# SIGTERM is an exit with status 1, of which the postmaster makes nothing;
# SIGKILL restarts the whole server.
foreach my $worker (qw(launcher gossip replicator maintainer repairer))
{
	subtest "the $worker ends" => sub {
		my @writers = map { $c->start_writer($_, statements(1000)) } 1, 2;
		$c->wait_writer($_, 50) foreach @writers;
		$c->kill_worker(1, $worker, 'TERM');
		ok($c->finish_writer($_), 'no statement fails') foreach @writers;
		all_there('after SIGTERM', @writers);
		cmp_ok($c->sql(1, "SELECT restarts FROM datacake.workers WHERE name = '$worker'"), '>', 0, 'and the view counts the restart');

		@writers = map { $c->start_writer($_, statements(1000)) } 1, 2;
		$c->wait_writer($_, 50) foreach @writers;
		$c->kill_worker(1, $worker, 'KILL');
		$c->finish_writer($_) foreach @writers;
		$c->wait_for_nodes;
		all_there('after SIGKILL', @writers);
	};
}

# A lock that outlives the crash keeps the launcher from waking the node, so that
# clients are there first.
subtest 'clients are faster than the launcher' => sub {
	$c->sql(1, 'CREATE TABLE w (id text PRIMARY KEY, v text)');
	$c->replicate('w');
	$c->sql(1, q{BEGIN; LOCK TABLE datacake.local_state; PREPARE TRANSACTION 'held'});
	$c->kill9(1);
	$c->start_node(1);
	my @clients = map { $c->begin(1, $_) } q{INSERT INTO w VALUES ('early', 'x')}, 'INSERT INTO t VALUES (900001)';
	$c->await(1, q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'INSERT INTO%' AND state = 'active' AND wait_event_type IS NOT NULL}, 2, 'clients wait');
	$c->sql(1, q{COMMIT PREPARED 'held'});
	$_->query_safe('SELECT 1') foreach @clients;
	$_->quit foreach @clients;
	$c->wait_for_nodes;
	$c->await_all(q{SELECT (SELECT count(*) FROM w WHERE id = 'early'), (SELECT count(*) FROM t WHERE id = 900001)}, '1|1', 'their rows are everywhere');
	$c->await(1, q{SELECT live FROM datacake.keyspaces WHERE relation = 'w'::regclass}, 1, 'as entries of their own keyspaces');
	$c->verify_ok('the nodes are equal');
};

subtest 'the backend that applies ends' => sub {
	my @writers = map { $c->start_writer($_, statements(1000)) } 1, 2;
	$c->wait_writer($_, 50) foreach @writers;
	is($c->sql(3, q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'datacake node %'}), 2,
		'both sessions of peers on node 3');
	ok($c->finish_writer($_), 'no statement fails') foreach @writers;
	all_there('then', @writers);
};

done_testing();
