# riscv64 0x38 riscv64-linux-gnu-as -march=rv64gc
1:  fadd.d fa0, fa0, fa1
    frflags a5
    flt.d a4, fa0, fa2
    fsflags a5
    bnez a4, 1b
    ret
