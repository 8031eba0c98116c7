/* The Arm guests: state and mode bits that AArch64 (a64.h), AArch32 (a32.h) and the system side (system.h) share.
 * Arm Architecture Reference Manual for A-profile, DDI 0487 (issue J.a and later); "DDI 0406" where only Armv7 says it. */
#ifndef RHEA_GUEST_ARM_H
#define RHEA_GUEST_ARM_H

#include <stddef.h>
#include <stdint.h>
#include "rhea/base/softfloat.h"
#include "rhea/guest/bits.h"
#include "rhea/guest/guest.h"
#include "rhea/ir/cpu.h"
#include "rhea/ir/ir.h"
#include "rhea/ir/vop.h"
#include "state.h"              /* struct arm_system: the system registers */

/* What a row's `if=` may ask, and what models have: FEAT_* of DDI 0487 A2, older ones by their usual names. */
enum arm_feature {
    AF_NONE,
#define FEATURE(id, summary) AF_##id,
#include "features.def"
#undef FEATURE
    AF_COUNT
};
struct arm_features { uint64_t bits[3]; };
static inline bool arm_has(const struct arm_features *f, unsigned n) { return f->bits[n >> 6] >> (n & 63) & 1; }

/* Lazy flags: cc_op names the operation that last set N, Z, C, V; cc_a and cc_b its operands. All three are slots. */
enum arm_cc {
    CC_NZCV,                            /* cc_a: N Z C V in bits 31 to 28 */
    CC_ADD32, CC_ADD64,                 /* cc_a + cc_b */
    CC_SUB32, CC_SUB64,                 /* cc_a - cc_b */
    CC_LOGIC32, CC_LOGIC64,             /* cc_a: result; C = V = 0 */
    CC_ADC32, CC_ADC64,                 /* cc_a + cc_b + 1 */
    CC_FP32,                            /* cc_a: what the host's UCOMISD made of a comparison, its ZF, PF and CF in place */
    CC_COUNT,
    /* Only as static knowledge (arm_t.cc_op), where the slot's value is found at run time: */
    CC_CMPZ32 = CC_COUNT + 1, CC_CMPZ64,        /* SUB, or ADD of zeros: a conditional compare that gives Z alone */
    CC_ADX32, CC_ADX64,                 /* ADD or ADC */
    /* Bits of cc_op that AArch32 alone sets, so that MOVS and the like leave C and V (or V) to the operation before: */
    CC_NZ_APART = 16,                   /* N and Z are those of the slot cc_nz */
    CC_C_APART = 32,                    /* C is the slot cc_c, 0 or 1 */
    CC_BASE_MASK = 15
};
uint32_t arm_cc_nzcv(uint32_t op, uint64_t a, uint64_t b);      /* in bits 31 to 28; op without *_APART; cc.c */
static inline uint32_t arm_cc_apart(uint32_t nzcv, uint32_t op, uint32_t nz, uint32_t c)
{
    if (op & CC_NZ_APART)
        nzcv = (nzcv & 0x3fffffff) | (nz & 0x80000000) | (uint32_t)!nz << 30;
    return op & CC_C_APART ? (nzcv & ~(1u << 29)) | c << 29 : nzcv;
}

enum { COMPARED = 0x100 };              /* of arm_cpu.compared */

enum arm_slot {
    SLOT_X,                             /* x0 to x30 */
    SLOT_SP = SLOT_X + 31,              /* SP of the current EL and SPSel */
    SLOT_CC_OP, SLOT_CC_A, SLOT_CC_B,
    SLOT_Q,                             /* v0 to v31, V128 */
    SLOT_VT = SLOT_Q + 32,              /* AArch32: scratch, V128, as if v32 to v35 */
    SLOT_R = SLOT_VT + 4,               /* AArch32: r0 to r14 as I32, the low halves of x0 to x14. A region uses either */
    SLOT_IT = SLOT_R + 15, SLOT_CC_NZ, SLOT_CC_C, SLOT_TMP, SLOT_COMPARED, SLOT_GE,     /* AArch32, I32 */
    SLOT_QC,                            /* V128 */
    SLOT_D,                             /* AArch32: d0 to d15, s0 to s31, parts of q0 to q7: see a32_simd.h */
    SLOT_S = SLOT_D + 16,
    SLOT_COUNT = SLOT_S + 32
};

