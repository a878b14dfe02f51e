/*
 * link.c
 *		The calling side of a session, around DcStream, as in src/pg/link_*.c.
 */
#include "cluster.h"

#include <string.h>

#define RETRY_US     2000
#define SILENCE_US   100000
#define RELAY_US     3000
#define KEEPALIVE_US 20000
#define EPOCH_US     3000
#define ASK_AGAIN_US 20000

void
link_init(Link *link, uint32_t from, uint32_t to)
{
	link->from = from;
	link->to = to;
	dc_stream_init(&link->stream);
}

void
link_close(Sim *sim, Link *link, const char *why)
{
	if (!link->up)
		return;
	if (why != NULL)
		sim_trace(sim, "link %u-%u down: %s", link->from + 1, link->to + 1,
				  why);
	link->up = link->open = false;
	link->sent_count = 0;
	link->forth.first = link->forth.count = 0;
	link->back.first = link->back.count = 0;
	link->retry_us =
		sim->now_us + RETRY_US / 2 + rng_below(&sim->rng, RETRY_US);
	dc_stream_lost(&link->stream);
	dc_acked_lost(&link->acked);
}

/* ---- hello -------------------------------------------------------------- */

static void
nonce_of(const Link *link, uint8_t nonce[DC_NONCE_BYTES])
{
	memset(nonce, 0, DC_NONCE_BYTES);
	memcpy(nonce, &link->nonce, sizeof(link->nonce));
}

static void
connect_peer(Sim *sim, Link *link, Node *node)
{
	DcAssociated binding = {.direction = 'H'};
	DcHello hello = {.wire = 1,
					 .wire_min = 1,
					 .sender = node_id(node),
					 .incarnation = node->mem.incarnation,
					 .receiver = sim->node[link->to].self + 1};
	Manners manners = member_manners(sim, node);
	Message *m;
	DcWriter w;

	link->retry_us = sim->now_us + RETRY_US;
	if (net_cut(sim, link->from, link->to) || !sim->node[link->to].up)
		return;
	m = net_push(sim, &link->forth);
	link->up = true;
	link->heard_us = link->hello_us = sim->now_us;
	link->nonce = ++sim->next_number;
	link->epoch = list_digest(sim, &node->mem.list);
	link->sequence = 0;
	link->told_ghosts = manners.ghosts;
	hello.cluster = (DcSlice){(const uint8_t *) "sim", 3};
	hello.encoding = (DcSlice){(const uint8_t *) "UTF8", 4};
	nonce_of(link, hello.nonce);
	(void) dc_stream_connected(&link->stream);
	link->stream.position = node->head;
	(void) envelope_begin(m, &w);
	dc_hello_encode(&w, &hello);
	envelope_middle(m, &w);
	manners_write(&w, &manners);
	envelope_end(m, &w);
	net_seal(sim, m, &binding);
	link->sent[link->sent_count++] = (Sent){.kind = SENT_HELLO};
	(void) net_send(sim, link, &link->forth, m);
}

/* ---- answers ------------------------------------------------------------ */

static DcAssociated
answer_binding(const Sim *sim, const Link *link, const Node *node,
			   char direction)
{
	return (DcAssociated){.direction = direction,
						  .sender = node_id(node),
						  .receiver = sim->node[link->to].self + 1,
						  .incarnation = node->mem.incarnation,
						  .session = link->open ? link->session : 0,
						  .sequence = link->open ? link->answer : 0};
}

/* Sources that the peer does not get from themselves (R6). */
static void
note_incoming(Link *link, const Node *node, const bool incoming[DC_NODE_IDS])
{
	for (uint32_t i = 0; i < NODES_MAX; i++)
	{
		link->covered[i + 1] = !incoming[i + 1] && i != node->self;
		/* R11: of who was fenced, everything */
		if (node->mem.list.state[i] > DC_MEMBER_PRESENT && i != link->peer)
			link->covered[i + 1] = true;
	}
	link->covered[link->peer + 1] = link->own_wanted;
}

