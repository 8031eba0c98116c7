/* The x86 guest: state, decoded instructions, and what the translator's files share.
 * Intel SDM (order number 325462) and AMD APM vol. 2-5; operand codes are those of SDM vol. 2, appendix A. */
#ifndef RHEA_GUEST_X86_H
#define RHEA_GUEST_X86_H

#include <stddef.h>
#include <stdint.h>
#include "rhea/base/softfloat.h"
#include "rhea/guest/guest.h"
#include "rhea/ir/cpu.h"
#include "rhea/ir/ir.h"
#include "rhea/ir/vop.h"

enum { R_RAX, R_RCX, R_RDX, R_RBX, R_RSP, R_RBP, R_RSI, R_RDI, R_R8, R_R15 = 15 };
enum x86_seg { S_ES, S_CS, S_SS, S_DS, S_FS, S_GS, S_LDT, S_TR, S_COUNT };
enum { EF_CF = 1, EF_PF = 4, EF_AF = 0x10, EF_ZF = 0x40, EF_SF = 0x80, EF_TF = 0x100, EF_IF = 0x200, EF_DF = 0x400,
       EF_OF = 0x800, EF_IOPL = 0x3000, EF_NT = 0x4000, EF_RF = 0x10000, EF_VM = 0x20000, EF_AC = 0x40000,
       EF_VIF = 0x80000, EF_VIP = 0x100000, EF_ID = 0x200000, EF_ARITH = 0x8d5 };
enum { X_DE, X_DB, X_NMI, X_BP, X_OF, X_BR, X_UD, X_NM, X_DF, X_TS = 10, X_NP, X_SS, X_GP, X_PF, X_MF = 16, X_AC,
       X_MC, X_XM };

/* CPUID feature words, and features as word * 32 + bit; 0 is none (features.def). */
enum x86_feature_word {
    FW_NONE, FW_1_EDX, FW_1_ECX, FW_7_EBX, FW_7_ECX, FW_7_EDX, FW_7_1_EAX, FW_80000001_EDX, FW_80000001_ECX, FW_D1_EAX,
    FW_6_EAX, FW_80000007_EDX, FW_80000008_EBX, FW_COUNT
};
enum x86_feature {
    XF_NONE,
#define FEATURE(id, name, word, bit, implemented) XF_##id = (word) * 32 + (bit),
#include "features.def"
#undef FEATURE
    XF_PNI = XF_SSE3,
};
static inline bool x86_has(const uint32_t *features, unsigned f) { return features[f >> 5] >> (f & 31) & 1; }

struct x86_segment { uint16_t selector; uint32_t attr; uint32_t limit; uint64_t base; };    /* attr: descriptor bits 8-23 in place */
struct x86_table { uint64_t base; uint16_t limit; };

/* Lazy flags. cc_op names the operation and width that last set the arithmetic flags; cc_dst is its result, cc_src its
 * second operand (or as the op says), cc_src2 the carry in. CC_EFLAGS: cc_src holds the flags themselves. The four are
 * slots; flags() in cc.c computes EFLAGS from them. Order in a group: byte, word, dword, qword. */
enum x86_cc {
    CC_EFLAGS,
    CC_ADD8, CC_ADD16, CC_ADD32, CC_ADD64,
    CC_ADC8, CC_ADC16, CC_ADC32, CC_ADC64,
    CC_SUB8, CC_SUB16, CC_SUB32, CC_SUB64,      /* cc_src: subtrahend; cc_dst: difference */
    CC_SBB8, CC_SBB16, CC_SBB32, CC_SBB64,
    CC_LOGIC8, CC_LOGIC16, CC_LOGIC32, CC_LOGIC64,
    CC_INC8, CC_INC16, CC_INC32, CC_INC64,      /* cc_src: carry kept */
    CC_DEC8, CC_DEC16, CC_DEC32, CC_DEC64,
    CC_SHL8, CC_SHL16, CC_SHL32, CC_SHL64,      /* cc_src: value shifted by count - 1 */
    CC_SAR8, CC_SAR16, CC_SAR32, CC_SAR64,      /* SHR and SAR, likewise */
    CC_MUL8, CC_MUL16, CC_MUL32, CC_MUL64,      /* cc_src: nonzero when CF = OF = 1 */
    CC_KEEP8, CC_KEEP16, CC_KEEP32, CC_KEEP64,  /* ZF SF PF of cc_dst; CF AF OF as they stand in cc_src: rotates, BT, BMI */
    CC_COUNT
};

