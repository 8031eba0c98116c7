/* AVX's halves, masked and gathered memory, SSE4.2 strings, SSE4a fields, state. SDM vol. 2. */
#include "simd.h"
#include "rhea/guest/guest.h"

/* ---- 128-bit halves: the slots are halves, so most of these move nothing through a 256-bit register */

static ir_val get_half(struct x86_t *t, unsigned reg, unsigned half)
{
    return half ? simd_get_high(t, reg) : x86_get_xmm(t, reg);
}

EMIT(vbroadcast128)
{
    ir_val v;

    if (!simd_begin(t))
        return;
    v = simd_read(t, 1);
    simd_put_halves(t, i->op[0].reg, v, v);
}

EMIT(vinsert128)
{
    ir_val v, keep;

    if (!simd_begin(t))
        return;
    v = simd_read(t, 2);
    keep = get_half(t, i->op[1].reg, !(i->imm & 1));
    simd_put_halves(t, i->op[0].reg, i->imm & 1 ? keep : v, i->imm & 1 ? v : keep);
}

EMIT(vextract128)
{
    if (simd_begin(t))
        simd_put(t, 0, get_half(t, i->op[1].reg, i->imm & 1));
}

EMIT(vperm2x128)
{
    ir_val half[2], b = 0;

    if (!simd_begin(t))
        return;
    if (i->op[2].kind == XO_MEM)
        b = simd_read(t, 2);
    for (unsigned n = 0; n < 2; n++) {
        unsigned sel = (unsigned)i->imm >> 4 * n;

        if (sel & 8)
            half[n] = ir_const(t->ir, T_V128, 0);
        else if (!(sel & 2))
            half[n] = get_half(t, i->op[1].reg, sel & 1);
        else if (!b)
            half[n] = get_half(t, i->op[2].reg, sel & 1);
        else
            half[n] = ir_vop(t->ir, sel & 1 ? VOP_HI : VOP_LO, T_V128, b, 0, 0, 0);
    }
    simd_put_halves(t, i->op[0].reg, half[0], half[1]);
}

/* VZEROUPPER (arg 0), VZEROALL (1): of 16 registers in 64-bit mode, 8 elsewhere. */
EMIT(vzero)
{
    ir_val zero;

    if (!simd_begin(t))
        return;
    zero = ir_const(t->ir, T_V128, 0);
    for (unsigned n = 0; n < (t->code64 ? 16u : 8u); n++)
        if (x86_arg(i))
            x86_put_xmm_zero(t, n, zero);
        else
            simd_zero_high(t, n);
}

/* ---- masked memory: elements whose mask is clear are not accessed */

static ir_val as_v256(struct x86_t *t, ir_val v)
{
    if (ir_type_of(t->ir, v) == T_V256)
        return v;
    return ir_vop(t->ir, VOP_CAT, T_V256, v, ir_const(t->ir, T_V128, 0), 0, 0);
}

/* arg: log2 of an element's bytes; packed for the helpers with the MMU index and the count of elements. */
static ir_val mask_what(struct x86_t *t, unsigned log2_bytes, unsigned bytes)
{
    return ir_const(t->ir, T_I32, log2_bytes | (bytes >> log2_bytes) << 4 | t->mmu << 12);
}

/* Branches to `all` if every lane of operand n, a mask, is set: the usual case, which needs no helper. Values of before
 * do not outlive it. */
static void branch_if_all(struct x86_t *t, unsigned reg, unsigned log2_bytes, unsigned bytes, ir_label all)
{
    unsigned vop = log2_bytes == 3 ? VOP_MOVMSKPD : VOP_MOVMSKPS, lanes = (bytes < 16 ? bytes : 16) >> log2_bytes;
    ir_val bits = ir_vop(t->ir, vop, T_I32, get_half(t, reg, 0), 0, 0, 0);

    if (bytes == 32)
        bits = ir_bin(t->ir, IR_AND, bits, ir_vop(t->ir, vop, T_I32, get_half(t, reg, 1), 0, 0, 0));
    bits = ir_bin_imm(t->ir, IR_AND, bits, (1u << lanes) - 1);
    x86_brcond(t, C_EQ, bits, ir_const(t->ir, T_I32, (1u << lanes) - 1), all);
}

