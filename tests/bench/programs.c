/* CPU programs of `make bench`: each does a fixed amount of work and prints "NAME SECONDS CHECKSUM". The same static
 * binary runs natively and in every guest, so a ratio compares like with like.
 *
 *   programs list | programs [NAME...] */
#define _GNU_SOURCE
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t seed = 88172645463325252ull;
static uint64_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}
#define NOINLINE __attribute__((noinline))

/* ---- integer */
static uint64_t run_integer(void)       /* CRC, small matrices, list walks: the mix of embedded benchmarks */
{
    static int32_t a[40][40], b[40][40], c[40][40];
    uint64_t sum = 0;

    for (int n = 0; n < 500; n++) {
        uint16_t crc = n;

        for (int i = 0; i < 40; i++)
            for (int j = 0; j < 40; j++) {
                a[i][j] = (i * 7 + j * n) & 255;
                b[i][j] = (i ^ j) + n;
            }
        for (int i = 0; i < 40; i++)
            for (int j = 0; j < 40; j++) {
                int32_t s = 0;

                for (int k = 0; k < 40; k++)
                    s += a[i][k] * b[k][j];
                c[i][j] = s;
            }
        for (int i = 0; i < 40; i++)
            for (int j = 0; j < 40; j++)
                for (int bit = 0; bit < 8; bit++)
                    crc = (crc >> 1) ^ (-((crc ^ c[i][j] >> bit) & 1) & 0xa001);
        sum += crc;
    }
    return sum;
}

static int compare_u32(const void *x, const void *y)
{
    uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;

    return a < b ? -1 : a > b;
}

static uint64_t run_branches(void)      /* quicksort with a call for each comparison */
{
    enum { N = 150000 };
    static uint32_t v[N];

    for (int i = 0; i < N; i++)
        v[i] = next_random();
    qsort(v, N, sizeof(v[0]), compare_u32);
    return v[N / 2];
}

