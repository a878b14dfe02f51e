/*
 * batch.h
 *		Codec of what travels between nodes: the changes of transactions.
 *
 *	batch   = version u8 | dictionary | changes
 *	dictionary = varint n | n x keyspace
 *	keyspace   = id u64 | schema | name | varint c | c x (column, type)
 *	changes    = { varint keyspace index + 1 | change } ... 0
 *	change     = flags u8 | stamp u64 | [replaced u64] | key | [image]
 *	image      = varint bytes | for each column: varint length + 1, or 0 = NULL
 *	floor      = a change without key, dead: the keyspace was truncated; its
 *	             image is empty or what its writer knew (known.h)
 *
 * A floor is a death of every key of its keyspace.  Where it stands among the
 * changes means nothing, stamps decide; a keyspace has at most one.
 *
 * Strings are a varint length and bytes.  The encoding of a batch is unique:
 * varints are minimal, flags have no spare bit set, and nothing follows the
 * closing 0.  The image is opaque here: its columns are in PostgreSQL's
 * send/recv form, in the order the dictionary names them.
 *
 * The reader walks once, front to back, and allocates nothing; slices point
 * into the message.
 */
#ifndef DC_BATCH_H
#define DC_BATCH_H

#include "hlc.h"
#include "rules.h"
#include "wire.h"

#define DC_BATCH_VERSION        1
#define DC_BATCH_KEYSPACES_MAX  1024
#define DC_BATCH_COLUMNS_MAX    1600 /* PostgreSQL's MaxHeapAttributeNumber */
#define DC_BATCH_NAME_BYTES_MAX 255  /* identifiers; type names may be long */
#define DC_KEY_BYTES_LIMIT      2000 /* = DC_KEY_BYTES_MAX of the map */
#define DC_BATCH_BYTES_MAX      (256u * 1024 * 1024)

enum
{
	DC_CHANGE_DEAD = 1 << 0,     /* a tombstone: no image follows */
	DC_CHANGE_REPLACED = 1 << 1, /* `replaced` follows */
	DC_CHANGE_REBORN = 1 << 2,   /* ... and is the stamp of a death */
	DC_CHANGE_FLAGS = DC_CHANGE_DEAD | DC_CHANGE_REPLACED | DC_CHANGE_REBORN
};

typedef struct DcChange
{
	uint32_t keyspace; /* index into the dictionary */
	DcEntry entry;
	DcHlc replaced; /* stamp of what its writer knew of the key, or NONE */
	bool reborn;    /* and that was a death */
	DcSlice key;    /* empty: a floor */
	DcSlice image;  /* empty when dead, but for a floor */
} DcChange;

static inline bool
dc_change_is_floor(const DcChange *change)
{
	return change->key.length == 0;
}

/* Which keyspaces of a batch had their floor; all zero at first. */
typedef struct DcBatchFloors
{
	uint8_t seen[DC_BATCH_KEYSPACES_MAX / 8];
} DcBatchFloors;

/* One keyspace of the dictionary; columns follow through the reader. */
typedef struct DcBatchKeyspace
{
	uint64_t id;
	DcSlice schema;
	DcSlice name;
	uint32_t column_count;
} DcBatchKeyspace;

/* Writing. */
void dc_batch_begin(DcWriter *w, uint32_t keyspace_count);
void dc_batch_keyspace(DcWriter *w, const DcBatchKeyspace *keyspace);
void dc_batch_column(DcWriter *w, DcSlice name, DcSlice type);
void dc_batch_change(DcWriter *w, const DcChange *change);
void dc_batch_end(DcWriter *w);

/*
 * Reading: begin, then for each keyspace dc_batch_read_keyspace and its
 * columns, then dc_batch_read_change until it returns false.  Errors stay in
 * the reader; a batch counts only if dc_reader_finish() says DC_OK.
 */
uint32_t dc_batch_read_begin(DcReader *r);
void dc_batch_read_keyspace(DcReader *r, DcBatchKeyspace *keyspace);
void dc_batch_read_column(DcReader *r, DcSlice *name, DcSlice *type);
bool dc_batch_read_change(DcReader *r, uint32_t keyspace_count,
						  DcBatchFloors *floors, DcChange *change);

#endif
