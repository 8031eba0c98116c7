/* File descriptors that clients pass: by name (getfd) and in sets that /dev/fdset/N names (-add-fd, add-fd).
 * Main loop only. */
#ifndef RHEA_VM_FDS_H
#define RHEA_VM_FDS_H

#include <stdbool.h>
#include <stdint.h>
#include <json-c/json.h>
#include "rhea/base/error.h"

struct vm;

/* getfd keeps fd under a name (an older one of that name is closed); whoever uses it takes it out: -1, none. */
void vm_keep_fd(struct vm *vm, const char *name, int fd);
int vm_take_fd(struct vm *vm, const char *name);

/* Takes fd over (also when it fails). set -1: a new set. *set_out: its number. */
bool fdset_add(struct vm *vm, int fd, int64_t set, const char *opaque, int64_t *set_out, struct error *err);
bool fdset_remove(struct vm *vm, int64_t set, int64_t fd /* -1: all */, struct error *err);
struct json_object *fdset_query(struct vm *vm);
/* As open(2), with /dev/fdset/N answered by a duplicate of a member of the right access mode; -1 with errno. */
int fdset_open(struct vm *vm, const char *path, int flags, int mode);
void vm_fds_cleanup(struct vm *vm);

#endif
