/* A32 and T32: status registers, exception return, hints, barriers, coprocessors 14 and 15. DDI 0487 F2.5, F2.13, G1. */
#include "a32.h"

static bool privileged(const struct arm_t *t) { return t->mode & MODE_PRIV32; }

/* ---- CPSR, SPSR */

EMIT32(mrs_cpsr)
{
    ir_val v, ge;

    if (privileged(t)) {
        a32_put(t, i->rd, arm_call(t, ARM_HELP_get_cpsr, 0, 0, 0, 0));
        return;
    }
    v = a32_bin(t, IR_OR, a32_nzcv(t), a32_bini(t, IR_SHL, ir_state_load(t->ir, T_I32, offsetof(struct arm_cpu, q32), 0), 27));
    ge = a32_bini(t, IR_MUL, a32_bini(t, IR_AND, ir_get(t->ir, SLOT_GE), 0x08040201), 0x01010101);     /* arm_ge_flags() << 24 */
    v = a32_bin(t, IR_OR, v, a32_bini(t, IR_AND, a32_bini(t, IR_SHR, ge, 8), 0xf0000));
    v = a32_bin(t, IR_OR, v, a32_bini(t, IR_SHL, ir_state_load(t->ir, T_I32, offsetof(struct arm_cpu, e32), 0), 9));
    a32_put(t, i->rd, a32_bini(t, IR_OR, v, 16));
}

/* arm_ge_bytes() */
static ir_val ge_bytes(struct arm_t *t, ir_val flags)
{
    ir_val ones = a32_bini(t, IR_AND, a32_bini(t, IR_MUL, flags, 0x00204081), 0x01010101);     /* flag k at bit 8k */

    return a32_bini(t, IR_MUL, ones, 0xff);
}

/* CPSRWriteByInstr(): bytes by mask. APSR alone is done here. */
static void msr_cpsr(struct arm_t *t, const struct a32_insn *i, ir_val v)
{
    uint32_t mask = 0;

    if (privileged(t) && i->mask != 8) {
        for (unsigned n = 0; n < 4; n++)
            mask |= i->mask >> n & 1 ? 0xffu << 8 * n : 0;
        a32_it_done(t);
        arm_call(t, ARM_HELP_set_cpsr, v, a32_k(t, mask), 0, 0);
        a32_exit_next(t);
        return;
    }
    if (i->mask & 4)
        ir_put(t->ir, SLOT_GE, ge_bytes(t, ir_extract(t->ir, v, 16, 4)));
    if (i->mask & 8) {
        ir_state_store(t->ir, offsetof(struct arm_cpu, q32), 0, ir_extract(t->ir, v, 27, 1));
        a32_set_nzcv(t, v);
    }
    if (i->mask & 2) {                  /* E */
        ir_state_store(t->ir, offsetof(struct arm_cpu, e32), 0, ir_extract(t->ir, v, 9, 1));
        a32_exit_next(t);
    }
}

/* MSR (immediate) is in A32 alone: A32ExpandImm(). */
static ir_val immediate(struct arm_t *t, const struct a32_insn *i)
{
    unsigned n = i->imm12 >> 8 << 1;
    uint32_t v = i->imm12 & 0xff;

    return a32_k(t, n ? v >> n | v << (32 - n) : v);
}

EMIT32(msr_cpsr) { msr_cpsr(t, i, a32_r(t, i, i->rn)); }
EMIT32(msr_cpsr_imm) { msr_cpsr(t, i, immediate(t, i)); }
EMIT32(mrs_spsr) { a32_put(t, i->rd, arm_call(t, ARM_HELP_get_spsr, 0, 0, 0, 0)); }

static void msr_spsr(struct arm_t *t, const struct a32_insn *i, ir_val v)
{
    uint32_t mask = 0;

    for (unsigned n = 0; n < 4; n++)
        mask |= i->mask >> n & 1 ? 0xffu << 8 * n : 0;
    arm_call(t, ARM_HELP_set_spsr, v, a32_k(t, mask), 0, 0);
}

