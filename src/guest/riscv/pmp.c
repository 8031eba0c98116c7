/* Physical memory protection: Privileged ISA Manual 20240411, 3.7, and Smepmp. The granule is a page of the soft TLB
 * (G = 10), so that each of its entries has one set of permissions; software finds that out as 3.7.1 says. */
#include <glib.h>
#include "rhea/base/log.h"
#include "system.h"

enum { CFG_R = PMP_R, CFG_W = PMP_W, CFG_X = PMP_X, CFG_A_SHIFT = 3, CFG_A = 3 << 3, CFG_L = 0x80, CFG_BITS = 0x9f };
enum { A_OFF, A_TOR, A_NA4, A_NAPOT };
enum { ALL = PMP_R | PMP_W | PMP_X };
#define GRAIN_BITS ((UINT64_C(1) << RISCV_PMP_GRAIN) - 1)
#define NAPOT_BITS (GRAIN_BITS >> 1)

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

static bool entry_matches(const struct riscv_cpu *c, unsigned n, uint64_t word)
{
    uint64_t a = c->pmpaddr[n], ones;

    switch (mode_of(c->pmpcfg[n])) {
    case A_TOR:
        return word < (a & ~GRAIN_BITS) && word >= (n ? c->pmpaddr[n - 1] & ~GRAIN_BITS : 0);
    case A_NAPOT:
        a |= NAPOT_BITS;
        ones = a ^ (a + 1);
        return (word | ones) == (a | ones);
    default:
        return false;
    }
}

unsigned riscv_pmp_allows(const struct riscv_cpu *c, uint64_t phys, unsigned priv)
{
    uint64_t word = phys >> 2 & ~GRAIN_BITS;

    if (!RISCV_HAS(&c->features, Pmp))
        return ALL;
    for (unsigned n = 0; n < RISCV_PMP_ENTRIES; n++)
        if (entry_matches(c, n, word))
            return entry_allows(c, c->pmpcfg[n], priv);
    if (priv != PRV_M || c->mseccfg & MSECCFG_MMWP)
        return 0;
    return c->mseccfg & MSECCFG_MML ? PMP_R | PMP_W : ALL;
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
    if (mode_of(v) == A_NA4)            /* smaller than the grain: not selectable */
        v = (uint8_t)((v & ~CFG_A) | (c->pmpcfg[n] & CFG_A));
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
    cpu_tlb_flush(&c->cpu, ~0u);
}

uint64_t riscv_pmpaddr_read(struct riscv_cpu *c, unsigned csr)
{
    unsigned n = csr - 0x3b0;

    if (n >= RISCV_PMP_ENTRIES)
        return 0;
    return mode_of(c->pmpcfg[n]) == A_NAPOT ? c->pmpaddr[n] | NAPOT_BITS : c->pmpaddr[n] & ~GRAIN_BITS;
}

void riscv_pmpaddr_write(struct riscv_cpu *c, unsigned csr, uint64_t v)
{
    unsigned n = csr - 0x3b0;

    if (n >= RISCV_PMP_ENTRIES || locked(c, n))
        return;
    if (n + 1 < RISCV_PMP_ENTRIES && locked(c, n + 1) && mode_of(c->pmpcfg[n + 1]) == A_TOR)
        return;
    c->pmpaddr[n] = c->xlen == 32 ? (uint32_t)v : v & ((UINT64_C(1) << 54) - 1);
    cpu_tlb_flush(&c->cpu, ~0u);
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
    cpu_tlb_flush(&c->cpu, ~0u);
}
