/* The monitor for people: lines to commands, arguments by kind, completion. The commands are in hmp-commands.c,
 * hmp-info.c and hmp-memory.c; those that only wrap a QMP command come from the schema. */
#include "control/hmp.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "control/monitor-internal.h"
#include "control/schema.h"
#include "rhea/base/options.h"
#include "rhea/control/version.h"

/* ---- what commands use */

void hmp_printf(struct hmp *h, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    g_string_append_vprintf(h->out, fmt, ap);
    va_end(ap);
}

void hmp_error(struct hmp *h, struct error *err)
{
    hmp_printf(h, "Error: %s\n", err->msg ? err->msg : "the command failed");
    if (err->hint)
        hmp_printf(h, "%s\n", err->hint);
    error_clear(err);
}

struct vcpu *hmp_cpu(struct hmp *h)
{
    if (!h->vm->nvcpus) {
        hmp_printf(h, "This machine has no CPU.\n");
        return NULL;
    }
    return h->vm->vcpus[*h->cpu >= 0 && *h->cpu < (int)h->vm->nvcpus ? *h->cpu : 0];
}

bool hmp_qmp(struct hmp *h, const char *command, struct json_object *args, struct json_object **ret)
{
    struct json_object *request = json_object_new_object(), *reply, *error, *v;
    bool ok = true;

    json_object_object_add(request, "execute", json_object_new_string(command));
    if (args)
        json_object_object_add(request, "arguments", args);
    reply = qmp_dispatch(h->vm, NULL, request);
    if (json_object_object_get_ex(reply, "error", &error)) {
        json_object_object_get_ex(error, "desc", &v);
        hmp_printf(h, "Error: %s\n", json_object_get_string(v));
        ok = false;
    } else if (ret && json_object_object_get_ex(reply, "return", &v)) {
        *ret = json_object_get(v);
    }
    json_object_put(reply);
    json_object_put(request);
    return ok;
}

/* ---- expressions: C's operators with its precedence */

static bool expression(struct hmp *h, const char **p, int level, unsigned depth, uint64_t *out, struct error *err);

static void skip_space(const char **p)
{
    while (isspace((unsigned char)**p))
        (*p)++;
}

static bool expression_register(struct hmp *h, const char **p, uint64_t *out, struct error *err)
{
    size_t n = 0;
    struct vcpu *v = h->vm->nvcpus ? hmp_cpu(h) : NULL;
    const struct guest_reg *r = v ? h->vm->guest->regs : NULL;

    while (isalnum((unsigned char)(*p)[n]) || (*p)[n] == '_')
        n++;
    g_autofree char *name = g_strndup(*p, n);

    *p += n;
    if (v && (!strcmp(name, "pc") || !strcmp(name, "rip") || !strcmp(name, "eip"))) {
        *out = v->cpu->pc;
        return true;
    }
    for (; r && r->name; r++) {
        if (strcmp(r->name, name) || r->bits > 64)
            continue;
        *out = 0;
        memcpy(out, (const char *)v->cpu + r->offset, r->bits / 8);
        return true;
    }
    return error_setf(err, ERR_GENERIC, "info registers lists them", "there is no register '%s'", name);
}

static bool expression_atom(struct hmp *h, const char **p, unsigned depth, uint64_t *out, struct error *err)
{
    char *end;

    skip_space(p);
    if (depth > 32)
        return error_set(err, ERR_GENERIC, "the expression is nested too deeply", NULL);
    switch (**p) {
    case '(':
        (*p)++;
        if (!expression(h, p, 0, depth + 1, out, err))
            return false;
        skip_space(p);
        if (**p != ')')
            return error_set(err, ERR_GENERIC, "')' is missing", NULL);
        (*p)++;
        return true;
    case '-': case '+': case '~': {
        char op = *(*p)++;

        if (!expression_atom(h, p, depth + 1, out, err))
            return false;
        *out = op == '-' ? -*out : op == '~' ? ~*out : *out;
        return true;
    }
    case '$':
        (*p)++;
        return expression_register(h, p, out, err);
    case '\'':
        if ((*p)[1] && (*p)[2] == '\'') {
            *out = (unsigned char)(*p)[1];
            *p += 3;
            return true;
        }
        break;
    default:
        if (isdigit((unsigned char)**p)) {
            *out = strtoull(*p, &end, 0);
            *p = end;
            return true;
        }
    }
    return error_setf(err, ERR_GENERIC, "numbers, $registers, + - * / %% & | ^ ~ and parentheses are known",
                      "a number is expected at '%s'", *p);
}

