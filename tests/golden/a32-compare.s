# arm 0x100000000001 arm-linux-gnueabihf-as -march=armv7-a -mfpu=vfpv3-d16
1:  vadd.f64 d0, d0, d1
    vcmpe.f64 d0, d2
    vmrs apsr_nzcv, fpscr
    bmi 1b
    bx lr
