/*
 * api_example.c
 *		A small extension that uses everything datacake_api.h offers.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/wait_event.h"

#include "extension/datacake/datacake_api.h"

PG_MODULE_MAGIC;

void _PG_init(void);
Datum example_service(Datum payload, bool payload_is_null,
					  bool *result_is_null);

PG_FUNCTION_INFO_V1(example_stamp);
PG_FUNCTION_INFO_V1(example_observe);
PG_FUNCTION_INFO_V1(example_nodes);
PG_FUNCTION_INFO_V1(example_watch);
PG_FUNCTION_INFO_V1(example_poll);
PG_FUNCTION_INFO_V1(example_register);
PG_FUNCTION_INFO_V1(example_unregister);
PG_FUNCTION_INFO_V1(example_call);
PG_FUNCTION_INFO_V1(example_choose);

/* --- clock --- */

/* "time@node 123 node": a stamp in all its forms */
Datum
example_stamp(PG_FUNCTION_ARGS)
{
	const DatacakeApi *datacake = datacake_api();
	DatacakeStamp stamp = datacake->clock_draw();

	PG_RETURN_TEXT_P(
		cstring_to_text(psprintf("%s %lld %u", datacake->stamp_format(stamp),
								 (long long) datacake->stamp_time(stamp),
								 datacake->stamp_node(stamp))));
}

/* Is a stamp that is drawn later greater? */
Datum
example_observe(PG_FUNCTION_ARGS)
{
	const DatacakeApi *datacake = datacake_api();
	DatacakeStamp stamp = (DatacakeStamp) PG_GETARG_INT64(0);

	datacake->clock_observe(stamp);
	PG_RETURN_BOOL(datacake->clock_draw() > stamp);
}

/* --- nodes --- */

static const char *const states[] = {"unknown", "alive", "suspect", "dead",
									 "left"};

Datum
example_nodes(PG_FUNCTION_ARGS)
{
	StringInfoData out;
	int count;
	DatacakeNode *nodes = datacake_api()->nodes(&count);

	initStringInfo(&out);
	for (int i = 0; i < count; i++)
		appendStringInfo(&out, "%s%u %s %s %s%s%s", i > 0 ? ", " : "",
						 nodes[i].node_id, nodes[i].name, nodes[i].data_center,
						 states[nodes[i].state],
						 nodes[i].member ? " member" : "",
						 nodes[i].local ? " local" : "");
	PG_RETURN_TEXT_P(cstring_to_text(out.data));
}

static StringInfo changes;

static void
note_change(const DatacakeNode *before, const DatacakeNode *after, void *arg)
{
	appendStringInfo(changes, "%s%u %s -> %s", changes->len > 0 ? ", " : "",
					 before != NULL ? before->node_id : after->node_id,
					 before != NULL ? states[before->state] : "none",
					 after != NULL ? states[after->state] : "none");
	if (before != NULL && after != NULL &&
		strcmp(before->data_center, after->data_center) != 0)
		appendStringInfoString(changes, " moved");
	if (*(int *) arg != 42)
		elog(ERROR, "callback got another argument");
}

Datum
example_watch(PG_FUNCTION_ARGS)
{
	static int answer = 42;

	datacake_api()->nodes_watch(note_change, &answer);
	PG_RETURN_VOID();
}

/* What changed since the last time */
Datum
example_poll(PG_FUNCTION_ARGS)
{
	changes = makeStringInfo();
	(void) datacake_api()->nodes_poll();
	PG_RETURN_TEXT_P(cstring_to_text(changes->data));
}

/* --- services --- */

/* Who runs me?  An error, if I am given null. */
Datum
example_service(Datum payload, bool payload_is_null, bool *result_is_null)
{
	if (payload_is_null)
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("nothing is not enough")));
	*result_is_null = false;
	return DirectFunctionCall1(jsonb_in,
							   CStringGetDatum(
								   psprintf("[\"%s\", %s]",
											GetUserNameFromId(GetUserId(),
															  false),
											DatumGetCString(
												DirectFunctionCall1(jsonb_out,
																	payload)))));
}

