/* The x87 floating-point unit: SDM vol. 1, chapter 8; instruction pages of vol. 2. Each instruction is one call; what is
 * computed is base/softfloat's, whose 80-bit arithmetic is exact. Registers are physical: ST(i) is fpregs[(TOP + i) & 7].
 * Where the host has an x87 that translated code may use, and no exception is unmasked, the first call takes the registers
 * there, and those after it are the host's instructions; helper_fpu_home() brings them back. */
#include <glib.h>
#include <stddef.h>
#include <string.h>
#include "rhea/base/softfloat_f80.h"
#include "system.h"

enum { SW_IE = 1, SW_DE = 2, SW_ZE = 4, SW_OE = 8, SW_UE = 16, SW_PE = 32, SW_SF = 64, SW_ES = 128, SW_C0 = 1 << 8, SW_C1 = 1 << 9,
       SW_C2 = 1 << 10, SW_C3 = 1 << 14, SW_B = 1 << 15, SW_CC = SW_C0 | SW_C1 | SW_C2 | SW_C3 };
/* Formats in memory */
enum { FF_F32, FF_F64, FF_I16, FF_I32, FF_I64, FF_F80, FF_BCD };
enum { FA_TO = 8, FA_POP = 16 };                /* result to ST(i); pop after */
enum { FS_POP = 16, FS_TRUNCATE = 32 };
enum { FM_LOAD, FM_EXCHANGE, FM_STORE, FM_STORE_POP, FM_FREE, FM_FREE_POP, FM_CMOV, FM_CMOV_NOT, FM_STORE_UNCHECKED };
enum { FC_UNORDERED = 1, FC_POP = 2, FC_EFLAGS = 4, FC_POP2 = 8 };
enum { FE_LDENV, FE_STENV, FE_RSTOR, FE_SAVE };
enum { FO_INIT, FO_CLEX, FO_INCSTP, FO_DECSTP };
enum { FU_CHS, FU_ABS, FU_TST, FU_XAM, FU_2XM1, FU_YL2X, FU_PTAN, FU_PATAN, FU_XTRACT, FU_PREM1, FU_PREM, FU_YL2XP1, FU_SQRT,
       FU_SINCOS, FU_RNDINT, FU_SCALE, FU_SIN, FU_COS };
enum { OP_ADD, OP_MUL, OP_COM, OP_COMP, OP_SUB, OP_SUBR, OP_DIV, OP_DIVR };

/* What one instruction does: function, its own number or format, a register or flags; fpu_what(). */
enum fpu_function {
    FN_ARITH, FN_ARITH_MEMORY, FN_COMPARE, FN_LOAD, FN_STORE, FN_MOVE, FN_CMOV, FN_CONST, FN_UNARY, FN_OP, FN_STATUS, FN_CONTROL
};
enum { FN_NO_WAIT = 0x80 };             /* a pending exception does not matter */
static uint32_t fpu_what(enum fpu_function fn, unsigned n, unsigned arg) { return (uint32_t)fn | n << 8 | arg << 16; }

/* ---- state */
static float80 *st(struct x86_cpu *c, unsigned i) { return &c->fpregs[(c->fptop + i) & 7].v; }
/* By words, which the compiler may not join: what comes in two registers would go by the stack, written in parts, read as one. */
static void st_put(struct x86_cpu *c, unsigned i, float80 v)
{
    float80 *r = st(c, i);

    __atomic_store_n(&r->frac, v.frac, __ATOMIC_RELAXED);
    __atomic_store_n(&r->se, v.se, __ATOMIC_RELAXED);
}

static bool empty(const struct x86_cpu *c, unsigned i) { return c->fptag >> ((c->fptop + i) & 7) & 1; }
static void set_full(struct x86_cpu *c, unsigned i) { c->fptag &= ~(1u << ((c->fptop + i) & 7)); }

static void pop(struct x86_cpu *c)
{
    c->fptag |= 1u << (c->fptop & 7);
    c->fptop = (c->fptop + 1) & 7;
}

/* By the control word's RC and PC, 8.1.5. Whole, for it is copied at each operation. */
#define STATUS(rc, bits) { .rules = &float_rules_x87, .rounding = rc, .f80_precision = bits }
#define PRECISIONS(rc) STATUS(rc, 24), STATUS(rc, 64), STATUS(rc, 53), STATUS(rc, 64)
static const struct float_status by_control[16] = {
    PRECISIONS(FLOAT_ROUND_NEAREST_EVEN), PRECISIONS(FLOAT_ROUND_DOWN), PRECISIONS(FLOAT_ROUND_UP), PRECISIONS(FLOAT_ROUND_TO_ZERO),
};

static struct float_status status_of(const struct x86_cpu *c) { return by_control[c->fpcw >> 8 & 15]; }

/* Notes exceptions. true: the result is to be stored (8.5: an unmasked invalid, denormal or divide leaves operands alone). */
static bool note(struct x86_cpu *c, unsigned sw)
{
    unsigned unmasked = sw & ~c->fpcw & 0x3f;

    if (unmasked & (SW_IE | SW_DE | SW_ZE))
        sw &= SW_IE | SW_DE | SW_ZE | SW_SF | SW_C1;
    c->fpsw |= sw;
    if (unmasked)
        c->fpsw |= SW_ES | SW_B;
    return !(unmasked & (SW_IE | SW_DE | SW_ZE));
}

static void note_rounding(struct x86_cpu *c, uint32_t f)
{
    c->fpsw = (c->fpsw & ~SW_C1) | (f & FLOAT_INEXACT ? SW_PE | (f & FLOAT_ROUNDED_UP ? SW_C1 : 0) : 0);
}

