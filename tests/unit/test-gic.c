/* Arm's interrupt controllers on the virt board, without running its CPUs: priorities, preemption, states, SGIs, LPIs, the ITS
 * with tables that a hostile guest wrote, GICv2m; the board's flash. */
#include <glib.h>
#include <string.h>
#include "device/irq/arm_gicv3_regs.h"
#include "rhea/device/arm_gic.h"
#include "rhea/device/pflash.h"

/* GICv2's internal header and GICv3's name some things alike: its registers by number here. */
enum { DIST = 0x08000000, CPUIF = 0x08010000, V2M = 0x08020000, ITS = 0x08080000, REDIST = 0x080a0000, RAM = 0x40000000 };
enum { CPUS = 4, SPI = 32 };

struct rig { struct loop *loop; struct vm *vm; struct device *gic; };

static struct rig machine(const char *gic)
{
    struct vm_config c = { .guest = "aarch64", .machine = "virt", .cpu = "cortex-a57", .cpus = CPUS, .max_cpus = CPUS, .sockets = 1,
                           .dies = 1, .clusters = 1, .cores = CPUS, .threads = 1, .ram_size = 64 << 20, .ram_max = 64 << 20 };
    struct rig r = { .loop = loop_new("test") };
    struct error err = ERROR_INIT;

    c.machine_opts = json_object_new_object();
    json_object_object_add(c.machine_opts, "gic-version", json_object_new_string(gic));
    r.vm = vm_create(&c, r.loop, &err);
    g_assert_cmpstr(err.msg, ==, NULL);
    vm_reset(r.vm, RESET_COLD, false, "test");
    r.gic = device_find_class(r.vm, *gic == '2' ? "arm_gic" : "arm-gicv3", NULL);
    json_object_put(c.machine_opts);
    return r;
}

static void finish(struct rig *r)
{
    vm_destroy(r->vm);
    loop_free(r->loop);
}

static uint64_t get(struct rig *r, uint64_t addr, unsigned size) { return as_load(&r->vm->memory, addr, size, MEM_ATTRS_NONE, NULL); }
static void put(struct rig *r, uint64_t addr, uint64_t v, unsigned size) { as_store(&r->vm->memory, addr, v, size, MEM_ATTRS_NONE, NULL); }
static struct arm_cpu *cpu(struct rig *r, unsigned n) { return arm(r->vm->vcpus[n]->cpu); }
static bool irq(struct rig *r, unsigned n) { return cpu(r, n)->sys.lines >> ARM_LINE_IRQ & 1; }
static bool fiq(struct rig *r, unsigned n) { return cpu(r, n)->sys.lines >> ARM_LINE_FIQ & 1; }
static void line(struct rig *r, unsigned spi, int level) { irq_set(gic_spi(r->gic, spi), level); }

/* ---- GICv2: the test's thread is no CPU and sees CPU 0's interface */

static struct rig machine2(void)
{
    struct rig r = machine("2");

    put(&r, DIST, 1, 4);                        /* group 0 of the only world */
    put(&r, CPUIF, 1, 4);
    put(&r, CPUIF + 4, 0xf0, 4);
    return r;
}

static void enable2(struct rig *r, unsigned id, uint8_t priority, bool edge)
{
    put(r, DIST + 0x400 + id, priority, 1);
    if (id >= SPI)
        put(r, DIST + 0x800 + id, 1, 1);
    if (id >= 16)
        put(r, DIST + 0xc00 + id / 16 * 4, (get(r, DIST + 0xc00 + id / 16 * 4, 4) & ~(3ull << id % 16 * 2)) | (edge ? 2ull : 0) << id % 16 * 2, 4);
    put(r, DIST + 0x100 + id / 32 * 4, 1u << id % 32, 4);
}

