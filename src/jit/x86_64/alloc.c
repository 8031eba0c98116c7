/* Register allocation: one forward pass, values block-local, slots renamed. See docs/jit.md, "Registers". */
#include "codegen.h"

static const uint8_t gpr_short[] = { RAX, RCX, RDX, RSI, RDI, R8, R9, R10, R11, RBX, R12, R13, R14, R15 };
static const uint8_t gpr_long[] = { RBX, R12, R13, R14, R15, R8, R9, R10, R11, RDI, RSI, RDX, RCX, RAX };
enum { GPR_COUNT = sizeof(gpr_short) };

static bool alive(const struct codegen *b, const struct value *x) { return x->last >= b->i; }
static bool alive_after(const struct codegen *b, const struct value *x) { return x->last > b->i; }

static void reg_assign(struct codegen *b, unsigned r, ir_val v)
{
    b->regs[r] = v;
    b->busy |= 1u << r;
    b->val[v].reg = r;
}

/* Its value is elsewhere now. */
static void reg_left(struct codegen *b, unsigned r)
{
    b->regs[r] = 0;
    b->busy &= ~(1u << r);
}

static void reg_release(struct codegen *b, unsigned r)
{
    if (b->regs[r])
        b->val[b->regs[r]].reg = NOREG;
    reg_left(b, r);
}

/* Of those values that no slot has. */
static void regs_release_unpinned(struct codegen *b, uint32_t among)
{
    for (uint32_t m = among & b->busy; m; m &= m - 1) {
        unsigned r = __builtin_ctz(m);

        if (!b->val[b->regs[r]].pins)
            reg_release(b, r);
    }
}

static void cur_set(struct codegen *b, unsigned slot, ir_val v)
{
    b->cur[slot] = v;
    bit64_set(b->known, slot);
}

static void memval_set(struct codegen *b, unsigned slot, ir_val v)
{
    b->memval[slot] = v;
    b->val[v].mem_slot = slot + 1;
    bit64_set(b->known, slot);
}

ir_val value_new(struct codegen *b, unsigned type)
{
    ir_val v = b->nvals;

    if (b->nvals >= b->cap_vals)
        codegen_overflow(b);
    b->nvals++;
    b->val[v] = (struct value){ .reg = NOREG, .type = type, .spill = -1, .root = v };
    return v;
}

void move_reg(struct codegen *b, unsigned type, unsigned dst, unsigned src)
{
    if (dst == src)
        return;
    if (type == T_V256)
        vex_rr(&b->c, M_0F | P_66 | 0x6f, 1, dst, 0, src);
    else if (type == T_V128 && b->host->avx)
        vex_rr(&b->c, M_0F | P_66 | 0x6f, 0, dst, 0, src);
    else if (type == T_V128)
        op_rr(&b->c, M_0F | P_66 | 0x6f, dst, src);
    else
        mov_rr(&b->c, true, dst, src);
}

void vec_load(struct codegen *b, unsigned bytes, unsigned reg, struct mem m)
{
    uint32_t code = bytes == 4 ? M_0F | P_66 | 0x6e : bytes == 8 ? M_0F | P_F3 | 0x7e : M_0F | P_F3 | 0x6f;

    if (b->host->avx)
        vex_rm(&b->c, code, bytes == 32, reg, 0, m);
    else
        op_rm(&b->c, code, reg, m);
}

void vec_store(struct codegen *b, unsigned bytes, struct mem m, unsigned reg)
{
    uint32_t code = bytes == 4 ? M_0F | P_66 | 0x7e : bytes == 8 ? M_0F | P_66 | 0xd6 : M_0F | P_F3 | 0x7f;

    if (b->host->avx)
        vex_rm(&b->c, code, bytes == 32, reg, 0, m);
    else
        op_rm(&b->c, code, reg, m);
}

/* ---- spill places */