/* Slots of the translator */
enum x86_slot {
    SLOT_REG, SLOT_CC_DST = SLOT_REG + 16, SLOT_CC_SRC, SLOT_CC_SRC2, SLOT_CC_OP, SLOT_DF,
    SLOT_BASE_ES, SLOT_BASE_SS, SLOT_BASE_DS, SLOT_BASE_FS, SLOT_BASE_GS,
    /* A vector register is two slots, or one in a region that uses it as 256 bits (x86_ymm_is_one()); never both. */
    SLOT_XMM, SLOT_YMM_HI = SLOT_XMM + 16, SLOT_YMM = SLOT_YMM_HI + 16, SLOT_COUNT = SLOT_YMM + 16
};

struct x86_cpu {
    struct cpu cpu;                     /* first; cpu.pc is linear: CS base + (E)IP */
    uint64_t regs[16];
    uint64_t cc_dst, cc_src, cc_src2;
    uint32_t cc_op;
    uint32_t df;                        /* 1 or -1 (as uint32) */
    uint64_t eflags;                    /* without the arithmetic flags and DF, which are in cc_* and df */
    uint32_t fptop;
    uint32_t mxcsr;                     /* control half; sticky bits are merged from cpu.fp_control on read */
    struct { uint64_t lo[2], hi[2]; } ymm[16];  /* lo: XMM; hi: bits 255:128. Two slots each */
    /* x87 and MMX: fpregs[] are physical registers, top is in fpstat's place */
    struct { float80 v; } fpregs[8];    /* MMX register n is the significand of physical register n */
    uint16_t fpcw, fpsw, fptag;         /* fpsw without TOP; fptag: bit n set = physical register n empty */
    uint16_t fpop; uint64_t fpip, fpdp; uint16_t fpcs, fpds;
    struct x86_segment seg[S_COUNT];    /* seg[].base of FS and GS, DS, ES, SS are slots */
    struct x86_table gdt, idt;
    uint64_t cr0, cr2, cr3, cr4, cr8, xcr0, efer;
    uint64_t dr[8];
    uint64_t star, lstar, cstar, fmask, kernel_gs_base, tsc_aux, pat, sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t apic_base, misc_enable, tsc_offset, tsc_deadline, mtrr_def, mtrr_fix[11], mtrr_var[16];
    uint64_t mcg_cap, mcg_status, mcg_ctl, spec_ctrl, tsc_adjust, xss, smbase, feature_control, microcode;
    /* exception being delivered: cpu.exception is its vector */
    uint32_t error_code; bool has_error_code, soft_int; uint8_t insn_len;
    uint64_t fault_cr2;
    uint64_t noncanonical;              /* the address that cpu.exception is about, if it is that; else 0 */
    uint8_t cpl;
    bool halted, nmi_pending, init_pending, sipi_pending, smi_pending, nmi_masked, in_smm, wait_for_sipi;
    bool smm_nmi_masked;                /* as it was when system management mode was entered */
    bool monitor_armed;
    uint8_t mwait;                      /* halted by MWAIT: see monitor.c */
    uint64_t monitor_line, monitor_was[8];      /* physical address and content of the line */
    uint8_t trap_pending;               /* TF was set when the last instruction began: #DB is due */
    uint8_t watch_hits;                 /* data breakpoints the last instruction met: #DB is due */
    uint8_t shadow;                     /* interrupts are held for one instruction (STI, MOV SS) */
    uint8_t sipi_vector;
    const struct x86_model *model;
    struct x86_identity *identity;      /* cpuid.h; owned */
    uint32_t reset_edx;
    uint64_t phys_mask;                 /* physical addresses: MAXPHYADDR ones */
    uint32_t features[FW_COUNT];        /* what CPUID announces (x86_has()) */
    uint64_t tmp[8];                    /* carries values across basic blocks of one instruction */
    struct float_status sse_status;
    uint64_t kvm_clock, kvm_wall;       /* MSRs of the paravirtual clock */
    const struct x86_platform *platform;        /* LAPIC, TSC, port I/O of the machine (system mode) */
    void *platform_opaque;
};
_Static_assert(offsetof(struct x86_cpu, ymm) % 32 == 0, "vectors do not cross lines of the host's cache");

