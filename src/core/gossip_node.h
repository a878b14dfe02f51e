/*
 * gossip_node.h
 *		Inside of gossip: the table of nodes and what is believed of each.
 *
 * Between gossip_node.c (slots, states, identity, events), gossip_doubt.c
 * (signs of life and their absence), gossip_exchange.c (what is sent) and
 * gossip.c (who is called, what is taken in).  Nobody else includes this.
 */
#ifndef DC_GOSSIP_NODE_H
#define DC_GOSSIP_NODE_H

#include "gossip.h"

#include <string.h>

/*
 * How long datagrams and records of an earlier start may still be about.
 * Whoever speaks under an outdated start after that is alive.
 */
#define DC_GOSSIP_RIVAL_US (UINT64_C(3) * 1000000)

/* A greater self heard this long without a sign of life is our own past. */
#define DC_GOSSIP_PAST_US (UINT64_C(10) * 1000000)

/* Copies as much as fits, with a zero at the end. */
static inline void
dc_gossip_copy(char *to, size_t size, DcSlice from)
{
	size_t length = from.length < size ? from.length : size - 1;

	if (length > 0)
		memcpy(to, from.data, length);
	to[length] = '\0';
}

static inline DcSlice
dc_gossip_slice(const char *text)
{
	DcSlice slice = {(const uint8_t *) text, strlen(text)};

	return slice;
}

/* Order of (major, minor) pairs: negative, zero, positive. */
static inline int
dc_gossip_compare(uint64_t left_major, uint64_t left_minor,
				  uint64_t right_major, uint64_t right_minor)
{
	if (left_major != right_major)
		return left_major < right_major ? -1 : 1;
	if (left_minor != right_minor)
		return left_minor < right_minor ? -1 : 1;
	return 0;
}

/* 0 .. bound - 1. */
uint32_t dc_gossip_draw(DcGossip *g, uint32_t bound);

void dc_gossip_set_time(DcGossip *g, uint64_t wall_us);

/* Start of a call that fills `out`. */
void dc_gossip_begin(DcGossip *g, uint64_t wall_us, DcGossipOutput *out);

/* Never NULL; beyond the limit the last event is overwritten. */
DcGossipEvent *dc_gossip_add_event(DcGossipOutput *out, DcGossipEventKind kind,
								   uint32_t node_id);
void dc_gossip_add_node_event(DcGossipOutput *out, DcGossipEventKind kind,
							  const DcGossipNode *node);

/* An event and true, unless there was one of late for status and address. */
bool dc_gossip_report_refusal(DcGossip *g, DcStatus status, uint32_t node_id,
							  uint64_t value, const char *from,
							  DcGossipOutput *out);

/* NULL if the node has no slot. */
DcGossipNode *dc_gossip_node(const DcGossip *g, uint32_t node_id);

/* A new node in state UNKNOWN; NULL (and an event) if there is no room. */
DcGossipNode *dc_gossip_add_node(DcGossip *g, uint32_t node_id,
								 const char *from, DcGossipOutput *out);
void dc_gossip_drop_node(DcGossip *g, DcGossipNode *node);

/* Changes the state if the table of moves allows it. */
void dc_gossip_move(DcGossip *g, DcGossipNode *node, DcGossipState to,
					DcGossipOutput *out);

/* Makes `live` and `silent` anew if anything changed. */
void dc_gossip_refresh_roster(DcGossip *g);

/* Puts a node in the hot list, if it is not there. */
void dc_gossip_watch(DcGossip *g, DcGossipNode *node);

/* The description changed just now. */
void dc_gossip_note_news(DcGossip *g, DcGossipNode *node);

/*
 * What is remembered of a start: the session, or one of the others, of which
 * it is from now on if it is new.  NULL if it was forgotten: what comes from
 * it may be a replay.
 */
DcGossipSession *dc_gossip_start_of(DcGossipNode *node, uint64_t incarnation,
									uint64_t boot);

/* One of the others is the session from now on; NULL: nothing changes. */
void dc_gossip_shift_session(DcGossip *g, DcGossipNode *node,
							 DcGossipSession *other);

/* How long a clash lasts after its last sign. */
uint64_t dc_gossip_clash_us(const DcGossip *g);

