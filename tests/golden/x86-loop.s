# x86_64 0x580ba as
# A loop over memory: one check an iteration, no flags computed, the back edge polls.
1:  add (%rdi,%rcx,8), %rax
    inc %rcx
    cmp %rdx, %rcx
    jne 1b
    ret
