/*
 * register_wire.c
 *		Codecs of the register's messages and of its durable state.
 */
#include "register.h"

/* Each form has a version of its own, since one of them lies on disk. */
#define REGISTER_VERSION 1

enum
{
	FLAG_ADRIFT = 1,
	FLAG_ALONE = 2,
	FLAG_SHARED = 4
};

static void
begin(DcWriter *w, char letter)
{
	dc_write_u8(w, REGISTER_VERSION);
	dc_write_u8(w, (uint8_t) letter);
}

static void
read_begin(DcReader *r, char letter)
{
	uint8_t version = dc_read_u8(r);
	uint8_t kind = dc_read_u8(r);

	if (r->status == DC_OK && version != REGISTER_VERSION)
		dc_reader_fail(r, DC_VERSION);
	if (r->status == DC_OK && kind != (uint8_t) letter)
		dc_reader_fail(r, DC_MALFORMED);
}

static uint32_t
read_node_id(DcReader *r)
{
	uint32_t id = dc_read_u16(r);

	if (r->status == DC_OK && (id == 0 || id > DC_NODE_ID_MAX))
		dc_reader_fail(r, DC_MALFORMED);
	return r->status == DC_OK ? id : 0;
}

/* A ballot, or none. */
static DcHlc
read_ballot(DcReader *r)
{
	DcHlc ballot = dc_read_u64(r);

	if (r->status == DC_OK && ballot != DC_HLC_NONE && !dc_hlc_valid(ballot))
		dc_reader_fail(r, DC_MALFORMED);
	return r->status == DC_OK ? ballot : DC_HLC_NONE;
}

static uint8_t
read_below(DcReader *r, unsigned first, unsigned end)
{
	uint8_t value = dc_read_u8(r);

	if (r->status == DC_OK && (value < first || value >= end))
		dc_reader_fail(r, DC_MALFORMED);
	return r->status == DC_OK ? value : 0;
}

static void
write_position(DcWriter *w, const DcPosition *at)
{
	dc_write_u64(w, at->founder);
	dc_write_u64(w, at->generation);
	dc_write_u64(w, at->epoch);
}

/* Nowhere is all zero; everywhere else there is a founder and a number. */
static void
read_position(DcReader *r, DcPosition *at)
{
	at->founder = dc_read_u64(r);
	at->generation = read_ballot(r);
	at->epoch = dc_read_u64(r);
	if (r->status == DC_OK && (at->founder == 0 || at->epoch == 0) &&
		(at->founder != 0 || at->generation != DC_HLC_NONE || at->epoch != 0))
		dc_reader_fail(r, DC_MALFORMED);
}

/* A list stands somewhere exactly if it is not empty. */
static void
read_list(DcReader *r, const DcPosition *at, DcMembers *list)
{
	dc_members_decode(r, list);
	if (r->status == DC_OK && (at->founder == 0) != (list->count == 0))
		dc_reader_fail(r, DC_MALFORMED);
}

static void
write_accepted(DcWriter *w, DcHlc ballot, const DcMembers *accepted)
{
	dc_write_u64(w, ballot);
	if (ballot != DC_HLC_NONE)
		dc_members_encode(w, accepted);
}

/* What was accepted follows what was decided. */
static DcHlc
read_accepted(DcReader *r, const DcMembers *list, DcMembers *accepted)
{
	DcHlc ballot = read_ballot(r);

	accepted->count = 0;
	if (ballot != DC_HLC_NONE)
		dc_members_decode(r, accepted);
	if (r->status == DC_OK && ballot != DC_HLC_NONE &&
		!dc_register_follows(list, accepted))
		dc_reader_fail(r, DC_MALFORMED);
	return ballot;
}

/* ---- request -------------------------------------------------------------- */

static bool
has_list(DcRegisterKind kind)
{
	return kind != DC_REGISTER_READ;
}

static bool
has_ballot(DcRegisterKind kind)
{
	return kind == DC_REGISTER_PREPARE || kind == DC_REGISTER_ACCEPT;
}

void
dc_register_request_encode(DcWriter *w, const DcRegisterRequest *request)
{
	begin(w, 'P');
	dc_write_u8(w, (uint8_t) request->kind);
	dc_write_u64(w, request->ballot);
	if (has_list(request->kind))
	{
		write_position(w, &request->at);
		dc_members_encode(w, &request->list);
	}
	if (request->kind == DC_REGISTER_ACCEPT)
		dc_members_encode(w, &request->value);
}

