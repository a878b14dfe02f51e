# A matrix of conflicts: every scenario ends with the rows that doc/sql.md says,
# on all nodes, and nothing stops.
#
# A scenario is data: what its table is, and the steps [node, statements] that
# happen one after the other while no node hears of another.  A acts first.  All
# scenarios run at once, each in tables of its own, with A being node 1 and with A
# being node 2; node 3 only listens.  Then the nodes hear of each other, and rows
# are compared at once with those expected, not only node with node.
use strict;
use warnings;

use DatacakeCluster;
use Test::More;
use Time::HiRes qw(time usleep);

# ---- tables ------------------------------------------------------------------

my $big = q{(SELECT string_agg(md5(g::text), '') FROM generate_series(1, 200) g)};

# What {t} is, the rows it begins with, and how it is shown.  Row 99 is innocent:
# nobody touches it.
my %kinds = (
	plain => {
		ddl  => 'CREATE TABLE {t} (id int PRIMARY KEY, v text, w text, big text)',
		rows => "INSERT INTO {t} VALUES (0, 'base', 'base', $big), (99, 'innocent', 'row', NULL)",
		show => q{concat_ws(' ', id, v, w, nullif(substr(big, 6401), ''))},
	},
	two => {
		ddl  => 'CREATE TABLE {t} (id int PRIMARY KEY, v text, w text)',
		rows => q{INSERT INTO {t} VALUES (0, 'zero', 'z'), (1, 'one', 'o'), (99, 'innocent', 'row')},
		show => q{concat_ws(' ', id, v, w)},
	},
	unique => {
		ddl  => 'CREATE TABLE {t} (id int PRIMARY KEY, code text UNIQUE, n int UNIQUE, v text)',
		rows => q{INSERT INTO {t} VALUES (0, 'zero', 100, 'base'), (99, 'innocent', 99, 'row')},
		show => q{concat_ws(' ', id, coalesce(code, '-'), coalesce(n::text, '-'), v)},
	},
	excluding => {
		ddl  => 'CREATE TABLE {t} (id int PRIMARY KEY, span int4range, EXCLUDE USING gist (span WITH &&))',
		rows => q{INSERT INTO {t} VALUES (0, '[100,110)'), (99, '[990,999)')},
		show => q{concat_ws(' ', id, span)},
	},
	indexed => {
		ddl => 'CREATE TABLE {t} (id int PRIMARY KEY, a int, b int, v text, g int GENERATED ALWAYS AS (a % 10) STORED);
			CREATE UNIQUE INDEX ON {t} (a, b); CREATE UNIQUE INDEX ON {t} (lower(v)) WHERE b IS NULL; CREATE UNIQUE INDEX ON {t} (g) WHERE a > 1000',
		rows => q{INSERT INTO {t} VALUES (0, 0, 0, 'zero'), (99, 99, 99, 'innocent')},
		show => q{concat_ws(' ', id, coalesce(a::text, '-'), coalesce(b::text, '-'), v)},
	},
	family => {
		ddl => 'CREATE TABLE {t} (id int PRIMARY KEY, v text);
			CREATE TABLE {t}_child (id int PRIMARY KEY, parent int REFERENCES {t} ON DELETE CASCADE ON UPDATE CASCADE, v text)',
		tables => [ '{t}', '{t}_child' ],
		rows   => q{INSERT INTO {t} VALUES (0, 'base'), (99, 'innocent');
			INSERT INTO {t}_child VALUES (0, 0, 'base'), (99, 99, 'innocent')},
		select => q{SELECT concat_ws(', ', (SELECT string_agg(concat_ws(' ', id, v), ', ' ORDER BY id) FROM {t} WHERE id <> 99),
			(SELECT string_agg(concat_ws(' ', 'child', id, parent, v), ', ' ORDER BY id) FROM {t}_child WHERE id <> 99))},
	},
);

# ---- scenarios: kind, name, steps, expected rows, how many wait -----------------

