# The rest of PostgreSQL around replicated tables: dumps, standbys, maintenance,
# logical replication beside ours, copies of a database, changes of owners.
# Restored backups and promoted standbys of a stopped node: 082_identity.
use strict;
use warnings;

use DatacakeCluster;
use PostgreSQL::Test::Utils;
use Test::More;

# six workers are Datacake's
my %wal = ('wal_level' => 'logical', 'max_wal_senders' => 8, 'max_replication_slots' => 8, 'max_worker_processes' => 16);
my $c   = DatacakeCluster->new(nodes => 2, conf => { 'datacake.gossip_interval' => 50, %wal });
# another cluster, of one node, in another database
my $x = DatacakeCluster->new(nodes => 0, wait => 0, cluster_id => 'other', database => 'app', conf => { 'datacake.gossip_interval' => 50, %wal });
$x->init_node(91);
$x->start_node(91);
$x->node(91)->safe_psql('postgres', 'CREATE DATABASE app');

sub refused_ok
{
	my ($cluster, $i, $sql, $pattern, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($rc, undef, $err) = $cluster->try_sql($i, $sql);
	ok($rc != 0 && $err =~ $pattern, $name) or diag "exit $rc: $err";
	return;
}

my $rows = q{SELECT string_agg(id || v, ' ' ORDER BY id) FROM t};

$c->sql(1, q{CREATE TABLE t (id int PRIMARY KEY, v text);
	CREATE TABLE parts (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
	CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
	CREATE TABLE parts_2 PARTITION OF parts DEFAULT});
$c->replicate($_) foreach qw(t parts);
$c->sql(1, q{SELECT datacake.create_keyspace('kv'); SELECT kv.put('a', '1')});
$c->sql(1, q{INSERT INTO t VALUES (1, 'stays'), (2, 'older'), (3, 'dead'), (4, 'dead'); INSERT INTO parts SELECT g, 'p' FROM generate_series(1, 200) g});
$c->await(2, 'SELECT count(*) FROM t', 4, 'the rows of node 1 are on node 2');
$c->sql(2, q{UPDATE t SET v = 'by2' WHERE id = 1});
$c->verify_ok('rows to begin with are everywhere');

my $dump = PostgreSQL::Test::Utils::tempdir('dump') . '/dump';

subtest 'a dump in a new cluster' => sub {
	$c->node(1)->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $c->node(1)->connstr('postgres') ], 'pg_dump');
	unlike(scalar `pg_restore --data-only -f - $dump`, qr/COPY datacake\./, 'no state of the node is in the dump');
	$x->node(91)->command_ok([ 'pg_restore', '--exit-on-error', '-d', $x->node(91)->connstr('app'), $dump ], 'pg_restore, which creates the extension');
	$x->await(91, 'SELECT node_id FROM datacake.local_state', 91, 'the node is another one');
	is($x->sql(91, $rows), '1by2 2older 3dead 4dead', 'rows are back');
	is($x->sql(91, 'SELECT count(*) FROM datacake.keyspaces'), 0, 'tables are not replicated by themselves');
	refused_ok($x, 91, q{INSERT INTO t VALUES (5, 'x')}, qr/"t" bears the triggers of a replicated table, but is none.*HINT.*replicate_table/s, 'nor written as if they were');
	refused_ok($x, 91, q{TRUNCATE t}, qr/bears the triggers/, 'nor truncated');
	$x->sql(91, q{SELECT datacake.replicate_table('t'); SELECT datacake.replicate_table('parts'); SELECT datacake.replicate_table('kv.entries'); SELECT datacake.mark_keyspace('kv')});
	is($x->sql(91, q{INSERT INTO t VALUES (5, 'new'); INSERT INTO parts VALUES (1000, 'new'); SELECT string_agg(relation || ' ' || live, ',' ORDER BY relation::text) FROM datacake.keyspaces}),
		'kv.entries 1,parts 201,t 5', 'one command makes each a keyspace again');
	is($x->sql(91, q{SELECT kv.put('b', '2') IS NOT NULL, kv.get('a')}), 't|1', 'and a keyspace has its functions');
	$x->restart(91);
	$x->sql(91, q{INSERT INTO t VALUES (6, 'new')});
	$x->await(91, q{SELECT live FROM datacake.keyspaces WHERE relation = 't'::regclass}, 6, 'also after a restart');
	$x->sql(91, q{SELECT datacake.unreplicate_table('t'); DROP TABLE t});
};