static void v2_level_and_edge(void)
{
    struct rig r = machine2();

    enable2(&r, SPI + 5, 0x80, false);
    enable2(&r, SPI + 6, 0x80, true);
    g_assert_false(irq(&r, 0));
    line(&r, 5, 1);
    g_assert_true(irq(&r, 0) && !irq(&r, 1) && !fiq(&r, 0));
    g_assert_cmpuint(get(&r, CPUIF + 0xc, 4), ==, SPI + 5);
    g_assert_false(irq(&r, 0));                 /* active: not taken twice */
    g_assert_cmpuint(get(&r, CPUIF + 0xc, 4), ==, 1023);
    g_assert_cmphex(get(&r, DIST + 0x300 + 4, 4), ==, 1 << 5);
    put(&r, CPUIF + 0x10, SPI + 5, 4);
    g_assert_true(irq(&r, 0));                  /* the level is still there */
    line(&r, 5, 0);
    g_assert_false(irq(&r, 0));
    line(&r, 6, 1);
    line(&r, 6, 0);
    g_assert_true(irq(&r, 0));                  /* an edge is remembered */
    g_assert_cmpuint(get(&r, CPUIF + 0xc, 4), ==, SPI + 6);
    line(&r, 6, 1);                             /* another, while it is active: pending again after its end */
    g_assert_false(irq(&r, 0));
    put(&r, CPUIF + 0x10, SPI + 6, 4);
    g_assert_cmpuint(get(&r, CPUIF + 0xc, 4), ==, SPI + 6);
    finish(&r);
}

static void v2_priorities(void)
{
    struct rig r = machine2();

    for (unsigned i = 0; i < 3; i++)
        enable2(&r, SPI + i, (uint8_t)(0xa0 - 0x20 * i), false);
    line(&r, 0, 1);
    g_assert_cmpuint(get(&r, CPUIF + 0xc, 4), ==, SPI + 0);
    g_assert_cmphex(get(&r, CPUIF + 0x14, 4), ==, 0xa0);
    line(&r, 2, 1);                             /* preempts */
    g_assert_true(irq(&r, 0));
    g_assert_cmpuint(get(&r, CPUIF + 0xc, 4), ==, SPI + 2);
    g_assert_cmphex(get(&r, CPUIF + 0x14, 4), ==, 0x60);
    line(&r, 1, 1);                             /* in between: waits */
    g_assert_false(irq(&r, 0));
    g_assert_cmpuint(get(&r, CPUIF + 0x18, 4), ==, SPI + 1);
    line(&r, 2, 0);
    put(&r, CPUIF + 0x10, SPI + 2, 4);
    g_assert_true(irq(&r, 0));
    put(&r, CPUIF + 4, 0x80, 4);                /* the mask: as urgent is not urgent enough */
    g_assert_false(irq(&r, 0));
    put(&r, CPUIF + 4, 0x88, 4);
    g_assert_true(irq(&r, 0));
    put(&r, CPUIF + 8, 7, 4);                   /* no bit of the priority preempts */
    g_assert_false(irq(&r, 0));
    finish(&r);
}

static void v2_sgi(void)
{
    struct rig r = machine2();

    enable2(&r, 3, 0x40, true);
    put(&r, DIST + 0xf00, 1 << 16 | 3, 4);      /* to CPU 0, from the monitor as CPU 0 */
    g_assert_true(irq(&r, 0));
    g_assert_cmpuint(get(&r, CPUIF + 0xc, 4), ==, 3);
    put(&r, CPUIF + 0x10, 3, 4);
    put(&r, DIST + 0xf20, 0x0a000000, 4);       /* SGI 3 from CPUs 1 and 3: each is acknowledged */
    g_assert_cmphex(get(&r, CPUIF + 0xc, 4), ==, 1 << 10 | 3);
    put(&r, CPUIF + 0x10, 1 << 10 | 3, 4);
    g_assert_cmphex(get(&r, CPUIF + 0xc, 4), ==, 3 << 10 | 3);
    put(&r, CPUIF + 0x10, 3 << 10 | 3, 4);
    g_assert_false(irq(&r, 0));
    put(&r, DIST + 0xf00, 1 << 24 | 3, 4);      /* all but oneself */
    g_assert_false(irq(&r, 0));
    finish(&r);
}

static void v2m_message(void)
{
    struct rig r = machine2();
    unsigned first = get(&r, V2M + 8, 4) >> 16 & 0x3ff;

    g_assert_cmpuint(first, ==, 80);
    enable2(&r, first + 3, 0x80, true);
    g_assert_true(r.vm->msi(r.vm->msi_opaque, V2M + 0x40, first + 3, 0x10));
    g_assert_true(irq(&r, 0));
    g_assert_cmpuint(get(&r, CPUIF + 0xc, 4), ==, first + 3);
    for (uint64_t data = 0; data < 70000; data += 997)  /* out of range: nothing */
        r.vm->msi(r.vm->msi_opaque, V2M + 0x40, data == first + 3 ? 0 : (uint32_t)data, 0x10);
    g_assert_false(r.vm->msi(r.vm->msi_opaque, V2M + 0x44, first, 0x10));
    g_assert_false(r.vm->msi(r.vm->msi_opaque, RAM, first, 0x10));
    finish(&r);
}

