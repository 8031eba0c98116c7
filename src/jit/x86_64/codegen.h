/* The x86-64 back end's own structures. How values and slots get their registers is told in docs/jit.md, "Registers".
 *
 * Invariants of the state between ops:
 *  (1) regs[r] == v exactly when val[v].reg == r;
 *  (2) cur[s] is the value that slot s holds (0: only memory knows); a dirty slot's value is in a register or constant;
 *  (3) a clean slot's memory holds cur[s];
 *  (4) val[v].mem_slot == s + 1 means memory of slot s holds v, and then memval[s] == v and s is not dirty with another;
 *  (5) a register is free when its value is dead (last use passed) and no slot's current value. */
#ifndef RHEA_JIT_X86_64_BACKEND_H
#define RHEA_JIT_X86_64_BACKEND_H

#include <assert.h>
#include <setjmp.h>
#include "rhea/jit/codegen.h"
#include "rhea/guest/guest.h"
#include "rhea/ir/cpu.h"
#include "rhea/ir/vop.h"
#include "asm.h"

/* What the host can do; set once. */
struct host_features { bool x87, avx, avx2, bmi1, bmi2, lzcnt, popcnt, movbe, fma, f16c, aes, pclmul, sha, gfni; };
extern const struct host_features *host_features(void);
bool host_has(enum host_feature f);

/* The frame below the saved registers, from rsp up while translated code runs. */
enum {
    FRAME_SPILL_INTS = 46, FRAME_SPILL_VECS = 24,
    FRAME_INTS = 16,                                            /* below: outgoing arguments */
    FRAME_VECS = FRAME_INTS + 8 * FRAME_SPILL_INTS,             /* 32-byte aligned */
    FRAME_CALL = FRAME_VECS + 32 * FRAME_SPILL_VECS,            /* vector arguments and result of helpers: 5 * 32 */
    FRAME_IMAGE = FRAME_CALL + 5 * 32,                          /* struct reg_image of slow paths */
    FRAME_SIZE = FRAME_IMAGE + 16 * 8 + 16 * 32 + 32,
};
struct reg_image { uint64_t gpr[16]; uint8_t vec[16][32]; };

enum {
    GPR_SCRATCH_CALLER = 1 << RAX | 1 << RCX | 1 << RDX | 1 << RSI | 1 << RDI | 1 << R8 | 1 << R9 | 1 << R10 | 1 << R11,
    GPR_CALLEE = 1 << RBX | 1 << R12 | 1 << R13 | 1 << R14 | 1 << R15,
    GPR_ALL = GPR_SCRATCH_CALLER | GPR_CALLEE,
};
#define VEC_ALL 0xffff0000u

enum { VAL_CONST = 1, VAL_ZX = 2 /* bits 63:32 of its register are zero */,
       VAL_MEMO = 4 /* an addend of the soft TLB: may be dropped at any time */ };
struct value {
    uint8_t reg;                /* or NOREG */
    uint8_t type;
    uint8_t flags;
    uint8_t pins;               /* slots whose current value it is */
    uint16_t last;              /* op of its last use */
    uint16_t hint;              /* slot + 1: it will be PUT there, and nothing before that needs the slot's old value */
    int16_t spill;              /* index of its spill place, -1: none */
    uint16_t mem_slot;          /* slot + 1 */
    ir_val root;                /* value whose register it shares (itself) */
    uint64_t imm;
};

/* Accesses of one address value, further on in the block: what one check could cover. */
struct mem_group { int32_t lo, hi; uint16_t last; };    /* bytes lo to hi - 1 from the value; op of the last access, 0: none */
/* A check that was made: the addend for accesses of these bytes is in a register, or 0 where they must be made in C. */
struct tlb_memo { ir_val base, addend; int32_t lo, hi; uint8_t mmu; bool write; };
/* A span that lies in two pages sends all its accesses to C: one in 64 at this size (at 256, OpenSSL lost a quarter). */
enum { MEMOS = 3, MEMO_SPAN = 64, ALIGNED_MOST = 4 };
/* base + rest was found to be a multiple of mask + 1; base 0: nothing was. */
struct aligned { ir_val base; uint8_t mask, rest; };

struct snapshot {
    ir_val cur[IR_MAX_SLOTS];
    uint64_t dirty[IR_SLOT_WORDS], known[IR_SLOT_WORDS];
    ir_val regs[HOST_REGS];
    uint32_t busy;
};

/* Which register each slot has (or NOREG), which slot each register has, of the set of registers that have one. */
struct places { uint8_t reg[IR_MAX_SLOTS], slot[HOST_REGS]; uint32_t regs; };

