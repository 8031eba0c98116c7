/* Which translated code lies in which page of guest RAM, so that writes drop exactly what they touch. */
#include <glib.h>
#include <string.h>
#include "accel.h"

/* Of one page of a RAM block with translated code, or with some being made. */
struct code_page {
    struct region *regions;     /* that begin or end here, by page_next */
    uint64_t lines;             /* bit per 64 bytes that some region covers */
    uint64_t writes;            /* times it was written while it had code: a translation begun before is stale */
    struct settle settle;       /* what must have passed before its bytes may be read, see page_settled() */
    unsigned pins;              /* translations in the making */
};

/* A store of another vCPU may be under way while a page is translated: past its look at the soft TLB, but not in memory yet
 * (a vCPU's thread may lie preempted there for milliseconds). The translation would miss it for good. So a vCPU that had a
 * write entry for the page when that was taken away, or that begins a store to it by the slow path, opens an epoch; every
 * vCPU notes the epoch at each turn of its loop, where none of its stores is under way; and a page is translated when
 * those whose stores may be under way have noted the epoch of its last change. Until then who wants to run it waits, or
 * interprets it, which reads memory anew each time. */
static uint64_t epoch_open(struct accel_vm *av) { return atomic_fetch_add(&av->epoch, 1) + 1; }

static bool epoch_passed(const struct jit_cpu *jc, uint64_t epoch)
{
    return atomic_load(&jc->epoch) >= epoch || atomic_load(&jc->quiet);
}

/* A store of this vCPU may be under way. One is remembered by its number; if there are more, all others are waited for. */
static void settle_note(struct accel_vm *av, struct settle *s, unsigned writer)
{
    if (s->writer != writer && !epoch_passed(av->vm->vcpus[s->writer]->cpu->jit, s->writer_epoch))
        s->epoch = MAX(s->epoch, s->writer_epoch);
    s->writer = writer;
    s->writer_epoch = epoch_open(av);
}

bool settle_passed(struct accel_vm *av, const struct jit_cpu *self, const struct settle *s, bool kick)
{
    bool passed = !s->opening;

    for (unsigned i = 0; i < av->vm->nvcpus; i++) {
        struct jit_cpu *jc = av->vm->vcpus[i]->cpu->jit;
        uint64_t epoch = i == s->writer ? MAX(s->epoch, s->writer_epoch) : s->epoch;

        if (!jc || jc == self || epoch_passed(jc, epoch))
            continue;
        if (kick)
            cpu_kick(jc->vcpu->cpu, CPU_EXIT_KICK);
        passed = false;
    }
    return passed;
}

enum { LINE_BITS = CPU_PAGE_BITS - 6 };

/* The block's table is one piece of zeroed memory, of which only the parts in use take room; whoever frees the block
 * frees it. */
static struct code_page *page_get(struct ram_block *rb, uint64_t offset, bool make)
{
    if (!rb->code) {
        if (!make)
            return NULL;
        rb->code = g_malloc0_n((rb->size >> CPU_PAGE_BITS) + 1, sizeof(struct code_page));
    }
    return (struct code_page *)rb->code + (offset >> CPU_PAGE_BITS);
}

static uint64_t lines_of(uint64_t first, uint64_t last)         /* offsets in a page, inclusive */
{
    unsigned a = first >> LINE_BITS, z = last >> LINE_BITS;

    return (~0ull << a) & (~0ull >> (63 - z));
}

/* A region's bytes in its page n (0, 1), as offsets from the page. */
static bool region_span(const struct region *r, unsigned n, uint64_t *first, uint64_t *last)
{
    *first = n ? 0 : r->lo;
    *last = (n ? r->len2 : r->hi) - 1;
    return n ? r->len2 : r->hi > r->lo;
}

static unsigned region_part(const struct region *r, uintptr_t host_page)
{
    return (r->phys & PAGE_MASK) == host_page ? 0 : 1;
}

