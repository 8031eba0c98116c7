/* The interpreter of regions: any host, `-accel interp`, and the oracle for the JIT. It runs the IR as it is written:
 * slots live in the guest's state, a PUT stores at once, memory goes through cpu_load() and its kin. */
#ifndef RHEA_INTERP_H
#define RHEA_INTERP_H

#include "rhea/ir/cpu.h"
#include "rhea/ir/ir.h"

struct interp_result {
    enum ir_exit_kind kind;     /* how the region was left; EXIT_TO_LOOP also for a poll */
    int exit;                   /* number of the exit in ir->exits; -1: a POLL saw exit_request */
    uint64_t icount;            /* instructions begun, those of internal loops each time */
};

/* Runs the region at cpu->pc, where it begins (ir->pc, or the same place seen at another virtual address), until it
 * leaves. cpu->pc and cpu->pc_page are then those of the next instruction. Where the guest faults it does not return:
 * cpu_loop_exit() is called with cpu->pc and all state those of the faulting instruction. cpu->icount_left is reduced
 * by each instruction begun, faulting ones too. The region must be valid (ir_validate()). */
struct interp_result interp_run(struct cpu *cpu, const struct ir *ir);

/* The same after ir_optimize(), behaving as a back end does that trusts the analysis: dead ops are left out, sunk PUTs
 * are in memory only while one of their fault points runs. For tests of the passes. */
struct interp_result interp_run_optimized(struct cpu *cpu, const struct ir *ir, const struct ir_analysis *an);

#endif
