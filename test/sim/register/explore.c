/*
 * explore.c
 *		Every order of the messages between two proposers and their members.
 *
 * A request, once sent, stays: it may be delivered at any time, any number of
 * times, or never, and its reply arrives or is lost.  That covers loss,
 * doubling, delay and overtaking at once: a reply that arrives later than it
 * could is the same as whatever the proposer does next being delivered later.
 * A proposer may begin anew at any time (a timeout, a crash) until its ballots
 * are used up.
 *
 * States are told apart by a hash of all that matters in them, so that orders
 * which lead to the same state are walked once.
 */
#include "rsim.h"

#include <stdlib.h>
#include <string.h>

#include "keyhash.h"

#define MEMBERS   3
#define PROPOSERS 2
#define BALLOTS   3  /* of one proposer, at most */
#define PHASES    3  /* prepare, accept, learn */
#define DEPTH     64 /* of the search */
#define EPOCHS    8
#define LIST_MAX  6
#define SEEN_BITS 22

typedef struct Scenario
{
	uint32_t members;
	uint32_t ballots;
	DcListChange change[PROPOSERS];
} Scenario;

static const Scenario scenarios[] = {
	{3,
	 1,
	 {{.kind = DC_CHANGE_ADMIT, .node_id = 4, .incarnation = 1},
	  {.kind = DC_CHANGE_ADMIT, .node_id = 5, .incarnation = 1}}},
	{3,
	 1,
	 {{.kind = DC_CHANGE_ADMIT, .node_id = 4, .incarnation = 1},
	  {.kind = DC_CHANGE_FENCE, .node_id = 1, .incarnation = 1}}},
	{2,
	 2,
	 {{.kind = DC_CHANGE_ADMIT, .node_id = 4, .incarnation = 1},
	  {.kind = DC_CHANGE_FENCE, .node_id = 1, .incarnation = 1}}},
	{3,
	 2,
	 {{.kind = DC_CHANGE_ADMIT, .node_id = 4, .incarnation = 1},
	  {.kind = DC_CHANGE_ADMIT, .node_id = 5, .incarnation = 1}}},
	{3,
	 1,
	 {{.kind = DC_CHANGE_COMMAND, .node_id = 1, .number = 1, .command = 1025},
	  {.kind = DC_CHANGE_COMMAND, .node_id = 2, .number = 1, .command = 1026}}},
	{3,
	 1,
	 {{.kind = DC_CHANGE_COMMAND, .node_id = 1, .number = 1, .command = 1025},
	  {.kind = DC_CHANGE_FENCE, .node_id = 1, .incarnation = 1}}},
};

const char *const explore_names[] = {"two admissions, one ballot each",
									 "an admission and a fence",
									 "among two members, two ballots each",
									 "two admissions, two ballots each",
									 "two commands of one number",
									 "a command and a fence of its node"};
const uint32_t explore_count = sizeof(scenarios) / sizeof(scenarios[0]);
const uint32_t explore_commands = 4;

/* A request in flight, with the lists that it bears. */
typedef struct Flight
{
	uint32_t to; /* bits; 0: never sent */
	DcRegisterKind kind;
	DcPosition at;
	DcHlc ballot;
	uint32_t count[2];
	uint64_t commands[2];
	DcHlc command[2];
	DcMember list[2][LIST_MAX];
} Flight;

typedef struct State
{
	uint64_t decided[EPOCHS]; /* digests; 0: not yet */
	uint32_t drawn[PROPOSERS];
	Flight flight[PROPOSERS][BALLOTS][PHASES];
	DcRegister reg[MEMBERS];
	DcProposer proposer[PROPOSERS];
} State;

static const Scenario *scenario;
static State *stack;
static uint64_t *seen;
static uint64_t states;
static uint64_t limit;
static bool cut; /* something deeper was left out */
static const char *wrong;
static DcRegisterRequest request;
static DcRegisterReply reply;

/* ---- states --------------------------------------------------------------- */

static void
copy_proposer(DcProposer *to, const DcProposer *from)
{
	memcpy(to, from, offsetof(DcProposer, request));
	to->request.kind = from->request.kind;
	to->request.at = from->request.at;
	to->request.ballot = from->request.ballot;
	dc_members_copy(&to->request.list, &from->request.list);
	dc_members_copy(&to->request.value, &from->request.value);
	to->best_ballot = from->best_ballot;
	dc_members_copy(&to->best, &from->best);
	memcpy(to->asked, from->asked, LIST_MAX);
}

static void
copy_state(State *to, const State *from)
{
	memcpy(to, from, offsetof(State, reg));
	for (uint32_t i = 0; i < scenario->members; i++)
		register_copy(&to->reg[i], &from->reg[i]);
	for (uint32_t i = 0; i < PROPOSERS; i++)
		copy_proposer(&to->proposer[i], &from->proposer[i]);
}

