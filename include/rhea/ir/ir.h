/* The intermediate representation: what a guest instruction means, written once by the front end, run by the
 * interpreter and compiled by the host back ends.
 *
 * A region is one contiguous run of guest code (a "superblock" with internal edges), as one array of typed ops.
 * Values are SSA: an op defines at most one value, used only later in the same basic block. What crosses a basic
 * block lives in slots: named, typed fields of the guest's state (registers, lazy flags). A back end keeps slots in
 * host registers across the whole region; they are in memory whenever C code may look (helpers that say so, faults,
 * exits).
 *
 * Invariants (ir_validate() checks them in debug builds and in tests):
 *  (1) values are defined before use, in the same basic block; every operand has the type the op asks for;
 *  (2) a slot is read and written only with its declared type; state fields that are not slots only by STLD/STST;
 *  (3) the first op is LABEL 0 (region entry); every other basic block starts at a LABEL or follows a BRCOND;
 *      the last op ends the region (BR backwards, EXIT_*);
 *  (4) each op that may fault or call a helper lies after the INSN_START of its guest instruction, and no slot of
 *      that instruction was PUT before its last faulting op, unless the instruction is restartable with it
 *      (ir_put_early(): a lazy flag description made current, the progress of a string instruction);
 *  (5) every backward edge passes a POLL: in the block that branches, before the branch, or in the target's block. */
#ifndef RHEA_IR_IR_H
#define RHEA_IR_IR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint16_t ir_val;                /* number of a value; 0: none */
typedef uint16_t ir_label;

enum ir_type { T_VOID, T_I32, T_I64, T_V128, T_V256, T_COUNT };

/* Comparison of SETCC, SELECT, BRCOND. TSTEQ/TSTNE compare (a & b) with 0. */
enum ir_cond {
    C_EQ, C_NE, C_LT, C_GE, C_LE, C_GT, C_LTU, C_GEU, C_LEU, C_GTU, C_TSTEQ, C_TSTNE, C_COUNT
};
static inline enum ir_cond ir_cond_invert(enum ir_cond c) { return (enum ir_cond)(c ^ 1); }
_Static_assert((C_LT ^ 1) == C_GE && (C_LE ^ 1) == C_GT && (C_LTU ^ 1) == C_GEU && (C_LEU ^ 1) == C_GTU, "pairs");

/* A guest memory access, packed into 32 bits. size is log2 of bytes (0..5). */
typedef uint32_t memop;
enum {
    MEM_8 = 0, MEM_16 = 1, MEM_32 = 2, MEM_64 = 3, MEM_128 = 4, MEM_256 = 5, MEM_SIZE = 7,
    MEM_SIGNED = 1 << 3,                /* loads of less than the result: sign-extend (else zero-extend) */
    MEM_BE = 1 << 4,                    /* big-endian */
    MEM_ALIGN_SHIFT = 5,                /* 3 bits: required alignment, log2; 0: none. Fault: guest->unaligned */
    MEM_ALIGN_MASK = 7 << 5,
    MEM_ATOMIC = 1 << 8,                /* single-copy atomic when aligned (what every guest gives up to its word) */
    MEM_ACQUIRE = 1 << 9, MEM_RELEASE = 1 << 10,        /* as Arm's LDAR, STLR: an acquiring load stays after earlier releasing stores */
    MEM_RW = 1 << 11,                   /* a load whose store follows (read-modify-write): checks write permission */
    MEM_MMU_SHIFT = 12,                 /* 4 bits: MMU index */
    MEM_MMU_MASK = 15 << 12,
    MEM_WRAP_32 = 1 << 16,              /* the address is a + disp modulo 2^32 */
};
static inline unsigned memop_bytes(memop m) { return 1u << (m & MEM_SIZE); }
static inline unsigned memop_mmu(memop m) { return (m & MEM_MMU_MASK) >> MEM_MMU_SHIFT; }

/* Flags of an op kind */
enum {
    OPF_FAULTS = 1,                     /* may raise a guest exception: a fault point */
    OPF_SIDE = 2,                       /* has an effect besides its value: never removed, never reordered */
    OPF_ENDS = 4,                       /* control never reaches the next op */
    OPF_COMM = 8,                       /* a and b commute */
    OPF_LABEL = 16,                     /* uses .label */
    OPF_LANES = 32,                     /* its operands may be elements of vectors: see ir_fold_lanes() */
    OPF_LOOKS = 64,                     /* slots may be looked at there: by a helper, by the loop */
};

