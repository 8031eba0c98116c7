/* The builder's folding, each invariant's check, the passes case by case, the interpreter op by op. Over the toy guest
 * of ir-random.h; test-ir-random.c has the same in bulk. */
#include <glib.h>
#include <string.h>
#include "ir-random.h"
#include "rhea/ir/vop.h"

enum { PC = 0x5000 };

/* A region with one instruction begun. */
static struct ir *region(void)
{
    struct ir *ir = ir_new();

    ir_begin(ir, &guest_toy, PC, 0);
    ir_insn_start(ir, PC, 4);
    return ir;
}

static ir_val r(struct ir *ir, unsigned n) { return ir_get(ir, TOY_SLOT_R + n); }
static ir_val w(struct ir *ir, unsigned n) { return ir_get(ir, TOY_SLOT_W + n); }
static ir_val c64(struct ir *ir, uint64_t imm) { return ir_const(ir, T_I64, imm); }
static ir_val c32(struct ir *ir, uint32_t imm) { return ir_const(ir, T_I32, imm); }
static void put_r(struct ir *ir, unsigned n, ir_val v) { ir_put(ir, TOY_SLOT_R + n, v); }
static const struct ir_op *last(const struct ir *ir) { return &ir->ops[ir->nops - 1]; }
static const struct ir_op *def(const struct ir *ir, ir_val v) { return &ir->ops[ir->val_op[v]]; }

static unsigned count(const struct ir *ir, enum ir_opcode op)
{
    unsigned n = 0;

    for (unsigned i = 0; i < ir->nops; i++)
        n += ir->ops[i].op == op;
    return n;
}

static void assert_valid(const struct ir *ir)
{
    g_autofree char *why = NULL;

    if (!ir_validate(ir, &why))
        g_error("%s\n%s", why, ir_print(ir));
}

/* Ends the region, checks and frees it. */
static void done(struct ir *ir)
{
    ir_finish(ir);
    assert_valid(ir);
    ir_free(ir);
}

#define assert_const(ir, v, want)                                                                            \
    do {                                                                                                     \
        uint64_t got = 0;                                                                                    \
        g_assert_true(ir_is_const(ir, v, &got));                                                             \
        g_assert_cmphex(got, ==, want);                                                                      \
    } while (0)

/* ---- builder */

static void builder_folds_constants(void)
{
    struct ir *ir = region();

    assert_const(ir, ir_bin(ir, IR_ADD, c64(ir, 40), c64(ir, 2)), 42);
    assert_const(ir, ir_bin(ir, IR_SUB, c32(ir, 0), c32(ir, 1)), UINT32_MAX);
    assert_const(ir, ir_bin(ir, IR_SHL, c32(ir, 1), c32(ir, 33)), 2);
    assert_const(ir, ir_bin(ir, IR_SAR, c32(ir, 0x80000000), c32(ir, 4)), 0xf8000000);
    assert_const(ir, ir_bin(ir, IR_MULHU, c64(ir, UINT64_MAX), c64(ir, UINT64_MAX)), UINT64_MAX - 1);
    assert_const(ir, ir_bin(ir, IR_MULHS, c32(ir, UINT32_MAX), c32(ir, 2)), UINT32_MAX);
    assert_const(ir, ir_bin(ir, IR_DIVS, c32(ir, (uint32_t)-7), c32(ir, 2)), (uint32_t)-3);
    assert_const(ir, ir_bin(ir, IR_REMS, c64(ir, (uint64_t)-7), c64(ir, 2)), (uint64_t)-1);
    assert_const(ir, ir_un(ir, IR_CLZ, c32(ir, 0)), 32);
    assert_const(ir, ir_un(ir, IR_CTZ, c64(ir, 0)), 64);
    assert_const(ir, ir_un(ir, IR_BSWAP16, c32(ir, 0xabcd1234)), 0x3412);
    assert_const(ir, ir_un(ir, IR_SEXT32, c32(ir, 0x80000000)), 0xffffffff80000000);
    assert_const(ir, ir_un(ir, IR_TRUNC, c64(ir, 0x1122334455667788)), 0x55667788);
    assert_const(ir, ir_sextract(ir, c64(ir, 0xf0), 4, 4), UINT64_MAX);
    assert_const(ir, ir_deposit(ir, c32(ir, 0x11111111), c32(ir, 0xabcd), 8, 8), 0x1111cd11);
    assert_const(ir, ir_lea(ir, c64(ir, 0x100), c64(ir, 3), 3, -8), 0x110);
    assert_const(ir, ir_lea(ir, 0, 0, 0, -8), (uint64_t)-8);
    assert_const(ir, ir_setcc(ir, T_I64, C_LT, c32(ir, UINT32_MAX), c32(ir, 0)), 1);
    assert_const(ir, ir_setcc(ir, T_I32, C_LTU, c32(ir, UINT32_MAX), c32(ir, 0)), 0);
    g_assert_cmpuint(count(ir, IR_ADD) + count(ir, IR_SHL) + count(ir, IR_SETCC), ==, 0);
    done(ir);
}

static void builder_leaves_divisions_without_result(void)
{
    struct ir *ir = region();
    uint64_t imm;

    g_assert_false(ir_is_const(ir, ir_bin(ir, IR_DIVU, c64(ir, 1), c64(ir, 0)), &imm));
    g_assert_false(ir_is_const(ir, ir_bin(ir, IR_DIVS, c32(ir, 0x80000000), c32(ir, UINT32_MAX)), &imm));
    done(ir);
}

static void builder_knows_identities(void)
{
    struct ir *ir = region();
    ir_val a = r(ir, 0), b = r(ir, 1), a32 = w(ir, 0);

    g_assert_cmpuint(ir_bin_imm(ir, IR_ADD, a, 0), ==, a);
    g_assert_cmpuint(ir_bin(ir, IR_ADD, c64(ir, 0), a), ==, a);
    g_assert_cmpuint(ir_bin_imm(ir, IR_AND, a, UINT64_MAX), ==, a);
    g_assert_cmpuint(ir_bin(ir, IR_OR, a, a), ==, a);
    g_assert_cmpuint(ir_bin_imm(ir, IR_ROTL, a, 64), ==, a);
    g_assert_cmpuint(ir_un(ir, IR_TRUNC, ir_un(ir, IR_ZEXT32, a32)), ==, a32);
    assert_const(ir, ir_bin(ir, IR_XOR, a, a), 0);
    assert_const(ir, ir_bin(ir, IR_SUB, a, a), 0);
    assert_const(ir, ir_bin_imm(ir, IR_MUL, a, 0), 0);
    assert_const(ir, ir_setcc(ir, T_I32, C_GEU, a, c64(ir, 0)), 1);
    g_assert_cmpuint(ir_select(ir, C_EQ, a, b, b, b), ==, b);
    g_assert_cmpuint(def(ir, ir_bin_imm(ir, IR_MUL, a, 8))->op, ==, IR_SHL);
    g_assert_cmpuint(def(ir, ir_bin_imm(ir, IR_AND, a, 0xff))->op, ==, IR_ZEXT8);
    g_assert_cmpuint(def(ir, ir_bin_imm(ir, IR_XOR, a, UINT64_MAX))->op, ==, IR_NOT);
    g_assert_cmpuint(def(ir, ir_lea(ir, a, b, 0, 0))->op, ==, IR_ADD);
    g_assert_cmpuint(def(ir, ir_select(ir, C_LT, a, b, c32(ir, 1), c32(ir, 0)))->op, ==, IR_SETCC);
    done(ir);
}

