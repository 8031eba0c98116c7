/* Floating point: volume I, chapters 20 (F), 21 (D), 24 (Zfh, Zfhmin), 25 (Zfa). Singles and doubles are the host's
 * arithmetic under the current frm, which the host's control register follows; results it makes otherwise (NaNs, minima,
 * integers out of range) are put right out of line. Half precision, roundings that an instruction names, and RMM are
 * software's (fp.c).
 *
 * An f register is a V128 whose bits 63:0 count. A scalar operation of the host leaves the bits above its result as they
 * are in the first operand, so singles stay boxed by themselves once that is. */
#include <string.h>
#include "riscv.h"

#define IR t->ir
#define FORMAT ((unsigned)i->row->arg)

static ir_val c32(struct riscv_t *t, uint32_t v) { return ir_const(t->ir, T_I32, v); }
static ir_val c64(struct riscv_t *t, uint64_t v) { return ir_const(t->ir, T_I64, v); }
static ir_val cv(struct riscv_t *t, uint64_t v) { return ir_const(t->ir, T_V128, v); }

static ir_val vop2(struct riscv_t *t, unsigned op, ir_val a, ir_val b)
{
    return ir_vop(t->ir, op, T_V128, a, b, 0, 0);
}

/* Volume II, 3.1.6.6. Once FS is Dirty the mode is another: the instruction begins again there, so that only the first one
 * after a switch comes by here. */
bool riscv_check_fp(struct riscv_t *t)
{
    if (t->mode & MODE_FS_OFF) {
        riscv_illegal(t);
        return false;
    }
    if ((t->mode & MODE_FS_CLEAN) && !(t->i->row->flags & RISCV_ROW_FPR)) {
        riscv_call(t, RISCV_HELP_fs_dirty, 0, 0, 0, 0);
        ir_exit_loop(t->ir, t->i->pc);
        return false;
    }
    return true;
}

/* ---- registers */

static ir_val f_get(struct riscv_t *t, unsigned r) { return ir_get(t->ir, SLOT_F + r); }

static void f_put(struct riscv_t *t, unsigned r, ir_val v, bool boxed)
{
    ir_put(t->ir, SLOT_F + r, v);
    t->boxed = (t->boxed & ~(1u << r)) | (uint32_t)boxed << r;
}

static void f_put_format(struct riscv_t *t, unsigned r, ir_val v, unsigned format) { f_put(t, r, v, format == FP_S); }

/* A single: canonical NaN if it is not boxed. */
static ir_val f_get_single(struct riscv_t *t, unsigned r)
{
    ir_val v = f_get(t, r);

    if (t->boxed >> r & 1)
        return v;
    return ir_vfix(t->ir, FIX_UNBOXED, RISCV_FIX_UNBOX, v, v, 0, 0, RISCV_FP(0, FP_S, 0));
}

static ir_val f_get_format(struct riscv_t *t, unsigned r, unsigned format)
{
    return format == FP_S ? f_get_single(t, r) : f_get(t, r);
}

#define BOX_S UINT64_C(0xffffffff00000000)
#define BOX_H UINT64_C(0xffffffffffff0000)

/* ---- memory, moves */

EMIT(fld)
{
    ir_val a = t->xlen == 32 ? riscv_address(t, i->rs1, i->imm) : x_get(t, i->rs1);

    f_put(t, i->fd, ir_load(IR, T_V128, riscv_memop(t, MEM_64), a, t->xlen == 32 ? 0 : i->imm), false);
}

EMIT(flw)
{
    ir_val a = t->xlen == 32 ? riscv_address(t, i->rs1, i->imm) : x_get(t, i->rs1), v;

    v = ir_load(IR, T_V128, riscv_memop(t, MEM_32), a, t->xlen == 32 ? 0 : i->imm);
    f_put(t, i->fd, vop2(t, VOP_ORF, v, cv(t, BOX_S)), true);
}

static ir_val boxed_half(struct riscv_t *t, ir_val v)
{
    return ir_vop(t->ir, VOP_MOVQ, T_V128, ir_bin_imm(t->ir, IR_OR, v, BOX_H), 0, 0, 0);
}

