/* The x86 instruction decoder. Prefixes, opcode maps, modrm and immediates are parsed here; what an opcode is stands in
 * isa/x86*.isa, from which gen/isa.py makes x86_rows[] and x86_index[]. SDM vol. 2, chapter 2 and appendix A. */
#include <string.h>
#include "x86.h"

enum { MAX_LEN = 15 };

EMIT(undefined);
EMIT(too_long);
const struct x86_row x86_row_undefined = { "(bad)", x86_emit_undefined, .flow = FLOW_END };
const struct x86_row x86_row_too_long = { "(long)", x86_emit_too_long, .flow = FLOW_END };

struct decoder {
    struct code_fetch *f;
    struct x86_insn *i;
    uint64_t mode;
    bool code64, protected;     /* protected: neither real nor virtual-8086 mode */
    bool unfetchable, too_long;
    const uint8_t *window;      /* the instruction's first bytes, as many as lie in one page */
    unsigned in_window;         /* at most MAX_LEN */
};

/* The next byte, not from the window: the next page's, or one too many. */
static uint8_t fetch_beyond(struct decoder *d)
{
    uint8_t b = 0;

    if (d->i->len >= MAX_LEN) {
        d->too_long = true;
        return 0;
    }
    if (!d->unfetchable && !code_fetch_byte(d->f, d->i->pc + d->i->len, &b))
        d->unfetchable = true;
    d->i->len++;
    return b;
}

static inline uint8_t fetch8(struct decoder *d)
{
    return d->i->len < d->in_window ? d->window[d->i->len++] : fetch_beyond(d);
}

static bool failed(const struct decoder *d) { return d->unfetchable || d->too_long; }

static uint64_t fetch(struct decoder *d, unsigned bytes)
{
    uint64_t v = 0;

    if (bytes == 4 && d->i->len + 4 <= d->in_window) {
        memcpy(&v, d->window + d->i->len, 4);
        d->i->len += 4;
        return v;
    }
    for (unsigned n = 0; n < bytes; n++)
        v |= (uint64_t)fetch8(d) << (8 * n);
    return v;
}

static int64_t fetch_signed(struct decoder *d, unsigned bytes)
{
    unsigned shift = 64 - 8 * bytes;

    return (int64_t)(fetch(d, bytes) << shift) >> shift;
}

/* Legacy prefixes and REX; leaves the first opcode byte in i->opcode. In 64-bit mode only FS and GS override. */
static void parse_prefixes(struct decoder *d, bool *p67)
{
    static const int8_t seg[256] = { [0x26] = S_ES + 1, [0x2e] = S_CS + 1, [0x36] = S_SS + 1, [0x3e] = S_DS + 1,
                                     [0x64] = S_FS + 1, [0x65] = S_GS + 1 };
    struct x86_insn *i = d->i;

    i->seg = -1;
    for (;;) {
        uint8_t b = fetch8(d);

        if (failed(d))
            return;
        if (b == 0x66) {
            i->prefix66 = true;
        } else if (b == 0x67) {
            *p67 = true;
        } else if (b == 0xf0) {
            i->lock = true;
        } else if (b == 0xf2 || b == 0xf3) {
            i->repne = b == 0xf2;
            i->rep = b == 0xf3;
        } else if (seg[b]) {
            if (!d->code64 || b == 0x64 || b == 0x65)
                i->seg = seg[b] - 1;
        } else if (d->code64 && (b & 0xf0) == 0x40) {
            i->rex = b;         /* counts only right before the opcode */
            continue;
        } else {
            i->opcode = b;
            break;
        }
        i->rex = 0;
    }
    i->vex_w = i->rex >> 3 & 1;
}

/* C4 and C5 are VEX in 64-bit mode, and elsewhere in protected mode when a modrm byte would say "register". */
static bool parse_vex(struct decoder *d, uint8_t *pp, bool *bad)
{
    struct x86_insn *i = d->i;
    uint8_t b1;

    if (i->opcode != 0xc4 && i->opcode != 0xc5)
        return false;
    if (!d->code64) {
        uint8_t peek = 0;

        if (!d->protected)
            return false;
        if (!code_fetch_byte(d->f, i->pc + i->len, &peek)) {
            d->unfetchable = true;
            return false;
        }
        if (peek < 0xc0)
            return false;
    }
    *bad = i->rex || i->prefix66 || i->rep || i->repne || i->lock;
    i->vex = true;
    i->rex = 0;
    b1 = fetch8(d);
    if (i->opcode == 0xc4) {
        uint8_t b2 = fetch8(d);

        i->rex = (~b1 >> 5 & 7) | (b2 >> 7) << 3;
        i->map = b1 & 0x1f;
        b1 = (b1 & 0x80) | (b2 & 0x7f);
        i->vex_w = b2 >> 7;
    } else {
        i->rex = (~b1 >> 7 & 1) << 2;
        i->map = 1;
        i->vex_w = false;
    }
    if (!d->code64)
        i->rex &= 8;
    i->vvvv = ~b1 >> 3 & (d->code64 ? 15 : 7);
    i->vex_l = b1 >> 2 & 1;
    *pp = b1 & 3;
    if (i->map < 1 || i->map > 3)
        *bad = true;
    i->opcode = fetch8(d);
    return true;
}

