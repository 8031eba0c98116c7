/* The Arm system registers as state: owned by the system side (system.c, exceptions.c, mmu.c, timers). */
#ifndef RHEA_GUEST_ARM_STATE_H
#define RHEA_GUEST_ARM_STATE_H

#include <stdatomic.h>
#include <stdint.h>

struct irq;
struct vm_timer;

struct arm_system {
    uint64_t elr[4], spsr[4], sp[4];    /* by EL; sp[current] is stale while in use */
    uint64_t tpidr[4], tpidrro;
    uint32_t spsr32[6];                 /* AArch32: banked by mode */
    uint32_t bank_r13[8], bank_r14[8], usr_r8_12[5], fiq_r8_12[5];
    uint64_t key[5][2];                 /* pointer authentication: IA IB DA DB GA, low and high */
    _Atomic uint32_t lines;             /* bit enum arm_line */
};

#endif
