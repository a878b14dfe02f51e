--
-- DDL on a replicated table, on one node: what works, and what is refused.
--
SET client_min_messages = warning;
\set SHOW_CONTEXT never
CREATE VIEW definition AS
    SELECT schema_name, table_name, jsonb_path_query_array(columns, '$[*].name') AS columns, primary_key, constraints
      FROM datacake.keyspace;
CREATE VIEW past AS
    SELECT e.key AS name, e.value->>'now' AS now FROM datacake.keyspace k, jsonb_each(k.history) e ORDER BY e.key COLLATE "C";

CREATE TABLE orders (id int PRIMARY KEY, note text, amount int);
SELECT datacake.replicate_table('orders');
INSERT INTO orders VALUES (1, 'one', 10), (2, 'two', 20);

-- columns: the definition follows, and rows are captured in their new shape
ALTER TABLE orders ADD COLUMN state text NOT NULL DEFAULT 'new';
ALTER TABLE orders RENAME COLUMN note TO remark;
ALTER TABLE orders ALTER COLUMN amount TYPE numeric;
ALTER TABLE orders ADD COLUMN doubled numeric GENERATED ALWAYS AS (amount * 2) STORED;
INSERT INTO orders (id, remark, amount, state) VALUES (3, 'three', 30.5, 'sent');
ALTER TABLE orders DROP COLUMN state;
SELECT * FROM definition;
SELECT * FROM past;
ALTER TABLE orders RENAME COLUMN remark TO note;
SELECT * FROM past;
-- what USING makes of a value, no other node can know
ALTER TABLE orders ALTER COLUMN note TYPE varchar USING upper(note);
ALTER TABLE orders DROP COLUMN doubled;
ALTER TABLE orders ALTER COLUMN amount TYPE text USING amount::text || ' EUR';
SELECT * FROM past;
SELECT id, note, amount, _stamp IS NOT NULL AS stamped FROM orders ORDER BY id;

-- several shapes in one transaction
BEGIN;
INSERT INTO orders VALUES (4, 'four', '40 EUR');
ALTER TABLE orders ADD COLUMN extra int DEFAULT 7;
INSERT INTO orders (id, note, amount, extra) VALUES (5, 'five', '50 EUR', 8);
ALTER TABLE orders DROP COLUMN extra;
INSERT INTO orders VALUES (6, 'six', '60 EUR');
COMMIT;
SELECT datacake.verify();

-- what is rolled back leaves the definition as it was
BEGIN;
ALTER TABLE orders RENAME COLUMN note TO nothing;
ROLLBACK;
SELECT columns FROM definition;

-- constraints and indexes, names and schemas
ALTER TABLE orders ADD CONSTRAINT short CHECK (length(note) < 100);
CREATE INDEX orders_note ON orders (note);
CREATE UNIQUE INDEX CONCURRENTLY orders_unique ON orders (amount);
DROP INDEX orders_unique;
ALTER INDEX orders_note RENAME TO orders_by_note;
DROP INDEX orders_by_note;
ALTER TABLE orders RENAME CONSTRAINT short TO brief;
CREATE SCHEMA shop;
ALTER TABLE orders SET SCHEMA shop;
ALTER TABLE shop.orders RENAME TO "Orders";
ALTER SCHEMA shop RENAME TO store;
ALTER TABLE store."Orders" RENAME COLUMN id TO number;
SELECT * FROM definition;
SELECT relation, live FROM datacake.keyspaces;
UPDATE store."Orders" SET note = 'changed' WHERE number = 1;
ALTER TABLE store."Orders" RENAME COLUMN number TO id;
ALTER TABLE store."Orders" SET SCHEMA public;
ALTER TABLE "Orders" RENAME TO orders;
ALTER TABLE orders DROP CONSTRAINT brief;

-- its own things belong to Datacake
ALTER TABLE orders DROP COLUMN _stamp;
ALTER TABLE orders RENAME COLUMN _stamp TO stamp;
ALTER TABLE orders ALTER COLUMN _stamp TYPE bigint;
ALTER TABLE orders ALTER COLUMN _stamp DROP NOT NULL;
ALTER TABLE orders ALTER COLUMN _stamp SET DEFAULT '1';
ALTER TABLE orders DISABLE TRIGGER "!datacake_capture";
ALTER TABLE orders DISABLE TRIGGER ALL;
ALTER TABLE orders ENABLE TRIGGER "~datacake_stamp";
ALTER TRIGGER "~datacake_stamp" ON orders RENAME TO stamp;
DROP TRIGGER "!datacake_truncate" ON orders;
DROP TRIGGER "!datacake_capture" ON orders;

-- keys are compared between nodes
ALTER TABLE orders DROP CONSTRAINT orders_pkey;
ALTER TABLE orders DROP COLUMN id;
ALTER TABLE orders ALTER COLUMN id TYPE bigint;
ALTER TABLE orders ADD COLUMN other int DEFAULT 0;
ALTER TABLE orders DROP CONSTRAINT orders_pkey, ADD PRIMARY KEY (id, other);
BEGIN;
UPDATE orders SET other = id;
ALTER TABLE orders DROP CONSTRAINT orders_pkey, ADD PRIMARY KEY (other);
ROLLBACK;
ALTER TABLE orders DROP COLUMN other;

