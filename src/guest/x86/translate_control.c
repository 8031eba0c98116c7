/* Jumps, calls, loops, the stack. SDM vol. 2 and vol. 1, chapter 6. Far transfers and interrupts are in
 * translate_system.c. */
#include "x86.h"

static ir_val imm32(struct x86_t *t, uint32_t v) { return ir_const(t->ir, T_I32, v); }

/* ---- branches */

/* A leader of the region that lies ahead: a branch may name its label without a poll. */
static bool forward_leader(struct x86_t *t, uint64_t pc, ir_label *label)
{
    if (pc <= t->i->pc || x86_leaves(t))
        return false;
    for (unsigned n = 0; n < t->ir->nleaders; n++)
        if (t->ir->leaders[n].pc == pc && !t->ir->leaders[n].bound) {
            *label = t->ir->leaders[n].label;
            return true;
        }
    return false;
}

/* A near transfer beyond the limit of CS faults itself, not at its target. */
static void check_target(struct x86_t *t, uint64_t target)
{
    uint64_t ip = (uint32_t)(target - t->cs_base);

    if (!t->code64 && x86_code_limited(t->mode, ip))
        x86_call(t, HELP_check_fetch, ir_const(t->ir, T_I64, ip), 0, 0, 0);
}

static ir_val checked_ip(struct x86_t *t, ir_val ip, unsigned bytes)
{
    if (!t->code64 && x86_code_limited(t->mode, bytes == 2 ? 0xffff : 0xffffffff))
        x86_call(t, HELP_check_fetch, x86_widen(t, x86_narrow(t, ip, bytes)), 0, 0, 0);
    return ip;
}

static void branch_if(struct x86_t *t, struct x86_test test, uint64_t target)
{
    bool limited = !t->code64 && x86_code_limited(t->mode, (uint32_t)(target - t->cs_base));
    ir_label l;

    if (!limited && forward_leader(t, target, &l)) {
        x86_brcond(t, test.cond, test.a, test.b, l);
        return;
    }
    l = ir_label_new(t->ir);
    x86_brcond(t, ir_cond_invert(test.cond), test.a, test.b, l);
    check_target(t, target);
    x86_goto(t, target);
    x86_bind(t, l);
}

EMIT(jcc)
{
    branch_if(t, x86_condition_test(t, (unsigned)x86_arg(i)), x86_target(i, t->mode));
}

EMIT(jmp)
{
    check_target(t, x86_target(i, t->mode));
    x86_goto(t, x86_target(i, t->mode));
}

static ir_val counter(struct x86_t *t)
{
    return x86_get_reg(t, R_RCX, t->i->adsize);
}

static struct x86_test test_zero(struct x86_t *t, enum ir_cond cond, ir_val v)
{
    return (struct x86_test){ cond, v, ir_const(t->ir, ir_type_of(t->ir, v), 0) };
}

EMIT(jcxz) { branch_if(t, test_zero(t, C_EQ, counter(t)), x86_target(i, t->mode)); }

/* LOOPNE (0), LOOPE (1), LOOP (2) */
EMIT(loop)
{
    ir_val n = ir_bin_imm(t->ir, IR_SUB, counter(t), 1), more, zf;

    n = x86_narrow(t, n, i->adsize);
    if (x86_arg(i) == 2) {
        x86_put_reg(t, R_RCX, i->adsize, n);
        branch_if(t, test_zero(t, C_NE, n), x86_target(i, t->mode));
        return;
    }
    zf = x86_condition(t, x86_arg(i) ? 4 : 5);
    more = ir_setcc(t->ir, T_I32, C_NE, n, ir_const(t->ir, ir_type_of(t->ir, n), 0));
    x86_put_reg(t, R_RCX, i->adsize, n);
    branch_if(t, test_zero(t, C_NE, ir_bin(t->ir, IR_AND, more, zf)), x86_target(i, t->mode));
}

/* ---- calls */

/* (E)IP or RIP of a linear address, as it is pushed */
static ir_val return_address(struct x86_t *t, uint64_t pc, unsigned bytes)
{
    ir_val v = ir_pc(t->ir, pc);

    if (t->cs_base)
        v = ir_bin_imm(t->ir, IR_SUB, v, t->cs_base);
    return x86_narrow(t, v, bytes);
}

/* Linear address of an instruction pointer value */
static ir_val code_address(struct x86_t *t, ir_val ip, unsigned bytes)
{
    if (bytes == 8)
        return ip;
    ip = x86_widen(t, x86_narrow(t, ip, bytes));
    if (!t->cs_base)
        return ip;
    return x86_widen(t, ir_un(t->ir, IR_TRUNC, ir_bin_imm(t->ir, IR_ADD, ip, t->cs_base)));
}

