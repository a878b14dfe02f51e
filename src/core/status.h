/*
 * status.h
 *		What a function of the core may answer, as one list.
 *
 * The core never raises and never logs.  It returns one of these and, where
 * a number helps the reader of the message, fills a DcDetail.  The glue turns
 * the pair into an ereport in exactly one function; the unit tests and the
 * simulator print it.  Class "YD" is private to Datacake.
 */
#ifndef DC_STATUS_H
#define DC_STATUS_H

#include <stdint.h>

/* X(name, SQLSTATE, message) */
#define DC_STATUS_LIST(X)                                                      \
	X(OK, "00000", "ok")                                                       \
	X(FULL, "YD001", "metadata memory is full")                                \
	X(TOO_LONG, "54000", "value exceeds a limit of the wire format")           \
	X(TRUNCATED, "YD010", "message ends too early")                            \
	X(MALFORMED, "YD011", "message is malformed")                              \
	X(VERSION, "YD012", "wire version is not supported")                       \
	X(FORGED, "YD013", "message does not authenticate")                        \
	X(REPLAYED, "YD014", "message was seen before")                            \
	X(CLUSTER, "YD020", "message belongs to another cluster")                  \
	X(IDENTITY, "YD021", "node identity is in use by another node")            \
	X(CLOCK_SKEW, "YD022", "clock of the peer runs ahead")                     \
	X(UNKNOWN_KEYSPACE, "YD023", "keyspace is not known here")                 \
	X(REBUILDING, "YD024", "metadata is being rebuilt")                        \
	X(PAUSED, "YD025", "exchange with this node is paused")                    \
	X(SESSION, "YD026", "peer session is not valid")                           \
	X(STAMP_TWICE, "YD027", "two rows bear one stamp")                         \
	X(REMOVED, "YD029", "node was removed from the cluster")                   \
	X(NO_MAJORITY, "YD031", "a majority of the members does not answer")       \
	X(OUTVOTED, "YD032", "other changes of the member list are ahead")         \
	X(LINEAGE, "YD033", "node belongs to another line of member lists")        \
	X(NOT_MEMBER, "YD034", "node is not a member")                             \
	X(NOT_ALLOWED, "YD035", "member list does not permit this change")         \
	X(SPLIT, "YD036", "two member lists bear one number")                      \
	X(UNDECIDED, "YD037", "outcome of the change of the member list is open")  \
	X(BEHIND, "YD038", "commands of the cluster are to be run here first")     \
	X(BUSY, "YD039", "another command is being run")                           \
	X(UNREADABLE, "YD045", "too few replicas answer")                          \
	X(UNSETTLED, "YD046", "what is here of a key is not settled yet")          \
	X(LEVEL_UNMET, "YD060", "consistency level cannot be met")                 \
	X(LEVEL_LATE, "YD061", "consistency level was not reached in time")        \
	X(LEVEL_OPEN, "YD062", "outcome: committed here, level unknown")

typedef enum DcStatus
{
#define DC_STATUS_ENUM(name, sqlstate, text) DC_##name,
	DC_STATUS_LIST(DC_STATUS_ENUM)
#undef DC_STATUS_ENUM
	DC_STATUS_COUNT
} DcStatus;

/* Where in a message decoding stopped, and what stood there. */
typedef struct DcDetail
{
	uint64_t offset;
	uint64_t value;
} DcDetail;

/* Static strings; any value outside the enum answers as DC_MALFORMED. */
const char *dc_status_text(DcStatus status);
const char *dc_status_sqlstate(DcStatus status);

#endif
