/*
 * peer.c
 *		The receiving side of a link: hello, then calls.
 *
 *	   NONE --- peer_hello ---> OPEN --- peer_stream ---> end of session
 *
 * A peer's replicator is an ordinary client.  Its role may call these
 * functions, but without the cluster key it can do nothing with them: every
 * message is sealed, bound to this session by a number that this side made,
 * and carries the next sequence number.  The functions answer sealed, too.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timeout.h"

#include "apply.h"
#include "clock.h"
#include "command.h"
#include "compat.h"
#include "copy_join.h"
#include "guc.h"
#include "level_wait.h"
#include "memory.h"
#include "message.h"
#include "peer.h"
#include "roster.h"
#include "seal.h"
#include "shmem.h"
#include "sql.h"
#include "standing.h"
#include "vector.h"

DC_SQL_FUNCTION(datacake_peer_hello);

typedef struct Session
{
	uint32 peer; /* 0: none */
	uint64 incarnation;
	uint64 session;
	uint8 version;   /* of the wire */
	uint64 sequence; /* of the last call taken */
	uint64 told;     /* version of the vector that the peer knows */
	DcSessionKind kind;
	bool counted;   /* in dc_shared->incoming */
	uint32 calling; /* whose call is carried out; 0: none */
	bool in_call;   /* a call began and its transaction has not committed */
	bool streams;   /* calls come as a stream */
	bool joining;   /* this node was joining when it said welcome */
	uint64 own_incarnation; /* of this node then */
	DcCommandCount known;   /* as the peer told; a list is published later */
} Session;

static Session session;

void
dc_peer_refuse(DcStatus status, const char *hint)
{
	ereport(ERROR,
			(errcode(dc_sqlstate(status)),
			 errmsg("call of a peer is refused: %s", dc_status_text(status)),
			 hint != NULL ? errhint("%s", hint) : 0));
	pg_unreachable();
}

/* --- who streams here --- */

static void
count_incoming(int step)
{
	LWLockAcquire(DC_LOCK(DC_LOCK_VECTOR), LW_EXCLUSIVE);
	dc_shared->incoming[session.peer] += step;
	dc_vector_changed();
	LWLockRelease(DC_LOCK(DC_LOCK_VECTOR));
	session.counted = step > 0;
}

/*
 * R11: what a fenced node sent may still be on its way into the tables; who
 * closes it waits for that.  Counted before the list is asked about the node.
 */
static void
begin_call(void)
{
	if (session.calling != 0)
		return; /* the one before is not flushed yet */
	session.calling = session.peer;
	pg_atomic_fetch_add_u32(&dc_shared->calls[session.calling], 1);
}

static void
end_call(void)
{
	if (session.calling != 0)
		pg_atomic_fetch_sub_u32(&dc_shared->calls[session.calling], 1);
	session.calling = 0;
}

static void
end_session(int code, Datum arg)
{
	if (session.counted)
		count_incoming(-1);
	end_call();
	session.peer = 0;
}

static void
copy_incoming(bool incoming[DC_NODE_IDS])
{
	LWLockAcquire(DC_LOCK(DC_LOCK_VECTOR), LW_SHARED);
	for (uint32 id = 0; id < DC_NODE_IDS; id++)
		incoming[id] = dc_shared->incoming[id] > 0;
	LWLockRelease(DC_LOCK(DC_LOCK_VECTOR));
}

/*
 * A call that fails ends the session: what the peer sent after it, trusting
 * that it went well, must not count.  A call of a stream is over when it is
 * flushed.
 */
static void
on_transaction_event(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT)
		session.in_call = false;
	if (event == XACT_EVENT_ABORT ||
		(event == XACT_EVENT_COMMIT && !session.streams))
		end_call();
}

/* --- sealing --- */

static DcAssociated
associated(char direction, uint32 sender, uint64 incarnation)
{
	return (DcAssociated){.direction = direction,
						  .sender = sender,
						  .receiver = (uint32) datacake_node_id,
						  .incarnation = incarnation,
						  .session = session.session,
						  .sequence = session.sequence};
}

static DcSlice
bytes_of(bytea *value)
{
	return (DcSlice){(const uint8 *) VARDATA_ANY(value),
					 VARSIZE_ANY_EXHDR(value)};
}

