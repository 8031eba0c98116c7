/* Power State Coordination Interface 1.1 (DEN 0022) and SMC Calling Convention 1.1 (DEN 0028), as firmware that the
 * board provides: CPU_ON and kin by HVC or SMC. */
#include <glib.h>
#include "rhea/base/log.h"
#include "rhea/vm/vm.h"
#include "system.h"

enum { PSCI_OK = 0, PSCI_NOT_SUPPORTED = -1, PSCI_INVALID = -2, PSCI_DENIED = -3, PSCI_ALREADY_ON = -4, PSCI_ON_PENDING = -5,
       PSCI_INTERNAL = -6, PSCI_INVALID_ADDRESS = -9 };
enum { AFFINITY_ON, AFFINITY_OFF, AFFINITY_ON_PENDING };

bool arm_psci_start_off(const struct arm_cpu *c) { return c->sys.config.start_off; }

static struct arm_cpu *cpu_by_affinity(struct vm *vm, uint64_t affinity)
{
    for (unsigned n = 0; n < vm->nvcpus; n++) {
        struct arm_cpu *c = arm(vm->vcpus[n]->cpu);

        if ((c->sys.config.mpidr & UINT64_C(0xff00ffffff)) == affinity)
            return c;
    }
    return NULL;
}

struct start { uint64_t entry, context; bool aarch32; };

/* On the target's own thread. */
static void start_cpu(struct vcpu *v, void *arg)
{
    struct start *s = arg;
    struct arm_cpu *c = arm(v->cpu);
    uint64_t args[4] = { s->context };

    arm_cpu_reset(v->cpu);
    arm_boot(c, s->entry, args);
    atomic_store(&c->sys.power, ARM_POWER_ON);
    log_at(LOG_CPU_RESET, "arm cpu %d: on at %#" G_GINT64_MODIFIER "x\n", v->index, s->entry);
    g_free(s);
}

static int64_t cpu_on(struct arm_cpu *c, uint64_t affinity, uint64_t entry, uint64_t context)
{
    struct arm_cpu *target = cpu_by_affinity(c->sys.vm, affinity);
    uint32_t off = ARM_POWER_OFF;
    struct start *s;

    if (!target)
        return PSCI_INVALID;
    if (!atomic_compare_exchange_strong(&target->sys.power, &off, ARM_POWER_ON_PENDING))
        return off == ARM_POWER_ON ? PSCI_ALREADY_ON : PSCI_ON_PENDING;
    s = g_new(struct start, 1);
    *s = (struct start){ entry, context, c->aarch32 };
    vcpu_queue(target->cpu.vcpu, start_cpu, s);
    return PSCI_OK;
}

static int64_t affinity_info(struct arm_cpu *c, uint64_t affinity, uint64_t level)
{
    static const uint8_t state[] = { [ARM_POWER_ON] = AFFINITY_ON, [ARM_POWER_OFF] = AFFINITY_OFF,
                                     [ARM_POWER_ON_PENDING] = AFFINITY_ON_PENDING };
    struct arm_cpu *target;

    if (level > 3)
        return PSCI_INVALID;
    if (level)                  /* clusters are never off */
        return AFFINITY_ON;
    target = cpu_by_affinity(c->sys.vm, affinity);
    return target ? state[atomic_load(&target->sys.power)] : PSCI_INVALID;
}

void arm_power_off(struct arm_cpu *c)
{
    atomic_store(&c->sys.power, ARM_POWER_OFF);
    cpu_kick(&c->cpu, CPU_EXIT_KICK);
}

/* Standby keeps everything, as WFI does; a power-down state comes back at the entry point. Both wake by interrupts. */
static int64_t cpu_suspend(struct arm_cpu *c, uint64_t state)
{
    if (state >> 16 & 1)        /* power down: not entered, which is as if an interrupt had been pending (5.20.1) */
        return PSCI_DENIED;
    atomic_store(&c->sys.wait_over, false);
    c->halted = true;
    return PSCI_OK;
}

static int64_t system_end(struct arm_cpu *c, bool reset)
{
    arm_power_off(c);           /* never returns to the caller */
    if (reset)
        vm_request_reset(c->sys.vm, RESET_GUEST);
    else
        vm_request_stop(c->sys.vm, STOP_GUEST_SHUTDOWN, 0);
    return PSCI_OK;
}

