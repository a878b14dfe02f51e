# Consistency levels while something happens during the wait: peers die, are slow,
# come back, are removed, join; and a partition while a node joins.
#
# Nodes 1, 2 and 3 stand here, node 4 alone in another data centre.
#
# JOINS: how often the network is divided while a node joins (1).
use strict;
use warnings;

use DatacakeCluster;
use DatacakeHistory;
use List::Util qw(shuffle);
use Test::More;
use Time::HiRes qw(usleep);

my $joins = $ENV{JOINS} // 1;

my $c = DatacakeCluster->new(
	nodes     => 4,
	net       => 1,
	conf      => { 'datacake.data_center' => 'here', 'datacake.gossip_interval' => 100, 'datacake.consistency_timeout' => '2s' },
	node_conf => { 4 => { 'datacake.data_center' => 'far' } });
my $net = $c->net;
$c->sql(1, 'CREATE TABLE t (id int PRIMARY KEY, v text)');
$c->replicate('t');
$c->sql(1, q{SELECT datacake.create_keyspace('s', 'text', 'text')});

# ready: each node reaches "all"
sub ready
{
	$c->wait_for_nodes;
	foreach my $i ($c->running)
	{
		$c->_poll(sub { return ($c->try_sql($i, q{SET datacake.consistency = 'all'; INSERT INTO t VALUES (0, '') ON CONFLICT (id) DO UPDATE SET v = 'x'}))[2] eq ''; })
		  or die "node $i does not reach all";
	}
	return;
}

# during($level, $row, %how): a client of node 1 that waits for that level
sub during
{
	my ($level, $row, %how) = @_;
	my $timeout = $how{timeout} // '1 h';
	my $w = $c->start_writer(1, "\\set VERBOSITY verbose\n", "SET datacake.consistency_timeout = '$timeout'", "SET datacake.consistency = '$level'",
		"INSERT INTO t VALUES ($row, '') RETURNING id", q{SELECT level, nodes FROM datacake.last_commit()});
	waits_ok($row, "$level is waited for");
	return $w;
}