struct mem spill_mem(unsigned type, int spill)
{
    return mem_at(RSP, type_is_vec(type) ? FRAME_VECS + 32 * spill : FRAME_INTS + 8 * spill);
}

static int spill_new(struct codegen *b, unsigned type)
{
    uint64_t *used = type_is_vec(type) ? &b->spills_vec : &b->spills_int;
    int n = __builtin_ctzll(~*used);

    if (n >= (type_is_vec(type) ? FRAME_SPILL_VECS : FRAME_SPILL_INTS))
        codegen_overflow(b);
    *used |= 1ull << n;
    return n;
}

static void spill_free(struct codegen *b, struct value *x)
{
    if (x->spill < 0)
        return;
    if (type_is_vec(x->type))
        b->spills_vec &= ~(1ull << x->spill);
    else
        b->spills_int &= ~(1ull << x->spill);
    x->spill = -1;
}

/* ---- slots and memory */

void load_slot(struct codegen *b, unsigned reg, unsigned slot)
{
    const struct ir_slot *s = &b->slots[slot];

    if (type_is_vec(s->type))
        vec_load(b, ir_slot_bytes(s), reg, state_mem(s->offset));
    else
        mov_load(&b->c, s->type == T_I64, reg, state_mem(s->offset));
}

/* Memory of the slot holds the value: all of it, unless the slot took only its low part. */
static void slot_holds(struct codegen *b, unsigned slot, ir_val v)
{
    if (b->slots[slot].type < b->val[v].type || b->slots[slot].part)
        return;
    memval_set(b, slot, v);
}

/* Memory of the slot gets its current value. */
void slot_flush(struct codegen *b, unsigned slot)
{
    const struct ir_slot *s = &b->slots[slot];
    ir_val v = b->cur[slot];
    struct value *x = &b->val[v];

    if (!BIT64(b->dirty, slot))
        return;
    bit64_clear(b->dirty, slot);
    if (x->reg != NOREG) {
        if (type_is_vec(s->type))
            vec_store(b, ir_slot_bytes(s), state_mem(s->offset), x->reg);
        else
            mov_store(&b->c, s->type == T_I64, state_mem(s->offset), x->reg);
    } else if (s->type == T_I32 || (int64_t)x->imm == (int32_t)x->imm) {
        op_rm(&b->c, 0xc7 | OP_WIDE(s->type == T_I64), 0, state_mem(s->offset));
        put32(&b->c, x->imm);
    } else {
        op_rm(&b->c, 0xc7, 0, state_mem(s->offset));
        put32(&b->c, x->imm);
        op_rm(&b->c, 0xc7, 0, state_mem(s->offset + 4));
        put32(&b->c, x->imm >> 32);
    }
    slot_holds(b, slot, v);
}

void slots_flush_all(struct codegen *b)
{
    FOR_SLOTS(s, b->dirty)
        slot_flush(b, s);
}

/* The value leaves its register; what is still needed of it is kept elsewhere. */
static void evict(struct codegen *b, unsigned r)
{
    ir_val v = b->regs[r];
    struct value *x = &b->val[v];

    if (x->flags & (VAL_CONST | VAL_MEMO)) {
        reg_release(b, r);
        return;
    }
    if (x->pins) {
        for (unsigned s = 0, left = x->pins; left; s++) {
            if (b->cur[s] != v)
                continue;
            left--;
            slot_flush(b, s);
            slot_holds(b, s, v);
            if (b->memval[s] != v) {    /* only part of it went there */
                b->cur[s] = 0;
                x->pins--;
            }
        }
    }
    if (alive(b, x) && !x->mem_slot && x->spill < 0) {
        x->spill = spill_new(b, x->type);
        spill_store(b, r, x->type, x->spill);
    }
    reg_release(b, r);
}

void spill_store(struct codegen *b, unsigned reg, unsigned type, int spill)
{
    if (type_is_vec(type))
        vec_store(b, ir_type_bytes(type), spill_mem(type, spill), reg);
    else
        mov_store(&b->c, true, spill_mem(type, spill), reg);
}

