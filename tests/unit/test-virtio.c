/* Virtio queues and devices, driven by hand: what an honest driver gets, and what a hostile one does not. */
#include "virtio-driver.h"
#include <fcntl.h>
#include <glib/gstdio.h>
#include <unistd.h>
#include "rhea/block/block.h"
#include "rhea/chardev/chardev.h"
#include "rhea/net/net.h"

static const char *const rng_split = "{'driver':'virtio-rng-device'}";
static const char *const rng_packed = "{'driver':'virtio-rng-device','packed':'on'}";

static bool all_zero(struct drv *d, uint64_t a, size_t len)
{
    while (len--)
        if (d->ram[a++])
            return false;
    return true;
}

static struct drv *rng_new(bool packed, uint64_t drop)
{
    struct drv *d = drv_new(NULL, packed ? rng_packed : rng_split);

    drv_start(d, 1, drop);
    g_assert_cmpint(d->packed, ==, packed);
    return d;
}

static void backends_free(struct drv *d)
{
    while (d->vm->devices)
        device_remove(d->vm->devices);
    net_cleanup(d->vm);
    block_close_all(d->vm);
    chardev_cleanup(d->vm);
    drv_free(d);
}

/* ---- honest drivers */

static void test_fill(gconstpointer packed)
{
    struct drv *d = rng_new(packed != NULL, 0);
    uint64_t a = drv_alloc(d, 64), b = drv_alloc(d, 64);
    struct seg s[2] = { { a, 64, true }, { b, 64, true } };

    for (int i = 0; i < 100; i++) {     /* several laps of the ring */
        memset(d->ram + a, 0, 128);
        g_assert_cmpuint(drv_do(d, 0, s, 2), ==, 128);
        g_assert_false(all_zero(d, a, 64));
        g_assert_false(all_zero(d, b, 64));
    }
    g_assert_cmpuint(reg(d, 0x060) & 1, ==, 1);
    set_reg(d, 0x064, 1);
    g_assert_cmpuint(reg(d, 0x060) & 1, ==, 0);
    drv_free(d);
}

static void test_indirect(gconstpointer packed)
{
    struct drv *d = rng_new(packed != NULL, 0);
    uint64_t a = drv_alloc(d, 4096), table = drv_alloc(d, 16 * 32);
    struct drv_queue *q = &d->q[0];
    uint32_t len;

    for (unsigned i = 0; i < 32; i++) {         /* more entries than the ring has */
        w64(d, table + 16 * i, a + 64 * i);
        w32(d, table + 16 * i + 8, 64);
        w16(d, table + 16 * i + 12, packed ? 0 : D_WRITE | (i < 31 ? D_NEXT : 0));
        w16(d, table + 16 * i + 14, packed ? D_WRITE : i + 1);
    }
    if (packed) {
        packed_put(d, q, table, 16 * 32, 7, D_INDIRECT);
    } else {
        split_put(d, q, 0, table, 16 * 32, D_INDIRECT, 0);
        split_offer(d, q, 0);
    }
    kick(d, 0);
    drv_spin(d);
    g_assert_false(needs_reset(d));
    g_assert_true(drv_used(d, 0, 1, &len));
    g_assert_cmpuint(len, ==, 2048);
    g_assert_false(all_zero(d, a + 2048 - 64, 64));
    g_assert_true(all_zero(d, a + 2048, 64));
    drv_free(d);
}

static void test_event_index_suppresses_interrupts(void)
{
    struct drv *d = rng_new(false, 0);
    struct drv_queue *q = &d->q[0];
    struct seg s = { drv_alloc(d, 16), 16, true };

    w16(d, q->driver + 4 + 2 * q->size, 3);     /* used_event: after the fourth */
    for (int i = 0; i < 3; i++) {
        drv_do(d, 0, &s, 1);
        g_assert_cmpuint(reg(d, 0x060), ==, 0);
    }
    drv_do(d, 0, &s, 1);
    g_assert_cmpuint(reg(d, 0x060), ==, 1);
    g_assert_cmpuint(r16(d, q->device + 4 + 8 * q->size), ==, 4);       /* avail_event: the next one is to be told */
    drv_free(d);
}

