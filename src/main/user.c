/* rhea-user, rhea-aarch64, ...: runs one Linux program of another architecture. The command line is that of qemu-user. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <unistd.h>
#include "rhea/base/log.h"
#include "rhea/base/options.h"
#include "rhea/control/version.h"
#include "rhea/user/process.h"

struct command {
    struct user_options user;
    GPtrArray *set, *unset;     /* -E, -U */
    const char *gdb;            /* -g: where the debugger connects */
    bool strace, help, version;
};

/* ---- options: a row each, with the variable that stands for it (QEMU_x or RHEA_x) */

static bool opt_prefix(struct command *c, const char *v, struct error *err) { c->user.prefix = v; return true; }
static bool opt_cpu(struct command *c, const char *v, struct error *err) { c->user.cpu = c->user.engine.cpu = v; return true; }
static bool opt_argv0(struct command *c, const char *v, struct error *err) { c->user.argv0 = v; return true; }
static bool opt_release(struct command *c, const char *v, struct error *err) { c->user.release = v; return true; }
static bool opt_log(struct command *c, const char *v, struct error *err) { c->user.log_items = v; return true; }
static bool opt_log_file(struct command *c, const char *v, struct error *err) { c->user.log_file = v; return true; }
static bool opt_filter(struct command *c, const char *v, struct error *err) { return log_set_filter(v, err); }
static bool opt_strace(struct command *c, const char *v, struct error *err) { c->strace = true; return true; }
static bool opt_one(struct command *c, const char *v, struct error *err) { c->user.engine.one_insn = true; return true; }
static bool opt_interp(struct command *c, const char *v, struct error *err) { c->user.engine.interp = true; return true; }
static bool opt_eager(struct command *c, const char *v, struct error *err) { c->user.engine.eager = true; return true; }
static bool opt_perf(struct command *c, const char *v, struct error *err) { c->user.engine.perfmap = true; return true; }
static bool opt_help(struct command *c, const char *v, struct error *err) { c->help = true; return true; }
static bool opt_version(struct command *c, const char *v, struct error *err) { c->version = true; return true; }

static bool opt_stack(struct command *c, const char *v, struct error *err)
{
    return parse_size(v, 1, &c->user.stack_size, err)
        && (c->user.stack_size >= 65536 && c->user.stack_size <= UINT64_C(1) << 32 ? true
            : error_setf(err, ERR_GENERIC, "-s takes 64K to 4G, as in -s 16M", "a stack of %s bytes", v));
}

static bool opt_saved(struct command *c, const char *v, struct error *err)
{
    c->user.engine.saved = *v ? g_canonicalize_filename(v, NULL) : NULL;
    return true;
}

static bool opt_cache(struct command *c, const char *v, struct error *err)
{
    uint64_t mebibytes;

    if (!parse_uint(v, 2048, &mebibytes, err))
        return false;
    c->user.engine.cache_size = mebibytes << 20;
    return true;
}

static bool opt_self(struct command *c, const char *v, struct error *err) { c->user.self = v; return true; }

static bool opt_limits(struct command *c, const char *v, struct error *err) { c->user.limits = v; return true; }

static bool opt_seccomp(struct command *c, const char *v, struct error *err)
{
    uint64_t fd;

    if (!parse_uint(v, INT32_MAX, &fd, err))
        return false;
    c->user.seccomp_fd = fd;
    return true;
}

static bool opt_set(struct command *c, const char *v, struct error *err)
{
    g_auto(GStrv) parts = g_strsplit(v, ",", -1);

    for (char **p = parts; *p; p++) {
        if (!strchr(*p, '=') || **p == '=')
            return error_setf(err, ERR_GENERIC, "write -E NAME=VALUE", "'%s' does not set a variable", *p);
        g_ptr_array_add(c->set, g_strdup(*p));
    }
    return true;
}

static bool opt_unset(struct command *c, const char *v, struct error *err)
{
    g_auto(GStrv) parts = g_strsplit(v, ",", -1);

    for (char **p = parts; *p; p++)
        g_ptr_array_add(c->unset, g_strdup(*p));
    return true;
}

static bool opt_gdb(struct command *c, const char *v, struct error *err) { c->gdb = v; return true; }

static bool opt_page(struct command *c, const char *v, struct error *err)
{
    uint64_t n;

    return parse_size(v, 1, &n, err)
        && (n == 4096 ? true : error_set(err, ERR_GENERIC, "-p: pages have 4096 bytes here", "leave the option out"));
}

static bool opt_base(struct command *c, const char *v, struct error *err)
{
    return error_set(err, ERR_GENERIC, "-B: where guest memory lies is not to be chosen", "leave the option out");
}