/* X(id, text, operands, flags). Types: op->type is the result's (or the stored value's); operands have the same
 * type unless said. Integer ops take I32 or I64. */
#define IR_OPS(X)                                                                                          \
    X(NOP, "nop", 0, 0)                                                                                    \
    X(CONST, "const", 0, 0)             /* imm; I32 is kept zero-extended; V128/V256: imm in every 64-bit lane */ \
    /* state */                                                                                            \
    X(GET, "get", 0, 0)                 /* slot aux */                                                     \
    X(PUT, "put", 1, OPF_SIDE | OPF_LANES)      /* slot aux = a; esz 1: early, see invariant (4) */              \
    X(STLD, "stld", 0, 0)               /* field at byte offset imm; size esz (log2), zero-extended; V128/V256 too. Of \
                                           cpu.fp_control: with the flags that the host has collected */ \
    X(STST, "stst", 1, OPF_SIDE)                                                                           \
    X(PC, "pc", 0, 0)                   /* I64: the run-time page of the region's entry (cpu.pc_page) + imm */ \
    /* integer; shift and rotate counts are taken modulo the width */                                      \
    X(ADD, "add", 2, OPF_COMM) X(SUB, "sub", 2, 0) X(MUL, "mul", 2, OPF_COMM)                              \
    X(AND, "and", 2, OPF_COMM) X(OR, "or", 2, OPF_COMM) X(XOR, "xor", 2, OPF_COMM) X(ANDC, "andc", 2, 0)   \
    X(NEG, "neg", 1, 0) X(NOT, "not", 1, 0)                                                                \
    X(SHL, "shl", 2, 0) X(SHR, "shr", 2, 0) X(SAR, "sar", 2, 0) X(ROTL, "rotl", 2, 0) X(ROTR, "rotr", 2, 0) \
    X(MULHU, "mulhu", 2, OPF_COMM) X(MULHS, "mulhs", 2, OPF_COMM)                                          \
    X(DIVU, "divu", 2, 0) X(DIVS, "divs", 2, 0) X(REMU, "remu", 2, 0) X(REMS, "rems", 2, 0)                \
                                        /* divisor 0 and MIN/-1 must have been excluded by the front end */ \
    X(CLZ, "clz", 1, 0) X(CTZ, "ctz", 1, 0)     /* of 0: the width */                                      \
    X(POPCNT, "popcnt", 1, 0)                                                                              \
    X(BSWAP, "bswap", 1, 0) X(BSWAP16, "bswap16", 1, 0) /* BSWAP16: low 16 bits, result zero-extended */   \
    X(SEXT8, "sext8", 1, 0) X(SEXT16, "sext16", 1, 0) X(ZEXT8, "zext8", 1, 0) X(ZEXT16, "zext16", 1, 0)    \
    X(SEXT32, "sext32", 1, 0)           /* I64 from I32 */                                                 \
    X(ZEXT32, "zext32", 1, 0)           /* I64 from I32 */                                                 \
    X(TRUNC, "trunc", 1, 0)             /* I32 from I64 */                                                 \
    X(EXTRACT, "extract", 1, 0)         /* bits pos..pos+len-1 of a, zero-extended; imm = pos | len << 8 */ \
    X(SEXTRACT, "sextract", 1, 0)                                                                          \
    X(DEPOSIT, "deposit", 2, 0)         /* a with b's low len bits at pos */                               \
    X(LEA, "lea", 2, 0)                 /* I64: a + (b << esz) + imm (imm: 32 bits signed); b may be 0 */  \
    X(SETCC, "setcc", 2, 0)             /* 1 or 0; operands of type ctype */                               \
    X(SELECT, "select", 4, 0)           /* cond(a, b) ? c : d; a, b of type ctype */                       \
    /* guest memory: address a (I64) + disp */                                                             \
    X(LOAD, "load", 1, OPF_FAULTS | OPF_SIDE)           /* V128 of MEM_32, MEM_64: rest zero (movd, movq) */ \
    X(STORE, "store", 2, OPF_FAULTS | OPF_SIDE | OPF_LANES)     /* value b, of type `type`; V128 as MEM_32, MEM_64: its low lane */ \
    X(ATOMIC_XCHG, "atomic_xchg", 2, OPF_FAULTS | OPF_SIDE)     /* each gives the old value, zero-extended */ \
    X(ATOMIC_ADD, "atomic_add", 2, OPF_FAULTS | OPF_SIDE)                                                  \
    X(ATOMIC_AND, "atomic_and", 2, OPF_FAULTS | OPF_SIDE)                                                  \
    X(ATOMIC_OR, "atomic_or", 2, OPF_FAULTS | OPF_SIDE)                                                    \
    X(ATOMIC_XOR, "atomic_xor", 2, OPF_FAULTS | OPF_SIDE)                                                  \
    X(ATOMIC_CAS, "atomic_cas", 3, OPF_FAULTS | OPF_SIDE)       /* expects b, stores c */                  \
    X(FENCE, "fence", 0, OPF_SIDE)      /* imm: which orders it keeps, set of FENCE_* */                    \
    /* vectors: see vop.h */                                                                               \
    X(VOP, "vop", 4, OPF_LANES)         /* vector op number aux, operands a, b, c; imm: its immediate */   \
    X(VFIX, "vfix", 4, OPF_SIDE | OPF_LANES)    /* d, or what the guest's fix number aux makes of it: see ir_vfix() */ \
    X(VGUARD, "vguard", 3, OPF_SIDE | OPF_LANES)        /* vector op number aux, or a fix that does all of it: see ir_vguard() */ \
    /* control */                                                                                          \
    X(INSN_START, "insn", 0, OPF_SIDE)  /* imm: offset of the instruction from pc_page; aux: its index */  \
    X(LABEL, "label", 0, OPF_SIDE | OPF_LABEL)                                                             \
    X(BR, "br", 0, OPF_SIDE | OPF_ENDS | OPF_LABEL)                                                        \
    X(BRCOND, "brcond", 2, OPF_SIDE | OPF_LABEL)        /* to label if cond(a, b); else the next op */     \
    X(POLL, "poll", 0, OPF_SIDE | OPF_LOOKS)    /* leaves for the loop if cpu.exit_request; pc = pc_page + imm */  \
    X(CALL, "call", 4, OPF_SIDE | OPF_LOOKS)    /* helper aux */                                                   \
    X(CALL_HOST, "call_host", 3, OPF_FAULTS | OPF_SIDE)         /* or the host's instruction: see ir_call_host() */ \
    X(EXIT_JUMP, "exit_jump", 0, OPF_SIDE | OPF_ENDS)   /* to pc_page + imm; aux: exit number */           \
    X(EXIT_INDIRECT, "exit_indirect", 1, OPF_SIDE | OPF_ENDS)   /* to a (I64 pc); aux: exit number */      \
    X(EXIT_LOOP, "exit_loop", 0, OPF_SIDE | OPF_ENDS)   /* back to the C loop at pc_page + imm (mode may differ); \
                                           aux: exit number */                                             \
    X(EXIT_LOOP_PC, "exit_loop_pc", 1, OPF_SIDE | OPF_ENDS) /* back to the C loop at a; aux: exit number */