struct label {
    const struct places *at;    /* of valid and dirty */
    uint16_t refs;              /* branches to it */
    bool falls;                 /* reached from the op before it, too */
    bool backward;              /* some branch comes from below */
    bool fixed, bound;
    int snap;                   /* single predecessor: its state, or -1 */
    uint32_t valid, dirty;      /* registers that hold their slot there; of these, whose memory is older */
    uint64_t live[IR_SLOT_WORDS];           /* slots read before written from here on */
    uint8_t *addr;
    int fixups;                 /* list of jumps to bind */
};
struct fixup { uint8_t *at; int next; };

/* A cold piece: code emitted after the hot code from the state at the time. Either ops [from, to), or a poll's exit. */
struct cold {
    uint8_t *jump;              /* displacement of the jump to it; a second in jump2 */
    int snap;
    uint16_t from, to;          /* ops; from == to: exit to the loop at pc offset `pc` */
    int64_t pc;
    int64_t insn_pc;
};
/* A memory access's slow path. `desc` indexes the buffer of descriptors. */
struct slow { uint8_t *jump /* NULL: there is none, only faults */, *at /* of the access */, *resume; uint32_t desc, len; bool vec; };
/* Row of a region's table of direct accesses, in the order of their code: where it begins, and its slow_desc. */
struct fault_row { uint32_t at, desc; };
_Static_assert(sizeof(struct fault_row) == CODEGEN_FAULT_ROW, "as saved regions have it");

enum { SLOW_LOAD, SLOW_STORE, SLOW_ATOMIC, SLOW_FIX, SLOW_CALL };
enum { LOC_CONST = 0xfe };
/* In code, behind `call slow; jmp resume`. Followed by `dirty` pairs {slot, register or LOC_CONST [, 8 bytes]}. */
struct __attribute__((packed)) slow_desc {
    uint8_t kind, op, type;
    uint8_t addr, data, cmp;    /* registers; data: value of stores and atomics */
    uint8_t dst;                /* of loads and atomics, or NOREG */
    uint8_t dirty;
    uint8_t memo;               /* register that the addend of [lo, hi) from .addr is wanted in, or NOREG */
    uint32_t mem;
    int32_t lo, hi;             /* SLOW_CALL: lo is the helper's number */
    int32_t disp;
    int32_t pc;                 /* of the instruction, from pc_page */
    uint64_t imm;
};

enum { MAX_SNAPSHOTS = 512, MAX_COLD = 768, MAX_SLOW = 2048, MAX_FIXUPS = 2048 };

struct codegen {
    enum codegen_memory memory;
    struct code_buf c;
    uint8_t *limit;
    ptrdiff_t rx_delta;
    struct code_out *out;
    const struct codegen_stubs *stubs;
    const struct ir *ir;
    const struct ir_analysis *an;
    const struct host_features *host;
    const struct ir_slot *slots;
    unsigned nslots;            /* those that the region names or keeps, and all before them */
    const struct ir_op *op;
    unsigned i;                 /* its index */
    int64_t insn_pc;            /* offset of the instruction being emitted from pc_page */

    struct value *val;
    unsigned nvals, cap_vals;
    ir_val regs[HOST_REGS];
    uint32_t busy;              /* registers that hold one */
    uint32_t locked;            /* registers of this op's operands and temporaries */
    uint32_t temps;             /* of these, temporaries */
    struct places home;         /* where slots are at labels within the region */
    struct places kept;         /* ... and where regions of this mode begin and end; memory is older */
    struct label outside;       /* that, as a label */
    struct places guest_kept;   /* guest.kept */
    const uint8_t *leave, *loop, *lookup;       /* stubs, for where `kept` is kept */
    ir_val cur[IR_MAX_SLOTS];
    ir_val memval[IR_MAX_SLOTS];
    uint64_t dirty[IR_SLOT_WORDS];
    uint64_t known[IR_SLOT_WORDS];          /* those of which cur or memval may say something */
    uint64_t written[IR_SLOT_WORDS];        /* slots PUT anywhere in the region */
    uint64_t spills_int, spills_vec;    /* places in use */
    unsigned nspilled;