/* Exceptions of an operation that softfloat did; sets C1 by the rounding. */
static bool note_flags(struct x86_cpu *c, const struct float_status *s)
{
    uint32_t f = s->flags;
    unsigned sw;

    if (!(f & ~(uint32_t)(FLOAT_INEXACT | FLOAT_ROUNDED_UP)) && c->fpcw & SW_PE) {      /* as nearly always */
        note_rounding(c, f);
        return true;
    }
    sw = (f & FLOAT_INVALID ? SW_IE : 0) | (f & FLOAT_INPUT_DENORMAL ? SW_DE : 0) | (f & FLOAT_DIVBYZERO ? SW_ZE : 0) |
                  (f & FLOAT_OVERFLOW ? SW_OE : 0) | (f & FLOAT_INEXACT ? SW_PE : 0);

    if (f & FLOAT_UNDERFLOW || (f & FLOAT_TINY && !(c->fpcw & SW_UE)))
        sw |= SW_UE;
    if (sw & SW_IE)                     /* which comes before a denormal operand (8.6) */
        sw &= ~SW_DE;
    c->fpsw &= ~SW_C1;
    if (sw & SW_PE && f & FLOAT_ROUNDED_UP && !(sw & ~c->fpcw & (SW_IE | SW_DE | SW_ZE)))
        sw |= SW_C1;
    return note(c, sw);
}

static bool stack_fault(struct x86_cpu *c, bool overflow)
{
    c->fpsw &= ~SW_C1;
    return note(c, SW_IE | SW_SF | (overflow ? SW_C1 : 0));
}

static float80 indefinite(void)
{
    struct float_status s = float_status_init(&float_rules_x87);

    return f80_default_nan(&s);
}

static void push_unchecked(struct x86_cpu *c, float80 v)
{
    c->fptop = (c->fptop - 1) & 7;
    st_put(c, 0, v);
    set_full(c, 0);
}

static void push(struct x86_cpu *c, float80 v)
{
    c->fpsw &= ~SW_C1;
    if (!empty(c, 7)) {
        if (!stack_fault(c, true))
            return;
        v = indefinite();
    }
    push_unchecked(c, v);
}

static memop format_memop(struct x86_cpu *c, unsigned format)
{
    static const uint8_t size[] = { MEM_32, MEM_64, MEM_16, MEM_32, MEM_64 };

    return size[format] | x86_mmu_index(&c->cpu, false) << MEM_MMU_SHIFT;
}

/* An operand from memory, widened; widening a signalling NaN or a denormal of a smaller format counts. */
static float80 read_operand(struct x86_cpu *c, unsigned format, uint64_t va, struct float_status *s)
{
    uint64_t v;
    uint8_t image[10];
    float80 r = { 0 };

    if (format >= FF_F80) {
        cpu_load_bytes(&c->cpu, va, image, 10, x86_mmu_index(&c->cpu, false));
        if (format == FF_BCD)
            return f80_from_bcd(image);
        memcpy(&r.frac, image, 8);
        memcpy(&r.se, image + 8, 2);
        return r;
    }
    v = cpu_load(&c->cpu, va, format_memop(c, format));
    switch (format) {
    case FF_F32: return f32_to_f80(v, s);
    case FF_F64: return f64_to_f80(v, s);
    case FF_I16: return f80_from_int((int16_t)v, 0, s);
    case FF_I32: return f80_from_int((int32_t)v, 0, s);
    default: return f80_from_int((int64_t)v, 0, s);
    }
}

/* ---- arithmetic */
static float80 compute(unsigned op, float80 a, float80 b, struct float_status *s)
{
    switch (op) {
    case OP_ADD: return f80_add(a, b, s);
    case OP_MUL: return f80_mul(a, b, s);
    case OP_SUB: return f80_sub(a, b, s);
    case OP_SUBR: return f80_sub(b, a, s);
    case OP_DIV: return f80_div(a, b, s);
    default: return f80_div(b, a, s);
    }
}

/* a op b times 2^n, rounded once as without a bound on the exponent: operands are moved to where nothing over- or
 * underflows, the result from there. */
static float80 compute_scaled(unsigned op, float80 a, float80 b, int n, struct float_status *s)
{
    struct float_status exact = *s;
    int half = n / 2, step = n < 0 ? -2 : 64;

    switch (op) {
    case OP_MUL:
        return f80_mul(f80_scalbn(a, half, &exact), f80_scalbn(b, half, &exact), s);
    case OP_DIV:
        return f80_div(f80_scalbn(a, half, &exact), f80_scalbn(b, -half, &exact), s);
    case OP_DIVR:
        return f80_div(f80_scalbn(b, half, &exact), f80_scalbn(a, -half, &exact), s);
    default:
        a = compute(op, f80_scalbn(a, step, &exact), f80_scalbn(b, step, &exact), s);
        return f80_scalbn(a, n - step, &exact);
    }
}

enum { BIAS = 24576 };                  /* 8.5.4, 8.5.5: what unmasked overflow and underflow wrap exponents by */

/* The exceptions of an arithmetic op noted; *store: the result is to be. `more`: flags that its operand's widening raised. */
static float80 arith(struct x86_cpu *c, unsigned op, float80 a, float80 b, uint32_t more, bool *store)
{
    struct float_status s = status_of(c);
    float80 r = compute(op, a, b, &s);
    bool over, under;

    s.flags |= more;
    over = s.flags & FLOAT_OVERFLOW && !(c->fpcw & SW_OE);
    under = s.flags & FLOAT_TINY && !(c->fpcw & SW_UE);
    if (over || under) {
        struct float_status scaled = status_of(c);

        r = compute_scaled(op, a, b, over ? -BIAS : BIAS, &scaled);
        s.flags &= ~(uint32_t)(FLOAT_INEXACT | FLOAT_ROUNDED_UP | FLOAT_UNDERFLOW);
        s.flags |= scaled.flags & (FLOAT_INEXACT | FLOAT_ROUNDED_UP);
    }
    *store = note_flags(c, &s);
    return r;
}

/* arith() of what is most frequent, without a call. false: nothing happened. */
static inline bool arith_plain(struct x86_cpu *c, unsigned op, float80 a, float80 b, float80 *r)
{
    struct float_status s = status_of(c);
    bool done = false;

    switch (op) {
    case OP_SUB: b.se ^= 0x8000; done = f80_plain_add(a, b, r, &s); break;
    case OP_SUBR: a.se ^= 0x8000; done = f80_plain_add(a, b, r, &s); break;
    case OP_ADD: done = f80_plain_add(a, b, r, &s); break;
    case OP_MUL: done = f80_plain_mul(a, b, r, &s); break;
    }
    done = done && c->fpcw & SW_PE;
    if (done)
        note_rounding(c, s.flags);
    return done;
}

static unsigned relation_bits(enum float_relation r)
{
    return r == FLOAT_LESS ? SW_C0 : r == FLOAT_EQUAL ? SW_C3 : r == FLOAT_GREATER ? 0 : SW_C0 | SW_C2 | SW_C3;
}

