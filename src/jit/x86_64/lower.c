/* Integer ops to host instructions. */
#include <stdlib.h>
#include "codegen.h"

static bool wide(const struct ir_op *op) { return op->type == T_I64; }

static void lower_nop(struct codegen *b, const struct ir_op *op) { }

static void lower_const(struct codegen *b, const struct ir_op *op)
{
    if (type_is_vec(op->type))
        lower_vec_const(b, op);
    else
        def_const(b, op->dst, op->type == T_I32 ? (uint32_t)op->imm : (uint64_t)op->imm);
}

static void lower_get(struct codegen *b, const struct ir_op *op) { slot_get(b, op->dst, op->aux); }
static void lower_put(struct codegen *b, const struct ir_op *op) { slot_put(b, op->aux, op->a); }
static void lower_insn(struct codegen *b, const struct ir_op *op) { b->insn_pc = op->imm; }

static void lower_stld(struct codegen *b, const struct ir_op *op)
{
    struct mem m = state_mem(op->imm);
    unsigned r = def_reg(b);

    if (op->imm == offsetof(struct cpu, fp_control))
        mxcsr_store(b);
    if (type_is_vec(op->type)) {
        vec_load(b, ir_type_bytes(op->type), r, m);
        return;
    }
    switch (op->esz) {
    case 0: op_rm(&b->c, M_0F | 0xb6, r, m); break;
    case 1: op_rm(&b->c, M_0F | 0xb7, r, m); break;
    case 2: mov_load(&b->c, false, r, m); break;
    default: mov_load(&b->c, true, r, m);
    }
    if (op->esz < 3)
        b->val[op->dst].flags |= VAL_ZX;
}

static void store_int(struct codegen *b, unsigned log2, struct mem m, unsigned r)
{
    switch (log2) {
    case 0: op_rm(&b->c, 0x88 | OP_REG8, r, m); break;
    case 1: op_rm(&b->c, 0x89 | P_66, r, m); break;
    case 2: mov_store(&b->c, false, m, r); break;
    default: mov_store(&b->c, true, m, r);
    }
}

static void lower_stst(struct codegen *b, const struct ir_op *op)
{
    struct mem m = state_mem(op->imm);
    int32_t k;

    if (type_is_vec(b->ir->val_type[op->a])) {
        vec_store(b, ir_type_bytes(b->ir->val_type[op->a]), m, use_reg(b, op->a));
    } else if (op->esz >= 2 && val_imm32(b, op->a, op->esz == 3, &k)) {
        op_rm(&b->c, 0xc7 | OP_WIDE(op->esz == 3), 0, m);
        put32(&b->c, k);
    } else {
        store_int(b, op->esz, m, use_reg(b, op->a));
    }
}

/* r = pc_page + offset. A 32-bit guest's code may branch from the end of its addresses to their beginning: then it is a long one. */
void pc_to_reg(struct codegen *b, unsigned r, int64_t offset)
{
    if (offset != (int32_t)offset) {
        mov_imm(&b->c, r, offset);
        alu_rm(&b->c, ALU_ADD, true, r, STATE(pc_page));
        return;
    }
    mov_load(&b->c, true, r, STATE(pc_page));
    if (offset)
        alu_ri(&b->c, ALU_ADD, true, r, offset);
}

static void lower_pc(struct codegen *b, const struct ir_op *op)
{
    unsigned r;

    if (b->ir->fixed_pc) {
        def_const(b, op->dst, b->ir->page + op->imm);
        return;
    }
    r = def_reg(b);
    if (b->memory != MEMORY_TLB)
        mov_pc(b, r, b->ir->page + op->imm);
    else
        pc_to_reg(b, r, op->imm);
}

/* dst = a + imm */
static void add_imm(struct codegen *b, const struct ir_op *op, ir_val a, int32_t imm)
{
    unsigned ra = use_reg(b, a), rd = def_reg(b);

    if (rd == ra)
        alu_ri(&b->c, ALU_ADD, wide(op), rd, imm);
    else
        lea(&b->c, wide(op), rd, mem_at(ra, imm));
}

