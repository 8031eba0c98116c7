/* A64 exceptions, hints, barriers and system registers: DDI 0487 C4.1.95, C5. What the registers do is the system side's
 * (system.c); what comes often is done inline here. */
#include <string.h>
#include "a64.h"


static ir_val imm32(struct arm_t *t, uint32_t v) { return ir_const(t->ir, T_I32, v); }

/* ---- exception-generating instructions */

EMIT(svc) { ir_exit_loop_at(t->ir, arm_call(t, ARM_HELP_svc, imm32(t, ARM_SYNDROME(EC_SVC64, i->imm16)), 0, 0, 0)); }

EMIT(hvc)
{
    if (t->el)
        ir_exit_loop_at(t->ir, arm_call(t, ARM_HELP_hvc, imm32(t, i->imm16), 0, 0, 0));
    else
        arm_undefined(t);
}

EMIT(smc)
{
    if (t->el)
        ir_exit_loop_at(t->ir, arm_call(t, ARM_HELP_smc, imm32(t, i->imm16), 0, 0, 0));
    else
        arm_undefined(t);
}

EMIT(brk) { arm_exception(t, ARM_SYNDROME(EC_BRK64, i->imm16)); }

/* Without halting debug HLT is undefined, but for semihosting. */
EMIT(hlt)
{
    if (i->imm16 == 0xf000)
        arm_call(t, ARM_HELP_semihosting, imm32(t, 4), 0, 0, 0);
    arm_undefined(t);
}

/* ---- hints */

static void wait(struct arm_t *t, unsigned helper)
{
    arm_call(t, helper, 0, 0, 0, 0);
    ir_exit_loop(t->ir, t->next);
}

EMIT(hint) { }          /* those that are no rows of their own, BTI among them: see check_btype() */
EMIT(yield) { arm_call(t, ARM_HELP_yield, 0, 0, 0, 0); }
EMIT(wfi) { wait(t, ARM_HELP_wfi); }
EMIT(wfe) { arm_call(t, ARM_HELP_wfe, 0, 0, 0, 0); }
EMIT(sev) { arm_call(t, ARM_HELP_sev, 0, 0, 0, 0); }
EMIT(sevl) { arm_call(t, ARM_HELP_sevl, 0, 0, 0, 0); }

static void wait_until(struct arm_t *t, const struct a64_insn *i, uint32_t kind)
{
    arm_call(t, ARM_HELP_wfxt, imm32(t, kind | (uint32_t)i->rt << 8), a64_x(t, i->rt), 0, 0);
    ir_exit_loop(t->ir, t->next);
}

EMIT(wfit) { wait_until(t, i, 2); }
EMIT(wfet) { wait_until(t, i, 3); }

/* ---- barriers */

static unsigned barrier_orders(unsigned crm)
{
    static const uint8_t orders[4] = { FENCE_ALL, FENCE_LOADS, FENCE_WW, FENCE_ALL };

    return orders[crm & 3];
}

EMIT(dmb) { ir_fence(t->ir, barrier_orders(i->crm)); }
EMIT(sb) { }

/* DSB also waits for invalidations that went to other CPUs. */
EMIT(dsb)
{
    ir_label done = ir_label_new(t->ir);
    ir_val pending = ir_state_load(t->ir, T_I32, offsetof(struct arm_cpu, sys.tlbi_pending), 2);

    ir_fence(t->ir, barrier_orders(i->crm));
    arm_brcond(t, C_EQ, pending, imm32(t, 0), done);
    arm_call(t, ARM_HELP_dsb, 0, 0, 0, 0);
    arm_bind(t, done);
}

/* What others changed in this region's code, or in translations, was announced by an exit request. */
EMIT(isb)
{
    if (!(t->mode & MODE_STEP))
        ir_poll(t->ir, t->next);
}

/* ---- PSTATE */

enum { DAIF = offsetof(struct arm_cpu, daif) };

/* After interrupts may have been unmasked: one that waits is taken now. */
static void leave_if_pending(struct arm_t *t)
{
    ir_label none = ir_label_new(t->ir);
    ir_val lines = ir_state_load(t->ir, T_I32, offsetof(struct arm_cpu, sys.lines), 2);

    arm_brcond(t, C_EQ, lines, imm32(t, 0), none);
    ir_exit_loop(t->ir, t->next);
    arm_bind(t, none);
}

EMIT(msr_imm)
{
    unsigned which = (unsigned)i->op1 << 3 | i->op2;
    ir_val daif;

    if (t->el && (which == 036 || which == 037)) {      /* DAIFSet, DAIFClr */
        daif = ir_state_load(t->ir, T_I32, DAIF, 0);
        daif = ir_bin_imm(t->ir, which == 036 ? IR_OR : IR_AND, daif, which == 036 ? i->crm : (uint32_t)~i->crm & 15);
        ir_state_store(t->ir, DAIF, 0, daif);
        if (which == 037)
            leave_if_pending(t);
        return;
    }
    arm_call(t, ARM_HELP_msr_imm, imm32(t, i->raw), 0, 0, 0);
    ir_exit_loop(t->ir, t->next);
}

/* ---- system registers */

