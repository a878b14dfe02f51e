# What sessions have begun while a node wakes up, or while its extension or one
# of its keyspaces ends and begins anew.
use strict;
use warnings;

use DatacakeCluster;
use Test::More;

my $c = DatacakeCluster->new(nodes => 2, conf => { 'max_prepared_transactions' => 1, 'datacake.max_clock_drift' => 3000 });
my $restarts = q{SELECT sum(restarts) FROM datacake.workers};

$c->sql(1, "CREATE TABLE $_ (id int PRIMARY KEY, v text)") foreach qw(t u);
$c->replicate($_) foreach qw(t u);

subtest 'a statement is cancelled while it waits for the clock' => sub {
	$c->await(1, 'SELECT counted FROM datacake.local_state', 't', 'others count on what the node has');
	$c->stop(2); # so that nobody tells the node, after its start, that its past is whole
	$c->restart(1);
	my $session = $c->session(1, on_error_stop => 0);
	$session->query(q{SET statement_timeout = '400ms'});
	$session->query(q{INSERT INTO t VALUES (1, 'in vain')});
	like($session->{stderr}, qr/statement timeout/, 'it is cancelled, its session stays');
	$c->start_node(2);
	$c->wait_for_nodes;
	my $stamp = $c->sql(1, q{INSERT INTO t VALUES (2, 'later') RETURNING _stamp::bigint});
	is($c->sql(2, "SELECT datacake.await_stamp('$stamp', '30 s')"), 't', 'and holds nothing back');
	$session->quit;
};

subtest 'a change waits whose keyspace ends' => sub {
	my $before = $c->sql(2, $restarts);
	my $session = $c->session(2);
	$session->query_safe(q{BEGIN; SELECT datacake.unreplicate_table('u')});
	$c->sql(1, q{INSERT INTO u VALUES (1, 'waits')});
	$c->await(2, 'SELECT count(*) FROM datacake.quarantine', 1, 'for the lock');
	$session->query_safe('COMMIT');
	$session->quit;
	$c->await(2, 'SELECT count(*) FROM datacake.quarantine', 0, 'it is forgotten');
	$c->await_all(q{SELECT count(*) FROM datacake.keyspaces WHERE relation::text = 'u'}, 0, 'with its keyspace');
	$c->sql(1, q{INSERT INTO t VALUES (3, 'on')});
	$c->await(2, 'SELECT v FROM t WHERE id = 3', 'on', 'and the node goes on');
	is($c->sql(2, $restarts), $before, 'no worker has ended');
};

subtest 'a keyspace ends, and its table cannot become an ordinary one yet' => sub {
	my $ours = q{SELECT count(*) FROM pg_attribute WHERE attrelid = 'held'::regclass AND attname = '_stamp'};
	my $n = 100;
	foreach my $case ([ 'a view', 'CREATE VIEW v AS SELECT * FROM held', 'DROP VIEW v' ], [ 'a reader', 'BEGIN; SELECT count(*) FROM held', 'COMMIT' ])
	{
		my ($what, $begin, $end) = @$case;
		my $session = $c->session(2);
		$c->sql(1, 'CREATE TABLE held (id int PRIMARY KEY, v text)');
		$c->replicate('held');
		$session->query_safe($begin);
		$c->sql(1, q{SELECT datacake.unreplicate_table('held')});
		$c->sql(1, "INSERT INTO t VALUES (@{[ ++$n ]}, 'on')");
		$c->await(2, "SELECT v FROM t WHERE id = $n", 'on', "$what does not hold up other tables");
		is($c->sql(2, $ours), 1, "$what still needs it");
		$c->await(2, 'SELECT count(*) FROM datacake.unrealized', 1, 'that is told');
		$session->query_safe($end);
		$session->quit;
		$c->await(2, 'SELECT count(*) FROM datacake.unrealized', 0, 'then it is settled');
		is($c->sql(2, $ours), 0, 'and the table is an ordinary one');
		$c->sql_all('DROP TABLE held');
	}
};