static void alu_two(struct codegen *b, const struct ir_op *op, enum alu_op alu, ir_val x, ir_val y)
{
    int32_t imm;
    struct mem m;
    unsigned ry, rd;

    if (val_imm32(b, y, wide(op), &imm)) {
        if (!val_const(b, x, NULL))
            use_reg(b, x);
        alu_ri(&b->c, alu, wide(op), def_like(b, x), imm);
        return;
    }
    if (!val_const(b, x, NULL))
        use_reg(b, x);
    if (use_mem(b, y, op->type, &m)) {
        alu_rm(&b->c, alu, wide(op), def_like(b, x), m);
        return;
    }
    ry = use_reg(b, y);
    rd = def_like(b, x);
    alu_rr(&b->c, alu, wide(op), rd, ry);
}

static void lower_add(struct codegen *b, const struct ir_op *op)
{
    unsigned ra, rb, rd;
    int32_t imm;
    struct mem m;

    if (val_imm32(b, op->b, wide(op), &imm)) {
        add_imm(b, op, op->a, imm);
        return;
    }
    if (val_imm32(b, op->a, wide(op), &imm)) {
        add_imm(b, op, op->b, imm);
        return;
    }
    if (use_mem(b, op->b, op->type, &m)) {
        alu_two(b, op, ALU_ADD, op->a, op->b);
        return;
    }
    ra = use_reg(b, op->a);
    rb = use_reg(b, op->b);
    rd = def_reg(b);
    if (rd == ra)
        alu_rr(&b->c, ALU_ADD, wide(op), rd, rb);
    else if (rd == rb)
        alu_rr(&b->c, ALU_ADD, wide(op), rd, ra);
    else
        lea(&b->c, wide(op), rd, mem_sib(ra, rb, 0, 0));
}

static void lower_sub(struct codegen *b, const struct ir_op *op)
{
    int32_t imm;
    uint64_t k = 0;

    if (val_imm32(b, op->b, wide(op), &imm) && imm != INT32_MIN) {
        add_imm(b, op, op->a, -imm);
        return;
    }
    if (val_const(b, op->a, &k) && k == 0) {
        use_reg(b, op->b);
        op_rr(&b->c, 0xf7 | OP_WIDE(wide(op)), 3, def_like(b, op->b));
        return;
    }
    alu_two(b, op, ALU_SUB, op->a, op->b);
}

static void zero_extend(struct codegen *b, const struct ir_op *op, unsigned bits)
{
    unsigned ra = use_reg(b, op->a), rd = def_reg(b);

    b->val[op->dst].flags |= VAL_ZX;
    if (bits == 8)
        op_rr(&b->c, M_0F | 0xb6 | OP_RM8, rd, ra);
    else if (bits == 16)
        op_rr(&b->c, M_0F | 0xb7, rd, ra);
    else
        mov_rr(&b->c, false, rd, ra);
}

static void lower_logic(struct codegen *b, const struct ir_op *op)
{
    enum alu_op alu = op->op == IR_AND ? ALU_AND : op->op == IR_OR ? ALU_OR : ALU_XOR;
    uint64_t k = 0;

    if (op->op == IR_AND && val_const(b, op->b, &k)) {
        if (k == 0xff || k == 0xffff || (k == 0xffffffff && wide(op))) {
            zero_extend(b, op, k == 0xff ? 8 : k == 0xffff ? 16 : 32);
            return;
        }
        if (wide(op) && k <= INT32_MAX) {       /* 32-bit form: clears the rest just as well */
            unsigned rd;

            use_reg(b, op->a);
            rd = def_like(b, op->a);
            alu_ri(&b->c, ALU_AND, false, rd, k);
            b->val[op->dst].flags |= VAL_ZX;
            return;
        }
    }
    if (val_const(b, op->a, NULL) || (!dies_here(b, op->a) && dies_here(b, op->b) && !val_const(b, op->b, NULL)))
        alu_two(b, op, alu, op->b, op->a);
    else
        alu_two(b, op, alu, op->a, op->b);
}

