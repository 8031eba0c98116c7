/* VFIX: host arithmetic put right by the guest's own rules, where a short test says that they may differ. The test is a
 * compare and a branch never taken; the rest is behind the code, by the slow path's stub. */
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
    int64_t imm = (int64_t)((uint64_t)(uint32_t)d->disp << 32 | d->mem) >> 8;
    uint8_t *result = d->dst >= XMM0 ? im->vec[d->dst - XMM0] : (uint8_t *)&im->gpr[d->dst];

    cpu->guest->fixes[d->imm].fn(cpu, result, operand(im, d->addr, copy[0]), operand(im, d->data, copy[1]),
                                 operand(im, d->cmp, copy[2]), imm);
    if (d->type == T_I32)
        im->gpr[d->dst] = (uint32_t)im->gpr[d->dst];
}
