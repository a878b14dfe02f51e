/*
 * keyspace.c
 *		Tables become keyspaces, here and on the peers.
 *
 * Adopting a table (P7) happens under AccessExclusiveLock in one transaction:
 * the stamp column with one constant for all rows (no rewrite), the triggers,
 * and one entry per row, merged straight into a map that nobody else can
 * reach yet, unless changes wait for the table.  The transaction's slot holds
 * the watermark back until it ends, and a gap in the queue makes every link
 * send the rows by a catch-up.
 */
#include "keyspace.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "canonical.h"
#include "changes.h"
#include "compat.h"
#include "definition.h"
#include "guc.h"
#include "mend.h"
#include "partition.h"
#include "partition_ddl.h"
#include "rel.h"
#include "sql.h"
#include "transaction.h"
#include "type.h"

DC_SQL_FUNCTION(datacake_replicate_table);
DC_SQL_FUNCTION(datacake_unreplicate_table);

/* What becomes of a slot when its (sub)transaction ends. */
typedef enum Outcome
{
	ADOPTED,  /* closed at abort */
	REALIZED, /* known before: without a table again at abort */
	DISSOLVED /* closed at commit */
} Outcome;

typedef struct Pending
{
	int slot;
	Outcome outcome;
	SubTransactionId subid;
} Pending;

static List *pending;

static void
take_back(const Pending *p)
{
	if (p->outcome == ADOPTED)
		dc_keyspace_close(p->slot);
	else if (p->outcome == REALIZED)
		dc_keyspace_detach(p->slot);
}

static void
on_transaction_event(XactEvent event, void *arg)
{
	ListCell *cell;

	if (event == XACT_EVENT_PRE_PREPARE && pending != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot PREPARE a transaction in which a table became "
						"a keyspace or ceased to be one")));
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT)
		return;
	foreach (cell, pending)
	{
		Pending *p = lfirst(cell);

		if (event == XACT_EVENT_ABORT)
			take_back(p);
		else if (p->outcome == DISSOLVED)
			dc_keyspace_close(p->slot);
	}
	pending = NIL;
}

static void
on_subtransaction_event(SubXactEvent event, SubTransactionId subid,
						SubTransactionId parent, void *arg)
{
	if (event != SUBXACT_EVENT_ABORT_SUB)
		return;
	while (pending != NIL && ((Pending *) llast(pending))->subid >= subid)
	{
		take_back(llast(pending));
		pending = list_delete_last(pending);
	}
}

void
dc_keyspace_init(void)
{
	RegisterXactCallback(on_transaction_event, NULL);
	RegisterSubXactCallback(on_subtransaction_event, NULL);
}

static void
remember(int slot, Outcome outcome)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	Pending *p = palloc(sizeof(Pending));

	p->slot = slot;
	p->outcome = outcome;
	p->subid = GetCurrentSubTransactionId();
	pending = lappend(pending, p);
	MemoryContextSwitchTo(old);
}

/* --- which tables can be keyspaces --- */

static void
refuse(Relation relation, const char *what, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("cannot replicate table \"%s\": %s",
						   RelationGetRelationName(relation), what),
					errhint("%s", hint)));
}

