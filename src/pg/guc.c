/*
 * guc.c
 *		The settings of Datacake.
 */
#include "guc.h"

#include "libpq-fe.h"
#include "utils/guc.h"

#include <limits.h>

#include "hlc.h"
#include "iblt.h"

int datacake_node_id;
char *datacake_node_name;
char *datacake_cluster_id;
char *datacake_data_center;
char *datacake_database;
char *datacake_listen_address;
int datacake_port;
char *datacake_advertise_address;
char *datacake_conninfo;
char *datacake_seeds;
char *datacake_cluster_key_file;
int datacake_consistency;
int datacake_consistency_timeout_ms;
char *datacake_selector;
bool datacake_capture;
int datacake_gossip_interval_ms;
int datacake_join_rate_kb;
int datacake_repair_interval_s;
int datacake_max_clock_drift_ms;
int datacake_metadata_memory_mb;
int datacake_capture_memory_kb;
int datacake_queue_size_kb;
int datacake_spool_size_kb;
int datacake_max_nodes;
int datacake_conflict_history;
int datacake_max_keyspaces;
int datacake_repair_cells;

static const struct config_enum_entry consistency_levels[] = {
	{"none", 0, false},        {"one", 1, false},    {"two", 2, false},
	{"three", 3, false},       {"quorum", 4, false}, {"local_quorum", 5, false},
	{"each_quorum", 6, false}, {"all", 7, false},    {NULL, 0, false},
};

/* Only what names a server and how to be let in; nothing that runs or loads. */
static const char *const conninfo_keywords[] = {
	"host",
	"hostaddr",
	"port",
	"dbname",
	"user",
	"passfile",
	"sslmode",
	"sslrootcert",
	"sslcert",
	"sslkey",
	"sslcrl",
	"channel_binding",
	"keepalives",
	"keepalives_idle",
	"connect_timeout",
	"tcp_user_timeout",
	"application_name",
};

char *
dc_conninfo_complaint(const char *conninfo)
{
	char *parse_error = NULL;
	PQconninfoOption *options = PQconninfoParse(conninfo, &parse_error);
	char *complaint = NULL;

	if (options == NULL)
	{
		complaint = pstrdup(parse_error ? parse_error : "out of memory");
		complaint[strcspn(complaint, "\n")] = '\0'; /* libpq's ends in one */
		PQfreemem(parse_error);
		return complaint;
	}
	for (PQconninfoOption *o = options; o->keyword != NULL; o++)
	{
		bool allowed = o->val == NULL;

		for (int i = 0; i < (int) lengthof(conninfo_keywords); i++)
			allowed |= strcmp(o->keyword, conninfo_keywords[i]) == 0;
		if (!allowed && complaint == NULL)
			complaint = psprintf("keyword \"%s\" is not allowed", o->keyword);
	}
	PQconninfoFree(options);
	return complaint;
}

static bool
check_conninfo(char **newval, void **extra, GucSource source)
{
	char *complaint;

	if (**newval == '\0')
		return true;
	if (strlen(*newval) >= 384)
		complaint = "it is longer than 383 bytes";
	else
		complaint = dc_conninfo_complaint(*newval);
	if (complaint == NULL)
		return true;
	GUC_check_errdetail("The connection string is refused: %s.", complaint);
	GUC_check_errhint("Put passwords into a file named by passfile.");
	return false;
}

/* Names travel in datagrams; short, printable, no quotes. */
static bool
check_name(char **newval, void **extra, GucSource source)
{
	size_t length = strlen(*newval);

	for (size_t i = 0; i < length; i++)
	{
		unsigned char c = (unsigned char) (*newval)[i];

		if (c <= ' ' || c == '"' || c == '\'' || c == '\\' || c >= 127)
			length = 64;
	}
	if (length < 64)
		return true;
	GUC_check_errdetail(
		"A name has at most 63 printable ASCII characters, without "
		"spaces and quotes.");
	return false;
}

