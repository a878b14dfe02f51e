# Who listens to datacake_membership is told every change of the nodes and of the
# member list, and datacake.nodes says the same.
use strict;
use warnings;

use DatacakeCluster;
use JSON::PP;
use Test::More;

my $c = DatacakeCluster->new(nodes => 3, conf => { 'datacake.gossip_interval' => 50 });
$c->await_all(q{SELECT count(*) FROM datacake.nodes WHERE state = 'alive'}, 3, 'all have joined');
my @events; # what node 1 told its listener, decoded
my $listener = $c->session(1, on_error_stop => 0);
$listener->query_safe('LISTEN datacake_membership');

# take: what has come until now
sub take
{
	my $printed = $listener->query('SELECT 1');
	while ($printed =~ /Asynchronous notification "datacake_membership" with payload "(\{.*\})" received/g)
	{
		cmp_ok(length $1, '<', 8000, 'a payload is short') if length $1 >= 8000;
		push @events, decode_json($1);
	}
	return;
}

# told_ok(\%like, $name): an event with these values comes in the end
sub told_ok
{
	my ($like, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $found;
	$c->_poll(
		sub {
			take();
			($found) = grep { my $e = $_; !grep { ($e->{$_} // 'null') ne $like->{$_} } keys %$like } @events;
			return defined $found;
		});
	ok($found, $name) or diag map { encode_json($_) . "\n" } @events;
	return $found // {};
}

sub states { my ($id) = @_; return join ' ', map { "$_->{from}>$_->{to}" } grep { $_->{event} eq 'state' && $_->{node_id} == $id } @events; }

subtest 'a node is killed and comes back' => sub {
	my $incarnation = $c->sql(1, 'SELECT incarnation FROM datacake.nodes WHERE node_id = 3');
	@events = ();
	$c->kill9(3);
	told_ok({ event => 'state', node_id => 3, from => 'alive', to => 'suspect' }, 'alive -> suspect');
	my $dead = told_ok({ event => 'state', node_id => 3, from => 'suspect', to => 'dead' }, 'suspect -> dead');
	is($dead->{name}, 'node3', 'with its name');
	is($dead->{data_center}, 'default', 'its data centre');
	is($dead->{incarnation}, $incarnation, 'its incarnation');
	is($dead->{address}, '127.0.0.1:' . $c->udp_port(3), 'its address');
	like($dead->{at}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d/, 'the time');
	is($c->sql(1, 'SELECT state FROM datacake.nodes WHERE node_id = 3'), 'dead', 'the view says the same');
	is($c->sql(1, q{SELECT since <= now() AND since > now() - interval '1 h' AND lag >= '0' FROM datacake.nodes WHERE node_id = 3}),
		't', 'since when, and how far behind');
	$c->start_node(3);
	told_ok({ event => 'restart', node_id => 3 }, 'it started again');
	told_ok({ event => 'state', node_id => 3, from => 'dead', to => 'alive' }, 'dead -> alive');
	like(states(3), qr/^alive>suspect( suspect>alive alive>suspect)* suspect>dead dead>alive/, 'each state follows the one before');
	is((grep { $_->{event} eq 'state' && $_->{node_id} == 2 } @events), 0, 'nothing is told of a node to which nothing happened');
};

# It finds the cluster when its repairer, who ends the joining, is stopped.
subtest 'a new node' => sub {
	@events = ();
	$c->sql(1, 'CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 1000)');
	$c->replicate('t');
	my $late = $c->session(2); # its own listener hears of it as well
	$late->query_safe('LISTEN datacake_membership');
	$c->add_node(4, 'datacake.data_center' => 'elsewhere', 'datacake.seeds' => '');
	$c->freeze_worker(4, 'repairer');
	$c->sql(4, q{SELECT datacake.join('127.0.0.1:} . $c->udp_port(1) . q{')});
	my $first = told_ok({ event => 'state', node_id => 4, from => 'unknown' }, 'it is told of');
	is($first->{data_center}, 'elsewhere', 'with its data centre');
	my $member = told_ok({ event => 'member', node_id => 4, to => 'present' }, 'and its place in the list');
	like($member->{epoch}, qr/^[0-9a-f]{16}$/, 'under an epoch');
	told_ok({ event => 'state', node_id => 4, to => 'joining' }, 'it joins');
	$c->await_all('SELECT state FROM datacake.nodes WHERE node_id = 4', 'joining', 'as all see, itself too');
	$c->thaw_worker(4, 'repairer');
	told_ok({ event => 'state', node_id => 4, from => 'joining', to => 'alive' }, 'joining -> alive');
	$c->await_all(q{SELECT count(*) FROM datacake.nodes WHERE state = 'alive'}, 4, 'all see it alive in the end');
	like($late->query('SELECT 1'), qr/"node_id":4/, 'on every node');
	$late->quit;
	is($c->sql(1, q{SELECT string_agg(DISTINCT version, ',') FROM datacake.nodes}),
		$c->sql(1, q{SELECT extversion FROM pg_extension WHERE extname = 'datacake'}), 'the releases of all are shown');
	is($c->sql(1, q{SELECT string_agg(DISTINCT wire, ',') FROM datacake.nodes}), '1', 'and what they speak');
	$c->await(1, q{SELECT count(*) FROM datacake.nodes WHERE lag IS NULL}, 0, 'and the lag of all');
};

subtest 'a description changes' => sub {
	@events = ();
	my $conninfo = $c->conninfo(2) . ' connect_timeout=7';
	$c->configure(2, 'datacake.conninfo' => $conninfo);
	$c->node(2)->reload;
	told_ok({ event => 'description', node_id => 2, to => 'alive' }, 'a new description');
	is($c->sql(1, 'SELECT conninfo FROM datacake.nodes WHERE node_id = 2'), $conninfo, 'can be seen in the view when it is told');
};

# Its replicator is stopped, so that it cannot hand over what it has.
subtest 'a node leaves' => sub {
	@events = ();
	$c->freeze_worker(4, 'replicator');
	my $leaving = $c->start_writer(4, 'SELECT datacake.leave()');
	told_ok({ event => 'state', node_id => 4, from => 'alive', to => 'leaving' }, 'alive -> leaving');
	$c->await_all('SELECT state FROM datacake.nodes WHERE node_id = 4', 'leaving', 'as all see, itself too');
	$c->error_ok(4, 'INSERT INTO t VALUES (0)', qr/leaving the cluster/, 'it takes no writes');
	$c->thaw_worker(4, 'replicator');
	ok($c->finish_writer($leaving), 'it goes');
	told_ok({ event => 'state', node_id => 4, from => 'leaving', to => 'left' }, 'leaving -> left');
	$c->sql(4, q{SELECT datacake.join('127.0.0.1:} . $c->udp_port(1) . q{')});
	told_ok({ event => 'state', node_id => 4, to => 'alive' }, 'and may come back');
	$c->await_all(q{SELECT count(*) FROM datacake.nodes WHERE state = 'alive'}, 4, 'all see it alive again');
};

subtest 'a node is removed' => sub {
	@events = ();
	$c->stop(4);
	told_ok({ event => 'state', node_id => 4, to => 'dead' }, 'it is dead');
	$c->sql(1, 'SELECT datacake.remove_node(4)');
	told_ok({ event => 'member', node_id => 4, from => 'present', to => 'fenced' }, 'fenced');
	my $removed = told_ok({ event => 'member', node_id => 4, from => 'fenced', to => 'removed' }, 'removed from the list');
	told_ok({ event => 'state', node_id => 4, from => 'dead', to => 'removed' }, 'and so is its state');
	is($c->sql(1, 'SELECT state FROM datacake.nodes WHERE node_id = 4'), 'removed', 'the view says the same');
};

subtest 'numbers without a gap, in order' => sub {
	my @numbers = map { $_->{sequence} } @events;
	is_deeply([ map { $_ - $numbers[0] } @numbers ], [ 0 .. $#numbers ], 'so a listener sees that it missed none');
};

# More events than the ring holds, while nobody can notify.
subtest 'what was missed' => sub {
	my $before = (sort { $a <=> $b } map { $_->{sequence} } @events)[-1];
	@events = ();
	$c->freeze_worker(1, 'maintainer');
	foreach my $n (1 .. 280)
	{
		$c->configure(2, 'datacake.conninfo' => $c->conninfo(2) . " connect_timeout=$n");
		$c->node(2)->reload;
		$c->_poll(sub { return $c->sql(1, 'SELECT conninfo FROM datacake.nodes WHERE node_id = 2') =~ /=$n$/ });
	}
	$c->thaw_worker(1, 'maintainer');
	told_ok({ event => 'state', node_id => $_, from => 'null', to => 'alive' }, "is told as it is now, node $_") foreach 1 .. 3;
	told_ok({ event => 'state', node_id => 4, from => 'null', to => 'removed' }, 'and of the one that is removed');
	told_ok({ event => 'member', node_id => 4, from => 'null', to => 'removed' }, 'and the list');
	my ($one) = @events;
	cmp_ok($one->{sequence}, '>', $before + 256, 'more than the ring holds was overwritten');
	@events = ();
	$c->configure(2, 'datacake.conninfo' => $c->conninfo(2));
	$c->node(2)->reload;
	told_ok({ event => 'description', node_id => 2 }, 'then it goes on');
};

$listener->quit;
done_testing();
