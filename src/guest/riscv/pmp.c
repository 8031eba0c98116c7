/* Physical memory protection: Privileged ISA Manual 20240411, 3.7, and Smepmp. Regions may be as small as four bytes (G = 0). A
 * page that is not all alike is `partial` in the soft TLB: its loads and stores are looked at one by one, and where some of it
 * may be executed and some not, each instruction is (MODE_PMP_FETCH). */
#include <glib.h>
#include "rhea/base/log.h"
#include "system.h"

enum { CFG_R = PMP_R, CFG_W = PMP_W, CFG_X = PMP_X, CFG_A_SHIFT = 3, CFG_L = 0x80, CFG_BITS = 0x9f };
enum { A_OFF, A_TOR, A_NA4, A_NAPOT };
enum { ALL = PMP_R | PMP_W | PMP_X };

static unsigned mode_of(uint8_t cfg) { return cfg >> CFG_A_SHIFT & 3; }

/* mseccfg.MML: what L, R, W, X (8, 4, 2, 1) give machine mode and the others. Smepmp, chapter 2. */
static const struct { uint8_t machine, others; } mml_table[16] = {
    [0x0] = { 0, 0 },                   [0x1] = { 0, PMP_X },
    [0x2] = { PMP_R | PMP_W, PMP_R },   [0x3] = { PMP_R | PMP_W, PMP_R | PMP_W },
    [0x4] = { 0, PMP_R },               [0x5] = { 0, PMP_R | PMP_X },
    [0x6] = { 0, PMP_R | PMP_W },       [0x7] = { 0, ALL },
    [0x8] = { 0, 0 },                   [0x9] = { PMP_X, 0 },
    [0xa] = { PMP_X, PMP_X },           [0xb] = { PMP_R | PMP_X, PMP_X },
    [0xc] = { PMP_R, 0 },               [0xd] = { PMP_R | PMP_X, 0 },
    [0xe] = { PMP_R | PMP_W, 0 },       [0xf] = { PMP_R, PMP_R },
};

static unsigned mml_index(uint8_t cfg)
{
    return (cfg & CFG_L ? 8 : 0) | (cfg & CFG_R ? 4 : 0) | (cfg & CFG_W ? 2 : 0) | (cfg & CFG_X ? 1 : 0);
}

static unsigned entry_allows(const struct riscv_cpu *c, uint8_t cfg, unsigned priv)
{
    if (c->mseccfg & MSECCFG_MML)
        return priv == PRV_M ? mml_table[mml_index(cfg)].machine : mml_table[mml_index(cfg)].others;
    return priv == PRV_M && !(cfg & CFG_L) ? ALL : cfg & ALL;
}

/* The bytes that an entry matches; none if it is off. NAPOT with all ones: everything. */
struct pmp_range { uint64_t start, end; };

static struct pmp_range entry_range(const struct riscv_cpu *c, unsigned n)
{
    uint64_t a = c->pmpaddr[n], ones;

    switch (mode_of(c->pmpcfg[n])) {
    case A_TOR:
        return (struct pmp_range){ n ? c->pmpaddr[n - 1] << 2 : 0, a << 2 };
    case A_NA4:
        return (struct pmp_range){ a << 2, (a + 1) << 2 };
    case A_NAPOT:
        ones = a ^ (a + 1);
        return (struct pmp_range){ (a & ~ones) << 2, ((a | ones) + 1) << 2 };
    default:
        return (struct pmp_range){ 0 };
    }
}

static unsigned unmatched_allows(const struct riscv_cpu *c, unsigned priv)
{
    if (priv != PRV_M || c->mseccfg & MSECCFG_MMWP)
        return 0;
    return c->mseccfg & MSECCFG_MML ? PMP_R | PMP_W : ALL;
}

unsigned riscv_pmp_allows(const struct riscv_cpu *c, uint64_t phys, unsigned bytes, unsigned priv)
{
    if (!RISCV_HAS(&c->features, Pmp))
        return ALL;
    for (unsigned n = 0; n < RISCV_PMP_ENTRIES; n++) {
        struct pmp_range r = entry_range(c, n);

        if (phys + bytes <= r.start || phys >= r.end)
            continue;
        /* The first entry that matches any byte decides, and must match all: 3.7.1.3. */
        return phys >= r.start && phys + bytes <= r.end ? entry_allows(c, c->pmpcfg[n], priv) : 0;
    }
    return unmatched_allows(c, priv);
}

unsigned riscv_pmp_page(const struct riscv_cpu *c, uint64_t phys, unsigned priv, bool *partial)
{
    uint64_t start = phys & ~(uint64_t)(CPU_PAGE_SIZE - 1), end = start + CPU_PAGE_SIZE;
    unsigned some = 0;

    *partial = false;
    if (!RISCV_HAS(&c->features, Pmp))
        return ALL;
    for (unsigned n = 0; n < RISCV_PMP_ENTRIES; n++) {
        struct pmp_range r = entry_range(c, n);

        if (end <= r.start || start >= r.end)
            continue;
        some |= entry_allows(c, c->pmpcfg[n], priv);
        if (start >= r.start && end <= r.end)
            return some;
        *partial = true;
    }
    return some | unmatched_allows(c, priv);
}

bool riscv_access_allowed(struct cpu *cpu, uint64_t va, uint64_t phys, unsigned n, enum mmu_access access, unsigned mmu)
{
    static const uint8_t need[] = { PMP_R, PMP_W, PMP_X }, cause[] = { CAUSE_LOAD_ACCESS, CAUSE_STORE_ACCESS, CAUSE_FETCH_ACCESS };
    struct riscv_cpu *c = riscv(cpu);

    if (riscv_pmp_allows(c, phys, n, riscv_mmu_priv(mmu)) & need[access])
        return true;
    cpu->exception = cause[access];
    c->fault_value = va;
    return false;
}