static void builder_chains_additions_into_displacements(void)
{
    struct ir *ir = region();
    ir_val a = r(ir, 0), sum = ir_bin_imm(ir, IR_SUB, ir_bin_imm(ir, IR_ADD, a, 16), 4);

    assert_const(ir, def(ir, sum)->b, 12);
    ir_load(ir, T_I64, MEM_64, sum, 8);
    g_assert_cmpuint(last(ir)->a, ==, a);
    g_assert_cmpint(last(ir)->disp, ==, 20);
    /* not where it does not fit */
    sum = ir_bin_imm(ir, IR_ADD, a, 0x7fffffff);
    ir_load(ir, T_I64, MEM_64, sum, 8);
    g_assert_cmpuint(last(ir)->a, ==, sum);
    done(ir);
}

static void builder_shares_constants_of_a_block(void)
{
    struct ir *ir = region();
    ir_val a = c64(ir, 0x1234);
    ir_label l = ir_label_new(ir);

    g_assert_cmpuint(c64(ir, 0x1234), ==, a);
    g_assert_cmpuint(c32(ir, 0x1234), !=, a);
    ir_label_bind(ir, l);
    g_assert_cmpuint(c64(ir, 0x1234), !=, a);
    done(ir);
}

static void builder_fuses_comparisons(void)
{
    struct ir *ir = region();
    ir_label l = ir_label_new(ir);
    ir_val a = r(ir, 0), b = r(ir, 1);

    ir_brcond(ir, C_NE, ir_setcc(ir, T_I32, C_LTU, a, b), c32(ir, 0), l);
    g_assert_cmpuint(last(ir)->cond, ==, C_LTU);
    g_assert_cmpuint(last(ir)->ctype, ==, T_I64);
    a = w(ir, 0), b = w(ir, 1);
    ir_brcond(ir, C_EQ, ir_setcc(ir, T_I64, C_LE, a, b), c64(ir, 0), l);
    g_assert_cmpuint(last(ir)->cond, ==, C_GT);
    g_assert_cmpuint(last(ir)->ctype, ==, T_I32);
    a = r(ir, 0), b = r(ir, 1);
    ir_brcond(ir, C_EQ, ir_bin(ir, IR_AND, a, b), c64(ir, 0), l);
    g_assert_cmpuint(last(ir)->cond, ==, C_TSTEQ);
    g_assert_cmpuint(last(ir)->a, ==, a);
    a = r(ir, 0);
    ir_brcond(ir, C_LT, c64(ir, 5), a, l);              /* constants to the right */
    g_assert_cmpuint(last(ir)->cond, ==, C_GT);
    g_assert_cmpuint(last(ir)->a, ==, a);
    ir_label_bind(ir, l);
    done(ir);
}

static void builder_drops_what_control_does_not_reach(void)
{
    struct ir *ir = region();
    ir_label l = ir_label_new(ir);
    unsigned n, exits;
    ir_val v;

    ir_brcond(ir, C_EQ, c64(ir, 1), c64(ir, 1), l);     /* always */
    g_assert_cmpuint(last(ir)->op, ==, IR_BR);
    n = ir->nops, exits = ir->nexits;
    v = ir_bin(ir, IR_ADD, r(ir, 0), c64(ir, 1));
    g_assert_cmpuint(ir_type_of(ir, v), ==, T_I64);
    g_assert_cmpuint(ir_type_of(ir, w(ir, 0)), ==, T_I32);
    put_r(ir, 0, v);
    ir_exit_loop(ir, PC);
    g_assert_cmpuint(ir->nops, ==, n);
    g_assert_cmpuint(ir->nexits, ==, exits);
    ir_label_bind(ir, l);                               /* and so the BR was not needed */
    g_assert_cmpuint(count(ir, IR_BR), ==, 0);
    ir_brcond(ir, C_NE, c64(ir, 1), c64(ir, 1), l);     /* never */
    g_assert_cmpuint(count(ir, IR_BRCOND), ==, 0);
    done(ir);
}

static void goto_finds_leaders(void)
{
    struct ir *ir = ir_new();
    ir_label back, forth;

    ir_begin(ir, &guest_toy, PC, 0);
    back = ir_label_new(ir), forth = ir_label_new(ir);
    ir->leaders[ir->nleaders++] = (struct ir_leader){ .pc = PC, .label = back, .bound = true };
    ir->leaders[ir->nleaders++] = (struct ir_leader){ .pc = PC + 8, .label = forth };
    ir_label_bind(ir, back);
    ir_insn_start(ir, PC, 4);
    ir_label skip = ir_label_new(ir);
    ir_brcond(ir, C_EQ, r(ir, 0), r(ir, 1), skip);
    ir_goto(ir, PC);
    g_assert_cmpuint(last(ir)->op, ==, IR_BR);
    g_assert_cmpuint(last(ir)->aux, ==, back);
    g_assert_cmpuint(last(ir)[-1].op, ==, IR_POLL);
    ir_label_bind(ir, skip);
    skip = ir_label_new(ir);
    ir_brcond(ir, C_EQ, r(ir, 2), r(ir, 3), skip);
    ir_goto(ir, PC + 8);
    g_assert_cmpuint(last(ir)->aux, ==, forth);
    g_assert_cmpuint(last(ir)[-1].op, !=, IR_POLL);
    ir_label_bind(ir, skip);
    ir_goto(ir, PC + 0x1000);
    g_assert_cmpuint(last(ir)->op, ==, IR_EXIT_JUMP);
    g_assert_cmpint(ir->exits[last(ir)->aux].target, ==, (PC & 0xfff) + 0x1000);
    ir_finish(ir);                                      /* the leader that was never reached becomes an exit */
    g_assert_cmpuint(last(ir)->op, ==, IR_EXIT_JUMP);
    g_assert_cmpint(last(ir)->imm, ==, (PC & 0xfff) + 8);
    assert_valid(ir);
    ir_free(ir);
}