static void
take_welcome(Sim *sim, Link *link, Node *node, const Message *m)
{
	DcAssociated binding = answer_binding(sim, link, node, 'W');
	DcWelcome *answer = &sim->welcome;
	uint8_t nonce[DC_NONCE_BYTES];
	Manners manners;
	DcSlice core;
	DcReader extra;

	nonce_of(link, nonce);
	if (!net_open(sim, m, &binding) || !envelope_split(m, &core, &extra) ||
		dc_welcome_decode(core.data, core.length, answer) != DC_OK ||
		!manners_read(&extra, &manners) ||
		memcmp(nonce, answer->nonce, sizeof(nonce)) != 0 ||
		answer->node_id > NODES_MAX)
	{
		link_close(sim, link, "the welcome is refused");
		return;
	}
	link->peer = answer->node_id - 1;
	if (link->incarnation != answer->incarnation ||
		link->acked_boot != node->boot)
		memset(&link->acked, 0, sizeof(link->acked));
	if (link->acked_boot != node->boot)
		link->catchup_head = 0; /* a number of its former life */
	link->acked_boot = node->boot;
	link->incarnation = answer->incarnation;
	if (!manners.known && manners.before > node->mem.before &&
		node->mem.joining)
		node->mem.before = manners.before;
	if (node->mem.list.incarnation[link->peer] > link->incarnation ||
		!member_meet(sim, node, link->peer, link->incarnation, manners.known,
					 true, &manners))
	{
		link_close(sim, link, "the lists do not agree");
		return;
	}
	if (!link->up)
		return;
	link->session = answer->session;
	link->open = true;
	link->answer = 1;
	link->epoch = list_digest(sim, &node->mem.list);
	link->peer_joining = manners.joining;
	link->peer_boot = manners.boot;
	link->own_wanted = manners.own_wanted;
	note_incoming(link, node, answer->incoming);
	(void) dc_stream_hello(&link->stream, &answer->vector,
						   link->stream.position);
}

/*
 * A source that streams neither to the peer nor to us may have sent one of us
 * more than its last watermark says: each such silence, one catch-up.
 */
static bool
relay_is_owed(Link *link, const Node *node)
{
	bool owed = false;

	for (uint32_t i = 0; i < NODES_MAX; i++)
	{
		bool silent = link->covered[i + 1] && node->incoming[i] == 0 &&
					  node->mem.vector[i] != DC_HLC_NONE;

		owed |= silent && !(link->relayed & BIT(i));
		link->relayed =
			silent ? link->relayed | BIT(i) : link->relayed & ~BIT(i);
	}
	return owed;
}

static void
note_closing(Sim *sim, Link *link, Node *node, uint64_t epoch)
{
	uint64_t own = list_digest(sim, &node->mem.list);

	if (!DEFECT(sim, DEFECT_R11_LIST) &&
		(link->fence_epoch != own || epoch != own))
		return;
	if (node->closed_epoch != own && !DEFECT(sim, DEFECT_R11_LIST))
		node->closed = 0;
	node->closed_epoch = own;
	node->closed |= BIT(link->peer);
}

/* What a COMMIT there would wait for. */
static void
count_flushed(Sim *sim, Link *link, Node *node, const Sent *sent)
{
	uint64_t before = link->acked.position;

	if (sent->batches > 0)
		dc_acked_batches(&link->acked, sent->first,
						 sent->first + sent->batches);
	if (sent->kind == SENT_CLOSE)
		dc_acked_catchup(&link->acked, sent->catchup);
	if (sim->ack.settled)
		dc_acked_settled(&link->acked);
	check_acked(sim, node, link, before);
}

static bool
is_settled_now(Sim *sim, const Node *node)
{
	vector_expand(node->mem.vector, &sim->vv[0]);
	debts_expand(&node->mem.owed, &sim->debts[0]);
	return dc_debts_settled(&sim->debts[0], &sim->vv[0]);
}

/* The peer was told debts that this node has paid since. */
static bool
debts_are_void(Sim *sim, Link *link, const Node *node)
{
	if (!link->handed_on || link->peer_settled || !is_settled_now(sim, node))
		return false;
	link->handed_on = false;
	return true;
}

