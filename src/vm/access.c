/* Reading and writing guest-physical memory: RAM directly, registers through their device's callbacks. */
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>
#include <glib.h>
#include "memory_internal.h"
#include "rhea/vm/vm.h"

/* ---- registers */

static uint64_t size_mask(unsigned size)
{
    return size >= 8 ? ~(uint64_t)0 : ((uint64_t)1 << size * 8) - 1;
}

static uint64_t swap(uint64_t v, unsigned size)
{
    switch (size) {
    case 2: return __builtin_bswap16((uint16_t)v);
    case 4: return __builtin_bswap32((uint32_t)v);
    case 8: return __builtin_bswap64(v);
    default: return v;
    }
}

/* Bytes of the next access that the device takes, out of `left` at `offset`: the largest power of two that fits its
 * widths and, unless it does unaligned ones, its alignment. */
static unsigned piece_size(const struct mmio_ops *ops, uint64_t offset, unsigned left)
{
    unsigned max = ops->max ? ops->max : 8, size = 8;

    while (size > max || size > left || (!ops->unaligned && offset & (size - 1)))
        size >>= 1;
    return size;
}

/* A piece narrower than the device's registers is done on the whole register that holds it. */
static uint64_t piece_read(const struct mmio_ops *ops, void *opaque, uint64_t offset, unsigned size)
{
    unsigned min = ops->min ? ops->min : 1, wide = MAX(size, min);
    uint64_t at = size < min ? offset & ~(uint64_t)(min - 1) : offset;
    uint64_t v = ops->read(opaque, at, wide) & size_mask(wide);

    if (ops->big_endian)
        v = swap(v, wide);
    return v >> (offset - at) * 8 & size_mask(size);
}

static void piece_write(const struct mmio_ops *ops, void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    unsigned min = ops->min ? ops->min : 1, wide = MAX(size, min);
    uint64_t at = size < min ? offset & ~(uint64_t)(min - 1) : offset;
    uint64_t v = (value & size_mask(size)) << (offset - at) * 8;

    ops->write(opaque, at, ops->big_endian ? swap(v, wide) : v, wide);
}

static uint64_t read_pieces(struct mem_region *mr, uint64_t offset, unsigned size)
{
    uint64_t v = 0;
    unsigned n;

    for (unsigned done = 0; done < size; done += n) {
        n = piece_size(mr->ops, offset + done, size - done);
        v |= piece_read(mr->ops, mr->opaque, offset + done, n) << done * 8;
    }
    return v;
}

static void write_pieces(struct mem_region *mr, uint64_t offset, uint64_t value, unsigned size)
{
    unsigned n;

    for (unsigned done = 0; done < size; done += n) {
        n = piece_size(mr->ops, offset + done, size - done);
        piece_write(mr->ops, mr->opaque, offset + done, value >> done * 8, n);
    }
}

static void set_result(enum mem_result *res, enum mem_result r)
{
    if (res)
        *res = r;
}

/* A device's lock is a leaf: while this thread holds one, another device's registers are out of reach. */
static bool reachable(const struct mem_region *mr)
{
    return mr->ops->lockless || !mr->owner || !device_current;
}

uint64_t mmio_read(struct mem_region *mr, uint64_t offset, unsigned size, enum mem_result *res)
{
    uint64_t v;

    set_result(res, MEM_OK);
    if (!mr->ops || !mr->ops->read) {
        log_at(LOG_GUEST_ERRORS, "%s: read of %u bytes at %#" PRIx64 ": write-only\n", mr->name, size, offset);
        return 0;
    }
    if (!reachable(mr)) {
        log_at(LOG_GUEST_ERRORS, "%s: refused a device's DMA read from registers\n", mr->name);
        set_result(res, MEM_DEVICE_ERROR);
        return size_mask(size);
    }
    if (mr->ops->lockless || !mr->owner)
        return read_pieces(mr, offset, size);
    device_lock(mr->owner);
    v = read_pieces(mr, offset, size);
    device_unlock(mr->owner);
    return v;
}

