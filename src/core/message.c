/*
 * message.c
 *		Codec of the calls between two nodes.
 */
#include "message.h"

#include <string.h>

/* Flags of a welcome. */
enum
{
	WELCOME_JOINING = 1,
	WELCOME_ALONE = 2,
	WELCOME_KNOWN = 4,
	WELCOME_GHOSTS = 8,
	WELCOME_COPYING = 16,
	WELCOME_FLAGS_END = 32
};

/* Flags of an ack. */
enum
{
	ACK_UNCHANGED = 1,
	ACK_SETTLED = 2,
	ACK_FLAGS_END = 4
};

static void
begin(DcWriter *w, char letter)
{
	dc_write_version(w);
	dc_write_u8(w, (uint8_t) letter);
}

static void
read_begin(DcReader *r, char letter)
{
	uint8_t kind;

	dc_read_version(r);
	kind = dc_read_u8(r);
	if (r->status == DC_OK && kind != (uint8_t) letter)
		dc_reader_fail(r, DC_MALFORMED);
}

static uint32_t
read_node_id(DcReader *r)
{
	uint32_t id = dc_read_u16(r);

	if (id == 0 || id > DC_NODE_ID_MAX)
		dc_reader_fail(r, DC_MALFORMED);
	return r->status == DC_OK ? id : 0;
}

static DcHlc
read_stamp(DcReader *r)
{
	DcHlc stamp = dc_read_u64(r);

	if (stamp > DC_HLC_MAX)
		dc_reader_fail(r, DC_MALFORMED);
	return r->status == DC_OK ? stamp : DC_HLC_NONE;
}

static void
read_nonce(DcReader *r, uint8_t nonce[DC_NONCE_BYTES])
{
	DcSlice bytes = dc_read_bytes(r, DC_NONCE_BYTES);

	memset(nonce, 0, DC_NONCE_BYTES);
	if (bytes.length == DC_NONCE_BYTES)
		memcpy(nonce, bytes.data, DC_NONCE_BYTES);
}

static void
write_incoming(DcWriter *w, const bool incoming[DC_NODE_IDS])
{
	uint32_t count = 0;

	for (uint32_t id = 1; id < DC_NODE_IDS; id++)
		count += incoming[id];
	dc_write_varint(w, count);
	for (uint32_t id = 1; id < DC_NODE_IDS; id++)
	{
		if (incoming[id])
			dc_write_u16(w, (uint16_t) id);
	}
}

static void
read_incoming(DcReader *r, bool incoming[DC_NODE_IDS])
{
	uint64_t count = dc_read_varint(r, DC_NODE_ID_MAX);
	uint32_t previous = 0;

	memset(incoming, 0, sizeof(bool) * DC_NODE_IDS);
	for (uint64_t i = 0; i < count && r->status == DC_OK; i++)
	{
		uint32_t id = read_node_id(r);

		if (id <= previous)
			dc_reader_fail(r, DC_MALFORMED);
		if (r->status == DC_OK)
			incoming[id] = true;
		previous = id;
	}
}

void
dc_hello_encode(DcWriter *w, const DcHello *hello)
{
	dc_write_u8(w, hello->wire);
	dc_write_u8(w, 'H');
	dc_write_u8(w, hello->wire_min);
	dc_write_string(w, hello->cluster.data, hello->cluster.length);
	dc_write_u16(w, (uint16_t) hello->sender);
	dc_write_u64(w, hello->incarnation);
	dc_write_u16(w, (uint16_t) hello->receiver);
	dc_write_string(w, hello->encoding.data, hello->encoding.length);
	dc_write_bytes(w, hello->nonce, DC_NONCE_BYTES);
	dc_write_u8(w, (uint8_t) hello->kind);
}

