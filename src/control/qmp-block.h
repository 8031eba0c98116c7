/* What files of block commands share. */
#ifndef RHEA_CONTROL_QMP_BLOCK_H
#define RHEA_CONTROL_QMP_BLOCK_H

#include <json-c/json.h>
#include "rhea/block/job.h"

/* blockdev-backup, drive-backup by their members, which fit the schema; in a transaction not started yet. */
struct job *block_backup_start(struct block_graph *g, struct json_object *all, bool drive, struct job_txn *txn, bool paused, struct error *err);

#endif
