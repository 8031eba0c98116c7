/* Firmware of 64 KiB: entered at F000:FFF0, copied to BASE, run there in flat protected mode. Application processors start
 * at 8000h. */
    .set BASE, 0x580000             /* far from the powers of two that bad addresses are made of */
    .set TRAMPOLINE, 0x8000
    .section .text.start, "ax"
    .code16
real:
    cli
    mov $(rom_gdtr - real), %bx     /* the image begins with `real` */
    cs lgdtl (%bx)
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $8, $(flat - BASE + 0xffff0000)
    .balign 4
    .long 0x1badb002, 0, -0x1badb002        /* Multiboot: the same image as an ELF file, where a board has no firmware */
    .code32
    .globl boot32
boot32:
    cli
    lgdt ram_gdtr
    ljmp $8, $1f
1:  mov $16, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $0x80000, %esp
    call trampoline
    jmp main32
trampoline:
    cld
    mov $second, %esi
    mov $TRAMPOLINE, %edi
    mov $(second_end - second), %ecx
    rep movsb
    ret
flat:
    mov $16, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $0xffff0000, %esi
    mov $BASE, %edi
    mov $16384, %ecx
    rep movsl
    mov $1f, %eax
    jmp *%eax
1:  mov $0x80000, %esp
    call trampoline
main32:
    lgdt ram_gdtr
    lidt idtr
    mov $1, %eax
    cpuid
    shr $24, %ebx
    inc %ebx
    shl $14, %ebx
    lea stacks(%ebx), %esp
    call main

    .globl trap
trap:
    cli
    mov $1, %eax
    cpuid
    shr $24, %ebx
    and $7, %ebx
    inc %ebx
    shl $14, %ebx
    lea stacks(%ebx), %esp
    call resume

    .code16
second:
    cli
    xor %ax, %ax
    mov %ax, %ds
    lgdtl TRAMPOLINE + second_gdtr - second
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $8, $second32
second_gdtr:
    .word 23
    .long gdt
second_end:
    .code32
second32:
    mov $16, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    jmp main32

    .balign 8
gdt:
    .quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
rom_gdtr:
    .word 23
    .long gdt - BASE + 0xffff0000
ram_gdtr:
    .word 23
    .long gdt
    .globl idt
idtr:
    .word 256 * 8 - 1
    .long idt

    .section .reset, "ax"
    .code16
    jmp real
    .bss
    .balign 16
idt:
    .space 2048
stacks:
    .space 16384 * 10