subtest 'a dump as a new node that joins' => sub {
	$c->init_node(3, 'datacake.seeds' => '');
	$c->start_node(3);
	$c->node(3)->safe_psql('postgres', 'CREATE ROLE datacake_repl LOGIN');
	$c->node(3)->command_ok([ 'pg_restore', '--exit-on-error', '-d', $c->node(3)->connstr('postgres'), $dump ], 'pg_restore, which creates the extension');
	$c->sql(3, 'GRANT datacake_peer TO datacake_repl');
	refused_ok($c, 3, q{UPDATE t SET v = 'x'}, qr/bears the triggers/, 'its tables wait');
	$c->sql(1, q{UPDATE t SET v = 'newer' WHERE id = 2; DELETE FROM t WHERE id IN (3, 4); INSERT INTO t VALUES (7, 'new'); DELETE FROM parts WHERE id > 150; UPDATE parts SET v = 'q' WHERE id = 7});
	$c->sql(1, q{SELECT datacake.wait_for_nodes(2)});
	$c->await($_, 'SELECT sum(dead) FROM datacake.keyspaces', 0, "node $_ has forgotten what died") foreach 1, 2;
	$c->sql(3, q{SELECT datacake.join('127.0.0.1:} . $c->udp_port(1) . q{')});
	$c->wait_for_nodes(3);
	$c->await(3, q{SELECT joining FROM datacake.local_state}, 'f', 'it has joined');
	$c->await_all($rows, '1by2 2newer 7new', 'newer rows win, and what died after the dump does not come back');
	$c->await_all(q{SELECT count(*), count(*) FILTER (WHERE v = 'q') FROM parts}, '150|1', 'nor in a partitioned table');
	$c->verify_ok('all nodes are equal');
	$c->sql(3, q{INSERT INTO t VALUES (8, 'by3'); DELETE FROM t WHERE id = 7});
	$c->await_all($rows, '1by2 2newer 8by3', 'it takes part');
	is($c->sql(3, 'SELECT count(*) FROM datacake.orphan') + $c->sql(3, 'SELECT count(*) FROM datacake.quarantine'), 0, 'nothing was set aside');
};

subtest 'a table that is restored over nothing can be made ordinary' => sub {
	my $table = "$dump.sql";
	$c->node(1)->command_ok([ 'pg_dump', '-t', 't', '-f', $table, $c->node(1)->connstr('postgres') ], 'pg_dump of one table');
	$x->node(91)->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', $table, $x->node(91)->connstr('app') ], 'restored alone');
	$x->sql(91, q{SELECT datacake.unreplicate_table('t'); INSERT INTO t VALUES (50, 'ordinary'); TRUNCATE t});
	is($x->sql(91, q{SELECT count(*) FROM pg_attribute WHERE attrelid = 't'::regclass AND attname = '_stamp' UNION ALL SELECT count(*) FROM pg_trigger WHERE tgrelid = 't'::regclass}), "0\n0", 'nothing of ours is left on it');
	$x->sql(91, 'DROP TABLE t');
};

subtest 'a hot standby, promoted while its node runs' => sub {
	$c->sql(3, q{SELECT datacake.wait_for_nodes(3)});
	$c->clone_node(33, 3, $c->base_backup(3), primary_conninfo => $c->node(3)->connstr, 'datacake.seeds' => $c->gossip_address(1));
	append_to_file($c->node(33)->data_dir . '/standby.signal', '');
	$c->start_node(33);
	$c->sql(1, q{INSERT INTO t VALUES (9, 'seen')});
	$c->await(33, q{SELECT v FROM t WHERE id = 9}, 'seen', 'reads on the standby see what its node has');
	refused_ok($c, 33, 'SELECT datacake.clock()', qr/datacake does not run on a standby server.*HINT/s, 'a function says where it is');
	refused_ok($c, 33, q{SELECT datacake.replicate_table('t')}, qr/standby/, 'so does another');
	refused_ok($c, 33, 'SELECT * FROM datacake.nodes', qr/standby/, 'and a view');
	refused_ok($c, 33, q{INSERT INTO t VALUES (10, 'x')}, qr/read-only transaction/, 'writes are refused by PostgreSQL');
	is($c->sql(33, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ 'datacake'}), 0, 'no worker runs in recovery');
	is($c->sql(1, q{SELECT count(*) FROM datacake.nodes WHERE complaint IS NOT NULL}), 0, 'and nobody knows of it');
	my $old = $c->sql(3, 'SELECT incarnation FROM datacake.local_state');
	$c->node(33)->promote;
	$c->await($_, q{SELECT count(*) > 0 FROM datacake.nodes WHERE complaint IS NOT NULL}, 't', "node $_ is told of two servers with one identity") foreach 1, 3, 33;
	$c->sql(33, q{INSERT INTO t VALUES (11, 'twin')});
	$c->sql(1, q{INSERT INTO t VALUES (12, 'by1')});
	$c->await(2, q{SELECT count(*) FROM t WHERE id = 12}, 1, 'the others go on');
	is($c->sql(2, q{SELECT count(*) FROM t WHERE id = 11}), 0, 'and take nothing from it');
	$c->stop(3);
	$c->drop_node(3);
	$c->{nodes}{3}     = delete $c->{nodes}{33};
	$c->{udp_ports}{3} = delete $c->{udp_ports}{33};
	$c->await(3, "SELECT joining FROM datacake.local_state WHERE incarnation <> $old", 'f', 'when the old one is down it takes its place, as another incarnation');
	$c->wait_for_nodes;
	$c->verify_ok('all nodes are equal');
	$c->sql(3, q{INSERT INTO t VALUES (13, 'promoted')});
	$c->await_all('SELECT v FROM t WHERE id = 13', 'promoted', 'and takes part');
};

