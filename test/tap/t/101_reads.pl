# Reading keys at a consistency level: the newest version of as many nodes as
# the level asks for, and what becomes of the others.

use strict;
use warnings;

use DatacakeCluster;
use Test::More;

my $c = DatacakeCluster->new(
	nodes     => 3,
	conf      => { 'datacake.repair_interval' => '0', 'datacake.consistency_timeout' => '60s' },
	node_conf => { 2 => { 'datacake.data_center' => 'west' }, 3 => { 'datacake.data_center' => 'west' } });

my @levels = qw(one two quorum local_quorum each_quorum all);

sub get { my ($i, $key, $level) = @_; return $c->sql($i, "SELECT s.get('$key', '$level')"); }
sub counter { my ($i, $name) = @_; return $c->sql($i, "SELECT value FROM datacake.stat_counters WHERE name = '$name'"); }

sub failure
{
	my ($i, $query) = @_;
	my ($rc, $out, $err) = $c->try_sql($i, "\\set VERBOSITY verbose\n$query");
	return $rc == 0 ? "no error, but: $out" : $err;
}

# put($i, $key, $value): written, without waiting for others
sub put { my ($i, $key, $value) = @_; return $c->sql($i, "SELECT s.put('$key', '$value')"); }

$c->sql(1, q{SELECT datacake.create_keyspace('s', 'text', 'text')});
$c->await_all(q{SELECT count(*) FROM datacake.keyspaces WHERE relation = to_regclass('s.entries')}, 1, 'a keyspace is everywhere');

subtest 'all nodes are up' => sub {
	put(2, 'a', 'one');
	$c->await_all(q{SELECT value FROM s.entries WHERE key = 'a'}, 'one', 'a row is everywhere');
	foreach my $level ('none', @levels)
	{
		is(get($_, 'a', $level), 'one', "$level, node $_") foreach 1, 2, 3;
	}
	is(get(1, 'absent', $_), '', "a key that never was, at $_") foreach @levels;
	is($c->sql(1, q{SELECT s.get(NULL, 'all') IS NULL}), 't', 'no key, no value');
	is($c->sql(1, q{SELECT count(*) FROM s.get_many('{}', 'all')}), 0, 'nor rows');
	is($c->sql(1, q{SELECT string_agg(key || value, ' ') FROM s.get_many('{a,b,a,NULL}', 'all')}), 'aone', 'a key that is asked for twice is one row');
	like(failure(1, q{SELECT s.get('a', 'most')}), qr/22023: unknown consistency level "most"/, 'there are no other levels');
	is(counter(1, 'read_stale'), 0, 'nobody was stale');
};

subtest 'this node is stale' => sub {
	$c->freeze_link(2, 1);
	put(2, 'a', 'two');
	$c->await(3, q{SELECT value FROM s.entries WHERE key = 'a'}, 'two', 'the others have it');
	is(get(1, 'a', 'none'), 'one', 'read here alone it is the old one');
	is(get(1, 'a', 'one'), 'two', 'one other is enough');
	$c->await(1, q{SELECT value FROM s.entries WHERE key = 'a'}, 'two', 'and this node has it then, though its link stands still');
	put(2, 'b', 'new');
	$c->await(3, q{SELECT value FROM s.entries WHERE key = 'b'}, 'new', 'a row that this node does not have');
	is(get(1, 'b', 'none'), '', 'not here');
	is(get(1, 'b', 'quorum'), 'new', 'but in a quorum');
	$c->await(1, q{SELECT value FROM s.entries WHERE key = 'b'}, 'new', 'and then here');
	is($c->sql(1, q{SELECT a._stamp = r._stamp FROM s.entries a, datacake.read_newest(NULL::s.entries, '{b}'::text[], 'all') r WHERE a.key = 'b'}), 't', 'under its own stamp');
	cmp_ok(counter(1, 'read_stale'), '>=', 2, 'it was counted');
	$c->sql(2, q{SELECT s.del('b')});
	$c->await(3, q{SELECT count(*) FROM s.entries WHERE key = 'b'}, 0, 'a row that dies');
	is(get(1, 'b', 'none'), 'new', 'lives here');
	is(get(1, 'b', 'quorum'), '', 'not in a quorum');
	$c->await(1, q{SELECT count(*) FROM s.entries WHERE key = 'b'}, 0, 'and then here neither');
	$c->thaw_link(2, 1);
	$c->verify_ok('all nodes are alike');
};