static void overflow_is_told_not_suffered(void)
{
    struct ir *ir = region();
    g_autofree char *why = NULL;

    for (unsigned i = 0; i < 2 * IR_MAX_OPS; i++)
        put_r(ir, 0, ir_bin(ir, IR_ADD, r(ir, 0), r(ir, 1)));
    g_assert_true(ir->overflow);
    g_assert_cmpuint(ir->nops, <=, IR_MAX_OPS);
    ir_finish(ir);
    g_assert_false(ir_validate(ir, &why));
    ir_begin(ir, &guest_toy, PC, 0);
    for (unsigned i = 0; i < 2 * IR_MAX_LABELS; i++)
        ir_label_bind(ir, ir_label_new(ir));
    g_assert_true(ir->overflow);
    ir_begin(ir, &guest_toy, PC, 0);
    for (unsigned i = 0; i < 2 * IR_MAX_EXITS; i++) {
        ir_exit_loop(ir, PC);
        ir->ended = false;
    }
    g_assert_true(ir->overflow);
    ir_begin(ir, &guest_toy, PC, 0);
    g_assert_false(ir->overflow);
    ir_insn_start(ir, PC, 4);
    done(ir);
}

static void clone_is_the_same_program(void)
{
    struct ir *ir = region(), *copy;

    put_r(ir, 0, ir_bin(ir, IR_ADD, r(ir, 1), r(ir, 2)));
    ir_finish(ir);
    copy = ir_clone(ir);
    g_autofree char *a = ir_print(ir), *b = ir_print(copy);
    g_assert_cmpstr(a, ==, b);
    ir_free(ir);
    assert_valid(copy);
    ir_free(copy);
}

/* ---- validator: each breaks one thing */

static void break_use_before_definition(struct ir *ir)
{
    ir_val a = r(ir, 0), b = ir_bin(ir, IR_ADD, a, r(ir, 1));

    ir->ops[ir->val_op[b]].a = b;
}
static void break_use_across_blocks(struct ir *ir)
{
    ir_val a = r(ir, 0);
    ir_label l = ir_label_new(ir);

    ir_brcond(ir, C_EQ, a, r(ir, 1), l);
    put_r(ir, 2, a);
    ir_label_bind(ir, l);
}
static void break_operand_type(struct ir *ir)
{
    ir_val a = w(ir, 0);
    struct ir_op *op = ir_append(ir, IR_ADD, T_I64);

    op->a = op->b = a;
}
static void break_operand_missing(struct ir *ir) { ir_append(ir, IR_NEG, T_I64); }
static void break_placeholder(struct ir *ir) { ir_append(ir, IR_NEG, T_I64)->a = T_I64; }
static void break_slot_type(struct ir *ir) { ir_put(ir, TOY_SLOT_R, w(ir, 0)); }
static void break_slot_number(struct ir *ir) { ir_append(ir, IR_GET, T_I64)->aux = TOY_SLOTS; }
static void break_state_is_slot(struct ir *ir)
{
    ir_state_load(ir, T_I64, offsetof(struct toy_cpu, r[3]) + 4, 3);
}
static void break_state_outside(struct ir *ir) { ir_state_load(ir, T_I64, sizeof(struct toy_cpu) - 4, 3); }
static void break_const_extension(struct ir *ir) { ir_append(ir, IR_CONST, T_I32)->imm = -1; }
static void break_field(struct ir *ir)
{
    ir_val a = r(ir, 0);
    struct ir_op *op = ir_append(ir, IR_EXTRACT, T_I64);

    op->a = a;
    op->imm = 60 | 8 << 8;
}
static void break_access_size(struct ir *ir) { ir_load(ir, T_I32, MEM_64, r(ir, 0), 0); }
static void break_access_vector(struct ir *ir) { ir_load(ir, T_V128, MEM_16, r(ir, 0), 0); }
static void break_vop_operands(struct ir *ir) { ir_vop(ir, VOP_AND, T_V128, ir_get(ir, TOY_SLOT_V), 0, 0, 0); }
static void break_vop_type(struct ir *ir) { ir_vop(ir, VOP_LO, T_I64, ir_get(ir, TOY_SLOT_Y), 0, 0, 0); }
static void break_vop_width(struct ir *ir)
{
    ir_vop(ir, VOP_AND, T_V128, ir_get(ir, TOY_SLOT_V), ir_get(ir, TOY_SLOT_Y), 0, 0);
}
static void break_vop_number(struct ir *ir) { ir_vop(ir, VOP_COUNT, T_V128, 0, 0, 0, 0); }
static void break_call_arguments(struct ir *ir) { ir_call(ir, TOY_PURE, r(ir, 0), r(ir, 1), 0, 0); }
static void break_call_number(struct ir *ir) { ir_append(ir, IR_CALL, T_VOID)->aux = TOY_HELPERS; }
static void break_unbound_label(struct ir *ir)
{
    ir_brcond(ir, C_EQ, r(ir, 0), r(ir, 1), ir_label_new(ir));
}
static void break_label_twice(struct ir *ir)
{
    ir_label l = ir_label_new(ir);

    ir_label_bind(ir, l);
    ir_label_bind(ir, l);
}
static void break_backward_without_poll(struct ir *ir)
{
    ir_label l = ir_label_new(ir);

    ir_label_bind(ir, l);
    ir_brcond(ir, C_EQ, r(ir, 0), r(ir, 1), l);
}
static void break_fault_after_put(struct ir *ir)
{
    put_r(ir, 0, r(ir, 1));
    ir_load(ir, T_I64, MEM_64, r(ir, 2), 0);
}
static void break_fault_after_put_on_one_path(struct ir *ir)
{
    ir_label l = ir_label_new(ir);

    ir_brcond(ir, C_EQ, r(ir, 0), r(ir, 1), l);
    put_r(ir, 0, r(ir, 1));
    ir_label_bind(ir, l);
    ir_load(ir, T_I64, MEM_64, r(ir, 2), 0);
}
static void break_raise_after_put(struct ir *ir)
{
    put_r(ir, 0, r(ir, 1));
    ir_call(ir, TOY_RAISES, r(ir, 2), 0, 0, 0);
}
static void break_exit_number(struct ir *ir)
{
    ir_append(ir, IR_EXIT_JUMP, T_VOID)->aux = 200;
}
static void break_unreachable(struct ir *ir)
{
    ir_exit_loop(ir, PC);
    ir->ended = false;
}
static void break_condition(struct ir *ir)
{
    ir_val a = r(ir, 0), b = r(ir, 1);
    struct ir_op *op = ir_append(ir, IR_SETCC, T_I32);

    op->a = a, op->b = b, op->ctype = T_I64, op->cond = C_COUNT;
}
static void break_lea_displacement(struct ir *ir)
{
    ir_val a = r(ir, 0);
    struct ir_op *op = ir_append(ir, IR_LEA, T_I64);

    op->a = a, op->imm = INT64_C(1) << 32;
}

