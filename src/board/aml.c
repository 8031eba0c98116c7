/* See aml.h. */
#include <string.h>
#include "aml.h"

void aml_init(struct aml *a)
{
    *a = (struct aml){ .buf = g_byte_array_new() };
}

GByteArray *aml_steal(struct aml *a)
{
    g_assert(a->depth == 0);
    return g_steal_pointer(&a->buf);
}

void aml_bytes(struct aml *a, const void *p, size_t n)
{
    g_byte_array_append(a->buf, p, (guint)n);
}

static void byte(struct aml *a, uint8_t v)
{
    aml_bytes(a, &v, 1);
}

static void little(struct aml *a, uint64_t v, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        byte(a, (uint8_t)(v >> 8 * i));
}

void aml_op(struct aml *a, uint16_t op)
{
    if (op > 0xff)
        byte(a, (uint8_t)(op >> 8));
    byte(a, (uint8_t)op);
}

/* ---- names (20.2.2) */

static void segment(struct aml *a, const char *s, size_t n)
{
    char seg[4] = { '_', '_', '_', '_' };

    memcpy(seg, s, MIN(n, sizeof(seg)));
    aml_bytes(a, seg, 4);
}

void aml_path(struct aml *a, const char *path)
{
    g_auto(GStrv) segs = NULL;
    unsigned n;

    for (; *path == '\\' || *path == '^'; path++)
        byte(a, (uint8_t)*path);
    segs = g_strsplit(path, ".", -1);
    n = g_strv_length(segs);
    if (n == 0 || !*segs[0]) {
        byte(a, 0);
        return;
    }
    if (n == 2) {
        byte(a, 0x2e);
    } else if (n > 2) {
        byte(a, 0x2f);
        byte(a, (uint8_t)n);
    }
    for (unsigned i = 0; i < n; i++)
        segment(a, segs[i], strlen(segs[i]));
}

/* ---- values */

void aml_int(struct aml *a, uint64_t v)
{
    static const struct { uint8_t op, len; uint64_t max; } forms[] = {
        { AML_BYTE, 1, 0xff }, { AML_WORD, 2, 0xffff }, { AML_DWORD, 4, 0xffffffff }, { AML_QWORD, 8, UINT64_MAX },
    };
    unsigned i = 0;

    if (v < 2) {
        byte(a, (uint8_t)v);
        return;
    }
    while (v > forms[i].max)
        i++;
    byte(a, forms[i].op);
    little(a, v, forms[i].len);
}

void aml_string(struct aml *a, const char *s)
{
    byte(a, AML_STRING);
    aml_bytes(a, s, strlen(s) + 1);
}

/* Three letters of five bits and four hexadecimal digits, big-endian (19.3.4). */
void aml_eisaid(struct aml *a, const char *id)
{
    uint32_t v = (uint32_t)(id[0] - '@') << 26 | (uint32_t)(id[1] - '@') << 21 | (uint32_t)(id[2] - '@') << 16 |
                 (uint32_t)g_ascii_strtoull(id + 3, NULL, 16);

    byte(a, AML_DWORD);
    little(a, __builtin_bswap32(v), 4);
}

void aml_name(struct aml *a, const char *name)
{
    byte(a, AML_NAME);
    aml_path(a, name);
}

void aml_name_int(struct aml *a, const char *name, uint64_t v)
{
    aml_name(a, name);
    aml_int(a, v);
}

void aml_name_string(struct aml *a, const char *name, const char *s)
{
    aml_name(a, name);
    aml_string(a, s);
}

void aml_name_eisaid(struct aml *a, const char *name, const char *id)
{
    aml_name(a, name);
    aml_eisaid(a, id);
}

/* ---- packages (20.2.4) */

static void begin(struct aml *a, uint16_t op)
{
    g_assert(a->depth < AML_DEPTH);
    aml_op(a, op);
    a->open[a->depth++] = a->buf->len;
}

