/* The kernel ABIs of the guests: their facts, and structures converted by their fields. */
#include <linux/audit.h>
#include <string.h>
#include "user/abi.h"

static const struct abi abis[] = {
    { "x86_64", ABI_X86_64, 64, AUDIT_ARCH_X86_64, 8, .packed_epoll = true, .clone_tls_last = true },
    { "i386", ABI_I386, 32, AUDIT_ARCH_I386, 4, .packed_epoll = true },
    { "arm", ABI_ARM, 32, AUDIT_ARCH_ARM, 8, .pairs_even = true, .arm_open_flags = true },
    { "aarch64", ABI_AARCH64, 64, AUDIT_ARCH_AARCH64, 8, .arm_open_flags = true, .stat_generic = true },
    { "riscv64", ABI_RISCV64, 64, AUDIT_ARCH_RISCV64, 8, .stat_generic = true, .no_restorer = true },
    { "riscv32", ABI_RISCV32, 32, AUDIT_ARCH_RISCV32, 8, .no_restorer = true },
};
static const struct abi host_abi = { "host", ABI_X86_64, 64, AUDIT_ARCH_X86_64, 8 };

const struct abi *abi_find(const char *guest)
{
    for (size_t n = 0; n < sizeof(abis) / sizeof(abis[0]); n++)
        if (!strcmp(abis[n].guest, guest))
            return &abis[n];
    return NULL;
}

static const struct { const char *name, *fields; } layouts[] = {
    [LAYOUT_NONE] = { "none", "" },
#define X(name, fields) [LAYOUT_##name] = { #name, fields },
    LAYOUTS(X)
#undef X
};

static unsigned field_size(const struct abi *abi, char kind)
{
    switch (kind) {
    case 'b': return 1;
    case 'h': case 'H': return 2;
    case 'i': case 'I': return 4;
    case 'q': case 'Q': case 'n': case 'A': return 8;
    default: return abi->bits / 8;
    }
}

static unsigned field_align(const struct abi *abi, unsigned size) { return size == 8 ? abi->align64 : size; }

/* The next field of a layout: its kind; the count is kept in *left. */
static char field_next(const char **fields, unsigned *left)
{
    while (!*left) {
        if (!**fields)
            return 0;
        while (**fields >= '0' && **fields <= '9')
            *left = *left * 10 + (*(*fields)++ - '0');
        if (!*left)
            *left = 1;
        (*fields)++;
    }
    (*left)--;
    return (*fields)[-1];
}

static size_t align_up(size_t n, unsigned align) { return (n + align - 1) & -(size_t)align; }

size_t fields_size(const struct abi *abi, const char *fields)
{
    unsigned left = 0, max = 1;
    size_t at = 0;

    abi = abi ? abi : &host_abi;
    for (char kind; (kind = field_next(&fields, &left)); ) {
        unsigned size = field_size(abi, kind), align = field_align(abi, size);

        at = align_up(at, align) + size;
        max = align > max ? align : max;
    }
    return align_up(at, max);
}

size_t layout_size(const struct abi *abi, enum layout l) { return fields_size(abi, layouts[l].fields); }

bool fields_address(const struct abi *abi, const char *fields, unsigned nth, size_t *at, unsigned *size)
{
    unsigned left = 0, seen = 0;

    abi = abi ? abi : &host_abi;
    *at = *size = 0;
    for (char kind; (kind = field_next(&fields, &left)); ) {
        *at += *size;
        *size = field_size(abi, kind);
        *at = align_up(*at, field_align(abi, *size));
        if ((kind == 'a' || kind == 'A') && seen++ == nth)
            return true;
    }
    return false;
}

bool layout_same(const struct abi *abi, enum layout l)
{
    if (abi->bits == 64)
        return true;
    for (const char *f = layouts[l].fields; *f; f++)
        if (strchr("lLpRn", *f))
            return false;
    return layout_size(abi, l) == layout_size(NULL, l);
}

static int64_t field_read(char kind, const uint8_t *p, unsigned size)
{
    uint64_t v = 0;

    memcpy(&v, p, size);
    if (kind == 'R' && size == 4)
        return v == UINT32_MAX ? -1 : (int64_t)v;
    if (strchr("hilq", kind) && size < 8)
        return (int64_t)(v << (64 - 8 * size)) >> (64 - 8 * size);
    return v;
}

static void convert(const struct abi *to_abi, const struct abi *from_abi, const char *f, uint8_t *to, const uint8_t *from)
{
    unsigned left = 0;
    size_t t = 0, s = 0;

    memset(to, 0, fields_size(to_abi, f));
    for (char kind; (kind = field_next(&f, &left)); ) {
        unsigned to_size = field_size(to_abi, kind), from_size = field_size(from_abi, kind);
        int64_t v;

        t = align_up(t, field_align(to_abi, to_size));
        s = align_up(s, field_align(from_abi, from_size));
        v = field_read(kind, from + s, from_size);
        if (kind == 'R' && to_size == 4 && (uint64_t)v > UINT32_MAX)
            v = UINT32_MAX;
        if (kind == 'n' && from_abi->bits == 32)
            v = (int32_t)v;
        memcpy(to + t, &v, to_size);
        t += to_size;
        s += from_size;
    }
}

void fields_to_host(const struct abi *abi, const char *fields, void *host, const void *guest)
{
    convert(&host_abi, abi, fields, host, guest);
}

void fields_to_guest(const struct abi *abi, const char *fields, void *guest, const void *host)
{
    convert(abi, &host_abi, fields, guest, host);
}

void layout_to_host(const struct abi *abi, enum layout l, void *host, const void *guest)
{
    fields_to_host(abi, layouts[l].fields, host, guest);
}

void layout_to_guest(const struct abi *abi, enum layout l, void *guest, const void *host)
{
    fields_to_guest(abi, layouts[l].fields, guest, host);
}

const char *layout_name(enum layout l) { return layouts[l].name; }

/* ---- open flags: the host's (asm-generic) and Arm's four of their own */
static const struct { int host, arm; } arm_flags[] = {
    { 040000, 0200000 },        /* O_DIRECT */
    { 0100000, 0400000 },       /* O_LARGEFILE */
    { 0200000, 040000 },        /* O_DIRECTORY */
    { 0400000, 0100000 },       /* O_NOFOLLOW */
};

int open_flags_to_host(const struct abi *abi, int flags)
{
    int out = flags & ~0740000;

    if (!abi->arm_open_flags)
        return flags;
    for (size_t n = 0; n < sizeof(arm_flags) / sizeof(arm_flags[0]); n++)
        if (flags & arm_flags[n].arm)
            out |= arm_flags[n].host;
    return out;
}

int open_flags_to_guest(const struct abi *abi, int flags)
{
    int out = flags & ~0740000;

    if (!abi->arm_open_flags)
        return flags;
    for (size_t n = 0; n < sizeof(arm_flags) / sizeof(arm_flags[0]); n++)
        if (flags & arm_flags[n].host)
            out |= arm_flags[n].arm;
    return out;
}
