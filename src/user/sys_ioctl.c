/* ioctl(): a row a request (ioctls.def). Requests have the same numbers for all guests here (asm-generic/ioctl.h), a 64-bit
 * guest's arguments the same layout; a 32-bit guest's must be known to be so, or are converted. */
#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <fcntl.h>
#include <linux/auto_fs.h>
#include <linux/blkpg.h>
#include <linux/blkzoned.h>
#include <linux/btrfs.h>
#include <linux/cdrom.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/fuse.h>
#include <linux/hdreg.h>
#include <linux/i2c-dev.h>
#include <linux/i2c.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/kd.h>
#include <linux/loop.h>
#include <linux/msdos_fs.h>
#include <linux/nbd.h>
#include <linux/nsfs.h>
#include <linux/random.h>
#include <linux/rtc.h>
#include <linux/serial.h>
#include <linux/sockios.h>
#include <linux/uinput.h>
#include <linux/usbdevice_fs.h>
#include <linux/vt.h>
#include <linux/watchdog.h>
#include <scsi/sg.h>
#include <string.h>
#include <sys/syscall.h>
#include "rhea/base/log.h"
#include "user/syscall.h"

enum { IN = _IOC_WRITE, OUT = _IOC_READ };
struct ioctl_row {
    const char *name;
    uint32_t request;
    uint32_t guest;             /* a 32-bit guest's request; with fields it follows from them */
    uint16_t bytes;             /* of memory that is the same for all; 0 and no fields: the argument is a number */
    uint8_t way;
    const char *fields;
};

static const struct ioctl_row rows[] = {
#define NUMBER(name) { #name, name, name },
#define MEMORY(name, bytes) { #name, name, name, bytes },
#define CODED(name) { #name, name, name, _IOC_SIZE(name) },
#define FIELDS(name, way, fields) { #name, name, 0, 0, way, fields },
#define RENAMED(name, guest, bytes) { #name, name, guest, bytes },
#include "user/ioctls.def"
#undef NUMBER
#undef MEMORY
#undef CODED
#undef FIELDS
#undef RENAMED
};

/* All requests of these are structures without longs and pointers. */
static const struct { uint8_t type, first, last; } families[] = {
    { 'E', 0x01, 0x7f }, { 'E', 0x90, 0x91 },           /* linux/input.h, but force feedback and masks */
    { 'H', 0x01, 0x1f },                                /* linux/hidraw.h */
    { 'j', 0x01, 0x3f },                                /* linux/joystick.h */
    { 0xb4, 0x01, 0x1f },                               /* linux/gpio.h */
};
enum { SIZE_BITS = _IOC_SIZEMASK << _IOC_SIZESHIFT };

static bool asks_for(const struct abi *abi, const struct ioctl_row *row, uint32_t request)
{
    if (abi->bits == 64)
        return row->request == request;
    if (!row->fields)
        return row->guest == request;
    if ((row->request ^ request) & ~SIZE_BITS)
        return false;
    return _IOC_SIZE(row->request) != fields_size(NULL, row->fields) ? row->request == request
                                                                      : _IOC_SIZE(request) == fields_size(abi, row->fields);
}

static const struct ioctl_row *row_of(const struct abi *abi, uint32_t request)
{
    for (unsigned n = 0; n < G_N_ELEMENTS(rows); n++)
        if (asks_for(abi, &rows[n], request))
            return &rows[n];
    return NULL;
}

const char *ioctl_name(const struct abi *abi, uint32_t request)
{
    const struct ioctl_row *row = row_of(abi, request);

    return row ? row->name : NULL;
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

/* What addresses among the fields point to is looked at by the kernel, in the host's memory. */
static void addresses_to_host(struct thread *t, const char *fields, uint8_t *host)
{
    unsigned size;
    size_t at;

    for (unsigned n = 0; fields_address(NULL, fields, n, &at, &size); n++) {
        uint64_t va;
        void *p;

        memcpy(&va, host + at, sizeof(va));
        p = user_ptr(t, va, 1);
        memcpy(host + at, &p, sizeof(p));
    }
}

static void addresses_keep(const struct abi *abi, const char *fields, uint8_t *to, const uint8_t *from)
{
    unsigned size;
    size_t at;

    for (unsigned n = 0; fields_address(abi, fields, n, &at, &size); n++)
        memcpy(to + at, from + at, size);
}

static int64_t ioctl_fields(struct thread *t, int fd, const struct ioctl_row *row, uint64_t va)
{
    uint8_t host[LAYOUT_MAX] = { 0 }, guest[LAYOUT_MAX] = { 0 }, was[LAYOUT_MAX];
    size_t size = fields_size(t->abi, row->fields);
    int64_t r;

    if (row->way & IN && guest_read(t, guest, va, size))
        return -EFAULT;
    memcpy(was, guest, size);
    fields_to_host(t->abi, row->fields, host, guest);
    addresses_to_host(t, row->fields, host);
    r = user_safe_syscall(t, SYS_ioctl, fd, row->request, (uint64_t)host, 0, 0, 0);
    if (r < 0 || !(row->way & OUT))
        return r;
    fields_to_guest(t->abi, row->fields, guest, host);
    addresses_keep(t->abi, row->fields, guest, was);
    return guest_write(t, va, guest, size) ? -EFAULT : r;
}

static bool in_family(uint32_t request)
{
    for (unsigned n = 0; n < G_N_ELEMENTS(families); n++)
        if (_IOC_TYPE(request) == families[n].type && _IOC_NR(request) >= families[n].first && _IOC_NR(request) <= families[n].last)
            return true;
    return false;
}

static int64_t ioctl_memory(struct thread *t, int fd, uint32_t request, unsigned bytes, uint64_t va)
{
    return user_safe_syscall(t, SYS_ioctl, fd, request, (uint64_t)user_ptr_write(t, va, bytes), 0, 0, 0);
}

static int64_t ioctl_32bit(struct thread *t, int fd, uint32_t request, uint64_t arg)
{
    const struct ioctl_row *row = row_of(t->abi, request);

    if (request == SIOCGIFCONF)
        return ioctl_ifconf(t, fd, arg);
    if (row && row->fields)
        return ioctl_fields(t, fd, row, arg);
    if (row && !row->bytes)
        return user_safe_syscall(t, SYS_ioctl, fd, request, (uint32_t)arg, 0, 0, 0);
    if (row || in_family(request))
        return ioctl_memory(t, fd, row ? row->request : request, row ? row->bytes : _IOC_SIZE(request), arg);
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
