/*
 * test_message.c
 *		Calls between nodes: round trips, one encoding for each value, limits,
 *		damage, and what binds a sealed call to its place.
 *
 * Damaged messages are read from heap blocks of exactly their length, so that
 * the address sanitizer sees any byte read too much.
 *
 * Called with the name of a folder it writes sample messages there instead:
 * the seeds of test/fuzz/corpus/fuzz_message.
 */
#include "message.h"
#include "tap.h"

#include <stdlib.h>
#include <string.h>

#define ROOM 65536

typedef struct Message
{
	const char *name;
	uint8_t bytes[ROOM];
	size_t length;
} Message;

static DcSlice
text(const char *string)
{
	return (DcSlice){(const uint8_t *) string, strlen(string)};
}

static bool
equal(DcSlice a, DcSlice b)
{
	return a.length == b.length &&
		   (a.length == 0 || memcmp(a.data, b.data, a.length) == 0);
}

/* --- reading a message of any kind, and writing it again --- */

typedef struct Recoded
{
	DcStatus status;
	unsigned parts;
	uint8_t bytes[ROOM];
	size_t length;
} Recoded;

static Recoded recoded;

static DcStatus
recode_hello(DcWriter *w, const uint8_t *data, size_t length)
{
	static DcHello hello;
	DcStatus status = dc_hello_decode(data, length, &hello);

	if (status == DC_OK)
		dc_hello_encode(w, &hello);
	return status;
}

static DcStatus
recode_welcome(DcWriter *w, const uint8_t *data, size_t length)
{
	static DcWelcome welcome;
	DcStatus status = dc_welcome_decode(data, length, &welcome);

	if (status == DC_OK)
		dc_welcome_encode(w, &welcome);
	return status;
}

static DcStatus
recode_ack(DcWriter *w, const uint8_t *data, size_t length)
{
	static DcAck ack;
	DcStatus status = dc_ack_decode(data, length, &ack);

	if (status == DC_OK)
		dc_ack_encode(w, &ack);
	return status;
}

static DcStatus
recode_request(DcWriter *w, const uint8_t *data, size_t length)
{
	DcServiceRequest request;
	DcStatus status = dc_service_request_decode(data, length, &request);

	if (status == DC_OK)
		dc_service_request_encode(w, &request);
	return status;
}

static DcStatus
recode_result(DcWriter *w, const uint8_t *data, size_t length)
{
	DcSlice value;
	DcStatus status = dc_service_result_decode(data, length, &value);

	if (status == DC_OK)
		dc_service_result_encode(w, value);
	return status;
}

static void
write_part(DcWriter *w, const DcPart *part)
{
	static DcDebts debts;

	switch (part->kind)
	{
		case DC_PART_BATCH:
		case DC_PART_CATCHUP:
			dc_call_batch(w, part->kind, part->batch.data, part->batch.length);
			break;
		case DC_PART_SEGMENT:
			dc_call_segment(w, part->from, part->to);
			break;
		case DC_PART_ADOPT:
			(void) dc_debts_decode(part->debts, &debts);
			dc_call_adopt(w, &part->base, &part->donor, &debts, &part->horizon);
			break;
		case DC_PART_MEMBERS:
			dc_call_members(w, &part->at, &part->members);
			break;
		case DC_PART_FLUSH:
			dc_call_flush(w);
			break;
		case DC_PART_END:
			abort();
	}
}

static DcStatus
recode_call(DcWriter *w, const uint8_t *data, size_t length)
{
	static DcPart part;
	DcReader r;

	dc_reader_init(&r, data, length);
	dc_call_read_begin(&r);
	dc_call_begin(w);
	while (r.status == DC_OK && dc_call_read_part(&r, &part))
	{
		recoded.parts++;
		write_part(w, &part);
	}
	dc_call_end(w);
	return dc_reader_finish(&r);
}

/* As a message of this letter, from a block of its own length. */
static DcStatus
recode_as(char letter, const uint8_t *data, size_t length)
{
	uint8_t *copy = malloc(length > 0 ? length : 1);
	DcWriter w;

	if (copy == NULL)
		abort();
	memcpy(copy, data, length);
	recoded.parts = 0;
	dc_writer_init(&w, recoded.bytes, sizeof(recoded.bytes));
	switch (letter)
	{
		case 'H':
			recoded.status = recode_hello(&w, copy, length);
			break;
		case 'W':
			recoded.status = recode_welcome(&w, copy, length);
			break;
		case 'C':
			recoded.status = recode_call(&w, copy, length);
			break;
		case 'S':
			recoded.status = recode_request(&w, copy, length);
			break;
		case 's':
			recoded.status = recode_result(&w, copy, length);
			break;
		default:
			recoded.status = recode_ack(&w, copy, length);
			break;
	}
	recoded.length = w.status == DC_OK ? w.length : 0;
	free(copy);
	return recoded.status;
}

