/* C functions that translated integer code calls: rows of helpers-int.def. Pointer authentication is in pauth.c. */
#include "arm.h"


static unsigned data_mmu(const struct arm_cpu *c) { return c->cpu.mode >> MODE_MMU_SHIFT & 15; }

static void watch(struct arm_cpu *c, uint64_t va, unsigned bytes)
{
    if (c->cpu.mode & MODE_WATCH)
        arm_watch(c, va, bytes, WATCH_READ | WATCH_WRITE);
}

void arm_helper_pc_alignment(struct cpu *cpu)
{
    arm_raise(arm(cpu), ARM_SYNDROME(EC_PC_ALIGN, 0), cpu->pc);
}

/* ---- branch target identification: DDI 0487 D8.4.6 */

void arm_helper_bti_check(struct cpu *cpu, uint32_t raw)
{
    struct arm_cpu *c = arm(cpu);
    bool signs = raw == 0xd503233f || raw == 0xd503237f;        /* PACIASP, PACIBSP */
    unsigned regime = c->el ? c->el : c->sys.hcr >> 27 & c->sys.hcr >> 34 & 1 ? 2 : 1;

    /* They take BTYPE 3 too unless SCTLR_ELx.BT0 (EL0) or BT1 is set. */
    if (signs && !(c->sys.sctlr[regime] >> (c->el ? 36 : 35) & 1))
        return;
    if (arm_page_guarded(c, cpu->pc))
        arm_raise(c, ARM_SYNDROME(EC_BTI, c->btype), 0);
}

void arm_helper_btype_jump(struct cpu *cpu)
{
    arm(cpu)->btype = arm_page_guarded(arm(cpu), cpu->pc) ? 3 : 1;
}

/* ---- atomics */

/* SCTLR_ELx.nAA allows those that cross 16 bytes, as plain accesses. */
void arm_helper_unaligned(struct cpu *cpu, uint64_t va, uint32_t write)
{
    struct arm_cpu *c = arm(cpu);
    unsigned regime = c->el ? c->el : c->sys.hcr >> 27 & c->sys.hcr >> 34 & 1 ? 2 : 1;

    if (!(c->sys.sctlr[regime] >> 6 & 1))
        arm_unaligned(cpu, va, write ? ACCESS_WRITE : ACCESS_READ);
}

static uint64_t minmax(uint64_t a, uint64_t b, unsigned bits, unsigned op)
{
    int64_t sa = (int64_t)(a << (64 - bits)), sb = (int64_t)(b << (64 - bits));
    uint64_t ua = (uint64_t)sa, ub = (uint64_t)sb;

    switch (op & 3) {
    case 0: return sa > sb ? a : b;
    case 1: return sa < sb ? a : b;
    case 2: return ua > ub ? a : b;
    default: return ua < ub ? a : b;
    }
}

uint64_t arm_helper_atomic_minmax(struct cpu *cpu, uint64_t va, uint64_t v, uint32_t m, uint32_t op)
{
    unsigned bits = 8 * memop_bytes(m);
    uint64_t mask = UINT64_MAX >> (64 - bits), old, seen;

    if (va & ((1u << ((m & MEM_ALIGN_MASK) >> MEM_ALIGN_SHIFT)) - 1))
        arm_unaligned(cpu, va, ACCESS_WRITE);
    watch(arm(cpu), va, memop_bytes(m));
    old = cpu_load(cpu, va, m | MEM_RW) & mask;
    for (;;) {
        seen = cpu_atomic(cpu, IR_ATOMIC_CAS, va, m, minmax(old, v & mask, bits, op), old) & mask;
        if (seen == old)
            return old;
        old = seen;
    }
}

/* Halves as registers hold them and as memory does. */
static void swap_if_big(const struct arm_cpu *c, uint64_t v[2])
{
    uint64_t low = v[0];

    if (c->cpu.mode & MODE_BE) {
        v[0] = __builtin_bswap64(low);
        v[1] = __builtin_bswap64(v[1]);
    }
}

void arm_helper_casp(struct cpu *cpu, uint64_t va, uint32_t regs)
{
    struct arm_cpu *c = arm(cpu);
    unsigned rs = regs & 30, rt = regs >> 8 & 30;
    uint64_t cmp[2], v[2], old[2];

    for (unsigned n = 0; n < 2; n++) {  /* X31 is zero */
        cmp[n] = rs + n < 31 ? c->x[rs + n] : 0;
        v[n] = rt + n < 31 ? c->x[rt + n] : 0;
    }
    if (va & 15)
        arm_unaligned(cpu, va, ACCESS_WRITE);
    watch(c, va, 16);
    swap_if_big(c, cmp);
    swap_if_big(c, v);
    cpu_cas128(cpu, va, data_mmu(c), cmp, v, old);
    swap_if_big(c, old);
    for (unsigned n = 0; n < 2; n++)
        if (rs + n < 31)
            c->x[rs + n] = old[n];
}

uint32_t arm_helper_stxp(struct cpu *cpu, uint64_t va, uint64_t low, uint64_t high)
{
    struct arm_cpu *c = arm(cpu);
    uint64_t cmp[2] = { c->ex_value[0], c->ex_value[1] }, v[2] = { low, high }, old[2];
    bool open = c->ex_bytes == 16 && c->ex_addr == va, stored;

    if (va & 15)
        arm_unaligned(cpu, va, ACCESS_WRITE);
    if (!open) {
        c->ex_bytes = 0;
        return 1;
    }
    watch(c, va, 16);
    swap_if_big(c, cmp);
    swap_if_big(c, v);
    stored = cpu_cas128(cpu, va, data_mmu(c), cmp, v, old);
    c->ex_bytes = 0;
    return !stored;
}

/* ---- CRC32 (polynomial 0x04c11db7), CRC32C (0x1edc6f41), bits reflected: C6.2.75 */

struct crc_tables { uint32_t t[2][256]; };

static const struct crc_tables *crc_tables(void)
{
    static struct crc_tables tables;    /* the same for all: not state of a machine */
    static gsize ready;

    if (g_once_init_enter(&ready)) {
        for (unsigned k = 0; k < 2; k++)
            for (uint32_t n = 0; n < 256; n++) {
                uint32_t v = n;

                for (unsigned bit = 0; bit < 8; bit++)
                    v = v >> 1 ^ (v & 1 ? k ? 0x82f63b78 : 0xedb88320 : 0);
                tables.t[k][n] = v;
            }
        g_once_init_leave(&ready, 1);
    }
    return &tables;
}

uint32_t arm_helper_crc32(struct cpu *cpu, uint32_t crc, uint64_t v, uint32_t how)
{
    const uint32_t *t = crc_tables()->t[how >> 2 & 1];

    for (unsigned n = 0; n < 1u << (how & 3); n++, v >>= 8)
        crc = crc >> 8 ^ t[(crc ^ v) & 255];
    return crc;
}