static bool slot_pinned_dirty(const struct codegen *b, ir_val v, unsigned pins)
{
    for (unsigned s = 0; pins; s++) {
        if (b->cur[s] != v)
            continue;
        if (BIT64(b->dirty, s))
            return true;
        pins--;
    }
    return false;
}

static unsigned evict_cost(const struct codegen *b, unsigned r)
{
    const struct value *x = &b->val[b->regs[r]];
    unsigned cost;

    if (x->flags & VAL_MEMO)
        return b->i > x->last ? 0 : 1 << 16;
    if (x->flags & VAL_CONST)
        cost = 1;
    else if (x->pins)
        cost = slot_pinned_dirty(b, b->regs[r], x->pins) ? 6 : 3;
    else if (x->mem_slot || x->spill >= 0)
        cost = 4;
    else
        cost = 9;
    if (alive(b, x))
        cost += 3;
    return cost << 16 | (0xffff - x->last);
}

static unsigned pick_victim(struct codegen *b, uint32_t allowed)
{
    unsigned best = NOREG, best_cost = ~0u;

    for (uint32_t m = allowed & ~b->locked; m; m &= m - 1) {
        unsigned r = __builtin_ctz(m), cost = evict_cost(b, r);

        if (cost < best_cost)
            best = r, best_cost = cost;
    }
    if (best == NOREG)
        codegen_overflow(b);
    return best;
}

/* A register without content, or NOREG. Homes are taken last. `lasting`: prefer those that calls leave alone. */
static unsigned find_free(struct codegen *b, uint32_t allowed, bool lasting)
{
    uint32_t free = allowed & ~b->locked & ~b->busy;

    if (!free)
        return NOREG;
    if (free & ~(b->home.regs | b->kept.regs))
        free &= ~(b->home.regs | b->kept.regs);
    if (allowed & VEC_ALL)
        return __builtin_ctz(free);
    for (unsigned i = 0; i < GPR_COUNT; i++) {
        unsigned r = (lasting ? gpr_long : gpr_short)[i];

        if (free >> r & 1)
            return r;
    }
    return NOREG;
}

static unsigned alloc(struct codegen *b, uint32_t allowed, bool lasting)
{
    unsigned r = find_free(b, allowed, lasting);

    if (r == NOREG) {
        r = pick_victim(b, allowed);
        evict(b, r);
    }
    return r;
}

static uint32_t class_of(unsigned type) { return type_is_vec(type) ? VEC_ALL : GPR_ALL; }

/* Content of v, which has no register, into r. */
static void materialize(struct codegen *b, struct value *x, unsigned r)
{
    if (x->flags & VAL_CONST)
        mov_imm(&b->c, r, x->imm);
    else if (x->mem_slot)
        load_slot(b, r, x->mem_slot - 1);
    else if (x->spill >= 0 && type_is_vec(x->type))
        vec_load(b, ir_type_bytes(x->type), r, spill_mem(x->type, x->spill));
    else if (x->spill >= 0)
        mov_load(&b->c, true, r, spill_mem(x->type, x->spill));
    else
        assert(!"value without a place");
}

unsigned use_reg(struct codegen *b, ir_val v)
{
    ir_val root = val_root(b, v);
    struct value *x = &b->val[root];

    if (x->reg == NOREG) {
        unsigned r = alloc(b, class_of(x->type), x->pins || x->hint);

        materialize(b, x, r);
        if (x->flags & VAL_CONST && x->imm <= UINT32_MAX)
            x->flags |= VAL_ZX;
        reg_assign(b, r, root);
    }
    b->locked |= 1u << x->reg;
    return x->reg;
}

