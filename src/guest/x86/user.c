/* x86 Linux programs, 64 and 32 bits: system calls, signals' frames (Linux: arch/x86/include/uapi/asm/sigcontext.h, ucontext.h),
 * what exceptions become. The CPU has no descriptor tables: SYSCALL raises #UD, INT #GP, and both are known by that. */
#include <errno.h>
#include <glib.h>
#include <string.h>
#include "rhea/base/log.h"
#include "rhea/user/guest_user.h"
#include "cpuid.h"

enum { INT80_ERROR = 0x80 * 8 + 2, IDT_ERROR = 2 };
enum { SEL_CS64 = 0x33, SEL_SS = 0x2b, SEL_CS32 = 0x23, TLS_FIRST = 12, TLS_COUNT = 3 };
static bool is_64(const struct cpu *cpu) { return cpu->guest == &guest_x86_64; }
static struct x86_user *x86_user(const struct cpu *cpu) { return ((const struct x86_cpu *)cpu)->platform_opaque; }

/* ---- the CPU */

enum { LDT_ENTRIES = 8192 };

/* The local descriptor table, which all threads of an address space have: modify_ldt(). entries: NULL before the first one is made. */
struct x86_ldt {
    _Atomic int users;
    _Atomic unsigned count;     /* up to the last one that was ever written */
    _Atomic uint64_t *_Atomic entries;
};
struct x86_user {
    uint64_t tls[TLS_COUNT];    /* descriptors that set_thread_area() made */
    struct x86_ldt *ldt;
    bool int80;                 /* the last system call: a 32-bit one */
};

static uint64_t host_tsc(void *opaque, struct x86_cpu *c) { return __builtin_ia32_rdtsc(); }

/* Flat segments of the kernel's, in the form of descriptors: base 0, limit 4 GiB, accessed. */
static bool user_descriptor(void *opaque, struct x86_cpu *c, uint16_t selector, uint64_t *out)
{
    const struct x86_user *u = opaque;
    unsigned n = selector >> 3;

    if (selector & 4) {
        _Atomic uint64_t *entries = u->ldt->entries;

        *out = entries ? entries[n] : 0;
        return *out != 0;
    }
    if (n == SEL_SS >> 3)
        *out = UINT64_C(0x00cff3000000ffff);
    else if (n == SEL_CS32 >> 3)
        *out = UINT64_C(0x00cffb000000ffff);
    else if (n == SEL_CS64 >> 3 && is_64(&c->cpu))
        *out = UINT64_C(0x00affb000000ffff);
    else if (n - TLS_FIRST < TLS_COUNT && u->tls[n - TLS_FIRST])
        *out = u->tls[n - TLS_FIRST] | UINT64_C(1) << 40;
    else
        return false;
    return true;
}

static const struct x86_platform platform = { .tsc = host_tsc, .descriptor = user_descriptor };

static void segment(struct x86_cpu *c, unsigned seg, uint16_t selector)
{
    uint64_t raw;
    struct x86_descriptor d = { 0 };

    if (!user_descriptor(c->platform_opaque, c, selector, &raw)) {
        c->seg[seg] = (struct x86_segment){ .selector = selector };
        return;
    }
    d.lo = (uint32_t)raw;
    d.hi = (uint32_t)(raw >> 32);
    c->seg[seg] = (struct x86_segment){ selector, desc_attr(&d), desc_limit(&d), desc_base(&d) };
}

/* As execve() leaves it, and as a handler finds it. */
static void fpu_init(struct x86_cpu *c)
{
    c->fpcw = 0x37f;
    c->fpsw = 0;
    c->fptop = 0;
    c->fptag = 0xff;
    c->fpop = 0;
    c->fpip = c->fpdp = 0;
    memset(c->fpregs, 0, sizeof(c->fpregs));
    memset(c->ymm, 0, sizeof(c->ymm));
    c->mxcsr = 0x1f80;
    x86_mxcsr_changed(c);
}

static bool cpu_init(struct cpu *cpu, const char *model, struct error *err)
{
    struct x86_cpu *c = x86(cpu);
    bool wide = is_64(cpu);
    struct x86_user *u;

    if (!cpu->guest->cpu_init(cpu, NULL, model ? model : "max", err))
        return false;
    cpu->guest->cpu_reset(cpu);
    c->platform = &platform;
    u = c->platform_opaque = g_new0(struct x86_user, 1);
    u->ldt = g_new0(struct x86_ldt, 1);
    u->ldt->users = 1;
    c->gdt = c->idt = (struct x86_table){ 0 };
    c->seg[S_LDT] = c->seg[S_TR] = (struct x86_segment){ 0 };
    c->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
    c->cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    if (x86_xcr0_supported(c)) {
        c->cr4 |= CR4_OSXSAVE;
        c->xcr0 = x86_xcr0_supported(c);
    }
    if (wide && x86_has(c->features, XF_FSGSBASE))
        c->cr4 |= CR4_FSGSBASE;
    c->efer = wide ? EFER_LME | EFER_LMA | EFER_NXE : 0;
    segment(c, S_CS, wide ? SEL_CS64 : SEL_CS32);
    segment(c, S_SS, SEL_SS);
    for (unsigned s = 0; s < 4; s++)
        segment(c, (const uint8_t[]){ S_DS, S_ES, S_FS, S_GS }[s], wide || s > 1 ? 0 : SEL_SS);
    x86_set_cpl(c, 3);
    x86_set_eflags(c, EF_IF | 2, UINT64_MAX);
    c->halted = c->wait_for_sipi = false;
    fpu_init(c);
    return true;
}

