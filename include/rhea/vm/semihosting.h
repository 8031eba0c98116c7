/* Semihosting: a guest program calls the host's files and console by an instruction that its architecture sets aside for it.
 * Guests know the instruction and the registers; what a call does is behind this interface (src/device/misc/semihosting.c).
 * Arm, "Semihosting for AArch32 and AArch64" 2.0; RISC-V, "RISC-V Semihosting" 0.4. */
#ifndef RHEA_VM_SEMIHOSTING_H
#define RHEA_VM_SEMIHOSTING_H

#include "rhea/vm/vm.h"

struct semihosting {
    bool userspace;             /* programs at the lowest privilege may call too */
    /* On the vCPU's thread, between instructions: carries out operation `op`, whose argument block is of words of `word`
     * bytes. false: it waits (for input, a program); the same instruction is to run again, after a look at interrupts. */
    bool (*call)(struct semihosting *s, struct cpu *cpu, unsigned word, uint32_t op, uint64_t arg, uint64_t *result);
    void (*free)(struct semihosting *s);
};

/* What takes this CPU's calls, or NULL: then the instruction means what it means without. user: it is at the lowest privilege. */
static inline struct semihosting *semihosting_of(const struct cpu *cpu, bool user)
{
    struct semihosting *s = cpu->vcpu ? cpu->vcpu->vm->semihosting : NULL;

    return s && (!user || s->userspace) ? s : NULL;
}

#endif
