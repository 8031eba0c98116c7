/* Regions outside of their cache: what a later run of the same program of ours can go on with. A saved region is its host code with
 * what depends on places taken out (enum code_reloc_kind), the guest bytes that it was made from, and its exits. It fits where
 * these bytes are, at the same offset in a page, whatever the page's address.
 *
 * The code is run as it is. So a file of them deserves the trust of a program's, and the checksum is for accidents, not for
 * enemies: who keeps them sees that nobody else can write them (src/user/saved.c). */
#include <string.h>
#include "cache.h"

struct saved_exit { int64_t target; uint32_t patch; uint32_t kind; };   /* patch: offset in the code, NOT_PATCHED */
#define NOT_PATCHED UINT32_MAX
enum { RELOC_AT_BITS = 24 };
static const uint8_t reloc_bytes[] = { [RELOC_STUB] = 4, [RELOC_C] = 4, [RELOC_EXIT] = 4, [RELOC_PC] = 8 };

/* Functions of this program are told by their distance from one of them. */
static uintptr_t anchor(void) { return (uintptr_t)&jit_new; }

uint64_t jit_checksum(const void *data, size_t n)
{
    const uint8_t *p = data;
    uint64_t h = n * UINT64_C(0x9e3779b97f4a7c15), w = 0;

    for (; n >= 8; p += 8, n -= 8) {
        memcpy(&w, p, 8);
        h = (h ^ w) * UINT64_C(0xff51afd7ed558ccd);
        h ^= h >> 32;
    }
    w = 0;
    memcpy(&w, p, n);
    h = (h ^ w) * UINT64_C(0xc4ceb9fe1a85ec53);
    return h ^ h >> 29;
}

/* ---- the parts of a saved region */

static const struct saved_exit *exits_of(const struct saved_region *s) { return (const struct saved_exit *)(s + 1); }
static const uint32_t *relocs_of(const struct saved_region *s) { return (const uint32_t *)(exits_of(s) + s->nexits); }
static unsigned span_of(const struct saved_region *s) { return s->len2 ? CPU_PAGE_SIZE - s->lo + s->len2 : s->hi - s->lo; }
static const uint8_t *bytes_of(const struct saved_region *s) { return (const uint8_t *)(relocs_of(s) + s->nrelocs); }
static const uint8_t *code_of(const struct saved_region *s) { return bytes_of(s) + span_of(s); }
static size_t size_of(const struct saved_region *s)
{
    return sizeof(*s) + s->nexits * sizeof(struct saved_exit) + s->nrelocs * sizeof(uint32_t) + (size_t)span_of(s) + s->code_size;
}
static size_t align_up(size_t n) { return (n + SAVED_ALIGN - 1) & ~(size_t)(SAVED_ALIGN - 1); }

const uint8_t *jit_saved_bytes(const struct saved_region *s, unsigned *n)
{
    *n = span_of(s);
    return bytes_of(s);
}

static bool exit_valid(const struct saved_region *s, const struct saved_exit *e)
{
    return e->kind <= EXIT_TO_LOOP
        && (e->patch == NOT_PATCHED || (e->patch % 4 == 0 && e->patch <= s->code_size && s->code_size - e->patch >= 4));
}

bool jit_saved_valid(const struct saved_region *s, size_t n)
{
    if (n < sizeof(*s) || s->size < sizeof(*s) || s->size > n || s->size > SAVED_MOST || s->size % SAVED_ALIGN)
        return false;
    if (s->lo >= s->hi || s->hi > CPU_PAGE_SIZE || s->len2 > CPU_PAGE_SIZE || s->nexits > IR_MAX_EXITS || s->nrelocs > MAX_RELOCS
        || s->code_size > REGION_ROOM || align_up(size_of(s)) != s->size
        || s->check != jit_checksum(&s->size, s->size - offsetof(struct saved_region, size)))
        return false;
    if (s->faults > s->code_size || s->nfaults > (s->code_size - s->faults) / CODEGEN_FAULT_ROW)
        return false;
    for (unsigned i = 0; i < s->nexits; i++)
        if (!exit_valid(s, &exits_of(s)[i]))
            return false;
    for (unsigned i = 0; i < s->nrelocs; i++) {
        uint32_t kind = relocs_of(s)[i] >> RELOC_AT_BITS, at = relocs_of(s)[i] & ((1 << RELOC_AT_BITS) - 1);

        if (kind >= sizeof(reloc_bytes) || at > s->code_size || s->code_size - at < reloc_bytes[kind])
            return false;
    }
    return true;
}

