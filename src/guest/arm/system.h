/* What the files of the Arm guest's system side share. */
#ifndef RHEA_GUEST_ARM_SYSTEM_H
#define RHEA_GUEST_ARM_SYSTEM_H

#include "arm.h"

#define BIT(n) (UINT64_C(1) << (n))
static inline uint64_t bits(uint64_t v, unsigned hi, unsigned lo) { return v >> lo & (UINT64_MAX >> (63 - (hi - lo))); }

/* SCTLR_ELx: D24.2.175 and following */
#define SCTLR_M BIT(0)
#define SCTLR_A BIT(1)
#define SCTLR_C BIT(2)
#define SCTLR_SA BIT(3)
#define SCTLR_SA0 BIT(4)
#define SCTLR_CP15BEN BIT(5)
#define SCTLR_ITD BIT(7)
#define SCTLR_SED BIT(8)
#define SCTLR_UMA BIT(9)
#define SCTLR_I BIT(12)
#define SCTLR_V BIT(13)                 /* AArch32: high vectors */
#define SCTLR_ENDB BIT(13)
#define SCTLR_DZE BIT(14)
#define SCTLR_UCT BIT(15)
#define SCTLR_NTWI BIT(16)
#define SCTLR_NTWE BIT(18)
#define SCTLR_WXN BIT(19)
#define SCTLR_UWXN BIT(20)              /* AArch32 */
#define SCTLR_TSCXT BIT(20)
#define SCTLR_SPAN BIT(23)
#define SCTLR_E0E BIT(24)
#define SCTLR_EE BIT(25)
#define SCTLR_UCI BIT(26)
#define SCTLR_BT0 BIT(35)
#define SCTLR_ENDA BIT(27)
#define SCTLR_TRE BIT(28)               /* AArch32 */
#define SCTLR_AFE BIT(29)               /* AArch32 */
#define SCTLR_TE BIT(30)                /* AArch32 */
#define SCTLR_ENIB BIT(30)
#define SCTLR_ENIA BIT(31)
#define SCTLR_BT0 BIT(35)
#define SCTLR_BT1 BIT(36)
#define SCTLR_DSSBS BIT(44)
#define SCTLR_EPAN BIT(57)
/* HCR_EL2 */
#define HCR_VM BIT(0)
#define HCR_PTW BIT(2)
#define HCR_FMO BIT(3)
#define HCR_IMO BIT(4)
#define HCR_AMO BIT(5)
#define HCR_VF BIT(6)
#define HCR_VI BIT(7)
#define HCR_VSE BIT(8)
#define HCR_DC BIT(12)
#define HCR_TWI BIT(13)
#define HCR_TWE BIT(14)
#define HCR_TID0 BIT(15)
#define HCR_TID1 BIT(16)
#define HCR_TID2 BIT(17)
#define HCR_TID3 BIT(18)
#define HCR_TSC BIT(19)
#define HCR_TIDCP BIT(20)
#define HCR_TACR BIT(21)
#define HCR_TSW BIT(22)
#define HCR_TPCP BIT(23)
#define HCR_TPU BIT(24)
#define HCR_TTLB BIT(25)
#define HCR_TVM BIT(26)
#define HCR_TGE BIT(27)
#define HCR_TDZ BIT(28)
#define HCR_HCD BIT(29)
#define HCR_TRVM BIT(30)
#define HCR_RW BIT(31)
#define HCR_E2H BIT(34)
#define HCR_TLOR BIT(35)
#define HCR_TERR BIT(36)
#define HCR_TEA BIT(37)
#define HCR_APK BIT(40)
#define HCR_API BIT(41)
/* SCR_EL3 */
#define SCR_NS BIT(0)
#define SCR_IRQ BIT(1)
#define SCR_FIQ BIT(2)
#define SCR_EA BIT(3)
#define SCR_SMD BIT(7)
#define SCR_HCE BIT(8)
#define SCR_SIF BIT(9)
#define SCR_RW BIT(10)
#define SCR_ST BIT(11)
#define SCR_TWI BIT(12)
#define SCR_TWE BIT(13)
#define SCR_TLOR BIT(14)
#define SCR_APK BIT(16)
#define SCR_API BIT(17)
/* MDSCR_EL1, MDCR_EL2 */
#define MDSCR_SS BIT(0)
#define MDSCR_TDCC BIT(12)
#define MDSCR_KDE BIT(13)
#define MDSCR_MDE BIT(15)
#define MDCR_TPMCR BIT(5)
#define MDCR_TPM BIT(6)
#define MDCR_TDE BIT(8)
#define MDCR_TDA BIT(9)
#define MDCR_TDOSA BIT(10)
#define MDCR_TDRA BIT(11)

