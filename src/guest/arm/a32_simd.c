/* AArch32 floating point and Advanced SIMD: registers, and the way to the emitters of A64. DDI 0487 E1.3. */
#include "rhea/base/log.h"
#include "a32_simd.h"

bool a32_fp_enabled(struct arm_t *t)
{
    if (t->mode & MODE_FP_UNDEF32) {
        arm_undefined(t);
        return false;
    }
    return arm_check_fp(t);
}

/* ---- registers */

static ir_val vop2(struct arm_t *t, unsigned vop, ir_val a, ir_val b, int64_t imm) { return ir_vop(t->ir, vop, T_V128, a, b, 0, imm); }
static ir_val vop1(struct arm_t *t, unsigned vop, ir_val a, int64_t imm) { return ir_vop(t->ir, vop, T_V128, a, 0, 0, imm); }

/* Scalar floating point, which names single and double registers alone, and moves of them: coprocessors 10 and 11, 9 for halves. */
static bool is_vfp(const struct a32_insn *i)
{
    unsigned coprocessor = i->raw >> 8 & 15;
    bool lanes = i->row->emit == a32_emit_vmov_to_lane || i->row->emit == a32_emit_vmov_from_lane;

    return (i->raw >> 24 & 0xc) == 0xc && (i->raw >> 24 & 0xf) != 0xf && coprocessor >= 9 && coprocessor <= 11 &&
           i->row->emit != a32_emit_vdup_core && !(lanes && i->row->arg != 2);
}

/* Advanced SIMD: what is left of the coprocessors' space, too (8, 12, 13). */
static bool is_vector(const struct a32_insn *i)
{
    unsigned top = i->raw >> 24;

    if (i->thumb ? (top & 0xef) == 0xef || top == 0xf9 : top >> 1 == 0x79 || top == 0xf4)
        return true;
    return (top & 0xc) == 0xc && (top & 0xf) != 0xf && (i->raw >> 8 & 15) < 14 && i->raw & 0x800 && !is_vfp(i);
}

static void names(uint16_t *set, unsigned from, unsigned n, unsigned each)
{
    for (unsigned r = from; r < from + n && r / each < 16; r++)
        *set |= (uint16_t)(1u << r / each);
}

void a32_simd_scan(struct arm_t *t, const struct a32_insn *i)
{
    const uint8_t d[3] = { i->vd, i->vn, i->vm }, s[3] = { i->sd, i->sn, i->sm };
    bool wide = (i->raw >> 8 & 15) == 11, several;

    if (i->len != 4 || !i->row)
        return;
    t->a32.vectors |= is_vector(i);
    if (!is_vfp(i))
        return;
    several = i->row->emit == a32_emit_vldm || i->row->emit == a32_emit_vstm;
    for (unsigned n = 0; n < (several ? 1 : 3); n++) {
        if (wide || d[n])
            names(&t->a32.doubles, d[n], several ? i->imm8 / 2u : 1, 1);
        if (!wide || s[n])
            names(&t->a32.singles, s[n], several ? i->imm8 : i->row->emit == a32_emit_vmov_ss ? 2 : 1, 2);
    }
}

/* Slots of their own: d<n>; s<2n> and s<2n + 1>. */
static bool own_s(const struct arm_t *t, unsigned d) { return !a32_whole(t, d) && ~t->a32.doubles & t->a32.singles & 1u << d; }
static bool own_d(const struct arm_t *t, unsigned d) { return !a32_whole(t, d) && !own_s(t, d); }

/* All are where nobody has looked ahead. */
bool a32_whole(const struct arm_t *t, unsigned r) { return t->a32.vectors || !t->a32.insns || r >= 16; }

ir_val a32_d(struct arm_t *t, unsigned r)
{
    if (own_d(t, r))
        return ir_get(t->ir, SLOT_D + r);
    if (own_s(t, r))
        return vop2(t, VOP_UNPKLPS, ir_get(t->ir, SLOT_S + 2 * r), ir_get(t->ir, SLOT_S + 2 * r + 1), 0);
    return r & 1 ? vop1(t, VOP_BYTESHR, a64_q(t, r >> 1), 8) : vop1(t, VOP_MOVQZ, a64_q(t, r >> 1), 0);
}

ir_val a32_s(struct arm_t *t, unsigned r)
{
    static const uint8_t shuffle[4] = { 0, 0x55, 0xaa, 0xff };
    unsigned part = own_d(t, r >> 1) ? r & 1 : r & 3;
    ir_val v;

    if (own_s(t, r >> 1))
        return ir_get(t->ir, SLOT_S + r);
    v = own_d(t, r >> 1) ? ir_get(t->ir, SLOT_D + (r >> 1)) : a64_q(t, r >> 2);
    return part ? vop1(t, VOP_SHUF32, v, shuffle[part]) : v;
}

void a32_put_d(struct arm_t *t, unsigned r, ir_val v)
{
    if (own_d(t, r)) {
        ir_put(t->ir, SLOT_D + r, v);
    } else if (own_s(t, r)) {
        ir_put(t->ir, SLOT_S + 2 * r, v);
        ir_put(t->ir, SLOT_S + 2 * r + 1, vop1(t, VOP_SHUF32, v, 0x55));
    } else {
        a64_put_q(t, r >> 1, vop2(t, r & 1 ? VOP_UNPKL64 : VOP_MOVSD, a64_q(t, r >> 1), v, 0));
    }
}

