/* See generate.h. Everything but displacements, immediates and SIB comes from the row; those are random bytes, and the
 * decoder under test says what they mean. What it gets wrong shows as a difference from the processor. */
#include <cpuid.h>
#include <string.h>
#include "generate.h"

static GRand *dice;
static bool narrow;             /* 32-bit code */
static unsigned at;             /* where in the code page the instruction is made */
/* In streams memory operands are base + displacement, the base a register that nothing writes. */
static bool in_stream, with_memory;
static unsigned stream_base(void) { return narrow ? R_RBX : 15; }
static unsigned stream_count(void) { return narrow ? R_RDI : 14; }     /* counts a loop's rounds */

static uint32_t roll(uint32_t n) { return (uint32_t)g_rand_int_range(dice, 0, (gint32)n); }
static uint64_t random64(void) { return (uint64_t)g_rand_int(dice) << 32 | g_rand_int(dice); }

/* ---- which rows */

static void host_features(uint32_t w[FW_COUNT])
{
    uint32_t a, b, c, d;

    __cpuid(1, a, b, w[FW_1_ECX], w[FW_1_EDX]);
    __cpuid_count(7, 0, a, w[FW_7_EBX], w[FW_7_ECX], w[FW_7_EDX]);
    __cpuid(0x80000001, a, b, w[FW_80000001_ECX], w[FW_80000001_EDX]);
    __cpuid_count(13, 1, w[FW_D1_EAX], b, c, d);
    __cpuid(0x80000008, a, w[FW_80000008_EBX], c, d);
    w[FW_NONE] = 1;             /* XF_NONE is had by all */
}

static bool operand_ok(unsigned am)
{
    return am != AM_S && am != AM_C && am != AM_D && am != AM_A && am != AM_J && am != AM_FIXSEG && am != AM_O;
}

bool generate_can(const struct x86_row *row, bool code32)
{
    static uint32_t host[FW_COUNT];

    if (!host[FW_NONE])
        host_features(host);
    if (row->flow != FLOW_NEXT || (row->flags & (ROWF_NOTEST | ROWF_PRIV | (code32 ? ROWF_X64 : ROWF_NO64))) || !x86_has(host, row->feature))
        return false;
    for (unsigned n = 0; n < 4; n++)
        if (!operand_ok(row->operands[n].am))
            return false;
    return true;
}

/* ---- encodings */

static bool uses_vvvv(const struct x86_row *row)
{
    for (unsigned n = 0; n < 4; n++)
        if (row->operands[n].am == AM_H || row->operands[n].am == AM_B)
            return true;
    return false;
}

static unsigned put_prefixes(uint8_t *p, const struct x86_row *row)
{
    static const uint8_t byte[4] = { 0, 0x66, 0xf3, 0xf2 };
    unsigned n = 0, pp, rex = narrow ? 0 : roll(16) | (in_stream && with_memory), w = row->w >= 0 ? (unsigned)row->w : roll(2);

    do
        pp = roll(4);
    while (!(row->pp >> pp & 1));
    if (row->pp == 15 && roll(3))
        pp = 0;
    if (row->pp == 15 && pp > 1)
        pp = row->flags & ROWF_REP ? pp : 0;
    if (row->vex) {
        unsigned l = row->l >= 0 ? (unsigned)row->l : roll(2), vvvv = uses_vvvv(row) ? roll(narrow ? 8 : 16) : 0;

        if (row->map == 1 && !w && !(rex & 3) && roll(2)) {
            p[n++] = 0xc5;
            p[n++] = (uint8_t)((~rex & 4) << 5 | (~vvvv & 15) << 3 | l << 2 | pp);
        } else {
            p[n++] = 0xc4;
            p[n++] = (uint8_t)((~rex & 7) << 5 | row->map);
            p[n++] = (uint8_t)(w << 7 | (~vvvv & 15) << 3 | l << 2 | pp);
        }
        return n;
    }
    if (pp)
        p[n++] = byte[pp];
    if (!narrow && (roll(3) || w || (in_stream && with_memory)))
        p[n++] = (uint8_t)(0x40 | (rex & 7) | w << 3);
    if (row->map)
        p[n++] = 0x0f;
    if (row->map > 1)
        p[n++] = row->map == 2 ? 0x38 : 0x3a;
    return n;
}