static bool apply(char op, uint64_t *a, uint64_t b, struct error *err)
{
    switch (op) {
    case '|': *a |= b; break;
    case '^': *a ^= b; break;
    case '&': *a &= b; break;
    case '+': *a += b; break;
    case '-': *a -= b; break;
    case '*': *a *= b; break;
    default:
        if (!b)
            return error_set(err, ERR_GENERIC, "division by zero", NULL);
        *a = op == '/' ? *a / b : *a % b;
    }
    return true;
}

static bool expression(struct hmp *h, const char **p, int level, unsigned depth, uint64_t *out, struct error *err)
{
    static const char *const operators[] = { "|", "^", "&", "+-", "*/%" };
    uint64_t right;

    if (level == G_N_ELEMENTS(operators))
        return expression_atom(h, p, depth, out, err);
    if (!expression(h, p, level + 1, depth, out, err))
        return false;
    for (;;) {
        skip_space(p);
        if (!**p || !strchr(operators[level], **p))
            return true;
        char op = *(*p)++;

        if (!expression(h, p, level + 1, depth, &right, err) || !apply(op, out, right, err))
            return false;
    }
}

bool hmp_expression(struct hmp *h, const char **text, uint64_t *out, struct error *err)
{
    return expression(h, text, 0, 0, out, err);
}

/* ---- arguments */

struct param { char *name; char kind; bool optional; };

static bool next_param(const char **params, struct param *out)
{
    size_t n;
    const char *colon;

    while (**params == ' ')
        (*params)++;
    if (!**params)
        return false;
    n = strcspn(*params, " ");
    colon = memchr(*params, ':', n);
    out->name = g_strndup(*params, colon - *params);
    out->kind = colon[1];
    out->optional = (*params)[n - 1] == '?' || colon[1] == '-' || colon[1] == '/';
    if (colon[1] == '-') {              /* NAME:-x */
        g_free(out->name);
        out->name = g_strdup_printf("%c%.*s", colon[2], (int)(colon - *params), *params);
    }
    *params += n;
    return true;
}

/* A word, or "quoted" with \" and \\ */
static char *take_word(const char **p, struct error *err)
{
    GString *w = g_string_new(NULL);

    if (**p == '"') {
        for ((*p)++; **p && **p != '"'; (*p)++) {
            if (**p == '\\' && (*p)[1])
                (*p)++;
            g_string_append_c(w, **p);
        }
        if (**p != '"') {
            g_string_free(w, true);
            error_set(err, ERR_GENERIC, "the closing quote is missing", NULL);
            return NULL;
        }
        (*p)++;
    } else {
        while (**p && !isspace((unsigned char)**p))
            g_string_append_c(w, *(*p)++);
    }
    return g_string_free(w, false);
}

static bool take_typed(struct hmp *h, struct param *pa, const char **p, struct json_object *o, struct error *err)
{
    g_autofree char *word = NULL;
    uint64_t v = 0;
    bool flag;

    switch (pa->kind) {
    case 'i': case 'l':
        if (!hmp_expression(h, p, &v, err))
            return false;
        json_object_object_add(o, pa->name, json_object_new_int64(v));
        return true;
    case 'S':
        json_object_object_add(o, pa->name, json_object_new_string(*p));
        *p += strlen(*p);
        return true;
    case '/':
        if (**p != '/')
            return true;
        (*p)++;
        word = take_word(p, err);
        json_object_object_add(o, pa->name, json_object_new_string(word));
        return true;
    default:
        break;
    }
    word = take_word(p, err);
    if (!word)
        return false;
    switch (pa->kind) {
    case 'M': case 'o':
        if (!parse_size(word, pa->kind == 'M' ? 1 << 20 : 1, &v, err))
            return false;
        json_object_object_add(o, pa->name, json_object_new_int64(v));
        return true;
    case 'b':
        if (!parse_bool(word, &flag, err))
            return false;
        json_object_object_add(o, pa->name, json_object_new_boolean(flag));
        return true;
    default:
        json_object_object_add(o, pa->name, json_object_new_string(word));
        return true;
    }
}

struct json_object *hmp_arguments(struct hmp *h, const char *params, const char *line, struct error *err)
{
    struct json_object *o = json_object_new_object();
    struct param pa;
    bool ok = true;