/* What the machine gives an x86 CPU; set by the board. All run on the vCPU's thread. */
struct x86_platform {
    uint64_t (*tsc)(void *opaque, struct x86_cpu *c);
    uint64_t (*io_read)(void *opaque, struct x86_cpu *c, uint16_t port, unsigned size);
    void (*io_write)(void *opaque, struct x86_cpu *c, uint16_t port, unsigned size, uint64_t v);
    /* LAPIC: interrupt to take now, or -1; acknowledges it (8259 through ExtINT included). */
    bool (*irq_pending)(void *opaque, struct x86_cpu *c);
    int (*irq_acknowledge)(void *opaque, struct x86_cpu *c);
    uint64_t (*apic_msr_read)(void *opaque, struct x86_cpu *c, uint32_t msr, bool *gp);
    void (*apic_msr_write)(void *opaque, struct x86_cpu *c, uint32_t msr, uint64_t v, bool *gp);
    uint8_t (*tpr_get)(void *opaque, struct x86_cpu *c);        /* CR8 */
    void (*tpr_set)(void *opaque, struct x86_cpu *c, uint8_t v);
    void (*apic_base_set)(void *opaque, struct x86_cpu *c, uint64_t v);
    void (*deadline_set)(void *opaque, struct x86_cpu *c, uint64_t tsc);
    void (*ferr)(void *opaque, struct x86_cpu *c, bool level);  /* IRQ 13 */
    void (*triple_fault)(void *opaque, struct x86_cpu *c);
    void (*smi_done)(void *opaque, struct x86_cpu *c);
    /* User mode: the descriptor of a selector, where there are no tables. false: beyond the limit */
    bool (*descriptor)(void *opaque, struct x86_cpu *c, uint16_t selector, uint64_t *out);
};

/* Mode bits: the key of translations */
enum {
    MODE_CODE16 = 0, MODE_CODE32 = 1, MODE_CODE64 = 2, MODE_CODE_MASK = 3,
    MODE_SS32 = 1 << 2,                 /* stack is 32 bits wide (outside 64-bit mode) */
    MODE_CPL_SHIFT = 3,                 /* 2 bits */
    MODE_PE = 1 << 5, MODE_VM86 = 1 << 6, MODE_LMA = 1 << 7,
    MODE_TF = 1 << 8, MODE_SHADOW = 1 << 9, MODE_IOPL_SHIFT = 10 /* 2 bits */, MODE_TS = 1 << 12, MODE_EM = 1 << 13,
    MODE_MP = 1 << 14, MODE_OSFXSR = 1 << 15, MODE_OSXSAVE_AVX = 1 << 16, MODE_BASES = 1 << 17 /* some of DS ES SS base nonzero */,
    MODE_MMU_SHIFT = 18 /* 2 bits: data MMU index */,
    MODE_CS_LIMIT = 1 << 20 /* code is fetched up to a limit, see x86_code_limited() */, MODE_FPEXC = 1 << 21 /* SSE exceptions unmasked: slow FP */,
    MODE_AC = 1 << 22 /* alignment checks on */, MODE_DE = 1 << 23 /* breakpoints armed */, MODE_RF = 1 << 24,
    MODE_UMIP = 1 << 25, MODE_LIMITS = 1 << 26 /* some segment limit must be checked */, MODE_TSD = 1 << 27,
    MODE_PCE = 1 << 28, MODE_WATCH = 1 << 29 /* data breakpoints armed */, MODE_LIMITS_FS = 1 << 30, MODE_CS_BASE_SHIFT = 32,
};
#define MODE_LIMITS_GS (UINT64_C(1) << 31)
/* Real and virtual-8086 mode mostly have a limit of FFFFH, so that only what reaches beyond must be checked. */
static inline bool x86_code_limited(uint64_t mode, uint64_t ip)
{
    if (mode & MODE_CS_LIMIT)
        return true;
    return (mode & (MODE_CODE_MASK | MODE_LMA)) == MODE_CODE16 && (!(mode & MODE_PE) || mode & MODE_VM86) && ip > 0xffff;
}
/* One instruction a region: single-step, interrupt shadow, RF with breakpoints armed, data breakpoints. */
#define MODE_SINGLE (MODE_TF | MODE_SHADOW | MODE_RF | MODE_WATCH)
enum { MMU_KERNEL, MMU_USER, MMU_KERNEL_SMAP /* supervisor with SMAP in force */, MMU_PHYS /* paging off */ };

