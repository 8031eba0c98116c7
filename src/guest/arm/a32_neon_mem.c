/* Advanced SIMD of AArch32: element and structure loads and stores. DDI 0487 F3.1.12, F6.1 (VLD1 to VLD4, VST1 to VST4). */
#include <string.h>
#include "a32_simd.h"

static memop mem(struct arm_t *t, unsigned size, unsigned align)
{
    memop m = arm_memop(t, size);

    return align ? (m & ~(memop)MEM_ALIGN_MASK) | align << MEM_ALIGN_SHIFT : m;
}

/* What is loaded or stored without regard to elements: little-endian. */
static memop bytes(struct arm_t *t, unsigned size, unsigned element, unsigned align)
{
    memop m = arm_memop(t, size) & ~(memop)(MEM_ALIGN_MASK | MEM_BE);

    if (!align && t->mode & MODE_ALIGN)
        align = element;
    return m | align << MEM_ALIGN_SHIFT;
}

static ir_val base_of(struct arm_t *t, const struct a32_insn *i) { return a32_widen(t, a32_r(t, i, i->rn)); }

static void writeback(struct arm_t *t, const struct a32_insn *i, unsigned change)
{
    if (i->rm == 13)
        a32_put(t, i->rn, a32_bini(t, IR_ADD, a32_r(t, i, i->rn), change));
    else if (i->rm != 15)
        a32_put(t, i->rn, a32_bin(t, IR_ADD, a32_r(t, i, i->rn), a32_r(t, i, i->rm)));
}

static ir_val element_get(struct arm_t *t, unsigned r, unsigned size, unsigned lane)
{
    static const uint16_t vop[4] = { VOP_EXT8, VOP_EXT16, VOP_EXT32, VOP_EXT64 };

    return ir_vop(t->ir, vop[size], size == 3 ? T_I64 : T_I32, a64_q(t, r >> 1), 0, 0, lane + (r & 1u) * (8u >> size));
}

static void element_put(struct arm_t *t, unsigned r, unsigned size, unsigned lane, ir_val v)
{
    static const uint16_t vop[4] = { VOP_INS8, VOP_INS16, VOP_INS32, VOP_INS64 };

    a64_put_q(t, r >> 1, ir_vop(t->ir, vop[size], T_V128, a64_q(t, r >> 1), v, 0, lane + (r & 1u) * (8u >> size)));
}

/* ---- multiple structures. arg: elements of a structure (k), registers an element, distance of the elements' registers */

struct multiple { unsigned k, regs, inc, size, align; };

static struct multiple multiple_of(const struct a32_insn *i)
{
    unsigned arg = (unsigned)i->row->arg;

    return (struct multiple){ .k = arg & 15, .regs = arg >> 4 & 15, .inc = arg >> 8, .size = i->size, .align = i->align ? i->align + 2u : 0 };
}

static unsigned reg_of(const struct a32_insn *i, const struct multiple *m, unsigned r, unsigned j) { return i->vd + r + j * m->inc; }

/* Where byte b of the double register of element j is in a run of 8 * k bytes. */
static unsigned place_of(const struct multiple *m, unsigned j, unsigned b)
{
    unsigned element = b >> m->size, within = b & ((1u << m->size) - 1);

    return (element * m->k + j) << m->size | within;
}

static ir_val shuffled(const struct v_op *o, ir_val v, const uint8_t pattern[16])
{
    uint64_t lanes[2];

    memcpy(lanes, pattern, 16);
    return v2(o, VOP_SHUF8, v, v_const2(o, lanes[0], lanes[1]));
}

/* The register of element j out of the run, which is 16 bytes a value. */
static ir_val gather(const struct v_op *o, const struct multiple *m, unsigned j, const ir_val run[2])
{
    ir_val v = 0;

    for (unsigned c = 0; c < 2 && 16 * c < 8 * m->k; c++) {
        uint8_t pattern[16];
        bool any = false;

        memset(pattern, 0x80, sizeof(pattern));
        for (unsigned b = 0; b < 8; b++)
            if (place_of(m, j, b) >> 4 == c) {
                pattern[b] = place_of(m, j, b) & 15;
                any = true;
            }
        if (any)
            v = v ? v_or(o, v, shuffled(o, run[c], pattern)) : shuffled(o, run[c], pattern);
    }
    return v;
}

