/* Arm's page-table walker over hand-made tables: what Debian's QEMU 7.2 can't answer, or not as exactly. The common cases are
 * compared with it by tests/isa/arm/system. And the generic timer's comparator. */
#include <glib.h>
#include <string.h>
#include "rhea/vm/clock.h"
#include "rhea/vm/device.h"
#include "rhea/vm/vm.h"
#include "system.h"

#define RAM UINT64_C(0x40000000)
enum { RAM_SIZE = 4 << 20 };

static bool board_init(struct vm *vm, struct error *err)
{
    vm->guest = guest_find(vm->config.guest);
    return vcpu_new(vm, err) != NULL;
}
BOARD = { .name = "arm-mmu-test", .guest = "aarch64,arm", .max_cpus = 1, .init = board_init };

static void no_loop(struct vcpu *v)
{
    while (vcpu_park(v, NULL))
        ;
}
ACCEL = { .name = "arm-mmu-test", .vcpu_loop = no_loop };

struct machine { struct loop *loop; struct vm *vm; struct ram_block *rb; struct mem_region ram; struct arm_cpu *c; };

static void machine_new(struct machine *m, const char *guest, const char *cpu, bool el2)
{
    struct json_object *accel = json_tokener_parse("[{\"accel\": \"arm-mmu-test\"}]");
    struct vm_config config = { .machine = "arm-mmu-test", .guest = guest, .accel = accel, .cpu = cpu, .cpus = 1 };
    struct error err = ERROR_INIT;

    memset(m, 0, sizeof(*m));
    m->loop = loop_new("arm-mmu");
    m->vm = vm_create(&config, m->loop, &err);
    if (!m->vm)
        g_error("%s", err.msg);
    json_object_put(accel);
    m->c = arm(m->vm->vcpus[0]->cpu);
    arm_configure(m->c, &(struct arm_config){ .el2 = el2 });
    arm_cpu_reset(&m->c->cpu);
    m->rb = ram_block_new(m->vm, "ram", RAM_SIZE, false, NULL);
    mem_region_init_ram(&m->ram, m->vm, NULL, "ram", m->rb, 0, RAM_SIZE);
    mem_region_add(&m->vm->system_memory, RAM, &m->ram, 0);
    m->c->sys.mair[1] = 0xff;
}

static void machine_free(struct machine *m)
{
    mem_region_remove(&m->ram);
    ram_block_free(m->rb);
    vm_destroy(m->vm);
    loop_free(m->loop);
}

static uint64_t *at64(struct machine *m, uint64_t phys) { return (uint64_t *)(m->rb->host + (phys - RAM)); }
static uint32_t *at32(struct machine *m, uint64_t phys) { return (uint32_t *)(m->rb->host + (phys - RAM)); }

static struct arm_walk walk(struct machine *m, uint64_t va, enum mmu_access access, unsigned mmu, bool probe, bool *ok)
{
    struct arm_walk w = { .c = m->c, .va = va, .access = access, .mmu = mmu, .probe = probe };

    *ok = arm_walk(&w);
    return w;
}

static void expect(struct machine *m, uint64_t va, uint64_t phys, unsigned page_bits)
{
    bool ok;
    struct arm_walk w = walk(m, va, ACCESS_READ, ARM_MMU_EL1, false, &ok);

    g_assert_true(ok);
    g_assert_cmphex(w.phys, ==, phys);
    g_assert_cmpuint(w.page_bits, ==, page_bits);
}

static void expect_fault(struct machine *m, uint64_t va, enum mmu_access access, unsigned mmu, unsigned fsc)
{
    bool ok;
    struct arm_walk w = walk(m, va, access, mmu, false, &ok);

    g_assert_false(ok);
    g_assert_cmphex(w.fault.fsc, ==, fsc);
}

enum { V = 1, TABLE = 3, AF_ = 1 << 10, NG = 1 << 11, USER = 1 << 6, RDONLY = 1 << 7 };
#define T0SZ(n) ((uint64_t)(64 - (n)))
#define EPD1 BIT(23)

static void enable(struct machine *m, uint64_t tcr, uint64_t ttbr0)
{
    m->c->sys.tcr[1] = tcr | EPD1;
    m->c->sys.ttbr0[1] = ttbr0;
    m->c->sys.sctlr[1] |= SCTLR_M;
}

