# arm 0x100000000001 arm-linux-gnueabihf-as -march=armv7-a -mfpu=vfpv3-d16
1:  vldr s15, [r0]
    vmul.f32 s15, s15, s1
    vadd.f32 s3, s3, s15
    vstmia r0!, {s15}
    cmp r0, r2
    bne 1b
    bx lr