/* The length counts its own bytes: one if all fits in 6 bits, else up to four of which the first holds 4 bits. */
void aml_end(struct aml *a)
{
    unsigned at = a->open[--a->depth], len = a->buf->len - at, n = 1;
    uint8_t enc[4];

    if (len + 1 > 63)
        for (n = 2; len + n > (1u << (4 + 8 * (n - 1))) - 1; n++)
            ;
    len += n;
    if (n == 1) {
        enc[0] = (uint8_t)len;
    } else {
        enc[0] = (uint8_t)((n - 1) << 6 | (len & 15));
        for (unsigned i = 1; i < n; i++)
            enc[i] = (uint8_t)(len >> (4 + 8 * (i - 1)));
    }
    g_byte_array_set_size(a->buf, a->buf->len + n);
    memmove(a->buf->data + at + n, a->buf->data + at, a->buf->len - n - at);
    memcpy(a->buf->data + at, enc, n);
}

void aml_scope(struct aml *a, const char *path)
{
    begin(a, AML_SCOPE);
    aml_path(a, path);
}

void aml_device(struct aml *a, const char *name)
{
    begin(a, AML_DEVICE);
    aml_path(a, name);
}

void aml_method(struct aml *a, const char *name, unsigned args, bool serialized)
{
    begin(a, AML_METHOD);
    aml_path(a, name);
    byte(a, (uint8_t)(args | serialized << 3));
}

void aml_package(struct aml *a, unsigned elements)
{
    begin(a, AML_PACKAGE);
    byte(a, (uint8_t)elements);
}

void aml_if(struct aml *a)
{
    begin(a, AML_IF);
}

void aml_else(struct aml *a)
{
    begin(a, AML_ELSE);
}

void aml_buffer(struct aml *a, const void *p, size_t n)
{
    begin(a, AML_BUFFER);
    aml_int(a, n);
    aml_bytes(a, p, n);
    aml_end(a);
}

/* The first three fields are little-endian (19.6.142). */
void aml_uuid(struct aml *a, const char *uuid)
{
    static const uint8_t order[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };
    uint8_t raw[16] = { 0 }, out[16];
    unsigned n = 0;

    for (; *uuid && n < 32; uuid++) {
        if (*uuid == '-')
            continue;
        raw[n / 2] = (uint8_t)(raw[n / 2] << 4 | g_ascii_xdigit_value(*uuid));
        n++;
    }
    for (unsigned i = 0; i < 16; i++)
        out[i] = raw[order[i]];
    aml_buffer(a, out, 16);
}

/* ---- regions and fields */

void aml_region(struct aml *a, const char *name, uint8_t space, uint64_t offset, uint64_t len)
{
    aml_op(a, AML_REGION);
    aml_path(a, name);
    byte(a, space);
    aml_int(a, offset);
    aml_int(a, len);
}

void aml_field(struct aml *a, const char *region, uint8_t flags)
{
    begin(a, AML_FIELD);
    aml_path(a, region);
    byte(a, flags);
}

void aml_field_unit(struct aml *a, const char *name, unsigned bits)
{
    if (name)
        segment(a, name, strlen(name));
    else
        byte(a, 0);
    /* A length that counts nothing but itself: the bits. */
    if (bits < 64) {
        byte(a, (uint8_t)bits);
    } else {
        byte(a, (uint8_t)(1 << 6 | (bits & 15)));
        byte(a, (uint8_t)(bits >> 4));
    }
}

/* ---- resources */

void aml_resources(struct aml *a)
{
    begin(a, AML_BUFFER);
    /* The buffer's size comes first, and is not known yet: a word that aml_resources_end() fills. */
    byte(a, AML_WORD);
    little(a, 0, 2);
}