static void test_flag_suppresses_interrupts(void)
{
    struct drv *d = rng_new(false, VIRTIO_BIT(VIRTIO_F_EVENT_IDX));
    struct seg s = { drv_alloc(d, 16), 16, true };

    w16(d, d->q[0].driver, 1);
    drv_do(d, 0, &s, 1);
    g_assert_cmpuint(reg(d, 0x060), ==, 0);
    w16(d, d->q[0].driver, 0);
    drv_do(d, 0, &s, 1);
    g_assert_cmpuint(reg(d, 0x060), ==, 1);
    drv_free(d);
}

static void test_queue_reset(void)
{
    struct drv *d = rng_new(false, 0);
    struct seg s = { drv_alloc(d, 16), 16, true };

    drv_do(d, 0, &s, 1);
    set_reg(d, 0x030, 0);
    set_reg(d, 0x0c0, 1);
    g_assert_cmpuint(reg(d, 0x0c0), ==, 0);
    g_assert_cmpuint(reg(d, 0x044), ==, 0);
    drv_queue(d, 0, 4);
    g_assert_cmpuint(drv_do(d, 0, &s, 1), ==, 16);
    drv_free(d);
}

static void test_unoffered_feature_is_refused(void)
{
    struct drv *d = drv_new(NULL, rng_split);

    set_reg(d, 0x070, 3);
    set_reg(d, 0x024, 1);
    set_reg(d, 0x020, 1 | 1 << (VIRTIO_F_RING_PACKED - 32));
    set_reg(d, 0x070, 3 | 8);
    g_assert_cmpuint(reg(d, 0x070) & 8, ==, 0);
    drv_free(d);
}

static void test_paused_machine_leaves_memory_alone(void)
{
    struct drv *d = rng_new(false, 0);
    struct virtio_device *v = (struct virtio_device *)d->dev;
    struct seg s = { drv_alloc(d, 16), 16, true };
    uint32_t len;

    atomic_store(&v->paused, true);
    drv_add(d, 0, &s, 1);
    kick(d, 0);
    drv_spin(d);
    g_assert_false(drv_used(d, 0, 1, &len));
    drv_free(d);                        /* the kick that waits must not outlive the device */
}

/* As Linux does it: the page size is written once, before the driver resets the device. */
static void test_legacy_mmio(void)
{
    struct drv *d;
    struct drv_queue *q;
    struct seg s = { DATA_BASE, 16, true };

    drv_legacy = true;
    d = drv_new(NULL, rng_split);
    drv_legacy = false;
    q = &d->q[0];
    g_assert_cmpuint(reg(d, 0x004), ==, 1);
    set_reg(d, 0x028, 4096);
    set_reg(d, 0x070, 0);
    set_reg(d, 0x070, 3);
    set_reg(d, 0x020, reg(d, 0x010) & ~(1u << VIRTIO_F_EVENT_IDX));
    set_reg(d, 0x038, 8);
    set_reg(d, 0x03c, 4096);
    set_reg(d, 0x040, RING_BASE / 4096);
    g_assert_cmpuint(reg(d, 0x040), ==, RING_BASE / 4096);
    *q = (struct drv_queue){ .size = 8, .desc = RING_BASE, .driver = RING_BASE + 16 * 8, .device = RING_BASE + 4096 };
    set_reg(d, 0x070, 3 | 4);
    for (int i = 0; i < 20; i++)
        g_assert_cmpuint(drv_do(d, 0, &s, 1), ==, 16);
    g_assert_false(all_zero(d, DATA_BASE, 16));
    set_reg(d, 0x040, 0);               /* how a legacy driver lets a queue go */
    g_assert_cmpuint(reg(d, 0x040), ==, 0);
    drv_free(d);
}