/* FCOM and kin with an operand already at hand; `missing`: a register was empty. *bits: the condition bits, which are
 * set even when an exception is unmasked; false: that holds back a pop. */
static bool compare(struct x86_cpu *c, float80 a, float80 b, bool missing, bool unordered, struct float_status *s,
                    unsigned *bits)
{
    *bits = relation_bits(FLOAT_UNORDERED);
    if (missing)
        return stack_fault(c, false);
    *bits = relation_bits(unordered ? f80_compare_quiet(a, b, s) : f80_compare(a, b, s));
    return note_flags(c, s);
}

static void set_relation(struct x86_cpu *c, unsigned bits)
{
    c->fpsw = (c->fpsw & ~SW_CC) | bits;
}

static void fpu_arith(struct x86_cpu *c, uint32_t op, uint32_t what)
{
    unsigned i = what & 7, bits;
    bool missing = empty(c, 0) || empty(c, i), store = true;
    float80 r;

    if (op == OP_COM || op == OP_COMP) {
        struct float_status s = status_of(c);
        bool go_on = compare(c, *st(c, 0), *st(c, i), missing, false, &s, &bits);

        set_relation(c, bits);
        if (go_on && op == OP_COMP)
            pop(c);
        return;
    }
    if (missing) {
        store = stack_fault(c, false);
        r = indefinite();
    } else if (!arith_plain(c, op, *st(c, 0), *st(c, i), &r)) {
        r = arith(c, op, *st(c, 0), *st(c, i), 0, &store);      /* DC's encodings of SUB and SUBR account for the destination */
    }
    if (!store)
        return;
    st_put(c, what & FA_TO ? i : 0, r);
    set_full(c, what & FA_TO ? i : 0);
    if (what & FA_POP)
        pop(c);
}

/* What widening the operand b raised, as far as the op would raise it: a NaN, say, hides a denormal. Asked by a denormal
 * in b's place. */
static uint32_t widening_flags(struct x86_cpu *c, unsigned op, float80 a, float80 b, const struct float_status *widened)
{
    float80 denormal = { .frac = 1, .se = b.se & 0x8000 };
    struct float_status s = status_of(c);

    if (!(widened->flags & FLOAT_INPUT_DENORMAL))
        return widened->flags & FLOAT_INVALID;
    if (op == OP_COM || op == OP_COMP)
        f80_compare(a, denormal, &s);
    else
        compute(op, a, denormal, &s);
    return s.flags & FLOAT_INPUT_DENORMAL;
}

static void fpu_arith_memory(struct x86_cpu *c, uint32_t op, uint32_t format, uint64_t va)
{
    struct float_status s = status_of(c), widened = s;
    float80 a = *st(c, 0), b = read_operand(c, format, va, &widened), r;
    unsigned bits;
    bool store = true;

    if (widened.flags & FLOAT_INVALID)  /* still signalling where NaNs are chosen among (table 4-7) */
        b.frac &= ~(UINT64_C(1) << 62);
    if (op == OP_COM || op == OP_COMP) {
        bool go_on;

        s.flags |= widening_flags(c, op, a, b, &widened);
        go_on = compare(c, a, b, empty(c, 0), false, &s, &bits);
        set_relation(c, bits);
        if (go_on && op == OP_COMP)
            pop(c);
        return;
    }
    if (empty(c, 0)) {
        store = stack_fault(c, false);
        r = indefinite();
    } else if (widened.flags || !arith_plain(c, op, a, b, &r)) {
        r = arith(c, op, a, b, widening_flags(c, op, a, b, &widened), &store);
    }
    if (!store)
        return;
    st_put(c, 0, r);
    set_full(c, 0);
}

static uint32_t fpu_compare(struct x86_cpu *c, uint32_t i, uint32_t what)
{
    struct float_status s = status_of(c);
    unsigned bits, c1 = c->fpsw & SW_C1;
    bool missing = empty(c, 0) || empty(c, i);
    bool go_on = compare(c, *st(c, 0), *st(c, i), missing, what & FC_UNORDERED, &s, &bits);
    uint32_t flags = (bits & SW_C3 ? EF_ZF : 0) | (bits & SW_C2 ? EF_PF : 0) | (bits & SW_C0 ? EF_CF : 0);

    if (!(what & FC_EFLAGS))
        set_relation(c, bits);
    else if (!missing)
        c->fpsw |= c1;                  /* FCOMI leaves it */
    if (go_on && what & (FC_POP | FC_POP2))
        pop(c);
    if (go_on && what & FC_POP2)
        pop(c);
    return flags;
}

/* ---- loads, stores, moves */
static void fpu_load(struct x86_cpu *c, uint32_t format, uint64_t va)
{
    struct float_status s = status_of(c);
    float80 v = read_operand(c, format, va, &s);

    if (!empty(c, 7))
        s.flags = 0;                    /* a stack fault comes first */
    c->fpsw &= ~SW_C1;
    /* A denormal is loaded even where it is unmasked, as AMD's processors do. */
    if (note(c, s.flags & FLOAT_INVALID ? SW_IE : 0)) {
        note(c, s.flags & FLOAT_INPUT_DENORMAL ? SW_DE : 0);
        push(c, v);
    }
}

static void write_image(struct x86_cpu *c, unsigned format, uint64_t va, const uint8_t image[10], uint64_t v)
{
    if (format >= FF_F80)
        cpu_store_bytes(&c->cpu, va, image, 10, x86_mmu_index(&c->cpu, false));
    else
        cpu_store(&c->cpu, va, format_memop(c, format), v);
}

