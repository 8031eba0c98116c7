/* The region as text, an op a line: what -d op and -d op_opt show. */
#include <glib.h>
#include "ir_internal.h"
#include "rhea/ir/vop.h"

static const char *const type_name[T_COUNT] = { "void", "i32", "i64", "v128", "v256" };
static const char *const cond_name[C_COUNT] = {
    [C_EQ] = "eq", [C_NE] = "ne", [C_LT] = "lt", [C_GE] = "ge", [C_LE] = "le", [C_GT] = "gt", [C_LTU] = "ltu",
    [C_GEU] = "geu", [C_LEU] = "leu", [C_GTU] = "gtu", [C_TSTEQ] = "tsteq", [C_TSTNE] = "tstne",
};
static const char *const exit_name[] = {
    [EXIT_DIRECT] = "direct", [EXIT_INDIRECT_JUMP] = "indirect", [EXIT_CALL] = "call", [EXIT_RETURN] = "return",
    [EXIT_TO_LOOP] = "loop",
};

static void print_value(GString *s, const struct ir *ir, ir_val v)
{
    uint64_t imm;

    if (v < ir->nvals && ir_is_const(ir, v, &imm))
        g_string_append_printf(s, "%s%" G_GINT64_MODIFIER "x", imm > 9 ? "0x" : "", imm);
    else
        g_string_append_printf(s, "v%u", v);
}

static void print_operands(GString *s, const struct ir *ir, const struct ir_op *op, unsigned first)
{
    for (unsigned i = first; i < ir_opinfo[op->op].operands && op->arg[i]; i++) {
        g_string_append(s, i == first ? " " : ", ");
        print_value(s, ir, op->arg[i]);
    }
}

static const char *slot_name(const struct ir *ir, unsigned slot)
{
    return slot < ir->guest->nslots ? ir->guest->slots[slot].name : "?";
}

static void print_offset(GString *s, int64_t offset)
{
    g_string_append_printf(s, "%s0x%" G_GINT64_MODIFIER "x", offset < 0 ? "-" : "+",
                           offset < 0 ? -(uint64_t)offset : (uint64_t)offset);
}

/* "load.s16be [v5+0x10] mmu1 align4 atomic acquire" */
static void print_access(GString *s, const struct ir *ir, const struct ir_op *op)
{
    memop m = op->mem;

    g_string_append_printf(s, ".%c%u%s [", m & MEM_SIGNED ? 's' : 'u', 8 * memop_bytes(m), m & MEM_BE ? "be" : "");
    print_value(s, ir, op->a);
    if (op->disp)
        print_offset(s, op->disp);
    g_string_append_c(s, ']');
    for (unsigned i = 1; i < ir_opinfo[op->op].operands; i++) {
        g_string_append(s, ", ");
        print_value(s, ir, op->arg[i]);
    }
    if (memop_mmu(m))
        g_string_append_printf(s, " mmu%u", memop_mmu(m));
    if (m & MEM_ALIGN_MASK)
        g_string_append_printf(s, " align%u", 1u << ((m & MEM_ALIGN_MASK) >> MEM_ALIGN_SHIFT));
    g_string_append_printf(s, "%s%s%s%s%s", m & MEM_ATOMIC ? " atomic" : "", m & MEM_ACQUIRE ? " acquire" : "",
                           m & MEM_RELEASE ? " release" : "", m & MEM_RW ? " rw" : "", m & MEM_WRAP_32 ? " wrap32" : "");
}

static void print_exit(GString *s, const struct ir *ir, const struct ir_op *op)
{
    const struct ir_exit *e = op->aux < ir->nexits ? &ir->exits[op->aux] : NULL;

    if (op->a) {
        g_string_append_c(s, ' ');
        print_value(s, ir, op->a);
    } else {
        g_string_append(s, " pc");
        print_offset(s, op->imm);
    }
    if (!e || e->kind >= G_N_ELEMENTS(exit_name))
        return;
    g_string_append_printf(s, " (exit %u, %s", op->aux, exit_name[e->kind]);
    if (e->kind == EXIT_CALL) {
        g_string_append(s, ", returns to pc");
        print_offset(s, e->ret);
    }
    g_string_append_printf(s, ", %u insns)", e->icount);
}

static void print_compare(GString *s, const struct ir *ir, const struct ir_op *op)
{
    g_string_append_printf(s, "%s.%s ", cond_name[op->cond < C_COUNT ? op->cond : 0], type_name[op->ctype % T_COUNT]);
    print_value(s, ir, op->a);
    g_string_append(s, ", ");
    print_value(s, ir, op->b);
}

