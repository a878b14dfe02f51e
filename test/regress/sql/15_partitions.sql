--
-- A partitioned table is one keyspace: its rows, wherever they are stored.
--
SET client_min_messages = warning;
\set SHOW_CONTEXT never

CREATE TABLE logs (at date, id int, note text, PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
CREATE TABLE logs_2025 PARTITION OF logs FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
-- two levels, and other columns at other places
CREATE TABLE logs_2026 (junk int, note text, id int NOT NULL, at date NOT NULL, PRIMARY KEY (at, id)) PARTITION BY LIST (id);
ALTER TABLE logs_2026 DROP COLUMN junk;
CREATE TABLE logs_2026_few PARTITION OF logs_2026 FOR VALUES IN (1, 2, 3);
CREATE TABLE logs_2026_more PARTITION OF logs_2026 DEFAULT;
ALTER TABLE logs ATTACH PARTITION logs_2026 FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO logs VALUES ('2025-05-05', 1, 'old'), ('2026-05-05', 1, 'old'), ('2026-05-05', 9, 'old');

SELECT datacake.replicate_table('logs_2026');
SELECT datacake.replicate_table('logs');
SELECT relation, live, captured FROM datacake.keyspaces;
SELECT jsonb_pretty(partitions) FROM datacake.keyspace;
SELECT tgrelid::regclass, tgname, tgenabled FROM pg_trigger WHERE tgname ~ 'datacake' AND tgrelid <> 'datacake.keyspace'::regclass ORDER BY 1, 2;

-- through the root and through a partition
INSERT INTO logs VALUES ('2026-06-06', 2, 'root');
INSERT INTO logs_2025 VALUES ('2025-06-06', 2, 'leaf');
UPDATE logs_2026 SET note = 'changed' WHERE id = 9;
DELETE FROM logs WHERE note = 'old' AND at < '2026-01-01';
SELECT live, captured FROM datacake.keyspaces;
-- a row that moves changes its key: a death and a birth
UPDATE logs SET at = '2026-06-16' WHERE at = '2025-06-06' RETURNING tableoid::regclass;
UPDATE logs SET id = 8 WHERE at = '2026-06-06' RETURNING tableoid::regclass, id;
SELECT live, captured FROM datacake.keyspaces;
SELECT tableoid::regclass, at, id, note FROM logs ORDER BY at, id;
-- a row without a partition
INSERT INTO logs VALUES ('2027-01-01', 1, 'nowhere');

-- one partition is truncated: its rows die; then all of them: one floor
TRUNCATE logs_2026_few;
SELECT live FROM datacake.keyspaces;
BEGIN;
INSERT INTO logs VALUES ('2025-07-07', 7, 'gone');
TRUNCATE logs;
INSERT INTO logs VALUES ('2025-07-08', 7, 'gone as well');
TRUNCATE logs_2025;
INSERT INTO logs VALUES ('2025-07-09', 7, 'stays');
COMMIT;
SELECT tableoid::regclass, at, id, note FROM logs ORDER BY at, id;
-- what was truncated leaves the metadata a little later
DO $$
BEGIN
    FOR i IN 1..1200 LOOP
        EXIT WHEN (SELECT live = 1 FROM datacake.keyspaces);
        PERFORM pg_sleep(0.05);
    END LOOP;
END $$;
SELECT live FROM datacake.keyspaces;
SELECT count(*) FROM datacake.floor f JOIN datacake.keyspaces k ON k.id = f.keyspace;

-- ATTACH is a write of the rows, DETACH their deletion here
CREATE TABLE logs_2024 (id int NOT NULL, at date NOT NULL, note text, PRIMARY KEY (at, id));
INSERT INTO logs_2024 SELECT g, '2024-04-04', 'attached' FROM generate_series(1, 3) g;
SELECT captured AS before FROM datacake.keyspaces \gset
ALTER TABLE logs ATTACH PARTITION logs_2024 FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
SELECT live, captured - :before AS captured FROM datacake.keyspaces;
SELECT count(*), count(*) FILTER (WHERE datacake.node_of(_stamp) = 1) AS stamped_here FROM logs_2024;
ALTER TABLE logs DETACH PARTITION logs_2024;
SELECT live, captured - :before AS captured FROM datacake.keyspaces;
\d logs_2024
INSERT INTO logs_2024 VALUES (4, '2024-04-04', 'an ordinary table');
SELECT count(*) FROM logs_2024;
ALTER TABLE logs DETACH PARTITION logs_2025 CONCURRENTLY;
-- what is rolled back has not happened
BEGIN;
ALTER TABLE logs DETACH PARTITION logs_2025;
ROLLBACK;
SELECT live FROM datacake.keyspaces;
INSERT INTO logs_2025 VALUES ('2025-08-08', 1, 'still replicated');
SELECT live FROM datacake.keyspaces;

-- a partition that is created later, and dropped with its rows
CREATE TABLE logs_2023 PARTITION OF logs FOR VALUES FROM ('2023-01-01') TO ('2024-01-01');
INSERT INTO logs VALUES ('2023-03-03', 1, 'dropped');
TRUNCATE logs_2023;
INSERT INTO logs VALUES ('2023-03-03', 2, 'dropped');
SELECT live FROM datacake.keyspaces;
-- the definition follows
SELECT p->>'name' AS partition FROM datacake.keyspace, jsonb_array_elements(partitions->'parts') p ORDER BY 1;
DROP TABLE logs_2023;
SELECT live FROM datacake.keyspaces;
SELECT p->>'name' AS partition FROM datacake.keyspace, jsonb_array_elements(partitions->'parts') p ORDER BY 1;

-- only the owner
CREATE ROLE somebody;
GRANT ALL ON logs, logs_2025 TO somebody;
SET ROLE somebody;
ALTER TABLE logs DETACH PARTITION logs_2025;
DROP TABLE logs_2025;
RESET ROLE;
SELECT live FROM datacake.keyspaces;
DROP OWNED BY somebody;
DROP ROLE somebody;

-- tables do not inherit from a replicated one
CREATE TABLE alone (id int PRIMARY KEY);
SELECT datacake.replicate_table('alone');
CREATE TABLE heir () INHERITS (alone);
CREATE TABLE other (id int NOT NULL);
ALTER TABLE other INHERIT alone;
ALTER TABLE logs ATTACH PARTITION alone FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
SELECT datacake.unreplicate_table('alone');
-- but one that inherits can be replicated by itself
CREATE TABLE heir () INHERITS (alone);
ALTER TABLE heir ADD PRIMARY KEY (id);
SELECT datacake.replicate_table('heir');
INSERT INTO heir VALUES (1);
UPDATE alone SET id = 2;
SELECT live FROM datacake.keyspaces WHERE relation = 'heir'::regclass;
SELECT datacake.unreplicate_table('heir');
DROP TABLE heir, other, alone;

-- and back
SELECT datacake.unreplicate_table('logs_2025');
SELECT datacake.unreplicate_table('logs');
SELECT count(*) FROM datacake.keyspaces;
\d logs
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgname ~ 'datacake' AND tgrelid <> 'datacake.keyspace'::regclass;
SELECT tableoid::regclass, * FROM logs ORDER BY at, id;
DROP TABLE logs, logs_2024;
