/* A program becomes a process: its ELF file and interpreter in memory, the stack as execve() leaves it. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>
#include "rhea/base/log.h"
#include "user/abi.h"
#include "user/elf.h"
#include "user/limits.h"
#include "user/mem.h"
#include "user/seccomp.h"
#include "user/syscall.h"
#include "user/vdso.h"

enum {
    STACK_DEFAULT = 8 << 20, STACK_MOST = 64 << 20,
    ARGUMENT_MOST = 128 << 10,          /* of one string, as Linux has it */
    GUARD_32 = 64 << 10,                /* behind the 4 GiB of a 32-bit guest: an access may reach over the end */
};

/* The memory that a 32-bit guest lives in. */
static bool reserve_32bit(struct process *p, struct error *err)
{
    size_t n = (UINT64_C(1) << 32) + GUARD_32;
    void *at = mmap(NULL, n, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (at == MAP_FAILED)
        return error_set_errno(err, errno, "raise the limit with ulimit -v", "no 4 GiB of address space for the program");
    p->base = (uintptr_t)at;
    return true;
}

static struct process *process_new(const struct user_options *options, const struct guest_user *guest, struct error *err)
{
    struct process *p = g_new0(struct process, 1);

    p->guest = guest;
    p->options = options;
    p->abi = abi_find(guest->name);
    p->compat_abi = guest->compat ? abi_find(guest->compat) : NULL;
    pthread_mutex_init(&p->lock, NULL);
    if (!p->abi) {
        error_setf(err, ERR_GENERIC, NULL, "%s programs: their system calls are not known", guest->name);
        return NULL;
    }
    if (guest->bits == 32 && !reserve_32bit(p, err))
        return NULL;
    p->engine = engine_new(guest, p->base, &options->engine, err);
    if (!p->engine)
        return NULL;
    p->mm = mm_new(p);
    limits_read(p, options->limits);
    signal_process_init(&p->sig);
    syscall_init(p->abi);
    if (p->compat_abi)
        syscall_init(p->compat_abi);
    return p;
}

/* ---- the stack: strings at its top, below them auxv, envp, argv, argc (gABI "Process Initialization") */

struct stack {
    struct process *p;
    uint64_t sp, low;           /* guest addresses */
};

static bool stack_push(struct stack *s, const void *data, size_t n)
{
    if (n > s->sp - s->low)
        return false;
    s->sp -= n;
    memcpy((void *)(s->p->base + s->sp), data, n);
    return true;
}

/* Pushes the strings of a vector, last first; their addresses into out. */
static bool stack_push_strings(struct stack *s, char **v, unsigned count, uint64_t *out)
{
    for (unsigned n = count; n-- > 0; ) {
        if (!stack_push(s, v[n], strlen(v[n]) + 1))
            return false;
        out[n] = s->sp;
    }
    return true;
}

static void put_word(struct process *p, uint64_t *at, uint64_t v)
{
    memcpy((void *)(p->base + *at), &v, p->guest->bits / 8);
    *at += p->guest->bits / 8;
}

struct program { struct elf_file elf; struct elf_image image, interp; bool has_interp; };

static bool stack_fill(struct thread *t, const struct program *prog, struct stack *s, char **argv, char **envp, const char *path)
{
    struct process *p = t->process;
    const struct guest_user *g = p->guest;
    unsigned argc = g_strv_length(argv), envc = g_strv_length(envp), word = g->bits / 8, naux = 0;
    g_autofree uint64_t *args = g_new(uint64_t, argc + 1), *envs = g_new(uint64_t, envc + 1);
    uint64_t random, platform = 0, execfn, hwcap[2] = { 0 }, at, aux[28][2];
    uint8_t bytes[16];

    if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
        return false;
    s->sp -= word;              /* the last word is zero */
    if (!stack_push(s, path, strlen(path) + 1))
        return false;
    execfn = p->env_end = s->sp;
    if (!stack_push_strings(s, envp, envc, envs))
        return false;
    p->env_start = p->args_end = s->sp;
    if (!stack_push_strings(s, argv, argc, args))
        return false;
    p->args_start = s->sp;
    if (g->platform) {
        if (!stack_push(s, g->platform, strlen(g->platform) + 1))
            return false;
        platform = s->sp;
    }
    if (!stack_push(s, bytes, sizeof(bytes)))
        return false;
    random = s->sp;
    g->hwcaps(t->cpu, hwcap);
#define AUX(type, value) (aux[naux][0] = (type), aux[naux++][1] = (value))
    AUX(AT_HWCAP, hwcap[0]);
    if (hwcap[1])
        AUX(AT_HWCAP2, hwcap[1]);
    AUX(AT_SYSINFO_EHDR, p->vdso);
    if (p->vsyscall)
        AUX(AT_SYSINFO, p->vsyscall);
    AUX(AT_PAGESZ, CPU_PAGE_SIZE);
    AUX(AT_CLKTCK, sysconf(_SC_CLK_TCK));
    AUX(AT_PHDR, prog->image.phdr);
    AUX(AT_PHENT, prog->elf.phentsize);
    AUX(AT_PHNUM, prog->elf.phnum);
    AUX(AT_BASE, prog->has_interp ? prog->interp.low : 0);
    AUX(AT_FLAGS, 0);
    AUX(AT_ENTRY, prog->image.entry);
    AUX(AT_UID, getuid());
    AUX(AT_EUID, geteuid());
    AUX(AT_GID, getgid());
    AUX(AT_EGID, getegid());
    AUX(AT_SECURE, getauxval(AT_SECURE));
    AUX(AT_RANDOM, random);
    AUX(AT_EXECFN, execfn);
    if (platform)
        AUX(AT_PLATFORM, platform);
    if (g->min_sigstksz)
        AUX(AT_MINSIGSTKSZ, g->min_sigstksz);
    AUX(AT_NULL, 0);
#undef AUX
    at = (s->sp & -(uint64_t)16) - ((1 + argc + 1 + envc + 1 + 2 * naux) * word);
    at &= -(uint64_t)16;
    if (at < s->low || at > s->sp)
        return false;
    s->sp = at;
    put_word(p, &at, argc);
    for (unsigned n = 0; n < argc; n++)
        put_word(p, &at, args[n]);
    put_word(p, &at, 0);
    for (unsigned n = 0; n < envc; n++)
        put_word(p, &at, envs[n]);
    put_word(p, &at, 0);
    p->auxv_start = at;
    for (unsigned n = 0; n < naux; n++) {
        put_word(p, &at, aux[n][0]);
        put_word(p, &at, aux[n][1]);
    }
    p->auxv_end = at;
    return true;
}

static bool stack_make(struct thread *t, const struct program *prog, struct stack *s, struct error *err)
{
    struct process *p = t->process;
    uint64_t size = p->options->stack_size;
    int64_t at;

    if (!size) {
        size = limit_soft(p, LIMIT_STACK);
        size = size == RLIM_INFINITY ? STACK_DEFAULT : size;
        size = CLAMP(size, 1 << 20, STACK_MOST);
    }
    size = (size + CPU_PAGE_SIZE - 1) & -(uint64_t)CPU_PAGE_SIZE;
    /* A page without access below it, and no program's data right above it. */
    at = mem_map(p, 0, size + CPU_PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (at >= 0) {
        int prot = PROT_READ | PROT_WRITE | (prog->elf.stack_flags == -1 || prog->elf.stack_flags & PF_X ? PROT_EXEC : 0);
        int64_t r = mem_protect(p, at + CPU_PAGE_SIZE, size, prot);

        at = r < 0 ? r : at + CPU_PAGE_SIZE;
    }
    if (at < 0)
        return error_set_errno(err, -at, "give a smaller one with -s", "no room for a stack of %" PRIu64 " bytes", size);
    mem_name(p, at, "[stack]");
    p->stack_start = at;
    p->stack_end = at + size;
    *s = (struct stack){ .p = p, .sp = at + size, .low = at };
    return true;
}

static bool program_load(struct process *p, struct program *prog, const char *path, struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return error_set_errno(err, errno, NULL, "%s", path);
    if (!elf_open(&prog->elf, fd, path, p->guest, err)
        || !elf_map(p, &prog->elf, p->guest->program_base, &prog->image, err))
        return false;
    if (prog->elf.interp) {
        g_autofree char *name = prefix_path(p->options, prog->elf.interp);
        struct elf_file interp;
        bool ok;

        p->interp_in_prefix = strcmp(name, prog->elf.interp) != 0;
        fd = open(name, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return error_set_errno(err, errno, "name the folder that holds the program's libraries with -L, as in -L /usr/aarch64-linux-gnu",
                                   "%s: its interpreter %s", path, name);
        ok = elf_open(&interp, fd, name, p->guest, err) && elf_map(p, &interp, 0, &prog->interp, err);
        elf_close(&interp);
        if (!ok)
            return false;
        prog->has_interp = true;
    }
    return true;
}

/* What the kernel gives every program: the vdso, and Arm's page of helpers. */
static bool kernel_pages_place(struct process *p, struct error *err)
{
    uint8_t page[CPU_PAGE_SIZE] = { 0 };

    if (p->guest->vectors) {
        p->guest->vectors(page);
        if (!mem_vectors(p, p->guest->address_end, page))
            return error_set_errno(err, ENOMEM, NULL, "no room for the kernel's page of helpers");
    }
    return vdso_place(p, err);
}

struct thread *process_load(const struct user_options *options, const struct guest_user *guest, const char *path,
                            char **argv, char **envp, struct error *err)
{
    struct process *p = process_new(options, guest, err);
    struct program prog = { .elf.fd = -1 };
    struct thread *t = NULL;
    struct stack s;

    if (!p)
        return NULL;
    t = g_new0(struct thread, 1);
    t->process = p;
    t->abi = p->abi;
    t->tid = gettid();
    t->vfork_fd = -1;
    signal_thread_init(&t->sig, NULL);
    p->threads = t;
    p->nthreads = 1;
    t->cpu = engine_cpu_new(p->engine, options->cpu, err);
    p->guard_bits = t->cpu && guest->guard_bits ? guest->guard_bits(t->cpu) : 0;
    if (!t->cpu || !program_load(p, &prog, path, err) || !stack_make(t, &prog, &s, err) || !kernel_pages_place(p, err)) {
        t = NULL;
    } else if (!stack_fill(t, &prog, &s, argv, envp, path)) {
        error_setf(err, ERR_GENERIC, "give a larger stack with -s", "%s: arguments and environment do not fit", path);
        t = NULL;
    } else if (options->seccomp_fd && !seccomp_load(t, options->seccomp_fd)) {
        error_setf(err, ERR_GENERIC, NULL, "%s: the seccomp filters of the program before it cannot be read", path);
        t = NULL;
    } else {
        p->exe = realpath(path, NULL);
        p->brk_start = p->brk_end = (prog.image.high + CPU_PAGE_SIZE - 1) & -(uint64_t)CPU_PAGE_SIZE;
        guest->start(t->cpu, prog.has_interp ? prog.interp.entry : prog.image.entry, s.sp);
    }
    elf_close(&prog.elf);
    return t;       /* what a failed start holds, the process's end frees */
}
