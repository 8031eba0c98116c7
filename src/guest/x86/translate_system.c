/* System instructions: most are a call of a helper, since they are rare or change the mode. What runs often in a kernel
 * (CLI, STI, SWAPGS, segment base moves) is a few ops. SDM vol. 2 and vol. 3. */
#include "system.h"

static ir_val imm32(struct x86_t *t, uint32_t v) { return ir_const(t->ir, T_I32, v); }
static unsigned iopl(const struct x86_t *t) { return t->mode >> MODE_IOPL_SHIFT & 3; }

static void go_to(struct x86_t *t, ir_val pc)
{
    ir_exit_loop_at(t->ir, pc);
}

/* ---- segments */

EMIT(mov_from_seg)
{
    ir_val v = ir_state_load(t->ir, T_I32, offsetof(struct x86_cpu, seg) + i->op[1].reg * sizeof(struct x86_segment), 1);

    x86_write(t, 0, v);
}

EMIT(mov_to_seg)
{
    x86_call(t, HELP_load_segment, imm32(t, i->op[0].reg), x86_narrow(t, x86_read(t, 1), 2), 0, 0);
}

EMIT(push_seg)
{
    ir_val v = ir_state_load(t->ir, T_I32, offsetof(struct x86_cpu, seg) + i->op[0].reg * sizeof(struct x86_segment), 1);

    x86_push(t, v, i->opsize);
}

/* The segment is loaded before SP moves: a fault leaves both alone. */
EMIT(pop_seg)
{
    ir_val v = x86_pop_value(t, i->opsize, 0);

    x86_call(t, HELP_load_segment, imm32(t, i->op[0].reg), x86_narrow(t, v, 2), 0, 0);
    x86_add_sp(t, ir_const(t->ir, T_I64, i->opsize));
}

/* Operand m16:16, m16:32 or m16:64 */
static void read_far(struct x86_t *t, unsigned n, ir_val *offset, ir_val *selector)
{
    const struct x86_insn *i = t->i;
    ir_val addr = x86_linear(t, i, i->op[n].size, false);

    *offset = ir_load(t->ir, x86_type(i->opsize), x86_memop(t, i->opsize), addr, 0);
    *selector = ir_load(t->ir, T_I32, x86_memop(t, 2), addr, i->opsize);
}

EMIT(load_far)
{
    ir_val offset, selector;

    read_far(t, 1, &offset, &selector);
    x86_call(t, HELP_load_segment, imm32(t, (uint32_t)x86_arg(i)), selector, 0, 0);
    x86_write(t, 0, offset);
}

EMIT(jmpf)
{
    ir_val offset, selector;

    if (i->op[0].kind == XO_FAR) {
        offset = ir_const(t->ir, T_I64, (uint64_t)i->imm);
        selector = imm32(t, (uint32_t)i->imm2);
    } else {
        read_far(t, 0, &offset, &selector);
    }
    go_to(t, x86_call(t, HELP_far_jump, selector, x86_widen(t, offset), imm32(t, i->len), 0));
}

EMIT(callf)
{
    ir_val offset, selector;

    if (i->op[0].kind == XO_FAR) {
        offset = ir_const(t->ir, T_I64, (uint64_t)i->imm);
        selector = imm32(t, (uint32_t)i->imm2);
    } else {
        read_far(t, 0, &offset, &selector);
    }
    go_to(t, x86_call(t, HELP_far_call, selector, x86_widen(t, offset), imm32(t, i->opsize), imm32(t, i->len)));
}

EMIT(retf)
{
    uint32_t release = i->op[0].kind == XO_IMM ? (uint32_t)i->imm : 0;

    go_to(t, x86_call(t, HELP_far_return, imm32(t, i->opsize), imm32(t, release), 0, 0));
}

EMIT(iret)
{
    go_to(t, x86_call(t, HELP_iret, imm32(t, i->opsize), imm32(t, i->len), 0, 0));
}

EMIT(lar)
{
    ir_val r = x86_call(t, HELP_lar, x86_narrow(t, x86_read(t, 1), 2), imm32(t, (uint32_t)x86_arg(i)), 0, 0);
    ir_val ok = x86_narrow(t, ir_extract(t->ir, r, 32, 1), 4), old = x86_read(t, 0), f;

    f = ir_bin_imm(t->ir, IR_AND, x86_flags(t), ~(uint32_t)EF_ZF);
    x86_write(t, 0, ir_select(t->ir, C_NE, ok, imm32(t, 0), x86_narrow(t, ir_extract(t->ir, r, 0, 32), i->op[0].size),
                              old));
    x86_set_flags(t, ir_bin(t->ir, IR_OR, f, ir_bin_imm(t->ir, IR_SHL, ok, 6)));
}

