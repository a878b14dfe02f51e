/*
 * wire.c
 *		Bounds-checked reading and writing of message bytes.
 */
#include "wire.h"

#include <string.h>

void
dc_reader_init(DcReader *r, const void *data, size_t length)
{
	r->data = data;
	r->length = length;
	r->offset = 0;
	r->status = DC_OK;
	r->version = 0;
}

void
dc_reader_fail(DcReader *r, DcStatus status)
{
	if (r->status == DC_OK)
		r->status = status;
}

size_t
dc_reader_left(const DcReader *r)
{
	return r->status == DC_OK ? r->length - r->offset : 0;
}

DcSlice
dc_read_bytes(DcReader *r, size_t length)
{
	DcSlice slice = {NULL, 0};

	if (r->status != DC_OK)
		return slice;
	if (length > r->length - r->offset)
	{
		dc_reader_fail(r, DC_TRUNCATED);
		return slice;
	}
	slice.data = r->data + r->offset;
	slice.length = length;
	r->offset += length;
	return slice;
}

static uint64_t
read_big_endian(DcReader *r, size_t width)
{
	DcSlice slice = dc_read_bytes(r, width);
	uint64_t value = 0;

	for (size_t i = 0; i < slice.length; i++)
		value = value << 8 | slice.data[i];
	return value;
}

uint8_t
dc_read_u8(DcReader *r)
{
	return (uint8_t) read_big_endian(r, 1);
}

void
dc_read_version(DcReader *r)
{
	DcVersions own = dc_versions_own();

	r->version = dc_read_u8(r);
	if (r->status == DC_OK &&
		(r->version < own.wire_min || r->version > own.wire))
		dc_reader_fail(r, DC_VERSION);
}

uint16_t
dc_read_u16(DcReader *r)
{
	return (uint16_t) read_big_endian(r, 2);
}

uint32_t
dc_read_u32(DcReader *r)
{
	return (uint32_t) read_big_endian(r, 4);
}

uint64_t
dc_read_u64(DcReader *r)
{
	return read_big_endian(r, 8);
}

uint64_t
dc_read_varint(DcReader *r, uint64_t max)
{
	uint64_t value = 0;

	for (unsigned shift = 0; shift < 64; shift += 7)
	{
		uint8_t byte = dc_read_u8(r);
		uint64_t bits = byte & 0x7f;

		if (r->status != DC_OK)
			return 0;
		/* the tenth byte holds one bit; a last byte of zero is not minimal */
		if ((shift == 63 && bits > 1) || (byte == 0 && shift > 0))
			break;
		value |= bits << shift;
		if (byte & 0x80)
			continue;
		if (value > max)
			break;
		return value;
	}
	dc_reader_fail(r, DC_MALFORMED);
	return 0;
}

DcSlice
dc_read_string(DcReader *r, size_t max)
{
	return dc_read_bytes(r, (size_t) dc_read_varint(r, max));
}

DcStatus
dc_reader_finish(DcReader *r)
{
	if (r->status == DC_OK && r->offset != r->length)
		r->status = DC_MALFORMED;
	return r->status;
}

void
dc_writer_init(DcWriter *w, void *data, size_t capacity)
{
	w->data = data;
	w->capacity = capacity;
	w->length = 0;
	w->status = DC_OK;
	w->version = (uint8_t) dc_versions_own().wire;
}

void
dc_write_bytes(DcWriter *w, const void *data, size_t length)
{
	if (w->status != DC_OK)
		return; /* not simulated: no message is too long for its buffer */
	if (w->data != NULL)
	{
		if (length > w->capacity - w->length)
		{
			/* not simulated: the same */
			w->status = DC_TOO_LONG;
			return;
		}
		if (length > 0)
			memcpy(w->data + w->length, data, length);
	}
	w->length += length;
}

static void
write_big_endian(DcWriter *w, uint64_t value, size_t width)
{
	uint8_t bytes[8];

	for (size_t i = 0; i < width; i++)
		bytes[i] = (uint8_t) (value >> 8 * (width - 1 - i));
	dc_write_bytes(w, bytes, width);
}

void
dc_write_u8(DcWriter *w, uint8_t value)
{
	write_big_endian(w, value, 1);
}

void
dc_write_version(DcWriter *w)
{
	dc_write_u8(w, w->version);
}

void
dc_write_u16(DcWriter *w, uint16_t value)
{
	write_big_endian(w, value, 2);
}

void
dc_write_u32(DcWriter *w, uint32_t value)
{
	write_big_endian(w, value, 4);
}

void
dc_write_u64(DcWriter *w, uint64_t value)
{
	write_big_endian(w, value, 8);
}

void
dc_write_varint(DcWriter *w, uint64_t value)
{
	uint8_t bytes[10];
	size_t n = 0;

	while (value >= 0x80)
	{
		bytes[n++] = (uint8_t) (value | 0x80);
		value >>= 7;
	}
	bytes[n++] = (uint8_t) value;
	dc_write_bytes(w, bytes, n);
}

void
dc_write_string(DcWriter *w, const void *data, size_t length)
{
	dc_write_varint(w, length);
	dc_write_bytes(w, data, length);
}
