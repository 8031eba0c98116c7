/* A guest instruction set, as the translator and the machine see it: one const descriptor. Everything about x86 (or
 * Arm, ...) that code outside src/guest/NAME needs goes through here. */
#ifndef RHEA_GUEST_GUEST_H
#define RHEA_GUEST_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "rhea/base/error.h"
#include "rhea/ir/cpu.h"
#include "rhea/ir/ir.h"

struct guest_debug;
struct vm;
struct vcpu;

/* How control leaves an instruction, found at decode. */
enum insn_flow {
    FLOW_NEXT,                  /* to the next instruction */
    FLOW_COND,                  /* to target or to the next */
    FLOW_JUMP,                  /* to target */
    FLOW_CALL,                  /* to target, expected to return to the next */
    FLOW_INDIRECT,              /* somewhere, by a register or memory */
    FLOW_END,                   /* ends a region: changes mode, may stop, or traps */
};
struct insn_info { uint8_t len; uint8_t flow; bool straddles; uint64_t target; };

enum mmu_access { ACCESS_READ, ACCESS_WRITE, ACCESS_EXEC };
struct mmu_result {
    uint64_t phys;              /* physical address of va (not only of its page) */
    uint8_t page_bits;          /* log2 of the mapping's size, >= 12 */
    bool readable, writable, executable;        /* for this MMU index, given A/D bits: not writable while not dirty */
    bool uncached;
    bool partial;               /* holds for va alone: access_allowed() is asked about each load and store of the page */
    bool global;                /* holds in every address space: kept by cpu_tlb_flush_local() */
    uint32_t attrs;             /* struct mem_attrs bits: secure, user ... */
};

/* Bytes of guest code for the decoder. at() gives the byte at va, or raises the fetch fault of the instruction at
 * `insn_pc` (when that is the region's first) or makes the region end before it: then it returns false. */
struct code_fetch {
    struct cpu *cpu;            /* NULL: from `bytes` alone (disassembler, tests) */
    uint64_t first_pc;          /* of the region */
    const uint8_t *page[2];     /* host pointers of the first page and the next (or NULL), page-aligned */
    uint64_t page_va;           /* va of page[0] */
    bool (*next_page)(struct code_fetch *f);    /* fills page[1]; false: unmapped or not RAM */
    uint64_t note;              /* the guest's own, from one instruction to the next (Arm: IT state); 0 at first */
};
static inline bool code_fetch_byte(struct code_fetch *f, uint64_t va, uint8_t *out)
{
    uint64_t off = va - f->page_va;

    if (off >= 2 * CPU_PAGE_SIZE || (off >= CPU_PAGE_SIZE && !f->page[1] && !f->next_page(f)))
        return false;
    *out = f->page[off >> CPU_PAGE_BITS][off & (CPU_PAGE_SIZE - 1)];
    return true;
}
/* As many bytes from va on as are at hand in its page, at most `most`: *out points to them. 0: code_fetch_byte() knows. */
static inline unsigned code_fetch_window(const struct code_fetch *f, uint64_t va, unsigned most, const uint8_t **out)
{
    uint64_t off = va - f->page_va;

    if (off >= CPU_PAGE_SIZE)
        return 0;
    *out = f->page[0] + off;
    return off + most <= CPU_PAGE_SIZE ? most : (unsigned)(CPU_PAGE_SIZE - off);
}

/* One register for gdb, info registers, verify, snapshots: a table serves all. */
struct guest_reg { const char *name; uint32_t offset; uint16_t bits; uint16_t group; };
enum { GUEST_REG_SHARED = 7 };  /* group: atomics that other threads write (interrupt lines): verify leaves them alone */

struct cpu_model {              /* -cpu NAME */
    const char *name;
    const char *summary;
    const void *data;           /* guest's own: CPUID words, ID registers */
    const char *alias_of;
    bool deprecated;
};
struct cpu_feature { const char *name; uint16_t word; uint8_t bit; bool tcg; };  /* tcg: this build implements it */

enum { GUEST_KEPT = 5 };

struct guest {
    const char *name;           /* as query-target says: "x86_64" */
    const struct ir_slot *slots;
    unsigned nslots;
    const struct ir_helper *const *helpers;
    unsigned nhelpers;
    const struct ir_fix *fixes;         /* of VFIX ops; NULL: none */
    unsigned nfixes;
    size_t cpu_size;            /* of the guest's state struct, which begins with struct cpu */
    size_t insn_size;           /* of a decoded instruction */
    uint8_t page_bits;          /* smallest page */
    bool big_endian;            /* default data endianness */

