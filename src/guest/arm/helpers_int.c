/* C functions that translated integer code calls: rows of helpers-int.def. */
#include "arm.h"

#pragma weak arm_page_guarded
#pragma weak arm_raise

void arm_helper_pc_alignment(struct cpu *cpu)
{
    arm_raise(arm(cpu), ARM_SYNDROME(EC_PC_ALIGN, 0), cpu->pc);
}

void arm_helper_bti_check(struct cpu *cpu, uint32_t raw)
{
    struct arm_cpu *c = arm(cpu);

    if (arm_page_guarded && arm_page_guarded(c, cpu->pc))
        arm_raise(c, ARM_SYNDROME(EC_BTI, c->btype), 0);
}