/* Is there a page of which `priv` may execute a part? Only pages where a region begins or ends can be such. */
static bool fetches_partial(const struct riscv_cpu *c, unsigned priv)
{
    for (unsigned n = 0; n < RISCV_PMP_ENTRIES; n++) {
        struct pmp_range r = entry_range(c, n);
        uint64_t edge[2] = { r.start, r.end };

        for (unsigned k = 0; k < 2 && r.start < r.end; k++) {
            bool partial;
            unsigned before, after;

            if (!(edge[k] & (CPU_PAGE_SIZE - 1)) || !(riscv_pmp_page(c, edge[k], priv, &partial) & PMP_X))
                continue;
            before = riscv_pmp_allows(c, edge[k] - 1, 1, priv);
            after = riscv_pmp_allows(c, edge[k], 1, priv);
            if ((before ^ after) & PMP_X)
                return true;
        }
    }
    return false;
}

static void rules_changed(struct riscv_cpu *c)
{
    c->pmp_fetch = (fetches_partial(c, PRV_M) ? 1 << PRV_M : 0) | (fetches_partial(c, PRV_U) ? 1 << PRV_S | 1 << PRV_U : 0);
    cpu_tlb_flush(&c->cpu, ~0u);
}

/* The instruction at pc, of so many bytes: may all of it be fetched? */
void riscv_helper_pmp_fetch(struct cpu *cpu, uint32_t bytes)
{
    struct riscv_cpu *c = riscv(cpu);

    for (unsigned n = 0; n < bytes; n += 2) {
        struct mmu_result at;

        if (!riscv_translate(cpu, cpu->pc + n, ACCESS_EXEC, riscv_mmu_index(cpu, true), false, &at))
            cpu_loop_exit(cpu);
        if (!(riscv_pmp_allows(c, at.phys, 2, c->priv) & PMP_X))
            riscv_raise(c, CAUSE_FETCH_ACCESS, cpu->pc + n);
    }
}

/* ---- CSRs */

static bool locked(const struct riscv_cpu *c, unsigned n)
{
    return c->pmpcfg[n] & CFG_L && !(c->mseccfg & MSECCFG_RLB);
}

/* With MML and without RLB no rule may be added that lets machine mode execute: Smepmp, 2.1.4c. */
static bool adds_machine_code(const struct riscv_cpu *c, uint8_t cfg)
{
    return (c->mseccfg & (MSECCFG_MML | MSECCFG_RLB)) == MSECCFG_MML && mml_table[mml_index(cfg)].machine & PMP_X;
}

static void cfg_write(struct riscv_cpu *c, unsigned n, uint8_t v)
{
    v &= CFG_BITS;
    if (locked(c, n) || adds_machine_code(c, v))
        return;
    if (!(c->mseccfg & MSECCFG_MML) && (v & CFG_W) && !(v & CFG_R))
        v &= (uint8_t)~CFG_W;           /* reserved */
    c->pmpcfg[n] = v;
}

/* On RV64 the even ones hold eight entries, the odd ones do not exist. */
static unsigned first_entry(unsigned csr) { return (csr & 15) * 4; }

uint64_t riscv_pmpcfg_read(struct riscv_cpu *c, unsigned csr)
{
    uint64_t v = 0;

    for (unsigned n = 0; n < (c->xlen == 32 ? 4u : 8u); n++)
        v |= (uint64_t)c->pmpcfg[(first_entry(csr) + n) & 63] << 8 * n;
    return v;
}

void riscv_pmpcfg_write(struct riscv_cpu *c, unsigned csr, uint64_t v)
{
    for (unsigned n = 0; n < (c->xlen == 32 ? 4u : 8u); n++)
        if (first_entry(csr) + n < RISCV_PMP_ENTRIES)
            cfg_write(c, first_entry(csr) + n, (uint8_t)(v >> 8 * n));
    rules_changed(c);
}

uint64_t riscv_pmpaddr_read(struct riscv_cpu *c, unsigned csr)
{
    unsigned n = csr - 0x3b0;

    if (n >= RISCV_PMP_ENTRIES)
        return 0;
    return c->pmpaddr[n];
}

void riscv_pmpaddr_write(struct riscv_cpu *c, unsigned csr, uint64_t v)
{
    unsigned n = csr - 0x3b0;

    if (n >= RISCV_PMP_ENTRIES || locked(c, n))
        return;
    if (n + 1 < RISCV_PMP_ENTRIES && locked(c, n + 1) && mode_of(c->pmpcfg[n + 1]) == A_TOR)
        return;
    c->pmpaddr[n] = c->xlen == 32 ? (uint32_t)v : v & ((UINT64_C(1) << 54) - 1);
    rules_changed(c);
}

void riscv_mseccfg_write(struct riscv_cpu *c, unsigned csr, uint64_t v)
{
    uint64_t sticky = c->mseccfg & (MSECCFG_MML | MSECCFG_MMWP), next = 0;
    bool any_locked = false;

    for (unsigned n = 0; n < RISCV_PMP_ENTRIES; n++)
        any_locked |= c->pmpcfg[n] & CFG_L;
    if (RISCV_HAS(&c->features, Smepmp)) {
        next = sticky | (v & (MSECCFG_MML | MSECCFG_MMWP | MSECCFG_RLB));
        if (any_locked && !(c->mseccfg & MSECCFG_RLB))
            next &= ~(uint64_t)MSECCFG_RLB;
    }
    if (RISCV_HAS(&c->features, Zkr))
        next |= v & (MSECCFG_USEED | MSECCFG_SSEED);
    c->mseccfg = next;
    rules_changed(c);
}