static void cpu_copy(struct cpu *to, struct cpu *from)
{
    struct x86_cpu *c = x86(to);

    c->platform_opaque = g_memdup2(c->platform_opaque, sizeof(struct x86_user));
    ((struct x86_user *)c->platform_opaque)->ldt->users++;
}

/* The identity is shared by all threads, and stays. */
static void cpu_free(struct cpu *cpu)
{
    struct x86_user *u = g_steal_pointer(&x86(cpu)->platform_opaque);

    if (u && --u->ldt->users == 0) {
        g_free((void *)u->ldt->entries);
        g_free(u->ldt);
    }
    g_free(u);
}

static void start(struct cpu *cpu, uint64_t entry, uint64_t sp)
{
    struct x86_cpu *c = x86(cpu);

    memset(c->regs, 0, sizeof(c->regs));
    c->regs[R_RSP] = sp;
    cpu->pc = entry;
}

static void hwcaps(const struct cpu *cpu, uint64_t out[2])
{
    const struct x86_cpu *c = (const struct x86_cpu *)cpu;

    out[0] = c->features[FW_1_EDX];
    out[1] = c->cr4 & CR4_FSGSBASE ? 2 : 0;
}

static char *cpuinfo(const struct cpu *cpu, unsigned n)
{
    const struct x86_cpu *c = (const struct x86_cpu *)cpu;
    const struct x86_identity *id = c->identity;
    GString *s = g_string_new(NULL);
    unsigned count;
    const struct cpu_feature *f = cpu->guest->features(&count);

    g_string_append_printf(s, "processor\t: %u\nvendor_id\t: %s\ncpu family\t: %u\nmodel\t\t: %u\nmodel name\t: %s\n"
                           "stepping\t: %u\ncpu MHz\t\t: 2000.000\ncache size\t: 512 KB\nphysical id\t: 0\ncore id\t\t: %u\n"
                           "fpu\t\t: yes\ncpuid level\t: %u\nwp\t\t: yes\nflags\t\t:",
                           n, id->vendor, id->family, id->model, id->brand, id->stepping, n, id->level);
    for (unsigned k = 0; k < count; k++)
        if (x86_has(c->features, f[k].word * 32u + f[k].bit))
            g_string_append_printf(s, " %s", f[k].name);
    g_string_append(s, "\nbogomips\t: 4000.00\nclflush size\t: 64\n\n");
    return g_string_free(s, FALSE);
}

/* ---- exceptions */

static void syscall64(struct x86_cpu *c, struct user_event *ev)
{
    ev->kind = EVENT_SYSCALL;
    x86_user(&c->cpu)->int80 = false;
    c->cpu.pc += 2;
    c->regs[R_RCX] = c->cpu.pc;
    c->regs[R_R8 + 3] = x86_eflags(c);
}

static bool insn_is(struct x86_cpu *c, uint8_t a, uint8_t b)
{
    uint8_t bytes[2];

    cpu_load_bytes(&c->cpu, c->cpu.pc, bytes, 1, 0);
    if (bytes[0] != a)
        return false;
    cpu_load_bytes(&c->cpu, c->cpu.pc + 1, bytes + 1, 1, 0);
    return bytes[1] == b;
}

/* INT n, and what else asks for a gate. */
static void software_interrupt(struct x86_cpu *c, struct user_event *ev)
{
    unsigned n = c->error_code >> 3;

    if (n == 0x80) {
        ev->kind = EVENT_SYSCALL;
        x86_user(&c->cpu)->int80 = true;
        c->cpu.pc += 2;
    } else if (n == X_BP || n == X_DB) {
        uint8_t byte;

        cpu_load_bytes(&c->cpu, c->cpu.pc, &byte, 1, 0);
        c->cpu.pc += byte == 0xcd ? 2 : 1;
        ev->signal = SIGTRAP;
        ev->code = n == X_BP ? SI_KERNEL : TRAP_BRKPT;
        ev->addr = n == X_BP ? 0 : c->cpu.pc;
        ev->trapno = n;
        ev->error = 0;
    }
}