#define FN64 0x40000000u
enum {
    SMCCC_VERSION = 0x80000000, SMCCC_ARCH_FEATURES, SMCCC_ARCH_WORKAROUND_1 = 0x80008000, SMCCC_ARCH_WORKAROUND_2 = 0x80007fff,
    SMCCC_ARCH_WORKAROUND_3 = 0x80003fff,
    PSCI_VERSION = 0x84000000, PSCI_CPU_SUSPEND, PSCI_CPU_OFF, PSCI_CPU_ON, PSCI_AFFINITY_INFO, PSCI_MIGRATE, PSCI_MIGRATE_INFO_TYPE,
    PSCI_MIGRATE_INFO_UP_CPU, PSCI_SYSTEM_OFF, PSCI_SYSTEM_RESET, PSCI_FEATURES, PSCI_CPU_FREEZE, PSCI_CPU_DEFAULT_SUSPEND,
    PSCI_SYSTEM_RESET2 = 0x84000012,
    /* the numbers of PSCI 0.1 as device trees of the time gave them */
    PSCI01_SUSPEND = 0x95c1ba5e, PSCI01_OFF, PSCI01_ON, PSCI01_MIGRATE,
};

static bool psci_known(uint32_t fn)
{
    switch (fn & ~FN64) {
    case PSCI_CPU_SUSPEND: case PSCI_CPU_ON: case PSCI_AFFINITY_INFO: case PSCI_SYSTEM_RESET2:
        return true;
    case PSCI_VERSION: case PSCI_CPU_OFF: case PSCI_MIGRATE_INFO_TYPE: case PSCI_SYSTEM_OFF: case PSCI_SYSTEM_RESET: case PSCI_FEATURES:
        return !(fn & FN64);
    default:
        return fn == SMCCC_VERSION;
    }
}

static int64_t arch_features(uint32_t fn)
{
    /* Processors modelled here have no speculation, so that workarounds are not required (1) on them. */
    if (fn == SMCCC_ARCH_WORKAROUND_1 || fn == SMCCC_ARCH_WORKAROUND_2 || fn == SMCCC_ARCH_WORKAROUND_3)
        return 1;
    return fn == SMCCC_VERSION || fn == SMCCC_ARCH_FEATURES ? PSCI_OK : PSCI_NOT_SUPPORTED;
}

static bool dispatch(struct arm_cpu *c, uint32_t fn, const uint64_t a[4], int64_t *result)
{
    uint32_t base = fn & ~FN64;

    switch (fn) {
    case SMCCC_VERSION:       *result = 0x10001; return true;
    case SMCCC_ARCH_FEATURES: *result = arch_features((uint32_t)a[1]); return true;
    case SMCCC_ARCH_WORKAROUND_1: case SMCCC_ARCH_WORKAROUND_2: case SMCCC_ARCH_WORKAROUND_3: *result = 0; return true;
    case PSCI01_SUSPEND: base = PSCI_CPU_SUSPEND; break;
    case PSCI01_OFF:     base = PSCI_CPU_OFF; break;
    case PSCI01_ON:      base = PSCI_CPU_ON; break;
    default:
        /* Standard secure service calls in this number space are PSCI's; the rest of the convention answers unknown. */
        if ((base & 0xffffffe0) != 0x84000000)
            return false;
        if (!psci_known(fn)) {
            *result = PSCI_NOT_SUPPORTED;
            return true;
        }
    }
    switch (base) {
    case PSCI_VERSION:           *result = 0x10001; break;
    case PSCI_CPU_SUSPEND:       *result = cpu_suspend(c, a[1]); break;
    case PSCI_CPU_OFF:           arm_power_off(c); *result = PSCI_OK; break;
    case PSCI_CPU_ON:            *result = cpu_on(c, a[1], a[2], a[3]); break;
    case PSCI_AFFINITY_INFO:     *result = affinity_info(c, a[1], a[2]); break;
    case PSCI_MIGRATE_INFO_TYPE: *result = 2; break;    /* no Trusted OS to migrate */
    case PSCI_SYSTEM_OFF:        *result = system_end(c, false); break;
    case PSCI_SYSTEM_RESET: case PSCI_SYSTEM_RESET2: *result = system_end(c, true); break;
    case PSCI_FEATURES:          *result = psci_known((uint32_t)a[1]) ? PSCI_OK : PSCI_NOT_SUPPORTED; break;
    default:                     *result = PSCI_NOT_SUPPORTED;
    }
    return true;
}

bool arm_psci(struct arm_cpu *c)
{
    uint64_t a[4] = { c->x[0], c->x[1], c->x[2], c->x[3] };
    uint32_t fn = (uint32_t)a[0];
    int64_t result;

    if (c->aarch32 || !(fn & FN64))
        for (unsigned n = 1; n < 4; n++)
            a[n] = (uint32_t)a[n];
    if (!dispatch(c, fn, a, &result)) {
        /* HVC may be a hypervisor's of the guest's own; all of SMC is ours, since no firmware of the guest runs at EL3. */
        if (c->sys.config.psci == ARM_PSCI_HVC && arm_el2_enabled(c))
            return false;
        result = PSCI_NOT_SUPPORTED;
    }
    c->x[0] = c->aarch32 ? (uint32_t)result : (uint64_t)result;
    return true;
}
