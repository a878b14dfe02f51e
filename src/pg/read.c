/*
 * read.c
 *		Reading keys of a keyspace on as many nodes as a level asks for.
 *
 *	 keys, sorted --> rounds of some thousand keys
 *	                    |
 *	   ask peers (choice.h), read here, wait    caller.h, read_answer.h
 *	                    |
 *	   the newest version of each key, by stamp; a death is a version
 *	                    |
 *	   live: a row of the result;  who had less: heal.h
 *
 * A peer that takes three times as long as answers usually do is not waited
 * for: another one is asked, if there is one, and whoever comes first counts.
 *
 * What the role may see was checked before; the rest is read below privileges,
 * here and there.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_authid.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rls.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "caller.h"
#include "changes.h"
#include "choice.h"
#include "clock.h"
#include "compat.h"
#include "guc.h"
#include "heal.h"
#include "incoming.h"
#include "read_answer.h"
#include "selector.h"
#include "sql.h"
#include "standing.h"
#include "tools.h"
#include "transaction.h"
#include "voters.h"

DC_SQL_FUNCTION(datacake_read_newest);
DC_SQL_FUNCTION(datacake_reads_here);

#define PATIENCE_MIN_MS   50
#define PATIENCE_FIRST_MS 100 /* usual time before anything is known */

/* What one node said of one key. */
typedef struct Version
{
	DcEntry entry;
	const DcIncoming *row; /* if it is live */
	bool due;              /* a part will tell */
} Version;

typedef enum NodeState
{
	NODE_IDLE,
	NODE_ASKED,
	NODE_LATE, /* asked, and not waited for */
	NODE_ANSWERED,
	NODE_FAILED
} NodeState;

/* A member, in the order of the voters. */
typedef struct Replica
{
	NodeState state;
	int round; /* in which it was asked */
	TimestampTz asked_at;
	uint32 taken;
	Version *versions;
	char *error;
} Replica;

typedef struct Read
{
	Relation relation;
	DcRel *rel;
	uint64 keyspace;
	int slot;
	DcLevel level;
	DcVoters *voters;
	Replica *nodes;
	uint32 *order; /* of voters' indexes */
	uint32 order_count;
	DcTally needs;
	DcTally have;
	DcTally open;    /* asked and waited for */
	DcTally pending; /* those, and the late ones */
	DcAsk *ask;
	DcKeyList keys;
	uint8 *question; /* begins with the version, which each node has */
	Size question_bytes;
	uint32 count; /* keys of this round, from keys.at on */
	int round;
	MemoryContext memory; /* of a round */
	ReturnSetInfo *result;
} Read;

static float8 usual_ms = PATIENCE_FIRST_MS; /* of answers to this process */

/* --- one answer --- */

static int
compare_keys(const void *left, const void *right)
{
	const DcSlice *a = left;
	const DcSlice *b = right;
	int order = memcmp(a->data, b->data, Min(a->length, b->length));

	if (order != 0 || a->length == b->length)
		return order;
	return a->length < b->length ? -1 : 1;
}

/* What an answer says of keys that no part tells of. */
static void
read_states(const Read *read, Replica *node, bool own, DcReader *r)
{
	DcHlc floor;
	const DcSlice *keys = read->keys.keys + read->keys.at;

	dc_read_version(r);
	if (dc_read_u8(r) != 'V')
		dc_reader_fail(r, DC_MALFORMED);
	floor = dc_read_u64(r);
	node->taken = (uint32) dc_read_varint(r, read->count);
	node->versions = palloc0(sizeof(Version) * (read->count + 1));
	if (node->taken == 0)
		dc_reader_fail(r, DC_MALFORMED);
	for (uint32 i = 0; i < node->taken && r->status == DC_OK; i++)
	{
		uint8 state = dc_read_u8(r);
		DcEntry *entry = &node->versions[i].entry;

		if (state > DC_KEY_UNSETTLED || (state == DC_KEY_UNSETTLED && !own))
			dc_reader_fail(r, DC_MALFORMED);
		node->versions[i].due = state == DC_KEY_SENT;
		entry->stamp = floor;
		entry->dead = true;
		if (state == DC_KEY_UNSETTLED)
			entry->stamp =
				dc_change_own_death(read->slot,
									dc_key_make(keys[i].data, keys[i].length));
	}
}

