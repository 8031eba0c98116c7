/* Random encodings from the rows of isa/NAME.isa, and random values that find trouble. */
#ifndef RHEA_TESTS_ISA_GENERATE_H
#define RHEA_TESTS_ISA_GENERATE_H

#include <glib.h>
#include "case.h"
#include "rhea/guest/bits.h"

/* A row of any guest: all tables have the same shape. */
typedef void any_emit_fn(void);
BITS_ROW(any);

extern GRand *dice;
uint32_t roll(uint32_t n);              /* 0 to n - 1 */
uint64_t random64(void);
static inline bool one_in(uint32_t n) { return !roll(n); }
uint64_t value64(void);                 /* corners, small and large numbers, runs of ones, anything */
uint64_t value_f64(void);               /* zeros, denormals, NaNs, infinities, numbers near one another, integers ... */
uint32_t value_f32(void);
uint16_t value_f16(void);
void random_bytes(void *at, unsigned n);

/* A field's place in an encoding. */
struct pattern_field { char name[16]; unsigned bits; uint8_t raw[32], bit[32]; };
struct pattern { unsigned count; struct pattern_field field[16]; };
void pattern_parse(const char *text, struct pattern *p);
const struct pattern_field *pattern_find(const struct pattern *p, const char *name);   /* NULL: the row has none */
/* The encoding with `value` in the field, if the row has it; bits of the value that have no place are lost. */
uint32_t pattern_put(const struct pattern *p, const char *name, uint32_t raw, uint64_t value);
uint32_t pattern_random(const struct any_row *row);     /* literal bits, and dice */

#endif