static void fpu_store(struct x86_cpu *c, unsigned format, uint32_t what, uint64_t va)
{
    static const uint8_t size[] = { 4, 8, 2, 4, 8, 10, 10 };
    struct float_status s = status_of(c);
    enum float_round r = what & FS_TRUNCATE ? FLOAT_ROUND_TO_ZERO : (enum float_round)s.rounding;
    uint8_t image[10] = { 0 };
    uint64_t v = 0;
    float80 a = *st(c, 0);
    bool ok;

    /* A page fault leaves everything as it was. */
    cpu_probe(&c->cpu, va, size[format], true, x86_mmu_index(&c->cpu, false));
    if (empty(c, 0)) {
        ok = stack_fault(c, false);
        a = indefinite();
    } else {
        ok = true;
    }
    switch (format) {
    case FF_F32: v = f80_to_f32(a, &s); break;
    case FF_F64: v = f80_to_f64(a, &s); break;
    case FF_I16: v = f80_to_int(a, 16, 0, r, &s); break;
    case FF_I32: v = f80_to_int(a, 32, 0, r, &s); break;
    case FF_I64: v = f80_to_int(a, 64, 0, r, &s); break;
    case FF_BCD: f80_to_bcd(a, image, &s); break;
    default:
        memcpy(image, &a.frac, 8);
        memcpy(image + 8, &a.se, 2);
    }
    if (!empty(c, 0)) {
        bool over = s.flags & FLOAT_OVERFLOW && !(c->fpcw & SW_OE), under = s.flags & FLOAT_TINY && !(c->fpcw & SW_UE);

        s.flags &= ~(uint32_t)FLOAT_INPUT_DENORMAL;     /* FST raises no denormal-operand exception */
        /* Unmasked, these keep the value on the stack and memory as it is; nothing was rounded then. */
        if (format <= FF_F64 && (over || under))
            s.flags &= ~(uint32_t)(FLOAT_INEXACT | FLOAT_ROUNDED_UP);
        ok = note_flags(c, &s) && !(format <= FF_F64 && (over || under));
    }
    if (!ok)
        return;
    write_image(c, format, va, image, v);
    if (what & FS_POP)
        pop(c);
}

static void fpu_move(struct x86_cpu *c, uint32_t what, uint32_t i)
{
    float80 a = *st(c, 0), b = *st(c, i);
    unsigned c1 = c->fpsw & SW_C1;

    c->fpsw &= ~SW_C1;
    switch (what) {
    case FM_STORE_UNCHECKED:            /* FSTPNCE: an empty register is copied as it is */
        st_put(c, i, a);
        if (!empty(c, 0))
            set_full(c, i);
        pop(c);
        return;
    case FM_LOAD:
        if (!empty(c, i)) {
            push(c, b);
        } else if (stack_fault(c, false)) {
            push_unchecked(c, indefinite());
        }
        return;
    case FM_EXCHANGE:
        if (empty(c, 0) || empty(c, i)) {
            if (!stack_fault(c, false))
                return;
            a = empty(c, 0) ? indefinite() : a;
            b = empty(c, i) ? indefinite() : b;
        }
        st_put(c, 0, b);
        st_put(c, i, a);
        set_full(c, 0);
        set_full(c, i);
        return;
    case FM_CMOV: case FM_CMOV_NOT:     /* the condition holds, or not: the registers are looked at all the same */
        c->fpsw |= c1;
        if (empty(c, 0) || empty(c, i)) {
            if (!stack_fault(c, false))
                return;
            b = indefinite();
        } else if (what == FM_CMOV_NOT) {
            return;
        }
        st_put(c, 0, b);
        set_full(c, 0);
        return;
    case FM_STORE: case FM_STORE_POP:
        if (empty(c, 0)) {
            if (!stack_fault(c, false))
                return;
            a = indefinite();
        }
        st_put(c, i, a);
        set_full(c, i);
        break;
    default:
        c->fptag |= 1u << ((c->fptop + i) & 7);
    }
    if (what == FM_STORE_POP || what == FM_FREE_POP)
        pop(c);
}

static void fpu_const(struct x86_cpu *c, uint32_t which)
{
    struct float_status s = status_of(c);

    push(c, f80_constant((enum f80_constant)which, &s));
}

/* ---- one operand, or ST(0) and ST(1) */
static void examine(struct x86_cpu *c)
{
    float80 a = *st(c, 0);
    unsigned exponent = a.se & 0x7fff, cls;

    if (empty(c, 0))
        cls = SW_C3 | SW_C0;
    else if (f80_is_unsupported(a))
        cls = 0;
    else if (exponent == 0x7fff)
        cls = a.frac << 1 ? SW_C0 : SW_C2 | SW_C0;
    else if (!exponent)
        cls = a.frac ? SW_C3 | SW_C2 : SW_C3;
    else
        cls = SW_C2;
    c->fpsw = (c->fpsw & ~SW_CC) | cls | (a.se & 0x8000 ? SW_C1 : 0);
}

static bool two_operands(unsigned op)
{
    return op == FU_YL2X || op == FU_PATAN || op == FU_PREM || op == FU_PREM1 || op == FU_YL2XP1 || op == FU_SCALE;
}

static bool gives_c2(unsigned op)
{
    return op == FU_PREM || op == FU_PREM1 || op == FU_PTAN || op == FU_SIN || op == FU_COS || op == FU_SINCOS;
}

static void reduce(struct x86_cpu *c, bool nearest)
{
    struct float_status s = status_of(c);
    unsigned q = 0, cc;
    float80 r;
    bool partial = f80_prem(*st(c, 0), *st(c, 1), nearest, &r, &q, &s);

    if (s.flags & FLOAT_TINY && !(c->fpcw & SW_UE)) {
        struct float_status exact = s;

        r = f80_scalbn(r, BIAS, &exact);
    }
    if (!note_flags(c, &s))
        return;
    if (f80_is_nan(r)) {                /* C0 and C3 stay */
        st_put(c, 0, r);
        return;
    }
    cc = partial ? SW_C2 : (q & 4 ? SW_C0 : 0) | (q & 2 ? SW_C3 : 0) | (q & 1 ? SW_C1 : 0);
    c->fpsw = (c->fpsw & ~SW_CC) | cc;
    st_put(c, 0, r);
}