    struct label label[IR_MAX_LABELS];
    struct snapshot *snap; unsigned nsnap;
    struct cold cold[MAX_COLD]; unsigned ncold;
    struct slow slow[MAX_SLOW]; unsigned nslow;
    struct fixup fixup[MAX_FIXUPS]; unsigned nfixup;
    uint8_t *desc; uint32_t ndesc, cap_desc;
    struct mem_group *group;    /* [nops]: of the accesses after it */
    struct mem_group *group_of; /* [nvals], and the block it is of: of the analysis */
    uint32_t *group_block;
    unsigned cap_group;
    struct tlb_memo memo[MEMOS];
    unsigned memo_next;
    struct aligned aligned[ALIGNED_MOST];
    unsigned aligned_next;
    unsigned skip_to;           /* op at which to go on, 0: the next */
    bool used_ymm;
    sigjmp_buf overflow;
};

#define BIT64(set, n) ((set)[(n) >> 6] >> ((n) & 63) & 1)
static inline void bit64_set(uint64_t *set, unsigned n) { set[n >> 6] |= 1ull << (n & 63); }
/* Each n of a set of slots, as it is when the loop begins. */
#define FOR_SLOTS(n, set) \
    for (unsigned w_ = 0, n; w_ < IR_SLOT_WORDS; w_++) \
        for (uint64_t m_ = (set)[w_]; m_ && (n = w_ * 64 + __builtin_ctzll(m_), true); m_ &= m_ - 1)
static inline void bit64_clear(uint64_t *set, unsigned n) { set[n >> 6] &= ~(1ull << (n & 63)); }

/* The region does not fit somewhere: codegen_compile() returns false. */
static inline _Noreturn void codegen_overflow(struct codegen *b) { siglongjmp(b->overflow, 1); }

/* The last `bytes` bytes emitted depend on where things are. */
static inline void reloc_add(struct codegen *b, enum code_reloc_kind kind, unsigned bytes)
{
    struct code_relocs *r = b->out->relocs;

    if (!r)
        return;
    if (r->n == MAX_RELOCS)
        r->fixed = true;
    else
        r->row[r->n].at = b->c.p - bytes - b->out->rw, r->row[r->n++].kind = kind;
}
/* r = a guest address of this page's process, user mode */
static inline void mov_pc(struct codegen *b, unsigned r, uint64_t pc)
{
    if (!b->out->relocs) {
        mov_imm(&b->c, r, pc);
        return;
    }
    put_prefixes(&b->c, (0xb8 + (r & 7)) | OP_W, 0, 0, r, false);
    put64(&b->c, pc);
    reloc_add(b, RELOC_PC, 8);
}

static inline struct mem state_mem(int32_t offset) { return mem_at(RBP, offset - CPU_MIDDLE); }
static inline void lea_cpu(struct code_buf *c, unsigned r) { lea(c, true, r, state_mem(0)); }
#define STATE(field) state_mem(offsetof(struct cpu, field))
static inline bool type_is_vec(unsigned type) { return type == T_V128 || type == T_V256; }

/* alloc.c */
static inline ir_val val_root(struct codegen *b, ir_val v)
{
    while (b->val[v].root != v)
        v = b->val[v].root;
    return v;
}
static inline struct value *value_of(struct codegen *b, ir_val v) { return &b->val[val_root(b, v)]; }
static inline bool val_const(struct codegen *b, ir_val v, uint64_t *imm)
{
    struct value *x = value_of(b, v);

    if (x->flags & VAL_CONST && imm)
        *imm = x->imm;
    return x->flags & VAL_CONST;
}
/* Constant that fits a sign-extended 32-bit immediate of a w-wide op. */
bool val_imm32(struct codegen *b, ir_val v, bool w, int32_t *imm);
unsigned use_reg(struct codegen *b, ir_val v);                  /* in a register, locked until the op's end */
unsigned use_in(struct codegen *b, ir_val v, unsigned reg);     /* a copy in exactly that register (a taken temporary) */
unsigned temp_reg(struct codegen *b, uint32_t allowed);         /* for this op */
void take_reg(struct codegen *b, unsigned reg);                 /* that one, for this op */
unsigned def_reg(struct codegen *b);                            /* op->dst; may be an operand's that dies */
unsigned def_reg_early(struct codegen *b);                      /* ... that no operand has */
unsigned def_like(struct codegen *b, ir_val a);                 /* op->dst, holding a's content */
void def_in(struct codegen *b, unsigned reg);                   /* op->dst is in this temporary */
unsigned def_home_or(struct codegen *b, unsigned reg);          /* ... or in its slot's home */
void def_alias(struct codegen *b, ir_val dst, ir_val a);        /* dst is a */
void def_const(struct codegen *b, ir_val dst, uint64_t imm);
void pc_to_reg(struct codegen *b, unsigned r, int64_t offset);
bool dies_here(struct codegen *b, ir_val v);                    /* its register may be overwritten by op->dst */
/* A memory operand if the value lies only in memory and is used only here; else false. */
bool use_mem(struct codegen *b, ir_val v, enum ir_type type, struct mem *m);
void op_end(struct codegen *b);
void slot_get(struct codegen *b, ir_val dst, unsigned slot);
void slot_put(struct codegen *b, unsigned slot, ir_val v);
void slot_flush(struct codegen *b, unsigned slot);
void slots_flush_all(struct codegen *b);
void slots_forget_all(struct codegen *b);       /* memory was changed by a helper */
void load_slot(struct codegen *b, unsigned reg, unsigned slot);
void block_end(struct codegen *b);              /* values die, but what slots hold */
int snapshot_take(struct codegen *b);
void snapshot_restore(struct codegen *b, int snap);
void state_reset(struct codegen *b);
void evict_caller_saved(struct codegen *b);     /* before a call: what lives on goes elsewhere */
void value_place(struct codegen *b, ir_val v, unsigned reg);    /* v is in this temporary */
void value_drop(struct codegen *b, ir_val v);
void memo_forget(struct codegen *b);
void canonicalize(struct codegen *b, struct label *l);
void bind_canonical(struct codegen *b, struct label *l);
void canonicalize_exit(struct codegen *b);      /* what other regions expect; nothing else is needed any more */
void move_reg(struct codegen *b, unsigned type, unsigned dst, unsigned src);
ir_val value_new(struct codegen *b, unsigned type);
void spill_store(struct codegen *b, unsigned reg, unsigned type, int spill);

