/* Integer instructions in C: what is rare, or long, or raises. */
#include <string.h>
#include <sys/random.h>
#include "x86.h"

/* ---- division: SDM vol. 2, DIV and IDIV. #DE on a divisor of 0 and on a quotient that does not fit. */

static void div_unsigned(struct x86_cpu *c, unsigned bits, uint64_t d)
{
    uint64_t mask = bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
    unsigned __int128 n, q;

    d &= mask;
    if (bits == 8)
        n = c->regs[R_RAX] & 0xffff;
    else
        n = (unsigned __int128)(c->regs[R_RDX] & mask) << bits | (c->regs[R_RAX] & mask);
    if (!d || (q = n / d) > mask)
        x86_raise(c, X_DE, -1);
    c->tmp[0] = (uint64_t)q;
    c->tmp[1] = (uint64_t)(n % d);
}

static __int128 sign_extend(unsigned __int128 v, unsigned bits)
{
    return (__int128)(v << (128 - bits)) >> (128 - bits);
}

static void div_signed(struct x86_cpu *c, unsigned bits, uint64_t divisor)
{
    uint64_t mask = bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
    __int128 n, d = sign_extend(divisor, bits), q;

    if (bits == 8)
        n = (int16_t)c->regs[R_RAX];
    else
        n = sign_extend((unsigned __int128)(c->regs[R_RDX] & mask) << bits | (c->regs[R_RAX] & mask), 2 * bits);
    if (!d || (d == -1 && n == sign_extend((unsigned __int128)1 << 127, 128)))
        x86_raise(c, X_DE, -1);
    q = n / d;
    if (q != sign_extend((unsigned __int128)q, bits))
        x86_raise(c, X_DE, -1);
    c->tmp[0] = (uint64_t)q & mask;
    c->tmp[1] = (uint64_t)(n % d) & mask;
}

static void put_reg(struct x86_cpu *c, unsigned reg, unsigned bits, uint64_t v)
{
    if (bits >= 32)
        c->regs[reg] = bits == 32 ? (uint32_t)v : v;
    else
        c->regs[reg] = (c->regs[reg] & ~((UINT64_C(1) << bits) - 1)) | (v & ((UINT64_C(1) << bits) - 1));
}

void helper_div(struct cpu *cpu, uint32_t info, uint64_t d)
{
    struct x86_cpu *c = x86(cpu);
    unsigned bits = 8u << (info & 3);

    if (info & 4)
        div_signed(c, bits, d);
    else
        div_unsigned(c, bits, d);
    if (bits == 8) {
        put_reg(c, R_RAX, 16, (c->tmp[0] & 0xff) | (c->tmp[1] & 0xff) << 8);
    } else {
        put_reg(c, R_RAX, bits, c->tmp[0]);
        put_reg(c, R_RDX, bits, c->tmp[1]);
    }
}

/* ---- RCL, RCR: a rotate of width + 1 bits. Bit 3 of info asks for CF and OF instead of the result. */
uint64_t helper_rotate_carry(struct cpu *cpu, uint32_t info, uint64_t v, uint32_t count, uint32_t carry)
{
    unsigned bits = 8u << (info & 3);
    unsigned __int128 all = (unsigned __int128)1 << (bits + 1);
    unsigned __int128 x = v | (unsigned __int128)(carry & 1) << bits;
    uint64_t r, cf, of;

    count %= bits + 1;
    if (info & 4)
        count = (bits + 1 - count) % (bits + 1);
    x = (x << count | x >> (bits + 1 - count)) & (all - 1);
    r = (uint64_t)(bits == 64 ? x : x & ((UINT64_C(1) << bits) - 1));
    cf = (uint64_t)(x >> bits) & 1;
    of = info & 4 ? (r >> (bits - 1) ^ r >> (bits - 2)) & 1 : (r >> (bits - 1) & 1) ^ cf;
    return info & 8 ? cf | of << 11 : r;
}

/* ---- decimal adjustment: SDM vol. 2, DAA, DAS, AAA, AAS, AAM, AAD */

static void set_flags(struct x86_cpu *c, uint32_t f)
{
    c->cc_op = CC_EFLAGS;
    c->cc_src = f;
}

static uint32_t byte_flags(uint8_t v)
{
    return (v ? 0 : EF_ZF) | (v & 0x80 ? EF_SF : 0) | (__builtin_popcount(v) & 1 ? 0 : EF_PF);
}

static void decimal_adjust(struct x86_cpu *c, bool subtract)
{
    uint32_t f = x86_compute_flags(c);
    uint8_t old = (uint8_t)c->regs[R_RAX], al = old;
    bool af = (al & 15) > 9 || (f & EF_AF), cf = f & EF_CF, out = cf || old > 0x99;

    if (af) {
        if (subtract && al < 6)
            out = true;
        al = subtract ? al - 6 : al + 6;
    }
    if (cf || old > 0x99)
        al = subtract ? al - 0x60 : al + 0x60;
    put_reg(c, R_RAX, 8, al);
    set_flags(c, byte_flags(al) | (af ? EF_AF : 0) | (out ? EF_CF : 0));
}

