/* The soft TLB: fills through the guest's page walk and the machine's memory, the slow paths of accesses, and the
 * functions by which C code reaches guest memory (rhea/ir/cpu.h). */
#include <glib.h>
#include <string.h>
#include <xmmintrin.h>
#include "accel.h"

static struct address_space *memory_of(struct cpu *cpu) { return vcpu_memory(cpu->vcpu); }

static inline struct tlb_entry *tlb_at(const struct cpu *cpu, unsigned mmu, uint64_t va)
{
    const struct tlb_view *t = &cpu->tlb_view[cpu_tlb_view(mmu)];

    return (struct tlb_entry *)((uint8_t *)t->table + (va >> (CPU_PAGE_BITS - 5) & t->mask));
}

static struct tlb_full *full_of(struct cpu *cpu, unsigned mmu, const struct tlb_entry *e)
{
    return &cpu->jit->mode[mmu]->full[e - cpu->tlb_view[cpu_tlb_view(mmu)].table];
}

static inline uint64_t tag_of(const struct tlb_entry *e, enum mmu_access access)
{
    return access == ACCESS_READ ? e->read : access == ACCESS_WRITE ? e->write : e->exec;
}

/* The entry is for that page and access; flags other than invalid may be set. */
static inline bool tag_match(uint64_t tag, uint64_t va)
{
    return (tag & (PAGE_MASK | TLB_INVALID)) == (va & PAGE_MASK);
}

/* The entry stores to RAM, now or once its page is dirty. */
static bool entry_stores(const struct tlb_entry *e) { return !(e->write & (TLB_INVALID | TLB_MMIO | TLB_ROM)); }

static void entry_drop(struct tlb_entry *e) { memset(e, 0xff, sizeof(*e)); }

/* A single vCPU has nobody to lock out. */
static void tlb_lock(struct jit_cpu *jc)
{
    if (jc->av->vm->nvcpus > 1)
        pthread_spin_lock(&jc->tlb_lock);
}

static void tlb_unlock(struct jit_cpu *jc)
{
    if (jc->av->vm->nvcpus > 1)
        pthread_spin_unlock(&jc->tlb_lock);
}

/* ---- size, flushes */

static void mode_alloc(struct tlb_mode *m, unsigned bits)
{
    g_free(m->table);
    g_free(m->full);
    g_free(m->writer);
    m->bits = bits;
    m->table = g_malloc(sizeof(struct tlb_entry) << bits);
    m->full = g_malloc0(sizeof(struct tlb_full) << bits);
    m->writer = g_new(uint16_t, 2u << bits);
}

static void mode_clear(struct tlb_mode *m)
{
    memset(m->table, 0xff, sizeof(struct tlb_entry) << m->bits);
    memset(m->victim, 0xff, sizeof(m->victim));
    m->used = m->locals = m->fills = 0;
    memset(m->writer, 0, sizeof(*m->writer) * 2 << m->bits);
    if (m->large_sizes)
        memset(m->large, 0, sizeof(m->large));
    m->large_sizes = 0;
}

static struct tlb_mode *mode_new(void)
{
    struct tlb_mode *m = g_new0(struct tlb_mode, 1);

    mode_alloc(m, TLB_MIN_BITS);
    mode_clear(m);
    return m;
}

static void mode_free(struct tlb_mode *m)
{
    if (!m)
        return;
    g_free(m->table);
    g_free(m->full);
    g_free(m->writer);
    g_free(m);
}

/* What translated code looks at. */
static void mode_view(struct cpu *cpu, unsigned mmu)
{
    const struct tlb_mode *m = cpu->jit->mode[mmu];

    cpu->tlb_view[cpu_tlb_view(mmu)] = (struct tlb_view){ .mask = ((1ull << m->bits) - 1) << 5, .table = m->table };
}

void tlb_init(struct jit_cpu *jc)
{
    pthread_spin_init(&jc->tlb_lock, PTHREAD_PROCESS_PRIVATE);
    jc->context = &jc->contexts[0];
    for (unsigned i = 0; i < CPU_MMU_MODES; i++) {
        jc->mode[i] = mode_new();
        mode_view(jc->vcpu->cpu, i);
    }
}

void tlb_free(struct jit_cpu *jc)
{
    for (unsigned i = 0; i < CPU_MMU_MODES; i++) {
        mode_free(jc->mode[i]);
        for (unsigned k = 0; k < TLB_CONTEXTS; k++)
            mode_free(jc->contexts[k].mode[i]);
    }
    pthread_spin_destroy(&jc->tlb_lock);
}

/* Twice as large when a flush finds it more than 7/10 full, half when the fullest of 64 flushes was below 3/10. */
static void mode_flush(struct tlb_mode *m)
{
    uint32_t size = 1u << m->bits;

    if (!m->used)
        return;
    if (m->used > m->used_max)
        m->used_max = m->used;
    m->flushes++;
    if (m->used > size / 10 * 7 && m->bits < TLB_MAX_BITS) {
        mode_alloc(m, m->bits + 1);
        m->flushes = m->used_max = 0;
    } else if (m->flushes >= 64) {
        if (m->used_max < size / 10 * 3 && m->bits > TLB_MIN_BITS)
            mode_alloc(m, m->bits - 1);
        m->flushes = m->used_max = 0;
    }
    mode_clear(m);
}