bool use_mem(struct codegen *b, ir_val v, enum ir_type type, struct mem *m)
{
    struct value *x = value_of(b, v);

    /* A value of another type may share the slot's, by extension or truncation: reading less of it is right. */
    if (!x->mem_slot || b->slots[x->mem_slot - 1].type < type || b->slots[x->mem_slot - 1].part)
        return false;
    if (x->reg != NOREG || x->flags & VAL_CONST || alive_after(b, x))
        return false;
    *m = state_mem(b->slots[x->mem_slot - 1].offset);
    return true;
}

bool val_imm32(struct codegen *b, ir_val v, bool w, int32_t *imm)
{
    uint64_t k = 0;

    if (!val_const(b, v, &k) || (w && (int64_t)k != (int32_t)k))
        return false;
    *imm = k;
    return true;
}

unsigned temp_reg(struct codegen *b, uint32_t allowed)
{
    unsigned r = alloc(b, allowed, false);

    b->locked |= 1u << r;
    b->temps |= 1u << r;
    return r;
}

/* Moves what r holds elsewhere; r keeps its content, but is nobody's. */
static void relocate(struct codegen *b, unsigned r, uint32_t avoid)
{
    ir_val v = b->regs[r];
    struct value *x = &b->val[v];
    unsigned to;

    if (!x->pins && !alive(b, x)) {
        reg_release(b, r);
        return;
    }
    to = x->flags & (VAL_CONST | VAL_MEMO) ? NOREG : find_free(b, class_of(x->type) & ~avoid & ~(1u << r), x->pins);
    if (to == NOREG) {
        evict(b, r);
        return;
    }
    move_reg(b, x->type, to, r);
    reg_left(b, r);
    reg_assign(b, to, v);
    if (b->locked >> r & 1)
        b->locked |= 1u << to;
}

void take_reg(struct codegen *b, unsigned reg)
{
    if (b->regs[reg])
        relocate(b, reg, 0);
    b->locked |= 1u << reg;
    b->temps |= 1u << reg;
}

/* More than one operand of this op is that value. */
static bool operand_twice(struct codegen *b, const struct value *x)
{
    const struct ir_op *op = b->op;
    unsigned n = 0;

    n += op->a && value_of(b, op->a) == x;
    n += op->b && value_of(b, op->b) == x;
    n += op->c && value_of(b, op->c) == x;
    return n > 1;
}

unsigned use_in(struct codegen *b, ir_val v, unsigned reg)
{
    struct value *x = value_of(b, v);

    if (x->reg == reg) {
        if (x->pins || alive_after(b, x) || operand_twice(b, x))
            relocate(b, reg, 0);
        else
            reg_release(b, reg);
    } else {
        if (b->regs[reg])
            relocate(b, reg, 0);
        if (x->reg != NOREG)
            move_reg(b, x->type, reg, x->reg);
        else
            materialize(b, x, reg);
    }
    b->locked |= 1u << reg;
    b->temps |= 1u << reg;
    return reg;
}

bool dies_here(struct codegen *b, ir_val v)
{
    struct value *x = value_of(b, v);

    return !x->pins && !alive_after(b, x);
}

/* op->dst is going to be PUT to a slot, and nobody looks at the slot before: the old value need not be kept. */
static unsigned slot_release_early(struct codegen *b)
{
    struct value *x = &b->val[b->op->dst];
    unsigned slot = x->hint - 1;
    ir_val old;

    if (!x->hint)
        return NOREG;
    old = b->cur[slot];
    if (old && b->val[old].pins == 1 && !alive_after(b, &b->val[old])) {
        b->val[old].pins = 0;
        b->cur[slot] = 0;
        bit64_clear(b->dirty, slot);
        if (b->memval[slot] == old) {
            /* an operand that lies only in memory is still read by this op */
            if (!(b->val[old].reg == NOREG && alive(b, &b->val[old]))) {
                b->memval[slot] = 0;
                b->val[old].mem_slot = 0;
            }
        }
        if (b->val[old].reg != NOREG && !(b->locked >> b->val[old].reg & 1))
            reg_release(b, b->val[old].reg);
    }
    return b->home.reg[slot];
}

