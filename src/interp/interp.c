/* Regions interpreted: threaded dispatch on the op and its type, an array of values, the guest's state in memory. */
#include <glib.h>
#include <string.h>
#include "rhea/guest/guest.h"
#include "rhea/interp/interp.h"
#include "rhea/ir/eval.h"
#include "rhea/ir/vop.h"

typedef struct { _Alignas(32) uint8_t b[32]; } vec;

/* A run of a region: what the out-of-line functions need of it. */
struct run {
    struct cpu *cpu;
    const struct ir *ir;
    const struct ir_analysis *an;       /* NULL: the plain interpreter */
    uint64_t *val;                      /* [nvals] integers */
    vec *vec;                           /* [nvals] vectors */
    /* sunk PUTs in force: op indexes */
    unsigned nsunk;
    uint16_t sunk[IR_MAX_SLOTS];
    vec covered[IR_MAX_SLOTS];          /* what they cover up while a fault point runs */
};

static inline void *state_at(struct cpu *cpu, uint64_t offset) { return (uint8_t *)cpu + offset; }

static inline void *slot_at(const struct run *r, unsigned slot)
{
    return state_at(r->cpu, r->ir->guest->slots[slot].offset);
}

static inline unsigned slot_bytes(const struct run *r, unsigned slot) { return ir_slot_bytes(&r->ir->guest->slots[slot]); }

/* ---- memory */

static inline void check_alignment(struct cpu *cpu, memop m, uint64_t va, enum mmu_access access)
{
    unsigned align = (m & MEM_ALIGN_MASK) >> MEM_ALIGN_SHIFT;

    if (align && va & ((UINT64_C(1) << align) - 1))
        cpu->guest->unaligned(cpu, va, access);
}

static uint64_t extend(uint64_t v, memop m)
{
    unsigned unused = 64 - 8 * memop_bytes(m);

    return m & MEM_SIGNED ? (uint64_t)((int64_t)(v << unused) >> unused) : v << unused >> unused;
}

static inline uint64_t address(const struct run *r, const struct ir_op *op)
{
    uint64_t va = r->val[op->a] + (int64_t)op->disp;

    return op->mem & MEM_WRAP_32 ? (uint32_t)va : va;
}

static inline uint64_t load_int(const struct run *r, const struct ir_op *op)
{
    uint64_t va = address(r, op);

    check_alignment(r->cpu, op->mem, va, ACCESS_READ);
    return ir_trim(op->type, extend(cpu_load(r->cpu, va, op->mem), op->mem));
}

static inline void store_int(const struct run *r, const struct ir_op *op)
{
    uint64_t va = address(r, op);

    check_alignment(r->cpu, op->mem, va, ACCESS_WRITE);
    cpu_store(r->cpu, va, op->mem, r->val[op->b] & ir_low_mask(8 * memop_bytes(op->mem)));
}

static void bytes_reverse(uint8_t *p, unsigned n)
{
    for (unsigned i = 0; i < n / 2; i++) {
        uint8_t t = p[i];

        p[i] = p[n - 1 - i];
        p[n - 1 - i] = t;
    }
}

/* Vectors of 4 or 8 bytes are the low lane, the rest zero. */
static void load_vec(const struct run *r, const struct ir_op *op)
{
    uint64_t va = address(r, op);
    unsigned n = memop_bytes(op->mem);
    vec v = { { 0 } };

    check_alignment(r->cpu, op->mem, va, ACCESS_READ);
    if (n <= 8) {
        uint64_t low = extend(cpu_load(r->cpu, va, op->mem), op->mem & ~(memop)MEM_SIGNED);

        memcpy(v.b, &low, 8);
    } else {
        cpu_load_bytes(r->cpu, va, v.b, n, memop_mmu(op->mem));
        if (op->mem & MEM_BE)
            bytes_reverse(v.b, n);
    }
    r->vec[op->dst] = v;
}

