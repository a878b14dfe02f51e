/*
 * test_batch.c
 *		Batches: round trips, one encoding for each value, limits, damage.
 *
 * Damaged batches are read from heap blocks of exactly their length, so that
 * the address sanitizer sees any byte read too much.
 *
 * Called with the name of a folder it writes sample batches there instead:
 * the seeds of test/fuzz/corpus/fuzz_batch.
 */
#include "batch.h"
#include "known.h"
#include "tap.h"

#include <stdlib.h>
#include <string.h>

#define ROOM 65536

/* What reading a batch front to back came to. */
typedef struct Walk
{
	DcStatus status;
	uint32_t keyspaces;
	uint32_t columns;
	uint32_t changes;
	uint8_t bytes[ROOM]; /* what was read, written again */
	size_t length;
} Walk;

static Walk walk;

static DcSlice
slice(const void *data, size_t length)
{
	return (DcSlice){data, length};
}

static DcSlice
text(const char *string)
{
	return slice(string, strlen(string));
}

/* `length` bytes of `fill`; all slices of one fill share their bytes. */
static DcSlice
filled(char fill, size_t length)
{
	static uint8_t bytes[256][DC_KEY_BYTES_LIMIT + 1];
	uint8_t *mine = bytes[(uint8_t) fill];

	memset(mine, fill, sizeof(bytes[0]));
	return slice(mine, length);
}

static bool
equal(DcSlice a, DcSlice b)
{
	return a.length == b.length &&
		   (a.length == 0 || memcmp(a.data, b.data, a.length) == 0);
}

/* Reads as a server does, and writes what it reads.  Fills `walk`. */
static DcStatus
walk_batch(const uint8_t *data, size_t length)
{
	DcReader r;
	DcWriter w;
	uint32_t count;
	DcBatchFloors floors = {{0}};
	DcChange change;

	walk.keyspaces = walk.columns = walk.changes = 0;
	dc_reader_init(&r, data, length);
	dc_writer_init(&w, walk.bytes, sizeof(walk.bytes));
	count = dc_batch_read_begin(&r);
	dc_batch_begin(&w, count);
	for (uint32_t i = 0; i < count && r.status == DC_OK; i++)
	{
		DcBatchKeyspace keyspace;

		dc_batch_read_keyspace(&r, &keyspace);
		dc_batch_keyspace(&w, &keyspace);
		walk.keyspaces++;
		for (uint32_t k = 0; k < keyspace.column_count && r.status == DC_OK;
			 k++)
		{
			DcSlice name, type;

			dc_batch_read_column(&r, &name, &type);
			dc_batch_column(&w, name, type);
			walk.columns++;
		}
	}
	while (r.status == DC_OK &&
		   dc_batch_read_change(&r, count, &floors, &change))
	{
		dc_batch_change(&w, &change);
		walk.changes++;
	}
	dc_batch_end(&w);
	walk.status = dc_reader_finish(&r);
	walk.length = w.status == DC_OK ? w.length : 0;
	return walk.status;
}

static DcStatus
walk_copy(const uint8_t *data, size_t length)
{
	uint8_t *copy = malloc(length > 0 ? length : 1);

	if (copy == NULL)
		abort();
	memcpy(copy, data, length);
	walk_batch(copy, length);
	free(copy);
	return walk.status;
}

static bool
recodes_to(const uint8_t *data, size_t length)
{
	return walk.length == length && memcmp(walk.bytes, data, length) == 0;
}

/* --- samples --- */

#define SAMPLE_KEYSPACES 3
#define SAMPLE_COLUMNS   3
#define SAMPLE_CHANGES   8

typedef struct Sample
{
	uint32_t keyspace_count;
	uint32_t change_count;
	DcBatchKeyspace keyspaces[SAMPLE_KEYSPACES];
	DcSlice columns[SAMPLE_KEYSPACES][SAMPLE_COLUMNS][2];
	DcChange changes[SAMPLE_CHANGES];
} Sample;