static void def_begin(struct codegen *b)
{
    struct value *x = &b->val[b->op->dst];

    x->type = b->op->type;
    if (b->op->type == T_I32)
        x->flags |= VAL_ZX;
}

static void def_finish(struct codegen *b, unsigned r)
{
    if (b->regs[r])
        reg_release(b, r);
    reg_assign(b, r, b->op->dst);
    b->locked |= 1u << r;
    b->temps &= ~(1u << r);
}

/* Registers of this op's operands that die with it. */
static uint32_t dying_regs(struct codegen *b, uint32_t class)
{
    uint32_t dying = 0;

    for (uint32_t m = b->locked & ~b->temps & class; m; m &= m - 1) {
        ir_val v = b->regs[__builtin_ctz(m)];

        if (v && !b->val[v].pins && !alive_after(b, &b->val[v]))
            dying |= m & -m;
    }
    return dying;
}

static bool reg_free_for_def(struct codegen *b, unsigned r, uint32_t dying)
{
    if (r == NOREG)
        return false;
    return dying >> r & 1 || (!(b->locked >> r & 1) && !b->regs[r]);
}

unsigned def_reg(struct codegen *b)
{
    uint32_t class = class_of(b->op->type), dying;
    unsigned home = slot_release_early(b), r;

    def_begin(b);
    dying = dying_regs(b, class);
    if (reg_free_for_def(b, home, dying))
        r = home;
    else if (dying & ~b->home.regs)
        r = __builtin_ctz(dying & ~b->home.regs);
    else
        r = alloc(b, class, b->val[b->op->dst].hint);
    def_finish(b, r);
    return r;
}

unsigned def_reg_early(struct codegen *b)
{
    unsigned home = slot_release_early(b), r;

    def_begin(b);
    r = reg_free_for_def(b, home, 0) ? home : alloc(b, class_of(b->op->type), b->val[b->op->dst].hint);
    def_finish(b, r);
    return r;
}

unsigned def_like(struct codegen *b, ir_val a)
{
    struct value *x = value_of(b, a);
    unsigned home = slot_release_early(b), r;
    bool dies = !x->pins && !alive_after(b, x);

    def_begin(b);
    if (reg_free_for_def(b, home, 0) && home != x->reg) {
        r = home;
    } else if (dies && x->reg != NOREG) {
        def_finish(b, x->reg);
        return b->val[b->op->dst].reg;
    } else {
        r = alloc(b, class_of(b->op->type), b->val[b->op->dst].hint);
    }
    if (x->reg != NOREG)
        move_reg(b, b->op->type, r, x->reg);
    else
        materialize(b, x, r);
    def_finish(b, r);
    return r;
}

void def_in(struct codegen *b, unsigned reg)
{
    slot_release_early(b);
    def_begin(b);
    def_finish(b, reg);
}

/* op->dst goes to its slot's home if that is free, else it is in this temporary. Sources have been read. */
unsigned def_home_or(struct codegen *b, unsigned reg)
{
    unsigned home = slot_release_early(b);

    def_begin(b);
    if (reg_free_for_def(b, home, dying_regs(b, class_of(b->op->type))))
        reg = home;
    def_finish(b, reg);
    return reg;
}

void def_alias(struct codegen *b, ir_val dst, ir_val a)
{
    ir_val root = val_root(b, a);

    b->val[dst].root = root;
    if (b->val[root].last < b->val[dst].last)
        b->val[root].last = b->val[dst].last;
}

void def_const(struct codegen *b, ir_val dst, uint64_t imm)
{
    b->val[dst].flags |= VAL_CONST;
    b->val[dst].imm = imm;
}

