/*
 * roster.c
 *		The agreed member list as this node keeps it.
 */
#include "roster.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "clock.h"
#include "compat.h"
#include "guc.h"
#include "peer.h"
#include "shmem.h"
#include "sql.h"
#include "standing.h"

DC_SQL_FUNCTION(datacake_peer_register);

/* --- the row --- */

DcRegister *
dc_roster_read(void)
{
	static DcStatement read = {"SELECT state FROM datacake.register"};
	DcRegister *reg = palloc0(sizeof(DcRegister));
	bytea *state;
	bool none;

	if (dc_sql_often(&read, 0, NULL) == 0)
		return reg;
	state = DatumGetByteaPP(
		SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &none));
	if (dc_register_decode(VARDATA_ANY(state), VARSIZE_ANY_EXHDR(state), reg) !=
		DC_OK)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("datacake.register cannot be read"),
				 errhint("Restore it, or DROP EXTENSION datacake CASCADE "
						 "and join this node anew.")));
	return reg;
}

DcRegister *
dc_roster_copy(void)
{
	MemoryContext context = CurrentMemoryContext;
	DcRegister *reg = palloc(sizeof(DcRegister));

	dc_transaction_begin();
	*reg = *dc_roster_read();
	dc_transaction_commit(context);
	return reg;
}

DcRegister *
dc_roster_lock(void)
{
	LockRelationOid(dc_sql_relid("register"), ShareRowExclusiveLock);
	return dc_roster_read();
}

DcRegister *
dc_roster_try_read(void)
{
	return ConditionalLockRelationOid(dc_sql_relid("register"), ShareLock) ?
			   dc_roster_read() :
			   NULL;
}

void
dc_roster_save(const DcRegister *reg)
{
	Oid types[1] = {BYTEAOID};
	Datum values[1];
	bytea *state;
	DcWriter w;

	dc_writer_init(&w, NULL, 0);
	dc_register_encode(&w, reg);
	state = palloc(VARHDRSZ + w.length);
	SET_VARSIZE(state, VARHDRSZ + w.length);
	dc_writer_init(&w, (uint8 *) VARDATA(state), w.length);
	dc_register_encode(&w, reg);
	values[0] = PointerGetDatum(state);
	if (SPI_execute_with_args("INSERT INTO datacake.register (state) "
							  "VALUES ($1) ON CONFLICT (singleton) "
							  "DO UPDATE SET state = excluded.state",
							  1, types, values, NULL, false,
							  0) != SPI_OK_INSERT)
		elog(ERROR, "could not write datacake.register");
	/* who looked before, and did not get the lock, looks again */
	dc_worker_wake_at_commit(DC_WORKER_LAUNCHER, &dc_shared->standing_stale);
}

/* --- requests --- */

void
dc_roster_answer(const DcRegisterRequest *request, DcRegisterReply *reply)
{
	DcRegister *before;
	DcRegister *reg;

	if (request->kind == DC_REGISTER_READ)
	{
		(void) dc_register_answer(dc_roster_read(), request, reply);
		return;
	}
	reg = dc_roster_lock();
	before = palloc(sizeof(DcRegister));
	*before = *reg;
	if (!dc_register_answer(reg, request, reply))
		return;
	dc_roster_save(reg);
	dc_standing_listed(before, reg);
}

void
dc_roster_learn(const DcPosition *at, const DcMembers *members)
{
	DcRegister *reg = dc_roster_read();
	DcRegisterRequest *request;
	DcRegisterReply *reply;

	if (at->founder == reg->at.founder ?
			dc_position_compare(at, &reg->at) <= 0 :
			!reg->adrift)
		return; /* as nearly always: no lock is needed to see it */
	request = palloc0(sizeof(DcRegisterRequest));
	reply = palloc(sizeof(DcRegisterReply));
	request->kind = DC_REGISTER_LEARN;
	request->at = *at;
	request->list = *members;
	dc_roster_answer(request, reply);
}

static bytea *
encode_reply(const DcRegisterReply *reply)
{
	uint8 *bytes;
	DcWriter w;

	dc_writer_init(&w, NULL, 0);
	dc_register_reply_encode(&w, reply);
	bytes = palloc(w.length);
	dc_writer_init(&w, bytes, w.length);
	dc_register_reply_encode(&w, reply);
	return dc_peer_seal(bytes, w.length);
}

/*
 * datacake.peer_register(bytea) returns bytea: a request of any node that
 * holds the key, member or not.  What it promises is durable when the
 * statement has ended, so the peer counts it only then.
 */
Datum
datacake_peer_register(PG_FUNCTION_ARGS)
{
	DcRegisterRequest *request = palloc0(sizeof(DcRegisterRequest));
	DcRegisterReply *reply = palloc0(sizeof(DcRegisterReply));
	DcSlice plain;
	DcStatus status;
	DcRole role;

	dc_require_loaded();
	plain = dc_peer_open(PG_GETARG_BYTEA_PP(0), DC_SESSION_QUESTIONS);
	status = dc_register_request_decode(plain.data, plain.length, request);
	if (status != DC_OK)
		dc_peer_refuse(status, "Run compatible versions of Datacake.");
	if (dc_hlc_ahead(request->ballot, dc_now_us(),
					 (uint64) datacake_max_clock_drift_ms * 1000))
		dc_peer_refuse(DC_CLOCK_SKEW, "Synchronize the clocks.");
	(void) set_config_option("synchronous_commit", "on", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	SPI_connect();
	role = dc_role_begin(BOOTSTRAP_SUPERUSERID, true);
	dc_roster_answer(request, reply);
	dc_role_end(role);
	SPI_finish();
	PG_RETURN_BYTEA_P(encode_reply(reply));
}
