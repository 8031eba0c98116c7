/* String instructions. Without a prefix they are a few ops; with REP a helper runs them, a page at a time where the
 * memory is plain RAM, and comes back at page ends to look for interrupts: registers are exact whenever it does.
 * SDM vol. 2, REP/REPE/REPZ/REPNE/REPNZ. */
#include <string.h>
#include <glib.h>
#include "x86.h"

enum { STR_SIZE = 3, STR_ADSIZE = 3 << 2, STR_SEG_SHIFT = 4, STR_REPNE = 1 << 7, STR_MMU_SHIFT = 8, STR_ONE = 1 << 12,
       STR_CODE64 = 1 << 13, STR_LIMITS = 1 << 14 };

static ir_val imm32(struct x86_t *t, uint32_t v) { return ir_const(t->ir, T_I32, v); }

/* ---- inline forms */

static ir_val index_value(struct x86_t *t, unsigned reg)
{
    ir_val v = ir_get(t->ir, SLOT_REG + reg);

    return t->i->adsize == 8 ? v : x86_widen(t, x86_narrow(t, v, t->i->adsize));
}

static ir_val source_address(struct x86_t *t, unsigned bytes)
{
    unsigned seg = t->i->seg >= 0 ? (unsigned)t->i->seg : S_DS;

    return x86_segment_linear(t, seg, index_value(t, R_RSI), bytes, false);
}

static ir_val destination_address(struct x86_t *t, unsigned bytes, bool write)
{
    return x86_segment_linear(t, S_ES, index_value(t, R_RDI), bytes, write);
}

static void advance(struct x86_t *t, unsigned reg, unsigned bytes)
{
    ir_val step = ir_bin_imm(t->ir, IR_SHL, ir_un(t->ir, IR_SEXT32, ir_get(t->ir, SLOT_DF)),
                             (unsigned)__builtin_ctz(bytes));

    x86_put_reg(t, reg, t->i->adsize, ir_bin(t->ir, IR_ADD, ir_get(t->ir, SLOT_REG + reg), step));
}

static void compare(struct x86_t *t, unsigned bytes, ir_val a, ir_val b)
{
    x86_set_cc(t, CC_SUB8 + (unsigned)__builtin_ctz(bytes), ir_bin(t->ir, IR_SUB, a, b), b, 0);
    t->cc_a = a;
    t->cc_b = b;
}

/* ---- REP */

enum { FEW = 16 };                      /* elements, which take no longer one by one than the helper to begin */

static void advance_early(struct x86_t *t, unsigned reg, ir_val step)
{
    ir_val v = ir_bin(t->ir, IR_ADD, ir_get(t->ir, SLOT_REG + reg), step);

    ir_put_early(t->ir, SLOT_REG + reg, t->i->adsize == 8 ? v : x86_widen(t, x86_narrow(t, v, 4)));
}

/* REP MOVS and STOS of few elements: a loop that goes to `done`. Falls through with more of them. */
static void repeat_few(struct x86_t *t, const struct x86_insn *i, unsigned bytes, ir_label done)
{
    bool moves = i->opcode < 0xaa;
    ir_label again = ir_label_new(t->ir), many = ir_label_new(t->ir);
    ir_val v, step;

    x86_brcond(t, C_GTU, index_value(t, R_RCX), ir_const(t->ir, T_I64, FEW), many);
    x86_brcond(t, C_EQ, index_value(t, R_RCX), ir_const(t->ir, T_I64, 0), done);
    x86_bind(t, again);
    ir_poll(t->ir, i->pc);
    v = moves ? ir_load(t->ir, x86_type(bytes), x86_memop(t, bytes), source_address(t, bytes), 0) : x86_get_reg(t, R_RAX, bytes);
    ir_store(t->ir, x86_memop(t, bytes), destination_address(t, bytes, true), 0, v);
    step = ir_bin_imm(t->ir, IR_SHL, ir_un(t->ir, IR_SEXT32, ir_get(t->ir, SLOT_DF)), (unsigned)__builtin_ctz(bytes));
    if (moves)
        advance_early(t, R_RSI, step);
    advance_early(t, R_RDI, step);
    advance_early(t, R_RCX, ir_const(t->ir, T_I64, UINT64_MAX));
    x86_brcond(t, C_NE, index_value(t, R_RCX), ir_const(t->ir, T_I64, 0), again);
    ir_br(t->ir, done);
    x86_bind(t, many);
}