/* ---- GICv3 */

static uint64_t icc(struct rig *r, unsigned n, unsigned reg)
{
    struct arm_cpu *c = cpu(r, n);
    uint64_t v = 0;

    g_assert_cmpint(c->sys.gic->read(c->sys.gic_opaque, c, reg, &v), ==, ARM_GIC_OK);
    return v;
}

static void icc_set(struct rig *r, unsigned n, unsigned reg, uint64_t v)
{
    struct arm_cpu *c = cpu(r, n);

    g_assert_cmpint(c->sys.gic->write(c->sys.gic_opaque, c, reg, v), ==, ARM_GIC_OK);
}

static struct rig machine3(void)
{
    struct rig r = machine("3");

    put(&r, DIST, 0x12, 4);
    for (unsigned i = 0; i < CPUS; i++) {
        cpu(&r, i)->el = 1;
        icc_set(&r, i, ICC_PMR, 0xf0);
        icc_set(&r, i, ICC_IGRPEN1, 1);
    }
    return r;
}

static void enable3(struct rig *r, unsigned id, unsigned n, uint8_t priority)
{
    put(r, DIST + 0x400 + id, priority, 1);
    put(r, DIST + 0x6000 + 8 * id, n, 8);
    put(r, DIST + 0x100 + id / 32 * 4, 1u << id % 32, 4);
}

static void enable_private(struct rig *r, unsigned n, unsigned id, uint8_t priority)
{
    uint64_t sgi = REDIST + n * 0x20000 + 0x10000;

    put(r, sgi + 0x400 + id, priority, 1);
    put(r, sgi + 0x100, 1u << id, 4);
}

static void v3_spi(void)
{
    struct rig r = machine3();

    enable3(&r, SPI + 9, 2, 0x80);
    enable3(&r, SPI + 10, 2, 0x40);
    line(&r, 9, 1);
    g_assert_true(irq(&r, 2) && !irq(&r, 0) && !fiq(&r, 2));
    g_assert_cmpuint(icc(&r, 2, ICC_IAR1), ==, SPI + 9);
    g_assert_false(irq(&r, 2));
    g_assert_cmpuint(icc(&r, 0, ICC_IAR1), ==, 1023);
    line(&r, 10, 1);
    g_assert_true(irq(&r, 2));
    g_assert_cmpuint(icc(&r, 2, ICC_IAR1), ==, SPI + 10);
    g_assert_cmphex(icc(&r, 2, ICC_RPR), ==, 0x40);
    line(&r, 10, 0);
    icc_set(&r, 2, ICC_EOIR1, SPI + 10);
    g_assert_cmphex(icc(&r, 2, ICC_RPR), ==, 0x80);
    icc_set(&r, 2, ICC_EOIR1, SPI + 9);
    g_assert_true(irq(&r, 2));                  /* level */
    put(&r, DIST + 0x6000 + 8 * (SPI + 9), 1, 8);       /* goes elsewhere */
    g_assert_true(!irq(&r, 2) && irq(&r, 1));
    put(&r, DIST + 0x6000 + 8 * (SPI + 9), 0xff00, 8);  /* to nobody */
    g_assert_true(!irq(&r, 2) && !irq(&r, 1));
    finish(&r);
}

static void v3_split_end(void)
{
    struct rig r = machine3();

    enable_private(&r, 1, 27, 0x80);
    irq_raise(gic_ppi(r.gic, 1, 27));
    icc_set(&r, 1, ICC_CTLR, 2);
    g_assert_cmpuint(icc(&r, 1, ICC_IAR1), ==, 27);
    icc_set(&r, 1, ICC_EOIR1, 27);              /* priority falls, but it is active still */
    g_assert_cmphex(icc(&r, 1, ICC_RPR), ==, 0xff);
    g_assert_false(irq(&r, 1));
    icc_set(&r, 1, ICC_DIR, 27);
    g_assert_true(irq(&r, 1));
    irq_lower(gic_ppi(r.gic, 1, 27));
    g_assert_false(irq(&r, 1));
    icc_set(&r, 1, ICC_EOIR1, 27);              /* ends nothing */
    icc_set(&r, 1, ICC_EOIR1, 1020);
    icc_set(&r, 1, ICC_DIR, 0xffffff);
    finish(&r);
}

