/* GICv3, inside: distributor (arm_gicv3.c), redistributors with their LPIs (arm_gicv3_redist.c), CPU interfaces
 * (arm_gicv3_cpuif.c), virtual ones (arm_gicv3_virt.c) and the ITS (arm_gicv3_its.c). Arm IHI 0069 ("GIC").
 *
 * Threads: SPIs are under gicv3.lock; everything of one CPU under its redistributor's lock, which comes after it. So
 * timers, SGIs and LPIs of different CPUs never meet. A CPU's lines are atomics, set under its redistributor's lock.
 *
 * Invariants: (1) gicr.spi is the best SPI for that CPU, renewed under both locks whenever an SPI of it changes;
 * (2) gicr.lpi is the best pending and enabled LPI; (3) a CPU's lines follow gicr_update(), which everything that may
 * change them calls before it gives the redistributor's lock back. */
#ifndef RHEA_ARM_GICV3_H
#define RHEA_ARM_GICV3_H

#include <pthread.h>
#include "guest/arm/arm.h"
#include "rhea/device/arm_gic.h"


enum { GIC_NONE = 1023, GIC_WORDS = 32, GIC_LPI_FIRST = 8192, GIC_ID_BITS = 16, GIC_LPI_END = 1 << GIC_ID_BITS };
/* 32 priorities: bits 7 to 3 */
enum { GIC_PRIORITY_SHIFT = 3, GIC_PRIORITY_MASK = 0xf8, GIC_MIN_BPR = 2, GIC_LRS = 4 };
/* Group 0, Secure group 1, Non-secure group 1. With one Security state (GICD_CTLR.DS) group 1 is G1NS. */
enum gic_group { G0, G1S, G1NS, G_COUNT };

struct gicv3_word { uint32_t enabled, pending, level, edge, active, group, modifier; };        /* of 32 interrupts */
struct gic_best { uint32_t id; uint16_t priority; uint8_t group; };             /* id GIC_NONE: none */

/* A virtual CPU interface: what ICH_* hold. */
struct gich { uint32_t hcr, vmcr, apr[2]; uint64_t lr[GIC_LRS]; bool virq, vfiq; };

struct gicr {
    struct gicv3 *gic;
    struct arm_cpu *arm;
    unsigned index;
    bool last;                  /* of its region of registers */
    pthread_mutex_t lock;
    struct gicv3_word banked;   /* SGIs and PPIs */
    uint8_t priority[GIC_INTERNAL];
    bool asleep, lpis_enabled;
    uint64_t propbaser, pendbaser;
    uint64_t *lpi_pending;      /* a bit an LPI from 8192 on */
    uint64_t lpi_summary[16];   /* a bit a word of it */
    unsigned lpi_end;           /* IDs from here on do not exist: what PROPBASER says */
    struct gic_best spi, lpi;
    /* CPU interface */
    uint8_t pmr, bpr[G_COUNT];
    bool enabled[G_COUNT];
    uint32_t apr[G_COUNT];
    bool cbpr[2], eoimode[2], eoimode_el3, pmhe;        /* [0]: Non-secure, or the only one; [1]: Secure */
    enum arm_line line;         /* asserted; ARM_LINE_COUNT: none */
    struct gich ich;
};

struct gicv3 {
    struct gic_inputs in;       /* first */
    bool security, lpis;
    pthread_mutex_t lock;
    uint32_t ctlr;              /* atomic: read under any redistributor's lock */
    struct gicv3_word shared[GIC_WORDS];
    uint8_t priority[GIC_WORDS * 32];
    uint16_t target[GIC_WORDS * 32];    /* CPU, or NO_CPU */
    uint64_t router[GIC_WORDS * 32];
    struct gicr *cpu;
    uint32_t low_redists;       /* property: how many have their registers in the first region */
};
enum { NO_CPU = 0xffff };
enum { GICD_GROUP0 = 1, GICD_GROUP1NS = 2, GICD_GROUP1S = 4, GICD_ARE_S = 0x10, GICD_ARE_NS = 0x20, GICD_DS = 0x40 };

