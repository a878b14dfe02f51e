/*
 * peer.c
 *		The called side of a session: hello, then calls.
 *
 * What the core's messages do not carry yet (lists, horizon, clock) travels
 * behind them:
 *
 *	 message = length of the core's part u16 | core's part | the rest
 */
#include "cluster.h"

#include <string.h>

/* ---- the envelope ------------------------------------------------------- */

uint32_t
envelope_begin(Message *m, DcWriter *w)
{
	dc_writer_init(w, m->bytes, sizeof(m->bytes));
	dc_write_u16(w, 0);
	return 2;
}

void
envelope_middle(Message *m, DcWriter *w)
{
	m->bytes[0] = (uint8_t) ((w->length - 2) >> 8);
	m->bytes[1] = (uint8_t) (w->length - 2);
}

void
envelope_end(Message *m, const DcWriter *w)
{
	m->length = w->status == DC_OK ? (uint32_t) w->length : 0;
}

bool
envelope_split(const Message *m, DcSlice *core, DcReader *extra)
{
	size_t length;

	if (m->length < 2)
		return false;
	length = (size_t) m->bytes[0] << 8 | m->bytes[1];
	if (length + 2 > m->length)
		return false;
	*core = (DcSlice){m->bytes + 2, length};
	dc_reader_init(extra, m->bytes + 2 + length, m->length - 2 - length);
	return true;
}

void
manners_write(DcWriter *w, const Manners *m)
{
	DcMembers members;

	dc_write_u64(w, m->boot);
	dc_write_u64(w, m->clock);
	dc_write_u64(w, m->horizon);
	dc_write_u32(w, m->counted);
	dc_write_u8(w, (uint8_t) (m->joining | m->alone << 1 | m->known << 2 |
							  m->own_wanted << 3 | m->ghosts << 4));
	dc_write_u8(w, m->before);
	for (uint32_t i = 0; i < NODES_MAX; i++)
		dc_write_u64(w, m->vector[i]);
	dc_members_encode(w, list_expand(&m->list, &members));
}

bool
manners_read(DcReader *r, Manners *m)
{
	DcMembers members;
	uint8_t flags;

	m->boot = dc_read_u64(r);
	m->clock = dc_read_u64(r);
	m->horizon = dc_read_u64(r);
	m->counted = dc_read_u32(r);
	flags = dc_read_u8(r);
	m->joining = flags & 1;
	m->alone = (flags & 2) != 0;
	m->known = (flags & 4) != 0;
	m->own_wanted = (flags & 8) != 0;
	m->ghosts = (flags & 16) != 0;
	m->before = dc_read_u8(r);
	for (uint32_t i = 0; i < NODES_MAX; i++)
		m->vector[i] = dc_read_u64(r);
	dc_members_decode(r, &members);
	list_compact(&members, &m->list);
	return dc_reader_finish(r) == DC_OK;
}

/* ---- answering ---------------------------------------------------------- */

void
peer_end(Node *node, uint32_t from)
{
	Served *served = &node->served[from];

	if (served->counted)
		node->incoming[served->peer]--;
	memset(served, 0, sizeof(*served));
}

static void
copy_incoming(const Node *node, bool incoming[DC_NODE_IDS])
{
	for (uint32_t i = 0; i < NODES_MAX; i++)
		incoming[i + 1] = node->incoming[i] > 0;
}

/* "No", and why: what the list says. */
static void
refuse(Sim *sim, Link *link, Node *node, const DcAssociated *call)
{
	Message *m = net_push(sim, &link->back);
	DcAssociated binding = *call;
	Manners manners = member_manners(sim, node);
	DcWriter w;

	sim->stats.refused++;
	peer_end(node, link->from);
	if (m == NULL)
	{
		link_close(sim, link, "refused");
		return;
	}
	(void) envelope_begin(m, &w);
	dc_write_u8(&w, 'R');
	envelope_middle(m, &w);
	manners_write(&w, &manners);
	envelope_end(m, &w);
	binding.direction = 'R';
	net_seal(sim, m, &binding);
	(void) net_send(sim, link, &link->back, m);
}

