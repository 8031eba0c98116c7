/* Control and status registers of the RISC-V guests: one row each (or a row a range). Privileged ISA Manual 20240411,
 * chapter 2; the accesses' own rules are at the row's functions. On RV32 a 64-bit register has a low row, flagged WIDE,
 * and a high row, flagged HIGH, whose `base` is the low one's number (of ranges: the first's). */
#include <glib.h>
#include <string.h>
#include <sys/random.h>
#include "rhea/base/log.h"
#include "system.h"

enum { WIDE = 1, HIGH = 2, RV32_ONLY = 4, KEEPS_MODE = 8 };
typedef uint64_t csr_read_fn(struct riscv_cpu *c, unsigned csr);
typedef void csr_write_fn(struct riscv_cpu *c, unsigned csr, uint64_t v);
typedef bool csr_legal_fn(const struct riscv_cpu *c, unsigned csr, bool write);

struct csr {
    uint16_t first, last;
    const char *name;
    uint8_t feature;            /* that has it; 0: all */
    uint8_t flags;
    uint16_t base;
    csr_legal_fn *legal;        /* beside feature and privilege; NULL: always */
    csr_read_fn *read;          /* NULL: the field */
    csr_write_fn *write;        /* NULL: the field's bits of mask */
    uint32_t offset;            /* of a uint64_t in struct riscv_cpu */
    uint64_t mask;
};

/* ---- floating point: no FS, no CSR */

static bool fp_legal(const struct riscv_cpu *c, unsigned csr, bool write)
{
    if (RISCV_HAS(&c->features, Zfinx))
        return true;
    return RISCV_HAS(&c->features, F) && (c->mstatus & MSTATUS_FS);
}

static uint64_t fflags_read(struct riscv_cpu *c, unsigned csr) { return riscv_fflags(c) & 31; }
static uint64_t frm_read(struct riscv_cpu *c, unsigned csr) { return c->frm & 7; }
static uint64_t fcsr_read(struct riscv_cpu *c, unsigned csr) { return (riscv_fflags(c) & 31) | (c->frm & 7) << 5; }

static void fp_written(struct riscv_cpu *c)
{
    if (!RISCV_HAS(&c->features, Zfinx))
        c->mstatus |= MSTATUS_FS;
}

static void fflags_write(struct riscv_cpu *c, unsigned csr, uint64_t v)
{
    riscv_set_fflags(c, v & 31);
    fp_written(c);
}

static void frm_write(struct riscv_cpu *c, unsigned csr, uint64_t v)
{
    riscv_set_frm(c, v & 7);
    fp_written(c);
}

static void fcsr_write(struct riscv_cpu *c, unsigned csr, uint64_t v)
{
    riscv_set_fflags(c, v & 31);
    riscv_set_frm(c, v >> 5 & 7);
    fp_written(c);
}

/* ---- counters: mcounteren and scounteren open them to lower privileges. 3.1.11, 12.1.5 */

static bool counter_legal(const struct riscv_cpu *c, unsigned csr, bool write)
{
    unsigned n = csr & 31;

    if (c->priv < PRV_M && !(c->mcounteren >> n & 1))
        return false;
    return c->priv > PRV_U || !RISCV_HAS(&c->features, S) || (c->scounteren >> n & 1);
}

static uint64_t zero_read(struct riscv_cpu *c, unsigned csr) { return 0; }
static void ignore_write(struct riscv_cpu *c, unsigned csr, uint64_t v) {}

/* ---- seed (Zkr): 16 bits of entropy a read, which must be a read-write access. */

static bool seed_legal(const struct riscv_cpu *c, unsigned csr, bool write)
{
    if (!write)
        return false;
    return c->priv == PRV_M || (c->mseccfg & (c->priv == PRV_S ? MSECCFG_SSEED : MSECCFG_USEED));
}

static uint64_t seed_read(struct riscv_cpu *c, unsigned csr)
{
    uint16_t seed;

    if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != sizeof(seed))
        return UINT64_C(1) << 30;       /* WAIT */
    return UINT64_C(2) << 30 | seed;    /* ES16 */
}

