/* GDB's remote protocol: packets, stop replies, registers, memory, breakpoints, resuming. "Debugging with GDB", appendix
 * "Remote Serial Protocol". The client is not trusted: lengths are bounded, numbers parsed strictly. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include "gdb_internal.h"

enum { E_PARSE = 1, E_THREAD = 2, E_MEMORY = 14, E_REGISTER = 3 };

/* ---- text */

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool gdb_parse_hex(const char **p, uint64_t *v)
{
    unsigned n = 0;

    *v = 0;
    for (; digit(**p) >= 0 && n < 16; n++)
        *v = *v << 4 | (unsigned)digit(*(*p)++);
    return n > 0 && digit(**p) < 0;
}

bool gdb_parse_bytes(const char *p, uint8_t *out, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        int hi = digit(p[2 * k]), lo = hi < 0 ? -1 : digit(p[2 * k + 1]);

        if (lo < 0)
            return false;
        out[k] = (uint8_t)(hi << 4 | lo);
    }
    return true;
}

void gdb_append_hex(GString *out, const uint8_t *data, size_t n)
{
    for (size_t k = 0; k < n; k++)
        g_string_append_printf(out, "%02x", data[k]);
}

void gdb_append_escaped(GByteArray *out, const uint8_t *data, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        uint8_t pair[2] = { '}', data[k] ^ 0x20 };

        if (memchr("#$}*", data[k], 4))
            g_byte_array_append(out, pair, 2);
        else
            g_byte_array_append(out, data + k, 1);
    }
}

static bool parse_id(const char **p, int *id)
{
    uint64_t v;

    if (!strncmp(*p, "-1", 2)) {
        *p += 2;
        *id = -1;
        return true;
    }
    if (!gdb_parse_hex(p, &v) || v > INT32_MAX)
        return false;
    *id = (int)v;
    return true;
}

bool gdb_parse_thread(const char **p, int *pid, int *tid)
{
    *pid = -1;
    if (**p != 'p')
        return parse_id(p, tid);
    (*p)++;
    *tid = -1;
    if (!parse_id(p, pid))
        return false;
    if (**p != '.')
        return true;
    (*p)++;
    return parse_id(p, tid);
}

char *gdb_thread_id(struct gdb *g, int pid, int tid)
{
    return g->multiprocess ? g_strdup_printf("p%x.%x", (unsigned)pid, (unsigned)tid) : g_strdup_printf("%x", (unsigned)tid);
}

/* ---- replies */

static void send_packet(struct gdb *g, const void *data, size_t n)
{
    const uint8_t *b = data;
    g_autofree char *sum = NULL;
    uint8_t s = 0;

    for (size_t k = 0; k < n; k++)
        s += b[k];
    sum = g_strdup_printf("#%02x", s);
    g_byte_array_set_size(g->sent, 0);
    g_byte_array_append(g->sent, (const uint8_t *)"$", 1);
    g_byte_array_append(g->sent, b, n);
    g_byte_array_append(g->sent, (const uint8_t *)sum, 3);
    g->target->send(g->opaque, g->sent->data, g->sent->len);
}

void gdb_reply(struct gdb *g, const void *data, size_t n) { send_packet(g, data, n); }
void gdb_reply_text(struct gdb *g, const char *text) { send_packet(g, text, strlen(text)); }

void gdb_reply_error(struct gdb *g, int number)
{
    g_autofree char *text = g_strdup_printf("E%02x", number);

    gdb_reply_text(g, text);
}

static void reply_result(struct gdb *g, enum gdb_result r, int error)
{
    if (r == GDB_ERROR)
        gdb_reply_error(g, error);
    else
        gdb_reply_text(g, r == GDB_OK ? "OK" : "");
}

/* ---- stops */

static const char *const watch_names[] = { [2] = "watch", [3] = "rwatch", [4] = "awatch" };