enum { SYS_NZCV = ARM_SYSREG(3, 3, 4, 2, 0), SYS_DAIF = ARM_SYSREG(3, 3, 4, 2, 1), SYS_CURRENTEL = ARM_SYSREG(3, 0, 4, 2, 2),
       SYS_FPCR = ARM_SYSREG(3, 3, 4, 4, 0), SYS_FPSR = ARM_SYSREG(3, 3, 4, 4, 1) };

static unsigned sysreg_number(const struct a64_insn *i) { return 2u << 14 | i->sysreg; }

static int32_t plain_field(struct arm_t *t, const struct a64_insn *i)
{
    struct arm_features all;

    memset(&all, 0xff, sizeof(all));
    return arm_sysreg_plain(t->features ? t->features : &all, i->raw, t->mode);
}

static void read_register(struct arm_t *t, const struct a64_insn *i)
{
    int32_t field = plain_field(t, i);

    if (field >= 0)
        a64_put_x(t, i->rt, ir_state_load(t->ir, T_I64, (uint32_t)field, 3));
    else
        a64_put_x(t, i->rt, arm_call(t, ARM_HELP_sysreg_read, imm32(t, i->raw), 0, 0, 0));
}

EMIT(mrs)
{
    switch (sysreg_number(i)) {
    case SYS_NZCV:
        a64_put_r(t, i->rt, arm_nzcv(t));
        return;
    case SYS_DAIF:
        if (t->el) {
            a64_put_r(t, i->rt, ir_bin_imm(t->ir, IR_SHL, ir_state_load(t->ir, T_I32, DAIF, 0), 6));
            return;
        }
        break;
    case SYS_CURRENTEL:
        if (t->el) {
            a64_put_x(t, i->rt, ir_const(t->ir, T_I64, (uint64_t)t->el << 2));
            return;
        }
        break;
    case SYS_FPCR: case SYS_FPSR:
        if (!arm_check_fp(t))
            return;
        break;
    }
    read_register(t, i);
}

/* Registers that no mode bit, no translation and no mask of interrupts hangs on: the region goes on after a write. */
static bool is_quiet(unsigned reg)
{
    switch (reg) {
    case ARM_SYSREG(3, 3, 14, 2, 0): case ARM_SYSREG(3, 3, 14, 2, 1): case ARM_SYSREG(3, 3, 14, 2, 2):  /* CNTP_TVAL, CTL, CVAL */
    case ARM_SYSREG(3, 3, 14, 3, 0): case ARM_SYSREG(3, 3, 14, 3, 1): case ARM_SYSREG(3, 3, 14, 3, 2):  /* CNTV */
        return true;
    default:
        return false;
    }
}

static void write_register(struct arm_t *t, const struct a64_insn *i)
{
    int32_t field = plain_field(t, i);

    if (field >= 0) {
        ir_state_store(t->ir, (uint32_t)field, 3, a64_x(t, i->rt));
        return;
    }
    arm_call(t, ARM_HELP_sysreg_write, imm32(t, i->raw), a64_x(t, i->rt), 0, 0);
    if (t->el != 1 || !is_quiet(sysreg_number(i)))
        ir_exit_loop(t->ir, t->next);
}

EMIT(msr)
{
    switch (sysreg_number(i)) {
    case SYS_NZCV:
        arm_set_nzcv(t, a64_w(t, i->rt));
        return;
    case SYS_DAIF:
        if (t->el) {
            ir_state_store(t->ir, DAIF, 0, ir_extract(t->ir, a64_w(t, i->rt), 6, 4));
            leave_if_pending(t);
            return;
        }
        break;
    case SYS_FPCR: case SYS_FPSR:
        if (!arm_check_fp(t))
            return;
        break;
    }
    write_register(t, i);
}

/* ---- SYS: cache, TLB and address translation instructions */

enum { ZVA_BYTES = 64 };        /* DCZID_EL0.BS = 4 */

/* One TLB check serves the stores: they are of one block by one address. */
static void zero_block(struct arm_t *t, const struct a64_insn *i)
{
    memop m = MEM_128 | t->mmu << MEM_MMU_SHIFT;
    ir_val addr = ir_bin_imm(t->ir, IR_AND, a64_x(t, i->rt), ~(uint64_t)(ZVA_BYTES - 1)), z = ir_const(t->ir, T_V128, 0);

    for (int32_t at = 0; at < ZVA_BYTES; at += 16)
        ir_store(t->ir, m, addr, at, z);
}

/* DC CVAC, CVAU, CVAP, CVADP, CIVAC: caches are coherent here. */
static bool is_clean(const struct a64_insn *i)
{
    return i->op1 == 3 && i->crn == 7 && i->op2 == 1 && i->crm >= 10 && i->crm <= 14;
}

EMIT(sys)
{
    bool may = t->mode & MODE_UCI;

    if (may && i->op1 == 3 && i->crn == 7 && i->crm == 4 && i->op2 == 1) {     /* DC ZVA */
        zero_block(t, i);
        return;
    }
    if (may && is_clean(i))
        return;
    arm_call(t, ARM_HELP_sys_op, imm32(t, i->raw), a64_x(t, i->rt), 0, 0);
    if (arm_sys_op_ends(i->raw))
        ir_exit_loop(t->ir, t->next);
}

EMIT(sysl) { a64_put_x(t, i->rt, arm_call(t, ARM_HELP_sysl_op, imm32(t, i->raw), 0, 0, 0)); }
