/* VFIX: host arithmetic put right by the guest's own rules, where a short test says that they may differ; VGUARD: the guest's
 * rules in its place. The test is a compare and a branch never taken; the rest is behind the code, by the slow path's stub. */
#include <string.h>
#include "codegen.h"

static void vec_rr(struct codegen *b, uint32_t code, unsigned reg, unsigned v, unsigned rm)
{
    if (b->host->avx) {
        vex_rr(&b->c, code, 0, reg, v, rm);
        return;
    }
    if (reg != v)
        op_rr(&b->c, M_0F | 0x28, reg, v);                      /* movaps */
    op_rr(&b->c, code, reg, rm);
}

/* ucomiss, ucomisd: ZF for equal or unordered, PF for unordered */
static void compare_scalar(struct codegen *b, bool wide, unsigned x, unsigned y)
{
    uint32_t code = M_0F | 0x2e | (wide ? P_66 : 0);

    if (b->host->avx)
        vex_rr(&b->c, code, 0, x, 0, y);
    else
        op_rr(&b->c, code, x, y);
}

/* cmpps, cmppd by predicate into t: 0 equal, 3 unordered */
static void compare_packed(struct codegen *b, bool wide, unsigned predicate, unsigned t, unsigned x, unsigned y)
{
    vec_rr(b, M_0F | 0xc2 | (wide ? P_66 : 0), t, x, y);
    put8(&b->c, predicate);
}

/* Is a sign bit among those of `lanes` set? */
static enum host_cc signs(struct codegen *b, bool wide, unsigned lanes, unsigned t)
{
    unsigned g = temp_reg(b, GPR_ALL);
    uint32_t code = M_0F | 0x50 | (wide ? P_66 : 0);            /* movmskps, movmskpd */

    if (b->host->avx)
        vex_rr(&b->c, code, 0, g, 0, t);
    else
        op_rr(&b->c, code, g, t);
    if (lanes == 15)
        test_rr(&b->c, false, g, g);
    else
        test_ri(&b->c, false, g, (int32_t)lanes);
    return CC_NE;
}

static enum host_cc any_lane(struct codegen *b, unsigned t) { return signs(b, false, 15, t); }

/* ---- what is small: twice the magnitude less one, in which zero is the greatest, has none of the highest bits */

static unsigned small_shift(enum ir_fix_cond cond, bool wide)
{
    return cond >= FIX_SMALL_S ? (wide ? 62 : 30) : wide ? 53 : 24;
}

static void shift_right(struct codegen *b, bool wide, unsigned t, unsigned n)
{
    uint32_t code = M_0F | P_66 | (wide ? 0x73 : 0x72);         /* psrlq, psrld */

    if (b->host->avx)
        vex_rr(&b->c, code, 0, 2, t, t);
    else
        op_rr(&b->c, code, 2, t);
    put8(&b->c, n);
}

static enum host_cc test_small_scalar(struct codegen *b, enum ir_fix_cond cond, bool wide, const unsigned x[3])
{
    uint32_t code = M_0F | P_66 | 0x7e | OP_WIDE(wide);         /* movd, movq */
    unsigned least = NOREG, g;

    for (unsigned i = 0; i < 3; i++) {
        if (x[i] == NOREG)
            continue;
        g = temp_reg(b, GPR_ALL);
        if (b->host->avx)
            vex_rr(&b->c, code, 0, x[i], 0, g);
        else
            op_rr(&b->c, code, x[i], g);
        lea(&b->c, wide, g, mem_sib(g, g, 0, -1));
        if (least == NOREG) {
            least = g;
            continue;
        }
        alu_rr(&b->c, ALU_CMP, wide, least, g);
        op_rr(&b->c, M_0F | 0x40 | CC_A | OP_WIDE(wide), least, g);     /* cmova */
    }
    shift_ri(&b->c, SH_SHR, wide, least, small_shift(cond, wide));
    return CC_E;
}

/* paddd, paddq */
static void twice_less_one(struct codegen *b, bool wide, unsigned t, unsigned x, unsigned ones)
{
    uint32_t add = M_0F | P_66 | (wide ? 0xd4 : 0xfe);

    vec_rr(b, add, t, x, x);
    vec_rr(b, add, t, t, ones);
}

static enum host_cc test_small_packed(struct codegen *b, enum ir_fix_cond cond, const unsigned x[3])
{
    enum { PCMPEQD = M_0F | P_66 | 0x76, PMINUD = M_0F38 | P_66 | 0x3b, PXOR = M_0F | P_66 | 0xef };
    unsigned ones = temp_reg(b, VEC_ALL), t = temp_reg(b, VEC_ALL), u = temp_reg(b, VEC_ALL);