static const struct option {
    const char *name;
    bool (*set)(struct command *c, const char *value, struct error *err);
    const char *value, *variable, *help;
} options[] = {
    { "h", opt_help, NULL, NULL, "print this" },
    { "help", opt_help, NULL, NULL, NULL },
    { "g", opt_gdb, "PORT|PATH", "GDB", "wait for gdb there; ,suspend=n: do not wait" },
    { "L", opt_prefix, "FOLDER", "LD_PREFIX", "look for absolute paths in FOLDER first" },
    { "s", opt_stack, "SIZE", "STACK_SIZE", "size of the stack" },
    { "cpu", opt_cpu, "MODEL", "CPU", "CPU model, with features: max,+sve" },
    { "E", opt_set, "NAME=VALUE", "SET_ENV", "set a variable in the program's environment" },
    { "U", opt_unset, "NAME", "UNSET_ENV", "remove a variable from it" },
    { "0", opt_argv0, "NAME", "ARGV0", "the program's argv[0]" },
    { "r", opt_release, "RELEASE", "UNAME", "the kernel release that uname tells" },
    { "B", opt_base, "ADDRESS", "GUEST_BASE", NULL },
    { "p", opt_page, "SIZE", "PAGESIZE", NULL },
    { "d", opt_log, "ITEM,...", "LOG", "what to log; -d help lists items" },
    { "dfilter", opt_filter, "RANGE,...", "DFILTER", "log code of these addresses only" },
    { "D", opt_log_file, "FILE", "LOG_FILENAME", "log to FILE (%d: process id)" },
    { "strace", opt_strace, NULL, "STRACE", "log system calls" },
    { "one-insn-per-tb", opt_one, NULL, "ONE_INSN_PER_TB", "translate one instruction at a time" },
    { "singlestep", opt_one, NULL, "SINGLESTEP", NULL },
    { "interp", opt_interp, NULL, "INTERP", "interpret, do not translate" },
    { "eager", opt_eager, NULL, "EAGER", "translate all code, also what has not run yet" },
    { "tb-size", opt_cache, "MEBIBYTES", "TB_SIZE", "size of the code cache" },
    { "cache", opt_saved, "FOLDER", "CACHE", "keep translations there for later runs; the folder is yours alone" },
    { "self", opt_self, "PATH", NULL, NULL },
    { "limits", opt_limits, "TEXT", NULL, NULL },
    { "seccomp-fd", opt_seccomp, "NUMBER", NULL, NULL },         /* from our own execve() */
    { "perfmap", opt_perf, NULL, "PERFMAP", "write /tmp/perf-PID.map" },
    { "version", opt_version, NULL, NULL, "print the version" },
    { "v", opt_version, NULL, NULL, NULL },
};

static void print_help(const char *program)
{
    printf("usage: %s [options] program [arguments...]\nRuns a Linux program of another architecture.\n\n", program);
    for (size_t n = 0; n < G_N_ELEMENTS(options); n++) {
        g_autofree char *left = NULL, *variable = NULL;

        if (!options[n].help)
            continue;
        left = g_strdup_printf("-%s%s%s", options[n].name, options[n].value ? " " : "", options[n].value ? options[n].value : "");
        variable = options[n].variable ? g_strdup_printf(" (QEMU_%s, RHEA_%s)", options[n].variable, options[n].variable) : NULL;
        printf("  %-20s %s%s\n", left, options[n].help, variable ? variable : "");
    }
}

static bool read_environment(struct command *c, struct error *err)
{
    for (size_t n = 0; n < G_N_ELEMENTS(options); n++)
        for (unsigned k = 0; options[n].variable && k < 2; k++) {
            g_autofree char *name = g_strconcat(k ? "RHEA_" : "QEMU_", options[n].variable, NULL);
            const char *v = getenv(name);

            if (v && !options[n].set(c, v, err)) {
                error_prepend(err, "%s: ", name);
                return false;
            }
        }
    return true;
}

/* Options up to the program's name; *next: its place in argv. */
static bool read_options(struct command *c, int argc, char **argv, int *next, struct error *err)
{
    int n = 1;

    for (; n < argc && argv[n][0] == '-' && argv[n][1]; n++) {
        const char *name = argv[n] + 1;
        const struct option *o = NULL;

        if (!strcmp(argv[n], "--")) {
            n++;
            break;
        }
        if (*name == '-')
            name++;
        for (size_t k = 0; k < G_N_ELEMENTS(options) && !o; k++)
            o = !strcmp(options[k].name, name) ? &options[k] : NULL;
        if (!o)
            return error_setf(err, ERR_GENERIC, "-h lists the options", "%s: no such option", argv[n]);
        if (o->value && n + 1 == argc)
            return error_setf(err, ERR_GENERIC, NULL, "%s wants a value: %s", argv[n], o->value);
        if (o->value)
            n++;
        if (!o->set(c, o->value ? argv[n] : NULL, err))
            return false;
    }
    *next = n;
    return true;
}