void a32_put_s(struct arm_t *t, unsigned r, ir_val v)
{
    if (own_s(t, r >> 1))
        ir_put(t->ir, SLOT_S + r, v);
    else if (own_d(t, r >> 1))
        ir_put(t->ir, SLOT_D + (r >> 1), vop2(t, VOP_INSERTPS, ir_get(t->ir, SLOT_D + (r >> 1)), v, (int64_t)(r & 1) << 4));
    else
        a64_put_q(t, r >> 2, vop2(t, VOP_INSERTPS, a64_q(t, r >> 2), v, (int64_t)(r & 3) << 4));
}

ir_val a32_s_bits(struct arm_t *t, unsigned r)
{
    unsigned part = own_s(t, r >> 1) ? 0 : own_d(t, r >> 1) ? r & 1 : r & 3;
    ir_val v = own_s(t, r >> 1) ? ir_get(t->ir, SLOT_S + r) : own_d(t, r >> 1) ? ir_get(t->ir, SLOT_D + (r >> 1)) : a64_q(t, r >> 2);

    return ir_vop(t->ir, part ? VOP_EXT32 : VOP_TOD, T_I32, v, 0, 0, part);
}

void a32_put_s_bits(struct arm_t *t, unsigned r, ir_val v)
{
    if (own_s(t, r >> 1))
        ir_put(t->ir, SLOT_S + r, vop1(t, VOP_MOVD, v, 0));
    else if (own_d(t, r >> 1))
        ir_put(t->ir, SLOT_D + (r >> 1), vop2(t, VOP_INS32, ir_get(t->ir, SLOT_D + (r >> 1)), v, r & 1));
    else
        a64_put_q(t, r >> 2, vop2(t, VOP_INS32, a64_q(t, r >> 2), v, r & 3));
}

ir_val a32_d_bits(struct arm_t *t, unsigned r)
{
    if (own_d(t, r) || own_s(t, r))
        return ir_vop(t->ir, VOP_TOQ, T_I64, a32_d(t, r), 0, 0, 0);
    return ir_vop(t->ir, VOP_EXT64, T_I64, a64_q(t, r >> 1), 0, 0, r & 1);
}

void a32_put_d_bits(struct arm_t *t, unsigned r, ir_val v)
{
    if (own_d(t, r) || own_s(t, r))
        a32_put_d(t, r, vop1(t, VOP_MOVQ, v, 0));
    else
        a64_put_q(t, r >> 1, vop2(t, VOP_INS64, a64_q(t, r >> 1), v, r & 1));
}

/* ---- A64's emitters */

/* The register's number there, if it is a slot. */
static bool is_slot(const struct arm_t *t, enum a32_kind kind, unsigned r, unsigned *number)
{
    if (kind == KIND_Q)
        *number = r >> 1;
    else if (kind == KIND_D && own_d(t, r))
        *number = SLOT_D - SLOT_Q + r;
    else if (kind == KIND_S && own_s(t, r >> 1))
        *number = SLOT_S - SLOT_Q + r;
    else
        return false;
    return true;
}

unsigned a32_target(struct arm_t *t, enum a32_kind kind, unsigned r, unsigned scratch)
{
    unsigned number;

    return is_slot(t, kind, r, &number) ? number : scratch;
}

unsigned a32_operand(struct arm_t *t, enum a32_kind kind, unsigned r, unsigned scratch)
{
    unsigned number;

    if (is_slot(t, kind, r, &number))
        return number;
    a64_put_q(t, scratch, kind == KIND_D ? a32_d(t, r) : a32_s(t, r));
    return scratch;
}

unsigned a32_scalar(struct arm_t *t, enum a32_kind kind, unsigned r, unsigned scratch)
{
    unsigned d = kind == KIND_D ? r : r >> 1, part = kind == KIND_D ? r & 1 : own_d(t, d) ? r & 1 : r & 3;

    if (part || own_s(t, d) || (kind == KIND_D && own_d(t, d)))
        return a32_operand(t, kind, r, scratch);
    return own_d(t, d) ? SLOT_D - SLOT_Q + d : d >> 1;
}

void a32_result(struct arm_t *t, enum a32_kind kind, unsigned r, unsigned scratch)
{
    unsigned number;

    if (is_slot(t, kind, r, &number))
        return;
    if (kind == KIND_D)
        a32_put_d(t, r, a64_q(t, scratch));
    else if (kind == KIND_S)
        a32_put_s(t, r, a64_q(t, scratch));
}

void a32_as_a64(struct arm_t *t, const struct a32_insn *i, uint32_t raw, unsigned d, unsigned n, unsigned m, unsigned index)
{
    struct a64_insn x = { .pc = i->pc, .raw = raw, .len = i->len };

    x.row = a64_row_find(raw, 32, NULL, &x);
    if (!x.row || !x.row->emit) {
        if (log_enabled(LOG_UNIMP))
            log_printf("a32: not implemented: %s (%08x as %08x)\n", i->row->mnemonic, i->raw, raw);
        arm_undefined(t);
        return;
    }
    x.vd = x.va = (uint8_t)d;
    x.vn = (uint8_t)n;
    x.vm = (uint8_t)m;
    x.index = (uint8_t)index;
    t->a32.standard = i->row->flags & A32_ROW_STD;
    x.row->emit(t, &x);
    t->a32.standard = false;
}