/* All versions begin alike. */
static void
read_offer(DcReader *r, DcHello *hello)
{
	DcVersions offer = {0};

	hello->wire = dc_read_u8(r);
	if (dc_read_u8(r) != 'H')
		dc_reader_fail(r, DC_MALFORMED);
	hello->wire_min = dc_read_u8(r);
	if (hello->wire_min == 0 || hello->wire_min > hello->wire)
		dc_reader_fail(r, DC_MALFORMED);
	offer.wire = hello->wire;
	offer.wire_min = hello->wire_min;
	if (r->status == DC_OK && dc_versions_common(dc_versions_own(), offer) == 0)
		dc_reader_fail(r, DC_VERSION);
}

DcStatus
dc_hello_decode(const void *data, size_t length, DcHello *hello)
{
	DcReader r;

	dc_reader_init(&r, data, length);
	read_offer(&r, hello);
	hello->cluster = dc_read_string(&r, DC_CLUSTER_BYTES_MAX);
	hello->sender = read_node_id(&r);
	hello->incarnation = dc_read_u64(&r);
	hello->receiver = read_node_id(&r);
	hello->encoding = dc_read_string(&r, DC_ENCODING_BYTES_MAX);
	read_nonce(&r, hello->nonce);
	hello->kind = (DcSessionKind) dc_read_u8(&r);
	if (hello->kind >= DC_SESSION_KINDS)
		dc_reader_fail(&r, DC_MALFORMED);
	if (r.status == DC_OK && hello->wire > dc_versions_own().wire)
		r.offset = r.length; /* what a later version adds */
	return dc_reader_finish(&r);
}

static void
write_list(DcWriter *w, const DcPosition *at, const DcMembers *members)
{
	dc_write_u64(w, at->founder);
	dc_write_u64(w, at->generation);
	dc_write_u64(w, at->epoch);
	dc_members_encode(w, members);
}

static void
read_list(DcReader *r, DcPosition *at, DcMembers *members)
{
	at->founder = dc_read_u64(r);
	at->generation = read_stamp(r);
	at->epoch = dc_read_u64(r);
	dc_members_decode(r, members);
}

void
dc_welcome_encode(DcWriter *w, const DcWelcome *welcome)
{
	begin(w, 'W');
	dc_write_u16(w, (uint16_t) welcome->node_id);
	dc_write_u64(w, welcome->incarnation);
	dc_write_u64(w, welcome->session);
	dc_write_bytes(w, welcome->nonce, DC_NONCE_BYTES);
	dc_vv_encode(w, &welcome->vector);
	write_incoming(w, welcome->incoming);
	dc_write_u8(w, (uint8_t) ((welcome->joining ? WELCOME_JOINING : 0) |
							  (welcome->ghosts ? WELCOME_GHOSTS : 0) |
							  (welcome->copying ? WELCOME_COPYING : 0) |
							  (welcome->alone ? WELCOME_ALONE : 0) |
							  (welcome->known ? WELCOME_KNOWN : 0)));
	dc_write_u8(w, (uint8_t) welcome->before);
	dc_write_u64(w, welcome->clock);
	dc_horizon_encode(w, &welcome->horizon);
	write_list(w, &welcome->at, &welcome->members);
}

static void
read_standing(DcReader *r, DcWelcome *welcome)
{
	uint8_t flags = dc_read_u8(r);
	uint8_t before = dc_read_u8(r);

	if (r->status == DC_OK &&
		(flags >= WELCOME_FLAGS_END || before >= DC_MEMBER_STATES))
		dc_reader_fail(r, DC_MALFORMED);
	welcome->joining = (flags & WELCOME_JOINING) != 0;
	welcome->ghosts = (flags & WELCOME_GHOSTS) != 0;
	welcome->copying = (flags & WELCOME_COPYING) != 0;
	welcome->alone = (flags & WELCOME_ALONE) != 0;
	welcome->known = (flags & WELCOME_KNOWN) != 0;
	welcome->before = (DcMemberState) before;
	welcome->clock = read_stamp(r);
	dc_horizon_decode(r, &welcome->horizon);
}