/* SPSR and PSTATE as MRS reads them: C5.2.18 and following */
enum { PS_NZCV = (int)0xf0000000, PS_TCO = 1 << 25, PS_DIT = 1 << 24, PS_UAO = 1 << 23, PS_PAN = 1 << 22, PS_SS = 1 << 21,
       PS_IL = 1 << 20, PS_ALLINT = 1 << 13, PS_SSBS = 1 << 12, PS_DAIF = 0x3c0, PS_A32 = 1 << 4 };
/* AArch32's CPSR: G8.2.33 */
enum { CPSR_Q = 1 << 27, CPSR_SSBS = 1 << 23, CPSR_PAN = 1 << 22, CPSR_DIT = 1 << 21, CPSR_IL = 1 << 20, CPSR_J = 1 << 24,
       CPSR_E = 1 << 9, CPSR_A = 1 << 8, CPSR_I = 1 << 7, CPSR_F = 1 << 6, CPSR_T = 1 << 5 };
enum { DAIF_F = 1, DAIF_I = 2, DAIF_A = 4, DAIF_D = 8 };
enum { M_USR = 16, M_FIQ = 17, M_IRQ = 18, M_SVC = 19, M_MON = 22, M_ABT = 23, M_HYP = 26, M_UND = 27, M_SYS = 31 };

/* Exception classes, those that arm.h does not name: ESR_ELx.EC */
enum { EC_CP15_RT = 3, EC_CP15_RRT = 4, EC_CP14_RT = 5, EC_CP14_LS = 6, EC_CP10_ID = 8, EC_PAUTH = 9, EC_CP14_RRT = 12,
       EC_ILLEGAL = 14, EC_SVC32 = 0x11, EC_HVC32, EC_SMC32, EC_HVC64 = 0x16, EC_SMC64, EC_SYSREG = 0x18, EC_SVE = 0x19,
       EC_ERET = 0x1a, EC_IABT_LOWER = 0x20, EC_IABT, EC_DABT_LOWER = 0x24, EC_DABT, EC_FP32 = 0x28, EC_FP64 = 0x2c,
       EC_SERROR = 0x2f, EC_BKPT_LOWER = 0x30, EC_BKPT, EC_STEP_LOWER, EC_STEP, EC_WATCH_LOWER, EC_WATCH, EC_BKPT32 = 0x38,
       EC_VECTOR = 0x3a };
enum { ESR_IL = 1 << 25 };
static inline unsigned esr_ec(uint32_t esr) { return esr >> 26; }
static inline uint32_t esr_make(unsigned ec, uint32_t iss) { return ec << 26 | ESR_IL | iss; }

/* Fault status codes: ESR_ELx.DFSC; the level is added. */
enum { FSC_ADDRESS_SIZE = 0, FSC_TRANSLATION = 4, FSC_ACCESS_FLAG = 8, FSC_PERMISSION = 12, FSC_EXTERNAL = 0x10, FSC_EXTERNAL_WALK = 0x14,
       FSC_ALIGNMENT = 0x21, FSC_DEBUG = 0x22, FSC_EXTERNAL_WALK_1 = 0x13, FSC_ADDRESS_SIZE_1 = 0x29, FSC_TRANSLATION_1 = 0x2b, FSC_DOMAIN = 0x3c };

enum { LINE_HCR_VI = ARM_LINE_COUNT, LINE_HCR_VF, LINE_HCR_VSE };
/* exceptions.c: what is asserted now, groups among IRQ and FIQ */
uint32_t arm_lines(const struct arm_cpu *c);

