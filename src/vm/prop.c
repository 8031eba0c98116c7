/* Properties: from what the user typed to a field of a struct, and back. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <glib.h>
#include "device_internal.h"
#include "rhea/base/options.h"
#include "rhea/vm/vm.h"

static const char *const on_off_auto_names[] = { "auto", "on", "off", NULL };

const char *prop_type_name(const struct prop *p)
{
    switch (p->type) {
    case PROP_BOOL: case PROP_BIT:  return "bool";
    case PROP_U8:                   return "uint8";
    case PROP_U16:                  return "uint16";
    case PROP_U32:                  return "uint32";
    case PROP_U64:                  return "uint64";
    case PROP_I32:                  return "int32";
    case PROP_SIZE:                 return "size";
    case PROP_PCI_ADDR:             return "int32";
    case PROP_ENUM:                 return "str";
    case PROP_ON_OFF_AUTO:          return "OnOffAuto";
    default:                        return "str";
    }
}

static bool bad_value(const struct prop *p, const char *value, const char *wanted, struct error *err)
{
    g_autofree char *hint = g_strdup_printf("'%s' takes %s", p->name, wanted);

    return error_setf(err, ERR_GENERIC, hint, "Property '%s' doesn't take value '%s'", p->name, value);
}

/* Names of an enumeration as "a, b, c", and the index of value, or -1. */
static int enum_index(const char *const *names, const char *value)
{
    for (int i = 0; names[i]; i++)
        if (strcmp(names[i], value) == 0)
            return i;
    return -1;
}

static bool set_enum(const struct prop *p, const char *const *names, uint32_t *field, const char *value, struct error *err)
{
    g_autofree char *all = g_strjoinv(", ", (char **)names);
    int i = enum_index(names, value);

    if (i < 0)
        return bad_value(p, value, all, err);
    *field = (uint32_t)i;
    return true;
}

static bool set_uint(const struct prop *p, void *field, const char *value, unsigned bytes, struct error *err)
{
    uint64_t max = bytes == 8 ? UINT64_MAX : ((uint64_t)1 << bytes * 8) - 1, v;
    struct error e = ERROR_INIT;

    /* "-1" is how people write all ones. */
    if (strcmp(value, "-1") == 0) {
        v = max;
    } else if (!parse_uint(value, max, &v, &e)) {
        g_autofree char *wanted = g_strdup_printf("a number from 0 to %" PRIu64, max);

        error_clear(&e);
        return bad_value(p, value, wanted, err);
    }
    memcpy(field, &v, bytes);
    return true;
}

static bool set_int(const struct prop *p, int32_t *field, const char *value, struct error *err)
{
    char *end;
    long v;

    errno = 0;
    v = strtol(value, &end, 0);
    if (errno || end == value || *end || v < INT32_MIN || v > INT32_MAX)
        return bad_value(p, value, "a 32-bit number", err);
    *field = (int32_t)v;
    return true;
}

static bool set_bytes(const struct prop *p, uint8_t *field, const char *value, const char *pattern, const char *wanted,
                      struct error *err)
{
    uint8_t out[16];
    unsigned n = 0;

    for (const char *s = value, *q = pattern; *q; q++) {
        if (*q == 'x') {
            if (!g_ascii_isxdigit(s[0]) || !g_ascii_isxdigit(s[1]))
                return bad_value(p, value, wanted, err);
            out[n++] = (uint8_t)(g_ascii_xdigit_value(s[0]) << 4 | g_ascii_xdigit_value(s[1]));
            s += 2;
        } else if (*s != *q && !(*q == ':' && *s == '-')) {
            return bad_value(p, value, wanted, err);
        } else {
            s++;
        }
        if (!q[1] && *s)
            return bad_value(p, value, wanted, err);
    }
    memcpy(field, out, n);
    return true;
}

static bool set_uuid(const struct prop *p, uint8_t *field, const char *value, struct error *err)
{
    if (strcmp(value, "auto") == 0) {
        for (int i = 0; i < 16; i++)
            field[i] = (uint8_t)g_random_int();
        field[6] = (field[6] & 0x0f) | 0x40;
        field[8] = (field[8] & 0x3f) | 0x80;
        return true;
    }
    return set_bytes(p, field, value, "xxxx-xx-xx-xx-xxxxxx", "a UUID or 'auto'", err);
}

/* "slot", "slot.fn", in hexadecimal (-device addr=1c.2), or "0x1c". A plain JSON number is a devfn. */
static bool set_pci_addr(const struct prop *p, int32_t *field, const char *value, struct error *err)
{
    unsigned long slot, fn = 0;
    char *end;

    if (strcmp(value, "-1") == 0) {
        *field = -1;
        return true;
    }
    errno = 0;
    slot = strtoul(value, &end, 16);
    if (end == value || !g_ascii_isxdigit(value[0]) || (*end && *end != '.'))
        return bad_value(p, value, "a PCI address: slot or slot.function, hexadecimal", err);
    if (*end == '.') {
        const char *s = end + 1;

        fn = strtoul(s, &end, 16);
        if (end == s || *end)
            return bad_value(p, value, "a PCI address: slot or slot.function, hexadecimal", err);
    }
    if (slot > 31 || fn > 7)
        return bad_value(p, value, "a PCI address: slot 0 to 1f, function 0 to 7", err);
    *field = (int32_t)(slot << 3 | fn);
    return true;
}