/* The guest that the program's name says: rhea-aarch64, qemu-arm, qemu-riscv64-static. NULL: none. */
static const struct guest_user *guest_of_name(const char *program)
{
    const char *slash = strrchr(program, '/'), *dash = strchr(slash ? slash + 1 : program, '-');
    g_autofree char *name = dash ? g_strdup(dash + 1) : NULL;

    if (!name)
        return NULL;
    if (g_str_has_suffix(name, "-static"))
        name[strlen(name) - strlen("-static")] = 0;
    return guest_user_find(name);
}

/* The guest of the program's file, by its ELF header. */
static const struct guest_user *guest_of_file(const char *path, struct error *err)
{
    uint8_t h[64] = { 0 };
    const struct guest_user *g;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0) {
        error_set_errno(err, errno, NULL, "%s", path);
        return NULL;
    }
    n = read(fd, h, sizeof(h));
    close(fd);
    g = n >= 52 && !memcmp(h, "\177ELF", 4)
        ? guest_user_of_elf(h[5] == 1 ? h[18] | h[19] << 8 : h[19] | h[18] << 8, h[4] == 2 ? 64 : 32, h[5] == 2) : NULL;
    if (!g)
        error_setf(err, ERR_GENERIC, "a program is an ELF file for x86_64, i386, aarch64, arm, riscv64 or riscv32 Linux; start a script with its interpreter",
                   "%s: not a program that can be run here", path);
    return g;
}

static char **make_environment(const struct command *c)
{
    char **env = g_environ_unsetenv(g_environ_unsetenv(g_get_environ(), "RHEA_GDB"), "QEMU_GDB");      /* of this program alone */

    for (unsigned n = 0; n < c->unset->len; n++)
        env = g_environ_unsetenv(env, c->unset->pdata[n]);
    for (unsigned n = 0; n < c->set->len; n++) {
        g_auto(GStrv) kv = g_strsplit(c->set->pdata[n], "=", 2);

        env = g_environ_setenv(env, kv[0], kv[1], TRUE);
    }
    return env;
}

static bool start_log(struct command *c, struct error *err)
{
    uint32_t mask = 0;

    if (c->user.log_items && !log_parse(c->user.log_items, &mask, err))
        return false;
    if (c->strace)
        mask |= LOG_STRACE;
    c->user.strace = mask & LOG_STRACE;
    c->user.engine.nochain = mask & LOG_NOCHAIN;
    log_set(mask);
    return !c->user.log_file || log_open(c->user.log_file, err);
}

static int fail(struct error *err)
{
    error_report(err);
    return 1;
}

/* Where this program lies; one that could still ask tells it to the next. */
static void own_path(struct user_options *o)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

    if (n > 0)
        o->self = g_strndup(path, n);
    else if (!o->self && *(const char *)getauxval(AT_EXECFN) == '/')
        o->self = (const char *)getauxval(AT_EXECFN);
}

/* Lives as long as the process: execve() hands its options on. */
static struct command command;

int main(int argc, char **argv)
{
    struct error err = ERROR_INIT;
    const struct guest_user *guest;
    const char *path;
    struct thread *t;
    char **args;
    int next = 1;

    if (argc < 1)
        return 2;
    error_set_program(argv[0]);
    command.set = g_ptr_array_new();
    command.unset = g_ptr_array_new();
    if (!read_environment(&command, &err) || !read_options(&command, argc, argv, &next, &err))
        return fail(&err);
    if (command.version) {
        printf("%s version %s (Rhea %s)\n", argv[0], COMPAT_VERSION, RHEA_VERSION);
        return 0;
    }
    if (command.help || next >= argc) {
        print_help(argv[0]);
        return command.help ? 0 : 1;
    }
    if (!start_log(&command, &err))
        return fail(&err);
    path = argv[next];
    own_path(&command.user);
    args = argv + next;
    /* binfmt_misc with its P flag: the path, then the program's own argv[0] (AT_FLAGS_PRESERVE_ARGV0) */
    if (getauxval(AT_FLAGS) & 1 && next + 1 < argc)
        args++;
    if (command.user.argv0)
        args[0] = (char *)command.user.argv0;
    guest = guest_of_name(argv[0]);
    if (!guest)
        guest = guest_of_file(path, &err);
    if (guest) {
        g_autofree char *base = g_path_get_basename(path);
        g_auto(GStrv) env = make_environment(&command);

        prctl(PR_SET_NAME, base);
        t = process_load(&command.user, guest, path, args, env, &err);
        if (t) {
            thread_set_self(t);
            if (command.gdb && !process_debug(t, command.gdb, &err))
                return fail(&err);
            if (engine_thread_begin(t))
                engine_thread_run(t);
            error_set_errno(&err, errno, NULL, "the thread could not be set up");
        }
    }
    return fail(&err);
}
