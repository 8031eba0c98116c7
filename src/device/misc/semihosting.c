/* Semihosting: the operations. Arm, "Semihosting for AArch32 and AArch64" 2.0, chapter "semihosting operations"; RISC-V takes
 * them over. Whatever a guest passes, a call ends in a result; what would wait for the host is tried again (base.call). */
#include <errno.h>
#include <glib.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "rhea/base/log.h"
#include "rhea/base/options.h"
#include "rhea/device/semihosting.h"
#include "semihosting.h"

enum { MAX_PATH = 4096, MAX_TEXT = 1 << 20, PIECE = 64 << 10, MAX_TRANSFER = 64 << 20 };
enum { APPLICATION_EXIT = 0x20026 };    /* ADP_Stopped_ApplicationExit */
#define NS_PER_SECOND INT64_C(1000000000)

struct call {
    struct sh *s;
    struct cpu *cpu;
    unsigned word;
    uint64_t arg;               /* the register: for most a pointer to the words of `a` */
    uint64_t a[4];
    uint64_t result;
};
#define FAILED UINT64_MAX

static bool done(struct call *c, uint64_t result)
{
    c->result = result;
    return true;
}

static bool failed(struct call *c, int error)
{
    c->s->error = error;
    return done(c, FAILED);
}

static char *path_of(struct call *c, uint64_t va, uint64_t len)
{
    char *path = sh_string(c->cpu, va, len, MAX_PATH);

    if (!path)
        c->s->error = len > MAX_PATH ? ENAMETOOLONG : EFAULT;
    return path;
}

/* ---- files */

static bool op_open(struct call *c)
{
    g_autofree char *path = path_of(c, c->a[0], c->a[2]);

    return done(c, path ? (uint64_t)(int64_t)sh_open(c->s, path, (unsigned)MIN(c->a[1], 255)) : FAILED);
}

static bool op_close(struct call *c) { return done(c, sh_close(c->s, c->a[0]) ? 0 : FAILED); }

static struct sh_partial *partial(struct call *c)
{
    struct sh_partial *p = &c->s->partial[(unsigned)c->cpu->index % G_N_ELEMENTS(c->s->partial)];

    if (p->cpu != c->cpu || p->pc != c->cpu->pc || p->arg != c->arg)
        *p = (struct sh_partial){ c->cpu, c->cpu->pc, c->arg, 0 };
    return p;
}

/* *left: what was not written. h NULL: the console, for debugging output. false: it waits. */
static bool write_out(struct call *c, struct sh_handle *h, uint64_t va, uint64_t len, uint64_t *left)
{
    struct sh_partial *p = partial(c);
    g_autofree uint8_t *buf = g_malloc(PIECE);
    uint64_t most = MIN(len, MAX_TRANSFER);

    while (p->done < most) {
        size_t n = MIN(most - p->done, PIECE);
        ssize_t got;

        if (!sh_get(c->cpu, va + p->done, buf, n)) {
            c->s->error = EFAULT;
            break;
        }
        got = h ? sh_write(c->s, h, buf, n) : sh_console_write(c->s, buf, n, STDERR_FILENO);
        if (got == SH_AGAIN)
            return false;
        if (got <= 0)
            break;
        p->done += (uint64_t)got;
    }
    *left = len - MIN(p->done, len);
    p->cpu = NULL;
    return true;
}

static bool op_write(struct call *c)
{
    struct sh_handle *h = sh_handle(c->s, c->a[0]);

    if (!h)
        return done(c, c->a[2]);
    return write_out(c, h, c->a[1], c->a[2], &c->result);
}

static bool op_writec(struct call *c)
{
    uint64_t left;

    return write_out(c, NULL, c->arg, 1, &left);
}

static bool op_write0(struct call *c)
{
    g_autofree char *text = sh_string(c->cpu, c->arg, UINT64_MAX, MAX_TEXT);
    uint64_t left;

    return !text || write_out(c, NULL, c->arg, strlen(text), &left);
}

/* The result is what is missing: all of it at the end of the file. */
static bool op_read(struct call *c)
{
    struct sh_handle *h = sh_handle(c->s, c->a[0]);
    uint64_t have = 0, most = MIN(c->a[2], MAX_TRANSFER);
    g_autofree uint8_t *buf = NULL;

    if (!h)
        return done(c, c->a[2]);
    buf = g_malloc(PIECE);
    while (have < most) {
        size_t n = MIN(most - have, PIECE);
        ssize_t got;

        /* A bad pointer is found before the input is gone. */
        if (!sh_get(c->cpu, c->a[1] + have, buf, n)) {
            c->s->error = EFAULT;
            break;
        }
        got = sh_read(c->s, h, buf, n);
        if (got == SH_AGAIN && !have)
            return false;
        if (got <= 0)
            break;
        if (!sh_put(c->cpu, c->a[1] + have, buf, (size_t)got)) {
            c->s->error = EFAULT;
            break;
        }
        have += (uint64_t)got;
        if (h->kind == SH_CONSOLE)
            break;
    }
    return done(c, c->a[2] - have);
}

