/* Arm's generic interrupt controllers, as boards see them: "arm_gic" (GICv2, Arm IHI 0048), "arm-gicv3" (IHI 0069) with
 * "arm-gicv3-its", and the message frame of GICv2, "arm-gicv2m". */
#ifndef RHEA_DEVICE_ARM_GIC_H
#define RHEA_DEVICE_ARM_GIC_H

#include "rhea/vm/device.h"
#include "rhea/vm/vm.h"

enum { GIC_SGIS = 16, GIC_INTERNAL = 32, GIC_SPECIAL = 1020 };

/* What every model begins with. Inputs are made in realize for the vCPUs that the machine has by then. */
struct gic_inputs {
    struct device dev;
    uint32_t nspis;             /* property "num-spi" */
    struct irq **spi;           /* [nspis]: ID 32 + n */
    struct irq **ppi;           /* [ncpus * 32]: ID n of a CPU; SGIs have none */
    unsigned ncpus;
    void (*edge)(struct gic_inputs *in, unsigned spi);          /* the model's */
};
struct irq *gic_spi(struct device *gic, unsigned n);                    /* NULL: out of range */
struct irq *gic_ppi(struct device *gic, unsigned cpu, unsigned id);     /* id: 16 to 31 */

/* An edge at a shared interrupt, as a message makes it. Concurrent ones are not lost, as pulses of a line could be. */
void gic_spi_edge(struct device *gic, unsigned n);

/* As firmware would leave it for an operating system in the Non-secure world, where there are two: at reset. */
void gicv2_boot_nonsecure(struct device *gic);
void gicv3_boot_nonsecure(struct device *gic);

/* ---- "arm-gicv2m" */
void gicv2m_connect(struct device *frame, struct device *gic);         /* before realize */
/* A write at `offset` of its frame; false: no message. Any thread. */
bool gicv2m_message(struct device *frame, uint64_t offset, uint32_t data);

/* ---- "arm-gicv3-its" */
void gic_its_connect(struct device *its, struct device *gic);  /* before realize */
/* A write at `offset` from its registers' start, by the device with that requester id; false: no message. Any thread. */
bool gic_its_message(struct device *its, uint64_t offset, uint32_t event, uint16_t requester);

/* arm_gic.c, for the models */
void gic_inputs_make(struct gic_inputs *in, irq_handler *spi, irq_handler *ppi);       /* ppi: n is cpu * 32 + id */
void gic_inputs_free(struct gic_inputs *in);

#endif
