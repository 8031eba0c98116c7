# riscv64 0x38 riscv64-linux-gnu-as -march=rv64gc
1:  fld fa1, 0(a0)
    fld fa2, 0(a1)
    fmadd.d fa0, fa1, fa2, fa0
    addi a0, a0, 8
    addi a1, a1, 8
    bne a0, a2, 1b
    ret
