/* The x86-64 assembler: bytes of one instruction after another into a buffer. An opcode constant carries its prefix,
 * map and width, so that one function emits every instruction of a form. Intel SDM vol. 2, chapter 2. */
#ifndef RHEA_JIT_X86_64_ASM_H
#define RHEA_JIT_X86_64_ASM_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum host_reg {
    RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15,
    XMM0, HOST_REGS = 32, NOREG = 0xff
};

/* Opcode constants: byte | map << 8 | pp << 10 | flags, as VEX numbers map and pp. */
enum {
    M_0F = 1 << 8, M_0F38 = 2 << 8, M_0F3A = 3 << 8,
    P_66 = 1 << 10, P_F3 = 2 << 10, P_F2 = 3 << 10,
    OP_W = 1 << 12,             /* REX.W */
    OP_REG8 = 1 << 13,          /* .reg is a byte register: SPL..DIL need a REX */
    OP_RM8 = 1 << 14,           /* .rm likewise, when a register */
};
#define OP_WIDE(w) ((w) ? OP_W : 0)

enum alu_op { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP };
enum shift_op { SH_ROL, SH_ROR, SH_RCL, SH_RCR, SH_SHL, SH_SHR, SH_SAR = 7 };
enum host_cc { CC_O, CC_NO, CC_B, CC_AE, CC_E, CC_NE, CC_BE, CC_A, CC_S, CC_NS, CC_P, CC_NP, CC_L, CC_GE, CC_LE, CC_G };

struct mem { uint8_t base, index, scale, over; int32_t disp; };       /* over: set of SEG_GS, ADDR_32 */
enum { SEG_GS = 1, ADDR_32 = 2 };
static inline struct mem mem_at(unsigned base, int32_t disp) { return (struct mem){ base, NOREG, 0, 0, disp }; }
static inline struct mem mem_sib(unsigned base, unsigned index, unsigned scale, int32_t disp)
{
    return (struct mem){ base, index, scale, 0, disp };
}

struct code_buf { uint8_t *p; };

static inline void put8(struct code_buf *c, uint8_t v) { *c->p++ = v; }
static inline void put32(struct code_buf *c, uint32_t v) { memcpy(c->p, &v, 4); c->p += 4; }
static inline void put64(struct code_buf *c, uint64_t v) { memcpy(c->p, &v, 8); c->p += 8; }

static inline void put_overrides(struct code_buf *c, struct mem m)
{
    if (m.over & SEG_GS)
        put8(c, 0x65);
    if (m.over & ADDR_32)
        put8(c, 0x67);
}

static inline void put_prefixes(struct code_buf *c, uint32_t op, unsigned reg, unsigned index, unsigned rm, bool force)
{
    static const uint8_t pp[4] = { 0, 0x66, 0xf3, 0xf2 };
    unsigned rex = (op & OP_W ? 8 : 0) | (reg & 8 ? 4 : 0) | (index & 8 ? 2 : 0) | (rm & 8 ? 1 : 0);

    if (op >> 10 & 3)
        put8(c, pp[op >> 10 & 3]);
    if (rex || force)
        put8(c, 0x40 | rex);
    if (op & 0x300)
        put8(c, 0x0f);
    if ((op & 0x300) == M_0F38)
        put8(c, 0x38);
    else if ((op & 0x300) == M_0F3A)
        put8(c, 0x3a);
    put8(c, op);
}

static inline void put_modrm_mem(struct code_buf *c, unsigned reg, struct mem m)
{
    unsigned r = (reg & 7) << 3, base = m.base & 7, mod;

    if (m.base == NOREG) {              /* [index * scale + disp32] */
        put8(c, r | 4);
        put8(c, m.scale << 6 | (m.index == NOREG ? 4 : m.index & 7) << 3 | 5);
        put32(c, m.disp);
        return;
    }
    mod = m.disp == 0 && base != 5 ? 0 : m.disp == (int8_t)m.disp ? 0x40 : 0x80;
    if (m.index != NOREG || base == 4) {
        put8(c, mod | r | 4);
        put8(c, m.scale << 6 | (m.index == NOREG ? 4 : m.index & 7) << 3 | base);
    } else {
        put8(c, mod | r | base);
    }
    if (mod == 0x40)
        put8(c, m.disp);
    else if (mod == 0x80)
        put32(c, m.disp);
}

