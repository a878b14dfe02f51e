/*
 * link_wire.c
 *		Sealed messages of a link.
 */
#include "link_wire.h"

#include "utils/memutils.h"

#include "advice.h"
#include "link_stats.h"

#define ANSWER_MS 60000 /* then the session is given up */

void
dc_link_fail(DcLink *link)
{
	dc_link_close(link, dc_advice_connection(link->conn, link->node_id));
}

/* --- sealing --- */

static DcAssociated
associated(const DcLink *link, char direction)
{
	return (DcAssociated){.direction = direction,
						  .sender = (uint32) datacake_node_id,
						  .receiver = link->node_id,
						  .incarnation = dc_shared->incarnation,
						  .session = link->session};
}

uint8 *
dc_link_seal(DcLink *link, const DcAssociated *binding, const void *plain,
			 Size length, int *sealed_length)
{
	uint8_t ad[DC_ASSOCIATED_BYTES];
	size_t ad_length = dc_associated_encode(ad, binding);
	uint8 *sealed =
		MemoryContextAllocHuge(link->scratch, length + DC_SEAL_OVERHEAD);

	dc_seal(sealed, ad, ad_length, plain, length);
	*sealed_length = (int) (length + DC_SEAL_OVERHEAD);
	return sealed;
}

bool
dc_link_open(DcLink *link, char direction, uint64 sequence, DcSlice sealed,
			 DcSlice *plain)
{
	uint8_t ad[DC_ASSOCIATED_BYTES];
	DcAssociated binding = associated(link, direction);
	size_t ad_length;
	size_t length;
	uint8 *out;

	binding.sequence = sequence;
	ad_length = dc_associated_encode(ad, &binding);
	out = MemoryContextAllocHuge(link->scratch, sealed.length + 1);
	if (!dc_open(sealed.data, sealed.length, ad, ad_length, out, &length))
		return false;
	*plain = (DcSlice){out, length};
	return true;
}

/* --- under way --- */

DcLinkMessage *
dc_link_push(DcLink *link, DcLinkMessageKind kind)
{
	DcLinkMessage *message = &link->messages[link->message_count++];

	memset(message, 0, sizeof(*message));
	message->kind = kind;
	return message;
}

void
dc_link_pop(DcLink *link, int count)
{
	for (int i = 0; i < count; i++)
		link->awaited_count -= link->messages[i].awaited;
	link->message_count -= count;
	memmove(&link->messages[0], &link->messages[count],
			sizeof(DcLinkMessage) * (size_t) link->message_count);
	dc_link_await(link);
}

/*
 * A peer that is silent is found by gossip, a connection that is dead by TCP.
 * This is for a session that both think is alive while each waits for the
 * other, as when the length of a message was spoilt on the way.
 */
void
dc_link_await(DcLink *link)
{
	link->answer_by =
		link->message_count == 0 || link->unflushed ?
			0 :
			TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ANSWER_MS);
}

void
dc_link_flush(DcLink *link)
{
	int result = PQflush(link->conn);

	if (result < 0)
	{
		dc_link_fail(link);
		return;
	}
	link->unflushed = result > 0;
	dc_link_await(link);
}

void
dc_link_start(DcLink *link)
{
	if (PQsendQuery(link->conn, "CALL datacake.peer_stream()") != 1)
	{
		dc_link_fail(link);
		return;
	}
	dc_link_push(link, DC_LINK_START);
	dc_link_flush(link);
}

void
dc_link_send(DcLink *link, StringInfo call, const DcLinkMessage *draft,
			 bool catchup)
{
	DcAssociated binding = associated(link, 'C');
	uint8 *sealed;
	int length;
	DcLinkMessage *message;

	if (draft->awaited)
		appendStringInfoChar(call, DC_PART_FLUSH);
	appendStringInfoChar(call, DC_PART_END);
	binding.sequence = ++link->sequence;
	sealed =
		dc_link_seal(link, &binding, call->data, (Size) call->len, &length);
	if (PQputCopyData(link->conn, (char *) sealed, length) != 1)
	{
		dc_link_fail(link);
		return;
	}
	link->sent_at = GetCurrentTimestamp();
	message = dc_link_push(link, DC_LINK_CALL);
	*message = *draft;
	message->kind = DC_LINK_CALL;
	message->sequence = link->sequence;
	message->epoch = link->sent_epoch;
	link->awaited_count += message->awaited;
	dc_link_count_sent(link, message, (Size) length, catchup);
	dc_link_flush(link);
}

void
dc_link_begin_call(DcLink *link, StringInfo call)
{
	uint8 head[8];
	DcWriter w;

	MemoryContextReset(link->scratch);
	call->data = MemoryContextAlloc(link->scratch, 8192);
	call->maxlen = 8192;
	resetStringInfo(call);
	dc_writer_init(&w, head, sizeof(head));
	w.version = link->version;
	dc_call_begin(&w);
	appendBinaryStringInfo(call, (char *) head, (int) w.length);
}