static void
write_proposer(DcWriter *w, const DcProposer *p)
{
	dc_write_u8(w, (uint8_t) p->state);
	dc_write_u8(w, (uint8_t) (p->own | p->risked << 1 | p->already << 2 |
							  p->moved << 3 | p->unclear << 4));
	dc_write_u64(w, p->above);
	dc_register_request_encode(w, &p->request);
	dc_write_u64(w, p->best_ballot);
	dc_members_encode(w, &p->best);
	dc_write_bytes(w, p->asked, LIST_MAX);
}

static uint64_t
hash_state(const State *state)
{
	static const uint8_t seed[DC_SEED_BYTES] = "every order seen";
	static uint8_t bytes[8192];
	uint64_t hash;
	DcWriter w;

	dc_writer_init(&w, bytes, sizeof(bytes));
	for (uint32_t i = 0; i < EPOCHS; i++)
		dc_write_u64(&w, state->decided[i]);
	for (uint32_t i = 0; i < scenario->members; i++)
		dc_register_encode(&w, &state->reg[i]);
	for (uint32_t i = 0; i < PROPOSERS; i++)
	{
		dc_write_u32(&w, state->drawn[i]);
		write_proposer(&w, &state->proposer[i]);
		for (uint32_t j = 0; j < state->drawn[i] * PHASES; j++)
		{
			const Flight *flight = &state->flight[i][j / PHASES][j % PHASES];

			dc_write_u32(&w, flight->to);
			if (flight->to == 0)
				continue;
			dc_write_u64(&w, flight->ballot);
			dc_write_u64(&w, flight->at.epoch);
			dc_write_u64(&w, flight->command[0]);
			dc_write_u64(&w, flight->command[1]);
			for (uint32_t k = 0; k < 2 * LIST_MAX; k++)
			{
				const DcMember *member = &flight->list[0][0] + k;

				dc_write_u8(&w, (uint8_t) member->node_id);
				dc_write_u8(&w, (uint8_t) member->state);
			}
		}
	}
	hash = dc_siphash(seed, bytes, w.length);
	return hash != 0 ? hash : 1;
}

/* True the first time. */
static bool
is_new(uint64_t hash)
{
	uint64_t mask = (UINT64_C(1) << SEEN_BITS) - 1;
	uint64_t at = hash & mask;

	while (seen[at] != 0 && seen[at] != hash)
		at = (at + 1) & mask;
	if (seen[at] == hash)
		return false;
	seen[at] = hash;
	return true;
}

/* ---- what is claimed ------------------------------------------------------ */

static void
note_decided(State *state, const DcPosition *at, const DcMembers *list)
{
	uint64_t digest = dc_members_digest(list);
	uint64_t *decided = &state->decided[at->epoch % EPOCHS];

	if (*decided != 0 && *decided != digest)
		wrong = "two lists bear one number";
	*decided = digest;
}

/* Of a command that its proposer gave up for certain. */
static bool
is_undone(const DcProposer *p, const DcRegister *reg)
{
	return p->change.kind == DC_CHANGE_COMMAND && dc_proposer_done(p) &&
		   p->status != DC_OK && p->status != DC_UNDECIDED &&
		   reg->list.command == p->change.command;
}

static void
check_state(State *state)
{
	for (uint32_t i = 0; i < scenario->members; i++)
		note_decided(state, &state->reg[i].at, &state->reg[i].list);
	for (uint32_t i = 0; i < PROPOSERS; i++)
	{
		note_decided(state, &state->proposer[i].request.at,
					 &state->proposer[i].request.list);
		if (dc_proposer_done(&state->proposer[i]) &&
			state->proposer[i].status == DC_SPLIT)
			wrong = "a member has another list";
		for (uint32_t j = 0; j < scenario->members; j++)
		{
			if (is_undone(&state->proposer[i], &state->reg[j]))
				wrong = "a command failed, and was decided";
		}
	}
}

/* ---- moves ---------------------------------------------------------------- */

static void
put_list(Flight *flight, uint32_t which, const DcMembers *list)
{
	memset(flight->list[which], 0, sizeof(flight->list[which]));
	memcpy(flight->list[which], list->at, sizeof(DcMember) * list->count);
	flight->count[which] = list->count;
	flight->commands[which] = list->commands;
	flight->command[which] = list->command;
}

static void
get_list(const Flight *flight, uint32_t which, DcMembers *list)
{
	list->count = flight->count[which];
	list->commands = flight->commands[which];
	list->command = flight->command[which];
	memcpy(list->at, flight->list[which], sizeof(DcMember) * list->count);
}