/* GE as the state has it, and as CPSR has it. */
static inline uint32_t arm_ge_bytes(unsigned flags) { return ((flags & 15) * 0x00204081u & 0x01010101) * 0xff; }
static inline unsigned arm_ge_flags(uint32_t bytes) { return (bytes & 0x08040201) * 0x01010101u >> 24; }

/* A pointer authentication code once computed: see pauth.c. */
struct arm_pac { uint64_t data, modifier, key[2], pac; bool valid; };

struct arm_cpu {
    struct cpu cpu;                     /* first; cpu.pc: AArch32 zero-extended, without the Thumb bit */
    uint32_t cc_nz, cc_c;               /* AArch32: see enum arm_cc */
    uint32_t cc_op;
    uint32_t it;                        /* AArch32: IT state */
    uint64_t cc_a, cc_b;
    uint64_t sp;
    uint64_t x[31];
    uint32_t compared;                  /* AArch32: FPSCR.NZCV, as CC_FP32 has it, if COMPARED is set; else fpsr has it */
    uint32_t ge;                        /* AArch32: GE, a byte a flag: 0 or 0xff */
    uint32_t fpsr;                      /* QC, AArch32 NZCV, and flags set by MSR */
    uint32_t tmp32;                     /* AArch32: carries a value across basic blocks of one instruction */
    /* Exclusive monitor: bytes (0: open), what was there, and where; a store succeeds by compare and swap from that. */
    uint64_t ex_bytes, ex_value[2], ex_addr;
    struct { uint64_t lo, hi; } q[32];  /* 16-byte aligned */
    struct { uint64_t lo, hi; } vt[4];  /* AArch32: scratch */
    uint64_t qc[2];                     /* a slot. Saturation by translated code since: any bit is FPSR.QC (arm_fpsr() adds it to fpsr) */
    /* Floating point: accrued flags are the host's (sticky bits of cpu.fp_control) and software's (fp_status.flags);
     * FPSR is both. FPCR.RMode is in fp_control's rounding field. */
    uint32_t fpcr;
    struct float_status fp_status, fp16_status;
    uint64_t tmp[8];                    /* carries values across basic blocks of one instruction */
    /* PSTATE but NZCV */
    uint8_t el, spsel;
    bool aarch32, thumb;
    uint8_t daif;                       /* D A I F in bits 3 to 0 */
    uint8_t btype;
    bool pan, uao, dit, ssbs, tco, ss, il, allint;
    uint8_t mode32;                     /* AArch32: M[4:0] */
    bool q32, e32, j32;                 /* AArch32: Q, E, J */
    bool halted;                        /* WFI, WFE */
    bool event;                         /* event register of WFE, SEV */
    /* exception being raised: cpu.exception is enum arm_exception */
    uint32_t exc_syndrome;              /* ESR_ELx */
    uint64_t exc_far;
    uint8_t exc_target;                 /* EL */
    uint64_t exc_hpfar;
    struct arm_pac pac[128];
    struct arm_system sys;
    struct arm_features features;
    const struct cpu_model *model;
    void *identity;                     /* models.c's own; owned */
};
_Static_assert(offsetof(struct arm_cpu, q) % 16 == 0, "vectors do not cross lines of the host's cache");
static inline struct arm_cpu *arm(struct cpu *c) { return (struct arm_cpu *)c; }

