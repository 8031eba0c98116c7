/* Algebra on single ops: constants, identities, comparisons of comparisons. One set of rules for the builder, which sees
 * values as the front end makes them, and for the optimiser, which sees more once slots are forwarded. Each rule takes
 * constant time and makes the op no dearer, so that none needs to be undone. */
#include "ir_internal.h"
#include "rhea/ir/eval.h"
#include "rhea/ir/vop.h"

static const enum ir_cond cond_swapped[C_COUNT] = {
    [C_EQ] = C_EQ, [C_NE] = C_NE, [C_LT] = C_GT, [C_GE] = C_LE, [C_LE] = C_GE, [C_GT] = C_LT, [C_LTU] = C_GTU,
    [C_GEU] = C_LEU, [C_LEU] = C_GEU, [C_GTU] = C_LTU, [C_TSTEQ] = C_TSTEQ, [C_TSTNE] = C_TSTNE,
};

struct fold {
    struct ir *ir;
    struct ir_op *op;
    ir_val *same;
    bool may_append;
};

static enum fold_result fold_same(struct fold *f, ir_val v)
{
    *f->same = v;
    return FOLD_SAME;
}

static enum fold_result fold_const(struct fold *f, uint64_t imm)
{
    struct ir_op *op = f->op;

    *op = (struct ir_op){ .op = IR_CONST, .type = op->type, .dst = op->dst, .imm = ir_trim(op->type, imm) };
    return FOLD_KEEP;
}

/* The op becomes `op a` or, with a constant that must be made, `op a, imm`. False: constants can't be made here. */
static bool fold_to_imm(struct fold *f, enum ir_opcode opcode, ir_val a, uint64_t imm)
{
    if (!f->may_append)
        return false;
    f->op->op = opcode;
    f->op->a = a;
    f->op->b = ir_const(f->ir, f->op->type, imm);
    f->op->imm = 0;
    f->op->esz = 0;
    return true;
}

static enum fold_result fold_unary(struct fold *f, enum ir_opcode opcode, ir_val a)
{
    f->op->op = opcode;
    f->op->a = a;
    f->op->b = 0;
    f->op->imm = 0;
    f->op->esz = 0;
    return FOLD_KEEP;
}

/* v's defining op if it is an `opcode`, else NULL. */
static const struct ir_op *def_of(const struct ir *ir, ir_val v, enum ir_opcode opcode)
{
    const struct ir_op *op = value_op(ir, v);

    return v >= T_COUNT && op->op == opcode ? op : NULL;
}

/* Bits of v that may be set, as far as its op says. */
static uint64_t value_bits(const struct ir *ir, ir_val v)
{
    const struct ir_op *op = value_op(ir, v);
    uint64_t all = type_mask(ir->val_type[v]), imm;

    if (v < T_COUNT)
        return all;
    switch (op->op) {
    case IR_CONST: return (uint64_t)op->imm;
    case IR_ZEXT8: return 0xff;
    case IR_ZEXT16: case IR_BSWAP16: return 0xffff;
    case IR_ZEXT32: return UINT32_MAX;
    case IR_SETCC: return 1;
    case IR_EXTRACT: return ir_low_mask(ir_field_len(op->imm)) & all;
    case IR_LOAD: return op->mem & MEM_SIGNED || (op->mem & MEM_SIZE) > MEM_64 ? all
                         : ir_low_mask(8 * memop_bytes(op->mem)) & all;
    case IR_AND: return ir_is_const(ir, op->b, &imm) ? imm : all;
    default: return all;
    }
}

/* ---- rules by op. Constants are on the right by now; both being constant has been dealt with. */

/* v as another value plus a constant: of ADD with a constant, or LEA without an index. */
static bool split_sum(const struct ir *ir, ir_val v, ir_val *base, uint64_t *addend)
{
    const struct ir_op *op = value_op(ir, v);

    if (v < T_COUNT)
        return false;
    *base = op->a;
    if (op->op == IR_LEA && !op->b) {
        *addend = (uint64_t)op->imm;
        return true;
    }
    return op->op == IR_ADD && ir_is_const(ir, op->b, addend);
}

/* Sums wrap at 64 bits, with or without the displacement. */
ir_val ir_fold_address(const struct ir *ir, ir_val addr, int32_t *disp)
{
    ir_val base;
    uint64_t addend;
    int64_t sum;

    for (unsigned depth = 0; depth < 8 && split_sum(ir, addr, &base, &addend); depth++) {
        if (__builtin_add_overflow((int64_t)addend, *disp, &sum) || sum != (int32_t)sum)
            break;
        *disp = (int32_t)sum;
        addr = base;
    }
    return addr;
}

