# A peer that is away or slow, and transactions too large to be streamed: what
# changed is found by its stamps and read by key.
use strict;
use warnings;

use DatacakeCluster;
use Test::More;

my $c = DatacakeCluster->new(nodes => 3, conf => { 'datacake.queue_size' => '1MB' });

$c->sql(1, q{CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE other (id int PRIMARY KEY, v text)});
$c->replicate($_) foreach qw(t other);

my $catchups = 'SELECT catchups FROM datacake.peers WHERE node_id = 3';

subtest 'away during 50,000 writes and 5,000 deletes' => sub {
	$c->sql(1, q{INSERT INTO t SELECT g, 'before' FROM generate_series(1, 10000) g});
	$c->verify_ok('10,000 rows before');
	$c->stop(3);
	$c->sql(1, q{DO $$ BEGIN FOR i IN 10 .. 39 LOOP
		INSERT INTO t SELECT 1000 * i + g, 'away' FROM generate_series(1, 1000) g; COMMIT; END LOOP; END $$});
	$c->sql(2, q{DO $$ BEGIN FOR i IN 0 .. 19 LOOP
		UPDATE t SET v = 'updated' WHERE id BETWEEN 500 * i + 1 AND 500 * i + 500; COMMIT; END LOOP; END $$});
	$c->sql(2, q{INSERT INTO other SELECT g, 'away' FROM generate_series(1, 10000) g});
	$c->sql(1, 'DELETE FROM t WHERE id <= 2500');
	$c->sql(2, 'DELETE FROM t WHERE id BETWEEN 12501 AND 15000');
	$c->verify_ok('the two others are equal meanwhile');
	$c->start_node(3);
	$c->wait_for_nodes;
	$c->verify_ok('after its return all three are');
	is($c->sql(3, q{SELECT count(*), count(*) FILTER (WHERE v = 'updated') FROM t}), '35000|7500', 'it has the rows');
	is($c->sql(3, q{SELECT live, waiting FROM datacake.keyspaces WHERE relation = 't'::regclass}), '35000|0', 'and an entry for each');
};

subtest 'writes of both sides while they are apart' => sub {
	$c->pause(3);
	$c->sql(3, q{UPDATE t SET v = 'by 3' WHERE id BETWEEN 10001 AND 12000; INSERT INTO t SELECT g, 'by 3' FROM generate_series(50001, 51000) g});
	$c->sql(1, q{UPDATE t SET v = 'by 1' WHERE id BETWEEN 11001 AND 12500; INSERT INTO t SELECT g, 'by 1' FROM generate_series(50501, 51500) g});
	$c->resume(3);
	$c->verify_ok('are united');
	$c->await_all(q{SELECT count(*) FILTER (WHERE v = 'by 1'), count(*) FILTER (WHERE v = 'by 3') FROM t}, '2500|1500', 'row by row the later one');
};

subtest 'a queue that overflows' => sub {
	my $before = $c->sql(1, $catchups);
	$c->freeze_link(1, 3);
	my $writer = $c->start_writer(1, map { "INSERT INTO t SELECT g, repeat('x', 900) FROM generate_series(100000 + 10 * $_, 100009 + 10 * $_) g" } 1 .. 1000);
	ok($c->finish_writer($writer), 'nobody waits for a peer that does not read, nor fails');
	# more than the buffers of a connection can hold as well
	$c->await(2, 'SELECT count(*) FROM t WHERE id > 100000', 10000, 'the other peer has 10 MB through a queue of 1 MB');
	is($c->sql(3, 'SELECT count(*) FROM t WHERE id > 100000'), 0, 'the stopped one nothing');
	$c->thaw_link(1, 3);
	$c->verify_ok('until it reads again');
	$c->await_all(q{SELECT count(*) FROM t WHERE id > 100000}, 10000, 'then it has all');
	$c->await(1, "SELECT ($catchups) > $before", 't', 'by a catch-up');
};

# Files of transactions that are too large for the queue, on node 1.
my $spooled = q{SELECT count(*) FROM pg_ls_tmpdir() WHERE name ~ 'datacake'};

subtest 'a transaction of 200,000 rows' => sub {
	my $before = $c->sql(1, $catchups);
	$c->sql(1, q{INSERT INTO t SELECT g, 'large' FROM generate_series(200001, 400000) g});
	$c->sql(2, q{INSERT INTO other VALUES (20000, 'meanwhile')});
	$c->await_all('SELECT count(*) FROM other WHERE id = 20000', 1, 'others go on');
	$c->verify_ok('it arrives', 120);
	$c->await_all(q{SELECT count(*) FROM t WHERE v = 'large'}, 200000, 'whole');
	is($c->sql(1, $catchups), $before, 'from a file, without a catch-up');
	$c->await(1, $spooled, 0, 'which is removed then');
	$c->sql(2, q{DELETE FROM t WHERE v = 'large' AND id % 2 = 0});
	$c->verify_ok('and so does a delete of half of it', 120);
	$c->await_all(q{SELECT count(*) FROM t WHERE v = 'large'}, 100000, 'of the right half');
};

