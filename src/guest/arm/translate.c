/* What the emitters of both instruction sets use: flags and conditions, memory operands, exceptions, control; and the
 * entry points of struct guest for translation. */
#include <string.h>
#include "rhea/base/log.h"
#include "a64.h"
#include "a32.h"

#pragma weak a32_decode
#pragma weak a32_emit
#pragma weak a32_emit_scan

static ir_val imm32(struct arm_t *t, uint32_t v) { return ir_const(t->ir, T_I32, v); }

static ir_val widen(struct arm_t *t, ir_val v)
{
    return ir_type_of(t->ir, v) == T_I32 ? ir_un(t->ir, IR_ZEXT32, v) : v;
}

static ir_val narrow(struct arm_t *t, ir_val v)
{
    return ir_type_of(t->ir, v) == T_I64 ? ir_un(t->ir, IR_TRUNC, v) : v;
}

ir_val arm_call(struct arm_t *t, unsigned helper, ir_val a, ir_val b, ir_val c, ir_val d)
{
    ir_val v = ir_call(t->ir, helper, a, b, c, d);

    if (t->ir->helpers[helper]->flags & HELPER_WRITES) {        /* perhaps the flags, too */
        t->cc_op = -1;
        t->a32.apart = 0;
        t->cc_a = t->cc_b = t->cc_sum = t->a32.compared = 0;
    }
    return v;
}

memop arm_memop(struct arm_t *t, unsigned log2_size)
{
    memop m = log2_size | t->mmu << MEM_MMU_SHIFT;

    if (log2_size <= 3)
        m |= MEM_ATOMIC;
    if (t->mode & MODE_BE)
        m |= MEM_BE;
    if (t->mode & MODE_ALIGN)
        m |= log2_size << MEM_ALIGN_SHIFT;
    return m;
}

/* ---- blocks: values do not outlive one; what is in slots does, along the straight line */

static void block_over(struct arm_t *t)
{
    t->cc_a = t->cc_b = t->cc_sum = t->a32.compared = 0;
}

void arm_bind(struct arm_t *t, ir_label l)
{
    ir_label_bind(t->ir, l);
    block_over(t);
}

void arm_brcond(struct arm_t *t, enum ir_cond cond, ir_val a, ir_val b, ir_label l)
{
    ir_brcond(t->ir, cond, a, b, l);
    block_over(t);
}

/* ---- flags */

static bool cc_uses_b(int op) { return op >= CC_ADD32 && op != CC_LOGIC32 && op != CC_LOGIC64 && op != CC_FP32; }
static bool cc_wide(int op) { return op != CC_NZCV && !(op & 1); }     /* see enum arm_cc */

static void set_cc_operands(struct arm_t *t, int op, ir_val a, ir_val b)
{
    ir_put(t->ir, SLOT_CC_A, widen(t, a));
    if (cc_uses_b(op))
        ir_put(t->ir, SLOT_CC_B, widen(t, b));
    else if (cc_uses_b(t->cc_op))       /* so that nobody need keep the former operand */
        ir_put(t->ir, SLOT_CC_B, ir_const(t->ir, T_I64, 0));
    t->cc_a = a;
    t->cc_b = b;
    t->cc_sum = 0;
}

void arm_set_cc(struct arm_t *t, enum arm_cc op, ir_val a, ir_val b)
{
    set_cc_operands(t, op, a, b);
    if (t->cc_op != (int)op)
        ir_put(t->ir, SLOT_CC_OP, imm32(t, op));
    t->cc_op = op;
}

void arm_set_cc_dynamic(struct arm_t *t, enum arm_cc op, ir_val slot_op, ir_val a, ir_val b, ir_val sum)
{
    set_cc_operands(t, op, a, b);
    ir_put(t->ir, SLOT_CC_OP, slot_op);
    t->cc_op = op;
    t->cc_sum = sum;
}

void arm_set_nzcv(struct arm_t *t, ir_val nzcv)
{
    arm_set_cc(t, CC_NZCV, ir_bin_imm(t->ir, IR_AND, narrow(t, nzcv), 0xf0000000), 0);
}

/* The operands of the operation that the flags are of, in its width. */
static void cc_operands(struct arm_t *t, ir_val *a, ir_val *b)
{
    if (!t->cc_a) {
        t->cc_a = ir_get(t->ir, SLOT_CC_A);
        t->cc_b = cc_uses_b(t->cc_op) ? ir_get(t->ir, SLOT_CC_B) : 0;
        if (!cc_wide(t->cc_op)) {
            t->cc_a = narrow(t, t->cc_a);
            t->cc_b = t->cc_b ? narrow(t, t->cc_b) : 0;
        }
    }
    *a = t->cc_a;
    *b = t->cc_b;
}

