/* seccomp filters, interpreted on the guest's own numbers and registers: kernel, Documentation/userspace-api/seccomp_filter;
 * classic BPF as in linux/filter.h. The host's kernel never sees them: they would judge Rhea's calls.
 *
 * Filters are immutable. (1) Each holds a reference to the one installed before it; (2) a thread holds one to its newest, which
 * others replace (TSYNC) only under process.lock and only by a descendant, so that a chain being run stays alive. */
#include <fcntl.h>
#include <linux/bpf_common.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "rhea/base/log.h"
#include "user/seccomp.h"

enum { FILTER_PENALTY = 4, PATH_INSNS_MAX = 32768, ERRNO_MAX = 4095, SYS_SECCOMP_CODE = 1 };

struct seccomp_filter {
    _Atomic unsigned refs;
    unsigned path_insns;        /* of this one and those before it, as the kernel counts */
    struct seccomp_filter *before;
    bool log;
    uint16_t count;
    struct sock_filter insn[];
};

struct seccomp_filter *seccomp_ref(struct seccomp_filter *f)
{
    if (f)
        atomic_fetch_add(&f->refs, 1);
    return f;
}

void seccomp_unref(struct seccomp_filter *f)
{
    while (f && atomic_fetch_sub(&f->refs, 1) == 1) {
        struct seccomp_filter *before = f->before;

        g_free(f);
        f = before;
    }
}

/* ---- classic BPF */

/* The instructions that seccomp allows; jumps and scratch memory are checked beside. */
static bool insn_is_known(uint16_t code)
{
    static const uint16_t known[] = {
        BPF_LD | BPF_W | BPF_ABS, BPF_LD | BPF_W | BPF_LEN, BPF_LDX | BPF_W | BPF_LEN, BPF_LD | BPF_IMM, BPF_LDX | BPF_IMM,
        BPF_LD | BPF_MEM, BPF_LDX | BPF_MEM, BPF_ST, BPF_STX, BPF_RET | BPF_K, BPF_RET | BPF_A, BPF_MISC | BPF_TAX, BPF_MISC | BPF_TXA,
        BPF_ALU | BPF_ADD | BPF_K, BPF_ALU | BPF_ADD | BPF_X, BPF_ALU | BPF_SUB | BPF_K, BPF_ALU | BPF_SUB | BPF_X,
        BPF_ALU | BPF_MUL | BPF_K, BPF_ALU | BPF_MUL | BPF_X, BPF_ALU | BPF_DIV | BPF_K, BPF_ALU | BPF_DIV | BPF_X,
        BPF_ALU | BPF_AND | BPF_K, BPF_ALU | BPF_AND | BPF_X, BPF_ALU | BPF_OR | BPF_K, BPF_ALU | BPF_OR | BPF_X,
        BPF_ALU | BPF_XOR | BPF_K, BPF_ALU | BPF_XOR | BPF_X, BPF_ALU | BPF_LSH | BPF_K, BPF_ALU | BPF_LSH | BPF_X,
        BPF_ALU | BPF_RSH | BPF_K, BPF_ALU | BPF_RSH | BPF_X, BPF_ALU | BPF_NEG, BPF_JMP | BPF_JA,
        BPF_JMP | BPF_JEQ | BPF_K, BPF_JMP | BPF_JEQ | BPF_X, BPF_JMP | BPF_JGE | BPF_K, BPF_JMP | BPF_JGE | BPF_X,
        BPF_JMP | BPF_JGT | BPF_K, BPF_JMP | BPF_JGT | BPF_X, BPF_JMP | BPF_JSET | BPF_K, BPF_JMP | BPF_JSET | BPF_X,
    };

    for (unsigned n = 0; n < G_N_ELEMENTS(known); n++)
        if (known[n] == code)
            return true;
    return false;
}

static bool insn_is_valid(const struct sock_filter *i, unsigned at, unsigned count)
{
    unsigned left = count - at - 1;

    if (!insn_is_known(i->code))
        return false;
    switch (BPF_CLASS(i->code)) {
    case BPF_LD: case BPF_LDX:
        if (BPF_MODE(i->code) == BPF_ABS)
            return i->k < sizeof(struct seccomp_data) && !(i->k & 3);
        return BPF_MODE(i->code) != BPF_MEM || i->k < BPF_MEMWORDS;
    case BPF_ST: case BPF_STX:
        return i->k < BPF_MEMWORDS;
    case BPF_ALU:
        if (BPF_SRC(i->code) == BPF_K && BPF_OP(i->code) == BPF_DIV)
            return i->k != 0;
        return BPF_SRC(i->code) != BPF_K || (BPF_OP(i->code) != BPF_LSH && BPF_OP(i->code) != BPF_RSH) || i->k < 32;
    case BPF_JMP:
        return BPF_OP(i->code) == BPF_JA ? i->k < left : i->jt < left && i->jf < left;
    default:
        return true;
    }
}