void mmio_write(struct mem_region *mr, uint64_t offset, uint64_t value, unsigned size, enum mem_result *res)
{
    set_result(res, MEM_OK);
    if (!mr->ops || !mr->ops->write) {
        log_at(LOG_GUEST_ERRORS, "%s: write of %u bytes at %#" PRIx64 ": read-only\n", mr->name, size, offset);
        return;
    }
    if (!reachable(mr)) {
        log_at(LOG_GUEST_ERRORS, "%s: refused a device's DMA write to registers\n", mr->name);
        set_result(res, MEM_DEVICE_ERROR);
        return;
    }
    if (mr->ops->lockless || !mr->owner) {
        write_pieces(mr, offset, value, size);
        return;
    }
    device_lock(mr->owner);
    write_pieces(mr, offset, value, size);
    device_unlock(mr->owner);
}

/* ---- DMA into registers: later, on the main loop, when no lock is held */

struct deferred { struct vm *vm; struct address_space *as; uint64_t addr, value; unsigned size; };

static void deferred_run(void *arg)
{
    struct deferred *d = arg;

    as_store(d->as, d->addr, d->value, d->size, MEM_ATTRS_NONE, NULL);
    g_atomic_int_dec_and_test(&d->vm->mem->deferred);
    g_free(d);
}

enum { DEFERRED_MAX = 1024 };           /* a device that floods another is cut off */

bool mem_defer_write(struct vm *vm, struct address_space *as, uint64_t addr, uint64_t value, unsigned size)
{
    struct deferred *d;

    if (g_atomic_int_add(&vm->mem->deferred, 1) >= DEFERRED_MAX) {
        g_atomic_int_add(&vm->mem->deferred, -1);
        if (g_atomic_int_compare_and_exchange(&vm->mem->flooded, 0, 1))
            log_at(LOG_GUEST_ERRORS, "%s: too many DMA writes to registers at %#" PRIx64 " (further ones are not shown)\n", as->name, addr);
        return false;
    }
    d = g_new(struct deferred, 1);
    *d = (struct deferred){ vm, as, addr, value, size };
    loop_post(vm->loop, deferred_run, d);
    return true;
}

/* ---- RAM */

static uint8_t *range_host(const struct mem_range *r, uint64_t addr)
{
    return r->mr->ram->host + r->mr->ram_offset + r->offset + (addr - r->start);
}

static bool range_is_ram(const struct mem_range *r)
{
    return r->mr->kind == MEMK_RAM || r->mr->kind == MEMK_ROM;
}

static uint64_t range_left(const struct mem_range *r, uint64_t addr, uint64_t len)
{
    return len - 1 > r->end - addr ? r->end - addr + 1 : len;
}

/* Bytes from addr, at most len, in which nobody answers. */
static uint64_t gap_left(struct address_space *as, uint64_t addr, uint64_t len)
{
    const struct mem_flat *flat = atomic_load(&as->flat);
    unsigned i = 0;

    while (flat && i < flat->count && flat->range[i].start <= addr)
        i++;
    if (flat && i < flat->count && flat->range[i].start - addr < len)
        return flat->range[i].start - addr;
    return len;
}

static unsigned chunk_size(uint64_t addr, uint64_t len)
{
    unsigned size = 8;

    while (size > len || addr & (size - 1))
        size >>= 1;
    return size;
}

static enum mem_result write_range(struct address_space *as, const struct mem_range *r, uint64_t addr, const uint8_t *p,
                                   uint64_t len)
{
    enum mem_result res = MEM_OK, one;

    if (r->mr->kind == MEMK_RAM) {
        memcpy(range_host(r, addr), p, len);
        ram_written(as->vm, r->mr->ram, r->mr->ram_offset + r->offset + (addr - r->start), len);
        return MEM_OK;
    }
    if (r->mr->kind == MEMK_ROM && !r->mr->ops)
        return MEM_OK;          /* a ROM ignores writes */
    while (len) {
        unsigned n = chunk_size(addr, len);
        uint64_t v = 0;

        memcpy(&v, p, n);
        if (!reachable(r->mr) && device_current != r->mr->owner) {
            if (!mem_defer_write(as->vm, as, addr, v, n))
                return MEM_DEVICE_ERROR;        /* and the rest of a long transfer is not tried */
        } else {
            mmio_write(r->mr, r->offset + (addr - r->start), v, n, &one);
            res = one != MEM_OK ? one : res;
        }
        addr += n;
        p += n;
        len -= n;
    }
    return res;
}