EMIT32(msr_spsr) { msr_spsr(t, i, a32_r(t, i, i->rn)); }
EMIT32(msr_spsr_imm) { msr_spsr(t, i, immediate(t, i)); }
EMIT32(mrs_banked) { a32_put(t, i->rd, arm_call(t, ARM_HELP_mrs_banked, a32_k(t, i->raw), 0, 0, 0)); }
EMIT32(msr_banked) { arm_call(t, ARM_HELP_msr_banked, a32_k(t, i->raw), a32_r(t, i, i->rn), 0, 0); }

enum { CPSR_A = 1 << 8, CPSR_I = 1 << 7, CPSR_F = 1 << 6, CPSR_M = 31, CPSR_PAN = 1 << 22 };

static void change_cpsr(struct arm_t *t, uint32_t value, uint32_t mask)
{
    if (!privileged(t) || !mask)        /* in User mode it does nothing */
        return;
    arm_call(t, ARM_HELP_set_cpsr, a32_k(t, value), a32_k(t, mask), 0, 0);
    a32_exit_next(t);
}

EMIT32(cps)
{
    uint32_t mask = i->imod >= 2 ? (uint32_t)i->aif << 6 : 0;

    change_cpsr(t, (i->imod == 3 ? mask : 0) | i->mode, mask | (i->m ? CPSR_M : 0));
}

EMIT32(cps_t16)
{
    uint32_t mask = (uint32_t)i->aif << 6;

    change_cpsr(t, i->im ? mask : 0, mask);
}

EMIT32(setpan) { change_cpsr(t, i->e ? CPSR_PAN : 0, CPSR_PAN); }

EMIT32(setend)
{
    ir_state_store(t->ir, offsetof(struct arm_cpu, e32), 0, a32_k(t, i->e));
    a32_exit_next(t);
}

/* ---- exception return: SUBS PC, LR; ERET; RFE; SRS */

EMIT32(subs_pc_lr)
{
    a32_it_done(t);
    a32_exit_at(t, arm_call(t, ARM_HELP_exc_return32, a32_bini(t, IR_SUB, a32_r(t, i, 14), i->imm8), 0, 0, 0));
}

EMIT32(eret)
{
    ir_val elr = ir_state_load(t->ir, T_I64, offsetof(struct arm_cpu, sys.elr[2]), 3);

    if ((t->mode >> MODE_MODE32_SHIFT & 31) == 26)      /* Hyp */
        a32_exit_at(t, arm_call(t, ARM_HELP_eret, elr, 0, 0, 0));
    else
        a32_exit_at(t, arm_call(t, ARM_HELP_exc_return32, a32_r(t, i, 14), 0, 0, 0));
}

/* Increment, before; T32 rows say so by arg: 1 decrement before, 2 increment after. */
static void direction(const struct a32_insn *i, bool *up, bool *before)
{
    *up = i->row->arg ? i->row->arg == 2 : i->u;
    *before = i->row->arg ? i->row->arg == 1 : i->p;
}

static memop word(struct arm_t *t) { return (arm_memop(t, MEM_32) & ~(memop)MEM_ALIGN_MASK) | 2 << MEM_ALIGN_SHIFT; }

EMIT32(rfe)
{
    bool up, before;
    int32_t disp;
    ir_val n = a32_r(t, i, i->rn), base = a32_widen(t, n), pc, psr;

    direction(i, &up, &before);
    disp = up ? (before ? 4 : 0) : (before ? -8 : -4);
    pc = ir_load(t->ir, T_I32, word(t), base, disp);
    psr = ir_load(t->ir, T_I32, word(t), base, disp + 4);
    if (i->w)
        ir_put_early(t->ir, SLOT_R + i->rn, a32_bini(t, IR_ADD, n, (uint32_t)(up ? 8 : -8)));
    a32_exit_at(t, arm_call(t, ARM_HELP_rfe, pc, psr, 0, 0));
}

