/* A bare-metal program for what user level cannot show: real, protected, virtual-8086 and long mode, gates, task
 * switches, paging, faults and their frames. It prints every observation to port E9; test_system.py runs it under Rhea
 * and under QEMU and compares the text. A firmware image: 64 KiB, entered at F000:FFF0, copied to 20000h and run there.
 *
 * TRY: what follows may fault; the handler prints vector, error code and how far the fault was from RESUME's label, and
 * goes on there. */
    .set BASE, 0x20000
    .set STACK16, 0x7000
    .set STACK32, 0x1f000       /* ring 0 */
    .set STACK3, 0x1e000        /* ring 3 */
    .set RESUME, 0x5000         /* linear address to go on at after a fault */
    .set SAVED_SP, 0x5008
    .set SCRATCH, 0x6000
    .set LIMITED, BASE + 0xe000 /* code that reaches beyond its segment's limit */
    .set TABLES, 0x100000       /* page tables, above 1 MiB */

    .text
    .code16
start:
    jmp real_entry

/* ---- printing, 16-bit: si -> text in cs */
puts16:
    cs lodsb
    test %al, %al
    jz 1f
    out %al, $0xe9
    jmp puts16
1:  ret
hex16:                          /* eax, cl nibbles */
    push %ecx
    push %eax
    mov %cl, %ch
    shl $2, %cl
    mov $32, %bl
    sub %cl, %bl
    mov %bl, %cl
    shl %cl, %eax
    mov %eax, %edx
1:  rol $4, %edx
    mov %dl, %al
    and $15, %al
    cmp $10, %al
    sbb $0x69, %al
    das
    out %al, $0xe9
    dec %ch
    jnz 1b
    mov $' ', %al
    out %al, $0xe9
    pop %eax
    pop %ecx
    ret

.macro SAY16 text:vararg
    pushal
    mov $(9f - start), %si
    call puts16
    popal
    jmp 8f
9:  .asciz \text
8:
.endm
.macro SHOW16 reg, nibbles=4
    pushal
    mov \reg, %eax
    mov $\nibbles, %cl
    call hex16
    popal
.endm
.macro FLAGS16
    pushf
    pushal
    movzwl 32(%esp), %eax
    and $0xcd5, %eax
    mov $4, %cl
    call hex16
    popal
    add $2, %sp
.endm
.macro TRY16
    movl $(98f - start), %fs:RESUME
    mov %esp, %fs:SAVED_SP
.endm
.macro RESUME16
98: SAY16 "\n"
.endm

/* Real-mode handlers: vector in the code, frame of IP CS FLAGS */
.macro RVEC n
rvec\n:
    push %ax
    mov $\n, %al
    jmp rfault
.endm
.irp n, 0,1,3,4,5,6,7,8,9,10,11,12,13,14
    RVEC \n
.endr
rfault:
    movzbl %al, %eax
    pushal
    SAY16 " vec "
    SHOW16 %eax, 2
    popal
    pop %ax
    mov %sp, %bp
    movzwl 0(%bp), %eax
    sub %fs:RESUME, %eax
    SAY16 "ip "
    SHOW16 %eax, 4
    movzwl 4(%bp), %eax
    and $0xfd5, %eax
    SAY16 "fl "
    SHOW16 %eax, 4
    mov %fs:SAVED_SP, %esp
    jmp *%fs:RESUME

real_entry:
    cli
    cld
    /* copy to RAM */
    mov $0xf000, %ax
    mov %ax, %ds
    mov $0x2000, %ax
    mov %ax, %es
    xor %si, %si
    xor %di, %di
    mov $0x8000, %cx
    rep movsw
    ljmp $0x2000, $(1f - start)
1:  mov $0x2000, %ax
    mov %ax, %ds
    xor %ax, %ax
    mov %ax, %es
    mov %ax, %ss
    mov %ax, %fs
    mov %ax, %gs
    mov $STACK16, %esp
    /* IVT */
.irp n, 0,1,3,4,5,6,7,8,9,10,11,12,13,14
    movw $(rvec\n - start), %es:(\n * 4)
    movw $0x2000, %es:(\n * 4 + 2)
.endr
    SAY16 "real mode\n"

    /* beyond FFFF */
    TRY16
    jmp *%cs:(far_ip - start)
    RESUME16
    TRY16
    jmp 8f
    .balign 4