EMIT(flh)
{
    f_put(t, i->fd, boxed_half(t, ir_load(IR, T_I64, riscv_memop(t, MEM_16), riscv_address(t, i->rs1, i->imm), 0)), true);
}

static void store(struct riscv_t *t, const struct riscv_insn *i, unsigned log2_size, ir_val v)
{
    ir_val a = t->xlen == 32 ? riscv_address(t, i->rs1, i->imm) : x_get(t, i->rs1);

    ir_store(t->ir, riscv_memop(t, log2_size), a, t->xlen == 32 ? 0 : i->imm, v);
}
EMIT(fsd) { store(t, i, MEM_64, f_get(t, i->fs2)); }
EMIT(fsw) { store(t, i, MEM_32, f_get(t, i->fs2)); }
EMIT(fsh) { store(t, i, MEM_16, ir_vop(IR, VOP_TOD, T_I32, f_get(t, i->fs2), 0, 0, 0)); }

static ir_val low32(struct riscv_t *t, unsigned r) { return ir_vop(t->ir, VOP_TOD, T_I32, f_get(t, r), 0, 0, 0); }
static ir_val low64(struct riscv_t *t, ir_val v) { return ir_vop(t->ir, VOP_TOQ, T_I64, v, 0, 0, 0); }

EMIT(fmv_x_w) { x_put32(t, i->rd, low32(t, i->fs1)); }
EMIT(fmv_x_d) { x_put(t, i->rd, low64(t, f_get(t, i->fs1))); }
EMIT(fmv_x_h) { x_put32(t, i->rd, ir_un(IR, IR_SEXT16, low32(t, i->fs1))); }
EMIT(fmvh_x_d) { x_put_whole(t, i->rd, ir_bin_imm(IR, IR_SAR, low64(t, f_get(t, i->fs1)), 32)); }
EMIT(fmv_d_x) { f_put(t, i->fd, ir_vop(IR, VOP_MOVQ, T_V128, x_get(t, i->rs1), 0, 0, 0), false); }
EMIT(fmv_h_x) { f_put(t, i->fd, boxed_half(t, x_get(t, i->rs1)), true); }

EMIT(fmv_w_x)
{
    f_put(t, i->fd, ir_vop(IR, VOP_MOVQ, T_V128, ir_bin_imm(IR, IR_OR, x_get(t, i->rs1), BOX_S), 0, 0, 0), true);
}

EMIT(fmvp_d_x)
{
    ir_val v = ir_deposit(IR, x_get(t, i->rs1), x_get(t, i->rs2), 32, 32);

    f_put(t, i->fd, ir_vop(IR, VOP_MOVQ, T_V128, v, 0, 0, 0), false);
}

/* ---- signs. Bits beside the sign stay the first operand's, boxes among them */

static const uint64_t sign[3] = { [FP_S] = UINT64_C(1) << 31, [FP_D] = UINT64_C(1) << 63, [FP_H] = 1 << 15 };

/* Half precision: in an x register. */
static ir_val half_bits(struct riscv_t *t, unsigned r)
{
    ir_val v = low64(t, f_get(t, r));

    return ir_select(t->ir, C_GEU, v, c64(t, BOX_H), v, c64(t, BOX_H | 0x7e00));
}

static ir_val sign_half(struct riscv_t *t, const struct riscv_insn *i, unsigned kind)
{
    ir_val a = half_bits(t, i->fs1), b = half_bits(t, i->fs2);

    b = ir_bin_imm(IR, IR_AND, b, sign[FP_H]);
    if (kind == 1)
        b = ir_bin_imm(IR, IR_XOR, b, sign[FP_H]);
    if (kind == 2)
        return ir_bin(IR, IR_XOR, a, b);
    return ir_bin(IR, IR_OR, ir_bin_imm(IR, IR_AND, a, ~sign[FP_H]), b);
}

static ir_val sign_of_self(struct riscv_t *t, ir_val a, unsigned kind, uint64_t bit)
{
    if (kind == 0)
        return a;
    return kind == 1 ? vop2(t, VOP_XORF, a, cv(t, bit)) : vop2(t, VOP_ANDF, a, cv(t, ~bit));
}