static DcSlice
open_sealed(DcSlice sealed, const DcAssociated *binding)
{
	uint8_t ad[DC_ASSOCIATED_BYTES];
	size_t ad_length = dc_associated_encode(ad, binding);
	uint8 *plain =
		MemoryContextAllocHuge(CurrentMemoryContext, sealed.length + 1);
	size_t plain_length;

	if (!dc_open(sealed.data, sealed.length, ad, ad_length, plain,
				 &plain_length))
		dc_peer_refuse(DC_FORGED,
					   "Check that both nodes have the same cluster key, and "
					   "that no third program calls this function.");
	return (DcSlice){plain, plain_length};
}

static bytea *
seal(const uint8 *plain, size_t length, const DcAssociated *binding)
{
	uint8_t ad[DC_ASSOCIATED_BYTES];
	size_t ad_length = dc_associated_encode(ad, binding);
	bytea *out = palloc(VARHDRSZ + length + DC_SEAL_OVERHEAD);

	SET_VARSIZE(out, VARHDRSZ + length + DC_SEAL_OVERHEAD);
	dc_seal((uint8 *) VARDATA(out), ad, ad_length, plain, length);
	return out;
}

/*
 * What must hold at the hello and at each call.  Questions can be answered
 * before the metadata is complete; who asks for more says so.
 */
static void
check_caller(uint32 node_id, uint64 incarnation, DcSessionKind kind)
{
	const char *complaint = dc_identity_complaint(node_id, incarnation);
	bool removed;

	if (complaint != NULL)
		dc_peer_refuse(DC_IDENTITY, complaint);
	complaint = dc_standing_complaint(node_id, incarnation, &removed);
	if (complaint != NULL)
		dc_peer_refuse(removed ? DC_REMOVED : DC_IDENTITY, complaint);
	if (kind == DC_SESSION_CHANGES && dc_standing_refuses(node_id))
		dc_peer_refuse(DC_SESSION, "This node compares what it has, to join.");
	if (kind == DC_SESSION_CHANGES && dc_commands_missing(&session.known))
		dc_peer_refuse(DC_BEHIND, "See datacake.ddl_log on that node.");
	if (dc_paused(node_id))
		dc_peer_refuse(DC_PAUSED, "Use SELECT datacake.resume().");
	if (dc_phase() != DC_PHASE_READY &&
		(kind == DC_SESSION_CHANGES || dc_phase() == DC_PHASE_IDLE))
		dc_peer_refuse(DC_REBUILDING, NULL);
}

static void
refuse_stranger(void)
{
	dc_peer_refuse(DC_NOT_MEMBER, "The members have not agreed on the calling "
								  "node yet; its log says why.");
}

void
dc_peer_require_member(void)
{
	bool member;

	LWLockAcquire(DC_LOCK(DC_LOCK_STANDING), LW_SHARED);
	member = dc_members_includes(&dc_shared->standing.members, session.peer,
								 session.incarnation);
	LWLockRelease(DC_LOCK(DC_LOCK_STANDING));
	if (!member)
		refuse_stranger();
}

/* --- hello --- */

static DcVersions
offer_of(const DcHello *hello)
{
	return (DcVersions){.wire = hello->wire, .wire_min = hello->wire_min};
}

/* The older of the two is to be upgraded; the last release bridges one step. */
static void
refuse_version(const DcHello *hello)
{
	DcVersions own = dc_versions_own();
	bool own_is_older = hello->wire_min > own.wire;

	ereport(ERROR,
			(errcode(MAKE_SQLSTATE('Y', 'D', '0', '1', '2')),
			 errmsg("the calling node speaks wire versions %u to %u, node %d "
					"speaks %u to %u",
					hello->wire_min, hello->wire, datacake_node_id,
					own.wire_min, own.wire),
			 errhint("Install a newer release of Datacake on %s, and restart "
					 "it; a release speaks its wire version and the one "
					 "before.",
					 own_is_older ? psprintf("node %d", datacake_node_id) :
									"the calling node")));
}

static void
check_hello(const DcHello *hello)
{
	const char *encoding = GetDatabaseEncodingName();

	if (hello->cluster.length != strlen(datacake_cluster_id) ||
		memcmp(hello->cluster.data, datacake_cluster_id,
			   hello->cluster.length) != 0)
		dc_peer_refuse(DC_CLUSTER, "Set \"datacake.cluster_id\" alike.");
	if (hello->receiver != (uint32) datacake_node_id)
		ereport(ERROR, (errcode(MAKE_SQLSTATE('Y', 'D', '0', '2', '1')),
						errmsg("this is node %d, and node %u was called",
							   datacake_node_id, hello->receiver),
						errhint("Check \"datacake.conninfo\" of node %u.",
								hello->receiver)));
	if (hello->sender == (uint32) datacake_node_id)
		dc_peer_refuse(DC_IDENTITY, "Give each node its own "
									"\"datacake.node_id\".");
	if (hello->encoding.length != strlen(encoding) ||
		memcmp(hello->encoding.data, encoding, hello->encoding.length) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
				 errmsg("database encoding \"%s\" of node %d differs from "
						"\"%.*s\" of node %u",
						encoding, datacake_node_id,
						(int) hello->encoding.length,
						(const char *) hello->encoding.data, hello->sender),
				 errhint("Create all databases of a cluster with the same "
						 "encoding.")));
	check_caller(hello->sender, hello->incarnation, hello->kind);
}

