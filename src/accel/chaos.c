/* -accel jit,chaos=SEED: what is rare becomes common, by the same seed in the same order. */
#include <unistd.h>
#include "accel.h"

static uint32_t chaos_random(struct jit_cpu *jc)
{
    uint64_t x = jc->chaos;             /* xorshift64 */

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    jc->chaos = x;
    return x >> 32;
}

static bool one_in(struct jit_cpu *jc, unsigned n) { return chaos_random(jc) % n == 0; }

unsigned chaos_max_insns(struct jit_cpu *jc)
{
    if (!jc->chaos || !one_in(jc, 8))
        return 0;
    return one_in(jc, 2) ? 1 : 1 + chaos_random(jc) % 8;
}

bool chaos_impatient(struct jit_cpu *jc) { return jc->chaos && one_in(jc, 2); }

bool chaos_no_link(struct jit_cpu *jc) { return jc->chaos && one_in(jc, 4); }

bool chaos_tier_up(struct jit_cpu *jc) { return jc->chaos && one_in(jc, 16); }

void chaos_step(struct cpu *cpu)
{
    struct jit_cpu *jc = cpu->jit;

    if (!jc->chaos)
        return;
    if (one_in(jc, 256))
        cpu_tlb_flush(cpu, ~0u);
    if (one_in(jc, 256))
        jump_flush(jc);
    if (one_in(jc, 256))
        cpu_kick(cpu, CPU_EXIT_KICK);
    if (one_in(jc, 64))
        jc->one_insn = true;            /* the next by the interpreter */
    if (one_in(jc, 200000))
        vcpus_exclusive(jc->vcpu->vm, code_flush_all, NULL);
}

/* The next store to that page goes through chaos_store() too. */
bool chaos_keep_notice(struct jit_cpu *jc) { return jc->chaos && jc->av->vm->nvcpus > 1 && one_in(jc, 2); }

/* What a store to code may go wrong with needs another vCPU, and code in the page or soon in it; code that is made anew is
 * mostly beside other code. */
static bool code_near(const struct ram_block *rb, uint64_t offset)
{
    uint64_t page = offset >> CPU_PAGE_BITS, last = (rb->size - 1) >> CPU_PAGE_BITS;

    for (uint64_t p = page ? page - 1 : 0; p <= MIN(page + 1, last); p++)
        if (__atomic_load_n(&rb->page_flags[p], __ATOMIC_RELAXED) & PAGE_HAS_CODE)
            return true;
    return false;
}

/* Between what a store to translated code drops and the store itself: as if the thread were preempted there. Rarely
 * elsewhere: a boot would take longer by many times. */
void chaos_store(struct jit_cpu *jc, const struct ram_block *rb, uint64_t offset)
{
    if (jc->chaos && jc->av->vm->nvcpus > 1 && one_in(jc, code_near(rb, offset) ? 8 : 2048))
        usleep(chaos_random(jc) % 300);
}
