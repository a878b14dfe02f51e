/*
 * gossip_wire.c
 *		The bytes of a gossip datagram.
 */
#include "gossip_wire.h"

#include <string.h>

#define VERSION_MAX ((uint64_t) INT64_MAX)

enum
{
	SYN_COMPLETE = 1 << 0
};

enum
{
	DELTA_FULL = 1 << 0,
	DELTA_LEFT = 1 << 1,
	DELTA_CLOSED = 1 << 2,
	DELTA_DISPUTED = 1 << 3,
	DELTA_JOINING = 1 << 4,
	DELTA_LEAVING = 1 << 5,
	DELTA_FLAGS_END = 1 << 6
};

static bool
printable(const uint8_t *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
	{
		if (text[i] < 0x20 || text[i] > 0x7e)
			return false;
	}
	return true;
}

bool
dc_gossip_text_valid(const char *text, size_t size)
{
	size_t length = strlen(text);

	return length < size && printable((const uint8_t *) text, length);
}

static DcSlice
read_text(DcReader *r, size_t size)
{
	DcSlice text = dc_read_string(r, size - 1);

	if (!printable(text.data, text.length))
		dc_reader_fail(r, DC_MALFORMED);
	return text;
}

static void
write_text(DcWriter *w, DcSlice text)
{
	dc_write_string(w, text.data, text.length);
}

static DcHlc
read_stamp(DcReader *r)
{
	DcHlc stamp = dc_read_u64(r);

	if (stamp > DC_HLC_MAX)
		dc_reader_fail(r, DC_MALFORMED);
	return stamp;
}

/* Node ids of a list ascend strictly, so each list has one encoding. */
static uint32_t
read_node_id(DcReader *r, uint32_t previous)
{
	uint32_t node_id = dc_read_u16(r);

	if (node_id <= previous || node_id > DC_NODE_ID_MAX)
		dc_reader_fail(r, DC_MALFORMED);
	return node_id;
}

static void
write_header(DcWriter *w, const DcGossipHeader *header)
{
	dc_write_u8(w, DC_GOSSIP_WIRE_VERSION);
	dc_write_u8(w, (uint8_t) header->kind);
	dc_write_u16(w, (uint16_t) header->node_id);
	dc_write_u64(w, header->cluster_hash);
	dc_write_u64(w, header->incarnation);
	dc_write_u64(w, header->boot);
	dc_write_u64(w, header->sequence);
	dc_write_u64(w, header->sent_at_us);
	dc_write_u64(w, header->receiver_boot);
}

DcStatus
dc_gossip_decode_header(DcReader *r, DcGossipHeader *header, DcDetail *detail)
{
	uint8_t version = dc_read_u8(r);
	uint8_t kind;

	memset(header, 0, sizeof(*header));
	if (r->status == DC_OK && version != DC_GOSSIP_WIRE_VERSION)
	{
		detail->value = version;
		dc_reader_fail(r, DC_VERSION);
	}
	kind = dc_read_u8(r);
	header->kind = (DcGossipKind) kind;
	header->node_id = read_node_id(r, 0);
	header->cluster_hash = dc_read_u64(r);
	header->incarnation = dc_read_u64(r);
	header->boot = dc_read_u64(r);
	header->sequence = dc_read_u64(r);
	header->sent_at_us = dc_read_u64(r);
	header->receiver_boot = dc_read_u64(r);
	if (kind < DC_GOSSIP_SYN || kind > DC_GOSSIP_CLASH || header->boot == 0 ||
		header->boot > VERSION_MAX || header->sent_at_us > DC_HLC_US_MAX)
		dc_reader_fail(r, DC_MALFORMED);
	return r->status;
}

static void
write_digests(DcWriter *w, const DcGossipMessage *message)
{
	dc_write_varint(w, message->digest_count);
	for (uint32_t i = 0; i < message->digest_count; i++)
	{
		const DcGossipDigest *digest = &message->digests[i];

		dc_write_u16(w, (uint16_t) digest->node_id);
		dc_write_u64(w, digest->incarnation);
		dc_write_u64(w, digest->version);
		dc_write_u16(w, digest->age_ms);
		dc_write_u16(w, digest->doubt_ms);
	}
}

static void
read_digests(DcReader *r, DcGossipMessage *message)
{
	uint64_t count = dc_read_varint(r, DC_GOSSIP_DIGESTS_MAX);
	uint32_t previous = 0;

	for (uint64_t i = 0; i < count && r->status == DC_OK; i++)
	{
		DcGossipDigest *digest = &message->digests[i];

		digest->node_id = previous = read_node_id(r, previous);
		digest->incarnation = dc_read_u64(r);
		digest->version = dc_read_u64(r);
		digest->age_ms = (uint16_t) dc_read_u16(r);
		digest->doubt_ms = (uint16_t) dc_read_u16(r);
		if (digest->version > VERSION_MAX)
			dc_reader_fail(r, DC_MALFORMED);
		message->digest_count++;
	}
}

