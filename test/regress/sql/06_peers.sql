--
-- What a peer calls, called by somebody else: refused, and nothing is harmed.
--
SET client_min_messages = warning;
\set SHOW_CONTEXT never

CREATE TABLE target (id int PRIMARY KEY, note text);
SELECT datacake.replicate_table('target');
INSERT INTO target VALUES (1, 'here');

-- no session yet
CALL datacake.peer_stream();

-- messages that nobody sealed
SELECT datacake.peer_hello(NULL) IS NULL AS nothing;
SELECT datacake.peer_hello('');
SELECT datacake.peer_hello('\x00');
SELECT datacake.peer_hello(decode(repeat('00', 1000), 'hex'));
SELECT datacake.peer_fingerprint(NULL) IS NULL AS nothing;
SELECT datacake.peer_fingerprint('');
SELECT datacake.peer_fingerprint('\x00');

-- a failed hello opens no session
CALL datacake.peer_stream();

-- of every length, of zeros, ones and noise; first bytes that look like a key id
CREATE FUNCTION refusals(call text) RETURNS TABLE (state text, message text, times bigint) LANGUAGE plpgsql AS $$
DECLARE
    n int;
    fill text;
BEGIN
    CREATE TEMP TABLE refused (state text, message text);
    FOR n IN SELECT generate_series(0, 200) UNION ALL SELECT 4096 UNION ALL SELECT 1000000 LOOP
        FOREACH fill IN ARRAY ARRAY['00', 'ff', '01', '0001', '00000001', '01000000', 'c0ffee'] LOOP
            BEGIN
                EXECUTE format('SELECT %s($1)', call)
                  USING substr(decode(repeat(fill, n), 'hex'), 1, n);
                INSERT INTO refused VALUES ('00000', 'taken');
            EXCEPTION WHEN OTHERS THEN
                INSERT INTO refused VALUES (SQLSTATE, SQLERRM);
            END;
        END LOOP;
    END LOOP;
    RETURN QUERY SELECT r.state, r.message, count(*) FROM refused r GROUP BY 1, 2 ORDER BY 1;
    DROP TABLE refused;
END $$;
SELECT * FROM refusals('datacake.peer_hello');
SELECT * FROM refusals('datacake.peer_fingerprint');

-- nothing has changed
SELECT id, note FROM target;
SELECT relation, live, dead, captured, applied, conflicts, waiting FROM datacake.keyspaces;
SELECT count(*) FROM datacake.quarantine;
SELECT count(*) FROM datacake.unrealized;
SELECT sum(incoming) FROM datacake.peers;
SELECT datacake.verify();
INSERT INTO target VALUES (2, 'still works');
-- the session was not turned into a peer's
SHOW session_replication_role;
SHOW search_path;

SELECT datacake.unreplicate_table('target');
DROP TABLE target;
DROP FUNCTION refusals;
