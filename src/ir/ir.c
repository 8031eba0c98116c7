/* The builder of regions: appends ops, folds what is known already, keeps track of values, labels and exits. */
#include <assert.h>
#include <glib.h>
#include <string.h>
#include "ir_internal.h"
#include "rhea/ir/cpu.h"
#include "rhea/ir/eval.h"
#include "rhea/ir/vop.h"

const struct ir_opinfo ir_opinfo[IR_OPCODE_COUNT] = {
#define X(id, text, n, flags) [IR_##id] = { text, n, flags },
    IR_OPS(X)
#undef X
};

enum { VALUES_MAX = IR_MAX_OPS + T_COUNT };

struct ir *ir_new(void)
{
    struct ir *ir = g_new0(struct ir, 1);

    ir->ops = g_new(struct ir_op, IR_MAX_OPS + 1);      /* the last takes what is dropped */
    ir->val_type = g_new0(uint8_t, VALUES_MAX);
    ir->val_op = g_new0(uint16_t, VALUES_MAX);
    return ir;
}

void ir_free(struct ir *ir)
{
    if (!ir)
        return;
    g_free(ir->ops);
    g_free(ir->val_type);
    g_free(ir->val_op);
    g_free(ir);
}

struct ir *ir_clone(const struct ir *ir)
{
    struct ir *copy = g_memdup2(ir, sizeof(*ir));

    copy->ops = g_memdup2(ir->ops, ir->nops * sizeof(*ir->ops));
    copy->val_type = g_memdup2(ir->val_type, ir->nvals * sizeof(*ir->val_type));
    copy->val_op = g_memdup2(ir->val_op, ir->nvals * sizeof(*ir->val_op));
    return copy;
}

void ir_begin(struct ir *ir, const struct guest *guest, uint64_t pc, uint64_t mode)
{
    ir->guest = guest;
    ir->mode = mode;
    ir->pc = ir->end = pc;
    ir->page = pc >> guest->page_bits << guest->page_bits;
    ir->nops = 0;
    ir->nexits = 0;
    ir->nlabels = 0;
    ir->ninsns = 0;
    ir->nleaders = 0;
    ir->helpers = guest->helpers;
    ir->nhelpers = guest->nhelpers;
    ir->insn_pc = ir->insn_next = pc;
    ir->ended = ir->overflow = false;
    ir->front = NULL;
    ir->call_to = ir->return_to = NULL;
    memset(ir->const_cache, 0, sizeof(ir->const_cache));
    for (unsigned type = 0; type < T_COUNT; type++) {   /* placeholders */
        ir->val_type[type] = (uint8_t)type;
        ir->val_op[type] = 0;
    }
    ir->nvals = T_COUNT;
    ir_label_bind(ir, ir_label_new(ir));
}

/* ---- ops */

/* Of those before INSN_START the ones that define none, of the others those that define one. */
static bool op_defines_value(unsigned op)
{
    static const bool other[IR_OPCODE_COUNT] = { [IR_NOP] = true, [IR_PUT] = true, [IR_STST] = true, [IR_STORE] = true, [IR_FENCE] = true,
                                                 [IR_CALL] = true, [IR_CALL_HOST] = true };

    return other[op] != (op < IR_INSN_START);
}

/* Nothing follows what ends a block but a label, nor what there was no room for. */
static struct ir_op *op_drop(struct ir *ir, const struct ir_op *op, bool defines)
{
    struct ir_op *new = &ir->ops[IR_MAX_OPS];

    *new = *op;
    new->dst = defines ? op->type : 0;
    return new;
}

/* Appends a copy of *op, its dst made here. */
static inline struct ir_op *op_append(struct ir *ir, const struct ir_op *op)
{
    const unsigned defines = op->type != T_VOID && op_defines_value(op->op);
    struct ir_op *new = &ir->ops[ir->nops];

    if (ir->nops == IR_MAX_OPS)
        ir->overflow |= !ir->ended || op->op == IR_LABEL;
    if ((ir->ended && op->op != IR_LABEL) || ir->overflow)
        return op_drop(ir, op, defines);
    *new = *op;
    new->dst = defines ? (ir_val)ir->nvals : 0;
    if (defines) {
        ir->val_type[ir->nvals] = op->type;
        ir->val_op[ir->nvals++] = (uint16_t)ir->nops;
    }
    ir->nops++;
    if (ir_opinfo[op->op].flags & OPF_ENDS)
        ir->ended = true;
    if (op->op == IR_BRCOND)
        ir->block_start = ir->nops;
    return new;
}