far_ip: .word 0xfffe, 0
far_eip: .long 0x10000
8:  jmpl *%cs:(far_eip - start)
    RESUME16

    /* divide error, overflow, bound, breakpoint, invalid opcode */
    TRY16
    xor %cx, %cx
    mov $5, %ax
    div %cl
    RESUME16
    TRY16
    int3
    RESUME16
    TRY16
    mov $0x7f, %al
    add $1, %al
    into
    RESUME16
#ifndef NO_BOUND
    movl $0x00100005, %es:SCRATCH
    TRY16
    mov $4, %ax
    boundw %ax, %es:SCRATCH
    RESUME16
    TRY16
    mov $5, %ax
    boundw %ax, %es:SCRATCH
    SAY16 "bound ok"
    RESUME16
#endif
    TRY16
    ud2
    RESUME16
    TRY16
    .byte 0xf0, 0x90            /* LOCK NOP */
    RESUME16
    /* word at FFFF, dword past 64 KiB: #GP; on the stack: #SS */
    TRY16
    mov %es:0xffff, %ax
    RESUME16
    TRY16
    movl $0x10000, %ebx
    movb %es:(%ebx), %al
    RESUME16
    TRY16
    movl $0xffff, %ebp
    movw (%ebp), %ax
    RESUME16
    /* stack forms */
    mov $0x1234, %ax
    mov $0x5678, %bx
    mov $0x9abc, %bp
    mov %sp, %dx
    pusha
    mov %sp, %si
    SHOW16 %ss:(%si)
    SHOW16 %ss:8(%si)
    SHOW16 %ss:12(%si)
    popa
    sub %sp, %dx
    SHOW16 %edx
    push $-5
    pop %cx
    SHOW16 %ecx
    pushl $-5
    popl %ecx
    SHOW16 %ecx, 8
    SAY16 "\n"
    mov $0x4000, %bp
    enter $6, $3
    mov %sp, %ax
    sub $STACK16, %ax
    SHOW16 %eax
    mov %bp, %ax
    SHOW16 %eax
    SHOW16 %ss:-2(%bp)
    SHOW16 %ss:-4(%bp)
    leave
    mov %sp, %ax
    SHOW16 %eax
    SHOW16 %ebp
    SAY16 "\n"
    /* far call and return, with release */
    push $7
    push $8
    lcall $0x2000, $(far16 - start)
    mov %sp, %ax
    SHOW16 %eax
    SAY16 "\n"
    /* int and iret */
    movw $(int40 - start), %es:(0x40 * 4)
    movw $0x2000, %es:(0x40 * 4 + 2)
    stc
    sti
    int $0x40
    cli
    FLAGS16
    SAY16 "\n"
    /* strings: wrap of DI, segment override, repeat count in CX */
    push %es
    mov $0x3000, %ax
    mov %ax, %es
    mov $0xfffe, %di
    mov $3, %cx
    mov $0x4141, %ax
    mov $0x30005, %ecx
    rep stosw
    SHOW16 %edi
    SHOW16 %ecx, 8
    SHOW16 %es:0, 4
    SHOW16 %es:6, 4
    pop %es
    SAY16 "\n"
    /* decimal */
.macro BCD insn:vararg
    mov $0x0179, %ax
    stc
    \insn
    SHOW16 %eax
    FLAGS16
.endm
    BCD daa
    BCD das
    BCD aaa
    BCD aas
    BCD aam
    BCD aad
    mov $0x9b, %al
    clc
    daa
    SHOW16 %eax
    FLAGS16
    mov $0x05, %al
    cmp $6, %al
    das
    SHOW16 %eax
    FLAGS16
    .byte 0xd6                  /* SALC */
    SHOW16 %eax
    SAY16 "\n"
    TRY16
    aam $0
    RESUME16
    /* loops */
    mov $0x10003, %ecx
    xor %ax, %ax
1:  inc %ax
    loop 1b
    SHOW16 %eax
    SHOW16 %ecx, 8
    mov $3, %ecx
1:  inc %ax
    cmp $6, %ax
    loopne 1b
    SHOW16 %eax
    SHOW16 %ecx, 8
    jcxz 1f
    SAY16 "cx "
