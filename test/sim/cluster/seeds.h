/*
 * seeds.h
 *		Seeds that once failed, and what mended them.  Replayed first.
 *
 * A change of what the model draws makes other runs of them; they stay, since
 * they cost nothing.
 */
#ifndef CLUSTER_SEEDS_H
#define CLUSTER_SEEDS_H

typedef struct Seed
{
	Trouble trouble;
	uint64_t seed;
	const char *fix;
} Seed;

static const Seed corpus[] = {
	{TROUBLE_ANY, 32, "who is the last of a cluster is no newcomer"},
	{TROUBLE_ANY, 665, "g and the set that it counted are one value"},
	{TROUBLE_ANY, 739, "a joiner waits for its older transactions"},
	{TROUBLE_ANY, 799, "an idle session to a restarted peer is noticed"},
	{TROUBLE_ANY, 2234, "a donor of last resort"},
	{TROUBLE_ANY, 296, "a joiner's own deaths are judged"},
	{TROUBLE_CRASH, 191, "a snapshot takes longer than clocks may differ"},
	{TROUBLE_RESTORE, 442, "what only a removed node has may be lost"},
	{TROUBLE_RESTORE, 155, "own writes that came back: a catch-up is owed"},
	{TROUBLE_REMOVE, 98, "rejoin asks for the horizon, not for the source"},
	{TROUBLE_RESTORE, 408, "nothing counts as taken that is not on disk"},
	{TROUBLE_RESTORE, 553, "the end of joining owes a catch-up, too"},
	{TROUBLE_RESTORE, 603, "who is pushed a row observes its stamp"},
	{TROUBLE_NET, 181, "the donor of last resort reaches g"},
	{TROUBLE_ANY, 1527, "a newborn ships nothing unjudged to joiners"},
	{TROUBLE_RESTORE, 1107, "a newborn gives back what is not its own"},
	{TROUBLE_REMOVE, 1894, "a new incarnation ends the sessions to it"},
	{TROUBLE_ANY, 2885, "who must compare says so when it comes to know"},
	{TROUBLE_ANY, 3271, "a new life writes when it has met the others"},
	{TROUBLE_RESTORE, 3053, "gossip tells of a later incarnation"},
	{TROUBLE_RESTORE, 4231, "who begins to join says hello again"},
	{TROUBLE_RESTORE, 593, "a newborn with a full queue gives back, too"},
	{TROUBLE_ANY, 2682, "a newcomer decides by welcomes, and by a flag"},
	{TROUBLE_JOIN, 45, "newborns who meet at once need a first one, too"},
	{TROUBLE_ANY, 5088, "R does not judge the entries of others"},
	{TROUBLE_ANY, 5623, "an ack belongs to one catch-up"},
	{TROUBLE_ANY, 6893, "what only an outcast has may be lost"},
	{TROUBLE_CLONE, 30, "who is left of two servers speaks for the node"},
	{TROUBLE_ANY, 594, "what was left to others is paid, not only claimed"},
	{TROUBLE_ANY, 2214, "a joiner's death that was not to count is nowhere"},
	{TROUBLE_RESTORE, 166, "who joins says hello again to who joined, too"},
};
#define CORPUS (sizeof(corpus) / sizeof(corpus[0]))

#endif
