/*
 * definition.c
 *		What a keyspace is: a row of datacake.keyspace.
 *
 * Both directions are SQL: the catalogues say everything in words that mean
 * the same on every node (names, pg_get_expr, format_type), oids do not.
 */
#include "definition.h"

#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

#include "rel.h"
#include "sql.h"

/* --- of tables here --- */

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

void
dc_definition_write(Oid relid, uint64 id, uint32 key_bytes)
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
dc_definition_update(Oid relid, uint64 id, const char *history,
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

void
dc_definition_delete(uint64 id)
{
	const char *arguments[1] = {dc_sql_number(id)};
	DcRole role = dc_role_begin(BOOTSTRAP_SUPERUSERID, false);

	dc_sql("DELETE FROM datacake.keyspace k USING datacake.keyspace o "
		   "WHERE o.id = $1::bigint AND k.schema_name = o.schema_name "
		   "AND k.table_name = o.table_name",
		   1, arguments);
	dc_role_end(role);
}

/* --- tables of definitions --- */

bool
dc_definition_read(uint64 id, DcDefinition *definition)
{
	const char *arguments[1] = {dc_sql_number(id)};
	DcRole role = dc_role_begin(BOOTSTRAP_SUPERUSERID, false);
	uint64 rows;

	/* who ends the keyspace waits for us, or we for him */
	rows =
		dc_sql("SELECT k.schema_name, k.table_name, k.owner, k.kind, "
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
			   "FROM datacake.keyspace k WHERE k.id = $1::bigint "
			   "FOR KEY SHARE OF k",
			   1, arguments);
	dc_role_end(role);
	if (rows != 1)
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
create_indexes(const DcDefinition *definition, Oid owner)
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
create_partitions(const DcDefinition *definition, Oid owner)
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
		dc_sql_own_ddl(commands[i]);
		dc_role_end(role);
	}
}

Oid
dc_definition_create(const DcDefinition *definition, Oid owner)
{
	const char *arguments[1] = {definition->schema};
	DcRole role;

	need_schema(definition->schema, definition->owner);
	role = dc_role_begin(owner, true);
	dc_sql_own_ddl(definition->create);
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

void
dc_definition_compare(const DcDefinition *definition, Oid relid)
{
	const char *arguments[2] = {dc_sql_number(definition->id),
								dc_sql_number(relid)};

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
}
