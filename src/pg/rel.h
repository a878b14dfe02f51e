/*
 * rel.h
 *		What a process knows about a replicated table, and how its rows and
 *		keys become bytes.
 *
 * A table is a keyspace if it bears our capture trigger; the trigger's
 * argument is the keyspace id, so renaming, dumping and restoring the table
 * keep it.  The description is cached per process and rebuilt after the
 * relation changed.
 *
 * A partitioned table is one keyspace (partition.h).  Each partition has a
 * description of its own, with the columns in the order of the root: key and
 * image of a row are the same bytes, wherever it is stored.
 *
 * Key bytes: a single column of fixed width as it is; otherwise varint length
 * and bytes of each column.  Keys are compared as bytes everywhere, so equal
 * values become equal bytes (canonical.h).
 * Image: for each column varint length + 1 and bytes, or 0 for NULL.  The
 * bytes are those of the type's send function, or its text where that would
 * mean something else elsewhere (type.h); text in the encoding of the database,
 * whatever the client's is.  Whoever decodes runs in a session whose client
 * encoding is the database's.
 */
#ifndef DATACAKE_REL_H
#define DATACAKE_REL_H

#include "postgres.h"

#include "access/attnum.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

#include "metadata.h"

#define DC_STAMP_COLUMN     "_stamp"
#define DC_STAMP_TRIGGER    "~datacake_stamp"   /* sorts last */
#define DC_CAPTURE_TRIGGER  "!datacake_capture" /* sorts first */
#define DC_TRUNCATE_TRIGGER "!datacake_truncate"

/* The keyspace of keyspaces; the same id everywhere. */
#define DC_CATALOGUE_ID UINT64CONST(1)

/* Its keyspace's id, as text, of a row t of pg_trigger. */
#define DC_KEYSPACE_OF_TRIGGER                                                 \
	"pg_catalog.split_part(pg_catalog.encode(t.tgargs, 'escape'), "            \
	"E'\\\\000', 1)"

typedef struct DcColumn
{
	AttrNumber attnum;
	Oid type;
	int32 typmod;
	bool generated;
	bool varlena;
	bool binary;    /* by send and receive; else as text (type.h) */
	int settings;   /* that its texts depend on (type.h) */
	bool canonical; /* equal values can differ; keys hold one form of them */
	Oid base_type;  /* of a domain */
	char *name;
	char *type_name; /* as nodes compare it (type.h) */
	FmgrInfo output; /* send or output */
	FmgrInfo input;  /* receive or input */
	Oid ioparam;
} DcColumn;

typedef struct DcRel
{
	Oid relid; /* hash key */
	Oid root;  /* the keyspace's table; itself, unless this is a partition */
	bool valid;
	uint64 generation; /* another one for each description */
	uint64 id;
	int slot;
	uint32 slot_generation; /* of its use when the slot was looked for */
	Oid owner;
	Oid pk_index;
	AttrNumber stamp_attnum;
	uint32 key_bytes;
	int key_count;
	DcColumn **keys;
	bool users_key;   /* of a type that is not built in */
	int column_count; /* without the stamp and generated columns */
	DcColumn *columns;
	int settings;      /* that texts of columns depend on */
	List *type_hashes; /* of the types that this rests on, and ... */
	List *type_relids; /* ... of relations, for composite ones (type.h) */
	int natts;
	struct AttrMap *to_root; /* of a partition; NULL: the same columns */
	struct AttrMap *from_root;
	char *early_trigger; /* or NULL */
	Datum *values;       /* scratch of natts */
	bool *nulls;
	MemoryContext context;
} DcRel;

/*
 * The description of an open relation; NULL if it is no keyspace, although it
 * may bear the triggers of one (restored from a dump).  Stays valid until the
 * relation's lock is released; its columns, should a later call describe the
 * relation anew, until the transaction ends.
 */
extern DcRel *dc_rel(Relation relation);

/* The same for a table that becomes a keyspace: its id is entered. */
extern DcRel *dc_rel_adopt(Relation relation);

/*
 * Is this table, which bears the triggers of a keyspace, that keyspace here?
 * One that was restored from a dump is not.  The node is awake.
 */
extern bool dc_rel_is_adopted(Oid relid, uint64 id);

/*
 * A trigger that fires after a row was written, and before we see it; NULL:
 * none.  What it writes to the same row would be overtaken by what we note
 * after that.
 */
extern const char *dc_rel_early_trigger(Relation relation);

/* A row of a partition, as a row of the root; materialized. */
extern void dc_rel_to_root(const DcRel *partition, TupleTableSlot *from,
						   TupleTableSlot *to);

/* The keyspace id in the trigger argument of this relation; 0: none. */
extern uint64 dc_rel_keyspace_id(Relation relation);

/* Appends the dictionary entry of a batch for this table (batch.h). */
extern void dc_rel_dictionary(DcRel *rel, StringInfo out);

/* Appends the key of a row, given as values by attribute. */
extern void dc_rel_key(DcRel *rel, Datum *values, bool *nulls, StringInfo out);

/* Appends the image of a row; ERROR if it is too large (DC_BATCH_BYTES_MAX). */
extern void dc_rel_image(DcRel *rel, Datum *values, bool *nulls,
						 StringInfo out);

/* ERROR if the image of the row would be too large. */
extern void dc_rel_check_size(DcRel *rel, Datum *values, bool *nulls);

/* Key bytes -> values of the key columns; ERROR if malformed. */
extern void dc_rel_key_decode(DcRel *rel, const uint8 *data, Size length,
							  Datum *values, bool *nulls);

/*
 * The same, and false if the key cannot be a row of this node: its enum has no
 * such label here, or its domain does not allow it.
 */
extern bool dc_rel_key_try(DcRel *rel, const uint8 *data, Size length,
						   Datum *values, bool *nulls);

/*
 * Image -> values.  `columns[i]` is the local column for the i-th of the
 * image.  Values of other columns are left alone.  ERROR if malformed.
 */
extern void dc_rel_image_decode(DcColumn **columns, int count,
								const uint8 *data, Size length, Datum *values,
								bool *nulls);

/*
 * A column like this one, of another type as a batch names it, to decode what
 * was written before its type was changed; NULL if there is no such type.
 */
extern DcColumn *dc_rel_column_as(const DcColumn *column,
								  const char *type_name);

/*
 * Finds the row of a key by an index scan under the snapshot, unlocked.
 * Copies it into `slot` and returns true, or false if there is none.
 */
extern bool dc_rel_find(DcRel *rel, Relation relation, const uint8 *key,
						Size length, Snapshot snapshot, TupleTableSlot *slot);

/* The stamp of the row in `slot`. */
extern DcHlc dc_rel_stamp(DcRel *rel, TupleTableSlot *slot);

/* Text of a key for messages and views: "(1, abc)". */
extern char *dc_rel_key_text(DcRel *rel, const uint8 *key, Size length);

#endif