static void
take_ack(Sim *sim, Link *link, Node *node, const Message *m, const Sent *sent)
{
	DcAssociated binding = answer_binding(sim, link, node, 'A');
	DcAck *ack = &sim->ack;
	DcVv *own = &sim->vv[0];
	DcSlice core;
	DcReader extra;
	uint64_t epoch;

	if (!net_open(sim, m, &binding) || !envelope_split(m, &core, &extra) ||
		dc_ack_decode(core.data, core.length, ack) != DC_OK)
	{
		link_close(sim, link, "the ack is refused");
		return;
	}
	link->answer++;
	link->peer_settled = ack->settled;
	epoch = dc_read_u64(&extra);
	count_flushed(sim, link, node, sent);
	if (sent->kind == SENT_CLOSE)
		note_closing(sim, link, node, epoch);
	note_incoming(link, node, ack->incoming);
	if (sim->now_us < link->relay_at_us)
		return;
	if (relay_is_owed(link, node) || debts_are_void(sim, link, node))
	{
		dc_stream_owe(&link->stream);
		link->relay_at_us = sim->now_us + RELAY_US;
	}
	vector_expand(node->mem.vector, own);
	if (dc_stream_peer_vector(&link->stream, &ack->vector, own, link->covered,
							  node_id(node)))
		link->relay_at_us = sim->now_us + RELAY_US;
}

/* "No": the peer's list may say that this node is outdated. */
static void
take_refusal(Sim *sim, Link *link, Node *node, const Message *m)
{
	DcAssociated binding = answer_binding(sim, link, node, 'R');
	Manners manners;
	DcSlice core;
	DcReader extra;
	uint32_t peer = sim->node[link->to].self;

	if (net_open(sim, m, &binding) && envelope_split(m, &core, &extra) &&
		manners_read(&extra, &manners) && !node->mem.outcast)
		(void) member_meet(sim, node, peer, manners.list.incarnation[peer],
						   true, false, &manners);
	link_close(sim, link, "refused");
}

static void
read_answer(Sim *sim, Link *link, Node *node)
{
	Message *m = net_due(sim, &link->back);
	Sent sent = link->sent[0];

	if (m == NULL || net_cut(sim, link->to, link->from))
		return;
	link->heard_us = sim->now_us;
	memmove(&link->sent[0], &link->sent[1],
			sizeof(link->sent[0]) * --link->sent_count);
	if (m->length > 2 && m->bytes[2] == 'R')
		take_refusal(sim, link, node, m);
	else if (sent.kind == SENT_HELLO)
		take_welcome(sim, link, node, m);
	else
	{
		take_ack(sim, link, node, m, &sent);
		/* an earlier catch-up's chunk says nothing of this one */
		if (sent.kind == SENT_CHUNK && link->up &&
			sent.catchup == link->catchup_number)
			link->acked_cursor = sent.cursor;
	}
	if (link->up)
		net_pop(&link->back);
}

/* ---- sending ------------------------------------------------------------ */

size_t
batch_encode(Sim *sim, const Batch *batch, uint8_t *bytes, size_t size)
{
	DcBatchKeyspace keyspace = {.column_count = 1};
	DcSlice text = {(const uint8_t *) "v", 1};
	DcWriter w;

	dc_writer_init(&w, bytes, size);
	dc_batch_begin(&w, sim->config.keyspaces);
	keyspace.schema = keyspace.name = text;
	for (uint32_t i = 0; i < sim->config.keyspaces; i++)
	{
		keyspace.id = i + 1;
		dc_batch_keyspace(&w, &keyspace);
		dc_batch_column(&w, text, text);
	}
	for (uint32_t i = 0; i < batch->count; i++)
	{
		const Change *from = &batch->change[i];
		uint8_t cell = (uint8_t) from->cell;
		uint8_t value[4] = {(uint8_t) (from->to.value >> 24),
							(uint8_t) (from->to.value >> 16),
							(uint8_t) (from->to.value >> 8),
							(uint8_t) from->to.value};
		bool floor = is_floor(cell);
		uint32_t number =
			floor ? from->cell - KEYS_MAX : from->cell % sim->config.keyspaces;
		DcChange change = {.keyspace = number,
						   .entry = {from->to.stamp, from->to.dead || floor},
						   .key = {&cell, floor ? 0 : 1},
						   .image = {value, floor ? 0 : sizeof(value)}};

		if (floor && batch->known.of.cell == from->cell &&
			batch->known.of.to.stamp == from->to.stamp)
			change.image = (DcSlice){batch->known.bytes, batch->known.length};

		dc_batch_change(&w, &change);
	}
	dc_batch_end(&w);
	return w.length;
}

