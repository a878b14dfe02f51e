/*
 * link.c
 *		Sessions between nodes, catch-up, and relayed segments.
 *
 * A session is a connection: what is sent arrives in order or, when the
 * session breaks, not at all.  A watermark message counts in its session only:
 * it closes a segment because everything of the segment was sent before it
 * there.  Outside of sessions two more things travel, late, twice, in any
 * order or never: old messages of changes, and segments that carry all their
 * changes with them, from whoever has them (R4).
 */
#include "sim.h"

#include <string.h>

#define CHUNK_KEYS 2

void
link_init(Sim *sim, Link *link, uint32_t from, uint32_t to)
{
	(void) sim;
	memset(link, 0, sizeof(*link));
	link->from = from;
	link->to = to;
	dc_stream_init(&link->stream);
}

/* Sends what is there of a message through the codecs. */
static void
push(Sim *sim, const Link *link, Fifo *fifo, Message message)
{
	wire_carry(sim, link, &message);
	fifo->item[(fifo->first + fifo->count++) % FIFO_MAX] = message;
}

static void
pop(Fifo *fifo)
{
	fifo->first = (fifo->first + 1) % FIFO_MAX;
	fifo->count--;
}

void
link_break(Sim *sim, Link *link)
{
	Node *node = &sim->node[link->to];
	int index = (int) (link - sim->link);

	for (uint32_t i = 0; i < WORKERS; i++)
	{
		if (node->worker[i].busy && node->worker[i].link == index)
			apply_orphan(sim, node, i);
	}
	link->up = false;
	link->receiving = false;
	link->forth.count = link->back.count = 0;
	dc_stream_lost(&link->stream);
	sim->stats.breaks++;
	sim_trace(sim, "link %u-%u: lost", link->from + 1, link->to + 1);
}

/* ---- reading entries and rows (P15) ------------------------------------ */

static void
reader_add(Reader *r, DcEntry entry, uint32_t value)
{
	r->out.change[r->out.count++] =
		(Change){.key = r->key, .entry = entry, .value = value};
	r->state = READER_ENTRY;
}

/*
 * One step.  The floor goes first; an entry is read, and its row afterwards,
 * by a new snapshot.  A live entry without a row, or with a newer one: its
 * death, or that row, is committed and about to be merged; to leave the key
 * out would hide it, so the reader looks again.  No entry any more: it died,
 * and everybody knew.  Below a floor that rose meanwhile: its source sends the
 * floor in its own time; it must be flushed here, as what is sent must.
 * True when nothing is left.
 */
bool
reader_step(const Sim *sim, const Node *node, Reader *r,
			bool (*wants)(const void *ctx, DcHlc stamp), const void *ctx)
{
	DcMapFilter filter = {.after = node->floor};
	Row row;
	DcEntry now;

	switch (r->state)
	{
		case READER_FLOOR:
			r->key = KEY_FLOOR;
			if (node->floor != DC_HLC_NONE && wants(ctx, node->floor))
				reader_add(r, (DcEntry){.stamp = node->floor, .dead = true}, 0);
			r->state = READER_ENTRY;
			break;
		case READER_ENTRY:
			if (!meta_scan(node, &r->cursor, &filter, &r->key, &r->entry))
			{
				r->state = READER_END;
				break;
			}
			if (!wants(ctx, r->entry.stamp))
				break;
			if (r->entry.dead)
				reader_add(r, r->entry, 0);
			else
				r->state = READER_ROW;
			break;
		case READER_ROW:
			row = node->heap[r->key].row;
			now = dc_rule_above_floor(meta_get(node, r->key), node->floor);
			if (row.stamp == r->entry.stamp ||
				(row.stamp > r->entry.stamp && now.stamp >= row.stamp))
				reader_add(r, (DcEntry){.stamp = row.stamp, .dead = false},
						   row.value);
			else
				r->state = READER_AGAIN;
			break;
		case READER_AGAIN:
			now = dc_rule_above_floor(meta_get(node, r->key), node->floor);
			if (now.stamp <= node->floor || DEFECT(sim, DEFECT_P15))
				r->state = READER_ENTRY;
			else if (now.dead)
				reader_add(r, now, 0);
			else
			{
				r->entry = now;
				r->state = READER_ROW;
			}
			break;
		case READER_END:
			return true;
	}
	return false;
}

