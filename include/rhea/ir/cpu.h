/* What generated code sees of a CPU. Every guest's state struct begins with it; the JIT addresses all of it, and the
 * guest's own fields after it, from one host register. System and user mode share it. */
#ifndef RHEA_IR_CPU_H
#define RHEA_IR_CPU_H

#include <setjmp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "rhea/ir/ir.h"

enum { CPU_PAGE_BITS = 12, CPU_PAGE_SIZE = 1 << CPU_PAGE_BITS, CPU_MMU_MODES = 16 };

/* A soft TLB entry: tags are page-aligned guest virtual addresses with flag bits in the page offset; a tag with any
 * flag bit set never compares equal, so that the slow path runs. */
struct tlb_entry {
    uint64_t read, write, exec;
    uintptr_t addend;           /* guest virtual + addend = host address */
};
enum { TLB_INVALID = 1 << 11, TLB_MMIO = 1 << 10, TLB_NOTDIRTY = 1 << 9, TLB_WATCH = 1 << 8, TLB_ROM = 1 << 7, TLB_PARTIAL = 1 << 6 };
_Static_assert(sizeof(struct tlb_entry) == 32, "indexed by a shift of 5");
struct tlb_view { uint64_t mask; struct tlb_entry *table; };    /* mask: (entries - 1) << 5 */

/* Virtual pc -> host code, of one mode; emptied when translations of addresses change. */
struct jump_entry { uint64_t pc; void *code; };
enum { JUMP_CACHE_BITS = 14, JUMP_CACHE_LEAST = 12, JUMP_CACHE_MOST = 16 };         /* user mode's grow */
enum { JUMP_HASH_FACTOR = 0x1e3779b1 };
/* Index in a cache of 1 << bits entries. */
static inline unsigned jump_hash(uint64_t pc, unsigned bits)
{
    return (uint32_t)pc * (uint32_t)JUMP_HASH_FACTOR >> (32 - JUMP_CACHE_MOST) & ((1u << bits) - 1);
}
static inline uint32_t jump_mask(unsigned bits) { return ((1u << bits) - 1) * (uint32_t)sizeof(struct jump_entry); }

/* The host's own x87, where a guest's registers may be while translated code runs: cpu.fpu_on_host says so, guest.fpu_home
 * brings them back. image: 108 bytes, as FNSAVE with 32-bit operands writes them; save leaves the unit as FNINIT does. */
struct host_fpu { void (*load)(const uint8_t *image); void (*save)(uint8_t *image); };
enum { HOST_FPU_IMAGE = 108, FPU_ON_HOST = 0x3f /* one bit an exception mask, all of which are set then */ };

/* Bits of exit_request: any of them ends translated code at its next poll. */
enum {
    CPU_EXIT_KICK = 1,          /* just look */
    CPU_EXIT_IRQ = 2,           /* an interrupt line changed */
    CPU_EXIT_WORK = 4,          /* vCPU work is queued */
    CPU_EXIT_STOP = 8,
    CPU_EXIT_FLUSH = 16,        /* code was invalidated: caches of code must be dropped */
};

struct guest;
struct address_space;
struct jit_cpu;                 /* the accelerator's own part */
struct vcpu;

struct cpu {
    /* not addressed by generated code */
    const struct guest *guest;
    struct jit_cpu *jit;
    struct vcpu *vcpu;          /* system mode: the machine's side; NULL in user mode */
    /* User mode: the guest says that code there was written (IC IVAU, FENCE.I); NULL in system mode, which sees writes. */
    void (*code_changed)(struct cpu *cpu, uint64_t va, uint64_t n);
    struct address_space *memory;       /* what it sees, NULL: the machine's (x86 in system management mode: another) */
    const struct host_fpu *host_fpu;    /* user mode: what translated code may use; NULL: none */
    sigjmp_buf *loop_exit;      /* set while guest code runs */
    bool sleeps_on_memory;      /* it may be woken by a store: has_work() is asked again now and then */
    int exception;              /* guest's number of the exception being raised, -1: none */
    int index;
    /* addressed by generated code */
    int64_t icount_left;        /* -icount: instructions until the next event */
    uint64_t scratch[8];        /* what code keeps from one basic block to the next, beside slots: 0: ir_goto_indirect() */
    struct jump_entry *jump_sides[2];   /* where guest.side_modes is in `mode`: those without and with guest.side_mode */
    struct tlb_view tlb_view[CPU_MMU_MODES];    /* indexed by cpu_tlb_view() */
    /* From the last views on 256 bytes are addressed by a displacement of one byte: this, and the guest's registers if its
     * state begins with them. Code is that much smaller. */
    _Atomic uint32_t exit_request;
    uint32_t fp_control;        /* host MXCSR to run translated code under (masks set); sticky bits collected here */
    uint64_t pc;                /* exact whenever C code runs on behalf of a fault or in the loop */
    uint64_t pc_page;           /* page of the code being run: pc & ~(page - 1); regions add offsets */
    uint64_t mode;              /* mode bits of the code being run (guest->mode_bits) */
    struct jump_entry *jump_cache;      /* that of `mode` */
    uint32_t jump_mask;         /* of all of its caches */
    uint8_t fpu_on_host;        /* FPU_ON_HOST, or 0 */
};
/* What the host's register for the CPU points to: the middle of those 256 bytes. */
enum { CPU_NEAR_VIEWS = 3, CPU_MIDDLE = offsetof(struct cpu, exit_request) - CPU_NEAR_VIEWS * sizeof(struct tlb_view) + 128 };
/* The first indices, of which an operating system uses most, are near. */
static inline unsigned cpu_tlb_view(unsigned mmu) { return CPU_MMU_MODES - 1 - mmu; }