static uint8_t make_modrm(const struct x86_row *row)
{
    unsigned reg = row->ext >= 0 ? (unsigned)row->ext : roll(8), rm = row->rm >= 0 ? (unsigned)row->rm : roll(8);
    unsigned mod = row->mod == 2 ? 3 : row->mod == 1 ? roll(3) : roll(2) ? 3 : roll(3);

    if (row->flags & ROWF_VSIB)
        rm = 4;
    if (in_stream) {
        mod = with_memory ? 2 : 3;
        rm = with_memory ? stream_base() & 7 : rm;
    }
    return (uint8_t)(mod << 6 | reg << 3 | rm);
}

static bool no_next_page(struct code_fetch *f) { return false; }

bool generate_decode(bool code32, struct x86_insn *insn)
{
    struct code_fetch f = { .page = { native_code, NULL }, .page_va = (uintptr_t)native_code,
                            .first_pc = (uintptr_t)native_code + at, .next_page = no_next_page };
    struct insn_info info;

    return x86_decode(&f, (uintptr_t)native_code + at, test_mode(code32), insn, &info);
}

/* ---- states */

static uint64_t random_int(void)
{
    static const uint64_t corners[] = { 0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000,
                                        0xffffffff, 0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff };

    switch (roll(4)) {
    case 0: return corners[roll(G_N_ELEMENTS(corners))];
    case 1: return roll(80);
    default: return random64();
    }
}

static uint64_t random_float(bool wide)
{
    static const uint32_t f32[] = { 0, 0x80000000, 1, 0x807fffff, 0x00800000, 0x3f800000, 0xbf800000, 0x7f7fffff,
                                    0x7f800000, 0xff800000, 0x7fc00000, 0xffc00123, 0x7f800001, 0xffa12345, 0x4f000000,
                                    0xcf000000, 0x5f000000, 0x3f000000, 0x40200000, 0x4b000001 };
    static const uint64_t f64[] = { 0, 0x8000000000000000, 1, 0x800fffffffffffff, 0x0010000000000000, 0x3ff0000000000000,
                                    0xbff0000000000000, 0x7fefffffffffffff, 0x7ff0000000000000, 0xfff0000000000000,
                                    0x7ff8000000000000, 0xfff8000000000123, 0x7ff0000000000001, 0xfff4123456789abc,
                                    0x41dfffffffe00000, 0xc1e0000000000000, 0x43e0000000000000, 0x3fe0000000000000,
                                    0x4004000000000000, 0x380fffffffffffff };

    if (wide)
        return roll(3) ? (random64() & 0x801fffffffffffff) | 0x3fe0000000000000 : f64[roll(G_N_ELEMENTS(f64))];
    if (roll(3))
        return ((uint64_t)((g_rand_int(dice) & 0x80ffffff) | 0x3f000000) << 32) | ((g_rand_int(dice) & 0x80ffffff) | 0x3f000000);
    return (uint64_t)f32[roll(G_N_ELEMENTS(f32))] << 32 | f32[roll(G_N_ELEMENTS(f32))];
}

static void random_vector(uint8_t *v, unsigned bytes)
{
    static const uint8_t few[] = { 0, 0, 1, 0x7f, 0x80, 0xff, 'a', 'b' };
    unsigned kind = roll(6);

    for (unsigned n = 0; n < bytes; n += 8) {
        uint64_t x = kind == 0 ? random_float(false) : kind == 1 ? random_float(true) : kind == 2 ? roll(70) : random64();

        memcpy(v + n, &x, 8);
    }
    if (kind == 3)
        for (unsigned n = 0; n < bytes; n++)
            v[n] = few[roll(G_N_ELEMENTS(few))];
}

