/* The RISC-V guests: state, decoded instructions, and what the translator's files share. RV32 and RV64 are one front end: the
 * registers are 64 bits wide, RV32 keeps its 32-bit values sign-extended there (as the manual does for *W results).
 * RISC-V Instruction Set Manual 20240411, volumes I (unprivileged) and II (privileged). */
#ifndef RHEA_GUEST_RISCV_H
#define RHEA_GUEST_RISCV_H

#include <stddef.h>
#include <stdint.h>
#include "rhea/base/softfloat.h"
#include "rhea/guest/bits.h"
#include "rhea/guest/guest.h"
#include "rhea/ir/cpu.h"
#include "rhea/ir/ir.h"
#include "rhea/ir/vop.h"
#include "riscv-isa.h"

struct vm;
enum riscv_priv { PRV_U = 0, PRV_S = 1, PRV_M = 3 };

/* Extensions and what else a row's `if=` may ask: features.def has FEATURE(id, "name of -cpu", implied or 0, summary). */
enum riscv_feature {
    RVF_NONE,
#define FEATURE(id, ...) RVF_##id,
#include "features.def"
#undef FEATURE
    RVF_COUNT
};
struct riscv_features { uint64_t bits[2]; };
static inline bool riscv_has(const struct riscv_features *f, unsigned n) { return f->bits[n >> 6] >> (n & 63) & 1; }
#define RISCV_HAS(f, id) riscv_has(f, RVF_##id)

/* Exception causes (volume II, table "mcause"); an interrupt is CAUSE_INTERRUPT | number. cpu.exception holds them. */
enum {
    CAUSE_FETCH_MISALIGNED, CAUSE_FETCH_ACCESS, CAUSE_ILLEGAL, CAUSE_BREAKPOINT, CAUSE_LOAD_MISALIGNED, CAUSE_LOAD_ACCESS,
    CAUSE_STORE_MISALIGNED, CAUSE_STORE_ACCESS, CAUSE_ECALL_U, CAUSE_ECALL_S, CAUSE_ECALL_M = 11, CAUSE_FETCH_PAGE,
    CAUSE_LOAD_PAGE, CAUSE_STORE_PAGE = 15, CAUSE_SOFTWARE_CHECK = 18, CAUSE_HARDWARE_ERROR = 19,
    CAUSE_INTERRUPT = 1 << 30,
};
enum { IRQ_S_SOFT = 1, IRQ_M_SOFT = 3, IRQ_S_TIMER = 5, IRQ_M_TIMER = 7, IRQ_S_EXT = 9, IRQ_M_EXT = 11, IRQ_LCOF = 13 };

enum riscv_slot {
    SLOT_X,                             /* x1 to x31; SLOT_X + 0 is never used */
    SLOT_F = SLOT_X + 32,               /* f0 to f31 as V128: bits 63:0 are the register, the rest is anything */
    SLOT_COUNT = SLOT_F + 32
};

struct riscv_cpu {
    struct cpu cpu;                     /* first; cpu.pc: RV32 zero-extended */
    uint64_t x[32];
    struct { uint64_t lo, hi; } f[32];  /* 16-byte aligned; hi is scratch */
    /* LR/SC: the reserved address (RISCV_NOT_RESERVED: none) and the value that was there. SC succeeds when a compare and
     * swap from that value does. */
    uint64_t reserved_addr, reserved_value;
    /* Floating point. Accrued flags: those of the host in cpu.fp_control (sticky MXCSR bits) and those of software in
     * fp_status.flags; fflags is both. frm is in fp_control's rounding field where the host has the mode. */
    uint32_t frm;
    struct float_status fp_status;
    uint64_t tmp[8];                    /* carries values across basic blocks of one instruction */

