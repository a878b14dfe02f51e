/*
 * test_wire.c
 *		Reading and writing of message bytes: round trips and every kind of
 *		damage.
 */
#include "tap.h"
#include "wire.h"

#include <string.h>

/* One value of each kind. */
typedef struct Sample
{
	uint8_t u8;
	uint16_t u16;
	uint32_t u32;
	uint64_t u64;
	uint64_t varint;
	const char *string;
} Sample;

static const Sample sample = {0xfe,       0x1234,
							  0xdeadbeef, UINT64_C(0x8102030405060708),
							  300,        "datacake"};

static size_t
sample_write(uint8_t *data, size_t capacity, DcStatus *status)
{
	DcWriter w;

	dc_writer_init(&w, data, capacity);
	dc_write_u8(&w, sample.u8);
	dc_write_u16(&w, sample.u16);
	dc_write_u32(&w, sample.u32);
	dc_write_u64(&w, sample.u64);
	dc_write_varint(&w, sample.varint);
	dc_write_string(&w, sample.string, strlen(sample.string));
	*status = w.status;
	return w.length;
}

/* True when all values came back right. */
static bool
sample_read(const uint8_t *data, size_t length, DcStatus *status)
{
	DcReader r;
	DcSlice string;
	bool right;

	dc_reader_init(&r, data, length);
	right = dc_read_u8(&r) == sample.u8;
	right &= dc_read_u16(&r) == sample.u16;
	right &= dc_read_u32(&r) == sample.u32;
	right &= dc_read_u64(&r) == sample.u64;
	right &= dc_read_varint(&r, 1000) == sample.varint;
	string = dc_read_string(&r, 20);
	right &= string.length == strlen(sample.string) &&
			 memcmp(string.data, sample.string, string.length) == 0;
	*status = dc_reader_finish(&r);
	return right;
}

static void
test_round_trip(void)
{
	static const uint8_t golden[] = {0xfe, 0x12, 0x34, 0xde, 0xad, 0xbe, 0xef,
									 0x81, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07,
									 0x08, 0xac, 0x02, 0x08, 'd',  'a',  't',
									 'a',  'c',  'a',  'k',  'e'};
	uint8_t data[64];
	DcStatus written, read;
	size_t length = sample_write(data, sizeof(data), &written);

	ok(length == sizeof(golden) && memcmp(data, golden, length) == 0,
	   "integers are big-endian, lengths are varints");
	ok(sample_read(data, length, &read) && written == DC_OK && read == DC_OK,
	   "what was written is read back");
	ok(sample_write(NULL, 0, &written) == length && written == DC_OK,
	   "a writer without a buffer counts the same bytes");
	sample_read(data, length + 1, &read);
	ok(read == DC_MALFORMED, "bytes left over are malformed");
}

static void
test_truncation(void)
{
	uint8_t data[64], copy[64];
	DcStatus status;
	size_t length = sample_write(data, sizeof(data), &status);
	bool refused = true, bounded = true;

	for (size_t n = 0; n < length; n++)
	{
		refused &= !sample_read(data, n, &status) && status == DC_TRUNCATED;
		memset(copy, 0x55, sizeof(copy));
		sample_write(copy, n, &status);
		bounded &= status == DC_TOO_LONG && copy[n] == 0x55;
	}
	ok(refused, "every truncation is noticed, at any of %zu bytes", length);
	ok(bounded, "a writer never passes its capacity and says so");
}

static void
test_first_error(void)
{
	static const uint8_t data[16] = {1};
	uint8_t out[4] = {0};
	DcReader r;
	DcWriter w;

	dc_reader_init(&r, data, sizeof(data));
	dc_read_bytes(&r, 17);
	ok(dc_read_u8(&r) == 0 && dc_read_u64(&r) == 0 &&
		   dc_read_bytes(&r, 1).data == NULL && dc_reader_left(&r) == 0 &&
		   dc_read_varint(&r, 5) == 0 && r.offset == 0,
	   "after a failure a reader gives zeros and moves no more");
	dc_reader_fail(&r, DC_FORGED);
	ok(dc_reader_finish(&r) == DC_TRUNCATED, "a reader keeps its first error");
	dc_reader_init(&r, data, 2);
	ok(dc_read_bytes(&r, SIZE_MAX).length == 0 && r.status == DC_TRUNCATED,
	   "a length of SIZE_MAX does not overflow a reader");
	dc_writer_init(&w, out, sizeof(out));
	dc_write_u64(&w, 5);
	dc_write_u8(&w, 9);
	ok(w.status == DC_TOO_LONG && w.length == 0 && out[0] == 0,
	   "after a failure a writer writes no more");
	dc_writer_init(&w, out, sizeof(out));
	dc_write_bytes(&w, NULL, 0);
	ok(w.status == DC_OK && w.length == 0, "nothing can be written");
}

