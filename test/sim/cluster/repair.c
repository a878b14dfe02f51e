/*
 * repair.c
 *		Two nodes compared, with the core's conversation (repair.h) and time
 *		between any two messages.
 *
 *	 hello -> for each keyspace: questions about entries, rows that move
 *	                             -> what was kept: a third node is asked
 *
 * Between members it mends what the rules say cannot be.  In rejoin mode it
 * tells a joiner which of its rows the cluster has forgotten (R13), as
 * src/pg/repair_run.c and rejoin.c do.  A connection that breaks, another life
 * of either side or another list ends it.
 */
#include "cluster.h"

#include <string.h>

static Talk *
talk_of(Sim *sim, const Node *node)
{
	return &sim->talk[node->index];
}

static Called *
called(Repair *r)
{
	return &r->called[r->third];
}

void
repair_begin(Sim *sim, Node *node, uint32_t server, bool rejoin)
{
	Repair *r = &node->repair;

	if ((node->mem.joining && !rejoin) || node->mem.outcast ||
		server == node->index || !sim->node[server].used)
		return;
	*r = (Repair){.running = true,
				  .rejoin = rejoin,
				  .step = REPAIR_HELLO,
				  .called = {{.server = server}},
				  .epoch = list_digest(sim, &node->mem.list)};
	sim_trace(sim, "node %u compares with server %u%s", node->index + 1,
			  server + 1, rejoin ? ", to rejoin" : "");
}

/* ---- what is to be done about a key ------------------------------------- */

/* R13: up to where a joiner may not believe itself; as dc_standing_limit(). */
static DcHlc
limit_of(Sim *sim, const Node *node, bool own)
{
	uint32_t others = list_present(&node->mem.list) & ~BIT(node->self);
	bool newborn = own && node->mem.before == DC_MEMBER_ABSENT;

	if ((others & ~node->delivered) == 0 && !newborn)
		return node->mem.horizon;
	return own || DEFECT(sim, DEFECT_R13_OTHERS) ? node->mem.registered :
												   DC_HLC_NONE;
}

static DcRejoin
decide(Sim *sim, const Node *node, DcHlc stamp, bool covered)
{
	bool own = dc_hlc_node_id(stamp) == node_id(node);

	return dc_rule_rejoin(stamp, covered, limit_of(sim, node, own),
						  own && node->mem.before == DC_MEMBER_ABSENT);
}

static void
settle_row(Sim *sim, Node *node, uint32_t cell, bool covered)
{
	Cell here = node->mem.cell[cell];

	switch (decide(sim, node, here.stamp, covered))
	{
		case DC_REJOIN_KEEP:
			break;
		case DC_REJOIN_ERASE:
			check_erased(sim, node, cell, here);
			node->mem.cell[cell] = (Cell){0};
			sim->stats.erased++;
			sim_trace(sim, "node %u erases key %u at %llu", node->index + 1,
					  cell, (unsigned long long) here.stamp);
			break;
		case DC_REJOIN_REISSUE:
			check_set_aside(sim, node, cell, here);
			work_write(sim, node, cell, false);
			sim->stats.reissued++;
			break;
		case DC_REJOIN_QUARANTINE:
			check_set_aside(sim, node, cell, here);
			node->mem.cell[cell] = (Cell){0};
			node->mem.quarantined++;
			sim->stats.quarantined++;
			sim_trace(sim, "node %u sets key %u at %llu aside", node->index + 1,
					  cell, (unsigned long long) here.stamp);
			break;
	}
}

/*
 * Deaths that no member may know, before anything is compared; as
 * dc_rejoin_deaths().  The own watermark says nothing of what others took.
 */
static void
settle_deaths(Sim *sim, Node *node, uint32_t keyspace)
{
	for (uint32_t key = 0; key < sim->config.keys; key++)
	{
		Cell here = node->mem.cell[key];
		uint32_t source = dc_hlc_node_id(here.stamp) - 1;
		bool own = source == node->self && !DEFECT(sim, DEFECT_R13_OWN);

		if (!here.dead || key % sim->config.keyspaces != keyspace ||
			(!own && here.stamp <= node->mem.vector[source]) ||
			DEFECT(sim, DEFECT_R13_DEATHS) ||
			here.stamp > limit_of(sim, node, source == node->self))
			continue;
		check_set_aside(sim, node, key, here);
		node->mem.cell[key] = (Cell){0};
		node->mem.quarantined++;
		sim->stats.quarantined++;
		sim_trace(sim, "node %u forgets that key %u died at %llu",
				  node->index + 1, key, (unsigned long long) here.stamp);
	}
}