enum ir_opcode {
#define X(id, text, n, flags) IR_##id,
    IR_OPS(X)
#undef X
    IR_OPCODE_COUNT
};

struct ir_op {
    uint8_t op;                 /* enum ir_opcode */
    uint8_t type;               /* enum ir_type */
    uint8_t ctype;              /* enum ir_type of compared operands */
    uint8_t cond : 4;           /* enum ir_cond */
    uint8_t esz : 4;            /* log2 of a size in bytes, or a scale */
    ir_val dst;                 /* value defined, or 0 */
    union {
        struct { ir_val a, b, c, d; };
        ir_val arg[4];          /* the same four; 0 where there is none */
    };
    uint16_t aux;               /* slot, vop, helper, label, exit or instruction number */
    union {
        int64_t imm;
        struct { memop mem; int32_t disp; };    /* LOAD, STORE, ATOMIC_*, CALL_HOST */
    };
};
_Static_assert(sizeof(struct ir_op) == 24, "an op is 24 bytes");

struct cpu;
/* Orders that a FENCE keeps: earlier loads (R) or stores (W) before later ones. */
enum { FENCE_RR = 1, FENCE_RW = 2, FENCE_WR = 4, FENCE_WW = 8, FENCE_LOADS = 3, FENCE_ALL = 15 };