/* May this node speak, and does the list let that one? */
bool
peer_admits(Sim *sim, const Node *node, uint32_t sender, uint64_t incarnation)
{
	const List *list = &node->mem.list;

	if (!member_may_talk(sim, node) || sender == node->self)
		return false;
	if (DEFECT(sim, DEFECT_R13_SHIP))
		return true;
	if (sender >= NODES_MAX || !gossip_admits(sim, node, sender, incarnation))
		return false;
	if (list->incarnation[sender] > incarnation)
		return false;
	return list->incarnation[sender] < incarnation ||
		   list->state[sender] <= DC_MEMBER_PRESENT;
}

static void
welcome(Sim *sim, Link *link, Node *node, const DcHello *hello,
		Manners *manners)
{
	Message *m = net_push(sim, &link->back);
	Served *served = &node->served[link->from];
	DcWelcome *answer = &sim->welcome;
	DcAssociated binding = {.direction = 'W',
							.sender = hello->sender,
							.receiver = node_id(node),
							.incarnation = hello->incarnation};
	DcWriter w;

	if (m == NULL)
		return;
	answer->node_id = node_id(node);
	answer->incarnation = node->mem.incarnation;
	answer->session = served->session;
	memcpy(answer->nonce, hello->nonce, DC_NONCE_BYTES);
	vector_expand(node->mem.vector, &answer->vector);
	copy_incoming(node, answer->incoming);
	answer->joining = manners->joining;
	answer->ghosts = manners->ghosts;
	answer->alone = manners->alone;
	answer->known = manners->known;
	answer->before = (DcMemberState) manners->before;
	answer->clock = manners->clock;
	(void) horizon_expand(manners->horizon, manners->counted, &answer->horizon);
	(void) list_expand(&manners->list, &answer->members);
	(void) envelope_begin(m, &w);
	dc_welcome_encode(&w, answer);
	envelope_middle(m, &w);
	manners_write(&w, manners);
	envelope_end(m, &w);
	net_seal(sim, m, &binding);
	(void) net_send(sim, link, &link->back, m);
}

/* ---- hello -------------------------------------------------------------- */

static void
take_hello(Sim *sim, Link *link, Node *node, const Message *m)
{
	DcAssociated binding = {.direction = 'H'};
	DcAssociated answer;
	Served *served = &node->served[link->from];
	const List *list = &node->mem.list;
	Manners manners;
	Manners own;
	DcHello hello;
	DcSlice core;
	DcReader extra;
	uint32_t sender;
	bool known;
	uint8_t before;

	if (!net_open(sim, m, &binding) || !envelope_split(m, &core, &extra) ||
		dc_hello_decode(core.data, core.length, &hello) != DC_OK ||
		!manners_read(&extra, &manners) || hello.receiver != node_id(node) ||
		hello.sender > NODES_MAX)
	{
		link_close(sim, link, "the hello is refused");
		return;
	}
	sender = hello.sender - 1;
	answer = (DcAssociated){.sender = hello.sender,
							.receiver = node_id(node),
							.incarnation = hello.incarnation};
	peer_end(node, link->from);
	known = member_includes(list, sender, hello.incarnation);
	before = known ? DC_MEMBER_ABSENT : list->state[sender];
	own = member_manners(sim, node);
	own.alone = !list_names_others(list, node->self, sender);
	if (!peer_admits(sim, node, sender, hello.incarnation) ||
		!member_meet(sim, node, sender, hello.incarnation,
					 member_includes(&manners.list, node->self,
									 node->mem.incarnation),
					 false, &manners))
	{
		refuse(sim, link, node, &answer);
		return;
	}
	*served = (Served){.open = true,
					   .incarnation = hello.incarnation,
					   .boot = manners.boot,
					   .session = ++sim->next_number,
					   .peer = sender,
					   .joining = manners.joining};
	manners = member_manners(sim, node);
	manners.alone = own.alone;
	manners.known = known;
	manners.before = before;
	welcome(sim, link, node, &hello, &manners);
}

/* ---- calls -------------------------------------------------------------- */

static uint32_t
cell_of(const Sim *sim, DcSlice key)
{
	uint32_t cell = key.length == 1 ? key.data[0] : CELLS_MAX;

	return cell < KEYS_MAX && cell_used(sim, cell) ? cell : CELLS_MAX;
}

