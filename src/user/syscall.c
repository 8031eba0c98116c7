/* From a guest's system call to its row, and through it to the host's kernel. */
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/uio.h>
#include "rhea/base/log.h"
#include "user/seccomp.h"
#include "user/syscall.h"

/* A name has an empty row at first, which that of syscalls.def overrides. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverride-init"
#define NARG_LIST(...) { __VA_ARGS__ }
const struct call calls[CALL_COUNT] = {
    [CALL_NONE] = { "?" },
#define NR(id, ...) [CALL_##id] = { .name = #id },
#include "user/syscall_numbers.def"
#undef NR
#define PASS(id, host_name, ...) [CALL_##id] = { #id, NULL, HOST_##host_name, NARG_LIST(__VA_ARGS__), true },
#define CALL(id, function, ...) [CALL_##id] = { #id, sys_##function, HOST_##id, NARG_LIST(__VA_ARGS__), true },
#define MISSING(id) [CALL_##id] = { .name = #id },
#include "user/syscalls.def"
#undef PASS
#undef CALL
#undef MISSING
};
#pragma GCC diagnostic pop

/* Numbers of each guest to calls: the common ones by index, Arm's private ones by search. */
enum { NUMBER_MAX = 512 };
static uint16_t numbers[ABI_COUNT][NUMBER_MAX];
static const struct { int32_t nr[ABI_COUNT]; } number_rows[CALL_COUNT] = {
#define NR(id, x86_64, i386, arm, aarch64, riscv64, riscv32) \
    [CALL_##id] = { { [ABI_X86_64] = x86_64, [ABI_I386] = i386, [ABI_ARM] = arm, [ABI_AARCH64] = aarch64, \
                      [ABI_RISCV64] = riscv64, [ABI_RISCV32] = riscv32 } },
#include "user/syscall_numbers.def"
#undef NR
};

void syscall_init(const struct abi *abi)
{
    enum abi_column column = abi->column;

    for (unsigned id = 1; id < CALL_COUNT; id++) {
        int32_t nr = number_rows[id].nr[column];

        if (nr >= 0 && nr < NUMBER_MAX && (!numbers[column][nr] || calls[id].known))
            numbers[column][nr] = id;
    }
}

int32_t syscall_number(const struct abi *abi, enum call_id id) { return number_rows[id].nr[abi->column]; }

static enum call_id call_find(const struct abi *abi, uint64_t nr)
{
    if (nr < NUMBER_MAX)
        return numbers[abi->column][nr];
    for (unsigned id = 1; id < CALL_COUNT; id++)
        if (nr <= INT32_MAX && number_rows[id].nr[abi->column] == (int32_t)nr)
            return id;
    return CALL_NONE;
}

/* ---- memory */

void *user_ptr(struct thread *t, uint64_t va, size_t n)
{
    void *p;

    if (!va)
        return NULL;
    p = guest_host(t->process->engine, va, n);
    return p ? p : (void *)-1;
}

void *user_ptr_write(struct thread *t, uint64_t va, size_t n)
{
    void *p;

    if (!va)
        return NULL;
    p = guest_host_write(t->process->engine, va, n);
    return p ? p : (void *)-1;
}

int user_get(struct thread *t, enum layout l, void *host, uint64_t va)
{
    uint8_t raw[LAYOUT_MAX];
    const struct abi *abi = t->abi;
    int r = guest_read(t, raw, va, layout_size(abi, l));

    if (!r)
        layout_to_host(abi, l, host, raw);
    return r;
}

int user_put(struct thread *t, enum layout l, uint64_t va, const void *host)
{
    uint8_t raw[LAYOUT_MAX];
    const struct abi *abi = t->abi;

    layout_to_guest(abi, l, raw, host);
    return guest_write(t, va, raw, layout_size(abi, l));
}

uint64_t user_arg64(struct thread *t, const uint64_t *a, unsigned *n)
{
    uint64_t v;

    if (!is_32bit(t))
        return a[(*n)++];
    if (t->abi->pairs_even)
        *n += *n & 1;
    if (*n > 4)
        return 0;
    v = a[*n] | a[*n + 1] << 32;
    *n += 2;
    return v;
}

struct iovec *user_iovec(struct thread *t, uint64_t va, uint64_t count, bool write, int64_t *r)
{
    unsigned word = t->abi->bits / 8;
    g_autofree uint64_t *raw = NULL;
    struct iovec *v;