/* FSCALE. Unmasked, over- and underflow wrap the exponent; what is beyond even so is infinity or zero. */
static float80 scale(struct x86_cpu *c, float80 a, float80 n, struct float_status *s)
{
    float80 r = f80_scale(a, n, s);
    bool over = s->flags & FLOAT_OVERFLOW && !(c->fpcw & SW_OE), under = s->flags & FLOAT_TINY && !(c->fpcw & SW_UE);
    struct float_status scaled = status_of(c), quiet = scaled;
    int64_t by;

    if (!over && !under)
        return r;
    by = f80_to_int(n, 32, 0, FLOAT_ROUND_TO_ZERO, &quiet);
    if (quiet.flags & FLOAT_INVALID)
        by = over ? 1 << 20 : -(1 << 20);
    r = f80_scalbn(a, (int)(CLAMP(by, -(1 << 20), 1 << 20) + (over ? -BIAS : BIAS)), &scaled);
    if (scaled.flags & FLOAT_OVERFLOW) {
        r = (float80){ .frac = UINT64_C(1) << 63, .se = (a.se & 0x8000) | 0x7fff };
        scaled.flags |= FLOAT_INEXACT | FLOAT_ROUNDED_UP;
    } else if (scaled.flags & FLOAT_TINY) {
        r = (float80){ .se = a.se & 0x8000 };
        scaled.flags = FLOAT_INEXACT;
    }
    s->flags &= ~(uint32_t)(FLOAT_INEXACT | FLOAT_ROUNDED_UP | FLOAT_UNDERFLOW);
    s->flags |= scaled.flags & (FLOAT_INEXACT | FLOAT_ROUNDED_UP);
    return r;
}

/* Results that go to ST(1) with a pop, or push a second one. */
static void produce(struct x86_cpu *c, unsigned op, struct float_status *s)
{
    float80 a = *st(c, 0), b = *st(c, 1), r = a, second = a;
    bool c2 = false, pushes = op == FU_PTAN || op == FU_SINCOS || op == FU_XTRACT;
    bool to_st1 = op == FU_YL2X || op == FU_YL2XP1 || op == FU_PATAN;

    if (pushes && !empty(c, 7)) {       /* no room for the second result */
        if (!stack_fault(c, true))
            return;
        st_put(c, 0, indefinite());
        c->fptop = (c->fptop - 1) & 7;
        st_put(c, 0, indefinite());
        set_full(c, 0);
        return;
    }
    switch (op) {
    case FU_2XM1: r = f80_f2xm1(a, s); break;
    case FU_YL2X: r = f80_fyl2x(a, b, s); break;
    case FU_YL2XP1: r = f80_fyl2xp1(a, b, s); break;
    case FU_PATAN: r = f80_fpatan(a, b, s); break;
    case FU_PTAN: c2 = f80_fptan(a, &r, s); break;
    case FU_SIN: c2 = f80_fsin(a, &r, s); break;
    case FU_COS: c2 = f80_fcos(a, &r, s); break;
    case FU_SINCOS: c2 = f80_fsincos(a, &r, &second, s); break;
    case FU_XTRACT: second = f80_xtract(a, &r, s); break;
    case FU_SQRT: r = f80_sqrt(a, s); break;
    case FU_RNDINT: r = f80_round_to_int(a, (enum float_round)s->rounding, true, s); break;
    case FU_SCALE: r = scale(c, a, b, s); break;
    }
    if (!note_flags(c, s))
        return;
    if (c2) {
        c->fpsw |= SW_C2;
        return;
    }
    st_put(c, to_st1 ? 1 : 0, r);
    if (to_st1)
        pop(c);
    if (op == FU_PTAN) {
        struct float_status plain = status_of(c);

        second = f80_is_nan(r) ? r : f80_constant(F80_ONE, &plain);
    }
    if (pushes) {
        unsigned c1 = c->fpsw & SW_C1;

        push(c, second);
        c->fpsw |= c1;
    }
}

static void fpu_unary(struct x86_cpu *c, uint32_t op)
{
    struct float_status s = status_of(c);

    if (op == FU_XAM) {
        examine(c);
        return;
    }
    if (op == FU_TST) {
        unsigned bits;

        compare(c, *st(c, 0), (float80){ 0 }, empty(c, 0), false, &s, &bits);
        set_relation(c, bits);
        return;
    }
    c->fpsw &= gives_c2(op) ? ~(SW_C1 | SW_C2) : ~SW_C1;
    if (empty(c, 0) || (two_operands(op) && empty(c, 1))) {
        if (!stack_fault(c, false))
            return;
        if (op == FU_PTAN || op == FU_SINCOS || op == FU_XTRACT) {
            st_put(c, 0, indefinite());
            set_full(c, 0);
            push_unchecked(c, indefinite());
        } else if (op == FU_YL2X || op == FU_YL2XP1 || op == FU_PATAN) {
            st_put(c, 1, indefinite());
            set_full(c, 1);
            pop(c);
        } else {
            st_put(c, 0, indefinite());
            set_full(c, 0);
        }
        return;
    }
    switch (op) {
    case FU_CHS: st(c, 0)->se ^= 0x8000; return;
    case FU_ABS: st(c, 0)->se &= 0x7fff; return;
    case FU_PREM: case FU_PREM1: reduce(c, op == FU_PREM1); return;
    default: produce(c, op, &s);
    }
}

/* ---- control, environment, state */
static unsigned status_word(const struct x86_cpu *c) { return (c->fpsw & ~0x3800u) | (c->fptop & 7) << 11; }

static void update_summary(struct x86_cpu *c)
{
    c->fpsw &= ~(SW_ES | SW_B);
    if (c->fpsw & ~c->fpcw & 0x3f)
        c->fpsw |= SW_ES | SW_B;
}

static void fpu_control(struct x86_cpu *c, uint32_t v)
{
    c->fpcw = (v & 0x1f3f) | 0x40;
    update_summary(c);
}

static void init(struct x86_cpu *c)
{
    c->fpcw = 0x37f;
    c->fpsw = 0;
    c->fptop = 0;
    c->fptag = 0xff;
    c->fpop = c->fpcs = c->fpds = 0;
    c->fpip = c->fpdp = 0;
}

static void fpu_op(struct x86_cpu *c, uint32_t op)
{
    switch (op) {
    case FO_INIT: init(c); break;
    case FO_CLEX: c->fpsw &= ~(0xff | SW_B); break;
    case FO_INCSTP: c->fptop = (c->fptop + 1) & 7; c->fpsw &= ~SW_C1; break;
    default: c->fptop = (c->fptop - 1) & 7; c->fpsw &= ~SW_C1;
    }
}

/* The tag word of the image: two bits a register, made from the contents (8.1.7). */
static unsigned tag_word(const struct x86_cpu *c)
{
    unsigned tags = 0;

    for (unsigned n = 0; n < 8; n++) {
        float80 a = c->fpregs[n].v;
        unsigned exponent = a.se & 0x7fff, tag;

        if (c->fptag >> n & 1)
            tag = 3;
        else if (!exponent && !a.frac)
            tag = 1;
        else
            tag = !exponent || exponent == 0x7fff || !(a.frac >> 63) ? 2 : 0;
        tags |= tag << 2 * n;
    }
    return tags;
}

