/* Guest memory from C, in user mode: the functions of rhea/ir/cpu.h that helpers and the interpreter call. An access is the
 * host's own; if it faults, the handler in fault.c makes it the guest's exception. */
#include <stdatomic.h>
#include <string.h>
#include <xmmintrin.h>
#include "internal.h"

_Noreturn void cpu_loop_exit(struct cpu *cpu)
{
    /* Translated code runs under the guest's MXCSR; what it collected is kept, C goes on under the host's own. */
    cpu->fp_control |= _mm_getcsr() & 0x3f;
    _mm_setcsr(0x1f80);
    siglongjmp(*cpu->loop_exit, 1);
}

void cpu_kick(struct cpu *cpu, uint32_t bits) { atomic_fetch_or(&cpu->exit_request, bits); }

/* From here to access_end() a host fault is one of the guest, at va. */
static uint8_t *access_begin(struct cpu *cpu, uint64_t va, enum mmu_access access)
{
    struct jit_cpu *jc = cpu->jit;

    jc->access_va = va;
    jc->access = access;
    atomic_signal_fence(memory_order_seq_cst);
    jc->accessing = true;
    atomic_signal_fence(memory_order_seq_cst);
    return host_of(jc->engine, va);
}

static void access_end(struct cpu *cpu, uint64_t va, unsigned n, bool write)
{
    atomic_signal_fence(memory_order_seq_cst);
    cpu->jit->accessing = false;
    if (cpu->jit->debug.watches)
        debugger_access(cpu, va, n, write);
}

static uint64_t swapped(uint64_t v, unsigned size)
{
    switch (size) {
    case MEM_16: return __builtin_bswap16((uint16_t)v);
    case MEM_32: return __builtin_bswap32((uint32_t)v);
    case MEM_64: return __builtin_bswap64(v);
    default: return v;
    }
}

typedef uint16_t __attribute__((aligned(1), may_alias)) any16;
typedef uint32_t __attribute__((aligned(1), may_alias)) any32;
typedef uint64_t __attribute__((aligned(1), may_alias)) any64;

uint64_t cpu_load(struct cpu *cpu, uint64_t va, memop m)
{
    const volatile uint8_t *p = access_begin(cpu, va, m & MEM_RW ? ACCESS_WRITE : ACCESS_READ);
    unsigned size = m & MEM_SIZE, unused = 64 - (8u << size);
    uint64_t v;

    switch (size) {
    case MEM_8: v = *p; break;
    case MEM_16: v = *(const volatile any16 *)p; break;
    case MEM_32: v = *(const volatile any32 *)p; break;
    default: v = *(const volatile any64 *)p;
    }
    access_end(cpu, va, 1u << size, false);
    if (m & MEM_BE)
        v = swapped(v, size);
    return m & MEM_SIGNED ? (uint64_t)((int64_t)(v << unused) >> unused) : v;
}

void cpu_store(struct cpu *cpu, uint64_t va, memop m, uint64_t v)
{
    volatile uint8_t *p = access_begin(cpu, va, ACCESS_WRITE);
    unsigned size = m & MEM_SIZE;

    if (m & MEM_BE)
        v = swapped(v, size);
    switch (size) {
    case MEM_8: *p = (uint8_t)v; break;
    case MEM_16: *(volatile any16 *)p = (uint16_t)v; break;
    case MEM_32: *(volatile any32 *)p = (uint32_t)v; break;
    default: *(volatile any64 *)p = v;
    }
    access_end(cpu, va, 1u << size, true);
    if (m & MEM_RELEASE)
        atomic_thread_fence(memory_order_seq_cst);
}

/* A page at a time: a range of a 32-bit guest may go on at 0. */
static void copy_pages(struct cpu *cpu, uint64_t va, uint8_t *buf, unsigned n, bool write)
{
    while (n) {
        unsigned k = CPU_PAGE_SIZE - (va & (CPU_PAGE_SIZE - 1));
        uint8_t *p;

        k = k < n ? k : n;
        p = access_begin(cpu, va, write ? ACCESS_WRITE : ACCESS_READ);
        if (write)
            memcpy(p, buf, k);
        else
            memcpy(buf, p, k);
        access_end(cpu, va, k, write);
        va += k;
        buf += k;
        n -= k;
    }
}

void cpu_load_bytes(struct cpu *cpu, uint64_t va, void *buf, unsigned n, unsigned mmu) { copy_pages(cpu, va, buf, n, false); }

void cpu_store_bytes(struct cpu *cpu, uint64_t va, const void *buf, unsigned n, unsigned mmu)
{
    copy_pages(cpu, va, (uint8_t *)buf, n, true);
}

void cpu_probe(struct cpu *cpu, uint64_t va, unsigned n, bool write, unsigned mmu)
{
    uint64_t end = va + n;

    for (; n && va < end; va = (va & PAGE_MASK) + CPU_PAGE_SIZE) {
        uint8_t *p = access_begin(cpu, va, write ? ACCESS_WRITE : ACCESS_READ);

        if (write)
            __atomic_fetch_or(p, 0, __ATOMIC_RELAXED);
        else
            (void)*(volatile uint8_t *)p;
        access_end(cpu, va, 0, false);
    }
}

/* Faults are raised by the probe, with the address of the access; later ones can only be of a page that another thread is
 * unmapping meanwhile. A debugger that watches memory sees each access. */
uint8_t *cpu_span(struct cpu *cpu, uint64_t va, unsigned n, bool write, unsigned mmu)
{
    if (cpu->jit->debug.watches)
        return NULL;
    cpu_probe(cpu, va, n, write, mmu);
    return access_begin(cpu, va, write ? ACCESS_WRITE : ACCESS_READ);
}

void cpu_span_end(struct cpu *cpu)
{
    atomic_signal_fence(memory_order_seq_cst);
    cpu->jit->accessing = false;
}

static uint64_t combine(enum ir_opcode op, uint64_t old, uint64_t v, uint64_t cmp)
{
    switch (op) {
    case IR_ATOMIC_XCHG: return v;
    case IR_ATOMIC_ADD: return old + v;
    case IR_ATOMIC_AND: return old & v;
    case IR_ATOMIC_OR: return old | v;
    case IR_ATOMIC_XOR: return old ^ v;
    default: return old == cmp ? v : old;
    }
}

static bool swap_if(void *p, unsigned size, uint64_t *old, uint64_t new)
{
    switch (size) {
    case MEM_8: { uint8_t o = (uint8_t)*old; bool ok = __atomic_compare_exchange_n((uint8_t *)p, &o, (uint8_t)new, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); *old = o; return ok; }
    case MEM_16: { uint16_t o = (uint16_t)*old; bool ok = __atomic_compare_exchange_n((uint16_t *)p, &o, (uint16_t)new, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); *old = o; return ok; }
    case MEM_32: { uint32_t o = (uint32_t)*old; bool ok = __atomic_compare_exchange_n((uint32_t *)p, &o, (uint32_t)new, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); *old = o; return ok; }
    default: return __atomic_compare_exchange_n((uint64_t *)p, old, new, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
}

uint64_t cpu_atomic(struct cpu *cpu, enum ir_opcode op, uint64_t va, memop m, uint64_t v, uint64_t cmp)
{
    unsigned size = m & MEM_SIZE;
    uint64_t mask = size == MEM_64 ? UINT64_MAX : (UINT64_C(1) << (8u << size)) - 1, seen = 0, old, new;
    uint8_t *p = access_begin(cpu, va, ACCESS_WRITE);
    bool be = m & MEM_BE;

    memcpy(&seen, p, 1u << size);
    do {
        old = be ? swapped(seen, size) : seen;
        new = combine(op, old, v, cmp) & mask;
    } while (!swap_if(p, size, &seen, be ? swapped(new, size) : new));
    access_end(cpu, va, 1u << size, true);
    return old;
}

bool cpu_cas128(struct cpu *cpu, uint64_t va, unsigned mmu, const uint64_t cmp[2], const uint64_t v[2], uint64_t old[2])
{
    uint8_t *p = access_begin(cpu, va, ACCESS_WRITE);
    uint64_t lo = cmp[0], hi = cmp[1];
    bool done;

    __asm__ volatile("lock cmpxchg16b %1" : "=@ccz"(done), "+m"(*(__int128 *)p), "+a"(lo), "+d"(hi) : "b"(v[0]), "c"(v[1]) : "memory");
    access_end(cpu, va, 16, true);
    old[0] = lo;
    old[1] = hi;
    return done;
}