static NOINLINE uint64_t fib(uint64_t n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
static uint64_t run_calls(void) { return fib(35); }

typedef uint64_t op_fn(uint64_t);
static NOINLINE uint64_t op0(uint64_t x) { return x + 1; }
static NOINLINE uint64_t op1(uint64_t x) { return x * 3; }
static NOINLINE uint64_t op2(uint64_t x) { return x ^ x >> 7; }
static NOINLINE uint64_t op3(uint64_t x) { return x - 11; }
static uint64_t run_indirect(void)
{
    static op_fn *volatile const table[] = { op0, op1, op2, op3 };
    uint64_t x = 1;

    for (int i = 0; i < 12000000; i++)
        x = table[(x >> 3 ^ i) & 3](x);
    return x;
}

static uint64_t chase(size_t entries, unsigned steps)
{
    uint32_t *v = malloc(entries * 4);
    uint32_t at = 0;

    for (size_t i = 0; i < entries; i++)
        v[i] = i;
    for (size_t i = entries - 1; i; i--) {      /* one cycle: Sattolo */
        size_t j = next_random() % i;
        uint32_t t = v[i];

        v[i] = v[j];
        v[j] = t;
    }
    for (unsigned i = 0; i < steps; i++)
        at = v[at];
    free(v);
    return at;
}
static uint64_t run_chase_l1(void) { return chase(4096, 20000000); }
static uint64_t run_chase_ram(void) { return chase(4 << 20, 400000); }

static uint64_t run_interpreter(void)   /* a switch-dispatched stack machine */
{
    enum { PUSH, LOAD, STORE, ADD, SUB, MUL, MOD, JZ, JMP, LT, END };
    static const int32_t code[] = {
        PUSH, 0, STORE, 0,                                              /* i = 0 */
        LOAD, 1, PUSH, 3, MUL, LOAD, 0, ADD, PUSH, 1000003, MOD, STORE, 1,      /* 4: sum = (sum * 3 + i) % 1000003 */
        LOAD, 0, PUSH, 1, ADD, STORE, 0,                                /* i++ */
        LOAD, 0, PUSH, 2000000, LT, JZ, 33, JMP, 4,                      /* while (i < 2000000) */
        END };                                                          /* 33 */
    int64_t stack[32], var[4] = { 0 };
    int sp = 0;

    for (int pc = 0;;) {
        switch (code[pc++]) {
        case PUSH: stack[sp++] = code[pc++]; break;
        case LOAD: stack[sp++] = var[code[pc++]]; break;
        case STORE: var[code[pc++]] = stack[--sp]; break;
        case ADD: sp--; stack[sp - 1] += stack[sp]; break;
        case SUB: sp--; stack[sp - 1] -= stack[sp]; break;
        case MUL: sp--; stack[sp - 1] *= stack[sp]; break;
        case MOD: sp--; stack[sp - 1] %= stack[sp]; break;
        case LT: sp--; stack[sp - 1] = stack[sp - 1] < stack[sp]; break;
        case JZ: pc = stack[--sp] ? pc + 1 : code[pc]; break;
        case JMP: pc = code[pc]; break;
        case END: return var[1];
        }
    }
}

/* ---- floating point */
static uint64_t run_nbody(void)
{
    enum { N = 5 };
    double p[N][3], v[N][3], m[N], e = 0;

    for (int i = 0; i < N; i++) {
        m[i] = 1.0 / (i + 1);
        for (int k = 0; k < 3; k++) {
            p[i][k] = i * 1.5 + k;
            v[i][k] = 0.01 * (i - k);
        }
    }
    for (int step = 0; step < 250000; step++) {
        for (int i = 0; i < N; i++)
            for (int j = i + 1; j < N; j++) {
                double d[3], r2 = 0.01, mag;

                for (int k = 0; k < 3; k++) {
                    d[k] = p[i][k] - p[j][k];
                    r2 += d[k] * d[k];
                }
                mag = 0.001 / (r2 * sqrt(r2));
                for (int k = 0; k < 3; k++) {
                    v[i][k] -= d[k] * m[j] * mag;
                    v[j][k] += d[k] * m[i] * mag;
                }
            }
        for (int i = 0; i < N; i++)
            for (int k = 0; k < 3; k++)
                p[i][k] += 0.001 * v[i][k];
    }
    for (int i = 0; i < N; i++)
        e += m[i] * (v[i][0] * v[i][0] + v[i][1] * v[i][1]);
    return (uint64_t)(e * 1e9);
}

static uint64_t run_mandelbrot(void)
{
    uint64_t inside = 0;

    for (int y = 0; y < 720; y++)
        for (int x = 0; x < 180; x++) {
            double cr = x / 60.0 - 2.0, ci = y / 360.0 - 1.0, zr = 0, zi = 0;
            int i;

            for (i = 0; i < 200 && zr * zr + zi * zi < 4.0; i++) {
                double t = zr * zr - zi * zi + cr;

                zi = 2 * zr * zi + ci;
                zr = t;
            }
            inside += i;
        }
    return inside;
}

static uint64_t run_trig(void)
{
    double s = 0;

    for (int i = 1; i < 1500000; i++)
        s += sin(i * 0.001) * cos(i * 0.002) + exp(-i * 1e-6) + log(i);
    return (uint64_t)(s * 1e6);
}

/* ---- SIMD: vector extensions, so that the compiler's baseline decides the instructions */
typedef float v4f __attribute__((vector_size(16)));
typedef uint8_t v16u __attribute__((vector_size(16)));

static uint64_t run_sgemm(void)
{
    enum { N = 160 };
    static float a[N][N] __attribute__((aligned(16))), b[N][N] __attribute__((aligned(16))), c[N][N] __attribute__((aligned(16)));
    double sum = 0;

    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            a[i][j] = i - j;
            b[i][j] = i + j * 0.5f;
            c[i][j] = 0;
        }
    for (int r = 0; r < 40; r++)
        for (int i = 0; i < N; i++)
            for (int k = 0; k < N; k++) {
                v4f s = { a[i][k], a[i][k], a[i][k], a[i][k] };

                for (int j = 0; j < N; j += 4)
                    *(v4f *)&c[i][j] += s * *(v4f *)&b[k][j];
            }
    for (int i = 0; i < N; i++)
        sum += c[i][N - 1 - i];
    return (uint64_t)(int64_t)sum;
}