    if (count > IOV_MAX) {
        *r = -EINVAL;
        return NULL;
    }
    raw = g_malloc(MAX(count * 2 * word, 1));
    *r = guest_read(t, raw, va, count * 2 * word);
    if (count && *r < 0)
        return NULL;
    v = g_new0(struct iovec, count + 1);
    for (uint64_t n = 0; n < count; n++) {
        uint64_t base = word == 8 ? raw[2 * n] : ((uint32_t *)raw)[2 * n];
        uint64_t len = word == 8 ? raw[2 * n + 1] : ((uint32_t *)raw)[2 * n + 1];

        if (word == 4 && (int32_t)len < 0) {
            g_free(v);
            *r = -EINVAL;
            return NULL;
        }
        v[n].iov_base = write ? user_ptr_write(t, base, len) : user_ptr(t, base, len);
        v[n].iov_len = len;
    }
    *r = 0;
    return v;
}

int user_path(struct thread *t, uint64_t va, bool existing, char buf[PATH_BYTES])
{
    struct process *p = t->process;
    int64_t n = guest_strlen(t, va, PATH_BYTES - 1);

    if (n < 0)
        return n;
    if (guest_read(t, buf, va, n))
        return -EFAULT;
    buf[n] = 0;
    if (!existing || buf[0] != '/')
        return 0;
    if (!strncmp(buf, "/proc/", 6) || !strncmp(buf, "/dev/", 5) || !strncmp(buf, "/sys/", 5)) {     /* never below -L */
        if (p->exe && procfs_is_exe(t, buf))
            g_strlcpy(buf, p->exe, PATH_BYTES);
    } else if (p->options->prefix) {
        g_autofree char *full = g_strconcat(p->options->prefix, buf, NULL);

        /* The host's cache of libraries names some that do not belong to a dynamic linker from below -L: it is as if there were none. */
        if (strlen(full) < PATH_BYTES && (faccessat(AT_FDCWD, full, F_OK, AT_SYMLINK_NOFOLLOW) == 0
                                          || (p->interp_in_prefix && !strcmp(buf, "/etc/ld.so.cache"))))
            strcpy(buf, full);
    }
    return 0;
}

size_t user_pack(const struct abi *abi, const char *fields, const uint64_t *values, uint8_t *out)
{
    size_t at = 0, max = 1;
    unsigned count = 0;

    for (; *fields; fields++) {
        unsigned size = *fields == 'b' ? 1 : strchr("hH", *fields) ? 2 : strchr("iI", *fields) ? 4 : strchr("qQ", *fields) ? 8
            : abi->bits / 8;
        unsigned align = size == 8 ? abi->align64 : size;

        if (*fields >= '0' && *fields <= '9') {
            count = count * 10 + (*fields - '0');
            continue;
        }
        max = MAX(max, align);
        for (count = MAX(count, 1); count; count--) {
            size_t to = (at + align - 1) & -(size_t)align;

            memset(out + at, 0, to - at);
            memcpy(out + to, values++, size);
            at = to + size;
        }
    }
    while (at % max)
        out[at++] = 0;
    return at;
}

/* ---- to the host's kernel */

/* Arguments as the host wants them. Structures are converted in `buf`, a part for each argument. */
struct host_args {
    uint64_t v[6];
    struct { uint8_t bytes[6][LAYOUT_MAX]; char path[2][PATH_BYTES]; } buf;
};

static bool needs_path(const struct thread *t, uint64_t va)
{
    return va && (t->process->options->prefix || t->process->exe);
}

