/*
 * rel.c
 *		What a process knows about a replicated table, and how its rows and
 *		keys become bytes.
 */
#include "rel.h"

#include "access/detoast.h"
#include "access/genam.h"
#include "access/relation.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/tupconvert.h"
#include "access/xact.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "parser/parse_type.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/syscache.h"

#include "batch.h"
#include "canonical.h"
#include "partition.h"
#include "type.h"

static HTAB *cache;
static uint64 generations;

static void
invalidate(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS status;
	DcRel *rel;

	hash_seq_init(&status, cache);
	while ((rel = hash_seq_search(&status)) != NULL)
	{
		if (!OidIsValid(relid) || relid == rel->relid ||
			list_member_oid(rel->type_relids, relid))
			rel->valid = false;
	}
}

/* A type was changed, whose name or columns are part of the description. */
static void
invalidate_type(Datum arg, int cache_id, uint32 hash)
{
	HASH_SEQ_STATUS status;
	DcRel *rel;

	hash_seq_init(&status, cache);
	while ((rel = hash_seq_search(&status)) != NULL)
	{
		if (hash == 0 || list_member_oid(rel->type_hashes, hash))
			rel->valid = false;
	}
}

static void
create_cache(void)
{
	HASHCTL ctl = {.keysize = sizeof(Oid), .entrysize = sizeof(DcRel)};

	cache = hash_create("datacake relations", 16, &ctl, HASH_ELEM | HASH_BLOBS);
	CacheRegisterRelcacheCallback(invalidate, (Datum) 0);
	CacheRegisterSyscacheCallback(TYPEOID, invalidate_type, (Datum) 0);
}

uint64
dc_rel_keyspace_id(Relation relation)
{
	TriggerDesc *triggers = relation->trigdesc;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		Trigger *trigger = &triggers->triggers[i];

		if (strcmp(trigger->tgname, DC_CAPTURE_TRIGGER) == 0 &&
			trigger->tgnargs == 1)
			return strtoull(trigger->tgargs[0], NULL, 10);
	}
	return 0;
}

const char *
dc_rel_early_trigger(Relation relation)
{
	TriggerDesc *triggers = relation->trigdesc;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		Trigger *trigger = &triggers->triggers[i];

		if (TRIGGER_FOR_ROW(trigger->tgtype) &&
			TRIGGER_FOR_AFTER(trigger->tgtype) &&
			strcmp(trigger->tgname, DC_CAPTURE_TRIGGER) < 0)
			return trigger->tgname;
	}
	return NULL;
}

/* Width of the bytes of a type, if all its values have the same; else 0. */
static uint32
fixed_width(Oid type)
{
	switch (type)
	{
		case BOOLOID:
			return 1;
		case INT2OID:
			return 2;
		case INT4OID:
		case DATEOID:
		case OIDOID:
			return 4;
		case INT8OID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return 8;
		case UUIDOID:
			return 16;
		default:
			return 0;
	}
}

/* How values of column->type become bytes. */
static void
describe_type(DcColumn *column, MemoryContext context)
{
	Oid function;
	bool is_varlena;

	column->binary = dc_type_is_portable(column->type);
	if (column->binary)
	{
		getTypeBinaryOutputInfo(column->type, &function, &is_varlena);
		fmgr_info_cxt(function, &column->output, context);
		getTypeBinaryInputInfo(column->type, &function, &column->ioparam);
	}
	else
	{
		getTypeOutputInfo(column->type, &function, &is_varlena);
		fmgr_info_cxt(function, &column->output, context);
		getTypeInputInfo(column->type, &function, &column->ioparam);
	}
	fmgr_info_cxt(function, &column->input, context);
}

