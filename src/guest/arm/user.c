/* Arm Linux programs, AArch64 and AArch32: system calls, signals' frames (Linux: arch/arm64 and arch/arm, uapi/asm/sigcontext.h,
 * ucontext.h), what exceptions become. */
#include <glib.h>
#include <string.h>
#include "rhea/user/guest_user.h"
#include "system.h"

enum { FSC_ALIGN = 0x21 };
static unsigned ec_of(uint32_t syndrome) { return syndrome >> 26; }

/* ---- the CPU */

static bool cpu_init64(struct cpu *cpu, const char *model, struct error *err)
{
    struct arm_cpu *c = arm(cpu);

    if (!arm_cpu_init(cpu, NULL, model ? model : "max", err))
        return false;
    arm_cpu_reset(cpu);
    c->sys.sctlr[1] |= SCTLR_BT0 | SCTLR_UCI | SCTLR_UCT | SCTLR_DZE | SCTLR_NTWI | SCTLR_NTWE | SCTLR_SA0 | SCTLR_M;
    c->sys.cpacr |= 3u << 20;
    c->sys.user_mode = true;
    c->sys.cntkctl |= 3;                /* EL0PCTEN, EL0VCTEN */
    c->daif = 0;
    arm_set_sp_el(c, 0, 0);
    return true;
}

static bool cpu_init32(struct cpu *cpu, const char *model, struct error *err)
{
    struct arm_cpu *c = arm(cpu);

    if (!arm_cpu_init(cpu, NULL, model ? model : "max", err))
        return false;
    arm_cpu_reset(cpu);
    for (unsigned el = 1; el < 4; el++) {
        c->sys.sctlr[el] &= ~(SCTLR_A | SCTLR_EE | SCTLR_ITD | SCTLR_SED);
        c->sys.sctlr[el] |= SCTLR_CP15BEN | SCTLR_NTWI | SCTLR_NTWE;
    }
    c->sys.cpacr |= 0xfu << 20;
    c->sys.scr |= SCR_NS;
    c->sys.nsacr |= 0xc00;
    c->sys.fpexc |= BIT(30);
    c->sys.cntkctl |= 3;
    arm_set_cpsr_raw(c, M_USR);
    return true;
}

static void cpu_copy(struct cpu *to, struct cpu *from)
{
    struct arm_cpu *c = arm(to);

    for (unsigned n = 0; n < ARM_TIMER_COUNT; n++)
        c->sys.timer[n].cpu = c;
    pthread_mutex_init(&c->sys.timer_lock, NULL);
    c->ex_bytes = 0;
}

/* The identity is shared by all threads, and stays. */
static void cpu_free(struct cpu *cpu) { }

static void start64(struct cpu *cpu, uint64_t entry, uint64_t sp)
{
    struct arm_cpu *c = arm(cpu);

    memset(c->x, 0, sizeof(c->x));
    c->sp = sp;
    cpu->pc = entry;
}

static void start32(struct cpu *cpu, uint64_t entry, uint64_t sp)
{
    struct arm_cpu *c = arm(cpu);

    memset(c->x, 0, sizeof(c->x));
    c->x[13] = sp;
    c->thumb = entry & 1;
    cpu->pc = entry & ~UINT64_C(1);
}

/* arch/arm64/include/uapi/asm/mman.h: PROT_BTI */
static unsigned guard_bits64(const struct cpu *cpu) { return arm_has(&((const struct arm_cpu *)cpu)->features, AF_BTI) ? 0x10 : 0; }

static void guard64(struct cpu *cpu, bool (*guarded)(struct cpu *cpu, uint64_t va))
{
    struct arm_cpu *c = arm(cpu);

    __atomic_store_n(&c->sys.user_guarded, guarded, __ATOMIC_RELEASE);
    __atomic_store_n(&c->sys.guarded, true, __ATOMIC_SEQ_CST);          /* MODE_BTI */
}

struct hwcap { uint16_t feature; uint8_t word, bit; };

