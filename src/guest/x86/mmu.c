/* Paging: none, 32-bit with and without 4 MiB pages, PAE, 4 and 5 levels. SDM vol. 3, chapter 4.
 * Entries are read straight from guest RAM; accessed and dirty bits are set with compare-and-swap, and the walk starts
 * again if somebody came between. */
#include <glib.h>
#include "rhea/base/log.h"
#include "rhea/vm/vm.h"
#include "system.h"

enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_PWT = 8, PTE_PCD = 16, PTE_A = 32, PTE_D = 64, PTE_PS = 128, PTE_G = 256 };
#define PTE_NX (UINT64_C(1) << 63)
enum { PF_P = 1, PF_W = 2, PF_U = 4, PF_RSVD = 8, PF_I = 16 };

struct walk {
    struct x86_cpu *c;
    struct vm *vm;
    uint64_t va;
    unsigned levels, entry_bytes;
    bool long_mode, pae;
    bool user, write, nx;       /* combined permissions */
    struct { uint64_t addr, value; } entry[5];  /* [0]: leaf's level upwards, in walk order */
    unsigned depth;
    uint64_t leaf;
    unsigned leaf_bits;
};

/* Host address of an entry in guest RAM, or NULL. */
static void *entry_host(struct walk *w, uint64_t addr, struct ram_block **rb, uint64_t *offset)
{
    const struct mem_range *r = address_space_lookup(vcpu_memory(w->c->cpu.vcpu), addr);

    if (!r || r->mr->kind != MEMK_RAM || addr + 7 > r->end)
        return NULL;
    *rb = r->mr->ram;
    *offset = r->mr->ram_offset + r->offset + (addr - r->start);
    return (*rb)->host + *offset;
}

static uint64_t entry_read(struct walk *w, uint64_t addr)
{
    struct ram_block *rb;
    uint64_t offset;
    void *p = entry_host(w, addr, &rb, &offset);

    if (!p)
        return as_load(vcpu_memory(w->c->cpu.vcpu), addr, w->entry_bytes, MEM_ATTRS_NONE, NULL);
    return w->entry_bytes == 8 ? GUINT64_FROM_LE(__atomic_load_n((uint64_t *)p, __ATOMIC_RELAXED))
                               : GUINT32_FROM_LE(__atomic_load_n((uint32_t *)p, __ATOMIC_RELAXED));
}

