/* System calls about memory, the process itself, identities and limits. */
#include <asm/prctl.h>
#include <inttypes.h>
#include <linux/prctl.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>
#include "rhea/base/log.h"
#include "user/mem.h"
#include "user/seccomp.h"
#include "user/syscall.h"

/* ---- memory */

static int64_t do_mmap(struct thread *t, const uint64_t *a, uint64_t offset)
{
    int flags = (int)a[3] & ~(MAP_GROWSDOWN | MAP_DENYWRITE | MAP_EXECUTABLE);

    if (t->abi->column != ABI_X86_64)
        flags &= ~MAP_32BIT;
    if (is_32bit(t) && t->process->guest->bits == 64)   /* int 0x80: the address has to fit */
        flags |= MAP_32BIT;
    return mem_map(t->process, a[0], a[1], (int)a[2], flags, (int)a[4], offset);
}

SYS(mmap)
{
    uint32_t raw[6];
    uint64_t v[6];

    if (!is_32bit(t))
        return do_mmap(t, a, a[5]);
    if (guest_read(t, raw, a[0], sizeof(raw)))          /* i386's first mmap: its arguments are in memory */
        return -EFAULT;
    for (unsigned n = 0; n < 6; n++)
        v[n] = raw[n];
    return do_mmap(t, v, raw[5]);
}

SYS(mmap2) { return do_mmap(t, a, a[5] << 12); }
SYS(munmap) { return mem_unmap(t->process, a[0], a[1]); }
SYS(mprotect) { return mem_protect(t->process, a[0], a[1], (int)a[2]); }
SYS(mremap) { return mem_remap(t->process, a[0], a[1], a[2], (int)a[3], a[4]); }
SYS(brk) { return mem_brk(t->process, a[0]); }
/* As on a processor without protection keys. */
SYS(pkey_alloc) { return a[0] ? -EINVAL : -ENOSPC; }
SYS(pkey_free) { return -EINVAL; }
SYS(pkey_mprotect) { return (int)a[3] == -1 ? mem_protect(t->process, a[0], a[1], (int)a[2]) : -EINVAL; }
SYS(shmat) { return mem_shmat(t->process, (int)a[0], a[1], (int)a[2]); }
SYS(shmdt) { return mem_shmdt(t->process, a[0]); }

SYS(madvise)
{
    struct process *p = t->process;
    uint64_t n = (a[1] + CPU_PAGE_SIZE - 1) & -(uint64_t)CPU_PAGE_SIZE;
    int advice = (int)a[2];

    if (a[0] & (CPU_PAGE_SIZE - 1))
        return -EINVAL;
    if (n == 0)
        return a[1] ? -EINVAL : 0;
    if (!mem_covered(p, a[0], n))
        return -ENOMEM;
    if ((advice == MADV_DONTNEED || advice == MADV_REMOVE || advice == MADV_FREE || advice == MADV_DONTFORK || advice == MADV_WIPEONFORK)
        && mem_sealed(p, a[0], n))
        return -EPERM;
    if (advice == MADV_DONTNEED || advice == MADV_REMOVE || advice == MADV_FREE)
        engine_code_changed(p->engine, a[0], n);
    return user_safe_syscall(t, SYS_madvise, p->base + a[0], n, advice, 0, 0, 0);
}

SYS(mseal) { return a[2] ? -EINVAL : mem_seal(t->process, a[0], a[1]); }

/* Its faults and addresses are the host's. */
SYS(userfaultfd) { return is_32bit(t) ? -ENOSYS : user_safe_syscall(t, SYS_userfaultfd, (int32_t)a[0], 0, 0, 0, 0, 0); }

SYS(cacheflush)
{
    uint64_t end = a[1];

    if (end < a[0])
        return -EINVAL;
    engine_code_changed(t->process->engine, a[0], end - a[0]);
    return 0;
}

static int64_t process_vm(struct thread *t, const uint64_t *a, long nr, bool reads)
{
    int64_t r;
    g_autofree struct iovec *local = user_iovec(t, a[1], a[2], reads, &r);
    g_autofree struct iovec *remote = local ? user_iovec(t, a[3], a[4], false, &r) : NULL;

    return remote ? user_safe_syscall(t, nr, (int32_t)a[0], (uint64_t)local, a[2], (uint64_t)remote, a[4], a[5]) : r;
}

SYS(process_madvise)
{
    int64_t r;
    g_autofree struct iovec *v = user_iovec(t, a[1], a[2], false, &r);

    return v ? user_safe_syscall(t, SYS_process_madvise, (int32_t)a[0], (uint64_t)v, a[2], (int32_t)a[3], (uint32_t)a[4], 0) : r;
}

