/* Translated code of a process: found by virtual address and mode; which pages it lies in; what makes it go.
 *
 * Arm and RISC-V say themselves that they wrote code (engine_code_changed()). x86 does not: a page that code was translated
 * from loses its write permission on the host; a store there faults, drops the code and gets it back (code_write_fault()). Where
 * that happens all the time, and in shared memory (whose other mappings, here or elsewhere, are not protected), regions keep a
 * copy of their bytes, are neither linked nor in a jump cache, and compare at each entry.
 *
 * Dropped regions stay where they are, for threads that are in them, until the whole cache is flushed. Jump caches are
 * cleared by whoever drops: the owner looks at pc before code, and a region that died meanwhile is still there to be run to
 * its next exit. */
#include <string.h>
#include <sys/mman.h>
#include "internal.h"
#include "rhea/base/log.h"

enum { THRASH_LIMIT = 64,       /* lifts of a page's protection after which its regions are checked */
       COLD_RUNS = 1, COLD_PLACES = 1 << 18, INSN_MOST = 16 };

void code_init(struct engine *e)
{
    bool logged = log_enabled(LOG_IN_ASM | LOG_OP | LOG_OP_OPT | LOG_OUT_ASM | LOG_EXEC | LOG_CPU);

    if (!e->opts.eager && !e->opts.interp && !e->saved && !logged) {
        e->cold = mmap(NULL, COLD_PLACES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (e->cold == MAP_FAILED)
            e->cold = NULL;
    }
    e->pages = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, g_free);
    e->copies = g_ptr_array_new_with_free_func(g_free);
}

void code_free(struct engine *e)
{
    if (e->cold)
        munmap(e->cold, COLD_PLACES);
    g_clear_pointer(&e->pages, g_hash_table_destroy);
    g_ptr_array_free(e->copies, true);
}

/* Under engine.lock, as all that follows up to the next section. */
static struct code_page *page_get(struct engine *e, uint64_t va, bool make)
{
    uint64_t page = va & PAGE_MASK;
    struct code_page *p = g_hash_table_lookup(e->pages, &page);

    if (!p && make) {
        p = g_new0(struct code_page, 1);
        p->va = page;
        g_hash_table_insert(e->pages, &p->va, p);
    }
    return p;
}

static void jump_forget(struct engine *e, const struct region *r)
{
    for (struct jit_cpu *jc = e->cpus; jc; jc = jc->next) {
        unsigned h = jump_hash(r->phys, jc->jump_bits);

        for (unsigned i = 0; i < JUMP_SLOTS; i++) {
            struct jump_entry *entry = jc->jump[i].entry;

            if (entry && entry[h].pc == r->phys)
                __atomic_store_n(&entry[h].pc, h ? 0 : 1, __ATOMIC_RELEASE);
        }
    }
}

/* Each page has one list; a region that straddles is in that of its first page by page_next[0] and in that of its second by
 * page_next[1]. Which link to follow is told by the page. */
static struct region **link_of(const struct code_page *p, struct region *r)
{
    return &r->page_next[(r->phys & PAGE_MASK) != p->va];
}

static void page_unlink(struct code_page *p, const struct region *r)
{
    struct region **at = &p->regions;

    while (*at && *at != r)
        at = link_of(p, *at);
    if (*at)
        *at = *link_of(p, *at);
}

static void region_drop(struct engine *e, struct region *r)
{
    struct code_page *first = page_get(e, r->phys, false), *second = r->len2 ? page_get(e, r->phys2, false) : NULL;

    if (first)
        page_unlink(first, r);
    if (second)
        page_unlink(second, r);
    jit_lock(e->jit);
    jit_kill_locked(e->jit, r);
    jit_unlock(e->jit);
    jump_forget(e, r);
}

static bool overlaps(const struct code_page *p, const struct region *r, uint64_t va, uint64_t end)
{
    uint64_t lo = p->va + r->lo, hi = p->va + r->hi;

    if ((r->phys & PAGE_MASK) != p->va)
        lo = p->va, hi = p->va + r->len2;
    return lo < end && va < hi;
}

