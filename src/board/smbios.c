/* See smbios.h. */
#include <string.h>
#include "rhea/base/options.h"
#include "smbios.h"

enum { BIOS_HANDLE = 0x000, SYSTEM_HANDLE = 0x100, CHASSIS_HANDLE = 0x300, CPU_HANDLE = 0x400, ARRAY_HANDLE = 0x1000,
       MEMORY_HANDLE = 0x1100, MAPPED_HANDLE = 0x1300, BOOT_HANDLE = 0x2000, END_HANDLE = 0x7f00 };

struct build { GByteArray *b; GPtrArray *strings; unsigned start, count, largest; const struct smbios *of; };

static void begin(struct build *s, uint8_t type, uint16_t handle)
{
    uint8_t head[4] = { type, 0, (uint8_t)handle, (uint8_t)(handle >> 8) };

    s->start = s->b->len;
    g_ptr_array_set_size(s->strings, 0);
    g_byte_array_append(s->b, head, 4);
}

static void put(struct build *s, uint64_t v, unsigned n)
{
    g_byte_array_append(s->b, (uint8_t *)&v, n);
}

/* A string's number goes into the table, its text behind it. */
static void str(struct build *s, const char *text)
{
    if (text && *text)
        g_ptr_array_add(s->strings, (char *)text);
    put(s, text && *text ? s->strings->len : 0, 1);
}

static void end(struct build *s)
{
    s->b->data[s->start + 1] = (uint8_t)(s->b->len - s->start);
    for (unsigned i = 0; i < s->strings->len; i++) {
        const char *t = g_ptr_array_index(s->strings, i);

        g_byte_array_append(s->b, (const uint8_t *)t, (guint)strlen(t) + 1);
    }
    put(s, 0, s->strings->len ? 1 : 2);
    s->largest = MAX(s->largest, s->b->len - s->start);
    s->count++;
}

/* -smbios type=N,key=...: the last one given wins. */
static const char *option(const struct build *s, int type, const char *key, const char *def)
{
    struct json_object *all = s->of->vm->config.smbios;

    for (size_t i = 0; all && json_object_is_type(all, json_type_array) && i < json_object_array_length(all); i++) {
        struct json_object *o = json_object_array_get_idx(all, i);

        if (atoi(option_str(o, "type", "-1")) == type)
            def = option_str(o, key, def);
    }
    return def;
}

static void bios_and_system(struct build *s)
{
    const uint8_t *u = s->of->vm->uuid;
    static const uint8_t order[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };

    begin(s, 0, BIOS_HANDLE);
    str(s, option(s, 0, "vendor", "Rhea"));
    str(s, option(s, 0, "version", "0.1"));
    put(s, 0xe800, 2);
    str(s, option(s, 0, "date", "11/22/2026"));
    put(s, 0, 1);
    put(s, 8, 8);               /* characteristics: not given */
    put(s, 0x1c00, 2);          /* extension: a virtual machine (bit 4), UEFI no, targeted content */
    put(s, 0xffffffff, 4);
    end(s);

    begin(s, 1, SYSTEM_HANDLE);
    str(s, option(s, 1, "manufacturer", "QEMU"));
    str(s, option(s, 1, "product", s->of->product));
    str(s, option(s, 1, "version", s->of->vm->board->name));
    str(s, option(s, 1, "serial", NULL));
    for (unsigned i = 0; i < 16; i++)
        put(s, u[order[i]], 1);
    put(s, 6, 1);               /* woken by the power switch */
    str(s, option(s, 1, "sku", NULL));
    str(s, option(s, 1, "family", NULL));
    end(s);

    begin(s, 3, CHASSIS_HANDLE);
    str(s, option(s, 3, "manufacturer", "QEMU"));
    put(s, 1, 1);               /* other */
    str(s, option(s, 3, "version", s->of->vm->board->name));
    str(s, option(s, 3, "serial", NULL));
    str(s, option(s, 3, "asset", NULL));
    put(s, 0x02030303, 4);      /* states: safe, safe, safe, unknown */
    put(s, 0, 4);
    put(s, 0, 4);
    str(s, option(s, 3, "sku", NULL));
    end(s);
}

static void processors(struct build *s)
{
    const struct vm_config *c = &s->of->vm->config;
    unsigned per = c->dies * c->clusters * c->cores * c->threads;

    for (unsigned i = 0; i < MIN(c->sockets, 64); i++) {
        g_autofree char *socket = g_strdup_printf("CPU %u", i);

        begin(s, 4, (uint16_t)(CPU_HANDLE + i));
        str(s, socket);
        put(s, 3, 1);
        put(s, 1, 1);           /* family: other */
        str(s, option(s, 4, "manufacturer", "QEMU"));
        put(s, 0, 8);
        str(s, option(s, 4, "version", s->of->vm->board->name));
        put(s, 0, 1);
        put(s, 0, 2);
        put(s, 2000, 2);
        put(s, 2000, 2);
        put(s, 0x41, 1);        /* populated, enabled */
        put(s, 1, 1);
        put(s, 0xffffffffffff, 6);
        str(s, NULL);
        str(s, NULL);
        str(s, NULL);
        put(s, MIN(per / MAX(1u, c->threads), 255u), 1);
        put(s, MIN(per / MAX(1u, c->threads), 255u), 1);
        put(s, MIN(per, 255u), 1);
        put(s, 2, 2);
        put(s, 1, 2);
        put(s, MIN(per / MAX(1u, c->threads), 65535u), 2);
        put(s, MIN(per / MAX(1u, c->threads), 65535u), 2);
        put(s, MIN(per, 65535u), 2);
        end(s);
    }
}