/* op reg, rm (both registers); XMM registers may be given as 16..31. */
static inline void op_rr(struct code_buf *c, uint32_t op, unsigned reg, unsigned rm)
{
    bool force = (op & OP_REG8 && reg >= 4 && reg < 16) || (op & OP_RM8 && rm >= 4 && rm < 16);

    put_prefixes(c, op, reg, 0, rm, force);
    put8(c, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

static inline void op_rm(struct code_buf *c, uint32_t op, unsigned reg, struct mem m)
{
    put_overrides(c, m);
    put_prefixes(c, op, reg, m.index == NOREG ? 0 : m.index, m.base == NOREG ? 0 : m.base,
                 op & OP_REG8 && reg >= 4 && reg < 16);
    put_modrm_mem(c, reg, m);
}

static inline void put_vex(struct code_buf *c, uint32_t op, unsigned l, unsigned reg, unsigned v, unsigned x, unsigned b)
{
    unsigned tail = (~v & 15) << 3 | l << 2 | (op >> 10 & 3);

    if ((op & 0x300) == M_0F && !(op & OP_W) && !(x & 8) && !(b & 8)) {
        put8(c, 0xc5);
        put8(c, (reg & 8 ? 0 : 0x80) | tail);
    } else {
        put8(c, 0xc4);
        put8(c, (reg & 8 ? 0 : 0x80) | (x & 8 ? 0 : 0x40) | (b & 8 ? 0 : 0x20) | (op >> 8 & 3));
        put8(c, (op & OP_W ? 0x80 : 0) | tail);
    }
    put8(c, op);
}

static inline void vex_rr(struct code_buf *c, uint32_t op, unsigned l, unsigned reg, unsigned v, unsigned rm)
{
    put_vex(c, op, l, reg, v, 0, rm);
    put8(c, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

static inline void vex_rm(struct code_buf *c, uint32_t op, unsigned l, unsigned reg, unsigned v, struct mem m)
{
    put_overrides(c, m);
    put_vex(c, op, l, reg, v, m.index == NOREG ? 0 : m.index, m.base == NOREG ? 0 : m.base);
    put_modrm_mem(c, reg, m);
}

/* Integer moves. `w`: 64 bits. */
static inline void mov_rr(struct code_buf *c, bool w, unsigned dst, unsigned src)
{
    op_rr(c, 0x89 | OP_WIDE(w), src, dst);
}
static inline void mov_load(struct code_buf *c, bool w, unsigned dst, struct mem m) { op_rm(c, 0x8b | OP_WIDE(w), dst, m); }
static inline void mov_store(struct code_buf *c, bool w, struct mem m, unsigned src) { op_rm(c, 0x89 | OP_WIDE(w), src, m); }
/* Leaves the flags alone. */
static inline void mov_imm(struct code_buf *c, unsigned dst, uint64_t imm)
{
    if (imm <= UINT32_MAX) {
        put_prefixes(c, 0xb8 + (dst & 7), 0, 0, dst, false);
        put32(c, imm);
    } else if ((int64_t)imm == (int32_t)imm) {
        op_rr(c, 0xc7 | OP_W, 0, dst);
        put32(c, imm);
    } else {
        put_prefixes(c, (0xb8 + (dst & 7)) | OP_W, 0, 0, dst, false);
        put64(c, imm);
    }
}
static inline void lea(struct code_buf *c, bool w, unsigned dst, struct mem m) { op_rm(c, 0x8d | OP_WIDE(w), dst, m); }

static inline void alu_rr(struct code_buf *c, enum alu_op op, bool w, unsigned dst, unsigned src)
{
    op_rr(c, (op << 3 | 3) | OP_WIDE(w), dst, src);
}
static inline void alu_rm(struct code_buf *c, enum alu_op op, bool w, unsigned dst, struct mem m)
{
    op_rm(c, (op << 3 | 3) | OP_WIDE(w), dst, m);
}
static inline void alu_ri(struct code_buf *c, enum alu_op op, bool w, unsigned dst, int32_t imm)
{
    if (imm == (int8_t)imm) {
        op_rr(c, 0x83 | OP_WIDE(w), op, dst);
        put8(c, imm);
    } else if (dst == RAX) {
        put_prefixes(c, (op << 3 | 5) | OP_WIDE(w), 0, 0, 0, false);
        put32(c, imm);
    } else {
        op_rr(c, 0x81 | OP_WIDE(w), op, dst);
        put32(c, imm);
    }
}
static inline void alu_mi(struct code_buf *c, enum alu_op op, bool w, struct mem m, int32_t imm)
{
    op_rm(c, (imm == (int8_t)imm ? 0x83 : 0x81) | OP_WIDE(w), op, m);
    if (imm == (int8_t)imm)
        put8(c, imm);
    else
        put32(c, imm);
}
static inline void test_rr(struct code_buf *c, bool w, unsigned a, unsigned b) { op_rr(c, 0x85 | OP_WIDE(w), b, a); }
static inline void test_ri(struct code_buf *c, bool w, unsigned a, int32_t imm)
{
    if (imm >= 0 && imm <= 0x7f) {      /* bit 7 would change SF, which no TEST user looks at, but 0x80 is rare */
        op_rr(c, 0xf6 | OP_RM8, 0, a);
        put8(c, imm);
    } else {
        op_rr(c, 0xf7 | OP_WIDE(w && imm < 0), 0, a);
        put32(c, imm);
    }
}
static inline void shift_ri(struct code_buf *c, enum shift_op op, bool w, unsigned dst, unsigned n)
{
    if (n == 1) {
        op_rr(c, 0xd1 | OP_WIDE(w), op, dst);
    } else {
        op_rr(c, 0xc1 | OP_WIDE(w), op, dst);
        put8(c, n);
    }
}
static inline void shift_cl(struct code_buf *c, enum shift_op op, bool w, unsigned dst)
{
    op_rr(c, 0xd3 | OP_WIDE(w), op, dst);
}

/* Jumps give the place of their 32-bit displacement, which jump_bind() fills. */
static inline uint8_t *jcc(struct code_buf *c, enum host_cc cc)
{
    put8(c, 0x0f);
    put8(c, 0x80 | cc);
    put32(c, 0);
    return c->p - 4;
}
static inline uint8_t *jmp(struct code_buf *c)
{
    put8(c, 0xe9);
    put32(c, 0);
    return c->p - 4;
}
static inline void jump_bind(uint8_t *at, const uint8_t *target)
{
    int32_t rel = target - (at + 4);

    memcpy(at, &rel, 4);
}
static inline void jcc_to(struct code_buf *c, enum host_cc cc, const uint8_t *target)
{
    int64_t rel = target - (c->p + 2);

    if (rel == (int8_t)rel) {
        put8(c, 0x70 | cc);
        put8(c, rel);
    } else {
        jump_bind(jcc(c, cc), target);
    }
}
static inline void jmp_to(struct code_buf *c, const uint8_t *target)
{
    int64_t rel = target - (c->p + 2);

    if (rel == (int8_t)rel) {
        put8(c, 0xeb);
        put8(c, rel);
    } else {
        jump_bind(jmp(c), target);
    }
}

#endif