subtest 'maintenance while others write' => sub {
	my @writers = map { my $i = $_; $c->start_writer($i, map { "INSERT INTO t VALUES ($_ * 10 + $i, 'w') ON CONFLICT (id) DO UPDATE SET v = 'u' RETURNING 1; UPDATE parts SET v = v || '.' WHERE id = $_ RETURNING 1; DELETE FROM t WHERE id = $_ * 5 + 100 RETURNING 1" } 11 .. 120) } 1, 2;
	foreach my $command ('VACUUM FULL t', 'VACUUM FULL parts', 'CLUSTER t USING t_pkey', 'REINDEX TABLE t', 'REINDEX TABLE CONCURRENTLY t', 'REINDEX INDEX CONCURRENTLY parts_1_pkey', 'REINDEX TABLE parts', 'ANALYZE', 'VACUUM', 'VACUUM FULL datacake.tombstone', 'CREATE INDEX CONCURRENTLY ON t (v)')
	{
		my ($rc, undef, $err) = $c->try_sql(1, $command);
		ok($rc == 0, "$command on node 1") or diag $err;
	}
	ok($c->finish_writer($_), 'no write failed') or diag $_->{errors}->() foreach @writers;
	$c->verify_ok('all nodes are equal');
	is($c->sql(1, q{SELECT count(*) FROM datacake.quarantine}), 0, 'nothing waits');
	my $live = $c->sql(1, q{SELECT live = (SELECT count(*) FROM t) FROM datacake.keyspaces WHERE relation = 't'::regclass});
	is($live, 't', 'every row is an entry');
};

subtest 'a publication of a replicated table' => sub {
	$x->sql(91, 'CREATE TABLE t (id int PRIMARY KEY, v text)');
	$c->sql(2, 'CREATE PUBLICATION out FOR TABLE t (id, v)');
	$x->sql(91, q{CREATE SUBSCRIPTION out CONNECTION '} . $c->node(2)->connstr . q{ dbname=postgres' PUBLICATION out});
	$c->sql(1, q{INSERT INTO t VALUES (5000, 'elsewhere'); UPDATE t SET v = 'changed elsewhere' WHERE id = 1; DELETE FROM t WHERE id = 2});
	$c->sql(2, q{INSERT INTO t VALUES (5001, 'here')});
	my $sum = q{SELECT md5(string_agg(id || v, ' ' ORDER BY id)) FROM t};
	$c->await_all(q{SELECT count(*) FROM t WHERE id IN (2, 5000, 5001)}, 2, 'written on two nodes');
	$x->await(91, $sum, $c->sql(2, $sum), "its subscriber gets the rows of all nodes from one, without the stamp");
	$x->sql(91, 'DROP SUBSCRIPTION out; DROP TABLE t');
	$c->sql(2, 'DROP PUBLICATION out');
};

subtest 'a subscription into a replicated table' => sub {
	$x->sql(91, q{CREATE TABLE feed (id int PRIMARY KEY, v text); INSERT INTO feed SELECT g, 'copied' FROM generate_series(1, 50) g; CREATE PUBLICATION feed FOR TABLE feed});
	$c->sql(1, q{CREATE TABLE feed (id int PRIMARY KEY, v text)});
	$c->replicate('feed');
	$c->sql(1, q{CREATE SUBSCRIPTION feed CONNECTION '} . $x->node(91)->connstr . q{ dbname=app' PUBLICATION feed});
	$c->await_all('SELECT count(*) FROM feed', 50, 'what its first copy brings is captured, and everywhere');
	$x->sql(91, q{INSERT INTO feed VALUES (51, 'streamed'); UPDATE feed SET v = 'updated' WHERE id = 1; DELETE FROM feed WHERE id = 2});
	$c->await_all(q{SELECT string_agg(id || v, ' ' ORDER BY id) FROM feed WHERE id IN (1, 2, 51)}, '1updated 51streamed', 'so are the changes that follow');
	is($c->sql(3, q{SELECT DISTINCT datacake.node_of(_stamp) FROM feed}), 1, 'as writes of the node that subscribes');
	$x->sql(91, 'TRUNCATE feed');
	$c->await_all('SELECT count(*) FROM feed', 0, 'and TRUNCATE');
	$c->sql(1, 'DROP SUBSCRIPTION feed');
	$c->verify_ok('all nodes are equal');
};

