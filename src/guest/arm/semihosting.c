/* The semihosting calls: HLT 0xF000 in A64; SVC 0x123456 and HLT 0xF000 in A32; SVC 0xAB, HLT 0x3C and BKPT 0xAB in T32.
 * Arm, "Semihosting for AArch32 and AArch64" 2.0: W0 or R0 is the operation and then the result, X1 or R1 the argument. */
#include "rhea/vm/semihosting.h"
#include "system.h"

void arm_helper_semihosting(struct cpu *cpu, uint32_t bytes)
{
    struct arm_cpu *c = arm(cpu);

    if (!semihosting_of(cpu, c->el == 0))
        return;
    cpu->exception = ARM_EXC_SEMIHOSTING;
    c->exc_syndrome = bytes;
    cpu_loop_exit(cpu);
}

/* ITSTATE behind this instruction: DDI 0487 F1.2.1. */
static uint8_t it_advance(uint8_t it) { return it & 7 ? (uint8_t)((it & 0xe0) | (it << 1 & 0x1f)) : 0; }

bool arm_semihosting(struct arm_cpu *c)
{
    struct semihosting *s = c->cpu.vcpu->vm->semihosting;
    uint64_t result = c->x[0];

    c->cpu.exception = -1;
    if (!s->call(s, &c->cpu, c->aarch32 ? 4 : 8, (uint32_t)c->x[0], c->aarch32 ? (uint32_t)c->x[1] : c->x[1], &result))
        return true;
    c->x[0] = c->aarch32 ? (uint32_t)result : result;
    c->cpu.pc += c->exc_syndrome;
    if (c->aarch32)
        c->it = it_advance(c->it);
    return true;
}
