/* Declares a guest's helpers, the C functions that its translated code calls, from rows
 *   HELPERn(name, flags, ret, args...)  n = 0..4 arguments of I32, I64, V128, V256; ret one of those or VOID.
 * Before inclusion: HELPERS_DEF the file of rows, HELPER_FN(name) and HELPER_ID(name) the guest's names for function and
 * number. Numbers are an enum that ends with HELPER_ID(COUNT). The function is
 *   ret HELPER_FN(name)(struct cpu *c, [uint8_t *result if ret is a vector,] args...); vectors are const uint8_t *. */
#define HELPER0(name, ...) HELPER_ID(name),
#define HELPER1 HELPER0
#define HELPER2 HELPER0
#define HELPER3 HELPER0
#define HELPER4 HELPER0
enum {
#include HELPERS_DEF
    HELPER_ID(COUNT)
};
#undef HELPER0
#undef HELPER1
#undef HELPER2
#undef HELPER3
#undef HELPER4
#define CARG_I32 uint32_t
#define CARG_I64 uint64_t
#define CARG_V128 const uint8_t *
#define CARG_V256 const uint8_t *
#define CRET_VOID(name, ...) void HELPER_FN(name)(struct cpu *c, ##__VA_ARGS__);
#define CRET_I32(name, ...) uint32_t HELPER_FN(name)(struct cpu *c, ##__VA_ARGS__);
#define CRET_I64(name, ...) uint64_t HELPER_FN(name)(struct cpu *c, ##__VA_ARGS__);
#define CRET_V128(name, ...) void HELPER_FN(name)(struct cpu *c, uint8_t *result, ##__VA_ARGS__);
#define CRET_V256(name, ...) void HELPER_FN(name)(struct cpu *c, uint8_t *result, ##__VA_ARGS__);
#define HELPER0(name, f, r) CRET_##r(name)
#define HELPER1(name, f, r, a) CRET_##r(name, CARG_##a)
#define HELPER2(name, f, r, a, b) CRET_##r(name, CARG_##a, CARG_##b)
#define HELPER3(name, f, r, a, b, d) CRET_##r(name, CARG_##a, CARG_##b, CARG_##d)
#define HELPER4(name, f, r, a, b, d, e) CRET_##r(name, CARG_##a, CARG_##b, CARG_##d, CARG_##e)
#include HELPERS_DEF
#undef HELPER0
#undef HELPER1
#undef HELPER2
#undef HELPER3
#undef HELPER4
