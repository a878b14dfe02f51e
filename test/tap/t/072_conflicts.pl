# datacake.conflicts is exact: a conflict is recorded where the version that
# loses stood, with both rows, once; and nothing else is recorded.
use strict;
use warnings;

use DatacakeCluster;
use Test::More;

my $c = DatacakeCluster->new(nodes => 3);

$c->sql(1, q{CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY, code text UNIQUE)});
$c->replicate($_) foreach qw(t u);

# What node 1 writes reaches node 3 at once, what node 2 writes comes last
# everywhere, and so do the writes of node 1 on node 2.
my @slow = ([ 1, 2 ], [ 2, 1 ], [ 2, 3 ], [ 3, 2 ]);

# Every case has ten keys, or with TRUNCATE a table, of its own; :0 is there at
# first with v = "base".  Then the conflicts, as "key kind kept lost" with "-" for
# a deletion, that nodes 1 and 3 record, and those that node 2 records.
my @cases = (
	[ 'update, later update', [ 1, q{UPDATE t SET v = 'first' WHERE id = :0} ], [ 2, q{UPDATE t SET v = 'second' WHERE id = :0} ],
		'0 update second first', '' ],
	[ 'the same with the nodes swapped', [ 2, q{UPDATE t SET v = 'first' WHERE id = :0} ], [ 1, q{UPDATE t SET v = 'second' WHERE id = :0} ],
		'', '0 update second first' ],
	[ 'several updates, later several updates',
		[ 1, q{UPDATE t SET v = 'a' WHERE id = :0} ], [ 1, q{UPDATE t SET v = 'first' WHERE id = :0} ],
		[ 2, q{BEGIN; UPDATE t SET v = 'b' WHERE id = :0; UPDATE t SET v = 'second' WHERE id = :0; COMMIT} ],
		'0 update second first', '' ],
	[ 'insert, later insert', [ 1, q{INSERT INTO t VALUES (:1, 'first')} ], [ 2, q{INSERT INTO t VALUES (:1, 'second')} ],
		'1 insert second first', '' ],
	[ 'the same, nodes swapped', [ 2, q{INSERT INTO t VALUES (:1, 'first')} ], [ 1, q{INSERT INTO t VALUES (:1, 'second')} ],
		'', '1 insert second first' ],
	[ 'delete, later update', [ 1, q{DELETE FROM t WHERE id = :0} ], [ 2, q{UPDATE t SET v = 'second' WHERE id = :0} ],
		'0 update second -', '' ],
	[ 'the same, with the nodes swapped', [ 2, q{DELETE FROM t WHERE id = :0} ], [ 1, q{UPDATE t SET v = 'second' WHERE id = :0} ],
		'', '0 update second -' ],
	[ 'update, later delete', [ 1, q{UPDATE t SET v = 'first' WHERE id = :0} ], [ 2, q{DELETE FROM t WHERE id = :0} ],
		'0 delete - first', '' ],
	[ 'update, later delete, nodes swapped', [ 2, q{UPDATE t SET v = 'first' WHERE id = :0} ], [ 1, q{DELETE FROM t WHERE id = :0} ],
		'', '0 delete - first' ],
	[ 'two deletes: nothing is lost', [ 1, q{DELETE FROM t WHERE id = :0} ], [ 2, q{DELETE FROM t WHERE id = :0} ],
		'', '' ],
	[ 'delete, later delete and insert: nothing is lost',
		[ 1, q{DELETE FROM t WHERE id = :0} ], [ 2, q{DELETE FROM t WHERE id = :0} ], [ 2, q{INSERT INTO t VALUES (:0, 'again')} ],
		'', '' ],
	[ 'insert and delete, later insert: nothing is lost',
		[ 1, q{INSERT INTO t VALUES (:1, 'first')} ], [ 1, q{DELETE FROM t WHERE id = :1} ], [ 2, q{INSERT INTO t VALUES (:1, 'second')} ],
		'', '' ],
	[ 'insert again of a dead key, twice',
		[ 2, q{INSERT INTO t VALUES (:0 + 5, 'second')} ], [ 1, q{INSERT INTO t VALUES (:0 + 5, 'third')} ],
		'', '5 insert third second' ],
	[ 'update, later key change', [ 1, q{UPDATE t SET v = 'first' WHERE id = :0} ], [ 2, q{UPDATE t SET id = :1 WHERE id = :0} ],
		'0 delete - first', '' ],
	[ 'key change, later update', [ 1, q{UPDATE t SET id = :1 WHERE id = :0} ], [ 2, q{UPDATE t SET v = 'second' WHERE id = :0} ],
		'0 update second -', '' ],
	[ 'key changes onto one key',
		[ 1, q{UPDATE t SET id = :1, v = 'first' WHERE id = :0} ], [ 2, q{UPDATE t SET id = :1, v = 'second' WHERE id = :0} ],
		'1 insert second first', '' ],
	[ 'rolled back', [ 1, q{UPDATE t SET v = 'first' WHERE id = :0} ], [ 2, q{BEGIN; UPDATE t SET v = 'second' WHERE id = :0; ROLLBACK} ],
		'', '' ],
);