static void page_insert(struct ram_block *rb, uint64_t offset, struct region *r, unsigned n)
{
    struct code_page *p = page_get(rb, offset, true);
    uint64_t first, last;

    if (!region_span(r, n, &first, &last))
        return;
    r->page_next[n] = p->regions;
    p->regions = r;
    p->lines |= lines_of(first, last);
}

/* Under code_lock. Marks the page before its bytes are read; true if it had no code before: writes must be revoked. */
static bool page_pin(struct ram_block *rb, uint64_t offset, uint64_t *writes)
{
    struct code_page *p = page_get(rb, offset, true);

    p->pins++;
    *writes = p->writes;
    if (__atomic_fetch_or(&rb->page_flags[offset >> CPU_PAGE_BITS], PAGE_HAS_CODE, __ATOMIC_SEQ_CST) & PAGE_HAS_CODE)
        return false;
    p->settle.opening = true;
    return true;
}

static void page_release(struct ram_block *rb, uint64_t offset)
{
    struct code_page *p = page_get(rb, offset, false);

    if (!p || p->regions || p->pins)
        return;
    p->writes++;                        /* they are not seen from here on: for what is being compiled from its bytes */
    __atomic_fetch_and(&rb->page_flags[offset >> CPU_PAGE_BITS], (uint8_t)~PAGE_HAS_CODE, __ATOMIC_SEQ_CST);
}

void code_tables_free(struct accel_vm *av)
{
    for (unsigned i = 0; i < av->vm->ram_blocks->len; i++) {
        struct ram_block *rb = g_ptr_array_index(av->vm->ram_blocks, i);

        g_free(rb->code);
        rb->code = NULL;
    }
}

/* ---- writes */

struct written { struct accel_vm *av; struct cpu *cpu; uintptr_t running; bool self, jumped_to, scan; };

static void page_written(struct written *w, struct ram_block *rb, uint64_t offset, uint64_t len)
{
    struct code_page *p = page_get(rb, offset, false);
    uint64_t from = offset & ~PAGE_MASK, to = from + len - 1, lines = 0;
    uintptr_t host_page = (uintptr_t)rb->host + (offset & PAGE_MASK);
    struct region **at;

    if (!p)
        return;
    p->writes++;
    if (w->cpu)
        settle_note(w->av, &p->settle, w->cpu->vcpu->index);    /* the store itself comes after this */
    if (!(p->lines & lines_of(from, to))) {
        page_release(rb, offset);
        return;
    }
    for (at = &p->regions; *at;) {
        struct region *r = *at;
        unsigned n = region_part(r, host_page);
        uint64_t first, last;

        if (!region_span(r, n, &first, &last) || first > to || last < from) {
            if (!r->dead)
                lines |= lines_of(first, last);
            at = &r->page_next[n];
            continue;
        }
        if (w->running - (r->phys & PAGE_MASK) - r->lo < r->hi - r->lo)
            w->self = true;
        jit_kill_locked(w->av->jit, r); /* dead before jumped_to is looked at: see jump_fill() */
        w->jumped_to |= r->jumped_to;
        if (r->jumped_to && w->cpu && !r->jump_many)
            jump_drop(w->cpu->jit, r);
        else
            w->scan |= r->jumped_to;
        *at = r->page_next[n];
    }
    p->lines = lines;
    page_release(rb, offset);
}

/* Host address of the instruction that cpu is running, 0: unknown. */
static uintptr_t running_at(struct cpu *cpu)
{
    struct ram_block *rb;
    uint64_t offset;

    return (uintptr_t)code_host(cpu, cpu->pc, true, &rb, &offset);
}

static void others_drop_jumps(struct accel_vm *av, struct cpu *cpu)
{
    for (unsigned i = 0; i < av->vm->nvcpus; i++)
        if (av->vm->vcpus[i]->cpu != cpu)
            cpu_kick(av->vm->vcpus[i]->cpu, CPU_EXIT_FLUSH);
}