    vec_rr(b, PCMPEQD, ones, ones, ones);
    twice_less_one(b, false, t, x[0], ones);
    for (unsigned i = 1; i < 3; i++) {
        if (x[i] == NOREG || x[i] == x[i - 1])
            continue;
        twice_less_one(b, false, u, x[i], ones);
        vec_rr(b, PMINUD, t, t, u);
    }
    shift_right(b, false, t, small_shift(cond, false));
    vec_rr(b, PXOR, u, u, u);
    vec_rr(b, PCMPEQD, t, t, u);
    return any_lane(b, t);
}

static enum host_cc test_small_doubles(struct codegen *b, enum ir_fix_cond cond, const unsigned x[3])
{
    enum { PCMPEQD = M_0F | P_66 | 0x76, PCMPEQQ = M_0F38 | P_66 | 0x29, PXOR = M_0F | P_66 | 0xef, POR = M_0F | P_66 | 0xeb };
    unsigned ones = temp_reg(b, VEC_ALL), zero = temp_reg(b, VEC_ALL), t = temp_reg(b, VEC_ALL), u = temp_reg(b, VEC_ALL);

    vec_rr(b, PCMPEQD, ones, ones, ones);
    vec_rr(b, PXOR, zero, zero, zero);
    for (unsigned i = 0; i < 3; i++) {
        unsigned r = i ? u : t;

        if (x[i] == NOREG)
            continue;
        twice_less_one(b, true, r, x[i], ones);
        shift_right(b, true, r, small_shift(cond, true));
        vec_rr(b, PCMPEQQ, r, r, zero);
        if (i)
            vec_rr(b, POR, t, t, u);
    }
    return any_lane(b, t);
}

static enum host_cc test_small(struct codegen *b, enum ir_fix_cond cond, unsigned x, unsigned y, unsigned z)
{
    const unsigned operands[3] = { x, y, z };

    switch ((cond - FIX_DENORMAL_S) % 4) {
    case 0: return test_small_scalar(b, cond, false, operands);
    case 1: return test_small_scalar(b, cond, true, operands);
    case 2: return test_small_packed(b, cond, operands);
    default: return test_small_doubles(b, cond, operands);
    }
}

static enum host_cc test_packed(struct codegen *b, enum ir_fix_cond cond, unsigned r, unsigned x, unsigned y)
{
    unsigned t = temp_reg(b, VEC_ALL), u;

    switch (cond) {
    case FIX_NAN_PS: case FIX_NAN_PD:
        compare_packed(b, cond == FIX_NAN_PD, 3, t, r, r);
        break;
    case FIX_EQ_PS: case FIX_EQ_PD:
        u = temp_reg(b, VEC_ALL);
        compare_packed(b, cond == FIX_EQ_PD, 3, t, x, y);
        compare_packed(b, cond == FIX_EQ_PD, 0, u, x, y);
        vec_rr(b, M_0F | 0x56, t, t, u);                        /* orps */
        break;
    default:                            /* FIX_INDEF_PS: against 1 << 31 in every lane */
        vec_rr(b, M_0F | P_66 | 0x76, t, t, t);                 /* pcmpeqd */
        if (b->host->avx)
            vex_rr(&b->c, M_0F | P_66 | 0x72, 0, 6, t, t);      /* pslld t, 31 */
        else
            op_rr(&b->c, M_0F | P_66 | 0x72, 6, t);
        put8(&b->c, 31);
        vec_rr(b, M_0F | P_66 | 0x76, t, t, r);
    }
    return any_lane(b, t);
}

static enum host_cc test_unboxed(struct codegen *b, unsigned x)
{
    unsigned g = temp_reg(b, GPR_ALL);

    if (b->host->avx)
        vex_rr(&b->c, M_0F3A | P_66 | 0x16, 0, x, 0, g);        /* pextrd g, x, 1 */
    else
        op_rr(&b->c, M_0F3A | P_66 | 0x16, x, g);
    put8(&b->c, 1);
    alu_ri(&b->c, ALU_CMP, false, g, -1);
    return CC_NE;
}

static enum host_cc emit_test(struct codegen *b, const struct ir_op *op, unsigned r, unsigned x, unsigned y, unsigned z)
{
    enum ir_fix_cond cond = op->imm & 0xff;

    if (cond >= FIX_DENORMAL_S)
        return test_small(b, cond, x, y, z);
    switch (cond) {
    case FIX_NAN_S: case FIX_NAN_D:
        compare_scalar(b, cond == FIX_NAN_D, r, r);
        return CC_P;
    case FIX_EQ_S: case FIX_EQ_D:
        compare_scalar(b, cond == FIX_EQ_D, x, y);
        return CC_E;
    case FIX_INDEF:
        alu_ri(&b->c, ALU_CMP, op->type == T_I64, r, 1);        /* overflows for the least integer alone */
        return CC_O;
    case FIX_UNBOXED:
        return test_unboxed(b, x);
    case FIX_MASK_S: return signs(b, false, 1, z);
    case FIX_MASK_D: return signs(b, true, 1, z);
    case FIX_MASK_PS: return any_lane(b, z);
    default:
        return test_packed(b, cond, r, x, y);
    }
}

