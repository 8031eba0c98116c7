/* All CPUs start here; every exception begins the next action, in supervisor mode. */
    .arch armv7-a
    .arch_extension virt
    .arch_extension sec
    .section .text.start, "ax"
    .arm
    .globl _start
_start:
    b begin
    .text
begin:
    mrs r0, cpsr
    and r0, r0, #0x1f
    cmp r0, #0x1a                   /* hyp mode has vectors of its own */
    ldr r1, =vectors
    mcreq p15, 4, r1, c12, c0, 0
    mcrne p15, 0, r1, c12, c0, 0
    cpsid aif
    isb
    bl stack
    bl main
trap:
    mrs r0, cpsr
    and r0, r0, #0x1f
    cmp r0, #0x1a
    beq 1f
    cps #0x13
1:  cpsid aif
    bl stack
    bl resume
stack:
    mrc p15, 0, r0, c0, c0, 5
    and r0, r0, #7
    add r0, r0, #1
    lsl r0, r0, #14
    ldr r1, =stacks
    add sp, r0, r1
    bx lr
    .balign 32
vectors:
    .rept 8
    b trap
    .endr
    .bss
    .balign 16
stacks:
    .space 16384 * 9