/* ---- status */

static uint64_t mstatus_read(struct riscv_cpu *c, unsigned csr)
{
    bool dirty = (c->mstatus & MSTATUS_FS) == MSTATUS_FS;

    return c->mstatus | (dirty ? UINT64_C(1) << (c->xlen - 1) : 0);
}

static uint64_t status_mask(const struct riscv_cpu *c)
{
    const struct riscv_features *f = &c->features;
    uint64_t m = MSTATUS_MIE | MSTATUS_MPIE | MSTATUS_MPP;

    if (RISCV_HAS(f, S))
        m |= MSTATUS_SIE | MSTATUS_SPIE | MSTATUS_SPP | MSTATUS_SUM | MSTATUS_MXR | MSTATUS_TVM | MSTATUS_TSR;
    if (RISCV_HAS(f, U))
        m |= MSTATUS_MPRV | MSTATUS_TW;
    if (RISCV_HAS(f, F))
        m |= MSTATUS_FS;
    return m;
}

static bool priv_exists(const struct riscv_cpu *c, unsigned priv)
{
    return priv == PRV_M || (priv == PRV_S && RISCV_HAS(&c->features, S)) || (priv == PRV_U && RISCV_HAS(&c->features, U));
}

void riscv_status_set(struct riscv_cpu *c, uint64_t v, uint64_t mask)
{
    mask &= status_mask(c);
    if (mask & MSTATUS_MPP && !priv_exists(c, v >> MSTATUS_MPP_SHIFT & 3))
        mask &= ~MSTATUS_MPP;
    v &= mask;
    /* Interrupts that this lets in are looked at by the next poll: the write may be in the middle of a region. */
    if ((v & ~c->mstatus & (MSTATUS_SIE | MSTATUS_MIE)) && (riscv_pending(c) & c->mie))
        cpu_kick(&c->cpu, CPU_EXIT_IRQ);
    c->mstatus = (c->mstatus & ~mask) | v;
}

static void mstatus_write(struct riscv_cpu *c, unsigned csr, uint64_t v) { riscv_status_set(c, v, UINT64_MAX); }

#define SSTATUS_WRITE (MSTATUS_SIE | MSTATUS_SPIE | MSTATUS_SPP | MSTATUS_FS | MSTATUS_SUM | MSTATUS_MXR)
#define SSTATUS_READ (SSTATUS_WRITE | UINT64_C(3) << 32 | UINT64_C(3) << 9)

static uint64_t sstatus_read(struct riscv_cpu *c, unsigned csr)
{
    return mstatus_read(c, csr) & (SSTATUS_READ | UINT64_C(1) << (c->xlen - 1));
}

static void sstatus_write(struct riscv_cpu *c, unsigned csr, uint64_t v) { riscv_status_set(c, v, SSTATUS_WRITE); }

/* ---- interrupts */

static uint64_t all_irqs(const struct riscv_cpu *c)
{
    uint64_t m = IRQS_M;

    if (RISCV_HAS(&c->features, S))
        m |= IRQS_S;
    return RISCV_HAS(&c->features, Sscofpmf) ? m : m & ~IRQ_BIT(IRQ_LCOF);
}

static uint64_t mip_read(struct riscv_cpu *c, unsigned csr) { return riscv_pending(c); }

/* Software's own bits: SSIP, LCOFIP; STIP where stimecmp does not drive it; SEIP beside the controller's line. */
static uint64_t mip_writable(const struct riscv_cpu *c)
{
    uint64_t m = all_irqs(c) & IRQS_S;

    return RISCV_HAS(&c->features, Sstc) && c->menvcfg & MENVCFG_STCE ? m & ~IRQ_BIT(IRQ_S_TIMER) : m;
}