EMIT(maskload)
{
    ir_label all, done;
    ir_val v;

    if (!simd_begin(t))
        return;
    all = ir_label_new(t->ir);
    done = ir_label_new(t->ir);
    branch_if_all(t, i->op[1].reg, (unsigned)x86_arg(i), i->op[0].size, all);
    v = as_v256(t, simd_read(t, 1));
    v = x86_call(t, HELP_maskload, simd_address(t, 2, false), v, mask_what(t, (unsigned)x86_arg(i), i->op[0].size), 0);
    simd_put(t, 0, i->op[0].size == 32 ? v : ir_vop(t->ir, VOP_LO, T_V128, v, 0, 0, 0));
    ir_br(t->ir, done);
    x86_bind(t, all);
    simd_put(t, 0, simd_read(t, 2));
    x86_bind(t, done);
}

EMIT(maskstore)
{
    ir_label all, done;
    ir_val v, mask;

    if (!simd_begin(t))
        return;
    all = ir_label_new(t->ir);
    done = ir_label_new(t->ir);
    branch_if_all(t, i->op[1].reg, (unsigned)x86_arg(i), i->op[0].size, all);
    mask = as_v256(t, simd_read(t, 1));
    v = as_v256(t, simd_read(t, 2));
    x86_call(t, HELP_maskstore, simd_address(t, 0, true), mask, v, mask_what(t, (unsigned)x86_arg(i), i->op[0].size));
    ir_br(t->ir, done);
    x86_bind(t, all);
    simd_put(t, 0, simd_read(t, 2));
    x86_bind(t, done);
}

/* MASKMOVQ, MASKMOVDQU: bytes to DS:[rDI]. */
EMIT(maskmov)
{
    ir_val v, mask, at;

    if (!simd_begin(t))
        return;
    v = as_v256(t, simd_read(t, 0));
    mask = as_v256(t, simd_read(t, 1));
    at = ir_get(t->ir, SLOT_REG + R_RDI);
    if (i->adsize < 8)
        at = ir_bin_imm(t->ir, IR_AND, at, i->adsize == 4 ? 0xffffffff : 0xffff);
    at = x86_segment_linear(t, i->seg >= 0 ? (unsigned)i->seg : S_DS, at, i->op[0].size, true);
    x86_call(t, HELP_maskstore, at, mask, v, mask_what(t, 0, i->op[0].size));
    if (i->op[0].kind == XO_MM)
        simd_enter_mmx(t);
}

/* A gather: elements by the indices of one register, where the mask's sign bits say; then the mask is zero. The address
 * is base + displacement + index << scale, cut to the address size, in a segment. Elements done before a fault are seen
 * in the registers, and their masks are zero. */
struct gather {
    unsigned log2_bytes, log2_index, count, dst, mask, index, seg;
};