static void sign_inject(struct riscv_t *t, const struct riscv_insn *i, unsigned kind)
{
    unsigned f = FORMAT;
    ir_val a, b;

    if (f == FP_H) {
        f_put(t, i->fd, ir_vop(IR, VOP_MOVQ, T_V128, sign_half(t, i, kind), 0, 0, 0), true);
        return;
    }
    a = f_get_format(t, i->fs1, f);
    if (i->fs1 == i->fs2) {
        f_put_format(t, i->fd, sign_of_self(t, a, kind, sign[f]), f);
        return;
    }
    b = f_get_format(t, i->fs2, f);
    b = vop2(t, kind == 1 ? VOP_ANDNF : VOP_ANDF, b, cv(t, sign[f]));
    if (kind < 2)
        a = vop2(t, VOP_ANDF, a, cv(t, ~sign[f]));
    f_put_format(t, i->fd, vop2(t, kind == 2 ? VOP_XORF : VOP_ORF, a, b), f);
}
EMIT(fsgnj) { sign_inject(t, i, 0); }
EMIT(fsgnjn) { sign_inject(t, i, 1); }
EMIT(fsgnjx) { sign_inject(t, i, 2); }

/* ---- rounding */

/* The host rounds as the instruction asks: by frm, which is one of the host's modes. */
static bool host_rounds(const struct riscv_t *t, const struct riscv_insn *i)
{
    return i->rm == RM_DYN && !(t->mode & MODE_FRM_SLOW);
}

/* Before software uses a dynamic rounding mode that may be a reserved one (20.2). */
static void check_frm(struct riscv_t *t, const struct riscv_insn *i)
{
    if (i->rm == RM_DYN && (t->mode & MODE_FRM_SLOW))
        riscv_call(t, RISCV_HELP_fp_check_frm, c32(t, i->raw), 0, 0, 0);
}

static void software(struct riscv_t *t, const struct riscv_insn *i, enum riscv_fp_op op, unsigned format, unsigned to)
{
    ir_val a = f_get(t, i->fs1), b = f_get(t, i->fs2), c = f_get(t, i->fs3);

    f_put(t, i->fd, riscv_call(t, RISCV_HELP_fp_arith, a, b, c, c32(t, RISCV_FP(op, format, i->rm))), to != FP_D);
}

static void software_rounded(struct riscv_t *t, const struct riscv_insn *i, enum riscv_fp_op op, unsigned format, unsigned to)
{
    check_frm(t, i);
    software(t, i, op, format, to);
}

/* A NaN result is the canonical one. */
static ir_val fix_nan(struct riscv_t *t, ir_val v, unsigned format, ir_val a, ir_val b)
{
    return ir_vfix(t->ir, format == FP_S ? FIX_NAN_S : FIX_NAN_D, RISCV_FIX_NAN, v, a, b, 0, RISCV_FP(0, format, 0));
}

/* ---- arithmetic */

static void arith(struct riscv_t *t, const struct riscv_insn *i, enum riscv_fp_op op, unsigned single, unsigned dbl)
{
    unsigned f = FORMAT;
    ir_val a, b;

    if (f == FP_H || !host_rounds(t, i)) {
        software_rounded(t, i, op, f, f);
        return;
    }
    a = f_get_format(t, i->fs1, f);
    b = op == FPO_SQRT ? a : f_get_format(t, i->fs2, f);
    f_put_format(t, i->fd, fix_nan(t, vop2(t, f == FP_S ? single : dbl, a, b), f, a, b), f);
}
EMIT(fadd) { arith(t, i, FPO_ADD, VOP_ADDSS, VOP_ADDSD); }
EMIT(fsub) { arith(t, i, FPO_SUB, VOP_SUBSS, VOP_SUBSD); }
EMIT(fmul) { arith(t, i, FPO_MUL, VOP_MULSS, VOP_MULSD); }
EMIT(fdiv) { arith(t, i, FPO_DIV, VOP_DIVSS, VOP_DIVSD); }
EMIT(fsqrt) { arith(t, i, FPO_SQRT, VOP_SQRTSS, VOP_SQRTSD); }

