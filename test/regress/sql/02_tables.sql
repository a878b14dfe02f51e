--
-- Which tables can be replicated, and what becomes of them.
--
SET client_min_messages = warning;
\set SHOW_CONTEXT never

--
-- Refused, each with a way out
--
CREATE TABLE no_key (id int, note text);
SELECT datacake.replicate_table('no_key');
CREATE TABLE unique_is_not_enough (id int UNIQUE NOT NULL);
SELECT datacake.replicate_table('unique_is_not_enough');
CREATE TEMP TABLE temporary (id int PRIMARY KEY);
SELECT datacake.replicate_table('temporary');
CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY);
SELECT datacake.replicate_table('unlogged');
CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (10);
SELECT datacake.replicate_table('part');
CREATE UNLOGGED TABLE unlogged_part PARTITION OF parted FOR VALUES FROM (10) TO (20);
SELECT datacake.replicate_table('parted');
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child () INHERITS (parent);
SELECT datacake.replicate_table('parent');
CREATE VIEW a_view AS SELECT * FROM no_key;
SELECT datacake.replicate_table('a_view');
CREATE MATERIALIZED VIEW a_matview AS SELECT * FROM no_key;
SELECT datacake.replicate_table('a_matview');
CREATE SEQUENCE a_sequence;
SELECT datacake.replicate_table('a_sequence');
SELECT datacake.replicate_table('unlogged_pkey');
CREATE FOREIGN DATA WRAPPER nowhere;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere;
CREATE FOREIGN TABLE foreign_table (id int) SERVER nowhere;
SELECT datacake.replicate_table('foreign_table');
CREATE TABLE deferrable_key (id int PRIMARY KEY DEFERRABLE);
SELECT datacake.replicate_table('deferrable_key');
CREATE TABLE deferrable_unique (id int PRIMARY KEY, code text UNIQUE DEFERRABLE);
SELECT datacake.replicate_table('deferrable_unique');
CREATE TABLE deferrable_exclusion (id int PRIMARY KEY, r int4range, EXCLUDE USING gist (r WITH &&) DEFERRABLE);
SELECT datacake.replicate_table('deferrable_exclusion');
CREATE TABLE forced (id int PRIMARY KEY);
ALTER TABLE forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
SELECT datacake.replicate_table('forced');
CREATE TABLE own_stamp (id int PRIMARY KEY, _stamp timestamptz);
SELECT datacake.replicate_table('own_stamp');
SELECT datacake.replicate_table('pg_class');
SELECT datacake.replicate_table('nowhere_to_be_found');
-- the extension's own tables
SELECT datacake.replicate_table('datacake.keyspace');
SELECT datacake.unreplicate_table('datacake.keyspace');
SELECT datacake.replicate_table('datacake.tombstone');
\set VERBOSITY sqlstate
SELECT datacake.replicate_table('datacake.vector');
SELECT datacake.unreplicate_table('datacake.vector');
\set VERBOSITY default

-- equal keys that differ in bytes, where no form of them stands for all:
-- in this collation 'a' = 'A', and 1 month = 30 days
CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE any_case_key (id text COLLATE any_case PRIMARY KEY);
SELECT datacake.replicate_table('any_case_key');
CREATE TABLE any_case_char_key (id char(10) COLLATE any_case PRIMARY KEY);
SELECT datacake.replicate_table('any_case_char_key');
CREATE TABLE interval_key (id interval PRIMARY KEY);
SELECT datacake.replicate_table('interval_key');
CREATE TABLE half_interval_key (a int, b interval, PRIMARY KEY (a, b));
SELECT datacake.replicate_table('half_interval_key');
CREATE TABLE array_key (id numeric[] PRIMARY KEY);
SELECT datacake.replicate_table('array_key');
CREATE TABLE generated_key (a int, b int GENERATED ALWAYS AS (a * 2) STORED PRIMARY KEY);
SELECT datacake.replicate_table('generated_key');

-- nothing was left behind by all this
SELECT count(*) FROM datacake.keyspaces;
SELECT attrelid::regclass FROM pg_attribute WHERE attname = '_stamp' AND attrelid::regclass::text !~ '^datacake' ORDER BY 1;
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgname ~ 'datacake' AND tgrelid <> 'datacake.keyspace'::regclass;

DROP TABLE no_key, unique_is_not_enough, deferrable_unique, deferrable_exclusion, temporary, unlogged, parted, parent, child, deferrable_key, forced, own_stamp,
    any_case_key, any_case_char_key, interval_key, half_interval_key, array_key, generated_key CASCADE;
DROP FOREIGN DATA WRAPPER nowhere CASCADE;
DROP COLLATION any_case;
DROP SEQUENCE a_sequence;

