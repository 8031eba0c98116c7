/* What the files of the RISC-V guest's system side share: CSR bits, traps, paging, clocks. Privileged ISA Manual 20240411. */
#ifndef RHEA_GUEST_RISCV_SYSTEM_H
#define RHEA_GUEST_RISCV_SYSTEM_H

#include <pthread.h>
#include "rhea/vm/vm.h"
#include "riscv.h"

/* mstatus; sstatus is a view of it. On RV32 bits 63:32 are mstatush, and SD is computed when it is read. */
#define MSTATUS_SIE (UINT64_C(1) << 1)
#define MSTATUS_MIE (UINT64_C(1) << 3)
#define MSTATUS_SPIE (UINT64_C(1) << 5)
#define MSTATUS_MPIE (UINT64_C(1) << 7)
#define MSTATUS_SPP (UINT64_C(1) << 8)
#define MSTATUS_MPP_SHIFT 11
#define MSTATUS_MPP (UINT64_C(3) << MSTATUS_MPP_SHIFT)
#define MSTATUS_FS (UINT64_C(3) << 13)
#define MSTATUS_FS_INITIAL (UINT64_C(1) << 13)
#define MSTATUS_MPRV (UINT64_C(1) << 17)
#define MSTATUS_SUM (UINT64_C(1) << 18)
#define MSTATUS_MXR (UINT64_C(1) << 19)
#define MSTATUS_TVM (UINT64_C(1) << 20)
#define MSTATUS_TW (UINT64_C(1) << 21)
#define MSTATUS_TSR (UINT64_C(1) << 22)
#define MSTATUS_UXL_64 (UINT64_C(2) << 32)
#define MSTATUS_SXL_64 (UINT64_C(2) << 34)

enum { ENVCFG_FIOM = 1, ENVCFG_CBIE_SHIFT = 4, ENVCFG_CBIE = 3 << 4, ENVCFG_CBCFE = 1 << 6, ENVCFG_CBZE = 1 << 7 };
#define MENVCFG_ADUE (UINT64_C(1) << 61)
#define MENVCFG_PBMTE (UINT64_C(1) << 62)
#define MENVCFG_STCE (UINT64_C(1) << 63)
enum { MSECCFG_MML = 1, MSECCFG_MMWP = 2, MSECCFG_RLB = 4, MSECCFG_USEED = 1 << 8, MSECCFG_SSEED = 1 << 9 };

enum { SATP_BARE = 0, SATP_SV32 = 1, SATP_SV39 = 8, SATP_SV48 = 9, SATP_SV57 = 10 };
static inline unsigned satp_mode(const struct riscv_cpu *c)
{
    return c->xlen == 32 ? (unsigned)(c->satp >> 31 & 1) : (unsigned)(c->satp >> 60);
}

#define IRQ_BIT(n) (UINT64_C(1) << (n))
#define IRQS_S (IRQ_BIT(IRQ_S_SOFT) | IRQ_BIT(IRQ_S_TIMER) | IRQ_BIT(IRQ_S_EXT) | IRQ_BIT(IRQ_LCOF))
#define IRQS_M (IRQ_BIT(IRQ_M_SOFT) | IRQ_BIT(IRQ_M_TIMER) | IRQ_BIT(IRQ_M_EXT))

enum { RISCV_PMP_ENTRIES = 16 };
enum { RISCV_TIME_HZ = 10000000 };

/* Of a CPU: what -cpu says. */
struct riscv_identity {
    struct riscv_features features;
    const struct cpu_model *model;
    uint64_t mvendorid, marchid, mimpid, reset_vector;
    uint32_t hpm_mask;                  /* programmable counters, by number: some of 3 to 31 */
    uint16_t cbo_bytes;
};
static inline const struct riscv_identity *riscv_identity(const struct riscv_cpu *c) { return c->identity; }