static void
describe_column(DcColumn *column, Form_pg_attribute att, MemoryContext context)
{
	column->attnum = att->attnum;
	column->type = att->atttypid;
	column->typmod = att->atttypmod;
	column->varlena = att->attlen == -1;
	column->generated = att->attgenerated != '\0';
	column->base_type = getBaseType(att->atttypid);
	column->canonical = dc_canonical_differs(column->base_type);
	column->name = pstrdup(NameStr(att->attname));
	column->type_name = dc_type_name(att->atttypid, att->atttypmod);
	if (strlen(column->type_name) > DC_BATCH_NAME_BYTES_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("type of column \"%s\" has a name longer than %d "
						"bytes",
						column->name, DC_BATCH_NAME_BYTES_MAX)));
	describe_type(column, context);
}

DcColumn *
dc_rel_column_as(const DcColumn *column, const char *type_name)
{
	DcColumn *other = palloc(sizeof(DcColumn));

	*other = *column;
	parseTypeString(type_name, &other->type, &other->typmod, true);
	if (!OidIsValid(other->type))
		return NULL;
	describe_type(other, CurrentMemoryContext);
	return other;
}

static DcColumn *
column_of(DcRel *rel, AttrNumber attnum)
{
	for (int i = 0; i < rel->column_count; i++)
	{
		if (rel->columns[i].attnum == attnum)
			return &rel->columns[i];
	}
	return NULL;
}

static void
describe_key(DcRel *rel, Relation relation)
{
	Relation index;

	rel->pk_index = RelationGetPrimaryKeyIndex(relation);
	if (!OidIsValid(rel->pk_index))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has no primary key",
						RelationGetRelationName(relation)),
				 errhint("Add one with ALTER TABLE ... ADD PRIMARY KEY.")));
	index = relation_open(rel->pk_index, AccessShareLock);
	rel->key_count = IndexRelationGetNumberOfKeyAttributes(index);
	rel->keys = palloc0(sizeof(DcColumn *) * rel->key_count);
	for (int i = 0; i < rel->key_count; i++)
	{
		rel->keys[i] = column_of(rel, index->rd_index->indkey.values[i]);
		if (rel->keys[i] == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("primary key of table \"%s\" has a generated "
							"column",
							RelationGetRelationName(relation)),
					 errhint("Use plain columns as the primary key.")));
		rel->users_key |= rel->keys[i]->type >= FirstGenbkiObjectId;
	}
	relation_close(index, AccessShareLock);
	rel->key_bytes = rel->key_count == 1 ? fixed_width(rel->keys[0]->type) : 0;
}

static void
add_column(DcRel *rel, Form_pg_attribute att)
{
	DcColumn *column = &rel->columns[rel->column_count++];

	describe_column(column, att, rel->context);
	if (!column->binary)
		column->settings = dc_type_settings(att->atttypid);
	rel->settings |= column->settings;
	dc_type_depends(att->atttypid, &rel->type_hashes, &rel->type_relids);
}

/* The columns of a row's image, in the order of `order`; and the stamp's. */
static void
describe_columns(DcRel *rel, TupleDesc order, TupleDesc desc)
{
	for (int i = 0; i < order->natts; i++)
	{
		Form_pg_attribute wanted = TupleDescAttr(order, i);

		for (int k = 0; k < desc->natts && !wanted->attisdropped; k++)
		{
			Form_pg_attribute att = TupleDescAttr(desc, k);

			if (att->attisdropped || att->attgenerated != '\0' ||
				strcmp(NameStr(att->attname), NameStr(wanted->attname)) != 0)
				continue;
			if (strcmp(NameStr(att->attname), DC_STAMP_COLUMN) == 0)
				rel->stamp_attnum = att->attnum;
			else
				add_column(rel, att);
		}
	}
}

/* A partition's rows are rows of its root: same columns, in the same order. */
static void
describe_partition(DcRel *rel, Relation relation, Oid root_id)
{
	Relation root = relation_open(root_id, AccessShareLock);
	TupleDesc desc = RelationGetDescr(relation);

	describe_columns(rel, RelationGetDescr(root), desc);
	rel->to_root = build_attrmap_by_name_if_req(desc, RelationGetDescr(root));
	rel->from_root = build_attrmap_by_name_if_req(RelationGetDescr(root), desc);
	relation_close(root, AccessShareLock);
}