struct ir_op *ir_append(struct ir *ir, enum ir_opcode opcode, enum ir_type type)
{
    return op_append(ir, &(struct ir_op){ .op = opcode, .type = type });
}

static ir_val op_emit(struct ir *ir, const struct ir_op *op) { return op_append(ir, op)->dst; }

static ir_val op_fold_emit(struct ir *ir, struct ir_op *op)
{
    ir_val same;

    if (ir->ended || ir->overflow)
        return op->type;
    if (ir_fold(ir, op, &same, true) == FOLD_SAME)
        return same;
    return op->op == IR_CONST ? ir_const(ir, op->type, op->imm) : op_emit(ir, op);
}

/* ---- values */

ir_val ir_const(struct ir *ir, enum ir_type type, uint64_t imm)
{
    uint64_t hash = (imm ^ type) * UINT64_C(0x9e3779b97f4a7c15);
    ir_val *cached = &ir->const_cache[hash >> 60];

    imm &= type_mask(type);
    if (ir->ended || ir->overflow)
        return type;
    if (*cached && ir->val_op[*cached] >= ir->block_start && ir->val_op[*cached] < ir->nops) {
        const struct ir_op *op = value_op(ir, *cached);

        if (op->op == IR_CONST && op->dst == *cached && op->type == type && (uint64_t)op->imm == imm)
            return *cached;
    }
    *cached = op_emit(ir, &(struct ir_op){ .op = IR_CONST, .type = type, .imm = (int64_t)imm });
    return *cached;
}

bool ir_is_const(const struct ir *ir, ir_val v, uint64_t *imm)
{
    const struct ir_op *op = value_op(ir, v);

    if (v < T_COUNT || op->op != IR_CONST)
        return false;
    *imm = (uint64_t)op->imm;
    return true;
}

ir_val ir_get(struct ir *ir, unsigned slot)
{
    return op_emit(ir, &(struct ir_op){ .op = IR_GET, .type = ir->guest->slots[slot].type, .aux = (uint16_t)slot });
}

void ir_put(struct ir *ir, unsigned slot, ir_val v)
{
    op_emit(ir, &(struct ir_op){ .op = IR_PUT, .type = ir->val_type[v], .a = v, .aux = (uint16_t)slot });
}

void ir_put_early(struct ir *ir, unsigned slot, ir_val v)
{
    op_emit(ir, &(struct ir_op){ .op = IR_PUT, .type = ir->val_type[v], .a = v, .aux = (uint16_t)slot, .esz = 1 });
}

ir_val ir_state_load(struct ir *ir, enum ir_type type, uint32_t offset, unsigned log2_size)
{
    return op_emit(ir, &(struct ir_op){ .op = IR_STLD, .type = type, .esz = log2_size, .imm = offset });
}

void ir_state_store(struct ir *ir, uint32_t offset, unsigned log2_size, ir_val v)
{
    op_emit(ir, &(struct ir_op){ .op = IR_STST, .type = ir->val_type[v], .a = v, .esz = log2_size, .imm = offset });
}

ir_val ir_pc(struct ir *ir, uint64_t pc)
{
    if (ir->fixed_pc)
        return ir_const(ir, T_I64, pc);
    return op_emit(ir, &(struct ir_op){ .op = IR_PC, .type = T_I64, .imm = (int64_t)(pc - ir->page) });
}

ir_val ir_un(struct ir *ir, enum ir_opcode op, ir_val a)
{
    enum ir_type type = op == IR_SEXT32 || op == IR_ZEXT32 ? T_I64 : op == IR_TRUNC ? T_I32 : ir_type_of(ir, a);

    return op_fold_emit(ir, &(struct ir_op){ .op = op, .type = type, .a = a });
}

ir_val ir_bin(struct ir *ir, enum ir_opcode op, ir_val a, ir_val b)
{
    return op_fold_emit(ir, &(struct ir_op){ .op = op, .type = ir->val_type[a], .a = a, .b = b });
}

ir_val ir_bin_imm(struct ir *ir, enum ir_opcode op, ir_val a, uint64_t imm)
{
    return ir_bin(ir, op, a, ir_const(ir, ir_type_of(ir, a), imm));
}