static void store_vec(const struct run *r, const struct ir_op *op)
{
    uint64_t va = address(r, op), low;
    unsigned n = memop_bytes(op->mem);
    vec v = r->vec[op->b];

    check_alignment(r->cpu, op->mem, va, ACCESS_WRITE);
    if (n <= 8) {
        memcpy(&low, v.b, 8);
        cpu_store(r->cpu, va, op->mem, low & ir_low_mask(8 * n));
        return;
    }
    if (op->mem & MEM_BE)
        bytes_reverse(v.b, n);
    cpu_store_bytes(r->cpu, va, v.b, n, memop_mmu(op->mem));
}

static uint64_t atomic(const struct run *r, const struct ir_op *op)
{
    uint64_t va = address(r, op), mask = ir_low_mask(8 * memop_bytes(op->mem));
    bool cas = op->op == IR_ATOMIC_CAS;
    uint64_t v = r->val[cas ? op->c : op->b] & mask, cmp = cas ? r->val[op->b] & mask : 0;

    check_alignment(r->cpu, op->mem, va, ACCESS_WRITE);
    return cpu_atomic(r->cpu, op->op, va, op->mem, v, cmp) & mask;
}

/* ---- calls */

/* Integer arguments and pointers go in the same registers in every ABI we run on, so one shape serves all helpers:
 * cpu, then the vector result's place if there is one, then the arguments. */
typedef uint64_t helper_fn(struct cpu *, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);

static void call_helper(const struct run *r, const struct ir_op *op)
{
    const struct ir_helper *h = r->ir->helpers[op->aux];
    helper_fn *fn = (helper_fn *)h->fn;
    bool vec_result = h->ret >= T_V128;
    uint64_t arg[5] = { 0 }, result;
    vec copy[4], out;
    unsigned n = 0;

    if (vec_result)
        arg[n++] = (uintptr_t)&out;
    for (unsigned i = 0; i < h->nargs && i < 4; i++) {
        if (h->args[i] >= T_V128) {
            copy[i] = r->vec[op->arg[i]];
            arg[n++] = (uintptr_t)&copy[i];
        } else {
            arg[n++] = r->val[op->arg[i]];
        }
    }
    result = fn(r->cpu, arg[0], arg[1], arg[2], arg[3], arg[4]);
    if (vec_result)
        r->vec[op->dst] = out;
    else if (h->ret)
        r->val[op->dst] = ir_trim(h->ret, result);
}

static void call_host(const struct run *r, const struct ir_op *op)
{
    uint64_t va = op->a ? r->val[op->a] + (uint64_t)(int64_t)op->disp : 0;
    uint64_t result = ((helper_fn *)r->ir->helpers[op->aux]->fn)(r->cpu, (uint32_t)r->val[op->b], op->c ? r->val[op->c] : 0,
                                                                 op->mem & MEM_WRAP_32 ? (uint32_t)va : va, 0, 0);

    if (op->dst)
        r->val[op->dst] = ir_trim(op->type, result);
}

static void call_vguard(const struct run *r, const struct ir_op *op)
{
    struct ir_guarded by = ir_guarded(op->imm);
    const uint8_t *arg[3] = { NULL };
    vec out = r->vec[op->a];

    for (unsigned i = 0; i < 3; i++)
        arg[i] = op->arg[i] ? r->vec[op->arg[i]].b : NULL;
    if (ir_fix_applies(r->cpu, (enum ir_fix_cond)by.cond, op->type, out.b, arg[0], arg[1], arg[2]))
        r->ir->guest->fixes[by.fix].fn(r->cpu, out.b, arg[0], arg[1], arg[2], by.fix_imm);
    else
        vop_info[op->aux].fn(r->cpu, out.b, arg[0], arg[1], arg[2], by.imm, 16);
    r->vec[op->dst] = out;
}