static void parse_map(struct decoder *d)
{
    struct x86_insn *i = d->i;

    if (i->opcode != 0x0f)
        return;
    i->map = 1;
    i->opcode = fetch8(d);
    if (i->opcode == 0x38 || i->opcode == 0x3a) {
        i->map = i->opcode == 0x38 ? 2 : 3;
        i->opcode = fetch8(d);
    }
}

/* SDM vol. 2, table 2-1 */
static void parse_modrm16(struct decoder *d)
{
    static const int8_t base[8] = { R_RBX, R_RBX, R_RBP, R_RBP, R_RSI, R_RDI, R_RBP, R_RBX };
    static const int8_t index[8] = { R_RSI, R_RDI, R_RSI, R_RDI, -1, -1, -1, -1 };
    struct x86_insn *i = d->i;

    i->base = base[i->rm];
    i->index = index[i->rm];
    if (i->mod == 0 && i->rm == 6) {
        i->base = -1;
        i->disp = (int32_t)fetch_signed(d, 2);
    } else if (i->mod) {
        i->disp = (int32_t)fetch_signed(d, i->mod);
    }
}

/* SDM vol. 2, tables 2-2 and 2-3 */
static void parse_modrm32(struct decoder *d)
{
    struct x86_insn *i = d->i;
    uint8_t rm = i->modrm & 7;

    if (rm == 4) {
        uint8_t sib = fetch8(d);

        i->scale = sib >> 6;
        i->index = (sib >> 3 & 7) | (i->rex & 2) << 2;
        i->base = (sib & 7) | (i->rex & 1) << 3;
        i->sib = true;
        if ((sib & 7) == 5 && i->mod == 0) {
            i->base = -1;
            i->disp = (int32_t)fetch_signed(d, 4);
        }
    } else if (rm == 5 && i->mod == 0) {
        i->base = d->code64 ? 16 : -1;
        i->disp = (int32_t)fetch_signed(d, 4);
    } else {
        i->base = i->rm;
    }
    if (i->mod == 1)
        i->disp = (int32_t)fetch_signed(d, 1);
    else if (i->mod == 2)
        i->disp = (int32_t)fetch_signed(d, 4);
}

static void parse_modrm(struct decoder *d)
{
    struct x86_insn *i = d->i;

    i->modrm = fetch8(d);
    if (i->map == 1 && (i->opcode & 0xfc) == 0x20)
        i->modrm |= 0xc0;       /* MOV of CR and DR: mod is ignored */
    i->mod = i->modrm >> 6;
    i->reg = (i->modrm >> 3 & 7) | (i->rex & 4) << 1;
    i->rm = (i->modrm & 7) | (i->rex & 1) << 3;
    if (i->mod == 3)
        return;
    if (i->adsize == 2)
        parse_modrm16(d);
    else
        parse_modrm32(d);
}

static bool row_fits(const struct decoder *d, const struct x86_row *r, unsigned pp)
{
    const struct x86_insn *i = d->i;

    return (r->pp >> pp & 1) && (r->w < 0 || r->w == i->vex_w) && (r->l < 0 || r->l == i->vex_l) &&
           (r->ext < 0 || r->ext == (i->modrm >> 3 & 7)) && (r->rm < 0 || r->rm == (i->modrm & 7)) &&
           (!r->mod || (r->mod == 2) == (i->mod == 3)) && !(r->flags & (d->code64 ? ROWF_NO64 : ROWF_X64)) &&
           !((r->flags & ROWF_NOREAL) && !d->protected);
}

static const struct x86_row *row_find(const struct decoder *d, const struct x86_index *at, unsigned pp)
{
    for (unsigned n = 0; n < at->count; n++)
        if (row_fits(d, &x86_rows[at->first + n], pp))
            return &x86_rows[at->first + n];
    return &x86_row_undefined;
}

static unsigned type_size(const struct x86_insn *i, unsigned type, bool code64)
{
    static const uint8_t fixed[] = { [OT_b] = 1, [OT_w] = 2, [OT_d] = 4, [OT_q] = 8, [OT_dq] = 16, [OT_qq] = 32,
                                     [OT_ss] = 4, [OT_sd] = 8, [OT_si] = 4, [OT_pi] = 8, [OT_t] = 10, [OT_dv] = 4,
                                     [OT_wv] = 2 };

    switch (type) {
    case OT_v: return i->opsize;
    case OT_z: return i->opsize == 2 ? 2 : 4;
    case OT_y: return code64 && i->vex_w ? 8 : 4;
    case OT_x: case OT_ps: case OT_pd: return i->vex_l ? 32 : 16;
    case OT_p: return i->opsize + 2;
    case OT_s: return code64 ? 10 : 6;
    case OT_a: return 2 * i->opsize;
    default: return fixed[type];
    }
}

