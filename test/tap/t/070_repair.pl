# Repair: rows that were changed behind the back of capture are found and
# mended, by a call and without one; what differs is what it costs.
use strict;
use warnings;

use DatacakeCluster;
use Test::More;

# nodes 1 and 2 keep cells, node 3 does not
my $c = DatacakeCluster->new(nodes => 3, conf => { 'datacake.repair_interval' => 0, 'datacake.repair_cells' => 1000 },
	node_conf => { 3 => { 'datacake.repair_cells' => 0 } });

$c->sql(1, q{CREATE TABLE t (id bigint PRIMARY KEY, v text)});
$c->replicate('t');
$c->sql(1, q{INSERT INTO t SELECT g, 'right' FROM generate_series(1, 20000) g});
$c->verify_ok('20,000 rows on three nodes');

# behind($i, $command): run it on node $i while the triggers of the table are off
sub behind
{
	my ($i, $command) = @_;
	my $triggers = '"~datacake_stamp", ENABLE ALWAYS TRIGGER "!datacake_capture", ENABLE ALWAYS TRIGGER "!datacake_truncate"';

	return $c->sql($i, qq{BEGIN; SET LOCAL datacake.capture = off; ALTER TABLE t DISABLE TRIGGER ALL; $command; ALTER TABLE t ENABLE ALWAYS TRIGGER $triggers; COMMIT});
}

# repair($i, $peer, @columns): what repair() reports
sub repair
{
	my ($i, $peer, @columns) = @_;

	return $c->sql($i, "SELECT @{[join ', ', @columns]} FROM datacake.repair('t', $peer)");
}

my $differs = 'SELECT count(*), sum(hashtext(t::text)::bigint) FROM t';

subtest 'nothing differs' => sub {
	is(repair(1, 2, qw(differing fetched pushed kept mended lost images)), '0|0|0|0|0|0|0', 'nothing is found');
	cmp_ok(repair(1, 2, 'bytes_sent + bytes_received'), '<=', 2500, 'for at most 2.5 kB, both ways');
	cmp_ok(repair(1, 2, 'bytes_sent + bytes_received'), '<=', 700, 'or 0.7 kB, where both keep cells') for 1 .. 2;
	is(repair(1, 3, 'scrubbed'), 20000, 'and each row was compared with its entry');
	is($c->sql(1, 'SELECT count(*) FROM datacake.repair()'), 4, 'without arguments: all keyspaces, the catalogue too, and all live nodes');
};

subtest 'inserted behind its back' => sub {
	behind(2, q{INSERT INTO t VALUES (30001, 'new', '1'), (30002, 'new', '2031-01-01 00:00:00+00@9')});
	$c->await_differ($differs, 'the others do not see it');
	is(repair(2, 1, qw(mended differing)), '2|0', 'the rows are taken in');
	$c->await_all(q{SELECT count(*) FROM t WHERE v = 'new'}, 2, 'and reach everybody as ordinary writes');
	is($c->sql(2, q{SELECT count(*) FROM t WHERE v = 'new' AND datacake.node_of(_stamp) = 2 AND _stamp::timestamptz > now() - interval '1 h'}), 2, 'with stamps of that node');
	$c->verify_ok('the nodes are equal');
};

subtest 'inserted with a stamp that is null' => sub {
	behind(3, q{ALTER TABLE t ALTER _stamp DROP NOT NULL; INSERT INTO t VALUES (30003, 'null')});
	is(repair(3, 1, 'mended'), 1, 'it is taken in');
	$c->await_all(q{SELECT v FROM t WHERE id = 30003}, 'null', 'and reaches everybody');
	$c->sql(3, 'ALTER TABLE t ALTER _stamp SET NOT NULL');
};

subtest 'deleted behind its back' => sub {
	behind(2, 'DELETE FROM t WHERE id BETWEEN 1 AND 50');
	is(repair(2, 3, qw(mended lost)), '50|0', 'the rows are fetched again');
	$c->verify_ok('the nodes are equal');
};

subtest 'an older row restored' => sub {
	$c->sql(1, q{UPDATE t SET v = 'newer' WHERE id BETWEEN 101 AND 110});
	$c->verify_ok('ten rows have a newer version');
	behind(3, q{UPDATE t SET v = 'older', _stamp = (_stamp::bigint - 1048576000)::datacake.hlc WHERE id BETWEEN 101 AND 110});
	is(repair(3, 2, qw(mended lost)), '10|0', 'the newer one is fetched');
	$c->await_all(q{SELECT count(*) FROM t WHERE v = 'newer'}, 10, 'everybody has it');
	$c->verify_ok('the nodes are equal');
};

subtest 'a dead row restored' => sub {
	my $stamp = $c->sql(1, 'SELECT _stamp FROM t WHERE id = 200');
	$c->sql(1, 'DELETE FROM t WHERE id = 200');
	$c->verify_ok('it is dead everywhere');
	behind(2, "INSERT INTO t VALUES (200, 'back', '$stamp')");
	repair(2, 1, 'mended');
	$c->verify_ok('afterwards the nodes are equal');
};

