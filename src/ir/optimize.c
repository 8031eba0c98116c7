/* The passes of tier 1, which also cold code pays for: one forward over the ops (slots forwarded in a block, constants
 * and copies, common values, comparisons fused, code that can't be reached dropped), one over the blocks until the
 * liveness of slots settles, one backward over the ops (dead values, dead and sunk PUTs, last uses). Nothing is
 * allocated once the buffers have grown to the largest region.
 *
 * Slots as others see them. GETs and helpers that read slots see the value itself. Fault points (LOAD, STORE,
 * ATOMIC_*, POLL) leave the straight line by a cold stub, which can write a value before it leaves: a PUT that only
 * those see before the next PUT in the block is sunk into them. Exits see all slots. */
#include <glib.h>
#include <string.h>
#include "ir_internal.h"
#include "rhea/ir/vop.h"

enum { VALUES_MAX = IR_MAX_OPS + T_COUNT, CSE_SIZE = 256, LOOP_WEIGHT = 8, LOOP_DEPTH_MAX = 4 };

struct slot_set { uint64_t w[IR_SLOT_WORDS]; };

static inline void set_add(struct slot_set *s, unsigned i) { s->w[i / 64] |= UINT64_C(1) << i % 64; }
static inline void set_remove(struct slot_set *s, unsigned i) { s->w[i / 64] &= ~(UINT64_C(1) << i % 64); }
static inline bool set_has(const struct slot_set *s, unsigned i) { return s->w[i / 64] >> i % 64 & 1; }
#define FOR_WORDS(k) for (unsigned k = 0; k < IR_SLOT_WORDS; k++)

enum { NOWHERE = UINT16_MAX };

/* A basic block, as the forward pass leaves it. */
struct block {
    uint16_t start, end;                /* ops [start, end) */
    uint16_t target;                    /* label branched to, or NOWHERE */
    int16_t depth;                      /* loops around it (first: what begins and ends here) */
    bool falls, exits;                  /* control goes on to the next block; leaves the region */
    struct slot_set seen, get, put;     /* seen (by anyone), gotten, before the block PUTs it; PUT in the block */
    struct slot_set live, wanted;       /* of seen and get, at the block's start, over all paths */
};

struct ir_work {
    ir_val repl[VALUES_MAX];            /* the value to use in place of one */
    const struct guest *guest;          /* whose slots these are: */
    struct slot_set shown;              /* slots that others than GETs look at */
    ir_val slot_value[IR_MAX_SLOTS];    /* what a slot is known to hold, or 0 */
    uint16_t cse[CSE_SIZE];             /* op indexes by content; an entry counts only if it lies in the block */
    uint16_t label_refs[IR_MAX_LABELS], label_block[IR_MAX_LABELS];
    uint16_t next_put[IR_MAX_SLOTS];    /* backward: the next PUT in the block */
    struct block *blocks;
    unsigned nblocks, blocks_size;
    unsigned ops_size, vals_size;       /* of the analysis' arrays */
};

struct pass {
    struct ir *ir;
    struct ir_analysis *an;
    struct ir_work *w;
    struct block *block;                /* being built or scanned */
    const struct slot_set *shown;       /* of ir_work */
    unsigned from, to;                  /* forward: index of the op read, and of its place among those kept */
    bool ended;                         /* forward: control does not reach here */
    bool back_edges;
};

struct ir_analysis *ir_analysis_new(void)
{
    struct ir_analysis *an = g_new0(struct ir_analysis, 1);

    an->work = g_new0(struct ir_work, 1);
    return an;
}

void ir_analysis_free(struct ir_analysis *an)
{
    if (!an)
        return;
    g_free(an->work->blocks);
    g_free(an->work);
    g_free(an->use);
    g_free(an->last_use);
    g_free(an);
}

static void analysis_grow(struct ir_analysis *an, const struct ir *ir)
{
    struct ir_work *w = an->work;

    if (w->ops_size < ir->nops) {
        w->ops_size = ir->nops * 2;
        an->use = g_renew(struct ir_use, an->use, w->ops_size);
    }
    if (w->vals_size < ir->nvals) {
        w->vals_size = ir->nvals * 2;
        an->last_use = g_renew(uint16_t, an->last_use, w->vals_size);
    }
    memset(an->last_use, 0, ir->nvals * sizeof(*an->last_use));
    memset(an->slot, 0, ir->guest->nslots * sizeof(*an->slot));
}