static void
sample_keyspaces(Sample *sample)
{
	sample->keyspace_count = 3;
	sample->keyspaces[0] =
		(DcBatchKeyspace){1, text("datacake"), text("keyspace"), 0};
	sample->keyspaces[1] = (DcBatchKeyspace){UINT64_C(0x0102030405060708),
											 text("public"), text("orders"), 3};
	sample->keyspaces[2] =
		(DcBatchKeyspace){UINT64_MAX, text(""), text("\xc3\xa4 \"b\""), 1};
	sample->columns[1][0][0] = text("id");
	sample->columns[1][0][1] = text("pg_catalog.int8");
	sample->columns[1][1][0] = text("note");
	sample->columns[1][1][1] = text("");
	sample->columns[1][2][0] = text("a");
	sample->columns[1][2][1] = text("pg_catalog.numeric(10,2)");
	sample->columns[2][0][0] = text("k");
	sample->columns[2][0][1] = text("pg_catalog.text");
}

/* What a writer knew: a floor, two sources, two keys.  Its length. */
static size_t
write_known(uint8_t *data, size_t capacity, DcHlc floor, DcHlc last)
{
	static DcVv vector;
	DcWriter w;

	dc_vv_init(&vector);
	vector.at[1] = dc_hlc_make(10, 1);
	vector.at[2] = dc_hlc_make(20, 2);
	dc_writer_init(&w, data, capacity);
	dc_known_begin(&w, floor, &vector, 2);
	dc_known_key(&w, text("a"), dc_hlc_make(30, 1));
	dc_known_key(&w, text("bb"), last);
	return w.length;
}

/* Live and dead, with and without a replaced stamp, with and without image. */
static const Sample *
small_sample(void)
{
	static Sample sample;
	static uint8_t known[128];
	DcHlc first = dc_hlc_make(0, 1);
	DcHlc middle = dc_hlc_make(UINT64_C(700000000000000), 17);

	sample_keyspaces(&sample);
	sample.change_count = 8;
	sample.changes[0] = (DcChange){1,
								   {middle, false},
								   DC_HLC_NONE,
								   false,
								   text("12345678"),
								   text("\x09"
										"12345678")};
	sample.changes[1] = (DcChange){1,     {middle, false},  first,
								   false, text("87654321"), text("x")};
	sample.changes[2] = (DcChange){2,     {DC_HLC_MAX, true}, middle,
								   false, text("\x01k"),      text("")};
	sample.changes[3] =
		(DcChange){2, {first, true}, DC_HLC_NONE, false, text("k"), text("")};
	sample.changes[4] = (DcChange){0,     {first, false}, DC_HLC_NONE,
								   false, slice("", 1),   text("")};
	sample.changes[5] =
		(DcChange){1,       {middle + 1024, false}, DC_HLC_MAX, true, text("z"),
				   text("")};
	/* floors: one below and one above other changes of their keyspaces */
	sample.changes[6] =
		(DcChange){1,       {middle - 1024, true}, DC_HLC_NONE, false, text(""),
				   text("")};
	sample.changes[7] =
		(DcChange){2, {middle, true}, DC_HLC_NONE, false, text(""), text("")};
	sample.changes[7].image =
		slice(known, write_known(known, sizeof(known), first, middle));
	return &sample;
}

/* Names, keys and images as long as a batch may hold them, or longer than a
 * varint of one byte. */
static const Sample *
long_sample(void)
{
	static Sample sample;

	sample_keyspaces(&sample);
	sample.keyspaces[0].schema = filled('s', DC_BATCH_NAME_BYTES_MAX);
	sample.keyspaces[0].name = filled('n', DC_BATCH_NAME_BYTES_MAX);
	sample.columns[1][2][0] = filled('c', DC_BATCH_NAME_BYTES_MAX);
	sample.columns[1][2][1] = filled('t', DC_BATCH_NAME_BYTES_MAX);
	sample.change_count = 2;
	sample.changes[0] =
		(DcChange){0,     {dc_hlc_make(1, 1023), false},   DC_HLC_NONE,
				   false, filled('k', DC_KEY_BYTES_LIMIT), filled('i', 128)};
	sample.changes[1] =
		(DcChange){2,     {dc_hlc_make(2, 1), true}, dc_hlc_make(1, 1023),
				   false, filled('l', 127),          text("")};
	return &sample;
}