/* cpu.exception */
enum arm_exception { ARM_EXC_UNDEF, ARM_EXC_SYNC /* with exc_syndrome */, ARM_EXC_PREFETCH, ARM_EXC_DATA, ARM_EXC_IRQ, ARM_EXC_FIQ,
                     ARM_EXC_SERROR, ARM_EXC_VIRQ, ARM_EXC_VFIQ, ARM_EXC_VSERROR, ARM_EXC_HALT,
                     ARM_EXC_SEMIHOSTING /* exc_syndrome: bytes of the instruction */ };

/* Mode bits: the key of translations. Features are fixed for a machine and not in it. */
enum {
    MODE_AARCH32 = 1 << 0, MODE_THUMB = 1 << 1,
    MODE_EL_SHIFT = 2,                  /* 2 bits */
    MODE_MMU_SHIFT = 4,                 /* 4 bits: data MMU index */
    MODE_FP_TRAP_SHIFT = 8,             /* 2 bits: EL that FP and SIMD trap to (0: none) */
    MODE_FP_SLOW = 1 << 10,             /* FPCR asks what the host's arithmetic can't do (FZ, ...): by software */
    MODE_ALIGN = 1 << 11,               /* SCTLR.A: data accesses must be aligned */
    MODE_SP_ALIGN = 1 << 12,            /* SCTLR.SA/SA0 and SP is not aligned: every use of it as a base raises. An
                                         * instruction that makes it so ends its region, so that nobody else asks */
    MODE_BE = 1 << 13,                  /* data is big-endian */
    MODE_STEP = 1 << 14,                /* one instruction a region: software step, breakpoints armed */
    MODE_WATCH = 1 << 15,               /* watchpoints armed: accesses are looked at */
    MODE_NO_BTYPE = 1 << 16,            /* user mode without guarded pages: PSTATE.BTYPE is not kept. It is no mode itself: where MODE_BTI,
                                         * regions ask for it first */
    MODE_PAUTH_SHIFT = 17,              /* 4 bits: EnIA EnIB EnDA EnDB in force */
    MODE_IL = 1 << 21,                  /* PSTATE.IL: everything is undefined */
    MODE_BTI = 1 << 22,                 /* there may be guarded pages: indirect branches set BTYPE, the region's start asks arm_page_guarded() */
    MODE_EL0_WFI_SHIFT = 23,            /* 2 bits: EL that WFI, WFE at this EL trap to */
    MODE_UNPRIV_SHIFT = 25,             /* 4 bits: MMU index of LDTR, STTR */
    MODE_UCI = 1 << 29,                 /* cache maintenance by address and DC ZVA are neither trapped nor forbidden here */
    MODE_PRIV32 = 1 << 30,              /* AArch32: not User mode */
};
#define MODE_IT_SHIFT 32                /* AArch32: 8 bits */
#define MODE_MODE32_SHIFT 40            /* AArch32: M[4:0], 5 bits */
#define MODE_VFP_SHORT_SHIFT 45         /* AArch32: FPSCR Len, Stride: 5 bits */
#define MODE_SECURE (UINT64_C(1) << 50)
#define MODE_FP_UNDEF32 (UINT64_C(1) << 51)     /* AArch32: FPEXC.EN is 0: all but VMRS, VMSR of system registers is undefined */
#define MODE_FP_FLUSH (UINT64_C(1) << 52)       /* MODE_FP_SLOW for FZ alone: singles and doubles have their ways (a64_fp.h) */
#define MODE_FP_ROUND (UINT64_C(1) << 53)       /* AArch32: FPSCR.RMode is not to nearest, as Advanced SIMD rounds */
/* FPCR bits that need MODE_FP_SLOW: AHP, FZ, FZ16, AH, FIZ; DN does not, the fixes make its NaNs */
#define ARM_FPCR_FZ (1u << 24)
#define ARM_FPCR_SLOW (1u << 26 | ARM_FPCR_FZ | 1u << 19 | 3u)
enum { ARM_MMU_EL0, ARM_MMU_EL1, ARM_MMU_EL1_PAN, ARM_MMU_EL2, ARM_MMU_EL20_0, ARM_MMU_EL20_2, ARM_MMU_EL20_2_PAN, ARM_MMU_EL3,
       ARM_MMU_EL3_PAN, ARM_MMU_EL30_0 /* AArch32 EL3: its PAN, and Secure User mode */, ARM_MMU_COUNT };