static bool
recodes_to(const uint8_t *data, size_t length)
{
	return recoded.length == length && memcmp(recoded.bytes, data, length) == 0;
}

/* --- samples --- */

static const DcHello *
sample_hello(void)
{
	static DcHello hello = {.wire = 1,
							.wire_min = 1,
							.sender = 1,
							.incarnation = UINT64_C(0x0102030405060708),
							.receiver = DC_NODE_ID_MAX,
							.kind = DC_SESSION_QUESTIONS};

	hello.cluster = text("harbour");
	hello.encoding = text("UTF8");
	for (unsigned i = 0; i < DC_NONCE_BYTES; i++)
		hello.nonce[i] = (uint8_t) (0xa0 + i);
	return &hello;
}

static void
sample_vector(DcVv *vector)
{
	dc_vv_init(vector);
	vector->at[1] = dc_hlc_make(UINT64_C(700000000000000), 1);
	vector->at[2] = 1;
	vector->at[700] = dc_hlc_make(5, 3); /* a watermark of any node */
	vector->at[DC_NODE_ID_MAX] = DC_HLC_MAX;
}

static const DcHorizon *
sample_horizon(void)
{
	static DcHorizon horizon;

	horizon.stamp = dc_hlc_make(8000, 300);
	horizon.counted[3] = horizon.counted[300] = true;
	return &horizon;
}

static const DcMembers *
sample_members(void)
{
	static DcMembers members;

	members.count = 0;
	for (uint32_t id = 1; id <= 3; id++)
		dc_members_put(&members, (DcMember){.node_id = id * 300,
											.state = (DcMemberState) id,
											.incarnation = id});
	return &members;
}

static const DcPosition sample_position = {.founder = 0x0a0b0c0d0e0f0102,
										   .generation = 77 * 1024 + 3,
										   .epoch = 12};

static const DcWelcome *
sample_welcome(void)
{
	static DcWelcome welcome = {.node_id = 300,
								.incarnation = UINT64_MAX,
								.session = UINT64_C(0x1112131415161718),
								.nonce = {1, 2, 3}};

	sample_vector(&welcome.vector);
	welcome.incoming[1] = true;
	welcome.incoming[2] = true;
	welcome.incoming[DC_NODE_ID_MAX] = true;
	welcome.joining = true;
	welcome.known = true;
	welcome.before = DC_MEMBER_FENCED;
	welcome.clock = dc_hlc_make(9000, 300);
	welcome.horizon = *sample_horizon();
	welcome.at = sample_position;
	welcome.members = *sample_members();
	return &welcome;
}

/* Every list as long as it can be. */
static const DcWelcome *
full_welcome(void)
{
	static DcWelcome welcome = {.node_id = 1};

	for (uint32_t id = 1; id <= DC_NODE_ID_MAX; id++)
	{
		welcome.vector.at[id] = dc_hlc_make(id, id);
		welcome.incoming[id] = true;
	}
	return &welcome;
}

static const DcAck *
sample_ack(void)
{
	static DcAck ack = {.applied = 1,
						.stale = UINT32_MAX,
						.waiting = 0x01020304,
						.held_us = 0x05060708};

	sample_vector(&ack.vector);
	ack.incoming[5] = true;
	return &ack;
}

static const DcDebts *
sample_debts(void)
{
	static DcDebts debts;

	dc_debts_init(&debts);
	dc_debts_add(&debts, 3, 0, dc_hlc_make(20, 3));
	dc_debts_add(&debts, 3, 7, dc_hlc_make(20, 3));
	dc_debts_add(&debts, DC_NODE_ID_MAX, DC_NODE_ID_MAX, DC_HLC_MAX);
	return &debts;
}

static void
write_sample_call(DcWriter *w)
{
	static DcVv base, donor;
	const DcHlc from = dc_hlc_make(10, 1);

	dc_vv_init(&base);
	sample_vector(&donor);
	dc_call_begin(w);
	dc_call_batch(w, DC_PART_BATCH, "opaque", 6);
	dc_call_segment(w, 0, from);
	dc_call_batch(w, DC_PART_CATCHUP, "", 0);
	dc_call_adopt(w, &base, &donor, sample_debts(), sample_horizon());
	dc_call_members(w, &sample_position, sample_members());
	dc_call_segment(w, from, DC_HLC_MAX);
	dc_call_flush(w);
	dc_call_end(w);
}

static DcServiceRequest
sample_request(void)
{
	return (DcServiceRequest){.role = text("clerk"),
							  .superuser = true,
							  .depth = DC_SERVICE_DEPTH_MAX,
							  .service = text("stock"),
							  .payload = text("{\"item\": 7}")};
}