DcStatus
dc_register_request_decode(const void *data, size_t length,
						   DcRegisterRequest *request)
{
	DcReader r;

	dc_reader_init(&r, data, length);
	read_begin(&r, 'P');
	request->kind =
		(DcRegisterKind) read_below(&r, DC_REGISTER_READ, DC_REGISTER_KINDS);
	request->ballot = read_ballot(&r);
	request->at = (DcPosition){0};
	request->list.count = 0;
	request->accepted_ballot = DC_HLC_NONE;
	request->value.count = 0;
	if (r.status == DC_OK && has_list(request->kind))
	{
		read_position(&r, &request->at);
		read_list(&r, &request->at, &request->list);
		if (request->at.founder == 0 ||
			(has_ballot(request->kind) && request->ballot == DC_HLC_NONE))
			dc_reader_fail(&r, DC_MALFORMED);
	}
	if (r.status == DC_OK && request->kind == DC_REGISTER_ACCEPT)
		dc_members_decode(&r, &request->value);
	return dc_reader_finish(&r);
}

/* ---- reply ---------------------------------------------------------------- */

void
dc_register_reply_encode(DcWriter *w, const DcRegisterReply *reply)
{
	begin(w, 'V');
	dc_write_u8(w, (uint8_t) reply->verdict);
	dc_write_u8(w, (uint8_t) reply->kind);
	dc_write_u64(w, reply->ballot);
	dc_write_u16(w, (uint16_t) reply->node_id);
	dc_write_u64(w, reply->incarnation);
	dc_write_u64(w, reply->voice);
	dc_write_u8(w, (uint8_t) ((reply->adrift ? FLAG_ADRIFT : 0) |
							  (reply->alone ? FLAG_ALONE : 0)));
	write_position(w, &reply->at);
	dc_members_encode(w, &reply->list);
	dc_write_u64(w, reply->promised);
	write_accepted(w, reply->accepted_ballot, &reply->accepted);
}

DcStatus
dc_register_reply_decode(const void *data, size_t length,
						 DcRegisterReply *reply)
{
	DcReader r;
	uint8_t flags;

	dc_reader_init(&r, data, length);
	read_begin(&r, 'V');
	reply->verdict = (DcVerdict) read_below(&r, 0, DC_VERDICTS);
	reply->kind =
		(DcRegisterKind) read_below(&r, DC_REGISTER_READ, DC_REGISTER_KINDS);
	reply->ballot = read_ballot(&r);
	reply->node_id = read_node_id(&r);
	reply->incarnation = dc_read_u64(&r);
	reply->voice = dc_read_u64(&r);
	flags = read_below(&r, 0, FLAG_ADRIFT | FLAG_ALONE);
	reply->adrift = (flags & FLAG_ADRIFT) != 0;
	reply->alone = (flags & FLAG_ALONE) != 0;
	read_position(&r, &reply->at);
	read_list(&r, &reply->at, &reply->list);
	reply->promised = read_ballot(&r);
	reply->accepted_ballot = read_accepted(&r, &reply->list, &reply->accepted);
	return dc_reader_finish(&r);
}

/* ---- durable state -------------------------------------------------------- */

void
dc_register_encode(DcWriter *w, const DcRegister *reg)
{
	begin(w, 'S');
	dc_write_u16(w, (uint16_t) reg->node_id);
	dc_write_u64(w, reg->incarnation);
	dc_write_u64(w, reg->voice);
	dc_write_u8(w, (uint8_t) ((reg->adrift ? FLAG_ADRIFT : 0) |
							  (reg->shared ? FLAG_SHARED : 0)));
	write_position(w, &reg->at);
	dc_members_encode(w, &reg->list);
	dc_write_u64(w, reg->promised);
	write_accepted(w, reg->ballot, &reg->accepted);
}

DcStatus
dc_register_decode(const void *data, size_t length, DcRegister *reg)
{
	DcReader r;
	uint8_t flags;

	dc_reader_init(&r, data, length);
	read_begin(&r, 'S');
	reg->node_id = read_node_id(&r);
	reg->incarnation = dc_read_u64(&r);
	reg->voice = dc_read_u64(&r);
	flags = dc_read_u8(&r);
	if (r.status == DC_OK && (flags & ~(FLAG_ADRIFT | FLAG_SHARED)) != 0)
		dc_reader_fail(&r, DC_MALFORMED);
	reg->adrift = (flags & FLAG_ADRIFT) != 0;
	reg->shared = (flags & FLAG_SHARED) != 0;
	read_position(&r, &reg->at);
	read_list(&r, &reg->at, &reg->list);
	reg->promised = read_ballot(&r);
	reg->ballot = read_accepted(&r, &reg->list, &reg->accepted);
	return dc_reader_finish(&r);
}
