/* System instructions: volume I, chapter 7 (Zicsr), 19 (Zicbom, Zicboz); volume II. What they do is in C, behind helpers;
 * here is what generated code does itself: the CSRs of every trap's entry and exit, and interrupt enables. */
#include "riscv.h"

static ir_val c32(struct riscv_t *t, uint32_t v) { return ir_const(t->ir, T_I32, v); }
static ir_val c64(struct riscv_t *t, uint64_t v) { return ir_const(t->ir, T_I64, v); }

/* ---- CSRs */

/* fflags, frm, fcsr: the host's sticky flags are theirs too. */
static bool is_fp_csr(unsigned csr) { return csr >= 1 && csr <= 3; }

/* The rows of single CSRs have their fields in the literal bits, so the word itself is looked at. */
static void csr_access(struct riscv_t *t, const struct riscv_insn *i, ir_val operand)
{
    x_put(t, i->rd, riscv_call(t, is_fp_csr(i->raw >> 20) ? RISCV_HELP_csr_fp : RISCV_HELP_csr, c32(t, i->raw), operand, 0, 0));
}

static bool fp_on(const struct riscv_t *t, const struct riscv_insn *i) { return riscv_has(i->features, RVF_F) && !(t->mode & MODE_FS_OFF); }

/* riscv_fflags(). The flags of struct float_status are in the opposite order, the host's in that with one between. */
static ir_val fflags(struct riscv_t *t)
{
    ir_val host = ir_state_load(t->ir, T_I32, offsetof(struct cpu, fp_control), 2);
    ir_val soft = ir_state_load(t->ir, T_I32, offsetof(struct riscv_cpu, fp_status.flags), 2), v = c32(t, 0);

    soft = ir_bin(t->ir, IR_OR, soft, ir_bin_imm(t->ir, IR_AND, host, 1));
    soft = ir_bin(t->ir, IR_OR, soft, ir_bin_imm(t->ir, IR_AND, ir_bin_imm(t->ir, IR_SHR, host, 1), 0x1e));
    for (unsigned n = 0; n < 5; n++) {
        ir_val at = n < 2 ? ir_bin_imm(t->ir, IR_SHR, soft, 4 - 2 * n) : ir_bin_imm(t->ir, IR_SHL, soft, 2 * n - 4);

        v = ir_bin(t->ir, IR_OR, v, ir_bin_imm(t->ir, IR_AND, at, 1u << n));
    }
    return ir_un(t->ir, IR_ZEXT32, v);
}

/* Compilers put back the flags of before a comparison that should raise none: mostly it did not. */
EMIT(csr)
{
    enum { FSFLAGS = 0x00101073, BUT_RS1 = 0xfff07fff };
    bool fsflags = (i->raw & BUT_RS1) == FSFLAGS && fp_on(t, i);
    ir_label same = fsflags ? ir_label_new(t->ir) : 0;

    if (fsflags)
        ir_brcond(t->ir, C_EQ, ir_bin_imm(t->ir, IR_AND, x_get(t, i->rs1), 31), fflags(t), same);
    csr_access(t, i, x_get(t, i->rs1));
    if (fsflags)
        ir_label_bind(t->ir, same);
}
EMIT(csri) { csr_access(t, i, c64(t, i->raw >> 15 & 31)); }

bool riscv_csr_goes_on(unsigned csr)
{
    static const uint16_t these[] = { 0x001, 0x105, 0x140, 0x141, 0x142, 0x143, 0x305, 0x340, 0x341, 0x342, 0x343 };

    for (unsigned n = 0; n < sizeof(these) / sizeof(these[0]); n++)
        if (these[n] == csr)            /* fflags; vector, scratch, epc, cause, tval of both privileges */
            return true;
    return false;
}