static void pending_set(struct riscv_cpu *c, uint64_t v, uint64_t mask)
{
    uint64_t m = mask & mip_writable(c);

    if (m & IRQ_BIT(IRQ_S_EXT))
        riscv_sys(c)->seip_soft = v >> IRQ_S_EXT & 1;
    m &= ~IRQ_BIT(IRQ_S_EXT);
    atomic_fetch_and(&c->mip, ~(m & ~v));
    atomic_fetch_or(&c->mip, m & v);
}

static void mip_write(struct riscv_cpu *c, unsigned csr, uint64_t v) { pending_set(c, v, UINT64_MAX); }
static uint64_t sip_read(struct riscv_cpu *c, unsigned csr) { return riscv_pending(c) & c->mideleg & IRQS_S; }

static void sip_write(struct riscv_cpu *c, unsigned csr, uint64_t v)
{
    pending_set(c, v, c->mideleg & (IRQ_BIT(IRQ_S_SOFT) | IRQ_BIT(IRQ_LCOF)));
}

static void mie_write(struct riscv_cpu *c, unsigned csr, uint64_t v) { c->mie = v & all_irqs(c); }
static uint64_t sie_read(struct riscv_cpu *c, unsigned csr) { return c->mie & c->mideleg & IRQS_S; }

static void sie_write(struct riscv_cpu *c, unsigned csr, uint64_t v)
{
    uint64_t m = c->mideleg & IRQS_S & all_irqs(c);

    c->mie = (c->mie & ~m) | (v & m);
}

static void mideleg_write(struct riscv_cpu *c, unsigned csr, uint64_t v) { c->mideleg = v & IRQS_S & all_irqs(c); }

/* ---- trap vectors: direct or vectored; others keep what was there */

static void tvec_set(uint64_t *tvec, uint64_t v)
{
    if ((v & 3) < 2)
        *tvec = v;
}

static void mtvec_write(struct riscv_cpu *c, unsigned csr, uint64_t v) { tvec_set(&c->mtvec, v); }
static void stvec_write(struct riscv_cpu *c, unsigned csr, uint64_t v) { tvec_set(&c->stvec, v); }

static uint64_t epc_mask(const struct riscv_cpu *c) { return RISCV_HAS(&c->features, Zca) ? ~UINT64_C(1) : ~UINT64_C(3); }
static uint64_t mepc_read(struct riscv_cpu *c, unsigned csr) { return c->mepc & epc_mask(c); }
static uint64_t sepc_read(struct riscv_cpu *c, unsigned csr) { return c->sepc & epc_mask(c); }
static void mepc_write(struct riscv_cpu *c, unsigned csr, uint64_t v) { c->mepc = v & epc_mask(c); }
static void sepc_write(struct riscv_cpu *c, unsigned csr, uint64_t v) { c->sepc = v & epc_mask(c); }

/* ---- environment */

static uint64_t cbie_legal(uint64_t v, uint64_t old)    /* 2 is reserved */
{
    return (v & ENVCFG_CBIE) >> ENVCFG_CBIE_SHIFT == 2 ? (v & ~(uint64_t)ENVCFG_CBIE) | (old & ENVCFG_CBIE) : v;
}

static uint64_t cbo_mask(const struct riscv_cpu *c)
{
    return ENVCFG_FIOM | (RISCV_HAS(&c->features, Zicbom) ? ENVCFG_CBIE | ENVCFG_CBCFE : 0) |
           (RISCV_HAS(&c->features, Zicboz) ? ENVCFG_CBZE : 0);
}

static void menvcfg_write(struct riscv_cpu *c, unsigned csr, uint64_t v)
{
    const struct riscv_features *f = &c->features;
    uint64_t mask = cbo_mask(c), old = c->menvcfg;

    mask |= RISCV_HAS(f, Svadu) ? MENVCFG_ADUE : 0;
    mask |= RISCV_HAS(f, Svpbmt) ? MENVCFG_PBMTE : 0;
    mask |= RISCV_HAS(f, Sstc) ? MENVCFG_STCE : 0;
    c->menvcfg = cbie_legal(v, old) & mask;
    if ((c->menvcfg ^ old) & MENVCFG_STCE) {
        if (!(c->menvcfg & MENVCFG_STCE))
            riscv_set_irq(c, IRQ_S_TIMER, false);
        riscv_stimecmp_changed(c);
    }
    if ((c->menvcfg ^ old) & (MENVCFG_ADUE | MENVCFG_PBMTE))
        cpu_tlb_flush(&c->cpu, ~0u);
}