/* Of the contexts that are not current. Under the lock. */
static void contexts_drop(struct jit_cpu *jc, uint32_t mmu_set)
{
    for (unsigned k = 0; k < TLB_CONTEXTS; k++)
        for (unsigned i = 0; i < CPU_MMU_MODES; i++)
            if (mmu_set >> i & 1 && jc->contexts[k].mode[i])
                mode_flush(jc->contexts[k].mode[i]);
}

void cpu_tlb_flush(struct cpu *cpu, uint32_t mmu_set)
{
    struct jit_cpu *jc = cpu->jit;

    if (!jc)
        return;
    jc->tlb_flushes++;
    tlb_lock(jc);
    for (unsigned i = 0; i < CPU_MMU_MODES; i++)
        if (mmu_set >> i & 1) {
            mode_flush(jc->mode[i]);
            mode_view(cpu, i);
        }
    contexts_drop(jc, mmu_set);
    tlb_unlock(jc);
    jump_flush(jc);
}

/* ---- address spaces */

/* Somebody took write entries away while it was not current: each looks again before its next store. */
static void mode_distrust(struct tlb_mode *m)
{
    for (unsigned k = 0; k < 1u << m->bits; k++)
        if (entry_stores(&m->table[k]))
            m->table[k].write |= TLB_NOTDIRTY;
    for (unsigned k = 0; k < TLB_VICTIMS; k++)
        if (entry_stores(&m->victim[k]))
            m->victim[k].write |= TLB_NOTDIRTY;
}

static struct tlb_context *context_find(struct jit_cpu *jc, uint64_t id)
{
    struct tlb_context *oldest = NULL;

    for (unsigned k = 0; k < TLB_CONTEXTS; k++) {
        struct tlb_context *x = &jc->contexts[k];

        if (x->id == id && (x->used || x == jc->context))
            return x;
        if (x != jc->context && (!oldest || x->used < oldest->used))
            oldest = x;
    }
    for (unsigned i = 0; i < CPU_MMU_MODES; i++)
        if (oldest->mode[i])
            mode_flush(oldest->mode[i]);
    jump_flush_context(jc, oldest->id);
    oldest->id = id;
    return oldest;
}

void cpu_tlb_context(struct cpu *cpu, uint32_t mmu_set, uint64_t id)
{
    struct jit_cpu *jc = cpu->jit;
    struct tlb_context *to;

    if (!jc || jc->context->id == id)
        return;
    tlb_lock(jc);
    to = context_find(jc, id);
    for (unsigned i = 0; i < CPU_MMU_MODES; i++) {
        if (!(mmu_set >> i & 1))
            continue;
        jc->context->mode[i] = jc->mode[i];
        jc->mode[i] = to->mode[i] ? to->mode[i] : mode_new();
        to->mode[i] = NULL;
        if (to->distrusted && jc->mode[i]->used)
            mode_distrust(jc->mode[i]);
        mode_view(cpu, i);
    }
    to->distrusted = false;
    jc->context->used = ++jc->context_clock;
    jc->context = to;
    tlb_unlock(jc);
    cpu->mode = UINT64_MAX;             /* another jump cache may serve */
    cpu_kick(cpu, CPU_EXIT_KICK);
}

void cpu_tlb_flush_context(struct cpu *cpu, uint32_t mmu_set, uint64_t id)
{
    struct jit_cpu *jc = cpu->jit;

    if (!jc)
        return;
    if (jc->context->id == id) {
        cpu_tlb_flush_local(cpu, mmu_set);
        return;
    }
    tlb_lock(jc);
    for (unsigned k = 0; k < TLB_CONTEXTS; k++)
        for (unsigned i = 0; i < CPU_MMU_MODES; i++)
            if (jc->contexts[k].id == id && mmu_set >> i & 1 && jc->contexts[k].mode[i])
                mode_flush(jc->contexts[k].mode[i]);
    tlb_unlock(jc);
    jump_flush_context(jc, id);
}

void tlb_grow(struct jit_cpu *jc)
{
    struct cpu *cpu = jc->vcpu->cpu;

    tlb_lock(jc);
    for (unsigned i = 0; i < CPU_MMU_MODES; i++) {
        if (!(jc->grow >> i & 1) || jc->mode[i]->bits >= TLB_MAX_BITS)
            continue;
        mode_alloc(jc->mode[i], MIN(jc->mode[i]->bits + 2, TLB_MAX_BITS));
        mode_clear(jc->mode[i]);
        mode_view(cpu, i);
        jc->mode[i]->flushes = jc->mode[i]->used_max = 0;
    }
    jc->grow = 0;
    tlb_unlock(jc);
}

static void mode_flush_local(struct cpu *cpu, unsigned mmu)
{
    struct tlb_mode *m = cpu->jit->mode[mmu];

    if (!m->locals)
        return;
    if (m->locals > TLB_LOCALS || m->used > (1u << m->bits) / 10 * 7) {
        mode_flush(m);
        mode_view(cpu, mmu);
        return;
    }
    for (unsigned i = 0; i < m->locals; i++) {
        if (!m->full[m->local[i]].global) {
            entry_drop(&cpu->tlb_view[cpu_tlb_view(mmu)].table[m->local[i]]);
            m->used -= m->used > 0;
        }
    }
    for (unsigned k = 0; k < TLB_VICTIMS; k++)
        if (!m->victim_full[k].global)
            entry_drop(&m->victim[k]);
    m->locals = 0;
}