/* Adds the changes of one batch; false: malformed. */
bool
batch_decode(Sim *sim, DcSlice bytes, Batch *batch)
{
	DcBatchKeyspace keyspace;
	DcBatchFloors floors = {{0}};
	DcChange change;
	DcReader r;
	DcSlice name;
	DcSlice type;
	uint32_t keyspaces;

	dc_reader_init(&r, bytes.data, bytes.length);
	keyspaces = dc_batch_read_begin(&r);
	for (uint32_t i = 0; i < keyspaces && r.status == DC_OK; i++)
	{
		dc_batch_read_keyspace(&r, &keyspace);
		for (uint32_t c = 0; c < keyspace.column_count && r.status == DC_OK;
			 c++)
			dc_batch_read_column(&r, &name, &type);
	}
	while (dc_batch_read_change(&r, keyspaces, &floors, &change))
	{
		bool floor = dc_change_is_floor(&change);
		uint32_t cell =
			floor ? KEYS_MAX + change.keyspace : cell_of(sim, change.key);
		Change *to = &batch->change[batch->count];
		DcReader image;

		if (cell >= CELLS_MAX || batch->count == BATCH_CELLS)
			return false;
		to->cell = cell;
		to->to = (Cell){.stamp = change.entry.stamp,
						.dead = change.entry.dead && !floor};
		if (floor && change.image.length > 0 && batch->known.length == 0)
		{
			if (change.image.length > KNOWN_BYTES ||
				!dc_known_valid(change.image))
				return false;
			batch->known.of = *to;
			batch->known.length = (uint32_t) change.image.length;
			memcpy(batch->known.bytes, change.image.data, change.image.length);
		}
		if (!change.entry.dead)
		{
			dc_reader_init(&image, change.image.data, change.image.length);
			to->to.value = dc_read_u32(&image);
			if (dc_reader_finish(&image) != DC_OK)
				return false;
		}
		batch->count++;
	}
	return dc_reader_finish(&r) == DC_OK;
}

typedef struct Call
{
	Batch streamed;
	Batch scanned;
	bool segment;
	bool adopt;
	DcHlc from;
	DcHlc to;
	DcVv *base;
	DcVv *donor;
	DcDebts *debts;
	DcHlc clock;
	DcHlc horizon;
	uint32_t counted;
	uint64_t epoch;
	DcHlc scan[NODES_MAX];
} Call;

static bool
read_call(Sim *sim, const Message *m, bool honest, Call *call)
{
	DcPart *part = &sim->part;
	uint64_t list = 0;
	DcSlice core;
	DcReader extra;
	DcReader r;

	memset(call, 0, sizeof(*call));
	if (!envelope_split(m, &core, &extra))
		return false;
	dc_reader_init(&r, core.data, core.length);
	dc_call_read_begin(&r);
	while (r.status == DC_OK && dc_call_read_part(&r, part))
	{
		switch (part->kind)
		{
			case DC_PART_BATCH:
				if (!batch_decode(sim, part->batch, &call->streamed))
					return false;
				break;
			case DC_PART_CATCHUP:
				if (!batch_decode(sim, part->batch, &call->scanned))
					return false;
				break;
			case DC_PART_SEGMENT:
				call->segment = true;
				call->from = part->from;
				call->to = part->to;
				break;
			case DC_PART_ADOPT:
				call->adopt = true;
				call->horizon = part->horizon.stamp;
				call->counted = horizon_counted(&part->horizon);
				call->base = &sim->vv[0];
				call->donor = &sim->vv[1];
				call->debts = &sim->debts[1];
				(void) dc_debts_decode(part->debts, call->debts);
				for (uint32_t i = 1; i <= NODES_MAX; i++)
				{
					call->base->at[i] = part->base.at[i];
					call->donor->at[i] = part->donor.at[i];
				}
				break;
			case DC_PART_MEMBERS:
				list = dc_members_digest(&part->members);
				break;
			default:
				break;
		}
	}
	if (dc_reader_finish(&r) != DC_OK)
		return false;
	call->clock = dc_read_u64(&extra);
	call->epoch = dc_read_u64(&extra);
	if (list != 0 && list != call->epoch && honest)
		sim_fail(sim, "a list came as another one");
	for (uint32_t i = 0; i < NODES_MAX; i++)
		call->scan[i] = dc_read_u64(&extra);
	return dc_reader_finish(&extra) == DC_OK;
}