/* ---- sizes */

static void test_4k(void)
{
    struct machine m;

    machine_new(&m, "aarch64", "max", false);
    enable(&m, T0SZ(48) | UINT64_C(5) << 32, RAM);
    at64(&m, RAM)[1] = (RAM + 0x1000) | TABLE;
    at64(&m, RAM + 0x1000)[2] = UINT64_C(0x8040000000) | AF_ | V;
    at64(&m, RAM + 0x1000)[3] = (RAM + 0x2000) | TABLE;
    at64(&m, RAM + 0x2000)[4] = UINT64_C(0x8055600000) | AF_ | V;
    at64(&m, RAM + 0x2000)[5] = (RAM + 0x3000) | TABLE;
    at64(&m, RAM + 0x3000)[6] = UINT64_C(0x8012345000) | AF_ | TABLE;
    at64(&m, RAM + 0x3000)[7] = UINT64_C(0x8012345000) | AF_ | V;
    expect(&m, UINT64_C(0x8080001234), UINT64_C(0x8040001234), 30);
    expect(&m, UINT64_C(0x80c0812345), UINT64_C(0x8055612345), 21);
    expect(&m, UINT64_C(0x80c0a06789), UINT64_C(0x8012345789), 12);
    expect_fault(&m, UINT64_C(0x80c0a07000), ACCESS_READ, ARM_MMU_EL1, FSC_TRANSLATION + 3);
    expect_fault(&m, 0, ACCESS_READ, ARM_MMU_EL1, FSC_TRANSLATION);
    /* 1 is a block where there are none: level 0 without DS */
    at64(&m, RAM)[2] = AF_ | V;
    expect_fault(&m, UINT64_C(0x10000000000), ACCESS_READ, ARM_MMU_EL1, FSC_TRANSLATION);
    /* a table outside of memory */
    at64(&m, RAM)[3] = UINT64_C(0x10000000) | TABLE;
    expect_fault(&m, UINT64_C(0x18000000000), ACCESS_READ, ARM_MMU_EL1, FSC_EXTERNAL_WALK + 1);
    /* an address wider than TCR.IPS: 32 bits */
    m.c->sys.tcr[1] = T0SZ(48) | EPD1;
    expect_fault(&m, UINT64_C(0x8080001234), ACCESS_READ, ARM_MMU_EL1, FSC_ADDRESS_SIZE + 1);
    machine_free(&m);
}

static void test_16k(void)
{
    struct machine m;

    machine_new(&m, "aarch64", "max", false);
    enable(&m, T0SZ(47) | BIT(15) | UINT64_C(5) << 32, RAM);    /* TG0 = 2; 47 bits: level 1 first */
    at64(&m, RAM)[3] = (RAM + 0x4000) | TABLE;
    at64(&m, RAM + 0x4000)[5] = UINT64_C(0x8002000000) | AF_ | V;
    at64(&m, RAM + 0x4000)[6] = (RAM + 0x8000) | TABLE;
    at64(&m, RAM + 0x8000)[9] = UINT64_C(0x8000014000) | AF_ | TABLE;
    expect(&m, UINT64_C(3) << 36 | 5 << 25 | 0x12345, UINT64_C(0x8002012345), 25);
    expect(&m, UINT64_C(3) << 36 | 6 << 25 | 9 << 14 | 0x123, UINT64_C(0x8000014123), 14);
    expect_fault(&m, UINT64_C(3) << 36 | 6 << 25 | 10 << 14, ACCESS_READ, ARM_MMU_EL1, FSC_TRANSLATION + 3);
    /* 48 bits: a level 0 of two entries */
    m.c->sys.tcr[1] = T0SZ(48) | BIT(15) | UINT64_C(5) << 32 | EPD1;
    at64(&m, RAM + 0xc000)[1] = RAM | TABLE;
    m.c->sys.ttbr0[1] = RAM + 0xc000;
    expect(&m, BIT(47) | UINT64_C(3) << 36 | 5 << 25 | 0x12345, UINT64_C(0x8002012345), 25);
    machine_free(&m);
}