static void
check_kind(Relation relation)
{
	Form_pg_class form = relation->rd_rel;

	if (form->relkind == RELKIND_FOREIGN_TABLE)
		refuse(relation, "it is a foreign table",
			   "Replicate the table on the server that stores it.");
	if (form->relkind != RELKIND_RELATION && !dc_is_partitioned(relation))
		refuse(relation, "it is not an ordinary table",
			   "Only tables can be replicated.");
	if (form->relpersistence == RELPERSISTENCE_TEMP)
		refuse(relation, "it is temporary", "Use a permanent table.");
	if (form->relpersistence == RELPERSISTENCE_UNLOGGED)
		refuse(relation, "it is unlogged",
			   "Use ALTER TABLE ... SET LOGGED first.");
	if (relation->rd_rel->relforcerowsecurity)
		refuse(relation, "it forces row security on its owner",
			   "Use ALTER TABLE ... NO FORCE ROW LEVEL SECURITY.");
	if (form->relhassubclass && !dc_is_partitioned(relation))
		refuse(relation, "other tables inherit from it",
			   "Replicate tables without children.");
	if (dc_rel_early_trigger(relation) != NULL)
		refuse(relation,
			   psprintf("its trigger \"%s\" would fire before changes are noted",
						dc_rel_early_trigger(relation)),
			   "Give the trigger a name that begins with a letter.");
	if (RelationGetNamespace(relation) == get_namespace_oid("datacake", true))
		refuse(relation, "it belongs to Datacake", "Use a table of your own.");
	if (IsCatalogRelation(relation))
		refuse(relation, "it is a system catalog", "Use a table of your own.");
}

/* Rows of others are written one by one; nothing checks them later (P17). */
static void
check_immediate(Relation relation)
{
	List *indexes = RelationGetIndexList(relation);
	ListCell *cell;

	foreach (cell, indexes)
	{
		Relation index = index_open(lfirst_oid(cell), AccessShareLock);
		bool deferrable =
			(index->rd_index->indisunique || index->rd_index->indisexclusion) &&
			!index->rd_index->indimmediate;

		index_close(index, AccessShareLock);
		if (deferrable)
			refuse(relation,
				   "it has a deferrable unique or exclusion constraint",
				   "Use constraints that are NOT DEFERRABLE.");
	}
	list_free(indexes);
}

/* What the operator classes of B-trees say nothing of. */
static void
check_key_types(Relation relation, Oid pk)
{
	Relation index = index_open(pk, AccessShareLock);
	TupleDesc desc = RelationGetDescr(relation);

	for (int i = 0; i < IndexRelationGetNumberOfKeyAttributes(index); i++)
	{
		Form_pg_attribute att =
			TupleDescAttr(desc, index->rd_index->indkey.values[i] - 1);

		if (dc_type_names_object(getBaseType(att->atttypid)))
			refuse(relation, "its primary key names objects of this node",
				   "Use the name of the object, as text.");
	}
	index_close(index, AccessShareLock);
}

static void
check_key(Relation relation)
{
	Oid pk = RelationGetPrimaryKeyIndex(relation);
	Relation index;
	bool suits;

	if (!OidIsValid(pk))
		refuse(relation, "it has no primary key",
			   "Add one with ALTER TABLE ... ADD PRIMARY KEY.");
	index = index_open(pk, AccessShareLock);
	suits = dc_canonical_suits(index);
	index_close(index, AccessShareLock);
	if (!suits)
		refuse(relation,
			   "equal values of its primary key can have different bytes",
			   "Use key columns of types like bigint, numeric, uuid, timestamp "
			   "or text with a deterministic collation.");
	check_key_types(relation, pk);
}

/* A table, and of a partitioned one each partition. */
static void
check_tables(Relation relation)
{
	ListCell *cell;

	if (relation->rd_rel->relispartition)
		refuse(relation, "it is a partition",
			   "Replicate the partitioned table; its partitions belong to it.");
	check_kind(relation);
	check_immediate(relation);
	check_key(relation);
	foreach (cell, dc_partition_leaves(RelationGetRelid(relation),
									   AccessExclusiveLock))
	{
		Relation leaf = relation_open(lfirst_oid(cell), NoLock);

		check_kind(leaf);
		check_immediate(leaf);
		relation_close(leaf, NoLock);
	}
}

static bool
has_stamp_column(Oid relid)
{
	AttrNumber attnum = get_attnum(relid, DC_STAMP_COLUMN);
	Oid hlc;

	if (attnum == InvalidAttrNumber)
		return false;
	hlc =
		GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("hlc"),
						ObjectIdGetDatum(get_namespace_oid("datacake", false)));
	if (get_atttype(relid, attnum) != hlc)
		ereport(ERROR, (errcode(ERRCODE_DUPLICATE_COLUMN),
						errmsg("cannot replicate table \"%s\": it has a column "
							   "\"%s\" of its own",
							   get_rel_name(relid), DC_STAMP_COLUMN),
						errhint("Rename that column.")));
	return true;
}