/* ---- what ops are */

/* The value depends on operands and immediates alone. */
static bool op_is_pure(const struct ir_op *op)
{
    switch ((enum ir_opcode)op->op) {
    case IR_NOP: case IR_GET: case IR_STLD:
        return false;
    case IR_VOP:
        return !(vop_info[op->aux].flags & VOPF_FP);    /* sticky flags */
    default:
        return !(ir_opinfo[op->op].flags & OPF_SIDE);
    }
}

static bool op_is_removable(const struct ir *ir, const struct ir_op *op)
{
    switch ((enum ir_opcode)op->op) {
    case IR_GET: case IR_STLD:
        return true;
    case IR_CALL:
        return op->dst && ir->helpers[op->aux]->flags == HELPER_PURE;
    default:
        return op_is_pure(op);
    }
}

static bool op_is_fault_point(const struct ir_op *op)
{
    return ir_opinfo[op->op].flags & OPF_FAULTS || op->op == IR_POLL;
}

static bool op_sees_slots(const struct ir *ir, const struct ir_op *op)
{
    return op->op == IR_CALL && ir->helpers[op->aux]->flags & (HELPER_READS | HELPER_WRITES | HELPER_RAISES);
}

/* Forward: NOPs are not kept. */
static void op_drop(struct ir_op *op)
{
    op->op = IR_NOP;
}

/* ---- forward */

static void block_open(struct pass *p, unsigned at)
{
    struct ir_work *w = p->w;

    if (w->nblocks == w->blocks_size) {
        w->blocks_size = MAX(64, w->blocks_size * 2);
        w->blocks = g_renew(struct block, w->blocks, w->blocks_size);
    }
    p->block = &w->blocks[w->nblocks++];
    memset(p->block, 0, sizeof(*p->block));
    p->block->start = (uint16_t)at;
    p->block->target = NOWHERE;
    p->ir->block_start = at;
    memset(w->slot_value, 0, p->ir->guest->nslots * sizeof(*w->slot_value));
}

static void block_close(struct pass *p, unsigned at, bool falls)
{
    p->block->end = (uint16_t)at;
    p->block->falls = falls;
    p->block = NULL;
}

/* The slot is seen, here in the block: by a GET, or in memory. */
static void block_see(struct block *b, unsigned slot, bool get)
{
    if (set_has(&b->put, slot))
        return;
    set_add(&b->seen, slot);
    if (get)
        set_add(&b->get, slot);
}

static void block_see_all(const struct pass *p, struct block *b)
{
    FOR_WORDS(k)
        b->seen.w[k] |= p->shown->w[k] & ~b->put.w[k];
}

static unsigned op_hash(const struct ir_op *op)
{
    uint64_t head = (uint64_t)op->op | (uint64_t)op->type << 8 | (uint64_t)op->cond << 16 | (uint64_t)op->aux << 24;
    uint64_t h = (head ^ (uint64_t)op->a << 40 ^ (uint64_t)op->b << 20 ^ (uint64_t)op->c << 48 ^ op->d) *
                 UINT64_C(0x9e3779b97f4a7c15);

    return (unsigned)((h ^ (uint64_t)op->imm * UINT64_C(0xff51afd7ed558ccd)) >> 56) % CSE_SIZE;
}

static bool op_same(const struct ir_op *a, const struct ir_op *b)
{
    return a->op == b->op && a->type == b->type && a->ctype == b->ctype && a->cond == b->cond && a->esz == b->esz &&
           !memcmp(a->arg, b->arg, sizeof(a->arg)) && a->aux == b->aux && a->imm == b->imm;
}

/* An op of the same content earlier in the block, or 0. */
static ir_val op_find_equal(struct pass *p, const struct ir_op *op)
{
    uint16_t *entry = &p->w->cse[op_hash(op)];

    if (*entry >= p->block->start && *entry < p->to && op_same(&p->ir->ops[*entry], op))
        return p->ir->ops[*entry].dst;
    *entry = (uint16_t)p->to;
    return 0;
}

static void forward_replace(struct pass *p, struct ir_op *op, ir_val same)
{
    p->w->repl[op->dst] = same;
    op_drop(op);
}