/* One of each, written once. */
static Message *
samples(unsigned *count)
{
	static Message all[] = {{.name = "hello"},        {.name = "hello-empty"},
							{.name = "welcome"},      {.name = "ack"},
							{.name = "ack-empty"},    {.name = "call"},
							{.name = "call-empty"},   {.name = "request"},
							{.name = "request-null"}, {.name = "result"},
							{.name = "result-null"},  {.name = "welcome-full"}};
	static const DcAck empty_ack;
	DcHello empty_hello = *sample_hello();
	DcServiceRequest request = sample_request();

	empty_hello.cluster = empty_hello.encoding = text("");
	*count = sizeof(all) / sizeof(all[0]);
	for (unsigned i = 0; i < *count; i++)
	{
		DcWriter w;

		dc_writer_init(&w, all[i].bytes, ROOM);
		switch (i)
		{
			case 0:
				dc_hello_encode(&w, sample_hello());
				break;
			case 1:
				dc_hello_encode(&w, &empty_hello);
				break;
			case 2:
				dc_welcome_encode(&w, sample_welcome());
				break;
			case 3:
				dc_ack_encode(&w, sample_ack());
				break;
			case 4:
				dc_ack_encode(&w, &empty_ack);
				break;
			case 5:
				write_sample_call(&w);
				break;
			case 6:
				dc_call_begin(&w);
				dc_call_end(&w);
				break;
			case 7:
				dc_service_request_encode(&w, &request);
				break;
			case 8:
				request.superuser = false;
				request.payload.data = NULL;
				dc_service_request_encode(&w, &request);
				break;
			case 9:
				dc_service_result_encode(&w, text("[1, 2]"));
				break;
			case 10:
				dc_service_result_encode(&w, (DcSlice){NULL, 0});
				break;
			default:
				dc_welcome_encode(&w, full_welcome());
				break;
		}
		if (w.status != DC_OK)
			abort();
		all[i].length = w.length;
	}
	return all;
}

/* --- field by field --- */

static void
test_hello(void)
{
	const DcHello *sent = sample_hello();
	uint8_t data[128];
	DcHello got;
	DcWriter w;

	dc_writer_init(&w, data, sizeof(data));
	dc_hello_encode(&w, sent);
	ok(dc_hello_decode(data, w.length, &got) == DC_OK &&
		   equal(got.cluster, sent->cluster) && got.sender == sent->sender &&
		   got.incarnation == sent->incarnation &&
		   got.receiver == sent->receiver &&
		   equal(got.encoding, sent->encoding) &&
		   memcmp(got.nonce, sent->nonce, DC_NONCE_BYTES) == 0 &&
		   got.kind == sent->kind,
	   "a hello is read back field by field");
}

/* A hello of this build as one of another would offer itself. */
static DcStatus
offer(uint8_t wire, uint8_t wire_min, size_t added, DcHello *got)
{
	uint8_t data[128] = {0};
	DcWriter w;

	dc_writer_init(&w, data, sizeof(data));
	dc_hello_encode(&w, sample_hello());
	data[0] = wire;
	data[2] = wire_min;
	return dc_hello_decode(data, w.length + added, got);
}

static void
test_offers(void)
{
	DcVersions own = dc_versions_own();
	DcVersions older = {.wire = 1, .wire_min = 1};
	DcVersions newer = {.wire = 3, .wire_min = 2};
	uint8_t next = (uint8_t) (own.wire + 1);
	uint8_t newest = (uint8_t) own.wire;
	DcHello got;

	ok(offer(next, newest, 0, &got) == DC_OK && got.wire == next &&
		   got.wire_min == newest,
	   "a hello that offers this version and the next is taken");
	ok(offer(next, newest, 5, &got) == DC_OK,
	   "and what the next version adds to it is skipped");
	ok(offer(newest, newest, 5, &got) == DC_MALFORMED,
	   "but nothing is added to one of this version");
	ok(offer(next, next, 0, &got) == DC_VERSION && got.wire_min == next,
	   "a hello that offers only the next one is refused, and known as such");
	ok(offer(newest, 0, 0, &got) == DC_MALFORMED &&
		   offer(newest, next, 0, &got) == DC_MALFORMED,
	   "an offer of nothing is malformed");
	ok(dc_versions_common(older, newer) == 0 &&
		   dc_versions_common((DcVersions){.wire = 2, .wire_min = 1}, newer) ==
			   2 &&
		   dc_versions_common(newer, (DcVersions){.wire = 2, .wire_min = 1}) ==
			   2,
	   "the greatest version that both speak is chosen, by both alike");
	own.release_minor = 17;
	own.wire = 9;
	own = dc_versions_unpack(dc_versions_pack(own));
	ok(own.release_minor == 17 && own.wire == 9,
	   "what gossip tells of a build is read back");
}

