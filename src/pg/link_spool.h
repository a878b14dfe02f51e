/*
 * link_spool.h
 *		A batch that is in a file (spool.h), on its way to a peer.
 */
#ifndef DATACAKE_LINK_SPOOL_H
#define DATACAKE_LINK_SPOOL_H

#include "link_parts.h"
#include "queue.h"

/* Is this the file that could not be read?  Then it is a gap. */
extern bool dc_link_spool_is_gap(const DcLink *link, const DcQueued *queued);

/*
 * Sends the next chunk of the batch at the link's position; with the last one
 * the batch is sent.  Returns true: there is more to do.
 */
extern bool dc_link_send_spool(DcLink *link, const DcQueued *queued);

extern void dc_link_end_spool(DcLink *link);

#endif
