# An empty node joins: it copies one member, range by range, while all others
# go on writing, and then catches up.  It goes on after a crash of either side,
# takes no more in a second than it was told, shows how far it came, and holds
# nothing back, and counts for nothing, that it should not.
use strict;
use warnings;

use DatacakeCluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $rows = 100_000;
my $rate = 2048; # kB/s, where a copy must be met half-way

my $c = DatacakeCluster->new(nodes => 1, conf => { 'datacake.gossip_interval' => 100 });

$c->sql(1, q{CREATE TABLE big (id bigint PRIMARY KEY, payload text); CREATE TABLE small (name text PRIMARY KEY, n int UNIQUE);
	CREATE TABLE cut (id int PRIMARY KEY, v text)});
$c->replicate($_) foreach qw(big small cut);
$c->sql(1, qq{INSERT INTO big SELECT g, repeat(md5(g::text), 3) || 'x' FROM generate_series(1, $rows) g});

subtest 'the second node of a cluster copies the first' => sub {
	is($c->sql(1, q{SELECT datacake.await_stamp(_stamp, '1 min') FROM big WHERE id = 1}), 't', 'node 1 has published all of them');
	$c->add_node(2);
	$c->wait_for_nodes;
	$c->await(2, 'SELECT count(*) FROM big', $rows, 'it has the rows');
	like(slurp_file($c->node(2)->logfile), qr/datacake node 2 copies node 1/, 'by a copy');
	$c->log_ok(2, qr/datacake node 2 has copied all rows/, 'of all of them');
	$c->await(1, q{SELECT state FROM datacake.peers WHERE node_id = 2}, 'streaming', 'then the link is up');
	is($c->sql(1, 'SELECT catchup_rows FROM datacake.peers WHERE node_id = 2'), 0, 'and no row was sent once more');
};

$c->sql(2, q{INSERT INTO small SELECT 'key ' || g, g FROM generate_series(1, 500) g});
$c->sql(1, q{INSERT INTO cut SELECT g, 'old' FROM generate_series(1, 300) g});
$c->sql(1, q{TRUNCATE cut});
$c->sql(1, q{INSERT INTO cut SELECT g, 'new' FROM generate_series(1, 200) g});
$c->verify_ok('two nodes have all of it');
my %had_rows = map { $_ => $c->log_offset($_) } 1, 2;

my %rate = ('datacake.join_rate' => "${rate}kB");
my %slow = ('datacake.join_rate' => '512kB'); # a megabyte is shown for two seconds before the next one comes