static const struct broken {
    const char *name;
    void (*breaks)(struct ir *ir);
    const char *says;
} broken[] = {
    { "use_before_definition", break_use_before_definition, "not defined before its use" },
    { "use_across_blocks", break_use_across_blocks, "another basic block" },
    { "operand_type", break_operand_type, "wanted is i64" },
    { "operand_missing", break_operand_missing, "missing" },
    { "placeholder", break_placeholder, "placeholder" },
    { "slot_type", break_slot_type, "slot r0 is i64" },
    { "slot_number", break_slot_number, "no slot" },
    { "state_is_slot", break_state_is_slot, "touches slot r3" },
    { "state_outside", break_state_outside, "outside the state" },
    { "const_extension", break_const_extension, "zero-extended" },
    { "field", break_field, "no bits" },
    { "access_size", break_access_size, "don't fit" },
    { "access_vector", break_access_vector, "don't fit" },
    { "vop_operands", break_vop_operands, "takes 2 operands" },
    { "vop_type", break_vop_type, "result can't be i64" },
    { "vop_width", break_vop_width, "operand 1 is v256, others are v128" },
    { "vop_number", break_vop_number, "no vector op" },
    { "call_arguments", break_call_arguments, "wanted is i32" },
    { "call_number", break_call_number, "no helper" },
    { "unbound_label", break_unbound_label, "not bound" },
    { "label_twice", break_label_twice, "bound twice" },
    { "backward_without_poll", break_backward_without_poll, "without a poll" },
    { "fault_after_put", break_fault_after_put, "may fault after" },
    { "fault_after_put_on_one_path", break_fault_after_put_on_one_path, "may fault after" },
    { "raise_after_put", break_raise_after_put, "may fault after" },
    { "exit_number", break_exit_number, "no exit" },
    { "unreachable", break_unreachable, "can't be reached" },
    { "condition", break_condition, "no condition" },
    { "lea_displacement", break_lea_displacement, "displacement" },
};

static void validator_refuses(gconstpointer data)
{
    const struct broken *b = data;
    struct ir *ir = region();
    g_autofree char *why = NULL;

    b->breaks(ir);
    ir_finish(ir);
    g_assert_false(ir_validate(ir, &why));
    g_assert_nonnull(why);
    if (!strstr(why, b->says))
        g_error("says \"%s\", not \"%s\"", why, b->says);
    ir_free(ir);
}

static void validator_refuses_shapes(void)
{
    struct ir *ir = region();
    g_autofree char *open_end = NULL, *before_insn = NULL, *no_label = NULL;

    g_assert_false(ir_validate(ir, &open_end));
    g_assert_nonnull(strstr(open_end, "runs off the end"));
    ir_begin(ir, &guest_toy, PC, 0);
    ir_load(ir, T_I64, MEM_64, r(ir, 0), 0);
    ir_finish(ir);
    g_assert_false(ir_validate(ir, &before_insn));
    g_assert_nonnull(strstr(before_insn, "before any insn"));
    ir_begin(ir, &guest_toy, PC, 0);
    ir_finish(ir);
    ir->ops[0].op = IR_NOP;
    g_assert_false(ir_validate(ir, &no_label));
    g_assert_nonnull(strstr(no_label, "begins with label 0"));
    ir_free(ir);
}

static void validator_accepts_early_puts_and_polled_loops(void)
{
    struct ir *ir = region();
    ir_label l = ir_label_new(ir);

    ir_put_early(ir, TOY_SLOT_R, r(ir, 1));
    ir_load(ir, T_I64, MEM_64, r(ir, 2), 0);
    ir_label_bind(ir, l);
    ir_put(ir, TOY_SLOT_R + 3, ir_bin_imm(ir, IR_ADD, r(ir, 3), 1));
    ir_insn_start(ir, PC + 4, 4);
    ir_poll(ir, PC + 4);
    ir_brcond(ir, C_LTU, r(ir, 3), c64(ir, 10), l);
    done(ir);
}

/* ---- passes */

struct optimized { struct ir *ir; struct ir_analysis *an; };

static struct optimized optimize(struct ir *ir)
{
    struct optimized o = { ir, ir_analysis_new() };

    ir_finish(ir);
    assert_valid(ir);
    ir_optimize(ir, o.an);
    assert_valid(ir);
    return o;
}

static void optimized_free(struct optimized o)
{
    ir_free(o.ir);
    ir_analysis_free(o.an);
}

/* Flags of the n-th op of a kind (that are left), from 0. */
static unsigned flags_of(struct optimized o, enum ir_opcode op, unsigned n)
{
    for (unsigned i = 0; i < o.ir->nops; i++)
        if (o.ir->ops[i].op == op && n-- == 0)
            return o.an->use[i].flags;
    g_assert_not_reached();
}

static unsigned left(struct optimized o, enum ir_opcode op)
{
    unsigned n = 0;

    for (unsigned i = 0; i < o.ir->nops; i++)
        n += o.ir->ops[i].op == op && !(o.an->use[i].flags & OPX_DEAD);
    return n;
}

static void unused_values_are_dead(void)
{
    struct ir *ir = region();

    ir_bin(ir, IR_MUL, ir_bin(ir, IR_ADD, r(ir, 0), r(ir, 1)), r(ir, 2));
    ir_call(ir, TOY_PURE, r(ir, 4), w(ir, 0), 0, 0);
    struct optimized o = optimize(ir);
    g_assert_cmpuint(left(o, IR_GET) + left(o, IR_ADD) + left(o, IR_MUL) + left(o, IR_CALL), ==, 0);
    optimized_free(o);
}

static void effects_are_not_dead(void)
{
    struct ir *ir = region();

    ir_load(ir, T_I64, MEM_64, r(ir, 0), 0);
    ir_atomic(ir, IR_ATOMIC_ADD, MEM_64, r(ir, 0), r(ir, 1));
    ir_call(ir, TOY_READS, w(ir, 0), 0, 0, 0);
    struct optimized o = optimize(ir);
    g_assert_cmpuint(left(o, IR_LOAD), ==, 1);
    g_assert_cmpuint(left(o, IR_ATOMIC_ADD), ==, 1);
    g_assert_cmpuint(left(o, IR_CALL), ==, 1);
    optimized_free(o);
}

