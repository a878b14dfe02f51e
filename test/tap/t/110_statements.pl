# Every kind of statement does to a replicated table what it does to a plain
# one, and all nodes have the outcome.  Each case runs twice: in schema "p" with
# plain tables, and in schema "r" with replicated ones on one node after the
# other.  What psql prints must be the same, the rows of "r" must be those of
# "p" on every node, and the case names some of them.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use DatacakeCluster;
use Test::More;

my $c = DatacakeCluster->new(nodes => 3, conf => { max_prepared_transactions => 4, 'datacake.repair_interval' => 0 });

my $tables = q{
	CREATE TABLE item (id int PRIMARY KEY, name text DEFAULT 'none', price numeric(10,2) DEFAULT 1, big text);
	CREATE TABLE sale (id int PRIMARY KEY, item int REFERENCES item ON UPDATE CASCADE ON DELETE CASCADE DEFERRABLE, n int CHECK (n < 1000));
	CREATE TABLE pair (a int, b text, v int, PRIMARY KEY (a, b));
	CREATE TABLE code (id serial PRIMARY KEY, code text UNIQUE, v int);
};
foreach my $i (1 .. 3)
{
	$c->sql($i, "CREATE SCHEMA r; SET search_path = r; $tables") if $i > 1;
	$c->sql($i, "CREATE SCHEMA p; SET search_path = p; $tables; CREATE SCHEMA r; SET search_path = r; $tables") if $i == 1;
	$c->sql($i, "ALTER SEQUENCE r.code_id_seq START $i INCREMENT 3 RESTART");
}
$c->sql(1, 'ALTER SEQUENCE p.code_id_seq START 1 INCREMENT 3 RESTART');
$c->replicate("r.$_") foreach qw(item sale pair code);

# All rows of a schema, without stamps.
sub contents
{
	my ($schema) = @_;
	return join ' || ', map { "coalesce((SELECT string_agg((to_jsonb(x) - '_stamp')::text, E'\\n' ORDER BY x.*::text) FROM (SELECT "
		. ($_ eq 'pair' ? 'a, b, v' : $_ eq 'code' ? 'code, v' : $_ eq 'sale' ? 'id, item, n' : 'id, name, price, md5(big)')
		. " FROM $schema.$_) x), '') || E'\\n$_\\n'" } qw(item sale pair code);
}

my $node = 0;

# runs_alike($name, $sql, $query, $rows): the case; $query in schema r gives $rows.
sub runs_alike
{
	my ($name, $sql, $query, $rows) = @_;
	my $i = 1 + $node++ % 3;
	my ($plain_rc, $plain_out, $plain_err) = $c->try_sql(1, "SET search_path = p; $sql");
	my ($rc, $out, $err) = $c->try_sql($i, "SET search_path = r; $sql");
	s/psql:<stdin>:\d+: |\n(DETAIL|CONTEXT).*//g foreach $plain_err, $err;
	# a table has no order
	$_ = join "\n", sort split /\n/ foreach $sql =~ /COPY \w+ TO stdout/ ? ($plain_out, $out) : ();
	subtest "$name, on node $i" => sub {
		is("$rc|$out|$err", "$plain_rc|$plain_out|$plain_err", 'prints what it prints on plain tables');
		$c->await_all("SET search_path = r; $query", $rows, 'all nodes have the rows that were meant');
		is($c->sql(1, "SET search_path = p; $query"), $rows, 'which are those of the plain table');
		$c->await_all('SELECT ' . contents('r'), $c->sql(1, 'SELECT ' . contents('p')), 'and the same in all tables');
	};
	return;
}

my $items = q{SELECT string_agg(id || name, ' ' ORDER BY id) FROM item};

runs_alike('INSERT of many rows, RETURNING',
	q{INSERT INTO item (id, name) VALUES (1, 'a'), (2, 'b'), (3, 'c') RETURNING id, name, price; INSERT INTO item (id) SELECT g FROM generate_series(4, 9) g},
	$items, '1a 2b 3c 4none 5none 6none 7none 8none 9none');
runs_alike('INSERT ON CONFLICT DO UPDATE, both arms',
	q{INSERT INTO item VALUES (1, 'again'), (10, 'new') ON CONFLICT (id) DO UPDATE SET name = item.name || '+' || excluded.name RETURNING id, name},
	"$items WHERE id IN (1, 10)", '1a+again 10new');
