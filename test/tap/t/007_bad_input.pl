# Nodes that are set up wrongly: each gets a clear error, and the cluster goes
# on as if they were not there.
use strict;
use warnings;

use DatacakeCluster;
use IO::Socket::INET;
use Test::More;

my $c = DatacakeCluster->new(nodes => 2);

$c->sql(1, 'CREATE TABLE t (id int PRIMARY KEY, v text)');
$c->replicate('t');
my $rows = 0;

# good_cluster($name): nodes 1 and 2 replicate and know each other, nobody else.
sub good_cluster
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$rows++;
	$c->sql(1 + $rows % 2, "INSERT INTO t VALUES ($rows, 'x')");
	$c->await($_, 'SELECT count(*) FROM t', $rows, "$name: nodes 1 and 2 replicate, node $_") foreach 1, 2;
	return;
}

# drop_node($i): stop it, and take it out of the tests' list, and out of the
# cluster if it was a member: who comes back as somebody else asks all members.
sub drop_node
{
	my ($i) = @_;
	$c->stop($i);
	delete $c->{nodes}{$i};
	return if $c->sql(1, "SELECT count(*) FROM datacake.members WHERE node_id = $i") == 0;
	$c->await(1, "SELECT coalesce(seen, 'dead') FROM datacake.members WHERE node_id = $i", 'dead', "node $i is missed");
	$c->sql(1, "SELECT datacake.remove_node($i)");
	$c->await_all("SELECT state FROM datacake.members WHERE node_id = $i", 'removed', "node $i is removed");
	return;
}

subtest 'settings without sense' => sub {
	my $node = $c->init_node(9);
	foreach my $case (
		[ 'datacake.node_id',         '5000',              qr/5000 is outside the valid range for parameter "datacake.node_id"/ ],
		[ 'datacake.port',            '0',                 qr/0 is outside the valid range for parameter "datacake.port"/ ],
		[ 'datacake.conninfo',        'host=h password=x', qr/keyword "password" is not allowed/ ],
		[ 'datacake.cluster_id',      'two words',         qr/invalid value for parameter "datacake.cluster_id"/ ],
		[ 'datacake.no_such_setting', '1',                 qr/invalid configuration parameter name "datacake.no_such_setting"/ ])
	{
		my ($name, $value, $pattern) = @$case;
		my $good = PostgreSQL::Test::Utils::slurp_file($node->data_dir . '/postgresql.conf');
		my $offset = -e $node->logfile ? -s $node->logfile : 0;
		$c->configure(9, $name => $value);
		$node->start(fail_ok => 1);
		$c->log_ok(9, $pattern, "$name = $value", $offset);
		$node->stop if defined $node->{_pid};
		open my $conf, '>', $node->data_dir . '/postgresql.conf' or die;
		print $conf $good;
		close $conf;
	}
	delete $c->{nodes}{9};
	good_cluster('meanwhile');
};

subtest 'a node of another cluster' => sub {
	my $offset = $c->log_offset(1);
	$c->add_node(4, 'datacake.cluster_id' => 'other');
	$c->log_ok(1, qr/datagrams of node 4 at \S+ are refused: they belong to another cluster/, 'is refused, and the log says so', $offset);
	$c->await(1, q{SELECT complaint LIKE 'refused datagrams from %' FROM datacake.nodes WHERE local}, 't', 'and so does the view');
	is($c->sql(1, 'SELECT count(*) FROM datacake.nodes'), 2, 'it is no member');
	is($c->sql(4, 'SELECT count(*) FROM datacake.nodes'), 1, 'and has none');
	$c->error_ok(4, q{SELECT datacake.wait_for_nodes(2, '300 ms')}, qr/only 1 of 2 nodes are connected/, 'wait_for_nodes() says it as well');
	drop_node(4);
	good_cluster('beside it');
};

subtest 'the key file' => sub {
	my $path = "$c->{dir}/node6.key";
	my $node = $c->init_node(6, 'datacake.cluster_key_file' => $path);
	$c->start_node(6);
	$c->create_extension(6);
	$c->log_ok(6, qr/datacake does not start: could not open key file ".*node6.key": No such file/, 'is missing');
	is($c->sql(6, q{SELECT count(*) FROM datacake.workers WHERE pid IS NOT NULL AND name <> 'launcher'}), 0, 'nothing starts');

	foreach my $case (
		[ sub { chmod 0644, $path }, qr/has permissions 0644, not 0600 or 0400/, 'can be read by others' ],
		[ sub { $c->write_key_file($path, "1 0123\n") }, qr/is not made of 64 hexadecimal digits/, 'holds half a key' ],
		[ sub { $c->write_key_file($path, "# none\n") }, qr/holds no key/, 'holds none' ])
	{
		my ($spoil, $pattern, $name) = @$case;
		$c->write_key_file($path);
		$spoil->();
		$c->node(6)->stop;
		my $offset = $c->log_offset(6);
		$c->start_node(6);
		$c->log_ok(6, qr/datacake does not start: .*$pattern/, $name, $offset);
	}

	my $offset = $c->log_offset(1);
	$c->write_key_file($path);
	$c->await(6, q{SELECT count(*) FROM datacake.workers WHERE pid IS NOT NULL}, 6, 'when it is repaired the node starts by itself');
	$c->log_ok(1, qr/datagrams from \S+ do not authenticate/, 'with a key of its own it is not heard', $offset);
	is($c->sql(1, 'SELECT count(*) FROM datacake.nodes WHERE node_id = 6'), 0, 'and is no member');
	is($c->sql(6, 'SELECT count(*) FROM datacake.nodes'), 1, 'on either side');

	$c->write_key_file($path, PostgreSQL::Test::Utils::slurp_file($c->{key_file}));
	$c->node(6)->reload;
	$c->wait_for_nodes(3);
	$c->verify_ok('with the right key, and a reload, it is');
	drop_node(6);
	good_cluster('after all that');
};

