/* A64 loads and stores of general registers: DDI 0487 C4.1.97. */
#include "a64.h"

static ir_val imm64(struct arm_t *t, uint64_t v) { return ir_const(t->ir, T_I64, v); }

/* ---- plain accesses. opc: 0 store, 1 load, 2 load signed to 64 bits, 3 to 32 */

static void load(struct arm_t *t, const struct a64_insn *i, memop m, unsigned opc, ir_val addr, int32_t disp)
{
    ir_val v = ir_load(t->ir, opc == 3 ? T_I32 : T_I64, opc == 1 ? m : m | MEM_SIGNED, addr, disp);

    a64_put_r(t, i->rt, v);
}

static void write_back(struct arm_t *t, unsigned rn, ir_val base, int32_t by)
{
    ir_val v = ir_bin_imm(t->ir, IR_ADD, base, (uint64_t)(int64_t)by);

    if (by & 15)
        a64_put_x_sp(t, rn, v);
    else
        a64_put_x_sp_aligned(t, rn, v);
}

static memop unprivileged(struct arm_t *t, memop m)
{
    return (m & ~(memop)MEM_MMU_MASK) | (memop)(t->mode >> MODE_UNPRIV_SHIFT & 15) << MEM_MMU_SHIFT;
}

enum { INDEX_UNSCALED, INDEX_POST, INDEX_UNPRIVILEGED, INDEX_PRE };

EMIT(str_imm9)
{
    memop m = arm_memop(t, i->size);
    ir_val base = a64_base(t, i->rn);

    if (i->index == INDEX_UNPRIVILEGED)
        m = unprivileged(t, m);
    ir_store(t->ir, m, base, i->index == INDEX_POST ? 0 : i->imm9, i->size == 3 ? a64_x(t, i->rt) : a64_w(t, i->rt));
    if (i->index & 1)
        write_back(t, i->rn, base, i->imm9);
}

EMIT(ldr_imm9)
{
    memop m = arm_memop(t, i->size);
    ir_val base = a64_base(t, i->rn), v;

    if (i->index == INDEX_UNPRIVILEGED)
        m = unprivileged(t, m);
    v = ir_load(t->ir, i->opc == 3 ? T_I32 : T_I64, i->opc == 1 ? m : m | MEM_SIGNED, base,
                i->index == INDEX_POST ? 0 : i->imm9);
    if (i->index & 1)
        write_back(t, i->rn, base, i->imm9);
    a64_put_r(t, i->rt, v);
}

static void store_at(struct arm_t *t, const struct a64_insn *i, ir_val addr, int32_t disp)
{
    ir_store(t->ir, arm_memop(t, i->size), addr, disp, i->size == 3 ? a64_x(t, i->rt) : a64_w(t, i->rt));
}

EMIT(str_imm12) { store_at(t, i, a64_base(t, i->rn), (int32_t)i->imm12 << i->size); }
EMIT(ldr_imm12) { load(t, i, arm_memop(t, i->size), i->opc, a64_base(t, i->rn), (int32_t)i->imm12 << i->size); }

static ir_val indexed(struct arm_t *t, const struct a64_insn *i)
{
    ir_val base = a64_base(t, i->rn);

    if (i->rm == 31)
        return base;
    return ir_lea(t->ir, base, a64_extend(t, i->rm, i->option), i->sh ? i->size : 0, 0);
}

EMIT(str_reg) { store_at(t, i, indexed(t, i), 0); }
EMIT(ldr_reg) { load(t, i, arm_memop(t, i->size), i->opc, indexed(t, i), 0); }

EMIT(ldr_literal)
{
    memop m = (memop)i->row->arg;

    a64_put_x(t, i->rt, ir_load(t->ir, T_I64, arm_memop(t, m & MEM_SIZE) | (m & MEM_SIGNED),
                                ir_pc(t->ir, i->pc + (uint64_t)(int64_t)i->imm19), 0));
}

EMIT(prfm) { }

/* ---- pairs */

enum { PAIR_POST = 1, PAIR_PRE = 3 };

EMIT(stp)
{
    unsigned size = (unsigned)i->row->arg;
    int32_t imm = i->imm7 * (1 << size), disp = i->index == PAIR_POST ? 0 : imm;
    ir_val base = a64_base(t, i->rn);

    ir_store(t->ir, arm_memop(t, size), base, disp, a64_r(t, size == 3, i->rt));
    ir_store(t->ir, arm_memop(t, size), base, disp + (1 << size), a64_r(t, size == 3, i->rt2));
    if (i->index & 1)
        write_back(t, i->rn, base, imm);
}

EMIT(ldp)
{
    memop m = (memop)i->row->arg;
    unsigned size = m & MEM_SIZE;
    int32_t imm = i->imm7 * (1 << size), disp = i->index == PAIR_POST ? 0 : imm;
    ir_val base = a64_base(t, i->rn), a, b;

    m = arm_memop(t, size) | (m & MEM_SIGNED);
    a = ir_load(t->ir, T_I64, m, base, disp);
    b = ir_load(t->ir, T_I64, m, base, disp + (1 << size));
    if (i->index & 1)
        write_back(t, i->rn, base, imm);
    a64_put_x(t, i->rt, a);
    a64_put_x(t, i->rt2, b);
}

