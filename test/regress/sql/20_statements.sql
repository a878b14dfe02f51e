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
