/* The public operations of one format, from parts_* and the format's own
 *   F_unpack(T, s)            to parts
 *   F_pack(parts, s)          rounds to the whole precision and packs
 *   F_pack_arithmetic(...)    the same at the precision the status asks for (differs for f80 only)
 *   F_pack_exact(parts)       packs a number that needs no rounding: ZERO, INF or a NaN
 *   F_negate(T)
 * The usual ones may have other names, for a format that does most of them in a quicker way.
 * Macros, since C has no other way to write a function once for five types. */
#define FLOAT_DEFINE_USUAL(STORAGE, NAME, F, T)                                              \
    STORAGE T NAME##_add(T a, T b, struct float_status *s)                                        \
    {                                                                                             \
        return F##_pack_arithmetic(parts_add(F##_unpack(a, s), F##_unpack(b, s), false, s), s);   \
    }                                                                                             \
    STORAGE T NAME##_sub(T a, T b, struct float_status *s)                                        \
    {                                                                                             \
        return F##_pack_arithmetic(parts_add(F##_unpack(a, s), F##_unpack(b, s), true, s), s);    \
    }                                                                                             \
    STORAGE T NAME##_mul(T a, T b, struct float_status *s)                                        \
    {                                                                                             \
        return F##_pack_arithmetic(parts_mul(F##_unpack(a, s), F##_unpack(b, s), s), s);          \
    }                                                                                             \
    STORAGE T NAME##_div(T a, T b, struct float_status *s)                                        \
    {                                                                                             \
        return F##_pack_arithmetic(parts_div(F##_unpack(a, s), F##_unpack(b, s), s), s);          \
    }                                                                                             \
    STORAGE enum float_relation NAME##_compare(T a, T b, struct float_status *s)                  \
    {                                                                                             \
        return parts_compare(F##_unpack(a, s), F##_unpack(b, s), false, s);                       \
    }                                                                                             \
    STORAGE enum float_relation NAME##_compare_quiet(T a, T b, struct float_status *s)            \
    {                                                                                             \
        return parts_compare(F##_unpack(a, s), F##_unpack(b, s), true, s);                        \
    }                                                                                             \
    STORAGE int64_t NAME##_to_int(T a, unsigned bits, int scale, enum float_round r,              \
                                  struct float_status *s)                                         \
    {                                                                                             \
        return (int64_t)parts_to_int(F##_unpack(a, s), bits, true, scale, r, s);                  \
    }                                                                                             \
    STORAGE T NAME##_from_int(int64_t a, int scale, struct float_status *s)                       \
    {                                                                                             \
        return F##_pack(parts_from_int(a < 0 ? -(uint64_t)a : (uint64_t)a, a < 0, scale), s);     \
    }

#define FLOAT_DEFINE_OPS(F, T)                                                                    \
    FLOAT_DEFINE_USUAL(, F, F, T)                                                            \
    FLOAT_DEFINE_OTHERS(F, T)

#define FLOAT_DEFINE_OTHERS(F, T)                                                                 \
    T F##_rem(T a, T b, struct float_status *s)                                                   \
    {                                                                                             \
        uint64_t q;                                                                               \
                                                                                                  \
        return F##_pack(parts_rem(F##_unpack(a, s), F##_unpack(b, s), true, 0, &q, s), s);        \
    }                                                                                             \
    T F##_sqrt(T a, struct float_status *s)                                                       \
    {                                                                                             \
        return F##_pack_arithmetic(parts_sqrt(F##_unpack(a, s), s), s);                           \
    }                                                                                             \
    T F##_muladd_scalbn(T a, T b, T c, int n, unsigned negate, struct float_status *s)            \
    {                                                                                             \
        struct parts r = parts_muladd(F##_unpack(a, s), F##_unpack(b, s), F##_unpack(c, s),       \
                                      negate, s);                                                 \
        T v;                                                                                      \
                                                                                                  \
        r.exp += r.class == CLASS_NORMAL ? clamp_scale(n) : 0;                                    \
        v = F##_pack(r, s);                                                                       \
        return (negate & FLOAT_NEGATE_RESULT) && !parts_is_nan(&r) ? F##_negate(v) : v;           \
    }                                                                                             \
    T F##_muladd(T a, T b, T c, unsigned negate, struct float_status *s)                          \
    {                                                                                             \
        return F##_muladd_scalbn(a, b, c, 0, negate, s);                                          \
    }                                                                                             \
    T F##_round_to_int(T a, enum float_round rounding, bool exact, struct float_status *s)        \
    {                                                                                             \
        struct parts p = F##_unpack(a, s);                                                        \
                                                                                                  \
        if (F##_format.explicit_int)    /* FRNDINT raises DE, ROUNDSS does not */                 \
            raise_denormal(&p, &p, s);                                                            \
        if (p.class == CLASS_NORMAL && p.exp >= F##_format.frac_bits)                             \
            return a;                                                                             \
        return F##_pack(parts_round_to_int(p, rounding, exact, s), s);                            \
    }                                                                                             \
    T F##_minmax(T a, T b, enum float_minmax op, struct float_status *s)                          \
    {                                                                                             \
        struct parts pa = F##_unpack(a, s), pb = F##_unpack(b, s);                                \
                                                                                                  \
        switch (parts_minmax(&pa, &pb, op, s)) {                                                  \
        case CHOOSE_A:                                                                            \
            return pa.class == CLASS_ZERO ? F##_pack_exact(pa) : a;                               \
        case CHOOSE_B:                                                                            \
            return pb.class == CLASS_ZERO ? F##_pack_exact(pb) : b;                               \
        case CHOOSE_NAN:                                                                          \
            break;                                                                                \
        }                                                                                         \
        return F##_pack_exact(nan_pick2(&pa, &pb, s));                                            \
    }                                                                                             \
    T F##_scalbn(T a, int n, struct float_status *s)                                              \
    {                                                                                             \
        return F##_pack(parts_scalbn(F##_unpack(a, s), n, s), s);                                 \
    }                                                                                             \
    T F##_logb(T a, struct float_status *s)                                                       \
    {                                                                                             \
        return F##_pack(parts_logb(F##_unpack(a, s), s), s);                                      \
    }                                                                                             \
    T F##_silence_nan(T a, struct float_status *s)                                                \
    {                                                                                             \
        struct parts p = F##_unpack(a, s);                                                        \
                                                                                                  \
        return p.class == CLASS_SNAN ? F##_pack_exact(parts_silence(p, s)) : a;                   \
    }                                                                                             \
    T F##_default_nan(const struct float_status *s)                                               \
    {                                                                                             \
        return F##_pack_exact(parts_default_nan(s));                                              \
    }                                                                                             \
    bool F##_is_nan(T a)                                                                          \
    {                                                                                             \
        struct float_status s = { .rules = &float_rules_arm };                                    \
        struct parts p = F##_unpack(a, &s);                                                       \
                                                                                                  \
        return p.class == CLASS_QNAN || p.class == CLASS_SNAN;                                    \
    }                                                                                             \
    bool F##_is_snan(T a, const struct float_status *s)                                           \
    {                                                                                             \
        struct float_status scratch = *s;                                                         \
                                                                                                  \
        return F##_unpack(a, &scratch).class == CLASS_SNAN;                                       \
    }                                                                                             \
    FLOAT_DEFINE_INTS(F, T)

#define FLOAT_DEFINE_INTS(F, T)                                                                   \
    uint64_t F##_to_uint(T a, unsigned bits, int scale, enum float_round r,                       \
                         struct float_status *s)                                                  \
    {                                                                                             \
        return parts_to_int(F##_unpack(a, s), bits, false, scale, r, s);                          \
    }                                                                                             \
    T F##_from_uint(uint64_t a, int scale, struct float_status *s)                                \
    {                                                                                             \
        return F##_pack(parts_from_int(a, false, scale), s);                                      \
    }

#define FLOAT_DEFINE_CONVERT_AS(STORAGE, NAME, FROM, TO, T_FROM, T_TO)                            \
    STORAGE T_TO NAME(T_FROM a, struct float_status *s)                                           \
    {                                                                                             \
        return TO##_pack(parts_convert(FROM##_unpack(a, s), &TO##_format, s), s);                 \
    }
#define FLOAT_DEFINE_CONVERT(FROM, TO, T_FROM, T_TO)                                              \
    FLOAT_DEFINE_CONVERT_AS(, FROM##_to_##TO, FROM, TO, T_FROM, T_TO)

/* Formats that fit an unsigned integer of BITS bits with an implicit integer bit. */
#define FLOAT_DEFINE_PACKING(F, T, BITS)                                                          \
    static inline struct parts F##_unpack(T a, struct float_status *s)                            \
    {                                                                                             \
        const struct float_format *f = &F##_format;                                               \
                                                                                                  \
        return parts_unpack(a >> (BITS - 1), (int)(a >> f->frac_bits) & f->exp_max,               \
                            a & (((frac_t)1 << f->frac_bits) - 1), f, s);                         \
    }                                                                                             \
    static inline T F##_pack_exact(struct parts p)                                                \
    {                                                                                             \
        const struct float_format *f = &F##_format;                                               \
        int exp;                                                                                  \
        frac_t frac = parts_fields(&p, f, &exp);                                                  \
                                                                                                  \
        return (T)(((frac_t)p.sign << (BITS - 1)) | ((frac_t)exp << f->frac_bits) | frac);        \
    }                                                                                             \
    static inline T F##_pack(struct parts p, struct float_status *s)                              \
    {                                                                                             \
        if (__builtin_expect(p.class == CLASS_NORMAL, 1))                                         \
            parts_round(&p, &F##_format, F##_format.frac_bits + 1, s);                            \
        return F##_pack_exact(p);                                                                 \
    }

/* What FLOAT_DEFINE_OPS wants besides. */
#define FLOAT_DEFINE_PACKING_OPS(F, T, BITS)                                                      \
    static inline T F##_pack_arithmetic(struct parts p, struct float_status *s)                   \
    {                                                                                             \
        return F##_pack(p, s);                                                                    \
    }                                                                                             \
    static inline T F##_negate(T a)                                                               \
    {                                                                                             \
        return a ^ (T)((T)1 << (BITS - 1));                                                       \
    }
