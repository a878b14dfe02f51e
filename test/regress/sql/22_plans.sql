--
-- Plans put the stamp into rows by themselves, where our trigger is the only
-- one BEFORE ROW: then no row is locked before it is written.
--
SET client_min_messages = warning;
\set SHOW_CONTEXT never
CREATE EXTENSION pg_walinspect;
CREATE TABLE t (id int PRIMARY KEY, v text, n int DEFAULT 0);
INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, 'three'), (4, 'four');

-- how many locks of rows a transaction has logged
CREATE FUNCTION locks(xid xid8, since pg_lsn) RETURNS bigint LANGUAGE sql AS $$
SELECT count(*) FROM pg_get_wal_records_info(since, pg_current_wal_flush_lsn())
 WHERE resource_manager = 'Heap' AND record_type = 'LOCK' AND xid = $1::xid
$$;
-- what the last change noted of a row: is the stamp its transaction's?
CREATE FUNCTION stamps() RETURNS TABLE (id int, v text, n int, ours boolean) LANGUAGE sql AS $$
SELECT id, v, n, to_jsonb(t)->>'_stamp' = datacake.last_commit_stamp()::text FROM t ORDER BY id
$$;

PREPARE change(int) AS UPDATE t SET v = v || '+' WHERE id = $1;
EXECUTE change(1); -- planned before the table is a keyspace
SELECT datacake.replicate_table('t');
EXPLAIN (VERBOSE, COSTS OFF) INSERT INTO t VALUES (9, 'nine');
EXPLAIN (VERBOSE, COSTS OFF) UPDATE t SET v = 'x' WHERE n = 1;
EXPLAIN (VERBOSE, COSTS OFF) DELETE FROM t WHERE n = 1;
EXPLAIN (VERBOSE, COSTS OFF) UPDATE t SET id = 8 WHERE n = 1;
EXECUTE change(1);
SELECT * FROM stamps();

-- no lock, whatever the statement looks like
BEGIN;
SELECT pg_current_xact_id() AS xid, pg_current_wal_insert_lsn() AS since \gset
UPDATE t SET n = n + 1 WHERE id < 3;
WITH gone AS (DELETE FROM t WHERE id = 4 RETURNING v),
     more AS (UPDATE t SET n = 7 WHERE id = 3 RETURNING n)
INSERT INTO t SELECT 5, v, n FROM gone, more;
UPDATE t SET v = s.v FROM (SELECT id, upper(v) AS v FROM t ORDER BY v LIMIT 2) s WHERE s.id = t.id;
EXECUTE change(2);
DELETE FROM t WHERE id = 1;
COMMIT;
SELECT locks(:'xid', :'since');
SELECT * FROM stamps();
SELECT live, dead, captured, live = (SELECT count(*) FROM t) AS live_is_rows FROM datacake.keyspaces WHERE relation = 't'::regclass;

-- a key that is updated is asked about deaths, which takes the trigger
BEGIN;
SELECT pg_current_xact_id() AS xid, pg_current_wal_insert_lsn() AS since \gset
UPDATE t SET id = 10 WHERE id = 2;
COMMIT;
SELECT locks(:'xid', :'since');
SELECT * FROM stamps() WHERE id = 10;

-- stamps by hand are written over
UPDATE t SET _stamp = '7', n = 2 WHERE id = 10;
INSERT INTO t (_stamp, id) VALUES ('7', 11);
INSERT INTO t (id, _stamp) SELECT id + 10, _stamp FROM t WHERE id = 10;
SELECT * FROM stamps() WHERE id >= 10;
INSERT INTO t (id, v) VALUES (11, 'again') ON CONFLICT (id) DO UPDATE SET v = excluded.v;
MERGE INTO t USING (VALUES (11), (12)) AS s(id) ON t.id = s.id
  WHEN MATCHED THEN UPDATE SET n = 3 WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id);
SELECT * FROM stamps() WHERE id >= 11;

