/* Jump caches: where indirect jumps find the code of their target, by virtual address. Each vCPU has some, one is current: for
 * the CPU's mode and without entries of other address spaces. */
#include <string.h>
#include "accel.h"

static unsigned page_hash(uint64_t pc) { return (pc >> CPU_PAGE_BITS) * UINT64_C(0x9e3779b97f4a7c15) >> (64 - JUMP_PAGE_BITS); }

static void jump_entry_clear(struct jump_slot *s, unsigned h)
{
    s->entry[h] = (struct jump_entry){ .pc = h == 0 };  /* the others hold 0, which hashes to 0: none matches */
    s->region[h] = NULL;
}

static void jump_link(struct jump_slot *s, unsigned h, uint64_t pc)
{
    s->next[h] = s->head[page_hash(pc)];
    s->head[page_hash(pc)] = h + 1;
    s->filled++;
}

static void jump_unlink(struct jump_slot *s, unsigned h)
{
    uint16_t *p = &s->head[page_hash(s->entry[h].pc)];

    while (*p != h + 1)
        p = &s->next[*p - 1];
    *p = s->next[h];
    s->filled--;
}

static void jump_entry_drop(struct jump_slot *s, unsigned h)
{
    if (s->entry[h].code) {
        jump_unlink(s, h);
        jump_entry_clear(s, h);
    }
}

static void slot_clear(struct jump_slot *s)
{
    if (s->filled > JUMP_FILLED) {
        memset(s->entry, 0, sizeof(*s->entry) << JUMP_CACHE_BITS);
        memset(s->region, 0, sizeof(*s->region) << JUMP_CACHE_BITS);
    } else if (s->filled) {
        for (unsigned b = 0; b < 1 << JUMP_PAGE_BITS; b++)
            for (unsigned k = s->head[b]; k; k = s->next[k - 1])
                jump_entry_clear(s, k - 1);
    }
    s->entry[0].pc = 1;
    s->filled = s->locals = 0;
    memset(s->head, 0, sizeof(s->head));
    memset(s->listed, 0, sizeof(s->listed));
}

void jump_init(struct jit_cpu *jc)
{
    for (unsigned i = 0; i < JUMP_CACHES; i++) {
        jc->jump[i].entry = g_malloc0(sizeof(struct jump_entry) << JUMP_CACHE_BITS);
        jc->jump[i].region = g_malloc0(sizeof(struct region *) << JUMP_CACHE_BITS);
        jc->jump[i].next = g_malloc0(sizeof(*jc->jump[i].next) << JUMP_CACHE_BITS);
        slot_clear(&jc->jump[i]);
    }
    jc->slot = &jc->jump[0];
    jc->vcpu->cpu->jump_cache = jc->jump[0].entry;
    jc->vcpu->cpu->jump_mask = jump_mask(JUMP_CACHE_BITS);
    jc->vcpu->cpu->mode = UINT64_MAX;
}

void jump_free(struct jit_cpu *jc)
{
    for (unsigned i = 0; i < JUMP_CACHES; i++)
        g_free(jc->jump[i].entry), g_free(jc->jump[i].region), g_free(jc->jump[i].next);
}

void jump_flush(struct jit_cpu *jc)
{
    for (unsigned i = 0; i < JUMP_CACHES; i++)
        slot_clear(&jc->jump[i]);
}

/* Dead, or tier 2 has a better one. */
static bool region_gone(const struct region *r)
{
    const struct region *better = r->better;

    return r->dead || (better && !better->dead);
}

/* Entries of regions that are gone go. */
void jump_drop_dead(struct jit_cpu *jc)
{
    for (unsigned i = 0; i < JUMP_CACHES; i++) {
        struct jump_slot *s = &jc->jump[i];

        for (unsigned b = 0; s->filled && b < 1 << JUMP_PAGE_BITS; b++)
            for (unsigned k = s->head[b], next; k; k = next) {
                next = s->next[k - 1];
                if (region_gone(s->region[k - 1]))
                    jump_entry_drop(s, k - 1);
            }
    }
}

/* The caches of this vCPU hold it in one place of each at most. */
void jump_drop(struct jit_cpu *jc, const struct region *r)
{
    unsigned h = jump_hash(r->jump_pc, JUMP_CACHE_BITS);

    for (unsigned i = 0; i < JUMP_CACHES; i++)
        if (jc->jump[i].region[h] == r)
            jump_entry_drop(&jc->jump[i], h);
}

