/*
 * init.c
 *		What happens when the library is loaded.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "api.h"
#include "guc.h"
#include "insert_check.h"
#include "keyspace.h"
#include "planned_stamp.h"
#include "shmem.h"
#include "transaction.h"
#include "utility.h"
#include "worker.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return; /* each entry point says what is missing */
	dc_guc_define();
	dc_shmem_request();
	dc_keyspace_init();
	dc_transaction_init();
	dc_utility_init();
	dc_insert_check_init();
	dc_planned_stamp_init();
	dc_launcher_register();
	dc_api_publish();
}
