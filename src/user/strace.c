/* -strace: a line a system call, arguments by their kinds, as strace(1) prints them. */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "rhea/base/log.h"
#include "user/syscall.h"

enum { STRING_SHOWN = 64, LINE_BYTES = 1024 };

static __thread char line[LINE_BYTES];
static __thread size_t line_len;

static void add(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
static void add(const char *fmt, ...)
{
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(line + line_len, LINE_BYTES - line_len, fmt, ap);
    va_end(ap);
    line_len = MIN(line_len + MAX(n, 0), LINE_BYTES - 1);
}

static void add_text(struct thread *t, uint64_t va, size_t n, bool more)
{
    uint8_t text[STRING_SHOWN];

    if (guest_read(t, text, va, n)) {
        add("%#" PRIx64, va);
        return;
    }
    add("\"");
    for (size_t k = 0; k < n; k++)
        switch (text[k]) {
        case '\n': add("\\n"); break;
        case '\t': add("\\t"); break;
        case '"': case '\\': add("\\%c", text[k]); break;
        default: add(text[k] >= ' ' && text[k] < 127 ? "%c" : "\\%o", text[k]);
        }
    add(more ? "\"..." : "\"");
}

static void add_string(struct thread *t, uint64_t va)
{
    int64_t n = va ? guest_strlen(t, va, PATH_BYTES) : -EFAULT;

    if (!va)
        add("NULL");
    else if (n < 0)
        add("%#" PRIx64, va);
    else
        add_text(t, va, MIN(n, STRING_SHOWN), n > STRING_SHOWN);
}

static const struct { int bit; const char *name; } open_names[] = {
    { O_CREAT, "O_CREAT" }, { O_EXCL, "O_EXCL" }, { O_NOCTTY, "O_NOCTTY" }, { O_TRUNC, "O_TRUNC" }, { O_APPEND, "O_APPEND" },
    { O_NONBLOCK, "O_NONBLOCK" }, { O_SYNC, "O_SYNC" }, { O_DIRECT, "O_DIRECT" }, { 0100000, "O_LARGEFILE" },
    { O_DIRECTORY, "O_DIRECTORY" }, { O_NOFOLLOW, "O_NOFOLLOW" }, { O_CLOEXEC, "O_CLOEXEC" }, { O_PATH, "O_PATH" },
};

static void add_open_flags(struct thread *t, int flags)
{
    flags = open_flags_to_host(t->abi, flags);
    add("%s", (flags & O_ACCMODE) == O_RDONLY ? "O_RDONLY" : (flags & O_ACCMODE) == O_WRONLY ? "O_WRONLY" : "O_RDWR");
    for (unsigned n = 0; n < G_N_ELEMENTS(open_names); n++)
        if ((flags & open_names[n].bit) == open_names[n].bit)
            add("|%s", open_names[n].name);
}

static void add_request(struct thread *t, uint32_t request)
{
    const char *name = ioctl_name(t->abi, request);

    if (name)
        add("%s", name);
    else
        add("%#" PRIx32, request);
}

static void add_arg(struct thread *t, const struct call *c, unsigned n, const uint64_t *a)
{
    uint64_t v = a[n];

    switch (c->arg[n] & ARG_KIND_MASK) {
    case ARG_INT: case ARG_FD: add("%d", (int)v); break;
    case ARG_ATFD:
        if ((int)v == AT_FDCWD)
            add("AT_FDCWD");
        else
            add("%d", (int)v);
        break;
    case ARG_UINT: add("%u", (unsigned)v); break;
    case ARG_LONG: add("%" PRId64, is_32bit(t) ? (int64_t)(int32_t)v : (int64_t)v); break;
    case ARG_ULONG: add("%" PRIu64, v); break;
    case ARG_MODE: add("%#o", (unsigned)v); break;
    case ARG_STR: case ARG_PATH: case ARG_NEWPATH: add_string(t, v); break;
    case ARG_OFLAGS: add_open_flags(t, v); break;
    case ARG_REQUEST: add_request(t, v); break;
    case ARG_SIGNAL: add("SIG%s", (int)v > 0 && (int)v < 32 && sigabbrev_np(v) ? sigabbrev_np(v) : "?"); break;
    case ARG_BUF:
        if (v && n < 5) {
            add_text(t, v, MIN(a[n + 1], STRING_SHOWN), a[n + 1] > STRING_SHOWN);
            break;
        }
        /* fall through */
    default:
        if (v)
            add("%#" PRIx64, v);
        else
            add((c->arg[n] & ARG_KIND_MASK) == ARG_HEX ? "0" : "NULL");
    }
}

/* Shown before they are made. */
static bool may_not_return(const struct call *c)
{
    static const unsigned which[] = { CALL_exit, CALL_exit_group, CALL_execve, CALL_execveat, CALL_kill, CALL_tkill, CALL_tgkill };

    for (unsigned n = 0; n < G_N_ELEMENTS(which); n++)
        if (c == &calls[which[n]])
            return true;
    return false;
}

void strace_enter(struct thread *t, const struct call *c, uint64_t nr, const uint64_t *a)
{
    line_len = 0;
    add("%d ", t->tid);
    if (c == &calls[CALL_NONE])
        add("call_%" PRIu64, nr);
    else
        add("%s", c->name);
    add("(");
    for (unsigned n = 0; n < 6 && c->arg[n]; n++) {
        if (n)
            add(",");
        add_arg(t, c, n, a);
    }
    add(")");
    if (may_not_return(c)) {
        size_t len = line_len;

        add("\n");
        log_write(line, line_len);
        line_len = len;
    }
}

void strace_leave(struct thread *t, const struct call *c, int64_t r)
{
    if (r == USER_RESTART)
        add(" = ? ERESTARTSYS");
    else if (r == USER_NORESULT)
        add(" = ?");
    else if (r < 0 && r >= -4095)
        add(" = -1 errno=%d %s (%s)", (int)-r, strerrorname_np(-r) ? strerrorname_np(-r) : "?", strerror(-r));
    else
        add(r > 9999 || r < 0 ? " = %#" PRIx64 : " = %" PRId64, is_32bit(t) ? (int64_t)(uint32_t)r : r);
    add("\n");
    log_write(line, line_len);
}
