/* An address that is not canonical raises #SS when the access is to the stack segment, and #GP else (SDM vol. 3, 3.3.7.1,
 * 6.15). In 64-bit mode that is told by the instruction alone: an implicit reference by RSP, or RSP or RBP as base
 * without FS or GS. Nothing is kept for it on the way of an access; the instruction is read again when it has faulted. */
#include <string.h>
#include "rhea/vm/memory.h"
#include "rhea/vm/vm.h"
#include "system.h"

enum { PAGE = 4096, INSN_MAX = 15 };

/* The bytes at pc, without faults; how many there are. */
static size_t read_code(struct x86_cpu *c, uint64_t pc, uint8_t *to)
{
    size_t n = 0;

    while (n < INSN_MAX && c->cpu.vcpu) {
        size_t chunk = MIN(INSN_MAX - n, PAGE - ((pc + n) & (PAGE - 1)));
        struct mmu_result res;

        if (!x86_translate(&c->cpu, pc + n, ACCESS_EXEC, x86_mmu_index(&c->cpu, true), true, &res) ||
            as_read(vcpu_memory(c->cpu.vcpu), res.phys, to + n, chunk, MEM_ATTRS_NONE) != MEM_OK)
            break;
        n += chunk;
    }
    return n;
}

static bool decode_at(struct x86_cpu *c, uint64_t pc, struct x86_insn *i)
{
    uint8_t code[INSN_MAX], pages[2][PAGE] = { 0 };
    struct code_fetch f = { .first_pc = pc, .page = { pages[0], pages[1] }, .page_va = pc & ~(uint64_t)(PAGE - 1) };
    size_t n = read_code(c, pc, code);
    struct insn_info info = { 0 };

    memcpy(pages[0] + (pc & (PAGE - 1)), code, n);      /* runs over into the second */
    return x86_decode(&f, pc, x86_mode_bits(&c->cpu), i, &info) && info.len && info.len <= n;
}

/* Instructions that push or pop, in 64-bit mode; the far ones and IRET too. */
static bool uses_stack(const struct x86_insn *i)
{
    static const char *const names[] = { "push", "pop", "pushf", "popf", "call", "callf", "ret", "retf", "iret", "enter",
                                         "leave" };

    for (unsigned n = 0; n < G_N_ELEMENTS(names); n++)
        if (!strcmp(i->row->mnemonic, names[n]))
            return true;
    return false;
}

static bool near(uint64_t va, uint64_t p) { return va - p + 512 < 1024; }

static bool operand_on_stack(const struct x86_insn *i)
{
    bool memory = false;

    for (unsigned n = 0; n < G_N_ELEMENTS(i->op); n++)
        memory |= i->op[n].kind == XO_MEM;
    return memory && (i->base == R_RSP || i->base == R_RBP) && i->seg != S_FS && i->seg != S_GS;
}

bool x86_is_stack_fault(struct x86_cpu *c, uint64_t va)
{
    struct x86_insn i;

    if (!x86_code64(c) || !decode_at(c, c->cpu.pc, &i) || !i.row->mnemonic)
        return false;
    /* PUSH and CALL may fault on their operand, but then RSP is elsewhere. */
    return (uses_stack(&i) && (near(va, c->regs[R_RSP]) || near(va, c->regs[R_RBP]))) || operand_on_stack(&i);
}
