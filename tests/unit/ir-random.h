/* A toy guest, and random regions of IR for it: for tests of the passes, the interpreter and the back ends. The same
 * options give the same program, so that what runs it can be compared:
 *
 *     struct toy_cpu *a = toy_cpu_new(seed), *b = toy_cpu_new(seed);     // equal states, memory included
 *     ir_random_region(ir, &(struct ir_random){ .seed = 7 });
 *     struct toy_result ra = toy_run(a, run_with_interpreter, ...), rb = ...;
 *     if (!toy_same(a, &ra, b, &rb, &why)) ...
 *
 * Memory: TOY_PAGES pages at TOY_BASE in MMU index 0, entered in the soft TLB by hand: all but the last two can be
 * written, the last but one only read, the last not at all; everything else faults. Address operands are masked so that
 * accesses go there; with .faults some hit the last two pages. */
#ifndef RHEA_TEST_IR_RANDOM_H
#define RHEA_TEST_IR_RANDOM_H

#include "rhea/guest/guest.h"
#include "rhea/interp/interp.h"
#include "rhea/ir/ir.h"

enum { TOY_R = 10, TOY_W = 4, TOY_V = 4, TOY_Y = 3, TOY_P = 4, TOY_PAGES = 8, TOY_TLB = 8 };
#define TOY_BASE UINT64_C(0x10000)

struct toy_cpu {
    struct cpu cpu;
    uint64_t r[TOY_R];                  /* slots 0.. */
    uint32_t w[TOY_W];                  /* slots TOY_R.. */
    _Alignas(32) uint8_t v[TOY_V][16];  /* V128 slots */
    _Alignas(32) uint8_t y[TOY_Y][32];  /* V256 slots */
    uint8_t p[TOY_P][8];                /* slots that are parts of V128: two of 8 bytes, two of 4 */
    uint8_t scratch[16];                /* V128 slot that is scratch */
    uint64_t plain[4];                  /* not slots; [3]: how often programs may still go back */
    uint64_t calls;                     /* made to helpers with an effect */
    uint64_t fault_va;
    uint32_t fault_access;
    uint8_t *memory;                    /* TOY_PAGES pages */
    struct tlb_entry tlb[TOY_TLB];
};
enum { TOY_SLOT_R = 0, TOY_SLOT_W = TOY_R, TOY_SLOT_V = TOY_SLOT_W + TOY_W, TOY_SLOT_Y = TOY_SLOT_V + TOY_V,
       TOY_SLOT_P = TOY_SLOT_Y + TOY_Y, TOY_SLOT_SCRATCH = TOY_SLOT_P + TOY_P, TOY_SLOTS };
enum { TOY_PURE, TOY_READS, TOY_WRITES, TOY_RAISES, TOY_VEC, TOY_VEC256, TOY_COUNT, TOY_HELPERS };

extern const struct guest guest_toy;

struct toy_cpu *toy_cpu_new(uint64_t seed);             /* random state and memory, pc 0 */
void toy_cpu_free(struct toy_cpu *c);

struct ir_random {
    uint64_t seed;
    unsigned ninsns;            /* 0: 1 to 24 */
    bool raw;                   /* the same program without the builder's folding */
    bool faults;                /* some accesses go to pages that are not there; some helpers raise */
    bool no_vectors, no_helpers, no_loops;
    bool all_vops;              /* every row of vop.def but floating-point ones; else bitwise ones, adds and halves */
};
void ir_random_region(struct ir *ir, const struct ir_random *options);

/* One run: how it ended. */
struct toy_result {
    bool raised;                /* by cpu_loop_exit() */
    enum ir_exit_kind kind;
    uint64_t icount;            /* of regions left by an exit */
};
typedef struct interp_result toy_run_fn(struct cpu *cpu, const struct ir *ir, void *opaque);
/* Sets cpu.pc to ir->pc + slide (whole pages: as if mapped elsewhere) and runs. */
struct toy_result toy_run(struct toy_cpu *c, const struct ir *ir, uint64_t slide, toy_run_fn *fn, void *opaque);
/* Slots, state, pc, memory, fault and exit are equal; else what is not (caller frees). Exact also after faults. */
bool toy_same(const struct toy_cpu *a, const struct toy_result *ra, const struct toy_cpu *b,
              const struct toy_result *rb, char **why);

#endif
