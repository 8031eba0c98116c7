/* See rows.h. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "oracle.h"
#include "rows.h"

static const struct rows_arch *arch;
static struct case_request cases[CASE_MAX];
static struct case_state results[CASE_MAX];
static unsigned case_row[CASE_MAX], ncases;     /* of the batch: which row each is of */
static uint8_t *row_bad;                        /* by row: differs somewhere; it is told once */
static unsigned *row_done, *row_reached;        /* by row: cases; of them those that both ran to the trap behind */
static unsigned total;

/* ---- comparison */

static void differ(GString *s, const char *name, const void *was, const void *oracle, const void *ours, unsigned bytes)
{
    const uint8_t *p[3] = { was, oracle, ours };
    static const char *const label[3] = { "was   ", "oracle", "ours  " };

    for (unsigned k = 0; k < 3; k++) {
        g_string_append_printf(s, "  %-6s %s ", name, label[k]);
        for (unsigned b = bytes; b-- > 0;)
            g_string_append_printf(s, "%02x%s", p[k][b], b % 8 ? "" : " ");
        g_string_append_c(s, '\n');
    }
}

static void show(GString *s, const struct case_state *was)
{
    if (!g_getenv("VERBOSE"))
        return;
    for (unsigned n = 0; arch->reg_name[n]; n++)
        g_string_append_printf(s, "  %s=%" PRIx64, arch->reg_name[n], was->r[n]);
    g_string_append_printf(s, "\n  flags=%x fpcr=%x fpsr=%x\n", was->flags, was->fpcr, was->fpsr);
    for (unsigned n = 0; n < 32; n++)
        g_string_append_printf(s, "  v%u=%016" PRIx64 "%016" PRIx64 "%s", n, was->v[n][1], was->v[n][0], n % 4 == 3 ? "\n" : "");
}

/* NULL: alike. */
static GString *compare(const struct case_state *was, const struct case_state *oracle, const struct case_state *ours)
{
    GString *s = g_string_new(NULL);

    if (oracle->signal != ours->signal)
        g_string_append_printf(s, "  signal oracle %d at %#" PRIx64 " ours %d at %#" PRIx64 "\n", oracle->signal,
                               oracle->address, ours->signal, ours->address);
    if (oracle->signal == ours->signal && oracle->address != ours->address)
        g_string_append_printf(s, "  fault address oracle %#" PRIx64 " ours %#" PRIx64 "\n", oracle->address, ours->address);
    if (oracle->pc != ours->pc)
        g_string_append_printf(s, "  pc oracle %#" PRIx64 " ours %#" PRIx64 "\n", oracle->pc, ours->pc);
    for (unsigned n = 0; arch->reg_name[n]; n++)
        if (oracle->r[n] != ours->r[n])
            differ(s, arch->reg_name[n], &was->r[n], &oracle->r[n], &ours->r[n], 8);
    for (unsigned n = 0; n < 32; n++) {
        g_autofree char *name = g_strdup_printf("v%u", n);

        if (memcmp(oracle->v[n], ours->v[n], 16))
            differ(s, name, was->v[n], oracle->v[n], ours->v[n], 16);
    }
    if (oracle->flags != ours->flags)
        differ(s, "flags", &was->flags, &oracle->flags, &ours->flags, 4);
    if (oracle->fpcr != ours->fpcr)
        differ(s, "fpcr", &was->fpcr, &oracle->fpcr, &ours->fpcr, 4);
    if (oracle->fpsr != ours->fpsr)
        differ(s, "fpsr", &was->fpsr, &oracle->fpsr, &ours->fpsr, 4);
    for (unsigned n = 0; n < WINDOW_BYTES; n += 16) {
        g_autofree char *name = g_strdup_printf("mem+%x", WINDOW_OFFSET + n);

        if (memcmp(oracle->window + n, ours->window + n, 16))
            differ(s, name, was->window + n, oracle->window + n, ours->window + n, 16);
    }
    if (oracle->stray != ours->stray)
        g_string_append_printf(s, "  changed outside the window: oracle %#x ours %#x\n", oracle->stray, ours->stray);
    if (!s->len) {
        g_string_free(s, TRUE);
        return NULL;
    }
    return s;
}

