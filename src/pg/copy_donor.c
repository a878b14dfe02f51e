/*
 * copy_donor.c
 *		Which member an empty node copies, and how it is asked.
 *
 * Some candidates are asked for the beginning of a copy, one after the other:
 * that says whether they can be reached, how many copies they serve and how
 * long an answer takes.
 */
#include "copy_donor.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "guc.h"
#include "map.h"
#include "shmem.h"
#include "sql.h"
#include "standing.h"

#define PROBES_MAX 4       /* members that are asked how they are */
#define ANSWER_MS  3600000 /* join_rate may be low: answers are not read */

/* --- asking --- */

DcAsk *
dc_copy_begin_asking(void (*check)(void))
{
	return dc_ask_begin(&(DcAskPlan){.function = "peer_copy",
									 .purpose = "copy",
									 .kind = DC_SESSION_CHANGES,
									 .timeout_ms = ANSWER_MS,
									 .check = check});
}

void
dc_copy_send(DcAsk *asking, uint32 node_id, const DcCopyQuestion *question)
{
	Size room = sizeof(DcVv) * 2 + DC_KEY_BYTES_MAX + 64;
	uint8 *bytes = palloc(room);
	DcWriter w;

	dc_writer_init(&w, bytes, room);
	w.version = dc_wire_version(node_id);
	dc_copy_question_encode(&w, question);
	dc_ask_node(asking, node_id, w.data, w.length);
	pfree(bytes);
}

uint64
dc_copy_receive(DcAsk *asking, uint32 node_id, DcCopyKind kind,
				DcCopyAnswer *answer)
{
	DcReply *reply = dc_ask_answer(asking, node_id);
	Size length = reply->answer.length;
	uint8 *bytes = MemoryContextAllocHuge(CurrentMemoryContext, length + 1);
	DcStatus status;

	memcpy(bytes, reply->answer.data, length);
	status = dc_copy_answer_decode(bytes, length, answer);
	if (status == DC_OK && answer->kind != kind)
		status = DC_MALFORMED;
	if (status == DC_OK)
		return reply->incarnation;
	ereport(ERROR, (errcode(dc_sqlstate(status)),
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
	uint64 incarnation;
	DcCopyAnswer *plan; /* NULL: none */
} Probe;

static bool
is_candidate(const DcNode *node, const DcMembers *list)
{
	return node->node_id != 0 && !node->local && !node->clash &&
		   node->state == DC_NODE_ALIVE && !node->leaving &&
		   dc_members_includes(list, node->node_id, node->incarnation) &&
		   ((dc_shared->paused[node->node_id / 32] >> (node->node_id % 32)) &
			1) == 0;
}

/* Those of this data centre first; how many.  Members let members in only. */
static int
find_candidates(Probe *candidates)
{
	DcMembers *list = palloc(sizeof(DcMembers));
	int count = 0;

	(void) dc_standing_members(list, NULL);
	if (!dc_members_includes(list, (uint32) datacake_node_id,
							 dc_shared->incarnation))
	{
		pfree(list);
		return 0;
	}
	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_SHARED);
	for (int pass = 0; pass < 2; pass++)
	{
		for (int i = 0; i < dc_shared->node_count; i++)
		{
			const DcNode *node = &dc_shared->nodes[i];
			bool near = strcmp(node->data_center, datacake_data_center) == 0;

			if (is_candidate(node, list) && near == (pass == 0))
				candidates[count++] =
					(Probe){.node_id = node->node_id, .near = near};
		}
	}
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	pfree(list);
	return count;
}

static bool
is_better(const Probe *a, const Probe *b)
{
	if (b->plan == NULL || a->near != b->near)
		return b->plan == NULL || a->near;
	if (a->plan->serving != b->plan->serving)
		return a->plan->serving < b->plan->serving;
	return a->round_trip_us < b->round_trip_us;
}

static void
ask_beginning(DcAsk *asking, Probe *probe)
{
	DcCopyQuestion *question = palloc0(sizeof(DcCopyQuestion));
	DcCopyAnswer *plan = palloc(sizeof(DcCopyAnswer));
	TimestampTz begin = GetCurrentTimestamp();

	question->kind = DC_COPY_BEGIN;
	dc_copy_send(asking, probe->node_id, question);
	probe->incarnation =
		dc_copy_receive(asking, probe->node_id, DC_COPY_BEGIN, plan);
	probe->round_trip_us = (uint64) (GetCurrentTimestamp() - begin);
	probe->plan = plan;
	pfree(question);
}

/* What goes wrong with a member says nothing about the others. */
static bool
answers(DcAsk *asking, Probe *probe)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool answered = false;

	PG_TRY();
	{
		ask_beginning(asking, probe);
		answered = true;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		ereport(LOG, (errmsg("node %u is no donor for a copy: %s",
							 probe->node_id, error->message)));
	}
	PG_END_TRY();
	return answered;
}

bool
dc_copy_donor_is_gone(uint32 node_id)
{
	DcMembers *list = palloc(sizeof(DcMembers));
	bool gone;

	(void) dc_standing_members(list, NULL);
	gone = dc_members_get(list, node_id).state != DC_MEMBER_PRESENT;
	pfree(list);
	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_SHARED);
	for (int i = 0; i < dc_shared->node_count; i++)
		gone |= dc_shared->nodes[i].node_id == node_id &&
				dc_shared->nodes[i].state == DC_NODE_LEFT;
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	return gone;
}

DcCopyDonor
dc_copy_choose_donor(uint32 failed, void (*check)(void), int *candidates)
{
	DcAsk *asking = dc_copy_begin_asking(check);
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
		if (answers(asking, probe) && is_better(probe, &best))
			best = *probe;
	}
	dc_ask_end(asking, false);
	pfree(probes);
	return (DcCopyDonor){.node_id = best.node_id,
						 .incarnation = best.incarnation,
						 .plan = best.plan};
}