subtest 'a file that cannot be read' => sub {
	my $before = $c->sql(1, $catchups);
	$c->freeze_link(1, 3);
	$c->sql(1, q{INSERT INTO t SELECT g, repeat('y', 900) FROM generate_series(600001, 620000) g});
	$c->await(2, 'SELECT count(*) FROM t WHERE id > 600000', 20000, 'one peer has all of it');
	is($c->sql(1, $spooled), 1, 'it is kept for the other');
	truncate($_, 0) or die "$_: $!" foreach glob($c->node(1)->data_dir . '/base/pgsql_tmp/*.datacake.*');
	$c->thaw_link(1, 3);
	$c->verify_ok('it arrives nevertheless');
	$c->await_all('SELECT count(*) FROM t WHERE id > 600000', 20000, 'whole');
	$c->await(1, "SELECT ($catchups) > $before", 't', 'by a catch-up');
	$c->await(1, $spooled, 0, 'no file is left');
};

# Where the last chunk of the only file of node 1 begins (spool.h).
sub last_chunk
{
	my ($path) = glob($c->node(1)->data_dir . '/base/pgsql_tmp/*.datacake.*');
	my ($at, $start, $head) = (0, 0);
	open(my $file, '<:raw', $path) or die "$path: $!";
	while (read($file, $head, 8) == 8)
	{
		$start = $at;
		$at += 8 + unpack('L', $head);
		seek($file, $at, 0);
	}
	close $file;
	return $start;
}

subtest 'a file that cannot be written to its end' => sub {
	my $session = $c->session(1);
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	my $large = q{INSERT INTO t SELECT g, repeat('w', 10000) FROM generate_series(%d + 1, %d + 1800) g};
	$c->freeze_link(1, 3);
	$session->query_safe(sprintf $large, 2000000, 2000000);
	$c->await(2, 'SELECT count(*) FROM t WHERE id > 2000000', 1800, 'one that can');
	my $end = last_chunk();
	cmp_ok($end, '>', 16 << 20, 'is longer than a segment of the log, which has the same limit');
	$c->thaw_link(1, 3);
	$c->await(1, $spooled, 0, 'it is removed');
	my $before = $c->sql(1, $catchups);
	system('prlimit', "--pid=$pid", "--fsize=$end:") == 0 or die 'prlimit';
	$session->query_safe(sprintf $large, 2010000, 2010000);
	$session->quit;
	$c->verify_ok('the next one lacks its last chunk, and arrives nevertheless');
	$c->await_all('SELECT count(*) FROM t WHERE id > 2000000', 3600, 'whole');
	$c->await(1, "SELECT ($catchups) > $before", 't', 'by a catch-up');
	$c->sql(1, 'DELETE FROM t WHERE id > 2000000');
};

subtest 'no space for files' => sub {
	my $before = $c->sql(1, $catchups);
	$c->configure(1, 'datacake.spool_size' => 0);
	$c->sql(1, 'SELECT pg_reload_conf()');
	$c->await(1, 'SHOW datacake.spool_size', 0, 'set');
	$c->sql(1, q{DELETE FROM t WHERE id > 600000 AND id % 2 = 0; UPDATE t SET v = repeat('z', 900) WHERE id > 600000});
	$c->verify_ok('large transactions arrive nevertheless');
	$c->await_all(q{SELECT count(*), count(*) FILTER (WHERE v ~ '^z') FROM t WHERE id > 600000}, '10000|10000', 'whole');
	$c->await(1, "SELECT ($catchups) > $before", 't', 'by a catch-up');
	$before = $c->sql(1, $catchups);
	$c->sql(1, q{DO $$ BEGIN FOR i IN 1 .. 4000 LOOP UPDATE t SET v = i || repeat('y', 100) WHERE id = 620000; END LOOP; END $$});
	$c->sql(1, q{BEGIN; SAVEPOINT a; INSERT INTO t SELECT g, repeat('z', 100) FROM generate_series(630000, 634000) g; ROLLBACK TO a;
		INSERT INTO t VALUES (630000, 'kept'); COMMIT});
	$c->verify_ok('a transaction that leaves few rows needs no file, whatever it did to them');
	is($c->sql(1, $catchups), $before, 'and no catch-up');
	$c->sql(1, 'DELETE FROM t WHERE id = 630000');
	$c->sql(1, q{SET datacake.capture_memory = '64kB'; BEGIN; INSERT INTO other SELECT g, repeat('m', 100) FROM generate_series(35001, 37000) g;
		UPDATE other SET v = 'less' WHERE id = 35001; DELETE FROM other WHERE id = 35002; COMMIT});
	$c->verify_ok('so does what is beyond capture_memory');
	$c->await_all(q{SELECT count(*), count(*) FILTER (WHERE v = 'less') FROM other WHERE id BETWEEN 35001 AND 37000}, '1999|1', 'whole');
	$c->configure(1, 'datacake.spool_size' => '1GB');
	$c->sql(1, 'SELECT pg_reload_conf()');
};

