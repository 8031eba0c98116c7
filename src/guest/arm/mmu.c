/* Address translation by long descriptors: VMSAv8-64 (DDI 0487 D8) and AArch32's LPAE (G5.5); stage 2 and the entry point
 * are here too, short descriptors in mmu32.c.
 * Entries are read straight from guest RAM; access flag and dirty state are set by compare-and-swap, and the walk starts
 * again if somebody came between. */
#include <glib.h>
#include "rhea/base/log.h"
#include "rhea/vm/vm.h"
#include "system.h"

/* ---- the translation regimes behind the MMU indexes */

static const struct { uint8_t el; bool user, pan; } regimes[ARM_MMU_COUNT] = {
    [ARM_MMU_EL0] = { 1, true, false }, [ARM_MMU_EL1] = { 1, false, false }, [ARM_MMU_EL1_PAN] = { 1, false, true },
    [ARM_MMU_EL2] = { 2, false, false }, [ARM_MMU_EL20_0] = { 2, true, false }, [ARM_MMU_EL20_2] = { 2, false, false },
    [ARM_MMU_EL20_2_PAN] = { 2, false, true }, [ARM_MMU_EL3] = { 3, false, false }, [ARM_MMU_EL3_PAN] = { 3, false, true },
    [ARM_MMU_EL30_0] = { 3, true, false },
};
unsigned arm_mmu_regime(const struct arm_cpu *c, unsigned mmu) { return mmu < ARM_MMU_COUNT ? regimes[mmu].el : 1; }
bool arm_mmu_user(unsigned mmu) { return mmu < ARM_MMU_COUNT && regimes[mmu].user; }
bool arm_mmu_pan(unsigned mmu) { return mmu < ARM_MMU_COUNT && regimes[mmu].pan; }

static unsigned pa_bits_of(unsigned range)
{
    static const uint8_t bits_of[] = { 32, 36, 40, 42, 44, 48, 52, 56 };

    return bits_of[range & 7];
}

unsigned arm_pa_bits(const struct arm_cpu *c)
{
    if (!has(c, AF_AArch64))
        return has(c, AF_LPAE) ? 40 : 32;
    return pa_bits_of(arm_id(c, ARM_SYSREG(3, 0, 0, 7, 0)) & 15);
}

/* ---- descriptors in memory */

static void *desc_host(struct vm *vm, uint64_t addr, unsigned bytes, struct ram_block **rb, uint64_t *offset)
{
    const struct mem_range *r = address_space_lookup(&vm->memory, addr);

    if (!r || r->mr->kind != MEMK_RAM || addr + bytes - 1 > r->end)
        return NULL;
    *rb = r->mr->ram;
    *offset = r->mr->ram_offset + r->offset + (addr - r->start);
    return (*rb)->host + *offset;
}

static uint64_t swap_desc(uint64_t v, unsigned bytes, bool be)
{
    if (bytes == 8)
        return be ? GUINT64_FROM_BE(v) : GUINT64_FROM_LE(v);
    return be ? GUINT32_FROM_BE((uint32_t)v) : GUINT32_FROM_LE((uint32_t)v);
}

bool arm_desc_read(struct arm_cpu *c, uint64_t phys, unsigned bytes, bool be, uint64_t *value)
{
    unsigned token = mem_read_begin();
    enum mem_result res = MEM_OK;
    struct ram_block *rb;
    uint64_t offset, v;
    void *p = desc_host(c->sys.vm, phys, bytes, &rb, &offset);

    if (p && bytes == 8)
        v = __atomic_load_n((uint64_t *)p, __ATOMIC_RELAXED);
    else if (p)
        v = __atomic_load_n((uint32_t *)p, __ATOMIC_RELAXED);
    else
        v = GUINT64_TO_LE(as_load(&c->sys.vm->memory, phys, bytes, MEM_ATTRS_NONE, &res));
    mem_read_end(token);
    *value = swap_desc(v, bytes, be);
    return res == MEM_OK;
}