ir_val arm_nzcv(struct arm_t *t)
{
    ir_val a, b;

    if (t->cc_op == CC_NZCV) {
        cc_operands(t, &a, &b);
        return a;
    }
    return arm_call(t, ARM_HELP_nzcv, t->cc_op < 0 || t->cc_op >= CC_COUNT ? ir_get(t->ir, SLOT_CC_OP) : imm32(t, (uint32_t)t->cc_op),
                    ir_get(t->ir, SLOT_CC_A), ir_get(t->ir, SLOT_CC_B), 0);
}

/* Conditions by their even code; the odd one is the inverse. */
enum { T_EQ, T_CS, T_MI, T_VS, T_HI, T_GE, T_GT, T_AL };

static struct arm_test test_of(enum ir_cond cond, ir_val a, ir_val b) { return (struct arm_test){ cond, a, b }; }

static struct arm_test test_zero(struct arm_t *t, enum ir_cond cond, ir_val v)
{
    return test_of(cond, v, ir_const(t->ir, ir_type_of(t->ir, v), 0));
}

static struct arm_test test_bits(struct arm_t *t, ir_val v, uint64_t mask)
{
    return test_of(C_TSTNE, v, ir_const(t->ir, ir_type_of(t->ir, v), mask));
}

static struct arm_test test_known(struct arm_t *t, bool value)
{
    return test_of(value ? C_EQ : C_NE, imm32(t, 0), imm32(t, 0));
}

static struct arm_test nzcv_test(struct arm_t *t, ir_val f, unsigned kind)
{
    ir_val v;

    switch (kind) {
    case T_EQ: return test_bits(t, f, 1u << 30);
    case T_CS: return test_bits(t, f, 1u << 29);
    case T_MI: return test_bits(t, f, 1u << 31);
    case T_VS: return test_bits(t, f, 1u << 28);
    case T_HI:
        return test_of(C_EQ, ir_bin_imm(t->ir, IR_AND, f, 3u << 29), imm32(t, 1u << 29));
    case T_GE: case T_GT:
        v = ir_bin(t->ir, IR_XOR, f, ir_bin_imm(t->ir, IR_SHL, f, 3));          /* bit 31: N != V */
        if (kind == T_GE)
            return test_zero(t, C_GE, v);
        v = ir_bin(t->ir, IR_OR, v, ir_bin_imm(t->ir, IR_SHL, f, 1));           /* ... or Z */
        return test_zero(t, C_GE, v);
    default:
        return test_known(t, true);
    }
}

/* Comparison of a and b: flags of a - b. */
static struct arm_test sub_test(struct arm_t *t, ir_val a, ir_val b, unsigned kind)
{
    ir_val r;

    switch (kind) {
    case T_EQ: return test_of(C_EQ, a, b);
    case T_CS: return test_of(C_GEU, a, b);
    case T_HI: return test_of(C_GTU, a, b);
    case T_GE: return test_of(C_GE, a, b);
    case T_GT: return test_of(C_GT, a, b);
    }
    r = ir_bin(t->ir, IR_SUB, a, b);
    if (kind == T_VS)
        r = ir_bin(t->ir, IR_AND, ir_bin(t->ir, IR_XOR, a, b), ir_bin(t->ir, IR_XOR, a, r));
    return test_zero(t, C_LT, r);
}

/* Flags of a + b; T_HI and T_GT are not for here. */
static struct arm_test add_test(struct arm_t *t, ir_val a, ir_val b, unsigned kind)
{
    ir_val r = ir_bin(t->ir, IR_ADD, a, b), v;

    if (kind == T_EQ)
        return test_zero(t, C_EQ, r);
    if (kind == T_CS)
        return test_of(C_LTU, r, a);
    if (kind == T_MI)
        return test_zero(t, C_LT, r);
    v = ir_bin(t->ir, IR_AND, ir_bin(t->ir, IR_XOR, a, r), ir_bin(t->ir, IR_XOR, b, r));
    return kind == T_VS ? test_zero(t, C_LT, v) : test_zero(t, C_GE, ir_bin(t->ir, IR_XOR, v, r));
}