/* Helpers: rows in helpers.def (which includes a file an area); functions are arm_helper_NAME(). */
#define HELPER_FN(name) arm_helper_##name
#define HELPER_ID(name) ARM_HELP_##name
#define HELPERS_DEF "guest/arm/helpers.def"
#include "rhea/guest/helpers_declare.h"

/* ---- the translator of one region */
struct arm_test { enum ir_cond cond; ir_val a, b; };    /* for ir_brcond, ir_select */
struct arm_t {
    struct ir *ir;
    uint64_t mode, pc, next;            /* of the instruction */
    unsigned el, mmu;                   /* shorthands of mode */
    const struct arm_features *features;        /* of the CPU model; NULL: all */
    int cc_op;                          /* static knowledge of the slot in this block; -1: unknown */
    ir_val cc_a, cc_b;                  /* its operands, in its width, while in their block; else 0 */
    ir_val cc_sum;                      /* CC_ADX*: the sum, likewise */
    bool fp_checked;                    /* FP traps were checked since the last join */
    bool btype_checked;                 /* A64: this is not the region's first instruction: nothing but that is an indirect branch's target */
    bool sp_unknown;                    /* A64: this instruction may have put an unaligned address into SP */
    struct { ir_val added; uint64_t pc; uint8_t vd; bool inverse; } aes;        /* AESE, AESD at pc: state with the key added */
    struct a32_t {                      /* AArch32 */
        uint8_t it, it_next;            /* IT state at this instruction and after it */
        uint8_t apart;                  /* CC_*_APART bits that are known set though cc_op is not known */
        bool standard;                  /* floating point by the standard FPSCR value */
        bool select;                    /* the condition chooses at each register written, there is no branch */
        struct arm_test test;           /* ... it */
        ir_label skip;                  /* where a failed condition goes; 0: there is none */
        ir_val compared;                /* FPSCR's flags as VCMP made them in this block (CC_FP32), or 0 */
        unsigned insns, emitted;        /* of the region: found by arm_emit_scan(), emitted so far */
        bool vectors;                   /* of the region: it has instructions of Advanced SIMD */
        uint16_t doubles, singles;      /* of the region: bit n: it names d<n>, or s<2n> or s<2n + 1> */
    } a32;
};
static inline bool arm_t_has(const struct arm_t *t, unsigned f) { return !t->features || arm_has(t->features, f); }

/* ESR_ELx of an exception: DDI 0487 D24.2.40. IL is set: 32-bit instructions, and whatever else wants it so. */
enum { EC_UNKNOWN = 0x00, EC_WFX = 0x01, EC_FP = 0x07, EC_PAC = 0x09, EC_BTI = 0x0d, EC_IL = 0x0e, EC_SVC64 = 0x15, EC_FPAC = 0x1c,
       EC_PC_ALIGN = 0x22, EC_SP_ALIGN = 0x26, EC_BRK64 = 0x3c };
#define ARM_SYNDROME(ec, iss) ((uint32_t)(ec) << 26 | 1u << 25 | (uint32_t)(iss))

