/*
 * progress.c
 *		What takes long, as datacake.progress shows it.
 */
#include "progress.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "compat.h"
#include "metadata.h"

DC_SQL_FUNCTION(datacake_progress);

#define COLUMNS 8

void
dc_progress_begin(DcProgress *progress, uint32 node_id, const char *phase)
{
	memset(progress, 0, sizeof(*progress));
	progress->node_id = node_id;
	progress->started_at = GetCurrentTimestamp();
	strlcpy(progress->phase, phase, sizeof(progress->phase));
}

void
dc_progress_copy(const DcProgress *progress)
{
	DcProgress *shown = &dc_shared->copy_progress;

	LWLockAcquire(DC_LOCK(DC_LOCK_LINKS), LW_EXCLUSIVE);
	if (progress == NULL)
		shown->node_id = 0;
	else
	{
		bool begins = shown->node_id != progress->node_id;
		TimestampTz started_at =
			begins ? GetCurrentTimestamp() : shown->started_at;
		uint64 bytes_before = begins ? progress->bytes : shown->bytes_before;

		*shown = *progress;
		shown->started_at = started_at;
		shown->bytes_before = bytes_before;
	}
	LWLockRelease(DC_LOCK(DC_LOCK_LINKS));
}

static void
put_row(ReturnSetInfo *result, const DcProgress *progress)
{
	Datum values[COLUMNS];
	bool nulls[COLUMNS] = {0};
	int slot = dc_keyspace_by_id(progress->keyspace);
	double seconds =
		(double) (GetCurrentTimestamp() - progress->started_at) / USECS_PER_SEC;

	values[0] = CStringGetTextDatum(progress->phase);
	values[1] = Int32GetDatum((int32) progress->node_id);
	nulls[2] = slot < 0 || !OidIsValid(dc_keyspace(slot)->relid);
	values[2] =
		ObjectIdGetDatum(nulls[2] ? InvalidOid : dc_keyspace(slot)->relid);
	values[3] = Int64GetDatum((int64) progress->rows_done);
	nulls[4] = progress->rows_estimated == 0;
	values[4] = Int64GetDatum((int64) progress->rows_estimated);
	values[5] = Int64GetDatum((int64) progress->bytes);
	values[6] =
		Float8GetDatum((double) (progress->bytes - progress->bytes_before) /
					   Max(seconds, 0.001));
	values[7] = TimestampTzGetDatum(progress->started_at);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* Rows of datacake.progress */
Datum
datacake_progress(PG_FUNCTION_ARGS)
{
	DcProgress *all;
	int count = 0;

	dc_require_loaded();
	InitMaterializedSRF(fcinfo, 0);
	all = palloc(sizeof(DcProgress) * (Size) (dc_shared->node_count + 1));
	LWLockAcquire(DC_LOCK(DC_LOCK_LINKS), LW_SHARED);
	if (dc_shared->copy_progress.node_id != 0)
		all[count++] = dc_shared->copy_progress;
	for (int i = 0; i < dc_shared->node_count; i++)
	{
		if (dc_shared->links[i].node_id != 0 &&
			dc_shared->links[i].catchup.node_id != 0)
			all[count++] = dc_shared->links[i].catchup;
	}
	LWLockRelease(DC_LOCK(DC_LOCK_LINKS));
	for (int i = 0; i < count; i++)
		put_row((ReturnSetInfo *) fcinfo->resultinfo, &all[i]);
	return (Datum) 0;
}