static void senvcfg_write(struct riscv_cpu *c, unsigned csr, uint64_t v)
{
    c->senvcfg = cbie_legal(v, c->senvcfg) & cbo_mask(c);
}

/* State enables (Smstateen): of what they guard, envcfg alone is here; the other registers of the kind hold nothing, and so keep
 * supervisor mode from its own. */
#define STATEEN_ENVCFG (UINT64_C(1) << 62)
#define STATEEN_SE0 (UINT64_C(1) << 63)

static bool sstateen_legal(const struct riscv_cpu *c, unsigned csr, bool write)
{
    return c->priv == PRV_M || (csr == 0x10c && c->mstateen0 & STATEEN_SE0);
}

static bool senvcfg_legal(const struct riscv_cpu *c, unsigned csr, bool write)
{
    return c->priv == PRV_M || !RISCV_HAS(&c->features, Smstateen) || (c->mstateen0 & STATEEN_ENVCFG);
}

static bool stimecmp_legal(const struct riscv_cpu *c, unsigned csr, bool write)
{
    return c->priv == PRV_M || ((c->menvcfg & MENVCFG_STCE) && (c->mcounteren & 2));
}

static void stimecmp_write(struct riscv_cpu *c, unsigned csr, uint64_t v)
{
    c->stimecmp = v;
    riscv_stimecmp_changed(c);
}

static bool satp_legal(const struct riscv_cpu *c, unsigned csr, bool write)
{
    return c->priv != PRV_S || !(c->mstatus & MSTATUS_TVM);
}

static void satp_write(struct riscv_cpu *c, unsigned csr, uint64_t v) { riscv_satp_set(c, v); }
static uint64_t hartid_read(struct riscv_cpu *c, unsigned csr) { return (uint64_t)c->cpu.index; }

/* On RV64 the odd ones hold nothing and are illegal. */
static bool pmpcfg_legal(const struct riscv_cpu *c, unsigned csr, bool write) { return c->xlen == 32 || !(csr & 1); }
static bool mseccfg_legal(const struct riscv_cpu *c, unsigned csr, bool write)
{
    return RISCV_HAS(&c->features, Smepmp) || RISCV_HAS(&c->features, Zkr);
}
static bool envcfg_legal(const struct riscv_cpu *c, unsigned csr, bool write) { return RISCV_HAS(&c->features, U); }

/* ---- the table, by number */