static bool
same_welcome(const DcWelcome *sent)
{
	static uint8_t data[ROOM];
	static DcWelcome got;
	DcWriter w;

	memset(&got, 0xff, sizeof(got));
	memset(got.incoming, true, sizeof(got.incoming));
	dc_writer_init(&w, data, sizeof(data));
	dc_welcome_encode(&w, sent);
	return dc_welcome_decode(data, w.length, &got) == DC_OK &&
		   got.node_id == sent->node_id &&
		   got.incarnation == sent->incarnation &&
		   got.session == sent->session &&
		   memcmp(got.nonce, sent->nonce, DC_NONCE_BYTES) == 0 &&
		   memcmp(&got.vector, &sent->vector, sizeof(got.vector)) == 0 &&
		   memcmp(got.incoming, sent->incoming, sizeof(got.incoming)) == 0;
}

static void
test_ack(void)
{
	const DcAck *sent = sample_ack();
	static uint8_t data[ROOM];
	static DcAck got;
	DcWriter w;

	memset(got.incoming, true, sizeof(got.incoming));
	dc_writer_init(&w, data, sizeof(data));
	dc_ack_encode(&w, sent);
	ok(dc_ack_decode(data, w.length, &got) == DC_OK &&
		   got.applied == sent->applied && got.stale == sent->stale &&
		   got.waiting == sent->waiting && got.held_us == sent->held_us &&
		   memcmp(&got.vector, &sent->vector, sizeof(got.vector)) == 0 &&
		   memcmp(got.incoming, sent->incoming, sizeof(got.incoming)) == 0,
	   "an ack is read back field by field");

	dc_writer_init(&w, data, sizeof(data));
	dc_ack_encode(&w,
				  &(DcAck){.applied = 7, .unchanged = true, .settled = true});
	ok(dc_ack_decode(data, w.length, &got) == DC_OK && got.unchanged &&
		   got.settled && got.applied == 7 && w.length == 2 + 4 * 4 + 1,
	   "an ack without news says so in one byte");
	data[w.length - 1] = 4;
	ok(dc_ack_decode(data, w.length, &got) == DC_MALFORMED,
	   "an ack with a flag that is not known is refused");
}

static void
test_call(void)
{
	static uint8_t data[ROOM];
	static DcVv base, donor;
	static DcPart part;
	const DcHlc middle = dc_hlc_make(10, 1);
	DcReader r;
	DcWriter w;
	bool right;

	dc_vv_init(&base);
	sample_vector(&donor);
	dc_writer_init(&w, data, sizeof(data));
	write_sample_call(&w);
	dc_reader_init(&r, data, w.length);
	dc_call_read_begin(&r);
	right = dc_call_read_part(&r, &part) && part.kind == DC_PART_BATCH &&
			equal(part.batch, text("opaque"));
	right = right && dc_call_read_part(&r, &part) &&
			part.kind == DC_PART_SEGMENT && part.from == DC_HLC_NONE &&
			part.to == middle;
	right = right && dc_call_read_part(&r, &part) &&
			part.kind == DC_PART_CATCHUP && part.batch.length == 0;
	right = right && dc_call_read_part(&r, &part) &&
			part.kind == DC_PART_ADOPT &&
			memcmp(&part.base, &base, sizeof(base)) == 0 &&
			memcmp(&part.donor, &donor, sizeof(donor)) == 0 &&
			memcmp(&part.horizon, sample_horizon(), sizeof(DcHorizon)) == 0;
	right = right && dc_call_read_part(&r, &part) &&
			part.kind == DC_PART_MEMBERS &&
			dc_members_digest(&part.members) ==
				dc_members_digest(sample_members()) &&
			memcmp(&part.at, &sample_position, sizeof(part.at)) == 0;
	right = right && dc_call_read_part(&r, &part) &&
			part.kind == DC_PART_SEGMENT && part.from == middle &&
			part.to == DC_HLC_MAX;
	right = right && dc_call_read_part(&r, &part) && part.kind == DC_PART_FLUSH;
	right =
		right && !dc_call_read_part(&r, &part) && dc_reader_finish(&r) == DC_OK;
	ok(right, "a call is read back part by part, in order");
}

