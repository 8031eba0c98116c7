/* See ir-random.h. */
#include <glib.h>
#include <stddef.h>
#include <string.h>
#include "ir-random.h"
#include "rhea/ir/vop.h"

static uint64_t random_next(uint64_t *state)            /* splitmix64 */
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* ---- the guest */

#define SLOT(text, field, t) { .name = text, .offset = offsetof(struct toy_cpu, field), .type = t, .weight = 1 }
#define PART(text, field, bytes) { .name = text, .offset = offsetof(struct toy_cpu, field), .type = T_V128, .weight = 1, .part = bytes }
static const struct ir_slot toy_slots[TOY_SLOTS] = {
    SLOT("r0", r[0], T_I64), SLOT("r1", r[1], T_I64), SLOT("r2", r[2], T_I64), SLOT("r3", r[3], T_I64),
    SLOT("r4", r[4], T_I64), SLOT("r5", r[5], T_I64), SLOT("r6", r[6], T_I64), SLOT("r7", r[7], T_I64),
    SLOT("r8", r[8], T_I64), SLOT("r9", r[9], T_I64),
    SLOT("w0", w[0], T_I32), SLOT("w1", w[1], T_I32), SLOT("w2", w[2], T_I32), SLOT("w3", w[3], T_I32),
    SLOT("v0", v[0], T_V128), SLOT("v1", v[1], T_V128), SLOT("v2", v[2], T_V128), SLOT("v3", v[3], T_V128),
    SLOT("y0", y[0], T_V256), SLOT("y1", y[1], T_V256), SLOT("y2", y[2], T_V256),
    PART("p0", p[0], 8), PART("p1", p[1], 8), PART("p2", p[2], 4), PART("p3", p[3], 4),
    { "scratch", offsetof(struct toy_cpu, scratch), T_V128, .scratch = true },
};
#undef SLOT
#undef PART

static struct toy_cpu *toy(struct cpu *cpu) { return (struct toy_cpu *)cpu; }

static uint64_t mix(uint64_t a, uint64_t b) { return (a ^ b) * UINT64_C(0x9e3779b97f4a7c15) ^ a >> 29; }

static uint64_t helper_pure(struct cpu *cpu, uint64_t a, uint32_t b)
{
    return mix(a, b);
}

static uint32_t helper_reads(struct cpu *cpu, uint32_t a)
{
    uint64_t h = a;

    for (unsigned i = 0; i < TOY_SLOT_SCRATCH; i++)
        for (const uint8_t *p = (const uint8_t *)cpu + toy_slots[i].offset, *end = p + 4; p < end; p++)
            h = mix(h, *p);
    return (uint32_t)h;
}

static void helper_writes(struct cpu *cpu, uint64_t a)
{
    struct toy_cpu *c = toy(cpu);

    c->calls++;
    c->r[a % TOY_R] ^= a;
    c->w[a % TOY_W] += 3;
    c->v[a % TOY_V][a % 16] ^= 0x5a;
    c->y[a % TOY_Y][a % 32] ^= 0xa5;
    c->p[a % TOY_P][a % 8] ^= 0x3c;
}

static uint64_t helper_raises(struct cpu *cpu, uint64_t a)
{
    toy(cpu)->calls++;
    if (a % 8 == 0) {
        cpu->exception = 99;
        cpu_loop_exit(cpu);
    }
    return a + 1;
}

static void helper_vec(struct cpu *cpu, uint8_t *result, const uint8_t *a, uint64_t b)
{
    for (unsigned i = 0; i < 16; i++)
        result[i] = (uint8_t)(a[15 - i] + (b >> i));
}

static void helper_vec256(struct cpu *cpu, uint8_t *result, const uint8_t *a, const uint8_t *b)
{
    for (unsigned i = 0; i < 32; i++)
        result[i] = (uint8_t)(a[31 - i] - b[i]);
}

static void helper_count(struct cpu *cpu, uint64_t a, uint64_t b, uint64_t d, uint64_t e)
{
    toy(cpu)->calls += mix(a + b, d) ^ e;
}