static enum mem_result read_range(const struct mem_range *r, uint64_t addr, uint8_t *p, uint64_t len)
{
    enum mem_result res = MEM_OK, one;

    if (range_is_ram(r)) {
        memcpy(p, range_host(r, addr), len);
        return MEM_OK;
    }
    while (len) {
        unsigned n = chunk_size(addr, len);
        uint64_t v = mmio_read(r->mr, r->offset + (addr - r->start), n, &one);

        memcpy(p, &v, n);
        res = one != MEM_OK ? one : res;
        addr += n;
        p += n;
        len -= n;
    }
    return res;
}

/* One step through the IOMMU, if the space has one: addr, *len and *as become those behind it. */
static bool as_translate(struct address_space **as, uint64_t *addr, uint64_t *len, bool write, struct mem_attrs attrs)
{
    for (int depth = 0; (*as)->translate; depth++) {
        struct address_space *target = NULL;
        uint64_t out, n = *len;

        if (depth == 4 || !(*as)->translate(*as, *addr, write, attrs, &out, &n, &target) || !target || n == 0)
            return false;
        *addr = out;
        *len = MIN(*len, n);
        *as = target;
    }
    return true;
}

static enum mem_result as_rw(struct address_space *as, uint64_t addr, uint8_t *p, uint64_t len, bool write,
                             struct mem_attrs attrs)
{
    enum mem_result res = MEM_OK, one;
    unsigned token = mem_read_begin();

    while (len) {
        struct address_space *target = as;
        uint64_t at = addr, n = len;
        const struct mem_range *r;

        if (!as_translate(&target, &at, &n, write, attrs)) {
            n = MIN(n, CPU_PAGE_SIZE - (addr & (CPU_PAGE_SIZE - 1)));
            one = MEM_IOMMU_FAULT;
        } else if (!(r = address_space_lookup(target, at))) {
            n = gap_left(target, at, n);
            one = MEM_DECODE_ERROR;
        } else {
            n = range_left(r, at, n);
            one = write ? write_range(target, r, at, p, n) : read_range(r, at, p, n);
        }
        if (!write && (one == MEM_IOMMU_FAULT || one == MEM_DECODE_ERROR))
            memset(p, 0xff, n);
        res = one != MEM_OK ? one : res;
        addr += n;
        p += n;
        len -= n;
    }
    mem_read_end(token);
    return res;
}

enum mem_result as_read(struct address_space *as, uint64_t addr, void *buf, uint64_t len, struct mem_attrs attrs)
{
    return as_rw(as, addr, buf, len, false, attrs);
}

enum mem_result as_write(struct address_space *as, uint64_t addr, const void *buf, uint64_t len, struct mem_attrs attrs)
{
    return as_rw(as, addr, (uint8_t *)buf, len, true, attrs);
}

uint64_t as_load(struct address_space *as, uint64_t addr, unsigned size, struct mem_attrs attrs, enum mem_result *res)
{
    unsigned token = mem_read_begin();
    const struct mem_range *r = as->translate ? NULL : address_space_lookup(as, addr);
    uint64_t v = 0;

    if (r && !range_is_ram(r) && r->end - addr >= size - 1) {
        v = mmio_read(r->mr, r->offset + (addr - r->start), size, res);
    } else {
        enum mem_result one = as_rw(as, addr, (uint8_t *)&v, MIN(size, 8), false, attrs);

        set_result(res, one);
    }
    mem_read_end(token);
    return v;
}

void as_store(struct address_space *as, uint64_t addr, uint64_t value, unsigned size, struct mem_attrs attrs,
              enum mem_result *res)
{
    unsigned token = mem_read_begin();
    const struct mem_range *r = as->translate ? NULL : address_space_lookup(as, addr);

