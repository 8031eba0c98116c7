/* A bare-metal program for cross-modifying code (SDM vol. 3, 9.1.3): processor 0 rewrites instructions that the others call
 * all the time; once it says so, and they have executed a serializing instruction, they must see what it wrote. Prints
 * "ok" and the number of processors, or what was stale, to port E9. Then the others sleep by MWAIT until a store of
 * processor 0 wakes them: "w", or "v" if they woke in vain (as QEMU has it, whose MWAIT is a pause). A firmware image of 64 KiB, copied to 20000h.
 *
 * Three functions are rewritten: one in a page of its own, one in the page of the running program, and one in a page that
 * nobody has run before (each round another), while the others begin to call it. */
    .set BASE, 0x20000
    .set TRAMPOLINE, 0x8000     /* SIPI vector 8 */
    .set OWN_PAGE, 0x40003      /* mov $imm, %eax with its immediate at a multiple of 4; ret */
    .set FRESH, 0x200003        /* the like, a page a round */
    .set GO, 0x50000            /* round that may be checked */
    .set BEGIN, 0x500c0         /* round whose fresh page may be called */
    .set WAITING, 0x50100       /* rounds are over: MWAIT until LINE is not 0 */
    .set LINE, 0x50200
    .set AWAKE, 0x50240
    .set VAIN, 0x50280          /* times that MWAIT ended */
    .set COUNT, 0x50040         /* application processors that run */
    .set FAILED, 0x50080
    .set ACKS, 0x51000          /* a cache line a processor */
    .set LAPIC, 0xfee00000
    .set ROUNDS, 150
    .set APS, 3                 /* -smp 4 */

    .text
    .code16
start:
    cli
    xor %ax, %ax
    mov %ax, %es
    mov $(BASE >> 4), %ax
    mov %ax, %es
    mov %cs, %ax
    mov %ax, %ds
    xor %si, %si
    xor %di, %di
    mov $0x4000, %cx
    cld
    rep movsl
    xor %ax, %ax
    mov %ax, %es
    mov $(trampoline - start), %si
    mov $TRAMPOLINE, %di
    mov $(trampoline_end - trampoline), %cx
    rep movsb
    lgdtl %cs:(gdtr - start)
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $8, $(BASE + first - start)

trampoline:
    cli
    lgdtl %cs:(trampoline_gdtr - trampoline)
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $8, $(BASE + other - start)
trampoline_gdtr:
    .word 23
    .long BASE + gdt - start
trampoline_end:

gdtr:
    .word 23
    .long BASE + gdt - start
    .balign 8
gdt:
    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff

    .code32
.macro DATA_SEGMENTS
    mov $16, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
.endm

/* ---- processor 0 */
first:
    DATA_SEGMENTS
    mov $0x7000, %esp
    movb $0xb8, OWN_PAGE
    movl $0, OWN_PAGE + 1
    movb $0xc3, OWN_PAGE + 5
    mov $FRESH, %edi
    mov $(ROUNDS + 2), %ecx
1:  movb $0xb8, (%edi)
    movl $0, 1(%edi)
    movb $0xc3, 5(%edi)
    add $0x1000, %edi
    loop 1b
    movl $0x1ff, LAPIC + 0xf0
    movl $0xc4500, LAPIC + 0x300        /* INIT to all others */
    mov $200000, %ecx
1:  nop
    loop 1b
    movl $(0xc4600 | TRAMPOLINE >> 12), LAPIC + 0x300
1:  pause
    cmpl $APS, COUNT
    jne 1b
    mov COUNT, %ebp
    xor %ebx, %ebx
round:
    inc %ebx
    mov %ebx, %eax
    shl $12, %eax
    mov %ebx, BEGIN
    mov %ebx, FRESH + 1(%eax)
    mov %ebx, OWN_PAGE + 1
    mov %ebx, BASE + shared_imm - start
    mov %ebx, GO
    mov %ebp, %ecx
wait_acks:
    jecxz round_over
    mov %ecx, %esi
    shl $6, %esi
1:  pause
    cmpl $0, FAILED
    jne failed
    cmp %ebx, ACKS(%esi)
    jne 1b
    dec %ecx
    jmp wait_acks
round_over:
    cmp $ROUNDS, %ebx
    jb round
    mov $'o', %al
    out %al, $0xe9
    mov $'k', %al
    out %al, $0xe9
    mov $' ', %al
    out %al, $0xe9
    lea '1'(%ebp), %eax
    out %al, $0xe9
    mov $10, %al
    out %al, $0xe9
    movl $1, WAITING
    mov $20000000, %ecx                 /* long enough for them to fall asleep */
1:  dec %ecx
    jnz 1b
    movl $1, LINE
1:  pause
    cmpl $APS, AWAKE
    jne 1b
    mov $'w', %al                       /* woken by a store, and not many times before it */
    cmpl $20, VAIN
    jb 1f
    mov $'v', %al
1:  out %al, $0xe9
    jmp over
failed:
    mov $'s', %al
    out %al, $0xe9
    mov $'t', %al
    out %al, $0xe9
    mov $'a', %al
    out %al, $0xe9
    mov $'l', %al
    out %al, $0xe9
    mov $'e', %al
    out %al, $0xe9
over:
    mov $10, %al
    out %al, $0xe9
    mov $0x10, %al
    out %al, $0xf4
    hlt

/* ---- the others */
other:
    DATA_SEGMENTS
    mov $1, %edi
    lock xadd %edi, COUNT
    inc %edi
    shl $6, %edi                        /* its acknowledgement */
    mov %edi, %esp
    shl $6, %esp                        /* 4 KiB of stack each, from 60000h */
    add $0x60000, %esp
    xor %ebp, %ebp                      /* the last round seen */
1:  call shared                         /* may see the old or the new, nothing else */
    sub %ebp, %eax
    cmp $1, %eax
    ja stale
    mov $OWN_PAGE, %eax
    call *%eax
    sub %ebp, %eax
    cmp $1, %eax
    ja stale
    lea 1(%ebp), %eax
    cmp BEGIN, %eax
    jne 2f
    call fresh
    test %eax, %eax
    jz 2f
    sub %ebp, %eax
    cmp $1, %eax
    jne stale
2:  cmpl $0, WAITING
    jne sleep
    cmp GO, %ebp
    je 1b
    inc %ebp
    xor %eax, %eax
    cpuid
    call shared
    cmp %ebp, %eax
    jne stale
    mov $OWN_PAGE, %eax
    call *%eax
    cmp %ebp, %eax
    jne stale
    mov %ebp, %eax
    call fresh
    cmp %ebp, %eax
    jne stale
    mov %ebp, ACKS(%edi)
    jmp 1b
sleep:
    mov $LINE, %eax
    xor %ecx, %ecx
    xor %edx, %edx
    monitor
    cmpl $0, LINE
    jne 1f
    xor %eax, %eax
    mwait
    lock incl VAIN
    jmp sleep
1:  lock incl AWAKE
    cli
    hlt
fresh:
    shl $12, %eax
    add $FRESH, %eax
    jmp *%eax
stale:
    movl $1, FAILED
    cli
    hlt

    .balign 4
    .byte 0x90, 0x90, 0x90
shared:
    .byte 0xb8
shared_imm:
    .long 0
    ret

    .org 0xfff0
    .code16
    ljmp $0xf000, $0
    .org 0x10000