DcStatus
dc_welcome_decode(const void *data, size_t length, DcWelcome *welcome)
{
	DcReader r;

	dc_reader_init(&r, data, length);
	read_begin(&r, 'W');
	welcome->version = r.version;
	welcome->node_id = read_node_id(&r);
	welcome->incarnation = dc_read_u64(&r);
	welcome->session = dc_read_u64(&r);
	read_nonce(&r, welcome->nonce);
	dc_vv_decode(&r, &welcome->vector);
	read_incoming(&r, welcome->incoming);
	read_standing(&r, welcome);
	read_list(&r, &welcome->at, &welcome->members);
	return dc_reader_finish(&r);
}

void
dc_ack_encode(DcWriter *w, const DcAck *ack)
{
	begin(w, 'A');
	dc_write_u32(w, ack->applied);
	dc_write_u32(w, ack->stale);
	dc_write_u32(w, ack->waiting);
	dc_write_u32(w, ack->held_us);
	dc_write_u8(w, (uint8_t) ((ack->unchanged ? ACK_UNCHANGED : 0) |
							  (ack->settled ? ACK_SETTLED : 0)));
	if (ack->unchanged)
		return;
	dc_vv_encode(w, &ack->vector);
	write_incoming(w, ack->incoming);
}

DcStatus
dc_ack_decode(const void *data, size_t length, DcAck *ack)
{
	DcReader r;
	uint8_t flags;

	dc_reader_init(&r, data, length);
	read_begin(&r, 'A');
	ack->applied = dc_read_u32(&r);
	ack->stale = dc_read_u32(&r);
	ack->waiting = dc_read_u32(&r);
	ack->held_us = dc_read_u32(&r);
	flags = dc_read_u8(&r);
	if (flags >= ACK_FLAGS_END)
		dc_reader_fail(&r, DC_MALFORMED);
	ack->unchanged = (flags & ACK_UNCHANGED) != 0;
	ack->settled = (flags & ACK_SETTLED) != 0;
	if (!ack->unchanged)
	{
		dc_vv_decode(&r, &ack->vector);
		read_incoming(&r, ack->incoming);
	}
	return dc_reader_finish(&r);
}

void
dc_call_begin(DcWriter *w)
{
	begin(w, 'C');
}

void
dc_call_batch(DcWriter *w, DcPartKind kind, const void *data, size_t length)
{
	dc_write_u8(w, (uint8_t) kind);
	dc_write_string(w, data, length);
}

void
dc_call_segment(DcWriter *w, DcHlc from, DcHlc to)
{
	dc_write_u8(w, DC_PART_SEGMENT);
	dc_write_u64(w, from);
	dc_write_u64(w, to);
}

void
dc_call_adopt(DcWriter *w, const DcVv *base, const DcVv *donor,
			  const DcDebts *debts, const DcHorizon *horizon)
{
	DcWriter count;

	dc_writer_init(&count, NULL, 0);
	dc_debts_encode(&count, debts);
	dc_write_u8(w, DC_PART_ADOPT);
	dc_vv_encode(w, base);
	dc_vv_encode(w, donor);
	dc_write_varint(w, count.length);
	dc_debts_encode(w, debts);
	dc_horizon_encode(w, horizon);
}

void
dc_call_members(DcWriter *w, const DcPosition *at, const DcMembers *members)
{
	dc_write_u8(w, DC_PART_MEMBERS);
	write_list(w, at, members);
}

void
dc_call_flush(DcWriter *w)
{
	dc_write_u8(w, DC_PART_FLUSH);
}

void
dc_call_end(DcWriter *w)
{
	dc_write_u8(w, DC_PART_END);
}

void
dc_call_read_begin(DcReader *r)
{
	read_begin(r, 'C');
}

