# What was measured to go wrong in the Datacake library, on the extension: lost
# keys of concurrent writers, batches torn for third nodes, joiners that never
# get complete, one stopped peer that blocks all, restarted nodes not seen.
use strict;
use warnings;

use DatacakeCluster;
use Test::More;
use Time::HiRes qw(time);

my $c = DatacakeCluster->new(nodes => 2);

$c->sql(1, q{CREATE TABLE t (id int PRIMARY KEY, v text); SELECT datacake.create_keyspace('kv', 'text', 'text')});
$c->replicate('t');

subtest '40,000 keys of concurrent writers reach a late third node' => sub {
	my @writers;
	foreach my $w (0 .. 3)
	{
		push @writers, $c->start_writer(1,
			map { my $first = 10000 * $w + 20 * $_; "INSERT INTO t SELECT $first + g, 'writer $w' FROM generate_series(1, 20) g" } 0 .. 499);
	}
	my @failed = grep { !$c->finish_writer($_) } @writers;
	is(scalar @failed, 0, 'four writers, 500 transactions of 20 keys each');
	is($c->sql(1, 'SELECT live FROM datacake.keyspaces WHERE relation = \'t\'::regclass'), 40000, 'the metadata has every key');
	$c->add_node(3);
	$c->wait_for_nodes(3);
	$c->verify_ok('the late node is equal');
	is($c->sql(3, 'SELECT count(*) FROM t'), 40000, 'and has every key');
	is($c->sql(3, 'SELECT live FROM datacake.keyspaces WHERE relation = \'t\'::regclass'), 40000, 'in its metadata as well');
};

subtest 'a batch of puts and deletes that comes second-hand' => sub {
	$c->sql(1, q{SELECT kv.put_many(array_agg('old' || g), array_agg(text 'x')) FROM generate_series(1, 20) g});
	$c->await_all('SELECT count(*) FROM kv.entries', 20, '20 keys on all nodes');

	# node 1 speaks to node 2 only; node 2 is cut off from node 3 until node 1 is gone
	$c->pause(1, 3);
	$c->pause(2, 3);
	$c->sql(1, q{BEGIN; SELECT kv.put_many(array_agg('new' || g), array_agg(text 'y')) FROM generate_series(1, 20) g;
		SELECT kv.del_many(array_agg('old' || g)) FROM generate_series(1, 10) g; SELECT kv.put('old11', 'changed'); COMMIT});
	$c->await(2, 'SELECT count(*) FROM kv.entries', 30, 'node 2 has it');
	$c->stop(1);
	is($c->sql(3, 'SELECT count(*) FROM kv.entries'), 20, 'node 3 has nothing of it, and its source is down');
	$c->resume(2, 3);
	$c->await(3, q{SELECT count(*) FILTER (WHERE key LIKE 'new%'), count(*) FILTER (WHERE key LIKE 'old%'), max(value) FILTER (WHERE key = 'old11')
		FROM kv.entries}, '20|10|changed', 'node 2 passes on all of it: puts, deletes, changes');
	$c->verify_ok('the two that live are equal');

	# the same while the source lives, but does not speak to node 3
	$c->start_node(1);
	$c->wait_for_nodes;
	$c->pause(1, 3);
	$c->sql(1, q{BEGIN; SELECT kv.put_many(array_agg('third' || g), array_agg(text 'z')) FROM generate_series(1, 20) g;
		SELECT kv.del_many(array_agg('new' || g)) FROM generate_series(1, 20) g; COMMIT});
	$c->await(3, q{SELECT count(*) FILTER (WHERE key LIKE 'new%'), count(*) FILTER (WHERE key LIKE 'third%') FROM kv.entries}, '0|20',
		'what a node cannot get from its source it gets from others');
	$c->resume(1, 3);
	$c->verify_ok('all three are equal');
};