/* Two nodes speak under this id (for `node` of nodes[0]: the own one). */
void dc_gossip_note_clash(DcGossip *g, DcGossipNode *node, uint64_t incarnation,
						  uint64_t boot, const char *address,
						  DcGossipOutput *out);
void dc_gossip_note_rival(DcGossip *g, uint64_t incarnation, uint64_t boot,
						  const char *address, DcGossipOutput *out);

/* This node starts (again), with a version of at least this. */
void dc_gossip_start_self(DcGossip *g, uint64_t least_version);

/* Somebody knows a record of our id; boot 0: not said. */
void dc_gossip_hear_of_self(DcGossip *g, uint64_t incarnation, uint64_t boot,
							uint64_t version, const char *address,
							DcGossipOutput *out);

/* ---- gossip_doubt.c ---- */

/* A description is news for this many rounds. */
#define DC_GOSSIP_NEWS_ROUNDS 40

static inline bool
dc_gossip_is_silent(const DcGossipNode *node)
{
	return node->state == DC_GOSSIP_DEAD || node->state == DC_GOSSIP_LEFT;
}

static inline bool
dc_gossip_is_news(const DcGossip *g, const DcGossipNode *node)
{
	return g->now_us - node->news_us <
		   DC_GOSSIP_NEWS_ROUNDS * g->config.interval_us;
}

/* Somebody asks for it, or did a moment ago. */
static inline bool
dc_gossip_is_urgent(const DcGossip *g, const DcGossipNode *node)
{
	return node->urgent_us > g->now_us ||
		   (node->doubt_us != 0 && !dc_gossip_is_silent(node));
}

/* Milliseconds since then, as they travel. */
static inline uint16_t
dc_gossip_age(const DcGossip *g, uint64_t since_us)
{
	uint64_t age_ms = since_us < g->now_us ? (g->now_us - since_us) / 1000 : 0;

	return (uint16_t) (age_ms < DC_GOSSIP_AGE_MAX ? age_ms : DC_GOSSIP_AGE_MAX);
}

static inline uint64_t
dc_gossip_since(const DcGossip *g, uint16_t age_ms)
{
	uint64_t age_us = UINT64_C(1000) * age_ms;

	return g->now_us > age_us ? g->now_us - age_us : 0;
}

/* It made this version at this time, or earlier. */
void dc_gossip_note_version(DcGossip *g, DcGossipNode *node, uint64_t version,
							uint64_t made_us, DcGossipOutput *out);

/* A datagram of its own came. */
void dc_gossip_note_contact(DcGossip *g, DcGossipNode *node,
							DcGossipOutput *out);

/* This node calls that one, which should answer. */
void dc_gossip_note_call(DcGossip *g, DcGossipNode *node);

/* Somebody asks for a sign of life later than `since_us`. */
void dc_gossip_hear_doubt(DcGossip *g, DcGossipNode *node, uint64_t since_us);

/* A datagram came: after a deaf time, what was believed in it is void. */
void dc_gossip_note_hearing(DcGossip *g);

/* Once a round: asks, suspects and gives up. */
void dc_gossip_judge(DcGossip *g, DcGossipOutput *out);

/* ---- gossip_exchange.c ---- */

/*
 * `callee`: the node at this address; NULL: not known.  `brief`: only what
 * is urgent.
 */
void dc_gossip_send_syn(DcGossip *g, const char *address,
						uint64_t receiver_boot, const DcGossipNode *callee,
						bool brief, DcGossipOutput *out);
void dc_gossip_send_hello(DcGossip *g, const char *from,
						  const DcGossipHeader *header, DcGossipOutput *out);
void dc_gossip_send_clash(DcGossip *g, const char *to, uint64_t receiver_boot,
						  const DcGossipSession *claimant, const char *address,
						  DcGossipOutput *out);

/* SYN -> ACK: what I want, and what the sender lacks. */
void dc_gossip_answer_syn(DcGossip *g, const char *from,
						  const DcGossipMessage *syn, DcGossipOutput *out);

/* ACK -> ACK2: what the other side wanted. */
void dc_gossip_answer_ack(DcGossip *g, const char *from,
						  const DcGossipMessage *ack, DcGossipOutput *out);

#endif