/* When a VFIX applies. S, D: lane 0 of 32, 64 bits; PS, PD: any lane. MASK: what c, a comparison, says: for what else may
 * differ, found before the host's arithmetic and kept from it, as it would raise flags of its own. */
enum ir_fix_cond {
    FIX_NAN_S, FIX_NAN_D, FIX_NAN_PS, FIX_NAN_PD,       /* the result is a NaN */
    FIX_EQ_S, FIX_EQ_D, FIX_EQ_PS, FIX_EQ_PD,           /* a and b are equal or unordered (minimum, maximum) */
    FIX_INDEF,                          /* an integer result is the indefinite one: 1 << 31 (I32), 1 << 63 (I64) */
    FIX_INDEF_PS,                       /* ... some 32-bit lane of a vector */
    FIX_UNBOXED,                        /* bits 63:32 of a are not all ones (RISC-V NaN boxes) */
    FIX_MASK_S, FIX_MASK_D, FIX_MASK_PS,        /* c's sign bit: of lane 0 of 32, 64 bits; of some 32-bit lane */
    /* An operand is not zero, and at most the least normal number; at most 2^-63, 2^-511 (S, D) */
    FIX_DENORMAL_S, FIX_DENORMAL_D, FIX_DENORMAL_PS, FIX_DENORMAL_PD,
    FIX_SMALL_S, FIX_SMALL_D, FIX_SMALL_PS, FIX_SMALL_PD,
    FIX_COND_COUNT
};
/* What guests do where host arithmetic differs (NaNs, out of range): the whole operation again, by their own rules. Vectors
 * are V128 images, an integer result is the low 8 bytes of *result, an operand that is not there NULL. In: *result is
 * what the host made. The function touches neither slots nor memory nor the host's MXCSR, and raises nothing; it may
 * collect sticky flags in the guest's own state. */
typedef void ir_fix_fn(struct cpu *cpu, uint8_t *result, const uint8_t *a, const uint8_t *b, const uint8_t *c, int64_t imm);
struct ir_fix { const char *name; ir_fix_fn *fn; };
/* What a VGUARD's imm holds. */
struct ir_guarded { uint8_t cond, fix, imm; uint32_t fix_imm; };
static inline struct ir_guarded ir_guarded(int64_t imm)
{
    return (struct ir_guarded){ .cond = (uint8_t)imm, .fix = (uint8_t)(imm >> 32), .imm = (uint8_t)(imm >> 40),
                                .fix_imm = (uint32_t)imm >> 8 };
}
/* Does it apply? In C, for the interpreter; sticky bits that the host's test would set go to cpu->fp_control. */
bool ir_fix_applies(struct cpu *cpu, enum ir_fix_cond cond, unsigned type, const uint8_t *result, const uint8_t *a,
                    const uint8_t *b, const uint8_t *c);

struct ir_opinfo { const char *text; uint8_t operands, flags; };
extern const struct ir_opinfo ir_opinfo[IR_OPCODE_COUNT];

/* A field of the guest's state that the translator may keep in a host register. Slots may overlap where no region uses both. */
struct ir_slot {
    const char *name;
    uint32_t offset;            /* from the start of struct cpu */
    uint8_t type;               /* enum ir_type */
    uint8_t weight;             /* 0: never worth a host register (flags); else preference among equals */
    uint8_t part;               /* the field is but the lowest 4 or 8 bytes of the V128, the others are anything; 0: all */
    bool scratch;               /* nobody but GETs looks at it */
};
static inline unsigned ir_type_bytes(unsigned type) { return type == T_VOID ? 0 : 2u << type; }
_Static_assert(2 << T_I32 == 4 && 2 << T_V256 == 32, "bytes of types");
static inline unsigned ir_slot_bytes(const struct ir_slot *s) { return s->part ? s->part : ir_type_bytes(s->type); }
enum { IR_MAX_SLOTS = 192, IR_SLOT_WORDS = IR_MAX_SLOTS / 64, IR_MAX_OPS = 8192, IR_MAX_LABELS = 512, IR_MAX_EXITS = 256 };