/* The clock must have come that far, and its bound; else the link waits. */
static bool
observe(Sim *sim, Node *node, const Batch *batch)
{
	for (uint32_t i = 0; i < batch->count; i++)
	{
		if (!node_observe(sim, node, batch->change[i].to.stamp))
			return false;
	}
	return true;
}

/* R5: what a scan shows may be believed about what was forgotten here. */
static DcHlc
horizon_for(Sim *sim, const Node *node, const Call *call, bool scanned)
{
	if (!scanned ||
		!member_reach(sim, node->mem.counted, call->scan, node->mem.horizon))
		return node->mem.horizon;
	return DC_HLC_NONE;
}

/* Whatever it says, reading it ends. */
static void
read_changed(Sim *sim, const Known *known)
{
	uint8_t changed[KNOWN_BYTES];
	uint32_t among = rng_chance(&sim->rng, 1, 2) ? 8 : known->length;

	memcpy(changed, known->bytes, known->length);
	changed[rng_below(&sim->rng, among)] = (uint8_t) rng_next(&sim->rng);
	(void) dc_known_valid((DcSlice){changed, known->length});
}

/* Rows that a TRUNCATE takes although its writer did not know them. */
static void
note_conflicts(Sim *sim, const Node *node, const Known *known)
{
	DcSlice bytes = {known->bytes, known->length};

	if (known->length > 0)
		read_changed(sim, known);

	for (uint8_t key = 0; key < sim->config.keys && bytes.length > 0; key++)
	{
		Cell here = node->mem.cell[key];
		bool covers;

		if (here.dead || here.stamp == DC_HLC_NONE ||
			here.stamp > known->of.to.stamp ||
			floor_cell(sim, key) != known->of.cell)
			continue;
		covers = dc_known_covers(bytes, (DcSlice){&key, 1}, here.stamp);
		check_known(sim, &known->of, key, here.stamp, covers);
		sim->stats.conflicts += !covers;
	}
}

static void
apply_all(Sim *sim, Node *node, const Call *call)
{
	DcHlc stream = horizon_for(sim, node, call, false);
	DcHlc scan = horizon_for(sim, node, call, true);

	note_conflicts(sim, node, &call->streamed.known);
	for (uint32_t i = 0; i < call->streamed.count; i++)
		(void) node_apply(sim, node, &call->streamed.change[i], stream);
	for (uint32_t i = 0; i < call->scanned.count; i++)
		(void) node_apply(sim, node, &call->scanned.change[i], scan);
}

/* V == greatest stamp seen: what closed segments are there to prevent. */
static void
move_greatest(Node *node, const Batch *batch)
{
	for (uint32_t i = 0; i < batch->count; i++)
	{
		DcHlc stamp = batch->change[i].to.stamp;
		DcHlc *at = &node->mem.vector[dc_hlc_node_id(stamp) - 1];

		if (dc_hlc_node_id(stamp) != node_id(node) && *at < stamp)
			*at = stamp;
	}
}

static void
join_horizon(Sim *sim, Node *node, const Call *call)
{
	DcHorizon other;
	DcHorizon *own =
		horizon_expand(node->mem.horizon, node->mem.counted, &sim->horizon);

	memset(&other, 0, sizeof(other));
	if (!dc_horizon_join(own,
						 horizon_expand(call->horizon, call->counted, &other)))
		return;
	node->mem.horizon = own->stamp;
	node->mem.counted = horizon_counted(own);
}

/* What the closing left to others, V having moved. */
static void
close_debts(Sim *sim, Node *node, const Served *served, const Call *call,
			const DcVv *vector)
{
	DcDebts *debts = &sim->debts[0];

	debts_expand(&node->mem.owed, debts);
	if (DEFECT(sim, DEFECT_LEFT_VOID))
		debts_expand(&(Owed){{0}, {0}}, debts);
	dc_debts_close(debts, served->peer + 1, call->debts, vector, node_id(node));
	debts_compact(debts, &node->mem.owed);
}

