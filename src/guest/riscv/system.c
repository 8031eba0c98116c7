/* Privilege of the RISC-V guests: traps and their delegation, returns from them, interrupts, WFI, what translations depend
 * on, reset. Privileged ISA Manual 20240411, chapters 3 (machine) and 12 (supervisor). */
#include <glib.h>
#include <string.h>
#include <unistd.h>
#include "rhea/base/log.h"
#include "system.h"

enum { INSN_MRET = 0x30200073, INSN_SRET = 0x10200073, INSN_WFI = 0x10500073, INSN_WRS_NTO = 0x00d00073 };

_Noreturn void riscv_raise(struct riscv_cpu *c, unsigned cause, uint64_t tval)
{
    c->cpu.exception = (int)cause;
    c->fault_value = tval;
    cpu_loop_exit(&c->cpu);
}

_Noreturn void riscv_raise_illegal(struct riscv_cpu *c, uint32_t insn)
{
    riscv_raise(c, CAUSE_ILLEGAL, insn);
}

void riscv_helper_raise(struct cpu *cpu, uint32_t cause, uint64_t tval)
{
    riscv_raise(riscv(cpu), cause, tval);
}

void riscv_helper_ecall(struct cpu *cpu)
{
    riscv_raise(riscv(cpu), CAUSE_ECALL_U + riscv(cpu)->priv, 0);
}

/* ---- traps */

static uint64_t handler(uint64_t tvec, unsigned cause, bool interrupt)
{
    uint64_t base = tvec & ~UINT64_C(3);

    return interrupt && (tvec & 1) ? base + 4 * (uint64_t)cause : base;
}

static uint64_t short_pc(const struct riscv_cpu *c, uint64_t pc) { return c->xlen == 32 ? (uint32_t)pc : pc; }

static void trap_machine(struct riscv_cpu *c, unsigned cause, uint64_t cause_bits, uint64_t tval, bool interrupt)
{
    uint64_t s = c->mstatus & ~(MSTATUS_MPIE | MSTATUS_MIE | MSTATUS_MPP);

    c->mcause = cause_bits;
    c->mepc = c->cpu.pc;
    c->mtval = tval;
    c->mstatus = s | (c->mstatus & MSTATUS_MIE ? MSTATUS_MPIE : 0) | (uint64_t)c->priv << MSTATUS_MPP_SHIFT;
    c->priv = PRV_M;
    c->cpu.pc = short_pc(c, handler(c->mtvec, cause, interrupt));
}

static void trap_supervisor(struct riscv_cpu *c, unsigned cause, uint64_t cause_bits, uint64_t tval, bool interrupt)
{
    uint64_t s = c->mstatus & ~(MSTATUS_SPIE | MSTATUS_SIE | MSTATUS_SPP);

    c->scause = cause_bits;
    c->sepc = c->cpu.pc;
    c->stval = tval;
    c->mstatus = s | (c->mstatus & MSTATUS_SIE ? MSTATUS_SPIE : 0) | (c->priv == PRV_S ? MSTATUS_SPP : 0);
    c->priv = PRV_S;
    c->cpu.pc = short_pc(c, handler(c->stvec, cause, interrupt));
}

static void trap(struct riscv_cpu *c, unsigned cause, uint64_t tval, bool interrupt)
{
    uint64_t delegated = interrupt ? c->mideleg : c->medeleg;
    uint64_t bits = cause | (interrupt ? UINT64_C(1) << (c->xlen - 1) : 0);
    bool supervisor = c->priv <= PRV_S && cause < 64 && (delegated >> cause & 1);

    if (log_enabled(LOG_INT))
        log_printf("riscv cpu %d: %s %u tval %#" G_GINT64_MODIFIER "x pc %#" G_GINT64_MODIFIER "x from %c to %c\n",
                   c->cpu.index, interrupt ? "interrupt" : "exception", cause, tval, c->cpu.pc, "US?M"[c->priv],
                   supervisor ? 'S' : 'M');
    c->reserved_addr = RISCV_NOT_RESERVED;
    c->halted = false;
    if (supervisor)
        trap_supervisor(c, cause, bits, tval, interrupt);
    else
        trap_machine(c, cause, bits, tval, interrupt);
    riscv_pmu_privilege(c);
}

/* Instruction addresses are even, or multiples of 4 without compressed instructions: IALIGN, 3.1.14. */
static uint64_t return_pc(const struct riscv_cpu *c, uint64_t epc)
{
    return short_pc(c, epc & ~(RISCV_HAS(&c->features, Zca) ? UINT64_C(1) : UINT64_C(3)));
}

