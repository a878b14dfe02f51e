/*
 * fuzz_message.c
 *		Any bytes as a hello, a welcome, a call, an ack, a request and a result.
 *
 * Whatever it is, it must hold that
 *
 *	- the bytes are accepted as one of the six at most
 *	- what is accepted keeps its promises: node ids that are some, vectors and
 *	  lists of no one else, segments that move on, slices within the message
 *	- written again it is the same bytes (a message has one encoding)
 *
 * Calls are read as a server does, all parts before anything is done about
 * one; what their batches hold is fuzz_batch's business.
 *
 * The seeds in corpus/fuzz_message are what "build/unit/test_message FOLDER"
 * writes, and inputs that once broke something.
 */
#include "message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(claim) ((claim) ? (void) 0 : broken(#claim, __LINE__))

static void
broken(const char *claim, int line)
{
	fprintf(stderr, "fuzz_message.c:%d: does not hold: %s\n", line, claim);
	abort();
}

/* The message that is looked at. */
static const uint8_t *message;
static size_t message_size;

static void
check_slice(DcSlice slice, size_t length_max)
{
	MUST(slice.length <= length_max);
	MUST(slice.length == 0 ||
		 (slice.data >= message && slice.length <= message_size &&
		  (size_t) (slice.data - message) <= message_size - slice.length));
}

static void
check_node_id(uint32_t id)
{
	MUST(id >= 1 && id <= DC_NODE_ID_MAX);
}

static void
check_vector(const DcVv *vector)
{
	MUST(vector->at[0] == DC_HLC_NONE);
	for (uint32_t id = 1; id < DC_NODE_IDS; id++)
		MUST(vector->at[id] <= DC_HLC_MAX);
}

static void
check_members(const DcMembers *members)
{
	MUST(members->count <= DC_MEMBERS_MAX);
	for (uint32_t i = 0; i < members->count; i++)
	{
		check_node_id(members->at[i].node_id);
		MUST(i == 0 || members->at[i].node_id > members->at[i - 1].node_id);
		MUST(members->at[i].state > DC_MEMBER_ABSENT &&
			 members->at[i].state < DC_MEMBER_STATES);
	}
}

static bool
hello(DcWriter *w)
{
	static DcHello got;

	if (dc_hello_decode(message, message_size, &got) != DC_OK)
		return false;
	check_slice(got.cluster, DC_CLUSTER_BYTES_MAX);
	check_slice(got.encoding, DC_ENCODING_BYTES_MAX);
	check_node_id(got.sender);
	check_node_id(got.receiver);
	dc_hello_encode(w, &got);
	/* what a later version added is skipped */
	return got.wire == dc_versions_own().wire;
}

static bool
welcome(DcWriter *w)
{
	static DcWelcome got;

	if (dc_welcome_decode(message, message_size, &got) != DC_OK)
		return false;
	check_node_id(got.node_id);
	check_vector(&got.vector);
	MUST(!got.incoming[0]);
	MUST(got.clock <= DC_HLC_MAX && got.horizon.stamp <= DC_HLC_MAX);
	MUST(got.before < DC_MEMBER_STATES);
	check_members(&got.members);
	dc_welcome_encode(w, &got);
	return true;
}

static bool
ack(DcWriter *w)
{
	static DcAck got;

	if (dc_ack_decode(message, message_size, &got) != DC_OK)
		return false;
	check_vector(&got.vector);
	MUST(!got.incoming[0]);
	dc_ack_encode(w, &got);
	return true;
}

static void
take_part(DcWriter *w, const DcPart *part)
{
	static DcDebts debts;

	switch (part->kind)
	{
		case DC_PART_BATCH:
		case DC_PART_CATCHUP:
			check_slice(part->batch, message_size);
			dc_call_batch(w, part->kind, part->batch.data, part->batch.length);
			return;
		case DC_PART_SEGMENT:
			MUST(part->from < part->to && part->to <= DC_HLC_MAX);
			dc_call_segment(w, part->from, part->to);
			return;
		case DC_PART_ADOPT:
			check_vector(&part->base);
			check_vector(&part->donor);
			MUST(part->horizon.stamp <= DC_HLC_MAX);
			MUST(dc_debts_decode(part->debts, &debts) == DC_OK);
			dc_call_adopt(w, &part->base, &part->donor, &debts, &part->horizon);
			return;
		case DC_PART_MEMBERS:
			check_members(&part->members);
			dc_call_members(w, &part->at, &part->members);
			return;
		case DC_PART_FLUSH:
			dc_call_flush(w);
			return;
		case DC_PART_END:
			break;
	}
	MUST(!"a part is of a known kind");
}

static bool
call(DcWriter *w)
{
	static DcPart part;
	DcReader r;

	dc_reader_init(&r, message, message_size);
	dc_call_read_begin(&r);
	dc_call_begin(w);
	while (r.status == DC_OK && dc_call_read_part(&r, &part))
		take_part(w, &part);
	dc_call_end(w);
	return dc_reader_finish(&r) == DC_OK;
}

static bool
request(DcWriter *w)
{
	DcServiceRequest got;

	if (dc_service_request_decode(message, message_size, &got) != DC_OK)
		return false;
	check_slice(got.role, DC_NAME_BYTES_MAX);
	check_slice(got.service, DC_NAME_BYTES_MAX);
	MUST(got.depth >= 1 && got.depth <= DC_SERVICE_DEPTH_MAX);
	if (got.payload.data != NULL)
		check_slice(got.payload, DC_SERVICE_BYTES_MAX);
	dc_service_request_encode(w, &got);
	return true;
}

static bool
result(DcWriter *w)
{
	DcSlice value;

	if (dc_service_result_decode(message, message_size, &value) != DC_OK)
		return false;
	if (value.data != NULL)
		check_slice(value, DC_SERVICE_BYTES_MAX);
	dc_service_result_encode(w, value);
	return true;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool (*const kinds[])(DcWriter *) = {hello, welcome, call,
												ack,   request, result};
	/* one too many, so that what grows is seen as longer */
	uint8_t *room = malloc(size + 1);
	unsigned accepted = 0;

	MUST(room != NULL);
	message = data;
	message_size = size;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
	{
		DcWriter w;

		dc_writer_init(&w, room, size + 1);
		if (!kinds[i](&w))
			continue;
		accepted++;
		MUST(w.status == DC_OK);
		MUST(w.length == size);
		MUST(memcmp(room, data, size) == 0);
	}
	MUST(accepted <= 1);
	free(room);
	return 0;
}
