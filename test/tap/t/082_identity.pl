# Who a node is: restored backups, promoted standbys, clones, and a removed node
# that returns.  Stamps are not used twice, what was lost comes back from the
# peers, and what was deleted and forgotten stays away.
#
# RESTORES: how often a copy is restored under load (1; make soak: more).
use strict;
use warnings;

use DatacakeCluster;
use DatacakeLoad;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $restores = $ENV{RESTORES} // 1;

my $c = DatacakeCluster->new(
	nodes => 3,
	conf  => { 'datacake.gossip_interval' => 50, 'wal_level' => 'replica', 'max_wal_senders' => 5 });

$c->sql(1, q{CREATE TABLE t (id int PRIMARY KEY, v text)});
$c->replicate('t');

sub incarnation { my ($i) = @_; return $c->sql($i, 'SELECT incarnation FROM datacake.local_state'); }

# forgotten_ok($name): no running node knows of deaths any more
sub forgotten_ok
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return $c->await_all('SELECT sum(dead) FROM datacake.keyspaces', 0, $name);
}

# member_ok($i, $name, $old, $begin): node $i has another incarnation than $old
# and has joined, and all are equal; how fast.
sub member_ok
{
	my ($i, $name, $old, $begin) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$c->await($i, "SELECT joining FROM datacake.local_state WHERE incarnation <> $old", 'f', "$name: it has joined under a new incarnation");
	diag sprintf '%s: %.2f s from its start until it had joined', $name, time - $begin;
	$c->wait_for_nodes;
	$c->verify_ok("$name: all nodes are equal");
	return;
}

# Rows from $first on that all have, before the node's data is copied.
sub before_copy
{
	my ($first) = @_;
	$c->sql(1, "INSERT INTO t SELECT $first + g, 'old' FROM generate_series(0, 99) g");
	$c->await_all("SELECT count(*) FROM t WHERE id >= $first", 100, 'all have the rows to begin with');
	return;
}

# What happens to them after that.  Rows 0 to 9 are deleted by node 1, 10 to 19
# by node 3 itself, and all forget it; 20 to 29 are changed by node 2, 30 to 39 by
# node 3 itself; 100 to 109 are new, of node 3 itself.
sub after_copy
{
	my ($first) = @_;
	$c->sql(1, "DELETE FROM t WHERE id BETWEEN $first AND $first + 9");
	$c->sql(3, "DELETE FROM t WHERE id BETWEEN $first + 10 AND $first + 19");
	$c->sql(2, "UPDATE t SET v = 'by 2' WHERE id BETWEEN $first + 20 AND $first + 29");
	$c->sql(3, "UPDATE t SET v = 'by 3' WHERE id BETWEEN $first + 30 AND $first + 39");
	$c->sql(3, "INSERT INTO t SELECT $first + g, 'lost' FROM generate_series(100, 109) g");
	$c->verify_ok('all have what happened after the copy');
	forgotten_ok('and no node remembers a death');
	return;
}

# After the copy is back as node $i: rows of $first as they must be, a new
# incarnation instead of $old, and stamps that nobody had before.
sub restored_ok
{
	my ($name, $i, $first, $old, $greatest, $begin) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	member_ok($i, $name, $old, $begin);
	is($c->sql($i, "SELECT count(*) FROM t WHERE id BETWEEN $first AND $first + 19"), 0, "$name: what died does not come back");
	is($c->sql($i, qq{SELECT count(*) FILTER (WHERE v = 'by 2'), count(*) FILTER (WHERE v = 'by 3'), count(*) FILTER (WHERE v = 'lost'),
		count(*) FILTER (WHERE v = 'old') FROM t WHERE id BETWEEN $first AND $first + 199}), '10|10|10|60', "$name: what it had lost is back");
	my $stamp = $c->sql($i, "INSERT INTO t VALUES ($first + 150, 'after'), ($first + 15, 'after'); SELECT datacake.last_commit_stamp()::bigint");
	cmp_ok($stamp, '>', $greatest, "$name: its stamps go on above all it ever gave out");
	$c->sql(1, "INSERT INTO t VALUES ($first + 151, 'after')");
	$c->await_all("SELECT count(*) FROM t WHERE id >= $first AND v = 'after'", 3, "$name: it takes part again");
	is($c->sql($i, 'SELECT count(*) FROM datacake.quarantine'), 0, "$name: nothing waits");
	return;
}

