/* The second compile's view of guest code: not one straight line from the entry, but a graph of such lines within the
 * page. Conditional branches are followed to targets that have run (they have regions of their own), calls into their
 * callee and back, as often as frames last, so that a return is one comparison. Guest-neutral. */
#include <glib.h>
#include <string.h>
#include "rhea/jit/jit.h"

enum { HOT_MAX_INSNS = 320, HOT_FRAMES = 12, HOT_DEPTH = 3, HOT_LEADERS = IR_MAX_LABELS / 2, NO_FRAME = 0xff };

/* One inlining of a function; frame 0 is the region's own. The same instruction is a node of its own in each. */
struct frame {
    uint8_t parent, depth;
    uint64_t entry, ret;
    uint64_t starts[CPU_PAGE_SIZE / 64];        /* bit per offset in the page at which a node begins */
};

struct node {
    uint64_t pc;
    struct insn_info info;
    uint8_t frame;
    uint8_t callee;             /* frame of the call, or NO_FRAME */
    bool on;                    /* control goes on to the next node */
};

struct leader {
    struct ir_leader l;
    uint8_t frame;
    bool join;                  /* reached by other ways than straight from the node before */
};

struct graph {
    const struct guest *guest;
    struct code_fetch *fetch;
    const struct region_profile *profile;
    uint64_t pc, mode;
    unsigned max;
    struct node node[HOT_MAX_INSNS]; unsigned n;
    struct frame frame[HOT_FRAMES]; unsigned nframes;
    struct leader leader[HOT_LEADERS]; unsigned nleaders;
    uint8_t *insns;
    size_t insns_size;
    uint64_t lo, hi;
    struct ir *ir;
    unsigned current;           /* frame whose leaders the front end sees */
};

struct graph *graph_new(void) { return g_new0(struct graph, 1); }

void graph_free(struct graph *g)
{
    if (g)
        g_free(g->insns);
    g_free(g);
}

static bool same_page(uint64_t a, uint64_t b) { return !((a ^ b) >> CPU_PAGE_BITS); }
static unsigned page_offset(uint64_t pc) { return pc & (CPU_PAGE_SIZE - 1); }
static void *node_insn(const struct graph *g, unsigned i) { return g->insns + i * g->guest->insn_size; }

static bool frame_has(const struct graph *g, unsigned frame, uint64_t pc)
{
    return same_page(pc, g->pc) && g->frame[frame].starts[page_offset(pc) / 64] >> page_offset(pc) % 64 & 1;
}

static unsigned frame_new(struct graph *g, unsigned parent, uint64_t entry, uint64_t ret)
{
    struct frame *f = &g->frame[g->nframes];

    f->parent = parent;
    f->depth = parent == NO_FRAME ? 0 : g->frame[parent].depth + 1;
    f->entry = entry;
    f->ret = ret;
    memset(f->starts, 0, sizeof(f->starts));
    return g->nframes++;
}

static bool warm(const struct graph *g, uint64_t pc)
{
    return same_page(pc, g->pc) && g->profile->ran(g->profile, pc);
}

/* Is the call worth its callee's code here? */
static bool may_inline(const struct graph *g, unsigned frame, uint64_t target)
{
    return g->nframes < HOT_FRAMES && g->frame[frame].depth < HOT_DEPTH && warm(g, target);
}

static bool node_add(struct graph *g, unsigned frame, uint64_t pc)
{
    struct node *node = &g->node[g->n];

    *node = (struct node){ .pc = pc, .frame = frame, .callee = NO_FRAME };
    if (!g->guest->decode(g->fetch, pc, g->mode, node_insn(g, g->n), &node->info) || node->info.straddles ||
        page_offset(pc) + node->info.len > CPU_PAGE_SIZE)
        return false;
    g->frame[frame].starts[page_offset(pc) / 64] |= 1ull << page_offset(pc) % 64;
    g->lo = MIN(g->lo, pc);
    g->hi = MAX(g->hi, pc + node->info.len);
    g->n++;
    return true;
}