void cpu_tlb_flush_local(struct cpu *cpu, uint32_t mmu_set)
{
    struct jit_cpu *jc = cpu->jit;

    if (!jc)
        return;
    jc->tlb_flushes++;
    tlb_lock(jc);
    for (unsigned i = 0; i < CPU_MMU_MODES; i++)
        if (mmu_set >> i & 1)
            mode_flush_local(cpu, i);
    tlb_unlock(jc);
    jump_flush_local(jc);
}

static unsigned large_hash(uint64_t va, unsigned bits) { return (va >> bits) * UINT64_C(0x9e3779b97f4a7c15) >> 54; }

/* Perhaps some entry was made from a large mapping that holds va. */
static bool maybe_large(const struct tlb_mode *m, uint64_t va)
{
    for (uint64_t sizes = m->large_sizes; sizes; sizes &= sizes - 1) {
        unsigned h = large_hash(va, __builtin_ctzll(sizes));

        if (m->large[h / 64] >> h % 64 & 1)
            return true;
    }
    return false;
}

/* Entries made from a large mapping that holds va go too. */
static void mode_drop_large(struct tlb_mode *m, uint64_t va)
{
    for (unsigned i = 0; i < 1u << m->bits; i++) {
        struct tlb_entry *e = &m->table[i];
        uint64_t tag = e->read != UINT64_MAX ? e->read : e->write != UINT64_MAX ? e->write : e->exec;

        if (m->full[i].page_bits > CPU_PAGE_BITS && tag != UINT64_MAX && !((tag ^ va) >> m->full[i].page_bits))
            entry_drop(e);
    }
    memset(m->victim, 0xff, sizeof(m->victim));
}

static bool entry_is(const struct tlb_entry *e, uint64_t va)
{
    return tag_match(e->read, va) || tag_match(e->write, va) || tag_match(e->exec, va);
}

static void mode_drop_page(struct tlb_mode *m, uint64_t va)
{
    struct tlb_entry *e = &m->table[va >> CPU_PAGE_BITS & ((1u << m->bits) - 1)];

    if (!m->used)
        return;
    if (maybe_large(m, va))
        mode_drop_large(m, va);
    if (entry_is(e, va))
        entry_drop(e);
    for (unsigned k = 0; k < TLB_VICTIMS; k++)
        if (entry_is(&m->victim[k], va))
            entry_drop(&m->victim[k]);
}

void cpu_tlb_flush_page(struct cpu *cpu, uint64_t va, uint32_t mmu_set)
{
    struct jit_cpu *jc = cpu->jit;

    if (!jc)
        return;
    tlb_lock(jc);
    for (unsigned i = 0; i < CPU_MMU_MODES; i++) {
        if (!(mmu_set >> i & 1))
            continue;
        mode_drop_page(jc->mode[i], va);
        for (unsigned k = 0; k < TLB_CONTEXTS; k++)
            if (jc->contexts[k].mode[i])
                mode_drop_page(jc->contexts[k].mode[i], va);
    }
    tlb_unlock(jc);
    jump_flush_page(jc, va);
}

/* true: stores go there by this entry, be it the slow way. */
static bool entry_revoke(struct tlb_entry *e, uintptr_t host_page)
{
    uint64_t tag = __atomic_load_n(&e->write, __ATOMIC_RELAXED);

    if (tag & (TLB_INVALID | TLB_MMIO | TLB_ROM) || (tag & PAGE_MASK) + e->addend != host_page)
        return false;
    if (!(tag & TLB_NOTDIRTY))
        __atomic_store_n(&e->write, tag | TLB_NOTDIRTY, __ATOMIC_RELEASE);
    return true;
}

static unsigned host_page_hash(uintptr_t host_page, unsigned bits)
{
    return (host_page >> CPU_PAGE_BITS) * UINT64_C(0x9e3779b97f4a7c15) >> (64 - bits);
}

static unsigned gone_hash(uintptr_t host_page) { return host_page_hash(host_page, 10); }

static uint16_t *writer_at(const struct tlb_mode *m, uintptr_t host_page)
{
    return &m->writer[host_page_hash(host_page, m->bits + 1u)];
}

/* The entry of that index may store. One that becomes a victim has no other place to come back to. */
static void writer_note(struct tlb_mode *m, const struct tlb_entry *e, unsigned index)
{
    uint16_t *w = writer_at(m, (e->write & PAGE_MASK) + e->addend);

    if (entry_stores(e))
        *w = (!*w || *w == index + 1) && index + 1 < TLB_WRITERS ? (uint16_t)(index + 1) : TLB_WRITERS;
}

/* Takes the write entries of a page away. All entries are looked at only where several pages or entries share the hash, and
 * what is known of writers is made anew from them. */
static bool mode_revoke(struct tlb_mode *m, uintptr_t host_page)
{
    uint16_t w = *writer_at(m, host_page);
    bool found = false;

    if (!w)
        return false;
    if (w != TLB_WRITERS) {
        found = entry_revoke(&m->table[w - 1], host_page);
    } else {
        memset(m->writer, 0, sizeof(*m->writer) * 2 << m->bits);
        for (unsigned k = 0; k < 1u << m->bits; k++) {
            found |= entry_revoke(&m->table[k], host_page);
            writer_note(m, &m->table[k], k);
        }
    }
    for (unsigned k = 0; k < TLB_VICTIMS; k++) {
        found |= entry_revoke(&m->victim[k], host_page);
        if (w == TLB_WRITERS && entry_stores(&m->victim[k]))
            writer_note(m, &m->victim[k], m->victim[k].write >> CPU_PAGE_BITS & ((1u << m->bits) - 1));
    }
    return found;
}