/* ---- places out and in */

struct place { struct jit *j; uint8_t *code; uint32_t first_exit; uint64_t page; };

static int64_t field_get(const uint8_t *at, unsigned bytes)
{
    int32_t v32;
    int64_t v64;

    if (bytes == 4)
        return memcpy(&v32, at, 4), v32;
    return memcpy(&v64, at, 8), v64;
}

static bool field_set(uint8_t *at, unsigned bytes, int64_t v)
{
    memcpy(at, &v, bytes);
    return bytes == 8 || v == (int32_t)v;
}

static bool in_reach(const struct jit *j, uint64_t pc) { return !j->opts.pc_limit || pc < j->opts.pc_limit; }

/* What is to be added to a field that is independent of places, so that it fits p; `at`: the field. */
static int64_t shift_of(const struct place *p, uint32_t kind, const uint8_t *at)
{
    switch (kind) {
    case RELOC_STUB: return p->j->rx - (at + 4);
    case RELOC_C:    return (intptr_t)anchor() - (intptr_t)(at + 4);
    case RELOC_EXIT: return p->first_exit;
    default:         return (int64_t)p->page;
    }
}

void saved_add(struct jit *j, const struct jit_source *src, const struct region *r)
{
    const struct code_relocs *relocs = j->relocs;
    struct saved_region s = { .code_size = r->code_size, .faults = r->faults, .nfaults = r->nfaults, .key = src->save_key, .mode = r->mode,
                              .nexits = r->nexits, .nrelocs = relocs->n, .lo = r->lo, .hi = r->hi, .len2 = r->len2, .insns = r->insns };
    struct place p = { j, r->code, r->first_exit, src->pc & -(uint64_t)CPU_PAGE_SIZE };
    unsigned span = span_of(&s);
    guint start = src->save->len;
    struct saved_region *out;
    uint8_t *at;

    if (align_up(size_of(&s)) > SAVED_MOST || start > G_MAXUINT / 2)
        return;
    s.size = align_up(size_of(&s));
    g_byte_array_set_size(src->save, start + s.size);
    out = (struct saved_region *)(src->save->data + start);
    memset(out, 0, s.size);
    *out = s;
    at = (uint8_t *)(out + 1);
    for (unsigned i = 0; i < s.nexits; i++) {
        const struct region_exit *e = jit_exit(j, r->first_exit + i);
        struct saved_exit x = { e->target, e->patch ? (uint32_t)(e->patch - (j->rw + (p.code - j->rx))) : NOT_PATCHED, e->kind };

        if (e->patch && !in_reach(j, p.page + (uint64_t)e->target))
            goto refuse;
        memcpy(at, &x, sizeof(x));
        at += sizeof(x);
    }
    for (unsigned i = 0; i < relocs->n; i++) {
        uint32_t row = relocs->row[i].at | (uint32_t)relocs->row[i].kind << RELOC_AT_BITS;

        memcpy(at, &row, 4);
        at += 4;
    }
    for (unsigned i = 0; i < span; i++)
        if (!code_fetch_byte(&j->fetched, p.page + s.lo + i, at++))
            goto refuse;
    memcpy(at, p.code, s.code_size);
    for (unsigned i = 0; i < relocs->n; i++) {
        unsigned kind = relocs->row[i].kind, bytes = reloc_bytes[kind];
        int64_t field = field_get(at + relocs->row[i].at, bytes);

        if (kind == RELOC_PC && !in_reach(j, (uint64_t)field))
            goto refuse;
        if (!field_set(at + relocs->row[i].at, bytes, field - shift_of(&p, kind, p.code + relocs->row[i].at)))
            goto refuse;
    }
    out->check = jit_checksum(&out->size, out->size - offsetof(struct saved_region, size));
    j->stats.saved++;
    return;
refuse:
    g_byte_array_set_size(src->save, start);
}