static void
send_call(Sim *sim, Link *link, Node *node, Message *m, DcWriter *w, Sent sent)
{
	DcAssociated binding = answer_binding(sim, link, node, 'C');

	dc_call_end(w);
	envelope_middle(m, w);
	dc_write_u64(w, node->clock);
	dc_write_u64(w, list_digest(sim, &node->mem.list));
	for (uint32_t i = 0; i < NODES_MAX; i++)
		dc_write_u64(w, link->scan[i]);
	envelope_end(m, w);
	if (m->length == 0)
		sim_fail(sim, "a call is too long");
	binding.sequence = ++link->sequence;
	net_seal(sim, m, &binding);
	if (link->sent_count == 0)
		link->heard_us = sim->now_us;
	sent.cursor = link->cursor;
	sent.catchup = link->catchup_number;
	link->sent[link->sent_count++] = sent;
	(void) net_send(sim, link, &link->forth, m);
}

static DcStreamView
view_of(const Link *link, const Node *node)
{
	(void) link;
	return (DcStreamView){.oldest = node->oldest,
						  .head = node->head,
						  .watermark = node->mem.vector[node->self],
						  .watermark_position = node->head};
}

static void
ship(Sim *sim, const Node *node, const Batch *batch)
{
	for (uint32_t i = 0; i < batch->count; i++)
		check_shipped(sim, node, &batch->change[i]);
}

static void
send_stream(Sim *sim, Link *link, Node *node)
{
	Message *m = net_push(sim, &link->forth);
	DcStreamView view = view_of(link, node);
	DcStreamAction action = dc_stream_next(&link->stream, &view);
	uint8_t bytes[BYTES_MAX];
	Sent sent = {.kind = SENT_CALL};
	DcWriter w;

	if (!DEFECT(sim, DEFECT_R3) && !node_flush(sim, node))
		return;
	(void) envelope_begin(m, &w);
	dc_call_begin(&w);
	sent.first = link->stream.position; /* a gap was jumped over */
	while (action == DC_STREAM_SEND_BATCH && sent.batches < 2)
	{
		const Batch *batch = &node->queue[link->stream.position % QUEUE_MAX];
		size_t length = batch_encode(sim, batch, bytes, sizeof(bytes));

		ship(sim, node, batch);
		dc_call_batch(&w, DC_PART_BATCH, bytes, length);
		dc_stream_batch_sent(&link->stream);
		sent.batches++;
		action = dc_stream_next(&link->stream, &view);
	}
	if (action == DC_STREAM_SEND_WATERMARK)
	{
		dc_call_segment(&w, link->stream.closed, view.watermark);
		dc_stream_watermark_sent(&link->stream, view.watermark);
	}
	dc_stream_message_sent(&link->stream, false);
	send_call(sim, link, node, m, &w, sent);
}

/* What it holds is to be judged yet: others get only their own of it. */
static bool
is_newborn(const Sim *sim, const Node *node)
{
	return node->mem.joining && node->mem.before == DC_MEMBER_ABSENT &&
		   !DEFECT(sim, DEFECT_R12_EARLY);
}

/* P15: goes on where the last session ended, if the peer still is there. */
static bool
resume_catchup(Sim *sim, Link *link)
{
	bool same = link->catchup_of == link->incarnation;

	link->catchup_of = 0;
	if (!same || link->own_wanted || link->scan_epoch != link->epoch)
		return false;
	if (DEFECT(sim, DEFECT_R6_BASE))
		link->stream.catchup_running = link->stream.catchup_owed = true;
	else if (!dc_stream_catchup_resume(&link->stream))
		return false;
	link->cursor = link->acked_cursor;
	link->catchup_of = link->incarnation;
	return true;
}

static void
begin_catchup(Sim *sim, Link *link, Node *node)
{
	DcVv *own = &sim->vv[0];

	if (resume_catchup(sim, link) || !peer_flush_fenced(sim, node))
		return;
	vector_expand(node->mem.vector, own);
	memcpy(link->scan, node->mem.vector, sizeof(link->scan));
	link->scan_horizon = node->mem.horizon;
	link->scan_counted = node->mem.counted;
	link->fence_epoch = list_digest(sim, &node->mem.list);
	link->scan_epoch = link->fence_epoch;
	link->acked_cursor = 0;
	link->catchup_number++;
	link->catchup_of = link->incarnation;
	dc_stream_catchup_begin(&link->stream, own, link->covered, node_id(node));
	link->cursor = 0;
	link->catchup_head = is_newborn(sim, node) ? 0 : node->head;
	dc_vv_init(&link->left);
	memset(link->floor_sent, 0, sizeof(link->floor_sent));
	link->owed = node->mem.owed;
	if (is_newborn(sim, node))
		dc_vv_init(&link->stream.donor);
	sim->stats.catchups++;
}