/* Figures 8-9 to 8-12 of vol. 1: 14 or 28 bytes; real mode folds selectors into linear addresses. */
static unsigned put_env(struct x86_cpu *c, uint8_t *p, bool wide)
{
    uint32_t w[7] = { c->fpcw, status_word(c), tag_word(c) };
    uint32_t ip = c->fpip, dp = c->fpdp;
    bool real = !x86_protected(c);

    if (wide) {
        for (unsigned i = 0; i < 3; i++)
            w[i] |= 0xffff0000;
        w[3] = real ? 0xffff0000 | (ip & 0xffff) : ip;
        w[4] = real ? (ip >> 16 & 0xffff) << 12 | (c->fpop & 0x7ff) : (uint32_t)c->fpcs | (uint32_t)(c->fpop & 0x7ff) << 16;
        w[5] = real ? 0xffff0000 | (dp & 0xffff) : dp;
        w[6] = real ? (dp >> 16 & 0xffff) << 12 : 0xffff0000 | c->fpds;
        memcpy(p, w, 28);
        return 28;
    }
    w[3] = ip;
    w[4] = real ? (ip >> 16 & 15) << 12 | (c->fpop & 0x7ff) : c->fpcs;
    w[5] = dp;
    w[6] = real ? (dp >> 16 & 15) << 12 : c->fpds;
    for (unsigned i = 0; i < 7; i++) {
        p[2 * i] = w[i];
        p[2 * i + 1] = w[i] >> 8;
    }
    return 14;
}

static void get_env(struct x86_cpu *c, const uint8_t *p, bool wide)
{
    uint32_t w[7];
    unsigned tags;

    for (unsigned i = 0; i < 7; i++)
        w[i] = wide ? p[4 * i] | p[4 * i + 1] << 8 | p[4 * i + 2] << 16 | (uint32_t)p[4 * i + 3] << 24 : p[2 * i] | (uint32_t)p[2 * i + 1] << 8;
    c->fpcw = (w[0] & 0x1f3f) | 0x40;
    c->fpsw = w[1] & ~0x3800u & 0xffff;
    c->fptop = w[1] >> 11 & 7;
    tags = w[2];
    c->fptag = 0;
    for (unsigned n = 0; n < 8; n++)
        if ((tags >> 2 * n & 3) == 3)
            c->fptag |= 1u << n;
    c->fpip = w[3];
    c->fpdp = w[5];
    if (x86_protected(c)) {
        c->fpcs = w[4];
        c->fpds = w[6];
        if (wide)
            c->fpop = w[4] >> 16 & 0x7ff;
    } else {
        c->fpop = w[4] & 0x7ff;
    }
    update_summary(c);
}

static void put_registers(struct x86_cpu *c, uint8_t *p)
{
    for (unsigned i = 0; i < 8; i++, p += 10) {
        memcpy(p, &st(c, i)->frac, 8);
        memcpy(p + 8, &st(c, i)->se, 2);
    }
}

static void get_registers(struct x86_cpu *c, const uint8_t *p)
{
    for (unsigned i = 0; i < 8; i++, p += 10) {
        memcpy(&st(c, i)->frac, p, 8);
        memcpy(&st(c, i)->se, p + 8, 2);
    }
}

void x86_fpu_put(struct x86_cpu *c, uint8_t image[X87_IMAGE]) { put_registers(c, image + put_env(c, image, true)); }

void x86_fpu_get(struct x86_cpu *c, const uint8_t image[X87_IMAGE])
{
    get_env(c, image, true);
    get_registers(c, image + X87_IMAGE - 80);
}

void helper_fpu_env(struct cpu *cpu, uint32_t what, uint64_t va)
{
    struct x86_cpu *c = x86(cpu);
    bool wide = what >> 4 != 2;
    unsigned mmu = x86_mmu_index(cpu, false), len = wide ? 28 : 14, whole = what & 2 ? len + 80 : len;
    uint8_t image[X87_IMAGE];

    helper_fpu_home(cpu);
    switch (what & 15) {
    case FE_LDENV: case FE_RSTOR:
        cpu_load_bytes(cpu, va, image, whole, mmu);
        get_env(c, image, wide);
        if (what & 2)
            get_registers(c, image + len);
        return;
    default:
        put_env(c, image, wide);
        if (what & 2)
            put_registers(c, image + len);
        cpu_store_bytes(cpu, va, image, whole, mmu);
        if ((what & 15) == FE_SAVE) {
            init(c);
        } else {
            c->fpcw |= 0x3f;            /* FNSTENV masks all */
            update_summary(c);
        }
    }
}

/* ---- the host's registers */
_Static_assert((int)X87_IMAGE == (int)HOST_FPU_IMAGE, "the same instruction's");

void x86_fpu_to_host(struct cpu *cpu)
{
    struct x86_cpu *c = x86(cpu);
    uint8_t image[X87_IMAGE];

    if (cpu->fpu_on_host || !cpu->host_fpu || (c->fpcw & 0x3f) != 0x3f || c->fpsw & SW_ES)
        return;
    x86_fpu_put(c, image);
    cpu->host_fpu->load(image);
    cpu->fpu_on_host = FPU_ON_HOST;
}

/* All but what the last instruction was, which is the host's own there. */
void helper_fpu_home(struct cpu *cpu)
{
    struct x86_cpu *c = x86(cpu);
    const uint64_t ip = c->fpip, dp = c->fpdp;
    const uint16_t op = c->fpop, cs = c->fpcs, ds = c->fpds;
    uint8_t image[X87_IMAGE];

    if (!cpu->fpu_on_host)
        return;
    cpu->host_fpu->save(image);
    cpu->fpu_on_host = 0;
    x86_fpu_get(c, image);
    c->fpip = ip;
    c->fpdp = dp;
    c->fpop = op;
    c->fpcs = cs;
    c->fpds = ds;
}