sub waits_ok
{
	my ($row, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return $c->await(1, "SELECT count(*) FROM t, pg_stat_activity WHERE id = $row AND backend_type = 'client backend' AND wait_event = 'Extension' AND query LIKE '%VALUES ($row,%'", 1, $name);
}

# reached_ok($w, $row, $said): it goes on without a warning, and says so
sub reached_ok
{
	my ($w, $row, $said) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($c->finish_writer($w), 'the client goes on');
	is($w->{errors}->(), '', '... without a warning');
	like(join(' ', $w->{acknowledged}->()), qr/^$row $said$/, '... and these nodes have it');
	return;
}

# late_ok($w, $level, $have, $missing): it goes on with a warning that names them
sub late_ok
{
	my ($w, $level, $have, $missing) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($c->finish_writer($w), 'the client goes on');
	like($w->{errors}->(), qr/WARNING:  YD061: consistency level "$level" was not reached within .*Flushed on nodes: $have; not known from: $missing\./s, '... with a warning that names who has it and who does not');
	return;
}

ready();

subtest 'a peer dies during the wait, and enough others are left' => sub {
	$c->freeze_link(1, $_) foreach 2, 3;
	my $w = during('quorum', 1);
	$c->kill9(2);
	waits_ok(1, 'it still is');
	$c->thaw_link(1, $_) foreach 2, 3;
	reached_ok($w, 1, qr/quorum\|\{1,3,4\}/);
	$c->start_node(2);
	ready();
};

subtest 'a peer dies during the wait, and not enough are left' => sub {
	$c->freeze_link(1, 2);
	my $w = during('all', 2, timeout => '4 s');
	$c->kill9(2);
	late_ok($w, 'all', '1, 3, 4', '2');
	$c->thaw_link(1, 2);
	$c->start_node(2);
	$c->await(2, 'SELECT count(*) FROM t WHERE id = 2', 1, 'the row arrives');
	ready();
};

subtest 'a peer dies during the wait, and comes back' => sub {
	$c->freeze_link(1, 4);
	my $w = during('each_quorum', 3);
	$c->kill9(4);
	waits_ok(3, 'it still is');
	$c->thaw_link(1, 4);
	$c->start_node(4);
	reached_ok($w, 3, qr/each_quorum\|\{1,(2,|3,|2,3,)4\}/);
	ready();
};

subtest 'a data centre goes down during the wait' => sub {
	$c->freeze_link(1, 4);
	my $w = during('each_quorum', 4, timeout => '4 s');
	$c->stop(4, 'immediate');
	late_ok($w, 'each_quorum', '1, 2, 3', '4');
	$c->thaw_link(1, 4);
	$c->start_node(4);
	ready();
};

subtest 'a peer is slow' => sub {
	$net->rule(4, 1, delay_ms => 300);
	my ($rc, $out, $err) = $c->try_sql(1, q{SET datacake.consistency = 'all'; SET datacake.consistency_timeout = '2 min';
		INSERT INTO t VALUES (5, ''); SELECT level, nodes FROM datacake.last_commit()});
	is($out . $err, 'all|{1,2,3,4}', 'all waits for its ack');
	$net->heal;
};

subtest 'a member is removed during the wait' => sub {
	$c->freeze_link(1, 4);
	my $w = during('all', 6);
	$c->kill9(4);
	$c->thaw_link(1, 4);
	$c->await($_, 'SELECT state FROM datacake.nodes WHERE node_id = 4', 'dead', "node $_ misses it") foreach 1 .. 3;
	waits_ok(6, 'it is waited for as long as it is a member');
	$c->sql(2, 'SELECT datacake.remove_node(4)');
	reached_ok($w, 6, qr/all\|\{1,2,3\}/);
	$c->drop_node(4);
	ready();
};

subtest 'a node joins during the wait' => sub {
	$c->freeze_link(1, $_) foreach 2, 3;
	my $w = during('quorum', 7);
	$c->add_node(5);
	$c->await(1, q{SELECT count(*) FROM datacake.members WHERE state = 'present'}, 4, 'it is a member');
	# of those who have not answered it is the only one that can
	my $one = 'not tried';
	$c->_poll(sub { $one = ($c->try_sql(1, q{SET datacake.consistency = 'one'; SET datacake.consistency_timeout = '500 ms'; INSERT INTO t VALUES (8, '') ON CONFLICT (id) DO UPDATE SET v = 'x'}))[2]; return $one eq ''; });
	is($one, '', 'and its acks count');
	is($c->sql(5, 'SELECT count(*) FROM t WHERE id = 7'), 1, 'it has the row');
	waits_ok(7, 'two of three would have been a quorum; two of four are none');
	$c->thaw_link(1, 2);
	reached_ok($w, 7, qr/quorum\|\{1,2,5\}/);
	$c->thaw_link(1, 3);
	ready();
};

# Writers and readers at quorum on every node, one at none on each side.  Whatever
# list each half has, and whomever it counts: not both of them have a quorum.
foreach my $join (1 .. $joins)
{
	subtest "a partition while a node joins ($join)" => sub {
		my $new     = 10 + $join;
		$c->sql(1, q{SET datacake.consistency = 'all'; TRUNCATE s.entries}); # of another history
		$c->await_all('SELECT count(*) FROM s.entries', 0, 'the history begins with nothing');
		my $history = DatacakeHistory->new($c, 's');
		my @old     = shuffle($c->running);
		$c->init_node($new, 'datacake.data_center' => 'here', 'datacake.seeds' => join(',', map { $c->gossip_address($_) } @old));
		$c->start_node($new);
		$history->start(1, put => 'quorum', get => 'quorum', nodes => [$_]) foreach @old;
		$c->create_extension($new);
		usleep(1_500_000 * rand);

		my $half  = int(@old / 2);
		my @sides = ([ @old[ 0 .. $half - 1 ] ], [ @old[ $half .. $#old ], $new ]);
		$net->partition(@sides);
		my $begin = DatacakeHistory::now();
		$history->start(1, put => 'quorum', get => 'quorum', nodes => [$new]);
		$history->start(1, put => 'none', get => 'none', nodes => $_) foreach @sides;
		my $puts = sub { my ($level, $side, @outcome) = @_; return $history->look->count(kind => 'put', level => $level, nodes => $side, after => $begin, @outcome); };
		foreach my $side (@sides)
		{
			my ($others) = grep { $_ != $side } @sides;
			$c->await($_, 'SELECT count(*) FROM datacake.nodes WHERE node_id IN (' . join(',', @$others) . q{) AND state IN ('alive', 'suspect')}, 0, "node $_ misses the other side") foreach @$side;
			ok($c->_poll(sub { return $puts->('quorum', $side) >= 10 && $puts->('none', $side, outcome => 'acked') >= 10; }), '... and goes on writing');
		}
		$history->stop;
		my @quorum = map { $puts->('quorum', $_, outcome => 'acked') } @sides;
		my @none   = map { $puts->('none', $_, outcome => 'acked') } @sides;
		diag "@{$sides[0]} | @{$sides[1]}: at quorum $quorum[0] | $quorum[1], at none $none[0] | $none[1] writes acknowledged";
		ok($quorum[0] == 0 || $quorum[1] == 0, 'at most one half writes at quorum');
		ok($none[0] > 0 && $none[1] > 0, '... while both write');
		is(join("\n", $history->complaints), '', '... and no quorum read is stale');
		$net->heal;
		$c->await_all(q{SELECT count(*) FROM datacake.members WHERE state = 'present'}, scalar @old + 1, 'healed, it is a member');
		ready();
		$c->verify_ok('the nodes are alike');
		$c->kill9($new);
		$c->await($_, "SELECT state FROM datacake.nodes WHERE node_id = $new", 'dead', "node $_ misses it") foreach @old;
		$c->sql(1, "SELECT datacake.remove_node($new)");
		$c->drop_node($new);
		ready();
	};
}

done_testing();
