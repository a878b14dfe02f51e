# What is in a column arrives as it was: every built-in type, types of one's
# own whose numbers differ between the nodes, values that print otherwise under
# other settings, large ones, and columns that the nodes do not have alike.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use DatacakeCluster;
use Test::More;

my $c = DatacakeCluster->new(nodes => 2, conf => { 'datacake.repair_interval' => 0 });

# Values of every built-in type that a column can have; what is left out below
# has no input function, or is for internal use.
my %values = (
	'bool'              => [qw(true false)],
	'bytea'             => [ '\x00ff5c27', '' ],
	'"char"'            => [ 'a', '' ],
	'name'              => ['a name'],
	'int2'              => [ -32768, 32767 ],
	'int4'              => [ -2147483648, 2147483647 ],
	'int8'              => [ '-9223372036854775808', '9223372036854775807' ],
	'float4'            => [ 'NaN', '-Infinity', '-0', '1.1754944e-38', '0.1' ],
	'float8'            => [ 'NaN', 'Infinity', '-0', '4.9e-324', '0.30000000000000004' ],
	'numeric'           => [ 'NaN', 'Infinity', '-Infinity', '1e-1000', '-12345678901234567890.000', '1e1000' ],
	'money'             => [ '-12345678.90', '0.01' ],
	'text'              => [ "Gr\xc3\xbc\xc3\x9fe, \xe4\xb8\x96\xe7\x95\x8c ' \" \\ \t", '', '{,NULL,"' ],
	'varchar(20)'       => [ 'varying ', '' ],
	'char(6)'           => [ 'char', '' ],
	'bpchar'            => [ 'blanks   ', '' ],
	'date'              => [ 'infinity', '-infinity', '2024-02-29', '0044-03-15 BC' ],
	'time'              => [ '23:59:59.999999', '24:00:00' ],
	'timetz'            => [ '23:59:59.999999+13:45', '00:00-12' ],
	'timestamp'         => [ 'infinity', '-infinity', '4713-01-01 00:00:00 BC', '1999-12-31 23:59:59.999999' ],
	'timestamptz'       => [ 'infinity', '-infinity', '294276-12-31 23:59:59.999999+00', '2024-03-31 02:30:00+02' ],
	'interval'          => [ '1 mon -3 days 04:05:06.789', '-178000000 years', '0' ],
	'uuid'              => ['00112233-4455-6677-8899-aabbccddeeff'],
	'json'              => ['{"b": 1,  "a": [null], "b": 1.0}'],
	'jsonb'             => [ '{"b": 1, "a": [null, "\u00fc"]}', '"text"', 'null', '123456789012345678901234567890.5' ],
	'jsonpath'          => ['$.a[*] ? (@ > 3)'],
	'xml'               => [ '<a b="c">d</a>', 'no document<b/>', '<?xml version="1.0" encoding="UTF-8" standalone="yes"?><a/>' ],
	'inet'              => [ '2001:db8::1/64', '192.168.0.1' ],
	'cidr'              => [ '10.0.0.0/8', '2001:db8::/32' ],
	'macaddr'           => ['08:00:2b:01:02:03'],
	'macaddr8'          => ['08:00:2b:01:02:03:04:05'],
	'bit(5)'            => ['10101'],
	'varbit'            => [ '1', '', '101010101010101' ],
	'point'             => ['(1.5,-2e300)'],
	'line'              => ['{1,-2,3.25}'],
	'lseg'              => ['[(0,0),(1,1e-5)]'],
	'box'               => ['(1,1),(0,0)'],
	'path'              => [ '[(0,0),(1,1),(2,0)]', '((0,0),(1,1))' ],
	'polygon'           => ['((0,0),(1,1),(2,0))'],
	'circle'            => ['<(0.1,2),3>'],
	'tsvector'          => [ "a:1A fat:2B,4C 'Joe''s':7", '' ],
	'tsquery'           => [q{'fat' & !( 'rat':AB <-> 'cat' )}],
	'int4range'         => [ '[3,9)', 'empty', '(,5)' ],
	'int8range'         => ['[1,)'],
	'numrange'          => ['(1.50,2e10]'],
	'tsrange'           => ['[2024-01-01 12:00, infinity]'],
	'tstzrange'         => ['[2024-01-01 12:00+03,)'],
	'daterange'         => ['[2024-02-28,2024-03-02)'],
	'int4multirange'    => [ '{[1,3),[5,9)}', '{}' ],
	'int8multirange'    => ['{[1,3),[5,)}'],
	'nummultirange'     => ['{(1.5,2.5],[9,9]}'],
	'tsmultirange'      => ['{[2024-01-01,2024-01-02)}'],
	'tstzmultirange'    => ['{[2024-01-01 00:00+03,2024-01-02 00:00+03)}'],
	'datemultirange'    => ['{[2024-01-01,2024-01-02),[2025-01-01,)}'],
	'oid'               => [4294967295],
	'tid'               => ['(7,9)'],
	'xid'               => [4294967295],
	'xid8'              => ['18446744073709551615'],
	'cid'               => [7],
	'pg_lsn'            => ['FFFFFFFF/0'],
	'pg_snapshot'       => ['10:20:10,14,15'],
	'txid_snapshot'     => ['10:20:10,14,15'],
	'int2vector'        => ['1 -2 3'],
	'oidvector'         => ['1 2 3'],
	'refcursor'         => ['a cursor'],
	'aclitem'           => ['datacake_reader=r/datacake_admin'],
	'regproc'           => ['now'],
	'regprocedure'      => ['datacake.pause(integer)'],
	'regoper'           => ['||/'],
	'regoperator'       => ['+(integer,integer)'],
	'regclass'          => [ 'stranger', 'pg_class' ],
	'regcollation'      => ['"C"'],
	'regtype'           => [ 'mood', 'datacake.hlc', 'integer[]' ],
	'regrole'           => ['datacake_peer'],
	'regnamespace'      => ['datacake'],
	'regconfig'         => ['english'],
	'regdictionary'     => ['simple'],
	'datacake.hlc'      => ['2026-11-20 17:30:00.123456+00@3'],
);
my @left_out = qw(gtsvector pg_node_tree pg_ndistinct pg_dependencies pg_mcv_list pg_brin_bloom_summary pg_brin_minmax_multi_summary);

