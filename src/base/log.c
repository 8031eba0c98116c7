/* The debug log of -d, -D, -dfilter. */
#include "rhea/base/log.h"

#include <errno.h>
#include <fnmatch.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "rhea/base/options.h"

uint32_t log_mask;

static const struct { const char *name, *help; } categories[] = {
#define X(id, text, what) [LOG_BIT_##id] = { text, what },
    LOG_CATEGORIES(X)
#undef X
};

struct range { uint64_t start, end /* inclusive */; };

static FILE *sink;                  /* NULL: stderr */
static GArray *filter;              /* of struct range; NULL: everything passes */
static GPtrArray *trace_patterns;

static FILE *log_file(void)
{
    return sink ? sink : stderr;
}

char *log_help(void)
{
    GString *s = g_string_new("Log categories of -d, separated by commas:\n");

    for (unsigned i = 0; i < G_N_ELEMENTS(categories); i++)
        g_string_append_printf(s, "%-15s %s\n", categories[i].name, categories[i].help);
    g_string_append_printf(s, "%-15s %s\n", "all", "all of these but trace points");
    return g_string_free(s, FALSE);
}

static bool category_find(const char *name, uint32_t *bit)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(categories); i++) {
        if (!strcmp(name, categories[i].name)) {
            *bit = 1u << i;
            return true;
        }
    }
    return false;
}

static bool category_unknown(const char *name, struct error *err)
{
    const char *names[G_N_ELEMENTS(categories) + 2] = { 0 };
    g_autofree char *help = NULL;
    const char *near;

    if (!strcmp(name, "help") || !strcmp(name, "?")) {
        help = log_help();
        return error_set(err, ERR_GENERIC, "-d takes log categories", help);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(categories); i++)
        names[i] = categories[i].name;
    names[G_N_ELEMENTS(categories)] = "all";
    near = nearest_spelling(name, names);
    if (near)
        help = g_strdup_printf("did you mean '%s'? '-d help' lists them", near);
    return error_setf(err, ERR_GENERIC, help ? help : "'-d help' lists them", "unknown log category '%s'", name);
}

bool log_parse(const char *spec, uint32_t *mask, struct error *err)
{
    g_auto(GStrv) words = g_strsplit(spec, ",", -1);
    uint32_t bits = 0, bit;

    for (char **w = words; *w; w++) {
        if (!**w || !strcmp(*w, "none"))
            continue;
        if (!strcmp(*w, "all")) {
            bits |= ((1u << LOG_BIT_COUNT) - 1) & ~LOG_TRACE;
        } else if (g_str_has_prefix(*w, "trace:") && (*w)[6]) {
            if (!trace_patterns)
                trace_patterns = g_ptr_array_new_with_free_func(g_free);
            g_ptr_array_add(trace_patterns, g_strdup(*w + 6));
            bits |= LOG_TRACE;
        } else if (category_find(*w, &bit)) {
            bits |= bit;
        } else {
            return category_unknown(*w, err);
        }
    }
    *mask = bits;
    return true;
}

bool log_trace_enabled(const char *name)
{
    if (!log_enabled(LOG_TRACE) || !trace_patterns)
        return false;
    for (unsigned i = 0; i < trace_patterns->len; i++)
        if (!fnmatch(g_ptr_array_index(trace_patterns, i), name, 0))
            return true;
    return false;
}

void log_set(uint32_t mask)
{
    __atomic_store_n(&log_mask, mask, __ATOMIC_RELAXED);
}

/* "%d" becomes the pid, "%%" a percent sign; any other conversion is refused. */
static char *log_path_expand(const char *path, struct error *err)
{
    GString *s = g_string_new(NULL);

    for (const char *p = path; *p; p++) {
        if (*p != '%') {
            g_string_append_c(s, *p);
        } else if (p[1] == 'd') {
            g_string_append_printf(s, "%d", (int)getpid());
            p++;
        } else if (p[1] == '%') {
            g_string_append_c(s, '%');
            p++;
        } else {
            error_setf(err, ERR_GENERIC, "only %d (the process id) and %% have a meaning there",
                       "bad log file name '%s'", path);
            g_string_free(s, TRUE);
            return NULL;
        }
    }
    return g_string_free(s, FALSE);
}

bool log_open(const char *path, struct error *err)
{
    g_autofree char *name = NULL;
    FILE *f = NULL;

    if (path) {
        name = log_path_expand(path, err);
        if (!name)
            return false;
        f = fopen(name, "we");
        if (!f)
            return error_set_errno(err, errno, "-D takes a file that can be written",
                                   "cannot open log file '%s'", name);
        setvbuf(f, NULL, _IOLBF, 0);
    }
    f = __atomic_exchange_n(&sink, f, __ATOMIC_ACQ_REL);
    if (f)
        fclose(f);
    return true;
}

/* START..END, START+LENGTH, START-LENGTH (which ends at START) */
static bool range_parse(const char *text, struct range *r)
{
    char *end;
    uint64_t a, b;
    char op;

    errno = 0;
    a = strtoull(text, &end, 0);
    if (end == text || errno)
        return false;
    op = *end;
    if (op == '.' && end[1] == '.')
        end++;
    else if (op != '+' && op != '-')
        return false;
    text = end + 1;
    b = strtoull(text, &end, 0);
    if (end == text || *end || errno)
        return false;
    if (op == '.')
        *r = (struct range){ a, b };
    else if (!b)
        return false;
    else if (op == '+')
        *r = (struct range){ a, a + (b - 1) < a ? UINT64_MAX : a + (b - 1) };
    else
        *r = (struct range){ a < b - 1 ? 0 : a - (b - 1), a };
    return r->start <= r->end;
}

bool log_set_filter(const char *spec, struct error *err)
{
    g_auto(GStrv) words = g_strsplit(spec, ",", -1);
    GArray *ranges = g_array_new(FALSE, FALSE, sizeof(struct range));
    struct range r;

    for (char **w = words; *w; w++) {
        if (!range_parse(*w, &r)) {
            g_array_free(ranges, TRUE);
            return error_setf(err, ERR_GENERIC, "ranges are 0x8000..0x8fff, 0x8000+0x1000 or 0x8fff-0x1000",
                              "bad address range '%s' for -dfilter", *w);
        }
        g_array_append_val(ranges, r);
    }
    if (filter)
        g_array_free(filter, TRUE);
    filter = ranges;
    return true;
}

bool log_in_filter(uint64_t addr)
{
    if (!filter)
        return true;
    for (unsigned i = 0; i < filter->len; i++) {
        const struct range *r = &g_array_index(filter, struct range, i);

        if (addr >= r->start && addr <= r->end)
            return true;
    }
    return false;
}

void log_printf(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vfprintf(log_file(), fmt, ap);
    va_end(ap);
}

void log_write(const char *text, size_t len)
{
    fwrite(text, 1, len, log_file());
}