static void
send_to(State *state, uint32_t proposer, const DcRegisterRequest *asked,
		uint32_t to)
{
	uint32_t phase = (uint32_t) asked->kind - DC_REGISTER_PREPARE;
	uint32_t number = state->drawn[proposer];
	Flight *flight =
		&state->flight[proposer][number > 0 ? number - 1 : 0][phase];

	if (flight->to == 0)
	{
		flight->kind = asked->kind;
		flight->at = asked->at;
		flight->ballot = asked->ballot;
		put_list(flight, 0, &asked->list);
		if (asked->kind == DC_REGISTER_ACCEPT)
			put_list(flight, 1, &asked->value);
	}
	flight->to |= 1u << to;
}

/* Everything that the proposer does of itself. */
static void
pump(State *state, uint32_t proposer)
{
	DcProposer *p = &state->proposer[proposer];
	const DcRegisterRequest *asked;
	uint32_t to;

	for (;;)
	{
		if (p->state == DC_PROPOSER_BACKOFF)
			dc_proposer_time(p, p->wake_us);
		if (dc_proposer_wants_ballot(p) &&
			state->drawn[proposer] < scenario->ballots)
		{
			DcHlc ballot =
				dc_hlc_make(10 * ++state->drawn[proposer], proposer + 1);

			dc_proposer_ballot(p, ballot > p->above ?
									  ballot :
									  dc_hlc_make(dc_hlc_time_us(p->above) + 1,
												  proposer + 1));
		}
		else if ((asked = dc_proposer_send(p, &to)) == NULL)
			return;
		else if (to <= scenario->members)
			send_to(state, proposer, asked, to);
		else
			dc_proposer_unreachable(p, to, 0);
	}
}

static void
propose(State *state, uint32_t proposer)
{
	dc_proposer_begin(&state->proposer[proposer], &state->reg[proposer], 0,
					  &scenario->change[proposer], 1, UINT64_MAX);
	pump(state, proposer);
}

static void
deliver(State *state, uint32_t proposer, const Flight *flight, uint32_t to,
		bool answered)
{
	request.kind = flight->kind;
	request.at = flight->at;
	request.ballot = flight->ballot;
	get_list(flight, 0, &request.list);
	get_list(flight, 1, &request.value);
	(void) dc_register_answer(&state->reg[to - 1], &request, &reply);
	if (answered)
	{
		dc_proposer_reply(&state->proposer[proposer], to, &reply, 0);
		pump(state, proposer);
	}
}

static void walk(uint32_t depth);

static void
visit(uint32_t depth)
{
	check_state(&stack[depth]);
	if (wrong != NULL || states >= limit || !is_new(hash_state(&stack[depth])))
		return;
	states++;
	if (depth + 1 < DEPTH)
		walk(depth);
	else
		cut = true;
}

static void
walk(uint32_t depth)
{
	State *here = &stack[depth];
	State *next = &stack[depth + 1];

	for (uint32_t i = 0; i < PROPOSERS * BALLOTS * PHASES; i++)
	{
		uint32_t proposer = i / (BALLOTS * PHASES);
		const Flight *flight =
			&here->flight[proposer][i / PHASES % BALLOTS][i % PHASES];

		for (uint32_t j = 0; flight->to != 0 && j < 2 * scenario->members; j++)
		{
			uint32_t to = 1 + j / 2;

			if ((flight->to >> to & 1) == 0)
				continue;
			copy_state(next, here);
			deliver(next, proposer, flight, to, j % 2 == 0);
			visit(depth + 1);
		}
	}
	for (uint32_t i = 0; i < PROPOSERS; i++)
	{
		if (here->drawn[i] == 0 || here->drawn[i] >= scenario->ballots)
			continue;
		copy_state(next, here);
		propose(next, i);
		visit(depth + 1);
	}
}

static void
start(State *state)
{
	memset(state, 0, sizeof(*state));
	request.kind = DC_REGISTER_LEARN;
	request.at = (DcPosition){7, DC_HLC_NONE, 1};
	request.list.count = 0;
	for (uint32_t id = 1; id <= scenario->members; id++)
		(void) dc_members_put(&request.list,
							  (DcMember){id, DC_MEMBER_PRESENT, 1});
	for (uint32_t id = 1; id <= scenario->members; id++)
	{
		dc_register_drift(&state->reg[id - 1], id, 1);
		(void) dc_register_answer(&state->reg[id - 1], &request, &reply);
	}
	propose(state, 0);
	propose(state, 1);
}

uint64_t
explore(uint32_t number, uint64_t states_max, bool *all, const char **failure)
{
	scenario = &scenarios[number];
	states = 0;
	limit = states_max;
	cut = false;
	wrong = NULL;
	seen = calloc(UINT64_C(1) << SEEN_BITS, sizeof(*seen));
	stack = calloc(DEPTH, sizeof(*stack));
	if (seen == NULL || stack == NULL)
		wrong = "out of memory";
	else
	{
		start(&stack[0]);
		visit(0);
	}
	*all = states < limit && !cut;
	*failure = wrong;
	free(seen);
	free(stack);
	return wrong == NULL ? states : 0;
}