    /* ---- system */
    uint8_t priv;                       /* enum riscv_priv */
    uint8_t xlen;                       /* 32 or 64: of this mode */
    uint64_t mstatus, medeleg, mideleg, mtvec, mepc, mcause, mtval, mscratch, mie, mcounteren, menvcfg, mcountinhibit, mseccfg, mstateen0;
    uint64_t stvec, sepc, scause, stval, sscratch, scounteren, senvcfg, satp, stimecmp;
    _Atomic uint64_t mip;               /* lines of CLINT and PLIC set it from other threads */
    uint64_t mvendorid, marchid, mimpid, misa;
    uint8_t pmpcfg[64];
    uint64_t pmpaddr[64];
    uint8_t pmp_fetch;                  /* bit per privilege: MODE_PMP_FETCH; follows from pmpcfg and pmpaddr */
    uint64_t mcycle, minstret;          /* offsets to the counters' source; the programmable ones are in `sys` */
    uint64_t tselect, tdata1[4], tdata2[4], tdata3[4];
    uint64_t fault_value;               /* mtval/stval of cpu.exception */
    bool halted;                        /* WFI */
    unsigned vain_waits;                /* WFIs in a row that found their interrupt pending, but not taken */
    _Atomic bool napping;               /* such a WFI lasts until an interrupt's line is set anew, or some time has passed */
    struct riscv_features features;
    const struct cpu_model *model;
    void *identity;                     /* models.c's own; owned */
    void *sys;                          /* system.c's own: timers ... */
};
_Static_assert(offsetof(struct riscv_cpu, f) % 16 == 0, "vectors do not cross lines of the host's cache");
#define RISCV_NOT_RESERVED UINT64_MAX   /* misaligned, so no SC that gets through has it */
static inline struct riscv_cpu *riscv(struct cpu *c) { return (struct riscv_cpu *)c; }

/* Mode bits: the key of translations. Features are fixed for a machine and not in it. */
enum {
    MODE_PRIV_SHIFT = 0,                /* 2 bits */
    MODE_XLEN32 = 1 << 2,
    MODE_MMU_SHIFT = 3,                 /* 4 bits: data MMU index */
    MODE_FS_OFF = 1 << 7,               /* mstatus.FS = 0: floating point is illegal */
    MODE_FS_CLEAN = 1 << 8,             /* FS is not Dirty: the first FP instruction of a region sets it, by a helper */
    MODE_FRM_SLOW = 1 << 9,             /* frm is RMM or reserved: floating point goes through helpers */
    MODE_VIRTUAL = 1 << 10,             /* V = 1, one day */
    MODE_TVM = 1 << 11, MODE_TW = 1 << 12, MODE_TSR = 1 << 13,
    MODE_CBIE_SHIFT = 14,               /* 2 bits: what cbo.inval may; then cbcfe, cbze */
    MODE_CBCFE = 1 << 16, MODE_CBZE = 1 << 17,
    MODE_TRIGGERS = 1 << 18,            /* breakpoint triggers armed: one instruction a region */
    MODE_BE = 1 << 19,
    MODE_COUNTEREN_SHIFT = 20,          /* 3 bits: cycle, time, instret readable */
    MODE_PMP_FETCH = 1 << 23,           /* a part of some page may be executed: each instruction is looked at */
};
/* MMU indexes: translation off or on, privilege, SUM and MXR (an index each, so that the soft TLB need not be flushed when
 * they change). PMP is applied by translate(), whatever the index. */
enum { MMU_S, MMU_U, MMU_BARE_M, MMU_BARE_S, MMU_BARE_U, MMU_S_SUM, MMU_S_MXR, MMU_S_SUM_MXR, MMU_U_MXR, MMU_COUNT };

/* Helpers: rows in helpers.def (which includes helpers-fp.def, helpers-system.def); functions are riscv_helper_NAME(). */
#define HELPER_FN(name) riscv_helper_##name
#define HELPER_ID(name) RISCV_HELP_##name
#define HELPERS_DEF "guest/riscv/helpers.def"
#include "rhea/guest/helpers_declare.h"