/* A C function that translated code calls: fn(struct cpu *, args...) -> type. At most four arguments; integers are
 * passed in registers zero-extended, vectors by pointer (const uint8_t *), a vector result through a first pointer
 * argument after cpu. An integer result is a uint32_t or uint64_t (not a bool: its upper bits would be undefined). */
enum {
    HELPER_READS = 1,           /* sees slots: they are written back first */
    HELPER_WRITES = 2,          /* may change any slot: they are loaded again after; implies READS */
    HELPER_RAISES = 4,          /* may leave by cpu_loop_exit(): slots and cpu.pc are written first; implies READS */
    HELPER_PURE = 8,            /* value depends on arguments alone: may be removed or merged */
    HELPER_FP = 16,             /* reads or changes cpu.fp_control: the JIT stores the host's MXCSR there before the
                                 * call (stmxcsr) and loads it after (ldmxcsr) */
};
/* Instructions that hosts may have for what a helper does: an x87's, while it holds the guest's registers (cpu.fpu_on_host). */
enum ir_host_insn {
    HOST_NONE,
    HOST_X87,                   /* of registers: opcode and ModRM byte */
    HOST_X87_MEMORY,            /* opcode and ModRM byte, of which the middle field counts; the operand is at address a */
    HOST_X87_COMPARE,           /* the result is EFLAGS' ZF, PF and CF, as FCOMI sets them */
    HOST_X87_STATUS,            /* the result is the status word */
    HOST_X87_CONTROL,           /* the control word becomes c, if that masks all exceptions */
    HOST_X87_MOVE_IF,           /* FCMOV, by ZF: taken if c is not 0 */
};
static inline uint32_t host_insn(enum ir_host_insn kind, unsigned opcode, unsigned modrm) { return (uint32_t)kind << 16 | opcode << 8 | modrm; }
struct ir_helper { const char *name; void *fn; uint8_t flags, ret, nargs, args[4]; };

/* Where a region may leave to. */
enum ir_exit_kind { EXIT_DIRECT, EXIT_INDIRECT_JUMP, EXIT_CALL, EXIT_RETURN, EXIT_TO_LOOP };
struct ir_exit {
    uint8_t kind;
    uint16_t icount;            /* instructions completed since region entry along the straight line */
    int64_t target;             /* direct: offset from pc_page */
    int64_t ret;                /* EXIT_CALL: return address, offset from pc_page */
};

struct guest;
/* A region being built: arena-like, reused from one translation to the next (one a vCPU thread). */
struct ir {
    const struct guest *guest;
    uint64_t mode;              /* mode bits it is translated for */
    uint64_t pc, end;           /* guest pcs it covers: [pc, end), as seen when it was translated */
    uint64_t page;              /* pc & ~page mask: what pc_page held */
    /* User mode: pc ops are constants; of addresses in memory the low 32 bits count. They stay as they are from region to region. */
    bool fixed_pc, wrap_32;
    bool host_x87;              /* CALL_HOST ops of the x87 may be built */
    struct ir_op *ops; unsigned nops;
    unsigned nvals;             /* next value number */
    uint8_t *val_type;          /* [nvals]; values below T_COUNT stand for what dropped ops would define */
    uint16_t *val_op;           /* [nvals]: index of the op that defines the value */
    unsigned block_start;       /* index of the current basic block's first op */
    struct ir_exit exits[IR_MAX_EXITS]; unsigned nexits;
    unsigned nlabels;
    uint16_t label_op[IR_MAX_LABELS];   /* index of the LABEL op; 0: not bound (label 0: always op 0) */
    unsigned ninsns;
    const struct ir_helper *const *helpers; unsigned nhelpers;  /* the guest's table; aux of CALL indexes it */
    /* guest pc -> label of the leaders found by the scan (see region.c) */
    struct ir_leader { uint64_t pc; ir_label label; bool bound; } leaders[IR_MAX_LABELS]; unsigned nleaders;
    uint64_t insn_pc, insn_next;        /* the instruction being emitted, and the one after it */
    /* Where the instruction being emitted goes on within the region, if it is a call or a return: tier 2 has both in one
     * region (src/jit/graph.c). NULL: it leaves. */
    const struct ir_leader *call_to, *return_to;
    bool ended;                 /* the last op ended control */
    bool overflow;              /* too large: the caller retries with fewer instructions */
    ir_val const_cache[16];     /* recent CONSTs of this block, by hash */
    void *front;                /* the front end's own per-region knowledge */
    /* Called before a memory op is built, if the front end has set it: watchpoints are armed. */
    void (*watch)(struct ir *ir, memop m, bool read, bool write, ir_val addr, int32_t disp);
};

