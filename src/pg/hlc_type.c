/*
 * hlc_type.c
 *		The SQL type datacake.hlc.
 */
#include "postgres.h"

#include "fmgr.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "compat.h"
#include "hlc.h"

DC_SQL_FUNCTION(datacake_hlc_in);
DC_SQL_FUNCTION(datacake_hlc_out);
DC_SQL_FUNCTION(datacake_hlc_recv);
DC_SQL_FUNCTION(datacake_hlc_send);
DC_SQL_FUNCTION(datacake_hlc_from_bigint);
DC_SQL_FUNCTION(datacake_hlc_to_timestamptz);
DC_SQL_FUNCTION(datacake_node_of);

static void
out_of_range(const char *text)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
					errmsg("invalid input syntax for type %s: \"%s\"",
						   "datacake.hlc", text),
					errhint("Write a stamp as "
							"\"2026-11-20 17:30:00.123456+00@3\", or as a "
							"non-negative bigint.")));
}

/* "timestamp@node", or a non-negative bigint, or "-" for no stamp */
Datum
datacake_hlc_in(PG_FUNCTION_ARGS)
{
	char *text = PG_GETARG_CSTRING(0);
	char *at = strrchr(text, '@');
	char *end;
	long node;
	TimestampTz time;

	if (strcmp(text, "-") == 0)
		PG_RETURN_INT64(0);
	if (at == NULL)
	{
		int64 number;

		errno = 0;
		number = strtoll(text, &end, 10);
		if (errno != 0 || end == text || *end != '\0' || number < 0)
			out_of_range(text);
		PG_RETURN_INT64(number);
	}
	node = strtol(at + 1, &end, 10);
	if (end == at + 1 || *end != '\0' || node < 1 || node > DC_NODE_ID_MAX)
		out_of_range(text);
	time = DatumGetTimestampTz(
		DirectFunctionCall3(timestamptz_in,
							CStringGetDatum(pnstrdup(text, (Size) (at - text))),
							ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	if (time < 0 || (uint64) time > DC_HLC_US_MAX)
		out_of_range(text);
	PG_RETURN_INT64((int64) dc_hlc_make((uint64) time, (uint32) node));
}

Datum
datacake_hlc_out(PG_FUNCTION_ARGS)
{
	PG_RETURN_CSTRING(dc_hlc_out((DcHlc) PG_GETARG_INT64(0)));
}

Datum
datacake_hlc_recv(PG_FUNCTION_ARGS)
{
	int64 value = pq_getmsgint64((StringInfo) PG_GETARG_POINTER(0));

	if (value < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
						errmsg("stamp is negative")));
	PG_RETURN_INT64(value);
}

Datum
datacake_hlc_send(PG_FUNCTION_ARGS)
{
	StringInfoData buffer;

	pq_begintypsend(&buffer);
	pq_sendint64(&buffer, PG_GETARG_INT64(0));
	PG_RETURN_BYTEA_P(pq_endtypsend(&buffer));
}

Datum
datacake_hlc_from_bigint(PG_FUNCTION_ARGS)
{
	int64 value = PG_GETARG_INT64(0);

	if (value < 0)
		ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
						errmsg("stamp is negative")));
	PG_RETURN_INT64(value);
}

Datum
datacake_hlc_to_timestamptz(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(
		(TimestampTz) dc_hlc_time_us((DcHlc) PG_GETARG_INT64(0)));
}

/* datacake.node_of(hlc): the node that drew a stamp */
Datum
datacake_node_of(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32((int32) dc_hlc_node_id((DcHlc) PG_GETARG_INT64(0)));
}