static size_t
write_sample(uint8_t *data, size_t capacity, const Sample *sample)
{
	DcWriter w;

	dc_writer_init(&w, data, capacity);
	dc_batch_begin(&w, sample->keyspace_count);
	for (uint32_t i = 0; i < sample->keyspace_count; i++)
	{
		dc_batch_keyspace(&w, &sample->keyspaces[i]);
		for (uint32_t k = 0; k < sample->keyspaces[i].column_count; k++)
			dc_batch_column(&w, sample->columns[i][k][0],
							sample->columns[i][k][1]);
	}
	for (uint32_t i = 0; i < sample->change_count; i++)
		dc_batch_change(&w, &sample->changes[i]);
	dc_batch_end(&w);
	return w.status == DC_OK ? w.length : 0;
}

static bool
reads_dictionary(DcReader *r, const Sample *sample)
{
	bool right = dc_batch_read_begin(r) == sample->keyspace_count;

	for (uint32_t i = 0; i < sample->keyspace_count; i++)
	{
		const DcBatchKeyspace *expected = &sample->keyspaces[i];
		DcBatchKeyspace keyspace;

		dc_batch_read_keyspace(r, &keyspace);
		right &= keyspace.id == expected->id &&
				 equal(keyspace.schema, expected->schema) &&
				 equal(keyspace.name, expected->name) &&
				 keyspace.column_count == expected->column_count;
		for (uint32_t k = 0; k < expected->column_count; k++)
		{
			DcSlice name, type;

			dc_batch_read_column(r, &name, &type);
			right &= equal(name, sample->columns[i][k][0]) &&
					 equal(type, sample->columns[i][k][1]);
		}
	}
	return right;
}

static bool
reads_changes(DcReader *r, const Sample *sample)
{
	bool right = true;
	DcBatchFloors floors = {{0}};
	DcChange change;

	for (uint32_t i = 0; i < sample->change_count; i++)
	{
		const DcChange *expected = &sample->changes[i];

		right &=
			dc_batch_read_change(r, sample->keyspace_count, &floors, &change) &&
			change.keyspace == expected->keyspace &&
			change.entry.stamp == expected->entry.stamp &&
			change.entry.dead == expected->entry.dead &&
			change.replaced == expected->replaced &&
			change.reborn == expected->reborn &&
			equal(change.key, expected->key) &&
			equal(change.image, expected->image);
	}
	return right &&
		   !dc_batch_read_change(r, sample->keyspace_count, &floors, &change);
}

static bool
reads_as(const uint8_t *data, size_t length, const Sample *sample)
{
	DcReader r;

	dc_reader_init(&r, data, length);
	return reads_dictionary(&r, sample) && reads_changes(&r, sample) &&
		   dc_reader_finish(&r) == DC_OK;
}

/* --- what holds of every batch --- */

static void
test_round_trip(const char *name, const Sample *sample)
{
	static uint8_t data[ROOM];
	size_t length = write_sample(data, sizeof(data), sample);

	ok(length > 0 && reads_as(data, length, sample),
	   "a batch of %s (%zu bytes) is read back field by field", name, length);
	ok(walk_copy(data, length) == DC_OK && recodes_to(data, length),
	   "a batch of %s, read and written again, is the same bytes", name);
	ok(write_sample(NULL, 0, sample) == length,
	   "a writer without a buffer counts the bytes of a batch of %s", name);
}

