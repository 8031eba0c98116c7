/* Objects that the user makes beside devices (-object, object-add): I/O threads, random sources, memory back ends,
 * secrets. As with devices, a class is one const descriptor; help and introspection come out of it. */
#ifndef RHEA_VM_OBJECT_H
#define RHEA_VM_OBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <json-c/json.h>
#include "rhea/base/error.h"
#include "rhea/base/loop.h"
#include "rhea/vm/device.h"

struct vm;
struct object;
struct ram_block;

struct object_class {
    const char *name;           /* "rng-random" */
    const char *parent;         /* "rng-backend", "memory-backend", "object" */
    const char *summary;
    size_t size;                /* of the instance, which begins with struct object */
    const struct prop *props;   /* for help, introspection and the check of names; ends with a NULL name */
    bool (*create)(struct object *obj, struct error *err);      /* takes what it needs from obj->opts */
    void (*destroy)(struct object *obj);
    bool (*set)(struct object *obj, const char *prop, struct json_object *value, struct error *err);   /* qom-set */
};

struct object {
    const struct object_class *cls;
    struct vm *vm;
    char *id;
    struct json_object *opts;   /* as the user gave them, flat */
    unsigned users;             /* object-del is refused while anyone uses it */
};

#define OBJECT_(name)                                                                              \
    static const struct object_class name;                                                         \
    static const struct object_class *const DEVICE_CONCAT(name, _ptr)                              \
        __attribute__((section("rhea_objects"), used)) = &name;                                    \
    static const struct object_class name
#define OBJECT OBJECT_(DEVICE_CONCAT(object_class_, __COUNTER__))
const struct object_class *object_class_find(const char *name);
const struct object_class *const *object_classes(unsigned *count);

bool object_add(struct vm *vm, struct json_object *opts, struct error *err);   /* qom-type, id, properties */
bool object_del(struct vm *vm, const char *id, struct error *err);
struct object *object_find(struct vm *vm, const char *id);
/* A hold on an object whose class is, or has as parent, `kind`; the error names what is wrong. */
struct object *object_get(struct vm *vm, const char *id, const char *kind, struct error *err);
void object_put(struct object *obj);
char *object_help(const char *class_name);      /* NULL: the list; caller frees */
void object_cleanup(struct vm *vm);             /* after the devices are gone */

/* What the kinds do */
struct loop *iothread_loop(struct object *iothread);            /* kind "iothread" */
/* Random bytes, kind "rng-backend": done(opaque, bytes got) runs on `loop`, also when the source fails (0). */
void rng_read(struct object *rng, void *buf, size_t len, struct loop *loop, void (*done)(void *opaque, size_t got),
              void *opaque);
struct ram_block *memory_backend_ram(struct object *backend);   /* kind "memory-backend" */
/* The machine's RAM: that of -machine memory-backend=ID, else a new block of config.ram_size named `block_id`. */
struct ram_block *vm_main_ram(struct vm *vm, const char *block_id, struct error *err);
/* A secret's content (kind "secret"); caller frees. NUL-terminated beyond *len. */
bool secret_get(struct vm *vm, const char *id, char **data, size_t *len, struct error *err);

#endif