uint64_t riscv_helper_mret(struct cpu *cpu)
{
    struct riscv_cpu *c = riscv(cpu);
    unsigned mpp = c->mstatus >> MSTATUS_MPP_SHIFT & 3;
    uint64_t s = c->mstatus & ~(MSTATUS_MIE | MSTATUS_MPP);

    if (c->priv != PRV_M)
        riscv_raise_illegal(c, INSN_MRET);
    if (mpp != PRV_M)
        s &= ~MSTATUS_MPRV;
    if (!RISCV_HAS(&c->features, U))
        s |= MSTATUS_MPP;
    c->mstatus = s | (s & MSTATUS_MPIE ? MSTATUS_MIE : 0) | MSTATUS_MPIE;
    c->priv = (uint8_t)mpp;
    riscv_pmu_privilege(c);
    return return_pc(c, c->mepc);
}

uint64_t riscv_helper_sret(struct cpu *cpu)
{
    struct riscv_cpu *c = riscv(cpu);
    uint64_t s = c->mstatus & ~(MSTATUS_SIE | MSTATUS_SPP | MSTATUS_MPRV);

    if (c->priv < PRV_S || !RISCV_HAS(&c->features, S) || (c->priv == PRV_S && (c->mstatus & MSTATUS_TSR)))
        riscv_raise_illegal(c, INSN_SRET);
    c->priv = c->mstatus & MSTATUS_SPP ? PRV_S : PRV_U;
    c->mstatus = s | (s & MSTATUS_SPIE ? MSTATUS_SIE : 0) | MSTATUS_SPIE;
    riscv_pmu_privilege(c);
    return return_pc(c, c->sepc);
}

static int interrupt_to_take(const struct riscv_cpu *c, uint64_t pending);

/* ---- waiting: 3.3.3. User mode may not hold the hart (mstatus.TW says "bounded time": none at all). */

static bool may_wait(const struct riscv_cpu *c)
{
    if (c->priv == PRV_M)
        return true;
    return c->priv == PRV_S && !(c->mstatus & MSTATUS_TW);
}

/* A WFI whose interrupt is pending, but disabled, ends at once. Harts that OpenSBI has not started yet loop so until a word of
 * memory changes: after a while of it they sleep until a line is set again, as by the interrupt that starts them, and leave
 * the host's cores to those that do something. OpenSBI 1.1 depends on it: it says that a hart is to start before it says
 * where, and interrupts it then. A hart that looks in between goes through the firmware's early code, and if the other
 * was held up for so long, it starts the kernel once more. */
static void wait_in_vain(struct riscv_cpu *c)
{
    enum { VAIN_MAX = 100, NAP_NS = 50000, NAP_DOUBLINGS = 12 };

    if (++c->vain_waits <= VAIN_MAX || !riscv_sys(c)) {
        cpu_stall(&c->cpu);
        return;
    }
    atomic_store(&c->napping, true);
    vm_timer_set(riscv_sys(c)->nap, vm_clock_ns(riscv_sys(c)->vm) + ((int64_t)NAP_NS << MIN(c->vain_waits - VAIN_MAX, NAP_DOUBLINGS)));
}

void riscv_nap_end(struct riscv_cpu *c)
{
    if (atomic_exchange(&c->napping, false))
        cpu_kick(&c->cpu, CPU_EXIT_KICK);
}

void riscv_helper_wfi(struct cpu *cpu)
{
    struct riscv_cpu *c = riscv(cpu);

    if (!may_wait(c) && (c->priv == PRV_S || RISCV_HAS(&c->features, S) || (c->mstatus & MSTATUS_TW)))
        riscv_raise_illegal(c, INSN_WFI);
    c->halted = true;
    if ((riscv_pending(c) & c->mie) && interrupt_to_take(c, riscv_pending(c) & c->mie) < 0)
        wait_in_vain(c);
}

/* Zawrs */
void riscv_helper_wrs(struct cpu *cpu, uint32_t insn)
{
    struct riscv_cpu *c = riscv(cpu);

    if (insn == INSN_WRS_NTO && c->priv != PRV_M && (c->mstatus & MSTATUS_TW))
        riscv_raise_illegal(c, insn);
    cpu_stall(cpu);
}

void riscv_helper_pause(struct cpu *cpu) { cpu_pause(cpu); }
uint64_t riscv_helper_mode_kept(struct cpu *cpu) { return riscv_mode_bits(cpu) == cpu->mode; }