subtest 'another image under the same stamp' => sub {
	behind(3, q{UPDATE t SET v = 'wrong' WHERE id BETWEEN 301 AND 305});
	is($c->sql(1, q{SELECT datacake.verify('1 s')}), 'f', 'verify() notices');
	is(repair(3, 1, qw(images differing)), '5|0', 'reading the rows finds it');
	is($c->sql(3, q{SELECT count(*) FROM t WHERE id BETWEEN 301 AND 305 AND v = 'right'}), 5, 'the source of the stamp is right');
	behind(3, q{UPDATE t SET v = 'wrong' WHERE id = 301});
	is(repair(2, 3, 'images'), 1, 'between two others');
	is($c->sql(3, 'SELECT v FROM t WHERE id = 301'), 'right', 'the lesser node id is');
	$c->verify_ok('the nodes are equal');
};

subtest 'lost before a restart, so that no entry remembers it' => sub {
	behind(2, 'DELETE FROM t WHERE id BETWEEN 401 AND 450');
	$c->restart(2);
	$c->wait_for_nodes;
	is($c->sql(2, 'SELECT count(*) FROM t WHERE id BETWEEN 401 AND 450'), 0, 'node 2 does not know these keys');
	is(repair(1, 2, 'differing'), 50, 'comparing entries finds them');
	$c->await(2, 'SELECT count(*) FROM t WHERE id BETWEEN 401 AND 450', 50, 'and mends node 2, even if it should have forgotten their deaths: node 3 has them alive');
	$c->verify_ok('the nodes are equal');
};

subtest 'after a TRUNCATE' => sub {
	my $stamp = $c->sql(1, 'SELECT max(_stamp::bigint) FROM t');
	$c->sql(1, q{TRUNCATE t; INSERT INTO t SELECT g, 'right' FROM generate_series(1, 2000) g});
	$c->verify_ok('2,000 rows after it');
	behind(2, "INSERT INTO t VALUES (20001, 'truncated', '$stamp')");
	$c->await(2, q{SELECT live + dead FROM datacake.keyspaces WHERE relation = 't'::regclass}, 2000, 'its entries are gone');
	is(repair(2, 1, qw(mended differing)), '1|0', 'what it took and somebody restored is deleted again');
	is($c->sql(2, 'SELECT count(*) FROM t'), 2000, 'and not taken for new');
	behind(3, q{UPDATE t SET v = 'wrong' WHERE id = 5; DELETE FROM t WHERE id = 6});
	is(repair(3, 1, qw(mended images)), '1|1', 'the rest goes as before');
	behind(3, q{DELETE FROM datacake.floor});
	$c->restart(3);
	$c->wait_for_nodes;
	is(repair(3, 1, qw(kept lost)), '0|0', 'a node that forgot the TRUNCATE is told again');
	is($c->sql(3, 'SELECT count(*) FROM datacake.floor'), 1, 'durably');
	$c->verify_ok('the nodes are equal');
};

subtest 'few entries differ and both keep cells' => sub {
	$c->sql(1, q{UPDATE t SET v = v || 'er' WHERE id > 1600; DELETE FROM t WHERE id > 1900});
	$c->verify_ok('rows of the nodes that keep cells were updated and deleted');
	cmp_ok(repair(1, 2, 'bytes_sent + bytes_received'), '<=', 700, 'their cells say that nothing differs');
	behind(2, 'DELETE FROM t WHERE id BETWEEN 801 AND 810');
	$c->restart(2);
	$c->wait_for_nodes;
	my ($differing, $bytes) = split /\|/, repair(1, 2, 'differing', 'bytes_sent + bytes_received');
	is($differing, 10, 'ten keys that node 2 does not know are found');
	cmp_ok($bytes, '<=', 2500, "in $bytes bytes, rows and seals included");
	$c->verify_ok('the nodes are equal');
	cmp_ok(repair(2, 1, 'bytes_sent + bytes_received'), '<=', 700, 'and node 2 has built its cells anew');
	$c->sql(1, q{CREATE TABLE brief (id int PRIMARY KEY); INSERT INTO brief SELECT generate_series(1, 500)});
	$c->replicate('brief');
	$c->verify_ok('another table comes');
	$c->sql(1, 'DROP TABLE brief; CREATE TABLE after_it (id int PRIMARY KEY); INSERT INTO after_it SELECT generate_series(1, 5)');
	$c->replicate('after_it');
	$c->verify_ok('and goes, and one more takes its place');
	cmp_ok($c->sql(1, q{SELECT bytes_sent + bytes_received FROM datacake.repair('after_it', 2)}), '<=', 700, 'with cells of its own');
	behind(2, 'DELETE FROM t WHERE id BETWEEN 801 AND 1600');
	$c->restart(2);
	$c->wait_for_nodes;
	is(repair(1, 2, 'differing'), 800, 'more than they can tell are found, too');
	$c->verify_ok('the nodes are equal');
};