static int fpe_code(unsigned flags)
{
    return flags & 1 ? FPE_FLTINV : flags & 4 ? FPE_FLTDIV : flags & 8 ? FPE_FLTOVF : flags & 0x12 ? FPE_FLTUND : FPE_FLTRES;
}

static void event(struct cpu *cpu, struct user_event *ev)
{
    struct x86_cpu *c = x86(cpu);

    c->trap_pending = 0;
    *ev = (struct user_event){ .kind = EVENT_SIGNAL, .signal = SIGSEGV, .code = SI_KERNEL, .trapno = (uint32_t)cpu->exception,
                               .error = c->has_error_code ? c->error_code : 0 };
    switch (cpu->exception) {
    case X_UD:
        if (is_64(cpu) && insn_is(c, 0x0f, 0x05)) {
            syscall64(c, ev);
            return;
        }
        ev->signal = SIGILL;
        ev->code = ILL_ILLOPN;
        ev->addr = cpu->pc;
        break;
    case X_GP:
        if (c->has_error_code && c->error_code & IDT_ERROR)
            software_interrupt(c, ev);
        break;
    case X_DE:
        ev->signal = SIGFPE;
        ev->code = FPE_INTDIV;
        ev->addr = cpu->pc;
        break;
    case X_DB: case X_BP:
        ev->signal = SIGTRAP;
        ev->code = cpu->exception == X_DB ? TRAP_TRACE : SI_KERNEL;
        ev->addr = cpu->pc;
        break;
    case X_MF:
        ev->signal = SIGFPE;
        ev->code = fpe_code(c->fpsw & ~c->fpcw & 0x3f);
        ev->addr = cpu->pc;
        break;
    case X_XM:
        ev->signal = SIGFPE;
        ev->code = fpe_code(x86_mxcsr_read(c) & ~(c->mxcsr >> 7) & 0x3f);
        ev->addr = cpu->pc;
        break;
    case X_AC:
        ev->signal = SIGBUS;
        ev->code = BUS_ADRALN;
        break;
    case X_NP: case X_SS:
        ev->signal = SIGBUS;
        break;
    default:
        break;
    }
}

/* EFLAGS.TF was set when the last instruction began. */
static bool trap(struct cpu *cpu, struct user_event *ev)
{
    struct x86_cpu *c = x86(cpu);
    bool due = c->trap_pending;

    c->trap_pending = c->shadow = 0;
    if (due)
        *ev = (struct user_event){ .kind = EVENT_SIGNAL, .signal = SIGTRAP, .code = TRAP_TRACE, .addr = cpu->pc, .trapno = X_DB };
    return due;
}

/* Linux: an address that is not canonical is a general protection fault without an address. */
static void fault(struct cpu *cpu, struct user_event *ev, enum mmu_access access)
{
    if (is_64(cpu) && ev->addr >> 47 && ~ev->addr >> 47 && ev->signal == SIGSEGV) {
        ev->addr = 0;
        ev->code = SI_KERNEL;
        ev->trapno = X_GP;
        return;
    }
    ev->trapno = X_PF;
    ev->error = 4 | (access == ACCESS_WRITE ? 2 : 0) | (access == ACCESS_EXEC ? 16 : 0) | (ev->code == SEGV_ACCERR);
}

/* ---- system calls */

static bool syscall_is_compat(const struct cpu *cpu) { return is_64(cpu) && x86_user(cpu)->int80; }
static bool takes_64(const struct cpu *cpu) { return is_64(cpu) && !x86_user(cpu)->int80; }

static uint64_t syscall_number(const struct cpu *cpu)
{
    return takes_64(cpu) ? ((const struct x86_cpu *)cpu)->regs[R_RAX] : (uint32_t)((const struct x86_cpu *)cpu)->regs[R_RAX];
}

static void syscall_args(const struct cpu *cpu, uint64_t args[6])
{
    static const uint8_t wide[6] = { R_RDI, R_RSI, R_RDX, R_R8 + 2, R_R8, R_R8 + 1 }, narrow[6] = { R_RBX, R_RCX, R_RDX, R_RSI, R_RDI, R_RBP };
    const struct x86_cpu *c = (const struct x86_cpu *)cpu;

    for (unsigned n = 0; n < 6; n++)
        args[n] = takes_64(cpu) ? c->regs[wide[n]] : (uint32_t)c->regs[narrow[n]];
}