static void hwcaps_of(const struct cpu *cpu, uint64_t out[2], const struct hwcap *h, unsigned n)
{
    const struct arm_cpu *c = (const struct arm_cpu *)cpu;

    out[0] = out[1] = 0;
    for (unsigned k = 0; k < n; k++)
        if (arm_has(&c->features, h[k].feature))
            out[h[k].word] |= UINT64_C(1) << h[k].bit;
}

/* Documentation/arch/arm64/elf_hwcaps.rst. USCAT is left out as arm_id() leaves out FEAT_LSE2. Pointer authentication is not
 * announced: its keys are off (PACIASP and the like do nothing). */
static void hwcaps64(const struct cpu *cpu, uint64_t out[2])
{
    static const struct hwcap table[] = {
        { AF_FP, 0, 0 }, { AF_AdvSIMD, 0, 1 }, { AF_AES, 0, 3 }, { AF_PMULL, 0, 4 }, { AF_SHA1, 0, 5 }, { AF_SHA256, 0, 6 },
        { AF_CRC32, 0, 7 }, { AF_LSE, 0, 8 }, { AF_FP16, 0, 9 }, { AF_FP16, 0, 10 }, { AF_RDM, 0, 12 }, { AF_JSCVT, 0, 13 },
        { AF_FCMA, 0, 14 }, { AF_LRCPC, 0, 15 }, { AF_DPB, 0, 16 }, { AF_SHA3, 0, 17 }, { AF_SM3, 0, 18 }, { AF_SM4, 0, 19 },
        { AF_DotProd, 0, 20 }, { AF_SHA512, 0, 21 }, { AF_FHM, 0, 23 }, { AF_DIT, 0, 24 },
        { AF_LRCPC2, 0, 26 }, { AF_FlagM, 0, 27 }, { AF_SSBS2, 0, 28 }, { AF_SB, 0, 29 }, { AF_DPB2, 1, 0 }, { AF_FlagM2, 1, 7 },
        { AF_FRINTTS, 1, 8 }, { AF_I8MM, 1, 13 }, { AF_BF16, 1, 14 }, { AF_RNG, 1, 16 }, { AF_BTI, 1, 17 }, { AF_AFP, 1, 20 }, { AF_RPRES, 1, 21 },
        { AF_WFxT, 1, 31 }, { AF_CSSC, 1, 34 }, { AF_MOPS, 1, 43 }, { AF_HBC, 1, 44 },
    };

    hwcaps_of(cpu, out, table, G_N_ELEMENTS(table));
}

static void hwcaps32(const struct cpu *cpu, uint64_t out[2])
{
    static const struct hwcap table[] = {
        { AF_VFP2, 0, 6 }, { AF_NEON, 0, 12 }, { AF_VFP3, 0, 13 }, { AF_VFP4, 0, 16 }, { AF_IDIVA, 0, 17 }, { AF_IDIVT, 0, 18 },
        { AF_VFPD32, 0, 19 }, { AF_LPAE, 0, 20 }, { AF_FP16, 0, 22 }, { AF_FP16, 0, 23 }, { AF_DotProd, 0, 24 }, { AF_AES, 1, 0 }, { AF_PMULL, 1, 1 }, { AF_SHA1, 1, 2 }, { AF_SHA256, 1, 3 },
        { AF_CRC32, 1, 4 }, { AF_SB, 1, 5 }, { AF_SSBS, 1, 6 },
    };

    hwcaps_of(cpu, out, table, G_N_ELEMENTS(table));
    out[0] |= 1 << 1 | 1 << 2 | 1 << 4 | 1 << 7 | 1 << 15;      /* half thumb fast-mult edsp tls */
}

static char *cpuinfo(const struct cpu *cpu, unsigned n)
{
    const struct arm_cpu *c = (const struct arm_cpu *)cpu;
    uint64_t midr = arm_id(c, ARM_SYSREG(3, 0, 0, 0, 0));

    return g_strdup_printf("processor\t: %u\n%sBogoMIPS\t: 125.00\nFeatures\t: %s\nCPU implementer\t: 0x%02x\n"
                           "CPU architecture: %s\nCPU variant\t: 0x%x\nCPU part\t: 0x%03x\nCPU revision\t: %u\n\n",
                           n, c->aarch32 ? "model name\t: ARMv7 Processor rev 1 (v7l)\n" : "",
                           c->aarch32 ? "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae"
                                      : "fp asimd aes pmull sha1 sha2 crc32 atomics asimdrdm lrcpc asimddp",
                           (unsigned)(midr >> 24 & 255), c->aarch32 ? "7" : "8", (unsigned)(midr >> 20 & 15),
                           (unsigned)(midr >> 4 & 0xfff), (unsigned)(midr & 15));
}

