/* Random streams of user-level instructions as one region, with jumps forward and loops: natively, and by Rhea in each
 * of its ways. What single instructions can't show: values kept from one to the next and across blocks, flags, sunk
 * stores, precise state where the stream faults.
 *   CASES=100000   RHEA_TEST_SEED=1   VERBOSE=1 */
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include "harness.h"

enum { MAX_INSNS = 28, CODE_START = 64 };

struct stream {
    unsigned n;
    struct x86_insn insn[MAX_INSNS];
    uint64_t pc[MAX_INSNS];
    uint8_t code[1024];                 /* the code page from CODE_START on */
};

static const struct x86_row **rows[2];  /* of 64-bit and 32-bit code: vectors first, then the others */
static unsigned nrows[2], nvectors[2];

static bool is_vector(const struct x86_row *row)
{
    for (unsigned n = 0; n < 4; n++)
        if (row->operands[n].am == AM_V || row->operands[n].am == AM_W || row->operands[n].am == AM_U)
            return true;
    return false;
}

static void find_rows(bool code32)
{
    rows[code32] = g_new0(const struct x86_row *, x86_row_count);
    for (unsigned vectors = 2; vectors-- > 0;) {
        for (unsigned n = 0; n < x86_row_count; n++)
            if (is_vector(&x86_rows[n]) == vectors && generate_can(&x86_rows[n], code32) && generate_fits_stream(&x86_rows[n]))
                rows[code32][nrows[code32]++] = &x86_rows[n];
        if (vectors)
            nvectors[code32] = nrows[code32];
    }
}

static bool is_x87(const struct x86_insn *i) { return !i->vex && !i->map && i->opcode >= 0xd8 && i->opcode <= 0xdf; }

/* kind: how many of ten instructions are vector ones. */
static void stream_make(GRand *rnd, bool code32, int kind, struct stream *s, struct x86_image *img)
{
    unsigned want = (unsigned)g_rand_int_range(rnd, 2, MAX_INSNS - 1), offset = CODE_START;
    unsigned skip = 0, skip_to = 0;     /* a jump to be made, when the instruction it goes to is known */
    bool x87 = false, loop = g_rand_int_range(rnd, 0, 3) == 0;

    for (s->n = 0; s->n < want;) {
        if (skip && s->n >= skip_to) {
            generate_skip(code32, (unsigned)g_rand_int_range(rnd, 0, 16), (unsigned)(s->pc[skip] - s->pc[0]) + CODE_START,
                          offset, &s->insn[skip]);
            skip = 0;
        }
        if (!skip && s->n && s->n + 2 < want && g_rand_int_range(rnd, 0, 6) == 0) {
            skip = s->n;
            skip_to = s->n + (unsigned)g_rand_int_range(rnd, 2, 4);
            generate_skip(code32, 0, offset, offset + SKIP_BYTES, &s->insn[s->n]);      /* for now to the next one */
            s->pc[s->n] = s->insn[s->n].pc;
            offset += s->insn[s->n++].len;
            continue;
        }
        bool vector = g_rand_int_range(rnd, 0, 10) < kind;
        unsigned from = vector ? 0 : nvectors[code32], to = vector ? nvectors[code32] : nrows[code32];
        const struct x86_row *row = rows[code32][g_rand_int_range(rnd, (gint32)from, (gint32)to)];

        if (!generate_next(rnd, code32, row, offset, &s->insn[s->n]))
            continue;
        x87 |= is_x87(&s->insn[s->n]);
        s->pc[s->n] = s->insn[s->n].pc;
        offset += s->insn[s->n++].len;
    }
    if (loop) {
        generate_loop_end(code32, offset, CODE_START, &s->insn[s->n]);
        for (unsigned k = 0; k < 2; k++, s->n++)
            s->pc[s->n] = s->insn[s->n].pc;
    }
    memcpy(s->code, native_code + CODE_START, sizeof(s->code));
    generate_state(rnd, code32, x87, img);
}

static unsigned stream_size(const struct stream *s, unsigned n)
{
    return (unsigned)(s->pc[n - 1] + s->insn[n - 1].len - s->pc[0]);
}