static void call_vfix(const struct run *r, const struct ir_op *op)
{
    bool vector = op->type >= T_V128;
    vec in[3], out = { { 0 } };
    const uint8_t *arg[3] = { NULL };

    for (unsigned i = 0; i < 3; i++) {
        if (!op->arg[i])
            continue;
        if (ir_type_of(r->ir, op->arg[i]) < T_V128)
            memcpy(in[i].b, &r->val[op->arg[i]], 8);
        else
            in[i] = r->vec[op->arg[i]];
        arg[i] = in[i].b;
    }
    if (vector)
        out = r->vec[op->d];
    else
        memcpy(out.b, &r->val[op->d], 8);
    if (ir_fix_applies(r->cpu, (enum ir_fix_cond)(op->imm & 0xff), op->type, out.b, arg[0], arg[1], arg[2]))
        r->ir->guest->fixes[op->aux].fn(r->cpu, out.b, arg[0], arg[1], arg[2], op->imm >> 8);
    if (vector) {
        r->vec[op->dst] = out;
        return;
    }
    memcpy(&r->val[op->dst], out.b, 8);
    r->val[op->dst] = ir_trim(op->type, r->val[op->dst]);
}

static void call_vop(const struct run *r, const struct ir_op *op)
{
    const struct vop_info *info = &vop_info[op->aux];
    unsigned bytes = op->type == T_V256 ? 32 : 16;
    vec in[3], out = { { 0 } };
    const uint8_t *arg[3] = { NULL };

    for (unsigned i = 0; i < 3 && op->arg[i]; i++) {
        enum ir_type type = ir_type_of(r->ir, op->arg[i]);

        memset(&in[i], 0, sizeof(in[i]));
        if (type < T_V128)
            memcpy(in[i].b, &r->val[op->arg[i]], 8);
        else
            memcpy(in[i].b, r->vec[op->arg[i]].b, ir_type_bytes(type));
        if (type == T_V256)
            bytes = 32;
        arg[i] = in[i].b;
    }
    info->fn(r->cpu, out.b, arg[0], arg[1], arg[2], op->imm, bytes);
    if (op->type >= T_V128) {
        r->vec[op->dst] = out;
        return;
    }
    memcpy(&r->val[op->dst], out.b, 8);
    r->val[op->dst] = ir_trim(op->type, r->val[op->dst]);
}

/* ---- sunk PUTs, as a back end's cold stubs have them */

static void value_to_slot(const struct run *r, const struct ir_op *put)
{
    const void *from = put->type < T_V128 ? (const void *)&r->val[put->a] : r->vec[put->a].b;

    memcpy(slot_at(r, put->aux), from, slot_bytes(r, put->aux));
}

static void sunk_add(struct run *r, unsigned at)
{
    unsigned slot = r->ir->ops[at].aux, n = 0;

    for (unsigned i = 0; i < r->nsunk; i++)
        if (r->ir->ops[r->sunk[i]].aux != slot && r->an->use[r->sunk[i]].sunk_end > at)
            r->sunk[n++] = r->sunk[i];
    r->sunk[n++] = (uint16_t)at;
    r->nsunk = n;
}

/* Before a fault point: state is as the guest must see it if the op does not return. */
static void sunk_show(struct run *r, unsigned at)
{
    unsigned n = 0;

    for (unsigned i = 0; i < r->nsunk; i++) {
        const struct ir_op *put = &r->ir->ops[r->sunk[i]];

        if (r->an->use[r->sunk[i]].sunk_end <= at || r->sunk[i] > at)
            continue;
        r->sunk[n] = r->sunk[i];
        memcpy(r->covered[n++].b, slot_at(r, put->aux), slot_bytes(r, put->aux));
        value_to_slot(r, put);
    }
    r->nsunk = n;
}

static void sunk_hide(struct run *r)
{
    for (unsigned i = 0; i < r->nsunk; i++) {
        const struct ir_op *put = &r->ir->ops[r->sunk[i]];

        memcpy(slot_at(r, put->aux), r->covered[i].b, slot_bytes(r, put->aux));
    }
}

/* ---- the interpreter */

static struct interp_result leave(const struct run *r, const struct ir_op *op, uint64_t pc, int64_t icount_start)
{
    struct cpu *cpu = r->cpu;
    bool poll = op->op == IR_POLL;

