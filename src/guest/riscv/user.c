/* RISC-V Linux programs: system calls, signals' frames (Linux: arch/riscv/include/uapi/asm, "RISC-V ABIs specification"), what
 * exceptions become. */
#include <glib.h>
#include <string.h>
#include "rhea/user/guest_user.h"
#include "system.h"

enum { A0 = 10, A7 = 17, SP = 2, TP = 4, RA = 1 };

/* ---- the CPU */

static bool cpu_init(struct cpu *cpu, const char *model, struct error *err)
{
    struct riscv_cpu *c = riscv(cpu);

    if (!riscv_cpu_init(cpu, NULL, model ? model : "max", err))
        return false;
    riscv_reset(cpu);
    c->priv = PRV_U;
    c->mstatus |= MSTATUS_FS;
    c->mcounteren = c->scounteren = 7;  /* cycle, time, instret */
    c->menvcfg |= ENVCFG_CBIE | ENVCFG_CBCFE | ENVCFG_CBZE;
    c->senvcfg = ENVCFG_CBCFE | ENVCFG_CBZE | 1 << ENVCFG_CBIE_SHIFT;
    return true;
}

static void cpu_copy(struct cpu *to, struct cpu *from)
{
    struct riscv_cpu *c = riscv(to);

    c->identity = g_memdup2(c->identity, sizeof(struct riscv_identity));
    c->sys = g_memdup2(c->sys, sizeof(struct riscv_system));
    pthread_mutex_init(&riscv_sys(c)->timer_lock, NULL);
    c->reserved_addr = RISCV_NOT_RESERVED;
}

static void start(struct cpu *cpu, uint64_t entry, uint64_t sp)
{
    struct riscv_cpu *c = riscv(cpu);

    memset(c->x, 0, sizeof(c->x));
    c->x[SP] = c->xlen == 32 ? (uint64_t)(int32_t)sp : sp;
    cpu->pc = entry;
}

/* COMPAT_HWCAP_ISA_*: a bit for each of the single letters */
static void hwcaps(const struct cpu *cpu, uint64_t out[2])
{
    static const struct { uint8_t feature; char letter; } letters[] = {
        { RVF_I, 'i' }, { RVF_M, 'm' }, { RVF_A, 'a' }, { RVF_F, 'f' }, { RVF_D, 'd' }, { RVF_C, 'c' }, { RVF_V, 'v' },
    };
    const struct riscv_cpu *c = (const struct riscv_cpu *)cpu;

    out[0] = out[1] = 0;
    for (unsigned n = 0; n < G_N_ELEMENTS(letters); n++)
        if (riscv_has(&c->features, letters[n].feature))
            out[0] |= UINT64_C(1) << (letters[n].letter - 'a');
}

/* Keys and values of riscv_hwprobe(): kernel, Documentation/arch/riscv/hwprobe, as of 6.12. */
enum { HWPROBE_IMA_EXT_0 = 4, HWPROBE_FAST = 3, CBOZ_BLOCK = 64 };

static uint64_t hwprobe_extensions(const struct riscv_cpu *c)
{
    static const struct { uint8_t feature, bit; } bits[] = {
        { RVF_C, 1 }, { RVF_V, 2 }, { RVF_Zba, 3 }, { RVF_Zbb, 4 }, { RVF_Zbs, 5 }, { RVF_Zicboz, 6 }, { RVF_Zbc, 7 }, { RVF_Zbkb, 8 },
        { RVF_Zbkc, 9 }, { RVF_Zbkx, 10 }, { RVF_Zknd, 11 }, { RVF_Zkne, 12 }, { RVF_Zknh, 13 }, { RVF_Zksed, 14 }, { RVF_Zksh, 15 },
        { RVF_Zkt, 16 }, { RVF_Zfh, 27 }, { RVF_Zfhmin, 28 }, { RVF_Zihintntl, 29 }, { RVF_Zfa, 32 }, { RVF_Zacas, 34 },
        { RVF_Zicond, 35 }, { RVF_Zihintpause, 36 }, { RVF_Zimop, 42 }, { RVF_Zca, 43 }, { RVF_Zcb, 44 }, { RVF_Zcd, 45 },
        { RVF_Zcf, 46 }, { RVF_Zcmop, 47 }, { RVF_Zawrs, 48 },
    };
    uint64_t v = riscv_has(&c->features, RVF_F) && riscv_has(&c->features, RVF_D) ? 1 : 0;

    for (unsigned n = 0; n < G_N_ELEMENTS(bits); n++)
        v |= (uint64_t)riscv_has(&c->features, bits[n].feature) << bits[n].bit;
    return v;
}

