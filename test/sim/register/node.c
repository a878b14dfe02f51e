/*
 * node.c
 *		A node: its register in memory and on disk, its lives, its proposer.
 */
#include "rsim.h"

#include <string.h>

static DcRegisterRequest request;
static DcRegisterReply reply;
static uint8_t bytes[DC_REGISTER_BYTES_MAX];
static uint8_t disk_bytes[DC_REGISTER_BYTES_MAX];

void
register_copy(DcRegister *to, const DcRegister *from)
{
	memcpy(to, from, offsetof(DcRegister, list));
	dc_members_copy(&to->list, &from->list);
	to->promised = from->promised;
	to->ballot = from->ballot;
	dc_members_copy(&to->accepted, &from->accepted);
}

/* What is on disk went through the codec. */
void
node_persist(Sim *sim, uint32_t id)
{
	Node *node = &sim->node[id];
	DcWriter w;

	dc_writer_init(&w, disk_bytes, sizeof(disk_bytes));
	dc_register_encode(&w, &node->memory);
	if (dc_register_decode(disk_bytes, w.length, &node->disk) != DC_OK)
		fail(sim, "the register of node %u does not decode", id);
}

void
node_start(Sim *sim, uint32_t id)
{
	Node *node = &sim->node[id];

	register_copy(&node->memory, &node->disk);
	node->up = true;
	node->proposing = false;
}

void
node_crash(Sim *sim, uint32_t id)
{
	Node *node = &sim->node[id];

	say(sim, "node %u crashes", id);
	sim->stats.fault[FAULT_CRASH]++;
	node->up = false;
	node->proposing = false;
	node->draws_again = sim->defect == DEFECT_BALLOT;
}

/* Random and not 0. */
static uint64_t
founder(Sim *sim)
{
	return rng_next(&sim->rng) | 1;
}

/* A list that nobody had to agree to. */
static void
founded(Sim *sim, uint32_t id)
{
	const DcRegister *reg = &sim->node[id].memory;

	if (reg->at.epoch > 0)
		check_decided(sim, &reg->at, &reg->list, true);
	node_persist(sim, id);
}

/* A new life with the same memory: what it promised does not count. */
void
node_reborn(Sim *sim, uint32_t id)
{
	Node *node = &sim->node[id];

	(void) dc_register_reborn(&node->memory, ++node->lives, founder(sim));
	say(sim, "node %u lives anew as %llu, founder %llx", id,
		(unsigned long long) node->lives,
		(unsigned long long) node->memory.at.founder);
	founded(sim, id);
}

/* The node is down.  Its disk is set back, or empty; its life is new. */
void
node_restore(Sim *sim, uint32_t id, bool wipe)
{
	Node *node = &sim->node[id];

	say(sim, "disk of node %u is %s", id, wipe ? "empty" : "set back");
	sim->stats.fault[wipe ? FAULT_WIPE : FAULT_RESTORE]++;
	if (wipe)
		dc_register_drift(&node->disk, id, ++node->lives);
	else
		register_copy(&node->disk, &node->backup);
	node_start(sim, id);
	if (!wipe && sim->defect != DEFECT_LIFE)
		node_reborn(sim, id);
}

/* ---- proposing ------------------------------------------------------------ */

/* A stamp of its clock. */
DcHlc
node_stamp(Sim *sim, uint32_t id)
{
	Node *node = &sim->node[id];

	node->last = dc_hlc_next(node->last, sim->now_us + node->skew_us, id);
	return node->last;
}

static DcHlc
draw(Sim *sim, Node *node, uint32_t id)
{
	if (node->draws_again && node->drawn > node->proposer.above)
	{
		node->draws_again = false;
		return node->drawn;
	}
	node->last = dc_hlc_observe(node->last, node->proposer.above);
	node->drawn = node_stamp(sim, id);
	return node->drawn;
}