static inline struct x86_cpu *x86(struct cpu *c) { return (struct x86_cpu *)c; }

/* Helpers: C functions translated code calls, rows in helpers*.def (one file an area). x86_call(t, HELP_NAME, ...) emits the
 * call. */
#define HELPER_FN(name) helper_##name
#define HELPER_ID(name) HELP_##name
#define HELPERS_DEF "guest/x86/helpers.def"
#include "rhea/guest/helpers_declare.h"

/* A decoded instruction. */
enum x86_opkind { XO_NONE, XO_REG /* GPR */, XO_REGH /* AH CH DH BH */, XO_MEM, XO_IMM, XO_REL, XO_SEG, XO_CR, XO_DR,
                  XO_ST, XO_MM, XO_XMM, XO_FAR };
struct x86_operand { uint8_t kind, reg, size; };        /* size in bytes (10 for m80, 16, 32; 0: no size) */
struct x86_insn;
struct x86_t;
typedef void x86_emit_fn(struct x86_t *t, const struct x86_insn *i);
#define EMIT(name) void x86_emit_##name(struct x86_t *t, const struct x86_insn *i)

/* Operand codes of a row: addressing (SDM vol. 2, A.2.1), type (A.2.2), and for AM_FIXED/AM_FIXSEG the register, for
 * the rest the type in memory where it differs (0: it does not). */
enum x86_am { AM_NONE, AM_A, AM_B, AM_C, AM_D, AM_E, AM_G, AM_H, AM_I, AM_J, AM_L, AM_M, AM_N, AM_O, AM_P, AM_Q, AM_R,
              AM_S, AM_U, AM_V, AM_W, AM_X, AM_Y, AM_Z, AM_T, AM_FIXED, AM_FIXSEG, AM_ONE, AM_SI, AM_ST0, AM_XMM0 };
enum x86_ot { OT_none, OT_b, OT_w, OT_d, OT_q, OT_y, OT_v, OT_z, OT_dq, OT_qq, OT_x, OT_ps, OT_pd, OT_ss, OT_sd, OT_si,
              OT_pi, OT_p, OT_s, OT_a, OT_t, OT_dv, OT_wv };
