/* CPU models: identification registers from the Technical Reference Manuals, the features that follow from them, and the
 * properties of -cpu. `max` is the other way round: its registers announce every feature that this build implements. */
#include <glib.h>
#include <string.h>
#include "rhea/base/log.h"
#include "rhea/base/options.h"
#include "system.h"

/* op1 = 0, CRn = 0: [CRm][op2] */
enum { ID_MIDR = 0x00, ID_MPIDR = 0x05, ID_REVIDR = 0x06, ID_PFR0 = 0x10, ID_PFR1, ID_DFR0, ID_AFR0, ID_MMFR0, ID_MMFR1, ID_MMFR2,
       ID_MMFR3, ID_ISAR0 = 0x20, ID_ISAR1, ID_ISAR2, ID_ISAR3, ID_ISAR4, ID_ISAR5, ID_MMFR4, ID_ISAR6, MVFR0 = 0x30, MVFR1, MVFR2,
       ID_PFR2 = 0x34, ID_DFR1, ID_MMFR5, ID_AA64PFR0 = 0x40, ID_AA64PFR1, ID_AA64ZFR0 = 0x44, ID_AA64DFR0 = 0x50, ID_AA64DFR1,
       ID_AA64ISAR0 = 0x60, ID_AA64ISAR1, ID_AA64ISAR2, ID_AA64MMFR0 = 0x70, ID_AA64MMFR1, ID_AA64MMFR2,
       ID_CTR = 0x08, ID_DCZID = 0x09, ID_CLIDR = 0x0a, ID_FPSID = 0x0b, ID_COUNT = 0x80 };

struct arm_model {
    const char *name, *summary;
    bool v7, is_max;
    struct { uint8_t reg; uint64_t value; } id[44];
    uint32_t ccsidr[3];         /* L1 data, L1 instruction, L2 */
    uint8_t features[28];       /* beside what ID registers say */
};
enum { PAUTH_IMPDEF, PAUTH_QARMA5, PAUTH_QARMA3 };
struct arm_identity { uint64_t id[ID_COUNT], given[ID_COUNT] /* before arm_model_configure() */; uint32_t ccsidr[3]; uint8_t pauth; struct arm_features wanted; };

#define V8_32 AF_V4T, AF_V5, AF_V6, AF_V6K, AF_V6T2, AF_V7, AF_V7MP, AF_V8, AF_IDIVT, AF_IDIVA, AF_LPAE, AF_GENERIC_TIMER, AF_AArch64
#define V7_32 AF_V4T, AF_V5, AF_V6, AF_V6K, AF_V6T2, AF_V7, AF_V7MP, AF_VFP2, AF_VFP3, AF_VFPD32, AF_VFPDP, AF_VFPFP16, AF_NEON, AF_TZ, AF_THUMBEE

