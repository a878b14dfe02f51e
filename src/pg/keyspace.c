/*
 * keyspace.c
 *		Tables become keyspaces, here and on the peers.
 *
 * Adopting a table (P7) happens under AccessExclusiveLock in one transaction:
 * the stamp column with one constant for all rows (no rewrite), the triggers,
 * and one entry per row, merged straight into a map that nobody else can
 * reach yet.  The transaction's slot holds the watermark back until it ends,
 * and a gap in the queue makes every link send the rows by a catch-up.
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
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "canonical.h"
#include "changes.h"
#include "compat.h"
#include "guc.h"
#include "mend.h"
#include "partition.h"
#include "partition_ddl.h"
#include "rel.h"
#include "sql.h"
#include "type.h"

DC_SQL_FUNCTION(datacake_replicate_table);
DC_SQL_FUNCTION(datacake_unreplicate_table);

/* A slot to be closed if its (sub)transaction aborts, or at commit. */
typedef struct Pending
{
	int slot;
	bool dissolved; /* close at commit; else close at abort */
	SubTransactionId subid;
} Pending;

static List *pending;

static void
on_transaction_event(XactEvent event, void *arg)
{
	ListCell *cell;

	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT)
		return;
	foreach (cell, pending)
	{
		Pending *p = lfirst(cell);

		if (p->dissolved == (event == XACT_EVENT_COMMIT))
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
		Pending *p = llast(pending);

		if (!p->dissolved)
			dc_keyspace_close(p->slot);
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
remember(int slot, bool is_dissolved)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	Pending *p = palloc(sizeof(Pending));

	p->slot = slot;
	p->dissolved = is_dissolved;
	p->subid = GetCurrentSubTransactionId();
	pending = lappend(pending, p);
	MemoryContextSwitchTo(old);
}

bool dc_own_ddl = false;

/* Commands of our own: alter.c leaves them alone. */
static void
ddl(const char *command)
{
	dc_own_ddl = true;
	PG_TRY();
	{
		dc_sql(command, 0, NULL);
	}
	PG_FINALLY();
	{
		dc_own_ddl = false;
	}
	PG_END_TRY();
}

static char *
quoted(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(
										  get_rel_namespace(relid)),
									  get_rel_name(relid));
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
			index->rd_index->indisunique && !index->rd_index->indimmediate;

		index_close(index, AccessShareLock);
		if (deferrable)
			refuse(relation, "it has a deferrable unique constraint",
				   "Use primary keys and unique constraints that are NOT "
				   "DEFERRABLE.");
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
	char *table = quoted(relid);
	DcRole role = dc_role_begin(BOOTSTRAP_SUPERUSERID, false);

	/* stamps of another life, as of a copy, may lie where all is forgotten */
	if (has_stamp_column(relid))
		ddl(psprintf("ALTER TABLE %s DROP COLUMN %s", table, DC_STAMP_COLUMN));
	ddl(psprintf("ALTER TABLE %s ADD COLUMN %s datacake.hlc NOT NULL "
				 "DEFAULT '%llu'",
				 table, DC_STAMP_COLUMN, (unsigned long long) stamp));
	ddl(psprintf("ALTER TABLE %s ALTER COLUMN %s DROP DEFAULT", table,
				 DC_STAMP_COLUMN));
	ddl(psprintf("CREATE TRIGGER \"%s\" BEFORE INSERT OR UPDATE OR DELETE "
				 "ON %s FOR EACH ROW EXECUTE FUNCTION "
				 "datacake.stamp_row()",
				 DC_STAMP_TRIGGER, table));
	ddl(psprintf("CREATE TRIGGER \"%s\" AFTER INSERT OR UPDATE OR DELETE "
				 "ON %s FOR EACH ROW EXECUTE FUNCTION "
				 "datacake.capture_row('%llu')",
				 DC_CAPTURE_TRIGGER, table, (unsigned long long) id));
	ddl(psprintf("CREATE TRIGGER \"%s\" BEFORE TRUNCATE ON %s FOR EACH "
				 "STATEMENT EXECUTE FUNCTION datacake.capture_truncate()",
				 DC_TRUNCATE_TRIGGER, table));
	ddl(psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER \"%s\", ENABLE "
				 "ALWAYS TRIGGER \"%s\", ENABLE ALWAYS TRIGGER \"%s\"",
				 table, DC_STAMP_TRIGGER, DC_CAPTURE_TRIGGER,
				 DC_TRUNCATE_TRIGGER));
	dc_role_end(role);
	CommandCounterIncrement();
}