void riscv_helper_fs_dirty(struct cpu *cpu) { riscv(cpu)->mstatus |= MSTATUS_FS; }

/* ---- interrupts: 3.1.9 */

uint64_t riscv_pending(const struct riscv_cpu *c)
{
    return atomic_load(&c->mip) | (riscv_sys(c) && riscv_sys(c)->seip_soft ? IRQ_BIT(IRQ_S_EXT) : 0);
}

void riscv_set_irq(struct riscv_cpu *c, unsigned bit, bool level)
{
    if (bit > 63)
        return;
    if (level)
        riscv_nap_end(c);
    if (!level)
        atomic_fetch_and(&c->mip, ~IRQ_BIT(bit));
    else if (!(atomic_fetch_or(&c->mip, IRQ_BIT(bit)) >> bit & 1))
        cpu_kick(&c->cpu, CPU_EXIT_IRQ);
}

static int highest(uint64_t pending)
{
    static const uint8_t order[] = { IRQ_M_EXT, IRQ_M_SOFT, IRQ_M_TIMER, IRQ_S_EXT, IRQ_S_SOFT, IRQ_S_TIMER, IRQ_LCOF };

    for (unsigned n = 0; n < G_N_ELEMENTS(order); n++)
        if (pending >> order[n] & 1)
            return order[n];
    return -1;
}

static int interrupt_to_take(const struct riscv_cpu *c, uint64_t pending)
{
    bool machine = c->priv < PRV_M || (c->mstatus & MSTATUS_MIE);
    bool supervisor = c->priv < PRV_S || (c->priv == PRV_S && (c->mstatus & MSTATUS_SIE));
    int n = machine ? highest(pending & ~c->mideleg) : -1;

    return n >= 0 ? n : supervisor ? highest(pending & c->mideleg) : -1;
}

bool riscv_has_work(const struct cpu *cpu)
{
    const struct riscv_cpu *c = (const struct riscv_cpu *)cpu;

    return !c->halted || cpu->exception >= 0 || (!atomic_load(&c->napping) && (riscv_pending(c) & c->mie));
}

bool riscv_deliver(struct cpu *cpu)
{
    struct riscv_cpu *c = riscv(cpu);
    uint64_t pending;
    int n;

    if (cpu->exception >= 0) {
        unsigned cause = (unsigned)cpu->exception;

        cpu->exception = -1;
        if (cause == CAUSE_BREAKPOINT && riscv_semihosting(c))
            return true;
        trap(c, cause, c->fault_value, false);
        return true;
    }
    pending = riscv_pending(c) & c->mie;
    if (!pending)
        return false;
    c->halted = false;          /* WFI ends whether or not the interrupt is taken */
    n = interrupt_to_take(c, pending);
    if (n < 0)
        return false;
    c->vain_waits = 0;
    trap(c, (unsigned)n, 0, true);
    return true;
}

/* inject-nmi: there is no architected one */

/* ---- what translations depend on */

static unsigned data_mmu(const struct riscv_cpu *c)
{
    unsigned priv = c->priv;
    bool sum = c->mstatus & MSTATUS_SUM, mxr = c->mstatus & MSTATUS_MXR;

    if (c->mstatus & MSTATUS_MPRV && priv == PRV_M)
        priv = c->mstatus >> MSTATUS_MPP_SHIFT & 3;
    if (priv == PRV_M)
        return MMU_BARE_M;
    if (satp_mode(c) == SATP_BARE)
        return priv == PRV_S ? MMU_BARE_S : MMU_BARE_U;
    if (priv == PRV_U)
        return mxr ? MMU_U_MXR : MMU_U;
    return sum ? (mxr ? MMU_S_SUM_MXR : MMU_S_SUM) : (mxr ? MMU_S_MXR : MMU_S);
}

unsigned riscv_mmu_index(const struct cpu *cpu, bool code)
{
    const struct riscv_cpu *c = (const struct riscv_cpu *)cpu;

    if (!code)
        return data_mmu(c);
    if (c->priv == PRV_M)
        return MMU_BARE_M;
    if (satp_mode(c) == SATP_BARE)
        return c->priv == PRV_S ? MMU_BARE_S : MMU_BARE_U;
    return c->priv == PRV_S ? MMU_S : MMU_U;
}

