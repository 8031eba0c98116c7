/* See rows32.h. Each row ends in SVC #99: EL1's vector for it, or EL2 where HCR.TGE is set, ends the run. */
#include "rows32.h"
#define NAKED __attribute__((naked, used))
#define EXTENSIONS ".fpu neon-vfpv4; .arch_extension sec; .arch_extension virt; "
#define ROWS(R) \
    R(midr, "mrc p15, 0, r1, c0, c0, 0", 5) R(ctr, "mrc p15, 0, r1, c0, c0, 1", 1) R(tcmtr, "mrc p15, 0, r1, c0, c0, 2", 1) \
    R(tlbtr, "mrc p15, 0, r1, c0, c0, 3", 0) R(midr4, "mrc p15, 0, r1, c0, c0, 4", 0) R(mpidr, "mrc p15, 0, r1, c0, c0, 5", 1) \
    R(revidr, "mrc p15, 0, r1, c0, c0, 6", 0) R(midr7, "mrc p15, 0, r1, c0, c0, 7", 0) \
    R(ccsidr, "mrc p15, 1, r1, c0, c0, 0", 1) R(clidr, "mrc p15, 1, r1, c0, c0, 1", 1) R(aidr, "mrc p15, 1, r1, c0, c0, 7", 1) \
    R(csselr, "mrc p15, 2, r1, c0, c0, 0", 1) R(csselr_w, "mov r1, #0; mcr p15, 2, r1, c0, c0, 0", 0) \
    R(pfr0, "mrc p15, 0, r1, c0, c1, 0", 5) R(pfr1, "mrc p15, 0, r1, c0, c1, 1", 0) R(dfr0, "mrc p15, 0, r1, c0, c1, 2", 0) R(afr0, "mrc p15, 0, r1, c0, c1, 3", 1) \
    R(mmfr0, "mrc p15, 0, r1, c0, c1, 4", 1) R(mmfr1, "mrc p15, 0, r1, c0, c1, 5", 1) R(mmfr2, "mrc p15, 0, r1, c0, c1, 6", 1) R(mmfr3, "mrc p15, 0, r1, c0, c1, 7", 1) \
    R(isar0, "mrc p15, 0, r1, c0, c2, 0", 1) R(isar1, "mrc p15, 0, r1, c0, c2, 1", 1) R(isar2, "mrc p15, 0, r1, c0, c2, 2", 1) R(isar3, "mrc p15, 0, r1, c0, c2, 3", 1) \
    R(isar4, "mrc p15, 0, r1, c0, c2, 4", 0) R(isar5, "mrc p15, 0, r1, c0, c2, 5", 1) R(mmfr4, "mrc p15, 0, r1, c0, c2, 6", 1) R(isar6, "mrc p15, 0, r1, c0, c2, 7", 1) \
    R(id_reserved3, "mrc p15, 0, r1, c0, c3, 0", 1) R(pfr2, "mrc p15, 0, r1, c0, c3, 4", 1) R(id_reserved7, "mrc p15, 0, r1, c0, c7, 7", 1) \
    R(sctlr, "mrc p15, 0, r1, c1, c0, 0", 5) R(sctlr_w, "mcr p15, 0, r8, c1, c0, 0", 0) \
    R(actlr, "mrc p15, 0, r1, c1, c0, 1", 0) R(actlr_w, "mov r1, #0; mcr p15, 0, r1, c1, c0, 1", 0) \
    R(cpacr, "mrc p15, 0, r1, c1, c0, 2", 1) R(cpacr_w, "mov r1, #0xf00000; mcr p15, 0, r1, c1, c0, 2", 0) \
    R(scr, "mrc p15, 0, r1, c1, c1, 0", 0) R(sder, "mrc p15, 0, r1, c1, c1, 1", 1) R(nsacr, "mrc p15, 0, r1, c1, c1, 2", 1) R(nsacr_w, "mov r1, #0xc00; mcr p15, 0, r1, c1, c1, 2", 0) \
    R(ttbr0, "mrc p15, 0, r1, c2, c0, 0", 5) R(ttbr0_w, "mov r1, #0; mcr p15, 0, r1, c2, c0, 0", 0) R(ttbr1, "mrc p15, 0, r1, c2, c0, 1", 1) \
    R(ttbr1_w, "mov r1, #0; mcr p15, 0, r1, c2, c0, 1", 0) R(ttbcr, "mrc p15, 0, r1, c2, c0, 2", 1) R(ttbcr_w, "mov r1, #0; mcr p15, 0, r1, c2, c0, 2", 0) \
    R(ttbr0_64, "mrrc p15, 0, r1, r2, c2", 0) R(ttbr1_64w, "mov r1, #0; mov r2, #0; mcrr p15, 1, r1, r2, c2", 0) R(vttbr, "mrrc p15, 6, r1, r2, c2", 16) \
    R(dacr, "mrc p15, 0, r1, c3, c0, 0", 0) R(dacr_w, "mvn r1, #0; mcr p15, 0, r1, c3, c0, 0", 0) \
    R(dfsr, "mrc p15, 0, r1, c5, c0, 0", 0) R(dfsr_w, "mov r1, #0; mcr p15, 0, r1, c5, c0, 0", 0) R(ifsr, "mrc p15, 0, r1, c5, c0, 1", 0) \
    R(adfsr, "mrc p15, 0, r1, c5, c1, 0", 1) R(aifsr_w, "mov r1, #0; mcr p15, 0, r1, c5, c1, 1", 0) \
    R(dfar, "mrc p15, 0, r1, c6, c0, 0", 0) R(ifar_w, "mov r1, #0; mcr p15, 0, r1, c6, c0, 2", 0) \
    R(icialluis, "mcr p15, 0, r0, c7, c1, 0", 0) R(bpiallis, "mcr p15, 0, r0, c7, c1, 6", 0) R(iciallu, "mcr p15, 0, r0, c7, c5, 0", 0) \
    R(icimvau, "mcr p15, 0, r0, c7, c5, 1", 0) R(cp15isb, "mcr p15, 0, r0, c7, c5, 4", 4) R(bpiall, "mcr p15, 0, r0, c7, c5, 6", 0) R(bpimva, "mcr p15, 0, r0, c7, c5, 7", 0) \
    R(dcimvac, "mcr p15, 0, r0, c7, c6, 1", 0) R(dcisw, "mov r1, #0; mcr p15, 0, r1, c7, c6, 2", 0) R(dccmvac, "mcr p15, 0, r0, c7, c10, 1", 0) \
    R(dccsw, "mov r1, #0; mcr p15, 0, r1, c7, c10, 2", 0) R(cp15dsb, "mcr p15, 0, r0, c7, c10, 4", 4) R(cp15dmb, "mcr p15, 0, r0, c7, c10, 5", 4) \
    R(dccmvau, "mcr p15, 0, r0, c7, c11, 1", 4) R(dccimvac, "mcr p15, 0, r0, c7, c14, 1", 0) R(dccisw, "mov r1, #0; mcr p15, 0, r1, c7, c14, 2", 0) \
    R(par, "mrc p15, 0, r1, c7, c4, 0", 0) R(ats1cpr, "mcr p15, 0, r0, c7, c8, 0", 0) R(ats1cuw, "mcr p15, 0, r0, c7, c8, 3", 0) \
    R(ats12nsopr, "mcr p15, 0, r0, c7, c8, 4", 0) R(ats1hr, "mcr p15, 4, r0, c7, c8, 0", 16) R(par_64, "mrrc p15, 0, r1, r2, c7", 0) \
    R(tlbiallis, "mcr p15, 0, r0, c8, c3, 0", 0) R(tlbimvais, "mcr p15, 0, r0, c8, c3, 1", 0) R(tlbiasidis, "mcr p15, 0, r0, c8, c3, 2", 0) \
    R(tlbimvaais, "mcr p15, 0, r0, c8, c3, 3", 0) R(itlbiall, "mcr p15, 0, r0, c8, c5, 0", 0) R(dtlbimva, "mcr p15, 0, r0, c8, c6, 1", 0) \
    R(tlbiall, "mcr p15, 0, r0, c8, c7, 0", 0) R(tlbimva, "mcr p15, 0, r0, c8, c7, 1", 0) R(tlbiasid, "mcr p15, 0, r0, c8, c7, 2", 0) \
    R(tlbimvaa, "mcr p15, 0, r0, c8, c7, 3", 0) R(tlbimval, "mcr p15, 0, r0, c8, c7, 5", 0) R(tlbimvaal, "mcr p15, 0, r0, c8, c7, 7", 0) \
    R(tlbiallh, "mcr p15, 4, r0, c8, c7, 0", 16) R(tlbimvah, "mcr p15, 4, r0, c8, c7, 1", 16) R(tlbiallnsnh, "mcr p15, 4, r0, c8, c7, 4", 16) \
    R(pmcr, "mrc p15, 0, r1, c9, c12, 0", 4) R(pmselr_w, "mov r1, #0; mcr p15, 0, r1, c9, c12, 5", 0) R(pmccntr, "mrc p15, 0, r1, c9, c13, 0", 4) \
    R(pmuserenr, "mrc p15, 0, r1, c9, c14, 0", 1) R(pmintenset, "mrc p15, 0, r1, c9, c14, 1", 0) R(pmccntr_64, "mrrc p15, 0, r1, r2, c9", 8) \
    R(mair0, "mrc p15, 0, r1, c10, c2, 0", 0) R(mair1_w, "mov r1, #0; mcr p15, 0, r1, c10, c2, 1", 0) R(amair0, "mrc p15, 0, r1, c10, c3, 0", 1) \
    R(vbar, "mrc p15, 0, r1, c12, c0, 0", 0) R(mvbar, "mrc p15, 0, r1, c12, c0, 1", 0) R(isr, "mrc p15, 0, r1, c12, c1, 0", 1) \
    R(fcseidr, "mrc p15, 0, r1, c13, c0, 0", 1) R(contextidr, "mrc p15, 0, r1, c13, c0, 1", 0) R(contextidr_w, "mov r1, #0; mcr p15, 0, r1, c13, c0, 1", 0) \
    R(tpidrurw, "mrc p15, 0, r1, c13, c0, 2", 5) R(tpidrurw_w, "mov r1, #1; mcr p15, 0, r1, c13, c0, 2; mov r1, #0; mcr p15, 0, r1, c13, c0, 2", 4) \
    R(tpidruro, "mrc p15, 0, r1, c13, c0, 3", 5) R(tpidruro_w, "mov r1, #0; mcr p15, 0, r1, c13, c0, 3", 4) R(tpidrprw, "mrc p15, 0, r1, c13, c0, 4", 5) \
    R(cntfrq, "mrc p15, 0, r1, c14, c0, 0", 5) R(cntkctl, "mrc p15, 0, r1, c14, c1, 0", 0) \
    R(cntp_tval_w, "mvn r1, #0; mcr p15, 0, r1, c14, c2, 0", 4) R(cntp_ctl, "mrc p15, 0, r1, c14, c2, 1; and r1, r1, #1", 5) \
    R(cntv_tval, "mrc p15, 0, r1, c14, c3, 0", 4) R(cntv_ctl, "mrc p15, 0, r1, c14, c3, 1; and r1, r1, #1", 5) \
    R(cntpct, "mrrc p15, 0, r1, r2, c14", 4) R(cntvct, "mrrc p15, 1, r1, r2, c14", 4) R(cntp_cval_w, "mvn r1, #0; mvn r2, #0; mcrr p15, 2, r1, r2, c14", 4) \
    R(cntv_cval, "mrrc p15, 3, r1, r2, c14", 4) R(cntvoff, "mrrc p15, 4, r1, r2, c14", 16) R(cnthctl, "mrc p15, 4, r1, c14, c1, 0", 16) R(cnthp_ctl, "mrc p15, 4, r1, c14, c2, 1", 16) \
    R(hcr, "mrc p15, 4, r1, c1, c1, 0", 16) R(hsctlr, "mrc p15, 4, r1, c1, c0, 0", 16) R(hsr, "mrc p15, 4, r1, c5, c2, 0", 16) R(hvbar, "mrc p15, 4, r1, c12, c0, 0", 16) \
    R(vpidr_w, "mcr p15, 4, r0, c0, c0, 0", 0) R(htpidr, "mrc p15, 4, r1, c13, c0, 2", 16) R(hstr, "mrc p15, 4, r1, c1, c1, 3", 16) \
    R(dbgdidr, "mrc p14, 0, r1, c0, c0, 0", 0) R(dbgdscrint, "mrc p14, 0, r1, c0, c1, 0", 0) R(dbgdscrext, "mrc p14, 0, r1, c0, c2, 2", 0) \
    R(dbgbcr0, "mrc p14, 0, r1, c0, c0, 5", 0) R(dbgwvr0_w, "mov r1, #0; mcr p14, 0, r1, c0, c0, 6", 0) R(dbgvcr, "mrc p14, 0, r1, c0, c7, 0", 1) \
    R(dbgdrar, "mrc p14, 0, r1, c1, c0, 0", 0) R(dbgdsar, "mrc p14, 0, r1, c2, c0, 0", 0) R(dbgoslsr, "mrc p14, 0, r1, c1, c1, 4", 0) R(dbgosdlr, "mrc p14, 0, r1, c1, c3, 4", 1) \
    R(dbgoslar_w, "mov r1, #0; mcr p14, 0, r1, c1, c0, 4", 0) R(dbgdrar_64, "mrrc p14, 0, r1, r2, c1", 8) \
    R(jidr, "mrc p14, 7, r1, c0, c0, 0", 1) R(joscr, "mrc p14, 7, r1, c1, c0, 0", 1) R(jmcr, "mrc p14, 7, r1, c2, c0, 0", 1) \
    R(impdef15, "mrc p15, 0, r1, c15, c7, 3", 8) R(impdef9, "mrc p15, 0, r1, c9, c8, 5", 0) R(impdef11, "mrc p15, 0, r1, c11, c2, 6", 0) R(unknown1, "mrc p15, 3, r1, c1, c7, 6", 0) \
    R(cp10_unknown, ".inst 0xeef21a10", 0) R(cdp, ".inst 0xee000f00", 0) \
    R(wfi, "wfi", 2) R(smc, "mvn r0, #0; smc #3", 0) R(hvc, "hvc #5", 4) R(svc, "svc #6", 4) R(bkpt, "bkpt #7", 4) R(udf, "udf #8", 4) \
    R(smc_ne, "cmp r0, r0; smcne #3; mvneq r0, #0; smceq #4", 0) \
    R(fpsid, "vmrs r1, fpsid", 4) R(mvfr0, "vmrs r1, mvfr0", 1) R(mvfr1, "vmrs r1, mvfr1", 1) R(mvfr2, ".inst 0xeef51a10", 1) R(fpexc, "vmrs r1, fpexc", 1) \
    R(fpexc_w, "mov r1, #0x40000000; vmsr fpexc, r1", 0) R(fpscr, "vmrs r1, fpscr", 5) R(fpscr_w, "mov r1, #0; vmsr fpscr, r1", 4) \
    R(vadd, "vadd.f32 s0, s0, s0", 4) R(vadd_q, "vadd.i32 q0, q0, q0", 4) R(vldr, "vldr d0, [r0]", 4) R(vld1, "vld1.8 {d0}, [r0]", 0) R(vadd_ne, "cmp r0, r0; vaddne.f32 s0, s0, s0", 0) \
    R(dbl_hi, "vmov.f64 d20, d21", 0) \
    R(mrc_ne, "cmp r0, r0; mrcne p15, 0, r1, c1, c0, 1", 0) R(mrc_eq, "cmp r0, r0; mrceq p15, 0, r1, c1, c0, 1", 0) R(mrc_le, "cmp r0, r0; mrcle p15, 0, r1, c1, c0, 0", 0) \
    R(mrc_it, "adr r1, 1f; orr r1, r1, #1; cmp r0, r0; bx r1; .thumb; .balign 4; 1: it eq; mrceq p15, 0, r1, c1, c0, 1; svc #99; .arm; .balign 4", 0) \
    R(mrc_t, "adr r1, 1f; orr r1, r1, #1; bx r1; .thumb; .balign 4; 1: mrc p15, 0, r1, c1, c0, 1; svc #99; .arm; .balign 4", 0) \
    R(svc_thumb, "adr r1, 1f; orr r1, r1, #1; bx r1; .thumb; .balign 4; 1: svc #9; svc #99; .arm; .balign 4", 0) \
    R(udf_thumb, "adr r1, 1f; orr r1, r1, #1; bx r1; .thumb; .balign 4; 1: udf #9; svc #99; .arm; .balign 4", 0) \
    R(hvc_thumb, "adr r1, 1f; orr r1, r1, #1; bx r1; .thumb; .balign 4; 1: hvc #9; svc #99; .arm; .balign 4", 0) \
    R(mrs_irq, "mrs r1, sp_irq; mrs r2, lr_fiq; mrs r2, r8_fiq", 0) R(mrs_spsr_fiq, "mrs r1, spsr_fiq", 0) R(mrs_hyp, "mrs r1, sp_hyp", 0) R(mrs_elr_hyp, "mrs r1, elr_hyp", 0) \
    R(mrs_mon, "mrs r1, sp_mon", 8) R(msr_usr, "mov r1, #0; msr sp_usr, r1", 0) R(cps_mon, "cps #0x16; mrs r1, cpsr; and r1, r1, #31", 0) \
    R(cps_sys, "cps #0x1f; mrs r1, cpsr; and r1, r1, #31", 1) R(ldrt, "ldrt r1, [r0]", 4) R(setend, "setend be; setend le", 4) \
    R(jazelle, "adr r1, 1f; bxj r1; 1:", 0) R(teecr, "mrc p14, 6, r1, c0, c0, 0", 0) \
    R(sgi1r, "mcrr p15, 0, r1, r2, c12", 0) R(icc_pmr, "mrc p15, 0, r1, c4, c6, 0", 0) R(icc_iar1, "mrc p15, 0, r1, c12, c12, 0", 0) R(icc_sre, "mrc p15, 0, r1, c12, c12, 5", 0) \
    R(icc_hsre, "mrc p15, 4, r1, c12, c9, 5", 0) R(icc_msre, "mrc p15, 6, r1, c12, c12, 5", 0) R(icc_ctlr, "mrc p15, 0, r1, c12, c12, 4", 0)

