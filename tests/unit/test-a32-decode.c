/* A32 and T32: what bytes decode to, IT blocks, and that any bytes make a valid region. */
#include <glib.h>
#include <string.h>
#include "guest/arm/a32.h"
#include "rhea/jit/jit.h"

enum { PC = 0x10000 };
static uint8_t page[2 * CPU_PAGE_SIZE];

static bool no_next_page(struct code_fetch *f) { return false; }

static struct code_fetch fetch_at(uint64_t pc)
{
    return (struct code_fetch){ .page = { page, page + CPU_PAGE_SIZE }, .page_va = PC, .first_pc = pc, .next_page = no_next_page };
}

static uint64_t mode_of(bool thumb)
{
    return MODE_AARCH32 | (thumb ? MODE_THUMB : 0) | (uint64_t)16 << MODE_MODE32_SHIFT | ARM_MMU_EL0 << MODE_MMU_SHIFT;
}

static void put32(unsigned at, uint32_t v, bool thumb)
{
    if (thumb)
        v = v >> 16 | v << 16;
    memcpy(page + at, &v, 4);
}

static struct a32_insn decode(uint32_t raw, bool thumb, unsigned bytes, struct insn_info *info)
{
    struct code_fetch f = fetch_at(PC);
    struct a32_insn i;

    put32(0, thumb && bytes == 2 ? raw << 16 : raw, thumb);
    g_assert_true(a32_decode(&f, PC, mode_of(thumb), &i, info));
    g_assert_cmpuint(i.len, ==, bytes);
    g_assert_cmpuint(info->len, ==, bytes);
    return i;
}

static const struct row {
    uint32_t raw;
    uint8_t bytes;                      /* 0: A32 */
    const char *mnemonic;               /* NULL: undefined */
    uint8_t cond, flow;
    uint32_t target;
} rows[] = {
    { 0xe0812003, 0, "add", 14, FLOW_NEXT }, { 0x01a0f00e, 0, "mov", 0, FLOW_NEXT }, { 0xe1a0f00e, 0, "mov", 14, FLOW_INDIRECT },
    { 0xe12fff1e, 0, "bx", 14, FLOW_INDIRECT }, { 0xeafffffe, 0, "b", 14, FLOW_JUMP, PC }, { 0x1a000000, 0, "b", 1, FLOW_COND, PC + 8 },
    { 0xeb000001, 0, "bl", 14, FLOW_CALL, PC + 12 }, { 0xfa000000, 0, "blx", 14, FLOW_END }, { 0xe8bd8010, 0, "ldm", 14, FLOW_INDIRECT },
    { 0xe59ff004, 0, "ldr", 14, FLOW_INDIRECT }, { 0xe5912004, 0, "ldr", 14, FLOW_NEXT }, { 0xef000000, 0, "svc", 14, FLOW_END },
    { 0xf5d0f000, 0, "pld", 14, FLOW_NEXT }, { 0xe7f000f0, 0, "udf", 14, FLOW_END }, { 0xf2000860, 0, "vadd", 14, FLOW_NEXT },
    { 0xee300a81, 0, "vadd", 14, FLOW_NEXT }, { 0xf57ff05f, 0, "dmb", 14, FLOW_NEXT }, { 0xffffffff, 0, NULL, 14, FLOW_END },
    { 0xe12fff10, 0, "bx", 14, FLOW_INDIRECT }, { 0xe7ffffff, 0, "udf", 14, FLOW_END }, { 0xe320f003, 0, "wfi", 14, FLOW_END },
    { 0x1808, 2, "add", 14, FLOW_NEXT }, { 0x4770, 2, "bx", 14, FLOW_INDIRECT }, { 0xbd10, 2, "pop", 14, FLOW_INDIRECT },
    { 0xb100, 2, "cbz", 14, FLOW_COND, PC + 4 }, { 0xb900, 2, "cbz", 14, FLOW_COND, PC + 4 }, { 0xe7fe, 2, "b", 14, FLOW_JUMP, PC },
    { 0xd1fe, 2, "b", 14, FLOW_COND, PC }, { 0xbf08, 2, "it", 14, FLOW_NEXT }, { 0xde00, 2, "udf", 14, FLOW_END },
    { 0xf7ffffff, 4, "bl", 14, FLOW_CALL, PC + 2 }, { 0xf000f800, 4, "bl", 14, FLOW_CALL, PC + 4 }, { 0xf000b800, 4, "b", 14, FLOW_JUMP, PC + 4 },
    { 0xf43faffe, 4, "b", 14, FLOW_COND, PC }, { 0xe8dff000, 4, "tbb", 14, FLOW_INDIRECT },
    { 0xef000860, 4, "vadd", 14, FLOW_NEXT }, { 0xf8dff004, 4, "ldr", 14, FLOW_INDIRECT },
    { 0xfb90f1f2, 4, "sdiv", 14, FLOW_NEXT }, { 0xf3bf8f5f, 4, "dmb", 14, FLOW_NEXT },
};

static void test_rows(void)
{
    for (unsigned n = 0; n < G_N_ELEMENTS(rows); n++) {
        const struct row *r = &rows[n];
        struct insn_info info;
        struct a32_insn i = decode(r->raw, r->bytes, r->bytes ? r->bytes : 4, &info);

        g_test_message("%08x", r->raw);
        g_assert_cmpstr(i.row ? i.row->mnemonic : NULL, ==, r->mnemonic);
        g_assert_cmpuint(i.cond, ==, r->cond);
        g_assert_cmpuint(info.flow, ==, r->flow);
        if (r->target)
            g_assert_cmphex(info.target, ==, r->target);
    }
}

