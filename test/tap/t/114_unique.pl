# Rows that cannot be in one table: which of them are follows from the rows alone,
# on a node that joins, after repair and mending as well; and rows that a
# constraint of one node refuses wait there.
use strict;
use warnings;

use DatacakeCluster;
use Test::More;

my $c = DatacakeCluster->new(nodes => 3, conf => { 'deadlock_timeout' => '200ms' });

# The owner may not read datacake.quarantine.
foreach my $node (1 .. 3)
{
	$c->sql($node, q{CREATE ROLE owner;
		CREATE TABLE u (id int PRIMARY KEY, code text UNIQUE, n int UNIQUE, big text); ALTER TABLE u OWNER TO owner;
		CREATE TABLE k (id int PRIMARY KEY, v text, w int)});
}
$c->replicate($_) foreach qw(u k);

my $big      = q{(SELECT string_agg(md5(g::text), '') FROM generate_series(1, 1000) g)};
my $rows     = q{SELECT string_agg(concat_ws(' ', id, code, n), ', ' ORDER BY id) FROM u};
my $waiting  = q{SELECT count(*) FROM datacake.quarantine WHERE other IS NOT NULL AND told};
my $told     = q{SELECT count(*) FROM datacake.conflicts WHERE kind = 'unique'};
my $nothing  = q{SELECT count(*) FROM datacake.quarantine};

# part([node, statements]...): they write one after the other, apart.
sub part
{
	my (@writes) = @_;
	$c->pause($_) foreach 1 .. 3;
	$c->sql(@$_) foreach @writes;
	$c->resume($_) foreach 1 .. 3;
	return;
}

subtest 'the older row waits, whole, and comes back' => sub {
	part([ 1, "INSERT INTO u VALUES (1, 'x', 1, $big), (5, 'y', 5, NULL)" ], [ 2, q{INSERT INTO u VALUES (2, 'x', 2)} ]);
	$c->await_all($rows, '2 x 2, 5 y 5', 'the newer row has the value');
	$c->await_all($waiting, 1, 'the older one waits');
	is( $c->sql($_, q{SELECT sqlstate, message, tries < 10 FROM datacake.quarantine}),
		'23505|row (2), which is newer, has a unique value of it|t', "node $_ says for whom") foreach 1 .. 3;
	is( $c->sql($_, q{SELECT kind, kept_row->>'id', lost_row->>'id', lost_row->>'code', length(lost_row->>'big') FROM datacake.conflicts}),
		'unique|2|1|x|32000', "node $_ tells it as a conflict, with both rows") foreach 1 .. 3;
	$c->sql($_, 'SELECT datacake.retry()') foreach 1 .. 3, 1 .. 3;
	$c->await($_, 'SELECT count(*) FROM datacake.quarantine WHERE tries > 1 AND retry_at > now()', 1, "node $_ tries again") foreach 1 .. 3;
	is($c->sql($_, $told), 1, "node $_ tells it once") foreach 1 .. 3;
	is($c->sql(3, $rows), '2 x 2, 5 y 5', 'and the newer row stays');

	$c->sql(3, q{UPDATE u SET code = 'z' WHERE id = 2});
	$c->await_all($rows, '1 x 1, 2 z 2, 5 y 5', 'when the value is free the older one is back on all nodes');
	is($c->sql($_, qq{SELECT big = $big FROM u WHERE id = 1}), 't', "whole: node $_") foreach 1 .. 3;
	$c->await_all($nothing, 0, 'and waits no more');
	$c->verify_ok('the nodes are equal');
};

subtest 'rows that jsonb would not take' => sub {
	my $restarts = $c->sql(1, 'SELECT sum(restarts) FROM datacake.workers');
	$c->sql(1, q{CREATE TABLE j (id int PRIMARY KEY, code text UNIQUE, doc json)});
	$c->replicate('j');
	part([ 1, q{INSERT INTO j VALUES (1, 'j', '{"a": "\u0000"}')} ], [ 2, q{INSERT INTO j VALUES (2, 'j', '{"a": 1e400000}')} ]);
	$c->await_all(q{SELECT string_agg(id::text, ' ') FROM j}, '2', 'the newer row has the value');
	$c->await_all(q{SELECT count(*) FROM datacake.conflicts WHERE relation = 'j'::regclass AND lost_row::text ~ 'u0000'}, 1, 'the conflict is told');
	is($c->sql(1, 'SELECT sum(restarts) FROM datacake.workers'), $restarts, 'and no worker ended');
	$c->sql(1, 'DELETE FROM j');
	$c->await_all($nothing, 0, 'none waits any more');
	$c->sql(1, q{SELECT datacake.unreplicate_table('j')});
};

