/* The 64-bit part of modes.S. */
    .code64
    .balign 16
vectors64:
vectorl0:
    push $0
    jmp lfault
    .balign 16
.set n, 1
.rept 32
    push $n
    jmp lfault
    .balign 16
.set n, n + 1
.endr

putsl:
    lodsb
    test %al, %al
    jz 1f
    out %al, $0xe9
    jmp putsl
1:  ret
hexl:
    push %rcx
    push %rdx
    mov $16, %ecx
1:  rol $4, %rax
    mov %eax, %edx
    and $15, %dl
    add $'0', %dl
    cmp $'9', %dl
    jbe 2f
    add $('a' - '0' - 10), %dl
2:  xchg %al, %dl
    out %al, $0xe9
    xchg %al, %dl
    loop 1b
    mov $' ', %al
    out %al, $0xe9
    pop %rdx
    pop %rcx
    ret
.macro SAYL text:vararg
    push %rax
    push %rsi
    mov $(BASE + 9f - start), %esi
    call putsl
    pop %rsi
    pop %rax
    jmp 8f
9:  .asciz \text
8:
.endm
.macro SHOWL what
    push %rax
    mov \what, %rax
    call hexl
    pop %rax
.endm
.macro TRYL
    movq $(BASE + 98f - start), RESUME
    mov %rsp, SAVED_SP
.endm
.macro RESL
98: SAYL "\n"
.endm

lfault:
    push %rax
    push %rbx
    mov 16(%rsp), %rax
    lea 24(%rsp), %rbx
    SAYL " vec "
    SHOWL %rax
    cmp $8, %eax
    je 1f
    cmp $10, %eax
    jb 2f
    cmp $14, %eax
    jbe 1f
    cmp $17, %eax
    jne 2f
1:  SAYL "code "
    SHOWL (%rbx)
    add $8, %rbx
    cmp $14, %eax
    jne 2f
    SAYL "cr2 "
    mov %cr2, %rax
    SHOWL %rax
2:  mov (%rbx), %rax
    sub RESUME, %rax
    SAYL "ip "
    SHOWL %rax
    SAYL "cs "
    SHOWL 8(%rbx)
    SAYL "fl "
    mov 16(%rbx), %rax
    and $0x37fd5, %eax
    SHOWL %rax
    SAYL "ss "
    SHOWL 32(%rbx)
    mov %rsp, %rax
    sub %rbx, %rax
    SAYL "depth "
    SHOWL %rax
    mov %rbx, %rax
    and $15, %eax
    SHOWL %rax
    mov $0, %eax
    mov %ax, %ss
    mov SAVED_SP, %rsp
    jmp *RESUME

long64:
    mov $0x10, %eax
    mov %ax, %ss
    mov $STACK32, %esp
    xor %eax, %eax
    mov %ax, %ds
    mov %ax, %es
    mov $0x10, %eax
    mov %ax, %fs
    mov %ax, %gs
    /* IDT */
    mov $(BASE + idt64 - start), %edi
    mov $(BASE + vectors64 - start), %eax
    mov $33, %ecx