void jump_flush_context(struct jit_cpu *jc, uint64_t id)
{
    for (unsigned i = 0; i < JUMP_CACHES; i++) {
        struct jump_slot *s = &jc->jump[i];

        if (s->context != id)
            continue;
        if (s->locals > JUMP_FILLED) {
            slot_clear(s);
            continue;
        }
        for (unsigned k = 0; k < s->locals; k++) {
            jump_entry_drop(s, s->local[k]);
            s->listed[s->local[k] / 64] &= ~(1ull << s->local[k] % 64);
        }
        s->locals = 0;
    }
}

void jump_flush_local(struct jit_cpu *jc) { jump_flush_context(jc, jc->context->id); }

/* Entries of a page; across: those alone whose last instruction ends in the next. */
static void jump_drop_page(struct jump_slot *s, uint64_t va, bool across)
{
    for (unsigned k = s->head[page_hash(va)], next; k; k = next) {
        next = s->next[k - 1];
        if ((s->entry[k - 1].pc & PAGE_MASK) == (va & PAGE_MASK) && (!across || s->region[k - 1]->len2))
            jump_entry_drop(s, k - 1);
    }
}

void jump_flush_page(struct jit_cpu *jc, uint64_t va)
{
    for (unsigned i = 0; i < JUMP_CACHES; i++) {
        jump_drop_page(&jc->jump[i], va, false);
        jump_drop_page(&jc->jump[i], va - CPU_PAGE_SIZE, true);
    }
}

/* A cache of that mode without entries of other address spaces; `kept` is not taken for it. */
static struct jump_slot *slot_take(struct jit_cpu *jc, uint64_t mode, const struct jump_slot *kept)
{
    struct jump_slot *s = NULL, *oldest = NULL;

    for (unsigned i = 0; i < JUMP_CACHES && !s; i++) {
        struct jump_slot *x = &jc->jump[i];

        if (x->used && x->mode == mode && (!x->locals || x->context == jc->context->id))
            s = x;
        if (x != kept && (!oldest || x->used < oldest->used))
            oldest = x;
    }
    if (!s) {
        s = oldest;
        slot_clear(s);
        s->mode = mode;
    }
    s->context = jc->context->id;
    s->used = ++jc->jump_clock;
    return s;
}

void jump_select(struct cpu *cpu, uint64_t mode)
{
    struct jit_cpu *jc = cpu->jit;
    const struct guest *g = cpu->guest;

    jc->slot = slot_take(jc, mode, NULL);
    cpu->mode = mode;
    cpu->jump_cache = jc->slot->entry;
    if (mode & g->side_modes) {
        bool side = mode & g->side_mode;

        jc->side = slot_take(jc, mode ^ g->side_mode, jc->slot);
        cpu->jump_sides[side] = jc->slot->entry;
        cpu->jump_sides[!side] = jc->side->entry;
    }
}

static struct jump_slot *slot_now(const struct cpu *cpu)
{
    struct jit_cpu *jc = cpu->jit;

    return jc->slot->entry == cpu->jump_cache ? jc->slot : jc->side;
}

struct region *jump_find(struct cpu *cpu, uint64_t pc)
{
    unsigned h = jump_hash(pc, JUMP_CACHE_BITS);

    return cpu->jump_cache[h].pc == pc ? slot_now(cpu)->region[h] : NULL;
}

void jump_fill(struct cpu *cpu, uint64_t pc, struct region *r)
{
    struct jump_slot *s = slot_now(cpu);
    unsigned h = jump_hash(pc, JUMP_CACHE_BITS);
    uint64_t known = JUMP_PC_NONE;

    if (s->entry[h].code)
        jump_unlink(s, h);
    jump_link(s, h, pc);
    if ((r->len2 || !code_global(cpu, pc)) && !(s->listed[h / 64] >> h % 64 & 1)) {
        if (s->locals < JUMP_FILLED) {
            s->local[s->locals] = h;
            s->listed[h / 64] |= 1ull << h % 64;
        }
        if (s->locals <= JUMP_FILLED)
            s->locals++;
    }
    if (!atomic_compare_exchange_strong(&r->jump_pc, &known, pc) && known != pc)
        r->jump_many = true;
    s->region[h] = r;
    s->entry[h] = (struct jump_entry){ pc, r->code };
    r->jumped_to = true;
    if (r->dead)                        /* who killed it may have looked at jumped_to before */
        jump_entry_drop(s, h);
}