/* ---- exceptions */

/* What the kernel takes for a breakpoint: UDF #16 of A32, UDF #1 of T32. */
static bool is_breakpoint32(struct arm_cpu *c)
{
    uint16_t half[2];

    cpu_load_bytes(&c->cpu, c->cpu.pc, half, c->thumb ? 2 : 4, 0);
    return c->thumb ? half[0] == 0xde01 : (((uint32_t)half[1] << 16 | half[0]) & 0x0fffffff) == 0x07f001f0;
}

static void event_undefined(struct arm_cpu *c, struct user_event *ev)
{
    ev->signal = SIGILL;
    ev->code = ILL_ILLOPC;
    if (c->aarch32 && is_breakpoint32(c)) {
        ev->signal = SIGTRAP;
        ev->code = TRAP_BRKPT;
    }
}

static void event(struct cpu *cpu, struct user_event *ev)
{
    struct arm_cpu *c = arm(cpu);
    uint32_t syndrome = c->exc_syndrome;

    c->halted = false;
    *ev = (struct user_event){ .kind = EVENT_SIGNAL, .addr = cpu->pc, .error = syndrome };
    if (cpu->exception == ARM_EXC_HALT) {
        ev->kind = EVENT_NONE;
        return;
    }
    switch (ec_of(syndrome)) {
    case EC_SVC64: case EC_SVC32:
        ev->kind = EVENT_SYSCALL;
        cpu->pc += c->aarch32 && c->thumb ? 2 : 4;
        if (c->aarch32)
            cpu->pc = (uint32_t)cpu->pc;
        break;
    case EC_BRK64: case EC_BKPT32:
        ev->signal = SIGTRAP;
        ev->code = TRAP_BRKPT;
        break;
    case EC_PC_ALIGN: case EC_SP_ALIGN:
        ev->signal = SIGBUS;
        ev->code = BUS_ADRALN;
        if (ec_of(syndrome) == EC_SP_ALIGN)
            ev->addr = c->sp;
        break;
    case EC_DABT_LOWER: case EC_DABT:
        ev->signal = (syndrome & 0x3f) == FSC_ALIGN ? SIGBUS : SIGSEGV;
        ev->code = ev->signal == SIGBUS ? BUS_ADRALN : SEGV_MAPERR;
        ev->addr = c->exc_far;
        break;
    default:
        event_undefined(c, ev);
    }
}

/* AArch32: the kernel's helpers in the vector page (Documentation/arch/arm/kernel_user_helpers.rst), done where a program
 * jumps to them. */
static bool kuser(struct arm_cpu *c, uint64_t va)
{
    uint32_t r0 = (uint32_t)c->x[0], old;
    uint64_t expected, seen;
    memop m64 = MEM_64;

    switch (va) {
    case 0xffff0fa0:                    /* memory barrier */
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        break;
    case 0xffff0fc0:                    /* r0: old, r1: new, r2: pointer */
        old = (uint32_t)cpu_atomic(&c->cpu, IR_ATOMIC_CAS, (uint32_t)c->x[2], MEM_32, (uint32_t)c->x[1], r0);
        c->x[0] = old != r0;
        arm_pstate_set_nzcv(c, old == r0 ? 0x60000000 : 0);     /* C: it was stored */
        break;
    case 0xffff0fe0:
        c->x[0] = (uint32_t)c->sys.tpidrro;
        break;
    case 0xffff0f60:                    /* *r0: old, *r1: new, r2: pointer */
        expected = cpu_load(&c->cpu, r0, m64);
        seen = cpu_atomic(&c->cpu, IR_ATOMIC_CAS, (uint32_t)c->x[2], m64, cpu_load(&c->cpu, (uint32_t)c->x[1], m64), expected);
        c->x[0] = seen != expected;
        arm_pstate_set_nzcv(c, seen == expected ? 0x60000000 : 0);
        break;
    default:
        return false;
    }
    c->thumb = c->x[14] & 1;
    c->cpu.pc = (uint32_t)c->x[14] & ~UINT32_C(1);
    return true;
}