/* 64 bits of a mask at a time are the host's way; a 32-bit guest may have room for half of that at its end. */
SYS(sched_getaffinity)
{
    uint8_t mask[8192];
    unsigned word = t->abi->bits / 8;
    int64_t r;

    if (a[1] % word)
        return -EINVAL;
    r = user_safe_syscall(t, SYS_sched_getaffinity, (int32_t)a[0], MIN(a[1] + a[1] % 8, sizeof(mask)), (uint64_t)mask, 0, 0, 0);
    r = MIN(r, (int64_t)a[1]);
    return r < 0 ? r : guest_write(t, a[2], mask, r) ? -EFAULT : r;
}

/* Pointers to pages are looked up; nodes and status are ints. */
SYS(move_pages)
{
    enum { PAGES_MAX = 1 << 16 };
    uint64_t count = a[1];
    g_autofree uint64_t *pages = NULL;

    if (count > PAGES_MAX)
        return -E2BIG;
    pages = g_new0(uint64_t, count + 1);
    for (uint64_t n = 0; n < count; n++) {
        uint64_t va = 0;

        if (guest_read(t, &va, a[2] + n * (t->abi->bits / 8), t->abi->bits / 8))
            return -EFAULT;
        pages[n] = (uint64_t)user_ptr(t, va, 1);
    }
    return user_safe_syscall(t, SYS_move_pages, (int32_t)a[0], count, (uint64_t)pages, (uint64_t)user_ptr(t, a[3], 4 * count),
                             (uint64_t)user_ptr_write(t, a[4], 4 * count), (int32_t)a[5]);
}

/* Its attributes hold addresses, which a 32-bit guest's are not for the host. */
SYS(bpf)
{
    if (is_32bit(t))
        return -ENOSYS;
    return user_safe_syscall(t, SYS_bpf, (int32_t)a[0], (uint64_t)user_ptr_write(t, a[1], (uint32_t)a[2]), (uint32_t)a[2], 0, 0, 0);
}

/* Arguments of keyctl() by command: p an address, w one that as many bytes are written to as the next argument says, n a number;
 * ? lists of addresses. */
static const char *const keyctl_args[] = {
    "nn", "p", "npn", "n", "nnn", "nn", "nwn", "n", "nn", "nn", "nppn", "nwn", "npnn", "nnn", "n", "nn", "n", "nwn", "", "nnnn", "?", "n",
    "nn", "?", "?", "?", "?", "?", "?", "npp", "nnnn", "wn", "nnn",
};

SYS(keyctl)
{
    const char *kinds = (uint32_t)a[0] < G_N_ELEMENTS(keyctl_args) ? keyctl_args[(uint32_t)a[0]] : "?";
    uint64_t v[4];

    for (unsigned n = 0; n < 4; n++) {
        char kind = n < strlen(kinds) ? kinds[n] : 'n';

        if (kind == '?' && is_32bit(t))
            return -EOPNOTSUPP;
        v[n] = kind == 'p' ? (uint64_t)user_ptr(t, a[n + 1], 1)
             : kind == 'w' ? (uint64_t)user_ptr_write(t, a[n + 1], n < 3 ? a[n + 2] : 0) : a[n + 1];
        if (kind == '?')
            kinds = "";
    }
    return user_safe_syscall(t, SYS_keyctl, (int32_t)a[0], v[0], v[1], v[2], v[3], 0);
}

SYS(process_vm_readv) { return process_vm(t, a, SYS_process_vm_readv, true); }
SYS(process_vm_writev) { return process_vm(t, a, SYS_process_vm_writev, false); }

/* ---- who and where it is */

static int uname_of(const struct process *p, struct utsname *u)
{
    if (uname(u) < 0)
        return -errno;
    if (p->options->release)
        g_strlcpy(u->release, p->options->release, sizeof(u->release));
    g_strlcpy(u->machine, p->guest->uname_machine, sizeof(u->machine));
    return 0;
}

SYS(uname)
{
    struct utsname u;
    int r = uname_of(t->process, &u);

    return r ? r : guest_write(t, a[0], &u, sizeof(u));
}

/* Without the domain's name. */
SYS(olduname)
{
    struct utsname u;
    int r = uname_of(t->process, &u);

    return r ? r : guest_write(t, a[0], &u, offsetof(struct utsname, domainname));
}

/* Five names of at most 8 characters. */
SYS(oldolduname)
{
    enum { NAMES = 5, NAME = 9 };
    struct utsname u;
    char out[NAMES][NAME] = { { 0 } };
    int r = uname_of(t->process, &u);

    for (unsigned n = 0; n < NAMES; n++)
        memcpy(out[n], (char *)&u + n * sizeof(u.sysname), NAME - 1);
    return r ? r : guest_write(t, a[0], out, sizeof(out));
}