/* In hash order, which is the same on all nodes and no other order. */
static uint32_t
nth_cell(uint32_t n)
{
	return n * 7 % CELLS_MAX;
}

_Static_assert(CELLS_MAX % 7 != 0, "7 visits all cells");

/* The peer gets it from elsewhere, if it is not its own. */
static void
leave(Link *link, DcHlc stamp)
{
	uint32_t source = dc_hlc_node_id(stamp);

	if (source != link->peer + 1 && link->left.at[source] < stamp)
		link->left.at[source] = stamp;
}

/* What died by them is not sent, and they may be younger than those that were. */
static void
leave_floors(const Sim *sim, Link *link, const Node *node)
{
	for (uint32_t cell = KEYS_MAX; cell < CELLS_MAX; cell++)
	{
		DcHlc floor = node_read(sim, node, cell).stamp;

		if (cell_used(sim, cell) && floor != link->floor_sent[cell - KEYS_MAX])
			leave(link, floor);
	}
}

/* What was left, and what this node itself may not have. */
static const DcDebts *
debts_of(Sim *sim, Link *link, const Node *node)
{
	DcDebts *debts = &sim->debts[0];
	DcVv *scan = &sim->vv[0];

	leave_floors(sim, link, node);
	debts_expand(&link->owed, debts);
	vector_expand(link->scan, scan);
	dc_debts_pay(debts, scan);
	if (DEFECT(sim, DEFECT_LEFT_OWN))
		debts_expand(&(Owed){{0}, {0}}, debts);
	vector_expand((DcHlc[NODES_MAX]){0}, scan);
	link->handed_on = !dc_debts_settled(debts, scan);
	dc_debts_leave(debts, node_id(node), &link->left);
	return debts;
}

static void
send_catchup(Sim *sim, Link *link, Node *node)
{
	Message *m = net_push(sim, &link->forth);
	Batch batch = {0};
	uint8_t bytes[BYTES_MAX];
	bool end;
	DcWriter w;

	while (link->cursor < CELLS_MAX && batch.count < CHUNK_CELLS)
	{
		uint32_t cell = nth_cell(link->cursor++);
		Cell here = node_read(sim, node, cell);

		if (!link->stream.covered[dc_hlc_node_id(here.stamp)])
			leave(link, here.stamp);
		if (here.stamp == DC_HLC_NONE || !cell_used(sim, cell) ||
			!dc_stream_catchup_wants(&link->stream, here.stamp) ||
			(here.dead && DEFECT(sim, DEFECT_P15_SKIP)))
			continue;
		if (is_newborn(sim, node) &&
			dc_hlc_node_id(here.stamp) != link->peer + 1)
		{
			leave(link, here.stamp);
			continue;
		}
		if (is_floor(cell))
			link->floor_sent[cell - KEYS_MAX] = here.stamp;
		batch.change[batch.count++] = (Change){cell, here};
	}
	end = link->cursor == CELLS_MAX;
	if (!DEFECT(sim, DEFECT_R3) && !node_flush(sim, node))
	{
		link_close(sim, link, "the disk is full");
		return;
	}
	ship(sim, node, &batch);
	(void) envelope_begin(m, &w);
	dc_call_begin(&w);
	if (batch.count > 0)
		dc_call_batch(&w, DC_PART_CATCHUP, bytes,
					  batch_encode(sim, &batch, bytes, sizeof(bytes)));
	if (end)
	{
		if (DEFECT(sim, DEFECT_R6))
		{
			for (uint32_t i = 0; i < NODES_MAX; i++)
			{
				if (link->stream.covered[i + 1])
					link->stream.donor.at[i + 1] = node->mem.vector[i];
			}
		}
		dc_call_adopt(&w, &link->stream.base, &link->stream.donor,
					  debts_of(sim, link, node),
					  horizon_expand(link->scan_horizon, link->scan_counted,
									 &sim->horizon));
		/* lists are merged here, so their position means nothing */
		dc_call_members(&w, &(DcPosition){.founder = 1},
						list_expand(&node->mem.list, &sim->members[0]));
		dc_stream_catchup_end(&link->stream, node_id(node));
		dc_acked_catchup_sent(&link->acked, link->catchup_number,
							  link->catchup_head);
		link->catchup_of = 0;
	}
	dc_stream_message_sent(&link->stream, true);
	send_call(sim, link, node, m, &w,
			  (Sent){.kind = end ? SENT_CLOSE : SENT_CHUNK});
}