static void lower_andc(struct codegen *b, const struct ir_op *op)
{
    uint64_t k = 0;

    if (val_const(b, op->b, &k)) {
        int32_t imm = ~k;

        if (!wide(op) || (int64_t)~k == imm) {
            use_reg(b, op->a);
            alu_ri(&b->c, ALU_AND, wide(op), def_like(b, op->a), imm);
            return;
        }
    }
    if (b->host->bmi1) {
        unsigned ra = use_reg(b, op->a), rb = use_reg(b, op->b);

        vex_rr(&b->c, M_0F38 | 0xf2 | OP_WIDE(wide(op)), 0, def_reg(b), rb, ra);
    } else {
        unsigned t, ra = use_reg(b, op->a);

        t = temp_reg(b, GPR_ALL);
        mov_rr(&b->c, true, t, use_reg(b, op->b));
        op_rr(&b->c, 0xf7 | OP_WIDE(wide(op)), 2, t);
        alu_rr(&b->c, ALU_AND, wide(op), t, ra);
        def_in(b, t);
    }
}

static void lower_unary(struct codegen *b, const struct ir_op *op)
{
    unsigned rd;

    use_reg(b, op->a);
    rd = def_like(b, op->a);
    switch (op->op) {
    case IR_NEG: op_rr(&b->c, 0xf7 | OP_WIDE(wide(op)), 3, rd); break;
    case IR_NOT: op_rr(&b->c, 0xf7 | OP_WIDE(wide(op)), 2, rd); break;
    case IR_BSWAP: put_prefixes(&b->c, M_0F | (0xc8 + (rd & 7)) | OP_WIDE(wide(op)), 0, 0, rd, false); break;
    default:                            /* BSWAP16: rol r16, 8; movzx */
        op_rr(&b->c, 0xc1 | P_66, SH_ROL, rd);
        put8(&b->c, 8);
        op_rr(&b->c, M_0F | 0xb7, rd, rd);
        b->val[op->dst].flags |= VAL_ZX;
    }
}

static void lower_mul(struct codegen *b, const struct ir_op *op)
{
    int32_t imm;
    unsigned ra, rb;

    if (val_imm32(b, op->b, wide(op), &imm)) {
        unsigned rd;

        ra = use_reg(b, op->a);
        rd = def_reg(b);
        op_rr(&b->c, (imm == (int8_t)imm ? 0x6b : 0x69) | OP_WIDE(wide(op)), rd, ra);
        if (imm == (int8_t)imm)
            put8(&b->c, imm);
        else
            put32(&b->c, imm);
        return;
    }
    use_reg(b, op->a);
    rb = use_reg(b, op->b);
    op_rr(&b->c, M_0F | 0xaf | OP_WIDE(wide(op)), def_like(b, op->a), rb);
}

static void lower_mulh(struct codegen *b, const struct ir_op *op)
{
    unsigned rb;

    use_in(b, op->a, RAX);
    take_reg(b, RDX);
    rb = use_reg(b, op->b);
    if (rb == RDX || rb == RAX)
        assert(!"operand in a taken register");
    op_rr(&b->c, 0xf7 | OP_WIDE(wide(op)), op->op == IR_MULHU ? 4 : 5, rb);
    def_in(b, RDX);
}

static void lower_div(struct codegen *b, const struct ir_op *op)
{
    bool sign = op->op == IR_DIVS || op->op == IR_REMS, rem = op->op == IR_REMU || op->op == IR_REMS;
    unsigned rb;

    use_in(b, op->a, RAX);
    take_reg(b, RDX);
    rb = use_reg(b, op->b);
    if (sign)
        put_prefixes(&b->c, 0x99 | OP_WIDE(wide(op)), 0, 0, 0, false);
    else
        alu_rr(&b->c, ALU_XOR, false, RDX, RDX);
    op_rr(&b->c, 0xf7 | OP_WIDE(wide(op)), sign ? 7 : 6, rb);
    def_in(b, rem ? RDX : RAX);
}

static enum shift_op shift_of(unsigned op)
{
    switch (op) {
    case IR_SHL: return SH_SHL;
    case IR_SHR: return SH_SHR;
    case IR_SAR: return SH_SAR;
    case IR_ROTL: return SH_ROL;
    default: return SH_ROR;
    }
}