my $greatest = q{SELECT max(_stamp::bigint) FROM t};

subtest 'a copy of the data directory is restored' => sub {
	before_copy(1000);
	$c->stop(3);
	my $copy = $c->copy_data(3);
	$c->start_node(3);
	$c->wait_for_nodes;
	my $old = incarnation(3);
	after_copy(1000);
	my $top = $c->sql(3, $greatest);
	$c->stop(3);
	$c->restore_data(3, $copy);
	my $begin  = time;
	my $offset = $c->log_offset(3);
	$c->start_node(3);
	$c->await(3, "SELECT joining FROM datacake.local_state WHERE incarnation <> $old", 'f', 'it joins');
	my $new = incarnation(3);
	$c->stop(3);
	$c->start_node(3);
	restored_ok('restored copy', 3, 1000, $old, $top, $begin);
	$c->log_ok(3, qr/a part of its past was lost/, 'it says so in its log', $offset);
	is(incarnation(3), $new, 'and starts as itself soon after it has joined');
};

# Node 3 writes during the copy, after it, and again while it joins; only what it
# has written when its data is lost must have reached the others.
subtest "a copy is restored under load ($restores)" => sub {
	my $load = DatacakeLoad->new($c);
	my @took;
	foreach my $n (1 .. $restores)
	{
		$load->start;
		$load->await_progress(100);
		my $copy = $c->base_backup(3);
		$load->await_progress(100);
		$load->stop(3);
		ok(defined $load->time_to_convergence(60), 'what node 3 wrote is everywhere');
		$c->kill9(3);
		$c->restore_data(3, $copy);
		my $old   = $c->sql(1, 'SELECT incarnation FROM datacake.nodes WHERE node_id = 3');
		my $begin = time;
		$c->start_node(3);
		$load->start(3);
		$c->await(3, "SELECT joining FROM datacake.local_state WHERE incarnation <> $old", 'f', 'it has joined under a new incarnation', 60);
		push @took, time - $begin;
		$load->await_progress(100);
		$load->stop;
		$load->check_ok("restored under load, $n");
	}
	diag "copy restored under load: from its start until it had joined ", DatacakeLoad::spread(@took);
};

subtest 'a base backup is restored up to a point in time' => sub {
	before_copy(2000);
	my $backup = $c->base_backup(3);
	my $old    = incarnation(3);
	after_copy(2000);
	my $top = $c->sql(3, $greatest);
	$c->kill9(3);
	$c->restore_data(3, $backup);
	$c->configure(3, restore_command => 'false', recovery_target => 'immediate', recovery_target_action => 'promote');
	append_to_file($c->node(3)->data_dir . '/recovery.signal', '');
	my $begin = time;
	$c->start_node(3);
	restored_ok('base backup', 3, 2000, $old, $top, $begin);
};

subtest 'a standby is promoted in place of its node' => sub {
	before_copy(3000);
	$c->clone_node(33, 3, $c->base_backup(3),
		primary_conninfo => $c->node(3)->connstr, restore_command => '', recovery_target => '');
	append_to_file($c->node(33)->data_dir . '/standby.signal', '');
	$c->start_node(33);
	$c->sql(1, q{INSERT INTO t VALUES (3099, 'old') ON CONFLICT (id) DO UPDATE SET v = excluded.v});
	$c->await(33, 'SELECT pg_is_in_recovery()', 't', 'a standby runs');
	is($c->sql(1, q{SELECT count(*) FROM datacake.nodes WHERE complaint IS NOT NULL}), 0, 'and keeps quiet');
	$c->stop(33);
	my $old = incarnation(3);
	after_copy(3000);
	my $top = $c->sql(3, $greatest);
	$c->stop(3, 'immediate');
	$c->drop_node(3);
	my $begin = time;
	$c->start_node(33);
	$c->node(33)->promote;
	$c->{nodes}{3}     = delete $c->{nodes}{33};
	$c->{udp_ports}{3} = delete $c->{udp_ports}{33};
	restored_ok('promoted standby', 3, 3000, $old, $top, $begin);
};

