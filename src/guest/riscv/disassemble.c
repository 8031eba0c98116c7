/* Instructions as text: each row's own operands, in the GNU assembler's words. */
#include <inttypes.h>
#include <string.h>
#include "riscv.h"

static const char *const x_names[32] = {
    "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "s2", "s3",
    "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6",
};
static const char *const f_names[32] = {
    "ft0", "ft1", "ft2", "ft3", "ft4", "ft5", "ft6", "ft7", "fs0", "fs1", "fa0", "fa1", "fa2", "fa3", "fa4", "fa5", "fa6",
    "fa7", "fs2", "fs3", "fs4", "fs5", "fs6", "fs7", "fs8", "fs9", "fs10", "fs11", "ft8", "ft9", "ft10", "ft11",
};
static const char *const roundings[8] = { "rne", "rtz", "rdn", "rup", "rmm", "5", "6", "dyn" };

static const struct csr_name { uint16_t number; const char *name; } csr_names[] = {
    { 0x001, "fflags" }, { 0x002, "frm" }, { 0x003, "fcsr" }, { 0x015, "seed" }, { 0x100, "sstatus" }, { 0x104, "sie" },
    { 0x105, "stvec" }, { 0x106, "scounteren" }, { 0x10a, "senvcfg" }, { 0x140, "sscratch" }, { 0x141, "sepc" },
    { 0x142, "scause" }, { 0x143, "stval" }, { 0x144, "sip" }, { 0x14d, "stimecmp" }, { 0x15d, "stimecmph" },
    { 0x180, "satp" }, { 0x300, "mstatus" }, { 0x301, "misa" }, { 0x302, "medeleg" }, { 0x303, "mideleg" },
    { 0x304, "mie" }, { 0x305, "mtvec" }, { 0x306, "mcounteren" }, { 0x30a, "menvcfg" }, { 0x310, "mstatush" },
    { 0x31a, "menvcfgh" }, { 0x320, "mcountinhibit" }, { 0x340, "mscratch" }, { 0x341, "mepc" }, { 0x342, "mcause" },
    { 0x343, "mtval" }, { 0x344, "mip" }, { 0x747, "mseccfg" }, { 0x757, "mseccfgh" }, { 0x7a0, "tselect" },
    { 0x7a1, "tdata1" }, { 0x7a2, "tdata2" }, { 0x7a3, "tdata3" }, { 0xb00, "mcycle" }, { 0xb02, "minstret" },
    { 0xb80, "mcycleh" }, { 0xb82, "minstreth" }, { 0xc00, "cycle" }, { 0xc01, "time" }, { 0xc02, "instret" },
    { 0xc80, "cycleh" }, { 0xc81, "timeh" }, { 0xc82, "instreth" }, { 0xda0, "scountovf" }, { 0xf11, "mvendorid" },
    { 0xf12, "marchid" }, { 0xf13, "mimpid" }, { 0xf14, "mhartid" }, { 0xf15, "mconfigptr" },
};

static char *csr_name(unsigned n)
{
    for (unsigned k = 0; k < G_N_ELEMENTS(csr_names); k++)
        if (csr_names[k].number == n)
            return g_strdup(csr_names[k].name);
    if (n >= 0x3a0 && n < 0x3b0)
        return g_strdup_printf("pmpcfg%u", n - 0x3a0);
    if (n >= 0x3b0 && n < 0x3f0)
        return g_strdup_printf("pmpaddr%u", n - 0x3b0);
    return g_strdup_printf("0x%x", n);
}

static char *fence_set(unsigned v)
{
    char text[5];
    unsigned n = 0;

    for (unsigned k = 0; k < 4; k++)
        if (v & (8u >> k))
            text[n++] = "iorw"[k];
    text[n] = 0;
    return g_strdup(n ? text : "unknown");
}

/* lui, auipc: as the assembler takes it back. */
static bool is_upper(const struct riscv_insn *i) { return i->row->emit == riscv_emit_lui || i->row->emit == riscv_emit_auipc; }

static char *print_field(const void *insn, const char *field, int64_t value)
{
    const struct riscv_insn *i = insn;

    if (!strcmp(field, "rd") || !strcmp(field, "rs1") || !strcmp(field, "rs2"))
        return g_strdup(x_names[value & 31]);
    if (field[0] == 'f' && (field[1] == 'd' || field[1] == 's'))
        return g_strdup(f_names[value & 31]);
    if (!strcmp(field, "imm") && i->row->target >= 0)
        return g_strdup_printf("0x%" PRIx64, i->pc + (uint64_t)value);
    if (!strcmp(field, "imm") && is_upper(i))
        return g_strdup_printf("0x%x", (uint32_t)value >> 12);
    if (!strcmp(field, "csr"))
        return csr_name((unsigned)value);
    if (!strcmp(field, "rm"))
        return g_strdup(roundings[value & 7]);
    if (!strcmp(field, "pred") || !strcmp(field, "succ"))
        return fence_set((unsigned)value);
    if (!strcmp(field, "shamt") || !strcmp(field, "bs") || !strcmp(field, "rnum"))
        return g_strdup_printf("0x%x", (unsigned)value);
    return NULL;
}

char *riscv_insn_text(const struct riscv_insn *i)
{
    g_autofree char *name = NULL, *text = NULL, *first = NULL;

    if (!i->row)
        return i->len == 2 ? g_strdup_printf(".short 0x%04x", i->raw) : g_strdup_printf(".word 0x%08x", i->raw);
    /* A few mnemonics hold a number. */
    first = bits_format("", i->row->mnemonic, i, riscv_field_table, print_field);
    name = g_strdup_printf("%s%s%s", g_strstrip(first), (i->row->flags & RISCV_ROW_AMO) && i->aq ? ".aq" : "",
                           (i->row->flags & RISCV_ROW_AMO) && i->rl ? i->aq ? "rl" : ".rl" : "");
    text = bits_format(name, i->row->operands, i, riscv_field_table, print_field);
    if (g_str_has_suffix(text, ", dyn"))
        text[strlen(text) - 5] = 0;
    return g_steal_pointer(&text);
}

static bool no_next_page(struct code_fetch *f) { return false; }

char *riscv_disassemble(const uint8_t *code, size_t n, uint64_t pc, uint64_t mode)
{
    uint8_t page[2][CPU_PAGE_SIZE] = { 0 };
    uint64_t base = pc & ~(uint64_t)(CPU_PAGE_SIZE - 1);
    struct code_fetch f = { .first_pc = pc, .page = { page[0], page[1] }, .page_va = base, .next_page = no_next_page };
    struct riscv_insn i;
    struct insn_info info;

    if (n < 2 || ((code[0] & 3) == 3 && n < 4))
        return g_strdup("?");
    memcpy(&page[0][pc - base], code, n < 4 ? n : 4);   /* two pages in a row: it may straddle */
    riscv_decode(&f, pc, mode, &i, &info);
    return riscv_insn_text(&i);
}
