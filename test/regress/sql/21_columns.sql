--
-- What columns and keys can be.
--
SET client_min_messages = warning;
\set SHOW_CONTEXT never

-- key columns whose values mean something else elsewhere
CREATE TABLE k1 (id regclass PRIMARY KEY);
CREATE DOMAIN a_role AS regrole;
CREATE TABLE k2 (id a_role, n int, PRIMARY KEY (n, id));
SELECT datacake.replicate_table('k1');
SELECT datacake.replicate_table('k2');
DROP TABLE k1, k2;
CREATE TABLE k3 (id oid PRIMARY KEY); -- just a number
SELECT datacake.replicate_table('k3');
INSERT INTO k3 VALUES (7);
SELECT datacake.unreplicate_table('k3');
DROP TABLE k3;

-- an enum in a key: its labels stay
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE DOMAIN temper AS mood;
CREATE TABLE e1 (id temper PRIMARY KEY, m mood);
SELECT datacake.replicate_table('e1');
INSERT INTO e1 VALUES ('ok', 'sad');
ALTER TYPE mood RENAME VALUE 'ok' TO 'fine';
ALTER TYPE mood ADD VALUE 'happy' AFTER 'sad';
UPDATE e1 SET id = 'happy';
ALTER TYPE nothing RENAME VALUE 'a' TO 'b';
SELECT id, m FROM e1;
SELECT datacake.unreplicate_table('e1');
ALTER TYPE mood RENAME VALUE 'ok' TO 'fine';
-- elsewhere than in a key they may be renamed
CREATE TABLE e2 (id int PRIMARY KEY, m mood, ms mood[]);
SELECT datacake.replicate_table('e2');
INSERT INTO e2 VALUES (1, 'fine', '{fine,sad}');
ALTER TYPE mood RENAME VALUE 'fine' TO 'well';
UPDATE e2 SET ms = ms || m;
SELECT id, m, ms FROM e2;
DROP TABLE e1, e2;

-- settings of the session do not matter to what is captured, and are what
-- they were afterwards
CREATE TYPE price AS (amount money, at timestamptz);
CREATE TABLE p1 (id int PRIMARY KEY, p price, ps price[]);
SELECT datacake.replicate_table('p1');
SET DateStyle = 'German';
SET TimeZone = 'Asia/Tokyo';
SET search_path = public, pg_catalog;
INSERT INTO p1 VALUES (1, ('1.5', '2024-01-01 00:00+00'), ARRAY[('2', 'infinity')]::price[]);
SELECT id, p, ps FROM p1;
SELECT current_setting('DateStyle'), current_setting('TimeZone'), current_setting('search_path');
BEGIN;
SET LOCAL DateStyle = 'SQL';
UPDATE p1 SET id = id;
SAVEPOINT s;
SET LOCAL TimeZone = 'UTC';
UPDATE p1 SET id = id / 0;
ROLLBACK TO s;
UPDATE p1 SET id = 2;
SELECT current_setting('DateStyle'), current_setting('TimeZone');
COMMIT;
SELECT current_setting('DateStyle'), current_setting('TimeZone');
RESET DateStyle;
RESET TimeZone;
RESET search_path;
SELECT id, p FROM p1;
-- a composite type that changes while rows are captured
BEGIN;
UPDATE p1 SET id = 3;
ALTER TYPE price ADD ATTRIBUTE note text;
UPDATE p1 SET p.note = 'new';
COMMIT;
SELECT id, p FROM p1;
DROP TABLE p1;
DROP TYPE price;
DROP DOMAIN temper, a_role;
DROP TYPE mood;