static void shift_const(struct codegen *b, const struct ir_op *op, unsigned n)
{
    unsigned ra, rd, bits = wide(op) ? 64 : 32;

    if (op->op == IR_SHL && n == 1 && !dies_here(b, op->a)) {
        ra = use_reg(b, op->a);
        lea(&b->c, wide(op), def_reg(b), mem_sib(ra, ra, 0, 0));
        return;
    }
    if ((op->op == IR_ROTL || op->op == IR_ROTR) && b->host->bmi2) {
        ra = use_reg(b, op->a);
        rd = def_reg(b);
        vex_rr(&b->c, M_0F3A | P_F2 | 0xf0 | OP_WIDE(wide(op)), 0, rd, 0, ra);
        put8(&b->c, op->op == IR_ROTL ? (bits - n) & (bits - 1) : n);
        return;
    }
    use_reg(b, op->a);
    rd = def_like(b, op->a);
    if (n)
        shift_ri(&b->c, shift_of(op->op), wide(op), rd, n);
    else if (!wide(op))
        mov_rr(&b->c, false, rd, rd);
    if (op->op == IR_SHR && n >= 32)
        b->val[op->dst].flags |= VAL_ZX;
}

static void lower_shift(struct codegen *b, const struct ir_op *op)
{
    unsigned ra, rc, rd;
    uint64_t n = 0;

    if (val_const(b, op->b, &n)) {
        shift_const(b, op, n & (wide(op) ? 63 : 31));
        return;
    }
    if (b->host->bmi2 && op->op != IR_ROTL && op->op != IR_ROTR) {
        static const uint32_t code[] = { P_66, P_F2, P_F3 };   /* shlx, shrx, sarx */

        ra = use_reg(b, op->a);
        rc = use_reg(b, op->b);
        rd = def_reg(b);
        vex_rr(&b->c, M_0F38 | 0xf7 | code[op->op - IR_SHL] | OP_WIDE(wide(op)), 0, rd, rc, ra);
        return;
    }
    use_in(b, op->b, RCX);
    ra = use_reg(b, op->a);
    rd = def_like(b, op->a);
    if (rd == RCX)
        assert(!"value made in a taken register");
    shift_cl(&b->c, shift_of(op->op), wide(op), rd);
    if (!wide(op))
        mov_rr(&b->c, false, rd, rd);   /* a masked count of 0 leaves bits 63:32 */
}

static void lower_count(struct codegen *b, const struct ir_op *op)
{
    unsigned ra = use_reg(b, op->a), rd, bits = wide(op) ? 64 : 32;

    if (op->op == IR_POPCNT) {          /* part of the host floor */
        op_rr(&b->c, M_0F | P_F3 | 0xb8 | OP_WIDE(wide(op)), def_reg(b), ra);
    } else if (op->op == IR_CLZ ? b->host->lzcnt : b->host->bmi1) {
        op_rr(&b->c, M_0F | P_F3 | (op->op == IR_CLZ ? 0xbd : 0xbc) | OP_WIDE(wide(op)), def_reg(b), ra);
    } else {
        unsigned t = temp_reg(b, GPR_ALL);

        mov_imm(&b->c, t, op->op == IR_CLZ ? 2 * bits - 1 : bits);
        rd = def_reg_early(b);
        op_rr(&b->c, M_0F | (op->op == IR_CLZ ? 0xbd : 0xbc) | OP_WIDE(wide(op)), rd, ra);
        op_rr(&b->c, M_0F | 0x44 | OP_WIDE(wide(op)), rd, t);      /* cmovz */
        if (op->op == IR_CLZ)
            alu_ri(&b->c, ALU_XOR, wide(op), rd, bits - 1);
    }
    b->val[op->dst].flags |= VAL_ZX;
}