    cpu->pc = pc;
    cpu->pc_page = pc >> r->ir->guest->page_bits << r->ir->guest->page_bits;
    return (struct interp_result){
        .kind = poll ? EXIT_TO_LOOP : (enum ir_exit_kind)r->ir->exits[op->aux].kind,
        .exit = poll ? -1 : op->aux,
        .icount = (uint64_t)(icount_start - cpu->icount_left),
    };
}

#define INT_OPS1(X)                                                                                                   \
    X(NEG) X(NOT) X(CLZ) X(CTZ) X(POPCNT) X(BSWAP) X(BSWAP16) X(SEXT8) X(SEXT16) X(ZEXT8) X(ZEXT16) X(EXTRACT)        \
    X(SEXTRACT)
#define INT_OPS2(X)                                                                                                   \
    X(ADD) X(SUB) X(MUL) X(AND) X(OR) X(XOR) X(ANDC) X(SHL) X(SHR) X(SAR) X(ROTL) X(ROTR) X(MULHU) X(MULHS) X(DIVU)   \
    X(DIVS) X(REMU) X(REMS) X(DEPOSIT)
#define ATOMIC_OPS(X)                                                                                                 \
    X(ATOMIC_XCHG) X(ATOMIC_ADD) X(ATOMIC_AND) X(ATOMIC_OR) X(ATOMIC_XOR) X(ATOMIC_CAS)

#pragma GCC diagnostic ignored "-Woverride-init"       /* the table: all ops bad, then those that are not */

static struct interp_result run_ops(struct run *r)
{
    static const void *const table[T_COUNT][IR_OPCODE_COUNT] = {
        [0 ... T_COUNT - 1] = { [0 ... IR_OPCODE_COUNT - 1] = &&bad },
#define X(id) [T_I32][IR_##id] = &&op_##id##_32, [T_I64][IR_##id] = &&op_##id##_64,
        INT_OPS1(X) INT_OPS2(X)
#undef X
#define X(id) [T_I32][IR_##id] = &&op_atomic, [T_I64][IR_##id] = &&op_atomic,
        ATOMIC_OPS(X)
#undef X
#define INT(id, label) [T_I32][IR_##id] = &&label, [T_I64][IR_##id] = &&label
#define VEC(id, label) [T_V128][IR_##id] = &&label, [T_V256][IR_##id] = &&label
#define NONE(id, label) [T_VOID][IR_##id] = &&label
        INT(CONST, op_const), VEC(CONST, op_const_vec), [T_I32][IR_GET] = &&op_get_32, [T_I64][IR_GET] = &&op_get_64,
        VEC(GET, op_get_vec), [T_I32][IR_PUT] = &&op_put_32, [T_I64][IR_PUT] = &&op_put_64, VEC(PUT, op_put_vec),
        INT(STLD, op_stld), VEC(STLD, op_stld_vec), INT(STST, op_stst), VEC(STST, op_stst_vec),
        [T_I64][IR_PC] = &&op_pc, [T_I64][IR_SEXT32] = &&op_sext32, [T_I64][IR_ZEXT32] = &&op_zext32,
        [T_I32][IR_TRUNC] = &&op_zext32, [T_I64][IR_LEA] = &&op_lea, INT(SETCC, op_setcc), INT(SELECT, op_select),
        INT(LOAD, op_load), VEC(LOAD, op_load_vec), INT(STORE, op_store), VEC(STORE, op_store_vec),
        NONE(FENCE, op_fence), INT(VOP, op_vop), VEC(VOP, op_vop), INT(VFIX, op_vfix), [T_V128][IR_VFIX] = &&op_vfix, [T_V128][IR_VGUARD] = &&op_vguard, NONE(INSN_START, op_insn),
        NONE(LABEL, op_nop), NONE(NOP, op_nop), NONE(BR, op_br), NONE(BRCOND, op_brcond), NONE(POLL, op_poll),
        NONE(CALL, op_call), INT(CALL, op_call), VEC(CALL, op_call), NONE(CALL_HOST, op_call_host),
        [T_I32][IR_CALL_HOST] = &&op_call_host, NONE(EXIT_JUMP, op_exit),
        NONE(EXIT_LOOP, op_exit), NONE(EXIT_INDIRECT, op_exit_value), NONE(EXIT_LOOP_PC, op_exit_value),
#undef INT
#undef VEC
#undef NONE
    };
    static const void *const checked[T_COUNT][IR_OPCODE_COUNT] = {
        [0 ... T_COUNT - 1] = { [0 ... IR_OPCODE_COUNT - 1] = &&skip_dead },
    };
    const struct ir_analysis *const an = r->an;
    const void *const (*const dispatch)[IR_OPCODE_COUNT] = an ? checked : table;
    struct cpu *const cpu = r->cpu;
    const struct ir *const ir = r->ir;
    const struct ir_slot *const slots = ir->guest->slots;
    uint64_t *const val = r->val;
    const int64_t icount_start = cpu->icount_left;
    const struct ir_op *op = ir->ops;

#define AT ((unsigned)(op - ir->ops))
#define GO goto *dispatch[op->type][op->op]
#define NEXT do { op++; GO; } while (0)
#define FAULT_POINT(statement)                                                                                        \
    do {                                                                                                              \
        if (an)                                                                                                       \
            sunk_show(r, AT);                                                                                         \
        statement;                                                                                                    \
        if (an)                                                                                                       \
            sunk_hide(r);                                                                                             \
    } while (0)