/* An entry is replaced. Translated code may still store by what it was: one check serves a few accesses. */
static void entry_gone(struct jit_cpu *jc, const struct tlb_entry *e)
{
    unsigned h = gone_hash((e->write & PAGE_MASK) + e->addend);

    if (!entry_stores(e) || jc->av->vm->nvcpus == 1)
        return;
    jc->gone[h / 64] |= 1ull << h % 64;
    jc->any_gone = true;
}

void tlb_forget_gone(struct jit_cpu *jc)
{
    tlb_lock(jc);
    memset(jc->gone, 0, sizeof(jc->gone));
    jc->any_gone = false;
    tlb_unlock(jc);
}

bool tlb_revoke(struct jit_cpu *jc, uintptr_t host_page)
{
    unsigned h = gone_hash(host_page);
    bool found;

    tlb_lock(jc);
    found = jc->gone[h / 64] >> h % 64 & 1;
    for (unsigned k = 0; k < TLB_CONTEXTS; k++)
        jc->contexts[k].distrusted = true;
    for (unsigned i = 0; i < CPU_MMU_MODES; i++)
        if (jc->mode[i]->used)
            found |= mode_revoke(jc->mode[i], host_page);
    tlb_unlock(jc);
    return found;
}

/* ---- fill */

/* What the page is in the machine. flags: TLB_MMIO when it is not all one piece of RAM or ROM. */
static unsigned page_lookup(struct cpu *cpu, struct tlb_full *full)
{
    unsigned token = mem_read_begin(), flags = TLB_MMIO;
    const struct mem_range *r = address_space_lookup(memory_of(cpu), full->phys);

    full->ram = NULL;
    if (r && r->start <= full->phys && r->end - full->phys >= CPU_PAGE_SIZE - 1 &&
        (r->mr->kind == MEMK_RAM || r->mr->kind == MEMK_ROM)) {
        full->ram = r->mr->ram;
        full->offset = r->mr->ram_offset + r->offset + (full->phys - r->start);
        flags = r->mr->kind == MEMK_ROM || full->ram->readonly ? TLB_ROM : 0;
        if (full->offset & (CPU_PAGE_SIZE - 1)) {       /* flags of RAM are kept by its own pages */
            full->ram = NULL;
            flags = TLB_MMIO;
        }
    }
    mem_read_end(token);
    return flags;
}

static bool page_wants_notice(const struct tlb_full *full)
{
    uint8_t f = __atomic_load_n(&full->ram->page_flags[full->offset >> CPU_PAGE_BITS], __ATOMIC_SEQ_CST);

    return f & (PAGE_HAS_CODE | PAGE_WATCHED) || (f & (PAGE_DIRTY | PAGE_DIRTY_DISPLAY)) != (PAGE_DIRTY | PAGE_DIRTY_DISPLAY);
}

static void local_note(struct tlb_mode *m, unsigned index, bool global)
{
    if (global)
        return;
    if (m->locals < TLB_LOCALS)
        m->local[m->locals] = index;
    if (m->locals <= TLB_LOCALS)
        m->locals++;
}

static bool victim_take(struct cpu *cpu, unsigned mmu, struct tlb_entry *e, uint64_t va, enum mmu_access access)
{
    struct tlb_mode *m = cpu->jit->mode[mmu];

    for (unsigned k = 0; k < TLB_VICTIMS; k++) {
        if (tag_match(tag_of(&m->victim[k], access), va)) {
            struct tlb_entry entry = m->victim[k];
            struct tlb_full full = m->victim_full[k];

            m->victim[k] = *e;
            m->victim_full[k] = *full_of(cpu, mmu, e);
            *e = entry;
            *full_of(cpu, mmu, e) = full;
            local_note(m, e - cpu->tlb_view[cpu_tlb_view(mmu)].table, full.global);
            return true;
        }
    }
    return false;
}

static void entry_set(struct cpu *cpu, unsigned mmu, uint64_t va, const struct mmu_result *res,
                      const struct tlb_full *full, unsigned flags)
{
    struct tlb_mode *m = cpu->jit->mode[mmu];
    struct tlb_entry *e = tlb_at(cpu, mmu, va);
    uint64_t page = va & PAGE_MASK, partial = res->partial ? TLB_PARTIAL : 0;

    if (entry_is(e, va)) {
        entry_gone(cpu->jit, e);
    } else if ((e->read & e->write & e->exec) != UINT64_MAX) {
        entry_gone(cpu->jit, &m->victim[m->victim_next % TLB_VICTIMS]);
        m->victim[m->victim_next % TLB_VICTIMS] = *e;
        m->victim_full[m->victim_next++ % TLB_VICTIMS] = *full_of(cpu, mmu, e);
    } else {
        m->used++;
    }
    for (unsigned k = 0; k < TLB_VICTIMS; k++) {
        if (!entry_is(&m->victim[k], va))
            continue;
        entry_gone(cpu->jit, &m->victim[k]);
        entry_drop(&m->victim[k]);
    }
    e->read = res->readable ? page | (flags & TLB_MMIO) | partial : UINT64_MAX;
    e->exec = res->executable ? page | (flags & TLB_MMIO) : UINT64_MAX;
    e->write = res->writable ? page | flags | partial : UINT64_MAX;
    if (full->ram) {
        e->addend = (uintptr_t)full->ram->host + full->offset - page;
        if (res->writable && !flags && (page_wants_notice(full) || chaos_keep_notice(cpu->jit)))
            e->write |= TLB_NOTDIRTY;
    }
    writer_note(m, e, e - cpu->tlb_view[cpu_tlb_view(mmu)].table);
    *full_of(cpu, mmu, e) = *full;
    local_note(m, e - cpu->tlb_view[cpu_tlb_view(mmu)].table, full->global);
    if (res->page_bits > CPU_PAGE_BITS) {
        unsigned h = large_hash(va, res->page_bits);

        m->large_sizes |= 1ull << res->page_bits;
        m->large[h / 64] |= 1ull << h % 64;
    }
}