/*
 * What the session needs as long as it lives; plans are kept (P17).  A session
 * for questions is an ordinary one: what is written in it is captured, waits
 * for locks, and ends when nobody waits for it any more.  A peer that vanishes
 * is noticed here, too: until then it counts as one that sends what it has, and
 * nobody else does (R6).
 */
static void
prepare_session(DcSessionKind kind)
{
	static const char *const options[][1 + DC_SESSION_KINDS] = {
		{"session_replication_role", "replica", "origin"},
		{"lock_timeout", DC_LOCK_TIMEOUT, "0"},
		{"statement_timeout", "0", "0"},
		{"client_connection_check_interval", "0", "1s"},
		{"idle_session_timeout", "0", "1min"},
		{"client_min_messages", "notice", "error"},
		{"quote_all_identifiers", "off", "off"},
		{"tcp_keepalives_idle", DC_ALIVE_IDLE_S, DC_ALIVE_IDLE_S},
		{"tcp_keepalives_interval", DC_ALIVE_INTERVAL_S, DC_ALIVE_INTERVAL_S},
		{"tcp_keepalives_count", DC_ALIVE_COUNT, DC_ALIVE_COUNT},
		{"tcp_user_timeout", DC_ALIVE_UNACKED_MS, DC_ALIVE_UNACKED_MS},
	};
	static bool registered = false;

	for (int i = 0; i < (int) lengthof(options); i++)
		dc_set_option(options[i][0], options[i][1 + kind]);
	if (kind == DC_SESSION_CHANGES)
	{
		dc_set_option("synchronous_commit", "on");
		dc_set_option("deadlock_timeout", DC_DEADLOCK_TIMEOUT);
	}
	/* who applies changes must not wait for who waits for that (P4) */
	dc_level_exempt(kind == DC_SESSION_CHANGES);
	dc_set_option("client_encoding", GetDatabaseEncodingName());
	dc_set_option("search_path", "pg_catalog, pg_temp");
	if (!registered)
	{
		before_shmem_exit(end_session, (Datum) 0);
		RegisterXactCallback(on_transaction_event, NULL);
	}
	registered = true;
}

/* datacake.peer_hello(bytea) returns bytea */
Datum
datacake_peer_hello(PG_FUNCTION_ARGS)
{
	bytea *sealed = PG_GETARG_BYTEA_PP(0);
	DcAssociated binding;
	DcHello hello;
	DcStatus status;
	DcSlice plain;
	DcWelcome *welcome = palloc0(sizeof(DcWelcome));
	DcWriter w;
	uint8 *out;

	dc_require_loaded();
	dc_memory_keep(DC_KEEP_SERVICE);
	end_session(0, (Datum) 0);
	memset(&session, 0, sizeof(session));
	/* bound to nothing yet; the answer is bound to its nonce */
	binding = (DcAssociated){.direction = 'H'};
	plain = open_sealed(bytes_of(sealed), &binding);
	status = dc_hello_decode(plain.data, plain.length, &hello);
	if (status == DC_VERSION)
		refuse_version(&hello);
	if (status != DC_OK)
		dc_peer_refuse(status, NULL);
	check_hello(&hello);
	prepare_session(hello.kind);

	if (!pg_strong_random(&session.session, sizeof(session.session)))
		elog(ERROR, "could not generate a session number");
	session.incarnation = hello.incarnation;
	session.version = dc_versions_common(dc_versions_own(), offer_of(&hello));
	session.peer = hello.sender;
	session.kind = hello.kind;

	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("peers must connect with isolation level read "
						"committed"),
				 errhint("Set \"default_transaction_isolation\" of the role in "
						 "\"datacake.conninfo\".")));
	if (session.kind == DC_SESSION_CHANGES)
	{
		SPI_connect();
		dc_standing_admit(hello.sender, hello.incarnation, welcome);
		SPI_finish();
		if (!welcome->known)
			refuse_stranger();
	}
	session.joining = welcome->joining;
	session.own_incarnation = dc_shared->incarnation;
	welcome->node_id = (uint32) datacake_node_id;
	welcome->incarnation = dc_shared->incarnation;
	welcome->session = session.session;
	memcpy(welcome->nonce, hello.nonce, DC_NONCE_BYTES);
	if (session.kind == DC_SESSION_CHANGES)
	{
		welcome->copying = dc_copy_wanted();
		session.told = dc_vector_version();
		dc_vector_read(&welcome->vector);
		copy_incoming(welcome->incoming);
	}
	dc_writer_init(&w, NULL, 0);
	dc_welcome_encode(&w, welcome);
	out = palloc(w.length);
	dc_writer_init(&w, out, w.length);
	w.version = session.version;
	dc_welcome_encode(&w, welcome);
	binding = associated('W', session.peer, session.incarnation);
	binding.session = 0;
	PG_RETURN_BYTEA_P(seal(out, w.length, &binding));
}

