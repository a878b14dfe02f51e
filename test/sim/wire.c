/*
 * wire.c
 *		Messages as they travel: through the core's own codecs, there and back.
 *
 * A bit that flips on the way is noticed by the seal, which the server puts
 * around each message; here the message is then dropped, with its session.
 */
#include "sim.h"

#include "batch.h"
#include "message.h"

#include <string.h>

#define PACKET_BYTES 2048

typedef struct Packet
{
	size_t length;
	uint8_t bytes[PACKET_BYTES];
} Packet;

static DcSlice
text(const char *string)
{
	return (DcSlice){(const uint8_t *) string, strlen(string)};
}

/* ---- batches -------------------------------------------------------------- */

static void
write_batch(DcWriter *w, const Batch *batch)
{
	static const char *const names[] = {"rows", "others"};

	dc_batch_begin(w, 2);
	for (uint64_t id = 1; id <= 2; id++)
	{
		DcBatchKeyspace keyspace = {.id = id,
									.schema = text("public"),
									.name = text(names[id - 1]),
									.column_count = 1};

		dc_batch_keyspace(w, &keyspace);
		dc_batch_column(w, text("value"), text("int4"));
	}
	for (uint32_t i = 0; i < batch->count; i++)
	{
		const Change *change = &batch->change[i];
		uint8_t key = (uint8_t) change->key;
		DcChange out = {.keyspace = change->value % 2,
						.entry = change->entry,
						.replaced = change->replaced,
						.reborn = change->reborn,
						.key = {&key, change->key == KEY_FLOOR ? 0 : 1}};

		if (!change->entry.dead)
			out.image = (DcSlice){(const uint8_t *) &change->value,
								  sizeof(change->value)};
		dc_batch_change(w, &out);
	}
	dc_batch_end(w);
}

static bool
read_batch(DcSlice bytes, Batch *batch)
{
	DcReader r;
	static DcBatchFloors floors;
	DcBatchKeyspace keyspace;
	DcChange in;
	DcSlice name;
	uint32_t keyspaces;

	dc_reader_init(&r, bytes.data, bytes.length);
	keyspaces = dc_batch_read_begin(&r);
	for (uint32_t i = 0; i < keyspaces && r.status == DC_OK; i++)
	{
		dc_batch_read_keyspace(&r, &keyspace);
		for (uint32_t c = 0; c < keyspace.column_count && r.status == DC_OK;
			 c++)
			dc_batch_read_column(&r, &name, &name);
	}
	batch->count = 0;
	memset(&floors, 0, sizeof(floors));
	while (dc_batch_read_change(&r, keyspaces, &floors, &in))
	{
		Change *change = &batch->change[batch->count++];

		if (in.key.length > 1 ||
			(in.key.length == 1 && in.key.data[0] >= KEYS_MAX) ||
			(!in.entry.dead && in.image.length != sizeof(change->value)))
			return false;
		*change = (Change){.key = dc_change_is_floor(&in) ? KEY_FLOOR :
															in.key.data[0],
						   .entry = in.entry,
						   .replaced = in.replaced,
						   .reborn = in.reborn};
		if (!in.entry.dead)
			memcpy(&change->value, in.image.data, sizeof(change->value));
		if (batch->count == KEYS_MAX + 1)
			break;
	}
	return dc_reader_finish(&r) == DC_OK || batch->count == KEYS_MAX + 1;
}

/* ---- calls ------------------------------------------------------------------ */

static void
write_adopt(const Sim *sim, DcWriter *w, const Claims *base,
			const Claims *donor)
{
	DcVv base_vv;
	DcVv donor_vv;
	static const DcDebts none; /* no third nodes */
	DcHorizon horizon;

	vv_of(sim, base, &base_vv);
	vv_of(sim, donor, &donor_vv);
	horizon_of(sim, DC_HLC_NONE, &horizon);
	dc_call_adopt(w, &base_vv, &donor_vv, &none, &horizon);
}

static void
write_call(const Sim *sim, DcWriter *w, const Message *m)
{
	uint8_t bytes[PACKET_BYTES / 2];
	DcWriter batch;
	static const Claims none;

	dc_writer_init(&batch, bytes, sizeof(bytes));
	write_batch(&batch, &m->batch);
	dc_call_begin(w);
	switch (m->kind)
	{
		case MSG_BATCH:
			dc_call_batch(w, DC_PART_BATCH, bytes, batch.length);
			break;
		case MSG_CHUNK:
			write_adopt(sim, w, &m->reach, &none);
			dc_call_batch(w, DC_PART_CATCHUP, bytes, batch.length);
			break;
		case MSG_CLOSE:
			write_adopt(sim, w, &m->base, &m->donor);
			break;
		default:
			dc_call_segment(w, m->from, m->to);
			break;
	}
	dc_call_end(w);
}

static bool
read_call(const Sim *sim, const Packet *packet, Message *m)
{
	DcReader r;
	DcPart part;

	dc_reader_init(&r, packet->bytes, packet->length);
	dc_call_read_begin(&r);
	while (dc_call_read_part(&r, &part))
	{
		switch (part.kind)
		{
			case DC_PART_BATCH:
			case DC_PART_CATCHUP:
				m->kind = part.kind == DC_PART_BATCH ? MSG_BATCH : MSG_CHUNK;
				if (!read_batch(part.batch, &m->batch))
					return false;
				break;
			case DC_PART_SEGMENT:
				m->kind = MSG_WATERMARK;
				m->from = part.from;
				m->to = part.to;
				break;
			case DC_PART_ADOPT:
				m->kind = MSG_CLOSE;
				m->base = m->reach = claims_of(sim, &part.base);
				m->donor = claims_of(sim, &part.donor);
				break;
			default:
				return false;
		}
	}
	return dc_reader_finish(&r) == DC_OK;
}

