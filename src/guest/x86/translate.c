/* What all emitters of the x86 front end use: registers, operands, addresses, stack, checks; and the entry points of
 * struct guest. An emitter is one function a mnemonic, EMIT(name), found through the rows of isa/x86*.isa. */
#include <string.h>
#include "rhea/base/log.h"
#include "x86.h"

/* ---- values */

enum ir_type x86_type(unsigned bytes)
{
    return bytes <= 4 ? T_I32 : bytes == 8 ? T_I64 : bytes == 16 ? T_V128 : T_V256;
}

ir_val x86_widen(struct x86_t *t, ir_val v)
{
    return ir_type_of(t->ir, v) == T_I32 ? ir_un(t->ir, IR_ZEXT32, v) : v;
}

ir_val x86_narrow(struct x86_t *t, ir_val v, unsigned size)
{
    if (size == 8)
        return x86_widen(t, v);
    if (ir_type_of(t->ir, v) == T_I64)
        v = ir_un(t->ir, IR_TRUNC, v);
    return size == 1 ? ir_un(t->ir, IR_ZEXT8, v) : size == 2 ? ir_un(t->ir, IR_ZEXT16, v) : v;
}

ir_val x86_sext(struct x86_t *t, ir_val v, unsigned size)
{
    return size == 1 ? ir_un(t->ir, IR_SEXT8, v) : size == 2 ? ir_un(t->ir, IR_SEXT16, v) : v;
}

static unsigned log2_bytes(unsigned bytes)
{
    return (unsigned)__builtin_ctz(bytes);
}

/* ---- blocks: values do not outlive one */

static void block_over(struct x86_t *t)
{
    t->cc_a = t->cc_b = t->linear = 0;
    memset(t->ymm, 0, sizeof(t->ymm));
}

void x86_bind(struct x86_t *t, ir_label l)
{
    ir_label_bind(t->ir, l);
    block_over(t);
}

void x86_brcond(struct x86_t *t, enum ir_cond cond, ir_val a, ir_val b, ir_label l)
{
    ir_brcond(t->ir, cond, a, b, l);
    block_over(t);
}

void x86_tmp_put(struct x86_t *t, unsigned n, ir_val v)
{
    ir_state_store(t->ir, offsetof(struct x86_cpu, tmp) + 8 * n, 3, x86_widen(t, v));
}

ir_val x86_tmp_get(struct x86_t *t, unsigned n)
{
    return ir_state_load(t->ir, T_I64, offsetof(struct x86_cpu, tmp) + 8 * n, 3);
}

/* ---- calls and exceptions */

ir_val x86_call(struct x86_t *t, unsigned h, ir_val a, ir_val b, ir_val c, ir_val d)
{
    return ir_call(t->ir, h, a, b, c, d);
}

void x86_exception(struct x86_t *t, unsigned vector)
{
    static const uint32_t with_code = 1u << X_DF | 1u << X_TS | 1u << X_NP | 1u << X_SS | 1u << X_GP | 1u << X_PF |
                                      1u << X_AC;
    uint32_t code = with_code >> vector & 1 ? 0 : (uint32_t)-1;

    x86_call(t, HELP_raise, ir_const(t->ir, T_I32, vector), ir_const(t->ir, T_I32, code), 0, 0);
    ir_exit_loop(t->ir, t->i->pc);
}

/* ---- registers */

ir_val x86_get_reg(struct x86_t *t, unsigned reg, unsigned size)
{
    return x86_narrow(t, ir_get(t->ir, SLOT_REG + reg), size);
}

void x86_put_reg(struct x86_t *t, unsigned reg, unsigned size, ir_val v)
{
    v = x86_widen(t, size == 4 ? x86_narrow(t, v, 4) : v);
    if (size < 4)
        v = ir_deposit(t->ir, ir_get(t->ir, SLOT_REG + reg), v, 0, 8 * size);
    ir_put(t->ir, SLOT_REG + reg, v);
}

/* ---- addresses */

static ir_val truncate_address(struct x86_t *t, ir_val v, unsigned adsize)
{
    if (adsize == 8)
        return v;
    return ir_un(t->ir, IR_ZEXT32, x86_narrow(t, v, adsize));
}

static ir_val base_value(struct x86_t *t, const struct x86_insn *i)
{
    ir_val v;

    if (i->base == 16)
        return ir_pc(t->ir, x86_next(i) + (uint64_t)(int64_t)i->disp);
    v = ir_get(t->ir, SLOT_REG + (unsigned)i->base);
    return i->base == R_RSP && t->pop_bytes ? ir_bin_imm(t->ir, IR_ADD, v, t->pop_bytes) : v;
}

