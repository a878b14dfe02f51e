/*
 * capture.h
 *		Row triggers: stamp a row before it is written, note it after.
 */
#ifndef DATACAKE_CAPTURE_H
#define DATACAKE_CAPTURE_H

#include "postgres.h"

/*
 * True while this backend applies changes of other nodes: the triggers then
 * leave the rows alone.  A C flag, never a setting (P10).
 */
extern bool dc_applying;

#endif