    while (ok && next_param(&params, &pa)) {
        skip_space(&line);
        if (pa.kind == '-') {
            if (line[0] == '-' && line[1] == pa.name[0] && (!line[2] || isspace((unsigned char)line[2]))) {
                json_object_object_add(o, pa.name + 1, json_object_new_boolean(true));
                line += 2;
            }
        } else if (*line) {
            ok = take_typed(h, &pa, &line, o, err);
            if (!ok && error_is_set(err))
                error_prepend(err, "%s", pa.name);
        } else if (!pa.optional) {
            ok = error_setf(err, ERR_GENERIC, "'help COMMAND' shows what it takes", "'%s' is missing", pa.name);
        }
        g_free(pa.name);
    }
    skip_space(&line);
    if (ok && *line)
        ok = error_setf(err, ERR_GENERIC, "'help COMMAND' shows what it takes", "'%s' is too much", line);
    if (ok)
        return o;
    json_object_put(o);
    return NULL;
}

/* ---- finding and running */

bool hmp_name_matches(const char *names, const char *word)
{
    size_t n = strlen(word);

    for (const char *p = names; *p; p += *p == '|') {
        size_t k = strcspn(p, "|");

        if (k == n && !memcmp(p, word, n))
            return true;
        p += k;
    }
    return false;
}

static const struct hmp_command *const tables[] = { hmp_commands, hmp_block_commands, hmp_memory_commands };

static const struct hmp_command *find_command(const char *word)
{
    for (unsigned t = 0; t < G_N_ELEMENTS(tables); t++)
        for (const struct hmp_command *c = tables[t]; c->name; c++)
            if (hmp_name_matches(c->name, word))
                return c;
    return NULL;
}

/* "name|alias params" of a QMP command that people have too */
static const struct schema_command *find_wrapper(const char *word, const char **params)
{
    for (unsigned i = 0; i < schema_command_count; i++) {
        const char *hmp = schema_commands[i].hmp;
        size_t n = hmp ? strcspn(hmp, " ") : 0;
        g_autofree char *names = hmp ? g_strndup(hmp, n) : NULL;

        if (names && hmp_name_matches(names, word)) {
            *params = hmp + n;
            return &schema_commands[i];
        }
    }
    return NULL;
}

/* Every command's first name. */
static GPtrArray *command_names(void)
{
    GPtrArray *all = g_ptr_array_new_with_free_func(g_free);

    for (unsigned t = 0; t < G_N_ELEMENTS(tables); t++)
        for (const struct hmp_command *c = tables[t]; c->name; c++)
            g_ptr_array_add(all, g_strndup(c->name, strcspn(c->name, "|")));
    for (unsigned i = 0; i < schema_command_count; i++)
        if (schema_commands[i].hmp)
            g_ptr_array_add(all, g_strndup(schema_commands[i].hmp, strcspn(schema_commands[i].hmp, "| ")));
    return all;
}

static void unknown_command(struct hmp *h, const char *word)
{
    g_autoptr(GPtrArray) names = command_names();
    const char *near;

    g_ptr_array_add(names, NULL);
    near = nearest_spelling(word, (const char *const *)names->pdata);
    hmp_printf(h, "unknown command: '%s'\n", word);
    if (near)
        hmp_printf(h, "did you mean '%s'? 'help' lists the commands\n", near);
}

static void run_line(struct hmp *h, const char *line)
{
    struct error err = ERROR_INIT;
    const struct hmp_command *cmd;
    const struct schema_command *wrapper = NULL;
    const char *params = "";
    struct json_object *args;
    size_t n;

    skip_space(&line);
    if (!*line || *line == '#')
        return;
    audit_hmp(line);
    n = strcspn(line, " \t/");
    g_autofree char *word = g_strndup(line, n);

    cmd = find_command(word);
    if (!cmd)
        wrapper = find_wrapper(word, &params);
    if (!cmd && !wrapper) {
        unknown_command(h, word);
        return;
    }
    args = hmp_arguments(h, cmd ? cmd->params : params, line + n, &err);
    if (!args) {
        error_prepend(&err, "%s", word);
        hmp_error(h, &err);
        return;
    }
    if (cmd) {
        cmd->run(h, args);
        json_object_put(args);
    } else {
        hmp_qmp(h, wrapper->name, args, NULL);
    }
}