1:  SAY16 "\n"
    /* single step: two instructions */
    TRY16
    pushf
    orw $0x100, %ss:STACK16 - 2
    popf
    nop
    nop
    RESUME16
    smsw %ax
    SHOW16 %eax
    mov %cr0, %eax
    SHOW16 %eax, 8
    SAY16 "\n"

    /* ---- to protected mode */
    mov $(BASE >> 4), %ax
    mov %ax, %ds
    lgdtl gdtr - start
    lidtl idtr - start
    call make_idt16
    mov %cr0, %eax
    or $1, %eax
    mov %eax, %cr0
    ljmpl $0x08, $(BASE + prot - start)

far16:
    mov %sp, %bp
    SHOW16 %ss:4(%bp)
    SHOW16 %ss:6(%bp)
    lret $4
int40:
    mov %sp, %bp
    pushf
    pop %ax
    and $0x301, %ax
    SHOW16 %eax
    mov 4(%bp), %ax
    and $0x301, %ax
    SHOW16 %eax
    iret

/* 32-bit interrupt gates for vectors 0-31, DPL 0; 3 and 4 DPL 3 */
make_idt16:
    mov $(idt - start), %di
    mov $(BASE + vectors - start), %eax
    mov $32, %cx
1:  mov %ax, (%di)
    movw $0x08, 2(%di)
    movw $0x8e00, 4(%di)
    mov %eax, %edx
    shr $16, %edx
    mov %dx, 6(%di)
    add $8, %di
    add $(vector1 - vector0), %eax
    loop 1b
    movb $0xee, idt - start + 3 * 8 + 5
    movb $0xee, idt - start + 4 * 8 + 5
    ret

/* ---- 32 bits */
    .code32
vectors:
vector0:
    push $0
    jmp pfault
vector1:
.set n, 1
.rept 31
    .byte 0x6a, n               /* push n */
    .byte 0xe9
    .long pfault - . - 4
.set n, n + 1
.endr
    .org vectors + 32 * (vector1 - vector0)

puts32:
    lodsb
    test %al, %al
    jz 1f
    out %al, $0xe9
    jmp puts32
1:  ret
hex32:
    push %ecx
    mov $8, %ecx
1:  rol $4, %eax
    push %eax
    and $15, %al
    cmp $10, %al
    sbb $0x69, %al
    das
    out %al, $0xe9
    pop %eax
    loop 1b
    push %eax
    mov $' ', %al
    out %al, $0xe9
    pop %eax
    pop %ecx
    ret
.macro SAY text:vararg
    pushal
    mov $(BASE + 9f - start), %esi
    call puts32
    popal
    jmp 8f
9:  .asciz \text
8:
.endm
.macro SHOW reg
    pushal
    mov \reg, %eax
    call hex32
    popal
.endm
.macro TRY
    movl $(BASE + 98f - start), %ss:RESUME
    mov %esp, %ss:SAVED_SP
.endm
.macro RES
98: SAY "\n"
.endm

/* Stack: vector [error] eip cs eflags [esp ss]. Goes on in ring 0 at RESUME. */
pfault:
    push %ds
    push %es
    pushal
    mov $0x10, %eax
    mov %ax, %ds
    mov %ax, %es
    mov 40(%esp), %eax
    lea 44(%esp), %ebp
    SAY " vec "
    SHOW %eax
    cmp $8, %eax
    je 1f
    cmp $10, %eax
    jb 2f
    cmp $14, %eax
    jbe 1f
    cmp $17, %eax
    jne 2f
1:  SAY "code "
    SHOW (%ebp)
    add $4, %ebp
    cmp $14, %eax
    jne 2f
    SAY "cr2 "
    mov %cr2, %eax
    SHOW %eax
2:  mov (%ebp), %eax
    sub RESUME, %eax
    SAY "ip "
    SHOW %eax
    SAY "cs "
    SHOW 4(%ebp)
    SAY "fl "
    mov 8(%ebp), %eax
    and $0x1b7fd5, %eax
    SHOW %eax
    mov 4(%ebp), %eax
    test $3, %al
    jnz 3f
    testl $0x20000, 8(%ebp)
    jz 4f
3:  SAY "ss "
    SHOW 16(%ebp)
