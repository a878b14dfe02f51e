# Consistency levels: whom COMMIT waits for, what is refused before it, and
# what a client hears when the level is not reached after it.
#
# Nodes 1, 2 and 3 stand here, node 4 alone in another data centre.
use strict;
use warnings;

use DatacakeCluster;
use Test::More;
use Time::HiRes qw(usleep);

my $c = DatacakeCluster->new(
	nodes     => 4,
	conf      => { 'datacake.data_center' => 'here' },
	node_conf => { 4 => { 'datacake.data_center' => 'far' } });
$c->sql(1, 'CREATE TABLE t (id int PRIMARY KEY, v text)');
$c->replicate('t');
$c->sql(1, "SELECT datacake.create_keyspace('kv', 'text', 'text')");
$c->await_all(q{SELECT count(*) FROM pg_proc WHERE pronamespace = to_regnamespace('kv') AND proname = 'put'}, 1, 'the keyspace is everywhere');
foreach my $i (1 .. 4)
{
	$c->await($i, q{SELECT count(*) FROM datacake.nodes WHERE data_center IN ('here', 'far')}, 4, "node $i knows all data centres");
	$c->await($i, q{SELECT count(*) FROM datacake.members WHERE state = 'present'}, 4, "... and all members");
}


# What joined is a member in full when the others have heard of it.
foreach my $i (1 .. 4)
{
	my $err = 'not tried';
	$c->_poll(sub { my ($rc, $out); ($rc, $out, $err) = $c->try_sql($i, q{SET datacake.consistency = 'all'; INSERT INTO t VALUES (-1, '') ON CONFLICT (id) DO UPDATE SET v = 'x'}); return $rc == 0; });
	is($err, '', "all is reached from node $i");
}

my $patient = q{SET datacake.consistency_timeout = '120 s';};
my $verbose = '\set VERBOSITY verbose';
my $id      = 0;

# write_at($i, $level, %how): one row at that level on node $i; (id, what psql
# printed, what it complained about).
sub write_at
{
	my ($i, $level, %how) = @_;
	my $timeout = $how{timeout} // '120 s';
	$id++;
	my ($rc, $out, $err) = $c->try_sql($i, qq{$verbose
		SET datacake.consistency = '$level'; SET datacake.consistency_timeout = '$timeout';
		INSERT INTO t VALUES ($id, '$level');
		SELECT level, required, acked >= required FROM datacake.last_commit();});
	return ($id, $out, $err);
}

sub has { my ($i, $row) = @_; return $c->sql($i, "SELECT count(*) FROM t WHERE id = $row"); }

# holders($row, @nodes): how many of them have the row now
sub holders { my ($row, @nodes) = @_; return scalar grep { has($_, $row) } @nodes; }