static void
test_golden(void)
{
	/* newest, letter, oldest, cluster, sender, incarnation, receiver, encoding */
	static const uint8_t hello[] = {1, 'H', 1, 1, 'c', 0, 2, 0, 0, 0, 0, 0, 0,
									0, 3, 3, 0xff, 1, 'e',
									/* nonce */
									0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6,
									0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad,
									0xae, 0xaf, /* kind */ 1};
	/* version, letter, a batch, a segment, the end */
	static const uint8_t call[] = {1, 'C', 1, 2, 'b', 'b', 3, 0, 0, 0, 0, 0,
								   0, 4,   1, 0, 0,   0,   0, 0, 0, 8, 1, 0};
	/* version, letter, applied, stale, waiting, held, news, vector, incoming */
	static const uint8_t ack[] = {1, 'A', 0, 0, 0, 5, 0, 0, 0, 6, 0,
								  0, 0,   7, 0, 0, 0, 8, 0, 1, 0, 2,
								  0, 0,   0, 0, 0, 0, 4, 2, 1, 0, 3};
	static DcAck counts = {.applied = 5, .stale = 6, .waiting = 7, .held_us = 8};
	DcHello greeting = *sample_hello();
	uint8_t data[64];
	DcWriter w;

	greeting.cluster = text("c");
	greeting.encoding = text("e");
	greeting.sender = 2;
	greeting.incarnation = 3;
	dc_writer_init(&w, data, sizeof(data));
	dc_hello_encode(&w, &greeting);
	ok(w.length == sizeof(hello) && memcmp(data, hello, sizeof(hello)) == 0,
	   "a hello has the bytes that doc/wire-format.md says");

	dc_writer_init(&w, data, sizeof(data));
	dc_call_begin(&w);
	dc_call_batch(&w, DC_PART_BATCH, "bb", 2);
	dc_call_segment(&w, 1025, 2049);
	dc_call_end(&w);
	ok(w.length == sizeof(call) && memcmp(data, call, sizeof(call)) == 0,
	   "a call has the bytes that doc/wire-format.md says");

	counts.vector.at[2] = 1026;
	counts.incoming[3] = true;
	dc_writer_init(&w, data, sizeof(data));
	dc_ack_encode(&w, &counts);
	ok(w.length == sizeof(ack) && memcmp(data, ack, sizeof(ack)) == 0,
	   "an ack has the bytes that doc/wire-format.md says");
}

/* --- what holds of every message --- */

static void
test_canonical(const Message *m)
{
	char letter = (char) m->bytes[1];

	ok(recode_as(letter, m->bytes, m->length) == DC_OK &&
		   recodes_to(m->bytes, m->length),
	   "%s: read and written again it is the same %zu bytes", m->name,
	   m->length);
}

static void
test_truncation(const Message *m)
{
	char letter = (char) m->bytes[1];
	bool refused = true;

	for (size_t n = 0; n < m->length; n++)
		refused &= recode_as(letter, m->bytes, n) == DC_TRUNCATED;
	ok(refused, "%s: every truncation is refused", m->name);
}

static void
test_framing(Message *m)
{
	static const char letters[] = "HWCA";
	uint32_t own = dc_versions_own().wire;
	char letter = (char) m->bytes[1];
	bool refused = true;

	for (const char *other = letters; *other != '\0'; other++)
	{
		if (*other != letter)
			refused &= recode_as(*other, m->bytes, m->length) == DC_MALFORMED;
	}
	ok(refused, "%s: is nothing but that", m->name);

	refused = true; /* a hello offers up to that: test_offers() */
	for (unsigned version = 0; version < 256 && letter != 'H'; version++)
	{
		m->bytes[0] = (uint8_t) version;
		if (version != own)
			refused &= recode_as(letter, m->bytes, m->length) == DC_VERSION &&
					   recoded.parts == 0;
	}
	m->bytes[0] = (uint8_t) own;
	ok(refused, "%s: every other version is refused", m->name);

	refused = true;
	for (unsigned byte = 0; byte < 256; byte++)
	{
		m->bytes[m->length] = (uint8_t) byte;
		refused &= recode_as(letter, m->bytes, m->length + 1) == DC_MALFORMED;
	}
	ok(refused, "%s: a byte after the end is refused", m->name);
}

static void
test_corruption(Message *m)
{
	char letter = (char) m->bytes[1];
	unsigned accepted = 0;
	bool holds = true;

	for (size_t i = 0; i < m->length && holds; i++)
	{
		uint8_t was = m->bytes[i];

		for (unsigned flip = 1; flip < 256 && holds; flip++)
		{
			m->bytes[i] = (uint8_t) (was ^ flip);
			if (recode_as(letter, m->bytes, m->length) == DC_OK)
			{
				accepted++;
				holds = recodes_to(m->bytes, m->length);
			}
			if (!holds)
				note("byte %zu of %zu: %02x -> %02x", i, m->length, was,
					 m->bytes[i]);
		}
		m->bytes[i] = was;
	}
	ok(holds, "%s: with one wrong byte it is refused or another (%u of %zu)",
	   m->name, accepted, m->length * 255);
}

