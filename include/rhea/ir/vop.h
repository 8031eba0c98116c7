/* Vector and scalar floating-point operations, a row each in vop.def. One IR op (IR_VOP) carries the row's
 * number; the interpreter calls the row's C function, the x86-64 back end emits the row's encoding, and a host without
 * one calls the C function too. Scalar floating point is a vector op whose length is one element: element 0 is
 * computed, the rest of the result comes from operand a (MERGE forms), as SSE does; guests that zero or NaN-box the
 * rest add one op.
 *
 * Row: VOP(id, "text", form, operands, pp, map, opcode, ext, flags, host feature)
 *   form     how operands map on an x86 instruction:
 *     RVM    dst, a, b       (SSE: dst = a first)       RM   dst, a           MI  dst, a, imm8 by /ext (shifts)
 *     RMI    dst, a, imm8    RVMI dst, a, b, imm8       RVMR dst, a, b, c     VEX: opcode with c in is4; SSE: map
 *                                                            0F38, opcode ext, c in xmm0 (blendv)
 *     RVM0   dst, a, b with c in xmm0 (sha256rnds2)     FMA  dst = a first, then dst, b, c; opcode + (imm << 4)
 *     MRI    dst in rm, a in reg, imm8 (cvtps2ph)
 *     GM     integer dst in reg, a in rm (movmsk, cvttsd2si)    MG   integer dst in rm, a in reg (movd)
 *     GMI    integer dst in rm, a in reg, imm8 (pextr)
 *     RG     dst, integer a  (movd)                     RVG  dst, a, integer b (cvtsi2sd: merge into a)
 *     RVGI   dst, a, integer b, imm8 (pinsr)            CUSTOM  the back end may have a function of its own for it,
 *                                                            else it calls the C function
 *   pp 0 none, 1 66, 2 F3, 3 F2; map 1 0F, 2 0F38, 3 0F3A. VEX.L is set when the result or an operand is V256 (such a
 *   form of an SSE row needs AVX2 on the host). Rows of AVX, AVX2, FMA, F16C have no SSE encoding, LEGACY rows no VEX one.
 *   FP in flags: reads rounding mode, raises sticky flags (never merged or removed when flags are observed; not
 *   commutative, as the NaN chosen depends on the order). A back end that calls the C function of an FP row brings
 *   cpu.fp_control up to date before and the host's MXCSR after. */
#ifndef RHEA_IR_VOP_H
#define RHEA_IR_VOP_H

#include <stdint.h>
#include "rhea/ir/ir.h"

enum vop_form { VF_RVM, VF_RM, VF_MI, VF_RMI, VF_RVMI, VF_RVMR, VF_RVM0, VF_FMA, VF_MRI, VF_GM, VF_MG, VF_GMI,
                VF_RG, VF_RVG, VF_RVGI, VF_CUSTOM };
enum { VOPF_FP = 1,
       VOPF_W1 = 2,             /* REX.W or VEX.W; integer operand and result are I64 (else I32) */
       VOPF_COMM = 4,
       VOPF_SCALAR = 8,         /* element 0 only, rest from a; always VEX.L0 */
       VOPF_NO256 = 16,         /* V128 only */
       VOPF_GPR_RESULT = 32, VOPF_GPR_B = 64, VOPF_GPR_A = 128,
       VOPF_GPR_C = 256,        /* always I64 */
       VOPF_A128 = 512, VOPF_B128 = 1024,       /* that operand is V128 even when the result is V256 */
       VOPF_R128 = 2048,        /* the result is V128 even when a is V256 */
       VOPF_LEGACY = 4096 };
enum host_feature { HF_SSE2, HF_SSSE3, HF_SSE41, HF_SSE42, HF_AVX, HF_AVX2, HF_FMA, HF_F16C, HF_AES, HF_PCLMUL,
                    HF_SHA, HF_BMI1, HF_BMI2, HF_LZCNT, HF_POPCNT, HF_GFNI, HF_NEVER };

/* The portable meaning. bytes: 32 if the result or an operand is V256, else 16. dst may alias a, b, c, and there is room
 * for 32 bytes there. Operands and result are V128/V256 images; integer operands and results are the low 8 bytes of
 * theirs. The function of row ID is vop_fn_ID (src/ir/vop_*.c); vop.c declares them all and fills the table. */
typedef void vop_fn(struct cpu *cpu, uint8_t *dst, const uint8_t *a, const uint8_t *b, const uint8_t *c, int64_t imm,
                    unsigned bytes);
struct vop_info {
    const char *text;
    vop_fn *fn;
    uint8_t form, operands, pp, map, opcode, ext, feature;
    uint16_t flags;
};

enum vop_id {
    VOP_NONE,
#define VOP(id, ...) VOP_##id,
#include "rhea/ir/vop.def"
#undef VOP
    VOP_COUNT
};
extern const struct vop_info vop_info[VOP_COUNT];

#endif