/* ---- hostile drivers: each writes something to queue 0 that must stop the device, and nothing else */

static uint64_t table_at(struct drv *d, const uint64_t *words, unsigned n)
{
    uint64_t a = drv_alloc(d, 8 * n);

    memcpy(d->ram + a, words, 8 * n);
    return a;
}

static uint64_t desc_word(uint32_t len, uint16_t flags, uint16_t next) { return len | (uint64_t)flags << 32 | (uint64_t)next << 48; }

static void bad_loop(struct drv *d, struct drv_queue *q)
{
    split_put(d, q, 0, DATA_BASE, 16, D_WRITE | D_NEXT, 1);
    split_put(d, q, 1, DATA_BASE, 16, D_WRITE | D_NEXT, 0);
    split_offer(d, q, 0);
}
static void bad_self_loop(struct drv *d, struct drv_queue *q)
{
    split_put(d, q, 5, DATA_BASE, 16, D_WRITE | D_NEXT, 5);
    split_offer(d, q, 5);
}
static void bad_head(struct drv *d, struct drv_queue *q) { split_offer(d, q, q->size); }
static void bad_next(struct drv *d, struct drv_queue *q)
{
    split_put(d, q, 0, DATA_BASE, 16, D_WRITE | D_NEXT, 0xffff);
    split_offer(d, q, 0);
}
static void bad_avail_jump(struct drv *d, struct drv_queue *q)
{
    split_put(d, q, 0, DATA_BASE, 16, D_WRITE, 0);
    w16(d, q->driver + 2, q->size + 1);
}
static void bad_address(struct drv *d, struct drv_queue *q)
{
    split_put(d, q, 0, 0x7fff00000000, 16, D_WRITE, 0);
    split_offer(d, q, 0);
}
static void bad_address_mmio(struct drv *d, struct drv_queue *q)
{
    split_put(d, q, 0, MMIO_BASE, 16, D_WRITE, 0);
    split_offer(d, q, 0);
}
static void bad_end(struct drv *d, struct drv_queue *q)
{
    split_put(d, q, 0, RAM_SIZE - 8, 16, D_WRITE, 0);
    split_offer(d, q, 0);
}
static void bad_wrap(struct drv *d, struct drv_queue *q)
{
    split_put(d, q, 0, UINT64_MAX - 3, 16, D_WRITE, 0);
    split_offer(d, q, 0);
}
static void bad_order(struct drv *d, struct drv_queue *q)
{
    split_put(d, q, 0, DATA_BASE, 16, D_WRITE | D_NEXT, 1);
    split_put(d, q, 1, DATA_BASE, 16, 0, 0);
    split_offer(d, q, 0);
}
static void bad_indirect_length(struct drv *d, struct drv_queue *q)
{
    split_put(d, q, 0, DATA_BASE, 17, D_INDIRECT, 0);
    split_offer(d, q, 0);
}
static void bad_indirect_empty(struct drv *d, struct drv_queue *q)
{
    split_put(d, q, 0, DATA_BASE, 0, D_INDIRECT, 0);
    split_offer(d, q, 0);
}
static void bad_indirect_huge(struct drv *d, struct drv_queue *q)
{
    split_put(d, q, 0, DATA_BASE, 0xfffffff0, D_INDIRECT, 0);
    split_offer(d, q, 0);
}
static void bad_indirect_next(struct drv *d, struct drv_queue *q)
{
    split_put(d, q, 0, DATA_BASE, 16, D_INDIRECT | D_NEXT, 1);
    split_offer(d, q, 0);
}
static void bad_indirect_nested(struct drv *d, struct drv_queue *q)
{
    uint64_t t = table_at(d, (uint64_t[]){ DATA_BASE, desc_word(16, D_INDIRECT, 0) }, 2);

    split_put(d, q, 0, t, 16, D_INDIRECT, 0);
    split_offer(d, q, 0);
}
static void bad_indirect_loop(struct drv *d, struct drv_queue *q)
{
    uint64_t t = table_at(d, (uint64_t[]){ DATA_BASE, desc_word(16, D_WRITE | D_NEXT, 0) }, 2);

    split_put(d, q, 0, t, 16, D_INDIRECT, 0);
    split_offer(d, q, 0);
}
static void bad_indirect_outside(struct drv *d, struct drv_queue *q)
{
    split_put(d, q, 0, RAM_SIZE, 16, D_INDIRECT, 0);
    split_offer(d, q, 0);
}