static void v3_sgi(void)
{
    struct rig r = machine3();

    for (unsigned i = 0; i < CPUS; i++)
        enable_private(&r, i, 5, 0x60);
    icc_set(&r, 0, ICC_SGI1R, 5ull << 24 | 0xa);
    g_assert_true(!irq(&r, 0) && irq(&r, 1) && !irq(&r, 2) && irq(&r, 3));
    g_assert_cmpuint(icc(&r, 1, ICC_IAR1), ==, 5);
    g_assert_false(irq(&r, 1));
    icc_set(&r, 1, ICC_EOIR1, 5);
    g_assert_false(irq(&r, 1));
    icc_set(&r, 2, ICC_SGI1R, 5ull << 24 | 1ull << 40); /* all but oneself */
    g_assert_true(irq(&r, 0) && irq(&r, 1) && !irq(&r, 2) && irq(&r, 3));
    icc_set(&r, 0, ICC_SGI1R, 5ull << 24 | 1ull << 16 | 0xffff);        /* a cluster that is not there */
    g_assert_false(irq(&r, 2));
    finish(&r);
}

/* ---- LPIs and the ITS: tables at fixed places of RAM */

enum { QUEUE = RAM + 0x100000, DEVICES = RAM + 0x200000, COLLECTIONS = RAM + 0x210000, CONFIG = RAM + 0x220000, ITT = RAM + 0x300000,
       PENDING = RAM + 0x400000 };
#define VALID (1ull << 63)

static void its_setup(struct rig *r)
{
    put(r, ITS + 0x100, VALID | DEVICES | 15 /* 64 KiB */, 8);
    put(r, ITS + 0x108, VALID | COLLECTIONS, 8);
    put(r, ITS + 0x80, VALID | QUEUE, 8);
    put(r, ITS, 1, 4);
    for (unsigned i = 0; i < CPUS; i++) {
        put(r, REDIST + i * 0x20000 + 0x70, CONFIG | 15, 8);
        put(r, REDIST + i * 0x20000 + 0x78, (PENDING + i * 0x10000) | 1ull << 62, 8);
        put(r, REDIST + i * 0x20000, 1, 4);
    }
}

static void its_command(struct rig *r, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    uint64_t at = get(r, ITS + 0x88, 8), next = at + 32 == 4096 ? 0 : at + 32;
    const uint64_t words[4] = { a, b, c, d };

    for (unsigned i = 0; i < 4; i++)
        put(r, QUEUE + at + 8 * i, words[i], 8);
    put(r, ITS + 0x88, next, 8);
    g_assert_cmphex(get(r, ITS + 0x90, 8), ==, next);
}

static void its_map(struct rig *r, uint64_t device, uint64_t event, uint64_t lpi, uint64_t collection, uint64_t n)
{
    its_command(r, 0x08 | device << 32, 4 /* 32 events */, VALID | ITT, 0);
    its_command(r, 0x09, 0, VALID | n << 16 | collection, 0);
    its_command(r, 0x0a | device << 32, lpi << 32 | event, collection, 0);
}

static bool message(struct rig *r, uint16_t device, uint32_t event)
{
    return r->vm->msi(r->vm->msi_opaque, ITS + 0x10040, event, device);
}

static void its_messages(void)
{
    struct rig r = machine3();

    its_setup(&r);
    its_map(&r, 0x10, 3, 8200, 7, 1);
    message(&r, 0x10, 3);
    g_assert_false(irq(&r, 1));                 /* not enabled yet */
    put(&r, CONFIG + 8200 - 8192, 0x80 | 1, 1);
    its_command(&r, 0x0c | 0x10ull << 32, 3, 0, 0);     /* INV */
    g_assert_true(irq(&r, 1));
    g_assert_cmpuint(icc(&r, 1, ICC_IAR1), ==, 8200);
    g_assert_false(irq(&r, 1));
    message(&r, 0x10, 3);
    g_assert_false(irq(&r, 1));                 /* pends behind its own priority */
    icc_set(&r, 1, ICC_EOIR1, 8200);
    g_assert_true(irq(&r, 1));
    its_command(&r, 0x09, 0, VALID | 2ull << 16 | 8, 0);
    its_command(&r, 0x01 | 0x10ull << 32, 3, 8, 0);     /* MOVI takes it along */
    g_assert_true(!irq(&r, 1) && irq(&r, 2));
    its_command(&r, 0x0e, 0, 2ull << 16, 3ull << 16);   /* MOVALL */
    g_assert_true(!irq(&r, 2) && irq(&r, 3));
    its_command(&r, 0x0e, 0, 3ull << 16, 2ull << 16);
    its_command(&r, 0x04 | 0x10ull << 32, 3, 0, 0);     /* CLEAR */
    g_assert_false(irq(&r, 2));
    its_command(&r, 0x03 | 0x10ull << 32, 3, 0, 0);     /* INT */
    g_assert_true(irq(&r, 2));
    its_command(&r, 0x0f | 0x10ull << 32, 3, 0, 0);     /* DISCARD */
    g_assert_false(irq(&r, 2));
    message(&r, 0x10, 3);
    g_assert_false(irq(&r, 2));
    finish(&r);
}