/*
 * R3, P9.  A row may have been read before its own COMMIT raised L, so it is
 * the end of the log that counts here, not L.
 */
static void
flush_rows(Sim *sim, Node *node)
{
	if (DEFECT(sim, DEFECT_R3))
		return;
	wal_flush(sim, node,
			  DEFECT(sim, DEFECT_P9) ? node->wal_merged : node->wal_insert);
}

static void
remember(Sim *sim, const Node *node, const Batch *batch)
{
	check_shipped(sim, node, batch);
	if (sim->config.antique && rng_chance(&sim->rng, 1, 12))
		sim->antique[rng_below(&sim->rng, ANTIQUES)] = *batch;
	sim->history[sim->history_count++ % HISTORY_MAX] = *batch;
}

/* ---- the sending side --------------------------------------------------- */

static bool
stream_wants(const void *ctx, DcHlc stamp)
{
	return dc_stream_catchup_wants(ctx, stamp);
}

static void
choose_covered(Sim *sim, Link *link)
{
	for (uint32_t i = 0; i < sim->config.nodes; i++)
	{
		bool covered = sim->config.covered_mode == 2;

		if (sim->config.covered_mode == 1)
			covered = rng_chance(&sim->rng, 1, 2);
		link->covered[i + 1] = covered;
	}
}

/* P15: a session broke; what it had acknowledged need not go again. */
static bool
resume_catchup(Sim *sim, Link *link)
{
	bool resumes = link->kept && dc_stream_catchup_resume(&link->stream);

	link->kept = false;
	if (!resumes)
		return false;
	link->kept = true;
	link->reader = DEFECT(sim, DEFECT_RESUME) ? link->sent : link->mark;
	link->sent = link->mark = link->reader;
	link->chunks_unacked = 0;
	sim->stats.resumed++;
	sim_trace(sim, "link %u-%u: catch-up resumed", link->from + 1,
			  link->to + 1);
	return true;
}

static void
begin_catchup(Sim *sim, Link *link, Node *from)
{
	if (!node_rebuilt(sim, from))
		return;
	if (resume_catchup(sim, link))
		return;
	choose_covered(sim, link);
	dc_stream_catchup_begin(&link->stream, &from->vector, link->covered,
							from->id);
	link->reader = (Reader){.state = READER_FLOOR};
	link->kept = true;
	link->mark = link->sent = link->reader;
	link->reach = claims_of(sim, &from->vector);
	link->chunks_unacked = 0;
	sim->stats.catchups++;
	sim_trace(sim, "link %u-%u: catch-up begins from %llu to %llu",
			  link->from + 1, link->to + 1,
			  (unsigned long long) link->stream.base.at[from->id],
			  (unsigned long long) link->stream.donor.at[from->id]);
}

static void
send_catchup(Sim *sim, Link *link, Node *from)
{
	Reader *r = &link->reader;
	bool end = reader_step(sim, from, r, stream_wants, &link->stream);
	Message m = {0};
	DcVv base;

	if (r->out.count == CHUNK_KEYS || (end && r->out.count > 0))
	{
		flush_rows(sim, from);
		remember(sim, from, &r->out);
		m.kind = MSG_CHUNK;
		m.batch = r->out;
		m.reach = link->reach;
		push(sim, link, &link->forth, m);
		r->out.count = 0;
		link->chunks_unacked++;
		link->sent = *r;
		return;
	}
	if (!end || link->chunks_unacked > 0)
		return;

	if (!DEFECT(sim, DEFECT_FLOOR_SCAN))
		flush_rows(sim, from); /* a floor that left entries out, too */
	if (DEFECT(sim, DEFECT_R6))
	{
		for (uint32_t id = 1; id <= sim->config.nodes; id++)
		{
			if (link->stream.donor.at[id] != DC_HLC_NONE)
				link->stream.donor.at[id] = from->vector.at[id];
		}
	}
	base = link->stream.base;
	dc_stream_catchup_end(&link->stream, from->id);
	link->kept = false;
	m.kind = MSG_CLOSE;
	m.base = claims_of(sim, &base);
	m.donor = claims_of(sim, &link->stream.donor);
	push(sim, link, &link->forth, m);
	sim_trace(sim, "link %u-%u: catch-up ends", link->from + 1, link->to + 1);
}

