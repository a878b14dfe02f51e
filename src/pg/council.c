/*
 * council.c
 *		Getting the members to agree on a change of their list (R10).
 */
#include "council.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#include "caller.h"
#include "clock.h"
#include "compat.h"
#include "guc.h"
#include "roster.h"
#include "sql.h"

#define CHANGE_US   (UINT64CONST(10) * 1000000)
#define QUESTION_MS 3000
#define LEARNING_US (UINT64CONST(1) * 1000000) /* after the decision */

/* A change under way. */
typedef struct Council
{
	DcProposer proposer;
	DcAsk *ask;
	bool busy[DC_NODE_IDS];   /* a question to it is not over */
	bool again[DC_NODE_IDS];  /* then the present one is asked */
	char why[DC_ERROR_BYTES]; /* of the first that could not be asked */
} Council;

static DcAsk *
begin_ask(void (*check)(void))
{
	return dc_ask_begin(&(DcAskPlan){.function = "peer_register",
									 .kind = DC_SESSION_QUESTIONS,
									 .timeout_ms = QUESTION_MS,
									 .check = check});
}

static void
ask_node(DcAsk *ask, uint32 node_id, const DcRegisterRequest *request)
{
	DcWriter w;
	uint8 *bytes;

	dc_writer_init(&w, NULL, 0);
	dc_register_request_encode(&w, request);
	bytes = palloc(w.length);
	dc_writer_init(&w, bytes, w.length);
	dc_register_request_encode(&w, request);
	dc_ask_node(ask, node_id, bytes, w.length);
	pfree(bytes);
}

static bool
read_reply(const DcReply *reply, DcRegisterReply *into)
{
	return reply->state == DC_REPLY_GIVEN &&
		   dc_register_reply_decode(reply->answer.data, reply->answer.length,
									into) == DC_OK &&
		   into->node_id == reply->node_id;
}

/* Why a node gave no answer, in one line. */
static void
explain(const DcReply *reply, char *why)
{
	snprintf(why, DC_ERROR_BYTES, "node %u: %s%s%s%s", reply->node_id,
			 reply->message != NULL ? reply->message : "it does not answer",
			 reply->hint != NULL ? " (" : "",
			 reply->hint != NULL ? reply->hint : "",
			 reply->hint != NULL ? ")" : "");
}

/* This node's own voice, durable when it returns. */
static void
ask_self(const DcRegisterRequest *request, DcRegisterReply *reply)
{
	MemoryContext context = CurrentMemoryContext;

	dc_transaction_begin();
	dc_roster_answer(request, reply);
	dc_transaction_commit(context);
}

/* --- one change --- */

static void
draw_ballot(DcProposer *p)
{
	if (p->above != DC_HLC_NONE)
		dc_clock_observe(p->above);
	dc_proposer_ballot(p, dc_clock_draw());
}

static void
send_all(Council *council)
{
	DcProposer *p = &council->proposer;
	DcRegisterReply *reply = palloc(sizeof(DcRegisterReply));
	const DcRegisterRequest *request;
	uint32_t id;

	while ((request = dc_proposer_send(p, &id)) != NULL)
	{
		if (id == (uint32) datacake_node_id)
		{
			ask_self(request, reply);
			dc_proposer_reply(p, id, reply, dc_now_us());
		}
		else if (council->busy[id])
			council->again[id] = true;
		else
		{
			council->busy[id] = true;
			ask_node(council->ask, id, request);
		}
	}
	pfree(reply);
}

static void
take(Council *council, const DcReply *answer)
{
	DcProposer *p = &council->proposer;
	DcRegisterReply *reply = palloc(sizeof(DcRegisterReply));
	uint32 id = answer->node_id;

	council->busy[id] = false;
	if (read_reply(answer, reply))
		dc_proposer_reply(p, id, reply, dc_now_us());
	else if (!council->again[id])
	{
		if (council->why[0] == '\0')
			explain(answer, council->why);
		dc_proposer_unreachable(p, id, dc_now_us());
	}
	if (council->again[id] && !dc_proposer_done(p))
	{
		council->busy[id] = true;
		ask_node(council->ask, id, &p->request);
	}
	council->again[id] = false;
	pfree(reply);
}

static void
wait_for_answers(Council *council, void (*check)(void))
{
	DcProposer *p = &council->proposer;
	uint64 now = dc_now_us();
	uint64 wake = dc_proposer_wake(p);
	DcReply *answer = dc_ask_poll(council->ask);
	int unasked;

	if (answer == NULL && dc_ask_awaited(council->ask, &unasked) == 0)
	{
		long left_ms = wake > now ? (long) ((wake - now) / 1000) + 1 : 0;

		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Min(left_ms, 200), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		check();
		return;
	}
	if (answer == NULL)
		answer = dc_ask_next(council->ask);
	if (answer != NULL)
		take(council, answer);
}

