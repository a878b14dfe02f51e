# DDL on replicated tables: the same command run on each node by itself, and
# nodes that have another version of a table meanwhile.
use strict;
use warnings;
use DatacakeCluster;
use Test::More;

my $c = DatacakeCluster->new(nodes => 3);

sub rows
{
	my ($table) = @_;
	return "SELECT string_agg(to_jsonb(t)::text, ' ' ORDER BY id) FROM (SELECT * FROM $table) t";
}

sub waits
{
	my ($table, $column) = @_;
	return "SELECT count(*) FROM datacake.quarantine q JOIN datacake.keyspaces k ON k.id = q.keyspace"
	  . " WHERE k.relation = '$table'::regclass"
	  . ($column ? " AND q.message LIKE '%column \"$column\"%'" : '');
}

# ---- a new column, one node after the other ----------------------------------

$c->sql(1, 'CREATE TABLE t (id int PRIMARY KEY, a text, c int)');
$c->replicate('t');
$c->sql(1, q{INSERT INTO t VALUES (1, 'one', 10)});
$c->await_all('SELECT count(*) FROM t', 1, 'a row is everywhere');

$c->sql(1, q{ALTER TABLE t ADD COLUMN d text DEFAULT 'dflt'});
$c->sql(1, q{INSERT INTO t (id, a, c, d) VALUES (2, 'two', 20, 'given')});
$c->await($_, waits('t', 'd'), 1, "a row with a column that node $_ lacks waits there, with its error") foreach 2, 3;
$c->await(2, 'SELECT waiting FROM datacake.peers WHERE node_id = 1', 1, 'datacake.peers counts it');
$c->sql(2, q{INSERT INTO t (id, a, c) VALUES (3, 'three', 30)});
$c->await(1, 'SELECT d FROM t WHERE id = 3', 'dflt', 'a column that only the receiver has gets its default');
$c->sql(2, q{UPDATE t SET a = 'uno' WHERE id = 1});
$c->await(1, 'SELECT a, d FROM t WHERE id = 1', 'uno|dflt', 'and keeps to it when such a row is updated');
$c->sql($_, q{ALTER TABLE t ADD COLUMN d text DEFAULT 'dflt'}) foreach 2, 3;
$c->await_all(waits('t'), 0, 'what waited is applied by itself once the column is there');
$c->await_equal(rows('t'), 'all nodes hold the same rows');
$c->verify_ok('a new column, added on each node');

# ---- a column that is dropped, renamed, of another type ------------------------

$c->sql(1, 'ALTER TABLE t DROP COLUMN c');
$c->sql(2, q{INSERT INTO t (id, a, c) VALUES (4, 'four', 40)});
$c->await(1, waits('t', 'c'), 1, 'a row with a column that was dropped here waits, rather than lose data');
$c->sql(2, 'DELETE FROM t WHERE id = 3');
$c->await(1, 'SELECT count(*) FROM t WHERE id = 3', 0, 'a deletion from there is applied all the same');
$c->sql($_, 'ALTER TABLE t DROP COLUMN c') foreach 2, 3;
$c->await_all(waits('t'), 0, 'it is applied once the writer has dropped the column, too');
$c->verify_ok('a column dropped on each node');

$c->sql(1, 'ALTER TABLE t RENAME COLUMN a TO b');
$c->sql(1, q{INSERT INTO t (id, b) VALUES (5, 'five')});
$c->sql(3, q{INSERT INTO t (id, a) VALUES (6, 'six')});
$c->await(3, waits('t', 'b'), 1, 'a row under the new name waits where the old one is in use');
$c->await(1, waits('t', 'a'), 1, 'and the other way round');
$c->sql($_, 'ALTER TABLE t RENAME COLUMN a TO b') foreach 2, 3;
$c->await_all(waits('t'), 0, 'both are applied when all nodes have renamed it');
$c->await_all('SELECT count(*) FROM t WHERE b IS NULL', 0, 'no value is lost under the old name');
$c->verify_ok('a column renamed on each node');

