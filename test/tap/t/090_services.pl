# Services: functions of one node that roles on other nodes run.
use strict;
use warnings;

use DatacakeCluster;
use Test::More;

my $c = DatacakeCluster->new(
	nodes     => 3,
	node_conf => { 3 => { 'datacake.data_center' => 'far' } });

# everywhere($sql): on all nodes, and nothing of it replicates by itself.
sub everywhere { my ($sql) = @_; $c->sql($_, $sql) foreach $c->running; return; }

# service($name, $body, $nodes...): a PL/pgSQL handler of that name, registered.
sub service
{
	my ($name, $body, @nodes) = @_;
	foreach my $i (@nodes ? @nodes : $c->running)
	{
		$c->sql($i, "CREATE FUNCTION svc.$name(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$f\$ $body \$f\$");
		$c->sql($i, "SELECT datacake.register_service('$name', 'svc.$name(jsonb)')");
	}
	return;
}

# as_app($query): the query run by an ordinary role.
sub as_app { my ($query) = @_; return "SET ROLE app; $query"; }

# failure($i, $query): SQLSTATE and the whole message of an error.  Where a
# machine is so slow that nobody knows (08007), or not even the question is
# told, once more.
sub failure
{
	my ($i, $query) = @_;
	my ($rc, $out, $err);
	for my $try (1 .. 5)
	{
		($rc, $out, $err) = $c->try_sql($i, "\\set VERBOSITY verbose\n$query");
		last unless $err =~ /08007: .*the time is over|08001: .*did not let this node in in time/;
	}
	return $rc == 0 ? "no error: $out" : $err;
}

everywhere(q{
	CREATE SCHEMA svc; GRANT USAGE ON SCHEMA svc TO PUBLIC;
	CREATE ROLE app; CREATE ROLE clerk;
	GRANT EXECUTE ON FUNCTION datacake.call(int, text, jsonb, interval), datacake.call_many(text, jsonb, text, interval) TO app;
});
$c->sql(1, 'CREATE TABLE written (id int PRIMARY KEY, by text, at_node int)');
$c->replicate('written');
everywhere(q{GRANT SELECT, INSERT ON written TO app});

subtest 'registered and unregistered at run time' => sub {
	like(failure(1, q{SELECT datacake.call(2, 'echo')}), qr/YD040: service "echo" is not registered on node 2/, 'before, it is unknown');
	service('echo', q{BEGIN RETURN jsonb_build_object('node', current_setting('datacake.node_id')::int, 'got', p); END}, 2, 3);
	service('other', q{BEGIN RETURN '"other"'; END}, 2);
	is($c->sql(1, q{SELECT datacake.call(2, 'echo', '{"a": [1, null]}')}), '{"got": {"a": [1, null]}, "node": 2}', 'after, it runs there');
	is($c->sql(1, q{SELECT datacake.call(3, 'echo', '"x"')}), '{"got": "x", "node": 3}', 'or there');
	like(failure(2, q{SELECT datacake.call(1, 'echo')}), qr/YD040: service "echo" is not registered on node 1/, 'a registration is of one node');
	like(failure(1, q{SELECT datacake.call(1, 'echo')}), qr/YD040: service "echo" is not registered on node 1/, 'here, too');
	$c->sql(2, q{BEGIN; SELECT datacake.unregister_service('echo'); ROLLBACK});
	$c->restart(2);
	$c->wait_for_nodes;
	is($c->sql(1, q{SELECT datacake.call(2, 'echo', '1')}), '{"got": 1, "node": 2}', 'a restart, and an unregistering rolled back, keep it');
	$c->sql(2, q{SELECT datacake.unregister_service('echo')});
	like(failure(1, q{SELECT datacake.call(2, 'echo')}), qr/YD040/, 'unregistered, it is unknown');
	is($c->sql(1, q{SELECT datacake.call(2, 'other')}), '"other"', 'and the others of that node stay');
	$c->sql(2, q{SELECT datacake.register_service('echo', 'svc.echo(jsonb)')});
	is($c->sql(3, q{SELECT datacake.call(2, 'echo') -> 'node'}), '2', 'until it is registered again');
};

subtest 'as the calling role' => sub {
	everywhere(q{CREATE FUNCTION svc.who(p jsonb) RETURNS jsonb LANGUAGE sql AS
		$$ SELECT jsonb_build_array(current_user, current_setting('session_replication_role'), current_setting('lock_timeout')) $$;
		SELECT datacake.register_service('who', 'svc.who(jsonb)')});
	is($c->sql(1, as_app(q{SELECT datacake.call(2, 'who')})), '["app", "origin", "0"]', 'it runs as that role, in an ordinary session');
	my $superuser = $c->sql(1, 'SELECT current_user');
	is($c->sql(1, q{SELECT datacake.call(2, 'who') ->> 0}), $superuser, 'a superuser stays one');
	like(failure(1, q{SET ROLE clerk; SELECT datacake.call(2, 'who')}), qr/42501: permission denied for function call/, 'not everybody may call');
	$c->sql($_, q{REVOKE EXECUTE ON FUNCTION svc.who(jsonb) FROM PUBLIC}) foreach 2;
	my $denied = failure(1, as_app(q{SELECT datacake.call(2, 'who')}));
	like($denied, qr/42501: permission denied for function who/, 'who may not execute the handler there is refused');
	like($denied, qr/CONTEXT: .*service "who" on node 2/s, 'and told where');
	is($c->sql(1, as_app(q{SELECT datacake.call(3, 'who') ->> 0})), 'app', 'where it may, it runs');

	$c->sql(1, q{CREATE ROLE only_here; GRANT EXECUTE ON FUNCTION datacake.call(int, text, jsonb, interval) TO only_here});
	like(failure(1, q{SET ROLE only_here; SELECT datacake.call(3, 'who')}), qr/42704: role "only_here" does not exist on node 3/, 'a role that is not there');
	$c->sql(3, q{CREATE ROLE only_here SUPERUSER});
	like(failure(1, q{SET ROLE only_here; SELECT datacake.call(3, 'who')}), qr/42501: role "only_here" is a superuser on node 3, and not on node 1/, 'or is more there');

	service('escape', q{BEGIN EXECUTE p ->> 0; RETURN to_jsonb(current_user::text); END}, 2);
	like(failure(1, as_app(qq{SELECT datacake.call(2, 'escape', '["$_"]')})), qr/cannot set parameter|42501/, "$_ does not lead back")
	  foreach 'RESET ROLE', 'SET ROLE datacake_repl', 'SET SESSION AUTHORIZATION DEFAULT';
	service('path', q{BEGIN RETURN to_jsonb(current_setting('search_path')); END}, 2);
	is($c->sql(1, as_app(q{SELECT datacake.call(2, 'escape', '["SET search_path = public"]'), datacake.call(2, 'path')})),
		'"app"|"pg_catalog, pg_temp"', 'what it sets is set back');
};

subtest 'deferred triggers run as that role, too' => sub {
	$c->sql(2, q{
		CREATE TABLE witness (who text);
		CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SECURITY INVOKER AS
			$$ BEGIN INSERT INTO public.witness VALUES (current_user || ' ' || coalesce(nullif(current_setting('role'), 'none'), '-')); RETURN NULL; END $$;
		CREATE TABLE deferred (id int);
		CREATE CONSTRAINT TRIGGER t AFTER INSERT ON deferred DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note();
		GRANT INSERT ON deferred, witness TO app});
	service('defer', q{BEGIN INSERT INTO public.deferred VALUES (1); RETURN 'true'; END}, 2);
	is($c->sql(1, as_app(q{SELECT datacake.call(2, 'defer')})), 'true', 'the service is done');
	is($c->sql(2, 'SELECT who FROM witness'), 'app -', 'before the trigger fired, as its role');
	is($c->sql(1, q{SELECT datacake.call(2, 'who') ->> 1}), 'origin', 'the session goes on');
};

subtest 'what a service writes is an ordinary write' => sub {
	service('write', q{BEGIN INSERT INTO public.written VALUES ((p ->> 0)::int, current_user, current_setting('datacake.node_id')::int);
		IF p ->> 1 = 'fail' THEN RAISE EXCEPTION 'enough'; END IF; RETURN p; END});
	$c->sql(1, as_app(q{SELECT datacake.call(2, 'write', '[1]')}));
	$c->await_all(q{SELECT id || by || at_node FROM written}, '1app2', 'it replicates');
	is($c->sql(1, 'SELECT datacake.node_of(_stamp) FROM written'), 2, 'with a stamp of the node that ran it');
	$c->error_ok(1, as_app(q{SELECT datacake.call(2, 'write', '[2, "fail"]')}), qr/enough/, 'a service that fails');
	$c->error_ok(1, as_app(q{SELECT * FROM datacake.call_many('write', '[3, "fail"]', 'none')}), qr/YD043|cannot be met/, 'everywhere');
	$c->sql(3, as_app(q{SELECT datacake.call(3, 'write', '[4]')}));
	$c->await_all(q{SELECT string_agg(id || by || at_node, ' ' ORDER BY id) FROM written}, '1app2 4app3', 'writes nothing');
	$c->verify_ok('all nodes are alike');
};