# The rows of a table without their stamps, as text under the standard settings.
my $plain = "SET DateStyle = 'ISO, MDY'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC'; SET extra_float_digits = 1;
	SET bytea_output = 'hex'; SET search_path = public; SET quote_all_identifiers = off;";

sub rows
{
	my ($table) = @_;
	return "$plain SELECT md5(string_agg((to_jsonb(x) - '_stamp')::text, E'\\n' ORDER BY id)), count(*) FROM $table x";
}

# Settings under which the same values print otherwise.
my $hostile = "SET DateStyle = 'German'; SET IntervalStyle = 'sql_standard'; SET TimeZone = 'Asia/Kathmandu'; SET extra_float_digits = -15;
	SET bytea_output = 'escape'; SET lc_monetary = 'C.UTF-8'; SET xmloption = 'document'; SET quote_all_identifiers = on; SET client_encoding = 'UTF8';
	SET search_path = elsewhere, public;";

subtest 'types have other numbers on the other node' => sub {
	my @types = (
		'CREATE TYPE mood AS ENUM (\'sad\', \'ok\', \'happy\')',
		'CREATE TYPE pair AS (a int, b mood, "with space" timestamptz)',
		'CREATE TYPE nest AS (p pair, ps pair[], m money)',
		'CREATE DOMAIN positive AS int CHECK (VALUE > 0)',
		'CREATE DOMAIN moods AS mood[]',
		'CREATE TYPE positives AS RANGE (subtype = positive)',
		'CREATE TYPE moodrange AS RANGE (subtype = mood)');
	$c->sql(1, "CREATE SCHEMA elsewhere; CREATE TABLE stranger (id int)");
	$c->sql(1, $_) foreach @types, 'CREATE EXTENSION hstore', 'CREATE EXTENSION citext';
	$c->sql(2, $_) foreach 'CREATE SCHEMA elsewhere', 'CREATE EXTENSION citext', 'CREATE TYPE first AS (a int)', 'CREATE EXTENSION hstore',
	  @types[ 3, 0, 5, 4, 6, 1, 2 ], 'CREATE TABLE stranger (id int)';
	my @oids = map { $c->sql($_, q{SELECT string_agg(oid::text, ' ' ORDER BY typname) FROM pg_type
		WHERE typname IN ('mood', 'pair', 'nest', 'positive', 'moods', 'positives', 'hstore', 'citext', 'stranger')}) } 1, 2;
	my @other = split ' ', $oids[1];
	is(scalar(grep { $_ eq shift @other } split ' ', $oids[0]), 0, 'each of nine');
};