#define FIELD(f) .offset = offsetof(struct riscv_cpu, f)
#define ONE(n) .first = n, .last = n
#define M_COUNTER .read = riscv_counter_read, .write = riscv_counter_write, .flags = WIDE
#define U_COUNTER .read = riscv_counter_read, .flags = WIDE
#define ALL64 UINT64_MAX
static const struct csr csrs[] = {
    { ONE(0x001), .name = "fflags", .legal = fp_legal, .read = fflags_read, .write = fflags_write },
    { ONE(0x002), .name = "frm", .legal = fp_legal, .read = frm_read, .write = frm_write },
    { ONE(0x003), .name = "fcsr", .legal = fp_legal, .read = fcsr_read, .write = fcsr_write },
    { ONE(0x015), .name = "seed", RVF_Zkr, .legal = seed_legal, .read = seed_read, .write = ignore_write },
    /* supervisor */
    { ONE(0x100), .name = "sstatus", RVF_S, .read = sstatus_read, .write = sstatus_write },
    { ONE(0x104), .name = "sie", RVF_S, .read = sie_read, .write = sie_write },
    { ONE(0x105), .name = "stvec", RVF_S, KEEPS_MODE, FIELD(stvec), .write = stvec_write },
    { ONE(0x106), .name = "scounteren", RVF_S, FIELD(scounteren), .mask = 0xffffffff },
    { ONE(0x10a), .name = "senvcfg", RVF_S, .legal = senvcfg_legal, FIELD(senvcfg), .write = senvcfg_write },
    { 0x10c, 0x10f, .name = "sstateen", RVF_Smstateen, .legal = sstateen_legal, .read = zero_read, .write = ignore_write },
    { ONE(0x140), .name = "sscratch", RVF_S, KEEPS_MODE, FIELD(sscratch), .mask = ALL64 },
    { ONE(0x141), .name = "sepc", RVF_S, KEEPS_MODE, .read = sepc_read, .write = sepc_write },
    { ONE(0x142), .name = "scause", RVF_S, KEEPS_MODE, FIELD(scause), .mask = ALL64 },
    { ONE(0x143), .name = "stval", RVF_S, KEEPS_MODE, FIELD(stval), .mask = ALL64 },
    { ONE(0x144), .name = "sip", RVF_S, .read = sip_read, .write = sip_write },
    { ONE(0x14d), .name = "stimecmp", RVF_Sstc, WIDE, .legal = stimecmp_legal, FIELD(stimecmp), .write = stimecmp_write },
    { ONE(0x15d), .name = "stimecmph", RVF_Sstc, HIGH, 0x14d, stimecmp_legal },
    { ONE(0x180), .name = "satp", RVF_S, .legal = satp_legal, FIELD(satp), .write = satp_write },
    /* machine */
    { ONE(0x300), .name = "mstatus", .flags = WIDE, .read = mstatus_read, .write = mstatus_write },
    { ONE(0x301), .name = "misa", FIELD(misa) },
    { ONE(0x302), .name = "medeleg", RVF_S, WIDE, FIELD(medeleg), .mask = 0xcb3ff },
    { ONE(0x303), .name = "mideleg", RVF_S, FIELD(mideleg), .write = mideleg_write },
    { ONE(0x304), .name = "mie", FIELD(mie), .write = mie_write },
    { ONE(0x305), .name = "mtvec", .flags = KEEPS_MODE, FIELD(mtvec), .write = mtvec_write },
    { ONE(0x306), .name = "mcounteren", RVF_U, FIELD(mcounteren), .mask = 0xffffffff },
    { ONE(0x30a), .name = "menvcfg", .flags = WIDE, .legal = envcfg_legal, FIELD(menvcfg), .write = menvcfg_write },
    { ONE(0x30c), .name = "mstateen0", RVF_Smstateen, WIDE, FIELD(mstateen0), .mask = STATEEN_SE0 | STATEEN_ENVCFG },
    { 0x30d, 0x30f, .name = "mstateen", RVF_Smstateen, .read = zero_read, .write = ignore_write },
    { ONE(0x310), .name = "mstatush", .flags = HIGH, .base = 0x300 },
    { ONE(0x312), .name = "medelegh", RVF_S, HIGH, 0x302 },
    { ONE(0x31a), .name = "menvcfgh", .flags = HIGH, .base = 0x30a, .legal = envcfg_legal },
    { ONE(0x31c), .name = "mstateen0h", RVF_Smstateen, HIGH, 0x30c },
    { 0x31d, 0x31f, .name = "mstateenh", RVF_Smstateen, RV32_ONLY, .read = zero_read, .write = ignore_write },
    { ONE(0x320), .name = "mcountinhibit", FIELD(mcountinhibit), .write = riscv_countinhibit_write },
    { 0x323, 0x33f, .name = "mhpmevent", .flags = WIDE, .read = riscv_hpmevent_read, .write = riscv_hpmevent_write },
    { ONE(0x340), .name = "mscratch", .flags = KEEPS_MODE, FIELD(mscratch), .mask = ALL64 },
    { ONE(0x341), .name = "mepc", .flags = KEEPS_MODE, .read = mepc_read, .write = mepc_write },
    { ONE(0x342), .name = "mcause", .flags = KEEPS_MODE, FIELD(mcause), .mask = ALL64 },
    { ONE(0x343), .name = "mtval", .flags = KEEPS_MODE, FIELD(mtval), .mask = ALL64 },
    { ONE(0x344), .name = "mip", .read = mip_read, .write = mip_write },
    { 0x3a0, 0x3af, .name = "pmpcfg", RVF_Pmp, .legal = pmpcfg_legal, .read = riscv_pmpcfg_read, .write = riscv_pmpcfg_write },
    { 0x3b0, 0x3ef, .name = "pmpaddr", RVF_Pmp, .read = riscv_pmpaddr_read, .write = riscv_pmpaddr_write },
    { 0x723, 0x73f, .name = "mhpmeventh", RVF_Sscofpmf, HIGH, 0x323 },
    { ONE(0x747), .name = "mseccfg", .flags = WIDE, .legal = mseccfg_legal, FIELD(mseccfg), .write = riscv_mseccfg_write },
    { ONE(0x757), .name = "mseccfgh", .flags = HIGH, .base = 0x747, .legal = mseccfg_legal },
    { ONE(0xb00), .name = "mcycle", M_COUNTER },
    { ONE(0xb02), .name = "minstret", M_COUNTER },
    { 0xb03, 0xb1f, .name = "mhpmcounter", M_COUNTER },
    { ONE(0xb80), .name = "mcycleh", .flags = HIGH, .base = 0xb00 },
    { ONE(0xb82), .name = "minstreth", .flags = HIGH, .base = 0xb02 },
    { 0xb83, 0xb9f, .name = "mhpmcounterh", .flags = HIGH, .base = 0xb03 },
    { ONE(0xc00), .name = "cycle", RVF_Zicntr, .legal = counter_legal, U_COUNTER },
    { ONE(0xc01), .name = "time", RVF_Zicntr, .legal = counter_legal, U_COUNTER },
    { ONE(0xc02), .name = "instret", RVF_Zicntr, .legal = counter_legal, U_COUNTER },
    { 0xc03, 0xc1f, .name = "hpmcounter", RVF_Zihpm, .legal = counter_legal, U_COUNTER },
    { ONE(0xc80), .name = "cycleh", RVF_Zicntr, HIGH, 0xc00, counter_legal },
    { ONE(0xc81), .name = "timeh", RVF_Zicntr, HIGH, 0xc01, counter_legal },
    { ONE(0xc82), .name = "instreth", RVF_Zicntr, HIGH, 0xc02, counter_legal },
    { 0xc83, 0xc9f, .name = "hpmcounterh", RVF_Zihpm, HIGH, 0xc03, counter_legal },
    { ONE(0xda0), .name = "scountovf", RVF_Sscofpmf, .read = riscv_scountovf_read },
    { ONE(0xf11), .name = "mvendorid", FIELD(mvendorid) },
    { ONE(0xf12), .name = "marchid", FIELD(marchid) },
    { ONE(0xf13), .name = "mimpid", FIELD(mimpid) },
    { ONE(0xf14), .name = "mhartid", .read = hartid_read },
    { ONE(0xf15), .name = "mconfigptr", .read = zero_read },
};