/* ---- instructions */
struct riscv_t;
struct riscv_insn;
typedef void riscv_emit_fn(struct riscv_t *t, const struct riscv_insn *i);
#define EMIT(name) void riscv_emit_##name(struct riscv_t *t, const struct riscv_insn *i)
BITS_ROW(riscv);
struct riscv_insn {
    BITS_INSN(riscv);
    const struct riscv_features *features;      /* of the CPU model */
    RISCV_FIELDS
};
enum riscv_format { FP_S, FP_D, FP_H };         /* arg of a floating-point row */
enum riscv_fp_op {
    FPO_ADD, FPO_SUB, FPO_MUL, FPO_DIV, FPO_SQRT, FPO_MADD, FPO_MSUB, FPO_NMSUB, FPO_NMADD, FPO_MIN, FPO_MAX, FPO_MINM, FPO_MAXM,
    FPO_ROUND, FPO_ROUNDNX, FPO_TO_S, FPO_TO_D, FPO_TO_H, FPO_COUNT
};
enum riscv_int { INT_W, INT_WU, INT_L, INT_LU };
enum { RM_RNE, RM_RTZ, RM_RDN, RM_RUP, RM_RMM, RM_DYN = 7 };
#define RISCV_FP(op, format, rm) ((unsigned)(op) | (unsigned)(format) << 8 | (unsigned)(rm) << 12)
/* Numbers of struct guest's fixes (fp.c): what RISC-V makes of a result that the host gave. imm: RISCV_FP(). */
enum {
    RISCV_FIX_NAN,                      /* the canonical NaN (11.3) */
    RISCV_FIX_UNBOX,                    /* a single that is not boxed counts as that NaN (21.2) */
    RISCV_FIX_ARITH,                    /* the operation again: fused multiply-add, minimum, maximum */
    RISCV_FIX_TO_INT,
    RISCV_FIX_COUNT
};
extern const struct ir_fix riscv_fixes[RISCV_FIX_COUNT];
#define RISCV_EMITTERS
#include "riscv-isa.h"
static inline uint64_t riscv_next(const struct riscv_insn *i) { return i->pc + i->len; }

/* The translator of one region. */
struct riscv_t {
    struct ir *ir;
    const struct riscv_insn *i;
    uint64_t mode;
    unsigned priv, mmu, xlen;           /* shorthands of mode */
    uint32_t boxed;                     /* f registers known to hold a NaN-boxed single, in this block */
    unsigned auipc_reg;                 /* the instruction before was AUIPC of this register (0: none) ... */
    uint64_t auipc_value;               /* ... with this result */
};

/* translate.c: what every emitter uses. x values are I64; x_get(0) is the constant 0, x_put(0) nothing. */
ir_val x_get(struct riscv_t *t, unsigned r);
void x_put(struct riscv_t *t, unsigned r, ir_val v);    /* RV32: sign-extends from bit 31 */
ir_val x_get32(struct riscv_t *t, unsigned r);          /* I32: the low half */
void x_put32(struct riscv_t *t, unsigned r, ir_val v);  /* I32, sign-extended */
void x_put_whole(struct riscv_t *t, unsigned r, ir_val v);      /* as the register keeps it: RV32: sign-extended already */
uint64_t riscv_pc_wrap(const struct riscv_t *t, uint64_t pc);   /* RV32: modulo 2^32 */
bool riscv_one_insn(const struct riscv_t *t);           /* regions are of one instruction: all of them leave to the loop */
ir_val riscv_address(struct riscv_t *t, unsigned rs1, int64_t offset);  /* RV32: truncated to 32 bits */
memop riscv_memop(struct riscv_t *t, unsigned log2_size);       /* size, MMU index, endianness, atomicity */
ir_val riscv_call(struct riscv_t *t, unsigned helper, ir_val a, ir_val b, ir_val c, ir_val d);
void riscv_illegal(struct riscv_t *t);                  /* raises CAUSE_ILLEGAL with the instruction as mtval; ends the block */
void riscv_exception(struct riscv_t *t, unsigned cause, ir_val tval /* 0: none */);
void riscv_goto(struct riscv_t *t, uint64_t pc);
/* translate_fp.c: before any floating-point instruction: FS off is illegal, else it becomes Dirty. false: ended. */
bool riscv_check_fp(struct riscv_t *t);