void code_written(struct accel_vm *av, struct cpu *cpu, struct ram_block *rb, uint64_t offset, uint64_t len)
{
    bool inside = cpu && cpu->jit->in_guest && !cpu->jit->one_insn;
    struct written w = { .av = av, .cpu = cpu, .running = inside ? running_at(cpu) : 0 };

    pthread_mutex_lock(&av->code_lock);
    jit_lock(av->jit);
    while (len) {
        uint64_t n = MIN(len, CPU_PAGE_SIZE - (offset & ~PAGE_MASK));

        page_written(&w, rb, offset, n);
        offset += n;
        len -= n;
    }
    jit_unlock(av->jit);
    pthread_mutex_unlock(&av->code_lock);
    if (w.jumped_to) {                  /* else no jump cache knows them */
        if (cpu && w.scan)
            jump_drop_dead(cpu->jit);
        others_drop_jumps(av, cpu);
    }
    if (inside && w.self) {
        /* It overwrites the region it is in, perhaps the very next instruction: begin it anew, alone. */
        cpu->jit->one_insn = true;
        cpu_loop_exit(cpu);
    }
}

/* ---- translating */

static bool fetch_next(struct code_fetch *f)
{
    struct ram_block *rb;
    uint64_t offset;

    f->page[1] = code_host(f->cpu, f->page_va + CPU_PAGE_SIZE, true, &rb, &offset);
    return f->page[1] != NULL;
}

static uint64_t fetch_next_key(struct code_fetch *f) { return (uintptr_t)f->page[1]; }

bool code_fetch_fill(struct cpu *cpu, uint64_t pc, struct code_fetch *f, uint64_t *key)
{
    static uint8_t nothing[CPU_PAGE_SIZE];
    struct ram_block *rb;
    uint64_t offset;
    uint8_t *host = code_host(cpu, pc, false, &rb, &offset);

    *f = (struct code_fetch){ .cpu = cpu, .first_pc = pc, .page_va = pc & PAGE_MASK, .next_page = fetch_next };
    *key = (uintptr_t)host;
    if (!host) {                        /* not memory: what an empty bus gives */
        if (cpu->guest->bus_error)
            cpu->guest->bus_error(cpu, pc, pc, ACCESS_EXEC);
        if (!nothing[0])
            memset(nothing, 0xff, sizeof(nothing));
        f->page[0] = nothing;
        return false;
    }
    f->page[0] = host - (pc & ~PAGE_MASK);
    return true;
}

void fault_fetch(struct cpu *cpu, uint64_t va)
{
    struct mmu_result res;

    if (!cpu->guest->translate(cpu, va, ACCESS_EXEC, cpu->guest->mmu_index(cpu, true), false, &res))
        cpu_loop_exit(cpu);
}

/* Takes write entries away. Of how many other vCPUs stores to the page may be under way, and the last of them. */
static unsigned revoke_everywhere(struct accel_vm *av, const struct jit_cpu *self, uintptr_t host_page, unsigned *last)
{
    unsigned n = 0;

    for (unsigned i = 0; i < av->vm->nvcpus; i++) {
        struct jit_cpu *jc = av->vm->vcpus[i]->cpu->jit;

        if (jc && tlb_revoke(jc, host_page) && jc != self && !atomic_load(&jc->quiet)) {
            *last = i;
            n++;
        }
    }
    return n;
}

/* Puts the region into its pages' lists, unless one of them was written since the translation began. */
static bool code_enter(struct accel_vm *av, struct region *r, struct ram_block *rb[2], const uint64_t offset[2],
                       const uint64_t writes[2], unsigned pages)
{
    bool fresh = true;

    for (unsigned n = 0; n < pages; n++)
        fresh &= page_get(rb[n], offset[n], true)->writes == writes[n];
    if (!fresh) {
        jit_lock(av->jit);
        jit_kill_locked(av->jit, r);
        jit_unlock(av->jit);
        return false;
    }
    for (unsigned n = 0; n < pages; n++)
        page_insert(rb[n], offset[n], r, n);
    jit_publish(av->jit, r);            /* not before writes can find it */
    return true;
}

/* The pages that a region at pc reads. */
struct code_span { struct ram_block *rb[2]; uint64_t offset[2], writes[2]; unsigned pages; struct settle settle; };