/* An instruction that faults may have done a part of its work (registers and memory are UNKNOWN then); ours has not touched
 * registers. */
static void allow_partial(const struct case_state *was, struct case_state *oracle, struct case_state *ours)
{
    memcpy(oracle->r, was->r, sizeof(was->r));
    memcpy(oracle->v, was->v, sizeof(was->v));
    memcpy(oracle->window, ours->window, sizeof(was->window));
    oracle->stray = ours->stray;
}

/* One way of one case; true: it differs, and was told. */
static bool run_way(unsigned n, enum way how)
{
    struct case_state oracle = results[n], ours;
    g_autofree char *why = machine_run(&cases[n], n, how, &ours), *text = NULL;
    GString *s;

    if (!why && !arch->allow(&cases[n], &oracle, &ours))
        return false;
    row_reached[case_row[n]] += !why && !oracle.signal && how == WRITTEN;
    if (!why && oracle.signal && oracle.signal == ours.signal && oracle.pc == cases[n].state.pc)
        allow_partial(&cases[n].state, &oracle, &ours);
    s = why ? g_string_new(why) : compare(&cases[n].state, &oracle, &ours);
    if (!s)
        return false;
    text = arch->describe(&cases[n], n);
    show(s, &cases[n].state);
    g_test_message("%s(%s)\n%s", text, way_name[how], s->str);
    g_string_free(s, TRUE);
    if (g_getenv("VERBOSE")) {
        g_autofree char *dump = machine_dump(how);

        g_test_message("%s", dump);
    }
    return true;
}

static void tell_death(unsigned n)
{
    g_autofree char *text = results[n].signal == CASE_DIED ? arch->describe(&cases[n], n) : NULL;

    if (text)
        g_test_message("the oracle does not survive\n%s", text);
}

static void run_batch(void)
{
    if (ncases)
        oracle_run(cases, results, 0, ncases);
    for (unsigned n = 0; n < ncases; n++)
        tell_death(n);
    for (unsigned n = 0; n < ncases; n++)
        for (enum way how = WRITTEN; how < WAYS && !row_bad[case_row[n]] && results[n].signal >= 0; how++)
            row_bad[case_row[n]] = run_way(n, how);
    total += ncases;
    ncases = 0;
}

/* A case being made, filled with traps. */
static struct case_request *next_case(void)
{
    struct case_request *c = &cases[ncases];

    memset(&c->state, 0, sizeof(c->state));
    for (unsigned w = 0; w < CASE_WORDS; w++)
        c->code[w] = arch->trap;
    c->state.pc = case_place(&arch->machine, ncases) + CASE_START;
    random_bytes(c->state.window, WINDOW_BYTES);
    return c;
}

static void add_case(unsigned row)
{
    case_row[ncases++] = row;
    if (ncases == CASE_MAX)
        run_batch();
}

/* ---- the tests */

const char *left_out_why(const struct left_out *table, unsigned n, const char *mnemonic)
{
    for (unsigned k = 0; k < n; k++) {
        if (!g_str_has_prefix(mnemonic, table[k].mnemonic))
            continue;
        while (k && !*table[k].why)
            k--;
        return table[k].why;
    }
    return NULL;
}

static void begin(void)
{
    const char *seed = g_getenv("RHEA_TEST_SEED");

    dice = g_rand_new_with_seed(seed ? (guint32)strtoul(seed, NULL, 0) : 42);
    row_bad = g_malloc0(arch->nrows + 1);
    row_done = g_malloc0_n(arch->nrows + 1, sizeof(*row_done));
    row_reached = g_malloc0_n(arch->nrows + 1, sizeof(*row_reached));
    total = ncases = 0;
}

/* A row of which no case ran to its end was not tested, unless it is one that only raises. */
static bool tell_unreached(const struct any_row *row)
{
    if (arch->only_raises && arch->only_raises(row))
        return false;
    g_test_message("%s %s: no case ran to its end", row->mnemonic, row->pattern);
    return true;
}

