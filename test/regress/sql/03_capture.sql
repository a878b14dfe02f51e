--
-- Every way of writing is captured, once, under one stamp for each transaction.
--
SET client_min_messages = warning;
\set SHOW_CONTEXT never

CREATE TABLE orders (id int PRIMARY KEY, note text, qty int DEFAULT 1, double int GENERATED ALWAYS AS (qty * 2) STORED);
CREATE TABLE items (order_id int REFERENCES orders ON UPDATE CASCADE ON DELETE CASCADE, n int, PRIMARY KEY (order_id, n));
CREATE TABLE plain (id int PRIMARY KEY, note text);
SELECT datacake.replicate_table('orders');
SELECT datacake.replicate_table('items');

-- what was captured since the last look, and how many live and dead entries
-- there are: entries and rows must always agree
CREATE TABLE looked (relation regclass PRIMARY KEY, captured bigint);
CREATE FUNCTION look(OUT relation regclass, OUT captured bigint, OUT live bigint, OUT dead bigint, OUT live_is_rows boolean)
RETURNS SETOF record LANGUAGE plpgsql AS $$
BEGIN
    FOR relation, captured, live, dead IN
        SELECT k.relation, k.captured - coalesce(l.captured, 0), k.live, k.dead
          FROM datacake.keyspaces k LEFT JOIN looked l USING (relation) ORDER BY k.relation::text
    LOOP
        EXECUTE format('SELECT count(*) = %s FROM %s', live, relation) INTO live_is_rows;
        INSERT INTO looked VALUES (relation, captured)
            ON CONFLICT ON CONSTRAINT looked_pkey DO UPDATE SET captured = looked.captured + excluded.captured;
        IF captured > 0 THEN RETURN NEXT; END IF;
    END LOOP;
END $$;
SELECT * FROM look();

--
-- Statements
--
INSERT INTO orders (id, note) VALUES (1, 'one');
SELECT * FROM look();
INSERT INTO orders (id, note) VALUES (2, 'two'), (3, 'three'), (4, 'four');
SELECT * FROM look();
INSERT INTO orders (id, note) SELECT n, 'many' FROM generate_series(5, 1000) n;
SELECT * FROM look();
UPDATE orders SET note = 'changed' WHERE id <= 10;
SELECT * FROM look();
DELETE FROM orders WHERE id > 10;
SELECT * FROM look();
-- a dead key comes back
INSERT INTO orders (id, note) VALUES (11, 'again');
SELECT * FROM look();
-- a change of the key is a death and a birth
UPDATE orders SET id = 12 WHERE id = 11;
SELECT * FROM look();
-- a swap of keys by way of a third, which is born and dies unseen
BEGIN;
UPDATE orders SET id = -1 WHERE id = 1;
UPDATE orders SET id = 1 WHERE id = 2;
UPDATE orders SET id = 2 WHERE id = -1;
COMMIT;
SELECT * FROM look();
SELECT id, note FROM orders WHERE id <= 2 ORDER BY id;
-- nothing written, nothing captured
UPDATE orders SET note = 'nobody' WHERE id = 99999;
DELETE FROM orders WHERE id = 99999;
SELECT * FROM look();

-- both arms of an upsert, and the one that does nothing
INSERT INTO orders (id, note) VALUES (1, 'updated'), (20, 'inserted') ON CONFLICT (id) DO UPDATE SET note = excluded.note;
SELECT * FROM look();
INSERT INTO orders (id, note) VALUES (1, 'ignored'), (21, 'inserted') ON CONFLICT DO NOTHING;
SELECT * FROM look();
INSERT INTO orders (id, note) VALUES (1, 'not this') ON CONFLICT (id) DO UPDATE SET note = excluded.note WHERE false;
SELECT * FROM look();

MERGE INTO orders o USING (VALUES (1), (20), (22), (23)) v(id) ON o.id = v.id
    WHEN MATCHED AND v.id = 20 THEN DELETE
    WHEN MATCHED THEN UPDATE SET note = 'merged'
    WHEN NOT MATCHED AND v.id = 23 THEN DO NOTHING
    WHEN NOT MATCHED THEN INSERT (id, note) VALUES (v.id, 'merged');
SELECT * FROM look();

COPY orders (id, note) FROM stdin;
30	copied
31	copied
32	copied
\.
SELECT * FROM look();

-- writable CTEs: one statement, two tables
WITH o AS (INSERT INTO orders (id, note) VALUES (40, 'with items') RETURNING id)
INSERT INTO items SELECT o.id, n FROM o, generate_series(1, 3) n;
SELECT * FROM look();
-- foreign keys that cascade
UPDATE orders SET id = 41 WHERE id = 40;
SELECT * FROM look();
DELETE FROM orders WHERE id = 41;
SELECT * FROM look();

