/* Start and vectors of the bare-metal tests of AArch32: every exception is recorded and goes on where the test says
 * (see test32.h). */
#include "test32.h"
    .arch armv7ve
    .arch_extension sec
    .syntax unified

/* The vectors, and what they do, in either instruction set. */
    .macro vector name, n
\name:
    push {r0-r12, lr}
    mrs r1, spsr
    mov r0, #\n
    push {r1, r2}
    mov r1, sp
    bl exception
    pop {r1, r2}
    msr spsr_cxsf, r1
    pop {r0-r12, lr}
    subs pc, lr, #0
    .ltorg
    .endm
    .macro table name, state, w
    .balign 32
    .globl \name
\name:
    b\w 9f
    b\w \state\()_undefined
    b\w \state\()_supervisor
    b\w \state\()_prefetch
    b\w \state\()_data
    b\w 9f
    b\w \state\()_irq
    b\w \state\()_fiq
9:  b 9b
    vector \state\()_undefined, 1
    vector \state\()_supervisor, 2
    vector \state\()_prefetch, 3
    vector \state\()_data, 4
    vector \state\()_irq, 6
    vector \state\()_fiq, 7
    .endm

    .section .text.start, "ax"
    .arm
    .globl _start
_start:
    cpsid aif
    ldr r0, =stacks + 4096
    .irp mode, FIQ, IRQ, ABT, UND, SYS, SVC
    cps #\mode
    mov sp, r0
    add r0, r0, #4096
    .endr
    ldr r0, =vectors
    mcr p15, 0, r0, c12, c0, 0
    isb
    bl main
    /* SYS_EXIT, application exit */
    mov r0, #0x18
    ldr r1, =0x20026
    svc #0x123456
1:  b 1b

    .text
    table vectors, arm,
    .thumb
    table thumb_vectors, thumb, .w
    .arm

/* uint32_t call_in(uint32_t cpsr, uint32_t (*fn)(uint32_t), uint32_t arg), from Supervisor mode. */
    .globl call_in
call_in:
    push {r4-r12, lr}
    ldr r3, =call_sp
    str sp, [r3]
    ldr r3, =call_back
    adr r4, 2f
    str r4, [r3]
    tst r1, #1
    orrne r0, r0, #0x20
    bic r1, r1, #1
    mrs r4, cpsr
    cps #SYS
    ldr r3, =user_sp
    ldr sp, [r3]
    msr cpsr_c, r4
    msr spsr_cxsf, r0
    mov r0, r2
    movs pc, r1
2:  ldr r3, =call_sp
    ldr sp, [r3]
    ldr r3, =call_result
    ldr r0, [r3]
    pop {r4-r12, pc}

    .bss
    .balign 4096
stacks:
    .space 4096 * 7