/* A queue of any length does not keep the CPU that wrote it: the machine's loop runs on through it. */
static void its_long_queue(void)
{
    struct rig r = machine3();
    uint64_t last;

    its_setup(&r);
    put(&r, ITS, 0, 4);
    put(&r, ITS + 0x80, VALID | QUEUE | 15, 8);         /* 64 KiB: 2048 commands */
    for (unsigned n = 0; n < 2048; n++)
        put(&r, QUEUE + 32 * n, 0x05, 8);               /* SYNC */
    put(&r, ITS, 1, 4);
    put(&r, ITS + 0x88, 2047 * 32, 8);
    last = get(&r, ITS + 0x90, 8);
    g_assert_cmpuint(last, >, 0);
    g_assert_cmpuint(last, <, 2047 * 32);
    vm_clock_run(r.vm, true);
    for (unsigned n = 0; n < 100000 && get(&r, ITS + 0x90, 8) != 2047 * 32; n++)
        loop_step(r.loop, false);
    g_assert_cmpuint(get(&r, ITS + 0x90, 8), ==, 2047 * 32);
    finish(&r);
}

/* Pending LPIs are in memory while they are off, and come back. */
static void lpi_pending_table(void)
{
    struct rig r = machine3();

    its_setup(&r);
    its_map(&r, 0x10, 3, 8200, 7, 0);
    put(&r, CONFIG + 8200 - 8192, 0x80 | 1, 1);
    message(&r, 0x10, 3);
    g_assert_true(irq(&r, 0));
    put(&r, REDIST, 0, 4);
    g_assert_false(irq(&r, 0));
    g_assert_cmphex(get(&r, PENDING + 8200 / 8, 1), ==, 1 << 8200 % 8);
    put(&r, REDIST + 0x78, PENDING, 8);
    put(&r, REDIST, 1, 4);
    g_assert_true(irq(&r, 0));
    g_assert_cmpuint(icc(&r, 0, ICC_IAR1), ==, 8200);
    finish(&r);
}

/* Whatever stands in tables, commands and registers: an answer, and no more. */
static void its_hostile(void)
{
    static const uint64_t places[] = { RAM, 0, ITS, REDIST, DIST, 0xffffffffff000, RAM + (64 << 20) - 4096, 0x4010000000 };
    struct rig r = machine3();
    GRand *rand = g_rand_new_with_seed(20);

    for (unsigned round = 0; round < 200; round++) {
        uint64_t garbage[512];

        put(&r, ITS, 0, 4);
        for (unsigned i = 0; i < 512; i++)
            garbage[i] = (uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand);
        as_write(&r.vm->memory, DEVICES, garbage, sizeof(garbage), MEM_ATTRS_NONE);
        as_write(&r.vm->memory, COLLECTIONS, garbage, sizeof(garbage), MEM_ATTRS_NONE);
        for (unsigned i = 0; i < 512; i += 4)
            garbage[i] = (garbage[i] & ~0xffull) | (uint64_t)g_rand_int_range(rand, 0, 17);
        as_write(&r.vm->memory, QUEUE, garbage, sizeof(garbage), MEM_ATTRS_NONE);
        put(&r, ITS + 0x100, VALID | (round & 1 ? 1ull << 62 : 0) | (round % 3 ? DEVICES : places[round % 8]) | (garbage[1] & 0x3ff), 8);
        put(&r, ITS + 0x108, VALID | (round % 5 ? COLLECTIONS : places[round % 8]) | (garbage[3] & 0x3ff), 8);
        put(&r, ITS + 0x80, VALID | (round % 7 ? QUEUE : places[round % 8]) | (garbage[5] & 0xff), 8);
        for (unsigned i = 0; i < CPUS; i++) {
            put(&r, REDIST + i * 0x20000, 0, 4);
            put(&r, REDIST + i * 0x20000 + 0x70, places[(round + i) % 8] | (garbage[7] & 31), 8);
            put(&r, REDIST + i * 0x20000 + 0x78, places[(round + 3 * i) % 8], 8);
            put(&r, REDIST + i * 0x20000, 1, 4);
        }
        put(&r, ITS, 1, 4);
        put(&r, ITS + 0x88, garbage[9] & 0xfffff, 8);
        for (unsigned i = 0; i < 64; i++)
            message(&r, (uint16_t)garbage[i], (uint32_t)(garbage[i] >> 20) & (i & 1 ? 31 : ~0u));
        for (unsigned i = 0; i < CPUS; i++)
            icc_set(&r, i, ICC_EOIR1, icc(&r, i, ICC_IAR1));
    }
    g_rand_free(rand);
    finish(&r);
}