static void mapped(struct build *s, unsigned n, uint64_t start, uint64_t size)
{
    if (!size)
        return;
    begin(s, 19, (uint16_t)(MAPPED_HANDLE + n));
    put(s, 0xffffffff, 4);      /* the 64-bit fields hold */
    put(s, 0xffffffff, 4);
    put(s, ARRAY_HANDLE, 2);
    put(s, 1, 1);
    put(s, start, 8);
    put(s, start + size - 1, 8);
    end(s);
}

static void memory(struct build *s)
{
    uint64_t mib = s->of->vm->config.ram_size >> 20;

    begin(s, 16, ARRAY_HANDLE);
    put(s, 1, 1);
    put(s, 3, 1);               /* system memory */
    put(s, 6, 1);               /* multi-bit ECC */
    put(s, 0x80000000, 4);
    put(s, 0xfffe, 2);
    put(s, 1, 2);
    put(s, s->of->vm->config.ram_size, 8);
    end(s);

    begin(s, 17, MEMORY_HANDLE);
    put(s, ARRAY_HANDLE, 2);
    put(s, 0xfffe, 2);
    put(s, 0xffff, 2);
    put(s, 0xffff, 2);
    put(s, mib < 0x7fff ? mib : 0x7fff, 2);
    put(s, 9, 1);               /* DIMM */
    put(s, 0, 1);
    str(s, "DIMM 0");
    str(s, NULL);
    put(s, 7, 1);               /* RAM */
    put(s, 2, 2);
    put(s, 0, 2);
    str(s, "QEMU");
    str(s, NULL);
    str(s, NULL);
    str(s, NULL);
    put(s, 0, 1);
    put(s, mib < 0x7fff ? 0 : mib, 4);
    put(s, 0, 2);
    put(s, 0, 2);
    put(s, 0, 2);
    put(s, 0, 2);
    end(s);
    for (unsigned i = 0; i < SMBIOS_RANGES; i++)
        mapped(s, i, s->of->range[i].base, s->of->range[i].size);
}

void smbios_build(struct smbios *of)
{
    struct build s = { .b = g_byte_array_new(), .strings = g_ptr_array_new(), .of = of };

    bios_and_system(&s);
    processors(&s);
    memory(&s);
    begin(&s, 32, BOOT_HANDLE);
    put(&s, 0, 6);
    put(&s, 0, 1);              /* no errors */
    end(&s);
    begin(&s, 127, END_HANDLE);
    end(&s);
    g_ptr_array_free(s.strings, TRUE);
    of->tables = s.b;
    of->count = s.count;
    of->largest = s.largest;
}

void smbios_free(struct smbios *s)
{
    g_clear_pointer(&s->tables, g_byte_array_unref);
}

/* ---- entry points */

static uint8_t sum(const uint8_t *p, size_t n)
{
    uint8_t total = 0;

    for (size_t i = 0; i < n; i++)
        total += p[i];
    return (uint8_t)-total;
}

void smbios_entry3(const struct smbios *s, uint64_t addr, uint8_t e[SMBIOS_ENTRY3])
{
    uint32_t len = s->tables->len;

    memset(e, 0, SMBIOS_ENTRY3);
    memcpy(e, "_SM3_", 5);
    e[6] = SMBIOS_ENTRY3;
    e[7] = 3;
    e[10] = 1;
    memcpy(e + 12, &len, 4);
    memcpy(e + 16, &addr, 8);
    e[5] = sum(e, SMBIOS_ENTRY3);
}

bool smbios_entry2(const struct smbios *s, uint32_t addr, uint8_t e[SMBIOS_ENTRY2])
{
    uint16_t len = (uint16_t)s->tables->len, count = (uint16_t)s->count, largest = (uint16_t)s->largest;

    if (s->tables->len > UINT16_MAX)
        return false;
    memset(e, 0, SMBIOS_ENTRY2);
    memcpy(e, "_SM_", 4);
    e[5] = SMBIOS_ENTRY2;
    e[6] = 2;
    e[7] = 8;
    memcpy(e + 8, &largest, 2);
    memcpy(e + 16, "_DMI_", 5);
    memcpy(e + 22, &len, 2);
    memcpy(e + 24, &addr, 4);
    memcpy(e + 28, &count, 2);
    e[30] = 0x28;
    e[21] = sum(e + 16, 15);
    e[4] = sum(e, SMBIOS_ENTRY2);
    return true;
}