void aml_resources_end(struct aml *a)
{
    unsigned at = a->open[a->depth - 1], size;

    byte(a, 0x79);              /* end tag; checksum 0: not checked */
    byte(a, 0);
    size = a->buf->len - at - 3;
    a->buf->data[at + 1] = (uint8_t)size;
    a->buf->data[at + 2] = (uint8_t)(size >> 8);
    aml_end(a);
}

void aml_io(struct aml *a, uint16_t base, uint8_t len)
{
    byte(a, 0x47);
    byte(a, 1);                 /* decodes 16 bits */
    little(a, base, 2);
    little(a, base, 2);
    byte(a, 1);
    byte(a, len);
}

void aml_irq(struct aml *a, uint16_t mask)
{
    byte(a, 0x22);
    little(a, mask, 2);
}

void aml_irq_shared(struct aml *a, uint16_t mask)
{
    byte(a, 0x23);
    little(a, mask, 2);
    byte(a, 0x18);
}

static void interrupt(struct aml *a, uint8_t flags, uint32_t gsi)
{
    byte(a, 0x89);
    little(a, 6, 2);
    byte(a, flags);
    byte(a, 1);
    little(a, gsi, 4);
}

void aml_interrupt(struct aml *a, uint32_t gsi)
{
    interrupt(a, 0x03, gsi);    /* consumer, edge, active high, exclusive */
}

void aml_interrupt_level(struct aml *a, uint32_t gsi)
{
    interrupt(a, 0x01, gsi);
}

void aml_memory32(struct aml *a, bool writable, uint32_t base, uint32_t len)
{
    byte(a, 0x86);
    little(a, 9, 2);
    byte(a, writable);
    little(a, base, 4);
    little(a, len, 4);
}

/* 6.4.3.5. flags of the resource, then those of its kind */
struct window { enum aml_range kind; uint8_t flags, specific; uint64_t first, last, translation; };

static void window(struct aml *a, const struct window *w)
{
    static const struct { uint8_t tag, len; uint16_t size; } forms[] = { { 0x88, 2, 0x0d }, { 0x87, 4, 0x17 }, { 0x8a, 8, 0x2b } };
    uint64_t most = MAX(w->last, w->translation);
    unsigned f = w->kind != AML_MEMORY && most <= 0xffff && w->last - w->first < 0xffff ? 0 : most <= 0xffffffff ? 1 : 2, n = forms[f].len;

    byte(a, forms[f].tag);
    little(a, forms[f].size, 2);
    byte(a, (uint8_t)w->kind);
    byte(a, w->flags);
    byte(a, w->specific);
    little(a, 0, n);            /* granularity */
    little(a, w->first, n);
    little(a, w->last, n);
    little(a, w->translation, n);
    little(a, w->last - w->first + 1, n);
}

enum { FIXED = 0x0c /* minimum and maximum are, positive decode */, CONSUMER = 1, ENTIRE = 3, READ_WRITE = 1, CACHEABLE = 2, TYPE_TRANSLATION = 0x10 };

void aml_window(struct aml *a, enum aml_range kind, bool cacheable, uint64_t first, uint64_t last)
{
    static const uint8_t specific[] = { [AML_MEMORY] = READ_WRITE, [AML_IO] = ENTIRE, [AML_BUS] = 0 };
    struct window w = { .kind = kind, .flags = FIXED, .specific = specific[kind], .first = first, .last = last };

    if (kind == AML_MEMORY && cacheable)
        w.specific |= CACHEABLE;
    window(a, &w);
}

void aml_window_ports(struct aml *a, uint64_t base, uint32_t size)
{
    struct window w = { .kind = AML_IO, .flags = FIXED, .specific = ENTIRE | TYPE_TRANSLATION, .last = size - 1, .translation = base };

    window(a, &w);
}

void aml_memory64(struct aml *a, uint64_t base, uint64_t len)
{
    struct window w = { .flags = FIXED | CONSUMER, .specific = READ_WRITE, .first = base, .last = base + len - 1 };

    window(a, &w);
}