static void kick_locked(struct engine *e)
{
    for (struct jit_cpu *jc = e->cpus; jc; jc = jc->next)
        if (atomic_load(&jc->running))  /* one in a system call comes back to the loop, and its call is not to be interrupted */
            cpu_kick(jc->cpu, CPU_EXIT_FLUSH);
}

static void page_drop(struct engine *e, struct code_page *p, uint64_t va, uint64_t end)
{
    struct region *next;
    bool dropped = false;

    p->writes++;
    for (struct region *r = p->regions; r; r = next) {
        next = *link_of(p, r);
        if (!overlaps(p, r, va, end))
            continue;
        region_drop(e, r);
        dropped = true;
    }
    if (dropped)
        kick_locked(e);                 /* who is in one of their loops may wait there for what has just been written */
}

/* [va, end); end 0 is that of the address space. */
static void drop_locked(struct engine *e, uint64_t va, uint64_t end)
{
    GHashTableIter i;
    struct code_page *p;

    end = end ? end : UINT64_MAX;
    if ((end - va) >> CPU_PAGE_BITS < g_hash_table_size(e->pages)) {
        for (uint64_t page = va & PAGE_MASK; page < end; page += CPU_PAGE_SIZE)
            if ((p = page_get(e, page, false)))
                page_drop(e, p, va, end);
        return;
    }
    g_hash_table_iter_init(&i, e->pages);
    while (g_hash_table_iter_next(&i, NULL, (gpointer *)&p))
        if (p->va < end && va < p->va + CPU_PAGE_SIZE)
            page_drop(e, p, va, end);
}

/* The page may be written on the host as the guest may. */
static void page_lift(struct engine *e, struct code_page *p)
{
    if (!p->is_protected)
        return;
    p->is_protected = false;
    mprotect(host_of(e, p->va), CPU_PAGE_SIZE, PROT_READ | PROT_WRITE);
}

/* ---- what makes code go */

void code_drop(struct engine *e, uint64_t va, uint64_t n)
{
    pthread_mutex_lock(&e->lock);
    drop_locked(e, va, va + n < va ? 0 : va + n);
    pthread_mutex_unlock(&e->lock);
}

static void page_forget(struct code_page *p)
{
    p->is_protected = p->checked = p->writes_itself = false;
    p->thrash = 0;
}

/* The change of the mapping made the host's protection anew. */
static void mapping_changed(struct engine *e, uint64_t va, uint64_t n)
{
    GHashTableIter i;
    struct code_page *p;

    pthread_mutex_lock(&e->lock);
    drop_locked(e, va, va + n < va ? 0 : va + n);
    if (n >> CPU_PAGE_BITS < g_hash_table_size(e->pages)) {
        for (uint64_t page = va & PAGE_MASK; page - (va & PAGE_MASK) < n; page += CPU_PAGE_SIZE)
            if ((p = page_get(e, page, false)))
                page_forget(p);
    } else {
        g_hash_table_iter_init(&i, e->pages);
        while (g_hash_table_iter_next(&i, NULL, (gpointer *)&p))
            if (p->va - (va & PAGE_MASK) < n)
                page_forget(p);
    }
    pthread_mutex_unlock(&e->lock);
}

void engine_mapped(struct engine *e, uint64_t va, uint64_t n) { mapping_changed(e, va, n); }
void engine_unmapped(struct engine *e, uint64_t va, uint64_t n) { mapping_changed(e, va, n); }

void engine_code_changed(struct engine *e, uint64_t va, uint64_t n)
{
    pthread_mutex_lock(&e->lock);
    drop_locked(e, va, va + n < va ? 0 : va + n);
    kick_locked(e);
    pthread_mutex_unlock(&e->lock);
}

void *guest_host_write(struct engine *e, uint64_t va, size_t n)
{
    uint8_t *host = guest_host(e, va, n);
    struct code_page *p;

    if (!host || !n || !e->user->code_protect)
        return host;
    pthread_mutex_lock(&e->lock);
    if (n >> CPU_PAGE_BITS < 4096)
        for (uint64_t page = va & PAGE_MASK; page < va + n; page += CPU_PAGE_SIZE)
            if ((p = page_get(e, page, false)) && p->is_protected) {
                drop_locked(e, page, page + CPU_PAGE_SIZE);
                page_lift(e, p);
            }
    pthread_mutex_unlock(&e->lock);
    return host;
}

