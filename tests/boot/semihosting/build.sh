#!/bin/bash
# build.sh riscv64|riscv32|aarch64|arm|thumb OUT [flags...]: calls.c as an ELF program for the virt board's RAM.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
guest=$1 out=$2; shift 2
case $guest in
riscv64) cc="riscv64-linux-gnu-gcc -march=rv64imac_zicsr -mabi=lp64 -mcmodel=medany" ram=0x80000000 ;;
riscv32) cc="riscv64-linux-gnu-gcc -march=rv32imac_zicsr -mabi=ilp32 -mcmodel=medany" ram=0x80000000 ;;
aarch64) cc="aarch64-linux-gnu-gcc -mgeneral-regs-only -mstrict-align" ram=0x40100000 ;;
arm) cc="arm-linux-gnueabihf-gcc -marm -march=armv7-a+fp -mno-unaligned-access" ram=0x40100000 ;;
thumb) cc="arm-linux-gnueabihf-gcc -mthumb -march=armv7-a+fp -mno-unaligned-access" ram=0x40100000 ;;
esac
$cc "$@" -O1 -ffreestanding -fno-builtin -fno-pic -fno-stack-protector -nostdlib -static -Wl,--build-id=none -Wl,--no-warn-rwx-segments -Wl,-z,noexecstack \
    -Wl,-Ttext-segment=$ram -Wl,-z,noseparate-code -Wl,-z,norelro -Wl,-e,_start "$here/start.S" "$here/calls.c" -o "$out"
