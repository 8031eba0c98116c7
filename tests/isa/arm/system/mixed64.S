/* AArch64 EL2 or EL3 above AArch32: start, vectors, and the way down. All of X0 to X30 goes in and out by way of regs[]. */
    .section .text.start, "ax"
    .globl _start
_start:
    mrs x9, MPIDR_EL1
    tst x9, #0xff
    b.ne 3f
    ldr x9, =stack_top
    mov sp, x9
    ldr x9, =vectors
    mrs x10, CurrentEL
    cmp x10, #12
    b.ne 1f
    msr VBAR_EL3, x9
    msr CPTR_EL3, xzr
    b 2f
1:  msr VBAR_EL2, x9
    mov x10, #0x33ff
    msr CPTR_EL2, x10
2:  isb
    bl main
    .globl done
done:
    mov w0, #0x18
    adr x1, 4f
    hlt #0xf000
3:  wfi
    b 3b
    .balign 8
4:  .xword 0x20026, 0

    .macro all op
    \op x2, x3, [x0, #16]
    \op x4, x5, [x0, #32]
    \op x6, x7, [x0, #48]
    \op x8, x9, [x0, #64]
    \op x10, x11, [x0, #80]
    \op x12, x13, [x0, #96]
    \op x14, x15, [x0, #112]
    \op x16, x17, [x0, #128]
    \op x18, x19, [x0, #144]
    \op x20, x21, [x0, #160]
    \op x22, x23, [x0, #176]
    \op x24, x25, [x0, #192]
    \op x26, x27, [x0, #208]
    \op x28, x29, [x0, #224]
    .endm

    .balign 2048
vectors:
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    .balign 128
    stp x0, x1, [sp, #-16]!
    mov x1, #\n
    b common
    .endr
common:
    ldr x0, =regs
    all stp
    str x30, [x0, #240]
    ldp x2, x3, [sp], #16
    stp x2, x3, [x0]
    mov x0, x1
    bl taken
    b down

/* void enter(void): saves what C wants kept, and goes down with regs[], SPSR and ELR as they are set. */
    .globl enter
enter:
    stp x29, x30, [sp, #-96]!
    stp x19, x20, [sp, #16]
    stp x21, x22, [sp, #32]
    stp x23, x24, [sp, #48]
    stp x25, x26, [sp, #64]
    stp x27, x28, [sp, #80]
    ldr x10, =run_sp
    mov x9, sp
    str x9, [x10]
down:
    ldr x0, =regs
    all ldp
    ldr x30, [x0, #240]
    ldp x0, x1, [x0]
    eret

    .globl leave
leave:
    ldr x10, =run_sp
    ldr x9, [x10]
    mov sp, x9
    ldp x19, x20, [sp, #16]
    ldp x21, x22, [sp, #32]
    ldp x23, x24, [sp, #48]
    ldp x25, x26, [sp, #64]
    ldp x27, x28, [sp, #80]
    ldp x29, x30, [sp], #96
    ret

    .section .rows, "a"
    .globl rows32_blob
    .balign 4096
rows32_blob:
    .incbin ROWS32_BIN
    .bss
    .balign 16
run_sp: .space 16
    .space 16384
stack_top:
