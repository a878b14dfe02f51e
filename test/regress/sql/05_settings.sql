--
-- Settings and arguments that make no sense are refused where they are given.
--
SET client_min_messages = warning;
\set SHOW_CONTEXT never

-- every setting is known, and there is no other
SELECT name, unit, context, min_val, max_val FROM pg_settings WHERE name ~ '^datacake\.' ORDER BY name;
SELECT name FROM pg_settings WHERE name ~ '^datacake\.' AND short_desc !~ '\.$';
SET datacake.no_such_setting = 1;
ALTER SYSTEM SET datacake.no_such_setting = 1;

-- numbers out of range
ALTER SYSTEM SET datacake.node_id = 1024;
ALTER SYSTEM SET datacake.node_id = -1;
ALTER SYSTEM SET datacake.node_id = 'one';
ALTER SYSTEM SET datacake.port = 0;
ALTER SYSTEM SET datacake.port = 65536;
ALTER SYSTEM SET datacake.gossip_interval = '1ms';
ALTER SYSTEM SET datacake.gossip_interval = '1h';
ALTER SYSTEM SET datacake.gossip_interval = '1MB';
ALTER SYSTEM SET datacake.max_clock_drift = 0;
ALTER SYSTEM SET datacake.metadata_memory = '1MB';
ALTER SYSTEM SET datacake.queue_size = '64kB';
ALTER SYSTEM SET datacake.max_nodes = 2;
ALTER SYSTEM SET datacake.max_nodes = 1024;
ALTER SYSTEM SET datacake.max_keyspaces = 1;
SET datacake.capture_memory = '1kB';
SET datacake.consistency_timeout = 0;

-- names travel in datagrams: short, printable, without spaces and quotes
ALTER SYSTEM SET datacake.node_name = 'node one';
ALTER SYSTEM SET datacake.node_name = 'node"1';
ALTER SYSTEM SET datacake.cluster_id = E'a\tb';
ALTER SYSTEM SET datacake.data_center = 'o''hare';
ALTER SYSTEM SET datacake.cluster_id = '0123456789012345678901234567890123456789012345678901234567890123';

-- connection strings: only keywords that name a server and how to be let in
ALTER SYSTEM SET datacake.conninfo = 'host=db1 options=-csession_replication_role=origin';
ALTER SYSTEM SET datacake.conninfo = 'host=db1 password=secret';
ALTER SYSTEM SET datacake.conninfo = 'postgresql://peer:secret@db1/app';
ALTER SYSTEM SET datacake.conninfo = 'service=other';
ALTER SYSTEM SET datacake.conninfo = 'host=db1 replication=database';
ALTER SYSTEM SET datacake.conninfo = 'host=db1 no_such_keyword=1';
ALTER SYSTEM SET datacake.conninfo = 'db1';
ALTER SYSTEM SET datacake.conninfo = 'host=''db1';
SELECT 'host=' || repeat('x', 400) AS long \gset
ALTER SYSTEM SET datacake.conninfo = :'long';

-- addresses, and a database that nobody can have
\set VERBOSITY sqlstate
ALTER SYSTEM SET datacake.seeds = 'no port';
ALTER SYSTEM SET datacake.seeds = '127.0.0.1:7432,,127.0.0.1:99999';
ALTER SYSTEM SET datacake.advertise_address = 'no port';
ALTER SYSTEM SET datacake.advertise_address = 'db1:0';
ALTER SYSTEM SET datacake.database = '';
\set VERBOSITY default

-- set at start, and then no more
SET datacake.cluster_id = 'other';
SET datacake.conninfo = 'host=db1';
SET datacake.metadata_memory = '1GB';

-- nothing of all this was written down
SELECT name, setting FROM pg_file_settings WHERE sourcefile ~ 'auto.conf$' AND name ~ '^datacake\.' ORDER BY name;
ALTER SYSTEM RESET datacake.seeds;
ALTER SYSTEM RESET datacake.advertise_address;
ALTER SYSTEM RESET datacake.database;

--
-- Arguments
--
SELECT datacake.wait_for_nodes(2, '10 ms');
SELECT datacake.wait_for_nodes(1, '-1 s');
SELECT datacake.wait_for_nodes(NULL);
SELECT datacake.pause(0);
SELECT datacake.pause(1024);
SELECT datacake.resume(-1);
-- stopping and going on with a node that nobody has seen is no error
SET client_min_messages = notice;
SELECT datacake.pause(1022);
SET client_min_messages = warning;
SELECT datacake.resume(1022);
SELECT datacake.pause();
SELECT datacake.resume();
SELECT datacake.join('nowhere');
SELECT datacake.join(':7432');
SELECT datacake.join('nowhere:');
SELECT datacake.join('nowhere:0');
SELECT datacake.join('nowhere:65536');
SELECT datacake.join('nowhere:port');
SELECT datacake.join('nowhere:7432x');
SELECT datacake.join(repeat('x', 200) || ':7432');
-- a stamp of the future, of an unknown node, none at all
SELECT datacake.await_stamp('2200-01-01 00:00:00+00@1', '10 ms');
SELECT datacake.await_stamp('2026-11-20 17:30:00+00@1023', '0');
SELECT datacake.await_stamp(NULL);
SELECT datacake.verify('0');

-- the key of the cluster is a file: the setting shows its name, and nothing shows the key
SELECT setting <> '' AS named FROM pg_settings WHERE name = 'datacake.cluster_key_file';