/* All lanes are set and nothing is cut: a load each. The early PUTs are for faults alone. */
static void gather_all(struct x86_t *t, const struct gather *g)
{
    unsigned bytes = 1u << g->log2_bytes, load = g->log2_bytes == 3 ? VOP_INS64 : VOP_INS32, per = 16 >> g->log2_bytes;
    ir_val base = x86_segment_linear(t, g->seg, x86_ea(t, t->i), 0, false), zero = ir_const(t->ir, T_V128, 0);

    for (unsigned n = 0; n < g->count; n++) {
        unsigned half = n / per, lane = n % per, dst = (half ? SLOT_YMM_HI : SLOT_XMM) + g->dst;
        unsigned mask = (half ? SLOT_YMM_HI : SLOT_XMM) + g->mask, at = n << g->log2_index;
        ir_val v = get_half(t, g->index, at >= 16);

        if (g->log2_index == 3)
            v = ir_vop(t->ir, VOP_EXT64, T_I64, v, 0, 0, at >> 3 & 1);
        else
            v = ir_un(t->ir, IR_SEXT32, ir_vop(t->ir, VOP_EXT32, T_I32, v, 0, 0, at >> 2 & 3));
        v = ir_load(t->ir, x86_type(bytes), x86_memop(t, bytes), ir_lea(t->ir, base, v, t->i->scale, 0), 0);
        ir_put_early(t->ir, dst, ir_vop(t->ir, load, T_V128, ir_get(t->ir, dst), v, 0, lane));
        ir_put_early(t->ir, mask, ir_vop(t->ir, VOP_BLENDPS, T_V128, ir_get(t->ir, mask), zero, 0,
                                         bytes == 8 ? 3u << 2 * lane : 1u << lane));
    }
}

/* The helper knows the registers: see there. */
static void gather_some(struct x86_t *t, const struct gather *g)
{
    const struct x86_insn *i = t->i;
    ir_val base = x86_ea(t, i), what, v;

    if (i->adsize == 8)         /* nothing is cut, so the sum may be made in any order */
        base = x86_segment_linear(t, g->seg, base, 0, false);
    what = ir_const(t->ir, T_I32, g->log2_bytes | g->log2_index << 2 | i->scale << 4 | g->count << 8 | t->mmu << 12 |
                                      (i->adsize == 8) << 16 | t->code64 << 17 | g->seg << 18 | g->dst << 21 |
                                      g->mask << 25);
    v = x86_call(t, HELP_gather, base, x86_get_ymm(t, g->index), what, 0);
    if (g->count << g->log2_bytes == 32)
        x86_put_ymm(t, g->dst, v);
    else
        x86_put_xmm(t, g->dst, ir_vop(t->ir, VOP_LO, T_V128, v, 0, 0, 0));
}

EMIT(gather)
{
    struct gather g = { .log2_bytes = x86_arg(i) & 3, .log2_index = x86_arg(i) >> 2 & 3, .dst = i->op[0].reg,
                        .mask = i->op[2].reg, .index = (unsigned)i->index };
    unsigned log2_wide = g.log2_bytes > g.log2_index ? g.log2_bytes : g.log2_index;
    ir_label all, done;
    ir_val zero;

    g.count = (i->vex_l ? 32u : 16u) >> log2_wide;
    g.seg = i->seg >= 0 ? (unsigned)i->seg : i->base == R_RSP || i->base == R_RBP ? S_SS : S_DS;
    if (!simd_begin(t))
        return;
    if (g.dst == g.mask || g.dst == g.index || g.mask == g.index) {
        x86_exception(t, X_UD);
        return;
    }
    all = ir_label_new(t->ir);
    done = ir_label_new(t->ir);
    if (i->adsize == 8)
        branch_if_all(t, g.mask, g.log2_bytes, g.count << g.log2_bytes, all);
    gather_some(t, &g);
    if (i->adsize == 8) {
        ir_br(t->ir, done);
        x86_bind(t, all);
        gather_all(t, &g);
        x86_bind(t, done);
    }
    zero = ir_const(t->ir, T_V128, 0);
    x86_put_xmm_zero(t, g.mask, zero);
    if (g.count << g.log2_bytes < 32)
        simd_zero_high(t, g.dst);
    if (g.count << g.log2_bytes < 16)
        x86_put_xmm(t, g.dst, ir_vop(t->ir, VOP_MOVQZ, T_V128, x86_get_xmm(t, g.dst), 0, 0, 0));
    t->ymm[g.dst] = 0;
}

/* ---- strings */