/* ---- ordered accesses and atomics */

static memop with_alignment(memop m, unsigned log2) { return (m & ~(memop)MEM_ALIGN_MASK) | log2 << MEM_ALIGN_SHIFT; }

/* Size and alignment rule of an ordered or atomic access: to be aligned, or with FEAT_LSE2 within 16 bytes (B2.2.1.1);
 * the latter is checked here, which begins a new block. */
static memop ordered_memop(struct arm_t *t, unsigned rn, int32_t disp, unsigned size, bool write)
{
    memop m = arm_memop(t, size);
    ir_val low;
    ir_label ok;

    if (!size)
        return m;
    if (!arm_t_has(t, AF_LSE2) || t->mode & MODE_ALIGN)
        return with_alignment(m, size);
    ok = ir_label_new(t->ir);
    low = ir_bin_imm(t->ir, IR_AND, ir_bin_imm(t->ir, IR_ADD, a64_base(t, rn), (uint64_t)(int64_t)disp), 15);
    arm_brcond(t, C_LEU, low, imm64(t, 16 - (1u << size)), ok);
    arm_call(t, ARM_HELP_unaligned, ir_bin_imm(t->ir, IR_ADD, a64_x_sp(t, rn), (uint64_t)(int64_t)disp),
             ir_const(t->ir, T_I32, write), 0, 0);
    arm_bind(t, ok);
    return m;
}

/* Operands of atomics have the size's type. */
static ir_val sized(struct arm_t *t, unsigned size, unsigned r) { return size == 3 ? a64_x(t, r) : a64_w(t, r); }

EMIT(ldar)
{
    memop m = ordered_memop(t, i->rn, 0, i->size, false);

    a64_put_x(t, i->rt, ir_load(t->ir, T_I64, m | MEM_ACQUIRE, a64_base(t, i->rn), 0));
}

EMIT(ldapr) { a64_emit_ldar(t, i); }

EMIT(stlr)
{
    memop m = ordered_memop(t, i->rn, 0, i->size, true);

    ir_store(t->ir, m | MEM_RELEASE, a64_base(t, i->rn), 0, sized(t, i->size, i->rt));
}

EMIT(ldapur)
{
    memop m = ordered_memop(t, i->rn, i->imm9, i->size, false);

    load(t, i, m | MEM_ACQUIRE, i->opc, a64_base(t, i->rn), i->imm9);
}

EMIT(stlur)
{
    memop m = ordered_memop(t, i->rn, i->imm9, i->size, true);

    ir_store(t->ir, m | MEM_RELEASE, a64_base(t, i->rn), i->imm9, sized(t, i->size, i->rt));
}

EMIT(ld_atomic)
{
    memop m = ordered_memop(t, i->rn, 0, i->size, true) | MEM_ACQUIRE | MEM_RELEASE;
    ir_val v = sized(t, i->size, i->rs);

    if (i->row->arg == IR_ATOMIC_AND)   /* LDCLR */
        v = ir_un(t->ir, IR_NOT, v);
    if (i->size < 2)                    /* the operand of the access, no more */
        v = ir_extract(t->ir, v, 0, 8u << i->size);
    a64_put_r(t, i->rt, ir_atomic(t->ir, (enum ir_opcode)i->row->arg, m, a64_base(t, i->rn), v));
}

EMIT(ldminmax)
{
    memop m = ordered_memop(t, i->rn, 0, i->size, true);
    ir_val base = a64_base(t, i->rn);

    a64_put_x(t, i->rt, arm_call(t, ARM_HELP_atomic_minmax, base, a64_x(t, i->rs), ir_const(t->ir, T_I32, m),
                                 ir_const(t->ir, T_I32, i->opc)));
}

EMIT(cas)
{
    memop m = ordered_memop(t, i->rn, 0, i->size, true) | MEM_ACQUIRE | MEM_RELEASE;
    ir_val old = sized(t, i->size, i->rs), new = sized(t, i->size, i->rt);

    if (i->size < 2) {
        old = ir_extract(t->ir, old, 0, 8u << i->size);
        new = ir_extract(t->ir, new, 0, 8u << i->size);
    }
    a64_put_r(t, i->rs, ir_cas(t->ir, m, a64_base(t, i->rn), old, new));
}

/* Two words as memory holds them: the first one at the lower address. */
static ir_val join_words(struct arm_t *t, unsigned r0, unsigned r1)
{
    unsigned low = t->mode & MODE_BE ? r1 : r0, high = t->mode & MODE_BE ? r0 : r1;

    return ir_bin(t->ir, IR_OR, ir_un(t->ir, IR_ZEXT32, a64_w(t, low)), ir_bin_imm(t->ir, IR_SHL, a64_x(t, high), 32));
}

static void put_words(struct arm_t *t, unsigned r0, unsigned r1, ir_val v)
{
    ir_val low = ir_extract(t->ir, v, 0, 32), high = ir_bin_imm(t->ir, IR_SHR, v, 32);

    a64_put_x(t, r0, t->mode & MODE_BE ? high : low);
    a64_put_x(t, r1, t->mode & MODE_BE ? low : high);
}