static void
take_result(Sim *sim, Node *node, const DcRepairResult *result)
{
	Repair *r = &node->repair;
	uint32_t cell = result->key.data[0];

	if (result->key.length != 1 || cell >= sim->config.keys)
	{
		r->running = false;
		return;
	}
	sim->stats.action[result->action]++;
	switch (result->action)
	{
		case DC_REPAIR_NOTHING:
		case DC_REPAIR_WAIT:
			break;
		case DC_REPAIR_FETCH:
			r->fetch |= BIT(cell);
			break;
		case DC_REPAIR_PUSH:
			r->push |= BIT(cell);
			break;
		case DC_REPAIR_KEEP:
			sim_trace(sim, "node %u keeps what is said of key %u",
					  node->index + 1, cell);
			if (DEFECT(sim, DEFECT_R9_ERASE))
				node->mem.cell[cell] = (Cell){0};
			else if (DEFECT(sim, DEFECT_R9_TAKE))
				*(result->own.stamp == DC_HLC_NONE ? &r->fetch : &r->push) |=
					BIT(cell);
			else
				r->kept |= BIT(cell);
			r->again |= DEFECT(sim, DEFECT_R9_TAKE);
			break;
		case DC_REPAIR_ALONE:
			settle_row(sim, node, cell, result->peer_covers);
			break;
	}
}

/* ---- asking ------------------------------------------------------------- */

static void
begin_keyspace(Sim *sim, Node *node, uint32_t keyspace)
{
	Repair *r = &node->repair;

	r->keyspace = keyspace;
	r->fetch = r->push = r->kept = 0;
	r->again = r->rejoin;
	r->third = r->ending = false;
	r->step = REPAIR_ENTRIES;
	if (r->rejoin)
		settle_deaths(sim, node, keyspace);
	dc_repair_begin(&talk_of(sim, node)->core, keyspace, r->rejoin, false);
}

/* A TRUNCATE that only one of them knows. */
static void
compare_floors(const Sim *sim, const Node *node)
{
	Repair *r = (Repair *) &node->repair;
	DcHlc peer = sim->talk[node->index].core.peer_floor;
	uint32_t cell = KEYS_MAX + r->keyspace;

	if (peer > node->mem.cell[cell].stamp)
		r->fetch |= BIT(cell);
	else if (peer < node->mem.cell[cell].stamp && !r->rejoin)
		r->push |= BIT(cell);
}

/* R9: a live node that is neither; true if there is one. */
static bool
find_third(Sim *sim, const Node *node, Repair *r)
{
	for (uint32_t i = 0, at = rng_below(&sim->rng, NODES_MAX); i < NODES_MAX;
		 i++, at = (at + 1) % NODES_MAX)
	{
		uint32_t server = gossip_server(sim, node, at);

		if (node->mem.list.state[at] != DC_MEMBER_PRESENT || at == node->self ||
			server == r->called[0].server || !sim->node[server].used ||
			!sim->node[server].up)
			continue;
		r->called[1] = (Called){.server = server};
		return true;
	}
	return false;
}

/* The administrator reads the report, and settles what the nodes cannot. */
static void
report_kept(Sim *sim, Node *node)
{
	const Repair *r = &node->repair;

	sim->stats.reported++;
	node->reported |= r->kept;
	sim_trace(sim, "node %u reports %x: live on one side only", node->index + 1,
			  r->kept);
}

static void
write_rows(Sim *sim, Node *node, DcWriter *w)
{
	const Repair *r = &node->repair;
	DcRepairHead head = {.kind = DC_REPAIR_ROWS,
						 .keyspace = r->keyspace,
						 .floor = node->mem.cell[KEYS_MAX + r->keyspace].stamp};
	Batch batch = answer_rows(sim, node, r->push);
	uint8_t bytes[BYTES_MAX];

	for (uint32_t i = 0; i < batch.count; i++)
		check_shipped(sim, node, &batch.change[i]);
	dc_repair_head_encode(w, &head);
	dc_write_u32(w, r->fetch);
	dc_write_u8(w, r->again);
	dc_write_bytes(w, bytes, batch_encode(sim, &batch, bytes, sizeof(bytes)));
}

/* The keys that were kept, to a third node. */
static void
write_kept(Sim *sim, Node *node, DcWriter *w)
{
	const Repair *r = &node->repair;
	DcRepairHead head = {.kind = DC_REPAIR_OFFER,
						 .keyspace = r->keyspace,
						 .floor = node->mem.cell[KEYS_MAX + r->keyspace].stamp};

	dc_repair_head_encode(w, &head);
	vector_expand(node->mem.vector, &sim->vv[2]);
	dc_vv_encode(w, &sim->vv[2]);
	dc_write_u64(w, node->mem.horizon);
	for (uint8_t key = 0; key < KEYS_MAX; key++)
	{
		if (r->kept & BIT(key))
			dc_write_string(w, &key, 1);
	}
	dc_write_varint(w, 0);
	dc_write_u8(w, 0);
}