static void lower_sext(struct codegen *b, const struct ir_op *op)
{
    unsigned ra = use_reg(b, op->a), rd = def_reg(b);

    if (op->op == IR_SEXT8)
        op_rr(&b->c, M_0F | 0xbe | OP_RM8 | OP_WIDE(wide(op)), rd, ra);
    else if (op->op == IR_SEXT16)
        op_rr(&b->c, M_0F | 0xbf | OP_WIDE(wide(op)), rd, ra);
    else
        op_rr(&b->c, 0x63 | OP_W, rd, ra);
}

static void lower_zext(struct codegen *b, const struct ir_op *op)
{
    if (op->op == IR_ZEXT32) {
        uint64_t k = 0;

        if (val_const(b, op->a, &k))
            def_const(b, op->dst, (uint32_t)k);
        else if (value_of(b, op->a)->flags & VAL_ZX)
            def_alias(b, op->dst, op->a);
        else
            zero_extend(b, op, 32);
    } else {
        zero_extend(b, op, op->op == IR_ZEXT8 ? 8 : 16);
    }
}

static void lower_trunc(struct codegen *b, const struct ir_op *op)
{
    uint64_t k = 0;

    if (val_const(b, op->a, &k))
        def_const(b, op->dst, (uint32_t)k);
    else
        def_alias(b, op->dst, op->a);
}

static void lower_extract(struct codegen *b, const struct ir_op *op)
{
    unsigned pos = op->imm & 0xff, len = op->imm >> 8 & 0xff, bits = wide(op) ? 64 : 32, ra, rd;

    if (pos == 0 && (len == 8 || len == 16 || len == 32)) {
        if (len == 32 && value_of(b, op->a)->flags & VAL_ZX && !val_const(b, op->a, NULL))
            def_alias(b, op->dst, op->a);
        else
            zero_extend(b, op, len);
        return;
    }
    ra = use_reg(b, op->a);
    if (pos == 8 && len == 8 && ra < 4) {
        rd = def_reg(b);
        if (rd < 8) {
            op_rr(&b->c, M_0F | 0xb6, rd, ra + 4);      /* movzx rd, ah..bh */
        } else {
            mov_rr(&b->c, false, rd, ra);
            shift_ri(&b->c, SH_SHR, false, rd, 8);
            op_rr(&b->c, M_0F | 0xb6 | OP_RM8, rd, rd);
        }
        b->val[op->dst].flags |= VAL_ZX;
        return;
    }
    rd = def_like(b, op->a);
    if (pos + len == bits) {
        shift_ri(&b->c, SH_SHR, wide(op), rd, pos);
    } else if (pos + len <= 32 || len == 8 || len == 16 || len == 32) {
        if (pos)
            shift_ri(&b->c, SH_SHR, pos + len > 32, rd, pos);
        if (len == 8)
            op_rr(&b->c, M_0F | 0xb6 | OP_RM8, rd, rd);
        else if (len == 16)
            op_rr(&b->c, M_0F | 0xb7, rd, rd);
        else if (len == 32)
            mov_rr(&b->c, false, rd, rd);
        else
            alu_ri(&b->c, ALU_AND, false, rd, (1u << len) - 1);
    } else {
        shift_ri(&b->c, SH_SHL, true, rd, 64 - pos - len);
        shift_ri(&b->c, SH_SHR, true, rd, 64 - len);
    }
    if (len <= 32)
        b->val[op->dst].flags |= VAL_ZX;
}

static void lower_sextract(struct codegen *b, const struct ir_op *op)
{
    unsigned pos = op->imm & 0xff, len = op->imm >> 8 & 0xff, bits = wide(op) ? 64 : 32, ra, rd;

    ra = use_reg(b, op->a);
    if (pos == 0 && (len == 8 || len == 16)) {
        op_rr(&b->c, M_0F | (len == 8 ? 0xbe | OP_RM8 : 0xbf) | OP_WIDE(wide(op)), def_reg(b), ra);
        return;
    }
    rd = def_like(b, op->a);
    if (pos + len < bits)
        shift_ri(&b->c, SH_SHL, wide(op), rd, bits - pos - len);
    if (len < bits)
        shift_ri(&b->c, SH_SAR, wide(op), rd, bits - len);
    else if (!wide(op))
        mov_rr(&b->c, false, rd, rd);
}