static uint64_t run_blend(void)         /* bytes: saturating-like mixes of two pictures */
{
    static v16u x[4096], y[4096];
    uint64_t sum = 0;

    for (int i = 0; i < 4096; i++)
        for (int k = 0; k < 16; k++) {
            x[i][k] = next_random();
            y[i][k] = next_random();
        }
    for (int r = 0; r < 6000; r++)
        for (int i = 0; i < 4096; i++)
            x[i] = ((x[i] & y[i]) + (((x[i] ^ y[i]) >> 1) & 0x7f)) ^ (x[i] > y[i]);
    for (int i = 0; i < 4096; i++)
        sum += x[i][i & 15];
    return sum;
}

static uint64_t run_strings(void)
{
    static char text[1 << 16];
    uint64_t sum = 0;

    memset(text, 'x', sizeof(text) - 1);
    for (int i = 0; i < 300000; i++) {
        size_t at = 60 + i % 2000;

        text[at] = 0;
        sum += strlen(text);
        text[at] = 'y';
        sum += (char *)memchr(text, 'y', sizeof(text)) - text;
        sum += strchr(text, 'y') - text;
        sum += memcmp(text, text + 4096, at - 1);
        text[at] = 'x';
    }
    return sum;
}

static uint64_t run_memcpy(void)
{
    static char a[4096], b[4096];

    for (int i = 0; i < 400000; i++) {
        a[i & 4095] = i;
        memcpy(b, a, sizeof(a));
        __asm__ volatile("" ::: "memory");
    }
    return b[17];
}

