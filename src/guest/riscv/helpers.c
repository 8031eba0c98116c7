/* C functions of user-level integer instructions: what the host has no one operation for. */
#include "rhea/guest/sm4.h"
#include "riscv.h"

static bool choose_operand(unsigned kind, unsigned bits, uint64_t old, uint64_t v)
{
    unsigned up = 64 - bits;

    switch (kind) {
    case 0: return (int64_t)(v << up) < (int64_t)(old << up);
    case 1: return (int64_t)(v << up) > (int64_t)(old << up);
    case 2: return v << up < old << up;
    default: return v << up > old << up;
    }
}

uint64_t riscv_helper_amo_minmax(struct cpu *c, uint32_t what, uint64_t va, uint64_t v)
{
    unsigned size = what & 3, kind = what >> 2 & 3;
    memop m = size | size << MEM_ALIGN_SHIFT | (what >> 4 & 15) << MEM_MMU_SHIFT | MEM_ATOMIC;
    uint64_t low = size == 3 ? UINT64_MAX : (UINT64_C(1) << (8u << size)) - 1, old, seen;

    if (va & ((1u << size) - 1))
        riscv_raise(riscv(c), CAUSE_STORE_MISALIGNED, va);
    cpu_probe(c, va, 1u << size, true, what >> 4 & 15);
    seen = cpu_load(c, va, m);
    do {
        old = seen;
        seen = cpu_atomic(c, IR_ATOMIC_CAS, va, m, (choose_operand(kind, 8u << size, old, v) ? v : old) & low, old);
    } while (seen != old);
    return old;
}

/* System mode sees writes to code by itself. */
void riscv_helper_fence_i(struct cpu *c)
{
    if (c->code_changed)
        c->code_changed(c, 0, UINT64_MAX);
}

void riscv_helper_amocas_pair(struct cpu *c, uint32_t what, uint64_t va)
{
    struct riscv_cpu *r = riscv(c);
    unsigned rd = what & 30, rs2 = what >> 5 & 30;
    uint64_t expected[2] = { 0 }, v[2] = { 0 }, old[2];

    if (va & 15)
        riscv_raise(r, CAUSE_STORE_MISALIGNED, va);
    for (unsigned n = 0; n < 2; n++) {
        expected[n] = rd ? r->x[rd + n] : 0;
        v[n] = rs2 ? r->x[rs2 + n] : 0;
    }
    cpu_cas128(c, va, what >> 10 & 15, expected, v, old);
    if (rd) {
        r->x[rd] = old[0];
        r->x[rd + 1] = old[1];
    }
}

/* A bit of each half in turn, and back (volume I, Zbkb). */
uint32_t riscv_helper_zip(struct cpu *c, uint32_t v)
{
    uint32_t r = 0;

    for (unsigned n = 0; n < 16; n++)
        r |= (v >> n & 1) << 2 * n | (v >> (n + 16) & 1) << (2 * n + 1);
    return r;
}

uint32_t riscv_helper_unzip(struct cpu *c, uint32_t v)
{
    uint32_t r = 0;

    for (unsigned n = 0; n < 16; n++)
        r |= (v >> 2 * n & 1) << n | (v >> (2 * n + 1) & 1) << (n + 16);
    return r;
}

uint64_t riscv_helper_xperm4(struct cpu *c, uint64_t table, uint64_t indexes)
{
    uint64_t r = 0;

    for (unsigned n = 0; n < 64; n += 4)
        r |= (table >> 4 * (indexes >> n & 15) & 15) << n;
    return r;
}

/* ---- SM4 (GB/T 32907-2016): one byte's part of the round function and of the key schedule */

static uint32_t rotate_left(uint32_t v, unsigned n) { return v << (n & 31) | v >> (-n & 31); }

/* L and L' of the standard, on words whose bytes are the other way round: volume I, 30.3 (sm4ed, sm4ks). */
uint32_t riscv_helper_sm4ed(struct cpu *c, uint32_t byte, uint32_t shift)
{
    uint32_t x = sm4_box[byte & 255];

    x ^= x << 8 ^ x << 2 ^ x << 18 ^ (x & 0x3f) << 26 ^ (x & 0xc0) << 10;
    return rotate_left(x, shift);
}

uint32_t riscv_helper_sm4ks(struct cpu *c, uint32_t byte, uint32_t shift)
{
    uint32_t x = sm4_box[byte & 255];

    x ^= (x & 7) << 29 ^ (x & 0xfe) << 7 ^ (x & 1) << 23 ^ (x & 0xf8) << 13;
    return rotate_left(x, shift);
}