EMIT(verify)
{
    ir_val ok = x86_call(t, HELP_verify, x86_narrow(t, x86_read(t, 0), 2), imm32(t, (uint32_t)x86_arg(i)), 0, 0);
    ir_val f = ir_bin_imm(t->ir, IR_AND, x86_flags(t), ~(uint32_t)EF_ZF);

    x86_set_flags(t, ir_bin(t->ir, IR_OR, f, ir_bin_imm(t->ir, IR_SHL, ok, 6)));
}

EMIT(arpl)
{
    ir_val dst = x86_read_rw(t, 0), src = ir_bin_imm(t->ir, IR_AND, x86_read(t, 1), 3), rpl, f, less;

    rpl = ir_bin_imm(t->ir, IR_AND, dst, 3);
    less = ir_setcc(t->ir, T_I32, C_LTU, rpl, src);
    f = ir_bin_imm(t->ir, IR_AND, x86_flags(t), ~(uint32_t)EF_ZF);
    x86_write(t, 0, ir_select(t->ir, C_LTU, rpl, src,
                              ir_bin(t->ir, IR_OR, ir_bin_imm(t->ir, IR_AND, dst, 0xfffc), src), dst));
    x86_set_flags(t, ir_bin(t->ir, IR_OR, f, ir_bin_imm(t->ir, IR_SHL, less, 6)));
}

static bool umip_faults(struct x86_t *t)
{
    if (!(t->mode & MODE_UMIP) || !t->cpl)
        return false;
    x86_exception(t, X_GP);
    return true;
}

EMIT(store_selector)
{
    if (umip_faults(t))
        return;
    x86_write(t, 0, ir_state_load(t->ir, T_I32, offsetof(struct x86_cpu, seg) +
                                  (size_t)x86_arg(i) * sizeof(struct x86_segment), 1));
}

EMIT(lldt) { x86_call(t, HELP_lldt, x86_narrow(t, x86_read(t, 0), 2), 0, 0, 0); }
EMIT(ltr) { x86_call(t, HELP_ltr, x86_narrow(t, x86_read(t, 0), 2), 0, 0, 0); }

/* GDTR (0), IDTR (1) */
static size_t table_offset(const struct x86_insn *i)
{
    return x86_arg(i) ? offsetof(struct x86_cpu, idt) : offsetof(struct x86_cpu, gdt);
}

EMIT(store_table)
{
    size_t at = table_offset(i);
    unsigned bytes = t->code64 ? 8 : 4;
    ir_val addr, limit, base;

    if (umip_faults(t))
        return;
    addr = x86_linear(t, i, bytes + 2, true);
    limit = ir_state_load(t->ir, T_I32, at + offsetof(struct x86_table, limit), 1);
    base = ir_state_load(t->ir, T_I64, at + offsetof(struct x86_table, base), 3);
    ir_store(t->ir, x86_memop(t, 2), addr, 0, limit);
    ir_store(t->ir, x86_memop(t, bytes), addr, 2, x86_narrow(t, base, bytes));
}

EMIT(load_table)
{
    size_t at = table_offset(i);
    unsigned bytes = t->code64 ? 8 : 4;
    ir_val addr = x86_linear(t, i, bytes + 2, false), limit, base;

    limit = ir_load(t->ir, T_I32, x86_memop(t, 2), addr, 0);
    base = x86_widen(t, ir_load(t->ir, x86_type(bytes), x86_memop(t, bytes), addr, 2));
    if (i->opsize == 2 && !t->code64)
        base = ir_bin_imm(t->ir, IR_AND, base, 0xffffff);
    ir_state_store(t->ir, at + offsetof(struct x86_table, limit), 1, limit);
    ir_state_store(t->ir, at + offsetof(struct x86_table, base), 3, base);
}

/* ---- ports */