/* The page was protected when the store was refused, and another thread lifted that before we came to look. A store that is refused
 * although the guest may write there begins anew, once for each state of the page. */
static bool lifted_meanwhile(struct jit_cpu *jc, uint64_t va, uint32_t writes)
{
    int prot = mem_prot(jc->thread->process, va);

    if (prot < 0 || !(prot & PROT_WRITE) || (jc->again_va == va && jc->again_writes == writes))
        return false;
    jc->again_va = va;
    jc->again_writes = writes;
    return true;
}

/* A store that the host refused. */
bool code_write_fault(struct cpu *cpu, uint64_t va, unsigned n)
{
    struct engine *e = cpu->jit->engine;
    uint32_t writes = 0;
    bool ours = false;

    if (!e->user->code_protect)
        return false;
    if (e->user->bits == 32)
        va = (uint32_t)va;
    pthread_mutex_lock(&e->lock);
    for (uint64_t page = va & PAGE_MASK; page < va + n; page += CPU_PAGE_SIZE) {
        struct code_page *p = page_get(e, page, false);

        if (page == (va & PAGE_MASK))
            writes = p ? p->writes : 0;
        if (!p || !p->is_protected)
            continue;
        ours = true;
        drop_locked(e, page, page + CPU_PAGE_SIZE);
        page_lift(e, p);
        if (++p->thrash >= THRASH_LIMIT) {
            p->checked = true;
            p->writes_itself = (cpu->pc & PAGE_MASK) == page;
        }
    }
    pthread_mutex_unlock(&e->lock);
    return ours || lifted_meanwhile(cpu->jit, va, writes);
}

/* With the world stopped. */
void code_flush(void *opaque)
{
    struct engine *e = opaque;
    GHashTableIter i;
    struct code_page *p;

    pthread_mutex_lock(&e->lock);
    g_hash_table_iter_init(&i, e->pages);
    while (g_hash_table_iter_next(&i, NULL, (gpointer *)&p)) {
        p->regions = NULL;
        p->writes++;
    }
    jit_flush(e->jit);
    g_ptr_array_set_size(e->copies, 0);
    for (struct jit_cpu *jc = e->cpus; jc; jc = jc->next)
        for (unsigned k = 0; k < JUMP_SLOTS; k++)
            if (jc->jump[k].entry) {
                memset(jc->jump[k].entry, 0, sizeof(struct jump_entry) << jc->jump_bits);
                jc->jump[k].entry[0].pc = 1;
            }
    pthread_mutex_unlock(&e->lock);
}

/* ---- jump caches */

/* Those that are free hold 0, which hashes to 0; there it is 1: none matches. NULL: there is no memory. */
static struct jump_entry *entries_new(unsigned bits, bool soon)
{
    struct jump_entry *entry = mmap(NULL, sizeof(struct jump_entry) << bits, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | (soon ? MAP_POPULATE : 0), -1, 0);

    if (entry == MAP_FAILED)
        return NULL;
    entry[0].pc = 1;
    return entry;
}

bool jump_begin(struct jit_cpu *jc)
{
    for (unsigned i = 0; i < 2; i++)    /* of a mode, and of its other side: see jump_select() */
        if (!jc->jump[i].entry && !(jc->jump[i].entry = entries_new(jc->jump_bits, !i)))
            return false;
    return true;
}

/* A cache of that mode; `kept` is not taken for it. */
static struct jump_slot *slot_take(struct jit_cpu *jc, uint64_t mode, const struct jump_slot *kept)
{
    struct jump_slot *s = NULL;

