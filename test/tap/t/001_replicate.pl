# Three nodes, any of them takes writes, all hold the same rows.
use strict;
use warnings;

use DatacakeCluster;
use Test::More;

my $c = DatacakeCluster->new(nodes => 3);

subtest 'a table made on one node takes writes on all' => sub {
	$c->sql(1, q{CREATE TABLE t (id int PRIMARY KEY, v text NOT NULL DEFAULT 'none', n int)});
	$c->replicate('t');
	$c->sql($_, "INSERT INTO t (id, n) SELECT 100 * $_ + g, g FROM generate_series(1, 50) g") foreach 1 .. 3;
	$c->verify_ok('inserts of three nodes are everywhere');
	$c->await_all('SELECT count(*), min(v) FROM t', '150|none', 'with the default of the definition');
	$c->sql(2, 'UPDATE t SET n = n + 1 WHERE id < 200');
	$c->sql(3, 'DELETE FROM t WHERE id >= 300');
	$c->verify_ok('updates and deletes by other nodes than the one that inserted');
	$c->await_all('SELECT count(*), sum(n) FROM t', '100|' . (50 + 2 * 1275), 'to the right rows');
	is($c->sql(1, 'SELECT live, dead <= 50, conflicts FROM datacake.keyspaces'), '100|t|0',
		'and its metadata counts live and dead keys, some purged already, no conflict');
};

# Jiffies until the kernel asks the other end of a connection to this node.
sub asks_in
{
	my ($i) = @_;
	my $here = sprintf ':%04X', $c->node($i)->port;
	open(my $file, '<', '/proc/net/tcp') or die $!;
	my @established = grep { $_->[1] =~ /$here$/ && $_->[3] eq '01' } map { [split] } <$file>;
	close $file;
	return map { hex((split /:/, $_->[5])[1]) } @established;
}

subtest 'a peer that vanishes without a word' => sub {
	my @soon = asks_in(2);
	cmp_ok(scalar @soon, '>=', 2, 'is asked for');
	is(scalar(grep { $_ > 600 } @soon), 0, 'within six seconds, also where it is the one that connected');
};

subtest 'verify() is false while nodes differ' => sub {
	$c->sql(1, q{SET datacake.capture = off; UPDATE t SET v = 'here only' WHERE id = 101});
	$c->differ_ok('a write with capture off stays on its node');
	$c->differ_ok('and the other nodes see the difference, too', 2);
	$c->sql(1, q{UPDATE t SET v = 'everywhere' WHERE id = 101});
	$c->verify_ok('an ordinary write of the row repairs it');
};

subtest 'pause() makes nodes differ, resume() makes them equal' => sub {
	$c->pause(1);
	$c->sql(1, 'INSERT INTO t (id) VALUES (1)');
	$c->await_differ('SELECT count(*) FROM t', 'a paused node keeps its writes');
	$c->sql(2, 'INSERT INTO t (id) VALUES (2)');
	$c->await(3, 'SELECT count(*) FROM t WHERE id = 2', 1, 'the others go on without it');
	is($c->sql(1, 'SELECT count(*) FROM t WHERE id = 2'), 0, 'and it does not get their writes');
	is($c->sql(3, 'SELECT count(*) FROM t WHERE id = 1'), 0, 'nor they its writes');
	$c->resume(1);
	$c->verify_ok('after resume() both are everywhere');
};