static void
describe(DcRel *rel, Relation relation, uint64 id, Oid root)
{
	TupleDesc desc = RelationGetDescr(relation);
	MemoryContext old;
	int level = dc_text_begin(DC_TEXT_NAMES); /* of types */

	rel->context =
		AllocSetContextCreate(CacheMemoryContext, "datacake relation",
							  ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(rel->context);
	rel->id = id;
	rel->root = root;
	rel->owner = relation->rd_rel->relowner;
	rel->natts = desc->natts;
	rel->values = palloc0(sizeof(Datum) * desc->natts);
	rel->nulls = palloc0(sizeof(bool) * desc->natts);
	rel->columns = palloc0(sizeof(DcColumn) * desc->natts);
	rel->column_count = 0;
	rel->stamp_attnum = InvalidAttrNumber;
	if (root == rel->relid)
		describe_columns(rel, desc, desc);
	else
		describe_partition(rel, relation, root);
	describe_key(rel, relation);
	if (dc_rel_early_trigger(relation) != NULL)
		rel->early_trigger = pstrdup(dc_rel_early_trigger(relation));
	dc_text_end(level);
	MemoryContextSwitchTo(old);
}

static DcRel *
enter(Relation relation, uint64 id)
{
	Oid relid = RelationGetRelid(relation);
	Oid root = dc_partition_root(relation, id);
	bool found;
	DcRel *rel;

	if (cache == NULL)
		create_cache();
	rel = hash_search(cache, &relid, HASH_ENTER, &found);
	/* who is at work with its columns, as with a batch, finds them still */
	if (found && rel->context != NULL)
		MemoryContextSetParent(rel->context, TopTransactionContext);
	memset(rel, 0, sizeof(*rel));
	rel->relid = relid;
	rel->generation = ++generations;
	rel->slot = -1;
	describe(rel, relation, id, root);
	if (rel->stamp_attnum == InvalidAttrNumber)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("replicated table \"%s\" has lost its column \"%s\"",
						RelationGetRelationName(relation), DC_STAMP_COLUMN)));
	return rel;
}

/* The slot of the keyspace, if this table is it here; else -1. */
static int
find_slot(Oid relid, uint64 id)
{
	int slot = dc_keyspace_by_id(id);

	return slot >= 0 && dc_keyspace(slot)->relid == relid ? slot : -1;
}

bool
dc_rel_is_adopted(Oid relid, uint64 id)
{
	return find_slot(relid, id) >= 0;
}

static void
take_slot(DcRel *rel, int slot)
{
	rel->slot = slot;
	rel->valid = slot >= 0;
	if (rel->valid)
		rel->slot_generation = dc_keyspace(slot)->generation;
}

/* Valid, and what it knows of the slot is so still. */
static bool
is_current(const DcRel *rel)
{
	const DcKeyspace *keyspace;

	if (!rel->valid)
		return false;
	keyspace = dc_keyspace(rel->slot);
	return keyspace->generation == rel->slot_generation &&
		   keyspace->relid == rel->root;
}

DcRel *
dc_rel(Relation relation)
{
	static DcRel *last; /* no description leaves the cache */
	Oid relid = RelationGetRelid(relation);
	DcRel *rel = last;
	uint64 id;

	if ((rel == NULL || rel->relid != relid) && cache != NULL)
		rel = last = hash_search(cache, &relid, HASH_FIND, NULL);
	if (likely(rel != NULL && is_current(rel)))
		return rel;

	id = dc_rel_keyspace_id(relation);
	if (id == 0)
		return NULL;
	rel = enter(relation, id);
	/* the launcher, waking the node, closes all slots and enters them anew */
	if (dc_here())
		dc_require_awake();
	take_slot(rel, find_slot(rel->root, id));
	return rel->valid ? rel : NULL;
}

