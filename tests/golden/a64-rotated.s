# aarch64 0 aarch64-linux-gnu-as
1:  cmp x2, x4
    b.cc 2f
    mov x0, x1
    ret
2:  eor x1, x1, x2
    add x2, x2, #1
    cbnz x1, 1b
    mov x0, x2
    ret