static size_t
varint_write(uint8_t data[10], uint64_t value)
{
	DcWriter w;

	dc_writer_init(&w, data, 10);
	dc_write_varint(&w, value);
	return w.status == DC_OK ? w.length : 0;
}

static DcStatus
varint_read(const uint8_t *data, size_t length, uint64_t max, uint64_t *value)
{
	DcReader r;

	dc_reader_init(&r, data, length);
	*value = dc_read_varint(&r, max);
	return dc_reader_finish(&r);
}

static void
test_varint_values(void)
{
	bool back = true, shortest = true, cut = true, limited = true;
	uint8_t data[11];
	uint64_t read;

	/* each power of two and its neighbours */
	for (unsigned bit = 0; bit < 64; bit++)
	{
		for (int delta = -1; delta <= 1; delta++)
		{
			uint64_t value = ((uint64_t) 1 << bit) + (uint64_t) delta;
			size_t length = varint_write(data, value);
			unsigned bits = 1;

			while (bits < 64 && value >> bits != 0)
				bits++;
			shortest &= length == (bits + 6) / 7;
			back &= varint_read(data, length, UINT64_MAX, &read) == DC_OK &&
					read == value;
			for (size_t n = 0; n < length; n++)
				cut &= varint_read(data, n, UINT64_MAX, &read) == DC_TRUNCATED;
			if (value > 0)
				limited &= varint_read(data, length, value - 1, &read) ==
							   DC_MALFORMED &&
						   read == 0;
		}
	}
	ok(back, "varints of each magnitude come back");
	ok(shortest, "varints are as short as can be");
	ok(cut, "truncated varints are noticed");
	ok(limited, "a varint beyond its maximum is malformed");
}

static void
test_varint_forms(void)
{
	static const uint8_t padded[][11] = {{2, 0x80, 0x00},
										 {2, 0xff, 0x00},
										 {3, 0x80, 0x80, 0x00},
										 {3, 0x81, 0x80, 0x00},
										 {10, 0xff, 0xff, 0xff, 0xff, 0xff,
										  0xff, 0xff, 0xff, 0xff, 0x00}};
	uint8_t wide[11] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
						0xff, 0xff, 0xff, 0x02, 0x00};
	bool refused = true, unique = true;
	uint64_t read;

	for (size_t i = 0; i < sizeof(padded) / sizeof(padded[0]); i++)
		refused &= varint_read(padded[i] + 1, padded[i][0], UINT64_MAX,
							   &read) == DC_MALFORMED;
	ok(refused, "a varint with padding is malformed");
	refused = varint_read(wide, 10, UINT64_MAX, &read) == DC_MALFORMED;
	wide[9] = 0x81;
	refused &= varint_read(wide, 11, UINT64_MAX, &read) == DC_MALFORMED;
	ok(refused, "a varint of more than 64 bits is malformed");

	/* all strings of up to two bytes: accepted means written the same way */
	for (uint32_t code = 0; code < 65536; code++)
	{
		uint8_t bytes[2] = {(uint8_t) code, (uint8_t) (code >> 8)}, again[10];

		for (size_t n = 1; n <= 2; n++)
		{
			if (varint_read(bytes, n, UINT64_MAX, &read) == DC_OK)
				unique &= varint_write(again, read) == n &&
						  memcmp(again, bytes, n) == 0;
		}
	}
	ok(unique, "each value has exactly one encoding");
}

static void
test_string_lengths(void)
{
	static const uint8_t data[] = {5, 'a', 'b', 'c', 'd', 'e'};
	DcReader r;

	dc_reader_init(&r, data, sizeof(data));
	ok(dc_read_string(&r, 4).length == 0 && r.status == DC_MALFORMED,
	   "a string beyond its maximum is malformed");
	dc_reader_init(&r, data, 5);
	ok(dc_read_string(&r, 100).length == 0 && r.status == DC_TRUNCATED,
	   "a string's length is checked against what is left");
	dc_reader_init(&r, data, sizeof(data));
	ok(dc_read_string(&r, 5).data == data + 1 && dc_reader_left(&r) == 0,
	   "a slice points into the message");
}

int
main(void)
{
	test_round_trip();
	test_truncation();
	test_first_error();
	test_varint_values();
	test_varint_forms();
	test_string_lengths();
	return tap_done();
}