static void ascii_adjust(struct x86_cpu *c, bool subtract)
{
    uint32_t f = x86_compute_flags(c) & ~(uint32_t)(EF_AF | EF_CF);
    uint16_t ax = (uint16_t)c->regs[R_RAX];

    if ((ax & 15) > 9 || (x86_compute_flags(c) & EF_AF)) {
        ax = subtract ? ax - 0x106 : ax + 0x106;
        f |= EF_AF | EF_CF;
    }
    put_reg(c, R_RAX, 16, ax & 0xff0f);
    set_flags(c, f);
}

void helper_bcd(struct cpu *cpu, uint32_t opcode, uint32_t imm)
{
    struct x86_cpu *c = x86(cpu);
    uint8_t al = (uint8_t)c->regs[R_RAX], ah = (uint8_t)(c->regs[R_RAX] >> 8);

    switch (opcode) {
    case 0x27: decimal_adjust(c, false); break;
    case 0x2f: decimal_adjust(c, true); break;
    case 0x37: ascii_adjust(c, false); break;
    case 0x3f: ascii_adjust(c, true); break;
    case 0xd4:
        if (!imm)
            x86_raise(c, X_DE, -1);
        put_reg(c, R_RAX, 16, (uint64_t)(al / imm) << 8 | al % imm);
        set_flags(c, byte_flags((uint8_t)(al % imm)));
        break;
    default:
        al = (uint8_t)(al + ah * imm);
        put_reg(c, R_RAX, 16, al);
        set_flags(c, byte_flags(al));
    }
}

/* ---- bit gather and scatter, checksum, random numbers */

uint64_t helper_pdep(struct cpu *cpu, uint64_t v, uint64_t mask)
{
    uint64_t r = 0;

    for (; mask; mask &= mask - 1, v >>= 1)
        if (v & 1)
            r |= mask & -mask;
    return r;
}

uint64_t helper_pext(struct cpu *cpu, uint64_t v, uint64_t mask)
{
    uint64_t r = 0;

    for (unsigned n = 0; mask; mask &= mask - 1, n++)
        if (v & mask & -mask)
            r |= UINT64_C(1) << n;
    return r;
}

/* CRC-32C, reflected polynomial 82F63B78 */
#ifdef __x86_64__
__attribute__((target("sse4.2")))
uint32_t helper_crc32c(struct cpu *cpu, uint32_t crc, uint64_t data, uint32_t bytes)
{
    switch (bytes) {
    case 1: return __builtin_ia32_crc32qi(crc, (uint8_t)data);
    case 2: return __builtin_ia32_crc32hi(crc, (uint16_t)data);
    case 4: return __builtin_ia32_crc32si(crc, (uint32_t)data);
    default: return (uint32_t)__builtin_ia32_crc32di(crc, data);
    }
}
#else
uint32_t helper_crc32c(struct cpu *cpu, uint32_t crc, uint64_t data, uint32_t bytes)
{
    for (; bytes; bytes--, data >>= 8) {
        crc ^= data & 0xff;
        for (unsigned n = 0; n < 8; n++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
    }
    return crc;
}
#endif

uint64_t helper_random(struct cpu *cpu, uint32_t bytes, uint32_t seed)
{
    uint64_t v = 0;

    while (getrandom(&v, sizeof(v), 0) != sizeof(v))
        ;
    return v;
}

/* ---- wide compare and exchange: tmp[1] receives ZF as a flag bit */

void helper_cmpxchg8b(struct cpu *cpu, uint64_t va, uint32_t mmu)
{
    struct x86_cpu *c = x86(cpu);
    uint64_t expected = c->regs[R_RDX] << 32 | (uint32_t)c->regs[R_RAX];
    uint64_t v = c->regs[R_RCX] << 32 | (uint32_t)c->regs[R_RBX];
    uint64_t old = cpu_atomic(cpu, IR_ATOMIC_CAS, va, MEM_64 | mmu << MEM_MMU_SHIFT, v, expected);

    c->tmp[1] = old == expected ? EF_ZF : 0;
    if (old == expected)
        return;
    c->regs[R_RAX] = (uint32_t)old;
    c->regs[R_RDX] = old >> 32;
}

void helper_cmpxchg16b(struct cpu *cpu, uint64_t va, uint32_t mmu)
{
    struct x86_cpu *c = x86(cpu);
    uint64_t expected[2] = { c->regs[R_RAX], c->regs[R_RDX] }, v[2] = { c->regs[R_RBX], c->regs[R_RCX] }, old[2];

    if (va & 15)
        x86_raise(c, X_GP, 0);
    c->tmp[1] = 0;
    if (cpu_cas128(cpu, va, mmu, expected, v, old)) {
        c->tmp[1] = EF_ZF;
        return;
    }
    c->regs[R_RAX] = old[0];
    c->regs[R_RDX] = old[1];
}