/* A row or a tombstone, where the floor did not kill it. */
static void
take_item(const Read *read, Replica *node, const DcIncoming *item, DcReader *r)
{
	DcSlice *keys = read->keys.keys + read->keys.at;
	DcSlice *key = bsearch(&item->change.key, keys, node->taken,
						   sizeof(DcSlice), compare_keys);
	Version *version;

	if (key == NULL || dc_keyspace_by_id(item->target->id) != read->slot)
	{
		dc_reader_fail(r, DC_MALFORMED);
		return;
	}
	version = &node->versions[key - keys];
	version->due = false;
	if (item->change.entry.stamp <= version->entry.stamp)
		return;
	version->entry = item->change.entry;
	version->row = item->change.entry.dead ? NULL : item;
}

static void
read_parts(const Read *read, Replica *node, DcReader *r)
{
	DcApplySet *set = dc_apply_begin(false);
	DcPart *part = palloc0(sizeof(DcPart));

	while (dc_call_read_part(r, part))
	{
		if (part->kind != DC_PART_CATCHUP)
			dc_reader_fail(r, DC_MALFORMED);
		if (r->status == DC_OK)
			dc_apply_add(set, part->batch, false);
	}
	for (int i = 0; i < set->count && r->status == DC_OK; i++)
		take_item(read, node, &set->items[i], r);
	for (uint32 i = 0; i < node->taken && r->status == DC_OK; i++)
	{
		if (node->versions[i].due)
			dc_reader_fail(r, DC_MALFORMED);
	}
	if (dc_reader_finish(r) != DC_OK || set->latest == DC_HLC_NONE)
		return;
	/* what this session writes next comes after what it has read */
	dc_clock_observe(set->latest);
	dc_clock_await_bound(set->latest);
}

/* NULL, or why it does not count. */
static const char *
take_answer(Read *read, Replica *node, DcSlice bytes, bool own)
{
	MemoryContext old = MemoryContextSwitchTo(read->memory);
	uint8 *copy = palloc(bytes.length + 1);
	DcReader r;

	memcpy(copy, bytes.data, bytes.length);
	dc_reader_init(&r, copy, bytes.length);
	read_states(read, node, own, &r);
	read_parts(read, node, &r);
	MemoryContextSwitchTo(old);
	return r.status == DC_OK ? NULL : dc_status_text(r.status);
}

/* --- whom to ask --- */

static int
index_of(const Read *read, uint32 node_id)
{
	int i = 0;

	while (read->voters->at[i].node_id != node_id)
		i++;
	return i;
}

static void
fail_node(Read *read, int i, const char *why)
{
	read->nodes[i].state = NODE_FAILED;
	read->nodes[i].error =
		MemoryContextStrdup(MemoryContextGetParent(read->memory), why);
}

static void
ask_node(Read *read, int i)
{
	Replica *node = &read->nodes[i];
	const DcVoter *voter = &read->voters->at[i];

	node->state = NODE_ASKED;
	node->round = read->round;
	node->asked_at = GetCurrentTimestamp();
	dc_tally_add(&read->open, voter->centre);
	dc_tally_add(&read->pending, voter->centre);
	if (voter->local)
		return;
	read->question[0] = dc_wire_version(voter->node_id);
	dc_ask_node(read->ask, voter->node_id, read->question,
				read->question_bytes);
	dc_count(DC_COUNT_READ_QUESTIONS, 1);
}

/* As many as could meet the level, in the order of choice. */
static void
ask_helpful(Read *read)
{
	for (uint32 i = 0; i < read->order_count; i++)
	{
		int at = (int) read->order[i];

		if (read->nodes[at].state == NODE_IDLE &&
			dc_choice_helps(&read->have, &read->open, &read->needs,
							read->voters->at[at].centre))
			ask_node(read, at);
	}
}

