# Tables of every kind between nodes: keys, partitions, names, rights, triggers,
# views and rules.  What is refused, and what one node alone can show, is in
# test/regress (02_tables, 15_partitions).
use strict;
use warnings;

use DatacakeCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $c = DatacakeCluster->new(nodes => 2, conf => { 'datacake.gossip_interval' => 50 });

# refused_ok($i, $sql, $pattern, $name)
sub refused_ok
{
	my ($i, $sql, $pattern, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($rc, undef, $err) = $c->try_sql($i, $sql);
	ok($rc != 0 && $err =~ $pattern, $name) or diag "exit $rc: $err";
	return;
}

# waits_ok($i, $n, $name): that many changes wait on node $i
sub waits_ok
{
	my ($i, $n, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return $c->await($i, 'SELECT count(*) FROM datacake.quarantine', $n, $name);
}

subtest 'keys whose equal values differ in bytes are one key on all nodes' => sub {
	$c->sql(1, q{CREATE TABLE by_numeric (k numeric PRIMARY KEY, v text);
		CREATE TABLE by_float (k float8, l char(4), v text, PRIMARY KEY (k, l))});
	$c->replicate($_) foreach qw(by_numeric by_float);
	$c->sql(1, q{INSERT INTO by_numeric VALUES (1.0, 'one'), (100, 'hundred'), (2.5, 'gone'); INSERT INTO by_float VALUES (0, 'a', 'zero')});
	$c->verify_ok('rows are on both nodes');
	$c->sql(2, q{INSERT INTO by_numeric VALUES (1.00, 'other scale') ON CONFLICT (k) DO UPDATE SET k = excluded.k, v = excluded.v;
		UPDATE by_numeric SET v = 'e2' WHERE k = 1e2; DELETE FROM by_numeric WHERE k = 2.500;
		UPDATE by_float SET k = '-0', l = 'a ', v = 'minus'});
	$c->await_all(q{SELECT string_agg(k || ' ' || v, ',' ORDER BY k) FROM by_numeric}, '1.00 other scale,100 e2', 'the other form reaches the same row, and stays as it was written');
	$c->await_all(q{SELECT k || v FROM by_float}, '-0minus', 'so does the other zero');
	$c->pause(1);
	$c->sql(1, q{INSERT INTO by_numeric VALUES (7.0, 'first'); DELETE FROM by_numeric WHERE k = 1});
	$c->sql(2, q{INSERT INTO by_numeric VALUES (7.000, 'second'); UPDATE by_numeric SET v = 'later' WHERE k = 1});
	$c->resume(1);
	$c->await_all(q{SELECT string_agg(k || ' ' || v, ',' ORDER BY k) FROM by_numeric}, '1.00 later,7.000 second,100 e2', 'concurrent writes of both forms leave one row, the later one');
	$c->verify_ok('all nodes are equal');
};

subtest 'long keys, up to the limit' => sub {
	$c->sql(1, q{CREATE TABLE by_long (a text, b uuid, c bytea, v int, PRIMARY KEY (a, b, c))});
	$c->replicate('by_long');
	$c->sql(1, q{INSERT INTO by_long SELECT (SELECT string_agg(md5(n || 'a' || g), '') FROM generate_series(1, 50) g), gen_random_uuid(),
		decode(md5(n::text), 'hex'), n FROM generate_series(1, 30) n});
	$c->await(2, 'SELECT count(*) FROM by_long', 30, 'keys of 1.6 kB arrive');
	$c->sql(2, q{UPDATE by_long SET v = -v WHERE v % 2 = 0; DELETE FROM by_long WHERE v % 3 = 0});
	$c->await_all('SELECT count(*), count(*) FILTER (WHERE v < 0) FROM by_long', '20|10', 'and are updated and deleted');
	refused_ok(1, q{INSERT INTO by_long SELECT (SELECT string_agg(md5(g::text), '') FROM generate_series(1, 63) g), gen_random_uuid(), '', 0},
		qr/54000|key of a replicated table is too long.*limit is 2000/s, 'a longer one is refused, with the limit');
};

subtest 'keys that only a collation or a type of an extension makes equal are refused' => sub {
	$c->sql(1, q{CREATE EXTENSION citext; CREATE TABLE by_citext (k citext PRIMARY KEY)});
	refused_ok(1, q{SELECT datacake.replicate_table('by_citext')}, qr/equal values of its primary key can have different bytes.*HINT/s, 'citext');
	$c->sql(1, 'DROP EXTENSION citext CASCADE');
};

my $logs = q{SELECT string_agg(at || ' ' || id || ' ' || note, ',' ORDER BY at, id) FROM logs};

subtest 'a partitioned table is one keyspace, and its partitions come with it' => sub {
	$c->sql(1, q{SET datestyle = 'German';
		CREATE TABLE logs (at date, id int, note text, PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
		CREATE TABLE logs_2025 PARTITION OF logs FOR VALUES FROM ('2025-01-02') TO ('2026-01-02');
		CREATE TABLE logs_2026 PARTITION OF logs FOR VALUES FROM ('2026-01-02') TO ('2027-01-02') PARTITION BY LIST (id);
		CREATE TABLE logs_2026_few PARTITION OF logs_2026 FOR VALUES IN (1, 2, 3);
		CREATE TABLE logs_2026_more PARTITION OF logs_2026 DEFAULT;
		INSERT INTO logs SELECT '2025-03-03', g, 'old' FROM generate_series(1, 500) g;
		SELECT datacake.replicate_table('logs')});
	$c->await(2, 'SELECT count(*) FROM logs_2025', 500, 'rows that were there before arrive in the same partition');
	is($c->sql(2, q{SELECT string_agg(relid || ' ' || pg_get_expr(c.relpartbound, c.oid), ',' ORDER BY relid::text) FROM pg_partition_tree('logs') t JOIN pg_class c ON c.oid = relid WHERE isleaf}),
		q{logs_2025 FOR VALUES FROM ('2025-01-02') TO ('2026-01-02'),logs_2026_few FOR VALUES IN (1, 2, 3),logs_2026_more DEFAULT}, 'bounds are the same, whatever the date style was');
	$c->sql(2, q{DELETE FROM logs WHERE id > 3; UPDATE logs SET note = 'by 2' WHERE id = 2; UPDATE logs SET at = '2026-03-03' WHERE id = 3});
	$c->sql(1, q{INSERT INTO logs VALUES ('2026-04-04', 4, 'new')});
	$c->await_all($logs, '2025-03-03 1 old,2025-03-03 2 by 2,2026-03-03 3 old,2026-04-04 4 new', 'a row moves to another partition on all nodes');
	is($c->sql(1, q{SELECT string_agg(id || ' ' || tableoid::regclass, ',' ORDER BY id) FROM logs}), '1 logs_2025,2 logs_2025,3 logs_2026_few,4 logs_2026_more', 'each row is where it belongs');
	$c->pause(1);
	$c->sql(1, q{UPDATE logs SET at = '2026-05-05' WHERE id = 1; UPDATE logs SET note = 'earlier' WHERE id = 4});
	$c->sql(2, q{UPDATE logs SET note = 'stayed' WHERE id = 1; DELETE FROM logs WHERE id = 4});
	$c->resume(1);
	$c->await_all($logs, '2025-03-03 1 stayed,2025-03-03 2 by 2,2026-03-03 3 old,2026-05-05 1 old', 'a move against an update of the same row: a new key, and the later write of the old one');
	$c->verify_ok('all nodes are equal');
};

subtest 'TRUNCATE of one partition and of all' => sub {
	$c->sql(1, 'TRUNCATE logs_2025');
	$c->await_all($logs, '2026-03-03 3 old,2026-05-05 1 old', 'the rows of one partition are gone everywhere');
	$c->sql(2, q{BEGIN; TRUNCATE logs; INSERT INTO logs VALUES ('2025-06-06', 6, 'after'); COMMIT});
	$c->await_all($logs, '2025-06-06 6 after', 'all rows are gone, but what was written after that');
	$c->verify_ok('all nodes are equal');
};

subtest 'a partition that only one node has; ATTACH, DETACH and DROP' => sub {
	$c->sql(1, q{CREATE TABLE logs_2027 PARTITION OF logs FOR VALUES FROM ('2027-01-02') TO ('2028-01-02');
		INSERT INTO logs VALUES ('2027-07-07', 7, 'early')});
	waits_ok(2, 1, 'a row that fits no partition of a node waits there');
	is($c->sql(2, q{SELECT sqlstate || ' ' || message FROM datacake.quarantine}), '23514 no partition of relation "logs" found for row', 'and says why');
	$c->sql(2, q{CREATE TABLE logs_later PARTITION OF logs FOR VALUES FROM ('2027-01-02') TO ('2030-01-02'); SELECT datacake.retry()});
	$c->await_all($logs, '2025-06-06 6 after,2027-07-07 7 early', 'it comes in when there is one, with other bounds');
	$c->sql(2, q{CREATE TABLE logs_2024 (note text, id int NOT NULL, at date NOT NULL);
		INSERT INTO logs_2024 SELECT 'attached', g, '2024-04-04' FROM generate_series(1, 300) g;
		ALTER TABLE logs ATTACH PARTITION logs_2024 FOR VALUES FROM ('2024-01-02') TO ('2025-01-02')});
	$c->sql(1, q{CREATE TABLE logs_before PARTITION OF logs FOR VALUES FROM (MINVALUE) TO ('2025-01-02'); SELECT datacake.retry()});
	$c->await_all(q{SELECT count(*) FROM logs WHERE note = 'attached'}, 300, 'the rows of an attached table reach the others');
	$c->sql(1, q{UPDATE logs SET note = 'changed' WHERE at = '2024-04-04' AND id = 5});
	$c->await(2, q{SELECT note FROM logs_2024 WHERE id = 5}, 'changed', 'and are changed from there, though its columns stand in another order');
	$c->verify_ok('all nodes are equal');
	$c->sql(2, 'ALTER TABLE logs DETACH PARTITION logs_2024');
	is($c->sql(2, 'SELECT count(*) FROM logs_2024'), 300, 'a detached table keeps its rows');
	$c->await_all($logs, '2025-06-06 6 after,2027-07-07 7 early', 'they are rows of the replicated table nowhere');
	$c->sql(2, 'DROP TABLE logs_later');
	$c->await_all($logs, '2025-06-06 6 after', 'neither are those of a partition that was dropped');
	$c->sql(2, q{ALTER TABLE logs_2024 ADD COLUMN _stamp datacake.hlc; ALTER TABLE logs_2024 DROP COLUMN _stamp; INSERT INTO logs_2024 VALUES ('x', 1000, '2024-04-04')});
	is($c->sql(2, q{SELECT count(*) FROM datacake.quarantine}), 0, 'nothing waits');
	$c->verify_ok('all nodes are equal');
};

subtest 'nodes with other partitions, or with none' => sub {
	$c->sql(1, q{CREATE TABLE layout (k int PRIMARY KEY, v text) PARTITION BY HASH (k)});
	$c->sql(1, "CREATE TABLE layout_$_ PARTITION OF layout FOR VALUES WITH (MODULUS 3, REMAINDER $_)") foreach 0 .. 2;
	$c->sql(1, 'CREATE UNIQUE INDEX ON layout_1 (v)');
	$c->sql(2, q{CREATE TABLE layout (v text, k int PRIMARY KEY)});
	$c->replicate('layout');
	$c->sql(1, q{INSERT INTO layout SELECT g, g FROM generate_series(1, 3000) g});
	$c->await(2, 'SELECT count(*) FROM layout', 3000, 'rows of three partitions are in one table there');
	$c->sql(2, q{UPDATE layout SET k = k + 10000 WHERE k % 10 = 0; DELETE FROM layout WHERE k % 7 = 0});
	$c->verify_ok('all nodes are equal');
	is($c->sql(1, q{SELECT count(DISTINCT tableoid) FROM layout}), 3, 'and all partitions are in use');
};

subtest 'unique values in partitions whose columns stand in another order' => sub {
	$c->sql(1, q{CREATE TABLE codes (k int, p int, code text, g int GENERATED ALWAYS AS (k * 2) STORED, PRIMARY KEY (k, p), UNIQUE (code, p)) PARTITION BY LIST (p)});
	$c->replicate('codes');
	$c->sql(1, q{CREATE TABLE codes_1 PARTITION OF codes FOR VALUES IN (1)});
	$c->sql(2, q{CREATE TABLE codes_x (junk date, g int GENERATED ALWAYS AS (k * 2) STORED, code text, p int NOT NULL, k int NOT NULL);
		ALTER TABLE codes_x DROP COLUMN junk; ALTER TABLE codes ATTACH PARTITION codes_x FOR VALUES IN (1, 2)});
	$c->sql(1, q{INSERT INTO codes VALUES (1, 1, 'a'), (2, 1, 'b'), (3, 1, 'c')});
	$c->await_all(q{SELECT string_agg(k || code || g, ' ' ORDER BY k) FROM codes}, '1a2 2b4 3c6', 'rows arrive, generated columns are computed');
	$c->pause(1);
	$c->sql(1, q{INSERT INTO codes VALUES (11, 1, 'x')});
	$c->sql(2, q{INSERT INTO codes VALUES (12, 1, 'x'); UPDATE codes SET k = 30 WHERE k = 3});
	$c->resume(1);
	$c->await_all(q{SELECT string_agg(k || code || g, ' ' ORDER BY k) FROM codes}, '1a2 2b4 12x24 30c60', 'of two rows with one value the later one stays');
	$c->sql(1, 'DELETE FROM codes WHERE k = 12');
	$c->sql(2, q{UPDATE codes SET code = 'y' WHERE k = 1});
	$c->await_all(q{SELECT count(*) FROM codes WHERE k IN (1, 2, 30)}, 3, 'others go on');
	$c->sql(1, 'TRUNCATE codes');
	$c->await_all('SELECT count(*) FROM codes', 0, 'TRUNCATE takes all');
	$c->sql(2, q{INSERT INTO codes VALUES (1, 1, 'new')});
	$c->await_all('SELECT code FROM codes', 'new', 'and what follows stays');
	$c->verify_ok('all nodes are equal');
};

subtest 'repair, a restart and a new node see into partitions' => sub {
	$c->sql(1, q{SET datacake.capture = off; UPDATE layout SET v = 'behind' WHERE k = 1; DELETE FROM layout WHERE k = 2;
		INSERT INTO layout (k, v) VALUES (20000, 'unseen')});
	$c->await_differ('SELECT sum(k) FROM layout', 'what was written behind the back is not replicated');
	$c->sql(1, q{SELECT datacake.repair('layout')});
	$c->sql(2, q{SELECT datacake.repair('layout')});
	$c->await_all(q{SELECT string_agg(k || v, ',' ORDER BY k) FROM layout WHERE k IN (1, 2, 20000)}, '1behind,22,20000unseen', 'repair takes a row in, and brings a lost one back');
	$c->verify_ok('all nodes are equal');
	my $live = $c->sql(1, q{SELECT live FROM datacake.keyspaces WHERE relation = 'layout'::regclass});
	$c->node(1)->stop('immediate');
	$c->start_node(1);
	$c->await(1, q{SELECT live FROM datacake.keyspaces WHERE relation = 'layout'::regclass}, $live, 'after a crash all rows are entries again');
	$c->wait_for_nodes;
	$c->add_node(3);
	$c->wait_for_nodes(3);
	$c->await(3, 'SELECT count(*) FROM layout', $c->sql(1, 'SELECT count(*) FROM layout'), 'a new node has copied the rows of all partitions');
	is($c->sql(3, q{SELECT count(*) FROM pg_partition_tree('layout') WHERE isleaf}), 3, 'into the partitions of the one that defined it');
	$c->verify_ok('all nodes are equal');
};

subtest 'names of any kind, and schemas' => sub {
	my $role = q{"Rôle d'""Anne"""};
	my $table = q{"Größe & ""Co"".x; --"."Bestell'ung %s"};
	$c->sql_all(qq{CREATE ROLE $role});
	$c->sql(1, qq{CREATE SCHEMA "Größe & ""Co"".x; --" AUTHORIZATION $role; CREATE SCHEMA two; SET ROLE $role;
		CREATE TABLE $table ("Schlüssel ""1""" int, "_" text, "select" text DEFAULT 'a''b', PRIMARY KEY ("_", "Schlüssel ""1"""), CONSTRAINT "naïve "" check" CHECK ("select" <> ''))});
	$c->sql(1, q{CREATE TABLE two.logs (id int PRIMARY KEY)});
	$c->sql(1, qq{SELECT datacake.replicate_table(to_regclass(\$\$$table\$\$))});
	$c->replicate('two.logs');
	$c->sql(1, qq{INSERT INTO $table VALUES (1, 'ä'); INSERT INTO two.logs VALUES (1)});
	$c->await_all(qq{SELECT concat("Schlüssel ""1""", "_", "select") FROM $table}, q{1äa'b}, 'a table with every trap in its names is everywhere');
	is($c->sql(3, qq{SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = to_regclass(\$\$$table\$\$)}), q{Rôle d'"Anne"}, 'and has its owner');
	$c->sql(3, qq{UPDATE $table SET "select" = 'x' WHERE "_" = 'ä'; DELETE FROM two.logs});
	$c->await_all(qq{SELECT "select" FROM $table}, 'x', 'it is written from there');
	$c->await_all('SELECT count(*) FROM two.logs', 0, 'a table of the same name in another schema is another one');
	$c->verify_ok('all nodes are equal');
};

subtest 'a role writes with its own rights, and apply does not depend on them' => sub {
	$c->sql_all(q{CREATE ROLE anna; GRANT CREATE ON SCHEMA public TO anna; REVOKE USAGE ON SCHEMA datacake FROM PUBLIC});
	$c->sql(1, q{CREATE TABLE rights (id int PRIMARY KEY, who text DEFAULT current_user, secret text)});
	$c->sql(1, q{ALTER TABLE rights OWNER TO anna});
	$c->replicate('rights');
	$c->sql_all(q{CREATE ROLE bert; GRANT SELECT (id, who), INSERT (id), UPDATE (who), DELETE ON rights TO bert;
		ALTER TABLE rights ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON rights TO bert USING (who = 'bert')});
	$c->sql(1, q{SET ROLE anna; INSERT INTO rights VALUES (1, 'anna', 's'); RESET ROLE;
		SET ROLE bert; INSERT INTO rights (id) VALUES (2), (3); UPDATE rights SET who = 'bert' WHERE id = 2; DELETE FROM rights WHERE id IN (1, 3)});
	$c->await_all(q{SELECT string_agg(id || who, ',' ORDER BY id) FROM rights}, '1anna,2bert', 'without any right on schema datacake, within column privileges and row security');
	refused_ok(1, q{SET ROLE bert; UPDATE rights SET secret = 'x'}, qr/permission denied/, 'not beyond his columns');
	refused_ok(1, q{SET ROLE bert; INSERT INTO rights (id, _stamp) VALUES (9, '1')}, qr/permission denied/, 'not the stamp');
	refused_ok(1, q{SET ROLE bert; SELECT * FROM datacake.keyspace}, qr/permission denied/, 'not the schema');
	refused_ok(1, q{ALTER TABLE rights FORCE ROW LEVEL SECURITY}, qr/row security cannot be forced on its owner.*HINT/s, 'row security is not forced later, either');
	refused_ok(1, q{ALTER TABLE rights SET UNLOGGED}, qr/would lose its rows in a crash.*HINT/s, 'nor does the table become unlogged');
	# a fresh stamp for an insert that follows a concurrent delete is the owner's affair
	my $deleter = $c->session(2);
	$deleter->query_safe('BEGIN; DELETE FROM rights WHERE id = 2');
	my $inserter = $c->begin(2, 'SET ROLE bert; INSERT INTO rights (id) VALUES (2)');
	$c->wait_blocked(2);
	$deleter->query_safe('COMMIT');
	$inserter->query_safe('SELECT 1');
	$_->quit foreach $deleter, $inserter;
	$c->await_all(q{SELECT string_agg(id || who, ',' ORDER BY id) FROM rights}, '1anna,2bert', 'an insert of a restricted role that waited for a delete comes after it');
	$c->sql_all(q{GRANT USAGE ON SCHEMA datacake TO PUBLIC});
	$c->verify_ok('all nodes are equal');
};

subtest 'triggers of the user' => sub {
	$c->sql(1, q{CREATE TABLE trig (id int PRIMARY KEY, v text); CREATE TABLE audit (id bigint DEFAULT datacake.next_id() PRIMARY KEY, what text)});
	$c->replicate($_) foreach qw(trig audit);
	$c->sql_all(q{
		CREATE TABLE fired (what text);
		CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF new.v = 'no' THEN RETURN NULL; END IF; new.v := new.v || '+'; RETURN new; END $$;
		CREATE FUNCTION last() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF new.v = 'move+' THEN new.id := new.id + 1000; END IF; new.v := new.v || '!'; RETURN new; END $$;
		CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit (what) VALUES (tg_op || coalesce(new.v, old.v)); RETURN NULL; END $$;
		CREATE FUNCTION fires() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.fired VALUES (tg_argv[0] || ' ' || tg_op); RETURN NULL; END $$;
		CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF new.v = 'twice+!' THEN UPDATE trig SET v = 'nested' WHERE id = new.id; END IF; RETURN NULL; END $$;
		CREATE TRIGGER change BEFORE INSERT OR UPDATE ON trig FOR EACH ROW EXECUTE FUNCTION change();
		CREATE TRIGGER "~~last" BEFORE INSERT OR UPDATE ON trig FOR EACH ROW EXECUTE FUNCTION last();
		CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON trig FOR EACH ROW EXECUTE FUNCTION note();
		CREATE TRIGGER again AFTER INSERT ON trig FOR EACH ROW EXECUTE FUNCTION again();
		CREATE TRIGGER origin AFTER INSERT OR DELETE ON trig FOR EACH ROW EXECUTE FUNCTION fires('origin');
		CREATE TRIGGER always AFTER INSERT OR DELETE ON trig FOR EACH ROW EXECUTE FUNCTION fires('always');
		CREATE TRIGGER replica AFTER INSERT OR DELETE ON trig FOR EACH ROW EXECUTE FUNCTION fires('replica');
		ALTER TABLE trig ENABLE ALWAYS TRIGGER always; ALTER TABLE trig ENABLE REPLICA TRIGGER replica});
	$c->sql(1, q{INSERT INTO trig VALUES (1, 'a'), (2, 'no'), (3, 'move'), (4, 'b'), (5, 'twice')});
	$c->await_all('SELECT count(*) FROM trig', 4, 'rows are everywhere');
	$c->sql(1, 'DELETE FROM trig WHERE id = 4');
	$c->await_all(q{SELECT string_agg(id || v, ',' ORDER BY id) FROM trig}, '1a+!,5nested+!,1003move+!', 'what BEFORE triggers make of a row is what all have; a skipped row is nowhere; a nested write stays');
	$c->await_all(q{SELECT string_agg(what, ',' ORDER BY what) FROM audit}, 'DELETEb+!,INSERTa+!,INSERTb+!,INSERTmove+!,INSERTtwice+!,UPDATEnested+!', 'what a trigger writes to another replicated table is there once');
	is($c->sql(1, q{SELECT string_agg(DISTINCT what, ',' ORDER BY what) FROM fired}), 'always DELETE,always INSERT,origin DELETE,origin INSERT', 'here ALWAYS and ordinary triggers fire');
	$c->await(2, q{SELECT string_agg(DISTINCT what, ',' ORDER BY what) FROM fired}, 'always DELETE,always INSERT,replica DELETE,replica INSERT', 'where rows are applied, ALWAYS and REPLICA triggers');
	$c->sql(2, q{CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
		CREATE TRIGGER skip BEFORE INSERT OR UPDATE OR DELETE ON trig FOR EACH ROW EXECUTE FUNCTION skip(); ALTER TABLE trig ENABLE REPLICA TRIGGER skip});
	$c->sql(1, q{INSERT INTO trig VALUES (20, 'skipped'); UPDATE trig SET v = 'skipped' WHERE id = 1; DELETE FROM trig WHERE id = 5});
	$c->await(2, q{SELECT count(*) FROM datacake.quarantine WHERE message ~ 'leaves out what another node wrote'}, 3, 'what a trigger leaves out there waits');
	$c->sql(2, 'DROP TRIGGER skip ON trig; SELECT datacake.retry()');
	$c->await_equal(q{SELECT string_agg(id || v, ',' ORDER BY id) FROM trig}, 'and comes when it does not');
	refused_ok(1, q{CREATE TRIGGER "!a" AFTER INSERT ON trig FOR EACH ROW EXECUTE FUNCTION again(); INSERT INTO trig VALUES (9, 'x')},
		qr/trigger "!a" of replicated table "trig" fires before its changes are noted.*HINT/s, 'an AFTER trigger that sorts before ours is refused');
	$c->sql(1, q{DROP TRIGGER "!a" ON trig});
	refused_ok(1, q{CREATE FUNCTION forge() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new._stamp := '1'; RETURN new; END $$;
		CREATE TRIGGER "~~~forge" BEFORE INSERT ON trig FOR EACH ROW EXECUTE FUNCTION forge(); INSERT INTO trig VALUES (9, 'x')}, qr/"_stamp" of table "trig" was written by hand/, 'a trigger that sets the stamp is refused');
	$c->sql(1, q{DROP TRIGGER "~~~forge" ON trig});
	$c->verify_ok('all nodes are equal');
};

# What a row has become by what its own statement called, before its AFTER
# triggers fire: [what, trigger or function, statement, rows of ids 1 to 4 in the end].
my @meetings = (
	[ 'rows that come later, updated', 'AFTER INSERT', q{UPDATE %1$s SET v = 'by ' || new.id WHERE id = new.id + 1},
		q{INSERT INTO %1$s VALUES (1, 'a'), (2, 'a'), (3, 'a')}, '1a,2by 1,3by 2' ],
	[ '... twice', 'AFTER INSERT', q{UPDATE %1$s SET v = v || new.id WHERE id > new.id}, q{INSERT INTO %1$s VALUES (1, 'a'), (2, 'a'), (3, 'a')},
		'1a,2a1,3a12' ],
	[ '... deleted', 'AFTER INSERT', q{DELETE FROM %1$s WHERE id = new.id + 1}, q{INSERT INTO %1$s VALUES (1, 'a'), (2, 'a'), (3, 'a')}, '1a' ],
	[ '... deleted and there again', 'AFTER INSERT',
		q{DELETE FROM %1$s WHERE id = new.id + 1 AND new.v = 'a'; INSERT INTO %1$s SELECT new.id + 1, 'again' WHERE new.v = 'a'},
		q{INSERT INTO %1$s VALUES (1, 'a'), (2, 'a')}, '1a,2again,3again' ],
	[ 'rows that die later, there again', 'AFTER DELETE', q{INSERT INTO %1$s VALUES (old.id + 1, 'again') ON CONFLICT DO NOTHING},
		q{INSERT INTO %1$s VALUES (1, 'a'), (2, 'a'); DELETE FROM %1$s}, '2again,3again' ],
	[ '... of another transaction', 'AFTER DELETE', q{INSERT INTO %1$s VALUES (old.id + 1, 'again') ON CONFLICT DO NOTHING},
		q{INSERT INTO %1$s VALUES (1, 'a'), (2, 'a'); COMMIT; BEGIN; DELETE FROM %1$s}, '2again,3again' ],
	[ 'rows that are updated later', 'AFTER UPDATE', q{UPDATE %1$s SET v = 'nested' WHERE id = new.id + 1 AND new.v = 'b'},
		q{INSERT INTO %1$s VALUES (1, 'a'), (2, 'a'), (3, 'a'); COMMIT; BEGIN; UPDATE %1$s SET v = 'b'}, '1b,2nested,3nested' ],
	[ 'rows of before, by a BEFORE trigger', 'BEFORE INSERT', q{UPDATE %1$s SET v = 'by ' || new.id WHERE id = new.id - 1},
		q{INSERT INTO %1$s VALUES (1, 'a'), (2, 'a'), (3, 'a')}, '1by 2,2by 3,3a' ],
	[ 'rows of before, by a function', 'FUNCTION', q{UPDATE %1$s SET v = 'by ' || n WHERE id = n - 1},
		q{INSERT INTO %1$s SELECT g, %1$s_f(g) FROM generate_series(1, 3) g}, '1by 2,2by 3,3f' ],
	[ 'a key that a BEFORE trigger frees', 'BEFORE INSERT', q{DELETE FROM %1$s WHERE id = new.id},
		q{INSERT INTO %1$s VALUES (1, 'a'), (2, 'a'); COMMIT; BEGIN; INSERT INTO %1$s VALUES (1, 'b'), (3, 'b')}, '1b,2a,3b' ],
	[ '... of a row of the same transaction', 'BEFORE INSERT', q{DELETE FROM %1$s WHERE id = new.id},
		q{INSERT INTO %1$s VALUES (1, 'a'), (2, 'a'); INSERT INTO %1$s VALUES (1, 'b'), (3, 'b')}, '1b,2a,3b' ],
	[ '... by moving its row away', 'BEFORE INSERT', q{UPDATE %1$s SET id = id + 2 WHERE id = new.id},
		q{INSERT INTO %1$s VALUES (1, 'a'); COMMIT; BEGIN; INSERT INTO %1$s VALUES (1, 'b')}, '1b,3a' ],
	[ 'keys that a function frees', 'FUNCTION', q{DELETE FROM %1$s WHERE id = n},
		q{INSERT INTO %1$s VALUES (1, 'a'), (2, 'a'); COMMIT; BEGIN; INSERT INTO %1$s SELECT g, %1$s_f(g) FROM generate_series(1, 3) g}, '1f,2f,3f' ],
	[ '... for an UPDATE', 'FUNCTION', q{DELETE FROM %1$s WHERE id = n},
		q{INSERT INTO %1$s VALUES (1, 'a'), (2, 'a'); COMMIT; BEGIN; UPDATE %1$s SET id = 2, v = %1$s_f(2) WHERE id = 1}, '2f' ],
	[ '... and does not', 'FUNCTION', q{BEGIN DELETE FROM %1$s WHERE id = n; RAISE EXCEPTION 'x'; EXCEPTION WHEN others THEN NULL; END},
		q{INSERT INTO %1$s VALUES (1, 'a'); COMMIT; BEGIN; UPDATE %1$s SET v = %1$s_f(1)}, '1f' ],
	[ '... for a row that was written after another one', 'BEFORE INSERT',
		q{IF new.v = 'in' AND new.id = 2 THEN DELETE FROM %1$s WHERE id = 1; ELSIF new.v = 'out' THEN INSERT INTO %1$s VALUES (1, 'in'), (2, 'in'); END IF},
		q{INSERT INTO %1$s VALUES (1, 'out')}, '1out,2in' ],
	[ 'a TRUNCATE in between', 'AFTER UPDATE', q{NULL},
		q{INSERT INTO %1$s VALUES (1, 'a'), (2, 'b'); COMMIT; BEGIN; UPDATE %1$s SET v = 'u'; TRUNCATE %1$s; INSERT INTO %1$s VALUES (1, 'c')}, '1c' ],
	[ 'two of them', 'AFTER UPDATE', q{NULL},
		q{INSERT INTO %1$s VALUES (1, 'a'), (2, 'b'); COMMIT; BEGIN; UPDATE %1$s SET id = id + 2; TRUNCATE %1$s; INSERT INTO %1$s VALUES (1, 'b'), (4, 'b');
			DELETE FROM %1$s WHERE id = 1; TRUNCATE %1$s; INSERT INTO %1$s VALUES (1, 'c')}, '1c' ],
	[ 'COPY', 'AFTER INSERT', q{UPDATE %1$s SET v = 'by ' || new.id WHERE id = new.id + 1},
		q{COPY %1$s (id, v) FROM PROGRAM 'printf "1\ta\n2\ta\n3\ta\n"'}, '1a,2by 1,3by 2' ],
	[ 'COPY FREEZE', 'AFTER INSERT', q{UPDATE %1$s SET v = 'by ' || new.id WHERE id = new.id + 1},
		q{TRUNCATE %1$s; COPY %1$s (id, v) FROM PROGRAM 'printf "1\ta\n2\ta\n3\ta\n"' (FREEZE)}, '1a,2by 1,3by 2' ],
	[ 'locked before, and deleted in a savepoint', 'AFTER INSERT', q{NULL},
		q{INSERT INTO %1$s VALUES (1, 'a'), (2, 'a'); COMMIT; BEGIN; SELECT FROM %1$s FOR KEY SHARE; SAVEPOINT a; DELETE FROM %1$s WHERE id = 1;
			UPDATE %1$s SET id = 3 WHERE id = 2; RELEASE a; INSERT INTO %1$s VALUES (1, 'n')}, '1n,3a' ],
	[ 'keys that move', 'AFTER UPDATE', q{NULL}, q{INSERT INTO %1$s VALUES (1, 'a'), (2, 'b'); UPDATE %1$s SET id = id + 2; UPDATE %1$s SET id = id - 2},
		'1a,2b' ],
	[ 'all that a transaction can do to a row', 'AFTER UPDATE', q{NULL},
		q{INSERT INTO %1$s VALUES (1, 'a'); DELETE FROM %1$s; INSERT INTO %1$s VALUES (1, 'b'); UPDATE %1$s SET v = 'c'; DELETE FROM %1$s;
			INSERT INTO %1$s VALUES (1, 'd')}, '1d' ],
);

subtest 'a statement whose rows are written again before it ends' => sub {
	my $n = 0;
	foreach my $meeting (@meetings)
	{
		my ($what, $when, $body, $sql, $expected) = @$meeting;
		my $table = 'meet_' . ++$n;

		$c->sql(1, "CREATE TABLE $table (id int PRIMARY KEY, v text)");
		$c->replicate($table);
		$body = sprintf $body, $table;
		my $returns = $when =~ /BEFORE/ ? 'RETURN new' : 'RETURN NULL';
		$c->sql(1, $when eq 'FUNCTION'
			? qq{CREATE FUNCTION ${table}_f(n int) RETURNS text LANGUAGE plpgsql AS \$\$ BEGIN $body; RETURN 'f'; END \$\$}
			: qq{CREATE FUNCTION ${table}_f() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN $body; $returns; END \$\$;
				CREATE TRIGGER meets $when ON $table FOR EACH ROW EXECUTE FUNCTION ${table}_f()});
		$c->sql(1, 'BEGIN; ' . sprintf($sql, $table) . '; COMMIT');
		is($c->sql(1, "SELECT string_agg(id || v, ',' ORDER BY id) FROM $table"), $expected, "$what: here");
	}
	$c->verify_ok('all nodes are equal');
	foreach my $i (1 .. $n)
	{
		is($c->sql(2, "SELECT string_agg(id || v, ',' ORDER BY id) FROM meet_$i"), $meetings[$i - 1][4], "$meetings[$i - 1][0]: there");
	}
	is($c->sql(2, q{SELECT count(*) FROM datacake.conflicts}), 0, 'none of it is a conflict');
	is($c->sql(1, qq{SELECT sum(differing) FROM generate_series(1, $n) i, datacake.repair(format('meet_%s', i)::regclass, 2)}), 0, 'nor differs by entries');
	$c->sql(1, q{CREATE TRIGGER later AFTER UPDATE ON meet_1 FOR EACH ROW EXECUTE FUNCTION meet_3_f();
		CREATE OR REPLACE FUNCTION meet_3_f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM meet_1 WHERE id = new.id + 1; RETURN NULL; END $$});
	is($c->sql(1, q{BEGIN; UPDATE meet_1 SET v = 'own' WHERE id < 3; SELECT count(*) FROM datacake.read_newest(NULL::meet_1, ARRAY[1, 2], 'all'); ROLLBACK}), 1,
		'a read in the transaction sees the death of such a row');
};

subtest 'views, rules and functions of others' => sub {
	$c->sql(1, q{CREATE TABLE base (id int PRIMARY KEY, v text)});
	$c->replicate('base');
	$c->sql(1, q{
		CREATE VIEW simple AS SELECT id, v FROM base WHERE id < 100 WITH CHECK OPTION;
		CREATE VIEW joined AS SELECT b.id, b.v || '' AS v FROM base b;
		CREATE FUNCTION instead() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO base VALUES (new.id, 'instead ' || new.v); RETURN new; END $$;
		CREATE TRIGGER instead INSTEAD OF INSERT ON joined FOR EACH ROW EXECUTE FUNCTION instead();
		CREATE RULE also AS ON DELETE TO base DO ALSO INSERT INTO audit (what) VALUES ('rule ' || old.id);
		CREATE RULE no_update AS ON UPDATE TO base WHERE new.v = 'never' DO INSTEAD NOTHING;
		CREATE FUNCTION definer(n int) RETURNS void LANGUAGE sql SECURITY DEFINER AS $$ INSERT INTO base VALUES (n, current_user::text) $$;
		CREATE ROLE carl; GRANT EXECUTE ON FUNCTION definer(int) TO carl});
	$c->sql(1, q{INSERT INTO simple VALUES (1, 'simple'); INSERT INTO joined VALUES (2, 'x'); UPDATE simple SET v = 'updated' WHERE id = 1;
		INSERT INTO base VALUES (3, 'gone'); UPDATE base SET v = 'never' WHERE id = 2; DELETE FROM base WHERE id = 3;
		SET ROLE carl; SELECT definer(4)});
	my $superuser = $c->sql(1, 'SELECT current_user');
	$c->await_all(q{SELECT string_agg(id || ' ' || v, ',' ORDER BY id) FROM base}, "1 updated,2 instead x,4 $superuser", 'writes through them are replicated');
	$c->await_all(q{SELECT string_agg(what, ',') FROM audit WHERE what ~ 'rule'}, 'rule 3', 'what a rule does also is there once');
	$c->sql_all(q{CREATE SCHEMA tools; CREATE EXTENSION hstore SCHEMA tools});
	$c->sql(1, q{CREATE TABLE tools.own (id int PRIMARY KEY, h tools.hstore)});
	$c->replicate('tools.own');
	$c->sql(3, q{INSERT INTO tools.own VALUES (1, 'a=>1')});
	$c->await_all(q{SELECT id || h::text FROM tools.own}, '1"a"=>"1"', "a table in an extension's schema, with its type");
	$c->verify_ok('all nodes are equal');
};

is($c->sql(1, 'SELECT count(*) FROM datacake.quarantine') + $c->sql(2, 'SELECT count(*) FROM datacake.quarantine'), 0, 'nothing waits in the end');
done_testing();
