/* AVX's halves, masked and gathered memory, SSE4.2 strings, SSE4a fields, state. SDM vol. 2. */
#include "simd.h"
#include "rhea/guest/guest.h"

/* ---- 128-bit halves: the slots are halves, so most of these move nothing through a 256-bit register */

static ir_val get_half(struct x86_t *t, unsigned reg, unsigned half)
{
    return ir_get(t->ir, (half ? SLOT_YMM_HI : SLOT_XMM) + reg);
}

static void put_halves(struct x86_t *t, unsigned reg, ir_val low, ir_val high)
{
    x86_put_xmm(t, reg, low);
    ir_put(t->ir, SLOT_YMM_HI + reg, high);
}

EMIT(vbroadcast128)
{
    ir_val v;

    if (!simd_begin(t))
        return;
    v = simd_read(t, 1);
    put_halves(t, i->op[0].reg, v, v);
}

EMIT(vinsert128)
{
    ir_val v, keep;

    if (!simd_begin(t))
        return;
    v = simd_read(t, 2);
    keep = get_half(t, i->op[1].reg, !(i->imm & 1));
    put_halves(t, i->op[0].reg, i->imm & 1 ? keep : v, i->imm & 1 ? v : keep);
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
    put_halves(t, i->op[0].reg, half[0], half[1]);
}

/* VZEROUPPER (arg 0), VZEROALL (1): of 16 registers in 64-bit mode, 8 elsewhere. */
EMIT(vzero)
{
    ir_val zero;

    if (!simd_begin(t))
        return;
    zero = ir_const(t->ir, T_V128, 0);
    for (unsigned n = 0; n < (t->code64 ? 16u : 8u); n++) {
        if (x86_arg(i))
            x86_put_xmm(t, n, zero);
        ir_put(t->ir, SLOT_YMM_HI + n, zero);
        t->ymm[n] = 0;
    }
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

EMIT(maskload)
{
    ir_val v, mask;

    if (!simd_begin(t))
        return;
    mask = as_v256(t, simd_read(t, 1));
    v = x86_call(t, HELP_maskload, simd_address(t, 2, false), mask, mask_what(t, (unsigned)x86_arg(i), i->op[0].size), 0);
    simd_put(t, 0, i->op[0].size == 32 ? v : ir_vop(t->ir, VOP_LO, T_V128, v, 0, 0, 0));
}

EMIT(maskstore)
{
    ir_val v, mask;

    if (!simd_begin(t))
        return;
    mask = as_v256(t, simd_read(t, 1));
    v = as_v256(t, simd_read(t, 2));
    x86_call(t, HELP_maskstore, simd_address(t, 0, true), mask, v, mask_what(t, (unsigned)x86_arg(i), i->op[0].size));
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

/* Elements by the indices of one register, where the mask's sign bits say; then the mask is zero. The address is
 * base + displacement + index << scale, cut to the address size, in a segment. The helper knows the registers: see there. */
EMIT(gather)
{
    unsigned log2_bytes = x86_arg(i) & 3, log2_index = x86_arg(i) >> 2 & 3;
    unsigned size = i->vex_l ? 32 : 16, log2_wide = log2_bytes > log2_index ? log2_bytes : log2_index;
    unsigned count = size >> log2_wide, dst = i->op[0].reg, mask = i->op[2].reg;
    unsigned seg = i->seg >= 0 ? (unsigned)i->seg : i->base == R_RSP || i->base == R_RBP ? S_SS : S_DS;
    ir_val base, what, v;

    if (!simd_begin(t))
        return;
    if (dst == mask || dst == (unsigned)i->index || mask == (unsigned)i->index) {
        x86_exception(t, X_UD);
        return;
    }
    base = x86_ea(t, i);        /* without the index */
    if (i->adsize == 8)         /* nothing is cut, so the sum may be made in any order */
        base = x86_segment_linear(t, seg, base, 0, false);
    what = ir_const(t->ir, T_I32, log2_bytes | log2_index << 2 | i->scale << 4 | count << 8 | t->mmu << 12 |
                                      (i->adsize == 8) << 16 | t->code64 << 17 | seg << 18 | dst << 21 | mask << 25);
    v = x86_call(t, HELP_gather, base, x86_get_ymm(t, (unsigned)i->index), what, 0);
    if (count << log2_bytes < 32)
        x86_put_xmm_zero(t, dst, ir_vop(t->ir, VOP_LO, T_V128, v, 0, 0, 0));
    else
        x86_put_ymm(t, dst, v);
    x86_put_xmm_zero(t, mask, ir_const(t->ir, T_V128, 0));
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
