/*
 * type.h
 *		How values of a type travel between nodes, and what the type is called
 *		there.
 *
 * The binary form of a type is used where it is the same on every node.  It
 * is not where it contains numbers that each node gives to its objects.  Such
 * values travel as text, written and read under settings that are the same
 * everywhere.
 */
#ifndef DATACAKE_TYPE_H
#define DATACAKE_TYPE_H

#include "postgres.h"

#include "nodes/pg_list.h"

/* Do the type's send and receive functions mean the same on every node? */
extern bool dc_type_is_portable(Oid type);

/* Does it name an object of this node, like regclass? */
extern bool dc_type_names_object(Oid type);

/*
 * The type as nodes compare it: as format_type prints it, schema-qualified,
 * and for one that contains a composite type also its columns, because their
 * values travel in that order.  Long lists are replaced by their hash.
 */
extern char *dc_type_name(Oid type, int32 typmod);

/*
 * What dc_type_is_portable() and dc_type_name() looked at beyond what is
 * built in: appends the hash values of types in the syscache to `hashes`, the
 * relations of composite types to `relids`.
 */
extern void dc_type_depends(Oid type, List **hashes, List **relids);

/* Which settings a type's text depends on. */
#define DC_TEXT_FORMS 1 /* of dates, intervals, floats, money, bytea, xml */
#define DC_TEXT_ZONE  2
#define DC_TEXT_NAMES 4 /* of objects */
#define DC_TEXT_ALL   7

extern int dc_type_settings(Oid type);

/*
 * Between these, texts of values are written and read alike on every node, as
 * far as `settings` says that it matters.  An ERROR in between ends it as
 * well.
 */
extern int dc_text_begin(int settings);
extern void dc_text_end(int level);

#endif