static void floating_point_is_not_dead(void)
{
    struct ir *ir = region();
    unsigned fp = 0;
    ir_val v = ir_get(ir, TOY_SLOT_V);

    for (unsigned i = 1; i < VOP_COUNT && !fp; i++)
        if (vop_info[i].flags & VOPF_FP && vop_info[i].form == VF_RVM &&
            !(vop_info[i].flags & (VOPF_GPR_RESULT | VOPF_GPR_B)))
            fp = i;
    g_assert_cmpuint(fp, !=, 0);
    ir_vop(ir, fp, T_V128, v, v, 0, 0);                 /* sticky flags */
    ir_vop(ir, fp, T_V128, v, v, 0, 0);
    struct optimized o = optimize(ir);
    g_assert_cmpuint(left(o, IR_VOP), ==, 2);
    optimized_free(o);
}

/* Flags of the first two PUTs of the region, optimised. */
static void puts_become(struct ir *ir, unsigned first, unsigned second)
{
    struct optimized o = optimize(ir);

    g_assert_cmpuint(flags_of(o, IR_PUT, 0), ==, first);
    g_assert_cmpuint(flags_of(o, IR_PUT, 1), ==, second);
    optimized_free(o);
}

static void overwritten_puts_are_dead(void)
{
    struct ir *ir = region();

    put_r(ir, 0, r(ir, 1));
    ir_insn_start(ir, PC + 4, 4);
    put_r(ir, 0, r(ir, 2));
    puts_become(ir, OPX_DEAD, 0);
}

static void scratch_slots_are_for_gets_alone(void)
{
    struct ir *ir = region();

    ir_put(ir, TOY_SLOT_SCRATCH, ir_get(ir, TOY_SLOT_V));
    ir_put(ir, TOY_SLOT_V + 1, ir_get(ir, TOY_SLOT_SCRATCH));
    ir_insn_start(ir, PC + 4, 4);
    ir_load(ir, T_I64, MEM_64, r(ir, 1), 0);
    puts_become(ir, OPX_DEAD, 0);
}

static void parts_take_the_element_itself(void)
{
    struct ir *ir = region();
    ir_val v = ir_get(ir, TOY_SLOT_V);

    ir_put(ir, TOY_SLOT_P, ir_vop(ir, VOP_MOVQZ, T_V128, v, 0, 0, 0));
    ir_put(ir, TOY_SLOT_P + 2, ir_vop(ir, VOP_INSERTPS, T_V128, v, v, 0, 0x0e));
    ir_put(ir, TOY_SLOT_V + 1, ir_vop(ir, VOP_MOVQZ, T_V128, v, 0, 0, 0));
    struct optimized o = optimize(ir);
    g_assert_cmpuint(left(o, IR_VOP), ==, 1);           /* what is above counts in a whole slot alone */
    optimized_free(o);
}

static void puts_only_faults_see_are_sunk(void)
{
    struct ir *ir = region();
    ir_val v = ir_bin(ir, IR_ADD, r(ir, 1), r(ir, 2));
    unsigned second = 0;

    put_r(ir, 0, v);
    ir_insn_start(ir, PC + 4, 4);
    ir_load(ir, T_I64, MEM_64, r(ir, 3), 0);
    ir_insn_start(ir, PC + 8, 4);
    put_r(ir, 0, r(ir, 2));
    struct optimized o = optimize(ir);
    g_assert_cmpuint(flags_of(o, IR_PUT, 0), ==, OPX_SUNK);
    g_assert_cmpuint(flags_of(o, IR_PUT, 1), ==, 0);
    for (unsigned i = 0; i < ir->nops; i++)
        if (ir->ops[i].op == IR_PUT)
            second = i;
    for (unsigned i = 0; i < ir->nops; i++)
        if (o.an->use[i].flags & OPX_SUNK)
            g_assert_cmpuint(o.an->use[i].sunk_end, ==, second);
    g_assert_cmpuint(o.an->last_use[v], ==, second);
    optimized_free(o);
}

static void puts_that_are_read_stay(void)
{
    struct ir *ir = region();

    put_r(ir, 0, r(ir, 1));
    ir_call(ir, TOY_READS, w(ir, 0), 0, 0, 0);
    ir_insn_start(ir, PC + 4, 4);
    put_r(ir, 0, r(ir, 2));
    ir_insn_start(ir, PC + 8, 4);
    ir_load(ir, T_I64, MEM_64, r(ir, 3), 0);            /* and nobody overwrites it in this block */
    puts_become(ir, 0, 0);
}

static void puts_are_not_sunk_out_of_their_block(void)
{
    struct ir *ir = region();
    ir_label l = ir_label_new(ir);

    put_r(ir, 0, r(ir, 1));
    ir_insn_start(ir, PC + 4, 4);
    ir_load(ir, T_I64, MEM_64, r(ir, 3), 0);
    ir_brcond(ir, C_EQ, r(ir, 4), r(ir, 5), l);
    ir_label_bind(ir, l);
    put_r(ir, 0, r(ir, 2));
    struct optimized o = optimize(ir);
    g_assert_cmpuint(flags_of(o, IR_PUT, 0), ==, 0);
    optimized_free(o);
}

static void puts_overwritten_on_all_paths_are_dead(void)
{
    struct ir *ir = region();
    ir_label other = ir_label_new(ir), join = ir_label_new(ir);

    put_r(ir, 0, r(ir, 1));                             /* dead */
    put_r(ir, 1, r(ir, 2));                             /* overwritten on one path only */
    ir_brcond(ir, C_EQ, r(ir, 4), r(ir, 5), other);
    put_r(ir, 0, r(ir, 3));
    put_r(ir, 1, r(ir, 3));
    ir_br(ir, join);
    ir_label_bind(ir, other);
    put_r(ir, 0, r(ir, 6));
    ir_label_bind(ir, join);
    puts_become(ir, OPX_DEAD, 0);
}

static void slots_are_forwarded_in_a_block(void)
{
    struct ir *ir = region();
    ir_val v = ir_bin(ir, IR_ADD, r(ir, 1), r(ir, 2));

    put_r(ir, 0, v);
    ir_insn_start(ir, PC + 4, 4);
    put_r(ir, 3, ir_bin(ir, IR_SUB, r(ir, 0), r(ir, 1)));       /* both known */
    struct optimized o = optimize(ir);
    g_assert_cmpuint(left(o, IR_GET), ==, 2);
    for (unsigned i = 0; i < ir->nops; i++)
        if (ir->ops[i].op == IR_SUB)
            g_assert_cmpuint(ir->ops[i].a, ==, v);
    optimized_free(o);
}