subtest 'owners and grants' => sub {
	$c->sql_all(q{CREATE ROLE first; CREATE ROLE second; CREATE ROLE guest; GRANT CREATE ON SCHEMA public TO first});
	$c->sql(1, q{CREATE TABLE owned (id int PRIMARY KEY); ALTER TABLE owned OWNER TO first; GRANT INSERT ON owned TO guest});
	$c->replicate('owned');
	$c->sql(1, q{REASSIGN OWNED BY first TO second; DROP OWNED BY guest; SET ROLE second; INSERT INTO owned VALUES (1)});
	$c->sql(2, q{INSERT INTO owned VALUES (2)});
	$c->await_all('SELECT count(*) FROM owned', 2, 'REASSIGN OWNED on one node: rows go on, as the new owner there');
	refused_ok($c, 1, 'SET ROLE guest; INSERT INTO owned VALUES (3)', qr/permission denied/, 'DROP OWNED took a grant away');
	$c->verify_ok('all nodes are equal');
};

subtest 'copies, renames and drops of the database' => sub {
	my $busy = qr/is being accessed by other users/;
	my $admin = sub { my ($sql) = @_; my ($out, $err); my $rc = $x->node(91)->psql('postgres', $sql, stderr => \$err); return ($rc, $err); };
	foreach my $sql ('CREATE DATABASE twin TEMPLATE app', 'ALTER DATABASE app RENAME TO other')
	{
		my ($rc, $err) = $admin->($sql);
		ok($rc != 0 && $err =~ $busy, "$sql is refused while the node runs") or diag $err;
	}
	$x->stop(91);
	$x->configure(91, shared_preload_libraries => '');
	$x->start_node(91);
	is(($admin->('CREATE DATABASE twin TEMPLATE app'))[0], 0, 'a copy is made without the library');
	$x->configure(91, shared_preload_libraries => 'datacake');
	$x->restart(91);
	my ($rc, $out, $err) = (0, '', '');
	$rc = $x->node(91)->psql('twin', q{INSERT INTO parts VALUES (3000, 'x')}, stderr => \$err);
	ok($rc != 0 && $err =~ qr/datacake replicates database "app", not "twin".*HINT/s, 'a write in the copy is refused') or diag $err;
	$rc = $x->node(91)->psql('twin', q{SELECT datacake.replicate_table('parts')}, stderr => \$err);
	ok($rc != 0 && $err =~ qr/datacake replicates database "app", not "twin"/, 'so are its functions');
	$x->sql(91, q{INSERT INTO parts VALUES (2000, 'x')});
	$x->await(91, q{SELECT live = (SELECT count(*) FROM parts) FROM datacake.keyspaces WHERE relation = 'parts'::regclass}, 't', 'the original goes on');
	my $old = $x->sql(91, 'SELECT incarnation FROM datacake.local_state');
	$x->configure(91, 'datacake.database' => 'twin');
	$x->restart(91);
	$x->{database} = 'twin';
	$x->await(91, "SELECT incarnation <> $old FROM datacake.local_state", 't', 'if the copy is to be the node, it is another incarnation');
	is($x->sql(91, q{INSERT INTO parts VALUES (2001, 'x'); SELECT count(*) FROM parts WHERE id >= 2000}), 1, 'with the rows that it has');
	is(($admin->('DROP DATABASE twin WITH (FORCE)'))[0], 0, 'DROP DATABASE WITH (FORCE)');
	is($x->node(91)->psql('app', 'ALTER TABLE parts ADD extra int'), 0, 'DDL in another database waits for nothing');
	$x->node(91)->safe_psql('postgres', 'CREATE DATABASE twin');
	$x->sql(91, q{CREATE EXTENSION datacake; CREATE TABLE fresh (id int PRIMARY KEY); SELECT datacake.replicate_table('fresh'); INSERT INTO fresh VALUES (1)});
	is($x->sql(91, 'SELECT relation, live FROM datacake.keyspaces'), 'fresh|1', 'and a new database of that name begins anew');
};

done_testing();