# From here on a third node comes and goes.
# 093_peer_errors.pl has all others.
subtest 'the connection string of another node' => sub {
	$c->add_node(3);
	$c->wait_for_nodes(3);
	my $good = $c->conninfo(3);
	my $told = sub {
		my ($conninfo, $pattern, $name) = @_;
		$c->configure(3, 'datacake.conninfo' => $conninfo);
		$c->node(3)->reload;
		$c->await(1, "SELECT conninfo FROM datacake.nodes WHERE node_id = 3", $conninfo, 'the new setting reaches node 1');
		$c->sql(3, q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'datacake node 1'});
		$c->await(1, "SELECT count(*) FROM datacake.peers WHERE node_id = 3 AND last_error LIKE '$pattern'", 1, "$name: peers.last_error says so");
	};
	$told->($c->conninfo(2), '%this is node 2, and node 3 was called%', 'the connection string of another node');
	$c->sql(3, q{UPDATE t SET v = 'from 3' WHERE id = 1});
	$c->await($_, q{SELECT v FROM t WHERE id = 1}, 'from 3', "what goes the other way still goes, node $_") foreach 1, 2;
	good_cluster('meanwhile');
	$c->configure(3, 'datacake.conninfo' => $good);
	$c->node(3)->reload;
	$c->verify_ok('repaired, it catches up');
};

subtest 'calls that are not a peer\'s' => sub {
	foreach my $function (qw(peer_hello peer_fingerprint))
	{
		$c->error_ok(1, "SET ROLE datacake_repl; SELECT datacake.$function(decode(repeat('00', 200), 'hex'))",
			qr/authenticate|refused|malformed/, "$function() with bytes that nobody sealed");
		$c->error_ok(1, "SET ROLE datacake_repl; SELECT datacake.$function('')", qr/authenticate|refused|malformed/, "$function() with none");
		$c->error_ok(1, "SET ROLE datacake_reader; SELECT datacake.$function('')", qr/permission denied/, "$function() by a role that is no peer");
	}
	$c->error_ok(1, 'SET ROLE datacake_repl; CALL datacake.peer_stream()', qr/refused/, 'peer_stream() without a session');
	$c->error_ok(1, 'SET ROLE datacake_reader; CALL datacake.peer_stream()', qr/permission denied/, 'peer_stream() by a role that is no peer');
	my $socket = IO::Socket::INET->new(Proto => 'udp', PeerAddr => '127.0.0.1', PeerPort => $c->udp_port(1)) or die "socket: $!";
	$socket->send(join '', map { chr int rand 256 } 1 .. $_ * 13) foreach 1 .. 100;
	good_cluster('after them and datagrams of noise');
	is($c->sql(1, q{SELECT count(*) FROM datacake.nodes WHERE state = 'alive'}), 3, 'nobody is taken for dead');
};

subtest 'a database of another encoding' => sub {
	$c->add_node(7, encoding => 'LATIN1');
	$c->await(1, q{SELECT count(*) FROM datacake.peers WHERE node_id = 7 AND last_error LIKE '%encoding "LATIN1" of node 7 differs from "UTF8"%'}, 1,
		'is refused, and peers.last_error says so');
	is($c->sql(7, q{SELECT to_regclass('t') IS NULL}), 't', 'it gets nothing');
	drop_node(7);
	good_cluster('beside it');
};

subtest 'a node whose extension was dropped' => sub {
	$c->add_node(8);
	$c->wait_for_nodes(4);
	$c->sql(8, 'SET datacake.capture = off; DROP TABLE t; DROP EXTENSION datacake CASCADE');
	$c->log_ok(8, qr/datacake was dropped; this node rests/, 'rests');
	$c->await(1, q{SELECT state <> 'streaming' OR incoming = 0 FROM datacake.peers WHERE node_id = 8
		UNION ALL SELECT true WHERE NOT EXISTS (SELECT FROM datacake.peers WHERE node_id = 8)}, 't', 'and is no peer any more');
	good_cluster('without it');
	$c->sql(8, q{CREATE EXTENSION datacake; SELECT datacake.join('} . $c->gossip_address(1) . q{', replace => true)});
	$c->wait_for_nodes(4);
	$c->verify_ok('created again it is a new member');
};

# The last: it takes a while until node 2 is trusted again.
subtest 'two servers with one node id' => sub {
	$c->add_node(5, 'datacake.node_id' => 2, 'datacake.node_name' => 'twin');
	my %twins = (2 => 'another server speaks as this node%', 5 => 'another server speaks as this node%', 1 => 'two servers speak as this node%');
	foreach my $i (sort keys %twins)
	{
		$c->await($i, "SELECT count(*) FROM datacake.nodes WHERE node_id = 2 AND complaint LIKE '$twins{$i}'", 1, "node $i is told");
		$c->log_ok($i, qr/another server speaks as node 2/, "and its log, $i");
	}
	is($c->sql(5, q{SELECT to_regclass('t') IS NULL}), 't', 'the twin got nothing');
	is($c->sql(1, q{SELECT incoming FROM datacake.peers WHERE node_id = 2 UNION ALL SELECT 0 LIMIT 1}), 0, 'and nobody takes anything from either');
	drop_node(5);
	$c->await(1, q{SELECT name || ' ' || state FROM datacake.nodes WHERE node_id = 2}, 'node2 alive', 'when the twin is gone the other one goes on');
	$c->sql(2, q{INSERT INTO t (id) VALUES (777777)});
	$rows++;
	good_cluster('with it');
};

done_testing();