/*
 * A floor lies a little below the clock, so it travels as the distance plus
 * one; 0 is none.  Nobody's floor is above its own clock.
 */
static uint64_t
floor_gap(const DcGossipDelta *delta)
{
	if (delta->floor == DC_HLC_NONE || delta->floor > delta->clock)
		return 0;
	return delta->clock - delta->floor + 1;
}

static DcHlc
read_floor(DcReader *r, DcHlc clock)
{
	uint64_t gap = dc_read_varint(r, clock);

	return gap == 0 ? DC_HLC_NONE : clock - gap + 1;
}

static void
write_delta(DcWriter *w, const DcGossipDelta *delta)
{
	unsigned flags = (delta->full ? DELTA_FULL : 0u) |
					 (delta->closed ? DELTA_CLOSED : 0u) |
					 (delta->disputed ? DELTA_DISPUTED : 0u) |
					 (delta->joining ? DELTA_JOINING : 0u) |
					 (delta->leaving ? DELTA_LEAVING : 0u) |
					 (delta->full && delta->left ? DELTA_LEFT : 0u);

	dc_write_u16(w, (uint16_t) delta->node_id);
	dc_write_u64(w, delta->incarnation);
	dc_write_u64(w, delta->version);
	dc_write_u64(w, delta->config_version);
	dc_write_u16(w, delta->age_ms);
	dc_write_u8(w, (uint8_t) flags);
	dc_write_u64(w, delta->clock);
	dc_write_varint(w, floor_gap(delta));
	dc_write_u64(w, delta->epoch);
	if (!delta->full)
		return;
	dc_write_u64(w, delta->boot);
	dc_write_varint(w, delta->wire_version);
	write_text(w, delta->name);
	write_text(w, delta->data_center);
	write_text(w, delta->address);
	write_text(w, delta->conninfo);
}

static void
read_delta(DcReader *r, uint32_t previous, DcGossipDelta *delta)
{
	uint8_t flags;

	memset(delta, 0, sizeof(*delta));
	delta->node_id = read_node_id(r, previous);
	delta->incarnation = dc_read_u64(r);
	delta->version = dc_read_u64(r);
	delta->config_version = dc_read_u64(r);
	delta->age_ms = (uint16_t) dc_read_u16(r);
	flags = dc_read_u8(r);
	delta->clock = read_stamp(r);
	delta->floor = read_floor(r, delta->clock);
	delta->epoch = dc_read_u64(r);
	delta->full = (flags & DELTA_FULL) != 0;
	delta->left = (flags & DELTA_LEFT) != 0;
	delta->closed = (flags & DELTA_CLOSED) != 0;
	delta->disputed = (flags & DELTA_DISPUTED) != 0;
	delta->joining = (flags & DELTA_JOINING) != 0;
	delta->leaving = (flags & DELTA_LEAVING) != 0;
	if (flags >= DELTA_FLAGS_END || (delta->left && !delta->full) ||
		delta->version == 0 || delta->version > VERSION_MAX ||
		delta->config_version == 0 || delta->config_version > delta->version)
		dc_reader_fail(r, DC_MALFORMED);
	if (!delta->full)
		return;
	delta->boot = dc_read_u64(r);
	if (delta->boot == 0 || delta->boot > delta->config_version)
		dc_reader_fail(r, DC_MALFORMED);
	delta->wire_version = (uint32_t) dc_read_varint(r, UINT32_MAX);
	delta->name = read_text(r, DC_GOSSIP_NAME_BYTES);
	delta->data_center = read_text(r, DC_GOSSIP_NAME_BYTES);
	delta->address = read_text(r, DC_GOSSIP_ADDRESS_BYTES);
	delta->conninfo = read_text(r, DC_GOSSIP_CONNINFO_BYTES);
}

size_t
dc_gossip_delta_bytes(const DcGossipDelta *delta)
{
	DcWriter counter;

	dc_writer_init(&counter, NULL, 0);
	write_delta(&counter, delta);
	return counter.length;
}

static void
write_deltas(DcWriter *w, const DcGossipMessage *message)
{
	dc_write_varint(w, message->delta_count);
	for (uint32_t i = 0; i < message->delta_count; i++)
		write_delta(w, &message->deltas[i]);
}

static void
read_deltas(DcReader *r, DcGossipMessage *message)
{
	uint64_t count = dc_read_varint(r, DC_GOSSIP_DELTAS_MAX);
	uint32_t previous = 0;

	for (uint64_t i = 0; i < count && r->status == DC_OK; i++)
	{
		read_delta(r, previous, &message->deltas[i]);
		previous = message->deltas[i].node_id;
		message->delta_count++;
	}
}