static void syscall_result(struct cpu *cpu, int64_t v) { x86(cpu)->regs[R_RAX] = is_64(cpu) ? (uint64_t)v : (uint32_t)v; }
static void syscall_again(struct cpu *cpu) { cpu->pc -= 2; }
static uint64_t stack_pointer(const struct cpu *cpu)
{
    uint64_t sp = ((const struct x86_cpu *)cpu)->regs[R_RSP];

    return is_64(cpu) ? sp : (uint32_t)sp;
}
static void set_stack_pointer(struct cpu *cpu, uint64_t sp) { x86(cpu)->regs[R_RSP] = sp; }
static void set_tls64(struct cpu *cpu, uint64_t v) { x86(cpu)->seg[S_FS].base = v; }
static uint64_t tls64(const struct cpu *cpu) { return ((const struct x86_cpu *)cpu)->seg[S_FS].base; }
static uint64_t tls32(const struct cpu *cpu) { return ((const struct x86_cpu *)cpu)->seg[S_GS].base; }
static void set_gs_base(struct cpu *cpu, uint64_t v) { x86(cpu)->seg[S_GS].base = v; }
static uint64_t gs_base(const struct cpu *cpu) { return ((const struct x86_cpu *)cpu)->seg[S_GS].base; }

/* set_thread_area(): struct user_desc's words are entry, base, limit, flags. */
static uint64_t descriptor_of(const uint32_t d[4])
{
    uint32_t base = d[1], limit = d[2], flags = d[3];
    uint64_t type = UINT64_C(0x10) | (flags >> 3 & 1 ? 0 : 2) | (flags >> 1 & 3) << 2 | 1;

    if ((flags & 0x28) == 0x28 && !base && !limit)
        return 0;                       /* empty */
    if (flags >> 3 & 1)                 /* read_exec_only: not writable */
        type &= ~UINT64_C(2);
    type |= 3 << 5 | (flags >> 5 & 1 ? 0 : 0x80);
    return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | type << 40 | (uint64_t)(limit >> 16 & 15) << 48 |
           (uint64_t)(flags >> 6 & 1) << 52 | (uint64_t)(flags & 1) << 54 | (uint64_t)(flags >> 4 & 1) << 55 |
           (uint64_t)(base >> 24) << 56;
}

static int set_thread_area(struct cpu *cpu, uint32_t desc[4])
{
    struct x86_cpu *c = x86(cpu);
    struct x86_user *u = c->platform_opaque;
    unsigned n = desc[0];

    if (n == UINT32_MAX)
        for (n = TLS_FIRST; n < TLS_FIRST + TLS_COUNT && u->tls[n - TLS_FIRST]; n++)
            ;
    if (n == TLS_FIRST + TLS_COUNT)
        return -ESRCH;
    if (n - TLS_FIRST >= TLS_COUNT)
        return -EINVAL;
    desc[0] = n;
    u->tls[n - TLS_FIRST] = descriptor_of(desc);
    for (unsigned s = S_ES; s <= S_GS; s++)     /* those in use follow at once */
        if (s != S_CS && c->seg[s].selector >> 3 == n)
            segment(c, s, c->seg[s].selector);
    return 0;
}

/* ---- modify_ldt(2) */

/* DS and ES follow at once, as Linux has it; the others when they are next loaded. */
static void ldt_refresh(struct x86_cpu *c)
{
    for (unsigned k = 0; k < 2; k++) {
        unsigned s = k ? S_ES : S_DS;

        if (c->seg[s].selector & 4)
            segment(c, s, c->seg[s].selector);
    }
}

static int ldt_write(struct cpu *cpu, const uint32_t desc[4], bool old)
{
    struct x86_cpu *c = x86(cpu);
    struct x86_ldt *l = ((struct x86_user *)c->platform_opaque)->ldt;
    unsigned n = desc[0], contents = desc[3] >> 1 & 3;
    bool present = !(desc[3] >> 5 & 1), empty = old && !desc[1] && !desc[2];
    _Atomic uint64_t *entries = l->entries, *none = NULL;
    uint32_t fill[4] = { desc[0], desc[1], desc[2], desc[3] & (old ? ~UINT32_C(0x40) : UINT32_MAX) };
    unsigned count = l->count;

    if (n >= LDT_ENTRIES || (contents == 3 && (old || present)))
        return -EINVAL;
    if (!entries) {
        entries = g_malloc0(LDT_ENTRIES * sizeof(*entries));
        if (!atomic_compare_exchange_strong(&l->entries, &none, entries)) {
            g_free((void *)entries);
            entries = none;
        }
    }
    entries[n] = empty ? 0 : descriptor_of(fill);
    while (count < n + 1 && !atomic_compare_exchange_weak(&l->count, &count, n + 1))
        ;
    ldt_refresh(c);
    return 0;
}

static unsigned ldt_read(const struct cpu *cpu, unsigned first, uint64_t *out, unsigned count)
{
    const struct x86_ldt *l = ((const struct x86_user *)((const struct x86_cpu *)cpu)->platform_opaque)->ldt;
    _Atomic uint64_t *entries = l->entries;
    unsigned n;

    for (n = 0; n < count && first + n < l->count; n++)
        out[n] = entries[first + n];
    return n;
}

/* ---- signals, 64 bits */