static const struct csr *csr_find(unsigned number)
{
    static uint8_t index[4096];         /* row + 1: made once, the same for every machine */
    static gsize once;

    if (g_once_init_enter(&once)) {
        for (unsigned n = 0; n < G_N_ELEMENTS(csrs); n++)
            memset(&index[csrs[n].first], (int)n + 1, csrs[n].last - csrs[n].first + 1u);
        g_once_init_leave(&once, 1);
    }
    return index[number & 4095] ? &csrs[index[number & 4095] - 1] : NULL;
}

const char *riscv_csr_name(unsigned csr)
{
    const struct csr *r = csr_find(csr);

    return r ? r->name : NULL;
}

/* ---- accesses */

static unsigned base_of(const struct csr *high, unsigned number) { return high->base + (number - high->first); }

static uint64_t value_read(struct riscv_cpu *c, const struct csr *r, unsigned number)
{
    if (r->flags & HIGH)
        return value_read(c, csr_find(r->base), base_of(r, number)) >> 32;
    return r->read ? r->read(c, number) : *(uint64_t *)((char *)c + r->offset);
}

static void value_write(struct riscv_cpu *c, const struct csr *r, unsigned number, uint64_t v)
{
    uint64_t *field = (uint64_t *)((char *)c + r->offset);

    if (r->write)
        r->write(c, number, v);
    else if (r->mask)
        *field = (*field & ~r->mask) | (v & r->mask);
}

