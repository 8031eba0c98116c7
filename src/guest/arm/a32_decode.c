/* A32 and T32 instructions: fetched, found in the tables of isa/arm.isa, and brought to one form for both sets. */
#include <string.h>
#include "a32.h"

static bool fetch16(struct code_fetch *f, uint64_t pc, uint32_t *out)
{
    uint8_t lo, hi;

    if (!code_fetch_byte(f, pc, &lo) || !code_fetch_byte(f, pc + 1, &hi))
        return false;
    *out = lo | (uint32_t)hi << 8;
    return true;
}

static bool fetch(struct code_fetch *f, struct a32_insn *i)
{
    uint32_t first, second;

    if (!fetch16(f, i->pc, &first))
        return false;
    i->raw = first;
    i->len = 2;
    if (i->thumb && first >> 11 < 0x1d)
        return true;
    if (!fetch16(f, i->pc + 2, &second))
        return false;
    i->raw = i->thumb ? first << 16 | second : first | second << 16;
    i->len = 4;
    return true;
}

/* The T32 encodings of coprocessors, floating point and Advanced SIMD as those of A32: F3.1.10, F4.1.22. 0: none of them. */
static uint32_t a32_equivalent(uint32_t raw)
{
    if ((raw & 0xef000000) == 0xef000000)                       /* Advanced SIMD data processing */
        return 0xf2000000 | (raw >> 4 & 0x01000000) | (raw & 0x00ffffff);
    if ((raw & 0xff100000) == 0xf9000000)                       /* ... element and structure loads and stores */
        return 0xf4000000 | (raw & 0x00ffffff);
    if ((raw & 0xec000000) == 0xec000000)                       /* coprocessors: the same bits */
        return raw;
    return 0;
}

static const struct a32_row *find(struct a32_insn *i)
{
    const struct a32_row *row;
    uint32_t raw;

    if (!i->thumb)
        return a32_row_find(i->raw, 32, i->features, i);
    if (i->len == 2)
        return t32_row_find(i->raw, 16, i->features, i);
    raw = a32_equivalent(i->raw);
    row = raw ? a32_row_find(raw, 32, i->features, i) : t32_row_find(i->raw, 32, i->features, i);
    return row;
}

/* What rows leave to their flags. */
static void normalize(struct a32_insn *i)
{
    uint32_t flags = i->row->flags;

    if (flags & A32_ROW_RDN)
        i->rn = i->rd;
    if (flags & A32_ROW_ITS)
        i->s = !a32_in_it(i);
    if (flags & A32_ROW_OFF) {
        i->p = i->u = 1;
        i->w = 0;
    }
    if (flags & A32_ROW_LIT) {
        i->rn = 15;
        i->p = 1;
        i->w = 0;
    }
    if (flags & A32_ROW_SP)
        i->rn = 13;
    if (flags & A32_ROW_FAR && i->imm >= 0)                     /* I1 = NOT(J1 EOR S), I2 likewise */
        i->imm ^= 3 << 22;
    if (i->row->emit == a32_emit_cbz)
        i->imm = i->fwd;
    if (flags & A32_ROW_UNCOND)
        i->cond = 14;
}

static bool is_dp(a32_emit_fn *emit)
{
    return emit == a32_emit_dp_reg || emit == a32_emit_dp_imm || emit == a32_emit_dp_rsr || emit == a32_emit_dp_plain;
}

/* The instruction writes the PC, though its row alone does not say so. */
static bool writes_pc(const struct a32_insn *i)
{
    a32_emit_fn *emit = i->row->emit;

    if (is_dp(emit))
        return i->rd == 15 && (i->row->arg < DP_TST || i->row->arg > DP_CMN);
    if (emit == a32_emit_load_imm || emit == a32_emit_load_reg)
        return i->rt == 15;
    return emit == a32_emit_ldm && (i->list >> 15 || i->row->arg == 3);
}

static unsigned flow_of(struct a32_insn *i, uint64_t mode, struct insn_info *info)
{
    unsigned flow = i->row->flow;

    if (flow == FLOW_NEXT && writes_pc(i))
        flow = is_dp(i->row->emit) && i->s ? FLOW_END : FLOW_INDIRECT;
    if (i->row->target >= 0)
        info->target = (uint32_t)(i->pc + (i->thumb ? 4 : 8) + (uint64_t)(int64_t)i->imm);
    if (i->cond < 14 && flow != FLOW_NEXT)      /* the emitter leaves where the condition holds */
        flow = flow == FLOW_JUMP || flow == FLOW_COND ? FLOW_COND : FLOW_NEXT;
    if (mode >> MODE_IT_SHIFT & 0xff && a32_in_it(i) && !a32_it_advance(i->it))
        flow = FLOW_END;                        /* the mode bits change with the end of an IT block that began elsewhere */
    return flow;
}

/* IT state: of the region's first instruction in the mode bits, of others from the one before. */
static uint8_t it_state(const struct code_fetch *f, uint64_t pc, uint64_t mode)
{
    if (!(mode & MODE_THUMB))
        return 0;
    if (pc == f->first_pc)
        return mode >> MODE_IT_SHIFT & 0xff;
    return f->note >> 8 == (pc & 0xffffffff) ? f->note & 0xff : 0;
}

bool a32_decode(struct code_fetch *f, uint64_t pc, uint64_t mode, void *insn, struct insn_info *info)
{
    const struct arm_features *features = f->cpu ? &arm(f->cpu)->features : NULL;
    struct a32_insn *i = insn;
    unsigned it;

    memset(i, 0, sizeof(*i));
    i->pc = pc;
    i->features = features;
    i->thumb = mode & MODE_THUMB;
    i->it = it_state(f, pc, mode);
    i->cond = 14;
    *info = (struct insn_info){ 0 };
    if (!fetch(f, i))
        return false;
    i->row = find(i);
    if (i->thumb && !(i->row && i->row->flags & A32_ROW_NOIT))
        i->cond = a32_in_it(i) ? i->it >> 4 : 14;
    if (i->cond == 15)
        i->cond = 14;
    if (i->row && a32_in_it(i) && i->row->flags & A32_ROW_NOIT)
        i->row = NULL;                          /* UNPREDICTABLE */
    info->flow = FLOW_END;
    if (i->row) {
        normalize(i);
        info->flow = flow_of(i, mode, info);
    }
    i->flow = info->flow;
    info->len = i->len;
    info->straddles = (pc ^ (pc + i->len - 1)) >> CPU_PAGE_BITS;
    it = i->row && i->row->emit == a32_emit_it ? (unsigned)i->fc << 4 | i->itmask : a32_it_advance(i->it);
    f->note = ((pc + i->len) & 0xffffffff) << 8 | it;
    return true;
}
