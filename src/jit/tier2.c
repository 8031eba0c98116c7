/* Tier 2: hot regions compiled once more, in the background, over as much of the region graph as their page holds. It works
 * on a copy of the guest's bytes, with memory and a part of the cache of its own; only to take and to give numbers does it
 * hold the lock. */
#include <errno.h>
#include <glib.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "cache.h"
#include "rhea/base/log.h"

bool hot_part_init(struct jit *j, struct error *err)
{
    struct jit_hot_part *h = &j->hot;

    h->start = (j->size / HOT_SHARE * (HOT_SHARE - 1)) & ~(size_t)0xffff;
    j->limit = h->start;
    h->regions = mmap(NULL, HOT_REGIONS * sizeof(*h->regions), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    h->exits = mmap(NULL, HOT_EXITS * sizeof(*h->exits), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (h->regions == MAP_FAILED || h->exits == MAP_FAILED)
        return error_set_errno(err, errno, NULL, "cannot reserve the tables of translated code");
    h->graph = graph_new();
    h->ir = ir_new();
    h->an = ir_analysis_new();
    h->backend = codegen_new(j->opts.memory, j->opts.guest);
    return true;
}

void hot_part_free(struct jit *j)
{
    struct jit_hot_part *h = &j->hot;

    if (h->regions && h->regions != MAP_FAILED)
        munmap(h->regions, HOT_REGIONS * sizeof(*h->regions));
    if (h->exits && h->exits != MAP_FAILED)
        munmap(h->exits, HOT_EXITS * sizeof(*h->exits));
    graph_free(h->graph);
    ir_free(h->ir);
    ir_analysis_free(h->an);
    codegen_free(h->backend);
}

void hot_part_flush(struct jit *j)
{
    struct jit_hot_part *h = &j->hot;

    if (h->nregions)
        memset(h->regions, 0, h->nregions * sizeof(*h->regions));
    h->nregions = h->nexits = 0;
    h->used = 0;
}

/* ---- compiling */

struct ran { struct region_profile profile; struct jit *j; const struct jit_hot_source *src; };

/* It began a region, so control came there by a jump that left another. */
static bool ran(const struct region_profile *p, uint64_t pc)
{
    const struct ran *x = (const struct ran *)p;
    const struct region *r = jit_find(x->j, (x->src->phys & -(uint64_t)CPU_PAGE_SIZE) | (pc & (CPU_PAGE_SIZE - 1)), x->src->mode,
                                      UINT64_MAX);

    return r && !r->dead && !r->len2;
}

static bool no_next_page(struct code_fetch *f) { return false; }

static void log_ir(const struct jit *j, const struct jit_hot_source *src, const struct region *r, bool optimized)
{
    if (!log_in_filter(src->pc))
        return;
    if (!optimized && log_enabled(LOG_OP))
        cache_log_text("op, tier 2", r, ir_print(j->hot.ir));
    if (optimized && log_enabled(LOG_OP_OPT))
        cache_log_text("op_opt, tier 2", r, ir_print_optimized(j->hot.ir, j->hot.an));
}

enum made { MADE, MADE_USELESS, MADE_REFUSED };

static enum made compile(struct jit *j, const struct jit_hot_source *src, struct region *r, struct jit_region_info *info,
                         struct code_out *out)
{
    struct jit_hot_part *h = &j->hot;
    struct ran profile = { { ran }, j, src };

    for (unsigned max = 0;; max = info->insns / 2) {
        struct code_fetch f = { .cpu = src->cpu, .first_pc = src->pc, .page_va = src->pc & -(uint64_t)CPU_PAGE_SIZE,
                                .page = { src->bytes }, .next_page = no_next_page };
        bool built = region_build_hot(h->graph, h->ir, src->cpu->guest, &f, src->pc, src->mode, max, &profile.profile, info);

        if (!built && !h->ir->overflow)
            return MADE_REFUSED;
        if (info->insns <= src->insns && !info->inlined)
            return MADE_USELESS;
        if (info->insns < 2)
            return MADE_REFUSED;
        if (!built)
            continue;
        *r = (struct region){ .phys = src->phys, .mode = src->mode, .insns = info->insns, .phys2 = UINT64_MAX,
                              .lo = info->lo & (CPU_PAGE_SIZE - 1), .hi = ((info->hi - 1) & (CPU_PAGE_SIZE - 1)) + 1,
                              .jump_pc = JUMP_PC_NONE, .hot = true, .tried = true };
        log_ir(j, src, r, false);
        ir_optimize(h->ir, h->an);
        log_ir(j, src, r, true);
        if (codegen_compile(h->backend, &j->stubs, h->ir, h->an, out))
            return MADE;
    }
}

/* Under the lock. Where the next one goes; false: no room, or src is of before a flush. */
static bool place_take(struct jit *j, const struct jit_hot_source *src, struct code_out *out, struct region **r)
{
    struct jit_hot_part *h = &j->hot;

    if (src->generation != j->stats.flushes || h->nregions == HOT_REGIONS || h->nexits + IR_MAX_EXITS > HOT_EXITS ||
        j->size - h->start - h->used < REGION_ROOM)
        return false;
    *r = &h->regions[h->nregions];
    *out = (struct code_out){ .rw = j->rw + h->start + h->used, .rx_delta = j->rx - j->rw,
                              .first_exit = MAX_EXITS + h->nexits };
    out->limit = out->rw + REGION_ROOM;
    return true;
}

static void record(struct jit *j, struct region *r, const struct jit_region_info *info, const struct code_out *out)
{
    struct jit_hot_part *h = &j->hot;

    r->code = j->rx + (out->rw - j->rw);
    r->code_size = out->size;
    r->first_exit = out->first_exit;
    cache_exits_fill(&h->exits[h->nexits], r, h->ir, out);
    h->nexits += r->nexits;
    h->nregions++;
    h->used += code_round(out->size);
    j->stats.hot.made++;
    j->stats.hot.insns += info->insns;
    j->stats.hot.inlined += info->inlined;
}

struct region *jit_recompile(struct jit *j, const struct jit_hot_source *src)
{
    struct jit_region_info info = { 0 };
    struct region *r = NULL, made;
    int64_t start = cache_now_ns();
    enum made what = MADE_REFUSED;
    struct code_out out;
    bool room;

    pthread_mutex_lock(&j->lock);
    room = place_take(j, src, &out, &r);
    pthread_mutex_unlock(&j->lock);
    if (room)
        what = compile(j, src, &made, &info, &out);
    pthread_mutex_lock(&j->lock);
    j->stats.hot.ns += cache_now_ns() - start;
    if (src->generation != j->stats.flushes) {
        j->stats.hot.stale++;
        r = NULL;
    } else if (what != MADE) {
        j->stats.hot.useless += what == MADE_USELESS;
        j->stats.hot.refused += what == MADE_REFUSED;
        r = NULL;
    } else {
        *r = made;
        record(j, r, &info, &out);
    }
    pthread_mutex_unlock(&j->lock);
    if (r)
        cache_log_code(j, r, src->pc, "hot");
    return r;
}

bool jit_supersede(struct jit *j, struct region *r, const struct jit_hot_source *src)
{
    struct region *old = src->old;
    bool fresh;

    pthread_mutex_lock(&j->lock);
    fresh = src->generation == j->stats.flushes && !old->dead;
    if (fresh) {
        cache_insert(j, r);
        for (struct region_exit *e = old->links_in; e; e = e->next_in) {
            e->to = r;
            codegen_patch_jump(e->patch, j->rw + ((uint8_t *)r->code - j->rx));
        }
        r->links_in = old->links_in;
        old->links_in = NULL;
        atomic_store(&old->better, r);
    }
    pthread_mutex_unlock(&j->lock);
    return fresh;
}

void jit_count_stale(struct jit *j)
{
    pthread_mutex_lock(&j->lock);
    j->stats.hot.stale++;
    pthread_mutex_unlock(&j->lock);
}

/* ---- the queue */

static unsigned queue_find(const struct hot_queue *q, bool hottest)
{
    unsigned best = 0;

    for (unsigned i = 1; i < q->n; i++)
        if (hottest ? q->entry[i]->heat > q->entry[best]->heat : q->entry[i]->heat < q->entry[best]->heat)
            best = i;
    return best;
}

void hot_queue_push(struct hot_queue *q, struct jit_hot_source *s)
{
    unsigned at;

    if (q->n < HOT_QUEUE) {
        q->entry[q->n++] = s;
        return;
    }
    at = queue_find(q, false);
    if (q->entry[at]->heat < s->heat) {
        struct jit_hot_source *coldest = q->entry[at];

        q->entry[at] = s;
        s = coldest;
    }
    q->dropped++;
    if (s->old)
        s->old->tried = false;          /* it may be asked for again */
    g_free(s);
}

struct jit_hot_source *hot_queue_pop(struct hot_queue *q)
{
    struct jit_hot_source *s;
    unsigned at;

    if (!q->n)
        return NULL;
    at = queue_find(q, true);
    s = q->entry[at];
    memmove(&q->entry[at], &q->entry[at + 1], (--q->n - at) * sizeof(q->entry[0]));     /* equals keep their order */
    return s;
}

void hot_queue_drop(struct hot_queue *q, const struct cpu *cpu)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < q->n; i++) {
        if (q->entry[i]->cpu == cpu)
            g_free(q->entry[i]);
        else
            q->entry[kept++] = q->entry[i];
    }
    q->n = kept;
}

void hot_queue_clear(struct hot_queue *q)
{
    while (q->n)
        g_free(q->entry[--q->n]);
}
