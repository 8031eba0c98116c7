/* The invariants of ir.h, checked one by one; the first that is broken is named with its op. */
#include <glib.h>
#include <stdarg.h>
#include <string.h>
#include "ir_internal.h"
#include "rhea/ir/vop.h"

struct check {
    const struct ir *ir;
    unsigned at;                        /* index of the op looked at */
    unsigned block_start;
    char *why;
    bool in_insn;                       /* after an INSN_START */
    bool put;                           /* invariant 4: on some path to here this instruction has PUT a slot */
    bool label_put[IR_MAX_LABELS];      /* the same at branches to a label */
    bool polled;                        /* the block has passed a POLL */
    bool label_polls[IR_MAX_LABELS];    /* the label's block begins with a POLL */
};

static bool fail(struct check *c, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
static bool fail(struct check *c, const char *fmt, ...)
{
    va_list ap;

    if (c->why)
        return false;
    va_start(ap, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    const char *name = c->at < c->ir->nops && c->ir->ops[c->at].op < IR_OPCODE_COUNT
                           ? ir_opinfo[c->ir->ops[c->at].op].text : "?";
    c->why = g_strdup_printf("op %u (%s): %s", c->at, name, text);
    return false;
}

static const char *type_text(unsigned type)
{
    static const char *const names[T_COUNT] = { "void", "i32", "i64", "v128", "v256" };

    return type < T_COUNT ? names[type] : "?";
}

/* (1) defined, before use, in this block */
static bool check_operand_defined(struct check *c, unsigned i)
{
    const struct ir *ir = c->ir;
    ir_val v = ir->ops[c->at].arg[i];

    if (v >= ir->nvals)
        return fail(c, "operand %u: no value v%u", i, v);
    if (v < T_COUNT)
        return fail(c, "operand %u: v%u is a placeholder of an op that was dropped", i, v);
    if (ir->val_op[v] >= c->at || ir->ops[ir->val_op[v]].dst != v)
        return fail(c, "operand %u: v%u is not defined before its use", i, v);
    if (ir->val_op[v] < c->block_start)
        return fail(c, "operand %u: v%u is defined in another basic block (op %u); put it into a slot", i, v,
                    ir->val_op[v]);
    return true;
}

static bool check_operand_type(struct check *c, unsigned i, unsigned type)
{
    ir_val v = c->ir->ops[c->at].arg[i];

    if (!v)
        return fail(c, "operand %u is missing", i);
    if (c->ir->val_type[v] != type)
        return fail(c, "operand %u: v%u is %s, wanted is %s", i, v, type_text(c->ir->val_type[v]), type_text(type));
    return true;
}

static bool check_operands(struct check *c, unsigned n, unsigned type)
{
    for (unsigned i = 0; i < n; i++)
        if (!check_operand_type(c, i, type))
            return false;
    return true;
}

static bool check_type(struct check *c, bool ok)
{
    return ok || fail(c, "can't be of type %s", type_text(c->ir->ops[c->at].type));
}

/* ---- by kind of op */

static bool check_slot(struct check *c, const struct ir_op *op)
{
    const struct guest *g = c->ir->guest;

    if (op->aux >= g->nslots)
        return fail(c, "no slot %u", op->aux);
    if (op->type != g->slots[op->aux].type)
        return fail(c, "slot %s is %s, not %s", g->slots[op->aux].name, type_text(g->slots[op->aux].type),
                    type_text(op->type));
    return op->op == IR_GET || check_operand_type(c, 0, op->type);
}

/* (2) STLD and STST don't touch slots and stay in the state */
static bool check_state(struct check *c, const struct ir_op *op)
{
    const struct guest *g = c->ir->guest;
    uint64_t size = UINT64_C(1) << op->esz, from = (uint64_t)op->imm, to = from + size;

    if (op->esz > 5 || size > ir_type_bytes(op->type) || (type_is_vec(op->type) && size != ir_type_bytes(op->type)))
        return fail(c, "%u bytes don't fit type %s", (unsigned)size, type_text(op->type));
    if (op->imm < 0 || to > g->cpu_size)
        return fail(c, "offset 0x%" G_GINT64_MODIFIER "x is outside the state", (uint64_t)op->imm);
    for (unsigned i = 0; i < g->nslots; i++)
        if (from < g->slots[i].offset + ir_slot_bytes(&g->slots[i]) && to > g->slots[i].offset)
            return fail(c, "touches slot %s", g->slots[i].name);
    return op->op == IR_STLD || check_operand_type(c, 0, op->type);
}

static bool check_access(struct check *c, const struct ir_op *op)
{
    unsigned size = op->mem & MEM_SIZE;
    bool fits = op->type == T_I32 ? size <= MEM_32 : op->type == T_I64 ? size <= MEM_64
                : op->type == T_V128 ? size >= MEM_32 && size <= MEM_128 : op->type == T_V256 && size == MEM_256;

    if (!fits)
        return fail(c, "%u bytes don't fit type %s", memop_bytes(op->mem), type_text(op->type));
    if (op->op > IR_STORE && !type_is_int(op->type))
        return check_type(c, false);
    if (op->mem & MEM_SIGNED && (op->op != IR_LOAD || type_is_vec(op->type)))
        return fail(c, "only integer loads are signed");
    if (!check_operand_type(c, 0, T_I64))
        return false;
    for (unsigned i = 1; i < ir_opinfo[op->op].operands; i++)
        if (!check_operand_type(c, i, op->type))
            return false;
    return true;
}

static bool check_compare(struct check *c, const struct ir_op *op)
{
    if (op->cond >= C_COUNT)
        return fail(c, "no condition %u", op->cond);
    if (!type_is_int(op->ctype))
        return fail(c, "compares type %s", type_text(op->ctype));
    return check_operands(c, 2, op->ctype);
}

static bool check_select(struct check *c, const struct ir_op *op)
{
    return check_type(c, type_is_int(op->type)) && check_compare(c, op) && check_operand_type(c, 2, op->type) &&
           check_operand_type(c, 3, op->type);
}

static bool check_field(struct check *c, const struct ir_op *op)
{
    unsigned pos = op->imm & 0xff, len = op->imm >> 8 & 0xff;

    if (!check_type(c, type_is_int(op->type)))
        return false;
    if (!len || pos + len > type_bits(op->type))
        return fail(c, "no bits %u:%u", pos, len);
    return check_operands(c, ir_opinfo[op->op].operands, op->type);
}

/* A vector op's operands and result: integers where its row says so, V128 where it says so, else all of one length. */
static bool check_vop_type(struct check *c, const struct vop_info *v, const char *what, unsigned type, bool gpr,
                           unsigned gpr_type, bool narrow, unsigned *wide)
{
    if (gpr)
        return type == gpr_type || fail(c, "%s: %s must be %s, is %s", v->text, what, type_text(gpr_type),
                                        type_text(type));
    if (!type_is_vec(type))
        return fail(c, "%s: %s can't be %s", v->text, what, type_text(type));
    if (narrow || v->flags & (VOPF_NO256 | VOPF_SCALAR))
        return type == T_V128 || fail(c, "%s: %s must be v128", v->text, what);
    if (*wide && *wide != type)
        return fail(c, "%s: %s is %s, others are %s", v->text, what, type_text(type), type_text(*wide));
    *wide = type;
    return true;
}

static bool check_vop(struct check *c, const struct ir_op *op)
{
    static const struct { const char *name; uint16_t gpr, narrow; } arg[4] = {
        { "operand 0", VOPF_GPR_A, VOPF_A128 }, { "operand 1", VOPF_GPR_B, VOPF_B128 },
        { "operand 2", VOPF_GPR_C, 0 }, { "operand 3", 0, 0 },
    };
    const struct vop_info *v;
    unsigned gpr_type, wide = 0;

    if (op->aux == VOP_NONE || op->aux >= VOP_COUNT)
        return fail(c, "no vector op %u", op->aux);
    v = &vop_info[op->aux];
    gpr_type = v->flags & VOPF_W1 ? T_I64 : T_I32;
    if (!check_vop_type(c, v, "result", op->type, v->flags & VOPF_GPR_RESULT, gpr_type, v->flags & VOPF_R128, &wide))
        return false;
    for (unsigned i = 0; i < 4; i++) {
        if (!op->arg[i] != (i >= v->operands))
            return fail(c, "%s takes %u operands", v->text, v->operands);
        if (op->arg[i] && !check_vop_type(c, v, arg[i].name, c->ir->val_type[op->arg[i]], v->flags & arg[i].gpr,
                                          i == 2 ? T_I64 : gpr_type, v->flags & arg[i].narrow, &wide))
            return false;
    }
    return true;
}

/* Which operands a condition looks at, and what the result must be. */
static bool check_vfix(struct check *c, const struct ir_op *op)
{
    unsigned cond = op->imm & 0xff, looks = cond >= FIX_EQ_S && cond <= FIX_EQ_PD ? 2 : cond == FIX_UNBOXED || cond >= FIX_DENORMAL_S;

    if (cond >= FIX_COND_COUNT || op->aux >= c->ir->guest->nfixes)
        return fail(c, "no fix %u, condition %u", op->aux, cond);
    if (!check_operand_type(c, 3, op->type))
        return false;
    if (cond >= FIX_MASK_S && cond <= FIX_MASK_PS) {
        if (!op->c || c->ir->val_type[op->c] != T_V128 || (op->type != T_V128 && !type_is_int(op->type)))
            return fail(c, "condition %u asks for a mask", cond);
    } else if (cond == FIX_INDEF ? !type_is_int(op->type) : op->type != T_V128)
        return fail(c, "condition %u can't be asked of %s", cond, type_text(op->type));
    for (unsigned i = 0; i < 3; i++)
        if (op->arg[i] ? c->ir->val_type[op->arg[i]] == T_V256 : i < looks)
            return fail(c, "operand %u of a fix", i);
    return !looks || (check_operand_type(c, 0, T_V128) && (looks < 2 || check_operand_type(c, 1, T_V128)));
}

static bool check_vguard(struct check *c, const struct ir_op *op)
{
    struct ir_guarded by = ir_guarded(op->imm);

    if (op->aux == VOP_NONE || op->aux >= VOP_COUNT || by.cond < FIX_DENORMAL_S || by.cond >= FIX_COND_COUNT || by.fix >= c->ir->guest->nfixes)
        return fail(c, "no vector op %u, fix %u or condition %u", op->aux, by.fix, by.cond);
    if (op->type != T_V128)
        return fail(c, "%s of %s", vop_info[op->aux].text, type_text(op->type));
    for (unsigned i = 0; i < 3; i++)
        if (op->arg[i] ? c->ir->val_type[op->arg[i]] != T_V128 : i < vop_info[op->aux].operands)
            return fail(c, "operand %u of %s", i, vop_info[op->aux].text);
    return true;
}

static bool check_call(struct check *c, const struct ir_op *op)
{
    const struct ir_helper *h;

    if (op->aux >= c->ir->nhelpers)
        return fail(c, "no helper %u", op->aux);
    h = c->ir->helpers[op->aux];
    if (op->type != h->ret || !op->dst != (h->ret == T_VOID))
        return fail(c, "%s returns %s", h->name, type_text(h->ret));
    for (unsigned i = 0; i < 4; i++) {
        if (!op->arg[i] != (i >= h->nargs))
            return fail(c, "%s takes %u arguments", h->name, h->nargs);
        if (op->arg[i] && !check_operand_type(c, i, h->args[i]))
            return false;
    }
    return true;
}

static bool check_call_host(struct check *c, const struct ir_op *op)
{
    uint64_t imm;

    if (op->aux >= c->ir->nhelpers)
        return fail(c, "no helper %u", op->aux);
    if (!op->b || !ir_is_const(c->ir, op->b, &imm) || !(imm >> 48))
        return fail(c, "no instruction of the host");
    return (!op->a || check_operand_type(c, 0, T_I64)) && (!op->c || check_operand_type(c, 2, T_I32));
}

static bool check_exit(struct check *c, const struct ir_op *op)
{
    if (op->aux >= c->ir->nexits)
        return fail(c, "no exit %u", op->aux);
    return check_operands(c, ir_opinfo[op->op].operands, T_I64);
}

/* (3) and (5) */
static bool check_branch(struct check *c, const struct ir_op *op)
{
    const struct ir *ir = c->ir;
    unsigned target;

    if (op->aux >= ir->nlabels)
        return fail(c, "no label L%u", op->aux);
    target = ir->label_op[op->aux];
    if (op->aux && (!target || target >= ir->nops || ir->ops[target].op != IR_LABEL || ir->ops[target].aux != op->aux))
        return fail(c, "L%u is not bound", op->aux);
    if (target <= c->at && !c->polled && !c->label_polls[op->aux])
        return fail(c, "goes back to L%u without a poll", op->aux);
    c->label_put[op->aux] |= c->put;
    return op->op == IR_BR || check_compare(c, op);
}

/* (4) */
static bool check_fault_point(struct check *c, const struct ir_op *op)
{
    bool raises = ir_opinfo[op->op].flags & OPF_FAULTS ||
                  (op->op == IR_CALL && c->ir->helpers[op->aux]->flags & HELPER_RAISES);

    if (!c->in_insn && (raises || op->op == IR_CALL))
        return fail(c, "may fault before any insn");
    if (raises && c->put)
        return fail(c, "may fault after its instruction has put a slot (ir_put_early() if it can be restarted so)");
    return true;
}

static bool check_kind(struct check *c, const struct ir_op *op)
{
    switch ((enum ir_opcode)op->op) {
    case IR_NOP: case IR_FENCE: case IR_POLL:
        return true;
    case IR_CONST:
        if (op->type == T_I32 && (uint64_t)op->imm > UINT32_MAX)
            return fail(c, "an i32 is kept zero-extended");
        return check_type(c, op->type > T_VOID && op->type < T_COUNT);
    case IR_GET: case IR_PUT:
        return check_slot(c, op);
    case IR_STLD: case IR_STST:
        return check_state(c, op);
    case IR_PC:
        return check_type(c, op->type == T_I64);
    case IR_SEXT32: case IR_ZEXT32:
        return check_type(c, op->type == T_I64) && check_operand_type(c, 0, T_I32);
    case IR_TRUNC:
        return check_type(c, op->type == T_I32) && check_operand_type(c, 0, T_I64);
    case IR_EXTRACT: case IR_SEXTRACT: case IR_DEPOSIT:
        return check_field(c, op);
    case IR_LEA:
        return check_type(c, op->type == T_I64) && (op->imm == (int32_t)op->imm || fail(c, "displacement too large")) &&
               check_operands(c, op->b ? 2 : 1, T_I64);
    case IR_SETCC:
        return check_type(c, type_is_int(op->type)) && check_compare(c, op);
    case IR_SELECT:
        return check_select(c, op);
    case IR_LOAD: case IR_STORE: case IR_ATOMIC_XCHG: case IR_ATOMIC_ADD: case IR_ATOMIC_AND: case IR_ATOMIC_OR:
    case IR_ATOMIC_XOR: case IR_ATOMIC_CAS:
        return check_access(c, op);
    case IR_VOP:
        return check_vop(c, op);
    case IR_VFIX:
        return check_vfix(c, op);
    case IR_VGUARD:
        return check_vguard(c, op);
    case IR_CALL:
        return check_call(c, op);
    case IR_CALL_HOST:
        return check_call_host(c, op);
    case IR_BR: case IR_BRCOND:
        return check_branch(c, op);
    case IR_EXIT_JUMP: case IR_EXIT_INDIRECT: case IR_EXIT_LOOP: case IR_EXIT_LOOP_PC:
        return check_exit(c, op);
    case IR_INSN_START:
        return op->aux < c->ir->ninsns || fail(c, "no insn %u", op->aux);
    case IR_LABEL:
        return op->aux < c->ir->nlabels && c->ir->label_op[op->aux] == c->at ? true
               : fail(c, "L%u is bound twice or not known", op->aux);
    default:
        return check_type(c, type_is_int(op->type)) && check_operands(c, ir_opinfo[op->op].operands, op->type);
    }
}

static bool check_op(struct check *c)
{
    const struct ir_op *op = &c->ir->ops[c->at];

    if (op->op >= IR_OPCODE_COUNT || op->type >= T_COUNT || op->ctype >= T_COUNT)
        return fail(c, "no such op");
    if (op->dst && (op->dst >= c->ir->nvals || c->ir->val_type[op->dst] != op->type ||
                    c->ir->val_op[op->dst] != c->at))
        return fail(c, "defines v%u, which is not of its type or defined elsewhere too", op->dst);
    for (unsigned i = 0; i < ir_opinfo[op->op].operands; i++)
        if (op->arg[i] && !check_operand_defined(c, i))
            return false;
    return check_kind(c, op) && check_fault_point(c, op);
}

/* What holds after the op, for those that follow. */
static void check_advance(struct check *c, bool *ended)
{
    const struct ir_op *op = &c->ir->ops[c->at];

    switch (op->op) {
    case IR_INSN_START:
        c->in_insn = true;
        c->put = false;
        break;
    case IR_PUT:
        c->put |= !op->esz;
        break;
    case IR_POLL:
        c->polled = true;
        break;
    }
    *ended = ir_opinfo[op->op].flags & OPF_ENDS;
    if (op_ends_block(op)) {
        c->block_start = c->at + 1;
        c->polled = false;
    }
}

static void check_enter_label(struct check *c, bool ended)
{
    const struct ir_op *op = &c->ir->ops[c->at];

    if (op->aux >= IR_MAX_LABELS)
        return;
    c->put = (!ended && c->put) || c->label_put[op->aux];
    c->block_start = c->at;
    c->polled = false;
}

/* Labels of which the block passes a POLL, wherever in it. */
static void find_polls(struct check *c)
{
    const struct ir *ir = c->ir;
    int label = -1;

    for (unsigned i = 0; i < ir->nops; i++) {
        const struct ir_op *op = &ir->ops[i];

        if (op->op == IR_LABEL)
            label = op->aux < IR_MAX_LABELS ? op->aux : -1;
        else if (op->op < IR_OPCODE_COUNT && op_ends_block(op))
            label = -1;
        else if (op->op == IR_POLL && label >= 0)
            c->label_polls[label] = true;
    }
}

static bool check_region(struct check *c)
{
    const struct ir *ir = c->ir;
    bool ended = false;

    if (ir->overflow)
        return fail(c, "the region is too large");
    if (!ir->nops || ir->ops[0].op != IR_LABEL || ir->ops[0].aux != 0)
        return fail(c, "a region begins with label 0");
    find_polls(c);
    for (c->at = 0; c->at < ir->nops; c->at++) {
        if (ir->ops[c->at].op == IR_LABEL)
            check_enter_label(c, ended);
        else if (ended && ir->ops[c->at].op != IR_NOP)
            return fail(c, "can't be reached: no label after the end of control");
        if (!check_op(c))
            return false;
        if (ir->ops[c->at].op != IR_NOP)
            check_advance(c, &ended);
    }
    c->at = ir->nops - 1;
    return ended || fail(c, "control runs off the end of the region");
}

bool ir_validate(const struct ir *ir, char **why)
{
    struct check *c = g_new0(struct check, 1);
    bool ok;

    c->ir = ir;
    ok = check_region(c);
    if (why)
        *why = c->why;
    else
        g_free(c->why);
    g_free(c);
    return ok;
}
