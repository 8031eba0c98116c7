/* AArch32: conditions, IT blocks, flags, control; how one instruction is emitted. DDI 0487 F1.2, E1.2. */
#include "rhea/base/log.h"
#include "a32.h"

enum { APART = CC_NZ_APART | CC_C_APART };

/* ---- registers */

ir_val a32_pc(struct arm_t *t, const struct a32_insn *i, bool aligned, int32_t offset)
{
    uint64_t pc = i->pc + (i->thumb ? 4 : 8);

    if (aligned)
        pc &= ~UINT64_C(3);
    return a32_un(t, IR_TRUNC, ir_pc(t->ir, pc + (uint64_t)(int64_t)offset));
}

ir_val a32_r(struct arm_t *t, const struct a32_insn *i, unsigned r)
{
    return r == 15 ? a32_pc(t, i, false, 0) : ir_get(t->ir, SLOT_R + r);
}

void a32_put(struct arm_t *t, unsigned r, ir_val v)
{
    if (t->a32.select)
        v = ir_select(t->ir, t->a32.test.cond, t->a32.test.a, t->a32.test.b, v, ir_get(t->ir, SLOT_R + r));
    ir_put(t->ir, SLOT_R + r, v);
}

/* ---- flags */

static unsigned known_apart(const struct arm_t *t) { return t->cc_op >= 0 ? (unsigned)t->cc_op & APART : t->a32.apart; }

static void set_apart(struct arm_t *t, unsigned bits)
{
    if (t->cc_op < 0) {
        if (bits & ~(unsigned)t->a32.apart)
            ir_put(t->ir, SLOT_CC_OP, a32_bini(t, IR_OR, ir_get(t->ir, SLOT_CC_OP), bits));
        t->a32.apart |= bits;
        return;
    }
    if (bits & ~(unsigned)t->cc_op) {
        /* What is static knowledge only (CC_ADX) is not what the slot holds. */
        if ((t->cc_op & CC_BASE_MASK) < CC_COUNT)
            ir_put(t->ir, SLOT_CC_OP, a32_k(t, (unsigned)t->cc_op | bits));
        else
            ir_put(t->ir, SLOT_CC_OP, a32_bini(t, IR_OR, ir_get(t->ir, SLOT_CC_OP), bits));
        t->cc_op |= (int)bits;
    }
}

void a32_set_nz(struct arm_t *t, ir_val result)
{
    ir_put(t->ir, SLOT_CC_NZ, result);
    set_apart(t, CC_NZ_APART);
}

void a32_set_nzc(struct arm_t *t, ir_val result, ir_val carry)
{
    ir_put(t->ir, SLOT_CC_NZ, result);
    ir_put(t->ir, SLOT_CC_C, carry);
    set_apart(t, APART);
}

void a32_set_cc(struct arm_t *t, enum arm_cc op, ir_val a, ir_val b)
{
    arm_set_cc(t, op, a, b);
    t->a32.apart = 0;
}

void a32_set_nzcv(struct arm_t *t, ir_val nzcv)
{
    arm_set_nzcv(t, nzcv);
    t->a32.apart = 0;
}

static struct arm_test base_condition(struct arm_t *t, unsigned cond)
{
    struct arm_test test;
    int op = t->cc_op;

    t->cc_op &= CC_BASE_MASK;
    test = arm_condition(t, cond);
    t->cc_op = op;
    return test;
}

/* Everything looked up at run time. */
static ir_val nzcv_unknown(struct arm_t *t)
{
    ir_val op = a32_bin(t, IR_OR, ir_get(t->ir, SLOT_CC_OP), a32_bini(t, IR_SHL, ir_get(t->ir, SLOT_CC_C), 8));

    return arm_call(t, ARM_HELP_a32_nzcv, op, ir_get(t->ir, SLOT_CC_A), ir_get(t->ir, SLOT_CC_B), ir_get(t->ir, SLOT_CC_NZ));
}

ir_val a32_nzcv(struct arm_t *t)
{
    ir_val v;
    int op = t->cc_op;

    if (op < 0 || (op & APART))
        return nzcv_unknown(t);
    t->cc_op = op & CC_BASE_MASK;
    v = arm_nzcv(t);
    t->cc_op = op;
    return v;
}

static struct arm_test test_k(struct arm_t *t, enum ir_cond cond, ir_val a, uint32_t k)
{
    return (struct arm_test){ cond, a, a32_k(t, k) };
}

enum { T_EQ, T_CS, T_MI, T_VS, T_HI, T_GE, T_GT, T_AL };        /* conditions by their even code */

static struct arm_test nzcv_test(struct arm_t *t, ir_val f, unsigned kind)
{
    static const uint32_t bit[] = { [T_EQ] = 1u << 30, [T_CS] = 1u << 29, [T_MI] = 1u << 31, [T_VS] = 1u << 28 };
    ir_val v;

