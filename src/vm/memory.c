/* The tree of memory regions and the flat tables made from it. See include/rhea/vm/memory.h. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <glib.h>
#include "epoch.h"
#include "memory_internal.h"
#include "rhea/vm/vm.h"

typedef unsigned __int128 u128;         /* 2^64 is a size */

struct retired_flat { struct mem_flat *flat; uint64_t epoch; };

static u128 region_size(const struct mem_region *mr)
{
    return mr->size ? mr->size : (u128)1 << 64;
}

/* ---- making regions */

static void region_init(struct mem_region *mr, struct vm *vm, struct device *owner, const char *name, uint64_t size,
                        enum mem_kind kind)
{
    *mr = (struct mem_region){ .name = name, .kind = kind, .owner = owner, .size = size, .vm = vm, .enabled = true };
}

void mem_region_init_container(struct mem_region *mr, struct vm *vm, struct device *owner, const char *name, uint64_t size)
{
    region_init(mr, vm, owner, name, size, MEMK_CONTAINER);
}

void mem_region_init_mmio(struct mem_region *mr, struct vm *vm, struct device *owner, const char *name, uint64_t size,
                          const struct mmio_ops *ops, void *opaque)
{
    region_init(mr, vm, owner, name, size, MEMK_MMIO);
    mr->ops = ops;
    mr->opaque = opaque;
}

void mem_region_init_ram(struct mem_region *mr, struct vm *vm, struct device *owner, const char *name,
                         struct ram_block *ram, uint64_t offset, uint64_t size)
{
    region_init(mr, vm, owner, name, size, MEMK_RAM);
    mr->ram = ram;
    mr->ram_offset = offset;
}

void mem_region_init_rom(struct mem_region *mr, struct vm *vm, struct device *owner, const char *name,
                         struct ram_block *ram, uint64_t offset, uint64_t size)
{
    mem_region_init_ram(mr, vm, owner, name, ram, offset, size);
    mr->kind = MEMK_ROM;
}

void mem_region_init_alias(struct mem_region *mr, struct vm *vm, struct device *owner, const char *name,
                           struct mem_region *target, uint64_t offset, uint64_t size)
{
    region_init(mr, vm, owner, name, size, MEMK_ALIAS);
    mr->alias = target;
    mr->alias_offset = offset;
}

/* ---- the tree */

static void child_link(struct mem_region *parent, struct mem_region *child)
{
    struct mem_region **p = &parent->first_child;

    /* Higher priority first; the later added before its equals. */
    while (*p && (*p)->priority > child->priority)
        p = &(*p)->next_sibling;
    child->next_sibling = *p;
    *p = child;
    child->parent = parent;
}

static void child_unlink(struct mem_region *child)
{
    struct mem_region **p = &child->parent->first_child;

    while (*p && *p != child)
        p = &(*p)->next_sibling;
    if (*p)
        *p = child->next_sibling;
    child->parent = NULL;
    child->next_sibling = NULL;
}

void mem_region_add(struct mem_region *parent, uint64_t addr, struct mem_region *child, int priority)
{
    struct vm *vm = parent->vm;

    mem_transaction_begin(vm);
    if (child->parent)
        child_unlink(child);
    child->addr = addr;
    child->priority = priority;
    child_link(parent, child);
    vm->mem->changed = true;
    mem_transaction_commit(vm);
}

void mem_region_remove(struct mem_region *child)
{
    struct vm *vm = child->vm;

    if (!vm)
        return;
    mem_transaction_begin(vm);
    if (child->parent) {
        child_unlink(child);
        vm->mem->changed = true;
    }
    mem_transaction_commit(vm);
}

void mem_region_set_enabled(struct mem_region *mr, bool enabled)
{
    mem_transaction_begin(mr->vm);
    if (mr->enabled != enabled) {
        mr->enabled = enabled;
        mr->vm->mem->changed = true;
    }
    mem_transaction_commit(mr->vm);
}

void mem_region_set_address(struct mem_region *mr, uint64_t addr)
{
    mem_transaction_begin(mr->vm);
    if (mr->addr != addr) {
        mr->addr = addr;
        mr->vm->mem->changed = true;
    }
    mem_transaction_commit(mr->vm);
}

