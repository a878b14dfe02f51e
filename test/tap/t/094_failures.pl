# Failures that come and go on real servers, under load: processes that stop and
# go on, links that flap, connections that only half of the network knows of.  Partitions, loss and corruption are in 081_partition.pl.
use strict;
use warnings;

use DatacakeCluster;
use DatacakeLoad;
use Test::More;
use Time::HiRes qw(time usleep);

my $c = DatacakeCluster->new(nodes => 3, net => 1, conf => { 'datacake.gossip_interval' => 50 });
my $net = $c->net;
my $load = DatacakeLoad->new($c);

# await_state($i, $other, @states): node $i says one of them of $other, in the end
sub await_state
{
	my ($i, $other, @states) = @_;
	$c->_poll(sub { my $got = $c->sql($i, "SELECT state FROM datacake.nodes WHERE node_id = $other"); return grep { $_ eq $got } @states })
	  or die "node $i does not see node $other @states";
	return;
}

# recovered_ok($name): all is well again, and the load has lost nothing.
sub recovered_ok
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$c->await_all(q{SELECT count(*) FROM datacake.nodes WHERE state = 'alive'}, 3, "$name: all are alive for all");
	my $took = $load->time_to_convergence(60);
	ok(defined $took, "$name: all have all writes");
	diag sprintf '%s: %.2f s from healing to convergence', $name, $took if defined $took;
	$load->stop;
	$load->check_ok("$name: nothing is lost");
	return;
}

subtest 'each node is stopped, and goes on' => sub {
	$load->start;
	foreach my $i (1 .. 3)
	{
		my ($one, $other) = grep { $_ != $i } 1 .. 3;

		# first only for long enough to be suspected
		foreach my $states ([qw(suspect dead)], ['dead'])
		{
			$c->freeze($i);
			await_state($one, $i, @$states);
			$load->await_progress(60); # of the others' clients
			is($c->sql($other, "SELECT count(*) FROM datacake.nodes WHERE node_id IN ($one, $other) AND state = 'alive'"), 2,
				"node $i is $states->[0]: the others see each other alive, and their clients go on");
			$c->thaw($i);
			await_state($_, $i, 'alive') foreach $one, $other;
		}
	}
	recovered_ok('stopped');
};

subtest 'one process of a node is stopped' => sub {
	$load->start;
	foreach my $worker (qw(gossip replicator maintainer launcher))
	{
		$c->freeze_worker(2, $worker);
		await_state(1, 2, 'dead') if $worker eq 'gossip';
		$load->await_progress(60);
		$c->thaw_worker(2, $worker);
		pass("the $worker: clients go on");
	}
	recovered_ok('one process');
};

subtest 'a link that flaps' => sub {
	$load->start;
	my ($flaps, $until) = (0, time + 6);
	while (time < $until)
	{
		my $how = $flaps++ % 2 ? 'hold' : 'reset';
		$net->partition([1], [2], $how);
		usleep(250_000 * rand);
		$net->heal;
		usleep(250_000 * rand);
	}
	$load->await_progress(20);
	diag "$flaps flaps";
	recovered_ok('flapping');
	is($c->sql($_, 'SELECT max(restarts) FROM datacake.workers'), 0, "no worker of node $_ ended") foreach 1, 3;
};

subtest 'TCP is held one way while gossip passes' => sub {
	$load->start;
	$net->rule(1, 3, cut_tcp => 'hold');
	my $id = 900_001;
	$c->sql(1, "INSERT INTO load VALUES ($id, 'held')");
	usleep(500_000);
	$c->await(1, 'SELECT state FROM datacake.nodes WHERE node_id = 3', 'alive', 'it is alive for gossip');
	$load->await_progress(60);
	pass('clients of all nodes go on');
	$c->sql(3, "INSERT INTO load VALUES ($id + 1, 'back')");
	$c->await(2, "SELECT count(*) FROM load WHERE id IN ($id, $id + 1)", 2, 'the third has the writes of both');

	# behind the hold the other end goes away: nobody tells node 1
	$c->kill9(3);
	$c->start_node(3);
	$net->heal;
	$c->await(3, "SELECT count(*) FROM load WHERE id IN ($id, $id + 1)", 2, 'the restarted one gets what was held');
	$c->sql(1, "DELETE FROM load WHERE id IN ($id, $id + 1)");
	recovered_ok('half-open');
};

subtest 'connections are refused while gossip passes' => sub {
	$load->start;
	$net->rule(@$_, cut_tcp => 'reset') foreach [ 1, 3 ], [ 3, 1 ];
	$c->await($_->[0], "SELECT count(*) FROM datacake.peers WHERE node_id = $_->[1] AND state <> 'streaming' AND last_error IS NOT NULL", 1,
		"node $_->[0] tells that it cannot reach node $_->[1]") foreach [ 1, 3 ], [ 3, 1 ];
	$c->sql(1, q{INSERT INTO load VALUES (900011, 'by way of 2')});
	$c->await(3, 'SELECT count(*) FROM load WHERE id = 900011', 1, 'the third node relays');
	$c->sql(1, q{DELETE FROM load WHERE id = 900011});
	$net->heal;
	recovered_ok('only gossip');
};

done_testing();