/* A node that is slow to learn what is decided is not waited for. */
static void
drive(Council *council, void (*check)(void))
{
	DcProposer *p = &council->proposer;
	uint64 decided_us = 0;

	while (!dc_proposer_done(p))
	{
		if (dc_proposer_wants_ballot(p))
			draw_ballot(p);
		send_all(council);
		if (dc_proposer_done(p))
			break;
		if (p->decided && decided_us == 0)
			decided_us = dc_now_us();
		if (p->decided && dc_now_us() - decided_us > LEARNING_US)
			break;
		wait_for_answers(council, check);
		dc_proposer_time(p, dc_now_us());
	}
	dc_ask_end(council->ask, true);
}

/* --- what came of it, in words --- */

static char *
missing_nodes(const DcProposer *p)
{
	StringInfoData text;

	initStringInfo(&text);
	for (uint32 id = dc_proposer_missing(p, 0); id != 0;
		 id = dc_proposer_missing(p, id))
		appendStringInfo(&text, "%s%u", text.len > 0 ? ", " : "", id);
	return text.data;
}

static void
describe(const Council *council, DcStatus status, DcJobEnd *end)
{
	const DcProposer *p = &council->proposer;
	const char *hint = "";

	memset(end, 0, sizeof(*end));
	if (status == DC_OK)
		return;
	end->sqlstate = dc_sqlstate(status);
	switch (status)
	{
		case DC_NO_MAJORITY:
		case DC_UNDECIDED:
			if (p->unclear)
			{
				snprintf(end->error, sizeof(end->error),
						 "%s: others were faster", dc_status_text(status));
				break;
			}
			snprintf(end->error, sizeof(end->error),
					 "%s: %u of %u needed answered, missing: node %s%s%s",
					 dc_status_text(status), p->answered, p->needed,
					 missing_nodes(p), council->why[0] != '\0' ? "; " : "",
					 council->why);
			hint = "Bring the missing nodes back. If a majority is lost for "
				   "good, see datacake.force_members().";
			break;
		case DC_LINEAGE:
		case DC_SPLIT:
			snprintf(end->error, sizeof(end->error), "%s: node %u",
					 dc_status_text(status), p->stranger);
			hint = "Two clusters do not become one: DROP EXTENSION datacake "
				   "CASCADE on the nodes of one, and create it again.";
			break;
		default:
			strlcpy(end->error, dc_status_text(status), sizeof(end->error));
			hint = "Look at datacake.members.";
			break;
	}
	strlcpy(end->hint, hint, sizeof(end->hint));
}

static DcStatus
finish(Council *council, DcJobEnd *end, void (*check)(void))
{
	DcProposer *p = &council->proposer;
	DcStatus status;

	council->ask = begin_ask(check);
	drive(council, check);
	status = p->decided ? DC_OK : p->status;
	describe(council, status, end);
	pfree(council);
	return status;
}

static uint64
draw_chance(void)
{
	uint64 chance;

	if (!pg_strong_random(&chance, sizeof(chance)))
		elog(ERROR, "could not draw a random number");
	return chance;
}

DcStatus
dc_council_change(const DcListChange *change, uint32 via, DcJobEnd *end,
				  void (*check)(void))
{
	Council *council = palloc0(sizeof(Council));
	DcRegister *reg = dc_roster_copy();

	dc_proposer_begin(&council->proposer, reg, via, change, draw_chance(),
					  dc_now_us() + CHANGE_US);
	pfree(reg);
	return finish(council, end, check);
}

DcStatus
dc_council_force(const uint32 *survivors, uint32 count, DcJobEnd *end,
				 void (*check)(void))
{
	Council *council = palloc0(sizeof(Council));
	DcRegisterReply *room = palloc0(sizeof(DcRegisterReply) * count);
	DcRegister *reg = dc_roster_copy();

	dc_proposer_begin_forced(&council->proposer, reg, survivors, count, room,
							 dc_now_us() + CHANGE_US);
	return finish(council, end, check);
}

/* --- single questions --- */

static bool
ask_one(uint32 node_id, const DcRegisterRequest *request,
		DcRegisterReply *reply, char *why, void (*check)(void))
{
	DcAsk *ask = begin_ask(check);
	DcReply *answer;
	bool answered;

	ask_node(ask, node_id, request);
	answer = dc_ask_next(ask);
	answered = answer != NULL && read_reply(answer, reply);
	if (answer != NULL && !answered)
		explain(answer, why);
	dc_ask_end(ask, true);
	return answered;
}

bool
dc_council_read(uint32 node_id, DcRegisterReply *reply, char *why,
				void (*check)(void))
{
	DcRegisterRequest *request = palloc0(sizeof(DcRegisterRequest));
	bool answered;

	request->kind = DC_REGISTER_READ;
	answered = ask_one(node_id, request, reply, why, check);
	pfree(request);
	return answered;
}

bool
dc_council_tell(uint32 node_id, void (*check)(void))
{
	DcRegisterRequest *request = palloc0(sizeof(DcRegisterRequest));
	DcRegisterReply *reply = palloc0(sizeof(DcRegisterReply));
	DcRegister *reg = dc_roster_copy();
	char why[DC_ERROR_BYTES];
	bool took;

	request->kind = DC_REGISTER_LEARN;
	request->at = reg->at;
	request->list = reg->list;
	took = ask_one(node_id, request, reply, why, check) &&
		   reply->verdict == DC_VERDICT_YES;
	pfree(reg);
	pfree(reply);
	pfree(request);
	return took;
}
