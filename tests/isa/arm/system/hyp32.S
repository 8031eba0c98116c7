/* Hyp or Monitor mode above the rest of a 32-bit processor: start, vectors, and the way down. The registers of all modes go in
 * and out by way of regs[], which is in the order that AArch64 gives them. */
    .arch armv7ve
    .arch_extension sec
    .arch_extension virt
    .syntax unified
    .arm
    .section .text.start, "ax"
    .globl _start
_start:
    cpsid aif
    mrc p15, 0, r0, c0, c0, 5
    tst r0, #3
    bne 3f
    ldr sp, =stack_top
    ldr r0, =vectors
    mrs r1, cpsr
    and r1, r1, #31
    cmp r1, #0x1a
    bne 1f
    mcr p15, 4, r0, c12, c0, 0
    b 2f
1:  mcr p15, 0, r0, c12, c0, 1          /* Secure: on to Monitor mode */
    mov r2, #0xc00
    mcr p15, 0, r2, c1, c1, 2
    cps #0x16
    ldr sp, =stack_top
    mov r0, #0x101                      /* NS, HCE: cp15 from here is the Non-secure side's */
    mcr p15, 0, r0, c1, c1, 0
2:  isb
    mov r0, r1
    bl main
    .globl done
done:                                   /* PSCI SYSTEM_OFF would need the board's firmware */
    mov r0, #0x18
    ldr r1, =0x20026
    svc #0x123456
3:  wfi
    b 3b

    .macro bank op, reg, at
    .ifc \op, save
    mrs r1, \reg
    str r1, [r0, #(4 * \at)]
    .else
    ldr r1, [r0, #(4 * \at)]
    msr \reg, r1
    .endif
    .endm
    .macro banks op
    bank \op, sp_usr, 13
    bank \op, lr_irq, 16
    bank \op, sp_irq, 17
    bank \op, lr_svc, 18
    bank \op, sp_svc, 19
    bank \op, lr_abt, 20
    bank \op, sp_abt, 21
    bank \op, lr_und, 22
    bank \op, sp_und, 23
    bank \op, r8_fiq, 24
    bank \op, r9_fiq, 25
    bank \op, r10_fiq, 26
    bank \op, r11_fiq, 27
    bank \op, r12_fiq, 28
    bank \op, sp_fiq, 29
    bank \op, lr_fiq, 30
    .endm
/* The same from Monitor mode without the Virtualization Extensions: by way of the modes, which are Secure for the time. */
    .macro mode op, m, at_sp, at_lr
    cps #\m
    \op sp, [r0, #(4 * \at_sp)]
    \op lr, [r0, #(4 * \at_lr)]
    .endm
    .macro modes op
    mrc p15, 0, r3, c1, c1, 0
    bic r4, r3, #1
    mcr p15, 0, r4, c1, c1, 0
    isb
    mode \op, 0x1f, 13, 14
    mode \op, 0x12, 17, 16
    mode \op, 0x13, 19, 18
    mode \op, 0x17, 21, 20
    mode \op, 0x1b, 23, 22
    mode \op, 0x11, 29, 30
    cps #0x16
    mcr p15, 0, r3, c1, c1, 0
    isb
    .endm

    .balign 32
vectors:
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7
    b 4f + 12 * \n
    .endr
4:  .irp n, 0, 1, 2, 3, 4, 5, 6, 7
    push {r0, r1}
    mov r1, #\n
    b common
    .endr
common:
    ldr r0, =regs
    str r2, [r0, #8]
    mov r2, r1
    add r1, r0, #12
    stm r1, {r3-r12}
    pop {r3, r4}
    stm r0, {r3, r4}
    mrs r1, cpsr
    and r1, r1, #31
    cmp r1, #0x1a
    streq lr, [r0, #(4 * 14)]           /* Hyp's LR is User's */
    beq 5f
    ldr r1, =link
    str lr, [r1]
    modes str
    b 6f
5:  banks save
6:  mov r0, r2
    bl taken
    b down

    .globl enter
enter:
    push {r4-r12, lr}
    ldr r0, =run_sp
    str sp, [r0]
down:
    ldr r0, =regs
    mrs r1, cpsr
    and r1, r1, #31
    cmp r1, #0x1a
    beq 7f
    modes ldr
    ldr r1, =link
    ldr lr, [r1]
    add r1, r0, #8
    ldm r1, {r2-r12}
    ldr r1, [r0, #4]
    ldr r0, [r0]
    movs pc, lr
7:  banks load
    ldr lr, [r0, #(4 * 14)]
    add r1, r0, #8
    ldm r1, {r2-r12}
    ldr r1, [r0, #4]
    ldr r0, [r0]
    eret

    .globl leave
leave:
    ldr r0, =run_sp
    ldr sp, [r0]
    pop {r4-r12, pc}

    .bss
    .balign 16
run_sp: .space 4
    .space 16384
stack_top:
