# Statements by chance on three nodes, with nodes and links that stop for a while:
# in the end all nodes hold the rows that a model says, and nothing waits or
# stands still without need.
#
# The model: on each node triggers note every version of a row that is written
# there, with its stamp, and every death, in the transaction that does it.  Of
# all notes of a key the one with the greatest stamp counts, nothing below a
# TRUNCATE does; of rows that exclude each other the newest is in the table.  It
# knows nothing of what was sent to whom, and when.
#
# FUZZ_SEED makes the same statements again (their order between nodes is up to the
# machine), FUZZ_ROUNDS says how many rounds of some seconds there are, FUZZ_CRASHES
# that one stop in how many is the crash of a node.
use strict;
use warnings;

use DatacakeCluster;
use Test::More;
use Time::HiRes qw(time usleep);

my $seed   = $ENV{FUZZ_SEED}   // 1;
my $rounds = $ENV{FUZZ_ROUNDS} // 3;
my $crashes = $ENV{FUZZ_CRASHES} // 0;
my $length = 250;   # transactions of a writer in one round
my $keys   = 40;
my $values = 14;    # of the unique columns: fewer than keys
note "FUZZ_SEED=$seed FUZZ_ROUNDS=$rounds";
srand $seed;

my $c = DatacakeCluster->new(
	nodes => 3,
	conf  => { 'deadlock_timeout' => '100ms', 'datacake.repair_interval' => '1 h', 'log_min_error_statement' => 'panic' });

# ---- tables, and notes of what is written to them -----------------------------------

foreach my $node (1 .. 3)
{
	$c->sql($node, q{
		CREATE TABLE p (id int PRIMARY KEY, a int, v text, big text);
		CREATE TABLE u (id int PRIMARY KEY, a int UNIQUE, v text, b int UNIQUE, s int4range, EXCLUDE USING gist (s WITH &&));
		CREATE TABLE probe (id int PRIMARY KEY, n bigint DEFAULT 0);
		CREATE TABLE note (seq bigint GENERATED ALWAYS AS IDENTITY, t text, id int, stamp bigint, dead bool, a int, b int, s text, v text)});
}
$c->replicate($_) foreach qw(p u probe);
foreach my $node (1 .. 3)
{
	$c->sql($node, q{
		-- a row says its stamp, a death does not: the transaction's stamp, by writing to a row of its own
		CREATE FUNCTION stamp_now() RETURNS bigint LANGUAGE sql AS $$
			INSERT INTO probe VALUES (current_setting('fuzz.writer')::int) ON CONFLICT (id) DO UPDATE SET n = probe.n + 1 RETURNING _stamp::bigint $$;
		CREATE FUNCTION note_row() RETURNS trigger LANGUAGE plpgsql AS $$
			DECLARE r jsonb := to_jsonb(NEW);
			BEGIN
				IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND OLD.id <> NEW.id) THEN
					INSERT INTO note (t, id, stamp, dead) VALUES (TG_TABLE_NAME, OLD.id, stamp_now(), true);
				END IF;
				IF TG_OP <> 'DELETE' THEN
					INSERT INTO note (t, id, stamp, dead, a, b, s, v) VALUES (TG_TABLE_NAME, NEW.id, NEW._stamp::bigint, false,
						(r->>'a')::int, (r->>'b')::int, r->>'s', md5(concat_ws('/', r->>'v', r->>'big')));
				END IF;
				RETURN NULL;
			END $$;
		CREATE FUNCTION note_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN
				INSERT INTO note (t, stamp, dead) SELECT TG_TABLE_NAME, max(stamp::bigint), true FROM datacake.floor f
					JOIN datacake.keyspaces k ON k.id = f.keyspace AND k.relation = TG_RELID::regclass;
				RETURN NULL;
			END $$;
		CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON p FOR EACH ROW EXECUTE FUNCTION note_row();
		CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON u FOR EACH ROW EXECUTE FUNCTION note_row();
		CREATE TRIGGER note_truncate AFTER TRUNCATE ON p EXECUTE FUNCTION note_truncate();
		CREATE TRIGGER note_truncate AFTER TRUNCATE ON u EXECUTE FUNCTION note_truncate()});
}

# The rows that there should be: { id => "id a b s v stamp" } for each table, and how
# many wait.
sub model
{
	my (%last, %floor, %rows, %waiting);
	my @notes = map { my $node = $_; map { [ split /\|/, $_, -1 ] } split /\n/, $c->sql($node, 'SELECT t, id, stamp, dead, a, b, s, v FROM note ORDER BY seq') } 1 .. 3;
	foreach my $note (@notes)
	{
		my ($t, $id, $stamp) = @$note;
		if ($id eq '')
		{
			$floor{$t} = $stamp if $stamp > ($floor{$t} // 0);
			next;
		}
		# of one transaction the later note counts
		$last{$t}{$id} = $note if !$last{$t}{$id} || $stamp >= $last{$t}{$id}[2];
	}
	foreach my $t (qw(p u))
	{
		my (%taken, %in);
		my @live = grep { $_->[3] eq 'f' && $_->[2] > ($floor{$t} // 0) } values %{ $last{$t} };
		$waiting{$t} = 0;
		foreach my $note (sort { $b->[2] <=> $a->[2] || $b->[1] <=> $a->[1] } @live)
		{
			my (undef, $id, $stamp, undef, $a, $b, $s, $v) = @$note;
			my @span   = $s =~ /(\d+),(\d+)/ ? map { "s$_" } $1 .. $2 - 1 : ();
			my @claims = $t eq 'u' ? ($a eq '' ? () : "a$a", $b eq '' ? () : "b$b", @span) : ();
			if (grep { $taken{$_} } @claims)
			{
				$waiting{$t}++;
				next;
			}
			$taken{$_} = 1 foreach @claims;
			$in{$id} = join ' ', $id, $a, $b, $s, $v, $stamp;
		}
		$rows{$t} = \%in;
	}
	return (\%rows, \%waiting, scalar @notes);
}

# What a node holds, in the same form.
sub rows_of
{
	my ($node, $t) = @_;
	my $columns = $t eq 'p' ? q{'', '', md5(concat_ws('/', v, big))} : q{coalesce(b::text, ''), coalesce(s::text, ''), md5(v)};
	return map { /^(\S+)/ ? ($1 => $_) : () } split /\n/, $c->sql($node, "SELECT concat_ws(' ', id, coalesce(a::text, ''), $columns, _stamp::bigint) FROM $t");
}

# Lines for what differs from the model, on whatever node.
sub differences
{
	my ($model) = @_;
	my @lines;
	foreach my $t (qw(p u))
	{
		foreach my $node (1 .. 3)
		{
			my %got = rows_of($node, $t);
			my %want = %{ $model->{$t} };
			push @lines, map { "$t on node $node: wanted \"" . ($want{$_} // '') . '", got "' . ($got{$_} // '') . '"' }
			  grep { ($want{$_} // '') ne ($got{$_} // '') } sort { $a <=> $b } keys %{ { %want, %got } };
		}
	}
	return @lines;
}

# What was noted of the keys in these lines, latest last, and of TRUNCATE.
sub explain
{
	foreach (@_)
	{
		my ($t, $id) = /^(\S+) on node 1: wanted "(\d+) / or next;
		foreach my $node (1 .. 3)
		{
			diag "$t $id, written on node $node: $_"
			  foreach split /\n/, $c->sql($node, "SELECT stamp, dead, id, a, b, s, v FROM note WHERE t = '$t' AND (id = $id OR id IS NULL) ORDER BY seq DESC LIMIT 6");
			diag "floor on node $node: $_" foreach split /\n/, $c->sql($node, 'SELECT k.relation, f.stamp::bigint FROM datacake.floor f JOIN datacake.keyspaces k ON k.id = f.keyspace');
			diag "waits on node $node: $_" foreach split /\n/, $c->sql($node, 'SELECT * FROM datacake.quarantine');
		}
	}
	return;
}

# ---- statements ------------------------------------------------------------------------

sub key   { return 1 + int rand $keys; }
sub value { return rand() < 0.15 ? 'NULL' : 1 + int rand $values; }
sub span  { my $from = 1 + int rand 20; return rand() < 0.6 ? 'NULL' : "'[$from," . ($from + 1 + int rand 3) . ")'"; }
sub text  { return sprintf q{'%x'}, int rand 2**31; }
sub big   { return rand() < 0.5 ? 'NULL' : "repeat(md5('" . int(rand 1000) . "'), 300)"; }

my @on_p = (
	sub { 'INSERT INTO p VALUES (' . join(', ', key(), value(), text(), big()) . ')'; },
	sub { 'INSERT INTO p VALUES (' . join(', ', key(), value(), text(), big()) . ') ON CONFLICT (id) DO UPDATE SET v = excluded.v'; },
	sub { 'INSERT INTO p VALUES (' . join(', ', key(), value(), text(), big()) . ') ON CONFLICT (id) DO UPDATE SET a = excluded.a, big = excluded.big'; },
	sub { 'INSERT INTO p VALUES (' . join(', ', key(), value(), text(), big()) . ') ON CONFLICT DO NOTHING'; },
	sub { 'INSERT INTO p SELECT g, g, ' . text() . ' FROM generate_series(' . key() . ', ' . key() . ') g ON CONFLICT DO NOTHING'; },
	sub { 'UPDATE p SET v = ' . text() . ' WHERE id = ' . key(); },
	sub { 'UPDATE p SET v = ' . text() . ' WHERE id = ' . key(); },
	sub { 'UPDATE p SET big = ' . big() . ' WHERE id = ' . key(); },
	sub { my $k = key(); "UPDATE p SET a = coalesce(a, 0) + 1 WHERE id BETWEEN $k AND $k + 6"; },
	sub { 'DELETE FROM p WHERE id = ' . key(); },
	sub { 'DELETE FROM p WHERE id = ' . key(); },
	sub { my $k = key(); "DELETE FROM p WHERE id BETWEEN $k AND $k + 4"; },
	sub { 'UPDATE p SET id = ' . key() . ' WHERE id = ' . key(); },
	sub { 'UPDATE p SET id = ' . key() . ', v = ' . text() . ' WHERE id = ' . key(); },
	sub { my ($k, $l) = (key(), key()); "UPDATE p SET id = -1 WHERE id = $k; UPDATE p SET id = $k WHERE id = $l; UPDATE p SET id = $l WHERE id = -1"; },
	sub { my $k = key(); 'DELETE FROM p WHERE id = ' . $k . "; INSERT INTO p VALUES ($k, 1, " . text() . ')'; },
	sub { rand() < 0.15 ? 'TRUNCATE p' : 'SELECT 1'; },
);
my @on_u = (
	sub { 'INSERT INTO u VALUES (' . join(', ', key(), value(), text(), value(), span()) . ')'; },
	sub { 'INSERT INTO u VALUES (' . join(', ', key(), value(), text(), value(), span()) . ') ON CONFLICT DO NOTHING'; },
	sub { 'UPDATE u SET s = ' . span() . ' WHERE id = ' . key(); },
	sub { 'INSERT INTO u VALUES (' . join(', ', key(), value(), text(), value()) . ') ON CONFLICT (id) DO UPDATE SET v = excluded.v'; },
	sub { 'INSERT INTO u VALUES (' . join(', ', key(), value(), text(), 'NULL') . ') ON CONFLICT (a) DO UPDATE SET v = excluded.v'; },
	sub { 'UPDATE u SET v = ' . text() . ' WHERE id = ' . key(); },
	sub { 'UPDATE u SET a = ' . value() . ' WHERE id = ' . key(); },
	sub { 'UPDATE u SET b = ' . value() . ' WHERE id = ' . key(); },
	sub { 'UPDATE u SET v = ' . text() . ' WHERE a = ' . value(); },
	sub { 'DELETE FROM u WHERE id = ' . key(); },
	sub { 'DELETE FROM u WHERE b = ' . value(); },
	sub { 'UPDATE u SET id = ' . key() . ' WHERE id = ' . key(); },
	sub { my ($k, $l) = (key(), key());
		"CREATE TEMP TABLE s ON COMMIT DROP AS SELECT id, a FROM u WHERE id IN ($k, $l); UPDATE u SET a = NULL WHERE id IN ($k, $l);"
		  . "UPDATE u SET a = (SELECT s.a FROM s WHERE s.id <> u.id LIMIT 1) WHERE id IN ($k, $l)"; },
	sub { rand() < 0.1 ? 'TRUNCATE u' : 'SELECT 1'; },
);

sub statement { my $which = rand() < 0.5 ? \@on_p : \@on_u; return $which->[ rand @$which ]->(); }

# A statement, or several with savepoints; errors (a key taken, a deadlock) end it.
sub transaction
{
	return (statement()) if rand() < 0.3;
	my @lines = ('BEGIN');
	my $depth = 0;
	foreach (1 .. 1 + int rand 6)
	{
		my $what = rand;
		if ($what < 0.15) { push @lines, 'SAVEPOINT s' . ++$depth; }
		elsif ($what < 0.25 && $depth) { push @lines, "ROLLBACK TO s$depth"; }
		elsif ($what < 0.3 && $depth) { push @lines, 'RELEASE s' . $depth--; }
		else { push @lines, statement(); }
	}
	return (@lines, rand() < 0.9 ? 'COMMIT' : 'ROLLBACK');
}

my $writers = 0;

sub start_writing
{
	my ($node, $n) = @_;
	my @statements = map { transaction() } 1 .. $n;
	$writers++;
	return $c->start_writer($node, "\\set ON_ERROR_STOP 0\n", "SET fuzz.writer = $writers", "SET client_min_messages = 'panic'", @statements);
}

# ---- rounds ------------------------------------------------------------------------------

my $stops = 0;

# Something stops for a while: a node, on purpose or not, or a link.
sub stop_something
{
	my $node = 1 + int rand 3;
	my $other = 1 + ($node + int rand 2) % 3;
	my $delay = 50_000 + int rand 400_000;
	$stops++;
	if ($crashes && int(rand $crashes) == 0)
	{
		$c->restart($node, 'immediate');    # its writers end
		return;
	}
	if (rand() < 0.5)
	{
		$c->pause($node);
		usleep($delay);
		$c->resume($node);
		return;
	}
	# gone again by now, if a pause has just ended
	return if $c->sql($other, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'datacake node $node'") ne '1';
	$c->freeze_link($node, $other);
	usleep($delay);
	$c->thaw_link($node, $other);
	return;
}

# Two rows that no statement above touches claim one value: the older must wait.
sub collide
{
	my ($value) = @_;
	$c->pause(2);
	foreach my $node (1, 2)
	{
		$writers++;
		my $id = 2 * $value + $node;
		$c->sql($node, "SET fuzz.writer = $writers; INSERT INTO u VALUES ($id, $value, 'rival', NULL)");
	}
	$c->resume(2);
	return;
}

my ($transactions, $waited) = (0, 0);

foreach my $round (1 .. $rounds)
{
	my @writing = map { my $node = $_; map { start_writing($node, $length) } 1, 2 } 1 .. 3;
	$transactions += $length * @writing;
	stop_something() while grep { $_->{handle}->pumpable } @writing;
	$c->finish_writer($_) foreach @writing;
	$c->wait_for_nodes;
	collide($keys + $values + $round);

	is(join(' ', $c->sql_all("SELECT datacake.verify('$DatacakeCluster::timeout s')")), 't t t', "round $round: verify()") or $c->describe;
	my ($model, $waiting, $notes) = model();
	# what waits for a row that went in the end is soon looked at again
	my @differences;
	$c->_poll(sub { @differences = differences($model); return !@differences; });
	is(join("\n", @differences), '', "round $round: the rows of the model, on all nodes") or explain(@differences);
	$c->await_all(q{SELECT concat_ws(' ', count(*) FILTER (WHERE other IS NOT NULL), count(*) FILTER (WHERE other IS NULL)) FROM datacake.quarantine},
		"$waiting->{u} 0", "round $round: $waiting->{u} rows wait for newer ones, and no other");
	$c->await_all(q{SELECT count(*) FROM datacake.peers WHERE state = 'streaming'}, 2, "round $round: no link stands still");
	$waited += $waiting->{u};
	note "round $round: $notes notes, " . keys(%{ $model->{p} }) . ' and ' . keys(%{ $model->{u} }) . ' rows';
}
cmp_ok($waited, '>=', $rounds, 'rows met rivals');
note "$transactions transactions begun, $stops times something stopped";

# ---- the control ----------------------------------------------------------------------------

$c->sql(1, q{SET fuzz.writer = 0; INSERT INTO p VALUES (1000, 1, 'control')});
$c->await_all('SELECT count(*) FROM p WHERE id = 1000', 1, 'a row for the control');
$c->sql($_, q{SET datacake.capture = off; ALTER TABLE p DISABLE TRIGGER note; DELETE FROM p WHERE id = 1000}) foreach 1 .. 3;
my ($model) = model();
is(scalar(differences($model)), 3, 'control: a row deleted everywhere behind datacake\'s back is missed on each node');

done_testing();
