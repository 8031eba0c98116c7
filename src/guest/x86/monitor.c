/* MONITOR and MWAIT: SDM vol. 2, and vol. 3, 9.10.4. The armed line is remembered by address and content; a wait is over when
 * it holds something else, or at an interrupt. Stores to its page make the sleeping vCPU look (cpu_watch()). A line that was
 * written and written back counts as unchanged: who waits for a condition has it still to wait for. */
#include <string.h>
#include "rhea/vm/vm.h"
#include "system.h"

enum { LINE_BYTES = 64, MWAIT_WAITS = 1, MWAIT_MASKED = 2 /* interrupts end it though IF is clear */ };

/* False: not plain memory, which cannot be watched. */
static bool line_read(struct x86_cpu *c, uint64_t phys, uint64_t line[LINE_BYTES / 8])
{
    unsigned token = mem_read_begin();
    const struct mem_range *r = address_space_lookup(vcpu_memory(c->cpu.vcpu), phys);
    bool ram = r && (r->mr->kind == MEMK_RAM || r->mr->kind == MEMK_ROM) && phys + LINE_BYTES - 1 <= r->end;

    if (ram) {
        const uint64_t *p = (const uint64_t *)(r->mr->ram->host + r->mr->ram_offset + r->offset + (phys - r->start));

        for (unsigned n = 0; n < LINE_BYTES / 8; n++)
            line[n] = __atomic_load_n(&p[n], __ATOMIC_RELAXED);
    }
    mem_read_end(token);
    return ram;
}

void helper_monitor(struct cpu *cpu, uint64_t va, uint32_t extensions)
{
    struct x86_cpu *c = x86(cpu);
    unsigned mmu = x86_level_mmu(c, c->cpl);
    struct mmu_result res;

    if (extensions)
        x86_raise(c, X_GP, 0);
    c->monitor_armed = false;
    cpu_load(cpu, va, MEM_8 | mmu << MEM_MMU_SHIFT);    /* faults as a load does */
    if (!cpu->vcpu || !x86_translate(cpu, va, ACCESS_READ, mmu, true, &res))
        return;
    cpu_watch(cpu, va, mmu);
    c->monitor_line = res.phys & ~(uint64_t)(LINE_BYTES - 1);
    c->monitor_armed = line_read(c, c->monitor_line, c->monitor_was);
}

void helper_mwait(struct cpu *cpu, uint32_t extensions)
{
    struct x86_cpu *c = x86(cpu);

    if (extensions & ~1u)
        x86_raise(c, X_GP, 0);
    if (!c->monitor_armed)
        return;
    c->monitor_armed = false;
    c->mwait = MWAIT_WAITS | (extensions & 1 ? MWAIT_MASKED : 0);
    c->halted = true;
    cpu->sleeps_on_memory = true;
}

/* The CPU sleeps in an MWAIT that is to end. */
bool x86_mwait_over(const struct x86_cpu *c)
{
    uint64_t now[LINE_BYTES / 8];

    if (!c->halted || !c->mwait)
        return false;
    if (c->mwait & MWAIT_MASKED && c->platform && c->platform->irq_pending(c->platform_opaque, (struct x86_cpu *)c))
        return true;
    return !line_read((struct x86_cpu *)c, c->monitor_line, now) || memcmp(now, c->monitor_was, sizeof(now));
}

/* It runs again, for whatever reason. */
void x86_mwait_end(struct x86_cpu *c)
{
    c->halted = false;
    c->mwait = 0;
    c->cpu.sleeps_on_memory = false;
}