static ir_val field_op(struct ir *ir, enum ir_opcode op, ir_val a, ir_val b, unsigned pos, unsigned len)
{
    return op_fold_emit(ir, &(struct ir_op){ .op = op, .type = ir->val_type[a], .a = a, .b = b, .imm = pos | len << 8 });
}

ir_val ir_extract(struct ir *ir, ir_val a, unsigned pos, unsigned len)
{
    return field_op(ir, IR_EXTRACT, a, 0, pos, len);
}

ir_val ir_sextract(struct ir *ir, ir_val a, unsigned pos, unsigned len)
{
    return field_op(ir, IR_SEXTRACT, a, 0, pos, len);
}

ir_val ir_deposit(struct ir *ir, ir_val a, ir_val b, unsigned pos, unsigned len)
{
    return field_op(ir, IR_DEPOSIT, a, b, pos, len);
}

ir_val ir_lea(struct ir *ir, ir_val base, ir_val index, unsigned scale, int32_t disp)
{
    if (!base && !index)
        return ir_const(ir, T_I64, (int64_t)disp);
    if (!base) {
        index = ir_bin_imm(ir, IR_SHL, index, scale);
        return ir_bin_imm(ir, IR_ADD, index, (int64_t)disp);
    }
    return op_fold_emit(ir, &(struct ir_op){ .op = IR_LEA, .type = T_I64, .a = base, .b = index, .esz = scale,
                                             .imm = disp });
}

ir_val ir_setcc(struct ir *ir, enum ir_type type, enum ir_cond cond, ir_val a, ir_val b)
{
    return op_fold_emit(ir, &(struct ir_op){ .op = IR_SETCC, .type = type, .ctype = ir->val_type[a], .cond = cond,
                                             .a = a, .b = b });
}

ir_val ir_select(struct ir *ir, enum ir_cond cond, ir_val a, ir_val b, ir_val if_true, ir_val if_false)
{
    return op_fold_emit(ir, &(struct ir_op){ .op = IR_SELECT, .type = ir->val_type[if_true],
                                             .ctype = ir->val_type[a], .cond = cond, .a = a, .b = b, .c = if_true,
                                             .d = if_false });
}

/* ---- memory */

static void watch(struct ir *ir, memop m, bool read, bool write, ir_val addr, int32_t disp)
{
    if (ir->watch)
        ir->watch(ir, m, read, write, addr, disp);
}

ir_val ir_load(struct ir *ir, enum ir_type type, memop m, ir_val addr, int32_t disp)
{
    watch(ir, m, true, false, addr, disp);
    addr = ir_fold_address(ir, addr, &disp);
    return op_emit(ir, &(struct ir_op){ .op = IR_LOAD, .type = type, .a = addr, .mem = m, .disp = disp });
}

void ir_store(struct ir *ir, memop m, ir_val addr, int32_t disp, ir_val v)
{
    watch(ir, m, false, true, addr, disp);
    addr = ir_fold_address(ir, addr, &disp);
    op_emit(ir, &(struct ir_op){ .op = IR_STORE, .type = ir->val_type[v], .a = addr, .b = v, .mem = m, .disp = disp });
}

ir_val ir_atomic(struct ir *ir, enum ir_opcode op, memop m, ir_val addr, ir_val v)
{
    int32_t disp = 0;

    watch(ir, m, true, true, addr, 0);
    addr = ir_fold_address(ir, addr, &disp);
    return op_emit(ir, &(struct ir_op){ .op = op, .type = ir->val_type[v], .a = addr, .b = v, .mem = m, .disp = disp });
}

ir_val ir_cas(struct ir *ir, memop m, ir_val addr, ir_val expected, ir_val v)
{
    int32_t disp = 0;

    watch(ir, m, true, true, addr, 0);
    addr = ir_fold_address(ir, addr, &disp);
    return op_emit(ir, &(struct ir_op){ .op = IR_ATOMIC_CAS, .type = ir->val_type[v], .a = addr, .b = expected, .c = v,
                                        .mem = m, .disp = disp });
}

void ir_fence(struct ir *ir, unsigned orders)
{
    if (orders)
        ir_append(ir, IR_FENCE, T_VOID)->imm = orders;
}