# copied_ok($i, $name): node $i has copied somebody, has joined, and all are equal
sub copied_ok
{
	my ($i, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$c->await($i, q{SELECT joining FROM datacake.local_state}, 'f', "$name: it has joined");
	$c->wait_for_nodes;
	like(slurp_file($c->node($i)->logfile), qr/datacake node $i has copied all rows/, "$name: by a copy");
	$c->verify_ok("$name: all nodes are equal");
	return;
}

# hurry($i): the rest without the throttle
sub hurry
{
	my ($i) = @_;
	$c->sql($i, $_) foreach 'ALTER SYSTEM SET datacake.join_rate = 0', 'SELECT pg_reload_conf()';
	return;
}

# amid_copy($i): waits until node $i, which is slow, has some rows of its copy and not all
sub amid_copy
{
	my ($i) = @_;
	$c->await($i, qq{SELECT rows_done BETWEEN 5000 AND $rows / 2 FROM datacake.progress WHERE phase = 'copying rows'}, 't',
		"node $i has copied some rows, and not all");
	return;
}

subtest 'beside writers, throttled' => sub {
	$c->sql(1, q{DELETE FROM big WHERE id <= 50});
	my @writers = map {
		my $node = $_;
		$c->start_writer($node, map {
			my $id = 100 + ($_ * 37 + $node) % 90_000;
			$_ % 3 == 0   ? "DELETE FROM big WHERE id = $id"
			  : $_ % 3 == 1 ? "UPDATE big SET payload = 'node $node wrote $_' WHERE id = $id"
			  :               "INSERT INTO big VALUES (200000 + $node + $_ * 10, 'new $_')";
		} 1 .. 3000);
	} 1, 2;
	my $begin = time;
	$c->add_node(3, %rate);
	my ($seen, $last, $back, @counted) = (0, 0, 0);
	$c->await(3, 'SELECT count(*) FROM datacake.copy', 1, 'it copies somebody');
	while ($c->sql(3, q{SELECT count(*) FROM datacake.local_state WHERE joining}))
	{
		my ($done, $bytes) = split /\|/, $c->sql(3, q{SELECT rows_done, bytes FROM datacake.progress WHERE phase LIKE 'copying%'}) || '0|0';
		my $floor = $c->sql(1, q{SELECT floor IS NULL FROM datacake.members WHERE node_id = 3});
		push @counted, $floor unless $floor eq 't' || $floor eq '';
		last if !$c->sql(3, q{SELECT joining FROM datacake.local_state});
		$seen++ if $done > 0;
		$back++ if $done > 0 && $done < $last;
		$last = $done if $done > 0;
		usleep(20_000);
	}
	cmp_ok($seen, '>', 3, 'its progress is seen');
	is($back, 0, 'and never goes back');
	my $joined = $c->sql(3, q{SELECT rows, bytes FROM datacake.copy});
	my ($copied, $bytes) = split /\|/, $joined;
	cmp_ok($copied, '>=', $rows * 0.9, 'it has copied the rows');
	# the last range and the one under way are not waited for
	cmp_ok(time - $begin, '>', ($bytes / 1024 - 2200) / $rate, 'it took no more in a second than join_rate says');
	copied_ok(3, 'node 3');
	ok($c->finish_writer($_), 'the writers wrote') foreach @writers;
	$c->verify_ok('and when they have ended');
	is($c->sql(3, q{SELECT count(*) FROM cut WHERE v = 'new'}), 200, 'what was truncated before it came stays away');
	is($c->sql(3, q{SELECT count(*) FROM big WHERE id <= 50}), 0, 'as what was deleted');
	$c->await(1, q{SELECT floor IS NOT NULL FROM datacake.members WHERE node_id = 3}, 't', 'it is counted now');
};

subtest 'not counted before it has caught up' => sub {
	my $horizon = $c->sql(1, 'SELECT datacake.horizon()::bigint');
	$c->add_node(4, %slow);
	amid_copy(4);
	my $stamp = $c->sql(1, q{DELETE FROM big WHERE id BETWEEN 51 AND 60; SELECT datacake.last_commit_stamp()::bigint});
	$c->await(2, "SELECT min(watermark::bigint) >= $stamp FROM datacake.vector WHERE source = 1", 't', 'another member has the deaths, durably');
	is($c->sql(1, q{SELECT state, floor IS NULL FROM datacake.members WHERE node_id = 4}), 'present|t', 'who copies is in the list and has no floor');
	is($c->sql(1, "SELECT datacake.horizon()::bigint < $stamp"), 't', 'so nobody forgets the deaths');
	is($c->sql(4, 'SELECT joining FROM datacake.local_state'), 't', 'while it copies');
	my $donor = $c->sql(4, 'SELECT donor FROM datacake.copy');
	is($c->sql($donor, q{SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'datacake copy of node 4'}), 't',
		'its donor shows the connection by name');
	hurry(4);
	copied_ok(4, 'without the throttle');
	is($c->sql(4, q{SELECT count(*) FROM big WHERE id BETWEEN 51 AND 60}), 0, 'the deaths have come');
};

subtest 'the joiner is killed' => sub {
	$c->add_node(5, %slow);
	amid_copy(5);
	$c->kill9(5);
	my $offset = $c->log_offset(5);
	$c->sql(2, q{UPDATE small SET n = -n WHERE n % 2 = 0});
	$c->sql(1, q{DELETE FROM big WHERE id % 1000 = 7});
	$c->configure(5, 'datacake.join_rate' => 0);
	$c->start_node(5);
	copied_ok(5, 'after it came back');
	my $log = substr slurp_file($c->node(5)->logfile), $offset;
	my ($behind) = $log =~ /goes on copying node \d+ behind (\d+) rows/;
	cmp_ok($behind // 0, '>', 0, 'it went on where it had been');
	unlike($log, qr/datacake node 5 copies node/, 'and did not begin anew');
};

subtest 'the donor is killed' => sub {
	$c->add_node(6, %slow);
	amid_copy(6);
	my $donor = $c->sql(6, 'SELECT donor FROM datacake.copy');
	my $begin = time;
	$c->kill9($donor);
	$c->start_node($donor);
	hurry(6);
	$c->await(6, q{SELECT joining FROM datacake.local_state}, 'f', 'it has joined all the same');
	my $took = time - $begin;
	copied_ok(6, "after its donor came back");
	# the connection may break between two questions, and nothing is said then
	my $copies = () = slurp_file($c->node(6)->logfile) =~ /node 6 copies node/g;
	$took < 15 ? is($copies, 1, 'it went on, and did not begin anew') : note "took $took s: it may have turned to another donor";
};

subtest 'the donor stays away' => sub {
	$c->add_node(7, %slow);
	amid_copy(7);
	my $donor = $c->sql(7, 'SELECT donor FROM datacake.copy');
	$c->stop($donor, 'immediate');
	$c->await(7, "SELECT donor <> $donor FROM datacake.copy", 't', 'it copies another one');
	hurry(7);
	copied_ok(7, 'from another donor');
	is(scalar(() = slurp_file($c->node(7)->logfile) =~ /node 7 has joined/g), 1, 'once, after it had the rows');
	$c->start_node($donor);
	$c->wait_for_nodes;
	$c->verify_ok('the first donor is back');
};

subtest 'who cannot join is told why' => sub {
	$c->init_node(8, 'datacake.seeds' => undef, 'datacake.cluster_id' => 'other');
	$c->start_node(8);
	$c->create_extension(8);
	my ($rc, $out, $err) = $c->try_sql(8, q{SELECT datacake.join('127.0.0.1:1')});
	like($err, qr/no node answers at "127\.0\.0\.1:1" yet/, 'nobody is there');
	like($err, qr/reached by UDP/, 'with what to look at');
	my $seed = '127.0.0.1:' . $c->udp_port(1);
	($rc, $out, $err) = $c->try_sql(8, "SELECT datacake.join('$seed')");
	like($err, qr/no node answers at "\Q$seed\E" yet.*DETAIL:.*cluster/s, 'another cluster');
	$c->configure(8, 'datacake.cluster_id' => $c->{cluster_id}, 'datacake.cluster_key_file' => $c->write_key_file("$c->{dir}/other.key"));
	$c->restart(8);
	($rc, $out, $err) = $c->try_sql(8, "SELECT datacake.join('$seed')");
	like($err, qr/no node answers at "\Q$seed\E" yet.*cluster key/s, 'another key');
	$c->configure(8, 'datacake.cluster_key_file' => $c->{key_file});
	$c->restart(8);
	$c->await(8, 'SELECT count(*) FROM datacake.nodes WHERE local', 1, 'its gossip runs');
	($rc, $out, $err) = $c->try_sql(8, "SELECT datacake.join('$seed')");
	unlike($err, qr/no node answers/, 'control: with everything right');
	copied_ok(8, 'node 8');
};

subtest 'the donor leaves' => sub {
	$c->add_node(9, %slow);
	amid_copy(9);
	my $donor = $c->sql(9, 'SELECT donor FROM datacake.copy');
	$c->sql($donor, 'SELECT datacake.leave()');
	pass("node $donor need not wait until it is copied");
	$c->await(9, "SELECT donor <> $donor FROM datacake.copy", 't', 'the copy goes over to another donor');
	$c->stop($donor);
	hurry(9);
	copied_ok(9, 'node 9');
	my ($gone) = slurp_file($c->node(9)->logfile) =~ /copying node $donor stopped: (.*)/;
	like($gone // '', qr/left|removed|closed|lost/, 'and says why');
};

subtest 'control: what a copy left out would be seen' => sub {
	$c->sql(9, q{SET datacake.capture = off; DELETE FROM big WHERE id = 555});
	$c->differ_ok('a row is missing on the node that joined last', 9);
	$c->sql(9, q{SELECT datacake.repair('big')});
	$c->verify_ok('until it is repaired');
	unlike(slurp_file($c->node($_)->logfile, $had_rows{$_}), qr/copies node/, "node $_, which had rows, has copied nobody") foreach 1, 2;
};

done_testing;