static bool tlb_fill(struct cpu *cpu, uint64_t va, enum mmu_access access, unsigned mmu, bool probe)
{
    struct mmu_result res = { .page_bits = CPU_PAGE_BITS };
    struct tlb_full full = { 0 };
    unsigned flags;

    if (!cpu->guest->translate(cpu, va, access, mmu, probe, &res))
        return false;
    full.phys = res.phys & PAGE_MASK;
    full.page_bits = res.page_bits;
    full.global = res.global;
    flags = page_lookup(cpu, &full);
    cpu->jit->tlb_fills++;
    tlb_lock(cpu->jit);
    entry_set(cpu, mmu, va, &res, &full, flags);
    tlb_unlock(cpu->jit);
    if (++cpu->jit->mode[mmu]->fills > 6u << cpu->jit->mode[mmu]->bits && cpu->jit->mode[mmu]->bits < TLB_MAX_BITS) {
        cpu->jit->grow |= 1u << mmu;    /* later: callers hold entries */
        cpu->jit->mode[mmu]->fills = 0;
        cpu_kick(cpu, CPU_EXIT_KICK);
    }
    return true;
}

/* The entry for that access, made if there is none. Raises what the access raises. */
static struct tlb_entry *tlb_get(struct cpu *cpu, uint64_t va, enum mmu_access access, unsigned mmu)
{
    struct tlb_entry *e = tlb_at(cpu, mmu, va);
    bool found;

    if (tag_match(tag_of(e, access), va))
        return e;
    if (!cpu->jit) {                    /* no machine behind the TLB: tests */
        struct mmu_result unused;

        cpu->guest->translate(cpu, va, access, mmu, false, &unused);
        cpu_loop_exit(cpu);
    }
    tlb_lock(cpu->jit);
    found = victim_take(cpu, mmu, e, va, access);
    tlb_unlock(cpu->jit);
    if (found)
        return e;
    if (!tlb_fill(cpu, va, access, mmu, false))
        cpu_loop_exit(cpu);
    return tlb_at(cpu, mmu, va);
}

/* The entry for bytes of one page, each of which may be accessed. */
static struct tlb_entry *tlb_get_bytes(struct cpu *cpu, uint64_t va, unsigned n, enum mmu_access access, unsigned mmu)
{
    struct tlb_entry *e = tlb_get(cpu, va, access, mmu);

    if (tag_of(e, access) & TLB_PARTIAL &&
        !cpu->guest->access_allowed(cpu, va, full_of(cpu, mmu, e)->phys | (va & ~PAGE_MASK), n, access, mmu))
        cpu_loop_exit(cpu);
    return e;
}

uint8_t *code_host(struct cpu *cpu, uint64_t va, bool probe, struct ram_block **rb, uint64_t *offset)
{
    unsigned mmu = cpu->guest->mmu_index(cpu, true);
    struct tlb_entry *e = tlb_at(cpu, mmu, va);
    const struct tlb_full *full;

    if (!tag_match(e->exec, va)) {
        if (!probe)
            e = tlb_get(cpu, va, ACCESS_EXEC, mmu);
        else if (!tlb_fill(cpu, va, ACCESS_EXEC, mmu, true))
            return NULL;
    }
    e = tlb_at(cpu, mmu, va);
    if (!tag_match(e->exec, va) || e->exec & TLB_MMIO)
        return NULL;
    full = full_of(cpu, mmu, e);
    *rb = full->ram;
    *offset = full->offset + (va & ~PAGE_MASK);
    return (uint8_t *)(uintptr_t)(va + e->addend);
}

bool code_global(struct cpu *cpu, uint64_t va)
{
    unsigned mmu = cpu->guest->mmu_index(cpu, true);

    return full_of(cpu, mmu, tlb_at(cpu, mmu, va))->global;
}

/* ---- accesses to what is not plain memory. Devices run under the host's own floating-point control. */

static inline bool verifying(const struct cpu *cpu) { return cpu->jit && cpu->jit->verify; }

static uint64_t io_load(struct cpu *cpu, uint64_t va, uint64_t phys, unsigned n)
{
    enum mem_result res = MEM_OK;
    unsigned control = _mm_getcsr();
    uint64_t v;

    if (verifying(cpu))
        verify_abandon(cpu->jit);
    if (control != 0x1f80)
        _mm_setcsr(0x1f80);
    v = as_load(memory_of(cpu), phys, n, MEM_ATTRS_NONE, &res);
    if (control != 0x1f80)
        _mm_setcsr(control);
    if (res == MEM_DECODE_ERROR && cpu->guest->bus_error)
        cpu->guest->bus_error(cpu, va, phys, ACCESS_READ);
    return v;
}