    for (unsigned i = 0; i < JUMP_SLOTS; i++) {
        struct jump_slot *x = &jc->jump[i];

        if (x->used && x->mode == mode) {
            s = x;
            break;
        }
        if (x != kept && (!s || x->used < s->used))
            s = x;
    }
    if (!s->entry)
        s->entry = entries_new(jc->jump_bits, false);
    for (unsigned i = 0; !s->entry; i++)        /* one that has memory: jump_begin() made two of them */
        if (&jc->jump[i] != kept && jc->jump[i].entry)
            s = &jc->jump[i];
    if (s->used && s->mode != mode)
        memset(s->entry, 0, sizeof(struct jump_entry) << jc->jump_bits);
    s->entry[0].pc = s->entry[0].pc ? s->entry[0].pc : 1;
    s->mode = mode;
    s->used = ++jc->jump_clock;
    return s;
}

void jump_select(struct cpu *cpu, uint64_t mode)
{
    const struct guest *g = cpu->guest;
    struct jump_slot *s = slot_take(cpu->jit, mode, NULL);

    cpu->mode = mode;
    cpu->jump_cache = s->entry;
    cpu->jump_mask = jump_mask(cpu->jit->jump_bits);
    if (mode & g->side_modes) {
        bool side = mode & g->side_mode;

        cpu->jump_sides[side] = s->entry;
        cpu->jump_sides[!side] = slot_take(cpu->jit, mode ^ g->side_mode, s)->entry;
    }
}

/* Programs jump to more places than the caches hold; each that is not found is looked up in C. */
static void caches_grow(struct cpu *cpu)
{
    enum { TIMES = 2 };                 /* in bits */
    struct jit_cpu *jc = cpu->jit;
    const unsigned bits = jc->jump_bits;
    struct jump_entry *made[JUMP_SLOTS] = { NULL };
    bool enough = true;

    jc->jump_conflicts = 0;
    for (unsigned i = 0; i < JUMP_SLOTS && enough; i++)
        enough = !jc->jump[i].entry || (made[i] = entries_new(bits + TIMES, true));
    pthread_mutex_lock(&jc->engine->lock);      /* of those who look for a region in all caches */
    for (unsigned i = 0; i < JUMP_SLOTS; i++) {
        struct jump_entry *old = jc->jump[i].entry;

        if (made[i] && enough) {
            for (unsigned n = 0; n < 1u << bits; n++)
                if (old[n].pc > 1)
                    made[i][jump_hash(old[n].pc, bits + TIMES)] = old[n];
            jc->jump[i].entry = made[i];
            munmap(old, sizeof(*old) << bits);
        } else if (made[i]) {
            munmap(made[i], sizeof(*made[i]) << (bits + TIMES));
        }
    }
    jc->jump_bits += enough ? TIMES : 0;
    pthread_mutex_unlock(&jc->engine->lock);
    jump_select(cpu, cpu->mode);
}

void jump_fill(struct cpu *cpu, uint64_t pc, struct region *r)
{
    struct jit_cpu *jc = cpu->jit;
    unsigned h = jump_hash(pc, jc->jump_bits);
    struct jump_entry *entry = &cpu->jump_cache[h];

    if (entry->pc > 1 && entry->pc != pc && ++jc->jump_conflicts > 1u << jc->jump_bits && jc->jump_bits < JUMP_CACHE_MOST) {
        caches_grow(cpu);
        h = jump_hash(pc, jc->jump_bits);
        entry = &cpu->jump_cache[h];
    }
    entry->code = r->code;
    __atomic_store_n(&entry->pc, pc, __ATOMIC_RELEASE);
    if (r->dead)                        /* who killed it may have looked before */
        __atomic_store_n(&entry->pc, h ? 0 : 1, __ATOMIC_RELEASE);
}

/* ---- translating */

static void fetch_fault(struct cpu *cpu, uint64_t va, int prot)
{
    fault_raise(cpu, SIGSEGV, prot < 0 ? SEGV_MAPERR : SEGV_ACCERR, va, ACCESS_EXEC);
}

/* Copies the page of va to *to. */
static bool fetch_page(struct cpu *cpu, uint64_t va, uint8_t *to, bool raise)
{
    struct engine *e = cpu->jit->engine;
    int prot = e->user->bits == 32 && va >> 32 ? -1 : mem_prot(cpu->jit->thread->process, va);

    if (prot >= 0 && prot & PROT_EXEC && !user_copy(to, host_of(e, va & PAGE_MASK), CPU_PAGE_SIZE)) {
        if (e->debugger && !cpu->jit->debug.skip)
            debugger_patch(e->debugger, va & PAGE_MASK, to);
        return true;
    }
    if (raise)
        fetch_fault(cpu, va, prot >= 0 && prot & PROT_EXEC ? -1 : prot);
    return false;
}

