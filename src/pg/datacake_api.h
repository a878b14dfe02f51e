/*
 * datacake_api.h
 *		What Datacake offers to other extensions in C.
 *
 * The only header that is installed; it needs PostgreSQL's and no library.
 *
 *		#include "extension/datacake/datacake_api.h"
 *
 *		const DatacakeApi *datacake = datacake_api();
 *		DatacakeStamp stamp = datacake->clock_draw();
 *
 * The functions are found by a rendezvous variable, which the library sets
 * when the server preloads it: "datacake" must be in shared_preload_libraries,
 * before libraries that ask for it in their _PG_init().  They are for backends
 * and background workers, called like any function of the server: from the one
 * thread, not in a signal handler, and what goes wrong is an ERROR.  Results
 * are palloc'd in the current memory context.
 *
 * Versions: `version` changes when something changes its meaning; functions
 * that are added stand at the end and make `size` grow.  A library that was
 * built with an older header of the same version works.
 */
#ifndef DATACAKE_API_H
#define DATACAKE_API_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "fmgr.h"

#define DATACAKE_API_VERSION  1
#define DATACAKE_API_VARIABLE "datacake_api"

#define DATACAKE_NAME_BYTES    64
#define DATACAKE_ADDRESS_BYTES 128

/* A stamp of the cluster clock, the type datacake.hlc; 0: none. */
typedef uint64 DatacakeStamp;

/* --- members --- */

typedef enum DatacakeState
{
	DATACAKE_UNKNOWN, /* told of, not heard */
	DATACAKE_ALIVE,
	DATACAKE_SUSPECT,
	DATACAKE_DEAD,
	DATACAKE_LEFT
} DatacakeState;

typedef struct DatacakeNode
{
	uint32 node_id;
	bool local;  /* this one */
	bool member; /* present in the member list */
	DatacakeState state;
	uint64 incarnation;
	TimestampTz since; /* of the state */
	int64 clock_offset_us;
	char name[DATACAKE_NAME_BYTES];
	char data_center[DATACAKE_NAME_BYTES];
	char address[DATACAKE_ADDRESS_BYTES];
} DatacakeNode;

/*
 * One node is not what it was: `before` NULL: it is new, `after` NULL: it is
 * gone from the list of nodes.  Both are valid during the call.
 */
typedef void (*DatacakeNodeCallback)(const DatacakeNode *before,
									 const DatacakeNode *after, void *arg);

/* --- services --- */

/*
 * A service in C: jsonb in and out, either may be null.  Runs as the role that
 * called, in a transaction, on the node where it is registered.
 */
typedef Datum (*DatacakeService)(Datum payload, bool payload_is_null,
								 bool *result_is_null);

/* A service being called on another node. */
typedef struct DatacakeCall DatacakeCall;

/* --- selectors --- */

/* A member that may be asked. */
typedef struct DatacakeCandidate
{
	uint32 node_id;
	bool local;
	bool alive;
	int64 lag_us; /* from commit here to its last ack; -1: not known */
	char data_center[DATACAKE_NAME_BYTES];
} DatacakeCandidate;

/*
 * Picks whom a read asks at this level: writes node ids to `chosen`, which has
 * room for all candidates, those to be asked first in front, and returns how
 * many.  If one of them is not alive or no candidate, or all of them do not
 * meet the level, a WARNING says so and the order of the default is used.
 */
typedef int (*DatacakeSelector)(const DatacakeCandidate *candidates, int count,
								const char *level, uint32 *chosen);

/* --- the functions --- */

typedef struct DatacakeApi
{
	uint32 version;
	uint32 size; /* of this struct, as Datacake was built */

	/* Draws a stamp: greater than all that this node has drawn or seen. */
	DatacakeStamp (*clock_draw)(void);

	/*
	 * Takes in a stamp from elsewhere: later ones are greater.  ERROR YD022 if
	 * it lies ahead by more than datacake.max_clock_drift.
	 */
	void (*clock_observe)(DatacakeStamp stamp);
	char *(*stamp_format)(DatacakeStamp stamp);
	uint32 (*stamp_node)(DatacakeStamp stamp);
	TimestampTz (*stamp_time)(DatacakeStamp stamp);

	/* The nodes as this one sees them now, by node id. */
	DatacakeNode *(*nodes)(int *count);

	/*
	 * Registers a callback in this process, for as long as it lives.  Nothing
	 * interrupts a process: the callbacks run inside nodes_poll(), which the
	 * process calls when it is woken or now and then, and see the differences
	 * since it called last (at first: since nodes_watch).  What came and went
	 * in between is not seen.  An ERROR of a callback is the caller's; the
	 * differences that were not told are told next time.  Returns how many
	 * there were.
	 */
	void (*nodes_watch)(DatacakeNodeCallback callback, void *arg);
	int (*nodes_poll)(void);

	/*
	 * Registers a service of this node, as datacake.register_service() does; a
	 * symbol of a library rather than a function of the database.  `role`:
	 * only its members may call; NULL: everybody who may use datacake.call().
	 * By a superuser, in a transaction, with whose commit it takes effect.
	 */
	void (*service_register)(const char *name, const char *library,
							 const char *symbol, const char *role);
	void (*service_unregister)(const char *name);

	/*
	 * Calls a service of another node as the current role, without waiting.
	 * The caller waits for `call_socket` (WL_SOCKET_* in *events; the socket
	 * may be another one each time; PGINVALID_SOCKET: none at the moment) or
	 * for at most *wait_ms, and then asks call_poll(): true when it is over.
	 * call_result() raises its error, or returns what it returned.  call_end()
	 * cancels a call that is not over.  It ends with the memory context in
	 * which it was begun as well.
	 */
	DatacakeCall *(*call_begin)(uint32 node_id, const char *service,
								Datum payload, bool payload_is_null,
								int timeout_ms);
	pgsocket (*call_socket)(DatacakeCall *call, uint32 *events, long *wait_ms);
	bool (*call_poll)(DatacakeCall *call);
	Datum (*call_result)(DatacakeCall *call, bool *is_null);
	void (*call_end)(DatacakeCall *call);

	/*
	 * Registers a selector in this process, NULL: no longer; in _PG_init() of a
	 * preloaded library in all processes.  It is asked where the setting
	 * datacake.selector is its name.
	 */
	void (*selector_register)(const char *name, DatacakeSelector selector);

	/* Whom it would choose now; returns how many; chosen[] is palloc'd. */
	int (*selector_choose)(const char *level, uint32 **chosen);
} DatacakeApi;

/* ERROR unless a Datacake of this version is loaded. */
static inline const DatacakeApi *
datacake_api(void)
{
	const DatacakeApi *api =
		*(const DatacakeApi **) find_rendezvous_variable(DATACAKE_API_VARIABLE);

	if (api == NULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("datacake is not loaded"),
						errhint("Add \"datacake\" to "
								"\"shared_preload_libraries\", in front of "
								"what uses it, and restart the server.")));
	if (api->version != DATACAKE_API_VERSION || api->size < sizeof(DatacakeApi))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("datacake has version %u of its C interface, this "
						"library was built for %u",
						api->version, (unsigned) DATACAKE_API_VERSION),
				 errhint("Build the library with the header of the installed "
						 "datacake.")));
	return api;
}

#endif