/* ---- hashing and compression */
static uint64_t run_sha256(void)
{
    static const uint32_t k[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98,
        0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
        0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8,
        0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
        0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819,
        0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
        0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
        0xc67178f2 };
    uint32_t h[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };

#define ROR(x, n) ((x) >> (n) | (x) << (32 - (n)))
    for (int block = 0; block < 60000; block++) {
        uint32_t w[64], s[8];

        for (int i = 0; i < 16; i++)
            w[i] = block * 16 + i;
        for (int i = 16; i < 64; i++)
            w[i] = w[i - 16] + (ROR(w[i - 15], 7) ^ ROR(w[i - 15], 18) ^ w[i - 15] >> 3) + w[i - 7] +
                   (ROR(w[i - 2], 17) ^ ROR(w[i - 2], 19) ^ w[i - 2] >> 10);
        memcpy(s, h, sizeof(s));
        for (int i = 0; i < 64; i++) {
            uint32_t t1 = s[7] + (ROR(s[4], 6) ^ ROR(s[4], 11) ^ ROR(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) + k[i] + w[i];
            uint32_t t2 = (ROR(s[0], 2) ^ ROR(s[0], 13) ^ ROR(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));

            memmove(s + 1, s, 28);
            s[4] += t1;
            s[0] = t1 + t2;
        }
        for (int i = 0; i < 8; i++)
            h[i] += s[i];
    }
    return h[0];
}

static uint64_t run_compress(void)      /* hash-chain LZ77 over text-like data */
{
    enum { N = 4 << 20, HASH = 1 << 14 };
    static uint8_t in[N];
    static uint32_t head[HASH];
    static const char *const words[] = { "the ", "guest ", "runs ", "its ", "code ", "on ", "a ", "virtual ", "machine ", "and " };
    uint64_t literals = 0, matches = 0;

    for (size_t i = 0; i < N;) {
        const char *w = words[next_random() % 10];

        for (; *w && i < N; w++)
            in[i++] = *w;
        if (i < N && next_random() % 8 == 0)
            in[i++] = next_random();
    }
    memset(head, 0, sizeof(head));
    for (size_t i = 0; i + 8 < N;) {
        uint32_t key = in[i] | in[i + 1] << 8 | in[i + 2] << 16 | (uint32_t)in[i + 3] << 24;
        uint32_t slot = key * 2654435761u >> 18, at = head[slot];
        size_t len = 0;

        head[slot] = i;
        while (at && i + len < N && len < 255 && in[at + len] == in[i + len])
            len++;
        if (len >= 4) {
            matches += len;
            i += len;
        } else {
            literals++;
            i++;
        }
    }
    return literals << 32 | matches;
}

/* ---- the kernel */
static uint64_t run_syscall(void)
{
    uint64_t n = 0;

    for (int i = 0; i < 300000; i++)
        n += syscall(SYS_getppid) != 0;
    return n;
}

static uint64_t run_clock(void)
{
    struct timespec t;
    uint64_t n = 0;

    for (int i = 0; i < 300000; i++)
        n += clock_gettime(CLOCK_MONOTONIC, &t) == 0;
    return n;
}

static uint64_t run_pipe(void)          /* context switches */
{
    int a[2], b[2];
    char c = 0;
    uint64_t n = 0;

    if (pipe(a) || pipe(b))
        return 0;
    if (fork() == 0) {
        while (read(a[0], &c, 1) == 1 && c != 'q')
            if (write(b[1], &c, 1) != 1)
                break;
        _exit(0);
    }
    for (int i = 0; i < 8000; i++)
        n += write(a[1], "x", 1) + read(b[0], &c, 1);
    n += write(a[1], "q", 1);
    wait(NULL);
    close(a[0]); close(a[1]); close(b[0]); close(b[1]);
    return n;
}

static uint64_t run_fork(void)
{
    for (int i = 0; i < 200; i++) {
        if (fork() == 0)
            _exit(0);
        wait(NULL);
    }
    return 200;
}

static uint64_t run_faults(void)
{
    enum { SIZE = 48 << 20 };

    for (int r = 0; r < 2; r++) {
        char *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        madvise(p, SIZE, MADV_NOHUGEPAGE);
        for (size_t i = 0; i < SIZE; i += 4096)
            p[i] = 1;
        munmap(p, SIZE);
    }
    return SIZE;
}

static volatile int caught;
static void on_signal(int n) { caught++; }
static uint64_t run_signal(void)
{
    signal(SIGUSR1, on_signal);
    for (int i = 0; i < 50000; i++)
        raise(SIGUSR1);
    return caught;
}

static const struct { const char *name; uint64_t (*run)(void); } programs[] = {
    { "integer", run_integer }, { "branches", run_branches }, { "calls", run_calls }, { "indirect", run_indirect },
    { "chase-l1", run_chase_l1 }, { "chase-ram", run_chase_ram }, { "interpreter", run_interpreter },
    { "sha256", run_sha256 }, { "compress", run_compress },
    { "nbody", run_nbody }, { "mandelbrot", run_mandelbrot }, { "trig", run_trig },
    { "sgemm", run_sgemm }, { "blend", run_blend }, { "strings", run_strings }, { "memcpy", run_memcpy },
    { "syscall", run_syscall }, { "clock", run_clock }, { "signal", run_signal }, { "pipe", run_pipe }, { "fork", run_fork },
    { "faults", run_faults },
};

int main(int argc, char **argv)
{
    for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
        struct timespec a, b;
        uint64_t sum;
        int wanted = argc < 2;

        for (int k = 1; k < argc; k++)
            wanted |= !strcmp(argv[k], programs[i].name);
        if (argc == 2 && !strcmp(argv[1], "list")) {
            puts(programs[i].name);
            continue;
        }
        if (!wanted)
            continue;
        seed = 88172645463325252ull;
        clock_gettime(CLOCK_MONOTONIC, &a);
        sum = programs[i].run();
        clock_gettime(CLOCK_MONOTONIC, &b);
        printf("%s %.6f %llx\n", programs[i].name, (b.tv_sec - a.tv_sec) + (b.tv_nsec - a.tv_nsec) * 1e-9,
               (unsigned long long)sum);
        fflush(stdout);
    }
    return 0;
}