static void set_gpr(struct decoder *d, struct x86_operand *o, unsigned reg)
{
    /* AH, CH, DH, BH when no REX prefix is there */
    if (o->size == 1 && reg >= 4 && reg < 8 && !(d->i->rex & 0x40) && !d->i->vex)
        *o = (struct x86_operand){ XO_REGH, (uint8_t)(reg - 4), 1 };
    else
        *o = (struct x86_operand){ XO_REG, (uint8_t)reg, o->size };
}

static void set_rm(struct decoder *d, struct x86_operand *o, const struct x86_opcode_operand *c, uint8_t kind)
{
    const struct x86_insn *i = d->i;

    if (i->mod != 3) {
        o->kind = XO_MEM;
        if (c->reg)
            o->size = (uint8_t)type_size(i, c->reg, d->code64);
    } else if (kind == XO_REG) {
        set_gpr(d, o, i->rm);
    } else {
        o->kind = kind;
        o->reg = kind == XO_MM ? i->modrm & 7 : i->rm;
    }
}

/* One operand by its code; immediates are fetched here, in operand order. False: the form is undefined. */
static bool parse_operand(struct decoder *d, const struct x86_opcode_operand *c, struct x86_operand *o)
{
    struct x86_insn *i = d->i;

    o->size = (uint8_t)type_size(i, c->type, d->code64);
    o->reg = 0;
    switch (c->am) {
    case AM_NONE: o->kind = XO_NONE; break;
    case AM_G: set_gpr(d, o, i->reg); break;
    case AM_B: set_gpr(d, o, i->vvvv); break;
    case AM_Z: set_gpr(d, o, (i->opcode & 7) | (i->rex & 1) << 3); break;
    case AM_FIXED: *o = (struct x86_operand){ XO_REG, c->reg, o->size }; break;
    case AM_E: case AM_M: case AM_R: set_rm(d, o, c, XO_REG); break;
    case AM_N: case AM_Q: set_rm(d, o, c, XO_MM); break;
    case AM_U: case AM_W: set_rm(d, o, c, XO_XMM); break;
    case AM_P: o->kind = XO_MM; o->reg = i->modrm >> 3 & 7; break;
    case AM_V: o->kind = XO_XMM; o->reg = i->reg; break;
    case AM_H: o->kind = XO_XMM; o->reg = i->vvvv; break;
    case AM_XMM0: o->kind = XO_XMM; break;
    case AM_L: o->kind = XO_XMM; i->imm = (int64_t)fetch(d, 1); o->reg = i->imm >> 4 & (d->code64 ? 15 : 7); break;
    case AM_S: o->kind = XO_SEG; o->reg = i->modrm >> 3 & 7; return o->reg <= S_GS;
    case AM_FIXSEG: o->kind = XO_SEG; o->reg = c->reg; break;
    case AM_C: o->kind = XO_CR; o->reg = i->reg; o->size = d->code64 ? 8 : 4; break;
    case AM_D: o->kind = XO_DR; o->reg = i->reg; o->size = d->code64 ? 8 : 4; break;
    case AM_T: o->kind = XO_ST; o->reg = i->modrm & 7; break;
    case AM_ST0: o->kind = XO_ST; break;
    case AM_X: case AM_Y: o->kind = XO_MEM; o->reg = c->am == AM_Y; break;
    case AM_O: o->kind = XO_MEM; i->moffs = true; i->imm = (int64_t)fetch(d, i->adsize); break;
    case AM_ONE: o->kind = XO_IMM; i->imm = 1; break;
    case AM_SI: o->kind = XO_IMM; o->size = i->opsize; i->imm = fetch_signed(d, 1); break;
    case AM_J: o->kind = XO_REL; i->imm = fetch_signed(d, c->type == OT_b ? 1 : i->opsize == 2 ? 2 : 4); break;
    case AM_A:
        o->kind = XO_FAR;
        i->imm = (int64_t)fetch(d, i->opsize == 2 ? 2 : 4);
        i->imm2 = (int64_t)fetch(d, 2);
        break;
    case AM_I: {
        int64_t v = c->type == OT_b || c->type == OT_w ? (int64_t)fetch(d, o->size) : fetch_signed(d, o->size);

        if (o != i->op && (o - 1)->kind == XO_IMM)
            i->imm2 = v;
        else
            i->imm = v;
        o->kind = XO_IMM;
        if (c->type == OT_z)
            o->size = i->opsize;        /* sign-extended */
        break;
    }
    default: return false;
    }
    return true;
}