static void
test_truncation(const char *name, const Sample *sample)
{
	static uint8_t data[ROOM];
	size_t length = write_sample(data, sizeof(data), sample);
	bool refused = true;

	for (size_t n = 0; n < length; n++)
		refused &= walk_copy(data, n) == DC_TRUNCATED;
	ok(refused, "every truncation of a batch of %s is refused", name);
}

static void
test_trailing(void)
{
	static uint8_t data[ROOM];
	size_t length = write_sample(data, sizeof(data), small_sample());
	bool refused = true;

	for (unsigned byte = 0; byte < 256; byte++)
	{
		data[length] = (uint8_t) byte;
		refused &= walk_copy(data, length + 1) == DC_MALFORMED;
	}
	ok(refused, "a byte after the end of a batch is refused");
}

/* True when what is accepted is written again as exactly these bytes. */
static bool
refused_or_canonical(const uint8_t *data, size_t length, unsigned *accepted)
{
	if (walk_copy(data, length) != DC_OK)
		return true;
	++*accepted;
	return recodes_to(data, length);
}

static void
test_corruption(void)
{
	static uint8_t data[ROOM];
	size_t length = write_sample(data, sizeof(data), small_sample());
	unsigned accepted = 0;
	bool holds = true;

	for (size_t i = 0; i < length && holds; i++)
	{
		uint8_t was = data[i];

		for (unsigned flip = 1; flip < 256 && holds; flip++)
		{
			data[i] = (uint8_t) (was ^ flip);
			holds = refused_or_canonical(data, length, &accepted);
			if (!holds)
				note("byte %zu of %zu: %02x -> %02x", i, length, was, data[i]);
		}
		data[i] = was;
	}
	ok(holds && accepted > 0,
	   "a batch with one wrong byte is refused or means another batch (%u of "
	   "%zu)",
	   accepted, length * 255);
}

/* Bytes from elsewhere in the batch, one to four of them, and other lengths. */
static void
test_splices(void)
{
	static uint8_t data[ROOM];
	static uint8_t copy[ROOM];
	size_t length = write_sample(data, sizeof(data), small_sample());
	uint64_t state = 1;
	unsigned accepted = 0;
	bool holds = true;

	for (unsigned round = 0; round < 100000 && holds; round++)
	{
		uint32_t n = 1 + tap_below(&state, 4);
		uint32_t from = tap_below(&state, (uint32_t) length - n);
		uint32_t to = tap_below(&state, (uint32_t) length - n);
		uint32_t cut = tap_below(&state, 3); /* bytes left out after those */
		size_t rest = length - to - n;

		cut = cut < rest ? cut : (uint32_t) rest;
		memcpy(copy, data, length);
		memcpy(copy + to, data + from, n);
		memmove(copy + to + n, data + to + n + cut, rest - cut);
		holds = refused_or_canonical(copy, length - cut, &accepted);
	}
	ok(holds && accepted > 0,
	   "a batch with bytes moved is refused or means another batch (%u of "
	   "100000)",
	   accepted);
}

static void
test_golden(void)
{
	/* version, keyspaces, id, schema, name, columns, column, type */
	static const uint8_t golden[] =
		{1, 1, 0, 0, 0, 0, 0, 0, 0, 9, 1, 's', 1, 't', 1, 1, 'c', 1, 'y',
		 /* keyspace + 1, flags, stamp, key, image */
		 1, 0, 0, 0, 0, 0, 0, 0, 4, 1, 2, 'k', 'l', 3, 3, 'v', 'w',
		 /* keyspace + 1, flags, stamp, replaced, key */
		 1, 3, 0, 0, 0, 0, 0, 0, 8, 1, 0, 0, 0, 0, 0, 0, 4, 1, 1, 'm',
		 /* the end */
		 0};
	Sample sample = {
		.keyspace_count = 1,
		.change_count = 2,
		.keyspaces = {{9, text("s"), text("t"), 1}},
		.columns = {{{text("c"), text("y")}}},
		.changes = {{0, {1025, false}, 0, false, text("kl"), text("\003vw")},
					{0, {2049, true}, 1025, false, text("m"), text("")}},
	};
	uint8_t data[sizeof(golden)];

	ok(write_sample(data, sizeof(data), &sample) == sizeof(golden) &&
		   memcmp(data, golden, sizeof(golden)) == 0 &&
		   reads_as(golden, sizeof(golden), &sample),
	   "a batch has the bytes that doc/wire-format.md says");
	ok(write_sample(data, sizeof(data) - 1, &sample) == 0,
	   "a batch that does not fit its buffer is not written");
}