subtest 'a peer stopped by SIGSTOP delays nobody else' => sub {
	$c->freeze(3);
	my $writer = $c->start_writer(1, map { "INSERT INTO t VALUES (50000 + $_, 'stopped') RETURNING id" } 1 .. 500);
	foreach my $round (1 .. 20)
	{
		$c->sql(1, "INSERT INTO t VALUES (60000 + $round, 'to 2')");
		$c->sql(2, "INSERT INTO t VALUES (70000 + $round, 'to 1')");
	}
	$c->await($_, 'SELECT count(*) FROM t WHERE id > 60000', 40, "writes of both others arrive, node $_") foreach 1, 2;
	ok($c->finish_writer($writer), 'nobody fails');
	$c->await($_, q{SELECT state IN ('suspect', 'dead') FROM datacake.nodes WHERE node_id = 3}, 't', "node $_ suspects the stopped one") foreach 1, 2;
	$c->await($_, q{SELECT state FROM datacake.nodes WHERE node_id = 3}, 'dead', "then node $_ calls it dead") foreach 1, 2;
	is($c->sql($_, q{SELECT string_agg(state, ',') FROM datacake.nodes WHERE node_id <> 3}), 'alive,alive', "and nobody else, node $_") foreach 1, 2;
	is($c->sql(1, q{SELECT datacake.verify('20 s')}), 't', 'the nodes that live are equal without it');
	$c->thaw(3);
	$c->await($_, q{SELECT state FROM datacake.nodes WHERE node_id = 3}, 'alive', "when it goes on, node $_ sees it alive") foreach 1, 2;
	$c->wait_for_nodes;
	$c->verify_ok('and it catches up');
};

subtest 'a restarted node is seen again within seconds' => sub {
	$c->await(1, q{SELECT state FROM datacake.nodes WHERE node_id = 2}, 'alive', 'it has been up for a while');
	$c->restart(2);
	my $up = time;
	$c->await($_, q{SELECT state, (SELECT count(*) FROM datacake.peers p WHERE p.node_id = 2 AND p.state = 'streaming' AND p.incoming > 0)
		FROM datacake.nodes WHERE node_id = 2}, 'alive|1', "node $_ sees it and streams both ways") foreach 1, 3;
	cmp_ok(time - $up, '<', 45, 'within seconds');
	$c->kill9(2);
	$c->start_node(2);
	$c->wait_for_nodes;
	$c->sql(2, q{INSERT INTO t VALUES (80000, 'back')});
	$c->await_all('SELECT v FROM t WHERE id = 80000', 'back', 'after a crash, too');
};

subtest '200,000 entries reach a joiner under traffic' => sub {
	$c->sql(1, q{INSERT INTO t SELECT g, 'bulk' FROM generate_series(100001, 260000) g});
	$c->verify_ok('200,000 rows on three nodes', 120);
	my @writers = map {
		my $w = $_;
		$c->start_writer($w,
			map { ("INSERT INTO t VALUES (1000000 * $w + $_, 'joining') RETURNING id", "UPDATE t SET v = 'joining' WHERE id = 100000 + $_",
				"DELETE FROM t WHERE id = 110000 + 2 * $_ + $w % 2") } 1 .. 1500)
	} 1, 2;
	$c->wait_writer($_, 100) foreach @writers;
	$c->add_node(4);
	my @failed = grep { !$c->finish_writer($_) } @writers;
	is(scalar @failed, 0, 'the traffic goes on');
	$c->wait_for_nodes(4);
	$c->verify_ok('the joiner is equal', 120);
	is($c->sql(4, q{SELECT count(*), count(*) FILTER (WHERE id > 1000000) FROM t}), $c->sql(1, q{SELECT count(*), 3000 FROM t}), 'and has all');
	$c->await_equal(q{SELECT live, dead FROM datacake.keyspaces WHERE relation = 't'::regclass}, 'also the deaths');
	$c->sql(4, q{INSERT INTO t VALUES (5000000, 'from the joiner')});
	$c->await_all('SELECT v FROM t WHERE id = 5000000', 'from the joiner', 'and writes itself');
};

done_testing();