runs_alike('INSERT ON CONFLICT DO NOTHING, DO UPDATE WHERE false',
	q{INSERT INTO item VALUES (1, 'no'), (11, 'yes') ON CONFLICT DO NOTHING RETURNING id;
	  INSERT INTO item VALUES (1, 'no') ON CONFLICT (id) DO UPDATE SET name = 'no' WHERE false RETURNING id},
	"$items WHERE id IN (1, 11)", '1a+again 11yes');
runs_alike('INSERT ON CONFLICT on another unique column',
	q{INSERT INTO code (code, v) VALUES ('x', 1), ('y', 2); INSERT INTO code (code, v) VALUES ('x', 10), ('z', 3) ON CONFLICT (code) DO UPDATE SET v = code.v + excluded.v},
	q{SELECT string_agg(code || v, ' ' ORDER BY code) FROM code}, 'x11 y2 z3');
runs_alike('UPDATE of the primary key, in a chain, swapped, and of a part of it',
	q{UPDATE item SET id = id + 100 WHERE id BETWEEN 4 AND 9; UPDATE item SET id = 8 - id WHERE id = 3;
	  BEGIN; UPDATE item SET id = -1 WHERE id = 1; UPDATE item SET id = 1 WHERE id = 11; UPDATE item SET id = 11 WHERE id = -1; COMMIT;
	  INSERT INTO pair VALUES (1, 'x', 1), (1, 'y', 2); UPDATE pair SET b = b || b WHERE b = 'x' RETURNING a, b, v},
	"$items WHERE id < 20", '1yes 2b 5c 10new 11a+again');
runs_alike('UPDATE that changes nothing',
	q{UPDATE item SET name = name, id = id WHERE id = 2; UPDATE item SET name = 'nobody' WHERE false},
	"$items WHERE id = 2", '2b');
runs_alike('UPDATE FROM, DELETE USING, RETURNING',
	q{UPDATE item SET price = v.p FROM (VALUES (1, 9.5), (2, 8.5)) v(id, p) WHERE v.id = item.id RETURNING item.id, price;
	  DELETE FROM item USING (VALUES (104), (105)) v(id) WHERE v.id = item.id RETURNING item.id, v.*},
	q{SELECT string_agg(id || ':' || price, ' ' ORDER BY id) FROM item WHERE id < 3 OR id > 100}, '1:9.50 2:8.50 106:1.00 107:1.00 108:1.00 109:1.00');
runs_alike('MERGE with all its arms',
	q{MERGE INTO item i USING (VALUES (1), (2), (106), (120), (121)) v(id) ON i.id = v.id
	  WHEN MATCHED AND v.id = 106 THEN DELETE WHEN MATCHED AND v.id = 2 THEN DO NOTHING WHEN MATCHED THEN UPDATE SET name = 'merged'
	  WHEN NOT MATCHED AND v.id = 121 THEN DO NOTHING WHEN NOT MATCHED THEN INSERT (id, name) VALUES (v.id, 'merged new')},
	"$items WHERE id IN (1, 2, 106, 120, 121)", '1merged 2b 120merged new');
runs_alike('COPY in and out, without a list',
	qq{COPY item FROM stdin;\n200\tcopied\t2.50\t\\N\n201\t\\N\t\\N\tbig\n\\.\nCOPY item TO stdout;\nCOPY item (id) FROM stdin;\n202\n\\.\n},
	"$items WHERE id BETWEEN 200 AND 210", '200copied 202none');
runs_alike('COPY that fails in the middle',
	qq{COPY item FROM stdin;\n203\tnever\t1\t\\N\n1\tthere already\t1\t\\N\n\\.\n},
	"$items WHERE id = 203", '');
runs_alike('foreign keys: CASCADE of key changes and deletes, within a transaction',
	q{INSERT INTO sale SELECT g, 1, g FROM generate_series(1, 3) g; INSERT INTO sale VALUES (4, 2, 4); UPDATE item SET id = 21 WHERE id = 1;
	  BEGIN; DELETE FROM item WHERE id = 2; INSERT INTO item (id, name) VALUES (2, 'b again'); INSERT INTO sale VALUES (5, 2, 5); COMMIT},
	q{SELECT string_agg(id || '/' || item, ' ' ORDER BY id) FROM sale}, '1/21 2/21 3/21 5/2');
