/*
 * fuzz_register.c
 *		Feeds the agreed member list with messages that authenticated.
 *
 * The input is a script for two members and a proposer at the first of them:
 *
 *		op u8 | argument u8 | length u16 | bytes
 *
 * After each step the registers hold together, none has gone back, and their
 * durable form is readable.
 */
#include "proposer.h"

#include <stdlib.h>
#include <string.h>

#define MEMBERS  2
#define DEADLINE UINT64_C(1000000)

enum
{
	OP_REQUEST,
	OP_REPLY,
	OP_STATE,
	OP_BEGIN,
	OP_BALLOT,
	OP_SEND, /* what the proposer wants to send reaches a member, or not */
	OP_LIFE,
	OP_ABANDON,
	OPS
};

static DcRegister reg[MEMBERS + 1];
static DcRegister before;
static DcRegister read;
static DcRegisterRequest request;
static DcRegisterReply reply;
static DcProposer proposer;
static bool proposing;
static uint64_t clock_us;
static uint8_t bytes[DC_REGISTER_BYTES_MAX];

static void
check(bool holds)
{
	if (!holds)
		abort();
}

static void
check_same(const DcWriter *w, const uint8_t *data, size_t length)
{
	check(w->status == DC_OK && w->length == length &&
		  memcmp(bytes, data, length) == 0);
}

static void
check_register(const DcRegister *r)
{
	DcWriter w;

	check(r->ballot <= r->promised);
	check(r->adrift || r->voice == 0 ||
		  dc_members_includes(&r->list, r->node_id, r->voice));
	check(!r->adrift || r->voice == 0);
	dc_writer_init(&w, bytes, sizeof(bytes));
	dc_register_encode(&w, r);
	check(w.status == DC_OK &&
		  dc_register_decode(bytes, w.length, &read) == DC_OK);
	check(read.promised == r->promised && read.at.epoch == r->at.epoch &&
		  dc_members_equal(&read.list, &r->list));
}

/* A member answers, and never goes back in its lineage. */
static void
answer(uint32_t id, const DcRegisterRequest *asked)
{
	bool changed;

	memcpy(&before, &reg[id], sizeof(before));
	changed = dc_register_answer(&reg[id], asked, &reply);
	check(changed || memcmp(&before, &reg[id], sizeof(before)) == 0);
	check(before.at.founder != reg[id].at.founder ||
		  dc_position_compare(&before.at, &reg[id].at) <= 0);
	check(dc_position_compare(&before.at, &reg[id].at) != 0 ||
		  before.promised <= reg[id].promised || asked->kind > 4);
	check(reply.verdict < DC_VERDICTS);
	check_register(&reg[id]);
}

static void
receive_request(uint32_t id, const uint8_t *data, size_t length)
{
	DcWriter w;

	if (dc_register_request_decode(data, length, &request) != DC_OK)
		return;
	dc_writer_init(&w, bytes, sizeof(bytes));
	dc_register_request_encode(&w, &request);
	check_same(&w, data, length);
	answer(id, &request);
	dc_writer_init(&w, bytes, sizeof(bytes));
	dc_register_reply_encode(&w, &reply);
	check(dc_register_reply_decode(bytes, w.length, &reply) == DC_OK);
}

static void
receive_reply(uint32_t id, const uint8_t *data, size_t length)
{
	DcWriter w;

	if (dc_register_reply_decode(data, length, &reply) != DC_OK)
		return;
	dc_writer_init(&w, bytes, sizeof(bytes));
	dc_register_reply_encode(&w, &reply);
	check_same(&w, data, length);
	(void) dc_register_meet(&reg[1], &reply);
	if (!proposing)
		return;
	reply.node_id = id;
	reply.kind = proposer.request.kind;
	reply.ballot = proposer.request.ballot;
	dc_proposer_reply(&proposer, id, &reply, 0);
}

static void
receive_state(const uint8_t *data, size_t length)
{
	DcWriter w;

	if (dc_register_decode(data, length, &read) != DC_OK)
		return;
	dc_writer_init(&w, bytes, sizeof(bytes));
	dc_register_encode(&w, &read);
	check_same(&w, data, length);
}

static void
begin(uint8_t argument)
{
	DcListChange change = {
		.kind = (DcListChangeKind) (argument % DC_CHANGE_KINDS),
		.node_id = 1 + argument / 4 % 4,
		.incarnation = 1 + argument / 16 % 4,
	};

	dc_proposer_begin(&proposer, &reg[1], argument >> 6, &change, argument,
					  DEADLINE);
	proposing = true;
}

static void
send_one(uint8_t argument)
{
	const DcRegisterRequest *asked;
	uint32_t to;

	if (!proposing || (asked = dc_proposer_send(&proposer, &to)) == NULL)
		return;
	if (to > MEMBERS || argument % 4 == 0)
	{
		dc_proposer_unreachable(&proposer, to, 0);
		return;
	}
	answer(to, asked);
	if (argument % 4 != 1)
		dc_proposer_reply(&proposer, to, &reply, 0);
}

static void
step(uint8_t op, uint8_t argument, const uint8_t *data, size_t length)
{
	uint32_t id = 1 + argument % MEMBERS;

	switch (op % OPS)
	{
		case OP_REQUEST:
			receive_request(id, data, length);
			return;
		case OP_REPLY:
			receive_reply(id, data, length);
			return;
		case OP_STATE:
			receive_state(data, length);
			return;
		case OP_BEGIN:
			begin(argument);
			return;
		case OP_BALLOT:
			clock_us += argument;
			if (proposing && dc_proposer_wants_ballot(&proposer))
				dc_proposer_ballot(&proposer,
								   dc_hlc_next(proposer.above, clock_us,
											   1 + argument % 8));
			if (proposing)
				dc_proposer_time(&proposer, clock_us);
			return;
		case OP_SEND:
			send_one(argument);
			return;
		case OP_LIFE:
			(void) dc_register_reborn(&reg[id],
									  reg[id].incarnation + argument % 3, 99);
			check_register(&reg[id]);
			return;
		case OP_ABANDON:
			(void) dc_register_abandon(&reg[id]);
			if (argument >= 128)
				(void) dc_register_found(&reg[id], id, reg[id].incarnation,
										 1 + argument);
			check_register(&reg[id]);
			return;
	}
}

static void
start(void)
{
	clock_us = 0;
	proposing = false;
	request.kind = DC_REGISTER_LEARN;
	request.ballot = DC_HLC_NONE;
	request.at = (DcPosition){7, DC_HLC_NONE, 1};
	request.list.count = 0;
	for (uint32_t id = 1; id <= MEMBERS; id++)
		(void) dc_members_put(&request.list,
							  (DcMember){id, DC_MEMBER_PRESENT, 1});
	for (uint32_t id = 1; id <= MEMBERS; id++)
	{
		dc_register_drift(&reg[id], id, 1);
		answer(id, &request);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	start();
	while (size >= 4)
	{
		uint8_t op = data[0];
		uint8_t argument = data[1];
		size_t length = (size_t) data[2] << 8 | data[3];

		data += 4;
		size -= 4;
		length = length < size ? length : size;
		step(op, argument, data, length);
		if (op % OPS <= OP_STATE)
		{
			data += length;
			size -= length;
		}
	}
	return 0;
}