/* The list that a proposer stands on is decided. */
static void
look_at_proposer(Sim *sim, uint32_t id)
{
	Node *node = &sim->node[id];
	DcProposer *p = &node->proposer;

	if (!node->proposing)
		return;
	if (p->request.at.epoch > 0)
		check_decided(sim, &p->request.at, &p->request.list,
					  p->survivors != NULL);
	if (!dc_proposer_done(p))
		return;
	node->proposing = false;
	say(sim, "node %u: %s, epoch %llu%s", id, dc_status_text(p->status),
		(unsigned long long) p->request.at.epoch,
		p->already ? " (already)" : "");
	sim->stats.completed += p->status == DC_OK;
	sim->stats.already += p->already;
	sim->stats.undecided += p->status == DC_UNDECIDED;
	sim->stats.none += p->status == DC_NO_MAJORITY;
	sim->stats.refused += p->status == DC_OUTVOTED;
	check_outcome(sim, p);
	/* it was admitted and fenced again without knowing */
	if (p->status == DC_NOT_ALLOWED && p->change.node_id == id &&
		p->change.kind == DC_CHANGE_ADMIT)
		node_reborn(sim, id);
	if (p->status == DC_NOT_ALLOWED && p->survivors != NULL &&
		sim->node[p->stranger].up)
		node_reborn(sim, p->stranger);
	if (p->status == DC_SPLIT)
		fail(sim, "node %u met a split at node %u", id, p->stranger);
}

/* Answers and keeps what the defect does not lose. */
static void
answer(Sim *sim, uint32_t id, const DcRegisterRequest *asked)
{
	static DcRegister before;
	Node *node = &sim->node[id];

	register_copy(&before, &node->memory);
	if (dc_register_answer(&node->memory, asked, &reply) &&
		!(sim->defect == DEFECT_PROMISE &&
		  asked->kind == DC_REGISTER_PREPARE) &&
		!(sim->defect == DEFECT_ACCEPT && asked->kind == DC_REGISTER_ACCEPT))
		node_persist(sim, id);
	if (asked->kind == DC_REGISTER_ACCEPT && reply.verdict == DC_VERDICT_YES)
		check_accepted(sim, id, asked);
	if (reply.verdict == DC_VERDICT_SPLIT)
		fail(sim, "node %u was sent another list of epoch %llu", id,
			 (unsigned long long) asked->at.epoch);
	check_register(sim, id, &before);
}

void
node_pump(Sim *sim, uint32_t id)
{
	Node *node = &sim->node[id];
	const DcRegisterRequest *asked;
	uint32_t to;

	while (node->proposing && sim->failure[0] == '\0')
	{
		DcWriter w;

		if (dc_proposer_wants_ballot(&node->proposer))
			dc_proposer_ballot(&node->proposer, draw(sim, node, id));
		else if ((asked = dc_proposer_send(&node->proposer, &to)) == NULL)
			break;
		else if (asked->kind == DC_REGISTER_TAKEOVER)
		{
			sim->stats.fault[FAULT_TAKEOVER]++;
			say(sim, "node %u takes over its former life's vote", id);
			answer(sim, id, asked);
			dc_proposer_reply(&node->proposer, id, &reply, sim->now_us);
		}
		else if (to <= sim->count)
		{
			dc_writer_init(&w, bytes, sizeof(bytes));
			dc_register_request_encode(&w, asked);
			net_send(sim, id, to, false, false, bytes, w.length);
		}
		else
			dc_proposer_unreachable(&node->proposer, to, sim->now_us);
		look_at_proposer(sim, id);
	}
	if (node->proposing)
	{
		dc_proposer_time(&node->proposer, sim->now_us);
		look_at_proposer(sim, id);
	}
}

void
node_propose(Sim *sim, uint32_t id, uint32_t via, DcListChange change,
			 uint64_t deadline_us)
{
	static const char *const names[] = {"admit", "fence", "remove", "command"};
	Node *node = &sim->node[id];

	say(sim, "node %u: %s %u.%llu, via %u", id, names[change.kind],
		change.node_id,
		(unsigned long long) (change.kind == DC_CHANGE_COMMAND ?
								  change.number :
								  change.incarnation),
		via);
	dc_proposer_begin(&node->proposer, &node->memory, via, &change,
					  rng_next(&sim->rng), deadline_us);
	node->proposing = true;
	look_at_proposer(sim, id);
}

void
node_force(Sim *sim, uint32_t id, const uint32_t *survivors, uint32_t count,
		   uint64_t deadline_us)
{
	Node *node = &sim->node[id];

	say(sim, "node %u forces, %u survivors", id, count);
	sim->stats.fault[FAULT_FORCE]++;
	dc_proposer_begin_forced(&node->proposer, &node->memory, survivors, count,
							 node->room, deadline_us);
	node->proposing = true;
	look_at_proposer(sim, id);
}

/* One whom the proposer waits for is given up. */
void
node_timeout(Sim *sim, uint32_t id)
{
	Node *node = &sim->node[id];
	uint32_t other = 1 + rng_below(&sim->rng, sim->count);

	if (!node->proposing || node->proposer.asked[other] != DC_ASKED_SENT)
		return;
	sim->stats.fault[FAULT_TIMEOUT]++;
	dc_proposer_unreachable(&node->proposer, other, sim->now_us);
	look_at_proposer(sim, id);
}

