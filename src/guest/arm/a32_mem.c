/* A32 and T32: loads and stores of core registers, exclusives, acquire and release. DDI 0487 F2.9 to F2.12.
 * Addresses wrap at 32 bits. Immediate offsets are left to the access as displacements of the zero-extended base, so that
 * neighbouring accesses share one check; a sum that leaves 32 bits so is brought back by arm_translate(). */
#include "a32.h"

static memop mem_of(struct arm_t *t, const struct a32_insn *i, unsigned what)
{
    memop m = arm_memop(t, what & MEM_SIZE) | (what & ~(unsigned)MEM_SIZE);

    if (i->row->flags & A32_ROW_UNPRIV)
        m = (m & ~(memop)MEM_MMU_MASK) | (memop)((t->mode >> MODE_UNPRIV_SHIFT & 15) << MEM_MMU_SHIFT);
    return m;
}

static memop mem_aligned(struct arm_t *t, unsigned what, unsigned log2_align)
{
    memop m = arm_memop(t, what & MEM_SIZE) | (what & ~(unsigned)MEM_SIZE);

    return (m & ~(memop)MEM_ALIGN_MASK) | log2_align << MEM_ALIGN_SHIFT;
}

/* An address: base (I64, zero-extended) and displacement; what the base register becomes, if anything (I32). */
struct address { ir_val base; int32_t disp; ir_val writeback; };

static struct address address_imm(struct arm_t *t, const struct a32_insn *i)
{
    int32_t offset = i->u ? i->imm12 : -(int32_t)i->imm12;
    struct address a = { 0 };
    ir_val n;

    if (i->rn == 15) {
        a.base = a32_widen(t, a32_pc(t, i, true, i->p ? offset : 0));
        return a;
    }
    n = a32_r(t, i, i->rn);
    a.base = a32_widen(t, n);
    a.disp = i->p ? offset : 0;
    if (!i->p || i->w)
        a.writeback = a32_bini(t, IR_ADD, n, (uint32_t)offset);
    return a;
}

static struct address address_reg(struct arm_t *t, const struct a32_insn *i)
{
    ir_val carry, n = a32_r(t, i, i->rn), m = a32_shift_imm(t, a32_r(t, i, i->rm), i->stype, i->imm5, &carry);
    ir_val sum = a32_bin(t, i->u ? IR_ADD : IR_SUB, n, m);
    struct address a = { .base = a32_widen(t, i->p ? sum : n) };

    if (!i->p || i->w)
        a.writeback = sum;
    return a;
}

static void load(struct arm_t *t, const struct a32_insn *i, struct address a)
{
    ir_val v = ir_load(t->ir, T_I32, mem_of(t, i, (unsigned)i->row->arg), a.base, a.disp);

    if (a.writeback && i->rn != 15)
        a32_put(t, i->rn, a.writeback);
    if (i->rt == 15)
        a32_write_pc(t, v, i->rn == 13 ? EXIT_RETURN : EXIT_INDIRECT_JUMP);
    else
        a32_put(t, i->rt, v);
}

static void store(struct arm_t *t, const struct a32_insn *i, struct address a)
{
    ir_store(t->ir, mem_of(t, i, (unsigned)i->row->arg), a.base, a.disp, a32_r(t, i, i->rt));
    if (a.writeback && i->rn != 15)
        a32_put(t, i->rn, a.writeback);
}

EMIT32(load_imm) { load(t, i, address_imm(t, i)); }
EMIT32(load_reg) { load(t, i, address_reg(t, i)); }
EMIT32(store_imm) { store(t, i, address_imm(t, i)); }
EMIT32(store_reg) { store(t, i, address_reg(t, i)); }

/* ---- dual: one access of 64 bits, which is single-copy atomic with LPAE. The first word is Rt's in either endianness. */

static unsigned second(const struct a32_insn *i) { return i->row->flags & A32_ROW_PAIR ? i->rt2 : (i->rt + 1u) & 15; }

static void pair_from(struct arm_t *t, const struct a32_insn *i, ir_val v)
{
    ir_val lo = a32_un(t, IR_TRUNC, v), hi = a32_un(t, IR_TRUNC, a32_bini(t, IR_SHR, v, 32));
    bool be = t->mode & MODE_BE;

    a32_put(t, i->rt, be ? hi : lo);
    a32_put(t, second(i), be ? lo : hi);
}

static ir_val pair_of(struct arm_t *t, const struct a32_insn *i)
{
    bool be = t->mode & MODE_BE;
    ir_val lo = a32_r(t, i, be ? second(i) : i->rt), hi = a32_r(t, i, be ? i->rt : second(i));

    return a32_bin(t, IR_OR, a32_widen(t, lo), a32_bini(t, IR_SHL, a32_widen(t, hi), 32));
}

static void load_dual(struct arm_t *t, const struct a32_insn *i, struct address a)
{
    ir_val v = ir_load(t->ir, T_I64, mem_aligned(t, MEM_64, 2), a.base, a.disp);

    if (a.writeback && i->rn != 15)
        a32_put(t, i->rn, a.writeback);
    pair_from(t, i, v);
}

