/* Vector ops by the encodings of their rows in vop.def. */
#include <stddef.h>
#include "codegen.h"

struct vec_op {
    const struct ir_op *op;
    const struct vop_info *info;
    uint32_t code;              /* opcode constant */
    unsigned l;                 /* 256 bits */
    bool vex;
};

static unsigned val_type(const struct codegen *b, ir_val v) { return v ? b->ir->val_type[v] : T_VOID; }

void lower_vec_const(struct codegen *b, const struct ir_op *op)
{
    bool l = op->type == T_V256;
    unsigned t = NOREG, rd;

    b->used_ymm |= l;
    if (op->imm != 0 && op->imm != -1) {
        t = temp_reg(b, GPR_ALL);
        mov_imm(&b->c, t, op->imm);
    }
    rd = def_reg(b);
    if (t == NOREG) {                   /* pxor or pcmpeqd with itself */
        uint32_t code = M_0F | P_66 | (op->imm ? 0x76 : 0xef);

        if (b->host->avx)
            vex_rr(&b->c, code, l && (op->imm == 0 || b->host->avx2), rd, rd, rd);
        else
            op_rr(&b->c, code, rd, rd);
        return;
    }
    if (!b->host->avx) {
        op_rr(&b->c, M_0F | P_66 | 0x6e | OP_W, rd, t);
        op_rr(&b->c, M_0F | P_66 | 0x6c, rd, rd);       /* punpcklqdq */
        return;
    }
    vex_rr(&b->c, M_0F | P_66 | 0x6e | OP_W, 0, rd, 0, t);
    if (l)
        vex_rr(&b->c, M_0F38 | P_66 | 0x59, 1, rd, 0, rd);      /* vpbroadcastq */
    else
        vex_rr(&b->c, M_0F | P_66 | 0x6c, 0, rd, rd, rd);
}

/* ---- by way of the portable function */

static void frame_put(struct codegen *b, unsigned place, ir_val v)
{
    struct mem m = mem_at(RSP, FRAME_CALL + 32 * place);

    if (!v)
        return;
    if (type_is_vec(val_type(b, v))) {
        vec_store(b, ir_type_bytes(val_type(b, v)), m, use_reg(b, v));
        if (val_type(b, v) == T_V256)
            return;
        for (unsigned i = 16; i < 32; i += 8) {         /* an image's upper half is zero */
            op_rm(&b->c, 0xc7 | OP_W, 0, mem_at(RSP, m.disp + i));
            put32(&b->c, 0);
        }
    } else {
        mov_store(&b->c, true, m, use_reg(b, v));
    }
}

static void call_portable(struct codegen *b, const struct vec_op *x)
{
    const struct ir_op *op = x->op;
    bool fp = x->info->flags & VOPF_FP, wide = x->l;

    if (b->limit - b->c.p < 2048)
        codegen_overflow(b);
    memo_forget(b);
    frame_put(b, 1, op->a);
    frame_put(b, 2, op->b);
    frame_put(b, 3, op->c);
    if (fp)
        mxcsr_store(b);
    evict_caller_saved(b);
    lea_cpu(&b->c, RDI);
    lea(&b->c, true, RSI, mem_at(RSP, FRAME_CALL));
    lea(&b->c, true, RDX, mem_at(RSP, FRAME_CALL + 32));
    lea(&b->c, true, RCX, mem_at(RSP, FRAME_CALL + 64));
    lea(&b->c, true, R8, mem_at(RSP, FRAME_CALL + 96));
    mov_imm(&b->c, R9, op->imm);
    op_rm(&b->c, 0xc7, 0, mem_at(RSP, 0));
    put32(&b->c, wide ? 32 : 16);
    if (b->used_ymm)
        vzeroupper(b);
    emit_call_c(b, x->info->fn);
    if (fp)
        mxcsr_load(b);
    b->locked = b->temps = 0;
    if (type_is_vec(op->type)) {
        vec_load(b, ir_type_bytes(op->type), def_reg(b), mem_at(RSP, FRAME_CALL));
    } else {
        take_reg(b, RAX);
        mov_load(&b->c, op->type == T_I64, RAX, mem_at(RSP, FRAME_CALL));
        def_in(b, RAX);
    }
}

/* ---- by encoding */

static void rr(struct codegen *b, const struct vec_op *x, unsigned reg, unsigned v, unsigned rm)
{
    if (x->vex)
        vex_rr(&b->c, x->code, x->l, reg, v, rm);
    else
        op_rr(&b->c, x->code, reg, rm);
}

