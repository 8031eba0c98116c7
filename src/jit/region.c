/* From guest code to the IR of one region: a straight run of instructions with branches inside it. Guest-neutral. */
#include <glib.h>
#include <string.h>
#include "rhea/base/log.h"
#include "rhea/jit/jit.h"

/* The instructions of a run, decoded; one buffer a thread. */
struct scan {
    uint8_t *insns;
    size_t size;
    struct insn_info info[REGION_MAX_INSNS];
    uint64_t pc[REGION_MAX_INSNS];
    unsigned n;
    uint64_t end;
    bool straddles;
};

static void *scan_insn(const struct scan *s, const struct guest *g, unsigned i) { return s->insns + i * g->insn_size; }

/* Decodes until control surely leaves, the page ends or nothing more can be fetched. */
static bool scan_run(struct scan *s, const struct guest *g, struct code_fetch *f, uint64_t pc, uint64_t mode,
                     unsigned max)
{
    uint64_t page = pc & ~(uint64_t)(CPU_PAGE_SIZE - 1);

    if (s->size < max * g->insn_size) {
        s->size = REGION_MAX_INSNS * g->insn_size;
        s->insns = g_realloc(s->insns, s->size);
    }
    s->straddles = false;
    s->end = pc;
    for (s->n = 0; s->n < max;) {
        struct insn_info *info = &s->info[s->n];

        if ((s->end & ~(uint64_t)(CPU_PAGE_SIZE - 1)) != page)
            break;
        if (!g->decode(f, s->end, mode, scan_insn(s, g, s->n), info) || (info->straddles && s->n))
            break;
        s->pc[s->n++] = s->end;
        s->end += info->len;
        if (info->straddles) {          /* one that lies in two pages is a region of its own */
            s->straddles = true;
            break;
        }
        if (info->flow != FLOW_NEXT && info->flow != FLOW_COND)
            break;
    }
    return s->n != 0;
}

static int scan_find(const struct scan *s, uint64_t pc)
{
    unsigned lo = 0, hi = s->n;

    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;

        if (s->pc[mid] < pc)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < s->n && s->pc[lo] == pc ? (int)lo : -1;
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

/* Branch targets that are instructions of the run. */
static void find_leaders(struct scan *s, struct ir *ir)
{
    for (unsigned i = 0; i < s->n; i++) {
        const struct insn_info *info = &s->info[i];
        int to;

        if (info->flow != FLOW_COND && info->flow != FLOW_JUMP)
            continue;
        to = scan_find(s, info->target);
        if (to >= 0)
            add_leader(ir, info->target, to == 0);
    }
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
        if (l)
            g->emit_join(ir);
        else if (ir->ended)
            break;                      /* nobody comes here */
        ir_insn_start(ir, s.pc[i], s.info[i].len);
        g->emit(ir, scan_insn(&s, g, i));
    }
    ir_finish(ir);
    g->emit_end(ir);
    ir->end = s.end;
    *info = (struct jit_region_info){ .end = s.end, .insns = s.n, .straddles = s.straddles };
    return !ir->overflow;
}