subtest 'a value taken on three nodes' => sub {
	my $three = q{SELECT string_agg(id::text, ' ') FROM u WHERE code = 'three'};
	part(map { [ $_, "INSERT INTO u VALUES (6$_, 'three', 6$_)" ] } 2, 3, 1);
	$c->await_all($three, 61, 'the newest row has it');
	$c->await_all($waiting, 2, 'two wait');
	$c->sql(2, 'DELETE FROM u WHERE id = 61');
	$c->await_all($three, 63, 'the second one comes after it');
	$c->sql(3, 'UPDATE u SET code = NULL WHERE id = 63');
	$c->await_all($three, 62, 'and the third');
	$c->await_all($nothing, 0, 'none waits');
	$c->sql(1, 'DELETE FROM u WHERE id > 60');
	$c->verify_ok('the nodes are equal');
};

subtest 'a node joins' => sub {
	part([ 1, q{INSERT INTO u VALUES (11, 'a', 11), (12, 'p', 12); INSERT INTO u VALUES (19, 'w', 19)} ],
		[ 2, q{INSERT INTO u VALUES (13, 'a', 12); INSERT INTO u VALUES (14, 'b', 19)} ]);
	$c->sql(3, q{INSERT INTO u VALUES (15, 'c', 15)});
	$c->await_all($waiting, 3, 'three rows wait');
	$c->init_node(4);
	$c->start_node(4);
	$c->sql(4, 'CREATE ROLE owner; GRANT CREATE ON SCHEMA public TO owner');
	$c->create_extension(4);
	$c->wait_for_nodes(4);
	my $want = $c->sql(1, $rows);
	$c->await(4, $rows, $want, 'it has the same rows');
	$c->await(4, $waiting, 3, 'and the same rows wait there');
	$c->verify_ok('all nodes are equal');
	$c->sql(2, q{DELETE FROM u WHERE id = 13});
	$c->await_all(q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM u WHERE id > 10}, '11 12 14 15', 'two come back, there as well');
	$c->await_all($waiting, 1, 'one waits');
	is($c->sql(4, $told), 3, 'what had lost is told there');
};

subtest 'repair has nothing to do' => sub {
	my $before = $c->sql(1, $rows);
	is($c->sql(1, "SELECT differing, mended, lost, images FROM datacake.repair('u', $_)"), '0|0|0|0', "between nodes 1 and $_") foreach 2 .. 4;
	is($c->sql($_, $rows), $before, "node $_: the same rows") foreach 1 .. 4;
	is($c->sql($_, $waiting), 1, "node $_: the same row waits") foreach 1 .. 4;
	$c->verify_ok('the nodes are equal');
};

subtest 'an old transaction inserts the key of a row that waits' => sub {
	# its stamp is older than the row that waits, which it cannot see
	my $old = $c->session(1);
	$old->query_safe(q{BEGIN; INSERT INTO k VALUES (100, 'old')});
	part([ 1, q{INSERT INTO u VALUES (21, 'twice', 21)} ], [ 2, q{INSERT INTO u VALUES (22, 'twice', 22)} ]);
	$c->await(1, q{SELECT count(*) FROM datacake.quarantine WHERE message LIKE 'row (22)%'}, 1, 'row 21 waits');
	$old->query_safe(q{INSERT INTO u VALUES (21, 'other', 23)});
	is($old->query_safe(q{SELECT code FROM u WHERE id = 21}), 'other', 'it has its row');
	$old->query_safe('COMMIT');
	$old->quit;
	$c->await_all(q{SELECT string_agg(id || code, ' ' ORDER BY id) FROM u WHERE id > 20}, '22twice', 'the newer version of the key counts: it waits');
	$c->verify_ok('the nodes are equal');
	$c->sql(3, q{DELETE FROM u WHERE id = 22});
	$c->await_all(q{SELECT string_agg(id || code, ' ' ORDER BY id) FROM u WHERE id > 20}, '21twice', 'and comes back');
};

subtest 'a row that waits is given up' => sub {
	part([ 1, q{INSERT INTO u VALUES (31, 'v', 31)} ], [ 2, q{INSERT INTO u VALUES (32, 'v', 32)} ]);
	$c->await_all(q{SELECT count(*) FROM datacake.quarantine WHERE message LIKE 'row (32)%' AND told}, 1, 'row 31 waits');
	$c->sql(3, q{BEGIN; INSERT INTO u VALUES (31, NULL, NULL); DELETE FROM u WHERE id = 31; COMMIT});
	$c->await_all(q{SELECT count(*) FROM datacake.quarantine WHERE message LIKE 'row (32)%'}, 0, 'inserted and deleted, it is forgotten');
	$c->sql(3, q{DELETE FROM u WHERE id = 32});
	$c->await_all(q{SELECT count(*) FROM u WHERE id > 30}, 0, 'and does not come back');
	$c->verify_ok('the nodes are equal');
};