struct hostile { const char *name; void (*fn)(struct drv *d, struct drv_queue *q); bool packed; };

static void bad_packed_loop(struct drv *d, struct drv_queue *q)
{
    for (unsigned i = 0; i < q->size; i++)
        packed_put(d, q, DATA_BASE, 16, 0, D_WRITE | D_NEXT);
}
static void bad_packed_address(struct drv *d, struct drv_queue *q) { packed_put(d, q, RAM_SIZE, 1, 0, D_WRITE); }
static void bad_packed_indirect_chain(struct drv *d, struct drv_queue *q)
{
    packed_put(d, q, DATA_BASE, 16, 0, D_WRITE | D_NEXT);
    packed_put(d, q, DATA_BASE, 16, 0, D_INDIRECT);
}
static void bad_packed_indirect_length(struct drv *d, struct drv_queue *q) { packed_put(d, q, DATA_BASE, 24, 0, D_INDIRECT); }
static void bad_packed_order(struct drv *d, struct drv_queue *q)
{
    packed_put(d, q, DATA_BASE, 16, 0, D_WRITE | D_NEXT);
    packed_put(d, q, DATA_BASE, 16, 0, 0);
}

static const struct hostile hostiles[] = {
    { "loop_in_chain", bad_loop }, { "descriptor_after_itself", bad_self_loop }, { "head_out_of_range", bad_head },
    { "next_out_of_range", bad_next }, { "available_index_jumps", bad_avail_jump }, { "address_outside", bad_address },
    { "address_of_registers", bad_address_mmio }, { "buffer_over_the_end_of_ram", bad_end }, { "address_wraps", bad_wrap },
    { "readable_after_writable", bad_order }, { "indirect_length", bad_indirect_length }, { "indirect_empty", bad_indirect_empty },
    { "indirect_huge", bad_indirect_huge }, { "indirect_with_next", bad_indirect_next }, { "indirect_nested", bad_indirect_nested },
    { "indirect_loop", bad_indirect_loop }, { "indirect_outside", bad_indirect_outside },
    { "packed_loop", bad_packed_loop, true }, { "packed_address_outside", bad_packed_address, true },
    { "packed_indirect_in_chain", bad_packed_indirect_chain, true }, { "packed_indirect_length", bad_packed_indirect_length, true },
    { "packed_readable_after_writable", bad_packed_order, true },
};

static void test_hostile(gconstpointer arg)
{
    const struct hostile *h = arg;
    struct drv *d = rng_new(h->packed, 0);
    struct seg s = { DATA_BASE, 16, true };
    uint32_t len;

    h->fn(d, &d->q[0]);
    kick(d, 0);
    drv_spin(d);
    g_assert_true(needs_reset(d));
    g_assert_cmpuint(reg(d, 0x060) & 2, ==, 2);         /* the driver is told */
    g_assert_false(drv_used(d, 0, 1, &len));
    drv_start(d, 1, 0);                 /* and may begin anew */
    g_assert_cmpuint(drv_do(d, 0, &s, 1), ==, 16);
    drv_free(d);
}