# The conflicts of a table on one node, in a form to compare; $base is taken off
# the keys.
sub conflicts
{
	my ($node, $table, $from, $to) = @_;
	my $offset = $from - $from % 10;
	return $c->sql($node, qq{SELECT string_agg(concat_ws(' ', key::int - $offset, kind,
			coalesce(kept_row->>'v', '-'), coalesce(lost_row->>'v', '-')), ',' ORDER BY kept, key)
		FROM datacake.conflicts WHERE relation = '$table'::regclass AND key::int BETWEEN $from AND $to});
}

my $counted = q{SELECT conflicts FROM datacake.keyspaces WHERE relation = 't'::regclass};
my $recorded = q{SELECT count(*) FROM datacake.conflicts WHERE relation = 't'::regclass};

subtest 'two writers' => sub {
	my $n = @cases;
	$c->sql(1, qq{INSERT INTO t SELECT 10 * g, 'base' FROM generate_series(0, $n - 1) g;
		INSERT INTO t SELECT 10 * g + 5, 'dies' FROM generate_series(0, $n - 1) g; DELETE FROM t WHERE v = 'dies'});
	$c->verify_ok('rows');
	$c->freeze_link(@$_) foreach @slow;
	foreach my $i (0 .. $#cases)
	{
		foreach my $step (grep { ref } @{ $cases[$i] })
		{
			my ($node, $statement) = @$step;
			$statement =~ s/:([0-9])/10 * $i + $1/ge;
			$c->sql($node, $statement);
		}
	}
	$c->sql(1, q{INSERT INTO t VALUES (-1, 'marker')});
	$c->await(3, 'SELECT v FROM t WHERE id = -1', 'marker', 'node 3 has the writes of node 1 first');
	$c->thaw_link(@$_) foreach @slow;
	$c->verify_ok('the nodes are equal');
	foreach my $node (1 .. 3)
	{
		is(conflicts($node, 't', 10 * $_, 10 * $_ + 9), $cases[$_][ $node == 2 ? -1 : -2 ], "$cases[$_][0]: node $node") foreach 0 .. $#cases;
		is($c->sql($node, $counted), $c->sql($node, $recorded), "node $node counts what it recorded");
	}
	is( $c->sql(1, q{SELECT string_agg(DISTINCT concat_ws(' ', datacake.node_of(kept), datacake.node_of(lost), kept::bigint > lost::bigint), ',') FROM datacake.conflicts}),
		'2 1 t', 'with the stamps of both');
	is( $c->sql(1, q{SELECT kept_row::text || lost_row::text ~ '"_stamp"' FROM datacake.conflicts ORDER BY at LIMIT 1}), 't',
		'and whole rows');
};

subtest 'TRUNCATE' => sub {
	$c->sql(1, 'CREATE TABLE k (id int PRIMARY KEY, v text)');
	$c->replicate('k');
	$c->sql(1, q{INSERT INTO k SELECT g, 'base' FROM generate_series(1, 3) g});
	$c->verify_ok('rows');
	$c->freeze_link(@$_) foreach @slow;
	$c->sql(1, 'TRUNCATE k');
	$c->sql(1, q{INSERT INTO k VALUES (5, 'first')});
	$c->sql(2, q{UPDATE k SET v = 'second' WHERE id = 1; DELETE FROM k WHERE id = 2; INSERT INTO k VALUES (4, 'new'), (5, 'second')});
	$c->await(3, 'SELECT count(*) FROM k', 1, 'node 3 has the TRUNCATE');
	$c->thaw_link(@$_) foreach @slow;
	$c->verify_ok('the nodes are equal');
	is(conflicts($_, 'k', 0, 9), '1 truncate second -,5 insert second first', "a TRUNCATE and a later update: node $_") foreach 1, 3;
	is(conflicts(2, 'k', 0, 9), '', 'none on node 2');

	# the other way round: rows that were not known
	$c->freeze_link(@$_) foreach @slow;
	$c->sql(1, q{INSERT INTO k VALUES (6, 'first'), (7, 'first'); DELETE FROM k WHERE id = 7; UPDATE k SET v = 'first' WHERE id = 4});
	$c->await(3, q{SELECT count(*) FROM k WHERE v = 'first'}, 2, 'node 3 has what node 1 wrote');
	$c->sql(2, q{TRUNCATE k; INSERT INTO k VALUES (1, 'x'), (4, 'x'), (5, 'x')});
	$c->thaw_link(@$_) foreach @slow;
	$c->verify_ok('the nodes are equal');
	is(conflicts($_, 'k', 0, 9), '1 truncate second -,5 insert second first,4 truncate - first,6 truncate - first',
		"rows, and a later TRUNCATE: node $_") foreach 1, 3;
	is(conflicts(2, 'k', 0, 9), '', 'none on node 2');

	$c->sql(1, q{INSERT INTO k VALUES (2, 'known')});
	$c->await_all('SELECT count(*) FROM k', 4, 'a row after it');
	$c->sql(2, q{UPDATE k SET v = 'again'});
	$c->await_all(q{SELECT count(*) FROM k WHERE v = 'again'}, 4, 'updates of all');
	is(conflicts($_, 'k', 0, 9) =~ tr/,//, $_ == 2 ? 0 : 3, "no more conflicts on node $_") foreach 1 .. 3;
};

subtest 'no conflicting writers' => sub {
	my @before = $c->sql_all('SELECT coalesce(sum(conflicts), 0) FROM datacake.keyspaces');

	# one after the other
	$c->sql(1, q{INSERT INTO t VALUES (5000, 'turn 0')});
	foreach my $i (1, 2, 3, 1, 2)
	{
		$c->await($i, 'SELECT count(*) FROM t WHERE id = 5000', 1, "node $i has the row");
		$c->sql($i, "UPDATE t SET v = 'turn $i' WHERE id = 5000");
		$c->await_all('SELECT v FROM t WHERE id = 5000', "turn $i", "all have the write of node $i");
	}

	# what node 1 sends to node 3 comes late; node 2 has it and goes on
	$c->sql(1, q{INSERT INTO t SELECT g, 'old' FROM generate_series(6000, 6005) g; INSERT INTO k SELECT g, 'old' FROM generate_series(10, 12) g});
	$c->await_all(q{SELECT (SELECT count(*) FROM t WHERE id >= 6000) + (SELECT count(*) FROM k WHERE id >= 10)}, 9, 'rows');
	$c->freeze_link(1, 3);
	$c->sql(1, q{INSERT INTO t SELECT g, 'insert' FROM generate_series(6010, 6015) g; UPDATE t SET v = 'update' WHERE id IN (6000, 6001, 6002);
		DELETE FROM t WHERE id IN (6003, 6004)});
	$c->await(2, q{SELECT count(*) FROM t WHERE id >= 6000}, 10, 'node 2 has the writes of node 1');
	$c->sql(2, q{DELETE FROM t WHERE id IN (6000, 6010)});
	$c->sql(2, q{UPDATE t SET v = 'overtakes' WHERE id IN (6001, 6011)});
	$c->sql(2, q{INSERT INTO t VALUES (6003, 'again'), (6000, 'again')});
	$c->sql(2, q{DELETE FROM t WHERE id = 6012; INSERT INTO t VALUES (6012, 'again')});
	$c->sql(2, q{UPDATE t SET id = 6020 WHERE id = 6013; UPDATE t SET id = 6021 WHERE id = 6002});
	$c->sql(1, q{UPDATE k SET v = 'before' WHERE id = 10});
	$c->await(2, q{SELECT v FROM k WHERE id = 10}, 'before', 'and an update');
	$c->sql(2, q{TRUNCATE k; INSERT INTO k VALUES (10, 'after')});
	$c->await(3, q{SELECT string_agg(id || v, ' ' ORDER BY id) FROM k}, '10after', 'node 3 has what node 2 made of them');
	$c->await(3, q{SELECT count(*) FROM t WHERE id IN (6020, 6021)}, 2, 'all of it');
	$c->await(1, q{SELECT v FROM k WHERE id = 10}, 'after', 'node 1 as well');
	$c->sql(1, q{UPDATE t SET v = 'and again' WHERE id IN (6001, 6012)});
	$c->thaw_link(1, 3);
	$c->await_all(q{SELECT count(*) FROM t WHERE v = 'and again'}, 2, 'then the late writes arrive');
	$c->verify_ok('the nodes are equal');

	# found by a scan
	$c->pause(3);
	$c->sql(3, q{UPDATE t SET v = 'alone' WHERE id = 5000});
	$c->sql(1, q{UPDATE t SET v = 'later' WHERE id = 5000});
	$c->resume(3);
	$c->await_all('SELECT v FROM t WHERE id = 5000', 'later', 'what a catch-up brings');
	$c->verify_ok('the nodes are equal');

	# everything once more, and from several sides
	$c->kill_worker($_, 'replicator', 'TERM') foreach 1 .. 3;
	$c->wait_for_nodes;
	$c->sql($_, "INSERT INTO t VALUES (7000 + $_, 'new')") foreach 1 .. 3;
	$c->await_all('SELECT count(*) FROM t WHERE id > 7000', 3, 'and new links');
	$c->verify_ok('the nodes are equal');
	is(join(' ', $c->sql_all('SELECT coalesce(sum(conflicts), 0) FROM datacake.keyspaces')), join(' ', @before), 'is no conflict, on no node');
};

subtest 'a unique value taken twice' => sub {
	$c->freeze_link(@$_) foreach [ 1, 2 ], [ 2, 1 ];
	$c->sql(1, q{INSERT INTO u VALUES (1, 'same')});
	$c->sql(2, q{INSERT INTO u VALUES (2, 'same')});
	$c->thaw_link(@$_) foreach [ 1, 2 ], [ 2, 1 ];
	$c->await_all('SELECT string_agg(id || code, chr(32)) FROM u', '2same', 'the later one stays');
	$c->verify_ok('the nodes are equal');
	$c->await_all(q{SELECT string_agg(concat_ws(' ', kept_row->>'id', lost_row->>'id'), ',') FROM datacake.conflicts WHERE kind = 'unique'}, '2 1',
		'both rows are recorded, once on each node, where the older one waits');
};

# conflict_on($key): an update of node 1 that loses to one of node 2
sub conflict_on
{
	my ($first, $last) = @_;
	$c->freeze_link(@$_) foreach [ 1, 2 ], [ 2, 1 ];
	$c->sql(1, "UPDATE t SET v = 'lost' WHERE id BETWEEN $first AND $last");
	$c->sql(2, "UPDATE t SET v = 'kept' WHERE id BETWEEN $first AND $last");
	$c->thaw_link(@$_) foreach [ 1, 2 ], [ 2, 1 ];
	$c->await_all("SELECT count(*) FROM t WHERE v = 'kept' AND id BETWEEN $first AND $last", 1 + $last - $first, 'conflicts');
	return;
}

subtest 'as many as the setting says' => sub {
	$c->sql(1, q{INSERT INTO t SELECT g, 'base' FROM generate_series(8000, 8029) g});
	$c->await_all('SELECT count(*) FROM t WHERE id >= 8000', 30, 'rows');
	my $before = $c->sql(1, $counted);

	$c->error_ok(1, "ALTER SYSTEM SET datacake.conflict_history = $_", qr/conflict_history/, "$_ is refused") foreach -1, 10000001;
	is($c->sql(1, 'SHOW datacake.conflict_history'), 10000, 'by default 10000');
	$c->sql(1, 'ALTER SYSTEM SET datacake.conflict_history = 3');
	$c->sql(1, 'SELECT pg_reload_conf()');
	conflict_on(8000, 8009);
	$c->await(1, q{SELECT string_agg(key, ' ') FROM datacake.conflicts}, '8007 8008 8009', 'the last three are kept');
	is($c->sql(1, $counted), $before + 10, 'all are counted');

	$c->sql(1, 'ALTER SYSTEM SET datacake.conflict_history = 0');
	$c->sql(1, 'SELECT pg_reload_conf()');
	$c->await(1, 'SELECT count(*) FROM datacake.conflicts', 0, 'none');
	# the session that applies for node 2 rereads its settings, too
	conflict_on(8010, 8019);
	is($c->sql(1, 'SELECT count(*) FROM datacake.conflicts'), 0, 'none is kept');
	is($c->sql(1, $counted), $before + 20, 'and all are counted');

	$c->sql(1, 'ALTER SYSTEM RESET datacake.conflict_history');
	$c->sql(1, 'SELECT pg_reload_conf()');
	conflict_on(8020, 8029);
	is($c->sql(1, 'SELECT count(*) FROM datacake.conflicts'), 10, 'and again');
};

subtest 'a row that is too large' => sub {
	$c->sql(1, q{INSERT INTO t VALUES (9000, 'base')});
	$c->await_all('SELECT count(*) FROM t WHERE id = 9000', 1, 'a row');
	$c->freeze_link(@$_) foreach [ 1, 2 ], [ 2, 1 ];
	$c->sql(1, q{UPDATE t SET v = repeat('x', 100000) WHERE id = 9000});
	$c->sql(2, q{UPDATE t SET v = repeat('y', 60000) WHERE id = 9000});
	$c->thaw_link(@$_) foreach [ 1, 2 ], [ 2, 1 ];
	$c->await_all('SELECT left(v, 1) FROM t WHERE id = 9000', 'y', 'large rows');
	is( $c->sql(1, q{SELECT lost_row->>'key', lost_row->>'note' ~ '^a row of 1000.. bytes as JSON is not kept$', length(kept_row->>'v')
			FROM datacake.conflicts WHERE key = '9000'}),
		'9000|t|60000', 'beyond 64 kB the key and a note are kept');
};

done_testing();