    GO;

#define X(id)                                                                                                         \
    op_##id##_32: val[op->dst] = ir_eval(IR_##id, T_I32, val[op->a], 0, 0, op->imm); NEXT;                            \
    op_##id##_64: val[op->dst] = ir_eval(IR_##id, T_I64, val[op->a], 0, 0, op->imm); NEXT;
    INT_OPS1(X)
#undef X
#define X(id)                                                                                                         \
    op_##id##_32: val[op->dst] = ir_eval(IR_##id, T_I32, val[op->a], val[op->b], 0, op->imm); NEXT;                   \
    op_##id##_64: val[op->dst] = ir_eval(IR_##id, T_I64, val[op->a], val[op->b], 0, op->imm); NEXT;
    INT_OPS2(X)
#undef X
op_sext32:
    val[op->dst] = (int32_t)val[op->a];
    NEXT;
op_zext32:
    val[op->dst] = (uint32_t)val[op->a];
    NEXT;
op_lea:
    val[op->dst] = val[op->a] + (op->b ? val[op->b] << op->esz : 0) + op->imm;
    NEXT;
op_setcc:
    val[op->dst] = ir_eval_cond(op->cond, op->ctype, val[op->a], val[op->b]);
    NEXT;
op_select:
    val[op->dst] = val[ir_eval_cond(op->cond, op->ctype, val[op->a], val[op->b]) ? op->c : op->d];
    NEXT;
op_const:
    val[op->dst] = (uint64_t)op->imm;
    NEXT;
op_const_vec:
    for (unsigned i = 0; i < 32; i += 8)
        memcpy(r->vec[op->dst].b + i, &op->imm, 8);
    NEXT;
op_pc:
    val[op->dst] = cpu->pc_page + op->imm;
    NEXT;

op_get_32:
    val[op->dst] = *(uint32_t *)state_at(cpu, slots[op->aux].offset);
    NEXT;
op_get_64:
    val[op->dst] = *(uint64_t *)state_at(cpu, slots[op->aux].offset);
    NEXT;
op_get_vec:
    memset(r->vec[op->dst].b, 0, 16);
    memcpy(r->vec[op->dst].b, state_at(cpu, slots[op->aux].offset), slot_bytes(r, op->aux));
    NEXT;
op_put_32:
    if (an && an->use[AT].flags & OPX_SUNK)
        sunk_add(r, AT);
    else
        *(uint32_t *)state_at(cpu, slots[op->aux].offset) = (uint32_t)val[op->a];
    NEXT;
op_put_64:
    if (an && an->use[AT].flags & OPX_SUNK)
        sunk_add(r, AT);
    else
        *(uint64_t *)state_at(cpu, slots[op->aux].offset) = val[op->a];
    NEXT;
op_put_vec:
    if (an && an->use[AT].flags & OPX_SUNK)
        sunk_add(r, AT);
    else
        memcpy(state_at(cpu, slots[op->aux].offset), r->vec[op->a].b, slot_bytes(r, op->aux));
    NEXT;
op_stld:
    val[op->dst] = 0;
    memcpy(&val[op->dst], state_at(cpu, op->imm), 1u << op->esz);
    NEXT;
op_stld_vec:
    memcpy(r->vec[op->dst].b, state_at(cpu, op->imm), 1u << op->esz);
    NEXT;
op_stst:
    memcpy(state_at(cpu, op->imm), &val[op->a], 1u << op->esz);
    NEXT;
op_stst_vec:
    memcpy(state_at(cpu, op->imm), r->vec[op->a].b, 1u << op->esz);
    NEXT;

op_load:
    FAULT_POINT(val[op->dst] = load_int(r, op));
    NEXT;
op_load_vec:
    FAULT_POINT(load_vec(r, op));
    NEXT;
op_store:
    FAULT_POINT(store_int(r, op));
    NEXT;
op_store_vec:
    FAULT_POINT(store_vec(r, op));
    NEXT;
op_atomic:
    FAULT_POINT(val[op->dst] = atomic(r, op));
    NEXT;
op_fence:
    atomic_thread_fence(memory_order_seq_cst);
    NEXT;
op_vop:
    call_vop(r, op);
    NEXT;
op_vfix:
    call_vfix(r, op);
    NEXT;
op_vguard:
    call_vguard(r, op);
    NEXT;
op_call:
    call_helper(r, op);
    NEXT;

op_call_host:
    FAULT_POINT(call_host(r, op));
    NEXT;

op_insn:
    cpu->pc = cpu->pc_page + op->imm;
    cpu->icount_left--;
    NEXT;
op_nop:
    NEXT;
op_brcond:
    if (!ir_eval_cond(op->cond, op->ctype, val[op->a], val[op->b]))
        NEXT;
op_br:
    op = ir->ops + ir->label_op[op->aux];
    GO;
op_poll:
    if (!atomic_load_explicit(&cpu->exit_request, memory_order_relaxed))
        NEXT;
    if (an)
        sunk_show(r, AT);
op_exit:
    return leave(r, op, cpu->pc_page + op->imm, icount_start);
op_exit_value:
    return leave(r, op, val[op->a], icount_start);
skip_dead:
    while (an->use[AT].flags & OPX_DEAD)
        op++;
    goto *table[op->type][op->op];
bad:
    g_assert_not_reached();             /* ir_validate() refuses such ops */
#undef AT
#undef GO
#undef NEXT
#undef FAULT_POINT
}

static void run_begin(struct run *r, struct cpu *cpu, const struct ir *ir)
{
    r->cpu = cpu;
    r->ir = ir;
    r->nsunk = 0;
    cpu->pc_page = cpu->pc >> ir->guest->page_bits << ir->guest->page_bits;
}

struct interp_result interp_run(struct cpu *cpu, const struct ir *ir)
{
    uint64_t val[ir->nvals];            /* at most 64 KiB, and 256 KiB that only vectors touch */
    vec vecs[ir->nvals];
    struct run r;

    run_begin(&r, cpu, ir);
    r.an = NULL;
    r.val = val;
    r.vec = vecs;
    return run_ops(&r);
}

struct interp_result interp_run_optimized(struct cpu *cpu, const struct ir *ir, const struct ir_analysis *an)
{
    uint64_t val[ir->nvals];
    vec vecs[ir->nvals];
    struct run r;

    memset(val, 0xa5, sizeof(val));     /* use of a value that was left out must show */
    memset(vecs, 0xa5, sizeof(vecs));
    run_begin(&r, cpu, ir);
    r.an = an;
    r.val = val;
    r.vec = vecs;
    return run_ops(&r);
}
