/*
 * batch.c
 *		Codec of what travels between nodes: the changes of transactions.
 */
#include "batch.h"

#include "known.h"

void
dc_batch_begin(DcWriter *w, uint32_t keyspace_count)
{
	dc_write_u8(w, DC_BATCH_VERSION);
	dc_write_varint(w, keyspace_count);
}

void
dc_batch_keyspace(DcWriter *w, const DcBatchKeyspace *keyspace)
{
	dc_write_u64(w, keyspace->id);
	dc_write_string(w, keyspace->schema.data, keyspace->schema.length);
	dc_write_string(w, keyspace->name.data, keyspace->name.length);
	dc_write_varint(w, keyspace->column_count);
}

void
dc_batch_column(DcWriter *w, DcSlice name, DcSlice type)
{
	dc_write_string(w, name.data, name.length);
	dc_write_string(w, type.data, type.length);
}

void
dc_batch_change(DcWriter *w, const DcChange *change)
{
	uint8_t flags = 0;

	if (change->entry.dead)
		flags |= DC_CHANGE_DEAD;
	if (change->replaced != DC_HLC_NONE)
		flags |= DC_CHANGE_REPLACED;
	if (change->reborn)
		flags |= DC_CHANGE_REBORN;
	dc_write_varint(w, (uint64_t) change->keyspace + 1);
	dc_write_u8(w, flags);
	dc_write_u64(w, change->entry.stamp);
	if (change->replaced != DC_HLC_NONE)
		dc_write_u64(w, change->replaced);
	dc_write_string(w, change->key.data, change->key.length);
	if (!change->entry.dead || dc_change_is_floor(change))
		dc_write_string(w, change->image.data, change->image.length);
}

void
dc_batch_end(DcWriter *w)
{
	dc_write_varint(w, 0);
}

uint32_t
dc_batch_read_begin(DcReader *r)
{
	uint8_t version = dc_read_u8(r);

	if (r->status == DC_OK && version != DC_BATCH_VERSION)
		dc_reader_fail(r, DC_VERSION);
	return (uint32_t) dc_read_varint(r, DC_BATCH_KEYSPACES_MAX);
}

void
dc_batch_read_keyspace(DcReader *r, DcBatchKeyspace *keyspace)
{
	keyspace->id = dc_read_u64(r);
	keyspace->schema = dc_read_string(r, DC_BATCH_NAME_BYTES_MAX);
	keyspace->name = dc_read_string(r, DC_BATCH_NAME_BYTES_MAX);
	keyspace->column_count = (uint32_t) dc_read_varint(r, DC_BATCH_COLUMNS_MAX);
}

void
dc_batch_read_column(DcReader *r, DcSlice *name, DcSlice *type)
{
	*name = dc_read_string(r, DC_BATCH_NAME_BYTES_MAX);
	*type = dc_read_string(r, DC_BATCH_NAME_BYTES_MAX);
}

/* Only a row can follow a death; a death replaces a row. */
static bool
flags_are_valid(uint8_t flags)
{
	if (flags & DC_CHANGE_REBORN)
		return flags == (DC_CHANGE_REBORN | DC_CHANGE_REPLACED);
	return (flags & ~DC_CHANGE_FLAGS) == 0;
}

/* A change without key: a death, of which nothing was replaced, once. */
static bool
floor_is_valid(DcBatchFloors *floors, const DcChange *change, uint8_t flags)
{
	uint8_t *byte = &floors->seen[change->keyspace / 8];
	uint8_t bit = (uint8_t) (1u << change->keyspace % 8);
	bool valid = flags == DC_CHANGE_DEAD && (*byte & bit) == 0 &&
				 (change->image.length == 0 || dc_known_valid(change->image));

	*byte |= bit;
	return valid;
}

bool
dc_batch_read_change(DcReader *r, uint32_t keyspace_count,
					 DcBatchFloors *floors, DcChange *change)
{
	uint64_t index = dc_read_varint(r, keyspace_count);
	uint8_t flags;

	if (index == 0 || r->status != DC_OK)
		return false;
	flags = dc_read_u8(r);
	if (!flags_are_valid(flags))
		dc_reader_fail(r, DC_MALFORMED);
	change->keyspace = (uint32_t) index - 1;
	change->entry.dead = (flags & DC_CHANGE_DEAD) != 0;
	change->entry.stamp = dc_read_u64(r);
	change->reborn = (flags & DC_CHANGE_REBORN) != 0;
	change->replaced = DC_HLC_NONE;
	if (flags & DC_CHANGE_REPLACED)
	{
		change->replaced = dc_read_u64(r);
		if (!dc_hlc_valid(change->replaced))
			dc_reader_fail(r, DC_MALFORMED);
	}
	change->key = dc_read_string(r, DC_KEY_BYTES_LIMIT);
	change->image = (DcSlice){NULL, 0};
	if (!change->entry.dead || dc_change_is_floor(change))
		change->image = dc_read_string(r, DC_BATCH_BYTES_MAX);
	if (!dc_hlc_valid(change->entry.stamp))
		dc_reader_fail(r, DC_MALFORMED);
	if (r->status == DC_OK && dc_change_is_floor(change) &&
		!floor_is_valid(floors, change, flags))
		dc_reader_fail(r, DC_MALFORMED);
	return r->status == DC_OK;
}
