/*
 * fuzz_wire.c
 *		Small codecs (varints, version vectors, gossip datagrams): what decodes
 *		encodes to the same bytes.
 *
 * The first byte chooses the codec, the rest is the message.
 */
#include "gossip_wire.h"
#include "vv.h"

#include <stdlib.h>
#include <string.h>

#define BYTES_MAX 65536

static uint8_t again[BYTES_MAX];

static void
check(bool holds)
{
	if (!holds)
		abort();
}

static void
check_same(const DcWriter *w, const uint8_t *data, size_t size)
{
	check(w->status == DC_OK && w->length == size);
	check(size == 0 || memcmp(again, data, size) == 0);
}

static void
fuzz_varint(const uint8_t *data, size_t size)
{
	DcReader r;
	DcWriter w;
	uint64_t values[64];
	size_t count = 0;

	dc_reader_init(&r, data, size);
	while (dc_reader_left(&r) > 0 && count < 64)
		values[count++] = dc_read_varint(&r, UINT64_MAX);
	if (dc_reader_finish(&r) != DC_OK)
		return;
	dc_writer_init(&w, again, sizeof(again));
	for (size_t i = 0; i < count; i++)
		dc_write_varint(&w, values[i]);
	check_same(&w, data, size);
}

static void
fuzz_vv(const uint8_t *data, size_t size)
{
	static DcVv vv;
	static DcVv other;
	DcReader r;
	DcWriter w;

	dc_reader_init(&r, data, size);
	dc_vv_decode(&r, &vv);
	if (dc_reader_finish(&r) != DC_OK)
		return;
	dc_writer_init(&w, again, sizeof(again));
	dc_vv_encode(&w, &vv);
	check_same(&w, data, size);
	dc_vv_init(&other);
	check(dc_vv_includes(&vv, &other) && vv.at[0] == DC_HLC_NONE);
	check(dc_vv_adopt(&other, &vv, &other) && dc_vv_includes(&other, &vv));
}

static void
fuzz_gossip(const uint8_t *data, size_t size)
{
	static DcGossipMessage message;
	DcDetail detail;
	DcWriter w;

	if (dc_gossip_decode(data, size, &message, &detail) != DC_OK)
	{
		check(detail.offset <= size);
		return;
	}
	check(size <= DC_GOSSIP_BYTES_MAX);
	dc_writer_init(&w, again, sizeof(again));
	dc_gossip_encode(&w, &message);
	check_same(&w, data, size);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0 || size > BYTES_MAX)
		return 0;
	switch (data[0] % 3)
	{
		case 0:
			fuzz_varint(data + 1, size - 1);
			break;
		case 1:
			fuzz_vv(data + 1, size - 1);
			break;
		case 2:
			fuzz_gossip(data + 1, size - 1);
			break;
	}
	return 0;
}