static void port_in(struct x86_t *t, const struct x86_insn *i)
{
    ir_val port = i->op[1].kind == XO_IMM ? imm32(t, (uint32_t)i->imm) : x86_get_reg(t, R_RDX, 2);
    unsigned bytes = i->op[0].size;

    x86_write(t, 0, x86_narrow(t, x86_call(t, HELP_io_in, port, imm32(t, bytes), 0, 0), bytes));
}

static void port_out(struct x86_t *t, const struct x86_insn *i)
{
    ir_val port = i->op[0].kind == XO_IMM ? imm32(t, (uint32_t)i->imm) : x86_get_reg(t, R_RDX, 2);

    x86_call(t, HELP_io_out, port, imm32(t, i->op[1].size), x86_widen(t, x86_read(t, 1)), 0);
}

EMIT(in) { port_in(t, i); }
EMIT(out) { port_out(t, i); }

/* ---- interrupts and flags */

static void software_interrupt(struct x86_t *t, unsigned vector, enum x86_event kind)
{
    go_to(t, x86_call(t, HELP_interrupt, imm32(t, vector), imm32(t, kind), imm32(t, t->i->len), 0));
}

EMIT(int)
{
    if (t->mode & MODE_VM86)
        go_to(t, x86_call(t, HELP_vm86_interrupt, imm32(t, (uint32_t)i->imm & 0xff), imm32(t, i->len), 0, 0));
    else
        software_interrupt(t, (unsigned)i->imm, EVENT_SOFTWARE);
}

EMIT(int3) { software_interrupt(t, X_BP, EVENT_SOFTWARE); }
EMIT(int1) { software_interrupt(t, X_DB, EVENT_ICEBP); }

EMIT(into)
{
    ir_label no = ir_label_new(t->ir);

    x86_branch(t, 1, no);
    software_interrupt(t, X_OF, EVENT_SOFTWARE);
    x86_bind(t, no);
}

/* In virtual-8086 mode below IOPL 3, PUSHF and POPF are for VME, PUSHFD and POPFD fault. */
static bool flags_virtual(struct x86_t *t) { return t->mode & MODE_VM86 && iopl(t) < 3; }

static bool vm86_faults(struct x86_t *t)
{
    if (!flags_virtual(t) || t->i->opsize == 2)
        return false;
    x86_exception(t, X_GP);
    return true;
}

EMIT(pushf)
{
    if (vm86_faults(t))
        return;
    x86_push(t, x86_narrow(t, x86_call(t, flags_virtual(t) ? HELP_virtual_pushf : HELP_read_eflags, 0, 0, 0, 0), i->opsize),
             i->opsize);
}

EMIT(popf)
{
    ir_val v;

    if (vm86_faults(t))
        return;
    v = x86_widen(t, x86_pop_value(t, i->opsize, 0));
    if (i->opsize == 2)
        v = ir_bin_imm(t->ir, IR_AND, v, 0xffff);
    if (flags_virtual(t))
        x86_call(t, HELP_virtual_popf, v, 0, 0, 0);
    else
        x86_call(t, HELP_write_eflags, v, imm32(t, i->opsize), 0, 0);
    x86_add_sp(t, ir_const(t->ir, T_I64, i->opsize));
    t->cc_op = -1;
}

static void change_eflags(struct x86_t *t, uint64_t clear, uint64_t set)
{
    ir_val f = ir_state_load(t->ir, T_I64, offsetof(struct x86_cpu, eflags), 3);

    if (clear)
        f = ir_bin_imm(t->ir, IR_AND, f, ~clear);
    if (set)
        f = ir_bin_imm(t->ir, IR_OR, f, set);
    ir_state_store(t->ir, offsetof(struct x86_cpu, eflags), 3, f);
}

/* Above IOPL the flag is VIF, with VME and PVI, or the instruction faults. */
static bool interrupt_flag_virtual(struct x86_t *t, bool on)
{
    unsigned cpl = t->mode & MODE_VM86 ? 3 : t->cpl;

    if (!(t->mode & MODE_PE) || cpl <= iopl(t))
        return false;
    x86_call(t, HELP_virtual_if, imm32(t, on), 0, 0, 0);
    return true;
}

EMIT(cli)
{
    if (!interrupt_flag_virtual(t, false))
        change_eflags(t, EF_IF, 0);
}

static bool next_is_leader(const struct x86_t *t)
{
    for (unsigned n = 0; n < t->ir->nleaders; n++)
        if (t->ir->leaders[n].pc == x86_next(t->i))
            return true;
    return false;
}