/* The same where the low 32 bits of base and displacement count: nothing overflows, and what only clears the others goes. */
ir_val ir_fold_address_32(const struct ir *ir, ir_val addr, int32_t *disp)
{
    ir_val v = addr, base;
    uint32_t sum = (uint32_t)*disp;
    uint64_t addend;

    for (unsigned depth = 0; depth < 8; depth++) {
        if (split_sum(ir, v, &base, &addend)) {
            sum += (uint32_t)addend;
            v = base;
        } else if (v >= T_COUNT && (value_op(ir, v)->op == IR_ZEXT32 || value_op(ir, v)->op == IR_TRUNC)) {
            v = value_op(ir, v)->a;
        } else {
            break;
        }
        if (ir_type_of(ir, v) == T_I64) {
            addr = v;
            *disp = (int32_t)sum;
        }
    }
    return addr;
}

static enum fold_result fold_add(struct fold *f, bool b_const, uint64_t b)
{
    struct ir_op *op = f->op;
    uint64_t addend, sum;
    ir_val base;

    if (!b_const)
        return FOLD_KEEP;
    if (b == 0)
        return fold_same(f, op->a);
    if (!split_sum(f->ir, op->a, &base, &addend))
        return FOLD_KEEP;
    sum = ir_trim(op->type, b + addend);
    if (sum == 0)
        return fold_same(f, base);
    if (fold_to_imm(f, IR_ADD, base, sum) || op->type != T_I64 || (int64_t)sum != (int32_t)sum)
        return FOLD_KEEP;
    fold_unary(f, IR_LEA, base);        /* no constant can be made here: one op holds the sum as well */
    op->imm = (int64_t)sum;
    return FOLD_KEEP;
}

static enum fold_result fold_sub(struct fold *f, bool b_const, uint64_t b)
{
    struct ir_op *op = f->op;
    uint64_t a;

    if (op->a == op->b)
        return fold_const(f, 0);
    if (b_const && b == 0)
        return fold_same(f, op->a);
    if (b_const && fold_to_imm(f, IR_ADD, op->a, -b))
        return fold_add(f, true, ir_trim(op->type, -b));
    if (ir_is_const(f->ir, op->a, &a) && a == 0)
        return fold_unary(f, IR_NEG, op->b);
    return FOLD_KEEP;
}

static enum fold_result fold_and(struct fold *f, bool b_const, uint64_t b)
{
    struct ir_op *op = f->op;
    const struct ir_op *inner;
    uint64_t inner_imm;

    if (op->a == op->b)
        return fold_same(f, op->a);
    if (!b_const)
        return FOLD_KEEP;
    if (!(value_bits(f->ir, op->a) & ~b))
        return fold_same(f, op->a);
    if (!(value_bits(f->ir, op->a) & b))
        return fold_const(f, 0);
    inner = def_of(f->ir, op->a, IR_AND);
    if (inner && ir_is_const(f->ir, inner->b, &inner_imm) && fold_to_imm(f, IR_AND, inner->a, b & inner_imm))
        b &= inner_imm;
    if (b == 0xff)
        return fold_unary(f, IR_ZEXT8, op->a);
    if (b == 0xffff)
        return fold_unary(f, IR_ZEXT16, op->a);
    return FOLD_KEEP;
}

static enum fold_result fold_or_xor(struct fold *f, bool b_const, uint64_t b)
{
    struct ir_op *op = f->op;
    uint64_t ones = type_mask(op->type);

    if (op->a == op->b)
        return op->op == IR_OR ? fold_same(f, op->a) : fold_const(f, 0);
    if (b_const && b == 0)
        return fold_same(f, op->a);
    if (b_const && b == ones)
        return op->op == IR_OR ? fold_const(f, ones) : fold_unary(f, IR_NOT, op->a);
    return FOLD_KEEP;
}

static enum fold_result fold_andc(struct fold *f, bool b_const, uint64_t b)
{
    struct ir_op *op = f->op;
    uint64_t ones = type_mask(op->type);

    if (op->a == op->b || (b_const && b == ones))
        return fold_const(f, 0);
    if (b_const && b == 0)
        return fold_same(f, op->a);
    if (b_const && fold_to_imm(f, IR_AND, op->a, ~b & ones))
        return fold_and(f, true, ~b & ones);
    return FOLD_KEEP;
}