/* --- calls --- */

static void
check_session(DcSessionKind kind)
{
	/* a joiner's peers must know it, or they do not send it everything */
	if (session.peer == 0 || session.in_call || session.kind != kind ||
		(kind == DC_SESSION_CHANGES && dc_standing_joining() &&
		 !session.joining) ||
		session.own_incarnation != dc_shared->incarnation)
		dc_peer_refuse(DC_SESSION, "A session starts with peer_hello().");
	check_caller(session.peer, session.incarnation, kind);
}

/* Who asks waits no longer; the peer's clock does not matter. */
static DcSlice
take_patience(DcSlice plain)
{
	DcReader r;
	uint32 patience_ms;

	dc_reader_init(&r, plain.data, plain.length);
	patience_ms = dc_read_u32(&r);
	if (r.status != DC_OK || patience_ms > INT_MAX)
		dc_peer_refuse(DC_MALFORMED, NULL);
	/* ends with the statement, like the timeout of that name */
	enable_timeout_after(STATEMENT_TIMEOUT, (int) patience_ms);
	return (DcSlice){plain.data + r.offset, plain.length - r.offset};
}

static DcSlice
open_call(bytea *sealed, char direction, DcSessionKind kind)
{
	DcAssociated binding;

	if (kind == DC_SESSION_CHANGES)
		begin_call();
	check_session(kind);
	session.in_call = true;
	session.sequence++;
	binding = associated(direction, session.peer, session.incarnation);
	return open_sealed(bytes_of(sealed), &binding);
}

DcSlice
dc_peer_open(bytea *sealed, DcSessionKind kind)
{
	return take_patience(open_call(sealed, 'Q', kind));
}

static bytea *
seal_answer(char direction, const void *plain, Size length)
{
	DcAssociated binding =
		associated(direction, session.peer, session.incarnation);

	return seal(plain, length, &binding);
}

uint8
dc_peer_version(void)
{
	return session.version;
}

bytea *
dc_peer_seal(const void *plain, Size length)
{
	return seal_answer('R', plain, length);
}

uint32
dc_peer_node(void)
{
	return session.peer;
}

bytea *
dc_peer_respond(bytea *sealed, bytea *(*answer_question)(DcSlice question))
{
	MemoryContext caller = CurrentMemoryContext;
	DcSlice question;
	bytea *answer;
	bytea *result;
	DcRole role;

	dc_require_loaded();
	question = dc_peer_open(sealed, DC_SESSION_CHANGES);
	if (dc_standing_joining())
		dc_peer_refuse(DC_REBUILDING, "This node is joining the cluster.");
	SPI_connect();
	role = dc_role_begin(BOOTSTRAP_SUPERUSERID, false);
	answer = answer_question(question);
	result = MemoryContextAlloc(caller, VARSIZE(answer));
	memcpy(result, answer, VARSIZE(answer));
	dc_role_end(role);
	SPI_finish();
	return result;
}

struct DcPeerCalls
{
	DcApplySet *set;
	DcMembers *members; /* NULL: no list came */
	DcPosition at;
	bool urgent; /* to be flushed and acknowledged at once */
};

DcPeerCalls *
dc_peer_calls_begin(DcRole *role)
{
	DcPeerCalls *calls = palloc0(sizeof(DcPeerCalls));

	begin_call();
	check_session(DC_SESSION_CHANGES);
	session.in_call = true;
	dc_vector_hold();
	*role = dc_role_begin(BOOTSTRAP_SUPERUSERID, false);
	calls->set = dc_apply_begin(false);
	return calls;
}

