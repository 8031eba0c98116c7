/* A64 branches and pointer authentication: DDI 0487 C4.1.95, D8.10. */
#include "a64.h"

static ir_val imm32(struct arm_t *t, uint32_t v) { return ir_const(t->ir, T_I32, v); }

/* ---- pointer authentication. Keys: IA IB DA DB, as MODE_PAUTH_SHIFT's bits; one that is not in force leaves the pointer */

static bool key_on(const struct arm_t *t, unsigned key) { return t->mode >> (MODE_PAUTH_SHIFT + key) & 1; }

static ir_val pac(struct arm_t *t, unsigned key, ir_val ptr, ir_val modifier)
{
    return key_on(t, key) ? arm_call(t, ARM_HELP_pac, ptr, modifier, imm32(t, key), 0) : ptr;
}

enum { COMBINED = 8 };

static ir_val aut(struct arm_t *t, unsigned key, ir_val ptr, ir_val modifier, bool combined)
{
    return key_on(t, key) ? arm_call(t, ARM_HELP_aut, ptr, modifier, imm32(t, combined ? key | COMBINED : key), 0) : ptr;
}

static ir_val zero(struct arm_t *t) { return ir_const(t->ir, T_I64, 0); }

EMIT(pac) { a64_put_x(t, i->rd, pac(t, i->key, a64_x(t, i->rd), a64_x_sp(t, i->rn))); }
EMIT(aut) { a64_put_x(t, i->rd, aut(t, i->key, a64_x(t, i->rd), a64_x_sp(t, i->rn), false)); }
EMIT(pacz) { a64_put_x(t, i->rd, pac(t, i->key, a64_x(t, i->rd), zero(t))); }
EMIT(autz) { a64_put_x(t, i->rd, aut(t, i->key, a64_x(t, i->rd), zero(t), false)); }
EMIT(xpac) { a64_put_x(t, i->rd, arm_call(t, ARM_HELP_xpac, a64_x(t, i->rd), imm32(t, i->key), 0, 0)); }
EMIT(xpaclri) { a64_put_x(t, 30, arm_call(t, ARM_HELP_xpac, a64_x(t, 30), imm32(t, 0), 0, 0)); }
EMIT(pac_lr_z) { a64_put_x(t, 30, pac(t, (unsigned)i->row->arg, a64_x(t, 30), zero(t))); }
EMIT(pac_lr_sp) { a64_put_x(t, 30, pac(t, (unsigned)i->row->arg, a64_x(t, 30), a64_x_sp(t, 31))); }
EMIT(aut_lr_z) { a64_put_x(t, 30, aut(t, (unsigned)i->row->arg, a64_x(t, 30), zero(t), false)); }
EMIT(aut_lr_sp) { a64_put_x(t, 30, aut(t, (unsigned)i->row->arg, a64_x(t, 30), a64_x_sp(t, 31), false)); }
EMIT(pac1716) { a64_put_x(t, 17, pac(t, (unsigned)i->row->arg, a64_x(t, 17), a64_x(t, 16))); }
EMIT(aut1716) { a64_put_x(t, 17, aut(t, (unsigned)i->row->arg, a64_x(t, 17), a64_x(t, 16), false)); }

EMIT(pacga)
{
    ir_val n = a64_x(t, i->rn);

    a64_put_x(t, i->rd, arm_call(t, ARM_HELP_pacga, n, a64_x_sp(t, i->rm), 0, 0));
}

/* LDRAA, LDRAB: the base authenticated with a data key and no modifier. */
EMIT(ldraa)
{
    ir_val base = aut(t, 2 + i->key, a64_base(t, i->rn), zero(t), true), v;

    v = ir_load(t->ir, T_I64, arm_memop(t, 3), base, i->imm10 * 8);
    if (i->wback)
        a64_put_x_sp(t, i->rn, ir_bin_imm(t->ir, IR_ADD, base, (uint64_t)(int64_t)i->imm10 * 8));
    a64_put_x(t, i->rt, v);
}

/* ---- branches */

EMIT(b) { arm_goto(t, i->pc + (uint64_t)(int64_t)i->imm26); }

EMIT(bl)
{
    uint64_t target = i->pc + (uint64_t)(int64_t)i->imm26;

    a64_put_x(t, 30, ir_pc(t->ir, t->next));
    if (t->mode & MODE_STEP)
        ir_exit_loop(t->ir, target);
    else
        ir_call_to(t->ir, target, t->next);
}