static enum fold_result fold_mul(struct fold *f, bool b_const, uint64_t b)
{
    if (!b_const)
        return FOLD_KEEP;
    if (b == 0)
        return fold_const(f, 0);
    if (b == 1)
        return fold_same(f, f->op->a);
    if (!(b & (b - 1)))
        fold_to_imm(f, IR_SHL, f->op->a, __builtin_ctzll(b));
    return FOLD_KEEP;
}

static enum fold_result fold_shift(struct fold *f, bool b_const, uint64_t b)
{
    uint64_t a;

    if (b_const && !(b & (type_bits(f->op->type) - 1)))
        return fold_same(f, f->op->a);
    if (ir_is_const(f->ir, f->op->a, &a) && a == 0)
        return fold_const(f, 0);
    return FOLD_KEEP;
}

static enum fold_result fold_zext(struct fold *f, unsigned bits)
{
    uint64_t may = value_bits(f->ir, f->op->a);

    return may & ~ir_low_mask(bits) ? FOLD_KEEP : fold_same(f, f->op->a);
}

static enum fold_result fold_trunc(struct fold *f)
{
    const struct ir_op *inner = value_op(f->ir, f->op->a);

    if (f->op->a >= T_COUNT && (inner->op == IR_ZEXT32 || inner->op == IR_SEXT32))
        return fold_same(f, inner->a);
    return FOLD_KEEP;
}

static enum fold_result fold_extract(struct fold *f)
{
    struct ir_op *op = f->op;
    unsigned pos = ir_field_pos(op->imm), len = ir_field_len(op->imm), bits = type_bits(op->type);

    if (len == 0)
        return fold_const(f, 0);
    if (pos == 0 && len >= bits)
        return fold_same(f, op->a);
    if (pos == 0 && !(value_bits(f->ir, op->a) & ~ir_low_mask(len)) && op->op == IR_EXTRACT)
        return fold_same(f, op->a);
    if (pos == 0 && len == 8)
        return fold_unary(f, op->op == IR_EXTRACT ? IR_ZEXT8 : IR_SEXT8, op->a);
    if (pos == 0 && len == 16)
        return fold_unary(f, op->op == IR_EXTRACT ? IR_ZEXT16 : IR_SEXT16, op->a);
    if (pos + len == bits)
        fold_to_imm(f, op->op == IR_EXTRACT ? IR_SHR : IR_SAR, op->a, pos);
    return FOLD_KEEP;
}

static enum fold_result fold_deposit(struct fold *f)
{
    struct ir_op *op = f->op;
    unsigned pos = ir_field_pos(op->imm), len = ir_field_len(op->imm);

    if (len == 0)
        return fold_same(f, op->a);
    if (pos == 0 && len >= type_bits(op->type))
        return fold_same(f, op->b);
    return FOLD_KEEP;
}

static enum fold_result fold_lea(struct fold *f, bool b_const, uint64_t b)
{
    struct ir_op *op = f->op;
    uint64_t disp = (uint64_t)op->imm + (b_const ? b << op->esz : 0);

    if (!op->b || b_const) {
        if (disp == 0)
            return fold_same(f, op->a);
        if (fold_to_imm(f, IR_ADD, op->a, disp))
            return fold_add(f, true, disp);
        return FOLD_KEEP;
    }
    if (!disp && !op->esz)
        op->op = IR_ADD;
    return FOLD_KEEP;
}

/* ---- comparisons */

/* Comparing v with 0 (EQ or NE): looks into how v was made. True if the op's comparison was replaced. */
static bool fold_zero_test(struct fold *f)
{
    struct ir *ir = f->ir;
    struct ir_op *op = f->op;
    const struct ir_op *def = value_op(ir, op->a);
    bool ne = op->cond == C_NE;

    if (op->a < T_COUNT)
        return false;
    switch (def->op) {
    case IR_SETCC:
        op->cond = ne ? def->cond : ir_cond_invert(def->cond);
        op->ctype = def->ctype;
        op->a = def->a;
        op->b = def->b;
        return true;
    case IR_AND:
        op->cond = ne ? C_TSTNE : C_TSTEQ;
        op->a = def->a;
        op->b = def->b;
        return true;
    case IR_XOR: case IR_SUB:
        op->a = def->a;
        op->b = def->b;
        return true;
    case IR_ZEXT32: case IR_SEXT32:
        if (!f->may_append)
            return false;
        op->ctype = T_I32;
        op->a = def->a;
        op->b = ir_const(ir, T_I32, 0);
        return true;
    case IR_ZEXT8: case IR_ZEXT16:
        if (!f->may_append)
            return false;
        op->cond = ne ? C_TSTNE : C_TSTEQ;
        op->a = def->a;
        op->b = ir_const(ir, op->ctype, def->op == IR_ZEXT8 ? 0xff : 0xffff);
        return true;
    default:
        return false;
    }
}