DcRel *
dc_rel_adopt(Relation relation)
{
	uint64 id = dc_rel_keyspace_id(relation);
	DcRel *rel = id != 0 ? enter(relation, id) : NULL;

	if (rel == NULL)
		return NULL;
	take_slot(rel, dc_keyspace_enter(id, rel->root, rel->key_bytes));
	return rel;
}

/* --- bytes out --- */

static bool
is_raw_varlena(Oid type)
{
	return type == TEXTOID || type == VARCHAROID || type == BPCHAROID ||
		   type == BYTEAOID || type == XMLOID;
}

static void
append_integer(StringInfo out, uint64 value, int width)
{
	for (int i = width - 1; i >= 0; i--)
		appendStringInfoCharMacro(out, (char) (value >> (8 * i)));
}

static void
append_varint(StringInfo out, uint64 value)
{
	while (value >= 0x80)
	{
		appendStringInfoCharMacro(out, (char) (value | 0x80));
		value >>= 7;
	}
	appendStringInfoCharMacro(out, (char) value);
}

/* Appends a varint of length + bias, then the bytes. */
static void
append_counted(StringInfo out, const char *data, Size length, int bias)
{
	append_varint(out, length + bias);
	appendBinaryStringInfo(out, data, (int) length);
}

/*
 * Appends one value, with its length + bias in front, or bare if bias < 0.
 * Integers and strings of bytes are written here; the rest by its type.
 */
static void
append_value(DcColumn *column, Datum value, int bias, StringInfo out)
{
	int width = 0;
	uint64 bits = 0;

	switch (column->type)
	{
		case INT2OID:
			width = 2;
			bits = (uint64) DatumGetInt16(value);
			break;
		case INT4OID:
			width = 4;
			bits = (uint64) DatumGetInt32(value);
			break;
		case INT8OID:
			width = 8;
			bits = (uint64) DatumGetInt64(value);
			break;
		default:
			break;
	}
	if (width > 0)
	{
		if (bias >= 0)
			append_varint(out, width + bias);
		append_integer(out, bits, width);
	}
	else if (is_raw_varlena(column->type))
	{
		struct varlena *bytes = PG_DETOAST_DATUM_PACKED(value);

		if (bias >= 0)
			append_varint(out, VARSIZE_ANY_EXHDR(bytes) + bias);
		appendBinaryStringInfo(out, VARDATA_ANY(bytes),
							   (int) VARSIZE_ANY_EXHDR(bytes));
		if ((Pointer) bytes != DatumGetPointer(value))
			pfree(bytes);
	}
	else if (column->binary)
	{
		bytea *bytes = SendFunctionCall(&column->output, value);

		if (bias >= 0)
			append_varint(out, VARSIZE(bytes) - VARHDRSZ + bias);
		appendBinaryStringInfo(out, VARDATA(bytes),
							   (int) (VARSIZE(bytes) - VARHDRSZ));
		pfree(bytes);
	}
	else
	{
		char *text = OutputFunctionCall(&column->output, value);

		if (bias >= 0)
			append_varint(out, strlen(text) + bias);
		appendBinaryStringInfo(out, text, (int) strlen(text));
		pfree(text);
	}
}

static void
append_key(DcRel *rel, Datum *values, bool *nulls, StringInfo out)
{
	for (int i = 0; i < rel->key_count; i++)
	{
		int att = rel->keys[i]->attnum - 1;

		if (nulls[att])
			ereport(ERROR,
					(errcode(ERRCODE_NOT_NULL_VIOLATION),
					 errmsg("null value in key column \"%s\" of a replicated "
							"table",
							rel->keys[i]->name)));
		append_value(rel->keys[i],
					 rel->keys[i]->canonical ?
						 dc_canonical(rel->keys[i]->base_type, values[att]) :
						 values[att],
					 rel->key_bytes > 0 ? -1 : 0, out);
	}
}