/* host:port, host not empty and port in range; advances over it. */
static bool
is_address(const char *text, size_t length)
{
	const char *end = text + length;
	const char *colon = end;
	long port = 0;

	while (colon > text && *colon != ':')
		colon--;
	if (colon == text || end - colon < 2 || end - colon > 6)
		return false;
	for (const char *c = colon + 1; c < end; c++)
	{
		if (*c < '0' || *c > '9')
			return false;
		port = port * 10 + (*c - '0');
	}
	for (const char *c = text; c < colon; c++)
	{
		if (*c == ' ' || *c == ',')
			return false;
	}
	return port >= 1 && port <= 65535;
}

/* A list with commas, and spaces around them; may be empty. */
static bool
check_addresses(char **newval, void **extra, GucSource source)
{
	const char *at = *newval;

	while (*at != '\0')
	{
		const char *start = at + strspn(at, " ");
		size_t length = strcspn(start, ", ");

		at = start + length;
		at += strspn(at, " ");
		if (!is_address(start, length) || (*at != ',' && *at != '\0'))
		{
			GUC_check_errdetail("Addresses are written as host:port.");
			return false;
		}
		at += *at == ',';
	}
	return true;
}

static bool
check_address(char **newval, void **extra, GucSource source)
{
	if (**newval == '\0' || is_address(*newval, strlen(*newval)))
		return true;
	GUC_check_errdetail("An address is written as host:port.");
	return false;
}

static bool
check_not_empty(char **newval, void **extra, GucSource source)
{
	if (**newval != '\0')
		return true;
	GUC_check_errdetail("It must not be empty.");
	return false;
}

static void
define_string(const char *name, const char *description, char **variable,
			  const char *boot, GucContext context, GucStringCheckHook check)
{
	DefineCustomStringVariable(name, description, NULL, variable, boot, context,
							   0, check, NULL, NULL);
}

static void
define_int(const char *name, const char *description, int *variable, int boot,
		   int min, int max, GucContext context, int flags)
{
	DefineCustomIntVariable(name, description, NULL, variable, boot, min, max,
							context, flags, NULL, NULL, NULL);
}

static void
define_identity(void)
{
	define_int("datacake.node_id",
			   "Number of this node, unique in its cluster; 0 turns Datacake off.",
			   &datacake_node_id, 0, 0, DC_NODE_ID_MAX, PGC_POSTMASTER, 0);
	define_string("datacake.node_name", "Name of this node in views and logs.",
				  &datacake_node_name, "", PGC_POSTMASTER, check_name);
	define_string("datacake.cluster_id",
				  "Name of the cluster; nodes of another cluster are refused.",
				  &datacake_cluster_id, "", PGC_POSTMASTER, check_name);
	define_string("datacake.data_center", "Data centre this node stands in.",
				  &datacake_data_center, "default", PGC_POSTMASTER, check_name);
	define_string("datacake.database", "Database that is replicated.",
				  &datacake_database, "postgres", PGC_POSTMASTER,
				  check_not_empty);
	define_string("datacake.cluster_key_file",
				  "File of mode 0600 with the keys of the cluster.",
				  &datacake_cluster_key_file, "", PGC_POSTMASTER, NULL);
}

static void
define_network(void)
{
	define_string("datacake.listen_address", "Address on which gossip listens.",
				  &datacake_listen_address, "127.0.0.1", PGC_POSTMASTER, NULL);
	define_int("datacake.port", "UDP port on which gossip listens.",
			   &datacake_port, 7432, 1, 65535, PGC_POSTMASTER, 0);
	define_string("datacake.advertise_address",
				  "host:port under which other nodes reach this node's gossip.",
				  &datacake_advertise_address, "", PGC_POSTMASTER,
				  check_address);
	define_string("datacake.conninfo",
				  "Connection string with which other nodes reach this server.",
				  &datacake_conninfo, "", PGC_SIGHUP, check_conninfo);
	define_string("datacake.seeds",
				  "Comma-separated host:port list of nodes to find the cluster by.",
				  &datacake_seeds, "", PGC_SIGHUP, check_addresses);
	define_int("datacake.gossip_interval", "Time between gossip rounds.",
			   &datacake_gossip_interval_ms, 250, 20, 60000, PGC_SIGHUP,
			   GUC_UNIT_MS);
	define_int("datacake.join_rate",
			   "What an empty node takes of another one in a second while it "
			   "copies it; 0: as much as it can.",
			   &datacake_join_rate_kb, 0, 0, 1024 * 1024, PGC_SIGHUP,
			   GUC_UNIT_KB);
	define_int("datacake.repair_interval",
			   "Time between comparisons with a peer, one peer after the "
			   "other; 0 turns them off.",
			   &datacake_repair_interval_s, 600, 0, 30 * 86400, PGC_SIGHUP,
			   GUC_UNIT_S);
	define_int("datacake.max_clock_drift",
			   "Stamps further ahead of the local clock are not taken.",
			   &datacake_max_clock_drift_ms, 500, 10, 60000, PGC_POSTMASTER,
			   GUC_UNIT_MS);
}