enum { FMA_213 = 1 };           /* the form of the host's that is a * b + c */

/* A NaN is made again: infinity times zero plus a quiet NaN is invalid here (20.6), not on the host. */
static void fused(struct riscv_t *t, const struct riscv_insn *i, enum riscv_fp_op op, unsigned single, unsigned dbl)
{
    unsigned f = FORMAT;
    ir_val a, b, c, v;

    if (f == FP_H || !host_rounds(t, i)) {
        software_rounded(t, i, op, f, f);
        return;
    }
    a = f_get_format(t, i->fs1, f);
    b = f_get_format(t, i->fs2, f);
    c = f_get_format(t, i->fs3, f);
    v = ir_vop(IR, f == FP_S ? single : dbl, T_V128, a, b, c, FMA_213);
    v = ir_vfix(IR, f == FP_S ? FIX_NAN_S : FIX_NAN_D, RISCV_FIX_ARITH, v, a, b, c, RISCV_FP(op, f, i->rm));
    f_put_format(t, i->fd, v, f);
}
/* RISC-V's FNMSUB is -(a * b) + c, as x86's FNMADD. */
EMIT(fmadd) { fused(t, i, FPO_MADD, VOP_FMADDSS, VOP_FMADDSD); }
EMIT(fmsub) { fused(t, i, FPO_MSUB, VOP_FMSUBSS, VOP_FMSUBSD); }
EMIT(fnmsub) { fused(t, i, FPO_NMSUB, VOP_FNMADDSS, VOP_FNMADDSD); }
EMIT(fnmadd) { fused(t, i, FPO_NMADD, VOP_FNMSUBSS, VOP_FNMSUBSD); }

enum { CMP_LT_OQ = 0x11, CMP_EQ_OQ = 0, CMP_LT_OS = 1, CMP_LE_OS = 2 };        /* the host's predicates */

/* The host's own minimum is invalid for quiet NaNs. a < b chooses; equal (zeros!) and unordered is software's. */
static void minmax(struct riscv_t *t, const struct riscv_insn *i, bool max)
{
    unsigned f = FORMAT;
    enum riscv_fp_op op = max ? FPO_MAX : FPO_MIN;
    ir_val a, b, less, v;

    if (f == FP_H) {
        software(t, i, op, f, f);
        return;
    }
    a = f_get_format(t, i->fs1, f);
    b = f_get_format(t, i->fs2, f);
    less = ir_vop(IR, f == FP_S ? VOP_CMPSS : VOP_CMPSD, T_V128, a, b, 0, CMP_LT_OQ);
    if (f == FP_S)                      /* the mask of a single covers its box too, which is the same in both */
        v = ir_vop(IR, VOP_BLENDVPS, T_V128, max ? a : b, max ? b : a, less, 0);
    else
        v = ir_vop(IR, VOP_BLENDVPD, T_V128, max ? a : b, max ? b : a, less, 0);
    v = ir_vfix(IR, f == FP_S ? FIX_EQ_S : FIX_EQ_D, RISCV_FIX_ARITH, v, a, b, 0, RISCV_FP(op, f, RM_RNE));
    f_put_format(t, i->fd, v, f);
}
EMIT(fmin) { minmax(t, i, false); }
EMIT(fmax) { minmax(t, i, true); }
EMIT(fminm) { software(t, i, FPO_MINM, FORMAT, FORMAT); }
EMIT(fmaxm) { software(t, i, FPO_MAXM, FORMAT, FORMAT); }

/* ---- comparison */

static void compare_half(struct riscv_t *t, const struct riscv_insn *i, unsigned op)
{
    x_put_whole(t, i->rd, riscv_call(t, RISCV_HELP_fp_compare, f_get(t, i->fs1), f_get(t, i->fs2),
                                     c32(t, RISCV_FP(op, FP_H, RM_RNE)), 0));
}

