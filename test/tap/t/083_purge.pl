# Deaths are forgotten when every member has them, by each node on its own, and
# not before; what was forgotten does not come back.
use strict;
use warnings;

use DatacakeCluster;
use Test::More;

my $c = DatacakeCluster->new(nodes => 3, conf => { 'datacake.gossip_interval' => 50 });

$c->sql(1, q{CREATE TABLE t (id int PRIMARY KEY, v text)});
$c->replicate('t');

my $dead = q{SELECT dead FROM datacake.keyspaces WHERE relation = 't'::regclass};

# purged_ok($name): no running node knows a death any more, in memory or on disk.
sub purged_ok
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$c->await_all($dead, 0, "$name: no tombstone in memory");
	$c->await_all('SELECT count(*) FROM datacake.tombstone', 0, "$name: none on disk");
	return;
}

# held_ok($by, $stamp, $count, @nodes): these nodes have everything up to that
# stamp, durably, and still know that many deaths; the view says because of whom.
sub held_ok
{
	my ($by, $stamp, $count, @nodes) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	foreach my $i (@nodes)
	{
		foreach my $other (@nodes)
		{
			$c->await($i, "SELECT min(watermark::bigint) >= $stamp FROM datacake.vector WHERE source = $other", 't',
				"node $i durably has what node $other wrote");
		}
		$c->await($i, "SELECT string_agg(node_id::text, ' ') FROM datacake.members WHERE holds_purge IS NOT NULL", $by, "node $i says that node $by holds purge back");
		is($c->sql($i, "SELECT tombstones FROM datacake.members WHERE node_id = $by"), $count, 'and how much');
		note $c->sql($i, "SELECT holds_purge FROM datacake.members WHERE node_id = $by");
		is($c->sql($i, $dead), $count, "node $i keeps its tombstones");
	}
	return;
}

subtest 'deaths that all have' => sub {
	$c->sql(1, q{INSERT INTO t SELECT g, 'x' FROM generate_series(1, 2000) g});
	$c->await_all(q{SELECT live, dead FROM datacake.keyspaces WHERE relation = 't'::regclass}, '2000|0', '2,000 rows');
	$c->sql(2, 'DELETE FROM t WHERE id <= 1000');
	my $stamp = $c->sql(3, 'SELECT datacake.clock()::bigint');
	purged_ok('1,000 deletes');
	is($c->sql($_, q{SELECT count(*) FROM t}), 1000, "node $_ has the others") foreach 1 .. 3;
	$c->await_all("SELECT datacake.horizon()::bigint >= $stamp", 't', 'the horizon has passed them, on each node');
	is($c->sql(1, 'SELECT count(*) FROM datacake.members WHERE holds_purge IS NOT NULL'), 0, 'nobody holds anything back');
};

subtest 'keys live again' => sub {
	$c->sql(3, q{INSERT INTO t SELECT g, 'again' FROM generate_series(1, 100) g});
	$c->sql(1, q{UPDATE t SET v = 'changed' WHERE id BETWEEN 1001 AND 1100});
	$c->verify_ok('after their deaths were forgotten');
	$c->await_all(q{SELECT count(*) FILTER (WHERE v = 'again'), count(*) FILTER (WHERE v = 'changed') FROM t}, '100|100', 'with what was written');
};

subtest 'a link that is slow' => sub {
	$c->freeze_link(2, 3);
	$c->sql(2, 'DELETE FROM t WHERE id <= 50');
	$c->await(1, 'SELECT count(*) FROM t WHERE id <= 50', 0, 'two of three nodes know of the deaths');
	is($c->sql(3, 'SELECT count(*) FROM t WHERE id <= 50'), 50, 'the third does not');
	my $stamp = $c->sql(2, q{UPDATE t SET v = 'marker' WHERE id = 1500; SELECT datacake.last_commit_stamp()::bigint});
	$c->await(1, "SELECT min(watermark::bigint) >= $stamp FROM datacake.vector WHERE source = 2", 't', 'node 1 has all of that on disk');
	is($c->sql($_, $dead), 50, "node $_ keeps its tombstones") foreach 1, 2;
	$c->thaw_link(2, 3);
	purged_ok('when it goes on');
	$c->verify_ok('the nodes are equal');
};