ir_val ir_vfix(struct ir *ir, enum ir_fix_cond cond, unsigned n, ir_val result, ir_val a, ir_val b, ir_val c, int32_t imm)
{
    return op_emit(ir, &(struct ir_op){ .op = IR_VFIX, .type = ir->val_type[result], .aux = (uint16_t)n, .a = a, .b = b, .c = c,
                                        .d = result, .imm = (int64_t)((uint64_t)(int64_t)imm << 8) | cond });
}

ir_val ir_vguard(struct ir *ir, unsigned vop, ir_val a, ir_val b, ir_val c, struct ir_guarded by)
{
    uint64_t imm = by.cond | (uint64_t)(by.fix_imm & 0xffffff) << 8 | (uint64_t)by.fix << 32 | (uint64_t)by.imm << 40;

    return op_emit(ir, &(struct ir_op){ .op = IR_VGUARD, .type = T_V128, .aux = (uint16_t)vop, .a = a, .b = b, .c = c,
                                        .imm = (int64_t)imm });
}

ir_val ir_vop(struct ir *ir, unsigned vop, enum ir_type type, ir_val a, ir_val b, ir_val c, int64_t imm)
{
    return op_emit(ir, &(struct ir_op){ .op = IR_VOP, .type = type, .aux = (uint16_t)vop, .a = a, .b = b, .c = c,
                                        .imm = imm });
}

ir_val ir_call(struct ir *ir, unsigned n, ir_val a, ir_val b, ir_val c, ir_val d)
{
    return op_emit(ir, &(struct ir_op){ .op = IR_CALL, .type = ir->helpers[n]->ret, .aux = (uint16_t)n, .a = a, .b = b,
                                        .c = c, .d = d });
}

ir_val ir_call_host(struct ir *ir, unsigned n, uint32_t what, ir_val c, memop m, ir_val a, uint32_t insn)
{
    unsigned kind = insn >> 16;
    bool gives = kind == HOST_X87_COMPARE || kind == HOST_X87_STATUS;
    int32_t disp = 0;

    if (a)
        a = ir_fold_address(ir, a, &disp);
    return op_emit(ir, &(struct ir_op){ .op = IR_CALL_HOST, .type = gives ? T_I32 : T_VOID, .aux = (uint16_t)n, .a = a,
                                        .b = ir_const(ir, T_I64, (uint64_t)insn << 32 | what), .c = c, .mem = m, .disp = disp });
}

/* ---- control */

ir_label ir_label_new(struct ir *ir)
{
    if (ir->nlabels == IR_MAX_LABELS) {
        ir->overflow = true;
        return 0;
    }
    ir->label_op[ir->nlabels] = 0;
    return (ir_label)ir->nlabels++;
}

void ir_label_bind(struct ir *ir, ir_label l)
{
    const struct ir_op *last = ir->nops ? &ir->ops[ir->nops - 1] : NULL;

    if (ir->overflow)
        return;
    if (ir->ended && last && last->op == IR_BR && last->aux == l)
        ir->nops--;             /* a jump to where control goes anyway */
    ir->label_op[l] = (uint16_t)ir->nops;
    ir->block_start = ir->nops;
    ir_append(ir, IR_LABEL, T_VOID)->aux = l;
    ir->ended = false;
}

void ir_br(struct ir *ir, ir_label l)
{
    ir_append(ir, IR_BR, T_VOID)->aux = l;
}

void ir_brcond(struct ir *ir, enum ir_cond cond, ir_val a, ir_val b, ir_label if_true)
{
    struct ir_op op = { .op = IR_BRCOND, .ctype = ir->val_type[a], .cond = cond, .a = a, .b = b, .aux = if_true };

    if (ir->ended || ir->overflow)
        return;
    switch (ir_fold_branch(ir, &op, true)) {
    case 1: ir_br(ir, if_true); break;
    case 0: break;
    default: op_emit(ir, &op);
    }
}

void ir_poll(struct ir *ir, uint64_t pc)
{
    ir_append(ir, IR_POLL, T_VOID)->imm = (int64_t)(pc - ir->page);
}

/* Number of a new exit, counted where control is now. */
static unsigned exit_add(struct ir *ir, enum ir_exit_kind kind, uint64_t target, uint64_t ret)
{
    if (ir->ended || ir->overflow)
        return 0;
    if (ir->nexits == IR_MAX_EXITS) {
        ir->overflow = true;
        return 0;
    }
    ir->exits[ir->nexits] = (struct ir_exit){ .kind = kind, .icount = (uint16_t)ir->ninsns,
                                              .target = (int64_t)target, .ret = (int64_t)ret };
    return ir->nexits++;
}

