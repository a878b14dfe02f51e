/*
 * service_peer.c
 *		Running a service for a role of another node.
 *
 * The transaction becomes that role's for good: until its end, so that
 * deferred triggers and cursors that outlive it run as that role, too, and
 * with no way back to the role that the peer connected as.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"

#include "compat.h"
#include "guc.h"
#include "peer.h"
#include "service.h"
#include "shmem.h"

DC_SQL_FUNCTION(datacake_peer_call);

static bool became;
static Oid peer_user;
static int peer_security;

/* AbortTransaction() has set it back by itself. */
static void
on_transaction_event(XactEvent event, void *arg)
{
	if (became && (event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE))
		SetUserIdAndSecContext(peer_user, peer_security);
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE ||
		event == XACT_EVENT_ABORT)
		became = false;
}

static char *
checked_name(DcSlice name)
{
	if (memchr(name.data, '\0', name.length) != NULL ||
		!pg_verifymbstr((const char *) name.data, (int) name.length, true))
		dc_peer_refuse(DC_MALFORMED, NULL);
	return pnstrdup((const char *) name.data, name.length);
}

static void
become(const char *name, bool superuser_there)
{
	static bool registered = false;
	Oid role = get_role_oid(name, true);

	if (!OidIsValid(role))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role \"%s\" does not exist on node %d", name,
						datacake_node_id),
				 errhint("A service runs as the role that calls it: create "
						 "it on each node.")));
	if (superuser_arg(role) && !superuser_there)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\" is a superuser on node %d, and not on "
						"node %u, which calls",
						name, datacake_node_id, dc_peer_node())));
	if (!registered)
		RegisterXactCallback(on_transaction_event, NULL);
	registered = true;
	GetUserIdAndSecContext(&peer_user, &peer_security);
	SetUserIdAndSecContext(role, peer_security | SECURITY_LOCAL_USERID_CHANGE);
	became = true;
}

/* datacake.peer_call(bytea) returns bytea */
Datum
datacake_peer_call(PG_FUNCTION_ARGS)
{
	bytea *sealed = PG_GETARG_BYTEA_PP(0);
	DcServiceRequest request;
	DcStatus status;
	DcSlice plain;
	DcSlice value;
	Datum payload;
	Datum result;
	bool is_null;
	DcWriter w;
	uint8 *out;

	dc_require_loaded();
	plain = dc_peer_open(sealed, DC_SESSION_QUESTIONS);
	dc_peer_require_member();
	status = dc_service_request_decode(plain.data, plain.length, &request);
	if (status != DC_OK)
		dc_peer_refuse(status, "Run compatible versions of Datacake.");
	become(checked_name(request.role), request.superuser);
	payload = dc_service_datum(request.payload, &is_null);
	result = dc_service_run(checked_name(request.service), payload, is_null,
							request.depth, &is_null);
	value = dc_service_value(result, is_null, "result");
	dc_writer_init(&w, NULL, 0);
	dc_service_result_encode(&w, value);
	out = MemoryContextAllocHuge(CurrentMemoryContext, w.length);
	dc_writer_init(&w, out, w.length);
	dc_service_result_encode(&w, value);
	PG_RETURN_BYTEA_P(dc_peer_seal(out, w.length));
}
