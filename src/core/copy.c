/*
 * copy.c
 *		Codec of the questions by which an empty node copies another (R6).
 */
#include "copy.h"

#include <string.h>

#define KEY_MAX 2000 /* DC_KEY_BYTES_MAX of the map */

static void
begin(DcWriter *w, char letter, DcCopyKind kind)
{
	dc_write_version(w);
	dc_write_u8(w, (uint8_t) letter);
	dc_write_u8(w, (uint8_t) kind);
}

static DcCopyKind
read_begin(DcReader *r, char letter)
{
	uint8_t found;
	uint8_t kind;

	dc_read_version(r);
	found = dc_read_u8(r);
	kind = dc_read_u8(r);
	if (r->status == DC_OK && (found != (uint8_t) letter ||
							   kind < DC_COPY_BEGIN || kind > DC_COPY_END))
		dc_reader_fail(r, DC_MALFORMED);
	return (DcCopyKind) kind;
}

static void
write_place(DcWriter *w, DcCopyPlace place)
{
	dc_write_u32(w, place.file);
	dc_write_u32(w, place.block);
	dc_write_u16(w, place.offset);
}

static DcCopyPlace
read_place(DcReader *r)
{
	DcCopyPlace place;

	place.file = dc_read_u32(r);
	place.block = dc_read_u32(r);
	place.offset = dc_read_u16(r);
	return place;
}

static bool
read_bool(DcReader *r)
{
	uint8_t value = dc_read_u8(r);

	if (value > 1)
		dc_reader_fail(r, DC_MALFORMED);
	return value == 1;
}

void
dc_copy_question_encode(DcWriter *w, const DcCopyQuestion *question)
{
	begin(w, 'K', question->kind);
	switch (question->kind)
	{
		case DC_COPY_WAITING:
			dc_write_u64(w, question->keyspace);
			dc_write_string(w, question->after.data, question->after.length);
			break;
		case DC_COPY_ROWS:
			dc_write_u64(w, question->keyspace);
			write_place(w, question->place);
			break;
		case DC_COPY_CHANGED:
			dc_write_u8(w, question->first);
			if (question->first)
				dc_vv_encode(w, &question->vector);
			break;
		case DC_COPY_BEGIN:
		case DC_COPY_END:
			break;
	}
}

DcStatus
dc_copy_question_decode(const void *data, size_t length,
						DcCopyQuestion *question)
{
	DcReader r;

	dc_reader_init(&r, data, length);
	memset(question, 0, sizeof(*question));
	question->kind = read_begin(&r, 'K');
	if (r.status != DC_OK)
		return r.status;
	switch (question->kind)
	{
		case DC_COPY_WAITING:
			question->keyspace = dc_read_u64(&r);
			question->after = dc_read_string(&r, KEY_MAX);
			break;
		case DC_COPY_ROWS:
			question->keyspace = dc_read_u64(&r);
			question->place = read_place(&r);
			break;
		case DC_COPY_CHANGED:
			question->first = read_bool(&r);
			if (question->first)
				dc_vv_decode(&r, &question->vector);
			break;
		case DC_COPY_BEGIN:
		case DC_COPY_END:
			break;
	}
	return dc_reader_finish(&r);
}

static void
write_keyspaces(DcWriter *w, const DcCopyAnswer *answer)
{
	dc_write_varint(w, answer->keyspace_count);
	for (uint32_t i = 0; i < answer->keyspace_count; i++)
	{
		dc_write_u64(w, answer->keyspaces[i].id);
		dc_write_varint(w, answer->keyspaces[i].rows);
	}
}

static void
read_keyspaces(DcReader *r, DcCopyAnswer *answer)
{
	uint64_t count = dc_read_varint(r, DC_COPY_KEYSPACES_MAX);
	uint64_t previous = 0;

	for (uint64_t i = 0; i < count && r->status == DC_OK; i++)
	{
		DcCopyKeyspace *keyspace = &answer->keyspaces[i];

		keyspace->id = dc_read_u64(r);
		keyspace->rows = dc_read_varint(r, UINT64_MAX);
		if (keyspace->id <= previous)
			dc_reader_fail(r, DC_MALFORMED);
		previous = keyspace->id;
	}
	answer->keyspace_count = r->status == DC_OK ? (uint32_t) count : 0;
}

void
dc_copy_answer_encode(DcWriter *w, const DcCopyAnswer *answer)
{
	begin(w, 'k', answer->kind);
	switch (answer->kind)
	{
		case DC_COPY_BEGIN:
			dc_vv_encode(w, &answer->vector);
			dc_write_u32(w, answer->serving);
			write_keyspaces(w, answer);
			break;
		case DC_COPY_WAITING:
			dc_write_string(w, answer->after.data, answer->after.length);
			break;
		case DC_COPY_ROWS:
			write_place(w, answer->place);
			dc_write_u8(w, answer->done);
			dc_write_u32(w, answer->rows);
			break;
		case DC_COPY_CHANGED:
			dc_write_u8(w, answer->done);
			dc_write_u32(w, answer->rows);
			break;
		case DC_COPY_END:
			dc_vv_encode(w, &answer->vector);
			dc_write_string(w, answer->debts.data, answer->debts.length);
			dc_horizon_encode(w, &answer->horizon);
			break;
	}
}

DcStatus
dc_copy_answer_decode(const void *data, size_t length, DcCopyAnswer *answer)
{
	DcReader r;

	dc_reader_init(&r, data, length);
	memset(answer, 0, sizeof(*answer));
	answer->kind = read_begin(&r, 'k');
	if (r.status != DC_OK)
		return r.status;
	switch (answer->kind)
	{
		case DC_COPY_BEGIN:
			dc_vv_decode(&r, &answer->vector);
			answer->serving = dc_read_u32(&r);
			read_keyspaces(&r, answer);
			return dc_reader_finish(&r);
		case DC_COPY_WAITING:
			answer->after = dc_read_string(&r, KEY_MAX);
			break;
		case DC_COPY_ROWS:
			answer->place = read_place(&r);
			answer->done = read_bool(&r);
			answer->rows = dc_read_u32(&r);
			break;
		case DC_COPY_CHANGED:
			answer->done = read_bool(&r);
			answer->rows = dc_read_u32(&r);
			break;
		case DC_COPY_END:
			dc_vv_decode(&r, &answer->vector);
			answer->debts = dc_debts_read(&r);
			dc_horizon_decode(&r, &answer->horizon);
			return dc_reader_finish(&r);
	}
	answer->parts = dc_read_bytes(&r, dc_reader_left(&r));
	return dc_reader_finish(&r);
}
