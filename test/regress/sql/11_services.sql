--
-- Services: what one node alone can show.
--
\set SHOW_CONTEXT errors

CREATE ROLE regress_caller;
CREATE ROLE regress_keeper IN ROLE datacake_admin;
CREATE SCHEMA shop;
GRANT USAGE ON SCHEMA shop TO regress_caller, regress_keeper;
CREATE TABLE shop.stock (item text PRIMARY KEY, n int NOT NULL CHECK (n >= 0));
INSERT INTO shop.stock VALUES ('apple', 3);
GRANT SELECT, UPDATE ON shop.stock TO regress_caller;

CREATE FUNCTION shop.take(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE left_over int;
BEGIN
    UPDATE shop.stock SET n = n - (p ->> 'n')::int WHERE item = p ->> 'item' RETURNING n INTO left_over;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such item: %', p ->> 'item'
            USING ERRCODE = 'no_data_found', DETAIL = 'The shop never had it.', HINT = 'Take an apple.';
    END IF;
    RETURN jsonb_build_object('left', left_over, 'by', current_user);
END $$;

-- registering
SELECT datacake.register_service('take', 'shop.take');
SELECT datacake.register_service('take', 'shop.take(jsonb)');
SELECT datacake.register_service('take', 'shop.take(jsonb)');
SELECT datacake.register_service('', 'shop.take(jsonb)');
SELECT datacake.register_service(repeat('x', 64), 'shop.take(jsonb)');
SELECT datacake.register_service('wrong', 'lower(text)');
SELECT datacake.register_service('wrong', 'jsonb_agg(anyelement)');
SELECT datacake.register_service('wrong', 'jsonb_array_elements(jsonb)');
SELECT datacake.register_service('wrong', 0);
SELECT name, handler, registered_by = current_user AS by_me FROM datacake.services;

-- by whom
SET ROLE regress_caller;
SELECT datacake.register_service('mine', 'shop.take(jsonb)');
SELECT datacake.unregister_service('take');
SELECT datacake.call(1, 'take', '{"item": "apple", "n": 1}');
SELECT * FROM datacake.call_many('take');
SELECT count(*) FROM datacake.services;
RESET ROLE;
REVOKE EXECUTE ON FUNCTION shop.take(jsonb) FROM PUBLIC;
SET ROLE regress_keeper;
SELECT datacake.register_service('again', 'shop.take(jsonb)');
RESET ROLE;
GRANT EXECUTE ON FUNCTION datacake.call(integer, text, jsonb, interval), datacake.call_many(text, jsonb, text, interval) TO regress_caller;

-- calling
SET ROLE regress_caller;
SELECT datacake.call(1, 'take', '{"item": "apple", "n": 1}');
RESET ROLE;
GRANT EXECUTE ON FUNCTION shop.take(jsonb) TO regress_caller;
SET ROLE regress_caller;
SELECT datacake.call(1, 'take', '{"item": "apple", "n": 1}');
SELECT datacake.call(1, 'take', '{"item": "pear", "n": 1}');
SELECT datacake.call(1, 'take', '{"item": "apple", "n": 5}');
SELECT datacake.call(1, 'give', '{"item": "apple", "n": 5}');
SELECT datacake.call(2, 'take', '{}');
SELECT datacake.call(0, 'take', '{}');
SELECT datacake.call(NULL, 'take', '{}');
SELECT datacake.call(1, NULL, '{}');
SELECT datacake.call(1, repeat('x', 64));
SELECT datacake.call(1, 'take', '{}', NULL);
SELECT datacake.call(1, 'take', '{}', '-1 s');

-- the local part is in the transaction of the caller
BEGIN;
SELECT datacake.call(1, 'take', '{"item": "apple", "n": 1}');
ROLLBACK;
SELECT n FROM shop.stock;

-- the error of a member is a row, and what it wrote is gone
SELECT * FROM datacake.call_many('take', '{"item": "apple", "n": 1}');
SELECT * FROM datacake.call_many('take', '{"item": "pear", "n": 1}');
SELECT * FROM datacake.call_many('take', '{"item": "apple", "n": 1}', 'one');
SELECT * FROM datacake.call_many('take', '{"item": "apple", "n": 1}', 'most');
SELECT * FROM datacake.call_many('take', '{"item": "apple", "n": 1}', NULL);
SELECT level, (datacake.call_many('take', '{"item": "apple", "n": 0}', level)).*
  FROM unnest('{none,quorum,LOCAL_QUORUM,each_quorum,all}'::text[]) level;
SELECT n FROM shop.stock;
RESET ROLE;

-- time
CREATE FUNCTION shop.sleep(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    UPDATE shop.stock SET n = 100;
    PERFORM pg_sleep((p ->> 0)::float);
    RETURN p;
END $$;
SELECT datacake.register_service('sleep', 'shop.sleep(jsonb)');
SELECT datacake.call(1, 'sleep', '[600]', '20 ms');
DO $$
BEGIN
    PERFORM datacake.call(1, 'sleep', '[600]', '20 ms');
EXCEPTION WHEN SQLSTATE 'YD041' THEN
    RAISE NOTICE 'caught: %', SQLERRM;
END $$;
\set SHOW_CONTEXT never
SET statement_timeout = '50 ms';
SELECT datacake.call(1, 'sleep', '[600]', '1 h');
SELECT * FROM datacake.call_many('sleep', '[600]', 'none', '1 h');
RESET statement_timeout;
\set SHOW_CONTEXT errors
SELECT datacake.call(1, 'sleep', '[0]', '1 h');
UPDATE shop.stock SET n = 1;

-- what a service sets is set back, and it cannot become somebody else
CREATE FUNCTION shop.run(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE p ->> 0;
    RETURN to_jsonb(current_setting('search_path'));
END $$;
SELECT datacake.register_service('run', 'shop.run(jsonb)');
SELECT datacake.call(1, 'run', '["SET work_mem = 77777"]');
SELECT current_setting('work_mem') = '77777kB' AS changed;
SELECT datacake.call(1, 'run', '["SET ROLE regress_caller"]');
SELECT datacake.call(1, 'run', '["SET search_path = shop"]');
SHOW search_path;

-- nulls
CREATE FUNCTION shop.is_null(p jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT CASE WHEN p IS NULL THEN 'true'::jsonb END $$;
CREATE FUNCTION shop.strict(p jsonb) RETURNS jsonb LANGUAGE sql STRICT AS $$ SELECT 'true'::jsonb $$;
ALTER FUNCTION shop.strict(jsonb) OWNER TO regress_keeper;
SELECT datacake.register_service('is_null', 'shop.is_null(jsonb)'), datacake.register_service('strict', 'shop.strict(jsonb)');
SELECT datacake.call(1, 'is_null'), datacake.call(1, 'is_null', 'null') IS NULL AS null, datacake.call(1, 'strict') IS NULL AS strict;

-- services that call services
CREATE FUNCTION shop.count_down(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RETURN CASE WHEN p = '0' THEN '"done"' ELSE datacake.call(1, 'count_down', to_jsonb(p::int - 1)) END;
END $$;
SELECT datacake.register_service('count_down', 'shop.count_down(jsonb)');
SELECT datacake.call(1, 'count_down', '7');
\set SHOW_CONTEXT never
SELECT datacake.call(1, 'count_down', '8');
SELECT datacake.call(1, 'count_down', '0');

-- what is registered is that function, of that owner
ALTER FUNCTION shop.strict(jsonb) OWNER TO regress_caller;
SELECT datacake.call(1, 'strict', '1');
ALTER FUNCTION shop.strict(jsonb) RENAME TO lax;
SELECT datacake.call(1, 'strict', '1');

-- what peers call, by somebody else
SELECT datacake.peer_call('');
SELECT datacake.peer_call('\x00');
SET ROLE regress_keeper;
SELECT datacake.peer_call('');

-- unregistering takes one and leaves the others
SELECT datacake.unregister_service('sleep');
SELECT datacake.unregister_service('sleep');
SELECT name FROM datacake.services;
RESET ROLE;
SELECT count(datacake.unregister_service(name)) FROM (SELECT name FROM datacake.services OFFSET 0) s;

SET client_min_messages = warning;
DROP SCHEMA shop CASCADE;
REVOKE ALL ON FUNCTION datacake.call(integer, text, jsonb, interval), datacake.call_many(text, jsonb, text, interval) FROM regress_caller;
DROP ROLE regress_caller, regress_keeper;