static void append_reason(struct gdb *g, GString *s, const struct gdb_stop *why)
{
    switch (why->kind) {
    case GDB_STOP_BREAK:
        if (g->swbreak)
            g_string_append(s, "swbreak:;");
        break;
    case GDB_STOP_WATCH:
        if (why->type >= 2 && why->type <= 4)
            g_string_append_printf(s, "%s:%" G_GINT64_MODIFIER "x;", watch_names[why->type], why->addr);
        break;
    case GDB_STOP_SYSCALL: g_string_append_printf(s, "syscall_entry:%x;", (unsigned)why->addr); break;
    case GDB_STOP_FORK: g_string_append_printf(s, "fork:p%x.%x;", (unsigned)why->addr, (unsigned)why->addr); break;
    case GDB_STOP_EXEC: {
        g_autofree char *path = g->target->exec_file(g->opaque);

        g_string_append(s, "exec:");
        gdb_append_hex(s, (const uint8_t *)path, strlen(path));
        g_string_append_c(s, ';');
        break;
    }
    case GDB_STOP_SYSRET: g_string_append_printf(s, "syscall_return:%x;", (unsigned)why->addr); break;
    default:
        break;
    }
}

static void send_stop(struct gdb *g)
{
    const struct gdb_stop *why = &g->last;
    g_autoptr(GString) s = g_string_new(NULL);
    int signal = why->kind == GDB_STOP_SIGNAL ? gdb_signal_of(why->signal) : 5;

    if (why->kind == GDB_STOP_EXITED || why->kind == GDB_STOP_KILLED) {
        if (why->kind == GDB_STOP_EXITED)
            g_string_printf(s, "W%02x", (unsigned)why->addr & 0xff);
        else
            g_string_printf(s, "X%02x", gdb_signal_of(why->signal));
        if (g->multiprocess)
            g_string_append_printf(s, ";process:%x", (unsigned)why->pid);
    } else {
        g_autofree char *id = gdb_thread_id(g, why->pid, why->tid);

        g_string_printf(s, "T%02xthread:%s;", signal, id);
        append_reason(g, s, why);
    }
    gdb_reply(g, s->str, s->len);
}

void gdb_stopped(struct gdb *g, const struct gdb_stop *why)
{
    if (!g->running)
        return;
    g->running = false;
    g->last = *why;
    g->thread = why->tid;
    g->child = why->kind == GDB_STOP_FORK ? (int)why->addr : 0;
    g->on_child = false;
    send_stop(g);
}

void gdb_died(struct gdb *g, int pid, bool asked)
{
    struct gdb_stop own = g->last;

    g->last = (struct gdb_stop){ .kind = GDB_STOP_KILLED, .pid = pid, .signal = SIGKILL };
    if (asked)
        gdb_reply_error(g, E_THREAD);
    else
        send_stop(g);
    g->last = own;
}

/* ---- threads */

int gdb_current_thread(struct gdb *g)
{
    int all[1];

    if (g->thread > 0 && g->target->cpu(g->opaque, g->thread))
        return g->thread;
    if (g->last.tid > 0 && g->target->cpu(g->opaque, g->last.tid))
        return g->last.tid;
    return g->target->threads(g->opaque, all, 1) ? all[0] : 0;
}

static struct cpu *current_cpu(struct gdb *g)
{
    int tid = gdb_current_thread(g);

    return tid ? g->target->cpu(g->opaque, tid) : NULL;
}

/* H op thread-id */
static void set_thread(struct gdb *g, const char *p)
{
    char op = *p;
    int pid, tid;

    if (!op || (p++, !gdb_parse_thread(&p, &pid, &tid)) || *p) {
        gdb_reply_error(g, E_PARSE);
        return;
    }
    if (op != 'c')
        g->on_child = g->child && pid == g->child;
    if (op == 'c')
        g->step_thread = tid ? tid : -1;
    else if (g->on_child)
        g->thread = g->last.tid;
    else if (tid > 0 && !g->target->cpu(g->opaque, tid)) {
        gdb_reply_error(g, E_THREAD);
        return;
    } else {
        g->thread = tid > 0 ? tid : g->last.tid;
    }
    gdb_reply_text(g, "OK");
}

static bool is_other(struct gdb *g, int pid, int tid)
{
    g_autofree int *pids = g_new(int, GDB_THREADS_MAX), *tids = g_new(int, GDB_THREADS_MAX);
    unsigned n = g->target->others ? g->target->others(g->opaque, pids, tids, GDB_THREADS_MAX) : 0;

    while (n-- > 0)
        if (pids[n] == pid && tids[n] == tid)
            return true;
    return false;
}

static void thread_alive(struct gdb *g, const char *p)
{
    int pid, tid;

    if (gdb_parse_thread(&p, &pid, &tid) && tid > 0
        && ((g->child && pid == g->child) || is_other(g, pid, tid) || g->target->cpu(g->opaque, tid)))
        gdb_reply_text(g, "OK");
    else
        gdb_reply_error(g, E_THREAD);
}

