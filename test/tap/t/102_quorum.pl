# R + W > N: who writes at quorum and reads at quorum reads the last acknowledged
# write, or a newer one, on any node, while nodes are killed.
#
# OPERATIONS: how many writes and reads (1000), KILLS: how many servers are killed
# meanwhile (2).  make soak: 10,000 and 60.
use strict;
use warnings;

use DatacakeCluster;
use DatacakeHistory;
use Test::More;
use Time::HiRes qw(time usleep);

my $operations = $ENV{OPERATIONS} // 1000;
my $kills      = $ENV{KILLS} // 2;

# fsync as in real life
my $c = DatacakeCluster->new(
	nodes => 3,
	conf  => {
		'fsync' => 'on', 'datacake.gossip_interval' => 100, 'datacake.consistency_timeout' => '20s',
	});
$c->sql(1, q{SELECT datacake.create_keyspace('s', 'text', 'text')});
$c->await_all(q{SELECT count(*) FROM pg_proc WHERE pronamespace = to_regnamespace('s') AND proname = 'put'}, 1, 'a keyspace is everywhere');
my $history = DatacakeHistory->new($c, 's');

sub show { my ($name, @complaints) = @_; diag join "\n", $name, @complaints[ 0 .. ($#complaints < 9 ? $#complaints : 9) ] if @complaints; return scalar @complaints; }

subtest "$operations writes and reads at quorum through random nodes, $kills kills" => sub {
	my %how = (killed => 0, 'stopped at once' => 0);
	$history->start(4, put => 'quorum', get => 'quorum', pause_ms => 10);
	# the rest is a control: what a node says alone is not enough
	$history->start(1, get => 'none', pause_ms => 10);
	my $done         = 0;
	my $acknowledged = sub { return $history->look->count(outcome => 'acked', level => 'quorum'); };
	foreach my $kill (1 .. $kills)
	{
		my $want = $done + ($operations - $done) / ($kills - $kill + 2);
		$c->_poll(sub { $done = $acknowledged->(); return $done >= $want; }) or die "no progress: $done operations";
		my $node = 1 + int rand 3;
		if (rand() < 0.5) { $c->kill9($node); $how{killed}++; }
		else { $c->stop($node, 'immediate'); $how{'stopped at once'}++; }
		usleep(1_000_000 * rand);
		$c->start_node($node);
		# at times the next one goes while this one comes back
		$c->wait_for_nodes if rand() < 0.8;
	}
	$c->_poll(sub { return $acknowledged->() >= $operations; }, 600) or die 'no progress';
	$history->stop;
	cmp_ok($acknowledged->(), '>=', $operations, 'so many were acknowledged');
	is(show('stale', $history->complaints), 0, 'a read returns the last write that was acknowledged before it began, or a newer one');
	diag join ', ', map { "$how{$_} nodes $_" } sort keys %how;
	diag 'acknowledged and not: ', $history->summary;
	diag scalar $history->complaints('quorum', 'none'), ' of ', $history->count(kind => 'get', outcome => 'acked', level => 'none'), ' reads at none were stale';
	$c->wait_for_nodes;
	$c->verify_ok('the nodes are alike');
};

# one($level, $node, $statement): an operation of the test itself, noted like those
# of a client; what it gave.
sub one
{
	my ($kind, $level, $node, $value) = @_;
	my $begin = DatacakeHistory::now();
	my $answer = $c->sql($node, $kind eq 'put' ?
		"SELECT s.put('k1', '$value', '$level')::bigint" :
		"SELECT coalesce(max(value), '-'), coalesce(max(_stamp::bigint), 0) FROM datacake.read_newest(NULL::s.entries, '{k1}'::text[], '$level')");
	my ($got, $stamp) = $kind eq 'put' ? ($value, $answer) : split /\|/, $answer;
	push @{ $history->{operations} }, { kind => $kind, outcome => 'acked', level => $level, node => $node, key => 'k1', begin => $begin, end => DatacakeHistory::now(), value => $got, stamp => $stamp };
	return $got;
}

subtest 'less than a quorum on either side is seen to be stale' => sub {
	$history->{operations} = [];
	one('put', 'quorum', 1, 'everywhere');
	$c->await_all(q{SELECT value FROM s.entries WHERE key = 'k1'}, 'everywhere', 'a row is everywhere');
	$c->freeze_link(1, 3);
	one('put', 'quorum', 1, 'on two nodes');
	is(one('get', 'quorum', 3), 'on two nodes', 'a quorum has it');
	is($history->complaints, 0, '... no complaint');
	# the read has mended node 3
	$c->await(3, q{SELECT value FROM s.entries WHERE key = 'k1'}, 'on two nodes', '... and hands it on');
	one('put', 'quorum', 1, 'on two nodes again');
	one('get', 'none', 3);
	is($history->complaints, 0, 'a read at none');
	like(join("\n", $history->complaints('quorum', 'none')), qr/^node 3 reads k1 .*: stale: got "on two nodes" of \d+, but "on two nodes again" of \d+ was acknowledged/, '... is stale, and the checker says so');
	$c->thaw_link(1, 3);

	$c->verify_ok('the nodes are alike');
	$c->freeze_link(3, $_) foreach 1, 2;
	# of the reads some ask node 3, which has it, some node 2; who reads is mended
	my $missed = 0;
	foreach my $turn (1 .. 8)
	{
		one('put', 'none', 3, "on one node, $turn");
		$missed++ if one('get', 'quorum', 1) ne "on one node, $turn";
	}
	cmp_ok($missed, '>', 0, 'a write at none is not read by each quorum');
	is($history->complaints('quorum', 'quorum'), 0, '... which is no complaint');
	like(join("\n", $history->complaints('none', 'quorum')), qr/^node 1 reads k1 .*: stale: /, '... but is seen as what it is');
	$c->thaw_link(3, $_) foreach 1, 2;
	$c->verify_ok('the nodes are alike again');
};

subtest 'the checker can fail' => sub {
	my $op = sub { my %op; @op{qw(kind outcome begin end value stamp)} = @_; return { %op, level => 'quorum', node => 1, key => 'k1' }; };
	my $says = sub { $history->{operations} = [@_]; return join "\n", map { s/.*?: //r } $history->complaints; };
	my @two = ($op->(qw(put acked 1 2 a 10)), $op->(qw(put acked 3 4 b 20)));
	is($says->(@two, $op->(qw(get acked 5 6 b 20))), '', 'the last one');
	like($says->(@two, $op->(qw(get acked 5 6 a 10))), qr/^stale: got "a"/, 'the one before it');
	is($says->(@two, $op->(qw(get acked 3.5 6 a 10))), '', '... while the last one is under way');
	like($says->(@two, $op->(qw(get acked 5 6 - 0))), qr/^stale: got nothing/, 'nothing');
	is($says->(@two, $op->(qw(del unknown 3 9 - 0)), $op->(qw(get acked 5 6 - 0))), '', '... where it may have been deleted');
	like($says->(@two, $op->(qw(del acked 1 2 - 15)), $op->(qw(get acked 5 6 - 0))), qr/^stale: got nothing/, '... but not where that was before');
	like($says->(@two, $op->(qw(get acked 5 6 c 30))), qr/^made up/, 'what nobody wrote');
	like($says->(@two, $op->(qw(put failed 5 6 c 0)), $op->(qw(get acked 5 6 c 30))), qr/^made up/, 'what failed');
	like($says->(@two, $op->(qw(put acked 7 8 c 30)), $op->(qw(get acked 5 6 c 30))), qr/^made up/, 'what was written later');
	is($says->(@two, $op->(qw(put unknown 5 8 c 0)), $op->(qw(get acked 5 6 c 30))), '', 'what nobody was told of may be there');
};

done_testing();
