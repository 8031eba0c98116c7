# riscv64 0x38 riscv64-linux-gnu-as -march=rv64gc
1:  ld a3, 0(a0)
    add a1, a1, a3
    addi a0, a0, 8
    bne a0, a2, 1b
    ret