/* Marks the pages as code and takes write entries away. false: stores to them may still be under way. */
static bool span_pin(struct cpu *cpu, uint64_t pc, struct code_span *s)
{
    struct accel_vm *av = cpu->jit->av;
    bool first[2] = { false }, settled = true;
    unsigned writers[2] = { 0 }, writer[2] = { 0 };

    /* An instruction may straddle from within 16 bytes of the page's end. */
    s->pages = (pc & ~PAGE_MASK) > CPU_PAGE_SIZE - 16 &&
               code_host(cpu, (pc & PAGE_MASK) + CPU_PAGE_SIZE, true, &s->rb[1], &s->offset[1]) ? 2 : 1;
    code_host(cpu, pc, true, &s->rb[0], &s->offset[0]);
    pthread_mutex_lock(&av->code_lock);
    for (unsigned n = 0; n < s->pages; n++)
        first[n] = page_pin(s->rb[n], s->offset[n], &s->writes[n]);
    pthread_mutex_unlock(&av->code_lock);
    for (unsigned n = 0; n < s->pages; n++)
        if (first[n])
            writers[n] = revoke_everywhere(av, cpu->jit, (uintptr_t)s->rb[n]->host + (s->offset[n] & PAGE_MASK),
                                           &writer[n]);
    pthread_mutex_lock(&av->code_lock);
    for (unsigned n = 0; n < s->pages; n++) {
        struct code_page *p = page_get(s->rb[n], s->offset[n], true);

        if (first[n])
            p->settle.opening = false;
        if (writers[n] > 1)
            p->settle.epoch = epoch_open(av);
        else if (writers[n])
            settle_note(av, &p->settle, writer[n]);
        if (settled && !settle_passed(av, cpu->jit, &p->settle, true)) {
            s->settle = p->settle;
            settled = false;
        }
    }
    pthread_mutex_unlock(&av->code_lock);
    return settled;
}

/* Under code_lock. */
static void span_unpin(struct code_span *s, bool release)
{
    for (unsigned n = 0; n < s->pages; n++) {
        page_get(s->rb[n], s->offset[n], true)->pins--;
        if (release)
            page_release(s->rb[n], s->offset[n]);
    }
}

enum translated { TRANSLATED, TRANSLATE_AGAIN, TRANSLATE_UNSETTLED, TRANSLATE_FAILED };

static enum translated translate_once(struct cpu *cpu, struct jit_source *src, struct region **out, enum jit_failure *why,
                                      struct settle *settle)
{
    struct accel_vm *av = cpu->jit->av;
    struct code_span s;
    bool settled = span_pin(cpu, src->pc, &s), entered = false;
    struct region *r = NULL;

    if (settled) {
        src->max_insns = av->one_insn_per_region ? 1 : chaos_max_insns(cpu->jit);
        r = jit_translate(av->jit, src, why);
    }
    pthread_mutex_lock(&av->code_lock);
    if (r)
        entered = code_enter(av, r, s.rb, s.offset, s.writes, r->len2 ? 2 : 1);
    span_unpin(&s, settled);            /* else the mark stays, for the next try */
    pthread_mutex_unlock(&av->code_lock);
    *out = entered ? r : NULL;
    *settle = s.settle;
    return !settled ? TRANSLATE_UNSETTLED : !r ? TRANSLATE_FAILED : entered ? TRANSLATED : TRANSLATE_AGAIN;
}

/* A vCPU that is quiet within a helper (DSB waits for the others, a split lock for its turn) goes back to the code that
 * called it: that must still be there. */
static bool code_in_use(const struct vm *vm)
{
    for (unsigned i = 0; i < vm->nvcpus; i++)
        if (vm->vcpus[i]->cpu->jit && vm->vcpus[i]->cpu->jit->in_guest)
            return true;
    return false;
}

