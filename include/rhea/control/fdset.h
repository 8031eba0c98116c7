/* Sets of file descriptors that clients pass (-add-fd, add-fd) and that /dev/fdset/N names. */
#ifndef RHEA_CONTROL_FDSET_H
#define RHEA_CONTROL_FDSET_H

#include <stdbool.h>
#include <stdint.h>
#include <json-c/json.h>
#include "rhea/base/error.h"

struct vm;

/* Takes fd over. set -1: a new set. Returns false with err; the set's number by fdset_last(). */
bool fdset_add(struct vm *vm, int fd, int64_t set, const char *opaque, struct error *err);
struct json_object *fdset_add_reply(struct vm *vm, int fd, int64_t set, const char *opaque, struct error *err);
bool fdset_remove(struct vm *vm, int64_t set, int64_t fd /* -1: all */, struct error *err);
struct json_object *fdset_query(struct vm *vm);
/* As open(2), with /dev/fdset/N answered by a duplicate of a member of the right access mode; -1 with errno. */
int fdset_open(struct vm *vm, const char *path, int flags, int mode);
void fdset_cleanup(struct vm *vm);

#endif