/* 16 bytes of the run, number c, out of the registers (low halves). */
static ir_val scatter(const struct v_op *o, const struct multiple *m, unsigned c, const ir_val reg[4])
{
    ir_val v = 0;

    for (unsigned j = 0; j < m->k; j++) {
        uint8_t pattern[16];
        bool any = false;

        memset(pattern, 0x80, sizeof(pattern));
        for (unsigned b = 0; b < 8; b++)
            if (place_of(m, j, b) >> 4 == c) {
                pattern[place_of(m, j, b) & 15] = (uint8_t)b;
                any = true;
            }
        if (any)
            v = v ? v_or(o, v, shuffled(o, reg[j], pattern)) : shuffled(o, reg[j], pattern);
    }
    return v;
}

/* Big-endian data: element by element. All loads come before the first register is written. */
static void load_elements(struct arm_t *t, const struct a32_insn *i, const struct multiple *m, ir_val base)
{
    unsigned per = 8u >> m->size, n = 0, align = m->align;
    ir_val got[32];

    for (unsigned at = 0; at < m->regs * per * m->k && at < 32; at++) {
        got[at] = ir_load(t->ir, m->size == 3 ? T_I64 : T_I32, mem(t, m->size, align), base, (int32_t)(at << m->size));
        align = 0;
    }
    for (unsigned r = 0; r < m->regs; r++)
        for (unsigned e = 0; e < per; e++)
            for (unsigned j = 0; j < m->k && n < 32; j++)
                element_put(t, reg_of(i, m, r, j), m->size, e, got[n++]);
}

static void store_elements(struct arm_t *t, const struct a32_insn *i, const struct multiple *m, ir_val base)
{
    unsigned per = 8u >> m->size, at = 0, align = m->align;

    for (unsigned r = 0; r < m->regs; r++)
        for (unsigned e = 0; e < per; e++)
            for (unsigned j = 0; j < m->k; j++) {
                ir_store(t->ir, mem(t, m->size, align), base, (int32_t)(at++ << m->size), element_get(t, reg_of(i, m, r, j), m->size, e));
                align = 0;
            }
}

/* VLD1, VST1: a quadword register's halves at once. */
static bool is_pair(const struct a32_insn *i, const struct multiple *m, unsigned r)
{
    return m->k == 1 && !((i->vd + r) & 1) && r + 1 < m->regs;
}

static void load_registers(struct arm_t *t, const struct a32_insn *i, const struct multiple *m, ir_val base)
{
    unsigned align = m->align;
    ir_val got[4] = { 0 };

    for (unsigned r = 0; r < m->regs && r < 4; r += is_pair(i, m, r) ? 2 : 1) {
        got[r] = ir_load(t->ir, T_V128, bytes(t, is_pair(i, m, r) ? MEM_128 : MEM_64, m->size, align), base, 8 * (int32_t)r);
        align = 0;
    }
    for (unsigned r = 0; r < m->regs && r < 4; r += is_pair(i, m, r) ? 2 : 1) {
        if (is_pair(i, m, r))
            a64_put_q(t, (i->vd + r) >> 1, got[r]);
        else
            a32_put_d(t, i->vd + r, got[r]);
    }
}

static void store_registers(struct arm_t *t, const struct a32_insn *i, const struct multiple *m, ir_val base)
{
    unsigned align = m->align;

    for (unsigned r = 0; r < m->regs; r += is_pair(i, m, r) ? 2 : 1) {
        bool pair = is_pair(i, m, r);

        ir_store(t->ir, bytes(t, pair ? MEM_128 : MEM_64, m->size, align), base, 8 * (int32_t)r,
                 pair ? a64_q(t, (i->vd + r) >> 1) : a32_d(t, i->vd + r));
        align = 0;
    }
}

static void load_runs(struct arm_t *t, const struct a32_insn *i, const struct multiple *m, ir_val base)
{
    struct v_op o = a32_vop(t, m->size, true);
    ir_val run[4][2] = { 0 };
    unsigned align = m->align;
    int32_t disp = 0;

    for (unsigned r = 0; r < m->regs && r < 4; r++)
        for (unsigned c = 0; 16 * c < 8 * m->k && c < 2; c++) {
            unsigned size = 8 * m->k - 16 * c >= 16 ? MEM_128 : MEM_64;

            run[r][c] = ir_load(t->ir, T_V128, bytes(t, size, m->size, align), base, disp);
            disp += 1 << size;
            align = 0;
        }
    for (unsigned r = 0; r < m->regs && r < 4; r++)
        for (unsigned j = 0; j < m->k; j++)
            a32_put_d(t, reg_of(i, m, r, j), gather(&o, m, j, run[r]));
}

