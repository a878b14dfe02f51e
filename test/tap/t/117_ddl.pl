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

# ---- each kind, while rows are written ----------------------------------------------

my %writer = map {
	my $i = $_;
	$i => $c->start_writer($i, map { "INSERT INTO v (id) VALUES (" . (1000 * $i + 1000 + $_) . ') RETURNING id' } 1 .. 600)
} 2, 3;
$c->wait_writer($writer{2}, 10);
is(ddl(1, q{ALTER TABLE v ADD COLUMN n int NOT NULL DEFAULT 5}), $all, 'ADD COLUMN');
is(ddl(2, 'ALTER TABLE v RENAME COLUMN a TO b'), $all, 'RENAME COLUMN, from another node');
is(ddl(3, 'ALTER TABLE v ALTER COLUMN n TYPE bigint'), $all, 'ALTER TYPE, from a third');
is(ddl(1, 'CREATE INDEX v_b ON v (b)'), $all, 'CREATE INDEX');
is(ddl(1, 'ALTER TABLE v ADD CONSTRAINT positive CHECK (n > 0)'), $all, 'ADD CONSTRAINT');
is(ddl(1, 'ALTER TABLE v DROP COLUMN b'), $all, 'DROP COLUMN, and the index goes along');
ok($c->finish_writer($writer{$_}), "the writer on node $_ was held up and not disturbed") foreach 2, 3;
is(ddl(1, 'ALTER TABLE v DROP CONSTRAINT positive'), $all, 'DROP CONSTRAINT');
is(ddl(1, 'CREATE SCHEMA "S 2"; '), $all, 'CREATE SCHEMA');
is(ddl(1, 'ALTER TABLE v SET SCHEMA "S 2"'), $all, 'SET SCHEMA');
is(ddl(1, 'ALTER TABLE "S 2".v RENAME TO w'), $all, 'RENAME');
is(ddl(1, q{CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql AS 'SELECT 2 * $1'}), $all, 'CREATE FUNCTION');
is(ddl(1, 'GRANT SELECT ON "S 2".w TO datacake_reader'), $all, 'GRANT');
$c->await_all('SELECT count(*) FROM "S 2".w WHERE n = 5', 2200, 'all rows are everywhere');
$c->await_all('SELECT count(*) FROM datacake.quarantine', 0, 'and none waits');
is($c->sql($_, 'SELECT twice(2)'), 4, "the function is there, node $_") foreach 1 .. 3;
$c->verify_ok('commands between rows');
$c->await_equal(q{SELECT string_agg(number || ' ' || id || ' ' || origin || state, ',' ORDER BY number) FROM datacake.ddl_log WHERE command IS NOT NULL AND state = 'done'},
	'all nodes ran the same commands in the same order');
is($c->sql(1, q{SELECT count(*) FROM datacake.conflicts}), 0, 'nobody quarrels about the definition');

# ---- all or nothing, and what is refused ----------------------------------------------

my $ran = $c->sql(1, 'SELECT max(number) FROM datacake.ddl_log');
$c->sql(3, 'CREATE TABLE blocker (id int)');
refused(1, 'CREATE TABLE blocker (id int)', qr/42P07|command failed on node 3: relation "blocker" already exists.*rolled back on all nodes/s, 'what fails on one node is refused');
is($c->sql($_, q{SELECT to_regclass('blocker') IS NULL}), 't', "and rolled back, node $_") foreach 1, 2;
refused(1, 'ALTER TABLE nowhere ADD COLUMN x int', qr/relation "nowhere" does not exist/, 'what fails everywhere, too');
refused(1, 'ALTER TABLE "S 2".w DROP CONSTRAINT v_pkey', qr/primary key cannot be changed/, 'a change of the primary key, too');
# whom nobody waits for any more learns it within a second, and is busy until then
$c->await($_, q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'datacake questions of node 1' AND state = 'active'}, 0,
	"node $_ runs no command any more") foreach 2, 3;