subtest 'while others write' => sub {
	my $writer = $c->start_writer(1, map { ("INSERT INTO t VALUES (40000 + $_, 'live')", "UPDATE t SET v = 'live' WHERE id = 1000 + $_") } 1 .. 300);
	is(repair(2, 1, qw(kept lost mended images)), '0|0|0|0', 'what is on its way is no difference') for 1 .. 3;
	ok($c->finish_writer($writer), 'nobody fails');
	$c->verify_ok('the nodes are equal');
};

subtest 'tables that are not alike' => sub {
	$c->sql($_, q{ALTER TABLE t ADD COLUMN extra int DEFAULT 7}) foreach 1, 2;
	is(repair(1, 3, qw(images pushed)), '0|0', 'their rows are not compared');
	is(repair(1, 2, qw(images pushed)), '0|0', 'those of others are');
	is($c->sql(3, 'SELECT count(*) FROM datacake.quarantine'), 0, 'nothing waits because of it');
	$c->sql(3, q{ALTER TABLE t ADD COLUMN extra int DEFAULT 7});
	$c->verify_ok('then they are alike and equal');
};

subtest 'refusals' => sub {
	my ($rc, $out, $err) = $c->try_sql(1, q{SELECT datacake.repair('t', 77)});
	like($err, qr/node 77 is not known/, 'an unknown node');
	($rc, $out, $err) = $c->try_sql(1, q{SELECT datacake.repair('t', -1)});
	like($err, qr/node -1 is not known/, 'no number of a node');
	($rc, $out, $err) = $c->try_sql(1, q{CREATE TABLE plain (id int); SELECT datacake.repair('plain')});
	like($err, qr/is not replicated/, 'a table that is no keyspace');
	$c->pause(1, 2);
	($rc, $out, $err) = $c->try_sql(1, q{SELECT datacake.repair('t', 2)});
	like($err, qr/paused/, 'a paused peer');
	$c->resume(1, 2);
	($rc, $out, $err) = $c->try_sql(1, q{SELECT datacake.peer_repair('\x00')});
	like($err, qr/session/, 'peer_repair() without a session');
	($rc, $out, $err) = $c->try_sql(1, q{SET statement_timeout = '1ms'; SELECT datacake.repair('t')});
	like($err, qr/statement timeout/, 'it can be cancelled');
	like(repair(1, 2, 'differing'), qr/^0$/, 'and the next one runs');
};

subtest 'the repairer ends' => sub {
	# it waits for a row that somebody keeps locked, so that it can be met at work
	behind(2, 'DELETE FROM t WHERE id = 700');
	my $holder = $c->session(2);
	$holder->query_safe('BEGIN; LOCK TABLE t IN SHARE MODE');
	my $asker = $c->begin(2, q{SELECT datacake.repair('t', 1)});
	$c->await(2, q{SELECT state FROM pg_stat_activity WHERE query LIKE 'SELECT datacake.repair%'}, 'active', 'a call waits');
	$c->kill_worker(2, 'repairer', 'TERM');
	$holder->quit;
	my $again = eval { $asker->query_safe('SELECT 1') };
	is($c->sql(2, q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT datacake.repair%' AND state = 'active'}), 0, 'it does not wait for ever');
	repair(2, 1, 'mended');
	$c->await(2, 'SELECT count(*) FROM t WHERE id = 700', 1, 'the next call finds what it left');
	$c->verify_ok('the nodes are equal');
};

subtest 'in the background' => sub {
	foreach my $i ($c->numbers)
	{
		$c->configure($i, 'datacake.repair_interval' => 1);
		$c->node($i)->reload;
	}
	behind(2, q{INSERT INTO t (id, v, _stamp) VALUES (50001, 'background', '2031-01-01 00:00:00+00@9'); DELETE FROM t WHERE id BETWEEN 501 AND 510; UPDATE t SET v = 'wrong' WHERE id = 600});
	$c->await_all(q{SELECT count(*) FROM t WHERE v = 'background'}, 1, 'a row inserted behind its back arrives everywhere, without a call');
	$c->await(2, 'SELECT count(*) FROM t WHERE id BETWEEN 501 AND 510', 10, 'deleted ones come back');
	$c->await(2, 'SELECT v FROM t WHERE id = 600', 'right', 'a changed image is set right');
	$c->verify_ok('the nodes are equal');
	$c->await(1, q{SELECT count(DISTINCT node) FROM datacake.repairs WHERE keyspace = 't'::regclass AND at > now() - interval '1 min' AND runs > 1}, 2,
		'datacake.repairs shows both peers in turn');
	$c->await(1, q{SELECT max(sent_bytes + received_bytes) <= 2500 FROM datacake.repairs WHERE keyspace = 't'::regclass}, 't', 'at most 2.5 kB each when nothing differs');
};

done_testing();