static bool hwprobe(const struct cpu *cpu, int64_t key, uint64_t *v)
{
    const struct riscv_cpu *c = (const struct riscv_cpu *)cpu;

    switch (key) {
    case 0: case 1: case 2: *v = 0; return true;        /* mvendorid, marchid, mimpid */
    case 3:
        *v = riscv_has(&c->features, RVF_M) && riscv_has(&c->features, RVF_A);
        return true;
    case HWPROBE_IMA_EXT_0: *v = hwprobe_extensions(c); return true;
    case 5: case 9: *v = HWPROBE_FAST; return true;     /* misaligned scalar accesses */
    case 6: *v = riscv_has(&c->features, RVF_Zicboz) ? CBOZ_BLOCK : 0; return true;
    default: return false;
    }
}

static char *cpuinfo(const struct cpu *cpu, unsigned n)
{
    const struct riscv_cpu *c = (const struct riscv_cpu *)cpu;
    g_autofree char *isa = riscv_isa_string(&c->features);

    return g_strdup_printf("processor\t: %u\nhart\t\t: %u\nisa\t\t: %s\nmmu\t\t: %s\nmvendorid\t: %#" G_GINT64_MODIFIER
                           "x\nmarchid\t\t: %#" G_GINT64_MODIFIER "x\nmimpid\t\t: %#" G_GINT64_MODIFIER "x\n\n",
                           n, n, isa, c->xlen == 32 ? "sv32" : "sv48", c->mvendorid, c->marchid, c->mimpid);
}

/* ---- exceptions */

static void event(struct cpu *cpu, struct user_event *ev)
{
    struct riscv_cpu *c = riscv(cpu);

    *ev = (struct user_event){ .kind = EVENT_SIGNAL, .signal = SIGILL, .code = ILL_ILLOPC, .addr = cpu->pc };
    switch (cpu->exception) {
    case CAUSE_ECALL_U:
        ev->kind = EVENT_SYSCALL;
        cpu->pc += 4;
        break;
    case CAUSE_BREAKPOINT:
        ev->signal = SIGTRAP;
        ev->code = TRAP_BRKPT;
        break;
    case CAUSE_LOAD_MISALIGNED: case CAUSE_STORE_MISALIGNED: case CAUSE_FETCH_MISALIGNED:
        ev->signal = SIGBUS;
        ev->code = BUS_ADRALN;
        ev->addr = c->fault_value;
        break;
    case CAUSE_LOAD_ACCESS: case CAUSE_STORE_ACCESS: case CAUSE_FETCH_ACCESS:
        ev->signal = SIGSEGV;
        ev->code = SEGV_ACCERR;
        ev->addr = c->fault_value;
        break;
    default:
        break;
    }
}

static void fault(struct cpu *cpu, struct user_event *ev, enum mmu_access access)
{
    static const uint8_t cause[] = { CAUSE_LOAD_PAGE, CAUSE_STORE_PAGE, CAUSE_FETCH_PAGE };

    ev->trapno = cause[access];
}

/* ---- system calls */

static uint64_t syscall_number(const struct cpu *cpu) { return ((const struct riscv_cpu *)cpu)->x[A7]; }

static void syscall_args(const struct cpu *cpu, uint64_t args[6])
{
    const struct riscv_cpu *c = (const struct riscv_cpu *)cpu;

    for (unsigned n = 0; n < 6; n++)
        args[n] = c->xlen == 32 ? (uint32_t)c->x[A0 + n] : c->x[A0 + n];
}

