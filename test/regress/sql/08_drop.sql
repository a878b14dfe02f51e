--
-- Without the extension, tables are what they were; then it may come back.
--
SET client_min_messages = warning;
\set SHOW_CONTEXT never

CREATE TABLE orders (id int PRIMARY KEY, note text);
INSERT INTO orders VALUES (1, 'one'), (2, 'two'), (3, 'three');
SELECT datacake.replicate_table('orders');
SELECT datacake.create_keyspace('cart', 'int', 'text');
SELECT cart.put(1, 'one') IS NOT NULL AS stored;
DELETE FROM orders WHERE id = 3;

\set VERBOSITY terse
DROP EXTENSION datacake;
\set VERBOSITY default
BEGIN;
DROP EXTENSION datacake CASCADE;
ROLLBACK;
INSERT INTO orders VALUES (4, 'four');
SELECT relation, live, dead FROM datacake.keyspaces ORDER BY relation::text;

DROP EXTENSION datacake CASCADE;
\d orders
\d cart.entries
SELECT * FROM orders ORDER BY id;
SELECT * FROM cart.entries;
INSERT INTO orders VALUES (5, 'five');
UPDATE orders SET note = 'changed' WHERE id = 1;
DELETE FROM orders WHERE id = 2;
BEGIN;
TRUNCATE orders;
ROLLBACK;

-- and again, without a pause
CREATE EXTENSION datacake;
SELECT datacake.wait_for_nodes(1);
SELECT count(*) FROM datacake.keyspaces;
SELECT datacake.replicate_table('orders');
INSERT INTO orders VALUES (6, 'six');
SELECT relation, live, dead, captured FROM datacake.keyspaces ORDER BY relation::text;
-- it has an identity that survives a restart
SELECT node_id = current_setting('datacake.node_id')::int AS this_node,
       incarnation = (SELECT incarnation FROM datacake.nodes WHERE local) AS this_incarnation,
       clock_bound > (SELECT max(_stamp) FROM orders) AS bound_ahead_of_stamps
  FROM datacake.local_state;
SELECT datacake.await_stamp(datacake.last_commit_stamp());
SELECT datacake.verify();

-- in no other database than the one that datacake.database names
SELECT datacake.unreplicate_table('orders');
DROP TABLE orders;
DROP SCHEMA cart CASCADE;
SELECT current_database() AS here \gset
CREATE DATABASE regress_elsewhere;
\c regress_elsewhere
\set SHOW_CONTEXT never
CREATE EXTENSION datacake;
SELECT count(*) FROM pg_extension WHERE extname = 'datacake';
\c :here
DROP DATABASE regress_elsewhere;

-- without replicated tables it goes without CASCADE
DROP EXTENSION datacake;
SELECT rolname FROM pg_roles WHERE rolname ~ '^datacake_' ORDER BY 1;
CREATE EXTENSION datacake;
SELECT datacake.wait_for_nodes(1);