static void slots_are_not_forwarded_over_labels_and_writers(void)
{
    struct ir *ir = region();
    ir_label l = ir_label_new(ir);

    ir_brcond(ir, C_EQ, r(ir, 4), r(ir, 5), l);
    put_r(ir, 0, c64(ir, 1));
    ir_label_bind(ir, l);
    put_r(ir, 3, r(ir, 0));
    ir_call(ir, TOY_WRITES, r(ir, 6), 0, 0, 0);
    put_r(ir, 4, r(ir, 3));
    struct optimized o = optimize(ir);
    g_assert_cmpuint(left(o, IR_GET), ==, 5);           /* r4 r5, r0, r6, r3 */
    optimized_free(o);
}

static void a_put_of_what_is_there_goes(void)
{
    struct ir *ir = region();

    put_r(ir, 0, r(ir, 0));
    struct optimized o = optimize(ir);
    g_assert_cmpuint(left(o, IR_PUT) + left(o, IR_GET), ==, 0);
    optimized_free(o);
}

static void constants_go_through_slots(void)
{
    struct ir *ir = region();
    ir_label l = ir_label_new(ir);

    put_r(ir, 0, c64(ir, 5));
    ir_insn_start(ir, PC + 4, 4);
    put_r(ir, 1, ir_bin_imm(ir, IR_ADD, r(ir, 0), 2));
    ir_insn_start(ir, PC + 8, 4);
    ir_brcond(ir, C_EQ, r(ir, 1), c64(ir, 7), l);       /* known now */
    put_r(ir, 9, r(ir, 8));
    ir_label_bind(ir, l);
    struct optimized o = optimize(ir);
    g_assert_cmpuint(left(o, IR_ADD) + left(o, IR_BRCOND) + left(o, IR_BR) + left(o, IR_GET), ==, 0);
    g_assert_cmpuint(left(o, IR_PUT), ==, 2);
    optimized_free(o);
}

static void addresses_of_32_bits_wrap(void)
{
    struct ir *ir = region();
    ir_val a = r(ir, 0), v = ir_bin_imm(ir, IR_ADD, ir_un(ir, IR_TRUNC, ir_bin_imm(ir, IR_SUB, a, 20)), 0x80000004);

    ir_load(ir, T_I32, MEM_32, ir_un(ir, IR_ZEXT32, v), 8);
    put_r(ir, 1, ir_un(ir, IR_ZEXT32, last(ir)->dst));
    ir->wrap_32 = true;
    struct optimized o = optimize(ir);
    for (unsigned i = 0; i < ir->nops; i++)
        if (ir->ops[i].op == IR_LOAD) {
            g_assert_cmpuint(def(ir, ir->ops[i].a)->op, ==, IR_GET);
            g_assert_cmpint(ir->ops[i].disp, ==, 0x7ffffff8);
            g_assert_cmpuint(ir->ops[i].mem, ==, MEM_32 | MEM_WRAP_32);
        }
    g_assert_cmpuint(left(o, IR_TRUNC) + left(o, IR_ADD), ==, 0);
    optimized_free(o);
}

static void pushes_address_from_one_value(void)
{
    struct ir *ir = region();
    ir_val sp;

    for (unsigned i = 0; i < 3; i++) {
        ir_insn_start(ir, PC + 4 + 4 * i, 4);
        sp = ir_bin_imm(ir, IR_SUB, r(ir, 0), 8);
        ir_store(ir, MEM_64, sp, 0, r(ir, 1 + i));
        put_r(ir, 0, sp);
    }
    struct optimized o = optimize(ir);
    int32_t disp = 0;
    for (unsigned i = 0; i < ir->nops; i++)
        if (ir->ops[i].op == IR_STORE) {
            g_assert_cmpint(ir->ops[i].disp, ==, disp -= 8);
            g_assert_cmpuint(def(ir, ir->ops[i].a)->op, ==, IR_GET);
        }
    g_assert_cmpint(disp, ==, -24);
    g_assert_cmpuint(flags_of(o, IR_PUT, 0), ==, OPX_SUNK);
    g_assert_cmpuint(flags_of(o, IR_PUT, 1), ==, OPX_SUNK);
    optimized_free(o);
}

static void equal_values_are_computed_once(void)
{
    struct ir *ir = region();
    ir_val a = r(ir, 0), b = r(ir, 1);

    put_r(ir, 2, ir_bin(ir, IR_XOR, ir_bin(ir, IR_ADD, a, b), c64(ir, 3)));
    put_r(ir, 3, ir_bin(ir, IR_SHL, ir_bin(ir, IR_ADD, a, b), c64(ir, 3)));
    put_r(ir, 4, ir_bin(ir, IR_SUB, a, b));
    put_r(ir, 5, ir_bin(ir, IR_SUB, b, a));
    put_r(ir, 6, ir_call(ir, TOY_PURE, a, c32(ir, 1), 0, 0));
    put_r(ir, 7, ir_call(ir, TOY_PURE, a, c32(ir, 1), 0, 0));
    struct optimized o = optimize(ir);
    g_assert_cmpuint(left(o, IR_ADD), ==, 1);
    g_assert_cmpuint(left(o, IR_SUB), ==, 2);
    g_assert_cmpuint(left(o, IR_CALL), ==, 1);
    optimized_free(o);
}

static void branches_around_branches_are_inverted(void)
{
    struct ir *ir = region();
    ir_label taken = ir_label_new(ir), out = ir_label_new(ir);

    ir_brcond(ir, C_LT, r(ir, 0), r(ir, 1), taken);
    ir_br(ir, out);
    ir_label_bind(ir, taken);
    put_r(ir, 0, r(ir, 1));
    ir_label_bind(ir, out);
    struct optimized o = optimize(ir);
    g_assert_cmpuint(left(o, IR_BR), ==, 0);
    for (unsigned i = 0; i < ir->nops; i++)
        if (ir->ops[i].op == IR_BRCOND) {
            g_assert_cmpuint(ir->ops[i].cond, ==, C_GE);
            g_assert_cmpuint(ir->ops[i].aux, ==, out);
        }
    optimized_free(o);
}

