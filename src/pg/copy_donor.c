/*
 * copy_donor.c
 *		Which member an empty node copies, and how it is asked.
 *
 * Some candidates are asked for the beginning of a copy, one after the other:
 * that says whether they can be reached, how many copies they serve and how
 * long an answer takes.  The connection to the best one stays open.
 */
#include "copy_donor.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "guc.h"
#include "map.h"
#include "shmem.h"

#define PROBES_MAX 4 /* members that are asked how they are */

/* --- asking --- */

void
dc_copy_send(DcCaller *caller, const DcCopyQuestion *question)
{
	Size room = sizeof(DcVv) * 2 + DC_KEY_BYTES_MAX + 64;
	uint8 *bytes = palloc(room);
	DcWriter w;

	dc_writer_init(&w, bytes, room);
	dc_copy_question_encode(&w, question);
	dc_caller_send(caller, "peer_copy", w.data, w.length);
	pfree(bytes);
}

void
dc_copy_receive(DcCaller *caller, DcCopyKind kind, DcCopyAnswer *answer)
{
	DcSlice bytes = dc_caller_receive(caller);
	DcStatus status = dc_copy_answer_decode(bytes.data, bytes.length, answer);
	const char *s;

	if (status == DC_OK && answer->kind != kind)
		status = DC_MALFORMED;
	if (status == DC_OK)
		return;
	s = dc_status_sqlstate(status);
	ereport(ERROR, (errcode(MAKE_SQLSTATE(s[0], s[1], s[2], s[3], s[4])),
					errmsg("answer of a copy is refused: %s",
						   dc_status_text(status))));
}

/* --- choosing --- */

/* A member, and what it said. */
typedef struct Probe
{
	uint32 node_id;
	bool near;
	uint64 round_trip_us;
	DcCaller *caller; /* NULL: not asked */
	DcCopyAnswer *plan;
} Probe;

static bool
is_candidate(const DcNode *node)
{
	return node->node_id != 0 && !node->local && !node->clash &&
		   node->state == DC_NODE_ALIVE &&
		   ((dc_shared->paused[node->node_id / 32] >> (node->node_id % 32)) &
			1) == 0;
}

/* Those of this data centre first; how many. */
static int
find_candidates(Probe *candidates)
{
	int count = 0;

	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_SHARED);
	for (int pass = 0; pass < 2; pass++)
	{
		for (int i = 0; i < dc_shared->node_count; i++)
		{
			const DcNode *node = &dc_shared->nodes[i];
			bool near = strcmp(node->data_center, datacake_data_center) == 0;

			if (is_candidate(node) && near == (pass == 0))
				candidates[count++] =
					(Probe){.node_id = node->node_id, .near = near};
		}
	}
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	return count;
}

static bool
is_better(const Probe *a, const Probe *b)
{
	if (b->caller == NULL || a->near != b->near)
		return b->caller == NULL || a->near;
	if (a->plan->serving != b->plan->serving)
		return a->plan->serving < b->plan->serving;
	return a->round_trip_us < b->round_trip_us;
}

static void
ask_beginning(Probe *probe, void (*check)(void))
{
	DcCopyQuestion *question = palloc0(sizeof(DcCopyQuestion));
	TimestampTz begin;

	question->kind = DC_COPY_BEGIN;
	probe->plan = palloc(sizeof(DcCopyAnswer));
	probe->caller = dc_caller_open(probe->node_id, check);
	begin = GetCurrentTimestamp();
	dc_copy_send(probe->caller, question);
	dc_copy_receive(probe->caller, DC_COPY_BEGIN, probe->plan);
	probe->round_trip_us = (uint64) (GetCurrentTimestamp() - begin);
	pfree(question);
}

/* What goes wrong with a member says nothing about the others. */
static bool
answers(Probe *probe, void (*check)(void))
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool answered = false;

	PG_TRY();
	{
		ask_beginning(probe, check);
		answered = true;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		dc_caller_close(probe->caller);
		probe->caller = NULL;
		ereport(LOG, (errmsg("node %u is no donor for a copy: %s",
							 probe->node_id, error->message)));
	}
	PG_END_TRY();
	return answered;
}

DcCopyDonor
dc_copy_choose_donor(uint32 failed, void (*check)(void), int *candidates)
{
	Probe *probes = palloc(sizeof(Probe) * (Size) dc_shared->node_count);
	Probe best = {0};
	int asked = 0;

	*candidates = find_candidates(probes);
	for (int i = 0; i < *candidates && asked < PROBES_MAX; i++)
	{
		Probe *probe = &probes[i];

		if (probe->node_id == failed && *candidates > 1)
			continue;
		asked++;
		if (!answers(probe, check))
			continue;
		if (is_better(probe, &best))
		{
			dc_caller_close(best.caller);
			best = *probe;
		}
		else
			dc_caller_close(probe->caller);
	}
	pfree(probes);
	return (DcCopyDonor){.node_id = best.node_id,
						 .caller = best.caller,
						 .plan = best.plan};
}