struct x86_opcode_operand { uint8_t am, type, reg; };
enum {
    ROWF_LOCK = 1, ROWF_X64 = 2, ROWF_NO64 = 4, ROWF_D64 = 8, ROWF_F64 = 16, ROWF_PRIV = 32, ROWF_REP = 64,
    ROWF_ALIGN = 128, ROWF_VSIB = 256, ROWF_NOREAL = 512, ROWF_FPU = 1024, ROWF_MMX = 2048, ROWF_PLUS_R = 4096,
    ROWF_NOTEST = 8192, ROWF_MODRM = 16384,
};
struct x86_row {                        /* one row of isa/x86*.isa, made by gen/isa.py */
    const char *mnemonic;
    x86_emit_fn *emit;                  /* NULL: not written yet */
    uint32_t flags;                     /* ROWF_* from the row's attributes */
    int32_t arg;                        /* for emitters that serve many rows */
    uint16_t feature;                   /* enum x86_feature that CPUID must announce, else #UD; 0: none */
    uint16_t undefined_flags;           /* EFLAGS bits the manual leaves undefined */
    /* constraints */
    uint8_t vex, map, opcode;           /* map: 0 one byte, 1 0F, 2 0F38, 3 0F3A */
    uint8_t pp;                         /* set of allowed prefixes: 1 none, 2 66, 4 F3, 8 F2 */
    int8_t w, l, ext, rm;               /* -1: any; l: VEX.L; ext: modrm.reg; rm: modrm.rm */
    uint8_t mod;                        /* 1: memory only, 2: register only */
    uint8_t flow;                       /* enum insn_flow */
    struct x86_opcode_operand operands[4];
};
extern const struct x86_row x86_rows[];
extern const unsigned x86_row_count;
struct x86_index { uint16_t first; uint8_t count, modrm; };
extern const struct x86_index x86_index[2][4][256];     /* [vex][map][opcode] */
/* Rows for what has no encoding: undefined, longer than 15 bytes, LOCK where it is not allowed. */
extern const struct x86_row x86_row_undefined, x86_row_too_long;

struct x86_insn {
    const struct x86_row *row;
    uint64_t pc;                        /* linear address of the first byte */
    uint8_t len, opsize /* 2, 4, 8 */, adsize /* 2, 4, 8 */;
    bool lock, rep, repne, vex, vex_l, vex_w;   /* vex_w: REX.W too */
    bool prefix66, sib, moffs;          /* moffs: the address is imm alone */
    uint8_t rex;                        /* low four bits WRXB; bit 6 set when any REX was there */
    uint8_t vvvv;
    int8_t seg;                         /* override, or -1 */
    uint8_t map, opcode, modrm, mod, reg, rm;   /* reg and rm with REX extension */
    int8_t base, index;                 /* GPR, -1: none; base 16: RIP; with ROWF_VSIB index is an XMM register */
    uint8_t scale;
    int32_t disp;
    int64_t imm; int64_t imm2;          /* imm2: ENTER's second, far selector */
    const uint32_t *features;           /* of the CPU it was fetched for; NULL: all */
    struct x86_operand op[4];
};

static inline int64_t x86_arg(const struct x86_insn *i) { return i->row->arg; }
/* Linear address a relative branch goes to. */
uint64_t x86_target(const struct x86_insn *i, uint64_t mode);
/* decode.c: as struct guest's decode; false: not fetchable. */
bool x86_decode(struct code_fetch *f, uint64_t pc, uint64_t mode, void *insn, struct insn_info *info);

/* The translator of one region. */
struct x86_t {
    struct ir *ir;
    const struct x86_insn *i;
    uint64_t mode, cs_base;
    unsigned code64, cpl, mmu;          /* shorthands of mode */
    int cc_op;                          /* static knowledge of the slot; -1: unknown */
    ir_val cc_a, cc_b;                  /* operands of the CC_SUB or CC_LOGIC that set cc_op, while in its block; else 0 */
    ir_val linear;                      /* address of the memory operand, once computed in this block; else 0 */
    unsigned pop_bytes;                 /* POP to memory: RSP counts as incremented already */
    bool sti_shadow;                    /* the last instruction was STI: this one runs, then the loop looks */
    bool fp_checked;                    /* #NM/#MF state already checked since the last join */
    const uint32_t *features;           /* of the CPU model; NULL: all */
    ir_val ymm[16];                     /* V256 value of YMM n if known in this block, else 0 */
    uint16_t ymm_used, sse_used;        /* registers that the region's AVX-256 and SSE instructions name */
};
static inline bool x86_t_has(const struct x86_t *t, unsigned f) { return !t->features || x86_has(t->features, f); }