static const struct arm_model models[] = {
    { .name = "max", .summary = "every feature that this build implements", .is_max = true,
      .id = { { ID_MIDR, 0x000f0510 }, { ID_CTR, 0x8444c004 }, { ID_DCZID, 4 }, { ID_CLIDR, 0x0a200023 }, { ID_FPSID, 0x41034070 },
              { ID_PFR0, 0x00000131 }, { ID_PFR1, 0x00011011 }, { ID_DFR0, 0x03010066 }, { ID_MMFR0, 0x10101105 },
              { ID_MMFR1, 0x40000000 }, { ID_MMFR2, 0x01260000 }, { ID_MMFR3, 0x02102211 }, { ID_ISAR0, 0x02101110 },
              { ID_ISAR1, 0x13112111 }, { ID_ISAR2, 0x21232042 }, { ID_ISAR3, 0x01112131 }, { ID_ISAR4, 0x00011142 },
              { ID_ISAR5, 0x00011121 }, { MVFR0, 0x10110222 }, { MVFR1, 0x12111111 }, { MVFR2, 0x43 },
              { ID_AA64PFR0, 0x2222 }, { ID_AA64DFR0, 0x10305106 }, { ID_AA64MMFR0, 0x00101125 } },
      .ccsidr = { 0x701fe00a, 0x201fe012, 0x70ffe07a }, .features = { V8_32 } },
    { .name = "cortex-a53", .summary = "Cortex-A53 r0p4 (DDI 0500)",
      .id = { { ID_MIDR, 0x410fd034 }, { ID_REVIDR, 0x100 }, { ID_CTR, 0x84448004 }, { ID_DCZID, 4 }, { ID_CLIDR, 0x0a200023 },
              { ID_FPSID, 0x41034030 }, { ID_PFR0, 0x131 }, { ID_PFR1, 0x00011011 }, { ID_DFR0, 0x03010066 }, { ID_MMFR0, 0x10101105 },
              { ID_MMFR1, 0x40000000 }, { ID_MMFR2, 0x01260000 }, { ID_MMFR3, 0x02102211 }, { ID_ISAR0, 0x02101110 },
              { ID_ISAR1, 0x13112111 }, { ID_ISAR2, 0x21232042 }, { ID_ISAR3, 0x01112131 }, { ID_ISAR4, 0x00011142 },
              { ID_ISAR5, 0x00011121 }, { MVFR0, 0x10110222 }, { MVFR1, 0x12111111 }, { MVFR2, 0x43 }, { ID_AA64PFR0, 0x2222 },
              { ID_AA64DFR0, 0x10305106 }, { ID_AA64ISAR0, 0x00011120 }, { ID_AA64MMFR0, 0x1122 } },
      .ccsidr = { 0x700fe01a, 0x201fe00a, 0x707fe07a }, .features = { V8_32 } },
    { .name = "cortex-a55", .summary = "Cortex-A55 r2p0 (100442)",
      .id = { { ID_MIDR, 0x412fd050 }, { ID_CTR, 0x84448004 }, { ID_DCZID, 4 }, { ID_CLIDR, 0x82000023 },
              { ID_PFR0, 0x10010131 }, { ID_PFR1, 0x00011011 }, { ID_PFR2, 0x11 }, { ID_DFR0, 0x04010088 }, { ID_MMFR0, 0x10201105 },
              { ID_MMFR1, 0x40000000 }, { ID_MMFR2, 0x01260000 }, { ID_MMFR3, 0x02122211 }, { ID_MMFR4, 0x00021110 },
              { ID_ISAR0, 0x02101110 }, { ID_ISAR1, 0x13112111 }, { ID_ISAR2, 0x21232042 }, { ID_ISAR3, 0x01112131 },
              { ID_ISAR4, 0x00011142 }, { ID_ISAR5, 0x01011121 }, { ID_ISAR6, 0x10 }, { MVFR0, 0x10110222 }, { MVFR1, 0x13211111 },
              { MVFR2, 0x43 }, { ID_AA64PFR0, 0x10112222 }, { ID_AA64PFR1, 0x10 }, { ID_AA64DFR0, 0x10305408 },
              { ID_AA64ISAR0, UINT64_C(0x0000100010211120) }, { ID_AA64ISAR1, 0x100001 }, { ID_AA64MMFR0, 0x00101122 },
              { ID_AA64MMFR1, 0x10212122 }, { ID_AA64MMFR2, 0x1011 } },
      .ccsidr = { 0x700fe01a, 0x200fe01a, 0x703fe07a }, .features = { V8_32 } },
    { .name = "cortex-a57", .summary = "Cortex-A57 r1p0 (DDI 0488)",
      .id = { { ID_MIDR, 0x411fd070 }, { ID_CTR, 0x8444c004 }, { ID_DCZID, 4 }, { ID_CLIDR, 0x0a200023 },
              { ID_FPSID, 0x41034070 }, { ID_PFR0, 0x131 }, { ID_PFR1, 0x00011011 }, { ID_DFR0, 0x03010066 }, { ID_MMFR0, 0x10101105 },
              { ID_MMFR1, 0x40000000 }, { ID_MMFR2, 0x01260000 }, { ID_MMFR3, 0x02102211 }, { ID_ISAR0, 0x02101110 },
              { ID_ISAR1, 0x13112111 }, { ID_ISAR2, 0x21232042 }, { ID_ISAR3, 0x01112131 }, { ID_ISAR4, 0x00011142 },
              { ID_ISAR5, 0x00011121 }, { MVFR0, 0x10110222 }, { MVFR1, 0x12111111 }, { MVFR2, 0x43 }, { ID_AA64PFR0, 0x2222 },
              { ID_AA64DFR0, 0x10305106 }, { ID_AA64ISAR0, 0x00011120 }, { ID_AA64MMFR0, 0x1124 } },
      .ccsidr = { 0x701fe00a, 0x201fe012, 0x70ffe07a }, .features = { V8_32 } },
    { .name = "cortex-a72", .summary = "Cortex-A72 r0p3 (100095)",
      .id = { { ID_MIDR, 0x410fd083 }, { ID_CTR, 0x8444c004 }, { ID_DCZID, 4 }, { ID_CLIDR, 0x0a200023 },
              { ID_FPSID, 0x41034080 }, { ID_PFR0, 0x131 }, { ID_PFR1, 0x00011011 }, { ID_DFR0, 0x03010066 }, { ID_MMFR0, 0x10201105 },
              { ID_MMFR1, 0x40000000 }, { ID_MMFR2, 0x01260000 }, { ID_MMFR3, 0x02102211 }, { ID_ISAR0, 0x02101110 },
              { ID_ISAR1, 0x13112111 }, { ID_ISAR2, 0x21232042 }, { ID_ISAR3, 0x01112131 }, { ID_ISAR4, 0x00011142 },
              { ID_ISAR5, 0x00011121 }, { MVFR0, 0x10110222 }, { MVFR1, 0x12111111 }, { MVFR2, 0x43 }, { ID_AA64PFR0, 0x2222 },
              { ID_AA64DFR0, 0x10305106 }, { ID_AA64ISAR0, 0x00011120 }, { ID_AA64MMFR0, 0x1124 } },
      .ccsidr = { 0x701fe00a, 0x201fe012, 0x707fe07a }, .features = { V8_32 } },
    { .name = "cortex-a76", .summary = "Cortex-A76 r4p1 (100798)",
      .id = { { ID_MIDR, 0x414fd0b1 }, { ID_CTR, 0x8444c004 }, { ID_DCZID, 4 }, { ID_CLIDR, 0x82000023 },
              { ID_PFR0, 0x10010131 }, { ID_PFR1, 0x00010000 }, { ID_PFR2, 0x11 }, { ID_DFR0, 0x04010088 }, { ID_MMFR0, 0x10201105 },
              { ID_MMFR1, 0x40000000 }, { ID_MMFR2, 0x01260000 }, { ID_MMFR3, 0x02122211 }, { ID_MMFR4, 0x00021110 },
              { ID_ISAR0, 0x02101110 }, { ID_ISAR1, 0x13112111 }, { ID_ISAR2, 0x21232042 }, { ID_ISAR3, 0x01112131 },
              { ID_ISAR4, 0x00010142 }, { ID_ISAR5, 0x01011121 }, { ID_ISAR6, 0x10 }, { MVFR0, 0x10110222 }, { MVFR1, 0x13211111 },
              { MVFR2, 0x43 }, { ID_AA64PFR0, UINT64_C(0x1100000010111112) }, { ID_AA64PFR1, 0x10 }, { ID_AA64DFR0, 0x10305408 },
              { ID_AA64ISAR0, UINT64_C(0x0000100010211120) }, { ID_AA64ISAR1, 0x100001 }, { ID_AA64MMFR0, 0x00101122 },
              { ID_AA64MMFR1, 0x10212122 }, { ID_AA64MMFR2, 0x1011 } },
      .ccsidr = { 0x701fe01a, 0x201fe01a, 0x707fe03a }, .features = { V8_32 } },
    { .name = "neoverse-n1", .summary = "Neoverse N1 r4p1 (100616)",
      .id = { { ID_MIDR, 0x414fd0c1 }, { ID_CTR, 0x8444c004 }, { ID_DCZID, 4 }, { ID_CLIDR, 0x82000023 },
              { ID_PFR0, 0x10010131 }, { ID_PFR1, 0x00010000 }, { ID_PFR2, 0x11 }, { ID_DFR0, 0x04010088 }, { ID_MMFR0, 0x10201105 },
              { ID_MMFR1, 0x40000000 }, { ID_MMFR2, 0x01260000 }, { ID_MMFR3, 0x02122211 }, { ID_MMFR4, 0x00021110 },
              { ID_ISAR0, 0x02101110 }, { ID_ISAR1, 0x13112111 }, { ID_ISAR2, 0x21232042 }, { ID_ISAR3, 0x01112131 },
              { ID_ISAR4, 0x00010142 }, { ID_ISAR5, 0x01011121 }, { ID_ISAR6, 0x10 }, { MVFR0, 0x10110222 }, { MVFR1, 0x13211111 },
              { MVFR2, 0x43 }, { ID_AA64PFR0, UINT64_C(0x1100000010111112) }, { ID_AA64PFR1, 0x20 },
              { ID_AA64DFR0, 0x10305408 }, { ID_AA64ISAR0, UINT64_C(0x0000100010211120) },
              { ID_AA64ISAR1, 0x100001 }, { ID_AA64MMFR0, 0x00101125 }, { ID_AA64MMFR1, 0x10212122 }, { ID_AA64MMFR2, 0x1011 } },
      .ccsidr = { 0x701fe01a, 0x201fe01a, 0x70ffe03a }, .features = { V8_32 } },
    { .name = "cortex-a7", .summary = "Cortex-A7 r0p5 (DDI 0464)", .v7 = true,
      .id = { { ID_MIDR, 0x410fc075 }, { ID_CTR, 0x84448003 }, { ID_CLIDR, 0x0a200023 }, { ID_FPSID, 0x41023075 },
              { ID_PFR0, 0x1131 }, { ID_PFR1, 0x00011011 }, { ID_DFR0, 0x02010555 }, { ID_MMFR0, 0x10101105 }, { ID_MMFR1, 0x40000000 },
              { ID_MMFR2, 0x01240000 }, { ID_MMFR3, 0x02102211 }, { ID_ISAR0, 0x02101110 }, { ID_ISAR1, 0x13112111 },
              { ID_ISAR2, 0x21232041 }, { ID_ISAR3, 0x11112131 }, { ID_ISAR4, 0x10011142 }, { MVFR0, 0x10110222 }, { MVFR1, 0x11111111 } },
      .ccsidr = { 0x701fe00a, 0x201fe00a, 0x711fe07a },
      .features = { V7_32, AF_IDIVT, AF_IDIVA, AF_VFP4, AF_LPAE, AF_GENERIC_TIMER, AF_VE32, AF_EL2, AF_EL3, AF_PMU, AF_CBAR } },
    { .name = "cortex-a9", .summary = "Cortex-A9 r0p0 (DDI 0388)", .v7 = true,
      .id = { { ID_MIDR, 0x410fc090 }, { ID_CTR, 0x80038003 }, { ID_CLIDR, 0x09000003 }, { ID_FPSID, 0x41033090 },
              { ID_PFR0, 0x1031 }, { ID_PFR1, 0x11 }, { ID_MMFR0, 0x00100103 }, { ID_MMFR1, 0x20000000 }, { ID_MMFR2, 0x01230000 },
              { ID_MMFR3, 0x00002111 }, { ID_ISAR0, 0x00101111 }, { ID_ISAR1, 0x13112111 }, { ID_ISAR2, 0x21232041 },
              { ID_ISAR3, 0x11112131 }, { ID_ISAR4, 0x00111142 }, { MVFR0, 0x11110222 }, { MVFR1, 0x01111111 } },
      .ccsidr = { 0xe00fe019, 0x200fe019, 0 },
      .features = { V7_32, AF_EL3, AF_CBAR, AF_PMU } },
    { .name = "cortex-a15", .summary = "Cortex-A15 r4p0 (DDI 0438)", .v7 = true,
      .id = { { ID_MIDR, 0x414fc0f0 }, { ID_CTR, 0x8444c004 }, { ID_CLIDR, 0x0a200023 }, { ID_FPSID, 0x410430f0 },
              { ID_PFR0, 0x1131 }, { ID_PFR1, 0x00011011 }, { ID_DFR0, 0x02010555 }, { ID_MMFR0, 0x10201105 }, { ID_MMFR1, 0x20000000 },
              { ID_MMFR2, 0x01240000 }, { ID_MMFR3, 0x02102211 }, { ID_ISAR0, 0x02101110 }, { ID_ISAR1, 0x13112111 },
              { ID_ISAR2, 0x21232041 }, { ID_ISAR3, 0x11112131 }, { ID_ISAR4, 0x10011142 }, { MVFR0, 0x10110222 }, { MVFR1, 0x11111111 } },
      .ccsidr = { 0x701fe00a, 0x201fe00a, 0x711fe07a },
      .features = { V7_32, AF_IDIVT, AF_IDIVA, AF_VFP4, AF_LPAE, AF_GENERIC_TIMER, AF_VE32, AF_EL2, AF_EL3, AF_PMU, AF_CBAR } },
};

