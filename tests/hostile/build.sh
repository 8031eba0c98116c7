#!/bin/bash
# build.sh ARCH OUT: the hostile guest for x86, arm64, arm, riscv64 or riscv32.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
common="-std=gnu17 -O1 -g -ffreestanding -fno-pic -fno-pie -fno-stack-protector -nostdlib -static -Wall -Wextra -Wno-missing-field-initializers -Wl,--build-id=none
        -Wl,--no-warn-rwx-segments -Wl,-z,noexecstack -I$here"
case $1 in
x86)
    gcc $common -m32 -mgeneral-regs-only -mno-red-zone -fcf-protection=none -Wl,-m,elf_i386 -T "$here/x86.ld" -Wl,-e,boot32 \
        "$here/start-x86.S" "$here/x86.c" "$here/hostile.c" -o "$2.elf"
    objcopy -O binary -j .text "$2.elf" "$2" ;;
arm64)
    aarch64-linux-gnu-gcc $common -mgeneral-regs-only -mstrict-align -mno-outline-atomics -Wl,--defsym=ORIGIN_OF_IMAGE=0x40080000 -Wl,-n \
        -T "$here/flat.ld" "$here/start-arm64.S" "$here/arm.c" "$here/hostile.c" -o "$2" ;;
arm)
    arm-linux-gnueabihf-gcc $common -marm -march=armv7ve -mfloat-abi=soft -mno-unaligned-access -Wl,--defsym=ORIGIN_OF_IMAGE=0x40080000 -Wl,-n \
        -T "$here/flat.ld" "$here/start-arm.S" "$here/arm.c" "$here/hostile.c" -o "$2" ;;
riscv64 | riscv32)
    [ $1 = riscv64 ] && flags="-march=rv64ima_zicsr -mabi=lp64" || flags="-march=rv32ima_zicsr -mabi=ilp32"
    [ $1 = riscv64 ] || flags+=" -Wl,-m,elf32lriscv"
    riscv64-linux-gnu-gcc $common $flags -mcmodel=medany -Wl,--defsym=ORIGIN_OF_IMAGE=0x80000000 \
        -T "$here/flat.ld" "$here/start-riscv.S" "$here/riscv.c" "$here/hostile.c" -o "$2.elf"
    riscv64-linux-gnu-objcopy -O binary "$2.elf" "$2" ;;
esac
