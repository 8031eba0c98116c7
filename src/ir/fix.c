/* The condition of a VFIX in C. */
#include <string.h>
#include "rhea/ir/cpu.h"

struct lane { bool nan, snan, denormal; uint64_t bits; };

static struct lane lane_of(const uint8_t *p, unsigned n, bool wide)
{
    uint64_t v = 0, exponent = wide ? 0x7ff : 0xff, fraction;
    unsigned shift = wide ? 52 : 23;
    struct lane l = { 0 };

    memcpy(&v, p + n * (wide ? 8 : 4), wide ? 8 : 4);
    fraction = v & ((UINT64_C(1) << shift) - 1);
    l.bits = v;
    l.nan = (v >> shift & exponent) == exponent && fraction;
    l.snan = l.nan && !(fraction >> (shift - 1));
    l.denormal = !(v >> shift & exponent) && fraction;
    return l;
}

/* As UCOMISx and CMPx do (SDM vol. 1, 11.5.2): a signalling NaN is invalid, else a denormal operand is noted. */
static bool equal_or_unordered(struct cpu *cpu, const uint8_t *pa, const uint8_t *pb, unsigned n, bool wide)
{
    struct lane a = lane_of(pa, n, wide), b = lane_of(pb, n, wide);
    uint64_t magnitude = wide ? INT64_MAX : INT32_MAX;

    if (a.snan || b.snan)
        cpu->fp_control |= 1;
    else if (!a.nan && !b.nan && (a.denormal || b.denormal))
        cpu->fp_control |= 2;
    return a.nan || b.nan || a.bits == b.bits || !((a.bits | b.bits) & magnitude);
}

/* FIX_DENORMAL_*, FIX_SMALL_*: twice the magnitude less one, in which zero is the greatest. */
static bool small_lane(enum ir_fix_cond cond, const uint8_t *p, unsigned n, bool wide)
{
    uint64_t twice = lane_of(p, n, wide).bits << 1;

    if (cond >= FIX_SMALL_S)
        return wide ? (twice - 1) >> 62 == 0 : (uint32_t)(twice - 1) >> 30 == 0;
    return wide ? (twice - 1) >> 53 == 0 : (uint32_t)(twice - 1) >> 24 == 0;
}

static bool any_small(enum ir_fix_cond cond, const uint8_t *const p[3])
{
    unsigned form = (cond - FIX_DENORMAL_S) % 4, lanes = form < 2 ? 1 : form == 2 ? 4 : 2;
    bool found = false;

    for (unsigned i = 0; i < 3; i++)
        for (unsigned n = 0; p[i] && n < lanes; n++)
            found |= small_lane(cond, p[i], n, form & 1);
    return found;
}

bool ir_fix_applies(struct cpu *cpu, enum ir_fix_cond cond, unsigned type, const uint8_t *result, const uint8_t *a,
                    const uint8_t *b, const uint8_t *c)
{
    bool wide = cond == FIX_NAN_D || cond == FIX_NAN_PD || cond == FIX_EQ_D || cond == FIX_EQ_PD, found = false;
    bool packed = cond == FIX_NAN_PS || cond == FIX_NAN_PD || cond == FIX_EQ_PS || cond == FIX_EQ_PD || cond == FIX_INDEF_PS;
    unsigned lanes = !packed ? 1 : wide ? 2 : 4;
    uint64_t v;

    if (cond >= FIX_DENORMAL_S)
        return any_small(cond, (const uint8_t *const[]){ a, b, c });
    switch (cond) {
    case FIX_INDEF:
        memcpy(&v, result, 8);
        return type == T_I32 ? (uint32_t)v == UINT32_C(1) << 31 : v == UINT64_C(1) << 63;
    case FIX_UNBOXED:
        memcpy(&v, a, 8);
        return v >> 32 != UINT32_MAX;
    case FIX_MASK_S: return c[3] >> 7;
    case FIX_MASK_D: return c[7] >> 7;
    case FIX_MASK_PS: return (c[3] | c[7] | c[11] | c[15]) >> 7;
    default:
        break;
    }
    for (unsigned n = 0; n < lanes; n++) {
        if (cond == FIX_INDEF_PS)
            found |= lane_of(result, n, false).bits == UINT32_C(1) << 31;
        else if (cond >= FIX_EQ_S && cond <= FIX_EQ_PD)
            found |= equal_or_unordered(cpu, a, b, n, wide);
        else
            found |= lane_of(result, n, wide).nan;
    }
    return found;
}
