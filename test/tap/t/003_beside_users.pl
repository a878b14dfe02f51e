# Apply beside the transactions of users: waits for the rows it needs, for
# nothing else, and ends with the later write whoever was first.
use strict;
use warnings;

use DatacakeCluster;
use Test::More;

my $c = DatacakeCluster->new(nodes => 2);

$c->sql(1, q{CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE other (id int PRIMARY KEY, v text)});
$c->replicate($_) foreach qw(t other);
$c->sql(1, q{INSERT INTO t SELECT g, 'base' FROM generate_series(1, 100) g});
$c->verify_ok('the rows to begin with');

subtest 'an idle open transaction stops nothing' => sub {
	my $idle = $c->session(2);
	$idle->query_safe(q{BEGIN; INSERT INTO t VALUES (1000, 'open'); UPDATE t SET v = 'open' WHERE id = 1});
	foreach my $round (1 .. 5)
	{
		$c->sql(1, "INSERT INTO t VALUES (200 + $round, 'from 1')");
		$c->sql(2, "INSERT INTO t VALUES (300 + $round, 'from 2')");
		$c->await_all("SELECT count(*) FROM t WHERE id IN (200 + $round, 300 + $round)", 2, "both ways, round $round");
	}
	my $stamp = $c->sql(2, q{INSERT INTO t VALUES (400, 'after') RETURNING _stamp});
	$c->await(1, 'SELECT v FROM t WHERE id = 400', 'after', 'rows stamped after the open transaction arrive');
	is($c->sql(1, "SELECT datacake.await_stamp('$stamp', '300 ms')"), 'f', 'but node 2 does not claim that it sent all up to their stamp');
	$idle->query_safe('COMMIT');
	$idle->quit;
	is($c->sql(1, "SELECT datacake.await_stamp('$stamp', '20 s')"), 't', 'before the transaction has ended');
	is($c->sql(1, 'SELECT v FROM t WHERE id = 1000'), 'open', 'and then it has its rows');
	$c->verify_ok('the nodes are equal');
};

# Who moves the durable bound of the clock is stopped, so that nothing can be stamped any more.
subtest 'what is committed when the clock stands at its bound is claimed' => sub {
	my $open = $c->session(2);
	$open->query_safe(q{BEGIN; INSERT INTO t VALUES (450, 'open')});
	$c->freeze_worker(2, 'launcher');
	ok($c->_poll(sub { return ($c->try_sql(2, q{SET statement_timeout = '100ms'; SELECT datacake.clock()}))[0] != 0; }), 'nothing can be stamped');
	$open->query_safe('COMMIT');
	$open->quit;
	my $stamp = $c->sql(2, 'SELECT _stamp FROM t WHERE id = 450');
	is($c->sql(1, "SELECT datacake.await_stamp('$stamp', '1 min')"), 't', 'up to the last stamp that was drawn');
	$c->thaw_worker(2, 'launcher');
	isnt($c->sql(2, 'SELECT datacake.clock()'), '', 'then the clock goes on');
};

subtest 'an idle open transaction that has read stops nothing' => sub {
	my $reader = $c->session(2);
	$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t');
	$c->sql(1, q{UPDATE t SET v = 'read' WHERE id <= 50; DELETE FROM t WHERE id = 51});
	$c->await(2, q{SELECT count(*) FROM t WHERE v = 'read'}, 50, 'writes of the peer arrive');
	is($reader->query_safe(q{SELECT count(*) FROM t WHERE v = 'read'}), 0, 'and the reader keeps its snapshot');
	$reader->quit;
};

subtest 'one row, written in an open transaction here and through apply' => sub {
	# here first: apply waits; the one that began to write later wins
	my $open = $c->session(2);
	$open->query_safe(q{BEGIN; UPDATE t SET v = 'open, earlier' WHERE id = 10});
	$c->sql(1, q{UPDATE t SET v = 'peer, later' WHERE id = 10});
	$c->wait_blocked(2);
	pass('apply waits for the row');
	$open->query_safe('COMMIT');
	$c->await_all('SELECT v FROM t WHERE id = 10', 'peer, later', 'then the later write wins on both');

	# the open transaction is rolled back
	$open->query_safe(q{BEGIN; UPDATE t SET v = 'rolled back' WHERE id = 11; DELETE FROM t WHERE id = 12});
	$c->sql(1, q{UPDATE t SET v = 'peer' WHERE id IN (11, 12)});
	$c->wait_blocked(2);
	$open->query_safe('ROLLBACK');
	$c->await_all('SELECT count(*) FROM t WHERE v = \'peer\' AND id IN (11, 12)', 2, 'after a rollback there is only the write of the peer');

	# apply first: a write here right after it is simply later
	$c->sql(1, q{UPDATE t SET v = 'peer, earlier' WHERE id = 13});
	$c->await(2, 'SELECT v FROM t WHERE id = 13', 'peer, earlier', 'applied');
	$open->query_safe(q{BEGIN; UPDATE t SET v = 'open, later' WHERE id = 13; COMMIT});
	$open->quit;
	$c->await_all('SELECT v FROM t WHERE id = 13', 'open, later', 'and overwritten here: wins on both');
	$c->verify_ok('the nodes are equal');
};

