# A cluster in which nothing happened for half a minute: its workers look every
# ten seconds, and whatever happens ends that at once.
use strict;
use warnings;

use DatacakeCluster;
use Test::More;
use Time::HiRes qw(sleep time);

my $c = DatacakeCluster->new(nodes => 2);
my $saved = 'SELECT max(watermark) FROM datacake.vector';

$c->sql(1, 'CREATE TABLE t (id int PRIMARY KEY, v text)');
$c->replicate('t');
$c->sql(1, q{INSERT INTO t SELECT g, 'v' FROM generate_series(1, 100) g});

# Until the durable vector, which else moves every second, has rested for five.
sub await_quiet
{
	my ($i) = @_;
	my ($value, $since, $until) = ('', time, time + 120);

	while (time < $until)
	{
		my $now = $c->sql($i, $saved);

		($value, $since) = ($now, time) if $now ne $value;
		return 1 if time - $since > 5;
		sleep 0.2;
	}
	return 0;
}

subtest 'a write ends it' => sub {
	my $session = $c->begin(1, q{BEGIN; INSERT INTO t VALUES (1001, 'of a transaction that is open all the time')});
	ok(await_quiet($_), "node $_ is quiet") foreach 1, 2;
	foreach my $worker (qw(gossip replicator))
	{
		my $begin = time;
		$c->kill_worker(1, $worker, 'TERM') foreach 1, 2;
		cmp_ok(time - $begin, '<', 7, "the $worker is back soon, though it ended twice");
	}
	is($c->sql(1, q{SELECT differing FROM datacake.repair('t', 2)}), 0, 'a comparison is made meanwhile');
	my $mine = $c->sql(1, $saved);
	$c->await(1, "SELECT ($saved) > '$mine'::datacake.hlc", 't', 'its vector still moves');
	$mine = $c->sql(1, $saved);
	my $begin = time;
	$session->query_safe('COMMIT');
	$session->quit;
	$c->await(1, "SELECT ($saved) > '$mine'::datacake.hlc", 't', 'a commit ends it, also where the stamp was drawn before');
	cmp_ok(time - $begin, '<', 7, 'at once');
	$c->await(2, 'SELECT count(*) FROM t', 101, 'it is there');
	my $stamp = $c->sql(1, 'DELETE FROM t WHERE id = 1; SELECT datacake.last_commit_stamp()::bigint');
	$c->await(2, 'SELECT count(*) FROM t', 100, 'a row dies at the peer');
	$c->await(2, "SELECT ($saved)::bigint > $stamp", 't', 'which says that it knows');
	cmp_ok(time - $begin, '<', 7, 'and waits for no turn of its own');
	$c->await_all('SELECT count(*) FROM datacake.tombstone', 0, 'the death is forgotten');
};

subtest 'a node joins' => sub {
	ok(await_quiet($_), "node $_ is quiet again") foreach 1, 2;
	my $begin = time;
	$c->add_node(3);
	$c->wait_for_nodes;
	$c->await(3, 'SELECT count(*) FROM t', 100, 'it gets the rows');
	$c->await(3, 'SELECT joining FROM datacake.local_state', 'f', 'it has joined');
	note sprintf 'after %.1f s', time - $begin;
	$c->sql(3, q{INSERT INTO t VALUES (1000, 'new')});
	$c->await_all('SELECT count(*) FROM t', 101, 'what it writes is everywhere');
};

$c->stop_all;
done_testing;
