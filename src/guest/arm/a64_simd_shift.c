/* A64 Advanced SIMD: shifts by immediates and by registers, widening and narrowing moves. DDI 0487 C4.1.96, C7. */
#include "a64_simd.h"

/* ---- by an immediate: immh's highest bit tells the size; right shifts are 2 * bits - immh:immb, left ones immh:immb - bits */

struct shift { struct v_op o; unsigned right, left; };

static bool shift_begin(struct shift *s, struct arm_t *t, const struct a64_insn *i)
{
    s->o = (struct v_op){ .t = t, .ir = t->ir, .i = i, .size = (unsigned)(28 - __builtin_clz(i->immhb)) };
    s->o.scalar = i->row->flags & A64_ROW_SCALAR;
    s->o.q = !s->o.scalar && i->q;
    s->right = (16u << s->o.size) - i->immhb;
    s->left = i->immhb - (8u << s->o.size);
    return arm_check_fp(t);
}

typedef ir_val shift_fn(const struct v_op *o, const struct shift *s, ir_val n);
static void shift(struct arm_t *t, const struct a64_insn *i, shift_fn *fn)
{
    struct shift s;

    if (shift_begin(&s, t, i))
        v_put(&s.o, fn(&s.o, &s, a64_q(t, i->vn)));
}
#define EMIT_SHIFT(name)                                                                           \
    static shift_fn shift_##name;                                                                  \
    EMIT(v_##name##_n) { shift(t, i, shift_##name); }                                              \
    static ir_val shift_##name(const struct v_op *o, const struct shift *s, ir_val n)

EMIT_SHIFT(sshr) { return v_sar(o, o->size, n, s->right); }
EMIT_SHIFT(ushr) { return v_shr(o, o->size, n, s->right); }
EMIT_SHIFT(ssra) { return v_add(o, o->size, v_d(o), v_sar(o, o->size, n, s->right)); }
EMIT_SHIFT(usra) { return v_add(o, o->size, v_d(o), v_shr(o, o->size, n, s->right)); }
EMIT_SHIFT(shl) { return v_shl(o, o->size, n, s->left); }

/* Rounded: plus the last bit that is shifted out. */
static ir_val round_shift(const struct v_op *o, bool is_signed, ir_val n, unsigned by)
{
    ir_val r = is_signed ? v_sar(o, o->size, n, by) : v_shr(o, o->size, n, by), last = v_shr(o, o->size, n, by - 1);

    if (is_signed && by == 8u << o->size)       /* -1 + the sign, 0 + 0 */
        return v_const(o, 0);
    return v_add(o, o->size, r, v_and(o, last, v_splat(o, o->size, 1)));
}
EMIT_SHIFT(srshr) { return round_shift(o, true, n, s->right); }
EMIT_SHIFT(urshr) { return round_shift(o, false, n, s->right); }
EMIT_SHIFT(srsra) { return v_add(o, o->size, v_d(o), round_shift(o, true, n, s->right)); }
EMIT_SHIFT(ursra) { return v_add(o, o->size, v_d(o), round_shift(o, false, n, s->right)); }

static uint64_t element_ones(const struct v_op *o) { return o->size == 3 ? UINT64_MAX : (UINT64_C(1) << (8u << o->size)) - 1; }

EMIT_SHIFT(sli)
{
    ir_val keep = v_splat(o, o->size, (UINT64_C(1) << s->left) - 1);

    return v_or(o, v_and(o, v_d(o), keep), v_shl(o, o->size, n, s->left));
}
EMIT_SHIFT(sri)
{
    uint64_t ones = element_ones(o);
    ir_val moved = v_splat(o, o->size, s->right == 8u << o->size ? 0 : ones >> s->right);

    return v_or(o, v_andn(o, moved, v_d(o)), v_shr(o, o->size, n, s->right));
}

/* Saturating: what shifting back does not give again is lost. */
static ir_val saturate_lost(const struct v_op *o, ir_val n, ir_val r, ir_val back, ir_val limit)
{
    ir_val kept = v_eq(o, o->size, back, n);

    v_saturated(o, v_not(o, kept));
    return v3(o, VOP_BLENDV8, limit, r, kept);
}
EMIT_SHIFT(sqshl)
{
    ir_val r = v_shl(o, o->size, n, s->left), sign = v_sar(o, o->size, n, (8u << o->size) - 1);

    return saturate_lost(o, n, r, v_sar(o, o->size, r, s->left), v_xor(o, sign, v_splat(o, o->size, element_ones(o) >> 1)));
}
EMIT_SHIFT(uqshl)
{
    ir_val r = v_shl(o, o->size, n, s->left);

    return saturate_lost(o, n, r, v_shr(o, o->size, r, s->left), v_const(o, UINT64_MAX));
}
EMIT_SHIFT(sqshlu)                              /* a negative one becomes 0 */
{
    ir_val negative = v_sar(o, o->size, n, (8u << o->size) - 1), r = v_shl(o, o->size, n, s->left);

    return saturate_lost(o, n, r, v_andn(o, negative, v_shr(o, o->size, r, s->left)), v_not(o, negative));
}

/* ---- widening */

static ir_val upper_or_lower(const struct v_op *o, ir_val n) { return o->q ? v1i(o, VOP_BYTESHR, n, 8) : n; }

static void shift_long(struct arm_t *t, const struct a64_insn *i, bool is_signed)
{
    struct shift s;

    if (shift_begin(&s, t, i))
        a64_put_q(t, i->vd, v_shl(&s.o, s.o.size + 1, v_widen(&s.o, is_signed, upper_or_lower(&s.o, a64_q(t, i->vn))), s.left));
}
EMIT(v_sshll_n) { shift_long(t, i, true); }
EMIT(v_ushll_n) { shift_long(t, i, false); }

EMIT(v_shll)
{
    struct v_op o;

    if (v_begin(&o, t, i))
        a64_put_q(t, i->vd, v_shl(&o, o.size + 1, v_widen(&o, false, upper_or_lower(&o, a64_q(t, i->vn))), 8u << o.size));
}

/* ---- narrowing: into the low half, or (q) into the upper half of what vd holds */

static void put_narrow(const struct v_op *o, ir_val v)
{
    if (o->scalar)
        v_put(o, v);
    else if (o->q)
        a64_put_q(o->t, o->i->vd, v_pair(o, v_d(o), v));
    else
        a64_put_d(o->t, o->i->vd, v);
}

/* Elements of twice the size (right-shifted, so that what is wanted is at the bottom) cut to the size. */
static ir_val narrow_shifted(const struct v_op *o, ir_val n, unsigned by)
{
    n = v_shr(o, o->size + 1, n, by);
    if (by >= 8u << o->size && o->size < 2)             /* nothing to cut away */
        return v2(o, o->size ? VOP_PACKU32 : VOP_PACKU16, n, n);
    return v_narrow(o, n, n);
}

EMIT(v_xtn)
{
    struct v_op o;

    if (v_begin(&o, t, i))
        put_narrow(&o, narrow_shifted(&o, a64_q(t, i->vn), 0));
}
EMIT(v_shrn_n)
{
    struct shift s;

    if (shift_begin(&s, t, i))
        put_narrow(&s.o, narrow_shifted(&s.o, a64_q(t, i->vn), s.right));
}
EMIT(v_rshrn_n)
{
    struct shift s;
    ir_val n;

    if (!shift_begin(&s, t, i))
        return;
    n = v_add(&s.o, s.o.size + 1, a64_q(t, i->vn), v_splat(&s.o, s.o.size + 1, UINT64_C(1) << (s.right - 1)));
    put_narrow(&s.o, narrow_shifted(&s.o, n, s.right));
}

/* The narrower half of a sum: ADDHN and kin. */
static void narrow_sum(struct arm_t *t, const struct a64_insn *i, bool subtracts, bool rounds)
{
    struct v_op o;
    ir_val n;

    if (!v_begin(&o, t, i))
        return;
    n = subtracts ? v_sub(&o, o.size + 1, a64_q(t, i->vn), a64_q(t, i->vm)) : v_add(&o, o.size + 1, a64_q(t, i->vn), a64_q(t, i->vm));
    if (rounds)
        n = v_add(&o, o.size + 1, n, v_splat(&o, o.size + 1, UINT64_C(1) << ((8u << o.size) - 1)));
    put_narrow(&o, narrow_shifted(&o, n, 8u << o.size));
}
EMIT(v_addhn) { narrow_sum(t, i, false, false); }
EMIT(v_raddhn) { narrow_sum(t, i, false, true); }
EMIT(v_subhn) { narrow_sum(t, i, true, false); }
EMIT(v_rsubhn) { narrow_sum(t, i, true, true); }

/* Saturating: the host packs with saturation; where widening again does not give the same, QC. */
static void narrow_saturating(const struct v_op *o, enum simd1_op op, ir_val n)
{
    static const uint16_t vop[3][2] = { { VOP_PACKS16, VOP_PACKS32 }, { VOP_PACKU16, VOP_PACKU32 }, { VOP_PACKU16, VOP_PACKU32 } };
    struct v_op whole = { .t = o->t, .ir = o->ir, .q = true, .size = o->size };
    unsigned kind = op - SIMD_SQXTN;
    ir_val r, x = n;

    if (o->size == 2 || o->scalar) {
        struct v_op of = *o;                            /* the C function's elements are the result's */
        of.q = false;
        put_narrow(o, v_call1(&of, op, 0, n));
        return;
    }
    if (op == SIMD_UQXTN) {
        if (o->size == 0)
            x = v2(&whole, VOP_MINU16, n, v_const(o, UINT64_C(0x00ff00ff00ff00ff)));
        else
            x = v2(&whole, VOP_MINU32, n, v_const(o, UINT64_C(0x0000ffff0000ffff)));
        v_saturated(&whole, v_xor(o, x, n));
    }
    r = v2(o, vop[kind][o->size], x, x);
    if (op != SIMD_UQXTN)
        v_saturated(&whole, v_xor(o, n, v_widen(o, op == SIMD_SQXTN, r)));
    put_narrow(o, r);
}
static void narrow_move(struct arm_t *t, const struct a64_insn *i, enum simd1_op op)
{
    struct v_op o;

    if (v_begin(&o, t, i))
        narrow_saturating(&o, op, a64_q(t, i->vn));
}
EMIT(v_sqxtn) { narrow_move(t, i, SIMD_SQXTN); }
EMIT(v_sqxtun) { narrow_move(t, i, SIMD_SQXTUN); }
EMIT(v_uqxtn) { narrow_move(t, i, SIMD_UQXTN); }

/* Shifted right first, and the highest of the bits lost added where it is rounded: that leaves room. */
static void narrow_shift_saturating(struct arm_t *t, const struct a64_insn *i, enum simd1_op op, bool rounds)
{
    struct shift s;
    struct v_op of;
    unsigned wide;
    ir_val n, lost;

    if (!shift_begin(&s, t, i))
        return;
    n = a64_q(t, i->vn);
    if (s.o.size == 2 || s.o.scalar) {
        of = s.o;
        of.q = false;
        put_narrow(&s.o, v_call1(&of, op, s.right | (rounds ? 128 : 0), n));
        return;
    }
    wide = s.o.size + 1;
    lost = v_and(&s.o, v_shr(&s.o, wide, n, s.right - 1), v_splat(&s.o, wide, 1));
    n = op == SIMD_UQSHRN ? v_shr(&s.o, wide, n, s.right) : v_sar(&s.o, wide, n, s.right);
    if (rounds)
        n = v_add(&s.o, wide, n, lost);
    narrow_saturating(&s.o, SIMD_SQXTN + (op - SIMD_SQSHRN), n);
}
EMIT(v_sqshrn_n) { narrow_shift_saturating(t, i, SIMD_SQSHRN, false); }
EMIT(v_sqrshrn_n) { narrow_shift_saturating(t, i, SIMD_SQSHRN, true); }
EMIT(v_sqshrun_n) { narrow_shift_saturating(t, i, SIMD_SQSHRUN, false); }
EMIT(v_sqrshrun_n) { narrow_shift_saturating(t, i, SIMD_SQSHRUN, true); }
EMIT(v_uqshrn_n) { narrow_shift_saturating(t, i, SIMD_UQSHRN, false); }
EMIT(v_uqrshrn_n) { narrow_shift_saturating(t, i, SIMD_UQSHRN, true); }

/* ---- by registers: the low byte of each of m's elements, signed; to the right where negative */

/* Left and right counts for the host's shifts by element, which give 0 (or the sign) for what is beyond the width, as a
 * negative count taken unsigned is. */
static ir_val shift64(const struct v_op *o, ir_val n, ir_val m)
{
    ir_val by = v_shl(o, 3, m, 56), back;

    by = v_or(o, v_shr(o, 3, by, 56), v_shl(o, 3, v_gt(o, 3, v_const(o, 0), by), 8));
    back = v_sub(o, 3, v_const(o, 0), by);
    return v_or(o, v2(o, VOP_SHLV64, n, by), v2(o, VOP_SHRV64, n, back));
}

/* Rounded: the highest of the bits lost is added, for which the count is one less. */
static ir_val shift32(const struct v_op *o, bool is_signed, bool rounds, ir_val n, ir_val m)
{
    unsigned vop = is_signed ? VOP_SARV32 : VOP_SHRV32;
    ir_val by = v_sar(o, 2, v_shl(o, 2, m, 24), 24), right = v2(o, vop, n, v_sub(o, 2, v_const(o, 0), by));

    if (rounds)
        right = v_add(o, 2, right, v_and(o, v2(o, vop, n, v_not(o, by)), v_splat(o, 2, 1)));
    return v3(o, VOP_BLENDVPS, v2(o, VOP_SHLV32, n, by), right, by);
}

/* Of elements of 16 bits, by twice that. */
static ir_val shift16(const struct v_op *o, bool is_signed, bool rounds, ir_val n, ir_val m)
{
    ir_val low = shift32(o, is_signed, rounds, v_widen(o, is_signed, n), v_widen(o, true, m)), high = low;

    if (o->q)
        high = shift32(o, is_signed, rounds, v_widen(o, is_signed, v1i(o, VOP_BYTESHR, n, 8)), v_widen(o, true, v1i(o, VOP_BYTESHR, m, 8)));
    return v_narrow(o, low, high);
}

static ir_val variable_shift(const struct v_op *o, bool is_signed, bool rounds, ir_val n, ir_val m)
{
    static const uint8_t op[2][2] = { { SIMD_USHL, SIMD_URSHL }, { SIMD_SSHL, SIMD_SRSHL } };

    if (o->size == 1 && !o->scalar)
        return shift16(o, is_signed, rounds, n, m);
    if (o->size == 2)
        return shift32(o, is_signed, rounds, n, m);
    if (o->size == 3 && !is_signed && !rounds)
        return shift64(o, n, m);
    return v_call2(o, op[is_signed][rounds], 0, n, m);
}
EMIT_V3(ushl) { return variable_shift(o, false, false, n, m); }
EMIT_V3(sshl) { return variable_shift(o, true, false, n, m); }
EMIT_V3(urshl) { return variable_shift(o, false, true, n, m); }
EMIT_V3(srshl) { return variable_shift(o, true, true, n, m); }
EMIT_V3(sqshl) { return v_call2(o, SIMD_SQSHL, 0, n, m); }
EMIT_V3(uqshl) { return v_call2(o, SIMD_UQSHL, 0, n, m); }
EMIT_V3(sqrshl) { return v_call2(o, SIMD_SQRSHL, 0, n, m); }
EMIT_V3(uqrshl) { return v_call2(o, SIMD_UQRSHL, 0, n, m); }