static void value_maybe_dead(struct codegen *b, ir_val v)
{
    struct value *x = &b->val[v];

    if (x->pins || alive_after(b, x))
        return;
    if (x->reg != NOREG)
        reg_release(b, x->reg);
    spill_free(b, x);
    if (x->mem_slot && b->memval[x->mem_slot - 1] == v)
        b->memval[x->mem_slot - 1] = 0;
    x->mem_slot = 0;
}

void op_end(struct codegen *b)
{
    const struct ir_op *op = b->op;
    const ir_val used[5] = { op->a, op->b, op->c, op->d, op->dst };

    for (unsigned n = 0; n < 5; n++)
        if (used[n])
            value_maybe_dead(b, val_root(b, used[n]));
    b->locked = b->temps = 0;
}

/* ---- slots */

void slot_get(struct codegen *b, ir_val dst, unsigned slot)
{
    if (b->cur[slot]) {
        def_alias(b, dst, b->cur[slot]);
        return;
    }
    b->val[dst].type = b->slots[slot].type;
    if (b->slots[slot].type == T_I32)
        b->val[dst].flags |= VAL_ZX;    /* loaded by a 32-bit move */
    cur_set(b, slot, dst);
    b->val[dst].pins = 1;
    memval_set(b, slot, dst);
}

/* Memory of the slot is about to stop holding what it holds: a value that lies only there gets a register. */
static void memval_rescue(struct codegen *b, unsigned slot)
{
    ir_val w = b->memval[slot];
    struct value *x = &b->val[w];

    if (!w)
        return;
    if ((alive_after(b, x) || x->pins > (b->cur[slot] == w)) && x->reg == NOREG && !(x->flags & VAL_CONST)) {
        unsigned r = alloc(b, class_of(x->type), x->pins);

        if (b->memval[slot] == w && x->reg == NOREG) {
            load_slot(b, r, slot);
            reg_assign(b, r, w);
        }
    }
    b->memval[slot] = 0;
    x->mem_slot = 0;
}

void slot_put(struct codegen *b, unsigned slot, ir_val v)
{
    ir_val root = val_root(b, v), old = b->cur[slot];
    struct value *x = &b->val[root];

    if (old == root)
        return;
    if (!(x->flags & VAL_CONST))
        use_reg(b, v);
    if (b->memval[slot] != root)
        memval_rescue(b, slot);
    if (old) {
        b->val[old].pins--;
        value_maybe_dead(b, old);
    }
    cur_set(b, slot, root);
    x->pins++;
    if (b->memval[slot] == root)
        bit64_clear(b->dirty, slot);
    else
        bit64_set(b->dirty, slot);
}

void slots_forget_all(struct codegen *b)
{
    FOR_SLOTS(s, b->known) {
        ir_val v = b->cur[s];

        memval_rescue(b, s);
        if (v) {
            b->cur[s] = 0;
            b->val[v].pins--;
            value_maybe_dead(b, v);
        }
    }
    memset(b->dirty, 0, sizeof(b->dirty));
}

/* ---- calls */

void evict_caller_saved(struct codegen *b)
{
    for (uint32_t m = b->busy & ~GPR_CALLEE; m; m &= m - 1) {
        unsigned r = __builtin_ctz(m), to = NOREG;
        ir_val v = b->regs[r];
        struct value *x = &b->val[v];

        if (!v || x->flags & VAL_MEMO)
            continue;
        if (!x->pins && !alive_after(b, x))
            continue;                   /* an argument; op_end() frees it */
        if (r < 16 && !(x->flags & VAL_CONST) && !x->pins)
            to = find_free(b, GPR_CALLEE, true);
        if (to != NOREG) {
            move_reg(b, x->type, to, r);
            reg_left(b, r);
            reg_assign(b, to, v);
        } else {
            evict(b, r);
        }
    }
}

/* ---- blocks */

void value_place(struct codegen *b, ir_val v, unsigned reg)
{
    reg_assign(b, reg, v);
    b->temps &= ~(1u << reg);
}

