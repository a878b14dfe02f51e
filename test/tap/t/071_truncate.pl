# TRUNCATE between nodes: it takes what was written before it, on any node, and
# nothing of what was written after it, in whatever order the two arrive.
use strict;
use warnings;

use DatacakeCluster;
use Test::More;

my $c = DatacakeCluster->new(nodes => 3);

# Every case has a table of its own with rows 1 to 3.  The steps [node,
# statement] happen one after the other while no node hears of another; the last
# member is what there must be in the end.
my @cases = (
	[ 'insert, later TRUNCATE', [ 2, q{INSERT INTO t VALUES (4, 'insert')} ], [ 1, 'TRUNCATE t' ], '' ],
	[ 'TRUNCATE, later insert', [ 1, 'TRUNCATE t' ], [ 2, q{INSERT INTO t VALUES (4, 'insert')} ], '4 insert' ],
	[ 'update, later TRUNCATE', [ 2, q{UPDATE t SET v = 'update' WHERE id = 1} ], [ 1, 'TRUNCATE t' ], '' ],
	[ 'TRUNCATE, later update: it writes the whole row',
		[ 1, 'TRUNCATE t' ], [ 2, q{UPDATE t SET v = 'update' WHERE id = 1} ], '1 update' ],
	[ 'the same with the nodes swapped', [ 2, 'TRUNCATE t' ], [ 1, q{UPDATE t SET v = 'update' WHERE id = 1} ], '1 update' ],
	[ 'TRUNCATE, later delete', [ 1, 'TRUNCATE t' ], [ 2, 'DELETE FROM t WHERE id = 1' ], '' ],
	[ 'delete, TRUNCATE, later insert of the dead key',
		[ 2, 'DELETE FROM t WHERE id = 1' ], [ 1, 'TRUNCATE t' ], [ 2, q{INSERT INTO t VALUES (1, 'again')} ], '1 again' ],
	[ 'an update before and one after, on two nodes',
		[ 2, q{UPDATE t SET v = 'before' WHERE id = 1} ], [ 1, 'TRUNCATE t' ], [ 3, q{UPDATE t SET v = 'after' WHERE id = 2} ],
		'2 after' ],
	[ 'inserts of one key after it on two nodes',
		[ 1, 'TRUNCATE t' ], [ 1, q{INSERT INTO t VALUES (1, 'first')} ], [ 2, q{DELETE FROM t; INSERT INTO t VALUES (1, 'second')} ],
		'1 second' ],
	[ 'two TRUNCATEs: the later one counts',
		[ 1, 'TRUNCATE t' ], [ 1, q{INSERT INTO t VALUES (4, 'between')} ], [ 2, 'TRUNCATE t' ], [ 1, q{INSERT INTO t VALUES (5, 'after')} ],
		'5 after' ],
	[ 'before and after it in one transaction',
		[ 2, q{INSERT INTO t VALUES (6, 'before')} ],
		[ 1, q{BEGIN; INSERT INTO t VALUES (4, 'x'); TRUNCATE t; INSERT INTO t VALUES (5, 'own'); COMMIT} ],
		[ 2, q{INSERT INTO t VALUES (7, 'after')} ],
		'5 own,7 after' ],
	[ 'key change, later TRUNCATE', [ 2, 'UPDATE t SET id = 9 WHERE id = 1' ], [ 1, 'TRUNCATE t' ], '' ],
	[ 'TRUNCATE, later key change', [ 1, 'TRUNCATE t' ], [ 2, 'UPDATE t SET id = 9 WHERE id = 1' ], '9 base' ],
	[ 'one that was rolled back', [ 1, 'BEGIN; TRUNCATE t; ROLLBACK' ], [ 2, 'DELETE FROM t WHERE id > 1' ], '1 base' ],
	[ 'one that a savepoint took back',
		[ 1, q{BEGIN; INSERT INTO t VALUES (4, 'kept'); SAVEPOINT s; TRUNCATE t; ROLLBACK TO s; COMMIT} ], [ 2, 'DELETE FROM t' ], '4 kept' ],
	[ 'a transaction that has drawn its stamp before it',
		[ 2, 'open', 'INSERT INTO t VALUES (4, $$early$$)' ], [ 1, 'TRUNCATE t' ], [ 2, 'close', 'INSERT INTO t VALUES (5, $$early$$); COMMIT' ],
		'' ],
	[ 'images that do not fit',
		[ 2, q{INSERT INTO t VALUES (4, 'before')} ],
		[ 1, q{SET datacake.capture_memory = '64kB'; BEGIN; INSERT INTO t SELECT g, repeat('x', 1000) FROM generate_series(10, 200) g;
			TRUNCATE t; INSERT INTO t SELECT g, 'new' || repeat(' ', 1000) FROM generate_series(11, 200) g;
			DELETE FROM t WHERE id > 12; COMMIT} ],
		'11 new,12 new' ],
);