/* --- adopting --- */

static void
add_stamp_and_triggers(Oid relid, uint64 id, DcHlc stamp)
{
	char *table = dc_sql_table(relid);
	DcRole role = dc_role_begin(BOOTSTRAP_SUPERUSERID, false);

	/* stamps of another life, as of a copy, may lie where all is forgotten */
	if (has_stamp_column(relid))
		dc_sql_own_ddl(
			psprintf("ALTER TABLE %s DROP COLUMN %s", table, DC_STAMP_COLUMN));
	dc_sql_own_ddl(
		psprintf("ALTER TABLE %s ADD COLUMN %s datacake.hlc NOT NULL "
				 "DEFAULT '%llu'",
				 table, DC_STAMP_COLUMN, (unsigned long long) stamp));
	dc_sql_own_ddl(psprintf("ALTER TABLE %s ALTER COLUMN %s DROP DEFAULT",
							table, DC_STAMP_COLUMN));
	dc_sql_own_ddl(
		psprintf("CREATE TRIGGER \"%s\" BEFORE INSERT OR UPDATE OR DELETE "
				 "ON %s FOR EACH ROW EXECUTE FUNCTION "
				 "datacake.stamp_row()",
				 DC_STAMP_TRIGGER, table));
	dc_sql_own_ddl(
		psprintf("CREATE TRIGGER \"%s\" AFTER INSERT OR UPDATE OR DELETE "
				 "ON %s FOR EACH ROW EXECUTE FUNCTION "
				 "datacake.capture_row('%llu')",
				 DC_CAPTURE_TRIGGER, table, (unsigned long long) id));
	dc_sql_own_ddl(
		psprintf("CREATE TRIGGER \"%s\" BEFORE TRUNCATE ON %s FOR EACH "
				 "STATEMENT EXECUTE FUNCTION datacake.capture_truncate()",
				 DC_TRUNCATE_TRIGGER, table));
	dc_sql_own_ddl(
		psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER \"%s\", ENABLE "
				 "ALWAYS TRIGGER \"%s\", ENABLE ALWAYS TRIGGER \"%s\"",
				 table, DC_STAMP_TRIGGER, DC_CAPTURE_TRIGGER,
				 DC_TRUNCATE_TRIGGER));
	dc_role_end(role);
	CommandCounterIncrement();
}

static void
drop_stamp_and_triggers(Oid relid)
{
	char *table = dc_sql_table(relid);
	DcRole role = dc_role_begin(BOOTSTRAP_SUPERUSERID, false);
	static const char *const triggers[] = {DC_STAMP_TRIGGER, DC_CAPTURE_TRIGGER,
										   DC_TRUNCATE_TRIGGER};
	ListCell *cell;

	for (int i = 0; i < (int) lengthof(triggers); i++)
		dc_sql_own_ddl(psprintf("DROP TRIGGER IF EXISTS \"%s\" ON %s",
								triggers[i], table));
	foreach (cell, dc_partition_leaves(relid, AccessExclusiveLock))
		if (lfirst_oid(cell) != relid)
			dc_sql_own_ddl(psprintf("DROP TRIGGER IF EXISTS \"%s\" ON %s",
									DC_TRUNCATE_TRIGGER,
									dc_sql_table(lfirst_oid(cell))));
	dc_sql_own_ddl(psprintf("ALTER TABLE %s DROP COLUMN IF EXISTS %s", table,
							DC_STAMP_COLUMN));
	dc_role_end(role);
	CommandCounterIncrement();
}

