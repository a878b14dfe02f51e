# What sessions have begun while a node wakes up, or while its extension or one
# of its keyspaces ends and begins anew.
use strict;
use warnings;

use DatacakeCluster;
use Test::More;

my $c = DatacakeCluster->new(nodes => 2, conf => { 'max_prepared_transactions' => 1, 'datacake.max_clock_drift' => 3000 });
my $restarts = q{SELECT sum(restarts) FROM datacake.workers};

$c->sql(1, "CREATE TABLE $_ (id int PRIMARY KEY, v text)") foreach qw(t u);
$c->replicate($_) foreach qw(t u);

subtest 'a statement is cancelled while it waits for the clock' => sub {
	$c->await(1, 'SELECT counted FROM datacake.local_state', 't', 'others count on what the node has');
	$c->stop(2); # so that nobody tells the node, after its start, that its past is whole
	$c->restart(1);
	my $session = $c->session(1, on_error_stop => 0);
	$session->query(q{SET statement_timeout = '400ms'});
	$session->query(q{INSERT INTO t VALUES (1, 'in vain')});
	like($session->{stderr}, qr/statement timeout/, 'it is cancelled, its session stays');
	$c->start_node(2);
	$c->wait_for_nodes;
	my $stamp = $c->sql(1, q{INSERT INTO t VALUES (2, 'later') RETURNING _stamp::bigint});
	is($c->sql(2, "SELECT datacake.await_stamp('$stamp', '30 s')"), 't', 'and holds nothing back');
	$session->quit;
};

subtest 'a change waits whose keyspace ends' => sub {
	my $before = $c->sql(2, $restarts);
	my $session = $c->session(2);
	$session->query_safe(q{BEGIN; SELECT datacake.unreplicate_table('u')});
	$c->sql(1, q{INSERT INTO u VALUES (1, 'waits')});
	$c->await(2, 'SELECT count(*) FROM datacake.quarantine', 1, 'for the lock');
	$session->query_safe('COMMIT');
	$session->quit;
	$c->await(2, 'SELECT count(*) FROM datacake.quarantine', 0, 'it is forgotten');
	$c->await_all(q{SELECT count(*) FROM datacake.keyspaces WHERE relation::text = 'u'}, 0, 'with its keyspace');
	$c->sql(1, q{INSERT INTO t VALUES (3, 'on')});
	$c->await(2, 'SELECT v FROM t WHERE id = 3', 'on', 'and the node goes on');
	is($c->sql(2, $restarts), $before, 'no worker has ended');
};

subtest 'prepared' => sub {
	my $session = $c->session(2, on_error_stop => 0);
	$session->query(q{SET datacake.capture = off; BEGIN; DROP TABLE t; PREPARE TRANSACTION 'p'});
	like($session->{stderr}, qr/cannot PREPARE a transaction in which a table/, 'the end of a keyspace cannot be');
	is($session->query('SELECT 1'), 1, 'its session goes on');
	$session->quit;
	is($c->sql(2, q{SELECT count(*) FROM datacake.keyspaces WHERE relation = 't'::regclass}), 1, 'and so does the keyspace');
};

subtest 'the key file is bad, and the launcher ends' => sub {
	my $file = $c->sql(2, 'SHOW datacake.cluster_key_file');
	my $session = $c->session(2);
	$session->query_safe(q{INSERT INTO t VALUES (10, 'before')});
	$session->query_safe(q{BEGIN; INSERT INTO t VALUES (11, 'open')});
	my $mode = (stat $file)[2] & 07777;
	chmod 0644, $file;
	$c->kill_worker(2, 'launcher', 'TERM');
	$c->await(2, q{SELECT pid IS NOT NULL FROM datacake.workers WHERE name = 'launcher'}, 't', 'it is back');
	chmod $mode, $file;
	$session->query_safe('COMMIT');
	$session->query_safe(q{INSERT INTO t VALUES (12, 'after')});
	$session->quit;
	$c->await(1, 'SELECT count(*) FROM t WHERE id IN (10, 11, 12)', 3, 'what was open counts');
	$c->await(2, q{SELECT live = (SELECT count(*) FROM t) FROM datacake.keyspaces WHERE relation = 't'::regclass}, 't', 'and has its entries');
};

subtest 'the extension is created anew by a prepared transaction' => sub {
	$c->sql(2, q{SELECT datacake.leave()});
	$c->await(1, q{SELECT state FROM datacake.members WHERE node_id = 2}, 'removed', 'a node leaves');
	$c->sql(2, q{BEGIN; DROP EXTENSION datacake CASCADE; DROP TABLE t; CREATE EXTENSION datacake; PREPARE TRANSACTION 'anew'});
	$c->sql(2, q{COMMIT PREPARED 'anew'});
	$c->await(2, q{SELECT count(*) FROM datacake.local_state}, 1, 'it begins a new life');
	$c->sql(2, q{GRANT datacake_peer TO datacake_repl});
	$c->sql(2, q{SELECT datacake.join('127.0.0.1:} . $c->udp_port(1) . q{', replace => true)});
	$c->wait_for_nodes;
	$c->verify_ok('and is a member again');
};

done_testing();
