/* A64: decode, registers, and what surrounds each instruction. */
#include "rhea/base/log.h"
#include "a64.h"

/* ---- registers */

ir_val a64_x(struct arm_t *t, unsigned r)
{
    return r == 31 ? ir_const(t->ir, T_I64, 0) : ir_get(t->ir, SLOT_X + r);
}

ir_val a64_w(struct arm_t *t, unsigned r)
{
    return r == 31 ? ir_const(t->ir, T_I32, 0) : ir_un(t->ir, IR_TRUNC, ir_get(t->ir, SLOT_X + r));
}

ir_val a64_r(struct arm_t *t, unsigned sf, unsigned r) { return sf ? a64_x(t, r) : a64_w(t, r); }

void a64_put_x(struct arm_t *t, unsigned r, ir_val v)
{
    if (r != 31)
        ir_put(t->ir, SLOT_X + r, v);
}

static ir_val widen(struct arm_t *t, ir_val v)
{
    return ir_type_of(t->ir, v) == T_I32 ? ir_un(t->ir, IR_ZEXT32, v) : v;
}

void a64_put_r(struct arm_t *t, unsigned r, ir_val v)
{
    if (r != 31)
        ir_put(t->ir, SLOT_X + r, widen(t, v));
}

ir_val a64_x_sp(struct arm_t *t, unsigned r)
{
    return ir_get(t->ir, r == 31 ? (unsigned)SLOT_SP : SLOT_X + r);
}

void a64_put_x_sp(struct arm_t *t, unsigned r, ir_val v)
{
    if (r == 31)
        t->sp_unknown = true;
    ir_put(t->ir, r == 31 ? (unsigned)SLOT_SP : SLOT_X + r, widen(t, v));
}

void a64_put_x_sp_aligned(struct arm_t *t, unsigned r, ir_val v)
{
    bool unknown = t->sp_unknown;

    a64_put_x_sp(t, r, v);
    t->sp_unknown = unknown || t->mode & MODE_SP_ALIGN;
}

ir_val a64_base(struct arm_t *t, unsigned r)
{
    ir_label ok;

    if (r == 31 && t->mode & MODE_SP_ALIGN) {
        ok = ir_label_new(t->ir);
        arm_brcond(t, C_TSTEQ, ir_get(t->ir, SLOT_SP), ir_const(t->ir, T_I64, 15), ok);
        arm_exception(t, ARM_SYNDROME(EC_SP_ALIGN, 0));
        arm_bind(t, ok);
    }
    return a64_x_sp(t, r);
}

/* ---- decode */