/* dst = a with b's low len bits at pos, by masks */
static void deposit_mask(struct codegen *b, const struct ir_op *op, unsigned pos, unsigned len)
{
    uint64_t mask = (len == 64 ? ~0ull : (1ull << len) - 1), hole = ~(mask << pos);
    unsigned t, t2, rd;

    if (!val_const(b, op->a, NULL))
        use_reg(b, op->a);
    t = temp_reg(b, GPR_ALL);
    mov_rr(&b->c, true, t, use_reg(b, op->b));
    if (len < 32) {
        alu_ri(&b->c, ALU_AND, false, t, mask);
    } else if (len == 32) {
        mov_rr(&b->c, false, t, t);
    } else {
        shift_ri(&b->c, SH_SHL, true, t, 64 - len);
        shift_ri(&b->c, SH_SHR, true, t, 64 - len);
    }
    if (pos)
        shift_ri(&b->c, SH_SHL, true, t, pos);
    if (!wide(op)) {
        rd = def_like(b, op->a);
        alu_ri(&b->c, ALU_AND, false, rd, hole);
        alu_rr(&b->c, ALU_OR, false, rd, t);
        return;
    }
    t2 = (int64_t)hole == (int32_t)hole ? NOREG : temp_reg(b, GPR_ALL);
    rd = def_like(b, op->a);
    if (t2 == NOREG) {
        alu_ri(&b->c, ALU_AND, true, rd, hole);
    } else {
        mov_imm(&b->c, t2, hole);
        alu_rr(&b->c, ALU_AND, true, rd, t2);
    }
    alu_rr(&b->c, ALU_OR, true, rd, t);
}

static void lower_deposit(struct codegen *b, const struct ir_op *op)
{
    unsigned pos = op->imm & 0xff, len = op->imm >> 8 & 0xff, rb, rd;
    bool zx = value_of(b, op->a)->flags & VAL_ZX;

    if ((!(len == 8 && (pos == 0 || pos == 8)) && !(len == 16 && pos == 0)) || val_root(b, op->a) == val_root(b, op->b)) {
        deposit_mask(b, op, pos, len);
        return;
    }
    if (!val_const(b, op->a, NULL))
        use_reg(b, op->a);
    rb = use_reg(b, op->b);
    rd = def_like(b, op->a);
    if (len == 16) {
        op_rr(&b->c, 0x89 | P_66, rb, rd);
    } else if (pos == 0) {
        op_rr(&b->c, 0x88 | OP_REG8 | OP_RM8, rb, rd);
    } else if (rd < 4 && rb < 4) {
        op_rr(&b->c, 0x88, rb, rd + 4);         /* mov ah, bl */
    } else {
        shift_ri(&b->c, SH_ROR, true, rd, 8);
        op_rr(&b->c, 0x88 | OP_REG8 | OP_RM8, rb, rd);
        shift_ri(&b->c, SH_ROL, true, rd, 8);
    }
    if (!zx)
        b->val[op->dst].flags &= ~VAL_ZX;
}

static void lower_lea(struct codegen *b, const struct ir_op *op)
{
    unsigned ra, rb, rd;
    uint64_t k = 0;

    if (!op->b || (val_const(b, op->b, &k) && (int64_t)((k << op->esz) + op->imm) == (int32_t)((k << op->esz) + op->imm))) {
        int32_t disp = op->b ? (k << op->esz) + op->imm : op->imm;

        add_imm(b, op, op->a, disp);
        return;
    }
    ra = use_reg(b, op->a);
    rb = use_reg(b, op->b);
    rd = def_reg(b);
    if (rd == ra && op->imm == 0 && op->esz == 0)
        alu_rr(&b->c, ALU_ADD, true, rd, rb);
    else if (rd == rb && op->imm == 0 && op->esz == 0)
        alu_rr(&b->c, ALU_ADD, true, rd, ra);
    else
        lea(&b->c, true, rd, mem_sib(ra, rb, op->esz, op->imm));
}