/* Outcome of op's comparison: 1, 0, or -1 if unknown; simplifies it. */
static int fold_compare(struct fold *f)
{
    struct ir_op *op = f->op;
    uint64_t a, b;

    for (unsigned depth = 0; depth < 4; depth++) {
        bool a_const = ir_is_const(f->ir, op->a, &a), b_const = ir_is_const(f->ir, op->b, &b);

        if (a_const && b_const)
            return ir_eval_cond(op->cond, op->ctype, a, b);
        if (op->a == op->b && op->cond != C_TSTEQ && op->cond != C_TSTNE)
            return op->cond == C_EQ || op->cond == C_GE || op->cond == C_LE || op->cond == C_GEU || op->cond == C_LEU;
        if (a_const) {
            ir_val t = op->a;

            op->a = op->b;
            op->b = t;
            op->cond = cond_swapped[op->cond];
            b = a;
            b_const = true;
        }
        if (b_const && b == 0) {
            if (op->cond == C_TSTEQ || op->cond == C_GEU)
                return 1;
            if (op->cond == C_TSTNE || op->cond == C_LTU)
                return 0;
            if (op->cond == C_LEU)
                op->cond = C_EQ;
            if (op->cond == C_GTU)
                op->cond = C_NE;
            if ((op->cond == C_EQ || op->cond == C_NE) && fold_zero_test(f))
                continue;
        }
        if (b_const && b == 1 && (op->cond == C_EQ || op->cond == C_NE) && def_of(f->ir, op->a, IR_SETCC)) {
            const struct ir_op *def = value_op(f->ir, op->a);

            op->cond = op->cond == C_EQ ? def->cond : ir_cond_invert(def->cond);
            op->ctype = def->ctype;
            op->a = def->a;
            op->b = def->b;
            continue;
        }
        break;
    }
    return -1;
}

static enum fold_result fold_select(struct fold *f)
{
    struct ir_op *op = f->op;
    uint64_t c, d;

    if (op->c == op->d)
        return fold_same(f, op->c);
    switch (fold_compare(f)) {
    case 1: return fold_same(f, op->c);
    case 0: return fold_same(f, op->d);
    }
    if (ir_is_const(f->ir, op->c, &c) && ir_is_const(f->ir, op->d, &d) && (c ^ d) == 1 && c + d == 1) {
        op->op = IR_SETCC;
        if (d)
            op->cond = ir_cond_invert(op->cond);
        op->c = op->d = 0;
    }
    return FOLD_KEEP;
}

static enum fold_result fold_setcc(struct fold *f)
{
    int known = fold_compare(f);

    return known < 0 ? FOLD_KEEP : fold_const(f, (uint64_t)known);
}

int ir_fold_branch(struct ir *ir, struct ir_op *op, bool may_append)
{
    return fold_compare(&(struct fold){ .ir = ir, .op = op, .may_append = may_append });
}

/* ---- the driver */

static bool op_evaluates(enum ir_opcode op)
{
    return (op >= IR_ADD && op <= IR_DEPOSIT) || op == IR_LEA;
}

/* ---- elements of vectors that are only moved about, as 32-bit Arm's single and double registers are */

/* Where 64-bit element n of the result comes from: of a or b. */
static ir_val wide_step(const struct ir_op *op, unsigned *n)
{
    unsigned at = *n;

    switch (op->aux) {
    case VOP_MOVQZ: return at ? 0 : op->a;
    case VOP_MOVSD: return at ? op->a : op->b;
    case VOP_UNPKL64: *n = 0; return at ? op->b : op->a;
    case VOP_BYTESHR: *n = 1; return op->imm == 8 && !at ? op->a : 0;
    default: return 0;
    }
}

