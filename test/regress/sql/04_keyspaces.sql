--
-- create_keyspace and its typed functions; who may do what.
--
SET client_min_messages = warning;
\set SHOW_CONTEXT never

SELECT datacake.create_keyspace('cart');
SELECT p.proname, pg_get_function_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result
  FROM pg_proc p WHERE pronamespace = 'cart'::regnamespace ORDER BY 1;
SELECT schema_name, table_name, kind, key_bytes, primary_key FROM datacake.keyspace;
SELECT relation, live, dead FROM datacake.keyspaces;

SELECT datacake.create_keyspace(repeat('x', 64));

-- put and get
SELECT cart.get('a');
SELECT cart.put('a', '{"apples": 1}') AS stamp \gset
SELECT cart.get('a'), :'stamp'::datacake.hlc = datacake.last_commit_stamp() AS of_this_commit;
SELECT cart.put('a', '{"apples": 2}') > :'stamp'::datacake.hlc AS greater;
SELECT cart.get('a');
-- a null is a value like any other: the key is there
SELECT cart.put('nothing', NULL) IS NOT NULL AS stored;
SELECT cart.get('nothing'), cart.get('nobody'), cart.get(NULL);
SELECT * FROM cart.get_many(ARRAY['nothing', 'nobody']);
SELECT relation, live, dead, captured FROM datacake.keyspaces;

-- many at once; of equal keys the last counts
SELECT cart.put_many(ARRAY['b', 'c', 'b'], ARRAY['1', '2', '3']::jsonb[]);
SELECT * FROM cart.get_many(ARRAY['c', 'b', 'b', 'nobody', NULL]) ORDER BY key;
SELECT count(DISTINCT _stamp) AS stamps FROM cart.entries WHERE key IN ('b', 'c');
SELECT cart.put_many(ARRAY['d', 'b'], ARRAY[NULL, '4']::jsonb[]);
SELECT * FROM cart.get_many(ARRAY['b', 'd']) ORDER BY key;
SELECT relation, live, dead, captured FROM datacake.keyspaces;
SELECT cart.put_many('{}', '{}'), cart.put_many(NULL, NULL);
SELECT count(*) FROM cart.get_many('{}');
SELECT count(*) FROM cart.get_many(NULL);

-- del tells whether there was something
SELECT cart.del('a');
SELECT cart.del('a');
SELECT cart.del('nothing');
SELECT cart.del(NULL);
SELECT cart.del_many(ARRAY['b', 'b', 'nobody', NULL]);
SELECT cart.del_many('{}'), cart.del_many(NULL);
SELECT relation, live, dead, captured FROM datacake.keyspaces;
-- and the key may come back
SELECT cart.put('a', '{"apples": 3}') IS NOT NULL AS stored;
SELECT relation, live, dead, captured FROM datacake.keyspaces;

-- as any other write
BEGIN;
SELECT cart.put('a', '{"apples": 4}') IS NOT NULL AS stored;
SELECT cart.get('a');
ROLLBACK;
SELECT cart.get('a');
INSERT INTO cart.entries VALUES ('by hand', '[]');
SELECT cart.get('by hand');

-- bad input
\set VERBOSITY sqlstate
SELECT cart.put(NULL, '1');
SELECT cart.put_many(ARRAY['x', NULL], ARRAY['1', '2']::jsonb[]);
\set VERBOSITY default
SELECT cart.put_many(ARRAY['x', 'y'], ARRAY['1']::jsonb[]);
SELECT cart.put_many(ARRAY['x'], NULL);
SELECT cart.put_many(NULL, ARRAY['1']::jsonb[]);
SELECT cart.put(repeat('x', 2001), '1');
SELECT cart.put('x', 'no json');
SELECT cart.get('x');

-- a node alone meets some levels, and refuses the others
SELECT cart.put('x', '1', 'none') IS NOT NULL AS stored;
SELECT cart.put('x', '1', 'quorum') IS NOT NULL AS stored;
SELECT level, required, acked, nodes FROM datacake.last_commit();
SELECT cart.put('x', '2', 'one');
SELECT cart.put_many(ARRAY['x'], ARRAY['1']::jsonb[], 'two');
SELECT cart.get('x', 'quorum');
SELECT cart.get_many(ARRAY['x'], 'local_quorum');
SELECT cart.del('y', 'each_quorum');
SELECT cart.del_many(ARRAY['y'], 'all');
SELECT cart.put('x', '1', 'everybody');
SELECT cart.put('x', '1', '');
SELECT datacake.ask_level('three');
SELECT datacake.ask_level(NULL);
SET datacake.consistency = quorum;
SET datacake.consistency = everybody;
SET datacake.consistency = none;
SHOW datacake.consistency;
SELECT cart.get('x');

