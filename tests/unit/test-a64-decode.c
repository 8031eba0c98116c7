/* A64 integer instructions: words (as GNU as makes them) against their rows and fields; branch targets; undefined encodings;
 * and that flags mean the same whether a condition stands in the block of the instruction that set them or in another. */
#include <glib.h>
#include <setjmp.h>
#include <string.h>
#include "../../src/guest/arm/a64.h"
#include "rhea/interp/interp.h"

static bool no_next_page(struct code_fetch *f) { return false; }

static _Alignas(4096) uint8_t page[4096];
enum { PAGE_VA = 0x400000 };

static struct code_fetch fetch(void)
{
    return (struct code_fetch){ .page = { page, NULL }, .page_va = PAGE_VA, .first_pc = PAGE_VA, .next_page = no_next_page };
}

static void decode(uint32_t word, uint64_t pc, struct a64_insn *i, struct insn_info *info)
{
    struct code_fetch f = fetch();

    memcpy(page + (pc & 0xffc), &word, 4);
    memset(i, 0xee, sizeof(*i));
    i->features = NULL;
    g_assert_true(arm_decode(&f, pc, 0, i, info));
    g_assert_cmpuint(info->len, ==, 4);
}

/* Fields by name, in the order of the row's operands text: "rd=1 rn=2". */
static const struct { uint32_t word; const char *mnemonic, *fields; } words[] = {
#include "a64-words.h"
};

static void check_fields(const struct a64_insn *i, const char *fields)
{
    g_auto(GStrv) parts = g_strsplit(fields, " ", -1);

    for (unsigned n = 0; parts[n]; n++) {
        char *value = strchr(parts[n], '=');
        const struct bits_field *f = a64_field_table;

        *value++ = 0;
        while (f->name && strcmp(f->name, parts[n]))
            f++;
        g_assert_nonnull(f->name);
        g_assert_cmpint(bits_field_value(i, f), ==, g_ascii_strtoll(value, NULL, 0));
    }
}

static void test_words(void)
{
    for (unsigned n = 0; n < G_N_ELEMENTS(words); n++) {
        struct a64_insn i;
        struct insn_info info;

        decode(words[n].word, PAGE_VA, &i, &info);
        g_assert_nonnull(i.row);
        if (strcmp(i.row->mnemonic, words[n].mnemonic))
            g_test_message("%#x", words[n].word);
        g_assert_cmpstr(i.row->mnemonic, ==, words[n].mnemonic);
        check_fields(&i, words[n].fields);
    }
}

static void test_targets(void)
{
    static const struct { uint32_t word; enum insn_flow flow; int64_t to; } at[] = {
        { 0x16000000, FLOW_JUMP, -0x8000000 }, { 0x95ffffff, FLOW_CALL, 0x7fffffc }, { 0x35800018, FLOW_COND, -0x100000 },
        { 0xb6fbfff9, FLOW_COND, 0x7ffc }, { 0x547fffed, FLOW_COND, 0xffffc },
    };

    for (unsigned n = 0; n < G_N_ELEMENTS(at); n++) {
        struct a64_insn i;
        struct insn_info info;

        decode(at[n].word, PAGE_VA + 8, &i, &info);
        g_assert_cmpint(info.flow, ==, at[n].flow);
        g_assert_cmphex(info.target, ==, PAGE_VA + 8 + (uint64_t)at[n].to);
    }
}

static void test_undefined(void)
{
    static const uint32_t at[] = {
        0x00000000, 0xffffffff, 0x12407c00 /* and wd, wn with N */, 0x0b201400 /* extended, shifted by 5 */, 0x0bc00000 /* add, ror */,
        0x0b008000 /* add wd, lsl 32 */, 0x52c00000 /* movz wd, lsl 32 */, 0xb2800000 /* move wide, opc 01 */, 0x1ac04c00 /* crc32x wd */,
        0xb3000000 /* bfm xd without N */, 0x9b40fc00 /* smulh with o0 */, 0x69000000 /* stgp */, 0x08217c00 /* casp of an odd register */,
        0xf8600800 /* ldr, option 0 */, 0xb9c00000 /* ldr word signed to 32 bits */,
    };

    for (unsigned n = 0; n < G_N_ELEMENTS(at); n++) {
        struct a64_insn i;
        struct insn_info info;

        decode(at[n], PAGE_VA, &i, &info);
        if (i.row)
            g_test_message("%#x is %s", at[n], i.row->mnemonic);
        g_assert_null(i.row);
        g_assert_cmpint(info.flow, ==, FLOW_END);
    }
}

