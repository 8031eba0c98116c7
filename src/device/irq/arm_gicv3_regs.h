/* Encodings of the GIC's system registers: GIC 12.2. */
#ifndef RHEA_ARM_GICV3_REGS_H
#define RHEA_ARM_GICV3_REGS_H

#include "arm_gicv3.h"

enum {
    ICC_PMR = ARM_SYSREG(3, 0, 4, 6, 0), ICC_IAR0 = ARM_SYSREG(3, 0, 12, 8, 0), ICC_EOIR0 = ARM_SYSREG(3, 0, 12, 8, 1),
    ICC_HPPIR0 = ARM_SYSREG(3, 0, 12, 8, 2), ICC_BPR0 = ARM_SYSREG(3, 0, 12, 8, 3), ICC_AP0R0 = ARM_SYSREG(3, 0, 12, 8, 4),
    ICC_AP1R0 = ARM_SYSREG(3, 0, 12, 9, 0), ICC_DIR = ARM_SYSREG(3, 0, 12, 11, 1), ICC_RPR = ARM_SYSREG(3, 0, 12, 11, 3),
    ICC_SGI1R = ARM_SYSREG(3, 0, 12, 11, 5), ICC_ASGI1R = ARM_SYSREG(3, 0, 12, 11, 6), ICC_SGI0R = ARM_SYSREG(3, 0, 12, 11, 7),
    ICC_IAR1 = ARM_SYSREG(3, 0, 12, 12, 0), ICC_EOIR1 = ARM_SYSREG(3, 0, 12, 12, 1), ICC_HPPIR1 = ARM_SYSREG(3, 0, 12, 12, 2),
    ICC_BPR1 = ARM_SYSREG(3, 0, 12, 12, 3), ICC_CTLR = ARM_SYSREG(3, 0, 12, 12, 4), ICC_SRE_EL1 = ARM_SYSREG(3, 0, 12, 12, 5),
    ICC_IGRPEN0 = ARM_SYSREG(3, 0, 12, 12, 6), ICC_IGRPEN1 = ARM_SYSREG(3, 0, 12, 12, 7),
    ICC_SRE_EL2 = ARM_SYSREG(3, 4, 12, 9, 5), ICC_CTLR_EL3 = ARM_SYSREG(3, 6, 12, 12, 4), ICC_SRE_EL3 = ARM_SYSREG(3, 6, 12, 12, 5),
    ICC_IGRPEN1_EL3 = ARM_SYSREG(3, 6, 12, 12, 7),
    ICH_AP0R0 = ARM_SYSREG(3, 4, 12, 8, 0), ICH_AP1R0 = ARM_SYSREG(3, 4, 12, 9, 0), ICH_HCR = ARM_SYSREG(3, 4, 12, 11, 0),
    ICH_VTR = ARM_SYSREG(3, 4, 12, 11, 1), ICH_MISR = ARM_SYSREG(3, 4, 12, 11, 2), ICH_EISR = ARM_SYSREG(3, 4, 12, 11, 3),
    ICH_ELRSR = ARM_SYSREG(3, 4, 12, 11, 5), ICH_VMCR = ARM_SYSREG(3, 4, 12, 11, 7), ICH_LR0 = ARM_SYSREG(3, 4, 12, 12, 0),
};

/* Registers of one group; the others (PMR, CTLR, DIR, RPR, SGI*) are common. */
static inline bool gic_reg_is_group0(unsigned reg)
{
    return (reg >= ICC_IAR0 && reg <= ICC_AP0R0) || reg == ICC_IGRPEN0;
}
static inline bool gic_reg_is_group1(unsigned reg)
{
    return reg == ICC_AP1R0 || (reg >= ICC_IAR1 && reg <= ICC_BPR1) || reg == ICC_IGRPEN1;
}

#endif
