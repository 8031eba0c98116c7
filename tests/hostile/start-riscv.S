/* All harts start here, in machine mode; every trap begins the next action. */
    .section .text.start, "ax"
    .globl _start
_start:
    la t0, begin
    jr t0
    .text
begin:
    la t0, trap
    csrw mtvec, t0
    csrw mie, zero
    jal t1, stack
    call main
    .balign 4
trap:
    csrw mie, zero
    li t0, 0x1800
    csrs mstatus, t0
    jal t1, stack
    call resume
stack:
    csrr t0, mhartid
    andi t0, t0, 7
    addi t0, t0, 1
    slli t0, t0, 14
    la sp, stacks
    add sp, sp, t0
    jr t1
    .bss
    .balign 16
stacks:
    .space 16384 * 9