--
-- Accepted: keys of any of these types
--
CREATE TYPE colour AS ENUM ('red', 'green');
CREATE DOMAIN positive AS bigint CHECK (VALUE > 0);
CREATE TABLE by_int2 (k int2 PRIMARY KEY);
CREATE TABLE by_int4 (k int4 PRIMARY KEY);
CREATE TABLE by_int8 (k int8 PRIMARY KEY);
CREATE TABLE by_uuid (k uuid PRIMARY KEY);
CREATE TABLE by_text (k text PRIMARY KEY);
CREATE TABLE by_varchar (k varchar(10) PRIMARY KEY);
CREATE TABLE by_bytea (k bytea PRIMARY KEY);
CREATE TABLE by_bool (k boolean PRIMARY KEY);
CREATE TABLE by_date (k date PRIMARY KEY);
CREATE TABLE by_timestamptz (k timestamptz PRIMARY KEY);
CREATE TABLE by_enum (k colour PRIMARY KEY);
CREATE TABLE by_domain (k positive PRIMARY KEY);
CREATE TABLE by_several (a text, b int, c uuid, PRIMARY KEY (c, a, b));
-- several in one transaction
SELECT tablename, datacake.replicate_table(tablename::regclass) FROM pg_tables WHERE tablename ~ '^by_' ORDER BY 1;
INSERT INTO by_int2 VALUES (-1);
INSERT INTO by_int4 VALUES (-1);
INSERT INTO by_int8 VALUES (-1);
INSERT INTO by_uuid VALUES ('00000000-0000-0000-0000-000000000001');
INSERT INTO by_text VALUES ('');
INSERT INTO by_varchar VALUES ('Ünïcode');
INSERT INTO by_bytea VALUES ('\x00');
INSERT INTO by_bool VALUES (false);
INSERT INTO by_date VALUES ('infinity');
INSERT INTO by_timestamptz VALUES ('2026-11-20 17:30+00');
INSERT INTO by_enum VALUES ('green');
INSERT INTO by_domain VALUES (1);
INSERT INTO by_several VALUES ('', 0, '00000000-0000-0000-0000-000000000001');
SELECT relation, live, captured FROM datacake.keyspaces ORDER BY relation::text;
SELECT tablename, datacake.unreplicate_table(tablename::regclass) FROM pg_tables WHERE tablename ~ '^by_' ORDER BY 1;
SELECT count(*) FROM datacake.keyspaces;
DROP TABLE by_int2, by_int4, by_int8, by_uuid, by_text, by_varchar, by_bytea, by_bool, by_date, by_timestamptz,
    by_enum, by_domain, by_several;
DROP DOMAIN positive;
DROP TYPE colour;

-- equal keys are one key, however they are written; the row keeps what was written
CREATE DOMAIN price AS numeric CHECK (VALUE > 0);
CREATE TABLE by_numeric (k numeric PRIMARY KEY, v int);
CREATE TABLE by_price (k price PRIMARY KEY, v int);
CREATE TABLE by_float4 (k float4 PRIMARY KEY, v int);
CREATE TABLE by_float8 (k float8 PRIMARY KEY, v int);
CREATE TABLE by_char (k char(5) PRIMARY KEY, v int);
CREATE TABLE by_blanks (k bpchar PRIMARY KEY, v int);
CREATE TABLE by_both (a int, b numeric, v int, PRIMARY KEY (b, a));
SELECT tablename, datacake.replicate_table(tablename::regclass) FROM pg_tables WHERE tablename ~ '^by_' ORDER BY 1;
INSERT INTO by_numeric VALUES (1.0, 1), (100, 1), (0.00, 1), ('NaN', 1), ('infinity', 1);
INSERT INTO by_numeric VALUES (1.00, 2), (1e2, 2), (0, 2), ('NaN', 2), ('infinity', 2) ON CONFLICT (k) DO UPDATE SET k = excluded.k, v = excluded.v;
INSERT INTO by_price VALUES (1.0, 1);
UPDATE by_price SET k = 1.000, v = 2;
INSERT INTO by_float4 VALUES (0, 1), ('NaN', 1);
UPDATE by_float4 SET k = -k, v = 2;
INSERT INTO by_float8 VALUES (0, 1), ('NaN', 1);
UPDATE by_float8 SET k = -k, v = 2;
INSERT INTO by_char VALUES ('a', 1), ('', 1);
UPDATE by_char SET k = rtrim(k) || ' ', v = 2;
INSERT INTO by_blanks VALUES ('a', 1);
UPDATE by_blanks SET k = 'a  ', v = 2;
INSERT INTO by_both VALUES (1, 1.0, 1);
UPDATE by_both SET b = 1.000, v = 2;
SELECT relation, live, dead FROM datacake.keyspaces ORDER BY relation::text;
SELECT k, v FROM by_numeric ORDER BY k;
SELECT k, v FROM by_float8 ORDER BY k;
DELETE FROM by_numeric WHERE k = 100.0;
SELECT live FROM datacake.keyspaces WHERE relation = 'by_numeric'::regclass;
SELECT tablename, datacake.unreplicate_table(tablename::regclass) FROM pg_tables WHERE tablename ~ '^by_' ORDER BY 1;
DROP TABLE by_numeric, by_price, by_float4, by_float8, by_char, by_blanks, by_both;
DROP DOMAIN price;