/* A call with another part is the last of its transaction. */
static bool
is_plain(DcPartKind kind)
{
	return kind == DC_PART_BATCH || kind == DC_PART_SEGMENT ||
		   kind == DC_PART_FLUSH;
}

static void
take_part(DcPeerCalls *calls, const DcPart *part)
{
	switch (part->kind)
	{
		case DC_PART_BATCH:
		case DC_PART_CATCHUP:
			dc_apply_add(calls->set, part->batch, part->kind == DC_PART_BATCH);
			break;
		case DC_PART_SEGMENT:
			dc_vector_plan_segment(session.peer, part->from, part->to);
			break;
		case DC_PART_ADOPT:
			if (dc_standing_behind(session.peer, &part->horizon))
				dc_peer_refuse(DC_SESSION,
							   "This node has missed deaths that others "
							   "have forgotten, and joins first.");
			dc_vector_plan_adopt(session.peer, &part->donor, &part->base,
								 part->debts, &part->horizon);
			break;
		case DC_PART_MEMBERS:
			calls->members = palloc(sizeof(DcMembers));
			*calls->members = part->members;
			calls->at = part->at;
			break;
		case DC_PART_FLUSH:
			calls->urgent = true;
			break;
		case DC_PART_END:
			break;
	}
}

bool
dc_peer_calls_add(DcPeerCalls *calls, DcSlice sealed)
{
	DcPart *part = palloc(sizeof(DcPart)); /* large: not to be zeroed */
	int claims = 0; /* parts that move the vector; a call has one */
	bool plain = true;
	DcAssociated binding;
	DcSlice call;
	DcReader r;

	session.sequence++;
	binding = associated('C', session.peer, session.incarnation);
	call = open_sealed(sealed, &binding);
	if (!session.counted)
		count_incoming(1); /* not before it authenticates: hellos replay */
	dc_reader_init(&r, call.data, call.length);
	dc_call_read_begin(&r);
	while (r.status == DC_OK && dc_call_read_part(&r, part))
	{
		if ((part->kind == DC_PART_SEGMENT || part->kind == DC_PART_ADOPT) &&
			claims++ > 0)
			dc_reader_fail(&r, DC_MALFORMED);
		plain &= is_plain(part->kind);
		take_part(calls, part);
	}
	if (dc_reader_finish(&r) != DC_OK)
		dc_peer_refuse(r.status, NULL);
	pfree(part);
	calls->urgent |= !plain;
	return plain;
}

DcApplied
dc_peer_calls_run(DcPeerCalls *calls, bool *urgent)
{
	DcApplied result = dc_apply_run(calls->set);

	*urgent = calls->urgent;

	if (calls->members != NULL)
	{
		session.known = dc_commands_of(&calls->at, calls->members);
		dc_roster_learn(&calls->at,
						calls->members); /* last: it locks the list */
	}
	return result;
}

void
dc_peer_calls_end(const DcRole *role)
{
	dc_role_end(*role);
}

DcSlice
dc_peer_calls_ack(DcApplied result, uint32 held_us)
{
	static DcAck ack; /* large, and most of it is seldom sent */
	uint64 version;
	bytea *sealed;
	DcWriter w;
	uint8 *out;

	dc_flush_all(); /* R4 */
	dc_vector_release();
	end_call();
	version = dc_vector_version();
	ack.applied = result.applied;
	ack.stale = result.stale;
	ack.waiting = result.waiting;
	ack.held_us = held_us;
	ack.unchanged = version == session.told;
	ack.settled = dc_vector_settled();
	if (!ack.unchanged)
	{
		dc_vector_read(&ack.vector);
		copy_incoming(ack.incoming);
	}
	session.told = version;
	dc_writer_init(&w, NULL, 0);
	dc_ack_encode(&w, &ack);
	out = palloc(w.length);
	dc_writer_init(&w, out, w.length);
	w.version = session.version;
	dc_ack_encode(&w, &ack);
	sealed = seal_answer('A', out, w.length);
	return (DcSlice){(uint8 *) VARDATA(sealed), VARSIZE(sealed) - VARHDRSZ};
}

void
dc_peer_begin_stream(void)
{
	check_session(DC_SESSION_CHANGES);
	session.streams = true;
	dc_set_option("synchronous_commit", "off");
}

uint64
dc_peer_sequence(void)
{
	return session.sequence;
}