subtest 'another node is stale' => sub {
	$c->freeze_link(1, 3);
	$c->freeze_link(2, 3);
	put(1, 'a', 'three');
	$c->await(2, q{SELECT value FROM s.entries WHERE key = 'a'}, 'three', 'two of three have it');
	is(get(3, 'a', 'none'), 'two', 'one does not');
	is(get(1, 'a', $_), 'three', "node 1, $_") foreach @levels;
	$c->thaw_link(1, 3);
	$c->thaw_link(2, 3);
	$c->await(3, q{SELECT value FROM s.entries WHERE key = 'a'}, 'three', 'the stale one is mended');
	$c->verify_ok('all nodes are alike');
};

subtest 'what a transaction did itself' => sub {
	is($c->sql(1, q{BEGIN; SELECT s.put('a', 'mine'); SELECT 'got ' || s.get('a', 'all'); ROLLBACK}) =~ s/.*\n//r, 'got mine', 'it sees what it wrote');
	is($c->sql(1, q{BEGIN; SELECT s.del('a'); SELECT coalesce(s.get('a', 'all'), 'nothing'); ROLLBACK}) =~ s/.*\n//r, 'nothing', 'and what it deleted');
	is($c->sql(1, q{BEGIN; TRUNCATE s.entries; SELECT coalesce(s.get('a', 'all'), 'nothing'); ROLLBACK}) =~ s/.*\n//r, 'nothing', 'or truncated');
	is($c->sql(1, q{BEGIN; TRUNCATE s.entries; SELECT s.put('a', 'again'); SELECT s.get('a', 'all'); ROLLBACK}) =~ s/.*\n//sr, 'again', 'and wrote again');
	is($c->sql(1, q{BEGIN TRANSACTION READ ONLY; SELECT s.get('a', 'all')}), 'three', 'a transaction that may not write may read');
	is($c->sql(1, q{BEGIN; SAVEPOINT p; SELECT s.del('a'); ROLLBACK TO p; SELECT s.get('a', 'all'); ROLLBACK}) =~ s/.*\n//r, 'three', 'a savepoint that was rolled back did nothing');
	is(get(1, 'a', 'all'), 'three', 'nor did any of them');
};

subtest 'a TRUNCATE that is not everywhere' => sub {
	$c->sql(1, q{SELECT datacake.create_keyspace('e', 'bigint', 'text'); SELECT e.put(1, 'x')});
	$c->await_all(q{SELECT value FROM e.entries}, 'x', 'a row is everywhere');
	$c->freeze_link(2, 1);
	$c->sql(2, 'TRUNCATE e.entries');
	$c->await(3, 'SELECT count(*) FROM e.entries', 0, 'it is gone elsewhere');
	is($c->sql(1, q{SELECT e.get(1, 'none')}), 'x', 'here it is not');
	is($c->sql(1, q{SELECT e.get(1, 'quorum')}), '', 'in a quorum it is');
	$c->await(1, 'SELECT count(*) FROM e.entries', 0, 'and then here');
	$c->thaw_link(2, 1);
	$c->verify_ok('all nodes are alike');
};

subtest 'rows in the quarantine are read' => sub {
	$c->sql(1, q{ALTER TABLE s.entries ADD CONSTRAINT short CHECK (length(value) < 10)});
	put(2, 'q', 'much too long');
	$c->await(1, 'SELECT count(*) FROM datacake.quarantine', 1, 'a row that this node cannot take');
	is(get(1, 'q', 'none'), '', 'is not in its table');
	is(get(1, 'q', 'one'), 'much too long', 'but it counts');
	$c->freeze_link(2, 3);
	put(2, 'q', 'still too long');
	$c->await(1, q{SELECT count(*) FROM datacake.quarantine WHERE tries > 1 OR true}, 1, 'another that waits here');
	is(get(3, 'q', 'all'), 'still too long', 'others read it from there, too');
	$c->thaw_link(2, 3);
	$c->sql(1, q{ALTER TABLE s.entries DROP CONSTRAINT short; SELECT datacake.retry()});
	$c->await_all(q{SELECT value FROM s.entries WHERE key = 'q'}, 'still too long', 'in the end it is everywhere');
	$c->verify_ok('all nodes are alike');
};

subtest 'many keys at once' => sub {
	$c->sql(1, q{SELECT s.put_many(array_agg('k' || i), array_agg('v' || i)) FROM generate_series(1, 1000) i});
	$c->await_all(q{SELECT count(*) FROM s.entries WHERE key LIKE 'k%'}, 1000, 'a thousand rows');
	my $before = counter(1, 'read_questions');
	is($c->sql(1, q{SELECT count(*), bool_and(value = 'v' || substr(key, 2)) FROM s.get_many(ARRAY(SELECT 'k' || i FROM generate_series(1, 1000) i), 'quorum')}),
		'1000|t', 'are read');
	my $asked = counter(1, 'read_questions') - $before;
	cmp_ok($asked, '<=', 2, 'in one round trip') or diag "$asked questions";
	is($c->sql(1, q{SELECT count(*) FROM s.get_many(ARRAY(SELECT 'k' || i FROM generate_series(1, 10000) i), 'all')}), 1000, 'ten thousand keys in some');
	$c->freeze_link(2, 1);
	$c->sql(2, q{UPDATE s.entries SET value = 'new' WHERE key LIKE 'k%'});
	$c->await(3, q{SELECT count(*) FROM s.entries WHERE value = 'new'}, 1000, 'new on the others');
	is($c->sql(1, q{SELECT count(*) FILTER (WHERE value = 'new') FROM s.get_many(ARRAY(SELECT 'k' || i FROM generate_series(1, 1000) i), 'quorum')}), 1000, 'is read here');
	$c->await(1, q{SELECT count(*) FROM s.entries WHERE value = 'new'}, 1000, 'and mended');
	$c->thaw_link(2, 1);
	$c->sql(1, q{SELECT s.put('large', repeat('x', 9000000)); SELECT s.put('large2', repeat('y', 9000000))});
	is($c->sql(2, q{SELECT sum(length(value)) FROM s.get_many('{large,large2,k1}', 'all')}), 18000003, 'rows that need an answer each');
	$c->sql(1, q{SELECT s.del_many('{large,large2}')});
};

subtest 'who may read' => sub {
	$c->sql($_, q{CREATE ROLE reader; GRANT USAGE ON SCHEMA s TO reader; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA s TO reader}) foreach 1;
	like(failure(1, qq{SET ROLE reader; SELECT s.get('a', '$_')}), qr/42501: permission denied for table entries/, "without SELECT nobody, $_") foreach 'none', 'quorum';
	like(failure(1, q{SET ROLE reader; SELECT * FROM datacake.read_newest(NULL::s.entries, '{a}'::text[], 'all')}), qr/42501/, 'nor below');
	$c->sql(1, q{GRANT SELECT ON s.entries TO reader});
	is($c->sql(1, q{SET ROLE reader; SELECT s.get('a', 'all')}), 'three', 'with it, and no right elsewhere, all nodes');
	$c->sql(1, q{ALTER TABLE s.entries ENABLE ROW LEVEL SECURITY});
	is($c->sql(1, q{SET ROLE reader; SELECT s.get('a', 'none')}), '', 'policies hold here');
	like(failure(1, q{SET ROLE reader; SELECT s.get('a', 'all')}), qr/0A000: table "entries" has row-level security/, 'and are not passed by');
	$c->sql(1, q{ALTER TABLE s.entries DISABLE ROW LEVEL SECURITY});
	$c->sql(1, q{CREATE TABLE plain (key text PRIMARY KEY, value text)});
	like(failure(1, q{SELECT * FROM datacake.read_newest(NULL::plain, '{a}'::text[], 'all')}), qr/42704: table "plain" is not replicated/, 'only replicated tables');
	like(failure(1, q{SELECT * FROM datacake.read_newest(NULL::s.entries, '{1}'::int[], 'all')}), qr/42809: .*keys of type integer/, 'by their keys');
};

subtest 'what a quorum acknowledged is read by a quorum' => sub {
	my %session = map { $_ => $c->session($_) } 1, 2, 3;
	$c->freeze_link(2, 1);
	my ($stale, $wrong) = (0, 0);
	foreach my $n (1 .. 60)
	{
		my $i = 1 + int rand 3;
		my $stamp = $session{2}->query_safe("SELECT s.put('rw', '$n')");
		$session{3}->query_safe("SELECT datacake.await_stamp('$stamp', '1 min')") eq 't' or die 'no quorum';
		$stale++ unless $session{1}->query_safe(q{SELECT s.get('rw', 'none')}) eq $n;
		my $got = $session{$i}->query_safe(q{SELECT s.get('rw', 'quorum')});
		$wrong++, diag "node $i reads $got after $n" unless $got eq $n;
	}
	is($wrong, 0, 'every time, through any node');
	cmp_ok($stale, '>', 0, 'though one replica was stale all the while');
	$c->thaw_link(2, 1);
	$_->quit foreach values %session;
	$c->verify_ok('all nodes are alike');
};

subtest 'selectors' => sub {
	$c->sql(1, q{CREATE FUNCTION of_three(candidates jsonb, level text) RETURNS int[] LANGUAGE sql AS
		$$ SELECT array_agg((c ->> 'node_id')::int ORDER BY c ->> 'data_center') FROM jsonb_array_elements(candidates) c
		   WHERE (c ->> 'alive')::boolean AND ((c ->> 'local')::boolean OR c ->> 'node_id' = '3') $$;
		SELECT datacake.register_selector('three', 'of_three(jsonb, text)')});
	my $asked = q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'datacake questions of node 1'};
	my $whom;
	foreach my $try (1 .. 10) # who is slow is replaced
	{
		# a worker that mended something keeps its connection for a while
		$c->sql($_, q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'datacake questions of node 1'}) foreach 2, 3;
		$c->await($_, $asked, 0, 'nobody asks', 120) foreach 2, 3;
		my $session = $c->session(1);
		$session->query_safe(q{SET datacake.selector = 'three'});
		is($session->query_safe(q{SELECT count(s.get(CASE WHEN i > 0 THEN 'a' END, 'one')) FROM generate_series(1, 3) i}), 3, 'one in SQL chooses');
		$whom = $c->sql(2, $asked) . $c->sql(3, $asked);
		$session->quit;
		last if $whom eq '01';
	}
	is($whom, '01', 'whom to ask');
	my ($rc, $out, $err) = $c->try_sql(1, q{SET datacake.selector = 'three'; SELECT s.get('a', 'all')});
	is($out, 'three', 'a choice that does not meet the level is not used');
	like($err, qr/WARNING: .*selector "three".*they do not meet the level/, 'and that is said');
	($rc, $out, $err) = $c->try_sql(1, q{SET datacake.selector = 'none'; SELECT s.get('a', 'all')});
	is($out, 'three', 'nor one that is not there');
	like($err, qr/WARNING: .*selector "none".*it is not registered/, 'which is said, too');
	like(failure(1, q{SELECT datacake.register_selector('three', 'of_three(jsonb, text)')}), qr/42710: selector "three" is registered already/, 'a name is there once');
	like(failure(1, q{SELECT datacake.register_selector('bad', 'length(text)')}), qr/42P13: length\(text\) cannot be a selector/, 'only such functions');
	$c->sql(1, q{SELECT datacake.unregister_selector('three')});
	like(failure(1, q{SELECT datacake.unregister_selector('three')}), qr/42704/, 'it is taken back once');
};

# all_waits($session, $name): a read at "all" that does not come back
sub all_waits
{
	my ($session, $name) = @_;
	$session->{stderr} = '';
	$session->query_until(qr/^sent$/m, "\\echo sent\n\\set VERBOSITY verbose\nSELECT s.get('a', 'all');\n");
	$c->await(1, q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT s.get%' AND state = 'active' AND wait_event = 'Extension'}, 1, $name);
	return;
}

# Its gossip goes on at first, so that it is alive for as long as the test looks.
subtest 'a peer that is frozen' => sub {
	$c->sql(1, q{CREATE FUNCTION third_first(candidates jsonb, level text) RETURNS int[] LANGUAGE sql AS $$ SELECT ARRAY[1, 3] $$;
		SELECT datacake.register_selector('third first', 'third_first(jsonb, text)')});
	my $session = $c->session(1);
	$session->query_safe(q{SET datacake.selector = 'third first'});
	is($session->query_safe(q{SELECT s.get('a', 'quorum')}), 'three', 'it answers');
	$c->freeze(3, $c->worker_pid(3, 'gossip'));
	my ($questions, $replaced) = map { counter(1, $_) } qw(read_questions read_replaced);
	is($session->query_safe(q{SELECT count(*) FROM generate_series(1, 10) i WHERE s.get(CASE WHEN i > 0 THEN 'a' END, 'quorum') = 'three'}), 10, 'does not keep a quorum from being read');
	cmp_ok(counter(1, 'read_questions') - $questions, '>=', 20, 'another one is asked in its place');
	cmp_ok(counter(1, 'read_replaced') - $replaced, '>=', 10, 'because it takes too long');
	my $waiting = $c->session(1, on_error_stop => 0);
	all_waits($waiting, 'all of them are waited for');
	$c->sql(1, q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT s.get%' AND pid <> pg_backend_pid()});
	$waiting->query('SELECT 1');
	like($waiting->{stderr}, qr/57014: canceling statement due to user request/, 'until that is cancelled');
	is($waiting->query(q{SELECT s.get('a', 'quorum')}), 'three', 'and the session goes on');
	all_waits($waiting, 'all of them are waited for once more');
	$c->freeze(3);
	$waiting->query('SELECT 1');
	like($waiting->{stderr}, qr/YD045: cannot read at level "all": node 3 did not answer/, 'until it is given up');
	is($waiting->query(q{SELECT s.get('a', 'quorum')}), 'three', 'and the session goes on');
	$_->quit foreach $waiting, $session;
	$c->thaw(3);
	$c->wait_for_nodes;
};

subtest 'a node is down' => sub {
	like(failure(1, q{SELECT s.get('a', 'three')}), qr/YD045: cannot read at level "three": the cluster has too few members/, 'with all of them up, three others are one too many');
	$c->stop(3);
	$c->await(1, q{SELECT state IN ('alive', 'suspect') FROM datacake.nodes WHERE node_id = 3}, 'f', 'one goes');
	is(get(1, 'a', $_), 'three', "$_ is met without it") foreach qw(none one quorum local_quorum);
	like(failure(1, "SELECT s.get('a', '$_')"), qr/YD045: cannot read at level "$_": node 3 did not answer.*DETAIL:  node 3: /s, "$_ is not, and says who is missing") foreach qw(two each_quorum all);
	like(failure(2, "SELECT s.get('a', 'local_quorum')"), qr/YD045: cannot read at level "local_quorum": node 3/, 'nor is the quorum of its data centre');
	$c->sql(2, q{SELECT datacake.pause(1)});
	like(failure(1, q{SELECT s.get('a', 'quorum')}), qr/YD045: cannot read at level "quorum": node 2, node 3 did not answer.*paused/s, 'a peer that is paused does not answer either');
	$c->sql(2, q{SELECT datacake.resume(1)});
	$c->stop(2);
	$c->await(1, q{SELECT state IN ('alive', 'suspect') FROM datacake.nodes WHERE node_id = 2}, 'f', 'another goes');
	like(failure(1, "SELECT s.get('a', '$_')"), qr/YD045: .*node 2, node 3/, "alone, $_ is refused") foreach qw(one quorum);
	is(get(1, 'a', 'none'), 'three', 'what is here is read at none');
	is(get(1, 'a', 'local_quorum'), 'three', 'or at the level of a data centre of one');
	$c->start_node($_) foreach 2, 3;
	$c->wait_for_nodes;
	is(get(1, 'a', 'all'), 'three', 'all are back');
	$c->verify_ok('and alike');
};

done_testing();
