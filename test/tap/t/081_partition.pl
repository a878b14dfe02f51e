# What a network can do to the nodes: partitions of every form, loss, delay,
# corruption, connections that are half open, and nodes that are stopped.
#
# PARTITION_SECONDS: how long the network changes at random under load (8; make
# soak: minutes).
use strict;
use warnings;

use DatacakeCluster;
use DatacakeLoad;
use List::Util qw(shuffle);
use Test::More;
use Time::HiRes qw(time usleep);

my $seconds = $ENV{PARTITION_SECONDS} // 8;

my $c = DatacakeCluster->new(
	nodes => 3,
	net   => 1,
	conf  => { 'deadlock_timeout' => '200ms', 'datacake.gossip_interval' => 50, 'datacake.queue_size' => '1MB' });
my $net = $c->net;

$c->sql(1, q{CREATE TABLE t (id int PRIMARY KEY, v text)});
$c->replicate('t');
my $load = DatacakeLoad->new($c);

# state_ok($i, $other, $state): that is what node $i says of $other, in the end
sub state_ok
{
	my ($i, $other, $state) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return $c->await($i, "SELECT state FROM datacake.nodes WHERE node_id = $other", $state, "node $i sees node $other $state");
}

# healed_ok($name, $seconds): all rules are gone; all nodes converge within that
# time (60 s), and how fast.
sub healed_ok
{
	my ($name, $limit) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$net->heal;
	my $took = $load->time_to_convergence($limit // 60);
	ok(defined $took, "$name: healed, all nodes have all writes");
	diag sprintf '%s: %.2f s from healing to convergence', $name, $took if defined $took;
	$c->verify_ok("$name: the nodes are equal");
	return;
}

subtest 'all bytes between the nodes pass here' => sub {
	my %counts = $net->counts;
	ok(!$counts{datagrams_lost}, 'nothing is lost yet');
	cmp_ok($counts{datagrams}, '>', 0, 'gossip');
	cmp_ok($counts{connections}, '>=', 6, 'and links');
	$net->partition([ 1, 2 ], [3]);
	$c->sql(1, q{INSERT INTO t VALUES (1, 'a')});
	$c->await(2, q{SELECT count(*) FROM t}, 1, 'what a partition does not divide exchanges rows');
	$c->sql(2, q{INSERT INTO t VALUES (2, 'b')});
	$c->await(1, q{SELECT count(*) FROM t}, 2, 'both ways');
	state_ok($_, 3, 'dead') foreach 1, 2;
	state_ok(3, $_, 'dead') foreach 1, 2;
	is($c->sql(3, q{SELECT count(*) FROM t}), 0, 'and what it divides does not');
	healed_ok('first partition');
};

# Keys of ten, all with v = 'base': [side, statement] in the order of time; side 1
# is node 1 or 2, side 3 is node 3.  The last member is what is left of the keys.
my @cases = (
	[ 'update here, later update there', [ 1, q{UPDATE t SET v = 'x' WHERE id = :0} ], [ 3, q{UPDATE t SET v = 'y' WHERE id = :0} ], '0y 1base' ],
	[ 'update there, later update here', [ 3, q{UPDATE t SET v = 'x' WHERE id = :0} ], [ 1, q{UPDATE t SET v = 'y' WHERE id = :0} ], '0y 1base' ],
	[ 'delete here, later update there', [ 1, q{DELETE FROM t WHERE id = :0} ],        [ 3, q{UPDATE t SET v = 'y' WHERE id = :0} ], '0y 1base' ],
	[ 'update there, later delete here', [ 3, q{UPDATE t SET v = 'x' WHERE id = :0} ], [ 1, q{DELETE FROM t WHERE id = :0} ],        '1base' ],
	[ 'delete on both sides',            [ 3, q{DELETE FROM t WHERE id = :0} ],        [ 1, q{DELETE FROM t WHERE id = :0} ],        '1base' ],
	[ 'insert here, later insert there', [ 1, q{INSERT INTO t VALUES (:2, 'x')} ], [ 3, q{INSERT INTO t VALUES (:2, 'y')} ], '0base 1base 2y' ],
	[ 'delete and insert here, later update there',
		[ 1, q{DELETE FROM t WHERE id = :0} ], [ 1, q{INSERT INTO t VALUES (:0, 'x')} ], [ 3, q{UPDATE t SET v = 'y' WHERE id = :0} ], '0y 1base' ],
	[ 'insert and delete there, later insert here',
		[ 3, q{INSERT INTO t VALUES (:2, 'x')} ], [ 3, q{DELETE FROM t WHERE id = :2} ], [ 1, q{INSERT INTO t VALUES (:2, 'y')} ], '0base 1base 2y' ],
	[ 'key change here, later update there', [ 1, q{UPDATE t SET id = :2 WHERE id = :0} ], [ 3, q{UPDATE t SET v = 'y' WHERE id = :0} ], '0y 1base 2base' ],
	[ 'transactions that overlap',
		[ 3, q{BEGIN; UPDATE t SET v = 'x' WHERE id = :0; DELETE FROM t WHERE id = :1; COMMIT} ], [ 1, q{UPDATE t SET v = 'y' WHERE id = :1} ], '0x 1y' ],
	[ 'only there', [ 3, q{DELETE FROM t WHERE id = :1; INSERT INTO t VALUES (:2, 'x')} ], '0base 2x' ],
	[ 'only here',  [ 1, q{DELETE FROM t WHERE id = :1; INSERT INTO t VALUES (:2, 'x')} ], '0base 2x' ],
);

my $first = 100;
foreach my $how (qw(hold reset))
{
	subtest "two nodes apart from the third, by \"$how\"" => sub {
		$c->sql(1, "INSERT INTO t SELECT 10 * ($first + g) + k, 'base' FROM generate_series(0, $#cases) g, generate_series(0, 1) k");
		$c->verify_ok('the rows to begin with');
		$net->partition([ 1, 2 ], [3], $how);
		state_ok(1, 3, 'dead');
		foreach my $n (0 .. $#cases)
		{
			my ($name, @steps) = @{ $cases[$n] };
			pop @steps;
			foreach my $step (@steps)
			{
				my ($side, $statement) = @$step;
				$statement =~ s/:([0-9])/10 * ($first + $n) + $1/ge;
				$c->sql($side == 1 ? 1 + $n % 2 : 3, $statement);
			}
		}
		isnt($c->sql(1, 'SELECT md5(string_agg(id || v, chr(10) ORDER BY id)) FROM t'), $c->sql(3, 'SELECT md5(string_agg(id || v, chr(10) ORDER BY id)) FROM t'), 'the sides differ');
		healed_ok("2|1 by $how");
		foreach my $n (0 .. $#cases)
		{
			my $case = $first + $n;
			is($c->sql(2, "SELECT string_agg(id - 10 * $case || v, ' ' ORDER BY id) FROM t WHERE id / 10 = $case"), $cases[$n][-1], $cases[$n][0]);
		}
		$first += 100;
	};
}

subtest 'one way only' => sub {
	$c->sql(1, q{INSERT INTO t SELECT g, 'base' FROM generate_series(11, 16) g});
	$c->verify_ok('the rows to begin with');
	$net->cut(1, 2);
	$c->sql(1, q{UPDATE t SET v = '1 first' WHERE id IN (11, 12)});
	$c->sql(2, q{UPDATE t SET v = '2 later' WHERE id IN (12, 13); DELETE FROM t WHERE id = 14});
	$c->await(1, q{SELECT string_agg(id || v, ', ' ORDER BY id) FROM t WHERE id BETWEEN 11 AND 14},
		'111 first, 122 later, 132 later', 'what the cut does not hold arrives');
	$c->sql(1, q{UPDATE t SET v = '1 last' WHERE id = 13; INSERT INTO t VALUES (14, '1 last')});
	$c->await(3, q{SELECT string_agg(id || v, ', ' ORDER BY id) FROM t WHERE id BETWEEN 11 AND 14},
		'111 first, 122 later, 131 last, 141 last', 'the third hears both');
	$c->sql(3, q{UPDATE t SET v = 'by 3' WHERE id = 15});
	$c->await($_, q{SELECT v FROM t WHERE id = 15}, 'by 3', "and node $_ hears it") foreach 1, 2;
	healed_ok('one way');
	is($c->sql(2, q{SELECT string_agg(id || v, ', ' ORDER BY id) FROM t WHERE id BETWEEN 11 AND 16}),
		'111 first, 122 later, 131 last, 141 last, 15by 3, 16base', 'with what was written last');
};

# for soak: it takes a minute
subtest 'a session that is never answered' => sub {
	my $offset = $c->log_offset(1);
	$net->cut(3, 1);
	$c->sql(1, q{INSERT INTO t VALUES (17, 'no answer')});
	$c->await(3, q{SELECT count(*) FROM t WHERE id = 17}, 1, 'calls arrive, answers do not');
	$c->log_ok(1, qr/datacake link to node 3 is down: the peer does not answer/, 'it is given up', $offset, 90);
	healed_ok('no answer');
} if $seconds > 60;

subtest 'a node that is alone, and crashes' => sub {
	$net->isolate(2);
	$c->sql(2, q{INSERT INTO t SELECT g, 'alone' FROM generate_series(10001, 12000) g; DELETE FROM t WHERE id IN (11, 12)});
	$c->sql(1, q{INSERT INTO t SELECT g, 'others' FROM generate_series(11001, 13000) g; UPDATE t SET v = 'others' WHERE id = 12});
	state_ok(2, 1, 'dead');
	$c->kill9(2);
	$c->start_node(2);
	$c->sql(2, q{UPDATE t SET v = 'after the crash' WHERE id = 10001});
	is($c->sql(2, q{SELECT count(*) FROM t WHERE v = 'others'}), 0, 'it is still alone');
	healed_ok('isolated and crashed');
	is($c->sql(1, q{SELECT count(*) FILTER (WHERE v = 'alone'), count(*) FILTER (WHERE v = 'others'), count(*) FILTER (WHERE v = 'after the crash') FROM t WHERE id > 10000}),
		'999|2000|1', 'all rows are there, the later ones where both wrote');
	is($c->sql(3, q{SELECT string_agg(id || v, ' ') FROM t WHERE id IN (11, 12)}), '12others', 'the delete and the later update too');
};

subtest 'a node that is stopped blocks nobody' => sub {
	$c->freeze(3);
	my ($late, @took) = (0);
	# before and after the others declare it dead
	my $n = 0;
	while ($n < 20 || $c->sql(1, q{SELECT state FROM datacake.nodes WHERE node_id = 3}) ne 'dead')
	{
		my ($from, $to) = ++$n % 2 ? (1, 2) : (2, 1);
		my $start = time;
		$c->sql($from, "INSERT INTO t VALUES (20000 + $n, 'meanwhile')");
		$late++ unless $c->_poll(sub { return $c->sql($to, "SELECT count(*) FROM t WHERE id = 20000 + $n") == 1; }, 30);
		push @took, time - $start;
	}
	is($late, 0, 'the others exchange their writes');
	diag 'while one node is stopped: write, and seen by the other, ', DatacakeLoad::spread(@took);
	$c->sql(1, q{INSERT INTO t SELECT g, repeat('x', 500) FROM generate_series(30001, 40000) g; DELETE FROM t WHERE id BETWEEN 20001 AND 20010});
	$c->await(2, 'SELECT count(*) FROM t WHERE id > 30000', 10000, 'more than the queue holds');
	$c->thaw(3);
	healed_ok('stopped');
	is($c->sql(3, q{SELECT count(*) FROM t WHERE v = 'meanwhile'}), $n - 10, 'it has what was written meanwhile, and not what was deleted');
};

subtest 'a connection breaks when one catch-up follows another' => sub {
	# Node 3 hears node 1 alone; its acks come late, so that four messages are
	# under way and the second catch-up begins before the first is acknowledged.
	my $seen = sub { my ($what) = @_; return $c->sql(1, "SELECT coalesce(sum($what), 0) FROM datacake.peers WHERE node_id = 3"); };
	my $delay_ms = 200;
	$net->isolate(3);
	state_ok(1, 3, 'dead');
	$c->sql(1, q{INSERT INTO t SELECT g, 'first' FROM generate_series(60001, 68000) g});
	$net->rule(3, 1, delay_ms => $delay_ms);
	$net->rule(@$_, cut => '') foreach [ 1, 3 ], [ 3, 1 ];
	ok($c->_poll(sub { return $seen->('catchup_rows') >= 1000; }), 'a catch-up begins');
	my $catchups = $seen->('catchups');
	$net->partition([1], [3]);
	$net->sever(1, 3);
	$c->sql(1, q{INSERT INTO t SELECT g, 'second' FROM generate_series(70001, 71000) g});
	$net->rule(@$_, cut => '') foreach [ 1, 3 ], [ 3, 1 ];
	ok($c->_poll(sub { return $seen->('catchups') > $catchups; }), 'it is resumed, and another one follows');
	usleep(1000 * $delay_ms / 3); # the last acks of the first have arrived, those of the second have not
	$net->sever(1, 3);
	healed_ok('between catch-ups');
	is($c->sql(3, q{SELECT count(*) FILTER (WHERE v = 'first'), count(*) FILTER (WHERE v = 'second') FROM t}), '8000|1000', 'nothing is left out');
};

subtest 'datagrams are lost, repeated, late and corrupted' => sub {
	my $offset = $c->log_offset(1);
	my %before = $net->counts;
	$net->all_rules(loss => 0.2, duplicate => 0.2, corrupt => 0.2, jitter_ms => 100);
	foreach my $n (1 .. 10)
	{
		my $i = 1 + $n % 3;
		$c->sql($i, "INSERT INTO t VALUES (50000 + $n, 'noise')");
		$c->await_all("SELECT count(*) FROM t WHERE id = 50000 + $n", 1, "write $n arrives everywhere");
	}
	$c->log_ok(1, qr/datagrams from \S+ do not authenticate|refused datagrams/, 'what was corrupted is refused', $offset);
	my %after = $net->counts;
	cmp_ok($after{datagrams_corrupted}, '>', $before{datagrams_corrupted} // 0, 'there were such');
	healed_ok('noise');
};

subtest 'links are slow' => sub {
	$net->all_rules(delay_ms => 50, jitter_ms => 50);
	$load->start;
	$load->await_progress(100);
	$load->stop;
	$load->check_ok('after 50 to 100 ms one way');
	healed_ok('slow');
};

# A spoilt length makes both ends wait; that ends after 60 s, so it is for soak.
foreach my $what ('corrupt_sealed', $seconds > 60 ? 'corrupt_tcp' : ())
{
	subtest "bytes of links are corrupted ($what)" => sub {
		my $offset = $c->log_offset(1);
		my %before = $net->counts;
		$net->all_rules($what => 0.05);
		$load->start;
		$load->await_progress(200);
		$c->log_ok(1, qr/datacake link to node [23] is down/, 'a link ends', $offset);
		$net->heal;
		$load->stop;
		my %after = $net->counts;
		cmp_ok($after{pieces_corrupted}, '>', $before{pieces_corrupted} // 0, 'bytes were changed');
		healed_ok($what, 150);
		$load->check_ok("after $what");
	};
}

# One change of the network, or a crash on top of it, in words.
sub change
{
	my ($one, $other, $third) = shuffle 1 .. 3;
	my $how  = rand() < 0.5 ? 'hold' : 'reset';
	my $dice = rand;
	$net->heal if rand() < 0.6;
	if ($dice < 0.2) { $net->heal; return 'healed'; }
	if ($dice < 0.4) { $net->isolate($one, $how); return "$one isolated ($how)"; }
	if ($dice < 0.55) { $net->partition([$one], [$other], $how); return "$one and $other apart ($how)"; }
	if ($dice < 0.7) { $net->cut($one, $other, $how); return "$one to $other cut ($how)"; }
	if ($dice < 0.8) { $net->all_rules(delay_ms => 30 * rand, jitter_ms => 60 * rand, loss => rand 0.5, duplicate => rand 0.5); return 'noise'; }
	if ($dice < 0.88) { $net->sever($one, $other); return "$one and $other severed"; }
	if ($dice < 0.95)
	{
		$c->kill9($one);
		$c->start_node($one);
		return "$one killed and started";
	}
	$net->isolate($_, $how) foreach 1 .. 3;
	return "all isolated ($how)";
}

subtest "the network changes for $seconds s under load" => sub {
	my ($late, $changes, @took) = (0, 0);
	my $until = time + $seconds;
	$load->start;
	while (time < $until)
	{
		# some changes on top of each other, then a look at how it heals
		foreach (1 .. 1 + int rand 4)
		{
			note change();
			$changes++;
			usleep(1_500_000 * rand);
		}
		$net->heal;
		my $took = $load->time_to_convergence(60);
		defined $took ? push @took, $took : $late++;
	}
	is($late, 0, 'after every healing the nodes exchange everything within 60 s');
	diag "$changes changes of the network; from healing until all nodes have all writes ", DatacakeLoad::spread(@took);
	$load->stop;
	$load->check_ok('after the last change');
	is($c->sql($_, q{SELECT sum(waiting) FROM datacake.keyspaces}), 0, "node $_ has nothing in quarantine") foreach 1 .. 3;
};

done_testing();