static void test_rings_outside_ram(void)
{
    static const uint64_t places[][3] = {
        { RAM_SIZE, RING_BASE, RING_BASE + 0x1000 }, { RING_BASE, RAM_SIZE - 2, RING_BASE + 0x1000 },
        { RING_BASE, RING_BASE + 0x1000, MMIO_BASE }, { RING_BASE + 1, RING_BASE + 0x1000, RING_BASE + 0x2000 },
        { RING_BASE, RING_BASE + 0x1001, RING_BASE + 0x2000 }, { UINT64_MAX - 15, RING_BASE + 0x1000, RING_BASE + 0x2000 },
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(places); i++) {
        struct drv *d = rng_new(false, 0);

        set_reg(d, 0x030, 0);
        set_reg(d, 0x044, 0);
        for (unsigned r = 0; r < 3; r++) {
            set_reg(d, 0x080 + 0x10 * r, places[i][r]);
            set_reg(d, 0x084 + 0x10 * r, places[i][r] >> 32);
        }
        set_reg(d, 0x044, 1);
        kick(d, 0);
        drv_spin(d);
        g_assert_true(needs_reset(d));
        drv_free(d);
    }
}

/* Rings, requests and registers full of noise, biased towards what nearly works, for every device. Nothing may crash,
 * hang or write outside the places named; a sentinel page tells. */
struct noise { const char *name, *device; unsigned queues; bool packed, discards, ports; };

static const struct noise noises[] = {
    { "split/rng", "{'driver':'virtio-rng-device'}", 1 },
    { "packed/rng", "{'driver':'virtio-rng-device','packed':'on'}", 1, true },
    { "split/blk", "{'driver':'virtio-blk-device','drive':'nul','num-queues':2}", 2 },
    { "packed/blk", "{'driver':'virtio-blk-device','drive':'nul','num-queues':2,'packed':'on'}", 2, true },
    { "split/net", "{'driver':'virtio-net-device','netdev':'n0'}", 3 },
    { "packed/net", "{'driver':'virtio-net-device','netdev':'n0','packed':'on'}", 3, true },
    { "split/serial", "{'driver':'virtio-serial-device'}", 8, .ports = true },
    { "packed/serial", "{'driver':'virtio-serial-device','packed':'on'}", 8, true, .ports = true },
    { "split/balloon", "{'driver':'virtio-balloon-device','free-page-reporting':'on'}", 4, false, true },
};

static bool noise_backends(struct vm *vm, void *opaque, struct error *err)
{
    struct json_object *drive = json_tokener_parse("{\"driver\":\"null-co\",\"node-name\":\"nul\",\"size\":1048576,\"read-zeroes\":true}");
    struct json_object *net = json_tokener_parse("{\"type\":\"user\",\"id\":\"n0\",\"restrict\":true}");
    bool ok = block_add_node(vm, drive, err) && netdev_add(vm, net, err);

    json_object_put(drive);
    json_object_put(net);
    return ok;
}

/* A console and a data port, on ring buffers that echo nothing. */
static void noise_ports(struct drv *d)
{
    static const char *const texts[] = {
        "{\"backend\":\"ringbuf\",\"id\":\"c0\"}", "{\"backend\":\"null\",\"id\":\"c1\"}",
        "{\"driver\":\"virtconsole\",\"chardev\":\"c0\"}", "{\"driver\":\"virtserialport\",\"chardev\":\"c1\",\"id\":\"p1\",\"name\":\"x\"}",
    };
    struct error err = ERROR_INIT;

    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
        struct json_object *o = json_tokener_parse(texts[i]);

        if (i < 2 ? !chardev_add(d->vm, o, &err) : !device_create(d->vm, o, false, &err))
            g_error("%s: %s", texts[i], err.msg);
        json_object_put(o);
    }
}

static void noise_data(struct drv *d, GRand *r)
{
    for (unsigned i = 0; i < 0x1800; i += 4)
        w32(d, DATA_BASE + i, g_rand_int_range(r, 0, 3) ? g_rand_int_range(r, 0, 16) : g_rand_int(r));
}