SYS(stime)
{
    struct timespec ts = { 0 };
    int32_t seconds;

    if (guest_read(t, &seconds, a[0], sizeof(seconds)))
        return -EFAULT;
    ts.tv_sec = seconds;
    return clock_settime(CLOCK_REALTIME, &ts) ? -errno : 0;
}

SYS(personality)
{
    uint32_t host = a[0];
    int64_t r;

    if (host != 0xffffffff && (host & 0xff) == PER_LINUX32)     /* the guest is what it is */
        host &= ~0xffu;
    r = user_safe_syscall(t, SYS_personality, host, 0, 0, 0, 0, 0);
    return r;
}

/* uptime, three loads, six sizes in mem_unit, procs, two sizes, the unit. A 32-bit guest's sizes are scaled to fit. */
SYS(sysinfo)
{
    struct sysinfo s;
    unsigned shift = 0;

    if (sysinfo(&s) < 0)
        return -errno;
    if (is_32bit(t))
        while ((s.totalram | s.totalswap | s.totalhigh) * s.mem_unit >> shift > UINT32_MAX)
            shift++;
    if (shift)
        shift = MAX(shift, 12);         /* pages, as the kernel does */
    {
        uint64_t k = s.mem_unit, v[] = { s.uptime, s.loads[0], s.loads[1], s.loads[2], s.totalram * k >> shift, s.freeram * k >> shift,
            s.sharedram * k >> shift, s.bufferram * k >> shift, s.totalswap * k >> shift, s.freeswap * k >> shift, s.procs, 0,
            s.totalhigh * k >> shift, s.freehigh * k >> shift, UINT64_C(1) << shift };
        uint8_t out[128] = { 0 };
        size_t n = user_pack(t->abi, "l3L6L2H2LI", v, out);

        return guest_write(t, a[0], out, is_32bit(t) ? MAX(n, 64) : n);
    }
}

SYS(set_tls)
{
    t->process->guest->set_tls(t->cpu, a[0]);
    return 0;
}

SYS(get_tls) { return t->process->guest->tls(t->cpu); }

/* i386: a descriptor for TLS; the entry it got is told. */
SYS(set_thread_area)
{
    uint32_t desc[4];
    int r;

    if (!t->process->guest->set_thread_area)
        return -ENOSYS;
    if (guest_read(t, desc, a[0], sizeof(desc)))
        return -EFAULT;
    r = t->process->guest->set_thread_area(t->cpu, desc);
    return r ? r : guest_write(t, a[0], desc, 4);
}

/* Entries, then zeros up to `bytes`. */
static int64_t ldt_to_guest(struct thread *t, uint64_t va, uint64_t bytes)
{
    uint64_t entry[64];
    unsigned n, first = 0;

    bytes = MIN(bytes, 8192 * sizeof(entry[0]));
    if (!t->process->guest->ldt_read(t->cpu, 0, entry, 1))
        return 0;               /* there is no table */
    for (uint64_t at = 0; at < bytes; at += sizeof(entry), first += n) {
        memset(entry, 0, sizeof(entry));
        n = t->process->guest->ldt_read(t->cpu, first, entry, G_N_ELEMENTS(entry));
        if (guest_write(t, va + at, entry, MIN(bytes - at, sizeof(entry))))
            return -EFAULT;
    }
    return bytes;
}

static int64_t modify_ldt(struct thread *t, const uint64_t *a)
{
    static const uint8_t zero[128];
    uint64_t bytes = MIN(a[2], sizeof(zero));
    uint32_t desc[4];

    switch ((int)a[0]) {
    case 0:
        return ldt_to_guest(t, a[1], a[2]);
    case 2:                     /* the default table: empty */
        return guest_write(t, a[1], zero, bytes) ? -EFAULT : bytes;
    case 1: case 0x11:
        if (a[2] != sizeof(desc))
            return -EINVAL;
        return guest_read(t, desc, a[1], sizeof(desc)) ? -EFAULT : t->process->guest->ldt_write(t->cpu, desc, a[0] == 1);
    default:
        return -ENOSYS;
    }
}

/* The kernel's result is 32 bits wide, for x86-64 too. */
SYS(modify_ldt) { return t->process->guest->ldt_write ? (uint32_t)modify_ldt(t, a) : -ENOSYS; }