/* ---- registers */

const struct debug_reg *gdb_register(const struct guest_debug *d, unsigned n)
{
    for (unsigned f = 0; f < d->nfeatures; f++) {
        if (n < d->features[f].count)
            return &d->features[f].regs[n];
        n -= d->features[f].count;
    }
    return NULL;
}

static void read_registers(struct gdb *g, const char *p)
{
    struct cpu *cpu = current_cpu(g);
    g_autoptr(GString) s = g_string_new(NULL);
    const struct debug_reg *r;
    uint8_t v[16];

    if (!cpu) {
        gdb_reply_error(g, E_THREAD);
        return;
    }
    for (unsigned n = 0; (r = gdb_register(g->target->debug, n)); n++) {
        g->target->debug->get(cpu, r, v);
        gdb_append_hex(s, v, r->bits / 8);
    }
    gdb_reply(g, s->str, s->len);
}

static void write_registers(struct gdb *g, const char *p)
{
    struct cpu *cpu = current_cpu(g);
    size_t left = strlen(p);
    const struct debug_reg *r;
    uint8_t v[16];

    if (!cpu) {
        gdb_reply_error(g, E_THREAD);
        return;
    }
    g->target->registers_written(g->opaque, gdb_current_thread(g));
    for (unsigned n = 0; (r = gdb_register(g->target->debug, n)) && left >= r->bits / 4u; n++) {
        if (gdb_parse_bytes(p, v, r->bits / 8))
            g->target->debug->set(cpu, r, v);
        p += r->bits / 4;
        left -= r->bits / 4;
    }
    gdb_reply_text(g, "OK");
}

static void read_register(struct gdb *g, const char *p)
{
    struct cpu *cpu = current_cpu(g);
    const struct debug_reg *r;
    g_autoptr(GString) s = g_string_new(NULL);
    uint8_t v[16];
    uint64_t n;

    if (!cpu || !gdb_parse_hex(&p, &n) || n > UINT16_MAX || !(r = gdb_register(g->target->debug, (unsigned)n))) {
        gdb_reply_error(g, E_REGISTER);
        return;
    }
    g->target->debug->get(cpu, r, v);
    gdb_append_hex(s, v, r->bits / 8);
    gdb_reply(g, s->str, s->len);
}

static void write_register(struct gdb *g, const char *p)
{
    struct cpu *cpu = current_cpu(g);
    const struct debug_reg *r;
    uint8_t v[16];
    uint64_t n;

    if (!cpu || !gdb_parse_hex(&p, &n) || *p++ != '=' || n > UINT16_MAX || !(r = gdb_register(g->target->debug, (unsigned)n))
        || strlen(p) != r->bits / 4u || !gdb_parse_bytes(p, v, r->bits / 8)) {
        gdb_reply_error(g, E_REGISTER);
        return;
    }
    g->target->registers_written(g->opaque, gdb_current_thread(g));
    g->target->debug->set(cpu, r, v);
    gdb_reply_text(g, "OK");
}

/* ---- memory */

static bool parse_range(const char **p, uint64_t *va, uint64_t *n)
{
    return gdb_parse_hex(p, va) && *(*p)++ == ',' && gdb_parse_hex(p, n);
}

/* As much as there is: a client reads over the end of a mapping. */
static void read_memory(struct gdb *g, const char *p)
{
    uint8_t buf[GDB_PACKET_MAX / 2];
    g_autoptr(GString) s = NULL;
    uint64_t va, n, got = 0;

    if (!parse_range(&p, &va, &n)) {
        gdb_reply_error(g, E_PARSE);
        return;
    }
    n = MIN(n, sizeof(buf));
    if (g->target->memory(g->opaque, gdb_current_thread(g), va, buf, n, false))
        got = n;
    while (got < n) {
        uint64_t k = MIN(n - got, CPU_PAGE_SIZE - ((va + got) & (CPU_PAGE_SIZE - 1)));

        if (!g->target->memory(g->opaque, gdb_current_thread(g), va + got, buf + got, k, false))
            break;
        got += k;
    }
    if (n && !got) {
        gdb_reply_error(g, E_MEMORY);
        return;
    }
    s = g_string_sized_new(2 * got);
    gdb_append_hex(s, buf, got);
    gdb_reply(g, s->str, s->len);
}

