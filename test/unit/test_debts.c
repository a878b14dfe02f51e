/*
 * test_debts.c
 *		What catch-ups left to third nodes: against what nodes really have.
 *
 * Nodes write one key, each at its own stamps.  They stream to each other, or
 * do not for a while; catch-ups leave to a source what it streams itself, as
 * the core of a link does.  Whoever is settled must have the key at the stamps
 * that its vector claims, or newer.
 */
/* also with: -DDC_CANARIES */
#include "canary.h"
#include "debts.h"
#include "tap.h"

#include <string.h>

#define NODES 4
#define RUNS  2000
#define STEPS 60

#ifdef DC_CANARIES
uint64_t dc_canaries;
#endif

typedef struct Node
{
	DcHlc key; /* the version that it has */
	DcVv vector;
	DcDebts debts;
	uint32_t streams; /* bits of those who stream to it */
} Node;

typedef struct World
{
	uint64_t seed;
	uint64_t now;
	DcHlc written[NODES + 1][STEPS + 1]; /* by each */
	uint32_t count[NODES + 1];
	Node node[NODES + 1];
	bool keeps; /* a donor does not hand on its own debts */
} World;

static World world;

static void
take(Node *node, DcHlc stamp)
{
	if (node->key < stamp)
		node->key = stamp;
}

static void
write_key(uint32_t id)
{
	Node *node = &world.node[id];
	DcHlc stamp = dc_hlc_make(++world.now, id);

	world.written[id][world.count[id]++] = stamp;
	take(node, stamp);
	node->vector.at[id] = stamp;
	for (uint32_t to = 1; to <= NODES; to++)
	{
		/* the batch may come before the segment that claims it */
		if (to != id && (world.node[to].streams >> id & 1) &&
			tap_below(&world.seed, 2) == 0)
			take(&world.node[to], stamp);
	}
}

/* The rest of the stream, and its watermark. */
static void
close_segment(uint32_t from, uint32_t to)
{
	Node *peer = &world.node[to];

	if (!(peer->streams >> from & 1))
		return;
	for (uint32_t i = 0; i < world.count[from]; i++)
		take(peer, world.written[from][i]);
	peer->vector.at[from] = world.node[from].vector.at[from];
}

static void
catch_up(uint32_t from, uint32_t to)
{
	static DcDebts closing;
	static DcVv left;
	static DcVv donor;
	Node *node = &world.node[from];
	Node *peer = &world.node[to];
	uint32_t source = dc_hlc_node_id(node->key);

	closing = node->debts;
	dc_debts_pay(&closing, &node->vector);
	if (world.keeps)
		dc_debts_init(&closing);
	dc_vv_init(&left);
	dc_vv_init(&donor);
	for (uint32_t id = 1; id <= NODES; id++)
	{
		if (id == from || (id != to && !(peer->streams >> id & 1)))
			donor.at[id] = node->vector.at[id];
	}
	if (source != from && (source == to || (peer->streams >> source & 1)))
		left.at[source] = node->key;
	else if (node->key > peer->vector.at[source])
		take(peer, node->key);
	dc_debts_leave(&closing, from, &left);
	(void) dc_vv_adopt(&peer->vector, &donor, &(DcVv){{0}});
	dc_debts_close(&peer->debts, from, &closing, &peer->vector, to);
}

/* Streams break and begin; one that begins follows a catch-up. */
static void
toggle(uint32_t from, uint32_t to)
{
	Node *peer = &world.node[to];

	if (peer->streams >> from & 1)
		peer->streams &= ~(UINT32_C(1) << from);
	else
	{
		catch_up(from, to);
		peer->streams |= UINT32_C(1) << from;
	}
}

static bool
claims_are_true(const Node *node)
{
	for (uint32_t id = 1; id <= NODES; id++)
	{
		for (uint32_t i = 0; i < world.count[id]; i++)
		{
			if (world.written[id][i] <= node->vector.at[id] &&
				world.written[id][i] > node->key)
				return false;
		}
	}
	return true;
}

static void
step(void)
{
	uint32_t from = 1 + tap_below(&world.seed, NODES);
	uint32_t to = 1 + tap_below(&world.seed, NODES);

	switch (tap_below(&world.seed, 8))
	{
		case 0:
		case 1:
		case 2:
			write_key(from);
			break;
		case 3:
		case 4:
			if (from != to)
				close_segment(from, to);
			break;
		case 5:
			if (from != to)
				toggle(from, to);
			break;
		default:
			if (from != to)
				catch_up(from, to);
			break;
	}
}

/* All stream to all, and each closes a catch-up and a segment to each. */
static void
come_to_rest(void)
{
	for (int round = 0; round < 2; round++)
	{
		for (uint32_t from = 1; from <= NODES; from++)
		{
			for (uint32_t to = 1; to <= NODES; to++)
			{
				if (from == to)
					continue;
				if (!(world.node[to].streams >> from & 1))
					toggle(from, to);
				close_segment(from, to);
			}
		}
	}
}

typedef struct Outcome
{
	bool settled_are_true;
	bool rest_is_settled;
	uint64_t claims_alone; /* how often V said more than there was */
} Outcome;

