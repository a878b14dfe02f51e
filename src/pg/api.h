/*
 * api.h
 *		Makes datacake_api.h's functions known to other libraries.
 */
#ifndef DATACAKE_API_PUBLISH_H
#define DATACAKE_API_PUBLISH_H

/* From _PG_init, in the postmaster. */
extern void dc_api_publish(void);

#endif
