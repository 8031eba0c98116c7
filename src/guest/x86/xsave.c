/* Images of x87, SSE and AVX state: FXSAVE, FXRSTOR, the XSAVE family, XGETBV, XSETBV. SDM vol. 1, 10.5 and chapter 13.
 * Components: 0 x87, 1 SSE, 2 AVX. Compacted and standard images agree, as AVX is the only extended component.
 * info: bit 0 64-bit pointers (REX.W), bit 1 64-bit mode, bits 4-7 MMU index, bits 8-9: 0 plain, 1 optimised,
 * 2 compacted, 3 supervisor. */
#include <string.h>
#include "system.h"

enum { LEGACY_SIZE = 512, HEADER_SIZE = 64, AVX_OFFSET = 576, AVX_SIZE = 256, MXCSR_MASK = 0xffff };
enum { XC_X87 = 1, XC_SSE = 2, XC_AVX = 4 };
#define XCOMP_COMPACT (UINT64_C(1) << 63)

struct image {
    struct x86_cpu *c;
    uint64_t va;
    unsigned mmu, kind;
    bool wide, code64;
};

static struct image image_begin(struct x86_cpu *c, uint64_t va, uint32_t info, unsigned align)
{
    struct image m = { .c = c, .va = va, .mmu = info >> 4 & 15, .kind = info >> 8 & 3, .wide = info & 1,
                       .code64 = info & 2 };

    if (va & (align - 1))
        x86_raise(c, X_GP, 0);
    return m;
}

static void put16(uint8_t *p, uint16_t v) { memcpy(p, &v, 2); }
static void put32(uint8_t *p, uint32_t v) { memcpy(p, &v, 4); }
static void put64(uint8_t *p, uint64_t v) { memcpy(p, &v, 8); }
static uint16_t get16(const uint8_t *p) { uint16_t v; memcpy(&v, p, 2); return v; }
static uint32_t get32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return v; }
static uint64_t get64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return v; }

static void x87_to_image(const struct image *m, uint8_t *img)
{
    const struct x86_cpu *c = m->c;

    put16(img, c->fpcw);
    put16(img + 2, (uint16_t)((c->fpsw & ~0x3800) | (c->fptop & 7) << 11));
    img[4] = (uint8_t)~c->fptag;
    img[5] = 0;
    put16(img + 6, c->fpop);
    put64(img + 8, c->fpip);
    put64(img + 16, c->fpdp);
    if (!m->wide) {
        put32(img + 12, c->fpcs);
        put32(img + 20, c->fpds);
    }
    for (unsigned n = 0; n < 8; n++) {
        const uint8_t *r = (const uint8_t *)&c->fpregs[(c->fptop + n) & 7];

        memcpy(img + 32 + 16 * n, r, 10);
        memset(img + 42 + 16 * n, 0, 6);
    }
}

static void x87_from_image(const struct image *m, const uint8_t *img)
{
    struct x86_cpu *c = m->c;
    uint16_t sw = get16(img + 2);

    c->fpcw = (get16(img) & 0x1f3f) | 0x40;
    c->fpsw = sw & ~0x3800;
    c->fptop = sw >> 11 & 7;
    c->fptag = (uint8_t)~img[4];
    c->fpop = get16(img + 6) & 0x7ff;
    c->fpip = m->wide ? get64(img + 8) : get32(img + 8);
    c->fpdp = m->wide ? get64(img + 16) : get32(img + 16);
    c->fpcs = m->wide ? 0 : get16(img + 12);
    c->fpds = m->wide ? 0 : get16(img + 20);
    for (unsigned n = 0; n < 8; n++)
        memcpy(&c->fpregs[(c->fptop + n) & 7], img + 32 + 16 * n, 10);
}

static unsigned xmm_count(const struct image *m) { return m->code64 ? 16 : 8; }

static void xmm_to_image(const struct image *m, uint8_t *img)
{
    for (unsigned n = 0; n < xmm_count(m); n++)
        memcpy(img + 160 + 16 * n, m->c->ymm[n].lo, 16);
}

static void xmm_from_image(const struct image *m, const uint8_t *img)
{
    for (unsigned n = 0; n < xmm_count(m); n++)
        memcpy(m->c->ymm[n].lo, img + 160 + 16 * n, 16);
}

static void set_mxcsr(struct x86_cpu *c, uint32_t v)
{
    if (v & ~(uint32_t)MXCSR_MASK)
        x86_raise(c, X_GP, 0);
    c->mxcsr = v;
    x86_mxcsr_changed(c);
}

static void load(const struct image *m, unsigned at, void *buf, unsigned n)
{
    cpu_load_bytes(&m->c->cpu, m->va + at, buf, n, m->mmu);
}