/* An x87 register: any bits; a number of moderate size; denormals, infinities, NaNs, unnormals. */
static void random_f80(uint8_t *v)
{
    uint64_t frac = random64() | UINT64_C(1) << 63;
    uint16_t se = (uint16_t)(g_rand_int(dice) & 0x8000);

    switch (roll(8)) {
    case 0: frac = random64(); se = (uint16_t)g_rand_int(dice); break;
    case 1: frac = roll(3) ? frac : UINT64_C(1) << 63; se |= 0x7fff; break;
    case 2: frac = random64() >> (1 + roll(63)); break;
    case 3: frac = roll(2) ? 0 : UINT64_C(1) << 63; se |= frac ? 0x3fff : 0; break;
    case 4: frac = ~UINT64_C(0) << roll(64); se |= (uint16_t)(0x3fff + roll(70)); break;
    case 5: se |= (uint16_t)(roll(2) ? 0x7ffe - roll(8) : 1 + roll(70)); break;
    default: se |= (uint16_t)(0x3fff - 40 + roll(80)); break;
    }
    memcpy(v, &frac, 8);
    memcpy(v + 8, &se, 2);
}

/* x87 state, as MMX leaves it or of numbers; now and then an exception waits to be raised. MXCSR: all exceptions masked,
 * or some not. */
static void random_fx(uint8_t *fx, bool x87)
{
    uint32_t mxcsr = 0x1f80 | (g_rand_int(dice) & 0xe07f);
    uint16_t fcw = 0x037f, fsw = (uint16_t)(roll(8) << 11 | (g_rand_int(dice) & 0x4700));

    memset(fx, 0, 512);
    for (unsigned n = 0; n < 8; n++) {
        random_vector(fx + FX_ST + 16 * n, 8);
        memset(fx + FX_ST + 16 * n + 8, 0xff, 2);
        if (x87)
            random_f80(fx + FX_ST + 16 * n);
    }
    if (x87) {
        static const uint16_t precision[3] = { 0x300, 0x200, 0 };

        fcw = (uint16_t)(0x7f | precision[roll(4) % 3] | roll(4) << 10);
        if (roll(4) == 0)
            fcw &= (uint16_t)~roll(64);
        fsw |= (uint16_t)(g_rand_int(dice) & fcw & 0x7f);
    }
    if (roll(32) == 0) {
        fcw &= (uint16_t)~(1u << roll(6));
        fsw |= (uint16_t)roll(64);
    }
    if (fsw & ~fcw & 0x3f)
        fsw |= 0x8080;
    memcpy(fx + FX_FCW, &fcw, 2);
    memcpy(fx + FX_FSW, &fsw, 2);
    fx[FX_FTW] = (uint8_t)(roll(4) ? 0xff ^ (1u << roll(8) & roll(256)) : roll(256));
    if (roll(4) == 0)
        mxcsr &= ~(g_rand_int(dice) & 0x1f80);
    memcpy(fx + FX_MXCSR, &mxcsr, 4);
}

