/* The Arm system registers as state: owned by the system side (system*.c, exceptions*.c, mmu*.c). Registers with one
 * instance an exception level are arrays indexed by EL. Where only AArch32's EL3 banks a register by security, [3] is
 * the Secure instance: DDI 0487 G1.2, as SCTLR(S) is SCTLR_EL3 there. */
#ifndef RHEA_GUEST_ARM_STATE_H
#define RHEA_GUEST_ARM_STATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct irq;
struct vm;
struct vm_timer;
struct arm_cpu;

/* The system registers of the GIC's CPU interface, ICC_*, ICV_*, ICH_*: kept by the interrupt controller, which puts
 * its functions into sys.gic. reg: enum arm_sysreg encoding (op0 op1 CRn CRm op2, 16 bits); AArch32 accesses come as the
 * AArch64 register they are architecturally mapped to. Called on the CPU's own thread. */
enum arm_gic_result { ARM_GIC_OK, ARM_GIC_UNDEFINED, ARM_GIC_TRAP_EL2, ARM_GIC_TRAP_EL3 };
struct arm_gic_ops {
    enum arm_gic_result (*read)(void *opaque, struct arm_cpu *c, unsigned reg, uint64_t *value);
    enum arm_gic_result (*write)(void *opaque, struct arm_cpu *c, unsigned reg, uint64_t value);
};

/* op0 op1 CRn CRm op2: bits 20 to 5 of MRS, MSR and SYS. */
#define ARM_SYSREG(op0, op1, crn, crm, op2) ((op0) << 14 | (op1) << 11 | (crn) << 7 | (crm) << 3 | (op2))

enum arm_psci { ARM_PSCI_NONE, ARM_PSCI_HVC, ARM_PSCI_SMC };
enum arm_power { ARM_POWER_ON, ARM_POWER_OFF, ARM_POWER_ON_PENDING };
/* What the board decides about a CPU: arm_configure() between vcpu_new() and the first reset. */
struct arm_config {
    bool el2, el3;              /* virtualization=on, secure=on */
    bool start_off;             /* waits for PSCI CPU_ON */
    bool hivecs;                /* AArch32: vectors at 0xffff0000 */
    uint8_t psci;               /* enum arm_psci */
    uint64_t rvbar;             /* where AArch64 starts */
    uint64_t mpidr;             /* affinity fields; 0 with index > 0: from the index, 16 in a cluster */
    uint64_t cntfrq;            /* Hz; 0: 62.5 MHz */
    uint64_t cbar;
};

enum arm_timer { ARM_TIMER_PHYS, ARM_TIMER_VIRT, ARM_TIMER_HYP, ARM_TIMER_HYPVIRT, ARM_TIMER_SEC, ARM_TIMER_COUNT };
struct arm_timer_state { uint64_t cval; uint32_t ctl; struct vm_timer *timer; struct arm_cpu *cpu; };

/* AArch32 banks of r13, r14 and SPSR */
enum arm_bank { BANK_USR, BANK_HYP, BANK_SVC, BANK_ABT, BANK_UND, BANK_IRQ, BANK_FIQ, BANK_MON, BANK_COUNT };

enum { ARM_PMU_COUNTERS = 6 };          /* for events, beside the cycle counter: as most Cortex-A have */

struct arm_system {
    uint64_t elr[4], spsr[4], sp[4];    /* by EL; sp[current] is stale while in use. AArch32: spsr[1] svc, [2] hyp, [3] mon */
    uint64_t tpidr[4], tpidrro;
    uint64_t tpidr_secure[2], tpidrro_secure;   /* of an AArch32 EL3 */
    uint64_t spsr32[BANK_COUNT];        /* abt, und, irq, fiq; the others are in spsr */
    uint32_t bank_r13[BANK_COUNT], bank_r14[BANK_COUNT], usr_r8_12[5], fiq_r8_12[5];
    uint64_t key[5][2];                 /* pointer authentication: IA IB DA DB GA, low and high */
    _Atomic uint32_t lines;             /* bit enum arm_line, and from ARM_LINE_COUNT the virtual ones of HCR_EL2. 0: nothing pends */
    uint32_t tlbi_pending;              /* invalidations went to other CPUs: DSB waits for them */
    /* control */
    uint64_t sctlr[4], actlr[4], cpacr, cptr[4], hcr, hcrx, scr, hstr, mdcr[4], sder, nsacr;
    uint64_t ttbr0[4], ttbr1[4], tcr[4], tcr2[4], mair[4], amair[4], vttbr, vtcr, dacr[4], prrr[4], nmrr[4];
    uint64_t vsttbr, vstcr;
    uint64_t vbar[4], esr[4], far[4], ifar[4], hpfar, afsr0[4], afsr1[4], par[4], contextidr[4], rmr[4], mvbar;
    uint64_t ifsr32[4], fpexc, teecr, teehbr, cpuacr32;
    uint64_t csselr[4], vpidr, vmpidr, mpidr, rvbar, cbar, disr, vdisr, vsesr, fgt[5], accdata, scxtnum[4];
    uint64_t rgsr, gcr, tfsr[4], tfsre0, gpt[2], lorc, isr_unused;
    uint64_t impdef[16];
    /* timers */
    struct arm_timer_state timer[ARM_TIMER_COUNT];
    struct irq *timer_irq[ARM_TIMER_COUNT];     /* what the board connects: levels */
    pthread_mutex_t timer_lock;
    bool timers_ready;
    uint64_t cntfrq, cntfrq_hw, cntkctl, cnthctl, cntvoff, cntpoff;
    /* debug */
    uint64_t mdscr, dbgbvr[16], dbgbcr[16], dbgwvr[16], dbgwcr[16], osdlr, dbgclaim, dbgprcr, dtr, dbgvcr, osdtr, osecc;
    bool os_lock;
    /* performance monitors */
    uint64_t pmcr, pmcnten, pmovs, pminten, pmselr, pmuserenr, pmu_at;
    struct { uint64_t value, type; bool runs; } pmu[ARM_PMU_COUNTERS + 1];      /* the last is the cycle counter */
    struct irq *pmu_irq;
    struct vm_timer *pmu_timer;
    /* machine */
    struct vm *vm;
    struct arm_config config;
    const struct arm_gic_ops *gic;
    void *gic_opaque;
    _Atomic uint32_t power;             /* enum arm_power */
    uint64_t exc_return;                /* preferred return address of the exception being raised */
    uint8_t exc_domain;                 /* of a short-descriptor fault */
    _Atomic bool wait_over;             /* WFIT's deadline has passed */
    _Atomic bool stale;                 /* while it slept others invalidated: the soft TLB is emptied before it goes on */
    uint16_t asid;                      /* of the translations that the soft TLB holds, besides global ones */
    bool (*user_guarded)(struct cpu *cpu, uint64_t va);         /* user mode: the page is a guarded one */
    bool user_mode;
    bool guarded;               /* code of a guarded page was entered: indirect branches are watched from now on */
    bool tagged;                        /* a translation of an address with a tag was entered since the last flush */
    struct vm_timer *wait_timer;        /* WFIT, WFET */
};

#endif