/* translate.c: shared by both instruction sets */
ir_val arm_call(struct arm_t *t, unsigned helper, ir_val a, ir_val b, ir_val c, ir_val d);
memop arm_memop(struct arm_t *t, unsigned log2_size);   /* size, MMU index, endianness, alignment, atomicity */
void arm_set_cc(struct arm_t *t, enum arm_cc op, ir_val a, ir_val b);
/* ... where the slot's operation is known at run time only: op is one of the static ones. */
void arm_set_cc_dynamic(struct arm_t *t, enum arm_cc op, ir_val slot_op, ir_val a, ir_val b, ir_val sum);
void arm_set_nzcv(struct arm_t *t, ir_val nzcv);        /* I32 or I64, bits 31 to 28 */
ir_val arm_nzcv(struct arm_t *t);                       /* I32, bits 31 to 28, computed */
ir_val arm_carry(struct arm_t *t);                      /* I32 0 or 1 */
struct arm_test arm_condition(struct arm_t *t, unsigned cond);  /* EQ ... AL (NV is always) */
void arm_bind(struct arm_t *t, ir_label l);             /* as ir_label_bind(), ir_brcond(): cached values are dropped */
void arm_brcond(struct arm_t *t, enum ir_cond cond, ir_val a, ir_val b, ir_label l);
/* Raises with ESR_ELx `syndrome` at this instruction, to the EL that takes synchronous exceptions from here; ends the block. */
void arm_exception(struct arm_t *t, uint32_t syndrome);
void arm_exception_el(struct arm_t *t, unsigned el, uint32_t syndrome);
void arm_undefined(struct arm_t *t);
/* Traps where FP and SIMD are disabled. false: ended. */
bool arm_check_fp(struct arm_t *t);
void arm_goto(struct arm_t *t, uint64_t pc);
void arm_goto_indirect(struct arm_t *t, ir_val pc, enum ir_exit_kind hint);

/* entry points of struct guest: translate.c dispatches on MODE_AARCH32 */
bool arm_decode(struct code_fetch *f, uint64_t pc, uint64_t mode, void *insn, struct insn_info *info);
void arm_emit_begin(struct ir *ir);
void arm_emit_scan(struct ir *ir, const void *insn);    /* calls a32_emit_scan() in AArch32 */
void arm_emit_join(struct ir *ir);
void arm_emit(struct ir *ir, const void *insn);
void arm_emit_end(struct ir *ir);
char *arm_disassemble(const uint8_t *code, size_t n, uint64_t pc, uint64_t mode);
bool a64_decode(struct code_fetch *f, uint64_t pc, uint64_t mode, void *insn, struct insn_info *info);
void a64_emit(struct arm_t *t, const void *insn);
bool a32_decode(struct code_fetch *f, uint64_t pc, uint64_t mode, void *insn, struct insn_info *info);
void a32_emit(struct arm_t *t, const void *insn);
void a32_emit_scan(struct arm_t *t, const void *insn);

/* ---- from C */
static inline uint32_t arm_pstate_nzcv(const struct arm_cpu *c)
{
    return arm_cc_apart(arm_cc_nzcv(c->cc_op & CC_BASE_MASK, c->cc_a, c->cc_b), c->cc_op, c->cc_nz, c->cc_c);
}
static inline void arm_pstate_set_nzcv(struct arm_cpu *c, uint32_t nzcv) { c->cc_op = CC_NZCV; c->cc_a = nzcv & 0xf0000000; c->cc_b = 0; }
/* system: the page that va is executed from is a guarded one (GP). */
bool arm_page_guarded(struct arm_cpu *c, uint64_t va);
uint64_t arm_qarma5(uint64_t data, uint64_t modifier, uint64_t key0, uint64_t key1);     /* ComputePAC(), QARMA5; pauth.c */
/* system: raises a synchronous exception at cpu.pc; the target EL follows from the current one and the traps in force. */
_Noreturn void arm_raise(struct arm_cpu *c, uint32_t syndrome, uint64_t far);
_Noreturn void arm_raise_undefined(struct arm_cpu *c);
uint32_t arm_fpsr(struct arm_cpu *c);                   /* with sticky flags collected; fp.c */
void arm_set_fpsr(struct arm_cpu *c, uint32_t v);
enum { FPSCR_CONTROL = 0x07ff9f00 };    /* those bits of AArch32's FPSCR that are FPCR's; the others are FPSR's. DDI 0487 G8.2.53 */
void arm_set_fpcr(struct arm_cpu *c, uint32_t v);       /* and the host's control and float_status that follow */
/* The interrupt controller's lines to a CPU; any thread. Whether a group of GICv3's is an IRQ or an FIQ changes with the CPU's own
 * state where there are two Security states, so that only the CPU can tell: arm_lines(). */