static void
write_claim(DcWriter *w, const DcGossipClaim *claim)
{
	dc_write_u64(w, claim->incarnation);
	dc_write_u64(w, claim->boot);
	dc_write_u64(w, claim->version);
	write_text(w, claim->address);
}

static void
read_claim(DcReader *r, DcGossipClaim *claim)
{
	claim->incarnation = dc_read_u64(r);
	claim->boot = dc_read_u64(r);
	claim->version = dc_read_u64(r);
	claim->address = read_text(r, DC_GOSSIP_ADDRESS_BYTES);
	if (claim->boot > VERSION_MAX || claim->version > VERSION_MAX)
		dc_reader_fail(r, DC_MALFORMED);
}

static void
write_syn(DcWriter *w, const DcGossipMessage *message)
{
	size_t start = w->length;

	dc_write_u8(w, message->complete ? SYN_COMPLETE : 0);
	write_digests(w, message);
	while (w->status == DC_OK &&
		   w->length - start < DC_GOSSIP_SYN_BODY_BYTES_MIN)
		dc_write_u8(w, 0);
}

static void
read_syn(DcReader *r, DcGossipMessage *message)
{
	size_t start = r->offset;
	uint8_t flags = dc_read_u8(r);

	message->complete = (flags & SYN_COMPLETE) != 0;
	if (flags > SYN_COMPLETE)
		dc_reader_fail(r, DC_MALFORMED);
	read_digests(r, message);
	while (r->status == DC_OK &&
		   r->offset - start < DC_GOSSIP_SYN_BODY_BYTES_MIN)
	{
		if (dc_read_u8(r) != 0)
			dc_reader_fail(r, DC_MALFORMED);
	}
}

void
dc_gossip_encode(DcWriter *w, const DcGossipMessage *message)
{
	write_header(w, &message->header);
	switch (message->header.kind)
	{
		case DC_GOSSIP_SYN:
			write_syn(w, message);
			break;
		case DC_GOSSIP_ACK:
			write_digests(w, message);
			write_deltas(w, message);
			break;
		case DC_GOSSIP_ACK2:
			write_deltas(w, message);
			break;
		case DC_GOSSIP_HELLO:
		case DC_GOSSIP_CLASH:
			write_claim(w, &message->claim);
			break;
	}
}

DcStatus
dc_gossip_decode(const void *data, size_t length, DcGossipMessage *message,
				 DcDetail *detail)
{
	DcReader r;

	dc_reader_init(&r, data, length);
	message->complete = false;
	message->digest_count = message->delta_count = 0;
	memset(&message->claim, 0, sizeof(message->claim));
	detail->value = 0;
	if (length > DC_GOSSIP_BYTES_MAX)
		dc_reader_fail(&r, DC_TOO_LONG);
	if (dc_gossip_decode_header(&r, &message->header, detail) == DC_OK)
	{
		switch (message->header.kind)
		{
			case DC_GOSSIP_SYN:
				read_syn(&r, message);
				break;
			case DC_GOSSIP_ACK:
				read_digests(&r, message);
				read_deltas(&r, message);
				break;
			case DC_GOSSIP_ACK2:
				read_deltas(&r, message);
				break;
			case DC_GOSSIP_HELLO:
			case DC_GOSSIP_CLASH:
				read_claim(&r, &message->claim);
				break;
		}
	}
	detail->offset = r.offset;
	return dc_reader_finish(&r);
}

/* Insertion sorts: lists are short and mostly in order already. */
void
dc_gossip_message_sort(DcGossipMessage *message)
{
	for (uint32_t i = 1; i < message->digest_count; i++)
	{
		DcGossipDigest digest = message->digests[i];
		uint32_t at = i;

		for (; at > 0 && message->digests[at - 1].node_id > digest.node_id;
			 at--)
			message->digests[at] = message->digests[at - 1];
		message->digests[at] = digest;
	}
	for (uint32_t i = 1; i < message->delta_count; i++)
	{
		DcGossipDelta delta = message->deltas[i];
		uint32_t at = i;

		for (; at > 0 && message->deltas[at - 1].node_id > delta.node_id; at--)
			message->deltas[at] = message->deltas[at - 1];
		message->deltas[at] = delta;
	}
}

bool
dc_replay_accept(DcReplayWindow *window, uint64_t sequence)
{
	uint64_t distance;

	if (sequence > window->top)
	{
		distance = sequence - window->top;
		window->bits = distance < 64 ? window->bits << distance : 0;
		window->bits |= 1;
		window->top = sequence;
		return true;
	}
	distance = window->top - sequence;
	if (distance >= 64 || (window->bits >> distance & 1) != 0)
		return false;
	window->bits |= (uint64_t) 1 << distance;
	return true;
}