/* Where control goes on after the node, for as long as that is known: false where it is not. */
static bool step(struct graph *g, struct node *node, unsigned *frame, uint64_t *pc)
{
    *pc += node->info.len;
    switch (node->info.flow) {
    case FLOW_NEXT: case FLOW_COND:
        return true;
    case FLOW_JUMP:
        *pc = node->info.target;
        return true;
    case FLOW_CALL:
        if (!may_inline(g, *frame, node->info.target))
            return false;
        node->callee = frame_new(g, *frame, node->info.target, *pc);
        *frame = node->callee;
        *pc = node->info.target;
        return true;
    case FLOW_INDIRECT:                 /* perhaps it returns */
        *pc = g->frame[*frame].ret;
        *frame = g->frame[*frame].parent;
        return *frame != NO_FRAME;
    default:
        return false;
    }
}

/* One line of instructions from pc: until control surely leaves, comes back to what is there, or room ends. */
static void follow(struct graph *g, unsigned frame, uint64_t pc)
{
    bool on = true;

    g->fetch->note = 0;
    while (on && g->n < g->max && same_page(pc, g->pc) && !frame_has(g, frame, pc)) {
        struct node *node = &g->node[g->n];

        if (!node_add(g, frame, pc))
            break;
        node->on = on = step(g, node, &frame, &pc);
    }
    if (g->n)
        g->node[g->n - 1].on = false;
}

static bool scan(struct graph *g)
{
    follow(g, frame_new(g, NO_FRAME, g->pc, 0), g->pc);
    for (unsigned i = 0; i < g->n && g->n < g->max; i++) {
        const struct node *node = &g->node[i];

        if ((node->info.flow == FLOW_COND || node->info.flow == FLOW_JUMP) && warm(g, node->info.target) &&
            !frame_has(g, node->frame, node->info.target))
            follow(g, node->frame, node->info.target);
    }
    return g->n != 0;
}

/* ---- leaders */

static struct leader *leader_at(struct graph *g, unsigned frame, uint64_t pc)
{
    for (unsigned i = 0; i < g->nleaders; i++)
        if (g->leader[i].l.pc == pc && g->leader[i].frame == frame)
            return &g->leader[i];
    return NULL;
}

static void leader_add(struct graph *g, unsigned frame, uint64_t pc, bool join)
{
    struct leader *l = leader_at(g, frame, pc);

    if (!l && g->nleaders == HOT_LEADERS) {
        g->ir->overflow = true;
        return;
    }
    if (!l) {
        bool first = !frame && pc == g->pc;

        l = &g->leader[g->nleaders++];
        *l = (struct leader){ .l = { pc, first ? 0 : ir_label_new(g->ir), first }, .frame = frame };
    }
    l->join |= join;
}

/* Control comes from node i to pc. */
static void edge_add(struct graph *g, unsigned i, unsigned frame, uint64_t pc)
{
    const struct node *next = &g->node[i + 1];
    bool straight = g->node[i].on && next->frame == frame && next->pc == pc;

    leader_add(g, frame, pc, !straight || g->node[i].info.flow == FLOW_COND || g->node[i].info.flow == FLOW_INDIRECT);
}

static void find_leaders(struct graph *g)
{
    for (unsigned i = 0; i < g->n; i++) {
        const struct node *node = &g->node[i];
        const struct frame *f = &g->frame[node->frame];

        if ((node->info.flow == FLOW_COND || node->info.flow == FLOW_JUMP) &&
            frame_has(g, node->frame, node->info.target))
            edge_add(g, i, node->frame, node->info.target);
        if (node->callee != NO_FRAME)
            edge_add(g, i, node->callee, node->info.target);
        if (node->info.flow == FLOW_INDIRECT && f->parent != NO_FRAME && frame_has(g, f->parent, f->ret))
            edge_add(g, i, f->parent, f->ret);
        if (node->info.flow <= FLOW_COND && !node->on)          /* into what is there, or out: see ir_finish() */
            leader_add(g, node->frame, node->pc + node->info.len, true);
    }
}