/* What a field of an ID register announces: at least `value` means the feature. `have`: this build implements it, so that
 * `max` announces it. Fields of one register in rising order of value. D24.2.73 and following. */
static const struct id_field { uint8_t reg, lsb, value, feature; bool have; } fields[] = {
    { ID_AA64PFR0, 0, 2, AF_EL0_32, true }, { ID_AA64PFR0, 4, 2, AF_EL1_32, true }, { ID_AA64PFR0, 8, 1, AF_EL2, true },
    { ID_AA64PFR0, 12, 1, AF_EL3, true }, { ID_AA64PFR0, 16, 1, AF_FP16, true }, { ID_AA64PFR0, 20, 1, AF_FP16, true },
    { ID_AA64PFR0, 28, 1, AF_RAS, true }, { ID_AA64PFR0, 48, 1, AF_DIT, true }, { ID_AA64PFR0, 56, 1, AF_CSV2, true },
    { ID_AA64PFR0, 60, 1, AF_CSV3, true }, { ID_AA64PFR1, 0, 1, AF_BTI, true }, { ID_AA64PFR1, 4, 1, AF_SSBS, true },
    { ID_AA64PFR1, 4, 2, AF_SSBS2, true }, { ID_AA64PFR1, 8, 2, AF_MTE, false },
    { ID_AA64DFR0, 8, 1, AF_PMU, true }, { ID_AA64DFR0, 8, 5, AF_PMUv3p4, false }, { ID_AA64DFR0, 0, 8, AF_Debugv8p2, false },
    { ID_AA64ISAR0, 4, 1, AF_AES, true }, { ID_AA64ISAR0, 4, 2, AF_PMULL, true }, { ID_AA64ISAR0, 8, 1, AF_SHA1, true },
    { ID_AA64ISAR0, 12, 1, AF_SHA256, true }, { ID_AA64ISAR0, 12, 2, AF_SHA512, true }, { ID_AA64ISAR0, 16, 1, AF_CRC32, true },
    { ID_AA64ISAR0, 20, 2, AF_LSE, true }, { ID_AA64ISAR0, 28, 1, AF_RDM, true }, { ID_AA64ISAR0, 32, 1, AF_SHA3, true },
    { ID_AA64ISAR0, 36, 1, AF_SM3, true }, { ID_AA64ISAR0, 40, 1, AF_SM4, true }, { ID_AA64ISAR0, 44, 1, AF_DotProd, true },
    { ID_AA64ISAR0, 48, 1, AF_FHM, true }, { ID_AA64ISAR0, 52, 1, AF_FlagM, true }, { ID_AA64ISAR0, 52, 2, AF_FlagM2, true },
    { ID_AA64ISAR0, 56, 1, AF_TLBIOS, true }, { ID_AA64ISAR0, 56, 2, AF_TLBIRANGE, true }, { ID_AA64ISAR0, 60, 1, AF_RNG, true },
    { ID_AA64ISAR1, 0, 1, AF_DPB, true }, { ID_AA64ISAR1, 0, 2, AF_DPB2, true }, { ID_AA64ISAR1, 4, 1, AF_PAuth, false },
    { ID_AA64ISAR1, 8, 1, AF_PAuth, true }, { ID_AA64ISAR1, 8, 3, AF_PAuth2, true }, { ID_AA64ISAR1, 8, 4, AF_FPAC, true },
    { ID_AA64ISAR1, 24, 1, AF_PAuth, false }, { ID_AA64ISAR1, 28, 1, AF_PAuth, true }, { ID_AA64ISAR1, 12, 1, AF_JSCVT, true }, { ID_AA64ISAR1, 16, 1, AF_FCMA, true },
    { ID_AA64ISAR1, 20, 1, AF_LRCPC, true }, { ID_AA64ISAR1, 20, 2, AF_LRCPC2, true }, { ID_AA64ISAR1, 32, 1, AF_FRINTTS, true },
    { ID_AA64ISAR1, 36, 1, AF_SB, true }, { ID_AA64ISAR1, 40, 1, AF_SPECRES, true }, { ID_AA64ISAR1, 44, 1, AF_BF16, true },
    { ID_AA64ISAR1, 52, 1, AF_I8MM, true }, { ID_AA64ISAR2, 0, 2, AF_WFxT, true }, { ID_AA64ISAR2, 20, 1, AF_HBC, true },
    { ID_AA64ISAR2, 16, 1, AF_MOPS, false }, { ID_AA64ISAR2, 52, 1, AF_CSSC, true },
    { ID_AA64MMFR0, 56, 1, AF_FGT, false }, { ID_AA64MMFR0, 60, 1, AF_ECV, false },
    { ID_AA64MMFR1, 0, 2, AF_HAFDBS, true }, { ID_AA64MMFR1, 4, 2, AF_VMID16, true }, { ID_AA64MMFR1, 8, 1, AF_VHE, true },
    { ID_AA64MMFR1, 12, 1, AF_HPDS, true }, { ID_AA64MMFR1, 16, 1, AF_LOR, true }, { ID_AA64MMFR1, 20, 1, AF_PAN, true },
    { ID_AA64MMFR1, 20, 2, AF_PAN2, true }, { ID_AA64MMFR1, 20, 3, AF_PAN3, true }, { ID_AA64MMFR1, 28, 1, AF_XNX, true },
    { ID_AA64MMFR1, 40, 1, AF_HCX, false }, { ID_AA64MMFR1, 44, 1, AF_AFP, false },
    { ID_AA64MMFR2, 0, 1, AF_TTCNP, true }, { ID_AA64MMFR2, 4, 1, AF_UAO, true }, { ID_AA64MMFR2, 16, 1, AF_LVA, true },
    { ID_AA64MMFR2, 24, 1, AF_NV, false }, { ID_AA64MMFR2, 28, 1, AF_TTST, true }, { ID_AA64MMFR2, 32, 1, AF_LSE2, true },
    { ID_AA64MMFR2, 36, 1, AF_IDST, true }, { ID_AA64MMFR2, 40, 1, AF_S2FWB, true }, { ID_AA64MMFR2, 52, 2, AF_BBM, true },
    { ID_AA64MMFR2, 56, 2, AF_EVT, false }, { ID_AA64MMFR2, 60, 1, AF_E0PD, true },
};