static uint64
visit_rows(Oid relid, Snapshot snapshot, DcRowVisitor visit, void *arg)
{
	Relation relation = try_relation_open(relid, AccessShareLock);
	DcRel *rel = relation != NULL ? dc_rel(relation) : NULL;
	TableScanDesc scan;
	TupleTableSlot *row;
	StringInfoData key;
	uint64 rows = 0;

	if (rel == NULL)
	{
		if (relation != NULL)
			relation_close(relation, NoLock);
		return 0;
	}
	initStringInfo(&key);
	scan = table_beginscan(relation, snapshot, 0, NULL);
	row = table_slot_create(relation, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, row))
	{
		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(row);
		resetStringInfo(&key);
		dc_rel_key(rel, row->tts_values, row->tts_isnull, &key);
		visit(rel, row, dc_key_make((uint8 *) key.data, (Size) key.len), arg);
		rows++;
	}
	ExecDropSingleTupleTableSlot(row);
	table_endscan(scan);
	relation_close(relation, NoLock);
	return rows;
}

void
dc_keyspace_expect_rows(int slot)
{
	Relation relation = dc_keyspace_open_relation(slot, AccessShareLock);
	double rows = 0;
	ListCell *cell;

	if (relation == NULL)
		return;
	foreach (cell,
			 dc_partition_leaves(RelationGetRelid(relation), AccessShareLock))
	{
		Relation leaf = relation_open(lfirst_oid(cell), NoLock);

		rows += Max(leaf->rd_rel->reltuples, 0); /* -1: not known */
		relation_close(leaf, NoLock);
	}
	relation_close(relation, NoLock);
	dc_metadata_expect(slot, dc_keyspace(slot)->generation, (uint64) rows);
}

uint64
dc_keyspace_visit(int slot, Snapshot snapshot, DcRowVisitor visit, void *arg)
{
	Relation relation = dc_keyspace_open_relation(slot, AccessShareLock);
	uint64 rows = 0;
	ListCell *cell;

	if (relation == NULL)
		return 0;
	foreach (cell,
			 dc_partition_leaves(RelationGetRelid(relation), AccessShareLock))
		rows += visit_rows(lfirst_oid(cell), snapshot, visit, arg);
	relation_close(relation, NoLock);
	return rows;
}

/*
 * One entry for each row.  A map that belongs to this transaction alone takes
 * it now; one that others know, because rows wait, when it commits.
 */
static void
enter_row(DcRel *rel, TupleTableSlot *row, DcKey key, void *arg)
{
	DcEntry entry = {.stamp = dc_rel_stamp(rel, row), .dead = false};
	const Outcome *outcome = arg;
	DcEntry found;

	dc_rel_check_size(rel, row->tts_values, row->tts_isnull);
	if (*outcome == REALIZED)
		dc_change_apply(rel->slot, key, entry, DC_HLC_NONE);
	else if (dc_metadata_try_merge(rel->slot, rel->slot_generation, key, entry,
								   &found) != DC_OK)
		(void) dc_metadata_reserve(rel->slot, rel->slot_generation, key,
								   true); /* the error */
}

static uint64
id_of(Oid relid)
{
	Relation relation = relation_open(relid, NoLock);
	uint64 id = dc_rel_keyspace_id(relation);

	relation_close(relation, NoLock);
	return id;
}

/* A table that was restored from a dump of this cluster keeps its stamps. */
static void
adopt(Oid relid, uint64 id, DcHlc stamp)
{
	Outcome outcome = dc_keyspace_by_id(id) < 0 ? ADOPTED : REALIZED;
	Relation relation;
	DcRel *rel;
	Snapshot snapshot;

	LockRelationOid(relid, AccessExclusiveLock);
	if (id_of(relid) != id)
		add_stamp_and_triggers(relid, id, stamp);
	dc_partition_watch_truncate(relid);
	relation = table_open(relid, NoLock);
	rel = dc_rel_adopt(relation);
	if (rel == NULL)
		elog(ERROR, "table \"%s\" did not become a keyspace",
			 RelationGetRelationName(relation));
	remember(rel->slot, outcome);
	table_close(relation, NoLock);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	if (outcome == ADOPTED)
		dc_keyspace_expect_rows(rel->slot);
	if (dc_keyspace_visit(rel->slot, snapshot, enter_row, &outcome) > 0)
		dc_changes_gap();
	UnregisterSnapshot(snapshot);
}