/* (name, library, role) */
Datum
example_register(PG_FUNCTION_ARGS)
{
	datacake_api()->service_register(text_to_cstring(PG_GETARG_TEXT_PP(0)),
									 text_to_cstring(PG_GETARG_TEXT_PP(1)),
									 "example_service",
									 PG_ARGISNULL(2) ?
										 NULL :
										 text_to_cstring(PG_GETARG_TEXT_PP(2)));
	PG_RETURN_VOID();
}

Datum
example_unregister(PG_FUNCTION_ARGS)
{
	datacake_api()->service_unregister(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	PG_RETURN_VOID();
}

/* Waits until one of the calls can go on. */
static void
wait_for_calls(DatacakeCall **calls, int count)
{
	const DatacakeApi *datacake = datacake_api();
	WaitEventSet *set = CreateWaitEventSet(CurrentMemoryContext, count + 2);
	long wait_ms = 1000;
	WaitEvent event;

	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	for (int i = 0; i < count; i++)
	{
		uint32 events;
		long most_ms;
		pgsocket fd;

		if (datacake->call_poll(calls[i]))
			continue;
		fd = datacake->call_socket(calls[i], &events, &most_ms);
		if (fd != PGINVALID_SOCKET)
			AddWaitEventToSet(set, events, fd, NULL, NULL);
		wait_ms = Min(wait_ms, most_ms);
	}
	(void) WaitEventSetWait(set, wait_ms, &event, 1, PG_WAIT_EXTENSION);
	FreeWaitEventSet(set);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* (node ids, service, payload, timeout in ms): the answers, one after another;
 * all nodes are called at once */
Datum
example_call(PG_FUNCTION_ARGS)
{
	const DatacakeApi *datacake = datacake_api();
	ArrayType *array = PG_GETARG_ARRAYTYPE_P(0);
	int count = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	int32 *node_ids = (int32 *) ARR_DATA_PTR(array);
	DatacakeCall **calls = palloc(sizeof(DatacakeCall *) * (count + 1));
	StringInfoData out;
	int over;

	for (int i = 0; i < count; i++)
		calls[i] = datacake->call_begin((uint32) node_ids[i],
										text_to_cstring(PG_GETARG_TEXT_PP(1)),
										PG_ARGISNULL(2) ? (Datum) 0 :
														  PG_GETARG_DATUM(2),
										PG_ARGISNULL(2), PG_GETARG_INT32(3));
	do
	{
		over = 0;
		for (int i = 0; i < count; i++)
			over += datacake->call_poll(calls[i]);
		if (over < count)
			wait_for_calls(calls, count);
	} while (over < count);

	initStringInfo(&out);
	for (int i = 0; i < count; i++)
	{
		bool is_null;
		Datum result = datacake->call_result(calls[i], &is_null);

		appendStringInfo(&out, "%s%s", i > 0 ? " " : "",
						 is_null ? "null" :
								   DatumGetCString(
									   DirectFunctionCall1(jsonb_out, result)));
		datacake->call_end(calls[i]);
	}
	PG_RETURN_TEXT_P(cstring_to_text(out.data));
}

/* --- a selector: what a setting says --- */

static char *choice;

static int
choose(const DatacakeCandidate *candidates, int count, const char *level,
	   uint32 *chosen)
{
	char *rest = choice;
	int n = 0;

	while (*rest != '\0' && n < count)
	{
		chosen[n++] = (uint32) strtoul(rest, &rest, 10);
		rest += *rest != '\0';
	}
	return n;
}

Datum
example_choose(PG_FUNCTION_ARGS)
{
	StringInfoData out;
	uint32 *chosen;
	int count =
		datacake_api()->selector_choose(text_to_cstring(PG_GETARG_TEXT_PP(0)),
										&chosen);

	initStringInfo(&out);
	for (int i = 0; i < count; i++)
		appendStringInfo(&out, "%s%u", i > 0 ? " " : "", chosen[i]);
	PG_RETURN_TEXT_P(cstring_to_text(out.data));
}

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	DefineCustomStringVariable("api_example.choice",
							   "Node ids that the selector chooses.", NULL,
							   &choice, "", PGC_USERSET, 0, NULL, NULL, NULL);
	datacake_api()->selector_register("example", choose);
}
