# aarch64 0 aarch64-linux-gnu-as
1:  ldr d1, [x0, x2, lsl #3]
    ldr d2, [x1, x2, lsl #3]
    fmul d1, d1, d2
    fadd d0, d0, d1
    add x2, x2, #1
    cmp x2, x3
    b.lo 1b
    ret
