/*
 * wire.h
 *		Bounds-checked reading and writing of message bytes.
 *
 * Integers are big-endian; lengths and counts are LEB128 varints in their
 * shortest form (a longer form is malformed, so that each value has exactly
 * one encoding).  Both cursors carry their first error: once a step failed
 * every later step fails too and changes nothing, so a codec reads straight
 * down and checks once at its end.  Remote bytes are input: no length, count
 * or offset is used before it was compared with what is left.
 *
 * Memory is the caller's.  A reader's slices point into the message.
 */
#ifndef DC_WIRE_H
#define DC_WIRE_H

#include "status.h"
#include "version.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct DcSlice
{
	const uint8_t *data;
	size_t length;
} DcSlice;

typedef struct DcReader
{
	const uint8_t *data;
	size_t length;
	size_t offset;
	DcStatus status; /* DC_OK until the first failure */
	uint8_t version; /* of the message, once dc_read_version() read it */
} DcReader;

typedef struct DcWriter
{
	uint8_t *data; /* NULL: count only */
	size_t capacity;
	size_t length;   /* bytes written, or that would have been */
	DcStatus status; /* DC_TOO_LONG once capacity was exceeded */
	uint8_t version; /* to write; the newest, unless the session's is older */
} DcWriter;

void dc_reader_init(DcReader *r, const void *data, size_t length);
uint8_t dc_read_u8(DcReader *r);
uint16_t dc_read_u16(DcReader *r);
uint32_t dc_read_u32(DcReader *r);
uint64_t dc_read_u64(DcReader *r);

/* A varint of at most `max`; larger is DC_MALFORMED.  0 after a failure. */
uint64_t dc_read_varint(DcReader *r, uint64_t max);

/* `length` raw bytes; an empty slice after a failure. */
DcSlice dc_read_bytes(DcReader *r, size_t length);

/* varint length of at most `max`, then that many bytes. */
DcSlice dc_read_string(DcReader *r, size_t max);

/* The version that a message starts with; DC_VERSION if it is not spoken. */
void dc_read_version(DcReader *r);

/* Bytes not yet read. */
size_t dc_reader_left(const DcReader *r);

/* Records `status` unless an earlier failure stands. */
void dc_reader_fail(DcReader *r, DcStatus status);

/* DC_OK only if nothing failed and every byte was read. */
DcStatus dc_reader_finish(DcReader *r);

/* data == NULL counts bytes without writing. */
void dc_writer_init(DcWriter *w, void *data, size_t capacity);
void dc_write_u8(DcWriter *w, uint8_t value);
void dc_write_version(DcWriter *w);
void dc_write_u16(DcWriter *w, uint16_t value);
void dc_write_u32(DcWriter *w, uint32_t value);
void dc_write_u64(DcWriter *w, uint64_t value);
void dc_write_varint(DcWriter *w, uint64_t value);
void dc_write_bytes(DcWriter *w, const void *data, size_t length);
void dc_write_string(DcWriter *w, const void *data, size_t length);

#endif