/* --- limits --- */

/* A dictionary that is all the same, and no changes. */
static DcStatus
walk_dictionary(uint32_t keyspaces, uint32_t columns, size_t name_bytes,
				size_t type_bytes)
{
	static uint8_t data[ROOM];
	DcBatchKeyspace keyspace = {7, filled('s', name_bytes),
								filled('n', name_bytes), columns};
	DcWriter w;

	dc_writer_init(&w, data, sizeof(data));
	dc_batch_begin(&w, keyspaces);
	for (uint32_t i = 0; i < keyspaces; i++)
	{
		dc_batch_keyspace(&w, &keyspace);
		for (uint32_t k = 0; k < columns; k++)
			dc_batch_column(&w, filled('c', name_bytes),
							filled('t', type_bytes));
	}
	dc_batch_end(&w);
	if (w.status != DC_OK)
		abort();
	return walk_copy(data, w.length);
}

static void
test_dictionary_limits(void)
{
	ok(walk_dictionary(0, 0, 0, 0) == DC_OK, "a batch may be empty");
	ok(walk_dictionary(DC_BATCH_KEYSPACES_MAX, 0, 1, 1) == DC_OK &&
		   walk.keyspaces == DC_BATCH_KEYSPACES_MAX,
	   "%u keyspaces are taken", DC_BATCH_KEYSPACES_MAX);
	ok(walk_dictionary(DC_BATCH_KEYSPACES_MAX + 1, 0, 1, 1) == DC_MALFORMED &&
		   walk.keyspaces == 0,
	   "more keyspaces are refused before one is read");
	ok(walk_dictionary(1, DC_BATCH_COLUMNS_MAX, 1, 1) == DC_OK &&
		   walk.columns == DC_BATCH_COLUMNS_MAX,
	   "%u columns are taken", DC_BATCH_COLUMNS_MAX);
	ok(walk_dictionary(1, DC_BATCH_COLUMNS_MAX + 1, 1, 1) == DC_MALFORMED &&
		   walk.columns == 0,
	   "more columns are refused before one is read");
	ok(walk_dictionary(1, 1, 255, 255) == DC_OK,
	   "names and types of 255 bytes are taken");
	ok(walk_dictionary(1, 0, 256, 0) == DC_MALFORMED,
	   "a table's name of 256 bytes is refused");
	ok(walk_dictionary(1, 1, 255, 256) == DC_MALFORMED,
	   "a type of 256 bytes is refused");
}

/* A batch of one change, bytes as given. */
static DcStatus
walk_change(uint32_t keyspace, uint8_t flags, DcHlc stamp, DcHlc replaced,
			size_t key_bytes)
{
	static uint8_t data[ROOM];
	DcBatchKeyspace one = {7, text("s"), text("t"), 0};
	DcWriter w;

	dc_writer_init(&w, data, sizeof(data));
	dc_batch_begin(&w, 1);
	dc_batch_keyspace(&w, &one);
	dc_write_varint(&w, (uint64_t) keyspace + 1);
	dc_write_u8(&w, flags);
	dc_write_u64(&w, stamp);
	if (flags & DC_CHANGE_REPLACED)
		dc_write_u64(&w, replaced);
	dc_write_string(&w, filled('k', key_bytes).data, key_bytes);
	if (!(flags & DC_CHANGE_DEAD))
		dc_write_string(&w, "image", 5);
	dc_batch_end(&w);
	return walk_copy(data, w.length);
}