/* 52-bit addresses: FEAT_LVA and FEAT_LPA with 64K, FEAT_LPA2 with 4K, whose walk begins at level -1. */
static void test_52(void)
{
    struct machine m;

    machine_new(&m, "aarch64", "max", false);
    enable(&m, T0SZ(52) | BIT(14) | UINT64_C(6) << 32, RAM);
    at64(&m, RAM)[1023] = (RAM + 0x10000) | TABLE;
    at64(&m, RAM + 0x10000)[1] = (UINT64_C(0x000020000000) | AF_ | V) | 0xa << 12;
    at64(&m, RAM + 0x10000)[2] = (RAM + 0x20000) | TABLE;
    at64(&m, RAM + 0x20000)[3] = (UINT64_C(0x000000050000) | AF_ | TABLE) | 0xf << 12;
    expect(&m, UINT64_C(1023) << 42 | 1 << 29 | 0x1234567, UINT64_C(0xa000021234567), 29);
    expect(&m, UINT64_C(1023) << 42 | 2ull << 29 | 3 << 16 | 0x4321, UINT64_C(0xf000000054321), 16);

    enable(&m, T0SZ(52) | BIT(59) | UINT64_C(6) << 32, RAM + 0x100000);
    at64(&m, RAM + 0x100000)[8] = (RAM + 0x101000) | TABLE;
    at64(&m, RAM + 0x101000)[0] = (RAM + 0x102000) | TABLE;
    at64(&m, RAM + 0x101000)[1] = (UINT64_C(0x8000000000) | AF_ | V) | 3 << 8;   /* 512 GB */
    at64(&m, RAM + 0x102000)[1] = (UINT64_C(0x40000000) | AF_ | V) | 1 << 8;
    expect(&m, UINT64_C(8) << 48 | 1 << 30 | 0x1234, UINT64_C(0x4000040001234), 30);
    expect(&m, UINT64_C(8) << 48 | UINT64_C(1) << 39 | 0x1234, UINT64_C(0xc008000001234), 39);
    expect_fault(&m, UINT64_C(7) << 48, ACCESS_READ, ARM_MMU_EL1, FSC_TRANSLATION_1);
    machine_free(&m);
}

/* ---- attributes */

static void one_page(struct machine *m, const char *cpu, uint64_t tcr, uint64_t page, uint64_t table)
{
    machine_new(m, "aarch64", cpu, false);
    enable(m, T0SZ(30) | UINT64_C(5) << 32 | tcr, RAM);         /* level 2 first */
    at64(m, RAM)[0] = (RAM + 0x1000) | TABLE | table;
    at64(m, RAM + 0x1000)[1] = UINT64_C(0x40005000) | TABLE | page;
}

static void test_table_attributes(void)
{
    struct machine m;

    one_page(&m, "max", 0, AF_ | USER, BIT(61) | BIT(62));      /* APTable: no EL0, read-only */
    expect(&m, 0x1000, 0x40005000, 12);
    expect_fault(&m, 0x1000, ACCESS_READ, ARM_MMU_EL0, FSC_PERMISSION + 3);
    expect_fault(&m, 0x1000, ACCESS_WRITE, ARM_MMU_EL1, FSC_PERMISSION + 3);
    m.c->sys.tcr[1] |= BIT(41);                                 /* HPD0: as if they were zero */
    {
        bool ok;
        struct arm_walk w = walk(&m, 0x1000, ACCESS_WRITE, ARM_MMU_EL0, false, &ok);

        g_assert_true(ok && w.r && w.w);
    }
    machine_free(&m);
    one_page(&m, "max", 0, AF_ | USER | RDONLY, BIT(60) | BIT(59));     /* UXNTable, PXNTable */
    expect_fault(&m, 0x1000, ACCESS_EXEC, ARM_MMU_EL0, FSC_PERMISSION + 3);
    expect_fault(&m, 0x1000, ACCESS_EXEC, ARM_MMU_EL1, FSC_PERMISSION + 3);
    machine_free(&m);
}