static bool op_readc(struct call *c)
{
    uint8_t byte;
    ssize_t got = sh_console_read(c->s, &byte, 1);

    return got != SH_AGAIN && done(c, got == 1 ? byte : FAILED);
}

static bool op_iserror(struct call *c)
{
    int64_t status = c->word == 4 ? (int32_t)c->a[0] : (int64_t)c->a[0];

    return done(c, status < 0);
}

static bool op_istty(struct call *c)
{
    struct sh_handle *h = sh_handle(c->s, c->a[0]);

    return done(c, h ? (uint64_t)sh_is_tty(c->s, h) : FAILED);
}

static bool op_seek(struct call *c)
{
    struct sh_handle *h = sh_handle(c->s, c->a[0]);

    return done(c, h && sh_seek(c->s, h, c->a[1]) ? 0 : FAILED);
}

static bool op_flen(struct call *c)
{
    struct sh_handle *h = sh_handle(c->s, c->a[0]);
    int64_t n = h ? sh_length(c->s, h) : -1;

    /* A length that the guest's word does not hold is no length. */
    return n >= 0 && c->word == 4 && n > INT32_MAX ? failed(c, EOVERFLOW) : done(c, (uint64_t)n);
}

static bool op_tmpnam(struct call *c)
{
    g_autofree char *name = NULL;

    if (c->a[1] > 255)
        return failed(c, EINVAL);
    name = g_strdup_printf("%s/rhea-%d-%u", g_get_tmp_dir(), (int)getpid(), (unsigned)c->a[1]);
    if (strlen(name) >= c->a[2])
        return failed(c, ENAMETOOLONG);
    return sh_put(c->cpu, c->a[0], name, strlen(name) + 1) ? done(c, 0) : failed(c, EFAULT);
}

static bool op_remove(struct call *c)
{
    g_autofree char *path = path_of(c, c->a[0], c->a[1]);

    if (!path)
        return done(c, FAILED);
    return remove(path) ? failed(c, errno) : done(c, 0);
}

static bool op_rename(struct call *c)
{
    g_autofree char *from = path_of(c, c->a[0], c->a[1]);
    g_autofree char *to = from ? path_of(c, c->a[2], c->a[3]) : NULL;

    if (!to)
        return done(c, FAILED);
    return rename(from, to) ? failed(c, errno) : done(c, 0);
}

/* ---- time */

static int64_t elapsed(struct call *c) { return vm_clock_ns(c->s->vm) - c->s->started; }
static bool op_clock(struct call *c) { return done(c, (uint64_t)(elapsed(c) / (NS_PER_SECOND / 100))); }
static bool op_time(struct call *c) { return done(c, (uint64_t)(vm_rtc_ns(c->s->vm) / NS_PER_SECOND)); }
static bool op_tickfreq(struct call *c) { return done(c, NS_PER_SECOND); }

static bool op_elapsed(struct call *c)
{
    uint64_t ticks = (uint64_t)elapsed(c);

    return sh_put(c->cpu, c->arg, &ticks, 8) ? done(c, 0) : failed(c, EFAULT);
}

/* ---- the system */

static bool op_errno(struct call *c) { return done(c, (uint64_t)c->s->error); }

static bool start_program(struct sh *s, const char *command)
{
    char *argv[] = { (char *)"sh", (char *)"-c", (char *)command, NULL };
    posix_spawnattr_t attr;
    sigset_t none;
    int status;

    sigemptyset(&none);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
    status = posix_spawn(&s->child, "/bin/sh", NULL, &attr, argv, environ);
    posix_spawnattr_destroy(&attr);
    if (status) {
        s->child = 0;
        s->error = status;
    }
    return !status;
}

static void sleep_unlocked(struct sh *s)
{
    pthread_mutex_unlock(&s->lock);
    g_usleep(SH_WAIT_MS * 1000);
    pthread_mutex_lock(&s->lock);
}