#define HELPER(fn_, flags_, ret_, n, ...) \
    &(const struct ir_helper){ .name = #fn_, .fn = (void *)fn_, .flags = flags_, .ret = ret_, .nargs = n, .args = { __VA_ARGS__ } }
static const struct ir_helper *const toy_helpers[TOY_HELPERS] = {
    [TOY_PURE] = HELPER(helper_pure, HELPER_PURE, T_I64, 2, T_I64, T_I32),
    [TOY_READS] = HELPER(helper_reads, HELPER_READS, T_I32, 1, T_I32),
    [TOY_WRITES] = HELPER(helper_writes, HELPER_WRITES, T_VOID, 1, T_I64),
    [TOY_RAISES] = HELPER(helper_raises, HELPER_RAISES, T_I64, 1, T_I64),
    [TOY_VEC] = HELPER(helper_vec, HELPER_PURE, T_V128, 2, T_V128, T_I64),
    [TOY_VEC256] = HELPER(helper_vec256, HELPER_PURE, T_V256, 2, T_V256, T_V256),
    [TOY_COUNT] = HELPER(helper_count, 0, T_VOID, 4, T_I64, T_I64, T_I64, T_I64),
};
#undef HELPER

static bool toy_translate(struct cpu *cpu, uint64_t va, enum mmu_access access, unsigned mmu, bool probe,
                          struct mmu_result *out)
{
    if (!probe) {
        cpu->exception = 14;
        toy(cpu)->fault_va = va;
        toy(cpu)->fault_access = access;
    }
    return false;
}

__attribute__((noreturn)) static void toy_unaligned(struct cpu *cpu, uint64_t va, enum mmu_access access)
{
    cpu->exception = 17;
    toy(cpu)->fault_va = va;
    toy(cpu)->fault_access = access;
    cpu_loop_exit(cpu);
}

static unsigned toy_mmu_index(const struct cpu *cpu, bool code) { return 0; }
static uint64_t toy_mode_bits(const struct cpu *cpu) { return 0; }

const struct guest guest_toy = {
    .name = "toy", .slots = toy_slots, .nslots = TOY_SLOTS, .kept = { TOY_SLOT_R, TOY_SLOT_R + 3, TOY_SLOT_R + 4 }, .nkept = 3, .helpers = toy_helpers, .nhelpers = TOY_HELPERS,
    .cpu_size = sizeof(struct toy_cpu), .page_bits = 12, .translate = toy_translate, .unaligned = toy_unaligned,
    .mmu_index = toy_mmu_index, .mode_bits = toy_mode_bits,
};

static void fill(void *to, size_t n, uint64_t *seed)
{
    for (size_t i = 0; i < n; i += 4) {
        uint32_t v = (uint32_t)(random_next(seed) >> 11);

        memcpy((uint8_t *)to + i, &v, 4);
    }
}

struct toy_cpu *toy_cpu_new(uint64_t seed)
{
    struct toy_cpu *c = g_aligned_alloc0(1, sizeof(*c), 64);
    static const uint64_t corners[] = { 0, 1, UINT64_MAX, INT64_MAX, (uint64_t)INT64_MIN, UINT32_MAX, 0x80000000, 0x7f };

    c->memory = g_aligned_alloc0(TOY_PAGES, CPU_PAGE_SIZE, CPU_PAGE_SIZE);
    fill(c->memory, TOY_PAGES * CPU_PAGE_SIZE, &seed);
    fill(c->r, sizeof(c->r), &seed);
    fill(c->w, sizeof(c->w), &seed);
    fill(c->v, sizeof(c->v), &seed);
    fill(c->y, sizeof(c->y), &seed);
    fill(c->p, sizeof(c->p), &seed);
    fill(c->plain, sizeof(c->plain), &seed);
    for (unsigned i = 0; i < TOY_R; i++)
        if (random_next(&seed) % 3 == 0)
            c->r[i] = corners[random_next(&seed) % G_N_ELEMENTS(corners)];
    c->plain[3] = random_next(&seed) % 6;
    for (unsigned i = 0; i < TOY_TLB; i++) {
        uint64_t va = TOY_BASE + (uint64_t)i * CPU_PAGE_SIZE, none = va | TLB_INVALID;

        c->tlb[i] = (struct tlb_entry){ .read = i < TOY_PAGES - 1 ? va : none, .write = i < TOY_PAGES - 2 ? va : none,
                                        .exec = none, .addend = (uintptr_t)c->memory - TOY_BASE };
    }
    for (unsigned i = 0; i < CPU_MMU_MODES; i++)
        c->cpu.tlb_view[i] = (struct tlb_view){ .mask = (TOY_TLB - 1) << 5, .table = c->tlb };
    c->cpu.guest = &guest_toy;
    c->cpu.exception = -1;
    c->cpu.fp_control = 0x1f80;
    return c;
}

void toy_cpu_free(struct toy_cpu *c)
{
    g_aligned_free(c->memory);
    g_aligned_free(c);
}

/* ---- programs */

enum { POOL = 12 };

struct gen {
    struct ir *ir;
    const struct ir_random *opt;
    uint64_t random;
    ir_val pool[T_COUNT][POOL];         /* recent values of the block */
    unsigned npool[T_COUNT];
    bool faulting_done;                 /* the instruction has PUT slots */
};

static unsigned pick(struct gen *g, unsigned n) { return (unsigned)(random_next(&g->random) >> 17) % n; }
static bool chance(struct gen *g, unsigned percent) { return pick(g, 100) < percent; }

static void pool_clear(struct gen *g) { memset(g->npool, 0, sizeof(g->npool)); }

static ir_val keep(struct gen *g, enum ir_type type, ir_val v)
{
    if (g->npool[type] < POOL)
        g->pool[type][g->npool[type]++] = v;
    else
        g->pool[type][pick(g, POOL)] = v;
    return v;
}

/* The builder's function, or the op as it is. */
static ir_val raw_op(struct gen *g, const struct ir_op *op)
{
    struct ir_op *new = ir_append(g->ir, op->op, op->type);
    ir_val dst = new->dst;

    *new = *op;
    new->dst = dst;
    return dst;
}

static ir_val emit_const(struct gen *g, enum ir_type type, uint64_t imm)
{
    if (type == T_I32)
        imm = (uint32_t)imm;
    return g->opt->raw ? raw_op(g, &(struct ir_op){ .op = IR_CONST, .type = type, .imm = (int64_t)imm })
                       : ir_const(g->ir, type, imm);
}

static ir_val emit_un(struct gen *g, enum ir_opcode op, enum ir_type type, ir_val a)
{
    return g->opt->raw ? raw_op(g, &(struct ir_op){ .op = op, .type = type, .a = a }) : ir_un(g->ir, op, a);
}

static ir_val emit_bin(struct gen *g, enum ir_opcode op, enum ir_type type, ir_val a, ir_val b)
{
    return g->opt->raw ? raw_op(g, &(struct ir_op){ .op = op, .type = type, .a = a, .b = b }) : ir_bin(g->ir, op, a, b);
}

static ir_val emit_field(struct gen *g, enum ir_opcode op, enum ir_type type, ir_val a, ir_val b, unsigned pos,
                         unsigned len)
{
    if (g->opt->raw)
        return raw_op(g, &(struct ir_op){ .op = op, .type = type, .a = a, .b = b, .imm = pos | len << 8 });
    return op == IR_EXTRACT ? ir_extract(g->ir, a, pos, len)
           : op == IR_SEXTRACT ? ir_sextract(g->ir, a, pos, len) : ir_deposit(g->ir, a, b, pos, len);
}

static ir_val random_const(struct gen *g, enum ir_type type)
{
    static const uint64_t corners[] = { 0, 0, 1, 2, 8, 0xff, 0xffff, 0x80, UINT32_MAX, UINT64_MAX, UINT64_MAX,
                                        (uint64_t)INT64_MIN, 0x80000000, 31, 63, 4 };
    uint64_t v = chance(g, 80) ? corners[pick(g, G_N_ELEMENTS(corners))] : random_next(&g->random);

    return emit_const(g, type, v);
}

static unsigned slot_of_type(struct gen *g, enum ir_type type)
{
    switch (type) {
    case T_I64: return TOY_SLOT_R + pick(g, TOY_R);
    case T_I32: return TOY_SLOT_W + pick(g, TOY_W);
    case T_V128: return chance(g, 60) ? TOY_SLOT_V + pick(g, TOY_V) : chance(g, 80) ? TOY_SLOT_P + pick(g, TOY_P) : TOY_SLOT_SCRATCH;
    default: return TOY_SLOT_Y + pick(g, TOY_Y);
    }
}

/* Of a part, what lies above it is anything, and must not be looked at. */
static ir_val get_slot(struct gen *g, unsigned slot)
{
    ir_val v = ir_get(g->ir, slot);

    switch (toy_slots[slot].part) {
    case 8: return ir_vop(g->ir, VOP_MOVQZ, T_V128, v, 0, 0, 0);
    case 4: return ir_vop(g->ir, VOP_INSERTPS, T_V128, v, v, 0, 0x0e);
    default: return v;
    }
}

static ir_val value(struct gen *g, enum ir_type type)
{
    if (g->npool[type] && chance(g, 65))
        return g->pool[type][pick(g, g->npool[type])];
    if (chance(g, type >= T_V128 ? 10 : 30))
        return keep(g, type, random_const(g, type));
    return keep(g, type, get_slot(g, slot_of_type(g, type)));
}

static enum ir_type int_type(struct gen *g) { return chance(g, 60) ? T_I64 : T_I32; }

static enum ir_type any_type(struct gen *g)
{
    if (g->opt->no_vectors || chance(g, 75))
        return int_type(g);
    return chance(g, 60) ? T_V128 : T_V256;
}

static void gen_unary(struct gen *g)
{
    static const uint8_t ops[] = { IR_NEG, IR_NOT, IR_CLZ, IR_CTZ, IR_POPCNT, IR_BSWAP, IR_BSWAP16, IR_SEXT8, IR_SEXT16,
                                   IR_ZEXT8, IR_ZEXT16, IR_SEXT32, IR_ZEXT32, IR_TRUNC, IR_TRUNC, IR_ZEXT32 };
    enum ir_opcode op = ops[pick(g, sizeof(ops))];
    enum ir_type from = op == IR_SEXT32 || op == IR_ZEXT32 ? T_I32 : op == IR_TRUNC ? T_I64 : int_type(g);
    enum ir_type to = op == IR_SEXT32 || op == IR_ZEXT32 ? T_I64 : op == IR_TRUNC ? T_I32 : from;

    keep(g, to, emit_un(g, op, to, value(g, from)));
}

static void gen_binary(struct gen *g)
{
    static const uint8_t ops[] = { IR_ADD, IR_ADD, IR_ADD, IR_SUB, IR_SUB, IR_MUL, IR_AND, IR_AND, IR_OR, IR_XOR, IR_ANDC,
                                   IR_SHL, IR_SHR, IR_SAR, IR_ROTL, IR_ROTR, IR_MULHU, IR_MULHS };
    enum ir_type type = int_type(g);
    ir_val a = value(g, type), b = chance(g, 40) ? random_const(g, type) : value(g, type);

    keep(g, type, emit_bin(g, ops[pick(g, sizeof(ops))], type, a, b));
}

/* Divisors are made odd, and signed ones not -1, as front ends must see to it. */
static void gen_division(struct gen *g)
{
    enum ir_opcode op = IR_DIVU + pick(g, 4);
    enum ir_type type = int_type(g);
    ir_val a = value(g, type), b = value(g, type);

    b = emit_bin(g, IR_OR, type, emit_bin(g, IR_AND, type, b, emit_const(g, type, 0x7ffff)), emit_const(g, type, 1));
    keep(g, type, emit_bin(g, op, type, a, b));
}

static void gen_field(struct gen *g)
{
    enum ir_opcode op = IR_EXTRACT + pick(g, 3);
    enum ir_type type = int_type(g);
    unsigned bits = type == T_I32 ? 32 : 64, pos = chance(g, 40) ? 0 : pick(g, bits);
    unsigned len = chance(g, 30) ? 8u << pick(g, 2) : 1 + pick(g, bits - pos);
    ir_val a = value(g, type), b = op == IR_DEPOSIT ? value(g, type) : 0;

    len = MIN(len, bits - pos);
    keep(g, type, emit_field(g, op, type, a, b, pos, len));
}

static void gen_lea(struct gen *g)
{
    ir_val a = value(g, T_I64), b = chance(g, 80) ? value(g, T_I64) : 0;
    unsigned scale = b ? pick(g, 4) : 0;
    int32_t disp = chance(g, 30) ? 0 : (int32_t)random_next(&g->random) >> pick(g, 28);

    keep(g, T_I64, g->opt->raw ? raw_op(g, &(struct ir_op){ .op = IR_LEA, .type = T_I64, .a = a, .b = b, .esz = scale,
                                                            .imm = disp })
                               : ir_lea(g->ir, a, b, scale, disp));
}

static void gen_setcc(struct gen *g)
{
    enum ir_type type = int_type(g), ctype = int_type(g);
    enum ir_cond cond = pick(g, C_COUNT);
    ir_val a = value(g, ctype), b = chance(g, 50) ? random_const(g, ctype) : value(g, ctype);

    keep(g, type, g->opt->raw ? raw_op(g, &(struct ir_op){ .op = IR_SETCC, .type = type, .ctype = ctype, .cond = cond,
                                                           .a = a, .b = b })
                              : ir_setcc(g->ir, type, cond, a, b));
}

static void gen_select(struct gen *g)
{
    enum ir_type type = int_type(g), ctype = int_type(g);
    enum ir_cond cond = pick(g, C_COUNT);
    ir_val a = value(g, ctype), b = chance(g, 50) ? random_const(g, ctype) : value(g, ctype);
    ir_val c = value(g, type), d = value(g, type);

    keep(g, type, g->opt->raw ? raw_op(g, &(struct ir_op){ .op = IR_SELECT, .type = type, .ctype = ctype, .cond = cond,
                                                           .a = a, .b = b, .c = c, .d = d })
                              : ir_select(g->ir, cond, a, b, c, d));
}

/* ---- memory */

/* The same as the sum of two, of which the low 32 bits count: as 32-bit guests have them. */
static ir_val wrapped(struct gen *g, ir_val v)
{
    uint64_t addend = chance(g, 50) ? pick(g, 256) : (uint64_t)pick(g, 65536) << 16 | pick(g, 65536);
    ir_val high = emit_bin(g, IR_SHL, T_I64, value(g, T_I64), emit_const(g, T_I64, 32));

    v = emit_bin(g, IR_ADD, T_I64, emit_bin(g, IR_OR, T_I64, v, high), emit_const(g, T_I64, addend));
    v = emit_un(g, IR_TRUNC, T_I32, v);
    if (chance(g, 50))
        v = emit_bin(g, IR_ADD, T_I32, v, emit_const(g, T_I32, (uint32_t)-addend));
    else
        v = emit_un(g, IR_TRUNC, T_I32, emit_bin(g, IR_SUB, T_I64, emit_un(g, IR_ZEXT32, T_I64, v), emit_const(g, T_I64, addend)));
    return emit_un(g, IR_ZEXT32, T_I64, v);
}

static ir_val address(struct gen *g)
{
    bool wild = g->opt->faults && chance(g, 12);
    ir_val v = value(g, T_I64);

    v = emit_bin(g, IR_AND, T_I64, v, emit_const(g, T_I64, wild ? 0x7fff : 0x3fff));
    v = emit_bin(g, IR_ADD, T_I64, v, emit_const(g, T_I64, TOY_BASE + (wild ? 0 : 64)));
    return chance(g, 30) ? wrapped(g, v) : v;
}

static memop random_memop(struct gen *g, enum ir_type type)
{
    memop m = type == T_I32 ? pick(g, 3) : type == T_I64 ? pick(g, 4) : type == T_V256 ? MEM_256
              : chance(g, 60) ? MEM_128 : MEM_32 + pick(g, 2);

    if (type <= T_I64 && chance(g, 25))
        m |= MEM_BE;
    if (chance(g, 20))
        m |= MEM_ATOMIC;
    if (g->opt->faults && chance(g, 5))
        m |= 2 << MEM_ALIGN_SHIFT;
    return m;
}

static void gen_load(struct gen *g)
{
    enum ir_type type = any_type(g);
    memop m = random_memop(g, type);
    ir_val addr = address(g);
    int32_t disp = (int32_t)pick(g, 64);

    if (type <= T_I64 && chance(g, 40))
        m |= MEM_SIGNED;
    keep(g, type, g->opt->raw ? raw_op(g, &(struct ir_op){ .op = IR_LOAD, .type = type, .a = addr, .mem = m, .disp = disp })
                              : ir_load(g->ir, type, m, addr, disp));
}

static void gen_store(struct gen *g)
{
    enum ir_type type = any_type(g);
    memop m = random_memop(g, type);
    ir_val addr = address(g), v = value(g, type);
    int32_t disp = (int32_t)pick(g, 64);

    if (g->opt->raw)
        raw_op(g, &(struct ir_op){ .op = IR_STORE, .type = type, .a = addr, .b = v, .mem = m, .disp = disp });
    else
        ir_store(g->ir, m, addr, disp, v);
}

static void gen_atomic(struct gen *g)
{
    enum ir_opcode op = IR_ATOMIC_XCHG + pick(g, 6);
    enum ir_type type = int_type(g);
    memop m = type == T_I32 ? pick(g, 3) : pick(g, 4);
    ir_val addr = address(g), v = value(g, type), w = value(g, type);

    if (chance(g, 90))          /* aligned: what back ends do by themselves */
        addr = emit_bin(g, IR_AND, T_I64, addr, emit_const(g, T_I64, ~UINT64_C(7)));
    keep(g, type, op == IR_ATOMIC_CAS ? ir_cas(g->ir, m, addr, v, w) : ir_atomic(g->ir, op, m, addr, v));
}

/* ---- vectors, helpers, state */

/* The types a row takes, at a width: enum ir_type each. */
static void vop_types(const struct vop_info *v, enum ir_type wide, enum ir_type *result, enum ir_type arg[3])
{
    enum ir_type gpr = v->flags & VOPF_W1 ? T_I64 : T_I32;

    *result = v->flags & VOPF_GPR_RESULT ? gpr : v->flags & VOPF_R128 ? T_V128 : wide;
    arg[0] = v->flags & VOPF_GPR_A ? gpr : v->flags & VOPF_A128 ? T_V128 : wide;
    arg[1] = v->flags & VOPF_GPR_B ? gpr : v->flags & VOPF_B128 ? T_V128 : wide;
    arg[2] = v->flags & VOPF_GPR_C ? T_I64 : wide;
}

/* Rows like vpermq have no form of 16 bytes: found out by whether what lies beyond 16 matters. */
static bool vop_needs_256(const struct vop_info *v, int64_t imm)
{
    static uint8_t known[VOP_COUNT];            /* 1: needs, 2: doesn't */
    uint8_t in[3][32], out[2][32];

    if (known[v - vop_info])
        return known[v - vop_info] == 1;
    known[v - vop_info] = 2;
    for (unsigned round = 0; round < 64; round++) {
        memset(out, 0, sizeof(out));
        for (unsigned twice = 0; twice < 2; twice++) {
            struct cpu cpu = { .fp_control = 0x1f80 };

            for (unsigned i = 0; i < sizeof(in); i++)
                (&in[0][0])[i] = (uint8_t)(i * 37 + round * 5 + (i % 32 >= 16 && twice ? 0x55 : 0));
            v->fn(&cpu, out[twice], in[0], in[1], in[2], imm ^ round * 7, 16);
        }
        if (memcmp(out[0], out[1], 16))
            known[v - vop_info] = 1;
    }
    return known[v - vop_info] == 1;
}

static void gen_vop(struct gen *g)
{
    static const uint16_t plain[] = { VOP_CAT, VOP_LO, VOP_HI, VOP_AND, VOP_OR, VOP_XOR, VOP_ANDN, VOP_ADD8 };
    /* elements moved about, which the optimiser looks through: now and then chains of them */
    static const uint16_t moves[] = { VOP_MOVQZ, VOP_MOVSD, VOP_UNPKL64, VOP_BYTESHR, VOP_SHUF32, VOP_INSERTPS };
    bool moved = g->opt->all_vops && !pick(g, 3);
    unsigned vop = moved ? moves[pick(g, G_N_ELEMENTS(moves))] :
                   g->opt->all_vops ? 1 + pick(g, VOP_COUNT - 1) : plain[pick(g, G_N_ELEMENTS(plain))];
    unsigned imm = moved && vop == VOP_BYTESHR ? 8 : moved && vop == VOP_SHUF32 ? 0x55 * pick(g, 4) : pick(g, 256);
    const struct vop_info *v = &vop_info[vop];
    enum ir_type wide = chance(g, 50) ? T_V256 : T_V128, result, arg_type[3];
    ir_val arg[3] = { 0 };

    if (v->flags & VOPF_FP)
        return;
    if (v->flags & (VOPF_R128 | VOPF_A128) || vop_needs_256(v, 0))
        wide = T_V256;
    switch (vop) {                      /* of V256 alone */
    case VOP_PERM32: case VOP_PERMPS: case VOP_PERMI64: case VOP_PERMPD: case VOP_PERM128: case VOP_PERMF128:
        wide = T_V256;
    }
    if (v->flags & (VOPF_NO256 | VOPF_SCALAR))
        wide = T_V128;
    vop_types(v, wide, &result, arg_type);
    for (unsigned i = 0; i < v->operands && i < 3; i++)
        arg[i] = value(g, arg_type[i]);
    keep(g, result, ir_vop(g->ir, vop, result, arg[0], arg[1], arg[2], imm));
}

static void gen_call(struct gen *g)
{
    unsigned n = pick(g, g->opt->faults ? TOY_HELPERS : TOY_HELPERS - 1);
    const struct ir_helper *h;
    ir_val arg[4] = { 0 }, v;

    if (!g->opt->faults && n >= TOY_RAISES)
        n++;
    if (g->opt->no_vectors && (n == TOY_VEC || n == TOY_VEC256))
        n = TOY_PURE;
    h = toy_helpers[n];
    for (unsigned i = 0; i < h->nargs; i++)
        arg[i] = value(g, h->args[i]);
    v = ir_call(g->ir, n, arg[0], arg[1], arg[2], arg[3]);
    if (h->ret)
        keep(g, h->ret, v);
}

static void gen_state(struct gen *g)
{
    enum ir_type type = int_type(g);
    unsigned size = pick(g, type == T_I32 ? 3 : 4);
    uint32_t offset = offsetof(struct toy_cpu, plain) + pick(g, 2) * 8 + pick(g, 8);

    if (chance(g, 50))
        keep(g, type, ir_state_load(g->ir, type, offset, size));
    else
        ir_state_store(g->ir, offset, size, value(g, type));
}

static void gen_put(struct gen *g)
{
    enum ir_type type = any_type(g);
    unsigned slot = slot_of_type(g, type);

    ir_put(g->ir, slot, value(g, type));
}

static void gen_early_put(struct gen *g)
{
    enum ir_type type = any_type(g);
    unsigned slot = slot_of_type(g, type);

    ir_put_early(g->ir, slot, value(g, type));
}

/* One op or so of an instruction's body. Weights in percent. */
static void gen_op(struct gen *g)
{
    unsigned n = pick(g, 100);

    if (n < 30)
        gen_binary(g);
    else if (n < 38)
        gen_unary(g);
    else if (n < 43)
        gen_field(g);
    else if (n < 46)
        gen_lea(g);
    else if (n < 51)
        gen_setcc(g);
    else if (n < 55)
        gen_select(g);
    else if (n < 57)
        gen_division(g);
    else if (g->opt->all_vops && n < 80)
        gen_vop(g);
    else if (n < 67)
        gen_load(g);
    else if (n < 76)
        gen_store(g);
    else if (n < 78)
        gen_atomic(g);
    else if (n < 81)
        gen_state(g);
    else if (n < 84)
        gen_early_put(g);
    else if (n < 89 && !g->opt->no_helpers)
        gen_call(g);
    else if (n < 90)
        keep(g, T_I64, ir_pc(g->ir, g->ir->insn_pc + pick(g, 4096)));
    else if (!g->opt->no_vectors)
        gen_vop(g);
}

/* ---- control */

static void brcond(struct gen *g, enum ir_cond cond, enum ir_type ctype, ir_val a, ir_val b, ir_label l)
{
    if (g->opt->raw) {
        raw_op(g, &(struct ir_op){ .op = IR_BRCOND, .ctype = ctype, .cond = cond, .a = a, .b = b, .aux = l });
    } else {
        ir_brcond(g->ir, cond, a, b, l);
    }
    pool_clear(g);
}

static void random_brcond(struct gen *g, ir_label l)
{
    enum ir_type ctype = int_type(g);
    enum ir_cond cond = pick(g, C_COUNT);
    ir_val a = value(g, ctype), b;

    if (chance(g, 40)) {        /* the flag of a comparison, tested */
        gen_setcc(g);
        gen_setcc(g);
        cond = chance(g, 50) ? C_NE : C_EQ;
        a = value(g, ctype);
        b = emit_const(g, ctype, 0);
    } else {
        b = chance(g, 50) ? random_const(g, ctype) : value(g, ctype);
    }
    brcond(g, cond, ctype, a, b, l);
}

static void bind(struct gen *g, ir_label l)
{
    ir_label_bind(g->ir, l);
    pool_clear(g);
}

/* Back to a leader, as often as plain[3] allows. */
static void gen_backward(struct gen *g, const struct ir_leader *l)
{
    uint32_t offset = offsetof(struct toy_cpu, plain) + 24;
    ir_label skip = ir_label_new(g->ir);
    ir_val left;

    if (chance(g, 60))
        random_brcond(g, skip);
    left = ir_state_load(g->ir, T_I64, offset, 3);
    brcond(g, C_EQ, T_I64, left, emit_const(g, T_I64, 0), skip);
    left = ir_state_load(g->ir, T_I64, offset, 3);
    ir_state_store(g->ir, offset, 3, emit_bin(g, IR_ADD, T_I64, left, emit_const(g, T_I64, UINT64_MAX)));
    ir_goto(g->ir, l->pc);
    bind(g, skip);
}

static void gen_leave(struct gen *g)
{
    ir_label skip = ir_label_new(g->ir);

    random_brcond(g, skip);
    switch (pick(g, 5)) {
    case 0: ir_goto_indirect(g->ir, value(g, T_I64), EXIT_INDIRECT_JUMP); break;
    case 1: ir_goto_indirect(g->ir, value(g, T_I64), EXIT_RETURN); break;
    case 2: ir_call_to(g->ir, g->ir->insn_pc + 0x2000, g->ir->insn_next); break;
    case 3: ir_exit_loop(g->ir, g->ir->insn_next); break;
    default: ir_goto(g->ir, g->ir->insn_pc - 0x5000);
    }
    bind(g, skip);
}

static void gen_control(struct gen *g)
{
    struct ir *ir = g->ir;

    if (ir->nleaders && chance(g, 30)) {
        const struct ir_leader *l = &ir->leaders[pick(g, ir->nleaders)];

        if (l->pc > ir->insn_pc && chance(g, 50)) {
            ir_label skip = ir_label_new(ir);

            random_brcond(g, skip);
            ir_goto(ir, l->pc);
            bind(g, skip);
        } else if (l->pc > ir->insn_pc) {
            random_brcond(g, l->label);
        } else if (!g->opt->no_loops) {
            gen_backward(g, l);
        }
    }
    if (chance(g, 6))
        gen_leave(g);
}

static void gen_insn(struct gen *g, uint64_t pc)
{
    unsigned nops = 1 + pick(g, 6), nputs = pick(g, 4);

    ir_insn_start(g->ir, pc, 4);
    if (chance(g, 10)) {                /* part of it is conditional */
        ir_label skip = ir_label_new(g->ir);

        random_brcond(g, skip);
        gen_op(g);
        gen_op(g);
        if (chance(g, 50))
            gen_early_put(g);
        bind(g, skip);
    }
    for (unsigned i = 0; i < nops; i++)
        gen_op(g);
    for (unsigned i = 0; i < nputs; i++)
        gen_put(g);
    gen_control(g);
}

void ir_random_region(struct ir *ir, const struct ir_random *options)
{
    struct gen g = { .ir = ir, .opt = options, .random = options->seed };
    unsigned ninsns = options->ninsns ? options->ninsns : 1 + pick(&g, 24);
    uint64_t pc = UINT64_C(0x4000000) + 4 * pick(&g, 1024);

    ir_begin(ir, &guest_toy, pc, 0);
    for (unsigned i = 0; i < ninsns && ir->nleaders < 64; i++)
        if (chance(&g, 25))
            ir->leaders[ir->nleaders++] = (struct ir_leader){ .pc = pc + 4 * i, .label = ir_label_new(ir) };
    for (unsigned i = 0, next = 0; i < ninsns; i++, pc += 4) {
        if (next < ir->nleaders && ir->leaders[next].pc == pc) {
            bind(&g, ir->leaders[next].label);
            ir->leaders[next++].bound = true;
        }
        gen_insn(&g, pc);
    }
    ir_finish(ir);
}

/* ---- runs */

struct toy_result toy_run(struct toy_cpu *c, const struct ir *ir, uint64_t slide, toy_run_fn *fn, void *opaque)
{
    struct toy_result result = { 0 };
    sigjmp_buf out;

    c->cpu.pc = ir->pc + slide;
    c->cpu.pc_page = c->cpu.pc & ~(uint64_t)(CPU_PAGE_SIZE - 1);
    c->cpu.loop_exit = &out;
    if (sigsetjmp(out, 0) == 0) {
        struct interp_result r = fn(&c->cpu, ir, opaque);

        result.kind = r.kind;
        result.icount = r.icount;
    } else {
        result.raised = true;
    }
    c->cpu.loop_exit = NULL;
    return result;
}

static bool differ(char **why, const char *what, uint64_t a, uint64_t b)
{
    *why = g_strdup_printf("%s: 0x%" G_GINT64_MODIFIER "x and 0x%" G_GINT64_MODIFIER "x", what, a, b);
    return false;
}

static bool same_slots(const struct toy_cpu *a, const struct toy_cpu *b, char **why)
{
    for (unsigned i = 0; i < TOY_SLOT_SCRATCH; i++) {
        const uint8_t *p = (const uint8_t *)a + toy_slots[i].offset, *q = (const uint8_t *)b + toy_slots[i].offset;

        for (unsigned k = 0; k < ir_slot_bytes(&toy_slots[i]); k += 4) {
            uint32_t x, y;

            memcpy(&x, p + k, 4);
            memcpy(&y, q + k, 4);
            if (x != y)
                return differ(why, toy_slots[i].name, x, y);
        }
    }
    return true;
}

bool toy_same(const struct toy_cpu *a, const struct toy_result *ra, const struct toy_cpu *b,
              const struct toy_result *rb, char **why)
{
    if (ra->raised != rb->raised)
        return differ(why, "raised", ra->raised, rb->raised);
    if (!ra->raised && ra->kind != rb->kind)
        return differ(why, "exit", ra->kind, rb->kind);
    if (!ra->raised && ra->icount != rb->icount)
        return differ(why, "icount", ra->icount, rb->icount);
    if (a->cpu.pc != b->cpu.pc)
        return differ(why, "pc", a->cpu.pc, b->cpu.pc);
    if (a->cpu.exception != b->cpu.exception)
        return differ(why, "exception", a->cpu.exception, b->cpu.exception);
    if (a->fault_va != b->fault_va || a->fault_access != b->fault_access)
        return differ(why, "fault", a->fault_va, b->fault_va);
    if (a->calls != b->calls)
        return differ(why, "calls", a->calls, b->calls);
    if (memcmp(a->plain, b->plain, sizeof(a->plain)))
        return differ(why, "plain state", a->plain[0] ^ a->plain[1], b->plain[0] ^ b->plain[1]);
    for (unsigned i = 0; i < TOY_PAGES * CPU_PAGE_SIZE; i++)
        if (a->memory[i] != b->memory[i])
            return differ(why, "memory", a->memory[i], b->memory[i]);
    return same_slots(a, b, why);
}
