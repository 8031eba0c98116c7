/* EFLAGS from the lazy flags, in C: the meaning of enum x86_cc. SDM vol. 1, 3.4.3 and appendix A. */
#include "x86.h"

static unsigned cc_group(uint32_t op) { return (op - 1) >> 2; }
enum { G_ADD, G_ADC, G_SUB, G_SBB, G_LOGIC, G_INC, G_DEC, G_SHL, G_SAR, G_MUL, G_KEEP };

static uint32_t result_flags(uint64_t dst, uint64_t sign)
{
    uint64_t mask = sign | (sign - 1);

    return ((dst & mask) ? 0 : EF_ZF) | (dst & sign ? EF_SF : 0) |
           (__builtin_popcountll(dst & 0xff) & 1 ? 0 : EF_PF);
}

uint32_t x86_cc_flags(uint32_t op, uint64_t dst, uint64_t src, uint64_t src2)
{
    uint64_t sign, mask, a;
    uint32_t f, af = 0, cf = 0, of = 0;

    if (op == CC_EFLAGS || op >= CC_COUNT)
        return src & EF_ARITH;
    sign = UINT64_C(1) << ((8u << ((op - 1) & 3)) - 1);
    mask = sign | (sign - 1);
    dst &= mask;
    f = result_flags(dst, sign);
    switch (cc_group(op)) {
    case G_ADD: case G_ADC:
        src &= mask;
        src2 = cc_group(op) == G_ADC ? src2 & 1 : 0;
        a = (dst - src - src2) & mask;
        cf = src2 ? dst <= src : dst < src;
        of = ((a ^ dst) & (src ^ dst) & sign) != 0;
        af = (a ^ dst ^ src) & EF_AF;
        break;
    case G_SUB: case G_SBB:
        src &= mask;
        src2 = cc_group(op) == G_SBB ? src2 & 1 : 0;
        a = (dst + src + src2) & mask;
        cf = src2 ? a <= src : a < src;
        of = ((a ^ src) & (a ^ dst) & sign) != 0;
        af = (a ^ dst ^ src) & EF_AF;
        break;
    case G_INC: case G_DEC:
        a = cc_group(op) == G_INC ? dst - 1 : dst + 1;
        cf = src & 1;
        of = cc_group(op) == G_INC ? dst == sign : dst == sign - 1;
        af = (a ^ dst ^ 1) & EF_AF;
        break;
    case G_SHL:
        cf = (src & sign) != 0;
        of = ((src ^ dst) & sign) != 0;
        break;
    case G_SAR:
        cf = src & 1;
        of = ((src ^ dst) & sign) != 0;
        break;
    case G_MUL:
        cf = of = src != 0;
        break;
    case G_KEEP:
        return f | (src & (EF_CF | EF_AF | EF_OF));
    default:
        break;
    }
    return f | cf | af | (of ? EF_OF : 0);
}

uint32_t helper_flags(struct cpu *c, uint32_t op, uint64_t dst, uint64_t src, uint64_t src2)
{
    return x86_cc_flags(op, dst, src, src2);
}

uint32_t x86_compute_flags(const struct x86_cpu *c)
{
    return x86_cc_flags(c->cc_op, c->cc_dst, c->cc_src, c->cc_src2);
}

uint64_t x86_eflags(const struct x86_cpu *c)
{
    return (c->eflags & ~(uint64_t)(EF_ARITH | EF_DF)) | x86_compute_flags(c) | (c->df == 1 ? 0 : EF_DF) | 2;
}

void x86_set_eflags(struct x86_cpu *c, uint64_t v, uint64_t mask)
{
    uint64_t all = (x86_eflags(c) & ~mask) | (v & mask);

    c->cc_op = CC_EFLAGS;
    c->cc_src = all & EF_ARITH;
    c->df = all & EF_DF ? (uint32_t)-1 : 1;
    c->eflags = all & ~(uint64_t)(EF_ARITH | EF_DF);
}
