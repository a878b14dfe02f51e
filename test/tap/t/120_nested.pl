# Transactions by chance on node 1, whose triggers and functions write to the
# tables that their statements write to, also before these end: deleting,
# moving and inserting their rows once more.  After each, node 2 has just what the
# transaction left, here nothing changes any more, and nothing of one writer is a
# conflict.
#
# NESTED_SEED makes the same transactions again, NESTED_SECONDS says for how long.
use strict;
use warnings;

use DatacakeCluster;
use Test::More;
use Time::HiRes qw(time);

my $seed    = $ENV{NESTED_SEED}    // 1;
my $seconds = $ENV{NESTED_SECONDS} // 20;
note "NESTED_SEED=$seed NESTED_SECONDS=$seconds";
srand $seed;

my $c      = DatacakeCluster->new(nodes => 2);
my @tables = qw(a p s u);

# ---- tables: plain, in partitions, of rows that depend on others, of unique values ----

$c->sql(1, q{
	CREATE TABLE a (id int PRIMARY KEY, v text, n int DEFAULT 0);
	CREATE TABLE p (id int PRIMARY KEY, v text, n int DEFAULT 0) PARTITION BY RANGE (id);
	CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (5);
	CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM (5) TO (9);
	CREATE TABLE p_3 PARTITION OF p DEFAULT;
	CREATE TABLE s (id int PRIMARY KEY, v text, n int DEFAULT 0, above int REFERENCES s ON DELETE CASCADE ON UPDATE CASCADE,
		beside int REFERENCES a ON DELETE SET NULL ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED);
	CREATE TABLE u (id int PRIMARY KEY, v text, n int UNIQUE)});
$c->replicate($_) foreach @tables;

# ---- statements by chance, made where they are run -------------------------------------