/* translate.c: what every emitter uses */
ir_val x86_get_reg(struct x86_t *t, unsigned reg, unsigned size);       /* I32 for 1, 2, 4 bytes (zero-extended), I64 */
void x86_put_reg(struct x86_t *t, unsigned reg, unsigned size, ir_val v);       /* merges 8, 16; zero-extends 32 */
ir_val x86_ea(struct x86_t *t, const struct x86_insn *i);               /* I64: offset, before the segment */
ir_val x86_linear(struct x86_t *t, const struct x86_insn *i, unsigned bytes, bool write);       /* with segment; checks what mode demands */
uint64_t x86_limits_bit(unsigned seg);          /* of the mode: accesses through seg are checked */
/* Linear address of offset `off` (I64) in segment `seg`, checked likewise. */
ir_val x86_segment_linear(struct x86_t *t, unsigned seg, ir_val off, unsigned bytes, bool write);
ir_val x86_read(struct x86_t *t, unsigned n);           /* operand n as an integer of its size (x86_get_reg types) */
void x86_write(struct x86_t *t, unsigned n, ir_val v);
memop x86_memop(struct x86_t *t, unsigned bytes);       /* size and MMU index (atomic as the architecture promises) */
enum ir_type x86_type(unsigned bytes);                  /* T_I32 up to 4 bytes, T_I64, T_V128, T_V256 */
/* simd.c: vector registers. */
void x86_scan_vectors(struct x86_t *t, const struct x86_insn *i);       /* every instruction of the region, before any is emitted */
ir_val x86_get_xmm(struct x86_t *t, unsigned n);        /* V128 */
void x86_put_xmm(struct x86_t *t, unsigned n, ir_val v);        /* low 128 bits; the rest of YMM kept (legacy SSE) */
void x86_put_xmm_zero(struct x86_t *t, unsigned n, ir_val v);   /* VEX.128: the rest of YMM zeroed */
ir_val x86_get_ymm(struct x86_t *t, unsigned n);        /* V256 */
void x86_put_ymm(struct x86_t *t, unsigned n, ir_val v);
/* For read-modify-write: faults as a write would. */
ir_val x86_read_rw(struct x86_t *t, unsigned n);
ir_val x86_widen(struct x86_t *t, ir_val v);            /* I64 from I32 (zero-extended) or I64 */
ir_val x86_narrow(struct x86_t *t, ir_val v, unsigned size);    /* low `size` bytes, in the type of that size */
ir_val x86_sext(struct x86_t *t, ir_val v, unsigned size);      /* I32 or I64 with the sign of the low `size` bytes */
/* Labels and branches inside an instruction: as ir_label_bind(), ir_brcond(), ir_br(), but the values cached in struct
 * x86_t are dropped, since values do not outlive a basic block. */