#define ROW(id, text, flags) NAKED static void i_##id(void) { __asm__ volatile(EXTENSIONS text "; svc #99"); }
ROWS(ROW)
#define ENTRY(id, text, flags) { #id, i_##id, flags },
static const struct row32 rows[] = { ROWS(ENTRY) };

/* SP is left with the SPSR: QEMU 7.2 does not show an AArch64 hypervisor that of the current mode. */
#define VECTORS(call) \
    __asm__(EXTENSIONS ".irp n, 0, 1, 2, 3, 4, 5, 6, 7; b 1f + 8 * \\n; .endr;" \
            "1: .irp n, 0, 1, 2, 3, 4, 5, 6, 7; mrs sp, spsr; " call " #\\n; .endr")
NAKED __attribute__((aligned(32))) static void hvc_vectors(void) { VECTORS("hvc"); }
NAKED __attribute__((aligned(32))) static void smc_vectors(void) { VECTORS("smc"); }

NAKED static void test_load(void) { __asm__("ldr r1, [r0]; svc #99"); }
NAKED static void test_store(void) { __asm__("str r1, [r0]; svc #99"); }
NAKED static void test_fetch(void) { __asm__("bx r0"); }
NAKED static void test_wait(void) { __asm__("1: subs r0, r0, #1; bne 1b; svc #99"); }
/* The same from PL1; r1: ISR. */
NAKED static void test_isr(void) { __asm__("mrc p15, 0, r1, c12, c1, 0; 1: subs r0, r0, #1; bne 1b; svc #99"); }
NAKED static void test_end(void) { __asm__("svc #99"); }
/* Every register of every mode but Hyp's and Monitor's, from a base: each has its own value. */
NAKED static void test_registers(void)
{
    __asm__(".irp n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12; add r\\n, r0, #\\n; .endr;"
            "cps #0x1f; add r13, r0, #13; add r14, r0, #14;"
            "cps #0x12; add r14, r0, #16; add r13, r0, #17; cps #0x13; add r14, r0, #18; add r13, r0, #19;"
            "cps #0x17; add r14, r0, #20; add r13, r0, #21; cps #0x1b; add r14, r0, #22; add r13, r0, #23;"
            "cps #0x11; .irp n, 8, 9, 10, 11, 12, 13, 14; add r\\n, r0, #(16 + \\n); .endr;"
            "add r1, r0, #32; msr spsr_cxsf, r1; cps #0x12; add r1, r0, #33; msr spsr_cxsf, r1; cps #0x17; add r1, r0, #34; msr spsr_cxsf, r1;"
            "cps #0x1b; add r1, r0, #35; msr spsr_cxsf, r1; cps #0x1f; add r1, r0, #1; udf #0");
}
/* Adds all of them up, each times its number's square, into r1. */
NAKED static void test_banks(void)
{
    __asm__(EXTENSIONS
            ".macro sum reg, k; mov r3, #(\\k * \\k + \\k); mla r1, \\reg, r3, r1; .endm; .macro both m, k; mrs r2, sp_\\m; sum r2, \\k; mrs r2, lr_\\m; sum r2, \\k + 1; .endm;"
            "mov r1, #0; sum r4, 4; sum r12, 12; mrs r2, sp_usr; sum r2, 13; mrs r2, lr_usr; sum r2, 14; both irq, 16; both abt, 20; both und, 22; sum r13, 18; sum r14, 19;"
            ".irp n, 8, 9, 10, 11, 12; mrs r2, r\\n\\()_fiq; sum r2, 16 + \\n; .endr; both fiq, 29; svc #99");
}
/* Stage 1 on: r0 SCTLR, r4 DACR, r5 address to load from, r6 to store to. */
NAKED static void test_mmu(void)
{
    __asm__("mcr p15, 0, r4, c3, c0, 0; mcr p15, 0, r0, c8, c7, 0; dsb; mcr p15, 0, r0, c1, c0, 0; isb; ldr r1, [r5]; str r1, [r6]; svc #99");
}
/* Interrupts unmasked; r1 counts. */
NAKED static void test_irq(void) { __asm__("mov r1, #0; cpsie aif; nop; nop; add r1, r1, #1; svc #99"); }
/* Accesses that a hypervisor may be asked to carry out. */
NAKED static void test_ldr_forms(void)
{
    __asm__("mov r7, #4; ldr r1, [r0]; ldrb r2, [r0, #1]; ldrh r3, [r0, #2]; ldrsb r4, [r0, #3]; ldrsh r5, [r0, #4]; str r6, [r0, r7]; strb r1, [r0]; strh r2, [r0];"
            "ldrd r2, r3, [r0]; ldr r1, [r0], #4; ldr r1, [r0, #4]!; ldm r0, {r1, r2}; ldrex r1, [r0]; ldrt r1, [r0]; ldrd r2, r3, [r0, r7];"
            "adr r1, 1f; orr r1, r1, #1; bx r1; .thumb; .balign 4; 1: ldr r1, [r0]; str r2, [r0, #8]; ldrsh r3, [r0, r7]; strb.w r3, [r0, #40]; ldrb.w r4, [r0, #3]; svc #99; .arm; .balign 4");
}

NAKED static void test_end_thumb(void) { __asm__(".thumb; mov r1, #1; svc #99; .arm; .balign 4"); }

static const ptr32 tests[TEST_COUNT] = {
    [TEST_LOAD] = test_load, [TEST_STORE] = test_store, [TEST_REGISTERS] = test_registers, [TEST_FETCH] = test_fetch, [TEST_WAIT] = test_wait,
    [TEST_MMU] = test_mmu, [TEST_BANKS] = test_banks, [TEST_IRQ] = test_irq, [TEST_LDR_FORMS] = test_ldr_forms, [TEST_END] = test_end, [TEST_END_THUMB] = test_end_thumb,
    [TEST_ISR] = test_isr,
};

extern const struct rows32 rows32;
const struct rows32 rows32 __attribute__((section(".rows32"), used)) = { sizeof(rows) / sizeof(rows[0]), (ptr32)rows, hvc_vectors, smc_vectors, (ptr32)tests };