static void compare(struct riscv_t *t, const struct riscv_insn *i, unsigned op, unsigned predicate)
{
    unsigned f = FORMAT;
    ir_val a, b;

    if (f == FP_H) {
        compare_half(t, i, op);
        return;
    }
    a = f_get_format(t, i->fs1, f);
    b = f_get_format(t, i->fs2, f);
    a = low64(t, ir_vop(IR, f == FP_S ? VOP_CMPSS : VOP_CMPSD, T_V128, a, b, 0, predicate));
    x_put_whole(t, i->rd, ir_bin_imm(IR, IR_AND, a, 1));
}
EMIT(flt) { compare(t, i, 0, CMP_LT_OS); }
EMIT(fle) { compare(t, i, 1, CMP_LE_OS); }
EMIT(feq) { compare(t, i, 4 | 2, CMP_EQ_OQ); }

/* Quiet ones by flags: b > a leaves both ZF and CF clear, b >= a leaves CF clear. */
static void compare_quiet(struct riscv_t *t, const struct riscv_insn *i, unsigned op, uint32_t flags)
{
    unsigned f = FORMAT;
    ir_val a, b;

    if (f == FP_H) {
        compare_half(t, i, 4 | op);
        return;
    }
    a = f_get_format(t, i->fs1, f);
    b = f_get_format(t, i->fs2, f);
    a = ir_vop(IR, f == FP_S ? VOP_UCOMISS : VOP_UCOMISD, T_I32, b, a, 0, 0);
    x_put_whole(t, i->rd, ir_setcc(IR, T_I64, C_TSTEQ, a, c32(t, flags)));
}
EMIT(fltq) { compare_quiet(t, i, 0, 0x41); }
EMIT(fleq) { compare_quiet(t, i, 1, 0x01); }

EMIT(fclass)
{
    x_put_whole(t, i->rd, riscv_call(t, RISCV_HELP_fp_class, f_get(t, i->fs1), c32(t, RISCV_FP(0, FORMAT, 0)), 0, 0));
}

/* ---- to integers */

static void software_to_int(struct riscv_t *t, const struct riscv_insn *i, enum riscv_int kind)
{
    x_put_whole(t, i->rd, riscv_call(t, RISCV_HELP_fp_to_int, f_get(t, i->fs1), c32(t, RISCV_FP(kind, FORMAT, i->rm)), 0, 0));
}

static bool host_converts(const struct riscv_t *t, const struct riscv_insn *i)
{
    return FORMAT != FP_H && (i->rm == RM_RTZ || host_rounds(t, i));
}

/* The host's conversion to a signed integer: [single, double][truncating][64 bits]. */
static const uint16_t convert[2][2][2] = {
    { { VOP_CVTSS2I32, VOP_CVTSS2I64 }, { VOP_CVTTSS2I32, VOP_CVTTSS2I64 } },
    { { VOP_CVTSD2I32, VOP_CVTSD2I64 }, { VOP_CVTTSD2I32, VOP_CVTTSD2I64 } },
};

static ir_val host_convert(struct riscv_t *t, const struct riscv_insn *i, ir_val a, bool wide)
{
    return ir_vop(IR, convert[FORMAT][i->rm == RM_RTZ][wide], wide ? T_I64 : T_I32, a, 0, 0, 0);
}

static void to_signed(struct riscv_t *t, const struct riscv_insn *i, bool wide)
{
    enum riscv_int kind = wide ? INT_L : INT_W;
    ir_val a, v;

    if (!host_converts(t, i)) {
        check_frm(t, i);
        software_to_int(t, i, kind);
        return;
    }
    a = f_get_format(t, i->fs1, FORMAT);
    v = host_convert(t, i, a, wide);
    v = ir_vfix(IR, FIX_INDEF, RISCV_FIX_TO_INT, v, a, 0, 0, RISCV_FP(kind, FORMAT, i->rm));
    if (wide)
        x_put(t, i->rd, v);
    else
        x_put32(t, i->rd, v);
}
EMIT(fcvt_w_f) { to_signed(t, i, false); }
EMIT(fcvt_l_f) { to_signed(t, i, true); }

/* Images of [0, 2^32 - 1] and [0, 2^63) are those of unsigned integers below these; there the host's signed 64-bit
 * conversion is the unsigned one. */
