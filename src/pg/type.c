/*
 * type.c
 *		How values of a type travel between nodes, and what the type is called
 *		there.
 *
 * What is in the binary form that differs from node to node:
 *
 *	array of a type of the user's     the number of the element type
 *	composite type                    the number of each column's type
 *	regclass and its like             the number of the object
 *
 * and xml says in which encoding it was sent, which then stays in the value.
 * The peers could read the first two, but a row would have other bytes on
 * each node, and nodes are compared by the bytes of their rows.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rangetypes.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "batch.h"
#include "type.h"

bool
dc_type_names_object(Oid type)
{
	switch (getBaseType(type))
	{
		case REGPROCOID:
		case REGPROCEDUREOID:
		case REGOPEROID:
		case REGOPERATOROID:
		case REGCLASSOID:
		case REGCOLLATIONOID:
		case REGTYPEOID:
		case REGROLEOID:
		case REGNAMESPACEOID:
		case REGCONFIGOID:
		case REGDICTIONARYOID:
			return true;
		default:
			return false;
	}
}

static bool
has_binary_form(Oid type)
{
	HeapTuple tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	Form_pg_type form;
	bool both;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for type %u", type);
	form = (Form_pg_type) GETSTRUCT(tuple);
	both = OidIsValid(form->typsend) && OidIsValid(form->typreceive);
	ReleaseSysCache(tuple);
	return both;
}

/* The type that a domain, an array or a range is made of; else InvalidOid. */
static Oid
inner_type(Oid type)
{
	switch (get_typtype(type))
	{
		case TYPTYPE_DOMAIN:
			return getBaseType(type);
		case TYPTYPE_RANGE:
			return get_range_subtype(type);
		case TYPTYPE_MULTIRANGE:
			return get_multirange_range(type);
		default:
			return get_element_type(type);
	}
}

bool
dc_type_is_portable(Oid type)
{
	Oid inner = inner_type(type);

	if (type == XMLOID || dc_type_names_object(type) ||
		get_typtype(type) == TYPTYPE_COMPOSITE || !has_binary_form(type))
		return false;
	if (!OidIsValid(inner))
		return true;
	/* numbers below this one are the same in every server */
	if (OidIsValid(get_element_type(type)) && inner >= FirstGenbkiObjectId)
		return false;
	return dc_type_is_portable(inner);
}

/* The columns of a composite type anywhere in this one: "(a integer, ...)". */
static void
append_columns(StringInfo out, Oid type)
{
	TupleDesc desc;
	bool first = true;
	Oid inner;

	check_stack_depth();
	inner = inner_type(type);
	if (OidIsValid(inner))
	{
		append_columns(out, inner);
		return;
	}
	if (get_typtype(type) != TYPTYPE_COMPOSITE)
		return;
	desc = lookup_rowtype_tupdesc(type, -1);
	appendStringInfoChar(out, '(');
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped)
			continue;
		appendStringInfo(out, "%s%s %s", first ? "" : ", ",
						 quote_identifier(NameStr(att->attname)),
						 dc_type_name(att->atttypid, att->atttypmod));
		first = false;
	}
	appendStringInfoChar(out, ')');
	ReleaseTupleDesc(desc);
}

char *
dc_type_name(Oid type, int32 typmod)
{
	char *name = format_type_extended(type, typmod,
									  FORMAT_TYPE_TYPEMOD_GIVEN |
										  FORMAT_TYPE_FORCE_QUALIFY);
	StringInfoData columns;

	initStringInfo(&columns);
	append_columns(&columns, type);
	if (strlen(name) + (Size) columns.len > DC_BATCH_NAME_BYTES_MAX)
	{
		uint64 hash =
			hash_bytes_extended((unsigned char *) columns.data, columns.len, 0);

		resetStringInfo(&columns);
		appendStringInfo(&columns, "(#" UINT64_FORMAT ")", hash);
	}
	return psprintf("%s%s", name, columns.data);
}