/* False: the entry changed meanwhile. */
static bool entry_set(struct walk *w, uint64_t addr, uint64_t old, uint64_t bits)
{
    struct ram_block *rb;
    uint64_t offset;
    void *p = entry_host(w, addr, &rb, &offset);
    bool ok;

    if (!p)
        return true;            /* in ROM or a device: it stays as it is */
    if (w->entry_bytes == 8) {
        uint64_t expected = GUINT64_TO_LE(old);

        ok = __atomic_compare_exchange_n((uint64_t *)p, &expected, GUINT64_TO_LE(old | bits), false, __ATOMIC_SEQ_CST,
                                         __ATOMIC_RELAXED);
    } else {
        uint32_t expected = GUINT32_TO_LE((uint32_t)old);

        ok = __atomic_compare_exchange_n((uint32_t *)p, &expected, GUINT32_TO_LE((uint32_t)(old | bits)), false,
                                         __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    }
    if (ok)
        ram_written(w->vm, rb, offset, w->entry_bytes);
    return ok;
}

static bool reserved_bits(const struct walk *w, uint64_t e, unsigned level, bool large)
{
    if (w->entry_bytes == 4)            /* PSE-36: 20:13 are address bits 39:32, as far as there are any */
        return large && (e & (1u << 21) || (e >> 13 & 0xff) << 32 & ~w->c->phys_mask);
    if ((e & PTE_NX) && !(w->c->efer & EFER_NXE))
        return true;
    if (e & ~w->c->phys_mask & (w->long_mode ? UINT64_C(0x000fffffffffffff) : UINT64_C(0x7fffffffffffffff)))
        return true;
    if (level == 3 && !w->long_mode)
        return e & (0x1e6 | PTE_NX);
    if (level >= 4)
        return e & PTE_PS;
    if (large)
        return e & (level == 2 ? 0x1fe000 : 0x3fffe000);
    return false;
}

static bool is_large(const struct walk *w, uint64_t e, unsigned level)
{
    if (!(e & PTE_PS) || level == 1 || level > 3)
        return false;
    if (w->entry_bytes == 4)
        return w->c->cr4 & CR4_PSE;
    if (level == 3)
        return w->long_mode && x86_has(w->c->features, XF_PDPE1GB);
    return true;
}

static uint64_t leaf_address(const struct walk *w)
{
    uint64_t mask = (UINT64_C(1) << w->leaf_bits) - 1, base;

    if (w->entry_bytes == 4 && w->leaf_bits == 22)      /* PSE-36: bits 39:32 in 20:13 */
        base = (w->leaf & 0xffc00000) | (w->leaf >> 13 & 0xff) << 32;
    else
        base = w->leaf & (w->entry_bytes == 4 ? 0xfffff000 : w->c->phys_mask) & ~mask;
    return base | (w->va & mask);
}

/* From the root to the leaf. Returns the error bits of a fault (P or RSVD), or -1 if there is a translation. */
static int walk_tables(struct walk *w)
{
    unsigned index_bits = w->entry_bytes == 8 ? 9 : 10;
    uint64_t table = w->long_mode ? w->c->cr3 & 0x000ffffffffff000 : w->pae ? w->c->cr3 & 0xffffffe0 :
                     w->c->cr3 & 0xfffff000;

    w->user = w->write = true;
    w->nx = false;
    w->depth = 0;
    for (unsigned level = w->levels;; level--) {
        unsigned shift = 12 + index_bits * (level - 1);
        uint64_t index = w->va >> shift & ((1u << index_bits) - 1);
        uint64_t addr, e;
        bool large;

        if (level == 3 && w->pae && !w->long_mode)
            index &= 3;
        addr = table + index * w->entry_bytes;
        e = entry_read(w, addr);
        if (!(e & PTE_P))
            return 0;
        large = is_large(w, e, level);
        if (reserved_bits(w, e, level, large))
            return PF_P | PF_RSVD;
        w->entry[w->depth].addr = addr;
        w->entry[w->depth++].value = e;
        if (!(level == 3 && w->pae && !w->long_mode)) {
            w->user &= (e & PTE_U) != 0;
            w->write &= (e & PTE_W) != 0;
            w->nx |= w->entry_bytes == 8 && (e & PTE_NX);
        }
        if (level == 1 || large) {
            w->leaf = e;
            w->leaf_bits = shift;
            return -1;
        }
        table = e & (w->entry_bytes == 4 ? 0xfffff000 : w->c->phys_mask & ~UINT64_C(0xfff));
    }
}

static void permissions(const struct walk *w, unsigned mmu, struct mmu_result *out)
{
    const struct x86_cpu *c = w->c;

    if (mmu == MMU_USER) {
        out->readable = w->user;
        out->writable = w->user && w->write;
        out->executable = w->user && !w->nx;
        return;
    }
    out->readable = !(w->user && mmu == MMU_KERNEL_SMAP);
    out->writable = out->readable && (w->write || !(c->cr0 & CR0_WP));
    out->executable = !w->nx && !(w->user && (c->cr4 & CR4_SMEP));
}

/* Sets A on the way and D for a write. False: walk again. */
static bool mark_entries(struct walk *w, bool write)
{
    for (unsigned n = 0; n < w->depth; n++) {
        uint64_t bits = PTE_A, e = w->entry[n].value;

        if (w->pae && !w->long_mode && n == 0)
            continue;           /* PDPTEs have no such bits */
        if (n == w->depth - 1 && write)
            bits |= PTE_D;
        if ((e & bits) == bits)
            continue;
        if (!entry_set(w, w->entry[n].addr, e, bits))
            return false;
    }
    return true;
}

static bool page_fault(struct walk *w, enum mmu_access access, unsigned mmu, int bits, bool probe)
{
    struct x86_cpu *c = w->c;

    if (probe)
        return false;
    if (access == ACCESS_WRITE)
        bits |= PF_W;
    if (mmu == MMU_USER)
        bits |= PF_U;
    if (access == ACCESS_EXEC && ((c->efer & EFER_NXE && c->cr4 & CR4_PAE) || (c->cr4 & CR4_SMEP)))
        bits |= PF_I;
    c->cpu.exception = X_PF;
    c->has_error_code = true;
    c->error_code = (uint32_t)bits;
    c->fault_cr2 = w->va;
    log_at(LOG_MMU, "x86: page fault at %#" G_GINT64_MODIFIER "x code %#x pc %#" G_GINT64_MODIFIER "x\n", w->va, bits,
           c->cpu.pc);
    return false;
}

static bool translate_paged(struct walk *w, enum mmu_access access, unsigned mmu, bool probe, struct mmu_result *out)
{
    for (;;) {
        int bits = walk_tables(w);

        if (bits >= 0)
            return page_fault(w, access, mmu, bits, probe);
        permissions(w, mmu, out);
        if (!(access == ACCESS_READ ? out->readable : access == ACCESS_WRITE ? out->writable : out->executable))
            return page_fault(w, access, mmu, PF_P, probe);
        if (!probe && !mark_entries(w, access == ACCESS_WRITE))
            continue;
        if (access != ACCESS_WRITE && !(w->leaf & PTE_D))
            out->writable = false;      /* until a write sets D */
        out->phys = leaf_address(w);
        out->page_bits = (uint8_t)w->leaf_bits;
        out->uncached = w->leaf & PTE_PCD;
        out->global = w->leaf & PTE_G && w->c->cr4 & CR4_PGE;
        return true;
    }
}

static bool general_protection(struct x86_cpu *c, bool probe)
{
    if (!probe) {
        c->cpu.exception = X_GP;
        c->has_error_code = true;
        c->error_code = 0;
    }
    return false;
}

bool x86_translate(struct cpu *cpu, uint64_t va, enum mmu_access access, unsigned mmu, bool probe,
                   struct mmu_result *out)
{
    struct x86_cpu *c = x86(cpu);
    struct walk w = { .c = c, .vm = cpu->vcpu ? cpu->vcpu->vm : NULL, .va = va };
    unsigned token;
    bool ok;

    *out = (struct mmu_result){ 0 };
    /* Past 4 GiB outside 64-bit code: the tail of an access that crossed the limit of a flat segment. */
    if (va >> 32 && (!x86_long_mode(c) || (mmu == MMU_USER && !x86_code64(c))))
        return general_protection(c, probe);
    if (!(c->cr0 & CR0_PG) || mmu == MMU_PHYS) {
        *out = (struct mmu_result){ .phys = va & c->phys_mask, .page_bits = 12, .readable = true, .writable = true,
                                    .executable = true };
        return true;
    }
    w.long_mode = x86_long_mode(c);
    w.pae = c->cr4 & CR4_PAE;
    w.entry_bytes = w.pae ? 8 : 4;
    w.levels = w.long_mode ? (c->cr4 & CR4_LA57 ? 5 : 4) : w.pae ? 3 : 2;
    if (w.long_mode && !x86_canonical(c, va)) {
        if (!probe && access != ACCESS_EXEC)
            c->noncanonical = va;
        return general_protection(c, probe);
    }
    token = mem_read_begin();
    ok = translate_paged(&w, access, mmu, probe, out);
    mem_read_end(token);
    return ok;
}

/* PDPTEs with reserved bits set fault where CR3 is loaded. The walk reads them from memory each time. */
void x86_load_pdptes(struct x86_cpu *c, bool check)
{
    struct walk w = { .c = c, .vm = c->cpu.vcpu ? c->cpu.vcpu->vm : NULL, .pae = true, .entry_bytes = 8 };

    for (unsigned n = 0; w.vm && n < 4; n++) {
        uint64_t e = as_load(vcpu_memory(c->cpu.vcpu), (c->cr3 & 0xffffffe0) + 8 * n, 8, MEM_ATTRS_NONE, NULL);

        if ((e & PTE_P) && reserved_bits(&w, e, 3, false))
            x86_raise(c, X_GP, 0);
    }
}

/* ---- info mem, info tlb */

struct dump {
    struct walk w;
    GString *out;
    bool tlb;
    uint64_t run_start, run_end;
    int run_flags;              /* -1: no run */
};

static void run_flush(struct dump *d)
{
    if (d->run_flags >= 0)
        g_string_append_printf(d->out, "%016" G_GINT64_MODIFIER "x-%016" G_GINT64_MODIFIER "x %016" G_GINT64_MODIFIER
                               "x %c%c%c\n", d->run_start, d->run_end, d->run_end - d->run_start,
                               d->run_flags & PTE_U ? 'u' : '-', 'r', d->run_flags & PTE_W ? 'w' : '-');
    d->run_flags = -1;
}

static void dump_page(struct dump *d, uint64_t va, uint64_t e, unsigned shift, int flags)
{
    if (d->tlb) {
        d->w.leaf = e;
        d->w.leaf_bits = shift;
        d->w.va = va;
        g_string_append_printf(d->out, "%016" G_GINT64_MODIFIER "x: %016" G_GINT64_MODIFIER "x %c%c%c%c%c%c%c%c%c\n", va,
                               leaf_address(&d->w), e & PTE_NX ? 'X' : '-', e & PTE_G ? 'G' : '-',
                               shift > 12 ? 'P' : '-', e & PTE_D ? 'D' : '-', e & PTE_A ? 'A' : '-',
                               e & PTE_PCD ? 'C' : '-', e & PTE_PWT ? 'T' : '-', e & PTE_U ? 'U' : '-',
                               e & PTE_W ? 'W' : '-');
        return;
    }
    if (d->run_flags == flags && d->run_end == va) {
        d->run_end = va + (UINT64_C(1) << shift);
        return;
    }
    run_flush(d);
    d->run_start = va;
    d->run_end = va + (UINT64_C(1) << shift);
    d->run_flags = flags;
}

static void dump_level(struct dump *d, unsigned level, uint64_t table, uint64_t va, int flags)
{
    unsigned index_bits = d->w.entry_bytes == 8 ? 9 : 10, shift = 12 + index_bits * (level - 1);
    unsigned count = level == 3 && d->w.pae && !d->w.long_mode ? 4 : 1u << index_bits;

    for (unsigned n = 0; n < count && d->out->len < (8u << 20); n++) {
        uint64_t e = entry_read(&d->w, table + n * d->w.entry_bytes), at = va | (uint64_t)n << shift;
        int f = flags;

        if (!(e & PTE_P))
            continue;
        if (level == d->w.levels && d->w.long_mode && n >= count / 2)
            at |= d->w.levels == 5 ? UINT64_C(0xfe00000000000000) : UINT64_C(0xffff000000000000);
        if (!(level == 3 && d->w.pae && !d->w.long_mode))
            f &= (int)(e & (PTE_U | PTE_W));
        if (level == 1 || is_large(&d->w, e, level))
            dump_page(d, at, e, shift, f);
        else
            dump_level(d, level - 1, e & (d->w.entry_bytes == 4 ? 0xfffff000 : d->w.c->phys_mask & ~UINT64_C(0xfff)), at, f);
    }
}

char *x86_mmu_dump(struct cpu *cpu, bool tlb)
{
    struct x86_cpu *c = x86(cpu);
    struct dump d = { .w = { .c = c, .vm = cpu->vcpu ? cpu->vcpu->vm : NULL }, .tlb = tlb, .run_flags = -1 };
    unsigned token;

    if (!(c->cr0 & CR0_PG) || !d.w.vm)
        return g_strdup("PG disabled\n");
    d.out = g_string_new(NULL);
    d.w.long_mode = x86_long_mode(c);
    d.w.pae = c->cr4 & CR4_PAE;
    d.w.entry_bytes = d.w.pae ? 8 : 4;
    d.w.levels = d.w.long_mode ? (c->cr4 & CR4_LA57 ? 5 : 4) : d.w.pae ? 3 : 2;
    token = mem_read_begin();
    dump_level(&d, d.w.levels, d.w.long_mode ? c->cr3 & 0x000ffffffffff000 : d.w.pae ? c->cr3 & 0xffffffe0 :
               c->cr3 & 0xfffff000, 0, PTE_U | PTE_W);
    mem_read_end(token);
    run_flush(&d);
    return g_string_free(d.out, FALSE);
}