static void repeat(struct x86_t *t, const struct x86_insn *i, unsigned bytes)
{
    unsigned seg = i->seg >= 0 ? (unsigned)i->seg : S_DS;
    uint32_t info = (uint32_t)__builtin_ctz(bytes) | (uint32_t)__builtin_ctz(i->adsize) << 2 | seg << STR_SEG_SHIFT |
                    (i->repne ? STR_REPNE : 0) | t->mmu << STR_MMU_SHIFT | (t->mode & MODE_SINGLE ? STR_ONE : 0) |
                    (t->code64 ? STR_CODE64 : 0);
    ir_label done = ir_label_new(t->ir);
    ir_val finished;

    if (t->mode & (MODE_LIMITS | x86_limits_bit(seg)))
        info |= STR_LIMITS;
    else if (((i->opcode & 0xfe) == 0xa4 || (i->opcode & 0xfe) == 0xaa) && i->adsize > 2 && !(t->mode & (MODE_SINGLE | MODE_WATCH)))
        repeat_few(t, i, bytes, done);
    finished = x86_call(t, HELP_string, imm32(t, i->opcode & 0xfe), imm32(t, info), 0, 0);
    x86_brcond(t, C_NE, finished, imm32(t, 0), done);
    ir_exit_loop(t->ir, i->pc);
    x86_bind(t, done);
    if (i->opcode >= 0xae || (i->opcode & 0xfe) == 0xa6)
        t->cc_op = -1;
}

EMIT(movs)
{
    unsigned bytes = i->op[0].size;
    ir_val v;

    if (i->rep || i->repne) {
        repeat(t, i, bytes);
        return;
    }
    v = ir_load(t->ir, x86_type(bytes), x86_memop(t, bytes), source_address(t, bytes), 0);
    ir_store(t->ir, x86_memop(t, bytes), destination_address(t, bytes, true), 0, v);
    advance(t, R_RSI, bytes);
    advance(t, R_RDI, bytes);
}

EMIT(stos)
{
    unsigned bytes = i->op[0].size;

    if (i->rep || i->repne) {
        repeat(t, i, bytes);
        return;
    }
    ir_store(t->ir, x86_memop(t, bytes), destination_address(t, bytes, true), 0, x86_get_reg(t, R_RAX, bytes));
    advance(t, R_RDI, bytes);
}

EMIT(lods)
{
    unsigned bytes = i->op[0].size;

    if (i->rep || i->repne) {
        repeat(t, i, bytes);
        return;
    }
    x86_put_reg(t, R_RAX, bytes, ir_load(t->ir, x86_type(bytes), x86_memop(t, bytes), source_address(t, bytes), 0));
    advance(t, R_RSI, bytes);
}

EMIT(scas)
{
    unsigned bytes = i->op[0].size;
    ir_val v;

    if (i->rep || i->repne) {
        repeat(t, i, bytes);
        return;
    }
    v = ir_load(t->ir, x86_type(bytes), x86_memop(t, bytes), destination_address(t, bytes, false), 0);
    compare(t, bytes, x86_get_reg(t, R_RAX, bytes), v);
    advance(t, R_RDI, bytes);
}

EMIT(cmps)
{
    unsigned bytes = i->op[0].size;
    ir_val a, b;

    if (i->rep || i->repne) {
        repeat(t, i, bytes);
        return;
    }
    a = ir_load(t->ir, x86_type(bytes), x86_memop(t, bytes), source_address(t, bytes), 0);
    b = ir_load(t->ir, x86_type(bytes), x86_memop(t, bytes), destination_address(t, bytes, false), 0);
    compare(t, bytes, a, b);
    advance(t, R_RSI, bytes);
    advance(t, R_RDI, bytes);
}

