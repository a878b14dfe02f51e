# Appliers commit asynchronously and flush soon: the WAL writer is woken once
# after that, not by each commit (walwriter.h).
use strict;
use warnings;

use DatacakeCluster;
use Test::More;
use Time::HiRes qw(time);

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
	my ($before, $begin) = (slept(), time);
	my @writers = map { my $w = $_; $c->start_writer(1, map { "INSERT INTO t VALUES ($_ * 4 + $w, repeat('x', 1000))" } 1 .. 1000) } 0 .. 3;
	ok($c->finish_writer($_), 'a writer gets through') foreach @writers;
	$c->await(2, 'SELECT count(*) FROM t', 4000, 'all are there');
	my $times = slept() - $before;
	my $flushes = 50 * (time - $begin); # one each 20 ms
	note sprintf '4,000 transactions of 1,000 bytes in %.1f s woke the WAL writer at most %d times', $flushes / 50, $times;
	cmp_ok($times, '<', 50 + $flushes, 'their flushes wake the WAL writer, not they');
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
