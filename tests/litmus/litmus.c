/* Memory-order tests: small programs of two to four threads, run very often, whose forbidden outcomes must never be seen, and
 * counters that must lose no update. A static program for x86-64, AArch64, Arm and RISC-V; run as the guest's first process's
 * child with at least four processors. usage: litmus SECONDS
 *
 * Names and shapes as in Alglave, Maranget, Tautschnig, "Herding Cats" (2014). What each architecture forbids:
 *   x86 (SDM vol. 3, 8.2.2): with plain accesses all but SB, R; with MFENCE those too.
 *   Arm (DDI 0487 B2.3), RISC-V (RVWMO): with the fences or the acquire and release forms below. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 16384, THREADS = 4, VARS = 4 };
typedef struct { _Alignas(64) _Atomic uint32_t v; } cell;

/* Each round has cells of its own, so that threads need to meet only once in a while. */
static cell vars[ROUNDS][2];
static uint32_t regs[ROUNDS][VARS];

/* ---- the ways to access */

enum { PLAIN, ACQ_REL, FENCE, SEQ_CST, RMW, WAYS };
static const char *const way_name[WAYS] = { "plain", "acquire-release", "fence", "seq-cst", "rmw" };

static inline __attribute__((always_inline)) uint32_t load(_Atomic uint32_t *p, int way)
{
    switch (way) {
    case ACQ_REL: return atomic_load_explicit(p, memory_order_acquire);
    case SEQ_CST: return atomic_load_explicit(p, memory_order_seq_cst);
    case RMW: return atomic_fetch_add_explicit(p, 0, memory_order_seq_cst);
    default: return atomic_load_explicit(p, memory_order_relaxed);
    }
}

static inline __attribute__((always_inline)) void store(_Atomic uint32_t *p, uint32_t v, int way)
{
    switch (way) {
    case ACQ_REL: atomic_store_explicit(p, v, memory_order_release); break;
    case SEQ_CST: atomic_store_explicit(p, v, memory_order_seq_cst); break;
    case RMW: atomic_exchange_explicit(p, v, memory_order_seq_cst); break;
    default: atomic_store_explicit(p, v, memory_order_relaxed); break;
    }
}

static inline __attribute__((always_inline)) void between(int way)
{
    if (way == FENCE)
        atomic_thread_fence(memory_order_seq_cst);
    else
        atomic_signal_fence(memory_order_seq_cst);
}

/* ---- the shapes. X and Y are the round's cells, r its registers. */

#define X (&vars[i][0].v)
#define Y (&vars[i][1].v)
#define R(n) regs[i][n]
#define SHAPE(name) static inline __attribute__((always_inline)) void name(unsigned thread, unsigned i, int w)

SHAPE(mp)       /* message passing */
{
    if (thread == 0) { store(X, 1, w == ACQ_REL ? PLAIN : w); between(w); store(Y, 1, w); }
    if (thread == 1) { R(0) = load(Y, w); between(w); R(1) = load(X, w == ACQ_REL ? PLAIN : w); }
}
SHAPE(sb)       /* store buffering */
{
    if (thread == 0) { store(X, 1, w); between(w); R(0) = load(Y, w); }
    if (thread == 1) { store(Y, 1, w); between(w); R(1) = load(X, w); }
}
SHAPE(lb)       /* load buffering */
{
    if (thread == 0) { R(0) = load(X, w); between(w); store(Y, 1, w); }
    if (thread == 1) { R(1) = load(Y, w); between(w); store(X, 1, w); }
}
SHAPE(iriw)     /* independent reads of independent writes */
{
    if (thread == 0) store(X, 1, w);
    if (thread == 1) store(Y, 1, w);
    if (thread == 2) { R(0) = load(X, w); between(w); R(1) = load(Y, w); }
    if (thread == 3) { R(2) = load(Y, w); between(w); R(3) = load(X, w); }
}
SHAPE(w2)       /* 2+2W */
{
    if (thread == 0) { store(X, 1, w); between(w); store(Y, 2, w); }
    if (thread == 1) { store(Y, 1, w); between(w); store(X, 2, w); }
}
SHAPE(s)
{
    if (thread == 0) { store(X, 2, w); between(w); store(Y, 1, w); }
    if (thread == 1) { R(0) = load(Y, w); between(w); store(X, 1, w); }
}
SHAPE(r)
{
    if (thread == 0) { store(X, 1, w); between(w); store(Y, 1, w); }
    if (thread == 1) { store(Y, 2, w); between(w); R(0) = load(X, w); }
}

static bool mp_bad(unsigned i) { return R(0) == 1 && R(1) == 0; }
static bool sb_bad(unsigned i) { return R(0) == 0 && R(1) == 0; }
static bool lb_bad(unsigned i) { return R(0) == 1 && R(1) == 1; }
static bool iriw_bad(unsigned i) { return R(0) == 1 && R(1) == 0 && R(2) == 1 && R(3) == 0; }
static bool w2_bad(unsigned i) { return *X == 1 && *Y == 1; }
static bool s_bad(unsigned i) { return R(0) == 1 && *X == 2; }
static bool r_bad(unsigned i) { return R(0) == 0 && *Y == 2; }

/* Which ways forbid the outcome. Plain accesses: only x86's. Acquire and release alone allow SB, R (release to acquire of
 * another place is ordered on Arm and RISC-V's .aq.rl, but C's mapping need not be) and, in C's mapping, 2+2W is ordered. */
#if defined(__x86_64__)
enum { TSO = 1 };
#else
enum { TSO = 0 };
#endif
#define STRONG (1 << FENCE | 1 << SEQ_CST | 1 << RMW)
#define ON_TSO(ways) (TSO ? (1 << PLAIN | 1 << ACQ_REL) : (ways))

static const struct shape {
    const char *name;
    unsigned threads, forbidden;
    void (*run)(unsigned thread, unsigned i, int w);
    bool (*bad)(unsigned i);
} shapes[] = {
    { "MP", 2, STRONG | 1 << ACQ_REL | ON_TSO(0), mp, mp_bad },
    { "SB", 2, STRONG, sb, sb_bad },
    { "LB", 2, STRONG | 1 << ACQ_REL | ON_TSO(0), lb, lb_bad },
    { "IRIW", 4, STRONG | ON_TSO(1 << ACQ_REL), iriw, iriw_bad },       /* multi-copy atomic, all of them */
    { "2+2W", 2, STRONG | 1 << ACQ_REL | ON_TSO(0), w2, w2_bad },
    { "S", 2, STRONG | 1 << ACQ_REL | ON_TSO(0), s, s_bad },
    { "R", 2, STRONG, r, r_bad },
};
enum { SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

/* ---- meeting */

static _Atomic unsigned arrived, generation;

static void meet(void)
{
    unsigned g = atomic_load(&generation), spins = 0;

    if (atomic_fetch_add(&arrived, 1) + 1 == THREADS) {
        atomic_store(&arrived, 0);
        atomic_store(&generation, g + 1);
        return;
    }
    while (atomic_load(&generation) == g)
        if (++spins > 2000) {
            sched_yield();
            spins = 0;
        }
}

static volatile int shape_now, way_now;
static volatile bool over;

/* The way is a constant in each copy: that is what makes the accesses the architecture's own instructions. */
#define RUN(name, w) for (unsigned i = 0; i < ROUNDS; i++) name(thread, i, w)
#define WAYS_OF(name) switch (way) { case PLAIN: RUN(name, PLAIN); break; case ACQ_REL: RUN(name, ACQ_REL); break; \
    case FENCE: RUN(name, FENCE); break; case SEQ_CST: RUN(name, SEQ_CST); break; default: RUN(name, RMW); break; }

static void rounds(unsigned thread, int shape, int way)
{
    switch (shape) {
    case 0: WAYS_OF(mp); break;
    case 1: WAYS_OF(sb); break;
    case 2: WAYS_OF(lb); break;
    case 3: WAYS_OF(iriw); break;
    case 4: WAYS_OF(w2); break;
    case 5: WAYS_OF(s); break;
    default: WAYS_OF(r); break;
    }
}

/* ---- counters: none of the updates may be lost */

enum { COUNTERS = 8, UPDATES = 20000 };
static cell counters[COUNTERS];
static _Atomic uint64_t wide_counter;
static _Atomic uint8_t bytes[4];        /* neighbours in one word, each another thread's */

static void spin_lock(_Atomic uint32_t *l)
{
    while (atomic_exchange_explicit(l, 1, memory_order_acquire))
        sched_yield();
}

static uint32_t locked;                 /* plain, under counters[4] */

#if defined(__aarch64__)
static void lse_add(_Atomic uint32_t *p) { __asm__ volatile(".arch_extension lse\nstadd %w0, [%1]" :: "r"(1), "r"(p) : "memory"); }
#endif