static void
test_change_limits(void)
{
	const DcHlc good = dc_hlc_make(5, 5);
	const DcHlc nobody = dc_hlc_make(5, 0);
	bool refused = true;

	ok(walk_change(0, 0, good, 0, 1) == DC_OK && walk.changes == 1,
	   "a plain change is taken");
	ok(walk_change(1, 0, good, 0, 1) == DC_MALFORMED,
	   "a keyspace that the dictionary does not have is refused");
	for (unsigned flags = DC_CHANGE_FLAGS + 1; flags < 256; flags++)
		refused &=
			walk_change(0, (uint8_t) flags, good, good, 1) == DC_MALFORMED;
	ok(refused, "every unknown flag is refused");
	ok(walk_change(0, DC_CHANGE_REBORN | DC_CHANGE_REPLACED, good, good, 1) ==
			   DC_OK &&
		   walk_change(0, DC_CHANGE_REBORN, good, 0, 1) == DC_MALFORMED &&
		   walk_change(0, DC_CHANGE_FLAGS, good, good, 1) == DC_MALFORMED &&
		   walk_change(0, DC_CHANGE_REBORN | DC_CHANGE_DEAD, good, 0, 1) ==
			   DC_MALFORMED,
	   "only a row that replaced something can have followed a death");
	ok(walk_change(0, 0, DC_HLC_NONE, 0, 1) == DC_MALFORMED,
	   "stamp 0 is refused");
	ok(walk_change(0, 0, nobody, 0, 1) == DC_MALFORMED,
	   "a stamp without a node is refused");
	ok(walk_change(0, 0, DC_HLC_MAX, 0, 1) == DC_OK &&
		   walk_change(0, 0, DC_HLC_MAX + 2, 0, 1) == DC_MALFORMED,
	   "a stamp of 64 bits is refused, one of 63 is taken");
	ok(walk_change(0, DC_CHANGE_REPLACED, good, good - 1, 1) == DC_OK &&
		   walk_change(0, DC_CHANGE_REPLACED, good, 0, 1) == DC_MALFORMED &&
		   walk_change(0, DC_CHANGE_REPLACED, good, nobody, 1) ==
			   DC_MALFORMED &&
		   walk_change(0, DC_CHANGE_REPLACED, good, UINT64_MAX, 1) ==
			   DC_MALFORMED,
	   "a replaced stamp that is none is refused");
	ok(walk_change(0, 0, good, 0, 0) == DC_MALFORMED &&
		   walk_change(0, DC_CHANGE_REPLACED, good, good, 0) == DC_MALFORMED,
	   "a row without a key is refused");
	ok(walk_change(0, 0, good, 0, DC_KEY_BYTES_LIMIT) == DC_OK &&
		   walk_change(0, 0, good, 0, DC_KEY_BYTES_LIMIT + 1) == DC_MALFORMED,
	   "a key of %u bytes is taken, a longer one refused", DC_KEY_BYTES_LIMIT);
}

/* Floors of these keyspaces, each given by its digit, with a key's death. */
static DcStatus
walk_floors(const char *keyspaces, uint8_t flags, DcSlice image)
{
	static uint8_t data[ROOM];
	DcBatchKeyspace one = {7, text("s"), text("t"), 0};
	DcWriter w;

	dc_writer_init(&w, data, sizeof(data));
	dc_batch_begin(&w, 9);
	for (int i = 0; i < 9; i++)
		dc_batch_keyspace(&w, &one);
	for (; *keyspaces != '\0'; keyspaces++)
	{
		DcChange death = {(uint32_t) (*keyspaces - '0'),
						  {dc_hlc_make(5, 5), true},
						  DC_HLC_NONE,
						  false,
						  text("k"),
						  text("")};

		dc_batch_change(&w, &death);
		dc_write_varint(&w, (uint64_t) death.keyspace + 1);
		dc_write_u8(&w, flags);
		dc_write_u64(&w, dc_hlc_make(5, 5));
		if (flags & DC_CHANGE_REPLACED)
			dc_write_u64(&w, dc_hlc_make(4, 4));
		dc_write_string(&w, "", 0);
		dc_write_string(&w, image.data, image.length);
	}
	dc_batch_end(&w);
	return walk_copy(data, w.length);
}