--
-- A table with rows is adopted as it is, without a rewrite
--
CREATE TABLE orders (id bigint PRIMARY KEY, note text DEFAULT 'none', total numeric, UNIQUE (note, id));
INSERT INTO orders SELECT n, 'order ' || n, n * 1.5 FROM generate_series(1, 3000) n;
SELECT pg_relation_filenode('orders') AS file_before, datacake.clock() AS clock_before \gset
SELECT datacake.replicate_table('orders');
SELECT pg_relation_filenode('orders') = :file_before AS same_file;
SELECT attname, format_type(atttypid, atttypmod) AS type, attnotnull FROM pg_attribute
 WHERE attrelid = 'orders'::regclass AND attnum > 0 ORDER BY attnum;
SELECT tgname, tgfoid::regproc AS function, tgenabled AS fires FROM pg_trigger WHERE tgrelid = 'orders'::regclass ORDER BY 1;
-- every row is an entry, and all have one stamp, drawn now
SELECT relation, entries, live, dead, captured, applied, conflicts, waiting, complaint FROM datacake.keyspaces;
SELECT count(*), count(DISTINCT _stamp), min(_stamp) > :'clock_before'::datacake.hlc AND max(_stamp) < datacake.clock() AS drawn_now FROM orders;
-- what the other nodes are told
SELECT schema_name, table_name, kind, key_bytes, primary_key, jsonb_pretty(columns) FROM datacake.keyspace;
SELECT id = (SELECT id FROM datacake.keyspaces) AS same_id, id BETWEEN :'clock_before'::datacake.hlc AND datacake.clock() AS id_is_a_stamp FROM datacake.keyspace;

-- twice
SELECT datacake.replicate_table('orders');

-- and back: an ordinary table with all its rows
UPDATE orders SET note = 'changed' WHERE id <= 10;
DELETE FROM orders WHERE id = 11;
SELECT datacake.unreplicate_table('orders');
\d orders
SELECT count(*) FROM orders;
SELECT count(*) FROM datacake.keyspaces;
SELECT count(*) FROM datacake.keyspace;
SELECT count(*) FROM datacake.tombstone WHERE keyspace <> 1;
SELECT datacake.unreplicate_table('orders');
TRUNCATE orders;
-- and again a keyspace, of another id
SELECT datacake.replicate_table('orders');
SELECT live, dead, captured FROM datacake.keyspaces;
SELECT datacake.unreplicate_table('orders');
DROP TABLE orders;

--
-- In a transaction: all of it or nothing
--
BEGIN;
CREATE TABLE fresh (id int PRIMARY KEY, note text);
INSERT INTO fresh VALUES (1, 'before');
SELECT datacake.replicate_table('fresh');
INSERT INTO fresh VALUES (2, 'after');
UPDATE fresh SET note = 'changed' WHERE id = 1;
COMMIT;
SELECT id, note FROM fresh ORDER BY id;
SELECT relation, live, dead FROM datacake.keyspaces;
SELECT datacake.unreplicate_table('fresh');

BEGIN;
SELECT datacake.replicate_table('fresh');
INSERT INTO fresh VALUES (3, 'never');
ROLLBACK;
\d fresh
SELECT count(*) FROM datacake.keyspaces;
SELECT count(*) FROM datacake.keyspace;

BEGIN;
SAVEPOINT s;
SELECT datacake.replicate_table('fresh');
ROLLBACK TO s;
SELECT datacake.replicate_table('fresh');
INSERT INTO fresh VALUES (3, 'now');
COMMIT;
SELECT relation, live, dead FROM datacake.keyspaces;

BEGIN;
SELECT datacake.unreplicate_table('fresh');
ROLLBACK;
INSERT INTO fresh VALUES (4, 'still replicated');
SELECT relation, live, dead FROM datacake.keyspaces;

--
-- A replicated table goes on living
--
ALTER TABLE fresh ADD COLUMN more int DEFAULT 7;
ALTER TABLE fresh RENAME COLUMN note TO remark;
CREATE INDEX ON fresh (remark);
INSERT INTO fresh (id, remark) VALUES (5, 'wider');
SELECT live, captured FROM datacake.keyspaces;
-- a rewrite and a move keep rows and stamps
SELECT md5(string_agg(id || _stamp::text, ',' ORDER BY id)) AS stamps FROM fresh \gset
ALTER TABLE fresh ALTER COLUMN more TYPE bigint;
VACUUM FULL fresh;
CLUSTER fresh USING fresh_pkey;
SELECT md5(string_agg(id || _stamp::text, ',' ORDER BY id)) = :'stamps' AS same_stamps FROM fresh;
INSERT INTO fresh (id, remark) VALUES (6, 'after the rewrite');
SELECT live, captured FROM datacake.keyspaces;
SELECT datacake.unreplicate_table('fresh');
DROP TABLE fresh;