/* An x87 instruction. value: FCMOV's condition, FLDCW's operand; va: of the operand in memory. */
uint32_t helper_fpu_insn(struct cpu *cpu, uint32_t what, uint32_t value, uint64_t va)
{
    struct x86_cpu *c = x86(cpu);
    unsigned n = what >> 8 & 0xff, arg = what >> 16;
    uint32_t result = 0;

    helper_fpu_home(cpu);
    if (c->fpsw & SW_ES && !(what & FN_NO_WAIT))
        helper_fpu_pending(cpu);
    switch ((enum fpu_function)(what & 0x7f)) {
    case FN_ARITH: fpu_arith(c, n, arg); break;
    case FN_ARITH_MEMORY: fpu_arith_memory(c, n, arg, va); break;
    case FN_COMPARE: result = fpu_compare(c, n, arg); break;
    case FN_LOAD: fpu_load(c, n, va); break;
    case FN_STORE: fpu_store(c, n, arg, va); break;
    case FN_MOVE: fpu_move(c, n, arg); break;
    case FN_CMOV: fpu_move(c, value ? FM_CMOV : FM_CMOV_NOT, arg); break;
    case FN_CONST: fpu_const(c, n); break;
    case FN_UNARY: fpu_unary(c, n); break;
    case FN_OP: fpu_op(c, n); break;
    case FN_STATUS: result = status_word(c); break;
    case FN_CONTROL: fpu_control(c, value); break;
    }
    x86_fpu_to_host(cpu);
    return result;
}

/* ---- emission */
static unsigned format_of(const struct x86_insn *i)
{
    bool integer = (i->opcode & 0xf9) == 0xd9 ? i->opcode != 0xd9 && i->opcode != 0xdd : i->opcode == 0xda || i->opcode == 0xde;

    switch (i->op[0].size) {
    case 2: return FF_I16;
    case 4: return integer ? FF_I32 : FF_F32;
    case 8: return i->opcode == 0xdf || (i->opcode == 0xdd && (i->modrm >> 3 & 7) == 1) ? FF_I64 : FF_F64;
    default: return i->opcode == 0xdf ? FF_BCD : FF_F80;
    }
}

/* The no-wait forms look at CR0 alone, not at pending exceptions. What follows may leave one pending. */
static bool available(struct x86_t *t)
{
    if (t->mode & (MODE_EM | MODE_TS)) {
        x86_exception(t, X_NM);
        return false;
    }
    t->fp_checked = false;
    return true;
}

/* #NM; then what FSTENV shows of the instruction. What is called looks for a pending #MF. false: nothing more to emit. */
static bool begin(struct x86_t *t, const struct x86_insn *i)
{
    ir_val pc;

    if (!available(t))
        return false;
    pc = ir_pc(t->ir, i->pc);
    if (t->cs_base)
        pc = ir_bin_imm(t->ir, IR_SUB, pc, t->cs_base);
    ir_state_store(t->ir, offsetof(struct x86_cpu, fpip), 3, pc);
    ir_state_store(t->ir, offsetof(struct x86_cpu, fpop), 1, ir_const(t->ir, T_I32, (i->opcode & 7u) << 8 | i->modrm));
    return true;
}

static ir_val k(struct x86_t *t, uint32_t v) { return ir_const(t->ir, T_I32, v); }
static unsigned st_index(const struct x86_insn *i) { return i->modrm & 7; }

/* As a call, or as the host's instruction, which has the guest's encoding. value, va: see helper_fpu_insn(), or 0; m: of the
 * access at va. */
static ir_val fpu_insn(struct x86_t *t, const struct x86_insn *i, enum ir_host_insn kind, uint32_t what, ir_val value,
                       ir_val va, memop m)
{
    if (t->ir->host_x87 && !(t->mode & MODE_AC))
        return ir_call_host(t->ir, HELP_fpu_insn, what, value, m, va, host_insn(kind, i->opcode, i->modrm));
    return x86_call(t, HELP_fpu_insn, k(t, what), value ? value : k(t, 0), va ? va : ir_const(t->ir, T_I64, 0), 0);
}

static void on_registers(struct x86_t *t, const struct x86_insn *i, uint32_t what)
{
    if (begin(t, i))
        fpu_insn(t, i, HOST_X87, what, 0, 0, 0);
}

static void on_memory(struct x86_t *t, const struct x86_insn *i, uint32_t what, bool write)
{
    ir_val va;

    if (!begin(t, i))
        return;
    va = x86_linear(t, i, i->op[0].size, write);
    ir_state_store(t->ir, offsetof(struct x86_cpu, fpdp), 3, va);
    fpu_insn(t, i, HOST_X87_MEMORY, what, 0, va, x86_memop(t, MIN(i->op[0].size, 8)) | (write ? MEM_RW : 0));
}

EMIT(fpu_arith_mem) { on_memory(t, i, fpu_what(FN_ARITH_MEMORY, x86_arg(i), format_of(i)), false); }
EMIT(fpu_arith_int) { on_memory(t, i, fpu_what(FN_ARITH_MEMORY, x86_arg(i), i->op[0].size == 2 ? FF_I16 : FF_I32), false); }
EMIT(fpu_arith) { on_registers(t, i, fpu_what(FN_ARITH, x86_arg(i), st_index(i))); }
EMIT(fpu_arith_to)
{
    on_registers(t, i, fpu_what(FN_ARITH, x86_arg(i) & 7, st_index(i) | FA_TO | (x86_arg(i) & 8 ? FA_POP : 0)));
}
static unsigned float_format(const struct x86_insn *i) { return i->op[0].size == 4 ? FF_F32 : i->op[0].size == 8 ? FF_F64 : FF_F80; }
static unsigned int_format(const struct x86_insn *i) { return i->op[0].size == 2 ? FF_I16 : i->op[0].size == 4 ? FF_I32 : FF_I64; }
static void load(struct x86_t *t, const struct x86_insn *i, unsigned format) { on_memory(t, i, fpu_what(FN_LOAD, format, 0), false); }
static void store(struct x86_t *t, const struct x86_insn *i, unsigned format, unsigned how)
{
    on_memory(t, i, fpu_what(FN_STORE, format, how), true);
}
EMIT(fld) { load(t, i, float_format(i)); }
EMIT(fild) { load(t, i, int_format(i)); }
EMIT(fbld) { load(t, i, FF_BCD); }
EMIT(fst) { store(t, i, float_format(i), x86_arg(i) ? FS_POP : 0); }
EMIT(fist) { store(t, i, int_format(i), x86_arg(i) ? FS_POP : 0); }
EMIT(fisttp) { store(t, i, int_format(i), FS_POP | FS_TRUNCATE); }
EMIT(fbstp) { store(t, i, FF_BCD, FS_POP); }