static size_t unescape(const uint8_t *p, size_t n, uint8_t *out, size_t max)
{
    size_t k = 0;

    for (size_t at = 0; at < n && k < max; at++)
        out[k++] = p[at] == '}' && at + 1 < n ? p[++at] ^ 0x20 : p[at];
    return k;
}

static void write_memory(struct gdb *g, const char *p, size_t left, bool binary)
{
    uint8_t buf[GDB_PACKET_MAX];
    const char *start = p;
    uint64_t va, n;
    bool ok;

    if (!parse_range(&p, &va, &n) || *p++ != ':' || n > sizeof(buf)) {
        gdb_reply_error(g, E_PARSE);
        return;
    }
    left -= (size_t)(p - start);
    ok = binary ? unescape((const uint8_t *)p, left, buf, n) == n : left == 2 * n && gdb_parse_bytes(p, buf, n);
    if (!ok)
        gdb_reply_error(g, E_PARSE);
    else
        reply_result(g, n == 0 || g->target->memory(g->opaque, gdb_current_thread(g), va, buf, n, true) ? GDB_OK : GDB_ERROR, E_MEMORY);
}

/* z type,addr,kind and Z. Conditions and commands are not announced, so none come. */
static void set_breakpoint(struct gdb *g, const char *p, bool set)
{
    uint64_t va, kind;
    unsigned type = (unsigned)(*p - '0');

    if (type > 4) {
        gdb_reply_text(g, "");
        return;
    }
    p++;
    if (*p++ != ',' || !parse_range(&p, &va, &kind) || kind > UINT16_MAX)
        gdb_reply_error(g, E_PARSE);
    else if (g->on_child)
        gdb_reply_text(g, "OK");
    else
        reply_result(g, g->target->breakpoint(g->opaque, type, va, (unsigned)kind, set), E_MEMORY);
}

/* ---- resuming */

static void resume(struct gdb *g, const struct gdb_action *a, unsigned n)
{
    g->running = true;
    g->target->resume(g->opaque, a, n);
}

/* c [addr], s [addr], C sig[;addr], S sig[;addr]: the old way. */
static void resume_old(struct gdb *g, char op, const char *p)
{
    struct gdb_action a[2] = { { .pid = -1, .tid = g->step_thread, .step = op == 's' || op == 'S' }, { .pid = -1, .tid = -1 } };
    uint64_t v;

    if (op == 'C' || op == 'S') {
        if (!gdb_parse_hex(&p, &v) || v > 255) {
            gdb_reply_error(g, E_PARSE);
            return;
        }
        a[0].signal = gdb_signal_to_linux((int)v);
        p += *p == ';';
    }
    if (*p) {                           /* an address to go on at: nobody asks for it */
        gdb_reply_error(g, E_PARSE);
        return;
    }
    if (a[0].tid < 0 && (a[0].step || a[0].signal))
        a[0].tid = gdb_current_thread(g);
    resume(g, a, 2);
}

static bool parse_action(const char **p, struct gdb_action *a)
{
    uint64_t v;
    char op = *(*p)++;

    *a = (struct gdb_action){ .pid = -1, .tid = -1 };
    switch (op) {
    case 'C': case 'S':
        if (!gdb_parse_hex(p, &v) || v > 255)
            return false;
        a->signal = gdb_signal_to_linux((int)v);
        break;
    case 'r':
        if (!gdb_parse_hex(p, &a->start) || *(*p)++ != ',' || !gdb_parse_hex(p, &a->end))
            return false;
        break;
    case 'c': case 's':
        break;
    default:
        return false;
    }
    a->step = op == 's' || op == 'S' || op == 'r';
    if (**p == ':') {
        (*p)++;
        if (!gdb_parse_thread(p, &a->pid, &a->tid))
            return false;
    }
    return true;
}

static void resume_threads(struct gdb *g, const char *p)
{
    struct gdb_action a[GDB_ACTIONS_MAX];
    unsigned n = 0, ours = 0;

    while (*p) {
        if (*p++ != ';' || n == GDB_ACTIONS_MAX || !parse_action(&p, &a[n])) {
            gdb_reply_error(g, E_PARSE);
            return;
        }
        ours += a[n].pid <= 0 || a[n].pid == g->target->pid(g->opaque);
        n++;
    }
    if (ours)
        resume(g, a, n);
    else
        gdb_reply_error(g, n ? E_THREAD : E_PARSE);
}