static struct arm_test logic_test(struct arm_t *t, ir_val r, unsigned kind)
{
    static const uint8_t cond[] = { [T_EQ] = C_EQ, [T_MI] = C_LT, [T_GE] = C_GE, [T_GT] = C_GT };

    if (kind == T_CS || kind == T_VS || kind == T_HI)
        return test_known(t, false);
    return test_zero(t, cond[kind], r);
}

/* Carry out of a + b + carry, from the sum: where both operands have the top bit, or one of them has and the sum has not. */
static struct arm_test carry_test(struct arm_t *t)
{
    ir_val both = ir_bin(t->ir, IR_AND, t->cc_a, t->cc_b), one = ir_bin(t->ir, IR_OR, t->cc_a, t->cc_b);

    return test_zero(t, C_LT, ir_bin(t->ir, IR_OR, both, ir_bin(t->ir, IR_ANDC, one, t->cc_sum)));
}

/* Of a floating-point comparison: greater is no flag of the host's, less CF, equal ZF, unordered all of ZF, PF, CF. */
static struct arm_test fp_test(struct arm_t *t, ir_val f, unsigned kind)
{
    enum { CF = 1, PF = 4, ZF = 0x40 };

    switch (kind) {
    case T_EQ: return test_of(C_EQ, ir_bin_imm(t->ir, IR_AND, f, ZF | PF), imm32(t, ZF));
    case T_CS: return test_of(C_NE, ir_bin_imm(t->ir, IR_AND, f, CF | PF), imm32(t, CF));
    case T_MI: return test_of(C_EQ, ir_bin_imm(t->ir, IR_AND, f, CF | PF), imm32(t, CF));
    case T_VS: return test_bits(t, f, PF);
    case T_HI: return test_of(C_TSTEQ, ir_bin(t->ir, IR_XOR, f, ir_bin_imm(t->ir, IR_SHR, f, 6)), imm32(t, CF));    /* neither or both */
    case T_GE: return test_of(C_TSTEQ, f, imm32(t, CF));
    default: return test_of(C_TSTEQ, f, imm32(t, CF | ZF));
    }
}

static struct arm_test even_test(struct arm_t *t, unsigned kind)
{
    ir_val a, b;

    if (kind == T_AL)
        return test_known(t, true);
    if (t->cc_op < 0)
        return nzcv_test(t, arm_nzcv(t), kind);
    switch (t->cc_op) {
    case CC_CMPZ32: case CC_CMPZ64:
        if (kind == T_CS)               /* the one on which subtraction and addition of zeros differ */
            break;
        /* fallthrough */
    case CC_SUB32: case CC_SUB64:
        cc_operands(t, &a, &b);
        return sub_test(t, a, b, kind);
    case CC_ADD32: case CC_ADD64:
        if (kind == T_HI || kind == T_GT)
            break;
        cc_operands(t, &a, &b);
        return add_test(t, a, b, kind);
    case CC_LOGIC32: case CC_LOGIC64:
        cc_operands(t, &a, &b);
        return logic_test(t, a, kind);
    case CC_FP32:
        cc_operands(t, &a, &b);
        return fp_test(t, a, kind);
    case CC_ADX32: case CC_ADX64:
        if (kind != T_CS || !t->cc_sum)
            break;
        return carry_test(t);
    }
    return nzcv_test(t, arm_nzcv(t), kind);
}

struct arm_test arm_condition(struct arm_t *t, unsigned cond)
{
    struct arm_test test = even_test(t, cond >> 1 & 7);

    if (cond & 1 && cond < 14)
        test.cond = ir_cond_invert(test.cond);
    return test;
}

ir_val arm_carry(struct arm_t *t)
{
    struct arm_test test = arm_condition(t, 2);

    return ir_setcc(t->ir, T_I32, test.cond, test.a, test.b);
}

/* ---- exceptions and control */

void arm_exception(struct arm_t *t, uint32_t syndrome)
{
    arm_call(t, ARM_HELP_exception, imm32(t, syndrome), 0, 0, 0);
    ir_exit_loop(t->ir, t->pc);
}

void arm_exception_el(struct arm_t *t, unsigned el, uint32_t syndrome)
{
    arm_call(t, ARM_HELP_exception_el, imm32(t, el), imm32(t, syndrome), 0, 0);
    ir_exit_loop(t->ir, t->pc);
}

void arm_undefined(struct arm_t *t)
{
    arm_call(t, ARM_HELP_undefined, 0, 0, 0, 0);
    ir_exit_loop(t->ir, t->pc);
}

