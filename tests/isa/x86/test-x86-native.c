/* Every user-level row of isa/x86*.isa with random operands: natively, by the interpreter (as written, and after the
 * passes), and by the host code made of it. All state must be equal
 * afterwards: registers, flags but those the row calls undefined, vectors, x87, MXCSR, memory, and the exception raised.
 *   ROW=paddb  only rows whose mnemonic begins so     CASES=1000  a row     RHEA_TEST_SEED=1  elsewhere   VERBOSE=1 */
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include "harness.h"

static char *describe(const struct x86_insn *i, bool code32)
{
    g_autofree char *text = guest_x86_64.disassemble ? guest_x86_64.disassemble(native_code + 64, i->len, i->pc, test_mode(code32)) : NULL;
    GString *s = g_string_new(NULL);

    for (unsigned n = 0; n < i->len; n++)
        g_string_append_printf(s, "%02x ", native_code[64 + n]);
    g_string_append_printf(s, "%s", text ? text : i->row->mnemonic);
    return g_string_free(s, FALSE);
}

/* 16-bit double shifts by more than 16 (SDM vol. 2, SHLD). */
static bool undefined_result(const struct x86_insn *i, const struct x86_image *was)
{
    uint64_t count = i->op[2].kind == XO_IMM ? (uint64_t)i->imm : was->regs[R_RCX];

    return i->map == 1 && (i->opcode & 0xf6) == 0xa4 && i->opsize == 2 && (count & 31) > 16;
}

/* BT of a bit string may read as much around the bit as it likes (the processor a byte, Rhea the operand size). ENTER
 * touches the new top of the stack, where this process may have something. */
static bool reads_elsewhere(const struct x86_row *row)
{
    return g_str_has_prefix(row->mnemonic, "bt") || !strcmp(row->mnemonic, "enter");
}

/* One case; false: it could not be made. */
static bool run_case(GRand *rnd, bool code32, const struct x86_row *row, bool *failed)
{
    static uint8_t before[NATIVE_DATA_SIZE], after[NATIVE_DATA_SIZE];
    struct x86_insn insn;
    struct x86_image was, host, ours;

    if (!generate(rnd, code32, row, &insn, &was))
        return false;
    memcpy(before, native_data, NATIVE_DATA_SIZE);
    host = was;
    native_run(insn.len, code32, &host);
    memcpy(after, native_data, NATIVE_DATA_SIZE);
    if (undefined_result(&insn, &was))
        return true;
    if (host.fx[FX_MXCSR + 2])  /* AMD's MXCSR.MM, which no model of ours has */
        return true;
    for (enum way how = WRITTEN; how < WAYS && !*failed; how++) {
        g_autofree char *why = NULL, *text = NULL;
        GString *s;

        memcpy(native_data, before, NATIVE_DATA_SIZE);
        ours = was;
        why = harness_run(&insn.pc, 1, code32, &ours, how);
        if (!why && host.trap < 0 && ours.trap == X_PF && reads_elsewhere(row))
            break;
        s = why ? g_string_new(why) : harness_compare(insn.pc, code32, row->undefined_flags, &was, &host, &ours, before, after);
        if (!s)
            continue;
        text = describe(&insn, code32);
        g_test_message("%s (%s)\n%s", text, way_name[how], s->str);
        if (g_getenv("VERBOSE")) {
            g_autofree char *dump = harness_dump(how);

            g_test_message("%s", dump);
        }
        g_string_free(s, TRUE);
        *failed = true;
    }
    return true;
}

enum group { INTEGER, X87, VECTOR, CODE32 = 4 };

static enum group group_of(const struct x86_row *row)
{
    if (!row->vex && !row->map && row->opcode >= 0xd8 && row->opcode <= 0xdf)
        return X87;
    for (unsigned n = 0; n < 4; n++)
        switch (row->operands[n].am) {
        case AM_V: case AM_W: case AM_U: case AM_H: case AM_L: case AM_P: case AM_Q: case AM_N: return VECTOR;
        default: break;
        }
    return row->map == 1 && (row->opcode == 0x77 || (row->opcode == 0xae && (row->ext == 2 || row->ext == 3))) ? VECTOR
                                                                                                              : INTEGER;
}

static void test_rows(gconstpointer data)
{
    unsigned what = GPOINTER_TO_UINT(data);
    bool code32 = what & CODE32;
    const char *only = g_getenv("ROW"), *seed = g_getenv("RHEA_TEST_SEED"), *cases = g_getenv("CASES");
    unsigned per_row = cases ? (unsigned)atoi(cases) : g_getenv("SOAK") ? 5000 : 100, bad = 0, rows = 0, total = 0;
    g_autoptr(GRand) rnd = g_rand_new_with_seed(seed ? (guint32)strtoul(seed, NULL, 0) : 42);

    for (unsigned n = 0; n < x86_row_count; n++) {
        const struct x86_row *row = &x86_rows[n];
        bool failed = false;
        unsigned done = 0;

        if ((only && !g_str_has_prefix(row->mnemonic, only)) || group_of(row) != (what & 3) ||
            !generate_can(row, code32))
            continue;
        rows++;
        for (unsigned tries = 0; done < per_row && tries < 20 * per_row && !failed; tries++)
            done += run_case(rnd, code32, row, &failed);
        if (!done) {
            g_test_message("%s (map %u opcode %02x): no case could be made", row->mnemonic, row->map, row->opcode);
            failed = true;
        }
        total += done;
        bad += failed;
    }
    g_test_message("%u cases of %u rows, %u rows differ", total, rows, bad);
    g_assert_cmpuint(bad, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    harness_init();
    g_test_add_data_func("/isa/x86/native/integer", GINT_TO_POINTER(INTEGER), test_rows);
    g_test_add_data_func("/isa/x86/native/x87", GINT_TO_POINTER(X87), test_rows);
    g_test_add_data_func("/isa/x86/native/vector", GINT_TO_POINTER(VECTOR), test_rows);
    g_test_add_data_func("/isa/x86/native32/integer", GINT_TO_POINTER(CODE32 | INTEGER), test_rows);
    g_test_add_data_func("/isa/x86/native32/x87", GINT_TO_POINTER(CODE32 | X87), test_rows);
    g_test_add_data_func("/isa/x86/native32/vector", GINT_TO_POINTER(CODE32 | VECTOR), test_rows);
    return g_test_run();
}
