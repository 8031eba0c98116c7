/* The semihosting call of RISC-V: EBREAK between two shifts that do nothing, none of them compressed, in one page.
 * "RISC-V Semihosting" 0.4, chapter 2: a0 is the operation and then the result, a1 the argument. */
#include "rhea/vm/semihosting.h"
#include "system.h"

enum { SLLI_X0_X0_31 = 0x01f01013, EBREAK = 0x00100073, SRAI_X0_X0_7 = 0x40705013 };
enum { A0 = 10, A1 = 11 };

static bool is_call(struct riscv_cpu *c)
{
    static const uint32_t sequence[] = { SLLI_X0_X0_31, EBREAK, SRAI_X0_X0_7 };
    uint64_t pc = c->cpu.pc - 4;
    uint32_t insn;

    if ((pc ^ (pc + 11)) >> CPU_PAGE_BITS)
        return false;
    for (unsigned n = 0; n < 3; n++)
        if (!riscv_fetch_word(c, pc + 4 * n, &insn) || insn != sequence[n])
            return false;
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