/* CSRs that are one field of the state, readable at their privilege whatever else is set. */
static const struct plain_csr { uint16_t csr; uint32_t offset; } plain_csrs[] = {
    { 0x140, offsetof(struct riscv_cpu, sscratch) }, { 0x142, offsetof(struct riscv_cpu, scause) },
    { 0x143, offsetof(struct riscv_cpu, stval) }, { 0x340, offsetof(struct riscv_cpu, mscratch) },
    { 0x342, offsetof(struct riscv_cpu, mcause) }, { 0x343, offsetof(struct riscv_cpu, mtval) },
};

static const struct plain_csr *plain_csr(const struct riscv_t *t, unsigned csr)
{
    if ((csr >> 8 & 3) > t->priv || (t->mode & MODE_VIRTUAL))
        return NULL;
    for (unsigned n = 0; n < sizeof(plain_csrs) / sizeof(plain_csrs[0]); n++)
        if (plain_csrs[n].csr == csr)
            return &plain_csrs[n];
    return NULL;
}

EMIT(csrr)
{
    const struct plain_csr *p = riscv_has(i->features, RVF_S) ? plain_csr(t, i->csr) : NULL;

    if (p)
        x_put(t, i->rd, ir_state_load(t->ir, T_I64, p->offset, 3));
    else if (i->csr == 1 && fp_on(t, i))
        x_put(t, i->rd, fflags(t));
    else if (i->csr == 2 && fp_on(t, i))
        x_put_whole(t, i->rd, ir_un(t->ir, IR_ZEXT32, ir_state_load(t->ir, T_I32, offsetof(struct riscv_cpu, frm), 2)));
    else
        csr_access(t, i, c64(t, 0));
}

EMIT(swap_sscratch)
{
    uint32_t field = offsetof(struct riscv_cpu, sscratch);
    ir_val v = x_get(t, i->rs1), old;

    if (!plain_csr(t, 0x140)) {
        csr_access(t, i, v);
        return;
    }
    old = ir_state_load(t->ir, T_I64, field, 3);
    ir_state_store(t->ir, field, 3, v);
    x_put(t, i->rd, old);
}

/* An interrupt that is let in is taken right after (volume II, 3.1.9): the CSR's write kicks the CPU for it, this is where
 * it is seen. Nothing else that code was translated for changes, so the region goes on. */
EMIT(sie_set)
{
    csr_access(t, i, c64(t, 2));
    ir_poll(t->ir, riscv_pc_wrap(t, riscv_next(i)));
}

/* The same with a register, as a lock's end has it (local_irq_restore()): seldom anything else changes. */
EMIT(status_set)
{
    uint64_t next = riscv_pc_wrap(t, riscv_next(i));
    ir_label same = ir_label_new(t->ir);

    csr_access(t, i, x_get(t, i->rs1));
    ir_brcond(t->ir, C_NE, riscv_call(t, RISCV_HELP_mode_kept, 0, 0, 0, 0), c64(t, 0), same);
    ir_exit_loop(t->ir, next);
    ir_label_bind(t->ir, same);
    ir_poll(t->ir, next);
}

/* ---- traps and their ends */

EMIT(ecall) { riscv_call(t, RISCV_HELP_ecall, 0, 0, 0, 0); }
EMIT(ebreak) { riscv_exception(t, CAUSE_BREAKPOINT, ir_pc(t->ir, i->pc)); }
EMIT(mret) { ir_exit_loop_at(t->ir, riscv_call(t, RISCV_HELP_mret, 0, 0, 0, 0)); }
EMIT(sret) { ir_exit_loop_at(t->ir, riscv_call(t, RISCV_HELP_sret, 0, 0, 0, 0)); }
EMIT(wfi) { riscv_call(t, RISCV_HELP_wfi, 0, 0, 0, 0); }

/* ---- memory management, caches */

EMIT(sfence_vma)
{
    riscv_call(t, RISCV_HELP_sfence_vma, c32(t, i->raw), x_get(t, i->rs1), x_get(t, i->rs2), 0);
}
EMIT(cbo) { riscv_call(t, RISCV_HELP_cbo, c32(t, i->raw), riscv_address(t, i->rs1, 0), 0, 0); }
