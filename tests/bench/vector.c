/* Floating point and vectors under the translator against the same functions run natively, in one process: a function
 * of this program is called as guest code, at guest addresses that are the host's plus a constant. Prints nanoseconds and the ratio.
 *   build/tests/bench/bench-vector [name...]     DUMP=1: the host code of the regions */
#include <glib.h>
#include <immintrin.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include "guest/x86/x86.h"
#include "rhea/guest/guest.h"
#include "rhea/jit/codegen.h"
#include "rhea/jit/jit.h"

#define KERNEL __attribute__((noinline, aligned(64)))

enum { N = 1024 };
static double da[N] __attribute__((aligned(64))), db[N] __attribute__((aligned(64)));
static float fa[N] __attribute__((aligned(64))), fb[N] __attribute__((aligned(64))), fc[N] __attribute__((aligned(64)));
static uint8_t ba[4 * N] __attribute__((aligned(64))), bb[4 * N] __attribute__((aligned(64)));
static uint32_t table[256] __attribute__((aligned(64)));

/* ---- kernels: no calls, so that they stay inside this program */

KERNEL static uint64_t mandelbrot(void)
{
    unsigned sum = 0;

    for (int y = 0; y < 32; y++)
        for (int x = 0; x < 32; x++) {
            double cr = x / 16.0 - 1.5, ci = y / 16.0 - 1.0, zr = 0, zi = 0;
            int n = 0;

            while (n < 100 && zr * zr + zi * zi < 4.0) {
                double t = zr * zr - zi * zi + cr;

                zi = 2 * zr * zi + ci;
                zr = t;
                n++;
            }
            sum += (unsigned)n;
        }
    return sum;
}

KERNEL static uint64_t double_sum(void)
{
    double s = 0;

    for (int k = 0; k < 16; k++)
        for (int i = 0; i < N; i++)
            s += da[i] * db[i];
    return (uint64_t)s;
}

KERNEL static uint64_t sqrt_div(void)
{
    double s = 0;

    for (int i = 0; i < N; i++)
        s += da[i] / _mm_cvtsd_f64(_mm_sqrt_sd(_mm_set_sd(0), _mm_set_sd(db[i] + 1.5)));
    return (uint64_t)(s * 1000);
}

KERNEL static uint64_t convert(void)
{
    int64_t s = 0;

    for (int k = 0; k < 8; k++)
        for (int i = 0; i < N; i++)
            s += (int64_t)(da[i] * (double)i) + (int)fa[i];
    return (uint64_t)s;
}

KERNEL static uint64_t float4(void)
{
    __m128 s = _mm_setzero_ps();

    for (int k = 0; k < 32; k++)
        for (int i = 0; i < N; i += 4) {
            __m128 v = _mm_add_ps(_mm_mul_ps(_mm_load_ps(fa + i), _mm_load_ps(fb + i)), s);

            _mm_store_ps(fc + i, v);
            s = _mm_min_ps(v, _mm_set1_ps(3));
        }
    return (uint64_t)_mm_cvtss_f32(s);
}

KERNEL static uint64_t sgemm_row(void)
{
    for (int j = 0; j < N; j++)
        fc[j] = 0;
    for (int k = 0; k < 32; k++) {
        __m128 s = _mm_set1_ps(fa[k]);

        for (int j = 0; j < N; j += 4)
            _mm_store_ps(fc + j, _mm_add_ps(_mm_load_ps(fc + j), _mm_mul_ps(s, _mm_load_ps(fb + j))));
    }
    return (uint64_t)fc[7];
}

KERNEL static uint64_t strlen_sse2(void)
{
    uint64_t total = 0;

    for (int k = 0; k < 64; k++) {
        const uint8_t *p = ba;

        for (;;) {
            int m = _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_load_si128((const __m128i *)p), _mm_setzero_si128()));

            if (m) {
                total += (uint64_t)(p - ba) + (unsigned)__builtin_ctz((unsigned)m);
                break;
            }
            p += 16;
        }
    }
    return total;
}

