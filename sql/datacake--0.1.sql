-- datacake 0.1: leaderless, convergent replication of tables
\echo Use "CREATE EXTENSION datacake" to load this file. \quit

CREATE FUNCTION datacake.check_database() RETURNS void
    AS 'MODULE_PATHNAME', 'datacake_check_database' LANGUAGE C;
SELECT datacake.check_database();
DROP FUNCTION datacake.check_database();

-- ---------------------------------------------------------------------------
-- Roles. They belong to the server, so they may be there already.
-- ---------------------------------------------------------------------------
DO $$
DECLARE r text;
BEGIN
    FOREACH r IN ARRAY ARRAY['datacake_admin', 'datacake_peer', 'datacake_reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = r) THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', r);
        END IF;
    END LOOP;
END $$;

-- ---------------------------------------------------------------------------
-- The stamp
-- ---------------------------------------------------------------------------
CREATE TYPE datacake.hlc;
CREATE FUNCTION datacake.hlc_in(cstring) RETURNS datacake.hlc
    AS 'MODULE_PATHNAME', 'datacake_hlc_in' LANGUAGE C STABLE STRICT PARALLEL SAFE;
CREATE FUNCTION datacake.hlc_out(datacake.hlc) RETURNS cstring
    AS 'MODULE_PATHNAME', 'datacake_hlc_out' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION datacake.hlc_recv(internal) RETURNS datacake.hlc
    AS 'MODULE_PATHNAME', 'datacake_hlc_recv' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION datacake.hlc_send(datacake.hlc) RETURNS bytea
    AS 'MODULE_PATHNAME', 'datacake_hlc_send' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE TYPE datacake.hlc (
    INPUT = datacake.hlc_in, OUTPUT = datacake.hlc_out,
    RECEIVE = datacake.hlc_recv, SEND = datacake.hlc_send,
    LIKE = bigint
);
COMMENT ON TYPE datacake.hlc IS
    'hybrid logical clock stamp: 53 bits of microseconds since 2000-01-01 UTC, 10 bits of node id; ordered like a bigint';

CREATE FUNCTION datacake.hlc_from_bigint(bigint) RETURNS datacake.hlc
    AS 'MODULE_PATHNAME', 'datacake_hlc_from_bigint' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION datacake.hlc_to_timestamptz(datacake.hlc) RETURNS timestamptz
    AS 'MODULE_PATHNAME', 'datacake_hlc_to_timestamptz' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION datacake.node_of(datacake.hlc) RETURNS integer
    AS 'MODULE_PATHNAME', 'datacake_node_of' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION datacake.node_of(datacake.hlc) IS 'id of the node that drew the stamp';
CREATE CAST (datacake.hlc AS bigint) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (bigint AS datacake.hlc) WITH FUNCTION datacake.hlc_from_bigint(bigint);
CREATE CAST (datacake.hlc AS timestamptz) WITH FUNCTION datacake.hlc_to_timestamptz(datacake.hlc);

CREATE FUNCTION datacake.hlc_lt(datacake.hlc, datacake.hlc) RETURNS boolean AS 'int8lt' LANGUAGE internal IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
CREATE FUNCTION datacake.hlc_le(datacake.hlc, datacake.hlc) RETURNS boolean AS 'int8le' LANGUAGE internal IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
CREATE FUNCTION datacake.hlc_eq(datacake.hlc, datacake.hlc) RETURNS boolean AS 'int8eq' LANGUAGE internal IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
CREATE FUNCTION datacake.hlc_ne(datacake.hlc, datacake.hlc) RETURNS boolean AS 'int8ne' LANGUAGE internal IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
CREATE FUNCTION datacake.hlc_ge(datacake.hlc, datacake.hlc) RETURNS boolean AS 'int8ge' LANGUAGE internal IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
CREATE FUNCTION datacake.hlc_gt(datacake.hlc, datacake.hlc) RETURNS boolean AS 'int8gt' LANGUAGE internal IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
CREATE FUNCTION datacake.hlc_cmp(datacake.hlc, datacake.hlc) RETURNS integer AS 'btint8cmp' LANGUAGE internal IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
CREATE FUNCTION datacake.hlc_hash(datacake.hlc) RETURNS integer AS 'hashint8' LANGUAGE internal IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
CREATE OPERATOR datacake.< (LEFTARG = datacake.hlc, RIGHTARG = datacake.hlc, FUNCTION = datacake.hlc_lt, COMMUTATOR = OPERATOR(datacake.>), NEGATOR = OPERATOR(datacake.>=), RESTRICT = scalarltsel, JOIN = scalarltjoinsel);
CREATE OPERATOR datacake.<= (LEFTARG = datacake.hlc, RIGHTARG = datacake.hlc, FUNCTION = datacake.hlc_le, COMMUTATOR = OPERATOR(datacake.>=), NEGATOR = OPERATOR(datacake.>), RESTRICT = scalarlesel, JOIN = scalarlejoinsel);
CREATE OPERATOR datacake.= (LEFTARG = datacake.hlc, RIGHTARG = datacake.hlc, FUNCTION = datacake.hlc_eq, COMMUTATOR = OPERATOR(datacake.=), NEGATOR = OPERATOR(datacake.<>), RESTRICT = eqsel, JOIN = eqjoinsel, HASHES, MERGES);
CREATE OPERATOR datacake.<> (LEFTARG = datacake.hlc, RIGHTARG = datacake.hlc, FUNCTION = datacake.hlc_ne, COMMUTATOR = OPERATOR(datacake.<>), NEGATOR = OPERATOR(datacake.=), RESTRICT = neqsel, JOIN = neqjoinsel);
CREATE OPERATOR datacake.>= (LEFTARG = datacake.hlc, RIGHTARG = datacake.hlc, FUNCTION = datacake.hlc_ge, COMMUTATOR = OPERATOR(datacake.<=), NEGATOR = OPERATOR(datacake.<), RESTRICT = scalargesel, JOIN = scalargejoinsel);
CREATE OPERATOR datacake.> (LEFTARG = datacake.hlc, RIGHTARG = datacake.hlc, FUNCTION = datacake.hlc_gt, COMMUTATOR = OPERATOR(datacake.<), NEGATOR = OPERATOR(datacake.<=), RESTRICT = scalargtsel, JOIN = scalargtjoinsel);
CREATE OPERATOR CLASS datacake.hlc_ops DEFAULT FOR TYPE datacake.hlc USING btree AS
    OPERATOR 1 datacake.<, OPERATOR 2 datacake.<=, OPERATOR 3 datacake.=,
    OPERATOR 4 datacake.>=, OPERATOR 5 datacake.>,
    FUNCTION 1 datacake.hlc_cmp(datacake.hlc, datacake.hlc),
    FUNCTION 4 btequalimage(oid);
CREATE OPERATOR CLASS datacake.hlc_hash_ops DEFAULT FOR TYPE datacake.hlc USING hash AS
    OPERATOR 1 datacake.=, FUNCTION 1 datacake.hlc_hash(datacake.hlc);