static uint64_t unsigned_limit(unsigned format, bool wide)
{
    if (format == FP_S)
        return BOX_S | (wide ? 0x5f000000 : 0x4f7fffff);
    return wide ? UINT64_C(0x43e0000000000000) : UINT64_C(0x41efffffffe00000);
}

static void to_unsigned(struct riscv_t *t, const struct riscv_insn *i, bool wide)
{
    ir_label slow, done;
    ir_val v, bits;

    check_frm(t, i);
    if (!host_converts(t, i)) {
        software_to_int(t, i, wide ? INT_LU : INT_WU);
        return;
    }
    slow = ir_label_new(IR);
    done = ir_label_new(IR);
    bits = low64(t, f_get(t, i->fs1));
    if (FORMAT == FP_S)                 /* boxed ones come first so */
        bits = ir_bin_imm(IR, IR_SUB, bits, BOX_S);
    ir_brcond(IR, C_GEU, bits, c64(t, unsigned_limit(FORMAT, wide) - (FORMAT == FP_S ? BOX_S : 0)), slow);
    v = host_convert(t, i, f_get(t, i->fs1), true);
    if (wide)
        x_put(t, i->rd, v);
    else
        x_put32(t, i->rd, ir_un(IR, IR_TRUNC, v));
    ir_br(IR, done);
    ir_label_bind(IR, slow);
    software_to_int(t, i, wide ? INT_LU : INT_WU);
    ir_label_bind(IR, done);
}
EMIT(fcvt_wu_f) { to_unsigned(t, i, false); }
EMIT(fcvt_lu_f) { to_unsigned(t, i, true); }
EMIT(fcvtmod_w_d) { x_put_whole(t, i->rd, riscv_call(t, RISCV_HELP_fcvtmod, f_get(t, i->fs1), 0, 0, 0)); }

/* ---- from integers */

static void software_from_int(struct riscv_t *t, const struct riscv_insn *i, enum riscv_int kind)
{
    f_put(t, i->fd, riscv_call(t, RISCV_HELP_fp_from_int, x_get(t, i->rs1), c32(t, RISCV_FP(kind, FORMAT, i->rm)), 0, 0),
          FORMAT != FP_D);
}

static void put_converted(struct riscv_t *t, const struct riscv_insn *i, ir_val v)
{
    unsigned op = ir_type_of(IR, v) == T_I64 ? (FORMAT == FP_S ? VOP_CVTI64SS : VOP_CVTI64SD) :
                                               (FORMAT == FP_S ? VOP_CVTI32SS : VOP_CVTI32SD);

    f_put_format(t, i->fd, vop2(t, op, cv(t, FORMAT == FP_S ? UINT64_MAX : 0), v), FORMAT);
}

static void from_int(struct riscv_t *t, const struct riscv_insn *i, enum riscv_int kind)
{
    bool exact = FORMAT == FP_D && kind <= INT_WU;
    ir_label slow, done;

    check_frm(t, i);
    if (FORMAT == FP_H || (!exact && !host_rounds(t, i))) {
        software_from_int(t, i, kind);
        return;
    }
    if (kind != INT_LU) {
        put_converted(t, i, kind == INT_W ? x_get32(t, i->rs1) : kind == INT_L ? x_get(t, i->rs1) :
                            ir_un(IR, IR_ZEXT32, x_get32(t, i->rs1)));
        return;
    }
    slow = ir_label_new(IR);            /* 2^63 and more */
    done = ir_label_new(IR);
    ir_brcond(IR, C_LT, x_get(t, i->rs1), c64(t, 0), slow);
    put_converted(t, i, x_get(t, i->rs1));
    ir_br(IR, done);
    ir_label_bind(IR, slow);
    software_from_int(t, i, kind);
    ir_label_bind(IR, done);
}
EMIT(fcvt_f_w) { from_int(t, i, INT_W); }
EMIT(fcvt_f_wu) { from_int(t, i, INT_WU); }
EMIT(fcvt_f_l) { from_int(t, i, INT_L); }
EMIT(fcvt_f_lu) { from_int(t, i, INT_LU); }

