/* What the allocator must know beforehand, by one walk over the ops forwards and one backwards. */
#include <glib.h>
#include <stdlib.h>
#include "codegen.h"

static bool is_dead(const struct codegen *b, unsigned i)
{
    return b->an && b->an->use[i].flags & OPX_DEAD;
}

static void values_init(struct codegen *b)
{
    unsigned want = b->ir->nvals + 64 + 32 * (b->ir->nlabels + 1) + 8 * b->ir->nexits;

    if (want > UINT16_MAX)
        want = UINT16_MAX;
    if (want > b->cap_vals) {
        b->val = realloc(b->val, want * sizeof(b->val[0]));
        b->cap_vals = want;
    }
    b->nvals = b->ir->nvals;
    if (b->ir->nops > b->cap_group || b->ir->nvals > b->cap_group) {
        b->cap_group = MAX(b->ir->nops, b->ir->nvals) * 2;
        b->group = g_renew(struct mem_group, b->group, b->cap_group);
        b->group_of = g_renew(struct mem_group, b->group_of, b->cap_group);
        b->group_block = g_renew(uint32_t, b->group_block, b->cap_group);
    }
    memset(b->group_block, 0, b->ir->nvals * sizeof(*b->group_block));
    if (b->nvals >= b->cap_vals)
        codegen_overflow(b);
    for (unsigned v = 0; v < b->nvals; v++)
        b->val[v] = (struct value){ .reg = NOREG, .type = b->ir->val_type[v], .spill = -1, .root = v };
}

/* Labels: how often and from where they are reached. Slots: how often used, eight times as much within loops. */
static bool scan_forward(struct codegen *b, uint32_t *weight)
{
    bool joins = false;

    for (unsigned l = 0; l < b->ir->nlabels; l++)
        b->label[l] = (struct label){ .at = &b->home, .snap = -1 };
    for (unsigned i = 0; i < b->ir->nops; i++) {
        const struct ir_op *op = &b->ir->ops[i];

        switch (op->op) {
        case IR_LABEL:
            b->label[op->aux].bound = true;
            b->label[op->aux].falls = !i || !(ir_opinfo[op[-1].op].flags & OPF_ENDS);
            break;
        case IR_BR: case IR_BRCOND:
            b->label[op->aux].refs++;
            b->label[op->aux].backward |= b->label[op->aux].bound;
            break;
        case IR_GET: case IR_PUT:
            if (is_dead(b, i))
                break;
            weight[op->aux]++;
            b->nslots = MAX(b->nslots, op->aux + 1u);
            if (op->op == IR_PUT)
                bit64_set(b->written, op->aux);
        }
    }
    for (unsigned l = 0; l < b->ir->nlabels; l++) {
        struct label *lb = &b->label[l];

        lb->bound = false;
        if (lb->backward || (lb->refs && lb->refs + lb->falls > 1))
            joins = true;
    }
    return joins;
}

static void home_set(struct codegen *b, unsigned slot, unsigned reg)
{
    b->home.reg[slot] = reg;
    b->home.slot[reg] = slot;
    b->home.regs |= 1u << reg;
}

/* The next of the slots used most; one whose weight is 0: there is none. */
static unsigned heaviest(const struct codegen *b, const uint32_t *w)
{
    unsigned best = 0;

    for (unsigned s = 1; s < b->nslots; s++)
        if (w[s] > w[best])
            best = s;
    return best;
}

/* Slots that are kept from region to region stay where they are, unless others are used more and the rest is taken. */
static void homes_choose(struct codegen *b, const uint32_t *weight)
{
    static const uint8_t gpr[] = { R8, R9, R10, R11, R15, R14, R13, R12, RBX };
    uint32_t w[IR_MAX_SLOTS];
    unsigned nv = 0;

    for (unsigned s = 0; s < b->nslots; s++) {
        w[s] = b->an ? b->an->slot[s].reads + b->an->slot[s].writes : weight[s];
        if (!b->slots[s].weight || w[s] < 2)
            w[s] = 0;
    }
    memset(b->home.reg, NOREG, sizeof(b->home.reg));
    b->home.regs = 0;
    for (unsigned s; (s = heaviest(b, w)), w[s]; w[s] = 0) {
        unsigned n = 0, kept = b->kept.reg[s];

        if (type_is_vec(b->slots[s].type)) {
            if (nv < 8)
                home_set(b, s, 31 - nv++);
        } else if (kept != NOREG && !(b->home.regs >> kept & 1)) {
            home_set(b, s, kept);
        } else {
            while (n < sizeof(gpr) && b->home.regs >> gpr[n] & 1)
                n++;
            if (n < sizeof(gpr))
                home_set(b, s, gpr[n]);
        }
    }
    for (uint32_t m = b->kept.regs & ~b->home.regs; m; m &= m - 1) {
        unsigned r = __builtin_ctz(m);

        if (b->home.reg[b->kept.slot[r]] == NOREG)
            home_set(b, b->kept.slot[r], r);
    }
}

struct hints { ir_val of[IR_MAX_SLOTS]; uint64_t active[IR_SLOT_WORDS]; };

static void hint_drop(struct codegen *b, struct hints *h, unsigned slot)
{
    if (!BIT64(h->active, slot))
        return;
    bit64_clear(h->active, slot);
    b->val[h->of[slot]].hint = 0;
}