/* D [;pid] */
static void detach(struct gdb *g, const char *p)
{
    uint64_t pid = 0;

    if (*p == ';' && (p++, !gdb_parse_hex(&p, &pid) || pid > INT32_MAX)) {
        gdb_reply_error(g, E_PARSE);
        return;
    }
    if (pid && (int)pid != g->child && (int)pid != g->target->pid(g->opaque)) {
        gdb_reply_error(g, E_PARSE);
        return;
    }
    gdb_reply_text(g, "OK");
    if (g->child && pid) {
        bool follow = (int)pid != g->child;

        g->child = 0;
        g->on_child = false;
        g->target->fork_end(g->opaque, follow ? GDB_FORK_FOLLOWED : GDB_FORK_RUNS);
        return;
    }
    g->target->detach(g->opaque, pid ? (int)pid : -1);
}

static void packet_v(struct gdb *g, const char *p, size_t n)
{
    if (!strcmp(p, "vCont?")) {
        gdb_reply_text(g, "vCont;c;C;s;S;r");
    } else if (g_str_has_prefix(p, "vCont")) {
        resume_threads(g, p + 5);
    } else if (g_str_has_prefix(p, "vKill")) {
        gdb_reply_text(g, "OK");
        g->target->kill(g->opaque, p[5] ? g->target->pid(g->opaque) : -1);
    } else if (g_str_has_prefix(p, "vFile:")) {
        gdb_file(g, p + 6, n - 6);
    } else {
        gdb_reply_text(g, "");
    }
}

/* The process that a packet chooses; 0 or less: none. */
static int process_of(const char *p)
{
    int pid = 0, tid;
    uint64_t v;

    if (g_str_has_prefix(p, "D;") || g_str_has_prefix(p, "vKill;")) {
        p = strchr(p, ';') + 1;
        return gdb_parse_hex(&p, &v) && v <= INT32_MAX ? (int)v : 0;
    }
    if (g_str_has_prefix(p, "Hg"))
        p += 2;
    else if (g_str_has_prefix(p, "vCont;") && strchr(p, ':'))
        p = strchr(p, ':') + 1;
    return *p == 'p' && gdb_parse_thread(&p, &pid, &tid) ? pid : 0;
}

/* A child of which the client knows, and that it neither let go nor went on with, it keeps. Until it does more than to look for it and
 * to take the breakpoints out of what it takes for a copy of its parent's memory, it may do either. */
static bool keeps_child(const struct gdb *g, const char *p)
{
    return g->child && (g_str_has_prefix(p, "vCont;") || g_str_has_prefix(p, "vKill") || strchr("cCsS", *p)
                        || (g->on_child && !strchr("HTzDqQk?", *p)));
}

static bool is_handed_over(struct gdb *g, const char *p)
{
    int pid = process_of(p);

    if (keeps_child(g, p)) {
        if (g->on_child && pid <= 0)
            pid = g->child;
        g->child = 0;
        g->on_child = false;
        g->target->fork_end(g->opaque, GDB_FORK_KEPT);
    }
    return pid > 0 && pid != g->child && pid != g->target->pid(g->opaque) && g->target->hand_over
        && g->target->hand_over(g->opaque, pid, p, g->in_n);
}

/* in[] is NUL-terminated. */
static void packet(struct gdb *g)
{
    const char *p = (const char *)g->in;

    if (g->running && strcmp(p, "vCtrlC"))      /* all but an interrupt has to wait for the stop reply */
        return;
    if (is_handed_over(g, p))
        return;
    switch (*p) {
    case '?': send_stop(g); break;
    case 'g': read_registers(g, p + 1); break;
    case 'G': write_registers(g, p + 1); break;
    case 'p': read_register(g, p + 1); break;
    case 'P': write_register(g, p + 1); break;
    case 'm': read_memory(g, p + 1); break;
    case 'M': write_memory(g, p + 1, g->in_n - 1, false); break;
    case 'X': write_memory(g, p + 1, g->in_n - 1, true); break;
    case 'z': case 'Z': set_breakpoint(g, p + 1, *p == 'Z'); break;
    case 'c': case 'C': case 's': case 'S': resume_old(g, *p, p + 1); break;
    case 'v': packet_v(g, p, g->in_n); break;
    case 'H': set_thread(g, p + 1); break;
    case 'T': thread_alive(g, p + 1); break;
    case 'q': gdb_query(g, p + 1); break;
    case 'Q': gdb_set(g, p + 1); break;
    case 'D': detach(g, p + 1); break;
    case 'k': g->target->kill(g->opaque, -1); break;
    default: gdb_reply_text(g, "");
    }
    if (g->no_ack_next)
        g->no_ack = true;
}