runs_alike('deferred constraints: kept at the commit, and violated there',
	q{BEGIN; SET CONSTRAINTS ALL DEFERRED; INSERT INTO sale VALUES (6, 300, 1); INSERT INTO item (id, name) VALUES (300, 'late'); COMMIT;
	  BEGIN; SET CONSTRAINTS ALL DEFERRED; INSERT INTO sale VALUES (7, 301, 1); COMMIT},
	q{SELECT string_agg(id || '/' || item, ' ' ORDER BY id) FROM sale WHERE id > 5}, '6/300');
runs_alike('SELECT FOR UPDATE and cursors, WHERE CURRENT OF',
	q{BEGIN; SELECT id FROM item WHERE id = 21 FOR UPDATE; SELECT id FROM item WHERE id = 2 FOR NO KEY UPDATE; UPDATE item SET name = 'locked' WHERE id = 21;
	  DECLARE k CURSOR FOR SELECT id, name FROM item WHERE id IN (10, 11) ORDER BY id FOR UPDATE; FETCH k;
	  UPDATE item SET name = 'current' WHERE CURRENT OF k RETURNING id; FETCH k; DELETE FROM item WHERE CURRENT OF k RETURNING id; CLOSE k;
	  DECLARE w CURSOR WITH HOLD FOR SELECT id FROM sale ORDER BY id; COMMIT; FETCH 2 FROM w},
	"$items WHERE id IN (10, 11, 21)", '10current 21locked');
runs_alike('prepared statements, also after ALTER TABLE',
	q{PREPARE ins AS INSERT INTO item (id, name) VALUES ($1, $2) RETURNING id; EXECUTE ins(400, 'a'); EXECUTE ins(401, 'b');
	  PREPARE up (int) AS UPDATE item SET name = name || '!' WHERE id = $1; EXECUTE up(400); ALTER TABLE item ALTER price SET DEFAULT 3;
	  EXECUTE ins(402, 'c'); EXECUTE up(401); ALTER TABLE item ALTER price SET DEFAULT 1},
	q{SELECT string_agg(id || name || price, ' ' ORDER BY id) FROM item WHERE id >= 400}, '400a!1.00 401b!1.00 402c3.00');
runs_alike('writable CTEs over several tables',
	q{WITH gone AS (DELETE FROM item WHERE id IN (107, 108) RETURNING *), moved AS (INSERT INTO item SELECT id + 400, name || ' moved', price FROM gone RETURNING id)
	  INSERT INTO sale SELECT id, id, 1 FROM moved RETURNING id},
	q{SELECT string_agg(s.id || i.name, ' ' ORDER BY s.id) FROM sale s JOIN item i ON i.id = s.item WHERE s.id > 500}, '507none moved 508none moved');
runs_alike('PL/pgSQL: loops, exceptions that undo, functions that write',
	q{CREATE FUNCTION add(n int) RETURNS int LANGUAGE plpgsql AS $$ DECLARE got int; BEGIN
	    FOR i IN 1 .. n LOOP
	      BEGIN
	        INSERT INTO item (id, name) VALUES (600 + i, 'loop'); UPDATE item SET name = 'undone' WHERE id = 2;
	        IF i % 2 = 0 THEN RAISE division_by_zero; END IF; UPDATE item SET name = 'b' || i WHERE id = 2 RETURNING id INTO got;
	      EXCEPTION WHEN division_by_zero THEN UPDATE item SET price = price + 1 WHERE id = 2; END;
	    END LOOP; RETURN got; END $$;
	  SELECT add(5); DROP FUNCTION add},
	"$items WHERE id = 2 OR id > 600", '2b5 601loop 603loop 605loop');
runs_alike('DO with COMMIT and ROLLBACK',
	q{DO $$ BEGIN FOR i IN 1 .. 6 LOOP INSERT INTO item (id, name) VALUES (700 + i, 'do'); IF i % 3 = 0 THEN ROLLBACK; ELSE COMMIT; END IF; END LOOP; END $$},
	"$items WHERE id > 700", '701do 702do 704do 705do');
runs_alike('savepoints, nested, released and rolled back, with an error inside',
	q{\set ON_ERROR_STOP off
	  BEGIN; UPDATE item SET name = 'kept' WHERE id = 701; SAVEPOINT a; DELETE FROM item WHERE id = 701; SAVEPOINT b; UPDATE item SET id = 799 WHERE id = 702;
	  ROLLBACK TO b; INSERT INTO item (id, name) VALUES (710, 'undone'); RELEASE b; ROLLBACK TO a; INSERT INTO item (id, name) VALUES (711, 'kept'); SAVEPOINT c;
	  DELETE FROM item WHERE id = 704; INSERT INTO item (id) VALUES (711); ROLLBACK TO c; UPDATE item SET id = 712 WHERE id = 705; RELEASE c; COMMIT},
	"$items WHERE id > 700", '701kept 702do 704do 711kept 712do');
