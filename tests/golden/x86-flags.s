# x86_64 0x580ba as
# Flags that nobody reads are not computed; compare and branch are one.
    add %rsi, %rax
    sub %rdi, %rax
    test %ecx, %ecx
    js 1f
    cmp $10, %rax
    setl %dl
1:  ret
