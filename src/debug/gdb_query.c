/* Queries and settings of GDB's remote protocol: what the target is and can do. "Debugging with GDB", appendix "General Query
 * Packets"; descriptions of registers: appendix "Target Descriptions". */
#include <string.h>
#include "gdb_internal.h"

enum { E_PARSE = 1 };

/* ---- qSupported */

static const struct { const char *name; size_t offset; const char *answer; } client_features[] = {
    { "multiprocess+", offsetof(struct gdb, multiprocess), "multiprocess+" },
    { "swbreak+", offsetof(struct gdb, swbreak), "swbreak+" },
    { "fork-events+", offsetof(struct gdb, forks), "fork-events+" },
    { "exec-events+", offsetof(struct gdb, execs), "exec-events+" },
};

static void supported(struct gdb *g, const char *p)
{
    g_auto(GStrv) words = g_strsplit(p, ";", 256);
    g_autoptr(GString) s = g_string_new(NULL);
    const struct gdb_target *t = g->target;

    g_string_printf(s, "PacketSize=%x;QStartNoAckMode+;qXfer:features:read+;qXfer:threads:read+;vContSupported+", GDB_PACKET_MAX);
    for (unsigned n = 0; n < G_N_ELEMENTS(client_features); n++) {
        bool *flag = (bool *)((char *)g + client_features[n].offset);

        *flag = g_strv_contains((const char *const *)words, client_features[n].name) && ((flag != &g->forks && flag != &g->execs) || t->fork_end);
        if (*flag)
            g_string_append_printf(s, ";%s", client_features[n].answer);
    }
    if (t->exec_file)
        g_string_append(s, ";qXfer:exec-file:read+");
    if (t->auxv)
        g_string_append(s, ";qXfer:auxv:read+");
    if (t->siginfo)
        g_string_append(s, ";qXfer:siginfo:read+");
    if (t->pass_signals)
        g_string_append(s, ";QPassSignals+;QProgramSignals+");
    if (t->catch_syscalls)
        g_string_append(s, ";QCatchSyscalls+");
    gdb_reply_text(g, s->str);
}

/* ---- qXfer */

static void describe_feature(GString *s, const struct debug_feature *f)
{
    g_string_append_printf(s, "<feature name=\"%s\">%s", f->name, f->types ? f->types : "");
    for (unsigned n = 0; n < f->count; n++) {
        const struct debug_reg *r = &f->regs[n];

        g_string_append_printf(s, "<reg name=\"%s\" bitsize=\"%u\" type=\"%s\"", r->name, r->bits, r->type);
        if (r->group)
            g_string_append_printf(s, " group=\"%s\"", r->group);
        g_string_append(s, "/>");
    }
    g_string_append(s, "</feature>");
}

static bool get_features(struct gdb *g, const char *annex, GByteArray *out)
{
    const struct guest_debug *d = g->target->debug;
    g_autoptr(GString) s = g_string_new("<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target>");

    if (strcmp(annex, "target.xml"))
        return false;
    g_string_append_printf(s, "<architecture>%s</architecture>", d->architecture);
    if (g->target->osabi)
        g_string_append_printf(s, "<osabi>%s</osabi>", g->target->osabi);
    for (unsigned n = 0; n < d->nfeatures; n++)
        describe_feature(s, &d->features[n]);
    g_string_append(s, "</target>");
    g_byte_array_append(out, (const uint8_t *)s->str, s->len);
    return true;
}

static bool get_threads(struct gdb *g, const char *annex, GByteArray *out)
{
    g_autofree int *tids = g_new(int, GDB_THREADS_MAX), *pids = g_new(int, GDB_THREADS_MAX);
    unsigned n = g->target->threads(g->opaque, tids, GDB_THREADS_MAX);
    g_autoptr(GString) s = g_string_new("<?xml version=\"1.0\"?><threads>");

    for (unsigned k = 0; k < n; k++) {
        g_autofree char *id = gdb_thread_id(g, g->target->pid(g->opaque), tids[k]);
        g_autofree char *name = g->target->thread_name ? g->target->thread_name(g->opaque, tids[k]) : NULL;
        g_autofree char *clean = name && g_utf8_validate(name, -1, NULL) ? g_markup_escape_text(name, -1) : NULL;

        g_string_append_printf(s, "<thread id=\"%s\"", id);
        if (clean)
            g_string_append_printf(s, " name=\"%s\"", clean);
        g_string_append(s, "/>");
    }
    n = g->target->others ? g->target->others(g->opaque, pids, tids, GDB_THREADS_MAX) : 0;
    for (unsigned k = 0; k < n; k++) {
        g_autofree char *id = gdb_thread_id(g, pids[k], tids[k]);

        g_string_append_printf(s, "<thread id=\"%s\"/>", id);
    }
    g_string_append(s, "</threads>");
    g_byte_array_append(out, (const uint8_t *)s->str, s->len);
    return true;
}