4:  mov SAVED_SP, %esp
    mov $0x10, %eax
    mov %ax, %ss
    mov %ax, %fs
    mov %ax, %gs
    jmp *RESUME

prot:
    mov $0x10, %eax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov %ax, %fs
    mov %ax, %gs
    mov $STACK32, %esp
    SAY "protected mode\n"
    xor %eax, %eax
    lldt %ax
    mov $0x28, %eax
    ltr %ax
    str %eax
    SHOW %eax
    movzbl BASE + gdt - start + 0x28 + 5, %eax    /* busy now */
    SHOW %eax
    SAY "\n"
    /* exceptions with and without codes */
    TRY
    xor %ecx, %ecx
    mov $5, %eax
    cdq
    idiv %ecx
    RES
    TRY
    mov $0x80000000, %eax
    cdq
    mov $-1, %ecx
    idiv %ecx
    RES
    TRY
    int3
    RES
    TRY
    int $0x50                   /* beyond the IDT */
    RES
    TRY
    mov $0x123, %eax            /* beyond the GDT */
    mov %ax, %ds
    RES
    TRY
    mov $0x48, %eax             /* not present */
    mov %ax, %ds
    RES
    TRY
    mov $0x48, %eax
    mov %ax, %ss
    RES
    TRY
    mov $0x50, %eax             /* read-only */
    mov %ax, %ss
    RES
    TRY
    mov $0x50, %eax
    mov %ax, %ds
    SAY "loaded "
    movl $1, SCRATCH
    RES
    mov $0x10, %eax
    mov %ax, %ds
    TRY
    mov $0x08, %eax             /* code, readable: into DS */
    mov %ax, %gs
    mov %gs:SCRATCH, %eax
    SAY "read "
    mov %eax, %gs:SCRATCH
    RES
    TRY
    xor %eax, %eax
    mov %ax, %gs
    mov %gs:0, %al              /* null */
    RES
    /* limit 0xfff, byte granular; expand-down above 0xfff */
    mov $0x58, %eax
    mov %ax, %gs
    TRY
    mov %gs:0xffc, %eax
    SAY "in "
    mov %gs:0xffd, %eax
    RES
    mov $0x60, %eax
    mov %ax, %gs
    TRY
    mov %gs:0x1000, %eax
    SAY "in "
    mov %gs:0xfff, %eax
    RES
    /* LAR, LSL, VERR, VERW, ARPL */
.irp sel, 0x08, 0x10, 0x1b, 0x23, 0x28, 0x48, 0x50, 0x58, 0x60, 0x68, 0x70, 0, 0x200
    mov $\sel, %ecx
    xor %eax, %eax
    lar %ecx, %eax
    setz %bl
    SHOW %eax
    xor %eax, %eax
    lsl %ecx, %eax
    setz %bh
    SHOW %eax
    verr %cx
    setz %al
    verw %cx
    setz %ah
    and $0x0101, %eax
    shl $16, %eax
    mov %bx, %ax
    and $0x01010101, %eax
    SHOW %eax
    SAY "\n"
.endr
    mov $0x41, %eax
    mov $0x43, %ecx
    arpl %cx, %ax
    setz %bl
    SHOW %eax
    movzbl %bl, %ebx
    SHOW %ebx
    SAY "\n"
    /* far jump and call in ring 0; conforming segment; LDS; far return with release */
    lcall $0x08, $(BASE + farcall - start)
    TRY
    ljmp $0x10, $0              /* data */
    RES
    TRY
    ljmp $0x48, $0
    RES
    TRY
    lcall $0x68, $0             /* call gate, same level */
    RES
    /* the limit of CS: at the branch that leaves it, at the instruction that reaches beyond, at the one behind it */
.irp at, 0, 2, 7, 9, 0xa, 0xe, 0xf
    TRY
    mov $LIMITED + 0x20, %eax
    push %eax
    test %esp, %esp
    .if \at == 7
    cmp %eax, %eax
    .endif
    ljmp $0xc8, $(LIMITED + \at)
    RES
.endr
    /* 16-bit stack and code */
    TRY
    ljmp $0x78, $(code16p - start)
