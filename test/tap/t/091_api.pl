# The C interface: an extension that is built with the installed header uses
# all of it.
use strict;
use warnings;

use DatacakeCluster;
use File::Copy;
use PostgreSQL::Test::Utils;
use Test::More;

# ---- built as anybody would, with the header that was installed

my $build = PostgreSQL::Test::Utils::tempdir('api');
chomp(my $include = `pg_config --includedir-server`); # of the tests' own server
ok(-f "$include/extension/datacake/datacake_api.h", 'the header is installed');
copy($_, $build) or die "$_: $!" foreach glob 'test/api_example/*';
my $log = "$build/make.log";
my $made = system("make -s -C $build PG_CONFIG=$ENV{PG_CONFIG} DATACAKE_INCLUDE=$include >$log 2>&1");
is($made, 0, 'the example compiles, without a warning') or diag slurp_file($log);
BAIL_OUT('there is no example to run') if $made != 0;
my $library = "$build/api_example";
(my $script = slurp_file("$build/api_example.sql")) =~ s/LIBRARY/$library/g;

my $c = DatacakeCluster->new(
	nodes => 2,
	conf  => { 'shared_preload_libraries' => "datacake, $library", 'datacake.data_center' => 'here', 'datacake.selector' => 'example' });
$c->sql($_, $script) foreach $c->running;

# ---- clock

like($c->sql(1, 'SELECT example_stamp()'), qr/^\d{4}-.*\@1 \d+ 1$/, 'a stamp is drawn, and has a text, a time and a node');
is($c->sql(1, q{SELECT (split_part(example_stamp(), ' ', 3)::bigint - extract(epoch FROM clock_timestamp() - '2000-01-01 UTC') * 1000000) BETWEEN -60000000 AND 60000000}),
	't', 'which is now');
my $ahead = q{((extract(epoch FROM clock_timestamp() - '2000-01-01 UTC') * 1000000)::bigint + %d) << 10 | 2};
is($c->sql(1, 'SELECT example_observe((' . sprintf($ahead, 100_000) . ')::datacake.hlc)'), 't', 'a stamp that is observed is passed');
$c->error_ok(1, 'SELECT example_observe((' . sprintf($ahead, 3_600_000_000) . ')::datacake.hlc)', qr/ahead of the clock/, 'unless it lies too far ahead');
$c->error_ok(1, q{SELECT example_observe('0')}, qr/0 is no stamp/, 'or is none');

# ---- nodes

is($c->sql(1, 'SELECT example_nodes()'), '1 node1 here alive member local, 2 node2 here alive member', 'the nodes are listed');
my $watcher = $c->session(1);
$watcher->query('SELECT example_watch()');
is($watcher->query('SELECT example_poll()'), '', 'nothing has changed yet');
$c->stop(2, 'immediate');
$c->await(1, 'SELECT state FROM datacake.nodes WHERE node_id = 2', 'dead', 'a node goes');
like($watcher->query('SELECT example_poll()'), qr/^2 (alive|suspect) -> dead$/, 'a callback is told, when it asks');
is($watcher->query('SELECT example_poll()'), '', 'and once');
$c->restart(2);
$c->wait_for_nodes;
like($watcher->query('SELECT example_poll()'), qr/^2 dead -> alive$/, 'and when it is back');
my $other = $c->session(1);
is($other->query('SELECT example_poll()'), '', 'a process that watches nothing is told nothing');
$watcher->quit;
$other->quit;

# ---- services in C

$c->sql($_, q{CREATE ROLE app; CREATE ROLE guest; CREATE ROLE friend; GRANT friend TO app;
	GRANT EXECUTE ON FUNCTION datacake.call(int, text, jsonb, interval) TO app, guest}) foreach 1, 2;
$c->sql($_, qq{SELECT example_register('who', '$library', NULL), example_register('friends', '$library', 'friend')}) foreach 1, 2;
is($c->sql(1, qq{SET ROLE app; SELECT datacake.call($_, 'who', '7'), datacake.call($_, 'friends', '8')}), '["app", 7]|["app", 8]', "a symbol of a library is called, node $_") foreach 2, 1;
$c->error_ok(1, qq{SET ROLE guest; SELECT datacake.call($_, 'friends', '8')}, qr/permission denied for service "friends"/, "not by everybody, node $_") foreach 2, 1;
is($c->sql(1, q{SET ROLE guest; SELECT datacake.call(2, 'who', '7')}), '["guest", 7]', 'unless it is for everybody');
$c->error_ok(1, q{SELECT datacake.call(2, 'who')}, qr/nothing is not enough.*service "who" on node 2/s, 'its error comes as it is');
is($c->sql(1, q{SELECT handler, role FROM datacake.services WHERE name = 'friends'}), "example_service in $library|friend", 'the view shows it');
$c->error_ok(1, qq{SET ROLE app; SELECT example_register('mine', '$library', NULL)}, qr/must be superuser/, 'only superusers register symbols');
$c->error_ok(1, q{SELECT example_register('none', '/nowhere', NULL)}, qr/could not access file "\/nowhere"/, 'the library must be there');
$c->sql(1, q{SELECT example_unregister('friends')});
is($c->sql(1, q{SELECT string_agg(name, ' ') FROM datacake.services}), 'who', 'one is taken back');

