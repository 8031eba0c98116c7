/* Defines `static const struct ir_helper *const helpers[]`, for struct guest: see helpers_declare.h. */
#define H_(name, f, r, n, ...) \
    static const struct ir_helper h_##name = { #name, (void *)HELPER_FN(name), f, T_##r, n, { __VA_ARGS__ } };
#define HELPER0(name, f, r) H_(name, f, r, 0, 0)
#define HELPER1(name, f, r, a) H_(name, f, r, 1, T_##a)
#define HELPER2(name, f, r, a, b) H_(name, f, r, 2, T_##a, T_##b)
#define HELPER3(name, f, r, a, b, c) H_(name, f, r, 3, T_##a, T_##b, T_##c)
#define HELPER4(name, f, r, a, b, c, d) H_(name, f, r, 4, T_##a, T_##b, T_##c, T_##d)
#include HELPERS_DEF
#undef HELPER0
#undef HELPER1
#undef HELPER2
#undef HELPER3
#undef HELPER4
#define HELPER0(name, ...) [HELPER_ID(name)] = &h_##name,
#define HELPER1 HELPER0
#define HELPER2 HELPER0
#define HELPER3 HELPER0
#define HELPER4 HELPER0
static const struct ir_helper *const helpers[HELPER_ID(COUNT)] = {
#include HELPERS_DEF
};
#undef HELPER0
#undef HELPER1
#undef HELPER2
#undef HELPER3
#undef HELPER4
#undef H_