static void store_dual(struct arm_t *t, const struct a32_insn *i, struct address a)
{
    ir_store(t->ir, mem_aligned(t, MEM_64, 2), a.base, a.disp, pair_of(t, i));
    if (a.writeback && i->rn != 15)
        a32_put(t, i->rn, a.writeback);
}

EMIT32(loadd_imm) { load_dual(t, i, address_imm(t, i)); }
EMIT32(loadd_reg) { load_dual(t, i, address_reg(t, i)); }
EMIT32(stored_imm) { store_dual(t, i, address_imm(t, i)); }
EMIT32(stored_reg) { store_dual(t, i, address_reg(t, i)); }

/* ---- multiple */

/* Where a row of T32 leaves them to its arg: push, pop (1; 3 with LR or PC), LDM and STM of 16 bits (4), IA (8), DB (9). */
struct multiple { unsigned list, n, rn; int32_t disp, change; bool writeback; };

static struct multiple multiple_of(const struct a32_insn *i, bool load_it)
{
    struct multiple m = { .list = i->list, .rn = i->rn };
    bool up = i->u, before = i->p;

    m.writeback = i->w;
    switch (i->row->arg) {
    case 1: case 3:
        if (i->row->arg == 3)
            m.list |= load_it ? 0x8000 : 0x4000;
        up = load_it;
        before = !load_it;
        m.writeback = true;
        break;
    case 4:
        up = true;
        before = false;
        m.writeback = !load_it || !(m.list >> i->rn & 1);
        break;
    case 8: case 9:
        up = i->row->arg == 8;
        before = !up;
        break;
    }
    m.n = (unsigned)__builtin_popcount(m.list);
    m.change = up ? 4 * (int32_t)m.n : -4 * (int32_t)m.n;
    m.disp = up ? (before ? 4 : 0) : m.change + (before ? 0 : 4);
    return m;
}

/* Loads what the list names into v[], in ascending order; all before any register is written. */
static void load_list(struct arm_t *t, const struct a32_insn *i, const struct multiple *m, ir_val v[16])
{
    ir_val base = a32_widen(t, a32_r(t, i, m->rn));
    int32_t disp = m->disp;

    for (unsigned r = 0; r < 16; r++)
        if (m->list >> r & 1) {
            v[r] = ir_load(t->ir, T_I32, disp == m->disp ? mem_aligned(t, MEM_32, 2) : arm_memop(t, MEM_32), base, disp);
            disp += 4;
        }
}

static void put_base(struct arm_t *t, const struct a32_insn *i, const struct multiple *m)
{
    if (m->writeback)
        a32_put(t, m->rn, a32_bini(t, IR_ADD, a32_r(t, i, m->rn), (uint32_t)m->change));
}

EMIT32(ldm)
{
    struct multiple m = multiple_of(i, true);
    ir_val v[16];

    load_list(t, i, &m, v);
    put_base(t, i, &m);
    for (unsigned r = 0; r < 15; r++)
        if (m.list >> r & 1)
            a32_put(t, r, v[r]);
    if (m.list >> 15)
        a32_write_pc(t, v[15], m.rn == 13 ? EXIT_RETURN : EXIT_INDIRECT_JUMP);
}

static void store_list(struct arm_t *t, const struct a32_insn *i, const struct multiple *m, const ir_val v[16])
{
    ir_val base = a32_widen(t, a32_r(t, i, m->rn));
    int32_t disp = m->disp;

    for (unsigned r = 0; r < 16; r++)
        if (m->list >> r & 1) {
            ir_store(t->ir, disp == m->disp ? mem_aligned(t, MEM_32, 2) : arm_memop(t, MEM_32), base, disp, v[r]);
            disp += 4;
        }
}

EMIT32(stm)
{
    struct multiple m = multiple_of(i, false);
    ir_val v[16];

    for (unsigned r = 0; r < 16; r++)
        if (m.list >> r & 1)
            v[r] = a32_r(t, i, r);
    store_list(t, i, &m, v);
    put_base(t, i, &m);
}

enum { MODE32_USR = 16, MODE32_FIQ = 17 };

static bool banked_from_user(const struct arm_t *t, unsigned r)
{
    unsigned mode = t->mode >> MODE_MODE32_SHIFT & 31;

    return r == 13 || r == 14 || (r >= 8 && r < 13 && mode == MODE32_FIQ);
}

EMIT32(stm_user)
{
    struct multiple m = multiple_of(i, false);
    ir_val v[16];

    for (unsigned r = 0; r < 16; r++)
        if (m.list >> r & 1)
            v[r] = banked_from_user(t, r) ? arm_call(t, ARM_HELP_bank_read, a32_k(t, MODE32_USR), a32_k(t, r), 0, 0)
                                          : a32_r(t, i, r);
    store_list(t, i, &m, v);
}

EMIT32(ldm_user)
{
    struct multiple m = multiple_of(i, true);
    ir_val v[16];

    load_list(t, i, &m, v);
    for (unsigned r = 0; r < 15; r++)
        if (m.list >> r & 1 && banked_from_user(t, r))
            arm_call(t, ARM_HELP_bank_write, a32_k(t, MODE32_USR), a32_k(t, r), v[r], 0);
    for (unsigned r = 0; r < 15; r++)
        if (m.list >> r & 1 && !banked_from_user(t, r))
            a32_put(t, r, v[r]);
}