/* ITTE EQ; three ADDs; another: conditions EQ EQ NE AL, and flags are set outside alone. A branch there may fall through. */
static void test_it_block(void)
{
    static const uint16_t code[] = { 0xbf06, 0x1808, 0x1808, 0x1808, 0x1808, 0xbf08, 0xe7fe };
    static const uint8_t cond[] = { 14, 0, 0, 1, 14, 14, 0 };
    struct code_fetch f = fetch_at(PC);

    memcpy(page, code, sizeof(code));
    for (unsigned n = 0; n < G_N_ELEMENTS(code); n++) {
        struct a32_insn i;
        struct insn_info info;

        g_assert_true(a32_decode(&f, PC + 2 * n, mode_of(true), &i, &info));
        g_assert_cmpuint(i.cond, ==, cond[n]);
        if (code[n] == 0x1808)
            g_assert_cmpuint(i.s, ==, n == 4);
        if (code[n] == 0xe7fe)
            g_assert_cmpuint(info.flow, ==, FLOW_COND);
    }
}

/* A region that begins inside an IT block has its state from the mode bits, and ends with the block. */
static void test_it_from_mode(void)
{
    struct code_fetch f = fetch_at(PC);
    struct a32_insn i;
    struct insn_info info;
    uint64_t mode = mode_of(true) | (uint64_t)0x18 << MODE_IT_SHIFT;    /* NE, the last */

    put32(0, 0x18081808, true);
    g_assert_true(a32_decode(&f, PC, mode, &i, &info));
    g_assert_cmpuint(i.cond, ==, 1);
    g_assert_cmpuint(info.flow, ==, FLOW_END);
}

/* CMP R0, R1; B over two NOPs; BGE: what is compared was read in another block. */
static void test_flags_behind_jump(void)
{
    static const uint16_t code[] = { 0x4288, 0xe001, 0xbf00, 0xbf00, 0xda10, 0xbf00 };
    struct code_fetch f = fetch_at(PC);
    struct ir *ir = ir_new();
    struct jit_region_info info;
    g_autofree char *why = NULL;

    memcpy(page, code, sizeof(code));
    g_assert_true(region_build(ir, &guest_arm, &f, PC, mode_of(true), 4, NULL, &info));
    g_assert_cmpuint(info.insns, >=, 3);
    ir_validate(ir, &why);
    g_assert_null(why);
    ir_free(ir);
}

static uint32_t random_word(GRand *rand, bool thumb)
{
    const struct a32_row *r = thumb ? &t32_rows[g_rand_int_range(rand, 0, (int)t32_row_count)]
                                    : &a32_rows[g_rand_int_range(rand, 0, (int)a32_row_count)];
    uint32_t word = g_rand_int(rand), raw = g_rand_int_range(rand, 0, 8) ? (word & ~r->mask) | r->value : word;

    if (!thumb && g_rand_int_range(rand, 0, 4) && raw >> 28 != 15)
        raw = (raw & 0x0fffffff) | 0xe0000000;
    return r->width == 16 ? raw << 16 | (g_rand_int(rand) & 0xffff) : raw;
}

/* Whatever a guest runs becomes a region that keeps the rules of the IR. */
static void test_any_bytes(gconstpointer set)
{
    bool thumb = GPOINTER_TO_INT(set);
    GRand *rand = g_rand_new_with_seed((guint32)g_test_rand_int());
    struct ir *ir = ir_new();
    struct ir_analysis *an = ir_analysis_new();

    for (unsigned round = 0; round < 3000; round++) {
        uint64_t mode = mode_of(thumb);
        struct code_fetch f = fetch_at(PC);
        struct jit_region_info info;
        g_autofree char *why = NULL;

        for (unsigned at = 0; at < 64; at += 4)
            put32(at, random_word(rand, thumb), thumb);
        if (round & 1)
            mode |= MODE_PRIV32 | 1 << MODE_EL_SHIFT;
        if (round % 7 == 0)
            mode |= MODE_BE;
        if (thumb && round % 5 == 0)
            mode |= (uint64_t)(g_rand_int(rand) & 0xff) << MODE_IT_SHIFT;
        if (!region_build(ir, &guest_arm, &f, PC, mode, 12, NULL, &info))
            continue;
        if (!ir_validate(ir, &why)) {
            g_autofree char *text = ir_print(ir);

            g_printerr("%s\n", text);
            g_error("%s: word %08x in round %u", why, *(uint32_t *)page, round);
        }
        ir_optimize(ir, an);
        if (!ir_validate(ir, &why))
            g_error("optimized: %s: word %08x in round %u", why, *(uint32_t *)page, round);
    }
    ir_analysis_free(an);
    ir_free(ir);
    g_rand_free(rand);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/a32/rows", test_rows);
    g_test_add_func("/a32/it-block", test_it_block);
    g_test_add_func("/a32/it-from-mode-bits", test_it_from_mode);
    g_test_add_func("/t32/flags-behind-jump", test_flags_behind_jump);
    g_test_add_data_func("/a32/any-bytes-are-a-valid-region", GINT_TO_POINTER(false), test_any_bytes);
    g_test_add_data_func("/t32/any-bytes-are-a-valid-region", GINT_TO_POINTER(true), test_any_bytes);
    return g_test_run();
}
