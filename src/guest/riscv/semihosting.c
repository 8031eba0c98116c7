/* The semihosting call of RISC-V: EBREAK between two shifts that do nothing, none of them compressed, in one page.
 * "RISC-V Semihosting" 0.4, chapter 2: a0 is the operation and then the result, a1 the argument. */
#include "rhea/vm/semihosting.h"
#include "system.h"

enum { SLLI_X0_X0_31 = 0x01f01013, EBREAK = 0x00100073, SRAI_X0_X0_7 = 0x40705013 };
enum { A0 = 10, A1 = 11 };

static bool is_call(struct riscv_cpu *c)
{
    static const uint32_t sequence[] = { SLLI_X0_X0_31, EBREAK, SRAI_X0_X0_7 };
    struct cpu *cpu = &c->cpu;
    uint64_t pc = cpu->pc - 4;
    struct mmu_result at = { 0 };

    if ((pc ^ (pc + 11)) >> CPU_PAGE_BITS)
        return false;
    if (!riscv_translate(cpu, pc, ACCESS_EXEC, riscv_mmu_index(cpu, true), true, &at)) {
        cpu->exception = -1;
        return false;
    }
    for (unsigned n = 0; n < 3; n++) {
        enum mem_result res = MEM_OK;

        if (as_load(&cpu->vcpu->vm->memory, at.phys + 4 * n, 4, MEM_ATTRS_NONE, &res) != sequence[n] || res != MEM_OK)
            return false;
    }
    return true;
}

bool riscv_semihosting(struct riscv_cpu *c)
{
    struct semihosting *s = semihosting_of(&c->cpu, c->priv == PRV_U);
    uint64_t result = c->x[A0];

    if (!s || !is_call(c))
        return false;
    if (s->call(s, &c->cpu, c->xlen / 8, (uint32_t)c->x[A0], c->xlen == 32 ? (uint32_t)c->x[A1] : c->x[A1], &result)) {
        c->x[A0] = c->xlen == 32 ? (uint64_t)(int32_t)result : result;
        c->cpu.pc += 4;
    }
    return true;
}
