/* ioctl(): a row a request. Requests have the same numbers for all guests here (asm-generic/ioctl.h), a 64-bit guest's
 * arguments the same layout; a 32-bit guest's must be known to be so. */
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <termios.h>
#include "rhea/base/log.h"
#include "user/syscall.h"

/* arg: NONE a number, SAME memory of `size` bytes that all guests lay out alike, LONG a long in memory. */
enum ioctl_arg { NONE, SAME, WORD };
struct ioctl_row { uint32_t request; uint8_t arg; uint16_t size; };

static const struct ioctl_row rows[] = {
    { TCGETS, SAME, 36 }, { TCSETS, SAME, 36 }, { TCSETSW, SAME, 36 }, { TCSETSF, SAME, 36 },
    { TCGETA, SAME, 18 }, { TCSETA, SAME, 18 }, { TCSETAW, SAME, 18 }, { TCSETAF, SAME, 18 },
    { 0x802c542a, SAME, 44 }, { 0x402c542b, SAME, 44 }, { 0x402c542c, SAME, 44 }, { 0x402c542d, SAME, 44 },     /* TCGETS2 ... */
    { TCSBRK, NONE }, { TCSBRKP, NONE }, { TCXONC, NONE }, { TCFLSH, NONE }, { TIOCEXCL, NONE }, { TIOCNXCL, NONE },
    { TIOCSCTTY, NONE }, { TIOCNOTTY, NONE }, { TIOCSBRK, NONE }, { TIOCCBRK, NONE }, { TIOCVHANGUP, NONE },
    { TIOCGPGRP, SAME, 4 }, { TIOCSPGRP, SAME, 4 }, { TIOCGSID, SAME, 4 }, { TIOCOUTQ, SAME, 4 }, { TIOCSTI, SAME, 1 },
    { TIOCGWINSZ, SAME, 8 }, { TIOCSWINSZ, SAME, 8 }, { TIOCMGET, SAME, 4 }, { TIOCMBIS, SAME, 4 }, { TIOCMBIC, SAME, 4 },
    { TIOCMSET, SAME, 4 }, { TIOCGSOFTCAR, SAME, 4 }, { TIOCSSOFTCAR, SAME, 4 }, { TIOCCONS, NONE }, { TIOCPKT, SAME, 4 },
    { TIOCGETD, SAME, 4 }, { TIOCSETD, SAME, 4 }, { TIOCGPTN, SAME, 4 }, { TIOCSPTLCK, SAME, 4 }, { TIOCGPTLCK, SAME, 4 },
    { TIOCGPTPEER, NONE }, { TIOCGPKT, SAME, 4 }, { TIOCGEXCL, SAME, 4 },
    { FIONREAD, SAME, 4 }, { FIONBIO, SAME, 4 }, { FIOASYNC, SAME, 4 }, { FIOCLEX, NONE }, { FIONCLEX, NONE }, { FIOQSIZE, SAME, 8 },
    { FIOSETOWN, SAME, 4 }, { FIOGETOWN, SAME, 4 }, { SIOCSPGRP, SAME, 4 }, { SIOCGPGRP, SAME, 4 }, { SIOCATMARK, SAME, 4 },
    { FIBMAP, SAME, 4 }, { FIGETBSZ, SAME, 4 }, { FICLONE, NONE }, { FICLONERANGE, SAME, 32 }, { FIFREEZE, SAME, 4 }, { FITHAW, SAME, 4 },
    { FITRIM, SAME, 24 }, { 0xc020660b, SAME, 4096 },                                                           /* FS_IOC_FIEMAP */
    { BLKROSET, SAME, 4 }, { BLKROGET, SAME, 4 }, { BLKRRPART, NONE }, { BLKFLSBUF, NONE }, { BLKSSZGET, SAME, 4 },
    { BLKBSZGET, SAME, 4 }, { BLKBSZSET, SAME, 4 }, { BLKGETSIZE64, SAME, 8 }, { BLKGETSIZE, WORD }, { BLKRAGET, WORD }, { BLKRASET, NONE },
    { BLKIOMIN, SAME, 4 }, { BLKIOOPT, SAME, 4 }, { BLKALIGNOFF, SAME, 4 }, { BLKPBSZGET, SAME, 4 }, { BLKDISCARD, SAME, 16 },
    { BLKZEROOUT, SAME, 16 }, { BLKROTATIONAL, SAME, 2 }, { BLKDISCARDZEROES, SAME, 4 },
    { SIOCGIFNAME, SAME, 40 }, { SIOCGIFFLAGS, SAME, 40 }, { SIOCSIFFLAGS, SAME, 40 }, { SIOCGIFADDR, SAME, 40 }, { SIOCSIFADDR, SAME, 40 },
    { SIOCGIFDSTADDR, SAME, 40 }, { SIOCGIFBRDADDR, SAME, 40 }, { SIOCGIFNETMASK, SAME, 40 }, { SIOCSIFNETMASK, SAME, 40 },
    { SIOCGIFMETRIC, SAME, 40 }, { SIOCGIFMTU, SAME, 40 }, { SIOCSIFMTU, SAME, 40 }, { SIOCGIFHWADDR, SAME, 40 }, { SIOCGIFINDEX, SAME, 40 },
    { SIOCGIFTXQLEN, SAME, 40 }, { SIOCSIFTXQLEN, SAME, 40 }, { TUNSETIFF, SAME, 40 }, { TUNSETPERSIST, NONE }, { TUNGETFEATURES, SAME, 4 },
    { 0x127d, SAME, 8 },                        /* BLKGETDISKSEQ's kin: a diskseq */
    { 0x5331, NONE }, { 0x5326, NONE },         /* CDROM_GET_CAPABILITY, CDROM_DRIVE_STATUS */
    { 0x0000b701, NONE }, { 0x0000b702, NONE }, { 0x0000b703, NONE },  /* NS_GET_USERNS ... */
};