/* Interrupts stay off for one more instruction: it follows in the region, and its ways out all lead to the loop
 * (x86_leaves()). Where others join there the shadow is handed over in the state. */
EMIT(sti)
{
    ir_val was;

    if (interrupt_flag_virtual(t, true))
        return;
    if ((t->mode & MODE_SINGLE) || next_is_leader(t)) {
        was = ir_state_load(t->ir, T_I64, offsetof(struct x86_cpu, eflags), 3);
        was = ir_bin_imm(t->ir, IR_XOR, ir_extract(t->ir, was, 9, 1), 1);       /* no shadow if they were on already */
        ir_state_store(t->ir, offsetof(struct x86_cpu, shadow), 0, x86_narrow(t, was, 4));
        change_eflags(t, 0, EF_IF);
        ir_exit_loop(t->ir, x86_next(t->i));
    } else {
        change_eflags(t, 0, EF_IF);
    }
}

EMIT(clac) { if (t->cpl) x86_exception(t, X_UD); else change_eflags(t, EF_AC, 0); }
EMIT(stac) { if (t->cpl) x86_exception(t, X_UD); else change_eflags(t, 0, EF_AC); }

static void halt(struct x86_t *t)
{
    ir_state_store(t->ir, offsetof(struct x86_cpu, mwait), 0, imm32(t, 0));
    ir_state_store(t->ir, offsetof(struct x86_cpu, halted), 0, imm32(t, 1));
    ir_exit_loop(t->ir, x86_next(t->i));
}

EMIT(hlt) { halt(t); }

/* At level 3 both are undefined: SDM vol. 2. */
EMIT(monitor)
{
    unsigned seg = i->seg >= 0 ? (unsigned)i->seg : S_DS;

    if (t->cpl)
        x86_exception(t, X_UD);
    else
        x86_call(t, HELP_monitor, x86_segment_linear(t, seg, x86_widen(t, x86_get_reg(t, R_RAX, i->adsize)), 1, false),
                 x86_get_reg(t, R_RCX, 4), 0, 0);
}

EMIT(mwait)
{
    if (t->cpl) {
        x86_exception(t, X_UD);
        return;
    }
    x86_call(t, HELP_mwait, x86_get_reg(t, R_RCX, 4), 0, 0, 0);
    ir_exit_loop(t->ir, x86_next(i));
}

EMIT(pause)
{
    ir_val a, b;

    if (!(i->rex & 1)) {
        x86_call(t, HELP_pause, 0, 0, 0, 0);
        return;
    }
    a = x86_get_reg(t, R_RAX, i->opsize);       /* with REX.B it is XCHG R8, rAX, and F3 means nothing */
    b = x86_get_reg(t, R_R8, i->opsize);
    x86_put_reg(t, R_R8, i->opsize, a);
    x86_put_reg(t, R_RAX, i->opsize, b);
}

EMIT(fence) { ir_fence(t->ir, (unsigned)x86_arg(i)); }
EMIT(clflush) { ir_load(t->ir, T_I32, x86_memop(t, 1), x86_linear(t, i, 1, false), 0); }
EMIT(invd) { }
EMIT(wbinvd) { }

/* ---- control registers */

EMIT(mov_from_cr)
{
    static const size_t plain[] = { [0] = offsetof(struct x86_cpu, cr0), [2] = offsetof(struct x86_cpu, cr2),
                                    [3] = offsetof(struct x86_cpu, cr3), [4] = offsetof(struct x86_cpu, cr4) };
    unsigned n = i->op[1].reg;

    if (n < 5 && n != 1)
        x86_put_reg(t, i->op[0].reg, i->op[1].size, x86_narrow(t, ir_state_load(t->ir, T_I64, (uint32_t)plain[n], 3),
                                                               i->op[1].size));
    else
        x86_put_reg(t, i->op[0].reg, i->op[1].size,
                    x86_narrow(t, x86_call(t, HELP_read_cr, imm32(t, n), 0, 0, 0), i->op[1].size));
}

EMIT(mov_to_cr)
{
    x86_call(t, HELP_write_cr, imm32(t, i->op[0].reg), x86_widen(t, x86_get_reg(t, i->op[1].reg, i->op[0].size)), 0, 0);
}