/* "node 2, node 3"; with reasons: "node 2: it is down; node 3: ...". */
static char *
name_missing(const Read *read, bool reasons)
{
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 0; i < read->voters->count; i++)
	{
		const Replica *node = &read->nodes[i];
		uint32 node_id = read->voters->at[i].node_id;
		const char *why = node->error;
		int sqlstate;
		DcPeer peer;

		if (node->state == NODE_ANSWERED || node->state == NODE_ASKED ||
			(node->state == NODE_IDLE && read->voters->at[i].alive))
			continue;
		if (why == NULL && node->state == NODE_IDLE)
			why = dc_dialog_find(node_id, &peer, &sqlstate);
		if (!reasons)
			appendStringInfo(&text, "%snode %u", text.len > 0 ? ", " : "",
							 node_id);
		else if (why != NULL)
			appendStringInfo(&text, "%snode %u: %s", text.len > 0 ? "; " : "",
							 node_id, why);
	}
	if (reasons && text.len > 0)
		appendStringInfoChar(&text, '.');
	return text.data;
}

/* Could it still be met, by those asked and those who may be? */
static void
require_possible(Read *read)
{
	DcTally *hope = palloc(sizeof(DcTally));
	char *missing;
	char *reasons;

	*hope = read->pending;
	for (uint32 i = 0; i < read->order_count; i++)
	{
		if (read->nodes[read->order[i]].state == NODE_IDLE)
			dc_tally_add(hope, read->voters->at[read->order[i]].centre);
	}
	if (dc_tally_could_meet(&read->have, hope, &read->needs))
	{
		pfree(hope);
		return;
	}
	missing = name_missing(read, false);
	reasons = name_missing(read, true);
	if (*missing == '\0')
		ereport(ERROR,
				(errcode(MAKE_SQLSTATE('Y', 'D', '0', '4', '5')),
				 errmsg("cannot read at level \"%s\": the cluster has too few "
						"members",
						dc_level_name(read->level)),
				 errhint("Read at a weaker level.")));
	ereport(ERROR,
			(errcode(MAKE_SQLSTATE('Y', 'D', '0', '4', '5')),
			 errmsg("cannot read at level \"%s\": %s did not answer",
					dc_level_name(read->level), missing),
			 *reasons != '\0' ? errdetail("%s", reasons) : 0,
			 errhint("Look at datacake.nodes, or read at a weaker level.")));
}

/* --- waiting --- */

static void
set_aside(Read *read, int i)
{
	Replica *node = &read->nodes[i];
	uint32 centre = read->voters->at[i].centre;

	if (node->state == NODE_ASKED)
		dc_tally_remove(&read->open, centre);
	dc_tally_remove(&read->pending, centre);
	node->state = NODE_IDLE;
}

static void
conclude(Read *read, int i, const char *complaint)
{
	set_aside(read, i);
	if (complaint != NULL)
	{
		fail_node(read, i, complaint);
		return;
	}
	read->nodes[i].state = NODE_ANSWERED;
	dc_tally_add(&read->have, read->voters->at[i].centre);
}

static void
take_reply(Read *read, DcReply *reply)
{
	int i = index_of(read, reply->node_id);
	Replica *node = &read->nodes[i];
	const char *complaint = reply->message;

	if (node->round != read->round && reply->state == DC_REPLY_GIVEN)
	{
		set_aside(read, i); /* of keys that were read without it */
		return;
	}
	if (reply->state == DC_REPLY_GIVEN)
	{
		float8 took_ms =
			(float8) (GetCurrentTimestamp() - node->asked_at) / 1000;

		/* one that was away is not what is usual */
		usual_ms += (Min(took_ms, 2 * usual_ms) - usual_ms) / 8;
		complaint = take_answer(read, node, reply->answer, false);
	}
	conclude(read, i, complaint);
}

static void
read_here(Read *read)
{
	StringInfoData answer;
	DcStatus status;
	DcRole role;
	int i = index_of(read, (uint32) datacake_node_id);

	if (read->nodes[i].state != NODE_ASKED)
		return;
	initStringInfo(&answer);
	SPI_connect();
	role = dc_role_begin(BOOTSTRAP_SUPERUSERID, true);
	status = dc_read_answer(read->keyspace, read->keys.keys + read->keys.at,
							read->count, true, &answer);
	dc_role_end(role);
	SPI_finish();
	if (status != DC_OK)
		conclude(read, i, dc_status_text(status));
	else
		conclude(read, i,
				 take_answer(read, &read->nodes[i],
							 (DcSlice){(uint8 *) answer.data,
									   (Size) answer.len},
							 true));
	pfree(answer.data);
}

