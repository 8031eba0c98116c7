# arm 0x100000000001 arm-linux-gnueabihf-as -march=armv7-a -mfpu=vfpv3-d16
1:  vldr d1, [r0]
    vldr d3, [r1]
    vmla.f64 d0, d1, d3
    add r0, r0, #8
    add r1, r1, #8
    cmp r0, r2
    bne 1b
    bx lr