/* What AArch32's own ID registers say of features that `max` has and that work there: A32 and T32 have no FHM, BF16 and I8MM here, no
 * ATS1CPRP (PAN2) and no RAS registers. */
static const struct id_field fields32[] = {
    { ID_ISAR6, 0, 1, AF_JSCVT, true }, { ID_ISAR6, 4, 1, AF_DotProd, true }, { ID_ISAR6, 12, 1, AF_SB, true },
    { MVFR1, 20, 2, AF_FP16, true }, { MVFR1, 24, 3, AF_FP16, true }, { ID_MMFR3, 16, 1, AF_PAN, true }, { ID_PFR0, 24, 1, AF_DIT, true },
    { ID_PFR2, 0, 1, AF_CSV3, true }, { ID_PFR2, 4, 1, AF_SSBS, true }, { ID_MMFR4, 8, 1, AF_XNX, true }, { ID_MMFR4, 12, 1, AF_TTCNP, true },
    { ID_MMFR4, 16, 1, AF_HPDS, true },
};

static const char *const feature_names[AF_COUNT] = {
#define FEATURE(id, summary) [AF_##id] = #id,
#include "features.def"
#undef FEATURE
};

static void feature_set(struct arm_features *f, unsigned n, bool on)
{
    f->bits[n >> 6] = (f->bits[n >> 6] & ~BIT(n & 63)) | (uint64_t)on << (n & 63);
}