/* Ports: one element at a time, always by the helper. */
static void port_string(struct x86_t *t, const struct x86_insn *i, unsigned bytes)
{
    ir_label done = ir_label_new(t->ir);
    unsigned seg = i->seg >= 0 ? (unsigned)i->seg : S_DS;
    uint32_t info = (uint32_t)__builtin_ctz(bytes) | (uint32_t)__builtin_ctz(i->adsize) << 2 | seg << STR_SEG_SHIFT |
                    t->mmu << STR_MMU_SHIFT | (t->code64 ? STR_CODE64 : 0) | (t->mode & MODE_SINGLE ? STR_ONE : 0) |
                    STR_LIMITS;
    ir_val finished = x86_call(t, HELP_port_string, imm32(t, i->opcode & 0xfe), imm32(t, info),
                               imm32(t, i->rep || i->repne), 0);

    x86_brcond(t, C_NE, finished, imm32(t, 0), done);
    ir_exit_loop(t->ir, i->pc);
    x86_bind(t, done);
}

EMIT(ins) { port_string(t, i, i->op[0].size); }
EMIT(outs) { port_string(t, i, i->op[1].size); }

/* ---- the helper */

struct string {
    struct x86_cpu *c;
    unsigned log2, bytes, mmu, seg;
    uint64_t admask;
    int64_t step;
    bool code64, limits;
};

static struct string string_begin(struct x86_cpu *c, uint32_t info)
{
    unsigned adsize = 1u << (info >> 2 & 3);
    struct string s = { .c = c, .log2 = info & STR_SIZE, .bytes = 1u << (info & STR_SIZE),
                        .mmu = info >> STR_MMU_SHIFT & 15, .seg = info >> STR_SEG_SHIFT & 7,
                        .admask = adsize == 8 ? UINT64_MAX : (UINT64_C(1) << (8 * adsize)) - 1,
                        .code64 = info & STR_CODE64, .limits = info & STR_LIMITS };

    s.step = (int64_t)(int32_t)c->df * (int64_t)s.bytes;
    return s;
}

static uint64_t count_left(const struct string *s) { return s->c->regs[R_RCX] & s->admask; }

/* A 32-bit address size clears the upper half of the register, a 16-bit one keeps the rest. */
static void index_set(const struct string *s, unsigned reg, uint64_t v)
{
    uint64_t *r = &s->c->regs[reg];

    *r = s->admask == 0xffff ? (*r & ~UINT64_C(0xffff)) | (v & 0xffff) : v & s->admask;
}

static void index_add(const struct string *s, unsigned reg, int64_t delta)
{
    index_set(s, reg, s->c->regs[reg] + (uint64_t)delta);
}

static uint64_t segment_linear(const struct string *s, unsigned seg, unsigned reg, bool write)
{
    uint64_t off = s->c->regs[reg] & s->admask;

    if (s->code64)
        return seg == S_FS || seg == S_GS ? off + s->c->seg[seg].base : off;
    if (s->limits)
        helper_check_segment(&s->c->cpu, seg | (uint32_t)write << 3 | s->bytes << 4, off);
    return (uint32_t)(off + s->c->seg[seg].base);
}

static uint64_t linear(const struct string *s, unsigned seg, unsigned reg, bool write)
{
    uint64_t va = segment_linear(s, seg, reg, write);

    if (s->c->cpu.mode & MODE_WATCH)
        x86_watch(s->c, va, s->bytes, write);
    return va;
}

/* Elements from va to the end of the page that the direction leads to, no more than wanted; 0: the first straddles pages. */
static uint64_t elements_in_page(const struct string *s, uint64_t va, uint64_t wanted)
{
    uint64_t at = va & (CPU_PAGE_SIZE - 1), to_end = (CPU_PAGE_SIZE - at) >> s->log2;

    return MIN(s->step < 0 && to_end ? (at >> s->log2) + 1 : to_end, wanted);
}

static bool wraps(const struct string *s, unsigned reg, uint64_t n)
{
    uint64_t index = s->c->regs[reg] & s->admask;

    return s->step < 0 ? index < (n - 1) << s->log2 : index + (n << s->log2) > s->admask;
}

/* Whether n elements may be done at once: no limit, watchpoint or wrap-around to be seen in between. */
static bool at_once(const struct string *s, uint64_t n) { return n >= 2 && !s->limits && !(s->c->cpu.mode & MODE_WATCH); }

