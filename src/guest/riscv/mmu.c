/* Address translation of the RISC-V guests: Sv32, Sv39, Sv48, Sv57 with Svnapot, Svpbmt, Svade and Svadu, and physical
 * memory protection behind it. Privileged ISA Manual 20240411, 12.3 to 12.6. Entries are read straight from guest RAM;
 * hardware updates of A and D are a compare and swap, and the walk starts again if somebody came between. */
#include <glib.h>
#include <string.h>
#include "rhea/base/log.h"
#include "system.h"

enum { PTE_V = 1, PTE_R = 2, PTE_W = 4, PTE_X = 8, PTE_U = 16, PTE_G = 32, PTE_A = 64, PTE_D = 128, PTE_PPN_SHIFT = 10 };
#define PTE_PBMT (UINT64_C(3) << 61)
#define PTE_N (UINT64_C(1) << 63)
#define PTE_RESERVED (UINT64_C(0x7f) << 54)
enum { NAPOT_BITS = 16 };               /* 64 KiB, the only size there is */

struct scheme { uint8_t levels, index_bits, entry_bytes, va_bits; };
static const struct scheme sv32 = { 2, 10, 4, 32 }, sv39 = { 3, 9, 8, 39 }, sv48 = { 4, 9, 8, 48 }, sv57 = { 5, 9, 8, 57 };

struct walk {
    struct riscv_cpu *c;
    struct vm *vm;
    const struct scheme *sv;
    uint64_t va;
    enum mmu_access access;
    uint64_t pte, pte_addr;             /* the leaf */
    unsigned bits;                      /* log2 of what it maps */
    bool global;
};
enum walk_result { WALK_OK, WALK_PAGE, WALK_ACCESS, WALK_AGAIN };

static const struct scheme *scheme_of(const struct riscv_cpu *c)
{
    switch (satp_mode(c)) {
    case SATP_SV32: return &sv32;
    case SATP_SV39: return &sv39;
    case SATP_SV48: return &sv48;
    case SATP_SV57: return &sv57;
    default: return NULL;
    }
}

static uint64_t root_of(const struct riscv_cpu *c)
{
    return c->xlen == 32 ? (c->satp & 0x3fffff) << 12 : (c->satp & ((UINT64_C(1) << 44) - 1)) << 12;
}

/* ---- entries */

static void *entry_host(struct walk *w, uint64_t addr, struct ram_block **rb, uint64_t *offset)
{
    const struct mem_range *r = address_space_lookup(&w->vm->memory, addr);

    if (!r || r->mr->kind != MEMK_RAM || addr + w->sv->entry_bytes - 1 > r->end)
        return NULL;
    *rb = r->mr->ram;
    *offset = r->mr->ram_offset + r->offset + (addr - r->start);
    return (*rb)->host + *offset;
}

static bool entry_read(struct walk *w, uint64_t addr, uint64_t *out)
{
    enum mem_result res = MEM_OK;
    struct ram_block *rb;
    uint64_t offset;
    void *p = entry_host(w, addr, &rb, &offset);

    if (p)
        *out = w->sv->entry_bytes == 8 ? GUINT64_FROM_LE(__atomic_load_n((uint64_t *)p, __ATOMIC_RELAXED))
                                       : GUINT32_FROM_LE(__atomic_load_n((uint32_t *)p, __ATOMIC_RELAXED));
    else
        *out = as_load(&w->vm->memory, addr, w->sv->entry_bytes, MEM_ATTRS_NONE, &res);
    return res == MEM_OK;
}

static enum walk_result entry_set(struct walk *w, uint64_t bits)
{
    struct ram_block *rb;
    uint64_t offset, old = w->pte;
    void *p = entry_host(w, w->pte_addr, &rb, &offset);
    bool ok;