my $locker = $c->session(2);
$locker->query_safe('BEGIN; LOCK TABLE "S 2".w IN SHARE MODE');
my ($rc, undef, $err) = $c->try_sql(1, q{SELECT * FROM datacake.ddl('ALTER TABLE "S 2".w ADD COLUMN late int', '4 s')});
like($rc == 3 ? $err : '', qr/command was not run on node 2 in time/, 'a lock is waited for as long as the caller says');
$locker->query_safe('COMMIT');
$locker->quit;
$c->await_all(q{SELECT count(*) FROM pg_attribute WHERE attrelid = '"S 2".w'::regclass AND attname = 'late'}, 0, 'then nobody has it');
is($c->sql(1, 'SELECT max(number) FROM datacake.ddl_log WHERE state = $$done$$'), $ran, 'nothing of that has a number');
refused(1, 'CREATE TABLE a (); CREATE TABLE b ()', qr/more or less than one statement/, 'several statements');
refused(1, '', qr/more or less than one statement/, 'none');
refused(1, 'CREATE INDEX CONCURRENTLY i ON "S 2".w (n)', qr/cannot be rolled back/, 'CREATE INDEX CONCURRENTLY');
refused(1, 'VACUUM', qr/cannot be rolled back/, 'VACUUM');
refused(1, 'ALTER SYSTEM SET work_mem = 1', qr/cannot be rolled back/, 'ALTER SYSTEM');
refused(1, 'DROP EXTENSION IF EXISTS datacake CASCADE', qr/about the extension itself/, 'DROP EXTENSION datacake');
refused(1, q{CREATE ROLE r PASSWORD 'x'}, qr/a command with a password/, 'a password, which would stand in the log');
refused(1, 'CREATE TEMP TABLE t (a int)', qr/creates a temporary relation/, 'CREATE TEMP TABLE');
refused(1, 'CREATE TEMP VIEW t AS SELECT 1', qr/creates a temporary relation/, 'CREATE TEMP VIEW');
refused(1, 'INSERT INTO "S 2".w VALUES (0)', qr/is no DDL/, 'INSERT');
refused(1, 'TRUNCATE "S 2".w', qr/is no DDL/, 'TRUNCATE, which replicates by itself');
($rc, undef, $err) = $c->try_sql(1, q{BEGIN; SELECT * FROM datacake.ddl('CREATE TABLE a ()')});
like($rc == 3 ? $err : '', qr/cannot run inside a transaction block/, 'in a transaction block');
$c->sql($_, 'CREATE ROLE app LOGIN; CREATE SCHEMA app AUTHORIZATION app') foreach 1, 2;
($rc, undef, $err) = $c->try_sql(1, q{SET ROLE app; SELECT * FROM datacake.ddl('CREATE TABLE app.a ()')});
like($rc == 3 ? $err : '', qr/permission denied for function ddl/, 'by a role that may not call it');
$c->sql(1, 'GRANT datacake_admin TO app');
($rc, undef, $err) = $c->try_sql(1, q{SET ROLE app; SELECT * FROM datacake.ddl('CREATE TABLE app.a ()')});
like($rc == 3 ? $err : '', qr/role "app" does not exist on node 3/, 'by a role that a node does not have');
$c->sql(3, 'CREATE ROLE app LOGIN; CREATE SCHEMA app AUTHORIZATION app');
is($c->sql(1, q{SET ROLE app; SET search_path = app; SELECT count(*) FROM datacake.ddl('CREATE TABLE a (id int PRIMARY KEY)') WHERE status = 'done'}), 3, 'it runs as the calling role, with its search_path');
is($c->sql($_, q{SELECT tableowner FROM pg_tables WHERE schemaname = 'app' AND tablename = 'a'}), 'app', "whose table it is, node $_") foreach 1 .. 3;

# ---- two at once ------------------------------------------------------------------------

my @both = map { $c->begin($_, qq{SELECT status FROM datacake.ddl('CREATE TABLE both$_ (id int)')}) } 1, 2;
$_->query_safe('SELECT 1') foreach @both;
$_->quit foreach @both;
$c->await_all(q{SELECT count(*) FROM pg_class WHERE relname IN ('both1', 'both2')}, 2, 'two nodes at once: both commands run everywhere');
$c->await_equal(q{SELECT string_agg(number || ' ' || id, ',' ORDER BY number) FROM datacake.ddl_log WHERE state = 'done'}, 'in one order');

# ---- a node that is away ------------------------------------------------------------------