/* Gives up waiting for the slow ones; how long until the next is slow. */
static long
mark_late(Read *read)
{
	TimestampTz now = GetCurrentTimestamp();
	long patience_ms = (long) Max(3 * usual_ms, PATIENCE_MIN_MS);
	long wait_ms = patience_ms;

	for (int i = 0; i < read->voters->count; i++)
	{
		Replica *node = &read->nodes[i];
		long left_ms;

		if (node->state != NODE_ASKED)
			continue;
		left_ms = patience_ms - (long) ((now - node->asked_at) / 1000);
		if (left_ms > 0)
		{
			wait_ms = Min(wait_ms, left_ms);
			continue;
		}
		node->state = NODE_LATE;
		dc_tally_remove(&read->open, read->voters->at[i].centre);
		dc_count(DC_COUNT_READ_REPLACED, 1);
	}
	return wait_ms;
}

static void
collect(Read *read)
{
	ask_helpful(read);
	require_possible(read);
	read_here(read);
	while (!dc_tally_meets(&read->have, &read->needs))
	{
		DcReply *reply = dc_ask_poll(read->ask);

		if (reply != NULL)
			take_reply(read, reply);
		else
		{
			long wait_ms = mark_late(read);

			ask_helpful(read);
			dc_ask_wait_for(read->ask, wait_ms);
			continue;
		}
		ask_helpful(read);
		require_possible(read);
		read_here(read);
	}
}

/* --- the result --- */

static void
return_row(Read *read, const Version *newest)
{
	DcTarget *target = newest->row->target;
	TupleDesc desc = RelationGetDescr(read->relation);
	Datum *values = palloc0(sizeof(Datum) * desc->natts);
	bool *nulls = palloc(sizeof(bool) * desc->natts);
	DcRole role;

	memset(nulls, true, sizeof(bool) * desc->natts);
	if (target->columns == NULL)
		dc_incoming_map(target, read->rel);
	if (target->complaint != NULL)
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("newest row of a key cannot be read here: %s",
							   target->complaint),
						errhint("Make the tables alike on all nodes.")));
	role = dc_role_begin(read->rel->owner, true);
	dc_rel_image_decode(target->columns, target->image_columns,
						newest->row->change.image.data,
						newest->row->change.image.length, values, nulls);
	dc_role_end(role);
	values[read->rel->stamp_attnum - 1] =
		Int64GetDatum((int64) newest->entry.stamp);
	nulls[read->rel->stamp_attnum - 1] = false;
	tuplestore_putvalues(read->result->setResult, read->result->setDesc, values,
						 nulls);
}

/* Does this node lack what another has? A purged death is no difference. */
static bool
is_stale(const Version *version, const Version *newest)
{
	if (version->entry.stamp == newest->entry.stamp)
		return version->entry.dead != newest->entry.dead;
	return !(newest->entry.dead && version->row == NULL &&
			 newest->entry.stamp <= pg_atomic_read_u64(&dc_shared->horizon));
}

static void
heal_key(Read *read, uint32 k, const Version *newest, int owner)
{
	DcSlice bytes = read->keys.keys[read->keys.at + k];
	DcKey key = dc_key_make(bytes.data, bytes.length);
	uint32 owner_id = read->voters->at[owner].node_id;

	if (newest->entry.stamp == DC_HLC_NONE ||
		dc_transaction_owns(newest->entry.stamp))
		return;
	/* this node first: it hands on what it has */
	for (int pass = 0; pass < 2; pass++)
	{
		for (int i = 0; i < read->voters->count; i++)
		{
			const DcVoter *voter = &read->voters->at[i];
			DcHeal heal = {read->keyspace,
						   voter->local ? owner_id : voter->node_id,
						   voter->local};

			if (voter->local != (pass == 0) ||
				read->nodes[i].state != NODE_ANSWERED ||
				!is_stale(&read->nodes[i].versions[k], newest))
				continue;
			dc_count(DC_COUNT_READ_STALE, 1);
			dc_heal_push(&heal, key);
		}
	}
}