subtest 'a row in the way is locked' => sub {
	$c->sql(1, q{INSERT INTO u VALUES (41, 'l', 41)});
	$c->await_all(q{SELECT count(*) FROM u WHERE id = 41}, 1, 'a row');
	my $locker = $c->session(3);
	$c->freeze_link(1, 2); # so that node 2 may take the value
	$c->sql(1, q{UPDATE u SET code = 'other' WHERE id = 41});
	$c->await(3, q{SELECT code FROM u WHERE id = 41}, 'other', 'freed on node 1');
	$c->sql(1, q{UPDATE u SET n = 42 WHERE id = 41});
	$c->await(3, q{SELECT n FROM u WHERE id = 41}, '42', 'and another value taken');
	$locker->query_safe(q{BEGIN; SELECT FROM u WHERE id = 41 FOR UPDATE});
	$c->sql(2, q{INSERT INTO u VALUES (43, 'm', 42)});
	$c->await(3, q{SELECT sqlstate FROM datacake.quarantine WHERE sqlstate <> '23505'}, '55P03', 'a newer row waits for the lock');
	$c->sql(2, q{INSERT INTO k VALUES (40, 'goes on')});
	$c->await(3, q{SELECT count(*) FROM k WHERE id = 40}, 1, 'others do not');
	$locker->query_safe('COMMIT');
	$locker->quit;
	$c->thaw_link(1, 2);
	$c->await_all(q{SELECT string_agg(id || code, ' ' ORDER BY id) FROM u WHERE id > 40}, '43m', 'then it has the value');
	$c->verify_ok('the nodes are equal');
};

subtest 'what only one node refuses waits there' => sub {
	$c->sql(1, q{INSERT INTO k VALUES (1, 'base', 1), (2, 'base', 2), (3, 'base', 3)});
	$c->await_all('SELECT count(*) FROM k WHERE id < 10', 3, 'rows');
	$c->sql(3, q{ALTER TABLE k ADD CONSTRAINT few CHECK (w < 100); ALTER TABLE k ALTER v SET NOT NULL; CREATE UNIQUE INDEX one_w ON k (w)});
	$c->sql(1, q{UPDATE k SET w = 200 WHERE id = 1; UPDATE k SET v = NULL WHERE id = 2; INSERT INTO k VALUES (4, 'same', 3); INSERT INTO k VALUES (5, 'fine', 5)});
	$c->await(3, q{SELECT string_agg(sqlstate, ' ' ORDER BY sqlstate) FROM datacake.quarantine q JOIN datacake.keyspaces s ON s.id = q.keyspace
		WHERE relation = 'k'::regclass}, '23502 23505 23514', 'a check, a null and a unique value of this node only');
	$c->await(3, 'SELECT string_agg(id || coalesce(v, \'-\') || w, \' \' ORDER BY id) FROM k WHERE id < 10', '1base1 2base2 4same3 5fine5',
		'former versions stay, but that of a unique value; others come in');
	$c->await(4, 'SELECT string_agg(id || coalesce(v, \'-\') || w, \' \' ORDER BY id) FROM k WHERE id < 10', '1base200 2-2 3base3 4same3 5fine5', 'other nodes have all');
	is($c->sql(3, q{SELECT waiting FROM datacake.keyspaces WHERE relation = 'k'::regclass}), 3, 'datacake.keyspaces counts them');
	$c->differ_ok('verify() says that the nodes differ');
	$c->sql(3, q{ALTER TABLE k DROP CONSTRAINT few; ALTER TABLE k ALTER v DROP NOT NULL});
	$c->await(3, 'SELECT string_agg(id || coalesce(v, \'-\') || w, \' \' ORDER BY id) FROM k WHERE id < 10', '1base200 2-2 4same3 5fine5',
		'without the constraint they are applied by themselves');
	$c->sql(3, q{DROP INDEX one_w; SELECT datacake.retry()});
	$c->verify_ok('and by retry()');

	$c->sql(3, q{CREATE TABLE parent (id int PRIMARY KEY); ALTER TABLE k ADD CONSTRAINT has_parent FOREIGN KEY (w) REFERENCES parent NOT VALID});
	$c->error_ok(3, q{INSERT INTO k VALUES (6, 'orphan', 6)}, qr/has_parent/, 'a foreign key of this node only holds for what is written here');
	$c->sql(1, q{INSERT INTO k VALUES (6, 'orphan', 6)});
	$c->verify_ok('and not for what comes from others');
};

subtest 'unique indexes and exclusion constraints come with a table' => sub {
	$c->sql(1, q{CREATE TABLE m (id int PRIMARY KEY, a text, r int4range, CONSTRAINT apart EXCLUDE USING gist (r WITH &&));
		CREATE UNIQUE INDEX m_lower ON m (lower(a)) WHERE id > 0; CREATE INDEX m_a ON m (a)});
	$c->replicate('m');
	is($c->sql($_, q{SELECT string_agg(indexrelid::regclass::text, ' ' ORDER BY indexrelid::regclass::text) FROM pg_index WHERE indrelid = 'm'::regclass}),
		'apart m_lower m_pkey', "node $_ has them, and no others") foreach 2 .. 4;
	part([ 1, q{INSERT INTO m VALUES (1, 'A', '[1,3)'), (2, 'b', '[5,7)')} ], [ 2, q{INSERT INTO m VALUES (3, 'a', '[6,8)')} ]);
	$c->await_all('SELECT string_agg(id::text, \' \') FROM m', 3, 'they count everywhere');
	$c->verify_ok('the nodes are equal');
};

done_testing();
