# Connections and processes of a cluster of NODES nodes (5; make soak: 12): as many
# as doc/operations.md says, idle, under load and after repairs.
use strict;
use warnings;

use DatacakeCluster;
use DatacakeLoad;
use Test::More;
use Time::HiRes qw(time usleep);

my $n = $ENV{NODES} // 5;
my $seconds = $ENV{IDLE_SECONDS} // 3; # of idleness, measured

my $begin = time;
my $c = DatacakeCluster->new(
	nodes => $n,
	conf  => {
		'shared_buffers'           => '16MB',
		'datacake.metadata_memory' => '16MB',
		'datacake.queue_size'      => '1MB',
		'datacake.repair_interval' => 0
	});
diag sprintf '%d nodes run and see each other after %.1f s', $n, time - $begin;

# links($i): the connections through which others stream to node $i, by name
sub links
{
	my ($i) = @_;
	return $c->sql($i, q{SELECT coalesce(string_agg(application_name, ',' ORDER BY application_name), '')
		FROM pg_stat_activity WHERE application_name LIKE 'datacake node %'});
}

# steady_ok($name): on each node one such connection from each other node.
sub steady_ok
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @wrong;
	foreach my $i (1 .. $n)
	{
		my $expected = join ',', sort map { "datacake node $_" } grep { $_ != $i } 1 .. $n;
		my $got;
		$c->_poll(sub { $got = links($i); return $got eq $expected }) or push @wrong, "node $i: $got";
	}
	ok(!@wrong, "$name: one connection from each to each") or diag join "\n", @wrong;
	return;
}

# used(@pids): (Pss in kB, of it private, CPU ticks) of these processes together
sub used
{
	my (@pids) = @_;
	my ($pss, $private, $ticks) = (0, 0, 0);
	foreach my $pid (@pids)
	{
		my $rollup = PostgreSQL::Test::Utils::slurp_file("/proc/$pid/smaps_rollup");
		$pss += $1 if $rollup =~ /^Pss:\s+(\d+)/m;
		$private += $1 while $rollup =~ /^Private_\w+:\s+(\d+)/mg;
		my @stat = split ' ', (PostgreSQL::Test::Utils::slurp_file("/proc/$pid/stat") =~ /\) (.*)/)[0];
		$ticks += $stat[11] + $stat[12];
	}
	return ($pss, $private, $ticks);
}

$c->sql(1, 'CREATE TABLE t (id int PRIMARY KEY, v text)');
$c->replicate('t');

subtest "idle, $n nodes" => sub {
	steady_ok('idle');
	my $workers = $c->sql(1, 'SELECT count(*) FROM datacake.workers WHERE pid IS NOT NULL');
	is($c->sql(1, 'SELECT count(*) FROM datacake.workers'), $workers, 'all workers run');
	is($c->sql(1, q{SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'datacake%' AND application_name NOT LIKE '% of node %'}),
		$n - 1 + $workers - 1, 'processes with a database: the workers but gossip, and one for each peer'); # gossip has none
	my @peers = split /\n/, $c->sql(1, q{SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'datacake node %'});
	my @workers = split /\n/, $c->sql(1, 'SELECT pid FROM datacake.workers');
	my @before = (used(@peers), used(@workers), $c->sql(1, 'SELECT sum(sent_bytes) FROM datacake.peers'));
	usleep($seconds * 1_000_000);
	my @after = (used(@peers), used(@workers), $c->sql(1, 'SELECT sum(sent_bytes) FROM datacake.peers'));
	my $percent = sub { my ($k) = @_; return ($after[$k] - $before[$k]) / $seconds; }; # 100 ticks a second
	diag sprintf 'idle, %d nodes: for each peer %.1f MB of memory, %.1f of it its own, %.2f %% of a processor to answer it, %.0f bytes/s to it; the workers %.1f %%',
	  $n, $after[0] / @peers / 1024, $after[1] / @peers / 1024, $percent->(2) / @peers, $percent->(6) / @peers, $percent->(5);
	my @all = $c->processes(1);
	diag sprintf 'idle, %d nodes: %d processes of node 1, the server\'s own included', $n, scalar @all;
};

subtest "all write, $n nodes" => sub {
	my $load = DatacakeLoad->new($c, clients => 1, pause_ms => 30);
	$load->start;
	$load->await_progress(30 * $n);
	steady_ok('under load');
	my $took = $load->time_to_convergence(120);
	ok(defined $took, 'what was written is everywhere');
	diag sprintf '%d nodes: %.2f s to convergence under load', $n, $took if defined $took;
	$load->stop;
	$load->check_ok('and nothing is lost');
};

subtest 'connections of their own end when they are done' => sub {
	$c->sql($_, 'SELECT count(*) FROM datacake.repair()') foreach 1, $n;
	steady_ok('after repairs');
	$c->await_all(q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'datacake_repl' AND application_name NOT LIKE 'datacake node %'}, 0,
		'questions have left none, a minute later', 180);
};

subtest 'a node goes and comes back' => sub {
	$c->kill9($n);
	$c->await(1, "SELECT state FROM datacake.nodes WHERE node_id = $n", 'dead', 'it is missed');
	$c->await(1, "SELECT state FROM datacake.peers WHERE node_id = $n", 'down', 'its link is closed');
	$c->sql(1, q{INSERT INTO t SELECT g, 'meanwhile' FROM generate_series(1, 2000) g});
	$c->start_node($n);
	$c->wait_for_nodes;
	$c->await($n, q{SELECT count(*) FROM t}, 2000, 'it catches up');
	steady_ok('after that');
};

$c->verify_ok('all are equal');
done_testing();