EMIT(mov_from_dr)
{
    x86_put_reg(t, i->op[0].reg, i->op[1].size,
                x86_narrow(t, x86_call(t, HELP_read_dr, imm32(t, i->op[1].reg), 0, 0, 0), i->op[1].size));
}

EMIT(mov_to_dr)
{
    x86_call(t, HELP_write_dr, imm32(t, i->op[0].reg), x86_widen(t, x86_get_reg(t, i->op[1].reg, i->op[0].size)), 0, 0);
}

EMIT(smsw)
{
    if (umip_faults(t))
        return;
    x86_write(t, 0, x86_narrow(t, ir_state_load(t->ir, T_I64, offsetof(struct x86_cpu, cr0), 3), i->op[0].size));
}

EMIT(lmsw) { x86_call(t, HELP_lmsw, x86_read(t, 0), 0, 0, 0); }
EMIT(clts) { x86_call(t, HELP_clts, 0, 0, 0, 0); }

EMIT(invlpg)
{
    unsigned seg = i->seg >= 0 ? (unsigned)i->seg : S_DS;
    ir_val va = x86_ea(t, i);

    if (t->code64 ? seg >= S_FS : true)
        va = ir_bin(t->ir, IR_ADD, va, ir_state_load(t->ir, T_I64, offsetof(struct x86_cpu, seg) +
                    seg * sizeof(struct x86_segment) + offsetof(struct x86_segment, base), 3));
    x86_call(t, HELP_invlpg, va, 0, 0, 0);
}

EMIT(invpcid)
{
    x86_call(t, HELP_invpcid, x86_widen(t, x86_get_reg(t, i->op[0].reg, t->code64 ? 8 : 4)), x86_linear(t, i, 16, false),
             0, 0);
}

EMIT(rdmsr) { x86_call(t, HELP_rdmsr, 0, 0, 0, 0); }
EMIT(wrmsr) { x86_call(t, HELP_wrmsr, 0, 0, 0, 0); }
EMIT(cpuid) { x86_call(t, HELP_cpuid, 0, 0, 0, 0); }

static void put_edx_eax(struct x86_t *t, ir_val v)
{
    x86_put_reg(t, R_RAX, 4, ir_un(t->ir, IR_TRUNC, v));
    x86_put_reg(t, R_RDX, 4, ir_un(t->ir, IR_TRUNC, ir_bin_imm(t->ir, IR_SHR, v, 32)));
}

static bool time_faults(struct x86_t *t)
{
    if (!(t->mode & MODE_TSD) || !t->cpl)
        return false;
    x86_exception(t, X_GP);
    return true;
}

EMIT(rdtsc)
{
    if (!time_faults(t))
        put_edx_eax(t, x86_call(t, HELP_rdtsc, 0, 0, 0, 0));
}

EMIT(rdtscp)
{
    if (time_faults(t))
        return;
    put_edx_eax(t, x86_call(t, HELP_rdtsc, 0, 0, 0, 0));
    x86_put_reg(t, R_RCX, 4, ir_un(t->ir, IR_TRUNC, ir_state_load(t->ir, T_I64, offsetof(struct x86_cpu, tsc_aux), 3)));
}

EMIT(rdpmc)
{
    if (t->cpl && !(t->mode & MODE_PCE))
        x86_exception(t, X_GP);
    else
        put_edx_eax(t, x86_call(t, HELP_rdpmc, 0, 0, 0, 0));
}

EMIT(xgetbv) { put_edx_eax(t, x86_call(t, HELP_xgetbv, 0, 0, 0, 0)); }
EMIT(xsetbv) { x86_call(t, HELP_xsetbv, 0, 0, 0, 0); }

/* ---- system calls */

EMIT(syscall) { go_to(t, x86_call(t, HELP_syscall, imm32(t, i->len), 0, 0, 0)); }
EMIT(sysret) { go_to(t, x86_call(t, HELP_sysret, imm32(t, i->vex_w), 0, 0, 0)); }
EMIT(sysenter) { go_to(t, x86_call(t, HELP_sysenter, 0, 0, 0, 0)); }
EMIT(sysexit) { go_to(t, x86_call(t, HELP_sysexit, imm32(t, i->vex_w), 0, 0, 0)); }
EMIT(rsm) { go_to(t, x86_call(t, HELP_rsm, 0, 0, 0, 0)); }