/* Base, index and displacement. split: the displacement is an ADD of its own, which loads and stores absorb. */
static ir_val effective_address(struct x86_t *t, const struct x86_insn *i, bool split)
{
    int32_t disp = i->base == 16 ? 0 : i->disp;
    ir_val base, index;

    if (i->moffs)
        return ir_const(t->ir, T_I64, (uint64_t)i->imm);
    base = i->base >= 0 ? base_value(t, i) : 0;
    index = i->index >= 0 && !(i->row->flags & ROWF_VSIB) ? ir_get(t->ir, SLOT_REG + (unsigned)i->index) : 0;
    if (split && base) {
        if (index)
            base = ir_lea(t->ir, base, index, i->scale, 0);
        return truncate_address(t, ir_bin_imm(t->ir, IR_ADD, base, (uint64_t)(int64_t)disp), i->adsize);
    }
    return truncate_address(t, ir_lea(t->ir, base, index, i->scale, disp), i->adsize);
}

ir_val x86_ea(struct x86_t *t, const struct x86_insn *i)
{
    return effective_address(t, i, false);
}

uint64_t x86_limits_bit(unsigned seg)
{
    return seg == S_FS ? MODE_LIMITS_FS : seg == S_GS ? MODE_LIMITS_GS : MODE_LIMITS;
}

static ir_val segment_base(struct x86_t *t, unsigned seg)
{
    static const uint8_t slot[] = { [S_ES] = SLOT_BASE_ES, [S_SS] = SLOT_BASE_SS, [S_DS] = SLOT_BASE_DS,
                                    [S_FS] = SLOT_BASE_FS, [S_GS] = SLOT_BASE_GS };

    if (seg == S_CS)
        return t->cs_base ? ir_const(t->ir, T_I64, t->cs_base) : 0;
    if (seg != S_FS && seg != S_GS && !(t->mode & MODE_BASES))
        return 0;
    return ir_get(t->ir, slot[seg]);
}

static ir_val segment_linear(struct x86_t *t, unsigned seg, ir_val off, unsigned bytes, bool write)
{
    ir_val base;

    if (t->code64) {
        if (seg != S_FS && seg != S_GS)
            return off;
        return ir_lea(t->ir, segment_base(t, seg), off, 0, 0);
    }
    if (t->mode & x86_limits_bit(seg))
        x86_call(t, HELP_check_segment, ir_const(t->ir, T_I32, seg | (unsigned)write << 3 | bytes << 4), off, 0, 0);
    base = segment_base(t, seg);
    return base ? truncate_address(t, ir_bin(t->ir, IR_ADD, base, off), 4) : off;
}

ir_val x86_segment_linear(struct x86_t *t, unsigned seg, ir_val off, unsigned bytes, bool write)
{
    ir_val va = segment_linear(t, seg, off, bytes, write);

    if (t->mode & MODE_WATCH)
        x86_call(t, HELP_watch, va, ir_const(t->ir, T_I32, (uint32_t)write | bytes << 1), 0, 0);
    return va;
}

static unsigned operand_segment(const struct x86_insn *i)
{
    if (i->seg >= 0)
        return (unsigned)i->seg;
    return i->base == R_RSP || i->base == R_RBP ? S_SS : S_DS;
}

ir_val x86_linear(struct x86_t *t, const struct x86_insn *i, unsigned bytes, bool write)
{
    return x86_segment_linear(t, operand_segment(i), effective_address(t, i, true), bytes, write);
}

memop x86_memop(struct x86_t *t, unsigned bytes)
{
    memop m = log2_bytes(bytes) | t->mmu << MEM_MMU_SHIFT | (bytes <= 8 ? MEM_ATOMIC : 0);

    return (t->mode & MODE_AC) && bytes <= 8 ? m | log2_bytes(bytes) << MEM_ALIGN_SHIFT : m;
}

/* ---- operands */

static ir_val operand_address(struct x86_t *t, const struct x86_operand *o, bool write)
{
    if (!t->linear)
        t->linear = x86_linear(t, t->i, o->size, write);
    return t->linear;
}

