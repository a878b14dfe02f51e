/*
 * vector.c
 *		The version vector of this node: moved by apply, made durable later.
 */
#include "vector.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "port/pg_bitutils.h"
#include "utils/array.h"
#include "utils/memutils.h"

#include "clock.h"
#include "guc.h"
#include "sql.h"
#include "standing.h"

/* What a catch-up brought. */
typedef struct Adoption
{
	uint32 peer; /* the donor */
	DcVv donor;
	DcVv base;
	DcDebts debts; /* that it left */
	DcHorizon horizon;
	uint64 life; /* in which this node joined then; 0: it did not */
} Adoption;

typedef struct Move
{
	uint32 source; /* of the segment (from, to]; 0: adopt */
	DcHlc from;
	DcHlc to;
	Adoption *adopt;
	struct Move *next;
} Move;

static MemoryContext moves; /* where they are */
static Move *plans;         /* of the running transaction, oldest first */
static bool hold;           /* ... whose commit is not flushed at once */
static Move *held;          /* of such ones that have committed */
static DcVv saving;         /* what dc_vector_save() wrote */
static DcDebts saving_debts;

void
dc_vector_read(DcVv *vector)
{
	LWLockAcquire(DC_LOCK(DC_LOCK_VECTOR), LW_SHARED);
	*vector = dc_shared->vector;
	LWLockRelease(DC_LOCK(DC_LOCK_VECTOR));
}

void
dc_vector_read_debts(DcVv *vector, DcDebts *debts)
{
	LWLockAcquire(DC_LOCK(DC_LOCK_VECTOR), LW_SHARED);
	*vector = dc_shared->vector;
	*debts = dc_shared->debts;
	LWLockRelease(DC_LOCK(DC_LOCK_VECTOR));
	dc_debts_pay(debts, vector);
}

bool
dc_vector_settled(void)
{
	bool settled;

	LWLockAcquire(DC_LOCK(DC_LOCK_VECTOR), LW_SHARED);
	settled = dc_debts_settled(&dc_shared->debts, &dc_shared->vector);
	LWLockRelease(DC_LOCK(DC_LOCK_VECTOR));
	return settled;
}

bool
dc_vector_has(DcHlc stamp, DcVectorWait *wait)
{
	const DcVv *vector = &dc_shared->vector;
	bool has = false;

	LWLockAcquire(DC_LOCK(DC_LOCK_VECTOR), LW_SHARED);
	if (dc_vv_covers(vector, stamp))
	{
		if (!wait->covered)
			wait->owed = dc_shared->debts.to;
		wait->covered = true;
		has = dc_hlc_node_id(stamp) == (uint32) datacake_node_id ||
			  dc_debts_settled(&dc_shared->debts, vector) ||
			  dc_vv_includes(vector, &wait->owed);
	}
	LWLockRelease(DC_LOCK(DC_LOCK_VECTOR));
	return has;
}

static bool
is_gone(const DcMembers *list, uint32 source)
{
	DcMemberState state = dc_members_get(list, source).state;

	return state != DC_MEMBER_PRESENT && state != DC_MEMBER_FENCED;
}

/*
 * R11: who was removed all others have closed to all others, so nobody has more
 * of it than is here.
 */
void
dc_vector_forgive(const DcMembers *list)
{
	bool changed = false;

	LWLockAcquire(DC_LOCK(DC_LOCK_VECTOR), LW_EXCLUSIVE);
	for (uint32 id = 1; id < DC_NODE_IDS; id++)
	{
		if (dc_shared->debts.to.at[id] == DC_HLC_NONE || !is_gone(list, id))
			continue;
		dc_debts_forgive(&dc_shared->debts, id);
		changed = true;
	}
	if (changed)
		dc_vector_changed();
	LWLockRelease(DC_LOCK(DC_LOCK_VECTOR));
}

static void
append(Move **list, Move *move)
{
	while (*list != NULL)
		list = &(*list)->next;
	*list = move;
}

static Move *
add_move(void)
{
	Move *plan;

	if (moves == NULL)
		moves = AllocSetContextCreate(TopMemoryContext, "datacake vector moves",
									  ALLOCSET_SMALL_SIZES);
	plan = MemoryContextAllocZero(moves, sizeof(Move));
	append(&plans, plan);
	return plan;
}