static enum host_cc cc_swap(enum host_cc cc)
{
    switch (cc) {
    case CC_L: return CC_G;
    case CC_G: return CC_L;
    case CC_LE: return CC_GE;
    case CC_GE: return CC_LE;
    case CC_B: return CC_A;
    case CC_A: return CC_B;
    case CC_BE: return CC_AE;
    case CC_AE: return CC_BE;
    default: return cc;
    }
}

/* Emits the comparison of op's a and b; which condition of the host's flags then says yes. */
enum host_cc lower_compare(struct codegen *b, const struct ir_op *op)
{
    static const uint8_t cc_of[C_COUNT] = { CC_E, CC_NE, CC_L, CC_GE, CC_LE, CC_G, CC_B, CC_AE, CC_BE, CC_A, CC_E, CC_NE };
    enum host_cc cc = cc_of[op->cond];
    bool w = op->ctype == T_I64, swap = val_const(b, op->a, NULL) && !val_const(b, op->b, NULL);
    ir_val x = swap ? op->b : op->a, y = swap ? op->a : op->b;
    int32_t imm;
    struct mem m;
    unsigned rx;

    if (swap)
        cc = cc_swap(cc);
    if (op->cond >= C_TSTEQ) {
        uint64_t k = 0;

        rx = use_reg(b, x);
        if (val_const(b, y, &k) && (w ? (int64_t)k == (int32_t)k : true))
            test_ri(&b->c, w, rx, k);
        else
            test_rr(&b->c, w, rx, use_reg(b, y));
        return cc;
    }
    if (val_imm32(b, y, w, &imm)) {
        if (use_mem(b, x, op->ctype, &m)) {
            alu_mi(&b->c, ALU_CMP, w, m, imm);
        } else {
            rx = use_reg(b, x);
            if (imm == 0 && (cc == CC_E || cc == CC_NE || cc == CC_L || cc == CC_GE))
                test_rr(&b->c, w, rx, rx);
            else
                alu_ri(&b->c, ALU_CMP, w, rx, imm);
        }
        return cc;
    }
    rx = use_reg(b, x);
    if (use_mem(b, y, op->ctype, &m))
        alu_rm(&b->c, ALU_CMP, w, rx, m);
    else
        alu_rr(&b->c, ALU_CMP, w, rx, use_reg(b, y));
    return cc;
}

static void lower_setcc(struct codegen *b, const struct ir_op *op)
{
    enum host_cc cc = lower_compare(b, op);
    unsigned rd = def_reg(b);

    op_rr(&b->c, M_0F | 0x90 | cc | OP_RM8, 0, rd);
    op_rr(&b->c, M_0F | 0xb6 | OP_RM8, rd, rd);
    b->val[op->dst].flags |= VAL_ZX;
}

/* After the comparison only instructions that leave the flags alone: moves, loads, stores. */
static void lower_select(struct codegen *b, const struct ir_op *op)
{
    bool w = op->type == T_I64;
    enum host_cc cc;
    unsigned rc, rd;

    if (type_is_vec(op->type)) {
        uint8_t *skip;

        use_reg(b, op->d);
        rc = use_reg(b, op->c);
        cc = lower_compare(b, op);
        rd = def_like(b, op->d);
        skip = jcc(&b->c, cc ^ 1);
        move_reg(b, op->type, rd, rc);
        jump_bind(skip, b->c.p);
        return;
    }
    rc = use_reg(b, op->c);
    if (!val_const(b, op->d, NULL))
        use_reg(b, op->d);
    cc = lower_compare(b, op);
    if (dies_here(b, op->c) && !dies_here(b, op->d)) {
        unsigned rdd = use_reg(b, op->d);

        rd = def_like(b, op->c);
        op_rr(&b->c, M_0F | 0x40 | (cc ^ 1) | OP_WIDE(w), rd, rdd);
        return;
    }
    rd = def_like(b, op->d);
    op_rr(&b->c, M_0F | 0x40 | cc | OP_WIDE(w), rd, rc);
}

void lower_fence_wr(struct codegen *b)
{
    put8(&b->c, 0xf0);                  /* lock or dword [rsp], 0: cheaper than MFENCE, as strong for ordinary memory */
    alu_mi(&b->c, ALU_OR, false, mem_at(RSP, 0), 0);
}