/* The same of 32-bit elements. */
static ir_val narrow_step(const struct ir_op *op, unsigned *n)
{
    unsigned at = *n, half = at / 2;
    ir_val from;

    switch (op->aux) {
    case VOP_SHUF32:
        *n = op->imm >> 2 * at & 3;
        return op->a;
    case VOP_INSERTPS:
        if (op->imm >> at & 1)
            return 0;
        *n = (op->imm >> 4 & 3) == at ? op->imm >> 6 & 3 : at;
        return (op->imm >> 4 & 3) == at ? op->b : op->a;
    default:
        from = wide_step(op, &half);
        *n = half * 2 + at % 2;
        return from;
    }
}

/* Where element *n of *v, wide or not, comes from. */
static void lane_source(const struct ir *ir, ir_val *v, unsigned *n, bool wide)
{
    for (;;) {
        const struct ir_op *op = value_op(ir, *v);
        unsigned at = *n;
        ir_val from;

        if (*v < T_COUNT || op->op != IR_VOP || op->dst != *v || op->type != T_V128)
            return;
        from = wide ? wide_step(op, &at) : narrow_step(op, &at);
        if (!from || ir_type_of(ir, from) != T_V128)
            return;
        *v = from;
        *n = at;
    }
}

/* Only its lowest element counts. */
static ir_val scalar_source(const struct ir *ir, ir_val v, bool wide)
{
    ir_val from = v;
    unsigned n = 0;

    if (ir_type_of(ir, v) != T_V128)
        return v;
    lane_source(ir, &from, &n, wide);
    return n ? v : from;
}

static void fold_movsd(const struct ir *ir, struct ir_op *op)
{
    ir_val high = op->a;
    unsigned n = 1;

    op->b = scalar_source(ir, op->b, true);
    lane_source(ir, &high, &n, true);
    if (n)
        op->a = high;
    else
        op->aux = VOP_UNPKL64, op->a = op->b, op->b = high;
}

static void fold_lanes(const struct ir *ir, struct ir_op *op)
{
    const struct vop_info *info = &vop_info[op->aux];
    ir_val from = op->a;
    unsigned n;

    switch (op->aux) {
    case VOP_MOVSD:
        fold_movsd(ir, op);
        break;
    case VOP_UNPKL64:
        op->a = scalar_source(ir, op->a, true);
        op->b = scalar_source(ir, op->b, true);
        break;
    case VOP_MOVQZ: case VOP_BYTESHR:
        if (op->aux == VOP_BYTESHR && op->imm != 8)
            break;
        n = op->aux == VOP_BYTESHR;
        lane_source(ir, &from, &n, true);
        op->aux = n ? VOP_BYTESHR : VOP_MOVQZ;
        op->imm = n ? 8 : 0;
        op->a = from;
        break;
    case VOP_SHUF32:
        n = op->imm & 3;
        if (op->imm != n * 0x55)
            break;
        lane_source(ir, &from, &n, false);
        op->imm = n * 0x55;
        op->a = from;
        break;
    case VOP_INSERTPS:
        from = op->b;
        n = op->imm >> 6 & 3;
        lane_source(ir, &from, &n, false);
        op->imm = (op->imm & 0x3f) | n << 6;
        op->b = from;
        break;
    default:
        /* map 1: pp says single or double */
        if (info->flags & VOPF_SCALAR && info->operands == 2 && info->map == 1 && op->aux != VOP_MOVSS)
            op->b = scalar_source(ir, op->b, info->pp == 3);
    }
}

static bool is_shuffled(const struct ir *ir, ir_val v)
{
    const struct ir_op *op = value_op(ir, v);

    return v >= T_COUNT && op->op == IR_VOP && op->dst == v && op->aux == VOP_SHUF32;
}

/* Single elements only if they were shuffled: of others a guest may look at what lies above them (RISC-V's boxes). */
static void fold_fix(const struct ir *ir, struct ir_op *op)
{
    unsigned cond = op->imm & 0xff;
    bool wide = cond == FIX_NAN_D || cond == FIX_DENORMAL_D;

    if (!wide && cond != FIX_NAN_S && cond != FIX_DENORMAL_S)
        return;
    for (unsigned i = 0; i < 3; i++)
        if (op->arg[i] && (wide || is_shuffled(ir, op->arg[i])))
            op->arg[i] = scalar_source(ir, op->arg[i], wide);
}