/* Jumps lead forwards only, so that each program ends. Scratch memory that was not written reads as zero. */
static bool program_is_valid(const struct sock_filter *insn, unsigned count)
{
    for (unsigned n = 0; n < count; n++)
        if (!insn_is_valid(&insn[n], n, count))
            return false;
    return count && BPF_CLASS(insn[count - 1].code) == BPF_RET;
}

static uint32_t alu(uint16_t op, uint32_t a, uint32_t v)
{
    switch (op) {
    case BPF_ADD: return a + v;
    case BPF_SUB: return a - v;
    case BPF_MUL: return a * v;
    case BPF_DIV: return v ? a / v : 0;
    case BPF_AND: return a & v;
    case BPF_OR: return a | v;
    case BPF_XOR: return a ^ v;
    case BPF_LSH: return a << (v & 31);
    case BPF_RSH: return a >> (v & 31);
    default: return -a;
    }
}

static bool jump_taken(uint16_t op, uint32_t a, uint32_t v)
{
    switch (op) {
    case BPF_JEQ: return a == v;
    case BPF_JGE: return a >= v;
    case BPF_JGT: return a > v;
    default: return a & v;
    }
}

static uint32_t filter_run(const struct seccomp_filter *f, const struct seccomp_data *data)
{
    uint32_t a = 0, x = 0, m[BPF_MEMWORDS] = { 0 };

    for (const struct sock_filter *i = f->insn; ; i++) {
        uint32_t v = BPF_SRC(i->code) == BPF_X ? x : i->k;
        uint32_t *to = BPF_CLASS(i->code) == BPF_LDX ? &x : &a;

        switch (BPF_CLASS(i->code)) {
        case BPF_LD: case BPF_LDX:
            if (BPF_MODE(i->code) == BPF_ABS)
                memcpy(to, (const uint8_t *)data + i->k, sizeof(*to));
            else
                *to = BPF_MODE(i->code) == BPF_LEN ? sizeof(*data) : BPF_MODE(i->code) == BPF_MEM ? m[i->k] : i->k;
            break;
        case BPF_ST: m[i->k] = a; break;
        case BPF_STX: m[i->k] = x; break;
        case BPF_ALU:
            if (BPF_OP(i->code) == BPF_DIV && !v)
                return 0;       /* as a load outside of the data: the program ends with 0, which kills */
            a = alu(BPF_OP(i->code), a, v);
            break;
        case BPF_JMP:
            i += BPF_OP(i->code) == BPF_JA ? i->k : jump_taken(BPF_OP(i->code), a, v) ? i->jt : i->jf;
            break;
        case BPF_MISC:
            if (BPF_MISCOP(i->code) == BPF_TAX)
                x = a;
            else
                a = x;
            break;
        default:                /* BPF_RET */
            return BPF_RVAL(i->code) == BPF_A ? a : i->k;
        }
    }
}

/* ---- the verdict */

/* Of all filters the strictest action counts; of equal ones the newest filter's data. */
static uint32_t filters_run(const struct seccomp_filter *f, const struct seccomp_data *data)
{
    uint32_t r = SECCOMP_RET_ALLOW;

    for (; f; f = f->before) {
        uint32_t v = filter_run(f, data);

        if ((int32_t)(v & SECCOMP_RET_ACTION_FULL) < (int32_t)(r & SECCOMP_RET_ACTION_FULL))
            r = v;
    }
    return r;
}

static void trap(struct thread *t, const struct seccomp_data *data, uint16_t reason)
{
    siginfo_t info = { .si_signo = SIGSYS, .si_code = SYS_SECCOMP_CODE, .si_errno = reason };

    info.si_call_addr = (void *)(uintptr_t)data->instruction_pointer;
    info.si_syscall = data->nr;
    info.si_arch = data->arch;
    signal_force(t, &info);
}

static bool strict_allows(enum call_id id)
{
    return id == CALL_read || id == CALL_write || id == CALL_exit || id == CALL_rt_sigreturn || id == CALL_sigreturn;
}