/* R4, R6: after the flush.  False: there is a gap. */
static bool
move_vector(Sim *sim, Node *node, const Served *served, Call *call)
{
	DcVv *vector = &sim->vv[2];
	DcHlc before[NODES_MAX];
	bool whole = true;

	memcpy(before, node->mem.vector, sizeof(before));
	if (DEFECT(sim, DEFECT_R4_GREATEST))
	{
		move_greatest(node, &call->streamed);
		move_greatest(node, &call->scanned);
	}
	if (!call->segment && !call->adopt)
		return true;
	vector_expand(node->mem.vector, vector);
	if (call->segment)
	{
		whole = dc_vv_advance(vector, served->peer + 1, call->from, call->to);
		sim->stats.segments++;
	}
	if (call->adopt)
	{
		/* what this node committed itself nobody can tell it */
		call->donor->at[node_id(node)] = DC_HLC_NONE;
		call->base->at[node_id(node)] = DC_HLC_NONE;
		/* before the first welcome says so: V will not show it any more */
		if (node->mem.joining &&
			!dc_horizon_reached(horizon_expand(call->horizon, call->counted,
											   &sim->horizon),
								vector))
			node->mem.ghosts = true;
		if (DEFECT(sim, DEFECT_R6_BASE))
			memset(call->base->at, 0, sizeof(DcHlc) * (NODES_MAX + 1));
		(void) dc_vv_adopt(vector, call->donor, call->base);
		close_debts(sim, node, served, call, vector);
		if (!DEFECT(sim, DEFECT_R12_HORIZON))
			join_horizon(sim, node, call);
		member_delivered(sim, node, served->peer);
	}
	vector_compact(vector, node->mem.vector);
	check_vector(sim, node, before);
	return whole;
}

/* Of the last call of a session. */
static DcAssociated
binding_of(const Served *served, const Node *node)
{
	return (DcAssociated){.direction = 'C',
						  .sender = served->peer + 1,
						  .receiver = node_id(node),
						  .incarnation = served->incarnation,
						  .session = served->session,
						  .sequence = served->sequence};
}

static void
acknowledge(Sim *sim, Link *link, Node *node, DcAssociated binding)
{
	Message *m = net_push(sim, &link->back);
	DcAck *ack = &sim->ack;
	DcWriter w;

	if (m == NULL)
		return;
	binding.direction = 'A';
	ack->applied = ack->stale = ack->waiting = ack->held_us = 0;
	vector_expand(node->mem.vector, &ack->vector);
	copy_incoming(node, ack->incoming);
	debts_expand(&node->mem.owed, &sim->debts[0]);
	ack->settled = dc_debts_settled(&sim->debts[0], &ack->vector);
	(void) envelope_begin(m, &w);
	dc_ack_encode(&w, ack);
	envelope_middle(m, &w);
	dc_write_u64(&w, list_digest(sim, &node->mem.list));
	dc_write_u64(&w, node->clock);
	envelope_end(m, &w);
	net_seal(sim, m, &binding);
	(void) net_send(sim, link, &link->back, m);
}

/* R4: flushes what was held back, claims it, and says so. */
static bool
flush_held(Sim *sim, Link *link, Node *node)
{
	Served *served = &node->served[link->from];
	DcAssociated binding = binding_of(served, node);
	Call call;

	if (served->held == 0)
		return true;
	if (!DEFECT(sim, DEFECT_R4_DISK) && !DEFECT(sim, DEFECT_R4_HELD) &&
		!node_flush(sim, node))
		return false;
	memset(&call, 0, sizeof(call));
	binding.sequence = served->sequence - served->held;
	for (uint32_t i = 0; i < served->held; i++)
	{
		binding.sequence++;
		call.segment = served->to[i] != DC_HLC_NONE;
		call.from = served->from[i];
		call.to = served->to[i];
		if (!move_vector(sim, node, served, &call))
			return false;
		acknowledge(sim, link, node, binding);
	}
	served->held = 0;
	return true;
}

/* Commits, and is seen; the flush, with others, comes later. */
static bool
may_hold(Sim *sim, const Link *link, const Served *served, const Call *call)
{
	return !call->adopt && served->held + link->back.count + 1 < PIPE_MAX &&
		   rng_chance(&sim->rng, 1, 2);
}

/*
 * A call is one transaction: all of it or nothing.  It is flushed before it is
 * acknowledged.
 */