/* Writes the next question; false: there is none. */
static bool
write_question(Sim *sim, Node *node, DcWriter *w)
{
	Repair *r = &node->repair;
	DcRepairNode self;

	for (;;)
	{
		switch (r->step)
		{
			case REPAIR_HELLO:
				dc_write_u32(w, node_id(node));
				dc_write_u64(w, node->mem.incarnation);
				dc_write_u64(w, r->epoch);
				return true;
			case REPAIR_ENTRIES:
				self = answer_show(sim, node, r->keyspace);
				if (dc_repair_next(&talk_of(sim, node)->core, &self, w))
					return true;
				compare_floors(sim, node);
				r->ending = true;
				r->step = REPAIR_ROWS;
				break;
			case REPAIR_ROWS:
				if (r->fetch != 0 || r->push != 0)
				{
					write_rows(sim, node, w);
					return true;
				}
				r->step = REPAIR_ENTRIES;
				if (!r->ending)
					break;
				r->step = REPAIR_NEXT;
				if (r->kept == 0 || r->third || DEFECT(sim, DEFECT_R9_THIRD))
					break;
				r->third = true;
				r->step = REPAIR_HELLO;
				if (!find_third(sim, node, r))
				{
					report_kept(sim, node);
					r->step = REPAIR_NEXT;
				}
				break;
			case REPAIR_THIRD:
				write_kept(sim, node, w);
				return true;
			case REPAIR_NEXT:
				if (r->keyspace + 1 == sim->config.keyspaces)
					return false;
				begin_keyspace(sim, node, r->keyspace + 1);
				break;
		}
	}
}

/* ---- answers ------------------------------------------------------------ */

/* The peer's vector and g are read first; a joiner takes g over. */
static bool
take_welcome(Sim *sim, Node *node, DcReader *in)
{
	Repair *r = &node->repair;
	Called *c = called(r);
	State saved = node->mem;
	Manners manners;

	c->session = dc_read_u64(in);
	c->incarnation = dc_read_u64(in);
	if (!manners_read(in, &manners) ||
		list_digest(sim, &manners.list) != r->epoch)
		return false;
	if (r->third)
	{
		r->step = REPAIR_THIRD;
		return true;
	}
	sim->stats.repairs++;
	if (r->rejoin && node->mem.horizon < manners.horizon &&
		!DEFECT(sim, DEFECT_R12_HORIZON))
	{
		node->mem.horizon = manners.horizon;
		node->mem.counted = manners.counted;
		if (!node_commit_state(sim, node))
		{
			node->mem = saved;
			return false;
		}
	}
	begin_keyspace(sim, node, 0);
	return true;
}

static bool
take_entries(Sim *sim, Node *node, const Message *m)
{
	Repair *r = &node->repair;
	DcRepair *core = &talk_of(sim, node)->core;
	DcRepairNode self = answer_show(sim, node, r->keyspace);
	DcRepairResult result;

	if (dc_repair_take(core, &self, m->bytes, m->length) != DC_OK)
		return false;
	while (r->running && dc_repair_result(core, &self, &result))
		take_result(sim, node, &result);
	r->step = REPAIR_ROWS;
	return r->running;
}

static bool
take_rows(Sim *sim, Node *node, DcReader *in)
{
	Repair *r = &node->repair;
	Batch *batch = &sim->parts;
	DcSlice bytes = dc_read_bytes(in, dc_reader_left(in));

	memset(batch, 0, sizeof(*batch));
	if (in->status != DC_OK || !batch_decode(sim, bytes, batch))
		return false;
	answer_apply(sim, node, batch, r->again);
	r->fetch = r->push = 0;
	return true;
}

/* Members have every death up to g: two cannot both have missed that one. */
static bool
take_third(Sim *sim, Node *node, DcReader *in)
{
	Repair *r = &node->repair;

	(void) dc_read_bytes(in, 3 + 8);
	dc_vv_decode(in, &sim->vv[2]);
	(void) dc_read_u64(in);
	(void) dc_read_varint(in, KEYS_MAX);
	for (uint32_t key = 0; key < KEYS_MAX; key++)
	{
		uint64_t word;

		if (!(r->kept & BIT(key)))
			continue;
		word = dc_read_u64(in);
		if (in->status != DC_OK || word <= 1 || (word & 1) != 0)
			continue;
		*(node->mem.cell[key].stamp == DC_HLC_NONE ? &r->fetch : &r->push) |=
			BIT(key);
		r->kept &= ~BIT(key);
		sim->stats.thirds++;
	}
	dc_vv_init(&sim->vv[2]);
	if (r->kept != 0)
		report_kept(sim, node);
	r->third = false;
	r->kept = 0;
	r->again = true;
	r->step = REPAIR_ROWS;
	return in->status == DC_OK;
}