/* ---- registers and features agree */

static void field_write(struct arm_identity *id, const struct id_field *f, unsigned value)
{
    id->id[f->reg] = (id->id[f->reg] & ~(UINT64_C(15) << f->lsb)) | (uint64_t)value << f->lsb;
}

static unsigned field_read(const struct arm_identity *id, const struct id_field *f) { return id->id[f->reg] >> f->lsb & 15; }

static void features_from_fields(struct arm_cpu *c, const struct arm_identity *id)
{
    for (unsigned n = 0; n < G_N_ELEMENTS(fields); n++) {
        unsigned v = field_read(id, &fields[n]);

        if (v >= fields[n].value && !(v == 15 && fields[n].reg == ID_AA64PFR0))
            feature_set(&c->features, fields[n].feature, true);
    }
}

/* A feature that is off takes its field down to the highest value whose feature is still on. */
static void fields_from_features(struct arm_cpu *c, struct arm_identity *id)
{
    for (unsigned n = 0; n < G_N_ELEMENTS(fields); n++) {
        const struct id_field *f = &fields[n];

        if (!arm_has(&c->features, f->feature) && field_read(id, f) >= f->value && !(f->reg == ID_AA64PFR0 && (f->lsb == 16 || f->lsb == 20)))
            field_write(id, f, f->reg == ID_AA64PFR0 && f->lsb < 8 ? 1 : f->value - 1u);
        else if (!arm_has(&c->features, f->feature) && f->reg == ID_AA64PFR0 && (f->lsb == 16 || f->lsb == 20) && field_read(id, f) == 1)
            field_write(id, f, 0);
    }
}

static void max_fields(struct arm_identity *id)
{
    for (unsigned n = 0; n < G_N_ELEMENTS(fields); n++)
        if (fields[n].have && field_read(id, &fields[n]) < fields[n].value)
            field_write(id, &fields[n], fields[n].value);
    /* PA 52 bits, 16-bit ASIDs, all granules, with 52-bit descriptors (LPA2) for 4K and 16K. */
    id->id[ID_AA64MMFR0] = (id->id[ID_AA64MMFR0] & ~UINT64_C(0xffffffffff)) | UINT64_C(0x0010201126);
    id->id[ID_AA64MMFR0] = (id->id[ID_AA64MMFR0] & ~UINT64_C(0xf0f00000)) | UINT64_C(0x10200000);
    id->id[ID_ISAR5] = 0x11011121;
    id->id[ID_AA64PFR0] |= UINT64_C(3) << 56;   /* CSV2_3: no branch is predicted, so none from elsewhere */
}

/* Pointer authentication of `max`: an algorithm of our own (API, GPI) unless QARMA is asked for (APA, GPA; APA3, GPA3 in
 * ID_AA64ISAR2_EL1). */
static void choose_pauth(struct arm_cpu *c, struct arm_identity *id)
{
    uint64_t level = bits(id->id[ID_AA64ISAR1], 11, 8);

    if (!level || !has(c, AF_PAuth))
        return;
    if (id->pauth == PAUTH_IMPDEF) {
        feature_set(&c->features, AF_PACIMP, true);
        return;
    }
    id->id[ID_AA64ISAR1] &= ~UINT64_C(0xf0000f00);
    if (id->pauth == PAUTH_QARMA5)
        id->id[ID_AA64ISAR1] |= level << 4 | BIT(24);
    else
        id->id[ID_AA64ISAR2] |= level << 12 | BIT(8);
    feature_set(&c->features, id->pauth == PAUTH_QARMA5 ? AF_PACQARMA5 : AF_PACQARMA3, true);
}

/* Features that hang on more than one field, or on a value between. */
static void derived_features(struct arm_cpu *c, const struct arm_identity *id, const struct arm_model *m)
{
    struct arm_features *f = &c->features;

    if (m->v7)
        return;
    feature_set(f, AF_FP, bits(id->id[ID_AA64PFR0], 19, 16) != 15);
    feature_set(f, AF_AdvSIMD, bits(id->id[ID_AA64PFR0], 23, 20) != 15);
    for (unsigned n = AF_VFP2; n <= AF_NEON; n++)
        feature_set(f, n, true);
    feature_set(f, AF_VE32, true);
    feature_set(f, AF_LPA, bits(id->id[ID_AA64MMFR0], 3, 0) >= 6);
    if (bits(id->id[ID_AA64MMFR0], 31, 28) == 1 || bits(id->id[ID_AA64MMFR0], 23, 20) == 2)
        feature_set(f, AF_LPA2, true);
    if (bits(id->id[ID_AA64ISAR1], 7, 4) || bits(id->id[ID_AA64ISAR1], 11, 8))
        feature_set(f, AF_PAuth, true);
    feature_set(f, AF_PMU, bits(id->id[ID_AA64DFR0], 11, 8) && bits(id->id[ID_AA64DFR0], 11, 8) != 15);
}

/* ---- -cpu MODEL,property=value */

static bool parse_switch(const char *v, bool *on)
{
    if (!v || !strcmp(v, "on") || !strcmp(v, "yes") || !strcmp(v, "true"))
        return *on = true;
    *on = false;
    return !strcmp(v, "off") || !strcmp(v, "no") || !strcmp(v, "false");
}

static int feature_by_name(const char *name)
{
    for (unsigned n = 1; n < AF_COUNT; n++)
        if (feature_names[n] && !g_ascii_strcasecmp(feature_names[n], name))
            return (int)n;
    return -1;
}

static const char *const missing[] = { "sve", "sme", "sve-max-vq", "sme_fa64" };

static bool option_refused(const char *key, bool on, struct error *err)
{
    for (unsigned n = 0; n < G_N_ELEMENTS(missing); n++)
        if (!strcmp(key, missing[n]) || g_str_has_prefix(key, "sve") || g_str_has_prefix(key, "sme"))
            return on && !error_setf(err, ERR_GENERIC, "leave it out, or say off", "-cpu: this build does not implement '%s'", key);
    return false;
}

static bool parse_option(struct arm_cpu *c, struct arm_identity *id, const char *opt, struct error *err)
{
    static const char *const algorithm[] = { "pauth-impdef", "pauth-qarma5", "pauth-qarma3" };
    static const char *const accepted[] = { "backcompat-cntfrq", "cfgend", "kvm-no-adjvtime",
                                            "kvm-steal-time", "migratable", "enforce", "check" };
    const char *eq = strchr(opt, '='), *value = eq ? eq + 1 : NULL;
    g_autofree char *key = *opt == '+' || *opt == '-' ? g_strdup(opt + 1) : eq ? g_strndup(opt, (gsize)(eq - opt)) : g_strdup(opt);
    bool on = *opt != '-';
    int n;

    if (value && !parse_switch(value, &on) && !g_ascii_isdigit(*value))
        return error_setf(err, ERR_GENERIC, "say on or off", "-cpu: bad value '%s' for '%s'", value, key);
    if (!strcmp(key, "aarch64")) {
        if (on)
            return true;
        return error_set(err, ERR_GENERIC, "-cpu: aarch64=off needs hardware virtualization", "use the machine of the 32-bit guest: rhea-system-arm");
    }
    if (option_refused(key, on, err))
        return false;
    if (g_str_has_prefix(key, "sve") || g_str_has_prefix(key, "sme"))
        return true;
    if (!strcmp(key, "midr") && value) {
        id->id[ID_MIDR] = g_ascii_strtoull(value, NULL, 0);
        return true;
    }
    for (unsigned k = 0; k < G_N_ELEMENTS(accepted); k++)
        if (!strcmp(key, accepted[k]))
            return true;
    for (unsigned k = 0; k < G_N_ELEMENTS(algorithm); k++) {
        if (!strcmp(key, algorithm[k])) {
            id->pauth = on ? k : k == PAUTH_IMPDEF ? PAUTH_QARMA5 : id->pauth;
            return true;
        }
    }
    if (!strcmp(key, "pmu")) {
        if (!on) {
            id->id[ID_AA64DFR0] &= ~UINT64_C(0xf00);
            id->id[ID_DFR0] &= ~UINT64_C(0xf000000);
        }
        feature_set(&c->features, AF_PMU, on);
        return true;
    }
    n = feature_by_name(key);
    if (n < 0)
        return error_setf(err, ERR_GENERIC, "`-cpu help` lists models and features", "-cpu: there is no feature or property '%s'", key);
    if (on && !arm_has(&c->features, (unsigned)n))
        return error_setf(err, ERR_GENERIC, "-cpu max has all that this build implements", "-cpu: this model has no '%s'", key);
    feature_set(&c->features, (unsigned)n, on);
    return true;
}

static const struct arm_model *model_find(const char *name)
{
    for (unsigned n = 0; n < G_N_ELEMENTS(models); n++)
        if (!strcmp(models[n].name, name))
            return &models[n];
    return NULL;
}

static bool machine_is_32(const struct arm_cpu *c) { return c->cpu.guest && !strcmp(c->cpu.guest->name, "arm"); }

/* `max` of the 32-bit machine: an AArch32 processor with Armv8's instructions. */
static void make_32(struct arm_cpu *c)
{
    static const uint8_t off[] = { AF_AArch64, AF_EL0_32, AF_EL1_32, AF_PAuth, AF_BTI, AF_VHE, AF_LVA, AF_LPA, AF_LPA2, AF_HAFDBS };

    for (unsigned n = 0; n < G_N_ELEMENTS(off); n++)
        feature_set(&c->features, off[n], false);
    feature_set(&c->features, AF_TZ, true);
}

bool arm_model_parse(struct arm_cpu *c, const char *spec, struct error *err)
{
    g_auto(GStrv) parts = g_strsplit(spec && *spec ? spec : machine_is_32(c) ? "cortex-a15" : "cortex-a57", ",", -1);
    struct arm_identity *id;
    const struct arm_model *m;

    if (g_str_has_suffix(parts[0], "-arm-cpu"))
        parts[0][strlen(parts[0]) - strlen("-arm-cpu")] = 0;
    m = model_find(parts[0]);
    if (!m)
        return error_setf(err, ERR_GENERIC, "`-cpu help` lists all", "there is no CPU model '%s'", parts[0]);
    if (m->v7 && !machine_is_32(c))
        log_at(LOG_CPU_RESET, "%s on a 64-bit machine: AArch32 alone\n", m->name);
    g_free(c->identity);
    c->identity = id = g_new0(struct arm_identity, 1);
    for (unsigned n = 0; n < G_N_ELEMENTS(m->id) && (m->id[n].reg || m->id[n].value); n++)
        id->id[m->id[n].reg] = m->id[n].value;
    memcpy(id->ccsidr, m->ccsidr, sizeof(id->ccsidr));
    memset(&c->features, 0, sizeof(c->features));
    for (unsigned n = 0; n < G_N_ELEMENTS(m->features); n++)
        if (m->features[n])
            feature_set(&c->features, m->features[n], true);
    if (m->is_max)
        max_fields(id);
    if (!m->v7)
        features_from_fields(c, id);
    derived_features(c, id, m);
    for (unsigned n = 1; parts[n]; n++)
        if (*parts[n] && !parse_option(c, id, parts[n], err))
            return false;
    choose_pauth(c, id);
    if (machine_is_32(c) && !m->v7)
        make_32(c);
    for (unsigned n = 0; m->is_max && n < G_N_ELEMENTS(fields32); n++)
        if (arm_has(&c->features, fields32[n].feature))
            field_write(id, &fields32[n], fields32[n].value);
    id->wanted = c->features;
    memcpy(id->given, id->id, sizeof(id->given));
    return true;
}