/* riscv_cpu.sys */
struct riscv_system {
    struct vm *vm;
    pthread_mutex_t timer_lock;         /* stimecmp against the main loop's look at it */
    struct vm_timer *stimer;
    struct vm_timer *nap;               /* ends a WFI in vain */
    int64_t time_offset;                /* ticks that mtime was set ahead, under timer_lock */
    uint64_t stopped[3];                /* values of cycle and instret while mcountinhibit holds them */
    /* The programmable counters: values as of hpm_at, and which of them run since, all under timer_lock. */
    struct { uint64_t event, value; } hpm[32];
    uint64_t hpm_at;
    uint64_t hpm_runs, hpm_used;        /* a bit each; used: what runs, or would in another privilege; of the CPU's thread */
    struct vm_timer *pmu_timer;
    bool seip_soft;                     /* mip.SEIP as machine mode wrote it; the line is in mip */
    uint16_t seed;
};
static inline struct riscv_system *riscv_sys(const struct riscv_cpu *c) { return c->sys; }

/* fp.c: weak until it lands */
uint32_t riscv_fflags(struct riscv_cpu *c) __attribute__((weak));
void riscv_set_fflags(struct riscv_cpu *c, uint32_t v) __attribute__((weak));
void riscv_set_frm(struct riscv_cpu *c, uint32_t frm) __attribute__((weak));
/* system.c */
void riscv_nap_end(struct riscv_cpu *c);                /* any thread */
uint64_t riscv_pending(const struct riscv_cpu *c);      /* mip as it reads */
void riscv_status_set(struct riscv_cpu *c, uint64_t mstatus, uint64_t mask);    /* legal bits of mask */
_Noreturn void riscv_raise_illegal(struct riscv_cpu *c, uint32_t insn);
/* csr.c: whether a and b name what software of privilege priv may do is checked by csr_access(); these two do not. */
uint64_t riscv_csr_peek(struct riscv_cpu *c, unsigned csr);
const char *riscv_csr_name(unsigned csr);
/* mmu.c */
void riscv_satp_set(struct riscv_cpu *c, uint64_t v);
bool riscv_fetch_word(struct riscv_cpu *c, uint64_t va, uint32_t *out);  /* code at va, as this privilege sees it; no trace */
bool riscv_adue(const struct riscv_cpu *c);
/* pmp.c */
enum { PMP_R = 1, PMP_W = 2, PMP_X = 4 };
unsigned riscv_pmp_allows(const struct riscv_cpu *c, uint64_t phys, unsigned bytes, unsigned priv);     /* PMP_* */
/* The same for some byte of the page, at least. *partial: not for all. */
unsigned riscv_pmp_page(const struct riscv_cpu *c, uint64_t phys, unsigned priv, bool *partial);
unsigned riscv_mmu_priv(unsigned mmu);
uint64_t riscv_pmpcfg_read(struct riscv_cpu *c, unsigned csr);
void riscv_pmpcfg_write(struct riscv_cpu *c, unsigned csr, uint64_t v);
uint64_t riscv_pmpaddr_read(struct riscv_cpu *c, unsigned csr);
void riscv_pmpaddr_write(struct riscv_cpu *c, unsigned csr, uint64_t v);
void riscv_mseccfg_write(struct riscv_cpu *c, unsigned csr, uint64_t v);
/* timer.c */
bool riscv_timer_init(struct riscv_cpu *c);
void riscv_timer_free(struct riscv_cpu *c);
uint64_t riscv_time(const struct riscv_cpu *c);
void riscv_stimecmp_changed(struct riscv_cpu *c);       /* or menvcfg.STCE, or the time */
/* pmu.c */
uint64_t riscv_counter_read(struct riscv_cpu *c, unsigned csr);
void riscv_counter_write(struct riscv_cpu *c, unsigned csr, uint64_t v);
void riscv_countinhibit_write(struct riscv_cpu *c, unsigned csr, uint64_t v);
uint64_t riscv_hpmevent_read(struct riscv_cpu *c, unsigned csr);
void riscv_hpmevent_write(struct riscv_cpu *c, unsigned csr, uint64_t v);
uint64_t riscv_scountovf_read(struct riscv_cpu *c, unsigned csr);
void riscv_pmu_privilege(struct riscv_cpu *c);          /* it changed: other counters run */
void riscv_pmu_expired(void *cpu);                      /* the timer's */
void riscv_pmu_reset(struct riscv_cpu *c);
/* semihosting.c: cpu.exception was that of an EBREAK. true: it was a call, which is done or will be tried again */
bool riscv_semihosting(struct riscv_cpu *c);
/* models.c */
bool riscv_identity_parse(struct riscv_identity *id, const char *spec, bool rv32, struct error *err);

#endif
