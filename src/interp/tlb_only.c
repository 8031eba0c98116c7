/* Guest memory where there is nothing behind the soft TLB: what it maps is accessed, the rest faults. Weak, so that the
 * machine's own memory (which fills the TLB and knows devices) takes its place in every program that has one. */
#include <string.h>
#include "rhea/guest/guest.h"
#include "rhea/ir/cpu.h"
#include "rhea/ir/eval.h"

#define WEAK __attribute__((weak))

WEAK _Noreturn void cpu_loop_exit(struct cpu *cpu)
{
    siglongjmp(*cpu->loop_exit, 1);
}

/* Host address of the byte at va; does not return if it is not mapped. */
static uint8_t *host_at(struct cpu *cpu, uint64_t va, enum mmu_access access, unsigned mmu)
{
    const struct tlb_view *view = &cpu->tlb[mmu];
    uint64_t page = va & ~(uint64_t)(CPU_PAGE_SIZE - 1);
    const struct tlb_entry *e;
    struct mmu_result unused;

    if (view->table) {
        e = (const struct tlb_entry *)((uint8_t *)view->table + ((va >> (CPU_PAGE_BITS - 5)) & view->mask));
        if ((access == ACCESS_WRITE ? e->write : e->read) == page)
            return (uint8_t *)(uintptr_t)(va + e->addend);
    }
    if (cpu->guest->translate(cpu, va, access, mmu, false, &unused) && cpu->guest->bus_error)
        cpu->guest->bus_error(cpu, unused.phys, access);
    cpu_loop_exit(cpu);
}

static void read_bytes(struct cpu *cpu, uint64_t va, uint8_t *to, unsigned n, unsigned mmu)
{
    for (unsigned i = 0; i < n; i++)
        to[i] = *host_at(cpu, va + i, ACCESS_READ, mmu);
}

/* All of it or nothing: a store that faults on its second page has not touched the first. */
static void write_bytes(struct cpu *cpu, uint64_t va, const uint8_t *from, unsigned n, unsigned mmu)
{
    host_at(cpu, va, ACCESS_WRITE, mmu);
    host_at(cpu, va + n - 1, ACCESS_WRITE, mmu);
    for (unsigned i = 0; i < n; i++)
        *host_at(cpu, va + i, ACCESS_WRITE, mmu) = from[i];
}

static uint64_t swap(uint64_t v, memop m)
{
    return m & MEM_BE ? __builtin_bswap64(v) >> (64 - 8 * memop_bytes(m)) : v;
}

WEAK uint64_t cpu_load(struct cpu *cpu, uint64_t va, memop m)
{
    unsigned unused = 64 - 8 * memop_bytes(m);
    uint64_t v = 0;

    read_bytes(cpu, va, (uint8_t *)&v, memop_bytes(m), memop_mmu(m));
    v = swap(v, m);
    return m & MEM_SIGNED ? (uint64_t)((int64_t)(v << unused) >> unused) : v;
}

WEAK void cpu_store(struct cpu *cpu, uint64_t va, memop m, uint64_t v)
{
    v = swap(v, m);
    write_bytes(cpu, va, (const uint8_t *)&v, memop_bytes(m), memop_mmu(m));
}

WEAK void cpu_load_bytes(struct cpu *cpu, uint64_t va, void *buf, unsigned n, unsigned mmu)
{
    read_bytes(cpu, va, buf, n, mmu);
}

WEAK void cpu_store_bytes(struct cpu *cpu, uint64_t va, const void *buf, unsigned n, unsigned mmu)
{
    if (n)
        write_bytes(cpu, va, buf, n, mmu);
}

/* Not atomic: one vCPU is all there is without a machine. */
WEAK uint64_t cpu_atomic(struct cpu *cpu, enum ir_opcode op, uint64_t va, memop m, uint64_t v, uint64_t cmp)
{
    uint64_t old, new;

    m &= ~(memop)MEM_SIGNED;
    host_at(cpu, va, ACCESS_WRITE, memop_mmu(m));
    old = cpu_load(cpu, va, m);
    switch (op) {
    case IR_ATOMIC_ADD: new = old + v; break;
    case IR_ATOMIC_AND: new = old & v; break;
    case IR_ATOMIC_OR: new = old | v; break;
    case IR_ATOMIC_XOR: new = old ^ v; break;
    case IR_ATOMIC_CAS: new = old == cmp ? v : old; break;
    default: new = v;
    }
    cpu_store(cpu, va, m, new);
    return old;
}
