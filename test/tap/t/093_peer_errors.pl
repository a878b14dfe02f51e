# Each way in which a peer can refuse is told in datacake.peers, in words that say
# what to change where; and releases with other wire versions work together, one
# step apart.
use strict;
use warnings;

use DatacakeCluster;
use DatacakeLoad;
use Test::More;

my $c = DatacakeCluster->new(nodes => 3, node_conf => { 3 => { max_connections => 12, superuser_reserved_connections => 5 } });
my $port = $c->node(3)->port;
my $good = $c->conninfo(3);

$c->sql(1, 'CREATE TABLE t (id int PRIMARY KEY, v text)');
$c->replicate('t');

# advertise($conninfo): node 3 does, node 1 knows it and connects anew
sub advertise
{
	my ($conninfo) = @_;
	$c->configure(3, 'datacake.conninfo' => $conninfo);
	$c->node(3)->reload;
	$c->_poll(sub { return $c->sql(1, 'SELECT conninfo FROM datacake.nodes WHERE node_id = 3') eq $conninfo })
	  or die 'the new setting does not reach node 1';
	return reconnect();
}

sub reconnect
{
	return $c->sql(3, q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'datacake node 1'});
}

# told_ok($what, $advice, $name): what node 1 says of its link to node 3
sub told_ok
{
	my ($what, $advice, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $error;
	my $met = $c->_poll(
		sub {
			$error = $c->sql(1, q{SELECT last_error FROM datacake.peers WHERE node_id = 3 AND state <> 'streaming'});
			return $error =~ $what && $error =~ $advice;
		});
	ok($met, $name) or diag $error;
	note $error;
	return;
}

sub hba
{
	my (@lines) = @_;
	my $hba = $c->node(3)->data_dir . '/pg_hba.conf';
	my $old = PostgreSQL::Test::Utils::slurp_file($hba);
	PostgreSQL::Test::Utils::append_to_file("$hba.new", join('', map { "$_\n" } @lines) . $old);
	rename "$hba.new", $hba or die "$hba: $!";
	$c->node(3)->reload;
	return sub { PostgreSQL::Test::Utils::append_to_file("$hba.new", $old); rename "$hba.new", $hba; $c->node(3)->reload; };
}

subtest 'a wrong connection string' => sub {
	advertise("host=127.0.0.1 port=1 dbname=postgres user=datacake_repl");
	told_ok(qr/Connection refused/, qr/\(check that the server of node 3 runs, and host, port and sslmode in its datacake\.conninfo\)/, 'nobody listens');
	advertise("host=no-such-host.invalid port=$port dbname=postgres user=datacake_repl");
	told_ok(qr/no-such-host\.invalid/, qr/\(check that .*datacake\.conninfo\)/, 'no such host');
	advertise("$good sslmode=require");
	told_ok(qr/SSL/, qr/\(check that .*sslmode in its datacake\.conninfo\)/, 'encryption is asked for that is not there');
	advertise("host=127.0.0.1 port=$port dbname=nowhere user=datacake_repl");
	told_ok(qr/FATAL:  database "nowhere" does not exist/, qr/\(correct dbname in datacake\.conninfo of node 3: it must be its datacake\.database\)/, 'no such database');
	advertise("host=127.0.0.1 port=$port dbname=template1 user=datacake_repl");
	told_ok(qr/"datacake" does not exist/, qr/\(run CREATE EXTENSION datacake in the datacake\.database of node 3/, 'a database without the extension');
	advertise("host=127.0.0.1 port=$port dbname=postgres user=nobody");
	told_ok(qr/role "nobody" does not exist/, qr/\(let this node in by pg_hba\.conf of node 3, or correct user/, 'no such role');
	$c->sql(3, 'CREATE ROLE plain LOGIN');
	advertise("host=127.0.0.1 port=$port dbname=postgres user=plain");
	told_ok(qr/permission denied/, qr/\(GRANT datacake_peer to that role on node 3\)/, 'a role that is no peer');
};

subtest 'a server that does not preload' => sub {
	my $node = PostgreSQL::Test::Cluster->new('plain');
	$node->init(extra => ['--no-locale']);
	$node->append_conf('postgresql.conf', "listen_addresses = '127.0.0.1'\n");
	$node->start;
	$node->safe_psql('postgres', 'CREATE ROLE datacake_repl LOGIN');
	like(($node->psql('postgres', 'CREATE EXTENSION datacake'))[2], qr/datacake is not loaded.*shared_preload_libraries/s, 'cannot have the extension');
	# a dump has brought it there all the same
	$node->safe_psql('postgres', q{CREATE SCHEMA datacake; GRANT USAGE ON SCHEMA datacake TO PUBLIC;
		CREATE FUNCTION datacake.peer_hello(bytea) RETURNS bytea AS '$libdir/datacake', 'datacake_peer_hello' LANGUAGE C STRICT;
		CREATE PROCEDURE datacake.peer_stream() AS '$libdir/datacake', 'datacake_peer_stream' LANGUAGE C});
	advertise('host=127.0.0.1 port=' . $node->port . ' dbname=postgres user=datacake_repl');
	told_ok(qr/datacake is not loaded/, qr/\(Add "datacake" to "shared_preload_libraries" and restart the server\.\)/, 'and says so');
	$node->stop;
	advertise($good);
	$c->await(1, 'SELECT state FROM datacake.peers WHERE node_id = 3', 'streaming', 'repaired');

	# the node itself, after somebody changed its configuration
	$c->stop(3);
	$c->configure(3, 'shared_preload_libraries' => '');
	$c->start_node(3);
	$c->await(1, 'SELECT state FROM datacake.nodes WHERE node_id = 3', 'dead', 'without Datacake a node is dead');
	told_ok(qr/datacake is not loaded|Connection refused|terminating connection|database system is (?:shutting down|starting up)|server closed the connection/, qr/./, 'and what was its last error can still be read');
	$c->configure(3, 'shared_preload_libraries' => 'datacake');
	$c->restart(3);
	$c->wait_for_nodes;
};

subtest 'refused authentication' => sub {
	my $undo = hba('host all datacake_repl 127.0.0.1/32 reject');
	reconnect();
	told_ok(qr/pg_hba\.conf rejects connection/, qr/\(let this node in by pg_hba\.conf of node 3/, 'pg_hba.conf rejects it');
	$undo->();

	$undo = hba('host all datacake_repl 127.0.0.1/32 scram-sha-256');
	reconnect();
	told_ok(qr/no password supplied/, qr/\(name a passfile with it in datacake\.conninfo of node 3; it is looked for on this node\)/, 'a password is asked for');
	$c->sql(3, q{SET password_encryption = 'scram-sha-256'; ALTER ROLE datacake_repl PASSWORD 'secret'});
	my $pass = $c->write_key_file("$c->{dir}/pass", "*:*:*:*:wrong\n");
	advertise("$good passfile=$pass");
	told_ok(qr/password authentication failed/, qr/\(correct the password of that role on node 3, or in the passfile here\)/, 'the password is wrong');
	$c->write_key_file($pass, "*:*:*:*:secret\n");
	$c->await(1, 'SELECT state FROM datacake.peers WHERE node_id = 3', 'streaming', 'the right one is taken, by itself');
	$undo->();
	advertise($good);
};

subtest 'max_connections is full' => sub {
	my @sessions = map { $c->session(3) } 1 .. 6;
	reconnect();
	told_ok(qr/remaining connection slots are reserved|too many clients/, qr/\(raise max_connections of node 3, or the limit of its database or role\)/, 'it says so');
	$_->quit foreach @sessions;
	$c->await(1, 'SELECT state FROM datacake.peers WHERE node_id = 3', 'streaming', 'when there is room again it connects by itself');
};

# with_release($i, $versions): node $i runs another build
sub with_release
{
	my ($i, $versions) = @_;
	$c->stop($i);
	$c->use_release($i, $versions);
	$c->start_node($i);
	return;
}

subtest 'a release that no longer speaks our version' => sub {
	with_release(3, '2-2');
	told_ok(qr/the calling node speaks wire versions 1 to 1, node 3 speaks 2 to 2/, qr/\(Install a newer release of Datacake on the calling node/, 'refuses, and says who must be upgraded');
	$c->await(3, q{SELECT count(*) FROM datacake.peers WHERE last_error LIKE
		'%the calling node speaks wire versions 2 to 2, node _ speaks 1 to 1 (Install a newer release of Datacake on node _, and restart it%'}, 2, 'and so does the other side');
	$c->await(1, 'SELECT complaint FROM datacake.nodes WHERE node_id = 3', 'it speaks wire versions 2 to 2, this server 1 to 1', 'datacake.nodes complains');
	$c->sql(1, q{INSERT INTO t VALUES (1, 'x')});
	$c->await(2, 'SELECT v FROM t', 'x', 'the others go on');
	is($c->sql(3, 'SELECT count(*) FROM t'), 0, 'it gets nothing');
	with_release(3, undef);
	$c->wait_for_nodes;
	$c->verify_ok('back in a release that is spoken, it catches up');
};

my $load = DatacakeLoad->new($c);

subtest 'nodes are restarted one after the other, under load' => sub {
	$load->start;
	foreach my $i (1 .. 3)
	{
		with_release($i, undef);
		$c->wait_for_nodes;
		$load->await_progress(50);
	}
	$load->stop;
	$load->check_ok('nothing is lost in a rolling restart');
};

subtest 'nodes are upgraded one after the other, under load' => sub {
	$load->start;
	foreach my $i (1 .. 3)
	{
		with_release($i, '1-2');
		$c->wait_for_nodes;
		$load->await_progress(50);
		$c->await($i, q{SELECT string_agg(wire, ' ' ORDER BY node_id) FROM datacake.nodes},
			join(' ', map { $_ <= $i ? '1-2' : '1' } 1 .. 3), "node $i speaks two versions, and sees who else does");
		cmp_ok($c->sql($_, 'SELECT count(*) FROM datacake.repair()'), '>', 0, "node $_ repairs with the others") foreach 1, 3;
	}
	$load->stop;
	$load->check_ok('nothing is lost in a rolling upgrade');
	is($c->sql(1, q{SELECT count(*) FROM datacake.nodes WHERE complaint IS NOT NULL}), 0, 'nobody complains');

	# the step after: all speak 2, so those that speak only 2 can come
	with_release(3, '2-2');
	$c->wait_for_nodes;
	$c->sql(1, q{INSERT INTO t VALUES (2, 'y')});
	$c->verify_ok('now the next release, without our version, is taken');
};

done_testing();
