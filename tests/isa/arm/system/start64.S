/* Start and vectors of the bare-metal tests of AArch64's system side: every exception is recorded and skipped or ended as
 * the test asks (see test64.h). */
#include "test64.h"
    .section .text.start, "ax"
    .globl _start
_start:
    ldr x9, =stack_top
    mov sp, x9
    ldr x9, =vectors
    mrs x10, CurrentEL
    cmp x10, #8
    b.eq 2f
    msr VBAR_EL1, x9
    mov x11, #(3 << 20)
    msr CPACR_EL1, x11
    b 3f
2:  msr VBAR_EL2, x9
    mov x11, #0x33ff
    msr CPTR_EL2, x11
3:  isb
    bl main
    ldr w0, =0x84000008
    hvc #0
    smc #0
4:  wfi
    b 4b

    .globl second_start
second_start:
    ldr x9, =second_stack_top
    mov sp, x9
    ldr x9, =vectors
    msr VBAR_EL1, x9
    isb
    bl second_main
5:  wfi
    b 5b

/* Each vector: save what the interrupted code had, record, call exception(slot, frame), restore. */
    .macro vector n
    .balign 128
    sub sp, sp, #272
    stp x0, x1, [sp]
    mov x0, #\n
    b common
    .endm
    .balign 2048
    .globl vectors
vectors:
    vector 0
    vector 1
    vector 2
    vector 3
    vector 4
    vector 5
    vector 6
    vector 7
    vector 8
    vector 9
    vector 10
    vector 11
    vector 12
    vector 13
    vector 14
    vector 15

common:
    stp x2, x3, [sp, #16]
    stp x4, x5, [sp, #32]
    stp x6, x7, [sp, #48]
    stp x8, x9, [sp, #64]
    stp x10, x11, [sp, #80]
    stp x12, x13, [sp, #96]
    stp x14, x15, [sp, #112]
    stp x16, x17, [sp, #128]
    stp x18, x19, [sp, #144]
    stp x29, x30, [sp, #240]
    mov x1, sp
    bl exception
    ldp x2, x3, [sp, #16]
    ldp x4, x5, [sp, #32]
    ldp x6, x7, [sp, #48]
    ldp x8, x9, [sp, #64]
    ldp x10, x11, [sp, #80]
    ldp x12, x13, [sp, #96]
    ldp x14, x15, [sp, #112]
    ldp x16, x17, [sp, #128]
    ldp x18, x19, [sp, #144]
    ldp x29, x30, [sp, #240]
    ldp x0, x1, [sp]
    add sp, sp, #272
    eret

/* uint64_t at_el0(uint64_t (*fn)(uint64_t), uint64_t arg): runs fn at EL0, which comes back by svc #99. */
    .globl at_el0
at_el0:
    stp x29, x30, [sp, #-96]!
    stp x19, x20, [sp, #16]
    stp x21, x22, [sp, #32]
    stp x23, x24, [sp, #48]
    stp x25, x26, [sp, #64]
    stp x27, x28, [sp, #80]
    adr x9, 6f
    ldr x10, =el0_return
    str x9, [x10]
    mov x9, sp
    ldr x10, =el0_sp
    str x9, [x10]
    ldr x9, =user_stack_top
    msr SP_EL0, x9
    mov x9, #0x3c0
    ldr x10, =el0_spsr
    ldr x10, [x10]
    orr x9, x9, x10
    msr SPSR_EL1, x9
    ldr x9, =user_entry
    msr ELR_EL1, x9
    mov x2, x0
    mov x0, x1
    eret
6:  ldr x10, =el0_sp
    ldr x9, [x10]
    mov sp, x9
    ldp x19, x20, [sp, #16]
    ldp x21, x22, [sp, #32]
    ldp x23, x24, [sp, #48]
    ldp x25, x26, [sp, #64]
    ldp x27, x28, [sp, #80]
    ldp x29, x30, [sp], #96
    ret

    .section .user, "ax"
    .balign 4096
    .globl user_entry, user_stack_top
user_entry:
    blr x2
    svc #99
    .bss
    .balign 16
    .space 16384
stack_top:
    .space 16384
second_stack_top:
    .section .userdata, "aw"
    .balign 4096
    .space 4096
user_stack_top:
