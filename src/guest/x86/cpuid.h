/* CPU models and CPUID of the x86 guest. */
#ifndef RHEA_GUEST_X86_CPUID_H
#define RHEA_GUEST_X86_CPUID_H

#include "system.h"

struct x86_model {
    const char *name, *summary;
    const char *parent;         /* whose features it starts from, or NULL */
    const char *vendor;         /* 12 letters; NULL: the parent's */
    unsigned family, model, stepping;
    const char *brand;
    uint32_t level, xlevel;     /* highest basic and extended leaf */
    const char *features;       /* names of features.def; "-name" takes away; "*" all there are */
    bool versioned;             /* "NAME-v2" and the like are names of it too */
};
/* A CPU as -cpu describes it. */
struct x86_identity {
    const struct x86_model *base;
    char vendor[13], brand[49];
    unsigned family, model, stepping;
    uint32_t level, xlevel;
    uint32_t features[FW_COUNT];
    unsigned phys_bits, phys_limit;     /* 0: the model's; no limit */
    bool enforce, host_phys_bits;
};

const struct x86_model *x86_model_find(const char *name);
bool x86_identity_parse(struct x86_identity *id, const char *spec, struct error *err);
const struct cpu_model *x86_models(unsigned *count);
const struct cpu_feature *x86_features(unsigned *count);

#endif
