/* See rhea/guest/bits.h. */
#include <inttypes.h>
#include <string.h>
#include "rhea/guest/bits.h"

int64_t bits_field_value(const void *insn, const struct bits_field *f)
{
    const uint8_t *at = (const uint8_t *)insn + f->offset;
    uint32_t v = 0;

    memcpy(&v, at, f->size);            /* little-endian host floor */
    return f->is_signed ? (int32_t)v : (int64_t)v;
}

static const struct bits_field *field_find(const struct bits_field *fields, const char *word, size_t len)
{
    for (; fields->name; fields++)
        if (strlen(fields->name) == len && !memcmp(fields->name, word, len))
            return fields;
    return NULL;
}

char *bits_format(const char *mnemonic, const char *operands, const void *insn, const struct bits_field *fields,
                  char *(*print)(const void *insn, const char *field, int64_t value))
{
    GString *s = g_string_new(mnemonic);

    if (*operands)
        g_string_append_c(s, ' ');
    while (*operands) {
        size_t len = strspn(operands, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789");
        const struct bits_field *f = len ? field_find(fields, operands, len) : NULL;
        g_autofree char *text = NULL;

        if (!len) {
            g_string_append_c(s, *operands++);
            continue;
        }
        if (f) {
            text = print ? print(insn, f->name, bits_field_value(insn, f)) : NULL;
            if (text)
                g_string_append(s, text);
            else
                g_string_append_printf(s, "%" PRId64, bits_field_value(insn, f));
        } else {
            g_string_append_len(s, operands, (gssize)len);
        }
        operands += len;
    }
    return g_string_free(s, FALSE);
}