subtest 'every way to write is captured' => sub {
	$c->sql(1, q{CREATE TABLE parent (id int PRIMARY KEY, v text);
		CREATE TABLE child (id int PRIMARY KEY, p int, v text)});
	$c->replicate($_) foreach qw(parent child);
	$c->sql(1, q{ALTER TABLE child ADD FOREIGN KEY (p) REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE});
	$c->sql(1, "COPY parent (id, v) FROM stdin;\n1\tone\n2\ttwo\n3\t\\N\n\\.\n");
	$c->sql(1, q{INSERT INTO child SELECT 10 * p + k, p, 'child' FROM generate_series(1, 3) p, generate_series(1, 3) k});
	$c->sql(1, q{INSERT INTO parent VALUES (1, 'again'), (4, 'four') ON CONFLICT (id) DO UPDATE SET v = excluded.v});
	$c->sql(1, q{INSERT INTO parent VALUES (1, 'ignored') ON CONFLICT DO NOTHING});
	$c->sql(1, q{MERGE INTO parent USING (VALUES (4, 'merged'), (5, 'five')) n(id, v) ON parent.id = n.id
		WHEN MATCHED THEN UPDATE SET v = n.v WHEN NOT MATCHED THEN INSERT VALUES (n.id, n.v)});
	$c->sql(1, q{WITH gone AS (DELETE FROM child WHERE id = 11 RETURNING *)
		INSERT INTO child SELECT id + 100, p, 'moved' FROM gone});
	$c->sql(1, 'DELETE FROM parent WHERE id = 2');
	$c->sql(1, 'UPDATE parent SET id = 30 WHERE id = 3');
	$c->sql(1, q{DO $$ BEGIN FOR i IN 6 .. 9 LOOP INSERT INTO parent VALUES (i, 'loop'); COMMIT; END LOOP; END $$});
	$c->verify_ok('COPY, ON CONFLICT, MERGE, WITH, cascades, key changes, DO with COMMIT');
	$c->await_all(q{SELECT string_agg(id || coalesce(v, '-'), ' ' ORDER BY id) FROM parent},
		'1again 4merged 5five 6loop 7loop 8loop 9loop 30-', 'with the rows that were meant');
	$c->await_all(q{SELECT string_agg(id || '/' || p, ' ' ORDER BY id) FROM child},
		'12/1 13/1 31/30 32/30 33/30 111/1', 'also those that a foreign key changed');
};

subtest 'types, NULLs and large values arrive as they were' => sub {
	$c->sql(1, q{CREATE TABLE kinds (id uuid PRIMARY KEY, t text, vc varchar(20), c char(6), j json, jb jsonb,
		a int[], aa text[][], n numeric, nn numeric(12,4), b bytea, ts timestamptz, d date, iv interval, r int4range,
		bo boolean, f float8, f4 float4, ip inet, pt point, bi bit(5), m money, big text, g int GENERATED ALWAYS AS (length(t)) STORED)});
	$c->replicate('kinds');
	$c->sql(2, q{INSERT INTO kinds VALUES ('00000000-0000-0000-0000-000000000001', 'Grüße, 世界 '' " \\', 'varying', 'char',
		'{"b": 1,  "a": [null]}', '{"b": 1, "a": [null]}', '{1,NULL,3}', '{{a,b},{"c d",NULL}}', 'NaN', -12345678.9012, '\x00ff0a',
		'infinity', '2024-02-29', '1 mon -3 days 04:05:06.789', '[3,9)', true, '-0', 'Infinity', '2001:db8::1/64', '(1.5,-2)',
		B'10101', '12.34', 'x')});
	$c->sql(2, q{INSERT INTO kinds (id) VALUES ('00000000-0000-0000-0000-000000000002')});
	$c->sql(2, q{INSERT INTO kinds (id, t, a, n, b) VALUES
		('00000000-0000-0000-0000-000000000003', '', '{}', 1e-100, '')});
	$c->sql(2, q{INSERT INTO kinds (id, b, big) SELECT '00000000-0000-0000-0000-000000000004', decode(repeat('00ff', 524288), 'hex'),
		string_agg(md5(g::text), '') FROM generate_series(1, 32768) g});
	$c->verify_ok('rows with values of 23 types');
	$c->await_equal(q{SELECT md5(string_agg(md5(k::text), '' ORDER BY id)) FROM kinds k}, 'their texts are the same everywhere');
	$c->sql(3, q{UPDATE kinds SET t = 'small change' WHERE b IS NOT NULL AND length(b) > 1000});
	$c->verify_ok('an update beside a TOASTed megabyte keeps it');
	$c->await_all(q{SELECT md5(big), length(b), g FROM kinds WHERE t = 'small change'},
		$c->sql(1, q{SELECT md5(string_agg(md5(g::text), '')), 1048576, 12 FROM generate_series(1, 32768) g}),
		'and generated columns follow');
};

