/*
 * rsim.h
 *		A checker for the agreed member list (R10): up to seven nodes, a
 *		network that loses, doubles, delays and overtakes, crashes, disks that
 *		are set back, operators who force.  One seed, one run.
 *
 *	node.c      registers, disks, lives, what a node does with a message
 *	net.c       messages in flight, partitions
 *	run.c       the seed's choices; calm at the end, and what must work then
 *	check.c     the oracle
 *	directed.c  schedules by hand
 *	explore.c   every order of the messages of two proposers
 *	main.c      the suite
 *
 * The registers and proposers are the core's; all that travels goes through
 * its codecs.  Clocks are skewed, so that ballots meet in any order.
 */
#ifndef RSIM_H
#define RSIM_H

#include "proposer.h"

#include "../rng.h"

#define NODES_MAX    7 /* ids 1 .. NODES_MAX */
#define MESSAGES_MAX 128
#define BYTES_MAX    320 /* a reply with two lists of NODES_MAX members */
#define DECIDED_MAX  1024
#define ACCEPTED_MAX 2048
#define UNDONE_MAX   256

/* What is left out on the simulator's side; the rest are canaries. */
typedef enum Defect
{
	DEFECT_NONE,
	DEFECT_PROMISE, /* a promise is not durable */
	DEFECT_ACCEPT,  /* what was accepted is not durable */
	DEFECT_BALLOT,  /* a ballot is drawn again after a crash */
	DEFECT_LIFE,    /* a restored disk keeps its incarnation */
	DEFECT_PEEK     /* takeover after a look at the other, no promise */
} Defect;

/* Which runs a canary is searched in. */
typedef enum Profile
{
	PROFILE_ANY,
	PROFILE_TWO,     /* two members, often restored */
	PROFILE_LONE,    /* nodes that are alone, or adrift */
	PROFILE_FORCED,  /* partitions and forced recoveries */
	PROFILE_LIVES,   /* three members, often restored */
	PROFILE_DUEL,    /* three members that crash, and many proposers */
	PROFILE_DIRECTED /* and the number of a schedule */
} Profile;

typedef enum Fault
{
	FAULT_LOSS,
	FAULT_DOUBLE,
	FAULT_PARTITION,
	FAULT_ONE_WAY,
	FAULT_CRASH,
	FAULT_RESTORE,
	FAULT_WIPE,
	FAULT_TIMEOUT,
	FAULT_FORCE,
	FAULT_ABANDON,
	FAULT_TAKEOVER,
	FAULTS
} Fault;

typedef struct Message
{
	bool used;
	bool reply;
	bool meeting; /* not a proposer's */
	uint8_t from;
	uint8_t to;
	uint16_t length;
	uint8_t bytes[BYTES_MAX];
} Message;

typedef struct Node
{
	bool up;
	DcRegister memory;
	DcRegister disk;
	DcRegister backup;
	bool has_backup;
	uint64_t lives; /* the greatest incarnation that it ever had */
	DcHlc last;     /* its clock; survives everything (R14) */
	DcHlc drawn;
	bool draws_again;
	uint64_t skew_us;
	bool proposing;
	DcProposer proposer;
	DcRegisterReply room[NODES_MAX];
} Node;

/* A list that somebody took for decided. */
typedef struct Decided
{
	DcPosition at;
	uint64_t commands;
	DcHlc command;
	uint32_t count;
	DcMember list[NODES_MAX];
} Decided;

/* Who accepted a value under a ballot. */
typedef struct Accepted
{
	DcPosition at; /* of the list before */
	DcHlc ballot;
	uint64_t digest;
	uint32_t by; /* bits */
} Accepted;

typedef struct Stats
{
	uint64_t runs, steps, messages, decided, commands, completed, already,
		refused, undecided, none, liveness, forced_at_end;
	uint64_t fault[FAULTS];
} Stats;

typedef struct Sim
{
	Rng rng;
	uint64_t now_us;
	uint32_t count; /* nodes */
	Node node[NODES_MAX + 1];
	Message message[MESSAGES_MAX];
	bool cut[NODES_MAX + 1][NODES_MAX + 1];
	uint32_t loss, doubles; /* per mille */
	uint32_t restores;      /* per mille of the starts after a crash */
	uint32_t troubles;      /* of about a thousand steps */
	uint32_t eager;         /* per mille of the steps: a proposal begins */
	uint32_t commands;      /* per mille of the proposals */
	uint32_t forces;        /* left */
	Defect defect;
	Profile profile;
	bool trace;
	char failure[200]; /* empty: none */

	Decided decided[DECIDED_MAX];
	uint32_t decided_count;
	Accepted accepted[ACCEPTED_MAX];
	uint32_t accepted_count;
	DcHlc undone[UNDONE_MAX]; /* commands that certainly failed */
	uint32_t undone_count;
	Stats stats;
} Sim;

/* main.c */
__attribute__((format(printf, 2, 3))) void say(Sim *sim, const char *text, ...);
__attribute__((format(printf, 2, 3))) void fail(Sim *sim, const char *text,
												...);

/* net.c */
void net_clear(Sim *sim);
void net_send(Sim *sim, uint32_t from, uint32_t to, bool reply, bool meeting,
			  const void *bytes, size_t length);
bool net_deliver(Sim *sim); /* false: nothing to deliver */
void net_partition(Sim *sim);
void net_heal(Sim *sim);

/* node.c */
void register_copy(DcRegister *to, const DcRegister *from);
void node_start(Sim *sim, uint32_t id);
void node_crash(Sim *sim, uint32_t id);
void node_restore(Sim *sim, uint32_t id, bool wipe);
void node_reborn(Sim *sim, uint32_t id);
void node_persist(Sim *sim, uint32_t id);
void node_receive(Sim *sim, const Message *message);
void node_propose(Sim *sim, uint32_t id, uint32_t via, DcListChange change,
				  uint64_t deadline_us);
void node_force(Sim *sim, uint32_t id, const uint32_t *survivors,
				uint32_t count, uint64_t deadline_us);
void node_pump(Sim *sim, uint32_t id);
void node_timeout(Sim *sim, uint32_t id);
DcHlc node_stamp(Sim *sim, uint32_t id);
void node_look(Sim *sim, uint32_t id, uint32_t other);

/* check.c */
void check_decided(Sim *sim, const DcPosition *at, const DcMembers *list,
				   bool forced);
void check_register(Sim *sim, uint32_t id, const DcRegister *before);
void check_accepted(Sim *sim, uint32_t id, const DcRegisterRequest *request);
void check_outcome(Sim *sim, const DcProposer *p);
bool check_settled(Sim *sim, char *why, size_t size);
bool check_quorate(Sim *sim, uint32_t newest);

/* run.c */
bool run(Sim *sim, uint64_t seed, Defect defect, Profile profile, bool trace);

/* directed.c */
void directed(Sim *sim, uint32_t number);
extern const uint32_t directed_count;

/* explore.c: number of states, 0 if a property does not hold */
uint64_t explore(uint32_t scenario, uint64_t states_max, bool *all,
				 const char **failure);
extern const char *const explore_names[];
extern const uint32_t explore_count;
extern const uint32_t explore_commands; /* one with two commands */

#endif