/* Makes the memory operand lie in the data: by base, or by index where there is no base. */
static bool aim(struct x86_insn *i, struct x86_image *img, unsigned modrm_at)
{
    uint64_t target = (uintptr_t)native_data + 1024 + roll(1024), index;

    if (roll(16) && (i->row->flags & (ROWF_ALIGN | ROWF_LOCK)))
        target &= ~UINT64_C(31);
    if (roll(64) == 0)          /* across the end of the page: a fault */
        target = (uintptr_t)native_data + NATIVE_DATA_SIZE - roll(32);
    if (i->base == 16) {
        int32_t disp = (int32_t)(target - (i->pc + i->len));

        memcpy(native_code + at + modrm_at + 1, &disp, 4);
        return generate_decode(narrow, i);
    }
    if (i->row->flags & ROWF_VSIB) {
        if (i->base < 0)
            return false;
        for (unsigned n = 0; n < 8; n++) {
            int32_t index_value = (int32_t)roll(128) - 64;

            memcpy(img->ymm[i->index] + 4 * n, &index_value, 4);
            if (x86_arg(i) >> 2 == 3)   /* 64-bit indices */
                memset(img->ymm[i->index] + 4 * (n | 1), n & 1 ? 0 : index_value < 0 ? 0xff : 0, 4);
            if (x86_arg(i) >> 2 == 3 && !(n & 1))
                n++;
        }
        img->regs[i->base] = target - (uint64_t)(int64_t)i->disp;
        if (narrow)
            img->regs[i->base] = (uint32_t)img->regs[i->base];
        return true;
    }
    if (i->base < 0 && i->index < 0 && i->adsize >= 4) {
        int32_t disp = (int32_t)target;

        memcpy(native_code + at + modrm_at + 1 + i->sib, &disp, 4);
        return generate_decode(narrow, i);
    }
    if (i->base == i->index || i->adsize == 2)
        return false;
    index = i->index >= 0 ? img->regs[i->index] << i->scale : 0;
    if (i->base >= 0)
        img->regs[i->base] = target - index - (uint64_t)(int64_t)i->disp;
    else
        img->regs[i->index] = (target - (uint64_t)(int64_t)i->disp) >> i->scale;
    for (unsigned n = 0; narrow && n < 8; n++)
        img->regs[n] = (uint32_t)img->regs[n];
    return i->base >= 0 || (uint32_t)((img->regs[i->index] << i->scale) + (uint64_t)(int64_t)i->disp - (uintptr_t)native_data) < 2048;
}

static void random_state(struct x86_image *img, bool x87)
{
    memset(img, 0, sizeof(*img));
    for (unsigned n = 0; n < (narrow ? 8 : 16); n++) {
        img->regs[n] = narrow ? (uint32_t)random_int() : random_int();
        random_vector(img->ymm[n], 32);
    }
    img->regs[R_RSP] = (uintptr_t)native_data + 2048 + 8 * roll(64);
    img->regs[R_RSI] = roll(2) ? (uintptr_t)native_data + 1024 + roll(512) : img->regs[R_RSI];
    img->regs[R_RDI] = (uintptr_t)native_data + 1024 + roll(512);
    img->rflags = 0x202 | (g_rand_int(dice) & EF_ARITH);
    random_fx(img->fx, x87);
    for (unsigned n = 0; n < NATIVE_DATA_SIZE; n += 64)
        if (roll(8) == 0)
            random_vector(native_data + n, 64);
}

static bool is_transcendental(const struct x86_row *row)
{
    static const uint16_t set = 0xca0f;         /* D9 F0 to FF: F0-F3, F9, FB, FE, FF */

    return !row->vex && !row->map && row->opcode == 0xd9 && row->mod == 2 && row->ext >= 6 && row->rm >= 0 &&
           set >> ((row->ext & 1) * 8 + row->rm) & 1;
}

bool generate(GRand *rnd, bool code32, const struct x86_row *row, struct x86_insn *insn, struct x86_image *img)
{
    uint8_t *p = native_code + at;
    unsigned n, modrm_at = 0;

    dice = rnd;
    narrow = code32;
    at = 64;
    in_stream = false;
    random_state(img, !row->vex && !row->map && row->opcode >= 0xd8 && row->opcode <= 0xdf);
    n = put_prefixes(p, row);
    p[n++] = row->opcode;
    if (row->flags & ROWF_MODRM) {
        modrm_at = n;
        p[n++] = make_modrm(row);
    }
    for (unsigned k = 0; k < 12; k++)
        p[n + k] = (uint8_t)roll(256);
    if (!generate_decode(code32, insn) || insn->row != row)
        return false;
    if (is_transcendental(row)) {       /* with all masked: unmasked underflow does not wrap their exponents */
        img->fx[FX_FCW] |= 0x3f;
        img->fx[FX_FSW] &= 0x7f;
        img->fx[FX_FSW + 1] &= 0x7f;
    }
    if (row->vex && roll(4) == 0)       /* a mask of all lanes */
        memset(img->ymm[insn->vvvv], 0xff, 32);
    if (row->flags & ROWF_MODRM && insn->mod != 3 && !aim(insn, img, modrm_at))
        return false;
    return true;
}