static void
take_newest(Read *read, uint32 k)
{
	const Version *newest = NULL;
	int owner = 0;

	for (int i = 0; i < read->voters->count; i++)
	{
		const Version *version = &read->nodes[i].versions[k];

		if (read->nodes[i].state != NODE_ANSWERED ||
			(newest != NULL && version->entry.stamp <= newest->entry.stamp))
			continue;
		newest = version;
		owner = i;
	}
	if (newest->row != NULL)
		return_row(read, newest);
	heal_key(read, k, newest, owner);
}

/* --- rounds --- */

static void
write_question(Read *read)
{
	Size room = 32;
	DcWriter w;
	uint8 *data;

	read->count = 0;
	while (read->keys.at + read->count < read->keys.count &&
		   read->count < DC_READ_KEYS && room < DC_READ_KEY_BYTES)
		room += 4 + read->keys.keys[read->keys.at + read->count++].length;
	data = palloc(room);
	dc_writer_init(&w, data, room);
	dc_write_version(&w);
	dc_write_u8(&w, 'V');
	dc_write_u64(&w, read->keyspace);
	dc_write_varint(&w, read->count);
	for (uint32 i = 0; i < read->count; i++)
		dc_write_string(&w, read->keys.keys[read->keys.at + i].data,
						read->keys.keys[read->keys.at + i].length);
	read->question = data;
	read->question_bytes = w.length;
}

static void
make_round(Read *read)
{
	MemoryContext old = MemoryContextSwitchTo(read->memory);
	uint32 covered;

	read->round++;
	memset(&read->have, 0, sizeof(read->have));
	for (int i = 0; i < read->voters->count; i++)
	{
		if (read->nodes[i].state == NODE_ANSWERED)
			read->nodes[i].state = NODE_IDLE;
		if (read->nodes[i].state != NODE_ASKED)
			continue;
		read->nodes[i].state = NODE_LATE;
		dc_tally_remove(&read->open, read->voters->at[i].centre);
	}
	write_question(read);
	collect(read);
	covered = read->count;
	for (int i = 0; i < read->voters->count; i++)
	{
		if (read->nodes[i].state == NODE_ANSWERED)
			covered = Min(covered, read->nodes[i].taken);
	}
	for (uint32 k = 0; k < covered; k++)
		take_newest(read, k);
	read->keys.at += covered;
	MemoryContextSwitchTo(old);
	MemoryContextReset(read->memory);
}

/* Sorted, each once. */
static void
gather_keys(Read *read, ArrayType *array)
{
	DcColumn *column = read->rel->keys[0];
	Datum *values = palloc0(sizeof(Datum) * read->rel->natts);
	bool *nulls = palloc0(sizeof(bool) * read->rel->natts);
	StringInfo bytes = makeStringInfo();
	uint32 kept = 0;
	Datum *elements;
	bool *absent;
	int16 length;
	bool by_value;
	char align;
	int count;

	get_typlenbyvalalign(ARR_ELEMTYPE(array), &length, &by_value, &align);
	deconstruct_array(array, ARR_ELEMTYPE(array), length, by_value, align,
					  &elements, &absent, &count);
	dc_key_list_init(&read->keys, CurrentMemoryContext);
	for (int i = 0; i < count; i++)
	{
		if (absent[i])
			continue;
		values[column->attnum - 1] = elements[i];
		resetStringInfo(bytes);
		dc_rel_key(read->rel, values, nulls, bytes);
		dc_key_list_add(&read->keys, (uint8 *) bytes->data, (Size) bytes->len);
	}
	if (read->keys.count == 0)
		return;
	qsort(read->keys.keys, read->keys.count, sizeof(DcSlice), compare_keys);
	for (uint32 i = 0; i < read->keys.count; i++)
	{
		if (kept == 0 ||
			compare_keys(&read->keys.keys[kept - 1], &read->keys.keys[i]) != 0)
			read->keys.keys[kept++] = read->keys.keys[i];
	}
	read->keys.count = kept;
}