static bool get_exec_file(struct gdb *g, const char *annex, GByteArray *out)
{
    g_autofree char *path = g->target->exec_file ? g->target->exec_file(g->opaque) : NULL;

    if (path)
        g_byte_array_append(out, (const uint8_t *)path, strlen(path));
    return path;
}

static bool get_auxv(struct gdb *g, const char *annex, GByteArray *out)
{
    return g->target->auxv && g->target->auxv(g->opaque, out);
}

static bool get_siginfo(struct gdb *g, const char *annex, GByteArray *out)
{
    return g->target->siginfo && g->target->siginfo(g->opaque, gdb_current_thread(g), out);
}

static const struct { const char *name; bool (*get)(struct gdb *g, const char *annex, GByteArray *out); } objects[] = {
    { "features", get_features }, { "threads", get_threads }, { "exec-file", get_exec_file }, { "auxv", get_auxv },
    { "siginfo", get_siginfo },
};

static void send_part(struct gdb *g, const GByteArray *object, uint64_t offset, uint64_t n)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    uint64_t at = MIN(offset, object->len), most = MIN(n, GDB_PACKET_MAX / 2 - 8), k = MIN(most, object->len - at);

    g_byte_array_append(out, (const uint8_t *)(at + k < object->len ? "m" : "l"), 1);
    gdb_append_escaped(out, object->data + at, k);
    gdb_reply(g, out->data, out->len);
}

/* qXfer:object:read:annex:offset,length */
static void transfer(struct gdb *g, const char *p)
{
    g_auto(GStrv) part = g_strsplit(p, ":", 4);
    g_autoptr(GByteArray) object = g_byte_array_new();
    const char *range = g_strv_length(part) == 4 ? part[3] : "";
    uint64_t offset, n;

    if (g_strv_length(part) != 4 || strcmp(part[1], "read")) {
        gdb_reply_text(g, "");
        return;
    }
    if (!gdb_parse_hex(&range, &offset) || *range++ != ',' || !gdb_parse_hex(&range, &n)) {
        gdb_reply_error(g, E_PARSE);
        return;
    }
    for (unsigned k = 0; k < G_N_ELEMENTS(objects); k++)
        if (!strcmp(objects[k].name, part[0])) {
            if (objects[k].get(g, part[2], object))
                send_part(g, object, offset, n);
            else
                gdb_reply_text(g, "E00");
            return;
        }
    gdb_reply_text(g, "");
}

/* ---- the others */

static void current(struct gdb *g, const char *p)
{
    g_autofree char *id = gdb_thread_id(g, g->target->pid(g->opaque), gdb_current_thread(g)), *text = g_strconcat("QC", id, NULL);

    gdb_reply_text(g, text);
}

static void thread_list(struct gdb *g, const char *p)
{
    g_autofree int *tids = g_new(int, GDB_THREADS_MAX);
    unsigned n = g->target->threads(g->opaque, tids, GDB_THREADS_MAX);
    g_autoptr(GString) s = g_string_new(n ? "m" : "l");

    for (unsigned k = 0; k < n && s->len < GDB_PACKET_MAX - 32; k++) {
        g_autofree char *id = gdb_thread_id(g, g->target->pid(g->opaque), tids[k]);

        g_string_append_printf(s, "%s%s", k ? "," : "", id);
    }
    gdb_reply_text(g, s->str);
}

static void thread_list_end(struct gdb *g, const char *p) { gdb_reply_text(g, "l"); }
static void attached(struct gdb *g, const char *p) { gdb_reply_text(g, g->target->created ? "0" : "1"); }
static void symbol(struct gdb *g, const char *p) { gdb_reply_text(g, "OK"); }