/* Whether the first n instructions are a program: no jump goes further. */
static bool stream_closed(const struct stream *s, unsigned n)
{
    uint64_t end = s->pc[n - 1] + s->insn[n - 1].len;

    for (unsigned k = 0; k < n; k++)
        if (s->insn[k].row->flow == FLOW_COND && s->insn[k].pc + s->insn[k].len + (uint64_t)s->insn[k].imm > end)
            return false;
    return true;
}

/* The first n instructions; the differences, or NULL. */
static GString *stream_run(const struct stream *s, unsigned n, bool code32, const struct x86_image *was,
                           const uint8_t *before, enum way how)
{
    static uint8_t after[NATIVE_DATA_SIZE];
    struct x86_image host = *was, ours = *was;
    g_autofree char *why = NULL;

    memcpy(native_data, before, NATIVE_DATA_SIZE);
    memcpy(native_code + CODE_START, s->code, sizeof(s->code));
    native_run(stream_size(s, n), code32, &host);
    memcpy(after, native_data, NATIVE_DATA_SIZE);
    memcpy(native_data, before, NATIVE_DATA_SIZE);
    why = harness_run(s->pc, n, code32, &ours, how);
    return why ? g_string_new(why) : harness_compare(s->pc[0], code32, 0, was, &host, &ours, before, after);
}

static void report(const struct stream *s, unsigned n, bool code32, enum way how, const char *what)
{
    GString *text = g_string_new(NULL);

    for (unsigned k = 0; k < n; k++) {
        const uint8_t *code = s->code + (s->pc[k] - s->pc[0]);
        g_autofree char *line = guest_x86_64.disassemble(code, s->insn[k].len, s->pc[k], test_mode(code32));

        g_string_append_printf(text, "  +%-3u %s\n", (unsigned)(s->pc[k] - s->pc[0]), line ? line : s->insn[k].row->mnemonic);
    }
    g_test_message("%s:\n%s%s", way_name[how], text->str, what);
    g_string_free(text, TRUE);
}

/* A failure is shown for the shortest beginning of the stream that has it. */
static bool stream_check(GRand *rnd, bool code32, int kind)
{
    static uint8_t before[NATIVE_DATA_SIZE];
    struct stream s;
    struct x86_image was;

    stream_make(rnd, code32, kind, &s, &was);
    memcpy(before, native_data, NATIVE_DATA_SIZE);
    for (enum way how = WRITTEN; how < WAYS; how++) {
        GString *diff = stream_run(&s, s.n, code32, &was, before, how);

        if (!diff)
            continue;
        for (unsigned n = 1; n <= s.n; n++) {
            GString *shorter = stream_closed(&s, n) ? stream_run(&s, n, code32, &was, before, how) : NULL;

            if (!shorter)
                continue;
            report(&s, n, code32, how, shorter->str);
            if (g_getenv("VERBOSE")) {
                g_autofree char *dump = harness_dump(how);

                g_test_message("%s", dump);
            }
            g_string_free(shorter, TRUE);
            break;
        }
        g_string_free(diff, TRUE);
        return false;
    }
    return true;
}

static void test_streams(gconstpointer data)
{
    unsigned what = GPOINTER_TO_UINT(data), count = 3000, bad = 0;
    const char *seed = g_getenv("RHEA_TEST_SEED"), *cases = g_getenv("CASES");
    g_autoptr(GRand) rnd = g_rand_new_with_seed(seed ? (guint32)strtoul(seed, NULL, 0) : 7);

    if (cases || g_getenv("SOAK"))
        count = cases ? (unsigned)atoi(cases) : 300000;
    for (unsigned n = 0; n < count && bad < 5; n++)
        bad += !stream_check(rnd, what & 16, (int)(what & 15));
    g_assert_cmpuint(bad, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    harness_init();
    find_rows(false);
    find_rows(true);
    g_test_add_data_func("/isa/x86/stream/vector", GINT_TO_POINTER(9), test_streams);
    g_test_add_data_func("/isa/x86/stream/mixed", GINT_TO_POINTER(5), test_streams);
    g_test_add_data_func("/isa/x86/stream/integer", GINT_TO_POINTER(0), test_streams);
    g_test_add_data_func("/isa/x86/stream32/mixed", GINT_TO_POINTER(16 + 5), test_streams);
    g_test_add_data_func("/isa/x86/stream32/integer", GINT_TO_POINTER(16), test_streams);
    return g_test_run();
}