static void io_store(struct cpu *cpu, uint64_t va, uint64_t phys, uint64_t v, unsigned n)
{
    enum mem_result res = MEM_OK;
    unsigned control = _mm_getcsr();

    if (verifying(cpu))
        verify_abandon(cpu->jit);
    if (control != 0x1f80)
        _mm_setcsr(0x1f80);
    as_store(memory_of(cpu), phys, v, n, MEM_ATTRS_NONE, &res);
    if (control != 0x1f80)
        _mm_setcsr(control);
    if (res == MEM_DECODE_ERROR && cpu->guest->bus_error)
        cpu->guest->bus_error(cpu, va, phys, ACCESS_WRITE);
}

/* A store to memory that somebody watches: the translator, or readers of the dirty bits. Returns the store's entry anew:
 * dropping code may fetch (the running region's own page, say) and so replace an entry of the same index. */
static struct tlb_entry *notice_store(struct cpu *cpu, unsigned mmu, struct tlb_entry *e, uint64_t va, unsigned n)
{
    struct tlb_full full = *full_of(cpu, mmu, e);
    uint8_t *f = &full.ram->page_flags[full.offset >> CPU_PAGE_BITS];

    if (verifying(cpu))
        verify_abandon(cpu->jit);
    if (__atomic_load_n(f, __ATOMIC_SEQ_CST) & PAGE_HAS_CODE)
        code_written(cpu->jit->av, cpu, full.ram, full.offset + (va & ~PAGE_MASK), n);
    if (__atomic_load_n(f, __ATOMIC_SEQ_CST) & PAGE_WATCHED)
        watch_written(cpu->jit->av, full.ram, full.offset);
    chaos_store(cpu->jit, full.ram, full.offset);
    __atomic_fetch_or(f, PAGE_DIRTY | PAGE_DIRTY_DISPLAY, __ATOMIC_SEQ_CST);
    tlb_lock(cpu->jit);
    if (!page_wants_notice(&full) && tag_match(e->write, va) && !chaos_keep_notice(cpu->jit))
        e->write &= ~(uint64_t)TLB_NOTDIRTY;
    tlb_unlock(cpu->jit);
    return tlb_get(cpu, va, ACCESS_WRITE, mmu);
}

/* ---- MONITOR: a page stays watched until a store finds that no vCPU has it as its last */

void cpu_watch(struct cpu *cpu, uint64_t va, unsigned mmu)
{
    struct accel_vm *av = cpu->jit ? cpu->jit->av : NULL;
    struct tlb_full full;
    uintptr_t page;

    if (!av || tlb_get(cpu, va, ACCESS_READ, mmu)->read & TLB_MMIO)
        return;
    full = *full_of(cpu, mmu, tlb_at(cpu, mmu, va));
    page = (uintptr_t)full.ram->host + full.offset;
    atomic_store(&cpu->jit->watched, page);
    if (__atomic_fetch_or(&full.ram->page_flags[full.offset >> CPU_PAGE_BITS], PAGE_WATCHED, __ATOMIC_SEQ_CST) & PAGE_WATCHED)
        return;
    for (unsigned i = 0; i < av->vm->nvcpus; i++)
        if (av->vm->vcpus[i]->cpu->jit)
            tlb_revoke(av->vm->vcpus[i]->cpu->jit, page);
}

void watch_written(struct accel_vm *av, struct ram_block *rb, uint64_t offset)
{
    uintptr_t page = (uintptr_t)rb->host + (offset & PAGE_MASK);
    bool any = false;

    for (unsigned i = 0; i < av->vm->nvcpus; i++) {
        struct jit_cpu *jc = av->vm->vcpus[i]->cpu->jit;

        if (!jc || atomic_load(&jc->watched) != page)
            continue;
        any = true;
        if (atomic_load(&jc->sleeping) && jc->vcpu->cpu->sleeps_on_memory)
            cpu_kick(jc->vcpu->cpu, CPU_EXIT_KICK);
    }
    if (!any)
        __atomic_fetch_and(&rb->page_flags[offset >> CPU_PAGE_BITS], (uint8_t)~PAGE_WATCHED, __ATOMIC_SEQ_CST);
}

/* Bytes within one page */
static void load_part(struct cpu *cpu, uint64_t va, uint8_t *to, unsigned n, unsigned mmu)
{
    struct tlb_entry *e = tlb_get_bytes(cpu, va, n, ACCESS_READ, mmu);

    if (!(e->read & TLB_MMIO)) {
        memcpy(to, (const void *)(uintptr_t)(va + e->addend), n);
        return;
    }
    while (n) {
        unsigned k = n >= 8 ? 8 : n >= 4 ? 4 : n >= 2 ? 2 : 1;
        uint64_t v = io_load(cpu, va, full_of(cpu, mmu, e)->phys | (va & ~PAGE_MASK), k);

        memcpy(to, &v, k);
        to += k;
        va += k;
        n -= k;
    }
}

static void store_part(struct cpu *cpu, uint64_t va, const uint8_t *from, unsigned n, unsigned mmu)
{
    struct tlb_entry *e = tlb_get_bytes(cpu, va, n, ACCESS_WRITE, mmu);

    if (e->write & TLB_NOTDIRTY)
        e = notice_store(cpu, mmu, e, va, n);
    if (!(e->write & (TLB_MMIO | TLB_ROM))) {
        if (verifying(cpu))
            verify_store(cpu->jit, (void *)(uintptr_t)(va + e->addend), n);
        memcpy((void *)(uintptr_t)(va + e->addend), from, n);
        return;
    }
    while (n) {
        unsigned k = n >= 8 ? 8 : n >= 4 ? 4 : n >= 2 ? 2 : 1;
        uint64_t v = 0;

        memcpy(&v, from, k);
        io_store(cpu, va, full_of(cpu, mmu, e)->phys | (va & ~PAGE_MASK), v, k);
        from += k;
        va += k;
        n -= k;
    }
}