subtest 'tables that are there already become one' => sub {
	# another order of columns, dropped ones, rows of its own
	$c->sql(1, q{CREATE TABLE stock (gone text, id int PRIMARY KEY, name text, price numeric); ALTER TABLE stock DROP COLUMN gone;
		INSERT INTO stock SELECT g, 'from 1', g FROM generate_series(1, 100) g});
	$c->sql(2, q{CREATE TABLE stock (price numeric, gone int, name text, id int PRIMARY KEY, old int); ALTER TABLE stock DROP COLUMN gone;
		ALTER TABLE stock DROP COLUMN old; INSERT INTO stock (id, name, price) SELECT g, 'from 2', g FROM generate_series(51, 150) g});
	$c->replicate('stock');
	$c->verify_ok('rows of two nodes are united by stamp');
	$c->await_all('SELECT count(*), min(id), max(id), sum(price) FROM stock', '150|1|150|11325', 'all keys, each once');
	$c->await_all(q{SELECT count(DISTINCT name) FROM stock WHERE id BETWEEN 51 AND 100}, 1, 'and one node won where both had rows');
	$c->sql(2, q{INSERT INTO stock (id, name) VALUES (151, 'new'); UPDATE stock SET price = 0 WHERE id = 1});
	$c->sql(3, q{UPDATE stock SET name = 'new' WHERE id = 2});
	$c->verify_ok('writes go both ways between tables of different layout');
	$c->await_all(q{SELECT count(*) FROM stock WHERE name = 'new' OR price = 0}, 3, 'into the right columns');
};

subtest 'adding and dropping columns on every node by hand' => sub {
	$c->sql_all('ALTER TABLE stock ADD COLUMN extra int');
	$c->sql(1, 'UPDATE stock SET extra = 7 WHERE id = 3');
	$c->verify_ok('a new column');
	$c->await_all('SELECT extra FROM stock WHERE id = 3', 7, 'travels');
	$c->sql_all('ALTER TABLE stock DROP COLUMN price');
	$c->sql(2, 'UPDATE stock SET extra = 8 WHERE id = 3');
	$c->verify_ok('and a column less');
};

subtest 'a column that a peer does not have' => sub {
	$c->sql(1, 'ALTER TABLE stock ADD COLUMN later int');
	$c->sql(1, 'UPDATE stock SET later = 1 WHERE id = 4');
	$c->sql(1, q{INSERT INTO t (id, v) VALUES (3, 'flows')});
	$c->await($_, 'SELECT count(*) FROM datacake.quarantine', 1, "the row waits on node $_") foreach 2, 3;
	$c->await($_, 'SELECT v FROM t WHERE id = 3', 'flows', "other tables go on, node $_") foreach 2, 3;
	$c->differ_ok('verify() does not overlook it');
	$c->sql($_, 'ALTER TABLE stock ADD COLUMN later int') foreach 2, 3;
	$c->sql($_, 'SELECT datacake.retry()') foreach 2, 3;
	$c->await_all('SELECT count(*) FROM datacake.quarantine', 0, 'after the same DDL nothing waits');
	$c->verify_ok('and the rows are the same');
};

subtest 'keyspaces with functions' => sub {
	$c->sql(1, q{SELECT datacake.create_keyspace('kv')});
	$c->await_all(q{SELECT to_regprocedure('kv.put(text, jsonb, text)') IS NOT NULL}, 't', 'the functions are on every node');
	$c->sql(2, q{SELECT kv.put('a', '{"n": 1}')});
	$c->sql(3, q{SELECT kv.put_many(ARRAY['b', 'c', 'b'], ARRAY['2', '3', '4']::jsonb[])});
	$c->await_all(q{SELECT kv.get('a'), kv.get('b'), kv.get('c')}, '{"n": 1}|4|3', 'put and put_many of peers, read everywhere');
	$c->sql(1, q{SELECT kv.del('a'), kv.del_many(ARRAY['b', 'none'])});
	$c->await_all(q{SELECT string_agg(key, ',') FROM kv.get_many(ARRAY['a', 'b', 'c'])}, 'c', 'del and del_many as well');
	$c->sql(2, q{SELECT datacake.create_keyspace('counters', 'bigint', 'integer')});
	$c->await_all(q{SELECT to_regprocedure('counters.put(bigint, integer, text)') IS NOT NULL}, 't', 'with types of one\'s own');
	$c->sql($_, "SELECT counters.put($_, 10 * $_)") foreach 1 .. 3;
	$c->await_all('SELECT sum(value) FROM counters.entries', 60, 'and rows from all nodes');
	$c->verify_ok('all of it the same');
	$c->sql(3, q{SELECT datacake.drop_keyspace('counters')});
	$c->await_all(q{SELECT count(*) FROM datacake.keyspace WHERE schema_name = 'counters'}, 0, 'drop_keyspace is known everywhere');
};

