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
    if (!jc->chaos || !one_in(jc, 4))
        return 0;
    return one_in(jc, 2) ? 1 : 1 + chaos_random(jc) % 8;
}

bool chaos_impatient(struct jit_cpu *jc) { return jc->chaos && one_in(jc, 2); }

bool chaos_no_link(struct jit_cpu *jc) { return jc->chaos && one_in(jc, 4); }

void chaos_step(struct cpu *cpu)
{
    struct jit_cpu *jc = cpu->jit;

    if (!jc->chaos)
        return;
    if (one_in(jc, 64))
        cpu_tlb_flush(cpu, ~0u);
    if (one_in(jc, 64))
        jump_flush(jc);
    if (one_in(jc, 256))
        cpu_kick(cpu, CPU_EXIT_KICK);
    if (one_in(jc, 64))
        jc->one_insn = true;            /* the next by the interpreter */
    if (one_in(jc, 100000))
        vcpus_exclusive(jc->vcpu->vm, code_flush_all, NULL);
}

/* The next store to that page goes through chaos_store() too. */
bool chaos_keep_notice(struct jit_cpu *jc) { return jc->chaos && one_in(jc, 2); }

/* Between what a store to translated code drops and the store itself: as if the thread were preempted there. */
void chaos_store(struct jit_cpu *jc)
{
    if (jc->chaos && one_in(jc, 8))
        usleep(chaos_random(jc) % 300);
}