static bool have_lse;

static void count(unsigned thread)
{
    for (unsigned n = 0; n < UPDATES; n++) {
        uint32_t old = atomic_load_explicit(&counters[1].v, memory_order_relaxed);
        uint64_t wide = atomic_load_explicit(&wide_counter, memory_order_relaxed);

        atomic_fetch_add_explicit(&counters[0].v, 1, memory_order_relaxed);
        while (!atomic_compare_exchange_weak_explicit(&counters[1].v, &old, old + 1, memory_order_relaxed, memory_order_relaxed))
            ;
        atomic_fetch_xor(&counters[2].v, 1u << (n & 31));
        atomic_fetch_add(&bytes[thread], 1);
        while (!atomic_compare_exchange_weak(&wide_counter, &wide, wide + 0x100000001))
            ;
        if (n % 8 == 0) {
            spin_lock(&counters[4].v);
            locked++;
            atomic_store_explicit(&counters[4].v, 0, memory_order_release);
        }
#if defined(__aarch64__)
        if (have_lse)
            lse_add(&counters[3].v);
#endif
    }
}

static int count_check(void)
{
    const uint32_t all = THREADS * UPDATES;
    int failed = 0;
#define EXPECT(what, have, want) if ((have) != (want)) { failed++; printf("COUNTER %s: %llx, not %llx\n", what, \
        (unsigned long long)(have), (unsigned long long)(want)); }

    EXPECT("add", counters[0].v, all);
    EXPECT("compare and swap", counters[1].v, all);
    EXPECT("xor", counters[2].v, 0u);   /* an even number of each bit: four threads do the same */
    EXPECT("64-bit compare and swap", wide_counter, all * UINT64_C(0x100000001));
    EXPECT("under a lock", locked, all / 8);
    if (have_lse)
        EXPECT("LSE add", counters[3].v, all);
    for (unsigned t = 0; t < THREADS; t++)
        EXPECT("byte", bytes[t], (uint8_t)UPDATES);
    for (unsigned n = 0; n < COUNTERS; n++)
        atomic_store(&counters[n].v, 0);
    for (unsigned t = 0; t < THREADS; t++)
        atomic_store(&bytes[t], 0);
    wide_counter = locked = 0;
    return failed;
}

/* ---- */

static void *thread_main(void *arg)
{
    unsigned thread = (unsigned)(uintptr_t)arg;
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(thread, &set);
    sched_setaffinity(0, sizeof(set), &set);
    for (;;) {
        meet();
        if (over)
            return NULL;
        if (shape_now < 0)
            count(thread);
        else
            rounds(thread, shape_now, way_now);
        meet();
    }
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static unsigned long seen[SHAPES][WAYS], lost, laps;

static void lap(void)
{
    for (int k = 0; k < SHAPES; k++)
        for (int w = 0; w < WAYS; w++) {
            memset(vars, 0, sizeof(vars));
            shape_now = k;
            way_now = w;
            meet();
            rounds(0, k, w);
            meet();
            for (unsigned i = 0; i < ROUNDS; i++)
                seen[k][w] += shapes[k].bad(i);
        }
    shape_now = -1;
    meet();
    count(0);
    meet();
    lost += count_check();
    laps++;
}

int main(int argc, char **argv)
{
    double end = now() + (argc > 1 ? atof(argv[1]) : 5);
    int failed = 0;
    pthread_t t[THREADS];

#if defined(__aarch64__)
    FILE *f = fopen("/proc/cpuinfo", "r");
    char line[4096];

    while (f && fgets(line, sizeof(line), f))
        if (strstr(line, " atomics"))
            have_lse = true;
#endif
    for (uintptr_t n = 1; n < THREADS; n++)
        if (pthread_create(&t[n], NULL, thread_main, (void *)n))
            return 2;
    while (laps == 0 || now() < end)
        lap();
    over = true;
    meet();
    for (int k = 0; k < SHAPES; k++)
        for (int w = 0; w < WAYS; w++)
            if (seen[k][w]) {
                bool bad = shapes[k].forbidden >> w & 1;

                failed += bad;
                printf("%s %s %s: %lu of %lu\n", bad ? "FORBIDDEN" : "allowed", shapes[k].name, way_name[w], seen[k][w], laps * ROUNDS);
            }
    printf("litmus: %lu laps, %d forbidden, %lu lost%s\n", laps, failed, lost, have_lse ? ", LSE" : "");
    return failed || lost;
}
