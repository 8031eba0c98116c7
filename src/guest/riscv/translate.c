/* What all emitters of the RISC-V front end use: registers, addresses, exceptions; and the entry points of struct guest.
 * An emitter is one function a mnemonic, EMIT(name), found through the rows of isa/riscv.isa. */
#include <string.h>
#include "rhea/base/log.h"
#include "riscv.h"

/* ---- values */

ir_val x_get(struct riscv_t *t, unsigned r)
{
    return r ? ir_get(t->ir, SLOT_X + r) : ir_const(t->ir, T_I64, 0);
}

ir_val x_get32(struct riscv_t *t, unsigned r)
{
    return ir_un(t->ir, IR_TRUNC, x_get(t, r));
}

/* v is as the register keeps it: for RV32, sign-extended. */
void x_put_whole(struct riscv_t *t, unsigned r, ir_val v)
{
    if (r)
        ir_put(t->ir, SLOT_X + r, v);
}

void x_put(struct riscv_t *t, unsigned r, ir_val v)
{
    x_put_whole(t, r, t->xlen == 32 && r ? ir_un(t->ir, IR_SEXT32, ir_un(t->ir, IR_TRUNC, v)) : v);
}

void x_put32(struct riscv_t *t, unsigned r, ir_val v)
{
    if (r)
        ir_put(t->ir, SLOT_X + r, ir_un(t->ir, IR_SEXT32, v));
}

static ir_val address_bits(struct riscv_t *t, ir_val v)
{
    return t->xlen == 32 ? ir_un(t->ir, IR_ZEXT32, ir_un(t->ir, IR_TRUNC, v)) : v;
}

ir_val riscv_address(struct riscv_t *t, unsigned rs1, int64_t offset)
{
    return address_bits(t, ir_bin_imm(t->ir, IR_ADD, x_get(t, rs1), (uint64_t)offset));
}

memop riscv_memop(struct riscv_t *t, unsigned log2_size)
{
    return log2_size | (t->mode & MODE_BE ? MEM_BE : 0) | (log2_size <= 3 ? MEM_ATOMIC : 0) | t->mmu << MEM_MMU_SHIFT;
}

uint64_t riscv_pc_wrap(const struct riscv_t *t, uint64_t pc)
{
    return t->xlen == 32 ? (uint32_t)pc : pc;
}

ir_val riscv_call(struct riscv_t *t, unsigned helper, ir_val a, ir_val b, ir_val c, ir_val d)
{
    return ir_call(t->ir, helper, a, b, c, d);
}

/* ---- exceptions */

void riscv_exception(struct riscv_t *t, unsigned cause, ir_val tval)
{
    riscv_call(t, RISCV_HELP_raise, ir_const(t->ir, T_I32, cause), tval ? tval : ir_const(t->ir, T_I64, 0), 0, 0);
    ir_exit_loop(t->ir, t->i->pc);
}

void riscv_illegal(struct riscv_t *t)
{
    riscv_exception(t, CAUSE_ILLEGAL, ir_const(t->ir, T_I64, t->i->raw));
}

/* ---- control */

bool riscv_one_insn(const struct riscv_t *t) { return t->mode & MODE_TRIGGERS; }

void riscv_goto(struct riscv_t *t, uint64_t pc)
{
    if (riscv_one_insn(t))
        ir_exit_loop(t->ir, pc);
    else
        ir_goto(t->ir, pc);
}

/* ---- decoding */

#define BIT_OF(id, word) ((RVF_##id) >> 6 == (word) ? UINT64_C(1) << ((RVF_##id) & 63) : 0)
#define NOT_IN_ALL(word) (BIT_OF(xlen32, word) | BIT_OF(E, word) | BIT_OF(V, word) | BIT_OF(H, word) | \
                          BIT_OF(Zfinx, word) | BIT_OF(Zdinx, word))
/* Without a CPU: everything of RV64 that this front end knows. */
static const struct riscv_features all_features = { { ~NOT_IN_ALL(0), ~NOT_IN_ALL(1) } };

static void feature_set(struct riscv_features *f, unsigned n, bool on)
{
    f->bits[n >> 6] = (f->bits[n >> 6] & ~(UINT64_C(1) << (n & 63))) | (uint64_t)on << (n & 63);
}

/* What a three-bit register number and the operands a compressed form implies are (volume I, chapter 26). */
static void expand_compressed(struct riscv_insn *i)
{
    uint32_t flags = i->row->flags;

    i->imm |= (int32_t)i->uimm;
    if (flags & RISCV_ROW_CD) {
        i->rd |= 8;
        i->fd |= 8;
    }
    if (flags & RISCV_ROW_C1)
        i->rs1 |= 8;
    if (flags & RISCV_ROW_C2) {
        i->rs2 |= 8;
        i->fs2 |= 8;
    }
    if (flags & RISCV_ROW_SPD)
        i->rd = 2;
    if (flags & (RISCV_ROW_SP | RISCV_ROW_SPD))
        i->rs1 = 2;
    if (flags & RISCV_ROW_SAME)
        i->rs1 = i->rd;
    if (flags & RISCV_ROW_RA)
        i->rd = 1;
}

