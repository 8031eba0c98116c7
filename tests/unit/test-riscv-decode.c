/* RISC-V decoding and disassembly: known encodings (what GNU binutils 2.40 says of them with -M no-aliases, where it knows
 * the extension), rows that share encodings, reserved encodings, and what a region is told of control flow. */
#include <glib.h>
#include <string.h>
#include "../../src/guest/riscv/riscv.h"

static struct riscv_insn decoded(uint32_t raw, uint64_t pc, uint64_t mode, struct insn_info *info)
{
    _Alignas(4096) static uint8_t page[2 * CPU_PAGE_SIZE];
    struct code_fetch f = { .page = { page, page + CPU_PAGE_SIZE }, .page_va = pc & ~(uint64_t)(CPU_PAGE_SIZE - 1), .first_pc = pc };
    struct riscv_insn i;

    memcpy(page + (pc & (CPU_PAGE_SIZE - 1)), &raw, 4);
    g_assert_true(riscv_decode(&f, pc, mode, &i, info));
    return i;
}

static void check_text(uint32_t raw, uint64_t mode, const char *expected)
{
    uint8_t code[4];
    g_autofree char *text = NULL;

    memcpy(code, &raw, 4);
    text = riscv_disassemble(code, 4, 0x1000, mode);
    g_assert_cmpstr(text, ==, expected);
}

static const struct known { uint32_t raw; const char *text; } known64[] = {
    { 0x12345537, "lui a0, 0x12345" }, { 0xfffff297, "auipc t0, 0xfffff" }, { 0x7ff0006f, "jal zero, 0x1ffe" },
    { 0xff9ff0ef, "jal ra, 0xff8" }, { 0x00008067, "jalr zero, 0(ra)" }, { 0xfeb518e3, "bne a0, a1, 0xff0" },
    { 0xff843583, "ld a1, -8(s0)" }, { 0xfeb43c23, "sd a1, -8(s0)" }, { 0x80050513, "addi a0, a0, -2048" },
    { 0x03f51513, "slli a0, a0, 0x3f" }, { 0x43f55513, "srai a0, a0, 0x3f" }, { 0x41f5551b, "sraiw a0, a0, 0x1f" },
    { 0x02c5d533, "divu a0, a1, a2" }, { 0x0ff0000f, "fence iorw, iorw" }, { 0x8330000f, "fence.tso" },
    { 0x0100000f, "pause" }, { 0x100522af, "lr.w t0, (a0)" }, { 0x1865b52f, "sc.d a0, t1, (a1)" },
    { 0x06a5a52f, "amoadd.w.aqrl a0, a0, (a1)" }, { 0x28c5b52f, "amocas.d a0, a2, (a1)" },
    { 0x30002573, "csrr a0, mstatus" }, { 0x30551073, "csrrw zero, mtvec, a0" }, { 0x100162f3, "csrrsi t0, sstatus, 2" },
    { 0x30200073, "mret" }, { 0x12050073, "sfence.vma a0, zero" }, { 0x10500073, "wfi" },
    { 0x02c5f553, "fadd.d fa0, fa1, fa2" }, { 0xc2051553, "fcvt.w.d a0, fa0, rtz" }, { 0x6ac5f543, "fmadd.d fa0, fa1, fa2, fa3" },
    { 0x22a51553, "fsgnjn.d fa0, fa0, fa0" }, { 0xf2158553, "fli.d fa0, 11" },
    { 0x20c5a533, "sh1add a0, a1, a2" }, { 0x60051513, "clz a0, a0" }, { 0x6b855513, "rev8 a0, a0" },
    { 0x28755513, "orc.b a0, a0" }, { 0x0805453b, "zext.h a0, a0" }, { 0x0ac59533, "clmul a0, a1, a2" },
    { 0x0ec5d533, "czero.eqz a0, a1, a2" }, { 0x0045200f, "cbo.zero (a0)" }, { 0x31459593, "aes64ks1i a1, a1, 0x4" },
    { 0x81c54573, "mop.r.0 a0, a0" },
    { 0x1141, "c.addi sp, -16" }, { 0x7139, "c.addi16sp sp, -64" }, { 0xe406, "c.sdsp ra, 8(sp)" }, { 0x6105, "c.addi16sp sp, 32" },
    { 0x8082, "c.jr ra" }, { 0x852e, "c.mv a0, a1" }, { 0x9002, "c.ebreak" }, { 0x4501, "c.li a0, 0" },
    { 0x0808, "c.addi4spn a0, sp, 16" }, { 0xc119, "c.beqz a0, 0x1006" }, { 0xbfdd, "c.j 0xff6" }, { 0x6108, "c.ld a0, 0(a0)" },
    { 0x2501, "c.addiw a0, 0" }, { 0x8d0d, "c.sub a0, a1" }, { 0x9d75, "c.not a0" },
    /* reserved and not ours */
    { 0x0000, ".short 0x0000" }, { 0x8002, ".short 0x8002" }, { 0x6101, ".short 0x6101" }, { 0x2001, ".short 0x2001" },
    { 0xffffffff, ".word 0xffffffff" }, { 0x02c5d553 | 0x5000, ".word 0x02c5d553" }, { 0x57, ".word 0x00000057" },
};