$c->sql_all('ALTER TABLE t ADD COLUMN n int DEFAULT 1');
$c->sql(1, 'ALTER TABLE t ALTER COLUMN n TYPE bigint');
$c->sql(1, q{INSERT INTO t (id, b, n) VALUES (7, 'seven', 7000000000)});
$c->sql(2, q{INSERT INTO t (id, b, n) VALUES (8, 'eight', 8)});
$c->await(2, waits('t', 'n'), 1, 'a value of a new type waits where the column has the old one');
$c->await(1, waits('t', 'n'), 1, 'and the other way round');
$c->sql($_, 'ALTER TABLE t ALTER COLUMN n TYPE bigint') foreach 2, 3;
$c->await_all(waits('t'), 0, 'both are applied when all nodes have the new type');
$c->await_all('SELECT string_agg(n::text, $$ $$ ORDER BY id) FROM t WHERE id > 6', '7000000000 8', 'with the value as ALTER TABLE casts it');
$c->verify_ok('a type changed on each node');

# ---- names --------------------------------------------------------------------

$c->sql_all('CREATE SCHEMA s');
$c->sql(1, 'ALTER TABLE t RENAME TO "T"; ALTER TABLE "T" SET SCHEMA s');
$c->sql(1, q{INSERT INTO s."T" (id, b) VALUES (9, 'nine')});
$c->sql(2, q{INSERT INTO t (id, b) VALUES (10, 'ten')});
$c->await(1, 'SELECT count(*) FROM s."T"', 9, 'a table that has another name on each node is still one keyspace');
$c->await(2, 'SELECT count(*) FROM t', 9, 'and the other way round');
$c->await_all('SELECT count(*) FROM datacake.keyspaces', 1, 'no table is created under the new name');
$c->sql($_, 'ALTER TABLE t RENAME TO "T"; ALTER TABLE "T" SET SCHEMA s') foreach 2, 3;
$c->verify_ok('a table renamed on each node');

# ---- DROP TABLE -----------------------------------------------------------------

$c->sql(1, 'CREATE TABLE u (id int PRIMARY KEY)');
$c->replicate('u');
$c->sql(2, 'INSERT INTO u SELECT generate_series(1, 10)');
$c->await_all('SELECT count(*) FROM u', 10, 'another table is filled');
$c->sql(1, 'DROP TABLE u');
$c->await($_, q{SELECT count(*) FROM datacake.keyspaces WHERE relation = 'u'::regclass}, 0, "dropped on node 1, it is an ordinary table on node $_")
  foreach 2, 3;
is($c->sql(2, 'SELECT count(*) FROM u'), 10, 'where nobody dropped it, its rows stay');
$c->sql(2, 'INSERT INTO u VALUES (11)');
$c->sql_all('DROP TABLE IF EXISTS u');
$c->sql(2, q{INSERT INTO s."T" (id, b) VALUES (11, 'after')});
$c->await_all(q{SELECT count(*) FROM s."T" WHERE id = 11}, 1, 'other keyspaces go on');
is($c->sql($_, 'SELECT count(*) FROM datacake.quarantine'), 0, "nothing waits on node $_") foreach 1 .. 3;
$c->sql(3, 'CREATE TABLE u (id int PRIMARY KEY, v text)');
$c->replicate('u', 3);
$c->sql(1, q{INSERT INTO u VALUES (1, 'anew')});
$c->await_all('SELECT v FROM u', 'anew', 'a table of that name can be replicated again');

# ---- datacake.ddl(): one command for all nodes ------------------------------------

sub ddl
{
	my ($i, $command) = @_;
	return $c->sql($i, qq{SELECT string_agg(node_id || ' ' || status, ', ' ORDER BY node_id) FROM datacake.ddl(\$ddl\$$command\$ddl\$)});
}

sub refused
{
	my ($i, $command, $pattern, $name) = @_;
	my ($rc, undef, $err) = $c->try_sql($i, qq{SELECT * FROM datacake.ddl(\$ddl\$$command\$ddl\$)});
	return like($rc == 3 ? $err : '', $pattern, $name);
}

my $all = '1 done, 2 done, 3 done';
is(ddl(1, 'CREATE TABLE v (id int PRIMARY KEY, a text)'), $all, 'ddl() creates a table on all nodes');
is($c->sql($_, q{SELECT to_regclass('v') IS NOT NULL}), 't', "it is there when ddl() returns, node $_") foreach 1 .. 3;
$c->replicate('v', 2);
$c->sql(3, q{INSERT INTO v SELECT g, 'old' FROM generate_series(1, 1000) g});
$c->await_all('SELECT count(*) FROM v', 1000, 'and can be replicated');
done_testing();