EMIT32(srs)
{
    bool up, before;
    int32_t disp;
    ir_val spsr, sp, base;

    direction(i, &up, &before);
    disp = up ? (before ? 4 : 0) : (before ? -8 : -4);
    spsr = arm_call(t, ARM_HELP_get_spsr, 0, 0, 0, 0);
    sp = arm_call(t, ARM_HELP_bank_read, a32_k(t, i->mode), a32_k(t, 13), 0, 0);
    base = a32_widen(t, sp);
    ir_store(t->ir, word(t), base, disp, a32_r(t, i, 14));
    ir_store(t->ir, word(t), base, disp + 4, spsr);
    if (i->w)
        arm_call(t, ARM_HELP_bank_write, a32_k(t, i->mode), a32_k(t, 13), a32_bini(t, IR_ADD, sp, (uint32_t)(up ? 8 : -8)), 0);
}

/* ---- hints and barriers */

EMIT32(hint) { }
EMIT32(hint_yield) { arm_call(t, ARM_HELP_yield, 0, 0, 0, 0); }
EMIT32(hint_sev) { arm_call(t, ARM_HELP_sev, 0, 0, 0, 0); }
EMIT32(hint_sevl) { arm_call(t, ARM_HELP_sevl, 0, 0, 0, 0); }

EMIT32(hint_wfe) { arm_call(t, ARM_HELP_wfe, 0, 0, 0, 0); }

EMIT32(hint_wfi)
{
    arm_call(t, ARM_HELP_wfi, 0, 0, 0, 0);
    a32_exit_next(t);
}

static unsigned orders(unsigned option)
{
    switch (option & 3) {
    case 1: return FENCE_LOADS;
    case 2: return FENCE_WW;
    default: return FENCE_ALL;
    }
}

EMIT32(dmb) { ir_fence(t->ir, orders(i->opt)); }

EMIT32(dsb)
{
    ir_fence(t->ir, orders(i->opt));
    if (privileged(t))
        arm_call(t, ARM_HELP_dsb, 0, 0, 0, 0);
}

EMIT32(isb) { a32_exit_next(t); }
EMIT32(sb) { a32_exit_next(t); }

/* ---- coprocessors: T32 has the same bits */

EMIT32(mrc)
{
    int32_t field = arm_cp_plain(t->features, i->raw, t->el);
    ir_val v;

    if (field >= 0)
        v = ir_state_load(t->ir, T_I32, (uint32_t)field, 2);
    else
        v = arm_call(t, ARM_HELP_cp_read, a32_k(t, i->raw), 0, 0, 0);
    if (i->rt == 15)
        a32_set_nzcv(t, v);
    else
        a32_put(t, i->rt, v);
}

EMIT32(mcr)
{
    ir_val v = a32_r(t, i, i->rt);

    if (i->cp && i->opc1 == 0 && i->crn == 7) {         /* CP15DMB, CP15DSB, CP15ISB */
        if ((i->crm == 10 && (i->opc2 == 4 || i->opc2 == 5)))
            ir_fence(t->ir, FENCE_ALL);
    }
    a32_it_done(t);
    arm_call(t, ARM_HELP_cp_write, a32_k(t, i->raw), v, 0, 0);
    a32_exit_next(t);
}

EMIT32(mrrc)
{
    ir_val v = arm_call(t, ARM_HELP_cp_read64, a32_k(t, i->raw), 0, 0, 0);

    a32_put(t, i->rt, a32_un(t, IR_TRUNC, v));
    a32_put(t, i->rt2, a32_un(t, IR_TRUNC, a32_bini(t, IR_SHR, v, 32)));
}

EMIT32(mcrr)
{
    ir_val v = a32_bin(t, IR_OR, a32_widen(t, a32_r(t, i, i->rt)), a32_bini(t, IR_SHL, a32_widen(t, a32_r(t, i, i->rt2)), 32));

    a32_it_done(t);
    arm_call(t, ARM_HELP_cp_write64, a32_k(t, i->raw), v, 0, 0);
    a32_exit_next(t);
}

EMIT32(ldc) { arm_undefined(t); }       /* DBGDTR: external debug is not there */
