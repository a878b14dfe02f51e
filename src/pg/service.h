/*
 * service.h
 *		Services: functions of one node that roles on other nodes may run.
 *
 *	 call() ----> this node: run here
 *	        \---> other node: caller.h ----> peer_call() ----> run there
 *
 * A service is a row of datacake.service, of this node alone: a name and a
 * function jsonb -> jsonb, or a symbol of a library.  It runs as the role that called, which must be
 * there and allowed to execute the function, and is as much a superuser as
 * that role is on both nodes.  Not the peer's role, no replica role (P17).
 *
 * What is remembered of the function is how it is called and who owns it, not
 * its OID, which pg_upgrade and a dump do not keep; if somebody else owns a
 * function of that name by now, it is not the registered one.
 */
#ifndef DATACAKE_SERVICE_H
#define DATACAKE_SERVICE_H

#include "postgres.h"

#include "caller.h"

/* SQLSTATEs; 08007 is: it was called, and what became of it is not known. */
#define DC_ERRCODE_NO_SERVICE      MAKE_SQLSTATE('Y', 'D', '0', '4', '0')
#define DC_ERRCODE_SERVICE_TIMEOUT MAKE_SQLSTATE('Y', 'D', '0', '4', '1')
#define DC_ERRCODE_LEVEL_HOPELESS  MAKE_SQLSTATE('Y', 'D', '0', '4', '2')
#define DC_ERRCODE_LEVEL_NOT_MET   MAKE_SQLSTATE('Y', 'D', '0', '4', '3')

/*
 * Runs a service of this node as the current role, with search_path pinned to
 * pg_catalog; settings that it changes are set back.  `depth` counts services
 * that call services.  ERROR YD040 if there is none of that name.
 */
extern Datum dc_service_run(const char *service, Datum payload, bool is_null,
							uint32 depth, bool *result_is_null);

/* How deep the service that runs now is nested; 0: none runs. */
extern uint32 dc_service_depth(void);

/*
 * The same with a limit of time for this node's own calls: ERROR YD041, and
 * what it did is rolled back with that error as with any other.
 */
extern Datum dc_service_run_here(const char *service, Datum payload,
								 bool is_null, int timeout_ms,
								 bool *result_is_null);

/*
 * A call of other nodes, without waiting: begin, ask one or several, go on
 * with the ask (caller.h), take each reply that is over.  The ask owns it all.
 */
typedef struct DcServiceCall DcServiceCall;

extern DcServiceCall *dc_service_call_begin(const char *service, Datum payload,
											bool is_null, long timeout_ms);
extern DcAsk *dc_service_call_ask(DcServiceCall *call, uint32 node_id);

/* What the service returned; raises what the reply says instead. */
extern Datum dc_service_call_result(DcServiceCall *call, DcReply *reply,
									bool *is_null);

/*
 * Registers a symbol of a library (datacake_api.h); by a superuser.  And takes
 * back either kind.
 */
extern void dc_service_register_symbol(const char *name, const char *library,
									   const char *symbol, const char *role);
extern void dc_service_unregister(const char *name);

/* JSON as text, as messages carry it; palloc'd. */
extern DcSlice dc_service_value(Datum value, bool is_null, const char *what);
extern Datum dc_service_datum(DcSlice value, bool *is_null);

#endif