subtest 'every built-in type, single and as an array, written under other settings' => sub {
	my $missing = $c->sql(1, "SELECT string_agg(t.oid::regtype::text, ' ') FROM pg_type t WHERE t.typnamespace = 'pg_catalog'::regnamespace
		AND t.typtype IN ('b', 'r', 'm', 'e') AND t.typcategory <> 'A' AND t.typname NOT IN ('" . join("', '", @left_out) . "')
		AND t.oid NOT IN (" . join(', ', map { (my $type = $_) =~ s/'/''/g; "'$type'::regtype" } keys %values) . ')');
	is($missing, '', 'values for each of them');
	my @types = sort keys %values;
	my $n     = 0;
	my $most  = 0;
	my @columns = map { $n++; "c$n $_, a$n $_\[]" } @types;
	foreach my $values (values %values) { $most = @$values if @$values > $most; }
	foreach my $schema ('elsewhere', 'public')
	{
		$c->sql(1, "CREATE TABLE $schema.builtin (id int PRIMARY KEY, " . join(', ', @columns) . ')');
	}
	$c->replicate('public.builtin');
	# the plain twin gets them as literals
	foreach my $i (0 .. $most - 1)
	{
		my (@names, @literals);
		foreach my $k (0 .. $#types)
		{
			my $value = $values{ $types[$k] }[$i] // next;
			(my $literal = $value) =~ s/'/''/g;
			push @names, 'c' . ($k + 1), 'a' . ($k + 1);
			push @literals, "'$literal'", "ARRAY['$literal', NULL, '$literal']::$types[$k]\[]";
		}
		$c->sql(1, 'INSERT INTO elsewhere.builtin (id, ' . join(', ', @names) . ") VALUES ($i, " . join(', ', @literals) . ')');
	}
	$c->sql(1, 'INSERT INTO elsewhere.builtin (id) VALUES (100)'); # nothing but nulls
	my $expected = $c->sql(1, rows('elsewhere.builtin'));
	$c->sql(1, "$hostile INSERT INTO public.builtin SELECT * FROM elsewhere.builtin");
	$c->await_all(rows('public.builtin'), $expected, 'both nodes have what a plain table has');
	$c->sql(2, "$hostile UPDATE public.builtin SET id = id + 1000");
	$c->await_all(rows('public.builtin'),
		$c->sql(1, 'UPDATE elsewhere.builtin SET id = id + 1000; ' . rows('elsewhere.builtin')), 'and after they went back the other way');
	$c->sql(1, "$hostile UPDATE public.builtin SET c1 = c1 WHERE id < 1002");
	$c->verify_ok('with the same bytes, whatever the settings of who wrote them');
};

subtest "the user's types: enums, composite types, domains, ranges, hstore, citext and arrays of them" => sub {
	$c->sql(1, q{CREATE TABLE own (id int PRIMARY KEY, m mood, ms mood[], p pair, ps pair[], n nest, d positive, ds positive[], mm moods,
		r positives, mr moodrange, mu positives_multirange, h hstore, hs hstore[], ci citext, row_of stranger, cp citext[][])});
	$c->replicate('own');
	my $insert = q{INSERT INTO own VALUES (%d, 'ok', '{ok,NULL,sad}', '(1,happy,"2024-01-01 00:00:00+00")',
		ARRAY[(2, 'sad', 'infinity'), NULL, (NULL, NULL, NULL)]::pair[],
		('(3,ok,)', ARRAY[(4, 'ok', NULL)]::pair[], '1234.5')::nest, 7, '{1,2}', '{happy}', '[3,8)', '[sad,ok]', '{[1,3),[7,9)}', 'a=>1, "b c"=>NULL',
		ARRAY['x=>"\"y,"', ''::hstore], 'CaSe', ROW(9), '{{A,b},{C,d}}')};
	$c->sql(1, $hostile . sprintf $insert, 1);
	$c->sql(2, sprintf $insert, 2);
	$c->sql(2, "SET search_path = elsewhere; SET lc_monetary = 'C.UTF-8'; UPDATE public.own SET id = id WHERE id = 2");
	my $is = '(1,happy,"2024-01-01 00:00:00+00")|{"(2,sad,infinity)",NULL,"(,,)"}|("(3,ok,)","{""(4,ok,)""}","$1,234.50")|{"\"x\"=>\"\\\\\"y,\"",""}|{{A,b},{C,d}}';
	$c->await_all("$plain SELECT p, ps, n, hs, cp FROM own ORDER BY id", "$is\n$is", 'both nodes have what was written on either');
	$c->await_all("$plain SELECT count(*) FROM own WHERE m > 'sad' AND ms[3] = 'sad' AND (p).b = 'happy' AND ds[2] = 2 AND mm[1] = 'happy'
		AND r @> 7::positive AND mr @> 'ok'::mood AND mu @> 8::positive AND h -> 'a' = '1' AND ci = 'CASE' AND (row_of).id = 9 AND (n).m = '1234.5'",
		2, 'and it is what it was, not only looks like it');
	$c->verify_ok('with the same bytes');
	is($c->sql(1, q{SELECT differing + images + fetched + pushed FROM datacake.repair('own')}), 0, 'so repair moves nothing');

	# negative control
	$c->sql(2, q{SET datacake.capture = off; UPDATE own SET ps[1].b = 'happy' WHERE id = 1});
	$c->differ_ok('one field of one element that differs is seen');
	is($c->sql(1, q{SELECT images > 0 FROM datacake.repair('own')}), 't', 'and repaired');
	$c->verify_ok('back to the same bytes');
	$c->await_all("$plain SELECT p, ps, n, hs, cp FROM own ORDER BY id", "$is\n$is", 'namely those that were written');
};

subtest 'types that change are followed, and what does not fit waits' => sub {
	$c->sql(1, q{CREATE TABLE by_mood (m mood PRIMARY KEY, n int)});
	$c->replicate('by_mood');
	$c->sql(1, q{ALTER TYPE mood ADD VALUE 'new'});
	$c->sql(1, q{INSERT INTO by_mood VALUES ('ok', 1), ('new', 2)});
	$c->await(2, 'SELECT message FROM datacake.quarantine', 'invalid input value for enum public.mood: "new"', 'a key that the other node cannot read');
	$c->await(2, 'SELECT m, n FROM by_mood', 'ok|1', 'while other rows pass');
	is($c->sql($_, q{SELECT lost + kept FROM datacake.repair('by_mood')}), 0, "repair is not troubled by it, node $_") foreach 1, 2;
	$c->sql(1, q{DELETE FROM by_mood WHERE m = 'new'});
	$c->await(2, 'SELECT count(*) FROM datacake.quarantine', 0, 'it dies like any other');
	is($c->sql(2, q{SELECT sum(restarts) FROM datacake.workers}), 0, 'and no worker ended over it');
	$c->sql(1, q{INSERT INTO own (id, m) VALUES (10, 'new'); INSERT INTO own (id, ms) VALUES (11, '{new}'); INSERT INTO own (id) VALUES (12)});
	$c->await(2, q{SELECT string_agg(message, '; ' ORDER BY key) FROM datacake.quarantine},
		'invalid input value for enum public.mood: "new"; invalid input value for enum public.mood: "new"', 'a label the other node does not have');
	$c->await(2, 'SELECT count(*) FROM own WHERE id = 12', 1, 'while others pass');
	$c->sql(2, q{ALTER TYPE mood ADD VALUE 'new'; SELECT datacake.retry()});
	$c->await_all(q{SELECT m, ms FROM own WHERE id IN (10, 11) ORDER BY id}, "new|\n|{new}", 'arrives after the same ALTER TYPE');

	$c->sql(1, q{ALTER TYPE pair ADD ATTRIBUTE more text});
	$c->sql(1, q{INSERT INTO own (id, p) VALUES (13, '(1,ok,,more)')});
	my $pair = 'public.pair(a integer, b public.mood, "with space" timestamp with time zone';
	$c->await(2, 'SELECT message FROM datacake.quarantine', qq{column "p" is of type $pair) here and of type $pair, more pg_catalog.text) at the source},
		'a composite type with a column more');
	$c->sql(2, q{ALTER TYPE pair ADD ATTRIBUTE more text; SELECT datacake.retry()});
	$c->await_all(q{SELECT p FROM own WHERE id = 13}, '(1,ok,,more)', 'arrives after the same ALTER TYPE');

	$c->sql(2, q{ALTER TYPE pair ADD ATTRIBUTE last int});
	$c->sql(1, q{INSERT INTO own (id, p) VALUES (16, '(1,ok,,more)')});
	$c->await(2, q{SELECT count(*) FROM datacake.quarantine WHERE message LIKE '%last integer) here%'}, 1, 'a column less waits, too');
	$c->sql(1, q{ALTER TYPE pair ADD ATTRIBUTE last int});
	is($c->sql(1, q{SELECT images FROM datacake.repair('own')}), 1, 'and repair has it sent as it is after the ALTER TYPE');
	$c->await_all(q{SELECT p FROM own WHERE id = 16}, '(1,ok,,more,)', 'so it arrives');
	$c->sql(2, 'SELECT datacake.retry()');
	$c->await_all('SELECT count(*) FROM datacake.quarantine', 0, 'and waits no more');

	$c->sql(1, q{SELECT datacake.unreplicate_table('by_mood')}); # types of keys keep their names
	$c->await_all(q{SELECT count(*) FROM datacake.keyspace WHERE table_name = 'by_mood'}, 0, 'a table less');
	my $session = $c->session(1);
	$session->query_safe(q{INSERT INTO own (id, m) VALUES (14, 'ok')});
	$c->sql_all('ALTER TYPE mood RENAME TO temper; ALTER TYPE pair SET SCHEMA elsewhere');
	$session->query_safe(q{INSERT INTO own (id, m, p) VALUES (15, 'ok', '(2,sad,,,)')});
	$c->await_all(q{SELECT p FROM own WHERE id = 15}, '(2,sad,,,)', 'sessions that know a type by its former name learn the new one');
	$session->quit;
	$c->await_all('SELECT count(*) FROM datacake.quarantine', 0, 'nothing waits any more');
	$c->verify_ok('all of it the same');

	$c->sql(1, 'CREATE TYPE swapped AS (a int, b int)');
	$c->sql(2, 'CREATE TYPE swapped AS (b int, a int)');
	$c->sql(1, q{CREATE TABLE sw (id int PRIMARY KEY, s swapped); INSERT INTO sw VALUES (1, '(1,2)')});
	$c->replicate('sw');
	$c->await(2, q{SELECT message FROM datacake.quarantine},
		'column "s" is of type public.swapped(b integer, a integer) here and of type public.swapped(a integer, b integer) at the source',
		'a composite type with its columns in another order: the row waits, and no values change places');
	$c->sql(1, q{SELECT datacake.unreplicate_table('sw')});
	$c->await_all(q{SELECT count(*) FROM datacake.keyspace WHERE table_name = 'sw'}, 0, 'given up');
};

subtest 'defaults of a database do not matter between nodes' => sub {
	my %defaults = (DateStyle => 'German', IntervalStyle => 'iso_8601', TimeZone => 'Asia/Kathmandu', extra_float_digits => -15, bytea_output => 'escape',
		xmloption => 'document', quote_all_identifiers => 'on', search_path => 'elsewhere', default_transaction_isolation => 'serializable',
		default_transaction_read_only => 'on', statement_timeout => '5s', row_security => 'off', client_min_messages => 'error');
	$c->sql(2, join '; ', map { "ALTER DATABASE postgres SET $_ = '$defaults{$_}'" } sort keys %defaults);
	$c->restart(2);
	$c->sql(1, q{INSERT INTO own (id, p, n, hs) SELECT 20, p, n, hs FROM own WHERE id = 2; UPDATE builtin SET id = id + 1000});
	$c->sql(2, q{BEGIN READ WRITE; INSERT INTO public.own (id, p, n, hs) SELECT 21, p, n, hs FROM public.own WHERE id = 2; COMMIT});
	$c->await_all("$plain SELECT count(DISTINCT (p, n, hs)), count(*) FROM own WHERE id IN (2, 20, 21)", '1|3', 'rows go both ways');
	is($c->sql(1, q{SELECT datacake.verify('60 s')}), 't', 'and are the same');
	local $ENV{PGOPTIONS} = '-c default_transaction_read_only=off';
	$c->sql(2, join '; ', map { "ALTER DATABASE postgres RESET $_" } sort keys %defaults);
	$c->restart(2);
};

subtest 'large values' => sub {
	$c->sql(1, q{CREATE TABLE large (id int PRIMARY KEY, v text, n int); ALTER TABLE large ALTER v SET STORAGE EXTERNAL});
	$c->replicate('large');
	$c->sql(2, 'ALTER TABLE large ALTER v SET STORAGE EXTERNAL'); # compression would take most of the time
	$c->sql(1, q{INSERT INTO large SELECT 1, repeat(string_agg(md5(g::text), ''), 100), 1 FROM generate_series(1, 32768) g});
	$c->await(2, 'SELECT octet_length(v) FROM large', 104857600, '100 MB arrive');
	$c->sql(2, 'UPDATE large SET n = 2');
	$c->await(1, 'SELECT n, octet_length(v) FROM large', '2|104857600', 'and stay beside an update of another column');
	$c->await_equal('SELECT md5(v) FROM large', 'byte for byte');
	$c->error_ok(1, q{BEGIN; INSERT INTO large VALUES (2, 'x'); INSERT INTO large VALUES (3, repeat('0123456789abcdef', 16777216)); COMMIT},
		qr/row of a replicated table is too large.*the limit is 268435456.*HINT/s, '256 MB are refused, with a hint, before the commit');
	$c->sql(1, q{INSERT INTO large VALUES (4, 'small')});
	$c->await_all('SELECT count(*) FROM large', 2, 'and nothing of it is in the way of others');
	$c->sql(1, q{CREATE TABLE too_large (id int PRIMARY KEY, v text); INSERT INTO too_large VALUES (1, repeat('0123456789abcdef', 16777216))});
	$c->error_ok(1, q{SELECT datacake.replicate_table('too_large')}, qr/row of a replicated table is too large/,
		'a table that has such a row is refused');
	$c->sql(1, 'DROP TABLE too_large; DELETE FROM large');
	$c->verify_ok('the nodes hold the same');
};

subtest 'generated and identity columns, defaults, dropped columns, another order' => sub {
	$c->sql($_, "CREATE SEQUENCE local_ids START $_ INCREMENT 10") foreach 1, 2;
	$c->sql(1, q{CREATE TABLE cols (gone int, id int GENERATED ALWAYS AS IDENTITY (START 1 INCREMENT 2), k int GENERATED BY DEFAULT AS IDENTITY
		(START 1 INCREMENT 2), a text DEFAULT 'a of 1', g text GENERATED ALWAYS AS (upper(a)) STORED, s int DEFAULT nextval('local_ids'), PRIMARY KEY (id));
		ALTER TABLE cols DROP COLUMN gone});
	$c->sql(2, q{CREATE TABLE cols (g text GENERATED ALWAYS AS (upper(a)) STORED, gone int, s int DEFAULT nextval('local_ids'), a text DEFAULT 'a of 2',
		old text, k int GENERATED BY DEFAULT AS IDENTITY (START 2 INCREMENT 2), id int GENERATED ALWAYS AS IDENTITY (START 2 INCREMENT 2), PRIMARY KEY (id));
		ALTER TABLE cols DROP COLUMN gone, DROP COLUMN old});
	$c->replicate('cols');
	foreach my $i (1, 2)
	{
		$c->sql($i, q{INSERT INTO cols DEFAULT VALUES; INSERT INTO cols (a, k) VALUES (NULL, 100);
			INSERT INTO cols (id, a) OVERRIDING SYSTEM VALUE VALUES (} . (50 + $i) . q{, 'own id')});
		$c->error_ok($i, q{INSERT INTO cols (id) VALUES (60)}, qr/cannot insert a non-DEFAULT value into column "id"/, "an identity stays one, node $i");
		$c->error_ok($i, q{INSERT INTO cols (g) VALUES ('x')}, qr/cannot insert a non-DEFAULT value into column "g"/, "as does a generated column, node $i");
	}
	$c->await_all('SELECT id, k, a, g, s FROM cols ORDER BY id', join("\n",
		'1|1|a of 1|A OF 1|1', '2|2|a of 2|A OF 2|2', '3|100|||11', '4|100|||12', '51|3|own id|OWN ID|21', '52|4|own id|OWN ID|22'),
		'values are those of the node that made them');
	$c->sql(2, q{UPDATE cols SET a = 'changed', k = DEFAULT WHERE id = 1});
	$c->await_all('SELECT k, a, g, s FROM cols WHERE id = 1', '6|changed|CHANGED|1', 'and follow an update of the other');
	$c->sql(1, q{CREATE TABLE made (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, s serial, d date DEFAULT current_date, a int DEFAULT 7, g int GENERATED ALWAYS AS (a * 2) STORED);
		INSERT INTO made DEFAULT VALUES});
	$c->replicate('made');
	$c->await_all('SELECT id, s, d = current_date, a, g FROM made', '1|1|t|7|14', 'a table made on the peer');
	$c->sql(2, q{INSERT INTO made (id, s) VALUES (2, 2)});
	$c->await_all('SELECT id, s, d = current_date, a, g FROM made WHERE id = 2', '2|2|t|7|14', 'has defaults and generated columns');
	$c->error_ok(2, 'INSERT INTO made DEFAULT VALUES', qr/null value in column "id"/, 'but no identity or serial, whose numbers would collide');
	$c->verify_ok('all of it the same');
};

subtest 'collations' => sub {
	$c->sql(1, q{CREATE COLLATION nd (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
		CREATE TABLE names (id text COLLATE "C" PRIMARY KEY, n text COLLATE nd UNIQUE, d text)});
	$c->error_ok(1, q{CREATE TABLE nope (id text COLLATE nd PRIMARY KEY); SELECT datacake.replicate_table('nope')},
		qr/equal values of its primary key can have different bytes/, 'a key with a nondeterministic one is refused');
	$c->sql(1, q{SELECT datacake.replicate_table('names'); INSERT INTO names VALUES ('a', 'Ada', 'x')});
	$c->await(2, 'SELECT message FROM datacake.unrealized', 'collation "public.nd" for encoding "UTF8" does not exist', 'one that the other node does not have is asked for');
	$c->sql(2, q{CREATE COLLATION nd (provider = icu, locale = 'und-u-ks-level2', deterministic = false); SELECT datacake.retry()});
	$c->await_all(q{SELECT id FROM names WHERE n = 'ADA'}, 'a', 'and then means the same there');
	$c->error_ok(2, q{INSERT INTO names VALUES ('b', 'ADA', 'y')}, qr/duplicate key value/, 'in unique indexes, too');
	$c->await_all(q{SELECT string_agg(attname || ' ' || attcollation::regcollation, ', ' ORDER BY attname) FROM pg_attribute
		WHERE attrelid = 'names'::regclass AND attnum > 0 AND attcollation <> 0}, 'd "default", id "C", n nd', 'columns have the collations of the definition');
	$c->verify_ok('the same rows');
};

done_testing();
