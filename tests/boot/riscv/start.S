/* The bare-metal test's entry, its way into a privilege and back, and what it does there. */
#ifdef __LP64__
#define L ld
#define S sd
#define W 8
#else
#define L lw
#define S sw
#define W 4
#endif

    .section .text.start, "ax"
    .globl _start
_start:
    csrr t0, mhartid
    bnez t0, park
    la sp, stack_top
    call main
park:
    csrw mie, zero
    wfi
    j park

/* struct trap *enter(unsigned long mstatus, const void *pc, unsigned long a0): goes to pc in the privilege that mstatus.MPP
 * says, with a0; returns at the first trap to machine mode, whatever it is. */
    .text
    .globl enter
    .balign 4
enter:
    addi sp, sp, -16 * W
    S ra, 0(sp)
    S s0, 1 * W(sp)
    S s1, 2 * W(sp)
    S s2, 3 * W(sp)
    S s3, 4 * W(sp)
    S s4, 5 * W(sp)
    S s5, 6 * W(sp)
    S s6, 7 * W(sp)
    S s7, 8 * W(sp)
    S s8, 9 * W(sp)
    S s9, 10 * W(sp)
    S s10, 11 * W(sp)
    S s11, 12 * W(sp)
    la t0, trap
    S sp, 8 * W(t0)
    la t1, back
    csrw mtvec, t1
    csrw mstatus, a0
    csrw mepc, a1
    mv a0, a2
    mret
/* Vectored entries too: the number of the slot is in t6 (0 where mtvec is direct). */
    .balign 256
    .globl vectors
vectors:
    .rept 16
    j 1f
    .endr
1:
    .balign 4
back:
    la t0, trap
    L sp, 8 * W(t0)
    S a0, 4 * W(t0)
    csrr t1, mcause
    S t1, 0(t0)
    csrr t1, mepc
    S t1, W(t0)
    csrr t1, mtval
    S t1, 2 * W(t0)
    csrr t1, mstatus
    S t1, 3 * W(t0)
    L ra, 0(sp)
    L s0, 1 * W(sp)
    L s1, 2 * W(sp)
    L s2, 3 * W(sp)
    L s3, 4 * W(sp)
    L s4, 5 * W(sp)
    L s5, 6 * W(sp)
    L s6, 7 * W(sp)
    L s7, 8 * W(sp)
    L s8, 9 * W(sp)
    L s9, 10 * W(sp)
    L s10, 11 * W(sp)
    L s11, 12 * W(sp)
    addi sp, sp, 16 * W
    mv a0, t0
    ret

/* What is done there: each ends in ECALL. */
#define STUB(name) .balign 4; .globl name; name:
STUB(do_ecall)      ecall
STUB(do_load)       L a0, 0(a0); ecall
STUB(do_load4)      lw a0, 0(a0); ecall
STUB(do_store4)     sw a0, 0(a0); ecall
STUB(do_store)      S a0, 0(a0); ecall
STUB(do_amo)        amoadd.w a0, x0, (a0); ecall
STUB(do_amomax)     amomaxu.w a0, x0, (a0); ecall
STUB(do_lr)         lr.w a0, (a0); ecall
STUB(do_jump)       jr a0
STUB(do_csr_mstatus) csrr a0, mstatus; ecall
STUB(do_csr_satp)   csrr a0, satp; ecall
STUB(do_csr_senvcfg) csrr a0, senvcfg; ecall
STUB(do_csr_sstateen) csrr a0, 0x10c; ecall
STUB(do_csr_mstateen) csrr a0, 0x30c; ecall
STUB(do_csr_time)   csrr a0, time; ecall
STUB(do_csr_scountovf) csrr a0, 0xda0; ecall
STUB(do_csr_hpm3) csrr a0, hpmcounter3; ecall
STUB(do_write_time) csrw time, a0; ecall
STUB(do_sfence)     sfence.vma; ecall
STUB(do_sret)       sret
STUB(do_mret)       mret
STUB(do_wfi)        wfi; ecall
STUB(do_spin)       j do_spin
STUB(do_fp)         .insn 0xf0000053; ecall      /* fmv.w.x f0, x0 */
STUB(do_cbo_zero)   .insn i 0x0f, 2, x0, a0, 4; ecall
/* A supervisor's handler: to machine mode by ECALL. */
STUB(s_handler)     ecall

    .bss
    .balign 4096
    .space 8192
stack_top:
