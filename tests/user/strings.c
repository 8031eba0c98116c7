/* REP string instructions against the same instruction without its prefix, once an element: both directions, all sizes, overlaps
 * either way, counts and addresses around page ends, matches anywhere; memory, registers and flags compared. The processor is
 * asked natively, too. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AREA = 3 * 4096 };
static uint8_t start[AREA], rep_area[AREA] __attribute__((aligned(4096))), one_area[AREA] __attribute__((aligned(4096)));
static unsigned failures, seed = 1;

static unsigned rnd(unsigned n)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % n;
}

struct regs { uintptr_t si, di, cx, ax, flags; };

/* insn with the direction flag set as asked; the flags after it */
#define RUN(r, back, insn) \
    __asm__ volatile("push %4\n\tpopf\n\t" insn "\n\tpushf\n\tpop %4\n\tcld" \
                     : "+S"((r)->si), "+D"((r)->di), "+c"((r)->cx), "+a"((r)->ax), "=&r"((r)->flags) \
                     : "4"((uintptr_t)((back) ? 0x402 : 2)) : "memory", "cc")

#define FORMS(X, size) X(movs##size, "rep movs" #size, "movs" #size, 0) X(stos##size, "rep stos" #size, "stos" #size, 0) \
    X(lods##size, "rep lods" #size, "lods" #size, 0) X(repe_cmps##size, "repe cmps" #size, "cmps" #size, 1) \
    X(repne_cmps##size, "repne cmps" #size, "cmps" #size, 2) X(repe_scas##size, "repe scas" #size, "scas" #size, 1) \
    X(repne_scas##size, "repne scas" #size, "scas" #size, 2)
#ifdef __x86_64__
#define ALL(X) FORMS(X, b) FORMS(X, w) FORMS(X, l) FORMS(X, q)
#else
#define ALL(X) FORMS(X, b) FORMS(X, w) FORMS(X, l)
#endif

#define DEFINE(name, rep, one, ends) \
    static void rep_##name(struct regs *r, int back) { RUN(r, back, rep); } \
    static void one_##name(struct regs *r, int back) \
    { \
        uintptr_t left = r->cx; \
        while (left--) { \
            RUN(r, back, one); \
            r->cx--; \
            if (ends && !(r->flags & 0x40) == (ends == 1)) \
                break; \
        } \
    }
ALL(DEFINE)

#define ROW(name, rep, one, ends) { #name, rep_##name, one_##name },
static const struct { const char *name; void (*rep)(struct regs *, int), (*one)(struct regs *, int); } form[] = { ALL(ROW) };

static void check(unsigned f)
{
    static const unsigned sizes[] = { 1, 2, 4, 8 };
    unsigned bytes = sizes[f / 7], back = rnd(2), count = rnd(rnd(4) ? 40 : 1200), span = count * bytes;
    unsigned si, di;
    struct regs a = { .cx = count, .ax = (uintptr_t)(0x0101010101010101ull * rnd(3)) }, b;

    if (span > AREA / 2)
        span = count = 0, a.cx = 0;
    si = rnd(AREA - span - 16);
    di = rnd(3) ? rnd(AREA - span - 16) : si + rnd(16) < 8 ? si : (si + rnd(16)) % (AREA - span - 16);
    if (back && count) {
        si += span - bytes;
        di += span - bytes;
    }
    memset(start, rnd(3), sizeof(start));
    for (unsigned n = rnd(3) * 40; n; n--)
        start[rnd(AREA)] = (uint8_t)rnd(3);
    memcpy(rep_area, start, AREA);
    memcpy(one_area, start, AREA);
    b = a;
    a.si = (uintptr_t)rep_area + si, a.di = (uintptr_t)rep_area + di;
    b.si = (uintptr_t)one_area + si, b.di = (uintptr_t)one_area + di;
    form[f].rep(&a, back);
    form[f].one(&b, back);
    a.si -= (uintptr_t)rep_area, a.di -= (uintptr_t)rep_area;
    b.si -= (uintptr_t)one_area, b.di -= (uintptr_t)one_area;
    if (!count)
        a.flags = b.flags = 0;
    if (!memcmp(&a, &b, sizeof(a)) && !memcmp(rep_area, one_area, AREA))
        return;
    if (failures++ < 10)
        printf("FAILED %s count %u back %u from %#x to %#x: cx %lx %lx si %lx %lx di %lx %lx ax %lx %lx flags %lx %lx memory %d\n", form[f].name, count, back,
               si, di, (long)a.cx, (long)b.cx, (long)a.si, (long)b.si, (long)a.di, (long)b.di, (long)a.ax, (long)b.ax, (long)a.flags,
               (long)b.flags, memcmp(rep_area, one_area, AREA));
}

int main(void)
{
    for (unsigned n = 0; n < 400; n++)
        for (unsigned f = 0; f < sizeof(form) / sizeof(form[0]); f++)
            check(f);
    printf("\n%u failures\n", failures);
    return failures != 0;
}
