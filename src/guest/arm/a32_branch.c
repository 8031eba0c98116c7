/* A32 and T32: branches, IT, exceptions that instructions ask for. DDI 0487 F2.3, F2.12. */
#include "a32.h"

enum { EC_SVC32 = 0x11, EC_BKPT32 = 0x38 };

static void link_return(struct arm_t *t) { ir_put(t->ir, SLOT_R + 14, a32_un(t, IR_TRUNC, ir_pc(t->ir, t->next | !!(t->mode & MODE_THUMB)))); }
static uint64_t target(const struct a32_insn *i) { return (uint32_t)(i->pc + (i->thumb ? 4 : 8) + (uint64_t)(int64_t)i->imm); }

EMIT32(b) { a32_goto(t, target(i)); }

EMIT32(b_cond)
{
    struct arm_test test = a32_test(t, i->bcond);
    ir_label over = ir_label_new(t->ir);

    arm_brcond(t, ir_cond_invert(test.cond), test.a, test.b, over);
    a32_goto(t, target(i));
    arm_bind(t, over);
}

EMIT32(cbz)
{
    ir_label over = ir_label_new(t->ir);

    arm_brcond(t, i->op ? C_EQ : C_NE, a32_r(t, i, i->rn), a32_k(t, 0), over);
    a32_goto(t, target(i));
    arm_bind(t, over);
}

EMIT32(bl)
{
    link_return(t);
    if (t->mode & MODE_STEP || t->mode >> MODE_IT_SHIFT & 0xff || t->a32.it & 15)
        a32_goto(t, target(i));
    else
        ir_call_to(t->ir, target(i), t->next);
}

EMIT32(blx_imm)
{
    uint64_t pc = i->thumb ? target(i) & ~UINT64_C(3) : target(i);

    link_return(t);
    a32_it_done(t);
    a32_leave_other(t, a32_widen(t, a32_un(t, IR_TRUNC, ir_pc(t->ir, pc))), EXIT_INDIRECT_JUMP);
}

EMIT32(bx) { a32_bx(t, a32_r(t, i, i->rm), i->rm == 14 ? EXIT_RETURN : EXIT_INDIRECT_JUMP); }

EMIT32(blx_reg)
{
    ir_val v = a32_r(t, i, i->rm);

    link_return(t);
    a32_bx(t, v, EXIT_INDIRECT_JUMP);
}

EMIT32(it)
{
    t->a32.it_next = (uint8_t)(i->fc << 4 | i->itmask);
    ir_put(t->ir, SLOT_IT, a32_k(t, t->a32.it_next));
}

/* ---- exceptions: syndromes of G8.2.62. IL: a 32-bit instruction */

static uint32_t syndrome(const struct a32_insn *i, unsigned ec, uint32_t iss)
{
    return (uint32_t)ec << 26 | (i->len == 4 ? 1u << 25 : 0) | iss;
}

static void semihosting_if(struct arm_t *t, const struct a32_insn *i, bool is_call)
{
    if (is_call)
        arm_call(t, ARM_HELP_semihosting, a32_k(t, i->len), 0, 0, 0);
}

EMIT32(svc)
{
    semihosting_if(t, i, i->imm24 == (i->thumb ? 0xab : 0x123456));
    a32_it_done(t);                     /* what is returned to is the next instruction */
    a32_exit_at(t, arm_call(t, ARM_HELP_svc, a32_k(t, syndrome(i, EC_SVC32, i->imm24 & 0xffff)), 0, 0, 0));
}

EMIT32(bkpt)
{
    semihosting_if(t, i, i->thumb && i->wide == 0xab);
    arm_exception(t, syndrome(i, EC_BKPT32, i->wide));
}

EMIT32(hlt)
{
    semihosting_if(t, i, i->wide == (i->thumb ? 0x3c : 0xf000));
    arm_undefined(t);                   /* halting debug is not there */
}

EMIT32(udf) { arm_undefined(t); }

EMIT32(hvc)
{
    if (!(t->mode & MODE_PRIV32))
        arm_undefined(t);
    else
        a32_exit_at(t, arm_call(t, ARM_HELP_hvc, a32_k(t, i->wide), 0, 0, 0));
}

EMIT32(smc)
{
    a32_it_done(t);
    if (!(t->mode & MODE_PRIV32))
        arm_undefined(t);
    else
        a32_exit_at(t, arm_call(t, ARM_HELP_smc, a32_k(t, i->imm4), 0, 0, 0));
}