struct __attribute__((packed)) frame64 {
    uint64_t pretcode;
    uint64_t uc_flags, uc_link, ss_sp;
    uint32_t ss_flags, pad;
    uint64_t ss_size;
    uint64_t r8_15[8], rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags;
    uint16_t cs, gs, fs, ss;
    uint64_t err, trapno, oldmask, cr2, fpstate, reserved[8];
    uint64_t mask;
    uint8_t info[128];
};
_Static_assert(sizeof(struct frame64) == 440, "Linux: struct rt_sigframe");
enum { XSTATE_MAGIC1 = 0x46505853, XSTATE_MAGIC2 = 0x46505845, XSAVE_BYTES = 832, FXSAVE_BYTES = 512, SW_BYTES = 464 };
enum { UC_FP_XSTATE = 1, UC_SIGCONTEXT_SS = 2, UC_STRICT_RESTORE_SS = 4 };
static const uint8_t gpr64[] = { R_RDI, R_RSI, R_RBP, R_RBX, R_RDX, R_RAX, R_RCX, R_RSP };

/* The XSAVE image at va (aligned to 64), with Linux's marks in the bytes that the processor leaves to software. */
static void fpstate_push(struct cpu *cpu, uint64_t va)
{
    struct x86_cpu *c = x86(cpu);
    uint8_t zero[64] = { 0 };
    struct { uint32_t magic1, extended_size; uint64_t xfeatures; uint32_t xstate_size, pad[7]; } sw = {
        XSTATE_MAGIC1, XSAVE_BYTES + 4, c->xcr0, XSAVE_BYTES, { 0 } };
    uint32_t magic2 = XSTATE_MAGIC2, info = is_64(cpu) ? 3 : 0;

    if (!c->xcr0 || !(c->cr4 & CR4_OSXSAVE)) {
        helper_fxsave(cpu, va, info);
        return;
    }
    cpu_store_bytes(cpu, va + FXSAVE_BYTES, zero, sizeof(zero), 0);
    helper_xsave(cpu, va, info, c->xcr0);
    cpu_store_bytes(cpu, va + SW_BYTES, &sw, sizeof(sw), 0);
    cpu_store_bytes(cpu, va + XSAVE_BYTES, &magic2, 4, 0);
}

static void fpstate_pop(struct cpu *cpu, uint64_t va)
{
    struct x86_cpu *c = x86(cpu);
    uint32_t magic[3], magic2 = 0, info = is_64(cpu) ? 3 : 0, mxcsr;

    cpu_load_bytes(cpu, va + SW_BYTES, magic, sizeof(magic), 0);
    if (c->xcr0 && magic[0] == XSTATE_MAGIC1 && magic[1] == XSAVE_BYTES + 4)
        cpu_load_bytes(cpu, va + XSAVE_BYTES, &magic2, 4, 0);
    cpu_load_bytes(cpu, va + 24, &mxcsr, 4, 0);
    if (mxcsr >> 16)                    /* reserved bits: the processor would refuse */
        x86_raise(c, X_GP, 0);
    if (magic2 == XSTATE_MAGIC2)
        helper_xrstor(cpu, va, info, c->xcr0);
    else
        helper_fxrstor(cpu, va, info);
}

enum { FLAGS_KEPT = EF_AC | EF_OF | EF_DF | EF_TF | EF_SF | EF_ZF | EF_AF | EF_PF | EF_CF | EF_RF };

static bool push64(struct cpu *cpu, const struct signal_frame *f)
{
    struct x86_cpu *c = x86(cpu);
    uint64_t fp = (f->sp - (f->on_altstack ? 0 : 128) - (XSAVE_BYTES + 64)) & ~UINT64_C(63);
    uint64_t sp = ((fp - sizeof(struct frame64)) & ~UINT64_C(15)) - 8;
    struct frame64 fr = { .pretcode = f->restorer, .uc_flags = UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS,
                          .ss_sp = f->altstack.sp, .ss_flags = f->altstack.flags, .ss_size = f->altstack.size,
                          .rip = cpu->pc, .eflags = x86_eflags(c), .cs = c->seg[S_CS].selector, .ss = c->seg[S_SS].selector,
                          .err = f->error, .trapno = f->trapno, .oldmask = f->mask, .cr2 = f->trapno == X_PF ? f->fault_addr : 0,
                          .fpstate = fp, .mask = f->mask };

    memcpy(fr.r8_15, &c->regs[R_R8], sizeof(fr.r8_15));
    for (unsigned n = 0; n < sizeof(gpr64); n++)
        memcpy((uint8_t *)&fr.rdi + 8 * n, &c->regs[gpr64[n]], 8);
    memcpy(fr.info, f->siginfo, sizeof(fr.info));
    cpu_probe(cpu, sp, (unsigned)(fp + XSAVE_BYTES + 4 - sp), true, 0);
    fpstate_push(cpu, fp);
    cpu_store_bytes(cpu, sp, &fr, sizeof(fr), 0);
    c->regs[R_RDI] = (uint64_t)f->signal;
    c->regs[R_RSI] = sp + offsetof(struct frame64, info);
    c->regs[R_RDX] = sp + offsetof(struct frame64, uc_flags);
    c->regs[R_RAX] = 0;
    c->regs[R_RSP] = sp;
    x86_set_eflags(c, x86_eflags(c) & ~(uint64_t)(EF_DF | EF_TF | EF_RF), UINT64_MAX);
    fpu_init(c);
    cpu->pc = f->handler;
    return true;
}