EMIT(swapgs)
{
    ir_val gs = ir_get(t->ir, SLOT_BASE_GS);
    ir_val kernel = ir_state_load(t->ir, T_I64, offsetof(struct x86_cpu, kernel_gs_base), 3);

    ir_state_store(t->ir, offsetof(struct x86_cpu, kernel_gs_base), 3, gs);
    ir_put(t->ir, SLOT_BASE_GS, kernel);
}

/* CR4.FSGSBASE is not part of the mode: looked at when it runs. */
static bool fsgsbase_check(struct x86_t *t)
{
    ir_label ok = ir_label_new(t->ir);
    ir_val cr4 = ir_state_load(t->ir, T_I64, offsetof(struct x86_cpu, cr4), 3);

    x86_brcond(t, C_TSTNE, cr4, ir_const(t->ir, T_I64, CR4_FSGSBASE), ok);
    x86_exception(t, X_UD);
    x86_bind(t, ok);
    return true;
}

static unsigned base_slot(const struct x86_insn *i)
{
    return x86_arg(i) == S_FS ? SLOT_BASE_FS : SLOT_BASE_GS;
}

EMIT(rdbase)
{
    fsgsbase_check(t);
    x86_put_reg(t, i->op[0].reg, i->op[0].size, ir_get(t->ir, base_slot(i)));
}

/* Non-canonical: #GP. Checked through 47-bit sign extension, or 56 with LA57: by the helper path of WRMSR's rule. */
EMIT(wrbase)
{
    ir_label ok = ir_label_new(t->ir);
    ir_val v, high;

    fsgsbase_check(t);
    v = x86_widen(t, x86_get_reg(t, i->op[0].reg, i->op[0].size));
    if (i->op[0].size == 8) {
        high = ir_bin_imm(t->ir, IR_SAR, ir_bin_imm(t->ir, IR_SHL, v, x86_t_has(t, XF_LA57) ? 7 : 16),
                          x86_t_has(t, XF_LA57) ? 7 : 16);
        x86_brcond(t, C_EQ, high, v, ok);
        x86_exception(t, X_GP);
        x86_bind(t, ok);
        v = x86_widen(t, x86_get_reg(t, i->op[0].reg, i->op[0].size));
    }
    ir_put(t->ir, base_slot(i), v);
}

/* ---- state images */

static bool state_faults(struct x86_t *t)
{
    if (t->mode & (MODE_TS | MODE_EM)) {
        x86_exception(t, X_NM);
        return true;
    }
    return false;
}

static uint32_t image_info(const struct x86_t *t)
{
    return t->i->opsize == 8 || t->i->vex_w ? 1 : 0;
}

EMIT(fxsave)
{
    if (!state_faults(t))
        x86_call(t, HELP_fxsave, x86_linear(t, i, 1, true),
                 imm32(t, image_info(t) | t->mmu << 4 | (t->code64 ? 2 : 0)), 0, 0);
}

EMIT(fxrstor)
{
    if (!state_faults(t))
        x86_call(t, HELP_fxrstor, x86_linear(t, i, 1, false),
                 imm32(t, image_info(t) | t->mmu << 4 | (t->code64 ? 2 : 0)), 0, 0);
}

static ir_val requested(struct x86_t *t)
{
    return ir_deposit(t->ir, x86_widen(t, x86_get_reg(t, R_RAX, 4)), ir_get(t->ir, SLOT_REG + R_RDX), 32, 32);
}

static uint32_t xsave_info(const struct x86_t *t)
{
    return image_info(t) | (t->code64 ? 2 : 0) | t->mmu << 4 | (uint32_t)x86_arg(t->i) << 8;
}

EMIT(xsave)
{
    x86_call(t, HELP_xsave, x86_linear(t, i, 1, true), imm32(t, xsave_info(t)), requested(t), 0);
}

EMIT(xrstor)
{
    x86_call(t, HELP_xrstor, x86_linear(t, i, 1, false), imm32(t, xsave_info(t)), requested(t), 0);
}

/* A hypercall of KVM guests, by Intel's or AMD's instruction: none is offered (-KVM_ENOSYS). */
EMIT(vmcall)
{
    x86_put_reg(t, R_RAX, t->code64 ? 8 : 4, ir_const(t->ir, t->code64 ? T_I64 : T_I32, (uint64_t)-1000));
}