static ir_val read_operand(struct x86_t *t, unsigned n, memop extra)
{
    const struct x86_operand *o = &t->i->op[n];
    unsigned bits = 8 * o->size;

    switch (o->kind) {
    case XO_REG:
        return x86_get_reg(t, o->reg, o->size);
    case XO_REGH:
        return ir_un(t->ir, IR_TRUNC, ir_extract(t->ir, ir_get(t->ir, SLOT_REG + o->reg), 8, 8));
    case XO_MEM:
        return ir_load(t->ir, x86_type(o->size), x86_memop(t, o->size) | extra,
                       operand_address(t, o, extra & MEM_RW), 0);
    default: {
        uint64_t imm = (uint64_t)t->i->imm;

        return ir_const(t->ir, x86_type(o->size), bits < 64 ? imm & ((UINT64_C(1) << bits) - 1) : imm);
    }
    }
}

ir_val x86_read(struct x86_t *t, unsigned n)
{
    return read_operand(t, n, 0);
}

ir_val x86_read_rw(struct x86_t *t, unsigned n)
{
    return read_operand(t, n, MEM_RW);
}

void x86_write(struct x86_t *t, unsigned n, ir_val v)
{
    const struct x86_operand *o = &t->i->op[n];

    switch (o->kind) {
    case XO_REG:
        x86_put_reg(t, o->reg, o->size, v);
        break;
    case XO_REGH:
        ir_put(t->ir, SLOT_REG + o->reg, ir_deposit(t->ir, ir_get(t->ir, SLOT_REG + o->reg), x86_widen(t, v), 8, 8));
        break;
    default:
        ir_store(t->ir, x86_memop(t, o->size), operand_address(t, o, true), 0, v);
    }
}

/* ---- stack */

static unsigned stack_size(const struct x86_t *t)
{
    return t->code64 ? 8 : t->mode & MODE_SS32 ? 4 : 2;
}

static ir_val stack_address(struct x86_t *t, int32_t at, unsigned bytes, bool write)
{
    ir_val sp = ir_bin_imm(t->ir, IR_ADD, ir_get(t->ir, SLOT_REG + R_RSP), (uint64_t)(int64_t)at);

    return x86_segment_linear(t, S_SS, truncate_address(t, sp, stack_size(t)), bytes, write);
}

void x86_add_sp(struct x86_t *t, ir_val delta)
{
    ir_val sp = ir_bin(t->ir, IR_ADD, ir_get(t->ir, SLOT_REG + R_RSP), delta);

    x86_put_reg(t, R_RSP, stack_size(t), sp);
}

void x86_push(struct x86_t *t, ir_val v, unsigned bytes)
{
    ir_store(t->ir, x86_memop(t, bytes), stack_address(t, -(int32_t)bytes, bytes, true), 0,
             bytes == 8 ? x86_widen(t, v) : v);
    x86_add_sp(t, ir_const(t->ir, T_I64, (uint64_t)-(int64_t)bytes));
}

ir_val x86_pop_value(struct x86_t *t, unsigned bytes, unsigned at)
{
    return ir_load(t->ir, x86_type(bytes), x86_memop(t, bytes), stack_address(t, (int32_t)at, bytes, false), 0);
}

/* ---- control */

bool x86_leaves(const struct x86_t *t)
{
    return (t->mode & MODE_SINGLE) || t->sti_shadow;
}

void x86_goto(struct x86_t *t, uint64_t pc)
{
    if (x86_leaves(t))
        ir_exit_loop(t->ir, pc);
    else
        ir_goto(t->ir, pc);
    block_over(t);                      /* what it jumps to may be the next of the region, behind a label */
}

void x86_goto_indirect(struct x86_t *t, ir_val pc, enum ir_exit_kind hint)
{
    if (x86_leaves(t))
        ir_exit_loop_at(t->ir, pc);
    else
        ir_goto_indirect(t->ir, pc, hint);
}

/* ---- checks */

/* SDM vol. 3, table 2-2 and 13.1: EM or no OSFXSR: #UD; TS: #NM. */
bool x86_check_sse(struct x86_t *t)
{
    if ((t->mode & MODE_EM) || !(t->mode & MODE_OSFXSR)) {
        x86_exception(t, X_UD);
        return false;
    }
    if (t->mode & MODE_TS) {
        x86_exception(t, X_NM);
        return false;
    }
    return true;
}

bool x86_check_avx(struct x86_t *t)
{
    if (!(t->mode & MODE_OSXSAVE_AVX)) {
        x86_exception(t, X_UD);
        return false;
    }
    if (t->mode & MODE_TS) {
        x86_exception(t, X_NM);
        return false;
    }
    return true;
}