static void loops_weigh_more(void)
{
    struct ir *ir = region();
    ir_label l = ir_label_new(ir);

    put_r(ir, 1, ir_bin_imm(ir, IR_ADD, r(ir, 0), 1));
    ir_label_bind(ir, l);
    ir_insn_start(ir, PC + 4, 4);
    put_r(ir, 3, ir_bin_imm(ir, IR_ADD, r(ir, 3), 1));
    ir_poll(ir, PC + 4);
    ir_brcond(ir, C_LTU, r(ir, 3), c64(ir, 10), l);
    struct optimized o = optimize(ir);
    g_assert_cmpuint(o.an->slot[TOY_SLOT_R].reads, ==, 1);
    g_assert_cmpuint(o.an->slot[TOY_SLOT_R + 3].reads, >, 1);
    g_assert_cmpuint(o.an->slot[TOY_SLOT_R + 3].writes, >, 1);
    optimized_free(o);
}

/* ---- interpreter */

static struct interp_result run_it(struct cpu *cpu, const struct ir *ir, void *opaque)
{
    return interp_run(cpu, ir);
}

static struct toy_result run(struct ir *ir, struct toy_cpu *c)
{
    struct toy_result result;

    ir_finish(ir);
    assert_valid(ir);
    result = toy_run(c, ir, 0, run_it, NULL);
    ir_free(ir);
    return result;
}

static void interpreter_loops(void)
{
    struct toy_cpu *c = toy_cpu_new(1);
    struct ir *ir = region();
    ir_label l = ir_label_new(ir);
    struct toy_result result;

    put_r(ir, 0, c64(ir, 0));
    put_r(ir, 1, c64(ir, 1));
    ir_label_bind(ir, l);
    ir_insn_start(ir, PC + 4, 4);
    put_r(ir, 0, ir_bin(ir, IR_ADD, r(ir, 0), r(ir, 1)));
    ir_insn_start(ir, PC + 8, 4);
    put_r(ir, 1, ir_bin_imm(ir, IR_ADD, r(ir, 1), 1));
    ir_insn_start(ir, PC + 12, 4);
    ir_poll(ir, PC + 12);
    ir_brcond(ir, C_LEU, r(ir, 1), c64(ir, 100), l);
    result = run(ir, c);
    g_assert_false(result.raised);
    g_assert_cmpuint(result.kind, ==, EXIT_DIRECT);
    g_assert_cmpuint(result.icount, ==, 301);
    g_assert_cmpuint(c->r[0], ==, 5050);
    g_assert_cmphex(c->cpu.pc, ==, PC + 16);
    g_assert_cmphex(c->cpu.pc_page, ==, PC);
    toy_cpu_free(c);
}

static void interpreter_polls(void)
{
    struct toy_cpu *c = toy_cpu_new(1);
    struct ir *ir = ir_new();
    struct toy_result result;

    ir_begin(ir, &guest_toy, PC, 0);
    ir->leaders[ir->nleaders++] = (struct ir_leader){ .pc = PC, .label = ir_label_new(ir), .bound = true };
    ir_label_bind(ir, ir->leaders[0].label);
    ir_insn_start(ir, PC, 4);
    put_r(ir, 0, ir_bin_imm(ir, IR_ADD, r(ir, 0), 1));
    ir_goto(ir, PC);                                    /* for ever */
    c->r[0] = 41;
    atomic_store(&c->cpu.exit_request, CPU_EXIT_KICK);
    result = run(ir, c);
    g_assert_cmpuint(result.kind, ==, EXIT_TO_LOOP);
    g_assert_cmpuint(c->r[0], ==, 42);
    g_assert_cmphex(c->cpu.pc, ==, PC);
    toy_cpu_free(c);
}

static void interpreter_faults_at_the_instruction(void)
{
    struct toy_cpu *c = toy_cpu_new(1);
    struct ir *ir = region();
    struct toy_result result;

    put_r(ir, 0, c64(ir, 7));
    ir_insn_start(ir, PC + 4, 4);
    ir_store(ir, MEM_32, c64(ir, TOY_BASE - 2), 0, c32(ir, 1));
    put_r(ir, 0, c64(ir, 8));
    result = run(ir, c);
    g_assert_true(result.raised);
    g_assert_cmpint(c->cpu.exception, ==, 14);
    g_assert_cmphex(c->cpu.pc, ==, PC + 4);
    g_assert_cmpuint(c->r[0], ==, 7);
    toy_cpu_free(c);
}

static void interpreter_checks_alignment(void)
{
    struct toy_cpu *c = toy_cpu_new(1);
    struct ir *ir = region();
    struct toy_result result;

    ir_load(ir, T_V128, MEM_128 | 4 << MEM_ALIGN_SHIFT, c64(ir, TOY_BASE + 8), 0);
    result = run(ir, c);
    g_assert_true(result.raised);
    g_assert_cmpint(c->cpu.exception, ==, 17);
    g_assert_cmphex(c->fault_va, ==, TOY_BASE + 8);
    toy_cpu_free(c);
}

static void interpreter_accesses_memory(void)
{
    static const uint8_t bytes[8] = { 0x81, 0x92, 0xa3, 0xb4, 0xc5, 0xd6, 0xe7, 0xf8 };
    struct toy_cpu *c = toy_cpu_new(1);
    struct ir *ir = region();
    ir_val base = c64(ir, TOY_BASE);

    memcpy(c->memory + 4094, bytes, 8);                 /* across pages */
    put_r(ir, 0, ir_load(ir, T_I64, MEM_64, base, 4094));
    ir_insn_start(ir, PC + 2, 2);
    put_r(ir, 1, ir_load(ir, T_I64, MEM_64 | MEM_BE, base, 4094));
    ir_insn_start(ir, PC + 4, 4);
    put_r(ir, 2, ir_load(ir, T_I64, MEM_16 | MEM_SIGNED, base, 4095));
    ir_insn_start(ir, PC + 8, 4);
    ir_put(ir, TOY_SLOT_W, ir_load(ir, T_I32, MEM_8 | MEM_SIGNED, base, 4094));
    ir_insn_start(ir, PC + 12, 4);
    ir_put(ir, TOY_SLOT_V, ir_load(ir, T_V128, MEM_32, base, 4094));
    ir_insn_start(ir, PC + 16, 4);
    put_r(ir, 3, ir_cas(ir, MEM_32, ir_bin_imm(ir, IR_ADD, base, 16), c64(ir, 0x44332211), c64(ir, 0x99999999aa)));
    ir_insn_start(ir, PC + 20, 4);
    put_r(ir, 4, ir_atomic(ir, IR_ATOMIC_ADD, MEM_16, ir_bin_imm(ir, IR_ADD, base, 32), c64(ir, 0x10001)));
    ir_insn_start(ir, PC + 24, 4);
    ir_store(ir, MEM_32 | MEM_BE, base, 48, c64(ir, 0xff01020304));
    memcpy(c->memory + 16, "\x11\x22\x33\x44\x55", 5);
    memcpy(c->memory + 32, "\xff\xff\x07", 3);
    run(ir, c);
    g_assert_cmphex(c->r[0], ==, 0xf8e7d6c5b4a39281);
    g_assert_cmphex(c->r[1], ==, 0x8192a3b4c5d6e7f8);
    g_assert_cmphex(c->r[2], ==, 0xffffffffffffa392);
    g_assert_cmphex(c->w[0], ==, 0xffffff81);
    g_assert_cmpmem(c->v[0], 16, "\x81\x92\xa3\xb4\0\0\0\0\0\0\0\0\0\0\0\0", 16);
    g_assert_cmphex(c->r[3], ==, 0x44332211);
    g_assert_cmpmem(c->memory + 16, 5, "\xaa\x99\x99\x99\x55", 5);
    g_assert_cmphex(c->r[4], ==, 0xffff);
    g_assert_cmpmem(c->memory + 32, 3, "\x00\x00\x07", 3);
    g_assert_cmpmem(c->memory + 48, 4, "\x01\x02\x03\x04", 4);
    toy_cpu_free(c);
}

