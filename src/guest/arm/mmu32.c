/* Short descriptors: Armv7's tables of sections and pages. DDI 0487 G5.4, DDI 0406 B3.5. */
#include "system.h"

static bool fault(struct arm_walk *w, unsigned fsc, unsigned level)
{
    w->fault.fsc = (uint8_t)(fsc + level);
    return false;
}

struct entry { uint64_t addr, desc; };

static bool fetch(struct arm_walk *w, unsigned el, uint64_t addr, unsigned level, struct entry *e)
{
    bool r, wr, x;
    unsigned unused;

    e->addr = addr;
    if (el == 1 && arm_hcr(w->c) & HCR_VM && !arm_stage2(w, addr, true, &e->addr, &unused, &r, &wr, &x))
        return false;
    if (!arm_desc_read(w->c, e->addr, 4, w->c->sys.sctlr[el] & SCTLR_EE, &e->desc)) {
        w->fault.external = true;
        return fault(w, FSC_EXTERNAL_WALK, level);
    }
    return true;
}

struct leaf32 { unsigned ap, level; bool xn, pxn, ng; uint64_t af_addr, desc; };

/* G5.4.1: TTBCR.N splits the space; TTBR0's table shrinks with it. */
static bool first_level(struct arm_walk *w, unsigned el, struct entry *e)
{
    uint32_t va = (uint32_t)w->va, tcr = (uint32_t)w->c->sys.tcr[el];
    unsigned n = tcr & 7;
    bool upper = n && va >> (32 - n);

    if (tcr & (upper ? 1u << 5 : 1u << 4))
        return fault(w, FSC_TRANSLATION, 1);
    if (upper)
        n = 0;
    return fetch(w, el, ((upper ? w->c->sys.ttbr1[el] : w->c->sys.ttbr0[el]) & 0xffffffff & ~((UINT64_C(1) << (14 - n)) - 1)) |
                            (uint64_t)(va << n >> n >> 20) << 2, 1, e);
}

static void section(struct arm_walk *w, const struct entry *e, struct leaf32 *l)
{
    uint32_t d = (uint32_t)e->desc, va = (uint32_t)w->va;

    if (d & 1u << 18) {         /* supersection: bits 39:32 in 23:20 and 8:5 */
        w->phys = (d & 0xff000000) | (va & 0xffffff) | (uint64_t)(d >> 20 & 15) << 32 | (uint64_t)(d >> 5 & 15) << 36;
        w->page_bits = 24;
    } else {
        w->phys = (d & 0xfff00000) | (va & 0xfffff);
        w->page_bits = 20;
    }
    *l = (struct leaf32){ .ap = (d >> 10 & 3) | (d >> 13 & 4), .level = 1, .xn = d & 16, .pxn = d & 1, .ng = d & 1u << 17,
                          .af_addr = e->addr, .desc = d };
    w->attr = (uint8_t)((d >> 2 & 3) | (d >> 12 & 7) << 2);
    w->sh = d >> 16 & 1 ? 2 : 0;
}

static bool page(struct arm_walk *w, unsigned el, const struct entry *first, struct leaf32 *l)
{
    uint32_t va = (uint32_t)w->va, d;
    struct entry e;

    if (!fetch(w, el, (first->desc & 0xfffffc00) | (va >> 12 & 0xff) << 2, 2, &e))
        return false;
    d = (uint32_t)e.desc;
    if (!(d & 3))
        return fault(w, FSC_TRANSLATION, 2);
    *l = (struct leaf32){ .ap = (d >> 4 & 3) | (d >> 7 & 4), .level = 2, .pxn = first->desc & 4, .ng = d & 1u << 11,
                          .af_addr = e.addr, .desc = d };
    w->sh = d >> 10 & 1 ? 2 : 0;
    if (d & 2) {
        w->phys = (d & 0xfffff000) | (va & 0xfff);
        w->page_bits = 12;
        l->xn = d & 1;
        w->attr = (uint8_t)((d >> 2 & 3) | (d >> 6 & 7) << 2);
    } else {
        w->phys = (d & 0xffff0000) | (va & 0xffff);
        w->page_bits = 16;
        l->xn = d & 0x8000;
        w->attr = (uint8_t)((d >> 2 & 3) | (d >> 12 & 7) << 2);
    }
    return true;
}

/* G5.7.1: AP[2:0], or AP[2:1] with SCTLR.AFE. */
static void permissions(struct arm_walk *w, const struct leaf32 *l, unsigned el)
{
    uint64_t sctlr = w->c->sys.sctlr[el];
    bool ur, uw, pr = true, pw;
    unsigned ap = l->ap;

    if (sctlr & SCTLR_AFE) {
        ur = ap & 2;
        uw = ur && !(ap & 4);
        pw = !(ap & 4);
    } else {
        pr = ap != 0 && ap != 4;
        pw = ap >= 1 && ap <= 3;
        ur = ap == 2 || ap == 3 || ap >= 6;
        uw = ap == 3;
    }
    if (arm_mmu_user(w->mmu)) {
        w->r = ur;
        w->w = uw;
        w->x = ur && !l->xn && !(sctlr & SCTLR_WXN && uw);
        return;
    }
    w->r = pr;
    w->w = pw;
    w->x = pr && !l->xn && !(l->pxn && (has(w->c, AF_LPAE) || has(w->c, AF_V8))) && !(sctlr & SCTLR_WXN && pw) &&
           !(sctlr & SCTLR_UWXN && uw);
    if (arm_mmu_pan(w->mmu) && ur)
        w->r = w->w = false;
}

bool arm_walk_short(struct arm_walk *w)
{
    unsigned el = arm_mmu_regime(w->c, w->mmu), domain, type;
    struct entry first;
    struct leaf32 l;

    if (!first_level(w, el, &first))
        return false;
    type = first.desc & 3;
    /* 3: a section with PXN where that exists, else reserved */
    if (type == 0 || (type == 3 && !has(w->c, AF_LPAE) && !has(w->c, AF_V8)))
        return fault(w, FSC_TRANSLATION, 1);
    domain = first.desc >> 5 & 15;
    if (type & 2) {
        section(w, &first, &l);
        if (first.desc & 1u << 18)
            domain = 0;
    } else if (!page(w, el, &first, &l)) {
        w->fault.domain = (uint8_t)domain;
        return false;
    }
    w->fault.domain = (uint8_t)domain;
    w->global = !l.ng;
    switch (w->c->sys.dacr[el] >> (2 * domain) & 3) {
    case 1:
        if (w->c->sys.sctlr[el] & SCTLR_AFE && !(l.ap & 1))
            return fault(w, FSC_ACCESS_FLAG, l.level);
        permissions(w, &l, el);
        break;
    case 3:
        w->r = w->w = w->x = true;
        if (w->c->sys.sctlr[el] & SCTLR_AFE && !(l.ap & 1))
            return fault(w, FSC_ACCESS_FLAG, l.level);
        return true;
    default:
        return fault(w, FSC_DOMAIN, l.level);
    }
    if (!(w->access == ACCESS_READ ? w->r : w->access == ACCESS_WRITE ? w->w : w->x))
        return fault(w, FSC_PERMISSION, l.level);
    return true;
}
