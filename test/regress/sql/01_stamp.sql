--
-- The extension, its type datacake.hlc, and the clock.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS datacake;
RESET client_min_messages;

-- only in the database that datacake.database names
SELECT current_setting('datacake.database') = current_database() AS here;

-- the node: five workers, and itself as the only member
SELECT name FROM datacake.workers ORDER BY name;
SELECT datacake.wait_for_nodes(1);
SELECT node_id, local, state, paused, complaint FROM datacake.nodes;
SELECT count(*) FROM datacake.peers;
SELECT datacake.verify();

--
-- A stamp is a time and a node
--
SELECT '2026-11-20 17:30:00.123456+00@3'::datacake.hlc AS stamp,
       '2026-11-20 17:30:00.123456+00@3'::datacake.hlc::bigint AS as_bigint,
       datacake.node_of('2026-11-20 17:30:00.123456+00@3') AS node;
-- whatever the session's time zone, it is written in UTC
SET timezone = 'UTC';
SET datestyle = 'ISO';
SELECT '2026-11-20 17:30:00.123456+00@3'::datacake.hlc::timestamptz AS as_time;
SET timezone = 'Asia/Tokyo';
SELECT '2026-11-20 17:30:00.123456+00@3'::datacake.hlc::timestamptz AS as_time,
       '2026-11-21 02:30:00.123456+09@3'::datacake.hlc AS stamp;
SET timezone = 'UTC';

-- 53 bits of microseconds, 10 bits of node
SELECT 868875264126418947::bigint::datacake.hlc AS stamp,
       868875264126418947 >> 10 AS microseconds,
       868875264126418947 & 1023 AS node;
SELECT '1'::datacake.hlc AS least, '9223372036854775807'::datacake.hlc AS greatest, '-'::datacake.hlc AS none;

-- text and binary form and back
SELECT bool_and(s::text::datacake.hlc = s) AS text_round_trip
  FROM (SELECT (n * 123456789012345)::datacake.hlc AS s FROM generate_series(0::bigint, 70000, 7) n) x
 WHERE datacake.node_of(s) > 0;
SELECT datacake.hlc_send('2026-11-20 17:30:00.123456+00@3');

-- ordered like a bigint: by time, then by node
SELECT s FROM (VALUES ('2026-11-20 17:30:00.000002+00@1'::datacake.hlc),
                      ('2026-11-20 17:30:00.000001+00@1023'),
                      ('2026-11-20 17:30:00.000001+00@2'),
                      ('2026-11-20 17:30:00.000001+00@2')) v(s) ORDER BY s;
SELECT a < b AS lt, a <= b AS le, a = b AS eq, a <> b AS ne, a >= b AS ge, a > b AS gt
  FROM (VALUES ('5'::datacake.hlc, '6'::datacake.hlc), ('6', '6'), ('7', '6')) v(a, b);
CREATE TEMP TABLE stamps (s datacake.hlc PRIMARY KEY);
INSERT INTO stamps SELECT n::bigint::datacake.hlc FROM generate_series(1, 1000) n;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
EXPLAIN (COSTS OFF) SELECT * FROM stamps WHERE s OPERATOR(datacake.>) '995' ORDER BY s;
SELECT count(*) FROM stamps WHERE s OPERATOR(datacake.>) '995';
-- its operators are in schema datacake; without it in the search_path a stamp
-- is compared as a bigint, which gives the same answer without the index
SELECT count(*) FROM stamps WHERE s > '995'::datacake.hlc;
RESET enable_seqscan;
RESET enable_bitmapscan;
-- hashes like a bigint, too
SELECT count(*) FROM (SELECT s FROM stamps UNION ALL SELECT s FROM stamps) u GROUP BY s HAVING count(*) <> 2;

-- what is no stamp
SELECT ''::datacake.hlc;
SELECT '-5'::datacake.hlc;
SELECT '5x'::datacake.hlc;
SELECT '9223372036854775808'::datacake.hlc;
SELECT '2026-11-20 17:30:00+00@'::datacake.hlc;
SELECT '2026-11-20 17:30:00+00@0'::datacake.hlc;
SELECT '2026-11-20 17:30:00+00@1024'::datacake.hlc;
SELECT '2026-11-20 17:30:00+00@3x'::datacake.hlc;
SELECT '1999-12-31 23:59:59+00@3'::datacake.hlc;
SELECT '2285-06-05 00:00:00+00@3'::datacake.hlc;
SELECT 'infinity@3'::datacake.hlc;
SELECT '-infinity@3'::datacake.hlc;
\set VERBOSITY sqlstate
SELECT 'some day@3'::datacake.hlc;
SELECT '@3'::datacake.hlc;
\set VERBOSITY default
SELECT (-5)::bigint::datacake.hlc;
-- no silent cast from a number of another width, no arithmetic that stays a stamp
SELECT 5::integer::datacake.hlc;
SELECT pg_typeof('5'::datacake.hlc + 1);

--
-- The clock
--
-- each stamp is greater than the one before, and names this node
SELECT count(*), bool_and(s > before IS NOT FALSE) AS rising,
       bool_and(datacake.node_of(s) = current_setting('datacake.node_id')::int) AS mine
  FROM (SELECT s, lag(s) OVER (ORDER BY n) AS before
          FROM (SELECT n, datacake.clock() AS s FROM generate_series(1, 20000) n OFFSET 0) x) y;
-- and is near the time of day
SELECT abs(extract(epoch FROM datacake.clock()::timestamptz - clock_timestamp())) < 60 AS near;
-- ids for primary keys: unique, rising, from the same clock
SELECT count(DISTINCT id), bool_and(id > before IS NOT FALSE) AS rising, bool_and(id > 0) AS positive
  FROM (SELECT id, lag(id) OVER (ORDER BY n) AS before
          FROM (SELECT n, datacake.next_id() AS id FROM generate_series(1, 20000) n OFFSET 0) x) y;
SELECT datacake.clock() < datacake.next_id()::datacake.hlc AS one_clock;

-- no transaction yet in this session that was replicated
SELECT datacake.last_commit_stamp() IS NULL AS none_yet;