/* One program at a time, whose end is waited for. */
static bool op_system(struct call *c)
{
    struct sh *s = c->s;
    int status = 0;
    pid_t ended;

    if (!s->may_spawn)
        return failed(c, EPERM);
    if (!s->child) {
        g_autofree char *command = sh_string(c->cpu, c->a[0], c->a[1], MAX_TEXT);

        if (!command)
            return failed(c, EFAULT);
        if (!start_program(s, command))
            return done(c, FAILED);
        s->child_of = c->cpu;
    }
    ended = s->child_of == c->cpu ? waitpid(s->child, &status, WNOHANG) : 0;
    if (!ended) {
        sleep_unlocked(s);
        return false;
    }
    s->child = 0;
    if (ended < 0)
        return failed(c, errno);
    return done(c, WIFEXITED(status) ? (uint64_t)WEXITSTATUS(status) : 128 + (uint64_t)WTERMSIG(status));
}

/* The block's length is given and, with the line in place, becomes the line's. */
static bool op_get_cmdline(struct call *c)
{
    uint64_t len = strlen(c->s->cmdline);

    if (c->a[1] <= len)
        return failed(c, E2BIG);
    if (!sh_put(c->cpu, c->a[0], c->s->cmdline, len + 1) || !sh_put(c->cpu, c->arg + c->word, &len, c->word))
        return failed(c, EFAULT);
    return done(c, 0);
}

/* Heap from behind the program (0: the program knows where it ends), stack from the top: of the RAM that holds the block. */
static bool op_heapinfo(struct call *c)
{
    struct vm *vm = c->s->vm;
    const struct mem_range *r;
    struct mmu_result at = { 0 };
    uint64_t end = 0, pointer = 0;
    uint8_t block[4 * 8] = { 0 };
    unsigned token;

    if (!sh_get(c->cpu, c->arg, &pointer, c->word) ||
        !vm->guest->translate(c->cpu, pointer, ACCESS_READ, vm->guest->mmu_index(c->cpu, false), true, &at)) {
        c->cpu->exception = -1;
        return failed(c, EFAULT);
    }
    token = mem_read_begin();
    r = address_space_lookup(&vm->memory, at.phys);
    if (r && r->mr->kind == MEMK_RAM)
        end = pointer + (r->end - at.phys) + 1;
    mem_read_end(token);
    memcpy(block + c->word, &end, c->word);
    memcpy(block + 2 * c->word, &end, c->word);
    return sh_put(c->cpu, pointer, block, 4 * c->word) ? done(c, 0) : failed(c, EFAULT);
}

static bool finish(struct call *c, uint64_t reason, uint64_t status)
{
    vm_request_stop(c->s->vm, STOP_POWEROFF, reason != APPLICATION_EXIT ? 1 : (int)(status & 0xff));
    sleep_unlocked(c->s);
    return false;               /* there is nothing behind it */
}

/* AArch64 and RV64 pass a block of reason and status, 32-bit programs the reason alone. */
static bool op_exit(struct call *c)
{
    if (c->word == 4)
        return finish(c, c->arg, 0);
    if (!sh_get(c->cpu, c->arg, c->a, 16))
        return failed(c, EFAULT);
    return finish(c, c->a[0], c->a[1]);
}

static bool op_exit_extended(struct call *c) { return finish(c, c->a[0], c->a[1]); }

/* ---- dispatch */

static const struct operation {
    const char *name;
    unsigned words;             /* of the argument block, read before; 0: the register is the argument */
    bool (*run)(struct call *c);        /* false: it waits. Leaves the register alone where it sets no result */
} operations[] = {
    [0x01] = { "SYS_OPEN", 3, op_open },
    [0x02] = { "SYS_CLOSE", 1, op_close },
    [0x03] = { "SYS_WRITEC", 0, op_writec },
    [0x04] = { "SYS_WRITE0", 0, op_write0 },
    [0x05] = { "SYS_WRITE", 3, op_write },
    [0x06] = { "SYS_READ", 3, op_read },
    [0x07] = { "SYS_READC", 0, op_readc },
    [0x08] = { "SYS_ISERROR", 1, op_iserror },
    [0x09] = { "SYS_ISTTY", 1, op_istty },
    [0x0a] = { "SYS_SEEK", 2, op_seek },
    [0x0c] = { "SYS_FLEN", 1, op_flen },
    [0x0d] = { "SYS_TMPNAM", 3, op_tmpnam },
    [0x0e] = { "SYS_REMOVE", 2, op_remove },
    [0x0f] = { "SYS_RENAME", 4, op_rename },
    [0x10] = { "SYS_CLOCK", 0, op_clock },
    [0x11] = { "SYS_TIME", 0, op_time },
    [0x12] = { "SYS_SYSTEM", 2, op_system },
    [0x13] = { "SYS_ERRNO", 0, op_errno },
    [0x15] = { "SYS_GET_CMDLINE", 2, op_get_cmdline },
    [0x16] = { "SYS_HEAPINFO", 0, op_heapinfo },
    [0x18] = { "SYS_EXIT", 0, op_exit },
    [0x20] = { "SYS_EXIT_EXTENDED", 2, op_exit_extended },
    [0x30] = { "SYS_ELAPSED", 0, op_elapsed },
    [0x31] = { "SYS_TICKFREQ", 0, op_tickfreq },
};