/* ---- flattening */

/* Puts [start, end] of mr into the gaps of the sorted table: what is there already has higher priority. */
static void flat_insert(GArray *ranges, uint64_t start, uint64_t end, struct mem_region *mr, uint64_t offset)
{
    uint64_t at = start;
    unsigned i = 0;

    while (i < ranges->len && g_array_index(ranges, struct mem_range, i).end < start)
        i++;
    for (;;) {
        bool have = i < ranges->len;
        struct mem_range r = have ? g_array_index(ranges, struct mem_range, i) : (struct mem_range){ 0 };

        if (!have || r.start > at) {
            uint64_t last = have && r.start <= end ? r.start - 1 : end;
            struct mem_range add = { at, last, mr, offset + (at - start) };

            g_array_insert_val(ranges, i, add);
            i++;
            if (last == end)
                return;
        }
        /* here r covers from at or from last + 1 */
        if (r.end >= end)
            return;
        at = r.end + 1;
        i++;
    }
}

enum { RENDER_DEPTH_MAX = 32 };         /* an alias that contains itself ends here */

/* Renders [clip_lo, clip_hi] (in the space's addresses) of mr, whose offset 0 lies at `base` (which may be negative
 * when seen through an alias). */
static void render(GArray *ranges, struct mem_region *mr, __int128 base, __int128 clip_lo, __int128 clip_hi, int depth)
{
    __int128 lo = base, hi = base + (__int128)region_size(mr) - 1;

    if (!mr->enabled || depth > RENDER_DEPTH_MAX)
        return;
    lo = MAX(lo, clip_lo);
    hi = MIN(hi, clip_hi);
    if (lo > hi)
        return;
    if (mr->kind == MEMK_ALIAS) {
        /* The target's own `enabled` counts, its place in another tree does not. */
        render(ranges, mr->alias, base - (__int128)mr->alias_offset, lo, hi, depth + 1);
        return;
    }
    for (struct mem_region *c = mr->first_child; c; c = c->next_sibling)
        render(ranges, c, base + (__int128)c->addr, lo, hi, depth + 1);
    if (mr->kind != MEMK_CONTAINER)
        flat_insert(ranges, (uint64_t)lo, (uint64_t)hi, mr, (uint64_t)(lo - base));
}

static bool ranges_join(const struct mem_range *a, const struct mem_range *b)
{
    return a->mr == b->mr && a->end + 1 == b->start && a->offset + (b->start - a->start) == b->offset;
}

static struct mem_flat *flatten(struct mem_region *root, unsigned epoch)
{
    g_autoptr(GArray) ranges = g_array_new(FALSE, FALSE, sizeof(struct mem_range));
    struct mem_flat *flat;
    unsigned n = 0;

    if (root)
        render(ranges, root, 0, 0, ((__int128)1 << 64) - 1, 0);
    flat = g_malloc(sizeof(*flat) + ranges->len * sizeof(struct mem_range));
    for (unsigned i = 0; i < ranges->len; i++) {
        struct mem_range *r = &g_array_index(ranges, struct mem_range, i);

        if (n && ranges_join(&flat->range[n - 1], r))
            flat->range[n - 1].end = r->end;
        else
            flat->range[n++] = *r;
    }
    flat->count = n;
    flat->epoch = epoch;
    return flat;
}

/* ---- publication */

static void retire(struct mem_state *m, struct mem_flat *flat)
{
    struct retired_flat *r = g_new(struct retired_flat, 1);

    r->flat = flat;
    r->epoch = epoch_advance();
    g_ptr_array_add(m->retired, r);
}

static void reclaim(struct mem_state *m)
{
    for (unsigned i = 0; i < m->retired->len;) {
        struct retired_flat *r = g_ptr_array_index(m->retired, i);

        if (!epoch_passed(r->epoch)) {
            i++;
            continue;
        }
        g_free(r->flat);
        g_free(r);
        g_ptr_array_remove_index_fast(m->retired, i);
    }
}