/* The length in EAX or EDX as 32 bits signed; 64-bit ones (REX.W) saturate, which is all that counts. */
static ir_val string_length(struct x86_t *t, unsigned reg)
{
    ir_val v = ir_get(t->ir, SLOT_REG + reg), limit;

    if (!t->i->vex_w || !t->code64)
        return ir_un(t->ir, IR_ZEXT32, ir_un(t->ir, IR_TRUNC, v));
    limit = ir_const(t->ir, T_I64, 16);
    v = ir_select(t->ir, C_GT, v, limit, limit, v);
    limit = ir_const(t->ir, T_I64, (uint64_t)-16);
    v = ir_select(t->ir, C_LT, v, limit, limit, v);
    return ir_bin_imm(t->ir, IR_AND, v, 0xffffffff);
}

/* PCMPxSTRx: opcode bit 1 says implicit lengths, bit 0 an index rather than a mask. Flags come with the index op. */
EMIT(pcmpstr)
{
    bool implicit = i->opcode & 2, index = i->opcode & 1;
    ir_val a, b, lengths = 0, r;

    if (!simd_begin(t))
        return;
    a = simd_read(t, 0);
    b = simd_read(t, 1);
    if (!implicit)
        lengths = ir_bin(t->ir, IR_OR, string_length(t, R_RAX),
                         ir_bin_imm(t->ir, IR_SHL, string_length(t, R_RDX), 32));
    r = ir_vop(t->ir, implicit ? VOP_PCMPISTRI : VOP_PCMPESTRI, T_I64, a, b, lengths, i->imm & 0xff);
    if (!index) {
        ir_val mask = ir_vop(t->ir, implicit ? VOP_PCMPISTRM : VOP_PCMPESTRM, T_V128, a, b, lengths, i->imm & 0xff);

        if (i->vex)
            x86_put_xmm_zero(t, 0, mask);
        else
            x86_put_xmm(t, 0, mask);
    } else {
        x86_put_reg(t, R_RCX, 4, ir_un(t->ir, IR_TRUNC, r));
    }
    x86_set_flags(t, ir_un(t->ir, IR_TRUNC, ir_bin_imm(t->ir, IR_SHR, r, 32)));
}

/* ---- SSE4a: length and index as immediates are put where the register forms have them */

EMIT(extrq_imm)
{
    ir_val field;

    if (!simd_begin(t))
        return;
    field = ir_const(t->ir, T_I32, (uint64_t)((i->imm & 0x3f) | (i->imm2 & 0x3f) << 8));
    field = ir_vop(t->ir, VOP_MOVD, T_V128, field, 0, 0, 0);
    simd_put(t, 0, simd_op128(t, VOP_EXTRQ, simd_read(t, 0), field, 0));
}

EMIT(insertq_imm)
{
    ir_val b, field;

    if (!simd_begin(t))
        return;
    field = ir_const(t->ir, T_I32, (uint64_t)((i->imm & 0x3f) | (i->imm2 & 0x3f) << 8));
    field = ir_vop(t->ir, VOP_MOVD, T_V128, field, 0, 0, 0);
    b = simd_op128(t, VOP_UNPKL64, simd_read(t, 1), field, 0);
    simd_put(t, 0, simd_op128(t, VOP_INSERTQ, simd_read(t, 0), b, 0));
}

/* ---- MXCSR */

/* The new value may change what translations depend on (MODE_FPEXC): then the loop chooses them anew. */
EMIT(ldmxcsr)
{
    ir_label same;
    ir_val v;

    if (!simd_begin(t))
        return;
    v = x86_call(t, HELP_ldmxcsr, x86_read(t, 0), 0, 0, 0);
    same = ir_label_new(t->ir);
    x86_brcond(t, C_EQ, v, ir_const(t->ir, T_I32, 0), same);
    ir_exit_loop(t->ir, i->pc + i->len);
    x86_bind(t, same);
}

EMIT(stmxcsr)
{
    if (simd_begin(t))
        x86_write(t, 0, x86_call(t, HELP_stmxcsr, 0, 0, 0, 0));
}