static bool fetch_next(struct code_fetch *f)
{
    uint8_t *to = f->cpu->jit->fetch + CPU_PAGE_SIZE;

    if (!fetch_page(f->cpu, f->page_va + CPU_PAGE_SIZE, to, false))
        return false;
    f->page[1] = to;
    return true;
}

static uint64_t key_of_next(struct code_fetch *f) { return f->page_va + CPU_PAGE_SIZE; }

bool code_fetch_fill(struct cpu *cpu, uint64_t pc, struct code_fetch *f)
{
    uint8_t *to = cpu->jit->fetch;

    if (!fetch_page(cpu, pc, to, true))
        return false;
    *f = (struct code_fetch){ .cpu = cpu, .first_pc = pc, .page = { to, NULL }, .page_va = pc & PAGE_MASK, .next_page = fetch_next };
    return true;
}

/* What was known of a region's pages before its bytes were read. */
struct watch { uint32_t writes[2]; unsigned pages; bool checked, one_insn; };

/* x86: from here on stores to the page are seen, or the region is to be checked. */
static void page_watch(struct engine *e, struct process *proc, uint64_t va, struct watch *w)
{
    bool protects = e->user->code_protect, shared = protects && mem_shared(proc, va);
    int prot = protects ? mem_prot(proc, va) : 0;
    struct code_page *p;

    pthread_mutex_lock(&e->lock);
    p = page_get(e, va, true);
    p->checked |= shared;
    if (!p->checked && prot >= 0 && prot & PROT_WRITE && !p->is_protected) {
        mprotect(host_of(e, p->va), CPU_PAGE_SIZE, PROT_READ);
        p->is_protected = true;
    }
    w->writes[w->pages++] = p->writes;
    w->checked |= p->checked;
    w->one_insn |= p->checked && p->writes_itself;
    pthread_mutex_unlock(&e->lock);
}

/* Bytes of the region, from its first to its last, in one or two pages. */
static unsigned region_bytes(const struct region *r) { return r->len2 ? CPU_PAGE_SIZE - r->lo + r->len2 : r->hi - r->lo; }

static bool still_same(struct cpu *cpu, const struct region *r)
{
    unsigned n = region_bytes(r);
    uint8_t *now = cpu->jit->fetch;

    return !user_copy(now, host_of(cpu->jit->engine, (r->phys & PAGE_MASK) + r->lo), n) && !memcmp(now, r->bytes, n);
}

/* The region is published if nothing changed since its bytes were read. */
static bool region_enter(struct engine *e, struct region *r, uint64_t pc, const struct watch *w, const uint8_t *fetched)
{
    struct code_page *p, *p2 = NULL;
    bool same;

    pthread_mutex_lock(&e->lock);
    p = page_get(e, pc, true);
    if (r->len2)
        p2 = page_get(e, r->phys2, true);
    same = p->writes == w->writes[0] && (!p2 || p2->writes == w->writes[1]);
    if (same && w->checked) {
        r->bytes = g_memdup2(fetched + r->lo, region_bytes(r));
        g_ptr_array_add(e->copies, r->bytes);
    }
    if (same) {
        *link_of(p, r) = p->regions;
        p->regions = r;
        if (p2) {
            *link_of(p2, r) = p2->regions;
            p2->regions = r;
        }
        jit_publish(e->jit, r);
    }
    pthread_mutex_unlock(&e->lock);
    return same;
}

/* Most code of a program's start runs once. Translating it takes four times as long as decoding it and running its IR. The
 * counts have no tags: code that shares one is translated earlier, no more. */
static uint8_t *cold_count(const struct engine *e, uint64_t pc) { return &e->cold[pc / 2 % COLD_PLACES]; }

static bool cold_ran(const struct jit_source *src, uint64_t pc)
{
    const struct engine *e = src->cpu->jit->engine;

    return __atomic_load_n(cold_count(e, pc), __ATOMIC_RELAXED);
}