/* ESR_EL1 as the kernel puts it into the frame: an abort from below, translation or permission fault at level 3. */
static void fault(struct cpu *cpu, struct user_event *ev, enum mmu_access access)
{
    struct arm_cpu *c = arm(cpu);
    uint32_t fsc = ev->code == SEGV_ACCERR ? 0x0f : 0x07;

    if (c->aarch32 && access == ACCESS_EXEC && kuser(c, ev->addr)) {
        ev->kind = EVENT_NONE;
        return;
    }
    if (c->aarch32) {                   /* DFSR */
        ev->error = (ev->code == SEGV_ACCERR ? 0x0d : 0x05) | (access == ACCESS_WRITE ? 1u << 11 : 0);
        ev->trapno = access == ACCESS_EXEC ? 0 : 14;
        return;
    }
    ev->error = ARM_SYNDROME(access == ACCESS_EXEC ? EC_IABT_LOWER : EC_DABT_LOWER, fsc | (access == ACCESS_WRITE ? 1u << 6 : 0));
}

/* ---- system calls */

static uint64_t number64(const struct cpu *cpu) { return ((const struct arm_cpu *)cpu)->x[8]; }
static uint64_t number32(const struct cpu *cpu)
{
    const struct arm_cpu *c = (const struct arm_cpu *)cpu;
    uint32_t imm = c->thumb ? c->exc_syndrome & 0xff : c->exc_syndrome & 0xffff;

    return imm > 0 ? imm : (uint32_t)c->x[7];   /* the old interface has the number in the instruction */
}

static void args64(const struct cpu *cpu, uint64_t args[6]) { memcpy(args, ((const struct arm_cpu *)cpu)->x, 6 * sizeof(*args)); }
static void args32(const struct cpu *cpu, uint64_t args[6])
{
    for (unsigned n = 0; n < 6; n++)
        args[n] = (uint32_t)((const struct arm_cpu *)cpu)->x[n];
}
static void result64(struct cpu *cpu, int64_t v) { arm(cpu)->x[0] = (uint64_t)v; }
static void result32(struct cpu *cpu, int64_t v) { arm(cpu)->x[0] = (uint32_t)v; }
static void again64(struct cpu *cpu) { cpu->pc -= 4; }
static void again32(struct cpu *cpu) { cpu->pc = (uint32_t)(cpu->pc - (arm(cpu)->thumb ? 2 : 4)); }
static uint64_t sp64(const struct cpu *cpu) { return ((const struct arm_cpu *)cpu)->sp; }
static uint64_t sp32(const struct cpu *cpu) { return (uint32_t)((const struct arm_cpu *)cpu)->x[13]; }
static void set_sp64(struct cpu *cpu, uint64_t sp) { arm(cpu)->sp = sp; }
static void set_sp32(struct cpu *cpu, uint64_t sp) { arm(cpu)->x[13] = (uint32_t)sp; }
static void set_tls64(struct cpu *cpu, uint64_t v) { arm(cpu)->sys.tpidr[0] = v; }
static uint64_t tls64(const struct cpu *cpu) { return ((const struct arm_cpu *)cpu)->sys.tpidr[0]; }
static void set_tls32(struct cpu *cpu, uint64_t v) { arm(cpu)->sys.tpidrro = (uint32_t)v; }
static uint64_t tls32(const struct cpu *cpu) { return ((const struct arm_cpu *)cpu)->sys.tpidrro; }

/* ---- AArch64 signals */

