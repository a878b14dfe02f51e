--
-- TRUNCATE is captured as one stamp: everything at or below it is dead.
--
SET client_min_messages = warning;
\set SHOW_CONTEXT never

CREATE TABLE a (id int PRIMARY KEY, note text, n serial);
CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a);
SELECT datacake.replicate_table('a');
SELECT datacake.replicate_table('b');
INSERT INTO a VALUES (1, 'one'), (2, 'two'), (3, 'three');
INSERT INTO b VALUES (1, 1), (2, 2);

-- the entries leave the map soon after; entries and rows, and what is written down
CREATE FUNCTION look(OUT relation regclass, OUT live bigint, OUT dead bigint, OUT floors bigint, OUT tombstones bigint,
    OUT live_is_rows boolean, OUT rows_above boolean)
RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE k record; rows bigint; floor bigint;
BEGIN
    FOR i IN 1 .. 1000 LOOP
        EXIT WHEN NOT EXISTS (SELECT FROM datacake.keyspaces s, LATERAL (SELECT count(*) AS n FROM (
                SELECT id FROM a WHERE s.relation = 'a'::regclass UNION ALL SELECT id FROM b WHERE s.relation = 'b'::regclass) x) r
            WHERE s.live <> r.n OR EXISTS (SELECT FROM datacake.floor f JOIN datacake.tombstone t USING (keyspace)
                                            WHERE f.keyspace = s.id AND t.stamp::bigint <= f.stamp::bigint)
               OR (SELECT count(*) FROM datacake.floor f WHERE f.keyspace = s.id) > 1);
        PERFORM pg_sleep(0.01);
    END LOOP;
    FOR k IN SELECT * FROM datacake.keyspaces s WHERE s.relation IN ('a'::regclass, 'b'::regclass) ORDER BY s.relation::text LOOP
        relation := k.relation;
        live := k.live;
        dead := k.dead;
        SELECT count(*), coalesce(max(f.stamp::bigint), 0) INTO floors, floor FROM datacake.floor f WHERE f.keyspace = k.id;
        SELECT count(*) INTO tombstones FROM datacake.tombstone t WHERE t.keyspace = k.id;
        EXECUTE format('SELECT count(*), coalesce(bool_and(_stamp::bigint > %s), true) FROM %s', floor, k.relation) INTO rows, rows_above;
        live_is_rows := rows = live;
        RETURN NEXT;
    END LOOP;
END $$;
SELECT * FROM look();

-- one statement, several tables, a key that died before
DELETE FROM b WHERE id = 2;
SELECT * FROM look();
TRUNCATE b;
SELECT * FROM look();
TRUNCATE a, b;
SELECT * FROM look();
-- later rows stay, dead keys included
INSERT INTO a VALUES (1, 'again'), (4, 'four');
INSERT INTO b VALUES (1, 1);
SELECT * FROM look();
-- foreign keys are followed as ever
TRUNCATE a;
TRUNCATE a RESTART IDENTITY CASCADE;
SELECT * FROM look();
INSERT INTO a VALUES (1, 'sequence') RETURNING n;

-- rolled back
BEGIN;
TRUNCATE a CASCADE;
INSERT INTO a VALUES (2, 'rolled back');
ROLLBACK;
SELECT id, note FROM a;
SELECT * FROM look();

-- before and after in one transaction: what was written before is not captured
CREATE TABLE captured AS SELECT relation, captured FROM datacake.keyspaces;
BEGIN;
INSERT INTO a VALUES (10, 'before'), (11, 'before');
UPDATE a SET note = 'before' WHERE id = 1;
TRUNCATE a CASCADE;
INSERT INTO a VALUES (10, 'after'), (12, 'after');
COMMIT;
SELECT id, note FROM a ORDER BY id;
SELECT * FROM look();
SELECT k.captured - c.captured AS captured FROM datacake.keyspaces k JOIN captured c USING (relation) WHERE relation = 'a'::regclass;
-- all rows of the transaction that are left lie above its floor, and have one stamp
SELECT count(DISTINCT _stamp) FROM a;

-- twice
BEGIN;
TRUNCATE a CASCADE;
INSERT INTO a VALUES (10, 'between'), (13, 'between');
TRUNCATE a CASCADE;
INSERT INTO a VALUES (10, 'after both');
COMMIT;
SELECT id, note FROM a ORDER BY id;
SELECT * FROM look();

-- a savepoint that is rolled back brings back what was written before
BEGIN;
INSERT INTO a VALUES (20, 'before');
UPDATE a SET note = 'before' WHERE id = 10;
SAVEPOINT s;
TRUNCATE a CASCADE;
INSERT INTO a VALUES (21, 'after');
ROLLBACK TO s;
INSERT INTO a VALUES (22, 'after the rollback');
COMMIT;
SELECT id, note FROM a ORDER BY id;
SELECT * FROM look();
-- one that is released does not
BEGIN;
INSERT INTO a VALUES (30, 'before');
SAVEPOINT s;
TRUNCATE a CASCADE;
RELEASE s;
INSERT INTO a VALUES (31, 'after');
COMMIT;
SELECT id, note FROM a ORDER BY id;
SELECT * FROM look();

-- images that do not fit: the floor is there all the same
SET datacake.capture_memory = '64kB';
BEGIN;
INSERT INTO a SELECT g, repeat('x', 1000) FROM generate_series(100, 300) g;
TRUNCATE a CASCADE;
INSERT INTO a SELECT g, repeat('x', 1000) FROM generate_series(200, 400) g;
COMMIT;
RESET datacake.capture_memory;
SELECT * FROM look();

-- a function that truncates, and a session as replica
CREATE FUNCTION clear_all() RETURNS void LANGUAGE sql AS $$ TRUNCATE a, b $$;
SELECT clear_all();
SELECT * FROM look();
INSERT INTO a VALUES (1, 'one');
SET session_replication_role = replica;
TRUNCATE a CASCADE;
RESET session_replication_role;
SELECT * FROM look();

-- with datacake.capture off it stays on this node: the entry says that a row is missing
INSERT INTO a VALUES (1, 'one');
SET datacake.capture = off;
TRUNCATE a CASCADE;
RESET datacake.capture;
SELECT live, (SELECT count(*) FROM a) AS rows FROM datacake.keyspaces WHERE relation = 'a'::regclass;
TRUNCATE a CASCADE;
SELECT * FROM look();

-- not for the definitions, and not by hand
TRUNCATE datacake.keyspace;
CREATE TABLE plain (id int PRIMARY KEY);
CREATE TRIGGER stray BEFORE TRUNCATE ON plain FOR EACH STATEMENT EXECUTE FUNCTION datacake.capture_truncate();
TRUNCATE plain;
DROP TRIGGER stray ON plain;
CREATE TRIGGER stray BEFORE INSERT ON plain FOR EACH STATEMENT EXECUTE FUNCTION datacake.capture_truncate();
INSERT INTO plain VALUES (1);
DROP TABLE plain;
BEGIN;
TRUNCATE b;
PREPARE TRANSACTION 'never';
ROLLBACK PREPARED 'never';

-- an ordinary table forgets it
SELECT datacake.unreplicate_table('b');
SELECT datacake.unreplicate_table('a');
SELECT count(*) FROM datacake.floor;
SELECT count(*) FROM datacake.tombstone WHERE keyspace <> 1;
TRUNCATE a, b;
DROP TABLE a, b, captured;
DROP FUNCTION look, clear_all;