sub case_table
{
	my ($part, $n) = @_;
	return "${part}_$n";
}

my $rows = q{SELECT string_agg(id || ' ' || trim(v), ',' ORDER BY id) FROM };

# run_cases($part, $apart, $heal): every case between $apart and $heal
sub run_cases
{
	my ($part, $apart, $heal) = @_;
	foreach my $n (0 .. $#cases)
	{
		my $table = case_table($part, $n);
		$c->sql(1, "CREATE TABLE $table (id int PRIMARY KEY, v text); INSERT INTO $table SELECT g, 'base' FROM generate_series(1, 3) g;
			SELECT datacake.replicate_table('$table')");
	}
	$c->await_all("SELECT count(*) FROM datacake.keyspaces WHERE relation::text ~ '^${part}_' AND live = 3", scalar @cases,
		'the tables are everywhere');
	$c->verify_ok('with the same rows');
	$apart->();
	foreach my $n (0 .. $#cases)
	{
		my ($name, @steps) = @{ $cases[$n] };
		my $session;
		pop @steps;
		foreach my $step (@steps)
		{
			my ($node, @statements) = @$step;
			my $table = case_table($part, $n);
			s/\bt\b/$table/g foreach @statements;
			if ($statements[0] eq 'open')
			{
				$session = $c->session($node);
				$session->query_safe("BEGIN; $statements[1]");
			}
			elsif ($statements[0] eq 'close')
			{
				$session->query_safe($statements[1]);
				$session->quit;
			}
			else { $c->sql($node, $statements[0]); }
		}
	}
	$c->await_differ($rows . case_table($part, 0), 'while no node hears of another they differ');
	is($c->sql(2, $rows . case_table($part, 0)), '1 base,2 base,3 base,4 insert', 'and what a TRUNCATE is to take is there');
	$heal->();
	$c->verify_ok('then all nodes hold the same rows');
	is($c->sql(3, $rows . case_table($part, $_)), $cases[$_][-1], $cases[$_][0]) foreach 0 .. $#cases;
	$c->await_all("SELECT coalesce(sum(live), 0) FROM datacake.keyspaces WHERE relation::text ~ '^${part}_'",
		$c->sql(1, 'SELECT ' . join('+', map { '(SELECT count(*) FROM ' . case_table($part, $_) . ')' } 0 .. $#cases)),
		'and as many entries');
	return;
}

subtest 'links that carry nothing for a while' => sub {
	my @links = map { my $from = $_; map { [ $from, $_ ] } grep { $_ != $from } 1 .. 3 } 1 .. 3;
	run_cases('frozen', sub { $c->freeze_link(@$_) foreach @links; }, sub { $c->thaw_link(@$_) foreach @links; });
};

subtest 'nodes that are apart for a while' => sub {
	run_cases('paused', sub { $c->pause($_) foreach 1 .. 3; }, sub { $c->resume($_) foreach 1 .. 3; });
};

$c->sql(1, q{CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a)});
$c->replicate($_) foreach qw(a b);

subtest 'one that is not captured stays where it is' => sub {
	$c->sql(1, q{INSERT INTO a VALUES (1, 'x'), (2, 'x'); INSERT INTO b VALUES (1, 1)});
	$c->verify_ok('rows');
	$c->sql(1, q{SET datacake.capture = off; TRUNCATE a, b});
	$c->sql(1, q{INSERT INTO a VALUES (3, 'later')});
	$c->await($_, $rows . 'a', '1 x,2 x,3 later', "node $_ keeps its rows: without a floor nothing would take them") foreach 2, 3;
	is($c->sql(1, $rows . 'a'), '3 later', 'node 1 has lost them');
	$c->sql(1, 'TRUNCATE a CASCADE');
	$c->await_all('SELECT (SELECT count(*) FROM a) + (SELECT count(*) FROM b)', 0, 'an ordinary one reaches all, cascade included');
	$c->verify_ok('the nodes are equal');
};

subtest 'three nodes, one slow link' => sub {
	$c->freeze_link(1, 3);
	$c->sql(1, q{INSERT INTO a VALUES (1, 'old'), (2, 'old')});
	$c->await(2, 'SELECT count(*) FROM a', 2, 'node 2 has rows of node 1');
	$c->sql(2, q{TRUNCATE a CASCADE; INSERT INTO a VALUES (2, 'new'), (3, 'new')});
	$c->await(3, $rows . 'a', '2 new,3 new', 'node 3 hears of the TRUNCATE first');
	$c->sql(1, q{INSERT INTO a VALUES (4, 'marker')});
	$c->thaw_link(1, 3);
	$c->await_all($rows . 'a', '2 new,3 new,4 marker', 'and nothing comes back when the rows arrive');
	$c->verify_ok('on no node');

	$c->freeze_link(1, 3);
	$c->sql(1, 'TRUNCATE a CASCADE');
	$c->await(2, 'SELECT count(*) FROM a', 0, 'node 2 has a TRUNCATE of node 1');
	$c->sql(2, q{INSERT INTO a VALUES (2, 'after'), (5, 'after')});
	$c->await(3, $rows . 'a', '2 after,3 new,4 marker,5 after', 'node 3 hears of what came after it');
	$c->thaw_link(1, 3);
	$c->await_all($rows . 'a', '2 after,5 after', 'and keeps that when it arrives');
	$c->verify_ok('as all do');
};

subtest 'a node that is away' => sub {
	my $floors = q{SELECT count(DISTINCT stamp) FROM datacake.floor f JOIN datacake.keyspaces k ON k.id = f.keyspace WHERE k.relation = 'a'::regclass};
	$c->pause(3);
	$c->sql(3, q{INSERT INTO a VALUES (6, 'before, alone'); UPDATE a SET v = 'before, alone' WHERE id = 2});
	$c->sql(1, q{TRUNCATE a CASCADE});
	$c->sql(3, q{INSERT INTO a VALUES (7, 'after, alone')});
	$c->sql(2, q{INSERT INTO a VALUES (8, 'after')});
	$c->stop(3);
	$c->sql(1, q{INSERT INTO a VALUES (9, 'later')});
	$c->start_node(3);
	$c->wait_for_nodes;
	$c->await_all($rows . 'a', '7 after, alone,8 after,9 later', 'a catch-up brings the TRUNCATE, and takes what it must');
	$c->verify_ok('the nodes are equal');
	$c->await_all($floors, 1, 'one floor is kept'); # perhaps twice: two peers may tell it at once

	$c->stop(3);
	$c->sql(1, 'TRUNCATE a CASCADE');
	$c->start_node(3);
	$c->wait_for_nodes;
	$c->await_all('SELECT count(*) FROM a', 0, 'a TRUNCATE and nothing else is caught up');
	$c->verify_ok('the nodes are equal');
};

subtest 'a crash after it' => sub {
	$c->pause(2);
	$c->sql(2, q{INSERT INTO a SELECT g, 'before' FROM generate_series(1, 100) g});
	$c->sql(1, q{INSERT INTO a VALUES (200, 'before'); TRUNCATE a CASCADE; INSERT INTO a VALUES (201, 'after')});
	$c->await(3, $rows . 'a', '201 after', 'a TRUNCATE reaches node 3');
	$c->kill9(3);
	$c->kill9(1);
	$c->start_node($_) foreach 1, 3;
	$c->resume(2);
	$c->wait_for_nodes;
	$c->await_all($rows . 'a', '201 after', 'late rows meet the floor that was loaded');
	$c->verify_ok('the nodes are equal');
	$c->await_all(q{SELECT live, dead FROM datacake.keyspaces WHERE relation = 'a'::regclass}, '1|0', 'and so are the entries');
};

subtest 'beside users of a node' => sub {
	$c->sql(1, q{INSERT INTO a SELECT g, 'base' FROM generate_series(1, 100) g});
	$c->verify_ok('100 rows');

	my $locker = $c->session(2);
	$locker->query_safe('BEGIN; SELECT * FROM a WHERE id = 50 FOR UPDATE');
	my $writer = $c->session(2);
	$writer->query_safe(q{BEGIN; INSERT INTO a VALUES (500, 'open'), (501, 'open'); UPDATE a SET v = 'open' WHERE id = 60});
	$c->sql(1, 'TRUNCATE a CASCADE');
	$c->sql(1, q{INSERT INTO a VALUES (1, 'after')});
	$c->await(2, 'SELECT string_agg(id || v, chr(44) ORDER BY id) FROM a', '1after,50base,60base', 'locked rows are not waited for');
	my $late = $c->session(2);
	$late->query_safe(q{BEGIN; INSERT INTO a VALUES (502, 'late')});
	$writer->query_safe('COMMIT');
	$locker->query_safe('COMMIT');
	$late->query_safe('COMMIT');
	$c->await_all('SELECT string_agg(id || v, chr(44) ORDER BY id) FROM a', '1after,502late',
		'they die when they are free, and so does what was written before and committed after');
	$_->quit foreach $locker, $writer, $late;
	$c->verify_ok('the nodes are equal');

	$locker = $c->session(2);
	$locker->query_safe('BEGIN; LOCK TABLE a');
	$c->sql(1, 'TRUNCATE a CASCADE');
	$c->sql(1, q{INSERT INTO b VALUES (77, NULL)});
	$c->await(2, 'SELECT id FROM b', 77, 'a locked table holds up nothing else');
	is($locker->query_safe('SELECT count(*) FROM a'), 2, 'it keeps its rows meanwhile');
	$locker->query_safe('COMMIT');
	$locker->quit;
	$c->await(2, 'SELECT count(*) FROM a', 0, 'and loses them then');
	$c->verify_ok('the nodes are equal');
};

subtest 'a trigger that objects' => sub {
	$c->sql(1, q{INSERT INTO a SELECT g, 'base' FROM generate_series(1, 10) g});
	$c->verify_ok('10 rows');
	$c->sql(2, q{CREATE FUNCTION object() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION $$no$$; END';
		CREATE TRIGGER object BEFORE DELETE ON a FOR EACH ROW EXECUTE FUNCTION object(); ALTER TABLE a ENABLE ALWAYS TRIGGER object});
	my $offset = $c->log_offset(2);
	$c->sql(1, 'TRUNCATE a CASCADE');
	$c->log_ok(2, qr/outlive a TRUNCATE of another node: no/, 'is named in the log', $offset);
	$c->sql(1, q{INSERT INTO a VALUES (1, 'after')});
	$c->await(2, q{SELECT v FROM a WHERE id = 1}, 'after', 'other writes go on, to the same rows, too');
	is($c->sql(2, 'SELECT count(*) FROM a'), 10, 'while the rows are there');
	$c->sql(2, 'DROP TRIGGER object ON a');
	$c->await(2, 'SELECT count(*) FROM a', 1, 'and go when it is gone');
	$c->verify_ok('the nodes are equal');
};

subtest 'what waits in the quarantine' => sub {
	$c->sql(2, q{ALTER TABLE a ADD CHECK (v <> 'refused')});
	$c->sql(1, q{INSERT INTO a VALUES (2, 'refused'), (3, 'taken')});
	$c->await(2, 'SELECT count(*) FROM datacake.quarantine', 1, 'a row waits');
	$c->sql(1, 'TRUNCATE a CASCADE');
	$c->sql(1, q{INSERT INTO a VALUES (4, 'refused')});
	$c->await(2, q{SELECT string_agg(encode(key, 'hex'), ' ') FROM datacake.quarantine}, '00000004', 'a TRUNCATE takes it, and not what comes later');
	$c->sql(1, 'DELETE FROM a');
	$c->verify_ok('the nodes are equal');
};

subtest 'under load' => sub {
	my @writers = map { my $i = $_; $c->start_writer($i,
		map { "INSERT INTO a VALUES (1000 * $i + $_, 'w$i') ON CONFLICT (id) DO UPDATE SET v = 'again' RETURNING id" } 1 .. 400) } 1 .. 3;
	foreach my $round (1 .. 6)
	{
		$c->wait_writer($writers[ $round % 3 ], 50 * $round);
		$c->sql(1 + $round % 2, 'TRUNCATE a CASCADE');
	}
	ok($c->finish_writer($_), 'no write fails') foreach @writers;
	$c->verify_ok('the nodes are equal');
	$c->await_all(q{SELECT live = (SELECT count(*) FROM a) FROM datacake.keyspaces WHERE relation = 'a'::regclass}, 't', 'entries are rows');
	cmp_ok($c->sql(1, 'SELECT count(*) FROM a'), '<', 1200, 'and some were taken');
};

done_testing();