my @scenarios = (
	# insert
	[ plain => 'insert, later insert', [ A => q{INSERT INTO {t} VALUES (1, 'first', 'x')} ], [ B => q{INSERT INTO {t} VALUES (1, 'second', 'y')} ],
		'0 base base, 1 second y' ],
	[ plain => 'insert, later insert of the same row', [ A => q{INSERT INTO {t} VALUES (1, 'same', 'x')} ], [ B => q{INSERT INTO {t} VALUES (1, 'same', 'x')} ],
		'0 base base, 1 same x' ],
	[ plain => 'upsert, later upsert',
		[ A => q{INSERT INTO {t} VALUES (1, 'first', 'x') ON CONFLICT (id) DO UPDATE SET v = 'again'} ],
		[ A => q{INSERT INTO {t} VALUES (1, 'first', 'x') ON CONFLICT (id) DO UPDATE SET v = 'again'} ],
		[ B => q{INSERT INTO {t} VALUES (1, 'second', 'y') ON CONFLICT (id) DO UPDATE SET v = 'again'} ],
		'0 base base, 1 second y' ],
	[ plain => 'insert, later upsert that updates nothing',
		[ A => q{INSERT INTO {t} VALUES (1, 'first', 'x')} ], [ B => q{INSERT INTO {t} VALUES (1, 'second', 'y') ON CONFLICT DO NOTHING} ],
		'0 base base, 1 second y' ],
	[ plain => 'update, later upsert of the same row',
		[ A => q{UPDATE {t} SET w = 'first' WHERE id = 0} ], [ B => q{INSERT INTO {t} VALUES (0, 'new') ON CONFLICT (id) DO UPDATE SET v = 'second'} ],
		'0 second base' ],
	[ plain => 'upsert, later update of the same row',
		[ A => q{INSERT INTO {t} VALUES (0, 'new') ON CONFLICT (id) DO UPDATE SET v = 'first'} ], [ B => q{UPDATE {t} SET w = 'second' WHERE id = 0} ],
		'0 base second' ],

	# update
	[ plain => 'update, later update', [ A => q{UPDATE {t} SET v = 'first' WHERE id = 0} ], [ B => q{UPDATE {t} SET v = 'second' WHERE id = 0} ],
		'0 second base' ],
	[ plain => 'updates of different columns: whole rows', [ A => q{UPDATE {t} SET v = 'first' WHERE id = 0} ], [ B => q{UPDATE {t} SET w = 'second' WHERE id = 0} ],
		'0 base second' ],
	[ plain => 'several updates, later one',
		[ A => q{UPDATE {t} SET v = 'a' WHERE id = 0; UPDATE {t} SET v = 'b' WHERE id = 0; UPDATE {t} SET v = 'c' WHERE id = 0} ],
		[ B => q{UPDATE {t} SET v = 'second' WHERE id = 0} ], '0 second base' ],
	[ plain => 'updates that alternate', [ A => q{UPDATE {t} SET v = 'a' WHERE id = 0} ], [ B => q{UPDATE {t} SET v = 'b' WHERE id = 0} ],
		[ A => q{UPDATE {t} SET v = v || 'c' WHERE id = 0} ], [ B => q{UPDATE {t} SET v = v || 'd' WHERE id = 0} ], '0 bd base' ],
	[ plain => 'update, later update that changes nothing', [ A => q{UPDATE {t} SET v = 'first' WHERE id = 0} ], [ B => q{UPDATE {t} SET v = v WHERE id = 0} ],
		'0 base base' ],
	[ plain => 'counters: the later increment', [ A => q{UPDATE {t} SET v = v || '+1' WHERE id = 0} ], [ B => q{UPDATE {t} SET v = v || '+2' WHERE id = 0} ],
		'0 base+2 base' ],

	# update, delete, insert again
	[ plain => 'delete, later update', [ A => q{DELETE FROM {t} WHERE id = 0} ], [ B => q{UPDATE {t} SET v = 'second' WHERE id = 0} ], '0 second base' ],
	[ plain => 'update, later delete', [ A => q{UPDATE {t} SET v = 'first' WHERE id = 0} ], [ B => q{DELETE FROM {t} WHERE id = 0} ], '' ],
	[ plain => 'two deletes', [ A => q{DELETE FROM {t} WHERE id = 0} ], [ B => q{DELETE FROM {t} WHERE id = 0} ], '' ],
	[ plain => 'delete, later upsert', [ A => q{DELETE FROM {t} WHERE id = 0} ], [ B => q{INSERT INTO {t} VALUES (0, 'new') ON CONFLICT (id) DO UPDATE SET v = 'second'} ],
		'0 second base' ],
	[ plain => 'upsert, later delete', [ A => q{INSERT INTO {t} VALUES (0, 'new') ON CONFLICT (id) DO UPDATE SET v = 'first'} ], [ B => q{DELETE FROM {t} WHERE id = 0} ],
		'' ],
	[ plain => 'insert, later insert and delete', [ A => q{INSERT INTO {t} VALUES (1, 'first', 'x')} ],
		[ B => q{INSERT INTO {t} VALUES (1, 'second', 'y'); DELETE FROM {t} WHERE id = 1} ], '0 base base' ],
	[ plain => 'insert and delete, later insert', [ A => q{INSERT INTO {t} VALUES (1, 'first', 'x'); DELETE FROM {t} WHERE id = 1} ],
		[ B => q{INSERT INTO {t} VALUES (1, 'second', 'y')} ], '0 base base, 1 second y' ],
	[ plain => 'update, later delete and insert', [ A => q{UPDATE {t} SET v = 'update' WHERE id = 0} ],
		[ B => q{DELETE FROM {t} WHERE id = 0; INSERT INTO {t} VALUES (0, 'new', 'new')} ], '0 new new' ],
	[ plain => 'delete and insert, later update', [ A => q{DELETE FROM {t} WHERE id = 0; INSERT INTO {t} VALUES (0, 'new', 'new')} ],
		[ B => q{UPDATE {t} SET v = 'update' WHERE id = 0} ], '0 update base' ],
	[ plain => 'an update between delete and insert', [ A => q{DELETE FROM {t} WHERE id = 0} ], [ B => q{UPDATE {t} SET v = 'update' WHERE id = 0} ],
		[ A => q{INSERT INTO {t} VALUES (0, 'new', 'new')} ], '0 new new' ],
	[ plain => 'delete and insert in one transaction, later delete', [ A => q{BEGIN; DELETE FROM {t} WHERE id = 0; INSERT INTO {t} VALUES (0, 'new', 'new'); COMMIT} ],
		[ B => q{DELETE FROM {t} WHERE id = 0} ], '' ],
	[ plain => 'delete, later delete and insert in one transaction', [ A => q{DELETE FROM {t} WHERE id = 0} ],
		[ B => q{BEGIN; DELETE FROM {t} WHERE id = 0; INSERT INTO {t} VALUES (0, 'new', 'new'); COMMIT} ], '0 new new' ],
	[ plain => 'delete and insert on both', [ A => q{DELETE FROM {t} WHERE id = 0; INSERT INTO {t} VALUES (0, 'first', 'x')} ],
		[ B => q{DELETE FROM {t} WHERE id = 0; INSERT INTO {t} VALUES (0, 'second', 'y')} ], '0 second y' ],

	# keys that change
	[ plain => 'update, later key change', [ A => q{UPDATE {t} SET v = 'update' WHERE id = 0} ], [ B => q{UPDATE {t} SET id = 1 WHERE id = 0} ], '1 base base' ],
	[ plain => 'key change, later update', [ A => q{UPDATE {t} SET id = 1 WHERE id = 0} ], [ B => q{UPDATE {t} SET v = 'update' WHERE id = 0} ],
		'0 update base, 1 base base' ],
	[ plain => 'delete, later key change', [ A => q{DELETE FROM {t} WHERE id = 0} ], [ B => q{UPDATE {t} SET id = 1 WHERE id = 0} ], '1 base base' ],
	[ plain => 'key change, later delete of the old key', [ A => q{UPDATE {t} SET id = 1 WHERE id = 0} ], [ B => q{DELETE FROM {t} WHERE id = 0} ], '1 base base' ],
	[ plain => 'two key changes of one row', [ A => q{UPDATE {t} SET id = 1 WHERE id = 0} ], [ B => q{UPDATE {t} SET id = 2 WHERE id = 0} ],
		'1 base base, 2 base base' ],
	[ plain => 'key changes to the same key', [ A => q{UPDATE {t} SET id = 1, v = 'first' WHERE id = 0} ], [ B => q{UPDATE {t} SET id = 1, v = 'second' WHERE id = 0} ],
		'1 second base' ],
	[ two => 'two rows change to one key', [ A => q{UPDATE {t} SET id = 5 WHERE id = 0} ], [ B => q{UPDATE {t} SET id = 5 WHERE id = 1} ], '5 one o' ],
	[ plain => 'key change, later insert of the new key', [ A => q{UPDATE {t} SET id = 1 WHERE id = 0} ], [ B => q{INSERT INTO {t} VALUES (1, 'insert', 'x')} ],
		'1 insert x' ],
	[ plain => 'insert, later key change to it', [ A => q{INSERT INTO {t} VALUES (1, 'insert', 'x')} ], [ B => q{UPDATE {t} SET id = 1 WHERE id = 0} ], '1 base base' ],
	[ two => 'two keys swapped, later update of one', [ A => q{BEGIN; UPDATE {t} SET id = -id - 1; UPDATE {t} SET id = CASE id WHEN -1 THEN 1 WHEN -2 THEN 0 ELSE 99 END; COMMIT} ],
		[ B => q{UPDATE {t} SET v = 'update' WHERE id = 0} ], '0 update z, 1 zero z' ],
	[ two => 'update, later both keys swapped', [ A => q{UPDATE {t} SET v = 'update' WHERE id = 0} ],
		[ B => q{BEGIN; UPDATE {t} SET id = -id - 1; UPDATE {t} SET id = CASE id WHEN -1 THEN 1 WHEN -2 THEN 0 ELSE 99 END; COMMIT} ], '0 one o, 1 zero z' ],
	[ two => 'keys swapped on both', [ A => q{BEGIN; UPDATE {t} SET id = -id - 1; UPDATE {t} SET id = CASE id WHEN -1 THEN 1 WHEN -2 THEN 0 ELSE 99 END; COMMIT} ],
		[ B => q{BEGIN; UPDATE {t} SET id = -id - 1; UPDATE {t} SET id = CASE id WHEN -1 THEN 1 WHEN -2 THEN 0 ELSE 99 END; COMMIT} ], '0 one o, 1 zero z' ],
	[ two => 'keys moved up in a chain, later update in its middle', [ A => q{BEGIN; UPDATE {t} SET id = 2 WHERE id = 1; UPDATE {t} SET id = 1 WHERE id = 0; COMMIT} ],
		[ B => q{UPDATE {t} SET v = 'update' WHERE id = 1} ], '1 update o, 2 one o' ],
	[ two => 'update, later keys moved up in a chain', [ A => q{UPDATE {t} SET v = 'update' WHERE id = 1} ],
		[ B => q{BEGIN; UPDATE {t} SET id = 2 WHERE id = 1; UPDATE {t} SET id = 1 WHERE id = 0; COMMIT} ], '1 zero z, 2 one o' ],
	[ plain => 'a key changed and changed back, later update', [ A => q{UPDATE {t} SET id = 1 WHERE id = 0; UPDATE {t} SET id = 0 WHERE id = 1} ],
		[ B => q{UPDATE {t} SET v = 'update' WHERE id = 0} ], '0 update base' ],

	# TRUNCATE; row 99 goes as well
	[ plain => 'TRUNCATE, later insert', [ A => q{TRUNCATE {t}} ], [ B => q{INSERT INTO {t} VALUES (1, 'second', 'y')} ], '1 second y', 0, 'all' ],
	[ plain => 'insert, later TRUNCATE', [ A => q{INSERT INTO {t} VALUES (1, 'first', 'x')} ], [ B => q{TRUNCATE {t}} ], '', 0, 'all' ],
	[ plain => 'TRUNCATE, later update', [ A => q{TRUNCATE {t}} ], [ B => q{UPDATE {t} SET v = 'second' WHERE id = 0} ], '0 second base', 0, 'all' ],
	[ plain => 'update, later TRUNCATE', [ A => q{UPDATE {t} SET v = 'first' WHERE id = 0} ], [ B => q{TRUNCATE {t}} ], '', 0, 'all' ],
	[ plain => 'TRUNCATE, later delete', [ A => q{TRUNCATE {t}} ], [ B => q{DELETE FROM {t} WHERE id = 0} ], '', 0, 'all' ],
	[ plain => 'delete, later TRUNCATE', [ A => q{DELETE FROM {t} WHERE id = 0} ], [ B => q{TRUNCATE {t}} ], '', 0, 'all' ],
	[ plain => 'TRUNCATE, later key change', [ A => q{TRUNCATE {t}} ], [ B => q{UPDATE {t} SET id = 1 WHERE id = 0} ], '1 base base', 0, 'all' ],
	[ plain => 'key change, later TRUNCATE', [ A => q{UPDATE {t} SET id = 1 WHERE id = 0} ], [ B => q{TRUNCATE {t}} ], '', 0, 'all' ],
	[ plain => 'TRUNCATE on both, each with an insert', [ A => q{TRUNCATE {t}; INSERT INTO {t} VALUES (1, 'first', 'x')} ],
		[ B => q{TRUNCATE {t}; INSERT INTO {t} VALUES (2, 'second', 'y')} ], '2 second y', 0, 'all' ],
	[ plain => 'TRUNCATE and insert in one transaction, later update', [ A => q{BEGIN; TRUNCATE {t}; INSERT INTO {t} VALUES (1, 'first', 'x'); COMMIT} ],
		[ B => q{UPDATE {t} SET v = 'second' WHERE id = 0} ], '0 second base, 1 first x', 0, 'all' ],

	# a large column
	[ plain => 'a large column changed, later a small one', [ A => qq{UPDATE {t} SET big = $big || 'first' WHERE id = 0} ], [ B => q{UPDATE {t} SET v = 'second' WHERE id = 0} ],
		'0 second base' ],
	[ plain => 'a small column changed, later a large one', [ A => q{UPDATE {t} SET v = 'first' WHERE id = 0} ], [ B => qq{UPDATE {t} SET big = $big || 'second' WHERE id = 0} ],
		'0 base base second' ],
	[ plain => 'delete, later an update beside the large column', [ A => q{DELETE FROM {t} WHERE id = 0} ], [ B => q{UPDATE {t} SET v = 'second', big = big || 'end' WHERE id = 0} ],
		[ B => q{UPDATE {t} SET w = 'third' WHERE id = 0} ], '0 second third end' ],
	[ plain => 'a large column changed on both', [ A => qq{UPDATE {t} SET big = $big || 'first' WHERE id = 0} ], [ B => qq{UPDATE {t} SET big = $big || 'second' WHERE id = 0} ],
		'0 base base second' ],

	# transactions: each row by itself, by the stamp of its transaction
	[ plain => 'transactions that overlap in one row', [ A => q{BEGIN; UPDATE {t} SET v = 'first' WHERE id = 0; INSERT INTO {t} VALUES (1, 'first', 'x'); COMMIT} ],
		[ B => q{BEGIN; INSERT INTO {t} VALUES (1, 'second', 'y'), (2, 'second', 'y'); COMMIT} ], '0 first base, 1 second y, 2 second y' ],
	[ two => 'transactions that cross in two rows', [ A => q{BEGIN; UPDATE {t} SET v = 'first' WHERE id = 0; UPDATE {t} SET v = 'first' WHERE id = 1; COMMIT} ],
		[ B => q{BEGIN; UPDATE {t} SET w = 'second' WHERE id = 1; UPDATE {t} SET w = 'second' WHERE id = 0; COMMIT} ], '0 zero second, 1 one second' ],
	[ two => 'one moves between rows on both: the sum is not kept', [ A => q{BEGIN; UPDATE {t} SET v = 'less' WHERE id = 0; UPDATE {t} SET v = 'more' WHERE id = 1; COMMIT} ],
		[ B => q{BEGIN; UPDATE {t} SET v = 'more' WHERE id = 0; INSERT INTO {t} VALUES (2, 'less'); COMMIT} ], '0 more z, 1 more o, 2 less' ],
	[ plain => 'transactions of five rows beside each other', [ A => q{BEGIN; INSERT INTO {t} SELECT g, 'first', 'x' FROM generate_series(1, 5) g; COMMIT} ],
		[ B => q{BEGIN; INSERT INTO {t} SELECT g, 'second', 'y' FROM generate_series(4, 6) g; DELETE FROM {t} WHERE id = 6; COMMIT} ],
		'0 base base, 1 first x, 2 first x, 3 first x, 4 second y, 5 second y' ],
	[ plain => 'what a savepoint took back is no rival', [ A => q{UPDATE {t} SET v = 'first' WHERE id = 0} ],
		[ B => q{BEGIN; INSERT INTO {t} VALUES (1, 'kept', 'y'); SAVEPOINT s; UPDATE {t} SET v = 'second' WHERE id = 0; SAVEPOINT s2; DELETE FROM {t} WHERE id = 0;
			ROLLBACK TO s; COMMIT} ], '0 first base, 1 kept y' ],
	[ plain => 'what a savepoint released is one', [ A => q{UPDATE {t} SET v = 'first' WHERE id = 0} ],
		[ B => q{BEGIN; SAVEPOINT s; UPDATE {t} SET v = 'second' WHERE id = 0; SAVEPOINT s2; UPDATE {t} SET v = 'third' WHERE id = 0; ROLLBACK TO s2; RELEASE s; COMMIT} ],
		'0 second base' ],
	[ plain => 'a rolled back transaction is no rival', [ A => q{UPDATE {t} SET v = 'first' WHERE id = 0} ], [ B => q{BEGIN; UPDATE {t} SET v = 'second' WHERE id = 0; ROLLBACK} ],
		'0 first base' ],
	[ plain => 'MERGE, later MERGE', [ A => q{MERGE INTO {t} USING (VALUES (0, 'first'), (1, 'first')) s (k, x) ON id = k WHEN MATCHED THEN UPDATE SET v = x WHEN NOT MATCHED THEN INSERT (id, v) VALUES (k, x)} ],
		[ B => q{MERGE INTO {t} USING (VALUES (0, 'second'), (2, 'second')) s (k, x) ON id = k WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id, v) VALUES (k, x)} ],
		'1 first, 2 second' ],

	# foreign keys hold where a transaction runs; what meets elsewhere may leave a child without its parent
	[ family => 'parent deleted, later a child inserted', [ A => q{DELETE FROM {t} WHERE id = 0} ], [ B => q{INSERT INTO {t}_child VALUES (1, 0, 'second')} ],
		'child 1 0 second' ],
	[ family => 'child inserted, later its parent deleted', [ A => q{INSERT INTO {t}_child VALUES (1, 0, 'first')} ], [ B => q{DELETE FROM {t} WHERE id = 0} ],
		'child 1 0 first' ],
	[ family => 'parent deleted, later a child updated', [ A => q{DELETE FROM {t} WHERE id = 0} ], [ B => q{UPDATE {t}_child SET v = 'second' WHERE id = 0} ],
		'child 0 0 second' ],
	[ family => 'child updated, later its parent deleted', [ A => q{UPDATE {t}_child SET v = 'first' WHERE id = 0} ], [ B => q{DELETE FROM {t} WHERE id = 0} ], '' ],
	[ family => 'parent deleted, later updated', [ A => q{DELETE FROM {t} WHERE id = 0} ], [ B => q{UPDATE {t} SET v = 'second' WHERE id = 0} ], '0 second' ],
	[ family => 'key of a parent changed, later a child of the old one inserted', [ A => q{UPDATE {t} SET id = 1 WHERE id = 0} ],
		[ B => q{INSERT INTO {t}_child VALUES (1, 0, 'second')} ], '1 base, child 0 1 base, child 1 0 second' ],
	[ family => 'child inserted, later TRUNCATE CASCADE', [ A => q{INSERT INTO {t}_child VALUES (1, 0, 'first')} ], [ B => q{TRUNCATE {t} CASCADE} ], '', 0, 'all' ],
	[ family => 'TRUNCATE CASCADE, later child inserted', [ A => q{TRUNCATE {t} CASCADE} ], [ B => q{INSERT INTO {t}_child VALUES (1, 0, 'second')} ],
		'child 1 0 second', 0, 'all' ],

	# unique values: the newer row has it, the older one waits
	[ unique => 'a value inserted twice', [ A => q{INSERT INTO {t} VALUES (1, 'x')} ], [ B => q{INSERT INTO {t} VALUES (2, 'x')} ], '0 zero 100 base, 2 x -', 1 ],
	[ unique => 'a value updated to twice', [ A => q{INSERT INTO {t} VALUES (1, 'a'); UPDATE {t} SET code = 'x' WHERE id = 1} ],
		[ B => q{UPDATE {t} SET code = 'x' WHERE id = 0} ], '0 x 100 base', 1 ],
	[ unique => 'insert, later update to its value', [ A => q{INSERT INTO {t} VALUES (1, 'x')} ], [ B => q{UPDATE {t} SET code = 'x' WHERE id = 0} ], '0 x 100 base', 1 ],
	[ unique => 'update, later insert of its value', [ A => q{UPDATE {t} SET code = 'x' WHERE id = 0} ], [ B => q{INSERT INTO {t} VALUES (1, 'x')} ], '1 x -', 1 ],
	[ unique => 'a value freed and used again, later an update of who had it', [ A => q{UPDATE {t} SET code = 'free' WHERE id = 0; INSERT INTO {t} VALUES (1, 'zero')} ],
		[ B => q{UPDATE {t} SET v = 'update' WHERE id = 0} ], '0 zero 100 update', 1 ],
	[ unique => 'an update, later its value freed and used again', [ A => q{UPDATE {t} SET v = 'update' WHERE id = 0} ],
		[ B => q{UPDATE {t} SET code = 'free' WHERE id = 0; INSERT INTO {t} VALUES (1, 'zero')} ], '0 free 100 base, 1 zero -' ],
	[ unique => 'a holder deleted and its value used again, later an update of it', [ A => q{DELETE FROM {t} WHERE id = 0; INSERT INTO {t} VALUES (1, 'zero')} ],
		[ B => q{UPDATE {t} SET v = 'update' WHERE id = 0} ], '0 zero 100 update', 1 ],
	[ unique => 'two rows, later one that takes a value of each', [ A => q{INSERT INTO {t} VALUES (1, 'x', NULL), (2, NULL, 5)} ], [ B => q{INSERT INTO {t} VALUES (3, 'x', 5)} ],
		'0 zero 100 base, 3 x 5', 2 ],
	[ unique => 'one row, later two that each take a value of it', [ A => q{INSERT INTO {t} VALUES (3, 'x', 5)} ], [ B => q{INSERT INTO {t} VALUES (1, 'x', NULL), (2, NULL, 5)} ],
		'0 zero 100 base, 1 x -, 2 - 5', 1 ],
	[ unique => 'a chain of three: who would lose to a loser stays', [ A => q{INSERT INTO {t} VALUES (1, 'p', 1)} ], [ B => q{INSERT INTO {t} VALUES (2, 'p', 2)} ],
		[ A => q{INSERT INTO {t} VALUES (3, 'q', 2)} ], '0 zero 100 base, 1 p 1, 3 q 2', 1 ],
	[ unique => 'a chain of five', [ A => q{INSERT INTO {t} VALUES (1, 'a', 1)} ], [ B => q{INSERT INTO {t} VALUES (2, 'a', 2)} ], [ A => q{INSERT INTO {t} VALUES (3, 'b', 2)} ],
		[ B => q{INSERT INTO {t} VALUES (4, 'b', 3)} ], [ A => q{INSERT INTO {t} VALUES (5, 'c', 3)} ],
		'0 zero 100 base, 1 a 1, 3 b 2, 5 c 3', 2 ],
	[ unique => 'values swapped, later an update of one of the rows',
		[ A => q{INSERT INTO {t} VALUES (1, 'one'); BEGIN; UPDATE {t} SET code = NULL WHERE id = 1; UPDATE {t} SET code = 'one' WHERE id = 0; UPDATE {t} SET code = 'zero' WHERE id = 1; COMMIT} ],
		[ B => q{UPDATE {t} SET v = 'update' WHERE id = 0} ], '0 zero 100 update', 1 ],
	[ unique => 'an update, later the values swapped', [ A => q{UPDATE {t} SET v = 'update' WHERE id = 0} ],
		[ B => q{INSERT INTO {t} VALUES (1, 'one'); BEGIN; UPDATE {t} SET code = NULL WHERE id = 1; UPDATE {t} SET code = 'one' WHERE id = 0; UPDATE {t} SET code = 'zero' WHERE id = 1; COMMIT} ],
		'0 one 100 base, 1 zero -' ],
	[ unique => 'the newer row is deleted: the older one comes back', [ A => q{INSERT INTO {t} VALUES (1, 'x')} ], [ B => q{INSERT INTO {t} VALUES (2, 'x')} ],
		[ B => q{DELETE FROM {t} WHERE id = 2} ], '0 zero 100 base, 1 x -' ],
	[ unique => 'the newer row changes its value', [ A => q{INSERT INTO {t} VALUES (1, 'x')} ], [ B => q{INSERT INTO {t} VALUES (2, 'x')} ],
		[ B => q{UPDATE {t} SET code = 'y' WHERE id = 2} ], '0 zero 100 base, 1 x -, 2 y -' ],
	[ unique => 'the older row is deleted', [ A => q{INSERT INTO {t} VALUES (1, 'x')} ], [ B => q{INSERT INTO {t} VALUES (2, 'x')} ],
		[ A => q{DELETE FROM {t} WHERE id = 1} ], '0 zero 100 base, 2 x -' ],
	[ unique => 'the older row is updated, and is the newer one', [ A => q{INSERT INTO {t} VALUES (1, 'x')} ], [ B => q{INSERT INTO {t} VALUES (2, 'x')} ],
		[ A => q{UPDATE {t} SET v = 'new' WHERE id = 1} ], '0 zero 100 base, 1 x - new', 1 ],
	[ unique => 'a value inserted twice, later TRUNCATE', [ A => q{INSERT INTO {t} VALUES (1, 'x')} ], [ B => q{INSERT INTO {t} VALUES (2, 'x')} ],
		[ A => q{TRUNCATE {t}; INSERT INTO {t} VALUES (3, 'x')} ], '3 x -', 0, 'all' ],
	[ unique => 'upserts by the unique column', [ A => q{INSERT INTO {t} VALUES (1, 'x') ON CONFLICT (code) DO UPDATE SET v = 'again'} ],
		[ B => q{INSERT INTO {t} VALUES (2, 'x') ON CONFLICT (code) DO UPDATE SET v = 'again'} ],
		[ B => q{INSERT INTO {t} VALUES (3, 'x') ON CONFLICT (code) DO UPDATE SET v = 'again'} ], '0 zero 100 base, 2 x - again', 1 ],
	[ unique => 'nulls are not equal', [ A => q{INSERT INTO {t} VALUES (1)} ], [ B => q{INSERT INTO {t} VALUES (2)} ], '0 zero 100 base, 1 - -, 2 - -' ],
	[ unique => 'key change, later an update under the old key', [ A => q{UPDATE {t} SET id = 5 WHERE id = 0} ], [ B => q{UPDATE {t} SET v = 'update' WHERE id = 0} ],
		'0 zero 100 update', 1 ],
	[ unique => 'update, later a key change', [ A => q{UPDATE {t} SET v = 'update' WHERE id = 0} ], [ B => q{UPDATE {t} SET id = 5 WHERE id = 0} ], '5 zero 100 base' ],
	[ unique => 'a transaction that loses one row keeps the others', [ A => q{BEGIN; INSERT INTO {t} VALUES (1, 'x'), (2, 'y'), (3, 'z'); COMMIT} ],
		[ B => q{BEGIN; INSERT INTO {t} VALUES (4, 'y'), (5, 'w'); COMMIT} ], '0 zero 100 base, 1 x -, 3 z -, 4 y -, 5 w -', 1 ],
	[ indexed => 'composite values', [ A => q{INSERT INTO {t} VALUES (1, 1, 1, 'a'), (2, 1, 2, 'b')} ], [ B => q{INSERT INTO {t} VALUES (3, 1, 1, 'c'), (4, 2, 1, 'd')} ],
		'0 0 0 zero, 2 1 2 b, 3 1 1 c, 4 2 1 d', 1 ],
	[ indexed => 'a partial index of an expression', [ A => q{INSERT INTO {t} VALUES (1, 1, NULL, 'Word'), (2, 2, 5, 'word')} ],
		[ B => q{INSERT INTO {t} VALUES (3, 3, NULL, 'wORD'), (4, 4, 6, 'WORD')} ], '0 0 0 zero, 2 2 5 word, 3 3 - wORD, 4 4 6 WORD', 1 ],
	[ indexed => 'a generated column', [ A => q{INSERT INTO {t} VALUES (1, 1011, 1, 'a')} ], [ B => q{INSERT INTO {t} VALUES (2, 2021, 1, 'b')} ],
		'0 0 0 zero, 2 2021 1 b', 1 ],

	# exclusion constraints
	[ excluding => 'ranges that overlap', [ A => q{INSERT INTO {t} VALUES (1, '[1,5)')} ], [ B => q{INSERT INTO {t} VALUES (2, '[4,8)')} ], '0 [100,110), 2 [4,8)', 1 ],
	[ excluding => 'two ranges, later one over both', [ A => q{INSERT INTO {t} VALUES (1, '[1,5)'), (2, '[5,8)')} ], [ B => q{INSERT INTO {t} VALUES (3, '[4,6)')} ],
		'0 [100,110), 3 [4,6)', 2 ],
	[ excluding => 'one range, later two below it', [ A => q{INSERT INTO {t} VALUES (3, '[4,6)')} ], [ B => q{INSERT INTO {t} VALUES (1, '[1,5)'), (2, '[5,8)')} ],
		'0 [100,110), 1 [1,5), 2 [5,8)', 1 ],
	[ excluding => 'a chain of ranges', [ A => q{INSERT INTO {t} VALUES (1, '[1,5)')} ], [ B => q{INSERT INTO {t} VALUES (2, '[4,8)')} ],
		[ A => q{INSERT INTO {t} VALUES (3, '[7,10)')} ], '0 [100,110), 1 [1,5), 3 [7,10)', 1 ],
	[ excluding => 'a range that shrinks lets the older one in', [ A => q{INSERT INTO {t} VALUES (1, '[1,5)')} ], [ B => q{INSERT INTO {t} VALUES (2, '[4,8)')} ],
		[ B => q{UPDATE {t} SET span = '[5,8)' WHERE id = 2} ], '0 [100,110), 1 [1,5), 2 [5,8)' ],
	[ excluding => 'a range moved, later one that overlaps where it was', [ A => q{UPDATE {t} SET span = '[1,5)' WHERE id = 0} ],
		[ B => q{INSERT INTO {t} VALUES (1, '[110,120)'), (2, '[4,8)')} ], '1 [110,120), 2 [4,8)', 1 ],
);