void
dc_vector_plan_segment(uint32 source, DcHlc from, DcHlc to)
{
	Move *plan = add_move();

	plan->source = source;
	plan->from = from;
	plan->to = to;
}

void
dc_vector_plan_adopt(uint32 peer, const DcVv *donor, const DcVv *base,
					 DcSlice debts, const DcHorizon *horizon)
{
	Move *plan = add_move();
	Adoption *adopt = MemoryContextAlloc(moves, sizeof(Adoption));

	(void) dc_debts_decode(debts, &adopt->debts); /* it is well formed */
	adopt->donor = *donor;
	adopt->base = *base;
	adopt->peer = peer;
	adopt->horizon = *horizon;
	adopt->life = dc_standing_life();
	plan->adopt = adopt;
	if (adopt->life != 0)
		return;
	/* what this node committed itself nobody can tell it */
	adopt->donor.at[datacake_node_id] = DC_HLC_NONE;
	adopt->base.at[datacake_node_id] = DC_HLC_NONE;
}

/* The vector lock is held. */
static void
carry_out(const Move *move)
{
	const Adoption *adopt = move->adopt;

	if (adopt == NULL)
	{
		(void) dc_vv_advance(&dc_shared->vector, move->source, move->from,
							 move->to);
		return;
	}
	(void) dc_vv_adopt(&dc_shared->vector, &adopt->donor, &adopt->base);
	dc_debts_close(&dc_shared->debts, adopt->peer, &adopt->debts,
				   &dc_shared->vector, (uint32) datacake_node_id);
}

static void
carry_out_all(const Move *list)
{
	if (list == NULL)
		return;
	LWLockAcquire(DC_LOCK(DC_LOCK_VECTOR), LW_EXCLUSIVE);
	for (const Move *move = list; move != NULL; move = move->next)
		carry_out(move);
	dc_vector_changed();
	LWLockRelease(DC_LOCK(DC_LOCK_VECTOR));
	for (const Move *move = list; move != NULL; move = move->next)
	{
		if (move->adopt != NULL)
			dc_standing_delivered(move->adopt->peer, &move->adopt->horizon,
								  move->adopt->life);
	}
}

static void
forget_plans(void)
{
	plans = NULL;
	hold = false;
	if (moves != NULL && held == NULL)
		MemoryContextReset(moves);
}

void
dc_vector_hold(void)
{
	hold = true;
}

void
dc_vector_release(void)
{
	carry_out_all(held);
	held = NULL;
	forget_plans();
}

void
dc_vector_at_commit(void)
{
	if (hold)
		append(&held, plans);
	else
		carry_out_all(plans);
	forget_plans();
}

void
dc_vector_at_abort(void)
{
	forget_plans();
}

static Datum
array_of_ids(Datum *ids, int count)
{
	return PointerGetDatum(
		construct_array(ids, count, INT4OID, 4, true, TYPALIGN_INT));
}

static Datum
array_of_stamps(Datum *stamps, int count)
{
	return PointerGetDatum(
		construct_array(stamps, count, INT8OID, 8, true, TYPALIGN_DOUBLE));
}

static int
count_debts(const DcDebts *debts)
{
	int count = 0;

	for (uint32 id = 1; id < DC_NODE_IDS; id++)
	{
		for (uint32 i = 0; i < DC_DEBTS_WORDS; i++)
			count += pg_popcount64(debts->by[id][i]);
	}
	return count;
}

/* One row for each donor that left something to a source; seldom are there any. */
static void
insert_debts(const DcDebts *debts)
{
	int count = count_debts(debts);
	Datum *sources = palloc(sizeof(Datum) * (Size) count);
	Datum *donors = palloc(sizeof(Datum) * (Size) count);
	Datum *stamps = palloc(sizeof(Datum) * (Size) count);
	Oid types[3] = {INT4ARRAYOID, INT4ARRAYOID, INT8ARRAYOID};
	int n = 0;

	for (uint32 id = 1; id < DC_NODE_IDS; id++)
	{
		for (uint32 donor = 0; donor < DC_NODE_IDS && n < count; donor++)
		{
			if (!dc_debts_names(debts, id, donor))
				continue;
			sources[n] = Int32GetDatum(id);
			donors[n] = Int32GetDatum(donor);
			stamps[n++] = Int64GetDatum((int64) debts->to.at[id]);
		}
	}
	if (SPI_execute_with_args("INSERT INTO datacake.debt (source, donor, stamp) "
							  "SELECT s, d, t::datacake.hlc FROM ROWS FROM "
							  "(pg_catalog.unnest($1), pg_catalog.unnest($2), "
							  "pg_catalog.unnest($3)) AS u(s, d, t)",
							  3, types,
							  (Datum[]){array_of_ids(sources, n),
										array_of_ids(donors, n),
										array_of_stamps(stamps, n)},
							  NULL, false, 0) < 0)
		elog(ERROR, "could not save the debts");
}