char *hmp_run(struct vm *vm, const char *line, int cpu)
{
    struct hmp h = { vm, g_string_new(NULL), &cpu };

    run_line(&h, line);
    return g_string_free(h.out, false);
}

/* ---- help */

static char *params_text(const char *params)
{
    GString *out = g_string_new(NULL);
    struct param p;

    while (next_param(&params, &p)) {
        if (p.kind == '-')
            g_string_append_printf(out, " [-%c]", p.name[0]);
        else if (p.kind == '/')
            g_string_append(out, " [/FORMAT]");
        else
            g_string_append_printf(out, p.optional ? " [%s]" : " %s", p.name);
        g_free(p.name);
    }
    return g_string_free(out, false);
}

/* One entry: head and text, on two lines where the head is long */
static char *help_entry(const char *prefix, const char *names, const char *params, const char *text, const char *help)
{
    g_autofree char *made = text && *text ? g_strdup_printf(" %s", text) : params_text(params);
    g_autofree char *head = g_strdup_printf("%s%s%s", prefix, names, made);

    return g_strdup_printf("%-36s%s%s\n", head, strlen(head) > 35 ? "\n                                    " : "", help);
}

static void help_commands(GPtrArray *out, const char *only)
{
    for (unsigned t = 0; t < G_N_ELEMENTS(tables); t++)
        for (const struct hmp_command *c = tables[t]; c->name; c++)
            if (!only || hmp_name_matches(c->name, only))
                g_ptr_array_add(out, help_entry("", c->name, c->params, c->params_text, c->help));
    for (unsigned i = 0; i < schema_command_count; i++) {
        const struct schema_command *c = &schema_commands[i];
        size_t n = c->hmp ? strcspn(c->hmp, " ") : 0;
        g_autofree char *names = g_strndup(c->hmp ? c->hmp : "", n);

        if (c->hmp && (!only || hmp_name_matches(names, only)))
            g_ptr_array_add(out, help_entry("", names, c->hmp + n, NULL, c->summary));
    }
}