    if (kind <= T_VS)
        return test_k(t, C_TSTNE, f, bit[kind]);
    if (kind == T_HI)
        return test_k(t, C_EQ, a32_bini(t, IR_AND, f, 3u << 29), 1u << 29);
    v = a32_bin(t, IR_XOR, f, a32_bini(t, IR_SHL, f, 3));       /* bit 31: N != V */
    if (kind == T_GT)
        v = a32_bin(t, IR_OR, v, a32_bini(t, IR_SHL, f, 1));    /* ... or Z */
    return test_k(t, C_GE, v, 0);
}

static ir_val setcc(struct arm_t *t, struct arm_test test)
{
    return ir_setcc(t->ir, T_I32, test.cond, test.a, test.b);
}

/* N and Z are of the slot cc_nz; C and V of another operation. */
static struct arm_test mixed_test(struct arm_t *t, unsigned kind)
{
    ir_val nz = ir_get(t->ir, SLOT_CC_NZ), v, zero = ir_setcc(t->ir, T_I32, C_EQ, nz, a32_k(t, 0));

    if (kind == T_HI)
        return test_k(t, C_NE, a32_bin(t, IR_ANDC, a32_carry(t), zero), 0);
    v = a32_bin(t, IR_XOR, a32_bini(t, IR_SHR, nz, 31), setcc(t, base_condition(t, 6)));        /* N != V */
    if (kind == T_GT)
        v = a32_bin(t, IR_OR, v, zero);
    return test_k(t, C_EQ, v, 0);
}

static struct arm_test even_test(struct arm_t *t, unsigned kind)
{
    unsigned apart = known_apart(t);

    if (kind == T_AL)
        return test_k(t, C_EQ, a32_k(t, 0), 0);
    if (apart & CC_NZ_APART && (kind == T_EQ || kind == T_MI))
        return test_k(t, kind == T_EQ ? C_EQ : C_LT, ir_get(t->ir, SLOT_CC_NZ), 0);
    if (apart & CC_C_APART && kind == T_CS)
        return test_k(t, C_NE, ir_get(t->ir, SLOT_CC_C), 0);
    if (t->cc_op < 0)
        return nzcv_test(t, nzcv_unknown(t), kind);
    if (apart && kind >= T_HI)
        return mixed_test(t, kind);
    return base_condition(t, kind * 2);
}

struct arm_test a32_test(struct arm_t *t, unsigned cond)
{
    struct arm_test test = even_test(t, cond >> 1 & 7);

    if (cond & 1 && cond < 14)
        test.cond = ir_cond_invert(test.cond);
    return test;
}

ir_val a32_carry(struct arm_t *t)
{
    if (known_apart(t) & CC_C_APART)
        return ir_get(t->ir, SLOT_CC_C);
    return setcc(t, a32_test(t, 2));
}

void a32_saturated(struct arm_t *t, enum ir_cond cond, ir_val a, ir_val b)
{
    unsigned q = offsetof(struct arm_cpu, q32);

    ir_state_store(t->ir, q, 0, a32_bin(t, IR_OR, ir_state_load(t->ir, T_I32, q, 0), ir_setcc(t->ir, T_I32, cond, a, b)));
}

/* ---- control */

void a32_it_done(struct arm_t *t)
{
    if (t->a32.it & 15)
        ir_put_early(t->ir, SLOT_IT, a32_k(t, t->a32.it_next));
}

static void it_over(struct arm_t *t)    /* branches are the last of their IT blocks */
{
    if (t->a32.it & 15)
        ir_put_early(t->ir, SLOT_IT, a32_k(t, 0));
}

/* Exits that stay in the mode can't be linked where its IT state is over. */
static bool must_loop(const struct arm_t *t) { return t->mode & MODE_STEP || t->mode >> MODE_IT_SHIFT & 0xff; }

void a32_goto(struct arm_t *t, uint64_t pc)
{
    it_over(t);
    pc &= 0xffffffff;
    if (must_loop(t))
        ir_exit_loop(t->ir, pc);
    else
        arm_goto(t, pc);
}

void a32_exit_at(struct arm_t *t, ir_val pc)
{
    ir_exit_loop_at(t->ir, pc);
}

void a32_exit_next(struct arm_t *t)
{
    a32_it_done(t);
    ir_exit_loop(t->ir, t->next);
}

static void leave_indirect(struct arm_t *t, ir_val pc, enum ir_exit_kind hint)
{
    if (must_loop(t))
        ir_exit_loop_at(t->ir, pc);
    else
        ir_goto_indirect(t->ir, pc, hint);
}

void a32_branch(struct arm_t *t, ir_val v, enum ir_exit_kind hint)
{
    it_over(t);
    leave_indirect(t, a32_widen(t, a32_bini(t, IR_AND, v, t->mode & MODE_THUMB ? ~1u : ~3u)), hint);
}

