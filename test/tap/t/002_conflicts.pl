# Concurrent writes of the same rows on several nodes: all nodes end with the
# same rows, and with those of the later write.
use strict;
use warnings;

use DatacakeCluster;
use Test::More;

my $c = DatacakeCluster->new(nodes => 3);

$c->sql(1, q{CREATE TABLE t (id int PRIMARY KEY, v text, w text, big text);
	CREATE TABLE u (id int PRIMARY KEY, code text UNIQUE)});
$c->replicate($_) foreach qw(t u);

# Every case has ten keys of its own; key 0 is there at first with v = w =
# "base", others are free.  The steps [node, statement] happen one after the
# other while no node hears of another; :0 is key 0, :1 key 1.  The last member
# is what there must be in the end: key, v, w of the rows.
my $big = q{(SELECT string_agg(md5(g::text), '') FROM generate_series(1, 1000) g)};
my @cases = (
	[ 'update, later update of the same row',
		[ 1, q{UPDATE t SET v = 'first' WHERE id = :0} ], [ 2, q{UPDATE t SET v = 'second' WHERE id = :0} ],
		'0 second base' ],
	[ 'the same with the nodes swapped',
		[ 2, q{UPDATE t SET v = 'first' WHERE id = :0} ], [ 1, q{UPDATE t SET v = 'second' WHERE id = :0} ],
		'0 second base' ],
	[ 'updates of one row on three nodes',
		[ 2, q{UPDATE t SET v = 'first' WHERE id = :0} ], [ 3, q{UPDATE t SET v = 'second' WHERE id = :0} ],
		[ 1, q{UPDATE t SET v = 'third' WHERE id = :0} ],
		'0 third base' ],
	[ 'updates of different columns: whole rows win',
		[ 1, q{UPDATE t SET v = 'first' WHERE id = :0} ], [ 2, q{UPDATE t SET w = 'second' WHERE id = :0} ],
		'0 base second' ],
	[ 'an earlier update that touched the row more often',
		[ 1, q{UPDATE t SET v = 'a' WHERE id = :0} ], [ 1, q{UPDATE t SET v = 'b' WHERE id = :0} ],
		[ 1, q{UPDATE t SET v = 'c' WHERE id = :0} ], [ 3, q{UPDATE t SET v = 'later' WHERE id = :0} ],
		'0 later base' ],
	[ 'writes that alternate between two nodes',
		[ 1, q{UPDATE t SET v = 'a' WHERE id = :0} ], [ 2, q{UPDATE t SET v = 'b' WHERE id = :0} ],
		[ 1, q{UPDATE t SET v = 'c' WHERE id = :0} ], [ 2, q{DELETE FROM t WHERE id = :0} ],
		[ 1, q{UPDATE t SET v = 'd' WHERE id = :0} ],
		'0 d base' ],
	[ 'delete after update',
		[ 1, q{UPDATE t SET v = 'first' WHERE id = :0} ], [ 2, q{DELETE FROM t WHERE id = :0} ],
		'' ],
	[ 'update after delete',
		[ 1, q{DELETE FROM t WHERE id = :0} ], [ 2, q{UPDATE t SET v = 'second' WHERE id = :0} ],
		'0 second base' ],
	[ 'two deletes',
		[ 1, q{DELETE FROM t WHERE id = :0} ], [ 2, q{DELETE FROM t WHERE id = :0} ],
		'' ],
	[ 'two inserts',
		[ 1, q{INSERT INTO t VALUES (:1, 'first', 'x')} ], [ 2, q{INSERT INTO t VALUES (:1, 'second', 'y')} ],
		'0 base base,1 second y' ],
	[ 'two inserts, the nodes swapped',
		[ 2, q{INSERT INTO t VALUES (:1, 'first', 'x')} ], [ 1, q{INSERT INTO t VALUES (:1, 'second', 'y')} ],
		'0 base base,1 second y' ],
	[ 'insert, later insert and delete of the same key',
		[ 1, q{INSERT INTO t VALUES (:1, 'first', 'x')} ], [ 2, q{INSERT INTO t VALUES (:1, 'second', 'y')} ],
		[ 2, q{DELETE FROM t WHERE id = :1} ],
		'0 base base' ],
	[ 'insert and delete, later insert of the same key',
		[ 2, q{INSERT INTO t VALUES (:1, 'first', 'x')} ], [ 2, q{DELETE FROM t WHERE id = :1} ],
		[ 1, q{INSERT INTO t VALUES (:1, 'second', 'y')} ],
		'0 base base,1 second y' ],
	[ 'delete and reinsert after an update',
		[ 2, q{UPDATE t SET v = 'update' WHERE id = :0} ],
		[ 1, q{DELETE FROM t WHERE id = :0} ], [ 1, q{INSERT INTO t VALUES (:0, 'new', 'new')} ],
		'0 new new' ],
	[ 'update after delete and reinsert',
		[ 1, q{DELETE FROM t WHERE id = :0} ], [ 1, q{INSERT INTO t VALUES (:0, 'new', 'new')} ],
		[ 2, q{UPDATE t SET v = 'update' WHERE id = :0} ],
		'0 update base' ],
	[ 'update between delete and reinsert',
		[ 1, q{DELETE FROM t WHERE id = :0} ], [ 2, q{UPDATE t SET v = 'update' WHERE id = :0} ],
		[ 1, q{INSERT INTO t VALUES (:0, 'new', 'new')} ],
		'0 new new' ],
	[ 'delete and reinsert in one transaction, later delete',
		[ 1, q{BEGIN; DELETE FROM t WHERE id = :0; INSERT INTO t VALUES (:0, 'new', 'new'); COMMIT} ],
		[ 2, q{DELETE FROM t WHERE id = :0} ],
		'' ],
	[ 'delete, later delete and reinsert in one transaction',
		[ 2, q{DELETE FROM t WHERE id = :0} ],
		[ 1, q{BEGIN; DELETE FROM t WHERE id = :0; INSERT INTO t VALUES (:0, 'new', 'new'); COMMIT} ],
		'0 new new' ],
	[ 'key change after update',
		[ 2, q{UPDATE t SET v = 'update' WHERE id = :0} ], [ 1, q{UPDATE t SET id = :1 WHERE id = :0} ],
		'1 base base' ],
	[ 'update after key change',
		[ 1, q{UPDATE t SET id = :1 WHERE id = :0} ], [ 2, q{UPDATE t SET v = 'update' WHERE id = :0} ],
		'0 update base,1 base base' ],
	[ 'two key changes of one row',
		[ 1, q{UPDATE t SET id = :1 WHERE id = :0} ], [ 2, q{UPDATE t SET id = :2 WHERE id = :0} ],
		'1 base base,2 base base' ],
	[ 'key change onto a key that another node inserts later',
		[ 1, q{UPDATE t SET id = :1 WHERE id = :0} ], [ 2, q{INSERT INTO t VALUES (:1, 'insert', 'insert')} ],
		'1 insert insert' ],
	[ 'transactions that overlap in one row',
		[ 1, q{BEGIN; UPDATE t SET v = 'first' WHERE id = :0; INSERT INTO t VALUES (:1, 'first', 'x'); COMMIT} ],
		[ 2, q{BEGIN; INSERT INTO t VALUES (:1, 'second', 'y'), (:2, 'second', 'y'); COMMIT} ],
		'0 first base,1 second y,2 second y' ],
	[ 'counters: one increment wins',
		[ 1, q{UPDATE t SET v = v || '+1' WHERE id = :0} ], [ 2, q{UPDATE t SET v = v || '+2' WHERE id = :0} ],
		'0 base+2 base' ],
	[ 'a large column changed earlier, a small one later',
		[ 1, qq{UPDATE t SET big = $big || 'first' WHERE id = :0} ], [ 2, q{UPDATE t SET v = 'second' WHERE id = :0} ],
		'0 second base' ],
	[ 'a small column changed earlier, a large one later',
		[ 1, q{UPDATE t SET v = 'first' WHERE id = :0} ], [ 2, qq{UPDATE t SET big = $big || 'second' WHERE id = :0} ],
		'0 base base second' ],
	[ 'ON CONFLICT DO UPDATE on both nodes',
		[ 1, q{INSERT INTO t VALUES (:1, 'one', 'x') ON CONFLICT (id) DO UPDATE SET v = 'again'} ],
		[ 1, q{INSERT INTO t VALUES (:1, 'one', 'x') ON CONFLICT (id) DO UPDATE SET v = 'again'} ],
		[ 2, q{INSERT INTO t VALUES (:1, 'two', 'y') ON CONFLICT (id) DO UPDATE SET v = 'again'} ],
		'0 base base,1 two y' ],
	[ 'a rolled back write is no rival',
		[ 1, q{UPDATE t SET v = 'first' WHERE id = :0} ], [ 2, q{BEGIN; UPDATE t SET v = 'second' WHERE id = :0; ROLLBACK} ],
		'0 first base' ],
);