static void
send_batch(Sim *sim, Link *link, Node *from)
{
	const QueueItem *item = &from->queue[link->stream.position % QUEUE_MAX];

	if (!DEFECT(sim, DEFECT_R3))
		wal_flush(sim, from, from->wal_merged);
	remember(sim, from, &item->batch);
	push(sim, link, &link->forth,
		 (Message){.kind = MSG_BATCH, .batch = item->batch});
	dc_stream_batch_sent(&link->stream);
	dc_stream_message_sent(&link->stream, false);
}

/*
 * The head may be read some time before the watermark, as by a sender that
 * does both without a lock: watermark_position tells.
 */
static DcStreamView
view_of(Sim *sim, Link *link, const Node *from)
{
	bool stale = rng_chance(&sim->rng, 1, 2);
	uint64_t position = link->stream.position;
	DcStreamView view = {.oldest = from->queue_oldest,
						 .head = from->queue_head,
						 .watermark = from->watermark,
						 .watermark_position = from->watermark_position};

	if (stale)
		view.head = link->head;
	link->head = from->queue_head;
	if (!node_rebuilt(sim, from))
		view.watermark = DC_HLC_NONE;
	if (position >= view.oldest && position < view.head)
		view.gap = !from->queue[position % QUEUE_MAX].bytes;
	return view;
}

static void
connect_peer(Sim *sim, Link *link, const Node *from)
{
	if (!dc_stream_connected(&link->stream))
		sim_fail(sim, "link %u-%u: connected in phase %d", link->from + 1,
				 link->to + 1, (int) link->stream.phase);
	link->up = true;
	link->session++;
	link->attached = link->head = from->queue_head;
	push(sim, link, &link->forth, (Message){.kind = MSG_HELLO});
}

void
link_send_step(Sim *sim, Link *link)
{
	Node *from = &sim->node[link->from];
	DcStreamView view;

	if (!from->up || !sim->node[link->to].up || link->forth.count == FIFO_MAX)
		return;
	if (!link->up)
	{
		connect_peer(sim, link, from);
		return;
	}
	view = view_of(sim, link, from);
	switch (dc_stream_next(&link->stream, &view))
	{
		case DC_STREAM_WAIT:
			break;
		case DC_STREAM_SEND_BATCH:
			send_batch(sim, link, from);
			break;
		case DC_STREAM_BEGIN_CATCHUP:
			begin_catchup(sim, link, from);
			break;
		case DC_STREAM_SEND_CATCHUP:
			send_catchup(sim, link, from);
			dc_stream_message_sent(&link->stream, true);
			break;
		case DC_STREAM_SEND_WATERMARK:
			push(sim, link, &link->forth,
				 (Message){.kind = MSG_WATERMARK,
						   .from = link->stream.closed,
						   .to = view.watermark});
			dc_stream_watermark_sent(&link->stream, view.watermark);
			break;
	}
}

/* What came back: hello's answer, a vector told again, an ack. */
void
link_answer_step(Sim *sim, Link *link)
{
	Node *from = &sim->node[link->from];
	const Message *m;
	DcVv peer;

	if (!link->up || link->back.count == 0)
		return;
	m = &link->back.item[link->back.first];
	if (m->kind == MSG_DAMAGED)
	{
		link_break(sim, link);
		return;
	}
	if (m->kind == MSG_ACK)
	{
		if (link->chunks_unacked > 0 && --link->chunks_unacked == 0 &&
			link->stream.catchup_running)
			link->mark = link->sent;
	}
	else
	{
		vv_of(sim, &m->donor, &peer);
		if (link->stream.phase == DC_STREAM_HELLO)
			(void) dc_stream_hello(&link->stream, &peer, link->attached);
		else
			(void) dc_stream_peer_vector(&link->stream, &peer, &from->vector,
										 link->covered, from->id);
	}
	pop(&link->back);
}

