# aarch64 0 aarch64-linux-gnu-as
    ldp x1, x2, [x0]
    ldr x3, [x0, #16]
    add x1, x1, x2
    add x0, x1, x3
    cbz x0, 1f
    str x0, [x4, #8]
1:  ret
