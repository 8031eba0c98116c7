/* Buses that devices plug into. */
#include <string.h>
#include <glib.h>
#include "rhea/vm/vm.h"

struct bus *bus_new(struct vm *vm, const struct bus_class *cls, struct device *owner, const char *name)
{
    struct bus *b = g_new0(struct bus, 1), **tail;

    b->cls = cls;
    b->vm = vm;
    b->owner = owner;
    b->devices = g_ptr_array_new();
    if (name) {
        b->name = g_strdup(name);
    } else {
        /* "ID.0" behind a named owner, else "kind.N" */
        unsigned n = 0;
        g_autofree char *stem = owner && owner->id ? g_strdup(owner->id) : g_ascii_strdown(cls->name, -1);

        for (;; n++) {
            g_autofree char *try = g_strdup_printf("%s.%u", stem, n);

            if (!bus_find(vm, try)) {
                b->name = g_steal_pointer(&try);
                break;
            }
        }
    }
    for (tail = &vm->buses; *tail; tail = &(*tail)->next)
        ;
    *tail = b;
    if (owner) {
        for (unsigned i = 0; i < G_N_ELEMENTS(owner->child_bus); i++) {
            if (!owner->child_bus[i]) {
                owner->child_bus[i] = b;
                break;
            }
        }
    }
    return b;
}

void bus_free(struct bus *bus)
{
    if (!bus)
        return;
    for (struct bus **p = &bus->vm->buses; *p; p = &(*p)->next) {
        if (*p == bus) {
            *p = bus->next;
            break;
        }
    }
    if (bus->cls->free)
        bus->cls->free(bus);
    g_ptr_array_free(bus->devices, TRUE);
    g_free(bus->name);
    g_free(bus);
}

bool bus_takes(const struct bus *bus, const char *kind)
{
    return kind && (strcmp(bus->cls->name, kind) == 0 || (bus->cls->also && strcmp(bus->cls->also, kind) == 0));
}

struct bus *bus_find(struct vm *vm, const char *name_or_kind)
{
    if (!name_or_kind)
        return NULL;
    for (struct bus *b = vm->buses; b; b = b->next)
        if (strcmp(b->name, name_or_kind) == 0)
            return b;
    for (struct bus *b = vm->buses; b; b = b->next)
        if (bus_takes(b, name_or_kind) && (!b->cls->full || !b->cls->full(b)))
            return b;
    return NULL;
}