static bool
carry_out(Sim *sim, Link *link, Node *node, Served *served, Call *call)
{
	bool holds = may_hold(sim, link, served, call);

	if (!node_disk_takes(sim, node) && !DEFECT(sim, DEFECT_FULL))
		return DEFECT(sim, DEFECT_R11_DURABLE) && call->adopt &&
			   move_vector(sim, node, served, call);
	apply_all(sim, node, call);
	if (holds)
	{
		served->from[served->held] = call->from;
		served->to[served->held++] = call->to;
		return true;
	}
	if (!flush_held(sim, link, node))
		return false;
	if (!DEFECT(sim, DEFECT_R4_DISK))
		(void) node_flush(sim, node);
	return move_vector(sim, node, served, call);
}

/* R11: what a fenced node sent is flushed before this node closes it. */
bool
peer_flush_fenced(Sim *sim, Node *node)
{
	for (uint32_t from = 0; from < sim->servers; from++)
	{
		const Served *served = &node->served[from];

		if (served->held > 0 &&
			node->mem.list.state[served->peer] == DC_MEMBER_FENCED &&
			!flush_held(sim, link_of(sim, from, node->index), node))
			return false;
	}
	return true;
}

/* From somebody who holds the key: whatever it is, it is read to its end. */
static void
read_nonsense(Sim *sim, const Message *m)
{
	Message *changed = &sim->reply;
	Call call;

	changed->length = m->length;
	memcpy(changed->bytes, m->bytes, m->length);
	for (uint32_t i = 0; i < 3 && m->length > 2; i++)
		changed->bytes[2 + rng_below(&sim->rng, m->length - 2)] =
			(uint8_t) rng_next(&sim->rng);
	(void) read_call(sim, changed, false, &call);
}

static void
take_call(Sim *sim, Link *link, Node *node, const Message *m)
{
	Served *served = &node->served[link->from];
	DcAssociated binding = binding_of(served, node);
	uint32_t held = served->held;
	Call call;

	binding.sequence++;
	if (!served->open)
	{
		binding.sender = sim->node[link->from].self + 1;
		refuse(sim, link, node, &binding);
		return;
	}
	if (!peer_admits(sim, node, served->peer, served->incarnation) ||
		(served->joining && (!node->mem.joining || node->repair.running) &&
		 !DEFECT(sim, DEFECT_R12_EARLY)) ||
		!net_open(sim, m, &binding))
	{
		refuse(sim, link, node, &binding);
		return;
	}
	if (rng_chance(&sim->rng, 1, 30))
		read_nonsense(sim, m);
	if (!read_call(sim, m, !DEFECT(sim, DEFECT_SEAL), &call))
	{
		refuse(sim, link, node, &binding);
		return;
	}
	if (call.adopt && member_fell_behind(sim, node, call.counted, call.horizon))
	{
		if (link->up)
			refuse(sim, link, node, &binding);
		return;
	}
	if (!observe(sim, node, &call.streamed) ||
		!observe(sim, node, &call.scanned) ||
		!carry_out(sim, link, node, served, &call))
	{
		refuse(sim, link, node, &binding);
		return;
	}
	node->clock = dc_hlc_observe(node->clock, DC_HLC_NONE);
	served->sequence++;
	if (!served->counted)
	{
		served->counted = true;
		node->incoming[served->peer]++;
	}
	if (served->held <= held)
		acknowledge(sim, link, node, binding);
}

void
peer_step(Sim *sim, Link *link)
{
	Node *node = &sim->node[link->to];
	Message *m = net_due(sim, &link->forth);
	uint8_t letter;

	if (link->up && node->up && node->served[link->from].held > 0 &&
		(sim->calm || rng_chance(&sim->rng, 1, 8)))
		(void) flush_held(sim, link, node);
	if (!link->up || m == NULL || net_cut(sim, link->from, link->to) ||
		link->back.count + node->served[link->from].held >= PIPE_MAX)
		return;
	if (!node->up)
	{
		link_close(sim, link, "the peer is down");
		return;
	}
	letter = m->length > 3 ? m->bytes[3] : 0;
	if (letter == 'H')
		take_hello(sim, link, node, m);
	else
		take_call(sim, link, node, m);
	if (link->up)
		net_pop(&link->forth);
}