# waiting_ok($i, $name): a backend of node $i waits after its commit
sub waiting_ok
{
	my ($i, $row, $name) = @_;
	return $c->await($i, "SELECT (SELECT count(*) FROM t WHERE id = $row) +
		(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND wait_event = 'Extension' AND query LIKE '%VALUES ($row,%')", 2, $name);
}

subtest 'all nodes up: every level is reached before COMMIT returns' => sub {
	my %needs = (none => 1, one => 2, two => 3, three => 4, quorum => 3, local_quorum => 2, each_quorum => 3, all => 4);
	foreach my $level (sort keys %needs)
	{
		my ($row, $out, $err) = write_at(1, $level);
		is($out, "$level|$needs{$level}|t", "$level: as many as it needs have it");
		is($err, '', '... and no complaint');
		cmp_ok(holders($row, 1 .. 4), '>=', $needs{$level}, '... which their tables show');
	}
	my ($row) = write_at(4, 'all');
	is(holders($row, 1 .. 4), 4, 'all, from another node');
	($row) = write_at(4, 'each_quorum');
	cmp_ok(holders($row, 1 .. 3), '>=', 2, 'each_quorum: a majority of the other data centre has it');
};

subtest 'what is written how: the strongest that was asked for counts' => sub {
	my $last = q{SELECT level, required, acked >= required FROM datacake.last_commit();};
	my $run  = sub { my ($rc, $out, $err) = $c->try_sql(1, "$patient $_[0]; $last"); return $rc == 0 ? $out . $err : $err; };
	is($run->(q{BEGIN; INSERT INTO t VALUES (1001, ''); SET LOCAL datacake.consistency = 'quorum'; COMMIT}), 'quorum|3|t', 'SET LOCAL, before COMMIT');
	is($run->(q{BEGIN; SET LOCAL datacake.consistency = 'two'; INSERT INTO t VALUES (1002, ''); SET LOCAL datacake.consistency = 'none'; COMMIT}), 'two|3|t', 'SET LOCAL, taken back after the write');
	is($run->(q{BEGIN; INSERT INTO t VALUES (1003, ''); SAVEPOINT s; SET LOCAL datacake.consistency = 'all'; INSERT INTO t VALUES (1004, ''); ROLLBACK TO s; COMMIT}), 'none|1|t', 'a savepoint that is rolled back asks for nothing');
	is($run->(q{BEGIN; SAVEPOINT s; SET LOCAL datacake.consistency = 'all'; INSERT INTO t VALUES (1005, ''); RELEASE s; SET LOCAL datacake.consistency = 'none'; COMMIT}), 'all|4|t', 'one that is released does');
	is($run->(q{SET datacake.consistency = 'all'; UPDATE t SET v = 'u' WHERE id = 1001}), 'all|4|t', 'UPDATE');
	is(join(',', map { $c->sql($_, 'SELECT v FROM t WHERE id = 1001') } 1 .. 4), 'u,u,u,u', '... is there');
	is($run->(q{SET datacake.consistency = 'all'; DELETE FROM t WHERE id = 1001}), 'all|4|t', 'DELETE');
	is(holders(1001, 1 .. 4), 0, '... is there');
	is($run->("SET datacake.consistency = 'all'; COPY t (id, v) FROM stdin;\n1010\tc\n1011\tc\n\\.\n"), 'all|4|t', 'COPY');
	is(holders(1011, 1 .. 4), 4, '... is there');
	is($run->(q{SET datacake.consistency = 'all'; TRUNCATE t}), 'all|4|t', 'TRUNCATE');
	is(holders(1011, 1 .. 4), 0, '... is there');
	is($run->(q{DO $$ BEGIN SET datacake.consistency = 'all'; FOR i IN 1020 .. 1022 LOOP INSERT INTO t VALUES (i, ''); COMMIT; END LOOP; END $$}), 'all|4|t', 'PL/pgSQL with COMMIT');
	is(holders($_, 1 .. 4), 4, "... row $_ is there") foreach 1020 .. 1022;
	is($run->(q{CREATE PROCEDURE pg_temp.p() LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO t VALUES (1040, ''); COMMIT; SET LOCAL datacake.consistency = 'all'; INSERT INTO t VALUES (1041, ''); COMMIT; END $$; CALL pg_temp.p()}), 'all|4|t', 'a procedure, SET LOCAL in its second transaction');
	is($run->(q{DO $$ BEGIN SET LOCAL datacake.consistency = 'all'; INSERT INTO t VALUES (1042, ''); COMMIT; INSERT INTO t VALUES (1043, ''); COMMIT; END $$}), 'none|1|t', '... which ends with it');
	is($run->(q{DO $$ BEGIN SET LOCAL datacake.consistency = 'all'; INSERT INTO t VALUES (1044, ''); ROLLBACK; INSERT INTO t VALUES (1045, ''); COMMIT; END $$}), 'none|1|t', '... or with its ROLLBACK');
	is($run->(q{DO $$ BEGIN BEGIN SET LOCAL datacake.consistency = 'all'; INSERT INTO t VALUES (1046, ''); RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN NULL; END; INSERT INTO t VALUES (1047, ''); END $$}), 'none|1|t', 'a block that ends in its EXCEPTION asks for nothing');
	is($run->(q{CREATE TABLE pg_temp.plain (id int); CREATE FUNCTION pg_temp.copy_on() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t VALUES (NEW.id, ''); RETURN NEW; END $$;
		CREATE TRIGGER copy_on AFTER INSERT ON pg_temp.plain FOR EACH ROW EXECUTE FUNCTION pg_temp.copy_on(); SET datacake.consistency = 'quorum'; INSERT INTO pg_temp.plain VALUES (1048)}), 'quorum|3|t', 'what a trigger writes');
	is($run->("BEGIN; SET LOCAL datacake.consistency = 'two'; COPY t (id, v) FROM stdin;\n1050\tc\n\\.\n; COMMIT"), 'two|3|t', 'COPY in a transaction');
	like($run->(q{BEGIN; SET LOCAL datacake.consistency = 'quorum'; INSERT INTO t VALUES (1051, ''); PREPARE TRANSACTION 'p'}), qr/cannot PREPARE a transaction/, 'no level survives PREPARE TRANSACTION: it is refused');
	is($run->(q{CREATE FUNCTION pg_temp.f() RETURNS void LANGUAGE sql SET datacake.consistency = 'quorum' AS $$ INSERT INTO t VALUES (1030, '') $$; SELECT pg_temp.f()}), "\nquorum|3|t", 'a function with a setting of its own');
	like($run->(q{SELECT kv.put('a', '1', 'all') IS NOT NULL}), qr/^t\nall\|4\|t$/, 'put');
	is(join(',', map { $c->sql($_, "SELECT kv.get('a')") } 1 .. 4), '1,1,1,1', '... is there');
	is($run->(q{SELECT kv.put_many(ARRAY['b', 'c'], ARRAY['2', '3'], 'two')}), "2\ntwo|3|t", 'put_many');
	is($run->(q{SELECT kv.del_many(ARRAY['b', 'c'], 'each_quorum')}), "2\neach_quorum|3|t", 'del_many');
	is($run->(q{SELECT kv.del('a', 'all')}), "t\nall|4|t", 'del');
	is($run->(q{BEGIN; SELECT kv.put('d', '1', 'local_quorum') IS NOT NULL; SELECT kv.put('e', '1', 'one') IS NOT NULL; COMMIT}), "t\nt\none, local_quorum|2|t", 'several in a transaction: all of them');
	is($run->(q{SET datacake.consistency = 'quorum'; SELECT kv.put('d', '2', 'none') IS NOT NULL}), "t\nquorum|3|t", 'an argument does not weaken the setting');
	like($run->(q{SELECT kv.put('d', '2', 'most')}), qr/unknown consistency level "most"/, 'a level that does not exist is refused');
	$c->configure(1, 'datacake.spool_size' => 0);
	$c->sql(1, 'SELECT pg_reload_conf()');
	$c->await(1, 'SHOW datacake.spool_size', 0, 'no space for files');
	is($run->(qq{SET datacake.capture_memory = '64kB'; SET datacake.consistency = 'all';
		INSERT INTO t SELECT g, repeat('x', 200) FROM generate_series(2001, 4000) g}), 'all|4|t', 'a transaction that goes by catch-up');
	is(join(',', map { $c->sql($_, 'SELECT count(*) FROM t WHERE id BETWEEN 2001 AND 4000') } 1 .. 4), '2000,2000,2000,2000', '... is there');
	$c->configure(1, 'datacake.spool_size' => '1GB');
	$c->sql(1, 'SELECT pg_reload_conf()');
	is($run->(qq{SET datacake.capture_memory = '64kB'; SET datacake.consistency = 'all';
		INSERT INTO t SELECT g, repeat('x', 200) FROM generate_series(3000001, 3002000) g}), 'all|4|t', 'one whose images are in a file');
	is(join(',', map { $c->sql($_, 'SELECT count(*) FROM t WHERE id BETWEEN 3000001 AND 3002000') } 1 .. 4), '2000,2000,2000,2000', '... is there');
	is($c->sql(1, q{SELECT datacake.last_commit() IS NULL}), 't', 'a session without a commit has no last one');
	$c->error_ok(1, q{SELECT datacake.await()}, qr/this session has not committed to a replicated table/, '... to await');
};

subtest 'a setting of the database or of a role' => sub {
	$c->sql(2, 'ALTER DATABASE postgres SET datacake.consistency = quorum');
	is($c->sql(2, q{INSERT INTO t VALUES (5001, ''); SELECT level FROM datacake.last_commit()}), 'quorum', 'holds for a plain INSERT');
	$c->restart(2);
	$c->wait_for_nodes;
	my ($row) = write_at(1, 'all');
	is(has(2, $row), 1, 'not for the sessions that apply what others wrote');
	$c->sql(2, 'ALTER DATABASE postgres RESET datacake.consistency');
};

subtest 'a peer that does not answer: a WARNING after the commit, never an ERROR' => sub {
	$c->freeze_link(1, 4);
	my ($row, $out, $err) = write_at(1, 'quorum');
	is($err, '', 'quorum does not need it');
	my $s = $c->session(1, on_error_stop => 0);
	$s->query(qq{$verbose\nSET datacake.consistency = 'all'; SET datacake.consistency_timeout = '200 ms';});
	$s->query(q{INSERT INTO t VALUES (6001, '')});
	like($s->{stderr}, qr/WARNING:  YD061: consistency level "all" was not reached within 200 ms\s+DETAIL:.*committed on this node\. .*not known from: [0-9, ]*4/, 'all is late, and who did not answer is named');
	$s->{stderr} = '';
	is(has(1, 6001), 1, 'the row is here');
	is(has(4, 6001), 0, '... not there');
	is($s->query(q{SELECT level, required, acked < 4, 4 = ANY (nodes) FROM datacake.last_commit()}), 'all|4|t|f', 'last_commit() says so, too');
	$s->query(q{SELECT datacake.await('quorum', '2 min')});
	is($s->{stderr}, '', 'await() a level that is reached');
	$s->query(q{SELECT datacake.await('each_quorum', '10 ms')});
	like($s->{stderr}, qr/ERROR:  YD062: outcome: committed here, level unknown: consistency level "each_quorum"/, 'await() one that is not: an error');
	$s->{stderr} = '';
	$s->query(q{DO $$ BEGIN PERFORM datacake.await('each_quorum', '10 ms'); EXCEPTION WHEN SQLSTATE 'YD062' THEN RAISE NOTICE 'not yet'; END $$});
	like($s->{stderr}, qr/NOTICE:  00000: not yet/, '... which PL/pgSQL can catch');
	$s->{stderr} = '';
	$c->thaw_link(1, 4);
	$s->query(q{SELECT datacake.await(timeout => '2 min')});
	is($s->{stderr}, '', 'when the peer goes on, await() succeeds');
	is(has(4, 6001), 1, '... and the row is there');
	is($s->query(q{SELECT acked, nodes FROM datacake.last_commit()}), '4|{1,2,3,4}', 'last_commit() says so, too');
	$s->quit;
};

# during($row): a client that waits on node 1 for node 4, which does not answer
sub during
{
	my ($row) = @_;
	$c->freeze_link(1, 4);
	my $w = $c->start_writer(1, "\\set VERBOSITY verbose\n", q{SET datacake.consistency_timeout = '1 h'}, q{SET datacake.consistency = 'all'}, "INSERT INTO t VALUES ($row, '') RETURNING id", q{SELECT 'goes on'});
	waiting_ok(1, $row, 'it waits, and others see the row already');
	return $w;
}

sub waiter { my ($function, $row) = @_; return $c->sql(1, "SELECT $function(pid) FROM pg_stat_activity WHERE query LIKE 'INSERT%VALUES ($row,%' AND pid <> pg_backend_pid()"); }

subtest 'statement cancel during the wait' => sub {
	my $w = during(6002);
	is(waiter('pg_cancel_backend', 6002), 't', 'canceled');
	ok($c->finish_writer($w), 'the client goes on without an error');
	like($w->{errors}->(), qr/WARNING:  YD061: canceling the wait for consistency level "all" due to user request/, '... and with a warning');
	is(join(' ', $w->{acknowledged}->()), '6002 goes on', '... in the same session');
	$c->thaw_link(1, 4);
	$c->await(4, 'SELECT count(*) FROM t WHERE id = 6002', 1, 'the row arrives');
};

subtest 'terminate during the wait' => sub {
	my $w = during(6003);
	is(waiter('pg_terminate_backend', 6003), 't', 'terminated');
	ok(!$c->finish_writer($w), 'the client loses its connection');
	like($w->{errors}->(), qr/WARNING:  57P01: canceling the wait for consistency level "all" and terminating connection/, '... and was warned');
	is(scalar(grep { /goes on/ } $w->{acknowledged}->()), 0, '... without an acknowledgement');
	is(has(1, 6003), 1, 'the row is here');
	$c->thaw_link(1, 4);
	$c->await(4, 'SELECT count(*) FROM t WHERE id = 6003', 1, '... and arrives');
};

subtest 'fast shutdown during the wait' => sub {
	my $w = during(6004);
	$c->stop(1, 'fast');
	ok(!$c->finish_writer($w), 'the server stops, and the client loses its connection');
	$c->thaw_link(1, 4);
	$c->start_node(1);
	is(has(1, 6004), 1, 'the row is here');
	$c->await(4, 'SELECT count(*) FROM t WHERE id = 6004', 1, '... and arrives');
	$c->wait_for_nodes;
};

subtest 'P4: two nodes update one row at level all, and neither waits for the other' => sub {
	$c->sql(1, q{INSERT INTO t VALUES (7000, ''), (7001, '')});
	$c->await_all('SELECT count(*) FROM t WHERE id = 7000', 1, 'the row is everywhere');
	my $locks = sub { return $c->sql(1, "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE query LIKE '%$_[0]%' AND pid <> pg_backend_pid()"); };
	$c->freeze_link(1, 4);
	my $w = $c->start_writer(1, q{SET datacake.consistency_timeout = '1 h'}, q{SET datacake.consistency = 'all'}, q{UPDATE t SET v = 'waits' WHERE id = 7000});
	$c->await(1, q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%''waits''%' AND wait_event = 'Extension'}, 1, 'a commit waits');
	is($locks->(q{''waits''}), 0, '... and holds no lock');
	my $open = $c->session(1);
	$open->query_safe(q{BEGIN; UPDATE t SET v = 'open' WHERE id = 7001});
	cmp_ok($locks->(q{''open''}), '>', 0, '... as an open transaction does');
	$open->quit;
	is($c->sql(1, q{SET lock_timeout = '30 s'; UPDATE t SET v = 'here' WHERE id = 7000 RETURNING v}), 'here', 'another one writes the row, here');
	is(($c->try_sql(2, qq{$patient SET datacake.consistency = 'local_quorum'; UPDATE t SET v = 'there' WHERE id = 7000}))[2], '', '... and on another node, whose write this node takes');
	$c->thaw_link(1, 4);
	ok($c->finish_writer($w) && $w->{errors}->() eq '', 'its wait ends well');

	my @writers = map {
		my $n = $_;
		$c->start_writer(1 + $n % 2, q{SET datacake.consistency_timeout = '60 s'}, q{SET datacake.consistency = 'all'},
			(map { "UPDATE t SET v = '$n $_' WHERE id = 7000 RETURNING id" } 1 .. 60))
	} 1 .. 4;
	is(scalar(grep { $c->finish_writer($_) && $_->{errors}->() eq '' } @writers), 4, 'four writers on two nodes, all the while: no error, no timeout');
	is(scalar(map { $_->{acknowledged}->() } @writers), 240, '... and all is acknowledged');
	$c->verify_ok('... and alike everywhere');
};

subtest 'many clients at quorum' => sub {
	my @writers = map {
		my $w = $_;
		$c->start_writer(1, q{SET datacake.consistency_timeout = '120 s'}, q{SET datacake.consistency = 'quorum'}, map { "INSERT INTO t VALUES (" . ($w * 1000 + $_) . ", '') RETURNING id" } 1 .. 50)
	} 10 .. 17;
	is(scalar(grep { $c->finish_writer($_) && $_->{errors}->() eq '' } @writers), 8, 'none of them hears a complaint');
	is(scalar(map { $_->{acknowledged}->() } @writers), 400, 'all are acknowledged');
};

subtest 'R: a row acknowledged at quorum is on a majority when COMMIT returns' => sub {
	my %at = map { $_ => $c->session($_) } 1 .. 4;
	my ($fewer, $least) = (0, 4);
	my $count = sub {
		my ($row) = @_;
		$c->freeze(1);
		my $n = 1 + grep { $at{$_}->query("SELECT count(*) FROM t WHERE id = $row") == 1 } 2 .. 4;
		$c->thaw(1);
		return $n;
	};
	$at{1}->query(q{SET datacake.consistency_timeout = '120 s'; SET datacake.consistency = 'quorum'});
	foreach my $row (8001 .. 8100)
	{
		$at{1}->query_safe("INSERT INTO t VALUES ($row, '')");
		my $n = $count->($row);
		$fewer++ if $n < 3;
		$least = $n if $n < $least;
	}
	is($fewer, 0, 'of 100 rows none is on fewer than 3 of 4 nodes while the writer is stopped');
	is($at{1}->{stderr}, '', '... and no complaint');
	$c->wait_for_nodes;
	$c->freeze_link(1, $_) foreach 2, 3;
	$at{1}->query_safe(q{SET datacake.consistency = 'none'; INSERT INTO t VALUES (8101, '')});
	cmp_ok($count->(8101), '<', 3, 'while one acknowledged at none can be: the check can fail');
	# thaw(1) woke the links of node 1 as well
	$_->quit foreach values %at;
};

# refused_ok($i, $level): before the commit; nothing is written
sub refused_ok
{
	my ($i, $level, $missing) = @_;
	my ($row, $out, $err);
	$c->_poll(sub { ($row, $out, $err) = write_at($i, $level); return $err !~ /has just started/; });
	like($err, qr/ERROR:  YD060: consistency level "$level" cannot be met.*not alive or joining: $missing\./s, "$level is refused");
	is(holders($row, $c->running), 0, '... and nothing is written');
	return $row;
}

sub reached_ok
{
	my ($i, $level) = @_;
	my ($row, $out, $err) = write_at($i, $level);
	like($out . $err, qr/^$level\|\d\|t$/, "$level is reached");
	return;
}

sub dead_ok { my ($i) = @_; return $c->await(1, "SELECT state FROM datacake.nodes WHERE node_id = $i", 'dead', "node 1 misses node $i"); }

subtest 'members down: what they are needed for is refused before the commit' => sub {
	$c->wait_for_nodes;
	$c->kill9(4);
	dead_ok(4);
	my @refused = map { refused_ok(1, $_, '4') } qw(all three each_quorum);
	reached_ok(1, $_) foreach qw(quorum local_quorum two one none);
	my ($rc, $out, $err) = $c->try_sql(1, qq{$verbose\nBEGIN; INSERT INTO t VALUES (9001, ''); SELECT kv.put('z', '1', 'all') IS NOT NULL; COMMIT});
	like($err, qr/YD060/, 'an explicit transaction fails at COMMIT');
	is(has(1, 9001), 0, '... with all that it wrote');
	($rc, $out, $err) = $c->try_sql(1, qq{$verbose\n$patient DO \$\$ BEGIN SET LOCAL datacake.consistency = 'quorum'; INSERT INTO t VALUES (9002, ''); COMMIT;
		SET LOCAL datacake.consistency = 'all'; INSERT INTO t VALUES (9003, ''); COMMIT; END \$\$});
	like($err, qr/ERROR:  YD060/, 'PL/pgSQL fails at the COMMIT that asks for it');
	is(has(1, 9002) . has(1, 9003), '10', '... and what it had committed stays');
	($rc, $out, $err) = $c->try_sql(1, "$verbose\nSET datacake.consistency = 'all'; COPY t (id, v) FROM stdin;\n9004\tc\n\\.\n");
	like($err, qr/ERROR:  YD060/, 'COPY fails');
	is(has(1, 9004), 0, '... with all its rows');
	is(($c->try_sql(1, q{SET datacake.consistency = 'all'; CREATE TABLE pg_temp.x (id int); INSERT INTO pg_temp.x VALUES (1); SELECT count(*) FROM t}))[2], '', 'who writes to no replicated table needs nobody');

	$c->kill9(3);
	dead_ok(3);
	push @refused, map { refused_ok(1, $_, '3, 4') } qw(quorum two);
	reached_ok(1, $_) foreach qw(local_quorum one);

	$c->kill9(2);
	dead_ok(2);
	push @refused, map { refused_ok(1, $_, '2, 3, 4') } qw(quorum local_quorum one);
	reached_ok(1, 'none');
	$c->restart(1);
	push @refused, map { refused_ok(1, $_, '2, 3, 4') } qw(local_quorum each_quorum);

	$c->start_node($_) foreach 2 .. 4;
	$c->wait_for_nodes;
	reached_ok(1, 'all');
	$c->verify_ok('all nodes hold the same rows');
	is($c->sql(3, 'SELECT count(*) FROM t WHERE id IN (' . join(',', @refused) . ')'), 0, 'what was refused never arrives');
};

done_testing();