# ---- calls without waiting

is($c->sql(1, q{SELECT example_call('{2,2,2}', 'who', '1', 60000)}) =~ s/"[^"]*"/x/gr, '[x, 1] [x, 1] [x, 1]', 'three calls at once');
$c->sql($_, q{CREATE FUNCTION sleep(p jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT pg_sleep(p::float); SELECT p $$;
	SELECT datacake.register_service('sleep', 'sleep(jsonb)')}) foreach 1, 2;
$c->error_ok(1, q{SELECT example_call('{2}', 'sleep', '600', 1000)}, qr/did not finish on node 2 within 1000 ms/, 'one that takes too long');
$c->error_ok(1, q{SELECT example_call('{1}', 'who', '1', 60000)}, qr/could not ask node 1: it is this one/, 'only other nodes are called');
$c->error_ok(1, q{SELECT example_call('{9}', 'who', '1', 60000)}, qr/could not ask node 9: there is no such node/, 'that are there');
is($c->sql(2, q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'}), 0, 'nothing goes on');

# ---- a selector

is($c->sql(1, q{SET api_example.choice = '2,1'; SELECT example_choose('quorum')}), '2 1', 'the selector chooses');
foreach my $case (
	[ '2',   'quorum', 'they do not meet the level' ],
	[ '2,2', 'quorum', 'one of them is there twice' ],
	[ '2,7', 'quorum', 'one of them is no member' ])
{
	my ($choice, $level, $complaint) = @$case;
	my ($rc, $out, $err) = $c->try_sql(1, "SET api_example.choice = '$choice'; SELECT example_choose('$level')");
	is($out, '1 2', "a choice that is none is not used: $complaint");
	like($err, qr/nodes that selector "example" chose for level "$level" are not used: $complaint/, 'and it is said');
}
is($c->sql(1, q{SET api_example.choice = '2'; SELECT example_choose('none')}), '2', 'what is enough for a level is enough');
$c->stop(2);
$c->await(1, q{SELECT state <> 'alive' AND state <> 'suspect' FROM datacake.nodes WHERE node_id = 2}, 't', 'a node goes');
my ($rc, $out, $err) = $c->try_sql(1, q{SET api_example.choice = '2,1'; SELECT example_choose('quorum')});
is($out, '1', 'what is not alive is not waited for');
like($err, qr/one of them is not alive/, 'and it is said');

# ---- without datacake, or with another version of it

my $alone = PostgreSQL::Test::Cluster->new('alone');
$alone->init;
$alone->start;
my ($status, $stdout, $stderr) = $alone->psql('postgres',
	qq{CREATE FUNCTION example_nodes() RETURNS text AS '$library' LANGUAGE C; SELECT example_nodes()});
like($stderr, qr/datacake is not loaded/, 'a server without it says so');
$alone->stop;

my $newer = slurp_file("$include/extension/datacake/datacake_api.h");
like($newer, qr/#define DATACAKE_API_VERSION\s+1\n/, 'the version is 1');
$newer =~ s/(#define DATACAKE_API_VERSION\s+)1\n/${1}2\n/;
mkdir "$build/newer" and mkdir "$build/newer/extension" and mkdir "$build/newer/extension/datacake" or die $!;
open my $header, '>', "$build/newer/extension/datacake/datacake_api.h" or die $!;
print $header $newer;
close $header;
mkdir "$build/two" or die $!;
copy("test/api_example/$_", "$build/two") or die $! foreach qw(Makefile api_example.c);
is(system("make -s -C $build/two PG_CONFIG=$ENV{PG_CONFIG} DATACAKE_INCLUDE=$build/newer >$log 2>&1"), 0, 'a library that was built for another version');
$c->error_ok(1, qq{CREATE FUNCTION two() RETURNS text AS '$build/two/api_example', 'example_nodes' LANGUAGE C; SELECT two()},
	qr/has version 1 of its C interface, this library was built for 2/, 'is told so');

done_testing();
