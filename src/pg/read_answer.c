/*
 * read_answer.c
 *		What a node knows of some keys of a keyspace, as it tells a reader.
 */
#include "read_answer.h"

#include "catalog/pg_authid.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/wait_event.h"

#include "changes.h"
#include "clock.h"
#include "compat.h"
#include "metadata.h"
#include "peer.h"
#include "sql.h"
#include "standing.h"

DC_SQL_FUNCTION(datacake_peer_read);

#define ROWS_BYTES ((Size) 8 * 1024 * 1024)
#define TRIES      100
#define PAUSE_MS   10

/* The states become those that a reader can use; false: look again. */
static bool
settle(int slot, const DcSlice *keys, uint32 taken, bool own, uint8 *found)
{
	for (uint32 i = 0; i < taken; i++)
	{
		if (found[i] != DC_KEY_UNSETTLED)
			continue;
		if (!own || dc_change_own_death(slot, dc_key_make(keys[i].data,
														  keys[i].length)) ==
						DC_HLC_NONE)
			return false;
	}
	return true;
}

/*
 * A commit becomes visible a moment before it is merged, and a table may be
 * locked for a moment: such keys are looked at again.  0: to no avail.
 */
static uint32
read_settled(int slot, const DcSlice *keys, uint32 count, bool own,
			 uint8 *found, StringInfo parts)
{
	uint32 rows = 0;

	for (int i = 0; i < TRIES; i++)
	{
		uint32 taken;

		resetStringInfo(parts);
		taken =
			dc_catchup_rows(slot, keys, count, ROWS_BYTES, parts, &rows, found);
		if (taken > 0 && settle(slot, keys, taken, own, found))
			return taken;
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 PAUSE_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	return 0;
}

DcStatus
dc_read_answer(uint64 keyspace, const DcSlice *keys, uint32 count, bool own,
			   StringInfo answer)
{
	int slot = dc_keyspace_by_id(keyspace);
	uint8 *found = palloc(count + 1);
	StringInfo parts = makeStringInfo();
	uint8 head[32];
	uint32 taken;
	DcWriter w;

	if (slot < 0)
		return DC_UNKNOWN_KEYSPACE;
	taken = read_settled(slot, keys, count, own, found, parts);
	if (taken == 0)
		return DC_UNSETTLED;
	dc_writer_init(&w, head, sizeof(head));
	if (!own)
		w.version = dc_peer_version();
	dc_write_version(&w);
	dc_write_u8(&w, 'V');
	dc_write_u64(&w, dc_floor(slot));
	dc_write_varint(&w, taken);
	appendBinaryStringInfo(answer, (char *) head, (int) w.length);
	appendBinaryStringInfo(answer, (char *) found, (int) taken);
	appendBinaryStringInfo(answer, parts->data, parts->len);
	appendStringInfoChar(answer, DC_PART_END);
	dc_flush_all(); /* rows are visible before their commit is flushed */
	return DC_OK;
}

/* --- for peers --- */

static DcSlice *
read_question(DcSlice plain, uint64 *keyspace, uint32 *count)
{
	DcReader r;
	DcSlice *keys;

	dc_reader_init(&r, plain.data, plain.length);
	dc_read_version(&r);
	if (dc_read_u8(&r) != 'V')
		dc_reader_fail(&r, DC_MALFORMED);
	*keyspace = dc_read_u64(&r);
	*count = (uint32) dc_read_varint(&r, DC_READ_KEYS);
	keys = palloc(sizeof(DcSlice) * (*count + 1));
	for (uint32 i = 0; i < *count && r.status == DC_OK; i++)
	{
		keys[i] = dc_read_string(&r, DC_KEY_BYTES_MAX);
		if (keys[i].length == 0)
			dc_reader_fail(&r, DC_MALFORMED);
	}
	if (*count == 0)
		dc_reader_fail(&r, DC_MALFORMED);
	if (dc_reader_finish(&r) != DC_OK)
		dc_peer_refuse(r.status, "Run compatible versions of Datacake.");
	return keys;
}

/* datacake.peer_read(bytea) returns bytea */
Datum
datacake_peer_read(PG_FUNCTION_ARGS)
{
	bytea *sealed = PG_GETARG_BYTEA_PP(0);
	StringInfo answer = makeStringInfo();
	uint64 keyspace;
	uint32 count;
	DcSlice *keys;
	DcSlice plain;
	DcStatus status;
	DcRole role;

	dc_require_loaded();
	plain = dc_peer_open(sealed, DC_SESSION_QUESTIONS);
	dc_peer_require_member();
	if (dc_phase() != DC_PHASE_READY || dc_standing_joining())
		dc_peer_refuse(DC_REBUILDING, NULL);
	keys = read_question(plain, &keyspace, &count);
	SPI_connect();
	role = dc_role_begin(BOOTSTRAP_SUPERUSERID, true);
	status = dc_read_answer(keyspace, keys, count, false, answer);
	if (status == DC_UNSETTLED)
		dc_peer_refuse(status, "The table is locked, a row is missing, or a "
							   "large transaction is being committed.");
	if (status != DC_OK)
		dc_peer_refuse(status, NULL);
	dc_role_end(role);
	SPI_finish();
	PG_RETURN_BYTEA_P(dc_peer_seal(answer->data, (Size) answer->len));
}