static Outcome
run(bool keeps)
{
	Outcome outcome = {true, true, 0};

	for (uint64_t seed = 1; seed <= RUNS; seed++)
	{
		memset(&world, 0, sizeof(world));
		world.seed = seed;
		world.keeps = keeps;
		for (int i = 0; i < STEPS; i++)
		{
			step();
			for (uint32_t id = 1; id <= NODES; id++)
			{
				const Node *node = &world.node[id];
				bool is_true = claims_are_true(node);

				outcome.claims_alone += !is_true;
				outcome.settled_are_true &=
					is_true || !dc_debts_settled(&node->debts, &node->vector);
			}
		}
		come_to_rest();
		for (uint32_t id = 1; id <= NODES; id++)
			outcome.rest_is_settled &=
				dc_debts_settled(&world.node[id].debts, &world.node[id].vector);
	}
	return outcome;
}

static void
test_claims(void)
{
	Outcome all = run(false);

	ok(all.claims_alone > RUNS / 10,
	   "a vector claims what a node does not have");
	ok(all.settled_are_true, "who is settled has all that it claims, or newer");
	ok(all.rest_is_settled, "in the end all are settled");
	ok(!run(true).settled_are_true,
	   "but not if a donor does not tell what it is owed itself");
#ifdef DC_CANARIES
	dc_canaries = DC_CANARY_LEFT;
	ok(!run(false).settled_are_true,
	   "nor if what is left to a third node is not waited for");
	dc_canaries = 0;
#endif
}

static DcDebts debts;
static DcDebts closing;
static DcVv vector;

static void
close_with(uint32_t donor, uint32_t source, uint32_t by, uint64_t at)
{
	dc_debts_init(&closing);
	if (source != 0)
		dc_debts_add(&closing, source, by, dc_hlc_make(at, source));
	dc_debts_close(&debts, donor, &closing, &vector, 1);
}

static bool
settled(void)
{
	return dc_debts_settled(&debts, &vector);
}

static void
test_closings(void)
{
	dc_debts_init(&debts);
	dc_vv_init(&vector);
	ok(settled(), "without debts a node is settled");
	close_with(2, 1, 2, 5);
	ok(settled(), "what is left to a node itself it has");
	close_with(2, 3, 1, 5);
	ok(settled(), "and what it left to others itself");
	close_with(2, 3, 2, 5);
	ok(!settled(), "what is left to another one is owed");
	close_with(4, 0, 0, 0);
	ok(!settled(), "and not taken back by a third one's catch-up");
	close_with(2, 0, 0, 0);
	ok(settled(), "but by the next one of the same donor");
	close_with(2, 3, 4, 5);
	close_with(2, 0, 0, 0);
	ok(!settled(), "what was handed on only its own donor takes back");
	close_with(4, 0, 0, 0);
	ok(settled(), "... which it does");
	close_with(2, 3, 2, 5);
	vector.at[3] = dc_hlc_make(5, 3);
	ok(settled(), "it is paid when the vector gets there");
	close_with(4, 3, 4, 6);
	ok(!settled() && !dc_debts_names(&debts, 3, 2),
	   "who was paid does not vouch for what is left later");
	dc_debts_forgive(&debts, 3);
	ok(settled(), "nothing is owed by who is gone");
}

static bool
is_refused(const uint8_t *bytes, size_t length)
{
	return dc_debts_decode((DcSlice){bytes, length}, &debts) == DC_MALFORMED;
}

static void
test_codec(void)
{
	static uint8_t bytes[200];
	uint8_t one[] = {0, 3, 0, 0, 0, 0, 0, 0, 40, 3, 2, 0, 2, 0, 7};
	bool truncations = true;
	DcWriter w;

	dc_debts_init(&closing);
	dc_debts_add(&closing, 3, 0, dc_hlc_make(9, 3));
	dc_debts_add(&closing, 3, 64, dc_hlc_make(9, 3));
	dc_debts_add(&closing, DC_NODE_ID_MAX, DC_NODE_ID_MAX, DC_HLC_MAX);
	dc_writer_init(&w, bytes, sizeof(bytes));
	dc_debts_encode(&w, &closing);
	ok(dc_debts_decode((DcSlice){bytes, w.length}, &debts) == DC_OK &&
		   memcmp(&debts, &closing, sizeof(debts)) == 0,
	   "debts are read back as they were");
	for (size_t n = 1; n < sizeof(one); n++)
		truncations &= dc_debts_decode((DcSlice){one, n}, NULL) != DC_OK;
	ok(truncations, "a source that ends early is refused");
	ok(dc_debts_decode((DcSlice){one, sizeof(one)}, NULL) == DC_OK,
	   "bytes can be checked alone");
	one[12] = 7;
	ok(is_refused(one, sizeof(one)), "a donor that is named twice is refused");
	one[12] = 2;
	one[10] = 0;
	ok(is_refused(one, 11), "a debt that nobody left is refused");
	one[10] = 2;
	one[8] = one[9] = 0;
	ok(is_refused(one, sizeof(one)), "a debt of nothing is refused");
	one[8] = 40;
	one[1] = 0;
	ok(is_refused(one, sizeof(one)), "a debt of nobody is refused");
}

int
main(void)
{
	test_claims();
	test_closings();
	test_codec();
	return tap_done();
}