/* ---- between formats */

EMIT(fcvt_s_d)
{
    ir_val a;

    if (!host_rounds(t, i)) {
        software_rounded(t, i, FPO_TO_S, FP_D, FP_S);
        return;
    }
    a = f_get(t, i->fs1);
    f_put(t, i->fd, fix_nan(t, vop2(t, VOP_CVTSD2SS, cv(t, UINT64_MAX), a), FP_S, a, 0), true);
}

EMIT(fcvt_d_s)
{
    ir_val a;

    check_frm(t, i);
    a = f_get_single(t, i->fs1);
    f_put(t, i->fd, fix_nan(t, vop2(t, VOP_CVTSS2SD, cv(t, 0), a), FP_D, a, 0), false);
}
EMIT(fcvt_s_h) { software_rounded(t, i, FPO_TO_S, FP_H, FP_S); }
EMIT(fcvt_d_h) { software_rounded(t, i, FPO_TO_D, FP_H, FP_D); }
EMIT(fcvt_h_s) { software_rounded(t, i, FPO_TO_H, FP_S, FP_H); }
EMIT(fcvt_h_d) { software_rounded(t, i, FPO_TO_H, FP_D, FP_H); }

/* ---- Zfa */

/* The host's rounding to integers names its modes, or takes the current one; 8: inexact is not raised. */
static void round_to_int(struct riscv_t *t, const struct riscv_insn *i, bool inexact)
{
    static const uint8_t host_mode[8] = { [RM_RNE] = 0, [RM_RDN] = 1, [RM_RUP] = 2, [RM_RTZ] = 3, [RM_DYN] = 4 };
    unsigned f = FORMAT;
    ir_val a, v;

    if (f == FP_H || i->rm == RM_RMM || (i->rm == RM_DYN && (t->mode & MODE_FRM_SLOW))) {
        software_rounded(t, i, inexact ? FPO_ROUNDNX : FPO_ROUND, f, f);
        return;
    }
    a = f_get_format(t, i->fs1, f);
    v = ir_vop(IR, f == FP_S ? VOP_ROUNDSS : VOP_ROUNDSD, T_V128, a, a, 0, host_mode[i->rm & 7] | (inexact ? 0 : 8));
    f_put_format(t, i->fd, fix_nan(t, v, f, a, 0), f);
}
EMIT(fround) { round_to_int(t, i, false); }
EMIT(froundnx) { round_to_int(t, i, true); }

/* FLI's constants as doubles (25.1); entry 1 is the least normal number of the format, 30 and 31 are infinity and NaN. */
static const double constants[30] = {
    -1, 0, 0x1p-16, 0x1p-15, 0x1p-8, 0x1p-7, 0.0625, 0.125, 0.25, 0.3125, 0.375, 0.4375, 0.5, 0.625, 0.75, 0.875, 1, 1.25, 1.5,
    1.75, 2, 2.5, 3, 4, 8, 16, 128, 256, 0x1p15, 0x1p16,
};

static uint64_t fli_image(unsigned n, unsigned format)
{
    static const uint64_t least[3] = { 0x00800000, UINT64_C(0x0010000000000000), 0x0400 };
    static const uint64_t infinity[3] = { 0x7f800000, UINT64_C(0x7ff0000000000000), 0x7c00 };
    static const uint64_t nan[3] = { 0x7fc00000, UINT64_C(0x7ff8000000000000), 0x7e00 };
    struct float_status s = float_status_init(&float_rules_riscv);
    uint64_t v;

    if (n == 1 || n >= 30)
        return n == 1 ? least[format] : n == 30 ? infinity[format] : nan[format];
    memcpy(&v, &constants[n], 8);
    return format == FP_D ? v : format == FP_S ? f64_to_f32(v, &s) : f64_to_f16(v, &s);
}

EMIT(fli)
{
    static const uint64_t box[3] = { BOX_S, 0, BOX_H };

    f_put(t, i->fd, cv(t, fli_image(i->index & 31, FORMAT) | box[FORMAT]), FORMAT != FP_D);
}
