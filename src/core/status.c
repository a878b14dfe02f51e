/*
 * status.c
 *		Texts and SQLSTATEs of the core's answers.
 */
#include "status.h"

#include <stddef.h>

static const struct
{
	const char *sqlstate;
	const char *text;
} statuses[] = {
#define DC_STATUS_ROW(name, sqlstate, text) {sqlstate, text},
	DC_STATUS_LIST(DC_STATUS_ROW)
#undef DC_STATUS_ROW
};

static DcStatus
known(DcStatus status)
{
	return (size_t) status < DC_STATUS_COUNT ? status : DC_MALFORMED;
}

const char *
dc_status_text(DcStatus status)
{
	return statuses[known(status)].text;
}

const char *
dc_status_sqlstate(DcStatus status)
{
	return statuses[known(status)].sqlstate;
}