subtest 'a table whose owner a node does not have' => sub {
	$c->sql($_, 'CREATE ROLE shop; GRANT CREATE ON SCHEMA public TO shop') foreach 1, 2;
	$c->sql(1, q{SET ROLE shop; CREATE TABLE orders (id int PRIMARY KEY, v text);
		INSERT INTO orders SELECT g, 'before' FROM generate_series(1, 10) g; SELECT datacake.replicate_table('orders')});
	$c->await(2, q{SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 'orders'}, 'shop', 'where the role exists it owns the table');
	$c->await(3, q{SELECT message FROM datacake.unrealized}, 'role "shop" does not exist', 'elsewhere the reason is shown');
	$c->sql(2, q{INSERT INTO orders SELECT g, 'after' FROM generate_series(11, 20) g});
	$c->await(3, 'SELECT count(*) FROM datacake.quarantine', 20, 'its rows wait');
	$c->differ_ok('verify() does not overlook them');
	$c->restart(3);
	$c->sql(2, q{INSERT INTO orders VALUES (21, 'later')});
	$c->await(3, 'SELECT count(*) FROM datacake.quarantine', 21, 'a restart forgets neither them nor the keyspace');
	$c->sql(3, 'CREATE ROLE shop; GRANT CREATE ON SCHEMA public TO shop');
	$c->sql(3, 'SELECT datacake.retry()');
	$c->await_all('SELECT count(*) FROM datacake.unrealized', 0, 'after CREATE ROLE and retry() the definition is real');
	$c->await_all('SELECT count(*) FROM orders', 21, 'and all rows are there');
	$c->await_all('SELECT count(*) FROM datacake.quarantine', 0, 'none waits any more');
	$c->sql(3, q{UPDATE orders SET v = 'changed' WHERE id = 5});
	$c->verify_ok('and it replicates like any other');
};