static void syscall_result(struct cpu *cpu, int64_t v)
{
    struct riscv_cpu *c = riscv(cpu);

    c->x[A0] = c->xlen == 32 ? (uint64_t)(int32_t)v : (uint64_t)v;
}

static void syscall_again(struct cpu *cpu) { cpu->pc -= 4; }

static uint64_t short_address(const struct riscv_cpu *c, uint64_t v) { return c->xlen == 32 ? (uint32_t)v : v; }
static uint64_t stack_pointer(const struct cpu *cpu)
{
    return short_address((const struct riscv_cpu *)cpu, ((const struct riscv_cpu *)cpu)->x[SP]);
}
static uint64_t reg_value(const struct riscv_cpu *c, uint64_t v) { return c->xlen == 32 ? (uint64_t)(int32_t)v : v; }
static void set_stack_pointer(struct cpu *cpu, uint64_t sp) { riscv(cpu)->x[SP] = reg_value(riscv(cpu), sp); }
static void set_tls(struct cpu *cpu, uint64_t v) { riscv(cpu)->x[TP] = reg_value(riscv(cpu), v); }
static uint64_t tls(const struct cpu *cpu) { return ((const struct riscv_cpu *)cpu)->x[TP]; }

/* ---- signals. struct rt_sigframe: siginfo, ucontext; the sigcontext at its end holds pc, x1 to x31, and the union of the
 * floating-point states, whose tail is the header of extensions: none. */

struct layout { uint16_t word, stack, mask, regs, fp, size; };
enum { INFO_BYTES = 128, FP_BYTES = 528, FP_FCSR = 256 };
static const struct layout layout64 = { 8, INFO_BYTES + 16, INFO_BYTES + 40, INFO_BYTES + 176, INFO_BYTES + 176 + 256,
                                        INFO_BYTES + 176 + 256 + FP_BYTES };
static const struct layout layout32 = { 4, INFO_BYTES + 8, INFO_BYTES + 20, INFO_BYTES + 160, INFO_BYTES + 160 + 128,
                                        INFO_BYTES + 160 + 128 + FP_BYTES };
enum { FRAME_MAX = INFO_BYTES + 176 + 256 + FP_BYTES };
static const struct layout *layout_of(const struct riscv_cpu *c) { return c->xlen == 32 ? &layout32 : &layout64; }

static void put(uint8_t *frame, const struct layout *l, unsigned at, uint64_t v) { memcpy(frame + at, &v, l->word); }
static uint64_t get(const uint8_t *frame, const struct layout *l, unsigned at)
{
    uint64_t v = 0;

    memcpy(&v, frame + at, l->word);
    return l->word == 4 ? (uint64_t)(int32_t)v : v;
}

static bool signal_push(struct cpu *cpu, const struct signal_frame *f)
{
    struct riscv_cpu *c = riscv(cpu);
    const struct layout *l = layout_of(c);
    uint8_t frame[FRAME_MAX] = { 0 };
    uint64_t sp = (f->sp - l->size) & ~UINT64_C(15);
    uint32_t fcsr = riscv_fflags(c) | c->frm << 5, flags = f->altstack.flags;

    memcpy(frame, f->siginfo, INFO_BYTES);
    put(frame, l, l->stack, f->altstack.sp);
    memcpy(frame + l->stack + l->word, &flags, 4);
    put(frame, l, l->stack + 2 * l->word, f->altstack.size);
    memcpy(frame + l->mask, &f->mask, 8);
    put(frame, l, l->regs, cpu->pc);
    for (unsigned n = 1; n < 32; n++)
        put(frame, l, l->regs + n * l->word, c->x[n]);
    for (unsigned n = 0; n < 32; n++)
        memcpy(frame + l->fp + 8 * n, &c->f[n].lo, 8);
    memcpy(frame + l->fp + FP_FCSR, &fcsr, 4);
    cpu_store_bytes(cpu, sp, frame, l->size, 0);
    c->x[RA] = reg_value(c, f->trampoline);
    c->x[SP] = reg_value(c, sp);
    c->x[A0] = (uint64_t)f->signal;
    c->x[A0 + 1] = reg_value(c, sp);
    c->x[A0 + 2] = reg_value(c, sp + INFO_BYTES);
    c->reserved_addr = RISCV_NOT_RESERVED;
    cpu->pc = f->handler;
    return true;
}

