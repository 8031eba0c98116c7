/* What memory.c and access.c share. */
#ifndef RHEA_VM_MEMORY_INTERNAL_H
#define RHEA_VM_MEMORY_INTERNAL_H

#include <pthread.h>
#include <glib.h>
#include "rhea/vm/memory.h"

/* Invariants: (1) the tree changes only under `lock`; (2) address_space.flat is replaced whole, and the old table is
 * freed only after every reader that could have seen it has left its section; (3) nobody who holds `lock` takes a
 * device's lock (a device may change the tree under its own). */
struct mem_state {
    pthread_mutex_t lock;       /* recursive */
    unsigned depth;             /* of transactions */
    bool changed;               /* tree differs from the published tables */
    unsigned epoch;             /* counts publications */
    GPtrArray *retired;         /* struct retired_flat */
    int deferred;               /* writes queued by mem_defer_write() */
    int flooded;                /* too many were, and it has been said */
};

enum { RAM_BLOCKS_MAX = 256 };

/* Deferred writes of devices to other devices' registers; false: too many wait. */
bool mem_defer_write(struct vm *vm, struct address_space *as, uint64_t addr, uint64_t value, unsigned size);

/* The device whose lock this thread took last and still holds (device_lock() keeps it), or NULL. */
extern _Thread_local struct device *device_current;

#endif