# for soak
subtest 'all nodes are restored' => sub {
	$c->sql(1, "INSERT INTO t SELECT 6000 + g, 'old' FROM generate_series(0, 99) g");
	$c->sql(2, 'DELETE FROM t WHERE id BETWEEN 6000 AND 6009');
	$c->verify_ok('all have the rows to begin with');
	forgotten_ok('and no node remembers a death');
	my %copies;
	foreach my $i (1 .. 3)
	{
		$copies{$i} = $c->base_backup($i);
		$c->sql($i, "UPDATE t SET v = 'by $i' WHERE id BETWEEN 6000 + 10 * $i AND 6009 + 10 * $i; DELETE FROM t WHERE id = 6050 + $i; INSERT INTO t VALUES (6200 + $i, 'new')");
		$c->verify_ok("a copy of node $i, and writes after it");
	}
	my $top = $c->sql(3, $greatest);
	$c->kill9($_) foreach 1 .. 3;
	$c->restore_data($_, $copies{$_}) foreach 1 .. 3;
	my $begin = time;
	$c->start_node($_) foreach 1 .. 3;
	$c->await_all(q{SELECT complaint ~ 'majority' FROM datacake.nodes WHERE local}, 't', 'nobody remembers what was promised, so nothing is decided');
	$c->sql(1, q{SELECT datacake.force_members('{1,2,3}', 'the other members are stopped for good')});
	$c->wait_for_nodes;
	$c->await_all('SELECT joining FROM datacake.local_state', 'f', 'all are members again', 60);
	diag sprintf 'all restored: %.2f s', time - $begin;
	$c->verify_ok('all nodes are equal');
	is($c->sql(1, 'SELECT count(*) FROM t WHERE id BETWEEN 6000 AND 6009'), 0, 'what died before the copies is dead');
	# the last copy has the writes of nodes 1 and 2, nobody those of node 3
	is($c->sql(1, q{SELECT string_agg(id || v, ' ' ORDER BY id) FROM t WHERE id IN (6010, 6020, 6030, 6051, 6052, 6053) OR id > 6200}),
		'6010by 1 6020by 2 6030old 6053old 6201new 6202new', 'what any copy has is on all');
	foreach my $i (1 .. 3)
	{
		my $stamp = $c->sql($i, "INSERT INTO t VALUES (6300 + $i, 'after'); SELECT datacake.last_commit_stamp()::bigint");
		cmp_ok($stamp, '>', $top, "stamps of node $i go on above all given out");
	}
	$c->await_all(q{SELECT count(*) FROM t WHERE v = 'after' AND id > 6300}, 3, 'and all take part');
} if $restores > 1;

subtest 'two servers with one identity' => sub {
	$c->stop(3);
	my $copy = $c->copy_data(3);
	$c->start_node(3);
	$c->wait_for_nodes;
	my $old = incarnation(3);
	# so that the clone finds that it lacks a part of its past
	my $bound = $c->sql(3, 'SELECT clock_bound::bigint FROM datacake.local_state');
	$c->await(1, "SELECT floor::bigint > $bound FROM datacake.nodes WHERE node_id = 3", 't', 'a node has promised more than the copy of it knows');
	$c->clone_node(43, 3, $copy);
	$c->start_node(43);
	$c->await(43, "SELECT count(*) FROM datacake.nodes WHERE local AND incarnation <> $old", 1, 'its clone goes on as another incarnation');
	$c->await($_, q{SELECT count(*) > 0 FROM datacake.nodes WHERE node_id = 3 AND complaint ~ 'speaks? as this node'}, 't', "node $_ is told") foreach 1, 2, 3, 43;
	$c->sql(3,  q{INSERT INTO t VALUES (4001, 'by 3')});
	$c->sql(43, q{INSERT INTO t VALUES (4002, 'by the clone')});
	$c->sql(1, q{INSERT INTO t VALUES (4003, 'by 1')});
	$c->await(2, q{SELECT count(*) FROM t WHERE id = 4003}, 1, 'the others go on');
	is($c->sql($_, 'SELECT string_agg(id::text, chr(32) ORDER BY id) FROM t WHERE id > 4000'), '4003', "node $_ takes nothing from either") foreach 1, 2;
	is($c->sql(3, 'SELECT string_agg(id::text, chr(32) ORDER BY id) FROM t WHERE id > 4000'), '4001', 'and gives nothing to it');
	$c->stop(43);
	$c->drop_node(43);
	my $begin = time;
	$c->await_all('SELECT string_agg(id::text, chr(32) ORDER BY id) FROM t WHERE id > 4000', '4001 4003', 'when the clone is stopped the node goes on', 60);
	member_ok(3, 'after the clone', $old, $begin);
	$c->await($_, q{SELECT count(*) FROM datacake.nodes WHERE complaint IS NOT NULL AND state <> 'dead'}, 0, "node $_ has no complaint any more") foreach 1 .. 3;
};