static bool pop64(struct cpu *cpu, bool rt, struct signal_return *out)
{
    struct x86_cpu *c = x86(cpu);
    uint64_t sp = c->regs[R_RSP] - 8;   /* the handler's RET took pretcode */
    struct frame64 fr;

    cpu_load_bytes(cpu, sp, &fr, sizeof(fr), 0);
    if (fr.fpstate & 63 && fr.fpstate & 15)
        return false;
    if (fr.fpstate)
        fpstate_pop(cpu, fr.fpstate);
    memcpy(&c->regs[R_R8], fr.r8_15, sizeof(fr.r8_15));
    for (unsigned n = 0; n < sizeof(gpr64); n++)
        memcpy(&c->regs[gpr64[n]], (uint8_t *)&fr.rdi + 8 * n, 8);
    x86_set_eflags(c, fr.eflags, FLAGS_KEPT);
    cpu->pc = fr.rip;
    out->mask = fr.mask;
    out->altstack.sp = fr.ss_sp;
    out->altstack.flags = fr.ss_flags;
    out->altstack.size = fr.ss_size;
    out->has_altstack = true;
    return true;
}

/* ---- signals, 32 bits */

struct __attribute__((packed)) context32 {
    uint32_t gs, fs, es, ds, edi, esi, ebp, esp, ebx, edx, ecx, eax, trapno, err, eip, cs, eflags, esp_at_signal, ss, fpstate,
             oldmask, cr2;
};
struct __attribute__((packed)) frame32 {        /* struct sigframe */
    uint32_t pretcode, sig;
    struct context32 sc;
    uint8_t fpstate_unused[624];
    uint32_t extramask;
    uint8_t retcode[8];
};
struct __attribute__((packed)) rt_frame32 {
    uint32_t pretcode, sig, pinfo, puc;
    uint8_t info[128];
    uint32_t uc_flags, uc_link, ss_sp, ss_flags, ss_size;
    struct context32 sc;
    uint64_t mask;
    uint8_t retcode[8];
};
_Static_assert(sizeof(struct context32) == 88, "Linux: struct sigcontext_32");
enum { FSAVE_BYTES = 112, FP_AREA32 = FSAVE_BYTES + XSAVE_BYTES + 4 };
static const uint8_t gpr32[] = { R_RDI, R_RSI, R_RBP, R_RSP, R_RBX, R_RDX, R_RCX, R_RAX };

/* popl %eax; movl $119, %eax; int $0x80, and movl $173, %eax; int $0x80. The C library finds frames by them. */
/* ---- calls of C functions (psABI): the vdso's */

static void vdso_stub64(uint8_t out[VDSO_SLOT], unsigned nr)
{
    uint8_t code[] = { 0xb8, 0, 0, 0, 0 /* mov $nr, %eax */, 0x0f, 0x05 /* syscall */, 0xc3 /* ret */ };

    memcpy(code + 1, &nr, 4);
    memcpy(out, code, sizeof(code));
}

static void call_args64(struct cpu *cpu, uint64_t args[2])
{
    args[0] = x86(cpu)->regs[R_RDI];
    args[1] = x86(cpu)->regs[R_RSI];
}

static void call_return64(struct cpu *cpu, int64_t v)
{
    struct x86_cpu *c = x86(cpu);
    uint64_t to = cpu_load(cpu, c->regs[R_RSP], MEM_64);

    c->regs[R_RSP] += 8;
    c->regs[R_RAX] = (uint64_t)v;
    cpu->pc = to;
}

static void vdso_stub32(uint8_t out[VDSO_SLOT], unsigned nr)
{
    uint8_t code[] = { 0x53 /* push %ebx */, 0x8b, 0x5c, 0x24, 0x08 /* mov 8(%esp), %ebx */, 0x8b, 0x4c, 0x24, 0x0c /* mov 12(%esp), %ecx */,
                       0x8b, 0x54, 0x24, 0x10 /* mov 16(%esp), %edx */, 0xb8, 0, 0, 0, 0 /* mov $nr, %eax */, 0xcd, 0x80 /* int $0x80 */,
                       0x5b /* pop %ebx */, 0xc3 /* ret */ };

    memcpy(code + 14, &nr, 4);
    if (nr == VDSO_ANY)
        memcpy(out, (const uint8_t[]){ 0xcd, 0x80, 0xc3 }, 3);
    else
        memcpy(out, code, sizeof(code));
}