/* dst, a, b: three registers with VEX, else dst is a first */
static void two_sources(struct codegen *b, const struct vec_op *x)
{
    const struct ir_op *op = x->op;
    unsigned ra = use_reg(b, op->a), rb, rd;
    struct mem m;

    if (x->vex && !x->info->flags && use_mem(b, op->b, op->type, &m)) {
        rd = def_reg(b);
        vex_rm(&b->c, x->code, x->l, rd, ra, m);
        return;
    }
    rb = use_reg(b, op->b);
    if (x->vex)
        rd = def_reg(b);
    else
        rd = def_like(b, op->a);
    rr(b, x, rd, ra, rb);
}

static void one_source(struct codegen *b, const struct vec_op *x)
{
    unsigned ra = use_reg(b, x->op->a), rd = def_reg(b);

    rr(b, x, rd, 0, ra);
}

static void shift_imm(struct codegen *b, const struct vec_op *x)
{
    unsigned ra = use_reg(b, x->op->a);

    if (x->vex)
        vex_rr(&b->c, x->code, x->l, x->info->ext, def_reg(b), ra);
    else
        op_rr(&b->c, x->code, x->info->ext, def_like(b, x->op->a));
    put8(&b->c, x->op->imm);
}

static void blend(struct codegen *b, const struct vec_op *x)
{
    const struct ir_op *op = x->op;
    unsigned ra, rb, rc;

    if (x->vex) {
        ra = use_reg(b, op->a);
        rb = use_reg(b, op->b);
        rc = use_reg(b, op->c);
        vex_rr(&b->c, x->code, x->l, def_reg(b), ra, rb);
        put8(&b->c, (rc & 15) << 4);
        return;
    }
    use_in(b, op->c, XMM0);
    use_reg(b, op->a);
    rb = use_reg(b, op->b);
    if (x->info->form == VF_RVMR)
        op_rr(&b->c, M_0F38 | x->info->pp << 10 | x->info->ext, def_like(b, op->a), rb);
    else
        op_rr(&b->c, x->code, def_like(b, op->a), rb);
}

static void fused(struct codegen *b, const struct vec_op *x)
{
    const struct ir_op *op = x->op;
    unsigned rb, rc;

    use_reg(b, op->a);
    rb = use_reg(b, op->b);
    rc = use_reg(b, op->c);
    vex_rr(&b->c, x->code + (op->imm << 4), x->l, def_like(b, op->a), rb, rc);
}

static void emit_form(struct codegen *b, const struct vec_op *x)
{
    const struct ir_op *op = x->op;
    unsigned ra;

    switch (x->info->form) {
    case VF_RVM: case VF_RVG: two_sources(b, x); break;
    case VF_RVMI: case VF_RVGI: two_sources(b, x); put8(&b->c, op->imm); break;
    case VF_RM: case VF_GM: case VF_RG: one_source(b, x); break;
    case VF_RMI: one_source(b, x); put8(&b->c, op->imm); break;
    case VF_MI: shift_imm(b, x); break;
    case VF_RVMR: case VF_RVM0: blend(b, x); break;
    case VF_FMA: fused(b, x); break;
    case VF_MG:
        ra = use_reg(b, op->a);
        rr(b, x, ra, 0, def_reg(b));
        break;
    case VF_MRI: case VF_GMI:
        ra = use_reg(b, op->a);
        rr(b, x, ra, 0, def_reg(b));
        put8(&b->c, op->imm);
        break;
    }
}

/* Comparisons whose result is flags: they clear OF, SF and AF, so that ZF, PF and CF are all of AH that counts. */
static void compare_flags(struct codegen *b, struct vec_op *x)
{
    unsigned ra, rb;

    x->vex = b->host->avx;
    x->code = vop_code(x->info);
    take_reg(b, RAX);
    ra = use_reg(b, x->op->a);
    rb = use_reg(b, x->op->b);
    rr(b, x, ra, 0, rb);
    put8(&b->c, 0x9f);                          /* lahf */
    op_rr(&b->c, M_0F | 0xb6, RAX, RSP);        /* movzx eax, ah */
    alu_ri(&b->c, ALU_AND, false, RAX, 0x45);
    def_in(b, RAX);
}