bool arm_desc_cas(struct arm_cpu *c, uint64_t phys, unsigned bytes, bool be, uint64_t old, uint64_t value)
{
    unsigned token = mem_read_begin();
    struct ram_block *rb = NULL;
    uint64_t offset, expected = swap_desc(old, bytes, be), wanted = swap_desc(value, bytes, be);
    void *p = desc_host(c->sys.vm, phys, bytes, &rb, &offset);
    bool ok = true;             /* in ROM or a device: it stays as it is */

    if (p && bytes == 8) {
        ok = __atomic_compare_exchange_n((uint64_t *)p, &expected, wanted, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    } else if (p) {
        uint32_t e = (uint32_t)expected;

        ok = __atomic_compare_exchange_n((uint32_t *)p, &e, (uint32_t)wanted, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    }
    mem_read_end(token);
    if (ok && p)
        ram_written(c->sys.vm, rb, offset, bytes);
    return ok;
}

/* ---- parameters of a walk: D8.2 */

struct params {
    bool aa64, two_ranges, upper;       /* upper: TTBR1's */
    bool tbi, epd, hpd, ha, hd, ds, be, e0pd, stage2;
    unsigned tsz, granule /* log2 */, ia_bits, oa_bits;
    uint64_t ttbr;
    int level;
    uint64_t base;
};

static bool fault(struct arm_walk *w, unsigned fsc, int level)
{
    static const uint8_t minus_one[16] = { [FSC_ADDRESS_SIZE] = FSC_ADDRESS_SIZE_1, [FSC_TRANSLATION] = FSC_TRANSLATION_1 };

    if (level < 0)
        w->fault.fsc = fsc == FSC_EXTERNAL_WALK ? FSC_EXTERNAL_WALK_1 : minus_one[fsc & 15];
    else
        w->fault.fsc = (uint8_t)(fsc + (unsigned)level);
    return false;
}

static unsigned granule0(unsigned tg) { return tg == 0 ? 12 : tg == 1 ? 16 : tg == 2 ? 14 : 12; }
static unsigned granule1(unsigned tg) { return tg == 1 ? 14 : tg == 3 ? 16 : 12; }

static struct params params64(const struct arm_walk *w, unsigned el)
{
    const struct arm_system *s = &w->c->sys;
    uint64_t tcr = s->tcr[el];
    struct params p = { .aa64 = true, .two_ranges = el == 1 || (el == 2 && s->hcr & HCR_E2H), .be = s->sctlr[el] & SCTLR_EE };
    unsigned tbid;

    if (p.two_ranges) {
        p.upper = w->va >> 55 & 1;
        p.tsz = (unsigned)bits(tcr, p.upper ? 21 : 5, p.upper ? 16 : 0);
        p.granule = p.upper ? granule1(bits(tcr, 31, 30)) : granule0(bits(tcr, 15, 14));
        p.epd = tcr >> (p.upper ? 23 : 7) & 1;
        p.tbi = tcr >> (p.upper ? 38 : 37) & 1;
        tbid = tcr >> (p.upper ? 52 : 51) & 1;
        p.hpd = tcr >> (p.upper ? 42 : 41) & 1;
        p.ha = tcr >> 39 & 1;
        p.hd = tcr >> 40 & 1;
        p.ds = tcr >> 59 & 1;
        p.e0pd = tcr >> (p.upper ? 56 : 55) & 1;
        p.oa_bits = pa_bits_of(bits(tcr, 34, 32));
    } else {
        p.tsz = (unsigned)bits(tcr, 5, 0);
        p.granule = granule0(bits(tcr, 15, 14));
        p.tbi = tcr >> 20 & 1;
        tbid = tcr >> 29 & 1;
        p.hpd = tcr >> 24 & 1;
        p.ha = tcr >> 21 & 1;
        p.hd = tcr >> 22 & 1;
        p.ds = tcr >> 32 & 1;
        p.oa_bits = pa_bits_of(bits(tcr, 18, 16));
    }
    if (tbid && has(w->c, AF_PAuth) && w->access == ACCESS_EXEC)
        p.tbi = false;
    p.hpd &= has(w->c, AF_HPDS);
    p.ha &= has(w->c, AF_HAFDBS);
    p.hd &= p.ha;
    p.ds &= has(w->c, AF_LPA2) && p.granule != 16;
    p.e0pd &= has(w->c, AF_E0PD);
    p.ttbr = p.upper ? s->ttbr1[el] : s->ttbr0[el];
    return p;
}

/* AArch32 LPAE: G5.5.3. */
static struct params params32(const struct arm_walk *w, unsigned el)
{
    const struct arm_system *s = &w->c->sys;
    uint64_t tcr = s->tcr[el];
    uint32_t va = (uint32_t)w->va;
    unsigned t0 = tcr & 7, t1 = tcr >> 16 & 7;
    struct params p = { .granule = 12, .oa_bits = 40, .two_ranges = el != 2, .be = s->sctlr[el] & SCTLR_EE };

    if (p.two_ranges) {
        bool below = !t0 || !(va >> (32 - t0)), above = t1 ? va >> (32 - t1) == (1u << t1) - 1 : !below;

        p.upper = above && !below;
        p.epd = (!below && !above) || tcr >> (p.upper ? 23 : 7) & 1;
        p.hpd = has(w->c, AF_HPDS) && tcr >> 6 & 1 && tcr >> (p.upper ? 42 : 41) & 1;
        p.tsz = p.upper ? t1 : t0;
    } else {
        p.epd = t0 && va >> (32 - t0);
        p.tsz = t0;
    }
    p.ttbr = p.upper ? s->ttbr1[el] : s->ttbr0[el];
    return p;
}

static bool size_ok(const struct arm_walk *w, const struct params *p)
{
    unsigned least = 16, most = has(w->c, AF_TTST) ? p->granule == 16 ? 47 : 48 : 39;

    if (!p->aa64)
        return true;
    if ((p->granule == 16 && has(w->c, AF_LVA)) || p->ds)
        least = 12;
    return p->tsz >= least && p->tsz <= most;
}

static bool granule_ok(const struct arm_cpu *c, unsigned granule)
{
    uint64_t r = arm_id(c, ARM_SYSREG(3, 0, 0, 7, 0));

    if (!has(c, AF_AArch64) || granule == 12)
        return bits(r, 31, 28) != 15 || !has(c, AF_AArch64);
    return granule == 16 ? bits(r, 27, 24) != 15 : bits(r, 23, 20) != 0;
}

/* The table's address from a TTBR. */
static uint64_t table_base(const struct params *p, unsigned stride)
{
    unsigned low = 3 + p->ia_bits - (unsigned)((3 - p->level) * (int)stride + (int)p->granule);
    uint64_t base;

    if (p->aa64 && (p->ds || (p->granule == 16 && p->oa_bits == 52))) {
        base = (p->ttbr & (BIT(48) - 1) & ~UINT64_C(63)) | bits(p->ttbr, 5, 2) << 48;
        return low < 6 ? base : base & ~(BIT(low) - 1);
    }
    return p->ttbr & ((BIT(p->aa64 ? 48 : 40) - 1)) & ~(BIT(low) - 1);
}

static uint64_t next_address(const struct params *p, uint64_t desc, unsigned low)
{
    uint64_t mask = ~(BIT(low) - 1);

    if (!p->aa64)
        return desc & (BIT(40) - 1) & mask;
    if (p->ds)
        return (desc & (BIT(50) - 1) & mask) | bits(desc, 9, 8) << 50;
    if (p->granule == 16 && p->oa_bits == 52)
        return (desc & (BIT(48) - 1) & mask) | bits(desc, 15, 12) << 48;
    return desc & (BIT(48) - 1) & mask;
}

static bool block_ok(const struct arm_cpu *c, const struct params *p, int level)
{
    if (level == 3)
        return false;
    if (level == 2)
        return true;
    if (p->granule == 12)
        return level == 1 || (level == 0 && p->ds);
    if (p->granule == 14)
        return level == 1 && p->ds;
    return level == 1 && has(c, AF_LPA);
}

/* ---- the tables, of either stage */

struct leaf { uint64_t desc, desc_addr, table_attrs; int level; unsigned size_bits; };

/* The physical address of a descriptor: stage 1's are subject to stage 2. */
static bool desc_phys(struct arm_walk *w, const struct params *p, uint64_t addr, uint64_t *phys)
{
    bool r, wr, x;
    unsigned unused;

    *phys = addr;
    if (p->stage2 || arm_mmu_regime(w->c, w->mmu) != 1 || !(arm_hcr(w->c) & HCR_VM))
        return true;
    return arm_stage2(w, addr, true, phys, &unused, &r, &wr, &x);
}

static bool walk_levels(struct arm_walk *w, const struct params *p, uint64_t address, struct leaf *leaf)
{
    unsigned stride = p->granule - 3;
    uint64_t table = p->base, attrs = 0;

    if (p->oa_bits < 52 && table >> p->oa_bits)
        return fault(w, FSC_ADDRESS_SIZE, p->level < 0 ? -1 : 0);
    for (int level = p->level;; level++) {
        unsigned shift = (unsigned)(3 - level) * stride + p->granule;
        uint64_t index = address >> shift, desc, phys, next;
        bool external = false;

        if (level > p->level)
            index &= BIT(stride) - 1;
        else
            index &= BIT(p->ia_bits - shift) - 1;
        if (!desc_phys(w, p, table | index << 3, &phys))
            return false;
        external = !arm_desc_read(w->c, phys, 8, p->be, &desc);
        if (external) {
            w->fault.external = true;
            return fault(w, FSC_EXTERNAL_WALK, level);
        }
        if (!(desc & 1) || (!(desc & 2) && !block_ok(w->c, p, level)))
            return fault(w, FSC_TRANSLATION, level);
        if (!(desc & 2) || level == 3) {
            *leaf = (struct leaf){ desc, phys, attrs, level, shift };
            next = next_address(p, desc, shift);
            if (p->oa_bits < 52 && next >> p->oa_bits)
                return fault(w, FSC_ADDRESS_SIZE, level);
            w->phys = next | (address & (BIT(shift) - 1));
            w->page_bits = shift;
            return true;
        }
        table = next_address(p, desc, p->granule);
        if (p->oa_bits < 52 && table >> p->oa_bits)
            return fault(w, FSC_ADDRESS_SIZE, level);
        if (!p->hpd)
            attrs |= desc & (UINT64_C(0x1f) << 59);
    }
}

/* ---- stage 1 */

enum { D_AF = 1 << 10, D_NG = 1 << 11 };

struct permissions { bool ur, uw, ux, pr, pw, px; };

static struct permissions permissions64(const struct arm_walk *w, const struct params *p, const struct leaf *l, unsigned el)
{
    uint64_t d = l->desc, t = l->table_attrs, sctlr = w->c->sys.sctlr[el];
    bool dbm = p->hd && d & BIT(51);
    bool ro = (d & BIT(7) && !dbm) || t & BIT(62), user = d & BIT(6) && !(t & BIT(61));
    bool uxn = (d | (t & BIT(60) ? BIT(54) : 0)) & BIT(54), pxn = (d | (t & BIT(59) ? BIT(53) : 0)) & BIT(53);
    struct permissions m;

    if (!p->two_ranges) {
        m = (struct permissions){ .pr = true, .pw = !ro, .px = !uxn };
        if (!p->aa64 && el == 2)
            m.pr = true;
    } else {
        m = (struct permissions){ .ur = user, .uw = user && !ro, .pr = true, .pw = !ro };
        if (p->aa64) {
            m.ux = !uxn;
            m.px = !pxn && !m.uw;
        } else {
            m.ux = !uxn && m.ur;
            m.px = !uxn && !pxn;
        }
    }
    if (sctlr & SCTLR_WXN) {
        m.ux &= !m.uw;
        m.px &= !m.pw;
    }
    if (!p->aa64 && sctlr & SCTLR_UWXN)
        m.px &= !m.uw;
    return m;
}

static void apply_permissions(struct arm_walk *w, const struct permissions *m, unsigned el)
{
    if (arm_mmu_user(w->mmu)) {
        w->r = m->ur;
        w->w = m->uw;
        w->x = m->ux;
        return;
    }
    w->r = m->pr;
    w->w = m->pw;
    w->x = m->px;
    if (arm_mmu_pan(w->mmu) && (m->ur || (has(w->c, AF_PAN3) && w->c->sys.sctlr[el] & SCTLR_EPAN && m->ux)))
        w->r = w->w = false;
}

static bool allowed(const struct arm_walk *w)
{
    return w->access == ACCESS_READ ? w->r : w->access == ACCESS_WRITE ? w->w : w->x;
}

/* Hardware's access flag and dirty state: D8.4.6. false: the descriptor changed meanwhile. */
static bool update_leaf(struct arm_walk *w, const struct params *p, const struct leaf *l, bool writable_clean)
{
    uint64_t d = l->desc;

    if (p->ha)
        d |= D_AF;
    if (writable_clean && w->access == ACCESS_WRITE && allowed(w))
        d = p->stage2 ? d | BIT(7) : d & ~BIT(7);
    return d == l->desc || w->probe || arm_desc_cas(w->c, l->desc_addr, 8, p->be, l->desc, d);
}

static bool range_ok(const struct arm_walk *w, const struct params *p)
{
    unsigned top = p->tbi ? 55 : 63;
    uint64_t high;

    if (!p->aa64)
        return true;
    high = w->va << (63 - top) >> (63 - top) >> p->ia_bits;
    return high == (p->upper ? (UINT64_MAX >> (63 - top)) >> p->ia_bits : 0);
}

static void memory_attributes(struct arm_walk *w, const struct leaf *l, unsigned el)
{
    w->attr = (uint8_t)(w->c->sys.mair[el] >> (8 * bits(l->desc, 4, 2)));
    w->sh = (uint8_t)bits(l->desc, 9, 8);
    w->guarded = l->desc & BIT(50);
    w->ns = l->desc & BIT(5);
}

static bool stage1_long(struct arm_walk *w, unsigned el)
{
    bool aa64 = arm_el_is_64(w->c, el);

    for (;;) {
        struct params p = aa64 ? params64(w, el) : params32(w, el);
        struct permissions m;
        struct leaf l;
        unsigned stride = p.granule - 3, pa = arm_pa_bits(w->c);
        bool clean;

        if (p.aa64 && !p.ds && !(p.granule == 16 && has(w->c, AF_LPA)) && p.oa_bits > 48)
            p.oa_bits = 48;
        if (p.oa_bits > pa)
            p.oa_bits = pa;
        p.ia_bits = (aa64 ? 64 : 32) - p.tsz;
        if (!granule_ok(w->c, p.granule) || !size_ok(w, &p) || !range_ok(w, &p) || p.epd || (p.e0pd && arm_mmu_user(w->mmu)))
            return fault(w, FSC_TRANSLATION, aa64 ? 0 : 1);
        p.level = 4 - (int)((p.ia_bits - p.granule + stride - 1) / stride);
        p.base = table_base(&p, stride);
        if (!walk_levels(w, &p, w->va & (BIT(p.ia_bits) - 1), &l))
            return false;
        if (!(l.desc & D_AF) && !p.ha)
            return fault(w, FSC_ACCESS_FLAG, l.level);
        m = permissions64(w, &p, &l, el);
        apply_permissions(w, &m, el);
        memory_attributes(w, &l, el);
        if (!allowed(w))
            return fault(w, FSC_PERMISSION, l.level);
        clean = p.hd && l.desc & BIT(51) && l.desc & BIT(7);
        w->dirty_later = clean && w->access != ACCESS_WRITE;
        w->global = !(p.two_ranges && l.desc & D_NG);
        if (update_leaf(w, &p, &l, clean))
            return true;
    }
}

/* ---- stage 2: D8.2.3, D8.4.2 */

static struct params params_stage2(const struct arm_walk *w)
{
    const struct arm_system *s = &w->c->sys;
    uint64_t v = s->vtcr;
    struct params p = { .aa64 = arm_el_is_64(w->c, 2), .stage2 = true, .be = s->sctlr[2] & SCTLR_EE, .ttbr = s->vttbr, .granule = 12 };

    if (!p.aa64) {
        int t = (int)(v & 7) - (int)(v & 8);            /* 4 bits, signed */

        p.ia_bits = (unsigned)(32 - t);
        p.oa_bits = 40;
        p.level = v >> 6 & 3 ? 1 : 2;
        return p;
    }
    p.granule = granule0(bits(v, 15, 14));
    p.tsz = (unsigned)bits(v, 5, 0);
    p.ia_bits = 64 - p.tsz;
    p.oa_bits = pa_bits_of(bits(v, 18, 16));
    p.ds = has(w->c, AF_LPA2) && v >> 32 & 1 && p.granule != 16;
    p.ha = has(w->c, AF_HAFDBS) && v >> 21 & 1;
    p.hd = p.ha && v >> 22 & 1;
    if (p.granule == 12)
        p.level = bits(v, 7, 6) == 3 ? 3 : v >> 33 & 1 && p.ds ? -1 : 2 - (int)bits(v, 7, 6);
    else
        p.level = 3 - (int)bits(v, 7, 6);
    return p;
}

/* The start level must fit the size: up to 16 tables side by side. */
static bool stage2_consistent(const struct arm_walk *w, const struct params *p)
{
    unsigned stride = p->granule - 3;
    int resolved = (3 - p->level) * (int)stride + (int)p->granule;      /* bits below the start level's index */

    if (!granule_ok(w->c, p->granule) || (p->aa64 && !size_ok(w, p)) || p->ia_bits > 52)
        return false;
    return (int)p->ia_bits > resolved && (int)p->ia_bits <= resolved + (int)stride + 4;
}

static bool stage2_fault(struct arm_walk *w, uint64_t ipa, bool for_walk)
{
    w->fault.stage2 = true;
    w->fault.s1ptw = for_walk;
    w->fault.ipa = ipa;
    return false;
}

/* D8.4.2.3: XN[1:0] tells EL0 from EL1 with FEAT_XNX. */
static bool stage2_exec(const struct arm_walk *w, uint64_t d)
{
    bool user = arm_mmu_user(w->mmu);

    if (!has(w->c, AF_XNX))
        return !(d & BIT(54));
    switch (bits(d, 54, 53)) {
    case 0:  return true;
    case 1:  return user;
    case 2:  return false;
    default: return !user;
    }
}

bool arm_stage2(struct arm_walk *w, uint64_t ipa, bool for_walk, uint64_t *phys, unsigned *page_bits, bool *r, bool *wr, bool *x)
{
    for (;;) {
        struct params p = params_stage2(w);
        struct arm_walk inner = *w;
        struct leaf l;
        unsigned pa = arm_pa_bits(w->c);
        bool clean;

        inner.fault = (struct arm_fault){ 0 };
        if (p.oa_bits > pa)
            p.oa_bits = pa;
        if (!stage2_consistent(w, &p) || (p.ia_bits < 64 && ipa >> p.ia_bits)) {
            fault(w, FSC_TRANSLATION, 0);
            return stage2_fault(w, ipa, for_walk);
        }
        p.base = table_base(&p, p.granule - 3);
        if (!walk_levels(&inner, &p, ipa, &l)) {
            w->fault = inner.fault;
            return stage2_fault(w, ipa, for_walk);
        }
        if (!(l.desc & D_AF) && !p.ha) {
            fault(w, FSC_ACCESS_FLAG, l.level);
            return stage2_fault(w, ipa, for_walk);
        }
        *r = l.desc & BIT(6);
        *wr = l.desc & BIT(7) || (p.hd && l.desc & BIT(51));
        /* AArch64's stage 2 can let execute what it does not let read; AArch32's cannot (G5.6.3). */
        *x = stage2_exec(w, l.desc) && (p.aa64 || *r);
        inner.r = *r;
        inner.w = *wr;
        inner.x = *x;
        if (for_walk) {
            inner.access = ACCESS_READ;
            /* HCR_EL2.PTW: tables in Device memory are not to be walked. */
            if (arm_hcr(w->c) & HCR_PTW && !bits(l.desc, 5, 4))
                inner.r = false;
        }
        if (!allowed(&inner)) {
            fault(w, FSC_PERMISSION, l.level);
            return stage2_fault(w, ipa, for_walk);
        }
        clean = p.hd && l.desc & BIT(51) && !(l.desc & BIT(7));
        if (clean && inner.access != ACCESS_WRITE)
            *wr = false;
        w->s2attr = (uint8_t)bits(l.desc, 5, 2);
        if (!update_leaf(&inner, &p, &l, clean))
            continue;
        *phys = inner.phys;
        *page_bits = inner.page_bits;
        return true;
    }
}

/* ---- both */

static bool stage1_off(const struct arm_walk *w, unsigned el)
{
    if (el == 1 && arm_hcr(w->c) & (HCR_DC | HCR_TGE))
        return true;
    return !(w->c->sys.sctlr[el] & SCTLR_M);
}

/* D8.2.10: the address itself, as far as the machine's are wide. */
static bool flat(struct arm_walk *w, unsigned el)
{
    uint64_t va = w->va;

    if (arm_el_is_64(w->c, el)) {
        struct params p = params64(w, el);
        unsigned top = p.tbi ? 55 : 63;

        if (p.tbi)
            va &= UINT64_MAX >> 8;
        if (va << (63 - top) >> (63 - top) >> arm_pa_bits(w->c))
            return fault(w, FSC_ADDRESS_SIZE, 0);
    } else {
        va = (uint32_t)va;
    }
    w->phys = va;
    w->page_bits = CPU_PAGE_BITS;
    w->r = w->w = w->x = w->global = true;
    w->attr = arm_hcr(w->c) & HCR_DC && el == 1 ? 0xff : w->access == ACCESS_EXEC && w->c->sys.sctlr[el] & SCTLR_I ? 0xaa : 0;
    w->sh = w->attr == 0xff ? 0 : 2;
    return true;
}

static bool stage1(struct arm_walk *w, unsigned el)
{
    if (stage1_off(w, el))
        return flat(w, el);
    if (arm_el_is_64(w->c, el) || el == 2 || w->c->sys.tcr[el] & BIT(31))
        return stage1_long(w, el);
    return arm_walk_short(w);
}

bool arm_walk(struct arm_walk *w)
{
    unsigned el = arm_mmu_regime(w->c, w->mmu);
    bool r, wr, x;
    unsigned page_bits;
    uint64_t ipa;

    w->fault = (struct arm_fault){ 0 };
    w->s2attr = 0xff;
    if (!stage1(w, el))
        return false;
    if (w->stage1_only || el != 1 || !(arm_hcr(w->c) & HCR_VM))
        return true;
    ipa = w->phys;
    if (!arm_stage2(w, ipa, false, &w->phys, &page_bits, &r, &wr, &x))
        return false;
    w->r &= r;
    w->w &= wr;
    w->x &= x;
    if (page_bits < w->page_bits)
        w->page_bits = page_bits;
    return true;
}

/* ---- faults and the entry point */

/* The instruction at pc, as far as translation lets it be read. */
static bool insn_at_pc(struct arm_cpu *c, uint32_t *insn)
{
    struct arm_walk w = { .c = c, .va = c->cpu.pc, .access = ACCESS_EXEC, .mmu = arm_mmu_index(&c->cpu, true), .probe = true };
    uint64_t v;

    if (c->cpu.pc & 3 || !arm_walk(&w) || !arm_desc_read(c, w.phys, 4, false, &v))
        return false;
    *insn = (uint32_t)v;
    return true;
}

/* What a stage 2 data abort tells a hypervisor, so that it can carry the access out: ESR_EL2.ISV, SAS, SSE, SRT, SF, AR. A64
 * loads and stores of one general register without write-back (D24.2.40, "ISS encoding for an exception from a Data
 * Abort"); others have ISV = 0. */
static uint32_t access_syndrome(struct arm_cpu *c)
{
    uint32_t i, size, opc;
    bool sf;

    if (!insn_at_pc(c, &i))
        return 0;
    size = i >> 30;
    if ((i & 0x3f000000) == 0x08000000 && i & 1u << 23) {       /* LDAR, STLR and kin */
        return i & 1u << 21 ? 0 : BIT(24) | size << 22 | (i & 31) << 16 | (size == 3 ? BIT(15) : 0) | (i & 1u << 15 ? BIT(14) : 0);
    }
    if ((i & 0x3a000000) != 0x38000000 || i & 1u << 26)         /* not a register's load or store, or a vector's */
        return 0;
    opc = i >> 22 & 3;
    if (!(i & 1u << 24)) {                                      /* unscaled, unprivileged; register offset */
        bool by_register = i & 1u << 21;

        if (by_register ? (i >> 10 & 3) != 2 : (i >> 10 & 1))   /* an atomic; pre- or post-indexed */
            return 0;
    }
    if (size == 3 && opc >= 2)                                  /* PRFM */
        return 0;
    sf = opc < 2 ? size == 3 : opc == 2;
    return BIT(24) | size << 22 | (opc >= 2 ? BIT(21) : 0) | (i & 31) << 16 | (sf ? BIT(15) : 0);
}

static void record(struct arm_cpu *c, const struct arm_walk *w)
{
    const struct arm_fault *f = &w->fault;
    unsigned el = arm_sync_target(c), ec;
    uint32_t iss = f->fsc;
    bool narrow = false;

    if (f->stage2)
        el = 2;
    else if (f->external && has_el3(c) && c->sys.scr & SCR_EA)
        el = 3;
    else if (f->external && c->el < 2 && arm_hcr(c) & HCR_TEA)
        el = 2;
    /* A translation of another regime than the current one's (LDTR, unprivileged) still faults here. */
    ec = w->access == ACCESS_EXEC ? EC_IABT_LOWER : EC_DABT_LOWER;
    if (el == c->el)
        ec++;
    iss |= (f->s1ptw ? BIT(7) : 0) | (w->access == ACCESS_WRITE && ec >= EC_DABT_LOWER ? BIT(6) : 0);
    if (f->stage2 && !f->s1ptw && ec == EC_DABT_LOWER)
        iss |= c->aarch32 ? arm_access_syndrome32(c, &narrow) : access_syndrome(c);
    c->cpu.exception = ARM_EXC_SYNC;
    c->exc_syndrome = esr_make(ec, iss) & ~(narrow ? (uint32_t)ESR_IL : 0);
    c->exc_far = arm_el_is_64(c, el) && !c->aarch32 ? w->va : (uint32_t)w->va;
    c->exc_target = (uint8_t)el;
    c->exc_hpfar = f->stage2 ? f->ipa >> 12 << 4 : UINT64_MAX;
    c->sys.exc_return = c->cpu.pc;
    c->sys.exc_domain = f->domain;
    log_at(LOG_MMU, "arm cpu %d: fault %#x at %#" G_GINT64_MODIFIER "x, access %u, mmu %u\n", c->cpu.index, f->fsc, w->va, w->access, w->mmu);
}

bool arm_translate(struct cpu *cpu, uint64_t va, enum mmu_access access, unsigned mmu, bool probe, struct mmu_result *out)
{
    struct arm_cpu *c = arm(cpu);
    struct arm_walk w = { .c = c, .va = va, .access = access, .mmu = mmu, .probe = probe };

    if (!arm_walk(&w)) {
        if (!probe)
            record(c, &w);
        return false;
    }
    if (va >> 56 != 0 && va >> 56 != 0xff)
        c->sys.tagged = true;
    if (w.guarded && access == ACCESS_EXEC && !c->sys.guarded && has(c, AF_BTI)) {
        c->sys.guarded = true;          /* MODE_BTI from now on */
        cpu_kick(cpu, CPU_EXIT_KICK);
    }
    *out = (struct mmu_result){
        .phys = w.phys, .page_bits = (uint8_t)w.page_bits, .readable = w.r, .writable = w.w && !w.dirty_later,
        .executable = w.x, .global = w.global, .uncached = !(w.attr & 0xf0),
    };
    return true;
}

/* FEAT_BTI: the page's GP bit; of user mode's mappings PROT_BTI. */
bool arm_page_guarded(struct arm_cpu *c, uint64_t va)
{
    struct arm_walk w = { .c = c, .va = va, .access = ACCESS_EXEC, .mmu = arm_mmu_index(&c->cpu, true), .probe = true };

    if (c->sys.user_guarded)
        return c->sys.user_guarded(&c->cpu, va);
    return arm_walk(&w) && w.guarded;
}

char *arm_mmu_dump(struct cpu *cpu, bool tlb)
{
    const struct arm_cpu *c = arm(cpu);
    GString *s = g_string_new(NULL);

    for (unsigned el = 1; el <= 3; el++) {
        if ((el == 2 && !has_el2(c)) || (el == 3 && !has_el3(c)))
            continue;
        g_string_append_printf(s, "EL%u: MMU %s, TTBR0 %016" G_GINT64_MODIFIER "x TTBR1 %016" G_GINT64_MODIFIER "x TCR %016" G_GINT64_MODIFIER
                               "x MAIR %016" G_GINT64_MODIFIER "x\n", el, c->sys.sctlr[el] & SCTLR_M ? "on" : "off", c->sys.ttbr0[el],
                               c->sys.ttbr1[el], c->sys.tcr[el], c->sys.mair[el]);
    }
    if (has_el2(c))
        g_string_append_printf(s, "stage 2: %s, VTTBR %016" G_GINT64_MODIFIER "x VTCR %016" G_GINT64_MODIFIER "x\n",
                               arm_hcr(c) & HCR_VM ? "on" : "off", c->sys.vttbr, c->sys.vtcr);
    return g_string_free(s, FALSE);
}