void riscv_decode_word(struct riscv_insn *i, const struct riscv_features *model, uint64_t mode)
{
    struct riscv_features f = *model;
    bool wide = (i->raw & 3) == 3;

    feature_set(&f, RVF_xlen32, mode & MODE_XLEN32);
    feature_set(&f, RVF_xlen64, !(mode & MODE_XLEN32));
    i->features = model;
    i->len = wide ? 4 : 2;
    i->row = riscv_row_find(i->raw, wide ? 32 : 16, &f, i);
    if (i->row && !wide)
        expand_compressed(i);
}

static bool fetch(struct code_fetch *f, uint64_t pc, unsigned from, unsigned to, uint32_t *raw)
{
    uint8_t b;

    for (unsigned k = from; k < to; k++) {
        if (!code_fetch_byte(f, pc + k, &b))
            return false;
        *raw |= (uint32_t)b << 8 * k;
    }
    return true;
}

static bool is_link(unsigned r) { return r == 1 || r == 5; }

/* What ends regions by its row, but not as it is. */
static enum insn_flow flow_of(const struct riscv_insn *i)
{
    if (!i->row)
        return FLOW_END;
    if ((i->row->flags & RISCV_ROW_CSR) && riscv_csr_goes_on(i->raw >> 20))
        return FLOW_NEXT;
    return i->row->flow == FLOW_JUMP && is_link(i->rd) ? FLOW_CALL : i->row->flow;
}

bool riscv_decode(struct code_fetch *f, uint64_t pc, uint64_t mode, void *insn, struct insn_info *info)
{
    struct riscv_insn *i = insn;
    uint64_t wrap = mode & MODE_XLEN32 ? UINT32_MAX : UINT64_MAX;

    memset(i, 0, sizeof(*i));
    i->pc = pc;
    if (!fetch(f, pc, 0, 2, &i->raw) || ((i->raw & 3) == 3 && !fetch(f, pc, 2, 4, &i->raw)))
        return false;
    riscv_decode_word(i, f->cpu ? &riscv(f->cpu)->features : &all_features, mode);
    info->len = i->len;
    info->flow = flow_of(i);
    info->straddles = (pc & (CPU_PAGE_SIZE - 1)) + i->len > CPU_PAGE_SIZE;
    info->target = (pc + (uint64_t)(int64_t)i->imm) & wrap;
    return true;
}

/* ---- entry points */

void riscv_emit_begin(struct ir *ir)
{
    static _Thread_local struct riscv_t translator;     /* scratch of the region this thread builds */
    struct riscv_t *t = &translator;

    memset(t, 0, sizeof(*t));
    t->ir = ir;
    t->mode = ir->mode;
    t->priv = ir->mode >> MODE_PRIV_SHIFT & 3;
    t->mmu = ir->mode >> MODE_MMU_SHIFT & 15;
    t->xlen = ir->mode & MODE_XLEN32 ? 32 : 64;
    ir->front = t;
}

void riscv_emit_join(struct ir *ir)
{
    struct riscv_t *t = ir->front;

    t->boxed = 0;
    t->auipc_reg = 0;
}

static void emit_row(struct riscv_t *t, const struct riscv_insn *i)
{
    if (!i->row) {
        riscv_illegal(t);
        return;
    }
    if (!i->row->emit) {
        log_at(LOG_UNIMP, "riscv: %s is not implemented\n", i->row->mnemonic);
        riscv_illegal(t);
        return;
    }
    if ((i->row->flags & (RISCV_ROW_FP | RISCV_ROW_FPR)) && !riscv_check_fp(t))
        return;
    i->row->emit(t, i);
}

void riscv_emit(struct ir *ir, const void *insn)
{
    struct riscv_t *t = ir->front;
    const struct riscv_insn *i = insn;

    t->i = i;
    if (ir->insn_pc != i->pc || !ir->nops || ir->ops[ir->nops - 1].op != IR_INSN_START)
        ir_insn_start(ir, i->pc, i->len);
    if (t->mode & MODE_PMP_FETCH)
        riscv_call(t, RISCV_HELP_pmp_fetch, ir_const(ir, T_I32, i->len), 0, 0, 0);
    emit_row(t, i);
    if (!i->row || i->row->emit != riscv_emit_auipc)
        t->auipc_reg = 0;
    if (!ir->ended && (riscv_one_insn(t) || flow_of(i) == FLOW_END))
        ir_exit_loop(ir, riscv_pc_wrap(t, riscv_next(i)));
}

void riscv_emit_end(struct ir *ir)
{
    ir->front = NULL;
}

EMIT(nop) { }