void
dc_type_depends(Oid type, List **hashes, List **relids)
{
	Oid relid = get_typ_typrelid(type);
	Oid inner = inner_type(type);
	TupleDesc desc;

	if (type >= FirstGenbkiObjectId)
		*hashes =
			lappend_oid(*hashes,
						GetSysCacheHashValue1(TYPEOID, ObjectIdGetDatum(type)));
	if (OidIsValid(inner))
		dc_type_depends(inner, hashes, relids);
	if (!OidIsValid(relid))
		return;
	*relids = lappend_oid(*relids, relid);
	desc = lookup_rowtype_tupdesc(type, -1);
	for (int i = 0; i < desc->natts; i++)
	{
		if (!TupleDescAttr(desc, i)->attisdropped)
			dc_type_depends(TupleDescAttr(desc, i)->atttypid, hashes, relids);
	}
	ReleaseTupleDesc(desc);
}

/* --- texts --- */

static int
base_type_settings(Oid type)
{
	char category;
	bool preferred;

	switch (type)
	{
		case TIMESTAMPTZOID:
			return DC_TEXT_FORMS | DC_TEXT_ZONE;
		case DATEOID:
		case TIMEOID:
		case TIMETZOID:
		case TIMESTAMPOID:
		case INTERVALOID:
		case FLOAT4OID:
		case FLOAT8OID:
		case POINTOID:
		case LINEOID:
		case LSEGOID:
		case BOXOID:
		case PATHOID:
		case POLYGONOID:
		case CIRCLEOID:
		case MONEYOID:
		case BYTEAOID:
		case XMLOID:
			return DC_TEXT_FORMS;
		default:
			break;
	}
	if (dc_type_names_object(type))
		return DC_TEXT_NAMES;
	get_type_category_preferred(type, &category, &preferred);
	return type < FirstGenbkiObjectId || category == TYPCATEGORY_STRING ?
			   0 :
			   DC_TEXT_ALL; /* who knows */
}

int
dc_type_settings(Oid type)
{
	Oid inner = inner_type(type);
	int settings = 0;
	TupleDesc desc;

	check_stack_depth();
	if (OidIsValid(inner))
		return dc_type_settings(inner);
	if (get_typtype(type) == TYPTYPE_ENUM)
		return 0;
	if (get_typtype(type) != TYPTYPE_COMPOSITE)
		return base_type_settings(type);
	desc = lookup_rowtype_tupdesc(type, -1);
	for (int i = 0; i < desc->natts; i++)
	{
		if (!TupleDescAttr(desc, i)->attisdropped)
			settings |= dc_type_settings(TupleDescAttr(desc, i)->atttypid);
	}
	ReleaseTupleDesc(desc);
	return settings;
}

/* Nothing is done, and nothing undone, where all is as it should be. */
int
dc_text_begin(int settings)
{
	static const struct
	{
		int mask;
		const char *name;
		const char *value;
	} fixed[] = {
		{DC_TEXT_FORMS, "bytea_output", "hex"},
		{DC_TEXT_FORMS, "DateStyle", "ISO, MDY"},
		{DC_TEXT_FORMS, "extra_float_digits", "1"},
		{DC_TEXT_FORMS, "IntervalStyle", "postgres"},
		{DC_TEXT_FORMS, "lc_monetary", "C"},
		{DC_TEXT_FORMS, "xmloption", "content"},
		{DC_TEXT_ZONE, "TimeZone", "UTC"},
		{DC_TEXT_NAMES, "quote_all_identifiers", "off"},
		{DC_TEXT_NAMES, "search_path", "pg_catalog, pg_temp"},
	};
	int level = 0;

	for (int i = 0; settings != 0 && i < (int) lengthof(fixed); i++)
	{
		if ((fixed[i].mask & settings) == 0 ||
			strcmp(GetConfigOption(fixed[i].name, false, false),
				   fixed[i].value) == 0)
			continue;
		if (level == 0)
			level = NewGUCNestLevel();
		(void) set_config_option(fixed[i].name, fixed[i].value, PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
								 false);
	}
	return level;
}

void
dc_text_end(int level)
{
	if (level != 0)
		AtEOXact_GUC(true, level);
}