static void noise_ring(struct drv *d, struct drv_queue *q, GRand *r)
{
    static const uint64_t places[] = { DATA_BASE, DATA_BASE + 0x1000, RAM_SIZE - 64, RAM_SIZE, UINT64_MAX - 8, MMIO_BASE, 0 };

    for (unsigned i = 0; i < q->size; i++) {
        uint64_t a = q->desc + 16 * i;

        w64(d, a, places[g_rand_int_range(r, 0, g_rand_int_range(r, 1, G_N_ELEMENTS(places)))]);
        w32(d, a + 8, g_rand_int_range(r, 0, 8) ? g_rand_int_range(r, 0, 64) * 16 : g_rand_int(r));
        w16(d, a + 12, d->packed ? g_rand_int_range(r, 0, 32) : g_rand_int_range(r, 0, 8));
        w16(d, a + 14, d->packed ? g_rand_int_range(r, 0, 8) | (g_rand_boolean(r) ? 1 << 7 : 1 << 15)
                                 : g_rand_int_range(r, 0, g_rand_int_range(r, 0, 8) ? q->size : 65536));
        if (!d->packed)
            w16(d, q->driver + 4 + 2 * i, g_rand_int_range(r, 0, g_rand_int_range(r, 0, 16) ? q->size : 65536));
    }
    if (!d->packed)
        w16(d, q->driver + 2, r16(d, q->device + 2) + g_rand_int_range(r, 0, g_rand_int_range(r, 0, 16) ? q->size + 1 : 65536));
}

static void test_noise(gconstpointer arg)
{
    const struct noise *n = arg;
    uint32_t seed = g_getenv("SEED") ? atoi(g_getenv("SEED")) : 20261122, rounds = g_getenv("SOAK") ? 20000 : 1500;
    GRand *r = g_rand_new_with_seed(seed);
    struct drv *d = drv_new(noise_backends, n->device);

    if (n->ports)
        noise_ports(d);
    memset(d->ram + RAM_SIZE / 2 - 4096, 0x5a, 4096);
    for (uint32_t round = 0; round < rounds; round++) {
        unsigned queue = g_rand_int_range(r, 0, n->queues);

        if (round % 8 == 0 || needs_reset(d))
            drv_restart(d, n->queues, g_rand_boolean(r) ? VIRTIO_BIT(VIRTIO_F_EVENT_IDX) : 0);
        noise_data(d, r);
        noise_ring(d, &d->q[queue], r);
        kick(d, queue);
        drv_spin(d);
        if (g_rand_int_range(r, 0, 4) == 0) {
            set_reg(d, 4 * g_rand_int_range(r, 0, 0x40), g_rand_int_range(r, 0, 8) ? g_rand_int_range(r, 0, 32) : g_rand_int(r));
            drv_spin(d);
        }
    }
    for (unsigned i = 0; !n->discards && i < 4096; i++)
        g_assert_cmpuint(d->ram[RAM_SIZE / 2 - 4096 + i], ==, 0x5a);
    g_rand_free(r);
    backends_free(d);
}

/* ---- block device */

enum { DISK = 4 << 20 };
static char *disk_path;

static bool blk_backends(struct vm *vm, void *opaque, struct error *err)
{
    g_autofree char *text = g_strdup_printf("if=none,id=disk,format=raw,discard=unmap,file=%s", disk_path);
    struct json_object *opts = options_parse(text, NULL, err);
    bool ok = opts && block_add_drive(vm, opts, err);

    json_object_put(opts);
    return ok;
}

static struct drv *blk_new(const char *device, unsigned queues)
{
    int fd = g_file_open_tmp("rhea-blk-XXXXXX", &disk_path, NULL);
    struct drv *d;

    g_assert_cmpint(ftruncate(fd, DISK), ==, 0);
    close(fd);
    d = drv_new(blk_backends, device);
    drv_start(d, queues, 0);
    return d;
}

static void blk_free(struct drv *d)
{
    backends_free(d);
    g_unlink(disk_path);
    g_free(disk_path);
}

