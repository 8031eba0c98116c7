/* What a stage 2 data abort of AArch32 tells a hypervisor, so that it can carry the access out: ISV, SAS, SSE, SRT, AR of the
 * ISS. DDI 0487 D24.2.40, "ISS encoding for an exception from a Data Abort": loads and stores of one general register without
 * write-back; others have ISV = 0. */
#include "system.h"

enum { ISV = 1 << 24, SSE = 1 << 21, AR = 1 << 14 };

static bool half_at(struct arm_cpu *c, uint32_t va, uint32_t *v)
{
    struct arm_walk w = { .c = c, .va = va, .access = ACCESS_EXEC, .mmu = arm_mmu_index(&c->cpu, true), .probe = true };
    uint64_t word;

    if (!arm_walk(&w) || !arm_desc_read(c, w.phys & ~UINT64_C(3), 4, false, &word))
        return false;
    *v = (uint32_t)(word >> (va & 2) * 8) & 0xffff;
    return true;
}

/* D1.20.2: the X register that a register of the current mode is. */
unsigned arm_view64(const struct arm_cpu *c, unsigned r)
{
    static const struct { uint8_t sp, lr; } banks[] = {
        [BANK_USR] = { 13, 14 }, [BANK_HYP] = { 15, 14 }, [BANK_SVC] = { 19, 18 }, [BANK_ABT] = { 21, 20 }, [BANK_UND] = { 23, 22 },
        [BANK_IRQ] = { 17, 16 }, [BANK_FIQ] = { 29, 30 }, [BANK_MON] = { 13, 14 },
    };
    enum arm_bank b = arm_bank_of(c->mode32);

    if (r >= 8 && r <= 12)
        return b == BANK_FIQ ? r + 16 : r;
    return r == 13 ? banks[b].sp : r == 14 ? banks[b].lr : r == 15 ? 31 : r;
}

static uint32_t access_iss(unsigned size, bool is_signed, unsigned rt, uint32_t flags)
{
    return rt == 15 || size > 2 ? 0 : ISV | size << 22 | (is_signed ? SSE : 0) | rt << 16 | flags;
}

static uint32_t iss_a32(uint32_t i)
{
    unsigned rt = i >> 12 & 15;
    bool load = i & 1u << 20, plain = (i & 1u << 24) && !(i & 1u << 21);       /* P, not W: an offset without write-back */
    unsigned op = i >> 4 & 15;

    if (i >> 28 == 15)
        return 0;
    if ((i & 0x0c000000) == 0x04000000)
        return plain && !((i & 1u << 25) && (i & 16)) ? access_iss(i & 1u << 22 ? 0 : 2, false, rt, 0) : 0;
    if ((i & 0x0f800f90) == 0x01800c90)                 /* LDA, STL and kin */
        return access_iss((i >> 21 & 3) == 0 ? 2 : (i >> 21 & 3) == 2 ? 0 : (i >> 21 & 3) == 3 ? 1 : 3, false, load ? rt : i & 15, AR);
    if ((i & 0x0e000090) != 0x00000090 || !plain)
        return 0;
    if (op == 0xb)
        return access_iss(1, false, rt, 0);
    return load && op >= 0xd ? access_iss(op & 2 ? 1 : 0, true, rt, 0) : 0;     /* else LDRD, STRD */
}

static uint32_t iss_t16(uint32_t i)
{
    static const struct { uint8_t size; bool sign; } by_register[] = { { 2, 0 }, { 1, 0 }, { 0, 0 }, { 0, 1 }, { 2, 0 }, { 1, 0 }, { 0, 0 }, { 1, 1 } };

    switch (i >> 12) {
    case 4: return i & 1 << 11 ? access_iss(2, false, i >> 8 & 7, 0) : 0;
    case 5: return access_iss(by_register[i >> 9 & 7].size, by_register[i >> 9 & 7].sign, i & 7, 0);
    case 6: return access_iss(2, false, i & 7, 0);
    case 7: return access_iss(0, false, i & 7, 0);
    case 8: return access_iss(1, false, i & 7, 0);
    case 9: return access_iss(2, false, i >> 8 & 7, 0);
    default: return 0;
    }
}

static uint32_t iss_t32(uint32_t first, uint32_t second)
{
    unsigned rt = second >> 12, size = first >> 5 & 3;
    bool wide = first & 0x80 || (first & 15) == 15;     /* a 12-bit offset */

    if ((first & 0xffe0) == 0xe8c0 && (second & 0x0fcf) == 0x0f8f)
        return access_iss(second >> 4 & 3, false, rt, AR);
    if ((first & 0xfe00) != 0xf800)
        return 0;
    if (!wide && second & 0x800 ? (second & 0x700) != 0x400 && (second & 0x700) != 0x600 : !wide && second & 0xfc0)
        return 0;
    return access_iss(size, first & 0x100, rt, 0);
}

uint32_t arm_access_syndrome32(struct arm_cpu *c, bool *narrow)
{
    uint32_t pc = (uint32_t)c->cpu.pc, lo, hi = 0, iss;

    *narrow = false;
    if (!half_at(c, pc, &lo))
        return 0;
    if (c->thumb && lo < 0xe800) {
        iss = iss_t16(lo);
        *narrow = iss;
    } else {
        if (!half_at(c, pc + 2, &hi))
            return 0;
        iss = c->thumb ? iss_t32(lo, hi) : iss_a32(lo | hi << 16);
    }
    return iss && arm_el_is_64(c, 2) ? (iss & ~(31u << 16)) | arm_view64(c, iss >> 16 & 15) << 16 : iss;
}