subtest 'a member that is down' => sub {
	$c->stop(3);
	$c->sql(1, 'DELETE FROM t WHERE id BETWEEN 51 AND 80');
	$c->sql(2, 'DELETE FROM t WHERE id BETWEEN 81 AND 100');
	my $stamp = $c->sql(1, q{SELECT datacake.clock()::bigint});
	held_ok(3, $stamp, 50, 1, 2);
	$c->restart(1, 'immediate');
	$c->wait_for_nodes;
	is($c->sql(1, $dead), 50, 'a restart changes nothing of that');
	$c->start_node(3);
	$c->wait_for_nodes;
	purged_ok('when it is back');
	$c->await_all('SELECT count(*) FROM t WHERE id BETWEEN 51 AND 100', 0, 'what died meanwhile is dead on it too');
	$c->verify_ok('the nodes are equal');
};

subtest 'restarts after a purge' => sub {
	my $horizon = $c->sql(2, 'SELECT datacake.horizon()::bigint');
	my $rows    = $c->sql(2, 'SELECT count(*) FROM t');
	$c->kill9($_) foreach 1 .. 3;
	$c->start_node($_) foreach 1 .. 3;
	$c->await(2, "SELECT datacake.horizon()::bigint >= $horizon", 't', 'the horizon is not forgotten');
	$c->wait_for_nodes;
	$c->verify_ok('the nodes are equal');
	is($c->sql($_, 'SELECT count(*) FROM t'), $rows, "nothing is back on node $_") foreach 1 .. 3;
	$c->sql(1, 'DELETE FROM t WHERE id BETWEEN 1101 AND 1200');
	purged_ok('new deletes');
};

subtest 'a change that waits and was overtaken' => sub {
	$c->sql(2, q{ALTER TABLE t ADD CONSTRAINT picky CHECK (v <> 'bad')});
	$c->sql(1, q{INSERT INTO t VALUES (5001, 'bad'), (5002, 'bad')});
	$c->await(2, 'SELECT count(*) FROM datacake.quarantine', 2, 'two rows wait on node 2');
	$c->sql(3, 'DELETE FROM t WHERE id = 5001') if $c->await(3, 'SELECT count(*) FROM t WHERE id > 5000', 2, 'node 3 has them');
	$c->await(1, 'SELECT count(*) FROM t WHERE id > 5000', 1, 'one of them dies');
	purged_ok('its death');
	$c->await(2, 'SELECT count(*) FROM datacake.quarantine', 1, 'waits for nothing any more');
	$c->kill9(2);
	$c->start_node(2);
	$c->wait_for_nodes;
	$c->sql(2, 'ALTER TABLE t DROP CONSTRAINT picky; SELECT datacake.retry()');
	$c->await(2, 'SELECT count(*) FROM t WHERE id = 5002', 1, 'the other is applied when it can be');
	is($c->sql(2, 'SELECT count(*) FROM t WHERE id = 5001'), 0, 'and the dead one does not come back');
	$c->verify_ok('the nodes are equal');
};

subtest 'a member that is gone for good' => sub {
	$c->error_ok(1, 'SELECT datacake.remove_node(3)', qr/alive|in use/, 'who is alive is not removed');
	$c->error_ok(1, 'SELECT datacake.remove_node(77)', qr/77/, 'nor who is no member');
	$c->stop(3);
	$c->sql(1, 'DELETE FROM t WHERE id BETWEEN 1201 AND 1300');
	$c->await_all($dead, 100, 'both others know of deaths that it does not');
	$c->await($_, 'SELECT state FROM datacake.nodes WHERE node_id = 3', 'dead', "node $_ does not hear it") foreach 1, 2;
	$c->sql(1, 'SELECT datacake.remove_node(3)');
	$c->await_all('SELECT state FROM datacake.members WHERE node_id = 3', 'removed', 'it is removed on all');
	purged_ok('then');
	$c->sql(2, 'DELETE FROM t WHERE id BETWEEN 1301 AND 1400');
	purged_ok('and later deletes');
	$c->verify_ok('the nodes are equal');
};

done_testing();