static unsigned page_left(uint64_t va) { return CPU_PAGE_SIZE - (va & ~PAGE_MASK); }

void cpu_load_bytes(struct cpu *cpu, uint64_t va, void *buf, unsigned n, unsigned mmu)
{
    uint8_t *to = buf;

    while (n) {
        unsigned k = MIN(n, page_left(va));

        load_part(cpu, va, to, k, mmu);
        to += k;
        va += k;
        n -= k;
    }
}

/* All pages are known to be writable before the first byte changes. */
void cpu_probe(struct cpu *cpu, uint64_t va, unsigned n, bool write, unsigned mmu)
{
    while (n) {
        unsigned k = MIN(n, page_left(va));

        tlb_get_bytes(cpu, va, k, write ? ACCESS_WRITE : ACCESS_READ, mmu);
        va += k;
        n -= k;
    }
}

uint8_t *cpu_span(struct cpu *cpu, uint64_t va, unsigned n, bool write, unsigned mmu)
{
    const struct tlb_entry *e;

    if (!cpu->tlb_view[cpu_tlb_view(mmu)].table)
        return NULL;
    e = tlb_at(cpu, mmu, va);
    if ((write ? e->write : e->read) != (va & PAGE_MASK))
        return NULL;
    return (uint8_t *)(uintptr_t)(va + e->addend);
}

void cpu_span_end(struct cpu *cpu) { }

void cpu_store_bytes(struct cpu *cpu, uint64_t va, const void *buf, unsigned n, unsigned mmu)
{
    const uint8_t *from = buf;

    if (n > page_left(va))
        cpu_probe(cpu, va, n, true, mmu);
    while (n) {
        unsigned k = MIN(n, page_left(va));

        store_part(cpu, va, from, k, mmu);
        from += k;
        va += k;
        n -= k;
    }
}

static inline uint64_t swap(uint64_t v, memop m)
{
    return m & MEM_BE ? __builtin_bswap64(v) >> (64 - 8 * memop_bytes(m)) : v;
}

static inline uint64_t extend(uint64_t v, memop m)
{
    unsigned unused = 64 - 8 * memop_bytes(m);

    return m & MEM_SIGNED ? (uint64_t)((int64_t)(v << unused) >> unused) : v;
}

/* Any alignment: one host instruction, as the guest is promised. */
__attribute__((no_sanitize("alignment"))) static uint64_t host_load(const void *p, unsigned n)
{
    switch (n) {
    case 1: return *(const uint8_t *)p;
    case 2: return *(const uint16_t *)p;
    case 4: return *(const uint32_t *)p;
    default: return *(const uint64_t *)p;
    }
}

__attribute__((no_sanitize("alignment"))) static void host_store(void *p, unsigned n, uint64_t v)
{
    switch (n) {
    case 1: *(uint8_t *)p = v; break;
    case 2: *(uint16_t *)p = v; break;
    case 4: *(uint32_t *)p = v; break;
    default: *(uint64_t *)p = v;
    }
}

uint64_t cpu_load(struct cpu *cpu, uint64_t va, memop m)
{
    unsigned n = memop_bytes(m), mmu = memop_mmu(m);
    bool write = m & MEM_RW;            /* a store follows: what that would raise comes first */
    struct tlb_entry *e;
    uint64_t v = 0;

    if (n > page_left(va)) {
        cpu_probe(cpu, va, n, write, mmu);
        cpu_load_bytes(cpu, va, &v, n, mmu);
        return extend(swap(v, m), m);
    }
    if (write)
        tlb_get_bytes(cpu, va, n, ACCESS_WRITE, mmu);
    e = tlb_get_bytes(cpu, va, n, ACCESS_READ, mmu);
    if (e->read & TLB_MMIO)
        v = io_load(cpu, va, full_of(cpu, mmu, e)->phys | (va & ~PAGE_MASK), n);
    else
        v = host_load((const void *)(uintptr_t)(va + e->addend), n);
    return extend(swap(v, m), m);
}

void cpu_store(struct cpu *cpu, uint64_t va, memop m, uint64_t v)
{
    unsigned n = memop_bytes(m), mmu = memop_mmu(m);
    struct tlb_entry *e;

    v = swap(v, m);
    if (n > page_left(va)) {
        cpu_store_bytes(cpu, va, &v, n, mmu);
        return;
    }
    e = tlb_get_bytes(cpu, va, n, ACCESS_WRITE, mmu);
    if (e->write & TLB_NOTDIRTY)
        e = notice_store(cpu, mmu, e, va, n);
    if (e->write & (TLB_MMIO | TLB_ROM))
        io_store(cpu, va, full_of(cpu, mmu, e)->phys | (va & ~PAGE_MASK), v, n);
    else {
        if (verifying(cpu))
            verify_store(cpu->jit, (void *)(uintptr_t)(va + e->addend), n);
        host_store((void *)(uintptr_t)(va + e->addend), n, v);
    }
}

/* ---- atomics */