/* Every register of every frame takes every value. */
static void registers_hostile(void)
{
    for (unsigned version = 2; version <= 3; version++) {
        struct rig r = version == 2 ? machine2() : machine3();
        GRand *rand = g_rand_new_with_seed(version);

        for (unsigned n = 0; n < 60000; n++) {
            uint64_t base = version == 2 ? (n & 1 ? DIST : n & 2 ? CPUIF : V2M) : n & 1 ? DIST : n & 2 ? REDIST : ITS;
            uint64_t at = base + (uint64_t)g_rand_int_range(rand, 0, base == REDIST ? 0x80000 : base == ITS ? 0x20000 : 0x10000);
            unsigned size = 1u << g_rand_int_range(rand, 0, 4);
            uint64_t v = (uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand);

            if (base == DIST && n % 3 == 0)
                at = DIST + (at & 0xfff);
            if (n % 5)
                put(&r, at & ~(uint64_t)(size - 1), n % 7 ? v : 1ull << (v & 63), size);
            else
                get(&r, at & ~(uint64_t)(size - 1), size);
            line(&r, n % 64, n / 64 & 1);
        }
        g_rand_free(rand);
        finish(&r);
    }
}

/* ---- virtual interface */

static void v3_virtual(void)
{
    struct rig r = machine3();
    struct arm_cpu *c = cpu(&r, 0);
    uint64_t v;

    c->sys.config.el2 = true;
    c->el = 2;
    enable_private(&r, 0, 25, 0x20);
    icc_set(&r, 0, ICH_VMCR, 0xf8ull << 24 | 2);
    icc_set(&r, 0, ICH_LR0, 1ull << 62 | 1ull << 60 | 0x80ull << 48 | 1ull << 41 | 40);
    icc_set(&r, 0, ICH_LR0 + 1, 1ull << 62 | 1ull << 60 | 0x40ull << 48 | 41);
    icc_set(&r, 0, ICH_HCR, 1);
    g_assert_true(c->sys.lines >> ARM_LINE_VIRQ & 1);
    g_assert_false(irq(&r, 0));
    c->el = 1;
    c->sys.hcr = 1 << 4 | 1 << 3;
    g_assert_cmpuint(icc(&r, 0, ICC_IAR1), ==, 41);
    g_assert_false(c->sys.lines >> ARM_LINE_VIRQ & 1);  /* the other is less urgent */
    icc_set(&r, 0, ICC_EOIR1, 41);
    g_assert_cmpuint(icc(&r, 0, ICC_IAR1), ==, 40);
    g_assert_false(irq(&r, 0));
    icc_set(&r, 0, ICC_EOIR1, 40);
    g_assert_true(irq(&r, 0));                  /* maintenance: its end was to be told */
    g_assert_cmpint(c->sys.gic->write(c->sys.gic_opaque, c, ICC_SGI1R, 0), ==, ARM_GIC_TRAP_EL2);
    g_assert_cmpint(c->sys.gic->read(c->sys.gic_opaque, c, ICH_HCR, &v), ==, ARM_GIC_UNDEFINED);
    c->el = 2;
    g_assert_cmphex(icc(&r, 0, ICH_EISR), ==, 1);
    g_assert_cmphex(icc(&r, 0, ICH_MISR), ==, 1);
    icc_set(&r, 0, ICH_LR0, 0);
    g_assert_false(irq(&r, 0));
    finish(&r);
}