/* Before a buffer that is too small for it complains in its own words. */
static void
check_image_size(Size length)
{
	if (length <= DC_BATCH_BYTES_MAX)
		return;
	ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					errmsg("row of a replicated table is too large"),
					errdetail("It takes %zu bytes or more; the limit is %u.",
							  length, DC_BATCH_BYTES_MAX),
					errhint("Divide the value among several rows.")));
}

static void
append_image(DcRel *rel, Datum *values, bool *nulls, StringInfo out)
{
	int start = out->len;

	for (int i = 0; i < rel->column_count; i++)
	{
		DcColumn *column = &rel->columns[i];
		int att = column->attnum - 1;

		if (nulls[att])
			append_varint(out, 0);
		else
		{
			if (column->varlena)
				check_image_size((Size) (out->len - start) +
								 toast_raw_datum_size(values[att]) - VARHDRSZ);
			append_value(column, values[att], 1, out);
		}
		check_image_size((Size) (out->len - start));
	}
}

typedef void (*AppendRow)(DcRel *rel, Datum *values, bool *nulls,
						  StringInfo out);

/* Send functions convert text to the encoding of the client. */
static void
append_unconverted(AppendRow append, int client, DcRel *rel, Datum *values,
				   bool *nulls, StringInfo out)
{
	PG_TRY();
	{
		SetClientEncoding(GetDatabaseEncoding());
		append(rel, values, nulls, out);
	}
	PG_CATCH();
	{
		SetClientEncoding(client);
		PG_RE_THROW();
	}
	PG_END_TRY();
	SetClientEncoding(client);
}

/*
 * Whatever the settings of the session are, the bytes are the same: text in
 * the encoding of the database, and see type.h.
 */
static void
append_alike(AppendRow append, DcRel *rel, Datum *values, bool *nulls,
			 StringInfo out)
{
	int client = pg_get_client_encoding();
	int level = dc_text_begin(rel->settings);

	if (likely(client == GetDatabaseEncoding()))
		append(rel, values, nulls, out);
	else
		append_unconverted(append, client, rel, values, nulls, out);
	dc_text_end(level);
}

void
dc_rel_key(DcRel *rel, Datum *values, bool *nulls, StringInfo out)
{
	int start = out->len;

	append_alike(append_key, rel, values, nulls, out);
	if (out->len - start > (int) DC_KEY_BYTES_MAX)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("key of a replicated table is too long"),
						errdetail("It takes %d bytes; the limit is %u.",
								  out->len - start, DC_KEY_BYTES_MAX)));
}

void
dc_rel_image(DcRel *rel, Datum *values, bool *nulls, StringInfo out)
{
	append_alike(append_image, rel, values, nulls, out);
}

/* Only rows that might be too large are made into images for that. */
void
dc_rel_check_size(DcRel *rel, Datum *values, bool *nulls)
{
	Size size = 0;
	StringInfoData image;

	for (int i = 0; i < rel->column_count; i++)
	{
		int att = rel->columns[i].attnum - 1;

		if (rel->columns[i].varlena && !nulls[att])
			size += toast_raw_datum_size(values[att]);
	}
	if (size < DC_BATCH_BYTES_MAX / 8)
		return;
	initStringInfo(&image);
	dc_rel_image(rel, values, nulls, &image);
	pfree(image.data);
}

void
dc_rel_dictionary(DcRel *rel, StringInfo out)
{
	char *schema = get_namespace_name(get_rel_namespace(rel->root));
	char *name = get_rel_name(rel->root);

	append_integer(out, rel->id, 8);
	append_counted(out, schema, strlen(schema), 0);
	append_counted(out, name, strlen(name), 0);
	append_varint(out, rel->column_count);
	for (int i = 0; i < rel->column_count; i++)
	{
		DcColumn *column = &rel->columns[i];

		append_counted(out, column->name, strlen(column->name), 0);
		append_counted(out, column->type_name, strlen(column->type_name), 0);
	}
}