/* translate_system.c: a write to it changes nothing that translated code depends on and lets no interrupt in. */
bool riscv_csr_goes_on(unsigned csr);
/* Finds the row of i->raw and its fields; the caller has cleared *i. */
void riscv_decode_word(struct riscv_insn *i, const struct riscv_features *model, uint64_t mode);
/* entry points of struct guest: translate.c */
bool riscv_decode(struct code_fetch *f, uint64_t pc, uint64_t mode, void *insn, struct insn_info *info);
void riscv_emit_begin(struct ir *ir);
void riscv_emit_join(struct ir *ir);
void riscv_emit(struct ir *ir, const void *insn);
void riscv_emit_end(struct ir *ir);
char *riscv_disassemble(const uint8_t *code, size_t n, uint64_t pc, uint64_t mode);
char *riscv_insn_text(const struct riscv_insn *i);     /* disassemble.c; caller frees */
/* system */
_Noreturn void riscv_raise(struct riscv_cpu *c, unsigned cause, uint64_t tval);
uint32_t riscv_fflags(struct riscv_cpu *c);             /* accrued, of host and software; fp.c */
void riscv_set_fflags(struct riscv_cpu *c, uint32_t v);
void riscv_set_frm(struct riscv_cpu *c, uint32_t frm);  /* and the host's control that follows */
/* system.c: entries of struct guest, and what CSR instructions end a region. */
__attribute__((noreturn)) void riscv_unaligned(struct cpu *cpu, uint64_t va, enum mmu_access access);
void riscv_bus_error(struct cpu *cpu, uint64_t va, uint64_t phys, enum mmu_access access);
uint64_t riscv_mode_bits(const struct cpu *cpu);
unsigned riscv_mmu_index(const struct cpu *cpu, bool code);
bool riscv_deliver(struct cpu *cpu);
bool riscv_has_work(const struct cpu *cpu);
bool riscv_cpu_init(struct cpu *cpu, struct vm *vm, const char *spec, struct error *err);
void riscv_reset(struct cpu *cpu);
void riscv_cpu_free(struct cpu *cpu);
/* mmu.c */
bool riscv_access_allowed(struct cpu *cpu, uint64_t va, uint64_t phys, unsigned n, enum mmu_access access, unsigned mmu);
bool riscv_translate(struct cpu *cpu, uint64_t va, enum mmu_access access, unsigned mmu, bool probe, struct mmu_result *out);
char *riscv_mmu_dump(struct cpu *cpu, bool tlb);
/* csr.c: a write to it changes neither mode bits nor which interrupts may come, so that the region may go on. Reads
 * never end one. */
bool riscv_csr_keeps_mode(unsigned csr);
/* models.c */
const struct cpu_model *riscv32_models(unsigned *count);
const struct cpu_model *riscv64_models(unsigned *count);
const struct cpu_feature *riscv_features(unsigned *count);
bool riscv_cpu_has(const struct cpu *cpu, const struct cpu_feature *f);
char *riscv_isa_string(const struct riscv_features *f);         /* "rv64imafdc_zicsr_..."; caller frees */
char **riscv_isa_list(const struct riscv_features *f);          /* "i", "m", ... "zicsr": NULL-terminated; g_strfreev() */

/* ---- for boards and interrupt controllers */
/* A line into mip changed (ACLINT, PLIC); any thread. */
void riscv_set_irq(struct riscv_cpu *c, unsigned bit, bool level);
/* The time CSR, and how far it is ahead of the machine's clock (mtime was written), in ticks of 100 ns. */
uint64_t riscv_cpu_time(struct cpu *cpu);
void riscv_time_set_offset(struct cpu *cpu, int64_t ticks);
unsigned riscv_cbo_bytes(const struct cpu *cpu);
uint32_t riscv_hpm_counters(const struct cpu *cpu);     /* the programmable counters there are: a bit each, 3 to 31 */

#endif