-- another trigger BEFORE ROW sees rows as the user wrote them
CREATE TRIGGER z_min BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
EXPLAIN (VERBOSE, COSTS OFF) UPDATE t SET v = 'x' WHERE n = 1;
\set QUIET off
UPDATE t SET n = n WHERE id = 12;
UPDATE t SET n = 1 WHERE id = 12;
EXECUTE change(12);
\set QUIET on
DROP TRIGGER z_min ON t;
UPDATE t SET n = n WHERE id = 12;
SELECT * FROM stamps() WHERE id = 12;

-- one AFTER ROW, whose writes come before we note the row
CREATE FUNCTION once_more() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE t SET n = 100 WHERE id = new.id AND n < 100;
    DELETE FROM t WHERE id = 3;
    RETURN NULL;
END $$;
CREATE TRIGGER z_more AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION once_more();
UPDATE t SET v = 'more' WHERE id = 12;
DROP TRIGGER z_more ON t;
SELECT * FROM stamps();

-- views, cursors, COPY
CREATE VIEW w AS SELECT id, v FROM t WHERE id > 9;
UPDATE w SET v = 'by a view' WHERE id = 10;
INSERT INTO w VALUES (13, 'by a view');
DELETE FROM w WHERE id = 12;
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM t WHERE id = 10 FOR UPDATE;
FETCH c;
UPDATE t SET v = 'by a cursor' WHERE CURRENT OF c;
COMMIT;
SELECT * FROM stamps() WHERE id >= 10;
COPY t (id, v) FROM stdin;
14	by COPY
\.
SELECT * FROM stamps() WHERE id >= 14;

-- the right to write is enough, also for plans that others have made
PREPARE clear AS DELETE FROM t WHERE id = 15;
EXECUTE clear;
REVOKE ALL ON FUNCTION datacake.stamp_new, datacake.stamp_over FROM PUBLIC;
CREATE ROLE regress_writer;
GRANT ALL ON t TO regress_writer;
SET ROLE regress_writer;
INSERT INTO t VALUES (15, 'by a writer');
UPDATE t SET v = v || '!' WHERE id = 15;
EXECUTE clear;
INSERT INTO t VALUES (15, 'by a writer!');
RESET ROLE;
SELECT * FROM stamps() WHERE id = 15;
DELETE FROM t WHERE id = 15;
DROP OWNED BY regress_writer;
DROP ROLE regress_writer;
GRANT EXECUTE ON FUNCTION datacake.stamp_new, datacake.stamp_over TO PUBLIC;

-- only plans call the functions
SELECT datacake.stamp_over('7', '7', NULL::internal);
SELECT datacake.stamp_new('t', '7', (SELECT NULL::internal));

-- capture off: stamps stay, and who has none gets one
SET datacake.capture = off;
SELECT _stamp::bigint AS kept FROM t WHERE id = 10 \gset
UPDATE t SET v = 'quietly' WHERE id = 10;
SELECT _stamp::bigint = :kept AS kept FROM t WHERE id = 10;
UPDATE t SET _stamp = '7' WHERE id = 10;
INSERT INTO t (id, _stamp) VALUES (15, '8'), (16, DEFAULT);
SELECT id, _stamp FROM t WHERE id IN (10, 15);
SELECT _stamp > datacake.last_commit_stamp() AS drawn FROM t WHERE id = 16;
-- a stamp that nobody has drawn
INSERT INTO t (id, _stamp) VALUES (17, '2100-01-01 00:00:00+00@1'), (18, '2100-01-01 00:00:00+00@1');
RESET datacake.capture;
BEGIN;
UPDATE t SET v = 'now' WHERE id = 17;
UPDATE t SET n = 17 WHERE id = 17;
COMMIT;
SELECT * FROM stamps() WHERE id = 17;
DELETE FROM t WHERE id = 18;

-- no keyspace any more
SELECT datacake.unreplicate_table('t');
EXECUTE change(13);
EXPLAIN (VERBOSE, COSTS OFF) UPDATE t SET v = 'x' WHERE n = 1;
DROP TABLE t CASCADE;
DROP FUNCTION locks, stamps, once_more;
DROP EXTENSION pg_walinspect;