/* --- limits --- */

static DcStatus
read_hello(uint32_t sender, uint32_t receiver, size_t cluster_bytes,
		   size_t encoding_bytes)
{
	static const char letters[256] = "x";
	uint8_t data[512];
	DcHello hello = *sample_hello();
	DcWriter w;

	hello.sender = sender;
	hello.receiver = receiver;
	hello.cluster = (DcSlice){(const uint8_t *) letters, cluster_bytes};
	hello.encoding = (DcSlice){(const uint8_t *) letters, encoding_bytes};
	dc_writer_init(&w, data, sizeof(data));
	dc_hello_encode(&w, &hello);
	return recode_as('H', data, w.length);
}

static void
test_hello_limits(void)
{
	bool refused = true;
	uint8_t data[128];
	DcHello hello;
	DcWriter w;

	ok(read_hello(1, DC_NODE_ID_MAX, 63, 63) == DC_OK,
	   "a hello with the longest names is taken");
	ok(read_hello(1, 2, 64, 1) == DC_MALFORMED,
	   "a cluster's name of 64 bytes is refused");
	ok(read_hello(1, 2, 1, 64) == DC_MALFORMED,
	   "an encoding of 64 bytes is refused");
	for (uint32_t id = 0; id <= UINT16_MAX; id += id ? 1 : DC_NODE_IDS)
		refused &= read_hello(id, 1, 1, 1) == DC_MALFORMED &&
				   read_hello(1, id, 1, 1) == DC_MALFORMED;
	ok(refused, "node ids that are none are refused, 0 and %u to 65535",
	   DC_NODE_IDS);

	dc_writer_init(&w, data, sizeof(data));
	dc_hello_encode(&w, sample_hello());
	refused = true;
	for (unsigned kind = DC_SESSION_KINDS; kind <= UINT8_MAX; kind++)
	{
		data[w.length - 1] = (uint8_t) kind;
		refused &= dc_hello_decode(data, w.length, &hello) == DC_MALFORMED;
	}
	ok(refused, "a session for a purpose that does not exist is refused");
}

/* An ack whose vector and incoming nodes are as given, right or not. */
static DcStatus
read_lists(uint64_t vector_count, const uint16_t *ids, const uint64_t *stamps,
		   uint64_t incoming_count, const uint16_t *incoming, size_t written)
{
	uint8_t data[256];
	DcWriter w;

	dc_writer_init(&w, data, sizeof(data));
	dc_write_bytes(&w, "\001A", 2);
	for (unsigned i = 0; i < 4; i++)
		dc_write_u32(&w, 0);
	dc_write_u8(&w, 0);
	dc_write_varint(&w, vector_count);
	for (size_t i = 0; ids != NULL && i < written; i++)
	{
		dc_write_u16(&w, ids[i]);
		dc_write_u64(&w, stamps[i]);
	}
	if (incoming_count != UINT64_MAX)
		dc_write_varint(&w, incoming_count);
	for (size_t i = 0; incoming != NULL && i < written; i++)
		dc_write_u16(&w, incoming[i]);
	return recode_as('A', data, w.length);
}

static DcStatus
read_vector(uint16_t first, uint64_t first_stamp, uint16_t second,
			uint64_t second_stamp)
{
	uint16_t ids[2] = {first, second};
	uint64_t stamps[2] = {first_stamp, second_stamp};

	return read_lists(2, ids, stamps, 0, NULL, 2);
}

static DcStatus
read_incoming(uint16_t first, uint16_t second)
{
	uint16_t ids[2] = {first, second};

	return read_lists(0, NULL, NULL, 2, ids, 2);
}