SYS(arch_prctl)
{
    uint64_t v;

    if (!t->process->guest->set_gs_base)        /* a 32-bit program's are segments: set_thread_area() */
        return -EINVAL;
    switch (a[0]) {
    case ARCH_SET_FS:
        t->process->guest->set_tls(t->cpu, a[1]);
        return 0;
    case ARCH_GET_FS:
        v = t->process->guest->tls(t->cpu);
        return guest_write(t, a[1], &v, sizeof(v));
    case ARCH_SET_GS:
        t->process->guest->set_gs_base(t->cpu, a[1]);
        return 0;
    case ARCH_GET_GS:
        v = t->process->guest->gs_base(t->cpu);
        return guest_write(t, a[1], &v, sizeof(v));
    default:
        log_at(LOG_UNIMP, "arch_prctl: code %#" PRIx64 " is not implemented\n", a[0]);
        return -EINVAL;
    }
}

SYS(prctl)
{
    int option = (int)a[0];
    char name[16] = { 0 };
    int64_t r;

    switch (option) {
    case PR_GET_NAME:
        r = user_safe_syscall(t, SYS_prctl, option, (uint64_t)name, 0, 0, 0, 0);
        return r < 0 ? r : guest_write(t, a[1], name, sizeof(name));
    case PR_SET_NAME:
        return user_safe_syscall(t, SYS_prctl, option, (uint64_t)user_ptr(t, a[1], 1), 0, 0, 0, 0);
    case PR_GET_PDEATHSIG: case PR_GET_CHILD_SUBREAPER: case PR_GET_TSC: {
        int32_t v = 0;

        r = user_safe_syscall(t, SYS_prctl, option, (uint64_t)&v, 0, 0, 0, 0);
        return r < 0 ? r : guest_write(t, a[1], &v, sizeof(v));
    }
    case PR_SET_PDEATHSIG: case PR_GET_DUMPABLE: case PR_SET_DUMPABLE: case PR_GET_KEEPCAPS: case PR_SET_KEEPCAPS:
    case PR_GET_TIMING: case PR_SET_TIMING: case PR_CAPBSET_READ: case PR_CAPBSET_DROP: case PR_GET_SECUREBITS:
    case PR_SET_SECUREBITS: case PR_SET_TIMERSLACK: case PR_GET_TIMERSLACK: case PR_SET_CHILD_SUBREAPER:
    case PR_SET_NO_NEW_PRIVS: case PR_GET_NO_NEW_PRIVS: case PR_SET_THP_DISABLE: case PR_GET_THP_DISABLE:
    case PR_CAP_AMBIENT: case PR_GET_SPECULATION_CTRL: case PR_SET_PTRACER: case PR_MCE_KILL: case PR_MCE_KILL_GET:
    case PR_SET_IO_FLUSHER: case PR_GET_IO_FLUSHER:
        return user_safe_syscall(t, SYS_prctl, option, a[1], a[2], a[3], a[4], 0);
    case PR_GET_SECCOMP: case PR_SET_SECCOMP:
        return seccomp_prctl(t, a);
    case PR_SET_VMA:            /* a name for a mapping: nobody has to know it */
        return 0;
    default:                    /* what is the architecture's own, and PR_SET_MM, which must not reach the host */
        log_at(LOG_UNIMP, "prctl: option %d is not implemented\n", option);
        return -EINVAL;
    }
}

/* struct riscv_hwprobe: a key and its value; a key that is not known becomes -1. All processors are alike. */
SYS(riscv_hwprobe)
{
    const struct guest_user *g = t->process->guest;

    if (a[4])                   /* RISCV_HWPROBE_WHICH_CPUS */
        return -EINVAL;
    for (uint64_t n = 0; n < a[1]; n++) {
        struct { int64_t key; uint64_t value; } pair;

        if (guest_read(t, &pair, a[0] + n * sizeof(pair), sizeof(pair)))
            return -EFAULT;
        pair.value = 0;
        if (!g->hwprobe || !g->hwprobe(t->cpu, pair.key, &pair.value))
            pair.key = -1;
        if (guest_write(t, a[0] + n * sizeof(pair), &pair, sizeof(pair)))
            return -EFAULT;
    }
    return 0;
}

/* ---- waiting */

SYS(waitpid)
{
    uint64_t v[6] = { a[0], a[1], a[2] };

    return call_run(t, CALL_wait4, v);
}

SYS(waitid)
{
    uint8_t out[GUEST_SIGINFO_SIZE];
    struct rusage usage;
    siginfo_t info = { 0 };
    int64_t r = user_safe_syscall(t, SYS_waitid, (int32_t)a[0], (int32_t)a[1], (uint64_t)&info, (int32_t)a[3], (uint64_t)&usage, 0);

    if (r < 0)
        return r;
    siginfo_to_guest(t->process->guest, out, &info);
    if ((a[2] && guest_write(t, a[2], out, sizeof(out))) || (a[4] && user_put(t, LAYOUT_rusage, a[4], &usage)))
        return -EFAULT;
    return r;
}