/* Exception levels that the board does not want are not there. */
void arm_model_configure(struct arm_cpu *c)
{
    struct arm_identity *id = c->identity;

    c->features = id->wanted;
    memcpy(id->id, id->given, sizeof(id->id));
    if (!c->sys.config.el2) {
        feature_set(&c->features, AF_EL2, false);
        feature_set(&c->features, AF_VE32, arm_has(&c->features, AF_V8));  /* ERET, MRS and MSR of banked registers: F5.1.120 */
        id->id[ID_PFR1] &= ~UINT64_C(0xf000);
    }
    if (!c->sys.config.el3) {
        feature_set(&c->features, AF_EL3, false);
        feature_set(&c->features, AF_TZ, false);
        id->id[ID_PFR1] &= ~UINT64_C(0xf0);
        id->id[ID_DFR0] &= ~UINT64_C(0xf0);            /* CopSDbg: Secure debug */
    }
    fields_from_features(c, id);
    if (!arm_has(&c->features, AF_LPA2) && arm_has(&c->features, AF_AArch64))
        id->id[ID_AA64MMFR0] = bits(id->id[ID_AA64MMFR0], 31, 28) == 1 || bits(id->id[ID_AA64MMFR0], 23, 20) == 2
                                   ? (id->id[ID_AA64MMFR0] & ~UINT64_C(0xf0f00000)) | 0x00100000 : id->id[ID_AA64MMFR0];
}

/* ---- what the machine reads */

uint64_t arm_id(const struct arm_cpu *c, unsigned key)
{
    const struct arm_identity *id = c->identity;
    unsigned crm = key >> 3 & 15, op2 = key & 7;
    uint64_t v;

    if (!id)
        return 0;
    switch (key) {
    case ARM_SYSREG(3, 3, 0, 0, 1): return id->id[ID_CTR];
    case ARM_SYSREG(3, 3, 0, 0, 7): return id->id[ID_DCZID];
    case ARM_SYSREG(3, 1, 0, 0, 1): return id->id[ID_CLIDR];
    case ARM_SYSREG(3, 7, 0, 0, 0): return id->id[ID_FPSID];    /* not an encoding: FPSID for VMRS */
    default: break;
    }
    if (key >> 7 != ARM_SYSREG(3, 0, 0, 0, 0) >> 7 || crm > 7)
        return 0;
    if (crm == 0 && op2 == 5)
        return c->sys.config.mpidr | (has(c, AF_V7MP) ? BIT(31) : 0);
    v = id->id[crm << 4 | op2];
    if (crm == 4 && op2 == 0 && c->sys.gic)
        v |= BIT(24);
    if (crm == 1 && op2 == 1 && c->sys.gic)
        v |= BIT(28);
    /* FEAT_LSE2 promises that LDP and STP within 16 bytes are single-copy atomic; they are two accesses. Its rule for unaligned
     * ordered accesses holds all the same. */
    if (crm == 7 && op2 == 2)
        v &= ~(UINT64_C(15) << 32);
    return v;
}

uint64_t arm_ccsidr(const struct arm_cpu *c, unsigned csselr)
{
    const struct arm_identity *id = c->identity;

    switch (csselr & 15) {
    case 0:  return id->ccsidr[0];
    case 1:  return id->ccsidr[1];
    case 2:  return id->ccsidr[2];
    default: return 0;
    }
}

/* ---- lists for -cpu help and QMP */

static const struct cpu_model *list_models(unsigned *count, bool only32)
{
    static struct cpu_model list[2][G_N_ELEMENTS(models)];
    static unsigned used[2];
    static gsize once;

    if (g_once_init_enter(&once)) {
        for (unsigned k = 0; k < 2; k++)
            for (unsigned n = 0; n < G_N_ELEMENTS(models); n++)
                if (!k || models[n].v7 || models[n].is_max)
                    list[k][used[k]++] = (struct cpu_model){ .name = models[n].name, .summary = models[n].summary, .data = &models[n] };
        g_once_init_leave(&once, 1);
    }
    *count = used[only32];
    return list[only32];
}

const struct cpu_model *arm_models(unsigned *count) { return list_models(count, false); }
const struct cpu_model *arm_models32(unsigned *count) { return list_models(count, true); }

const struct cpu_feature *arm_feature_list(unsigned *count)
{
    static struct cpu_feature list[AF_COUNT];
    static unsigned used;
    static gsize once;

    if (g_once_init_enter(&once)) {
        list[used++] = (struct cpu_feature){ "aarch64", AF_AArch64 >> 6, AF_AArch64 & 63, true };
        list[used++] = (struct cpu_feature){ "pmu", AF_PMU >> 6, AF_PMU & 63, true };
        for (unsigned n = 0; n < G_N_ELEMENTS(fields); n++) {
            unsigned f = fields[n].feature;
            bool seen = f == AF_PMU;

            for (unsigned k = 0; k < used; k++)
                seen |= list[k].word == f >> 6 && list[k].bit == (f & 63);
            if (!seen)
                list[used++] = (struct cpu_feature){ g_ascii_strdown(feature_names[f], -1), (uint16_t)(f >> 6), (uint8_t)(f & 63),
                                                     fields[n].have };
        }
        g_once_init_leave(&once, 1);
    }
    *count = used;
    return list;
}