void value_drop(struct codegen *b, ir_val v)
{
    reg_release(b, b->val[v].reg);
}

void memo_forget(struct codegen *b)
{
    for (unsigned n = 0; n < MEMOS; n++) {
        ir_val p = b->memo[n].addend;

        if (p && b->val[p].reg != NOREG)
            reg_release(b, b->val[p].reg);
        b->memo[n].addend = 0;
    }
    memset(b->aligned, 0, sizeof(b->aligned));
}

void state_reset(struct codegen *b)
{
    memo_forget(b);
    for (uint32_t m = b->busy; m; m &= m - 1)
        reg_release(b, __builtin_ctz(m));
    FOR_SLOTS(s, b->known) {
        if (b->cur[s])
            b->val[b->cur[s]].pins = 0;
        if (b->memval[s])
            b->val[b->memval[s]].mem_slot = 0;
        b->cur[s] = b->memval[s] = 0;
    }
    memset(b->known, 0, sizeof(b->known));
    memset(b->dirty, 0, sizeof(b->dirty));
    b->spills_int = b->spills_vec = 0;
    b->locked = b->temps = 0;
}

/* Only what slots hold survives the end of a basic block. */
void block_end(struct codegen *b)
{
    memo_forget(b);
    regs_release_unpinned(b, b->busy);
    FOR_SLOTS(s, b->known) {
        ir_val v = b->cur[s], w = b->memval[s];

        if (v) {
            b->val[v].spill = -1;
            b->val[v].last = b->i;
        }
        if (w && w != v) {
            b->val[w].mem_slot = 0;
            b->memval[s] = 0;
        }
    }
    b->spills_int = b->spills_vec = 0;
}

int snapshot_take(struct codegen *b)
{
    struct snapshot *s;

    if (b->nsnap == MAX_SNAPSHOTS)
        codegen_overflow(b);
    s = &b->snap[b->nsnap];
    memcpy(s->cur, b->cur, b->nslots * sizeof(ir_val));
    memcpy(s->dirty, b->dirty, sizeof(s->dirty));
    memcpy(s->known, b->known, sizeof(s->known));
    memcpy(s->regs, b->regs, sizeof(s->regs));
    s->busy = b->busy;
    return b->nsnap++;
}

/* What lay only in memory at the time is memory's again; a value that is in no register of the snapshot is not current. */
void snapshot_restore(struct codegen *b, int snap)
{
    const struct snapshot *s = &b->snap[snap];

    state_reset(b);
    for (uint32_t m = s->busy; m; m &= m - 1)
        reg_assign(b, __builtin_ctz(m), s->regs[__builtin_ctz(m)]);
    FOR_SLOTS(n, s->known) {
        ir_val v = s->cur[n];
        struct value *x = &b->val[v];

        if (!v || (x->reg == NOREG && !(x->flags & VAL_CONST)))
            continue;
        cur_set(b, n, v);
        x->pins++;
        x->spill = -1;
        x->last = b->i;
        if (!BIT64(s->dirty, n))
            slot_holds(b, n, v);
    }
    memcpy(b->dirty, s->dirty, sizeof(s->dirty));
    regs_release_unpinned(b, b->busy);
}

/* What holds at a label of several predecessors, settled when the first of them is emitted. */
static void label_fix(struct codegen *b, struct label *l)
{
    l->fixed = true;
    for (uint32_t m = b->home.regs; m; m &= m - 1) {
        unsigned h = __builtin_ctz(m), s = b->home.slot[h];
        ir_val v = b->cur[s];

        if (l->backward) {
            l->valid |= 1u << h;
            if (BIT64(b->written, s))
                l->dirty |= 1u << h;
        } else if (v && BIT64(l->live, s) && (b->val[v].reg != NOREG || BIT64(b->dirty, s))) {
            l->valid |= 1u << h;
            if (BIT64(b->dirty, s))
                l->dirty |= 1u << h;
        }
    }
}

