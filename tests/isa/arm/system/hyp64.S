/* Start and vectors of the bare-metal tests of EL2 and EL3: each exception goes to exception(slot, level, frame) at the level
 * that took it. */
    .section .text.start, "ax"
    .globl _start
_start:
    mrs x9, MPIDR_EL1
    tst x9, #0xff
    b.ne 3f
    ldr x9, =stack_top
    mov sp, x9
    ldr x9, =vectors1
    msr VBAR_EL1, x9
    ldr x9, =stack1_top
    mrs x10, CurrentEL
    cmp x10, #12
    b.ne 1f
    ldr x10, =vectors3
    msr VBAR_EL3, x10
    msr CPTR_EL3, xzr
    mov x10, #0x501             /* NS, RW, HCE: for what is EL2's own */
    msr SCR_EL3, x10
    isb
    ldr x10, =vectors2
    msr VBAR_EL2, x10
    b 2f
1:  ldr x10, =vectors2
    msr VBAR_EL2, x10
2:  mov x10, #0x33ff
    msr CPTR_EL2, x10
    mov x10, #(3 << 20)
    msr CPACR_EL1, x10
    isb
    bl main
    .globl done
done:                           /* semihosting: SYS_EXIT, ADP_Stopped_ApplicationExit, 0 */
    mov w0, #0x18
    adr x1, 4f
    hlt #0xf000
3:  wfi
    b 3b
    .balign 8
4:  .xword 0x20026, 0

    .macro vector level, n
    .balign 128
    sub sp, sp, #272
    stp x0, x1, [sp]
    mov x0, #\n
    mov x1, #\level
    b common
    .endm
    .macro vectors level
    .balign 2048
    .globl vectors\level
vectors\level:
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    vector \level, \n
    .endr
    .endm
    vectors 1
    vectors 2
    vectors 3

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
    mov x2, sp
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

/* void run_at(uint64_t spsr, void (*fn)(uint64_t), uint64_t argument): runs fn at a lower level, which comes back through
 * `back`, where exception() points the level we are at. */
    .macro enter level
    msr SPSR_EL\level, x0
    msr ELR_EL\level, x9
    .endm
    .globl run_at
run_at:
    stp x29, x30, [sp, #-96]!
    stp x19, x20, [sp, #16]
    stp x21, x22, [sp, #32]
    stp x23, x24, [sp, #48]
    stp x25, x26, [sp, #64]
    stp x27, x28, [sp, #80]
    ldr x10, =run_sp
    mov x9, sp
    str x9, [x10]
    ldr x9, =stack0_top
    msr SP_EL0, x9
    ldr x9, =stack1_top
    msr SP_EL1, x9
    adr x9, lower
    mrs x10, CurrentEL
    cmp x10, #12
    b.eq 5f
    enter 2
    b 6f
5:  ldr x10, =stack2_top
    msr SP_EL2, x10
    enter 3
6:  mov x0, x2
    mov x2, x1
    eret
lower:
    blr x2
    mrs x9, TPIDRRO_EL0         /* how the test is left: not every way is open to it */
    cbz x9, 8f
    .globl leave_svc
leave_svc:
    svc #99
8:  hvc #99
    svc #99

    .globl back
back:
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

    .bss
    .balign 16
run_sp: .space 16
    .space 16384
stack_top:
    .space 16384
stack2_top:
    .space 16384
stack1_top:
    .space 16384
stack0_top:
