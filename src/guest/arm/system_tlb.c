/* TLB maintenance: DDI 0487 D8.16, and AArch32's as the same operations. The soft TLB holds some address spaces
 * by their ASIDs, and the current virtual machine alone, so that an operation on another VMID finds nothing; forms for the Inner and Outer
 * Shareable domain go to every vCPU, whose completion DSB waits for. */
#include "rhea/vm/vm.h"
#include "system.h"

enum { EL1_SET = 1 << ARM_MMU_EL0 | 1 << ARM_MMU_EL1 | 1 << ARM_MMU_EL1_PAN,
       EL2_SET = 1 << ARM_MMU_EL2, EL20_SET = 1 << ARM_MMU_EL20_0 | 1 << ARM_MMU_EL20_2 | 1 << ARM_MMU_EL20_2_PAN,
       EL3_SET = 1 << ARM_MMU_EL3 | 1 << ARM_MMU_EL3_PAN | 1 << ARM_MMU_EL30_0 };

/* What one vCPU does, packed into a pointer: page number << 12 | count << 8 (pages, at most 15; 0: all) | set. Bits of the
 * set fit eight: see below. */
enum { REQ_EL1 = 1, REQ_EL2 = 2, REQ_EL3 = 4, REQ_ASID = 8 /* the page number is an ASID */ };

static uint32_t mmu_set(unsigned req)
{
    return (req & REQ_EL1 ? EL1_SET : 0) | (req & REQ_EL2 ? EL2_SET | EL20_SET : 0) | (req & REQ_EL3 ? EL3_SET : 0);
}

static void flush_all(struct arm_cpu *c, uint32_t set)
{
    cpu_tlb_flush(&c->cpu, set);
}

static void flush_pages(struct arm_cpu *c, uint32_t set, uint64_t va, unsigned n)
{
    /* A page may be entered under any tag; by address only one is found. AArch32's first page and last may be entered as what
     * 64-bit sums of base and offset that leave 32 bits look like (a32_mem.c). */
    if (c->sys.tagged || (!(va >> 32) && (va < 4096 || va + ((uint64_t)n << 12) > 0xfffff000u))) {
        flush_all(c, set);
        return;
    }
    for (unsigned i = 0; i < n; i++)
        cpu_tlb_flush_page(&c->cpu, va + ((uint64_t)i << 12), set);
}

static void do_request(struct arm_cpu *c, uintptr_t req)
{
    uint32_t set = mmu_set(req & 0xff);
    unsigned n = req >> 8 & 15;

    if (req & REQ_ASID)
        cpu_tlb_flush_context(&c->cpu, set, req >> 12);
    else if (n)
        flush_pages(c, set, (uint64_t)((int64_t)(req >> 12 << 20) >> 8), n);
    else
        flush_all(c, set);
}

static void queued(struct vcpu *v, void *arg) { do_request(arm(v->cpu), (uintptr_t)arg); }

/* One that sleeps is not woken for it, thousands of times while Linux boots: it counts as quiet, and arm_deliver() comes before it
 * goes on. One that has just woken is made to look. */
static bool left_for_later(struct vcpu *v)
{
    struct arm_cpu *c = arm(v->cpu);

    if (!v->halted)
        return false;
    atomic_store(&c->sys.stale, true);
    atomic_fetch_or(&c->cpu.exit_request, CPU_EXIT_KICK);
    return true;
}

void arm_tlb_catch_up(struct arm_cpu *c)
{
    if (atomic_load(&c->sys.stale) && atomic_exchange(&c->sys.stale, false))
        flush_all(c, ~0u);
}

static void request(struct arm_cpu *c, bool broadcast, unsigned which, uint64_t va, unsigned pages)
{
    /* 44 bits of page number: bit 55 of an address is its sign */
    uintptr_t req = which | (uintptr_t)pages << 8 | (va >> 12 & (BIT(44) - 1)) << 12;
    struct vm *vm = c->sys.vm;

    do_request(c, req);
    if (!broadcast || !vm)
        return;
    for (unsigned n = 0; n < vm->nvcpus; n++) {
        if (vm->vcpus[n]->cpu == &c->cpu)
            continue;
        if (!left_for_later(vm->vcpus[n]))
            vcpu_queue(vm->vcpus[n], queued, (void *)req);
        c->sys.tlbi_pending = 1;
    }
}

