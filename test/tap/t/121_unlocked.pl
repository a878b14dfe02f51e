# Rows of peers are written without their lock while nobody else writes to them.
# If somebody does between the look at the row and the write, the later stamp
# wins all the same.
use strict;
use warnings;

use DatacakeCluster;
use Test::More;

my $c = DatacakeCluster->new(nodes => 2);

# In apply, between both steps, the generated column is computed: there it waits
# as long as somebody holds advisory lock 1.
$c->sql_all(
	q{CREATE FUNCTION gated(v text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$
	BEGIN
		WHILE current_setting('session_replication_role') = 'replica' AND NOT pg_try_advisory_xact_lock_shared(1) LOOP
			PERFORM pg_sleep(0.01);
		END LOOP;
		RETURN upper(v);
	END $$;
	CREATE TABLE t (id int PRIMARY KEY, v text, g text GENERATED ALWAYS AS (gated(v)) STORED);
	CREATE TABLE u (id int PRIMARY KEY, v text) WITH (fillfactor = 30)}); # an UPDATE to another page logs a lock, too
$c->replicate($_) foreach qw(t u);
$c->sql(1, q{INSERT INTO t SELECT g, 'base' FROM generate_series(1, 10) g;
	INSERT INTO u SELECT g, 'base' FROM generate_series(1, 200) g});
$c->await(2, 'SELECT (SELECT count(*) FROM t) + (SELECT count(*) FROM u)', '210', 'rows arrive');

# locks($since): of rows, that node 2 has logged
$c->sql(2, 'CREATE EXTENSION pg_walinspect');

sub locks
{
	my ($since) = @_;
	return $c->sql(2, "SELECT count(*) FROM pg_get_wal_records_info('$since', pg_current_wal_flush_lsn())
		WHERE resource_manager = 'Heap' AND record_type = 'LOCK'");
}

sub now { return $c->sql(2, 'SELECT pg_current_wal_flush_lsn()'); }

my $since = now();
$c->sql(1, q{UPDATE u SET v = 'new' WHERE id <= 100; DELETE FROM u WHERE id > 150; UPDATE u SET v = v || id; SELECT datacake.await('all')});
$c->await_equal('SELECT count(*), sum(hashtext(v)) FROM u', 'updates and deletes arrive');
is(locks($since), 0, 'no row was locked for them');

# an index that no row can violate changes nothing about that
$c->sql_all('CREATE INDEX ON u (v)');
$c->sql(1, q{UPDATE u SET v = 'indexed' WHERE id <= 50; SELECT datacake.await('all')});
$c->await(2, q{SELECT n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_user_tables WHERE relname = 'u'}, '200|300|50',
	'rows of a table with one more index are updated');

# so are those of one that could be violated, as long as none is: a client that
# waits for such a row finds it
$c->sql_all(q{CREATE TABLE x (id int PRIMARY KEY, v text, n int UNIQUE, g text GENERATED ALWAYS AS (gated(v)) STORED)});
$c->replicate('x');
$c->sql(1, q{INSERT INTO x SELECT g, 'base', g FROM generate_series(1, 10) g});
$c->await(2, 'SELECT count(*) FROM x', '10', 'rows arrive');
$c->sql_all('CREATE TABLE child (id int PRIMARY KEY, x int REFERENCES x)');
my $gate = $c->session(2);
$gate->query_safe('SELECT pg_advisory_lock(1)');
$c->sql(1, q{UPDATE x SET v = 'theirs' WHERE id <= 2});
$c->await(2, q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'}, '1', 'apply is at the first row');
my $update = $c->start_writer(2, q{UPDATE x SET v = v || ', ours' WHERE id = 1});
my $child = $c->start_writer(2, 'INSERT INTO child VALUES (1, 2)');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
$gate->quit;
ok($c->finish_writer($child), 'a row that refers to such a row can be written');
ok($c->finish_writer($update), 'and so can the row');
$c->await_all(q{SELECT v ~ 'ours' FROM x WHERE id = 1}, 't', 'both nodes have what was written');
$c->await(2, q{SELECT n_tup_ins, n_tup_del FROM pg_stat_user_tables WHERE relname = 'x'}, '10|0', 'no row was deleted for that');
$c->sql(1, q{UPDATE x SET n = -n; UPDATE x SET n = 11 + n});
$c->await_equal('SELECT sum(id * n) FROM x', 'values that change places arrive');

# the same row, while somebody holds it
my $holder = $c->session(2);
$since = now();
$holder->query_safe('BEGIN; SELECT FROM u WHERE id = 1 FOR UPDATE');
$c->sql(1, q{UPDATE u SET v = 'held' WHERE id = 1});
$c->wait_blocked(2);
$holder->query_safe('COMMIT');
$c->await_all('SELECT v FROM u WHERE id = 1', 'held', 'a row that was held is written after it is free');
cmp_ok(locks($since), '>=', 2, 'with a lock, beside that of the holder');

# An older stamp comes between the look and the write, then a newer one.
foreach my $case ([ 1, 'older', 'theirs' ], [ 2, 'newer', 'ours' ])
{
	my ($id, $name, $winner) = @$case;
	my $gate = $c->session(2);
	$gate->query_safe('SELECT pg_advisory_lock(1)');
	my $ours = $c->session(2);
	$ours->query_safe('BEGIN');
	$ours->query_safe(q{UPDATE t SET v = 'draws' WHERE id = 10}) if $name eq 'older';
	$c->sql(1, "UPDATE t SET v = 'theirs' WHERE id = $id");
	$c->await(2, q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'}, '1', "$name: apply has looked at the row");
	$ours->query_safe("UPDATE t SET v = 'ours' WHERE id = $id");
	$ours->query_safe('COMMIT');
	$gate->query_safe('SELECT pg_advisory_unlock(1)');
	$c->await_all("SELECT v, g FROM t WHERE id = $id", $winner . '|' . uc $winner, "$name: the later stamp wins on both nodes");
	$_->quit foreach $gate, $ours;
}
$holder->quit;
$c->verify_ok('both nodes hold the same rows');

# many writers of few rows, on both nodes
my @writers = map {
	my $node = $_;
	map {
		$c->start_writer($node,
			map { my $id = 1 + int rand 5; rand() < 0.2 ? "DELETE FROM u WHERE id = $id" : "INSERT INTO u VALUES ($id, '$_') ON CONFLICT (id) DO UPDATE SET v = excluded.v" }
			  1 .. 400)
	} 1 .. 2
} 1, 2;
ok($c->finish_writer($_), 'a writer gets through') foreach @writers;
$c->verify_ok('after writers on both nodes');

done_testing();
