--
-- Metadata memory is limited.  Its end is an error before commit, and deletes
-- still work.  (The settings of these tests give it 4 MB.)
--
SET client_min_messages = warning;
\set SHOW_CONTEXT never
SHOW datacake.metadata_memory;

CREATE TABLE big (id bigint PRIMARY KEY, note text);
CREATE TABLE small (id bigint PRIMARY KEY, note text);
SELECT datacake.replicate_table('big');
SELECT datacake.replicate_table('small');
INSERT INTO small VALUES (1, 'before');
INSERT INTO big SELECT n, 'fits' FROM generate_series(1, 10000) n;

-- one transaction that needs more than there is: rolled back as a whole
DO $$
BEGIN
    INSERT INTO big SELECT n, 'too many' FROM generate_series(10001, 250000) n;
END $$;
\echo :SQLSTATE
SELECT count(*), max(id) FROM big;
SELECT relation, live, dead, captured FROM datacake.keyspaces ORDER BY relation::text;
-- and what it had reserved was given back: the next one has room
INSERT INTO big SELECT n, 'fits' FROM generate_series(10001, 60000) n;
SELECT relation, live, dead FROM datacake.keyspaces ORDER BY relation::text;

-- fill it in small steps, until one does not fit
CREATE PROCEDURE fill() LANGUAGE plpgsql AS $$
DECLARE
    n bigint := 60000;
BEGIN
    WHILE n < 300000 LOOP
        INSERT INTO big SELECT i, 'filled' FROM generate_series(n + 1, n + 500) i;
        COMMIT;
        n := n + 500;
    END LOOP;
END $$;
CALL fill();
\echo :SQLSTATE
SELECT count(*) BETWEEN 100000 AND 200000 AS near_the_limit, count(*) % 500 AS of_the_last_step FROM big;
SELECT k.live = (SELECT count(*) FROM big) AS entries_are_rows FROM datacake.keyspaces k WHERE relation = 'big'::regclass;
-- at most 32 bytes of shared memory for a row with a bigint key
SELECT bytes <= 32 * live AS small_entries FROM datacake.keyspaces WHERE relation = 'big'::regclass;

-- nothing more can be inserted, here or in another table
INSERT INTO big SELECT n, 'too many' FROM generate_series(1000001, 1010000) n;
INSERT INTO small SELECT n, 'too many' FROM generate_series(1000001, 1010000) n;
-- but rows can be updated and deleted
UPDATE small SET note = 'after' WHERE id = 1;
UPDATE big SET note = 'changed' WHERE id <= 50000;
DELETE FROM big WHERE id <= 1000;
SELECT count(*) FROM big WHERE id <= 1000;
SELECT note FROM small;
SELECT dead FROM datacake.keyspaces WHERE relation = 'big'::regclass;
SELECT k.live = (SELECT count(*) FROM big) AS entries_are_rows FROM datacake.keyspaces k WHERE relation = 'big'::regclass;
-- a dead key has its place: it may come back
INSERT INTO big VALUES (1, 'again');
SELECT dead FROM datacake.keyspaces WHERE relation = 'big'::regclass;
-- a table of that size cannot be adopted now
CREATE TABLE another (id bigint PRIMARY KEY, note text);
INSERT INTO another SELECT n FROM generate_series(1, 50000) n;
SELECT datacake.replicate_table('another');
SELECT count(*) FROM datacake.keyspaces;

-- a keyspace that goes gives its memory back
SELECT datacake.unreplicate_table('big');
SELECT datacake.replicate_table('another');
INSERT INTO small SELECT n, 'fits' FROM generate_series(1000001, 1010000) n;
SELECT relation, live, dead FROM datacake.keyspaces ORDER BY relation::text;

SELECT datacake.unreplicate_table('another');
SELECT datacake.unreplicate_table('small');
DROP TABLE big, small, another;
DROP PROCEDURE fill;
