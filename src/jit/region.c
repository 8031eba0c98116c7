/* From guest code to the IR of one region: instructions one after the other, on through unconditional jumps within the
 * page, with the branches among them as internal edges. Guest-neutral. */
#include <glib.h>
#include <string.h>
#include "rhea/base/log.h"
#include "rhea/jit/jit.h"

enum { MAX_JUMPS = 6 };         /* unconditional ones that a region goes through */
static GPrivate scan_insns = G_PRIVATE_INIT(g_free);    /* a thread that ends gives its buffer back */

/* The instructions of a region, decoded, in the order in which they are emitted; one buffer a thread. */
struct scan {
    uint8_t *insns;
    size_t size;
    struct insn_info info[REGION_MAX_INSNS];
    uint64_t pc[REGION_MAX_INSNS];
    unsigned n;
    uint64_t lo, hi;            /* guest code it covers */
    bool straddles;
    uint64_t starts[CPU_PAGE_SIZE / 64];        /* bit per offset in the page at which one of them begins */
};

static void *scan_insn(const struct scan *s, const struct guest *g, unsigned i) { return s->insns + i * g->insn_size; }

static bool same_page(uint64_t a, uint64_t b) { return !((a ^ b) >> CPU_PAGE_BITS); }
static unsigned page_offset(uint64_t pc) { return pc & (CPU_PAGE_SIZE - 1); }

static bool scan_has(const struct scan *s, uint64_t pc)
{
    return same_page(pc, s->pc[0]) && s->starts[page_offset(pc) / 64] >> page_offset(pc) % 64 & 1;
}

static void scan_add(struct scan *s, uint64_t pc, unsigned len)
{
    s->starts[page_offset(pc) / 64] |= 1ull << page_offset(pc) % 64;
    s->pc[s->n++] = pc;
    if (pc < s->lo)
        s->lo = pc;
    if (pc + len > s->hi)
        s->hi = pc + len;
}

/* Decodes until control surely leaves, comes back to what is there, leaves the page, or nothing more can be fetched. */
static bool scan_run(struct scan *s, const struct guest *g, struct code_fetch *f, uint64_t pc, uint64_t mode,
                     unsigned max)
{
    uint64_t at = pc;
    unsigned jumps = 0;

    if (s->size < max * g->insn_size) {
        s->size = REGION_MAX_INSNS * g->insn_size;
        s->insns = g_realloc(s->insns, s->size);
        g_private_set(&scan_insns, s->insns);
    }
    memset(s->starts, 0, sizeof(s->starts));
    s->straddles = false;
    s->n = 0;
    s->lo = UINT64_MAX;
    s->hi = 0;
    while (s->n < max && same_page(at, pc) && !(s->n && scan_has(s, at))) {
        struct insn_info *info = &s->info[s->n];

        if (!g->decode(f, at, mode, scan_insn(s, g, s->n), info) || (info->straddles && s->n))
            break;
        scan_add(s, at, info->len);
        at += info->len;
        if (info->straddles) {          /* one that lies in two pages is a region of its own */
            s->straddles = true;
            break;
        }
        if (info->flow == FLOW_JUMP && jumps++ < MAX_JUMPS)
            at = info->target;
        else if (info->flow != FLOW_NEXT && info->flow != FLOW_COND)
            break;
    }
    return s->n != 0;
}

static void add_leader(struct ir *ir, uint64_t pc, bool first)
{
    for (unsigned i = 0; i < ir->nleaders; i++)
        if (ir->leaders[i].pc == pc)
            return;
    if (ir->nleaders == IR_MAX_LABELS / 2)
        return;
    ir->leaders[ir->nleaders++] = (struct ir_leader){ pc, first ? 0 : ir_label_new(ir), first };
}

static struct ir_leader *leader_at(struct ir *ir, uint64_t pc)
{
    for (unsigned i = 0; i < ir->nleaders; i++)
        if (ir->leaders[i].pc == pc)
            return &ir->leaders[i];
    return NULL;
}

/* Branch targets that are instructions of the region. */
static void find_leaders(struct scan *s, struct ir *ir)
{
    for (unsigned i = 0; i < s->n; i++) {
        const struct insn_info *info = &s->info[i];

        if ((info->flow == FLOW_COND || info->flow == FLOW_JUMP) && scan_has(s, info->target))
            add_leader(ir, info->target, info->target == s->pc[0]);
    }
    /* The last may run into one that is there already. */
    if (s->n > 1 && s->info[s->n - 1].flow <= FLOW_COND && scan_has(s, s->pc[s->n - 1] + s->info[s->n - 1].len))
        add_leader(ir, s->pc[s->n - 1] + s->info[s->n - 1].len, s->pc[s->n - 1] + s->info[s->n - 1].len == s->pc[0]);
}

/* Some branch other than the jump right before it leads to instruction i. */
static bool is_join(const struct scan *s, unsigned i)
{
    for (unsigned k = 0; k < s->n; k++) {
        const struct insn_info *info = &s->info[k];

        if (k + 1 == i && info->flow == FLOW_JUMP)
            continue;
        if ((info->flow == FLOW_COND || info->flow == FLOW_JUMP) && info->target == s->pc[i])
            return true;
    }
    return s->info[s->n - 1].flow <= FLOW_COND && s->pc[s->n - 1] + s->info[s->n - 1].len == s->pc[i];
}

bool region_build(struct ir *ir, const struct guest *g, struct code_fetch *f, uint64_t pc, uint64_t mode,
                  unsigned max_insns, struct jit_region_info *info)
{
    static _Thread_local struct scan s;

    if (!max_insns || max_insns > REGION_MAX_INSNS)
        max_insns = REGION_MAX_INSNS;
    if (!scan_run(&s, g, f, pc, mode, max_insns))
        return false;
    ir_begin(ir, g, pc, mode);
    find_leaders(&s, ir);
    g->emit_begin(ir);
    for (unsigned i = 0; g->emit_scan && i < s.n; i++)
        g->emit_scan(ir, scan_insn(&s, g, i));
    for (unsigned i = 0; i < s.n; i++) {
        struct ir_leader *l = leader_at(ir, s.pc[i]);

        if (l && i) {
            ir_label_bind(ir, l->label);
            l->bound = true;
        }
        if (l && is_join(&s, i))
            g->emit_join(ir);
        if (!l && ir->ended)
            break;                      /* nobody comes here */
        ir_insn_start(ir, s.pc[i], s.info[i].len);
        g->emit(ir, scan_insn(&s, g, i));
    }
    g->emit_end(ir);                    /* which may end it by more than a jump: STI's shadow */
    ir_finish(ir);
    ir->end = s.hi;
    *info = (struct jit_region_info){ .lo = s.lo, .hi = s.hi, .insns = s.n, .straddles = s.straddles };
    return !ir->overflow;
}