/* v lost the slot whose memory it was known to lie in: another clean one that it is in, if any. */
static void mem_slot_again(struct codegen *b, ir_val v)
{
    b->val[v].mem_slot = 0;
    FOR_SLOTS(s, b->known) {
        if (b->memval[s] == v) {
            b->val[v].mem_slot = s + 1;
            return;
        }
    }
}

/* Slot s goes to register h. */
static void home_fill(struct codegen *b, unsigned h, unsigned s)
{
    ir_val v = b->cur[s];
    struct value *x = &b->val[v];

    if (v && x->pins == 1) {
        if (x->reg != NOREG) {
            unsigned old = x->reg;

            move_reg(b, x->type, h, old);
            reg_left(b, old);
            if (b->locked >> old & 1)
                b->locked &= ~(1u << old);
        } else {
            materialize(b, x, h);
        }
        reg_assign(b, h, v);
        return;
    }
    if (v) {                            /* held by several slots: this one gets a copy */
        ir_val copy = value_new(b, x->type);

        if (x->reg != NOREG)
            move_reg(b, x->type, h, x->reg);
        else
            materialize(b, x, h);
        x->pins--;
        b->cur[s] = 0;
        if (b->memval[s] == v) {
            memval_set(b, s, copy);
            if (x->mem_slot == s + 1)
                mem_slot_again(b, v);
        }
        v = copy;
    } else {
        v = value_new(b, b->slots[s].type);
        load_slot(b, h, s);
        memval_set(b, s, v);
    }
    cur_set(b, s, v);
    b->val[v].pins = 1;
    reg_assign(b, h, v);
}

/* Brings slots to where the label wants them. The operands of the branch stay alive. */
void canonicalize(struct codegen *b, struct label *l)
{
    uint32_t locked = b->locked, done = 0;
    const struct places *at = l->at;

    if (!l->fixed)
        label_fix(b, l);
    FOR_SLOTS(s, b->dirty) {
        unsigned h = at->reg[s];

        if (h != NOREG && l->valid >> h & 1 ? !(l->dirty >> h & 1) : BIT64(l->live, s))
            slot_flush(b, s);
    }
    for (uint32_t m = l->valid; m; m &= m - 1) {
        unsigned h = __builtin_ctz(m);
        ir_val v = b->cur[at->slot[h]];

        if (v && b->val[v].reg == h)
            done |= 1u << h;
    }
    b->locked |= done;
    for (uint32_t m = l->valid & ~done; m; m &= m - 1) {
        unsigned h = __builtin_ctz(m), s = at->slot[h];

        if (b->regs[h] && b->val[b->cur[s]].reg != h)
            relocate(b, h, l->valid);
        if (b->val[b->cur[s]].reg != h || !b->cur[s])
            home_fill(b, h, s);
        b->locked |= 1u << h;
    }
    b->locked = locked;
}

void bind_canonical(struct codegen *b, struct label *l)
{
    state_reset(b);
    for (uint32_t m = l->valid; m; m &= m - 1) {
        unsigned h = __builtin_ctz(m), s = l->at->slot[h];
        ir_val v = value_new(b, b->slots[s].type);

        cur_set(b, s, v);
        b->val[v].pins = 1;
        reg_assign(b, h, v);
        if (l->dirty >> h & 1)
            bit64_set(b->dirty, s);
        else
            memval_set(b, s, v);
    }
}

void canonicalize_exit(struct codegen *b)
{
    FOR_SLOTS(s, b->known) {
        ir_val v = b->cur[s];

        if (!v || b->kept.reg[s] != NOREG)
            continue;
        slot_flush(b, s);
        b->cur[s] = 0;
        if (!--b->val[v].pins && b->val[v].reg != NOREG)
            reg_release(b, b->val[v].reg);
    }
    regs_release_unpinned(b, b->busy & ~b->locked);
    canonicalize(b, &b->outside);
}