static int compare_lines(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void help_info(struct hmp *h)
{
    for (const struct hmp_command *c = hmp_info_commands; c->name; c++) {
        g_autofree char *entry = help_entry("info ", c->name, c->params, c->params_text, c->help);

        hmp_printf(h, "%s", entry);
    }
}

void hmp_help(struct hmp *h, struct json_object *args)
{
    const char *only = option_str(args, "command", NULL);
    g_autoptr(GPtrArray) entries = g_ptr_array_new_with_free_func(g_free);

    if (only && !strncmp(only, "info", 4)) {
        help_info(h);
        return;
    }
    help_commands(entries, only);
    if (!entries->len)
        unknown_command(h, only);
    g_ptr_array_sort(entries, compare_lines);
    for (unsigned i = 0; i < entries->len; i++)
        hmp_printf(h, "%s", (char *)entries->pdata[i]);
}

void hmp_info(struct hmp *h, struct json_object *args)
{
    const char *line = option_str(args, "subcommand", "");
    size_t n = strcspn(line, " \t");
    g_autofree char *word = g_strndup(line, n);
    g_autoptr(GPtrArray) names = NULL;
    const char *near;

    if (!*word) {
        help_info(h);
        return;
    }
    for (const struct hmp_command *c = hmp_info_commands; c->name; c++) {
        struct error err = ERROR_INIT;
        struct json_object *sub;

        if (!hmp_name_matches(c->name, word))
            continue;
        sub = hmp_arguments(h, c->params, line + n, &err);
        if (sub)
            c->run(h, sub);
        else
            hmp_error(h, &err);
        json_object_put(sub);
        return;
    }
    names = g_ptr_array_new_with_free_func(g_free);
    for (const struct hmp_command *c = hmp_info_commands; c->name; c++)
        g_ptr_array_add(names, g_strndup(c->name, strcspn(c->name, "|")));
    g_ptr_array_add(names, NULL);
    near = nearest_spelling(word, (const char *const *)names->pdata);
    hmp_printf(h, "unknown command: 'info %s'\n", word);
    if (near)
        hmp_printf(h, "did you mean 'info %s'? 'info' lists what there is\n", near);
}

/* ---- completion: commands, info's, ids */

static void complete_from(GPtrArray *out, const char *head, const char *part, const char *names)
{
    g_autofree char *first = g_strndup(names, strcspn(names, "|"));

    if (g_str_has_prefix(first, part))
        g_ptr_array_add(out, g_strconcat(head, first, NULL));
}

static void complete_ids(struct vm *vm, GPtrArray *out, const char *head, const char *part)
{
    for (struct device *d = vm->devices; d; d = d->next)
        if (d->id && g_str_has_prefix(d->id, part))
            g_ptr_array_add(out, g_strconcat(head, d->id, NULL));
}

static void complete_drivers(GPtrArray *out, const char *head, const char *part)
{
    unsigned n;
    const struct device_class *const *all = device_classes(&n);

    for (unsigned i = 0; i < n; i++)
        if (all[i]->user_creatable && g_str_has_prefix(all[i]->name, part))
            g_ptr_array_add(out, g_strconcat(head, all[i]->name, NULL));
}

GPtrArray *hmp_complete(struct vm *vm, const char *line)
{
    GPtrArray *out = g_ptr_array_new_with_free_func(g_free);
    const char *space = strrchr(line, ' '), *part = space ? space + 1 : line;
    g_autofree char *head = g_strndup(line, part - line);

    if (!space || !strcmp(head, "help ")) {
        g_autoptr(GPtrArray) names = command_names();

        for (unsigned i = 0; i < names->len; i++)
            complete_from(out, head, part, names->pdata[i]);
    } else if (!strcmp(head, "info ")) {
        for (const struct hmp_command *c = hmp_info_commands; c->name; c++)
            complete_from(out, head, part, c->name);
    } else if (!strcmp(head, "device_add ")) {
        complete_drivers(out, head, part);
    } else {
        complete_ids(vm, out, head, part);
    }
    g_ptr_array_sort(out, compare_lines);
    return out;
}

/* ---- a session */

static void session_print(void *opaque, const char *text, size_t len)
{
    monitor_put(opaque, text, len);
}

static void session_line(void *opaque, const char *line)
{
    struct monitor *mon = opaque;
    struct hmp h = { mon->vm, g_string_new(NULL), &mon->cpu };
    g_auto(GStrv) lines = NULL;
    g_autofree char *text = NULL;

    if (!strcmp(line, "info history")) {
        for (unsigned i = 0; readline_history(mon->rl, i); i++)
            hmp_printf(&h, "%u: '%s'\n", i, readline_history(mon->rl, i));
    } else {
        run_line(&h, line);
    }
    lines = g_strsplit(h.out->str, "\n", -1);
    text = g_strjoinv("\r\n", lines);
    monitor_put(mon, text, strlen(text));
    g_string_free(h.out, true);
}

static GPtrArray *session_complete(void *opaque, const char *line)
{
    return hmp_complete(((struct monitor *)opaque)->vm, line);
}

static void session_greet(struct monitor *mon)
{
    static const char banner[] = "QEMU " COMPAT_VERSION " monitor - type 'help' for more information (Rhea "
                                 RHEA_VERSION ")\r\n";

    if (!mon->greeted)
        monitor_put(mon, banner, sizeof(banner) - 1);
    mon->greeted = true;
    readline_prompt(mon->rl);
}

static void session_event(void *opaque, enum chardev_event ev)
{
    struct monitor *mon = opaque;

    if (!mon->rl)
        mon->rl = readline_new(session_print, session_line, session_complete, mon);
    switch (ev) {
    case CHR_OPENED:
        readline_reset(mon->rl);
        mon->greeted = false;
        if (chardev_has_focus(mon->fe))
            session_greet(mon);
        break;
    case CHR_MUX_IN:
        if (mon->greeted || chardev_connected(mon->fe)) {
            monitor_put(mon, "\r\n", 2);
            session_greet(mon);
        }
        break;
    case CHR_CLOSED:
        g_string_truncate(mon->out, 0);
        break;
    default:
        break;
    }
}

static size_t session_can_read(void *opaque)
{
    struct monitor *mon = opaque;

    return mon->out->len < MONITOR_OUT_STALL ? 4096 : 0;
}

static void session_read(void *opaque, const uint8_t *buf, size_t len)
{
    struct monitor *mon = opaque;

    for (size_t i = 0; i < len && mon->rl; i++)
        readline_byte(mon->rl, buf[i]);
}

void hmp_session_free(struct monitor *mon)
{
    readline_free(mon->rl);
    mon->rl = NULL;
}

const struct chardev_fe_ops hmp_ops = { .can_read = session_can_read, .read = session_read, .event = session_event };