void lower_vfix(struct codegen *b, const struct ir_op *op)
{
    unsigned x = op->a ? use_reg(b, op->a) : NOREG, y = op->b ? use_reg(b, op->b) : NOREG,
             z = op->c ? use_reg(b, op->c) : NOREG, r;
    struct slow_desc *d;
    struct slow *s;

    use_reg(b, op->d);
    r = def_like(b, op->d);
    b->locked |= 1u << r;
    s = slow_new(b, op, SLOW_FIX, x);
    s->vec = true;
    d = (struct slow_desc *)(b->desc + s->desc);
    d->data = y;
    d->cmp = z;
    d->dst = r;
    d->imm = op->aux;
    s->jump = jcc(&b->c, emit_test(b, op, r, x, y, z));
    s->resume = b->c.p;
}

/* ---- VGUARD */

static bool is_muladd(unsigned vop) { return vop >= VOP_MULADDPS && vop <= VOP_MULSUBSD; }

static bool host_does(const struct vop_info *info, unsigned vop)
{
    return (info->form == VF_RVM || info->form == VF_FMA || is_muladd(vop)) && host_has(info->feature);
}

/* Where there is the room: the result has a's content, but with VEX. */
struct guarded_regs { unsigned d, a, b, c, product; };

static void emit_guarded(struct codegen *b, const struct ir_op *op, const struct guarded_regs *r)
{
    const struct vop_info *info = &vop_info[op->aux];
    enum { MUL = 0x59 };
    uint32_t code = vop_code(info);

    if (is_muladd(op->aux)) {
        vec_rr(b, (code & ~0xffu) | MUL, r->product, r->b, r->c);
        vec_rr(b, code, r->d, r->a, r->product);
    } else if (info->form == VF_FMA) {
        vex_rr(&b->c, code + ((uint32_t)ir_guarded(op->imm).imm << 4), 0, r->d, r->b, r->c);
    } else if (b->host->avx) {
        vex_rr(&b->c, code, 0, r->d, r->a, r->b);
    } else {
        op_rr(&b->c, code, r->d, r->b);
    }
}

void lower_vguard(struct codegen *b, const struct ir_op *op)
{
    const struct vop_info *info = &vop_info[op->aux];
    struct ir_guarded by = ir_guarded(op->imm);
    struct guarded_regs r = { .a = use_reg(b, op->a), .b = op->b ? use_reg(b, op->b) : NOREG, .c = op->c ? use_reg(b, op->c) : NOREG,
                              .product = is_muladd(op->aux) ? temp_reg(b, VEC_ALL) : NOREG };
    struct slow_desc *d;
    struct slow *s;

    r.d = b->host->avx && info->form != VF_FMA ? def_reg(b) : def_like(b, op->a);
    b->locked |= 1u << r.d;
    s = slow_new(b, op, SLOW_FIX, r.a);
    s->vec = true;
    d = slow_desc_of(b, s);
    d->data = r.b;
    d->cmp = r.c;
    d->dst = r.d;
    d->imm = by.fix;
    if (host_does(info, op->aux)) {
        s->jump = jcc(&b->c, test_small(b, by.cond, r.a, r.b, r.c));
        emit_guarded(b, op, &r);
    } else {
        s->jump = jmp(&b->c);
    }
    s->resume = b->c.p;
}

/* An operand's copy: the result may be in its register. */
static const uint8_t *operand(const struct reg_image *im, unsigned r, uint8_t *copy)
{
    if (r == NOREG)
        return NULL;
    memcpy(copy, image_loc(im, r), r >= XMM0 ? 16 : 8);
    return copy;
}

void codegen_fix(struct cpu *cpu, struct reg_image *im, const struct slow_desc *d)
{
    uint8_t copy[3][16];
    bool guard = d->op == IR_VGUARD;
    int64_t imm = guard ? d->mem >> 8 : (int64_t)((uint64_t)(uint32_t)d->disp << 32 | d->mem) >> 8;
    uint8_t *result = d->dst >= XMM0 ? im->vec[d->dst - XMM0] : (uint8_t *)&im->gpr[d->dst];
    const uint8_t *x = operand(im, d->addr, copy[0]), *y = operand(im, d->data, copy[1]), *z = operand(im, d->cmp, copy[2]);

    if (guard)
        memcpy(result, x, 16);
    cpu->guest->fixes[d->imm].fn(cpu, result, x, y, z, imm);
    if (d->type == T_I32)
        im->gpr[d->dst] = (uint32_t)im->gpr[d->dst];
}