void code_flush_all(struct vm *vm, void *arg)
{
    struct accel_vm *av = accel_of(vm);

    if (code_in_use(vm))
        return;                         /* who wants room asks again, and interprets until then */
    pthread_mutex_lock(&av->code_lock);
    for (unsigned i = 0; i < vm->ram_blocks->len; i++) {
        struct ram_block *rb = g_ptr_array_index(vm->ram_blocks, i);

        for (uint64_t p = 0; rb->code && p < rb->size >> CPU_PAGE_BITS; p++) {
            struct code_page *page = page_get(rb, p << CPU_PAGE_BITS, false);

            if (!(rb->page_flags[p] & PAGE_HAS_CODE))
                continue;
            page->regions = NULL;
            page->lines = 0;
            page->writes++;
            page_release(rb, p << CPU_PAGE_BITS);
        }
    }
    jit_flush(av->jit);
    pthread_mutex_unlock(&av->code_lock);
    for (unsigned i = 0; i < vm->nvcpus; i++)
        if (vm->vcpus[i]->cpu->jit)
            jump_flush(vm->vcpus[i]->cpu->jit);
}

/* The region at pc, translated if need be; raises fetch faults. NULL: it is to be interpreted (not plain memory, or others
 * may be writing there just now), or with jit_cpu.again, asked for anew from the loop. */
struct region *code_translate(struct cpu *cpu, uint64_t pc, uint64_t mode)
{
    struct accel_vm *av = cpu->jit->av;
    struct jit_source src = { .cpu = cpu, .pc = pc, .mode = mode, .phys_of_next = fetch_next_key };

    for (unsigned tries = 0; tries < 4; tries++) {
        enum jit_failure why;
        struct settle settle;
        struct region *r;

        if (!code_fetch_fill(cpu, pc, &src.fetch, &src.phys))
            return NULL;
        switch (translate_once(cpu, &src, &r, &why, &settle)) {
        case TRANSLATED:
            return r;
        case TRANSLATE_AGAIN:
            continue;
        case TRANSLATE_UNSETTLED:
            cpu->jit->again = settle_wait(cpu->jit, &settle);
            return NULL;
        case TRANSLATE_FAILED:
            break;
        }
        if (why == JIT_REFUSED)
            return NULL;
        if (why == JIT_NO_FETCH) {      /* its first instruction goes on in a page that is not there */
            fault_fetch(cpu, (pc & PAGE_MASK) + CPU_PAGE_SIZE);
            return NULL;
        }
        vcpus_exclusive(av->vm, code_flush_all, NULL);
    }
    return NULL;
}

/* ---- tier 2 */

bool code_copy(struct cpu *cpu, struct ram_block *rb, uint64_t offset, uint8_t *bytes, uint64_t *writes)
{
    struct accel_vm *av = cpu->jit->av;
    struct code_page *p;
    bool settled;

    pthread_mutex_lock(&av->code_lock);
    p = page_get(rb, offset, false);
    settled = p && p->regions && settle_passed(av, cpu->jit, &p->settle, false);
    if (settled) {
        *writes = p->writes;
        memcpy(bytes, rb->host + (offset & PAGE_MASK), CPU_PAGE_SIZE);
    }
    pthread_mutex_unlock(&av->code_lock);
    return settled;
}

static bool replace_locked(struct accel_vm *av, struct region *r, struct jit_hot_source *s)
{
    struct ram_block *rb = s->opaque;
    struct code_page *p;

    if (!g_ptr_array_find(av->vm->ram_blocks, rb, NULL) || s->place >= rb->size ||
        (uintptr_t)rb->host + s->place != s->phys)
        return false;
    p = page_get(rb, s->place, false);
    if (!p || !p->regions || p->writes != s->writes)
        return false;
    page_insert(rb, s->place, r, 0);    /* not after others can find it */
    if (jit_supersede(av->jit, r, s))
        return true;
    if (p->regions == r)
        p->regions = r->page_next[0];
    return false;
}

bool code_replace(struct accel_vm *av, struct region *r, struct jit_hot_source *s)
{
    bool done;

    mem_transaction_begin(av->vm);      /* of no change: blocks of memory do not go meanwhile */
    pthread_mutex_lock(&av->code_lock);
    done = replace_locked(av, r, s);
    pthread_mutex_unlock(&av->code_lock);
    mem_transaction_commit(av->vm);
    return done;
}
