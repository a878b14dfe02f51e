# A node that comes back at another address, and a cluster of which no node is where
# it was.
use strict;
use warnings;

use DatacakeCluster;
use Test::More;

my $c = DatacakeCluster->new(nodes => 3, conf => { 'datacake.gossip_interval' => 50 });
$c->sql(1, 'CREATE TABLE t (id int PRIMARY KEY)');
$c->replicate('t');

# moved($i, name => value...): node $i starts again, listening elsewhere
sub moved
{
	my ($i, %conf) = @_;
	my $address = $c->sql(2, "SELECT address FROM datacake.nodes WHERE node_id = $i");
	$c->stop($i);
	my ($tcp, $udp) = (DatacakeCluster::_free_port(), DatacakeCluster::_free_port());
	$c->node($i)->{_port} = $tcp;
	$c->{udp_ports}{$i} = $udp;
	$c->configure($i, 'port' => $tcp, 'datacake.port' => $udp, 'datacake.conninfo' => $c->conninfo($i), %conf);
	$c->start_node($i);
	isnt($address, "127.0.0.1:$udp", "node $i is not where it was");
	$c->wait_for_nodes;
	$c->sql($i, "INSERT INTO t VALUES ($i)");
	$c->await_all("SELECT count(*) FROM t WHERE id = $i", 1, 'it writes');
	$c->await_all("SELECT address FROM datacake.nodes WHERE node_id = $i", "127.0.0.1:$udp", 'all know where it is');
	my ($other) = grep { $_ != $i } 1 .. 3;
	$c->sql($other, "INSERT INTO t VALUES (10 + $i)");
	$c->await($i, "SELECT count(*) FROM t WHERE id = 10 + $i", 1, 'and it is written to there');
	return;
}

subtest 'a node that names a seed' => sub { moved(3) };

# The seed of the others: at its own start it knows nobody but by a seed.
subtest 'the seed of the others' => sub { moved(1, 'datacake.seeds' => '127.0.0.1:' . $c->udp_port(2)) };
subtest 'the last one' => sub { moved(2, 'datacake.seeds' => '127.0.0.1:' . $c->udp_port(3)) };

$c->verify_ok('all are equal');
is($c->sql(1, q{SELECT count(*) FROM datacake.nodes WHERE state = 'alive'}), 3, 'and there are three nodes as ever');

done_testing();