/* ---- emitting */

/* The front end looks up branch targets among the leaders of the frame that it is in. */
static void frame_select(struct graph *g, unsigned frame)
{
    if (g->current == frame)
        return;
    g->current = frame;
    g->ir->nleaders = 0;
    for (unsigned i = 0; i < g->nleaders; i++)
        if (g->leader[i].frame == frame || frame == NO_FRAME)
            g->ir->leaders[g->ir->nleaders++] = g->leader[i].l;
}

static void leader_bind(struct graph *g, struct leader *l)
{
    ir_label_bind(g->ir, l->l.label);
    l->l.bound = true;
    for (unsigned i = 0; i < g->ir->nleaders; i++)
        if (g->ir->leaders[i].label == l->l.label)
            g->ir->leaders[i].bound = true;
}

static void node_emit(struct graph *g, unsigned i)
{
    const struct node *node = &g->node[i];
    const struct frame *f = &g->frame[node->frame];
    struct leader *l = leader_at(g, node->frame, node->pc), *to;
    struct ir *ir = g->ir;

    frame_select(g, node->frame);
    if (l && i)
        leader_bind(g, l);
    if (l && l->join)
        g->guest->emit_join(ir);
    if (!l && ir->ended)
        return;                         /* nobody comes here */
    to = node->callee != NO_FRAME ? leader_at(g, node->callee, node->info.target) : NULL;
    ir->call_to = to ? &to->l : NULL;
    to = node->info.flow == FLOW_INDIRECT && f->parent != NO_FRAME ? leader_at(g, f->parent, f->ret) : NULL;
    ir->return_to = to ? &to->l : NULL;
    ir_insn_start(ir, node->pc, node->info.len);
    g->guest->emit(ir, node_insn(g, i));
    ir->call_to = ir->return_to = NULL;
    if (!node->on && !ir->ended)
        ir_goto(ir, node->pc + node->info.len);
}

static void emit(struct graph *g)
{
    struct ir *ir = g->ir;

    g->guest->emit_begin(ir);
    for (unsigned i = 0; g->guest->emit_scan && i < g->n; i++)
        g->guest->emit_scan(ir, node_insn(g, i));
    g->current = HOT_FRAMES;
    for (unsigned i = 0; i < g->n && !ir->overflow; i++)
        node_emit(g, i);
    frame_select(g, NO_FRAME);
    g->guest->emit_end(ir);
    ir_finish(ir);
    ir->end = g->hi;
}

bool region_build_hot(struct graph *g, struct ir *ir, const struct guest *guest, struct code_fetch *f, uint64_t pc,
                      uint64_t mode, unsigned max_insns, const struct region_profile *profile, struct jit_region_info *info)
{
    size_t size = (HOT_MAX_INSNS + 1) * guest->insn_size;

    if (g->insns_size < size) {
        g->insns = g_realloc(g->insns, size);
        g->insns_size = size;
    }
    g->guest = guest;
    g->fetch = f;
    g->profile = profile;
    g->pc = pc;
    g->mode = mode;
    g->max = max_insns && max_insns < HOT_MAX_INSNS ? max_insns : HOT_MAX_INSNS;
    g->n = g->nframes = g->nleaders = 0;
    g->lo = UINT64_MAX;
    g->hi = 0;
    g->ir = ir;
    ir_begin(ir, guest, pc, mode);
    if (mode & guest->linear_modes || !scan(g))
        return false;
    find_leaders(g);
    emit(g);
    *info = (struct jit_region_info){ .lo = g->lo, .hi = g->hi, .insns = g->n, .inlined = g->nframes - 1 };
    return !ir->overflow;
}
