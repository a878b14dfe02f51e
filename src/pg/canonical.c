/*
 * canonical.c
 *		One form for values that are equal.
 */
#include "canonical.h"

#include <math.h>

#include "access/nbtree.h"
#include "catalog/pg_am.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"

bool
dc_canonical_differs(Oid type)
{
	return type == NUMERICOID || type == FLOAT4OID || type == FLOAT8OID ||
		   type == BPCHAROID;
}

static Datum
canonical_float4(float4 number)
{
	return Float4GetDatum(isnan(number) ? get_float4_nan() : number + 0.0f);
}

static Datum
canonical_float8(float8 number)
{
	return Float8GetDatum(isnan(number) ? get_float8_nan() : number + 0.0);
}

Datum
dc_canonical(Oid type, Datum value)
{
	switch (type)
	{
		case NUMERICOID:
			return DirectFunctionCall1(numeric_trim_scale, value);
		case FLOAT4OID:
			return canonical_float4(DatumGetFloat4(value));
		case FLOAT8OID:
			return canonical_float8(DatumGetFloat8(value));
		case BPCHAROID:
			return DirectFunctionCall1(rtrim1, value);
		default:
			return value;
	}
}

/* Compared as the type does by default. */
static bool
has_canonical_form(Relation index, int i)
{
	Oid type = getBaseType(index->rd_opcintype[i]);
	Oid collation = index->rd_indcollation[i];
	Oid opclass = GetDefaultOpClass(type, BTREE_AM_OID);

	return dc_canonical_differs(type) && OidIsValid(opclass) &&
		   get_opclass_family(opclass) == index->rd_opfamily[i] &&
		   (!OidIsValid(collation) || get_collation_isdeterministic(collation));
}

/* What B-tree deduplication asks as well. */
static bool
has_equal_images(Relation index, int i)
{
	Oid type = index->rd_opcintype[i];
	Oid function =
		get_opfamily_proc(index->rd_opfamily[i], type, type, BTEQUALIMAGE_PROC);

	return OidIsValid(function) &&
		   DatumGetBool(OidFunctionCall1Coll(function,
											 index->rd_indcollation[i],
											 ObjectIdGetDatum(type)));
}

bool
dc_canonical_suits(Relation index)
{
	for (int i = 0; i < IndexRelationGetNumberOfKeyAttributes(index); i++)
	{
		if (!has_canonical_form(index, i) && !has_equal_images(index, i))
			return false;
	}
	return true;
}