static void
save_debts(const DcDebts *debts)
{
	static DcDebts written;
	static bool known; /* else there may be rows of an earlier run */

	if (known && memcmp(&written, debts, sizeof(written)) == 0)
		return;
	if (SPI_execute("DELETE FROM datacake.debt", false, 0) < 0)
		elog(ERROR, "could not save the debts");
	if (count_debts(debts) > 0)
		insert_debts(debts);
	written = *debts;
	known = true;
}

const DcVv *
dc_vector_save(void)
{
	static DcStatement save = {
		"INSERT INTO datacake.vector AS v SELECT s, t::datacake.hlc "
		"FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) "
		"AS u(s, t) ON CONFLICT (source) DO UPDATE SET watermark = "
		"excluded.watermark WHERE v.watermark < excluded.watermark"};
	Datum sources[DC_NODE_IDS];
	Datum stamps[DC_NODE_IDS];
	Oid types[2] = {INT4ARRAYOID, INT8ARRAYOID};
	Datum arguments[2];
	int n = 0;

	dc_vector_read_debts(&saving, &saving_debts); /* they belong together */
	save_debts(&saving_debts);
	for (uint32 id = 1; id < DC_NODE_IDS; id++)
	{
		if (saving.at[id] == DC_HLC_NONE)
			continue;
		sources[n] = Int32GetDatum(id);
		stamps[n++] = Int64GetDatum((int64) saving.at[id]);
	}
	arguments[0] = array_of_ids(sources, n);
	arguments[1] = array_of_stamps(stamps, n);
	if (SPI_execute_plan(dc_sql_plan(&save, 2, types), arguments, NULL, false,
						 0) < 0)
		elog(ERROR, "could not save the version vector");
	return &saving;
}

static int64
column_of(uint64 row, int number)
{
	TupleDesc desc = SPI_tuptable->tupdesc;
	bool null;
	Datum value = SPI_getbinval(SPI_tuptable->vals[row], desc, number, &null);

	return TupleDescAttr(desc, number - 1)->atttypid == INT4OID ?
			   DatumGetInt32(value) :
			   DatumGetInt64(value);
}

static bool
is_node_id(int64 id)
{
	return id >= 1 && id <= (int64) DC_NODE_ID_MAX;
}

static void
load_debts(DcDebts *debts)
{
	dc_debts_init(debts);
	if (SPI_execute("SELECT source, donor, stamp::bigint FROM datacake.debt",
					true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not load the debts");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		int64 donor = column_of(i, 2);

		if (is_node_id(column_of(i, 1)))
			dc_debts_add(debts, (uint32) column_of(i, 1),
						 is_node_id(donor) ? (uint32) donor : 0,
						 (DcHlc) column_of(i, 3));
	}
}

void
dc_vector_load(void)
{
	DcVv loaded;
	DcDebts *debts = palloc(sizeof(DcDebts));

	dc_vv_init(&loaded);
	if (SPI_execute("SELECT source, watermark::bigint FROM datacake.vector",
					true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not load the version vector");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		if (is_node_id(column_of(i, 1)))
			loaded.at[column_of(i, 1)] = (DcHlc) column_of(i, 2);
	}
	load_debts(debts);
	LWLockAcquire(DC_LOCK(DC_LOCK_VECTOR), LW_EXCLUSIVE);
	dc_shared->vector = loaded;
	dc_shared->debts = *debts;
	dc_vector_changed();
	LWLockRelease(DC_LOCK(DC_LOCK_VECTOR));
	pfree(debts);
}
