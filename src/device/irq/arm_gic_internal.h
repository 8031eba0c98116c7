/* GICv2's registers and state: arm_gic.c, arm_gic_virt.c and the unit test. */
#ifndef RHEA_ARM_GIC_INTERNAL_H
#define RHEA_ARM_GIC_INTERNAL_H

#include <pthread.h>
#include "guest/arm/arm.h"
#include "rhea/device/arm_gic.h"


enum { GICD_CTLR = 0x000, GICD_TYPER = 0x004, GICD_IIDR = 0x008, GICD_IGROUPR = 0x080, GICD_ISENABLER = 0x100, GICD_ICENABLER = 0x180,
       GICD_ISPENDR = 0x200, GICD_ICPENDR = 0x280, GICD_ISACTIVER = 0x300, GICD_ICACTIVER = 0x380, GICD_IPRIORITYR = 0x400,
       GICD_ITARGETSR = 0x800, GICD_ICFGR = 0xc00, GICD_SGIR = 0xf00, GICD_CPENDSGIR = 0xf10, GICD_SPENDSGIR = 0xf20, GICD_PIDR4 = 0xfd0 };
enum { GICD_GROUP0 = 1, GICD_GROUP1 = 2 };
enum { GICC_CTLR = 0x00, GICC_PMR = 0x04, GICC_BPR = 0x08, GICC_IAR = 0x0c, GICC_EOIR = 0x10, GICC_RPR = 0x14, GICC_HPPIR = 0x18,
       GICC_ABPR = 0x1c, GICC_AIAR = 0x20, GICC_AEOIR = 0x24, GICC_AHPPIR = 0x28, GICC_APR = 0xd0, GICC_NSAPR = 0xe0, GICC_IIDR = 0xfc,
       GICC_DIR = 0x1000 };
enum { GICC_GROUP0 = 1, GICC_GROUP1 = 2, GICC_ACKCTL = 4, GICC_FIQEN = 8, GICC_CBPR = 0x10, GICC_EOIMODE = 0x200, GICC_EOIMODE_NS = 0x400 };
/* 32 priorities: bits 7 to 3, the least binary point that separates them all is 2 */
enum { GIC_CPUS = 8, GIC_WORDS = 32, GIC_NONE = 1023, GIC_PRIORITY_SHIFT = 3, GIC_PRIORITY_MASK = 0xf8, GIC_MIN_BPR = 2 };

struct gic_word { uint32_t enabled, pending, level, edge, active, group; };    /* of 32 interrupts */

/* A virtual CPU interface: GICH and GICV show the same. */
enum { GICH_LRS = 4 };
struct gich2 { uint32_t hcr, ctlr, apr, lr[GICH_LRS]; uint8_t pmr, bpr, abpr; bool virq, vfiq; };

struct gic_cpu {
    struct arm_cpu *arm;
    struct gic_word banked;     /* ID 0 to 31 */
    uint8_t priority[GIC_INTERNAL], sgi_source[GIC_SGIS];
    uint32_t ctlr, apr, nsapr;
    uint8_t pmr, bpr, abpr;
    bool irq, fiq;              /* lines as last told */
    struct gich2 ich;
};

struct gic {
    struct gic_inputs in;       /* first */
    bool security, virtualization;
    pthread_mutex_t lock;
    uint32_t ctlr;
    struct gic_word shared[GIC_WORDS];          /* [0]: unused */
    uint8_t priority[GIC_WORDS * 32], target[GIC_WORDS * 32];
    struct gic_cpu cpu[GIC_CPUS];
};

/* Under the lock */
void gic_update(struct gic *g, unsigned cpu);
uint32_t gic_dist_read(struct gic *g, unsigned cpu, bool secure, unsigned offset, unsigned size);
void gic_dist_write(struct gic *g, unsigned cpu, bool secure, unsigned offset, uint32_t v, unsigned size);
uint32_t gic_cpu_read(struct gic *g, unsigned cpu, bool secure, unsigned offset);
void gic_cpu_write(struct gic *g, unsigned cpu, bool secure, unsigned offset, uint32_t v);

void gic_deactivate(struct gic *g, unsigned cpu, unsigned id);
/* arm_gic_virt.c */
void gich2_reset(struct gic_cpu *c);
void gich2_update(struct gic *g, unsigned cpu);
uint32_t gich2_read(struct gic *g, unsigned cpu, unsigned offset);
void gich2_write(struct gic *g, unsigned cpu, unsigned offset, uint32_t v);
uint32_t gicv2_vcpu_read(struct gic *g, unsigned cpu, unsigned offset);
void gicv2_vcpu_write(struct gic *g, unsigned cpu, unsigned offset, uint32_t v);

#endif