/* To pc + offset if the test holds, else on. */
static void branch_if(struct arm_t *t, const struct a64_insn *i, struct arm_test test, int32_t offset)
{
    ir_label skip = ir_label_new(t->ir);

    arm_brcond(t, ir_cond_invert(test.cond), test.a, test.b, skip);
    arm_goto(t, i->pc + (uint64_t)(int64_t)offset);
    arm_bind(t, skip);
}

EMIT(b_cond)
{
    if (i->cond >= 14)
        arm_goto(t, i->pc + (uint64_t)(int64_t)i->imm19);
    else
        branch_if(t, i, arm_condition(t, i->cond), i->imm19);
}

EMIT(cbz)
{
    ir_val v = a64_r(t, i->sf, i->rt);

    branch_if(t, i, (struct arm_test){ i->op ? C_NE : C_EQ, v, ir_const(t->ir, i->sf ? T_I64 : T_I32, 0) }, i->imm19);
}

EMIT(tbz)
{
    bool wide = i->bit > 31;
    ir_val v = wide ? a64_x(t, i->rt) : a64_w(t, i->rt), mask;

    mask = ir_const(t->ir, wide ? T_I64 : T_I32, UINT64_C(1) << i->bit);
    branch_if(t, i, (struct arm_test){ i->op ? C_TSTNE : C_TSTEQ, v, mask }, i->imm14);
}

/* PSTATE.BTYPE of an indirect branch: DDI 0487 D8.4.6. */
static void set_btype(struct arm_t *t, unsigned rn, bool call)
{
    if (!arm_t_has(t, AF_BTI) || t->mode & MODE_NO_BTYPE)
        return;
    if (call || rn == 16 || rn == 17 || !(t->mode & MODE_BTI))          /* without that mode no guarded page was ever run from */
        ir_state_store(t->ir, offsetof(struct arm_cpu, btype), 0, imm32(t, call ? 2 : 1));
    else
        arm_call(t, ARM_HELP_btype_jump, 0, 0, 0, 0);
}

static void jump(struct arm_t *t, unsigned rn, ir_val target)
{
    set_btype(t, rn, false);
    arm_goto_indirect(t, target, EXIT_INDIRECT_JUMP);
}

static void call(struct arm_t *t, unsigned rn, ir_val target)
{
    set_btype(t, rn, true);
    a64_put_x(t, 30, ir_pc(t->ir, t->next));
    arm_goto_indirect(t, target, EXIT_CALL);
}

EMIT(br) { jump(t, i->rn, a64_x(t, i->rn)); }
EMIT(blr) { call(t, i->rn, a64_x(t, i->rn)); }
EMIT(ret) { arm_goto_indirect(t, a64_x(t, i->rn), EXIT_RETURN); }
EMIT(braaz) { jump(t, i->rn, aut(t, i->key, a64_x(t, i->rn), zero(t), true)); }
EMIT(blraaz) { call(t, i->rn, aut(t, i->key, a64_x(t, i->rn), zero(t), true)); }
EMIT(braa) { jump(t, i->rn, aut(t, i->key, a64_x(t, i->rn), a64_x_sp(t, i->rm), true)); }
EMIT(blraa) { call(t, i->rn, aut(t, i->key, a64_x(t, i->rn), a64_x_sp(t, i->rm), true)); }
EMIT(retaa) { arm_goto_indirect(t, aut(t, i->key, a64_x(t, 30), a64_x_sp(t, 31), true), EXIT_RETURN); }

/* ---- exception return */

static void exception_return(struct arm_t *t, const struct a64_insn *i, bool authenticate)
{
    ir_val target;

    if (!t->el) {
        arm_undefined(t);
        return;
    }
    target = ir_state_load(t->ir, T_I64, (uint32_t)(offsetof(struct arm_cpu, sys.elr) + 8 * t->el), 3);
    if (authenticate)
        target = aut(t, i->key, target, a64_x_sp(t, 31), true);
    ir_exit_loop_at(t->ir, arm_call(t, ARM_HELP_eret, target, 0, 0, 0));
}

EMIT(eret) { exception_return(t, i, false); }
EMIT(eretaa) { exception_return(t, i, true); }
/* Halting debug state does not exist here: DRPS and DCPS outside of it are undefined. */
EMIT(drps) { arm_undefined(t); }
EMIT(dcps) { arm_undefined(t); }
