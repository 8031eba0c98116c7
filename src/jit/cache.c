/* The cache of translated code: host code in one mapping that is seen twice (writable here, executable there), regions
 * and their exits in arrays that never move, a hash table read without locks. One a machine; translation, links and
 * removal take its lock. */
#include <errno.h>
#include <glib.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "rhea/base/log.h"
#include "cache.h"

static void *reserve(const struct jit *j, size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED)
        return NULL;
    if (j->opts.memory == MEMORY_TLB)
        madvise(p, size, MADV_HUGEPAGE);        /* looked up at random: fewer misses of the host's TLB */
    return p;
}

/* Near our own text when there is room, so that calls of helpers are direct. */
static void *map_near(size_t size, int prot, int flags, int fd)
{
    uintptr_t text = (uintptr_t)&jit_new & ~(uintptr_t)0xfffff;

    for (uintptr_t away = 64 << 20; away < 1536u << 20; away += 64 << 20) {
        void *p = mmap((void *)(text + away), size, prot, flags | MAP_FIXED_NOREPLACE, fd, 0);

        if (p != MAP_FAILED)
            return p;
    }
    return mmap(NULL, size, prot, flags, fd, 0);
}

static bool map_failed(struct jit *j, struct error *err)
{
    return error_set_errno(err, errno, "is executable memory forbidden (SELinux, noexec)?",
                           "cannot map %zu bytes for translated code", j->size);
}