$c->sql(1, q{
	CREATE FUNCTION up_to(n int) RETURNS int LANGUAGE sql AS 'SELECT floor(random() * n)::int';
	CREATE FUNCTION one_of(VARIADIC choices text[]) RETURNS text LANGUAGE sql AS 'SELECT choices[1 + up_to(cardinality(choices))]';

	-- a key: near that of the row that is being written, if there is one
	CREATE FUNCTION a_key(near int) RETURNS int LANGUAGE sql AS $$
		SELECT CASE WHEN near IS NULL OR random() < 0.4 THEN 1 + up_to(12) ELSE near + up_to(3) - 1 END $$;

	CREATE FUNCTION a_row(id text, v text) RETURNS text LANGUAGE sql AS $$ SELECT format('%s, %L, %s', id, v, up_to(15)) $$;

	CREATE FUNCTION a_condition(near int) RETURNS text LANGUAGE sql AS $$
		SELECT one_of('true', 'id > ' || a_key(near), 'id % 2 = ' || up_to(2), 'n < 5', 'id = ' || a_key(near), 'id = ' || a_key(near),
			format('id BETWEEN %1$s AND %1$s + 3', a_key(near))) $$;

	CREATE FUNCTION a_change(t text, v text) RETURNS text LANGUAGE sql AS $$
		SELECT one_of(format('v = %L', v), format('v = left(v, 20) || %L', v), 'id = id + ' || 1 + up_to(5), 'id = id - 1', 'id = ' || 1 + up_to(12),
			CASE t WHEN 'u' THEN 'n = n + 1' WHEN 's' THEN 'above = (SELECT min(id) FROM s), beside = (SELECT max(id) FROM a)' ELSE 'n = (n + 7) % 13' END) $$;

	CREATE FUNCTION a_statement(t text, near int, v text) RETURNS text LANGUAGE sql AS $$
		SELECT one_of(
			format('INSERT INTO %I (id, v, n) VALUES (%s)', t, a_row(a_key(near)::text, v)),
			format('INSERT INTO %I (id, v, n) VALUES (%s), (%s), (%s) ON CONFLICT DO NOTHING', t, a_row(a_key(near)::text, v), a_row('20', v), a_row(a_key(near)::text, v)),
			format('INSERT INTO %I (id, v, n) VALUES (%s) ON CONFLICT (id) DO UPDATE SET %s', t, a_row(a_key(near)::text, v),
				one_of('v = excluded.v', 'id = excluded.id + 1')),
			format('UPDATE %I SET %s WHERE %s', t, a_change(t, v), a_condition(near)),
			format('UPDATE %I SET %s WHERE %s', t, a_change(t, v), a_condition(near)),
			format('DELETE FROM %I WHERE %s', t, a_condition(near)),
			format('WITH gone AS (DELETE FROM %1$I WHERE %2$s RETURNING id) INSERT INTO %1$I (id, v, n) SELECT %3$s FROM gone', t, a_condition(near),
				a_row(one_of('id', 'id + 1'), v)),
			format('MERGE INTO %I d USING generate_series(%s, 9) q ON d.id = q WHEN MATCHED AND n > 5 THEN DELETE WHEN MATCHED THEN UPDATE SET v = %L '
				'WHEN NOT MATCHED THEN INSERT (id, v, n) VALUES (%s)', t, a_key(near), v, a_row('q', v)),
			format('INSERT INTO %I (id, v, n) SELECT %s FROM generate_series(%s, 8) q ON CONFLICT DO NOTHING', t,
				a_row(format('act(%L, q, %L)', t, left(v, 8) || '('), v), a_key(near)),
			format('UPDATE %I SET v = v || act(%L, id, %L) WHERE %s', t, t, left(v, 8) || '(', a_condition(near)),
			format('DELETE FROM %I WHERE act(%L, id, %L) > 0 AND %s', t, t, left(v, 8) || '(', a_condition(near))) $$;

	-- runs one, now and then in a savepoint that is taken back; returns its argument
	CREATE FUNCTION act(t text, near int, v text) RETURNS int LANGUAGE plpgsql AS $$
		BEGIN
			IF length(v) - length(replace(v, '(', '')) > 3 OR random() < 0.3 THEN
				RETURN near;
			END IF;
			BEGIN
				EXECUTE a_statement(CASE WHEN random() < 0.7 THEN t ELSE one_of('a', 'p', 's', 'u') END, near, v || up_to(100));
				IF random() < 0.1 THEN
					RAISE EXCEPTION 'by chance';
				END IF;
			EXCEPTION WHEN others THEN NULL;
			END;
			RETURN near;
		END $$;

	-- a trigger that acts where nested.triggers says so
	CREATE FUNCTION fires() RETURNS trigger LANGUAGE plpgsql AS $$
		DECLARE
			t text := coalesce((SELECT inhparent::regclass::text FROM pg_inherits WHERE inhrelid = tg_relid), tg_table_name);
			r record := CASE WHEN tg_op = 'DELETE' THEN old ELSE new END;
		BEGIN
			IF pg_trigger_depth() < 4 AND strpos(current_setting('nested.triggers'), format(' %s %s ', t, tg_argv[0])) > 0 THEN
				PERFORM act(t, CASE WHEN tg_level = 'ROW' THEN r.id END, tg_argv[0]);
				IF tg_level = 'ROW' AND tg_when = 'BEFORE' AND random() < 0.05 THEN
					RETURN NULL;
				END IF;
			END IF;
			RETURN r;
		END $$});

my @triggers;
foreach my $t (@tables)
{
	foreach my $operation (qw(INSERT UPDATE DELETE))
	{
		foreach my $kind ([ 'BEFORE', 'ROW' ], [ 'AFTER', 'ROW' ], [ 'AFTER', 'STATEMENT' ], [ 'AFTER', 'DEFERRED' ])
		{
			my $name = lc join '_', @$kind, $operation;
			my ($create, $level) = $kind->[1] eq 'DEFERRED' ? ('CONSTRAINT TRIGGER', 'DEFERRABLE INITIALLY DEFERRED FOR EACH ROW') : ('TRIGGER', "FOR EACH $kind->[1]");
			$c->sql(1, "CREATE $create $name $kind->[0] $operation ON $t $level EXECUTE FUNCTION fires('$name')");
			push @triggers, "$t $name";
		}
	}
}

# ---- transactions ----------------------------------------------------------------------

sub pick { return $_[ rand @_ ] }

sub chance
{
	my ($t, $n) = @_;
	return "SELECT a_statement('$t', NULL, 'm$n') AS s \\gset\n:s;\n";
}

sub statement
{
	my ($t, $n) = @_;
	my $key = 1 + int rand 12;
	return pick(
		(map { chance($t, $n) } 1 .. 6),
		"SAVEPOINT x;\n" . chance($t, $n) . chance($t, $n) . pick("ROLLBACK TO x;\n", "RELEASE x;\n") . chance($t, $n),
		"SELECT count(*) FROM (SELECT FROM $t " . pick('FOR UPDATE', 'FOR KEY SHARE') . ") q;\nSAVEPOINT y;\nDELETE FROM $t WHERE id > $key;\nRELEASE y;\n",
		"COPY $t (id, v) FROM STDIN;\n" . join('', map { ($key + $_) . "\tcopy$n\n" } 0 .. 3) . "\\.\n",
		"UPDATE $t SET id = 100 WHERE id = $key;\nUPDATE $t SET id = $key WHERE id = $key + 1;\nUPDATE $t SET id = $key + 1 WHERE id = 100;\n",
		"TRUNCATE $t CASCADE;\n",
		"SET CONSTRAINTS ALL IMMEDIATE;\n");
}

my $rows = join ' UNION ALL ', map { "SELECT '$_ ' || count(*) || ' ' || coalesce(md5(string_agg(md5(t::text), '' ORDER BY id)), '-') FROM $_ t" } @tables;

# One transaction: what it has left at its end, and what is there then.
sub transact
{
	my ($number) = @_;
	my $acting = join ' ', map { pick(@triggers) } 1 .. pick(0, 1, 2, 4, 8, 16);
	my @focus = map { pick(@tables) } 1 .. 2;
	my $memory = rand() < 0.1 ? "SET datacake.capture_memory = '64kB';\n" : '';
	my $script = "SELECT setseed(" . rand() . ");\nSET nested.triggers = ' $acting ';\n$memory\\set ON_ERROR_ROLLBACK on\nBEGIN;\n"
	  . join('', map { statement(pick(@focus), "${number}_$_") } 1 .. 1 + int rand 8)
	  . "SET CONSTRAINTS ALL IMMEDIATE;\n\\echo inside\n$rows;\n\\echo after\nCOMMIT;\n$rows;\n";
	my ($out, $err) = ('', '');
	$c->node(1)->psql('postgres', $script, stdout => \$out, stderr => \$err, on_error_stop => 0, timeout => 120);
	my ($inside, $after) = $out =~ /^inside\n(.*)after\n(.*)/ms;
	chomp($inside, $after) if defined $after;
	return ($script, $inside, $after);
}

my ($count, $until) = (0, time + $seconds);
while (time < $until)
{
	my ($script, $inside, $after) = transact(++$count);
	my $ok = defined $after && $inside eq $after;

	$ok &&= $c->_poll(sub { return $c->sql(2, $rows) eq $after }) if $ok;
	$ok &&= $c->sql(1, $rows) eq $after;
	next if $ok;
	fail("transaction $count of NESTED_SEED=$seed");
	diag join "\n--\n", $script, map { $_ // 'nothing' } $inside, $after, map { $c->sql($_, $rows) } 1, 2;
	last;
}
cmp_ok($count, '>', $seconds, "$count transactions begun");
$c->verify_ok('all nodes are equal');
is(join(' ', $c->sql_all('SELECT count(*) FROM datacake.conflicts')), '0 0', 'nothing is a conflict');
is(join(' ', $c->sql_all('SELECT count(*) FROM datacake.quarantine')), '0 0', 'and nothing waits');

done_testing();