back32:
    mov $0x10, %eax
    mov %ax, %ss
    mov %ax, %ds
    mov $STACK32, %esp
    RES
    /* ring 3 */
    TRY
    mov %esp, BASE + tss - start + 4
    movl $0x10, BASE + tss - start + 8
    pushl $0x23
    pushl $STACK3
    pushfl
    pushl $0x1b
    pushl $(BASE + user - start)
    iret
user:
    mov %cs, %eax
    SHOW %eax
    mov $0x23, %eax
    mov %ax, %ds
    mov %ax, %es
    SAY "user "
    cli
    RES
.macro USER label, flags=2
    mov %esp, BASE + tss - start + 4
    mov %esp, SAVED_SP
    mov $0x23, %eax
    mov %ax, %ds
    mov %ax, %es
    pushl $0x23
    pushl $STACK3
    pushl $\flags
    pushl $0x1b
    pushl $(BASE + \label - start)
    iret
.endm
    TRY
    USER 1f
1:  hlt
    RES
    TRY
    USER 1f
1:  mov $0x10, %eax
    mov %ax, %ds
    RES
    TRY
    USER 1f
1:  in $0x80, %al
    RES
    TRY
    USER 1f, 0x3002
1:  in $0x80, %al
    SAY "iopl "
    int $0x40
    RES
    TRY
    USER 1f
1:  mov $0x99, %al
    out %al, $0xe8              /* allowed by the map, as E9 is */
    SAY "map "
    out %al, $0xf0
    RES
    TRY
    USER 1f
1:  int3
    RES
    TRY
    USER 1f
1:  int $5
    RES
    TRY
    USER 1f
1:  push $0x11111111
    push $0x22222222
    lcall $0x73, $0             /* call gate to ring 0, two parameters */
    mov %cs, %eax
    SHOW %eax
    mov %esp, %eax
    SHOW %eax
    int3
    RES
    TRY
    USER 1f
1:  lcall $0x80, $0             /* gate of DPL 0 */
    RES
    TRY
    USER 1f
1:  lcall $0x88, $0             /* conforming code */
    SAY "conf "
    int3
    RES
    TRY
    USER 1f
1:  mov %cr0, %eax
    RES
    TRY
    USER 1f
1:  lgdt SCRATCH
    RES
    TRY
    USER 1f, 0x102              /* single step */
1:  nop
    nop
    RES
    /* POPF in ring 3 keeps IF and IOPL */
    TRY
    USER 1f
1:  pushl $0x3202
    popfl
    pushfl
    pop %eax
    SHOW %eax
    int3
    RES

    /* task switches */
    SAY "tasks\n"
    movl $(BASE + task - start), BASE + tss2 - start + 32
    movl $2, BASE + tss2 - start + 36
    movl $0x1d000, BASE + tss2 - start + 56
    movl $0x10, BASE + tss2 - start + 72
    movl $0x08, BASE + tss2 - start + 76
    movl $0x10, BASE + tss2 - start + 80
    movl $0x10, BASE + tss2 - start + 84
    TRY
    lcall $0x30, $0
    str %eax
    SHOW %eax
    pushfl
    pop %eax
    and $0x4000, %eax
    SHOW %eax
    RES
    TRY
    lcall $0x30, $0             /* resumes after its IRET */
    SAY "again"
    RES
    TRY
    lcall $0x38, $0             /* a task gate */
    SAY "gate"
    RES
    mov %cr0, %eax
    and $8, %eax
    SHOW %eax
    clts
    TRY
    ljmp $0x28, $0              /* to itself: busy */
    RES
    TRY
    lcall $0x10, $0
    RES

    /* virtual-8086 */
    SAY "vm86\n"
.macro VM86 label, flags=0x20002
    mov %esp, BASE + tss - start + 4
    mov %esp, SAVED_SP
    pushl $0
    pushl $0
    pushl $0x2000
    pushl $0
    pushl $0
    pushl $0x6800
    pushl $\flags
    pushl $0x2000
    pushl $(\label - start)
    iret
.endm
    TRY
    movl $(BASE + 98f - start), RESUME
    VM86 1f
    .code16
1:  mov $0x1234, %ax
    push %ax
    pop %bx
    mov %cs, %cx
    mov %ds, %dx
    movw $0x4321, %es:SCRATCH
    ud2
    .code32