/* ---- the rest ---------------------------------------------------------------- */

static void
write_rest(Sim *sim, DcWriter *w, const Link *link, const Message *m)
{
	static DcWelcome welcome;
	static DcAck ack;
	DcHello hello = {.wire = 1,
					 .wire_min = 1,
					 .cluster = text("sim"),
					 .sender = link->from + 1,
					 .incarnation = 1,
					 .receiver = link->to + 1,
					 .encoding = text("UTF8")};

	if (m->kind == MSG_HELLO)
		dc_hello_encode(w, &hello);
	else if (m->kind == MSG_WELCOME)
	{
		welcome.node_id = link->to + 1;
		welcome.incarnation = 1;
		welcome.session = link->session + 1;
		vv_of(sim, &m->donor, &welcome.vector);
		welcome.incoming[link->from + 1] = true;
		welcome.joining = rng_chance(&sim->torment, 1, 4);
		welcome.alone = rng_chance(&sim->torment, 1, 4);
		welcome.known = rng_chance(&sim->torment, 3, 4);
		welcome.before = DC_MEMBER_PRESENT;
		welcome.members = sim->members;
		dc_welcome_encode(w, &welcome);
		welcome.incoming[link->from + 1] = false;
	}
	else
	{
		ack.applied = m->kind == MSG_ACK;
		vv_of(sim, &m->donor, &ack.vector);
		dc_ack_encode(w, &ack);
	}
}

static bool
read_rest(const Sim *sim, const Packet *packet, Message *m)
{
	static DcWelcome welcome;
	static DcAck ack;
	DcHello hello;

	if (dc_hello_decode(packet->bytes, packet->length, &hello) == DC_OK)
	{
		m->kind = MSG_HELLO;
		return true;
	}
	if (dc_welcome_decode(packet->bytes, packet->length, &welcome) == DC_OK)
	{
		m->kind = MSG_WELCOME;
		m->donor = claims_of(sim, &welcome.vector);
		return true;
	}
	if (dc_ack_decode(packet->bytes, packet->length, &ack) != DC_OK)
		return false;
	m->kind = ack.applied > 0 ? MSG_ACK : MSG_VECTOR;
	m->donor = claims_of(sim, &ack.vector);
	return true;
}

/* What no seal would let through, and the codecs must survive all the same. */
static void
torment(Sim *sim, const Packet *packet)
{
	static Packet copy;
	static Message ignored;
	Rng *rng = &sim->torment;
	uint32_t hits = rng_below(rng, 4);

	copy = *packet;
	if (rng_chance(rng, 1, 3))
		copy.length = rng_below(rng, (uint32_t) copy.length);
	else if (rng_chance(rng, 1, 4))
		copy.bytes[copy.length++] = (uint8_t) rng_next(rng);
	for (uint32_t i = 0; i < hits && copy.length > 0; i++)
	{
		uint32_t at = rng_below(rng, (uint32_t) copy.length);

		if (rng_chance(rng, 1, 2))
			copy.bytes[at] = rng_chance(rng, 1, 2) ? 0xff : 0;
		else
			copy.bytes[at] ^= (uint8_t) (1u << rng_below(rng, 8));
		if (rng_chance(rng, 1, 3))
			memset(copy.bytes + at, 0xff,
				   copy.length - at < 12 ? copy.length - at : 12);
	}
	(void) read_call(sim, &copy, &ignored);
	(void) read_rest(sim, &copy, &ignored);
}

/*
 * Replaces a message by what the other side makes of its bytes; MSG_DAMAGED:
 * nothing, and it knows.
 */
void
wire_carry(Sim *sim, const Link *link, Message *m)
{
	static Packet packet;
	DcWriter w;
	Message in = {0};
	bool call = m->kind == MSG_BATCH || m->kind == MSG_CHUNK ||
				m->kind == MSG_CLOSE || m->kind == MSG_WATERMARK;
	bool damaged = false;

	dc_writer_init(&w, packet.bytes, sizeof(packet.bytes));
	if (call)
		write_call(sim, &w, m);
	else
		write_rest(sim, &w, link, m);
	if (w.status != DC_OK)
		sim_fail(sim, "wire: message of kind %d has no room", (int) m->kind);
	packet.length = w.length;
	if (rng_chance(&sim->torment, 1, 20))
		torment(sim, &packet);
	if (!sim->calm && rng_chance(&sim->rng, sim->config.damage_rate, 10000))
	{
		packet.bytes[rng_below(&sim->rng, (uint32_t) packet.length)] ^=
			(uint8_t) (1u << rng_below(&sim->rng, 8));
		damaged = true;
		sim->stats.damaged++;
	}
	if ((damaged && !DEFECT(sim, DEFECT_SEAL)) ||
		!(call ? read_call(sim, &packet, &in) : read_rest(sim, &packet, &in)))
	{
		if (!damaged)
			sim_fail(sim, "wire: message of kind %d is not understood",
					 (int) m->kind);
		in.kind = MSG_DAMAGED;
	}
	else if (!damaged && in.kind != m->kind)
		sim_fail(sim, "wire: message of kind %d becomes %d", (int) m->kind,
				 (int) in.kind);
	*m = in;
}