# What node 1 writes reaches node 3 late; node 2 has it and goes on, and what node
# 2 writes reaches node 3 before.  Nobody is in conflict with anybody.
my @overtaking = (
	[ plain => 'insert, then its delete', q{INSERT INTO {t} VALUES (1, 'first', 'x')}, q{DELETE FROM {t} WHERE id = 1}, '0 base base' ],
	[ plain => 'insert, then its update', q{INSERT INTO {t} VALUES (1, 'first', 'x')}, q{UPDATE {t} SET v = 'second' WHERE id = 1}, '0 base base, 1 second x' ],
	[ plain => 'update, then delete', q{UPDATE {t} SET v = 'first' WHERE id = 0}, q{DELETE FROM {t} WHERE id = 0}, '' ],
	[ plain => 'update, then update', q{UPDATE {t} SET v = 'first' WHERE id = 0}, q{UPDATE {t} SET w = 'second' WHERE id = 0}, '0 first second' ],
	[ plain => 'delete, then insert', q{DELETE FROM {t} WHERE id = 0}, q{INSERT INTO {t} VALUES (0, 'second', 'y')}, '0 second y' ],
	[ plain => 'key change, then update', q{UPDATE {t} SET id = 1 WHERE id = 0}, q{UPDATE {t} SET v = 'second' WHERE id = 1}, '1 second base' ],
	[ plain => 'key change, then back', q{UPDATE {t} SET id = 1 WHERE id = 0}, q{UPDATE {t} SET id = 0 WHERE id = 1}, '0 base base' ],
	[ plain => 'a large column, then a small one', qq{UPDATE {t} SET big = $big || 'first' WHERE id = 0}, q{UPDATE {t} SET v = 'second' WHERE id = 0},
		'0 second base first' ],
	[ plain => 'TRUNCATE, then insert', q{TRUNCATE {t}}, q{INSERT INTO {t} VALUES (1, 'second', 'y')}, '1 second y', 0, 'all' ],
	[ plain => 'insert, then TRUNCATE', q{INSERT INTO {t} VALUES (1, 'first', 'x')}, q{TRUNCATE {t}}, '', 0, 'all' ],
	[ plain => 'a transaction, then half of it deleted', q{INSERT INTO {t} SELECT g, 'first', 'x' FROM generate_series(1, 4) g}, q{DELETE FROM {t} WHERE id IN (1, 3)},
		'0 base base, 2 first x, 4 first x' ],
	[ unique => 'a value freed by update, then taken', q{UPDATE {t} SET code = 'free' WHERE id = 0}, q{INSERT INTO {t} VALUES (1, 'zero')}, '0 free 100 base, 1 zero -' ],
	[ unique => 'a value freed by delete, then taken', q{DELETE FROM {t} WHERE id = 0}, q{INSERT INTO {t} VALUES (1, 'zero', 100)}, '1 zero 100' ],
	[ unique => 'a value freed by key change and delete, then taken twice', q{UPDATE {t} SET id = 5, n = 7 WHERE id = 0; DELETE FROM {t} WHERE id = 5},
		q{INSERT INTO {t} VALUES (1, 'zero', 7), (2, 'two', 100)}, '1 zero 7, 2 two 100' ],
	[ excluding => 'a range moved, then another one put there', q{UPDATE {t} SET span = '[1,5)' WHERE id = 0}, q{INSERT INTO {t} VALUES (1, '[105,120)')},
		'0 [1,5), 1 [105,120)' ],
	[ family => 'a parent with its children, then all deleted', q{INSERT INTO {t} VALUES (1, 'first'); INSERT INTO {t}_child VALUES (1, 1, 'first')},
		q{DELETE FROM {t} WHERE id = 1}, '0 base, child 0 0 base' ],
);