static void test_access_flag(void)
{
    struct machine m;
    uint64_t *page;
    bool ok;

    one_page(&m, "max", 0, 0, 0);
    page = &at64(&m, RAM + 0x1000)[1];
    expect_fault(&m, 0x1000, ACCESS_READ, ARM_MMU_EL1, FSC_ACCESS_FLAG + 3);
    m.c->sys.tcr[1] |= BIT(39);                                 /* HA */
    walk(&m, 0x1000, ACCESS_READ, ARM_MMU_EL1, true, &ok);
    g_assert_true(ok);
    g_assert_cmphex(*page & AF_, ==, 0);
    expect(&m, 0x1000, 0x40005000, 12);
    g_assert_cmphex(*page & AF_, ==, AF_);
    machine_free(&m);
    /* a processor without FEAT_HAFDBS ignores it */
    one_page(&m, "cortex-a57", BIT(39), 0, 0);
    expect_fault(&m, 0x1000, ACCESS_READ, ARM_MMU_EL1, FSC_ACCESS_FLAG + 3);
    machine_free(&m);
}

static void test_dirty(void)
{
    struct machine m;
    struct arm_walk w;
    uint64_t *page;
    bool ok;

    one_page(&m, "max", BIT(39) | BIT(40), AF_ | RDONLY | BIT(51), 0);
    page = &at64(&m, RAM + 0x1000)[1];
    w = walk(&m, 0x1000, ACCESS_READ, ARM_MMU_EL1, false, &ok);
    g_assert_true(ok && w.dirty_later);
    g_assert_cmphex(*page & RDONLY, ==, RDONLY);
    w = walk(&m, 0x1000, ACCESS_WRITE, ARM_MMU_EL1, true, &ok);
    g_assert_cmphex(*page & RDONLY, ==, RDONLY);
    w = walk(&m, 0x1000, ACCESS_WRITE, ARM_MMU_EL1, false, &ok);
    g_assert_true(ok && w.w && !w.dirty_later);
    g_assert_cmphex(*page & RDONLY, ==, 0);
    /* without HD it is read-only */
    *page |= RDONLY;
    m.c->sys.tcr[1] &= ~BIT(40);
    expect_fault(&m, 0x1000, ACCESS_WRITE, ARM_MMU_EL1, FSC_PERMISSION + 3);
    machine_free(&m);
}

static void test_pan(void)
{
    struct machine m;

    one_page(&m, "max", 0, AF_ | USER, 0);
    expect_fault(&m, 0x1000, ACCESS_READ, ARM_MMU_EL1_PAN, FSC_PERMISSION + 3);
    expect_fault(&m, 0x1000, ACCESS_EXEC, ARM_MMU_EL1, FSC_PERMISSION + 3);     /* writable at EL0: PXN */
    machine_free(&m);
    /* execute-only at EL0: EPAN alone keeps EL1 out */
    one_page(&m, "max", 0, AF_, 0);
    {
        bool ok;

        walk(&m, 0x1000, ACCESS_READ, ARM_MMU_EL1_PAN, false, &ok);
        g_assert_true(ok);
    }
    m.c->sys.sctlr[1] |= SCTLR_EPAN;
    expect_fault(&m, 0x1000, ACCESS_READ, ARM_MMU_EL1_PAN, FSC_PERMISSION + 3);
    machine_free(&m);
}

/* ---- stage 2 */