EMIT(casp)
{
    ir_val base, old, new;
    memop m;

    if (i->size) {
        arm_call(t, ARM_HELP_casp, a64_base(t, i->rn), ir_const(t->ir, T_I32, i->rs | (uint32_t)i->rt << 8), 0, 0);
        return;
    }
    m = ordered_memop(t, i->rn, 0, 3, true) | MEM_ACQUIRE | MEM_RELEASE;
    base = a64_base(t, i->rn);
    old = join_words(t, i->rs, i->rs + 1);
    new = join_words(t, i->rt, i->rt + 1);
    old = ir_cas(t->ir, m, base, old, new);
    put_words(t, i->rs, i->rs + 1, old);
}

/* ---- exclusives: see struct arm_cpu */

enum { EX_ADDR = offsetof(struct arm_cpu, ex_addr), EX_BYTES = offsetof(struct arm_cpu, ex_bytes),
       EX_VALUE = offsetof(struct arm_cpu, ex_value) };

static void monitor_set(struct arm_t *t, ir_val addr, unsigned bytes, ir_val v0, ir_val v1)
{
    ir_state_store(t->ir, EX_ADDR, 3, addr);
    ir_state_store(t->ir, EX_BYTES, 3, imm64(t, bytes));
    ir_state_store(t->ir, EX_VALUE, 3, v0);
    if (v1)
        ir_state_store(t->ir, EX_VALUE + 8, 3, v1);
}

EMIT(ldxr)
{
    memop m = with_alignment(arm_memop(t, i->size), i->size) | (i->acq ? MEM_ACQUIRE : 0);
    ir_val base = a64_base(t, i->rn), v = ir_load(t->ir, T_I64, m, base, 0);

    monitor_set(t, base, 1u << i->size, v, 0);
    a64_put_x(t, i->rt, v);
}

EMIT(ldxp)
{
    memop m = arm_memop(t, 3) | (i->acq ? MEM_ACQUIRE : 0);
    ir_val base = a64_base(t, i->rn), a, b;

    if (!i->size) {
        a = ir_load(t->ir, T_I64, with_alignment(m, 3), base, 0);
        monitor_set(t, base, 8, a, 0);
        put_words(t, i->rt, i->rt2, a);
        return;
    }
    /* Two loads: if they are of different times, the store-exclusive finds out. */
    a = ir_load(t->ir, T_I64, with_alignment(m, 4), base, 0);
    b = ir_load(t->ir, T_I64, m, base, 8);
    monitor_set(t, base, 16, a, b);
    a64_put_x(t, i->rt, a);
    a64_put_x(t, i->rt2, b);
}

/* The store-exclusive of `size`, by a compare and swap from what the load saw. pair: of two words. */
static void store_exclusive(struct arm_t *t, const struct a64_insn *i, unsigned size, bool pair)
{
    memop m = with_alignment(arm_memop(t, size), size) | MEM_RELEASE;
    ir_label fail = ir_label_new(t->ir), done = ir_label_new(t->ir);
    ir_val base = a64_base(t, i->rn), differs, expected, new, status;

    differs = ir_bin(t->ir, IR_XOR, ir_state_load(t->ir, T_I64, EX_ADDR, 3), base);
    status = ir_bin_imm(t->ir, IR_XOR, ir_state_load(t->ir, T_I64, EX_BYTES, 3), 1u << size);
    arm_brcond(t, C_NE, ir_bin(t->ir, IR_OR, differs, status), imm64(t, 0), fail);
    expected = ir_state_load(t->ir, T_I64, EX_VALUE, 3);
    new = pair ? join_words(t, i->rt, i->rt2) : a64_x(t, i->rt);
    if (size < 3) {
        expected = ir_un(t->ir, IR_TRUNC, expected);
        new = ir_un(t->ir, IR_TRUNC, new);
    }
    if (size < 2)
        new = ir_extract(t->ir, new, 0, 8u << size);
    status = ir_setcc(t->ir, T_I64, C_NE, ir_cas(t->ir, m, a64_x_sp(t, i->rn), expected, new), expected);
    ir_state_store(t->ir, EX_BYTES, 3, imm64(t, 0));
    a64_put_x(t, i->rs, status);
    ir_br(t->ir, done);
    arm_bind(t, fail);
    ir_state_store(t->ir, EX_BYTES, 3, imm64(t, 0));
    a64_put_x(t, i->rs, imm64(t, 1));
    arm_bind(t, done);
}

EMIT(stxr) { store_exclusive(t, i, i->size, false); }

EMIT(stxp)
{
    ir_val base;

    if (!i->size) {
        store_exclusive(t, i, 3, true);
        return;
    }
    base = a64_base(t, i->rn);
    a64_put_r(t, i->rs, arm_call(t, ARM_HELP_stxp, base, a64_x(t, i->rt), a64_x(t, i->rt2), 0));
}

EMIT(clrex) { ir_state_store(t->ir, EX_BYTES, 3, imm64(t, 0)); }
