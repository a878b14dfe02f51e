-- LIBRARY stands for the path of the library
CREATE FUNCTION example_stamp() RETURNS text AS 'LIBRARY' LANGUAGE C;
CREATE FUNCTION example_observe(datacake.hlc) RETURNS boolean AS 'LIBRARY' LANGUAGE C STRICT;
CREATE FUNCTION example_nodes() RETURNS text AS 'LIBRARY' LANGUAGE C;
CREATE FUNCTION example_watch() RETURNS void AS 'LIBRARY' LANGUAGE C;
CREATE FUNCTION example_poll() RETURNS text AS 'LIBRARY' LANGUAGE C;
CREATE FUNCTION example_register(name text, library text, role text) RETURNS void AS 'LIBRARY' LANGUAGE C;
CREATE FUNCTION example_unregister(name text) RETURNS void AS 'LIBRARY' LANGUAGE C STRICT;
CREATE FUNCTION example_call(nodes integer[], service text, payload jsonb, timeout_ms integer) RETURNS text AS 'LIBRARY' LANGUAGE C;
CREATE FUNCTION example_choose(level text) RETURNS text AS 'LIBRARY' LANGUAGE C STRICT;