static void store_runs(struct arm_t *t, const struct a32_insn *i, const struct multiple *m, ir_val base)
{
    struct v_op o = a32_vop(t, m->size, true);
    unsigned align = m->align;
    int32_t disp = 0;

    for (unsigned r = 0; r < m->regs; r++) {
        ir_val reg[4] = { 0 };

        for (unsigned j = 0; j < m->k; j++)
            reg[j] = a32_d(t, reg_of(i, m, r, j));
        for (unsigned c = 0; 16 * c < 8 * m->k; c++) {
            unsigned size = 8 * m->k - 16 * c >= 16 ? MEM_128 : MEM_64;

            ir_store(t->ir, bytes(t, size, m->size, align), base, disp, scatter(&o, m, c, reg));
            disp += 1 << size;
            align = 0;
        }
    }
}

EMIT32(vld_multiple)
{
    struct multiple m = multiple_of(i);

    if (!a32_fp_enabled(t))
        return;
    if (t->mode & MODE_BE)
        load_elements(t, i, &m, base_of(t, i));
    else if (m.k == 1)
        load_registers(t, i, &m, base_of(t, i));
    else
        load_runs(t, i, &m, base_of(t, i));
    writeback(t, i, m.regs * m.k * 8);
}

EMIT32(vst_multiple)
{
    struct multiple m = multiple_of(i);

    if (!a32_fp_enabled(t))
        return;
    if (t->mode & MODE_BE)
        store_elements(t, i, &m, base_of(t, i));
    else if (m.k == 1)
        store_registers(t, i, &m, base_of(t, i));
    else
        store_runs(t, i, &m, base_of(t, i));
    writeback(t, i, m.regs * m.k * 8);
}

/* ---- one structure. arg: elements | size << 4; ia: what the address is aligned to */

struct single { unsigned k, size, inc, align; };

static struct single single_of(const struct a32_insn *i)
{
    struct single s = { .k = (unsigned)i->row->arg & 15, .size = (unsigned)i->row->arg >> 4, .inc = i->inc + 1u };

    if (i->ia && s.size == 2 && s.k == 4)
        s.align = i->ia + 2u;           /* 8 or 16 bytes */
    else if (i->ia)
        s.align = s.size + (s.k == 1 ? 0 : s.k / 2);
    return s;
}

EMIT32(vld_lane)
{
    struct single s = single_of(i);
    ir_val base, got[4];

    if (!a32_fp_enabled(t))
        return;
    base = base_of(t, i);
    for (unsigned j = 0; j < s.k; j++)
        got[j] = ir_load(t->ir, T_I32, mem(t, s.size, j ? 0 : s.align), base, (int32_t)(j << s.size));
    for (unsigned j = 0; j < s.k; j++)
        element_put(t, i->vd + j * s.inc, s.size, i->index, got[j]);
    writeback(t, i, s.k << s.size);
}

EMIT32(vst_lane)
{
    struct single s = single_of(i);
    ir_val base;

    if (!a32_fp_enabled(t))
        return;
    base = base_of(t, i);
    for (unsigned j = 0; j < s.k; j++)
        ir_store(t->ir, mem(t, s.size, j ? 0 : s.align), base, (int32_t)(j << s.size), element_get(t, i->vd + j * s.inc, s.size, i->index));
    writeback(t, i, s.k << s.size);
}

/* To all lanes. arg: elements; inc: of one element, two registers; else every second register. size 3: VLD4 of 32 bits,
 * aligned to 16 bytes. */
EMIT32(vld_all)
{
    unsigned k = (unsigned)i->row->arg, size = i->size == 3 ? 2 : i->size, align = 0, regs = k == 1 ? i->inc + 1u : k;
    struct v_op o = a32_vop(t, size, true);
    ir_val base, got[4];

    if (!a32_fp_enabled(t))
        return;
    if (i->ia)
        align = i->size == 3 ? 4 : size == 2 && k == 4 ? 3 : size + (k == 1 ? 0 : k / 2);
    base = base_of(t, i);
    for (unsigned j = 0; j < k; j++)
        got[j] = ir_load(t->ir, T_I32, mem(t, size, j ? 0 : align), base, (int32_t)(j << size));
    for (unsigned j = 0; j < regs; j++) {
        ir_val v = ir_vop(t->ir, VOP_MOVD, T_V128, got[k == 1 ? 0 : j], 0, 0, 0);

        a32_put_d(t, i->vd + (k == 1 ? j : j * (i->inc + 1u)), v_dup(&o, size, v, 0));
    }
    writeback(t, i, k << size);
}