bool
link_idle(const Sim *sim, const Link *link)
{
	const Node *from = &sim->node[link->from];

	if (!link->up || link->receiving || link->stream.phase != DC_STREAM_OPEN ||
		link->stream.catchup_owed || link->stream.catchup_running ||
		link->stream.position != from->queue_head)
		return false;
	for (uint32_t i = 0; i < link->forth.count; i++)
	{
		if (link->forth.item[(link->forth.first + i) % FIFO_MAX].kind !=
			MSG_WATERMARK)
			return false;
	}
	return true;
}

/* ---- the receiving side ------------------------------------------------- */

static bool
ahead(const Sim *sim, const Node *node, const Message *m)
{
	uint64_t now_us = node_now(sim, node);

	for (uint32_t i = 0; i < m->batch.count; i++)
	{
		if (dc_hlc_ahead(m->batch.change[i].entry.stamp, now_us,
						 sim->config.drift_us))
			return true;
	}
	return false;
}

static void
receive_changes(Sim *sim, Link *link, Node *node, const Message *m)
{
	int worker;

	if (!node_tombs_loaded(sim, node))
		return; /* P6: "rebuilding" */
	if (ahead(sim, node, m))
	{
		sim->stats.waits++;
		return;
	}
	worker = apply_start(sim, node, &m->batch);
	if (worker < 0)
		return;
	node->worker[worker].link = (int) (link - sim->link);
	node->worker[worker].session = link->session;
	node->worker[worker].chunk = m->kind == MSG_CHUNK;
	node->worker[worker].scan = m->kind == MSG_CHUNK;
	node->worker[worker].reach = m->reach;
	link->receiving = true;
	pop(&link->forth);
}

/* R4, R6: the vector moves; false: it must not, the session has a gap. */
static bool
receive_closing(Sim *sim, const Link *link, Node *node, const Message *m)
{
	Claims before = claims_of(sim, &node->vector);
	bool whole;
	DcVv base;
	DcVv donor;

	if (m->kind == MSG_CLOSE)
	{
		vv_of(sim, &m->base, &base);
		vv_of(sim, &m->donor, &donor);
		whole = dc_vv_adopt(&node->vector, &donor, &base);
	}
	else
		whole = dc_vv_advance(&node->vector, sim->node[link->from].id, m->from,
							  m->to);
	if (!whole)
		sim->stats.refused++;
	sim_trace(sim, "link %u-%u: %s, V of %u: %llu -> %llu", link->from + 1,
			  link->to + 1, m->kind == MSG_CLOSE ? "close" : "watermark",
			  link->from + 1, (unsigned long long) before.at[link->from],
			  (unsigned long long) node->vector.at[link->from + 1]);
	check_coverage(sim, node, &before);
	return whole;
}

void
link_receive_step(Sim *sim, Link *link)
{
	Node *node = &sim->node[link->to];
	const Message *m;
	bool whole;
	bool answer;
	MessageKind kind;

	if (!link->up || link->receiving || link->forth.count == 0 ||
		link->back.count == FIFO_MAX)
		return;
	m = &link->forth.item[link->forth.first];
	if (m->kind == MSG_DAMAGED)
	{
		link_break(sim, link);
		return;
	}
	if (m->kind == MSG_BATCH || m->kind == MSG_CHUNK)
	{
		receive_changes(sim, link, node, m);
		return;
	}
	answer = m->kind == MSG_HELLO;
	kind = answer ? MSG_WELCOME : MSG_VECTOR;
	if (!answer)
	{
		whole = receive_closing(sim, link, node, m);
		if (!whole)
		{
			link_break(sim, link);
			return;
		}
		answer = !sim->calm && rng_chance(&sim->rng, 1, 4);
	}
	pop(&link->forth);
	if (answer)
		push(sim, link, &link->back,
			 (Message){.kind = kind, .donor = claims_of(sim, &node->vector)});
}

static void
claim_seen(Node *node, const Batch *batch)
{
	for (uint32_t i = 0; i < batch->count; i++)
	{
		DcHlc stamp = batch->change[i].entry.stamp;

		(void) dc_vv_advance(&node->vector, dc_hlc_node_id(stamp), DC_HLC_NONE,
							 stamp);
	}
}