runs_alike('an error after captured writes undoes them all',
	q{\set ON_ERROR_STOP off
	  BEGIN; UPDATE item SET name = 'never' WHERE id > 700; DELETE FROM sale; INSERT INTO sale VALUES (900, 2, 5000); COMMIT;
	  INSERT INTO item (id) SELECT 10000 / (3 - g) FROM generate_series(1, 3) g; INSERT INTO sale VALUES (900, 12345, 1)},
	"$items WHERE id > 700", '701kept 702do 704do 711kept 712do');
runs_alike('statement timeout in mid-transaction, and a cancelled savepoint',
	q{\set ON_ERROR_STOP off
	  BEGIN; UPDATE item SET name = 'never' WHERE id > 700; SET LOCAL statement_timeout = 1; UPDATE item SET name = 'never' WHERE id = 21 AND pg_sleep(60) IS NOT NULL; COMMIT;
	  BEGIN; UPDATE item SET name = 'survives' WHERE id = 701; SAVEPOINT s; UPDATE item SET name = 'never' WHERE id > 701; SET LOCAL statement_timeout = 1;
	  SELECT pg_sleep(60) FROM item WHERE id = 701; ROLLBACK TO s; COMMIT},
	"$items WHERE id > 700", '701survives 702do 704do 711kept 712do');
runs_alike('a subtransaction that is cancelled, caught by PL/pgSQL',
	q{DO $$ BEGIN UPDATE item SET name = 'outer' WHERE id = 702;
	    BEGIN UPDATE item SET name = 'inner' WHERE id > 702; PERFORM pg_cancel_backend(pg_backend_pid()); PERFORM pg_sleep(60);
	    EXCEPTION WHEN query_canceled THEN UPDATE item SET price = 7 WHERE id = 704; END; END $$},
	q{SELECT string_agg(id || name || price, ' ' ORDER BY id) FROM item WHERE id IN (702, 704)}, '702outer1.00 704do7.00');
runs_alike('repeatable read and serializable transactions',
	q{BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM pair; INSERT INTO pair VALUES (2, 'x', 1); UPDATE pair SET v = v + (SELECT count(*) FROM pair) WHERE a = 2;
	  SAVEPOINT s; DELETE FROM pair WHERE a = 1; ROLLBACK TO s; COMMIT; BEGIN ISOLATION LEVEL REPEATABLE READ; UPDATE pair SET v = v * 2 WHERE a = 2; DELETE FROM pair WHERE b = 'y';
	  INSERT INTO pair VALUES (1, 'y', 9); COMMIT},
	q{SELECT string_agg(a || b || v, ' ' ORDER BY a, b) FROM pair}, '1xx1 1y9 2x8');
runs_alike('PREPARE TRANSACTION without writes to these tables',
	q{BEGIN; CREATE TABLE prepared (id int); SELECT count(*) FROM sale; PREPARE TRANSACTION 'without'; COMMIT PREPARED 'without'; DROP TABLE prepared},
	q{SELECT count(*) FROM pair}, 3);
runs_alike('a session with session_replication_role = replica: foreign keys are not checked, as ever',
	q{SET session_replication_role = replica; INSERT INTO sale VALUES (800, 2, 8); DELETE FROM item WHERE id = 712; UPDATE item SET name = 'by a replica' WHERE id = 711},
	"$items WHERE id > 704", '711by a replica');
runs_alike('TOASTed values, kept by updates of other columns',
	q{INSERT INTO item (id, big) SELECT 1000, string_agg(md5(g::text), '') FROM generate_series(1, 3000) g; UPDATE item SET name = 'beside' WHERE id = 1000;
	  UPDATE item SET id = 1001 WHERE id = 1000; BEGIN; UPDATE item SET big = big || 'x' WHERE id = 1001; SAVEPOINT s; UPDATE item SET big = 'short' WHERE id = 1001;
	  ROLLBACK TO s; UPDATE item SET price = 5 WHERE id = 1001; COMMIT},
	q{SELECT id, name, price, length(big), md5(left(big, 96000)) = md5((SELECT string_agg(md5(g::text), '') FROM generate_series(1, 3000) g)) FROM item WHERE id > 999},
	'1001|beside|5.00|96001|t');