static void call_args32(struct cpu *cpu, uint64_t args[2])
{
    uint32_t sp = (uint32_t)x86(cpu)->regs[R_RSP];

    args[0] = cpu_load(cpu, (uint32_t)(sp + 4), MEM_32);
    args[1] = cpu_load(cpu, (uint32_t)(sp + 8), MEM_32);
}

static void call_return32(struct cpu *cpu, int64_t v)
{
    struct x86_cpu *c = x86(cpu);
    uint32_t sp = (uint32_t)c->regs[R_RSP], to = (uint32_t)cpu_load(cpu, sp, MEM_32);

    c->regs[R_RSP] = (uint32_t)(sp + 4);
    c->regs[R_RAX] = (uint32_t)v;
    cpu->pc = to;
}

static const uint8_t trampoline32[16] = { 0x58, 0xb8, 119, 0, 0, 0, 0xcd, 0x80, 0xb8, 173, 0, 0, 0, 0xcd, 0x80 };

static void context_push(struct cpu *cpu, const struct signal_frame *f, struct context32 *sc, uint64_t fp)
{
    struct x86_cpu *c = x86(cpu);

    *sc = (struct context32){ .gs = c->seg[S_GS].selector, .fs = c->seg[S_FS].selector, .es = c->seg[S_ES].selector,
                              .ds = c->seg[S_DS].selector, .trapno = f->trapno, .err = f->error, .eip = (uint32_t)cpu->pc,
                              .cs = c->seg[S_CS].selector, .eflags = (uint32_t)x86_eflags(c),
                              .esp_at_signal = (uint32_t)c->regs[R_RSP], .ss = c->seg[S_SS].selector, .fpstate = (uint32_t)fp,
                              .oldmask = (uint32_t)f->mask, .cr2 = f->trapno == X_PF ? (uint32_t)f->fault_addr : 0 };
    for (unsigned n = 0; n < sizeof(gpr32); n++)
        memcpy((uint8_t *)&sc->edi + 4 * n, &c->regs[gpr32[n]], 4);
}

/* The 32-bit frame's legacy part is what FSAVE writes, with a status word; then the XSAVE image. */
static void fpstate_push32(struct cpu *cpu, uint64_t fp)
{
    struct x86_cpu *c = x86(cpu);
    uint8_t image[X87_IMAGE];
    uint32_t status;

    fpstate_push(cpu, fp + FSAVE_BYTES);
    x86_fpu_put(c, image);
    status = image[4] | (uint32_t)image[5] << 8;        /* status, and magic 0: an FXSAVE image follows */
    cpu_store_bytes(cpu, fp, image, sizeof(image), 0);
    cpu_store_bytes(cpu, fp + X87_IMAGE, &status, 4, 0);
}

static void handler32(struct cpu *cpu, const struct signal_frame *f, uint32_t sp, uint32_t dx, uint32_t cx)
{
    struct x86_cpu *c = x86(cpu);

    c->regs[R_RAX] = (uint32_t)f->signal;
    c->regs[R_RDX] = dx;
    c->regs[R_RCX] = cx;
    c->regs[R_RSP] = sp;
    segment(c, S_DS, SEL_SS);
    segment(c, S_ES, SEL_SS);
    segment(c, S_SS, SEL_SS);
    segment(c, S_CS, SEL_CS32);
    x86_set_eflags(c, x86_eflags(c) & ~(uint64_t)(EF_DF | EF_TF | EF_RF), UINT64_MAX);
    fpu_init(c);
    cpu->pc = (uint32_t)f->handler;
}

static bool push32(struct cpu *cpu, const struct signal_frame *f)
{
    bool rt = f->flags & SA_SIGINFO;
    uint32_t fp = (uint32_t)((((uint32_t)f->sp - XSAVE_BYTES - 4) & ~63u) - FSAVE_BYTES);
    uint32_t size = rt ? sizeof(struct rt_frame32) : sizeof(struct frame32), sp = (((fp - size) + 4) & ~15u) - 4;
    uint32_t restorer = f->flags & 0x04000000 ? (uint32_t)f->restorer : (uint32_t)f->trampoline + (rt ? 8 : 0);

    cpu_probe(cpu, sp, fp + FP_AREA32 - sp, true, 0);
    fpstate_push32(cpu, fp);
    if (rt) {
        struct rt_frame32 fr = { .pretcode = restorer, .sig = (uint32_t)f->signal, .uc_flags = UC_FP_XSTATE,
                                 .ss_sp = (uint32_t)f->altstack.sp, .ss_flags = f->altstack.flags,
                                 .ss_size = (uint32_t)f->altstack.size, .mask = f->mask };

        fr.pinfo = sp + (uint32_t)offsetof(struct rt_frame32, info);
        fr.puc = sp + (uint32_t)offsetof(struct rt_frame32, uc_flags);
        memcpy(fr.info, f->siginfo, sizeof(fr.info));
        memcpy(fr.retcode, trampoline32 + 8, 7);
        context_push(cpu, f, &fr.sc, fp);
        cpu_store_bytes(cpu, sp, &fr, sizeof(fr), 0);
        handler32(cpu, f, sp, fr.pinfo, fr.puc);
    } else {
        struct frame32 fr = { .pretcode = restorer, .sig = (uint32_t)f->signal, .extramask = (uint32_t)(f->mask >> 32) };

        memcpy(fr.retcode, trampoline32, 8);
        context_push(cpu, f, &fr.sc, fp);
        cpu_store_bytes(cpu, sp, &fr, sizeof(fr), 0);
        handler32(cpu, f, sp, 0, 0);
    }
    return true;
}