/* analyse.c */
void codegen_analyse(struct codegen *b);

/* lower.c, memory.c, flow.c, vector.c, fix.c, x87.c */
void mxcsr_store(struct codegen *b);            /* to and from cpu.fp_control */
void mxcsr_load(struct codegen *b);
typedef void lower_fn(struct codegen *b, const struct ir_op *op);
lower_fn lower_load, lower_store, lower_atomic, lower_vop, lower_vfix, lower_vguard, lower_call, lower_call_host, lower_br, lower_brcond, lower_label, lower_poll,
    lower_exit, lower_vec_const;
void lower_range(struct codegen *b, unsigned from, unsigned to);
enum host_cc lower_compare(struct codegen *b, const struct ir_op *op);
unsigned lower_label_use(struct codegen *b, unsigned label, uint8_t *at);
/* The host's instruction of a vector op, as asm.h takes it. */
static inline uint32_t vop_code(const struct vop_info *info)
{
    return info->opcode | info->map << 8 | info->pp << 10 | (info->flags & VOPF_W1 ? OP_W : 0);
}
struct mem spill_mem(unsigned type, int spill);
struct cold *cold_new(struct codegen *b, uint8_t *jump);
void emit_cold(struct codegen *b);
void emit_slow(struct codegen *b);
void vzeroupper(struct codegen *b);
void emit_call_c(struct codegen *b, const void *fn);
void vec_load(struct codegen *b, unsigned bytes, unsigned reg, struct mem m);     /* 4 or 8: the rest is zero */
void vec_store(struct codegen *b, unsigned bytes, struct mem m, unsigned reg);
struct slow *slow_new(struct codegen *b, const struct ir_op *op, unsigned kind, unsigned addr);
void lower_fence_wr(struct codegen *b);
const uint8_t *image_loc(const struct reg_image *im, unsigned r);
void codegen_fix(struct cpu *cpu, struct reg_image *im, const struct slow_desc *d);
void codegen_slow_path(struct cpu *cpu, struct reg_image *im, const uint8_t *ret);
void slow_write_back(struct cpu *cpu, const struct reg_image *im, const struct slow_desc *d);
uint64_t slow_address(const struct slow_desc *d, const struct reg_image *im);
void lower_load_direct(struct codegen *b, const struct ir_op *op);
void lower_store_direct(struct codegen *b, const struct ir_op *op);
/* memory.c, for direct.c */
void load_int(struct codegen *b, const struct ir_op *op, unsigned rd, struct mem m);
void store_imm(struct codegen *b, unsigned size, struct mem m, uint32_t imm);
void store_reg(struct codegen *b, unsigned size, struct mem m, unsigned r);
void swap_bytes(struct codegen *b, unsigned log2, unsigned r);
struct slow_desc *slow_desc_of(struct codegen *b, const struct slow *s);
/* direct.c */
struct mem direct_mem(const struct codegen *b, const struct ir_op *op, unsigned ra);
void direct_check(struct codegen *b, const struct ir_op *op, unsigned ra, struct slow *s, unsigned t);

#endif