/* --- SQL: becoming a keyspace --- */

static void
check_owner(Oid relid)
{
	if (!pg_class_ownercheck(relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER,
					   get_relkind_objtype(get_rel_relkind(relid)),
					   get_rel_name(relid));
}

/* Before the lock, so that nobody locks what is not his; and after it. */
static Relation
open_owned(Oid relid)
{
	Relation relation;

	check_owner(relid);
	relation = relation_open(relid, AccessExclusiveLock);
	check_owner(relid);
	return relation;
}

/* Triggers and stamps that came with a dump; true if there were any. */
static bool
is_restored(Relation relation)
{
	if (dc_rel_keyspace_id(relation) == 0)
		return false;
	if (dc_rel(relation) == NULL)
		return true;
	ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT),
					errmsg("table \"%s\" is replicated already",
						   RelationGetRelationName(relation))));
}

/* SELECT datacake.replicate_table('orders') */
Datum
datacake_replicate_table(PG_FUNCTION_ARGS)
{
	Oid relid = PG_GETARG_OID(0);
	Relation relation;
	DcHlc stamp;
	bool restored;

	dc_require_loaded();
	dc_require_ready();
	relation = open_owned(relid);
	restored = is_restored(relation);
	check_tables(relation);
	relation_close(relation, NoLock);

	SPI_connect();
	if (restored)
		drop_stamp_and_triggers(relid);
	stamp = dc_transaction_fresh_stamp(); /* names the keyspace, too */
	adopt(relid, stamp, stamp);
	relation = table_open(relid, NoLock);
	dc_definition_write(relid, stamp, dc_rel(relation)->key_bytes);
	table_close(relation, NoLock);
	SPI_finish();
	PG_RETURN_VOID();
}

/* --- definitions of others --- */

static void
check_tables_of(Oid relid)
{
	Relation relation = relation_open(relid, AccessExclusiveLock);

	check_tables(relation);
	relation_close(relation, NoLock);
}

/* Its table is here, under whatever name. */
static bool
has_table(uint64 id)
{
	int slot = dc_keyspace_by_id(id);

	return slot >= 0 && OidIsValid(dc_keyspace(slot)->relid) &&
		   get_rel_name(dc_keyspace(slot)->relid) != NULL;
}

/*
 * Rows of a keyspace without a table waited here under this id, which is to be
 * that of a table under another one.  They are in the quarantine, and due.
 */
static void
end_waiting(uint64 id)
{
	int slot = dc_keyspace_by_id(id);

	if (slot >= 0 && !OidIsValid(dc_keyspace(slot)->relid))
		dc_keyspace_close(slot);
}

/*
 * Is the table a keyspace here already?  One that was restored from a dump of
 * another cluster has nothing to do with this one.
 */
static bool
is_real(Oid relid, uint64 id)
{
	Relation relation = relation_open(relid, AccessExclusiveLock);
	uint64 here = dc_rel_keyspace_id(relation);
	DcRel *rel = here != 0 ? dc_rel(relation) : NULL;

	if (rel != NULL)
	{
		end_waiting(id);
		dc_keyspace_alias(rel->slot, id);
	}
	relation_close(relation, NoLock);
	if (rel == NULL && here != 0 && here != id)
		drop_stamp_and_triggers(relid);
	return rel != NULL;
}