98: movzwl SCRATCH, %eax
    SHOW %eax
    SAY "\n"
    TRY
    VM86 1f
    .code16
1:  cli
    .code32
    RES
    TRY
    VM86 1f, 0x23002
    .code16
1:  cli
    pushf
    pop %ax
    int $0x10
    .code32
    RES
    TRY
    VM86 1f
    .code16
1:  hlt
    .code32
    RES
    TRY
    VM86 1f
    .code16
1:  mov %es:0xffff, %ax
    .code32
    RES
    TRY
    VM86 1f
    .code16
1:  lar %ax, %bx
    .code32
    RES
    TRY
    VM86 1f, 0x23002
    .code16
1:  .byte 0xcd, 3               /* not INT3, but its gate is open as well */
    .code32
    RES
    TRY
    VM86 1f
    .code16
1:  .byte 0xcd, 3
    .code32
    RES
    /* virtual-8086 mode extensions: VIF, VIP, INT 40h by the program's vector table */
    SAY "vme\n"
    mov %cr4, %eax
    or $1, %eax
    mov %eax, %cr4
    andb $0xfe, BASE + tss_redirect - start + 8
    movl $0x20000000 + own40 - start, 0x40 * 4
.macro VME flags, insns
    TRY
    VM86 1f, \flags
    .code16
1:  \insns
    .code32
    RES
.endm
.irp flags, 0x20002, 0xa0002, 0x120002, 0x1a0002, 0x23202
    VME \flags, "cli; ud2"
    VME \flags, "sti; ud2"
    VME \flags, "pushf; pop %ax; mov %ax, %es:SCRATCH; ud2"
    SHOW SCRATCH
    SAY "\n"
    VME \flags, "pushw $0x3b02; popf; ud2"
    VME \flags, "pushw $0x0a57; popf; ud2"
    VME \flags, "pushw $0x0057; pushw %cs; pushw $(2f - start); iret; 2: ud2"
    VME \flags, "pushw $0x0257; pushw %cs; pushw $(2f - start); iret; 2: ud2"
    .if \flags != 0x23202
    VME \flags, "pushfl"
    VME \flags, "popfl"
    VME \flags, "iretl"
    .endif
    VME \flags, "mov $0, %ax; int $0x40; ud2"
    SHOW SCRATCH
    SAY "\n"
    VME \flags, "int $0x41"
    VME \flags, "int3"
.endr
    jmp 3f
    .code16
own40:
    pop %ax                     /* IP, CS, flags as they were pushed */
    pop %bx
    pop %cx
    mov %cx, %es:SCRATCH
    push %cx
    push %bx
    push %ax
    pushf
    pop %ax
    mov %ax, %es:SCRATCH + 2
    iret
    .code32
3:  movl $0xffff0fff, SCRATCH
    mov %cr4, %eax
    and $0xfffffffe, %eax
    or $2, %eax                 /* PVI: CLI and STI at level 3 */
    mov %eax, %cr4
.irp flags, 2, 0x80002, 0x100002, 0x180002, 0x3202
    TRY
    USER 1f, \flags
1:  cli
    ud2
    RES
    TRY
    USER 1f, \flags
1:  sti
    ud2
    RES
.endr
    mov %cr4, %eax
    and $0xfffffffd, %eax
    mov %eax, %cr4

    /* ---- 32-bit paging: identity by 4 MiB pages, then one table at 8 MiB */
    SAY "paging\n"
    mov $TABLES, %edi
    mov $0x4000, %ecx
    xor %eax, %eax
    rep stosl
    movl $0x87, TABLES          /* 0-4 MiB, user */
    movl $TABLES + 0x1003, TABLES + 8           /* 8 MiB: supervisor table... */
    movl $TABLES + 0x1007, TABLES + 12          /* 12 MiB: the same with U */
    movl $SCRATCH + 1, TABLES + 0x1000          /* read-only supervisor */
    movl $SCRATCH + 3, TABLES + 0x1004
    movl $SCRATCH + 7, TABLES + 0x1008
    movl $SCRATCH + 5, TABLES + 0x100c
    mov %cr4, %eax
    or $0x10, %eax
    mov %eax, %cr4
    mov $TABLES, %eax
    mov %eax, %cr3
    mov %cr0, %eax
    or $0x80000000, %eax
    mov %eax, %cr0
    TRY
    mov 0x801000, %eax
    mov %eax, 0x800000          /* WP off: allowed */
    SAY "wp off "
    mov %cr0, %eax
    or $0x10000, %eax
    mov %eax, %cr0
    mov %eax, 0x800ffc
    RES
    TRY
    mov 0x804000, %eax
    RES
    TRY
    mov %eax, 0x400000
    RES
    TRY
    movl $1, 0x801000
    movl $2, 0xc02000
    SHOW TABLES
    SHOW TABLES + 8
    SHOW TABLES + 0x1000
    SHOW TABLES + 0x1004
    SHOW TABLES + 0x1008
    SHOW TABLES + 0x100c
    RES
    TRY
    USER 1f