subtest 'the same on both nodes at once' => sub {
	my @open = map { $c->session($_) } 1, 2;
	$open[0]->query_safe(q{BEGIN; UPDATE t SET v = 'node 1' WHERE id = 20});
	$open[1]->query_safe(q{BEGIN; UPDATE t SET v = 'node 2' WHERE id = 20});
	$_->query_safe('COMMIT') foreach @open;
	$c->await_all('SELECT v FROM t WHERE id = 20', 'node 2', 'two open transactions, one row: the later first write wins');

	# each applies the other's row while its own holds a lock that is wanted
	$open[0]->query_safe(q{BEGIN; UPDATE t SET v = 'one' WHERE id = 21});
	$open[1]->query_safe(q{BEGIN; UPDATE t SET v = 'two' WHERE id = 22});
	$c->sql(1, q{UPDATE t SET v = 'one' WHERE id = 22});
	$c->sql(2, q{UPDATE t SET v = 'two' WHERE id = 21});
	$c->wait_blocked($_) foreach 1, 2;
	$_->query_safe('COMMIT') foreach @open;
	$_->quit foreach @open;
	$c->await_all(q{SELECT string_agg(id || v, ' ' ORDER BY id) FROM t WHERE id IN (21, 22)}, '21two 22one', 'crossed locks do not matter');
	$c->verify_ok('the nodes are equal');
};

subtest 'an applied delete meets an uncommitted insert of its key' => sub {
	my $open = $c->session(2);

	# the insert is older than the delete: it dies when it commits
	$c->pause(1);
	$open->query_safe(q{BEGIN; INSERT INTO t VALUES (500, 'older'), (501, 'older')});
	$c->sql(1, q{INSERT INTO t VALUES (500, 'x'); DELETE FROM t WHERE id = 500});
	$c->resume(1);
	$c->wait_blocked(2);
	pass('the delete waits for the insert');
	$open->query_safe('COMMIT');
	$c->await_all('SELECT string_agg(id || v, \' \' ORDER BY id) FROM t WHERE id IN (500, 501)', '501older', 'an older insert is deleted, on both nodes');

	# the insert is newer: it lives
	$c->pause(1);
	$c->sql(1, q{INSERT INTO t VALUES (510, 'x'); DELETE FROM t WHERE id = 510});
	$open->query_safe(q{BEGIN; INSERT INTO t VALUES (510, 'newer')});
	$c->resume(1);
	$c->wait_blocked(2);
	$open->query_safe('COMMIT');
	$c->await_all('SELECT v FROM t WHERE id = 510', 'newer', 'a newer insert lives, on both nodes');

	# rolled back: only the delete remains
	$c->pause(1);
	$c->sql(1, q{INSERT INTO t VALUES (520, 'x'); DELETE FROM t WHERE id = 520});
	$open->query_safe(q{BEGIN; INSERT INTO t VALUES (520, 'rolled back')});
	$c->resume(1);
	$c->wait_blocked(2);
	$open->query_safe('ROLLBACK');
	$open->quit;
	$c->sql(1, q{INSERT INTO t VALUES (521, 'marker')});
	$c->await_all('SELECT string_agg(id || v, \' \') FROM t WHERE id IN (520, 521)', '521marker', 'a rolled back one leaves nothing');
	$c->verify_ok('the nodes are equal');
};

subtest 'an insert that waits for a delete of its key' => sub {
	# the transaction of the insert has its stamp before that of the delete, and
	# what it inserts must be born after the death
	my $inserter = $c->session(2);
	my $deleter = $c->session(2);
	$inserter->query_safe(q{BEGIN; UPDATE t SET v = 'first write' WHERE id = 31});
	$deleter->query_safe('BEGIN; DELETE FROM t WHERE id = 30');
	$inserter->query_until(qr/^sent$/m, "\\echo sent\nINSERT INTO t VALUES (30, 'born again');\n");
	$c->wait_blocked(2);
	$deleter->query_safe('COMMIT');
	$inserter->query_safe('COMMIT');
	$_->quit foreach $deleter, $inserter;
	$c->await_all('SELECT v FROM t WHERE id = 30', 'born again', 'lives on both nodes');
	is($c->sql(1, 'SELECT a._stamp > b._stamp FROM t a, t b WHERE a.id = 30 AND b.id = 31'), 't', 'it has a stamp of its own');
	$c->verify_ok('the nodes are equal');
};