enum arm_line { ARM_LINE_IRQ, ARM_LINE_FIQ, ARM_LINE_VIRQ, ARM_LINE_VFIQ, ARM_LINE_SERROR, ARM_LINE_GROUP1S, ARM_LINE_GROUP1NS,
                ARM_LINE_COUNT };
void arm_set_line(struct arm_cpu *c, enum arm_line line, bool level);

/* ---- system side, for boards and interrupt controllers */
void arm_configure(struct arm_cpu *c, const struct arm_config *config);
/* Puts a CPU that was reset where an operating system starts: its highest Non-secure EL (EL2, else EL1), MMU off, all
 * masked, with what EL3 firmware would have set up for it. Entry bit 0: Thumb (AArch32). */
void arm_boot(struct arm_cpu *c, uint64_t entry, const uint64_t args[4]);
/* The same for a program that brings its own EL3: the state that reset left, at another address. */
void arm_boot_highest(struct arm_cpu *c, uint64_t entry, const uint64_t args[4]);
/* debug.c: raises, if a watchpoint is met by that access, which is about to happen. */
enum { WATCH_READ = 1, WATCH_WRITE = 2, WATCH_USER = 4 /* LDTR, STTR */ };
void arm_watch(struct arm_cpu *c, uint64_t va, unsigned bytes, unsigned how);
/* CCSIDR of a cache as CSSELR selects it: level 1 data 0, instruction 1, level 2: 2; 0: none. */
uint64_t arm_ccsidr(const struct arm_cpu *c, unsigned csselr);
/* Interrupts' security: true while in Secure state, or while at EL3. */
bool arm_is_secure(const struct arm_cpu *c);
/* sys.timer_irq[], sys.pmu_irq, sys.gic, sys.gic_opaque are set by the board and the interrupt controller. */

/* ---- system side, for emitters */
/* MRS or MSR (raw) at that mode is no more than a load or store of this field of the state (64 bits): its offset, or -1. */
int32_t arm_sysreg_plain(const struct arm_features *f, uint32_t raw, uint64_t mode);
/* MRC (raw) at that exception level is no more than a load of the low half of this field: its offset, or -1. */
int32_t arm_cp_plain(const struct arm_features *f, uint32_t raw, unsigned el);
/* SYS (raw) changes what the code after it sees: ir_exit_loop(next). The others need nothing. */
bool arm_sys_op_ends(uint32_t raw);

/* ---- system side: entry points of struct guest */
uint64_t arm_mode_bits(const struct cpu *cpu);
unsigned arm_mmu_index(const struct cpu *cpu, bool code);
bool arm_translate(struct cpu *cpu, uint64_t va, enum mmu_access access, unsigned mmu, bool probe, struct mmu_result *out);
__attribute__((noreturn)) void arm_unaligned(struct cpu *cpu, uint64_t va, enum mmu_access access);
void arm_bus_error(struct cpu *cpu, uint64_t va, uint64_t phys, enum mmu_access access);
bool arm_deliver(struct cpu *cpu);
bool arm_has_work(const struct cpu *cpu);
bool arm_cpu_init(struct cpu *cpu, struct vm *vm, const char *model_spec, struct error *err);
void arm_cpu_reset(struct cpu *cpu);
void arm_cpu_free(struct cpu *cpu);
char *arm_mmu_dump(struct cpu *cpu, bool tlb);
const struct cpu_model *arm_models(unsigned *count);            /* AArch64 machines: with the 32-bit models */
const struct cpu_model *arm_models32(unsigned *count);
const struct cpu_feature *arm_feature_list(unsigned *count);
bool arm_cpu_has(const struct cpu *cpu, const struct cpu_feature *f);
uint32_t arm_cpsr(const struct arm_cpu *c);             /* AArch32: whole; AArch64: PSTATE as SPSR_ELx holds it */

#endif