static void
test_floors(void)
{
	const DcSlice none = {NULL, 0};
	const uint8_t death = DC_CHANGE_DEAD;

	ok(walk_floors("0", death, none) == DC_OK && walk.changes == 2,
	   "a death without a key is taken: a floor");
	ok(walk_floors("807", death, none) == DC_OK && walk.changes == 6,
	   "each keyspace may have one");
	ok(walk_floors("00", death, none) == DC_MALFORMED &&
		   walk_floors("808", death, none) == DC_MALFORMED,
	   "a second floor of a keyspace is refused");
	ok(walk_floors("0", 0, none) == DC_MALFORMED &&
		   walk_floors("0", DC_CHANGE_DEAD | DC_CHANGE_REPLACED, none) ==
			   DC_MALFORMED,
	   "a floor that lives, or that replaced a row, is refused");
}

static void
test_known(void)
{
	uint8_t data[128];
	DcHlc last = dc_hlc_make(40, 2), floor = dc_hlc_make(5, 3);
	size_t length = write_known(data, sizeof(data), floor, last);
	DcSlice known = {data, length};
	bool refused = true;

	ok(dc_known_valid(known) &&
		   walk_floors("0", DC_CHANGE_DEAD, known) == DC_OK &&
		   recodes_to(walk.bytes, walk.length),
	   "a floor may say what its writer knew");
	ok(dc_known_covers(known, text("x"), dc_hlc_make(10, 1)) &&
		   !dc_known_covers(known, text("x"), dc_hlc_make(11, 1)) &&
		   dc_known_covers(known, text("x"), dc_hlc_make(20, 2)),
	   "it knew what its vector covers, and no more of another key");
	ok(dc_known_covers(known, text("x"), dc_hlc_make(4, 4)) &&
		   !dc_known_covers(known, text("x"), dc_hlc_make(6, 3)),
	   "and what an earlier TRUNCATE took");
	ok(dc_known_covers(known, text("a"), dc_hlc_make(30, 1)) &&
		   dc_known_covers(known, text("a"), dc_hlc_make(25, 3)) &&
		   !dc_known_covers(known, text("a"), dc_hlc_make(31, 1)) &&
		   dc_known_covers(known, text("bb"), last) &&
		   !dc_known_covers(known, text("b"), last),
	   "of a key that it names it knew what is not newer");
	for (size_t n = 1; n < length; n++)
		refused &=
			!dc_known_valid(slice(data, n)) &&
			walk_floors("0", DC_CHANGE_DEAD, slice(data, n)) == DC_MALFORMED;
	ok(refused && !dc_known_valid(slice(data, length + 1)),
	   "a part of it is refused, and more than it");
	length = write_known(data, sizeof(data), dc_hlc_make(5, 0), last);
	ok(!dc_known_valid(slice(data, length)), "a floor that is none is refused");
	length = write_known(data, sizeof(data), 0, dc_hlc_make(5, 0));
	ok(!dc_known_valid(slice(data, length)),
	   "a key with a stamp that is none is refused");
}

static void
test_version(void)
{
	static uint8_t data[ROOM];
	size_t length = write_sample(data, sizeof(data), small_sample());
	bool refused = true;

	for (unsigned version = 0; version < 256; version++)
	{
		data[0] = (uint8_t) version;
		if (version != DC_BATCH_VERSION)
			refused &=
				walk_copy(data, length) == DC_VERSION && walk.keyspaces == 0;
	}
	ok(refused, "every other version is refused, and nothing more is read");
}

/* --- promises that the message does not keep --- */