/* Ends the running region or helper and returns to the loop, which looks at cpu->exception. State must be exact. */
_Noreturn void cpu_loop_exit(struct cpu *cpu);
void cpu_kick(struct cpu *cpu, uint32_t bits);          /* any thread */

/* Guest memory by virtual address from C (helpers, interpreter): through the soft TLB, raises guest exceptions by
 * cpu_loop_exit(). memop says size (up to 8 bytes here), endianness, MMU index, and for loads whether the value is
 * zero- or sign-extended to 64 bits. */
uint64_t cpu_load(struct cpu *cpu, uint64_t va, memop m);
void cpu_store(struct cpu *cpu, uint64_t va, memop m, uint64_t v);
void cpu_load_bytes(struct cpu *cpu, uint64_t va, void *buf, unsigned n, unsigned mmu);     /* 16, 32 or any n */
void cpu_store_bytes(struct cpu *cpu, uint64_t va, const void *buf, unsigned n, unsigned mmu);
/* Raises what an access would raise, without accessing: for instructions that must not half-complete. */
void cpu_probe(struct cpu *cpu, uint64_t va, unsigned n, bool write, unsigned mmu);
/* The n bytes at va, which lie in one page, as host memory to be read or written all at once, until cpu_span_end(); NULL: this
 * is not plain memory, or nobody looked there yet: access it piece by piece. Two may be in use at a time, and no other access
 * with them. User mode raises here what an access would raise. */
uint8_t *cpu_span(struct cpu *cpu, uint64_t va, unsigned n, bool write, unsigned mmu);
void cpu_span_end(struct cpu *cpu);
/* Read-modify-write, atomic with respect to other vCPUs; old value. op: IR_ATOMIC_*. cas: expected in `cmp`. */
uint64_t cpu_atomic(struct cpu *cpu, enum ir_opcode op, uint64_t va, memop m, uint64_t v, uint64_t cmp);
/* 16-byte compare and swap; true if swapped, *old the former content. */
bool cpu_cas128(struct cpu *cpu, uint64_t va, unsigned mmu, const uint64_t cmp[2], const uint64_t v[2],
                uint64_t old[2]);

/* From here on a store to the page of va, by whomever, wakes the CPU if it sleeps (MONITOR). A hint: one that is under way
 * just now may pass unseen, and most wakes are for nothing. The address was just read. */
void cpu_watch(struct cpu *cpu, uint64_t va, unsigned mmu);

/* The soft TLB, from guest code (all on the CPU's own thread). */
void cpu_tlb_flush(struct cpu *cpu, uint32_t mmu_set);          /* bit per MMU index; ~0u: all */
void cpu_tlb_flush_local(struct cpu *cpu, uint32_t mmu_set);    /* all but global translations of the current address space */
void cpu_tlb_flush_page(struct cpu *cpu, uint64_t va, uint32_t mmu_set);        /* in every address space */
/* From here on the modes of the set translate for address space `id` (ASID, PCID). What was known for the others is kept,
 * as long as there is room, for when they come back: so maintenance must be told of them too. The first is 0. The caller
 * goes back to the loop after it. */
void cpu_tlb_context(struct cpu *cpu, uint32_t mmu_set, uint64_t id);
void cpu_tlb_flush_context(struct cpu *cpu, uint32_t mmu_set, uint64_t id);     /* all but global translations of one */

#endif