/* ---- cpu.c: levels, states */
static inline bool has(const struct arm_cpu *c, unsigned f) { return arm_has(&c->features, f); }
static inline bool has_el3(const struct arm_cpu *c) { return has(c, AF_EL3); }
static inline bool has_el2(const struct arm_cpu *c) { return has(c, AF_EL2); }
/* EL2 exists and is in use in the current security state (Secure EL2 is not modelled). */
bool arm_el2_enabled(const struct arm_cpu *c);
uint64_t arm_hcr(const struct arm_cpu *c);              /* HCR_EL2 as it takes effect now; 0 where EL2 is not enabled */
bool arm_el_is_64(const struct arm_cpu *c, unsigned el);
/* EL whose registers (SCTLR, TTBR ...) control EL `el`: itself; for EL0 that of its translation regime. */
unsigned arm_regime(const struct arm_cpu *c, unsigned el);
unsigned arm_el_of_mode32(const struct arm_cpu *c, unsigned mode);
static inline bool arm_in_host(const struct arm_cpu *c)
{
    return (c->sys.hcr & (HCR_E2H | HCR_TGE)) == (HCR_E2H | HCR_TGE) && arm_el2_enabled(c);
}
unsigned arm_fp_trap_el(const struct arm_cpu *c);       /* EL that FP and SIMD trap to; 0: none */
bool arm_cpacr_traps(const struct arm_cpu *c);          /* EL1's control of FP and SIMD, at EL1 and EL0 */
void arm_regs_flush(struct arm_cpu *c);                 /* translations that depend on system registers go */
void arm_asid_update(struct arm_cpu *c);                /* after TTBR, TCR, CONTEXTIDR changes */

/* ---- exceptions.c, exceptions32.c */
uint64_t arm_branch_address(const struct arm_cpu *c, uint64_t target);  /* without a tag where addresses have one */
void arm_pending_update(struct arm_cpu *c);             /* HCR_EL2's virtual interrupts changed */
unsigned arm_sync_target(const struct arm_cpu *c);      /* EL that takes synchronous exceptions from here */
_Noreturn void arm_raise_el(struct arm_cpu *c, unsigned el, uint32_t syndrome, uint64_t far);
void arm_take(struct arm_cpu *c, unsigned el, unsigned vector, uint32_t syndrome, uint64_t far, uint64_t ret);
void arm_take32(struct arm_cpu *c, unsigned el, unsigned kind, uint32_t syndrome, uint64_t far, uint64_t ret);
uint32_t arm_spsr_compose(const struct arm_cpu *c, bool to64);   /* PSTATE as it goes to SPSR_ELx, or AArch32's SPSR_mode */
/* AArch32 PSTATE from a CPSR value, all of it, banks switched. */
void arm_set_cpsr_raw(struct arm_cpu *c, uint32_t v);
void arm_set_mode32(struct arm_cpu *c, unsigned mode);
enum arm_bank arm_bank_of(unsigned mode);
uint64_t *arm_spsr32(struct arm_cpu *c, unsigned mode); /* NULL: usr, sys */
void arm_enter32(struct arm_cpu *c);                    /* AArch64's X registers become banks; and back: D1.20.2 */
void arm_leave32(struct arm_cpu *c);
void arm_set_sp_el(struct arm_cpu *c, unsigned el, unsigned spsel);     /* SP changes with EL and SPSel */
bool arm_psci(struct arm_cpu *c);                       /* system_psci.c; false: not a PSCI function */
void arm_power_off(struct arm_cpu *c);
bool arm_step_active(const struct arm_cpu *c);          /* software step or breakpoints watch every instruction */
bool arm_watch_active(const struct arm_cpu *c);
bool arm_debug_check(struct arm_cpu *c);                /* before an instruction: took a debug exception */
bool arm_semihosting(struct arm_cpu *c);                /* semihosting.c: carries out the call that was raised */
bool arm_debug_enabled(const struct arm_cpu *c);        /* debug exceptions, from the current EL */