1:  mov %ax, (%rdi)
    movw $0x90, 2(%rdi)
    movw $0x8e00, 4(%rdi)
    mov %eax, %edx
    shr $16, %edx
    mov %dx, 6(%rdi)
    movq $0, 8(%rdi)
    add $16, %rdi
    add $16, %eax
    loop 1b
    movb $0xee, BASE + idt64 - start + 3 * 16 + 5
    lidt BASE + idtr64 - start
    movl $STACK32 - 0x800, BASE + tss64 - start + 4     /* RSP0 */
    movl $STACK32 - 0xc00, BASE + tss64 - start + 36    /* IST1 */
    mov $0xb8, %eax
    ltr %ax
    SAYL "in long mode "
    mov $0xc0000080, %ecx
    rdmsr
    SHOWL %rax
    mov %cr4, %rax
    SHOWL %rax
    SAYL "\n"

    TRYL
    xor %ecx, %ecx
    div %ecx
    RESL
    TRYL
    mov %esp, %esp
    sub $3, %rsp                /* the frame is aligned */
    ud2
    RESL
    TRYL
    movabs $0x1000000000000, %rax
    mov (%rax), %rcx
    RESL
    TRYL
    movabs $0x800000000000, %rax
    jmp *%rax
    RESL
    TRYL
    mov $0x48, %eax
    mov %ax, %ds
    RESL
    TRYL
    mov $3, %eax
    mov %ax, %ss
    RESL
    TRYL
    movb $1, BASE + idt64 - start + 6 * 16 + 4  /* #UD on IST1 */
    ud2
    RESL
    movb $0, BASE + idt64 - start + 6 * 16 + 4
    /* paging: read-only, supervisor, NX, reserved */
    TRYL
    mov 0x40001000, %rax
    SAYL "r "
    mov %rax, 0x40001000
    RESL
    TRYL
    mov $0x40003000, %eax
    movb $0xc3, (%rax)
    SAYL "w "
    call *%rax
    RESL
    TRYL
    mov 0x40004000, %rax
    RESL
    TRYL
    mov 0x40005000, %rax
    RESL
    TRYL
    SHOWL TABLES + 0x4000
    SHOWL TABLES + 0x4008
    SHOWL TABLES + 0x4010
    SHOWL TABLES + 0x4018
    RESL
    TRYL
    lock cmpxchg16b SCRATCH + 8
    RESL
    TRYL
    mov $0xc0000102, %ecx
    mov $0x1234, %eax
    mov $0x5678, %edx
    wrmsr
    RESL
    TRYL
    mov $0xdead0000, %ecx
    rdmsr
    RESL
    TRYL
    mov $0x40, %eax
    mov %rax, %cr4
    RESL
    TRYL
    mov %cr0, %rax
    and $~1, %rax
    mov %rax, %cr0
    RESL
    /* FS and GS bases, SWAPGS */
    mov $0xc0000101, %ecx
    mov $0x6000, %eax
    xor %edx, %edx
    wrmsr
    mov $0xc0000102, %ecx
    mov $0x6100, %eax
    wrmsr
    movq $0x1111, 0x6000
    movq $0x2222, 0x6100
    SHOWL %gs:0
    swapgs
    SHOWL %gs:0
    swapgs
    SHOWL %gs:0
    SAYL "\n"
    /* ring 3 in 64 bits, SYSCALL and SYSRET */
    mov $0xc0000081, %ecx
    xor %eax, %eax
    mov $0x00a00090, %edx       /* SYSRET a0 (a8, b0), SYSCALL 90 (98) */
    wrmsr
    mov $0xc0000082, %ecx
    mov $(BASE + syscall64 - start), %eax
    xor %edx, %edx
    wrmsr
    mov $0xc0000084, %ecx
    mov $0x700, %eax
    wrmsr
.macro USERL label, cs=0xb3, flags=2
    mov %rsp, SAVED_SP
    pushq $0xab
    pushq $STACK3
    pushq $\flags
    pushq $\cs
    pushq $(BASE + \label - start)
    iretq
.endm
    TRYL
    USERL 1f, 0xb3, 0x3002
1:  mov %cs, %eax
    SHOWL %rax
    mov %ss, %eax
    SHOWL %rax
    stc
    syscall
    mov %cs, %eax
    SHOWL %rax
    mov %ss, %eax
    SHOWL %rax
    setc %al
    movzbl %al, %eax
    SHOWL %rax
    int3
    RESL
    TRYL
    USERL 1f, 0xb3, 0x3002
1:  hlt
    RESL
    TRYL
    USERL 1f, 0xb3, 0x3002
1:  mov 0x40002000, %rax
    RESL
    TRYL
    USERL 1f, 0xb3, 0x3002
1:  int $0x1f
    RESL
    TRYL
    USERL 1f, 0xb3, 0x3102      /* single step */
1:  nop
    nop
    RESL
    /* compatibility mode */
    TRYL
    USERL 1f, 0xa3, 0x3002
    .code32
1:  mov %cs, %eax
    inc %eax                    /* one byte, not a REX prefix */
    mov %eax, %ebx
    mov $0xab, %ecx
    mov %cx, %ds
    push %ebx
    pop %edx
    lcall $0xb3, $(BASE + 2f - start)
    int3
    .code64
2:  SHOWL %rdx
    mov (%rsp), %rax
    shr $32, %rax
    SHOWL %rax
    lretl
    RESL
    TRYL
    USERL 1f, 0xa3, 0x3002
    .code32
1:  mov $0xab, %ecx
    mov %cx, %ds
    mov $0xffffffff, %eax
    mov 1(%eax), %cl     /* wraps at 4 GiB */
    mov %esp, %eax
    ud2
    .code64
    RESL
    /* IRET to a wrong selector; IRETQ with null SS in ring 0 */
    TRYL
    pushq $0
    pushq $STACK32
    pushq $2
    pushq $0x90
    pushq $(BASE + 1f - start)
    iretq