-- through a view and from a loop
CREATE VIEW cheap AS SELECT id, note FROM orders WHERE qty < 5;
INSERT INTO cheap VALUES (50, 'through a view');
SELECT * FROM look();
DO $$
BEGIN
    FOR i IN 51..53 LOOP
        INSERT INTO orders (id, note) VALUES (i, 'from a loop');
        UPDATE orders SET qty = i WHERE id = i;
    END LOOP;
END $$;
SELECT * FROM look();
-- by a trigger of another table
CREATE FUNCTION book() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO orders (id, note) VALUES (NEW.id, NEW.note);
    RETURN NEW;
END $$;
CREATE TRIGGER book BEFORE INSERT ON plain FOR EACH ROW EXECUTE FUNCTION book();
INSERT INTO plain VALUES (60, 'by a trigger');
SELECT * FROM look();
-- a user's own BEFORE triggers still count, whatever they do
CREATE FUNCTION tweak() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.note = 'skip' THEN RETURN NULL; END IF;
    NEW.note := upper(NEW.note);
    RETURN NEW;
END $$;
CREATE TRIGGER tweak BEFORE INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION tweak();
INSERT INTO orders (id, note) VALUES (61, 'tweaked'), (62, 'skip');
SELECT * FROM look();
SELECT id, note FROM orders WHERE id IN (61, 62);
DROP TRIGGER tweak ON orders;

--
-- Several writes of one key in one transaction are one change
--
BEGIN;
INSERT INTO orders (id, note) VALUES (70, 'a');
UPDATE orders SET note = 'b' WHERE id = 70;
UPDATE orders SET note = 'c' WHERE id = 70;
COMMIT;
SELECT * FROM look();
BEGIN;
UPDATE orders SET note = 'd' WHERE id = 70;
DELETE FROM orders WHERE id = 70;
INSERT INTO orders (id, note) VALUES (70, 'e');
COMMIT;
SELECT * FROM look();
BEGIN;
INSERT INTO orders (id, note) VALUES (71, 'born');
DELETE FROM orders WHERE id = 71;
COMMIT;
SELECT * FROM look();

--
-- What is rolled back leaves no trace
--
BEGIN;
INSERT INTO orders (id, note) VALUES (80, 'never');
UPDATE orders SET note = 'never' WHERE id = 1;
DELETE FROM orders WHERE id = 2;
ROLLBACK;
SELECT * FROM look();
-- an error rolls back, too
INSERT INTO orders (id, note) VALUES (80, 'never'), (1, 'there already');
INSERT INTO orders (id, note) SELECT n, 1 / (105 - n) FROM generate_series(100, 110) n;
SELECT * FROM look();
-- a savepoint drops its part, and only that
BEGIN;
INSERT INTO orders (id, note) VALUES (80, 'kept');
SAVEPOINT a;
INSERT INTO orders (id, note) VALUES (81, 'dropped');
UPDATE orders SET note = 'dropped' WHERE id = 80;
SAVEPOINT b;
DELETE FROM orders WHERE id = 3;
RELEASE b;
ROLLBACK TO a;
INSERT INTO orders (id, note) VALUES (82, 'kept');
SAVEPOINT c;
INSERT INTO orders (id, note) VALUES (83, 'kept');
RELEASE c;
COMMIT;
SELECT * FROM look();
SELECT id, note FROM orders WHERE id IN (3, 80, 81, 82, 83) ORDER BY id;
-- what was dropped leaves no tombstone
SELECT count(*) FROM orders o JOIN datacake.tombstone t ON t.key = int4send(o.id) AND t.stamp >= o._stamp
 WHERE t.keyspace = (SELECT id FROM datacake.keyspaces WHERE relation = 'orders'::regclass);
-- exception blocks are savepoints
DO $$
BEGIN
    INSERT INTO orders (id, note) VALUES (84, 'kept');
    BEGIN
        INSERT INTO orders (id, note) VALUES (85, 'dropped');
        RAISE division_by_zero;
    EXCEPTION WHEN division_by_zero THEN
        INSERT INTO orders (id, note) VALUES (86, 'kept');
    END;
END $$;
SELECT * FROM look();
-- everything dropped: nothing is left to be shipped
BEGIN;
SAVEPOINT a;
INSERT INTO orders (id, note) VALUES (87, 'dropped');
ROLLBACK TO a;
COMMIT;
SELECT * FROM look();
-- transaction control inside a procedure
CREATE PROCEDURE in_parts() LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO orders (id, note) VALUES (90, 'kept');
    COMMIT;
    INSERT INTO orders (id, note) VALUES (91, 'dropped');
    ROLLBACK;
    INSERT INTO orders (id, note) VALUES (92, 'kept');
END $$;
CALL in_parts();
SELECT * FROM look();
SELECT count(DISTINCT _stamp) FROM orders WHERE id IN (90, 92);

