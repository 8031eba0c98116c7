/* A bare-metal program for system management mode (APM vol. 2, chapter 10) on Q35: an SMI by port B2H, SMBASE relocation,
 * SMRAM that is seen only inside, the saved state and what the handler changes in it, RSM outside. It prints each to port
 * E9. A firmware image of 64 KiB, entered at F000:FFF0, in real mode throughout but for one SMI out of protected mode. */
    .set STACK, 0x7000
    .set SAVED_RAX, 0xfff8
    .set SAVED_SMBASE, 0xff00
    .set SAVED_REVISION, 0xfefc

    .text
    .code16
start:
.macro SAY c
    mov $\c, %al
    out %al, $0xe9
.endm
.macro PCI32 address, value
    mov $\address, %eax
    mov $0xcf8, %dx
    out %eax, %dx
    mov $\value, %eax
    mov $0xcfc, %dx
    out %eax, %dx
.endm
.macro SMRAM value
    mov $0x8000009c, %eax
    mov $0xcf8, %dx
    out %eax, %dx
    mov $\value, %al
    mov $0xcfd, %dx
    out %al, %dx
.endm
.macro COPY from, to, segment
    mov $(\from - start), %si
    mov $\segment, %ax
    mov %ax, %es
    mov $0x8000, %di
    mov $(\to - \from), %cx
    cs rep movsb
.endm
/* Digit: 1 if equal */
.macro SAME
    mov $'0', %al
    jne 9f
    inc %al
9:  out %al, $0xe9
.endm
    cli
    cld
    xor %ax, %ax
    mov %ax, %ss
    mov %ax, %ds
    mov $STACK, %sp
    movw $(undefined - start), 6 * 4
    movw $0xf000, 6 * 4 + 2
    PCI32 0x8000f840, 0x601     /* PMBASE */
    PCI32 0x8000f844, 0x80
    mov $0x630, %dx
    mov $0x21, %eax             /* GBL_SMI_EN, APMC_EN */
    out %eax, %dx

    .byte 0x0f, 0xaa            /* RSM out of nowhere: prints U */
    SMRAM 0x4a                  /* open: handlers are put there */
    COPY relocate, relocate_end, 0x3000
    COPY handler, handler_end, 0xa000
    SMRAM 0x0a
    mov $0xa000, %ax            /* closed: not what was written */
    mov %ax, %es
    mov %cs:(handler - start), %eax
    cmp %es:0x8000, %eax
    SAME
    out %al, $0xb2              /* prints R */
    mov $0x12345678, %ebx
    mov $0x11112222, %eax
    out %al, $0xb2              /* prints S and more; EAX is another afterwards, EBX is not */
    cmp $0x55667788, %eax
    SAME
    cmp $0x12345678, %ebx
    SAME
    lgdtl %cs:(gdtr - start)    /* out of protected mode, and back into it */
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $8, $(0xf0000 + protected - start)
    .code32
protected:
    mov $16, %ax
    mov %ax, %ds
    mov $0x11112222, %eax
    mov $0x4000, %ebx
    movl $0x600df00d, (%ebx)
    out %al, $0xb2
    cmp $0x55667788, %eax
    SAME
    cmpl $0x600df00d, (%ebx)    /* DS is what it was */
    SAME
    mov %cr0, %eax
    and $1, %eax
    cmp $1, %eax
    SAME
    SAY 10
    mov $0x10, %al
    out %al, $0xf4
    hlt
    .code16

undefined:
    SAY 'U'
    mov %sp, %bp
    addw $2, (%bp)
    iret

relocate:                       /* at the first SMBASE, 30000H */
    SAY 'R'
    movl $0xa0000, %cs:SAVED_SMBASE
    .byte 0x0f, 0xaa
relocate_end:

handler:
    SAY 'S'
    mov %cs, %ax
    cmp $0xa000, %ax
    SAME
    cmpl $0x00020064, %cs:SAVED_REVISION
    SAME
    cmpl $0x11112222, %cs:SAVED_RAX
    SAME
    pushf
    pop %ax
    test $0x200, %ax
    SAME
    mov %cr0, %eax
    test $1, %al
    SAME
    movl $0x55667788, %cs:SAVED_RAX
    .byte 0x0f, 0xaa
handler_end:

    .balign 8
gdt:
    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr:
    .word 23
    .long 0xf0000 + gdt - start

    .org 0xfff0
    ljmp $0xf000, $0
    .org 0x10000