/* ---- priority */

SYS(nice)
{
    errno = 0;
    int r = nice((int)a[0]);

    return r == -1 && errno ? -errno : r;
}

/* ---- identities of 16 bits, in the first calls of 32-bit guests; -1 stays -1 */

enum { OVERFLOW_ID = 65534 };
static uint32_t id_from16(uint64_t v) { return (uint16_t)v == 0xffff ? UINT32_MAX : (uint16_t)v; }
static int64_t id_to16(int64_t v) { return v > 0xffff ? OVERFLOW_ID : v; }

static int64_t ids_call(struct thread *t, long nr, const uint64_t *a, unsigned count)
{
    uint32_t v[3] = { 0 };

    for (unsigned n = 0; n < count; n++)
        v[n] = is_32bit(t) && t->abi->column != ABI_RISCV32 ? id_from16(a[n]) : (uint32_t)a[n];
    return user_safe_syscall(t, nr, v[0], v[1], v[2], 0, 0, 0);
}

static int64_t id_get(struct thread *t, int64_t v)
{
    return is_32bit(t) && t->abi->column != ABI_RISCV32 ? id_to16(v) : v;
}

SYS(getuid16) { return id_get(t, getuid()); }
SYS(geteuid16) { return id_get(t, geteuid()); }
SYS(getgid16) { return id_get(t, getgid()); }
SYS(getegid16) { return id_get(t, getegid()); }
SYS(setuid16) { return ids_call(t, SYS_setuid, a, 1); }
SYS(setgid16) { return ids_call(t, SYS_setgid, a, 1); }
SYS(setreuid16) { return ids_call(t, SYS_setreuid, a, 2); }
SYS(setregid16) { return ids_call(t, SYS_setregid, a, 2); }
SYS(setresuid16) { return ids_call(t, SYS_setresuid, a, 3); }
SYS(setresgid16) { return ids_call(t, SYS_setresgid, a, 3); }
SYS(setfsuid16) { return id_get(t, ids_call(t, SYS_setfsuid, a, 1)); }
SYS(setfsgid16) { return id_get(t, ids_call(t, SYS_setfsgid, a, 1)); }

static int64_t ids_get(struct thread *t, long nr, const uint64_t *a)
{
    unsigned bytes = is_32bit(t) && t->abi->column != ABI_RISCV32 ? 2 : 4;
    uint32_t v[3];

    if (syscall(nr, &v[0], &v[1], &v[2]) < 0)
        return -errno;
    for (unsigned n = 0; n < 3; n++) {
        uint32_t id = id_get(t, v[n]);

        if (guest_write(t, a[n], &id, bytes))
            return -EFAULT;
    }
    return 0;
}

SYS(getresuid16) { return ids_get(t, SYS_getresuid, a); }
SYS(getresgid16) { return ids_get(t, SYS_getresgid, a); }

enum { GROUPS_MAX = 65536 };

SYS(getgroups16)
{
    g_autofree uint32_t *list = NULL;
    int64_t r;

    if (!is_32bit(t) || t->abi->column == ABI_RISCV32)
        return call_run(t, CALL_getgroups32, a);
    if ((int32_t)a[0] < 0 || a[0] > GROUPS_MAX)
        return -EINVAL;
    list = g_new(uint32_t, a[0] + 1);
    r = user_safe_syscall(t, SYS_getgroups, a[0], (uint64_t)list, 0, 0, 0, 0);
    for (int64_t n = 0; a[0] && n < r; n++) {
        uint16_t id = id_to16(list[n]);

        if (guest_write(t, a[1] + 2 * n, &id, sizeof(id)))
            return -EFAULT;
    }
    return r;
}

SYS(setgroups16)
{
    g_autofree uint32_t *list = NULL;

    if (!is_32bit(t) || t->abi->column == ABI_RISCV32)
        return call_run(t, CALL_setgroups32, a);
    if (a[0] > GROUPS_MAX)
        return -EINVAL;
    list = g_new(uint32_t, a[0] + 1);
    for (uint64_t n = 0; n < a[0]; n++) {
        uint16_t id;

        if (guest_read(t, &id, a[1] + 2 * n, sizeof(id)))
            return -EFAULT;
        list[n] = id;
    }
    return user_safe_syscall(t, SYS_setgroups, a[0], (uint64_t)list, 0, 0, 0, 0);
}