    if (!p || !(riscv_pmp_allows(w->c, w->pte_addr, w->sv->entry_bytes, PRV_S) & PMP_W))
        return WALK_ACCESS;             /* not memory that can be updated atomically */
    if (w->sv->entry_bytes == 8) {
        uint64_t expected = GUINT64_TO_LE(old);

        ok = __atomic_compare_exchange_n((uint64_t *)p, &expected, GUINT64_TO_LE(old | bits), false, __ATOMIC_SEQ_CST,
                                         __ATOMIC_RELAXED);
    } else {
        uint32_t expected = GUINT32_TO_LE((uint32_t)old);

        ok = __atomic_compare_exchange_n((uint32_t *)p, &expected, GUINT32_TO_LE((uint32_t)(old | bits)), false,
                                         __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    }
    if (!ok)
        return WALK_AGAIN;
    ram_written(w->vm, rb, offset, w->sv->entry_bytes);
    w->pte |= bits;
    return WALK_OK;
}

/* ---- the walk: 12.3.2 */

bool riscv_adue(const struct riscv_cpu *c)
{
    return RISCV_HAS(&c->features, Svadu) && (c->menvcfg & MENVCFG_ADUE);
}

static bool attributes_legal(const struct walk *w, uint64_t pte, bool leaf)
{
    if (w->sv->entry_bytes == 4)
        return true;
    if (pte & PTE_RESERVED || (!leaf && pte & (PTE_N | PTE_PBMT)))
        return false;
    if (pte & PTE_PBMT && (!RISCV_HAS(&w->c->features, Svpbmt) || !(w->c->menvcfg & MENVCFG_PBMTE) ||
                           (pte & PTE_PBMT) == PTE_PBMT))
        return false;
    return !(pte & PTE_N) || RISCV_HAS(&w->c->features, Svnapot);
}

static uint64_t ppn_of(const struct walk *w, uint64_t pte)
{
    return w->sv->entry_bytes == 4 ? pte >> PTE_PPN_SHIFT : pte >> PTE_PPN_SHIFT & ((UINT64_C(1) << 44) - 1);
}

static enum walk_result leaf_found(struct walk *w, unsigned level)
{
    uint64_t ppn = ppn_of(w, w->pte);

    w->bits = 12 + w->sv->index_bits * level;
    if (ppn & ((UINT64_C(1) << w->sv->index_bits * level) - 1))
        return WALK_PAGE;               /* misaligned superpage */
    if (w->sv->entry_bytes == 8 && w->pte & PTE_N) {
        if (level || (ppn & 15) != 8)
            return WALK_PAGE;
        w->bits = NAPOT_BITS;
    }
    return WALK_OK;
}

static enum walk_result walk_tables(struct walk *w)
{
    uint64_t table = root_of(w->c);

    w->global = false;
    for (unsigned level = w->sv->levels; level-- > 0;) {
        uint64_t index = w->va >> (12 + w->sv->index_bits * level) & ((UINT64_C(1) << w->sv->index_bits) - 1);
        bool leaf;

        w->pte_addr = table + index * w->sv->entry_bytes;
        if (!(riscv_pmp_allows(w->c, w->pte_addr, w->sv->entry_bytes, PRV_S) & PMP_R) || !entry_read(w, w->pte_addr, &w->pte))
            return WALK_ACCESS;
        leaf = w->pte & (PTE_R | PTE_X);
        if (!(w->pte & PTE_V) || (w->pte & (PTE_R | PTE_W)) == PTE_W || !attributes_legal(w, w->pte, leaf))
            return WALK_PAGE;
        w->global |= (w->pte & PTE_G) != 0;
        if (leaf)
            return leaf_found(w, level);
        if (w->pte & (PTE_A | PTE_D | PTE_U))
            return WALK_PAGE;
        table = ppn_of(w, w->pte) << 12;
    }
    return WALK_PAGE;
}

/* ---- permissions */

struct index_rules { uint8_t priv; bool paged, sum, mxr; };
static const struct index_rules rules[MMU_COUNT] = {
    [MMU_BARE_M] = { PRV_M, false, false, false }, [MMU_BARE_S] = { PRV_S, false, false, false },
    [MMU_BARE_U] = { PRV_U, false, false, false }, [MMU_S] = { PRV_S, true, false, false },
    [MMU_S_SUM] = { PRV_S, true, true, false },    [MMU_S_MXR] = { PRV_S, true, false, true },
    [MMU_S_SUM_MXR] = { PRV_S, true, true, true }, [MMU_U] = { PRV_U, true, false, false },
    [MMU_U_MXR] = { PRV_U, true, false, true },
};

static void page_permissions(const struct walk *w, const struct index_rules *r, struct mmu_result *out)
{
    uint64_t e = w->pte;
    bool user = e & PTE_U, data = r->priv == PRV_U ? user : !user || r->sum;

    out->readable = data && (e & PTE_R || (r->mxr && e & PTE_X));
    out->writable = data && (e & PTE_W);
    out->executable = (e & PTE_X) && (r->priv == PRV_U) == user;
}

static bool allowed(const struct mmu_result *res, enum mmu_access access)
{
    return access == ACCESS_READ ? res->readable : access == ACCESS_WRITE ? res->writable : res->executable;
}

unsigned riscv_mmu_priv(unsigned mmu) { return rules[mmu < MMU_COUNT ? mmu : MMU_BARE_U].priv; }

static void pmp_permissions(const struct riscv_cpu *c, unsigned priv, struct mmu_result *out)
{
    unsigned p = riscv_pmp_page(c, out->phys, priv, &out->partial);

    out->readable &= (p & PMP_R) != 0;
    out->writable &= (p & PMP_W) != 0;
    out->executable &= (p & PMP_X) != 0;
}

/* The byte at least; what the access is wider, riscv_access_allowed() sees. */
static bool part_allowed(const struct riscv_cpu *c, unsigned priv, enum mmu_access access, uint64_t phys)
{
    static const uint8_t need[] = { PMP_R, PMP_W, PMP_X };

    return riscv_pmp_allows(c, phys, 1, priv) & need[access];
}

/* Hardware keeps A and D, or (Svade) their absence is a page fault. */
static enum walk_result accessed_dirty(struct walk *w, bool probe)
{
    uint64_t need = PTE_A | (w->access == ACCESS_WRITE ? PTE_D : 0);

