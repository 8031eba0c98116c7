/* From guest code to the IR of one region: instructions one after the other, on through unconditional jumps within the
 * page, with the branches among them as internal edges. Then the rest of its loops: compilers lay their bodies behind a
 * function's end. Guest-neutral. */
#include <glib.h>
#include <string.h>
#include "rhea/base/log.h"
#include "rhea/jit/jit.h"

enum { MAX_JUMPS = 6,           /* unconditional ones that a line goes through */
       LOOP_TRIES = 8,          /* lines looked at for leading back */
       UNRUN_MOST = 4 };        /* instructions passed over that have not run */
static GPrivate scan_insns = G_PRIVATE_INIT(g_free);    /* a thread that ends gives its buffer back */

/* The instructions of a region, decoded, in the order in which they are emitted; one buffer a thread. */
struct scan {
    uint8_t *insns;
    size_t size;
    struct insn_info info[REGION_MAX_INSNS];
    uint64_t pc[REGION_MAX_INSNS];
    bool last[REGION_MAX_INSNS];        /* of its line: what follows is not where control goes on */
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

static void scan_add(struct scan *s, uint64_t pc)
{
    s->starts[page_offset(pc) / 64] |= 1ull << page_offset(pc) % 64;
    s->last[s->n] = false;
    s->pc[s->n++] = pc;
}

static void scan_cut(struct scan *s, unsigned n)
{
    while (s->n > n) {
        unsigned at = page_offset(s->pc[--s->n]);

        s->starts[at / 64] &= ~(1ull << at % 64);
    }
}

static void scan_begin(struct scan *s, const struct guest *g)
{
    if (s->size < REGION_MAX_INSNS * g->insn_size) {
        s->size = REGION_MAX_INSNS * g->insn_size;
        s->insns = g_realloc(s->insns, s->size);
        g_private_set(&scan_insns, s->insns);
    }
    memset(s->starts, 0, sizeof(s->starts));
    s->straddles = false;
    s->n = 0;
}

/* What branches have always led past: [from, s->n) of a line. */
struct unrun { bool on; unsigned from; };

/* Goes on at `at`, behind a conditional branch or further. false: too far from code that has run. */
static bool unrun_goes_on(struct unrun *u, const struct scan *s, const struct region_profile *profile, uint64_t at)
{
    const struct insn_info *before = s->n ? &s->info[s->n - 1] : NULL;

    if (!profile || !profile->complete || !before || (!u->on && before->flow != FLOW_COND))
        return true;
    if (!u->on)
        u->from = s->n;
    u->on = !profile->ran(profile, at);
    return !u->on || s->n - u->from < UNRUN_MOST;
}

/* Decodes until control surely leaves (`straight`: may leave), comes back to what is there, leaves the page, or nothing more
 * can be fetched. */
static void scan_line(struct scan *s, const struct guest *g, struct code_fetch *f, uint64_t at, uint64_t mode, unsigned max,
                      bool straight, const struct region_profile *profile)
{
    const unsigned first = s->n;
    struct unrun unrun = { 0 };
    unsigned jumps = 0;

    while (s->n < max && (!s->n || (same_page(at, s->pc[0]) && !scan_has(s, at)))) {
        struct insn_info *info = &s->info[s->n];

        if (s->n > first && !unrun_goes_on(&unrun, s, profile, at))
            break;
        if (!g->decode(f, at, mode, scan_insn(s, g, s->n), info) || (info->straddles && s->n))
            break;
        scan_add(s, at);
        at += info->len;
        if (info->straddles) {          /* one that lies in two pages is a region of its own */
            s->straddles = true;
            break;
        }
        if (straight && info->flow != FLOW_NEXT)
            break;
        if (info->flow == FLOW_JUMP && jumps++ < MAX_JUMPS)
            at = info->target;
        else if (info->flow != FLOW_NEXT && info->flow != FLOW_COND)
            break;
    }
    if (unrun.on && !(same_page(at, s->pc[0]) && scan_has(s, at)))
        scan_cut(s, unrun.from);
    if (s->n > first)
        s->last[s->n - 1] = true;
}

static unsigned scan_index(const struct scan *s, uint64_t pc)
{
    unsigned i = 0;

    if (!scan_has(s, pc))
        return s->n;
    while (s->pc[i] != pc)
        i++;
    return i;
}

/* A jump to itself waits for somebody to change it: each turn leaves the region. */
static bool waits(const struct scan *s, unsigned i) { return s->info[i].flow == FLOW_JUMP && s->info[i].target == s->pc[i]; }

static bool branches(const struct insn_info *info) { return info->flow == FLOW_COND || info->flow == FLOW_JUMP; }

/* A line's last instruction may run into code that is there already. */
static bool runs_on(const struct scan *s, unsigned i) { return s->last[i] && s->info[i].flow <= FLOW_COND; }

/* Index of the first instruction that control may go to from i, other than the next of its line; s->n: none. */
static unsigned scan_edge(const struct scan *s, unsigned i)
{
    unsigned at = branches(&s->info[i]) ? scan_index(s, s->info[i].target) : s->n;

    return runs_on(s, i) ? MIN(at, scan_index(s, s->pc[i] + s->info[i].len)) : at;
}

static bool in_loop(const struct scan *s, unsigned i)
{
    for (unsigned k = i; k < s->n; k++)
        if (scan_edge(s, k) <= i)
            return true;
    return false;
}

/* The line that begins at `first`, which branch `from` leads to, stays up to its last way back, if the branch is in a loop or
 * that makes it one. */
static void keep_loop(struct scan *s, unsigned first, unsigned from)
{
    unsigned kept = first;
    bool loop = false;

    for (unsigned i = first; i < s->n; i++) {
        unsigned at = scan_edge(s, i);

        kept = at < first ? i + 1 : kept;
        loop |= at <= from;
    }
    scan_cut(s, loop || in_loop(s, from) ? kept : first);
    s->last[s->n - 1] = true;
}

/* Branches out of the region to code that has run and leads back. A loop that is found makes more of them worth a look. */
static void scan_loops(struct scan *s, const struct guest *g, struct code_fetch *f, uint64_t mode, unsigned max,
                       const struct region_profile *profile)
{
    unsigned tries = 0, before;

    do {
        before = s->n;
        for (unsigned i = 0; i < s->n && s->n < max && tries < LOOP_TRIES; i++) {
            uint64_t to = s->info[i].target;
            unsigned first = s->n;

            if (s->info[i].flow != FLOW_COND || !same_page(to, s->pc[0]) || scan_has(s, to) || !profile->ran(profile, to))
                continue;
            tries++;
            scan_line(s, g, f, to, mode, max, false, profile);
            keep_loop(s, first, i);
        }
    } while (s->n > before);
}

static bool scan_run(struct scan *s, const struct guest *g, struct code_fetch *f, uint64_t pc, uint64_t mode, unsigned max,
                     bool straight, const struct region_profile *profile)
{
    scan_begin(s, g);
    scan_line(s, g, f, pc, mode, max, straight, profile);
    if (s->n && profile && s->info[s->n - 1].flow != FLOW_NEXT)
        scan_loops(s, g, f, mode, max, profile);
    s->lo = UINT64_MAX;
    s->hi = 0;
    for (unsigned i = 0; i < s->n; i++) {
        s->lo = MIN(s->lo, s->pc[i]);
        s->hi = MAX(s->hi, s->pc[i] + s->info[i].len);
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
        uint64_t next = s->pc[i] + info->len;

        if (branches(info) && !waits(s, i) && scan_has(s, info->target))
            add_leader(ir, info->target, info->target == s->pc[0]);
        if (s->n > 1 && runs_on(s, i) && scan_has(s, next))
            add_leader(ir, next, next == s->pc[0]);
    }
}

/* Some branch other than the jump right before it leads to instruction i. */
static bool is_join(const struct scan *s, unsigned i)
{
    for (unsigned k = 0; k < s->n; k++) {
        const struct insn_info *info = &s->info[k];

        if (k + 1 == i && info->flow == FLOW_JUMP && !s->last[k])
            continue;
        if ((branches(info) && info->target == s->pc[i]) || (runs_on(s, k) && s->pc[k] + info->len == s->pc[i]))
            return true;
    }
    return false;
}

static void emit_insn(struct ir *ir, const struct guest *g, const struct scan *s, unsigned i)
{
    ir_insn_start(ir, s->pc[i], s->info[i].len);
    g->emit(ir, scan_insn(s, g, i));
    if (s->last[i] && i + 1 < s->n && !ir->ended)
        ir_goto(ir, s->pc[i] + s->info[i].len);
}

static bool build(struct ir *ir, const struct guest *g, struct code_fetch *f, uint64_t pc, uint64_t mode, unsigned max_insns,
                  bool straight, const struct region_profile *profile, struct jit_region_info *info)
{
    static _Thread_local struct scan s;

    if (!max_insns || max_insns > REGION_MAX_INSNS)
        max_insns = REGION_MAX_INSNS;
    if (!scan_run(&s, g, f, pc, mode, max_insns, straight, profile))
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
        if (l || !ir->ended)
            emit_insn(ir, g, &s, i);
        else
            while (!s.last[i])          /* nobody comes here, nor to the rest of the line */
                i++;
    }
    g->emit_end(ir);                    /* which may end it by more than a jump: STI's shadow */
    ir_finish(ir);
    ir->end = s.hi;
    *info = (struct jit_region_info){ .lo = s.lo, .hi = s.hi, .insns = s.n, .straddles = s.straddles };
    return !ir->overflow;
}

bool region_build(struct ir *ir, const struct guest *g, struct code_fetch *f, uint64_t pc, uint64_t mode,
                  unsigned max_insns, const struct region_profile *profile, struct jit_region_info *info)
{
    return build(ir, g, f, pc, mode, max_insns, false, profile, info);
}

bool region_build_straight(struct ir *ir, const struct guest *g, struct code_fetch *f, uint64_t pc, uint64_t mode,
                           unsigned max_insns, struct jit_region_info *info)
{
    return build(ir, g, f, pc, mode, max_insns, true, NULL, info);
}