subtest 'a file takes the room that it needs, and no more' => sub {
	my $before = $c->sql(1, $catchups);
	$c->configure(1, 'datacake.spool_size' => '5MB');
	$c->sql(1, 'SELECT pg_reload_conf()');
	$c->await(1, 'SHOW datacake.spool_size', '5MB', 'set');
	$c->sql(1, q{INSERT INTO t SELECT g, 'twelve bytes' FROM generate_series(900001, 1000000) g});
	$c->verify_ok('3.4 MB of short rows arrive');
	is($c->sql(1, $catchups), $before, 'from a file');
	$c->sql(1, q{INSERT INTO t SELECT g, 'twelve bytes' FROM generate_series(1000001, 1200000) g});
	$c->verify_ok('so do 6.8 MB');
	$c->await(1, "SELECT ($catchups) > $before", 't', 'for which there is no room');
	$c->await(1, $spooled, 0, 'no file is left');
	$c->sql(1, 'DELETE FROM t WHERE id > 900000');
	$c->configure(1, 'datacake.spool_size' => '1GB');
	$c->sql(1, 'SELECT pg_reload_conf()');
};

subtest 'rollback and savepoints of large transactions' => sub {
	my $live = $c->sql(1, 'SELECT sum(live) FROM datacake.keyspaces');
	$c->sql(1, q{BEGIN; INSERT INTO t SELECT g, 'never' FROM generate_series(500001, 550000) g; DELETE FROM t WHERE id < 100000; ROLLBACK});
	$c->sql(1, q{BEGIN; SAVEPOINT a; INSERT INTO t SELECT g, 'never' FROM generate_series(500001, 550000) g; ROLLBACK TO a;
		INSERT INTO other VALUES (30000, 'kept'); COMMIT});
	$c->await_all('SELECT count(*) FROM other WHERE id = 30000', 1, 'what was kept arrives');
	$c->verify_ok('the nodes are equal');
	$c->await_all(q{SELECT count(*) FROM t WHERE v = 'never'}, 0, 'and nothing of the rest is there');
	is($c->sql(1, 'SELECT sum(live) FROM datacake.keyspaces'), $live + 1, 'nor in the metadata');
};

subtest 'capture_memory' => sub {
	my $before = $c->sql(1, $catchups);
	$c->sql(1, q{SET datacake.capture_memory = '64kB';
		BEGIN; INSERT INTO other SELECT g, repeat('m', 100) FROM generate_series(40001, 45000) g;
		UPDATE other SET v = 'less' WHERE id = 40001; DELETE FROM other WHERE id = 40002; COMMIT});
	$c->verify_ok('a transaction beyond it arrives');
	$c->await_all(q{SELECT count(*), count(*) FILTER (WHERE v = 'less') FROM other WHERE id BETWEEN 40001 AND 45000}, '4999|1', 'whole');
	$c->sql(1, q{SET datacake.capture_memory = '64kB';
		BEGIN; SAVEPOINT a; INSERT INTO other SELECT g, repeat('m', 100) FROM generate_series(50001, 55000) g; ROLLBACK TO a;
		INSERT INTO other VALUES (50000, 'kept'); COMMIT});
	$c->await_all(q{SELECT count(*) FROM other WHERE id BETWEEN 50000 AND 55000}, 1, 'also when most of it is rolled back');
	$c->sql(1, q{SET datacake.capture_memory = '64kB'; BEGIN;
		INSERT INTO t SELECT g, repeat('f', (g % 5) * 700) FROM generate_series(700001, 702000) g; SAVEPOINT a;
		UPDATE t SET v = 'never' WHERE id > 701000; ROLLBACK TO a; UPDATE t SET v = v || 'u' WHERE id > 701990; DELETE FROM t WHERE id = 700001;
		INSERT INTO t VALUES (702001, repeat('long', 100000)), (702002, ''); COMMIT});
	$c->verify_ok('images of all lengths, in memory and in the file');
	$c->await_all(q{SELECT count(*), count(*) FILTER (WHERE v ~ 'u$'), max(length(v)) FROM t WHERE id > 700000}, '2001|10|400000', 'whole');
	$c->sql(1, q{SET datacake.capture_memory = '64kB'; BEGIN; INSERT INTO t SELECT g, repeat('r', 900) FROM generate_series(800001, 801000) g; ROLLBACK});
	$c->await(1, $spooled, 0, 'no file is left');
	is($c->sql(1, $catchups), $before, 'all of it without a catch-up');
};

done_testing();