bool seccomp_check(struct thread *t, enum call_id id, uint64_t nr, const uint64_t *a, int64_t *r)
{
    struct seccomp_data data = { .nr = (int)nr, .arch = t->abi->audit_arch, .instruction_pointer = t->cpu->pc };
    uint32_t v;

    if (t->seccomp_strict) {
        if (!strict_allows(id))
            signal_die(t, SIGKILL);
        return true;
    }
    memcpy(data.args, a, sizeof(data.args));
    v = filters_run(t->seccomp, &data);
    switch (v & SECCOMP_RET_ACTION_FULL) {
    case SECCOMP_RET_ALLOW: case SECCOMP_RET_LOG:
        return true;
    case SECCOMP_RET_ERRNO:
        *r = -(int64_t)MIN(v & SECCOMP_RET_DATA, ERRNO_MAX);
        return false;
    case SECCOMP_RET_TRAP:
        trap(t, &data, v & SECCOMP_RET_DATA);
        *r = USER_NORESULT;
        return false;
    case SECCOMP_RET_TRACE: case SECCOMP_RET_USER_NOTIF:        /* nobody listens */
        *r = -ENOSYS;
        return false;
    case SECCOMP_RET_KILL_THREAD:
        log_at(LOG_GUEST_ERRORS, "seccomp: thread %d ends at system call %d\n", t->tid, data.nr);
        if (t->process->nthreads > 1)
            thread_exit(t, SIGSYS);
        signal_die(t, SIGSYS);
    default:
        log_at(LOG_GUEST_ERRORS, "seccomp: the process ends at system call %d\n", data.nr);
        signal_die(t, SIGSYS);
    }
}

/* ---- installation */

static bool may_install(void)
{
    struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct caps[2] = { 0 };

    return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1
        || (syscall(SYS_capget, &head, caps) == 0 && caps[CAP_TO_INDEX(CAP_SYS_ADMIN)].effective & CAP_TO_MASK(CAP_SYS_ADMIN));
}

static struct seccomp_filter *filter_new(unsigned count)
{
    struct seccomp_filter *f = g_malloc0(sizeof(*f) + count * sizeof(f->insn[0]));

    atomic_init(&f->refs, 1);
    f->count = count;
    return f;
}

/* struct sock_fprog: a count of 16 bits, a pointer. */
static struct seccomp_filter *filter_get(struct thread *t, uint64_t va, int64_t *r)
{
    unsigned word = t->abi->bits / 8;
    uint64_t insns = 0;
    uint16_t count;
    struct seccomp_filter *f;

    *r = -EFAULT;
    if (guest_read(t, &count, va, sizeof(count)) || guest_read(t, &insns, va + word, word))
        return NULL;
    *r = -EINVAL;
    if (!insns || !count || count > BPF_MAXINSNS)
        return NULL;
    f = filter_new(count);
    *r = guest_read(t, f->insn, insns, count * sizeof(f->insn[0]));
    if (!*r && !program_is_valid(f->insn, count))
        *r = -EINVAL;
    if (*r) {
        g_free(f);
        return NULL;
    }
    return f;
}

/* Before the thread's newest filter, whose reference it takes over if the caller keeps it. */
static bool filter_chain(const struct thread *t, struct seccomp_filter *f)
{
    f->before = t->seccomp;
    f->path_insns = f->count + (f->before ? f->before->path_insns + FILTER_PENALTY : 0);
    return f->path_insns <= PATH_INSNS_MAX;
}

static bool is_ancestor(const struct seccomp_filter *old, const struct seccomp_filter *f)
{
    while (f && f != old)
        f = f->before;
    return f == old;
}

/* All other threads take the caller's filters: those whose own are among them. 0, or the id of one that cannot. */
static int64_t threads_follow(struct thread *t, struct seccomp_filter *f, bool esrch)
{
    struct process *p = t->process;

    for (struct thread *other = p->threads; other; other = other->next)
        if (other != t && (other->seccomp_strict || !is_ancestor(other->seccomp, f)))
            return esrch ? -ESRCH : other->tid;
    for (struct thread *other = p->threads; other; other = other->next)
        if (other != t) {
            struct seccomp_filter *old = other->seccomp;

            other->seccomp = seccomp_ref(f);
            seccomp_unref(old);
        }
    return 0;
}

