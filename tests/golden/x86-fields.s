# x86_64 0x580ba as
# Neighbouring fields: one look at the soft TLB serves them.
    mov (%rdi), %rax
    mov 8(%rdi), %rcx
    add 16(%rdi), %rax
    mov 24(%rdi), %edx
    ret
