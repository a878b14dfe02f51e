/*
 * sql.h
 *		Running SQL of our own from C.
 */
#ifndef DATACAKE_SQL_H
#define DATACAKE_SQL_H

#include "postgres.h"

#include "status.h"

/*
 * Inside SPI_connect(): runs one command with text arguments (NULL allowed)
 * and returns the number of rows; results are in SPI_tuptable.
 */
extern uint64 dc_sql(const char *command, int count,
					 const char *const *arguments);

/*
 * A statement that is run again and again: a static one, {"text"}, is planned
 * once in a process.
 */
typedef struct DcStatement
{
	const char *text;
	struct _SPI_plan *plan;
} DcStatement;

/* dc_sql() for such a statement. */
extern uint64 dc_sql_often(DcStatement *statement, int count,
						   const char *const *arguments);

/* Its plan, for SPI_execute_plan(); the types are always the same. */
extern struct _SPI_plan *dc_sql_plan(DcStatement *statement, int count,
									 Oid *types);

/* The OID of a table of ours. */
extern Oid dc_sql_relid(const char *table);

/* Is there no page in this table of ours?  Then no row is, to anybody. */
extern bool dc_sql_never_written(const char *table);

/* A number as an argument of dc_sql(); palloc'd. */
extern const char *dc_sql_number(uint64 number);

/* Column of a result row as text, palloc'd, or NULL. */
extern char *dc_sql_text(uint64 row, int column);

/* The quoted name of a table, with its schema; palloc'd. */
extern char *dc_sql_table(Oid relid);

/*
 * A command of our own, inside SPI: nobody has to follow it (alter.h).  The
 * flag is true meanwhile.
 */
extern void dc_sql_own_ddl(const char *command);
extern bool dc_own_ddl;

/* The code of a status of the core, for errcode(). */
extern int dc_sqlstate(DcStatus status);

/* Sets a configuration variable for the rest of the session. */
extern void dc_set_option(const char *name, const char *value);

/*
 * A short transaction of a worker, with a snapshot and inside SPI; and its
 * end, after which `context` is current again.
 */
extern void dc_transaction_begin(void);
extern void dc_transaction_commit(MemoryContext context);

/* After an ERROR that a worker survives. */
extern void dc_transaction_abort(void);

/*
 * Becomes another role until dc_role_end(); `restricted` adds
 * SECURITY_RESTRICTED_OPERATION.  An ERROR restores it with the transaction.
 */
typedef struct DcRole
{
	Oid user;
	int context;
	int guc_level;
} DcRole;

extern DcRole dc_role_begin(Oid role, bool restricted);
extern void dc_role_end(DcRole role);

#endif