static void exit_emit(struct ir *ir, enum ir_opcode opcode, unsigned exit, ir_val a, uint64_t pc)
{
    struct ir_op *op = ir_append(ir, opcode, T_VOID);

    op->a = a;
    op->aux = (uint16_t)exit;
    op->imm = a ? 0 : (int64_t)(pc - ir->page);
}

static void goto_leader(struct ir *ir, const struct ir_leader *l)
{
    if (l->bound)
        ir_poll(ir, l->pc);
    ir_br(ir, l->label);
}

void ir_goto(struct ir *ir, uint64_t pc)
{
    for (unsigned i = 0; i < ir->nleaders; i++) {
        if (ir->leaders[i].pc == pc) {
            goto_leader(ir, &ir->leaders[i]);
            return;
        }
    }
    exit_emit(ir, IR_EXIT_JUMP, exit_add(ir, EXIT_DIRECT, pc - ir->page, 0), 0, pc);
}

void ir_call_to(struct ir *ir, uint64_t pc, uint64_t ret)
{
    if (ir->call_to) {
        goto_leader(ir, ir->call_to);
        return;
    }
    exit_emit(ir, IR_EXIT_JUMP, exit_add(ir, EXIT_CALL, pc - ir->page, ret - ir->page), 0, pc);
}

/* To the place after the call if that is where it returns to, by a compare; values do not live on across the branch. */
static ir_val return_within(struct ir *ir, ir_val pc)
{
    const uint32_t kept = offsetof(struct cpu, scratch);
    ir_label elsewhere = ir_label_new(ir);

    ir_state_store(ir, kept, 3, pc);
    ir_brcond(ir, C_NE, pc, ir_pc(ir, ir->return_to->pc), elsewhere);
    goto_leader(ir, ir->return_to);
    ir_label_bind(ir, elsewhere);
    return ir_state_load(ir, T_I64, kept, 3);
}

void ir_goto_indirect(struct ir *ir, ir_val pc, enum ir_exit_kind hint)
{
    if (ir->return_to && hint == EXIT_RETURN)
        pc = return_within(ir, pc);
    exit_emit(ir, IR_EXIT_INDIRECT, exit_add(ir, hint, 0, ir->insn_next - ir->page), pc, 0);
}

void ir_exit_loop(struct ir *ir, uint64_t pc)
{
    exit_emit(ir, IR_EXIT_LOOP, exit_add(ir, EXIT_TO_LOOP, pc - ir->page, 0), 0, pc);
}

void ir_exit_loop_at(struct ir *ir, ir_val pc)
{
    exit_emit(ir, IR_EXIT_LOOP_PC, exit_add(ir, EXIT_TO_LOOP, 0, 0), pc, 0);
}

void ir_insn_start(struct ir *ir, uint64_t pc, unsigned len)
{
    ir->insn_pc = pc;
    ir->insn_next = pc + len;
    if (ir->insn_next > ir->end)
        ir->end = ir->insn_next;
    if (ir->ended || ir->overflow)
        return;
    struct ir_op *op = ir_append(ir, IR_INSN_START, T_VOID);
    op->imm = (int64_t)(pc - ir->page);
    op->aux = (uint16_t)ir->ninsns++;
}

void ir_finish(struct ir *ir)
{
    bool wanted[IR_MAX_LABELS] = { 0 };

    if (!ir->ended)
        ir_goto(ir, ir->insn_next);
    for (unsigned i = 0; i < ir->nops && ir->nleaders; i++)
        if (ir->ops[i].op == IR_BR || ir->ops[i].op == IR_BRCOND)
            wanted[ir->ops[i].aux] = true;
    for (unsigned i = 0; i < ir->nleaders; i++) {
        struct ir_leader *l = &ir->leaders[i];

        if (!wanted[l->label] || l->label == 0 || ir->label_op[l->label])
            continue;
        ir_label_bind(ir, l->label);
        exit_emit(ir, IR_EXIT_JUMP, exit_add(ir, EXIT_DIRECT, l->pc - ir->page, 0), 0, l->pc);
    }
}