/* ---- flags */

static struct arm_cpu *cpu;
static struct ir *ir;

/* Runs n words at PAGE_VA in regions of at most `max` instructions. */
static void run(const uint32_t *code, unsigned n, unsigned max)
{
    uint64_t end = PAGE_VA + 4 * n;

    memcpy(page, code, 4 * n);
    cpu->cpu.pc = PAGE_VA;
    while (cpu->cpu.pc < end) {
        struct code_fetch f = fetch();
        struct a64_insn i;
        struct insn_info info;
        unsigned left = (unsigned)(end - cpu->cpu.pc) / 4;
        char *why = NULL;

        ir_begin(ir, &guest_aarch64, cpu->cpu.pc, 0);
        arm_emit_begin(ir);
        for (uint64_t pc = cpu->cpu.pc, k = 0; k < MIN(left, max) && !ir->ended; k++, pc += 4) {
            g_assert_true(arm_decode(&f, pc, 0, &i, &info));
            ir_insn_start(ir, pc, 4);
            arm_emit(ir, &i);
        }
        ir_finish(ir);
        arm_emit_end(ir);
        if (!ir_validate(ir, &why))
            g_error("%s\n%s", why, ir_print(ir));
        cpu->cpu.pc_page = cpu->cpu.pc & ~(uint64_t)0xfff;
        interp_run(&cpu->cpu, ir);
    }
}

enum { CSET_X9 = 0x9a9f07e9 };          /* cset x9, <cond>: inverted in bits 15:12 */

static void test_conditions(void)
{
    static const uint32_t setters[] = {
        0xeb02003f /* cmp x1, x2 */, 0x6b02003f /* cmp w1, w2 */, 0xab02003f /* cmn x1, x2 */, 0x2b02003f /* cmn w1, w2 */,
        0xea02003f /* tst x1, x2 */, 0x6a02003f /* tst w1, w2 */, 0xba020023 /* adcs x3, x1, x2 */, 0x3a020023 /* adcs w3, w1, w2 */,
        0xfa020023 /* sbcs x3, x1, x2 */, 0x7a020023 /* sbcs w3, w1, w2 */, 0xb100043f /* cmn x1, #1 */, 0x3100003f /* cmn w1, #0 */,
        0xf100043f /* cmp x1, #1 */, 0xd51b4201 /* msr nzcv, x1 */, 0x3a00082d, 0x3a00482d /* setf8, setf16 w1 */,
    };
    static const uint64_t values[] = { 0, 1, 2, UINT64_MAX, INT64_MAX, (uint64_t)INT64_MIN, INT32_MAX, 0x80000000, UINT32_MAX,
                                       UINT64_C(0x100000000), UINT64_C(0xffffffff00000000), UINT64_C(0xa5a5000000005a5a) };

    for (unsigned s = 0; s < G_N_ELEMENTS(setters); s++)
        for (unsigned v = 0; v < G_N_ELEMENTS(values) * G_N_ELEMENTS(values); v++)
            for (unsigned cond = 0; cond < 14; cond++)
                for (unsigned carry = 0; carry < 2; carry++) {
                    uint32_t code[2] = { setters[s], CSET_X9 | (cond ^ 1) << 12 };
                    uint64_t whole;

                    cpu->x[1] = values[v % G_N_ELEMENTS(values)];
                    cpu->x[2] = values[v / G_N_ELEMENTS(values)];
                    arm_pstate_set_nzcv(cpu, carry << 29);
                    run(code, 2, 2);
                    whole = cpu->x[9];
                    arm_pstate_set_nzcv(cpu, carry << 29);
                    run(code, 2, 1);    /* by arm_cc_nzcv() */
                    g_assert_cmpuint(cpu->x[9], ==, whole);
                }
}