static void
test_list_limits(void)
{
	const uint16_t ids[1] = {1};
	const uint64_t stamps[1] = {1};

	ok(read_vector(1, 1, 1023, DC_HLC_MAX) == DC_OK,
	   "a vector ascends by node id");
	ok(read_vector(2, 1, 1, 1) == DC_MALFORMED &&
		   read_vector(2, 1, 2, 1) == DC_MALFORMED,
	   "a vector out of order, or with a node twice, is refused");
	ok(read_vector(0, 1, 1, 1) == DC_MALFORMED &&
		   read_vector(1, 1, 1024, 1) == DC_MALFORMED &&
		   read_vector(1, 1, 65535, 1) == DC_MALFORMED,
	   "a vector of no such node is refused");
	ok(read_vector(1, 0, 2, 1) == DC_MALFORMED &&
		   read_vector(1, DC_HLC_MAX + 1, 2, 1) == DC_MALFORMED &&
		   read_vector(1, 1, 2, UINT64_MAX) == DC_MALFORMED,
	   "a vector that claims nothing, or more than a stamp, is refused");

	ok(read_incoming(1, 1023) == DC_OK, "incoming nodes ascend");
	ok(read_incoming(2, 1) == DC_MALFORMED &&
		   read_incoming(2, 2) == DC_MALFORMED,
	   "incoming nodes out of order, or one twice, are refused");
	ok(read_incoming(0, 1) == DC_MALFORMED &&
		   read_incoming(1, 1024) == DC_MALFORMED,
	   "an incoming node that is none is refused");

	ok(read_lists(1024, ids, stamps, UINT64_MAX, NULL, 1) == DC_MALFORMED &&
		   read_lists(UINT64_MAX, ids, stamps, UINT64_MAX, NULL, 1) ==
			   DC_MALFORMED &&
		   read_lists(0, NULL, NULL, 1024, ids, 1) == DC_MALFORMED,
	   "a list longer than there are node ids is refused");
	ok(read_lists(1023, ids, stamps, UINT64_MAX, NULL, 1) == DC_TRUNCATED &&
		   read_lists(0, NULL, NULL, 1023, ids, 1) == DC_TRUNCATED,
	   "a list that promises more than there is is refused");
}

static DcStatus
read_segment(DcHlc from, DcHlc to)
{
	uint8_t data[64];
	DcWriter w;

	dc_writer_init(&w, data, sizeof(data));
	dc_call_begin(&w);
	dc_call_segment(&w, from, to);
	dc_call_end(&w);
	return recode_as('C', data, w.length);
}

/* A call that begins with one part of this kind and these bytes. */
static DcStatus
read_part(uint8_t kind, const void *bytes, size_t length)
{
	uint8_t data[64];
	DcWriter w;

	dc_writer_init(&w, data, sizeof(data));
	dc_call_begin(&w);
	dc_write_u8(&w, kind);
	dc_write_bytes(&w, bytes, length);
	return recode_as('C', data, w.length);
}

static DcStatus
read_promise(uint64_t promise)
{
	uint8_t bytes[16];
	DcWriter w;

	dc_writer_init(&w, bytes, sizeof(bytes));
	dc_write_varint(&w, promise);
	return read_part(DC_PART_BATCH, bytes, w.length);
}

static void
test_call_limits(void)
{
	static const uint8_t zeros[32];
	bool refused = true;

	for (unsigned kind = DC_PART_FLUSH + 1; kind < 256; kind++)
		refused &=
			read_part((uint8_t) kind, zeros, sizeof(zeros)) == DC_MALFORMED &&
			recoded.parts == 0;
	ok(refused, "every unknown kind of part is refused");
	ok(read_segment(0, 1) == DC_OK && read_segment(0, DC_HLC_MAX) == DC_OK,
	   "a segment is taken up to the greatest stamp");
	ok(read_segment(5, 5) == DC_MALFORMED &&
		   read_segment(5, 4) == DC_MALFORMED &&
		   read_segment(0, 0) == DC_MALFORMED,
	   "a segment that does not move on is refused");
	ok(read_segment(0, DC_HLC_MAX + 1) == DC_MALFORMED &&
		   read_segment(DC_HLC_MAX + 1, UINT64_MAX) == DC_MALFORMED,
	   "a segment beyond the greatest stamp is refused");
	ok(read_promise(1) == DC_TRUNCATED &&
		   read_promise(UINT32_MAX) == DC_TRUNCATED &&
		   read_promise(UINT64_MAX) == DC_TRUNCATED && recoded.parts == 0,
	   "a batch longer than its call is refused, whatever it promises");
	ok(read_part(DC_PART_BATCH, "\x80", 2) == DC_MALFORMED,
	   "a length in more bytes than it needs is refused");
}

/* A refused vector claims nothing, or a caller that forgot to look trusts it. */
static void
test_refused_vector(void)
{
	static DcWelcome welcome;
	static uint8_t data[ROOM];
	bool empty = true;
	DcWriter w;

	dc_writer_init(&w, data, sizeof(data));
	dc_welcome_encode(&w, full_welcome());
	welcome = *full_welcome();
	dc_welcome_decode(data, 5000, &welcome);
	for (uint32_t id = 0; id < DC_NODE_IDS; id++)
		empty &= welcome.vector.at[id] == DC_HLC_NONE && !welcome.incoming[id];
	ok(empty, "a vector that is cut off claims nothing");
}

/* --- associated data --- */

static bool
differs(const DcAssociated *a, const DcAssociated *b)
{
	uint8_t x[DC_ASSOCIATED_BYTES] = {0};
	uint8_t y[DC_ASSOCIATED_BYTES] = {0};
	size_t x_length = dc_associated_encode(x, a);
	size_t y_length = dc_associated_encode(y, b);

	return x_length == y_length && memcmp(x, y, x_length) != 0;
}

