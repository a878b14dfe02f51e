/*
 * vector.c
 *		The version vector of this node: moved by apply, made durable later.
 */
#include "vector.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/memutils.h"

#include "clock.h"
#include "guc.h"
#include "standing.h"

typedef struct Move
{
	bool segment; /* else adopt */
	uint32 source;
	DcHlc from;
	DcHlc to;
	DcVv donor;
	DcVv base;
	uint32 peer; /* the donor */
	DcHorizon horizon;
	uint64 life; /* in which this node joined then; 0: it did not */
	struct Move *next;
} Move;

static Move *plans; /* in TopTransactionContext, newest first */
static DcVv saving; /* what dc_vector_save() wrote */

void
dc_vector_read(DcVv *vector)
{
	LWLockAcquire(DC_LOCK(DC_LOCK_VECTOR), LW_SHARED);
	*vector = dc_shared->vector;
	LWLockRelease(DC_LOCK(DC_LOCK_VECTOR));
}

static Move *
add_move(void)
{
	Move *plan = MemoryContextAllocZero(TopTransactionContext, sizeof(Move));
	Move **last = &plans;

	while (*last != NULL)
		last = &(*last)->next;
	*last = plan;
	return plan;
}

void
dc_vector_plan_segment(uint32 source, DcHlc from, DcHlc to)
{
	Move *plan = add_move();

	plan->segment = true;
	plan->source = source;
	plan->from = from;
	plan->to = to;
}

void
dc_vector_plan_adopt(uint32 peer, const DcVv *donor, const DcVv *base,
					 const DcHorizon *horizon)
{
	Move *plan = add_move();

	plan->donor = *donor;
	plan->base = *base;
	plan->peer = peer;
	plan->horizon = *horizon;
	plan->life = dc_standing_life();
	if (plan->life != 0)
		return;
	/* what this node committed itself nobody can tell it */
	plan->donor.at[datacake_node_id] = DC_HLC_NONE;
	plan->base.at[datacake_node_id] = DC_HLC_NONE;
}

void
dc_vector_at_commit(void)
{
	if (plans == NULL)
		return;
	LWLockAcquire(DC_LOCK(DC_LOCK_VECTOR), LW_EXCLUSIVE);
	for (Move *plan = plans; plan != NULL; plan = plan->next)
	{
		if (plan->segment)
			(void) dc_vv_advance(&dc_shared->vector, plan->source, plan->from,
								 plan->to);
		else
			(void) dc_vv_adopt(&dc_shared->vector, &plan->donor, &plan->base);
	}
	dc_vector_changed();
	LWLockRelease(DC_LOCK(DC_LOCK_VECTOR));
	for (Move *plan = plans; plan != NULL; plan = plan->next)
	{
		if (!plan->segment)
			dc_standing_delivered(plan->peer, &plan->horizon, plan->life);
	}
	plans = NULL;
}

void
dc_vector_at_abort(void)
{
	plans = NULL;
}

const DcVv *
dc_vector_save(void)
{
	Datum sources[DC_NODE_IDS];
	Datum stamps[DC_NODE_IDS];
	Oid types[2] = {INT4ARRAYOID, INT8ARRAYOID};
	Datum arguments[2];
	int n = 0;

	dc_vector_read(&saving);
	for (uint32 id = 1; id < DC_NODE_IDS; id++)
	{
		if (saving.at[id] == DC_HLC_NONE)
			continue;
		sources[n] = Int32GetDatum(id);
		stamps[n++] = Int64GetDatum((int64) saving.at[id]);
	}
	arguments[0] = PointerGetDatum(
		construct_array(sources, n, INT4OID, 4, true, TYPALIGN_INT));
	arguments[1] = PointerGetDatum(
		construct_array(stamps, n, INT8OID, 8, true, TYPALIGN_DOUBLE));
	if (SPI_execute_with_args("INSERT INTO datacake.vector AS v "
							  "SELECT s, t::datacake.hlc "
							  "FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) "
							  "AS u(s, t) "
							  "ON CONFLICT (source) DO UPDATE SET watermark = "
							  "excluded.watermark WHERE v.watermark < excluded.watermark",
							  2, types, arguments, NULL, false, 0) < 0)
		elog(ERROR, "could not save the version vector");
	return &saving;
}

void
dc_vector_load(void)
{
	DcVv loaded;

	dc_vv_init(&loaded);
	if (SPI_execute("SELECT source, watermark::bigint FROM datacake.vector",
					true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not load the version vector");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		bool null;
		int source =
			DatumGetInt32(SPI_getbinval(row, SPI_tuptable->tupdesc, 1, &null));
		int64 stamp =
			DatumGetInt64(SPI_getbinval(row, SPI_tuptable->tupdesc, 2, &null));

		if (source >= 1 && source <= (int) DC_NODE_ID_MAX)
			loaded.at[source] = (DcHlc) stamp;
	}
	LWLockAcquire(DC_LOCK(DC_LOCK_VECTOR), LW_EXCLUSIVE);
	dc_shared->vector = loaded;
	dc_vector_changed();
	LWLockRelease(DC_LOCK(DC_LOCK_VECTOR));
}