static void end(const char *what, unsigned rows)
{
    unsigned bad = 0;

    run_batch();
    for (unsigned n = 0; n < arch->nrows; n++)
        row_bad[n] |= row_done[n] && !row_reached[n] && tell_unreached(&arch->rows[n]);
    for (unsigned n = 0; n < arch->nrows + 1; n++)
        bad += row_bad[n];
    g_test_message("%u cases of %u %s, %u differ", total, rows, what, bad);
    g_free(row_bad);
    g_free(row_done);
    g_free(row_reached);
    g_rand_free(dice);
    if (bad)
        g_test_fail();
}

static bool wanted(const struct any_row *row, const char *group)
{
    const char *why = NULL, *only = g_getenv("ROW"), *its = arch->group(row, &why);

    if (!row->emit)
        return false;                   /* an undefined instruction, until it is written */
    return its && (!group || !strcmp(its, group)) && (!only || g_str_has_prefix(row->mnemonic, only));
}

static unsigned cases_wanted(unsigned usual, unsigned soak)
{
    const char *cases_env = g_getenv("CASES"), *soak_env = g_getenv("SOAK");

    return cases_env ? (unsigned)atoi(cases_env) : (soak_env && *soak_env ? soak : usual) / 10 * (arch->tenths ? arch->tenths : 10);
}

void rows_test(gconstpointer group)
{
    unsigned per_row = cases_wanted(200, 20000), rows = 0;

    begin();
    for (unsigned n = 0; n < arch->nrows; n++) {
        const struct any_row *row = &arch->rows[n];
        unsigned modes;

        if (!wanted(row, group))
            continue;
        rows++;
        modes = arch->modes_wanted ? arch->modes_wanted(row) : 0;
        for (unsigned tries = 0; (row_done[n] < per_row || modes) && tries < 20 * per_row + 1000 && !row_bad[n]; tries++) {
            if (arch->make(row, ncases, next_case())) {
                modes &= modes ? ~arch->modes(row, &cases[ncases]) : 0;
                row_done[n]++;
                add_case(n);
            }
        }
        if (!row_done[n] || (modes && !row_bad[n])) {
            g_test_message("%s %s: no case could be made (of modes %#x)", row->mnemonic, row->pattern, modes);
            row_bad[n] = true;
        }
    }
    end("rows", rows);
}

void rows_test_streams(gconstpointer unused)
{
    unsigned count = cases_wanted(20000, 2000000), n = 0;
    g_autofree const struct any_row **pool = g_malloc_n(arch->nrows, sizeof(*pool));

    (void)unused;
    begin();
    for (unsigned r = 0; r < arch->nrows; r++)
        if (wanted(&arch->rows[r], NULL) && arch->rows[r].flow == FLOW_NEXT)
            pool[n++] = &arch->rows[r];
    for (unsigned k = 0; n && k < count && !row_bad[arch->nrows]; k++) {
        const struct any_row *rows[10];
        unsigned len = 2 + roll(8);

        for (unsigned i = 0; i < len; i++)
            rows[i] = pool[roll(n)];
        if (arch->make_stream(rows, len, ncases, next_case()))
            add_case(arch->nrows);
    }
    end("rows in streams", n);
}

void rows_test_reached(gconstpointer unused)
{
    unsigned left = 0;

    (void)unused;
    for (unsigned n = 0; n < arch->nrows; n++) {
        const struct any_row *row = &arch->rows[n];
        const char *why = NULL;

        if (row->emit && arch->group(row, &why))
            continue;
        left++;
        if (g_getenv("VERBOSE"))
            g_test_message("%s %s: left out, %s", row->mnemonic, row->pattern, why ? why : "?");
        if (why && *why)
            continue;
        g_test_message("%s %s: no test reaches it, and none says why", row->mnemonic, row->pattern);
        g_test_fail();
    }
    g_test_message("%u of %u rows are left out, for reasons given", left, arch->nrows);
}

struct cpu *rows_start(const struct rows_arch *a)
{
    arch = a;
    oracle_start(a->oracle, a->oracle_cpu);
    return machine_new(&a->machine);
}