    /* Integer slots that translated code keeps in registers of the host from region to region: those used most. Under
     * unkept_modes, which only the loop enters and leaves, it keeps none: registers are other slots there. */
    uint8_t kept[GUEST_KEPT], nkept;
    uint64_t unkept_modes;

    uint64_t linear_modes;      /* mode bits under which instructions must be emitted in the order of their addresses */

    /* Under side_modes, translated code changes the mode bit side_mode by itself (Arm: T): it stores cpu->mode, and to
     * cpu->jump_cache cpu->jump_sides[bit]. 0: none does. */
    uint64_t side_modes, side_mode;

    /* ---- translation: uses ir alone */
    /* Decodes the instruction at pc under `mode` into *insn; false: not fetchable. Undefined opcodes decode (to an
     * instruction that raises), they never fail. */
    bool (*decode)(struct code_fetch *f, uint64_t pc, uint64_t mode, void *insn, struct insn_info *info);
    /* Starts a region: front-end knowledge is empty. */
    void (*emit_begin)(struct ir *ir);
    /* Each instruction of the region in turn, before the first is emitted: what is worth knowing ahead. May be NULL. */
    void (*emit_scan)(struct ir *ir, const void *insn);
    /* A leader was bound here: knowledge from the straight line does not hold on other paths. */
    void (*emit_join)(struct ir *ir);
    void (*emit)(struct ir *ir, const void *insn);
    void (*emit_end)(struct ir *ir);
    char *(*disassemble)(const uint8_t *code, size_t n, uint64_t pc, uint64_t mode);    /* capstone; caller frees */

    /* ---- system: uses vm */
    uint64_t (*mode_bits)(const struct cpu *cpu);       /* all that translation depends on but the bytes */
    unsigned (*mmu_index)(const struct cpu *cpu, bool code);
    /* Walks the page tables. false: the exception is recorded in the guest's state (cpu->exception, code, address)
     * and will be delivered when the caller leaves by cpu_loop_exit(). probe: leave no trace, set no A/D bit. */
    bool (*translate)(struct cpu *cpu, uint64_t va, enum mmu_access access, unsigned mmu, bool probe,
                      struct mmu_result *out);
    /* Of a page whose translation said `partial`: may these bytes of it be read or written? false: as translate(). */
    bool (*access_allowed)(struct cpu *cpu, uint64_t va, uint64_t phys, unsigned n, enum mmu_access access, unsigned mmu);
    __attribute__((noreturn)) void (*unaligned)(struct cpu *cpu, uint64_t va, enum mmu_access access);
    /* A physical access answered by nothing; ACCESS_EXEC: an instruction at va is outside of memory. May raise; x86 does
     * not (reads give all ones). */
    void (*bus_error)(struct cpu *cpu, uint64_t va, uint64_t phys, enum mmu_access access);
    /* In the loop, between regions: delivers cpu->exception; then, if one is pending and enabled, an interrupt.
     * Returns true if it changed pc. */
    bool (*deliver)(struct cpu *cpu);
    bool (*has_work)(const struct cpu *cpu);            /* false: halted, the thread may sleep until kicked */
    /* create: properties of -cpu parsed from `model_spec` ("Haswell,+aes,-avx"). */
    bool (*cpu_init)(struct cpu *cpu, struct vm *vm, const char *model_spec, struct error *err);
    void (*cpu_reset)(struct cpu *cpu);
    void (*cpu_free)(struct cpu *cpu);
    void (*fpu_home)(struct cpu *cpu);  /* see struct host_fpu; NULL where nothing goes there */
    uint32_t fpu_control;               /* offset of the x87's control word in the state, 16 bits */
    char *(*registers)(const struct cpu *cpu);          /* info registers; caller frees */
    char *(*mmu_dump)(struct cpu *cpu, bool tlb);       /* info tlb / info mem */
    const struct guest_reg *regs;                       /* ends with a NULL name */
    const struct guest_debug *debug;                    /* rhea/guest/debug.h; of the widest state that the CPU can be in */
    const struct cpu_model *(*models)(unsigned *count);
    const struct cpu_feature *(*features)(unsigned *count);
    const char *default_model;
    void (*nmi)(struct cpu *cpu);                       /* on the vCPU's thread; NULL: there is none */
    bool (*cpu_has)(const struct cpu *cpu, const struct cpu_feature *f);       /* is the feature on in this CPU? */
};

extern const struct guest guest_x86_64, guest_i386, guest_aarch64, guest_arm, guest_riscv64, guest_riscv32;
const struct guest *guest_find(const char *name);       /* NULL: none of that name in this build */

#endif
