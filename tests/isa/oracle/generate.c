/* See generate.h. */
#include <stdlib.h>
#include <string.h>
#include "generate.h"

GRand *dice;
uint32_t roll(uint32_t n) { return (uint32_t)g_rand_int_range(dice, 0, (gint32)n); }
uint64_t random64(void) { return (uint64_t)g_rand_int(dice) << 32 | g_rand_int(dice); }

/* ---- values */

uint64_t value64(void)
{
    static const uint64_t corner[] = {
        0, 1, 2, 3, 7, 8, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff, 0x80000000,
        0x80000001, 0xffffffff, 0x100000000, 0x7fffffffffffffff, 0x8000000000000000, 0x8000000000000001, 0xffffffff80000000,
        0xffffffff7fffffff, 0xfffffffffffffffe, 0xffffffffffffffff, 0xffffffffffffff80, 0xffffffffffff8000,
        0x8080808080808080, 0x7f7f7f7f7f7f7f7f, 0x8000800080008000, 0x8000000080000000, 0x7fffffff7fffffff, 0x0123456789abcdef,
    };

    switch (roll(8)) {
    case 0: case 1: return corner[roll(G_N_ELEMENTS(corner))];
    case 2: return random64() >> roll(64);
    case 3: return (uint64_t)((int64_t)random64() >> roll(64));
    case 4: return UINT64_C(1) << roll(64);
    case 5: return (UINT64_C(1) << roll(64)) - (UINT64_C(1) << roll(64));
    case 6: return (uint64_t)roll(16) - 8;
    default: return random64();
    }
}

/* A number of the format with the given bits of exponent and fraction. */
static uint64_t value_float(unsigned ebits, unsigned fbits)
{
    uint64_t max = (UINT64_C(1) << ebits) - 1, bias = max / 2, fmask = (UINT64_C(1) << fbits) - 1, quiet = UINT64_C(1) << (fbits - 1);
    uint64_t sign = (uint64_t)roll(2) << (ebits + fbits), e, f;

    switch (roll(18)) {
    case 0: return sign;
    case 1: return sign | max << fbits;                                 /* infinity */
    case 2: return sign | max << fbits | quiet | (one_in(2) ? 0 : random64() & fmask);
    case 3: return sign | max << fbits | 1 | (random64() & (quiet - 1));       /* signaling */
    case 4: return sign | (random64() & fmask >> roll(fbits));          /* denormal */
    case 5: return sign | (max - 1) << fbits | fmask;                   /* the largest */
    case 6: return sign | UINT64_C(1) << fbits | (one_in(2) ? 0 : random64() & fmask);  /* the smallest normal ones */
    case 7: return sign | bias << fbits;                                /* 1 */
    case 8: case 9: e = bias + roll(fbits + 4); break;                  /* integers and halves among them */
    case 10: e = one_in(2) ? roll(fbits + 8) : max - 1 - roll(8); break;
    case 11: case 12: e = bias - 4 + roll(8); break;
    case 13: e = bias + (uint64_t[]){ 7, 8, 15, 16, 31, 32, 63, 64 }[roll(8)] - 1 - roll(2); break;
    case 14: e = bias / 2 - 1 + roll(5); break;                         /* products near the least normal number */
    case 15: e = one_in(2) ? bias / 2 - 1 + roll(5) : bias + bias / 2 - 1 + roll(5); break;     /* and quotients */
    default: e = random64() & max; break;
    }
    if (e > max)
        e = max - 1;
    switch (roll(4)) {
    case 0: f = 0; break;
    case 1: f = fmask & ~(fmask >> roll(fbits + 1)); break;
    case 2: f = fmask - (random64() & 3); break;
    default: f = random64() & fmask; break;
    }
    return sign | e << fbits | (f & fmask);
}

uint64_t value_f64(void) { return value_float(11, 52); }
uint32_t value_f32(void) { return (uint32_t)value_float(8, 23); }
uint16_t value_f16(void) { return (uint16_t)value_float(5, 10); }

void random_bytes(void *at, unsigned n)
{
    uint64_t v;

    for (unsigned i = 0; i < n; i += 8) {
        v = one_in(4) ? value64() : one_in(3) ? value_f64() : one_in(2) ? (uint64_t)value_f32() << 32 | value_f32() : random64();
        memcpy((uint8_t *)at + i, &v, MIN(8, n - i));
    }
}

/* ---- encodings */

/* "12|10:5": bit numbers, the most significant first; NULL text: width - 1 to 0. */
static void field_bits(struct pattern_field *f, const char *slices, unsigned raw_top, unsigned width)
{
    for (unsigned n = 0; n < width; n++)
        f->raw[f->bits + n] = (uint8_t)(raw_top - n);
    if (!slices) {
        for (unsigned n = 0; n < width; n++)
            f->bit[f->bits++] = (uint8_t)(width - 1 - n);
        return;
    }
    for (const char *s = slices; *s && *s != ']';) {
        char *end;
        long hi = strtol(s, &end, 10), lo = hi;

        if (*end == ':')
            lo = strtol(end + 1, &end, 10);
        for (long b = hi; b >= lo; b--)
            f->bit[f->bits++] = (uint8_t)b;
        s = *end == '|' ? end + 1 : end;
    }
}

static struct pattern_field *pattern_field(struct pattern *p, const char *name, size_t len)
{
    for (unsigned n = 0; n < p->count; n++)
        if (strlen(p->field[n].name) == len && !memcmp(p->field[n].name, name, len))
            return &p->field[n];
    g_assert_true(p->count < G_N_ELEMENTS(p->field) && len < sizeof(p->field[0].name));
    memcpy(p->field[p->count].name, name, len);
    return &p->field[p->count++];
}

void pattern_parse(const char *text, struct pattern *p)
{
    g_auto(GStrv) token = g_strsplit(text, " ", -1);
    unsigned raw = 0;

    memset(p, 0, sizeof(*p));
    for (char **t = token; *t; t++)
        raw += strchr(*t, ':') && strrchr(*t, ':') > strchr(*t, ']') ? (unsigned)atoi(strrchr(*t, ':') + 1) : (unsigned)strlen(*t);
    for (char **t = token; *t; t++) {
        const char *slices = strchr(*t, '['), *colon = strrchr(*t, ':');
        unsigned width;

        if (!colon) {
            raw -= (unsigned)strlen(*t);
            continue;
        }
        width = (unsigned)atoi(colon + 1);
        field_bits(pattern_field(p, *t, (size_t)((slices ? slices : colon) - *t)), slices ? slices + 1 : NULL, raw - 1, width);
        raw -= width;
    }
}

const struct pattern_field *pattern_find(const struct pattern *p, const char *name)
{
    for (unsigned n = 0; n < p->count; n++)
        if (!strcmp(p->field[n].name, name))
            return &p->field[n];
    return NULL;
}

uint32_t pattern_put(const struct pattern *p, const char *name, uint32_t raw, uint64_t value)
{
    const struct pattern_field *f = pattern_find(p, name);

    for (unsigned n = 0; f && n < f->bits; n++)
        raw = (raw & ~(1u << f->raw[n])) | (uint32_t)(value >> f->bit[n] & 1) << f->raw[n];
    return raw;
}

uint32_t pattern_random(const struct any_row *row)
{
    uint32_t all = row->width == 16 ? 0xffff : 0xffffffff;

    return row->value | (g_rand_int(dice) & ~row->mask & all);
}
