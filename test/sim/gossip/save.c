/*
 * save.c
 *		A world in a file, so that a day need not be simulated at one sitting.
 *
 *		World | for each host: DcGossip, used nodes, its socket | wheel
 *
 * Structs as they lie in memory, lists of packets behind their length: for the
 * program that wrote it and for no other, which is why the file begins with
 * the sizes of what it holds.
 */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Head
{
	char magic[8];
	uint64_t world_bytes;
	uint64_t gossip_bytes;
	uint64_t node_bytes;
} Head;

static const Head head = {"dcworld", sizeof(World), sizeof(DcGossip),
						  sizeof(DcGossipNode)};

static bool
put(FILE *file, const void *data, size_t bytes)
{
	return fwrite(data, 1, bytes, file) == bytes;
}

static bool
get(FILE *file, void *data, size_t bytes)
{
	return fread(data, 1, bytes, file) == bytes;
}

/* ---- lists of packets ---------------------------------------------------- */

static bool
put_packets(FILE *file, const Packet *first)
{
	uint32_t count = 0;
	bool done;

	for (const Packet *packet = first; packet != NULL; packet = packet->next)
		count++;
	done = put(file, &count, sizeof(count));
	for (const Packet *packet = first; packet != NULL; packet = packet->next)
		done = done && put(file, packet, sizeof(*packet));
	return done;
}

/* Returns where the next of the list would hang; NULL: the file is short. */
static Packet **
get_packets(FILE *file, Packet **end)
{
	uint32_t count;

	*end = NULL;
	if (!get(file, &count, sizeof(count)))
		return NULL;
	while (count-- > 0)
	{
		Packet *packet = malloc(sizeof(*packet));

		if (packet == NULL)
			abort();
		if (!get(file, packet, sizeof(*packet)))
		{
			free(packet);
			return NULL;
		}
		packet->next = NULL;
		*end = packet;
		end = &packet->next;
	}
	return end;
}

/* ---- worlds -------------------------------------------------------------- */

static bool
put_host(FILE *file, const Host *host)
{
	const DcGossip *g = host->gossip;

	return g == NULL ||
		   (put(file, g, sizeof(*g)) &&
			put(file, host->nodes, g->used * sizeof(*host->nodes)) &&
			put_packets(file, host->socket));
}

/* What the host points to was another world's. */
static bool
get_host(FILE *file, Host *host)
{
	DcGossip *g;

	if (host->gossip == NULL)
		return true;
	g = host->gossip = malloc(sizeof(*host->gossip));
	host->nodes = calloc(DC_NODE_ID_MAX, sizeof(*host->nodes));
	if (g == NULL || host->nodes == NULL)
		abort();
	host->socket = NULL;
	if (!get(file, g, sizeof(*g)) || g->used > DC_NODE_ID_MAX ||
		!get(file, host->nodes, g->used * sizeof(*host->nodes)))
		return false;
	g->nodes = host->nodes;
	host->socket_end = get_packets(file, &host->socket);
	return host->socket_end != NULL;
}

bool
world_save(const World *w, const char *path)
{
	char unfinished[4096];
	FILE *file;
	bool done;

	snprintf(unfinished, sizeof(unfinished), "%s.new", path);
	file = fopen(unfinished, "wb");
	if (file == NULL)
		return false;
	done = put(file, &head, sizeof(head)) && put(file, w, sizeof(*w));
	for (uint32_t i = 0; i < HOSTS_MAX; i++)
		done = done && put_host(file, &w->hosts[i]);
	for (uint32_t i = 0; i < WHEEL; i++)
		done = done && put_packets(file, w->wheel[i]);
	done = fclose(file) == 0 && done;
	return done && rename(unfinished, path) == 0;
}

/* The pointers that came with the file are replaced or forgotten, all of them. */
static bool
get_world(FILE *file, World *w)
{
	bool done = true;

	w->spare = NULL;
	memset(w->wheel, 0, sizeof(w->wheel));
	for (uint32_t i = 0; i < HOSTS_MAX; i++)
	{
		if (done)
			done = get_host(file, &w->hosts[i]);
		else
			memset(&w->hosts[i], 0, sizeof(w->hosts[i]));
	}
	for (uint32_t i = 0; i < WHEEL && done; i++)
		done = get_packets(file, &w->wheel[i]) != NULL;
	return done;
}

World *
world_load(const char *path)
{
	FILE *file = fopen(path, "rb");
	World *w = calloc(1, sizeof(*w));
	Head found;

	if (w == NULL)
		abort();
	if (file != NULL && get(file, &found, sizeof(found)) &&
		memcmp(&found, &head, sizeof(head)) == 0 && get(file, w, sizeof(*w)) &&
		get_world(file, w))
	{
		fclose(file);
		return w;
	}
	if (file != NULL)
		fclose(file);
	world_free(w);
	return NULL;
}