static void
send_next(Sim *sim, Link *link, Node *node)
{
	DcStreamView view = view_of(link, node);

	/* R12: a joiner ships nothing, but to other joiners */
	if (node->mem.joining && !link->peer_joining &&
		!DEFECT(sim, DEFECT_R12_EARLY))
		return;
	switch (dc_stream_next(&link->stream, &view))
	{
		case DC_STREAM_WAIT:
			break;
		case DC_STREAM_BEGIN_CATCHUP:
			begin_catchup(sim, link, node);
			break;
		case DC_STREAM_SEND_CATCHUP:
			send_catchup(sim, link, node);
			break;
		case DC_STREAM_SEND_BATCH:
		case DC_STREAM_SEND_WATERMARK:
			if (!is_newborn(sim, node))
				send_stream(sim, link, node);
			else
				dc_stream_message_sent(&link->stream, false);
			break;
	}
}

static bool
is_wanted(Sim *sim, const Link *link, const Node *node)
{
	uint32_t peer = sim->node[link->to].self;

	return node->up && member_may_talk(sim, node) && node->contacts &&
		   node->mem.list.state[peer] <= DC_MEMBER_PRESENT &&
		   sim->node[link->to].contacts && gossip_wants(sim, node, link->to);
}

/* Gossip says so for a while: then only a hello unites the lists. */
static bool
lists_differ(const Sim *sim, const Link *link, const Node *node)
{
	const Report *r = &node->report[sim->node[link->to].self];

	return r->heard_us > link->hello_us + EPOCH_US && r->epoch != link->epoch;
}

void
link_step(Sim *sim, Link *link)
{
	Node *node = &sim->node[link->from];

	if (!is_wanted(sim, link, node) && !DEFECT(sim, DEFECT_R13_SHIP))
	{
		link_close(sim, link, "it is not wanted");
		return;
	}
	if (!node->up)
		return;
	if (!link->up)
	{
		if (sim->now_us >= link->retry_us)
			connect_peer(sim, link, node);
		return;
	}
	if (link->sent_count > 0)
		read_answer(sim, link, node);
	if (link->up && link->sent_count > 0 &&
		sim->now_us - link->heard_us > SILENCE_US)
		link_close(sim, link, "silence");
	if (!link->up || !link->open)
		return;
	if (link->epoch != list_digest(sim, &node->mem.list))
	{
		link_close(sim, link, "the list changed");
		return;
	}
	/* keepalive: an idle connection to a server that started again */
	if (link->sent_count == 0 && link->peer_boot != sim->node[link->to].boot &&
		sim->now_us - link->heard_us > KEEPALIVE_US &&
		!DEFECT(sim, DEFECT_R6_SESSION))
	{
		link_close(sim, link, "the peer started again");
		return;
	}
	/* it ships nothing, and would never hear that the peer has joined */
	if (node->mem.joining && link->peer_joining && link->sent_count == 0 &&
		!link->stream.catchup_running &&
		sim->now_us - link->hello_us > ASK_AGAIN_US)
	{
		link_close(sim, link, "both nodes join");
		return;
	}
	if (link->told_ghosts != node->mem.ghosts)
	{
		link_close(sim, link, "the peer must know how things stand");
		return;
	}
	if (lists_differ(sim, link, node))
	{
		link_close(sim, link, "the peer's list is another one");
		return;
	}
	if (link->sent_count < PIPE_MAX - 1 && link->forth.count < PIPE_MAX - 1)
		send_next(sim, link, node);
}

bool
link_idle(const Sim *sim, const Link *link)
{
	const Node *node = &sim->node[link->from];

	return link->up && link->open && !link->stream.catchup_owed &&
		   !link->stream.catchup_running && link->stream.position == node->head;
}