subtest 'prepared' => sub {
	my $session = $c->session(2, on_error_stop => 0);
	$session->query(q{SET datacake.capture = off; BEGIN; DROP TABLE t; PREPARE TRANSACTION 'p'});
	like($session->{stderr}, qr/cannot PREPARE a transaction in which a table/, 'the end of a keyspace cannot be');
	is($session->query('SELECT 1'), 1, 'its session goes on');
	$session->quit;
	is($c->sql(2, q{SELECT count(*) FROM datacake.keyspaces WHERE relation = 't'::regclass}), 1, 'and so does the keyspace');
};

subtest 'the key file is bad, and the launcher ends' => sub {
	my $file = $c->sql(2, 'SHOW datacake.cluster_key_file');
	my $session = $c->session(2);
	$session->query_safe(q{INSERT INTO t VALUES (10, 'before')});
	$session->query_safe(q{BEGIN; INSERT INTO t VALUES (11, 'open')});
	my $mode = (stat $file)[2] & 07777;
	chmod 0644, $file;
	$c->kill_worker(2, 'launcher', 'TERM');
	$c->await(2, q{SELECT pid IS NOT NULL FROM datacake.workers WHERE name = 'launcher'}, 't', 'it is back');
	chmod $mode, $file;
	$session->query_safe('COMMIT');
	$session->query_safe(q{INSERT INTO t VALUES (12, 'after')});
	$session->quit;
	$c->await(1, 'SELECT count(*) FROM t WHERE id IN (10, 11, 12)', 3, 'what was open counts');
	$c->await(2, q{SELECT live = (SELECT count(*) FROM t) FROM datacake.keyspaces WHERE relation = 't'::regclass}, 't', 'and has its entries');
};

subtest 'DDL is faster than the launcher' => sub {
	$c->sql(1, "CREATE TABLE $_ (id int PRIMARY KEY, v text)") foreach qw(early gone);
	$c->replicate($_) foreach qw(early gone);
	$c->sql(1, q{BEGIN; LOCK TABLE datacake.vector; PREPARE TRANSACTION 'held'});
	$c->kill9(1);
	$c->start_node(1);
	my @sessions = map { $c->begin(1, $_) } 'ALTER TABLE early RENAME v TO w', 'DROP TABLE gone';
	my $refused = $c->session(1, on_error_stop => 0);
	$refused->query_until(qr/^sent$/m, "\\echo sent\nALTER TABLE t DROP COLUMN _stamp;\n");
	$c->await(1, q{SELECT count(*) FROM pg_stat_activity WHERE query ~ '^(ALTER|DROP)' AND state = 'active' AND wait_event_type = 'Extension'}, 3, 'it waits');
	$c->sql(1, q{COMMIT PREPARED 'held'});
	$_->query_safe('SELECT 1') foreach @sessions;
	$refused->query('SELECT 1');
	like($refused->{stderr}, qr/cannot change replicated table "t"/, 'what must not be is refused');
	$_->quit foreach @sessions, $refused;
	$c->wait_for_nodes;
	$c->await_all(q{SELECT columns @> '[{"name": "w"}]' FROM datacake.keyspace WHERE table_name = 'early'}, 't', 'what may be is known everywhere');
	$c->await_all(q{SELECT count(*) FROM datacake.keyspace WHERE table_name = 'gone'}, 0, 'and so is the end of a keyspace');
};

subtest 'a copy of a renamed table' => sub {
	my $id = $c->sql(2, q{SELECT id FROM datacake.keyspaces WHERE relation = 't'::regclass});
	$c->sql(2, 'ALTER TABLE t RENAME TO moved');
	$c->sql(2, <<~"SQL");
		CREATE TABLE t (id int PRIMARY KEY, v text, _stamp datacake.hlc NOT NULL);
		CREATE TRIGGER "~datacake_stamp" BEFORE INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION datacake.stamp_row();
		CREATE TRIGGER "!datacake_capture" AFTER INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION datacake.capture_row('$id');
		SQL
	$c->restart(2);
	$c->wait_for_nodes;
	is($c->sql(2, "SELECT relation FROM datacake.keyspaces WHERE id = $id"), 'moved', 'is not taken for it');
	$c->sql(2, q{INSERT INTO moved VALUES (20, 'here')});
	$c->await(1, 'SELECT v FROM t WHERE id = 20', 'here', 'which is written as before');
	$c->sql(2, 'DROP TABLE t; ALTER TABLE moved RENAME TO t');
};

