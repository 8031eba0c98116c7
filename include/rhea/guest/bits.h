/* What guests whose instructions are one or two fixed-width words share: rows made by gen/bits.py from isa/NAME.isa.
 * A guest NAME defines, in src/guest/NAME/NAME.h, in this order:
 *   #include "NAME-isa.h"                    NAME_FIELDS, NAME_ROW_* flags
 *   struct NAME_features; NAME_HAS(f, X)     what `if=X` of a row asks
 *   struct NAME_insn { BITS_INSN(NAME); ... NAME_FIELDS };
 *   typedef void NAME_emit_fn(struct NAME_t *t, const struct NAME_insn *i);
 *   BITS_ROW(NAME);                          struct NAME_row
 *   #define NAME_EMITTERS, then #include "NAME-isa.h" again */
#ifndef RHEA_GUEST_BITS_H
#define RHEA_GUEST_BITS_H

#include <stddef.h>
#include <stdint.h>
#include <glib.h>
#include "rhea/guest/guest.h"

#define BITS_INSN(name)                                                                            \
    const struct name##_row *row;       /* NULL: undefined */                                      \
    uint64_t pc;                                                                                   \
    uint32_t raw;                                                                                  \
    uint8_t len                         /* bytes */

#define BITS_ROW(name)                                                                             \
    struct name##_row {                                                                            \
        const char *mnemonic, *operands;                                                           \
        name##_emit_fn *emit;           /* NULL: not written yet */                                \
        uint32_t mask, value;           /* literal bits */                                         \
        uint8_t width, flow;            /* 16 or 32; enum insn_flow */                             \
        uint16_t cond;                  /* NAME_condition() */                                     \
        uint32_t flags;                 /* NAME_ROW_* */                                           \
        int32_t arg;                                                                               \
        int16_t target;                 /* offset of the field a branch adds to pc; -1: none */    \
        const char *pattern;            /* the row's text: tests make encodings of it */           \
    }

struct bits_field { const char *name; uint16_t offset; uint8_t size; bool is_signed; };

/* Disassembly by a row's own text: `operands` with each word that names a field replaced by what print() makes of its
 * value, or, where print() returns NULL, by the value. insn: the decoded instruction. Caller frees. */
char *bits_format(const char *mnemonic, const char *operands, const void *insn, const struct bits_field *fields,
                  char *(*print)(const void *insn, const char *field, int64_t value));
int64_t bits_field_value(const void *insn, const struct bits_field *f);

#endif