struct __attribute__((packed)) frame64 {
    uint8_t info[128];
    uint64_t uc_flags, uc_link, ss_sp;
    uint32_t ss_flags, pad;
    uint64_t ss_size, mask;
    uint8_t unused[128];                /* of a larger sigset_t, and to a multiple of 16 */
    uint64_t fault_address, regs[31], sp, pc, pstate, pad2;
    struct { uint32_t magic, size, fpsr, fpcr; struct { uint64_t lo, hi; } v[32]; } fpsimd;
    struct { uint32_t magic, size; uint64_t esr; } esr;
    uint64_t end;
    uint8_t reserved[4096 - 528 - 16 - 8];
};
_Static_assert(sizeof(struct frame64) == 128 + 176 + 288 + 4096, "Linux: struct rt_sigframe");
enum { FPSIMD_MAGIC = 0x46508001, ESR_MAGIC = 0x45535201, EXTRA_MAGIC = 0x45585401 };
#define PSTATE_USER UINT64_C(0xf1e00c00)        /* NZCV, DIT, SS ... BTYPE */

static uint64_t pstate64(const struct arm_cpu *c)
{
    return arm_pstate_nzcv(c) | (c->dit ? BIT(24) : 0) | (c->ssbs ? BIT(12) : 0) | (uint64_t)c->btype << 10;
}

static bool push64(struct cpu *cpu, const struct signal_frame *f)
{
    struct arm_cpu *c = arm(cpu);
    uint64_t top = (f->sp & ~UINT64_C(15)) - 16, sp = top - sizeof(struct frame64), record[2] = { c->x[29], c->x[30] };
    struct frame64 *fr = g_new0(struct frame64, 1);

    memcpy(fr->info, f->siginfo, sizeof(fr->info));
    fr->ss_sp = f->altstack.sp;
    fr->ss_flags = f->altstack.flags;
    fr->ss_size = f->altstack.size;
    fr->mask = f->mask;
    fr->fault_address = f->fault_addr;
    memcpy(fr->regs, c->x, sizeof(fr->regs));
    fr->sp = c->sp;
    fr->pc = cpu->pc;
    fr->pstate = pstate64(c);
    fr->fpsimd.magic = FPSIMD_MAGIC;
    fr->fpsimd.size = sizeof(fr->fpsimd);
    fr->fpsimd.fpsr = arm_fpsr(c);
    fr->fpsimd.fpcr = c->fpcr;
    memcpy(fr->fpsimd.v, c->q, sizeof(fr->fpsimd.v));
    if (f->error) {
        fr->esr.magic = ESR_MAGIC;
        fr->esr.size = sizeof(fr->esr);
        fr->esr.esr = f->error;
    }
    cpu_probe(cpu, sp, sizeof(*fr) + 16, true, 0);
    cpu_store_bytes(cpu, sp, fr, sizeof(*fr), 0);
    cpu_store_bytes(cpu, top, record, sizeof(record), 0);
    g_free(fr);
    c->x[0] = (uint64_t)f->signal;
    if (f->flags & SA_SIGINFO) {
        c->x[1] = sp;
        c->x[2] = sp + 128;
    }
    c->x[29] = top;
    c->x[30] = f->flags & 0x04000000 ? f->restorer : f->trampoline;
    c->sp = sp;
    c->btype = c->sys.guarded ? 2 : 0;  /* as if called */
    c->ex_bytes = 0;
    cpu->pc = f->handler;
    return true;
}

/* The records of the reserved space, in any order; extra_context would lead to more, which we never write. */
static bool records64(struct arm_cpu *c, const uint8_t *r, unsigned n)
{
    unsigned at = 0;

    while (at + 8 <= n) {
        uint32_t head[2], fp[2];

        memcpy(head, r + at, sizeof(head));
        if (!head[0] && !head[1])
            return true;
        if (head[1] < 16 || head[1] & 15 || head[1] > n - at)
            return false;
        if (head[0] == FPSIMD_MAGIC) {
            if (head[1] != 528)
                return false;
            memcpy(fp, r + at + 8, sizeof(fp));
            arm_set_fpsr(c, fp[0]);
            arm_set_fpcr(c, fp[1]);
            memcpy(c->q, r + at + 16, sizeof(c->q));
        }
        at += head[1];
    }
    return true;
}

