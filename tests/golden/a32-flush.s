# arm 0x10100000000401 arm-linux-gnueabihf-as -march=armv7-a -mfpu=vfpv3-d16
1:  vldr s15, [r0]
    vmul.f32 s15, s15, s1
    vadd.f32 s3, s3, s15
    vldr d4, [r1]
    vmla.f64 d5, d4, d6
    vcmp.f64 d5, d4
    vmrs APSR_nzcv, fpscr
    bne 1b
    bx lr