static void test_stage2(void)
{
    struct machine m;
    struct arm_walk w;
    bool ok;

    one_page(&m, "max", 0, AF_, 0);
    machine_free(&m);
    machine_new(&m, "aarch64", "max", true);
    m.c->el = 1;
    m.c->sys.hcr = HCR_RW | HCR_VM;
    m.c->sys.vttbr = RAM + 0x100000;
    m.c->sys.vtcr = T0SZ(32) | 1 << 6 | 5 << 16;                /* level 1 first, 4 GB */
    at64(&m, RAM + 0x100000)[1] = (RAM + 0x101000) | TABLE;
    /* IPA 0x40000000 (2 MB) is RAM read-write; 0x40200000 read-only elsewhere; 0x40400000 is not there */
    at64(&m, RAM + 0x101000)[0] = RAM | AF_ | 3 << 6 | 0xf << 2 | V;
    at64(&m, RAM + 0x101000)[1] = UINT64_C(0x80000000) | AF_ | 1 << 6 | 0xf << 2 | V;
    enable(&m, T0SZ(30) | UINT64_C(5) << 32, RAM);
    at64(&m, RAM)[0] = (RAM + 0x1000) | TABLE;
    at64(&m, RAM)[1] = UINT64_C(0x40200000) | AF_ | V;
    at64(&m, RAM)[2] = UINT64_C(0x40400000) | AF_ | V;
    at64(&m, RAM)[3] = UINT64_C(0x40400000) | TABLE;
    at64(&m, RAM + 0x1000)[1] = UINT64_C(0x40005000) | TABLE | AF_;
    expect(&m, 0x1008, RAM + 0x5008, 12);
    expect(&m, 0x200010, 0x80000010, 21);
    w = walk(&m, 0x200010, ACCESS_WRITE, ARM_MMU_EL1, false, &ok);
    g_assert_false(ok);
    g_assert_true(w.fault.stage2 && !w.fault.s1ptw);
    g_assert_cmphex(w.fault.fsc, ==, FSC_PERMISSION + 2);
    g_assert_cmphex(w.fault.ipa, ==, 0x40200010);
    w = walk(&m, 0x400010, ACCESS_READ, ARM_MMU_EL1, false, &ok);
    g_assert_false(ok);
    g_assert_cmphex(w.fault.fsc, ==, FSC_TRANSLATION + 2);
    g_assert_cmphex(w.fault.ipa, ==, 0x40400010);
    w = walk(&m, 0x600000, ACCESS_READ, ARM_MMU_EL1, false, &ok);
    g_assert_false(ok);
    g_assert_true(w.fault.stage2 && w.fault.s1ptw);
    g_assert_cmphex(w.fault.ipa, ==, 0x40400000);
    /* ... with what the hypervisor needs to carry it out: LDRSH W7, [X1, #4]; LDR X7, [X1], #8 has a write-back */
    m.c->cpu.pc = 0x1000;
    *at32(&m, RAM + 0x5000) = 0x79c00827;
    g_assert_false(arm_translate(&m.c->cpu, 0x400010, ACCESS_READ, ARM_MMU_EL1, false, &(struct mmu_result){ 0 }));
    g_assert_cmphex(m.c->exc_syndrome, ==, 0x93670006 | 1u << 25);
    g_assert_cmphex(m.c->exc_hpfar, ==, 0x404000);
    g_assert_cmpuint(m.c->exc_target, ==, 2);
    *at32(&m, RAM + 0x5000) = 0xf8408427;
    arm_translate(&m.c->cpu, 0x400010, ACCESS_READ, ARM_MMU_EL1, false, &(struct mmu_result){ 0 });
    g_assert_cmphex(m.c->exc_syndrome, ==, 0x92000006);
    /* beyond VTCR's size */
    at64(&m, RAM)[2] = UINT64_C(0x100000000) | AF_ | V;
    w = walk(&m, 0x400010, ACCESS_READ, ARM_MMU_EL1, false, &ok);
    g_assert_false(ok);
    g_assert_true(w.fault.stage2);
    /* FEAT_XNX: EL1 but not EL0 */
    at64(&m, RAM + 0x101000)[0] |= BIT(54) | BIT(53);
    at64(&m, RAM + 0x1000)[1] |= RDONLY | USER;
    walk(&m, 0x1000, ACCESS_EXEC, ARM_MMU_EL1, false, &ok);
    g_assert_true(ok);
    walk(&m, 0x1000, ACCESS_EXEC, ARM_MMU_EL0, false, &ok);
    g_assert_false(ok);
    machine_free(&m);
}

/* ---- AArch32 */