subtest 'a row locked for long' => sub {
	my $open = $c->session(2);
	$open->query_safe(q{BEGIN; SELECT * FROM t WHERE id = 40 FOR UPDATE});
	$c->sql(1, q{BEGIN; UPDATE t SET v = 'blocked' WHERE id = 40; UPDATE t SET v = 'passes' WHERE id = 41; COMMIT});
	$c->sql(1, q{UPDATE other SET v = 'x'; INSERT INTO other VALUES (1, 'passes')});
	$c->await(2, q{SELECT string_agg(v, ',') FROM (SELECT v FROM t WHERE id = 41 UNION ALL SELECT v FROM other) x}, 'passes,passes',
		'other rows of its table and other tables flow');
	is($c->sql(2, 'SELECT v FROM t WHERE id = 40'), 'read', 'while it is as it was');
	$c->await(2, 'SELECT sqlstate FROM datacake.quarantine', '55P03', 'it waits in the quarantine, which says why');
	$c->differ_ok('verify() does not overlook it');
	$c->sql(1, q{UPDATE t SET v = 'blocked, newer' WHERE id = 40});
	$open->query_safe('COMMIT');
	$open->quit;
	$c->await(2, 'SELECT v FROM t WHERE id = 40', 'blocked, newer', 'when the lock is gone the newest version arrives');
	$c->await(2, 'SELECT count(*) FROM datacake.quarantine', 0, 'and nothing waits any more');
	$c->verify_ok('the nodes are equal');
};

# Apply holds the first of two rows and waits for the second, which a user holds,
# who then wants the first: the user must not be the victim of the deadlock.
subtest 'who gives way' => sub {
	my $quarantined = $c->sql(2, q{SELECT value FROM datacake.stat_counters WHERE name = 'rows_quarantined'});
	# apply is patient for a second: nothing may have to start within it
	my ($open, $peer, $look) = ($c->session(2), $c->session(1), $c->session(2));
	$open->query_safe(q{SET deadlock_timeout = '600ms'; BEGIN; UPDATE t SET v = 'user' WHERE id = 71});
	$peer->query_safe(q{UPDATE t SET v = 'peer' WHERE id IN (70, 71)});
	$look->query_safe(q{DO $$ BEGIN
		WHILE NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock') LOOP
			PERFORM pg_sleep(0.01); PERFORM pg_stat_clear_snapshot();
		END LOOP; END $$});
	$open->query_safe(q{UPDATE t SET v = 'user' WHERE id = 70});
	pass('apply, and long before a deadlock is looked for');
	$open->query_safe('COMMIT');
	$_->quit foreach $open, $peer, $look;
	$c->await_all(q{SELECT string_agg(v, ' ') FROM t WHERE id IN (70, 71)}, 'peer peer', 'the transaction that began later wins, whole');
	is($c->sql(2, q{SELECT value FROM datacake.stat_counters WHERE name = 'rows_quarantined'}), $quarantined, 'and no row of it had to wait alone');
	$c->verify_ok('the nodes are equal');
};

subtest 'a table locked for long' => sub {
	my $open = $c->session(2);
	$open->query_safe('BEGIN; LOCK TABLE other');
	$c->sql(1, q{INSERT INTO other VALUES (2, 'blocked')});
	$c->sql(1, q{UPDATE t SET v = 'flows' WHERE id = 42});
	$c->await(2, 'SELECT v FROM t WHERE id = 42', 'flows', 'other tables flow');
	$open->query_safe('COMMIT');
	$open->quit;
	$c->await(2, 'SELECT v FROM other WHERE id = 2', 'blocked', 'its rows follow');
	$c->verify_ok('the nodes are equal');
};

subtest 'a user is not kept by apply' => sub {
	# many writers here and there on few rows: nobody fails, all ends equal
	my @script = map { sprintf q{UPDATE t SET v = 'n%d' WHERE id = 60 + (%d %% 7) RETURNING 1}, $_, $_ } 1 .. 1000;
	my @writers = map { $c->start_writer($_, @script) } 1, 2, 1, 2;
	my @failed = grep { !$c->finish_writer($_) } @writers;
	is(scalar @failed, 0, 'four writers on two nodes, seven rows: no statement fails');
	diag $_->{errors}->() foreach @failed;
	$c->verify_ok('the nodes are equal');
	cmp_ok($c->sql(1, q{SELECT conflicts FROM datacake.keyspaces WHERE relation = 't'::regclass}), '>', 0, 'although they met');
};

done_testing();