/* n elements from the one at va on, in the direction of the instruction. */
static uint8_t *span(const struct string *s, uint64_t va, uint64_t n, bool write)
{
    return cpu_span(&s->c->cpu, s->step < 0 ? va - ((n - 1) << s->log2) : va, (unsigned)(n << s->log2), write, s->mmu);
}

/* An overlap that repeats a pattern: element by element, in the direction of the instruction. */
static void move_pattern(const struct string *s, uint8_t *dst, const uint8_t *src, uint64_t n)
{
    for (uint64_t k = 0; k < n; k++) {
        uint64_t at = (s->step < 0 ? n - 1 - k : k) << s->log2;

        memmove(dst + at, src + at, s->bytes);
    }
}

/* Moves as many whole elements as lie in one page on both sides; 0: not possible, do one the long way. */
static uint64_t movs_page(const struct string *s, uint64_t from, uint64_t to)
{
    uint64_t n = elements_in_page(s, to, elements_in_page(s, from, count_left(s))), size = n << s->log2;
    uint8_t *src, *dst;

    if (!at_once(s, n) || wraps(s, R_RSI, n) || wraps(s, R_RDI, n))
        return 0;
    src = span(s, from, n, false);
    dst = span(s, to, n, true);
    if (!src || !dst) {
        cpu_span_end(&s->c->cpu);
        return 0;
    }
    if (s->step < 0 ? dst < src && src < dst + size : dst > src && dst < src + size)
        move_pattern(s, dst, src, n);
    else
        memmove(dst, src, size);
    cpu_span_end(&s->c->cpu);
    return n;
}

static void done(const struct string *s, uint64_t n, bool si, bool di)
{
    if (si)
        index_add(s, R_RSI, (int64_t)n * s->step);
    if (di)
        index_add(s, R_RDI, (int64_t)n * s->step);
    index_set(s, R_RCX, s->c->regs[R_RCX] - n);
}

static memop memop_of(const struct string *s) { return s->log2 | s->mmu << MEM_MMU_SHIFT; }

static void movs_step(const struct string *s)
{
    uint64_t from = linear(s, s->seg, R_RSI, false), to = linear(s, S_ES, R_RDI, true);
    uint64_t n = movs_page(s, from, to);

    if (!n) {
        cpu_store(&s->c->cpu, to, memop_of(s), cpu_load(&s->c->cpu, from, memop_of(s)));
        n = 1;
    }
    done(s, n, true, true);
}

static void fill(uint8_t *dst, uint64_t v, unsigned bytes, uint64_t n)
{
    switch (bytes) {
    case 1:
        memset(dst, (int)(v & 0xff), n);
        return;
    case 2:
        for (uint64_t k = 0; k < n; k++)
            memcpy(dst + 2 * k, &v, 2);
        return;
    case 4:
        for (uint64_t k = 0; k < n; k++)
            memcpy(dst + 4 * k, &v, 4);
        return;
    default:
        for (uint64_t k = 0; k < n; k++)
            memcpy(dst + 8 * k, &v, 8);
    }
}

static void stos_step(const struct string *s)
{
    uint64_t to = linear(s, S_ES, R_RDI, true), n = elements_in_page(s, to, count_left(s));
    uint8_t *dst = at_once(s, n) && !wraps(s, R_RDI, n) ? span(s, to, n, true) : NULL;

    if (dst) {
        fill(dst, s->c->regs[R_RAX], s->bytes, n);
        cpu_span_end(&s->c->cpu);
    } else {
        cpu_store(&s->c->cpu, to, memop_of(s), s->c->regs[R_RAX]);
        n = 1;
    }
    done(s, n, false, true);
}

static void lods_step(const struct string *s)
{
    uint64_t v = cpu_load(&s->c->cpu, linear(s, s->seg, R_RSI, false), memop_of(s));
    uint64_t mask = s->bytes == 8 ? UINT64_MAX : (UINT64_C(1) << (8 * s->bytes)) - 1;
    uint64_t *rax = &s->c->regs[R_RAX];

    *rax = s->bytes == 4 ? v : (*rax & ~mask) | v;
    done(s, 1, true, false);
}

