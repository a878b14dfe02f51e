# The member list: agreed by a majority of its members, one list at a time.
# Nodes come, go, are removed and replaced; halves of a divided cluster do not
# go apart; a majority that is lost for good is given up only when told so.
use strict;
use warnings;

use DatacakeCluster;
use Test::More;

my $c = DatacakeCluster->new(nodes => 3, net => 1, conf => { 'datacake.gossip_interval' => 50 });
my $net = $c->net;

my $list = q{SELECT datacake.epoch() || ' ' || string_agg(node_id || state, ' ' ORDER BY node_id) FROM datacake.members};

# agreed_ok($members, $name): all running nodes have the same list with the same
# number in the end, and it is this one ("1present 2removed").
sub agreed_ok
{
	my ($members, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$c->await_all(q{SELECT string_agg(node_id || state, ' ' ORDER BY node_id) FROM datacake.members}, $members, "$name: $members");
	return $c->await_equal($list, "$name: one list, one number");
}

sub epoch { my ($i) = @_; return $c->sql($i, 'SELECT datacake.epoch()'); }

# gone_ok($i, $by): node $by sees that node $i is dead
sub gone_ok
{
	my ($i, $by) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return $c->await($by, "SELECT state FROM datacake.nodes WHERE node_id = $i", 'dead', "node $by misses node $i");
}

$c->sql(1, 'CREATE TABLE t (id int PRIMARY KEY, v text)');
$c->replicate('t');

subtest 'nodes that come at once' => sub {
	agreed_ok('1present 2present 3present', 'three that started alone');
	is(epoch(1), 3, 'one change for each that came');
	$c->init_node($_) foreach 4, 5;
	$c->start_node($_) foreach 4, 5;
	$c->create_extension($_) foreach 4, 5;
	$c->wait_for_nodes;
	agreed_ok('1present 2present 3present 4present 5present', 'two more');
	is(epoch(1), 5, 'and for those that came together');
};

subtest 'changes at once, with a minority down' => sub {
	$c->kill9($_) foreach 4, 5;
	gone_ok($_, 1) foreach 4, 5;
	gone_ok($_, 2) foreach 4, 5;
	my $one   = $c->begin(1, 'SELECT datacake.remove_node(4);');
	my $other = $c->begin(2, 'SELECT datacake.remove_node(5);');
	$_->query_safe('SELECT 1') foreach $one, $other;
	$_->quit foreach $one, $other;
	agreed_ok('1present 2present 3present 4removed 5removed', 'two removals from two nodes');
	$c->drop_node($_) foreach 4, 5;
};

subtest 'a minority changes nothing' => sub {
	my $before = epoch(1);
	$c->init_node(6, 'datacake.seeds' => $c->gossip_address(3));
	$net->partition([ 1, 2 ], [ 3, 6 ]);
	gone_ok(3, 1);
	gone_ok($_, 3) foreach 1, 2;
	$c->error_ok(3, 'SELECT datacake.remove_node(1)', qr/majority.*1 of 2.*1, 2/s, 'node 3 alone removes nobody');
	is(epoch(3), $before, 'and has the list that it had');
	$c->start_node(6);
	$c->create_extension(6);
	$c->await(6, q{SELECT complaint ~ 'not admitted.*majority' FROM datacake.nodes WHERE local}, 't', 'nor admits anybody, who says so');
	is($c->sql(6, 'SELECT count(*) FROM datacake.peers WHERE state = \'stream\''), 0, 'and exchanges nothing');
	$net->heal;
	$c->wait_for_nodes;
	agreed_ok('1present 2present 3present 4removed 5removed 6present', 'healed: the newcomer is a member');
	$c->verify_ok('all nodes are equal');
};

subtest 'two halves do not remove each other' => sub {
	my $before = epoch(1);
	$net->partition([ 1, 2 ], [ 3, 6 ]);
	gone_ok(3, 1);
	gone_ok(1, 3);
	$c->error_ok(1, 'SELECT datacake.remove_node(3)', qr/majority.*missing: node 3, 6/, 'one half is no majority');
	$c->error_ok(3, 'SELECT datacake.remove_node(1)', qr/majority.*missing: node 1, 2/, 'nor is the other');
	$net->heal;
	$c->wait_for_nodes;
	is(epoch($_), $before, "node $_ has the list of before") foreach 1, 2, 3, 6;
};

subtest 'a node leaves and comes back' => sub {
	$c->error_ok(6, 'BEGIN; SELECT datacake.leave()', qr/transaction block/, 'not within a transaction');
	$c->sql(6, q{INSERT INTO t SELECT g, 'by 6' FROM generate_series(1, 1000) g; SELECT datacake.leave()});
	is($c->sql($_, q{SELECT count(*) FROM t WHERE v = 'by 6'}), 1000, "node $_ has all that it wrote when it has gone") foreach 1 .. 3;
	$c->await($_, q{SELECT state FROM datacake.members WHERE node_id = 6}, 'removed', "node $_ does not count it any more") foreach 1 .. 3;
	$c->await(1, q{SELECT state FROM datacake.nodes WHERE node_id = 6}, 'left', 'nor misses it');
	$c->sql(1, q{INSERT INTO t VALUES (2001, 'while it was away'); DELETE FROM t WHERE id <= 10});
	$c->sql(6, q{SELECT datacake.join('} . $c->gossip_address(1) . q{')});
	$c->await(6, q{SELECT count(*) || max(v) FROM t WHERE id <= 10 OR id = 2001}, '1while it was away', 'back again, it has what happened');
	agreed_ok('1present 2present 3present 4removed 5removed 6present', 'it is a member');
	$c->wait_for_nodes;
	$c->verify_ok('all nodes are equal');
};

subtest 'a new server in place of a lost one' => sub {
	$c->kill9(6);
	$c->node(6)->clean_node;
	$c->drop_node(6);
	gone_ok(6, 1);
	$c->init_node(6);
	$c->start_node(6);
	$c->create_extension(6);
	$c->await(6, q{SELECT complaint ~ 'another datacake.node_id' FROM datacake.nodes WHERE local}, 't', 'it is not admitted by accident');
	is($c->sql(6, q{SELECT to_regclass('t') IS NULL}), 't', 'and gets nothing');
	$c->sql(6, q{SELECT datacake.join('} . $c->gossip_address(1) . q{', replace => true)});
	$c->await(6, q{SELECT count(*) FROM t}, 991, 'told to replace the other, it has all');
	agreed_ok('1present 2present 3present 4removed 5removed 6present', 'it is a member');
	$c->wait_for_nodes;
	$c->verify_ok('all nodes are equal');
};

subtest 'a majority is lost for good' => sub {
	$c->kill9($_) foreach 3, 6;
	$c->kill9(2);
	gone_ok($_, 1) foreach 2, 3, 6;
	$c->error_ok(1, 'SELECT datacake.remove_node(2)', qr/1 of 3.*force_members/s, 'the one that is left is told what there is');
	$c->error_ok(1, q{SELECT datacake.force_members('{1}', 'yes')}, qr/must be confirmed/, 'not without the very words');
	$c->error_ok(1, q{SELECT datacake.force_members('{2}', 'the other members are stopped for good')}, qr/must be one of/, 'nor for others');
	$c->error_ok(1, q{SELECT datacake.force_members('{1,2}', 'the other members are stopped for good')}, qr/missing: node 2/, 'nor for whom is not there');
	$c->sql(1, q{SELECT datacake.force_members('{1}', 'the other members are stopped for good')});
	agreed_ok('1present 2removed 3removed 4removed 5removed 6removed', 'forced');
	$c->sql(1, q{INSERT INTO t VALUES (3001, 'alone')});
	$c->start_node($_) foreach 2, 3;
	$c->await($_, q{SELECT count(*) > 0 FROM datacake.peers WHERE last_error ~ 'removed from the cluster'}, 't', "node $_ was not lost after all, and is told") foreach 2, 3;
	is($c->sql(2, q{SELECT count(*) FROM t WHERE id = 3001}), 0, 'it takes nothing');
	$c->sql($_, q{SELECT datacake.join('} . $c->gossip_address(1) . q{')}) foreach 2, 3;
	$c->await($_, q{SELECT count(*) FROM t WHERE id = 3001}, 1, "node $_ joined again") foreach 2, 3;
	agreed_ok('1present 2present 3present 4removed 5removed 6removed', 'one list');
	$c->wait_for_nodes;
	$c->verify_ok('all nodes are equal');
};

subtest 'two clusters that meet do not mix' => sub {
	$c->init_node($_, 'datacake.seeds' => $c->gossip_address(7)) foreach 7, 8;
	$c->start_node($_) foreach 7, 8;
	$c->create_extension($_) foreach 7, 8;
	$c->await($_, q{SELECT string_agg(node_id || state, ' ' ORDER BY node_id) FROM datacake.members}, '7present 8present', "node $_ is of another cluster") foreach 7, 8;
	$c->sql(7, q{CREATE TABLE other (id int PRIMARY KEY); SELECT datacake.replicate_table('other')});
	$c->sql(7, q{SELECT datacake.join('} . $c->gossip_address(1) . q{')});
	$c->await(7, q{SELECT complaint ~ 'another cluster' FROM datacake.nodes WHERE local}, 't', 'it is told');
	$c->await(1, q{SELECT bool_or(complaint ~ 'another cluster') FROM datacake.nodes WHERE local}, 't', 'so are the others');
	is($c->sql(1, q{SELECT to_regclass('other') IS NULL}), 't', 'neither takes anything from the other');
	is($c->sql(8, q{SELECT to_regclass('t') IS NULL}), 't', 'in either direction');
};

done_testing();