subtest 'a removed node returns with old rows' => sub {
	before_copy(5000);
	$c->pause(3);
	$c->sql(3, q{INSERT INTO t SELECT 5100 + g, 'unknown' FROM generate_series(0, 9) g; UPDATE t SET v = 'unknown' WHERE id BETWEEN 5090 AND 5094});
	my $old = incarnation(3);
	$c->stop(3);
	$c->sql(1, 'DELETE FROM t WHERE id BETWEEN 5000 AND 5049');
	$c->await(1, 'SELECT state FROM datacake.nodes WHERE node_id = 3', 'dead', 'a node is gone');
	$c->sql(1, 'SELECT datacake.remove_node(3)');
	$c->await_all('SELECT state FROM datacake.members WHERE node_id = 3', 'removed', 'and removed');
	$c->sql(2, 'DELETE FROM t WHERE id BETWEEN 5050 AND 5059');
	forgotten_ok('what was deleted meanwhile is forgotten');

	$c->start_node(3);
	$c->await(3, q{SELECT count(*) > 0 FROM datacake.peers WHERE last_error ~ 'removed from the cluster'}, 't', 'it returns, and is told');
	is($c->sql(3, 'SELECT count(*) FROM t WHERE id BETWEEN 5000 AND 5059'), 60, 'it changes nothing by itself');
	is($c->sql(1, 'SELECT count(*) FROM t WHERE id BETWEEN 5000 AND 5059'), 0, 'here neither');
	my $begin = time;
	$c->sql(3, q{SELECT datacake.join('127.0.0.1:} . $c->udp_port(1) . q{')});
	member_ok(3, 'asked to join', $old, $begin);
	$c->await_all('SELECT state FROM datacake.members WHERE node_id = 3', 'present', 'it is a member again');
	is($c->sql($_, 'SELECT count(*) FROM t WHERE id BETWEEN 5000 AND 5059'), 0, "what was deleted does not come back on node $_") foreach 1 .. 3;
	is($c->sql(3, q{SELECT count(*), min(key), max(key), min("row"->>'v') FROM datacake.orphan}), '10|5100|5109|unknown', 'rows that it wrote and nobody knows are set aside');
	$c->await_all('SELECT count(*) FROM t WHERE id BETWEEN 5100 AND 5109', 0, 'and are in no table');
	$c->await_all(q{SELECT count(*) FROM t WHERE v = 'unknown'}, 5, 'its updates of rows that are alive count');
	$c->sql(3, q{INSERT INTO t VALUES (5200, 'after')});
	$c->await_all('SELECT v FROM t WHERE id = 5200', 'after', 'it takes part again');
	$c->verify_ok('all nodes are equal');
};

subtest 'a copy with another node id' => sub {
	$c->stop(3);
	$c->clone_node(4, 3, $c->copy_data(3), 'datacake.node_id' => 4);
	$c->start_node(3);
	$c->start_node(4);
	$c->log_ok(4, qr/this database belongs to node 3/, 'does not start');
	$c->stop(4);
	$c->drop_node(4);
	$c->wait_for_nodes;
	$c->verify_ok('and does no harm');
};

done_testing();