-- ---------------------------------------------------------------------------
-- Tables: the truth. Shared memory is a cache of them.
-- ---------------------------------------------------------------------------
CREATE TABLE datacake.local_state (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    node_id integer NOT NULL,
    incarnation bigint NOT NULL,
    system_identifier bigint NOT NULL,
    timeline integer NOT NULL,
    database oid NOT NULL,
    clock_bound datacake.hlc NOT NULL,
    horizon datacake.hlc NOT NULL DEFAULT '0',
    horizon_counts integer[] NOT NULL DEFAULT '{}',
    joining boolean NOT NULL DEFAULT false,
    before integer NOT NULL DEFAULT 0,
    registered datacake.hlc NOT NULL DEFAULT '0',
    counted boolean NOT NULL DEFAULT false
) WITH (fillfactor = 10);
COMMENT ON TABLE datacake.local_state IS 'who this node is, the bound no stamp of it has passed, the horizon up to which deaths may be forgotten, and whether it joins';
COMMENT ON COLUMN datacake.local_state.database IS 'another one than this: the row came with a copy of the database';
COMMENT ON COLUMN datacake.local_state.horizon_counts IS 'the members whose floors made the horizon';
COMMENT ON COLUMN datacake.local_state.before IS 'what the member lists said of this node id when it began to join: 0 absent, 1 present, 2 fenced, 3 removed';
COMMENT ON COLUMN datacake.local_state.counted IS 'others were told a floor of this node once';
COMMENT ON COLUMN datacake.local_state.registered IS 'clock of the member that took this node in; older rows that nobody knows are settled when joining ends';

CREATE TABLE datacake.register (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    state bytea NOT NULL
);
COMMENT ON TABLE datacake.register IS 'the agreed member list, its number, and what this node promised about the next one; datacake.members shows the list';

CREATE TABLE datacake.vector (
    source integer PRIMARY KEY,
    watermark datacake.hlc NOT NULL
) WITH (fillfactor = 10);
COMMENT ON TABLE datacake.vector IS 'for each source, the stamp up to which this node durably has everything, but for what datacake.debt names; lags behind memory';

CREATE TABLE datacake.debt (
    source integer NOT NULL,
    donor integer NOT NULL,
    stamp datacake.hlc NOT NULL
);
COMMENT ON TABLE datacake.debt IS 'what the watermarks of datacake.vector take for granted and a source has yet to send: versions up to this stamp, by which it overwrote rows that the donor therefore left out of a catch-up';

CREATE TABLE datacake.tombstone (
    keyspace bigint NOT NULL,
    key bytea NOT NULL,
    stamp datacake.hlc NOT NULL
);
COMMENT ON TABLE datacake.tombstone IS 'deaths of keys; append-only, read whole after a restart';

CREATE TABLE datacake.floor (
    keyspace bigint NOT NULL,
    stamp datacake.hlc NOT NULL
);
COMMENT ON TABLE datacake.floor IS 'stamps of TRUNCATE: all up to it is dead; append-only, the greatest of a keyspace counts';

CREATE TABLE datacake.quarantine (
    keyspace bigint NOT NULL,
    key bytea NOT NULL,
    stamp datacake.hlc NOT NULL,
    change bytea NOT NULL,
    sqlstate text NOT NULL,
    message text NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    tries integer NOT NULL DEFAULT 1,
    retry_at timestamptz NOT NULL DEFAULT clock_timestamp() + interval '1 s',
    other bytea,
    other_stamp datacake.hlc,
    told boolean NOT NULL DEFAULT false,
    PRIMARY KEY (keyspace, key)
);
COMMENT ON TABLE datacake.quarantine IS 'changes that cannot be in their table here yet, each as a batch of one';
COMMENT ON COLUMN datacake.quarantine.other IS 'key of the newer row that has a unique value of this one, or excludes it; it is in the table, and this one comes back when it goes';
COMMENT ON COLUMN datacake.quarantine.told IS 'datacake.conflicts has this row and the other one';

CREATE TABLE datacake.unrealized (
    id bigint PRIMARY KEY,
    sqlstate text NOT NULL,
    message text NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    tries integer NOT NULL DEFAULT 1,
    retry_at timestamptz NOT NULL DEFAULT clock_timestamp() + interval '1 s'
);
COMMENT ON TABLE datacake.unrealized IS 'keyspaces of the cluster whose table could not be created or adopted here, or which ended and whose table could not become an ordinary one, and why';