/* The role must be allowed to see whole rows, and all of them. */
static void
check_reader(Relation relation)
{
	Oid relid = RelationGetRelid(relation);

	if (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK &&
		pg_attribute_aclcheck_all(relid, GetUserId(), ACL_SELECT,
								  ACLMASK_ALL) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV,
					   get_relkind_objtype(relation->rd_rel->relkind),
					   RelationGetRelationName(relation));
	if (check_enable_rls(relid, InvalidOid, false) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("table \"%s\" has row-level security policies, which "
						"other nodes cannot apply for this role",
						RelationGetRelationName(relation)),
				 errhint("Read at level \"none\".")));
}

static Relation
open_relation(Oid row_type, Oid key_type)
{
	Oid relid = get_typ_typrelid(row_type);
	Relation relation;
	DcRel *rel;

	if (!OidIsValid(relid))
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("%s is not the row type of a table",
							   format_type_be(row_type))));
	relation = relation_open(relid, AccessShareLock);
	check_reader(relation);
	rel = dc_rel(relation);
	if (rel == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("table \"%s\" is not replicated",
							   RelationGetRelationName(relation))));
	if (rel->key_count != 1 || rel->keys[0]->type != key_type ||
		(RelationGetDescr(relation)->constr != NULL &&
		 RelationGetDescr(relation)->constr->has_generated_stored))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table \"%s\" cannot be read by keys of type %s",
						RelationGetRelationName(relation),
						format_type_be(key_type)),
				 errdetail("Its primary key must be one column of that type, "
						   "and no column generated.")));
	return relation;
}

static DcLevel
level_of(FunctionCallInfo fcinfo, int argument)
{
	return PG_ARGISNULL(argument) ?
			   (DcLevel) datacake_consistency :
			   dc_level_argument(text_to_cstring(PG_GETARG_TEXT_PP(argument)));
}

static Read *
begin_read(FunctionCallInfo fcinfo)
{
	Read *read = palloc0(sizeof(Read));
	Oid array_type = get_fn_expr_argtype(fcinfo->flinfo, 1);

	dc_require_loaded();
	dc_require_ready();
	read->level = level_of(fcinfo, 2);
	read->relation = open_relation(get_fn_expr_argtype(fcinfo->flinfo, 0),
								   get_element_type(array_type));
	read->rel = dc_rel(read->relation);
	read->slot = read->rel->slot;
	read->keyspace = dc_keyspace(read->slot)->id;
	InitMaterializedSRF(fcinfo, 0);
	read->result = (ReturnSetInfo *) fcinfo->resultinfo;
	read->voters = dc_voters_list();
	for (int i = 0; i < read->voters->count; i++)
	{
		if (read->voters->at[i].local)
			read->voters->at[i].alive = !dc_standing_joining();
	}
	read->nodes = palloc0(sizeof(Replica) * read->voters->count);
	read->order = palloc(sizeof(uint32) * read->voters->count);
	read->order_count =
		dc_selector_order(read->voters, read->level, read->order);
	dc_level_needs(read->level, &read->voters->all, read->voters->own_centre,
				   &read->needs);
	read->memory = AllocSetContextCreate(CurrentMemoryContext, "datacake read",
										 ALLOCSET_DEFAULT_SIZES);
	read->ask = dc_ask_begin(
		&(DcAskPlan){.function = "peer_read",
					 .kind = DC_SESSION_QUESTIONS,
					 .timeout_ms = datacake_consistency_timeout_ms});
	return read;
}

/* datacake.read_newest(NULL::keyspace.entries, keys, level) */
Datum
datacake_read_newest(PG_FUNCTION_ARGS)
{
	Read *read = begin_read(fcinfo);

	if (!PG_ARGISNULL(1))
		gather_keys(read, PG_GETARG_ARRAYTYPE_P(1));
	while (read->keys.at < read->keys.count)
		make_round(read);
	dc_ask_end(read->ask, true);
	relation_close(read->relation, NoLock);
	PG_RETURN_NULL();
}

/* datacake.reads_here(level): does a read at this level ask nobody else? */
Datum
datacake_reads_here(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(level_of(fcinfo, 0) == DC_LEVEL_NONE);
}