/* ---- mmu.c */
struct arm_fault { uint8_t fsc; bool stage2, s1ptw, external; uint8_t domain; uint64_t ipa; };
struct arm_walk {
    struct arm_cpu *c;
    uint64_t va;
    enum mmu_access access;
    unsigned mmu;
    bool probe;                         /* no A/D update */
    bool stage1_only;                   /* AT S1E* */
    /* results */
    uint64_t phys;
    unsigned page_bits;
    bool r, w, x, global, dirty_later /* writable once the dirty bit is set */;
    uint8_t attr, sh, s2attr;
    bool guarded, ns;
    struct arm_fault fault;
};
bool arm_walk(struct arm_walk *w);
bool arm_walk_short(struct arm_walk *w);                /* mmu32.c: Armv7 short descriptors; stage 1 */
/* Stage 2 of IPA for a walk's descriptor or its result. */
bool arm_stage2(struct arm_walk *w, uint64_t ipa, bool for_walk, uint64_t *phys, unsigned *page_bits, bool *r, bool *wr, bool *x);
unsigned arm_mmu_regime(const struct arm_cpu *c, unsigned mmu);
bool arm_mmu_user(unsigned mmu);
bool arm_mmu_pan(unsigned mmu);
unsigned arm_pa_bits(const struct arm_cpu *c);
/* One descriptor: 4 or 8 bytes. false: nobody there. */
bool arm_desc_read(struct arm_cpu *c, uint64_t phys, unsigned bytes, bool be, uint64_t *value);
bool arm_desc_cas(struct arm_cpu *c, uint64_t phys, unsigned bytes, bool be, uint64_t old, uint64_t value);     /* false: changed meanwhile */
void arm_at(struct arm_cpu *c, unsigned mmu, bool write, bool stage12, bool pan);       /* system_at: result to PAR_EL1 */
uint32_t arm_short_status(unsigned fsc, unsigned domain);       /* DFSR of a short-descriptor regime; exceptions32.c */
/* access32.c: ISS of a stage 2 data abort; *narrow: of a 16-bit instruction, whose IL is 0. */
uint32_t arm_access_syndrome32(struct arm_cpu *c, bool *narrow);
unsigned arm_view64(const struct arm_cpu *c, unsigned r);      /* the X register that r of the current mode is: D1.20.2 */
void arm_translate_address(struct arm_cpu *c, uint64_t va, unsigned mmu, bool write, bool stage12);

/* ---- system_tlb.c */
bool arm_tlbi(struct arm_cpu *c, unsigned key, uint64_t value);         /* false: no such operation */
void arm_tlb_catch_up(struct arm_cpu *c);                               /* before guest code goes on: what was invalidated while it slept */

/* ---- system_timers.c */
void arm_timers_init(struct arm_cpu *c);
void arm_timers_free(struct arm_cpu *c);
void arm_timers_reset(struct arm_cpu *c);
void arm_timer_update(struct arm_cpu *c, enum arm_timer t);
void arm_timers_update(struct arm_cpu *c);
uint64_t arm_counter(struct arm_cpu *c);                /* CNTPCT */
uint64_t arm_counter_virt(struct arm_cpu *c);
uint64_t arm_timer_ctl(struct arm_cpu *c, enum arm_timer t);            /* with ISTATUS */
uint64_t arm_timer_tval(struct arm_cpu *c, enum arm_timer t);
void arm_timer_set(struct arm_cpu *c, enum arm_timer t, unsigned what, uint64_t v);     /* 0 ctl, 1 cval, 2 tval */
void arm_wait_until(struct arm_cpu *c, uint64_t virtual_count);         /* wakes a WFIT */

/* ---- system_pmu.c */
void arm_pmu_expired(void *opaque);                     /* the cycle counter overflows */
void arm_pmu_level(struct arm_cpu *c);                  /* the exception level has changed */

/* ---- cpu_models.c */
bool arm_model_parse(struct arm_cpu *c, const char *spec, struct error *err);
/* ID registers: from the model, less what configuration took away. */
uint64_t arm_id(const struct arm_cpu *c, unsigned key);         /* op0 = 3, op1 = 0, CRn = 0, CRm 1 to 7; MIDR, CTR, ... too */
void arm_model_configure(struct arm_cpu *c);                    /* el2, el3 of the configuration are known */
bool arm_psci_start_off(const struct arm_cpu *c);

/* ---- system_regs.c */
enum { SR_READ = 1, SR_WRITE = 2 };
uint64_t arm_sysreg_read(struct arm_cpu *c, uint32_t raw);
void arm_sysreg_write(struct arm_cpu *c, uint32_t raw, uint64_t v);
void arm_sysregs_reset(struct arm_cpu *c);
struct arm_sysreg;
/* Lower sides of AArch32: by AArch64 key, after the access was checked. */
bool arm_sysreg_raw_read(struct arm_cpu *c, unsigned key, uint64_t *v);
bool arm_sysreg_raw_write(struct arm_cpu *c, unsigned key, uint64_t v);

#endif