bool
dc_call_read_part(DcReader *r, DcPart *part)
{
	uint8_t kind = dc_read_u8(r);

	if (r->status != DC_OK || kind == DC_PART_END)
		return false;
	part->kind = (DcPartKind) kind;
	switch (kind)
	{
		case DC_PART_BATCH:
		case DC_PART_CATCHUP:
			part->batch = dc_read_string(r, SIZE_MAX);
			break;
		case DC_PART_SEGMENT:
			part->from = dc_read_u64(r);
			part->to = dc_read_u64(r);
			if (part->from > DC_HLC_MAX || part->to > DC_HLC_MAX ||
				part->from >= part->to)
				dc_reader_fail(r, DC_MALFORMED);
			break;
		case DC_PART_ADOPT:
			dc_vv_decode(r, &part->base);
			dc_vv_decode(r, &part->donor);
			part->debts = dc_debts_read(r);
			dc_horizon_decode(r, &part->horizon);
			break;
		case DC_PART_MEMBERS:
			read_list(r, &part->at, &part->members);
			break;
		case DC_PART_FLUSH:
			break;
		default:
			dc_reader_fail(r, DC_MALFORMED);
			break;
	}
	return r->status == DC_OK;
}

#define FLAG_NULL      1u
#define FLAG_SUPERUSER 2u

static void
write_value(DcWriter *w, DcSlice value)
{
	if (value.data != NULL)
		dc_write_string(w, value.data, value.length);
}

static DcSlice
read_value(DcReader *r, uint32_t flags)
{
	if ((flags & FLAG_NULL) != 0)
		return (DcSlice){NULL, 0};
	return dc_read_string(r, DC_SERVICE_BYTES_MAX);
}

static uint32_t
read_flags(DcReader *r, uint32_t known)
{
	uint32_t flags = dc_read_u8(r);

	if ((flags & ~known) != 0)
		dc_reader_fail(r, DC_MALFORMED);
	return flags;
}

void
dc_service_request_encode(DcWriter *w, const DcServiceRequest *request)
{
	begin(w, 'S');
	dc_write_string(w, request->role.data, request->role.length);
	dc_write_u8(w, (uint8_t) ((request->payload.data == NULL ? FLAG_NULL : 0) |
							  (request->superuser ? FLAG_SUPERUSER : 0)));
	dc_write_u8(w, (uint8_t) request->depth);
	dc_write_string(w, request->service.data, request->service.length);
	write_value(w, request->payload);
}

DcStatus
dc_service_request_decode(const void *data, size_t length,
						  DcServiceRequest *request)
{
	DcReader r;
	uint32_t flags;

	dc_reader_init(&r, data, length);
	read_begin(&r, 'S');
	request->role = dc_read_string(&r, DC_NAME_BYTES_MAX);
	flags = read_flags(&r, FLAG_NULL | FLAG_SUPERUSER);
	request->superuser = (flags & FLAG_SUPERUSER) != 0;
	request->depth = dc_read_u8(&r);
	if (request->depth < 1 || request->depth > DC_SERVICE_DEPTH_MAX)
		dc_reader_fail(&r, DC_MALFORMED);
	request->service = dc_read_string(&r, DC_NAME_BYTES_MAX);
	request->payload = read_value(&r, flags);
	return dc_reader_finish(&r);
}

void
dc_service_result_encode(DcWriter *w, DcSlice value)
{
	begin(w, 's');
	dc_write_u8(w, value.data == NULL ? FLAG_NULL : 0);
	write_value(w, value);
}

DcStatus
dc_service_result_decode(const void *data, size_t length, DcSlice *value)
{
	DcReader r;

	dc_reader_init(&r, data, length);
	read_begin(&r, 's');
	*value = read_value(&r, read_flags(&r, FLAG_NULL));
	return dc_reader_finish(&r);
}

size_t
dc_associated_encode(uint8_t out[DC_ASSOCIATED_BYTES],
					 const DcAssociated *associated)
{
	static const char purpose[] = "datacake call 1";
	DcWriter w;

	dc_writer_init(&w, out, DC_ASSOCIATED_BYTES);
	dc_write_bytes(&w, purpose, sizeof(purpose) - 1);
	dc_write_u8(&w, (uint8_t) associated->direction);
	dc_write_u16(&w, (uint16_t) associated->sender);
	dc_write_u16(&w, (uint16_t) associated->receiver);
	dc_write_u64(&w, associated->incarnation);
	dc_write_u64(&w, associated->session);
	dc_write_u64(&w, associated->sequence);
	return w.length;
}