static bool pop64(struct cpu *cpu, bool rt, struct signal_return *out)
{
    struct arm_cpu *c = arm(cpu);
    struct frame64 fr;

    if (c->sp & 15)
        return false;
    cpu_load_bytes(cpu, c->sp, &fr, sizeof(fr), 0);
    if (!records64(c, (const uint8_t *)&fr.fpsimd, 4096))
        return false;
    memcpy(c->x, fr.regs, sizeof(fr.regs));
    c->sp = fr.sp;
    cpu->pc = fr.pc;
    arm_pstate_set_nzcv(c, (uint32_t)fr.pstate & 0xf0000000);
    c->dit = fr.pstate >> 24 & 1;
    c->ssbs = fr.pstate >> 12 & 1;
    c->btype = c->sys.guarded ? fr.pstate >> 10 & 3 : 0;
    c->ex_bytes = 0;
    out->mask = fr.mask;
    out->altstack.sp = fr.ss_sp;
    out->altstack.flags = fr.ss_flags;
    out->altstack.size = fr.ss_size;
    out->has_altstack = true;
    return true;
}

/* ---- calls of C functions (AAPCS, AAPCS64): the vdso's */

static void vdso_stub64(uint8_t out[VDSO_SLOT], unsigned nr)
{
    const uint32_t code[] = { 0xd2800008 | nr << 5 /* mov x8, #nr */, 0xd4000001 /* svc #0 */, 0xd65f03c0 /* ret */ };

    memcpy(out, code, sizeof(code));
}

static void call_args64(struct cpu *cpu, uint64_t args[2]) { memcpy(args, arm(cpu)->x, 2 * sizeof(*args)); }
static void call_return64(struct cpu *cpu, int64_t v)
{
    arm(cpu)->x[0] = (uint64_t)v;
    arm(cpu)->btype = 0;
    cpu->pc = arm(cpu)->x[30];
}

static void vdso_stub32(uint8_t out[VDSO_SLOT], unsigned nr)
{
    const uint32_t code[] = { 0xe52d7004 /* push {r7} */, 0xe3007000 | (nr & 0xfff) /* movw r7, #nr */, 0xef000000 /* svc #0 */,
                              0xe49d7004 /* pop {r7} */, 0xe12fff1e /* bx lr */ };

    memcpy(out, code, sizeof(code));
}

static void call_args32(struct cpu *cpu, uint64_t args[2])
{
    args[0] = (uint32_t)arm(cpu)->x[0];
    args[1] = (uint32_t)arm(cpu)->x[1];
}

static void call_return32(struct cpu *cpu, int64_t v)
{
    struct arm_cpu *c = arm(cpu);

    c->x[0] = (uint32_t)v;
    c->thumb = c->x[14] & 1;
    cpu->pc = (uint32_t)c->x[14] & ~UINT32_C(1);
}

static const uint32_t trampoline64[] = { 0xd2801168 /* mov x8, #139 */, 0xd4000001 /* svc #0 */ };

/* ---- AArch32 signals: struct sigframe, preceded by siginfo in struct rt_sigframe */

struct __attribute__((packed)) frame32 {
    uint32_t uc_flags, uc_link, ss_sp, ss_flags, ss_size;
    uint32_t trap_no, error_code, oldmask, r[16], cpsr, fault_address;
    uint64_t mask;
    uint8_t unused[120];
    struct { uint32_t magic, size; uint64_t d[32]; uint32_t fpscr, pad, fpexc, fpinst, fpinst2, pad2; } vfp;
    uint8_t regspace[512 - 288];
    uint32_t retcode[4];
};
_Static_assert(sizeof(struct frame32) == 760, "Linux: struct sigframe");
enum { VFP_MAGIC = 0x56465001, OLD_FRAME = 0x5ac3c35a };

static const uint32_t trampoline32[] = {
    0xe3a07077, 0xef000000,             /* mov r7, #119; svc #0: sigreturn */
    0xe3a070ad, 0xef000000,             /* mov r7, #173; svc #0: rt_sigreturn */
    0xdf002777, 0xdf0027ad,             /* the same two in T32 */
};

/* Linux's page of helpers at 0xffff0000, Documentation/arch/arm/kernel_user_helpers.rst: functions at fixed addresses, for programs
 * that may run on processors without exclusives. An unchanged value is 0 and the C flag set. */