# run_cases($first, $part, $heal): all cases with keys from 10 * $first on, between
# $part and $heal.
sub run_cases
{
	my ($first, $part, $heal) = @_;
	my $count = @cases;
	$c->sql(1, "INSERT INTO t SELECT 10 * ($first + g), 'base', 'base', $big FROM generate_series(0, $count) g");
	$c->verify_ok('the rows to begin with');
	$part->();
	foreach my $n (0 .. $#cases)
	{
		my ($name, @steps) = @{ $cases[$n] };
		pop @steps;
		foreach my $step (@steps)
		{
			my ($node, $statement) = @$step;
			$statement =~ s/:([0-9])/10 * ($first + $n) + $1/ge;
			$c->sql($node, $statement);
		}
	}

	# A transaction has one stamp, drawn at its first write: the commit of this
	# one comes last, its stamp first.
	my $key = 10 * ($first + $count);
	my $session = $c->session(1);
	$session->query_safe("BEGIN; INSERT INTO t (id, v) VALUES ($key + 1, 'early')");
	$c->sql(2, "UPDATE t SET v = 'late' WHERE id = $key");
	$session->query_safe("UPDATE t SET v = 'early' WHERE id = $key; COMMIT");
	$session->quit;

	$c->await_differ('SELECT md5(string_agg(t::text, chr(10) ORDER BY id)) FROM t', 'while no node hears of another they differ');
	$heal->();
	$c->verify_ok('then all nodes hold the same rows');
	foreach my $n (0 .. $#cases)
	{
		my $case = $first + $n;
		is( $c->sql(2, qq{SELECT string_agg(concat_ws(' ', id - 10 * $case, v, w, nullif(substr(big, 32001), '')), ',' ORDER BY id)
				FROM t WHERE id / 10 = $case}),
			$cases[$n][-1], $cases[$n][0]);
	}
	is($c->sql(2, "SELECT string_agg(v, ' ' ORDER BY id) FROM t WHERE id IN ($key, $key + 1)"),
		'late early', 'a transaction counts as written at its first write');
	return;
}

my $conflicts = q{SELECT conflicts FROM datacake.keyspaces WHERE relation = 't'::regclass};

subtest 'links that carry nothing for a while' => sub {
	my @links = map { my $from = $_; map { [ $from, $_ ] } grep { $_ != $from } 1 .. 3 } 1 .. 3;
	run_cases(100, sub { $c->freeze_link(@$_) foreach @links; }, sub { $c->thaw_link(@$_) foreach @links; });
	cmp_ok($c->sql($_, $conflicts), '>', 0, "node $_ counts conflicts") foreach 1 .. 3;
};

subtest 'nodes that are apart for a while' => sub {
	run_cases(200, sub { $c->pause($_) foreach 1 .. 3; }, sub { $c->resume($_) foreach 1 .. 3; });
};

subtest 'writes that follow each other are no conflicts' => sub {
	$c->sql(1, q{INSERT INTO t (id, v) VALUES (5000, 'turn 0')});
	my $before = $c->sql(3, $conflicts);
	foreach my $i (1, 2, 3, 1)
	{
		$c->await($i, q{SELECT count(*) FROM t WHERE id = 5000}, 1, "node $i has the row");
		$c->sql($i, "UPDATE t SET v = 'turn $i' WHERE id = 5000");
		$c->await_all('SELECT v FROM t WHERE id = 5000', "turn $i", "all have the write of node $i");
	}
	is($c->sql(3, $conflicts), $before, 'none is counted');
};

subtest 'three nodes, one slow link' => sub {
	# What node 1 sends to node 3 comes late; node 2 has it and goes on.
	$c->sql(1, q{INSERT INTO t VALUES (3000, 'old', 'w'), (3001, 'old', 'w')});
	$c->await($_, 'SELECT count(*) FROM t WHERE id IN (3000, 3001)', 2, "node $_ has two rows") foreach 2, 3;
	$c->freeze_link(1, 3);
	$c->sql(1, q{INSERT INTO t VALUES (3002, 'insert', 'w'), (3003, 'insert', 'w'), (3004, 'insert', 'w')});
	$c->sql(1, q{UPDATE t SET v = 'update' WHERE id = 3000});
	$c->sql(1, q{DELETE FROM t WHERE id = 3001});
	$c->await(2, 'SELECT count(*) FROM t WHERE id BETWEEN 3000 AND 3004', 4, 'node 2 has the writes of node 1');
	$c->sql(2, q{DELETE FROM t WHERE id = 3002; UPDATE t SET v = 'overtakes' WHERE id = 3003; DELETE FROM t WHERE id = 3000;
		INSERT INTO t VALUES (3001, 'again', 'w'); DELETE FROM t WHERE id = 3004; INSERT INTO t VALUES (3004, 'again', 'w')});
	$c->await(3, q{SELECT string_agg(id || v, ' ' ORDER BY id) FROM t WHERE id BETWEEN 3000 AND 3004}, '3001again 3003overtakes 3004again',
		'node 3 has what node 2 made of them, and not yet what they were');
	$c->sql(1, q{INSERT INTO t VALUES (3009, 'marker', 'w')});
	$c->thaw_link(1, 3);
	$c->await(3, 'SELECT v FROM t WHERE id = 3009', 'marker', 'then the late writes arrive');
	$c->await_all(q{SELECT string_agg(id || v, ' ' ORDER BY id) FROM t WHERE id BETWEEN 3000 AND 3004}, '3001again 3003overtakes 3004again',
		'an insert after its delete, one after its update: nothing comes back, nothing is lost');
	$c->verify_ok('on no node');
};

subtest 'unique values change hands' => sub {
	$c->sql(1, q{INSERT INTO u VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')});
	$c->sql(1, q{BEGIN; UPDATE u SET code = NULL WHERE id IN (1, 2); UPDATE u SET code = 'b' WHERE id = 1; UPDATE u SET code = 'a' WHERE id = 2; COMMIT});
	$c->await_all(q{SELECT string_agg(id || code, ' ' ORDER BY id) FROM u}, '1b 2a 3c 4d', 'swapped in one transaction');
	$c->sql(1, q{BEGIN; DELETE FROM u WHERE id = 3; INSERT INTO u VALUES (5, 'c'); COMMIT});
	$c->sql(1, q{UPDATE u SET code = 'free' WHERE id = 4; INSERT INTO u VALUES (6, 'd')});
	$c->await_all(q{SELECT string_agg(id || code, ' ' ORDER BY id) FROM u}, '1b 2a 4free 5c 6d', 'freed and taken again');
	$c->verify_ok('the nodes are equal');
	is($c->sql($_, 'SELECT count(*) FROM datacake.quarantine'), 0, "and nothing waits on node $_") foreach 1 .. 3;

	$c->freeze_link(1, 3);
	$c->sql(1, q{UPDATE u SET code = 'freed by 1' WHERE id = 1});
	$c->await(2, q{SELECT code FROM u WHERE id = 1}, 'freed by 1', 'a value freed on node 1');
	$c->sql(2, q{INSERT INTO u VALUES (7, 'b')});
	$c->await(3, q{SELECT sqlstate FROM datacake.quarantine}, '23505', 'taken on node 2 before node 3 hears that it is free: waits');
	$c->thaw_link(1, 3);
	$c->await(3, q{SELECT code FROM u WHERE id = 7}, 'b', 'and is applied when it is');
	$c->verify_ok('then the nodes are equal');
};

subtest 'a unique value taken on two nodes' => sub {
	$c->pause(1);
	$c->sql(1, q{INSERT INTO u VALUES (11, 'older'), (13, 'newer')});
	$c->sql(2, q{INSERT INTO u VALUES (12, 'older'), (14, 'x')});
	$c->sql(1, q{UPDATE u SET code = 'newer still' WHERE id = 13; UPDATE u SET code = 'newer' WHERE id = 13});
	$c->sql(2, q{UPDATE u SET code = 'newer' WHERE id = 14; INSERT INTO u VALUES (15, 'elsewhere')});
	$c->sql(1, q{UPDATE u SET code = 'newer' WHERE id = 13});
	$c->resume(1);
	foreach my $i (1 .. 3)
	{
		$c->sql($i, "INSERT INTO u VALUES (20 + $i, 'later $i'); UPDATE t SET v = 'later' WHERE id = 2000 + 10 * $i");
	}
	$c->await_all('SELECT count(*) FROM u WHERE id > 20', 3, 'other rows flow between all nodes');
	$c->await_all(q{SELECT string_agg(id || code, ' ' ORDER BY id) FROM u WHERE id BETWEEN 11 AND 15}, '12older 13newer 15elsewhere',
		'the row that was written later stays, on all nodes');
	$c->await_all(q{SELECT count(*) FROM datacake.quarantine WHERE told}, 2, 'the others wait, for them, on all nodes');
	$c->verify_ok('the nodes are equal');
	my @lost = map { split /\n/, $_ } $c->sql_all(q{SELECT lost_row->>'id' FROM datacake.conflicts WHERE kind = 'unique'});
	is(join(' ', sort keys %{ { map { $_ => 1 } @lost } }), '11 14', 'and those that lost are kept in datacake.conflicts');
};

subtest 'datacake.conflicts keeps what lost' => sub {
	$c->sql(1, q{INSERT INTO t (id, v) VALUES (6000, 'base'), (6001, 'base')});
	$c->await_all('SELECT count(*) FROM t WHERE id IN (6000, 6001)', 2, 'two rows');
	$c->freeze_link(1, 2);
	$c->freeze_link(2, 1);
	$c->sql(1, q{UPDATE t SET v = 'lost' WHERE id = 6000; DELETE FROM t WHERE id = 6001});
	$c->sql(2, q{UPDATE t SET v = 'kept' WHERE id IN (6000, 6001)});
	$c->thaw_link(1, 2);
	$c->thaw_link(2, 1);
	$c->await_all('SELECT count(*) FROM t WHERE v = \'kept\'', 2, 'the later writes win');
	foreach my $i (1, 2)
	{
		is( $c->sql($i, q{SELECT string_agg(concat_ws('/', key, kind, coalesce(lost_row->>'v', '(deletion)'), datacake.node_of(kept), datacake.node_of(lost)), ' ' ORDER BY key)
				FROM datacake.conflicts WHERE key ~ '600[01]'}),
			$i == 1 ? '6000/update/lost/2/1 6001/update/(deletion)/2/1' : '',
			$i == 1 ? 'node 1, where the losers stood, recorded both' : 'node 2 recorded none');
	}
};

done_testing();