bool arm_check_fp(struct arm_t *t)
{
    unsigned el = t->mode >> MODE_FP_TRAP_SHIFT & 3;

    if (!el)
        return true;
    arm_exception_el(t, el, ARM_SYNDROME(EC_FP, 1u << 24 | 0xeu << 20));
    return false;
}

void arm_goto(struct arm_t *t, uint64_t pc)
{
    if (t->mode & MODE_STEP)
        ir_exit_loop(t->ir, pc);
    else
        ir_goto(t->ir, pc);
    block_over(t);                      /* what it jumps to may be the next of the region, behind a label */
}

void arm_goto_indirect(struct arm_t *t, ir_val pc, enum ir_exit_kind hint)
{
    if (t->mode & MODE_STEP)
        ir_exit_loop_at(t->ir, pc);
    else
        ir_goto_indirect(t->ir, pc, hint);
}

/* ---- struct guest */

/* What a64_insn and a32_insn begin with. */
struct arm_insn { BITS_INSN(a64); const struct arm_features *features; };
_Static_assert(offsetof(struct arm_insn, features) == offsetof(struct a64_insn, features) &&
               offsetof(struct arm_insn, features) == offsetof(struct a32_insn, features), "one head");

bool arm_decode(struct code_fetch *f, uint64_t pc, uint64_t mode, void *insn, struct insn_info *info)
{
    struct arm_insn *i = insn;

    i->features = f->cpu ? &arm(f->cpu)->features : NULL;
    if (mode & MODE_AARCH32)
        return a32_decode && a32_decode(f, pc, mode, insn, info);
    return a64_decode(f, pc, mode, insn, info);
}

static void watch_access(struct ir *ir, memop m, bool read, bool write, ir_val addr, int32_t disp)
{
    struct arm_t *t = ir->front;
    unsigned how = (read ? WATCH_READ : 0) | (write ? WATCH_WRITE : 0) | (memop_mmu(m) != t->mmu ? WATCH_USER : 0);
    ir_val va = disp ? ir_bin_imm(ir, IR_ADD, addr, (uint64_t)(int64_t)disp) : addr;

    arm_call(t, ARM_HELP_watch, va, imm32(t, memop_bytes(m) | how << 16), 0, 0);
}

void arm_emit_begin(struct ir *ir)
{
    static _Thread_local struct arm_t translator;       /* scratch of the region this thread builds */
    struct arm_t *t = &translator;

    memset(t, 0, sizeof(*t));
    t->ir = ir;
    t->mode = ir->mode;
    t->el = ir->mode >> MODE_EL_SHIFT & 3;
    t->mmu = ir->mode >> MODE_MMU_SHIFT & 15;
    t->cc_op = -1;
    t->a32.it = t->a32.it_next = (uint8_t)(ir->mode >> MODE_IT_SHIFT);
    ir->front = t;
    ir->watch = ir->mode & MODE_WATCH ? watch_access : NULL;
}

void arm_emit_scan(struct ir *ir, const void *insn)
{
    struct arm_t *t = ir->front;

    if (t->mode & MODE_AARCH32 && a32_emit_scan)
        a32_emit_scan(t, insn);
}

void arm_emit_join(struct ir *ir)
{
    struct arm_t *t = ir->front;

    block_over(t);
    t->cc_op = -1;
    t->a32.apart = 0;
    t->fp_checked = false;
}

void arm_emit(struct ir *ir, const void *insn)
{
    struct arm_t *t = ir->front;
    const struct arm_insn *i = insn;

    t->features = i->features;
    t->pc = i->pc;
    t->next = i->pc + i->len;
    if (ir->insn_pc != i->pc || !ir->nops || ir->ops[ir->nops - 1].op != IR_INSN_START)
        ir_insn_start(ir, i->pc, i->len);
    /* Software step: this is the one instruction. Where it does not complete, delivery puts PSTATE.SS back. */
    if (t->mode & MODE_STEP)
        ir_state_store(ir, offsetof(struct arm_cpu, ss), 0, ir_const(ir, T_I32, 0));
    if (!(t->mode & MODE_AARCH32))
        a64_emit(t, insn);
    else if (a32_emit)
        a32_emit(t, insn);
    if (!ir->ended && t->mode & MODE_STEP)
        ir_exit_loop(ir, t->next);
}

void arm_emit_end(struct ir *ir)
{
    ir->front = NULL;
    ir->watch = NULL;
}
