# arm 0x100000000001 arm-linux-gnueabihf-as -march=armv7-a -mfpu=neon-vfpv4
1:  vld1.32 {q8}, [r0]!
    vld1.32 {q9}, [r1]
    vmla.f32 q9, q8, d0[0]
    vfma.f32 q9, q8, q1
    vcge.f32 q10, q9, q2
    vbif q9, q8, q10
    vst1.32 {q9}, [r1]!
    cmp r0, r2
    bne 1b
    bx lr