static uint64_t element_at(const struct string *s, const uint8_t *p)
{
    uint64_t v = 0;

    switch (s->bytes) {
    case 1: return *p;
    case 2: memcpy(&v, p, 2); return v;
    case 4: memcpy(&v, p, 4); return v;
    default: memcpy(&v, p, 8); return v;
    }
}

/* Compares elements of one page until the condition ends it; how many, the last ones in *a and *b. 0: not possible. */
static uint64_t compare_page(const struct string *s, bool scas, bool repne, uint64_t from, uint64_t to, uint64_t *a, uint64_t *b)
{
    uint64_t n = elements_in_page(s, to, count_left(s)), k = 0;
    const uint8_t *p = NULL, *q;

    if (!scas)
        n = elements_in_page(s, from, n);
    if (s->step < 0 || !at_once(s, n) || wraps(s, R_RDI, n) || (!scas && wraps(s, R_RSI, n)))
        return 0;
    if (!scas)
        p = span(s, from, n, false);
    q = span(s, to, n, false);
    if (q && (p || scas)) {
        do {
            if (p)
                *a = element_at(s, p + (k << s->log2));
            *b = element_at(s, q + (k << s->log2));
        } while (++k < n && (*a == *b) != repne);
    }
    cpu_span_end(&s->c->cpu);
    return k;
}

/* CMPS, SCAS: true when the loop ends by its condition. */
static bool compare_step(const struct string *s, bool scas, bool repne)
{
    uint64_t mask = s->bytes == 8 ? UINT64_MAX : (UINT64_C(1) << (8 * s->bytes)) - 1, a = s->c->regs[R_RAX] & mask, b;
    uint64_t from = scas ? 0 : linear(s, s->seg, R_RSI, false), to = linear(s, S_ES, R_RDI, false);
    uint64_t n = compare_page(s, scas, repne, from, to, &a, &b);

    if (!n) {
        if (!scas)
            a = cpu_load(&s->c->cpu, from, memop_of(s));
        b = cpu_load(&s->c->cpu, to, memop_of(s));
        n = 1;
    }
    done(s, n, !scas, true);
    s->c->cc_op = CC_SUB8 + s->log2;
    s->c->cc_src = b;
    s->c->cc_dst = a - b;
    return (a == b) == repne;
}

static bool interrupted(const struct x86_cpu *c)
{
    return atomic_load_explicit(&c->cpu.exit_request, memory_order_relaxed) != 0;
}

/* 1: done. 0: come again, the registers say where. */
uint32_t helper_string(struct cpu *cpu, uint32_t opcode, uint32_t info)
{
    struct string s = string_begin(x86(cpu), info);

    for (unsigned steps = 0; count_left(&s); steps++) {
        if (steps && ((info & STR_ONE) || ((steps & 63) == 0 && interrupted(s.c))))
            return 0;
        switch (opcode) {
        case 0xa4: movs_step(&s); break;
        case 0xaa: stos_step(&s); break;
        case 0xac: lods_step(&s); break;
        default:
            if (compare_step(&s, opcode == 0xae, info & STR_REPNE))
                return 1;
        }
    }
    return 1;
}

uint32_t helper_port_string(struct cpu *cpu, uint32_t opcode, uint32_t info, uint32_t rep)
{
    struct x86_cpu *c = x86(cpu);
    struct string s = string_begin(c, info);
    uint16_t port = (uint16_t)c->regs[R_RDX];
    bool in = opcode == 0x6c;

    for (unsigned steps = 0; !rep || count_left(&s); steps++) {
        if (steps && ((info & STR_ONE) || interrupted(c)))
            return 0;
        x86_io_check(c, port, s.bytes);
        if (in) {
            uint64_t to = linear(&s, S_ES, R_RDI, true);

            cpu_probe(cpu, to, s.bytes, true, s.mmu);   /* a port read cannot be taken back */
            cpu_store(cpu, to, memop_of(&s), x86_io_read(c, port, s.bytes));
            index_add(&s, R_RDI, s.step);
        } else {
            x86_io_write(c, port, s.bytes, cpu_load(cpu, linear(&s, s.seg, R_RSI, false), memop_of(&s)));
            index_add(&s, R_RSI, s.step);
        }
        if (!rep)
            return 1;
        index_set(&s, R_RCX, c->regs[R_RCX] - 1);
    }
    return 1;
}