static void forward_value(struct pass *p, struct ir_op *op)
{
    ir_val same;

    if (ir_fold(p->ir, op, &same, false) == FOLD_SAME || (same = op_find_equal(p, op)))
        forward_replace(p, op, same);
}

static void forward_get(struct pass *p, struct ir_op *op)
{
    ir_val known = p->w->slot_value[op->aux];

    if (known) {
        forward_replace(p, op, known);
        return;
    }
    p->w->slot_value[op->aux] = op->dst;
    block_see(p->block, op->aux, true);
}

static void forward_put(struct pass *p, struct ir_op *op)
{
    if (p->w->slot_value[op->aux] == op->a) {   /* it holds that already */
        op_drop(op);
        return;
    }
    p->w->slot_value[op->aux] = op->a;
    set_add(&p->block->put, op->aux);
}

static void forward_call(struct pass *p, struct ir_op *op)
{
    unsigned flags = p->ir->helpers[op->aux]->flags;
    ir_val same;

    if (flags == HELPER_PURE && op->dst && (same = op_find_equal(p, op)))
        forward_replace(p, op, same);
    if (op_sees_slots(p->ir, op))
        block_see_all(p, p->block);
    if (flags & HELPER_WRITES)
        memset(p->w->slot_value, 0, p->ir->guest->nslots * sizeof(*p->w->slot_value));
}

/* `brcond c, L1; br L2; L1:` is `brcond !c, L2`. */
static void branch_invert(struct pass *p, struct ir_op *op)
{
    struct ir_op *next = &p->ir->ops[p->from + 1];

    if (p->from + 2 >= p->ir->nops || next[0].op != IR_BR || next[1].op != IR_LABEL || next[1].aux != op->aux)
        return;
    p->w->label_refs[op->aux]--;
    op->cond = ir_cond_invert(op->cond);
    op->aux = next->aux;
    op_drop(next);
}

static void forward_branch(struct pass *p, struct ir_op *op)
{
    int known = op->op == IR_BR ? 1 : ir_fold_branch(p->ir, op, false);

    if (known == 0) {
        p->w->label_refs[op->aux]--;
        op_drop(op);
        return;
    }
    if (known > 0) {
        *op = (struct ir_op){ .op = IR_BR, .aux = op->aux };
        p->ended = true;
    } else {
        branch_invert(p, op);
    }
    p->block->target = op->aux;
    block_close(p, p->to + 1, !p->ended);
    if (!p->ended)
        block_open(p, p->to + 1);
}

/* A label nobody goes to is none. */
static void forward_label(struct pass *p, struct ir_op *op)
{
    struct ir_work *w = p->w;

    if (p->ended && p->to && op[-1].op == IR_BR && op[-1].aux == op->aux) {     /* to where control goes anyway */
        p->ir->ops[--p->to] = *op;
        op--;
        w->label_refs[op->aux]--;
        p->block = &w->blocks[w->nblocks - 1];
        p->block->target = NOWHERE;
        p->ended = false;
    }
    if (op->aux && !w->label_refs[op->aux]) {
        p->ir->label_op[op->aux] = 0;
        op_drop(op);
        return;
    }
    if (!p->ended)
        block_close(p, p->to, true);
    p->ended = false;
    block_open(p, p->to);
    p->ir->label_op[op->aux] = (uint16_t)p->to;
    w->label_block[op->aux] = (uint16_t)(w->nblocks - 1);
}