/* ---- meeting -------------------------------------------------------------- */

/* Asks for the other's state, as nodes do when they connect. */
void
node_look(Sim *sim, uint32_t id, uint32_t other)
{
	DcWriter w;

	request.kind = DC_REGISTER_READ;
	request.ballot = DC_HLC_NONE;
	dc_writer_init(&w, bytes, sizeof(bytes));
	dc_register_request_encode(&w, &request);
	net_send(sim, id, other, false, true, bytes, w.length);
}

static void
tell(Sim *sim, uint32_t id, uint32_t other)
{
	DcWriter w;

	request.kind = DC_REGISTER_LEARN;
	request.ballot = DC_HLC_NONE;
	request.at = sim->node[id].memory.at;
	dc_members_copy(&request.list, &sim->node[id].memory.list);
	dc_writer_init(&w, bytes, sizeof(bytes));
	dc_register_request_encode(&w, &request);
	net_send(sim, id, other, false, true, bytes, w.length);
}

/* The defect: the state of the other is adopted without its promise. */
static void
peek(Sim *sim, uint32_t id, const DcRegisterReply *seen)
{
	DcRegister *reg = &sim->node[id].memory;

	if (seen->verdict != DC_VERDICT_YES || seen->voice == 0 ||
		seen->at.founder != reg->at.founder ||
		dc_position_compare(&seen->at, &reg->at) != 0)
		return;
	request.kind = DC_REGISTER_TAKEOVER;
	request.at = seen->at;
	dc_members_copy(&request.list, &seen->list);
	request.ballot = seen->promised;
	request.accepted_ballot = seen->accepted_ballot;
	dc_members_copy(&request.value, &seen->accepted);
	answer(sim, id, &request);
}

static void
met(Sim *sim, uint32_t id, const DcRegisterReply *seen)
{
	Node *node = &sim->node[id];
	DcListChange self = {.kind = DC_CHANGE_ADMIT,
						 .node_id = id,
						 .incarnation = node->memory.incarnation};

	if (sim->defect == DEFECT_PEEK)
		peek(sim, id, seen);
	switch (dc_register_meet(&node->memory, seen))
	{
		case DC_MEETING_SAME:
			if (dc_position_compare(&node->memory.at, &seen->at) > 0)
				tell(sim, id, seen->node_id);
			return;
		case DC_MEETING_YIELD:
			if (dc_register_abandon(&node->memory))
			{
				say(sim, "node %u gives way to node %u", id, seen->node_id);
				sim->stats.fault[FAULT_ABANDON]++;
				node_persist(sim, id);
			}
			if (!node->proposing && node->memory.adrift)
				node_propose(sim, id, seen->node_id, self,
							 sim->now_us + 200000);
			return;
		case DC_MEETING_FOUND:
			(void) dc_register_found(&node->memory, id,
									 node->memory.incarnation, founder(sim));
			founded(sim, id);
			return;
		case DC_MEETING_AWAIT:
		case DC_MEETING_REFUSE:
			/* the canary's group gives way too */
			if (dc_register_alone(&node->memory) || seen->node_id > id ||
				!dc_register_abandon(&node->memory))
				return;
			if (dc_register_member(&node->memory))
				say(sim, "node %u leaves its group", id);
			node_persist(sim, id);
			return;
	}
}

void
node_receive(Sim *sim, const Message *message)
{
	uint32_t id = message->to;
	Node *node = &sim->node[id];
	DcWriter w;

	if (!node->up)
		return;
	if (message->reply)
	{
		if (dc_register_reply_decode(message->bytes, message->length, &reply) !=
			DC_OK)
			fail(sim, "a reply of node %u does not decode", message->from);
		else if (message->meeting)
			met(sim, id, &reply);
		else if (node->proposing)
		{
			dc_proposer_reply(&node->proposer, message->from, &reply,
							  sim->now_us);
			look_at_proposer(sim, id);
		}
		return;
	}
	if (dc_register_request_decode(message->bytes, message->length, &request) !=
		DC_OK)
	{
		fail(sim, "a request of node %u does not decode", message->from);
		return;
	}
	answer(sim, id, &request);
	dc_writer_init(&w, bytes, sizeof(bytes));
	dc_register_reply_encode(&w, &reply);
	net_send(sim, id, message->from, true, message->meeting, bytes, w.length);
}
