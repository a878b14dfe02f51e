/*
 * repair_images.c
 *		Sums over the images of rows, for repair and verify().
 *
 * A row that was changed while its triggers were off bears the stamp of the
 * write before: entries agree and rows do not.  Only reading all rows on both
 * sides finds that.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "keyhash.h"
#include "keyspace.h"
#include "rel.h"
#include "repair_run.h"
#include "scrub.h"

/* The sum over columns of hash(name, value), whatever their order. */
uint64
dc_row_hash(DcRel *rel, TupleTableSlot *row, StringInfo scratch)
{
	uint64 sum = 0;
	uint64 parts[2]; /* in network order: they are hashed on every node */
	DcColumn *all = rel->columns;
	int count = rel->column_count;

	slot_getallattrs(row);
	for (int i = 0; i < count; i++)
	{
		resetStringInfo(scratch);
		appendStringInfoString(scratch, all[i].name);
		appendStringInfoChar(scratch, '\0');
		rel->columns = &all[i];
		rel->column_count = 1;
		dc_rel_image(rel, row->tts_values, row->tts_isnull, scratch);
		sum += dc_siphash(dc_shared->sum_seed, (uint8 *) scratch->data,
						  (Size) scratch->len);
	}
	rel->columns = all;
	rel->column_count = count;
	resetStringInfo(scratch);
	dc_rel_key(rel, row->tts_values, row->tts_isnull, scratch);
	parts[0] = pg_hton64(sum);
	parts[1] = pg_hton64(dc_rel_stamp(rel, row));
	appendBinaryStringInfo(scratch, (char *) parts, sizeof(parts));
	return dc_siphash(dc_shared->sum_seed, (uint8 *) scratch->data,
					  (Size) scratch->len);
}

uint64
dc_columns_hash(int slot)
{
	Relation relation = dc_keyspace_open_relation(slot, AccessShareLock);
	DcRel *rel = relation != NULL ? dc_rel(relation) : NULL;
	uint64 sum = 0;

	for (int i = 0; rel != NULL && i < rel->column_count; i++)
	{
		char *column = psprintf("%s %s", quote_identifier(rel->columns[i].name),
								rel->columns[i].type_name);

		sum +=
			dc_siphash(dc_shared->sum_seed, (uint8 *) column, strlen(column));
	}
	if (relation != NULL)
		relation_close(relation, NoLock);
	return sum;
}

typedef struct Adding
{
	DcImageSums *sums;
	StringInfoData scratch;
} Adding;

static void
add_row(DcRel *rel, TupleTableSlot *row, DcKey key, void *arg)
{
	Adding *adding = arg;

	adding->sums->at[dc_leaf_of(key.hash, DC_IMAGE_BITS)] +=
		dc_row_hash(rel, row, &adding->scratch);
}

uint64
dc_image_sum(const DcImageSums *sums)
{
	uint64 sum = 0;

	for (int i = 0; i < (int) lengthof(sums->at); i++)
		sum += sums->at[i];
	return sum;
}

void
dc_image_sums_here(int slot, DcImageSums *sums)
{
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	Adding adding = {.sums = sums};

	initStringInfo(&adding.scratch);
	(void) dc_keyspace_visit(slot, snapshot, add_row, &adding);
	UnregisterSnapshot(snapshot);
}

void
dc_image_sums(int slot, DcImageSums *sums, void (*check)(void))
{
	Adding adding = {.sums = sums};

	initStringInfo(&adding.scratch);
	(void) dc_scrub_visit(slot, add_row, &adding, check);
	pfree(adding.scratch.data);
}