static void forward_op(struct pass *p, struct ir_op *op)
{
    const struct ir_opinfo *info = &ir_opinfo[op->op];

    for (unsigned i = 0; i < info->operands; i++)
        if (op->arg[i])
            op->arg[i] = p->w->repl[op->arg[i]];
    if (op->dst) {
        p->w->repl[op->dst] = op->dst;
        p->ir->val_op[op->dst] = (uint16_t)p->to;
    }
    if (info->flags & OPF_FAULTS && op->a) {
        op->a = ir_fold_address(p->ir, op->a, &op->disp);
        if (p->ir->wrap_32 && (op->op == IR_LOAD || op->op == IR_STORE || op->op == IR_CALL_HOST)) {
            op->mem |= MEM_WRAP_32;
            op->a = ir_fold_address_32(p->ir, op->a, &op->disp);
        }
    }
    if (op_is_fault_point(op))
        block_see_all(p, p->block);

    if (info->flags & OPF_LANES)
        ir_fold_lanes(p->ir, op);
    switch ((enum ir_opcode)op->op) {
    case IR_LABEL: forward_label(p, op); break;
    case IR_GET: forward_get(p, op); break;
    case IR_PUT: forward_put(p, op); break;
    case IR_CALL: forward_call(p, op); break;
    case IR_BR: case IR_BRCOND: forward_branch(p, op); break;
    case IR_EXIT_JUMP: case IR_EXIT_INDIRECT: case IR_EXIT_LOOP: case IR_EXIT_LOOP_PC:
        p->block->exits = true;
        p->ended = true;
        block_close(p, p->to + 1, false);
        break;
    default:
        if (op_is_pure(op))
            forward_value(p, op);
    }
}

/* Ops that are kept move down over those that are not. */
static void pass_forward(struct pass *p)
{
    struct ir *ir = p->ir;
    struct ir_work *w = p->w;

    memset(w->label_refs, 0, ir->nlabels * sizeof(*w->label_refs));
    memset(w->label_block, 0, ir->nlabels * sizeof(*w->label_block));
    for (unsigned i = 0; i < ir->nops && ir->nlabels > 1; i++)
        if (ir->ops[i].op == IR_BR || ir->ops[i].op == IR_BRCOND)
            w->label_refs[ir->ops[i].aux]++;
    w->nblocks = 0;
    p->ended = true;
    for (p->from = p->to = 0; p->from < ir->nops; p->from++) {
        struct ir_op *op = &ir->ops[p->from];

        if (p->ended && op->op != IR_LABEL) {
            if (op->op == IR_BR || op->op == IR_BRCOND)
                w->label_refs[op->aux]--;
            continue;
        }
        if (p->to != p->from)
            ir->ops[p->to] = *op;
        op = &ir->ops[p->to];
        if (op->op != IR_INSN_START)
            forward_op(p, op);
        if (ir->ops[p->to].op != IR_NOP)
            p->to++;
    }
    ir->nops = p->to;
    if (p->block)
        block_close(p, ir->nops, false);
}

/* ---- blocks */

static bool block_update(struct pass *p, struct block *b)
{
    const struct block *next = b->falls ? b + 1 : NULL;
    const struct block *target = b->target == NOWHERE ? NULL : &p->w->blocks[p->w->label_block[b->target]];
    bool changed = false;

    FOR_WORDS(k) {
        uint64_t live = b->exits ? p->shown->w[k] : 0, wanted = 0;

        if (next)
            live |= next->live.w[k], wanted |= next->wanted.w[k];
        if (target)
            live |= target->live.w[k], wanted |= target->wanted.w[k];
        live = b->seen.w[k] | (live & ~b->put.w[k]);
        wanted = b->get.w[k] | (wanted & ~b->put.w[k]);
        changed |= live != b->live.w[k] || wanted != b->wanted.w[k];
        b->live.w[k] = live;
        b->wanted.w[k] = wanted;
    }
    return changed;
}

/* Sets grow only, so this ends; regions without loops take one turn, loops one more for each level. */
static void pass_blocks(struct pass *p)
{
    struct ir_work *w = p->w;
    bool changed;
    int depth = 0;

    for (unsigned i = 0; i < w->nblocks; i++) {
        struct block *b = &w->blocks[i];

        if (b->target != NOWHERE && w->label_block[b->target] <= i) {
            p->back_edges = true;
            w->blocks[w->label_block[b->target]].depth++;
            if (i + 1 < w->nblocks)
                b[1].depth--;
        }
    }
    do {
        changed = false;
        for (unsigned i = w->nblocks; i-- > 0;)
            changed |= block_update(p, &w->blocks[i]);
    } while (changed && p->back_edges);
    for (unsigned i = 0; i < w->nblocks; i++)
        w->blocks[i].depth = (int16_t)(depth += w->blocks[i].depth);
}

/* ---- backward */

/* Where slots stand, seen from an op backwards: live: their value is wanted; else sunk: only fault points see it before
 * the PUT next_put[]; else nobody does. known: the block PUTs it further on. */
struct outlook { struct slot_set live, sunk, known; };