static int arg_to_host(struct thread *t, const struct call *c, const uint64_t *a, unsigned n, struct host_args *h, unsigned *paths)
{
    uint64_t v = a[n];
    unsigned kind = c->arg[n] & ARG_KIND_MASK, l = c->arg[n] >> 8;
    const struct abi *abi = t->abi;

    switch (kind) {
    case ARG_INT: case ARG_FD: case ARG_ATFD: case ARG_SIGNAL:
        h->v[n] = (int32_t)v;
        return 0;
    case ARG_UINT: case ARG_MODE:
        h->v[n] = (uint32_t)v;
        return 0;
    case ARG_OFLAGS:
        h->v[n] = open_flags_to_host(abi, v);
        return 0;
    case ARG_LONG:
        h->v[n] = is_32bit(t) ? (uint64_t)(int32_t)v : v;
        return 0;
    case ARG_PTR:
        h->v[n] = (uint64_t)user_ptr(t, v, 1);
        return 0;
    case ARG_PTRW:
        h->v[n] = (uint64_t)user_ptr_write(t, v, PTRW_BYTES);
        if (h->v[n] == UINT64_MAX)
            h->v[n] = (uint64_t)user_ptr(t, v, 1);
        return 0;
    case ARG_BUF:
        h->v[n] = (uint64_t)user_ptr(t, v, n < 5 ? a[n + 1] : 0);
        return 0;
    case ARG_BUFW:
        h->v[n] = (uint64_t)user_ptr_write(t, v, n < 5 ? a[n + 1] : 0);
        return 0;
    case ARG_STR:
        h->v[n] = (uint64_t)user_ptr(t, v, 1);
        return 0;
    case ARG_PATH: case ARG_NEWPATH:
        if (kind == ARG_PATH && needs_path(t, v) && *paths < 2) {
            char *path = h->buf.path[*paths];
            int r = user_path(t, v, true, path);

            (*paths)++;
            h->v[n] = (uint64_t)path;
            return r;
        }
        h->v[n] = (uint64_t)user_ptr(t, v, 1);
        return 0;
    case ARG_IN: case ARG_OUT: case ARG_INOUT:
        if (!v || layout_same(abi, l)) {
            h->v[n] = (uint64_t)(kind == ARG_IN ? user_ptr(t, v, layout_size(abi, l)) : user_ptr_write(t, v, layout_size(abi, l)));
            return 0;
        }
        h->v[n] = (uint64_t)h->buf.bytes[n];
        return kind == ARG_OUT ? 0 : user_get(t, l, h->buf.bytes[n], v);
    default:
        h->v[n] = v;
        return 0;
    }
}

int64_t call_host(struct thread *t, const struct call *c, const uint64_t *a)
{
    const struct abi *abi = t->abi;
    struct host_args h;
    unsigned paths = 0;
    int64_t r;

    memset(h.v, 0, sizeof(h.v));
    for (unsigned n = 0; n < 6 && c->arg[n]; n++) {
        int e = arg_to_host(t, c, a, n, &h, &paths);

        if (e < 0)
            return e;
    }
    if (c->host < 0)
        return -ENOSYS;
    r = user_safe_syscall(t, c->host, h.v[0], h.v[1], h.v[2], h.v[3], h.v[4], h.v[5]);
    if (r < 0)
        return r;
    for (unsigned n = 0; n < 6 && c->arg[n]; n++) {
        unsigned kind = c->arg[n] & ARG_KIND_MASK, l = c->arg[n] >> 8;

        if ((kind == ARG_OUT || kind == ARG_INOUT) && a[n] && !layout_same(abi, l) && user_put(t, l, a[n], h.buf.bytes[n]))
            return -EFAULT;
    }
    return r;
}

/* ---- the call */

static void missing(struct thread *t, const struct call *c, uint64_t nr)
{
    static uint8_t told[CALL_COUNT];
    unsigned id = c - calls;

    if (!log_enabled(LOG_UNIMP) || __atomic_exchange_n(&told[id], 1, __ATOMIC_RELAXED))
        return;
    if (id == CALL_NONE)
        log_printf("%s: no system call has the number %" PRIu64 "\n", t->process->guest->name, nr);
    else
        log_printf("%s: system call %s is not implemented\n", t->process->guest->name, c->name);
}

int64_t call_run(struct thread *t, enum call_id id, const uint64_t *a)
{
    const struct call *c = &calls[id];

    return c->fn ? c->fn(t, a) : c->known ? call_host(t, c, a) : -ENOSYS;
}

int64_t user_syscall(struct thread *t)
{
    struct process *p = t->process;
    uint64_t nr = p->guest->syscall_number(t->cpu), a[6];
    const struct abi *abi = t->abi = p->compat_abi && p->guest->syscall_is_compat(t->cpu) ? p->compat_abi : p->abi;
    const struct call *c = &calls[call_find(abi, abi->bits == 32 ? (uint32_t)nr : nr)];
    int64_t r;

    p->guest->syscall_args(t->cpu, a);
    if (abi->bits == 32)
        for (unsigned n = 0; n < 6; n++)
            a[n] = (uint32_t)a[n];
    if (p->options->strace)
        strace_enter(t, c, nr, a);
    if (!c->known)
        missing(t, c, nr);
    if (!seccomp_active(t) || seccomp_check(t, c - calls, nr, a, &r))
        r = call_run(t, c - calls, a);
    if (p->options->strace)
        strace_leave(t, c, r);
    return r;
}