static bool fetch_word(struct code_fetch *f, uint64_t pc, uint32_t *raw)
{
    uint8_t b[4];

    for (unsigned n = 0; n < 4; n++)
        if (!code_fetch_byte(f, pc + n, &b[n]))
            return false;
    *raw = (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
    return true;
}

bool a64_decode(struct code_fetch *f, uint64_t pc, uint64_t mode, void *insn, struct insn_info *info)
{
    struct a64_insn *i = insn;
    uint32_t raw = 0;

    *info = (struct insn_info){ .len = 4, .flow = FLOW_END };
    i->row = NULL;
    i->pc = pc;
    i->len = 4;
    i->raw = 0;
    if (pc & 3)                         /* PC alignment fault: nothing is fetched */
        return true;
    if (!fetch_word(f, pc, &raw))
        return false;
    i->raw = raw;
    i->row = a64_row_find(raw, 32, i->features, i);
    if (!i->row)
        return true;
    info->flow = i->row->flow;
    if (i->row->target >= 0)
        info->target = pc + (uint64_t)(int64_t)*(const int32_t *)((const char *)i + i->row->target);
    return true;
}

/* ---- emission */

static bool is_brk(uint32_t raw) { return (raw & 0xffe0001f) == 0xd4200000; }

/* Which branch types (bit BTYPE) may land here: DDI 0487 D8.4.6, "Guarded pages". */
static unsigned landing_pad(const struct arm_t *t, const struct a64_insn *i)
{
    switch (i->raw) {
    case 0xd503241f: return 0;          /* BTI */
    case 0xd503245f: return 1 << 1 | 1 << 2;                    /* BTI c */
    case 0xd503249f: return 1 << 1 | 1 << 3;                    /* BTI j */
    case 0xd50324df: return 1 << 1 | 1 << 2 | 1 << 3;           /* BTI jc */
    case 0xd503233f: case 0xd503237f:   /* PACIASP, PACIBSP: as BTI c; BTYPE 3 as SCTLR_ELx.BT says */
        return 1 << 1 | 1 << 2;
    }
    if (is_brk(i->raw) || (i->raw & 0xffe0001f) == 0xd4400000)          /* ... HLT */
        return 1 << 1 | 1 << 2 | 1 << 3;
    return 0;
}

/* The region's first instruction where pages may be guarded. */
static void check_btype(struct arm_t *t, const struct a64_insn *i)
{
    unsigned pads = landing_pad(t, i);
    ir_label ok;
    ir_val btype;

    t->btype_checked = true;
    if (!arm_t_has(t, AF_BTI) || t->mode & MODE_NO_BTYPE)
        return;
    if (t->mode & MODE_BTI && pads != (1 << 1 | 1 << 2 | 1 << 3)) {
        ok = ir_label_new(t->ir);
        btype = ir_state_load(t->ir, T_I32, offsetof(struct arm_cpu, btype), 0);
        if (!pads)
            arm_brcond(t, C_EQ, btype, ir_const(t->ir, T_I32, 0), ok);
        else
            arm_brcond(t, C_NE, btype, ir_const(t->ir, T_I32, pads & 1 << 2 ? 3 : 2), ok);
        arm_call(t, ARM_HELP_bti_check, ir_const(t->ir, T_I32, i->raw), 0, 0, 0);
        arm_bind(t, ok);
    }
    if (!is_brk(i->raw))                /* of the exceptions that instructions raise its SPSR alone keeps BTYPE: AArch64.TakeException() */
        ir_state_store(t->ir, offsetof(struct arm_cpu, btype), 0, ir_const(t->ir, T_I32, 0));
}

/* SP may no longer be aligned (or be so again): another mode, see MODE_SP_ALIGN. */
static void check_sp(struct arm_t *t)
{
    ir_label ok;

    if (t->mode & MODE_SP_ALIGN) {
        ir_exit_loop(t->ir, t->next);
        return;
    }
    ok = ir_label_new(t->ir);
    arm_brcond(t, C_TSTEQ, ir_get(t->ir, SLOT_SP), ir_const(t->ir, T_I64, 15), ok);
    ir_exit_loop(t->ir, t->next);
    arm_bind(t, ok);
}

static void emit_undefined(struct arm_t *t, const struct a64_insn *i)
{
    if (i->row && log_enabled(LOG_UNIMP))
        log_printf("arm: %s (%#x) at %#" G_GINT64_MODIFIER "x is not implemented\n", i->row->mnemonic, i->raw, i->pc);
    arm_undefined(t);
}

void a64_emit(struct arm_t *t, const void *insn)
{
    const struct a64_insn *i = insn;

    if (i->pc & 3) {
        arm_call(t, ARM_HELP_pc_alignment, 0, 0, 0, 0);
        ir_exit_loop(t->ir, i->pc);
        return;
    }
    if (t->mode & MODE_IL) {
        arm_exception(t, ARM_SYNDROME(EC_IL, 0));
        return;
    }
    if (!t->btype_checked)
        check_btype(t, i);
    t->sp_unknown = false;
    if (!i->row || !i->row->emit)
        emit_undefined(t, i);
    else
        i->row->emit(t, i);
    if (t->sp_unknown && !t->ir->ended)
        check_sp(t);
}
