# Random nodes are killed, again and again, under load on all of them: what was
# acknowledged is there in the end, and nothing deleted comes back.
#
# KILLS: how many servers are killed (10; make soak: 100 and more).
use strict;
use warnings;

use DatacakeCluster;
use DatacakeLoad;
use List::Util qw(shuffle);
use Test::More;
use Time::HiRes qw(time usleep);

my $kills = $ENV{KILLS} // 10;

# fsync as in real life; a queue that overflows now and then
my $c = DatacakeCluster->new(
	nodes => 3,
	conf  => {
		'fsync' => 'on', 'deadlock_timeout' => '200ms',
		'datacake.gossip_interval' => 100, 'datacake.queue_size' => '1MB',
	});
my $load = DatacakeLoad->new($c);

subtest "$kills kills under load" => sub {
	my ($killed, $late) = (0, 0);
	my (@recovery, @convergence);
	my %incarnations = map { $_ => $c->sql($_, 'SELECT incarnation FROM datacake.local_state') } 1 .. 3;
	$load->start;
	$load->await_progress(100);
	while ($killed < $kills)
	{
		# mostly one, at times more at once, at times one while another recovers
		my $dice    = rand;
		my @victims = (shuffle 1 .. 3)[ 0 .. ($dice < 0.8 ? 0 : $dice < 0.95 ? 1 : 2) ];
		$c->kill9($_) foreach @victims;
		$killed += @victims;
		usleep(800_000 * rand);
		foreach my $victim (@victims)
		{
			my $begin = time;
			$c->start_node($victim);
			push @recovery, time - $begin;
		}
		if (rand() < 0.3)
		{
			usleep(300_000 * rand);
			next;
		}
		my $seconds = $load->time_to_convergence(60);
		defined $seconds ? push @convergence, $seconds : $late++;
		$load->await_progress(10);
	}
	is($late, 0, 'after every kill the nodes exchange everything within 60 s');
	diag "$killed kills; start of the server ", DatacakeLoad::spread(@recovery), '; from then until all nodes have all writes ', DatacakeLoad::spread(@convergence);
	$load->stop;
	$c->wait_for_nodes;
	$load->check_ok('after the last kill');
	is($c->sql($_, 'SELECT incarnation FROM datacake.local_state'), $incarnations{$_}, "node $_ is who it was: it recovered with its own log") foreach 1 .. 3;
	is($c->sql($_, q{SELECT sum(waiting) FROM datacake.keyspaces}), 0, "node $_ has nothing in quarantine") foreach 1 .. 3;
};

# complains_ok($rows, qr/.../, $name): about one thing, in these words
sub complains_ok
{
	my ($rows, $pattern, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @complaints = $load->complaints($rows);
	return @complaints == 1 ? like($complaints[0], $pattern, $name) : is(join("\n", @complaints), '(one complaint)', $name);
}

subtest 'the checker can fail' => sub {
	# harm done behind Datacake's back, seen by the transaction that does it
	my ($id) = split /\n/, $c->sql(1, q{SELECT id FROM load WHERE id > 1000000 ORDER BY random() LIMIT 1});
	complains_ok($load->rows(1, "SET LOCAL datacake.capture = off; DELETE FROM load WHERE id = $id"),
		qr/^load $id: lost: has no row/, 'a row that is removed is missed');
	complains_ok($load->rows(1, "SET LOCAL datacake.capture = off; UPDATE load SET v = 'x' WHERE id = $id"),
		qr/^load $id: made up: no client wrote "x"/, 'a value that nobody wrote is noticed');

	# the rest is done to what the checker is given
	my $good   = $load->rows(1);
	my @writes = map { my $key = $_; map { +{ %$_, key => $key } } @{ $load->{writes}{$key} } } sort grep { /^load/ } keys %{ $load->{writes} };
	my @puts   = grep { $_->{kind} eq 'put' && (!$good->{ $_->{key} } || $good->{ $_->{key} }{tag} ne $_->{tag}) } @writes;
	my $with   = sub { my ($write) = @_; return { %$good, $write->{key} => { tag => $write->{tag}, stamp => $write->{lo} } }; };

	my ($dead) = grep { $_->{outcome} eq 'acked' && !$good->{ $_->{key} } } @puts;
	complains_ok($with->($dead), qr/^$dead->{key}: resurrected: /, 'a deleted row that is back');
	my ($old) = grep { $_->{outcome} eq 'acked' && $good->{ $_->{key} } } @puts;
	complains_ok($with->($old), qr/^$old->{key}: (lost|resurrected): has "/, 'an older version of a row');
	my ($failed) = grep { $_->{outcome} eq 'failed' } @puts;
	complains_ok($with->($failed), qr/^$failed->{key}: made up: the transaction/, 'a row of a transaction that was rolled back');

	my ($half) = grep { /^pair/ } sort keys %$good;
	my $torn = $load->rows(1);
	delete $torn->{$half};
	ok((grep { /^torn: rows/ } $load->complaints($torn)), 'half of a pair');
	is(join("\n", $load->complaints($good)), '', 'and without any of that it has no complaint');
};

done_testing();