--
-- One stamp for a transaction, drawn at its first write
--
BEGIN;
SELECT datacake.clock() AS before \gset
INSERT INTO orders (id, note) VALUES (5000, 'a'), (5001, 'b');
SELECT datacake.clock() AS after \gset
UPDATE orders SET note = 'c' WHERE id = 1;
SAVEPOINT s;
INSERT INTO items VALUES (5000, 1);
UPDATE orders SET id = 5002 WHERE id = 5001;
COMMIT;
SELECT count(*) AS rows, count(DISTINCT s) AS stamps, bool_and(s = datacake.last_commit_stamp()) AS last_commit,
       bool_and(s > :'before'::datacake.hlc AND s < :'after'::datacake.hlc) AS drawn_at_first_write,
       bool_and(datacake.node_of(s) = current_setting('datacake.node_id')::int) AS mine
  FROM (SELECT _stamp FROM orders WHERE id IN (1, 5000, 5002)
        UNION ALL SELECT _stamp FROM items WHERE order_id = 5000
        UNION ALL SELECT stamp FROM datacake.tombstone WHERE key = int4send(5001)) x(s);
SELECT * FROM look();
-- the next transaction's is greater; reading draws none
SELECT datacake.last_commit_stamp() AS last \gset
SELECT count(*) > 0 AS some FROM orders;
SELECT datacake.last_commit_stamp() = :'last'::datacake.hlc AS same;
UPDATE orders SET note = 'd' WHERE id = 5000;
SELECT datacake.last_commit_stamp() > :'last'::datacake.hlc AS greater, _stamp = datacake.last_commit_stamp() AS rows
  FROM orders WHERE id = 5000;
-- a rollback is no commit
SELECT datacake.last_commit_stamp() AS last \gset
BEGIN;
UPDATE orders SET note = 'never' WHERE id = 5000;
ROLLBACK;
SELECT datacake.last_commit_stamp() = :'last'::datacake.hlc AS same;
-- RETURNING shows the stamp that the row got
BEGIN;
INSERT INTO orders (id, note) VALUES (203, 'x') RETURNING _stamp AS returned \gset
COMMIT;
SELECT _stamp = :'returned'::datacake.hlc AS same FROM orders WHERE id = 203;
SELECT * FROM look();

--
-- Stamps cannot be forged
--
-- written by hand: overwritten
INSERT INTO orders (id, note, _stamp) VALUES (210, 'forged', '5');
UPDATE orders SET _stamp = '9223372036854775807' WHERE id = 203;
COPY orders (id, note, _stamp) FROM stdin;
211	forged	5
\.
SELECT count(*), bool_and(_stamp > :'last'::datacake.hlc AND _stamp < datacake.clock()) AS real FROM orders WHERE id IN (203, 210, 211);
SELECT * FROM look();
-- written by a trigger that comes after ours: refused
CREATE FUNCTION forge() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW._stamp := TG_ARGV[0];
    RETURN NEW;
END $$;
CREATE TRIGGER "~~forge" BEFORE INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION forge('9223372036854775807');
INSERT INTO orders (id, note) VALUES (212, 'forged');
UPDATE orders SET note = 'forged' WHERE id = 1;
DROP TRIGGER "~~forge" ON orders;
-- also a stamp that this node did draw, but not for this transaction
CREATE FUNCTION forge_old() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW._stamp := OLD._stamp;
    RETURN NEW;
END $$;
CREATE TRIGGER "~~forge" BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION forge_old();
UPDATE orders SET note = 'forged' WHERE id = 1;
DROP TRIGGER "~~forge" ON orders;
CREATE FUNCTION forge_null() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW._stamp := NULL;
    RETURN NEW;
END $$;
CREATE TRIGGER "~~forge" BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION forge_null();
\set VERBOSITY sqlstate
INSERT INTO orders (id, note) VALUES (212, 'forged');
\set VERBOSITY default
DROP TRIGGER "~~forge" ON orders;
SELECT * FROM look();
-- our trigger functions elsewhere
CREATE TRIGGER stray BEFORE INSERT ON plain FOR EACH ROW EXECUTE FUNCTION datacake.stamp_row();
INSERT INTO plain VALUES (999, 'stray');
DROP TRIGGER stray ON plain;
CREATE TRIGGER stray AFTER INSERT ON plain FOR EACH STATEMENT EXECUTE FUNCTION datacake.stamp_row();
INSERT INTO plain VALUES (999, 'stray');
DROP TRIGGER stray ON plain;
CREATE TRIGGER stray AFTER INSERT ON plain FOR EACH ROW EXECUTE FUNCTION datacake.stamp_row();
INSERT INTO plain VALUES (999, 'stray');
DROP TRIGGER stray ON plain;
SELECT datacake.stamp_row();