/* ---- entry points */

static void state_put8(struct x86_t *t, size_t offset, unsigned v)
{
    ir_state_store(t->ir, (uint32_t)offset, 0, ir_const(t->ir, T_I32, v));
}

EMIT(sti);

static void check_fetch(struct x86_t *t, const struct x86_insn *i)
{
    uint64_t last = (uint32_t)(i->pc - t->cs_base) + (uint64_t)i->len - 1;

    if (!t->code64 && x86_code_limited(t->mode, last))
        x86_call(t, HELP_check_fetch, ir_const(t->ir, T_I64, last), 0, 0, 0);
}

/* What happens before the instruction proper. False: it ends here. */
static bool emit_before(struct x86_t *t, const struct x86_insn *i)
{
    if (t->mode & MODE_SHADOW)
        state_put8(t, offsetof(struct x86_cpu, shadow), 0);
    if (t->mode & MODE_TF)
        state_put8(t, offsetof(struct x86_cpu, trap_pending), 1);
    if ((t->mode & MODE_DE) && !(t->mode & MODE_RF))
        x86_call(t, HELP_check_breakpoint, 0, 0, 0, 0);
    check_fetch(t, i);
    if (t->mode & MODE_RF) {
        ir_val f = ir_state_load(t->ir, T_I64, offsetof(struct x86_cpu, eflags), 3);

        ir_state_store(t->ir, offsetof(struct x86_cpu, eflags), 3, ir_bin_imm(t->ir, IR_AND, f, ~(uint64_t)EF_RF));
    }
    if ((i->row->flags & ROWF_PRIV) && t->cpl) {
        x86_exception(t, X_GP);
        return false;
    }
    if (!i->row->emit) {
        log_at(LOG_UNIMP, "x86: %s (map %u opcode %02x) is not implemented\n", i->row->mnemonic, i->map, i->opcode);
        x86_exception(t, X_UD);
        return false;
    }
    return true;
}

void x86_emit_begin(struct ir *ir)
{
    static _Thread_local struct x86_t translator;       /* scratch of the region this thread builds */
    struct x86_t *t = &translator;

    memset(t, 0, sizeof(*t));
    t->ir = ir;
    t->mode = ir->mode;
    t->code64 = (ir->mode & MODE_CODE_MASK) == MODE_CODE64;
    t->cs_base = t->code64 ? 0 : ir->mode >> MODE_CS_BASE_SHIFT;
    t->cpl = ir->mode >> MODE_CPL_SHIFT & 3;
    t->mmu = ir->mode >> MODE_MMU_SHIFT & 3;
    t->cc_op = -1;
    ir->front = t;
}

void x86_emit_scan(struct ir *ir, const void *insn)
{
    x86_scan_vectors(ir->front, insn);
}

void x86_emit_join(struct ir *ir)
{
    struct x86_t *t = ir->front;

    block_over(t);
    t->sti_shadow = false;
    t->cc_op = -1;
    t->fp_checked = false;
}

void x86_emit(struct ir *ir, const void *insn)
{
    struct x86_t *t = ir->front;
    const struct x86_insn *i = insn;

    t->i = i;
    t->features = i->features;
    t->linear = 0;
    t->pop_bytes = 0;
    if (ir->insn_pc != i->pc || !ir->nops || ir->ops[ir->nops - 1].op != IR_INSN_START)
        ir_insn_start(ir, i->pc, i->len);
    if (emit_before(t, i))
        i->row->emit(t, i);
    if (!ir->ended && (x86_leaves(t) || i->row->flow == FLOW_END))
        ir_exit_loop(ir, x86_next(i));
    t->sti_shadow = i->row->emit == x86_emit_sti && !ir->ended;
}

/* STI at the region's end: the next one begins in its shadow. */
static void leave_in_shadow(struct x86_t *t)
{
    state_put8(t, offsetof(struct x86_cpu, shadow), 1);
    ir_exit_loop(t->ir, x86_next(t->i));
    t->sti_shadow = false;
}

void x86_emit_end(struct ir *ir)
{
    struct x86_t *t = ir->front;

    if (t->sti_shadow && !ir->ended)
        leave_in_shadow(t);
    ir->front = NULL;
}

EMIT(undefined) { x86_exception(t, X_UD); }
EMIT(ud) { x86_exception(t, X_UD); }
EMIT(too_long) { x86_exception(t, X_GP); }
EMIT(nop) { }
