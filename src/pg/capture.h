/*
 * capture.h
 *		Row triggers: stamp a row before it is written, note it after.
 */
#ifndef DATACAKE_CAPTURE_H
#define DATACAKE_CAPTURE_H

#include "postgres.h"

#include "hlc.h"

/*
 * True while this backend applies changes of other nodes: the triggers then
 * leave the rows alone.  A C flag, never a setting (P10).
 */
extern bool dc_applying;

/*
 * The stamp for what replaces a row of that stamp, which need not be locked
 * yet: the transaction's own, or a fresh one if the row is newer.  Below a stamp
 * that lies ahead of the clock, which nobody has drawn.  ERROR if the node is
 * leaving.
 */
extern DcHlc dc_stamp_over(DcHlc replaced);

#endif
