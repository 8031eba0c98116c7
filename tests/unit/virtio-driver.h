/* A virtio driver in a few lines, for tests: over virtio-mmio, split or packed rings, in the RAM of a machine without
 * processors. Nothing stops a test from writing nonsense to the rings. */
#ifndef VIRTIO_DRIVER_H
#define VIRTIO_DRIVER_H

#include <glib.h>
#include <string.h>
#include "rhea/base/options.h"
#include "rhea/device/virtio.h"
#include "rhea/vm/object.h"
#include "rhea/vm/vm.h"

enum { RAM_SIZE = 16 << 20, MMIO_BASE = 0x10000000, RING_BASE = 0x100000, RING_STEP = 0x10000, DATA_BASE = 0x800000 };
enum { D_NEXT = 1, D_WRITE = 2, D_INDIRECT = 4 };

struct drv_queue {
    unsigned index, size;
    uint64_t desc, driver, device;
    uint16_t avail, used;       /* split: indices; packed: positions */
    bool avail_wrap, used_wrap;
    unsigned next_desc;
};
struct drv {
    struct vm *vm;
    struct loop *loop;
    uint8_t *ram;
    struct device *mmio, *dev;
    bool packed;
    uint64_t features;
    struct drv_queue q[8];
    uint64_t data;              /* bump allocator */
};
struct seg { uint64_t addr; uint32_t len; bool write; };

static struct drv *drv_boot;    /* being made, for the board */
static bool drv_legacy;         /* the next machine's slot has force-legacy=on */

static bool drv_board_init(struct vm *vm, struct error *err)
{
    static struct mem_region ram[8];
    static unsigned n;
    struct mem_region *mr = &ram[n++ % 8];
    struct ram_block *rb = ram_block_new(vm, "ram", RAM_SIZE, false, err);

    g_assert_nonnull(rb);
    mem_region_init_ram(mr, vm, NULL, "ram", rb, 0, RAM_SIZE);
    mem_region_add(&vm->system_memory, 0, mr, 0);
    drv_boot->ram = rb->host;
    drv_boot->mmio = device_new(vm, "virtio-mmio", NULL, err);
    g_assert_nonnull(drv_boot->mmio);
    g_assert_true(device_set(drv_boot->mmio, "force-legacy", drv_legacy ? "on" : "off", err));
    g_assert_true(device_realize(drv_boot->mmio, NULL, err));
    mem_region_add(&vm->system_memory, MMIO_BASE, &drv_boot->mmio->mmio[0], 0);
    return true;
}

BOARD = { .name = "virtio-test", .summary = "RAM and a virtio slot", .max_cpus = 1, .init = drv_board_init };

static void w16(struct drv *d, uint64_t a, uint16_t v) { memcpy(d->ram + a, &v, 2); }
static void w32(struct drv *d, uint64_t a, uint32_t v) { memcpy(d->ram + a, &v, 4); }
static void w64(struct drv *d, uint64_t a, uint64_t v) { memcpy(d->ram + a, &v, 8); }
static uint16_t r16(struct drv *d, uint64_t a) { uint16_t v; memcpy(&v, d->ram + a, 2); return v; }
G_GNUC_UNUSED static uint32_t r32(struct drv *d, uint64_t a) { uint32_t v; memcpy(&v, d->ram + a, 4); return v; }

static uint32_t reg(struct drv *d, unsigned offset)
{
    return as_load(&d->vm->memory, MMIO_BASE + offset, 4, MEM_ATTRS_NONE, NULL);
}
static void set_reg(struct drv *d, unsigned offset, uint32_t v)
{
    as_store(&d->vm->memory, MMIO_BASE + offset, v, 4, MEM_ATTRS_NONE, NULL);
}

/* Machine, back ends (may be NULL), device ("{'driver':'virtio-rng-device'}" with single quotes). */
static struct drv *drv_new(bool (*backends)(struct vm *vm, void *opaque, struct error *err), const char *device)
{
    static struct loop *loop;           /* one for all: rings of io_uring belong to it */
    struct drv *d = g_new0(struct drv, 1);
    struct vm_config c = { .machine = "virtio-test", .make_backends = backends, .ram_size = RAM_SIZE };
    struct error err = ERROR_INIT;
    struct json_object *opts;
    g_autofree char *json = g_strdup(device);

    for (char *p = json; *p; p++)
        if (*p == '\'')
            *p = '"';
    drv_boot = d;
    if (!loop)
        loop = loop_new("test");
    d->loop = loop;
    loop_enter(d->loop);
    d->vm = vm_create(&c, d->loop, &err);
    if (!d->vm)
        g_error("%s", err.msg);
    opts = json_tokener_parse(json);
    d->dev = device_create(d->vm, opts, false, &err);
    json_object_put(opts);
    if (!d->dev)
        g_error("%s", err.msg);
    d->data = DATA_BASE;
    return d;
}

static void drv_free(struct drv *d)
{
    vm_destroy(d->vm);
    g_free(d);
}

G_GNUC_UNUSED static void drv_spin(struct drv *d)
{
    while (loop_step(d->loop, false))
        ;
}

static void drv_queue(struct drv *d, unsigned index, unsigned size)
{
    struct drv_queue *q = &d->q[index];

    set_reg(d, 0x030, index);
    size = MIN(size, reg(d, 0x034));
    *q = (struct drv_queue){ .index = index, .size = size, .avail_wrap = true, .used_wrap = true };
    q->desc = RING_BASE + index * RING_STEP;
    q->driver = q->desc + 0x4000;
    q->device = q->desc + 0x8000;
    memset(d->ram + q->desc, 0, RING_STEP);
    set_reg(d, 0x038, size);
    set_reg(d, 0x080, q->desc);
    set_reg(d, 0x090, q->driver);
    set_reg(d, 0x0a0, q->device);
    set_reg(d, 0x044, 1);
}

