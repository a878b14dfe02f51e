# Appliers commit asynchronously and flush soon: the WAL writer is woken once
# after that, not by each commit (walwriter.h).
use strict;
use warnings;

use DatacakeCluster;
use Test::More;

my $c = DatacakeCluster->new(nodes => 2);
my $walwriter = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'};

$c->sql(1, 'CREATE TABLE t (id int PRIMARY KEY, v text)');
$c->replicate('t');
$c->sql(2, 'CREATE TABLE own (n int)');

# How often the one of node 2 has gone to sleep.
sub slept
{
	open(my $file, '<', '/proc/' . $c->sql(2, $walwriter) . '/status') or die $!;
	my ($line) = grep { /^voluntary_ctxt_switches/ } <$file>;
	close $file;
	return $line =~ s/\D//gr;
}

subtest 'transactions of a peer' => sub {
	my $before = slept();
	$c->sql(1, q{DO $$ BEGIN FOR i IN 1 .. 5000 LOOP INSERT INTO t VALUES (i, repeat('x', 200)); COMMIT; END LOOP; END $$});
	$c->await(2, 'SELECT count(*) FROM t', 5000, 'all are there');
	my $times = slept() - $before;
	note "5,000 transactions of 200 bytes woke the WAL writer at most $times times";
	cmp_ok($times, '<', 500, 'few of them wake the WAL writer');
};

subtest 'and of others meanwhile' => sub {
	my $writer = $c->start_writer(1, map { "INSERT INTO t VALUES ($_, 'more')" } 10001 .. 12000);
	my $lsn = $c->sql(2, q{SET synchronous_commit = off; DO $$ BEGIN FOR i IN 1 .. 500 LOOP INSERT INTO own VALUES (i); COMMIT; END LOOP; END $$;
		SELECT pg_current_wal_lsn()});
	$c->await(2, "SELECT pg_current_wal_flush_lsn() >= '$lsn'", 't', 'are flushed');
	ok($c->finish_writer($writer), 'while more comes');
	$c->verify_ok('and arrives');
};

$c->stop_all;
done_testing;