static void outlook_begin(struct pass *p, const struct block *b, struct outlook *o)
{
    const struct block *next = b->falls ? b + 1 : NULL;
    const struct block *target = b->target == NOWHERE ? NULL : &p->w->blocks[p->w->label_block[b->target]];

    memset(o, 0, sizeof(*o));
    if (b->exits)
        o->live = *p->shown;
    FOR_WORDS(k) {
        if (next)
            o->live.w[k] |= next->live.w[k];
        if (target)
            o->live.w[k] |= target->live.w[k];
    }
}

static void outlook_fault_point(const struct pass *p, struct outlook *o)
{
    FOR_WORDS(k) {
        o->sunk.w[k] |= p->shown->w[k] & ~o->live.w[k] & o->known.w[k];
        o->live.w[k] |= p->shown->w[k] & ~o->known.w[k];
    }
}

static void value_used(struct ir_analysis *an, ir_val v, unsigned at)
{
    if (an->last_use[v] < at)
        an->last_use[v] = (uint16_t)at;
}

static void backward_put(struct pass *p, struct outlook *o, unsigned at, unsigned weight)
{
    const struct ir_op *op = &p->ir->ops[at];
    struct ir_use *use = &p->an->use[at];
    unsigned slot = op->aux, until = at;

    if (!set_has(&o->live, slot)) {
        use->flags = set_has(&o->sunk, slot) ? OPX_SUNK : OPX_DEAD;
        if (use->flags == OPX_SUNK)
            use->sunk_end = p->w->next_put[slot], until = use->sunk_end;
    }
    if (use->flags != OPX_DEAD) {
        value_used(p->an, op->a, until);
        p->an->slot[slot].writes += weight;
    }
    set_remove(&o->live, slot);
    set_remove(&o->sunk, slot);
    set_add(&o->known, slot);
    p->w->next_put[slot] = (uint16_t)at;
}

static void backward_op(struct pass *p, struct outlook *o, unsigned at, unsigned weight)
{
    const struct ir_op *op = &p->ir->ops[at];
    struct ir_use *use = &p->an->use[at];

    *use = (struct ir_use){ 0 };
    if (op->op == IR_INSN_START)
        return;
    if (op->op == IR_PUT) {
        backward_put(p, o, at, weight);
        return;
    }
    if (op->dst && !p->an->last_use[op->dst] && op_is_removable(p->ir, op)) {
        use->flags = OPX_DEAD;
        return;
    }
    if (op_is_fault_point(op)) {
        outlook_fault_point(p, o);
    } else if (op_sees_slots(p->ir, op)) {
        FOR_WORDS(k)
            o->live.w[k] |= p->shown->w[k];
        memset(&o->sunk, 0, sizeof(o->sunk));
    } else if (op->op == IR_GET) {
        set_add(&o->live, op->aux);
        set_remove(&o->sunk, op->aux);
        p->an->slot[op->aux].reads += weight;
    }
    for (unsigned i = 0; i < ir_opinfo[op->op].operands; i++)
        if (op->arg[i])
            value_used(p->an, op->arg[i], at);
}

static void pass_backward(struct pass *p)
{
    struct ir_work *w = p->w;

    for (unsigned i = w->nblocks; i-- > 0;) {
        const struct block *b = &w->blocks[i];
        struct outlook o;
        unsigned weight = 1;

        for (int depth = 0; depth < b->depth && depth < LOOP_DEPTH_MAX; depth++)
            weight *= LOOP_WEIGHT;
        outlook_begin(p, b, &o);
        for (unsigned at = b->end; at-- > b->start;)
            backward_op(p, &o, at, weight);
    }
}

static void shown_find(struct ir_work *w, const struct guest *g)
{
    if (w->guest == g)
        return;
    w->guest = g;
    memset(&w->shown, 0, sizeof(w->shown));
    for (unsigned s = 0; s < g->nslots; s++)
        if (!g->slots[s].scratch)
            set_add(&w->shown, s);
}

void ir_optimize(struct ir *ir, struct ir_analysis *out)
{
    struct pass p = { .ir = ir, .an = out, .w = out->work, .shown = &out->work->shown };

    analysis_grow(out, ir);
    shown_find(out->work, ir->guest);
    pass_forward(&p);
    pass_blocks(&p);
    pass_backward(&p);
}