static void test_short(void)
{
    struct machine m;
    struct arm_walk w;
    bool ok;

    machine_new(&m, "arm", "cortex-a15", false);
    m.c->sys.sctlr[1] |= SCTLR_M;
    m.c->sys.ttbr0[1] = RAM;
    m.c->sys.ttbr1[1] = RAM + 0x4000;
    m.c->sys.dacr[1] = 0x1d;    /* domain 0 client, 1 manager, 2 client, others none */
    at32(&m, RAM)[1] = 0x50000000 | 3 << 10 | 2;                                /* section */
    at32(&m, RAM)[0x10] = 0x60000000 | 3 << 10 | 1 << 18 | 3 << 20 | 2;         /* supersection: bits 35:32 = 3 */
    at32(&m, RAM)[2] = 0x50000000 | 1 << 15 | 1 << 10 | 1 << 5 | 2;             /* manager: permissions do not count */
    at32(&m, RAM)[3] = (RAM + 0x8000) | 3 << 5 | 1;                             /* no access by domain */
    at32(&m, RAM)[4] = (RAM + 0x8000) | 1;
    at32(&m, RAM + 0x8000)[5] = 0x50012000 | 3 << 4 | 2;
    for (unsigned n = 16; n < 32; n++)
        at32(&m, RAM + 0x8000)[n] = 0x50020000 | 1 << 9 | 1 << 4 | 0x8000 | 1;  /* large, privileged read-only, XN */
    at32(&m, RAM)[5] = 0x50000000 | 2 << 10 | 2;                                /* user read-only */
    expect(&m, 0x00112345, 0x50012345, 20);
    expect(&m, 0x01012345, UINT64_C(0x360012345), 24);
    w = walk(&m, 0x00200000, ACCESS_WRITE, ARM_MMU_EL0, false, &ok);
    g_assert_true(ok && w.x);
    expect_fault(&m, 0x00305000, ACCESS_READ, ARM_MMU_EL1, FSC_DOMAIN + 2);
    expect(&m, 0x00405678, 0x50012678, 12);
    expect(&m, 0x00415678, 0x50025678, 16);
    expect_fault(&m, 0x00415678, ACCESS_WRITE, ARM_MMU_EL1, FSC_PERMISSION + 2);
    expect_fault(&m, 0x00415678, ACCESS_EXEC, ARM_MMU_EL1, FSC_PERMISSION + 2);
    expect_fault(&m, 0x00415678, ACCESS_READ, ARM_MMU_EL0, FSC_PERMISSION + 2);
    expect_fault(&m, 0x00406000, ACCESS_READ, ARM_MMU_EL1, FSC_TRANSLATION + 2);
    expect_fault(&m, 0x00600000, ACCESS_READ, ARM_MMU_EL1, FSC_TRANSLATION + 1);
    expect_fault(&m, 0x00500000, ACCESS_WRITE, ARM_MMU_EL0, FSC_PERMISSION + 1);
    /* TTBCR.N = 1: the upper half is TTBR1's */
    m.c->sys.tcr[1] = 1;
    at32(&m, RAM + 0x4000)[0x801] = 0x51000000 | 3 << 10 | 2;
    expect(&m, 0x80112345, 0x51012345, 20);
    m.c->sys.tcr[1] = 1 | 1 << 5;
    expect_fault(&m, 0x80112345, ACCESS_READ, ARM_MMU_EL1, FSC_TRANSLATION + 1);
    /* SCTLR.AFE: AP[0] is the access flag */
    m.c->sys.tcr[1] = 0;
    m.c->sys.sctlr[1] |= SCTLR_AFE;
    expect_fault(&m, 0x00500000, ACCESS_READ, ARM_MMU_EL1, FSC_ACCESS_FLAG + 1);
    machine_free(&m);
}

static void test_lpae(void)
{
    struct machine m;

    machine_new(&m, "arm", "cortex-a15", false);
    m.c->sys.sctlr[1] |= SCTLR_M;
    m.c->sys.tcr[1] = BIT(31);                  /* EAE; both sizes 0: TTBR0 has all, level 1 first */
    m.c->sys.ttbr0[1] = RAM;
    at64(&m, RAM)[1] = UINT64_C(0x8040000000) | AF_ | V;
    at64(&m, RAM)[2] = (RAM + 0x1000) | TABLE;
    at64(&m, RAM + 0x1000)[3] = UINT64_C(0xff00600000) | AF_ | V | BIT(53);
    expect(&m, 0x40001234, UINT64_C(0x8040001234), 30);
    expect(&m, 0x80601234, UINT64_C(0xff00601234), 21);
    expect_fault(&m, 0x80601234, ACCESS_EXEC, ARM_MMU_EL1, FSC_PERMISSION + 2);
    expect_fault(&m, 0xc0000000, ACCESS_READ, ARM_MMU_EL1, FSC_TRANSLATION + 1);
    /* T1SZ = 1: the upper half is TTBR1's; T0SZ = 2: below 1 GB TTBR0's, from level 2; between nobody's */
    m.c->sys.tcr[1] = BIT(31) | 2 | 1 << 16;
    m.c->sys.ttbr0[1] = RAM + 0x1000;
    m.c->sys.ttbr1[1] = RAM + 0x2000;
    at64(&m, RAM + 0x2000)[1] = UINT64_C(0x9000000000) | AF_ | V;
    expect(&m, 0x00601234, UINT64_C(0xff00601234), 21);
    expect(&m, 0xc0001234, UINT64_C(0x9000001234), 30);
    expect_fault(&m, 0x60000000, ACCESS_READ, ARM_MMU_EL1, FSC_TRANSLATION + 1);
    machine_free(&m);
}