struct ir *ir_new(void);
void ir_free(struct ir *ir);
void ir_begin(struct ir *ir, const struct guest *guest, uint64_t pc, uint64_t mode);     /* appends LABEL 0 */
/* After the last instruction: leaders that were branched to but not bound, and an open end, become direct exits. */
void ir_finish(struct ir *ir);
struct ir *ir_clone(const struct ir *ir);       /* a copy with arrays of just the size; only to be read and freed */

/* Builder. Each folds constants and trivial identities, so front ends need not. Types follow the operands. */
struct ir_op *ir_append(struct ir *ir, enum ir_opcode op, enum ir_type type);   /* raw; most callers want below */
ir_val ir_const(struct ir *ir, enum ir_type type, uint64_t imm);
bool ir_is_const(const struct ir *ir, ir_val v, uint64_t *imm);
static inline enum ir_type ir_type_of(const struct ir *ir, ir_val v) { return (enum ir_type)ir->val_type[v]; }
ir_val ir_get(struct ir *ir, unsigned slot);
void ir_put(struct ir *ir, unsigned slot, ir_val v);
/* As ir_put(), where the same instruction may still fault and be restarted with the new value. */
void ir_put_early(struct ir *ir, unsigned slot, ir_val v);
ir_val ir_state_load(struct ir *ir, enum ir_type type, uint32_t offset, unsigned log2_size);
void ir_state_store(struct ir *ir, uint32_t offset, unsigned log2_size, ir_val v);
ir_val ir_pc(struct ir *ir, uint64_t pc);       /* the run-time value of guest address pc (position-independent) */
ir_val ir_un(struct ir *ir, enum ir_opcode op, ir_val a);
ir_val ir_bin(struct ir *ir, enum ir_opcode op, ir_val a, ir_val b);
ir_val ir_bin_imm(struct ir *ir, enum ir_opcode op, ir_val a, uint64_t imm);
ir_val ir_extract(struct ir *ir, ir_val a, unsigned pos, unsigned len);
ir_val ir_sextract(struct ir *ir, ir_val a, unsigned pos, unsigned len);
ir_val ir_deposit(struct ir *ir, ir_val a, ir_val b, unsigned pos, unsigned len);
/* base + (index << scale) + disp; base and index may be 0: none. */
ir_val ir_lea(struct ir *ir, ir_val base, ir_val index, unsigned scale, int32_t disp);
ir_val ir_setcc(struct ir *ir, enum ir_type type, enum ir_cond cond, ir_val a, ir_val b);
ir_val ir_select(struct ir *ir, enum ir_cond cond, ir_val a, ir_val b, ir_val if_true, ir_val if_false);
ir_val ir_load(struct ir *ir, enum ir_type type, memop m, ir_val addr, int32_t disp);
void ir_store(struct ir *ir, memop m, ir_val addr, int32_t disp, ir_val v);
ir_val ir_atomic(struct ir *ir, enum ir_opcode op, memop m, ir_val addr, ir_val v);
ir_val ir_cas(struct ir *ir, memop m, ir_val addr, ir_val expected, ir_val v);
void ir_fence(struct ir *ir, unsigned orders);   /* FENCE_* */
/* Vector op `vop` (vop.h); unused operands 0. type: of the result (I32 or I64 for rows with VOPF_GPR_RESULT). */
ir_val ir_vop(struct ir *ir, unsigned vop, enum ir_type type, ir_val a, ir_val b, ir_val c, int64_t imm);
/* `result` of host arithmetic on a, b, c (0: not there), put right by the guest's fix number n where cond holds, out of
 * line; imm (24 bits) is for the fix. result: V128, I32 or I64. */
