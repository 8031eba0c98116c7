/* All CPUs start here, at whatever exception level; every exception begins the next action. */
    .section .text.start, "ax"
    .globl _start
_start:
    b begin
    .text
begin:
    msr DAIFSet, #15
    adrp x9, vectors
    add x9, x9, :lo12:vectors
    mrs x10, CurrentEL
    msr VBAR_EL1, x9
    cmp x10, #8
    b.lo 1f
    msr VBAR_EL2, x9
    cmp x10, #12
    b.lo 1f
    msr VBAR_EL3, x9
1:  isb
    bl stack
    bl main
trap:
    msr DAIFSet, #15
    bl stack
    bl resume
stack:
    mrs x9, MPIDR_EL1
    and x9, x9, #7
    add x9, x9, #1
    lsl x9, x9, #14
    adrp x10, stacks
    add x10, x10, :lo12:stacks
    add x9, x9, x10
    mov sp, x9
    ret
    .balign 2048
vectors:
    .rept 16
    b trap
    .balign 128
    .endr
    .bss
    .balign 16
stacks:
    .space 16384 * 9
