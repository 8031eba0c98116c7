# x86_64 0x580ba as
# Scalar floating point: host instructions, no helper.
1:  movsd (%rdi,%rcx,8), %xmm0
    mulsd (%rsi,%rcx,8), %xmm0
    addsd %xmm0, %xmm1
    add $1, %rcx
    cmp %rdx, %rcx
    jb 1b
    ret