/* ---- timer */

static void ignore(void *opaque, int n, int level)
{
    (void)opaque, (void)n, (void)level;
}

/* Time goes on while a timer is set: whenever that falls between two looks at the clock, the timer must be pending or armed. */
static void test_timer_never_lost(void)
{
    struct machine m;
    struct irq *line = irq_new(ignore, NULL, 0);
    unsigned pending = 0;

    machine_new(&m, "aarch64", "max", false);
    m.c->sys.timer_irq[ARM_TIMER_VIRT] = line;
    vm_clock_run(m.vm, true);
    arm_timer_set(m.c, ARM_TIMER_VIRT, 0, 1);
    for (unsigned i = 0; i < 200000; i++) {
        arm_timer_set(m.c, ARM_TIMER_VIRT, 1, arm_counter_virt(m.c) + i % 32);
        if (irq_level(line))
            pending++;
        else
            g_assert_cmpint(vm_timer_expiry(m.c->sys.timer[ARM_TIMER_VIRT].timer), >=, 0);
    }
    g_assert_cmpuint(pending, >, 0);
    m.c->sys.timer_irq[ARM_TIMER_VIRT] = NULL;
    machine_free(&m);
    irq_free(line);
}

/* ---- the cycle counter: counts where its filter lets it, and its overflow interrupts */

static uint64_t pmu_get(struct machine *m, unsigned crm, unsigned op2)
{
    uint64_t v = 0;

    g_assert_true(arm_sysreg_raw_read(m->c, ARM_SYSREG(3, 3, 9, crm, op2), &v));
    return v;
}

static void pmu_set(struct machine *m, unsigned op1, unsigned crn, unsigned crm, unsigned op2, uint64_t v)
{
    g_assert_true(arm_sysreg_raw_write(m->c, ARM_SYSREG(3, op1, crn, crm, op2), v));
}

enum { CYCLE_COUNTER = 1u << 31 };

static void test_cycle_counter(void)
{
    struct machine m;
    struct irq *line = irq_new(ignore, NULL, 0);
    uint64_t before;

    machine_new(&m, "aarch64", "cortex-a57", false);
    m.c->sys.pmu_irq = line;
    vm_clock_run(m.vm, true);
    pmu_set(&m, 3, 9, 12, 0, 1 | 64);                           /* E, LC */
    before = pmu_get(&m, 13, 0);
    g_usleep(1000);
    g_assert_cmpuint(pmu_get(&m, 13, 0), ==, before);           /* not enabled yet */
    pmu_set(&m, 3, 9, 12, 1, CYCLE_COUNTER);
    g_usleep(1000);
    g_assert_cmpuint(pmu_get(&m, 13, 0) - before, >=, 1000000);
    pmu_set(&m, 3, 14, 15, 7, 1u << 31);                        /* not at EL1 */
    before = pmu_get(&m, 13, 0);
    g_usleep(1000);
    g_assert_cmpuint(pmu_get(&m, 13, 0), ==, before);
    arm_set_sp_el(m.c, 0, 0);
    g_usleep(1000);
    arm_set_sp_el(m.c, 1, 1);
    g_assert_cmpuint(pmu_get(&m, 13, 0) - before, >=, 1000000);
    pmu_set(&m, 3, 14, 15, 7, 0);
    /* overflow: a timer while the interrupt is enabled, then a level until the flag is cleared */
    pmu_set(&m, 3, 9, 13, 0, -UINT64_C(3600000000000));
    g_assert_cmpint(vm_timer_expiry(m.c->sys.pmu_timer), <, 0);
    pmu_set(&m, 0, 9, 14, 1, CYCLE_COUNTER);
    g_assert_cmpint(vm_timer_expiry(m.c->sys.pmu_timer), >, 0);
    g_assert_false(irq_level(line));
    pmu_set(&m, 3, 9, 13, 0, UINT64_MAX);
    g_usleep(10);
    g_assert_cmphex(pmu_get(&m, 12, 3), ==, CYCLE_COUNTER);
    g_assert_true(irq_level(line));
    pmu_set(&m, 3, 9, 12, 3, CYCLE_COUNTER);
    g_assert_false(irq_level(line));
    pmu_set(&m, 3, 9, 12, 0, 1);                                /* LC clear: from bit 31 */
    pmu_set(&m, 3, 9, 13, 0, 0xffffffff);
    g_usleep(10);
    g_assert_cmphex(pmu_get(&m, 12, 3), ==, CYCLE_COUNTER);
    m.c->sys.pmu_irq = NULL;
    machine_free(&m);
    irq_free(line);
}