static bool
take_answer(Sim *sim, Node *node, const Message *m)
{
	Repair *r = &node->repair;
	DcReader in;

	dc_reader_init(&in, m->bytes, m->length);
	switch (r->step)
	{
		case REPAIR_HELLO:
			return take_welcome(sim, node, &in);
		case REPAIR_ENTRIES:
			return take_entries(sim, node, m);
		case REPAIR_ROWS:
			return take_rows(sim, node, &in);
		case REPAIR_THIRD:
			return take_third(sim, node, &in);
		case REPAIR_NEXT:
			break;
	}
	return false;
}

/* ---- the connection ----------------------------------------------------- */

/* On its way, with bad luck; false: it never comes. */
static bool
travel(Sim *sim, Node *node, uint32_t from, uint32_t to)
{
	Repair *r = &node->repair;
	Message *m = &talk_of(sim, node)->message;

	r->due_us = sim->now_us + net_delay(sim, to);
	if (sim->calm)
		return true;
	if (rng_chance(&sim->rng, sim->config.corrupt, 10000))
		net_damage(sim, m);
	if (!rng_chance(&sim->rng, sim->config.breaks, 10000))
		return !net_cut(sim, from, to);
	count_fault(sim, FAULT_BREAK);
	return false;
}

/* False: the conversation is over. */
static bool
ask(Sim *sim, Node *node)
{
	Repair *r = &node->repair;
	Called *c = called(r);
	Message *m = &talk_of(sim, node)->message;
	DcAssociated binding = {.direction = 'H'};
	bool hello;
	DcWriter w;

	if (!node_disk_takes(sim, node) || !node_flush(sim, node))
		return false;
	dc_writer_init(&w, m->bytes, sizeof(m->bytes));
	if (!write_question(sim, node, &w))
	{
		r->running = false;
		if (r->rejoin && node->mem.joining)
			member_end_joining(sim, node);
		return false;
	}
	if (w.status != DC_OK)
		sim_fail(sim, "a question is too long");
	c = called(r);
	hello = r->step == REPAIR_HELLO;
	if (!hello)
		binding = (DcAssociated){.direction = 'Q',
								 .sender = node_id(node),
								 .receiver = sim->node[c->server].self + 1,
								 .incarnation = node->mem.incarnation,
								 .session = c->session,
								 .sequence = ++c->sequence};
	m->length = (uint32_t) w.length;
	net_seal(sim, m, &binding);
	r->under_way = true;
	r->answered = false;
	return travel(sim, node, node->index, c->server);
}

static bool
deliver(Sim *sim, Node *node)
{
	Repair *r = &node->repair;
	Called *c = called(r);
	Node *other = &sim->node[c->server];
	Message *reply = &sim->reply;

	if (!other->up || net_cut(sim, node->index, c->server) ||
		!answer(sim, other, node->index, &talk_of(sim, node)->message,
				r->step == REPAIR_HELLO, reply))
		return false;
	talk_of(sim, node)->message = *reply;
	r->answered = true;
	return travel(sim, node, c->server, node->index);
}

static bool
receive(Sim *sim, Node *node)
{
	Repair *r = &node->repair;
	Called *c = called(r);
	const Message *m = &talk_of(sim, node)->message;
	bool hello = r->step == REPAIR_HELLO;
	DcAssociated binding = {.direction = 'R',
							.sender = node_id(node),
							.receiver = sim->node[c->server].self + 1,
							.incarnation = node->mem.incarnation,
							.session = hello ? 0 : c->session,
							.sequence = c->sequence};

	r->under_way = false;
	return !net_cut(sim, c->server, node->index) &&
		   net_open(sim, m, &binding) && node_disk_takes(sim, node) &&
		   take_answer(sim, node, m) && node_flush(sim, node);
}

void
repair_step(Sim *sim, Node *node)
{
	Repair *r = &node->repair;
	bool goes_on;

	if (!r->running)
	{
		uint32_t peer = rng_below(&sim->rng, sim->config.nodes);

		if (node->mem.list.state[peer] == DC_MEMBER_PRESENT &&
			peer != node->self &&
			rng_chance(&sim->rng, sim->config.repair, 1000))
			repair_begin(sim, node, gossip_server(sim, node, peer), false);
		return;
	}
	if (node->mem.outcast || node->mem.joining != r->rejoin ||
		list_digest(sim, &node->mem.list) != r->epoch)
		goes_on = false;
	else if (r->under_way && sim->now_us < r->due_us)
		return;
	else if (!r->under_way)
		goes_on = ask(sim, node);
	else if (!r->answered)
		goes_on = deliver(sim, node);
	else
		goes_on = receive(sim, node);
	r->running &= goes_on;
}