/* False: the new table says the same as the old. */
static bool publish(struct address_space *as)
{
    struct mem_state *m = as->vm->mem;
    struct mem_flat *flat = flatten(as->root, m->epoch), *old = atomic_load(&as->flat);

    if (old && old->count == flat->count &&
        memcmp(old->range, flat->range, flat->count * sizeof(struct mem_range)) == 0) {
        g_free(flat);
        return false;
    }
    atomic_store(&as->flat, flat);
    if (old)
        retire(m, old);
    return true;
}

void mem_transaction_begin(struct vm *vm)
{
    pthread_mutex_lock(&vm->mem->lock);
    vm->mem->depth++;
}

void mem_transaction_commit(struct vm *vm)
{
    struct mem_state *m = vm->mem;
    bool published = false;

    if (m->depth == 1 && m->changed) {
        m->changed = false;
        m->epoch++;
        for (struct address_space *as = vm->address_spaces; as; as = as->next)
            published |= publish(as);
        reclaim(m);
    }
    m->depth--;
    pthread_mutex_unlock(&m->lock);
    if (published && vm->accel && vm->accel->memory_changed)
        vm->accel->memory_changed(vm);
}

void address_space_init(struct address_space *as, struct vm *vm, struct mem_region *root, const char *name)
{
    *as = (struct address_space){ .name = name, .vm = vm, .root = root };
    pthread_mutex_lock(&vm->mem->lock);
    as->next = vm->address_spaces;
    vm->address_spaces = as;
    publish(as);
    pthread_mutex_unlock(&vm->mem->lock);
}

void address_space_destroy(struct address_space *as)
{
    struct vm *vm = as->vm;
    struct mem_flat *old;

    if (!vm)
        return;
    pthread_mutex_lock(&vm->mem->lock);
    for (struct address_space **p = &vm->address_spaces; *p; p = &(*p)->next) {
        if (*p == as) {
            *p = as->next;
            break;
        }
    }
    old = atomic_exchange(&as->flat, NULL);
    if (old)
        retire(vm->mem, old);
    reclaim(vm->mem);
    pthread_mutex_unlock(&vm->mem->lock);
    as->vm = NULL;
}

const struct mem_range *address_space_lookup(struct address_space *as, uint64_t addr)
{
    const struct mem_flat *flat = atomic_load_explicit(&as->flat, memory_order_acquire);
    unsigned lo = 0, hi;

    if (!flat)
        return NULL;
    hi = flat->count;
    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;

        if (flat->range[mid].end < addr)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < flat->count && flat->range[lo].start <= addr ? &flat->range[lo] : NULL;
}

void mem_state_init(struct vm *vm)
{
    pthread_mutexattr_t attr;

    vm->mem = g_new0(struct mem_state, 1);
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&vm->mem->lock, &attr);
    pthread_mutexattr_destroy(&attr);
    vm->mem->retired = g_ptr_array_new();
    vm->ram_blocks = g_ptr_array_sized_new(RAM_BLOCKS_MAX);     /* read without a lock: never moves */
    mem_region_init_container(&vm->system_memory, vm, NULL, "system", 0);
    mem_region_init_container(&vm->system_io, vm, NULL, "io", 0x10000);
    address_space_init(&vm->memory, vm, &vm->system_memory, "memory");
    address_space_init(&vm->io, vm, &vm->system_io, "I/O");
    address_space_init(&vm->nowhere, vm, NULL, "nowhere");
}

void mem_state_free(struct vm *vm)
{
    address_space_destroy(&vm->nowhere);
    address_space_destroy(&vm->io);
    address_space_destroy(&vm->memory);
    mem_synchronize();
    reclaim(vm->mem);
    while (vm->ram_blocks->len)
        ram_block_free(g_ptr_array_index(vm->ram_blocks, vm->ram_blocks->len - 1));
    g_ptr_array_free(vm->ram_blocks, TRUE);
    g_ptr_array_free(vm->mem->retired, TRUE);
    pthread_mutex_destroy(&vm->mem->lock);
    g_free(vm->mem);
    vm->mem = NULL;
}