static const struct known known32[] = {
    { 0x2501, "c.jal 0x1600" }, { 0x6108, "c.flw fa0, 0(a0)" }, { 0x03f51513, ".word 0x03f51513" }, { 0xff843583, ".word 0xff843583" },
    { 0x69855513, "rev8 a0, a0" }, { 0x28c5b52f, "amocas.d a0, a2, (a1)" }, { 0x28d5b52f, ".word 0x28d5b52f" },
    { 0x62c58533, "aes32esi a0, a1, a2, 0x1" },
};

static void test_known(void)
{
    for (unsigned n = 0; n < G_N_ELEMENTS(known64); n++)
        check_text(known64[n].raw, 0, known64[n].text);
    for (unsigned n = 0; n < G_N_ELEMENTS(known32); n++)
        check_text(known32[n].raw, MODE_XLEN32, known32[n].text);
}

/* An encoding that a row's literal bits and random others make is that row's, or a more specific one's, or refused. */
static void test_rows(void)
{
    for (unsigned n = 0; n < riscv_row_count; n++) {
        const struct riscv_row *row = &riscv_rows[n];
        unsigned found = 0;

        for (unsigned k = 0; k < 256; k++) {
            uint32_t raw = ((uint32_t)g_test_rand_int() & ~row->mask) | row->value;
            struct insn_info info;

            raw = row->width == 16 ? raw & 0xffff : raw;
            g_assert_cmpuint((raw & 3) == 3 ? 32 : 16, ==, row->width);
            for (unsigned rv32 = 0; rv32 < 2; rv32++) {
                struct riscv_insn i = decoded(raw, 0x1000, rv32 ? MODE_XLEN32 : 0, &info);

                g_assert_cmpuint(info.len, ==, row->width / 8);
                found += i.row == row;
                if (i.row)
                    g_assert_cmphex(raw & i.row->mask, ==, i.row->value);
            }
        }
        if (!found)
            g_test_message("never found: %s", row->mnemonic);
        g_assert_cmpuint(found, >, 0);
        g_assert_nonnull(row->emit);
    }
}

static void test_flow(void)
{
    struct insn_info info;

    decoded(0xff9ff0ef, 0x1000, 0, &info);              /* jal ra */
    g_assert_cmpuint(info.flow, ==, FLOW_CALL);
    g_assert_cmphex(info.target, ==, 0xff8);
    decoded(0x7ff0006f, 0x1000, 0, &info);              /* jal zero */
    g_assert_cmpuint(info.flow, ==, FLOW_JUMP);
    decoded(0x00008067, 0x1000, 0, &info);
    g_assert_cmpuint(info.flow, ==, FLOW_INDIRECT);
    decoded(0xfeb518e3, 0, MODE_XLEN32, &info);         /* bne, back over zero: RV32 addresses wrap */
    g_assert_cmpuint(info.flow, ==, FLOW_COND);
    g_assert_cmphex(info.target, ==, 0xfffffff0);
    decoded(0x18051073, 0x1000, 0, &info);             /* csrrw satp */
    g_assert_cmpuint(info.flow, ==, FLOW_END);
    decoded(0x30551073, 0x1000, 0, &info);             /* mtvec: nothing was translated for it */
    g_assert_cmpuint(info.flow, ==, FLOW_NEXT);
    decoded(0x30002573, 0x1000, 0, &info);             /* a read */
    g_assert_cmpuint(info.flow, ==, FLOW_NEXT);
    decoded(0x00000013, 0x1ffe, 0, &info);
    g_assert_true(info.straddles);
    decoded(0x0001, 0x1ffe, 0, &info);
    g_assert_false(info.straddles);
}

/* What compressed forms imply: the expansion's fields. */
static void test_expansion(void)
{
    struct insn_info info;
    struct riscv_insn i = decoded(0xe406, 0x1000, 0, &info);    /* c.sdsp ra, 8(sp) */

    g_assert_cmpuint(i.rs1, ==, 2);
    g_assert_cmpuint(i.rs2, ==, 1);
    g_assert_cmpint(i.imm, ==, 8);
    i = decoded(0x8d0d, 0x1000, 0, &info);              /* c.sub a0, a1 */
    g_assert_cmpuint(i.rd, ==, 10);
    g_assert_cmpuint(i.rs1, ==, 10);
    g_assert_cmpuint(i.rs2, ==, 11);
    i = decoded(0x9502, 0x1000, 0, &info);              /* c.jalr a0 */
    g_assert_cmpuint(i.rd, ==, 1);
    i = decoded(0x7139, 0x1000, 0, &info);              /* c.addi16sp -64 */
    g_assert_cmpint(i.imm, ==, -64);
    g_assert_cmpuint(i.rd, ==, 2);
}

/* What the CPU model has not is undefined. */
static void test_features(void)
{
    struct riscv_features f = { { UINT64_MAX, UINT64_MAX } };
    struct riscv_insn i = { .raw = 0x60051513 };        /* clz */

    f.bits[RVF_Zbb >> 6] &= ~(UINT64_C(1) << (RVF_Zbb & 63));
    riscv_decode_word(&i, &f, 0);
    g_assert_null(i.row);
    f.bits[RVF_Zbb >> 6] |= UINT64_C(1) << (RVF_Zbb & 63);
    riscv_decode_word(&i, &f, 0);
    g_assert_nonnull(i.row);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/riscv/decode/known", test_known);
    g_test_add_func("/riscv/decode/rows", test_rows);
    g_test_add_func("/riscv/decode/flow", test_flow);
    g_test_add_func("/riscv/decode/expansion", test_expansion);
    g_test_add_func("/riscv/decode/features", test_features);
    return g_test_run();
}