/* The host keeps all orders but that of a store before a later load (SDM vol. 3, 9.2.2). */
static void lower_fence(struct codegen *b, const struct ir_op *op)
{
    if (op->imm & FENCE_WR)
        lower_fence_wr(b);
}

static lower_fn *const lower[IR_OPCODE_COUNT] = {
    [IR_NOP] = lower_nop, [IR_CONST] = lower_const, [IR_GET] = lower_get, [IR_PUT] = lower_put,
    [IR_STLD] = lower_stld, [IR_STST] = lower_stst, [IR_PC] = lower_pc,
    [IR_ADD] = lower_add, [IR_SUB] = lower_sub, [IR_MUL] = lower_mul,
    [IR_AND] = lower_logic, [IR_OR] = lower_logic, [IR_XOR] = lower_logic, [IR_ANDC] = lower_andc,
    [IR_NEG] = lower_unary, [IR_NOT] = lower_unary, [IR_BSWAP] = lower_unary, [IR_BSWAP16] = lower_unary,
    [IR_SHL] = lower_shift, [IR_SHR] = lower_shift, [IR_SAR] = lower_shift, [IR_ROTL] = lower_shift,
    [IR_ROTR] = lower_shift,
    [IR_MULHU] = lower_mulh, [IR_MULHS] = lower_mulh,
    [IR_DIVU] = lower_div, [IR_DIVS] = lower_div, [IR_REMU] = lower_div, [IR_REMS] = lower_div,
    [IR_CLZ] = lower_count, [IR_CTZ] = lower_count, [IR_POPCNT] = lower_count,
    [IR_SEXT8] = lower_sext, [IR_SEXT16] = lower_sext, [IR_SEXT32] = lower_sext,
    [IR_ZEXT8] = lower_zext, [IR_ZEXT16] = lower_zext, [IR_ZEXT32] = lower_zext, [IR_TRUNC] = lower_trunc,
    [IR_EXTRACT] = lower_extract, [IR_SEXTRACT] = lower_sextract, [IR_DEPOSIT] = lower_deposit, [IR_LEA] = lower_lea,
    [IR_SETCC] = lower_setcc, [IR_SELECT] = lower_select, [IR_LOAD] = lower_load, [IR_STORE] = lower_store,
    [IR_ATOMIC_XCHG] = lower_atomic, [IR_ATOMIC_ADD] = lower_atomic, [IR_ATOMIC_AND] = lower_atomic,
    [IR_ATOMIC_OR] = lower_atomic, [IR_ATOMIC_XOR] = lower_atomic, [IR_ATOMIC_CAS] = lower_atomic,
    [IR_FENCE] = lower_fence, [IR_VOP] = lower_vop, [IR_VFIX] = lower_vfix, [IR_VGUARD] = lower_vguard, [IR_INSN_START] = lower_insn, [IR_LABEL] = lower_label,
    [IR_BR] = lower_br, [IR_BRCOND] = lower_brcond, [IR_POLL] = lower_poll, [IR_CALL] = lower_call, [IR_CALL_HOST] = lower_call_host,
    [IR_EXIT_JUMP] = lower_exit, [IR_EXIT_INDIRECT] = lower_exit, [IR_EXIT_LOOP] = lower_exit,
    [IR_EXIT_LOOP_PC] = lower_exit,
};

/* An op emits at most a few hundred bytes; cold code is charged where it is made. */
enum { MARGIN = 1024 };

void lower_range(struct codegen *b, unsigned from, unsigned to)
{
    for (b->i = from; b->i < to; b->i++) {
        b->op = &b->ir->ops[b->i];
        if (b->an && b->an->use[b->i].flags & OPX_DEAD)
            continue;
        if (b->limit - b->c.p < MARGIN)
            codegen_overflow(b);
        lower[b->op->op](b, b->op);
        op_end(b);
        if (b->skip_to) {
            b->i = b->skip_to - 1;
            b->skip_to = 0;
        }
    }
}