/* Rows fit for streams: whose flags are all defined, and that reach memory by modrm alone. */
bool generate_fits_stream(const struct x86_row *row)
{
    if (row->undefined_flags || row->flags & (ROWF_VSIB | ROWF_REP) || is_transcendental(row))
        return false;
    for (unsigned n = 0; n < 4; n++)
        if (row->operands[n].am == AM_X || row->operands[n].am == AM_Y)
            return false;
    for (const char *const *p = (const char *const[]){ "bt", "enter", "xlat", "popa", "leave", "maskmov", "vmaskmovdqu", "ldmxcsr",
                                                       "vldmxcsr", "shld", "shrd", NULL }; *p; p++)
        if (g_str_has_prefix(row->mnemonic, *p))
            return false;
    return true;
}

/* Or the stack pointer, 16 bits of which would make it reach the code. */
static bool writes_base(const struct x86_insn *i)
{
    for (unsigned n = 0; n < 3; n++)
        if ((i->op[n].kind == XO_REG || i->op[n].kind == XO_REGH) &&
            (i->op[n].reg == stream_base() || i->op[n].reg == stream_count() || i->op[n].reg == R_RSP))
            return true;
    return false;
}

bool generate_next(GRand *rnd, bool code32, const struct x86_row *row, unsigned offset, struct x86_insn *insn)
{
    uint8_t *p = native_code + offset;
    int32_t disp;
    unsigned n;

    dice = rnd;
    narrow = code32;
    at = offset;
    in_stream = true;
    with_memory = row->flags & ROWF_MODRM && row->mod != 2 && (row->mod == 1 || roll(2));
    n = put_prefixes(p, row);
    p[n++] = row->opcode;
    if (row->flags & ROWF_MODRM)
        p[n++] = make_modrm(row);
    for (unsigned k = 0; k < 12; k++)
        p[n + k] = (uint8_t)roll(256);
    disp = (int32_t)roll(2048) & (roll(16) ? ~31 : ~0);
    if (with_memory)
        memcpy(p + n, &disp, 4);
    return generate_decode(code32, insn) && insn->row == row && insn->adsize >= 4 && !writes_base(insn) &&
           (!with_memory || (unsigned)insn->base == stream_base());
}

static void put_insn(bool code32, const uint8_t *bytes, unsigned n, unsigned offset, struct x86_insn *insn)
{
    at = offset;
    memcpy(native_code + offset, bytes, n);
    generate_decode(code32, insn);
}

void generate_skip(bool code32, unsigned cc, unsigned offset, unsigned target, struct x86_insn *insn)
{
    put_insn(code32, (const uint8_t[]){ (uint8_t)(0x70 + cc), (uint8_t)(target - (offset + SKIP_BYTES)) }, SKIP_BYTES, offset, insn);
}

void generate_loop_end(bool code32, unsigned offset, unsigned start, struct x86_insn insn[2])
{
    unsigned n = code32 ? 1 : 3;
    int32_t back = (int32_t)start - (int32_t)(offset + n + 6);
    uint8_t jump[6] = { 0x0f, 0x85 };           /* jnz */

    narrow = code32;
    memcpy(jump + 2, &back, 4);
    put_insn(code32, code32 ? (const uint8_t[]){ 0x4f } : (const uint8_t[]){ 0x41, 0xff, 0xce }, n, offset, &insn[0]);
    put_insn(code32, jump, 6, offset + n, &insn[1]);
}

void generate_state(GRand *rnd, bool code32, bool x87, struct x86_image *img)
{
    dice = rnd;
    narrow = code32;
    random_state(img, x87);
    img->regs[stream_base()] = (uintptr_t)native_data + 512;
    img->regs[stream_count()] = 1 + roll(4);
}