static uint64_t atomic_new(enum ir_opcode op, uint64_t old, uint64_t v, uint64_t cmp)
{
    switch (op) {
    case IR_ATOMIC_ADD: return old + v;
    case IR_ATOMIC_AND: return old & v;
    case IR_ATOMIC_OR: return old | v;
    case IR_ATOMIC_XOR: return old ^ v;
    case IR_ATOMIC_CAS: return old == cmp ? v : old;
    default: return v;
    }
}

#define ATOMIC_ON(type) do {                                                                        \
        type *p = host, old = __atomic_load_n(p, __ATOMIC_SEQ_CST);                                 \
        while (!__atomic_compare_exchange_n(p, &old,                                                \
                   (type)swap((type)atomic_new(op, (type)swap(old, m), v, cmp), m), false,          \
                   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))                                             \
            ;                                                                                       \
        return (type)swap(old, m);                                                                  \
    } while (0)

static uint64_t atomic_on_host(void *host, enum ir_opcode op, memop m, uint64_t v, uint64_t cmp)
{
    switch (memop_bytes(m)) {
    case 1: ATOMIC_ON(uint8_t);
    case 2: ATOMIC_ON(uint16_t);
    case 4: ATOMIC_ON(uint32_t);
    default: ATOMIC_ON(uint64_t);
    }
}

struct split_atomic { struct cpu *cpu; uint64_t va, v, cmp, old; enum ir_opcode op; memop m; };

static void split_atomic(struct vm *vm, void *arg)
{
    struct split_atomic *s = arg;

    s->old = cpu_load(s->cpu, s->va, s->m);
    cpu_store(s->cpu, s->va, s->m, atomic_new(s->op, s->old, s->v, s->cmp));
}

uint64_t cpu_atomic(struct cpu *cpu, enum ir_opcode op, uint64_t va, memop m, uint64_t v, uint64_t cmp)
{
    unsigned n = memop_bytes(m), mmu = memop_mmu(m);
    struct tlb_entry *e;
    struct split_atomic s = { cpu, va, v, cmp, 0, op, m & ~(memop)MEM_SIGNED };

    s.m &= ~(memop)MEM_RW;
    if (n < 8) {
        s.v &= (1ull << 8 * n) - 1;
        s.cmp &= (1ull << 8 * n) - 1;
    }
    cpu_probe(cpu, va, n, true, mmu);
    cpu_probe(cpu, va, n, false, mmu);
    if (verifying(cpu) && n > page_left(va))
        verify_abandon(cpu->jit);
    e = tlb_get(cpu, va, ACCESS_WRITE, mmu);
    if (e->write & TLB_NOTDIRTY)
        e = notice_store(cpu, mmu, e, va, MIN(n, page_left(va)));
    if (n > page_left(va) || e->write & (TLB_MMIO | TLB_ROM)) {
        /* The second page's notice comes first: nothing may leave from inside a stopped world. */
        if (n > page_left(va)) {
            struct tlb_entry *e2 = tlb_get(cpu, va + n - 1, ACCESS_WRITE, mmu);

            if (e2->write & TLB_NOTDIRTY)
                notice_store(cpu, mmu, e2, (va + n - 1) & PAGE_MASK, n - page_left(va));
            if (cpu->vcpu)
                vcpus_exclusive(cpu->vcpu->vm, split_atomic, &s);
            else
                split_atomic(NULL, &s);
        } else {
            split_atomic(NULL, &s);
        }
        return s.old;
    }
    if (verifying(cpu))
        verify_store(cpu->jit, (void *)(uintptr_t)(va + e->addend), n);
    return atomic_on_host((void *)(uintptr_t)(va + e->addend), op, s.m, s.v, s.cmp);
}

struct cas128 { struct cpu *cpu; uint64_t va; unsigned mmu; const uint64_t *cmp, *v; uint64_t *old; bool done; };

static void split_cas128(struct vm *vm, void *arg)
{
    struct cas128 *s = arg;

    cpu_load_bytes(s->cpu, s->va, s->old, 16, s->mmu);
    s->done = s->old[0] == s->cmp[0] && s->old[1] == s->cmp[1];
    cpu_store_bytes(s->cpu, s->va, s->done ? s->v : s->old, 16, s->mmu);
}

static bool host_cas128(void *p, const uint64_t cmp[2], const uint64_t v[2], uint64_t old[2])
{
    uint8_t done;

    old[0] = cmp[0];
    old[1] = cmp[1];
    __asm__ volatile("lock cmpxchg16b %1; sete %0"
                     : "=q"(done), "+m"(*(unsigned __int128 *)p), "+a"(old[0]), "+d"(old[1])
                     : "b"(v[0]), "c"(v[1])
                     : "memory", "cc");
    return done;
}

bool cpu_cas128(struct cpu *cpu, uint64_t va, unsigned mmu, const uint64_t cmp[2], const uint64_t v[2],
                uint64_t old[2])
{
    struct cas128 s = { cpu, va, mmu, cmp, v, old, false };
    struct tlb_entry *e;

    cpu_probe(cpu, va, 16, true, mmu);
    cpu_probe(cpu, va, 16, false, mmu);
    e = tlb_get(cpu, va, ACCESS_WRITE, mmu);
    if (e->write & TLB_NOTDIRTY)
        e = notice_store(cpu, mmu, e, va, MIN(16, page_left(va)));
    if (va & 15 || e->write & (TLB_MMIO | TLB_ROM)) {
        vcpus_exclusive(cpu->vcpu->vm, split_cas128, &s);
        return s.done;
    }
    return host_cas128((void *)(uintptr_t)(va + e->addend), cmp, v, old);
}