static void context_pop(struct cpu *cpu, const struct context32 *sc)
{
    struct x86_cpu *c = x86(cpu);
    uint8_t image[X87_IMAGE];

    if (sc->fpstate) {
        fpstate_pop(cpu, sc->fpstate + FSAVE_BYTES);
        cpu_load_bytes(cpu, sc->fpstate, image, sizeof(image), 0);
        x86_fpu_get(c, image);          /* the x87's part of it counts, as with Linux's fpu__restore_sig() */
    }
    for (unsigned n = 0; n < sizeof(gpr32); n++) {
        uint32_t v;

        memcpy(&v, (const uint8_t *)&sc->edi + 4 * n, 4);
        c->regs[gpr32[n]] = v;
    }
    segment(c, S_GS, (uint16_t)sc->gs);
    segment(c, S_FS, (uint16_t)sc->fs);
    segment(c, S_ES, (uint16_t)sc->es);
    segment(c, S_DS, (uint16_t)sc->ds);
    x86_set_eflags(c, sc->eflags, FLAGS_KEPT);
    cpu->pc = sc->eip;
}

static bool pop32(struct cpu *cpu, bool rt, struct signal_return *out)
{
    uint32_t sp = (uint32_t)x86(cpu)->regs[R_RSP];

    if (rt) {
        struct rt_frame32 fr;

        cpu_load_bytes(cpu, (uint32_t)(sp - 4), &fr, sizeof(fr), 0);
        context_pop(cpu, &fr.sc);
        out->mask = fr.mask;
        out->altstack.sp = fr.ss_sp;
        out->altstack.flags = fr.ss_flags;
        out->altstack.size = fr.ss_size;
        out->has_altstack = true;
    } else {                            /* its code popped the signal's number */
        struct frame32 fr;

        cpu_load_bytes(cpu, (uint32_t)(sp - 8), &fr, sizeof(fr), 0);
        context_pop(cpu, &fr.sc);
        out->mask = (uint64_t)fr.extramask << 32 | fr.sc.oldmask;
    }
    return true;
}

#define COMMON                                                                                                         \
    .cpu_init = cpu_init, .cpu_copy = cpu_copy, .cpu_free = cpu_free, .start = start, .hwcaps = hwcaps,                \
    .cpuinfo = cpuinfo, .event = event, .trap = trap, .fault = fault, .syscall_number = syscall_number, .syscall_args = syscall_args, \
    .syscall_result = syscall_result, .syscall_again = syscall_again, .stack_pointer = stack_pointer,                  \
    .set_stack_pointer = set_stack_pointer, .set_thread_area = set_thread_area, .ldt_write = ldt_write, .ldt_read = ldt_read, .code_protect = true, .default_model = "max"

const struct guest_user user_x86_64 = {
    .guest = &guest_x86_64, .name = "x86_64", .bits = 64, .elf_machine = 62, .uname_machine = "x86_64", .platform = "x86_64",
    .compat = "i386", .syscall_is_compat = syscall_is_compat, .address_end = UINT64_C(0x7ffffffff000), .program_base = UINT64_C(0x2aaaaaa000), .set_tls = set_tls64, .tls = tls64,
    .set_gs_base = set_gs_base, .gs_base = gs_base, .signal_push = push64, .signal_pop = pop64,
    .vdso_stub = vdso_stub64, .call_args = call_args64, .call_return = call_return64, COMMON
};
const struct guest_user user_i386 = {
    .guest = &guest_i386, .name = "i386", .bits = 32, .elf_machine = 3, .uname_machine = "i686", .platform = "i686",
    .address_end = 0xffffe000, .program_base = 0x56555000, .tls = tls32, .signal_push = push32, .signal_pop = pop32,
    .vdso_stub = vdso_stub32, .call_args = call_args32, .call_return = call_return32, .trampoline = trampoline32, .trampoline_size = sizeof(trampoline32), COMMON
};