static void interpreter_is_position_independent(void)
{
    struct toy_cpu *c = toy_cpu_new(1);
    struct ir *ir = region();

    put_r(ir, 0, ir_pc(ir, PC + 0x1234));
    ir_goto_indirect(ir, ir_pc(ir, PC - 0x10), EXIT_RETURN);
    ir_finish(ir);
    toy_run(c, ir, 0x70000, run_it, NULL);
    g_assert_cmphex(c->r[0], ==, PC + 0x71234);
    g_assert_cmphex(c->cpu.pc, ==, PC + 0x6fff0);
    g_assert_cmphex(c->cpu.pc_page, ==, (PC + 0x6fff0) & ~0xfff);
    ir_begin(ir, &guest_toy, PC, 0);
    ir->fixed_pc = true;                                /* user mode */
    assert_const(ir, ir_pc(ir, PC + 4), PC + 4);
    ir_free(ir);
    toy_cpu_free(c);
}

/* ---- printing */

static void printer_names_things(void)
{
    struct ir *ir = region();

    ir_put(ir, TOY_SLOT_W + 1, ir_call(ir, TOY_READS, w(ir, 0), 0, 0, 0));
    ir_val a = ir_get(ir, TOY_SLOT_V), b = ir_get(ir, TOY_SLOT_V + 1);
    ir_put(ir, TOY_SLOT_V, ir_vop(ir, VOP_ADD8, T_V128, a, b, 0, 0));
    ir_insn_start(ir, PC + 4, 4);
    a = r(ir, 0), b = w(ir, 1);
    ir_store(ir, MEM_16 | MEM_BE, a, -4, b);
    ir_finish(ir);
    g_autofree char *text = ir_print(ir);
    const char *const lines[] = {
        "region 0x5000-0x5008 mode 0x0: 2 insns", "   0 L0:\n", "-- insn 0 at 0x5000\n", "v5:i32 = get w0\n",
        "v6:i32 = call helper_reads v5\n", "put w1 = v6\n", "v9:v128 = vadd8 v7, v8\n", "store.u16be [v10-0x4], v11\n",
        "exit_jump pc+0x8 (exit 0, direct, 2 insns)\n",
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(lines); i++)
        if (!strstr(text, lines[i]))
            g_error("no \"%s\" in\n%s", lines[i], text);
    ir_free(ir);
}

static void every_vector_op_has_a_function(void)
{
    for (unsigned i = 1; i < VOP_COUNT; i++) {
        g_assert_nonnull(vop_info[i].fn);
        g_assert_nonnull(vop_info[i].text);
        for (unsigned k = 1; k < i; k++)
            g_assert_cmpstr(vop_info[i].text, !=, vop_info[k].text);
    }
}

#define ADD(group, name) g_test_add_func("/ir/" group "/" #name, name)
int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("builder", builder_folds_constants);
    ADD("builder", builder_leaves_divisions_without_result);
    ADD("builder", builder_knows_identities);
    ADD("builder", builder_chains_additions_into_displacements);
    ADD("builder", builder_shares_constants_of_a_block);
    ADD("builder", builder_fuses_comparisons);
    ADD("builder", builder_drops_what_control_does_not_reach);
    ADD("builder", goto_finds_leaders);
    ADD("builder", overflow_is_told_not_suffered);
    ADD("builder", clone_is_the_same_program);
    for (unsigned i = 0; i < G_N_ELEMENTS(broken); i++) {
        g_autofree char *path = g_strdup_printf("/ir/validator/%s", broken[i].name);

        g_test_add_data_func(path, &broken[i], validator_refuses);
    }
    ADD("validator", validator_refuses_shapes);
    ADD("validator", validator_accepts_early_puts_and_polled_loops);
    ADD("passes", unused_values_are_dead);
    ADD("passes", effects_are_not_dead);
    ADD("passes", floating_point_is_not_dead);
    ADD("passes", overwritten_puts_are_dead);
    ADD("passes", scratch_slots_are_for_gets_alone);
    ADD("passes", parts_take_the_element_itself);
    ADD("passes", puts_only_faults_see_are_sunk);
    ADD("passes", puts_that_are_read_stay);
    ADD("passes", puts_are_not_sunk_out_of_their_block);
    ADD("passes", puts_overwritten_on_all_paths_are_dead);
    ADD("passes", slots_are_forwarded_in_a_block);
    ADD("passes", slots_are_not_forwarded_over_labels_and_writers);
    ADD("passes", a_put_of_what_is_there_goes);
    ADD("passes", constants_go_through_slots);
    ADD("passes", addresses_of_32_bits_wrap);
    ADD("passes", pushes_address_from_one_value);
    ADD("passes", equal_values_are_computed_once);
    ADD("passes", branches_around_branches_are_inverted);
    ADD("passes", loops_weigh_more);
    ADD("interp", interpreter_loops);
    ADD("interp", interpreter_polls);
    ADD("interp", interpreter_faults_at_the_instruction);
    ADD("interp", interpreter_checks_alignment);
    ADD("interp", interpreter_accesses_memory);
    ADD("interp", interpreter_is_position_independent);
    ADD("printer", printer_names_things);
    ADD("vop", every_vector_op_has_a_function);
    return g_test_run();
}