$c->stop(3);
$c->await($_, q{SELECT state IN ('dead', 'left') FROM datacake.nodes WHERE node_id = 3}, 't', "node 3 is away for node $_") foreach 1, 2;
is(ddl(1, 'ALTER TABLE "S 2".w ADD COLUMN k text'), '1 done, 2 done, 3 away', 'the others run it');
is(ddl(2, 'CREATE TABLE blocker (id int)'), '1 done, 2 done, 3 away', 'and another one, that node 3 cannot');
$c->sql(1, q{INSERT INTO "S 2".w (id, k) VALUES (5001, 'new')});
$c->start_node(3);
$c->await(3, 'SELECT k FROM "S 2".w WHERE id = 5001', 'new', 'back again it runs the command, then takes the rows');
is($c->sql(3, q{SELECT value FROM datacake.stat_counters WHERE name = 'rows_quarantined'}), 0, 'none of which had to wait');
$c->await(3, q{SELECT state, error LIKE '42P07: %' FROM datacake.ddl_log WHERE command LIKE '%blocker%' AND state <> 'proposed'}, 'decided|t', 'one that fails there says why');
$c->sql(3, q{INSERT INTO "S 2".w (id, k) VALUES (5003, 'of 3')});
$c->await_all('SELECT count(*) FROM "S 2".w WHERE id > 5000', 2, 'and does not hold up rows');
# a node may just be ending the command before it
$c->_poll(sub {
	($rc, undef, $err) = $c->try_sql(1, q{SELECT * FROM datacake.ddl('CREATE TABLE after_it (id int)', '3 s')});
	return $err !~ /another command is being run/;
});
like($rc == 3 ? $err : '', qr/other commands are being run.*Node 3: .*commands of the cluster are to be run here first/s, 'nor may others pass it');
$c->sql(3, 'DROP TABLE blocker; SELECT datacake.retry()');
$c->await(3, q{SELECT to_regclass('blocker') IS NOT NULL}, 't', 'it is run when its cause is gone');
$c->verify_ok('a node that was away');

# ---- the calling node dies between decision and commit ---------------------------------------

my $epoch = $c->sql(1, 'SELECT datacake.epoch()');
$c->freeze_worker($_, 'launcher') foreach 2, 3;
my $caller = $c->begin(1, q{SELECT * FROM datacake.ddl('ALTER TABLE "S 2".w ADD COLUMN crash int DEFAULT 1')});
$c->await(1, "SELECT datacake.epoch() > $epoch", 't', 'a command is decided and committed nowhere');
$c->kill9(1);
eval { $caller->quit };
$c->thaw_worker($_, 'launcher') foreach 2, 3;
my $has = q{SELECT count(*) FROM pg_attribute WHERE attrelid = '"S 2".w'::regclass AND attname = 'crash'};
$c->await($_, $has, 1, "its caller is dead, node $_ runs it all the same") foreach 2, 3;
$c->sql(2, 'INSERT INTO "S 2".w (id, crash) VALUES (5002, 2)');
$c->start_node(1);
$c->await(1, 'SELECT crash FROM "S 2".w WHERE id = 5002', 2, 'and so does the caller when it is back');
$c->wait_for_nodes;
$c->verify_ok('a caller that died');

# ---- without a majority; a new node ------------------------------------------------------------

$c->add_node(4);
$c->wait_for_nodes;
$c->await(4, 'SELECT count(*) FROM "S 2".w', 2203, 'a new node has the tables as they are');
is($c->sql(4, 'SELECT count(*) FROM datacake.ddl_log WHERE command IS NOT NULL'), 0, 'and runs no old command');
# a node that had time to look may have been at the beginning of a line of its own
$c->await(4, q{SELECT state FROM datacake.ddl_log WHERE number > 0}, 'done', 'it has joined');
is(ddl(4, 'DROP TABLE "S 2".w'), '1 done, 2 done, 3 done, 4 done', 'DROP TABLE, from the new node');
$c->await_all('SELECT count(*) FROM datacake.keyspace WHERE schema_name = $$S 2$$', 0, 'the keyspace goes');
is($c->sql($_, q{SELECT to_regclass('"S 2".w') IS NULL}), 't', "with the table, node $_") foreach 1 .. 4;
$c->sql(1, q{INSERT INTO u VALUES (2, 'after')});
$c->await_all('SELECT count(*) FROM u', 2, 'the others go on');
$c->stop($_) foreach 3, 4;
$c->await(1, q{SELECT count(*) FROM datacake.nodes WHERE state IN ('alive', 'suspect')}, 2, 'two of four are away');
refused(1, 'CREATE TABLE minority (id int)', qr/a majority of the members must be alive/, 'half of the members decide nothing');

done_testing();
