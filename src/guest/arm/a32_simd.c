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

ir_val a32_d(struct arm_t *t, unsigned r)
{
    ir_val q = a64_q(t, r >> 1);

    return r & 1 ? vop1(t, VOP_BYTESHR, q, 8) : vop1(t, VOP_MOVQZ, q, 0);
}

ir_val a32_s(struct arm_t *t, unsigned r)
{
    static const uint8_t shuffle[4] = { 0, 0x55, 0xaa, 0xff };
    ir_val q = a64_q(t, r >> 2);

    return r & 3 ? vop1(t, VOP_SHUF32, q, shuffle[r & 3]) : q;
}

void a32_put_d(struct arm_t *t, unsigned r, ir_val v)
{
    a64_put_q(t, r >> 1, vop2(t, r & 1 ? VOP_UNPKL64 : VOP_MOVSD, a64_q(t, r >> 1), v, 0));
}

void a32_put_s(struct arm_t *t, unsigned r, ir_val v)
{
    a64_put_q(t, r >> 2, vop2(t, VOP_INSERTPS, a64_q(t, r >> 2), v, (int64_t)(r & 3) << 4));
}

ir_val a32_s_bits(struct arm_t *t, unsigned r)
{
    return ir_vop(t->ir, VOP_EXT32, T_I32, a64_q(t, r >> 2), 0, 0, r & 3);
}

void a32_put_s_bits(struct arm_t *t, unsigned r, ir_val v)
{
    a64_put_q(t, r >> 2, vop2(t, VOP_INS32, a64_q(t, r >> 2), v, r & 3));
}

ir_val a32_d_bits(struct arm_t *t, unsigned r)
{
    return ir_vop(t->ir, VOP_EXT64, T_I64, a64_q(t, r >> 1), 0, 0, r & 1);
}

void a32_put_d_bits(struct arm_t *t, unsigned r, ir_val v)
{
    a64_put_q(t, r >> 1, vop2(t, VOP_INS64, a64_q(t, r >> 1), v, r & 1));
}

/* ---- A64's emitters */

unsigned a32_operand(struct arm_t *t, enum a32_kind kind, unsigned r, unsigned scratch)
{
    if (kind == KIND_Q)
        return r >> 1;
    a64_put_q(t, scratch, kind == KIND_D ? a32_d(t, r) : a32_s(t, r));
    return scratch;
}

unsigned a32_scalar(struct arm_t *t, enum a32_kind kind, unsigned r, unsigned scratch)
{
    unsigned part = r & (kind == KIND_D ? 1 : 3);

    return part ? a32_operand(t, kind, r, scratch) : kind == KIND_D ? r >> 1 : r >> 2;
}

void a32_result(struct arm_t *t, enum a32_kind kind, unsigned r, unsigned scratch)
{
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