static const uint32_t helper_cmpxchg64[] = {
    0xe92d00f0, 0xe1c040d0, 0xe1c160d0, /* push {r4-r7}; ldrd r4, r5, [r0]; ldrd r6, r7, [r1] */
    0xf57ff05b,                         /* dmb ish */
    0xe1b20f9f,                         /* 1: ldrexd r0, r1, [r2] */
    0xe0303004, 0x00313005,             /* eors r3, r0, r4; eorseq r3, r1, r5 */
    0x01a23f96, 0x03330001,             /* strexdeq r3, r6, r7, [r2]; teqeq r3, #1 */
    0x0afffff9, 0xf57ff05b,             /* beq 1b; dmb ish */
    0xe2730000, 0xe8bd00f0, 0xe12fff1e, /* rsbs r0, r3, #0; pop {r4-r7}; bx lr */
};
static const uint32_t helper_barrier[] = { 0xf57ff05b, 0xe12fff1e };   /* dmb ish; bx lr */
static const uint32_t helper_cmpxchg[] = {
    0xf57ff05b, 0xe1923f9f, 0xe0533000, /* dmb ish; 1: ldrex r3, [r2]; subs r3, r3, r0 */
    0x01823f91, 0x03330001, 0x0afffffa, /* strexeq r3, r1, [r2]; teqeq r3, #1; beq 1b */
    0xe2730000, 0xeaffffef,             /* rsbs r0, r3, #0; b helper_barrier */
};
static const uint32_t helper_get_tls[] = { 0xee1d0f70, 0xe12fff1e };   /* mrc p15, 0, r0, c13, c0, 3; bx lr */
static const uint32_t helper_version[] = { 5 };

static void vectors32(uint8_t page[4096])
{
    memcpy(page + 0xf60, helper_cmpxchg64, sizeof(helper_cmpxchg64));
    memcpy(page + 0xfa0, helper_barrier, sizeof(helper_barrier));
    memcpy(page + 0xfc0, helper_cmpxchg, sizeof(helper_cmpxchg));
    memcpy(page + 0xfe0, helper_get_tls, sizeof(helper_get_tls));
    memcpy(page + 0xffc, helper_version, sizeof(helper_version));
}

static uint32_t return32(const struct signal_frame *f, bool rt, bool thumb)
{
    if (f->flags & 0x04000000)
        return (uint32_t)f->restorer;
    return (uint32_t)f->trampoline + (thumb ? 16 + (rt ? 4 : 0) + 1 : rt ? 8 : 0);
}

static bool push32(struct cpu *cpu, const struct signal_frame *f)
{
    struct arm_cpu *c = arm(cpu);
    bool rt = f->flags & SA_SIGINFO, thumb = f->handler & 1;
    struct frame32 fr = { .ss_sp = (uint32_t)f->altstack.sp, .ss_flags = f->altstack.flags, .ss_size = (uint32_t)f->altstack.size };
    uint32_t sp = ((uint32_t)f->sp - (uint32_t)sizeof(fr) - (rt ? 128 : 0)) & ~7u, uc = sp + (rt ? 128 : 0);

    fr.uc_flags = rt ? 0 : OLD_FRAME;
    fr.trap_no = f->trapno;
    fr.error_code = f->error;
    fr.oldmask = (uint32_t)f->mask;
    for (unsigned n = 0; n < 15; n++)
        fr.r[n] = (uint32_t)c->x[n];
    fr.r[15] = (uint32_t)cpu->pc;
    fr.cpsr = arm_cpsr(c);
    fr.fault_address = (uint32_t)f->fault_addr;
    fr.mask = f->mask;
    fr.vfp.magic = VFP_MAGIC;
    fr.vfp.size = sizeof(fr.vfp);
    memcpy(fr.vfp.d, c->q, sizeof(fr.vfp.d));
    fr.vfp.fpscr = (arm_fpsr(c) & ~(uint32_t)FPSCR_CONTROL) | (c->fpcr & FPSCR_CONTROL);
    fr.vfp.fpexc = 0x40000000;
    cpu_probe(cpu, sp, (unsigned)(uc - sp + sizeof(fr)), true, 0);
    if (rt)
        cpu_store_bytes(cpu, sp, f->siginfo, 128, 0);
    cpu_store_bytes(cpu, uc, &fr, sizeof(fr), 0);
    c->x[0] = (uint32_t)f->signal;
    if (rt) {
        c->x[1] = sp;
        c->x[2] = uc;
    }
    c->x[13] = sp;
    c->x[14] = return32(f, rt, thumb);
    c->thumb = thumb;
    c->it = 0;
    c->e32 = false;
    c->ex_bytes = 0;
    cpu->pc = (uint32_t)f->handler & (thumb ? ~1u : ~3u);
    return true;
}