/* What cache-block instructions may do: 1: CBO.INVAL as it is, 2: as CBO.FLUSH (envcfg.CBIE = 1, at any level above). */
static uint64_t cbo_bits(const struct riscv_cpu *c)
{
    uint64_t m = UINT64_MAX;
    unsigned cbie = 3;

    if (c->priv < PRV_M) {
        m = c->menvcfg;
        cbie &= m >> ENVCFG_CBIE_SHIFT;
    }
    if (c->priv < PRV_S && RISCV_HAS(&c->features, S)) {
        m &= c->senvcfg;
        cbie = !cbie || !(c->senvcfg & ENVCFG_CBIE) ? 0 : cbie & (c->senvcfg >> ENVCFG_CBIE_SHIFT & 3);
    }
    return (uint64_t)cbie << MODE_CBIE_SHIFT | (m & ENVCFG_CBCFE ? MODE_CBCFE : 0) | (m & ENVCFG_CBZE ? MODE_CBZE : 0);
}

static uint64_t counter_bits(const struct riscv_cpu *c)
{
    uint64_t m = 7;

    if (c->priv < PRV_M)
        m &= c->mcounteren;
    if (c->priv < PRV_S && RISCV_HAS(&c->features, S))
        m &= c->scounteren;
    return m << MODE_COUNTEREN_SHIFT;
}

uint64_t riscv_mode_bits(const struct cpu *cpu)
{
    const struct riscv_cpu *c = (const struct riscv_cpu *)cpu;
    uint64_t m = (uint64_t)c->priv << MODE_PRIV_SHIFT | (uint64_t)data_mmu(c) << MODE_MMU_SHIFT, fs = c->mstatus & MSTATUS_FS;

    m |= c->xlen == 32 ? MODE_XLEN32 : 0;
    m |= fs == 0 ? MODE_FS_OFF : fs != MSTATUS_FS ? MODE_FS_CLEAN : 0;
    m |= c->frm > 3 ? MODE_FRM_SLOW : 0;
    m |= c->pmp_fetch >> c->priv & 1 ? MODE_PMP_FETCH : 0;
    if (c->priv == PRV_S) {
        m |= c->mstatus & MSTATUS_TVM ? MODE_TVM : 0;
        m |= c->mstatus & MSTATUS_TW ? MODE_TW : 0;
        m |= c->mstatus & MSTATUS_TSR ? MODE_TSR : 0;
    }
    return m | cbo_bits(c) | counter_bits(c);
}

/* ---- accesses that fail */

__attribute__((noreturn)) void riscv_unaligned(struct cpu *cpu, uint64_t va, enum mmu_access access)
{
    static const uint8_t cause[] = { CAUSE_LOAD_MISALIGNED, CAUSE_STORE_MISALIGNED, CAUSE_FETCH_MISALIGNED };

    riscv_raise(riscv(cpu), cause[access], va);
}

/* AMOs raise store faults alone, for their loads too (volume I, 14.4; LR is a load). */
static bool at_amo(struct riscv_cpu *c)
{
    enum { OPCODE_AMO = 0x2f, FUNCT5_LR = 2 };
    uint32_t insn;

    return riscv_fetch_word(c, c->cpu.pc, &insn) && (insn & 0x7f) == OPCODE_AMO && insn >> 27 != FUNCT5_LR;
}

/* Nothing answers at that physical address: an access fault. */
void riscv_bus_error(struct cpu *cpu, uint64_t va, uint64_t phys, enum mmu_access access)
{
    static const uint8_t cause[] = { CAUSE_LOAD_ACCESS, CAUSE_STORE_ACCESS, CAUSE_FETCH_ACCESS };

    if (access == ACCESS_READ && at_amo(riscv(cpu)))
        access = ACCESS_WRITE;
    riscv_raise(riscv(cpu), cause[access], va);
}

/* ---- state of a CPU */

static uint64_t misa_of(const struct riscv_features *f)
{
    static const struct { uint8_t feature; char letter; } letters[] = {
        { RVF_A, 'A' }, { RVF_C, 'C' }, { RVF_D, 'D' }, { RVF_E, 'E' }, { RVF_F, 'F' }, { RVF_H, 'H' }, { RVF_I, 'I' },
        { RVF_M, 'M' }, { RVF_S, 'S' }, { RVF_U, 'U' }, { RVF_V, 'V' },
    };
    uint64_t m = RISCV_HAS(f, xlen32) ? UINT64_C(1) << 30 : UINT64_C(2) << 62;

    for (unsigned n = 0; n < G_N_ELEMENTS(letters); n++)
        if (riscv_has(f, letters[n].feature))
            m |= UINT64_C(1) << (letters[n].letter - 'A');
    if (RISCV_HAS(f, Zba) && RISCV_HAS(f, Zbb) && RISCV_HAS(f, Zbs))
        m |= 2;
    return m;
}