void x86_bind(struct x86_t *t, ir_label l);
void x86_brcond(struct x86_t *t, enum ir_cond cond, ir_val a, ir_val b, ir_label l);
/* tmp[n] of the state: carries an I64 across blocks. */
void x86_tmp_put(struct x86_t *t, unsigned n, ir_val v);
ir_val x86_tmp_get(struct x86_t *t, unsigned n);
ir_val x86_call(struct x86_t *t, unsigned h, ir_val a, ir_val b, ir_val c, ir_val d);
void x86_exception(struct x86_t *t, unsigned vector);   /* raises at this instruction, error code 0 where one is due; ends the block */
void x86_set_cc(struct x86_t *t, enum x86_cc op, ir_val dst, ir_val src, ir_val src2);   /* 0: not used by op */
/* Sets CF, and OF where not 0 (both I32, 0 or 1); the others stay as they are. */
void x86_set_carry(struct x86_t *t, ir_val cf, ir_val of);
void x86_set_flags(struct x86_t *t, ir_val eflags);     /* CC_EFLAGS: arithmetic bits of an I32/I64 value */
ir_val x86_flags(struct x86_t *t);                      /* I32: arithmetic EFLAGS, computed */
ir_val x86_condition(struct x86_t *t, unsigned cc);     /* I32 0/1 for tttn code 0-15 */
struct x86_test { enum ir_cond cond; ir_val a, b; };    /* for brcond and select */
struct x86_test x86_condition_test(struct x86_t *t, unsigned cc);
void x86_branch(struct x86_t *t, unsigned cc, ir_label l);      /* to l if condition cc */
/* Control flow: as ir_goto() and kin, but one instruction at a time where the mode asks for it. */
void x86_goto(struct x86_t *t, uint64_t pc);
void x86_goto_indirect(struct x86_t *t, ir_val pc, enum ir_exit_kind hint);
static inline uint64_t x86_next(const struct x86_insn *i) { return i->pc + i->len; }
/* Every way out of this instruction must pass the loop. */
bool x86_leaves(const struct x86_t *t);
/* Stack: address of the top less `bytes`, pushes and pops of operand-size values. RSP is put last. */
void x86_push(struct x86_t *t, ir_val v, unsigned bytes);
ir_val x86_pop_value(struct x86_t *t, unsigned bytes, unsigned at);     /* loads [SP + at] */
void x86_add_sp(struct x86_t *t, ir_val delta);         /* I64 */
bool x86_check_sse(struct x86_t *t);    /* emits #UD/#NM as mode demands; false: nothing more to emit */
bool x86_check_avx(struct x86_t *t);
bool x86_check_fpu(struct x86_t *t, bool mmx);  /* #NM, #MF; x87*.c */

/* entry points of struct guest */
void x86_emit_begin(struct ir *ir);
void x86_emit_scan(struct ir *ir, const void *insn);
void x86_emit_join(struct ir *ir);
void x86_emit(struct ir *ir, const void *insn);
void x86_emit_end(struct ir *ir);

/* cc.c, exceptions */
uint32_t x86_cc_flags(uint32_t op, uint64_t dst, uint64_t src, uint64_t src2);   /* arithmetic EFLAGS */
uint32_t x86_compute_flags(const struct x86_cpu *c);    /* of cc_* */
uint64_t x86_eflags(const struct x86_cpu *c);           /* the whole register */
void x86_set_eflags(struct x86_cpu *c, uint64_t v, uint64_t mask);
_Noreturn void x86_raise(struct x86_cpu *c, unsigned vector, int error_code /* -1: none */);
void x86_mxcsr_changed(struct x86_cpu *c);              /* after mxcsr was written: host control, float_status, mode */
void x86_watch(struct x86_cpu *c, uint64_t va, unsigned bytes, bool write);      /* notes data breakpoints met */
void x86_io_check(struct x86_cpu *c, uint16_t port, unsigned bytes);     /* IOPL and the permission map, else #GP */
uint64_t x86_io_read(struct x86_cpu *c, uint16_t port, unsigned bytes);
void x86_io_write(struct x86_cpu *c, uint16_t port, unsigned bytes, uint64_t v);
uint64_t x86_xcr0_supported(const struct x86_cpu *c);
uint32_t x86_apic_id(const struct x86_cpu *c);          /* from -smp */
/* The x87 as FNSAVE with 32-bit operands writes it in protected mode (SDM vol. 1, figures 8-9). */
enum { X87_IMAGE = 108 };
void x86_fpu_put(struct x86_cpu *c, uint8_t image[X87_IMAGE]);
void x86_fpu_get(struct x86_cpu *c, const uint8_t image[X87_IMAGE]);
void x86_fpu_to_host(struct cpu *cpu);                  /* if there is one, and it can be: see struct host_fpu */
uint32_t x86_mxcsr_read(struct x86_cpu *c);             /* with sticky bits collected */

#endif
