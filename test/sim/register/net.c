/*
 * net.c
 *		Messages in flight.
 */
#include "rsim.h"

#include <string.h>

void
net_clear(Sim *sim)
{
	for (uint32_t i = 0; i < MESSAGES_MAX; i++)
		sim->message[i].used = false;
}

/* What finds no room takes the place of another: that one is lost. */
void
net_send(Sim *sim, uint32_t from, uint32_t to, bool reply, bool meeting,
		 const void *bytes, size_t length)
{
	uint32_t at = rng_below(&sim->rng, MESSAGES_MAX);
	Message *message;

	for (uint32_t i = 0; i < MESSAGES_MAX && sim->message[at].used; i++)
		at = (at + 1) % MESSAGES_MAX;
	message = &sim->message[at];
	message->used = true;
	message->reply = reply;
	message->meeting = meeting;
	message->from = (uint8_t) from;
	message->to = (uint8_t) to;
	message->length = (uint16_t) length;
	memcpy(message->bytes, bytes, length);
	sim->stats.messages++;
}

bool
net_deliver(Sim *sim)
{
	uint32_t at = rng_below(&sim->rng, MESSAGES_MAX);
	Message message;

	for (uint32_t i = 0; i < MESSAGES_MAX && !sim->message[at].used; i++)
		at = (at + 1) % MESSAGES_MAX;
	if (!sim->message[at].used)
		return false;
	message = sim->message[at];
	if (rng_below(&sim->rng, 1000) < sim->doubles)
		sim->stats.fault[FAULT_DOUBLE]++;
	else
		sim->message[at].used = false;
	if (message.from != message.to && (sim->cut[message.from][message.to] ||
									   rng_below(&sim->rng, 1000) < sim->loss))
	{
		sim->message[at].used = false;
		sim->stats.fault[FAULT_LOSS]++;
		return true;
	}
	node_receive(sim, &message);
	return true;
}

/* Two sides; sometimes one of them still hears the other. */
void
net_partition(Sim *sim)
{
	uint32_t side = rng_below(&sim->rng, 1u << sim->count) << 1;
	bool one_way = rng_below(&sim->rng, 4) == 0;

	sim->stats.fault[one_way ? FAULT_ONE_WAY : FAULT_PARTITION]++;
	for (uint32_t a = 1; a <= sim->count; a++)
	{
		for (uint32_t b = 1; b <= sim->count; b++)
		{
			bool in = (side >> a & 1) != 0;
			bool out = (side >> b & 1) == 0;

			sim->cut[a][b] = in && out;
			if (!one_way)
				sim->cut[a][b] |= !in && !out;
		}
	}
}

void
net_heal(Sim *sim)
{
	memset(sim->cut, 0, sizeof(sim->cut));
}