/* What `count` of something promises, with nothing behind it. */
static DcStatus
walk_promise(const char *bytes, size_t length, uint64_t promise)
{
	uint8_t data[64];
	DcWriter w;

	dc_writer_init(&w, data, sizeof(data));
	dc_write_bytes(&w, bytes, length);
	dc_write_varint(&w, promise);
	return walk_copy(data, w.length);
}

static void
test_promises(void)
{
	static const char dictionary[] = {1, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0};
	static const char change[] = {1, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0,  0,
								  1, 0, 0, 0, 0, 0, 0, 0, 4, 1, 1, 'k'};

	ok(walk_promise(dictionary, 1, 1024) == DC_TRUNCATED && walk.keyspaces == 1,
	   "1024 promised keyspaces cost one look for the first");
	ok(walk_promise(dictionary, sizeof(dictionary), 1600) == DC_TRUNCATED &&
		   walk.columns == 1,
	   "1600 promised columns cost one look for the first");
	ok(walk_promise(dictionary, 10, 255) == DC_TRUNCATED,
	   "a promised name that is not there is refused");
	ok(walk_promise(change, sizeof(change) - 2, 2000) == DC_TRUNCATED,
	   "a promised key that is not there is refused");
	ok(walk_promise(change, sizeof(change), DC_BATCH_BYTES_MAX) ==
			   DC_TRUNCATED &&
		   walk.changes == 0,
	   "a promised image of 256 MB that is not there is refused");
	ok(walk_promise(change, sizeof(change), DC_BATCH_BYTES_MAX + 1u) ==
			   DC_MALFORMED &&
		   walk_promise(change, sizeof(change), UINT64_MAX) == DC_MALFORMED,
	   "a longer image is refused whether or not it is there");
}

/* A value has one encoding: no count or length may be longer than it need. */
static void
test_minimal(void)
{
	static const uint8_t keyspaces[] = {1, 0x80, 0, 0};
	static const uint8_t end[] = {1, 0, 0x80, 0};

	ok(walk_copy(keyspaces, sizeof(keyspaces)) == DC_MALFORMED &&
		   walk_copy(end, sizeof(end)) == DC_MALFORMED,
	   "a count in more bytes than it needs is refused");
}

/* --- seeds --- */

static int
save(const char *folder, const char *name, const Sample *sample)
{
	static uint8_t data[ROOM];
	size_t length = write_sample(data, sizeof(data), sample);
	char path[4096];
	FILE *file;
	bool saved;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	file = fopen(path, "wb");
	saved = file != NULL && fwrite(data, 1, length, file) == length;
	if (file == NULL || fclose(file) != 0 || !saved)
	{
		perror(path);
		return 1;
	}
	return 0;
}

static int
save_seeds(const char *folder)
{
	Sample empty = {.keyspace_count = 0};
	Sample catalogue = *small_sample();
	Sample deaths = *small_sample();

	catalogue.keyspace_count = 1;
	catalogue.change_count = 1;
	catalogue.changes[0] = catalogue.changes[4];
	deaths.change_count = 2;
	memmove(deaths.changes, &deaths.changes[2], 2 * sizeof(DcChange));
	return save(folder, "empty", &empty) ||
		   save(folder, "catalogue", &catalogue) ||
		   save(folder, "deaths", &deaths) ||
		   save(folder, "mixed", small_sample()) ||
		   save(folder, "long", long_sample());
}

int
main(int argc, char **argv)
{
	if (argc > 1)
		return save_seeds(argv[1]);
	test_round_trip("mixed changes", small_sample());
	test_round_trip("long values", long_sample());
	test_golden();
	test_truncation("mixed changes", small_sample());
	test_truncation("long values", long_sample());
	test_trailing();
	test_corruption();
	test_splices();
	test_dictionary_limits();
	test_change_limits();
	test_floors();
	test_known();
	test_version();
	test_promises();
	test_minimal();
	return tap_done();
}