static void hints_drop_all(struct codegen *b, struct hints *h)
{
    for (unsigned w = 0; w < IR_SLOT_WORDS; w++)
        while (h->active[w])
            hint_drop(b, h, w * 64 + __builtin_ctzll(h->active[w]));
}

static void hint_set(struct codegen *b, struct hints *h, unsigned slot, ir_val v)
{
    hint_drop(b, h, slot);
    if (b->val[v].hint)
        return;
    b->val[v].hint = slot + 1;
    h->of[slot] = v;
    bit64_set(h->active, slot);
}

enum { BARRIER = OPF_FAULTS | OPF_ENDS | OPF_LABEL | OPF_LOOKS };

/* Slots that are read before written from this op on, one that names a slot or is a barrier. */
static void live_step(struct codegen *b, const struct ir_op *op, uint64_t live[IR_SLOT_WORDS])
{
    struct label *l = &b->label[op->aux];

    switch (op->op) {
    case IR_GET: bit64_set(live, op->aux); break;
    case IR_PUT: bit64_clear(live, op->aux); break;
    case IR_LABEL: memcpy(l->live, live, sizeof(l->live)); l->bound = true; break;
    case IR_BR: memset(live, 0, sizeof(l->live)); /* fallthrough */
    case IR_BRCOND:
        for (unsigned w = 0; w < IR_SLOT_WORDS; w++)
            live[w] |= l->bound ? l->live[w] : ~0ull;
        break;
    case IR_CALL:
        if (!(b->ir->helpers[op->aux]->flags & (HELPER_READS | HELPER_RAISES | HELPER_WRITES)))
            break;                      /* fallthrough */
    default: memset(live, 0xff, sizeof(l->live));
    }
}

/* Accesses by the same value in one block, seen from behind: [value] of the group that begins with the next one. */
struct groups { uint32_t block, *of_block; struct mem_group *of; };

static void group_step(struct codegen *b, struct groups *g, unsigned i)
{
    const struct ir_op *op = &b->ir->ops[i];
    struct mem_group own = { op->disp, op->disp + (int32_t)memop_bytes(op->mem), i }, *next = &g->of[op->a];

    b->group[i] = (struct mem_group){ 0 };
    if (op->mem & MEM_ALIGN_MASK || own.hi < own.lo)
        return;
    if (g->of_block[op->a] == g->block && next->last) {
        struct mem_group whole = { MIN(own.lo, next->lo), MAX(own.hi, next->hi), next->last };

        if ((int64_t)whole.hi - whole.lo <= MEMO_SPAN) {
            b->group[i] = *next;
            own = whole;
        }
    }
    g->of_block[op->a] = g->block;
    *next = own;
}

static void scan_backward(struct codegen *b)
{
    struct groups g = { 1, b->group_block, b->group_of };
    struct hints h = { .active = { 0 } };
    uint64_t live[IR_SLOT_WORDS];

    memset(live, 0xff, sizeof(live));
    for (unsigned i = b->ir->nops; i-- > 0;) {
        const struct ir_op *op = &b->ir->ops[i];
        const struct ir_opinfo *info = &ir_opinfo[op->op];
        bool barrier = info->flags & BARRIER;
        unsigned hint;

        if (is_dead(b, i))
            continue;
        if (barrier || op->op == IR_GET || op->op == IR_PUT)
            live_step(b, op, live);
        if (op->op == IR_LOAD || op->op == IR_STORE)
            group_step(b, &g, i);
        else if (barrier && !(op->op >= IR_ATOMIC_XCHG && op->op <= IR_ATOMIC_CAS))
            g.block++;
        for (unsigned n = 0; n < info->operands; n++)
            if (op->arg[n] && !b->val[op->arg[n]].last)
                b->val[op->arg[n]].last = i;
        hint = op->dst ? b->val[op->dst].hint : 0;
        if (hint) {
            bit64_clear(h.active, hint - 1);
            /* a move that may cost nothing: what it moves had better be made in that place */
            if ((op->op == IR_ZEXT32 || op->op == IR_TRUNC) && b->val[op->a].last == i)
                hint_set(b, &h, hint - 1, op->a);
            else if (op->op == IR_VFIX && b->val[op->d].last == i)
                hint_set(b, &h, hint - 1, op->d);
        }
        if (op->op == IR_PUT)
            hint_set(b, &h, op->aux, op->a);
        else if (op->op == IR_GET)
            hint_drop(b, &h, op->aux);
        else if (barrier)
            hints_drop_all(b, &h);
    }
    for (unsigned l = 0; l < b->ir->nlabels; l++)
        b->label[l].bound = false;
}

void codegen_analyse(struct codegen *b)
{
    uint32_t weight[IR_MAX_SLOTS] = { 0 };
    bool joins;

    values_init(b);
    b->home = b->kept;
    memset(b->written, 0, sizeof(b->written));
    b->nslots = 1;
    for (uint32_t m = b->kept.regs; m; m &= m - 1) {
        unsigned s = b->kept.slot[__builtin_ctz(m)];

        b->nslots = MAX(b->nslots, s + 1);
        bit64_set(b->written, s);       /* memory is older from the start */
    }
    joins = scan_forward(b, weight);
    if (joins)
        homes_choose(b, weight);
    scan_backward(b);
}