void
dc_keyspace_realize(uint64 id)
{
	DcDefinition definition;
	Oid relid = InvalidOid;
	Oid owner;
	Oid schema;

	dc_retry_soon(); /* what waits may fit a new definition */
	if (id == DC_CATALOGUE_ID || has_table(id) ||
		!dc_definition_read(id, &definition))
		return;
	schema = get_namespace_oid(definition.schema, true);
	if (OidIsValid(schema))
		relid = get_relname_relid(definition.table, schema);
	if (OidIsValid(relid) && is_real(relid, id))
		return;
	owner = get_role_oid(definition.owner, true);
	if (!OidIsValid(owner))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role \"%s\" does not exist", definition.owner),
				 errdetail("It owns the replicated table \"%s.%s\".",
						   definition.schema, definition.table),
				 errhint("Create the role, then SELECT datacake.retry().")));
	if (!OidIsValid(relid))
		relid = dc_definition_create(&definition, owner);
	else
	{
		dc_definition_compare(&definition, relid);
		check_tables_of(relid);
	}
	adopt(relid, id, dc_transaction_stamp());
}

/* --- back to an ordinary table --- */

static void
forget_tombstones(uint64 id)
{
	const char *arguments[1] = {dc_sql_number(id)};
	DcRole role = dc_role_begin(BOOTSTRAP_SUPERUSERID, false);

	dc_sql("DELETE FROM datacake.tombstone WHERE keyspace = $1::bigint", 1,
		   arguments);
	dc_sql("DELETE FROM datacake.floor WHERE keyspace = $1::bigint", 1,
		   arguments);
	dc_sql("DELETE FROM datacake.quarantine WHERE keyspace = $1::bigint", 1,
		   arguments);
	dc_role_end(role);
}

/*
 * A table that was replicated anew under its name may be known here as the old
 * keyspace still, and its new id as an alias of that.  It is adopted next.
 */
static void
reclaim_aliases(int slot)
{
	DcRole role = dc_role_begin(BOOTSTRAP_SUPERUSERID, false);

	for (int i = 0; i < DC_ALIASES; i++)
	{
		const char *arguments[1] = {
			dc_sql_number(dc_keyspace(slot)->aliases[i])};

		dc_sql("INSERT INTO datacake.unrealized (id, sqlstate, message) "
			   "SELECT k.id, '55006', 'its table ends to be another keyspace' "
			   "FROM datacake.keyspace k WHERE k.id = $1::bigint "
			   "ON CONFLICT DO NOTHING",
			   1, arguments);
	}
	dc_role_end(role);
}

void
dc_keyspace_dissolve(uint64 id)
{
	int slot = dc_keyspace_by_id(id);
	Oid relid;

	if (id == DC_CATALOGUE_ID || slot < 0 || dc_keyspace(slot)->id != id)
		return; /* a lost alias: the name lives on */
	relid = dc_keyspace(slot)->relid;
	if (OidIsValid(relid))
		LockRelationOid(relid, AccessExclusiveLock);
	if (OidIsValid(relid) && get_rel_name(relid) != NULL)
		drop_stamp_and_triggers(relid);
	forget_tombstones(id);
	reclaim_aliases(slot);
	remember(slot, DISSOLVED);
}

void
dc_keyspace_dropped(Oid relid, bool everywhere)
{
	for (int slot = 0; slot < dc_keyspace_slots(); slot++)
	{
		uint64 id = dc_keyspace(slot)->id;

		if (id == 0 || id == DC_CATALOGUE_ID ||
			dc_keyspace(slot)->relid != relid)
			continue;
		if (everywhere)
			dc_definition_delete(id);
		dc_keyspace_dissolve(id);
	}
}

static void
unreplicate(uint64 id)
{
	dc_definition_delete(id);
	dc_keyspace_dissolve(id);
}