static void
test_associated(void)
{
	static const uint8_t golden[44] = {'d', 'a', 't', 'a',  'c', 'a', 'k', 'e',
									   ' ', 'c', 'a', 'l',  'l', ' ', '1', 'C',
									   0,   2,   3,   0xff, 0,   0,   0,   0,
									   0,   0,   0,   4,    0,   0,   0,   0,
									   0,   0,   0,   5,    0,   0,   0,   0,
									   0,   0,   0,   6};
	const DcAssociated a = {.direction = 'C',
							.sender = 2,
							.receiver = DC_NODE_ID_MAX,
							.incarnation = 4,
							.session = 5,
							.sequence = 6};
	uint8_t data[DC_ASSOCIATED_BYTES];
	DcAssociated b[6] = {a, a, a, a, a, a};
	bool bound = true;

	ok(dc_associated_encode(data, &a) == sizeof(golden) &&
		   memcmp(data, golden, sizeof(golden)) == 0,
	   "associated data has the bytes that doc/wire-format.md says");
	b[0].direction = 'A';
	b[1].sender = 3;
	b[2].receiver = 3;
	b[3].incarnation = 5;
	b[4].session = 4;
	b[5].sequence = 7;
	for (unsigned i = 0; i < 6; i++)
		bound &= differs(&a, &b[i]);
	ok(bound, "direction, nodes, incarnation, session and sequence all bind");
}

/* --- seeds --- */

static int
save_seeds(const char *folder)
{
	unsigned count;
	Message *all = samples(&count);

	/* all but the last, which is long and teaches a fuzzer nothing new */
	for (unsigned i = 0; i + 1 < count; i++)
	{
		char path[4096];
		FILE *file;
		bool saved;

		snprintf(path, sizeof(path), "%s/%s", folder, all[i].name);
		file = fopen(path, "wb");
		saved = file != NULL &&
				fwrite(all[i].bytes, 1, all[i].length, file) == all[i].length;
		if (file == NULL || fclose(file) != 0 || !saved)
		{
			perror(path);
			return 1;
		}
	}
	return 0;
}

static void
test_service(void)
{
	DcServiceRequest sent = sample_request();
	uint8_t data[128];
	DcServiceRequest got;
	DcSlice value;
	DcWriter w;
	bool refused = true;

	dc_writer_init(&w, data, sizeof(data));
	dc_service_request_encode(&w, &sent);
	ok(dc_service_request_decode(data, w.length, &got) == DC_OK &&
		   equal(got.role, sent.role) && got.superuser &&
		   got.depth == sent.depth && equal(got.service, sent.service) &&
		   equal(got.payload, sent.payload),
	   "the call of a service is read back field by field");
	for (unsigned depth = 0; depth <= UINT8_MAX;
		 depth += depth == 0 ? DC_SERVICE_DEPTH_MAX + 1 : 1)
	{
		sent.depth = depth;
		dc_writer_init(&w, data, sizeof(data));
		dc_service_request_encode(&w, &sent);
		refused &=
			dc_service_request_decode(data, w.length, &got) == DC_MALFORMED;
	}
	ok(refused, "one of no depth, or nested more than %d deep, is refused",
	   DC_SERVICE_DEPTH_MAX);

	dc_writer_init(&w, data, sizeof(data));
	dc_service_result_encode(&w, (DcSlice){NULL, 0});
	ok(dc_service_result_decode(data, w.length, &value) == DC_OK &&
		   value.data == NULL,
	   "a null is read back as one");
	dc_writer_init(&w, data, sizeof(data));
	dc_service_result_encode(&w, text("null"));
	ok(dc_service_result_decode(data, w.length, &value) == DC_OK &&
		   equal(value, text("null")),
	   "and the null of JSON is none");
}

int
main(int argc, char **argv)
{
	unsigned count;
	Message *all;

	if (argc > 1)
		return save_seeds(argv[1]);
	test_hello();
	test_offers();
	ok(same_welcome(sample_welcome()), "a welcome is read back field by field");
	ok(same_welcome(full_welcome()), "a welcome may name all %u nodes",
	   DC_NODE_ID_MAX);
	test_ack();
	test_call();
	test_golden();
	all = samples(&count);
	for (unsigned i = 0; i < count; i++)
	{
		test_canonical(&all[i]);
		test_framing(&all[i]);
		if (i + 1 < count) /* too long to damage everywhere */
		{
			test_truncation(&all[i]);
			test_corruption(&all[i]);
		}
	}
	test_hello_limits();
	test_service();
	test_list_limits();
	test_call_limits();
	test_refused_vector();
	test_associated();
	return tap_done();
}