1:  mov 0xc02000, %eax
    mov 0xc03000, %eax
    mov %eax, 0xc02000
    SAY "u "
    mov %eax, 0xc03000
    RES
    TRY
    USER 1f
1:  mov 0x802000, %eax
    RES
    TRY
    USER 1f
1:  mov 0xc01000, %eax
    RES
    TRY
    jmp 0x500000 + BASE         /* fetch from nowhere */
    RES
    TRY
    mov $0xc00ffe, %ebx         /* across a page, second one supervisor only */
    USER 1f
1:  mov $0xc01ffe, %ebx
    mov (%ebx), %eax
    RES
    TRY
    mov $0x801ffe, %ebx
    movl $0x11223344, (%ebx)
    movl $TABLES + 0x1003, TABLES + 8
    mov (%ebx), %eax
    SHOW %eax
    RES
    mov %cr0, %eax
    and $0x7fffffff, %eax
    mov %eax, %cr0

    /* ---- long mode: identity 1 GiB by 2 MiB pages; 1 GiB + n: 4 KiB pages */
    SAY "long mode\n"
    mov $TABLES, %edi
    mov $0x4000, %ecx
    xor %eax, %eax
    rep stosl
    movl $TABLES + 0x1007, TABLES
    movl $TABLES + 0x2007, TABLES + 0x1000
    movl $TABLES + 0x3007, TABLES + 0x1008
    movl $TABLES + 0x4007, TABLES + 0x3000
    mov $0x87, %eax
    mov $TABLES + 0x2000, %edi
    mov $512, %ecx
1:  mov %eax, (%edi)
    add $0x200000, %eax
    add $8, %edi
    loop 1b
    movl $SCRATCH + 7, TABLES + 0x4000
    movl $SCRATCH + 5, TABLES + 0x4008
    movl $SCRATCH + 3, TABLES + 0x4010
    movl $SCRATCH + 7, TABLES + 0x4018
    movl $0x80000000, TABLES + 0x401c           /* NX */
    movl $SCRATCH + 7, TABLES + 0x4020
    movl $0x100, TABLES + 0x4024                /* beyond the physical address: reserved */
    mov %cr4, %eax
    or $0x6b0, %eax
    mov %eax, %cr4
    mov $TABLES, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx
    rdmsr
    or $0x901, %eax
    wrmsr
    mov %cr0, %eax
    or $0x80010000, %eax
    mov %eax, %cr0
    ljmp $0x90, $(BASE + long64 - start)

farcall:
    mov 4(%esp), %eax
    SHOW %eax
    SAY "far\n"
    lret
gate0:
    mov (%esp), %eax
    sub RESUME, %eax
    SHOW %eax
    SHOW 4(%esp)
    SAY "gate "
    lret
gate3:                          /* from ring 3 */
    mov %cs, %eax
    SHOW %eax
    SHOW 4(%esp)
    SHOW 8(%esp)
    SHOW 12(%esp)
    SHOW 16(%esp)
    SHOW 20(%esp)
    SAY "inner "
    lret $8
conf:
    mov %cs, %eax
    SHOW %eax
    lret
task:
    str %eax
    SHOW %eax
    pushfl
    pop %eax
    and $0x4000, %eax
    SHOW %eax
    movzwl BASE + tss2 - start, %eax
    SHOW %eax
    movzbl BASE + gdt - start + 0x28 + 5, %eax
    SHOW %eax
    SAY "task "
    iret
    SAY "resumed "
    iret
    SAY "third "
    iret
    jmp task

    .code16