/* Requests that encode a size of no more than words have the same layout if they carry no long; these do. */
static const struct { uint32_t guest, host; uint8_t arg; uint16_t size; } narrow[] = {
    { 0x80046601, FS_IOC_GETFLAGS, SAME, 4 }, { 0x40046602, FS_IOC_SETFLAGS, SAME, 4 },
    { 0x80047601, FS_IOC_GETVERSION, SAME, 4 }, { 0x40047602, FS_IOC_SETVERSION, SAME, 4 },
    { 0x80041272, BLKGETSIZE64, SAME, 8 }, { 0x80041270, BLKBSZGET, SAME, 4 }, { 0x40041271, BLKBSZSET, SAME, 4 },
};

static int64_t ioctl_word(struct thread *t, int fd, uint32_t request, uint64_t va)
{
    unsigned long v = 0;
    int64_t r = user_safe_syscall(t, SYS_ioctl, fd, request, (uint64_t)&v, 0, 0, 0);

    return r < 0 ? r : guest_write(t, va, &v, t->abi->bits / 8) ? -EFAULT : r;
}

/* struct ifconf: a length and an address; a guest's struct ifreq has 32 bytes, the host's 40. */
static int64_t ioctl_ifconf(struct thread *t, int fd, uint64_t va)
{
    uint32_t raw[2];
    struct ifconf c;
    g_autofree struct ifreq *list = NULL;
    unsigned count;
    int64_t r;

    if (guest_read(t, raw, va, sizeof(raw)))
        return -EFAULT;
    count = MIN(raw[0] / 32, 4096);
    list = g_new0(struct ifreq, count + 1);
    c = (struct ifconf){ .ifc_len = count * sizeof(*list), .ifc_req = raw[1] ? list : NULL };
    r = user_safe_syscall(t, SYS_ioctl, fd, SIOCGIFCONF, (uint64_t)&c, 0, 0, 0);
    if (r < 0)
        return r;
    for (unsigned n = 0; raw[1] && n < c.ifc_len / sizeof(*list); n++)
        if (guest_write(t, raw[1] + 32 * n, &list[n], 32))
            return -EFAULT;
    raw[0] = c.ifc_len / sizeof(*list) * 32;
    return guest_write(t, va, raw, sizeof(raw[0])) ? -EFAULT : r;
}

/* A 32-bit guest's struct ifreq is 8 bytes shorter than the host's, which the kernel copies whole. */
static int64_t ioctl_same(struct thread *t, int fd, uint32_t request, unsigned size, uint64_t va)
{
    if (size == sizeof(struct ifreq)) {
        struct ifreq req = { 0 };
        int64_t r;

        if (guest_read(t, &req, va, 32))
            return -EFAULT;
        r = user_safe_syscall(t, SYS_ioctl, fd, request, (uint64_t)&req, 0, 0, 0);
        return r >= 0 && guest_write(t, va, &req, 32) ? -EFAULT : r;
    }
    return user_safe_syscall(t, SYS_ioctl, fd, request, (uint64_t)user_ptr_write(t, va, size), 0, 0, 0);
}

static int64_t ioctl_32bit(struct thread *t, int fd, uint32_t request, uint64_t arg)
{
    if (request == SIOCGIFCONF)
        return ioctl_ifconf(t, fd, arg);
    for (unsigned n = 0; n < G_N_ELEMENTS(narrow); n++)
        if (narrow[n].guest == request)
            return ioctl_same(t, fd, narrow[n].host, narrow[n].size, arg);
    for (unsigned n = 0; n < G_N_ELEMENTS(rows); n++) {
        if (rows[n].request != request)
            continue;
        return rows[n].arg == NONE ? user_safe_syscall(t, SYS_ioctl, fd, request, (uint32_t)arg, 0, 0, 0)
            : rows[n].arg == WORD ? ioctl_word(t, fd, request, arg) : ioctl_same(t, fd, request, rows[n].size, arg);
    }
    log_at(LOG_UNIMP, "ioctl: request %#x is not implemented\n", request);
    return fcntl(fd, F_GETFD) < 0 ? -EBADF : -ENOTTY;
}

SYS(ioctl)
{
    uint32_t request = a[1];

    if (is_32bit(t))
        return ioctl_32bit(t, (int)a[0], request, a[2]);
    if (_IOC_DIR(request) & _IOC_READ || (request >= 0x5400 && request < 0x5500))
        guest_host_write(t->process->engine, a[2], _IOC_SIZE(request) ? _IOC_SIZE(request) : 64);
    return user_safe_syscall(t, SYS_ioctl, (int32_t)a[0], request, a[2], 0, 0, 0);
}