static bool get_words(struct call *c, unsigned count)
{
    uint8_t raw[sizeof(c->a)];

    if (!sh_get(c->cpu, c->arg, raw, count * c->word))
        return false;
    for (unsigned n = 0; n < count; n++)
        memcpy(&c->a[n], raw + n * c->word, c->word);
    return true;
}

static bool sh_call(struct semihosting *base, struct cpu *cpu, unsigned word, uint32_t op, uint64_t arg, uint64_t *result)
{
    struct sh *s = (struct sh *)base;
    const struct operation *o = op < G_N_ELEMENTS(operations) && operations[op].run ? &operations[op] : NULL;
    struct call c = { .s = s, .cpu = cpu, .word = word, .arg = arg, .result = *result };
    bool ended;

    pthread_mutex_lock(&s->lock);
    if (!o) {
        if (log_enabled(LOG_UNIMP))
            log_printf("semihosting: operation %#x is not there\n", op);
        ended = failed(&c, ENOSYS);
    } else if (o->words && !get_words(&c, o->words)) {
        ended = failed(&c, EFAULT);
    } else {
        ended = o->run(&c);
    }
    pthread_mutex_unlock(&s->lock);
    if (ended)
        *result = word == 4 ? (uint32_t)c.result : c.result;
    return ended;
}

/* ---- -semihosting-config */

static void sh_free(struct semihosting *base)
{
    struct sh *s = (struct sh *)base;

    if (s->fe)
        chardev_detach(s->fe);
    for (unsigned n = 1; n < SH_HANDLES; n++)
        if (s->handle[n].kind != SH_FREE)
            sh_close(s, n);
    pthread_cond_destroy(&s->typed);
    pthread_mutex_destroy(&s->lock);
    g_free(s->cmdline);
    g_free(s);
}

/* Every arg=, or else the kernel and its command line. */
static char *program_line(struct vm *vm, struct json_object *opts)
{
    struct json_object *args;
    GString *line = g_string_new(NULL);

    if (!json_object_object_get_ex(opts, "arg", &args)) {
        g_string_append(line, vm->config.kernel ? vm->config.kernel : "");
        if (vm->config.append && *vm->config.append)
            g_string_append_printf(line, "%s%s", line->len ? " " : "", vm->config.append);
    } else if (json_object_is_type(args, json_type_array)) {
        for (size_t n = 0; n < json_object_array_length(args); n++)
            g_string_append_printf(line, "%s%s", n ? " " : "", json_object_get_string(json_object_array_get_idx(args, n)));
    } else {
        g_string_append(line, json_object_get_string(args));
    }
    return g_string_free(line, false);
}

bool semihosting_create(struct vm *vm, struct json_object *opts, bool may_spawn, struct error *err)
{
    const char *target = option_str(opts, "target", "auto"), *chardev = option_str(opts, "chardev", NULL);
    struct sh *s;
    bool userspace;

    if (!strcmp(target, "gdb"))
        return error_set(err, ERR_GENERIC, "this build has no gdb stub yet", "use target=native or target=auto");
    if (strcmp(target, "native") && strcmp(target, "auto"))
        return error_setf(err, ERR_GENERIC, "write native, gdb or auto", "target=%s: no such target", target);
    if (!option_bool(opts, "userspace", false, &userspace, err))
        return false;
    s = g_new0(struct sh, 1);
    s->base = (struct semihosting){ .userspace = userspace, .call = sh_call, .free = sh_free };
    s->vm = vm;
    s->may_spawn = may_spawn;
    s->started = vm_clock_ns(vm);
    s->cmdline = program_line(vm, opts);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->typed, NULL);
    if (chardev && !sh_console_attach(s, chardev, err)) {
        sh_free(&s->base);
        return false;
    }
    vm->semihosting = &s->base;
    return true;
}