code16p:
    mov $0x98, %ax              /* 16-bit stack */
    mov %ax, %ss
    mov $0xffff1000, %esp
    push %ax
    pushl $0x12345678
    mov %esp, %eax
    mov %sp, %bp
    movzwl (%bp), %edx
    add $6, %sp
    mov %edx, %ecx
    mov $0x10, %bx
    mov %bx, %ss
    mov $STACK32, %esp
    pushl %eax
    ljmpl $0x08, $(BASE + 1f - start)
    .code32
1:  pop %eax
    SHOW %eax
    jmp back32

#include "long.S"

    .balign 16
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff    /* 08 code 0 */
    .quad 0x00cf93000000ffff    /* 10 data 0 */
    .quad 0x00cffb000000ffff    /* 18 code 3 */
    .quad 0x00cff3000000ffff    /* 20 data 3 */
    .word tss_end - tss - 1, tss - start        /* 28 TSS */
    .byte BASE >> 16, 0x89, 0, 0
    .word 0x67, tss2 - start                    /* 30 TSS 2 */
    .byte BASE >> 16, 0x89, 0, 0
    .word 0, 0x30, 0x8500, 0                    /* 38 task gate */
    .quad 0                                     /* 40 */
    .quad 0x00cf13000000ffff    /* 48 not present */
    .quad 0x00cf91000000ffff    /* 50 read-only */
    .quad 0x0040930000000fff    /* 58 limit FFF */
    .quad 0x00c0970000000000    /* 60 expand-down from 1000 */
    .word gate0 - start, 0x08, 0x8c00, BASE >> 16       /* 68 call gate */
    .word gate3 - start, 0x08, 0xec02, BASE >> 16       /* 70 call gate, DPL 3, 2 parameters */
    .word 0xffff, 0             /* 78 16-bit code, base 20000 */
    .byte BASE >> 16, 0x9b, 0, 0
    .word gate0 - start, 0x08, 0x8c00, BASE >> 16       /* 80 call gate, DPL 0 */
    .word 0xffff                                /* 88 conforming, at conf */
    .word conf - start
    .byte BASE >> 16, 0x9f, 0xcf, 0
    .quad 0x00af9b000000ffff    /* 90 64-bit code 0 */
    .quad 0x000093000000ffff    /* 98 16-bit data */
    .quad 0x00cffb000000ffff    /* a0 32-bit code 3 (SYSRET) */
    .quad 0x00cff3000000ffff    /* a8 data 3 */
    .quad 0x00affb000000ffff    /* b0 64-bit code 3 */
    .word 0x67 + 16, tss64 - start              /* b8 64-bit TSS */
    .byte BASE >> 16, 0x89, 0, 0
    .quad 0
    .quad 0x00429b000000e00f    /* c8 32-bit code up to 2E00F, see limited */
gdt_end:
gdtr:
    .word gdt_end - gdt - 1
    .long BASE + gdt - start
idtr:
    .word 32 * 8 - 1
    .long BASE + idt - start
    .balign 16
idt:
    .fill 32, 8, 0
tss:
    .fill 25, 4, 0
    .word 0, 136                /* trap, I/O map */
tss_redirect:
    .fill 32, 1, 0xff           /* interrupts to redirect */
    .fill 0xe8 / 8, 1, 0        /* ports below E8 allowed; so are E8-EF */
    .byte 0, 0xff, 0xff
tss_end:
    .balign 16
tss2:
    .fill 26, 4, 0
    .balign 16
tss64:
    .fill 30, 4, 0
    .balign 16
idt64:
    .fill 2 * 33, 8, 0
idtr64:
    .word 33 * 16 - 1
    .quad BASE + idt64 - start
image_end:

    .org 0xe000
    .code32
limited:
    jmp *%eax
    .byte 0xe9, 0x19, 0, 0, 0   /* jmp LIMITED + 20h */
    .byte 0x74, 0x17            /* jz there */
    ret
    .byte 0xe8, 0x11, 0, 0, 0   /* call there; its last byte begins an instruction of six */
    nop

    .org 0xfff0
    .code16
    ljmp $0xf000, $0
    .org 0xfffe
    .byte 0x90, 0xb8            /* nop; a MOV that reaches beyond FFFF */
    .org 0x10000