/* --- bytes in --- */

static void
malformed(const char *what)
{
	ereport(ERROR, (errcode(MAKE_SQLSTATE('Y', 'D', '0', '1', '1')),
					errmsg("%s is malformed", what)));
}

static Datum
read_value(DcColumn *column, DcSlice bytes)
{
	const char *data = (const char *) bytes.data;
	StringInfoData buffer;

	switch (column->type)
	{
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
			pg_verifymbstr(data, (int) bytes.length, false);
			return PointerGetDatum(
				cstring_to_text_with_len(data, (int) bytes.length));
		case BYTEAOID:
			return PointerGetDatum(
				cstring_to_text_with_len(data, (int) bytes.length));
		default:
			break;
	}
	initStringInfo(&buffer);
	appendBinaryStringInfo(&buffer, data, (int) bytes.length);
	if (column->binary)
	{
		Datum value = ReceiveFunctionCall(&column->input, &buffer,
										  column->ioparam, column->typmod);

		if (buffer.cursor != buffer.len)
			malformed("row image");
		return value;
	}
	return InputFunctionCall(&column->input, buffer.data, column->ioparam,
							 column->typmod);
}

void
dc_rel_key_decode(DcRel *rel, const uint8 *data, Size length, Datum *values,
				  bool *nulls)
{
	DcReader r;
	int level = dc_text_begin(rel->settings);

	dc_reader_init(&r, data, length);
	for (int i = 0; i < rel->key_count; i++)
	{
		DcSlice bytes = rel->key_bytes > 0 ?
							dc_read_bytes(&r, length) :
							dc_read_string(&r, DC_KEY_BYTES_MAX);

		if (r.status != DC_OK)
			malformed("key");
		values[rel->keys[i]->attnum - 1] = read_value(rel->keys[i], bytes);
		nulls[rel->keys[i]->attnum - 1] = false;
	}
	if (dc_reader_finish(&r) != DC_OK)
		malformed("key");
	dc_text_end(level);
}

bool
dc_rel_key_try(DcRel *rel, const uint8 *data, Size length, Datum *values,
			   bool *nulls)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool readable = true;

	if (!rel->users_key)
	{
		dc_rel_key_decode(rel, data, length, values, nulls);
		return true;
	}
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		dc_rel_key_decode(rel, data, length, values, nulls);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) !=
				ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION) &&
			ERRCODE_TO_CATEGORY(error->sqlerrcode) !=
				ERRCODE_TO_CATEGORY(ERRCODE_CHECK_VIOLATION))
			ReThrowError(error);
		readable = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return readable;
}

static int
settings_of(DcColumn **columns, int count)
{
	int settings = 0;

	for (int i = 0; i < count; i++)
	{
		if (columns[i] != NULL)
			settings |= columns[i]->settings;
	}
	return settings;
}

void
dc_rel_image_decode(DcColumn **columns, int count, const uint8 *data,
					Size length, Datum *values, bool *nulls)
{
	DcReader r;
	int level = dc_text_begin(settings_of(columns, count));

	dc_reader_init(&r, data, length);
	for (int i = 0; i < count; i++)
	{
		uint64 size = dc_read_varint(&r, MaxAllocSize);
		DcSlice bytes = {NULL, 0};

		if (size > 0)
			bytes = dc_read_bytes(&r, size - 1);
		if (r.status != DC_OK)
			malformed("row image");
		if (columns[i] == NULL)
			continue;
		nulls[columns[i]->attnum - 1] = size == 0;
		values[columns[i]->attnum - 1] =
			size == 0 ? (Datum) 0 : read_value(columns[i], bytes);
	}
	if (dc_reader_finish(&r) != DC_OK)
		malformed("row image");
	dc_text_end(level);
}