ir_val ir_vfix(struct ir *ir, enum ir_fix_cond cond, unsigned n, ir_val result, ir_val a, ir_val b, ir_val c, int32_t imm);
/* Vector op `vop` of a, b, c (V128), or where the condition holds of them (one of those that look at operands alone), found
 * before the host raises flags, the guest's fix instead: its *result begins as a. An operand that the op does not take is
 * looked at all the same. */
ir_val ir_vguard(struct ir *ir, unsigned vop, ir_val a, ir_val b, ir_val c, struct ir_guarded by);
/* Calls helper number n of the guest's table; 0 if it returns nothing. */
ir_val ir_call(struct ir *ir, unsigned n, ir_val a, ir_val b, ir_val c, ir_val d);
/* As ir_call(n, what, c, a), of a helper that may raise and changes no slot, or the host's instruction (host_insn()), where the
 * guest's registers are in the host's processor. m, a: of its operand in memory; 0: it has none. c: I32. */
ir_val ir_call_host(struct ir *ir, unsigned n, uint32_t what, ir_val c, memop m, ir_val a, uint32_t insn);
ir_label ir_label_new(struct ir *ir);
void ir_label_bind(struct ir *ir, ir_label l);
void ir_br(struct ir *ir, ir_label l);
void ir_brcond(struct ir *ir, enum ir_cond cond, ir_val a, ir_val b, ir_label if_true);
/* Control to a guest address: a branch inside the region where pc is one of its leaders (with a POLL when backward),
 * else a direct exit. */
void ir_goto(struct ir *ir, uint64_t pc);
void ir_poll(struct ir *ir, uint64_t pc);       /* for loops of the front end's own (string instructions) */
void ir_call_to(struct ir *ir, uint64_t pc, uint64_t ret);      /* a direct call: hint for return prediction */
void ir_goto_indirect(struct ir *ir, ir_val pc, enum ir_exit_kind hint);
/* Leaves to the C loop, which looks again at mode and interrupts, then goes on at pc. */
void ir_exit_loop(struct ir *ir, uint64_t pc);
void ir_exit_loop_at(struct ir *ir, ir_val pc);
void ir_insn_start(struct ir *ir, uint64_t pc, unsigned len);

struct ir_analysis;
/* Every op, one a line, as -d op prints; with what the passes found (-d op_opt) if an is not NULL. Caller frees. */
char *ir_print(const struct ir *ir);
char *ir_print_optimized(const struct ir *ir, const struct ir_analysis *an);
/* false with the first broken invariant in *why (caller frees). */
bool ir_validate(const struct ir *ir, char **why);

/* What the passes find out, for back ends. */
enum { OPX_DEAD = 1,            /* nobody needs it: emit nothing */
       OPX_SUNK = 2 };          /* a PUT that only fault points (OPF_FAULTS ops, POLLs) before the next PUT of its slot
                                 * can see: their cold stubs write it. Helpers that read slots are not among them. */
struct ir_use {                 /* per op */
    uint8_t flags;
    uint16_t sunk_end;          /* OPX_SUNK: op index of the PUT that overwrites it, in the same basic block */
};
struct ir_analysis {
    struct ir_use *use;         /* [nops] */
    uint16_t *last_use;         /* [nvals]: op index of the last use (sunk PUTs: their sunk_end); 0: unused */
    struct ir_slot_use {
        uint32_t reads, writes; /* GETs and PUTs left, loop-weighted */
    } slot[IR_MAX_SLOTS];
    struct ir_work *work;       /* the passes' own buffers */
};
/* Rewrites the region in place: dead values, dead and sunk PUTs over the whole region, forwarding of slots in a block,
 * constants and copies, comparisons fused into branches. Linear; to be called once a region. Ops that are not needed
 * are taken out (op numbers change, NOPs and labels nobody branches to are gone) or, found late, marked OPX_DEAD. */
void ir_optimize(struct ir *ir, struct ir_analysis *out);
struct ir_analysis *ir_analysis_new(void);
void ir_analysis_free(struct ir_analysis *an);

#endif