/* Reset, features, queues of at most 16, DRIVER_OK. drop: features not to be taken. */
static void drv_start(struct drv *d, unsigned queues, uint64_t drop)
{
    uint64_t offered;

    set_reg(d, 0x070, 0);
    g_assert_cmpuint(reg(d, 0x070), ==, 0);
    set_reg(d, 0x070, 3);
    set_reg(d, 0x014, 0);
    offered = reg(d, 0x010);
    set_reg(d, 0x014, 1);
    offered |= (uint64_t)reg(d, 0x010) << 32;
    d->features = offered & ~drop;
    d->packed = d->features >> VIRTIO_F_RING_PACKED & 1;
    set_reg(d, 0x024, 0);
    set_reg(d, 0x020, d->features);
    set_reg(d, 0x024, 1);
    set_reg(d, 0x020, d->features >> 32);
    set_reg(d, 0x070, 3 | 8);
    g_assert_cmpuint(reg(d, 0x070), ==, 3 | 8);
    for (unsigned i = 0; i < queues; i++)
        drv_queue(d, i, 16);
    set_reg(d, 0x070, 3 | 8 | 4);
}

G_GNUC_UNUSED /* As drv_start(), when requests may still be out: 2.4.1 has the driver wait until the status reads 0. */
G_GNUC_UNUSED static void drv_restart(struct drv *d, unsigned queues, uint64_t drop)
{
    gint64 end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;

    set_reg(d, 0x070, 0);
    while (reg(d, 0x070)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        if (!loop_step(d->loop, false))
            g_usleep(20);
    }
    drv_start(d, queues, drop);
}

G_GNUC_UNUSED static bool needs_reset(struct drv *d) { return reg(d, 0x070) & VIRTIO_S_NEEDS_RESET; }
static void kick(struct drv *d, unsigned q) { set_reg(d, 0x050, q); }

static void split_put(struct drv *d, struct drv_queue *q, unsigned i, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
    w64(d, q->desc + 16 * i, addr);
    w32(d, q->desc + 16 * i + 8, len);
    w16(d, q->desc + 16 * i + 12, flags);
    w16(d, q->desc + 16 * i + 14, next);
}

static void split_offer(struct drv *d, struct drv_queue *q, unsigned head)
{
    w16(d, q->driver + 4 + 2 * (q->avail % q->size), head);
    w16(d, q->driver + 2, ++q->avail);
}

static void packed_put(struct drv *d, struct drv_queue *q, uint64_t addr, uint32_t len, uint16_t id, uint16_t flags)
{
    uint64_t a = q->desc + 16 * q->avail;

    w64(d, a, addr);
    w32(d, a + 8, len);
    w16(d, a + 12, id);
    w16(d, a + 14, flags | (q->avail_wrap ? 1 << 7 : 1 << 15));
    if (++q->avail == q->size) {
        q->avail = 0;
        q->avail_wrap = !q->avail_wrap;
    }
}

/* Queues a chain; its id. */
static unsigned drv_add(struct drv *d, unsigned index, const struct seg *s, unsigned n)
{
    struct drv_queue *q = &d->q[index];
    unsigned head = q->next_desc;

    for (unsigned i = 0; i < n; i++) {
        uint16_t flags = (s[i].write ? D_WRITE : 0) | (i + 1 < n ? D_NEXT : 0);

        if (d->packed)
            packed_put(d, q, s[i].addr, s[i].len, head, flags);
        else
            split_put(d, q, (head + i) % q->size, s[i].addr, s[i].len, flags, (head + i + 1) % q->size);
    }
    q->next_desc = (head + n) % q->size;
    if (!d->packed)
        split_offer(d, q, head);
    return head;
}

/* The next used buffer: true with its length. n: descriptors of its chain (packed rings). */
static bool drv_used(struct drv *d, unsigned index, unsigned n, uint32_t *len)
{
    struct drv_queue *q = &d->q[index];
    uint64_t a;

    if (!d->packed) {
        if (r16(d, q->device + 2) == q->used)
            return false;
        *len = r32(d, q->device + 4 + 8 * (q->used++ % q->size) + 4);
        return true;
    }
    a = q->desc + 16 * q->used;
    if (!!(r16(d, a + 14) & 1 << 7) != q->used_wrap || !!(r16(d, a + 14) & 1 << 15) != q->used_wrap)
        return false;
    *len = r32(d, a + 8);
    q->used += n;
    if (q->used >= q->size) {
        q->used -= q->size;
        q->used_wrap = !q->used_wrap;
    }
    return true;
}

/* Offers, kicks and waits for the answer. */
G_GNUC_UNUSED static uint32_t drv_do(struct drv *d, unsigned index, const struct seg *s, unsigned n)
{
    gint64 end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
    uint32_t len = 0;

    drv_add(d, index, s, n);
    kick(d, index);
    while (!drv_used(d, index, n, &len)) {
        g_assert_false(needs_reset(d));
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        if (!loop_step(d->loop, false))
            g_usleep(100);
    }
    return len;
}

static uint64_t drv_alloc(struct drv *d, size_t len)
{
    uint64_t a = d->data;

    d->data += (len + 15) & ~15ull;
    g_assert_cmpuint(d->data, <=, RAM_SIZE);
    return a;
}

#endif