/* PCMPxSTRx: lengths in EAX and EDX, an index in ECX with flags, or a mask in XMM0. */
static void compare_strings(struct codegen *b, struct vec_op *x, bool index)
{
    const struct ir_op *op = x->op;
    unsigned ra, rb;

    x->vex = b->host->avx;
    x->code = vop_code(x->info) & ~OP_W;        /* the result is wide, the lengths are not */
    if (op->c)
        use_in(b, op->c, RAX);
    else
        take_reg(b, RAX);
    take_reg(b, RDX);
    take_reg(b, RCX);
    take_reg(b, XMM0);
    ra = use_reg(b, op->a);
    rb = use_reg(b, op->b);
    if (op->c) {
        mov_rr(&b->c, true, RDX, RAX);
        shift_ri(&b->c, SH_SHR, true, RDX, 32);
    }
    rr(b, x, ra, 0, rb);
    put8(&b->c, op->imm);
    if (!index) {
        def_in(b, XMM0);
        return;
    }
    put8(&b->c, 0x9f);                          /* lahf: SF, ZF, CF; AF and PF are clear */
    op_rr(&b->c, M_0F | 0x90, 0, RAX);          /* seto al */
    op_rr(&b->c, M_0F | 0xb6, RDX, RSP);        /* movzx edx, ah */
    op_rr(&b->c, M_0F | 0xb6, RAX, RAX);        /* movzx eax, al */
    alu_ri(&b->c, ALU_AND, false, RDX, 0xc1);
    shift_ri(&b->c, SH_SHL, false, RAX, 11);
    alu_rr(&b->c, ALU_OR, false, RAX, RDX);
    shift_ri(&b->c, SH_SHL, true, RAX, 32);
    alu_rr(&b->c, ALU_OR, true, RAX, RCX);
    def_in(b, RAX);
}

static bool custom(struct codegen *b, struct vec_op *x)
{
    const struct ir_op *op = x->op;
    unsigned ra, rb;

    switch (op->aux) {
    case VOP_UCOMISS: case VOP_UCOMISD: case VOP_COMISS: case VOP_COMISD:
    case VOP_PTEST: case VOP_TESTPS: case VOP_TESTPD:
        compare_flags(b, x);
        return true;
    case VOP_PCMPISTRI: case VOP_PCMPESTRI:
        compare_strings(b, x, true);
        return true;
    case VOP_PCMPISTRM: case VOP_PCMPESTRM:
        compare_strings(b, x, false);
        return true;
    case VOP_LO:
        def_alias(b, op->dst, op->a);
        return true;
    case VOP_HI:
        ra = use_reg(b, op->a);
        vex_rr(&b->c, M_0F3A | P_66 | 0x19, 1, ra, 0, def_reg(b));      /* vextractf128 */
        put8(&b->c, 1);
        return true;
    case VOP_ZEXT:              /* a 128-bit VEX move zeroes the rest */
        ra = use_reg(b, op->a);
        vex_rr(&b->c, M_0F | P_66 | 0x6f, 0, def_reg(b), 0, ra);
        return true;
    case VOP_CAT:
        ra = use_reg(b, op->a);
        rb = use_reg(b, op->b);
        vex_rr(&b->c, M_0F3A | P_66 | 0x18, 1, def_reg(b), ra, rb);     /* vinsertf128 */
        put8(&b->c, 1);
        return true;
    default:
        return false;
    }
}

/* Rows whose instruction has no 128-bit form. */
static bool only_256(unsigned vop)
{
    return vop == VOP_PERM32 || vop == VOP_PERMPS || vop == VOP_PERMI64 || vop == VOP_PERMPD || vop == VOP_PERM128 ||
           vop == VOP_PERMF128;
}

/* CMPxx has predicates 8 to 31 in its VEX forms alone. */
static bool beyond_sse(const struct codegen *b, const struct ir_op *op)
{
    return !b->host->avx && op->imm > 7 && op->aux >= VOP_CMPPS && op->aux <= VOP_CMPSD;
}

void lower_vop(struct codegen *b, const struct ir_op *op)
{
    const struct vop_info *info = &vop_info[op->aux];
    struct vec_op x = { .op = op, .info = info };

    x.l = op->type == T_V256 || val_type(b, op->a) == T_V256 || val_type(b, op->b) == T_V256;
    b->used_ymm |= x.l;
    if (info->form == VF_CUSTOM) {
        if (!host_has(info->feature) || (!x.l && only_256(op->aux)) || !custom(b, &x))
            call_portable(b, &x);
        return;
    }
    x.vex = b->host->avx && !(info->flags & VOPF_LEGACY);
    if (!host_has(info->feature) || (!x.l && only_256(op->aux)) || (x.l && !b->host->avx2) || beyond_sse(b, op) || (info->form == VF_RVM0 && x.vex)) {
        call_portable(b, &x);
        return;
    }
    x.code = vop_code(info);
    if (info->flags & VOPF_SCALAR)
        x.l = 0;
    emit_form(b, &x);
}
