/* What the host's processor can do. Intel SDM vol. 2, CPUID. */
#include <cpuid.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include "codegen.h"

static struct host_features features;
static uint32_t have;           /* bit per enum host_feature */
static char text[128];

static uint64_t xgetbv(void)
{
    uint32_t a, d;

    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return (uint64_t)d << 32 | a;
}

static void detect(void)
{
    uint32_t a = 0, b = 0, c = 0, d = 0, b7 = 0, c7 = 0, d7 = 0, cx = 0;
    bool ymm;

    __get_cpuid(1, &a, &b, &c, &d);
    ymm = c & bit_OSXSAVE && (xgetbv() & 6) == 6;
    __get_cpuid_count(7, 0, &a, &b7, &c7, &d7);
    __get_cpuid(0x80000001, &a, &b, &cx, &d);
    features = (struct host_features){
        .x87 = true, .avx = ymm && c & bit_AVX, .avx2 = ymm && b7 & bit_AVX2, .bmi1 = b7 & bit_BMI, .bmi2 = b7 & bit_BMI2,
        .lzcnt = cx & bit_LZCNT, .popcnt = c & bit_POPCNT, .movbe = c & bit_MOVBE, .fma = ymm && c & bit_FMA,
        .f16c = ymm && c & bit_F16C, .aes = c & bit_AES, .pclmul = c & bit_PCLMUL, .sha = b7 & bit_SHA,
        .gfni = c7 & bit_GFNI,
    };
    if (getenv("RHEA_HOST_FLOOR")) {    /* tests of what processors without all that would run */
        features = (struct host_features){ .popcnt = true };
        ymm = false;
    }
    if (!features.avx)
        features.bmi1 = features.bmi2 = false;  /* their VEX encodings need the OS's consent */
    have = 1u << HF_SSE2 | 1u << HF_SSSE3 | 1u << HF_SSE41 | 1u << HF_SSE42;
    have |= features.avx << HF_AVX | features.avx2 << HF_AVX2 | features.fma << HF_FMA | features.f16c << HF_F16C;
    have |= features.aes << HF_AES | features.pclmul << HF_PCLMUL | features.sha << HF_SHA;
    have |= features.bmi1 << HF_BMI1 | features.bmi2 << HF_BMI2 | features.lzcnt << HF_LZCNT;
    have |= features.popcnt << HF_POPCNT | features.gfni << HF_GFNI;
    snprintf(text, sizeof(text), "sse4.2%s%s%s%s%s%s%s", features.avx ? " avx" : "", features.avx2 ? " avx2" : "",
             features.fma ? " fma" : "", features.bmi1 ? " bmi1" : "", features.bmi2 ? " bmi2" : "",
             features.aes ? " aes" : "", features.sha ? " sha" : "");
}

const struct host_features *host_features(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, detect);
    return &features;
}

bool host_has(enum host_feature f)
{
    host_features();
    return have >> f & 1;
}

uint64_t codegen_host_key(void)
{
    const bool *f = (const bool *)host_features();
    uint64_t key = (uint64_t)have << 32;

    for (unsigned n = 0; n < sizeof(struct host_features); n++)
        key |= (uint64_t)f[n] << n;
    return key;
}

const char *codegen_host_features(void)
{
    host_features();
    return text;
}
