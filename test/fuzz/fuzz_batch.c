/*
 * fuzz_batch.c
 *		Any bytes as a batch, read as apply reads it.
 *
 * The dictionary and the changes are collected first and written again
 * afterwards.  Of each batch that is accepted must hold:
 *
 *	- every slice lies within the message; every change has a keyspace, a
 *	  valid stamp and a key, and an image only if it is live or a floor
 *	- a change without key is a death that replaced nothing, one a keyspace
 *	- written again it is the same bytes (a batch has one encoding)
 *	- each change travels alone, too: with the bytes of its keyspace's
 *	  dictionary entry it makes a batch (that is how one waits in quarantine)
 *
 * The seeds in corpus/fuzz_batch are what "build/unit/test_batch FOLDER"
 * writes, and inputs that once broke something.
 */
#include "batch.h"
#include "known.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(claim) ((claim) ? (void) 0 : broken(#claim, __LINE__))

static void
broken(const char *claim, int line)
{
	fprintf(stderr, "fuzz_batch.c:%d: does not hold: %s\n", line, claim);
	abort();
}

typedef struct Keyspace
{
	DcBatchKeyspace keyspace;
	DcSlice (*columns)[2]; /* name, type */
	DcSlice dictionary;
} Keyspace;

typedef struct Batch
{
	const uint8_t *data;
	size_t size;
	uint32_t keyspace_count;
	Keyspace *keyspaces;
	size_t change_count;
	size_t capacity;
	DcChange *changes;
} Batch;

static void *
allocate(size_t count, size_t size)
{
	void *memory = calloc(count > 0 ? count : 1, size);

	MUST(memory != NULL);
	return memory;
}

static bool
within(const Batch *batch, DcSlice slice)
{
	return slice.length == 0 ||
		   (slice.data >= batch->data && slice.length <= batch->size &&
			(size_t) (slice.data - batch->data) <= batch->size - slice.length);
}

static void
read_keyspace(Batch *batch, DcReader *r, Keyspace *to)
{
	size_t start = r->offset;

	dc_batch_read_keyspace(r, &to->keyspace);
	MUST(to->keyspace.column_count <= DC_BATCH_COLUMNS_MAX);
	MUST(within(batch, to->keyspace.schema));
	MUST(within(batch, to->keyspace.name));
	to->columns = allocate(to->keyspace.column_count, sizeof(*to->columns));
	for (uint32_t i = 0; i < to->keyspace.column_count; i++)
	{
		dc_batch_read_column(r, &to->columns[i][0], &to->columns[i][1]);
		MUST(within(batch, to->columns[i][0]));
		MUST(within(batch, to->columns[i][1]));
	}
	if (r->status == DC_OK)
		to->dictionary = (DcSlice){r->data + start, r->offset - start};
}

static void
add_change(Batch *batch, const DcChange *change)
{
	MUST(change->keyspace < batch->keyspace_count);
	MUST(dc_hlc_valid(change->entry.stamp));
	MUST(change->replaced == DC_HLC_NONE || dc_hlc_valid(change->replaced));
	MUST(change->key.length <= DC_KEY_BYTES_LIMIT);
	MUST(!change->entry.dead || change->image.length == 0 ||
		 (dc_change_is_floor(change) && dc_known_valid(change->image)));
	MUST(!change->reborn ||
		 (change->replaced != DC_HLC_NONE && !change->entry.dead));
	if (dc_change_is_floor(change))
	{
		MUST(change->entry.dead && change->replaced == DC_HLC_NONE);
		for (size_t i = 0; i < batch->change_count; i++)
			MUST(!dc_change_is_floor(&batch->changes[i]) ||
				 batch->changes[i].keyspace != change->keyspace);
	}
	MUST(within(batch, change->key) && within(batch, change->image));
	if (batch->change_count == batch->capacity)
	{
		batch->capacity = batch->capacity * 2 + 64;
		batch->changes =
			realloc(batch->changes, batch->capacity * sizeof(DcChange));
		MUST(batch->changes != NULL);
	}
	batch->changes[batch->change_count++] = *change;
}