static void
drop_stamp_and_triggers(Oid relid)
{
	char *table = quoted(relid);
	DcRole role = dc_role_begin(BOOTSTRAP_SUPERUSERID, false);
	static const char *const triggers[] = {DC_STAMP_TRIGGER, DC_CAPTURE_TRIGGER,
										   DC_TRUNCATE_TRIGGER};
	ListCell *cell;

	for (int i = 0; i < (int) lengthof(triggers); i++)
		ddl(psprintf("DROP TRIGGER IF EXISTS \"%s\" ON %s", triggers[i],
					 table));
	foreach (cell, dc_partition_leaves(relid, AccessExclusiveLock))
		if (lfirst_oid(cell) != relid)
			ddl(psprintf("DROP TRIGGER IF EXISTS \"%s\" ON %s",
						 DC_TRUNCATE_TRIGGER, quoted(lfirst_oid(cell))));
	ddl(psprintf("ALTER TABLE %s DROP COLUMN IF EXISTS %s", table,
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

/* One entry for each row; the map belongs to this transaction alone. */
static void
enter_row(DcRel *rel, TupleTableSlot *row, DcKey key, void *arg)
{
	DcEntry entry = {.stamp = dc_rel_stamp(rel, row), .dead = false};
	DcEntry found;

	dc_rel_check_size(rel, row->tts_values, row->tts_isnull);
	if (dc_metadata_try_merge(rel->slot, key, entry, &found) != DC_OK)
		(void) dc_metadata_reserve(rel->slot, key, true); /* the error */
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
	remember(rel->slot, false);
	table_close(relation, NoLock);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	if (dc_keyspace_visit(rel->slot, snapshot, enter_row, NULL) > 0)
		dc_changes_gap();
	UnregisterSnapshot(snapshot);
}

/* --- definitions --- */

#define DEFINITION_COLUMNS                                                     \
	"(SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object("              \
	" 'name', a.attname,"                                                      \
	" 'type', pg_catalog.format_type(a.atttypid, a.atttypmod),"                \
	" 'not_null', a.attnotnull,"                                               \
	" 'collation', (SELECT pg_catalog.format('%I.%I', o.nspname, l.collname)"  \
	"   FROM pg_catalog.pg_collation l, pg_catalog.pg_namespace o,"            \
	"   pg_catalog.pg_type t WHERE l.oid = a.attcollation"                     \
	"   AND o.oid = l.collnamespace AND t.oid = a.atttypid"                    \
	"   AND t.typcollation <> a.attcollation),"                                \
	" 'generated', a.attgenerated <> '',"                                      \
	" 'default', CASE WHEN d.oid IS NULL OR EXISTS (SELECT FROM "              \
	"   pg_catalog.pg_depend p JOIN pg_catalog.pg_class s ON s.oid = "         \
	"   p.refobjid AND s.relkind = 'S' WHERE p.classid = "                     \
	"   'pg_catalog.pg_attrdef'::pg_catalog.regclass AND p.objid = d.oid)"     \
	"   THEN NULL ELSE pg_catalog.pg_get_expr(d.adbin, d.adrelid) END)"        \
	" ORDER BY a.attnum)"                                                      \
	" FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_attrdef d"        \
	"   ON d.adrelid = a.attrelid AND d.adnum = a.attnum"                      \
	" WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"        \
	"   AND a.attname <> '" DC_STAMP_COLUMN "')"

#define DEFINITION_KEY                                                         \
	"(SELECT pg_catalog.array_agg(a.attname::text ORDER BY k.n)"               \
	" FROM pg_catalog.pg_index i,"                                             \
	"   pg_catalog.unnest(i.indkey) WITH ORDINALITY k(attnum, n),"             \
	"   pg_catalog.pg_attribute a"                                             \
	" WHERE i.indrelid = c.oid AND i.indisprimary AND k.n <= i.indnkeyatts"    \
	"   AND a.attrelid = c.oid AND a.attnum = k.attnum)"

/* Whatever says which rows cannot be beside each other is needed everywhere. */
#define DEFINITION_CONSTRAINTS                                                 \
	"(SELECT pg_catalog.jsonb_agg(d.d ORDER BY d.d->>'index' NULLS FIRST,"     \
	"   d.d->>'name') FROM ("                                                  \
	" SELECT pg_catalog.jsonb_build_object('name', n.conname,"                 \
	"   'definition', pg_catalog.pg_get_constraintdef(n.oid))"                 \
	" FROM pg_catalog.pg_constraint n"                                         \
	" WHERE n.conrelid = c.oid AND n.contype IN ('u', 'c', 'x')"               \
	" UNION ALL"                                                               \
	" SELECT pg_catalog.jsonb_build_object("                                   \
	"   'index', pg_catalog.pg_get_indexdef(i.indexrelid))"                    \
	" FROM pg_catalog.pg_index i"                                              \
	" WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid"             \
	"   AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint n"                \
	"     WHERE n.conindid = i.indexrelid AND n.conrelid = c.oid)) d(d))"

#define DEFINITION_PARTITIONS                                                  \
	"(CASE WHEN c.relkind = 'p' THEN pg_catalog.jsonb_build_object("           \
	" 'by', pg_catalog.pg_get_partkeydef(c.oid), 'parts',"                     \
	" (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object("             \
	"   'schema', pn.nspname, 'name', p.relname,"                              \
	"   'of_schema', un.nspname, 'of', u.relname,"                             \
	"   'bound', pg_catalog.pg_get_expr(p.relpartbound, p.oid),"               \
	"   'by', pg_catalog.pg_get_partkeydef(p.oid))"                            \
	"   ORDER BY t.level, p.oid)"                                              \
	"  FROM pg_catalog.pg_partition_tree(c.oid) t"                             \
	"  JOIN pg_catalog.pg_class p ON p.oid = t.relid"                          \
	"  JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace"             \
	"  JOIN pg_catalog.pg_class u ON u.oid = t.parentrelid"                    \
	"  JOIN pg_catalog.pg_namespace un ON un.oid = u.relnamespace"             \
	"  WHERE t.level > 0)) END)"

/* What a default or a CHECK says is to mean the same on every node. */
static void
pin_constants(void)
{
	(void) set_config_option("datestyle", "ISO", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("intervalstyle", "postgres", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

static void
write_definition(Oid relid, uint64 id, uint32 key_bytes)
{
	const char *arguments[3] = {dc_sql_number(id), dc_sql_number(relid),
								dc_sql_number(key_bytes)};
	DcRole role = dc_role_begin(BOOTSTRAP_SUPERUSERID, false);

	pin_constants();
	if (dc_sql("INSERT INTO datacake.keyspace (id, schema_name, table_name, "
			   "owner, key_bytes, columns, primary_key, constraints, "
			   "partitions) "
			   "SELECT $1::bigint, n.nspname, c.relname, "
			   "pg_catalog.pg_get_userbyid(c.relowner), $3::int, " DEFINITION_COLUMNS
			   ", " DEFINITION_KEY ", " DEFINITION_CONSTRAINTS
			   ", " DEFINITION_PARTITIONS " "
			   "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n "
			   "ON n.oid = c.relnamespace WHERE c.oid = $2::oid",
			   3, arguments) != 1)
		elog(ERROR, "could not write the definition of relation %u", relid);
	dc_role_end(role);
}

void
dc_keyspace_redefine(Oid relid, uint64 id, const char *history,
					 const char *forgotten)
{
	const char *arguments[4] = {dc_sql_number(id), dc_sql_number(relid),
								history, forgotten};
	DcRole role = dc_role_begin(BOOTSTRAP_SUPERUSERID, false);

	pin_constants();
	dc_sql("UPDATE datacake.keyspace k SET schema_name = d.nspname, "
		   "table_name = d.relname, owner = d.owner, columns = d.columns, "
		   "primary_key = d.primary_key, constraints = d.constraints, "
		   "partitions = d.partitions, history = d.history "
		   "FROM (SELECT o.schema_name, o.table_name, n.nspname, c.relname, "
		   "  pg_catalog.pg_get_userbyid(c.relowner)::text AS owner, " DEFINITION_COLUMNS
		   " AS columns, " DEFINITION_KEY
		   " AS primary_key, " DEFINITION_CONSTRAINTS
		   " AS constraints, " DEFINITION_PARTITIONS " AS partitions, "
		   "  (o.history || $3::jsonb) - $4::text[] AS history "
		   "  FROM pg_catalog.pg_class c "
		   "  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace, "
		   "  datacake.keyspace o WHERE c.oid = $2::oid "
		   "  AND o.id = $1::bigint) d "
		   "WHERE k.schema_name = d.schema_name "
		   "AND k.table_name = d.table_name "
		   "AND (k.schema_name, k.table_name, k.owner, k.columns, "
		   "  k.primary_key, k.constraints, k.partitions, k.history) IS DISTINCT FROM "
		   "  (d.nspname, d.relname, d.owner, d.columns, d.primary_key, "
		   "  d.constraints, d.partitions, d.history)",
		   4, arguments);
	dc_role_end(role);
}

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
	write_definition(relid, stamp, dc_rel(relation)->key_bytes);
	table_close(relation, NoLock);
	SPI_finish();
	PG_RETURN_VOID();
}

/* --- definitions of others --- */

typedef struct Definition
{
	char *schema;
	char *table;
	char *owner;
	char *kind;
	char *create; /* the CREATE TABLE command */
	uint64 id;
	uint32 key_bytes;
	uint64 least_id; /* of all definitions with this name */
} Definition;

static bool
read_definition(uint64 id, Definition *definition)
{
	const char *arguments[1] = {dc_sql_number(id)};

	if (dc_sql("SELECT k.schema_name, k.table_name, k.owner, k.kind, "
			   "pg_catalog.format('CREATE TABLE %I.%I (%s, PRIMARY KEY (%s)%s)%s',"
			   " k.schema_name, k.table_name,"
			   " (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ',"
			   "   pg_catalog.quote_ident(e.c->>'name'), e.c->>'type',"
			   "   'COLLATE ' || (e.c->>'collation'),"
			   "   CASE WHEN (e.c->>'generated')::boolean"
			   "     THEN pg_catalog.format('GENERATED ALWAYS AS (%s) STORED',"
			   "       e.c->>'default')"
			   "     ELSE 'DEFAULT ' || (e.c->>'default') END,"
			   "   CASE WHEN (e.c->>'not_null')::boolean"
			   "     THEN 'NOT NULL' END), ', ' ORDER BY e.n)"
			   "  FROM pg_catalog.jsonb_array_elements(k.columns)"
			   "    WITH ORDINALITY e(c, n)),"
			   " (SELECT pg_catalog.string_agg("
			   "    pg_catalog.quote_ident(p.c), ', ' ORDER BY p.n)"
			   "  FROM pg_catalog.unnest(k.primary_key)"
			   "    WITH ORDINALITY p(c, n)),"
			   " (SELECT pg_catalog.string_agg(pg_catalog.format("
			   "    ', CONSTRAINT %I %s', t.c->>'name',"
			   "    t.c->>'definition'), '')"
			   "  FROM pg_catalog.jsonb_array_elements(k.constraints) t(c)"
			   "  WHERE t.c->>'name' IS NOT NULL),"
			   " ' PARTITION BY ' || (k.partitions->>'by')),"
			   " k.key_bytes,"
			   " (SELECT min(o.id) FROM datacake.keyspace o WHERE"
			   "   o.schema_name = k.schema_name"
			   "   AND o.table_name = k.table_name) "
			   "FROM datacake.keyspace k WHERE k.id = $1::bigint",
			   1, arguments) != 1)
		return false;
	definition->id = id;
	definition->schema = dc_sql_text(0, 1);
	definition->table = dc_sql_text(0, 2);
	definition->owner = dc_sql_text(0, 3);
	definition->kind = dc_sql_text(0, 4);
	definition->create = dc_sql_text(0, 5);
	definition->key_bytes = (uint32) atoi(dc_sql_text(0, 6));
	definition->least_id = strtoull(dc_sql_text(0, 7), NULL, 10);
	return true;
}

static void
need_schema(const char *schema, const char *owner)
{
	DcRole role;

	if (OidIsValid(get_namespace_oid(schema, true)))
		return;
	role = dc_role_begin(BOOTSTRAP_SUPERUSERID, false);
	dc_sql(psprintf("CREATE SCHEMA %s AUTHORIZATION %s",
					quote_identifier(schema), quote_identifier(owner)),
		   0, NULL);
	dc_role_end(role);
}

/* Unique indexes that are no constraints. */
static void
create_indexes(const Definition *definition, Oid owner)
{
	const char *arguments[1] = {dc_sql_number(definition->id)};
	uint64 count =
		dc_sql("SELECT t.c->>'index' FROM datacake.keyspace k, "
			   "pg_catalog.jsonb_array_elements(k.constraints) t(c) "
			   "WHERE k.id = $1::bigint AND t.c->>'index' IS NOT NULL",
			   1, arguments);
	char **commands = palloc(sizeof(char *) * (count + 1));
	DcRole role;

	for (uint64 i = 0; i < count; i++)
		commands[i] = dc_sql_text(i, 1);
	role = dc_role_begin(owner, true);
	for (uint64 i = 0; i < count; i++)
		dc_sql(commands[i], 0, NULL);
	dc_role_end(role);
}

/* Here as they were there; later each node may have others. */
static void
create_partitions(const Definition *definition, Oid owner)
{
	const char *arguments[1] = {dc_sql_number(definition->id)};
	uint64 count =
		dc_sql("SELECT p->>'schema', pg_catalog.concat(pg_catalog.format("
			   "'CREATE TABLE %I.%I PARTITION OF %I.%I ', p->>'schema', "
			   "p->>'name', p->>'of_schema', p->>'of'), p->>'bound', "
			   "' PARTITION BY ' || (p->>'by')) "
			   "FROM datacake.keyspace k, pg_catalog.jsonb_array_elements("
			   "k.partitions->'parts') WITH ORDINALITY e(p, n) "
			   "WHERE k.id = $1::bigint AND k.partitions->'parts' <> 'null' "
			   "ORDER BY e.n",
			   1, arguments);
	char **schemas = palloc(sizeof(char *) * (count + 1));
	char **commands = palloc(sizeof(char *) * (count + 1));

	for (uint64 i = 0; i < count; i++)
	{
		schemas[i] = dc_sql_text(i, 1);
		commands[i] = dc_sql_text(i, 2);
	}
	for (uint64 i = 0; i < count; i++)
	{
		DcRole role;

		need_schema(schemas[i], definition->owner);
		role = dc_role_begin(owner, true);
		ddl(commands[i]);
		dc_role_end(role);
	}
}

static Oid
create_table(const Definition *definition, Oid owner)
{
	const char *arguments[1] = {definition->schema};
	DcRole role;

	need_schema(definition->schema, definition->owner);
	role = dc_role_begin(owner, true);
	ddl(definition->create);
	dc_role_end(role);
	create_partitions(definition, owner);
	create_indexes(definition, owner);
	if (strcmp(definition->kind, "keyspace") == 0)
	{
		role = dc_role_begin(BOOTSTRAP_SUPERUSERID, false);
		dc_sql("SELECT datacake.define_keyspace_functions($1)", 1, arguments);
		dc_role_end(role);
	}
	CommandCounterIncrement();
	return get_relname_relid(definition->table,
							 get_namespace_oid(definition->schema, false));
}

/* The table is here already: are all columns of the definition, too? */
static void
check_table(Oid relid, uint64 id, const Definition *definition)
{
	const char *arguments[2] = {dc_sql_number(id), dc_sql_number(relid)};
	Relation relation;

	if (dc_sql("SELECT c->>'name', c->>'type' FROM datacake.keyspace k, "
			   "pg_catalog.jsonb_array_elements(k.columns) c "
			   "WHERE k.id = $1::bigint AND NOT EXISTS (SELECT FROM "
			   "pg_catalog.pg_attribute a WHERE a.attrelid = $2::oid AND "
			   "a.attnum > 0 AND NOT a.attisdropped AND "
			   "a.attname = c->>'name' AND "
			   "pg_catalog.format_type(a.atttypid, a.atttypmod) = c->>'type')",
			   2, arguments) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("table \"%s.%s\" differs from its definition in the "
						"cluster",
						definition->schema, definition->table),
				 errdetail("Column \"%s\" of type %s is missing or has "
						   "another type.",
						   dc_sql_text(0, 1), dc_sql_text(0, 2)),
				 errhint("Make the tables alike, then SELECT "
						 "datacake.retry().")));
	if (dc_sql("SELECT FROM datacake.keyspace k, pg_catalog.pg_class c "
			   "WHERE k.id = $1::bigint AND c.oid = $2::oid AND "
			   "k.primary_key IS NOT DISTINCT FROM " DEFINITION_KEY,
			   2, arguments) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("table \"%s.%s\" has another primary key than in the "
						"cluster",
						definition->schema, definition->table),
				 errhint("Make the tables alike, then SELECT "
						 "datacake.retry().")));
	relation = relation_open(relid, AccessExclusiveLock);
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
		dc_keyspace_alias(rel->slot, id);
	relation_close(relation, NoLock);
	if (rel == NULL && here != 0 && here != id)
		drop_stamp_and_triggers(relid);
	return rel != NULL;
}

void
dc_keyspace_realize(uint64 id)
{
	Definition definition;
	Oid relid = InvalidOid;
	Oid owner;
	Oid schema;

	dc_retry_soon(); /* what waits may fit a new definition */
	if (id == DC_CATALOGUE_ID || has_table(id) ||
		!read_definition(id, &definition))
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
		relid = create_table(&definition, owner);
	else
		check_table(relid, id, &definition);
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
	remember(slot, true);
}

/* Deletes a definition, and those of other nodes under its name. */
static void
delete_definition(uint64 id)
{
	const char *arguments[1] = {dc_sql_number(id)};
	DcRole role = dc_role_begin(BOOTSTRAP_SUPERUSERID, false);

	dc_sql("DELETE FROM datacake.keyspace k USING datacake.keyspace o "
		   "WHERE o.id = $1::bigint AND k.schema_name = o.schema_name "
		   "AND k.table_name = o.table_name",
		   1, arguments);
	dc_role_end(role);
}

void
dc_keyspace_dropped(Oid relid, bool everywhere)
{
	for (int slot = 0; slot < datacake_max_keyspaces; slot++)
	{
		uint64 id = dc_keyspace(slot)->id;

		if (id == 0 || id == DC_CATALOGUE_ID ||
			dc_keyspace(slot)->relid != relid)
			continue;
		if (everywhere)
			delete_definition(id);
		dc_keyspace_dissolve(id);
	}
}

static void
unreplicate(uint64 id)
{
	delete_definition(id);
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

void
dc_keyspace_load_all(void)
{
	uint64 rows = dc_sql("SELECT t.tgrelid::text FROM pg_catalog.pg_trigger t "
						 "WHERE t.tgfoid = 'datacake.capture_row()'"
						 "::pg_catalog.regprocedure AND t.tgparentid = 0",
						 0, NULL);
	Oid *relids = palloc(sizeof(Oid) * (rows + 1));

	for (uint64 i = 0; i < rows; i++)
		relids[i] = (Oid) strtoul(dc_sql_text(i, 1), NULL, 10);
	for (uint64 i = 0; i < rows; i++)
	{
		Relation relation = try_relation_open(relids[i], AccessShareLock);

		if (relation == NULL)
			continue;
		if (dc_rel_is_defined(dc_rel_keyspace_id(relation)))
			(void) dc_rel_adopt(relation);
		relation_close(relation, AccessShareLock);
	}
	rows = dc_sql("SELECT k.id::text, m.id::text FROM datacake.keyspace k "
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
	/* what could not be realized is known all the same: its rows wait */
	rows = dc_sql("SELECT id::text, key_bytes::text FROM datacake.keyspace", 0,
				  NULL);
	for (uint64 i = 0; i < rows; i++)
	{
		uint64 id = strtoull(dc_sql_text(i, 1), NULL, 10);

		if (dc_keyspace_by_id(id) < 0)
			(void) dc_keyspace_enter(id, InvalidOid,
									 (uint32) atoi(dc_sql_text(i, 2)));
	}
}

Relation
dc_keyspace_open_relation(int slot, LOCKMODE lock)
{
	Oid relid = dc_keyspace(slot)->relid;

	return OidIsValid(relid) ? try_relation_open(relid, lock) : NULL;
}