/* ---- bytes */

static void packet_end(struct gdb *g)
{
    bool good = g->sum == g->claimed && !g->too_long;

    g->state = IN_NOTHING;
    if (!g->no_ack)
        g->target->send(g->opaque, good || g->too_long ? "+" : "-", 1);
    g->in[g->in_n] = 0;
    if (g->too_long)
        gdb_reply_error(g, E_PARSE);
    else if (good)
        packet(g);
}

static void byte(struct gdb *g, uint8_t b)
{
    switch (g->state) {
    case IN_NOTHING:
        if (b == '$') {
            g->state = IN_PACKET;
            g->in_n = 0;
            g->sum = 0;
            g->too_long = false;
        } else if (b == 3) {
            g->target->interrupt(g->opaque);
        } else if (b == '-' && g->sent->len && !g->no_ack) {
            g->target->send(g->opaque, g->sent->data, g->sent->len);
        }
        break;
    case IN_PACKET:
        if (b == '#') {
            g->state = IN_SUM1;
            break;
        }
        g->sum += b;
        if (g->in_n < GDB_PACKET_MAX)
            g->in[g->in_n++] = b;
        else
            g->too_long = true;
        break;
    case IN_SUM1:
        g->claimed = (uint8_t)(MAX(digit((char)b), 0) << 4);
        g->state = IN_SUM2;
        break;
    case IN_SUM2:
        g->claimed |= (uint8_t)MAX(digit((char)b), 0);
        packet_end(g);
        break;
    }
}

void gdb_handed(struct gdb *g, const char *p, size_t n)
{
    g->in_n = MIN(n, GDB_PACKET_MAX);
    memcpy(g->in, p, g->in_n);
    g->in[g->in_n] = 0;
    packet(g);
}

void gdb_receive(struct gdb *g, const uint8_t *data, size_t n)
{
    for (size_t k = 0; k < n; k++)
        byte(g, data[k]);
}

/* ---- sessions */

struct gdb *gdb_new(const struct gdb_target *target, void *opaque)
{
    struct gdb *g = g_new0(struct gdb, 1);

    g->target = target;
    g->opaque = opaque;
    g->sent = g_byte_array_new();
    g->step_thread = -1;
    memset(g->files, -1, sizeof(g->files));
    return g;
}

void gdb_free(struct gdb *g)
{
    if (!g)
        return;
    gdb_files_close(g);
    g_byte_array_free(g->sent, TRUE);
    g_free(g);
}

void gdb_connected(struct gdb *g, const struct gdb_stop *why)
{
    g->state = IN_NOTHING;
    g->no_ack = g->no_ack_next = g->multiprocess = g->swbreak = g->forks = g->execs = g->on_child = false;
    g->running = false;
    g->child = 0;
    g->step_thread = -1;
    g_byte_array_set_size(g->sent, 0);
    g->last = *why;
    g->thread = why->tid;
}

void gdb_disconnected(struct gdb *g)
{
    gdb_files_close(g);
    g->running = false;
}

void gdb_followed(struct gdb *g, const struct gdb_stop *why)
{
    g->running = g->on_child = false;
    g->child = 0;
    g->step_thread = -1;
    g->last = *why;
    g->thread = why->tid;
}

/* Bits of gdb_agreed(), by place. */
static bool *agreement(struct gdb *g, unsigned n)
{
    bool *const all[] = { &g->no_ack, &g->multiprocess, &g->swbreak, &g->forks, &g->execs };

    return n < G_N_ELEMENTS(all) ? all[n] : NULL;
}

unsigned gdb_agreed(const struct gdb *g)
{
    unsigned agreed = 0;
    const bool *flag;

    for (unsigned n = 0; (flag = agreement((struct gdb *)g, n)); n++)
        agreed |= (unsigned)*flag << n;
    return agreed;
}

void gdb_continued(struct gdb *g, unsigned agreed)
{
    bool *flag;

    for (unsigned n = 0; (flag = agreement(g, n)); n++)
        *flag = agreed >> n & 1;
    g->running = true;
}

bool gdb_wants_execs(const struct gdb *g) { return g->execs && g->target->exec_file; }
bool gdb_wants_forks(const struct gdb *g) { return g->forks && g->multiprocess && g->target->fork_end; }
bool gdb_is_running(const struct gdb *g) { return g->running; }