/* DSB: the others have done what was queued. */
void arm_helper_dsb(struct cpu *cpu)
{
    struct arm_cpu *c = arm(cpu);

    if (!c->sys.tlbi_pending)
        return;
    c->sys.tlbi_pending = 0;
    vcpus_ack(cpu->vcpu);
}

/* ---- operations: op1, CRm, op2 of CRn 8 */

static unsigned regime_of(const struct arm_cpu *c, unsigned op1)
{
    if (op1 == 6)
        return REQ_EL3;
    if (op1 == 4)
        return REQ_EL2;
    /* EL1's names mean EL2's regime for a host: D8.16.5 */
    return arm_in_host(c) && c->el == 2 ? REQ_EL2 : REQ_EL1;
}

/* TLBI R*: base, number and scale: C5.5.1 */
static void range(struct arm_cpu *c, bool broadcast, unsigned which, uint64_t v)
{
    static const uint8_t granules[] = { 12, 12, 14, 16 };
    unsigned granule = granules[bits(v, 47, 46)], scale = (unsigned)bits(v, 45, 44), num = (unsigned)bits(v, 43, 39);
    unsigned el = which == REQ_EL1 ? 1 : which == REQ_EL2 ? 2 : 3;
    bool two = el == 1 || (el == 2 && c->sys.hcr & HCR_E2H), ds = has(c, AF_LPA2) && c->sys.tcr[el] >> (two ? 59 : 32) & 1;
    uint64_t base = (uint64_t)((int64_t)(v << 27) >> 27) << (ds ? 16 : granule);        /* with 52 bits: VA[52:16] */
    uint64_t pages = (uint64_t)(num + 1) << (5 * scale + 1) << (granule - 12);

    if (pages > 64) {
        request(c, broadcast, which, 0, 0);
        return;
    }
    for (uint64_t n = 0; n < pages; n += 8)
        request(c, broadcast, which, base + (n << 12), (unsigned)(pages - n < 8 ? pages - n : 8));
}

/* One kind in each direction: CRm 1, 2 (range), 3, 5, 6, 7; with FEAT_TLBIOS 1 and 5 (range) are Outer Shareable. */
bool arm_tlbi(struct arm_cpu *c, unsigned key, uint64_t v)
{
    unsigned op1 = key >> 11 & 7, crm = key >> 3 & 15, op2 = key & 7, which = regime_of(c, op1);
    bool broadcast = crm <= 5 && crm != 4, is_range = crm == 2 || crm == 5 || crm == 6;
    uint64_t va = (uint64_t)((int64_t)(v << 20) >> 8);

    if (crm == 4 && op1 == 4) {         /* IPAS2E1OS, RIPAS2E1...: combined entries have no IPA */
        request(c, op2 < 4 || op2 == 0 || op2 == 4, REQ_EL1, 0, 0);
        return true;
    }
    if (crm == 0 && op1 == 4) {         /* IPAS2E1IS, RIPAS2E1IS, ...LE1IS */
        request(c, true, REQ_EL1, 0, 0);
        return true;
    }
    if (crm == 4 || crm == 0 || crm > 7)
        return false;
    if (crm == 1 && !has(c, AF_TLBIOS))
        return false;
    if (is_range) {
        if (!has(c, AF_TLBIRANGE))
            return false;
        range(c, broadcast, which, v);
        return true;
    }
    switch (op2) {
    case 0: case 4: case 6:             /* VMALLE1, ALLE2, ALLE3; ALLE1; VMALLS12E1 */
        request(c, broadcast, op1 == 4 && op2 ? REQ_EL1 : which, 0, 0);
        return true;
    case 2:                             /* ASIDE1: global entries need not go */
        request(c, broadcast, which | REQ_ASID, v >> 48 << 12, 0);
        return true;
    case 1: case 3: case 5: case 7:     /* VAE1, VAAE1, VALE1, VAALE1; VAE2, VALE2 */
        /* Entries of a large page go with any address in it. A 64K or 16K granule's page is entered as such, too. */
        request(c, broadcast, which, va, 1);
        return true;
    default:
        return false;
    }
}
