/* Making what -semihosting-config describes: see rhea/vm/semihosting.h. */
#ifndef RHEA_DEVICE_SEMIHOSTING_H
#define RHEA_DEVICE_SEMIHOSTING_H

#include <stdbool.h>
#include <json-c/json.h>
#include "rhea/base/error.h"

struct vm;
/* Sets vm->semihosting, which vm_destroy() frees. opts: the option's keys (enable=on). may_spawn: SYS_SYSTEM runs programs. */
bool semihosting_create(struct vm *vm, struct json_object *opts, bool may_spawn, struct error *err);

#endif