KERNEL __attribute__((target("avx2"))) static uint64_t strlen_avx2(void)
{
    uint64_t total = 0;

    for (int k = 0; k < 64; k++) {
        const uint8_t *p = ba;

        for (;;) {
            unsigned m = (unsigned)_mm256_movemask_epi8(
                _mm256_cmpeq_epi8(_mm256_load_si256((const __m256i *)p), _mm256_setzero_si256()));

            if (m) {
                total += (uint64_t)(p - ba) + (unsigned)__builtin_ctz(m);
                break;
            }
            p += 32;
        }
    }
    return total;
}

KERNEL static uint64_t copy_sse2(void)
{
    for (int k = 0; k < 16; k++)
        for (int i = 0; i < 4 * N; i += 64)
            for (int j = 0; j < 64; j += 16)
                _mm_storeu_si128((__m128i *)(bb + i + j), _mm_loadu_si128((const __m128i *)(ba + i + j)));
    return bb[100];
}

KERNEL __attribute__((target("avx2,fma"))) static uint64_t fma_avx2(void)
{
    __m256 s = _mm256_setzero_ps(), t = s;

    for (int k = 0; k < 32; k++)
        for (int i = 0; i < N; i += 16) {
            s = _mm256_fmadd_ps(_mm256_loadu_ps(fa + i), _mm256_loadu_ps(fb + i), s);
            t = _mm256_fmadd_ps(_mm256_loadu_ps(fa + i + 8), _mm256_loadu_ps(fb + i + 8), t);
        }
    s = _mm256_add_ps(s, t);
    return (uint64_t)_mm_cvtss_f32(_mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1)));
}

KERNEL __attribute__((target("avx2"))) static uint64_t int_avx2(void)
{
    __m256i s = _mm256_setzero_si256(), mask = _mm256_set1_epi8(15);

    for (int k = 0; k < 16; k++)
        for (int i = 0; i < 4 * N; i += 32) {
            __m256i v = _mm256_loadu_si256((const __m256i *)(ba + i));
            __m256i lo = _mm256_and_si256(v, mask), hi = _mm256_and_si256(_mm256_srli_epi16(v, 4), mask);

            v = _mm256_add_epi8(_mm256_shuffle_epi8(mask, lo), _mm256_shuffle_epi8(lo, hi));
            s = _mm256_add_epi64(s, _mm256_sad_epu8(v, _mm256_setzero_si256()));
        }
    return (uint64_t)_mm256_extract_epi64(s, 0) + (uint64_t)_mm256_extract_epi64(s, 2);
}

KERNEL __attribute__((target("avx2"))) static uint64_t gather_avx2(void)
{
    __m256i s = _mm256_setzero_si256();

    for (int k = 0; k < 4; k++)
        for (int i = 0; i < 4 * N; i += 8) {
            __m256i at = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(ba + i)));

            s = _mm256_add_epi32(s, _mm256_i32gather_epi32((const int *)table, at, 4));
        }
    return (uint64_t)_mm256_extract_epi64(s, 0) + (uint64_t)_mm256_extract_epi64(s, 2);
}

KERNEL __attribute__((target("aes,sse4.1"))) static uint64_t aes(void)
{
    __m128i v = _mm_set1_epi32(1);

    for (int k = 0; k < 16; k++)
        for (int i = 0; i < 4 * N; i += 160)
            for (int j = 0; j < 160; j += 16)
                v = _mm_aesenc_si128(v, _mm_loadu_si128((const __m128i *)(ba + (i + j) % (4 * N))));
    return (uint64_t)_mm_extract_epi64(v, 0);
}

KERNEL __attribute__((target("sha,sse4.1"))) static uint64_t sha256(void)
{
    __m128i a = _mm_set1_epi32(1), b = _mm_set1_epi32(2);

    for (int k = 0; k < 8; k++)
        for (int i = 0; i < 4 * N; i += 32) {
            __m128i m = _mm_load_si128((const __m128i *)(ba + i)), n = _mm_load_si128((const __m128i *)(ba + i + 16));

            a = _mm_sha256rnds2_epu32(a, b, m);
            b = _mm_sha256rnds2_epu32(b, a, _mm_sha256msg1_epu32(m, n));
        }
    return (uint64_t)_mm_extract_epi64(a, 0);
}

/* ---- running them as guest code */

enum { TLB_SIZE = 1 << 13, STACK = 1 << 16, STOP = 0x1000 };
#define GUEST_BASE (UINT64_C(1) << 40)          /* guest address of the host's 0 */
static struct tlb_entry tlb[TLB_SIZE];
static struct x86_cpu *cpu;
static struct jit *jit;
static struct jump_entry jump_cache[1 << JUMP_CACHE_BITS];
static uint8_t *stack;

extern const uint8_t __executable_start[], _end[];     /* the linker's */

static void map_range(uintptr_t from, uintptr_t to)
{
    for (from &= ~(uintptr_t)(CPU_PAGE_SIZE - 1); from < to; from += CPU_PAGE_SIZE) {
        uint64_t va = from + GUEST_BASE;

        tlb[va >> CPU_PAGE_BITS & (TLB_SIZE - 1)] = (struct tlb_entry){ va, va, va, (uintptr_t)-GUEST_BASE };
    }
}

/* Every page of this program and of its stack, where the host has it. */
static void map_memory(void)
{
    for (unsigned n = 0; n < TLB_SIZE; n++)
        tlb[n] = (struct tlb_entry){ TLB_INVALID, TLB_INVALID, TLB_INVALID, 0 };
    map_range((uintptr_t)__executable_start, (uintptr_t)_end);
    map_range((uintptr_t)stack, (uintptr_t)stack + STACK);
}

static bool next_page(struct code_fetch *f)
{
    f->page[1] = (const uint8_t *)(uintptr_t)(f->page_va - GUEST_BASE + CPU_PAGE_SIZE);
    return true;
}
static uint64_t phys_of_next(struct code_fetch *f) { return f->page_va + CPU_PAGE_SIZE; }

static struct region *region_at(uint64_t pc, uint64_t mode)
{
    struct region *r = jit_find(jit, pc, mode, (pc & ~(uint64_t)4095) + CPU_PAGE_SIZE);
    struct jit_source src = { .cpu = &cpu->cpu, .pc = pc, .mode = mode, .phys = pc, .phys_of_next = phys_of_next };
    enum jit_failure failed;

    if (r)
        return r;
    src.fetch = (struct code_fetch){ .first_pc = pc, .page_va = pc & ~(uint64_t)4095, .next_page = next_page };
    src.fetch.page[0] = (const uint8_t *)(uintptr_t)(src.fetch.page_va - GUEST_BASE);
    r = jit_translate(jit, &src, &failed);
    if (r && g_getenv("DUMP")) {
        g_autofree char *text = codegen_disassemble(r->code, r->code_size, (uintptr_t)r->code);

        printf("region of %u instructions at %#" PRIx64 ":\n%s\n", r->insns, pc, text);
    }
    return r;
}

static uint64_t run(uint64_t (*fn)(void))
{
    uint64_t mode = MODE_CODE64 | MODE_PE | MODE_LMA | 3 << MODE_CPL_SHIFT | MODE_OSFXSR | MODE_OSXSAVE_AVX |
                    MMU_USER << MODE_MMU_SHIFT, stop = STOP;
    struct region_exit *from = NULL;

    cpu->regs[R_RSP] = (uintptr_t)stack + GUEST_BASE + STACK - 128 - 8;
    memcpy(stack + STACK - 128 - 8, &stop, 8);
    cpu->cpu.pc = (uintptr_t)fn + GUEST_BASE;
    cpu->cpu.mode = mode;
    while (cpu->cpu.pc != STOP) {
        struct region *r = region_at(cpu->cpu.pc, mode);
        uint64_t left;

        g_assert_nonnull(r);
        if (from && !r->len2)
            jit_link(jit, from, r);
        else
            jump_cache[jump_hash(cpu->cpu.pc, JUMP_CACHE_BITS)] = (struct jump_entry){ cpu->cpu.pc, r->code };
        cpu->cpu.pc_page = cpu->cpu.pc & ~(uint64_t)4095;
        left = jit_run(jit, &cpu->cpu, r->code);
        from = NULL;
        if (left < JIT_EXIT_FIRST)
            continue;
        from = jit_exit(jit, left);
        cpu->cpu.pc = cpu->cpu.pc_page + (uint64_t)from->target;
        if (!from->patch)
            from = NULL;
    }
    return cpu->regs[R_RAX];
}

static double now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static double best_of(uint64_t (*call)(uint64_t (*)(void)), uint64_t (*fn)(void), uint64_t *result)
{
    double best = 1e18;

    for (unsigned k = 0; k < 30; k++) {
        double t = now();

        *result = call(fn);
        best = MIN(best, now() - t);
    }
    return best;
}

static uint64_t call_native(uint64_t (*fn)(void)) { return fn(); }

static const struct { const char *name; uint64_t (*fn)(void); } kernels[] = {
    { "mandelbrot", mandelbrot }, { "double-sum", double_sum }, { "sqrt-div", sqrt_div }, { "convert", convert },
    { "float4", float4 }, { "sgemm-row", sgemm_row }, { "strlen-sse2", strlen_sse2 }, { "strlen-avx2", strlen_avx2 }, { "copy-sse2", copy_sse2 },
    { "fma-avx2", fma_avx2 }, { "int-avx2", int_avx2 }, { "gather-avx2", gather_avx2 }, { "aes", aes },
    { "sha256", sha256 },
};

int main(int argc, char **argv)
{
    struct error err = { 0 };
    int bad = 0;

    for (unsigned n = 0; n < N; n++) {
        da[n] = n % 7 * 0.5;
        db[n] = n % 5 * 0.25;
        fa[n] = (float)(n % 7) * 0.5f;
        fb[n] = (float)(n % 3) * 0.25f;
    }
    for (unsigned n = 0; n < 4 * N; n++)
        ba[n] = (uint8_t)(n * 7 % 255 + 1);
    for (unsigned n = 0; n < 256; n++)
        table[n] = n * n;
    ba[4 * N - 3] = 0;
    stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(stack, 0, STACK);
    map_memory();
    cpu = g_malloc0(sizeof(*cpu));
    cpu->cpu.guest = &guest_x86_64;
    cpu->mxcsr = 0x1f80;
    x86_mxcsr_changed(cpu);
    cpu->df = 1;
    jump_cache[0].pc = 1;
    cpu->cpu.jump_cache = jump_cache;
    cpu->cpu.jump_mask = jump_mask(JUMP_CACHE_BITS);
    for (unsigned n = 0; n < CPU_MMU_MODES; n++)
        cpu->cpu.tlb_view[n] = (struct tlb_view){ (TLB_SIZE - 1) << 5, tlb };
    jit = jit_new(&(struct jit_options){ .guest = &guest_x86_64, .perfmap = g_getenv("PERFMAP") }, &err);
    g_assert_nonnull(jit);
    for (unsigned n = 0; n < G_N_ELEMENTS(kernels); n++) {
        uint64_t want, got;
        double native, ours;

        if (argc > 1 && !g_strv_contains((const char *const *)argv + 1, kernels[n].name))
            continue;
        native = best_of(call_native, kernels[n].fn, &want);
        ours = best_of(run, kernels[n].fn, &got);
        printf("%-14s native %9.0f ns   rhea %9.0f ns   x%.2f%s\n", kernels[n].name, native, ours, ours / native,
               want == got ? "" : "   WRONG");
        bad |= want != got;
    }
    return bad;
}