static void reset_machine_csrs(struct riscv_cpu *c)
{
    const struct riscv_features *f = &c->features;

    c->mstatus = c->xlen == 64 ? (RISCV_HAS(f, U) ? MSTATUS_UXL_64 : 0) | (RISCV_HAS(f, S) ? MSTATUS_SXL_64 : 0) : 0;
    if (!RISCV_HAS(f, U))
        c->mstatus |= MSTATUS_MPP;
    c->misa = misa_of(f);
    c->medeleg = c->mideleg = c->mtvec = c->mepc = c->mcause = c->mtval = c->mscratch = c->mie = 0;
    c->mcounteren = 0;
    riscv_pmu_reset(c);
    /* Its reset is ours to define (Zkr): firmware that knows nothing of it need not open seed to the kernel. */
    c->mseccfg = RISCV_HAS(f, Zkr) && RISCV_HAS(f, S) ? MSECCFG_SSEED : 0;
    /* Where A and D may be either kind and software was not asked, hardware updates them (Svadu alone). */
    c->menvcfg = RISCV_HAS(f, Svadu) && !RISCV_HAS(f, Svade) ? MENVCFG_ADUE : 0;
    c->mstateen0 = 0;
    memset(c->pmpcfg, 0, sizeof(c->pmpcfg));
    c->pmp_fetch = 0;
    memset(c->pmpaddr, 0, sizeof(c->pmpaddr));
    c->tselect = 0;
}

static void reset_supervisor_csrs(struct riscv_cpu *c)
{
    c->stvec = c->sepc = c->scause = c->stval = c->sscratch = c->scounteren = c->senvcfg = c->satp = 0;
    c->stimecmp = UINT64_MAX;
}

void riscv_reset(struct cpu *cpu)
{
    struct riscv_cpu *c = riscv(cpu);

    memset(c->x, 0, sizeof(c->x));
    memset(c->f, 0, sizeof(c->f));
    c->reserved_addr = RISCV_NOT_RESERVED;
    c->priv = PRV_M;
    reset_machine_csrs(c);
    reset_supervisor_csrs(c);
    riscv_set_frm(c, 0);
    riscv_set_fflags(c, 0);
    /* Lines are their devices' own, and follow them; these software had set. */
    atomic_fetch_and(&c->mip, ~(IRQ_BIT(IRQ_S_SOFT) | IRQ_BIT(IRQ_S_TIMER) | IRQ_BIT(IRQ_LCOF)));
    c->halted = false;
    atomic_store(&c->napping, false);
    c->fault_value = 0;
    cpu->exception = -1;
    cpu->pc = riscv_identity(c)->reset_vector;
    if (riscv_sys(c)) {
        riscv_sys(c)->seip_soft = false;
        riscv_stimecmp_changed(c);
    }
    cpu_tlb_context(cpu, ~0u, 0);
    cpu_tlb_flush(cpu, ~0u);
}

bool riscv_cpu_init(struct cpu *cpu, struct vm *vm, const char *spec, struct error *err)
{
    struct riscv_cpu *c = riscv(cpu);
    struct riscv_identity *id = g_new0(struct riscv_identity, 1);

    if (!riscv_identity_parse(id, spec, !strcmp(cpu->guest->name, "riscv32"), err)) {
        g_free(id);
        return false;
    }
    c->identity = id;
    c->features = id->features;
    c->model = id->model;
    c->xlen = RISCV_HAS(&id->features, xlen32) ? 32 : 64;
    c->mvendorid = id->mvendorid;
    c->marchid = id->marchid;
    c->mimpid = id->mimpid;
    c->sys = g_new0(struct riscv_system, 1);
    riscv_sys(c)->vm = vm;
    cpu->exception = -1;
    if (!riscv_timer_init(c)) {
        riscv_cpu_free(cpu);
        return error_set(err, ERR_GENERIC, "no timer for the CPU", NULL);
    }
    return true;
}

void riscv_cpu_free(struct cpu *cpu)
{
    struct riscv_cpu *c = riscv(cpu);

    if (c->sys)
        riscv_timer_free(c);
    g_clear_pointer(&c->sys, g_free);
    g_clear_pointer(&c->identity, g_free);
}