static int64_t filter_install(struct thread *t, uint64_t flags, uint64_t va)
{
    enum { ESRCH_FLAG = 1 << 4, FLAGS = SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW | ESRCH_FLAG };
    struct seccomp_filter *f;
    int64_t r = 0;

    if (flags & ~(uint64_t)FLAGS) {     /* a listener for SECCOMP_RET_USER_NOTIF among them */
        log_at(LOG_UNIMP, "seccomp: flags %#" G_GINT64_MODIFIER "x are not implemented\n", flags);
        return -EINVAL;
    }
    if (t->seccomp_strict)
        return -EINVAL;
    if (!may_install())
        return -EACCES;
    f = filter_get(t, va, &r);
    if (!f)
        return r;
    pthread_mutex_lock(&t->process->lock);
    if (!filter_chain(t, f))
        r = -ENOMEM;
    else if (flags & SECCOMP_FILTER_FLAG_TSYNC)
        r = threads_follow(t, f, flags & ESRCH_FLAG);
    if (r)
        g_free(f);
    else
        t->seccomp = f;
    pthread_mutex_unlock(&t->process->lock);
    return r;
}

static int64_t strict_set(struct thread *t)
{
    if (t->seccomp)
        return -EINVAL;
    t->seccomp_strict = true;
    return 0;
}

static int64_t action_available(struct thread *t, uint64_t va)
{
    uint32_t action;

    if (guest_read(t, &action, va, sizeof(action)))
        return -EFAULT;
    switch (action) {
    case SECCOMP_RET_KILL_PROCESS: case SECCOMP_RET_KILL_THREAD: case SECCOMP_RET_TRAP: case SECCOMP_RET_ERRNO:
    case SECCOMP_RET_LOG: case SECCOMP_RET_ALLOW: case SECCOMP_RET_TRACE: return 0;
    default: return -EOPNOTSUPP;
    }
}

SYS(seccomp)
{
    switch ((uint32_t)a[0]) {
    case SECCOMP_SET_MODE_STRICT: return a[1] || a[2] ? -EINVAL : strict_set(t);
    case SECCOMP_SET_MODE_FILTER: return filter_install(t, (uint32_t)a[1], a[2]);
    case SECCOMP_GET_ACTION_AVAIL: return a[1] ? -EINVAL : action_available(t, a[2]);
    default: return -EINVAL;
    }
}

int64_t seccomp_prctl(struct thread *t, const uint64_t *a)
{
    if ((int)a[0] == PR_GET_SECCOMP)
        return seccomp_mode(t);
    switch (a[1]) {
    case SECCOMP_MODE_STRICT: return strict_set(t);
    case SECCOMP_MODE_FILTER: return filter_install(t, 0, a[2]);
    default: return -EINVAL;
    }
}

int seccomp_mode(const struct thread *t)
{
    return t->seccomp_strict ? SECCOMP_MODE_STRICT : t->seccomp ? SECCOMP_MODE_FILTER : SECCOMP_MODE_DISABLED;
}

unsigned seccomp_count(const struct thread *t)
{
    unsigned n = 0;

    for (const struct seccomp_filter *f = t->seccomp; f; f = f->before)
        n++;
    return n;
}

/* ---- across execve(): a file in memory, oldest filter first, each behind its count */

static bool filters_write(int fd, const struct seccomp_filter *f)
{
    uint32_t count;
    size_t n;

    if (!f)
        return true;
    count = f->count;
    n = count * sizeof(f->insn[0]);
    return filters_write(fd, f->before) && write(fd, &count, sizeof(count)) == sizeof(count) && write(fd, f->insn, n) == (ssize_t)n;
}

int seccomp_save(const struct thread *t)
{
    int fd = memfd_create("seccomp", MFD_CLOEXEC), kept = -1;

    if (fd >= 0 && filters_write(fd, t->seccomp))
        kept = fcntl(fd, F_DUPFD, 3);
    if (fd >= 0)
        close(fd);
    return kept;
}

bool seccomp_load(struct thread *t, int fd)
{
    uint32_t count;
    ssize_t n;

    if (lseek(fd, 0, SEEK_SET) < 0)
        return false;
    while ((n = read(fd, &count, sizeof(count))) == sizeof(count)) {
        struct seccomp_filter *f = count <= BPF_MAXINSNS ? filter_new(count) : NULL;
        size_t bytes = count * sizeof(f->insn[0]);

        if (!f || !filter_chain(t, f) || read(fd, f->insn, bytes) != (ssize_t)bytes || !program_is_valid(f->insn, count))
            return false;       /* the program is not started */
        t->seccomp = f;
    }
    close(fd);
    return n == 0;
}