/* To code of the other instruction set: PSTATE.T is all that changes in the mode. */
void a32_leave_other(struct arm_t *t, ir_val pc, enum ir_exit_kind hint)
{
    const bool thumb = !(t->mode & MODE_THUMB);
    const uint32_t side = offsetof(struct cpu, jump_sides) + thumb * sizeof(struct jump_entry *);

    ir_state_store(t->ir, offsetof(struct arm_cpu, thumb), 0, a32_k(t, thumb));
    if (must_loop(t)) {
        ir_exit_loop_at(t->ir, pc);
        return;
    }
    ir_state_store(t->ir, offsetof(struct cpu, mode), 3, ir_const(t->ir, T_I64, t->mode ^ MODE_THUMB));
    ir_state_store(t->ir, offsetof(struct cpu, jump_cache), 3, ir_state_load(t->ir, T_I64, side, 3));
    ir_goto_indirect(t->ir, pc, hint);
}

void a32_bx(struct arm_t *t, ir_val v, enum ir_exit_kind hint)
{
    bool thumb = t->mode & MODE_THUMB;
    ir_label other = ir_label_new(t->ir);

    it_over(t);
    ir_put(t->ir, SLOT_TMP, v);         /* crosses the branch */
    arm_brcond(t, thumb ? C_TSTEQ : C_TSTNE, v, a32_k(t, 1), other);
    v = ir_get(t->ir, SLOT_TMP);
    leave_indirect(t, a32_widen(t, a32_bini(t, IR_AND, v, thumb ? ~1u : ~3u)), hint);
    arm_bind(t, other);
    v = ir_get(t->ir, SLOT_TMP);
    a32_leave_other(t, a32_widen(t, a32_bini(t, IR_AND, v, thumb ? ~3u : ~1u)), hint);
}

void a32_write_pc(struct arm_t *t, ir_val v, enum ir_exit_kind hint)
{
    if (arm_t_has(t, AF_V5))
        a32_bx(t, v, hint);
    else
        a32_branch(t, v, hint);
}

/* ---- one instruction */

void a32_emit_scan(struct arm_t *t, const void *insn)
{
    t->a32.insns++;
    a32_simd_scan(t, insn);
}

/* It touches registers alone, and no flags: done anyway, the condition selects what is written. */
static bool can_select(const struct a32_insn *i)
{
    return i->row->flags & A32_ROW_PLAIN && !i->s && i->rd != 15;
}

static void body(struct arm_t *t, const struct a32_insn *i)
{
    if (t->mode & MODE_IL) {
        arm_exception(t, ARM_SYNDROME(EC_IL, 0));
    } else if (!i->row || !i->row->emit || (i->row->flags & A32_ROW_PRIV && !(t->mode & MODE_PRIV32))) {
        if (i->row && !i->row->emit && log_enabled(LOG_UNIMP))
            log_printf("%s: not implemented: %s (%08x)\n", i->thumb ? "t32" : "a32", i->row->mnemonic, i->raw);
        arm_undefined(t);
    } else {
        i->row->emit(t, i);
    }
}

/* The condition fails: over the instruction. Afterwards is known what both paths know. */
static void conditional(struct arm_t *t, const struct a32_insn *i)
{
    struct arm_test test = a32_test(t, i->cond);
    int cc_op = t->cc_op;
    unsigned apart = known_apart(t);
    bool fp_checked = t->fp_checked;
    ir_label skip = ir_label_new(t->ir);

    arm_brcond(t, ir_cond_invert(test.cond), test.a, test.b, skip);
    body(t, i);
    apart &= known_apart(t);
    if (t->ir->ended)
        t->cc_op = cc_op;               /* only the other path comes here */
    else if (t->cc_op != cc_op)
        t->cc_op = -1;
    if (t->cc_op < 0)
        t->a32.apart = (uint8_t)apart;
    t->fp_checked = fp_checked;
    arm_bind(t, skip);
}

void a32_emit(struct arm_t *t, const void *insn)
{
    const struct a32_insn *i = insn;

    t->a32.emitted++;
    t->a32.it = i->it;
    t->a32.it_next = (uint8_t)a32_it_advance(i->it);
    t->a32.select = false;
    if (i->cond >= 14) {
        body(t, i);
    } else if (i->row && can_select(i)) {
        t->a32.test = a32_test(t, i->cond);
        t->a32.select = true;
        body(t, i);
        t->a32.select = false;
    } else {
        conditional(t, i);
    }
    if (t->ir->ended)
        return;
    if (a32_in_it(i))
        ir_put(t->ir, SLOT_IT, a32_k(t, t->a32.it_next));
    /* What follows here may be another instruction than the next; and an IT block that is not over ends a region only so
     * that the mode bits get to know. */
    if ((i->flow != FLOW_NEXT && i->flow != FLOW_COND) || (t->a32.it_next && t->a32.emitted == t->a32.insns)) {
        if (must_loop(t) || t->a32.it_next)
            ir_exit_loop(t->ir, t->next);
        else
            ir_goto(t->ir, t->next);
    }
}