/* LDM with PC and ^: an exception return. */
EMIT32(ldm_exc)
{
    struct multiple m = multiple_of(i, true);
    ir_val v[16];

    load_list(t, i, &m, v);
    if (m.writeback)
        ir_put_early(t->ir, SLOT_R + m.rn, a32_bini(t, IR_ADD, a32_r(t, i, m.rn), (uint32_t)m.change));
    for (unsigned r = 0; r < 15; r++)
        if (m.list >> r & 1)
            ir_put_early(t->ir, SLOT_R + r, v[r]);
    a32_exit_at(t, arm_call(t, ARM_HELP_exc_return32, v[15], 0, 0, 0));
}

/* ---- exclusives: address and value are remembered, the store is a compare and swap */

#define EX(field) offsetof(struct arm_cpu, field)

/* Bytes and halfwords aligned as all exclusives; the address in I64. */
static memop exclusive_mem(struct arm_t *t, const struct a32_insn *i)
{
    unsigned what = (unsigned)i->row->arg;

    return mem_aligned(t, what, what & MEM_SIZE);
}

static ir_val exclusive_address(struct arm_t *t, const struct a32_insn *i)
{
    return a32_widen(t, a32_bini(t, IR_ADD, a32_r(t, i, i->rn), i->imm12));
}

EMIT32(ldrex)
{
    memop m = exclusive_mem(t, i);
    bool wide = (m & MEM_SIZE) == MEM_64;
    ir_val a = exclusive_address(t, i), v = ir_load(t->ir, wide ? T_I64 : T_I32, m, a, 0);

    ir_state_store(t->ir, EX(ex_addr), 3, a);
    ir_state_store(t->ir, EX(ex_bytes), 3, ir_const(t->ir, T_I64, memop_bytes(m)));
    ir_state_store(t->ir, EX(ex_value[0]), 3, wide ? v : a32_widen(t, v));
    if (wide)
        pair_from(t, i, v);
    else
        a32_put(t, i->rt, v);
}

EMIT32(strex)
{
    memop m = exclusive_mem(t, i);
    bool wide = (m & MEM_SIZE) == MEM_64;
    ir_label fail = ir_label_new(t->ir), done = ir_label_new(t->ir);
    ir_val a = exclusive_address(t, i), differs, expected, old;

    differs = a32_bin(t, IR_XOR, a, ir_state_load(t->ir, T_I64, EX(ex_addr), 3));
    differs = a32_bin(t, IR_OR, differs, a32_bini(t, IR_XOR, ir_state_load(t->ir, T_I64, EX(ex_bytes), 3), memop_bytes(m)));
    arm_brcond(t, C_NE, differs, ir_const(t->ir, T_I64, 0), fail);
    expected = ir_state_load(t->ir, T_I64, EX(ex_value[0]), 3);
    if (!wide)
        expected = a32_un(t, IR_TRUNC, expected);
    old = ir_cas(t->ir, m, exclusive_address(t, i), expected, wide ? pair_of(t, i) : a32_r(t, i, i->rt));
    ir_state_store(t->ir, EX(ex_bytes), 3, ir_const(t->ir, T_I64, 0));
    a32_put(t, i->rd, ir_setcc(t->ir, T_I32, C_NE, old, expected));
    ir_br(t->ir, done);
    arm_bind(t, fail);
    ir_state_store(t->ir, EX(ex_bytes), 3, ir_const(t->ir, T_I64, 0));
    a32_put(t, i->rd, a32_k(t, 1));
    arm_bind(t, done);
}

EMIT32(clrex) { ir_state_store(t->ir, EX(ex_bytes), 3, ir_const(t->ir, T_I64, 0)); }

EMIT32(lda) { a32_put(t, i->rt, ir_load(t->ir, T_I32, exclusive_mem(t, i) | MEM_ACQUIRE, exclusive_address(t, i), 0)); }
EMIT32(stl) { ir_store(t->ir, exclusive_mem(t, i) | MEM_RELEASE, exclusive_address(t, i), 0, a32_r(t, i, i->rt)); }

EMIT32(swp)
{
    a32_put(t, i->rt, ir_atomic(t->ir, IR_ATOMIC_XCHG, exclusive_mem(t, i), exclusive_address(t, i), a32_r(t, i, i->rm)));
}

/* ---- table branches */

EMIT32(tbb)
{
    ir_val offset = a32_r(t, i, i->rm), v;

    if (i->row->arg)
        offset = a32_bini(t, IR_SHL, offset, 1);
    v = ir_load(t->ir, T_I32, arm_memop(t, i->row->arg ? MEM_16 : MEM_8),
                a32_widen(t, a32_bin(t, IR_ADD, a32_r(t, i, i->rn), offset)), 0);
    a32_branch(t, a32_bin(t, IR_ADD, a32_r(t, i, 15), a32_bini(t, IR_SHL, v, 1)), EXIT_INDIRECT_JUMP);
}
