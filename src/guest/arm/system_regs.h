/* Rows of system registers: what system_regs.c, system_pmu.c and system32.c share. */
#ifndef RHEA_GUEST_ARM_SYSTEM_REGS_H
#define RHEA_GUEST_ARM_SYSTEM_REGS_H

#include "system.h"

/* Kinds of traps to EL2 and EL3 that many registers share. */
enum arm_trap { T_NONE, T_VM, T_TID1, T_TID2, T_TID3, T_ACR, T_CPACR, T_LOR, T_ERR, T_APK, T_DA, T_DOSA, T_DRA, T_PM, T_PMCR,
                T_TTLB, T_SW, T_PC, T_PU, T_TID0, TRAP_KINDS };
enum { SYSREG_NEVER = 4, SYSREG_HIGHEST = 5 /* the highest level there is */ };
enum { SYSREG_UNDEFINED = 16, SYSREG_FP = 32 };         /* answers of check(), besides a level */

struct arm_sysreg {
    uint16_t key;               /* ARM_SYSREG() */
    const char *name;
    uint8_t r, w;               /* lowest EL that may read, write; or SYSREG_NEVER, _HIGHEST */
    uint8_t trap;               /* enum arm_trap */
    uint8_t feature;            /* enum arm_feature it belongs to */
    uint8_t e2h;                /* at EL2 with E2H means EL2's register; EL1's is at op1 = 5 */
    uint8_t highest;            /* exists only if this is the highest level */
    bool plain, fp;             /* plain: load or store of the field; fp: traps where FP does */
    uint8_t arg, arg2;
    uint32_t field;             /* offset in struct arm_cpu of 64 bits; 0: none */
    unsigned (*check)(const struct arm_cpu *c, bool write);     /* 0: go on; else the level it traps to, or SYSREG_UNDEFINED */
    uint64_t (*read)(struct arm_cpu *c, const struct arm_sysreg *r);
    void (*write)(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v);
};
static inline uint64_t *sysreg_field(struct arm_cpu *c, const struct arm_sysreg *r) { return (uint64_t *)((char *)c + r->field); }

const struct arm_sysreg *arm_sysreg_find(unsigned key);
unsigned arm_sysreg_trapped(const struct arm_cpu *c, unsigned trap, bool write);
_Noreturn void arm_sysreg_trap(struct arm_cpu *c, uint32_t raw, unsigned el);

/* system_pmu.c */
extern const struct arm_sysreg arm_pmu_sysregs[];
extern const unsigned arm_pmu_sysreg_count;
void arm_pmu_reset(struct arm_cpu *c);                  /* MDCR_EL2 too, which says how many counters are EL2's */
void arm_pmu_write_mdcr(struct arm_cpu *c, const struct arm_sysreg *r, uint64_t v);
unsigned arm_pmu_counters(const struct arm_cpu *c);

#endif