static void store(const struct image *m, unsigned at, const void *buf, unsigned n)
{
    cpu_store_bytes(&m->c->cpu, m->va + at, buf, n, m->mmu);
}

/* ---- FXSAVE, FXRSTOR */

void helper_fxsave(struct cpu *cpu, uint64_t va, uint32_t info)
{
    struct image m = image_begin(x86(cpu), va, info, 16);
    uint8_t img[LEGACY_SIZE];
    unsigned n = 160 + 16 * xmm_count(&m);

    helper_fpu_home(cpu);
    x87_to_image(&m, img);
    put32(img + 24, x86_mxcsr_read(m.c));
    put32(img + 28, MXCSR_MASK);
    xmm_to_image(&m, img);
    cpu_probe(cpu, va, LEGACY_SIZE, true, m.mmu);
    store(&m, 0, img, n);       /* the rest is not written */
}

void helper_fxrstor(struct cpu *cpu, uint64_t va, uint32_t info)
{
    struct image m = image_begin(x86(cpu), va, info, 16);
    uint8_t img[LEGACY_SIZE];

    helper_fpu_home(cpu);
    load(&m, 0, img, sizeof(img));
    set_mxcsr(m.c, get32(img + 24));
    x87_from_image(&m, img);
    xmm_from_image(&m, img);
}

/* ---- XSAVE */

static void check_enabled(struct x86_cpu *c)
{
    if (!(c->cr4 & CR4_OSXSAVE))
        x86_raise(c, X_UD, -1);
    if (c->cr0 & CR0_TS)
        x86_raise(c, X_NM, -1);
}

/* n: a multiple of 8 */
static bool all_zero(const void *p, size_t n)
{
    const uint8_t *b = p;
    uint64_t any = 0;

    for (size_t k = 0; k < n; k += 8)
        any |= get64(b + k);
    return !any;
}

/* Components that differ from their initial state: XINUSE */
static uint64_t in_use(const struct image *m)
{
    const struct x86_cpu *c = m->c;
    uint64_t used = 0;

    if (c->fpcw != 0x37f || c->fpsw || c->fptop || c->fptag != 0xff || c->fpop || c->fpip || c->fpdp ||
        !all_zero(c->fpregs, sizeof(c->fpregs)))
        used |= XC_X87;
    for (unsigned n = 0; n < xmm_count(m); n++) {
        if (!all_zero(c->ymm[n].lo, 16))
            used |= XC_SSE;
        if (!all_zero(c->ymm[n].hi, 16))
            used |= XC_AVX;
    }
    return used;
}

static void store_components(const struct image *m, uint64_t what, uint64_t request)
{
    uint8_t img[AVX_OFFSET + AVX_SIZE] = { 0 };

    if (what & XC_X87) {
        x87_to_image(m, img);
        store(m, 0, img, 24);
        store(m, 32, img + 32, 128);
    }
    if (request & (XC_SSE | XC_AVX)) {
        put32(img + 24, x86_mxcsr_read(m->c));
        put32(img + 28, MXCSR_MASK);
        store(m, 24, img + 24, 8);
    }
    if (what & XC_SSE) {
        xmm_to_image(m, img);
        store(m, 160, img + 160, 16 * xmm_count(m));
    }
    if (what & XC_AVX) {
        for (unsigned n = 0; n < xmm_count(m); n++)
            memcpy(img + AVX_OFFSET + 16 * n, m->c->ymm[n].hi, 16);
        store(m, AVX_OFFSET, img + AVX_OFFSET, 16 * xmm_count(m));
    }
}

void helper_xsave(struct cpu *cpu, uint64_t va, uint32_t info, uint64_t mask)
{
    struct x86_cpu *c = x86(cpu);
    struct image m;
    uint64_t request, used, bv, header[8];
    unsigned size;

    helper_fpu_home(cpu);
    check_enabled(c);
    m = image_begin(c, va, info, 64);
    request = mask & c->xcr0;
    used = in_use(&m);
    size = request & XC_AVX ? AVX_OFFSET + AVX_SIZE : LEGACY_SIZE + HEADER_SIZE;
    cpu_probe(cpu, va, size, true, m.mmu);
    load(&m, LEGACY_SIZE, header, sizeof(header));
    if (m.kind < 2) {           /* standard: bits not asked for stay */
        bv = (header[0] & ~request) | (m.kind ? request & used : request);
        store_components(&m, m.kind ? request & used : request, request);
        store(&m, LEGACY_SIZE, &bv, 8);
        return;
    }
    header[0] = request & used;
    /* MXCSR away from its initial value counts as SSE in use (SDM vol. 1, 13.6) */
    if ((request & XC_SSE) && x86_mxcsr_read(c) != 0x1f80)
        header[0] |= XC_SSE;
    header[1] = request | XCOMP_COMPACT;
    store_components(&m, header[0], header[0] & XC_SSE);
    store(&m, LEGACY_SIZE, header, 16);
}