/* RV32 sees halves of what is wider. */
static void csr_store(struct riscv_cpu *c, const struct csr *r, unsigned number, uint64_t v)
{
    if (c->xlen == 32 && r->flags & (WIDE | HIGH)) {
        const struct csr *base = r->flags & HIGH ? csr_find(r->base) : r;
        unsigned base_number = r->flags & HIGH ? base_of(r, number) : number;
        uint64_t old = value_read(c, base, base_number);

        v = r->flags & HIGH ? (uint32_t)old | v << 32 : (old & ~UINT64_C(0xffffffff)) | (uint32_t)v;
        value_write(c, base, base_number, v);
        return;
    }
    value_write(c, r, number, c->xlen == 32 ? (uint32_t)v : v);
}

static bool legal(const struct riscv_cpu *c, const struct csr *r, unsigned number, bool write)
{
    if (!r || (number >> 8 & 3) > c->priv || (write && number >> 10 == 3))
        return false;
    if (r->feature && !riscv_has(&c->features, r->feature))
        return false;
    if (r->flags & (HIGH | RV32_ONLY) && c->xlen != 32)
        return false;
    return !r->legal || r->legal(c, number, write);
}

uint64_t riscv_csr_peek(struct riscv_cpu *c, unsigned csr)
{
    const struct csr *r = csr_find(csr);

    return r ? value_read(c, r, csr) : 0;
}

/* What read-modify-write instructions change: SEIP as software wrote it, not the line that a read shows too. 3.1.9 */
static uint64_t modify_base(const struct riscv_cpu *c, unsigned number, uint64_t old)
{
    if (number != 0x344)
        return old;
    return (old & ~IRQ_BIT(IRQ_S_EXT)) | (riscv_sys(c)->seip_soft ? IRQ_BIT(IRQ_S_EXT) : 0);
}

static uint64_t csr_access(struct riscv_cpu *c, uint32_t insn, uint64_t operand)
{
    enum { CSRRW = 1, CSRRS = 2, CSRRC = 3 };
    unsigned number = insn >> 20, op = insn >> 12 & 3, rd = insn >> 7 & 31, rs1 = insn >> 15 & 31;
    bool write = op == CSRRW || rs1 != 0;
    const struct csr *r = csr_find(number);
    uint64_t old = 0;

    if (!legal(c, r, number, write)) {
        log_at(LOG_UNIMP, "riscv: access to CSR %#x (%s) at privilege %u is illegal\n", number, r ? r->name : "unknown", c->priv);
        riscv_raise_illegal(c, insn);
    }
    if (op != CSRRW || rd)
        old = value_read(c, r, number);
    if (write) {
        uint64_t base = modify_base(c, number, old);

        csr_store(c, r, number, op == CSRRW ? operand : op == CSRRS ? base | operand : base & ~operand);
    }
    return c->xlen == 32 ? (uint64_t)(int32_t)old : old;
}

uint64_t riscv_helper_csr(struct cpu *cpu, uint32_t insn, uint64_t operand) { return csr_access(riscv(cpu), insn, operand); }
uint64_t riscv_helper_csr_fp(struct cpu *cpu, uint32_t insn, uint64_t operand) { return csr_access(riscv(cpu), insn, operand); }

/* A write to it changes neither what translations depend on nor which interrupts may come: the region may go on. */
bool riscv_csr_keeps_mode(unsigned csr)
{
    const struct csr *r = csr_find(csr);

    return r && r->flags & KEEPS_MODE;
}