static void monitor(struct gdb *g, const char *p)
{
    size_t n = strlen(p) / 2;
    g_autofree char *command = g_malloc0(n + 1), *answer = NULL;
    g_autoptr(GString) s = g_string_new(NULL);

    if (!g->target->monitor || !gdb_parse_bytes(p, (uint8_t *)command, n)) {
        gdb_reply_text(g, "");
        return;
    }
    answer = g->target->monitor(g->opaque, command);
    if (!answer)
        answer = g_strdup("no such command\n");
    if (strlen(answer) > GDB_PACKET_MAX / 2 - 1)
        answer[GDB_PACKET_MAX / 2 - 1] = 0;
    gdb_append_hex(s, (const uint8_t *)answer, strlen(answer));
    gdb_reply_text(g, s->len ? s->str : "OK");
}

struct query { const char *name; void (*fn)(struct gdb *g, const char *p); };

static bool dispatch(struct gdb *g, const struct query *table, unsigned n, const char *p)
{
    for (unsigned k = 0; k < n; k++) {
        size_t len = strlen(table[k].name);

        if (!strncmp(p, table[k].name, len) && (table[k].name[len - 1] == ':' || table[k].name[len - 1] == ',' || !p[len] || strchr(":;", p[len]))) {
            p += len;
            table[k].fn(g, *p == ':' || *p == ';' ? p + 1 : p);
            return true;
        }
    }
    return false;
}

void gdb_query(struct gdb *g, const char *p)
{
    static const struct query table[] = {
        { "Supported", supported }, { "Xfer:", transfer }, { "C", current }, { "fThreadInfo", thread_list },
        { "sThreadInfo", thread_list_end }, { "Attached", attached }, { "Symbol:", symbol }, { "Rcmd,", monitor },
    };

    if (!dispatch(g, table, G_N_ELEMENTS(table), p))
        gdb_reply_text(g, "");
}

/* ---- settings */

static void start_no_ack(struct gdb *g, const char *p)
{
    gdb_reply_text(g, "OK");
    g->no_ack_next = true;              /* this packet is still acknowledged */
}

static void pass_signals(struct gdb *g, const char *p)
{
    bool pass[65] = { false };
    uint64_t v;

    while (*p) {
        int n;

        if (!gdb_parse_hex(&p, &v) || v > 255 || (*p && *p++ != ';')) {
            gdb_reply_error(g, E_PARSE);
            return;
        }
        n = gdb_signal_to_linux((int)v);
        pass[n] = n > 0;
    }
    g->target->pass_signals(g->opaque, pass);
    gdb_reply_text(g, "OK");
}

static void program_signals(struct gdb *g, const char *p) { gdb_reply_text(g, "OK"); }  /* what vCont says is done, whatever is in here */

/* QCatchSyscalls:0, QCatchSyscalls:1[;number]... */
static void catch_syscalls(struct gdb *g, const char *p)
{
    int numbers[GDB_SYSCALLS_MAX];
    unsigned n = 0;
    bool on = *p == '1';
    uint64_t v;

    if (*p != '0' && *p != '1') {
        gdb_reply_error(g, E_PARSE);
        return;
    }
    p++;
    while (*p) {
        if (*p++ != ';' || n == GDB_SYSCALLS_MAX || !gdb_parse_hex(&p, &v) || v > INT32_MAX) {
            gdb_reply_error(g, E_PARSE);
            return;
        }
        numbers[n++] = (int)v;
    }
    g->target->catch_syscalls(g->opaque, on, numbers, n);
    gdb_reply_text(g, "OK");
}

void gdb_set(struct gdb *g, const char *p)
{
    static const struct query table[] = {
        { "StartNoAckMode", start_no_ack }, { "PassSignals:", pass_signals }, { "ProgramSignals:", program_signals },
        { "CatchSyscalls:", catch_syscalls },
    };
    const struct gdb_target *t = g->target;

    if ((g_str_has_prefix(p, "CatchSyscalls") && !t->catch_syscalls) || (g_str_has_prefix(p, "PassSignals") && !t->pass_signals)
        || !dispatch(g, table, G_N_ELEMENTS(table), p))
        gdb_reply_text(g, "");
}