-- what would differ from node to node, or lose rows
ALTER TABLE orders ADD COLUMN made timestamptz DEFAULT clock_timestamp();
ALTER TABLE orders ADD COLUMN line serial;
ALTER TABLE orders ADD COLUMN line int GENERATED ALWAYS AS IDENTITY;
ALTER TABLE orders ADD COLUMN made timestamptz DEFAULT now();
ALTER TABLE orders ADD COLUMN made timestamptz, ADD COLUMN day date DEFAULT '2026-01-01';
ALTER TABLE orders ALTER COLUMN made SET DEFAULT now();
ALTER TABLE orders DROP COLUMN made, DROP COLUMN day;
ALTER TABLE orders SET UNLOGGED;
ALTER TABLE orders FORCE ROW LEVEL SECURITY;
ALTER TABLE orders ADD UNIQUE (note) DEFERRABLE;

-- a type that goes takes its columns along
CREATE TYPE mood AS ENUM ('good', 'bad');
ALTER TABLE orders ADD COLUMN mood mood DEFAULT 'good';
\set VERBOSITY terse
DROP TYPE mood CASCADE;
\set VERBOSITY default
SELECT columns FROM definition;
SELECT name FROM past WHERE name = 'mood';

-- the owner may do all that; nobody needs a right on schema datacake's tables
CREATE ROLE regress_owner;
GRANT CREATE ON SCHEMA public TO regress_owner;
ALTER TABLE orders OWNER TO regress_owner;
SELECT owner FROM datacake.keyspace;
SET ROLE regress_owner;
ALTER TABLE orders ADD COLUMN mine int DEFAULT 1;
ALTER TABLE orders DISABLE TRIGGER ALL;
SELECT datacake.follow_ddl();
RESET ROLE;
SELECT columns FROM definition;

-- tables that are no keyspaces are left alone
CREATE TABLE plain (id int PRIMARY KEY, v serial);
ALTER TABLE plain SET UNLOGGED;
ALTER TABLE plain DISABLE TRIGGER ALL;
ALTER TABLE plain ADD COLUMN made timestamptz DEFAULT clock_timestamp();
ALTER TABLE plain DROP CONSTRAINT plain_pkey;
DROP TABLE plain;

-- with a table its keyspace goes, and comes back with a rollback
BEGIN;
INSERT INTO orders VALUES (7, 'seven', '70 EUR');
DROP TABLE orders;
SELECT count(*) FROM datacake.keyspace;
ROLLBACK;
INSERT INTO orders VALUES (7, 'seven', '70 EUR');
SELECT relation, live FROM datacake.keyspaces;
BEGIN;
INSERT INTO orders VALUES (8, 'eight', '80 EUR');
DROP TABLE orders;
COMMIT;
SELECT count(*) FROM datacake.keyspace;
SELECT count(*) FROM datacake.keyspaces;
SELECT count(*) FROM datacake.tombstone WHERE keyspace <> 1;
CREATE TABLE orders (id int PRIMARY KEY, note text);
SELECT datacake.replicate_table('orders');
INSERT INTO orders VALUES (1, 'again');
SELECT relation, live FROM datacake.keyspaces;
DROP OWNED BY regress_owner;
DROP ROLE regress_owner;
CREATE SCHEMA gone;
ALTER TABLE orders SET SCHEMA gone;
\set VERBOSITY terse
DROP SCHEMA gone CASCADE;
\set VERBOSITY default
SELECT count(*) FROM datacake.keyspaces;
SELECT datacake.verify();

-- ids: unique in the whole cluster and ordered by time
CREATE TABLE items (id bigint PRIMARY KEY DEFAULT datacake.next_id(), v text);
SELECT datacake.replicate_table('items');
INSERT INTO items (v) SELECT 'x' FROM generate_series(1, 1000);
SELECT count(DISTINCT id) AS ids, min(id) > 0 AS positive, max(id) < 9223372036854775807 AS fits FROM items;
INSERT INTO items (v) VALUES ('last');
SELECT v FROM items ORDER BY id DESC LIMIT 1;
SELECT columns @> '[{"name": "id", "default": "datacake.next_id()"}]' AS travels FROM datacake.keyspace;
SELECT datacake.node_of(id::datacake.hlc) = current_setting('datacake.node_id')::int AS of_this_node FROM items LIMIT 1;
-- a sequence is not replicated: its default stays behind
CREATE TABLE lines (id serial PRIMARY KEY);
SELECT datacake.replicate_table('lines');
SELECT columns->0->>'default' IS NULL AS stays_here FROM datacake.keyspace WHERE table_name = 'lines';
DROP TABLE items, lines;
DROP VIEW definition, past;