EMIT(call)
{
    check_target(t, x86_target(i, t->mode));
    x86_push(t, return_address(t, x86_next(i), i->opsize), i->opsize);
    if (x86_leaves(t))
        ir_exit_loop(t->ir, x86_target(i, t->mode));
    else
        ir_call_to(t->ir, x86_target(i, t->mode), x86_next(i));
}

EMIT(call_indirect)
{
    ir_val target = code_address(t, checked_ip(t, x86_read(t, 0), i->opsize), i->opsize);

    x86_push(t, return_address(t, x86_next(i), i->opsize), i->opsize);
    x86_goto_indirect(t, target, EXIT_CALL);
}

EMIT(jmp_indirect)
{
    x86_goto_indirect(t, code_address(t, checked_ip(t, x86_read(t, 0), i->opsize), i->opsize), EXIT_INDIRECT_JUMP);
}

EMIT(ret)
{
    ir_val target = code_address(t, checked_ip(t, x86_pop_value(t, i->opsize, 0), i->opsize), i->opsize);

    x86_add_sp(t, ir_const(t->ir, T_I64, (uint64_t)(i->opsize + (i->op[0].kind == XO_IMM ? i->imm : 0))));
    x86_goto_indirect(t, target, EXIT_RETURN);
}

/* ---- stack */

EMIT(push) { x86_push(t, x86_read(t, 0), i->opsize); }

EMIT(pop)
{
    ir_val v = x86_pop_value(t, i->opsize, 0);

    t->pop_bytes = i->opsize;
    if (i->op[0].kind == XO_MEM) {
        x86_write(t, 0, v);
        x86_add_sp(t, ir_const(t->ir, T_I64, i->opsize));
    } else {            /* POP rSP: the popped value wins */
        x86_add_sp(t, ir_const(t->ir, T_I64, i->opsize));
        x86_write(t, 0, v);
    }
}

EMIT(pusha)
{
    unsigned bytes = i->opsize, mask_bytes = t->mode & MODE_SS32 ? 4 : 2;

    for (unsigned reg = 0; reg < 8; reg++) {
        ir_val sp = ir_bin_imm(t->ir, IR_SUB, ir_get(t->ir, SLOT_REG + R_RSP), (reg + 1) * bytes);

        sp = x86_segment_linear(t, S_SS, x86_widen(t, x86_narrow(t, sp, mask_bytes)), bytes, true);
        ir_store(t->ir, x86_memop(t, bytes), sp, 0, x86_get_reg(t, reg, bytes));
    }
    x86_add_sp(t, ir_const(t->ir, T_I64, (uint64_t)-(int64_t)(8 * bytes)));
}

EMIT(popa)
{
    ir_val v[8];

    for (unsigned reg = 0; reg < 8; reg++)
        v[reg] = x86_pop_value(t, i->opsize, (7 - reg) * i->opsize);
    for (unsigned reg = 0; reg < 8; reg++)
        if (reg != R_RSP)
            x86_put_reg(t, reg, i->opsize, v[reg]);
    x86_add_sp(t, ir_const(t->ir, T_I64, 8 * i->opsize));
}

EMIT(enter)
{
    uint32_t info = i->opsize | (uint32_t)(i->imm2 & 31) << 8 | t->mmu << 16 | (t->code64 ? 1u << 20 : 0) |
                    (t->mode & MODE_SS32 ? 1u << 21 : 0);

    x86_call(t, HELP_enter, imm32(t, info), imm32(t, (uint32_t)i->imm), 0, 0);
}

EMIT(leave)
{
    unsigned width = t->code64 ? 8 : t->mode & MODE_SS32 ? 4 : 2;
    ir_val bp = x86_widen(t, x86_get_reg(t, R_RBP, width));
    ir_val v = ir_load(t->ir, x86_type(i->opsize), x86_memop(t, i->opsize),
                       x86_segment_linear(t, S_SS, bp, i->opsize, false), 0);

    x86_put_reg(t, R_RSP, width, ir_bin_imm(t->ir, IR_ADD, bp, i->opsize));
    x86_put_reg(t, R_RBP, i->opsize, v);
}

EMIT(bound)
{
    unsigned bytes = i->opsize;
    ir_label bad = ir_label_new(t->ir), good = ir_label_new(t->ir);
    ir_val v = x86_sext(t, x86_read(t, 0), bytes), addr = x86_linear(t, i, 2 * bytes, false), low, high;

    low = x86_sext(t, ir_load(t->ir, T_I32, x86_memop(t, bytes), addr, 0), bytes);
    high = x86_sext(t, ir_load(t->ir, T_I32, x86_memop(t, bytes), addr, (int32_t)bytes), bytes);
    low = ir_setcc(t->ir, T_I32, C_LT, v, low);
    x86_brcond(t, C_NE, ir_bin(t->ir, IR_OR, low, ir_setcc(t->ir, T_I32, C_GT, v, high)), imm32(t, 0), bad);
    ir_br(t->ir, good);
    x86_bind(t, bad);
    x86_exception(t, X_BR);
    x86_bind(t, good);
}