/* A message was applied and is durable; false: no room for the answer. */
bool
link_worker_done(Sim *sim, Node *node, Worker *w)
{
	Claims before = claims_of(sim, &node->vector);

	if (DEFECT(sim, DEFECT_R4_SEEN))
	{
		claim_seen(node, &w->batch);
		check_coverage(sim, node, &before);
	}
	if (w->segment)
	{
		if (!dc_vv_advance(&node->vector, w->source, w->from, w->to))
			sim->stats.refused++;
		sim_trace(sim, "node %u: segment of %u, (%llu, %llu]", node->id,
				  w->source, (unsigned long long) w->from,
				  (unsigned long long) w->to);
		check_coverage(sim, node, &before);
	}
	if (w->link >= 0)
	{
		Link *link = &sim->link[w->link];

		if (!link->up || link->session != w->session)
			return true;
		if (w->chunk)
		{
			if (link->back.count == FIFO_MAX)
				return false;
			push(sim, link, &link->back, (Message){.kind = MSG_ACK});
		}
		link->receiving = false;
	}
	return true;
}

/* ---- segments that carry their changes ---------------------------------- */

static bool
after_wants(const void *ctx, DcHlc stamp)
{
	return stamp > *(const DcHlc *) ctx;
}

/*
 * (from, to] of one source, from where some other node stands to where this
 * one does, with every entry above `from`: an entry of another source may be
 * what replaced a change of this one.
 */
void
relay_build_step(Sim *sim, Node *node)
{
	Segment *segment;

	if (!node_rebuilt(sim, node))
		return;
	if (!node->relaying)
	{
		uint32_t other = rng_below(&sim->rng, sim->config.nodes);
		uint32_t source = 1 + rng_below(&sim->rng, sim->config.nodes);

		if (sim->calm || !rng_chance(&sim->rng, sim->config.relay_rate, 100))
			return;
		/* what another one lacks, or what followed the last segment */
		node->relay_from = rng_chance(&sim->rng, 1, 2) ?
							   sim->node[other].vector.at[source] :
							   node->relayed.at[source - 1];
		node->relay_to = node->vector.at[source];
		node->relay_source = source;
		node->relay_reader = (Reader){.state = READER_FLOOR};
		node->relay_reach = claims_of(sim, &node->vector);
		node->relaying = node->relay_from < node->relay_to;
		return;
	}
	if (!reader_step(sim, node, &node->relay_reader, after_wants,
					 &node->relay_from))
		return;
	node->relaying = false;
	node->relayed.at[node->relay_source - 1] = node->relay_to;
	sim_trace(sim, "node %u: relays %u keys of %u, (%llu, %llu]", node->id,
			  node->relay_reader.out.count, node->relay_source,
			  (unsigned long long) node->relay_from,
			  (unsigned long long) node->relay_to);
	flush_rows(sim, node);
	check_shipped(sim, node, &node->relay_reader.out);
	segment = &sim->segment[rng_below(&sim->rng, SEGMENTS_MAX)];
	*segment = (Segment){.full = true,
						 .source = node->relay_source,
						 .from = node->relay_from,
						 .to = node->relay_to,
						 .reach = node->relay_reach,
						 .batch = node->relay_reader.out};
}

/* Late, again, in any order, or never. */
void
relay_deliver_step(Sim *sim, Node *node)
{
	Segment *segment = &sim->segment[rng_below(&sim->rng, SEGMENTS_MAX)];
	int worker;

	if (!segment->full || sim->calm || segment->source == node->id ||
		!node_tombs_loaded(sim, node))
		return;
	worker = apply_start(sim, node, &segment->batch);
	if (worker < 0)
		return;
	sim->stats.relays++;
	node->worker[worker].segment = true;
	node->worker[worker].scan = true;
	node->worker[worker].reach = segment->reach;
	node->worker[worker].source = segment->source;
	node->worker[worker].from = segment->from;
	node->worker[worker].to = segment->to;
	if (rng_chance(&sim->rng, 1, 2))
		segment->full = false;
}
