/* What route64.c and gic64.c share: one interrupt of the distributor's, for both GICs, and the way back from a lower level. */
#ifndef GIC64_H
#define GIC64_H
#include "test64.h"

#define REG(at) (*(volatile uint32_t *)(uintptr_t)(at))
#define BYTE(at) (*(volatile uint8_t *)(uintptr_t)(at))
enum { GICD = 0x08000000, GICC = 0x08010000, GICR = 0x080a0000, INTID = 132, WORD = 4 * (INTID / 32), BIT_ = 1 << (INTID % 32) };
enum { GICD_CTLR = 0, GICD_IGROUPR = 0x80, GICD_ISENABLER = 0x100, GICD_ICENABLER = 0x180, GICD_ISPENDR = 0x200, GICD_ICPENDR = 0x280,
       GICD_ICACTIVER = 0x380, GICD_IPRIORITYR = 0x400, GICD_ITARGETSR = 0x800, GICD_IGRPMODR = 0xd00, GICD_IROUTER = 0x6000 };
enum { GICC_CTLR = 0, GICC_PMR = 4, GICR_WAKER = 0x14 };
enum { SCR_NS = 1, SCR_IRQ = 2, SCR_FIQ = 4, SCR_BASE = 0x530 /* RW, HCE, RES1 */ };

static unsigned top;                    /* the level that we run at */
static bool v3;
_Noreturn void done(void);
void run_at(uint64_t spsr, void (*fn)(uint64_t), uint64_t argument);
void el_exception(unsigned slot, unsigned level, struct frame *f) __asm__("exception");

static uint64_t syndrome(unsigned level) { return level == 1 ? mrs(ESR_EL1) : level == 2 ? mrs(ESR_EL2) : mrs(ESR_EL3); }

/* From the handler of an SVC, HVC or SMC: run_at() returns. */
static void upwards(unsigned level)
{
    extern char back[];

    if (level == 3) {
        msr(ELR_EL3, back);
        msr(SPSR_EL3, 0x3cd);
    } else if (level == top) {
        msr(ELR_EL2, back);
        msr(SPSR_EL2, 0x3c9);
    } else if (top == 3) {
        __asm__ volatile("smc #99");
    } else {
        __asm__ volatile("hvc #99");
    }
}

/* All groups are enabled, the interrupt goes to us. */
static void setup(void)
{
    top = mrs(CurrentEL) >> 2;
    v3 = mrs(ID_AA64PFR0_EL1) >> 24 & 15;
    if (top == 3)
        msr(SCR_EL3, SCR_BASE);
    msr(TPIDRRO_EL0, 1);                /* run_at() comes back by SVC */
    if (!v3) {
        REG(GICD + GICD_CTLR) = 3;
        REG(GICC + GICC_CTLR) = 0xb;    /* FIQEn */
        REG(GICC + GICC_PMR) = 0xff;
        BYTE(GICD + GICD_ITARGETSR + INTID) = 1;
        return;
    }
    REG(GICD + GICD_CTLR) = top == 3 ? 0x30 : 0x10;     /* affinity routing first */
    REG(GICD + GICD_CTLR) = top == 3 ? 0x37 : 0x13;
    REG(GICR + GICR_WAKER) = 0;
    while (REG(GICR + GICR_WAKER) & 4)
        ;
    *(volatile uint64_t *)(uintptr_t)(GICD + GICD_IROUTER + 8 * INTID) = 0;
    if (top == 3) {
        msr(S3_6_C12_C12_5, 0xf);       /* ICC_SRE_EL3 */
        msr(SCR_EL3, SCR_BASE | SCR_NS);
    }
    msr(S3_4_C12_C9_5, 0xf);            /* ICC_SRE_EL2 */
    msr(S3_0_C12_C12_5, 7);             /* ICC_SRE_EL1 */
    if (top == 3) {
        msr(SCR_EL3, SCR_BASE);
        msr(S3_0_C12_C12_5, 7);
        msr(S3_6_C12_C12_7, 3);         /* ICC_IGRPEN1_EL3 */
    } else {
        msr(S3_0_C12_C12_7, 1);         /* ICC_IGRPEN1_EL1 */
    }
    msr(S3_0_C4_C6_0, 0xff);            /* ICC_PMR_EL1 */
    msr(S3_0_C12_C12_6, 1);             /* ICC_IGRPEN0_EL1 */
}
#endif