static inline uint32_t gicd_ctlr(struct gicv3 *g) { return __atomic_load_n(&g->ctlr, __ATOMIC_ACQUIRE); }
static inline bool gic_one_state(struct gicv3 *g) { return gicd_ctlr(g) & GICD_DS; }
/* The architecture leaves groups open at reset; firmware for machines with one Security state takes group 1 for granted. */
static inline uint32_t gicv3_reset_group(const struct gicv3 *g) { return g->security ? 0 : ~0u; }
static inline uint32_t gicv3_word_pending(const struct gicv3_word *w) { return w->pending | (w->level & ~w->edge); }
/* What GICD_CTLR forwards of a word: a mask. */
uint32_t gicv3_forwarded(struct gicv3 *g, const struct gicv3_word *w);
enum gic_group gicv3_group(struct gicv3 *g, const struct gicv3_word *w, unsigned bit);
/* Bits that an access may see and change. */
uint32_t gicv3_visible(struct gicv3 *g, const struct gicv3_word *w, bool secure);
bool gicv3_current_secure(struct gicv3 *g);
/* 4.8.6: priorities as Non-secure software sees them where there are two states */
static inline uint8_t gic_priority_nonsecure(uint8_t p) { return p & 0x80 ? (uint8_t)(p << 1) : 0; }
enum gicv3_bits { B_GROUP, B_SET_ENABLE, B_CLEAR_ENABLE, B_SET_PENDING, B_CLEAR_PENDING, B_SET_ACTIVE, B_CLEAR_ACTIVE };
uint32_t gicv3_bits_read(struct gicv3 *g, struct gicv3_word *w, enum gicv3_bits r, bool secure);
void gicv3_bits_write(struct gicv3 *g, struct gicv3_word *w, enum gicv3_bits r, bool secure, uint32_t v, uint32_t mask);
uint32_t gicv3_config_read(const struct gicv3_word *w, bool high);
void gicv3_config_write(struct gicv3 *g, struct gicv3_word *w, bool high, bool secure, uint32_t v, uint32_t mask);
uint32_t gicv3_id_register(uint64_t offset);    /* 0xffd0 to 0xfffc */

/* Distributor, under its lock: the best SPI of that CPU is found anew. */
void gicv3_spi_update(struct gicv3 *g, unsigned cpu);
struct gicr *gicv3_find_cpu(struct gicv3 *g, uint64_t affinity);        /* NULL: none */

/* Redistributor, under its lock */
struct gic_best gicr_best(struct gicr *r);      /* over all that is forwarded and enabled at the CPU interface */
void gicr_update(struct gicr *r);
void gicr_init(struct gicr *r, struct gicv3 *g, unsigned index);
void gicr_free(struct gicr *r);
void gicr_reset(struct gicr *r);
void gicr_lpi_take(struct gicr *r, unsigned id);        /* acknowledged */
uint64_t gicr_mmio_read(struct gicv3 *g, unsigned cpu, uint64_t offset, unsigned size);
void gicr_mmio_write(struct gicv3 *g, unsigned cpu, uint64_t offset, uint64_t v, unsigned size);
/* For the ITS; they lock. */
void gicr_lpi_set(struct gicr *r, unsigned id, bool pending);
void gicr_lpi_look(struct gicr *r);             /* configuration changed */
void gicr_lpi_move(struct gicr *from, struct gicr *to, unsigned id);
void gicr_lpi_move_all(struct gicr *from, struct gicr *to);

/* CPU interface */
extern const struct arm_gic_ops gicv3_cpu_ops;
void gicv3_cpu_reset(struct gicr *r);
bool gicr_passes(struct gicr *r, const struct gic_best *b);
void gicr_deactivate(struct gicr *r, unsigned id);      /* no lock held */
/* Register of that encoding while virtual interrupts are on; and ICH_*. */
enum arm_gic_result gicv3_virt_read(struct gicr *r, unsigned reg, uint64_t *value);
enum arm_gic_result gicv3_virt_write(struct gicr *r, unsigned reg, uint64_t value);
bool gicv3_virt_wanted(struct gicr *r, unsigned reg);
bool gicv3_is_ich(unsigned reg);
enum arm_gic_result gich_read(struct gicr *r, unsigned reg, uint64_t *value);
enum arm_gic_result gich_write(struct gicr *r, unsigned reg, uint64_t value);
void gich_update(struct gicr *r);
void gich_reset(struct gicr *r);

/* Guest memory that tables are in: RAM, or nothing. Any lock may be held. */
bool gic_ram_read(struct vm *vm, uint64_t addr, void *buf, unsigned len);
bool gic_ram_write(struct vm *vm, uint64_t addr, const void *buf, unsigned len);

#endif