CREATE TABLE datacake.ddl_log (
    id datacake.hlc PRIMARY KEY,
    founder bigint NOT NULL,
    number bigint NOT NULL,
    origin integer,
    role text,
    superuser boolean,
    search_path text,
    command text,
    state text NOT NULL CHECK (state IN ('proposed', 'decided', 'done', 'joining')),
    error text,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    tries integer NOT NULL DEFAULT 0,
    retry_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE datacake.ddl_log IS 'commands of datacake.ddl() on this node, by number; the row without a command stands for those before this node came';
COMMENT ON COLUMN datacake.ddl_log.founder IS 'names the line of member lists that decided';
COMMENT ON COLUMN datacake.ddl_log.state IS 'proposed: kept, in case that it is decided; decided: to be run here; done; joining: counts as run until this node has joined';
COMMENT ON COLUMN datacake.ddl_log.error IS 'why it could not be run here when it was tried last; it is tried again';

CREATE TABLE datacake.copy (
    incarnation bigint NOT NULL,
    donor integer NOT NULL,
    donor_incarnation bigint NOT NULL,
    plan bytea NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    keyspaces_done integer NOT NULL DEFAULT 0,
    file bigint NOT NULL DEFAULT 0,
    block bigint NOT NULL DEFAULT 0,
    line integer NOT NULL DEFAULT 0,
    rows bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);
COMMENT ON TABLE datacake.copy IS 'how far this node came when it copied another one, while it was empty: one row, of the last copy';
COMMENT ON COLUMN datacake.copy.plan IS 'what the donor told at the beginning: its version vector and its keyspaces';
COMMENT ON COLUMN datacake.copy.file IS 'of the donor''s table that is being copied; block and line are of the next row';

CREATE TABLE datacake.orphan (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    keyspace bigint NOT NULL,
    key text NOT NULL,
    stamp datacake.hlc NOT NULL,
    "row" json NOT NULL
);
COMMENT ON TABLE datacake.orphan IS 'rows that this node wrote, nobody else had when it came back after its removal, and whose death may be forgotten; not in their table any more';

CREATE TABLE datacake.conflict (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    keyspace bigint NOT NULL,
    key text NOT NULL,
    kind text NOT NULL,
    kept datacake.hlc NOT NULL,
    lost datacake.hlc NOT NULL,
    kept_row json,
    lost_row json
);
COMMENT ON TABLE datacake.conflict IS 'concurrent writes that this node met when it applied changes of others; datacake.conflict_history of them are kept';

CREATE TABLE datacake.repaired (
    keyspace bigint NOT NULL,
    node_id integer NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    runs bigint NOT NULL DEFAULT 1,
    differing bigint NOT NULL,
    fetched bigint NOT NULL,
    pushed bigint NOT NULL,
    kept bigint NOT NULL,
    mended bigint NOT NULL,
    lost bigint NOT NULL,
    images bigint NOT NULL,
    sent_bytes bigint NOT NULL,
    received_bytes bigint NOT NULL,
    elapsed interval NOT NULL,
    differing_ever bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (keyspace, node_id)
);
COMMENT ON TABLE datacake.repaired IS 'the last comparison of each keyspace with each node, and what was found';

CREATE TABLE datacake.service (
    name text PRIMARY KEY,
    handler text,
    owner text,
    library text,
    symbol text,
    role text,
    registered_by text NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (CASE WHEN handler IS NULL THEN owner IS NULL AND library IS NOT NULL AND symbol IS NOT NULL
                ELSE owner IS NOT NULL AND library IS NULL AND symbol IS NULL AND role IS NULL END)
);
COMMENT ON TABLE datacake.service IS 'services of this node, for roles on all nodes: a function, and who owned it when it was registered; or a symbol of a library, and whose members may call it';

CREATE TABLE datacake.selector (
    name text PRIMARY KEY,
    function text NOT NULL,
    owner text NOT NULL
);
COMMENT ON TABLE datacake.selector IS 'selectors of this node that are written in SQL: a function, and who owned it when it was registered';

CREATE TABLE datacake.keyspace (
    id bigint PRIMARY KEY,
    schema_name text NOT NULL,
    table_name text NOT NULL,
    owner text NOT NULL,
    kind text NOT NULL DEFAULT 'table',
    key_bytes integer NOT NULL,
    columns jsonb NOT NULL,
    primary_key text[] NOT NULL,
    constraints jsonb,
    partitions jsonb,
    history jsonb NOT NULL DEFAULT '{}',
    _stamp datacake.hlc NOT NULL
);
COMMENT ON TABLE datacake.keyspace IS 'definitions of all keyspaces; itself a keyspace, replicated like any other';
COMMENT ON COLUMN datacake.keyspace.history IS 'columns that were renamed, dropped or given another type: before which stamp, and which column that is now';

-- ---------------------------------------------------------------------------
-- Capture
-- ---------------------------------------------------------------------------
CREATE FUNCTION datacake.stamp_row() RETURNS trigger
    AS 'MODULE_PATHNAME', 'datacake_stamp_row' LANGUAGE C;
COMMENT ON FUNCTION datacake.stamp_row() IS 'BEFORE ROW trigger of replicated tables: puts the stamp of the transaction into the row';
CREATE FUNCTION datacake.stamp_new(relation regclass, given datacake.hlc, plan internal) RETURNS datacake.hlc
    AS 'MODULE_PATHNAME', 'datacake_stamp_new' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION datacake.stamp_new(regclass, datacake.hlc, internal) IS 'the stamp of this transaction for a new row of that table, in plans of INSERT in place of the BEFORE ROW trigger; where nothing is captured the one given';
CREATE FUNCTION datacake.stamp_over(replaced datacake.hlc, given datacake.hlc, plan internal) RETURNS datacake.hlc
    AS 'MODULE_PATHNAME', 'datacake_stamp_over' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION datacake.stamp_over(datacake.hlc, datacake.hlc, internal) IS 'the stamp of this transaction for a row that replaces one of that stamp, in plans of UPDATE and DELETE in place of the BEFORE ROW trigger; where nothing is captured the one given';
CREATE FUNCTION datacake.capture_row() RETURNS trigger
    AS 'MODULE_PATHNAME', 'datacake_capture_row' LANGUAGE C;
COMMENT ON FUNCTION datacake.capture_row() IS 'AFTER ROW trigger of replicated tables: notes what was written; its argument is the keyspace id';
CREATE FUNCTION datacake.capture_truncate() RETURNS trigger
    AS 'MODULE_PATHNAME', 'datacake_capture_truncate' LANGUAGE C;
COMMENT ON FUNCTION datacake.capture_truncate() IS 'BEFORE TRUNCATE trigger of replicated tables: notes that everything written before is dead';

CREATE TRIGGER "~datacake_stamp" BEFORE INSERT OR UPDATE OR DELETE ON datacake.keyspace
    FOR EACH ROW EXECUTE FUNCTION datacake.stamp_row();
CREATE TRIGGER "!datacake_capture" AFTER INSERT OR UPDATE OR DELETE ON datacake.keyspace
    FOR EACH ROW EXECUTE FUNCTION datacake.capture_row('1');
CREATE TRIGGER "!datacake_truncate" BEFORE TRUNCATE ON datacake.keyspace
    FOR EACH STATEMENT EXECUTE FUNCTION datacake.capture_truncate();
ALTER TABLE datacake.keyspace
    ENABLE ALWAYS TRIGGER "~datacake_stamp",
    ENABLE ALWAYS TRIGGER "!datacake_capture",
    ENABLE ALWAYS TRIGGER "!datacake_truncate";

-- ---------------------------------------------------------------------------
-- DDL
-- ---------------------------------------------------------------------------
CREATE FUNCTION datacake.ddl(command text, timeout interval DEFAULT '1 min', OUT node_id integer, OUT status text, OUT error text)
    RETURNS SETOF record AS 'MODULE_PATHNAME', 'datacake_ddl' LANGUAGE C STRICT VOLATILE;
COMMENT ON FUNCTION datacake.ddl(text, interval) IS
    'runs one command of DDL on all members, as the current role, or on none; who is away runs it when it returns, before it takes newer rows';
CREATE FUNCTION datacake.peer_command(bytea) RETURNS bytea
    AS 'MODULE_PATHNAME', 'datacake_peer_command' LANGUAGE C STRICT;
COMMENT ON FUNCTION datacake.peer_command(bytea) IS 'for peers: holds a command of the cluster open, keeps its text, tells what was run; takes and returns sealed messages';
CREATE FUNCTION datacake.follow_ddl() RETURNS event_trigger
    AS 'MODULE_PATHNAME', 'datacake_follow_ddl' LANGUAGE C;
COMMENT ON FUNCTION datacake.follow_ddl() IS 'event trigger: refuses what a replicated table cannot bear, keeps its definition as the table is, has waiting changes tried again';
CREATE EVENT TRIGGER datacake_ddl_end ON ddl_command_end
    WHEN TAG IN ('ALTER TABLE', 'ALTER TRIGGER', 'ALTER INDEX', 'ALTER SCHEMA', 'ALTER TYPE', 'ALTER DOMAIN', 'CREATE TABLE', 'CREATE INDEX',
                 'CREATE SCHEMA', 'CREATE TYPE', 'CREATE DOMAIN', 'CREATE EXTENSION', 'CREATE FUNCTION', 'DROP INDEX', 'DROP TRIGGER')
    EXECUTE FUNCTION datacake.follow_ddl();
CREATE EVENT TRIGGER datacake_ddl_drop ON sql_drop EXECUTE FUNCTION datacake.follow_ddl();
ALTER EVENT TRIGGER datacake_ddl_end ENABLE ALWAYS;
ALTER EVENT TRIGGER datacake_ddl_drop ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER datacake_ddl_end IS 'looks at what a command has made of replicated tables';
COMMENT ON EVENT TRIGGER datacake_ddl_drop IS 'ends the keyspaces of tables that are dropped';

-- ---------------------------------------------------------------------------
-- Between nodes
-- ---------------------------------------------------------------------------
CREATE FUNCTION datacake.peer_hello(bytea) RETURNS bytea
    AS 'MODULE_PATHNAME', 'datacake_peer_hello' LANGUAGE C STRICT;
COMMENT ON FUNCTION datacake.peer_hello(bytea) IS 'for peers: opens a session; takes and returns sealed messages';
CREATE PROCEDURE datacake.peer_stream()
    AS 'MODULE_PATHNAME', 'datacake_peer_stream' LANGUAGE C;
COMMENT ON PROCEDURE datacake.peer_stream() IS 'for peers: applies changes as they come, in transactions of its own; sealed messages go both ways as COPY data';
CREATE FUNCTION datacake.peer_fingerprint(bytea) RETURNS bytea
    AS 'MODULE_PATHNAME', 'datacake_peer_fingerprint' LANGUAGE C STRICT;
COMMENT ON FUNCTION datacake.peer_fingerprint(bytea) IS 'for peers: sums over the rows of all keyspaces; takes and returns sealed messages';

CREATE FUNCTION datacake.peer_register(bytea) RETURNS bytea
    AS 'MODULE_PATHNAME', 'datacake_peer_register' LANGUAGE C STRICT;
COMMENT ON FUNCTION datacake.peer_register(bytea) IS 'for peers: this node''s vote on a change of the member list; takes and returns sealed messages';
CREATE FUNCTION datacake.peer_repair(bytea) RETURNS bytea
    AS 'MODULE_PATHNAME', 'datacake_peer_repair' LANGUAGE C STRICT;
COMMENT ON FUNCTION datacake.peer_repair(bytea) IS 'for peers: answers a question of a repair; takes and returns sealed messages';
CREATE FUNCTION datacake.peer_copy(bytea) RETURNS bytea
    AS 'MODULE_PATHNAME', 'datacake_peer_copy' LANGUAGE C STRICT;
COMMENT ON FUNCTION datacake.peer_copy(bytea) IS 'for peers: answers a question of an empty node that copies this one; takes and returns sealed messages';

CREATE FUNCTION datacake.peer_call(bytea) RETURNS bytea
    AS 'MODULE_PATHNAME', 'datacake_peer_call' LANGUAGE C STRICT;
COMMENT ON FUNCTION datacake.peer_call(bytea) IS 'for peers: runs a service as the role that called it; takes and returns sealed messages';
CREATE FUNCTION datacake.peer_read(bytea) RETURNS bytea
    AS 'MODULE_PATHNAME', 'datacake_peer_read' LANGUAGE C STRICT;
COMMENT ON FUNCTION datacake.peer_read(bytea) IS 'for peers: what this node knows of some keys; takes and returns sealed messages';

-- ---------------------------------------------------------------------------
-- Keyspaces
-- ---------------------------------------------------------------------------
CREATE FUNCTION datacake.replicate_table(relation regclass) RETURNS void
    AS 'MODULE_PATHNAME', 'datacake_replicate_table' LANGUAGE C STRICT;
COMMENT ON FUNCTION datacake.replicate_table(regclass) IS
    'makes a table with a primary key a keyspace on every node; by its owner; takes an ACCESS EXCLUSIVE lock, does not rewrite';
CREATE FUNCTION datacake.unreplicate_table(relation regclass) RETURNS void
    AS 'MODULE_PATHNAME', 'datacake_unreplicate_table' LANGUAGE C STRICT;
COMMENT ON FUNCTION datacake.unreplicate_table(regclass) IS
    'makes a keyspace an ordinary table again, on every node; the rows stay';

CREATE FUNCTION datacake.ask_level(level text) RETURNS void
    AS 'MODULE_PATHNAME', 'datacake_ask_level' LANGUAGE C;
COMMENT ON FUNCTION datacake.ask_level(text) IS
    'the running transaction asks for this consistency level, besides others that it asks for; NULL is the setting datacake.consistency';

CREATE FUNCTION datacake.reads_here(level text) RETURNS boolean
    AS 'MODULE_PATHNAME', 'datacake_reads_here' LANGUAGE C STABLE;
COMMENT ON FUNCTION datacake.reads_here(text) IS
    'does a read at this consistency level ask no other node; NULL is the setting datacake.consistency';
CREATE FUNCTION datacake.read_newest(relation anyelement, keys anycompatiblearray, level text DEFAULT NULL) RETURNS SETOF anyelement
    AS 'MODULE_PATHNAME', 'datacake_read_newest' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION datacake.read_newest(anyelement, anycompatiblearray, text) IS
    'rows of a replicated table by key, the newest of as many nodes as the level asks for; relation is NULL::table; for roles that may SELECT from it';

CREATE FUNCTION datacake.register_selector(name text, selector regprocedure) RETURNS void
    AS 'MODULE_PATHNAME', 'datacake_register_selector' LANGUAGE C STRICT;
COMMENT ON FUNCTION datacake.register_selector(text, regprocedure) IS
    'makes a function (candidates jsonb, level text) returns integer[] a name for the setting datacake.selector on this node; it runs as its owner';
CREATE FUNCTION datacake.unregister_selector(name text) RETURNS void
    AS 'MODULE_PATHNAME', 'datacake_unregister_selector' LANGUAGE C STRICT;
COMMENT ON FUNCTION datacake.unregister_selector(text) IS 'takes back what register_selector() did on this node';

CREATE FUNCTION datacake.define_keyspace_functions(name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET check_function_bodies = off -- the table gets its stamp column after them
AS $define$
DECLARE
    tab regclass := format('%I.entries', name)::regclass;
    key_type text;
    value_type text;
    owner text;
    f text;
BEGIN
    SELECT format_type(k.atttypid, k.atttypmod), format_type(v.atttypid, v.atttypmod), pg_get_userbyid(c.relowner)
      INTO key_type, value_type, owner
      FROM pg_class c
      JOIN pg_attribute k ON k.attrelid = c.oid AND k.attname = 'key'
      JOIN pg_attribute v ON v.attrelid = c.oid AND v.attname = 'value'
     WHERE c.oid = tab;
    EXECUTE format($f$
        CREATE FUNCTION %1$I.put(key %2$s, value %3$s, consistency text DEFAULT NULL) RETURNS datacake.hlc
        LANGUAGE sql AS $b$
            SELECT datacake.ask_level(put.consistency);
            INSERT INTO %1$I.entries AS e (key, value) VALUES (put.key, put.value)
            ON CONFLICT ON CONSTRAINT entries_pkey DO UPDATE SET value = excluded.value RETURNING e._stamp
        $b$;
        CREATE FUNCTION %1$I.put_many(keys %2$s[], "values" %3$s[], consistency text DEFAULT NULL) RETURNS bigint
        LANGUAGE plpgsql AS $b$
        DECLARE n bigint;
        BEGIN
            PERFORM datacake.ask_level(consistency);
            IF cardinality(keys) IS DISTINCT FROM cardinality("values") THEN
                RAISE EXCEPTION 'keys and values differ in number' USING ERRCODE = 'array_subscript_error',
                    HINT = 'Give one value for each key.';
            END IF;
            INSERT INTO %1$I.entries AS e (key, value)
            SELECT DISTINCT ON (u.k) u.k, u.v FROM ROWS FROM (pg_catalog.unnest(keys), pg_catalog.unnest("values")) WITH ORDINALITY AS u(k, v, n) ORDER BY u.k, u.n DESC
            ON CONFLICT ON CONSTRAINT entries_pkey DO UPDATE SET value = excluded.value;
            GET DIAGNOSTICS n = ROW_COUNT;
            RETURN n;
        END $b$;
        CREATE FUNCTION %1$I.get(key %2$s, consistency text DEFAULT NULL) RETURNS %3$s
        LANGUAGE plpgsql STABLE AS $b$
        BEGIN
            IF datacake.reads_here(get.consistency) THEN
                RETURN (SELECT e.value FROM %1$I.entries e WHERE e.key = get.key);
            END IF;
            RETURN (SELECT r.value FROM datacake.read_newest(NULL::%1$I.entries, ARRAY[get.key], get.consistency) r);
        END $b$;
        CREATE FUNCTION %1$I.get_many(keys %2$s[], consistency text DEFAULT NULL) RETURNS TABLE (key %2$s, value %3$s)
        LANGUAGE plpgsql STABLE AS $b$
        BEGIN
            IF datacake.reads_here(get_many.consistency) THEN
                RETURN QUERY SELECT e.key, e.value FROM %1$I.entries e WHERE e.key = ANY (get_many.keys);
            ELSE
                RETURN QUERY SELECT r.key, r.value FROM datacake.read_newest(NULL::%1$I.entries, get_many.keys, get_many.consistency) r;
            END IF;
        END $b$;
        CREATE FUNCTION %1$I.del(key %2$s, consistency text DEFAULT NULL) RETURNS boolean
        LANGUAGE sql AS $b$
            SELECT datacake.ask_level(del.consistency);
            WITH d AS (DELETE FROM %1$I.entries e WHERE e.key = del.key RETURNING 1) SELECT count(*) > 0 FROM d
        $b$;
        CREATE FUNCTION %1$I.del_many(keys %2$s[], consistency text DEFAULT NULL) RETURNS bigint
        LANGUAGE sql AS $b$
            SELECT datacake.ask_level(del_many.consistency);
            WITH d AS (DELETE FROM %1$I.entries e WHERE e.key = ANY (del_many.keys) RETURNING 1) SELECT count(*) FROM d
        $b$;
        COMMENT ON FUNCTION %1$I.put(%2$s, %3$s, text) IS 'writes one value; returns the stamp it got';
        COMMENT ON FUNCTION %1$I.put_many(%2$s[], %3$s[], text) IS 'writes several values in one transaction; of equal keys the last counts; returns how many were written';
        COMMENT ON FUNCTION %1$I.get(%2$s, text) IS 'the value of a key, or NULL; the newest of as many nodes as the level asks for';
        COMMENT ON FUNCTION %1$I.get_many(%2$s[], text) IS 'the values of those keys that have one; the newest of as many nodes as the level asks for';
        COMMENT ON FUNCTION %1$I.del(%2$s, text) IS 'deletes a key; returns whether it was there';
        COMMENT ON FUNCTION %1$I.del_many(%2$s[], text) IS 'deletes several keys in one transaction; returns how many were there';
    $f$, name, key_type, value_type);
    FOREACH f IN ARRAY ARRAY[
        format('put(%s, %s, text)', key_type, value_type), format('put_many(%s[], %s[], text)', key_type, value_type),
        format('get(%s, text)', key_type), format('get_many(%s[], text)', key_type),
        format('del(%s, text)', key_type), format('del_many(%s[], text)', key_type)]
    LOOP
        EXECUTE format('ALTER FUNCTION %I.%s OWNER TO %I', name, f, owner);
        EXECUTE format('REVOKE ALL ON FUNCTION %I.%s FROM PUBLIC', name, f);
    END LOOP;
END $define$;
COMMENT ON FUNCTION datacake.define_keyspace_functions(text) IS 'creates the typed functions of a keyspace beside its table NAME.entries';

CREATE FUNCTION datacake.create_keyspace(name text, key_type regtype DEFAULT 'text', value_type regtype DEFAULT 'jsonb') RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF name IS NULL OR key_type IS NULL OR value_type IS NULL THEN
        RAISE EXCEPTION 'name and types of a keyspace must not be null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF 0 IN (key_type::oid, value_type::oid) THEN
        RAISE EXCEPTION 'types of a keyspace must exist' USING ERRCODE = 'undefined_object';
    END IF;
    IF name <> name::pg_catalog.name::text THEN
        RAISE EXCEPTION 'name of a keyspace is too long' USING ERRCODE = 'name_too_long', HINT = 'A name has at most 63 bytes.';
    END IF;
    EXECUTE format('CREATE SCHEMA %I', name);
    EXECUTE format('CREATE TABLE %I.entries (key %s PRIMARY KEY, value %s)', name, key_type, value_type);
    PERFORM datacake.define_keyspace_functions(name);
    PERFORM datacake.replicate_table(format('%I.entries', name)::regclass);
    PERFORM datacake.mark_keyspace(name);
END $$;
COMMENT ON FUNCTION datacake.create_keyspace(text, regtype, regtype) IS
    'creates schema NAME with table NAME.entries(key, value) and functions put, put_many, get, get_many, del, del_many, on every node';

CREATE FUNCTION datacake.mark_keyspace(name text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE datacake.keyspace SET kind = 'keyspace' WHERE schema_name = $1 AND table_name = 'entries';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'schema "%" has no replicated table "entries"', $1
            USING ERRCODE = 'undefined_table', HINT = 'Use datacake.replicate_table() first.';
    END IF;
END $$;
COMMENT ON FUNCTION datacake.mark_keyspace(text) IS 'a schema with a replicated table "entries" is a keyspace, so that peers create its functions, too; for create_keyspace, and after a restore';

CREATE FUNCTION datacake.drop_keyspace(name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM datacake.keyspace k WHERE k.schema_name = name AND k.table_name = 'entries' AND k.kind = 'keyspace') THEN
        RAISE EXCEPTION 'keyspace "%" does not exist', name USING ERRCODE = 'undefined_object',
            HINT = 'Look at datacake.keyspaces.';
    END IF;
    PERFORM datacake.unreplicate_table(format('%I.entries', name)::regclass);
    EXECUTE format('DROP SCHEMA %I CASCADE', name);
END $$;
COMMENT ON FUNCTION datacake.drop_keyspace(text) IS
    'drops schema, table and functions of a keyspace here; on the other nodes the table becomes an ordinary one';

-- ---------------------------------------------------------------------------
-- Clock and waiting
-- ---------------------------------------------------------------------------
CREATE FUNCTION datacake.clock() RETURNS datacake.hlc
    AS 'MODULE_PATHNAME', 'datacake_clock' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION datacake.clock() IS 'a new stamp of this node, greater than all it has drawn or seen';
CREATE FUNCTION datacake.next_id() RETURNS bigint
    AS 'MODULE_PATHNAME', 'datacake_next_id' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION datacake.next_id() IS 'a bigint that no other call in the cluster returns, ordered by time: for primary keys';
CREATE FUNCTION datacake.last_commit_stamp() RETURNS datacake.hlc
    AS 'MODULE_PATHNAME', 'datacake_last_commit_stamp' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION datacake.last_commit_stamp() IS 'stamp of the last replicated transaction of this session, or NULL';
CREATE FUNCTION datacake.last_commit(OUT stamp datacake.hlc, OUT level text, OUT required integer, OUT acked integer, OUT nodes integer[])
    RETURNS record AS 'MODULE_PATHNAME', 'datacake_last_commit' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION datacake.last_commit() IS
    'the last replicated transaction of this session: the level it asked for, how many nodes that needs, how many and which members are known to have it flushed by now; NULL before the first';
CREATE FUNCTION datacake.await(level text DEFAULT NULL, timeout interval DEFAULT NULL) RETURNS void
    AS 'MODULE_PATHNAME', 'datacake_await' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION datacake.await(text, interval) IS
    'waits until the last replicated transaction of this session has reached a level, by default the one it asked for; after the timeout, by default datacake.consistency_timeout, an error: committed here, level unknown';
CREATE FUNCTION datacake.await_stamp(stamp datacake.hlc, timeout interval DEFAULT '10 s') RETURNS boolean
    AS 'MODULE_PATHNAME', 'datacake_await_stamp' LANGUAGE C STRICT VOLATILE;
COMMENT ON FUNCTION datacake.await_stamp(datacake.hlc, interval) IS
    'waits until this node has everything its source committed up to the stamp; false after the timeout';

-- ---------------------------------------------------------------------------
-- Cluster
-- ---------------------------------------------------------------------------
CREATE FUNCTION datacake.join(seed text, replace boolean DEFAULT false) RETURNS void
    AS 'MODULE_PATHNAME', 'datacake_join' LANGUAGE C STRICT;
COMMENT ON FUNCTION datacake.join(text, boolean) IS
    'looks for the cluster at this host:port, too, until the next restart; a node that left or was removed comes back; replace: as a new server under a node id that the cluster knows';
CREATE FUNCTION datacake.leave() RETURNS void
    AS 'MODULE_PATHNAME', 'datacake_leave' LANGUAGE C STRICT;
COMMENT ON FUNCTION datacake.leave() IS
    'hands over what only this node has and leaves the cluster; its tables stay as they are; datacake.join() brings it back';
CREATE FUNCTION datacake.force_members(survivors integer[], confirmation text) RETURNS void
    AS 'MODULE_PATHNAME', 'datacake_force_members' LANGUAGE C STRICT;
COMMENT ON FUNCTION datacake.force_members(integer[], text) IS
    'when a majority of the members is lost for good: makes these nodes the only members; what only the others have is lost';
CREATE FUNCTION datacake.epoch() RETURNS bigint
    AS 'MODULE_PATHNAME', 'datacake_epoch' LANGUAGE C STRICT;
COMMENT ON FUNCTION datacake.epoch() IS 'the number of the member list that a majority agreed on, as this node knows it';
CREATE FUNCTION datacake.remove_node(node_id integer) RETURNS void
    AS 'MODULE_PATHNAME', 'datacake_remove_node' LANGUAGE C STRICT;
COMMENT ON FUNCTION datacake.remove_node(integer) IS
    'removes a member that is gone for good: nobody talks to it any more, the others exchange what they have of it, and then no longer wait for it';
CREATE FUNCTION datacake.wait_for_nodes(n integer, timeout interval DEFAULT '30 s') RETURNS void
    AS 'MODULE_PATHNAME', 'datacake_wait_for_nodes' LANGUAGE C STRICT VOLATILE;
COMMENT ON FUNCTION datacake.wait_for_nodes(integer, interval) IS
    'waits until this node exchanges changes both ways with n - 1 others; error after the timeout';
CREATE FUNCTION datacake.verify(timeout interval DEFAULT '10 s') RETURNS boolean
    AS 'MODULE_PATHNAME', 'datacake_verify' LANGUAGE C STRICT VOLATILE;
COMMENT ON FUNCTION datacake.verify(interval) IS
    'true as soon as all live nodes hold the same rows in all keyspaces; false after the timeout; reads every row';
CREATE FUNCTION datacake.repair(relation regclass DEFAULT NULL, node_id integer DEFAULT NULL,
    OUT keyspace regclass, OUT node integer, OUT differing bigint, OUT fetched bigint, OUT pushed bigint, OUT kept bigint,
    OUT in_flight bigint, OUT scrubbed bigint, OUT mended bigint, OUT lost bigint, OUT images bigint,
    OUT bytes_sent bigint, OUT bytes_received bigint, OUT round_trips integer, OUT elapsed_ms float8)
    RETURNS SETOF record AS 'MODULE_PATHNAME', 'datacake_repair' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION datacake.repair(regclass, integer) IS
    'compares one or all keyspaces with one or all live nodes and mends both; reads the tables, too';
CREATE FUNCTION datacake.pause(node_id integer DEFAULT NULL) RETURNS void
    AS 'MODULE_PATHNAME', 'datacake_pause' LANGUAGE C;
COMMENT ON FUNCTION datacake.pause(integer) IS 'stops the exchange with one peer, or with all, both ways, until resume() or a restart';
CREATE FUNCTION datacake.resume(node_id integer DEFAULT NULL) RETURNS void
    AS 'MODULE_PATHNAME', 'datacake_resume' LANGUAGE C;
COMMENT ON FUNCTION datacake.resume(integer) IS 'goes on with what pause() stopped';
CREATE FUNCTION datacake.retry() RETURNS bigint
    AS 'MODULE_PATHNAME', 'datacake_retry' LANGUAGE C;
COMMENT ON FUNCTION datacake.retry() IS 'has waiting changes and definitions tried again within a second; returns how many changes wait';

-- ---------------------------------------------------------------------------
-- Services
-- ---------------------------------------------------------------------------
CREATE FUNCTION datacake.register_service(name text, handler regprocedure) RETURNS void
    AS 'MODULE_PATHNAME', 'datacake_register_service' LANGUAGE C STRICT;
COMMENT ON FUNCTION datacake.register_service(text, regprocedure) IS
    'offers a function jsonb -> jsonb of this node to all nodes, under a name; it runs as the role that calls it';
CREATE FUNCTION datacake.unregister_service(name text) RETURNS void
    AS 'MODULE_PATHNAME', 'datacake_unregister_service' LANGUAGE C STRICT;
COMMENT ON FUNCTION datacake.unregister_service(text) IS 'takes back what register_service() offered on this node';
CREATE FUNCTION datacake.call(node_id integer, service text, payload jsonb DEFAULT NULL, timeout interval DEFAULT '10 s') RETURNS jsonb
    AS 'MODULE_PATHNAME', 'datacake_call' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION datacake.call(integer, text, jsonb, interval) IS
    'runs a service on one node as the current role, there in a transaction of its own; its error is raised here';
CREATE FUNCTION datacake.call_many(service text, payload jsonb DEFAULT NULL, level text DEFAULT 'all', timeout interval DEFAULT '10 s',
    OUT node_id integer, OUT result jsonb, OUT sqlstate text, OUT error text)
    RETURNS SETOF record AS 'MODULE_PATHNAME', 'datacake_call_many' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION datacake.call_many(text, jsonb, text, interval) IS
    'runs a service on all members at once; returns a row for each as soon as so many have answered as the level says; error if they cannot any more';

-- ---------------------------------------------------------------------------
-- Views
-- ---------------------------------------------------------------------------
CREATE VIEW datacake.services AS
    SELECT name, coalesce(handler, symbol || ' in ' || library) AS handler, coalesce(owner, role) AS role, registered_by, registered_at
      FROM datacake.service ORDER BY name;
COMMENT ON VIEW datacake.services IS 'services of this node: name; a function and its owner, or a symbol and whose members may call it; who registered it and when';

CREATE FUNCTION datacake.show_nodes(OUT node_id integer, OUT name text, OUT data_center text, OUT state text, OUT local boolean,
    OUT incarnation bigint, OUT address text, OUT conninfo text, OUT since timestamptz, OUT heard_at timestamptz, OUT phi float8,
    OUT floor datacake.hlc, OUT clock datacake.hlc, OUT clock_offset_ms float8, OUT lag interval, OUT version text, OUT wire text,
    OUT paused boolean, OUT complaint text)
    RETURNS SETOF record AS 'MODULE_PATHNAME', 'datacake_nodes' LANGUAGE C VOLATILE;
CREATE VIEW datacake.nodes AS SELECT * FROM datacake.show_nodes() ORDER BY node_id;
COMMENT ON VIEW datacake.nodes IS 'the nodes of the cluster as this one sees them; every change of state, member list or description is notified on channel datacake_membership';
COMMENT ON COLUMN datacake.nodes.state IS 'unknown (named by another node, not yet heard), joining, alive, suspect, dead, leaving, left, or removed';
COMMENT ON COLUMN datacake.nodes.phi IS 'how unusual its silence is; suspect and dead follow from it';
COMMENT ON COLUMN datacake.nodes.lag IS 'from what is here of it up to its clock when it last spoke; of this node: the age of its watermark, which open transactions hold back';
COMMENT ON COLUMN datacake.nodes.version IS 'of the library that it runs';
COMMENT ON COLUMN datacake.nodes.wire IS 'versions of the peer protocol that it speaks';

CREATE FUNCTION datacake.show_peers(OUT node_id integer, OUT state text, OUT since timestamptz, OUT incoming integer,
    OUT acked_watermark datacake.hlc, OUT taken datacake.hlc, OUT queued bigint, OUT sent_batches bigint, OUT sent_rows bigint,
    OUT sent_bytes bigint, OUT acked_batches bigint, OUT catchups bigint, OUT catchup_rows bigint, OUT lag_ms float8,
    OUT lag_p50_ms float8, OUT lag_p99_ms float8, OUT lag_max_ms float8, OUT last_error text, OUT last_error_at timestamptz)
    RETURNS SETOF record AS 'MODULE_PATHNAME', 'datacake_peers' LANGUAGE C VOLATILE;
CREATE VIEW datacake.peers AS
    SELECT p.node_id, n.name, p.state, p.since, p.incoming, p.acked_watermark, p.taken, p.queued, p.sent_batches, p.sent_rows,
           p.sent_bytes, p.acked_batches, p.catchups, p.catchup_rows, p.lag_ms, p.lag_p50_ms, p.lag_p99_ms, p.lag_max_ms,
           p.last_error, p.last_error_at,
           (SELECT count(*) FROM datacake.quarantine q WHERE datacake.node_of(q.stamp) = p.node_id) AS waiting
      FROM datacake.show_peers() p LEFT JOIN datacake.show_nodes() n USING (node_id) ORDER BY node_id;
COMMENT ON VIEW datacake.peers IS 'the links to the other nodes: what was sent, acknowledged, how far behind, and what went wrong last';
COMMENT ON COLUMN datacake.peers.waiting IS 'changes of that node that cannot be applied here yet; datacake.quarantine says why';

CREATE FUNCTION datacake.show_progress(OUT phase text, OUT node_id integer, OUT keyspace regclass, OUT rows_done bigint,
    OUT rows_estimated bigint, OUT bytes bigint, OUT bytes_per_s float8, OUT started_at timestamptz)
    RETURNS SETOF record AS 'MODULE_PATHNAME', 'datacake_progress' LANGUAGE C VOLATILE;
CREATE VIEW datacake.progress AS SELECT * FROM datacake.show_progress();
COMMENT ON VIEW datacake.progress IS 'what takes long: copying node_id while this node is empty, or sending node_id what it lacks; the keyspace at hand, rows and bytes of all';

CREATE FUNCTION datacake.show_keyspaces(OUT id bigint, OUT relation regclass, OUT entries bigint, OUT live bigint, OUT dead bigint,
    OUT bytes bigint, OUT sum bigint, OUT captured bigint, OUT applied bigint, OUT conflicts bigint)
    RETURNS SETOF record AS 'MODULE_PATHNAME', 'datacake_keyspaces' LANGUAGE C VOLATILE;
CREATE VIEW datacake.keyspaces AS
    SELECT s.id, s.relation, s.entries, s.live, s.dead, s.bytes, s.captured, s.applied, s.conflicts,
           (SELECT count(*) FROM datacake.quarantine q WHERE q.keyspace = s.id) AS waiting,
           (SELECT u.message FROM datacake.unrealized u WHERE u.id = s.id) AS complaint
      FROM datacake.show_keyspaces() s WHERE s.id <> 1 ORDER BY s.id;
COMMENT ON VIEW datacake.keyspaces IS 'the replicated tables of this node: entries of their metadata, what was captured, applied, in conflict, waiting';

CREATE FUNCTION datacake.horizon() RETURNS datacake.hlc
    AS 'MODULE_PATHNAME', 'datacake_horizon' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION datacake.horizon() IS 'the stamp up to which every member has everything; deaths at or below it are forgotten; NULL: none yet';
CREATE FUNCTION datacake.show_members(OUT node_id integer, OUT state text, OUT incarnation bigint, OUT floor datacake.hlc, OUT held_because text)
    RETURNS SETOF record AS 'MODULE_PATHNAME', 'datacake_members' LANGUAGE C VOLATILE;
CREATE VIEW datacake.members AS
    SELECT m.node_id, n.name, m.state, n.state AS seen, m.incarnation, m.floor,
           CASE WHEN m.state = 'removed' THEN NULL
                WHEN m.held_because IS NOT NULL THEN m.held_because
                WHEN m.floor = min(m.floor) FILTER (WHERE m.state <> 'removed') OVER ()
                     AND m.floor::timestamptz < now() - interval '10 s' THEN 'is behind' END AS holds_purge,
           (SELECT sum(k.dead) FROM datacake.show_keyspaces() k)::bigint AS tombstones
      FROM datacake.show_members() m LEFT JOIN datacake.show_nodes() n USING (node_id) ORDER BY m.node_id;
COMMENT ON VIEW datacake.members IS 'the members of the cluster, what each durably has (floor), and which of them hold back the purge of how many tombstones here, and why';
CREATE VIEW datacake.conflicts AS
    SELECT c.at, s.relation, c.key, c.kind, c.kept, c.lost, c.kept_row, c.lost_row
      FROM datacake.conflict c LEFT JOIN datacake.show_keyspaces() s ON s.id = c.keyspace ORDER BY c.id;
COMMENT ON VIEW datacake.conflicts IS 'concurrent writes: which stamp stayed and which lost, and their rows (NULL: a deletion); seen where the one that lost stood';

CREATE VIEW datacake.repairs AS
    SELECT s.relation AS keyspace, r.node_id AS node, r.at, r.runs, r.differing, r.fetched, r.pushed, r.kept, r.mended, r.lost, r.images,
           r.sent_bytes, r.received_bytes, r.elapsed, r.differing_ever
      FROM datacake.repaired r JOIN datacake.show_keyspaces() s ON s.id = r.keyspace ORDER BY s.relation, r.node_id;
COMMENT ON VIEW datacake.repairs IS 'the last comparison of each keyspace with each node: entries that differed, rows fetched, pushed, kept and mended, bytes';

CREATE FUNCTION datacake.show_workers(OUT name text, OUT pid integer, OUT started_at timestamptz, OUT starts integer)
    RETURNS SETOF record AS 'MODULE_PATHNAME', 'datacake_workers' LANGUAGE C VOLATILE;
CREATE VIEW datacake.workers AS SELECT name, pid, started_at, greatest(starts - 1, 0) AS restarts FROM datacake.show_workers();
COMMENT ON VIEW datacake.workers IS 'the background workers of this node';

CREATE FUNCTION datacake.show_counters(OUT name text, OUT value bigint)
    RETURNS SETOF record AS 'MODULE_PATHNAME', 'datacake_counters' LANGUAGE C VOLATILE;
CREATE VIEW datacake.stat_counters AS SELECT * FROM datacake.show_counters();
COMMENT ON VIEW datacake.stat_counters IS 'counters of this server since its start';

-- ---------------------------------------------------------------------------
-- Privileges: nothing to PUBLIC but what defining a table needs
-- ---------------------------------------------------------------------------
REVOKE ALL ON ALL ROUTINES IN SCHEMA datacake FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA datacake FROM PUBLIC;
-- who revokes the first takes nothing from the peers
GRANT USAGE ON SCHEMA datacake TO PUBLIC;
GRANT USAGE ON SCHEMA datacake TO datacake_peer, datacake_admin, datacake_reader;
GRANT EXECUTE ON FUNCTION datacake.hlc_in(cstring), datacake.hlc_out(datacake.hlc), datacake.hlc_recv(internal),
    datacake.hlc_send(datacake.hlc), datacake.hlc_from_bigint(bigint), datacake.hlc_to_timestamptz(datacake.hlc),
    datacake.node_of(datacake.hlc), datacake.hlc_lt(datacake.hlc, datacake.hlc), datacake.hlc_le(datacake.hlc, datacake.hlc),
    datacake.hlc_eq(datacake.hlc, datacake.hlc), datacake.hlc_ne(datacake.hlc, datacake.hlc),
    datacake.hlc_ge(datacake.hlc, datacake.hlc), datacake.hlc_gt(datacake.hlc, datacake.hlc),
    datacake.hlc_cmp(datacake.hlc, datacake.hlc), datacake.hlc_hash(datacake.hlc),
    datacake.ask_level(text), datacake.reads_here(text), datacake.read_newest(anyelement, anycompatiblearray, text), datacake.clock(), datacake.next_id(),
    datacake.last_commit_stamp(), datacake.last_commit(), datacake.await(text, interval),
    datacake.await_stamp(datacake.hlc, interval), datacake.replicate_table(regclass), datacake.unreplicate_table(regclass),
    datacake.stamp_new(regclass, datacake.hlc, internal), datacake.stamp_over(datacake.hlc, datacake.hlc, internal)
    TO PUBLIC;
GRANT SELECT ON datacake.copy, datacake.selector, datacake.services, datacake.orphan, datacake.members, datacake.nodes, datacake.peers, datacake.progress, datacake.keyspaces, datacake.workers, datacake.stat_counters, datacake.conflicts,
    datacake.quarantine, datacake.unrealized, datacake.repairs, datacake.keyspace, datacake.vector, datacake.debt TO datacake_reader, datacake_admin;
GRANT SELECT ON datacake.ddl_log TO datacake_admin;
GRANT EXECUTE ON FUNCTION datacake.horizon(), datacake.epoch(), datacake.show_members(), datacake.show_nodes(), datacake.show_peers(), datacake.show_progress(), datacake.show_keyspaces(), datacake.show_workers(),
    datacake.show_counters(), datacake.wait_for_nodes(integer, interval) TO datacake_reader, datacake_admin;
GRANT EXECUTE ON FUNCTION datacake.create_keyspace(text, regtype, regtype), datacake.drop_keyspace(text),
    datacake.define_keyspace_functions(text), datacake.mark_keyspace(text), datacake.join(text, boolean), datacake.leave(), datacake.force_members(integer[], text),
    datacake.remove_node(integer), datacake.verify(interval),
    datacake.pause(integer), datacake.resume(integer), datacake.retry(), datacake.ddl(text, interval),
    datacake.repair(regclass, integer), datacake.register_service(text, regprocedure), datacake.unregister_service(text),
    datacake.register_selector(text, regprocedure), datacake.unregister_selector(text),
    datacake.call(integer, text, jsonb, interval), datacake.call_many(text, jsonb, text, interval) TO datacake_admin;
GRANT EXECUTE ON PROCEDURE datacake.peer_stream() TO datacake_peer;
GRANT EXECUTE ON FUNCTION datacake.peer_hello(bytea), datacake.peer_fingerprint(bytea),
    datacake.peer_register(bytea), datacake.peer_repair(bytea), datacake.peer_copy(bytea), datacake.peer_call(bytea),
    datacake.peer_read(bytea), datacake.peer_command(bytea) TO datacake_peer;
