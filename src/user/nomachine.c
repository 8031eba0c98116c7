/* What a guest's system side asks of a machine, where there is none: user mode links the whole of src/guest, and its CPUs never
 * leave their lowest privilege. The clock is the host's; the rest is never reached, and says so if it is. */
#include <sched.h>
#include <time.h>
#include "rhea/base/log.h"
#include "rhea/ir/cpu.h"
#include "rhea/vm/clock.h"
#include "rhea/vm/device.h"
#include "rhea/vm/memory.h"
#include "rhea/vm/vm.h"

int64_t vm_clock_ns(struct vm *vm)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

int64_t vm_rtc_ns(struct vm *vm)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

void cpu_stall(struct cpu *cpu) { sched_yield(); }

void cpu_pause(struct cpu *cpu)
{
#ifdef __x86_64__
    __builtin_ia32_pause();
#endif
}

static void not_here(const char *what) { log_at(LOG_UNIMP, "user mode has no machine: %s\n", what); }

/* Timers of registers that only a kernel sets: they exist and never fire. */
static char no_timer;
struct vm_timer *vm_timer_new(struct vm *vm, struct device *dev, void (*fn)(void *opaque), void *opaque)
{
    return (struct vm_timer *)(void *)&no_timer;
}
void vm_timer_free(struct vm_timer *t) { }
void vm_timer_set(struct vm_timer *t, int64_t virtual_ns) { }
void vm_timer_cancel(struct vm_timer *t) { }
void irq_set(struct irq *irq, int level) { }

/* Physical memory, other vCPUs, power. */
const struct mem_range *address_space_lookup(struct address_space *as, uint64_t addr)
{
    not_here("physical memory");
    return NULL;
}
unsigned mem_read_begin(void) { return 0; }
void mem_read_end(unsigned token) { }
uint64_t as_load(struct address_space *as, uint64_t addr, unsigned size, struct mem_attrs attrs, enum mem_result *res)
{
    not_here("physical memory");
    *res = MEM_DECODE_ERROR;
    return 0;
}
enum mem_result as_write(struct address_space *as, uint64_t addr, const void *buf, uint64_t len, struct mem_attrs attrs)
{
    not_here("physical memory");
    return MEM_DECODE_ERROR;
}
enum mem_result as_read(struct address_space *as, uint64_t addr, void *buf, uint64_t len, struct mem_attrs attrs)
{
    not_here("physical memory");
    return MEM_DECODE_ERROR;
}
void ram_written(struct vm *vm, struct ram_block *rb, uint64_t offset, uint64_t len) { not_here("physical memory"); }
void vcpu_queue(struct vcpu *v, void (*fn)(struct vcpu *v, void *arg), void *arg) { not_here("work for another vCPU"); }
void vcpus_ack(struct vcpu *self) { not_here("other vCPUs"); }
void vm_request_stop(struct vm *vm, enum stop_reason why, int exit_code) { not_here("power off"); }
void vm_request_reset(struct vm *vm, enum reset_kind kind) { not_here("reset"); }

/* MONITOR is for a kernel. */
void cpu_watch(struct cpu *cpu, uint64_t va, unsigned mmu) { not_here("MONITOR"); }

/* There is no soft TLB. */
void cpu_tlb_flush(struct cpu *cpu, uint32_t mmu_set) { }
void cpu_tlb_flush_local(struct cpu *cpu, uint32_t mmu_set) { }
void cpu_tlb_flush_page(struct cpu *cpu, uint64_t va, uint32_t mmu_set) { }
void cpu_tlb_context(struct cpu *cpu, uint32_t mmu_set, uint64_t id) { }
void cpu_tlb_flush_context(struct cpu *cpu, uint32_t mmu_set, uint64_t id) { }