static bool pop32(struct cpu *cpu, bool rt, struct signal_return *out)
{
    struct arm_cpu *c = arm(cpu);
    uint32_t sp = (uint32_t)c->x[13];
    struct frame32 fr;

    if (sp & 7)
        return false;
    cpu_load_bytes(cpu, sp + (rt ? 128 : 0), &fr, sizeof(fr), 0);
    if (fr.vfp.magic == VFP_MAGIC && fr.vfp.size == sizeof(fr.vfp)) {
        memcpy(c->q, fr.vfp.d, sizeof(fr.vfp.d));
        arm_set_fpsr(c, fr.vfp.fpscr & ~(uint32_t)FPSCR_CONTROL);
        arm_set_fpcr(c, fr.vfp.fpscr & FPSCR_CONTROL);
    }
    for (unsigned n = 0; n < 15; n++)
        c->x[n] = fr.r[n];
    arm_set_cpsr_raw(c, (fr.cpsr & ~0x1dfu) | M_USR);   /* neither mode, masks nor J */
    cpu->pc = fr.r[15] & (c->thumb ? ~1u : ~3u);
    c->ex_bytes = 0;
    out->mask = fr.mask;
    out->altstack.sp = fr.ss_sp;
    out->altstack.flags = fr.ss_flags;
    out->altstack.size = fr.ss_size;
    out->has_altstack = rt;
    return true;
}

#define COMMON .cpu_copy = cpu_copy, .cpu_free = cpu_free, .cpuinfo = cpuinfo, .event = event, .fault = fault, .default_model = "max"

const struct guest_user user_aarch64 = {
    .guest = &guest_aarch64, .name = "aarch64", .bits = 64, .elf_machine = 183, .uname_machine = "aarch64", .platform = "aarch64",
    .address_end = UINT64_C(1) << 47, .program_base = UINT64_C(0x2aaaaaa000), .min_sigstksz = sizeof(struct frame64) + 16,
    .cpu_init = cpu_init64, .start = start64, .hwcaps = hwcaps64, .syscall_number = number64, .syscall_args = args64,
    .syscall_result = result64, .syscall_again = again64, .stack_pointer = sp64, .set_stack_pointer = set_sp64,
    .set_tls = set_tls64, .tls = tls64, .signal_push = push64, .signal_pop = pop64, .vdso_stub = vdso_stub64, .call_args = call_args64,
    .call_return = call_return64, .trampoline = trampoline64,
    .trampoline_size = sizeof(trampoline64), .tag_bits = 8, .guard_bits = guard_bits64, .guard = guard64, COMMON
};
const struct guest_user user_arm = {
    .guest = &guest_arm, .name = "arm", .bits = 32, .elf_machine = 40, .uname_machine = "armv7l", .platform = "v7l",
    .address_end = 0xffff0000, .program_base = 0x400000, .cpu_init = cpu_init32, .start = start32, .hwcaps = hwcaps32,
    .syscall_number = number32, .syscall_args = args32, .syscall_result = result32, .syscall_again = again32,
    .stack_pointer = sp32, .set_stack_pointer = set_sp32, .set_tls = set_tls32, .tls = tls32, .signal_push = push32,
    .signal_pop = pop32, .vdso_stub = vdso_stub32, .call_args = call_args32, .call_return = call_return32,
    .trampoline = trampoline32, .trampoline_size = sizeof(trampoline32), .vectors = vectors32, COMMON
};