/* --- rows --- */

DcHlc
dc_rel_stamp(DcRel *rel, TupleTableSlot *slot)
{
	bool null;
	Datum stamp = slot_getattr(slot, rel->stamp_attnum, &null);

	return null ? DC_HLC_NONE : (DcHlc) DatumGetInt64(stamp);
}

void
dc_rel_to_root(const DcRel *partition, TupleTableSlot *from, TupleTableSlot *to)
{
	if (partition->to_root != NULL)
		(void) execute_attr_map_slot(partition->to_root, from, to);
	else
		(void) ExecCopySlot(to, from);
	ExecMaterializeSlot(to);
}

static bool
find_in_partition(DcRel *rel, Relation relation, const uint8 *key, Size length,
				  Snapshot snapshot, TupleTableSlot *slot)
{
	Oid relid = dc_partition_find(relation, rel, rel->values);
	Relation partition;
	DcRel *part;
	TupleTableSlot *row;
	bool found = false;

	if (!OidIsValid(relid))
		return false;
	partition = relation_open(relid, AccessShareLock);
	part = dc_rel(partition);
	if (part != NULL)
	{
		row = table_slot_create(partition, NULL);
		found = dc_rel_find(part, partition, key, length, snapshot, row);
		if (found)
			dc_rel_to_root(part, row, slot);
		ExecDropSingleTupleTableSlot(row);
	}
	relation_close(partition, NoLock);
	return found;
}

bool
dc_rel_find(DcRel *rel, Relation relation, const uint8 *key, Size length,
			Snapshot snapshot, TupleTableSlot *slot)
{
	Relation index;
	ScanKeyData keys[INDEX_MAX_KEYS];
	IndexScanDesc scan;
	bool found;

	if (!dc_rel_key_try(rel, key, length, rel->values, rel->nulls))
		return false;
	if (dc_is_partitioned(relation))
		return find_in_partition(rel, relation, key, length, snapshot, slot);
	index = index_open(rel->pk_index, AccessShareLock);
	for (int i = 0; i < rel->key_count; i++)
	{
		Oid family = index->rd_opfamily[i];
		Oid type = index->rd_opcintype[i];
		Oid equal =
			get_opfamily_member(family, type, type, BTEqualStrategyNumber);

		ScanKeyInit(&keys[i], i + 1, BTEqualStrategyNumber, get_opcode(equal),
					rel->values[rel->keys[i]->attnum - 1]);
		keys[i].sk_collation = index->rd_indcollation[i];
	}
	scan = index_beginscan(relation, index, snapshot, rel->key_count, 0);
	index_rescan(scan, keys, rel->key_count, NULL, 0);
	found = index_getnext_slot(scan, ForwardScanDirection, slot);
	if (found)
		ExecMaterializeSlot(slot);
	index_endscan(scan);
	index_close(index, AccessShareLock);
	return found;
}

char *
dc_rel_key_text(DcRel *rel, const uint8 *key, Size length)
{
	StringInfoData text;

	initStringInfo(&text);
	if (!dc_rel_key_try(rel, key, length, rel->values, rel->nulls))
	{
		appendStringInfoString(&text, "\\x");
		enlargeStringInfo(&text, (int) (length * 2));
		text.len +=
			(int) hex_encode((const char *) key, length, text.data + text.len);
		text.data[text.len] = '\0';
		return text.data;
	}
	for (int i = 0; i < rel->key_count; i++)
	{
		Oid output;
		bool is_varlena;

		getTypeOutputInfo(rel->keys[i]->type, &output, &is_varlena);
		appendStringInfo(&text, "%s%s", i ? ", " : "",
						 OidOutputFunctionCall(output,
											   rel->values[rel->keys[i]->attnum -
														   1]));
	}
	return text.data;
}