static void print_body(GString *s, const struct ir *ir, const struct ir_op *op)
{
    switch ((enum ir_opcode)op->op) {
    case IR_CONST:
        g_string_append_printf(s, " 0x%" G_GINT64_MODIFIER "x", (uint64_t)op->imm);
        break;
    case IR_GET:
        g_string_append_printf(s, " %s", slot_name(ir, op->aux));
        break;
    case IR_PUT:
        g_string_append_printf(s, "%s %s =", op->esz ? ".early" : "", slot_name(ir, op->aux));
        print_operands(s, ir, op, 0);
        break;
    case IR_STLD: case IR_STST:
        g_string_append_printf(s, ".%u state", 8u << op->esz);
        print_offset(s, op->imm);
        if (op->a)
            g_string_append(s, " =");
        print_operands(s, ir, op, 0);
        break;
    case IR_PC: case IR_POLL: case IR_INSN_START:
        g_string_append(s, " pc");
        print_offset(s, op->imm);
        break;
    case IR_EXTRACT: case IR_SEXTRACT: case IR_DEPOSIT:
        print_operands(s, ir, op, 0);
        g_string_append_printf(s, ", %u:%u", (unsigned)op->imm & 0xff, (unsigned)(op->imm >> 8) & 0xff);
        break;
    case IR_LEA:
        g_string_append_c(s, ' ');
        print_value(s, ir, op->a);
        if (op->b) {
            g_string_append(s, " + ");
            print_value(s, ir, op->b);
            g_string_append_printf(s, " * %u", 1u << op->esz);
        }
        if (op->imm)
            print_offset(s, op->imm);
        break;
    case IR_SETCC:
        g_string_append_c(s, ' ');
        print_compare(s, ir, op);
        break;
    case IR_SELECT:
        g_string_append_c(s, ' ');
        print_compare(s, ir, op);
        g_string_append(s, " ?");
        print_operands(s, ir, op, 2);
        break;
    case IR_LOAD: case IR_STORE: case IR_ATOMIC_XCHG: case IR_ATOMIC_ADD: case IR_ATOMIC_AND: case IR_ATOMIC_OR:
    case IR_ATOMIC_XOR: case IR_ATOMIC_CAS:
        print_access(s, ir, op);
        break;
    case IR_VOP:
        print_operands(s, ir, op, 0);
        if (op->imm)
            g_string_append_printf(s, ", #0x%" G_GINT64_MODIFIER "x", (uint64_t)op->imm);
        break;
    case IR_VFIX:
        g_string_append_printf(s, " %s when %u, #%d: ", op->aux < ir->guest->nfixes ? ir->guest->fixes[op->aux].name : "?",
                               (unsigned)op->imm & 0xff, (int)(op->imm >> 8));
        print_value(s, ir, op->d);
        for (unsigned i = 0; i < 3; i++) {
            g_string_append(s, ", ");
            if (op->arg[i])
                print_value(s, ir, op->arg[i]);
        }
        break;
    case IR_VGUARD:
        print_operands(s, ir, op, 0);
        g_string_append_printf(s, ", #0x%x unless %u: %s #%u", ir_guarded(op->imm).imm, ir_guarded(op->imm).cond,
                               ir_guarded(op->imm).fix < ir->guest->nfixes ? ir->guest->fixes[ir_guarded(op->imm).fix].name : "?",
                               ir_guarded(op->imm).fix_imm);
        break;
    case IR_CALL:
        g_string_append_printf(s, " %s", op->aux < ir->nhelpers ? ir->helpers[op->aux]->name : "?");
        print_operands(s, ir, op, 0);
        break;
    case IR_CALL_HOST:
        g_string_append_printf(s, " %s", op->aux < ir->nhelpers ? ir->helpers[op->aux]->name : "?");
        for (unsigned i = 0; i < 3; i++) {
            g_string_append(s, i ? ", " : " ");
            if (op->arg[i])
                print_value(s, ir, op->arg[i]);
        }
        if (op->disp)
            print_offset(s, op->disp);
        break;
    case IR_BR:
        g_string_append_printf(s, " L%u", op->aux);
        break;
    case IR_BRCOND:
        g_string_append_c(s, ' ');
        print_compare(s, ir, op);
        g_string_append_printf(s, ", L%u", op->aux);
        break;
    case IR_EXIT_JUMP: case IR_EXIT_INDIRECT: case IR_EXIT_LOOP: case IR_EXIT_LOOP_PC:
        print_exit(s, ir, op);
        break;
    default:
        print_operands(s, ir, op, 0);
    }
}

static void print_op(GString *s, const struct ir *ir, const struct ir_op *op)
{
    if (op->op == IR_LABEL) {
        g_string_append_printf(s, "L%u:", op->aux);
        return;
    }
    if (op->op == IR_INSN_START) {
        g_string_append_printf(s, "-- insn %u at 0x%" G_GINT64_MODIFIER "x", op->aux, ir->page + (uint64_t)op->imm);
        return;
    }
    g_string_append(s, "    ");
    if (op->dst)
        g_string_append_printf(s, "v%u:%s = ", op->dst, type_name[op->type % T_COUNT]);
    if (op->op == IR_VGUARD)
        g_string_append(s, "vguard ");
    if ((op->op == IR_VOP || op->op == IR_VGUARD) && op->aux < VOP_COUNT)
        g_string_append(s, vop_info[op->aux].text);
    else
        g_string_append(s, op->op < IR_OPCODE_COUNT ? ir_opinfo[op->op].text : "?");
    if (op->op < IR_OPCODE_COUNT)
        print_body(s, ir, op);
}

char *ir_print_optimized(const struct ir *ir, const struct ir_analysis *an)
{
    GString *s = g_string_new(NULL);

    g_string_append_printf(s, "region 0x%" G_GINT64_MODIFIER "x-0x%" G_GINT64_MODIFIER "x mode 0x%" G_GINT64_MODIFIER
                           "x: %u insns, %u ops%s\n", ir->pc, ir->end, ir->mode, ir->ninsns, ir->nops,
                           ir->overflow ? ", overflow" : "");
    for (unsigned i = 0; i < ir->nops; i++) {
        unsigned flags = an ? an->use[i].flags : 0;

        g_string_append_printf(s, "%4u ", i);
        print_op(s, ir, &ir->ops[i]);
        if (flags & OPX_DEAD)
            g_string_append(s, "    ; dead");
        if (flags & OPX_SUNK)
            g_string_append_printf(s, "    ; sunk to %u", an->use[i].sunk_end);
        g_string_append_c(s, '\n');
    }
    return g_string_free(s, FALSE);
}

char *ir_print(const struct ir *ir)
{
    return ir_print_optimized(ir, NULL);
}