# ---- the driver -----------------------------------------------------------------

my $c = DatacakeCluster->new(
	nodes => 3,
	conf  => { 'datacake.max_keyspaces' => 1024, 'datacake.metadata_memory' => '128MB', 'datacake.repair_interval' => '1 h' });

# A case is a scenario in tables of its own.
my @cases;

# cases($prefix, A, B, @scenarios): their tables are made.
sub add_cases
{
	my ($prefix, $a, $b, @which) = @_;
	my @added;
	foreach my $n (0 .. $#which)
	{
		my ($kind, $name, @rest) = @{ $which[$n] };
		my @steps = map { ref $_ ? [ $_->[0] eq 'A' ? $a : $b, $_->[1] ] : () } @rest;
		my ($want, $waits, $truncated) = grep { !ref } @rest;
		push @added,
		  {
			name      => "$name ($prefix)",
			table     => "$prefix$n",
			kind      => $kinds{$kind},
			steps     => \@steps,
			want      => $want,
			waits     => $waits // 0,
			truncated => $truncated,
		  };
	}
	push @cases, @added;
	return @added;
}

sub with_table
{
	my ($case, $text) = @_;
	$text =~ s/\{t\}/$case->{table}/g;
	return $text;
}

sub tables_of { my ($case) = @_; return map { with_table($case, $_) } @{ $case->{kind}{tables} // ['{t}'] }; }

# One script for all cases: starting psql would take longer than all they do.
sub run_all { my ($node, @statements) = @_; $c->sql($node, join("\n", map { "$_;" } @statements)) if @statements; return; }

sub create
{
	my (@which) = @_;
	run_all($_, map { with_table($_, $_->{kind}{ddl}) } @which) foreach 1 .. 3;
	run_all(1, map { map { "SELECT datacake.replicate_table('$_')" } tables_of($_) } @which);
	run_all(1, map { with_table($_, $_->{kind}{rows}) } @which);
	agree_ok('all begin with the same rows');
	return;
}

# agree_ok($name): verify() of every node.  The tables themselves are compared by
# problems(), all in one query; verify_ok() would ask for each.
sub agree_ok
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(join(' ', $c->sql_all("SELECT datacake.verify('$DatacakeCluster::timeout s')")), 't t t', $name) or $c->describe;
	return;
}

# What the tables hold: { table => [rows, is row 99 there, a sum of all with their stamps] }.
sub shown
{
	my ($node, @which) = @_;
	my $sql = join ";\n", map {
		my $select = $_->{kind}{select} // "SELECT coalesce(string_agg($_->{kind}{show}, ', ' ORDER BY id), '') FROM {t} WHERE id <> 99";
		my $sums = join ' || ', map { "(SELECT md5(coalesce(string_agg(t::text, chr(10) ORDER BY id), '')) FROM $_ t)" } tables_of($_);
		with_table($_, "SELECT '{t}' || '|' || ($select) || '|' || (SELECT count(*) FROM {t} WHERE id = 99) || '|' || $sums");
	} @which;
	return map { my ($table, @rest) = split /\|/; ($table => \@rest) } split /\n/, $c->sql($node, $sql);
}

# problems(@cases): a line for each that does not have the rows expected, on
# whatever node; kinds of trouble are counted in %count.
my %count;

sub problems
{
	my (@which) = @_;
	my @lines;
	%count = (divergent => 0, unexpected => 0);
	my %got = map { my %rows = shown($_, @which); ($_ => \%rows) } 1 .. 3;
	foreach my $case (@which)
	{
		my @rows = map { join '; 99: ', @{ $got{$_}{ $case->{table} } }[ 0, 1 ] } 1 .. 3;
		my %sums = map { $got{$_}{ $case->{table} }[2] => 1 } 1 .. 3;
		my $want = "$case->{want}; 99: " . ($case->{truncated} ? 0 : 1);
		$count{divergent}++ if keys %sums != 1;
		next if keys %sums == 1 && !grep { $_ ne $want } @rows;
		$count{unexpected}++;
		push @lines, "$case->{name}: wanted \"$want\", got " . join ' ', map { "\"$_\"" } @rows;
	}
	return @lines;
}

# waiting(@cases): likewise, for what waits and why, and links that stand still.
sub waiting
{
	my (@which) = @_;
	my @lines;
	$count{stopped} = 0;
	foreach my $node (1 .. 3)
	{
		my %waits = map { split /\|/ } split /\n/,
		  $c->sql($node, q{SELECT relation, count(*) FROM datacake.quarantine q JOIN datacake.keyspaces k ON k.id = q.keyspace
			WHERE q.other IS NOT NULL AND q.told AND q.sqlstate IN ('23505', '23P01') GROUP BY 1});
		my $other = $c->sql($node, q{SELECT count(*) FROM datacake.quarantine WHERE other IS NULL OR NOT told});
		push @lines, "node $node: $other rows wait because of an error" if $other ne 0;
		foreach my $case (@which)
		{
			my $waits = $waits{ $case->{table} } // 0;
			push @lines, "$case->{name}: $waits wait on node $node, not $case->{waits}" if $waits != $case->{waits};
		}
		my $stopped = $c->sql($node, q{SELECT count(*) FROM datacake.peers WHERE state <> 'streaming'});
		$count{stopped} += $stopped;
		push @lines, "node $node: $stopped links do not stream" if $stopped ne 0;
	}
	return @lines;
}

# settled_ok(@cases): compared right after healing; what waits settles within seconds.
sub settled_ok
{
	my ($name, @which) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	agree_ok("$name: all nodes hold the same rows");
	my @problems = problems(@which);
	is(join("\n", @problems), '', "$name: they are the rows expected");
	my ($until, @waiting) = time + $DatacakeCluster::timeout;
	usleep(100_000) while @waiting = waiting(@which), @waiting && time < $until;
	is(join("\n", @waiting), '', "$name: nothing waits but for a newer row, and no link stands still");
	note sprintf '%s: %d scenarios, %d divergent, %d unexpected, %d stopped', $name, scalar @which, @count{qw(divergent unexpected stopped)};
	return;
}

# run_steps(@cases): first steps of all, then the second ones and so on.
sub run_steps
{
	my (@which) = @_;
	for (my $k = 0;; $k++)
	{
		my @now = grep { $_->{steps}[$k] } @which;
		last if !@now;
		foreach my $node (1, 2)
		{
			run_all($node, map { with_table($_, $_->{steps}[$k][1]) } grep { $_->{steps}[$k][0] == $node } @now);
		}
	}
	return;
}

# ---- two nodes --------------------------------------------------------------------

my @links = map { my $from = $_; map { [ $from, $_ ] } grep { $_ != $from } 1 .. 3 } 1 .. 3;
my %ways = (
	paused => [ sub { $c->pause($_) foreach 1 .. 3; },          sub { $c->resume($_) foreach 1 .. 3; } ],
	slow   => [ sub { $c->freeze_link(@$_) foreach @links; }, sub { $c->thaw_link(@$_) foreach @links; } ],
);

foreach my $way (qw(paused slow))
{
	my @which = (add_cases("${way}_12_", 1, 2, @scenarios), add_cases("${way}_21_", 2, 1, @scenarios));
	create(@which);
	$ways{$way}[0]->();
	run_steps(@which);
	cmp_ok(scalar problems(@which), '>', @scenarios, "$way: before the nodes hear of each other hardly any has the rows expected");
	$ways{$way}[1]->();
	settled_ok($way, @which);
}

# ---- three nodes, one slow link ----------------------------------------------------

my @third = add_cases('third_', 1, 2, map { my ($kind, $name, $first, $then, @rest) = @$_; [ $kind, $name, [ A => $first ], [ B => $then ], @rest ] } @overtaking);
$c->sql($_, 'CREATE TABLE marker (id int PRIMARY KEY)') foreach 1 .. 3;
$c->replicate('marker');
create(@third);
my @conflicts = $c->sql_all('SELECT sum(conflicts) FROM datacake.keyspaces');
$c->freeze_link(1, 3);
run_all(1, (map { with_table($_, $_->{steps}[0][1]) } @third), 'INSERT INTO marker VALUES (1)');
$c->await(2, 'SELECT count(*) FROM marker', 1, 'node 2 has what node 1 wrote');
run_all(2, (map { with_table($_, $_->{steps}[1][1]) } @third), 'INSERT INTO marker VALUES (2)');
$c->await(3, 'SELECT max(id) FROM marker', 2, 'node 3 has what node 2 made of it, and not what node 1 wrote');
$c->thaw_link(1, 3);
settled_ok('overtaken', @third);
is(join(' ', $c->sql_all('SELECT sum(conflicts) FROM datacake.keyspaces')), "@conflicts", 'overtaken: no conflict is told, on no node');

# ---- what lost is told ---------------------------------------------------------------

foreach my $node (1 .. 3)
{
	my $lost = 0;
	$lost += $_->{waits} foreach @cases;
	is( $c->sql($node, q{SELECT count(DISTINCT (c.relation::oid, c.key)) FROM datacake.quarantine q JOIN datacake.conflicts c ON c.lost = q.stamp AND c.kept = q.other_stamp
			WHERE c.kind = 'unique' AND c.lost_row->>'id' IS NOT NULL AND c.kept_row->>'id' IS NOT NULL}),
		$lost, "node $node: each row that waits is in datacake.conflicts, whole, with the one it lost to");
}
$c->restart(3, 'immediate');
$c->wait_for_nodes;
settled_ok('after a crash', @cases);

# ---- the controls ------------------------------------------------------------------------

my ($case) = grep { $_->{name} =~ /^update, later update \(paused_12/ } @cases;
$c->sql(2, "SET datacake.capture = off; UPDATE $case->{table} SET w = 'behind' WHERE id = 0");
my @found = problems(@cases);
is(scalar(@found) . " $count{divergent}", '1 1', 'control: a row changed behind datacake\'s back is divergent');
like($found[0], qr/^\Q$case->{name}\E:/, 'control: and is named');
$c->differ_ok('control: verify() sees it');
$c->sql($_, "SET datacake.capture = off; UPDATE $case->{table} SET w = 'base' WHERE id = 0; DELETE FROM $case->{table} WHERE id = 99") foreach 1 .. 3;
@found = problems(@cases);
is(scalar(@found) . " $count{divergent}", '1 0', 'control: an innocent row deleted everywhere is unexpected, though no node differs');

done_testing();