runs_alike('TRUNCATE: CASCADE, rolled back in a savepoint, followed by writes',
	q{BEGIN; INSERT INTO pair VALUES (3, 'before', 1); SAVEPOINT s; TRUNCATE pair, code; ROLLBACK TO s; COMMIT;
	  BEGIN; INSERT INTO item (id, name) VALUES (2000, 'before'); TRUNCATE item CASCADE; INSERT INTO item (id, name) VALUES (1, 'after'); INSERT INTO sale VALUES (1, 1, 1); COMMIT},
	q{SELECT (SELECT count(*) FROM pair), (SELECT count(*) FROM code), (SELECT string_agg(id || name, ' ') FROM item), (SELECT string_agg(id::text, ' ') FROM sale)},
	'4|3|1after|1');
runs_alike('TRUNCATE RESTART IDENTITY restarts the sequence of this node',
	q{TRUNCATE code RESTART IDENTITY; INSERT INTO code (code) VALUES ('restarted'); SELECT last_value - (SELECT seqstart FROM pg_sequence WHERE seqrelid = 'code_id_seq'::regclass) FROM code_id_seq},
	q{SELECT string_agg(code, ' ') FROM code}, 'restarted');
runs_alike('rows that come and go in one transaction, 3000 of them',
	q{BEGIN; INSERT INTO item (id) SELECT g FROM generate_series(3001, 6000) g; UPDATE item SET id = id + 3000 WHERE id > 3000; DELETE FROM item WHERE id > 6000 AND id % 10 <> 0;
	  UPDATE item SET name = 'left' WHERE id > 6000; COMMIT},
	q{SELECT count(*), min(id), max(id), count(DISTINCT name) FROM item WHERE id > 3000}, '300|6010|9000|1');

subtest 'refused, with a hint' => sub {
	$c->error_ok(2, q{BEGIN; INSERT INTO r.item VALUES (1500); PREPARE TRANSACTION 'with'},
		qr/cannot PREPARE a transaction that has written to a replicated table.*HINT/s, 'PREPARE TRANSACTION after such a write');
	is($c->sql(2, 'SELECT count(*) FROM pg_prepared_xacts'), 0, 'and nothing is left of it');
	$c->sql(1, 'CREATE TABLE r.late (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)');
	$c->error_ok(1, q{SELECT datacake.replicate_table('r.late')}, qr/it has a deferrable unique or exclusion constraint.*HINT/s, 'a table with a deferrable primary key');
};

subtest 'writes of the others while a statement waits' => sub {
	# a row locked here does not keep other rows waiting, and the lock timeout of a user is a user's
	my $lock = $c->session(2);
	$lock->query_safe(q{BEGIN; SELECT id FROM r.item WHERE id = 1 FOR UPDATE});
	$c->error_ok(2, q{BEGIN; UPDATE r.item SET name = 'never' WHERE id = 6010; SET LOCAL lock_timeout = 10; UPDATE r.item SET name = 'never' WHERE id = 1; COMMIT},
		qr/lock timeout/, 'a lock timeout in mid-transaction');
	$c->sql(1, q{UPDATE r.item SET name = 'from node 1' WHERE id IN (1, 6020)});
	$c->await(2, 'SELECT name FROM r.item WHERE id = 6020', 'from node 1', 'other rows of the transaction are applied');
	$lock->query_safe('COMMIT');
	$lock->quit;
	$c->await_all(q{SELECT string_agg(name, ' ' ORDER BY id) FROM r.item WHERE id IN (1, 6010, 6020)}, 'from node 1 left from node 1', 'and in the end all of them');
};

$c->verify_ok('every node holds the same rows');
$c->await_all('SELECT count(*) FROM datacake.quarantine', 0, 'nothing waits');
is($c->sql($_, 'SELECT count(*) FROM datacake.conflicts'), 0, "no conflict was seen, node $_") foreach 1 .. 3;

# negative control: what the comparison of contents does not see, it cannot claim
$c->sql(3, q{SET datacake.capture = off; UPDATE r.pair SET v = v + 1 WHERE a = 2});
isnt($c->sql(3, 'SELECT ' . contents('r')), $c->sql(1, 'SELECT ' . contents('p')), 'a row that differs on one node is told');
$c->differ_ok('by verify(), too');

done_testing();
