/*
 * guc.h
 *		The settings, as variables.  Each is described where it is defined.
 */
#ifndef DATACAKE_GUC_H
#define DATACAKE_GUC_H

#include "postgres.h"

extern int datacake_node_id;
extern char *datacake_node_name;
extern char *datacake_cluster_id;
extern char *datacake_data_center;
extern char *datacake_database;
extern char *datacake_listen_address;
extern int datacake_port;
extern char *datacake_advertise_address;
extern char *datacake_conninfo;
extern char *datacake_seeds;
extern char *datacake_cluster_key_file;
extern int datacake_consistency;
extern int datacake_consistency_timeout_ms;
extern char *datacake_selector;
extern bool datacake_capture;
extern int datacake_gossip_interval_ms;
extern int datacake_join_rate_kb;
extern int datacake_repair_interval_s;
extern int datacake_max_clock_drift_ms;
extern int datacake_metadata_memory_mb;
extern int datacake_capture_memory_kb;
extern int datacake_queue_size_kb;
extern int datacake_spool_size_kb;
extern int datacake_max_nodes;
extern int datacake_max_keyspaces;
extern int datacake_repair_cells;
extern int datacake_conflict_history;

/* Defines all of them; at load time, from the postmaster. */
extern void dc_guc_define(void);

/* True when node_id, cluster_id and cluster_key_file are set. */
extern bool dc_configured(void);

/*
 * Is `conninfo` made of allowed keywords only?  Returns NULL, or a palloc'd
 * sentence that says what is wrong.  Used for the own setting and for what
 * peers send.
 */
extern char *dc_conninfo_complaint(const char *conninfo);

/* A peer that vanishes without a word is noticed within 15 s, by both sides. */
#define DC_ALIVE_IDLE_S     "5"
#define DC_ALIVE_INTERVAL_S "3"
#define DC_ALIVE_COUNT      "3"
#define DC_ALIVE_UNACKED_MS "15000"

/*
 * What a peer's session starts with, whatever the defaults of its server,
 * database and role are; the rest is set when it says hello (peer.c).
 */
#define DC_PEER_OPTIONS                                                        \
	"-c default_transaction_isolation=read\\ committed "                       \
	"-c default_transaction_read_only=off -c statement_timeout=0"

#endif
