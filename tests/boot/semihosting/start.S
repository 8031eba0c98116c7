/* One hart or CPU runs the program; the others sleep. */
    .section .text.start, "ax"
    .globl _start
_start:
#if defined(__riscv)
    csrr t0, mhartid
    bnez t0, 1f
    la sp, stack_top
    call main_program
1:  wfi
    j 1b
#elif defined(__aarch64__)
    adrp x0, stack_top
    add x0, x0, :lo12:stack_top
    mov sp, x0
    bl main_program
1:  wfi
    b 1b
#else
    ldr r0, =stack_top
    mov sp, r0
    bl main_program
1:  wfi
    b 1b
#endif
    .bss
    .balign 16
    .space 16384
stack_top:
    .section .note.GNU-stack, "", %progbits