--
-- Refused
--
TRUNCATE datacake.keyspace;
BEGIN;
INSERT INTO orders (id, note) VALUES (220, 'prepared');
PREPARE TRANSACTION 'never';
ROLLBACK PREPARED 'never';
BEGIN;
INSERT INTO looked VALUES ('plain', 0);
PREPARE TRANSACTION 'without replicated writes';
ROLLBACK PREPARED 'without replicated writes';
-- no key
\set VERBOSITY sqlstate
INSERT INTO orders (id, note) VALUES (NULL, 'no key');
UPDATE orders SET id = NULL WHERE id = 1;
\set VERBOSITY default
SELECT * FROM look();

-- keys of up to 2000 bytes
CREATE TABLE notes (title text PRIMARY KEY, body text);
ALTER TABLE notes ALTER title SET STORAGE EXTERNAL;
SELECT datacake.replicate_table('notes');
SELECT string_agg(md5(n::text), '') AS long FROM generate_series(1, 70) n \gset
INSERT INTO notes VALUES (left(:'long', 1900), 'long'), ('', 'empty'), (left(:'long', 17), 'short');
UPDATE notes SET body = 'changed';
UPDATE notes SET title = reverse(title) WHERE body = 'changed' AND title <> '';
DELETE FROM notes WHERE length(title) = 17;
SELECT * FROM look();
INSERT INTO notes VALUES (left(:'long', 2100), 'too long');
INSERT INTO notes VALUES (repeat('x', 2001), 'too long, although the index would take it');
UPDATE notes SET title = left(:'long', 2100) WHERE title = '';
SELECT * FROM look();
-- such a row cannot be adopted either
SELECT datacake.unreplicate_table('notes');
INSERT INTO notes VALUES (left(:'long', 2100), 'too long');
SELECT datacake.replicate_table('notes');
DELETE FROM notes WHERE length(title) > 2000;
SELECT datacake.replicate_table('notes');
SELECT relation, live FROM datacake.keyspaces WHERE relation = 'notes'::regclass;
SELECT datacake.unreplicate_table('notes');
DROP TABLE notes;

--
-- Large values, many bytes: images beyond datacake.capture_memory are dropped
-- and the transaction goes by key; what is captured is the same
--
SET datacake.capture_memory = '64kB';
INSERT INTO orders (id, note) SELECT n, repeat('x', 1000) FROM generate_series(1001, 2000) n;
SELECT * FROM look();
UPDATE orders SET qty = 2 WHERE id BETWEEN 1001 AND 2000;
DELETE FROM orders WHERE id BETWEEN 1001 AND 2000;
SELECT * FROM look();
RESET datacake.capture_memory;

--
-- Replica sessions are captured as well: nothing sneaks in
--
SET session_replication_role = replica;
INSERT INTO orders (id, note) VALUES (300, 'from a replica session');
DELETE FROM orders WHERE id = 5002;
RESET session_replication_role;
SELECT * FROM look();

--
-- datacake.capture = off keeps writes on this node; superusers only
--
CREATE ROLE regress_user;
GRANT ALL ON orders TO regress_user;
SET ROLE regress_user;
SET datacake.capture = off;
INSERT INTO orders (id, note) VALUES (301, 'of an ordinary user');
RESET ROLE;
SELECT * FROM look();
SELECT datacake.last_commit_stamp() AS last \gset
SELECT _stamp AS stamp_before FROM orders WHERE id = 301 \gset
SET datacake.capture = off;
INSERT INTO orders (id, note) VALUES (302, 'local');
UPDATE orders SET note = 'local' WHERE id = 301;
DELETE FROM orders WHERE id = 300;
RESET datacake.capture;
SELECT id, note FROM orders WHERE id BETWEEN 300 AND 302 ORDER BY id;
SELECT captured - (SELECT l.captured FROM looked l WHERE l.relation = k.relation) AS captured, live, dead
  FROM datacake.keyspaces k WHERE relation = 'orders'::regclass;
SELECT datacake.last_commit_stamp() = :'last'::datacake.hlc AS not_a_commit_of_ours;
-- the row keeps the stamp of its last replicated version
SELECT _stamp = :'stamp_before'::datacake.hlc AS kept FROM orders WHERE id = 301;
-- written again with capture on, they are replicated
UPDATE orders SET note = 'everywhere' WHERE id IN (301, 302);
INSERT INTO orders (id, note) VALUES (300, 'everywhere');
SELECT * FROM look();

SELECT datacake.unreplicate_table('items');
SELECT datacake.unreplicate_table('orders');
DROP TABLE orders, items, plain, looked CASCADE;
DROP FUNCTION look, book, tweak, forge, forge_old, forge_null;
DROP PROCEDURE in_parts;
DROP ROLE regress_user;
