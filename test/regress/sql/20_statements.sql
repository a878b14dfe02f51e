--
-- What PostgreSQL users do to a table keeps working when it is replicated.
--
SET client_min_messages = warning;
\set SHOW_CONTEXT never

CREATE TABLE s (id int PRIMARY KEY, v text DEFAULT 'none', twice int GENERATED ALWAYS AS (id * 2) STORED);
CREATE TABLE plain (id int PRIMARY KEY, v text DEFAULT 'none', twice int GENERATED ALWAYS AS (id * 2) STORED);
SELECT datacake.replicate_table('s');

--
-- COPY without a list of columns: the same files as for a plain table
--
COPY plain FROM stdin;
1	one
2	\N
\.
COPY s FROM stdin;
1	one
2	\N
\.
COPY plain TO stdout;
COPY s TO stdout;
COPY s FROM stdin (FORMAT csv, HEADER match, DELIMITER ';');
id;v
3;three
\.
COPY s TO stdout (FORMAT csv, HEADER, FORCE_QUOTE *);
SELECT id, v, twice, datacake.node_of(_stamp) AS node FROM s ORDER BY id;
-- a list that is there stays, and so does a query
COPY s (v, id) TO stdout;
COPY (SELECT * FROM s WHERE false) TO stdout (FORMAT csv, HEADER);
COPY (SELECT * FROM s) TO '/dev/null';
COPY s (id, _stamp) TO '/dev/null';
-- only replicated tables: others may call a column like that
CREATE TABLE other (id int, _stamp int);
COPY other FROM stdin;
1	2
\.
COPY other TO stdout;
-- files that do not fit, tables that do not exist, are told of as ever
COPY s FROM stdin;
4	four	2026-11-20 17:30:00+00@1
\.
COPY s FROM stdin;
4
\.
COPY nowhere FROM stdin;
\.
-- by those who may
CREATE ROLE regress_copier;
GRANT INSERT (id, v), SELECT (id, v) ON s TO regress_copier;
SET ROLE regress_copier;
COPY s FROM stdin;
4	by privileges on its columns
\.
COPY s TO stdout;
RESET ROLE;
REVOKE ALL ON s FROM regress_copier;
SET ROLE regress_copier;
COPY s FROM stdin;
\.
COPY s TO stdout;
RESET ROLE;
-- after an ALTER TABLE the stamp is no longer the last
ALTER TABLE s ADD COLUMN later text DEFAULT 'x';
COPY s FROM stdin;
5	five	new
\.
COPY s TO stdout;
ALTER TABLE s DROP COLUMN later;
-- in a function, again and again
CREATE PROCEDURE export() LANGUAGE plpgsql AS $$ BEGIN COPY s TO '/dev/null'; END $$;
CALL export();
CALL export();
DROP PROCEDURE export;
DROP TABLE plain, other;

--
-- INSERT and the column _stamp.  Whatever comes in for it is replaced.
--
CREATE TABLE s2 (id int PRIMARY KEY, v text);
SELECT datacake.replicate_table('s2');
INSERT INTO s2 VALUES (1, 'positional'), (2, 'the same');
INSERT INTO s2 VALUES (3, 'of a dump', '2026-11-20 17:30:00.123456+00@3');
INSERT INTO s2 SELECT id + 10, v, _stamp FROM s2;
INSERT INTO s2 SELECT * FROM s2 ON CONFLICT (id) DO UPDATE SET (id, v, _stamp) = (excluded.id, excluded.v || '!', excluded._stamp);
UPDATE s2 SET _stamp = '5', v = v || '?' WHERE id = 1;
UPDATE s2 SET (id, v, _stamp) = (SELECT x.id, x.v, x._stamp FROM s2 x WHERE x.id = 2) WHERE id = 2;
SELECT id, v, datacake.node_of(_stamp) AS node, _stamp < datacake.clock() AND _stamp > '2026-11-20 17:30:00.123456+00@3'::datacake.hlc AS drawn_here FROM s2 ORDER BY id;
-- the stamp in the middle: values that would go astray are refused
ALTER TABLE s2 ADD COLUMN price text, ADD COLUMN twice int GENERATED ALWAYS AS (id * 2) STORED;
INSERT INTO s2 VALUES (4, 'new');
INSERT INTO s2 VALUES (5, 'new', 7);
INSERT INTO s2 VALUES (5, 'new', 'x');
INSERT INTO s2 VALUES (5, 'new', '7');
INSERT INTO s2 VALUES (5, 'new', '7'), (6, 'new', '8');
INSERT INTO s2 SELECT 5, 'new', '7';
PREPARE p AS INSERT INTO s2 VALUES ($1, $2, $3);
WITH w AS (INSERT INTO s2 VALUES (5, 'new', '7')) SELECT;
MERGE INTO s2 USING (VALUES (5)) v(id) ON s2.id = v.id WHEN NOT MATCHED THEN INSERT VALUES (5, 'new', '7');
DO $$ BEGIN INSERT INTO s2 VALUES (5, 'new', '7'); END $$;
-- with a list all is well, and so is what brings a stamp on purpose
INSERT INTO s2 (id, v, price) VALUES (5, 'new', '7');
INSERT INTO s2 VALUES (6, 'of a dump', '2026-11-20 17:30:00.123456+00@3', '8');
INSERT INTO s2 VALUES (7, 'default', DEFAULT, '9');
INSERT INTO s2 SELECT id + 20, v, _stamp FROM s2 WHERE id = 1;
SELECT id, v, price FROM s2 WHERE id IN (4, 5, 6, 7, 21) ORDER BY id;
-- other tables may have a column like that in the middle
CREATE TABLE other (id int, _stamp int, v text);
INSERT INTO other VALUES (1, 2);
DROP TABLE other;

-- a copy with stamps starts a life of its own when it is replicated
CREATE TABLE s3 AS SELECT id, v, _stamp FROM s2;
ALTER TABLE s3 ADD PRIMARY KEY (id);
UPDATE s3 SET _stamp = '2026-11-20 17:30:00.123456+00@3' WHERE id = 1;
SELECT datacake.clock() AS before \gset
SELECT datacake.replicate_table('s3');
SELECT count(*), bool_and(_stamp > :'before'::datacake.hlc) AS stamped_anew FROM s3;
SELECT attname, attnotnull FROM pg_attribute WHERE attrelid = 's3'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum;
DROP TABLE s, s2, s3;
DROP ROLE regress_copier;