subtest 'a table is adopted in vain' => sub {
	my $id = q{(SELECT id FROM datacake.keyspace WHERE table_name = 'orders')};
	my $live = "SELECT live FROM datacake.keyspaces WHERE id = $id";
	$c->sql(1, 'CREATE ROLE shop; GRANT CREATE ON SCHEMA public TO shop');
	$c->sql(1, 'SET ROLE shop; CREATE TABLE orders (id int PRIMARY KEY, v text)');
	$c->sql(2, q{CREATE TABLE orders (id int PRIMARY KEY, v text); INSERT INTO orders VALUES (100, 'own')});
	$c->sql(1, q{SELECT datacake.replicate_table('orders'); INSERT INTO orders SELECT g, 'of the cluster' FROM generate_series(1, 20) g});
	$c->await(2, 'SELECT count(*) FROM datacake.quarantine', 20, 'the rows wait for a role');
	$id = $c->sql(2, "SELECT $id");
	$c->sql(2, <<~"SQL");
		ALTER TABLE orders ADD _stamp datacake.hlc NOT NULL DEFAULT '0';
		CREATE TRIGGER "!datacake_capture" AFTER INSERT OR UPDATE OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION datacake.capture_row('$id');
		SQL
	$c->restart(2);
	$c->wait_for_nodes;
	is($c->sql(2, "SELECT relation IS NULL, live FROM datacake.keyspaces WHERE id = $id"), 't|20', 'also after a restart, whatever triggers the table bears');
	$c->sql(2, q{SELECT datacake.unreplicate_table('orders')});
	$c->sql(2, <<~'SQL');
		CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'not yet'; END$$;
		CREATE CONSTRAINT TRIGGER refuse AFTER DELETE ON datacake.unrealized DEFERRABLE INITIALLY DEFERRED
			FOR EACH ROW EXECUTE FUNCTION refuse();
		ALTER TABLE datacake.unrealized ENABLE ALWAYS TRIGGER refuse;
		SQL
	my $from = $c->log_offset(2);
	$c->sql(2, 'CREATE ROLE shop; SELECT datacake.retry()');
	$c->log_ok(2, qr/ERROR:.*not yet/, 'the transaction fails that has adopted the table', $from);
	$c->await(2, $live, 20, 'what waits is known as before');
	$c->sql(2, 'DROP TRIGGER refuse ON datacake.unrealized');
	$c->sql(2, 'SELECT datacake.retry()');
	$c->await_all('SELECT count(*) FROM orders', 21, 'in the end all rows are everywhere');
	$c->await_all($live, 21, 'with their entries');
	$c->verify_ok('the nodes are equal');
	$c->sql(1, q{SELECT datacake.unreplicate_table('orders')});
};

subtest 'the extension is created anew by a prepared transaction' => sub {
	$c->sql(2, q{SELECT datacake.leave()});
	$c->await(1, q{SELECT state FROM datacake.members WHERE node_id = 2}, 'removed', 'a node leaves');
	$c->sql(2, q{BEGIN; DROP EXTENSION datacake CASCADE; DROP TABLE t; CREATE EXTENSION datacake; PREPARE TRANSACTION 'anew'});
	$c->sql(2, q{COMMIT PREPARED 'anew'});
	$c->await(2, q{SELECT count(*) FROM datacake.local_state}, 1, 'it begins a new life');
	$c->sql(2, q{GRANT datacake_peer TO datacake_repl});
	$c->sql(2, q{SELECT datacake.join('127.0.0.1:} . $c->udp_port(1) . q{', replace => true)});
	$c->wait_for_nodes;
	$c->verify_ok('and is a member again');
};

done_testing();
