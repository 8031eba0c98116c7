# x86_64 0x580ba as
# A frame, a call, and the way back through the jump cache.
    push %rbp
    mov %rsp, %rbp
    sub $16, %rsp
    mov %rdi, -8(%rbp)
    call 1f
    nop
1:  ret