static DcStatus
read_batch(Batch *batch)
{
	DcReader r;
	DcBatchFloors floors = {{0}};
	DcChange change;

	dc_reader_init(&r, batch->data, batch->size);
	batch->keyspace_count = dc_batch_read_begin(&r);
	MUST(batch->keyspace_count <= DC_BATCH_KEYSPACES_MAX);
	batch->keyspaces = allocate(batch->keyspace_count, sizeof(Keyspace));
	for (uint32_t i = 0; i < batch->keyspace_count && r.status == DC_OK; i++)
		read_keyspace(batch, &r, &batch->keyspaces[i]);
	while (r.status == DC_OK &&
		   dc_batch_read_change(&r, batch->keyspace_count, &floors, &change))
		add_change(batch, &change);
	return dc_reader_finish(&r);
}

static void
free_batch(Batch *batch)
{
	for (uint32_t i = 0; i < batch->keyspace_count; i++)
		free(batch->keyspaces[i].columns);
	free(batch->keyspaces);
	free(batch->changes);
}

static void
write_batch(DcWriter *w, const Batch *batch)
{
	dc_batch_begin(w, batch->keyspace_count);
	for (uint32_t i = 0; i < batch->keyspace_count; i++)
	{
		const Keyspace *from = &batch->keyspaces[i];

		dc_batch_keyspace(w, &from->keyspace);
		for (uint32_t k = 0; k < from->keyspace.column_count; k++)
			dc_batch_column(w, from->columns[k][0], from->columns[k][1]);
	}
	for (size_t i = 0; i < batch->change_count; i++)
		dc_batch_change(w, &batch->changes[i]);
	dc_batch_end(w);
}

static void
check_canonical(const Batch *batch, uint8_t *room)
{
	DcWriter w;

	dc_writer_init(&w, room, batch->size);
	write_batch(&w, batch);
	MUST(w.status == DC_OK);
	MUST(w.length == batch->size);
	MUST(memcmp(room, batch->data, batch->size) == 0);
}

static void
check_alone(const Batch *batch, const DcChange *change, uint8_t *room,
			size_t capacity)
{
	DcSlice dictionary = batch->keyspaces[change->keyspace].dictionary;
	DcChange sent = *change;
	DcBatchKeyspace keyspace;
	DcSlice name, type;
	DcBatchFloors floors = {{0}};
	DcChange got;
	DcReader r;
	DcWriter w;

	sent.keyspace = 0;
	dc_writer_init(&w, room, capacity);
	dc_batch_begin(&w, 1);
	dc_write_bytes(&w, dictionary.data, dictionary.length);
	dc_batch_change(&w, &sent);
	dc_batch_end(&w);
	MUST(w.status == DC_OK);

	dc_reader_init(&r, room, w.length);
	MUST(dc_batch_read_begin(&r) == 1);
	dc_batch_read_keyspace(&r, &keyspace);
	for (uint32_t i = 0; i < keyspace.column_count; i++)
		dc_batch_read_column(&r, &name, &type);
	MUST(dc_batch_read_change(&r, 1, &floors, &got));
	MUST(got.entry.stamp == sent.entry.stamp);
	MUST(got.entry.dead == sent.entry.dead);
	MUST(got.replaced == sent.replaced && got.reborn == sent.reborn);
	MUST(got.key.length == sent.key.length);
	MUST(memcmp(got.key.data, sent.key.data, sent.key.length) == 0);
	MUST(got.image.length == sent.image.length);
	MUST(sent.image.length == 0 ||
		 memcmp(got.image.data, sent.image.data, sent.image.length) == 0);
	MUST(!dc_batch_read_change(&r, 1, &floors, &got));
	MUST(dc_reader_finish(&r) == DC_OK);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Batch batch = {.data = data, .size = size};
	size_t capacity = size + 64;
	uint8_t *room = allocate(capacity, 1);

	if (read_batch(&batch) == DC_OK)
	{
		check_canonical(&batch, room);
		for (size_t i = 0; i < batch.change_count; i++)
			check_alone(&batch, &batch.changes[i], room, capacity);
	}
	free_batch(&batch);
	free(room);
	return 0;
}