    if ((w->pte & need) == need)
        return WALK_OK;
    if (!riscv_adue(w->c))
        return WALK_PAGE;
    return probe ? WALK_OK : entry_set(w, need);
}

static enum walk_result translate_paged(struct walk *w, const struct index_rules *r, bool probe, struct mmu_result *out)
{
    enum walk_result res;

    do {
        res = walk_tables(w);
        if (res != WALK_OK)
            return res;
        page_permissions(w, r, out);
        if (!allowed(out, w->access))
            return WALK_PAGE;
        res = accessed_dirty(w, probe);
    } while (res == WALK_AGAIN);
    if (res != WALK_OK)
        return res;
    if (!(w->pte & PTE_D))
        out->writable = false;          /* until a store sets D, or faults for want of it */
    out->page_bits = (uint8_t)w->bits;
    out->phys = (ppn_of(w, w->pte) << 12 & ~((UINT64_C(1) << w->bits) - 1)) | (w->va & ((UINT64_C(1) << w->bits) - 1));
    out->global = w->global;
    out->uncached = w->sv->entry_bytes == 8 && w->pte & PTE_PBMT;
    return WALK_OK;
}

static bool fault(struct walk *w, enum walk_result why, bool probe)
{
    static const uint8_t page[] = { CAUSE_LOAD_PAGE, CAUSE_STORE_PAGE, CAUSE_FETCH_PAGE };
    static const uint8_t access[] = { CAUSE_LOAD_ACCESS, CAUSE_STORE_ACCESS, CAUSE_FETCH_ACCESS };

    if (probe)
        return false;
    w->c->cpu.exception = why == WALK_PAGE ? page[w->access] : access[w->access];
    w->c->fault_value = w->va;
    if (log_enabled(LOG_MMU))
        log_printf("riscv: fault %d at %#" G_GINT64_MODIFIER "x pc %#" G_GINT64_MODIFIER "x\n", w->c->cpu.exception, w->va,
                   w->c->cpu.pc);
    return false;
}

static bool canonical(const struct scheme *sv, uint64_t va)
{
    unsigned unused = 64 - sv->va_bits;

    return sv->va_bits == 32 || (uint64_t)((int64_t)(va << unused) >> unused) == va;
}

bool riscv_translate(struct cpu *cpu, uint64_t va, enum mmu_access access, unsigned mmu, bool probe, struct mmu_result *out)
{
    struct riscv_cpu *c = riscv(cpu);
    const struct index_rules *r = &rules[mmu < MMU_COUNT ? mmu : MMU_BARE_U];
    struct walk w = { .c = c, .vm = cpu->vcpu ? cpu->vcpu->vm : NULL, .va = va, .access = access, .sv = scheme_of(c) };
    enum walk_result res;

    /* The second half of an access at the top of a 32-bit address space wraps. */
    if (c->xlen == 32)
        w.va = va = (uint32_t)va;
    *out = (struct mmu_result){ .phys = va, .page_bits = 12, .readable = true, .writable = true, .executable = true };
    if (r->paged && w.sv) {
        unsigned token;

        if (!canonical(w.sv, va))
            return fault(&w, WALK_PAGE, probe);
        token = mem_read_begin();
        res = translate_paged(&w, r, probe, out);
        mem_read_end(token);
        if (res != WALK_OK)
            return fault(&w, res, probe);
    }
    pmp_permissions(c, r->priv, out);
    if (!allowed(out, access) || (out->partial && !part_allowed(c, r->priv, access, out->phys)))
        return fault(&w, WALK_ACCESS, probe);
    return true;
}

bool riscv_fetch_word(struct riscv_cpu *c, uint64_t va, uint32_t *out)
{
    uint8_t bytes[4];

    for (unsigned n = 0; n < 4; n += 2) {
        struct mmu_result at;

        if (!riscv_translate(&c->cpu, va + n, ACCESS_EXEC, riscv_mmu_index(&c->cpu, true), true, &at) ||
            as_read(&riscv_sys(c)->vm->memory, at.phys, bytes + n, 2, MEM_ATTRS_NONE) != MEM_OK)
            return false;
    }
    *out = bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
    return true;
}

/* ---- satp, SFENCE.VMA */

enum { ALL_PAGED = 1 << MMU_S | 1 << MMU_S_SUM | 1 << MMU_S_MXR | 1 << MMU_S_SUM_MXR | 1 << MMU_U | 1 << MMU_U_MXR };

static bool mode_supported(const struct riscv_cpu *c, unsigned mode)
{
    const struct riscv_features *f = &c->features;

    if (mode == SATP_BARE)
        return true;
    if (c->xlen == 32)
        return RISCV_HAS(f, Sv32);
    return (mode == SATP_SV39 && RISCV_HAS(f, Sv39)) || (mode == SATP_SV48 && RISCV_HAS(f, Sv48)) ||
           (mode == SATP_SV57 && RISCV_HAS(f, Sv57));
}

static uint64_t asid_of(const struct riscv_cpu *c, uint64_t satp)
{
    return c->xlen == 32 ? satp >> 22 & 0x1ff : satp >> 44 & 0xffff;
}

/* A write with a mode that is not there has no effect: 12.1.11. Each ASID has a soft TLB of its own;
 * another table under the same one drops all but global translations, which is more than is asked. */
void riscv_satp_set(struct riscv_cpu *c, uint64_t v)
{
    uint64_t old = c->satp;
    unsigned mode = c->xlen == 32 ? (unsigned)(v >> 31 & 1) : (unsigned)(v >> 60);

    if (!mode_supported(c, mode))
        return;
    c->satp = c->xlen == 32 ? (uint32_t)v : v;
    if (mode == SATP_BARE || c->satp == old)
        return;
    cpu_tlb_context(&c->cpu, ALL_PAGED, asid_of(c, c->satp));
    if (c->xlen == 64 && mode != old >> 60)
        cpu_tlb_flush(&c->cpu, ALL_PAGED);
    else if (asid_of(c, c->satp) == asid_of(c, old))
        cpu_tlb_flush_local(&c->cpu, ALL_PAGED);
}

/* rs1 = x0: all addresses; rs2 = x0: all address spaces, global translations too: 12.2.1. SINVAL.VMA is the same;
 * SFENCE.W.INVAL and SFENCE.INVAL.IR (one major number, open under TVM too) have nothing left to order: 12.10. */
void riscv_helper_sfence_vma(struct cpu *cpu, uint32_t insn, uint64_t va, uint64_t asid)
{
    struct riscv_cpu *c = riscv(cpu);
    unsigned rs1 = insn >> 15 & 31, rs2 = insn >> 20 & 31;
    bool order_alone = insn >> 25 == 0x0c;

    if (c->priv == PRV_U || !RISCV_HAS(&c->features, S) || (c->priv == PRV_S && (c->mstatus & MSTATUS_TVM) && !order_alone))
        riscv_raise_illegal(c, insn);
    if (order_alone)
        return;
    if (rs1)
        cpu_tlb_flush_page(cpu, c->xlen == 32 ? (uint32_t)va : va, ALL_PAGED);
    else if (rs2)
        cpu_tlb_flush_context(cpu, ALL_PAGED, asid & (c->xlen == 32 ? 0x1ff : 0xffff));
    else
        cpu_tlb_flush(cpu, ALL_PAGED);
}

/* ---- info mem, info tlb */

enum { DUMP_ENTRIES = 1 << 22 };        /* a guest's looping tables end here */

struct dump {
    struct walk w;
    GString *out;
    unsigned budget;
    uint64_t start, phys, size, flags;  /* of the run of like mappings; size 0: none */
};

static void run_flush(struct dump *d)
{
    static const char letters[] = "rwxugad";

    if (!d->size)
        return;
    g_string_append_printf(d->out, d->w.c->xlen == 32 ? "%08" G_GINT64_MODIFIER "x %016" G_GINT64_MODIFIER "x %08" G_GINT64_MODIFIER "x "
                           : "%016" G_GINT64_MODIFIER "x %016" G_GINT64_MODIFIER "x %016" G_GINT64_MODIFIER "x ",
                           d->start, d->phys, d->size);
    for (unsigned n = 0; letters[n]; n++)
        g_string_append_c(d->out, d->flags >> (n + 1) & 1 ? letters[n] : '-');
    g_string_append_c(d->out, '\n');
    d->size = 0;
}

static void dump_leaf(struct dump *d, uint64_t va, unsigned bits)
{
    uint64_t phys = ppn_of(&d->w, d->w.pte) << 12, flags = d->w.pte & 0xfe;

    if (d->w.sv->entry_bytes == 8 && d->w.pte & PTE_N)     /* one of the entries of a larger page */
        phys = (phys & ~((UINT64_C(1) << NAPOT_BITS) - 1)) | (va & ((UINT64_C(1) << NAPOT_BITS) - 1));
    if (d->size && (d->start + d->size != va || d->phys + d->size != phys || d->flags != flags))
        run_flush(d);
    if (!d->size) {
        d->start = va;
        d->phys = phys;
        d->flags = flags;
    }
    d->size += UINT64_C(1) << bits;
}

static void dump_level(struct dump *d, unsigned level, uint64_t table, uint64_t va)
{
    const struct scheme *sv = d->w.sv;
    unsigned bits = 12 + sv->index_bits * level;

    for (unsigned n = 0; n < 1u << sv->index_bits && d->budget && d->out->len < (8u << 20); n++) {
        uint64_t at = va | (uint64_t)n << bits, pte;

        d->budget--;
        if (!entry_read(&d->w, table + n * sv->entry_bytes, &pte) || !(pte & PTE_V))
            continue;
        if (sv->va_bits != 32)
            at = (uint64_t)((int64_t)(at << (64 - sv->va_bits)) >> (64 - sv->va_bits));
        d->w.pte = pte;
        if (pte & (PTE_R | PTE_X))
            dump_leaf(d, at, bits);
        else if (level)
            dump_level(d, level - 1, ppn_of(&d->w, pte) << 12, at);
    }
}

char *riscv_mmu_dump(struct cpu *cpu, bool tlb)
{
    struct riscv_cpu *c = riscv(cpu);
    struct dump d = { .w = { .c = c, .vm = cpu->vcpu ? cpu->vcpu->vm : NULL, .sv = scheme_of(c) }, .budget = DUMP_ENTRIES };
    unsigned token;

    if (!d.w.sv || !d.w.vm)
        return g_strdup("No translation or protection\n");
    d.out = g_string_new(c->xlen == 32 ? "vaddr    paddr            size     attr\n-------- ---------------- -------- -------\n"
                         : "vaddr            paddr            size             attr\n"
                           "---------------- ---------------- ---------------- -------\n");
    token = mem_read_begin();
    dump_level(&d, d.w.sv->levels - 1, root_of(c), 0);
    mem_read_end(token);
    run_flush(&d);
    return g_string_free(d.out, FALSE);
}

/* ---- cache blocks (Zicbom, Zicboz): caches are coherent here, so that only the zeros and the faults are left: what
 * neither a load nor a store may reach faults as a store. */
void riscv_helper_cbo(struct cpu *cpu, uint32_t insn, uint64_t va)
{
    enum { CBO_INVAL, CBO_CLEAN, CBO_FLUSH, CBO_ZERO = 4 };
    static const uint8_t zeros[64];
    struct riscv_cpu *c = riscv(cpu);
    unsigned op = insn >> 20, bytes = riscv_identity(c)->cbo_bytes, mmu = riscv_mmu_index(cpu, false);
    uint64_t mode = riscv_mode_bits(cpu);
    struct mmu_result res;
    bool may = op == CBO_ZERO ? mode & MODE_CBZE : op == CBO_INVAL ? mode >> MODE_CBIE_SHIFT & 3 : mode & MODE_CBCFE;

    if (!may)
        riscv_raise_illegal(c, insn);
    va = (c->xlen == 32 ? (uint32_t)va : va) & ~(uint64_t)(bytes - 1);
    if (op == CBO_ZERO)
        cpu_store_bytes(cpu, va, zeros, bytes, mmu);
    else if (!riscv_translate(cpu, va, ACCESS_READ, mmu, true, &res))
        cpu_probe(cpu, va, 1, true, mmu);
}
