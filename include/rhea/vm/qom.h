/* The machine as a tree of objects, for qom-list, qom-get, qom-set and the like. What stands in it:
 *   /machine                    the board; properties: type, and those of -machine
 *   /machine/peripheral/ID      -device with an id (its properties, its parts as child<...>)
 *   /machine/peripheral-anon/device[N]
 *   /machine/unattached/device[N]       the board's devices, CPUs first
 *   /objects/ID                 -object
 * All functions run on the main loop. A path that does not start with '/' is looked up by its last components. */
#ifndef RHEA_VM_QOM_H
#define RHEA_VM_QOM_H

#include <stdbool.h>
#include <json-c/json.h>
#include "rhea/base/error.h"

struct vm;
struct vcpu;

/* [{name, type}]; NULL with class DeviceNotFound. */
struct json_object *qom_list(struct vm *vm, const char *path, struct error *err);
/* May return NULL for JSON null: look at err. */
struct json_object *qom_get(struct vm *vm, const char *path, const char *prop, struct error *err);
bool qom_set(struct vm *vm, const char *path, const char *prop, struct json_object *value, struct error *err);
/* Every type name of this build: devices, their kinds, objects, boards ("pc-q35-10.0-machine"), CPU models
 * ("qemu64-x86_64-cpu"), accelerators ("jit-accel", "tcg-accel"). implements NULL: all. */
struct json_object *qom_list_types(struct vm *vm, const char *implements, bool abstract);
/* [{name, type, description, default-value}] */
struct json_object *qom_type_properties(struct vm *vm, const char *type_name, struct error *err);
struct json_object *qom_device_properties(struct vm *vm, const char *type_name, struct error *err);  /* device-list-properties */
char *qom_cpu_path(const struct vcpu *v);       /* "/machine/unattached/device[0]"; caller frees */
char *qom_tree_text(struct vm *vm);             /* info qom-tree; caller frees */
char *qtree_text(struct vm *vm);                /* info qtree; caller frees */

#endif