/* MRS and MSR of banked registers came with the Virtualization Extensions; Armv8 has them without. */
static void test_banked(void)
{
    struct machine m;

    machine_new(&m, "arm", "cortex-a15", false);
    g_assert_false(arm_has(&m.c->features, AF_VE32));
    arm_configure(m.c, &(struct arm_config){ .el2 = true });
    g_assert_true(arm_has(&m.c->features, AF_VE32));
    machine_free(&m);
    machine_new(&m, "arm", "max", false);
    g_assert_true(arm_has(&m.c->features, AF_VE32));
    arm_configure(m.c, &(struct arm_config){ .el2 = true });
    g_assert_true(arm_has(&m.c->features, AF_VE32));
    machine_free(&m);
}

/* What is not kept is not promised. */
static void test_identity(void)
{
    struct machine m;

    machine_new(&m, "aarch64", "max", false);
    g_assert_cmpuint(arm_id(m.c, ARM_SYSREG(3, 0, 0, 7, 2)) >> 32 & 15, ==, 0);        /* AT: FEAT_LSE2 */
    g_assert_cmpuint(arm_id(m.c, ARM_SYSREG(3, 0, 0, 4, 0)) >> 8 & 15, ==, 0);         /* EL2 */
    arm_configure(m.c, &(struct arm_config){ .el2 = true });
    g_assert_cmpuint(arm_id(m.c, ARM_SYSREG(3, 0, 0, 4, 0)) >> 8 & 15, >, 0);
    machine_free(&m);
}

/* AArch32's registers tell of what A32 has of `max`, on either machine, and only of that. */
static void test_identity32(void)
{
    static const struct { const char *guest, *model; uint32_t isar6, pfr2, mvfr1; } cpu[] = {
        { "arm", "max", 0x1011, 0x11, 0x13211111 }, { "aarch64", "max", 0x1011, 0x11, 0x13211111 },
        { "arm", "max,dotprod=off", 0x1001, 0x11, 0x13211111 }, { "aarch64", "cortex-a57", 0, 0, 0x12111111 },
    };

    for (unsigned n = 0; n < G_N_ELEMENTS(cpu); n++) {
        struct machine m;

        machine_new(&m, cpu[n].guest, cpu[n].model, false);
        g_assert_cmphex(arm_id(m.c, ARM_SYSREG(3, 0, 0, 2, 7)), ==, cpu[n].isar6);
        g_assert_cmphex(arm_id(m.c, ARM_SYSREG(3, 0, 0, 3, 4)), ==, cpu[n].pfr2);
        g_assert_cmphex(arm_id(m.c, ARM_SYSREG(3, 0, 0, 3, 1)), ==, cpu[n].mvfr1);
        machine_free(&m);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/arm-mmu/4k", test_4k);
    g_test_add_func("/arm-mmu/16k", test_16k);
    g_test_add_func("/arm-mmu/52-bits", test_52);
    g_test_add_func("/arm-mmu/table-attributes", test_table_attributes);
    g_test_add_func("/arm-mmu/access-flag", test_access_flag);
    g_test_add_func("/arm-mmu/dirty", test_dirty);
    g_test_add_func("/arm-mmu/pan", test_pan);
    g_test_add_func("/arm-mmu/stage-2", test_stage2);
    g_test_add_func("/arm-mmu/short-descriptors", test_short);
    g_test_add_func("/arm-mmu/lpae", test_lpae);
    g_test_add_func("/arm-timer/never-lost", test_timer_never_lost);
    g_test_add_func("/arm-pmu/cycle-counter", test_cycle_counter);
    g_test_add_func("/arm-id/banked", test_banked);
    g_test_add_func("/arm-id/promises", test_identity);
    g_test_add_func("/arm-id/aarch32", test_identity32);
    return g_test_run();
}