/* cmp x1, x2; ccmp x3, x4, #nzcv, cond; cset: against the rule, read from arm_cc_nzcv(). */
static void test_conditional_compare(void)
{
    for (unsigned nzcv = 0; nzcv < 16; nzcv++)
        for (unsigned kind = 0; kind < 4; kind++)               /* CCMN, CCMP of words and doublewords */
            for (unsigned cond = 0; cond < 14; cond++)
                for (unsigned holds = 0; holds < 2; holds++) {
                    uint32_t sf = kind & 1, sub = kind >> 1;
                    uint32_t code[3] = { 0xeb02003f, 0x3a440060 | sf << 31 | sub << 30 | 0 << 12 | nzcv, CSET_X9 | (cond ^ 1) << 12 };
                    uint32_t flags;
                    bool expect;

                    cpu->x[1] = 5;
                    cpu->x[2] = holds ? 5 : 6;
                    cpu->x[3] = UINT64_C(0x8000000080000000);
                    cpu->x[4] = 1;
                    flags = holds ? arm_cc_nzcv(sub ? sf ? CC_SUB64 : CC_SUB32 : sf ? CC_ADD64 : CC_ADD32, cpu->x[3], 1) : nzcv << 28;
                    arm_pstate_set_nzcv(cpu, flags);
                    run(&code[2], 1, 1);
                    expect = cpu->x[9];
                    run(code, 3, 3);
                    g_assert_cmpuint(cpu->x[9], ==, expect);
                    g_assert_cmphex(arm_pstate_nzcv(cpu), ==, flags);
                }
}

/* The block cipher's published test vector (Avanzi 2017, QARMA5-64 with sigma 2). */
static void test_qarma(void)
{
    g_assert_cmphex(arm_qarma5(UINT64_C(0xfb623599da6e8127), UINT64_C(0x477d469dec0b8762), UINT64_C(0x84be85ce9804e94b),
                               UINT64_C(0xec2802d4e0a488e9)), ==, UINT64_C(0xc003b93999b33765));
}

static void pauth_setup(struct arm_cpu *c, uint64_t tcr, bool pauth2)
{
    memset(&c->features, 0, sizeof(c->features));
    c->features.bits[AF_PAuth >> 6] |= UINT64_C(1) << (AF_PAuth & 63);
    if (pauth2)
        c->features.bits[AF_PAuth2 >> 6] |= UINT64_C(1) << (AF_PAuth2 & 63);
    c->sys.tcr[1] = tcr;
    for (unsigned n = 0; n < 5; n++) {
        c->sys.key[n][0] = 0x1111 * (n + 1);
        c->sys.key[n][1] = 0x2222 * (n + 7);
    }
}

/* What is signed authenticates, and only with the same modifier and key; stripping gives the pointer back. */
static void test_pauth(void)
{
    static const uint64_t pointers[] = { UINT64_C(0x0000002abbbbcccc), UINT64_C(0xffffffd012345678) };

    for (unsigned how = 0; how < 4; how++)
        for (unsigned n = 0; n < G_N_ELEMENTS(pointers); n++)
            for (unsigned key = 0; key < 4; key++) {
                uint64_t p = pointers[n], s;

                pauth_setup(cpu, UINT64_C(25) | 25 << 16 | (how & 1 ? UINT64_C(3) << 37 : 0), how & 2);
                s = arm_helper_pac(&cpu->cpu, p, 77, key);
                g_assert_cmphex(s, !=, p);
                g_assert_cmphex(arm_helper_xpac(&cpu->cpu, s, key >= 2), ==, p);
                g_assert_cmphex(arm_helper_aut(&cpu->cpu, s, 77, key), ==, p);
                g_assert_cmphex(arm_helper_aut(&cpu->cpu, s, 78, key), !=, p);
                g_assert_cmphex(arm_helper_aut(&cpu->cpu, s, 77, key ^ 1), !=, p);
                if (how & 1)            /* the top byte is the program's */
                    g_assert_cmphex(arm_helper_pac(&cpu->cpu, p ^ UINT64_C(0x5a) << 56, 77, key) >> 56, ==, (p >> 56) ^ 0x5a);
            }
    memset(&cpu->features, 0xff, sizeof(cpu->features));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    cpu = g_malloc0(sizeof(*cpu));
    cpu->cpu.guest = &guest_aarch64;
    ir = ir_new();
    g_test_add_func("/a64/words", test_words);
    g_test_add_func("/a64/targets", test_targets);
    g_test_add_func("/a64/undefined", test_undefined);
    g_test_add_func("/a64/conditions", test_conditions);
    g_test_add_func("/a64/conditional-compare", test_conditional_compare);
    g_test_add_func("/a64/qarma", test_qarma);
    g_test_add_func("/a64/pauth", test_pauth);
    return g_test_run();
}
