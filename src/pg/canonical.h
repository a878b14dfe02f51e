/*
 * canonical.h
 *		One form for values that are equal.
 *
 * Keys are compared as bytes everywhere, so equal keys must be equal bytes.
 * For most types they are.  Of these they become so: numeric and float without
 * what 1.0 and 1.00, or 0 and -0, differ in; char(n) without trailing blanks.
 * The row itself keeps the value as it was written.
 */
#ifndef DATACAKE_CANONICAL_H
#define DATACAKE_CANONICAL_H

#include "postgres.h"

#include "utils/rel.h"

/* Can equal values of this type (no domain) differ, and dc_canonical() helps? */
extern bool dc_canonical_differs(Oid type);

/* The form of a value that stands for all that are equal to it. */
extern Datum dc_canonical(Oid type, Datum value);

/* Do equal keys of this unique index become equal bytes? */
extern bool dc_canonical_suits(Relation index);

#endif