static void init_x87(struct x86_cpu *c)
{
    c->fpcw = 0x37f;
    c->fpsw = 0;
    c->fptop = 0;
    c->fptag = 0xff;
    c->fpop = 0;
    c->fpip = c->fpdp = 0;
    c->fpcs = c->fpds = 0;
    memset(c->fpregs, 0, sizeof(c->fpregs));
}

static void load_avx(const struct image *m, bool present)
{
    uint8_t img[AVX_SIZE] = { 0 };

    if (present)
        load(m, AVX_OFFSET, img, 16 * xmm_count(m));
    for (unsigned n = 0; n < xmm_count(m); n++)
        memcpy(m->c->ymm[n].hi, img + 16 * n, 16);
}

void helper_xrstor(struct cpu *cpu, uint64_t va, uint32_t info, uint64_t mask)
{
    struct x86_cpu *c = x86(cpu);
    struct image m;
    uint64_t request, bv, header[8];
    uint8_t img[LEGACY_SIZE];
    bool compact;

    helper_fpu_home(cpu);
    check_enabled(c);
    m = image_begin(c, va, info, 64);
    request = mask & c->xcr0;
    load(&m, 0, img, sizeof(img));
    load(&m, LEGACY_SIZE, header, sizeof(header));
    compact = header[1] & XCOMP_COMPACT;
    if (compact && !x86_has(c->features, XF_XSAVEC))
        x86_raise(c, X_GP, 0);
    if (compact ? ((header[1] & ~XCOMP_COMPACT) & ~c->xcr0) || (header[0] & ~header[1]) : header[0] & ~c->xcr0)
        x86_raise(c, X_GP, 0);
    if (!compact && (header[1] || header[2]))
        x86_raise(c, X_GP, 0);
    for (unsigned n = 2; n < 8; n++)
        if (compact && header[n])
            x86_raise(c, X_GP, 0);
    if ((m.kind == 3) && !compact)
        x86_raise(c, X_GP, 0);
    bv = header[0];
    if (request & bv & XC_AVX)  /* may fault: before anything changes */
        cpu_probe(cpu, va + AVX_OFFSET, 16 * xmm_count(&m), false, m.mmu);
    if (compact ? request & XC_SSE : request & (XC_SSE | XC_AVX))
        set_mxcsr(c, compact && !(bv & XC_SSE) ? 0x1f80 : get32(img + 24));
    if (request & XC_X87) {
        if (bv & XC_X87)
            x87_from_image(&m, img);
        else
            init_x87(c);
    }
    if (request & XC_SSE) {
        if (!(bv & XC_SSE))
            memset(img, 0, sizeof(img));
        xmm_from_image(&m, img);
    }
    if (request & XC_AVX)
        load_avx(&m, bv & XC_AVX);
}

/* ---- XCR0 */

uint64_t helper_xgetbv(struct cpu *cpu)
{
    struct x86_cpu *c = x86(cpu);
    struct image m = { .c = c, .code64 = true };
    uint32_t n = (uint32_t)c->regs[R_RCX];

    helper_fpu_home(cpu);
    if (!(c->cr4 & CR4_OSXSAVE))
        x86_raise(c, X_UD, -1);
    if (n == 0)
        return c->xcr0;
    if (n == 1 && x86_has(c->features, XF_XGETBV1))
        return c->xcr0 & (in_use(&m) | (x86_mxcsr_read(c) != 0x1f80 ? XC_SSE : 0));
    x86_raise(c, X_GP, 0);
}

uint64_t x86_xcr0_supported(const struct x86_cpu *c)
{
    if (!x86_has(c->features, XF_XSAVE))
        return 0;
    return XC_X87 | XC_SSE | (x86_has(c->features, XF_AVX) ? XC_AVX : 0);
}

void helper_xsetbv(struct cpu *cpu)
{
    struct x86_cpu *c = x86(cpu);
    uint64_t v = c->regs[R_RDX] << 32 | (uint32_t)c->regs[R_RAX];

    if (!(c->cr4 & CR4_OSXSAVE))
        x86_raise(c, X_UD, -1);
    if ((uint32_t)c->regs[R_RCX] || !(v & XC_X87) || (v & ~x86_xcr0_supported(c)) || ((v & XC_AVX) && !(v & XC_SSE)))
        x86_raise(c, X_GP, 0);
    c->xcr0 = v;
}