/* An element as an integer; stored, it need not become one. */
static void fold_extracted(const struct ir *ir, struct ir_op *op)
{
    ir_val from = op->a;
    unsigned n = op->aux == VOP_EXT64 ? op->imm & 1 : 0;

    lane_source(ir, &from, &n, true);
    op->aux = n ? VOP_EXT64 : VOP_TOQ;
    op->imm = n;
    op->a = from;
}

static void fold_stored(const struct ir *ir, struct ir_op *op)
{
    const struct ir_op *v = value_op(ir, op->b);

    if (op->b < T_COUNT || v->op != IR_VOP || v->dst != op->b || v->aux != VOP_TOQ || op->mem & MEM_BE ||
        ir_type_of(ir, v->a) != T_V128)
        return;
    op->type = T_V128;
    op->b = v->a;
}

/* Of what goes to a slot that is part of a vector, its lowest element counts. */
static void fold_put(const struct ir *ir, struct ir_op *op)
{
    unsigned part = ir->guest->slots[op->aux].part;

    if (part)
        op->a = scalar_source(ir, op->a, part == 8);
}

static void fold_guard(const struct ir *ir, struct ir_op *op)
{
    unsigned cond = ir_guarded(op->imm).cond;

    if (!(vop_info[op->aux].flags & VOPF_SCALAR))
        return;
    for (unsigned i = 1; i < 3; i++)    /* the first's rest is the result's */
        if (op->arg[i])
            op->arg[i] = scalar_source(ir, op->arg[i], cond == FIX_SMALL_D || cond == FIX_DENORMAL_D);
}

void ir_fold_lanes(const struct ir *ir, struct ir_op *op)
{
    if (op->op == IR_PUT)
        fold_put(ir, op);
    else if (op->op == IR_VFIX && op->type == T_V128)
        fold_fix(ir, op);
    else if (op->op == IR_VGUARD)
        fold_guard(ir, op);
    else if (op->op == IR_VOP && op->type == T_V128 && op->a && ir_type_of(ir, op->a) == T_V128)
        fold_lanes(ir, op);
    else if (op->op == IR_VOP && (op->aux == VOP_EXT64 || op->aux == VOP_TOQ) && ir_type_of(ir, op->a) == T_V128)
        fold_extracted(ir, op);
    else if (op->op == IR_STORE && op->type == T_I64 && (op->mem & MEM_SIZE) == MEM_64)
        fold_stored(ir, op);
}

enum fold_result ir_fold(struct ir *ir, struct ir_op *op, ir_val *same, bool may_append)
{
    struct fold f = { .ir = ir, .op = op, .same = same, .may_append = may_append };
    uint64_t a = 0, b = 0;
    bool a_const, b_const;

    if (op->op == IR_SETCC)
        return fold_setcc(&f);
    if (op->op == IR_SELECT)
        return fold_select(&f);
    if (!op_evaluates(op->op))
        return FOLD_KEEP;

    a_const = ir_is_const(ir, op->a, &a);
    b_const = op->b && ir_is_const(ir, op->b, &b);
    if (a_const && (b_const || !op->b)) {
        if (op->op >= IR_DIVU && op->op <= IR_REMS && !ir_divides(op->op, op->type, a, b))
            return FOLD_KEEP;
        return fold_const(&f, ir_eval(op->op, op->type, a, b, op->esz, op->imm));
    }
    if (a_const && ir_opinfo[op->op].flags & OPF_COMM) {
        ir_val t = op->a;

        op->a = op->b;
        op->b = t;
        b = a;
        b_const = true;
    }
    switch (op->op) {
    case IR_ADD: return fold_add(&f, b_const, b);
    case IR_SUB: return fold_sub(&f, b_const, b);
    case IR_MUL: return fold_mul(&f, b_const, b);
    case IR_AND: return fold_and(&f, b_const, b);
    case IR_OR: case IR_XOR: return fold_or_xor(&f, b_const, b);
    case IR_ANDC: return fold_andc(&f, b_const, b);
    case IR_SHL: case IR_SHR: case IR_SAR: case IR_ROTL: case IR_ROTR: return fold_shift(&f, b_const, b);
    case IR_ZEXT8: return fold_zext(&f, 8);
    case IR_ZEXT16: return fold_zext(&f, 16);
    case IR_TRUNC: return fold_trunc(&f);
    case IR_EXTRACT: case IR_SEXTRACT: return fold_extract(&f);
    case IR_DEPOSIT: return fold_deposit(&f);
    case IR_LEA: return fold_lea(&f, b_const, b);
    default: return FOLD_KEEP;
    }
}