/* SELECT datacake.unreplicate_table('orders') */
Datum
datacake_unreplicate_table(PG_FUNCTION_ARGS)
{
	Oid relid = PG_GETARG_OID(0);
	Relation relation;
	DcRel *rel;
	uint64 id;

	dc_require_loaded();
	dc_require_ready();
	relation = open_owned(relid);
	id = dc_rel_keyspace_id(relation);
	rel = id != 0 ? dc_rel(relation) : NULL;
	if (id == 0 || id == DC_CATALOGUE_ID)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("table \"%s\" is not replicated",
							   RelationGetRelationName(relation))));
	if (rel != NULL && rel->root != relid)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("table \"%s\" is a partition of replicated table "
						"\"%s\"",
						RelationGetRelationName(relation),
						get_rel_name(rel->root)),
				 errhint("Use the partitioned table, or ALTER TABLE ... DETACH "
						 "PARTITION.")));
	if (rel != NULL)
		id = dc_keyspace(rel->slot)->id;
	relation_close(relation, NoLock);

	SPI_connect();
	if (rel != NULL)
		unreplicate(id);
	else
		drop_stamp_and_triggers(relid);
	SPI_finish();
	PG_RETURN_VOID();
}

/* --- at start --- */

/*
 * Of several tables that bear the triggers of one keyspace the others were
 * restored from dumps.  One that was not adopted so far is not by a restart.
 */
static void
load_tables(void)
{
	uint64 rows =
		dc_sql("SELECT DISTINCT ON (k.id) k.id::text, c.oid::text, "
			   "k.key_bytes::text FROM (SELECT id, schema_name, table_name, "
			   "  key_bytes FROM datacake.keyspace "
			   "  UNION ALL SELECT 1, 'datacake', 'keyspace', 8) k "
			   "JOIN pg_catalog.pg_trigger t ON t.tgfoid = "
			   "  'datacake.capture_row()'::pg_catalog.regprocedure "
			   "  AND t.tgparentid = 0 AND t.tgnargs = 1 AND t.tgname = "
			   "  '" DC_CAPTURE_TRIGGER "' AND " DC_KEYSPACE_OF_TRIGGER
			   "  = k.id::text "
			   "JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid "
			   "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
			   "WHERE NOT EXISTS (SELECT FROM datacake.unrealized u "
			   "  WHERE u.id = k.id) ORDER BY k.id, (n.nspname, c.relname) = "
			   "  (k.schema_name, k.table_name) DESC, c.oid",
			   0, NULL);

	for (uint64 i = 0; i < rows; i++)
		(void) dc_keyspace_enter(strtoull(dc_sql_text(i, 1), NULL, 10),
								 (Oid) strtoul(dc_sql_text(i, 2), NULL, 10),
								 (uint32) atoi(dc_sql_text(i, 3)));
}

static void
load_aliases(void)
{
	uint64 rows =
		dc_sql("SELECT k.id::text, m.id::text FROM datacake.keyspace k "
			   "JOIN datacake.keyspace m USING (schema_name, table_name) "
			   "WHERE m.id > k.id",
			   0, NULL);

	for (uint64 i = 0; i < rows; i++)
	{
		uint64 a = strtoull(dc_sql_text(i, 1), NULL, 10);
		uint64 b = strtoull(dc_sql_text(i, 2), NULL, 10);
		int slot = Max(dc_keyspace_by_id(a), dc_keyspace_by_id(b));

		if (slot >= 0)
		{
			dc_keyspace_alias(slot, a);
			dc_keyspace_alias(slot, b);
		}
	}
}

/* What could not be realized is known all the same: its rows wait. */
static void
load_unrealized(void)
{
	uint64 rows = dc_sql("SELECT id::text, key_bytes::text "
						 "FROM datacake.keyspace",
						 0, NULL);

	for (uint64 i = 0; i < rows; i++)
		(void) dc_keyspace_enter(strtoull(dc_sql_text(i, 1), NULL, 10),
								 InvalidOid, (uint32) atoi(dc_sql_text(i, 2)));
}

void
dc_keyspace_load_all(void)
{
	load_tables();
	load_aliases();
	load_unrealized();
}

Relation
dc_keyspace_open_relation(int slot, LOCKMODE lock)
{
	Oid relid = dc_keyspace(slot)->relid;

	return OidIsValid(relid) ? try_relation_open(relid, lock) : NULL;
}