/* VEX.vvvv must be 1111 where no operand uses it. */
static bool row_uses_vvvv(const struct x86_row *r)
{
    for (unsigned n = 0; n < 4; n++)
        if (r->operands[n].am == AM_H || r->operands[n].am == AM_B)
            return true;
    return false;
}

static unsigned operand_size(const struct decoder *d, const struct x86_row *r)
{
    const struct x86_insn *i = d->i;

    if (!d->code64)
        return ((d->mode & MODE_CODE_MASK) == MODE_CODE32) != i->prefix66 ? 4 : 2;
    if (i->vex_w || (r->flags & ROWF_F64))
        return 8;
    if (i->prefix66)
        return 2;
    return r->flags & ROWF_D64 ? 8 : 4;
}

static bool parse_operands(struct decoder *d, const struct x86_row *r)
{
    struct x86_insn *i = d->i;

    for (unsigned n = 0; n < 4 && r->operands[n].am; n++)
        if (!parse_operand(d, &r->operands[n], &i->op[n]))
            return false;
    if (i->lock && (!(r->flags & ROWF_LOCK) || i->op[0].kind != XO_MEM))
        return false;
    if (i->vex && !row_uses_vvvv(r) && i->vvvv != 0)
        return false;
    if (r->flags & ROWF_VSIB)
        return i->mod != 3 && i->sib && i->adsize != 2;
    if (i->index == R_RSP && i->sib)
        i->index = -1;
    return true;
}

static void fill_info(const struct decoder *d, struct insn_info *info)
{
    const struct x86_insn *i = d->i;

    info->len = i->len;
    info->flow = i->row->flow;
    info->straddles = (i->pc & (CPU_PAGE_SIZE - 1)) + i->len > CPU_PAGE_SIZE;
    info->target = 0;
    if (i->op[0].kind == XO_REL)
        info->target = x86_target(i, d->mode);
    /* One instruction at a time while single-stepping, and in an interrupt shadow. */
    if (d->mode & MODE_SINGLE)
        info->flow = FLOW_END;
}

/* Where a relative branch goes: IP wraps at the operand size outside 64-bit mode. */
uint64_t x86_target(const struct x86_insn *i, uint64_t mode)
{
    uint64_t base = mode >> MODE_CS_BASE_SHIFT, ip = i->pc + i->len - base + (uint64_t)i->imm;

    if ((mode & MODE_CODE_MASK) == MODE_CODE64)
        return i->pc + i->len + (uint64_t)i->imm;
    ip &= i->opsize == 2 ? 0xffff : 0xffffffff;
    return (base + ip) & 0xffffffff;
}

bool x86_decode(struct code_fetch *f, uint64_t pc, uint64_t mode, void *insn, struct insn_info *info)
{
    struct x86_insn *i = insn;
    struct decoder d = { .f = f, .i = i, .mode = mode, .code64 = (mode & MODE_CODE_MASK) == MODE_CODE64,
                         .protected = (mode & MODE_PE) && !(mode & MODE_VM86) };
    bool p67 = false, bad = false;
    uint8_t pp = 0;
    const struct x86_index *at;

    memset(i, 0, sizeof(*i));
    i->pc = pc;
    d.in_window = code_fetch_window(f, pc, MAX_LEN, &d.window);
    i->base = i->index = -1;
    parse_prefixes(&d, &p67);
    i->adsize = d.code64 ? (p67 ? 4 : 8) : ((mode & MODE_CODE_MASK) == MODE_CODE32) != p67 ? 4 : 2;
    if (!failed(&d) && !parse_vex(&d, &pp, &bad)) {
        parse_map(&d);
        pp = i->repne ? 3 : i->rep ? 2 : i->prefix66;
    }
    i->row = &x86_row_undefined;
    if (!failed(&d) && !bad) {
        at = &x86_index[i->vex][i->map][i->opcode];
        if (at->modrm)
            parse_modrm(&d);
        if (!failed(&d))
            i->row = row_find(&d, at, pp);
        i->features = f->cpu ? x86(f->cpu)->features : NULL;
        if (i->features && !x86_has(i->features, i->row->feature) && i->row->feature)
            i->row = &x86_row_undefined;
        i->opsize = (uint8_t)operand_size(&d, i->row);
        if (!parse_operands(&d, i->row))
            i->row = &x86_row_undefined;
    }
    if (d.unfetchable)
        return false;
    if (d.too_long) {
        i->row = &x86_row_too_long;
        i->len = MAX_LEN;
    }
    if (i->row == &x86_row_undefined || i->row == &x86_row_too_long)
        memset(i->op, 0, sizeof(i->op));
    fill_info(&d, info);
    return true;
}