static bool signal_pop(struct cpu *cpu, bool rt, struct signal_return *out)
{
    struct riscv_cpu *c = riscv(cpu);
    const struct layout *l = layout_of(c);
    uint8_t frame[FRAME_MAX];
    uint32_t fcsr;

    cpu_load_bytes(cpu, stack_pointer(cpu), frame, l->size, 0);
    cpu->pc = short_address(c, get(frame, l, l->regs)) & ~UINT64_C(1);
    for (unsigned n = 1; n < 32; n++)
        c->x[n] = get(frame, l, l->regs + n * l->word);
    for (unsigned n = 0; n < 32; n++)
        memcpy(&c->f[n].lo, frame + l->fp + 8 * n, 8);
    memcpy(&fcsr, frame + l->fp + FP_FCSR, 4);
    riscv_set_fflags(c, fcsr & 31);
    riscv_set_frm(c, fcsr >> 5 & 7);
    memcpy(&out->mask, frame + l->mask, 8);
    out->altstack.sp = short_address(c, get(frame, l, l->stack));
    memcpy(&out->altstack.flags, frame + l->stack + l->word, 4);
    out->altstack.size = short_address(c, get(frame, l, l->stack + 2 * l->word));
    out->has_altstack = true;
    c->reserved_addr = RISCV_NOT_RESERVED;
    return true;
}

/* ---- calls of C functions (RISC-V calling convention): the vdso's */

static void vdso_stub(uint8_t out[VDSO_SLOT], unsigned nr)
{
    const uint32_t code[] = { nr << 20 | 0x893 /* li a7, nr */, 0x00000073 /* ecall */, 0x00008067 /* ret */ };

    memcpy(out, code, sizeof(code));
}

static void call_args(struct cpu *cpu, uint64_t args[2]) { memcpy(args, riscv(cpu)->x + A0, 2 * sizeof(*args)); }
static void call_return(struct cpu *cpu, int64_t v)
{
    riscv(cpu)->x[A0] = (uint64_t)v;
    cpu->pc = riscv(cpu)->x[RA] & ~UINT64_C(1);
}

static const uint32_t trampoline[] = { 0x08b00893 /* li a7, 139 */, 0x00000073 /* ecall */ };

#define COMMON                                                                                                         \
    .cpu_init = cpu_init, .cpu_copy = cpu_copy, .cpu_free = riscv_cpu_free, .start = start, .hwcaps = hwcaps,          \
    .cpuinfo = cpuinfo, .hwprobe = hwprobe, .event = event, .fault = fault, .syscall_number = syscall_number, .syscall_args = syscall_args, \
    .syscall_result = syscall_result, .syscall_again = syscall_again, .stack_pointer = stack_pointer,                  \
    .set_stack_pointer = set_stack_pointer, .set_tls = set_tls, .tls = tls, .signal_push = signal_push,                \
    .signal_pop = signal_pop, .vdso_stub = vdso_stub, .call_args = call_args, .call_return = call_return, .trampoline = trampoline, .trampoline_size = sizeof(trampoline), .default_model = "max", \
    .elf_machine = 243

const struct guest_user user_riscv64 = { .guest = &guest_riscv64, .name = "riscv64", .bits = 64, .uname_machine = "riscv64",
                                         .address_end = UINT64_C(1) << 47, .program_base = UINT64_C(0x2aaaaaa000), COMMON };
const struct guest_user user_riscv32 = { .guest = &guest_riscv32, .name = "riscv32", .bits = 32, .uname_machine = "riscv32",
                                         .address_end = 0xc0000000, .program_base = 0x40000000, COMMON };
