/* What a debugger is told of a guest: its registers as GDB's target descriptions name them ("Debugging with GDB", appendix
 * "Target Descriptions"), and what instruction stands for a breakpoint. A table each in src/guest/NAME/debugger.c. */
#ifndef RHEA_GUEST_DEBUG_H
#define RHEA_GUEST_DEBUG_H

#include <stdbool.h>
#include <stdint.h>
#include "rhea/ir/cpu.h"

/* One register. kind and index are the guest's own, for get() and set(). */
struct debug_reg {
    const char *name;
    uint16_t bits;              /* a multiple of 8, at most 128 */
    const char *type;           /* of GDB: "int", "code_ptr", or one of the feature's own */
    uint8_t kind, index;
    const char *group;          /* NULL: GDB decides */
};
/* A feature by GDB's name. types: XML of the types that its registers use, or NULL. */
struct debug_feature { const char *name, *types; const struct debug_reg *regs; unsigned count; };

struct guest_debug {
    const char *architecture;   /* as GDB's `set architecture` */
    const struct debug_feature *features;
    unsigned nfeatures;
    /* bits / 8 bytes, little endian, of a CPU that does not run. */
    void (*get)(struct cpu *cpu, const struct debug_reg *reg, uint8_t *out);
    void (*set)(struct cpu *cpu, const struct debug_reg *reg, const uint8_t *in);
    uint64_t (*pc)(const struct cpu *cpu);      /* as an instruction's address in memory */
    /* The instruction that raises a breakpoint exception, for GDB's kind of a Z0 packet; its bytes, or 0: no such kind. */
    unsigned (*breakpoint)(unsigned kind, uint8_t insn[4]);
};

extern const struct guest_debug debug_x86_64, debug_i386, debug_aarch64, debug_arm, debug_riscv64, debug_riscv32;

#endif