static void
define_limits(void)
{
	define_int("datacake.metadata_memory",
			   "Shared memory for the entries of all keyspaces.",
			   &datacake_metadata_memory_mb, 128, 4, 1024 * 1024,
			   PGC_POSTMASTER, GUC_UNIT_MB);
	define_int("datacake.capture_memory",
			   "Row images that a transaction keeps in memory; more go to a file.",
			   &datacake_capture_memory_kb, 64 * 1024, 64, 1024 * 1024,
			   PGC_SUSET, GUC_UNIT_KB);
	define_int("datacake.queue_size",
			   "Shared memory for committed batches on their way to peers.",
			   &datacake_queue_size_kb, 32 * 1024, 256, 1024 * 1024,
			   PGC_POSTMASTER, GUC_UNIT_KB);
	define_int("datacake.spool_size",
			   "Disk space for transactions that are too large for the queue.",
			   &datacake_spool_size_kb, 1024 * 1024, 0, INT_MAX, PGC_SIGHUP,
			   GUC_UNIT_KB);
	define_int("datacake.max_nodes", "Nodes that this server can know.",
			   &datacake_max_nodes, 64, 3, DC_NODE_ID_MAX, PGC_POSTMASTER, 0);
	define_int("datacake.max_keyspaces",
			   "Keyspaces that this server can hold, its own catalogue included.",
			   &datacake_max_keyspaces, 128, 4, 1024, PGC_POSTMASTER, 0);
	define_int("datacake.repair_cells",
			   "Cells kept for each keyspace, by which repair names few "
			   "differences in few bytes; 0: none.",
			   &datacake_repair_cells, 0, 0, DC_IBLT_CELLS_MAX, PGC_POSTMASTER,
			   0);
	define_int("datacake.conflict_history",
			   "Conflicts kept in datacake.conflicts; 0 only counts them.",
			   &datacake_conflict_history, 10000, 0, 10000000, PGC_SIGHUP, 0);
}

static void
define_session(void)
{
	DefineCustomEnumVariable("datacake.consistency",
							 "Nodes that must hold a write before COMMIT returns.",
							 NULL, &datacake_consistency, 0, consistency_levels,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	define_int("datacake.consistency_timeout",
			   "Longest wait for the consistency level after commit.",
			   &datacake_consistency_timeout_ms, 10000, 1, INT_MAX, PGC_USERSET,
			   GUC_UNIT_MS);
	DefineCustomStringVariable("datacake.selector",
							   "Who chooses the nodes that a read asks: "
							   "\"default\", or a registered selector.",
							   NULL, &datacake_selector, "default", PGC_USERSET,
							   0, NULL, NULL, NULL);
	DefineCustomBoolVariable("datacake.capture",
							 "Writes made while this is off are not sent to other nodes.",
							 NULL, &datacake_capture, true, PGC_SUSET, 0, NULL,
							 NULL, NULL);
}

void
dc_guc_define(void)
{
	define_identity();
	define_network();
	define_limits();
	define_session();
	MarkGUCPrefixReserved("datacake");
}

bool
dc_configured(void)
{
	return datacake_node_id > 0 && *datacake_cluster_id != '\0' &&
		   *datacake_cluster_key_file != '\0';
}