/* User mode: memory that fork() copies. */
static bool map_private(struct jit *j, struct error *err)
{
    j->rw = j->rx = map_near(j->size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
    return j->rw != MAP_FAILED || map_failed(j, err);
}

static bool map_code(struct jit *j, struct error *err)
{
    int fd;

    if (j->opts.memory != MEMORY_TLB)
        return map_private(j, err);
    fd = memfd_create("rhea-code", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, j->size) < 0) {
        if (fd >= 0)
            close(fd);
        return error_set_errno(err, errno, NULL, "cannot make the memory for translated code");
    }
    j->rw = mmap(NULL, j->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    j->rx = map_near(j->size, PROT_READ | PROT_EXEC, MAP_SHARED, fd);
    close(fd);
    if (j->rw == MAP_FAILED || j->rx == MAP_FAILED)
        return map_failed(j, err);
    return true;
}

static void perfmap_add(struct jit *j, const void *code, size_t n, const char *name)
{
    if (!j->perfmap)
        return;
    fprintf(j->perfmap, "%" PRIxPTR " %zx %s\n", (uintptr_t)code, n, name);
    fflush(j->perfmap);
}

static void make_stubs(struct jit *j)
{
    struct code_out out = { .rw = j->rw, .limit = j->rw + j->size, .rx_delta = j->rx - j->rw };

    codegen_make_stubs(j->opts.guest, &out, &j->stubs);
    j->stubs_size = j->used = code_round(out.size);
    perfmap_add(j, j->rx, out.size, "rhea-stubs");
}

struct jit *jit_new(const struct jit_options *opts, struct error *err)
{
    struct jit *j = g_new0(struct jit, 1);

    j->opts = *opts;
    j->chaos = opts->chaos;
    j->size = (opts->cache_size ? opts->cache_size : 256 << 20) & ~(uint64_t)0xffff;
    if (j->size < 4u << 20)
        j->size = 4 << 20;
    if (j->size > 1u << 30)
        j->size = 1u << 30;             /* jumps reach no further than two */
    pthread_mutex_init(&j->lock, NULL);
    j->regions = reserve(j, MAX_REGIONS * sizeof(struct region));
    j->exits = reserve(j, MAX_EXITS * sizeof(struct region_exit));
    j->hash = reserve(j, sizeof(*j->hash) << HASH_BITS);
    if (!j->regions || !j->exits || !j->hash) {
        error_set_errno(err, errno, NULL, "cannot reserve the tables of translated code");
        jit_free(j);
        return NULL;
    }
    if (!map_code(j, err)) {
        jit_free(j);
        return NULL;
    }
    if (opts->perfmap) {
        g_autofree char *path = g_strdup_printf("/tmp/perf-%d.map", getpid());

        j->perfmap = fopen(path, "we");
    }
    make_stubs(j);
    j->limit = j->size;
    j->nexits = JIT_EXIT_FIRST;
    j->ir = ir_new();
    j->an = ir_analysis_new();
    j->ir->fixed_pc = opts->memory != MEMORY_TLB && !opts->movable;
    j->ir->host_x87 = opts->memory != MEMORY_TLB && !opts->interp && codegen_host_fpu();
    j->ir->wrap_32 = opts->memory == MEMORY_DIRECT_32;
    if (opts->movable)
        j->relocs = g_new0(struct code_relocs, 1);
    j->backend = codegen_new(opts->memory, opts->guest);
    if (opts->tier2 && !hot_part_init(j, err)) {
        jit_free(j);
        return NULL;
    }
    return j;
}

static void drop_ir(struct jit *j)
{
    for (uint32_t i = 0; (j->opts.interp || j->opts.keep_ir) && i < j->nregions; i++)
        ir_free(j->opts.interp ? j->regions[i].code : j->regions[i].ir);
}

void jit_free(struct jit *j)
{
    if (!j)
        return;
    if (j->regions)
        drop_ir(j);
    if (j->regions)
        munmap(j->regions, MAX_REGIONS * sizeof(struct region));
    if (j->exits)
        munmap(j->exits, MAX_EXITS * sizeof(struct region_exit));
    if (j->hash)
        munmap(j->hash, sizeof(*j->hash) << HASH_BITS);
    if (j->rw && j->rw != MAP_FAILED)
        munmap(j->rw, j->size);
    if (j->rx && j->rx != MAP_FAILED && j->rx != j->rw)
        munmap(j->rx, j->size);
    if (j->perfmap)
        fclose(j->perfmap);
    ir_free(j->ir);
    ir_analysis_free(j->an);
    g_free(j->relocs);
    codegen_free(j->backend);
    hot_part_free(j);
    pthread_mutex_destroy(&j->lock);
    g_free(j);
}

void jit_lock(struct jit *j) { pthread_mutex_lock(&j->lock); }
void jit_unlock(struct jit *j) { pthread_mutex_unlock(&j->lock); }
bool jit_option_nochain(const struct jit *j) { return j->opts.nochain || log_enabled(LOG_NOCHAIN); }

uint64_t jit_run(struct jit *j, struct cpu *cpu, void *code) { return j->stubs.enter(cpu, code); }

/* Regions lie in the order in which they were made. */
bool jit_fault(struct jit *j, struct cpu *cpu, void *context, struct code_fault *out)
{
    uintptr_t pc = codegen_context_pc(context);
    uint32_t lo = 0, hi = __atomic_load_n(&j->nregions, __ATOMIC_ACQUIRE);
    const struct region *r;

    if (!jit_code_contains(j, pc))
        return false;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if ((uintptr_t)j->regions[mid].code <= pc)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (!lo)
        return false;
    r = &j->regions[lo - 1];
    return codegen_fault(cpu, context, r->code, (const uint8_t *)r->code + r->faults, r->nfaults, out);
}

void jit_leave(struct jit *j, void *context, uint64_t why) { codegen_leave(&j->stubs, context, why); }

bool jit_code_contains(const struct jit *j, uintptr_t host_pc)
{
    return host_pc - (uintptr_t)j->rx < j->size;
}

static struct region *_Atomic *bucket(struct jit *j, uint64_t phys, uint64_t mode)
{
    /* What is near in memory is near in the table: code runs from one to the next. */
    uint64_t h = (phys >> CPU_PAGE_BITS ^ mode * UINT64_C(0x9e3779b97f4a7c15)) * UINT64_C(0xff51afd7ed558ccd);

    return &j->hash[((h >> (64 - HASH_BITS)) + (phys >> 2 & 0x3ff)) & ((1u << HASH_BITS) - 1)];
}

struct region *jit_find(struct jit *j, uint64_t phys, uint64_t mode, uint64_t phys2)
{
    struct region *r = atomic_load_explicit(bucket(j, phys, mode), memory_order_acquire);

    for (; r; r = __atomic_load_n(&r->hash_next, __ATOMIC_ACQUIRE))
        if (r->phys == phys && r->mode == mode && (!r->len2 || r->phys2 == phys2))
            return r;
    return NULL;
}

struct region_exit *jit_exit(struct jit *j, uint64_t number)
{
    if (number >= MAX_EXITS)
        return number - MAX_EXITS < j->hot.nexits ? &j->hot.exits[number - MAX_EXITS] : NULL;
    return number >= JIT_EXIT_FIRST && number < j->nexits ? &j->exits[number] : NULL;
}

int64_t cache_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* ---- translating */

void cache_log_text(const char *title, const struct region *r, char *text)
{
    g_autofree char *whole = g_strdup_printf("%s: phys %#" PRIx64 " mode %#" PRIx64 "\n%s\n", title, r->phys, r->mode,
                                             text ? text : "");

    log_write(whole, strlen(whole));
    g_free(text);
}

static void log_guest_code(const struct jit_source *src, const struct region *r)
{
    uint8_t bytes[CPU_PAGE_SIZE];
    unsigned n = 0;
    struct code_fetch f = src->fetch;

    while (n < r->hi - (src->pc & (CPU_PAGE_SIZE - 1)) + r->len2 && code_fetch_byte(&f, src->pc + n, &bytes[n]))
        n++;
    if (src->cpu->guest->disassemble)
        cache_log_text("in_asm", r, src->cpu->guest->disassemble(bytes, n, src->pc, src->mode));
}

struct ran { struct region_profile profile; struct jit *j; const struct jit_source *src; };

static bool ran(const struct region_profile *p, uint64_t pc)
{
    const struct ran *x = (const struct ran *)p;
    const struct region *r;

    if (x->src->ran && x->src->ran(x->src, pc))
        return true;
    r = jit_find(x->j, x->src->phys + (pc - x->src->pc), x->src->mode, UINT64_MAX);
    return r && !r->dead && !r->len2;
}

static bool build(struct jit *j, const struct jit_source *src, unsigned max, struct region *r)
{
    struct jit_region_info info;
    struct code_fetch f = src->fetch;
    struct ran profile = { { ran, src->ran != NULL }, j, src };

    if (!region_build(j->ir, src->cpu->guest, &f, src->pc, src->mode, max, &profile.profile, &info))
        return false;
    ir_free(r->ir);
    *r = (struct region){ .phys = src->phys, .mode = src->mode, .insns = info.insns, .phys2 = UINT64_MAX,
                          .lo = info.lo & (CPU_PAGE_SIZE - 1), .hi = ((info.hi - 1) & (CPU_PAGE_SIZE - 1)) + 1,
                          .jump_pc = JUMP_PC_NONE };
    if (info.straddles) {
        r->len2 = info.hi & (CPU_PAGE_SIZE - 1);
        r->hi = CPU_PAGE_SIZE;
        r->phys2 = src->phys_of_next(&f);
    }
    j->fetched = f;
    return true;
}

static void log_ir(struct jit *j, const struct jit_source *src, const struct region *r, bool optimized)
{
    if (!log_in_filter(src->pc))
        return;
    if (!optimized && log_enabled(LOG_IN_ASM))
        log_guest_code(src, r);
    if (!optimized && log_enabled(LOG_OP))
        cache_log_text("op", r, ir_print(j->ir));
    if (optimized && log_enabled(LOG_OP_OPT))
        cache_log_text("op_opt", r, ir_print_optimized(j->ir, j->an));
}

void cache_exits_fill(struct region_exit *to, struct region *r, const struct ir *ir, const struct code_out *out)
{
    r->nexits = ir->nexits;
    for (unsigned i = 0; i < ir->nexits; i++)
        to[i] = (struct region_exit){ .from = r, .target = ir->exits[i].target, .patch = out->patch[i],
                                      .kind = ir->exits[i].kind };
}

/* Memory for the next code in one go: a page fault each would cost a short program as much as making the code. */
static void ask_ahead(struct jit *j)
{
    enum { STEP = 64 << 10 };

    if (j->opts.memory == MEMORY_TLB || j->used + STEP / 2 < j->ahead || j->ahead + STEP > j->size)
        return;
    madvise(j->rw + j->ahead, STEP, MADV_POPULATE_WRITE);       /* a hint: Linux 5.14 */
    j->ahead += STEP;
}

void cache_record(struct jit *j, struct region *r, void *code, size_t size)
{
    r->code = code;
    r->code_size = size;
    r->first_exit = j->nexits;
    j->nexits += r->nexits;
    __atomic_store_n(&j->nregions, j->nregions + 1, __ATOMIC_RELEASE);
    j->used += code_round(size);
    ask_ahead(j);
}

static void region_record(struct jit *j, struct region *r, const struct code_out *out)
{
    r->faults = out->faults;
    r->nfaults = out->nfaults;
    cache_exits_fill(&j->exits[j->nexits], r, j->ir, out);
    cache_record(j, r, j->opts.interp ? (void *)ir_clone(j->ir) : j->rx + (out->rw - j->rw), out->size);
    j->stats.regions_total++;
    j->stats.made_bytes += out->size;
    j->stats.guest_bytes += r->hi - r->lo + r->len2;
    j->stats.guest_insns += r->insns;
    j->stats.ops += j->ir->nops;
}

void cache_log_code(struct jit *j, const struct region *r, uint64_t pc, const char *kind)
{
    if (log_enabled(LOG_OUT_ASM) && log_in_filter(pc))
        cache_log_text("out_asm", r, codegen_disassemble(r->code, r->code_size, (uintptr_t)r->code));
    if (j->perfmap) {
        g_autofree char *name = g_strdup_printf("%s-%" PRIx64, kind, pc);

        perfmap_add(j, r->code, r->code_size, name);
    }
}

static struct region *translate_locked(struct jit *j, const struct jit_source *src, enum jit_failure *why)
{
    unsigned max = src->max_insns ? src->max_insns : REGION_MAX_INSNS;
    struct region *r = &j->regions[j->nregions];
    struct code_out out = { .rx_delta = j->rx - j->rw, .relocs = j->relocs };

    *why = JIT_FULL;
    if (j->nregions == MAX_REGIONS || j->nexits + IR_MAX_EXITS > MAX_EXITS || j->limit - j->used < REGION_ROOM)
        return NULL;
    for (;;) {
        if (!build(j, src, max, r)) {
            if (!j->ir->overflow || max == 1) {
                *why = JIT_NO_FETCH;
                return NULL;
            }
        } else {
            log_ir(j, src, r, false);
            if (j->opts.interp)
                break;
            if (j->opts.keep_ir) {
                ir_free(r->ir);
                r->ir = ir_clone(j->ir);
            }
            ir_optimize(j->ir, j->an);
            log_ir(j, src, r, true);
            out.rw = j->rw + j->used;
            out.limit = out.rw + REGION_ROOM;
            out.first_exit = j->nexits;
            if (codegen_compile(j->backend, &j->stubs, j->ir, j->an, &out))
                break;
            if (max == 1) {
                *why = JIT_REFUSED;
                return NULL;
            }
        }
        j->stats.retries++;
        max = max > r->insns && r->insns > 1 ? r->insns / 2 : max / 2;
        if (!max)
            max = 1;
    }
    region_record(j, r, &out);
    if (j->opts.interp)
        return r;
    cache_log_code(j, r, src->pc, "guest");
    if (src->save && j->relocs && !j->relocs->fixed)
        saved_add(j, src, r);
    return r;
}

struct region *jit_translate(struct jit *j, const struct jit_source *src, enum jit_failure *why)
{
    struct region *r;
    int64_t start = cache_now_ns();

    pthread_mutex_lock(&j->lock);
    r = translate_locked(j, src, why);
    j->stats.translate_ns += cache_now_ns() - start;
    pthread_mutex_unlock(&j->lock);
    return r;
}

void cache_insert(struct jit *j, struct region *r)
{
    struct region *_Atomic *b = bucket(j, r->phys, r->mode);

    r->hash_next = atomic_load_explicit(b, memory_order_relaxed);
    atomic_store_explicit(b, r, memory_order_release);
}

void jit_publish(struct jit *j, struct region *r)
{
    pthread_mutex_lock(&j->lock);
    cache_insert(j, r);
    pthread_mutex_unlock(&j->lock);
}

/* ---- links and removal */

void jit_link(struct jit *j, struct region_exit *e, struct region *to)
{
    struct region *better;

    pthread_mutex_lock(&j->lock);
    better = to->better;
    if (better && !better->dead)
        to = better;
    if (e->patch && !e->to && !to->dead && !e->from->dead) {
        e->to = to;
        e->next_in = to->links_in;
        to->links_in = e;
        codegen_patch_jump(e->patch, j->rw + ((uint8_t *)to->code - j->rx));
        j->stats.links++;
    }
    pthread_mutex_unlock(&j->lock);
}

void jit_kill_locked(struct jit *j, struct region *r)
{
    struct region *_Atomic *b = bucket(j, r->phys, r->mode);
    struct region *p = atomic_load_explicit(b, memory_order_relaxed);

    if (r->dead)
        return;
    r->dead = true;
    if (p == r) {
        atomic_store_explicit(b, r->hash_next, memory_order_release);
    } else {
        while (p && p->hash_next != r)
            p = p->hash_next;
        if (p)
            __atomic_store_n(&p->hash_next, r->hash_next, __ATOMIC_RELEASE);
    }
    for (struct region_exit *e = r->links_in; e; e = e->next_in) {
        codegen_patch_jump(e->patch, NULL);
        e->to = NULL;
    }
    r->links_in = NULL;
    j->stats.invalidated++;
}

void jit_flush(struct jit *j)
{
    pthread_mutex_lock(&j->lock);
    drop_ir(j);
    memset((void *)j->hash, 0, sizeof(*j->hash) << HASH_BITS);
    memset(j->regions, 0, j->nregions * sizeof(*j->regions));
    j->nregions = 0;
    j->nexits = JIT_EXIT_FIRST;
    j->used = j->stubs_size;
    hot_part_flush(j);
    j->stats.flushes++;
    pthread_mutex_unlock(&j->lock);
}

uint64_t jit_generation(const struct jit *j) { return __atomic_load_n(&j->stats.flushes, __ATOMIC_ACQUIRE); }

void jit_get_stats(struct jit *j, struct jit_stats *out)
{
    pthread_mutex_lock(&j->lock);
    *out = j->stats;
    out->regions = j->nregions;
    out->cache_size = j->size;
    out->host_bytes = j->used + j->hot.used;
    pthread_mutex_unlock(&j->lock);
}
