# aarch64 0 aarch64-linux-gnu-as
1:  ldr x3, [x0, x2, lsl #3]
    add x1, x1, x3
    add x2, x2, #1
    cmp x2, x4
    b.ne 1b
    ret
