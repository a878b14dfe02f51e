/*
 * fuzz_gossip.c
 *		Feeds the gossip state machine with datagrams that authenticated.
 *
 * The input is a script for one node that knows two others:
 *
 *		op u8 | argument u8 | [length u16 | bytes]
 *
 * A datagram may have its header put right, so that the fuzzer gets past the
 * first checks: whoever holds the key can do that.  After each step the state
 * must hold together, and whatever the node sends must decode and encode to
 * the same bytes.
 */
#include "gossip.h"

#include <stdlib.h>
#include <string.h>

#define SECOND  UINT64_C(1000000)
#define START   (UINT64_C(800000000) * SECOND)
#define CLUSTER UINT64_C(0x1122334455667788)
#define NODES   5

static DcGossip gossip;
static DcGossipNode nodes[NODES];
static DcGossipOutput output;

static void
check(bool holds)
{
	if (!holds)
		abort();
}

static void
check_canonical(const uint8_t *bytes, size_t length, bool must_decode)
{
	static DcGossipMessage message;
	static uint8_t again[DC_GOSSIP_BYTES_MAX];
	DcDetail detail;
	DcWriter w;

	if (dc_gossip_decode(bytes, length, &message, &detail) != DC_OK)
	{
		check(!must_decode);
		return;
	}
	dc_writer_init(&w, again, sizeof(again));
	dc_gossip_encode(&w, &message);
	check(w.status == DC_OK && w.length == length &&
		  memcmp(again, bytes, length) == 0);
}

static void
check_output(size_t received, bool answerable)
{
	check(output.send_count <= DC_GOSSIP_SENDS_MAX);
	check(output.event_count <= DC_GOSSIP_EVENTS_MAX);
	for (uint32_t i = 0; i < output.send_count; i++)
	{
		check(output.sends[i].address[0] != '\0');
		check_canonical(output.sends[i].bytes, output.sends[i].length, true);
		/* no amplification towards who did not prove to hear us */
		check(answerable || output.sends[i].length <= received);
	}
}

static void
check_state(void)
{
	uint32_t known = 0;

	check(nodes[0].node_id == 1 && gossip.slot_of[1] == 1);
	for (uint32_t i = 0; i < NODES; i++)
	{
		const DcGossipNode *node = &nodes[i];

		if (node->node_id == 0)
			continue;
		known++;
		check(node->node_id <= DC_NODE_ID_MAX);
		check(gossip.slot_of[node->node_id] == i + 1);
		check(node->config_version <= node->version);
		check(node->state != DC_GOSSIP_DEAD || node->doubt_us != 0);
		check(node->called_us != 0 || node->calls == 0);
		check(strlen(node->name) < sizeof(node->name));
		check(strlen(node->conninfo) < sizeof(node->conninfo));
	}
	for (uint32_t id = 0; id < DC_NODE_IDS; id++)
		known -= gossip.slot_of[id] != 0;
	check(known == 0);
	check(gossip.hello_credit <= 8);
	check(gossip.used >= 1 && gossip.used <= NODES);
	check(gossip.hot_count <= NODES);
	for (uint32_t i = 0; i < gossip.hot_count; i++)
		check(nodes[gossip.hot[i]].listed);
	check(gossip.phi.count <= DC_PHI_WINDOW);
}

static void
put_u64(uint8_t *at, uint64_t value)
{
	for (int i = 0; i < 8; i++)
		at[i] = (uint8_t) (value >> (56 - 8 * i));
}

/* Makes the header one that a member of the cluster could have sent. */
static void
put_right(uint8_t *bytes, size_t length, uint8_t argument, uint64_t sequence)
{
	if (length < DC_GOSSIP_HEADER_BYTES)
		return;
	bytes[0] = DC_GOSSIP_WIRE_VERSION;
	bytes[1] = (uint8_t) (1 + argument % DC_GOSSIP_CLASH);
	bytes[2] = 0;
	bytes[3] = (uint8_t) (1 + argument / 8 % 4);
	put_u64(bytes + 4, CLUSTER);
	put_u64(bytes + 12, argument >> 6 & 1);
	put_u64(bytes + 20, START + (argument >> 7));
	put_u64(bytes + 28, sequence);
	put_u64(bytes + 36, START);
	put_u64(bytes + 44, nodes[0].boot);
}

static void
start(void)
{
	DcGossipConfig config = {.node_id = 1,
							 .incarnation = 1,
							 .cluster_hash = CLUSTER,
							 .wire_version = 1,
							 .interval_us = SECOND,
							 .phi_suspect = DC_GOSSIP_PHI_SUSPECT,
							 .phi_dead = DC_GOSSIP_PHI_DEAD,
							 .forget_us = 3600 * SECOND};
	DcGossipSelf self = {"one", "here", "", "dbname=x"};
	const char *seed = "10.0.0.2:1";

	check(dc_gossip_init(&gossip, &config, nodes, NODES, START, 42) == DC_OK);
	check(dc_gossip_describe(&gossip, &self, START) == DC_OK);
	dc_gossip_set_seeds(&gossip, &seed, 1);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t now_us = START;
	uint64_t sequence = 1;

	start();
	while (size >= 4)
	{
		uint8_t bytes[DC_GOSSIP_BYTES_MAX + 8];
		uint8_t op = data[0];
		uint8_t argument = data[1];
		size_t length = (size_t) data[2] << 8 | data[3];
		bool right = (op & 1) != 0;

		data += 4;
		size -= 4;
		if (op % 4 >= 2)
		{
			now_us += (uint64_t) argument * argument * SECOND / 64;
			dc_gossip_tick(&gossip, now_us, length, &output);
			check_output(0, true);
			check_state();
			continue;
		}
		length = length < size ? length : size;
		length = length < sizeof(bytes) ? length : sizeof(bytes);
		memcpy(bytes, data, length);
		data += length;
		size -= length;
		if (right)
			put_right(bytes, length, argument, sequence++);
		check_canonical(bytes, length, false);
		dc_gossip_receive(&gossip, argument & 1 ? "10.0.0.2:1" : "10.0.0.3:1",
						  bytes, length, now_us, &output);
		check_output(length, right);
		check_state();
	}
	return 0;
}