bool code_cold(struct cpu *cpu, struct code_fetch *f)
{
    struct jit_cpu *jc = cpu->jit;
    struct engine *e = jc->engine;
    unsigned at = cpu->pc & (CPU_PAGE_SIZE - 1), n = MIN(COLD_INSNS * INSN_MOST, CPU_PAGE_SIZE - at);
    struct watch w = { 0 };
    uint8_t *count, runs;
    int prot;

    if (!e->cold || e->debugger || at > CPU_PAGE_SIZE - INSN_MOST || (e->user->bits == 32 && cpu->pc >> 32))
        return false;
    count = cold_count(e, cpu->pc);
    runs = __atomic_load_n(count, __ATOMIC_RELAXED);
    if (runs >= COLD_RUNS)
        return false;
    __atomic_store_n(count, runs + 1, __ATOMIC_RELAXED);
    if (e->user->code_protect)          /* it may write to the instructions that come next */
        page_watch(e, jc->thread->process, cpu->pc, &w);
    prot = mem_prot(jc->thread->process, cpu->pc);
    if (w.checked || prot < 0 || !(prot & PROT_EXEC) || user_copy(jc->fetch + at, host_of(e, cpu->pc), n))
        return false;
    *f = (struct code_fetch){ .cpu = cpu, .first_pc = cpu->pc, .page = { jc->fetch, NULL }, .page_va = cpu->pc & PAGE_MASK,
                              .next_page = fetch_next };
    return true;
}

/* For the cache, under whose lock nobody waits for that of the mappings: it may be held by one who waits for the cache. */
static bool no_next_page(struct code_fetch *f) { return false; }

static struct region *translate(struct cpu *cpu, uint64_t pc)
{
    struct jit_cpu *jc = cpu->jit;
    struct engine *e = jc->engine;
    struct process *proc = jc->thread->process;
    const bool may_straddle = (pc & ~PAGE_MASK) > CPU_PAGE_SIZE - INSN_MOST;    /* as its first instruction */
    struct jit_source src = { .cpu = cpu, .pc = pc, .mode = cpu->mode, .phys = pc, .phys_of_next = key_of_next,
                              .ran = e->cold ? cold_ran : NULL };

    for (unsigned tries = 0; tries < 8; tries++) {
        struct watch w = { 0 };
        enum jit_failure why;
        struct region *r;

        page_watch(e, proc, pc, &w);
        if (may_straddle)
            page_watch(e, proc, pc + CPU_PAGE_SIZE, &w);
        if (!code_fetch_fill(cpu, pc, &src.fetch))
            return NULL;
        if (may_straddle)
            fetch_next(&src.fetch);
        src.fetch.next_page = no_next_page;
        src.max_insns = w.one_insn ? 1 : 0;
        if (e->saved && !w.checked && !e->debugger)
            r = saved_translate(e->saved, proc, e->jit, &src, &why);
        else
            r = jit_translate(e->jit, &src, &why);
        if (r && region_enter(e, r, pc, &w, jc->fetch))
            return r;
        if (r)
            continue;
        if (why == JIT_REFUSED)
            return NULL;
        if (why == JIT_NO_FETCH) {      /* its first instruction goes on in a page that is not there */
            uint64_t next = (pc & PAGE_MASK) + CPU_PAGE_SIZE;

            fetch_fault(cpu, next, mem_prot(proc, next));
            return NULL;
        }
        engine_exclusive(jc->thread, code_flush, e);
    }
    return NULL;
}

struct region *code_known(struct cpu *cpu, uint64_t pc)
{
    struct region *r = jit_find(cpu->jit->engine->jit, pc, cpu->mode, (pc & PAGE_MASK) + CPU_PAGE_SIZE);

    if (r && r->bytes && !still_same(cpu, r)) {
        code_drop(cpu->jit->engine, (r->phys & PAGE_MASK) + r->lo, region_bytes(r));
        r = NULL;
    }
    return r;
}

struct region *code_find(struct cpu *cpu, uint64_t pc)
{
    struct region *r = code_known(cpu, pc);

    return r ? r : translate(cpu, pc);
}
