--
-- PREPARE TRANSACTION of a transaction that touched a replicated table, and
-- in the end wrote nothing there.
--
SET client_min_messages = warning;
CREATE TABLE orders (id int PRIMARY KEY, note text);
SELECT datacake.replicate_table('orders');
INSERT INTO orders VALUES (1, 'one');

-- no row was written
BEGIN;
INSERT INTO orders VALUES (1, 'ignored') ON CONFLICT DO NOTHING;
PREPARE TRANSACTION 'nothing written';
-- the session goes on, whether that transaction ends or not
INSERT INTO orders VALUES (2, 'two');
COMMIT PREPARED 'nothing written';
INSERT INTO orders VALUES (3, 'three');

-- what was written was rolled back
BEGIN;
SAVEPOINT s;
INSERT INTO orders VALUES (4, 'never');
ROLLBACK TO s;
PREPARE TRANSACTION 'nothing left';
INSERT INTO orders VALUES (5, 'five');
ROLLBACK PREPARED 'nothing left';

SELECT id, note FROM orders ORDER BY id;
SELECT relation, live, dead, captured FROM datacake.keyspaces WHERE relation = 'orders'::regclass;
-- neither of the two holds the watermark back
SELECT datacake.await_stamp(datacake.last_commit_stamp());

SELECT datacake.unreplicate_table('orders');
DROP TABLE orders;
