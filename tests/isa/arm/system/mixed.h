/* What mixed.c finds below AArch64 EL2 or EL3 (mixed64.elf), and below Hyp or Monitor mode of a 32-bit processor (hyp32.elf). */
#ifndef MIXED_H
#define MIXED_H
#ifndef __ASSEMBLER__
#include <stdbool.h>
#include <stdint.h>
#include "rows32.h"

typedef unsigned long reg;
#ifdef __aarch64__
#define GET(r) ({ uint64_t v_; __asm__ volatile("mrs %0, " R_##r : "=r"(v_)); v_; })
#define SET(r, v) __asm__ volatile("msr " R_##r ", %0; isb" :: "r"((uint64_t)(v)) : "memory")
#define GET64 GET
#define SET64 SET
#define R_HCR "HCR_EL2"
#define R_HSTR "HSTR_EL2"
#define R_HCPTR "CPTR_EL2"
#define R_HDCR "MDCR_EL2"
#define R_CNTHCTL "CNTHCTL_EL2"
#define R_VTTBR "VTTBR_EL2"
#define R_VTCR "VTCR_EL2"
#define R_HPFAR "HPFAR_EL2"
#define R_SCTLR "SCTLR_EL1"
#define R_CPACR "CPACR_EL1"
#define R_TTBR0 "TTBR0_EL1"
#define R_TTBCR "TCR_EL1"
#define R_MAIR "MAIR_EL1"
#define R_VBAR "VBAR_EL1"
#define R_CNTKCTL "CNTKCTL_EL1"
#define R_CONTEXTIDR "CONTEXTIDR_EL1"
#define R_DACR "S3_4_C3_C0_0"
#define R_IFSR "S3_4_C5_C0_1"
#define R_FPEXC "S3_4_C5_C3_0"
#define R_DFSR "ESR_EL1"
#define R_FAR "FAR_EL1"
#define R_SCR "SCR_EL3"
#define R_VPIDR "VPIDR_EL2"
#define R_VMPIDR "VMPIDR_EL2"
#define R_TPIDRURW "TPIDR_EL0"
#define R_TPIDRURO "TPIDRRO_EL0"
#define R_TPIDRPRW "TPIDR_EL1"
#define R_SPSR_IRQ "S3_4_C4_C3_0"
#define R_SPSR_ABT "S3_4_C4_C3_1"
#define R_SPSR_FIQ "S3_4_C4_C3_3"
#define R_DBGVCR "S2_4_C0_C7_0"
#else
#define CPR(args) ({ uint32_t v_; __asm__ volatile("mrc " args : "=r"(v_) :: "memory"); v_; })
#define GET_(opc1, crn, crm, opc2) CPR("p15, " #opc1 ", %0, c" #crn ", c" #crm ", " #opc2)
#define GETX(args) GET_(args)
#define GETY(...) GET_(__VA_ARGS__)
#define GET(r) GETY(R_##r)
#define SET_(opc1, crn, crm, opc2, v) __asm__ volatile("mcr p15, " #opc1 ", %0, c" #crn ", c" #crm ", " #opc2 "; isb" :: "r"((uint32_t)(v)) : "memory")
#define SETY(...) SET_(__VA_ARGS__)
#define SET(r, v) SETY(R_##r, v)
#define SET64_(opc1, crm, v) __asm__ volatile("mcrr p15, " #opc1 ", %Q0, %R0, c" #crm "; isb" :: "r"((uint64_t)(v)) : "memory")
#define SET64Y(...) SET64_(__VA_ARGS__)
#define SET64(r, v) SET64Y(R_##r, v)
#define R_HCR 4, 1, 1, 0
#define R_HVBAR 4, 12, 0, 0
#define R_HSTR 4, 1, 1, 3
#define R_HCPTR 4, 1, 1, 2
#define R_HDCR 4, 1, 1, 1
#define R_CNTHCTL 4, 14, 1, 0
#define R_VTTBR 6, 2
#define R_VTCR 4, 2, 1, 2
#define R_HPFAR 4, 6, 0, 4
#define R_SCTLR 0, 1, 0, 0
#define R_CPACR 0, 1, 0, 2
#define R_NSACR 0, 1, 1, 2
#define R_TTBR0 0, 2
#define R_TTBCR 0, 2, 0, 2
#define R_MAIR 0, 10, 2, 0
#define R_VBAR 0, 12, 0, 0
#define R_CNTKCTL 0, 14, 1, 0
#define R_CONTEXTIDR 0, 13, 0, 1
#define R_DACR 0, 3, 0, 0
#define R_IFSR 0, 5, 0, 1
#define R_DFSR 0, 5, 0, 0
#define R_DFAR 0, 6, 0, 0
#define R_IFAR 0, 6, 0, 2
#define R_HSR 4, 5, 2, 0
#define R_HDFAR 4, 6, 0, 0
#define R_HIFAR 4, 6, 0, 2
#define R_SCR 0, 1, 1, 0
#define R_VPIDR 4, 0, 0, 0
#define R_VMPIDR 4, 0, 0, 5
#define R_TPIDRURW 0, 13, 0, 2
#define R_TPIDRURO 0, 13, 0, 3
#define R_TPIDRPRW 0, 13, 0, 4
#endif

/* An exception that came to the top from below. esr: ESR_ELx or HSR; Monitor mode has none. */
struct taken { unsigned vector; uint32_t esr, spsr; uint64_t far, elr; };
enum { VEC_SYNC, VEC_IRQ, VEC_FIQ, VEC_SERROR, VEC_SMC /* Monitor mode's */ };
/* What EL1 saved of an exception of its own. */
struct saved { uint32_t lr, spsr; };

/* mixed64.c, hyp32.c */
extern unsigned top;                    /* 2 or 3 */
void put(char c);
void go(uint32_t cpsr, uint32_t fn, uint32_t r0);       /* runs it below; comes back by leave() */
_Noreturn void leave(void);             /* from on_exception(): go() returns */
void set_return(uint64_t pc);
void set_spsr(uint32_t v);
uint32_t cp_ifar(void);
uint32_t cp_dfar(void);
void set_scr(uint32_t v);               /* at EL3 */
struct saved hyp_saved(void);           /* of an exception that Hyp mode took: ELR_hyp, SPSR_hyp */
bool has_hyp(void);
void set_hvbar(uint32_t v);
void show_spsrs(void);
void machine_tests(void);
void gic_setup(void);                   /* its CPU interface, for both groups */
extern const bool gicv3;
extern const struct rows32 *const rows32_p;

/* mixed.c */
extern reg regs[31];                    /* of what was interrupted, by X registers' numbers */
reg top_reg(unsigned n);
void set_top_reg(unsigned n, reg v);
void on_exception(const struct taken *t);
void print(const char *s);
void hex(uint64_t v);
void line(const char *name, uint64_t v);
void title(const char *name);
void run(const char *name, uint32_t cpsr, uint32_t fn, uint32_t r0);
void run_rows(const char *name, uint32_t cpsr, bool first, bool waits);
uint32_t test_fn(unsigned n);
extern bool user_svc;
void main_tests(void);
#endif
#define M_USR_ 0x10
#define M_FIQ_ 0x11
#define M_IRQ_ 0x12
#define M_SVC_ 0x13
#define M_MON_ 0x16
#define M_ABT_ 0x17
#define M_HYP_ 0x1a
#define M_UND_ 0x1b
#define M_SYS_ 0x1f
#endif