/* One request; its status. */
static int blk_do(struct drv *d, unsigned queue, uint32_t type, uint64_t sector, uint64_t data, uint32_t len, bool write)
{
    uint64_t h = drv_alloc(d, 16), st = drv_alloc(d, 1);
    struct seg s[3] = { { h, 16, false }, { data, len, write }, { st, 1, true } };

    w32(d, h, type);
    w32(d, h + 4, 0);
    w64(d, h + 8, sector);
    d->ram[st] = 0xff;
    if (len) {
        drv_do(d, queue, s, 3);
    } else {
        s[1] = s[2];
        drv_do(d, queue, s, 2);
    }
    return d->ram[st];
}

static void test_blk(gconstpointer packed)
{
    struct drv *d = blk_new(packed ? "{'driver':'virtio-blk-device','drive':'disk','serial':'S-1','num-queues':2,'packed':'on'}"
                                   : "{'driver':'virtio-blk-device','drive':'disk','serial':'S-1','num-queues':2}", 2);
    uint64_t a = drv_alloc(d, 8192), b = drv_alloc(d, 8192);

    g_assert_cmpuint(reg(d, 0x100), ==, DISK / 512);
    for (unsigned i = 0; i < 8192; i++)
        d->ram[a + i] = i * 7 + (i >> 8);
    g_assert_cmpint(blk_do(d, 0, 1, 16, a, 8192, false), ==, 0);
    g_assert_cmpint(blk_do(d, 0, 4, 0, 0, 0, false), ==, 0);
    g_assert_cmpint(blk_do(d, 1, 0, 16, b, 8192, true), ==, 0);
    g_assert_cmpmem(d->ram + a, 8192, d->ram + b, 8192);
    g_assert_cmpint(blk_do(d, 0, 8, 0, b, 20, true), ==, 0);
    g_assert_cmpstr((char *)d->ram + b, ==, "S-1");
    g_assert_cmpint(blk_do(d, 0, 0, DISK / 512 - 1, b, 1024, true), ==, 1);             /* over the end */
    g_assert_cmpint(blk_do(d, 0, 0, UINT64_MAX / 512, b, 512, true), ==, 1);
    g_assert_cmpint(blk_do(d, 0, 0, 0, b, 100, true), ==, 1);                           /* no whole sector */
    g_assert_cmpint(blk_do(d, 0, 77, 0, b, 512, true), ==, 2);
    g_assert_false(needs_reset(d));
    blk_free(d);
}

static void test_blk_discard_and_zeroes(void)
{
    struct drv *d = blk_new("{'driver':'virtio-blk-device','drive':'disk','num-queues':1}", 1);
    uint64_t a = drv_alloc(d, 65536), seg = drv_alloc(d, 16);

    memset(d->ram + a, 0xee, 65536);
    g_assert_cmpint(blk_do(d, 0, 1, 0, a, 65536, false), ==, 0);
    w64(d, seg, 8);
    w32(d, seg + 8, 8);
    w32(d, seg + 12, 1);
    g_assert_cmpint(blk_do(d, 0, 13, 0, seg, 16, false), ==, 0);
    g_assert_cmpint(blk_do(d, 0, 0, 0, a, 65536, true), ==, 0);
    g_assert_cmpuint(d->ram[a + 4095], ==, 0xee);
    g_assert_true(all_zero(d, a + 4096, 4096));
    g_assert_cmpuint(d->ram[a + 8192], ==, 0xee);
    g_assert_cmpint(blk_do(d, 0, 11, 0, seg, 16, false), ==, 2);        /* discard has no such flag */
    w32(d, seg + 12, 0);
    g_assert_cmpint(blk_do(d, 0, 11, 0, seg, 16, false), ==, 0);
    w64(d, seg, DISK / 512);
    g_assert_cmpint(blk_do(d, 0, 11, 0, seg, 16, false), ==, 1);
    g_assert_cmpint(blk_do(d, 0, 13, 0, seg, 15, false), ==, 2);
    blk_free(d);
}