static bool same_bytes(const struct saved_region *s, const struct jit_source *src, struct code_fetch *f)
{
    uint64_t page = src->pc & -(uint64_t)CPU_PAGE_SIZE;
    const uint8_t *want = bytes_of(s);
    uint8_t byte;

    if (memcmp(src->fetch.page[0] + s->lo, want, (s->len2 ? CPU_PAGE_SIZE : s->hi) - s->lo))
        return false;
    for (unsigned i = 0; i < s->len2; i++)
        if (!code_fetch_byte(f, page + CPU_PAGE_SIZE + i, &byte) || byte != want[CPU_PAGE_SIZE - s->lo + i])
            return false;
    return true;
}

/* The code is at p->code, not yet fit for it. */
static bool put_in_place(const struct place *p, const struct saved_region *s)
{
    for (unsigned i = 0; i < s->nrelocs; i++) {
        uint32_t kind = relocs_of(s)[i] >> RELOC_AT_BITS;
        uint8_t *at = p->code + (relocs_of(s)[i] & ((1 << RELOC_AT_BITS) - 1));
        int64_t field = field_get(at, reloc_bytes[kind]) + shift_of(p, kind, at);

        if (!field_set(at, reloc_bytes[kind], field) || (kind == RELOC_PC && !in_reach(p->j, (uint64_t)field)))
            return false;
    }
    return true;
}

static struct region *load_locked(struct jit *j, const struct jit_source *src, const struct saved_region *s)
{
    struct region *r = &j->regions[j->nregions];
    struct place p = { j, j->rw + j->used, j->nexits, src->pc & -(uint64_t)CPU_PAGE_SIZE };
    struct code_fetch f = src->fetch;

    if (j->nregions == MAX_REGIONS || j->nexits + IR_MAX_EXITS > MAX_EXITS || j->limit - j->used < REGION_ROOM || j->rw != j->rx
        || !same_bytes(s, src, &f))
        return NULL;
    *r = (struct region){ .phys = src->phys, .mode = s->mode, .insns = s->insns, .phys2 = UINT64_MAX, .lo = s->lo, .hi = s->hi,
                          .len2 = s->len2, .nexits = s->nexits, .faults = s->faults, .nfaults = s->nfaults, .jump_pc = JUMP_PC_NONE };
    if (s->len2)
        r->phys2 = src->phys_of_next(&f);
    memcpy(p.code, code_of(s), s->code_size);
    for (unsigned i = 0; i < s->nexits; i++) {
        const struct saved_exit *e = &exits_of(s)[i];
        bool patched = e->patch != NOT_PATCHED;

        if (patched && !in_reach(j, p.page + (uint64_t)e->target))
            return NULL;
        j->exits[j->nexits + i] = (struct region_exit){ .from = r, .target = e->target, .kind = e->kind,
                                                        .patch = patched ? p.code + e->patch : NULL };
    }
    if (!put_in_place(&p, s))
        return NULL;
    cache_record(j, r, p.code, s->code_size);
    j->stats.loaded++;
    return r;
}

struct region *jit_load(struct jit *j, const struct jit_source *src, const struct saved_region *s)
{
    struct region *r;

    jit_lock(j);
    r = load_locked(j, src, s);
    jit_unlock(j);
    if (r)
        cache_log_code(j, r, src->pc, "saved");
    return r;
}