subtest 'one name made a keyspace on two nodes at once' => sub {
	$c->pause($_) foreach 1, 2;
	foreach my $i (1, 2)
	{
		$c->sql($i, "CREATE TABLE twice (id int PRIMARY KEY, v text); INSERT INTO twice VALUES ($i, 'before'), (3, 'node $i');
			SELECT datacake.replicate_table('twice'); INSERT INTO twice VALUES (10 + $i, 'after')");
	}
	$c->resume($_) foreach 1, 2;
	$c->await_all('SELECT count(*) FROM twice', 5, 'their rows are united');
	$c->await_all(q{SELECT count(DISTINCT id) FROM datacake.keyspaces WHERE relation = 'twice'::regclass}, 1, 'it is one keyspace');
	my $least = $c->sql(1, q{SELECT min(id) FROM datacake.keyspace WHERE table_name = 'twice'});
	$c->await_all(q{SELECT id FROM datacake.keyspaces WHERE relation = 'twice'::regclass}, $least, 'the smaller id wins');
	$c->sql($_, "UPDATE twice SET v = 'changed' WHERE id = $_") foreach 1 .. 3;
	$c->verify_ok('and it replicates like any other');
	$c->restart(3);
	$c->sql(1, q{DELETE FROM twice WHERE id > 10});
	$c->await_all('SELECT count(*) FROM twice', 3, 'also after a restart');
};

subtest 'the same, while rows of one of them wait for their table' => sub {
	$c->sql($_, 'CREATE ROLE late; GRANT CREATE ON SCHEMA public TO late') foreach 1, 2;
	$c->pause(1);
	$c->sql(2, q{CREATE TABLE waits (id int PRIMARY KEY, v text); ALTER TABLE waits OWNER TO late; SELECT datacake.replicate_table('waits');
		INSERT INTO waits VALUES (2, 'node 2')});
	$c->await(3, 'SELECT count(*) FROM datacake.quarantine', 1, 'where the owner is missing the row waits');
	$c->sql(1, q{CREATE TABLE waits (id int PRIMARY KEY, v text); SELECT datacake.replicate_table('waits'); INSERT INTO waits VALUES (1, 'node 1')});
	$c->resume(1);
	$c->await_all('SELECT count(*) FROM waits', 2, 'their rows are united');
	$c->verify_ok('and nothing of the other keyspace is left');
};

subtest 'rollback and savepoints leave no trace' => sub {
	$c->sql(1, q{BEGIN; INSERT INTO t (id, v) SELECT g, 'rolled back' FROM generate_series(1000, 1999) g; ROLLBACK});
	$c->sql(1, q{BEGIN; INSERT INTO t (id, v) VALUES (2000, 'kept'); SAVEPOINT a; INSERT INTO t (id, v) VALUES (2001, 'cut');
		UPDATE t SET v = 'cut' WHERE id IN (1, 2000); DELETE FROM t WHERE id = 2; SAVEPOINT b; DELETE FROM t WHERE id = 3; ROLLBACK TO a;
		INSERT INTO t (id, v) VALUES (2002, 'kept'); COMMIT});
	$c->sql(1, q{DO $$ BEGIN BEGIN INSERT INTO t (id, v) VALUES (2003, 'cut'); RAISE EXCEPTION 'no'; EXCEPTION WHEN others THEN NULL; END; END $$});
	$c->verify_ok('all nodes hold the same');
	$c->await_all(q{SELECT string_agg(id || v, ' ' ORDER BY id) FROM t WHERE id >= 1000 OR id IN (2, 3)},
		'2none 3flows 2000kept 2002kept', 'and only what was committed');
};

subtest 'unreplicate_table makes ordinary tables of it' => sub {
	$c->sql(3, q{SELECT datacake.unreplicate_table('stock')});
	$c->await_all(q{SELECT count(*) FROM datacake.keyspace WHERE table_name = 'stock'}, 0, 'every node forgets the keyspace');
	$c->await_all(q{SELECT count(*) FROM pg_attribute WHERE attrelid = 'stock'::regclass AND attname = '_stamp'}, 0, 'and drops the stamps');
	$c->await_all('SELECT count(*) FROM stock', 151, 'the rows stay');
	$c->sql(1, q{UPDATE stock SET name = 'own'});
	$c->sql(1, q{UPDATE t SET v = 'after stock' WHERE id = 1});
	$c->await_all('SELECT v FROM t WHERE id = 1', 'after stock', 'while other tables replicate');
	is($c->sql(2, q{SELECT count(*) FROM stock WHERE name = 'own'}), 0, 'its writes stay where they are');
	$c->replicate('stock', 1);
	$c->verify_ok('and it can become a keyspace again');
};

subtest 'a table that ends to be a keyspace and becomes one again' => sub {
	my $again = q{SELECT datacake.unreplicate_table('stock'), datacake.replicate_table('stock')};

	$c->sql(1, "BEGIN; $again; COMMIT");
	$c->sql(1, q{INSERT INTO stock (id, name) VALUES (1001, 'again')});
	$c->await_all(q{SELECT count(*) FROM stock WHERE id = 1001}, 1, 'in one transaction');
	$c->pause(3);
	$c->sql(1, q{SELECT datacake.unreplicate_table('stock')});
	$c->sql(1, q{SELECT datacake.replicate_table('stock')});
	$c->sql(1, q{INSERT INTO stock (id, name) VALUES (1002, 'away')});
	$c->resume(3);
	$c->await_all(q{SELECT count(*) FROM stock WHERE id = 1002}, 1, 'while a node is away');
	$c->verify_ok('all nodes hold the same');
};

done_testing();