-- other types
SELECT datacake.create_keyspace('by_number', 'bigint', 'text');
SELECT by_number.put(9223372036854775807, 'greatest') IS NOT NULL AS stored;
SELECT by_number.put_many(ARRAY[1, 2, 2, 3], ARRAY['a', 'b', 'c', 'd']);
SELECT * FROM by_number.get_many(ARRAY[1, 2, 3, 4]) ORDER BY 1;
SELECT by_number.get(9223372036854775807);
SELECT datacake.create_keyspace('blobs', 'uuid', 'bytea');
SELECT blobs.put('00000000-0000-0000-0000-000000000001', '\x0001') IS NOT NULL AS stored;
SELECT blobs.get('00000000-0000-0000-0000-000000000001');
-- names are quoted
SELECT datacake.create_keyspace('Odd "one"', 'int', 'int');
SELECT "Odd ""one""".put(1, 2) IS NOT NULL AS stored, "Odd ""one""".get(1);
SELECT "Odd ""one""".get(1);
SELECT schema_name, table_name, kind, key_bytes FROM datacake.keyspace ORDER BY schema_name;
SELECT relation, live, dead FROM datacake.keyspaces ORDER BY relation::text;

-- no keyspaces
SELECT datacake.create_keyspace('cart');
SELECT datacake.create_keyspace(NULL);
SELECT datacake.create_keyspace('ill', NULL);
SELECT datacake.create_keyspace('');
SELECT datacake.create_keyspace('pg_ill');
SELECT datacake.create_keyspace('datacake');
SELECT datacake.create_keyspace('ill', 'interval');
SELECT datacake.create_keyspace('ill', 0);
SELECT datacake.mark_keyspace('nosuch');
SELECT datacake.create_keyspace('ill', 'json');
SELECT datacake.create_keyspace('ill', 'text', 'no_such_type');
SELECT to_regnamespace('ill') IS NULL AS nothing_left;

--
-- drop_keyspace
--
SELECT datacake.drop_keyspace('Odd "one"');
SELECT datacake.drop_keyspace('blobs');
SELECT datacake.drop_keyspace('by_number');
SELECT datacake.drop_keyspace('by_number');
SELECT datacake.drop_keyspace('public');
SELECT datacake.drop_keyspace(NULL);
CREATE SCHEMA looks_like;
CREATE TABLE looks_like.entries (key text PRIMARY KEY, value jsonb);
SELECT datacake.replicate_table('looks_like.entries');
SELECT datacake.drop_keyspace('looks_like');
SELECT datacake.unreplicate_table('looks_like.entries');
DROP SCHEMA looks_like CASCADE;
SELECT relation, live, dead FROM datacake.keyspaces ORDER BY relation::text;
SELECT to_regnamespace('blobs') IS NULL AND to_regnamespace('by_number') IS NULL AS gone;
-- rolled back, it is still there
BEGIN;
SELECT datacake.drop_keyspace('cart');
ROLLBACK;
SELECT cart.get('a');
SELECT cart.put('a', '{"apples": 5}') IS NOT NULL AS stored;

--
-- Who may do what
--
-- PUBLIC may read the clock and replicate tables of its own; nothing else
SELECT p.oid::regprocedure AS function FROM pg_proc p, aclexplode(p.proacl) a
 WHERE p.pronamespace = 'datacake'::regnamespace AND a.grantee = 0 AND p.proname !~ '^hlc' ORDER BY p.proname;
SELECT p.oid::regprocedure AS function FROM pg_proc p
 WHERE p.pronamespace = 'datacake'::regnamespace AND p.proacl IS NULL;
SELECT c.relname FROM pg_class c, aclexplode(c.relacl) a WHERE c.relnamespace = 'datacake'::regnamespace AND a.grantee = 0;
-- no function of the extension is called with its owner's rights by everybody
SELECT p.oid::regprocedure AS function FROM pg_proc p
 WHERE p.pronamespace = 'datacake'::regnamespace AND p.prosecdef AND has_function_privilege('public', p.oid, 'EXECUTE');

CREATE ROLE regress_owner;
CREATE ROLE regress_other;
CREATE ROLE regress_reader IN ROLE datacake_reader;
CREATE ROLE regress_admin IN ROLE datacake_admin;
GRANT CREATE ON SCHEMA public TO regress_owner;
GRANT CREATE ON DATABASE :DBNAME TO regress_admin;

