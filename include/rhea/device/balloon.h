/* The memory balloon, for QMP balloon and query-balloon. */
#ifndef RHEA_DEVICE_BALLOON_H
#define RHEA_DEVICE_BALLOON_H
#include "rhea/vm/vm.h"
/* Memory that the guest should keep, in bytes; class DeviceNotActive without a balloon. */
bool balloon_set_target(struct vm *vm, uint64_t bytes, struct error *err);
bool balloon_query(struct vm *vm, uint64_t *actual, struct error *err);         /* what it has now */
#endif
