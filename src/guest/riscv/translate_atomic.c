/* Atomics and order: volume I, chapters 2.7 (FENCE), 14 (A), 15 (Zawrs), 16 (Zacas), 17 (Zabha), 18 (RVWMO). An AMO is one
 * atomic operation of the host, which orders everything; LR remembers what it saw and SC is a compare and swap from it. */
#include "riscv.h"

#define STATE(field) offsetof(struct riscv_cpu, field)

static unsigned log2_size(const struct riscv_insn *i) { return (unsigned)i->row->arg; }

/* Misaligned atomics fault. */
static memop atomic_memop(struct riscv_t *t, unsigned log2_bytes)
{
    return riscv_memop(t, log2_bytes) | log2_bytes << MEM_ALIGN_SHIFT;
}

static ir_val operand(struct riscv_t *t, unsigned r, unsigned log2_bytes)
{
    return log2_bytes == 3 ? x_get(t, r) : x_get32(t, r);
}

/* The old value, zero-extended from its size. */
static void put_old(struct riscv_t *t, unsigned rd, unsigned log2_bytes, ir_val old)
{
    if (log2_bytes == 3)
        x_put(t, rd, old);
    else if (log2_bytes == 2)
        x_put32(t, rd, old);
    else
        x_put32(t, rd, ir_un(t->ir, log2_bytes ? IR_SEXT16 : IR_SEXT8, old));
}

/* ---- AMO */

static void amo(struct riscv_t *t, const struct riscv_insn *i, enum ir_opcode op)
{
    unsigned n = log2_size(i);

    put_old(t, i->rd, n, ir_atomic(t->ir, op, atomic_memop(t, n), riscv_address(t, i->rs1, 0), operand(t, i->rs2, n)));
}
EMIT(amoswap) { amo(t, i, IR_ATOMIC_XCHG); }
EMIT(amoadd) { amo(t, i, IR_ATOMIC_ADD); }
EMIT(amoand) { amo(t, i, IR_ATOMIC_AND); }
EMIT(amoor) { amo(t, i, IR_ATOMIC_OR); }
EMIT(amoxor) { amo(t, i, IR_ATOMIC_XOR); }

static void amo_minmax(struct riscv_t *t, const struct riscv_insn *i, unsigned kind)
{
    unsigned n = log2_size(i);
    ir_val old = riscv_call(t, RISCV_HELP_amo_minmax, ir_const(t->ir, T_I32, n | kind << 2 | t->mmu << 4),
                            riscv_address(t, i->rs1, 0), x_get(t, i->rs2), 0);

    put_old(t, i->rd, n, n == 3 ? old : ir_un(t->ir, IR_TRUNC, old));
}
EMIT(amomin) { amo_minmax(t, i, 0); }
EMIT(amomax) { amo_minmax(t, i, 1); }
EMIT(amominu) { amo_minmax(t, i, 2); }
EMIT(amomaxu) { amo_minmax(t, i, 3); }

/* ---- Zacas */

EMIT(amocas)
{
    unsigned n = log2_size(i);

    put_old(t, i->rd, n, ir_cas(t->ir, atomic_memop(t, n), riscv_address(t, i->rs1, 0), operand(t, i->rd, n),
                                operand(t, i->rs2, n)));
}

static ir_val pair32(struct riscv_t *t, unsigned r)
{
    return r ? ir_deposit(t->ir, x_get(t, r), x_get(t, r + 1), 32, 32) : ir_const(t->ir, T_I64, 0);
}

/* Register pairs: x0 as the first of one is two zeros, and as destination nothing is written. */
EMIT(amocas_pair)
{
    ir_val old;

    if (i->row->arg == 4) {
        riscv_call(t, RISCV_HELP_amocas_pair, ir_const(t->ir, T_I32, i->rd | (unsigned)i->rs2 << 5 | t->mmu << 10),
                   riscv_address(t, i->rs1, 0), 0, 0);
        return;
    }
    old = ir_cas(t->ir, atomic_memop(t, 3), riscv_address(t, i->rs1, 0), pair32(t, i->rd), pair32(t, i->rs2));
    if (!i->rd)
        return;
    x_put(t, i->rd, old);
    x_put_whole(t, i->rd + 1, ir_bin_imm(t->ir, IR_SAR, old, 32));
}

/* ---- LR, SC */

EMIT(lr)
{
    unsigned n = log2_size(i);
    ir_val a = riscv_address(t, i->rs1, 0), v;

    if (i->rl)
        ir_fence(t->ir, FENCE_ALL);
    v = ir_load(t->ir, T_I64, atomic_memop(t, n) | (n < 3 ? MEM_SIGNED : 0) | (i->aq ? MEM_ACQUIRE : 0), a, 0);
    ir_state_store(t->ir, STATE(reserved_addr), 3, a);
    ir_state_store(t->ir, STATE(reserved_value), 3, v);
    x_put_whole(t, i->rd, v);
}

static void clear_reservation(struct riscv_t *t)
{
    ir_state_store(t->ir, STATE(reserved_addr), 3, ir_const(t->ir, T_I64, RISCV_NOT_RESERVED));
}

EMIT(sc)
{
    unsigned n = log2_size(i);
    enum ir_type type = n == 3 ? T_I64 : T_I32;
    ir_label fail = ir_label_new(t->ir), done = ir_label_new(t->ir);
    ir_val expected, old;

    ir_brcond(t->ir, C_NE, riscv_address(t, i->rs1, 0), ir_state_load(t->ir, T_I64, STATE(reserved_addr), 3), fail);
    expected = ir_state_load(t->ir, type, STATE(reserved_value), n);
    old = ir_cas(t->ir, atomic_memop(t, n), riscv_address(t, i->rs1, 0), expected, operand(t, i->rs2, n));
    clear_reservation(t);
    x_put_whole(t, i->rd, ir_setcc(t->ir, T_I64, C_NE, old, expected));
    ir_br(t->ir, done);
    ir_label_bind(t->ir, fail);
    clear_reservation(t);
    x_put_whole(t, i->rd, ir_const(t->ir, T_I64, 1));
    ir_label_bind(t->ir, done);
}

EMIT(wrs) { riscv_call(t, RISCV_HELP_wrs, ir_const(t->ir, T_I32, i->raw), 0, 0, 0); }
EMIT(pause) { riscv_call(t, RISCV_HELP_pause, 0, 0, 0, 0); }

/* ---- FENCE */

/* Predecessor and successor sets are input, output, reads, writes (8, 4, 2, 1); devices count as memory. */
EMIT(fence)
{
    unsigned before = i->pred | i->pred >> 2, after = i->succ | i->succ >> 2, orders = 0;

    if (before & 2)
        orders |= (after & 2 ? FENCE_RR : 0) | (after & 1 ? FENCE_RW : 0);
    if (before & 1)
        orders |= (after & 2 ? FENCE_WR : 0) | (after & 1 ? FENCE_WW : 0);
    ir_fence(t->ir, orders);
}
EMIT(fence_tso) { ir_fence(t->ir, FENCE_RR | FENCE_RW | FENCE_WW); }
/* Code that was written is seen at once; what was fetched ahead ends here. */
EMIT(fence_i) { riscv_call(t, RISCV_HELP_fence_i, 0, 0, 0, 0); }