1:  mov %ss, %eax
    SHOWL %rax
    SAYL "null ss"
    RESL
    TRYL
    mov SAVED_SP, %rsp
    pushq $0x10
    pushq $STACK32
    pushq $2
    pushq $0x48
    pushq $0
    iretq
    RESL
    /* debug registers: an instruction breakpoint, and flags after it */
    TRYL
    mov $(BASE + 1f - start), %eax
    mov %rax, %dr0
    mov $0x402, %eax
    mov %rax, %dr7
    nop
1:  nop
    SAYL "missed"
    RESL
    mov %dr6, %rax
    and $0xf, %eax
    SHOWL %rax
    xor %eax, %eax
    mov %rax, %dr7
    SAYL "\n"
    /* data breakpoints: 4 bytes written, then 1 byte read or written; a trap after the instruction */
    mov $SCRATCH + 0x100, %eax
    mov %rax, %dr1
    mov $SCRATCH + 0x205, %eax
    mov %rax, %dr2
    xor %eax, %eax
    mov %rax, %dr6
    mov $0x03d00414, %eax       /* L1: writes, 4 bytes; L2: accesses, 1 byte */
    mov %rax, %dr7
    TRYL
    mov SCRATCH + 0x102, %ecx
    SAYL "read "
    movw $1, SCRATCH + 0xfe
    SAYL "below "
    movw $1, SCRATCH + 0xff
    nop
    RESL
    mov %dr6, %rax
    and $0x400f, %eax
    SHOWL %rax
    SAYL "\n"
    TRYL
    mov SCRATCH + 0x200, %rcx
    nop
    RESL
    TRYL
    mov $SCRATCH + 0x0f0, %edi
    mov $100, %ecx
    xor %eax, %eax
    rep stosb
    nop
    RESL
    SHOWL %rcx
    mov %dr6, %rax
    and $0x400f, %eax
    SHOWL %rax
    xor %eax, %eax
    mov %rax, %dr7
    SAYL "\n"
    /* alignment checks at level 3 */
    mov %cr0, %rax
    or $0x40000, %eax
    mov %rax, %cr0
    TRYL
    mov SCRATCH + 1, %eax
    USERL 1f, 0xb3, 0x43002
1:  mov SCRATCH + 4, %eax
    SAYL "aligned "
    mov SCRATCH + 1, %al
    mov SCRATCH + 2, %eax
    RESL
    /* not canonical: #SS through the stack segment, else #GP (SDM vol. 3, 6.15) */
.macro USERBAD insn:vararg
    TRYL
    USERL 1f, 0xb3, 0x3002
1:  movabs $0x800000001000, %rbp
    movabs $0x900000001000, %rbx
    mov %rbp, %r13
    mov %rbp, %rdi
    mov %rbp, %rsp
    mov $SCRATCH, %ecx
    \insn
    RESL
.endm
    USERBAD mov (%rbx), %al
    USERBAD mov (%rbp), %al
    USERBAD mov (%r13), %al
    USERBAD mov %al, 8(%rsp, %rcx)
    USERBAD mov (%rcx, %rbp), %al
    USERBAD fs mov (%rbp), %al
    USERBAD ds mov (%rbp), %al
    USERBAD push %rax
    USERBAD pop %rax
    USERBAD pushq (%rbx)
    USERBAD call 1b
    USERBAD ret
    USERBAD leave
    USERBAD enter $16, $0
    USERBAD lock incl (%rbp)
    USERBAD movups (%rbp), %xmm0
    USERBAD fxsave (%rsp)
    USERBAD rep stosb
    TRYL
    USERL 1f, 0xb3, 0x3002
1:  movabs $0x800000000000, %rbx
    pushq (%rbx)
    RESL
    /* #DF: the #GP gate is not present, on a #GP */
    TRYL
    movb $0x0e, BASE + idt64 - start + 13 * 16 + 5
    mov $0x48, %eax
    mov %ax, %ds
    RESL
    movb $0x8e, BASE + idt64 - start + 13 * 16 + 5
    TRYL
    movb $0x0e, BASE + idt64 - start + 6 * 16 + 5
    ud2
    RESL
    movb $0x8e, BASE + idt64 - start + 6 * 16 + 5
    SAYL "done\n"
    mov $0x10, %al
    out %al, $0xf4
1:  hlt
    jmp 1b

syscall64:
    mov %rsp, %rdx
    mov SAVED_SP, %rsp
    sub RESUME, %rcx
    SHOWL %rcx
    add RESUME, %rcx
    mov %r11, %rax
    and $0x37fd5, %eax
    SHOWL %rax
    pushfq
    pop %rax
    and $0x37fd5, %eax
    SHOWL %rax
    mov %cs, %eax
    SHOWL %rax
    mov %ss, %eax
    SHOWL %rax
    mov %rdx, %rsp
    sysretq