bool prop_set(void *base, const struct prop *p, const char *value, struct error *err)
{
    void *field = (char *)base + p->offset;
    bool b;

    switch (p->type) {
    case PROP_BOOL:
        return parse_bool(value, field, NULL) || bad_value(p, value, "'on' or 'off'", err);
    case PROP_BIT:
        if (!parse_bool(value, &b, NULL))
            return bad_value(p, value, "'on' or 'off'", err);
        *(uint64_t *)field = (*(uint64_t *)field & ~((uint64_t)1 << p->bit)) | (uint64_t)b << p->bit;
        return true;
    case PROP_U8:   return set_uint(p, field, value, 1, err);
    case PROP_U16:  return set_uint(p, field, value, 2, err);
    case PROP_U32:  return set_uint(p, field, value, 4, err);
    case PROP_U64:  return set_uint(p, field, value, 8, err);
    case PROP_I32:  return set_int(p, field, value, err);
    case PROP_SIZE: return parse_size(value, 1, field, NULL) || bad_value(p, value, "a size such as 4096, 64K or 1G", err);
    case PROP_ENUM: return set_enum(p, p->values, field, value, err);
    case PROP_ON_OFF_AUTO: return set_enum(p, on_off_auto_names, field, value, err);
    case PROP_MAC:  return set_bytes(p, field, value, "x:x:x:x:x:x", "a MAC address such as 52:54:00:12:34:56", err);
    case PROP_UUID: return set_uuid(p, field, value, err);
    case PROP_PCI_ADDR: return set_pci_addr(p, field, value, err);
    default:
        g_free(*(char **)field);
        *(char **)field = g_strdup(value);
        return true;
    }
}

bool prop_is_string(const struct prop *p)
{
    switch (p->type) {
    case PROP_STR: case PROP_DRIVE: case PROP_NETDEV: case PROP_CHARDEV: case PROP_IOTHREAD: case PROP_OBJECT:
        return true;
    default:
        return false;
    }
}

char *prop_get(const void *base, const struct prop *p)
{
    const void *field = (const char *)base + p->offset;
    const uint8_t *x = field;
    uint32_t e = 0;

    switch (p->type) {
    case PROP_BOOL: return g_strdup(*(const bool *)field ? "on" : "off");
    case PROP_BIT:  return g_strdup(*(const uint64_t *)field >> p->bit & 1 ? "on" : "off");
    case PROP_U8:   return g_strdup_printf("%u", *x);
    case PROP_U16:  return g_strdup_printf("%u", *(const uint16_t *)field);
    case PROP_U32:  return g_strdup_printf("%u", *(const uint32_t *)field);
    case PROP_U64:
    case PROP_SIZE: return g_strdup_printf("%" PRIu64, *(const uint64_t *)field);
    case PROP_I32:  return g_strdup_printf("%d", *(const int32_t *)field);
    case PROP_ENUM:
    case PROP_ON_OFF_AUTO: {
        const char *const *names = p->type == PROP_ENUM ? p->values : on_off_auto_names;

        memcpy(&e, field, 4);
        return g_strdup(e < g_strv_length((char **)names) ? names[e] : "");
    }
    case PROP_MAC:
        return g_strdup_printf("%02x:%02x:%02x:%02x:%02x:%02x", x[0], x[1], x[2], x[3], x[4], x[5]);
    case PROP_UUID:
        return g_strdup_printf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", x[0], x[1], x[2], x[3],
                               x[4], x[5], x[6], x[7], x[8], x[9], x[10], x[11], x[12], x[13], x[14], x[15]);
    case PROP_PCI_ADDR: {
        int32_t a = *(const int32_t *)field;

        return a < 0 ? g_strdup("-1") : g_strdup_printf("%02x.%x", a >> 3, a & 7);
    }
    default: {
        const char *s = *(char *const *)field;

        return g_strdup(s ? s : "");
    }
    }
}

struct json_object *prop_get_json(const void *base, const struct prop *p)
{
    const void *field = (const char *)base + p->offset;
    g_autofree char *text = NULL;

    switch (p->type) {
    case PROP_BOOL: return json_object_new_boolean(*(const bool *)field);
    case PROP_BIT:  return json_object_new_boolean(*(const uint64_t *)field >> p->bit & 1);
    case PROP_U8:   return json_object_new_int(*(const uint8_t *)field);
    case PROP_U16:  return json_object_new_int(*(const uint16_t *)field);
    case PROP_U32:  return json_object_new_int64(*(const uint32_t *)field);
    case PROP_U64:
    case PROP_SIZE: return json_object_new_uint64(*(const uint64_t *)field);
    case PROP_I32:  return json_object_new_int(*(const int32_t *)field);
    case PROP_PCI_ADDR: return json_object_new_int(*(const int32_t *)field);
    default:
        text = prop_get(base, p);
        return json_object_new_string(text);
    }
}

/* JSON to the text form: a number for a PCI address is a devfn. Caller frees. */
char *prop_text_of_json(const struct prop *p, struct json_object *value)
{
    switch (json_object_get_type(value)) {
    case json_type_boolean:
        return g_strdup(json_object_get_boolean(value) ? "on" : "off");
    case json_type_int:
        if (p && p->type == PROP_PCI_ADDR) {
            int64_t devfn = json_object_get_int64(value);

            return devfn < 0 ? g_strdup("-1") : g_strdup_printf("%x.%x", (unsigned)devfn >> 3, (unsigned)devfn & 7);
        }
        return g_strdup(json_object_get_string(value));
    default:
        return g_strdup(json_object_get_string(value));
    }
}

void prop_free(void *base, const struct prop *p)
{
    char **field = (char **)((char *)base + p->offset);

    if (prop_is_string(p)) {
        g_free(*field);
        *field = NULL;
    }
}