    if (r && r->mr->kind == MEMK_MMIO && reachable(r->mr) && r->end - addr >= size - 1) {
        mmio_write(r->mr, r->offset + (addr - r->start), value, size, res);
    } else {
        enum mem_result one = as_rw(as, addr, (uint8_t *)&value, MIN(size, 8), true, attrs);

        set_result(res, one);
    }
    mem_read_end(token);
}

void *as_map(struct address_space *as, uint64_t addr, uint64_t *len, bool write, struct mem_attrs attrs)
{
    unsigned token = mem_read_begin();
    const struct mem_range *r;
    void *host = NULL;

    /* Memory of a device goes away with it, so no pointer to it is handed out: as_read() and as_write() copy. */
    if (*len && as_translate(&as, &addr, len, write, attrs) && (r = address_space_lookup(as, addr)) && !r->mr->owner &&
        (r->mr->kind == MEMK_RAM || (r->mr->kind == MEMK_ROM && !write))) {
        *len = range_left(r, addr, *len);
        host = range_host(r, addr);
    }
    mem_read_end(token);
    return host;
}

void as_unmap(struct address_space *as, void *host, uint64_t len, bool written, uint64_t written_len)
{
    uint64_t offset;
    struct ram_block *rb;

    if (!written || !host)
        return;
    rb = ram_block_of(as->vm, host, &offset);
    if (rb)
        ram_written(as->vm, rb, offset, MIN(len, written_len));
}

/* ---- info mtree */

static const char *kind_text(const struct mem_region *mr)
{
    switch (mr->kind) {
    case MEMK_RAM: return "ram";
    case MEMK_ROM: return "rom";
    default:       return "i/o";
    }
}

static void print_tree(GString *s, const struct mem_region *mr, uint64_t base, int depth)
{
    uint64_t last = base + mr->size - 1;
    const char *off = mr->enabled ? "" : " [disabled]";

    if (depth > 32)
        return;
    if (mr->kind == MEMK_ALIAS) {
        uint64_t to = mr->alias_offset;

        g_string_append_printf(s, "%*s%016" PRIx64 "-%016" PRIx64 " (prio %d, %s): alias %s @%s %016" PRIx64 "-%016" PRIx64 "%s\n",
                               depth * 2, "", base, last, mr->priority, kind_text(mr->alias), mr->name, mr->alias->name, to,
                               to + mr->size - 1, off);
    } else {
        g_string_append_printf(s, "%*s%016" PRIx64 "-%016" PRIx64 " (prio %d, %s): %s%s\n", depth * 2, "", base, last,
                               mr->priority, kind_text(mr), mr->name, off);
    }
    for (const struct mem_region *c = mr->first_child; c; c = c->next_sibling)
        print_tree(s, c, base + c->addr, depth + 1);
}

static void print_flat(GString *s, struct address_space *as)
{
    struct mem_flat *flat = atomic_load(&as->flat);

    for (unsigned i = 0; flat && i < flat->count; i++) {
        const struct mem_range *r = &flat->range[i];

        g_string_append_printf(s, "  %016" PRIx64 "-%016" PRIx64 " (prio %d, %s): %s", r->start, r->end, r->mr->priority,
                               kind_text(r->mr), r->mr->name);
        if (r->offset)
            g_string_append_printf(s, " @%016" PRIx64, r->offset);
        g_string_append(s, "\n");
    }
}

char *mem_tree_print(struct vm *vm, bool flat)
{
    GString *s = g_string_new(NULL);

    pthread_mutex_lock(&vm->mem->lock);
    for (struct address_space *as = vm->address_spaces; as; as = as->next) {
        if (!as->root)
            continue;
        g_string_append_printf(s, "address-space: %s\n", as->name);
        if (flat)
            print_flat(s, as);
        else
            print_tree(s, as->root, as->root->addr, 1);
        g_string_append(s, "\n");
    }
    pthread_mutex_unlock(&vm->mem->lock);
    return g_string_free(s, FALSE);
}