static void move(struct x86_t *t, const struct x86_insn *i, unsigned how) { on_registers(t, i, fpu_what(FN_MOVE, how, st_index(i))); }
EMIT(fld_st) { move(t, i, FM_LOAD); }
EMIT(fxch) { move(t, i, FM_EXCHANGE); }
EMIT(fst_st) { move(t, i, x86_arg(i) ? FM_STORE_POP : FM_STORE); }
EMIT(fstpnce) { move(t, i, FM_STORE_UNCHECKED); }
EMIT(ffree) { move(t, i, x86_arg(i) ? FM_FREE_POP : FM_FREE); }
EMIT(fcmov)
{
    static const uint8_t condition[] = { 2, 4, 6, 10 };         /* B, E, BE, U (= P) */
    unsigned cc = condition[x86_arg(i) & 3] | (x86_arg(i) & 4 ? 1 : 0);
    struct x86_insn by_zf = *i;

    by_zf.opcode = 0xdb;                /* FCMOVNE */
    by_zf.modrm = 0xc8 | st_index(i);
    if (begin(t, i))
        fpu_insn(t, &by_zf, HOST_X87_MOVE_IF, fpu_what(FN_CMOV, 0, st_index(i)), x86_condition(t, cc), 0, 0);
}
EMIT(fld_const) { on_registers(t, i, fpu_what(FN_CONST, x86_arg(i), 0)); }
#define UNARY(name, op) EMIT(name) { on_registers(t, i, fpu_what(FN_UNARY, op, 0)); }
UNARY(fchs, FU_CHS)
UNARY(fabs, FU_ABS)
UNARY(ftst, FU_TST)
UNARY(fxam, FU_XAM)
UNARY(f2xm1, FU_2XM1)
UNARY(fyl2x, FU_YL2X)
UNARY(fptan, FU_PTAN)
UNARY(fpatan, FU_PATAN)
UNARY(fxtract, FU_XTRACT)
UNARY(fprem1, FU_PREM1)
UNARY(fprem, FU_PREM)
UNARY(fyl2xp1, FU_YL2XP1)
UNARY(fsqrt, FU_SQRT)
UNARY(fsincos, FU_SINCOS)
UNARY(frndint, FU_RNDINT)
UNARY(fscale, FU_SCALE)
UNARY(fsin, FU_SIN)
UNARY(fcos, FU_COS)

EMIT(fucom) { on_registers(t, i, fpu_what(FN_COMPARE, st_index(i), FC_UNORDERED | (x86_arg(i) ? FC_POP : 0))); }
EMIT(fucompp) { on_registers(t, i, fpu_what(FN_COMPARE, 1, FC_UNORDERED | FC_POP2)); }
EMIT(fcompp) { on_registers(t, i, fpu_what(FN_COMPARE, 1, FC_POP2)); }
EMIT(fcomi)
{
    unsigned how = FC_EFLAGS | (x86_arg(i) & 1 ? FC_UNORDERED : 0) | (x86_arg(i) & 2 ? FC_POP : 0);

    if (begin(t, i))
        x86_set_flags(t, fpu_insn(t, i, HOST_X87_COMPARE, fpu_what(FN_COMPARE, st_index(i), how), 0, 0, 0));
}

EMIT(fnop) { x86_check_fpu(t, false); }
EMIT(fnop_no_wait) { available(t); }
EMIT(fwait)
{
    if ((t->mode & (MODE_MP | MODE_TS)) == (MODE_MP | MODE_TS)) {
        x86_exception(t, X_NM);
        return;
    }
    /* CR0.EM does not matter to WAIT. */
    if (!(t->mode & (MODE_EM | MODE_TS)))
        x86_check_fpu(t, false);
}

static void no_wait(struct x86_t *t, const struct x86_insn *i, unsigned op)
{
    if (available(t))
        x86_call(t, HELP_fpu_insn, k(t, fpu_what(FN_OP, op, 0) | FN_NO_WAIT), k(t, 0), ir_const(t->ir, T_I64, 0), 0);
}
EMIT(fninit) { no_wait(t, i, FO_INIT); }
EMIT(fnclex)
{
    if (available(t))
        fpu_insn(t, i, HOST_X87, fpu_what(FN_OP, FO_CLEX, 0) | FN_NO_WAIT, 0, 0, 0);
}
EMIT(fincstp) { on_registers(t, i, fpu_what(FN_OP, FO_INCSTP, 0)); }
EMIT(fdecstp) { on_registers(t, i, fpu_what(FN_OP, FO_DECSTP, 0)); }
EMIT(fldcw)
{
    if (available(t))
        fpu_insn(t, i, HOST_X87_CONTROL, fpu_what(FN_CONTROL, 0, 0), x86_read(t, 0), 0, 0);
}
EMIT(fnstcw)
{
    if (available(t))
        x86_write(t, 0, ir_state_load(t->ir, T_I32, offsetof(struct x86_cpu, fpcw), 1));
}
EMIT(fnstsw)
{
    if (available(t))
        x86_write(t, 0, fpu_insn(t, i, HOST_X87_STATUS, fpu_what(FN_STATUS, 0, 0) | FN_NO_WAIT, 0, 0, 0));
}
static void emit_env(struct x86_t *t, const struct x86_insn *i, unsigned what)
{
    unsigned bytes = (i->opsize == 2 ? 14 : 28) + (what & 2 ? 80 : 0);

    x86_call(t, HELP_fpu_env, k(t, what | i->opsize << 4), x86_linear(t, i, bytes, what & 1), 0, 0);
}
static bool waits(struct x86_t *t)
{
    bool goes_on = x86_check_fpu(t, false);

    t->fp_checked = false;
    return goes_on;
}
EMIT(fldenv)
{
    if (waits(t))
        emit_env(t, i, FE_LDENV);
}
EMIT(fnstenv)
{
    if (available(t))
        emit_env(t, i, FE_STENV);
}
EMIT(frstor)
{
    if (waits(t))
        emit_env(t, i, FE_RSTOR);
}
EMIT(fnsave)
{
    if (available(t))
        emit_env(t, i, FE_SAVE);
}