subtest 'errors of the handler come as they are' => sub {
	service('fail', q{BEGIN RAISE EXCEPTION 'no % left', p ->> 0 USING ERRCODE = 'YY123', DETAIL = 'There were two.', HINT = 'Wait.'; END});
	foreach my $i (2, 1)
	{
		my $error = failure(1, qq{SELECT datacake.call($i, 'fail', '["milk"]')});
		like($error, qr/YY123: no milk left/, "SQLSTATE and message, node $i");
		like($error, qr/DETAIL:  There were two\.\nHINT:  Wait\./, 'detail and hint');
		like($error, qr/CONTEXT:  PL\/pgSQL function svc\.fail\(jsonb\) line 1 at RAISE\nservice "fail" on node $i/, 'context, and the node');
	}
	is($c->sql(1, q{DO $$ BEGIN PERFORM datacake.call(2, 'fail', '["tea"]'); EXCEPTION WHEN SQLSTATE 'YY123' THEN
		PERFORM set_config('my.caught', SQLERRM, false); END $$; SELECT current_setting('my.caught'), datacake.call(2, 'other')}),
		'no tea left|"other"', 'it can be caught, and the next call works');
	$c->sql(2, q{CREATE FUNCTION svc.gone(p jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT p'; SELECT datacake.register_service('gone', 'svc.gone(jsonb)');
		DROP FUNCTION svc.gone(jsonb)});
	like(failure(1, q{SELECT datacake.call(2, 'gone')}), qr/42883: handler svc\.gone\(jsonb\) of service "gone" is not there any more on node 2/, 'a handler that was dropped');
	$c->sql(2, q{GRANT CREATE ON SCHEMA svc TO clerk; SET ROLE clerk; CREATE FUNCTION svc.gone(p jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT p'});
	like(failure(1, q{SELECT datacake.call(2, 'gone')}), qr/42883: handler svc\.gone\(jsonb\) of service "gone" is not there any more/, 'or replaced by somebody else');
};

subtest 'time' => sub {
	service('sleep', q{BEGIN INSERT INTO public.written VALUES (100 + (p ->> 1)::int, 'sleeper', 0); PERFORM pg_sleep((p ->> 0)::float); RETURN p; END});
	my $asleep = q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'};
	is($c->sql(1, q{SELECT datacake.call(2, 'sleep', '[0.3, 1]', '1 min')}), '[0.3, 1]', 'a service may take its time');
	foreach my $i (2, 1)
	{
		my $error = failure(1, qq{SELECT datacake.call($i, 'sleep', '[600, 2]', '300 ms')});
		like($error, qr/YD041: service "sleep" did not finish on node $i within 300 ms/, "but not more than it was given, node $i");
		like($error, qr/nothing of it stays/, 'and that is certain');
		$c->await($i, $asleep, 0, 'it is cancelled');
	}
	my $session = $c->session(1, on_error_stop => 0);
	$session->query_until(qr/^sent$/m, "\\echo sent\nSELECT datacake.call(2, 'sleep', '[600, 3]', '10 min');\n");
	$c->await(2, $asleep, 1, 'one runs for long');
	$c->sql(1, q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT datacake.call(2, %' AND pid <> pg_backend_pid()});
	$c->await(2, $asleep, 0, 'a caller that is cancelled has it cancelled');
	is($session->query(q{SELECT datacake.call(2, 'other')}), '"other"', 'and may call again');
	$session->query_until(qr/^sent$/m, "\\echo sent\nSELECT datacake.call(2, 'sleep', '[600, 4]', '10 min');\n");
	$c->await(2, $asleep, 1, 'once more');
	$c->sql(1, q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT datacake.call(2, %' AND pid <> pg_backend_pid()});
	$c->await(2, $asleep, 0, 'a caller that ends, too');
	eval { $session->quit };
	$c->await_all(q{SELECT count(*) FROM written WHERE by = 'sleeper'}, 1, 'of what was cancelled nothing was written');
	like(failure(1, q{SELECT datacake.call(2, 'other', timeout => '0')}), qr/22023: timeout must be at least/, 'no time at all is refused');
};

subtest 'payloads' => sub {
	service('size', q{BEGIN RETURN jsonb_build_object('length', length(p #>> '{}'), 'back', repeat('y', length(p #>> '{}'))); END}, 2);
	is($c->sql(1, q{SELECT r ->> 'length', length(r ->> 'back') FROM datacake.call(2, 'size', to_jsonb(repeat('x', 10000000)), '2 min') r}),
		'10000000|10000000', '10 MB go there and come back');
	like(failure(1, q{SELECT datacake.call(2, 'size', to_jsonb(repeat('x', 70000000)))}),
		qr/54000: payload of a service has 70000003 bytes, more than 67108864/, '70 MB do not');
	$c->sql(2, q{CREATE FUNCTION svc.flood(p jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(repeat('x', 70000000)) $$;
		SELECT datacake.register_service('flood', 'svc.flood(jsonb)')});
	like(failure(1, q{SELECT datacake.call(2, 'flood', timeout => '2 min')}), qr/54000: result of a service has 70000003 bytes/, 'nor back');
	service('null', q{BEGIN RETURN CASE WHEN p IS NULL THEN 'true'::jsonb END; END}, 1, 2);
	is($c->sql(1, qq{SELECT datacake.call($_, 'null'), datacake.call($_, 'null', 'null') IS NULL}), 'true|t', "nulls are nulls, node $_") foreach 1, 2;
	is($c->sql(1, qq{SELECT datacake.call(2, 'echo', to_jsonb('grüße €'::text)) -> 'got'}), '"grüße €"', 'text is text');
};

subtest 'services that call services' => sub {
	service('relay', q{BEGIN RETURN datacake.call((p ->> 0)::int, p ->> 1, p -> 2); END});
	is($c->sql(1, as_app(q{SELECT datacake.call(2, 'relay', '[3, "relay", [1, "relay", [2, "echo", 7]]]')})), '{"got": 7, "node": 2}', 'around and around');
	service('forever', q{BEGIN RETURN datacake.call(1 + current_setting('datacake.node_id')::int % 3, 'forever', p, '1 min'); END});
	like(failure(1, q{SELECT datacake.call(2, 'forever', timeout => '1 min')}), qr/54001: services call services more than 8 deep/, 'but not for ever');
	service('self', q{BEGIN RETURN datacake.call(current_setting('datacake.node_id')::int, 'self'); END}, 1, 2);
	like(failure(1, qq{SELECT datacake.call($_, 'self', timeout => '1 min')}), qr/54001: services call services more than 8 deep/, "on one node neither, $_") foreach 1, 2;
};

subtest 'many nodes' => sub {
	service('number', q{BEGIN RETURN current_setting('datacake.node_id')::jsonb; END});
	is($c->sql(1, as_app(q{SELECT string_agg(node_id || ':' || result, ' ' ORDER BY node_id), count(sqlstate), count(error) FROM datacake.call_many('number')})),
		'1:1 2:2 3:3|0|0', 'each answers');
	$c->sql(3, q{SELECT datacake.unregister_service('number')});
	my $all = failure(1, q{SELECT * FROM datacake.call_many('number')});
	like($all, qr/YD043: level "all" cannot be met: 2 of 3 members answered|YD043: level "all" cannot be met: 1 of 3/, 'if one fails, not all did');
	like($all, qr/DETAIL:  node 3: service "number" is not registered on node 3/, 'and it says who and why');
	is($c->sql(1, q{SELECT count(*) FILTER (WHERE result IS NOT NULL) >= 2, count(*) FROM datacake.call_many('number', NULL, 'quorum')}), 't|3', 'a quorum did, each member is a row');
	$c->sql(2, q{SELECT datacake.unregister_service('number')});
	like(failure(1, q{SELECT * FROM datacake.call_many('number', NULL, 'one')}), qr/YD043/, '"one" is one more than this node');
	is($c->sql(1, q{SELECT string_agg(node_id || ':' || result, ' ') FROM datacake.call_many('number', NULL, 'none')}), '1:1', '"none" is content with this one');
	like(failure(1, q{SELECT * FROM datacake.call_many('number', NULL, 'most')}), qr/22023: unknown consistency level "most"/, 'there are no other levels');
	$c->sql(1, q{SELECT datacake.unregister_service('number')});
	$c->sql($_, q{SELECT datacake.register_service('number', 'svc.number(jsonb)')}) foreach 2, 3;
	is($c->sql(1, q{SELECT string_agg(coalesce(sqlstate, result::text), ' ' ORDER BY node_id) FROM datacake.call_many('number', NULL, 'one')}), 'YD040 2 3', 'this node may be the one that fails');

	like(failure(1, qq{SELECT * FROM datacake.call_many('number', NULL, '$_')}), qr/YD043: level "$_" cannot be met/, "$_ needs both nodes of its data centre") foreach 'local_quorum', 'each_quorum';
	is($c->sql(3, q{SELECT result FROM datacake.call_many('number', NULL, 'local_quorum') WHERE node_id = 3}), '3', 'the only node of one is a quorum of it');
	like(failure(3, q{SELECT * FROM datacake.call_many('number', NULL, 'each_quorum')}), qr/YD043/, 'but not of every one');

	# two services that both end only if both run
	$c->sql(1, q{CREATE TABLE arrived (node int)});
	service('arrive', q{BEGIN INSERT INTO public.arrived VALUES (p::int); RETURN NULL; END}, 1);
	service('arrivals', q{BEGIN RETURN (SELECT count(*) FROM public.arrived); END}, 1);
	service('meet', q{BEGIN
		IF current_setting('datacake.node_id') = '1' THEN RETURN NULL; END IF;
		PERFORM datacake.call(1, 'arrive', current_setting('datacake.node_id')::jsonb);
		WHILE datacake.call(1, 'arrivals')::int < 2 LOOP PERFORM pg_sleep(0.05); END LOOP;
		RETURN 'true'; END});
	is($c->sql(1, q{SELECT count(result) FROM datacake.call_many('meet', NULL, 'all', '3 min')}), 2, 'they run at the same time');
};

subtest 'connections are kept' => sub {
	my $connections = q{SELECT count(*), count(DISTINCT pid) FROM pg_stat_activity WHERE application_name = 'datacake questions of node 1'};
	$c->await(2, $connections, '0|0', 'none is left of sessions that ended', 120);
	my $session = $c->session(1, on_error_stop => 0);
	$session->query(q{SELECT datacake.call(2, 'other')});
	my $pid = $c->sql(2, q{SELECT pid FROM pg_stat_activity WHERE application_name = 'datacake questions of node 1'});
	is($session->query(q{SELECT count(datacake.call(2, 'other')) FROM generate_series(1, 200)}), 200, 'many calls');
	$session->query(q{SELECT datacake.call(2, 'fail')});
	is($session->query(q{SELECT datacake.call(2, 'other')}), '"other"', 'and after an error');
	is($c->sql(2, q{SELECT pid FROM pg_stat_activity WHERE application_name = 'datacake questions of node 1'}), $pid, 'share one connection');
	$session->query(q{SET ROLE app});
	is($session->query(q{SELECT datacake.call(3, 'who') ->> 0}), 'app', 'another role');
	$session->query(q{SELECT datacake.call(2, 'other')});
	is($c->sql(2, $connections), '2|2', 'has another');
	$c->sql(2, q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'datacake questions of node 1'});
	$c->await(2, $connections, '0|0', 'when the other side closes them');
	is($session->query(q{SELECT datacake.call(2, 'other')}), '"other"', 'a call makes a new one');
	$session->quit;
	$c->await(2, $connections, '0|0', 'and the end of the session closes it');
};

# The last: nodes go.
subtest 'nodes that are not there' => sub {
	like(failure(1, q{SELECT datacake.call(77, 'other')}), qr/42704: could not ask node 77: there is no such node/, 'there never was');
	like(failure(1, q{SELECT datacake.call(-1, 'other')}), qr/42704/, 'nor could be');
	like(failure(1, q{SELECT datacake.call(NULL, 'other')}), qr/22004: node id must not be null/, 'or is not named');
	$c->pause(1, 2);
	like(failure(1, q{SELECT datacake.call(2, 'other')}), qr/08001: could not ask node 2: the exchange with it is paused/, 'paused');
	$c->resume(1, 2);

	$c->freeze(3);
	$c->sql(1, q{SELECT datacake.register_service('number', 'svc.number(jsonb)')});
	is($c->sql(1, q{SELECT count(*) FROM datacake.call_many('number', NULL, 'quorum', '2 min') WHERE result IS NOT NULL}), 2, 'a frozen one does not keep a quorum from answering');
	like(failure(1, q{SELECT datacake.call(3, 'other', timeout => '10 min')}), qr/(08001|08007): .*node 3.*dead/, 'dead, as soon as gossip says so');
	like(failure(1, q{SELECT * FROM datacake.call_many('number', NULL, 'all')}), qr/YD042: level "all" cannot be met.*HINT:  Nothing was asked/s, 'then a level that needs it is hopeless before anything is asked');
	$c->thaw(3);
	$c->wait_for_nodes;

	my $session = $c->session(1, on_error_stop => 0);
	$session->query_until(qr/^sent$/m, "\\echo sent\n\\set VERBOSITY verbose\nSELECT datacake.call(3, 'sleep', '[600, 9]', '10 min');\n");
	$c->await(3, q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'}, 1, 'one runs');
	$c->kill9(3);
	my $out = $session->query('SELECT 1');
	like($session->{stderr}, qr/08007: connection to node 3 was lost.*DETAIL:  The service may have run there/s, 'gone while it ran: nobody knows');
	$session->quit;
	$c->restart(3);
	$c->wait_for_nodes;
	is($c->sql(1, q{SELECT datacake.call(3, 'number')}), 3, 'when it is back it answers');
	$c->verify_ok('and all nodes are alike');
};

done_testing();