/* ---- flash */

static void flash_write(struct rig *r, uint64_t at, uint32_t v) { put(r, at, v, 4); }

static void flash_commands(void)
{
    struct rig r = machine("3");
    struct error err = ERROR_INIT;
    struct device *f = device_new(r.vm, "cfi.pflash01", NULL, &err);
    enum { AT = 0x04000000 };

    g_assert_true(device_set(f, "num-blocks", "4", &err) && device_set(f, "sector-length", "262144", &err) &&
                  device_set(f, "width", "4", &err) && device_set(f, "device-width", "2", &err) && device_set(f, "id0", "0x89", &err) &&
                  device_realize(f, NULL, &err));
    mem_region_add(&r.vm->system_memory, AT, &f->mmio[0], 0);
    g_assert_cmphex(get(&r, AT, 4), ==, 0xffffffff);
    flash_write(&r, AT, 0x00980098);            /* query: QRY in each chip's lane */
    g_assert_cmphex(get(&r, AT + 0x40, 4), ==, 'Q' | 'Q' << 16);
    g_assert_cmphex(get(&r, AT + 0x42, 2), ==, 'Q');
    g_assert_cmphex(get(&r, AT + 0x27 * 4, 1), ==, 19); /* 512 KiB a chip */
    flash_write(&r, AT, 0x00900090);
    g_assert_cmphex(get(&r, AT, 4), ==, 0x00890089);
    flash_write(&r, AT, 0x00ff00ff);
    flash_write(&r, AT + 8, 0x00400040);        /* a word */
    flash_write(&r, AT + 8, 0x12345678);
    g_assert_cmphex(get(&r, AT, 4), ==, 0x00800080);
    flash_write(&r, AT + 8, 0x00400040);        /* bits are cleared, never set */
    flash_write(&r, AT + 8, 0xffff0000);
    flash_write(&r, AT, 0x00ff00ff);
    g_assert_cmphex(get(&r, AT + 8, 4), ==, 0x12340000);
    flash_write(&r, AT + 0x80, 0x00e800e8);     /* a buffer of two words */
    flash_write(&r, AT + 0x80, 0x00010001);
    flash_write(&r, AT + 0x80, 1);
    flash_write(&r, AT + 0x84, 2);
    flash_write(&r, AT + 0x80, 0x00d000d0);
    flash_write(&r, AT, 0x00ff00ff);
    g_assert_cmphex(get(&r, AT + 0x80, 8), ==, 0x200000001);
    flash_write(&r, AT + 0x80, 0x00e800e8);     /* of which words lie far apart: refused */
    flash_write(&r, AT + 0x80, 0x00010001);
    flash_write(&r, AT + 0x80, 0);
    flash_write(&r, AT + 0x80000, 0);
    g_assert_cmphex(get(&r, AT, 4) & 0x30, ==, 0x30);
    flash_write(&r, AT, 0x00500050);
    flash_write(&r, AT, 0x00200020);            /* erase, confirmed */
    flash_write(&r, AT, 0x00d000d0);
    flash_write(&r, AT, 0x00ff00ff);
    g_assert_cmphex(get(&r, AT + 8, 4), ==, 0xffffffff);
    mem_region_remove(&f->mmio[0]);
    finish(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/gicv2/level-and-edge", v2_level_and_edge);
    g_test_add_func("/gicv2/priorities", v2_priorities);
    g_test_add_func("/gicv2/sgi", v2_sgi);
    g_test_add_func("/gicv2/messages", v2m_message);
    g_test_add_func("/gicv3/spi", v3_spi);
    g_test_add_func("/gicv3/split-end", v3_split_end);
    g_test_add_func("/gicv3/sgi", v3_sgi);
    g_test_add_func("/gicv3/virtual", v3_virtual);
    g_test_add_func("/its/messages", its_messages);
    g_test_add_func("/its/pending-table", lpi_pending_table);
    g_test_add_func("/its/long-queue", its_long_queue);
    g_test_add_func("/its/hostile", its_hostile);
    g_test_add_func("/gic/hostile-registers", registers_hostile);
    g_test_add_func("/flash/commands", flash_commands);
    return g_test_run();
}