/* Sixteen writes at once that follow each other, then a read of all: merged or not, each finds its place. */
static void test_blk_merges(void)
{
    struct drv *d = blk_new("{'driver':'virtio-blk-device','drive':'disk','num-queues':1}", 1);
    uint64_t a = drv_alloc(d, 16 * 512), b = drv_alloc(d, 16 * 512), h[5], st = drv_alloc(d, 16);
    uint32_t len;

    for (unsigned i = 0; i < 16 * 512; i++)
        d->ram[a + i] = i / 512 + 1;
    for (unsigned i = 0; i < 5; i++) {
        unsigned at = i == 3 ? 8 : i;   /* one stands apart */
        struct seg s[3] = { { h[i] = drv_alloc(d, 16), 16, false }, { a + 512 * at, 512, false }, { st + i, 1, true } };

        w32(d, h[i], 1);
        w64(d, h[i] + 8, at);
        d->ram[st + i] = 0xff;
        drv_add(d, 0, s, 3);
    }
    kick(d, 0);
    for (unsigned i = 0; i < 5;) {
        if (drv_used(d, 0, 3, &len))
            i++;
        else if (!loop_step(d->loop, false))
            g_usleep(100);
    }
    for (unsigned i = 0; i < 5; i++)
        g_assert_cmpuint(d->ram[st + i], ==, 0);
    g_assert_cmpint(blk_do(d, 0, 0, 0, b, 16 * 512, true), ==, 0);
    for (unsigned i = 0; i < 16; i++)
        g_assert_cmpuint(d->ram[b + 512 * i], ==, i == 3 || i > 8 || (i > 4 && i < 8) ? 0 : i + 1);
    blk_free(d);
}

static void test_blk_without_status_needs_reset(void)
{
    struct drv *d = blk_new("{'driver':'virtio-blk-device','drive':'disk','num-queues':1}", 1);
    struct seg s = { DATA_BASE, 16, false };

    drv_add(d, 0, &s, 1);
    kick(d, 0);
    drv_spin(d);
    g_assert_true(needs_reset(d));
    blk_free(d);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/virtio/split/fill", NULL, test_fill);
    g_test_add_data_func("/virtio/packed/fill", "packed", test_fill);
    g_test_add_data_func("/virtio/split/indirect", NULL, test_indirect);
    g_test_add_data_func("/virtio/packed/indirect", "packed", test_indirect);
    g_test_add_func("/virtio/split/event_index_suppresses_interrupts", test_event_index_suppresses_interrupts);
    g_test_add_func("/virtio/split/flag_suppresses_interrupts", test_flag_suppresses_interrupts);
    g_test_add_func("/virtio/legacy_mmio", test_legacy_mmio);
    g_test_add_func("/virtio/queue_reset", test_queue_reset);
    g_test_add_func("/virtio/unoffered_feature_is_refused", test_unoffered_feature_is_refused);
    g_test_add_func("/virtio/paused_machine_leaves_memory_alone", test_paused_machine_leaves_memory_alone);
    for (unsigned i = 0; i < G_N_ELEMENTS(hostiles); i++) {
        g_autofree char *name = g_strdup_printf("/virtio/%s_needs_reset", hostiles[i].name);

        g_test_add_data_func(name, &hostiles[i], test_hostile);
    }
    g_test_add_func("/virtio/rings_outside_ram_need_reset", test_rings_outside_ram);
    for (unsigned i = 0; i < G_N_ELEMENTS(noises); i++) {
        g_autofree char *name = g_strdup_printf("/virtio/noise/%s", noises[i].name);

        g_test_add_data_func(name, &noises[i], test_noise);
    }
    g_test_add_data_func("/virtio/split/blk", NULL, test_blk);
    g_test_add_data_func("/virtio/packed/blk", "packed", test_blk);
    g_test_add_func("/virtio/blk/discard_and_zeroes", test_blk_discard_and_zeroes);
    g_test_add_func("/virtio/blk/adjacent_requests_find_their_places", test_blk_merges);
    g_test_add_func("/virtio/blk/request_without_status_needs_reset", test_blk_without_status_needs_reset);
    return g_test_run();
}