SET ROLE regress_owner;
CREATE TABLE mine (id int PRIMARY KEY, note text);
INSERT INTO mine VALUES (1, 'adopted');
SELECT datacake.replicate_table('mine');
INSERT INTO mine VALUES (2, 'captured');
UPDATE mine SET note = 'changed' WHERE id = 1;
DELETE FROM mine WHERE id = 2;
SELECT datacake.node_of(_stamp) = datacake.node_of(datacake.clock()) AS ours FROM mine;
-- what its owner may not
SELECT * FROM datacake.keyspaces;
SELECT * FROM datacake.tombstone;
INSERT INTO datacake.keyspace DEFAULT VALUES;
DELETE FROM datacake.vector;
SELECT datacake.create_keyspace('mine');
SELECT datacake.drop_keyspace('cart');
SELECT datacake.mark_keyspace('public');
SELECT datacake.define_keyspace_functions('cart');
SELECT datacake.pause();
SELECT datacake.resume();
SELECT datacake.retry();
SELECT datacake.join('127.0.0.1:1');
SELECT datacake.verify();
SELECT datacake.wait_for_nodes(1);
CALL datacake.peer_stream();
SELECT datacake.peer_hello('');
SELECT datacake.peer_fingerprint('');
SELECT cart.get('a');
SET datacake.node_id = 2;
SET datacake.capture = off;

SET ROLE regress_other;
-- not the owner, and no rights on the table
SELECT datacake.unreplicate_table('mine');
INSERT INTO mine VALUES (3, 'by another');
UPDATE mine SET note = 'by another';
DELETE FROM mine;
TRUNCATE mine;
RESET ROLE;
GRANT INSERT, SELECT ON mine TO regress_other;
SET ROLE regress_other;
-- the right to insert is enough: triggers and metadata need no more
INSERT INTO mine VALUES (3, 'by another');
UPDATE mine SET note = 'by another';
SELECT datacake.replicate_table('mine');
RESET ROLE;
SELECT live, dead, captured FROM datacake.keyspaces WHERE relation = 'mine'::regclass;
CREATE TABLE of_another (id int PRIMARY KEY);
SET ROLE regress_other;
SELECT datacake.replicate_table('of_another');
RESET ROLE;
DROP TABLE of_another;
-- row security that binds others does not stop replication
ALTER TABLE mine ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_notes ON mine USING (note = current_user) WITH CHECK (note = current_user);
SET ROLE regress_other;
INSERT INTO mine VALUES (4, 'regress_other');
INSERT INTO mine VALUES (5, 'somebody else');
SELECT id, note FROM mine;
RESET ROLE;
SELECT live, dead, captured FROM datacake.keyspaces WHERE relation = 'mine'::regclass;

SET ROLE regress_reader;
SELECT relation, live FROM datacake.keyspaces ORDER BY relation::text;
SELECT count(*) FROM datacake.nodes;
SELECT count(*) FROM datacake.workers;
SELECT count(*) > 0 AS some FROM datacake.stat_counters;
SELECT count(*) FROM datacake.peers;
SELECT datacake.pause();
SELECT count(*) FROM datacake.tombstone;

SET ROLE regress_admin;
SELECT datacake.create_keyspace('of_admin', 'int', 'text');
SELECT of_admin.put(1, 'one') IS NOT NULL AS stored;
SELECT of_admin.get(1);
SET ROLE regress_other;
SELECT of_admin.get(1);
SET ROLE regress_admin;
-- what it grants, others may do
GRANT USAGE ON SCHEMA of_admin TO regress_other;
GRANT EXECUTE ON FUNCTION of_admin.get(int, text) TO regress_other;
SET ROLE regress_other;
SELECT of_admin.get(1);
SET ROLE regress_admin;
GRANT SELECT ON of_admin.entries TO regress_other;
SET ROLE regress_other;
SELECT of_admin.get(1);
SELECT of_admin.put(1, 'mine');
SET ROLE regress_admin;
SELECT datacake.drop_keyspace('of_admin');
-- another's keyspace it may not drop
SELECT datacake.drop_keyspace('cart');
SELECT datacake.verify();
SELECT datacake.retry();
RESET ROLE;

SET ROLE regress_owner;
SELECT datacake.unreplicate_table('mine');
RESET ROLE;
SELECT datacake.drop_keyspace('cart');
SELECT count(*) FROM datacake.keyspaces;
DROP TABLE mine;
REVOKE ALL ON SCHEMA public FROM regress_owner;
REVOKE ALL ON DATABASE :DBNAME FROM regress_admin;
DROP ROLE regress_owner, regress_other, regress_reader, regress_admin;
